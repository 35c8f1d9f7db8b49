//! Which tables and indexes exist: names, numbers, fields, and how a document gets its keys.
//!
//! In: tables that transactions create, indexes that a push declares. Out: the definitions that
//! reads and writes go by, and the catalog keys under which their existence is read and written.
//! Invariant: a table never loses its number until its whole component is deleted, or an import
//! puts other documents under its name; an [`IndexId`] never names two indexes. Both follow from
//! one rule: whoever makes either reads every table number or the deployment, so two makers that
//! run side by side conflict.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::Document;
use crate::error::UserError;
use crate::id::TableNumber;
use crate::key::{Interval, Key, encode_value};
use crate::snapshot::IndexId;
use crate::value::Value;

/// The number of the first table that an author creates.
pub(crate) const FIRST_USER_TABLE: u32 = 10_001;

/// Tables below this number belong to the host.
const FIRST_FREE_SYSTEM_NUMBER: u32 = 10_000;

/// One of the host's own tables.
struct SystemTable {
    name: &'static str,
    number: u32,
    /// Fields of [`HIDDEN_INDEX`]; none: the table has no such index.
    order: &'static [&'static str],
    /// Whether functions see it through `db.system` (`convex-compat.md` section 2.7).
    shown: bool,
    /// Whether each component has its own.
    everywhere: bool,
}

/// The table of scheduled functions.
pub(crate) const SCHEDULED_FUNCTIONS: &str = "_scheduled_functions";

/// The table of handles of functions.
pub(crate) const FUNCTION_HANDLES: &str = "_function_handles";

/// The table of cron jobs.
pub(crate) const CRON_JOBS: &str = "_cron_jobs";

/// The table of exports that were asked for.
pub const EXPORTS: &str = "_exports";

/// The table of imports, finished and not.
pub const IMPORTS: &str = "_snapshot_imports";

/// The host's tables.
const SYSTEM_TABLES: [SystemTable; 7] = [
    SystemTable { name: EXPORTS, number: 516, order: &[], shown: false, everywhere: false },
    SystemTable {
        name: CRON_JOBS,
        number: 531,
        order: &["nextRun"],
        shown: false,
        everywhere: true,
    },
    SystemTable {
        name: SCHEDULED_FUNCTIONS,
        number: 539,
        order: &["state.kind", "completedTime", "scheduledTime"],
        shown: true,
        everywhere: true,
    },
    SystemTable { name: "_storage", number: 540, order: &[], shown: true, everywhere: true },
    SystemTable { name: IMPORTS, number: 541, order: &[], shown: false, everywhere: false },
    SystemTable {
        name: crate::files::BLOBS,
        number: 600,
        order: &["blob"],
        shown: false,
        everywhere: true,
    },
    SystemTable {
        name: FUNCTION_HANDLES,
        number: 601,
        order: &["component", "function"],
        shown: false,
        everywhere: false,
    },
];

/// The index that only the host reads, of tables that it works through in an order of its own.
pub(crate) const HIDDEN_INDEX: &str = "_order";

/// Every table and index of a database.
#[derive(Clone, Debug)]
pub struct Catalog {
    components: BTreeMap<Arc<str>, Component>,
    indexes: BTreeMap<IndexId, Arc<Index>>,
    next_index: u32,
}

/// The tables of one component.
#[derive(Clone, Debug, Default)]
struct Component {
    tables: BTreeMap<Arc<str>, Arc<Table>>,
    names: BTreeMap<TableNumber, Arc<str>>,
}

/// One table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The component it belongs to.
    pub component: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its number, the first bytes of its documents' ids.
    pub number: TableNumber,
    /// Documents by internal id.
    pub by_id: Arc<Index>,
    /// Documents by creation time, then id.
    pub by_creation_time: Arc<Index>,
    /// The indexes that the schema declares, by name.
    pub indexes: BTreeMap<Arc<str>, Arc<Index>>,
}

/// What an index is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Key: the 16 bytes of the internal id.
    ById,
    /// Key: the encoded creation time, then the id.
    ByCreationTime,
    /// Key: the encoded fields, the encoded creation time, then the id.
    Declared,
}

/// One index of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its identity.
    pub id: IndexId,
    /// The table it belongs to.
    pub table: Arc<str>,
    /// The number of that table.
    pub number: TableNumber,
    /// Its name within the table.
    pub name: Arc<str>,
    /// The fields a query may constrain, in order: those declared, then `_creationTime`; for
    /// `by_id` only `_id`.
    pub fields: Vec<Arc<str>>,
    /// What its keys are.
    pub kind: IndexKind,
    /// Whether it is filled but not yet available to queries.
    pub staged: bool,
}

impl Index {
    /// One that a schema declares; it has no identity yet.
    pub(crate) fn declared(
        table: &Table,
        name: &Arc<str>,
        declared: &[Arc<str>],
        staged: bool,
    ) -> Self {
        let mut fields = declared.to_vec();
        fields.push("_creationTime".into());
        Self {
            id: IndexId(0),
            table: Arc::clone(&table.name),
            number: table.number,
            name: Arc::clone(name),
            fields,
            kind: IndexKind::Declared,
            staged,
        }
    }

    /// `table.index`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// The fields as the schema declares them.
    pub fn declared_fields(&self) -> &[Arc<str>] {
        match self.kind {
            IndexKind::Declared => &self.fields[..self.fields.len() - 1],
            IndexKind::ById | IndexKind::ByCreationTime => &self.fields,
        }
    }

    /// Where a document stands in this index.
    pub fn key(&self, document: &Document, value: &Value) -> Key {
        let mut key = Vec::with_capacity(16 + 16 * self.fields.len());
        match self.kind {
            IndexKind::ById => {}
            IndexKind::ByCreationTime => encode_creation_time(document, &mut key),
            IndexKind::Declared => {
                for field in self.declared_fields() {
                    encode_value(value.field(field), &mut key);
                }
                encode_creation_time(document, &mut key);
            }
        }
        key.extend_from_slice(&document.id.internal);
        key.into()
    }
}

fn encode_creation_time(document: &Document, out: &mut Vec<u8>) {
    encode_value(Some(&Value::Float64(document.creation_time)), out);
}

impl Table {
    /// Whether it belongs to the host.
    pub fn is_system(&self) -> bool {
        self.name.starts_with('_')
    }

    /// Whether only the host and its operator see it.
    pub fn is_hidden(&self) -> bool {
        self.is_system() && SYSTEM_TABLES.iter().any(|s| !s.shown && *s.name == *self.name)
    }

    /// One index by name.
    pub fn index(&self, name: &str) -> Option<&Arc<Index>> {
        match name {
            "by_id" => Some(&self.by_id),
            "by_creation_time" => Some(&self.by_creation_time),
            declared => self.indexes.get(declared),
        }
    }

    /// Every index: the two built in, then the declared ones by name.
    pub fn all_indexes(&self) -> impl Iterator<Item = &Arc<Index>> {
        [&self.by_id, &self.by_creation_time].into_iter().chain(self.indexes.values())
    }
}

impl Catalog {
    /// A catalog with the host's tables.
    pub(crate) fn new() -> Self {
        let mut catalog =
            Self { components: BTreeMap::new(), indexes: BTreeMap::new(), next_index: 1 };
        catalog.add_component("");
        catalog
    }

    /// Gives a component the host's tables. Gives them, if it had none.
    pub(crate) fn add_component(&mut self, component: &str) -> Vec<Arc<Table>> {
        if self.components.contains_key(component) {
            return Vec::new();
        }
        let systems = SYSTEM_TABLES.iter().filter(|s| s.everywhere || component.is_empty());
        let made = systems.map(|system| {
            let table = self.add_table(component, system.name, TableNumber(system.number));
            if !system.order.is_empty() {
                let fields: Vec<Arc<str>> = system.order.iter().map(|f| (*f).into()).collect();
                self.declare_index(&table, &HIDDEN_INDEX.into(), &fields, false);
            }
            Arc::clone(self.table(component, system.name).expect("it was made just now"))
        });
        made.collect()
    }

    /// Takes a component's tables away; their indexes' identities are not used again.
    pub(crate) fn remove_component(&mut self, component: &str) {
        for table in self.components.remove(component).into_iter().flat_map(|c| c.tables) {
            for index in table.1.all_indexes() {
                self.indexes.remove(&index.id);
            }
        }
    }

    /// The components that have tables, mounted or not.
    pub(crate) fn components(&self) -> impl Iterator<Item = &Arc<str>> {
        self.components.keys()
    }

    /// One table.
    pub fn table(&self, component: &str, name: &str) -> Option<&Arc<Table>> {
        self.components.get(component)?.tables.get(name)
    }

    /// The name behind a number.
    pub fn table_name(&self, component: &str, number: TableNumber) -> Option<Arc<str>> {
        self.components.get(component)?.names.get(&number).cloned()
    }

    /// The tables of a component, by name.
    pub fn tables(&self, component: &str) -> impl Iterator<Item = &Arc<Table>> {
        self.components.get(component).into_iter().flat_map(|found| found.tables.values())
    }

    /// The tables of every component.
    pub(crate) fn all_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.components.values().flat_map(|found| found.tables.values())
    }

    /// The tables of that name, in whatever component.
    pub(crate) fn tables_named(&self, name: &str) -> impl Iterator<Item = &Arc<Table>> + use<'_> {
        let name: Arc<str> = name.into();
        self.components.values().filter_map(move |found| found.tables.get(&name))
    }

    /// One index by identity.
    pub fn index(&self, id: IndexId) -> Option<&Arc<Index>> {
        self.indexes.get(&id)
    }

    /// Creates a user table with the smallest free number.
    pub(crate) fn create_table(&mut self, component: &str, name: &str) -> Arc<Table> {
        let used = self.components.get(component).map(|found| &found.names);
        let number = (FIRST_USER_TABLE..)
            .map(TableNumber)
            .find(|number| used.is_none_or(|names| !names.contains_key(number)))
            .expect("a component has at most 10,000 tables");
        assert!(number.0 > FIRST_FREE_SYSTEM_NUMBER);
        self.add_table(component, name, number)
    }

    /// A table that had this number before.
    pub(crate) fn restore_table(
        &mut self,
        component: &str,
        name: &str,
        number: TableNumber,
    ) -> Arc<Table> {
        self.add_table(component, name, number)
    }

    /// Takes a table away; its indexes' identities are not used again.
    pub(crate) fn remove_table(&mut self, table: &Table) {
        let component =
            self.components.get_mut(&table.component).expect("a table's component exists");
        component.tables.remove(&table.name);
        component.names.remove(&table.number);
        for index in table.all_indexes() {
            self.indexes.remove(&index.id);
        }
    }

    fn add_table(&mut self, component: &str, name: &str, number: TableNumber) -> Arc<Table> {
        let (component, name): (Arc<str>, Arc<str>) = (component.into(), name.into());
        let mut built_in = |index: &str, field: &str, kind| {
            self.add_index(Index {
                id: IndexId(0),
                table: Arc::clone(&name),
                number,
                name: index.into(),
                fields: vec![field.into()],
                kind,
                staged: false,
            })
        };
        let by_id = built_in("by_id", "_id", IndexKind::ById);
        let by_creation_time =
            built_in("by_creation_time", "_creationTime", IndexKind::ByCreationTime);
        let table = Arc::new(Table {
            component: Arc::clone(&component),
            name: Arc::clone(&name),
            number,
            by_id,
            by_creation_time,
            indexes: BTreeMap::new(),
        });
        let found = self.components.entry(component).or_default();
        let clash = found.tables.insert(Arc::clone(&name), Arc::clone(&table)).is_some();
        assert!(!clash && found.names.insert(number, name).is_none(), "a table is made once");
        table
    }

    /// Gives an index its identity.
    fn add_index(&mut self, mut index: Index) -> Arc<Index> {
        index.id = IndexId(self.next_index);
        self.next_index += 1;
        let index = Arc::new(index);
        self.indexes.insert(index.id, Arc::clone(&index));
        index
    }

    /// Adds a declared index to a table; the caller fills it.
    pub(crate) fn declare_index(
        &mut self,
        table: &Table,
        name: &Arc<str>,
        declared: &[Arc<str>],
        staged: bool,
    ) -> Arc<Index> {
        let index = self.add_index(Index::declared(table, name, declared, staged));
        self.change_table(table, |indexes| {
            indexes.insert(Arc::clone(name), Arc::clone(&index));
        });
        index
    }

    /// Takes a declared index away.
    pub(crate) fn drop_index(&mut self, table: &Table, index: &Index) {
        self.indexes.remove(&index.id);
        self.change_table(table, |indexes| {
            indexes.remove(&index.name);
        });
    }

    /// Makes a filled index available to queries, or hides it.
    pub(crate) fn stage_index(&mut self, table: &Table, index: &Index, staged: bool) {
        let changed = Arc::new(Index { staged, ..index.clone() });
        self.indexes.insert(changed.id, Arc::clone(&changed));
        self.change_table(table, |indexes| {
            indexes.insert(Arc::clone(&changed.name), changed);
        });
    }

    fn change_table(
        &mut self,
        table: &Table,
        change: impl FnOnce(&mut BTreeMap<Arc<str>, Arc<Index>>),
    ) {
        let component =
            self.components.get_mut(&table.component).expect("a table's component exists");
        let found = component.tables.get_mut(&table.name).expect("it is in its component");
        change(&mut Arc::make_mut(found).indexes);
    }
}

/// The key whose reading means "which code and schema serve".
pub(crate) fn deployment_key() -> Key {
    catalog_key(&["deployment"])
}

/// The key whose reading means "which components have tables".
pub(crate) fn components_key() -> Key {
    catalog_key(&["components"])
}

/// The key whose reading means "does this table exist".
pub(crate) fn table_key(component: &str, name: &str) -> Key {
    catalog_key(&["tables", component, name])
}

/// The key whose reading means "which table has this number".
pub(crate) fn number_key(component: &str, number: TableNumber) -> Key {
    let mut key = catalog_key(&["numbers", component]).to_vec();
    encode_value(Some(&Value::Int64(number.0.into())), &mut key);
    key.into()
}

/// The range whose reading means "which table numbers are taken".
pub(crate) fn all_numbers() -> Interval {
    Interval::prefix(&catalog_key(&["numbers"]))
}

/// The key whose reading means "what is the value of this environment variable".
pub(crate) fn environment_key(name: &str) -> Key {
    catalog_key(&["environment", name])
}

/// The range whose reading means "which environment variables are there".
pub(crate) fn all_variables() -> Interval {
    Interval::prefix(&catalog_key(&["environment"]))
}

fn catalog_key(parts: &[&str]) -> Key {
    let mut key = Vec::new();
    for part in parts {
        encode_value(Some(&Value::String((*part).to_owned())), &mut key);
    }
    key.into()
}

/// Whether a table of that name may be created by an author.
///
/// # Errors
/// A name that is reserved, or is not an identifier (`convex-compat.md` section 2.3).
pub(crate) fn check_table_name(name: &str) -> Result<(), UserError> {
    if SYSTEM_TABLES.iter().any(|system| system.shown && system.name == name) {
        return Err(read_only_table(name));
    }
    if name.starts_with('_') {
        let text = format!("{name} is a reserved table name.");
        return Err(UserError::new("TableNameReserved", text));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if name.len() > 64 || !starts_well || !name.chars().all(legal) {
        return Err(UserError::new(
            "InvalidTableName",
            format!(
                "Invalid table name {name:?}: a table name is 1 to 64 letters, digits and \
                 underscores, and starts with a letter."
            ),
        ));
    }
    Ok(())
}

/// Refuses a write to one of the host's tables.
pub(crate) fn read_only_table(name: &str) -> UserError {
    UserError::new("ReadOnlyTable", format!("{name} is a read-only table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_10001_and_differ_by_component() {
        let mut catalog = Catalog::new();
        assert_eq!(catalog.create_table("", "b").number, TableNumber(10_001));
        assert_eq!(catalog.create_table("", "a").number, TableNumber(10_002));
        assert_eq!(catalog.create_table("child", "a").number, TableNumber(10_001));
        assert_eq!(catalog.table_name("", TableNumber(10_002)).as_deref(), Some("a"));
        assert_eq!(catalog.table_name("child", TableNumber(10_002)), None);
    }

    #[test]
    fn a_dropped_index_never_shares_its_identity() {
        let mut catalog = Catalog::new();
        let table = catalog.create_table("", "t");
        let first = catalog.declare_index(&table, &"by_x".into(), &["x".into()], false);
        catalog.drop_index(&table, &first);
        let second = catalog.declare_index(&table, &"by_x".into(), &["x".into()], false);
        assert_ne!(first.id, second.id);
        assert!(catalog.index(first.id).is_none());
        assert!(all_numbers().contains(&number_key("child", table.number)));
    }

    #[test]
    fn names_that_cannot_be_tables_are_refused_with_convex_texts() {
        let text = |name: &str| check_table_name(name).unwrap_err().message;
        assert_eq!(text("_storage"), "_storage is a read-only table");
        assert_eq!(text("_mine"), "_mine is a reserved table name.");
        assert!(text("a-b").starts_with("Invalid table name \"a-b\""));
        assert!(check_table_name(&"x".repeat(65)).is_err());
        assert!(check_table_name("a_1").is_ok());
    }
}
