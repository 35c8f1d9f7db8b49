//! Stop 7 of 8, invalidation: which live read sets does a commit touch?
//!
//! In: read sets that somebody still relies on, and commits. Out: one [`Invalidation`] per read set
//! touched, with the range that was read, the key that was written, and by whom.
//! Invariant: no commit is missed. A read set is compared with the log and entered into the index
//! under the lock that commits append under, so each commit is seen by one of the two.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cache::CachedResult;
use crate::commit::{FORGOTTEN, HISTORY, Writer};
use crate::document::Document;
pub use crate::explain::Explanation;
use crate::explain::{explain, sentence};
use crate::intervals::Intervals;
use crate::key::{Interval, Key};
use crate::log::{Log, LogEntry, Overlap};
use crate::probe::Place;
use crate::read_set::ReadSet;
use crate::record::Timestamp;
use crate::snapshot::IndexId;

/// Names a subscription; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u64);

/// Who relies on a read set.
#[derive(Clone, Debug)]
pub enum Owner {
    /// An entry of the query cache.
    Cache(Weak<CachedResult>),
    /// Somebody else.
    Watcher(Weak<dyn Watcher>),
}

/// Relies on what a function read, and wants to know when that ends.
pub trait Watcher: Send + Sync {
    /// A commit ended it. Called under the log's lock, before anybody can see the commit, so that
    /// whoever sees a snapshot knows of everything that ended with it. It must not block, and must
    /// not ask the database anything.
    fn end(self: Arc<Self>, why: &Invalidation);

    /// That commit can be seen now. Called once, in commit order, without the log's lock, while the
    /// committer holds its turn: it must not block and must not commit.
    fn published(&self) {}

    /// That commit may be told now: it is durable. Called once, after that, in commit order; where
    /// the commit was undone, at the next one that is durable. It must not block or commit.
    fn durable(&self) {}
}

/// A commit that wrote what a subscription had read. The subscription is over.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// Which one; `None` when it was refused at registration and never lived.
    pub subscription: Option<SubscriptionId>,
    /// Whose it was.
    pub owner: Owner,
    /// The index that was read.
    pub index: IndexId,
    /// The range of it that was read.
    pub range: Interval,
    /// The key in that range that was written.
    pub key: Key,
    /// The document behind it; `None` for catalog keys.
    pub document: Option<Arc<Document>>,
    /// The call that wrote.
    pub writer: Writer,
    /// When.
    pub at: Timestamp,
    /// The commit; `None` if it is older than the history kept.
    pub commit: Option<Arc<LogEntry>>,
}

impl Invalidation {
    /// The cause in one sentence, for the function that read: `getItems re-ran: addCart wrote
    /// items[remaining=10] inside the range it read`.
    pub fn cause(&self, reader: &str) -> String {
        let did = self.commit.as_ref().map(|commit| self.explain(commit).did);
        sentence(reader, &self.writer.function, did.as_deref().unwrap_or(FORGOTTEN))
    }

    /// Where reader and writer met; `None` where no key says it.
    pub fn place(&self) -> Option<Place> {
        self.commit.as_ref().map(|_| self.overlap().place())
    }

    /// Index, range and key in an author's words; `None` if the commit is no longer kept.
    pub fn explained(&self) -> Option<Explanation> {
        self.commit.as_ref().map(|commit| self.explain(commit))
    }

    fn explain(&self, commit: &LogEntry) -> Explanation {
        explain(&commit.snapshot.catalog, &self.overlap())
    }

    fn overlap(&self) -> Overlap {
        Overlap {
            index: self.index,
            range: self.range.clone(),
            key: Arc::clone(&self.key),
            document: self.document.clone(),
        }
    }
}

impl fmt::Display for Invalidation {
    /// `items.by_name[name="x"] changed: addItem (request 1f) wrote [name="x", …] at 17…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(commit) = &self.commit else {
            return write!(f, "the snapshot is older than the history kept, since {}", self.at);
        };
        let Explanation { index, range, key, .. } = self.explain(commit);
        let Writer { function, request_id, .. } = &self.writer;
        write!(f, "{index}{range} changed: {function} (request {request_id}) ")?;
        write!(f, "wrote {key} at {}", self.at)
    }
}

/// Every live read set.
pub struct Subscriptions {
    log: Arc<Mutex<Log>>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    indexes: BTreeMap<IndexId, Intervals>,
    subscriptions: BTreeMap<u64, (Arc<ReadSet>, Owner)>,
    made: u64,
}

impl Subscriptions {
    pub(crate) fn new(log: Arc<Mutex<Log>>) -> Self {
        Self { log, live: Mutex::default() }
    }

    /// Starts to watch `reads`, which were made at the snapshot `since`.
    ///
    /// # Errors
    /// A commit after `since` already wrote into `reads`: they are stale.
    pub fn register(
        &self,
        reads: &Arc<ReadSet>,
        since: Timestamp,
        owner: Owner,
    ) -> Result<SubscriptionId, Box<Invalidation>> {
        // Lock order: log, then live. Commits do the same.
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match log.overlap(reads, since) {
            Ok(None) => {}
            Ok(Some((commit, overlap))) => {
                return Err(Box::new(invalidation(None, owner, &commit, overlap)));
            }
            Err(_) => return Err(Box::new(forgotten(owner, log.oldest()))),
        }
        let mut live = self.live();
        live.made += 1;
        let id = live.made;
        for (index, interval) in reads.iter() {
            live.indexes.entry(index).or_default().insert(interval.clone(), id);
        }
        live.subscriptions.insert(id, (Arc::clone(reads), owner));
        Ok(SubscriptionId(id))
    }

    /// Stops watching; one that is over already is none of our concern.
    pub fn cancel(&self, id: SubscriptionId) {
        self.live().remove(id.0);
    }

    /// How many are live.
    pub fn len(&self) -> usize {
        self.live().subscriptions.len()
    }

    /// Whether none is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many ranges are watched.
    pub fn ranges(&self) -> usize {
        self.live().indexes.values().map(Intervals::len).sum()
    }

    /// Ends every subscription that the commit touches. Called under the log's lock.
    pub(crate) fn stab(&self, commit: &Arc<LogEntry>) -> Vec<Invalidation> {
        let mut live = self.live();
        let mut invalidations = Vec::new();
        let mut hits: Vec<(u64, Interval)> = Vec::new();
        for (index, key, document) in commit.keys() {
            let Some(intervals) = live.indexes.get(&index) else { continue };
            intervals.stab(key, &mut |id, interval| hits.push((id, interval.clone())));
            // Removed at once, so that a commit meets each subscription at most once.
            for (id, range) in hits.drain(..) {
                let owner =
                    live.remove(id).expect("a watched range belongs to a live subscription");
                let (key, document) = (Arc::clone(key), document.cloned());
                let overlap = Overlap { index, range, key, document };
                invalidations.push(invalidation(Some(SubscriptionId(id)), owner, commit, overlap));
            }
        }
        invalidations
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // No caller's code runs under this lock, so a poisoned state is still whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn remove(&mut self, id: u64) -> Option<Owner> {
        let (reads, owner) = self.subscriptions.remove(&id)?;
        for (index, interval) in reads.iter() {
            let intervals = self.indexes.get_mut(&index).expect("registered ranges have an index");
            let removed = intervals.remove(interval, id);
            assert!(removed, "a live subscription watches every range it read");
            if intervals.len() == 0 {
                self.indexes.remove(&index);
            }
        }
        Some(owner)
    }
}

fn invalidation(
    subscription: Option<SubscriptionId>,
    owner: Owner,
    commit: &Arc<LogEntry>,
    overlap: Overlap,
) -> Invalidation {
    Invalidation {
        subscription,
        owner,
        index: overlap.index,
        range: overlap.range,
        key: overlap.key,
        document: overlap.document,
        writer: commit.writer.clone(),
        at: commit.ts,
        commit: Some(Arc::clone(commit)),
    }
}

fn forgotten(owner: Owner, oldest: Timestamp) -> Invalidation {
    Invalidation {
        subscription: None,
        owner,
        index: crate::snapshot::CATALOG,
        range: Interval::all(),
        key: [][..].into(),
        document: None,
        writer: Writer::new(HISTORY, ""),
        at: oldest,
        commit: None,
    }
}
