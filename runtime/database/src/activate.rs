//! A push becomes the running deployment: documents checked, tables created, indexes filled or
//! dropped, cron jobs compared, and the catalog's deployment key written, in one commit for the app
//! and all of its components. A component that is not mounted any more keeps its tables.
//!
//! In: an analyzed bundle. Out: the timestamp from which it serves, or why it does not.
//! Invariant: all or nothing. Everything is built aside and published at once, so a push that is
//! refused leaves no trace; a transaction of the code before conflicts, because it read that key.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::backfill::{Backfill, check_all, fill};
use crate::catalog::{
    Catalog, Index, Table, components_key, deployment_key, number_key, table_key,
};
use crate::commit::{Database, PUSH, Writer};
use crate::crons;
use crate::deployment::Analysis;
use crate::environment::{Change, check_imported};
use crate::error::PushError;
use crate::handles;
use crate::key::Key;
use crate::log::{LogEntry, Write};
use crate::record::{Given, Timestamp};
use crate::schema::Schema;
use crate::snapshot::{Deployment, Snapshot};
use crate::transaction::Transaction;
use crate::writes::{check_table_count, create_table};

/// One index in an [`IndexDiff`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexChange {
    /// Its table.
    pub table: Arc<str>,
    /// Its name within the table.
    pub name: Arc<str>,
    /// The fields as declared.
    pub fields: Vec<Arc<str>>,
    /// Whether it is staged (after the change; before it, for one that is removed).
    pub staged: bool,
}

/// What a schema changes about the indexes there are (`convex-compat.md` section 6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexDiff {
    /// New ones, to be filled.
    pub added: Vec<IndexChange>,
    /// Those no longer declared, or declared with other fields.
    pub removed: Vec<IndexChange>,
    /// Staged ones that queries may use from now on.
    pub enabled: Vec<IndexChange>,
    /// Those that queries may no longer use.
    pub disabled: Vec<IndexChange>,
}

impl Database {
    /// Makes a deployment the running one. What takes time, filling indexes and checking documents,
    /// is done beside the traffic; commits wait only for what came meanwhile.
    ///
    /// # Errors
    /// Documents that do not match its schema, or too many tables; `RaceDetected`: its modules were
    /// evaluated with environment variables that have changed since.
    pub fn activate(&self, deployment: Deployment, now: u64) -> Result<Timestamp, PushError> {
        self.activate_with(deployment, &[], now)
    }

    /// The same in one commit with the environment variables that its modules were evaluated with.
    ///
    /// # Errors
    /// As [`Database::activate`].
    pub fn activate_with(
        &self,
        deployment: Deployment,
        changes: &[Change],
        now: u64,
    ) -> Result<Timestamp, PushError> {
        let ready = Backfill::beside(|| self.newest(), &deployment)?;
        self.activate_ready(ready, deployment, changes, now)
    }

    /// The rest, in the commit order.
    pub(crate) fn activate_ready(
        &self,
        mut ready: Backfill,
        deployment: Deployment,
        changes: &[Change],
        now: u64,
    ) -> Result<Timestamp, PushError> {
        let turn = self.turn();
        let newest = turn.snapshot();
        ready.catch_up(Arc::clone(&newest), &deployment)?;
        let ts = turn.next_timestamp(now, 0);
        let environment = newest.environment.after(changes, ts);
        check_imported(&environment, &deployment.analysis.imported_environment)?;
        let mut written = vec![deployment_key()];
        written.extend(environment.changed_keys(&newest.environment));
        let mut next = Snapshot { ts, environment, ..Snapshot::clone(&newest) };
        for (component, analysis) in deployment.analysis.each() {
            written.extend(add_component(&mut next, component));
            if let Some(schema) = &analysis.schema {
                written.extend(create_tables(&mut next, component, schema)?);
            }
            change_indexes(&mut next, &mut ready, component, analysis.schema.as_deref());
        }
        let writes = change_rows(&mut next, &deployment.analysis, now)?;
        let version = deployment.analysis.version.to_string();
        next.deployment = Some(Arc::new(deployment));
        turn.publish(LogEntry {
            ts,
            writer: Writer::new(PUSH, version),
            writes,
            catalog: written,
            snapshot: Arc::new(next),
        });
        Ok(ts)
    }

    /// Whether every document of a component matches a schema.
    ///
    /// # Errors
    /// The first document that does not.
    pub fn check_schema(&self, component: &str, schema: &Schema) -> Result<(), PushError> {
        check_all(&self.newest(), component, schema)
    }

    /// What a schema would change about a component's indexes; `None`: it has none any more.
    pub fn index_diff(&self, component: &str, schema: Option<&Schema>) -> IndexDiff {
        index_diff(&self.newest().catalog, component, schema)
    }
}

/// Gives a component that is new the host's tables; gives the catalog keys written.
fn add_component(next: &mut Snapshot, component: &str) -> Vec<Key> {
    let tables = Arc::make_mut(&mut next.catalog).add_component(component);
    let mut written = Vec::new();
    if !tables.is_empty() {
        written.push(components_key());
    }
    for table in tables {
        next.maps.add_table(&table);
        written.extend([table_key(component, &table.name), number_key(component, table.number)]);
    }
    written
}

/// Makes the rows of cron jobs and of functions' handles those of the bundle; gives what was
/// written.
fn change_rows(
    next: &mut Snapshot,
    analysis: &Analysis,
    now: u64,
) -> Result<Vec<Arc<Write>>, PushError> {
    // Ids of new rows: another version at another time draws others.
    let seed = Sha256::new().chain_update(analysis.version.0).chain_update(next.ts.0.to_be_bytes());
    let seed = seed.finalize().into();
    let given = Given { code: analysis.version, snapshot: next.ts, seed, now };
    let mut transaction = Transaction::begin(Arc::new(next.clone()), &given, false);
    crons::sync(&mut transaction, analysis)?;
    handles::sync(&mut transaction, analysis);
    next.maps = transaction.state.maps.settled().clone();
    Ok(transaction.state.writes.values().cloned().collect())
}

/// Creates the tables that a schema names; gives the catalog keys written.
pub(crate) fn create_tables(
    next: &mut Snapshot,
    component: &str,
    schema: &Schema,
) -> Result<Vec<Key>, PushError> {
    let mut written = Vec::new();
    for name in schema.tables.keys() {
        if next.catalog.table(component, name).is_some() {
            continue;
        }
        check_table_count(&next.catalog, component)
            .map_err(|error| PushError::new(error.code, error.message))?;
        let catalog = Arc::make_mut(&mut next.catalog);
        let table = create_table(catalog, &mut next.maps, component, name);
        written.extend([table_key(component, name), number_key(component, table.number)]);
    }
    Ok(written)
}

/// Compares the declared indexes with those there are.
pub(crate) fn index_diff(catalog: &Catalog, component: &str, schema: Option<&Schema>) -> IndexDiff {
    let mut diff = IndexDiff::default();
    for table in catalog.tables(component).filter(|table| !table.is_system()) {
        let described = schema.and_then(|schema| schema.tables.get(&table.name));
        for index in table.indexes.values() {
            let declared = described.and_then(|table| table.indexes.get(&index.name));
            match declared.filter(|declared| declared.fields == index.declared_fields()) {
                None => diff.removed.push(change(index, index.staged)),
                Some(declared) if declared.staged == index.staged => {}
                Some(declared) if declared.staged => diff.disabled.push(change(index, true)),
                Some(_) => diff.enabled.push(change(index, false)),
            }
        }
    }
    for (name, described) in schema.into_iter().flat_map(|schema| &schema.tables) {
        let table = catalog.table(component, name);
        for (index, declared) in &described.indexes {
            let exists = |table: &Arc<Table>| {
                let found = table.indexes.get(index);
                found.is_some_and(|found| declared.fields == found.declared_fields())
            };
            if !table.is_some_and(exists) {
                diff.added.push(IndexChange {
                    table: Arc::clone(name),
                    name: Arc::clone(index),
                    fields: declared.fields.clone(),
                    staged: declared.staged,
                });
            }
        }
    }
    diff
}

fn change(index: &Index, staged: bool) -> IndexChange {
    IndexChange {
        table: Arc::clone(&index.table),
        name: Arc::clone(&index.name),
        fields: index.declared_fields().to_vec(),
        staged,
    }
}

/// Drops, adds, stages and enables indexes until they are those the schema declares.
fn change_indexes(
    next: &mut Snapshot,
    ready: &mut Backfill,
    component: &str,
    schema: Option<&Schema>,
) {
    let diff = index_diff(&next.catalog, component, schema);
    if diff == IndexDiff::default() {
        return;
    }
    let catalog = Arc::make_mut(&mut next.catalog);
    for removed in &diff.removed {
        let (table, index) = find(catalog, component, removed);
        catalog.drop_index(&table, &index);
        next.maps.remove(index.id);
    }
    for changed in diff.enabled.iter().chain(&diff.disabled) {
        let (table, index) = find(catalog, component, changed);
        catalog.stage_index(&table, &index, changed.staged);
    }
    for added in &diff.added {
        let table = catalog.table(component, &added.table).expect("the schema's tables exist");
        let table = Arc::clone(table);
        let index = catalog.declare_index(&table, &added.name, &added.fields, added.staged);
        let documents = next.maps.documents(&table).expect("a table has its documents");
        let filled = ready.take(&index, table.by_id.id).unwrap_or_else(|| fill(&index, documents));
        assert_eq!(filled.len(), documents.len(), "an index has a key for every document");
        next.maps.set_keys(&table, &index, filled);
    }
}

fn find(catalog: &Catalog, component: &str, change: &IndexChange) -> (Arc<Table>, Arc<Index>) {
    let table = catalog.table(component, &change.table).expect("the diff names tables that exist");
    let index = table.indexes.get(&change.name).expect("the diff names indexes that exist");
    (Arc::clone(table), Arc::clone(index))
}
