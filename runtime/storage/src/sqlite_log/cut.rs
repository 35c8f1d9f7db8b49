//! A new log in place of one that is damaged, or that goes on beyond what is wanted.
//!
//! ```text
//!   log.draft.sqlite ─(written, synced, renamed)─▶ log.ready.sqlite     from here on it counts
//!   log.sqlite, -wal ─(renamed)─▶ log.given-up.sqlite, -wal             any start goes on here
//!   log.ready.sqlite ─(renamed)─▶ log.sqlite
//! ```
//! In: records. Out: a log that holds them alone. Invariant: after a crash there is the old log
//! with its write-ahead log, or the new one without: SQLite would apply the one to the other.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connection::{create, failed};
use super::writer::insert_all;
use super::{LOG, sync};
use crate::log::{Record, StoreError};

/// A log that is being written.
pub(super) const DRAFT: &str = "log.draft.sqlite";
/// One that is whole, and takes the place of the log.
const READY: &str = "log.ready.sqlite";
/// The log whose place it took.
const GIVEN_UP: &str = "log.given-up.sqlite";

/// What SQLite appends to a database's name for files beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// A log that nobody reads yet.
pub(super) struct NewLog {
    path: PathBuf,
    connection: Connection,
}

impl NewLog {
    /// An empty one, in place of what a crash left there.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        remove(path).map_err(|error| StoreError::of(LOG, &error))?;
        let connection = create(path)?;
        let made = connection.execute_batch(
            "CREATE TABLE log(ts INTEGER PRIMARY KEY, previous INTEGER NOT NULL,
                 body BLOB NOT NULL, checksum BLOB NOT NULL) STRICT;",
        );
        made.map_err(|error| failed(LOG, &error))?;
        Ok(Self { path: path.to_owned(), connection })
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let appended = insert_all(&mut self.connection, records);
        appended.map_err(|error| failed(LOG, &error))
    }

    /// Makes it durable, as one file.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let Self { path, connection } = self;
        let moved: Result<i64, _> =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        moved.map_err(|error| failed(LOG, &error))?;
        connection.close().map_err(|(_, error)| failed(LOG, &error))?;
        sync(&path).map_err(|error| StoreError::of(LOG, &error))
    }
}

/// Puts the draft in the place of the log, which nobody has open.
pub(super) fn put_in_place(folder: &Path) -> Result<(), StoreError> {
    let counts = || {
        // Of an earlier cut; what is moved now must not find a write-ahead log that is not its own.
        remove(&folder.join(GIVEN_UP))?;
        fs::rename(folder.join(DRAFT), folder.join(READY))?;
        sync(folder)
    };
    counts().map_err(|error| StoreError::of(LOG, &error))?;
    finish(folder)
}

/// Goes on with what a crash has interrupted, if there is something.
pub(super) fn finish(folder: &Path) -> Result<(), StoreError> {
    let finished = || {
        if !folder.join(READY).try_exists()? {
            return Ok(());
        }
        let (old, given_up) = (folder.join(LOG), folder.join(GIVEN_UP));
        // The write-ahead log first: once it is gone from here nothing is applied to the new log.
        for end in BESIDE.into_iter().chain([""]) {
            missing_is_fine(fs::rename(with(&old, end), with(&given_up, end)))?;
        }
        sync(folder)?;
        fs::rename(folder.join(READY), old)?;
        sync(folder)
    };
    let finished: io::Result<()> = finished();
    finished.map_err(|error| StoreError::of(LOG, &error))
}

/// Removes a database and what SQLite keeps beside it.
fn remove(path: &Path) -> io::Result<()> {
    let mut ends = BESIDE.into_iter().chain([""]);
    ends.try_for_each(|end| missing_is_fine(fs::remove_file(with(path, end))))
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
