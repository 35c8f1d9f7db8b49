//! AES in WebCrypto's four modes: CBC with PKCS#7 padding, CTR, GCM, key wrap.
//!
//! In: keys of 128, 192 or 256 bits, and the mode's parameters. Out: bytes. Invariant: nothing is
//! given out of a ciphertext whose tag or padding is wrong, and the error never says which part.
//!
//! aws-lc-rs offers GCM for 96-bit vectors with whole tags only; the rest of WebCrypto's GCM (any
//! vector, seven tag lengths) is built here from its block cipher (NIST SP 800-38D).

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;

use super::Error;

const BLOCK: usize = 16;
const FAILED: Error = Error::Operation("The cipher failed");
const UNREADABLE: Error = Error::Operation("Decryption failed");
const LENGTHS: Error = Error::Operation("AES keys have 128, 192 or 256 bits");

fn cipher_key(key: &[u8]) -> Result<UnboundCipherKey, Error> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(LENGTHS),
    };
    UnboundCipherKey::new(algorithm, key).map_err(|_| FAILED)
}

/// CBC, padded as PKCS#7 has it.
pub(super) fn cbc_encrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let iv = vector(iv)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(cipher_key(key)?).map_err(|_| FAILED)?;
    let mut text = data.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(&mut text, context).map_err(|_| FAILED)?;
    Ok(text)
}

/// Undoes [`cbc_encrypt`].
pub(super) fn cbc_decrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let iv = vector(iv)?;
    if data.is_empty() || !data.len().is_multiple_of(BLOCK) {
        return Err(UNREADABLE);
    }
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(key)?).map_err(|_| FAILED)?;
    let mut text = data.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    Ok(key.decrypt(&mut text, context).map_err(|_| UNREADABLE)?.to_vec())
}

fn vector(iv: &[u8]) -> Result<[u8; BLOCK], Error> {
    iv.try_into().map_err(|_| Error::Operation("The initialisation vector has 16 bytes"))
}

/// CTR with a counter of `length` bits at the end of `counter`: both ways. The rest of the block
/// stays what it is when the counter wraps.
pub(super) fn ctr(key: &[u8], counter: &[u8], length: u32, data: &[u8]) -> Result<Vec<u8>, Error> {
    let counter: [u8; BLOCK] =
        counter.try_into().map_err(|_| Error::Operation("The counter has 16 bytes"))?;
    let start = u128::from_be_bytes(counter);
    let mask = match length {
        1..=127 => (1u128 << length) - 1,
        128 => u128::MAX,
        _ => return Err(Error::Operation("The counter's length is 1 to 128 bits")),
    };
    let blocks = data.len().div_ceil(BLOCK) as u128;
    if blocks > 0 && blocks - 1 > mask {
        return Err(Error::Operation("The data is longer than the counter can count"));
    }
    let mut text = data.to_vec();
    // Where the counter wraps, in bytes; beyond the data where it does not.
    let until = (mask - (start & mask)).saturating_add(1).saturating_mul(BLOCK as u128);
    let until = usize::try_from(until).unwrap_or(usize::MAX).min(text.len());
    let (before, after) = text.split_at_mut(until);
    stream(key, start, before)?;
    stream(key, start & !mask, after)?;
    Ok(text)
}

fn stream(key: &[u8], counter: u128, text: &mut [u8]) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    let key = EncryptingKey::ctr(cipher_key(key)?).map_err(|_| FAILED)?;
    let context = EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
    key.less_safe_encrypt(text, context).map(|_| ()).map_err(|_| FAILED)
}

/// AES-GCM with a key, a vector, additional data and a tag length.
pub(super) struct Gcm<'a> {
    key: &'a [u8],
    iv: &'a [u8],
    additional: &'a [u8],
    /// Bytes.
    tag: usize,
}

impl<'a> Gcm<'a> {
    /// `tag_length` in bits.
    pub(super) fn new(
        key: &'a [u8],
        iv: &'a [u8],
        additional: &'a [u8],
        tag_length: u32,
    ) -> Result<Self, Error> {
        if !matches!(tag_length, 32 | 64 | 96 | 104 | 112 | 120 | 128) {
            return Err(Error::Operation("The tag has 32, 64, 96, 104, 112, 120 or 128 bits"));
        }
        if iv.is_empty() {
            return Err(Error::Operation("The initialisation vector is empty"));
        }
        Ok(Self { key, iv, additional, tag: tag_length as usize / 8 })
    }

    /// Ciphertext, then the tag.
    pub(super) fn encrypt(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = data.to_vec();
        let tag = if let Some((key, nonce)) = self.library()? {
            key.seal_in_place_separate_tag(nonce, Aad::from(self.additional), &mut text)
                .map_err(|_| FAILED)?
                .as_ref()
                .to_vec()
        } else {
            let start = self.start()?;
            text = self.stream(start, &text)?;
            self.tag(start, &text)?.to_vec()
        };
        text.extend_from_slice(&tag[..self.tag]);
        Ok(text)
    }

    /// Undoes [`Gcm::encrypt`].
    pub(super) fn decrypt(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let at = data.len().checked_sub(self.tag).ok_or(UNREADABLE)?;
        if let (Some((key, nonce)), BLOCK) = (self.library()?, self.tag) {
            let mut text = data.to_vec();
            key.open_in_place(nonce, Aad::from(self.additional), &mut text)
                .map_err(|_| UNREADABLE)?;
            text.truncate(at);
            return Ok(text);
        }
        let (text, tag) = data.split_at(at);
        let start = self.start()?;
        verify_slices_are_equal(&self.tag(start, text)?[..self.tag], tag)
            .map_err(|_| UNREADABLE)?;
        self.stream(start, text)
    }

    /// aws-lc's own GCM, where the vector is one it takes.
    fn library(&self) -> Result<Option<(LessSafeKey, Nonce)>, Error> {
        let Ok(nonce) = Nonce::try_assume_unique_for_key(self.iv) else {
            return Ok(None);
        };
        let algorithm = match self.key.len() {
            16 => &aead::AES_128_GCM,
            24 => &aead::AES_192_GCM,
            32 => &aead::AES_256_GCM,
            _ => return Err(LENGTHS),
        };
        let key = UnboundKey::new(algorithm, self.key).map_err(|_| FAILED)?;
        Ok(Some((LessSafeKey::new(key), nonce)))
    }

    fn block(&self, block: u128) -> Result<u128, Error> {
        let mut bytes = block.to_be_bytes();
        let key = EncryptingKey::ecb(cipher_key(self.key)?).map_err(|_| FAILED)?;
        key.less_safe_encrypt(&mut bytes, EncryptionContext::None).map_err(|_| FAILED)?;
        Ok(u128::from_be_bytes(bytes))
    }

    /// J0 of the standard: the counter that the tag is masked with.
    fn start(&self) -> Result<u128, Error> {
        if self.iv.len() == 12 {
            let mut block = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            block[..12].copy_from_slice(self.iv);
            return Ok(u128::from_be_bytes(block));
        }
        Ok(ghash(self.block(0)?, &[], self.iv))
    }

    /// Counts in the last 32 bits, from the block after `start`.
    fn stream(&self, start: u128, text: &[u8]) -> Result<Vec<u8>, Error> {
        let low = u128::from(u32::MAX);
        let first = (start & !low) | (start.wrapping_add(1) & low);
        ctr(self.key, &first.to_be_bytes(), 32, text)
    }

    fn tag(&self, start: u128, text: &[u8]) -> Result<[u8; BLOCK], Error> {
        let hash = ghash(self.block(0)?, self.additional, text);
        Ok((hash ^ self.block(start)?).to_be_bytes())
    }
}

/// GHASH of two strings, each padded to blocks, and their lengths.
fn ghash(subkey: u128, additional: &[u8], text: &[u8]) -> u128 {
    let mut hash = 0;
    for chunk in additional.chunks(BLOCK).chain(text.chunks(BLOCK)) {
        let mut block = [0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        hash = multiply(hash ^ u128::from_be_bytes(block), subkey);
    }
    let lengths = ((additional.len() as u128 * 8) << 64) | (text.len() as u128 * 8);
    multiply(hash ^ lengths, subkey)
}

/// The product in GCM's field, in time that does not depend on the factors.
fn multiply(left: u128, right: u128) -> u128 {
    const POLYNOMIAL: u128 = 0xe1 << 120;
    let (mut product, mut factor) = (0, right);
    for bit in (0..128).rev() {
        product ^= factor & 0u128.wrapping_sub((left >> bit) & 1);
        factor = (factor >> 1) ^ (POLYNOMIAL & 0u128.wrapping_sub(factor & 1));
    }
    product
}

const WRAP_START: u64 = 0xa6a6_a6a6_a6a6_a6a6;

/// RFC 3394, for all three key lengths (the library's has two).
pub(super) fn wrap(key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    if data.len() < 16 || !data.len().is_multiple_of(8) {
        return Err(Error::Operation("AES-KW wraps 16 bytes or more, a multiple of 8"));
    }
    let cipher = EncryptingKey::ecb(cipher_key(key)?).map_err(|_| FAILED)?;
    let (mut check, mut step) = (WRAP_START, 0);
    let mut wrapped = data.to_vec();
    for _ in 0..6 {
        for part in wrapped.chunks_exact_mut(8) {
            let mut block = [0; BLOCK];
            block[..8].copy_from_slice(&check.to_be_bytes());
            block[8..].copy_from_slice(part);
            cipher.less_safe_encrypt(&mut block, EncryptionContext::None).map_err(|_| FAILED)?;
            let (high, low) = block.split_at(8);
            step += 1;
            check = u64::from_be_bytes(high.try_into().map_err(|_| FAILED)?) ^ step;
            part.copy_from_slice(low);
        }
    }
    Ok([&check.to_be_bytes()[..], &wrapped[..]].concat())
}

/// Undoes [`wrap`].
pub(super) fn unwrap(key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let (head, rest) = data.split_first_chunk::<8>().ok_or(UNREADABLE)?;
    if rest.len() < 16 || !rest.len().is_multiple_of(8) {
        return Err(UNREADABLE);
    }
    let cipher = DecryptingKey::ecb(cipher_key(key)?).map_err(|_| FAILED)?;
    let mut check = u64::from_be_bytes(*head);
    let mut step = 6 * (rest.len() as u64 / 8);
    let mut data = rest.to_vec();
    for _ in 0..6 {
        for part in data.chunks_exact_mut(8).rev() {
            let mut block = [0; BLOCK];
            block[..8].copy_from_slice(&(check ^ step).to_be_bytes());
            block[8..].copy_from_slice(part);
            cipher.decrypt(&mut block, DecryptionContext::None).map_err(|_| FAILED)?;
            let (high, low) = block.split_at(8);
            step -= 1;
            check = u64::from_be_bytes(high.try_into().map_err(|_| FAILED)?);
            part.copy_from_slice(low);
        }
    }
    verify_slices_are_equal(&check.to_be_bytes(), &WRAP_START.to_be_bytes())
        .map_err(|_| UNREADABLE)?;
    Ok(data)
}
