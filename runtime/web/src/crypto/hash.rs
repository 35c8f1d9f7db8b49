//! Hashes and what is made of them: HMAC, HKDF, PBKDF2; and random secrets.
//!
//! In: bytes, lengths in bits. Out: bytes. Invariant: lengths that are no whole bytes are refused,
//! and so is work beyond what the caller allows.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hkdf, hmac, pbkdf2};
use serde::Deserialize;

use super::{Error, fill};

/// The hashes of WebCrypto.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    #[serde(rename = "SHA-1")]
    Sha1,
    #[serde(rename = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA-384")]
    Sha384,
    #[serde(rename = "SHA-512")]
    Sha512,
}

impl Hash {
    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    fn hmac_key(self, key: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, key)
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        hmac::sign(&self.hmac_key(key), data).as_ref().to_vec()
    }

    pub(super) fn hmac_verify(self, key: &[u8], data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.hmac_key(key), data, tag).is_ok()
    }

    /// RFC 5869; `length` in bits.
    pub(super) fn hkdf(
        self,
        key: &[u8],
        salt: &[u8],
        info: &[u8],
        length: Option<u32>,
    ) -> Result<Vec<u8>, Error> {
        let algorithm = match self {
            Self::Sha1 => hkdf::HKDF_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hkdf::HKDF_SHA256,
            Self::Sha384 => hkdf::HKDF_SHA384,
            Self::Sha512 => hkdf::HKDF_SHA512,
        };
        let length = whole_bytes(length)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let secret = hkdf::Salt::new(algorithm, salt).extract(key);
        let info = [info];
        let mut derived = vec![0; length.min(LONGEST_HKDF)];
        secret
            .expand(&info, Length(length))
            .and_then(|output| output.fill(&mut derived))
            .map_err(|_| Error::Operation("HKDF gives at most 255 hashes of output"))?;
        Ok(derived)
    }

    /// RFC 8018; `length` in bits, `iterations` how many are asked for and how many are allowed.
    pub(super) fn pbkdf2(
        self,
        password: &[u8],
        salt: &[u8],
        iterations: (u32, u64),
        length: Option<u32>,
    ) -> Result<Vec<u8>, Error> {
        let (algorithm, block) = match self {
            Self::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            Self::Sha384 => (pbkdf2::PBKDF2_HMAC_SHA384, 48),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        };
        let (count, most) = iterations;
        let length = whole_bytes(length)?;
        let count = NonZeroU32::new(count)
            .ok_or(Error::Operation("PBKDF2 needs at least one iteration"))?;
        let asked = u64::from(count.get()).saturating_mul(length.div_ceil(block) as u64);
        if asked > most {
            return Err(Error::TooManyIterations { asked, most });
        }
        let mut derived = vec![0; length];
        if length > 0 {
            pbkdf2::derive(algorithm, count, salt, password, &mut derived);
        }
        Ok(derived)
    }
}

/// Bytes; 255 of the longest hash, so that no length allocates more before it is refused.
const LONGEST_HKDF: usize = 255 * 64;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Bytes; more in one piece is a mistake, and would be allocated before anybody could say no.
const LONGEST_OUTPUT: usize = 16 << 20;
const TOO_LONG: Error = Error::Operation("At most 16 MiB are made at once");

fn whole_bytes(bits: Option<u32>) -> Result<usize, Error> {
    match bits {
        Some(bits) if bits % 8 != 0 => Err(Error::Operation("The length is a multiple of 8 bits")),
        Some(bits) if bits as usize / 8 > LONGEST_OUTPUT => Err(TOO_LONG),
        Some(bits) => Ok(bits as usize / 8),
        None => Err(Error::Operation("The length cannot be null")),
    }
}

/// Fresh random bytes for a secret of `bits`; the bits beyond a last part of a byte are zero.
pub(super) fn random(bits: u32) -> Result<Vec<u8>, Error> {
    let length = (bits as usize).div_ceil(8);
    if length > LONGEST_OUTPUT {
        return Err(TOO_LONG);
    }
    let mut secret = vec![0; length];
    fill(&mut secret)?;
    if let (Some(last), 1..) = (secret.last_mut(), bits % 8) {
        *last &= 0xff << (8 - bits % 8);
    }
    Ok(secret)
}
