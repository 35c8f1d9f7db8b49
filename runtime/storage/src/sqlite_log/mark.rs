//! The mark: a timestamp that was kept, outside of SQLite.
//!
//! In: timestamps that are durable. Out: the newest of them, in the next process. Invariant: it
//! never says more than was kept. SQLite takes a write-ahead log that ends early for a crash, and
//! goes on without the rest; with the mark it shows that something was lost.
//!
//! It is not synced: after a power cut it may say less, and then it shows less. After the death of
//! the process alone it is exact.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::checksum;
use crate::log::StoreError;

const MARK: &str = "mark";

/// The file.
pub(super) struct Mark(File);

impl Mark {
    /// Makes it; nothing is promised.
    pub(super) fn create(folder: &Path) -> Result<(), StoreError> {
        let mark = Self(opened(&folder.join(MARK), true)?);
        mark.write(0).and_then(|()| mark.0.sync_all()).map_err(failed)
    }

    /// Opens it, and gives what is promised.
    pub(super) fn open(folder: &Path) -> Result<(Self, u64), StoreError> {
        let mark = Self(opened(&folder.join(MARK), false)?);
        let mut bytes = [0; 24];
        mark.0.read_exact_at(&mut bytes, 0).map_err(|_| damaged("it is too short"))?;
        let (ts, sum) = bytes.split_at(8);
        if checksum(&[ts]) != sum {
            return Err(damaged("it is not what was written"));
        }
        let mut ts_bytes = [0; 8];
        ts_bytes.copy_from_slice(ts);
        Ok((mark, u64::from_le_bytes(ts_bytes)))
    }

    /// Says that everything up to `ts` is kept.
    pub(super) fn raise(&self, ts: u64) {
        // It says less than it could where this fails, which is no lie.
        let _ = self.write(ts);
    }

    /// Says that nothing after `ts` is kept any more.
    pub(super) fn lower(&self, ts: u64) -> Result<(), StoreError> {
        self.write(ts).and_then(|()| self.0.sync_all()).map_err(failed)
    }

    fn write(&self, ts: u64) -> std::io::Result<()> {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&ts.to_le_bytes());
        bytes[8..].copy_from_slice(&checksum(&[&ts.to_le_bytes()]));
        self.0.write_all_at(&bytes, 0)
    }
}

fn opened(path: &PathBuf, create: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
        .map_err(failed)
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::of(MARK, &error)
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { file: MARK.to_owned(), what: what.to_owned() }
}
