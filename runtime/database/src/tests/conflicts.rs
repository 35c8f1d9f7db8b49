//! Conflicts say which range, which key and whose write; and only real ones are conflicts.
//!
//! In: two transactions side by side. Out: the second commits, or says why not.

use super::*;
use crate::commit::Conflict;
use crate::probe::Probe;
use crate::record::{Arguments, Call, CallRecord, Caller, Expect, FunctionPath, Identity};
use crate::transaction::GetArgs;

/// Both bodies run at the same snapshot; `first` commits before `second` does.
fn race(
    database: &Database,
    first: impl FnOnce(&mut Transaction),
    second: impl FnOnce(&mut Transaction),
) -> Result<(), Box<Conflict>> {
    let (mut one, mut two) = (begin(database, 101), begin(database, 102));
    first(&mut one);
    second(&mut two);
    database.commit(one, EPOCH + 50, writer("addCart")).unwrap();
    database
        .commit(two, EPOCH + 60, writer("transfer"))
        .map(drop)
        .map_err(|lost| Box::new(lost.conflict))
}

fn insert(x: u8) -> impl FnOnce(&mut Transaction) {
    move |transaction| {
        transaction.insert("", "a", value(&format!(r#"{{"x":{x}}}"#))).unwrap();
    }
}

/// Reads a range of `a.by_x`, then writes to `b` so that there is something to commit.
fn read_then_write(range: String, operators: &'static str) -> impl FnOnce(&mut Transaction) {
    move |transaction| {
        let query = index_query("a.by_x", &range, "asc", operators);
        collect(transaction, &query).unwrap();
        transaction.insert("", "b", value("{}")).unwrap();
    }
}

#[test]
fn a_conflict_says_range_key_and_writer() {
    let database = deployed();
    let lost = race(&database, insert(5), read_then_write(bound("Eq", "x", "5"), "")).unwrap_err();
    assert_eq!(lost.index, "a.by_x");
    assert_eq!(&*lost.table, "a");
    assert_eq!(lost.range, "[x=5]");
    assert!(lost.key.starts_with("[x=5, _creationTime=1700000000000"), "{}", lost.key);
    assert_eq!(lost.writer, writer("addCart"));
    assert_eq!(lost.at, database.snapshot().ts);
    let document = lost.document.clone().expect("a document was written");
    let said = lost.to_string();
    assert!(
        said.starts_with(
            "transfer (request r-transfer) read a.by_x[x=5], in which addCart (request r-addCart) \
             wrote [x=5, _creationTime="
        ),
        "{said}"
    );
    assert!(said.ends_with(&format!("] of document {document} at {}", lost.at)), "{said}");
}

#[test]
fn only_what_was_looked_at_conflicts() {
    let database = deployed();
    mutate(&database, 1, |tx| {
        tx.insert("", "a", value(r#"{"x":3}"#))?;
        tx.insert("", "a", value(r#"{"x":7}"#))
    });
    let first = r#"{"limit":1}"#;
    assert_eq!(race(&database, insert(5), read_then_write(bound("Eq", "x", "4"), "")), Ok(()));
    // .first() stopped at 3: what comes behind it was not read; what comes before it was.
    assert_eq!(race(&database, insert(5), read_then_write(bound("Gte", "x", "1"), first)), Ok(()));
    let lost = race(&database, insert(2), read_then_write(bound("Gte", "x", "1"), first));
    assert_eq!(lost.unwrap_err().range, "[x>=1, x<=3]");
}

#[test]
fn a_descending_first_reads_down_to_what_it_found() {
    let database = deployed();
    mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":5}"#)));
    let last = |transaction: &mut Transaction| {
        let query = index_query("a.by_x", "", "desc", r#"{"limit":1}"#);
        assert_eq!(collect(transaction, &query).unwrap().len(), 1);
        transaction.insert("", "b", value("{}")).unwrap();
    };
    assert_eq!(race(&database, insert(4), last), Ok(()));
    let lost = race(&database, insert(6), last).unwrap_err();
    assert_eq!(lost.range, "[x>=5]");
}

#[test]
fn a_missing_document_and_a_missing_table_are_reads() {
    let database = database();
    let (gone, _) = mutate(&database, 1, |tx| tx.insert("", "t", value("{}")));
    let gone = gone.encode();
    let get = |transaction: &mut Transaction| {
        let args = GetArgs { id: &gone, table: Some("t"), is_system: false };
        transaction.get("", args).unwrap();
        transaction.insert("", "t", value("{}")).unwrap();
    };
    let remove = |transaction: &mut Transaction| {
        transaction.remove("", &gone, None).unwrap();
    };
    let lost = race(&database, remove, get).unwrap_err();
    assert_eq!((lost.index.as_str(), lost.range), ("t.by_id", format!("[_id=\"{gone}\"]")));

    let create = |transaction: &mut Transaction| {
        transaction.insert("", "later", value("{}")).unwrap();
    };
    let scan = |transaction: &mut Transaction| {
        assert!(collect(transaction, &full_scan("later")).unwrap().is_empty());
        transaction.insert("", "t", value("{}")).unwrap();
    };
    let lost = race(&database, create, scan).unwrap_err();
    assert_eq!((lost.index.as_str(), lost.range.as_str()), ("catalog", r#"[table "later"]"#));
}

#[test]
fn two_calls_that_create_tables_do_not_share_a_number() {
    let database = database();
    let create = |name: &'static str| {
        move |transaction: &mut Transaction| {
            transaction.insert("", name, value("{}")).unwrap();
        }
    };
    let lost = race(&database, create("one"), create("two")).unwrap_err();
    assert_eq!(lost.range, "[table numbers]");
    mutate(&database, 9, |tx| tx.insert("", "two", value("{}")));
    let numbers: Vec<_> = database.snapshot().tables("").iter().map(|t| t.number.0).collect();
    assert_eq!(numbers, [10_001, 10_002]);
}

#[test]
fn equal_seeds_never_overwrite() {
    let database = database();
    mutate(&database, 1, |tx| tx.insert("", "t", value("{}")));
    let (mut one, mut two) = (begin(&database, 7), begin(&database, 7));
    for transaction in [&mut one, &mut two] {
        transaction.insert("", "t", value("{}")).unwrap();
    }
    database.commit(one, EPOCH, writer("one")).unwrap();
    let lost = database.commit(two, EPOCH, writer("two")).unwrap_err().conflict;
    assert_eq!(lost.index, "t.by_id");
    let mut again = begin(&database, 7);
    again.insert("", "t", value("{}")).unwrap();
    database.commit(again, EPOCH, writer("two")).unwrap();
    assert_eq!(database.snapshot().tables("")[0].documents, 3);
}

#[test]
fn a_push_conflicts_with_calls_of_the_code_before() {
    let database = deployed();
    let mut running = begin(&database, 1);
    running.insert("", "a", value("{}")).unwrap();
    push(&database, Some(SCHEMA)).unwrap();
    let lost = database.commit(running, EPOCH, writer("old")).unwrap_err().conflict;
    assert_eq!((lost.index.as_str(), lost.range.as_str()), ("catalog", "[deployment]"));
    assert_eq!(&*lost.writer.function, "push");
}

#[test]
fn what_begins_under_the_turn_cannot_lose() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", value(r#"{"x":0}"#)));
    let id = id.encode();
    let increment = |transaction: &mut Transaction| {
        let args = GetArgs { id: &id, table: None, is_system: false };
        let document = transaction.get("", args).unwrap().expect("inserted above");
        let x: f64 = field(&document, "x").parse().unwrap();
        let patch = json::decode_patch(&format!(r#"{{"x":{}}}"#, x + 1.0)).unwrap();
        transaction.patch("", &id, None, patch).unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (database, increment) = (&database, &increment);
            scope.spawn(move || {
                for call in 0..100 {
                    let turn = database.turn();
                    let mut transaction = turn.begin(&given(thread * 1000 + call), false);
                    increment(&mut transaction);
                    turn.commit(transaction, EPOCH, writer("turn")).unwrap();
                }
            });
        }
    });
    let document = collect(&mut begin(&database, 2), &full_scan("a")).unwrap().remove(0);
    assert_eq!(field(&document, "x"), "400");
}

#[test]
fn a_transaction_older_than_the_history_runs_again() {
    let options = Options { history_bytes: 1, cache_bytes: 1 << 16, now: EPOCH };
    let database = Database::new(options);
    let mut old = begin(&database, 1);
    old.insert("", "t", value("{}")).unwrap();
    for call in 2..5 {
        mutate(&database, call, |tx| tx.insert("", "other", value("{}")));
    }
    let lost = database.commit(old, EPOCH, writer("old")).unwrap_err().conflict;
    assert_eq!(
        lost.to_string(),
        format!("old began at {EPOCH}, before the oldest commit kept, {}", lost.at)
    );
}

/// A call of a function, as the log keeps it.
fn recorded(path: &str, args: &str) -> CallRecord {
    let path = FunctionPath::parse(path).unwrap();
    let call = Call {
        args: Arguments::parse(&path, args).unwrap(),
        path,
        expect: Expect::Any,
        identity: Identity::Anonymous,
        caller: Caller::HttpApi,
        request_id: "1f".into(),
        at: None,
        journal: Some("a journal".into()),
        once: None,
        job: None,
    };
    CallRecord::new(&call, &given(7))
}

#[test]
fn a_commit_keeps_the_call_that_wrote_and_counts_its_bytes() {
    let commit = |writer: Writer| {
        let database = deployed();
        let before = database.history().bytes;
        let mut transaction = begin(&database, 1);
        insert(5)(&mut transaction);
        database.commit(transaction, EPOCH, writer).unwrap();
        (database.history().bytes - before, database.history().entries[0].clone())
    };
    let text = "x".repeat(10_000);
    let args = format!(r#"{{"text":"{text}","n":{{"$integer":"AQAAAAAAAAA="}}}}"#);
    let record = recorded("shop:addCart", &args);
    let (with, entry) = commit(Writer::of(record));
    let (without, _) = commit(writer("addCart"));
    assert!((10_000..11_000).contains(&(with - without)), "{with} and {without}");

    let kept = entry.writer.record.as_ref().expect("the record");
    let call = kept.call().unwrap();
    assert_eq!(call.args.json, kept.args);
    assert_eq!(call.path, kept.path);
    assert_eq!(call.journal.as_deref(), Some("a journal"));
    assert_eq!(kept.given, given(7));
    assert_eq!(&*entry.writer.function, "shop:addCart");
}

#[test]
fn a_cause_is_one_sentence() {
    let cause = |reader: &str, writer: &str| {
        let database = deployed();
        let (mut one, mut two) = (begin(&database, 101), begin(&database, 102));
        insert(5)(&mut one);
        read_then_write(bound("Gte", "x", "1"), "")(&mut two);
        database.commit(one, EPOCH + 50, Writer::new(writer, "1")).unwrap();
        let lost = database.commit(two, EPOCH + 60, Writer::new(reader, "2")).unwrap_err();
        lost.conflict.cause()
    };
    let wrote = "wrote a[x=5] inside the range it read";
    let expected = |names: &str| format!("{names} {wrote}");
    assert_eq!(cause("shop:getItems", "shop:addCart"), expected("getItems re-ran: addCart"));
    assert_eq!(cause("shop:get", "cart:get"), expected("shop:get re-ran: cart:get"));
    assert_eq!(cause("shop:buy", "shop:buy"), expected("buy re-ran: another buy"));
    assert_eq!(cause("sync", "shop:buy"), expected("sync re-ran: buy"));

    // A table that did not exist, and code that was replaced.
    let database = deployed();
    let mut looks = begin(&database, 1);
    collect(&mut looks, &full_scan("t")).unwrap();
    looks.insert("", "b", value("{}")).unwrap();
    mutate(&database, 2, |tx| tx.insert("", "t", value("{}")));
    let said = database.commit(looks, EPOCH, writer("looks")).unwrap_err().conflict.cause();
    assert!(said.starts_with("looks re-ran: mutate created the table \"t\", which"), "{said}");
    let mut old = begin(&database, 3);
    old.insert("", "t", value("{}")).unwrap();
    push(&database, None).unwrap();
    let said = database.commit(old, EPOCH, writer("old")).unwrap_err().conflict.cause();
    assert_eq!(said, "old re-ran: a push replaced the code or the schema it ran with");
}

#[test]
fn a_probe_holds_from_the_read_and_while_the_write_stands() {
    let database = deployed();
    let (mut one, mut two) = (begin(&database, 101), begin(&database, 102));
    insert(5)(&mut one);
    read_then_write(bound("Eq", "x", "5"), "")(&mut two);
    database.commit(one, EPOCH, writer("one")).unwrap();
    let place = database.commit(two, EPOCH, writer("two")).unwrap_err().conflict.place.unwrap();

    let before = database.snapshot_at(Timestamp(database.snapshot().ts.0 - 1)).unwrap();
    let (read, write) = (Probe::Read(place.clone()), Probe::Write(place));
    let mut again = database.begin(before, &given(101), false);
    assert!(!write.holds(&again) && !read.holds(&again));
    let savepoint = again.savepoint();
    insert(5)(&mut again);
    assert!(write.holds(&again) && !read.holds(&again));
    again.rollback(savepoint);
    assert!(!write.holds(&again), "what was taken back was not written");
    insert(5)(&mut again);
    assert!(!write.holds(&again), "another document, with another id");
    let query = index_query("a.by_x", &bound("Eq", "x", "6"), "asc", "");
    collect(&mut again, &query).unwrap();
    assert!(!read.holds(&again));
    let query = index_query("a.by_x", &bound("Eq", "x", "5"), "asc", "");
    collect(&mut again, &query).unwrap();
    assert!(read.holds(&again));
}
