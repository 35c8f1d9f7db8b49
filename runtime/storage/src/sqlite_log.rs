//! Commits in two SQLite databases of a folder: `log.sqlite` and `state.sqlite`.
//!
//! In: records and changes. Out: the same, from disk. Invariant: a record, a pair and the
//! checkpoint as a whole carry SHA-256 checksums of what they say and of where they stand, so that
//! a flipped bit, a lost row and a row too many are found when they are read.
//!
//! Two databases, because SQLite has one writer each: a checkpoint never stands in the way of a
//! commit. For the same reason the write-ahead log is moved into its database beside the commits,
//! by a connection of its own; once all of it is moved it is written again from its beginning, in
//! place, which syncs several times as fast as a file that grows.
//!
//! ```text
//! connection.rs  SQLite, its errors        state.rs   the checkpoint
//! writer.rs      appends and undoes        mark.rs    what was kept, outside of SQLite
//! cut.rs         a new log in place of one that is damaged
//! ```

mod connection;
mod cut;
mod mark;
mod state;
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::Connection;

use crate::log::{Changes, LogStore, Record, StoreError, Take};
use connection::{failed, open, open_to_read};
use cut::NewLog;
use mark::{Mark, Said};
use state::State;
use writer::Writer;

pub(crate) const LOG: &str = "log.sqlite";

/// Pages of the write-ahead log that are moved while commits wait, at most: some milliseconds.
const LAST_PAGES: i64 = 64;
/// Times that the rest is moved beside the commits: each time there is less of it.
const MOVES: usize = 8;
/// Bytes of records that are read at once where a log is written anew.
const STEP_BYTES: usize = 8 << 20;

/// The first bytes of a SHA-256.
type Checksum = [u8; 16];

/// A folder's commits. Where the checkpoint is whole and the rest is not, it can be read as far as
/// it is whole, and cut there; nothing can be appended.
pub struct SqliteLog {
    folder: PathBuf,
    /// Before the writer, which is then closed as the last one, and tidies up.
    reader: Result<Mutex<Connection>, StoreError>,
    /// What appends; else what is damaged.
    kept: Result<Kept, StoreError>,
    /// Records after it were undone, and could not be removed.
    undone: Option<u64>,
    state: Mutex<State>,
}

/// What appends, and what is known of those who did before.
struct Kept {
    writer: Mutex<Writer>,
    /// Moves the write-ahead log into its database.
    mover: Mutex<Connection>,
    /// The newest timestamp that an earlier process is known to have kept.
    promised: u64,
}

impl SqliteLog {
    /// Makes the two databases; history begins at `at`. The folder appears when they are whole.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path, at: u64) -> Result<Self, StoreError> {
        check_time(at)?;
        let draft = draft_of(folder);
        let named = |error: std::io::Error| StoreError::of("db", &error);
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(named)?;
        }
        fs::create_dir_all(&draft).map_err(named)?;
        NewLog::create(&draft.join(LOG)).and_then(NewLog::finish)?;
        State::create(&draft, at)?;
        Mark::create(&draft, 0)?;
        let parent = folder.parent().unwrap_or(folder);
        let moved = sync(&draft).and_then(|()| fs::rename(&draft, folder));
        moved.and_then(|()| sync(parent)).map_err(named)?;
        Self::open(folder)
    }

    /// Opens them.
    ///
    /// # Errors
    /// The system's, or a checkpoint that is damaged. Damage of the rest shows where it is read or
    /// asked what it promised.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        cut::finish(folder)?;
        let path = folder.join(LOG);
        let state = State::open(folder)?;
        let marked = if_damaged(Mark::open(folder))?;
        let undone = match &marked {
            Ok((_, Said::Undone(ts))) => Some(*ts),
            _ => None,
        };
        let kept = match marked {
            Ok(marked) => if_damaged(Kept::open(&path, marked, state.at()))?,
            Err(damaged) => Err(damaged),
        };
        let undone = undone.filter(|_| kept.is_err());
        let reader = if_damaged(open_to_read(&path, kept.is_err()))?.map(Mutex::new);
        Ok(Self { folder: folder.to_owned(), reader, kept, undone, state: Mutex::new(state) })
    }

    /// The newest timestamp that is known to have been kept: what is read must reach it.
    ///
    /// # Errors
    /// What is damaged.
    pub fn promised(&self) -> Result<u64, StoreError> {
        self.kept().map(|kept| kept.promised)
    }

    /// Drops every record after `ts`: the operator gave them up. What is whole, from the checkpoint
    /// to `ts`, goes to a new log: a damaged one is not written to. The old one stays beside it.
    ///
    /// # Errors
    /// The system's, or a record up to `ts` that is damaged. Nothing has changed then.
    pub fn cut(self, ts: u64) -> Result<Self, StoreError> {
        let mut at = lock(&self.state).at();
        let mut new = NewLog::create(&self.folder.join(cut::DRAFT))?;
        while at < ts {
            let mut records = self.read(at, STEP_BYTES)?;
            records.retain(|record| record.ts <= ts);
            let follows = records.first().is_some_and(|first| first.previous == at);
            let Some(last) = records.last().filter(|_| follows) else {
                return Err(damaged(&format!("commits between {at} and {ts} are missing")));
            };
            at = last.ts;
            new.append(&records)?;
        }
        if at != ts {
            return Err(damaged(&format!("no commit is at {ts}")));
        }
        new.finish()?;
        let folder = self.folder.clone();
        // Nobody has the old one open while it is moved.
        drop(self);
        cut::put_in_place(&folder)?;
        // Last: until then the mark promises more than there is, and a start tells it.
        Mark::create(&folder, ts)?;
        Self::open(&folder)
    }

    fn kept(&self) -> Result<&Kept, StoreError> {
        self.kept.as_ref().map_err(Clone::clone)
    }

    fn reader(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        self.reader.as_ref().map(lock).map_err(Clone::clone)
    }
}

/// Where a folder of commits is made.
pub(crate) fn draft_of(folder: &Path) -> PathBuf {
    folder.with_extension("draft")
}

/// Damage is told later, everything else at once.
fn if_damaged<T>(opened: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match opened {
        Err(error) if !matches!(error, StoreError::Damaged { .. }) => Err(error),
        opened => Ok(opened),
    }
}

impl Kept {
    fn open(path: &Path, (mark, said): (Mark, Said), at: u64) -> Result<Self, StoreError> {
        let (Said::Kept(promised) | Said::Undone(promised)) = said;
        let writer = Mutex::new(Writer::open(path, (mark, said), at)?);
        Ok(Self { writer, mover: Mutex::new(open(path)?), promised })
    }
}

/// Moves what it can of the write-ahead log into the database, and syncs that. Gives how many pages
/// are left.
fn moved(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let pages = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages)
}

impl LogStore for SqliteLog {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        records.iter().try_for_each(|record| check_time(record.ts))?;
        lock(&self.kept()?.writer).append(records)
    }

    fn read(&self, after: u64, bytes: usize) -> Result<Vec<Record>, StoreError> {
        let reader = self.reader()?;
        let failed = |error| failed(LOG, &error);
        let mut select = reader
            .prepare_cached(
                "SELECT ts, previous, body, checksum FROM log WHERE ts > ?1 AND ts <= ?2
                 ORDER BY ts",
            )
            .map_err(failed)?;
        let end = self.undone.unwrap_or(u64::MAX);
        let mut rows = select.query([signed(after), signed(end)]).map_err(failed)?;
        let (mut records, mut left) = (Vec::<Record>::new(), bytes);
        loop {
            let record = match next(&mut rows, records.last()) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(why) if records.is_empty() => return Err(why),
                // Whoever reads on meets it as the first one.
                Err(_) => break,
            };
            if !records.is_empty() && record.body.len() > left {
                break;
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
        lock(&self.kept()?.writer).trim(ts, count)
    }

    fn settle(&self) -> Result<(), StoreError> {
        // Before the log: it gives room back. Whatever comes of it, the log is next.
        let state = lock(&self.state).settle();
        let kept = self.kept()?;
        let mover = lock(&kept.mover);
        for _ in 0..MOVES {
            if moved(&mover).map_err(|error| failed(LOG, &error))? <= LAST_PAGES {
                break;
            }
        }
        // Nothing comes meanwhile: the next commit finds the log empty and begins it anew.
        lock(&kept.writer).settle().and(state)
    }

    fn size(&self) -> Result<u64, StoreError> {
        let reader = self.reader()?;
        Ok(connection::size(LOG, &reader)? + lock(&self.state).size()?)
    }
}

/// The next record, which follows on the one before it.
fn next(
    rows: &mut rusqlite::Rows<'_>,
    before: Option<&Record>,
) -> Result<Option<Record>, StoreError> {
    let row = rows.next().map_err(|error| failed(LOG, &error))?;
    let Some(row) = row else { return Ok(None) };
    let (record, checksum) = record(row).map_err(|error| failed(LOG, &error))?;
    let ts = record.ts;
    if checksum != checksum_of(&record) {
        return Err(damaged(&format!("the commit at {ts} is not what was written")));
    }
    if before.is_some_and(|before| before.ts != record.previous) {
        return Err(damaged(&format!("commits before {ts} are missing")));
    }
    Ok(Some(record))
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

/// Beyond SQLite's integers the order would break.
fn check_time(ts: u64) -> Result<(), StoreError> {
    i64::try_from(ts).map(drop).map_err(|_| StoreError::Late(ts))
}

/// Timestamps fit into SQLite's integers until the year 2262; what is written is checked.
fn signed(ts: u64) -> i64 {
    i64::try_from(ts).unwrap_or(i64::MAX)
}

fn unsigned(ts: i64) -> u64 {
    u64::try_from(ts).unwrap_or(0)
}

/// Makes a file, or a change of names in a folder, durable.
fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves a connection whose transaction is rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
