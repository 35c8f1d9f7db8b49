//! Blobs in this process's memory.
//!
//! In: bytes. Out: the same, as slices that copy nothing.
//! Invariant: drafts and blobs together never take more than the budget; what is dropped is given
//! back at once, what is deleted as soon as nobody reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::blob::{Blob, BlobError, BlobId, BlobStore, Draft};

/// Bytes of one piece of a blob: large enough that there are few, small enough to find room for.
const PIECE: usize = 256 << 10;

/// Blobs in memory.
pub struct MemoryStore {
    blobs: Arc<Mutex<Blobs>>,
    budget: Arc<Budget>,
}

type Blobs = BTreeMap<BlobId, Arc<Stored>>;

struct Budget {
    capacity: u64,
    used: AtomicU64,
}

/// Part of the budget, until it is dropped.
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, bytes: u64) -> Result<(), BlobError> {
        let Budget { capacity, used } = &*self.budget;
        let grown = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| used <= capacity)
        });
        grown.map_err(|_| BlobError::Full { capacity: *capacity })?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Pieces of [`PIECE`] bytes; the last may be shorter.
struct Stored {
    pieces: Vec<Bytes>,
    share: Share,
}

struct MemoryDraft {
    blobs: Arc<Mutex<Blobs>>,
    pieces: Vec<Bytes>,
    last: Vec<u8>,
    share: Share,
}

impl MemoryStore {
    /// An empty store that may grow to `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let budget = Arc::new(Budget { capacity, used: AtomicU64::new(0) });
        Self { blobs: Arc::default(), budget }
    }

    /// Bytes taken by blobs and drafts.
    pub fn used(&self) -> u64 {
        self.budget.used.load(Ordering::Relaxed)
    }
}

fn lock(blobs: &Mutex<Blobs>) -> MutexGuard<'_, Blobs> {
    blobs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlobStore for MemoryStore {
    fn create(&self) -> Result<Box<dyn Draft>, BlobError> {
        let share = Share { budget: Arc::clone(&self.budget), bytes: 0 };
        let blobs = Arc::clone(&self.blobs);
        Ok(Box::new(MemoryDraft { blobs, pieces: Vec::new(), last: Vec::new(), share }))
    }

    fn open(&self, id: BlobId) -> Result<Option<Box<dyn Blob>>, BlobError> {
        let found = lock(&self.blobs).get(&id).cloned();
        Ok(found.map(|stored| Box::new(stored) as Box<dyn Blob>))
    }

    fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        // Freed after the lock is released.
        let _deleted = lock(&self.blobs).remove(&id);
        Ok(())
    }

    fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        Ok(lock(&self.blobs).keys().copied().collect())
    }
}

impl Draft for MemoryDraft {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        self.share.grow(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.last.len()));
            self.last.extend_from_slice(now);
            bytes = later;
            if self.last.len() == PIECE {
                self.pieces.push(std::mem::take(&mut self.last).into());
            }
        }
        Ok(())
    }

    fn keep(mut self: Box<Self>, id: BlobId) -> Result<(), BlobError> {
        self.last.shrink_to_fit();
        self.pieces.push(self.last.into());
        let stored = Stored { pieces: self.pieces, share: self.share };
        lock(&self.blobs).insert(id, Arc::new(stored));
        Ok(())
    }
}

impl Blob for Arc<Stored> {
    fn size(&self) -> u64 {
        self.share.bytes
    }

    fn read(&self, at: u64, most: usize) -> Result<Bytes, BlobError> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let Some(piece) = self.pieces.get(at / PIECE) else { return Ok(Bytes::new()) };
        let start = (at % PIECE).min(piece.len());
        Ok(piece.slice(start..piece.len().min(start.saturating_add(most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::tests::{behaves, id, put};

    #[test]
    fn keeps_blobs_whole_and_gives_memory_back() {
        let store = MemoryStore::new(1_000_000);
        behaves(&store);
        store.delete(id(2)).unwrap();
        assert_eq!(store.used(), 0);
    }

    #[test]
    fn the_budget_holds_for_drafts_and_for_what_is_still_read() {
        let store = MemoryStore::new(10);
        put(&store, id(1), &[b"123456"]);
        let mut draft = store.create().unwrap();
        draft.write(b"1234").unwrap();
        assert!(matches!(draft.write(b"5"), Err(BlobError::Full { capacity: 10 })));
        drop(draft);
        let reading = store.open(id(1)).unwrap();
        store.delete(id(1)).unwrap();
        assert_eq!(store.used(), 6);
        drop(reading);
        assert_eq!(store.used(), 0);
    }
}
