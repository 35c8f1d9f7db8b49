//! Blobs of a fork: new ones in memory, over those of the original.
//!
//! In: a store that somebody else writes to. Out: a store that begins with its blobs. Invariant:
//! nothing here changes what is below.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::blob::{Blob, BlobError, BlobId, BlobStore, Draft};
use crate::memory::MemoryStore;

/// Blobs over blobs.
pub struct Overlay {
    own: MemoryStore,
    below: Arc<dyn BlobStore>,
    /// Those of below that were deleted here.
    deleted: Mutex<BTreeSet<BlobId>>,
    /// Keeps what is below for as long as this is.
    _keep: Arc<dyn Any + Send + Sync>,
}

impl Overlay {
    /// Over `below`, whose blobs stay while `keep` lives; new ones take at most `capacity` bytes.
    pub fn new(below: Arc<dyn BlobStore>, keep: Arc<dyn Any + Send + Sync>, capacity: u64) -> Self {
        Self { own: MemoryStore::new(capacity), below, deleted: Mutex::default(), _keep: keep }
    }

    fn deleted(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        // Each change is a single call.
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore for Overlay {
    fn create(&self) -> Result<Box<dyn Draft>, BlobError> {
        self.own.create()
    }

    fn open(&self, id: BlobId) -> Result<Option<Box<dyn Blob>>, BlobError> {
        match self.own.open(id)? {
            Some(blob) => Ok(Some(blob)),
            None if self.deleted().contains(&id) => Ok(None),
            None => self.below.open(id),
        }
    }

    fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        self.deleted().insert(id);
        self.own.delete(id)
    }

    fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        let deleted = self.deleted().clone();
        let below = self.below.list()?.into_iter().filter(|id| !deleted.contains(id));
        let all: BTreeSet<_> = self.own.list()?.into_iter().chain(below).collect();
        Ok(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::tests::{behaves, get, id, put};

    #[test]
    fn what_is_below_stays_as_it_was() {
        let below = Arc::new(MemoryStore::new(10 << 20));
        behaves(&Overlay::new(below.clone(), Arc::new(()), 10 << 20));
        assert!(below.list().unwrap().is_empty());
        put(&*below, id(7), &[b"below"]);
        let over = Overlay::new(below.clone(), Arc::new(()), 10 << 20);
        assert_eq!(get(&*over.open(id(7)).unwrap().unwrap(), 0, 9), b"below");
        over.delete(id(7)).unwrap();
        assert!(over.open(id(7)).unwrap().is_none() && over.list().unwrap().is_empty());
        assert_eq!(below.list().unwrap(), [id(7)]);
    }
}
