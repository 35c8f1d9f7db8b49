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
use crate::error::UserError;
use crate::id::DocumentId;
use crate::key::Interval;
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
    /// One of the host's tables of the app.
    pub(crate) fn system_table(&self, name: &str) -> Arc<Table> {
        let table = self.state.catalog.table("", name);
        Arc::clone(table.expect("every catalog begins with the host's tables"))
    }

    /// One of the host's tables of a component that was mounted once.
    pub(crate) fn system_table_of(
        &self,
        component: &str,
        name: &str,
    ) -> Result<Arc<Table>, UserError> {
        self.state.catalog.table(component, name).cloned().ok_or_else(|| {
            let text = format!("There is no component {component:?} with a table {name}.");
            UserError::new("ComponentPathNotFound", text)
        })
    }

    /// The table that holds a row: of that name, in whatever component. A row's id is drawn from
    /// 112 random bits, so no two rows share one.
    pub(crate) fn system_table_with(&self, name: &str, id: DocumentId) -> Arc<Table> {
        table_with(&self.snapshot, name, id).unwrap_or_else(|| self.system_table(name))
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

/// The table of that name, in whatever component, that holds a row.
pub(crate) fn table_with(snapshot: &Snapshot, name: &str, id: DocumentId) -> Option<Arc<Table>> {
    let holds = |table: &&Arc<Table>| {
        snapshot.range(table.by_id.id, &Interval::point(&id.internal)).next().is_some()
    };
    snapshot.catalog.tables_named(name).find(holds).cloned()
}

/// The tables of that name with the index in whose order the host works through each, the app's
/// first.
pub(crate) fn hidden_indexes<'a>(
    snapshot: &'a Snapshot,
    name: &str,
) -> impl Iterator<Item = (&'a Arc<Table>, &'a Arc<Index>)> {
    let indexed = |table: &'a Arc<Table>| Some((table, table.index(HIDDEN_INDEX)?));
    snapshot.catalog.tables_named(name).filter_map(indexed)
}

/// The entries of several indexes as if they were one: in the order of their keys.
pub(crate) fn merged<'a, T, I>(
    indexes: impl Iterator<Item = I>,
) -> impl Iterator<Item = (&'a [u8], T)>
where
    I: Iterator<Item = (&'a [u8], T)>,
{
    let mut indexes: Vec<_> = indexes.map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let heads = indexes.iter_mut().enumerate();
        let heads = heads.filter_map(|(at, index)| index.peek().map(|(key, _)| (*key, at)));
        let (_, at) = heads.min()?;
        indexes[at].next()
    })
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
