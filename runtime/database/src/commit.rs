//! Stop 6 of 8, commit: validate, timestamp, log, publish.
//!
//! In: finished transactions, one at a time. Out: a new snapshot that everybody sees, or the
//! [`Conflict`] that stood in the way.
//!
//! ```text
//!   turn ─▶ did a commit since `begin` write what was read? ─yes─▶ Conflict(range, key, writer)
//!           │ no
//!           ▼
//!   ts = max(now, newest + 1) ─▶ maps ─▶ [log lock: append · end subscriptions · swap the pointer]
//! ```
//! Invariant: the log's order is a serial order of all transactions with the same results. Readers
//! never lock: they take the newest snapshot by an atomic load.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::cache::QueryCache;
use crate::catalog::Catalog;
use crate::durability::{Durability, UNDONE};
use crate::error::Refusal;
use crate::explain::{explain, sentence};
use crate::index_maps::IndexMaps;
use crate::key::Interval;
use crate::limits;
use crate::log::{Log, LogEntry, Overlap, Write};
use crate::memory::Pressed;
use crate::probe::Place;
use crate::read_set::ReadSet;
use crate::record::{CallRecord, Given, Timestamp};
use crate::requests::Once;
use crate::snapshot::Snapshot;
use crate::subscriptions::{Owner, Subscriptions};
use crate::transaction::{State, Transaction};
use crate::work::Usage;

/// The index of a [`Conflict`] whose transaction began before the history kept.
pub(crate) const HISTORY: &str = "history";

/// The writer that replaces code and schema.
pub(crate) const PUSH: &str = "push";

/// The writer that changes environment variables.
pub(crate) const OPERATOR: &str = "operator";

/// What [`HISTORY`] did to a transaction that began before it.
pub(crate) const FORGOTTEN: &str = "no longer reaches back to the snapshot it read";

/// The index of a [`Conflict`] with the same request's earlier delivery.
const REQUESTS: &str = "requests";

/// Which call wrote, or read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// Its function, as logs name it.
    pub function: Arc<str>,
    /// The request it came with.
    pub request_id: Arc<str>,
    /// What it takes to run it again; `None` where no function ran, as in a push.
    pub record: Option<Arc<CallRecord>>,
}

impl Writer {
    /// Somebody who is no call of a function.
    pub fn new(function: impl Into<Arc<str>>, request_id: impl Into<Arc<str>>) -> Self {
        Self { function: function.into(), request_id: request_id.into(), record: None }
    }

    /// A call that can be run again.
    pub fn of(record: CallRecord) -> Self {
        Self {
            function: record.path.full_name().into(),
            request_id: Arc::clone(&record.request_id),
            record: Some(Arc::new(record)),
        }
    }
}

/// Two are the same if they are the same function and request.
impl PartialEq for Writer {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function && self.request_id == other.request_id
    }
}

impl Eq for Writer {}

/// Why a transaction could not commit: something it read was written before it was its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The index that was read: `items.by_name`.
    pub index: String,
    /// The table of that index; empty for the catalog.
    pub table: Arc<str>,
    /// The range that was read: `[name="x"]`.
    pub range: String,
    /// The key in that range that was written.
    pub key: String,
    /// The id of the document written; `None` for the catalog.
    pub document: Option<String>,
    /// What the writer did, as the end of a sentence: `wrote items[stock=4] inside the range it
    /// read`.
    pub did: String,
    /// Where the two met; `None` where no key says it.
    pub place: Option<Place>,
    /// The call that read.
    pub reader: Writer,
    /// The call that wrote.
    pub writer: Writer,
    /// When it wrote.
    pub at: Timestamp,
}

impl Conflict {
    /// The cause in one sentence: `addCart re-ran: another addCart wrote items[_id="k…"] inside the
    /// range it read`.
    pub fn cause(&self) -> String {
        sentence(&self.reader.function, &self.writer.function, &self.did)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, range, key, reader, writer, at, .. } = self;
        if index == HISTORY {
            let reader = &reader.function;
            return write!(f, "{reader} began at {range}, before the oldest commit kept, {at}");
        }
        if index == UNDONE {
            let reader = &reader.function;
            return write!(f, "{reader} began at {range}, which was undone back to {at}");
        }
        write!(f, "{} (request {}) ", reader.function, reader.request_id)?;
        write!(f, "read {index}{range}, in which {} ", writer.function)?;
        write!(f, "(request {}) wrote {key}", writer.request_id)?;
        if let Some(document) = &self.document {
            write!(f, " of document {document}")?;
        }
        write!(f, " at {at}")
    }
}

/// What came of a commit.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its timestamp; without writes, that of the snapshot it read.
    pub ts: Timestamp,
    /// What it read.
    pub reads: Arc<ReadSet>,
    /// Counted work.
    pub usage: Usage,
    /// Hash over its writes.
    pub writes_digest: [u8; 32],
}

/// A transaction that lost, and what it had done.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Why.
    pub conflict: Conflict,
    /// What it read.
    pub reads: Arc<ReadSet>,
    /// Counted work.
    pub usage: Usage,
}

/// Sizes and the first timestamp of a database.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for the history, bytes.
    pub history_bytes: usize,
    /// Memory for cached query results, bytes.
    pub cache_bytes: usize,
    /// Timestamp of the empty database, nanoseconds since the Unix epoch.
    pub now: u64,
}

impl Options {
    /// The sizes of the limits table.
    pub fn at(now: u64) -> Self {
        let bytes = |limit: u64| usize::try_from(limit).expect("budgets fit into memory");
        let (history, cache) = (limits::HISTORY_BYTES, limits::CACHE_BYTES);
        Self { history_bytes: bytes(history), cache_bytes: bytes(cache), now }
    }
}

/// A database: one newest snapshot, its history, and who relies on it.
pub struct Database {
    turn: Mutex<()>,
    pub(crate) newest: ArcSwap<Snapshot>,
    pub(crate) durability: Durability,
    log: Arc<Mutex<Log>>,
    subscriptions: Arc<Subscriptions>,
    cache: QueryCache,
    pub(crate) pressed: Pressed,
    /// Blobs whose files neither the newest snapshot nor the history holds.
    dead_blobs: Mutex<Vec<String>>,
}

/// What is kept of the past.
#[derive(Clone, Debug)]
pub struct History {
    /// The commits, newest first.
    pub entries: Vec<Arc<LogEntry>>,
    /// Estimated bytes kept.
    pub bytes: usize,
    /// The oldest timestamp whose snapshot is kept.
    pub oldest: Timestamp,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many commits.
    pub commits: u64,
    /// How many are gone since the start, because their budget had no room for them.
    pub trimmed: u64,
    /// The oldest timestamp whose snapshot is kept.
    pub oldest: Timestamp,
    /// That of the newest commit.
    pub newest: Timestamp,
}

/// The right to commit next. While it is held nobody else commits, so what begins through it
/// cannot conflict.
pub struct Turn<'a> {
    pub(crate) database: &'a Database,
    _held: MutexGuard<'a, ()>,
}

impl Database {
    /// An empty database.
    pub fn new(options: Options) -> Self {
        Self::from(Log::new(Arc::new(Snapshot::empty(Timestamp(options.now))), &options), &options)
    }

    /// A database of its own that begins with a snapshot of another; it costs a pointer.
    pub fn fork(snapshot: Arc<Snapshot>, options: &Options) -> Self {
        Self::from(Log::new(snapshot, options), options)
    }

    /// A database that begins with a history.
    pub(crate) fn from(log: Log, options: &Options) -> Self {
        let newest = log.newest_snapshot();
        let log = Arc::new(Mutex::new(log));
        let subscriptions = Arc::new(Subscriptions::new(Arc::clone(&log)));
        let cache = QueryCache::new(options.cache_bytes, Arc::clone(&subscriptions));
        Self {
            turn: Mutex::default(),
            durability: Durability::new(Arc::clone(&newest)),
            newest: ArcSwap::new(newest),
            log,
            subscriptions,
            cache,
            pressed: Pressed::new(options),
            dead_blobs: Mutex::default(),
        }
    }

    /// The newest snapshot, durable or not: what transactions that write begin at. It may be told
    /// only after [`Database::when_durable`].
    pub fn newest(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// The snapshot at a moment; one after the newest durable commit gives that one's.
    ///
    /// # Errors
    /// [`Refusal::OutOfRetention`]: the history no longer reaches back to it.
    pub fn snapshot_at(&self, ts: Timestamp) -> Result<Arc<Snapshot>, Refusal> {
        // Most ask for what is the newest: they need not wait for a commit's lock.
        let newest = self.snapshot();
        if newest.ts <= ts {
            return Ok(newest);
        }
        let log = self.log();
        log.snapshot_at(ts).ok_or_else(|| {
            let oldest = log.oldest();
            Refusal::OutOfRetention(format!(
                "The snapshot at {ts} is no longer kept: the oldest one is at {oldest}. Ask for a \
                 newer timestamp, or give the history more memory (--memory)."
            ))
        })
    }

    /// The commit at a timestamp, if the history holds it and it may be told.
    pub fn commit_at(&self, ts: Timestamp) -> Option<Arc<LogEntry>> {
        let durable = self.durability.ts();
        self.log().commit_at(ts).filter(|entry| entry.ts <= durable)
    }

    /// The commits after `ts` that may be told, oldest first; `None`: some are forgotten.
    pub fn commits_since(&self, ts: Timestamp) -> Option<Vec<Arc<LogEntry>>> {
        let durable = self.durability.ts();
        let log = self.log();
        Some(log.since(ts)?.take_while(|entry| entry.ts <= durable).cloned().collect())
    }

    /// Starts a transaction at a snapshot.
    pub fn begin(&self, snapshot: Arc<Snapshot>, given: &Given, read_only: bool) -> Transaction {
        Transaction::begin(snapshot, given, read_only)
    }

    /// Commits a transaction. One that wrote nothing leaves no trace and cannot lose: all its reads
    /// held at one moment, its snapshot's.
    ///
    /// # Errors
    /// What it read was written by a later commit; run it again.
    pub fn commit(
        &self,
        transaction: Transaction,
        now: u64,
        writer: Writer,
    ) -> Result<Committed, Box<Rejected>> {
        // Hashed before the turn: others need not wait for it.
        let digest = transaction.writes_digest();
        if !transaction.has_writes() {
            let ts = transaction.snapshot.ts;
            return Ok(committed(transaction, ts, digest));
        }
        self.turn().commit_hashed(transaction, digest, now, writer)
    }

    /// Waits for the right to commit next.
    pub fn turn(&self) -> Turn<'_> {
        // A panic under the turn happens before a snapshot is published or not at all.
        Turn { database: self, _held: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// What is kept of the past.
    pub fn history(&self) -> History {
        let log = self.log();
        let durable = self.durability.ts();
        let entries = log.newest_first().filter(|entry| entry.ts <= durable).cloned().collect();
        History { entries, bytes: log.bytes(), oldest: log.oldest() }
    }

    /// How much of the past is kept, without the past itself.
    pub fn kept(&self) -> Kept {
        let log = self.log();
        let (oldest, newest) = (log.oldest(), log.newest());
        Kept { commits: log.len() as u64, trimmed: log.trimmed(), oldest, newest }
    }

    /// The blobs that died since the last question: their files are deleted, and no snapshot that
    /// is kept shows them.
    pub fn take_dead_blobs(&self) -> Vec<String> {
        std::mem::take(&mut *self.dead_blobs())
    }

    /// Takes note of the blobs that died with commits that are forgotten.
    pub(crate) fn bury(&self, forgotten: &[Arc<LogEntry>]) {
        let dead: Vec<_> = forgotten.iter().flat_map(|entry| entry.deleted_blobs()).collect();
        if !dead.is_empty() {
            self.dead_blobs().extend(dead);
        }
    }

    fn dead_blobs(&self) -> MutexGuard<'_, Vec<String>> {
        self.dead_blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who relies on what.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Results of queries.
    pub fn cache(&self) -> &QueryCache {
        &self.cache
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds between two creation times at least, as `f64` milliseconds tell them apart: it takes
/// 245, and what is rounded on the way.
const STEP: u64 = 1_000;

impl Turn<'_> {
    /// The newest snapshot, which stays the newest while the turn is held.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.database.newest()
    }

    /// The next commit's: strictly increasing, whatever the clock does. While that is behind, they
    /// are so far apart that creation times of documents, which begin at them, increase too: a step
    /// for each that the commit has drawn.
    pub(crate) fn next_timestamp(&self, now: u64, creation_times: u64) -> Timestamp {
        let before = self.snapshot().ts.max(self.database.durability.floor()).0;
        if now > before {
            return Timestamp(now);
        }
        Timestamp(before + STEP * (creation_times + 1))
    }

    /// Starts a transaction at the newest snapshot.
    pub fn begin(&self, given: &Given, read_only: bool) -> Transaction {
        Transaction::begin(self.snapshot(), given, read_only)
    }

    /// Commits a transaction; one begun through this turn succeeds.
    ///
    /// # Errors
    /// What it read was written by a later commit than its snapshot.
    pub fn commit(
        &self,
        transaction: Transaction,
        now: u64,
        writer: Writer,
    ) -> Result<Committed, Box<Rejected>> {
        let digest = transaction.writes_digest();
        if !transaction.has_writes() {
            let ts = transaction.snapshot.ts;
            return Ok(committed(transaction, ts, digest));
        }
        self.commit_hashed(transaction, digest, now, writer)
    }

    fn commit_hashed(
        &self,
        mut transaction: Transaction,
        digest: [u8; 32],
        now: u64,
        writer: Writer,
    ) -> Result<Committed, Box<Rejected>> {
        assert!(transaction.has_writes() && !transaction.read_only, "queries write nothing");
        let newest = self.snapshot();
        let repeated = repeated(&transaction, &newest, &writer);
        if let Some(conflict) = repeated.or_else(|| self.conflict(&transaction, &newest, &writer)) {
            let reads = Arc::new(transaction.reads);
            return Err(Box::new(Rejected { conflict, reads, usage: transaction.usage }));
        }
        let ts = self.next_timestamp(now, transaction.creation_times);
        let next = Arc::new(successor(&newest, &mut transaction, ts));
        self.publish(LogEntry {
            ts,
            writer,
            writes: transaction.state.writes.values().cloned().collect(),
            catalog: transaction.state.created.iter().cloned().collect(),
            snapshot: next,
        });
        Ok(committed(transaction, ts, digest))
    }

    /// What stands in the way of a commit.
    fn conflict(
        &self,
        transaction: &Transaction,
        newest: &Snapshot,
        reader: &Writer,
    ) -> Option<Conflict> {
        let begun = transaction.snapshot.ts;
        if begun == newest.ts {
            return None;
        }
        if let Some(undone) = self.database.durability.conflict(begun, reader) {
            return Some(undone);
        }
        let log = self.database.log();
        let reads = &transaction.reads;
        match log.overlap(reads, begun) {
            Ok(Some((commit, overlap))) => Some(conflict(&commit, &overlap, reader)),
            Ok(None) => taken_id(transaction, newest).map(|write| {
                let place = write.document().id.internal;
                let index = write.table.by_id.id;
                let commits = log.since(begun).into_iter().flatten();
                let mut clashes = commits.filter_map(|commit| {
                    let mut reads = ReadSet::default();
                    reads.insert(index, Interval::point(&place));
                    Some(conflict(commit, &commit.overlap(&reads)?, reader))
                });
                clashes.next().expect("an id that is taken now and was free then was written")
            }),
            Err(_) => Some(begun_too_early(begun, log.oldest(), reader)),
        }
    }

    /// Makes an entry the newest: everybody sees it from here on.
    pub(crate) fn publish(&self, entry: LogEntry) {
        let entry = Arc::new(entry);
        let mut log = self.database.log();
        let forgotten = log.append(Arc::clone(&entry), self.database.durability.ts());
        let invalidations = self.database.subscriptions.stab(&entry);
        let (mut stale, mut watchers) = (Vec::new(), Vec::new());
        // Before anybody can ask at the new timestamp.
        for why in &invalidations {
            match &why.owner {
                Owner::Cache(result) => stale.extend(result.upgrade()),
                Owner::Watcher(watcher) => watchers.extend(watcher.upgrade().map(|w| (w, why))),
            }
        }
        stale.iter().for_each(|result| result.end_at(entry.ts));
        watchers.iter().for_each(|(watcher, why)| Arc::clone(watcher).end(why));
        self.database.newest.store(Arc::clone(&entry.snapshot));
        let waiting = watchers.iter().map(|(watcher, _)| Arc::clone(watcher)).collect();
        let told = self.database.durability.appended(&entry, waiting);
        drop(log);
        told.into_iter().for_each(|told| told(Ok(())));
        stale.iter().for_each(|result| self.database.cache.forget(result));
        watchers.iter().for_each(|(watcher, _)| watcher.published());
        self.database.bury(&forgotten);
    }
}

/// The snapshot after a validated transaction.
fn successor(newest: &Arc<Snapshot>, transaction: &mut Transaction, ts: Timestamp) -> Snapshot {
    let begun = &transaction.snapshot;
    let state = &mut transaction.state;
    let creates = !state.created.is_empty();
    assert!(
        !creates || Arc::ptr_eq(&begun.catalog, &newest.catalog),
        "creating a table reads every table number, so no other table was created meanwhile"
    );
    let catalog = Arc::clone(if creates { &state.catalog } else { &newest.catalog });
    let requests = match transaction.once.take() {
        Some(Once { key, answer }) => newest.requests.with(key, answer, ts),
        None => newest.requests.clone(),
    };
    let environment = newest.environment.clone();
    let maps = next_maps(newest, begun.ts, state, (&catalog, ts));
    Snapshot { ts, deployment: newest.deployment.clone(), catalog, maps, requests, environment }
}

/// The newest maps with a transaction's writes.
fn next_maps(
    newest: &Snapshot,
    begun: Timestamp,
    state: &mut State,
    (catalog, ts): (&Catalog, Timestamp),
) -> IndexMaps {
    if begun == newest.ts && !state.placeholders {
        // Nobody committed in between: the working maps are the next maps.
        return state.maps.settled().clone();
    }
    if state.placeholders {
        state.resolve_placeholders(ts);
    }
    let mut maps = newest.maps.clone();
    if !state.created.is_empty() {
        catalog.all_tables().for_each(|table| maps.add_table(table));
        // An import may have taken a table away; its deletes are of no consequence then.
        maps.retain(|index| catalog.index(index).is_some());
    }
    let stays = |write: &&Arc<Write>| catalog.index(write.table.by_id.id).is_some();
    for write in state.writes.values().filter(stays) {
        maps.apply(write);
    }
    maps
}

/// The same request committed already: running it again would do its work twice.
fn repeated(transaction: &Transaction, newest: &Snapshot, reader: &Writer) -> Option<Conflict> {
    let key = transaction.once.as_ref()?.key;
    let done = newest.requests.find(key)?;
    Some(Conflict {
        index: REQUESTS.into(),
        table: "".into(),
        range: format!("[{key}]"),
        key: key.to_string(),
        document: None,
        did: "committed the same request already".into(),
        reader: reader.clone(),
        writer: reader.clone(),
        at: done.ts,
        place: None,
    })
}

/// An insert whose id somebody else has taken since: two calls were given the same seed.
fn taken_id<'a>(transaction: &'a Transaction, newest: &Snapshot) -> Option<&'a Arc<Write>> {
    let mut inserts = transaction.state.writes.iter().filter(|(_, write)| write.before.is_none());
    let taken = inserts
        .find(|((_, internal), write)| newest.maps.document(&write.table, internal).is_some());
    taken.map(|(_, write)| write)
}

fn conflict(commit: &LogEntry, overlap: &Overlap, reader: &Writer) -> Conflict {
    let said = explain(&commit.snapshot.catalog, overlap);
    Conflict {
        index: said.index,
        table: said.table,
        range: said.range,
        key: said.key,
        document: overlap.document.as_ref().map(|document| document.id.encode()),
        did: said.did,
        place: Some(overlap.place()),
        reader: reader.clone(),
        writer: commit.writer.clone(),
        at: commit.ts,
    }
}

fn begun_too_early(begun: Timestamp, oldest: Timestamp, reader: &Writer) -> Conflict {
    Conflict {
        index: HISTORY.into(),
        table: "".into(),
        range: begun.to_string(),
        key: oldest.to_string(),
        document: None,
        did: FORGOTTEN.into(),
        place: None,
        reader: reader.clone(),
        writer: Writer::new(HISTORY, ""),
        at: oldest,
    }
}

fn committed(transaction: Transaction, ts: Timestamp, writes_digest: [u8; 32]) -> Committed {
    let usage = transaction.usage;
    Committed { ts, reads: Arc::new(transaction.reads), usage, writes_digest }
}
