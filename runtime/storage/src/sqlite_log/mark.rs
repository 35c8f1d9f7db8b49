//! The mark: what was kept and what was undone, outside of SQLite.
//!
//! In: timestamps that are durable, and those after which everything was undone. Out: the last of
//! them, in the next process. Invariant: it never says more than was kept. SQLite takes a
//! write-ahead log that ends early for a crash, and goes on without the rest; with the mark it
//! shows that something was lost. SQLite takes a commit that failed at its sync for one that was
//! kept; with the mark it shows that it was undone.
//!
//! What was kept is not synced: after a power cut it may say less, and then it shows less. After
//! the death of the process alone it is exact.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{checksum, sync};
use crate::log::StoreError;

const MARK: &str = "mark";

/// The file.
pub(super) struct Mark(pub(super) File);

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Everything up to here is kept.
    Kept(u64),
    /// The same, and what comes later was undone: it must go before anything is appended.
    Undone(u64),
}

impl Said {
    fn bytes(self) -> [u8; 24] {
        let (ts, more) = match self {
            Self::Kept(ts) => (ts, &b""[..]),
            Self::Undone(ts) => (ts, &b"undone"[..]),
        };
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&ts.to_le_bytes());
        bytes[8..].copy_from_slice(&checksum(&[&ts.to_le_bytes(), more]));
        bytes
    }
}

impl Mark {
    /// Makes it, or makes it anew: everything up to `ts` is kept, and nothing else.
    pub(super) fn create(folder: &Path, ts: u64) -> Result<(), StoreError> {
        let path = folder.join(MARK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        Self(file.map_err(failed)?).keep(ts)?;
        sync(folder).map_err(failed)
    }

    /// Opens it, and gives what it says.
    pub(super) fn open(folder: &Path) -> Result<(Self, Said), StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(MARK));
        let mark = Self(file.map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::missing(MARK),
            _ => failed(error),
        })?);
        let mut bytes = [0; 24];
        match mark.0.metadata().map_err(failed)?.len() {
            0 => return Err(StoreError::empty(MARK)),
            1..24 => return Err(damaged("it is too short")),
            _ => mark.0.read_exact_at(&mut bytes, 0).map_err(failed)?,
        }
        let mut ts = [0; 8];
        ts.copy_from_slice(&bytes[..8]);
        let ts = u64::from_le_bytes(ts);
        let said =
            [Said::Kept(ts), Said::Undone(ts)].into_iter().find(|said| said.bytes() == bytes);
        said.map(|said| (mark, said)).ok_or_else(|| damaged("it is not what was written"))
    }

    /// Says that everything up to `ts` is kept.
    pub(super) fn raise(&self, ts: u64) {
        // It says less than it could where this fails, which is no lie.
        let _ = self.write(Said::Kept(ts));
    }

    /// Says, durably, that everything up to `ts` is kept, and that nothing is left to be undone.
    pub(super) fn keep(&self, ts: u64) -> Result<(), StoreError> {
        self.write(Said::Kept(ts)).and_then(|()| self.0.sync_all()).map_err(failed)
    }

    /// Says that everything after `ts` was undone: as soon as it returns to every later process,
    /// and durably if the disk can.
    pub(super) fn undo(&self, ts: u64) -> Result<(), StoreError> {
        self.write(Said::Undone(ts)).map_err(failed)?;
        // What fails mostly is the sync of the commit, and then this one too.
        let _ = self.0.sync_all();
        Ok(())
    }

    fn write(&self, said: Said) -> std::io::Result<()> {
        self.0.write_all_at(&said.bytes(), 0)
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::of(MARK, &error)
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { file: MARK.to_owned(), what: what.to_owned() }
}
