//! Scheduled functions and cron jobs as rows: who may change them, when, and who sees it.
//!
//! In: transactions that schedule, cancel and run. Out: states, orders and conflicts. A clock that
//! only the test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::crons;
use crate::deployment::{AnalyzedFunction, AnalyzedModule};
use crate::id::DocumentId;
use crate::limits;
use crate::record::{Arguments, CronRun, FunctionKind, FunctionPath, Job, World};
use crate::scheduling::{self, JobState, NewJob};
use crate::transaction::GetArgs;
use crate::validate::Validator;

pub(super) struct Clock(pub(super) AtomicU64);

impl World for Clock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn seed(&self) -> [u8; 32] {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&self.0.fetch_add(1_000, Ordering::Relaxed).to_be_bytes());
        seed
    }
}

fn clock() -> Clock {
    Clock(AtomicU64::new(EPOCH))
}

/// A deployment with the mutation `jobs:run`, and these cron jobs.
pub(super) fn with_jobs(crons: &str) -> Deployment {
    let mut deployment = deployment(None);
    let any = r#"{"type":"any"}"#;
    let run = AnalyzedFunction {
        name: "run".into(),
        kind: FunctionKind::Mutation,
        visibility: None,
        args_json: any.into(),
        args: Validator::from_json(any).unwrap(),
        returns_json: "null".into(),
        returns: None,
        position: None,
        invariant: None,
    };
    let jobs = AnalyzedModule { functions: vec![run], ..Default::default() };
    let crons = AnalyzedModule { crons_json: Some(crons.to_owned()), ..Default::default() };
    let analysis = Arc::get_mut(&mut deployment.analysis).unwrap();
    analysis.modules = [("jobs.js".into(), jobs), ("crons.js".into(), crons)].into();
    deployment
}

fn ready() -> Database {
    let database = database();
    database.activate(with_jobs("{}"), EPOCH).unwrap();
    database
}

fn job(milliseconds_from_epoch: f64) -> NewJob {
    let path = FunctionPath::parse("jobs:run").unwrap();
    let args = Arguments::parse(&path, r#"{"n":1}"#).unwrap();
    let from = "".into();
    NewJob { from, path, args, at: EPOCH as f64 / 1e9 + milliseconds_from_epoch / 1e3, by: None }
}

fn schedule(database: &Database, milliseconds: f64) -> DocumentId {
    let world = Clock(AtomicU64::new(database.snapshot().ts.0 + 1_000));
    scheduling::schedule(database, &world, job(milliseconds), writer("test")).unwrap()
}

fn state(database: &Database, id: DocumentId) -> Option<JobState> {
    begin(database, 99).job_state(id)
}

fn waiting(database: &Database) -> Vec<DocumentId> {
    scheduling::pending(&database.snapshot()).map(|row| row.id()).collect()
}

#[test]
fn a_row_is_what_functions_see() {
    let database = ready();
    let id = schedule(&database, 250.0);
    let get = GetArgs { id: &id.encode(), table: Some("_scheduled_functions"), is_system: true };
    let row = begin(&database, 1).get("", get).unwrap().unwrap();
    assert_eq!(field(&row, "name"), r#""jobs.js:run""#);
    assert_eq!(field(&row, "args"), r#"[{"n":1}]"#);
    assert_eq!(field(&row, "scheduledTime"), "1700000000250");
    assert_eq!(field(&row, "state"), r#"{"kind":"pending"}"#);
    assert_eq!(field(&row, "completedTime"), "undefined");
    assert!(id.encode().starts_with("kc2"), "{}", id.encode());
}

#[test]
fn what_a_transaction_schedules_comes_and_goes_with_it() {
    let database = ready();
    let mut dropped = begin(&database, 1);
    dropped.schedule(job(0.0)).unwrap();
    drop(dropped);
    assert!(waiting(&database).is_empty());
    let (id, _) = mutate(&database, 2, |transaction| {
        let savepoint = transaction.savepoint();
        transaction.schedule(job(0.0))?;
        transaction.rollback(savepoint);
        let metrics = transaction.metrics();
        let scheduled = (metrics.functions_scheduled.used, metrics.scheduled_bytes.used);
        assert_eq!(scheduled, (0, 0), "nor does it count");
        transaction.schedule(job(1.0))
    });
    assert_eq!(waiting(&database), [id]);
}

#[test]
fn rows_are_due_by_time_then_by_age() {
    let database = ready();
    let late = schedule(&database, 30.0);
    let twins = [schedule(&database, 10.0), schedule(&database, 10.0)];
    let early = schedule(&database, -5_000.0);
    assert_eq!(waiting(&database), [early, twins[0], twins[1], late]);
    let snapshot = database.snapshot();
    let first = scheduling::pending(&snapshot).next().unwrap();
    assert_eq!(first.due, EPOCH - 5_000_000_000);
    assert_eq!(first.job().unwrap().path.identifier(), "jobs:run");
}

#[test]
fn of_two_runs_of_one_job_one_commits() {
    let database = ready();
    mutate(&database, 0, |transaction| transaction.insert("", "a", value("{}")));
    let id = schedule(&database, 0.0);
    let run = |call| {
        let mut transaction = begin(&database, call);
        assert!(transaction.begin_run(Job::Scheduled(id)));
        assert_eq!(transaction.job_state(id), Some(JobState::InProgress), "it sees itself");
        transaction.insert("", "a", value(r#"{"x":1}"#)).unwrap();
        transaction.end_run(Job::Scheduled(id));
        transaction
    };
    let (one, other) = (run(1), run(2));
    database.commit(one, EPOCH, writer("one")).unwrap();
    let rejected = database.commit(other, EPOCH, writer("other")).unwrap_err();
    assert_eq!(&*rejected.conflict.table, "_scheduled_functions");
    assert_eq!(state(&database, id), Some(JobState::Success));
    assert_eq!(begin(&database, 3).count("", "a").unwrap(), 2);
    assert!(!scheduling::is_ready(&database.snapshot(), Job::Scheduled(id)));
}

#[test]
fn a_cancel_and_a_run_exclude_each_other() {
    let (database, world) = (ready(), clock());
    let id = schedule(&database, 0.0);
    let mut running = begin(&database, 1);
    assert!(running.begin_run(Job::Scheduled(id)));
    scheduling::cancel(&database, &world, ("", &id.encode()), writer("cancel")).unwrap();
    running.end_run(Job::Scheduled(id));
    assert!(database.commit(running, EPOCH, writer("run")).is_err());
    assert_eq!(state(&database, id), Some(JobState::Canceled));
    // What has ended stays as it is.
    scheduling::end(&database, &world, Job::Scheduled(id), &JobState::Success);
    assert_eq!(state(&database, id), Some(JobState::Canceled));
    assert!(scheduling::begin(&database, &world, Job::Scheduled(id)).is_none());
    let before = database.snapshot().ts;
    scheduling::cancel(&database, &world, ("", &id.encode()), writer("cancel")).unwrap();
    assert_eq!(database.snapshot().ts, before, "nothing was written");
}

#[test]
fn a_canceled_action_goes_on_but_what_it_schedules_does_not() {
    let (database, world) = (ready(), clock());
    let parent = schedule(&database, 0.0);
    assert!(scheduling::begin(&database, &world, Job::Scheduled(parent)).is_some());
    let child = || NewJob { by: Some(Job::Scheduled(parent)), ..job(0.0) };
    let before = scheduling::schedule(&database, &world, child(), writer("action")).unwrap();
    scheduling::cancel(&database, &world, ("", &parent.encode()), writer("cancel")).unwrap();
    let after = scheduling::schedule(&database, &world, child(), writer("action")).unwrap();
    assert_eq!(state(&database, before), Some(JobState::Pending));
    assert_eq!(state(&database, after), Some(JobState::Canceled));
    assert_eq!(waiting(&database), [before]);
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let database = ready();
    let mut transaction = begin(&database, 1);
    let mut text = |job| transaction.schedule(job).unwrap_err().message;
    let at = |path: &str| NewJob { path: FunctionPath::parse(path).unwrap(), ..job(0.0) };
    assert_eq!(text(at("no:fn")), "Attempted to schedule function at nonexistent path: no:fn");
    assert_eq!(
        text(at("jobs:fly")),
        "Attempted to schedule function, but no exported function fly found in the file: \
         jobs.js. Did you forget to export it?"
    );
    assert!(text(job(f64::NAN)).contains("not a number"));
    let years = limits::SCHEDULE_DAYS as f64 * 86_400e3 + 2e3;
    assert!(text(job(years)).contains("more than five years from now"));
    assert!(text(job(-years)).contains("more than five years from now"));
    let ours = transaction.schedule(job(0.0)).unwrap();
    let other = transaction.insert("", "a", value("{}")).unwrap().encode();
    let mut text = |id: &str, own| transaction.cancel_job("", id, own).unwrap_err().message;
    let own = Some(Job::Scheduled(ours));
    assert_eq!(text(&ours.encode(), own), "A mutation cannot cancel itself");
    assert!(text("x", None).contains("not a document ID"));
    assert!(text(&other, None).contains(r#"got Id<"a">"#));
    let query = database.begin(database.snapshot(), &given(2), true).schedule(job(0.0));
    assert!(query.unwrap_err().message.contains("only mutations can write"));
}

#[test]
fn a_mutation_schedules_no_more_than_its_limits() {
    let database = ready();
    let mut transaction = begin(&database, 1);
    for _ in 0..limits::FUNCTIONS_SCHEDULED {
        transaction.schedule(job(0.0)).unwrap();
    }
    let text = transaction.schedule(job(0.0)).unwrap_err().message;
    assert_eq!(text, "Too many functions scheduled by this mutation (limit: 1000)");
    let mut transaction = begin(&database, 2);
    let path = FunctionPath::parse("jobs:run").unwrap();
    let third = "x".repeat(limits::SCHEDULED_BYTES as usize / 3);
    let args = Arguments::parse(&path, &format!(r#"{{"x":"{third}"}}"#)).unwrap();
    let large = || NewJob { args: args.clone(), ..job(0.0) };
    transaction.schedule(large()).unwrap();
    transaction.schedule(large()).unwrap();
    assert_eq!(transaction.metrics().functions_scheduled.used, 2);
    let error = transaction.schedule(large()).unwrap_err();
    assert_eq!(error.code, "ScheduledFunctionsArgumentsTooLarge");
}

#[test]
fn actions_that_an_earlier_scheduler_began_have_failed() {
    let (database, world) = (ready(), clock());
    let (lost, waits) = (schedule(&database, 0.0), schedule(&database, 1.0));
    assert!(scheduling::begin(&database, &world, Job::Scheduled(lost)).is_some());
    assert_eq!(scheduling::recover(&database, &world), 1);
    let failed = JobState::Failed("Transient error while executing action".into());
    assert_eq!(state(&database, lost), Some(failed));
    assert_eq!(waiting(&database), [waits]);
    assert_eq!(scheduling::recover(&database, &world), 0);
}

#[test]
fn rows_go_a_week_after_their_end() {
    let (database, world) = (ready(), clock());
    let (ended, waits) = (schedule(&database, 0.0), schedule(&database, 1.0));
    scheduling::end(&database, &world, Job::Scheduled(ended), &JobState::Failed("x".into()));
    let week = limits::SCHEDULED_KEPT_MS * 1_000_000;
    world.0.store(EPOCH + week - 1_000, Ordering::Relaxed);
    assert_eq!(scheduling::collect_garbage(&database, &world), 0);
    world.0.store(EPOCH + week + 1_000_000, Ordering::Relaxed);
    assert_eq!(scheduling::collect_garbage(&database, &world), 1);
    assert_eq!((state(&database, ended), waiting(&database)), (None, vec![waits]));
}

#[test]
fn functions_see_neither_the_order_of_work_nor_cron_jobs() {
    let database = database();
    let spec = r#"{"tick":{"name":"jobs:run","args":[{}],"schedule":{"type":"interval"}}}"#;
    database.activate(with_jobs(spec), EPOCH).unwrap();
    let cron = crons::jobs(&database.snapshot()).next().unwrap().unwrap();
    let mut transaction = begin(&database, 1);
    let order = index_query("_scheduled_functions._order", "", "asc", "");
    let error = transaction.open_query("", &order).unwrap_err();
    assert_eq!(error.message, "Index _scheduled_functions._order not found.");
    assert_eq!(collect(&mut transaction, &full_scan("_cron_jobs")).unwrap().len(), 0);
    let id = cron.id.encode();
    let get = GetArgs { id: &id, table: None, is_system: true };
    assert!(transaction.get("", get).unwrap().is_none());
    assert_eq!(transaction.normalize_id("", "_cron_jobs", &id), None);
    transaction.show_hidden();
    assert_eq!(collect(&mut transaction, &full_scan("_cron_jobs")).unwrap().len(), 1);
}

#[test]
fn a_push_changes_the_rows_of_the_crons_it_changed() {
    let (database, world) = (database(), clock());
    let cron = |minute: u32, n: u32| {
        format!(
            r#"{{"name":"jobs:run","args":[{{"n":{n}}}],
                "schedule":{{"type":"hourly","minuteUTC":{minute}}}}}"#
        )
    };
    let push = |crons: &str| database.activate(with_jobs(crons), EPOCH).unwrap();
    push(&format!(r#"{{"same":{0},"moved":{0},"gone":{0},"argued":{0}}}"#, cron(1, 1)));
    let rows = || -> Vec<_> {
        let mut rows: Vec<_> = crons::jobs(&database.snapshot()).map(Result::unwrap).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    };
    for row in rows() {
        assert_eq!(row.next, None, "the scheduler has not looked yet");
        crons::set_next(&database, &world, row.id, (None, EPOCH + 7));
    }
    let ids: Vec<_> = rows().iter().map(|row| row.id).collect();
    push(&format!(
        r#"{{"same":{},"moved":{},"argued":{},"new":{}}}"#,
        cron(1, 1),
        cron(2, 1),
        cron(1, 2),
        cron(1, 1)
    ));
    let rows = rows();
    let shown: Vec<_> = rows.iter().map(|row| (&*row.name, row.next.is_some())).collect();
    assert_eq!(shown, [("argued", true), ("moved", false), ("new", false), ("same", true)]);
    assert_eq!(&*rows[0].args.json, r#"[{"n":2}]"#);
    assert_eq!([rows[0].id, rows[1].id, rows[3].id], [ids[0], ids[2], ids[3]]);
}

#[test]
fn an_occurrence_is_taken_once() {
    let (database, world) = (database(), clock());
    let spec = r#"{"tick":{"name":"jobs:run","args":[{}],"schedule":{"type":"interval"}}}"#;
    database.activate(with_jobs(spec), EPOCH).unwrap();
    let row = || crons::jobs(&database.snapshot()).next().unwrap().unwrap();
    crons::set_next(&database, &world, row().id, (None, EPOCH));
    let run = CronRun { id: row().id, due: EPOCH, next: EPOCH + 1_000_000 };
    let attempt = |call| {
        let mut transaction = begin(&database, call);
        assert!(transaction.begin_run(Job::Cron(run)));
        transaction.end_run(Job::Cron(run));
        transaction
    };
    let (one, other) = (attempt(1), attempt(2));
    database.commit(one, EPOCH, writer("one")).unwrap();
    assert!(database.commit(other, EPOCH, writer("other")).is_err());
    assert_eq!((row().previous, row().next), (Some(run.due), Some(run.next)));
    assert!(scheduling::begin(&database, &world, Job::Cron(run)).is_none());
    // An action that was lost with its process.
    let run = CronRun { due: run.next, next: run.next + 1_000_000, ..run };
    assert!(scheduling::begin(&database, &world, Job::Cron(run)).is_some());
    assert!(row().in_progress);
    assert_eq!(crons::recover(&database, &world), 1);
    assert_eq!((row().in_progress, row().next), (false, Some(run.next)));
}
