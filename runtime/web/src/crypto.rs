//! WebCrypto's algorithms as one pure function.
//!
//! In: a [`Request`] as JSON text (what `js/web/crypto.js` writes: normalised, camelCase) and up to
//! four byte strings. Out: one byte string, or an [`Error`] that names its `DOMException`.
//! Invariant: equal inputs give equal bytes, except where a request [`needs_randomness`]: then
//! the caller says whether it may have it (aws-lc draws it from the system), and is refused if not.
//!
//! A key travels as its *material*, which this module makes and checks on import:
//! a secret key its bytes; an RSA key the DER of `SubjectPublicKeyInfo` or PKCS#8; an elliptic
//! curve key the uncompressed point, a private one its scalar before it; an Ed25519 or X25519 key
//! 32 bytes, a private one its seed before the public key.
//!
//! [`needs_randomness`]: Request::needs_randomness

mod aes;
mod der;
mod edwards;
mod elliptic;
mod hash;
mod jwk;
mod rsa;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use hash::Hash;
use jwk::Jwk;

/// What went wrong, named as `DOMException` names it. The text is for whoever wrote the call.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The operation itself failed: a wrong key size, a tag that does not match.
    #[error("OperationError: {0}")]
    Operation(&'static str),
    /// The bytes of a key are not such a key.
    #[error("DataError: {0}")]
    Data(&'static str),
    /// This implementation does not have it.
    #[error("NotSupportedError: {0}")]
    NotSupported(&'static str),
    /// It needs randomness, which the caller may not have. No `DOMException`: the host has a text.
    #[error("randomness is refused")]
    RandomnessRefused,
    /// PBKDF2 asked for more work than the caller may have.
    #[error("OperationError: PBKDF2 of {asked} iterations; at most {most} fit here")]
    TooManyIterations {
        /// Iterations times blocks of output.
        asked: u64,
        /// What [`Allowance::iterations`] said.
        most: u64,
    },
}

/// What the caller of an operation may have.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Whether operations may draw randomness.
    pub randomness: bool,
    /// Most PBKDF2 iterations of one derivation, counted for each block of output.
    pub iterations: u64,
}

/// The byte strings of a request; empty where the operation has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// Material of the key.
    pub key: &'a [u8],
    /// What is hashed, signed, encrypted, derived from (a public key) or imported.
    pub data: &'a [u8],
    /// Initialisation vector, counter, label, salt, signature or public exponent.
    pub first: &'a [u8],
    /// Additional data of AES-GCM, info of HKDF.
    pub second: &'a [u8],
}

/// One operation with its parameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    operation: Operation,
    name: Name,
    hash: Option<Hash>,
    named_curve: Option<elliptic::Curve>,
    /// Bits: of a key to make, of derived output, of a counter.
    length: Option<u32>,
    /// Bytes.
    salt_length: Option<u32>,
    /// Bits.
    tag_length: Option<u32>,
    iterations: Option<u32>,
    /// Bits.
    modulus_length: Option<u32>,
    format: Option<Format>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    jwk: Option<Jwk>,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Operation {
    Digest,
    Sign,
    /// One byte: 1 where `first` is the signature.
    Verify,
    Encrypt,
    Decrypt,
    WrapKey,
    UnwrapKey,
    DeriveBits,
    /// Material of a new secret or private key.
    GenerateKey,
    ImportKey,
    ExportKey,
    /// Material of the public key of a private one.
    PublicKey,
    /// Of an RSA key: 4 bytes of modulus length in bits, big-endian, then the public exponent.
    Details,
}

/// Algorithms that have keys, and the hashes.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
enum Name {
    #[serde(rename = "SHA-1")]
    Sha1,
    #[serde(rename = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA-384")]
    Sha384,
    #[serde(rename = "SHA-512")]
    Sha512,
    #[serde(rename = "HMAC")]
    Hmac,
    #[serde(rename = "HKDF")]
    Hkdf,
    #[serde(rename = "PBKDF2")]
    Pbkdf2,
    #[serde(rename = "AES-CBC")]
    AesCbc,
    #[serde(rename = "AES-CTR")]
    AesCtr,
    #[serde(rename = "AES-GCM")]
    AesGcm,
    #[serde(rename = "AES-KW")]
    AesKw,
    #[serde(rename = "RSASSA-PKCS1-v1_5")]
    RsaPkcs1,
    #[serde(rename = "RSA-PSS")]
    RsaPss,
    #[serde(rename = "RSA-OAEP")]
    RsaOaep,
    #[serde(rename = "ECDSA")]
    Ecdsa,
    #[serde(rename = "ECDH")]
    Ecdh,
    Ed25519,
    X25519,
}

/// How a key is written outside.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    Raw,
    Spki,
    Pkcs8,
    /// Imported from [`Request::jwk`]; exported as the JSON text of the members that hold the key.
    Jwk,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Secret,
    Public,
    Private,
}

/// Families of algorithms whose keys are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Hash(Hash),
    Secret,
    Rsa,
    Elliptic,
    Edwards,
}

/// Does one operation.
///
/// # Errors
/// See [`Error`]. A request that is not what `js/web/crypto.js` writes is an `OperationError`.
pub fn run(request: &str, parts: &Parts<'_>, allowance: Allowance) -> Result<Vec<u8>, Error> {
    let request: Request = serde_json::from_str(request)
        .map_err(|_| Error::Operation("The request has a member of the wrong type"))?;
    if request.needs_randomness() && !allowance.randomness {
        return Err(Error::RandomnessRefused);
    }
    match request.operation {
        Operation::Digest => match request.name.family() {
            Family::Hash(hash) => Ok(hash.digest(parts.data)),
            _ => Err(UNFIT),
        },
        Operation::Sign => request.sign(parts),
        Operation::Verify => Ok(vec![u8::from(request.verify(parts)?)]),
        Operation::Encrypt => request.encrypt(parts),
        Operation::Decrypt => request.decrypt(parts),
        Operation::WrapKey if request.name == Name::AesKw => aes::wrap(parts.key, parts.data),
        Operation::UnwrapKey if request.name == Name::AesKw => aes::unwrap(parts.key, parts.data),
        Operation::WrapKey | Operation::UnwrapKey => Err(UNFIT),
        Operation::DeriveBits => request.derive(parts, allowance),
        Operation::GenerateKey => request.generate(parts),
        Operation::ImportKey => request.import(parts.data),
        Operation::ExportKey => request.export(parts.key),
        Operation::PublicKey => request.public_key(parts.key),
        Operation::Details if request.name.family() == Family::Rsa => rsa::details(parts.key),
        Operation::Details => Err(UNFIT),
    }
}

/// Fills `bytes` from the system's source of randomness.
///
/// # Errors
/// The system has none.
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::Operation("The system gives no randomness"))
}

/// An operation and an algorithm that do not go together: the script asks for none.
const UNFIT: Error = Error::NotSupported("The algorithm does not have this operation");
/// A parameter that the script always gives.
const INCOMPLETE: Error = Error::Operation("A parameter of the algorithm is missing");

impl Name {
    fn family(self) -> Family {
        match self {
            Self::Sha1 => Family::Hash(Hash::Sha1),
            Self::Sha256 => Family::Hash(Hash::Sha256),
            Self::Sha384 => Family::Hash(Hash::Sha384),
            Self::Sha512 => Family::Hash(Hash::Sha512),
            Self::RsaPkcs1 | Self::RsaPss | Self::RsaOaep => Family::Rsa,
            Self::Ecdsa | Self::Ecdh => Family::Elliptic,
            Self::Ed25519 | Self::X25519 => Family::Edwards,
            Self::Hmac
            | Self::Hkdf
            | Self::Pbkdf2
            | Self::AesCbc
            | Self::AesCtr
            | Self::AesGcm
            | Self::AesKw => Family::Secret,
        }
    }
}

impl Request {
    /// Whether equal inputs may give different bytes.
    #[must_use]
    pub fn needs_randomness(&self) -> bool {
        match (self.operation, self.name) {
            (Operation::GenerateKey, _)
            | (Operation::Sign, Name::Ecdsa)
            | (Operation::Encrypt, Name::RsaOaep) => true,
            (Operation::Sign, Name::RsaPss) => self.salt_length != Some(0),
            _ => false,
        }
    }

    fn hash(&self) -> Result<Hash, Error> {
        self.hash.ok_or(INCOMPLETE)
    }

    fn curve(&self) -> Result<elliptic::Curve, Error> {
        self.named_curve.ok_or(INCOMPLETE)
    }

    fn is_ed25519(&self) -> bool {
        self.name == Name::Ed25519
    }

    fn sign(&self, parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
        let Parts { key, data, .. } = *parts;
        match self.name {
            Name::Hmac => Ok(self.hash()?.hmac(key, data)),
            Name::RsaPkcs1 => rsa::sign(self.hash()?, None, key, data),
            Name::RsaPss => {
                rsa::sign(self.hash()?, Some(self.salt_length.ok_or(INCOMPLETE)?), key, data)
            }
            Name::Ecdsa => elliptic::sign(self.curve()?, self.hash()?, key, data),
            Name::Ed25519 => edwards::sign(key, data),
            _ => Err(UNFIT),
        }
    }

    fn verify(&self, parts: &Parts<'_>) -> Result<bool, Error> {
        let Parts { key, data, first: signature, .. } = *parts;
        match self.name {
            Name::Hmac => Ok(self.hash()?.hmac_verify(key, data, signature)),
            Name::RsaPkcs1 => rsa::verify(self.hash()?, None, key, (data, signature)),
            Name::RsaPss => {
                let salt = self.salt_length.ok_or(INCOMPLETE)?;
                rsa::verify(self.hash()?, Some(salt), key, (data, signature))
            }
            Name::Ecdsa => elliptic::verify(self.curve()?, self.hash()?, key, (data, signature)),
            Name::Ed25519 => Ok(edwards::verify(key, data, signature)),
            _ => Err(UNFIT),
        }
    }

    fn encrypt(&self, parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
        let Parts { key, data, first, second } = *parts;
        match self.name {
            Name::AesCbc => aes::cbc_encrypt(key, first, data),
            Name::AesCtr => aes::ctr(key, first, self.length.ok_or(INCOMPLETE)?, data),
            Name::AesGcm => {
                aes::Gcm::new(key, first, second, self.tag_length.unwrap_or(128))?.encrypt(data)
            }
            Name::RsaOaep => rsa::encrypt(self.hash()?, key, first, data),
            _ => Err(UNFIT),
        }
    }

    fn decrypt(&self, parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
        let Parts { key, data, first, second } = *parts;
        match self.name {
            Name::AesCbc => aes::cbc_decrypt(key, first, data),
            Name::AesCtr => aes::ctr(key, first, self.length.ok_or(INCOMPLETE)?, data),
            Name::AesGcm => {
                aes::Gcm::new(key, first, second, self.tag_length.unwrap_or(128))?.decrypt(data)
            }
            Name::RsaOaep => rsa::decrypt(self.hash()?, key, first, data),
            _ => Err(UNFIT),
        }
    }

    fn derive(&self, parts: &Parts<'_>, allowance: Allowance) -> Result<Vec<u8>, Error> {
        let Parts { key, data, first: salt, second: info } = *parts;
        match self.name {
            Name::Hkdf => self.hash()?.hkdf(key, salt, info, self.length),
            Name::Pbkdf2 => {
                let iterations = (self.iterations.ok_or(INCOMPLETE)?, allowance.iterations);
                self.hash()?.pbkdf2(key, salt, iterations, self.length)
            }
            Name::Ecdh => shorten(elliptic::agree(self.curve()?, key, data)?, self.length),
            Name::X25519 => shorten(edwards::agree(key, data)?, self.length),
            _ => Err(UNFIT),
        }
    }

    fn generate(&self, parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
        match self.name.family() {
            Family::Secret => hash::random(self.length.ok_or(INCOMPLETE)?),
            Family::Rsa => {
                self.check_signing()?;
                rsa::generate(self.modulus_length.ok_or(INCOMPLETE)?, parts.first)
            }
            Family::Elliptic => elliptic::generate(self.curve()?),
            Family::Edwards => edwards::generate(self.is_ed25519()),
            Family::Hash(_) => Err(UNFIT),
        }
    }

    fn import(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let format = self.format.ok_or(INCOMPLETE)?;
        let jwk = self.jwk.as_ref();
        match self.name.family() {
            Family::Secret => match (format, jwk) {
                (Format::Raw, _) => Ok(data.to_vec()),
                (Format::Jwk, Some(jwk)) => jwk.secret(),
                _ => Err(NO_FORMAT),
            },
            Family::Rsa => {
                let key = rsa::import(format, data, jwk)?;
                if rsa::is_private(&key) {
                    self.check_signing()?;
                }
                Ok(key)
            }
            Family::Elliptic => elliptic::import(self.curve()?, format, data, jwk),
            Family::Edwards => edwards::import(self.is_ed25519(), format, data, jwk),
            Family::Hash(_) => Err(UNFIT),
        }
    }

    fn export(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let format = self.format.ok_or(INCOMPLETE)?;
        let kind = self.kind.ok_or(INCOMPLETE)?;
        match self.name.family() {
            Family::Secret => match format {
                Format::Raw => Ok(key.to_vec()),
                Format::Jwk => Ok(Jwk::of_secret(key).text()),
                Format::Spki | Format::Pkcs8 => Err(NO_FORMAT),
            },
            Family::Rsa => rsa::export(format, kind, key),
            Family::Elliptic => elliptic::export(self.curve()?, format, kind, key),
            Family::Edwards => edwards::export(self.is_ed25519(), format, kind, key),
            Family::Hash(_) => Err(UNFIT),
        }
    }

    /// Whether a private key for this could do what it is for.
    fn check_signing(&self) -> Result<(), Error> {
        let signs = matches!(self.name, Name::RsaPkcs1 | Name::RsaPss);
        self.hash.filter(|_| signs).map_or(Ok(()), rsa::check_signing)
    }

    fn public_key(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        match self.name.family() {
            Family::Rsa => rsa::public_key(key),
            Family::Elliptic => self.curve()?.split(key).map(|(_, point)| point.to_vec()),
            Family::Edwards => edwards::split(key).map(|(_, public)| public.to_vec()),
            Family::Secret | Family::Hash(_) => Err(UNFIT),
        }
    }
}

const NO_FORMAT: Error = Error::NotSupported("Keys of the algorithm do not have this format");

/// The first `length` bits of a shared secret; all of it where no length is asked for.
fn shorten(mut secret: Vec<u8>, length: Option<u32>) -> Result<Vec<u8>, Error> {
    let Some(bits) = length.map(|bits| bits as usize) else {
        return Ok(secret);
    };
    if bits > secret.len() * 8 {
        return Err(Error::Operation("The shared secret is shorter than the length asked for"));
    }
    secret.truncate(bits.div_ceil(8));
    if let (Some(last), 1..) = (secret.last_mut(), bits % 8) {
        *last &= 0xff << (8 - bits % 8);
    }
    Ok(secret)
}
