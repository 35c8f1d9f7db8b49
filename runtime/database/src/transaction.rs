//! Stop 5 of 8, transaction: one call's view of the database, its own writes in it, its reads
//! recorded.
//!
//! In: reads and writes of a function. Out: documents, and for the commit the read set and the
//! writes. A transaction works on its own copy of the persistent maps (free until it writes), so it
//! sees its own writes everywhere, and a savepoint is a copy of that copy.
//!
//! ```text
//!   snapshot ──copy──▶ working state ──copy──▶ savepoint      commit: writes go onto the newest
//!   (shared)           (maps, writes)          (rollback)     snapshot, if nothing read changed
//! ```
//! Invariant: every answer depends only on the writes so far and on keys in the read set.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use crate::catalog::{Catalog, Table, deployment_key, number_key, table_key};
use crate::document::Document;
use crate::error::UserError;
use crate::id::DocumentId;
use crate::index_maps::WorkingMaps;
use crate::key::{Interval, Key};
use crate::log::Write;
use crate::query::OpenQuery;
use crate::read_set::ReadSet;
use crate::record::{Given, RequestKey};
use crate::requests::{Once, RequestAnswer};
use crate::snapshot::{CATALOG, IndexId, Snapshot};
use crate::work::{Budget, Metrics, Usage};

/// Stream of the call's ChaCha generator that ids come from; `Math.random` uses another.
const ID_STREAM: u64 = 0x6964;

/// The first read of every call; shared, because every live read set holds it.
static DEPLOYMENT: LazyLock<Interval> = LazyLock::new(|| Interval::point(&deployment_key()));

/// One call's reads and writes.
pub struct Transaction {
    pub(crate) given: Given,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) state: State,
    pub(crate) reads: ReadSet,
    pub(crate) usage: Usage,
    pub(crate) budget: Budget,
    pub(crate) read_only: bool,
    pub(crate) ids: ChaCha12Rng,
    pub(crate) newest_creation_time: f64,
    /// How many it has drawn.
    pub(crate) creation_times: u64,
    pub(crate) queries: BTreeMap<u32, OpenQuery>,
    pub(crate) queries_opened: u32,
    pub(crate) paginated: bool,
    /// How many environment variables it has looked at.
    pub(crate) variables_read: u64,
    /// To be remembered with the commit.
    pub(crate) once: Option<Once>,
    /// Whether the operator looks, who sees the host's hidden tables too.
    pub(crate) sees_hidden: bool,
}

/// What a rollback brings back: everything that writing changes.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) maps: WorkingMaps,
    pub(crate) catalog: Arc<Catalog>,
    /// Catalog keys of the tables it created.
    pub(crate) created: imbl::OrdSet<Key>,
    /// By the table's `by_id` index, which no other table of any component has, and internal id.
    pub(crate) writes: imbl::OrdMap<(IndexId, [u8; 16]), Arc<Write>>,
    /// Whether a written document waits for the commit's timestamp.
    pub(crate) placeholders: bool,
}

/// A moment to which a transaction's writes can return.
pub struct Savepoint {
    state: State,
    usage: Usage,
}

/// What [`Transaction::enter`] hands out and [`Transaction::leave`] takes back.
pub struct Scope {
    queries: BTreeMap<u32, OpenQuery>,
    paginated: bool,
    budget: Budget,
}

/// The arguments of `db.get`.
#[derive(Clone, Copy, Debug)]
pub struct GetArgs<'a> {
    /// The id's text.
    pub id: &'a str,
    /// The table the author named, in the two-argument form.
    pub table: Option<&'a str>,
    /// Whether it came through `db.system`.
    pub is_system: bool,
}

impl Transaction {
    /// Starts at a snapshot.
    pub fn begin(snapshot: Arc<Snapshot>, given: &Given, read_only: bool) -> Self {
        let mut reads = ReadSet::default();
        // Code and schema are inputs of every call: a push conflicts with what runs on the old.
        reads.insert(CATALOG, DEPLOYMENT.clone());
        let mut ids = ChaCha12Rng::from_seed(given.seed);
        ids.set_stream(ID_STREAM);
        let state = State {
            maps: WorkingMaps::new(snapshot.maps.clone()),
            catalog: Arc::clone(&snapshot.catalog),
            created: imbl::OrdSet::new(),
            writes: imbl::OrdMap::new(),
            placeholders: false,
        };
        Self {
            given: given.clone(),
            snapshot,
            state,
            reads,
            usage: Usage::default(),
            budget: Budget::LIMITS,
            read_only,
            ids,
            newest_creation_time: 0.0,
            creation_times: 0,
            queries: BTreeMap::new(),
            queries_opened: 0,
            paginated: false,
            variables_read: 0,
            once: None,
            sees_hidden: false,
        }
    }

    /// Shows it the host's hidden tables too: the operator looks.
    pub fn show_hidden(&mut self) {
        self.sees_hidden = true;
    }

    /// What the host decided for this attempt.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The snapshot it began at.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Counted work so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What it has read so far.
    pub fn reads(&self) -> &ReadSet {
        &self.reads
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Makes the commit part of a request that must not commit twice: the answer is kept with it.
    /// Without writes nothing is kept, because running such a request again changes nothing.
    pub fn once(&mut self, key: RequestKey, answer: RequestAnswer) {
        self.once = Some(Once { key, answer });
    }

    /// Whether a commit would change anything.
    pub fn has_writes(&self) -> bool {
        !self.state.writes.is_empty() || !self.state.created.is_empty()
    }

    /// `db.get`: one document by id.
    ///
    /// # Errors
    /// An id that is malformed or belongs to another table; the wrong one of `db` and `db.system`;
    /// a limit (`convex-compat.md` sections 1.7, 8.6).
    pub fn get(
        &mut self,
        component: &str,
        op: GetArgs<'_>,
    ) -> Result<Option<Arc<Document>>, UserError> {
        let id = parse_id(op.id, "db.get")?;
        self.count_range()?;
        let Some(table) = self.table_of(component, id) else { return Ok(None) };
        check_table(&table, op.table, "db.get")?;
        let mismatch = |text: &str| Err(UserError::new("InvalidTable", text));
        match (table.is_system(), op.is_system) {
            (true, false) => mismatch("System tables can only be accessed with db.system."),
            (false, true) => mismatch("User tables cannot be accessed with db.system."),
            _ => self.read_document(&table, id),
        }
    }

    /// How many documents a table holds.
    ///
    /// # Errors
    /// The limit of reads.
    pub fn count(&mut self, component: &str, table: &str) -> Result<u64, UserError> {
        self.count_range()?;
        let Some(table) = self.table_named(component, table) else { return Ok(0) };
        self.reads.insert(table.by_id.id, Interval::all());
        Ok(self.state.maps.settled().entries(table.by_id.id) as u64)
    }

    /// `db.normalizeId`: the id, if it is one of that table; the document need not exist.
    pub fn normalize_id(&mut self, component: &str, table: &str, id: &str) -> Option<String> {
        let table = self.table_named(component, table)?;
        let id = DocumentId::decode(id).filter(|id| id.table == table.number)?;
        Some(id.encode())
    }

    /// Marks the moment; for nested mutations.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint { state: self.state.clone(), usage: self.usage }
    }

    /// Takes back every write since the savepoint, tables created included, and no longer counts
    /// it. Reads stay recorded and counted: what was thrown away depended on them, and so may
    /// whatever happens next.
    pub fn rollback(&mut self, savepoint: Savepoint) {
        self.state = savepoint.state;
        let Usage { documents_read, bytes_read, ranges, files_read, file_bytes_read, .. } =
            self.usage;
        self.usage = Usage {
            documents_read,
            bytes_read,
            ranges,
            files_read,
            file_bytes_read,
            ..savepoint.usage
        };
    }

    /// Begins a nested function: its own queries, its own one pagination, and at most `limits` of
    /// what is left.
    pub fn enter(&mut self, limits: Option<Budget>) -> Scope {
        let outer = Scope {
            queries: std::mem::take(&mut self.queries),
            paginated: std::mem::take(&mut self.paginated),
            budget: self.budget,
        };
        if let Some(limits) = limits {
            self.budget = outer.budget.lowered(self.usage, limits);
        }
        outer
    }

    /// Ends a nested function.
    pub fn leave(&mut self, outer: Scope) {
        self.queries = outer.queries;
        self.paginated = outer.paginated;
        self.budget = outer.budget;
    }

    /// `getTransactionMetrics`, the database's part.
    pub fn metrics(&self) -> Metrics {
        self.budget.metrics(self.usage)
    }

    /// Hash over what it wrote, net, by table and id: equal executions have equal hashes.
    pub fn writes_digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        self.state.created.iter().for_each(|key| add(key));
        for write in self.state.writes.values() {
            add(write.table.component.as_bytes());
            add(write.document().id.encode().as_bytes());
            for version in [&write.before, &write.after] {
                add(version.as_ref().map_or("", |document| document.json()).as_bytes());
            }
        }
        hash.finalize().into()
    }

    /// The table of an id; that no table has its number is a read too.
    pub(crate) fn table_of(&mut self, component: &str, id: DocumentId) -> Option<Arc<Table>> {
        let Some(name) = self.state.catalog.table_name(component, id.table) else {
            self.reads.insert(CATALOG, Interval::point(&number_key(component, id.table)));
            return None;
        };
        let table = self.state.catalog.table(component, &name);
        table.filter(|table| self.sees_hidden || !table.is_hidden()).cloned()
    }

    /// A table by name; that it does not exist is a read too.
    pub(crate) fn table_named(&mut self, component: &str, name: &str) -> Option<Arc<Table>> {
        let found = self.state.catalog.table(component, name);
        let table = found.filter(|table| self.sees_hidden || !table.is_hidden()).cloned();
        if table.is_none() {
            self.reads.insert(CATALOG, Interval::point(&table_key(component, name)));
        }
        table
    }

    /// Looks a document up, records the point and counts the document.
    fn read_document(
        &mut self,
        table: &Table,
        id: DocumentId,
    ) -> Result<Option<Arc<Document>>, UserError> {
        let found = self.look_up(table, id);
        if let Some(document) = &found {
            self.count_document(document)?;
        }
        Ok(found)
    }

    /// Looks a document up and records the point.
    pub(crate) fn look_up(&mut self, table: &Table, id: DocumentId) -> Option<Arc<Document>> {
        self.reads.insert(table.by_id.id, Interval::point(&id.internal));
        self.state.maps.document(table, &id.internal).cloned()
    }

    /// Counts one index range against the budget.
    pub(crate) fn count_range(&mut self) -> Result<(), UserError> {
        self.usage.ranges += 1;
        let limit = self.budget.ranges;
        if self.usage.ranges <= limit {
            return Ok(());
        }
        Err(UserError::new(
            "TooManyReads",
            format!("Too many reads in a single function execution (limit: {limit}). {READ_LESS}"),
        ))
    }

    /// Whether the budget has room to read one more document.
    pub(crate) fn has_room_for(&self, document: &Document) -> bool {
        let bytes = self.usage.bytes_read + u64::from(document.size);
        self.usage.documents_read < self.budget.documents_read && bytes <= self.budget.bytes_read
    }

    /// Counts one document read against the budget.
    pub(crate) fn count_document(&mut self, document: &Document) -> Result<(), UserError> {
        self.usage.documents_read += 1;
        self.usage.bytes_read += u64::from(document.size);
        let (what, limit, unit) = if self.usage.documents_read > self.budget.documents_read {
            ("documents", self.budget.documents_read, "")
        } else if self.usage.bytes_read > self.budget.bytes_read {
            ("bytes", self.budget.bytes_read, " bytes")
        } else {
            return Ok(());
        };
        Err(UserError::new(
            "TooManyReads",
            format!(
                "Too many {what} read in a single function execution (limit: {limit}{unit}). \
                 {READ_LESS}"
            ),
        ))
    }
}

/// The advice behind every limit on reads.
const READ_LESS: &str = "Consider using smaller limits in your queries, paginating your queries, \
     or using indexed queries with a selective index range expressions.";

/// Parses an id argument.
pub(crate) fn parse_id(text: &str, operation: &str) -> Result<DocumentId, UserError> {
    DocumentId::decode(text).ok_or_else(|| {
        UserError::new(
            "InvalidArgument",
            format!(
                "Invalid argument `id` for `{operation}`: Unable to decode ID: {text:?} is not a \
                 document ID."
            ),
        )
    })
}

/// Checks the table that the author named beside an id.
pub(crate) fn check_table(
    table: &Table,
    named: Option<&str>,
    operation: &str,
) -> Result<(), UserError> {
    match named {
        Some(named) if named != &*table.name => Err(UserError::new(
            "InvalidArgument",
            format!(
                "Invalid argument `id` for `{operation}`: expected to be an Id<\"{named}\">, got \
                 Id<\"{}\"> instead.",
                table.name
            ),
        )),
        _ => Ok(()),
    }
}
