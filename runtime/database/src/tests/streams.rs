//! Streams: an iteration goes over what the query gave when its first document was asked for.
//!
//! In: queries that are read while their transaction writes. Out: each document of that moment
//! once, as it was then; and as read no more than was looked at.

use super::*;

/// Documents of `a` with `x` from 0, and their ids.
fn filled(count: u8) -> (Database, Vec<String>) {
    let database = deployed();
    let (ids, _) = mutate(&database, 1, |tx| {
        let insert = |x: u8| Ok(tx.insert("", "a", value(&format!(r#"{{"x":{x}}}"#)))?.encode());
        (0..count).map(insert).collect::<Result<Vec<_>, _>>()
    });
    (database, ids)
}

fn patch(transaction: &mut Transaction, id: &str, x: i32) {
    let patch = json::decode_patch(&format!(r#"{{"x":{x}}}"#)).unwrap();
    transaction.patch("", id, None, patch).unwrap();
}

/// The field `x` of everything left in an open query, with `work` done after each.
fn xs_of(
    transaction: &mut Transaction,
    open: u32,
    mut work: impl FnMut(&mut Transaction, &Document),
) -> Vec<String> {
    let mut xs = Vec::new();
    while let Some(document) = transaction.next(open).unwrap() {
        xs.push(field(&document, "x"));
        assert!(xs.len() < 100, "it ends: {xs:?}");
        work(transaction, &document);
    }
    xs
}

#[test]
fn a_loop_that_moves_each_document_meets_each_once() {
    for (order, expected) in [("asc", ["0", "1", "2"]), ("desc", ["2", "1", "0"])] {
        let (database, _) = filled(3);
        let mut transaction = begin(&database, 2);
        let query = index_query("a.by_x", &bound("Gte", "x", "-1000"), order, "");
        let open = transaction.open_query("", &query).unwrap();
        let by = if order == "asc" { 10 } else { -10 };
        let met = xs_of(&mut transaction, open, |transaction, document| {
            let x: f64 = field(document, "x").parse().unwrap();
            patch(transaction, &document.id.encode(), x as i32 + by);
        });
        assert_eq!(met, expected);
        let after = collect(&mut transaction, &query).unwrap();
        assert_eq!(after.len(), 3, "and another iteration sees what was written");
        assert!(after.iter().all(|document| field(document, "x").len() > 1));
    }
}

#[test]
fn a_loop_that_copies_each_document_meets_no_copy() {
    let (database, _) = filled(5);
    let filter = r#"{"filter":{"$lt":[{"$field":"x"},{"$literal":3}]}}"#;
    let queries = [
        (full_scan("a"), 5),
        (index_query("a.by_x", "", "asc", filter), 3),
        (index_query("a.by_creation_time", "", "asc", r#"{"limit":4}"#), 4),
    ];
    for (query, expected) in queries {
        let mut transaction = begin(&database, 2);
        let open = transaction.open_query("", &query).unwrap();
        let met = xs_of(&mut transaction, open, |transaction, document| {
            let copy = format!(r#"{{"x":{}}}"#, field(document, "x"));
            transaction.insert("", "a", value(&copy)).unwrap();
        });
        assert_eq!(met.len(), expected, "{met:?}");
        assert_eq!(transaction.count("", "a").unwrap(), 5 + expected as u64);
    }
}

#[test]
fn documents_come_as_they_were_at_the_first_one() {
    let (database, ids) = filled(4);
    let mut transaction = begin(&database, 2);
    let open = transaction.open_query("", &index_query("a.by_x", "", "asc", "")).unwrap();
    transaction.remove("", &ids[0], None).unwrap();
    let first = transaction.next(open).unwrap().unwrap();
    assert_eq!(field(&first, "x"), "1", "what is written before the first is seen");
    patch(&mut transaction, &ids[2], 20);
    transaction.remove("", &ids[3], None).unwrap();
    transaction.insert("", "a", value(r#"{"x":2.5}"#)).unwrap();
    assert_eq!(xs_of(&mut transaction, open, |_, _| ()), ["2", "3"]);
}

#[test]
fn an_iteration_goes_on_over_a_nested_function_and_its_rollback() {
    let (database, ids) = filled(3);
    let mut transaction = begin(&database, 2);
    patch(&mut transaction, &ids[2], 7);
    let query = index_query("a.by_x", "", "asc", "");
    let open = transaction.open_query("", &query).unwrap();
    let unread = transaction.open_query("", &query).unwrap();
    assert_eq!(field(&transaction.next(open).unwrap().unwrap(), "x"), "0");
    for undone in [true, false] {
        let savepoint = transaction.savepoint();
        let scope = transaction.enter(None);
        transaction.remove("", &ids[1], None).unwrap();
        transaction.insert("", "a", value(r#"{"x":5}"#)).unwrap();
        transaction.leave(scope);
        if undone {
            transaction.rollback(savepoint);
        }
    }
    assert_eq!(xs_of(&mut transaction, open, |_, _| ()), ["1", "7"]);
    assert_eq!(xs_of(&mut transaction, unread, |_, _| ()), ["0", "5", "7"]);
}

#[test]
fn an_iteration_reads_only_as_far_as_it_went() {
    let (database, ids) = filled(5);
    let mut transaction = begin(&database, 2);
    let open = transaction.open_query("", &index_query("a.by_x", "", "asc", "")).unwrap();
    transaction.next(open).unwrap();
    patch(&mut transaction, &ids[4], 40);
    transaction.next(open).unwrap();
    assert_eq!(transaction.usage().documents_read, 2);
    let reads = Arc::new(transaction.reads().clone());
    mutate(&database, 3, |tx| tx.insert("", "a", value(r#"{"x":3}"#)));
    assert!(database.history().entries[0].overlap(&reads).is_none(), "behind");
    mutate(&database, 4, |tx| tx.insert("", "a", value(r#"{"x":0.5}"#)));
    assert!(database.history().entries[0].overlap(&reads).is_some(), "between the two");
}
