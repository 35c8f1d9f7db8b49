//! The parts of an upload as one file.
//!
//! In: blobs, in order. Out: bytes from anywhere in them. Invariant: a position is that in the file
//! which was cut into the parts.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use storage::{Blob, BlobError, BlobId, BlobStore};

/// Bytes read at once.
const STEP: usize = 256 << 10;

/// Blobs, one after the other; one of them is open at a time.
pub(crate) struct Parts {
    store: Arc<dyn BlobStore>,
    /// Each with where it begins; none is empty.
    parts: Vec<(u64, BlobId)>,
    size: u64,
    at: u64,
    /// Where the part begins that is open.
    open: Option<(u64, Box<dyn Blob>)>,
}

impl Parts {
    /// The blobs as one file.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn new(store: Arc<dyn BlobStore>, blobs: &[BlobId]) -> Result<Self, BlobError> {
        let (mut parts, mut size) = (Vec::new(), 0);
        for blob in blobs {
            let bytes = opened(&*store, *blob)?.size();
            if bytes > 0 {
                parts.push((size, *blob));
            }
            size += bytes;
        }
        Ok(Self { store, parts, size, at: 0, open: None })
    }
}

fn opened(store: &dyn BlobStore, blob: BlobId) -> Result<Box<dyn Blob>, BlobError> {
    store.open(blob)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let after = self.parts.partition_point(|(start, _)| *start <= self.at);
        let (start, id) = self.parts[after - 1];
        let blob = match self.open.take().filter(|(open, _)| *open == start) {
            Some((_, blob)) => blob,
            None => opened(&*self.store, id).map_err(io::Error::other)?,
        };
        let bytes = blob.read(self.at - start, buffer.len().min(STEP)).map_err(io::Error::other)?;
        self.open = Some((start, blob));
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Parts {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::MemoryStore;

    #[test]
    fn parts_read_as_the_file_that_they_were() {
        let store = Arc::new(MemoryStore::new(1 << 20));
        let blobs = ["", "ab", "", "cdef", "", ""].iter().zip(0..).map(|(text, at)| {
            let mut draft = store.create().unwrap();
            draft.write(text.as_bytes()).unwrap();
            let id = BlobId::from_random([at; 16]);
            draft.keep(id).unwrap();
            id
        });
        let blobs: Vec<_> = blobs.collect();
        let mut parts = Parts::new(store.clone(), &blobs).unwrap();
        let mut all = String::new();
        parts.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abcdef");
        parts.seek(SeekFrom::End(-3)).unwrap();
        let mut two = [0; 2];
        parts.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"de");
        assert!(parts.seek(SeekFrom::Current(-9)).is_err());
        store.delete(blobs[1]).unwrap();
        parts.seek(SeekFrom::Start(0)).unwrap();
        assert!(parts.read(&mut two).is_err());
    }
}
