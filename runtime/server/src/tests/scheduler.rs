//! The scheduler without a thread of its own: stepped by hand, on a clock that only the test moves.
//!
//! In: rows, a fake whose answers wait. Out: which calls were started, in which order, and the rows
//! after them.

use database::crons;
use database::id::DocumentId;
use database::limits;
use database::record::{Arguments, Caller, FunctionPath, Identity, Job};
use database::scheduling::{self, JobState, NewJob};

use super::*;
use crate::host::Host;
use crate::scheduler::Scheduler;

const SECOND: u64 = 1_000_000_000;

/// A scheduler, and what it drives.
struct Desk {
    scheduler: Scheduler,
    host: Arc<Host>,
    fake: Arc<Fake>,
    events: Arc<Mutex<Vec<Event>>>,
    /// Paths and arguments of the calls that were started.
    started: Arc<Mutex<Vec<(Call, String)>>>,
}

/// A desk with the mutation `jobs:tick`, the action `jobs:fly`, the query `jobs:list`, and these
/// cron jobs. A mutation that the fake answers well has committed its own end, as a real one has.
fn desk(crons: &str, answer: impl Fn(&Call) -> Answered + Send + Sync + 'static) -> Desk {
    let started: Arc<Mutex<Vec<(Call, String)>>> = Arc::default();
    let told = started.clone();
    let (server, fake, events) = server(
        false,
        Box::new(move |call| {
            let args = call.args.json.to_string();
            told.lock().unwrap().push((call.clone(), args));
            answer(call)
        }),
    );
    *fake.held.lock().unwrap() = Some(Vec::new());
    let host = Arc::new(Host::new(server));
    let desk = Desk { scheduler: Scheduler::new(Arc::clone(&host)), host, fake, events, started };
    desk.push(crons);
    desk
}

fn fine(_: &Call) -> Answered {
    Ok(Ok("null".into()))
}

impl Desk {
    fn push(&self, crons: &str) {
        let module = |path: &str, source: String| {
            let environment = database::deployment::Environment::Isolate;
            let (path, source): (Arc<str>, Arc<str>) = (path.into(), source.into());
            let module = database::deployment::Module {
                path: path.clone(),
                source,
                source_map: None,
                environment,
            };
            (path, module)
        };
        let modules =
            [module("jobs.js", "mutation".into()), module("crons.js", format!("cronJobs {crons}"))];
        let bundle = Arc::new(Bundle { modules: modules.into(), ..Bundle::default() });
        let analysis = self.fake.analyze(bundle.clone()).unwrap();
        self.fake.activate(bundle, analysis).unwrap();
    }

    /// Schedules `function` with the argument `{n}`, so many seconds from now.
    fn schedule(&self, function: &str, n: u32, seconds: f64) -> DocumentId {
        let path = FunctionPath::parse(function).unwrap();
        let args = Arguments::parse(&path, &format!("{{\"n\":{n}}}")).unwrap();
        let at = self.fake.world.now() as f64 / 1e9 + seconds;
        let job = NewJob { from: "".into(), path, args, at, by: None };
        let writer = database::commit::Writer::new("test", "1");
        scheduling::schedule(&self.host.database, &*self.fake.world, job, writer).unwrap()
    }

    fn state(&self, id: DocumentId) -> JobState {
        let snapshot = self.host.database.snapshot();
        let mut look = self.host.database.begin(snapshot, &Given::default(), true);
        look.job_state(id).unwrap()
    }

    /// The numbers with which calls were started.
    fn numbers(&self) -> Vec<u32> {
        let number = |args: &str| {
            let args: Value = serde_json::from_str(args).unwrap();
            args[0]["n"].as_f64().map_or(0, |n| n as u32)
        };
        self.started.lock().unwrap().iter().map(|(_, args)| number(args)).collect()
    }

    fn advance(&self, nanoseconds: u64) {
        self.fake.world.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Lets the first `count` calls that wait come to their end, then steps.
    fn finish(&mut self, count: usize) {
        let ends: Vec<_> =
            self.fake.held.lock().unwrap().as_mut().unwrap().drain(..count).collect();
        let calls: Vec<_> = {
            let started = self.started.lock().unwrap();
            let ended = started.len() - self.scheduler.running();
            started[ended..ended + count].iter().map(|(call, _)| call.clone()).collect()
        };
        for ((reply, outcome), call) in ends.into_iter().zip(calls) {
            if call.expect == database::record::Expect::Kind(FunctionKind::Mutation)
                && outcome.result.is_ok()
            {
                let job = call.own_job().unwrap();
                let given = Given { now: self.fake.world.now(), ..Given::default() };
                let database = &self.host.database;
                let mut transaction = database.begin(database.snapshot(), &given, false);
                assert!(transaction.begin_run(job), "it waits to be run");
                transaction.end_run(job);
                let writer = database::commit::Writer::new("job", "1");
                database.commit(transaction, given.now, writer).unwrap();
            }
            reply(Ok(outcome));
        }
        self.scheduler.step();
    }

    fn cron(&self) -> crons::CronJob {
        crons::jobs(&self.host.database.snapshot()).next().unwrap().unwrap()
    }
}

#[test]
fn due_mutations_run_in_order_and_eight_at_a_time() {
    let mut desk = desk("{}", fine);
    let rows: Vec<_> = (1..=20).map(|n| desk.schedule("jobs:tick", n, -f64::from(n))).collect();
    let later = desk.schedule("jobs:tick", 99, 60.0);
    let wake = desk.scheduler.step().unwrap();
    assert_eq!(desk.scheduler.running() as u64, limits::SCHEDULED_MUTATIONS);
    assert_eq!(desk.numbers(), (13..=20).rev().collect::<Vec<_>>());
    let call = desk.started.lock().unwrap()[0].0.clone();
    assert_eq!((call.caller, call.job), (Caller::Scheduler, Some(Job::Scheduled(rows[19]))));
    assert_eq!(call.identity, Identity::System);
    assert!(wake > desk.fake.world.now(), "nothing is worth a look before something ends");
    desk.finish(2);
    assert_eq!(desk.scheduler.running() as u64, limits::SCHEDULED_MUTATIONS);
    for left in [8, 8, 2] {
        desk.finish(left);
    }
    assert_eq!(desk.numbers(), (1..=20).rev().collect::<Vec<_>>());
    assert!(rows.iter().all(|row| desk.state(*row) == JobState::Success));
    assert_eq!(desk.state(later), JobState::Pending);
    desk.advance(61 * SECOND);
    desk.scheduler.step();
    assert_eq!(desk.numbers().last(), Some(&99));
}

#[test]
fn it_is_told_of_what_changes_before_the_next_due_row_and_of_nothing_else() {
    let mut desk = desk("{}", fine);
    desk.schedule("jobs:tick", 1, 60.0);
    let wake = desk.scheduler.step().unwrap();
    let due = desk.fake.world.now() + 60 * SECOND;
    assert!(wake.abs_diff(due) < SECOND, "{wake} for {due}");
    desk.schedule("jobs:tick", 2, 120.0);
    assert!(!desk.scheduler.has_mail(), "it need not know of what is due later");
    desk.schedule("jobs:tick", 3, 30.0);
    assert!(desk.scheduler.has_mail());
    desk.scheduler.step();
    desk.push("{}");
    assert!(!desk.scheduler.has_mail(), "no row of a cron job has changed");
    desk.push(r#"{"tick":{"name":"jobs:tick","args":[{}],"schedule":{"type":"hourly"}}}"#);
    assert!(desk.scheduler.has_mail());
}

#[test]
fn an_action_is_in_progress_before_it_runs_and_runs_at_most_once() {
    let mut desk = desk("{}", fine);
    let (done, lost) = (desk.schedule("jobs:fly", 1, 0.0), desk.schedule("jobs:fly", 2, 0.0));
    desk.advance(SECOND);
    desk.scheduler.step();
    assert_eq!(desk.state(lost), JobState::InProgress);
    desk.finish(1);
    assert_eq!(desk.state(done), JobState::Success);
    // The process ends; another one finds the row.
    let next = Scheduler::new(Arc::clone(&desk.host));
    let failed = JobState::Failed("Transient error while executing action".into());
    assert_eq!(desk.state(lost), failed);
    drop(std::mem::replace(&mut desk.scheduler, next));
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [1, 2], "it is not run again");
}

#[test]
fn actions_that_wait_for_room_do_not_hold_up_mutations() {
    let mut desk = desk("{}", fine);
    let most = u32::try_from(limits::SCHEDULED_ACTIONS).unwrap();
    for n in 0..most + 30 {
        desk.schedule("jobs:fly", n, 0.0);
    }
    let mutation = desk.schedule("jobs:tick", 9_999, 1.0);
    desk.advance(2 * SECOND);
    desk.scheduler.step();
    let expected: Vec<_> = (0..most).chain([9_999]).collect();
    assert_eq!(desk.numbers(), expected);
    desk.scheduler.step();
    assert_eq!(desk.scheduler.running() as u64, limits::SCHEDULED_ACTIONS + 1);
    desk.finish(1);
    assert_eq!(desk.numbers().last(), Some(&most), "the next in order");
    assert_eq!(desk.state(mutation), JobState::Pending);
}

#[test]
fn a_mutation_that_was_under_way_when_the_process_ended_runs_again() {
    let mut desk = desk("{}", fine);
    let row = desk.schedule("jobs:tick", 1, 0.0);
    desk.advance(SECOND);
    desk.scheduler.step();
    desk.fake.held.lock().unwrap().as_mut().unwrap().clear();
    desk.scheduler = Scheduler::new(Arc::clone(&desk.host));
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [1, 1]);
    desk.finish(1);
    assert_eq!(desk.state(row), JobState::Success);
}

#[test]
fn a_canceled_action_stays_canceled_when_it_ends() {
    let mut desk = desk("{}", fine);
    let row = desk.schedule("jobs:fly", 1, 0.0);
    desk.advance(SECOND);
    desk.scheduler.step();
    let writer = database::commit::Writer::new("test", "2");
    scheduling::cancel(&desk.host.database, &*desk.fake.world, ("", &row.encode()), writer)
        .unwrap();
    desk.finish(1);
    assert_eq!(desk.state(row), JobState::Canceled);
}

#[test]
fn what_cannot_be_run_fails_and_says_why() {
    let thrown = || FunctionError { message: "Uncaught Error: no".into(), data: None };
    let mut desk = desk("{}", move |_| Ok(Err(thrown())));
    let throws = desk.schedule("jobs:tick", 1, 0.0);
    let query = desk.schedule("jobs:list", 2, 0.0);
    let gone = desk.schedule("crons:tick", 3, 0.0);
    let without = desk.fake.analyze(Arc::new(Bundle::default())).unwrap();
    let mut analysis = Analysis::clone(&without);
    analysis.modules.insert("jobs.js".into(), analyzed_module("mutation"));
    desk.fake.activate(Arc::default(), Arc::new(analysis)).unwrap();
    desk.advance(SECOND);
    desk.scheduler.step();
    desk.finish(1);
    let why = |row| match desk.state(row) {
        JobState::Failed(why) => why,
        state => panic!("{state:?}"),
    };
    assert_eq!(why(throws), "Uncaught Error: no");
    assert!(why(query).starts_with("Unsupported function type: jobs:list is a query"));
    assert!(why(gone).starts_with("Could not find function for 'crons:tick'."));
    assert_eq!(desk.numbers(), [1]);
}

#[test]
fn what_the_host_could_not_run_is_tried_again_later_and_later() {
    let broken = || Refusal::Broken("a bug".into());
    let mut desk = desk("{}", move |_| Err(broken()));
    let row = desk.schedule("jobs:tick", 1, 0.0);
    desk.advance(SECOND);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        desk.scheduler.step();
        let wake = desk.scheduler.step().unwrap();
        let pause = wake - desk.fake.world.now();
        pauses.push(pause.div_ceil(SECOND / 2));
        desk.advance(pause + 1);
    }
    assert_eq!(pauses, [1, 2, 4, 8], "half seconds");
    assert_eq!(desk.numbers().len(), 4);
    assert_eq!(desk.state(row), JobState::Pending);
}

#[test]
fn an_interval_begins_at_the_push_and_runs_one_at_a_time() {
    let spec = r#"{"tick":{"name":"jobs:fly","args":[{"n":7}],
        "schedule":{"type":"interval","seconds":60}}}"#;
    let mut desk = desk(spec, fine);
    desk.scheduler.step();
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [7]);
    assert_eq!(desk.started.lock().unwrap()[0].0.caller, Caller::Cron);
    let first = desk.cron();
    assert!(first.in_progress);
    assert_eq!(first.next, first.previous.map(|at| at + 60 * SECOND));
    desk.advance(200 * SECOND);
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [7], "the first one still runs");
    desk.finish(1);
    let after = desk.cron();
    assert!(!after.in_progress && desk.numbers() == [7]);
    assert_eq!(after.next, first.previous.map(|at| at + 240 * SECOND));
    let lines = match &desk.events.lock().unwrap()[..] {
        [Event::Call(call)] => call.log_lines.clone(),
        events => panic!("{events:?}"),
    };
    assert_eq!(
        lines[0].client_text(),
        "[WARN] Skipping 3 run(s) of job tick because multiple scheduled runs are in the past"
    );
    desk.advance(41 * SECOND);
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [7, 7]);
}

#[test]
fn runs_that_were_missed_while_nothing_ran_are_one_run() {
    let spec = r#"{"tick":{"name":"jobs:tick","args":[{"n":1}],
        "schedule":{"type":"cron","cron":"0 * * * *"}}}"#;
    let mut desk = desk(spec, fine);
    desk.scheduler.step();
    let due = desk.cron().next.unwrap();
    assert_eq!(due % (3600 * SECOND), 0);
    desk.advance(5 * 3600 * SECOND);
    desk.scheduler.step();
    desk.finish(1);
    assert_eq!(desk.numbers(), [1]);
    let cron = desk.cron();
    assert_eq!((cron.previous, cron.next), (Some(due), Some(due + 5 * 3600 * SECOND)));
}

#[test]
fn a_cron_job_that_fails_goes_on() {
    let spec = r#"{"tick":{"name":"jobs:tick","args":[{"n":1}],
        "schedule":{"type":"interval","seconds":1}}}"#;
    let thrown = || FunctionError { message: "Uncaught Error: no".into(), data: None };
    let mut desk = desk(spec, move |_| Ok(Err(thrown())));
    for _ in 0..3 {
        desk.scheduler.step();
        desk.finish(1);
        desk.advance(SECOND);
    }
    assert_eq!(desk.numbers(), [1, 1, 1]);
}

#[tokio::test]
async fn a_push_with_a_cron_job_that_cannot_run_is_refused() {
    let bench = echo();
    let refused = async |specs: &str| {
        let source = format!("cronJobs {specs}");
        let pushed = push::push(&[("a.js", "mutation"), ("crons.js", &source)]);
        let got = bench.admin("/api/deploy2/start_push", pushed).await;
        assert_eq!(got.status, 400, "{}", got.body);
        got.json()["message"].as_str().unwrap().to_owned()
    };
    let spec = |name: &str, cron: &str| {
        format!(
            r#"{{"nightly":{{"name":"{name}","args":[{{}}],
                "schedule":{{"type":"cron","cron":"{cron}"}}}}}}"#
        )
    };
    let typo = refused(&spec("a:tick", "0 25 * * *")).await;
    assert!(typo.contains("\"nightly\"") && typo.contains("at character 3"), "{typo}");
    let missing = refused(&spec("a:tack", "0 5 * * *")).await;
    let text = "The cron job 'nightly' schedules a function that does not exist: a:tack";
    assert!(missing.ends_with(text), "{missing}");
    assert!(refused(&spec("a:list", "0 5 * * *")).await.contains("schedules the query a:list"));
}

#[test]
fn nothing_is_started_while_memory_is_short() {
    use database::memory::Pressure;
    let mut desk = desk("{}", fine);
    let row = desk.schedule("jobs:fly", 1, -1.0);
    desk.host.database.press(Pressure::Full("no room".to_owned()));
    let wake = desk.scheduler.step().unwrap();
    assert!(desk.numbers().is_empty());
    assert_eq!(desk.state(row), JobState::Pending);
    desk.host.database.press(Pressure::Calm);
    desk.advance(wake.saturating_sub(desk.fake.world.now()));
    desk.scheduler.step();
    assert_eq!(desk.numbers(), [1]);
}

#[test]
#[ignore = "it ends its process: the test below runs it"]
fn a_scheduler_that_panics() {
    let desk = desk("{}", |_| panic!("a bug in what it calls"));
    desk.schedule("jobs:tick", 1, 0.0);
    let _thread = crate::scheduler::Thread::start(&desk.host).unwrap();
    outlive();
}

#[test]
fn a_host_does_not_go_on_without_its_scheduler() {
    let (status, said) = run_alone("tests::scheduler::a_scheduler_that_panics");
    assert!(!status.success(), "{said}");
    assert!(said.contains("The host ends, because a part"), "{said}");
    assert!(said.contains(r#"scheduler panicked with "a bug in what it calls""#), "{said}");
}
