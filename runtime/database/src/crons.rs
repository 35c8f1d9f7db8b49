//! Cron jobs: rows of the hidden table `_cron_jobs` (`convex-compat.md` section 9.4).
//!
//! In: the specs of a push, as `crons.ts` exported them; occurrences, from the scheduler, which
//! alone knows what a schedule means. Out: rows, in the order of their next occurrence.
//! Invariant: an occurrence is taken once. A mutation moves its row on in the commit that holds its
//! effects; an action's row moves on before the action runs. A push changes only the rows of specs
//! that it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{CRON_JOBS, Table, components_key};
use crate::commit::Database;
use crate::deployment::Analysis;
use crate::document::Document;
use crate::error::{PushError, UserError};
use crate::id::DocumentId;
use crate::json;
use crate::key::Interval;
use crate::read_set::ReadSet;
use crate::record::{Arguments, CronRun, FunctionPath, World};
use crate::scheduling::{JobState, TRANSIENT, alone, arguments, scheduler};
use crate::snapshot::{CATALOG, Snapshot};
use crate::system_rows::{Fields, hidden_indexes, merged, milliseconds, row, table_with, time};
use crate::transaction::Transaction;
use crate::value::Value;

/// A row, as the scheduler reads it.
#[derive(Clone, Debug)]
pub struct CronJob {
    /// Its id.
    pub id: DocumentId,
    /// The identifier in `crons.ts`.
    pub name: String,
    /// The function.
    pub path: FunctionPath,
    /// Its argument.
    pub args: Arguments,
    /// JSON text of the schedule: `{"type":"interval","seconds":30}`, ….
    pub schedule: String,
    /// The next occurrence, nanoseconds since the Unix epoch; `None`: nobody has computed it yet.
    pub next: Option<u64>,
    /// The last occurrence that ran, nanoseconds since the Unix epoch.
    pub previous: Option<u64>,
    /// Whether it is an action that runs.
    pub in_progress: bool,
}

/// Makes the rows those of `analysis` and of its components, within the transaction of its
/// activation. What is not mounted any more has no cron jobs.
///
/// # Errors
/// Specs that are not what `cronJobs()` exports.
pub(crate) fn sync(transaction: &mut Transaction, analysis: &Analysis) -> Result<(), PushError> {
    let tables: Vec<_> = transaction.snapshot.catalog.tables_named(CRON_JOBS).cloned().collect();
    for table in tables {
        let specs = match analysis.of(&table.component) {
            Some(analysis) => specs(analysis)?,
            None => BTreeMap::new(),
        };
        sync_table(transaction, &table, specs);
    }
    Ok(())
}

fn sync_table(
    transaction: &mut Transaction,
    table: &Arc<Table>,
    mut specs: BTreeMap<String, Fields>,
) {
    let snapshot = Arc::clone(&transaction.snapshot);
    let rows = snapshot.range(table.by_id.id, &Interval::all()).map(|(_, row)| row.id);
    for id in rows {
        let row = transaction.row(table, id).expect("it is in the snapshot");
        let Some(mut spec) = row.text("name").and_then(|name| specs.remove(name)) else {
            transaction.remove_row(table, &row);
            continue;
        };
        if spec.iter().all(|(name, value)| row.field(name) == Some(value)) {
            continue;
        }
        let mut fields = row.fields.clone();
        if spec.get("schedule") != row.field("schedule") {
            fields.remove("nextRun");
        }
        fields.append(&mut spec);
        transaction.replace_row(table, &row, fields);
    }
    for (name, mut spec) in specs {
        spec.insert("name".into(), Value::String(name));
        spec.insert("state".into(), state("idle"));
        transaction.insert_row(table, spec);
    }
}

/// `function`, `args` and `schedule` of each cron job of a bundle, by its identifier.
fn specs(analysis: &Analysis) -> Result<BTreeMap<String, Fields>, PushError> {
    let invalid = |why: &str| {
        let text = format!("The default export of `convex/crons.ts` cannot be read: {why}");
        PushError::new("InvalidCrons", text)
    };
    let module = analysis.modules.get("crons.js");
    let Some(text) = module.and_then(|module| module.crons_json.as_ref()) else {
        return Ok(BTreeMap::new());
    };
    let Value::Object(crons) = json::decode(text).map_err(|error| invalid(&error.message))? else {
        return Err(invalid("it is no object"));
    };
    let spec = |(name, spec): (String, Value)| {
        let part = |part: &str| spec.field(part).cloned();
        let (Some(Value::String(function)), Some(args), Some(schedule)) =
            (part("name"), part("args"), part("schedule"))
        else {
            return Err(invalid(&format!("the cron job {name:?} lacks a name, args or schedule")));
        };
        let path = FunctionPath::parse(&function).map_err(|error| invalid(&error.message))?;
        let spec = Fields::from([
            ("function".into(), Value::String(path.canonical())),
            ("args".into(), args),
            ("schedule".into(), schedule),
        ]);
        Ok((name, spec))
    };
    crons.into_iter().map(spec).collect()
}

fn state(kind: &str) -> Value {
    Value::Object(Fields::from([("kind".into(), Value::String(kind.into()))]))
}

/// Every cron job, those first whose next occurrence is not computed, then by that.
///
/// # Errors
/// None for rows that [`sync`] made.
pub fn jobs(snapshot: &Snapshot) -> impl Iterator<Item = Result<CronJob, UserError>> {
    let tables = hidden_indexes(snapshot, CRON_JOBS).map(|(table, index)| {
        let rows = snapshot.range(index.id, &Interval::all());
        rows.map(move |(key, document)| (key, (table, document)))
    });
    merged(tables).map(|(_, (table, document))| read(&table.component, document))
}

/// One cron job; `None` where it was deleted.
pub fn job(snapshot: &Snapshot, id: DocumentId) -> Option<CronJob> {
    let table = table_with(snapshot, CRON_JOBS, id)?;
    let found = snapshot.range(table.by_id.id, &Interval::point(&id.internal)).next();
    found.and_then(|(_, document)| read(&table.component, document).ok())
}

/// What a look at [`jobs`] depended on.
pub fn looked_at(snapshot: &Snapshot, reads: &mut ReadSet) {
    for (_, index) in hidden_indexes(snapshot, CRON_JOBS) {
        reads.insert(index.id, Interval::all());
    }
    // A push may bring components.
    reads.insert(CATALOG, Interval::point(&components_key()));
}

fn read(component: &Arc<str>, document: &Arc<Document>) -> Result<CronJob, UserError> {
    let row = row(document);
    Ok(CronJob {
        id: row.id(),
        name: row.text("name").unwrap_or_default().to_owned(),
        path: FunctionPath::parse(row.text("function").unwrap_or_default())?.within(component),
        args: arguments(&row)?,
        schedule: row.field("schedule").map(json::encode).unwrap_or_default(),
        next: time(row.field("nextRun")),
        previous: time(row.field("prevRun")),
        in_progress: row.text("state.kind") == Some("inProgress"),
    })
}

impl Transaction {
    /// Takes an occurrence: the row moves on to the one after it. Says whether it was there to be
    /// taken.
    pub(crate) fn begin_cron(&mut self, run: CronRun) -> bool {
        let table = self.system_table_with(CRON_JOBS, run.id);
        let Some(row) = self.row(&table, run.id) else { return false };
        if time(row.field("nextRun")) != Some(run.due)
            || row.text("state.kind") == Some("inProgress")
        {
            return false;
        }
        let mut fields = row.fields.clone();
        fields.insert("nextRun".into(), milliseconds(run.next));
        fields.insert("prevRun".into(), milliseconds(run.due));
        fields.insert("state".into(), state("inProgress"));
        self.replace_row(&table, &row, fields);
        true
    }

    /// Notes how the last occurrence ended.
    pub(crate) fn end_cron(&mut self, id: DocumentId, ended: &JobState) {
        let table = self.system_table_with(CRON_JOBS, id);
        let Some(row) = self.row(&table, id) else { return };
        let mut fields = row.fields.clone();
        fields.insert("state".into(), state("idle"));
        let mut last = Fields::from([("completedTime".into(), milliseconds(self.given.now))]);
        last.insert("state".into(), ended.value());
        fields.insert("lastRun".into(), Value::Object(last));
        self.replace_row(&table, &row, fields);
    }

    fn move_cron(&mut self, id: DocumentId, from: Option<u64>, to: u64) {
        let table = self.system_table_with(CRON_JOBS, id);
        let Some(row) = self.row(&table, id) else { return };
        if time(row.field("nextRun")) == from {
            let mut fields = row.fields.clone();
            fields.insert("nextRun".into(), milliseconds(to));
            self.replace_row(&table, &row, fields);
        }
    }
}

/// Sets the next occurrence, unless a push or a run has changed it from `from` meanwhile.
pub fn set_next(
    database: &Database,
    world: &dyn World,
    id: DocumentId,
    (from, to): (Option<u64>, u64),
) {
    let writer = scheduler(database);
    alone(database, world, writer, |transaction| transaction.move_cron(id, from, to));
}

/// Ends the actions that an earlier scheduler began and nobody will end. Gives how many.
pub fn recover(database: &Database, world: &dyn World) -> usize {
    let snapshot = database.newest();
    let lost: Vec<_> = jobs(&snapshot).flatten().filter(|job| job.in_progress).collect();
    if !lost.is_empty() {
        alone(database, world, scheduler(database), |transaction| {
            let failed = JobState::Failed(TRANSIENT.to_owned());
            lost.iter().for_each(|job| transaction.end_cron(job.id, &failed));
        });
    }
    lost.len()
}
