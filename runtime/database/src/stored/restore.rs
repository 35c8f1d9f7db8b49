//! From pairs and commits back to a database.
//!
//! In: the pairs of a checkpoint in the order of their keys; then the commits after it, in order.
//! Out: a [`Database`] that goes on where they end. Invariant: a commit that does not follow on the
//! one before it is [`Damaged`]: no gap goes unnoticed.

use std::sync::Arc;

use super::bytes::Reader;
use super::{
    COMPONENT, Change, Commit, DEPLOYMENT, DOCUMENT, Damaged, REQUEST, SHORTENED, StoredDeployment,
    StoredRequest, StoredTable, TABLE, VARIABLE,
};
use crate::catalog::{
    Index, Table, components_key, deployment_key, environment_key, number_key, table_key,
};
use crate::commit::{Database, Options};
use crate::document::Document;
use crate::environment::Variable;
use crate::id::{DocumentId, TableNumber};
use crate::index_maps::{Keys, sorted};
use crate::key::Key;
use crate::log::{KeyChange, Log, LogEntry, Write};
use crate::record::Timestamp;
use crate::snapshot::{Deployment, Snapshot};

/// Documents of a table from which on each index is sorted by a thread of its own.
const MANY: usize = 10_000;

/// A checkpoint that is being read.
pub struct Restoring {
    snapshot: Snapshot,
    build: String,
    /// The table whose documents are being read.
    filling: Option<Filling>,
    stale: bool,
}

/// A table that is being read.
struct Filling {
    /// How the keys of its documents begin.
    place: Vec<u8>,
    table: Arc<Table>,
    documents: Vec<Arc<Document>>,
}

/// A database that is being brought up to date.
pub struct Restored {
    log: Log,
    options: Options,
    build: String,
    stale: bool,
}

impl Restoring {
    /// Nothing yet; `build` names this program's build.
    pub fn new(build: &str) -> Self {
        let snapshot = Snapshot::empty(Timestamp(0));
        Self { snapshot, build: build.to_owned(), filling: None, stale: false }
    }

    /// Takes a pair in; they come in the order of their keys.
    ///
    /// # Errors
    /// A pair that is none.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        if key.first() != Some(&DOCUMENT) {
            self.finish_table();
            let change = Change { key: key.to_vec(), value: Some(value.to_vec()) };
            let mut to = Change::of(&mut self.snapshot, &self.build);
            to.apply(Timestamp(0), &change)?;
            self.stale = to.stale.unwrap_or(self.stale);
            return Ok(());
        }
        let (place, internal) = split_document_key(key)?;
        if self.filling.as_ref().is_none_or(|filling| filling.place != place) {
            self.finish_table();
            let table = table_at(&self.snapshot, place)?;
            let filling = Filling { place: place.to_vec(), table, documents: Vec::new() };
            self.filling = Some(filling);
        }
        let filling = self.filling.as_mut().expect("it was just made");
        filling.documents.push(document(filling.table.number, internal, value)?);
        Ok(())
    }

    /// Puts the documents of a table into its indexes.
    fn finish_table(&mut self) {
        let Some(Filling { table, documents, .. }) = self.filling.take() else { return };
        let maps = &mut self.snapshot.maps;
        for (index, keys) in fill(sorted_indexes(&table), &documents) {
            maps.set_keys(&table, &index, keys);
        }
        // They came in the order of their ids.
        let by_id = documents.into_iter().map(|document| (document.id.internal, document));
        maps.set_documents(&table, by_id.collect());
    }

    /// The checkpoint was made at `ts`.
    pub fn finish(mut self, ts: Timestamp, options: Options) -> Restored {
        self.finish_table();
        self.snapshot.ts = ts;
        let log = Log::new(Arc::new(self.snapshot), &options);
        Restored { log, options, build: self.build, stale: self.stale }
    }
}

/// The indexes of a table that are not by id.
fn sorted_indexes(table: &Table) -> Vec<Arc<Index>> {
    table.all_indexes().filter(|index| index.id != table.by_id.id).cloned().collect()
}

/// The keys of indexes, from their documents.
fn fill(indexes: Vec<Arc<Index>>, documents: &[Arc<Document>]) -> Vec<(Arc<Index>, Keys)> {
    let mut keys: Vec<Vec<_>> = indexes.iter().map(|_| Vec::new()).collect();
    for document in documents {
        let value = document.value();
        for (index, keys) in indexes.iter().zip(&mut keys) {
            keys.push(index.key(document, &value));
        }
    }
    let keys = indexes.into_iter().zip(keys);
    if documents.len() < MANY {
        return keys.map(|(index, keys)| (index, sorted(keys))).collect();
    }
    std::thread::scope(|scope| {
        let sort = |(index, keys)| (index, scope.spawn(|| sorted(keys)));
        let threads: Vec<_> = keys.map(sort).collect();
        let join = |(index, thread): (_, std::thread::ScopedJoinHandle<'_, Keys>)| {
            (index, thread.join().expect("comparing bytes does not panic"))
        };
        threads.into_iter().map(join).collect()
    })
}

impl Restored {
    /// Applies the next commit.
    ///
    /// # Errors
    /// A commit that does not follow on the last one, or cannot be read.
    pub fn replay(&mut self, commit: Commit) -> Result<(), Damaged> {
        let before = self.log.newest_snapshot();
        let Commit { ts, previous, writer, changes } = commit;
        let what = || format!("the commit at {ts}");
        if previous != before.ts || ts <= previous {
            let why = format!("it follows {previous}, and what is there ends at {}", before.ts);
            return Err(Damaged::new(what(), why));
        }
        let mut next = Snapshot { ts, ..Snapshot::clone(&before) };
        let mut to = Change::of(&mut next, &self.build);
        changes.iter().try_for_each(|change| to.apply(ts, change))?;
        let Replaying { writes, catalog, stale, .. } = to;
        self.stale = stale.unwrap_or(self.stale);
        let snapshot = Arc::new(next);
        let entry = LogEntry { ts, writer, writes, catalog, snapshot };
        drop(self.log.append(Arc::new(entry), ts));
        Ok(())
    }

    /// Where it has come to.
    pub fn ts(&self) -> Timestamp {
        self.log.newest()
    }

    /// Whether the code that serves was evaluated by another build of this program, whose startup
    /// snapshot this one cannot load: it must be analyzed again before anything runs.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The database.
    pub fn database(self) -> Database {
        Database::from(self.log, &self.options)
    }
}

/// Applies changes to a snapshot, and notes what they were.
struct Replaying<'a> {
    snapshot: &'a mut Snapshot,
    build: &'a str,
    writes: Vec<Arc<Write>>,
    catalog: Vec<Key>,
    /// Whether the code was evaluated by another build; `None`: no code came.
    stale: Option<bool>,
}

impl Change {
    fn of<'a>(snapshot: &'a mut Snapshot, build: &'a str) -> Replaying<'a> {
        Replaying { snapshot, build, writes: Vec::new(), catalog: Vec::new(), stale: None }
    }
}

impl Replaying<'_> {
    fn apply(&mut self, ts: Timestamp, change: &Change) -> Result<(), Damaged> {
        let Change { key, value } = change;
        match (key.first(), value) {
            (Some(&COMPONENT), value) => self.component(&key[1..], value.is_some()),
            (Some(&TABLE), Some(value)) => self.table(key, value),
            (Some(&TABLE), None) => self.no_table(key),
            (Some(&DOCUMENT), value) => self.document(key, value.as_deref()),
            (Some(&VARIABLE), value) => self.variable(&key[1..], value.as_deref()),
            (Some(&DEPLOYMENT), Some(value)) => self.deployment(value),
            (Some(&REQUEST), Some(value)) => self.request(ts, key, value),
            _ => Err(Damaged::new("a pair", "its kind is unknown")),
        }
    }

    fn component(&mut self, path: &[u8], is_there: bool) -> Result<(), Damaged> {
        let path = str::from_utf8(path).map_err(|error| Damaged::new("a component", error))?;
        let Snapshot { catalog, maps, .. } = &mut *self.snapshot;
        let catalog = Arc::make_mut(catalog);
        if is_there {
            catalog.add_component(path).iter().for_each(|table| maps.add_table(table));
        } else {
            catalog.tables(path).for_each(|table| maps.remove_table(table));
            catalog.remove_component(path);
        }
        self.catalog.push(components_key());
        Ok(())
    }

    fn table(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let what = "the definition of a table";
        let (component, number) = split_table_key(key)?;
        let stored: StoredTable = read(what, value)?;
        let catalog = Arc::make_mut(&mut self.snapshot.catalog);
        let table = match catalog.table(component, &stored.name) {
            Some(table) if table.number == number => Arc::clone(table),
            Some(_) => return Err(Damaged::new(what, "its number has changed")),
            None => catalog.restore_table(component, &stored.name, number),
        };
        self.catalog.push(table_key(component, &stored.name));
        self.catalog.push(number_key(component, number));
        for index in table.indexes.values() {
            let declared = stored.indexes.iter().find(|stored| stored.name == index.name);
            if declared.is_none_or(|stored| stored.fields != index.declared_fields()) {
                catalog.drop_index(&table, index);
                self.snapshot.maps.remove(index.id);
            }
        }
        for index in &stored.indexes {
            let table = Arc::clone(catalog.table(component, &stored.name).expect("it is there"));
            match table.indexes.get(&index.name) {
                Some(found) if found.staged == index.staged => {}
                Some(found) => catalog.stage_index(&table, found, index.staged),
                None => {
                    catalog.declare_index(&table, &index.name, &index.fields, index.staged);
                }
            }
        }
        self.fill_new_indexes(component, &stored.name);
        Ok(())
    }

    /// A table that is gone after its documents; one that still has some goes with its component.
    fn no_table(&mut self, key: &[u8]) -> Result<(), Damaged> {
        let (component, number) = split_table_key(key)?;
        let Snapshot { catalog, maps, .. } = &mut *self.snapshot;
        let name = catalog.table_name(component, number);
        let table = name.and_then(|name| catalog.table(component, &name).cloned());
        let is_empty = |table: &Arc<Table>| maps.entries(table.by_id.id) == 0;
        let Some(table) = table.filter(is_empty) else { return Ok(()) };
        maps.remove_table(&table);
        Arc::make_mut(catalog).remove_table(&table);
        self.catalog.push(table_key(component, &table.name));
        self.catalog.push(number_key(component, number));
        Ok(())
    }

    /// Fills each index of a table that is not there.
    fn fill_new_indexes(&mut self, component: &str, name: &str) {
        let table = self.snapshot.catalog.table(component, name).expect("it is there");
        let maps = &mut self.snapshot.maps;
        let documents = maps.documents(table).into_iter().flat_map(|map| map.values());
        let documents: Vec<_> = documents.cloned().collect();
        let mut missing = sorted_indexes(table);
        missing.retain(|index| !maps.has(index));
        for (index, keys) in fill(missing, &documents) {
            maps.set_keys(table, &index, keys);
        }
        maps.add_table(table);
    }

    fn document(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Damaged> {
        let (place, internal) = split_document_key(key)?;
        let table = table_at(self.snapshot, place)?;
        let before = self.snapshot.maps.document(&table, &internal).cloned();
        let after = value.map(|value| document(table.number, internal, value)).transpose()?;
        if before.is_none() && after.is_none() {
            return Err(Damaged::new("a document", "it is deleted, and was never there"));
        }
        let values = [&before, &after].map(|version| version.as_ref().map(|v| v.value()));
        let key = |at: usize, version: &Option<Arc<Document>>, index: &Index| {
            Some(index.key(version.as_ref()?, values[at].as_ref()?))
        };
        let keys = table.all_indexes().map(|index| KeyChange {
            index: index.id,
            before: key(0, &before, index),
            after: key(1, &after, index),
        });
        let keys = keys.collect();
        let write = Write { table: Arc::clone(&table), before, after, keys };
        self.snapshot.maps.apply(&write);
        self.writes.push(Arc::new(write));
        Ok(())
    }

    fn variable(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<(), Damaged> {
        let what = "an environment variable";
        let name = str::from_utf8(name).map_err(|error| Damaged::new(what, error))?;
        let value: Option<Variable> = value.map(|value| read(what, value)).transpose()?;
        self.snapshot.environment.restore(name, value);
        self.catalog.push(environment_key(name));
        Ok(())
    }

    fn deployment(&mut self, value: &[u8]) -> Result<(), Damaged> {
        let what = "the deployed code";
        let stored: StoredDeployment<Deployment> = match value {
            [SHORTENED, rest @ ..] => {
                let mut json = Vec::new();
                let whole = brotli::BrotliDecompress(&mut &*rest, &mut json);
                whole.map_err(|error| Damaged::new(what, error))?;
                read(what, &json)?
            }
            json => read(what, json)?,
        };
        self.stale = Some(stored.build != self.build);
        self.snapshot.deployment = Some(Arc::new(stored.deployment));
        self.catalog.push(deployment_key());
        Ok(())
    }

    fn request(&mut self, ts: Timestamp, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let what = "the answer of a request";
        let at = Reader(&key[1..]).u64().map_err(|()| Damaged::new(what, "its key is short"))?;
        let at = Timestamp(at.swap_bytes());
        if ts != Timestamp(0) && ts != at {
            return Err(Damaged::new(what, "it belongs to another commit"));
        }
        let stored: StoredRequest = read(what, value)?;
        let requests = &self.snapshot.requests;
        if requests.find(stored.key).is_some() {
            return Err(Damaged::new(what, "it is there twice"));
        }
        self.snapshot.requests = requests.with(stored.key, stored.answer, at);
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Damaged> {
    serde_json::from_slice(bytes).map_err(|error| Damaged::new(what, error))
}

/// `kind component 0 number`, and what comes after it.
fn split_table_key(key: &[u8]) -> Result<(&str, TableNumber), Damaged> {
    let bad = |why: &str| Damaged::new("a table's key", why);
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(|| bad("it has no end"))?;
    let component = str::from_utf8(&key[1..end]).map_err(|_| bad("it is no text"))?;
    let number = key[end + 1..].first_chunk::<4>().ok_or_else(|| bad("it is short"))?;
    Ok((component, TableNumber(u32::from_be_bytes(*number))))
}

fn split_document_key(key: &[u8]) -> Result<(&[u8], [u8; 16]), Damaged> {
    let short = || Damaged::new("a document's key", "it is short");
    let (place, internal) = key.split_last_chunk::<16>().ok_or_else(short)?;
    Ok((place, *internal))
}

fn table_at(snapshot: &Snapshot, place: &[u8]) -> Result<Arc<Table>, Damaged> {
    let (component, number) = split_table_key(place)?;
    let name = snapshot.catalog.table_name(component, number);
    let table = name.and_then(|name| snapshot.catalog.table(component, &name).cloned());
    table.ok_or_else(|| Damaged::new("a document", format!("it has no table {}", number.0)))
}

fn document(
    table: TableNumber,
    internal: [u8; 16],
    value: &[u8],
) -> Result<Arc<Document>, Damaged> {
    let what = "a document";
    let mut reader = Reader(value);
    let short = |()| Damaged::new(what, "it is short");
    let creation_time = f64::from_bits(reader.u64().map_err(short)?);
    let size = reader.u32().map_err(short)?;
    let text = str::from_utf8(reader.0).map_err(|error| Damaged::new(what, error))?;
    let id = DocumentId { table, internal };
    Ok(Arc::new(Document::restored(id, creation_time, size, text)))
}
