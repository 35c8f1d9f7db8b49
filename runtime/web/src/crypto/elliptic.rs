//! ECDSA and ECDH over P-256, P-384 and P-521.
//!
//! In: key material (a point, or a scalar and its point), messages. Out: signatures as WebCrypto
//! has them (r and s, each as long as the curve's numbers), shared secrets, keys in four formats.
//! Invariant: material holds a point of the curve, and a private key's point is its own.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, ParsedPublicKey,
    UnparsedPublicKey,
};
use aws_lc_rs::{agreement, digest, encoding};
use serde::Deserialize;

use super::der::{self, Reader};
use super::hash::Hash;
use super::jwk::Jwk;
use super::{Error, Format, Kind, NO_FORMAT};

/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480).
const OBJECT: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const NO_KEY: Error = Error::Data("The key is not one of the curve");
const WRONG_CURVE: Error = Error::Data("The key is one of another curve");

/// The curves of WebCrypto.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    #[serde(rename = "P-256")]
    P256,
    #[serde(rename = "P-384")]
    P384,
    #[serde(rename = "P-521")]
    P521,
}

impl Curve {
    /// Bytes of a scalar and of a coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    fn object(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::P521 => &agreement::ECDH_P521,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    /// What is signed: the hash's leftmost bits, as many as the curve's order has (FIPS 186-5,
    /// section 6.4). A hash of another length is cut, or led by zeros, to the length of the one
    /// that the library pairs with the curve: the number is the same.
    fn representative(self, hash: Hash, message: &[u8]) -> Result<digest::Digest, Error> {
        let (algorithm, length) = match self {
            Self::P256 => (&digest::SHA256, 32),
            Self::P384 => (&digest::SHA384, 48),
            Self::P521 => (&digest::SHA512, 64),
        };
        let hash = hash.digest(message);
        let kept = &hash[..hash.len().min(length)];
        let mut bytes = vec![0; length - kept.len()];
        bytes.extend(kept);
        digest::Digest::import_less_safe(&bytes, algorithm)
            .map_err(|_| Error::Operation("The message could not be hashed"))
    }

    /// A private key's scalar and point.
    pub(super) fn split(self, key: &[u8]) -> Result<(&[u8], &[u8]), Error> {
        key.split_at_checked(self.size()).ok_or(NO_KEY)
    }

    /// The point of the curve that the bytes are, uncompressed.
    fn point(self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        use encoding::AsDer as _;

        if !matches!(bytes.first(), Some(2 | 3)) || bytes.len() != 1 + self.size() {
            return self.check(bytes).map(|()| bytes.to_vec());
        }
        // The library finds the other coordinate; what it writes is uncompressed.
        let key = ParsedPublicKey::new(self.verification(), bytes).map_err(|_| NO_KEY)?;
        let spki: encoding::PublicKeyX509Der<'_> = key.as_der().map_err(|_| NO_KEY)?;
        let (_, point) = der::read_spki(spki.as_ref(), der::OBJECT)?;
        self.check(point).map(|()| point.to_vec())
    }

    /// Checks that the bytes are an uncompressed point of the curve.
    fn check(self, point: &[u8]) -> Result<(), Error> {
        if point.len() != 1 + 2 * self.size() || point[0] != 4 {
            return Err(NO_KEY);
        }
        let key = agreement::UnparsedPublicKey::new(self.agreement(), point);
        agreement::ParsedPublicKey::try_from(key).map(|_| ()).map_err(|_| NO_KEY)
    }

    /// Material of a private key from its scalar; a point given with it has to be its own.
    fn private(self, scalar: &[u8], point: Option<&[u8]>) -> Result<Vec<u8>, Error> {
        let own = agreement::PrivateKey::from_private_key(self.agreement(), scalar)
            .map_err(|_| NO_KEY)?
            .compute_public_key()
            .map_err(|_| NO_KEY)?;
        let point = point.map(|point| self.point(point)).transpose()?;
        if point.is_some_and(|point| point != own.as_ref()) {
            return Err(Error::Data("The public key is not the private key's"));
        }
        Ok([scalar, own.as_ref()].concat())
    }
}

pub(super) fn sign(curve: Curve, hash: Hash, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let (scalar, point) = curve.split(key)?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), scalar, point)
        .map_err(|_| NO_KEY)?;
    let signature = pair
        .sign_digest(&curve.representative(hash, data)?)
        .map_err(|_| Error::Operation("Signing failed"))?;
    Ok(signature.as_ref().to_vec())
}

pub(super) fn verify(
    curve: Curve,
    hash: Hash,
    key: &[u8],
    (data, signature): (&[u8], &[u8]),
) -> Result<bool, Error> {
    let digest = curve.representative(hash, data)?;
    let key = UnparsedPublicKey::new(curve.verification(), key);
    Ok(key.verify_digest(&digest, signature).is_ok())
}

pub(super) fn agree(curve: Curve, key: &[u8], public: &[u8]) -> Result<Vec<u8>, Error> {
    let (scalar, _) = curve.split(key)?;
    let key =
        agreement::PrivateKey::from_private_key(curve.agreement(), scalar).map_err(|_| NO_KEY)?;
    let peer = agreement::UnparsedPublicKey::new(curve.agreement(), public);
    let failed = Error::Operation("The keys do not agree on a secret");
    agreement::agree(&key, peer, failed, |secret| Ok(secret.to_vec()))
}

pub(super) fn generate(curve: Curve) -> Result<Vec<u8>, Error> {
    use encoding::AsBigEndian as _;

    let failed = |_| Error::Operation("The key could not be made");
    let key = agreement::PrivateKey::generate(curve.agreement()).map_err(failed)?;
    let scalar: encoding::EcPrivateKeyBin<'_> = key.as_be_bytes().map_err(failed)?;
    curve.private(scalar.as_ref(), None)
}

pub(super) fn import(
    curve: Curve,
    format: Format,
    data: &[u8],
    jwk: Option<&Jwk>,
) -> Result<Vec<u8>, Error> {
    match format {
        Format::Raw => curve.point(data),
        Format::Spki => {
            let (algorithm, point) = der::read_spki(data, der::OBJECT)?;
            check_algorithm(curve, &algorithm)?;
            curve.point(point)
        }
        Format::Pkcs8 => {
            let (algorithm, key) = der::read_pkcs8(data, der::OBJECT)?;
            check_algorithm(curve, &algorithm)?;
            import_private(curve, key)
        }
        Format::Jwk => import_jwk(curve, jwk.ok_or(NO_FORMAT)?),
    }
}

fn check_algorithm(curve: Curve, algorithm: &der::Algorithm<'_>) -> Result<(), Error> {
    if algorithm.object != OBJECT {
        return Err(Error::Data("The key is one of another algorithm"));
    }
    if algorithm.parameters == Some(curve.object()) { Ok(()) } else { Err(WRONG_CURVE) }
}

/// `ECPrivateKey` of RFC 5915.
fn import_private(curve: Curve, key: &[u8]) -> Result<Vec<u8>, Error> {
    const PARAMETERS: u8 = 0xa0;
    const PUBLIC_KEY: u8 = 0xa1;
    let mut outer = Reader::new(key);
    let mut info = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    if info.number()? != [1] {
        return Err(NO_KEY);
    }
    let scalar = info.take(der::OCTET_STRING)?;
    if let Some(parameters) = info.take_optional(PARAMETERS)?
        && Reader::new(parameters).take(der::OBJECT)? != curve.object()
    {
        return Err(WRONG_CURVE);
    }
    let public = info.take_optional(PUBLIC_KEY)?;
    info.end()?;
    let point = public.map(|bytes| Reader::new(bytes).bits()).transpose()?;
    curve.private(scalar, point)
}

fn import_jwk(curve: Curve, jwk: &Jwk) -> Result<Vec<u8>, Error> {
    let key = jwk.curve("EC", curve.name())?;
    let y = key.y.ok_or(Error::Data("The JWK lacks y"))?;
    if key.x.len() != curve.size() || y.len() != curve.size() {
        return Err(NO_KEY);
    }
    let point = [&[4], &key.x[..], &y[..]].concat();
    curve.check(&point)?;
    match key.d {
        Some(scalar) => curve.private(&scalar, Some(&point)),
        None => Ok(point),
    }
}

pub(super) fn export(
    curve: Curve,
    format: Format,
    kind: Kind,
    key: &[u8],
) -> Result<Vec<u8>, Error> {
    let (scalar, point) = match kind {
        Kind::Private => curve.split(key).map(|(scalar, point)| (Some(scalar), point))?,
        Kind::Public | Kind::Secret => (None, key),
    };
    let parameters = der::value(der::OBJECT, &[curve.object()]);
    match (format, scalar) {
        (Format::Raw, None) => Ok(point.to_vec()),
        (Format::Spki, None) => Ok(der::spki(OBJECT, &parameters, point)),
        (Format::Pkcs8, Some(scalar)) => {
            let public = der::value(0xa1, &[&der::value(der::BIT_STRING, &[&[0], point])]);
            let scalar = der::value(der::OCTET_STRING, &[scalar]);
            let inner = der::value(der::SEQUENCE, &[&der::number(&[1]), &scalar, &public]);
            Ok(der::pkcs8(OBJECT, &parameters, &inner))
        }
        (Format::Jwk, scalar) => {
            let coordinates = point.get(1..).ok_or(NO_KEY)?;
            let (x, y) = coordinates.split_at_checked(curve.size()).ok_or(NO_KEY)?;
            Ok(Jwk::of_curve("EC", curve.name(), (x, Some(y)), scalar).text())
        }
        _ => Err(NO_FORMAT),
    }
}
