//! RSA: RSASSA-PKCS1-v1_5, RSA-PSS, RSA-OAEP.
//!
//! In: key material (`SubjectPublicKeyInfo` or PKCS#8, both DER), messages. Out: signatures,
//! ciphertexts, keys in three formats. Invariant: material was checked and written again at import,
//! so it has one form.
//!
//! The library decides what is safe: keys have 2048 to 8192 bits (public keys that verify
//! PKCS#1 v1.5 with SHA-1, SHA-256 or SHA-512: from 1024), new keys have the exponent 65537, and
//! SHA-1 verifies PKCS#1 v1.5 signatures but makes none: there are no private keys for that.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384,
    OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaParameters, RsaPssSaltLength, RsaSignatureEncoding, VerificationAlgorithm as _,
};

use super::der::{self, Reader};
use super::hash::Hash;
use super::jwk::{self, Jwk};
use super::{Error, Format, Kind, NO_FORMAT};

/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 8017).
const OBJECT: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Its parameters.
const NOTHING: &[u8] = &[der::NULL, 0];
const NO_KEY: Error = Error::Data("The key is not an RSA key");
const SIZES: Error = Error::NotSupported("RSA keys have 2048 to 8192 bits");
const NO_SHA1: Error =
    Error::NotSupported("RSA keys with SHA-1 only verify RSASSA-PKCS1-v1_5: sign with SHA-256");
const FAILED: Error = Error::Operation("The key is too short for the hash, salt or data");

/// Refuses private keys for signatures that the library does not make.
pub(super) fn check_signing(hash: Hash) -> Result<(), Error> {
    if hash == Hash::Sha1 { Err(NO_SHA1) } else { Ok(()) }
}

pub(super) fn sign(
    hash: Hash,
    salt: Option<u32>,
    key: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, Error> {
    let encoding: &'static dyn RsaEncoding = match (salt, hash) {
        (_, Hash::Sha1) => return Err(NO_SHA1),
        (None, Hash::Sha256) => &RSA_PKCS1_SHA256,
        (None, Hash::Sha384) => &RSA_PKCS1_SHA384,
        (None, Hash::Sha512) => &RSA_PKCS1_SHA512,
        (Some(salt), hash) => salted(hash, salt)?,
    };
    let pair = KeyPair::from_pkcs8(key).map_err(|_| NO_KEY)?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), data, &mut signature).map_err(|_| FAILED)?;
    Ok(signature)
}

/// Bytes of salt that a key of 8192 bits has room for, and none has for more.
const SALTS: usize = 1024;

/// The library wants encodings that live for ever: one is made for each salt length on first use.
fn salted(hash: Hash, salt: u32) -> Result<&'static RsaSignatureEncoding, Error> {
    type Salts = [OnceLock<RsaSignatureEncoding>; SALTS];
    static MADE: [Salts; 3] = [const { [const { OnceLock::new() }; SALTS] }; 3];
    let (row, encoding) = match hash {
        Hash::Sha1 => return Err(NO_SHA1),
        Hash::Sha256 => (0, RSA_PSS_SHA256),
        Hash::Sha384 => (1, RSA_PSS_SHA384),
        Hash::Sha512 => (2, RSA_PSS_SHA512),
    };
    let place = MADE[row].get(salt as usize).ok_or(FAILED)?;
    Ok(place.get_or_init(|| encoding.with_pss_salt_length(custom(salt))))
}

fn custom(salt: u32) -> RsaPssSaltLength {
    RsaPssSaltLength::Custom(u16::try_from(salt).unwrap_or(u16::MAX))
}

pub(super) fn verify(
    hash: Hash,
    salt: Option<u32>,
    key: &[u8],
    (data, signature): (&[u8], &[u8]),
) -> Result<bool, Error> {
    let pss = |parameters: RsaParameters, salt| parameters.with_pss_salt_length(custom(salt));
    let parameters = match (salt, hash) {
        (None, Hash::Sha1) => RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (None, Hash::Sha256) => RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (None, Hash::Sha384) => RSA_PKCS1_2048_8192_SHA384,
        (None, Hash::Sha512) => RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (Some(_), Hash::Sha1) => {
            return Err(Error::NotSupported("RSA-PSS is offered with SHA-256, -384 and -512"));
        }
        (Some(salt), Hash::Sha256) => pss(RSA_PSS_2048_8192_SHA256, salt),
        (Some(salt), Hash::Sha384) => pss(RSA_PSS_2048_8192_SHA384, salt),
        (Some(salt), Hash::Sha512) => pss(RSA_PSS_2048_8192_SHA512, salt),
    };
    if bits(read_spki(key)?[0]) < parameters.min_modulus_len() {
        return Err(SIZES);
    }
    Ok(parameters.verify_sig(key, data, signature).is_ok())
}

pub(super) fn encrypt(hash: Hash, key: &[u8], label: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let key = PublicEncryptingKey::from_der(key).map_err(|_| SIZES)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| SIZES)?;
    let mut text = vec![0; key.ciphertext_size()];
    Ok(key.encrypt(oaep(hash), data, &mut text, label_of(label)).map_err(|_| FAILED)?.to_vec())
}

pub(super) fn decrypt(hash: Hash, key: &[u8], label: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let key = PrivateDecryptingKey::from_pkcs8(key).map_err(|_| NO_KEY)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| NO_KEY)?;
    let mut text = vec![0; key.min_output_size()];
    key.decrypt(oaep(hash), data, &mut text, label_of(label))
        .map(|text| text.to_vec())
        .map_err(|_| Error::Operation("Decryption failed"))
}

fn oaep(hash: Hash) -> &'static OaepAlgorithm {
    match hash {
        Hash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
        Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
    }
}

/// No label and an empty one are the same (RFC 8017, section 7.1).
fn label_of(label: &[u8]) -> Option<&[u8]> {
    if label.is_empty() { None } else { Some(label) }
}

/// `bits` of modulus; `exponent` big-endian.
pub(super) fn generate(bits: u32, exponent: &[u8]) -> Result<Vec<u8>, Error> {
    if significant(exponent) != [1, 0, 1] {
        return Err(Error::NotSupported("New RSA keys have the public exponent 65537"));
    }
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        _ => {
            return Err(Error::NotSupported("New RSA keys have 2048, 3072, 4096 or 8192 bits"));
        }
    };
    let failed = |_| Error::Operation("The key could not be made");
    let key = PrivateDecryptingKey::generate(size).map_err(failed)?;
    let key: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
    Ok(write_pkcs8(&read_pkcs8(key.as_ref())?))
}

pub(super) fn import(format: Format, data: &[u8], jwk: Option<&Jwk>) -> Result<Vec<u8>, Error> {
    match format {
        Format::Raw => Err(NO_FORMAT),
        Format::Spki => checked(&read_spki(data)?),
        Format::Pkcs8 => checked(&read_pkcs8(data)?),
        Format::Jwk => {
            let numbers = jwk.ok_or(NO_FORMAT)?.rsa()?;
            checked(&numbers.iter().map(|bytes| significant(bytes)).collect::<Vec<_>>())
        }
    }
}

/// Material of a key with these numbers, if there can be one.
fn checked(numbers: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let private = numbers.len() == jwk::RSA;
    if numbers.iter().any(|number| number.is_empty()) {
        return Err(NO_KEY);
    }
    if !(if private { 2048 } else { 1024 }..=8192).contains(&bits(numbers[0])) {
        return Err(SIZES);
    }
    if private {
        let key = write_pkcs8(numbers);
        KeyPair::from_pkcs8(&key).map_err(|_| NO_KEY)?;
        return Ok(key);
    }
    Ok(write_spki(numbers))
}

pub(super) fn export(format: Format, kind: Kind, key: &[u8]) -> Result<Vec<u8>, Error> {
    match (format, kind) {
        (Format::Spki, Kind::Public) | (Format::Pkcs8, Kind::Private) => Ok(key.to_vec()),
        (Format::Jwk, Kind::Public) => Ok(Jwk::of_rsa(&read_spki(key)?).text()),
        (Format::Jwk, Kind::Private) => Ok(Jwk::of_rsa(&read_pkcs8(key)?).text()),
        _ => Err(NO_FORMAT),
    }
}

/// Whether this is the material of a private key.
pub(super) fn is_private(key: &[u8]) -> bool {
    read_spki(key).is_err()
}

/// Material of the public half.
pub(super) fn public_key(key: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(write_spki(&read_pkcs8(key)?[..2]))
}

/// The modulus' length in bits as 4 bytes, big-endian; then the public exponent.
pub(super) fn details(key: &[u8]) -> Result<Vec<u8>, Error> {
    let numbers = read_spki(key).or_else(|_| read_pkcs8(key))?;
    Ok([&bits(numbers[0]).to_be_bytes()[..], numbers[1]].concat())
}

fn significant(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

fn bits(number: &[u8]) -> u32 {
    let whole = u32::try_from(number.len()).unwrap_or(u32::MAX).saturating_mul(8);
    whole.saturating_sub(number.first().map_or(0, |byte| byte.leading_zeros()))
}

/// n and e.
fn read_spki(bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let (algorithm, key) = der::read_spki(bytes, der::NULL)?;
    check_algorithm(&algorithm)?;
    let mut outer = Reader::new(key);
    let mut numbers = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    let found = vec![numbers.number()?, numbers.number()?];
    numbers.end()?;
    Ok(found)
}

fn write_spki(numbers: &[&[u8]]) -> Vec<u8> {
    der::spki(OBJECT, NOTHING, &sequence(numbers.iter().copied()))
}

/// n, e, d, p, q, dp, dq, qi: `RSAPrivateKey` of RFC 8017 with two primes.
fn read_pkcs8(bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let (algorithm, key) = der::read_pkcs8(bytes, der::NULL)?;
    check_algorithm(&algorithm)?;
    let mut outer = Reader::new(key);
    let mut numbers = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    if !numbers.number()?.is_empty() {
        return Err(Error::NotSupported("RSA keys have two primes"));
    }
    let found = (0..jwk::RSA).map(|_| numbers.number()).collect::<Result<Vec<_>, _>>()?;
    numbers.end()?;
    Ok(found)
}

fn write_pkcs8(numbers: &[&[u8]]) -> Vec<u8> {
    let version: &[u8] = &[];
    let key = sequence(std::iter::once(version).chain(numbers.iter().copied()));
    der::pkcs8(OBJECT, NOTHING, &key)
}

fn sequence<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.flat_map(der::number).collect();
    der::value(der::SEQUENCE, &[&numbers])
}

fn check_algorithm(algorithm: &der::Algorithm<'_>) -> Result<(), Error> {
    if algorithm.object == OBJECT {
        Ok(())
    } else {
        Err(Error::Data("The key is one of another algorithm"))
    }
}
