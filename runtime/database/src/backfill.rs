//! What a push needs of the documents there are, worked out beside the traffic: new indexes filled,
//! documents checked.
//!
//! ```text
//!   a snapshot ─▶ every document ─▶ what changed since ─▶ … ─▶ [turn: the rest] ─▶ commit
//! ```
//! In: a deployment that is to run, and newer and newer snapshots. Out: maps of the indexes that it
//! adds, which have every document of the newest one. Invariant: what was worked out is a function
//! of one snapshot alone. Two snapshots are compared by their maps, so it does not matter how the
//! later one came about: commits that were undone, or are forgotten, are no special case.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::activate::{IndexChange, create_tables, index_diff};
use crate::catalog::{Catalog, Index, Table};
use crate::document::Document;
use crate::error::PushError;
use crate::id::TableNumber;
use crate::index_maps::{Documents, Keys, sorted};
use crate::key::Key;
use crate::schema::{Schema, TableSchema};
use crate::snapshot::{Deployment, IndexId, Snapshot};
use crate::value::Value;

/// Documents that may be left for the turn: every commit waits for them.
const FEW: usize = 256;

/// How often what came meanwhile is caught up with, before the turn takes the rest.
const ROUNDS: usize = 16;

/// What was worked out from one snapshot.
pub(crate) struct Backfill {
    /// Its documents.
    at: Arc<Snapshot>,
    /// Indexes to be: by the table's `by_id`, then by name.
    indexes: BTreeMap<(IndexId, Arc<str>), Filled>,
}

/// An index to be.
struct Filled {
    table: Arc<Table>,
    index: Index,
    keys: Keys,
}

impl Backfill {
    /// Works a deployment's needs out, and catches up until little is missing. `newest` is asked
    /// again and again; nobody waits for this.
    ///
    /// # Errors
    /// A document that does not match the schema; too many tables.
    pub(crate) fn beside(
        newest: impl Fn() -> Arc<Snapshot>,
        deployment: &Deployment,
    ) -> Result<Self, PushError> {
        let mut found = Self { at: newest(), indexes: BTreeMap::new() };
        found.check(&found.at, None, deployment)?;
        found.fill(deployment);
        for _ in 0..ROUNDS {
            if found.catch_up(newest(), deployment)? <= FEW {
                break;
            }
        }
        Ok(found)
    }

    /// Brings it up to date with another snapshot. Gives how many documents were looked at.
    ///
    /// # Errors
    /// As [`Backfill::beside`].
    pub(crate) fn catch_up(
        &mut self,
        now: Arc<Snapshot>,
        deployment: &Deployment,
    ) -> Result<usize, PushError> {
        let checked = self.check(&now, Some(&self.at), deployment)?;
        let mut moved = 0;
        for filled in self.indexes.values_mut() {
            let documents = |of: &Snapshot| of.maps.documents(&filled.table).cloned();
            let (before, after) = (documents(&self.at), documents(&now));
            moved += filled.follow(&before.unwrap_or_default(), &after.unwrap_or_default());
        }
        self.at = now;
        Ok(checked + moved)
    }

    /// The keys of an index with these fields, if it was filled. Indexes that were not are of
    /// tables that were made since.
    pub(crate) fn take(&mut self, index: &Index, documents: IndexId) -> Option<Keys> {
        let filled = self.indexes.remove(&(documents, Arc::clone(&index.name)))?;
        (filled.index.fields == index.fields).then_some(filled.keys)
    }

    /// Fills the indexes that a deployment adds.
    fn fill(&mut self, deployment: &Deployment) {
        let Snapshot { catalog, maps, .. } = &*self.at;
        for (component, analysis) in deployment.analysis.each() {
            let diff = index_diff(catalog, component, analysis.schema.as_deref());
            for IndexChange { table, name, fields, staged } in diff.added {
                let Some(table) = catalog.table(component, &table) else { continue };
                let index = Index::declared(table, &name, &fields, staged);
                let documents = maps.documents(table).expect("a table has its documents");
                let keys = fill(&index, documents);
                let filled = Filled { table: Arc::clone(table), index, keys };
                self.indexes.insert((table.by_id.id, name), filled);
            }
        }
    }

    /// Checks the documents of a snapshot against a deployment's schemas; where the one `since` was
    /// checked already and has the same tables, those that have changed. Gives how many.
    fn check(
        &self,
        now: &Arc<Snapshot>,
        since: Option<&Arc<Snapshot>>,
        deployment: &Deployment,
    ) -> Result<usize, PushError> {
        // Schemas speak of tables by name.
        let since = since.filter(|since| Arc::ptr_eq(&since.catalog, &now.catalog));
        let mut checked = 0;
        for (component, analysis) in deployment.analysis.each() {
            let Some(schema) = &analysis.schema else { continue };
            let mut next = Snapshot::clone(now);
            create_tables(&mut next, component, schema)?;
            let before = enforced(now, component);
            let check = Check { component, schema, catalog: &next.catalog };
            checked += check.tables(now, since, before)?;
        }
        Ok(checked)
    }
}

impl Filled {
    /// Moves what differs between two maps of its documents. Gives how many documents.
    fn follow(&mut self, before: &Documents, after: &Documents) -> usize {
        let Self { index, keys, .. } = self;
        let mut moved = 0;
        for change in before.diff(after) {
            let (old, new) = match change {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            if let Some(old) = old {
                let removed = keys.remove(&*key(index, old));
                assert!(removed.is_some(), "an index has a key for every document of its table");
            }
            if let Some(new) = new {
                keys.insert(key(index, new));
            }
            moved += 1;
        }
        moved
    }
}

/// The keys of an index, from documents by id.
pub(crate) fn fill(index: &Index, documents: &Documents) -> Keys {
    let filled = sorted(documents.values().map(|document| key(index, document)).collect());
    assert_eq!(filled.len(), documents.len(), "an index has a key for every document");
    filled
}

fn key(index: &Index, document: &Document) -> Key {
    index.key(document, &document.value())
}

/// The schema that every document of a component matches.
fn enforced<'a>(snapshot: &'a Snapshot, component: &str) -> Option<&'a Schema> {
    let schema = snapshot.deployment.as_ref()?.schema(component)?;
    Some(&**schema).filter(|schema| schema.validation)
}

/// Checks every document of a component against a schema.
///
/// # Errors
/// The first document that does not match.
pub(crate) fn check_all(
    snapshot: &Snapshot,
    component: &str,
    schema: &Schema,
) -> Result<(), PushError> {
    let check = Check { component, schema, catalog: &snapshot.catalog };
    check.tables(snapshot, None, None).map(drop)
}

/// Documents against a schema.
struct Check<'a> {
    component: &'a str,
    schema: &'a Schema,
    /// With the tables that the schema names.
    catalog: &'a Catalog,
}

impl Check<'_> {
    /// Checks the documents of every table that the schema describes otherwise than `before` did,
    /// which every document matches; after `since`, which was checked, those that changed.
    fn tables(
        &self,
        now: &Snapshot,
        since: Option<&Arc<Snapshot>>,
        before: Option<&Schema>,
    ) -> Result<usize, PushError> {
        let mut checked = 0;
        if !self.schema.validation {
            return Ok(checked);
        }
        for (name, described) in &self.schema.tables {
            let same =
                |table: &TableSchema| table.document.to_json() == described.document.to_json();
            if before.and_then(|schema| schema.tables.get(name)).is_some_and(same) {
                continue;
            }
            let Some(table) = now.table(self.component, name) else { continue };
            let documents =
                |snapshot: &Snapshot| snapshot.maps.documents(table).cloned().unwrap_or_default();
            let now = documents(now);
            let Some(since) = since else {
                now.values().try_for_each(|document| self.document(name, document))?;
                checked += now.len();
                continue;
            };
            for change in documents(since).diff(&now) {
                match change {
                    DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                        self.document(name, new)?;
                    }
                    DiffItem::Remove(..) => {}
                }
                checked += 1;
            }
        }
        Ok(checked)
    }

    fn document(&self, table: &str, document: &Document) -> Result<(), PushError> {
        let tables = |number: TableNumber| self.catalog.table_name(self.component, number);
        let mut value = document.value();
        if let Value::Object(fields) = &mut value {
            fields.remove("_id");
            fields.remove("_creationTime");
        }
        self.schema.check_document(table, &value, &tables).map_err(|error| {
            let id = document.id.encode();
            let text = format!(
                "Document with ID \"{id}\" in table \"{table}\" does not match the schema: {error}"
            );
            PushError::new("SchemaValidationFailed", text)
        })
    }
}
