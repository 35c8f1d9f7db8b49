//! Memory: what the database says it holds, and what it gives up under pressure.
//!
//! In: commits, cached results, pressure. Out: estimates that follow the documents, caches and
//! history that shrink and grow again, a refusal with its reason.

use super::*;
use crate::error::Refusal;
use crate::memory::{OUT_OF_MEMORY, Pressure, document_bytes};

/// A document with `bytes` bytes of text, or so.
fn large(call: u64, bytes: usize) -> Value {
    value(&format!(r#"{{"x":{call},"text":"{}"}}"#, "x".repeat(bytes)))
}

#[test]
fn the_bytes_of_documents_follow_every_commit() {
    let database = deployed();
    let follows = |what: &str| {
        let counted = database.memory().documents;
        assert_eq!(counted, document_bytes(&database.newest()), "{what}");
        counted
    };
    follows("a push, which writes rows of its own");
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", large(1, 1_000)));
    let id = id.encode();
    let one = follows("an insert");
    assert!(one > 1_000);
    mutate(&database, 2, |tx| tx.replace("", &id, None, large(2, 3_000)));
    assert!(follows("a replacement") > one + 1_900);
    mutate(&database, 3, |tx| tx.remove("", &id, None));
    assert!(follows("a removal") < one);
    let entries = |database: &Database| database.memory().indexes;
    let empty = entries(&database);
    mutate(&database, 4, |tx| tx.insert("", "a", large(4, 1)));
    assert!(entries(&database) > empty);
}

#[test]
fn pressure_takes_the_past_and_gives_its_room_back() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", large(0, 1)));
    let write = |from: u64| {
        for call in from..from + 200 {
            let next = large(call, 300_000);
            mutate(&database, call, |tx| tx.replace("", &id.encode(), None, next));
        }
        database.memory().history
    };
    let share = 64 << 20;
    let calm = write(2);
    assert!(calm > share * 3 / 4, "{calm}");
    let before = database.squeezes();
    database.press(Pressure::Tight);
    assert!(database.memory().history <= share / 4);
    assert!(database.squeezes() > before && database.out_of_memory().is_none());
    let newest = database.newest().ts;
    assert!(database.snapshot_at(Timestamp(EPOCH + 2)).is_err(), "the oldest go first");
    assert_eq!(database.snapshot_at(newest).unwrap().ts, newest);
    database.press(Pressure::Full("524 of 512 MiB".to_owned()));
    assert!(database.memory().history <= share / 16);
    assert_eq!(database.cache().bytes(), 0);
    match database.out_of_memory() {
        Some(Refusal::Overloaded { code: OUT_OF_MEMORY, message }) => {
            assert_eq!(message, "524 of 512 MiB");
        }
        other => panic!("{other:?}"),
    }
    let squeezes = database.squeezes();
    database.press(Pressure::Calm);
    assert!(database.out_of_memory().is_none());
    assert_eq!((database.pressure(), database.squeezes()), (Pressure::Calm, squeezes));
    assert!(write(1_000) > share * 3 / 4);
}

/// Two thousand documents in one commit; gives their ids.
fn fill(database: &Database, bytes: usize) -> Vec<String> {
    let insert = |tx: &mut Transaction| {
        (0..2_000).map(|n| tx.insert("", "a", large(n, bytes)).map(|id| id.encode())).collect()
    };
    mutate(database, 1, insert).0
}

#[test]
fn the_history_counts_what_it_alone_keeps() {
    let database = deployed();
    let before = database.memory().history;
    let ids = fill(&database, 400);
    let history = database.memory().history - before;
    // Of four indexes: a write with the places in them. The documents are the newest snapshot's.
    assert!((200..400).contains(&(history / 2_000)), "{history}");
    let documents = database.memory().documents;
    mutate(&database, 2, |tx| {
        ids.iter().try_for_each(|id| tx.replace("", id, None, large(1, 10)).map(drop))
    });
    let kept = database.memory().history - before - history;
    assert!(kept > documents, "now they are the history's: {kept}");
    assert!(kept < documents + 2_000_000, "with the nodes of the maps that had them: {kept}");
    let of_one = database.memory().history;
    mutate(&database, 3, |tx| tx.replace("", &ids[0], None, large(2, 10)));
    let of_one = database.memory().history - of_one;
    assert!((2_000..20_000).contains(&of_one), "each index has a way to its place: {of_one}");
}

#[test]
fn pressure_takes_the_newest_commit_of_the_past_too() {
    let database = deployed();
    let ids = fill(&database, 4_000);
    mutate(&database, 2, |tx| ids.iter().try_for_each(|id| tx.remove("", id, None).map(drop)));
    let newest = database.newest().ts;
    assert!(database.memory().history > 8_000_000);
    database.press(Pressure::Full("524 of 512 MiB".to_owned()));
    assert!(database.memory().history < 64 << 10, "{}", database.memory().history);
    assert_eq!(database.kept().oldest, newest);
    // Whoever read before begins again, and then it goes on.
    mutate(&database, 3, |tx| tx.insert("", "a", large(3, 1)));
    assert!(database.newest().ts > newest);
}

#[test]
fn far_above_the_budget_nothing_is_taken_that_makes_the_data_larger() {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |tx| tx.insert("", "a", large(1, 1_000)));
    let id = id.encode();
    let refused = |pressure: &Pressure, work: &dyn Fn(&mut Transaction)| {
        database.press(pressure.clone());
        let mut transaction = begin(&database, 2);
        work(&mut transaction);
        database.no_room_for(&transaction).map(|refusal| refusal.to_string())
    };
    let over = Pressure::Over("600 of 512 MiB.".to_owned());
    let insert = |tx: &mut Transaction| {
        tx.insert("", "a", large(2, 1)).unwrap();
    };
    let shrink = |tx: &mut Transaction| drop(tx.replace("", &id, None, large(2, 1)).unwrap());
    let remove = |tx: &mut Transaction| drop(tx.remove("", &id, None).unwrap());
    let why = refused(&over, &insert).unwrap();
    let above = crate::limits::MEMORY_OPERATOR_PERCENT;
    let says = format!("600 of 512 MiB. Above {above} % of it the operator's calls are refused");
    assert!(why.starts_with(&says), "{why}");
    assert!(database.out_of_memory().is_some());
    for smaller in [&shrink as &dyn Fn(&mut Transaction), &remove, &|_| ()] {
        assert_eq!(refused(&over, smaller), None);
    }
    assert_eq!(refused(&Pressure::Full("500 of 512 MiB".to_owned()), &insert), None);
}
