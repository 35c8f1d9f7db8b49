//! Rows of the host's own tables: written by the host, inside of transactions like any other.
//!
//! In: fields that the host made. Out: versions of documents, without the checks and the budget
//! that an author's documents go through.
//! Invariant: a row that was looked at is in the read set, so two transactions that decide about
//! the same row conflict.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{HIDDEN_INDEX, Index, Table};
use crate::document::Document;
use crate::id::DocumentId;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::value::Value;

/// Fields of a row, system fields included.
pub(crate) type Fields = BTreeMap<String, Value>;

/// A row as a transaction sees it.
pub(crate) struct Row {
    document: Arc<Document>,
    pub(crate) fields: Fields,
}

impl Row {
    pub(crate) fn id(&self) -> DocumentId {
        self.document.id
    }

    /// A field, by its path.
    pub(crate) fn field(&self, path: &str) -> Option<&Value> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let value = self.fields.get(first)?;
        if rest.is_empty() { Some(value) } else { value.field(rest) }
    }

    /// A field that holds text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        match self.field(path) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

impl Transaction {
    /// One of the host's tables.
    pub(crate) fn system_table(&self, name: &str) -> Arc<Table> {
        let table = self.state.catalog.table("", name);
        Arc::clone(table.expect("every catalog begins with the host's tables"))
    }

    /// Inserts a row.
    pub(crate) fn insert_row(&mut self, table: &Arc<Table>, mut fields: Fields) -> DocumentId {
        assert!(!self.read_only, "a query inserts no rows");
        let id = self.draw_id(table);
        let creation_time = self.draw_creation_time();
        fields.insert("_id".into(), Value::String(id.encode()));
        fields.insert("_creationTime".into(), Value::Float64(creation_time));
        let version = self.encoded(id, creation_time, Value::Object(fields));
        self.write(table, None, Some(version));
        id
    }

    /// A row of a table; that it is missing, or how it looks, is a read.
    pub(crate) fn row(&mut self, table: &Table, id: DocumentId) -> Option<Row> {
        if id.table != table.number {
            return None;
        }
        let document = self.look_up(table, id)?;
        Some(row(&document))
    }

    /// Stores other fields under a row's id.
    pub(crate) fn replace_row(&mut self, table: &Arc<Table>, before: &Row, fields: Fields) {
        let Document { id, creation_time, .. } = *before.document;
        let after = self.encoded(id, creation_time, Value::Object(fields));
        self.write(table, Some(version(before)), Some(after));
    }

    /// Deletes a row.
    pub(crate) fn remove_row(&mut self, table: &Arc<Table>, before: &Row) {
        self.write(table, Some(version(before)), None);
    }
}

fn version(row: &Row) -> (Arc<Document>, Value) {
    (Arc::clone(&row.document), Value::Object(row.fields.clone()))
}

/// Decodes a stored row.
pub(crate) fn row(document: &Arc<Document>) -> Row {
    let Value::Object(fields) = document.value() else { unreachable!("documents are objects") };
    Row { document: Arc::clone(document), fields }
}

/// The index in whose order the host works through one of its tables.
pub(crate) fn hidden_index(snapshot: &Snapshot, table: &str) -> Arc<Index> {
    let index = snapshot.table("", table).and_then(|table| table.index(HIDDEN_INDEX));
    Arc::clone(index.expect("the host's tables have their indexes from the start"))
}

const NS_PER_MS: u64 = 1_000_000;

/// A time as rows hold it: milliseconds since the Unix epoch. Whole ones stay whole.
pub(crate) fn milliseconds(nanoseconds: u64) -> Value {
    let (whole, rest) = (nanoseconds / NS_PER_MS, nanoseconds % NS_PER_MS);
    Value::Float64(whole as f64 + rest as f64 / NS_PER_MS as f64)
}

/// A number of units since the Unix epoch, in nanoseconds; what is before it is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(crate) fn nanoseconds(time: f64, unit: u64) -> u64 {
    let (whole, rest) = (time.trunc() as u64, (time.fract() * unit as f64).round() as u64);
    whole.saturating_mul(unit).saturating_add(rest)
}

/// A time of a row, in nanoseconds since the Unix epoch.
pub(crate) fn time(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Float64(time)) => Some(nanoseconds(*time, NS_PER_MS)),
        _ => None,
    }
}
