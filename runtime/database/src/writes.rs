//! What a transaction writes: inserts, patches, replacements and deletes, checked and buffered.
//!
//! In: values from a function. Out: versions of documents in the working maps, and for each
//! document touched the version before and after with its keys in every index.
//! Invariant: a buffered document is within the limits and matches the schema; writes that cancel
//! out, or change nothing, leave no trace.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::rand_core::Rng;

use crate::catalog::{
    Catalog, Table, all_numbers, check_table_name, number_key, read_only_table, table_key,
};
use crate::document::Document;
use crate::error::UserError;
use crate::id::{DocumentId, TableNumber};
use crate::index_maps::IndexMaps;
use crate::key::Interval;
use crate::limits;
use crate::log::{KeyChange, Write};
use crate::record::Timestamp;
use crate::snapshot::CATALOG;
use crate::transaction::{State, Transaction, check_table, parse_id};
use crate::value::Value;

const NANOSECONDS_PER_DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// A version of a document with its decoded value.
pub(crate) type Version = (Arc<Document>, Value);

impl Transaction {
    /// `db.insert`: a new document; the table is created with its first one.
    ///
    /// # Errors
    /// A query that writes; a table name that is reserved or malformed; a value that is no
    /// document or does not match the schema; a limit (`convex-compat.md` sections 2.5, 3.3, 8.6).
    pub fn insert(
        &mut self,
        component: &str,
        table: &str,
        value: Value,
    ) -> Result<DocumentId, UserError> {
        self.check_writable("db.insert")?;
        check_table_name(table)?;
        let mut fields = object(value)?;
        for system in ["_id", "_creationTime"] {
            if fields.contains_key(system) {
                return Err(system_field_mismatch(system));
            }
        }
        self.check_document(component, table, &fields)?;
        let table = self.table_for_insert(component, table)?;
        let id = self.draw_id(&table);
        let creation_time = self.draw_creation_time();
        fields.insert("_id".into(), Value::String(id.encode()));
        fields.insert("_creationTime".into(), Value::Float64(creation_time));
        let version = self.version(id, creation_time, fields)?;
        self.write(&table, None, Some(version));
        Ok(id)
    }

    /// `db.patch`: merges the top-level fields; `None` deletes one. Gives the document after.
    ///
    /// # Errors
    /// As [`Transaction::insert`], and an id without a document.
    pub fn patch(
        &mut self,
        component: &str,
        id: &str,
        table: Option<&str>,
        patch: BTreeMap<String, Option<Value>>,
    ) -> Result<Arc<Document>, UserError> {
        let target = Target { component, id, table, operation: "db.patch", verb: "Update" };
        let (table, before) = self.existing(target)?;
        let mut fields = object(before.1.clone())?;
        for (name, value) in patch {
            let system = matches!(name.as_str(), "_id" | "_creationTime");
            match value {
                value if system && value.as_ref() != fields.get(&name) => {
                    return Err(system_field_mismatch(&name));
                }
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        self.rewrite(&table, before, fields)
    }

    /// `db.replace`: another value under the same id. Gives the document after.
    ///
    /// # Errors
    /// As [`Transaction::patch`].
    pub fn replace(
        &mut self,
        component: &str,
        id: &str,
        table: Option<&str>,
        value: Value,
    ) -> Result<Arc<Document>, UserError> {
        let target = Target { component, id, table, operation: "db.replace", verb: "Replace" };
        let (table, before) = self.existing(target)?;
        let mut fields = object(value)?;
        for system in ["_id", "_creationTime"] {
            let stored = before.1.field(system).expect("stored documents have system fields");
            match fields.get(system) {
                Some(given) if given != stored => return Err(system_field_mismatch(system)),
                _ => fields.insert(system.into(), stored.clone()),
            };
        }
        self.rewrite(&table, before, fields)
    }

    /// `db.delete`: gives the document that was there.
    ///
    /// # Errors
    /// As [`Transaction::patch`].
    pub fn remove(
        &mut self,
        component: &str,
        id: &str,
        table: Option<&str>,
    ) -> Result<Arc<Document>, UserError> {
        let target = Target { component, id, table, operation: "db.delete", verb: "Delete" };
        let (table, before) = self.existing(target)?;
        self.count_write(0)?;
        let document = Arc::clone(&before.0);
        self.write(&table, Some(before), None);
        Ok(document)
    }

    /// The document that a patch, replacement or delete is about.
    fn existing(&mut self, target: Target<'_>) -> Result<(Arc<Table>, Version), UserError> {
        self.check_writable(target.operation)?;
        let id = parse_id(target.id, target.operation)?;
        let missing = || {
            UserError::new(
                "NonexistentDocument",
                format!("{} on nonexistent document ID {}", target.verb, target.id),
            )
        };
        let table = self.table_of(target.component, id).ok_or_else(missing)?;
        check_table(&table, target.table, target.operation)?;
        if table.is_system() {
            return Err(read_only_table(&table.name));
        }
        let document = self.look_up(&table, id).ok_or_else(missing)?;
        let value = document.value();
        Ok((table, (document, value)))
    }

    /// Stores other fields under the id of `before`, unless they are the same.
    fn rewrite(
        &mut self,
        table: &Arc<Table>,
        before: Version,
        fields: BTreeMap<String, Value>,
    ) -> Result<Arc<Document>, UserError> {
        let mut own = fields.clone();
        own.remove("_id");
        own.remove("_creationTime");
        self.check_document(&table.component, &table.name, &own)?;
        let Document { id, creation_time, .. } = *before.0;
        if matches!(&before.1, Value::Object(stored) if *stored == fields) {
            return Ok(before.0);
        }
        let version = self.version(id, creation_time, fields)?;
        let document = Arc::clone(&version.0);
        self.write(table, Some(before), Some(version));
        Ok(document)
    }

    /// Encodes a checked document and counts it against the budget.
    pub(crate) fn version(
        &mut self,
        id: DocumentId,
        creation_time: f64,
        fields: BTreeMap<String, Value>,
    ) -> Result<Version, UserError> {
        let value = Value::Object(fields);
        check_size(&value)?;
        let version = self.encoded(id, creation_time, value);
        self.count_write(u64::from(version.0.size))?;
        Ok(version)
    }

    /// Encodes a document that needs no check.
    pub(crate) fn encoded(&mut self, id: DocumentId, creation_time: f64, value: Value) -> Version {
        self.state.placeholders |= holds_placeholder(&value);
        (Arc::new(Document::new(id, creation_time, &value)), value)
    }

    /// Checks a document without its system fields against names, limits and the schema.
    pub(crate) fn check_document(
        &mut self,
        component: &str,
        table: &str,
        fields: &BTreeMap<String, Value>,
    ) -> Result<(), UserError> {
        if let Some(field) = fields.keys().find(|field| field.starts_with('_')) {
            let text = format!(
                "Field '{field}' starts with an underscore, which is only allowed for system \
                 fields like '_id'"
            );
            return Err(UserError::new("InvalidDocumentError", text));
        }
        let deployment = self.snapshot.deployment.clone();
        let schema = deployment.as_ref().and_then(|found| found.schema(component));
        let Some(schema) = schema.filter(|schema| schema.validation) else { return Ok(()) };
        // The schema speaks of tables by name: that a number has none is a read.
        let unknown: RefCell<Vec<TableNumber>> = RefCell::default();
        let tables = |number: TableNumber| {
            let name = self.state.catalog.table_name(component, number);
            if name.is_none() {
                unknown.borrow_mut().push(number);
            }
            name
        };
        let value = Value::Object(fields.clone());
        let checked = schema.check_document(table, &value, &tables);
        for number in unknown.into_inner() {
            self.reads.insert(CATALOG, Interval::point(&number_key(component, number)));
        }
        checked.map_err(|error| {
            let text = format!(
                "Failed to insert or update a document in table \"{table}\" because it does not \
                 match the schema: {error}"
            );
            UserError::new("SchemaEnforcementError", text)
        })
    }

    pub(crate) fn check_writable(&self, operation: &str) -> Result<(), UserError> {
        if !self.read_only {
            return Ok(());
        }
        let text = format!("`{operation}` is not available in a query: only mutations can write.");
        Err(UserError::new("WriteInQuery", text))
    }

    /// The table, created if need be. Creating one reads every number that is taken.
    fn table_for_insert(&mut self, component: &str, name: &str) -> Result<Arc<Table>, UserError> {
        if let Some(table) = self.table_named(component, name) {
            return Ok(table);
        }
        self.reads.insert(CATALOG, all_numbers());
        check_table_count(&self.state.catalog, component)?;
        let table = create_table(
            Arc::make_mut(&mut self.state.catalog),
            self.state.maps.settled(),
            component,
            name,
        );
        self.state.created.insert(table_key(component, name));
        self.state.created.insert(number_key(component, table.number));
        Ok(table)
    }

    pub(crate) fn draw_id(&mut self, table: &Table) -> DocumentId {
        let day = u16::try_from(self.given.now / NANOSECONDS_PER_DAY).unwrap_or(u16::MAX);
        loop {
            let mut internal = [0; 16];
            self.ids.fill_bytes(&mut internal[..14]);
            internal[14..].copy_from_slice(&day.to_be_bytes());
            // Two calls given the same seed draw the same ids; the later one draws on.
            if self.state.maps.document(table, &internal).is_none() {
                return DocumentId { table: table.number, internal };
            }
        }
    }

    pub(crate) fn draw_creation_time(&mut self) -> f64 {
        let begun = self.snapshot.ts.0.max(self.given.now).max(1) as f64 / 1e6;
        self.newest_creation_time = begun.max(self.newest_creation_time.next_up());
        self.creation_times += 1;
        self.newest_creation_time
    }

    /// Counts one document written against the budget.
    pub(crate) fn count_write(&mut self, bytes: u64) -> Result<(), UserError> {
        self.usage.documents_written += 1;
        self.usage.bytes_written += bytes;
        let text = if self.usage.documents_written > self.budget.documents_written {
            let limit = self.budget.documents_written;
            format!("Too many writes in a single function execution (limit: {limit})")
        } else if self.usage.bytes_written > self.budget.bytes_written {
            let limit = bytes_text(self.budget.bytes_written);
            format!("Too many bytes written in a single function execution (limit: {limit})")
        } else {
            return Ok(());
        };
        Err(UserError::new("TooManyWrites", text))
    }

    /// Buffers one write and makes it visible to this transaction.
    pub(crate) fn write(
        &mut self,
        table: &Arc<Table>,
        before: Option<Version>,
        after: Option<Version>,
    ) {
        let id = before.as_ref().or(after.as_ref()).map(|(document, _)| document.id);
        let place = (table.by_id.id, id.expect("a write has a version before or after").internal);
        let key = |version: &Option<Version>, index: &crate::catalog::Index| {
            version.as_ref().map(|(document, value)| index.key(document, value))
        };
        // The history keeps the list: one that grew by itself has room for more.
        let mut keys = Vec::with_capacity(table.indexes.len() + 2);
        keys.extend(table.all_indexes().map(|index| {
            let (before, after) = (key(&before, index), key(&after, index));
            // One that stays is kept once.
            let after = if before == after { before.clone() } else { after };
            KeyChange { index: index.id, before, after }
        }));
        let document = |version: Option<Version>| version.map(|(document, _)| document);
        let (before, after) = (document(before), document(after));
        let mut write = Arc::new(Write { table: Arc::clone(table), before, after, keys });
        self.state.maps.write(Arc::clone(&write));
        if let Some(earlier) = self.state.writes.get(&place) {
            let write = Arc::make_mut(&mut write);
            write.before.clone_from(&earlier.before);
            for (change, first) in write.keys.iter_mut().zip(&earlier.keys) {
                assert_eq!(change.index, first.index, "a table's indexes are fixed in a call");
                change.before.clone_from(&first.before);
            }
        }
        let unchanged = match (&write.before, &write.after) {
            (None, None) => true,
            (Some(before), Some(after)) => before.json() == after.json(),
            _ => false,
        };
        if unchanged {
            self.state.writes.remove(&place);
        } else {
            self.state.writes.insert(place, write);
        }
    }
}

impl State {
    /// Puts the commit's timestamp where documents wait for it. Works on maps that do not yet hold
    /// this transaction's writes.
    pub(crate) fn resolve_placeholders(&mut self, ts: Timestamp) {
        let writes = std::mem::take(&mut self.writes);
        let resolved = writes.into_iter().map(|(place, write)| (place, resolved(write, ts)));
        self.writes = resolved.collect();
        self.placeholders = false;
    }
}

fn resolved(write: Arc<Write>, ts: Timestamp) -> Arc<Write> {
    let Some(document) = &write.after else { return write };
    let mut value = document.value();
    if !holds_placeholder(&value) {
        return write;
    }
    value.fill_placeholders(ts);
    let after = Arc::new(Document::new(document.id, document.creation_time, &value));
    let mut write = Write::clone(&write);
    for (change, index) in write.keys.iter_mut().zip(write.table.all_indexes()) {
        assert_eq!(change.index, index.id);
        change.after = Some(index.key(&after, &value));
    }
    write.after = Some(after);
    Arc::new(write)
}

/// Creates a table with empty built-in indexes.
pub(crate) fn create_table(
    catalog: &mut Catalog,
    maps: &mut IndexMaps,
    component: &str,
    name: &str,
) -> Arc<Table> {
    let table = catalog.create_table(component, name);
    maps.add_table(&table);
    table
}

/// Whether a component may have one more table.
pub(crate) fn check_table_count(catalog: &Catalog, component: &str) -> Result<(), UserError> {
    if (catalog.tables(component).count() as u64) < limits::TABLES {
        return Ok(());
    }
    let text = format!("Too many tables: a deployment has at most {}.", limits::TABLES);
    Err(UserError::new("TooManyTables", text))
}

/// What a patch, replacement or delete was asked to do.
#[derive(Clone, Copy)]
struct Target<'a> {
    component: &'a str,
    id: &'a str,
    table: Option<&'a str>,
    operation: &'static str,
    verb: &'static str,
}

fn object(value: Value) -> Result<BTreeMap<String, Value>, UserError> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(UserError::new("InvalidDocumentError", "Documents must be objects")),
    }
}

fn system_field_mismatch(field: &str) -> UserError {
    UserError::new("InvalidDocumentError", format!("Document's {field} field doesn't match"))
}

fn check_size(document: &Value) -> Result<(), UserError> {
    document.check_limits()?;
    let (size, depth) = (document.size() as u64, document.depth() as u64);
    if size > limits::DOCUMENT_BYTES {
        let (size, limit) = (bytes_text(size), bytes_text(limits::DOCUMENT_BYTES));
        let text = format!("Value is too large ({size} > maximum size {limit})");
        return Err(UserError::new("ValueTooLarge", text));
    }
    if depth > limits::DOCUMENT_DEPTH {
        let limit = limits::DOCUMENT_DEPTH;
        let text = format!(
            "Document is too nested (nested {depth} levels deep > maximum nesting {limit})"
        );
        return Err(UserError::new("DocumentTooNested", text));
    }
    Ok(())
}

/// `16 MiB`, `1.5 MiB`, `100 B`: as Convex prints sizes.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

fn holds_placeholder(value: &Value) -> bool {
    match value {
        Value::CommitTs => true,
        Value::Array(items) => items.iter().any(holds_placeholder),
        Value::Object(fields) => fields.values().any(holds_placeholder),
        _ => false,
    }
}
