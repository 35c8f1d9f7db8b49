//! The whole database at one timestamp: persistent maps behind one pointer, so that a copy is free.
//!
//! In: the maps that a commit derived from the snapshot before it. Out: tables, indexes and
//! documents as they were at `ts`, for as long as somebody holds it.
//! Invariant: a published snapshot never changes; every index of a table holds the same documents.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Index, Table};
use crate::deployment::{Analysis, Bundle};
use crate::document::Document;
use crate::environment::Variables;
use crate::id::TableNumber;
use crate::index_maps::IndexMaps;
use crate::key::Interval;
use crate::record::{RequestKey, Timestamp};
use crate::requests::{Recorded, Requests};
use crate::schema::Schema;

/// Names an index for the life of a database; never used again after the index is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexId(pub u32);

/// The catalog, as an index: tables, table numbers and the deployment are keys that can be read.
pub const CATALOG: IndexId = IndexId(0);

/// The code that serves at a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployment {
    /// As pushed.
    pub bundle: Arc<Bundle>,
    /// What analysis found in it.
    pub analysis: Arc<Analysis>,
}

impl Deployment {
    /// The schema of a mounted component, if it has one; the empty path is the app.
    pub fn schema(&self, component: &str) -> Option<&Arc<Schema>> {
        self.analysis.of(component)?.schema.as_ref()
    }

    /// The modules of a mounted component; the empty path is the app.
    pub fn bundle(&self, component: &str) -> Option<&Arc<Bundle>> {
        if component.is_empty() {
            return Some(&self.bundle);
        }
        self.analysis.components.unit(component).map(|unit| &unit.bundle)
    }
}

/// The database at one timestamp.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When: the timestamp of the commit that made it.
    pub ts: Timestamp,
    /// The code that serves; `None` before the first push.
    pub deployment: Option<Arc<Deployment>>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) maps: IndexMaps,
    pub(crate) requests: Requests,
    pub(crate) environment: Variables,
}

/// One line of a list of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Its name.
    pub name: Arc<str>,
    /// Its number, the first bytes of its documents' ids.
    pub number: TableNumber,
    /// How many documents it holds.
    pub documents: u64,
}

impl Snapshot {
    /// An empty database.
    pub(crate) fn empty(ts: Timestamp) -> Self {
        let catalog = Arc::new(Catalog::new());
        let mut maps = IndexMaps::default();
        catalog.all_tables().for_each(|table| maps.add_table(table));
        Self {
            ts,
            deployment: None,
            catalog,
            maps,
            requests: Requests::default(),
            environment: Variables::default(),
        }
    }

    /// The table with that number, system tables included.
    pub fn table_name(&self, component: &str, number: TableNumber) -> Option<Arc<str>> {
        self.catalog.table_name(component, number)
    }

    /// The answer that a request got when it committed, as long as it is kept.
    pub fn answered(&self, request: RequestKey) -> Option<&Arc<Recorded>> {
        self.requests.find(request)
    }

    /// The environment variables, those of the host included.
    pub fn environment(&self) -> &Variables {
        &self.environment
    }

    /// The author's tables of a component, by name.
    pub fn tables(&self, component: &str) -> Vec<TableSummary> {
        let tables = self.catalog.tables(component).filter(|table| !table.is_system());
        tables
            .map(|table| TableSummary {
                name: Arc::clone(&table.name),
                number: table.number,
                documents: self.count(table),
            })
            .collect()
    }

    /// Whether a component has tables, mounted or not.
    pub fn has_component(&self, component: &str) -> bool {
        self.catalog.components().any(|known| **known == *component)
    }

    /// The components that have tables, mounted or not; the app's path is empty.
    pub fn components(&self) -> impl Iterator<Item = &Arc<str>> {
        self.catalog.components()
    }

    /// One table.
    pub fn table(&self, component: &str, name: &str) -> Option<&Arc<Table>> {
        self.catalog.table(component, name)
    }

    /// One index of a table.
    pub fn index(&self, component: &str, table: &str, index: &str) -> Option<Arc<Index>> {
        self.catalog.table(component, table)?.index(index).cloned()
    }

    /// Every index of a table: `by_id`, `by_creation_time`, then the author's by name.
    pub fn indexes(&self, component: &str, table: &str) -> Vec<Arc<Index>> {
        let table = self.catalog.table(component, table);
        table.map(|table| table.all_indexes().cloned().collect()).unwrap_or_default()
    }

    /// How many documents a table holds.
    pub fn count(&self, table: &Table) -> u64 {
        self.maps.entries(table.by_id.id) as u64
    }

    /// The documents of an index whose keys lie in `interval`, in order, either end first.
    pub fn range<'a>(
        &'a self,
        index: IndexId,
        interval: &Interval,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a Arc<Document>)> + use<'a> {
        self.maps.range(index, interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_has_system_tables_only() {
        let snapshot = Snapshot::empty(Timestamp(7));
        assert!(snapshot.tables("").is_empty());
        assert_eq!(snapshot.table_name("", TableNumber(540)).as_deref(), Some("_storage"));
        let indexes = snapshot.indexes("", "_storage");
        let names: Vec<_> = indexes.iter().map(|index| index.label()).collect();
        assert_eq!(names, ["_storage.by_id", "_storage.by_creation_time"]);
    }
}
