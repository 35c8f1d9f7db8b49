//! The history: snapshots of the past as long as the budget holds them, and no longer.
//!
//! In: many commits. Out: a bounded log, exact snapshots inside it, a clear refusal outside.

use super::*;
use crate::error::Refusal;

#[test]
fn the_past_is_exact_while_it_is_kept() {
    let database = deployed();
    let mut counts = vec![(database.snapshot().ts, 0)];
    for call in 1..40 {
        let (_, committed) = mutate(&database, call, |tx| tx.insert("", "a", value("{}")));
        counts.push((committed.ts, call));
    }
    for (ts, count) in counts {
        let snapshot = database.snapshot_at(ts).unwrap();
        assert_eq!((snapshot.ts, snapshot.tables("")[0].documents), (ts, count));
        let mut reader = database.begin(snapshot, &given(1), true);
        assert_eq!(reader.count("", "a").unwrap(), count);
    }
    let newest = database.snapshot().ts;
    assert_eq!(database.snapshot_at(Timestamp(u64::MAX)).unwrap().ts, newest);
}

#[test]
fn the_log_keeps_keys_versions_and_writers() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":1}"#)));
    mutate(&database, 2, |tx| tx.patch("", &id.encode(), None, json::decode_patch(r#"{"x":2}"#)?));
    let newest = &database.history().entries[0];
    assert_eq!(newest.writer, writer("mutate"));
    let write = &newest.writes[0];
    let x = |version: &Option<Arc<Document>>| field(version.as_ref().unwrap(), "x");
    assert_eq!((x(&write.before), x(&write.after)), ("1".into(), "2".into()));
    let moved: Vec<_> = write.keys.iter().filter(|change| change.before != change.after).collect();
    assert_eq!(moved.len(), 2, "by_x and by_xy; by_id and by_creation_time stay");
    assert_eq!(newest.keys().count(), 6);
}

#[test]
fn memory_of_the_past_stays_within_its_budget() {
    let budget = 1 << 20;
    let options = Options { history_bytes: budget, cache_bytes: 1 << 16, now: EPOCH };
    let database = Database::new(options);
    push(&database, Some(SCHEMA)).unwrap();
    let (id, _) = mutate(&database, 1, |tx| {
        for _ in 0..2000 {
            tx.insert("", "b", value("{}"))?;
        }
        tx.insert("", "a", value(r#"{"x":0}"#))
    });
    let id = id.encode();
    let mut lengths = Vec::new();
    for call in 2..2500u64 {
        let patch = format!(r#"{{"x":{call}}}"#);
        mutate(&database, call, |tx| tx.patch("", &id, None, json::decode_patch(&patch)?));
        let history = database.history();
        assert!(history.bytes <= budget, "{} bytes", history.bytes);
        lengths.push(history.entries.len());
    }
    let (half, end) = (lengths[lengths.len() / 2], lengths[lengths.len() - 1]);
    assert!(half > 10 && half.abs_diff(end) <= half / 4, "flat: {half} commits, then {end}");
    let oldest = database.history().oldest;
    assert_eq!(database.snapshot_at(oldest).unwrap().ts, oldest);
    match database.snapshot_at(Timestamp(oldest.0 - 1)).unwrap_err() {
        Refusal::OutOfRetention(text) => {
            assert!(text.contains(&format!("the oldest one is at {oldest}")), "{text}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn forgotten_snapshots_free_what_only_they_held() {
    let options = Options { history_bytes: 200_000, cache_bytes: 1 << 16, now: EPOCH };
    let database = Database::new(options);
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "t", value("{}")));
    let first = database.history().entries[0].writes[0].after.clone().unwrap();
    for call in 2..500u64 {
        let patch = format!(r#"{{"text":"{}"}}"#, "x".repeat(2000 + call as usize));
        mutate(&database, call, |tx| tx.patch("", &id.encode(), None, json::decode_patch(&patch)?));
    }
    assert_eq!(Arc::strong_count(&first), 1, "nobody but this test holds the first version");
}

#[test]
fn the_default_budgets_are_those_of_the_table() {
    let options = Options::at(EPOCH);
    assert_eq!(options.history_bytes as u64, crate::limits::HISTORY_BYTES);
    assert_eq!(options.cache_bytes as u64, crate::limits::CACHE_BYTES);
}
