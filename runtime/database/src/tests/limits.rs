//! Limits and refusals of one call: each is hit here, with its text.
//!
//! In: calls that read or write too much, or what they must not. Out: `convex-compat.md` sections
//! 1.7, 2.3, 2.5 and 8.6 in words.

use super::*;
use crate::work::{Budget, Metrics};

const READ_LESS: &str = "Consider using smaller limits in your queries, paginating your queries, \
    or using indexed queries with a selective index range expressions.";

/// A transaction that may do at most this much more.
fn limited(database: &Database, change: impl FnOnce(&mut Budget)) -> Transaction {
    let mut transaction = begin(database, 5);
    let mut budget = Budget::LIMITS;
    change(&mut budget);
    transaction.enter(Some(budget));
    transaction
}

fn filled() -> Database {
    let database = deployed();
    mutate(&database, 1, |tx| {
        for _ in 0..5 {
            tx.insert("", "a", value(r#"{"text":"0123456789"}"#))?;
        }
        Ok(())
    });
    database
}

#[test]
fn reads_are_limited_with_convex_texts() {
    let database = filled();
    let refused = |mut transaction: Transaction| {
        let scan = |transaction: &mut Transaction| collect(transaction, &full_scan("a"));
        scan(&mut transaction).and_then(|_| scan(&mut transaction)).unwrap_err().message
    };
    assert_eq!(
        refused(limited(&database, |budget| budget.documents_read = 7)),
        format!("Too many documents read in a single function execution (limit: 7). {READ_LESS}")
    );
    assert_eq!(
        refused(limited(&database, |budget| budget.bytes_read = 100)),
        format!(
            "Too many bytes read in a single function execution (limit: 100 bytes). {READ_LESS}"
        )
    );
    assert_eq!(
        refused(limited(&database, |budget| budget.ranges = 1)),
        format!("Too many reads in a single function execution (limit: 1). {READ_LESS}")
    );
}

#[test]
fn the_default_budget_is_that_of_the_table() {
    let mut transaction = begin(&filled(), 5);
    let query = full_scan("a");
    let opened = (0..5000).map_while(|_| transaction.open_query("", &query).ok()).count();
    assert_eq!(opened, 4096);
    assert_eq!(transaction.metrics().ranges.remaining, 0);
}

#[test]
fn writes_are_limited_with_convex_texts() {
    let database = filled();
    let refused = |mut transaction: Transaction| {
        let document = || value(&format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000)));
        let mut insert = || transaction.insert("", "a", document());
        (0..9).find_map(|_| insert().err()).expect("nine are too many").message
    };
    assert_eq!(
        refused(limited(&database, |budget| budget.documents_written = 3)),
        "Too many writes in a single function execution (limit: 3)"
    );
    assert_eq!(
        refused(limited(&database, |budget| budget.bytes_written = 1 << 20)),
        "Too many bytes written in a single function execution (limit: 1 MiB)"
    );
}

#[test]
fn a_nested_budget_only_lowers_and_ends_with_its_function() {
    let database = filled();
    let mut transaction = begin(&database, 5);
    collect(&mut transaction, &full_scan("a")).unwrap();
    let lower = Budget { documents_read: 2, ..Budget::LIMITS };
    let outer = transaction.enter(Some(lower));
    assert_eq!(transaction.metrics().documents_read.remaining, 2);
    assert!(collect(&mut transaction, &full_scan("a")).is_err());
    let higher = transaction.enter(Some(Budget::LIMITS));
    assert!(collect(&mut transaction, &full_scan("a")).is_err());
    transaction.leave(higher);
    transaction.leave(outer);
    assert_eq!(collect(&mut transaction, &full_scan("a")).unwrap().len(), 5);
}

#[test]
fn what_is_rolled_back_counts_as_read_only() {
    let database = filled();
    let mut transaction = begin(&database, 5);
    let insert =
        |transaction: &mut Transaction| transaction.insert("", "a", value(r#"{"x":1}"#)).map(drop);
    let work = |transaction: &mut Transaction| {
        insert(transaction)?;
        transaction.count_file_written(10)?;
        transaction.count_file_read(10)
    };
    work(&mut transaction).unwrap();
    let before = transaction.metrics();
    let (savepoint, scope) = (transaction.savepoint(), transaction.enter(None));
    work(&mut transaction).unwrap();
    collect(&mut transaction, &full_scan("a")).unwrap();
    transaction.leave(scope);
    transaction.rollback(savepoint);
    let after = transaction.metrics();
    let written = |metrics: Metrics| {
        [
            metrics.documents_written,
            metrics.bytes_written,
            metrics.files_written,
            metrics.file_bytes_written,
        ]
    };
    assert_eq!(written(after), written(before));
    assert_eq!((after.documents_read.used, after.files_read.used), (7, 2), "reads stay counted");
    // Also under limits of its own, a caller loses nothing to what it caught.
    let two = Budget { documents_written: 2, ..Budget::LIMITS };
    let scope = transaction.enter(Some(two));
    for _ in 0..3 {
        let (savepoint, inner) = (transaction.savepoint(), transaction.enter(None));
        insert(&mut transaction).unwrap();
        insert(&mut transaction).unwrap();
        assert!(insert(&mut transaction).is_err());
        transaction.leave(inner);
        transaction.rollback(savepoint);
    }
    assert_eq!(transaction.metrics().documents_written.remaining, 2);
    transaction.leave(scope);
}

#[test]
fn documents_are_checked_before_anything_is_written() {
    let database = database();
    let mut transaction = begin(&database, 1);
    let mut refused =
        |table: &str, text: &str| transaction.insert("", table, value(text)).unwrap_err().message;
    assert_eq!(refused("t", "5"), "Documents must be objects");
    assert_eq!(refused("t", r#"{"_id":"x"}"#), "Document's _id field doesn't match");
    assert_eq!(
        refused("t", r#"{"_creationTime":1}"#),
        "Document's _creationTime field doesn't match"
    );
    assert_eq!(
        refused("t", r#"{"_mine":1}"#),
        "Field '_mine' starts with an underscore, which is only allowed for system fields like \
         '_id'"
    );
    assert_eq!(refused("_storage", "{}"), "_storage is a read-only table");
    assert_eq!(refused("_x", "{}"), "_x is a reserved table name.");
    let deep = format!(r#"{{"v":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    assert_eq!(
        refused("t", &deep),
        "Document is too nested (nested 17 levels deep > maximum nesting 16)"
    );
    let large = format!(r#"{{"v":"{}"}}"#, "x".repeat(1 << 20));
    assert!(refused("t", &large).starts_with("Value is too large (1.00 MiB > maximum size 1 MiB"));
}

#[test]
fn patches_and_replacements_may_repeat_system_fields_only() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":1}"#)));
    let id = id.encode();
    let mut transaction = begin(&database, 2);
    let same = format!(r#"{{"_id":"{id}","x":2}}"#);
    transaction.replace("", &id, None, value(&same)).unwrap();
    transaction.patch("", &id, None, json::decode_patch(&same).unwrap()).unwrap();
    let other = json::decode_patch(r#"{"_creationTime":5}"#).unwrap();
    let text = transaction.patch("", &id, None, other).unwrap_err().message;
    assert_eq!(text, "Document's _creationTime field doesn't match");
    let gone = json::decode_patch(r#"{"_id":{"$undefined":null}}"#).unwrap();
    assert!(transaction.patch("", &id, None, gone).is_err());
    transaction.remove("", &id, None).unwrap();
    let text = transaction.replace("", &id, None, value("{}")).unwrap_err().message;
    assert_eq!(text, format!("Replace on nonexistent document ID {id}"));
    let text = transaction.patch("", &id, None, Default::default()).unwrap_err().message;
    assert_eq!(text, format!("Update on nonexistent document ID {id}"));
}

#[test]
fn queries_cannot_write() {
    let database = deployed();
    let mut query = database.begin(database.snapshot(), &given(1), true);
    let text = query.insert("", "a", value("{}")).unwrap_err().message;
    assert_eq!(text, "`db.insert` is not available in a query: only mutations can write.");
    assert!(query.read_only());
}

#[test]
fn creation_times_increase_within_a_call() {
    let database = deployed();
    let mut transaction = begin(&database, 1);
    for _ in 0..50 {
        transaction.insert("", "a", value("{}")).unwrap();
    }
    let found = collect(&mut transaction, &full_scan("a")).unwrap();
    assert!(found.windows(2).all(|pair| pair[0].creation_time < pair[1].creation_time));
    assert!(found[0].creation_time >= EPOCH as f64 / 1e6);
}

#[test]
fn components_have_tables_of_their_own() {
    let database = database();
    let ((root, child), _) = mutate(&database, 1, |tx| {
        let root = tx.insert("", "t", value("{}"))?;
        Ok((root, tx.insert("child", "t", value(r#"{"in":"child"}"#))?))
    });
    assert_eq!(root.table, child.table, "numbers are per component");
    assert_ne!(root, child);
    let mut reader = begin(&database, 2);
    assert_eq!(reader.count("", "t").unwrap(), 1);
    assert_eq!(reader.count("child", "t").unwrap(), 1);
    assert_eq!(reader.count("other", "t").unwrap(), 0);
}
