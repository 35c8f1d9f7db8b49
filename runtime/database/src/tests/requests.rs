//! Requests that may be delivered again: their record is part of their commit.
//!
//! In: two deliveries of one request, one after the other and side by side. Out: one commit, one
//! answer.

use super::*;
use crate::record::RequestKey;
use crate::requests::RequestAnswer;

const KEY: RequestKey = RequestKey { session: [3; 16], request: 7 };

fn deliver(database: &Database, call: u64, result: &str) -> Transaction {
    let mut transaction = begin(database, call);
    transaction.insert("", "b", value(r#"{"x":1}"#)).unwrap();
    transaction.once(KEY, RequestAnswer { result: result.into(), log_lines: [].into() });
    transaction
}

#[test]
fn of_two_deliveries_side_by_side_one_commits() {
    let database = deployed();
    let (one, other) = (deliver(&database, 1, "1"), deliver(&database, 2, "2"));
    let before = database.snapshot();
    let committed = database.commit(one, EPOCH + 1, writer("one")).unwrap();
    let rejected = database.commit(other, EPOCH + 2, writer("other")).unwrap_err();
    assert_eq!(rejected.conflict.index, "requests");
    assert_eq!(rejected.conflict.at, committed.ts);
    let now = database.snapshot();
    let recorded = now.answered(KEY).unwrap();
    assert_eq!((&*recorded.answer.result, recorded.ts), ("1", committed.ts));
    assert!(before.answered(KEY).is_none(), "the record is in the snapshot that it made");
    // Whatever comes after carries it along.
    mutate(&database, 3, |tx| tx.insert("", "a", value(r#"{"x":1}"#)));
    push(&database, None).unwrap();
    assert!(database.snapshot().answered(KEY).is_some());
}

#[test]
fn what_writes_nothing_leaves_no_record() {
    let database = deployed();
    let mut transaction = begin(&database, 1);
    transaction.once(KEY, RequestAnswer { result: "1".into(), log_lines: [].into() });
    database.commit(transaction, EPOCH + 1, writer("reader")).unwrap();
    assert!(database.snapshot().answered(KEY).is_none());
}

#[test]
fn the_history_counts_the_answers_that_only_it_keeps() {
    let database = deployed();
    let before = database.history().bytes;
    let answer = RequestAnswer { result: "x".repeat(100_000).into(), log_lines: [].into() };
    let mut transaction = deliver(&database, 1, "");
    transaction.once(KEY, answer);
    database.commit(transaction, EPOCH + 1, writer("one")).unwrap();
    assert!(database.history().bytes > before + 100_000);
}
