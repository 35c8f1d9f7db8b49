//! Results of queries, kept as long as nothing they read is written.
//!
//! In: outcomes of queries. Out: the same outcomes, for the same question at a later snapshot.
//! Invariant: a result is handed out only for timestamps from the snapshot it was computed at up to
//! the first commit that overlaps what it read. The subscription that knows of that commit lives
//! exactly as long as the result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::deployment::CodeVersion;
use crate::limits;
use crate::record::{FunctionPath, Identity, Outcome, Timestamp};
use crate::subscriptions::{Owner, SubscriptionId, Subscriptions};

/// A typical entry, to size the cache's tables, bytes.
const TYPICAL_ENTRY_BYTES: usize = 2048;

/// The question a result answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Which code.
    pub code: CodeVersion,
    /// Which function.
    pub path: FunctionPath,
    /// Canonical JSON of its arguments.
    pub args: Arc<str>,
    /// Who asks, or whom a result is for.
    pub asker: Asker,
    /// The journal it was given.
    pub journal: Option<Arc<str>>,
}

/// Who asks a question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Whoever asks gets the same: the function did not look.
    Anybody,
    /// Somebody without an identity, where the function looked. Not the same as anybody.
    Nobody,
    /// The user with these attributes (JSON text), where the function looked.
    User(Arc<str>),
}

impl Asker {
    /// Who asks, as far as a function can tell.
    pub fn of(identity: &Identity) -> Self {
        identity.attributes().cloned().map_or(Self::Nobody, Self::User)
    }
}

/// A result and until when it holds.
#[derive(Debug)]
pub struct CachedResult {
    /// What came of the call.
    pub outcome: Arc<Outcome>,
    key: CacheKey,
    /// Nanoseconds of the first overlapping commit; `u64::MAX` while there is none.
    ends: AtomicU64,
    subscription: OnceLock<(SubscriptionId, Subscribed)>,
}

/// The way back to the subscriptions; a type of its own only to be silent in debug output.
struct Subscribed(Arc<Subscriptions>);

impl std::fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscriptions")
    }
}

/// The cache.
pub struct QueryCache {
    entries: Cache<CacheKey, Arc<CachedResult>, Weight>,
    subscriptions: Arc<Subscriptions>,
    /// For how long what looked at the clock is served, nanoseconds.
    timed_ns: AtomicU64,
}

/// Weighs an entry by its memory.
#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Arc<CachedResult>> for Weight {
    fn weight(&self, key: &CacheKey, value: &Arc<CachedResult>) -> u64 {
        let outcome = &value.outcome;
        let result = outcome.result.as_ref().map_or(0, |text| text.len());
        let lines = outcome.log_lines.iter().flat_map(|line| &line.messages);
        let lines: usize = lines.map(|message| message.len() + 32).sum();
        // Every range is also a node of the subscriptions' index.
        let reads = outcome.reads.bytes() + outcome.reads.len() * 96;
        let question = 2 * (key.args.len() + key.journal.as_ref().map_or(0, |text| text.len()));
        let fixed = size_of::<CacheKey>() * 2 + size_of::<Outcome>() + size_of::<CachedResult>();
        (fixed + result + lines + reads + question) as u64
    }
}

impl QueryCache {
    pub(crate) fn new(bytes: usize, subscriptions: Arc<Subscriptions>) -> Self {
        let entries = Cache::with_weighter(bytes / TYPICAL_ENTRY_BYTES, bytes as u64, Weight);
        Self { entries, subscriptions, timed_ns: AtomicU64::new(limits::CACHED_TIME_NS) }
    }

    /// The result for a question at the snapshot `ts`, asked at the time `now` (nanoseconds since
    /// the Unix epoch): one that anybody may have, else one for the asker in `key`.
    pub fn find(&self, key: &CacheKey, ts: Timestamp, now: u64) -> Option<Arc<CachedResult>> {
        let timed_ns = self.timed_ns.load(Ordering::Relaxed);
        let holding = |key| self.entries.get(key).filter(|result| result.holds(ts, now, timed_ns));
        let anybody = CacheKey { asker: Asker::Anybody, ..key.clone() };
        holding(&anybody).or_else(|| holding(key))
    }

    /// Keeps a result under its question, and if it came with another journal than it was given,
    /// under that one too. Errors are not kept, and neither is a result that is stale already;
    /// says whether it was kept. `key.asker` counts only if the function looked at it.
    pub fn insert(&self, key: CacheKey, outcome: &Arc<Outcome>) -> bool {
        if outcome.result.is_err() {
            return false;
        }
        let asker = if outcome.observed.identity { key.asker } else { Asker::Anybody };
        let key = CacheKey { asker, ..key };
        let journal = outcome.journal.clone().filter(|new| Some(new) != key.journal.as_ref());
        let again = journal.map(|journal| CacheKey { journal: Some(journal), ..key.clone() });
        let kept = self.insert_under(key, outcome);
        kept && again.is_none_or(|key| self.insert_under(key, outcome))
    }

    /// What looked at the clock is served at that very time only: where a test moves the clock.
    pub fn keep_to_the_clock(&self) {
        self.timed_ns.store(1, Ordering::Relaxed);
    }

    /// Drops everything: what computed it was found to be wrong. Who has a result already keeps it
    /// until a commit ends it.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// How many results are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Estimated memory, bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Gives it another budget; results that no longer fit are dropped.
    pub(crate) fn resize(&self, bytes: u64) {
        if self.entries.capacity() != bytes {
            self.entries.set_capacity(bytes);
        }
    }

    fn insert_under(&self, key: CacheKey, outcome: &Arc<Outcome>) -> bool {
        let result = Arc::new(CachedResult {
            outcome: Arc::clone(outcome),
            key: key.clone(),
            ends: AtomicU64::new(u64::MAX),
            subscription: OnceLock::new(),
        });
        let owner = Owner::Cache(Arc::downgrade(&result));
        let registered = self.subscriptions.register(&outcome.reads, outcome.ts, owner);
        let Ok(subscription) = registered else { return false };
        let subscribed = Subscribed(Arc::clone(&self.subscriptions));
        let first = result.subscription.set((subscription, subscribed)).is_ok();
        assert!(first, "a result is registered once");
        self.entries.insert(key, result);
        true
    }

    /// Drops a result that a commit ended, unless a newer one has its place.
    pub(crate) fn forget(&self, result: &Arc<CachedResult>) {
        let gone = self.entries.remove_if(&result.key, |found| Arc::ptr_eq(found, result));
        drop(gone);
    }
}

impl CachedResult {
    /// A commit at `ts` wrote what it had read.
    pub(crate) fn end_at(&self, ts: Timestamp) {
        self.ends.fetch_min(ts.0, Ordering::AcqRel);
    }

    /// Whether it is the answer at the snapshot `ts` and the time `now`.
    fn holds(&self, ts: Timestamp, now: u64, timed_ns: u64) -> bool {
        let outcome = &self.outcome;
        let computed = outcome.ts <= ts && ts.0 < self.ends.load(Ordering::Acquire);
        let age = now.abs_diff(outcome.given.now);
        computed && (!outcome.observed.time || age < timed_ns)
    }
}

impl Drop for CachedResult {
    /// Evicted, replaced or ended: nobody relies on its reads any more.
    fn drop(&mut self) {
        if let Some((id, Subscribed(subscriptions))) = self.subscription.get() {
            subscriptions.cancel(*id);
        }
    }
}
