//! The one who writes to the log: appends, undoes what failed, trims.
//!
//! In: records. Out: the same in `log.sqlite`, synced; or an error, and none of them. Invariant:
//! what was undone does not come back, and what was appended is not undone.
//!
//! A commit that fails at its sync is in the write-ahead log all the same, whole: SQLite forgets
//! it, and would find it again at the next start. So, before anybody is told that it was undone:
//!
//! ```text
//!   append fails ─▶ mark: "undone after N" ─▶ told      after kill -9 the next start repairs
//!   repair: records after N go ─▶ write-ahead log emptied, synced ─▶ mark: "kept up to N", synced
//!   then, and only then, the next append
//! ```
//!
//! The last step is why no disk ever holds the old note beside a commit that was acknowledged
//! later: the note is gone from the disk before that commit begins, and one comes back only with
//! the next failure, which names the newest commit of then. And a note that goes finds no commit to
//! bring back: what it spoke of is gone from the disk before.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::connection::{failed, open_log};
use super::mark::{Mark, Said};
use super::{LOG, checksum_of, moved, signed, sync, unsigned};
use crate::log::{Record, StoreError};

/// Appends.
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after a failure, until the log works again.
    connection: Option<Connection>,
    /// The newest record that is durable.
    newest: u64,
    pub(super) mark: Mark,
}

impl Writer {
    /// Of a log whose checkpoint is at `at`. What the mark calls undone goes first.
    pub(super) fn open(
        path: &Path,
        (mark, said): (Mark, Said),
        at: u64,
    ) -> Result<Self, StoreError> {
        let connection = match said {
            Said::Kept(_) => open_log(path)?,
            Said::Undone(after) => repaired(path, after, &mark)?,
        };
        let newest: Option<i64> = connection
            .query_row("SELECT max(ts) FROM log", [], |row| row.get(0))
            .map_err(|error| failed(LOG, &error))?;
        let newest = newest.map_or(at, |newest| unsigned(newest).max(at));
        Ok(Self { path: path.to_owned(), connection: Some(connection), newest, mark })
    }

    /// Appends records, durably.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let Err(cause) = self.try_append(records) else {
            if let Some(last) = records.last() {
                self.newest = last.ts;
                self.mark.raise(last.ts);
            }
            return Ok(());
        };
        self.connection = None;
        // Also where nothing was written this time: the note of the last time may have failed.
        match self.mark.undo(self.newest) {
            Ok(()) => Err(cause),
            Err(note) => Err(StoreError::Unclear { cause: cause.into(), note: note.into() }),
        }
    }

    fn try_append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let appended = insert_all(self.connection()?, records);
        appended.map_err(|error| failed(LOG, &error))
    }

    /// Forgets records up to `ts`, at most `count`. Where it fails nothing was undone.
    pub(super) fn trim(&mut self, ts: u64, count: usize) -> Result<usize, StoreError> {
        let trim = "DELETE FROM log WHERE ts IN
            (SELECT ts FROM log WHERE ts <= ?1 ORDER BY ts LIMIT ?2)";
        let connection = self.connection()?;
        // The next commit syncs it; without one, what came back is trimmed again.
        let trimmed = connection
            .pragma_update(None, "synchronous", "normal")
            .and_then(|()| connection.prepare_cached(trim))
            .and_then(|mut trim| trim.execute(params![signed(ts), count as i64]))
            .and_then(|count| {
                connection.pragma_update(None, "synchronous", "full").map(|()| count)
            });
        self.checked(trimmed)
    }

    /// Moves the rest of the write-ahead log into the database. Where it fails nothing was undone.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        let last = moved(self.connection()?);
        self.checked(last).map(drop)
    }

    fn checked<T>(&mut self, done: Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        done.map_err(|error| {
            self.connection = None;
            failed(LOG, &error)
        })
    }

    /// The connection, opened anew after a failure.
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => repaired(&self.path, self.newest, &self.mark)?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// Writes records in a transaction of their own.
pub(super) fn insert_all(
    connection: &mut Connection,
    records: &[Record],
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO log VALUES(?1, ?2, ?3, ?4)")?;
        for record in records {
            let Record { ts, previous, body } = record;
            let checksum = checksum_of(record);
            insert.execute(params![signed(*ts), signed(*previous), body, checksum])?;
        }
    }
    transaction.commit()
}

/// Opens a log after a failure, without what was undone after `newest`: no power cut brings it
/// back.
fn repaired(path: &Path, newest: u64, mark: &Mark) -> Result<Connection, StoreError> {
    let connection = open_log(path)?;
    let removed = connection
        .execute("DELETE FROM log WHERE ts > ?1", [signed(newest)])
        .and_then(|_| emptied(&connection));
    removed.map_err(|error| failed(LOG, &error))?;
    // SQLite syncs neither that the write-ahead log was emptied nor that it was removed.
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let synced = sync(Path::new(&wal)).and_then(|()| path.parent().map_or(Ok(()), sync));
    synced.map_err(|error| StoreError::of(LOG, &error))?;
    mark.keep(newest)?;
    Ok(connection)
}

/// Moves the whole write-ahead log into the database and syncs both.
pub(super) fn emptied(connection: &Connection) -> Result<(), rusqlite::Error> {
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy == 0 {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Err(rusqlite::Error::SqliteFailure(code, Some("its write-ahead log is being read".to_owned())))
}
