//! The history: every commit of the retained past with what it wrote, who wrote it, and the
//! snapshot it made.
//!
//! In: commits, in order. Out: "what was written since?", snapshots of the past, answers to why.
//! Invariant: entries are strictly ordered by timestamp and complete since [`Log::oldest`]; their
//! memory, with the map nodes that only they keep alive, stays within a budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::catalog::Table;
use crate::commit::{Options, Writer};
use crate::document::Document;
use crate::id::DocumentId;
use crate::key::{Interval, Key};
use crate::probe::Place;
use crate::read_set::ReadSet;
use crate::record::Timestamp;
use crate::snapshot::{CATALOG, IndexId, Snapshot};

/// Bytes of one node of a persistent map: 16 entries of a key and a document, and its header.
pub(crate) const MAP_NODE_BYTES: usize = 448;

/// Entries of a node that is filled as nodes usually are.
pub(crate) const MAP_NODE_ENTRIES: usize = 11;

/// Where one document went in one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The index.
    pub index: IndexId,
    /// Its key before; `None` for an insert.
    pub before: Option<Key>,
    /// Its key after; `None` for a delete.
    pub after: Option<Key>,
}

impl KeyChange {
    /// Whether the document has another place in the index than before.
    pub fn moves(&self) -> bool {
        self.before != self.after
    }

    /// The keys that a reader can depend on: the old one, and the new one if it differs.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let after = self.after.as_ref().filter(|_| self.moves());
        self.before.iter().chain(after)
    }
}

/// What a transaction did to one document.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its table.
    pub table: Arc<Table>,
    /// The version before; `None` for an insert.
    pub before: Option<Arc<Document>>,
    /// The version after; `None` for a delete.
    pub after: Option<Arc<Document>>,
    /// Its keys in every index of the table.
    pub keys: Vec<KeyChange>,
}

impl Write {
    /// The document, in its newest version.
    pub fn document(&self) -> &Arc<Document> {
        let newest = self.after.as_ref().or(self.before.as_ref());
        newest.expect("a write has a version before or after")
    }

    /// Estimated memory that nobody has but the entry it is in: the version before, the keys that
    /// no index has, and the lists.
    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|change| {
            let own = match (&change.before, &change.after) {
                // The map by id has its ids in itself.
                (None, Some(after)) if change.index == self.table.by_id.id => key_bytes(after),
                (None, _) => 0,
                // The index had one like it, until this.
                (Some(before), _) if change.moves() => 2 * key_bytes(before),
                (Some(before), _) => key_bytes(before),
            };
            size_of::<KeyChange>() + own
        });
        let before = self.before.as_ref().map_or(0, |document| document.bytes());
        // Two counters, and its place in the list of the entry.
        size_of::<Self>() + 16 + size_of::<Arc<Self>>() + before + keys.sum::<usize>()
    }
}

/// One commit.
#[derive(Debug)]
pub struct LogEntry {
    /// Its timestamp.
    pub ts: Timestamp,
    /// The call that wrote.
    pub writer: Writer,
    /// The documents written, by table and id.
    pub writes: Vec<Arc<Write>>,
    /// Catalog keys written: tables created, deployments activated.
    pub catalog: Vec<Key>,
    /// The database right after.
    pub snapshot: Arc<Snapshot>,
}

/// A written key that somebody had read.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// The index.
    pub index: IndexId,
    /// The range that was read.
    pub range: Interval,
    /// The key that was written.
    pub key: Key,
    /// The document; `None` for catalog keys.
    pub document: Option<Arc<Document>>,
}

impl Overlap {
    /// Where reader and writer met.
    pub fn place(&self) -> Place {
        let document = self.document.as_ref().map(|document| document.id);
        Place { index: self.index, key: Arc::clone(&self.key), document }
    }
}

impl LogEntry {
    /// Every key it wrote.
    pub fn keys(&self) -> impl Iterator<Item = (IndexId, &Key, Option<&Arc<Document>>)> {
        let catalog = self.catalog.iter().map(|key| (CATALOG, key, None));
        catalog.chain(self.writes.iter().flat_map(|write| {
            let document = Some(write.document());
            let changes = write.keys.iter();
            changes.flat_map(move |change| change.keys().map(move |k| (change.index, k, document)))
        }))
    }

    /// The first key it wrote that `reads` holds.
    pub fn overlap(&self, reads: &ReadSet) -> Option<Overlap> {
        self.keys().find_map(|(index, key, document)| {
            let range = reads.find(index, key)?.clone();
            Some(Overlap { index, range, key: Arc::clone(key), document: document.cloned() })
        })
    }

    /// Estimated memory that only this entry keeps alive: the versions and keys before, the map
    /// nodes that its snapshot has in the place of others, its lists, and the record of the call
    /// that wrote. What it put there is the newest snapshot's, until somebody replaces it.
    pub fn bytes(&self) -> usize {
        let variable = |key: &Key| self.snapshot.environment.bytes_at(key);
        let catalog: usize = self.catalog.iter().map(|key| key_bytes(key) + variable(key)).sum();
        let answer = self.snapshot.requests.bytes_at(self.ts);
        let record = self.writer.record.as_ref().map_or(0, |record| record.bytes());
        let fixed = size_of::<Self>() + size_of::<Snapshot>() + catalog + answer + record;
        let writes: usize = self.writes.iter().map(|write| write.bytes()).sum();
        fixed + writes + self.node_bytes()
    }

    /// Bytes of the map nodes that were copied: those before are nobody else's.
    fn node_bytes(&self) -> usize {
        // Of each index: keys that came or went, and how many entries it has more now.
        let mut touched: BTreeMap<IndexId, (usize, isize)> = BTreeMap::new();
        for write in &self.writes {
            for change in &write.keys {
                if change.index != write.table.by_id.id && !change.moves() {
                    continue;
                }
                let (keys, more) = touched.entry(change.index).or_default();
                *keys += change.keys().count();
                *more += isize::from(change.after.is_some()) - isize::from(change.before.is_some());
            }
        }
        let maps = touched.len();
        let in_maps = touched.into_iter().map(|(index, (keys, more))| {
            let before = self.snapshot.maps.entries(index).saturating_add_signed(-more);
            nodes_of(keys, before)
        });
        // Each map is an entry of a map of maps.
        let nodes = in_maps.sum::<usize>() + nodes_of(maps, self.snapshot.maps.count());
        nodes * MAP_NODE_BYTES
    }
}

/// Bytes by which writes make the documents more.
pub(crate) fn growth<'a>(writes: impl IntoIterator<Item = &'a Arc<Write>>) -> i64 {
    let bytes = |version: &Option<Arc<Document>>| {
        version.as_ref().map_or(0, |document| document.bytes().cast_signed() as i64)
    };
    writes.into_iter().map(|write| bytes(&write.after) - bytes(&write.before)).sum()
}

/// Bytes of an insert into so many indexes, as [`Write::bytes`] counts them.
pub(crate) fn write_bytes(indexes: usize) -> usize {
    let id = size_of::<DocumentId>() + 16;
    size_of::<Write>() + 16 + size_of::<Arc<Write>>() + indexes * size_of::<KeyChange>() + id
}

/// A key, and the counters before it.
fn key_bytes(key: &Key) -> usize {
    key.len() + 16
}

/// Nodes of a map with so many entries that are on the way to so many keys, at most: far from each
/// other they have a leaf each, and share what is above.
fn nodes_of(keys: usize, entries: usize) -> usize {
    if keys == 0 {
        return 0;
    }
    let leaves = entries.div_ceil(MAP_NODE_ENTRIES).max(1);
    let levels = std::iter::successors(Some(leaves), |nodes| {
        (*nodes > 1).then(|| nodes.div_ceil(MAP_NODE_ENTRIES))
    });
    levels.map(|nodes| nodes.min(keys)).sum()
}

/// The retained commits.
#[derive(Debug)]
pub struct Log {
    /// Each with its estimated bytes, oldest first.
    entries: VecDeque<(Arc<LogEntry>, usize)>,
    /// The snapshot before the oldest entry.
    base: Arc<Snapshot>,
    bytes: usize,
    budget: usize,
    /// Bytes by which the documents have grown since the beginning.
    growth: i64,
    /// Commits that the budget no longer held.
    trimmed: u64,
}

impl Log {
    /// An empty history that begins at `base` and may grow to `history_bytes`.
    pub(crate) fn new(base: Arc<Snapshot>, options: &Options) -> Self {
        let budget = options.history_bytes;
        Self { entries: VecDeque::new(), base, bytes: 0, budget, growth: 0, trimmed: 0 }
    }

    /// Adds a commit and forgets the oldest ones that the budget no longer holds, as far as they
    /// are durable; they are handed back so that the caller frees them when it holds no lock.
    pub(crate) fn append(
        &mut self,
        entry: Arc<LogEntry>,
        durable: Timestamp,
    ) -> Vec<Arc<LogEntry>> {
        assert!(entry.ts > self.newest(), "timestamps increase");
        assert_eq!(entry.ts, entry.snapshot.ts, "an entry keeps its own snapshot");
        let bytes = entry.bytes();
        self.bytes += bytes;
        self.growth += growth(&entry.writes);
        self.entries.push_back((entry, bytes));
        // However large it is, the newest one stays as long as there is memory.
        self.forget(durable, 1)
    }

    /// Gives the history another budget; what no longer fits is handed back, as by
    /// [`Log::append`], the newest commit too.
    pub(crate) fn resize(&mut self, budget: usize, durable: Timestamp) -> Vec<Arc<LogEntry>> {
        self.budget = budget;
        self.forget(durable, 0)
    }

    /// Takes the oldest commits away until the rest fits, or is not more than `least`.
    fn forget(&mut self, durable: Timestamp, least: usize) -> Vec<Arc<LogEntry>> {
        let mut forgotten = Vec::new();
        while self.bytes > self.budget
            && self.entries.len() > least
            && let Some((oldest, bytes)) = self.entries.pop_front_if(|(e, _)| e.ts <= durable)
        {
            self.bytes -= bytes;
            self.base = Arc::clone(&oldest.snapshot);
            self.trimmed += 1;
            forgotten.push(oldest);
        }
        forgotten
    }

    /// Takes the commits after `ts` away, newest first.
    pub(crate) fn cut(&mut self, ts: Timestamp) -> Vec<Arc<LogEntry>> {
        let mut dropped = Vec::new();
        while let Some((entry, bytes)) = self.entries.pop_back_if(|(entry, _)| entry.ts > ts) {
            self.bytes -= bytes;
            self.growth -= growth(&entry.writes);
            dropped.push(entry);
        }
        dropped
    }

    /// The database after the newest commit.
    pub(crate) fn newest_snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.entries.back().map_or(&self.base, |(entry, _)| &entry.snapshot))
    }

    /// The commits after `ts`, oldest first; `None` if some of them are forgotten.
    pub fn since(&self, ts: Timestamp) -> Option<impl Iterator<Item = &Arc<LogEntry>>> {
        let first = self.entries.partition_point(|(entry, _)| entry.ts <= ts);
        (ts >= self.oldest()).then(|| self.entries.range(first..).map(|(entry, _)| entry))
    }

    /// The first key written after `ts` that `reads` holds, with its commit.
    pub(crate) fn overlap(
        &self,
        reads: &ReadSet,
        ts: Timestamp,
    ) -> Result<Option<(Arc<LogEntry>, Overlap)>, Forgotten> {
        let mut entries = self.since(ts).ok_or(Forgotten)?;
        Ok(entries.find_map(|entry| Some((Arc::clone(entry), entry.overlap(reads)?))))
    }

    /// The database as it was at `ts`; `None` if that is forgotten. A moment between two commits is
    /// the earlier one's; a moment after the newest commit is the newest's.
    pub fn snapshot_at(&self, ts: Timestamp) -> Option<Arc<Snapshot>> {
        let after = self.entries.partition_point(|(entry, _)| entry.ts <= ts);
        match after.checked_sub(1) {
            Some(at) => Some(Arc::clone(&self.entries[at].0.snapshot)),
            None => (ts >= self.base.ts).then(|| Arc::clone(&self.base)),
        }
    }

    /// The commit at `ts`, if it is kept.
    pub(crate) fn commit_at(&self, ts: Timestamp) -> Option<Arc<LogEntry>> {
        let at = self.entries.binary_search_by_key(&ts, |(entry, _)| entry.ts).ok()?;
        Some(Arc::clone(&self.entries[at].0))
    }

    /// The commits, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<LogEntry>> {
        self.entries.iter().rev().map(|(entry, _)| entry)
    }

    /// The oldest timestamp whose snapshot is kept.
    pub fn oldest(&self) -> Timestamp {
        self.base.ts
    }

    /// The timestamp of the newest commit.
    pub fn newest(&self) -> Timestamp {
        self.entries.back().map_or(self.base.ts, |(entry, _)| entry.ts)
    }

    /// Estimated bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes by which the documents of the newest snapshot have grown since the beginning.
    pub(crate) fn growth(&self) -> i64 {
        self.growth
    }

    /// How many commits are gone because the budget no longer held them.
    pub(crate) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// How many commits are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no commit is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The log no longer holds what was asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten;
