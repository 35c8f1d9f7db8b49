//! What live queries and repeated mutations stand on, with real functions: equal questions run
//! once, and a request commits once.
//!
//! In: many equal calls side by side, while others commit. Out: how often JavaScript ran, and what
//! was written. Invariant: whoever did not run got the answer of its own snapshot.

use std::sync::Arc;

use database::record::{Call, Caller, Expect, FunctionKind, Identity, RequestKey};

use crate::deployed::Deployed;

const REGISTER: &str = r#"
import { query, mutation } from "./abi.js";
const slow = () => { for (let i = 0, n = 0; i < 3e6; i += 1) n += i; };
export const all = query(async (db) => { slow(); return (await db.table("log")).length; });
export const quiet = query(async (db) => { slow(); return (await db.table("other")).length; });
export const append = mutation(async (db, { n }) => {
    await db.insert("log", { n });
    return Math.random();
});
export const nothing = mutation(async (db) => (await db.table("log")).length);
"#;

fn register() -> Deployed {
    let deployed = Deployed::on_threads(2);
    deployed.push(&[("register", REGISTER)]).unwrap();
    deployed
}

fn ask(deployed: &Deployed, path: &str) -> Call {
    let at = Some(deployed.database.snapshot().ts);
    let expect = Expect::Kind(FunctionKind::Query);
    Call { at, expect, caller: Caller::SyncWorker, ..deployed.make(path, "{}") }
}

#[test]
fn equal_queries_of_different_snapshots_run_once_where_nothing_was_written() {
    let deployed = register();
    deployed.value("register:append", r#"{"n":0}"#);
    let mut answers = Vec::new();
    for n in 1..=20 {
        answers.push(deployed.start(ask(&deployed, "register:quiet")));
        deployed.value("register:append", &format!(r#"{{"n":{n}}}"#));
    }
    let outcomes: Vec<_> = answers.into_iter().map(|a| a.recv().unwrap().unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| outcome.result == Ok("0".into())));
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.cached).count(), 1);
    let same =
        |outcome: &database::record::Outcome| Arc::ptr_eq(&outcome.reads, &outcomes[0].reads);
    assert!(outcomes.iter().all(same), "one result for all, so one subscription");
}

#[test]
fn whoever_asks_at_a_snapshot_gets_what_was_there() {
    let deployed = register();
    let mut answers = Vec::new();
    for n in 0..30u32 {
        for _ in 0..3 {
            answers.push((n, deployed.start(ask(&deployed, "register:all"))));
        }
        deployed.value("register:append", &format!(r#"{{"n":{n}}}"#));
    }
    let mut runs = 0;
    for (there, answer) in answers {
        let outcome = answer.recv().unwrap().unwrap();
        assert_eq!(outcome.result, Ok(there.to_string().into()));
        runs += usize::from(!outcome.cached);
    }
    assert!((2..=60).contains(&runs), "{runs} runs of 90 questions at 30 snapshots");
}

fn deliver(deployed: &Deployed, path: &str, request: u32) -> Call {
    let once = Some(RequestKey { session: [5; 16], request });
    let expect = Expect::Kind(FunctionKind::Mutation);
    Call { once, expect, identity: Identity::Anonymous, ..deployed.make(path, r#"{"n":1}"#) }
}

#[test]
fn a_request_that_arrives_many_times_commits_once() {
    let deployed = register();
    let start = |request| deployed.start(deliver(&deployed, "register:append", request));
    let answers: Vec<_> = (0..40).map(|n| (n % 4, start(n % 4))).collect();
    let mut told = vec![Vec::new(); 4];
    for (request, answer) in answers {
        let outcome = answer.recv().unwrap().unwrap();
        told[request as usize].push((outcome.result.unwrap(), outcome.ts));
    }
    for answers in told {
        assert!(answers.iter().all(|answer| *answer == answers[0]), "the same answer: {answers:?}");
    }
    assert_eq!(deployed.value("register:all", "{}"), "4");
    let again = start(2).recv().unwrap().unwrap();
    assert!(again.cached && again.kind == FunctionKind::Mutation);
}

#[test]
fn a_request_that_writes_nothing_runs_again() {
    let deployed = register();
    let call = || deliver(&deployed, "register:nothing", 9);
    assert_eq!(deployed.start(call()).recv().unwrap().unwrap().result, Ok("0".into()));
    deployed.value("register:append", r#"{"n":1}"#);
    assert_eq!(deployed.start(call()).recv().unwrap().unwrap().result, Ok("1".into()));
}
