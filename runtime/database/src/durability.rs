//! Durable before told: which snapshot may leave the process, and who waits for a newer one.
//!
//! ```text
//!   publish ─▶ newest ─▶ Journal::append ─▶ (the log store) ─▶ made_durable ─▶ snapshot()
//!                                               └─ fails ────▶ undo: back to snapshot()
//! ```
//! In: commits, in order; how far the log store has come. Out: [`Database::snapshot`], calls of
//! those who waited. Invariant: what is told was read at `snapshot()` or waited for its timestamp;
//! a timestamp that was undone never comes again and never counts as durable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::commit::{Conflict, Database, Writer};
use crate::error::{PushError, Refusal, UserError};
use crate::log::LogEntry;
use crate::record::Timestamp;
use crate::snapshot::Snapshot;
use crate::subscriptions::Watcher;

/// The code of errors whose commit could not be made durable.
pub const NOT_DURABLE: &str = "NotDurable";

/// The index of a [`Conflict`] with a commit that was undone.
pub(crate) const UNDONE: &str = "undone";

/// Takes commits to where they are kept.
pub trait Journal: Send + Sync + 'static {
    /// Takes a commit in. Called in commit order under the log's lock: it must not block.
    fn append(&self, entry: &Arc<LogEntry>);

    /// Drops what was taken in and is not durable yet: it has been undone. Under the same lock.
    fn forget(&self);
}

/// A commit was undone, because the log store could not keep it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "The change could not be made durable, so it was undone and nothing was committed: {why}. Try \
     again when the disk works."
)]
pub struct NotDurable {
    /// The store's words.
    pub why: Arc<str>,
}

impl NotDurable {
    /// Whoever was to say how a commit ended has gone: nobody may take it for kept.
    pub fn unsaid() -> Self {
        Self { why: "the host is shutting down".into() }
    }
}

impl From<NotDurable> for Refusal {
    fn from(error: NotDurable) -> Self {
        Self::Overloaded { code: NOT_DURABLE, message: error.to_string() }
    }
}

impl From<NotDurable> for UserError {
    fn from(error: NotDurable) -> Self {
        Self::new(NOT_DURABLE, error.to_string())
    }
}

impl From<NotDurable> for PushError {
    fn from(error: NotDurable) -> Self {
        Self::new(NOT_DURABLE, error.to_string())
    }
}

/// Called once, on whatever thread, when a timestamp is durable or was undone; must not block.
pub type Told = Box<dyn FnOnce(Result<(), NotDurable>) + Send>;

/// How far the log store has come.
pub(crate) struct Durability {
    /// The newest snapshot that it keeps; without a journal, the newest there is.
    durable: ArcSwap<Snapshot>,
    journal: OnceLock<Arc<dyn Journal>>,
    /// The newest timestamp that was undone, nanoseconds; 0: none.
    floor: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    told: BTreeMap<Timestamp, Vec<Told>>,
    watchers: BTreeMap<Timestamp, Vec<Arc<dyn Watcher>>>,
    undone: Vec<Undone>,
}

/// Commits that were undone: those after one timestamp, up to another.
struct Undone {
    after: Timestamp,
    until: Timestamp,
    why: NotDurable,
}

impl Undone {
    fn holds(&self, ts: Timestamp) -> bool {
        self.after < ts && ts <= self.until
    }
}

impl Durability {
    pub(crate) fn new(durable: Arc<Snapshot>) -> Self {
        Self {
            durable: ArcSwap::new(durable),
            journal: OnceLock::new(),
            floor: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    /// A commit that everybody sees now; `watchers` are told when it is durable. Under the log's
    /// lock; without it those are to be told that are given back: they saw the commit a moment
    /// before it counted as durable.
    pub(crate) fn appended(
        &self,
        entry: &Arc<LogEntry>,
        watchers: Vec<Arc<dyn Watcher>>,
    ) -> Vec<Told> {
        if let Some(journal) = self.journal.get() {
            // First, because the journal may be quick.
            if !watchers.is_empty() {
                self.waiting().watchers.insert(entry.ts, watchers);
            }
            journal.append(entry);
            return Vec::new();
        }
        self.durable.store(Arc::clone(&entry.snapshot));
        watchers.iter().for_each(|watcher| watcher.durable());
        self.waiting().told_until(entry.ts)
    }

    /// The newest timestamp that is durable.
    pub(crate) fn ts(&self) -> Timestamp {
        self.durable.load().ts
    }

    /// Timestamps up to here were given before, and undone.
    pub(crate) fn floor(&self) -> Timestamp {
        Timestamp(self.floor.load(Ordering::Acquire))
    }

    /// Why a transaction that began at a snapshot cannot commit: the snapshot was undone.
    pub(crate) fn conflict(&self, begun: Timestamp, reader: &Writer) -> Option<Conflict> {
        if self.floor() < begun {
            return None;
        }
        let waiting = self.waiting();
        let undone = waiting.undone.iter().find(|undone| undone.holds(begun))?;
        Some(Conflict {
            index: UNDONE.into(),
            table: "".into(),
            range: begun.to_string(),
            key: undone.after.to_string(),
            document: None,
            did: "could not be made durable, and was undone".into(),
            place: None,
            reader: reader.clone(),
            writer: Writer::new("a commit that it read", ""),
            at: undone.after,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No caller's code runs under this lock, so a poisoned state is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes out those who wait for a timestamp up to this one.
    fn told_until(&mut self, ts: Timestamp) -> Vec<Told> {
        let later = self.told.split_off(&Timestamp(ts.0 + 1));
        std::mem::replace(&mut self.told, later).into_values().flatten().collect()
    }

    fn undone(&self, ts: Timestamp) -> Option<&NotDurable> {
        self.undone.iter().find(|undone| undone.holds(ts)).map(|undone| &undone.why)
    }
}

impl Database {
    /// The newest snapshot that may be told: the log store keeps it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.durability.durable.load_full()
    }

    /// Why the newest commit could not be made durable; `None` while commits are kept.
    pub fn cannot_keep(&self) -> Option<NotDurable> {
        let durability = &self.durability;
        if durability.floor() <= durability.ts() {
            return None;
        }
        durability.waiting().undone.last().map(|undone| undone.why.clone())
    }

    /// From here on commits go to a journal. Once, before the first commit.
    pub fn keep_in(&self, journal: Arc<dyn Journal>) {
        let first = self.durability.journal.set(journal).is_ok();
        assert!(first, "a database has one journal");
    }

    /// Calls `told` when everything up to `ts` is durable, perhaps before this returns.
    pub fn when_durable(&self, ts: Timestamp, told: Told) {
        let durability = &self.durability;
        // In this order: what is durable after an undoing comes after the floor that it left.
        if ts <= durability.ts() && durability.floor() < ts {
            return told(Ok(()));
        }
        let answer = {
            let mut waiting = durability.waiting();
            match waiting.undone(ts) {
                Some(why) => Err(why.clone()),
                // Whoever moves it takes this lock afterwards.
                None if ts <= durability.ts() => Ok(()),
                None => return waiting.told.entry(ts).or_default().push(told),
            }
        };
        told(answer);
    }

    /// Waits until everything up to `ts` is durable. Not to be called while holding a turn.
    ///
    /// # Errors
    /// It was undone.
    pub fn wait_durable(&self, ts: Timestamp) -> Result<(), NotDurable> {
        let (tell, told) = mpsc::sync_channel(1);
        // The receiver lives below.
        self.when_durable(ts, Box::new(move |durable| drop(tell.send(durable))));
        told.recv().unwrap_or_else(|_| Err(NotDurable::unsaid()))
    }

    /// The journal keeps every commit up to this one.
    pub fn made_durable(&self, entry: &LogEntry) {
        let durability = &self.durability;
        assert!(entry.ts > durability.ts(), "the journal keeps commits in order");
        durability.durable.store(Arc::clone(&entry.snapshot));
        let (told, watchers) = {
            let mut waiting = durability.waiting();
            let told = waiting.told_until(entry.ts);
            let later = waiting.watchers.split_off(&Timestamp(entry.ts.0 + 1));
            (told, std::mem::replace(&mut waiting.watchers, later))
        };
        told.into_iter().for_each(|told| told(Ok(())));
        watchers.into_values().flatten().for_each(|watcher| watcher.durable());
    }

    /// The journal failed: what is not durable is undone, and whoever waits for it is told. Gives
    /// how many commits that were.
    pub fn undo(&self, why: &str) -> usize {
        let _turn = self.turn();
        let why = NotDurable { why: why.into() };
        let durable = self.snapshot();
        let (told, dropped) = {
            let mut log = self.log();
            let until = log.newest();
            if until == durable.ts {
                return 0;
            }
            let dropped = log.cut(durable.ts);
            if let Some(journal) = self.durability.journal.get() {
                journal.forget();
            }
            let oldest = log.oldest();
            self.newest.store(Arc::clone(&durable));
            let mut waiting = self.durability.waiting();
            self.durability.floor.store(until.0, Ordering::Release);
            // A transaction that began before the history conflicts with that.
            waiting.undone.retain(|undone| undone.until >= oldest);
            match waiting.undone.last_mut().filter(|last| last.after == durable.ts) {
                Some(last) => (last.until, last.why) = (until, why.clone()),
                None => {
                    let why = why.clone();
                    waiting.undone.push(Undone { after: durable.ts, until, why });
                }
            }
            // Watchers stay: their subscriptions are over, so they are due at the next commit.
            (std::mem::take(&mut waiting.told), dropped)
        };
        told.into_values().flatten().for_each(|told| told(Err(why.clone())));
        dropped.len()
    }
}
