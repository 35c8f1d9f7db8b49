//! Commits in two SQLite databases of a folder: `log.sqlite` and `state.sqlite`.
//!
//! In: records and changes. Out: the same, from disk. Invariant: a record, a pair and the
//! checkpoint as a whole carry SHA-256 checksums of what they say and of where they stand, so that
//! a flipped bit, a lost row and a row too many are found when they are read.
//!
//! Two databases, because SQLite has one writer each: a checkpoint never stands in the way of a
//! commit. For the same reason the write-ahead log is moved into its database beside the commits,
//! by a connection of its own; once all of it is moved it is written again from its beginning, in
//! place, which syncs several times as fast as a file that grows. After a failed write the
//! connection is opened anew, and its write-ahead log emptied before the next commit: what a failed
//! sync left in it must not lie before what comes.

mod connection;
mod mark;
mod state;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{Connection, params};

use crate::log::{Changes, LogStore, Record, StoreError, Take};
use connection::{failed, open, open_log, open_to_read};
use mark::Mark;
use state::State;

pub(crate) const LOG: &str = "log.sqlite";

/// Pages of the write-ahead log that are moved while commits wait, at most: some milliseconds.
const LAST_PAGES: i64 = 64;
/// Times that the rest is moved beside the commits: each time there is less of it.
const MOVES: usize = 8;

/// The first bytes of a SHA-256.
type Checksum = [u8; 16];

/// A folder's commits.
pub struct SqliteLog {
    /// Before the writer, which is then closed as the last one, and tidies up.
    reader: Mutex<Connection>,
    writer: Mutex<Writer>,
    /// Moves the write-ahead log into its database.
    mover: Mutex<Connection>,
    state: Mutex<State>,
    /// The newest timestamp that an earlier process is known to have kept.
    promised: u64,
}

struct Writer {
    path: PathBuf,
    /// `None` after a failure, until the log works again.
    connection: Option<Connection>,
    /// The newest record that is durable.
    newest: u64,
    mark: Mark,
}

impl SqliteLog {
    /// Makes the two databases; history begins at `at`. The folder appears when they are whole.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path, at: u64) -> Result<Self, StoreError> {
        let draft = folder.with_extension("draft");
        let named = |error: std::io::Error| StoreError::of("db", &error);
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(named)?;
        }
        fs::create_dir_all(&draft).map_err(named)?;
        Self::fill(&draft, at)?;
        let sync = |path: &Path| File::open(path)?.sync_all();
        let parent = folder.parent().unwrap_or(folder);
        let moved = sync(&draft).and_then(|()| fs::rename(&draft, folder));
        moved.and_then(|()| sync(parent)).map_err(named)?;
        Self::open(folder)
    }

    fn fill(folder: &Path, at: u64) -> Result<(), StoreError> {
        let path = folder.join(LOG);
        let connection = open(&path)?;
        connection
            .execute_batch(
                "CREATE TABLE log(ts INTEGER PRIMARY KEY, previous INTEGER NOT NULL,
                     body BLOB NOT NULL, checksum BLOB NOT NULL) STRICT;",
            )
            .map_err(|error| failed(LOG, &error))?;
        State::create(folder, at)?;
        Mark::create(folder)
    }

    /// Opens them.
    ///
    /// # Errors
    /// The system's, or a file that is no SQLite database.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(LOG);
        let connection = open_log(&path)?;
        let state = State::open(folder)?;
        let newest: Option<i64> = connection
            .query_row("SELECT max(ts) FROM log", [], |row| row.get(0))
            .map_err(|error| failed(LOG, &error))?;
        let newest = newest.map_or(state.at(), unsigned);
        let (mark, promised) = Mark::open(folder)?;
        let writer = Writer { path: path.clone(), connection: Some(connection), newest, mark };
        Ok(Self {
            reader: Mutex::new(open_to_read(&path)?),
            writer: Mutex::new(writer),
            mover: Mutex::new(open(&path)?),
            state: Mutex::new(state),
            promised,
        })
    }

    /// The newest timestamp that is known to have been kept: what is read must reach it.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Drops every record after `ts`: the operator gave them up.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&self, ts: u64) -> Result<usize, StoreError> {
        let mut writer = lock(&self.writer);
        let connection = writer.connection()?;
        let gone = connection
            .execute("DELETE FROM log WHERE ts > ?1", [signed(ts)])
            .map_err(|error| failed(LOG, &error))?;
        writer.newest = ts;
        writer.mark.lower(ts)?;
        Ok(gone)
    }
}

impl Writer {
    /// The connection, opened anew after a failure.
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = open_log(&self.path)?;
                let repaired = connection
                    .execute("DELETE FROM log WHERE ts > ?1", [signed(self.newest)])
                    .and_then(|_| emptied(&connection));
                repaired.map_err(|error| failed(LOG, &error))?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn append(&mut self, records: &[Record]) -> Result<(), rusqlite::Error> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let transaction = connection.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO log VALUES(?1, ?2, ?3, ?4)")?;
            for record in records {
                let Record { ts, previous, body } = record;
                let checksum = checksum_of(record);
                insert.execute(params![signed(*ts), signed(*previous), body, checksum])?;
            }
        }
        transaction.commit()
    }
}

/// Moves what it can of the write-ahead log into the database, and syncs that. Gives how many pages
/// are left.
fn moved(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let pages = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages)
}

/// Moves the whole write-ahead log into the database and syncs both.
fn emptied(connection: &Connection) -> Result<(), rusqlite::Error> {
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy == 0 {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Err(rusqlite::Error::SqliteFailure(code, Some("its write-ahead log is being read".to_owned())))
}

impl LogStore for SqliteLog {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        writer.connection()?;
        if let Err(error) = writer.append(records) {
            writer.connection = None;
            return Err(failed(LOG, &error));
        }
        if let Some(last) = records.last() {
            writer.newest = last.ts;
            writer.mark.raise(last.ts);
        }
        Ok(())
    }

    fn read(&self, after: u64, bytes: usize) -> Result<Vec<Record>, StoreError> {
        let reader = lock(&self.reader);
        let failed = |error| failed(LOG, &error);
        let mut select = reader
            .prepare_cached(
                "SELECT ts, previous, body, checksum FROM log WHERE ts > ?1 ORDER BY ts",
            )
            .map_err(failed)?;
        let mut rows = select.query([signed(after)]).map_err(failed)?;
        let (mut records, mut left) = (Vec::<Record>::new(), bytes);
        while let Some(row) = rows.next().map_err(failed)? {
            let (record, checksum) = record(row).map_err(failed)?;
            if !records.is_empty() && record.body.len() > left {
                break;
            }
            let ts = record.ts;
            if checksum != checksum_of(&record) {
                return Err(damaged(&format!("the commit at {ts} is not what was written")));
            }
            let before = records.last().map(|before| before.ts);
            if before.is_some_and(|before| before != record.previous) {
                return Err(damaged(&format!("commits before {ts} are missing")));
            }
            left = left.saturating_sub(record.body.len());
            records.push(record);
            if left == 0 {
                break;
            }
        }
        Ok(records)
    }

    fn load(&self, take: Take<'_>) -> Result<u64, StoreError> {
        lock(&self.state).load(take)
    }

    fn checkpoint(&self, ts: u64, changes: &Changes) -> Result<(), StoreError> {
        lock(&self.state).checkpoint(ts, changes)
    }

    fn trim(&self, ts: u64, count: usize) -> Result<usize, StoreError> {
        let mut writer = lock(&self.writer);
        let trim = "DELETE FROM log WHERE ts IN
            (SELECT ts FROM log WHERE ts <= ?1 ORDER BY ts LIMIT ?2)";
        let connection = writer.connection()?;
        // The next commit syncs it; without one, what came back is trimmed again.
        let trimmed = connection
            .pragma_update(None, "synchronous", "normal")
            .and_then(|()| connection.prepare_cached(trim))
            .and_then(|mut trim| trim.execute(params![signed(ts), count as i64]))
            .and_then(|count| {
                connection.pragma_update(None, "synchronous", "full").map(|()| count)
            });
        trimmed.map_err(|error| {
            writer.connection = None;
            failed(LOG, &error)
        })
    }

    fn settle(&self) -> Result<(), StoreError> {
        let mover = lock(&self.mover);
        for _ in 0..MOVES {
            if moved(&mover).map_err(|error| failed(LOG, &error))? <= LAST_PAGES {
                break;
            }
        }
        // Nothing comes meanwhile: the next commit finds the log empty and begins it anew.
        let mut writer = lock(&self.writer);
        let last = moved(writer.connection()?);
        last.map(drop).map_err(|error| {
            writer.connection = None;
            failed(LOG, &error)
        })
    }

    fn size(&self) -> Result<u64, StoreError> {
        let reader = lock(&self.reader);
        Ok(connection::size(LOG, &reader)? + lock(&self.state).size()?)
    }
}

fn record(row: &rusqlite::Row<'_>) -> Result<(Record, Vec<u8>), rusqlite::Error> {
    let ts = unsigned(row.get(0)?);
    let record = Record { ts, previous: unsigned(row.get(1)?), body: row.get(2)? };
    Ok((record, row.get(3)?))
}

fn checksum_of(record: &Record) -> Checksum {
    let Record { ts, previous, body } = record;
    checksum(&[&ts.to_le_bytes(), &previous.to_le_bytes(), body])
}

/// Over parts that cannot run into each other: all but the last have a fixed length, or their
/// length is a part.
fn checksum(parts: &[&[u8]]) -> Checksum {
    let mut hash = Context::new(&SHA256);
    parts.iter().for_each(|part| hash.update(part));
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&hash.finish().as_ref()[..16]);
    checksum
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { file: LOG.to_owned(), what: what.to_owned() }
}

/// Timestamps fit into SQLite's integers until the year 2262; beyond it the order would break.
fn signed(ts: u64) -> i64 {
    i64::try_from(ts).unwrap_or(i64::MAX)
}

fn unsigned(ts: i64) -> u64 {
    u64::try_from(ts).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves a connection whose transaction is rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
