//! Scheduled functions: rows of `_scheduled_functions` (`convex-compat.md` sections 2.7 and 9.3).
//!
//! In: what is to run and when, from mutations (inside of their transactions) and from actions
//! (each in a commit of its own); what came of it, from the scheduler. Out: rows, and the order in
//! which they are due.
//!
//! ```text
//!   schedule ─▶ pending ──mutation: in the transaction of its effects──────────▶ success
//!                  │  └───action: in a commit before it runs──▶ inProgress ────▶ success | failed
//!                  └─cancel─▶ canceled ◀──────────cancel───────────┘ (its end changes nothing)
//! ```
//! Invariant: a row leaves `pending` once. A mutation does so in the commit that holds its effects,
//! so it runs exactly once; an action before it runs, so it runs at most once.

use std::sync::Arc;

use crate::catalog::{SCHEDULED_FUNCTIONS, Table, components_key};
use crate::commit::{Committed, Database, Writer};
use crate::crons;
use crate::document::Document;
use crate::error::UserError;
use crate::id::DocumentId;
use crate::key::{Interval, decode_key, encode_value};
use crate::limits;
use crate::query::next_key;
use crate::read_set::ReadSet;
use crate::record::{Arguments, FunctionPath, Given, Job, Timestamp, World};
use crate::snapshot::{CATALOG, Snapshot};
use crate::system_rows::{
    Fields, Row, hidden_indexes, merged, milliseconds, nanoseconds, row, table_with, time,
};
use crate::transaction::Transaction;
use crate::value::Value;

/// What an action is said to have died of when its end is unknown.
pub const TRANSIENT: &str = "Transient error while executing action";

/// The field of a row whose function is of another component than the one that scheduled it.
const COMPONENT: &str = "component";

/// Rows that one commit recovers or removes.
const BATCH: usize = 1_000;

/// What is to run, and when.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The component that schedules it: its table has the row.
    pub from: Arc<str>,
    /// The function.
    pub path: FunctionPath,
    /// Its argument.
    pub args: Arguments,
    /// When, seconds since the Unix epoch; a past time is at once.
    pub at: f64,
    /// On whose behalf it is scheduled: [`crate::record::Call::job`] of the call that does. Where
    /// that is an action that was canceled, the new one is canceled from the start.
    pub by: Option<Job>,
}

/// Where a scheduled function stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Not begun.
    Pending,
    /// An action that began; or a mutation, to itself.
    InProgress,
    /// Ran to its end.
    Success,
    /// Ended with this error.
    Failed(String),
    /// Was canceled before it began or, as an action, before it ended.
    Canceled,
}

impl JobState {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "inProgress",
            Self::Success => "success",
            Self::Failed(_) => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn value(&self) -> Value {
        let mut fields = Fields::from([("kind".into(), Value::String(self.kind().into()))]);
        if let Self::Failed(error) = self {
            fields.insert("error".into(), Value::String(error.clone()));
        }
        Value::Object(fields)
    }

    fn of(row: &Row) -> Self {
        match row.text("state.kind") {
            Some("pending") => Self::Pending,
            Some("inProgress") => Self::InProgress,
            Some("success") => Self::Success,
            Some("canceled") => Self::Canceled,
            _ => Self::Failed(row.text("state.error").unwrap_or_default().to_owned()),
        }
    }
}

/// A row, as the scheduler reads it.
#[derive(Clone, Debug)]
pub struct ScheduledJob {
    /// Its id.
    pub id: DocumentId,
    /// The function.
    pub path: FunctionPath,
    /// Its argument.
    pub args: Arguments,
}

/// A row that waits for its time.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// When it is due, nanoseconds since the Unix epoch.
    pub due: u64,
    key: &'a [u8],
    component: &'a Arc<str>,
    document: &'a Arc<Document>,
}

impl Pending<'_> {
    /// Its id.
    pub fn id(&self) -> DocumentId {
        self.document.id
    }

    /// What it is to run.
    ///
    /// # Errors
    /// None for a row that [`Transaction::schedule`] made: path and arguments were checked there.
    pub fn job(&self) -> Result<ScheduledJob, UserError> {
        let row = row(self.document);
        let path = FunctionPath::parse(row.text("name").unwrap_or_default())?;
        let component = row.text(COMPONENT).map_or_else(|| Arc::clone(self.component), Arc::from);
        let path = path.within(&component);
        Ok(ScheduledJob { id: row.id(), path, args: arguments(&row)? })
    }
}

/// The one argument of a row.
pub(crate) fn arguments(row: &Row) -> Result<Arguments, UserError> {
    match row.field("args") {
        Some(Value::Array(args)) if args.len() == 1 => Arguments::from_value(args[0].clone()),
        _ => Arguments::from_value(Value::Null),
    }
}

impl Transaction {
    /// `ctx.scheduler.runAfter` and `runAt`: part of this transaction.
    ///
    /// # Errors
    /// A function that does not exist, a time that is none, a limit, a query that schedules.
    pub fn schedule(&mut self, job: NewJob) -> Result<DocumentId, UserError> {
        self.check_writable("scheduler.runAfter")?;
        let NewJob { from, path, args, at, by } = job;
        check_function(&self.snapshot, &path)?;
        let due = due_time(at, self.given.now)?;
        args.value.check_limits()?;
        self.count_scheduled(args.value.size() as u64)?;
        let born_canceled = match by {
            Some(Job::Scheduled(parent)) => self.job_state(parent) == Some(JobState::Canceled),
            Some(Job::Cron(_)) | None => false,
        };
        let mut fields = Fields::from([
            ("name".into(), Value::String(path.canonical())),
            ("args".into(), Value::Array(vec![Value::clone(&args.value)])),
            ("scheduledTime".into(), milliseconds(due)),
            ("state".into(), JobState::Pending.value()),
        ]);
        if path.component != from {
            fields.insert(COMPONENT.into(), Value::String(path.component.to_string()));
        }
        if born_canceled {
            self.end_fields(&mut fields, &JobState::Canceled);
        }
        let table = self.system_table_of(&from, SCHEDULED_FUNCTIONS)?;
        Ok(self.insert_row(&table, fields))
    }

    /// `ctx.scheduler.cancel`; one that ended, or whose row is gone, stays as it is. `own` is the
    /// job of the mutation that asks.
    ///
    /// # Errors
    /// An id that is none of `_scheduled_functions`; the job that asks; a query that cancels.
    pub fn cancel_job(
        &mut self,
        component: &str,
        id: &str,
        own: Option<Job>,
    ) -> Result<(), UserError> {
        self.check_writable("scheduler.cancel")?;
        let table = self.system_table_of(component, SCHEDULED_FUNCTIONS)?;
        let id = job_id(self, component, id)?;
        if own == Some(Job::Scheduled(id)) {
            let text = "A mutation cannot cancel itself";
            return Err(UserError::new("ScheduledFunctionCancelingItself", text));
        }
        let Some(row) = self.row(&table, id) else { return Ok(()) };
        if matches!(JobState::of(&row), JobState::Pending | JobState::InProgress) {
            self.end_row(&table, &row, &JobState::Canceled);
        }
        Ok(())
    }

    /// Takes a row away, whatever its state, as [`collect_garbage`] would one day: for tests of
    /// what happens then. Says whether the id is that of a job.
    ///
    /// # Errors
    /// A query that removes.
    pub fn forget_job(&mut self, component: &str, id: &str) -> Result<bool, UserError> {
        let table = self.system_table_of(component, SCHEDULED_FUNCTIONS)?;
        let id = DocumentId::decode(id).filter(|id| id.table == table.number);
        let Some(id) = id else { return Ok(false) };
        self.check_writable("db.delete")?;
        if let Some(row) = self.row(&table, id) {
            self.remove_row(&table, &row);
        }
        Ok(true)
    }

    /// Where a job stands; a read.
    pub fn job_state(&mut self, id: DocumentId) -> Option<JobState> {
        let table = self.system_table_with(SCHEDULED_FUNCTIONS, id);
        self.row(&table, id).as_ref().map(JobState::of)
    }

    /// Marks a job as one in progress; with [`Self::end_run`] a mutation does so in the transaction
    /// of its effects. Says whether it was there to be run.
    pub fn begin_run(&mut self, job: Job) -> bool {
        match job {
            Job::Scheduled(id) => self.begin_job(id),
            Job::Cron(run) => self.begin_cron(run),
        }
    }

    /// The mutation whose run this is came to its end.
    pub fn end_run(&mut self, job: Job) {
        match job {
            Job::Scheduled(id) => drop(self.end_job(id, &JobState::Success)),
            Job::Cron(run) => self.end_cron(run.id, &JobState::Success),
        }
    }

    /// Makes a pending job one in progress. Says whether it was pending.
    fn begin_job(&mut self, id: DocumentId) -> bool {
        let table = self.system_table_with(SCHEDULED_FUNCTIONS, id);
        let Some(row) = self.row(&table, id) else { return false };
        if JobState::of(&row) != JobState::Pending {
            return false;
        }
        let mut fields = row.fields.clone();
        fields.insert("state".into(), JobState::InProgress.value());
        self.replace_row(&table, &row, fields);
        true
    }

    /// Ends a job that has not ended, and was not canceled. Says whether it did.
    fn end_job(&mut self, id: DocumentId, state: &JobState) -> bool {
        let table = self.system_table_with(SCHEDULED_FUNCTIONS, id);
        let Some(row) = self.row(&table, id) else { return false };
        let open = matches!(JobState::of(&row), JobState::Pending | JobState::InProgress);
        if open {
            self.end_row(&table, &row, state);
        }
        open
    }

    fn end_row(&mut self, table: &Arc<Table>, row: &Row, state: &JobState) {
        let mut fields = row.fields.clone();
        self.end_fields(&mut fields, state);
        self.replace_row(table, row, fields);
    }

    fn end_fields(&self, fields: &mut Fields, state: &JobState) {
        fields.insert("state".into(), state.value());
        fields.insert("completedTime".into(), milliseconds(self.given.now));
    }

    /// Counts one scheduled function against the budget.
    fn count_scheduled(&mut self, bytes: u64) -> Result<(), UserError> {
        self.usage.functions_scheduled += 1;
        self.usage.scheduled_bytes += bytes;
        let (calls, most) = (self.budget.functions_scheduled, self.budget.scheduled_bytes);
        if self.usage.functions_scheduled > calls {
            let text = format!("Too many functions scheduled by this mutation (limit: {calls})");
            return Err(UserError::new("TooManyFunctionsScheduled", text));
        }
        if self.usage.scheduled_bytes > most {
            let text = format!(
                "Too large total size of the arguments of scheduled functions from this mutation \
                 (limit: {most} bytes)"
            );
            return Err(UserError::new("ScheduledFunctionsArgumentsTooLarge", text));
        }
        Ok(())
    }
}

/// The function must exist; its kind is looked at when it runs.
fn check_function(snapshot: &Snapshot, path: &FunctionPath) -> Result<(), UserError> {
    let analysis = snapshot.deployment.as_ref().map(|deployment| &deployment.analysis);
    let component = analysis.and_then(|analysis| analysis.of(&path.component));
    let module = component.and_then(|found| found.modules.get(&path.module));
    let Some(module) = module else {
        let text = format!(
            "Attempted to schedule function at nonexistent path: {path}{}",
            path.whereabouts()
        );
        return Err(UserError::new("InvalidFunctionPath", text));
    };
    if module.functions.iter().any(|function| function.name == path.export) {
        return Ok(());
    }
    Err(UserError::new(
        "InvalidFunctionPath",
        format!(
            "Attempted to schedule function, but no exported function {} found in the file: {}. \
             Did you forget to export it?",
            path.export, path.module
        ),
    ))
}

/// The moment, in nanoseconds, that `seconds` names.
fn due_time(seconds: f64, now: u64) -> Result<u64, UserError> {
    let days = limits::SCHEDULE_DAYS;
    let away = (seconds - now as f64 / 1e9).abs();
    if away <= (days * 86_400) as f64 {
        return Ok(nanoseconds(seconds, 1_000_000_000));
    }
    let text = if seconds.is_finite() {
        format!(
            "A function was scheduled for {seconds} seconds after 1970, which is more than five \
             years from now. runAfter takes milliseconds from now, runAt a Date or milliseconds \
             since 1970."
        )
    } else {
        "A function was scheduled for a time that is not a number. Look for an invalid Date, or \
         for arithmetic with undefined."
            .to_owned()
    };
    Err(UserError::new("InvalidScheduledFunctionTime", text))
}

/// Parses the id of a scheduled function.
fn job_id(
    transaction: &mut Transaction,
    component: &str,
    text: &str,
) -> Result<DocumentId, UserError> {
    let invalid = |why: String| {
        UserError::new(
            "InvalidArgument",
            format!("Invalid argument `id` for `scheduler.cancel`: {why}"),
        )
    };
    let Some(id) = DocumentId::decode(text) else {
        return Err(invalid(format!("Unable to decode ID: {text:?} is not a document ID.")));
    };
    if id.table == transaction.system_table(SCHEDULED_FUNCTIONS).number {
        return Ok(id);
    }
    let table =
        transaction.table_of(component, id).map_or_else(|| "?".into(), |t| Arc::clone(&t.name));
    Err(invalid(format!("expected to be an Id<\"_scheduled_functions\">, got Id<\"{table}\">.")))
}

/// `ctx.scheduler.runAfter` and `runAt` of an action: committed at once, and durable.
///
/// Waits for the log store.
///
/// # Errors
/// As [`Transaction::schedule`].
pub fn schedule(
    database: &Database,
    world: &dyn World,
    job: NewJob,
    writer: Writer,
) -> Result<DocumentId, UserError> {
    told(database, alone(database, world, writer, |transaction| transaction.schedule(job)))
}

/// `ctx.scheduler.cancel` of an action: committed at once, and durable.
///
/// Waits for the log store.
///
/// # Errors
/// As [`Transaction::cancel_job`].
pub fn cancel(
    database: &Database,
    world: &dyn World,
    (component, id): (&str, &str),
    writer: Writer,
) -> Result<(), UserError> {
    let canceled = |now: &mut Transaction| now.cancel_job(component, id, None);
    told(database, alone(database, world, writer, canceled))
}

/// The scheduler is about to run an action. Gives the timestamp that must be durable first: else a
/// crash could make it run again. `None`: it does not wait any more, or is not due as it was.
pub fn begin(database: &Database, world: &dyn World, job: Job) -> Option<Timestamp> {
    let writer = scheduler(database);
    let (begun, committed) = alone(database, world, writer, |now| now.begin_run(job));
    begun.then_some(committed.ts)
}

/// The scheduler ran a job to its end: a mutation that failed, or an action. One that was canceled
/// meanwhile stays canceled. Gives when that was noted.
pub fn end(database: &Database, world: &dyn World, job: Job, state: &JobState) -> Timestamp {
    let writer = scheduler(database);
    let ended = |transaction: &mut Transaction| match job {
        Job::Scheduled(id) => drop(transaction.end_job(id, state)),
        Job::Cron(run) => {
            // A mutation that failed has not moved its row on.
            transaction.begin_cron(run);
            transaction.end_cron(run.id, state);
        }
    };
    alone(database, world, writer, ended).1.ts
}

/// Whether a job waits to be run.
pub fn is_ready(snapshot: &Snapshot, job: Job) -> bool {
    match job {
        Job::Scheduled(id) => {
            let Some(table) = table_with(snapshot, SCHEDULED_FUNCTIONS, id) else { return false };
            let mut found = snapshot.range(table.by_id.id, &Interval::point(&id.internal));
            let state = found.next().map(|(_, document)| JobState::of(&row(document)));
            state == Some(JobState::Pending)
        }
        Job::Cron(run) => {
            let cron = crons::job(snapshot, run.id);
            cron.is_some_and(|cron| cron.next == Some(run.due) && !cron.in_progress)
        }
    }
}

/// Ends the actions that an earlier scheduler began and nobody will end. Gives how many.
pub fn recover(database: &Database, world: &dyn World) -> usize {
    let mut found = 0;
    loop {
        let lost: Vec<_> = ids(&database.newest(), &JobState::InProgress, None).collect();
        if lost.is_empty() {
            return found;
        }
        alone(database, world, scheduler(database), |transaction| {
            let failed = JobState::Failed(TRANSIENT.to_owned());
            lost.iter().for_each(|id| found += usize::from(transaction.end_job(*id, &failed)));
        });
    }
}

/// Removes rows that ended long ago, at most a batch of them. Gives how many.
pub fn collect_garbage(database: &Database, world: &dyn World) -> usize {
    let kept = limits::SCHEDULED_KEPT_MS * 1_000_000;
    let Some(before) = world.now().checked_sub(kept) else { return 0 };
    let snapshot = database.newest();
    let ended = [JobState::Success, JobState::Failed(String::new()), JobState::Canceled];
    let old = ended.iter().flat_map(|state| ids(&snapshot, state, Some(before)));
    let old: Vec<_> = old.take(BATCH).collect();
    if old.is_empty() {
        return 0;
    }
    alone(database, world, scheduler(database), |transaction| {
        for id in &old {
            let table = transaction.system_table_with(SCHEDULED_FUNCTIONS, *id);
            if let Some(row) = transaction.row(&table, *id) {
                transaction.remove_row(&table, &row);
            }
        }
    });
    old.len()
}

/// Rows that wait for their time, in the order in which they are due.
pub fn pending(snapshot: &Snapshot) -> impl Iterator<Item = Pending<'_>> {
    let waiting = Interval::prefix(&state_key(&JobState::Pending));
    let tables = hidden_indexes(snapshot, SCHEDULED_FUNCTIONS).map(|(table, index)| {
        let rows = snapshot.range(index.id, &waiting);
        rows.map(move |(key, document)| (key, (&table.component, document)))
    });
    let tables: Vec<_> = tables.collect();
    merged(tables.into_iter()).map(|(key, (component, document))| {
        // Kind, completed (undefined), scheduled.
        let due = decode_key(key).get(2).and_then(|due| time(due.as_ref())).unwrap_or(0);
        Pending { due, key, component, document }
    })
}

/// What a look at [`pending`] depended on that ended with the row `last`; `None`: it saw them all.
pub fn looked_at(snapshot: &Snapshot, last: Option<&Pending<'_>>, reads: &mut ReadSet) {
    let mut waiting = Interval::prefix(&state_key(&JobState::Pending));
    if let Some(last) = last {
        waiting.end = Some(next_key(last.key));
    }
    for (_, index) in hidden_indexes(snapshot, SCHEDULED_FUNCTIONS) {
        reads.insert(index.id, waiting.clone());
    }
    // A push may bring components.
    reads.insert(CATALOG, Interval::point(&components_key()));
}

/// At most a batch of the rows in a state, oldest end first; those that ended before a moment.
fn ids(
    snapshot: &Snapshot,
    state: &JobState,
    ended_before: Option<u64>,
) -> impl Iterator<Item = DocumentId> + use<> {
    let mut range = Interval::prefix(&state_key(state));
    if let Some(before) = ended_before {
        let mut end = state_key(state);
        encode_value(Some(&milliseconds(before)), &mut end);
        range.end = Some(end.into());
    }
    let found = hidden_indexes(snapshot, SCHEDULED_FUNCTIONS)
        .flat_map(|(_, index)| snapshot.range(index.id, &range))
        .take(BATCH);
    found.map(|(_, document)| document.id).collect::<Vec<_>>().into_iter()
}

/// How the keys of rows in a state begin.
fn state_key(state: &JobState) -> Vec<u8> {
    let mut key = Vec::new();
    encode_value(Some(&Value::String(state.kind().to_owned())), &mut key);
    key
}

/// Runs `work` in a transaction that cannot conflict, and commits it. What it did before an error
/// is nothing: each of the host's own transactions writes at its end.
pub(crate) fn alone<T>(
    database: &Database,
    world: &dyn World,
    writer: Writer,
    work: impl FnOnce(&mut Transaction) -> T,
) -> (T, Committed) {
    let turn = database.turn();
    let snapshot = turn.snapshot();
    let given = Given {
        code: snapshot.deployment.as_ref().map(|d| d.analysis.version).unwrap_or_default(),
        snapshot: snapshot.ts,
        seed: world.seed(),
        now: world.now(),
    };
    let mut transaction = turn.begin(&given, false);
    let done = work(&mut transaction);
    let committed = turn.commit(transaction, given.now, writer);
    (done, committed.expect("what begins while the turn is held cannot conflict"))
}

/// What was done, when it is durable.
fn told<T>(
    database: &Database,
    (done, committed): (Result<T, UserError>, Committed),
) -> Result<T, UserError> {
    database.wait_durable(committed.ts)?;
    done
}

/// The writer of the scheduler's own commits.
pub(crate) fn scheduler(database: &Database) -> Writer {
    let Timestamp(ts) = database.newest().ts;
    Writer::new("scheduler", format!("{ts:016x}"))
}
