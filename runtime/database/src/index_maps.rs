//! Every index of a snapshot, as persistent maps: a copy is free.
//!
//! In: writes, one after another. Out: the documents of a range of any index, in its order.
//! Invariant: each index of a table has one key a document, and the key ends with the document's
//! id.
//!
//! Only the map by id holds documents; the other indexes are sets of keys. A document that changes
//! without moving in an index leaves that index alone: nothing of it is copied, and all of it is
//! shared with the snapshots before.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::catalog::{Index, Table};
use crate::document::Document;
use crate::key::{Interval, Key};
use crate::log::Write;
use crate::snapshot::IndexId;

/// The documents of a table, by internal id.
pub(crate) type Documents = OrdMap<[u8; 16], Arc<Document>>;

/// The keys of an index that is not by id.
pub(crate) type Keys = OrdSet<Key>;

/// Every index of every table.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexMaps {
    /// By the table's `by_id`.
    documents: OrdMap<IndexId, Documents>,
    /// All other indexes.
    sorted: OrdMap<IndexId, Sorted>,
}

/// An index that is not by id.
#[derive(Clone, Debug)]
struct Sorted {
    /// The table's `by_id`, which has the documents.
    by_id: IndexId,
    keys: Keys,
}

impl IndexMaps {
    /// The documents of a table by id; `None`: there is no such table.
    pub(crate) fn documents(&self, table: &Table) -> Option<&Documents> {
        self.documents.get(&table.by_id.id)
    }

    /// One document of a table.
    pub(crate) fn document(&self, table: &Table, internal: &[u8; 16]) -> Option<&Arc<Document>> {
        self.documents(table)?.get(internal)
    }

    /// The entries of an index whose keys lie in `interval`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        index: IndexId,
        interval: &Interval,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a Arc<Document>)> + use<'a> {
        let start = Bound::Included(&*interval.start);
        let end = interval.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (is_empty, bounds) = (interval.is_empty(), (start, end));
        let by_id = self.documents.get(&index).filter(|map| !map.is_empty() && !is_empty);
        let by_id = by_id.map(|map| map.range::<_, [u8]>(bounds));
        let by_id = by_id.into_iter().flatten().map(|(id, document)| (&id[..], document));
        let sorted = self.sorted.get(&index).filter(|sorted| !sorted.keys.is_empty() && !is_empty);
        let sorted = sorted.map(|sorted| {
            let documents = self.documents.get(&sorted.by_id).expect("a table has its documents");
            let keys = sorted.keys.range::<_, [u8]>(bounds);
            keys.map(|key| (&**key, documents.get(id_in(key)).expect("keys are of documents")))
        });
        by_id.chain(sorted.into_iter().flatten())
    }

    /// How many entries an index has.
    pub(crate) fn entries(&self, index: IndexId) -> usize {
        let sorted = || self.sorted.get(&index).map(|sorted| sorted.keys.len());
        self.documents.get(&index).map(OrdMap::len).or_else(sorted).unwrap_or(0)
    }

    /// How many entries all indexes have together.
    pub(crate) fn all_entries(&self) -> usize {
        let documents: usize = self.documents.values().map(OrdMap::len).sum();
        documents + self.sorted.values().map(|sorted| sorted.keys.len()).sum::<usize>()
    }

    /// How many maps there are.
    pub(crate) fn count(&self) -> usize {
        self.documents.len() + self.sorted.len()
    }

    /// Whether an index has its map.
    pub(crate) fn has(&self, index: &Index) -> bool {
        self.documents.contains_key(&index.id) || self.sorted.contains_key(&index.id)
    }

    /// Makes the indexes of a table that are not there, without entries.
    pub(crate) fn add_table(&mut self, table: &Table) {
        for index in table.all_indexes() {
            if self.has(index) {
                continue;
            }
            if index.id == table.by_id.id {
                self.documents.insert(index.id, Documents::new());
            } else {
                self.set_keys(table, index, Keys::new());
            }
        }
    }

    /// Gives a table its documents.
    pub(crate) fn set_documents(&mut self, table: &Table, documents: Documents) {
        self.documents.insert(table.by_id.id, documents);
    }

    /// Gives an index its keys.
    pub(crate) fn set_keys(&mut self, table: &Table, index: &Index, keys: Keys) {
        assert_ne!(index.id, table.by_id.id, "documents by id are no set of keys");
        self.sorted.insert(index.id, Sorted { by_id: table.by_id.id, keys });
    }

    /// The keys of an index that is not by id.
    #[cfg(test)]
    pub(crate) fn keys(&self, index: &Index) -> Option<&Keys> {
        self.sorted.get(&index.id).map(|sorted| &sorted.keys)
    }

    /// Takes an index away.
    pub(crate) fn remove(&mut self, index: IndexId) {
        self.documents.remove(&index);
        self.sorted.remove(&index);
    }

    /// Takes the indexes of a table away.
    pub(crate) fn remove_table(&mut self, table: &Table) {
        table.all_indexes().for_each(|index| self.remove(index.id));
    }

    /// Takes the indexes away of which `stays` does not say that they stay.
    pub(crate) fn retain(&mut self, stays: impl Fn(IndexId) -> bool) {
        let all = self.documents.keys().chain(self.sorted.keys()).copied();
        let gone: Vec<_> = all.filter(|index| !stays(*index)).collect();
        gone.into_iter().for_each(|index| self.remove(index));
    }

    /// Puts a write into maps that hold its version before.
    pub(crate) fn apply(&mut self, write: &Write) {
        let by_id = write.table.by_id.id;
        let documents = self.documents.get_mut(&by_id).expect("a table has its documents");
        let internal = write.document().id.internal;
        match &write.after {
            Some(document) => drop(documents.insert(internal, Arc::clone(document))),
            None => {
                let removed = documents.remove(&internal);
                assert!(removed.is_some() || write.before.is_none(), "what is deleted was there");
            }
        }
        for change in &write.keys {
            if change.index == by_id || !change.moves() {
                continue;
            }
            let sorted = self.sorted.get_mut(&change.index).expect("every index has its keys");
            if let Some(before) = &change.before {
                let removed = sorted.keys.remove(&**before);
                assert!(removed.is_some(), "an index has a key for every document of its table");
            }
            if let Some(after) = &change.after {
                sorted.keys.insert(Arc::clone(after));
            }
        }
    }
}

/// The indexes as a transaction sees them. What it writes is put into them when it looks: until its
/// commit there may be newer ones to put it into instead.
#[derive(Clone, Debug)]
pub(crate) struct WorkingMaps {
    maps: IndexMaps,
    /// Writes that are not in the maps yet, oldest first.
    waiting: Vec<Arc<Write>>,
}

/// Writes that may wait: each look at a document passes them.
const WAITING: usize = 16;

impl WorkingMaps {
    /// Those of a snapshot.
    pub(crate) fn new(maps: IndexMaps) -> Self {
        Self { maps, waiting: Vec::new() }
    }

    /// Takes a write in.
    pub(crate) fn write(&mut self, write: Arc<Write>) {
        self.waiting.push(write);
        if self.waiting.len() > WAITING {
            self.settled();
        }
    }

    /// One document of a table.
    pub(crate) fn document(&self, table: &Table, internal: &[u8; 16]) -> Option<&Arc<Document>> {
        let (by_id, mut newest_first) = (table.by_id.id, self.waiting.iter().rev());
        let newest = newest_first.find(|write| {
            write.table.by_id.id == by_id && write.document().id.internal == *internal
        });
        match newest {
            Some(write) => write.after.as_ref(),
            None => self.maps.document(table, internal),
        }
    }

    /// The maps, with every write in them.
    pub(crate) fn settled(&mut self) -> &mut IndexMaps {
        for write in self.waiting.drain(..) {
            self.maps.apply(&write);
        }
        &mut self.maps
    }
}

/// The internal id that every key ends with.
fn id_in(key: &[u8]) -> &[u8; 16] {
    key.last_chunk().expect("a key ends with an id")
}

/// The set of keys that come in any order.
pub(crate) fn sorted(keys: Vec<Key>) -> Keys {
    // In order, the set grows at one end.
    in_order(keys).collect()
}

/// Keys in order.
fn in_order(keys: Vec<Key>) -> impl Iterator<Item = Key> {
    // Most pairs of keys differ early. To look at the whole keys is to wait for memory, a dozen
    // times for each of a million.
    let first_bytes = |(at, key): (usize, &Key)| {
        let mut first = [0; 16];
        let length = key.len().min(first.len());
        first[..length].copy_from_slice(&key[..length]);
        (u128::from_be_bytes(first), at)
    };
    let mut order: Vec<(u128, usize)> = keys.iter().enumerate().map(first_bytes).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| keys[a.1].cmp(&keys[b.1])));
    let mut keys: Vec<Option<_>> = keys.into_iter().map(Some).collect();
    order.into_iter().filter_map(move |(_, at)| keys[at].take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_in_order_also_where_keys_begin_alike() {
        // Every length around that of the bytes that are compared first, ends that differ, zeros.
        let ends = [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"b", b"\xff"];
        let keys = (0..20)
            .flat_map(|length| ends.map(|end| Key::from([vec![7; length], end.to_vec()].concat())));
        let keys: std::collections::BTreeSet<Key> = keys.collect();
        // In an order that is none.
        let mut mixed: Vec<(u32, Key)> = (0..).zip(keys.iter().cloned()).collect();
        mixed.sort_by_key(|(n, _)| n.wrapping_mul(2_654_435_761));
        assert!(in_order(mixed.into_iter().map(|(_, key)| key).collect()).eq(keys));
    }
}
