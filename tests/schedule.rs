//! Jobs in real isolates: exactly once whatever conflicts, and never before those who wait.
//!
//! In: functions in plain JavaScript, rows of `_scheduled_functions`, calls as the scheduler makes
//! them. Out: effects, states and the order of commits. Invariant: an order is forced by what runs,
//! never hoped for from how long it takes.

use std::sync::Arc;
use std::time::Duration;

use database::commit::Writer;
use database::error::{Refusal, UserError};
use database::id::DocumentId;
use database::record::{
    Arguments, Call, Caller, Expect, FunctionKind, FunctionPath, Given, Identity, Job, Outcome,
    World as _,
};
use database::scheduling::{self, JobState, NewJob};

use crate::deployed::{Answer, Deployed};
use concave::world::SeededWorld;

const JOBS: &str = r#"
import { db, mutation, query } from "./abi.js";
export const add = mutation(async (db, { to }) => {
    const found = await db.get(to);
    await db.patch(to, { count: found.count + 1 });
});
export const start = mutation((db) => db.insert("counters", { count: 0 }));
export const read = query(async (db, { id }) => (await db.get(id)).count);
export const mark = mutation((db, { name }) => db.insert("marks", { name }));
"#;

struct Shop {
    deployed: Deployed,
    world: SeededWorld,
}

impl Shop {
    fn on_threads(threads: usize) -> Self {
        let deployed = Deployed::on_threads(threads);
        deployed.push(&[("jobs", JOBS)]).unwrap();
        Self { deployed, world: SeededWorld::new(9) }
    }

    fn schedule(&self, path: &str, args: &str) -> DocumentId {
        let path = FunctionPath::parse(path).unwrap();
        let args = Arguments::parse(&path, args).unwrap();
        let job =
            NewJob { from: "".into(), path, args, at: self.world.now() as f64 / 1e9, by: None };
        let writer = Writer::new("test", "1");
        scheduling::schedule(&self.deployed.database, &self.world, job, writer).unwrap()
    }

    /// Runs a row as the scheduler does.
    fn start(&self, id: DocumentId) -> Answer {
        let snapshot = self.deployed.database.snapshot();
        let row = scheduling::pending(&snapshot).find(|row| row.id() == id).unwrap();
        let job = row.job().unwrap();
        let expect = Expect::Kind(FunctionKind::Mutation);
        let (caller, identity) = (Caller::Scheduler, Identity::System);
        let call = self.deployed.make("jobs:add", "{}");
        let job_of = Some(Job::Scheduled(id));
        let (path, args) = (job.path, job.args);
        self.deployed.start(Call { path, args, expect, caller, identity, job: job_of, ..call })
    }

    fn state(&self, id: DocumentId) -> JobState {
        let database = &self.deployed.database;
        let mut look = database.begin(database.snapshot(), &Given::default(), true);
        look.job_state(id).unwrap()
    }
}

fn committed(answer: Answer) -> Outcome {
    let outcome = answer.recv().unwrap().unwrap();
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    outcome
}

#[test]
fn contended_jobs_add_up_and_each_runs_once() {
    let shop = Shop::on_threads(3);
    let id = shop.deployed.value("jobs:start", "{}");
    let args = format!("{{\"to\":{id}}}");
    let rows: Vec<_> = (0..60).map(|_| shop.schedule("jobs:add", &args)).collect();
    // Each row twice at once, as if two schedulers had found it, between calls of clients. Nothing
    // commits while this turn is held, so that the second one finds the row pending too.
    let turn = shop.deployed.database.turn();
    let calls: Vec<_> = (rows.iter())
        .map(|row| {
            let client = shop.deployed.start(shop.deployed.make("jobs:add", &args));
            (shop.start(*row), shop.start(*row), client)
        })
        .collect();
    drop(turn);
    let mut retried = 0;
    for (one, other, client) in calls {
        retried += committed(client).retries.len();
        let ends = [one.recv().unwrap(), other.recv().unwrap()];
        let refused = |end: &Result<Outcome, Refusal>| {
            matches!(end, Err(Refusal::Bad(UserError { code: "JobNotPending", .. })))
        };
        assert_eq!(ends.iter().filter(|end| refused(end)).count(), 1, "{ends:?}");
        retried += ends.iter().flatten().map(|outcome| outcome.retries.len()).sum::<usize>();
    }
    assert!(retried > 0, "nothing conflicted, so nothing was shown");
    let count = shop.deployed.value("jobs:read", &format!("{{\"id\":{id}}}"));
    assert_eq!(count.parse::<f64>().unwrap(), 120.0);
    assert!(rows.iter().all(|row| shop.state(*row) == JobState::Success));
}

#[test]
fn a_job_that_was_canceled_in_its_queue_does_not_run() {
    let shop = Shop::on_threads(1);
    let row = shop.schedule("jobs:mark", r#"{"name":"never"}"#);
    // Whoever wants to commit waits for this turn, and keeps the thread meanwhile.
    let turn = shop.deployed.database.turn();
    let busy = shop.deployed.start(shop.deployed.make("jobs:mark", r#"{"name":"busy"}"#));
    let queued = shop.start(row);
    let mut transaction = turn.begin(&Given { seed: [5; 32], ..Given::default() }, false);
    transaction.cancel_job("", &row.encode(), None).unwrap();
    turn.commit(transaction, 0, Writer::new("test", "1")).unwrap();
    drop(turn);
    committed(busy);
    assert!(matches!(queued.recv().unwrap(), Err(Refusal::Bad(_))));
    assert_eq!(shop.state(row), JobState::Canceled);
}

#[test]
fn who_waits_for_an_answer_goes_before_the_jobs_that_were_queued_earlier() {
    let shop = Shop::on_threads(1);
    let rows: Vec<_> =
        (0..50).map(|n| shop.schedule("jobs:mark", &format!("{{\"name\":\"{n}\"}}"))).collect();
    let turn = shop.deployed.database.turn();
    let jobs: Vec<_> = rows.iter().map(|row| shop.start(*row)).collect();
    let client = shop.deployed.start(shop.deployed.make("jobs:mark", r#"{"name":"client"}"#));
    drop(turn);
    let client = committed(client).ts;
    // One had begun before the client was there.
    let before = jobs.into_iter().map(committed).filter(|job| job.ts < client).count();
    assert!(before <= 1, "{before} jobs ran before the call of a client");
}

#[test]
fn one_thread_is_left_to_those_who_wait() {
    let shop = Shop::on_threads(2);
    let counter = shop.deployed.value("jobs:start", "{}");
    let rows: Vec<_> = (0..4).map(|_| shop.schedule("jobs:mark", r#"{"name":"job"}"#)).collect();
    // Whoever wants to commit waits for this turn, and keeps the thread meanwhile.
    let turn = shop.deployed.database.turn();
    let jobs: Vec<_> = rows.iter().map(|row| shop.start(*row)).collect();
    // Time for as many of them to take a thread as may; with less of it, this shows less.
    std::thread::sleep(Duration::from_millis(200));
    // With every thread held by a job this would wait for ever.
    let count = shop.deployed.value("jobs:read", &format!("{{\"id\":{counter}}}"));
    assert_eq!(count.parse::<f64>().unwrap(), 0.0);
    drop(turn);
    jobs.into_iter().for_each(|job| drop(committed(job)));
}

#[test]
fn a_job_runs_again_as_it_ran() {
    let shop = Shop::on_threads(1);
    let row = shop.schedule("jobs:mark", r#"{"name":"once"}"#);
    let first = committed(shop.start(row));
    let entry = shop.deployed.database.history().entries.into_iter().next().unwrap();
    let record = Arc::clone(entry.writer.record.as_ref().unwrap());
    let again = shop.deployed.host.rerun(&record.call().unwrap(), &record.given).unwrap();
    assert_eq!(again.writes_digest, first.writes_digest);
    assert_eq!(again.reads, first.reads);
}
