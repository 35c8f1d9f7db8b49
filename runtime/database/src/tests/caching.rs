//! The query cache against fresh executions: what it answers is what a run would give.
//!
//! In: random questions at random snapshots between random commits. Out: equal texts, bounded
//! memory, and no subscription left behind.

use proptest::prelude::*;

use super::*;
use crate::cache::{Asker, CacheKey};
use crate::record::{FunctionPath, Observed, Outcome};
use crate::snapshot::Snapshot;

fn run(database: &Database, snapshot: Arc<Snapshot>, low: u8, high: u8) -> Outcome {
    let given = Given { snapshot: snapshot.ts, ..given(1) };
    let mut reader = database.begin(snapshot, &given, true);
    let range = [bound("Gte", "x", &low.to_string()), bound("Lt", "x", &high.to_string())];
    let query = index_query("a.by_x", &range.join(","), "asc", "");
    let found = collect(&mut reader, &query);
    let texts = found.map(|found| found.iter().map(|d| d.json().to_owned()).collect::<Vec<_>>());
    Outcome {
        result: Ok(format!("{texts:?}").into()),
        reads: Arc::new(reader.reads().clone()),
        writes_digest: reader.writes_digest(),
        usage: reader.usage(),
        ..Outcome::of_nothing(given)
    }
}

fn key(args: &str) -> CacheKey {
    CacheKey {
        code: CodeVersion::default(),
        path: FunctionPath::parse("messages:list").unwrap(),
        args: args.into(),
        asker: Asker::Nobody,
        journal: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cached_is_fresh(
        steps in prop::collection::vec((any::<bool>(), 0u8..12, 0u8..12, 0usize..4), 1..80),
    ) {
        let database = deployed();
        let mut hits = 0;
        for (call, (write, low, high, age)) in steps.into_iter().enumerate() {
            if write {
                let document = value(&format!(r#"{{"x":{low}}}"#));
                mutate(&database, call as u64, |tx| tx.insert("", "a", document));
                continue;
            }
            let entries = database.history().entries;
            let old = entries.get(age).map(|entry| Arc::clone(&entry.snapshot));
            let snapshot = old.unwrap_or_else(|| database.snapshot());
            let question = key(&format!("[{low},{high}]"));
            let fresh = Arc::new(run(&database, Arc::clone(&snapshot), low, high));
            match database.cache().find(&question, snapshot.ts, EPOCH) {
                Some(found) => {
                    hits += 1;
                    prop_assert_eq!(&found.outcome.result, &fresh.result);
                }
                None => drop(database.cache().insert(question, &fresh)),
            }
            prop_assert_eq!(database.subscriptions().len(), database.cache().len());
        }
        prop_assert!(hits < 80);
    }
}

#[test]
fn a_result_holds_until_its_reads_are_written() {
    let database = deployed();
    let cache = database.cache();
    let find = || cache.find(&key("1"), database.snapshot().ts, EPOCH);
    assert!(cache.insert(key("1"), &Arc::new(run(&database, database.snapshot(), 3, 5))));
    assert!(find().is_some());
    mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":9}"#)));
    assert!(find().is_some(), "9 is not in [3, 5)");
    let before = database.snapshot();
    mutate(&database, 2, |tx| tx.insert("", "a", value(r#"{"x":4}"#)));
    assert!(find().is_none());
    assert!(cache.is_empty() && database.subscriptions().is_empty());
    let stale = Arc::new(run(&database, before, 3, 5));
    assert!(!cache.insert(key("1"), &stale), "computed before the write");
}

#[test]
fn a_result_is_not_handed_to_an_earlier_snapshot() {
    let database = deployed();
    let before = database.snapshot();
    mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":4}"#)));
    let cache = database.cache();
    assert!(cache.insert(key("1"), &Arc::new(run(&database, database.snapshot(), 3, 5))));
    assert!(cache.find(&key("1"), before.ts, EPOCH).is_none());
}

#[test]
fn identity_time_and_journal_narrow_a_result() {
    let database = deployed();
    let cache = database.cache();
    let ts = database.snapshot().ts;
    let mut outcome = run(&database, database.snapshot(), 3, 5);
    let with = |identity: Option<&str>, args: &str| CacheKey {
        asker: identity.map_or(Asker::Nobody, |name| Asker::User(name.into())),
        ..key(args)
    };
    cache.insert(with(Some("ann"), "free"), &Arc::new(outcome.clone()));
    assert!(cache.find(&with(Some("bob"), "free"), ts, EPOCH).is_some(), "it did not look");
    outcome.observed.identity = true;
    cache.insert(with(Some("ann"), "own"), &Arc::new(outcome.clone()));
    assert!(cache.find(&with(Some("ann"), "own"), ts, EPOCH).is_some());
    assert!(cache.find(&with(Some("bob"), "own"), ts, EPOCH).is_none());
    assert!(cache.find(&with(None, "own"), ts, EPOCH).is_none());
    cache.insert(with(None, "nobody's"), &Arc::new(outcome.clone()));
    assert!(cache.find(&with(None, "nobody's"), ts, EPOCH).is_some());
    assert!(cache.find(&with(Some("ann"), "nobody's"), ts, EPOCH).is_none(), "it saw nobody");
    outcome.observed = Observed { time: true, ..Observed::default() };
    outcome.journal = Some("end".into());
    cache.insert(key("time"), &Arc::new(outcome.clone()));
    let now = outcome.given.now;
    let last = now + crate::limits::CACHED_TIME_NS - 1;
    assert!(cache.find(&key("time"), ts, last).is_some());
    assert!(cache.find(&key("time"), ts, last + 1).is_none());
    assert!(cache.find(&key("time"), ts, now - crate::limits::CACHED_TIME_NS).is_none(), "later");
    cache.keep_to_the_clock();
    assert!(cache.find(&key("time"), ts, now).is_some());
    assert!(cache.find(&key("time"), ts, now + 1).is_none(), "a test has moved the clock");
    let journalled = CacheKey { journal: Some("end".into()), ..key("time") };
    assert!(cache.find(&journalled, ts, now).is_some(), "kept under both journals");
    let error = crate::record::FunctionError { message: "no".into(), data: None };
    outcome.result = Err(error);
    assert!(!cache.insert(key("error"), &Arc::new(outcome)));
}

#[test]
fn memory_is_bounded_and_evictions_cancel() {
    let database = deployed();
    let cache = database.cache();
    let mut outcome = run(&database, database.snapshot(), 3, 5);
    outcome.result = Ok("x".repeat(10_000).into());
    let outcome = Arc::new(outcome);
    for question in 0..1000 {
        cache.insert(key(&question.to_string()), &outcome);
    }
    assert!(cache.len() > 10 && cache.len() < 110, "{} entries", cache.len());
    assert!(cache.bytes() <= 1 << 20);
    assert_eq!(database.subscriptions().len(), cache.len());
    for _ in 0..5 {
        cache.insert(key("same"), &outcome);
    }
    assert_eq!(database.subscriptions().len(), cache.len(), "a replaced entry is cancelled");
    push(&database, Some(SCHEMA)).unwrap();
    assert!(cache.is_empty(), "new code, new results");
}

#[test]
fn pressure_empties_the_cache_and_leaves_no_subscription() {
    use crate::memory::Pressure;
    let database = deployed();
    let cache = database.cache();
    let fresh = Arc::new(run(&database, database.snapshot(), 3, 5));
    assert!(cache.insert(key("1"), &fresh));
    database.press(Pressure::Full("no room".to_owned()));
    assert!(cache.is_empty() && database.subscriptions().is_empty());
    cache.insert(key("1"), &fresh);
    assert!(cache.is_empty() && database.subscriptions().is_empty());
    database.press(Pressure::Calm);
    assert!(cache.insert(key("1"), &fresh) && cache.len() == 1);
}
