//! A store of commits: a log that is appended to, and a checkpoint of what its past came to.
//!
//! ```text
//!   records ─append─▶ log ──(fold)──▶ checkpoint at T: every pair      trim: records up to T go
//!                      └─ read: after T, in order                      load: the pairs, by key
//! ```
//! In: records of bytes by timestamp, changes of pairs. Out: the same, in another process.
//! Invariant: what `append` returned from is there after any crash, whole and in order; a call that
//! failed changed nothing that `read` or `load` shows, in this process or the next one. Bytes that
//! are not those that were written are an error, never a result. Calls block as long as the disk
//! does.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use thiserror::Error;

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its timestamp: nanoseconds since the Unix epoch, greater than every one before.
    pub ts: u64,
    /// The timestamp of the commit before it.
    pub previous: u64,
    /// What it did.
    pub body: Vec<u8>,
}

/// What commits did to the pairs.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// By key; `None`: the pair is gone.
    pub pairs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Pairs with these keys are no longer needed.
    pub forgotten: Option<Range<Vec<u8>>>,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// No room.
    #[error("the disk is full ({0})")]
    Full(String),
    /// The system failed.
    #[error("the disk failed ({0})")]
    Failed(String),
    /// This user may not.
    #[error("this user must be able to read and to write it, and is not ({0})")]
    Denied(String),
    /// An append failed, and so did the note that says so.
    #[error(
        "{cause}; it could not even be noted that this is undone ({note}), so a restart may bring \
         it back"
    )]
    Unclear {
        /// Why it failed.
        cause: Box<Self>,
        /// Why the note failed.
        note: Box<Self>,
    },
    /// A timestamp cannot be written.
    #[error(
        "the system's clock is wrong: its time, {0} ns after 1970, is beyond the year 2262, and \
         nothing can be written then"
    )]
    Late(u64),
    /// Bytes are not those that were written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
}

impl StoreError {
    /// A file that is always there is not.
    pub(crate) fn missing(file: &str) -> Self {
        Self::Damaged { file: file.to_owned(), what: "it is missing".to_owned() }
    }

    /// A file that always holds something does not.
    pub(crate) fn empty(file: &str) -> Self {
        Self::Damaged { file: file.to_owned(), what: "it is empty".to_owned() }
    }

    /// What the system said about a file.
    pub fn of(file: &str, error: &io::Error) -> Self {
        let text = format!("{file}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied(text),
            io::ErrorKind::StorageFull => Self::Full(text),
            _ => Self::Failed(text),
        }
    }
}

/// Takes the pairs of a checkpoint in; an error says what is wrong with one.
pub type Take<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), String>;

/// A store of commits.
pub trait LogStore: Send + Sync + 'static {
    /// Appends records, oldest first. They are durable when it returns.
    ///
    /// # Errors
    /// None of them was kept, and none comes back, but for [`StoreError::Unclear`].
    fn append(&self, records: &[Record]) -> Result<(), StoreError>;

    /// The records after `after`, oldest first: at least one if there is one, then as many as
    /// `bytes` hold, up to one that is damaged or that does not follow on the one before it.
    /// Whether the first one follows on `after` is the caller's to check.
    ///
    /// # Errors
    /// The first record is damaged.
    fn read(&self, after: u64, bytes: usize) -> Result<Vec<Record>, StoreError>;

    /// Hands out the pairs of the checkpoint by key, and gives its timestamp.
    ///
    /// # Errors
    /// Pairs that are not those that were kept, or that `take` refuses.
    fn load(&self, take: Take<'_>) -> Result<u64, StoreError>;

    /// Moves the checkpoint to `ts`, durably.
    ///
    /// # Errors
    /// It stays where it was.
    fn checkpoint(&self, ts: u64, changes: &Changes) -> Result<(), StoreError>;

    /// Forgets records up to `ts`, at most `count` of them. Says how many. Some may be back after a
    /// crash.
    ///
    /// # Errors
    /// The system's.
    fn trim(&self, ts: u64, count: usize) -> Result<usize, StoreError>;

    /// Brings what was appended and trimmed into its place, beside further appends: worth it every
    /// few thousand records. A store that keeps everything in one place has nothing to do.
    ///
    /// # Errors
    /// The system's; nothing is lost.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What it takes, in bytes: the log's records and the checkpoint's pairs.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> Result<u64, StoreError>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(ts: u64, previous: u64, body: &str) -> Record {
        Record { ts, previous, body: body.as_bytes().to_vec() }
    }

    pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    pub(crate) fn pairs(store: &dyn LogStore) -> (u64, Pairs) {
        let mut all = Vec::new();
        let ts = store.load(&mut |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(())
        });
        (ts.unwrap(), all)
    }

    pub(crate) fn changes(pairs: &[(&str, Option<&str>)]) -> Changes {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let pairs = pairs.iter().map(|(key, value)| (bytes(key), value.map(bytes)));
        Changes { pairs: pairs.collect(), forgotten: None }
    }

    /// What every store does; it begins at 5.
    pub(crate) fn behaves(store: &dyn LogStore) {
        let all = [record(7, 5, "a"), record(9, 7, ""), record(12, 9, "ccc")];
        store.append(&all[..2]).unwrap();
        store.append(&all[2..]).unwrap();
        assert_eq!(store.read(5, 1 << 20).unwrap(), all);
        assert_eq!(store.read(7, 0).unwrap(), all[1..2], "one at least");
        assert_eq!(store.read(12, 9).unwrap(), []);
        assert_eq!(pairs(store), (5, vec![]));
        store.checkpoint(7, &changes(&[("x", Some("1")), ("y", Some("2"))])).unwrap();
        let mut next = changes(&[("x", Some("3")), ("gone", None), ("z", Some("4"))]);
        next.forgotten = Some(b"y".to_vec()..b"z".to_vec());
        store.checkpoint(9, &next).unwrap();
        let bytes = |text: &str| text.as_bytes().to_vec();
        let expected = vec![(bytes("x"), bytes("3")), (bytes("z"), bytes("4"))];
        assert_eq!(pairs(store), (9, expected));
        assert_eq!(store.trim(9, 1).unwrap(), 1);
        assert_eq!(store.trim(9, 10).unwrap(), 1);
        assert_eq!(store.trim(9, 10).unwrap(), 0);
        store.settle().unwrap();
        assert_eq!(store.read(9, 1 << 20).unwrap(), all[2..]);
        store.checkpoint(12, &changes(&[("x", None)])).unwrap();
        assert_eq!(pairs(store), (12, vec![(bytes("z"), bytes("4"))]));
        assert!(store.size().unwrap() > 0);
    }
}
