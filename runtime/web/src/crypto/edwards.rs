//! Ed25519 signatures and X25519 agreement.
//!
//! In: key material (32 bytes, or a seed and its public key), messages. Out: signatures, shared
//! secrets, keys in four formats (RFC 8032, 7748, 8410, 8037). Invariant: a private key's public
//! half is its own.

use aws_lc_rs::agreement;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::der::{self, Reader};
use super::jwk::Jwk;
use super::{Error, Format, Kind, NO_FORMAT, fill};

/// Bytes of a seed, and of a public key.
const SIZE: usize = 32;
const NO_KEY: Error = Error::Data("The key is not one of the curve");

fn object(ed25519: bool) -> &'static [u8] {
    if ed25519 { &[0x2b, 0x65, 0x70] } else { &[0x2b, 0x65, 0x6e] }
}

fn name(ed25519: bool) -> &'static str {
    if ed25519 { "Ed25519" } else { "X25519" }
}

/// A private key's seed and public key.
pub(super) fn split(key: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    key.split_at_checked(SIZE).ok_or(NO_KEY)
}

pub(super) fn sign(key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let (seed, _) = split(key)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NO_KEY)?;
    let signature = pair.try_sign(data).map_err(|_| Error::Operation("Signing failed"))?;
    Ok(signature.as_ref().to_vec())
}

pub(super) fn verify(key: &[u8], data: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(data, signature).is_ok()
}

pub(super) fn agree(key: &[u8], public: &[u8]) -> Result<Vec<u8>, Error> {
    let (seed, _) = split(key)?;
    let key =
        agreement::PrivateKey::from_private_key(&agreement::X25519, seed).map_err(|_| NO_KEY)?;
    let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
    let failed = Error::Operation("The keys do not agree on a secret");
    agreement::agree(&key, peer, failed, |secret| Ok(secret.to_vec()))
}

pub(super) fn generate(ed25519: bool) -> Result<Vec<u8>, Error> {
    let mut seed = [0; SIZE];
    fill(&mut seed)?;
    private(ed25519, &seed, None)
}

/// Material of a private key from its seed; a public key given with it has to be its own.
fn private(ed25519: bool, seed: &[u8], public: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let own = if ed25519 {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NO_KEY)?;
        pair.public_key().as_ref().to_vec()
    } else {
        agreement::PrivateKey::from_private_key(&agreement::X25519, seed)
            .map_err(|_| NO_KEY)?
            .compute_public_key()
            .map_err(|_| NO_KEY)?
            .as_ref()
            .to_vec()
    };
    if public.is_some_and(|public| public != own) {
        return Err(Error::Data("The public key is not the private key's"));
    }
    Ok([seed, &own].concat())
}

pub(super) fn import(
    ed25519: bool,
    format: Format,
    data: &[u8],
    jwk: Option<&Jwk>,
) -> Result<Vec<u8>, Error> {
    // These algorithms have no parameters: a value of any tag there is an error.
    match format {
        Format::Raw => check(data),
        Format::Spki => {
            let (algorithm, key) = der::read_spki(data, der::NULL)?;
            check_algorithm(ed25519, &algorithm)?;
            check(key)
        }
        Format::Pkcs8 => {
            let (algorithm, key) = der::read_pkcs8(data, der::NULL)?;
            check_algorithm(ed25519, &algorithm)?;
            let mut inner = Reader::new(key);
            let seed = inner.take(der::OCTET_STRING)?;
            inner.end()?;
            private(ed25519, seed, None)
        }
        Format::Jwk => {
            let key = jwk.ok_or(NO_FORMAT)?.curve("OKP", name(ed25519))?;
            match key.d {
                Some(seed) => private(ed25519, &seed, Some(&key.x)),
                None => check(&key.x),
            }
        }
    }
}

fn check(public: &[u8]) -> Result<Vec<u8>, Error> {
    if public.len() == SIZE { Ok(public.to_vec()) } else { Err(NO_KEY) }
}

fn check_algorithm(ed25519: bool, algorithm: &der::Algorithm<'_>) -> Result<(), Error> {
    if algorithm.object == object(ed25519) && algorithm.parameters.is_none() {
        Ok(())
    } else {
        Err(Error::Data("The key is one of another algorithm"))
    }
}

pub(super) fn export(
    ed25519: bool,
    format: Format,
    kind: Kind,
    key: &[u8],
) -> Result<Vec<u8>, Error> {
    let (seed, public) = match kind {
        Kind::Private => split(key).map(|(seed, public)| (Some(seed), public))?,
        Kind::Public | Kind::Secret => (None, key),
    };
    match (format, seed) {
        (Format::Raw, None) => Ok(public.to_vec()),
        (Format::Spki, None) => Ok(der::spki(object(ed25519), &[], public)),
        (Format::Pkcs8, Some(seed)) => {
            let inner = der::value(der::OCTET_STRING, &[seed]);
            Ok(der::pkcs8(object(ed25519), &[], &inner))
        }
        (Format::Jwk, seed) => Ok(Jwk::of_curve("OKP", name(ed25519), (public, None), seed).text()),
        _ => Err(NO_FORMAT),
    }
}
