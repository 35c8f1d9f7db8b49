//! A store of blobs: written once, read in ranges, deleted.
//!
//! In: chunks of a blob, then its name. Out: ranges of its bytes.
//! Invariant: nobody sees a draft; a draft that is dropped leaves nothing; a blob that is open can
//! be read to its end, whoever deletes it meanwhile. Calls may block as long as a disk does.

use std::fmt;
use std::io;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

/// Names a blob. Its text is a version 4 UUID (RFC 9562).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 16]);

impl BlobId {
    /// The name made of 16 random bytes, six bits of which say "version 4".
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is not a UUID: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12")]
pub struct NotAnId;

impl FromStr for BlobId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut digits = Vec::with_capacity(32);
        for (at, byte) in text.bytes().enumerate() {
            match (at, byte) {
                (8 | 13 | 18 | 23, b'-') => {}
                (8 | 13 | 18 | 23, _) => return Err(NotAnId),
                _ => digits.push((byte as char).to_digit(16).ok_or(NotAnId)? as u8),
            }
        }
        if text.len() != 36 {
            return Err(NotAnId);
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(id))
    }
}

/// Why bytes could not be kept or read.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The store's budget is used up.
    #[error("file storage is full: all files together may take {capacity} bytes of memory")]
    Full {
        /// Bytes of the budget.
        capacity: u64,
    },
    /// The system's words.
    #[error("file storage cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// A store of blobs.
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a blob.
    ///
    /// # Errors
    /// The system's.
    fn create(&self) -> Result<Box<dyn Draft>, BlobError>;

    /// Opens a blob; `None` if there is none of that name.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, id: BlobId) -> Result<Option<Box<dyn Blob>>, BlobError>;

    /// Deletes a blob; one that is not there is deleted already.
    ///
    /// # Errors
    /// The system's.
    fn delete(&self, id: BlobId) -> Result<(), BlobError>;

    /// Every blob there is, by name.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> Result<Vec<BlobId>, BlobError>;
}

/// A blob that is being written. Dropping it leaves nothing.
pub trait Draft: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// No room, or the system's; the draft can only be dropped then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// Makes it a blob: durable as far as the store is, and visible under its name.
    ///
    /// # Errors
    /// The system's; nothing is left of it then.
    fn keep(self: Box<Self>, id: BlobId) -> Result<(), BlobError>;
}

/// A blob that is being read.
pub trait Blob: Send + Sync {
    /// How many bytes it has.
    fn size(&self) -> u64;

    /// Some of its bytes, from `at`: at least one and at most `most`, none at its end.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, at: u64, most: usize) -> Result<Bytes, BlobError>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(seed: u8) -> BlobId {
        BlobId::from_random([seed; 16])
    }

    pub(crate) fn put(store: &dyn BlobStore, id: BlobId, chunks: &[&[u8]]) {
        let mut draft = store.create().unwrap();
        chunks.iter().for_each(|chunk| draft.write(chunk).unwrap());
        draft.keep(id).unwrap();
    }

    pub(crate) fn get(blob: &dyn Blob, mut at: u64, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = blob.read(at, most).unwrap();
            if bytes.is_empty() {
                return all;
            }
            at += bytes.len() as u64;
            all.extend_from_slice(&bytes);
        }
    }

    /// What every store does.
    pub(crate) fn behaves(store: &dyn BlobStore) {
        let big: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        put(store, id(1), &[&big[..3], &big[3..300_000], &big[300_000..]]);
        put(store, id(2), &[]);
        let mut cut = store.create().unwrap();
        cut.write(b"half").unwrap();
        drop(cut);
        assert_eq!(store.list().unwrap(), [id(1), id(2)]);
        assert!(store.open(id(3)).unwrap().is_none());
        assert_eq!(store.open(id(2)).unwrap().unwrap().size(), 0);
        let blob = store.open(id(1)).unwrap().unwrap();
        assert_eq!(blob.size(), 700_000);
        store.delete(id(1)).unwrap();
        store.delete(id(1)).unwrap();
        assert!(store.open(id(1)).unwrap().is_none());
        assert!(get(&*blob, 0, 100_000) == big, "an open blob outlives its name");
        assert!(get(&*blob, 262_143, 7) == big[262_143..]);
        assert!(blob.read(700_000, 10).unwrap().is_empty());
    }

    #[test]
    fn names_are_version_4_uuids() {
        let text = BlobId::from_random([0xff; 16]).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(text.parse::<BlobId>().unwrap().to_string(), text);
        for wrong in ["", "x", &text[1..], &text.replace('-', ""), &text.replace('f', "g")] {
            assert!(wrong.parse::<BlobId>().is_err(), "{wrong}");
        }
        assert!(format!("{text}0").parse::<BlobId>().is_err());
    }
}
