//! An import: documents and files of a backup, or of a file of rows, put into tables by one
//! transaction.
//!
//! In: rows with where each was written; blobs that are kept already. Out: what will change, then
//! the change itself, as writes of a [`Transaction`] that commits like any other.
//! Invariant: all or nothing; ids and creation times stay as they were written, so a table gets the
//! number by which its documents' ids know it ([`numbers`]); every document matches the schema.

mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::backfill::check_all;
use crate::catalog::{
    Catalog, Table, all_numbers, check_table_name, components_key, deployment_key, number_key,
    table_key,
};
use crate::components::is_within;
use crate::document::Document;
use crate::error::UserError;
use crate::files::{BLOBS, NewFile, STORAGE};
use crate::id::{DocumentId, TableNumber};
use crate::json;
use crate::key::Interval;
use crate::log::{MAP_NODE_BYTES, MAP_NODE_ENTRIES, write_bytes};
use crate::memory::index_bytes;
use crate::snapshot::{CATALOG, Snapshot};
use crate::transaction::Transaction;
use crate::value::Value;
use crate::work::Work;
use crate::writes::check_table_count;
use numbers::{Numbered, numbered};

/// What happens to documents that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There are none in the tables that the import has, or it fails.
    RequireEmpty,
    /// They stay.
    Append,
    /// Those of the tables that the import has go.
    Replace,
    /// Those of every table go. Files go if the import has files.
    ReplaceAll,
}

/// What to put where.
#[derive(Debug)]
pub struct Import {
    /// What happens to what is there.
    pub mode: Mode,
    /// The component it goes into; parts of it may go into those inside.
    pub component: Arc<str>,
    /// Tables, each once.
    pub tables: Vec<ImportTable>,
    /// Stored files of components, each once.
    pub files: Vec<ImportFiles>,
}

/// Documents of one table.
#[derive(Debug)]
pub struct ImportTable {
    /// The component; one that is not there is made, without code.
    pub component: Arc<str>,
    /// The table.
    pub name: Arc<str>,
    /// The number in its documents' ids, if it is known.
    pub number: Option<TableNumber>,
    /// The file they are from, for errors.
    pub source: String,
    /// The documents.
    pub rows: Vec<ImportRow>,
}

/// One document. Its text takes a fraction of the memory that its values would.
#[derive(Clone, Debug)]
pub struct ImportRow {
    /// Its line in the file, or its place in a list; from 1.
    pub place: usize,
    /// Its `_id`, if it has one that is an id.
    id: Option<DocumentId>,
    /// Its fields, perhaps `_id` and `_creationTime` among them, as encoded JSON.
    json: Box<str>,
}

/// The last millisecond that a `Date` of JavaScript can hold, in the year 275760.
const LATEST_MS: f64 = 8.64e15;
/// Bytes of the text of `_id` and `_creationTime`.
const SYSTEM_FIELDS: usize = 80;
/// Times that a document is in memory on its way to the disk: encoded, and as SQLite has it.
const COPIES: usize = 3;
/// Bytes of its key there, and of the lengths of both.
const KEPT: usize = 48;

impl ImportRow {
    /// A document from the given line.
    pub fn new(place: usize, fields: BTreeMap<String, Value>) -> Self {
        let id = match fields.get("_id") {
            Some(Value::String(id)) => DocumentId::decode(id),
            _ => None,
        };
        Self { place, id, json: json::encode(&Value::Object(fields)).into() }
    }

    /// Its fields, as encoded JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Estimated bytes that it takes: those of the row, and those that come at the height of its
    /// import into a table with so many indexes, when it is a document, a write of a transaction
    /// and of a commit, and on its way to the disk if commits are kept.
    pub fn needs(&self, indexes: usize, is_kept: bool) -> (u64, u64) {
        let text = self.json.len();
        // The allocator's sizes are up to a quarter apart.
        let allocated = |bytes: usize| bytes + bytes / 8;
        // A list that grows is copied into one of twice its room.
        let row = size_of::<Self>() * 3 / 2 + allocated(text);
        let text = text + if self.id.is_some() { 0 } else { SYSTEM_FIELDS };
        let document = size_of::<Document>() + 16 + allocated(text);
        let written = write_bytes(indexes) + MAP_NODE_BYTES / MAP_NODE_ENTRIES;
        let kept = if is_kept { COPIES * (text + KEPT) } else { 0 };
        let more = document as u64 + index_bytes(indexes) + (written + kept) as u64;
        (row as u64, more)
    }

    fn fields(&self) -> Result<BTreeMap<String, Value>, UserError> {
        match json::decode(&self.json)? {
            Value::Object(fields) => Ok(fields),
            _ => unreachable!("it was made of fields"),
        }
    }
}

/// Stored files of one component.
#[derive(Debug)]
pub struct ImportFiles {
    /// The component.
    pub component: Arc<str>,
    /// The files.
    pub files: Vec<ImportFile>,
}

/// A stored file whose blob is, or will be, kept.
#[derive(Clone, Debug)]
pub struct ImportFile {
    /// Its id, if it had one.
    pub id: Option<DocumentId>,
    /// `_creationTime`, if it had one.
    pub creation_time: Option<f64>,
    /// Name of its blob.
    pub blob: String,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub size: u64,
    /// What it is, if anybody knows.
    pub content_type: Option<String>,
}

/// What an import does to one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// The component.
    pub component: Arc<str>,
    /// The table.
    pub name: Arc<str>,
    /// Documents that come.
    pub creates: u64,
    /// Documents that go.
    pub deletes: u64,
    /// Documents there are.
    pub there: u64,
}

impl Import {
    /// What it would do to a snapshot, table by table.
    ///
    /// # Errors
    /// What can be known without looking at documents: a table that must be empty and is not, or
    /// that cannot have the number that its ids need; a name that no table can have.
    pub fn changes(&self, snapshot: &Snapshot) -> Result<Vec<TableChange>, UserError> {
        self.tables.iter().try_for_each(|table| check_table_name(&table.name))?;
        numbered(self, snapshot)?;
        let mut changes = Vec::new();
        let mut add = |component: &Arc<str>, name: &str, creates: usize, is_here: bool| {
            let there = snapshot.table(component, name).map_or(0, |table| snapshot.count(table));
            let deletes = if self.clears(is_here) { there } else { 0 };
            let (component, name) = (Arc::clone(component), name.into());
            let creates = creates as u64;
            changes.push(TableChange { component, name, creates, deletes, there });
        };
        for table in &self.tables {
            add(&table.component, &table.name, table.rows.len(), true);
        }
        for files in &self.files {
            add(&files.component, STORAGE, files.files.len(), true);
        }
        for table in self.others(snapshot) {
            if snapshot.count(&table) > 0 {
                add(&table.component, &table.name, 0, false);
            }
        }
        match changes.iter().find(|change| change.there > 0) {
            Some(TableChange { name, .. }) if self.mode == Mode::RequireEmpty => {
                Err(UserError::new(
                    "TableExists",
                    format!(
                        "Table {name} already exists. Please choose a new table name or use \
                         replace/append modes."
                    ),
                ))
            }
            _ => Ok(changes),
        }
    }

    /// Whether the documents of a table go; of one that the import has, or of another.
    fn clears(&self, is_here: bool) -> bool {
        match self.mode {
            Mode::RequireEmpty | Mode::Append => false,
            Mode::Replace => is_here,
            Mode::ReplaceAll => true,
        }
    }

    /// The authors' tables that it empties although it has nothing for them.
    fn others(&self, snapshot: &Snapshot) -> Vec<Arc<Table>> {
        if self.mode != Mode::ReplaceAll {
            return Vec::new();
        }
        let has: BTreeSet<(&str, &str)> =
            self.tables.iter().map(|table| (&*table.component, &*table.name)).collect();
        let within = |table: &&Arc<Table>| {
            self.component.is_empty() || is_within(&table.component, &self.component)
        };
        let tables = snapshot.catalog.all_tables().filter(within);
        let tables = tables.filter(|table| !table.is_system());
        tables.filter(|table| !has.contains(&(&*table.component, &*table.name))).cloned().collect()
    }
}

impl Transaction {
    /// Writes an import; gives how many documents and files it brought.
    ///
    /// # Errors
    /// As [`Import::changes`]; a document that cannot be stored, with its file and line; documents
    /// that stay and would no longer match the schema. The transaction is of no more use then.
    pub fn import(&mut self, import: &Import) -> Result<u64, UserError> {
        // Its own limit is that of the import: it is no function's work.
        self.budget = Work::each(u64::MAX);
        let snapshot = Arc::clone(&self.snapshot);
        let changes = import.changes(&snapshot)?;
        for change in &changes {
            let table = snapshot.table(&change.component, &change.name);
            let Some(table) = table else { continue };
            // What is there decides what comes of it.
            self.reads.insert(table.by_id.id, Interval::all());
            if change.deletes > 0 {
                self.clear(table);
            }
        }
        self.number(import, &numbered(import, &snapshot)?)?;
        for table in &import.tables {
            let target = self.state.catalog.table(&table.component, &table.name);
            let target = Arc::clone(target.expect("it was made if it was not there"));
            table.rows.iter().try_for_each(|row| {
                self.import_row(&target, row).map_err(|error| placed(error, table, row))
            })?;
        }
        for ImportFiles { component, files } in &import.files {
            files.iter().try_for_each(|file| self.import_file(component, file))?;
        }
        self.check_what_stays(&snapshot)?;
        Ok(changes.iter().map(|change| change.creates).sum())
    }

    /// Deletes every document of a table.
    fn clear(&mut self, table: &Arc<Table>) {
        let snapshot = Arc::clone(&self.snapshot);
        for (_, document) in snapshot.range(table.by_id.id, &Interval::all()) {
            self.write(table, Some((Arc::clone(document), document.value())), None);
            if &*table.name == STORAGE {
                self.clear_blob(&table.component, document.id);
            }
        }
    }

    /// Deletes the row of a file's blob.
    fn clear_blob(&mut self, component: &str, file: DocumentId) {
        let blobs = self.state.catalog.table(component, BLOBS).cloned();
        let blobs = blobs.expect("a component with files has their blobs");
        let row = self.look_up(&blobs, DocumentId { table: blobs.number, ..file });
        let row = row.expect("both rows of a file are written and deleted together");
        let value = row.value();
        self.write(&blobs, Some((row, value)), None);
    }

    /// Makes the tables that the import needs, and gives those their numbers that have others.
    fn number(&mut self, import: &Import, tables: &[Numbered]) -> Result<(), UserError> {
        for component in import.components() {
            self.add_component(component);
        }
        if tables.is_empty() {
            return Ok(());
        }
        self.reads.insert(CATALOG, all_numbers());
        let catalog = Arc::make_mut(&mut self.state.catalog);
        for table in tables.iter().filter_map(|table| table.before.as_ref()) {
            self.state.maps.settled().remove_table(table);
            catalog.remove_table(table);
            self.state.created.insert(number_key(&table.component, table.number));
            // Whoever has read any of its documents has read this key too.
            self.state.created.insert(deployment_key());
        }
        for Numbered { component, name, number, before } in tables {
            check_table_count(catalog, component)?;
            catalog.restore_table(component, name, *number);
            for index in before.iter().flat_map(|before| before.indexes.values()) {
                let table = Arc::clone(catalog.table(component, name).expect("it was just made"));
                catalog.declare_index(&table, &index.name, index.declared_fields(), index.staged);
            }
            let table = catalog.table(component, name).expect("it was just made");
            self.state.maps.settled().add_table(table);
            self.state.created.insert(table_key(component, name));
            self.state.created.insert(number_key(component, *number));
        }
        Ok(())
    }

    /// Gives a component that is not there the host's tables.
    fn add_component(&mut self, component: &str) {
        if self.state.catalog.components().any(|known| **known == *component) {
            return;
        }
        self.reads.insert(CATALOG, all_numbers());
        self.state.created.insert(components_key());
        for table in Arc::make_mut(&mut self.state.catalog).add_component(component) {
            self.state.maps.settled().add_table(&table);
            self.state.created.insert(table_key(component, &table.name));
            self.state.created.insert(number_key(component, table.number));
        }
    }

    fn import_row(&mut self, table: &Arc<Table>, row: &ImportRow) -> Result<(), UserError> {
        let mut fields = row.fields()?;
        let id = fields.remove("_id").map(|id| id_of(&id, table)).transpose()?;
        let id = id.unwrap_or_else(|| self.draw_id(table));
        let creation_time = match fields.remove("_creationTime") {
            Some(time) => creation_time(&time)?,
            None => self.draw_creation_time(),
        };
        self.check_document(&table.component, &table.name, &fields)?;
        fields.insert("_id".into(), Value::String(id.encode()));
        fields.insert("_creationTime".into(), Value::Float64(creation_time));
        let version = self.version(id, creation_time, fields)?;
        if self.state.placeholders {
            let text = "`$commitTs` is no value that a document can have.";
            return Err(UserError::new("InvalidDocumentError", text));
        }
        self.insert_new(table, version)
    }

    /// Inserts a document whose id nobody has.
    fn insert_new(
        &mut self,
        table: &Arc<Table>,
        version: (Arc<Document>, Value),
    ) -> Result<(), UserError> {
        let id = version.0.id;
        if self.state.maps.document(table, &id.internal).is_some() {
            let text = format!(
                "A document with the ID {id} is there already: it is in the import twice, or the \
                 table has it and `append` keeps what is there.",
                id = id.encode()
            );
            return Err(UserError::new("DuplicateId", text));
        }
        self.write(table, None, Some(version));
        Ok(())
    }

    fn import_file(&mut self, component: &str, file: &ImportFile) -> Result<(), UserError> {
        let of = NewFile {
            blob: &file.blob,
            sha256: file.sha256,
            size: file.size,
            content_type: file.content_type.as_deref(),
        };
        let (storage, _) = self.file_tables(component)?;
        let id = file.id.unwrap_or_else(|| self.draw_id(&storage));
        if self.look_up(&storage, id).is_some() {
            let text = format!(
                "A file with the ID {} is there already: it is in the import twice, or `append` \
                 keeps what is there.",
                id.encode()
            );
            return Err(UserError::new("DuplicateId", text));
        }
        let creation_time = file.creation_time.unwrap_or_else(|| self.draw_creation_time());
        self.write_file(component, (id, creation_time), of)
    }

    /// Tables that have other numbers now, or none, may be in the ids of documents that stay.
    fn check_what_stays(&mut self, before: &Snapshot) -> Result<(), UserError> {
        if !self.state.created.contains(&deployment_key()) {
            return Ok(());
        }
        let (catalog, maps) = (Arc::clone(&self.state.catalog), self.state.maps.settled().clone());
        let after = Snapshot { catalog, maps, ..before.clone() };
        let deployment = before.deployment.as_ref();
        for (component, analysis) in deployment.iter().flat_map(|now| now.analysis.each()) {
            if let Some(schema) = &analysis.schema {
                check_all(&after, component, schema)
                    .map_err(|error| UserError::new(error.code, error.message))?;
            }
        }
        Ok(())
    }
}

impl Import {
    /// The components that it has something for.
    fn components(&self) -> BTreeSet<&Arc<str>> {
        let tables = self.tables.iter().map(|table| &table.component);
        tables.chain(self.files.iter().map(|files| &files.component)).collect()
    }
}

/// The id of a document that goes into a table.
fn id_of(id: &Value, table: &Table) -> Result<DocumentId, UserError> {
    let Value::String(text) = id else {
        let text = format!("`_id` must be a string, and is of the type {}.", id.kind_name());
        return Err(UserError::new("InvalidId", text));
    };
    let found = DocumentId::decode(text)
        .ok_or_else(|| UserError::new("InvalidId", format!("`_id` {text:?} is no document ID.")))?;
    if found.table != table.number {
        let text = format!(
            "`_id` {text:?} is of a table with the number {}, and \"{}\" has the number {}. Take \
             `_id` out of the file to give its documents new ones.",
            found.table.0, table.name, table.number.0
        );
        return Err(UserError::new("InvalidId", text));
    }
    Ok(found)
}

fn creation_time(time: &Value) -> Result<f64, UserError> {
    match time {
        Value::Float64(time) => check_creation_time(*time),
        // As a tool may write whole milliseconds.
        Value::Int64(time) => check_creation_time(*time as f64),
        other => Err(no_creation_time(format_args!("of the type {}", other.kind_name()))),
    }
}

/// Whether a number can be a `_creationTime`; gives it back.
///
/// # Errors
/// It is no time that a `Date` can hold.
pub fn check_creation_time(time: f64) -> Result<f64, UserError> {
    let can_be = time > 0.0 && time <= LATEST_MS;
    if can_be { Ok(time) } else { Err(no_creation_time(format_args!("{time:?}"))) }
}

fn no_creation_time(found: fmt::Arguments<'_>) -> UserError {
    let text = format!(
        "`_creationTime` is {found}, and must be a number of milliseconds since 1970, above 0 and \
         at most {LATEST_MS}: no `Date` can hold a later one."
    );
    UserError::new("InvalidCreationTime", text)
}

fn placed(error: UserError, table: &ImportTable, row: &ImportRow) -> UserError {
    let text = format!("{}:{}: {}", table.source, row.place, error.message);
    UserError { message: text, ..error }
}

/// Numbers that a component's tables have.
pub(crate) fn taken(catalog: &Catalog, component: &str) -> BTreeMap<TableNumber, Arc<Table>> {
    catalog.tables(component).map(|table| (table.number, Arc::clone(table))).collect()
}
