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
