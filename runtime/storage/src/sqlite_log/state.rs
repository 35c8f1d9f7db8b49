//! The checkpoint: every pair, as of one timestamp.
//!
//! In: changes of pairs. Out: the pairs. Invariant: the row that says when also says how many pairs
//! there are and the sum of their checksums; both change in the transaction that changes the pairs.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::connection::{create, failed, open, size};
use super::writer::emptied;
use super::{Checksum, checksum, signed, unsigned};
use crate::log::{Changes, StoreError, Take};

const STATE: &str = "state.sqlite";

/// Pages of it in memory; a negative number, SQLite's way to say KiB. What many commits change is
/// read and written once in each checkpoint.
const CACHE_KIB: i32 = -8_192;

/// The database.
pub(super) struct State {
    connection: Connection,
    whole: Whole,
}

/// What is known of all pairs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whole {
    ts: u64,
    pairs: u64,
    /// Of the checksums of all pairs, modulo 2¹²⁸: it does not depend on their order.
    sum: u128,
}

impl Whole {
    fn checksum(&self) -> Checksum {
        let Self { ts, pairs, sum } = self;
        checksum(&[&ts.to_le_bytes(), &pairs.to_le_bytes(), &sum.to_le_bytes()])
    }

    fn add(&mut self, pair: Checksum) {
        self.pairs += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(pair));
    }

    fn remove(&mut self, pair: Checksum) {
        self.pairs = self.pairs.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(u128::from_le_bytes(pair));
    }

    fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let Self { ts, pairs, sum } = *self;
        let row = params![signed(ts), signed(pairs), sum.to_le_bytes(), self.checksum()];
        let replace = "INSERT OR REPLACE INTO whole VALUES(1, ?1, ?2, ?3, ?4)";
        connection.execute(replace, row).map(drop)
    }

    fn read(connection: &Connection) -> Result<Self, StoreError> {
        let row = connection.query_row(
            "SELECT ts, pairs, sum, checksum FROM whole WHERE one = 1",
            [],
            |row| {
                let sum = u128::from_le_bytes(row.get(2)?);
                let whole = Self { ts: unsigned(row.get(0)?), pairs: unsigned(row.get(1)?), sum };
                Ok((whole, row.get::<_, Checksum>(3)?))
            },
        );
        match row {
            Ok((whole, checksum)) if whole.checksum() == checksum => Ok(whole),
            Ok(_) => Err(damaged("when it was made is not what was written")),
            Err(rusqlite::Error::QueryReturnedNoRows) => Err(damaged("it does not say when")),
            Err(error) => Err(failed(STATE, &error)),
        }
    }
}

impl State {
    /// Makes it, empty.
    pub(super) fn create(folder: &Path, at: u64) -> Result<(), StoreError> {
        let connection = create(&folder.join(STATE))?;
        let whole = Whole { ts: at, pairs: 0, sum: 0 };
        let made = connection
            .execute_batch(
                "CREATE TABLE state(key BLOB PRIMARY KEY, value BLOB NOT NULL,
                     checksum BLOB NOT NULL) STRICT, WITHOUT ROWID;
                 CREATE TABLE whole(one INTEGER PRIMARY KEY, ts INTEGER NOT NULL,
                     pairs INTEGER NOT NULL, sum BLOB NOT NULL, checksum BLOB NOT NULL) STRICT;",
            )
            .and_then(|()| whole.write(&connection));
        made.map_err(|error| failed(STATE, &error))
    }

    /// Opens it.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let connection = open(&folder.join(STATE))?;
        let cached = connection.pragma_update(None, "cache_size", CACHE_KIB);
        cached.map_err(|error| failed(STATE, &error))?;
        let whole = Whole::read(&connection)?;
        // Of a host that was killed. Where there is no room for it, it can stay.
        let _ = emptied(&connection);
        Ok(Self { connection, whole })
    }

    /// When it was made.
    pub(super) fn at(&self) -> u64 {
        self.whole.ts
    }

    pub(super) fn size(&self) -> Result<u64, StoreError> {
        size(STATE, &self.connection)
    }

    pub(super) fn load(&self, take: Take<'_>) -> Result<u64, StoreError> {
        let failed = |error| failed(STATE, &error);
        let mut found = Whole { pairs: 0, sum: 0, ..self.whole };
        let mut select = self
            .connection
            .prepare("SELECT key, value, checksum FROM state ORDER BY key")
            .map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let blob = |at| row.get_ref(at).map_err(failed)?.as_blob().map_err(|_| no_bytes());
            let (key, value, kept) = (blob(0)?, blob(1)?, blob(2)?);
            let checksum = checksum_of(key, value);
            if checksum != kept {
                return Err(damaged("a pair is not what was written"));
            }
            found.add(checksum);
            take(key, value).map_err(|what| damaged(&what))?;
        }
        if found != self.whole {
            let (is, was) = (found.pairs, self.whole.pairs);
            return Err(damaged(&format!("{is} pairs are there, and {was} were written")));
        }
        Ok(self.whole.ts)
    }

    /// Moves the write-ahead log into the database, and gives its room back.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        emptied(&self.connection).map_err(|error| failed(STATE, &error))
    }

    pub(super) fn checkpoint(&mut self, ts: u64, changes: &Changes) -> Result<(), StoreError> {
        let mut whole = Whole { ts, ..self.whole };
        let mut written = || {
            let transaction = self.connection.transaction()?;
            if let Some(forgotten) = &changes.forgotten {
                forget(&transaction, &mut whole, (&forgotten.start, &forgotten.end))?;
            }
            for (key, value) in &changes.pairs {
                write(&transaction, &mut whole, key, value.as_deref())?;
            }
            whole.write(&transaction)?;
            transaction.commit()
        };
        let written: Result<(), rusqlite::Error> = written();
        written.map_err(|error| failed(STATE, &error))?;
        self.whole = whole;
        Ok(())
    }
}

fn write(
    transaction: &Transaction<'_>,
    whole: &mut Whole,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), rusqlite::Error> {
    let mut find = transaction.prepare_cached("SELECT checksum FROM state WHERE key = ?1")?;
    let old: Option<Checksum> = find.query_row([key], |row| row.get(0)).optional()?;
    old.into_iter().for_each(|old| whole.remove(old));
    let Some(value) = value else {
        let mut delete = transaction.prepare_cached("DELETE FROM state WHERE key = ?1")?;
        return delete.execute([key]).map(drop);
    };
    let checksum = checksum_of(key, value);
    whole.add(checksum);
    let replace = "INSERT OR REPLACE INTO state VALUES(?1, ?2, ?3)";
    transaction.prepare_cached(replace)?.execute(params![key, value, checksum]).map(drop)
}

fn forget(
    transaction: &Transaction<'_>,
    whole: &mut Whole,
    (start, end): (&[u8], &[u8]),
) -> Result<(), rusqlite::Error> {
    let range = "FROM state WHERE key >= ?1 AND key < ?2";
    let mut select = transaction.prepare(&format!("SELECT checksum {range}"))?;
    let mut rows = select.query([start, end])?;
    while let Some(row) = rows.next()? {
        whole.remove(row.get(0)?);
    }
    transaction.execute(&format!("DELETE {range}"), [start, end]).map(drop)
}

fn checksum_of(key: &[u8], value: &[u8]) -> Checksum {
    checksum(&[&(key.len() as u64).to_le_bytes(), key, value])
}

fn no_bytes() -> StoreError {
    damaged("a pair has no bytes")
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { file: STATE.to_owned(), what: what.to_owned() }
}
