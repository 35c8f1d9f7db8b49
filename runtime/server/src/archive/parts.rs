//! The parts of an upload as one file.
//!
//! In: blobs, in order. Out: bytes from anywhere in them. Invariant: a position is that in the file
//! which was cut into the parts.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use storage::Blob;

/// Bytes read at once.
const STEP: usize = 256 << 10;

/// Blobs, one after the other.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Each with where it begins.
    parts: Arc<[(u64, Arc<dyn Blob>)]>,
    size: u64,
    at: u64,
}

impl Parts {
    /// The blobs as one file.
    pub(crate) fn new(blobs: impl IntoIterator<Item = Arc<dyn Blob>>) -> Self {
        let mut size = 0;
        let placed = blobs.into_iter().map(|blob| {
            let start = size;
            size += blob.size();
            (start, blob)
        });
        let parts = placed.collect();
        Self { parts, size, at: 0 }
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        // Empty parts begin where the next one does.
        let after = self.parts.partition_point(|(start, _)| *start <= self.at);
        let (start, blob) = &self.parts[after - 1];
        let bytes = blob.read(self.at - start, buffer.len().min(STEP)).map_err(io::Error::other)?;
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
    use storage::{BlobId, BlobStore as _, MemoryStore};

    #[test]
    fn parts_read_as_the_file_that_they_were() {
        let store = MemoryStore::new(1 << 20);
        let blobs = ["ab", "", "cdef", "", ""].iter().zip(0..).map(|(text, at)| {
            let mut draft = store.create().unwrap();
            draft.write(text.as_bytes()).unwrap();
            let id = BlobId::from_random([at; 16]);
            draft.keep(id).unwrap();
            Arc::from(store.open(id).unwrap().unwrap())
        });
        let mut parts = Parts::new(blobs);
        let mut all = String::new();
        parts.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abcdef");
        parts.seek(SeekFrom::End(-3)).unwrap();
        let mut two = [0; 2];
        parts.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"de");
        assert!(parts.seek(SeekFrom::Current(-9)).is_err());
    }
}
