//! Files that mutations store: as many blobs as committed rows, whatever conflicts, fails or is
//! only run again.
//!
//! In: a deployment with a memory store. Out: checks of the store against the table.
//! Invariant: after every call, blobs and rows belong together one to one.

use std::collections::BTreeSet;
use std::sync::Arc;

use concave::world::SeededWorld;
use server::Files;
use storage::BlobStore as _;

use crate::deployed::{Deployed, FILE_BYTES};

const SHELF: &str = r#"
import { mutation, query } from "./abi.js";
const store = (db, text) => db.call("storageStore", { blob: btoa(text), contentType: "" });
/** Stores a file and counts it; all calls write the same counter. */
export const add = mutation(async (db, { text }) => {
    const [counter] = await db.table("counter");
    if (counter) await db.patch(counter._id, { files: counter.files + 1 });
    else await db.insert("counter", { files: 1 });
    return store(db, text);
});
export const fail = mutation(async (db) => { await store(db, "x"); throw new Error("no"); });
/** A nested mutation that fails takes its file with it. */
export const nested = mutation(async (db) => {
    const id = await store(db, "outer");
    try { await db.runMutation("shelf:fail", {}); } catch {}
    return id;
});
export const large = mutation((db, { bytes }) => store(db, "x".repeat(bytes)));
export const remove = mutation((db, { id }) => db.call("storageDelete", { storageId: id }));
export const replace = mutation(async (db, { id }) => {
    await db.call("storageDelete", { storageId: id });
    return db.call("storageGet", { storageId: id });
});
export const read = mutation((db, { id }) => db.call("storageGet", { storageId: id }));
"#;

fn shelf() -> Deployed {
    let deployed = Deployed::on_threads(4);
    deployed.push(&[("shelf", SHELF)]).unwrap();
    deployed
}

/// Checks that blobs and rows belong together; gives how many there are.
fn files(deployed: &Deployed) -> usize {
    let snapshot = deployed.database.snapshot();
    let blobs: BTreeSet<String> =
        deployed.blobs.list().unwrap().iter().map(ToString::to_string).collect();
    for blob in &blobs {
        assert!(snapshot.file_of_blob("", blob).is_some(), "an orphan: {blob}");
    }
    let rows = snapshot.count(snapshot.table("", "_storage").unwrap());
    assert_eq!(rows, blobs.len() as u64);
    blobs.len()
}

#[test]
fn conflicts_and_failures_leave_no_blob() {
    let deployed = shelf();
    let (mut retries, mut stored) = (0, 0);
    while retries == 0 {
        let answers: Vec<_> = (0..16)
            .map(|n| deployed.make("shelf:add", &format!(r#"{{"text":"file {n}"}}"#)))
            .map(|call| deployed.start(call))
            .collect();
        for answer in answers {
            let outcome = answer.recv().unwrap().unwrap();
            assert!(outcome.result.is_ok(), "{:?}", outcome.result);
            retries += outcome.retries.len();
            stored += 1;
        }
    }
    assert_eq!(files(&deployed), stored);
    deployed.error("shelf:fail", "{}");
    assert_eq!(files(&deployed), stored);
    deployed.value("shelf:nested", "{}");
    assert_eq!(files(&deployed), stored + 1);
}

#[test]
fn a_call_that_is_run_again_reads_and_stores_the_same_and_leaves_nothing() {
    let deployed = shelf();
    let id = deployed.value("shelf:add", r#"{"text":"hello"}"#);
    for path in ["shelf:add", "shelf:read"] {
        let call = deployed.make(path, &format!(r#"{{"text":"again","id":{id}}}"#));
        let first = deployed.start(call.clone()).recv().unwrap().unwrap();
        let before = files(&deployed);
        let again = deployed.host.rerun(&call, &first.given).unwrap();
        assert_eq!(again.result, first.result);
        assert_eq!(again.writes_digest, first.writes_digest);
        assert_eq!(again.reads, first.reads);
        assert_eq!(files(&deployed), before);
    }
    let read = deployed.value("shelf:read", &format!(r#"{{"id":{id}}}"#));
    assert_eq!(read, r#"{"blob":"aGVsbG8=","contentType":null}"#);
    assert_eq!(deployed.value("shelf:replace", &format!(r#"{{"id":{id}}}"#)), "null");
}

#[test]
fn a_store_that_is_full_fails_the_mutation_until_files_are_deleted() {
    let deployed = shelf();
    let (database, storage) = (Arc::clone(&deployed.database), deployed.storage.clone());
    // Whose files they are decides what can go.
    let _files = Files::new(database, storage, Arc::new(SeededWorld::new(4)));
    let args = format!(r#"{{"bytes":{}}}"#, FILE_BYTES - 10);
    let id = deployed.value("shelf:large", &args);
    let said = deployed.error("shelf:large", &args);
    assert!(said.contains("file storage is full") && said.contains("Nothing of this"), "{said}");
    assert_eq!(files(&deployed), 1);
    deployed.value("shelf:remove", &format!(r#"{{"id":{id}}}"#));
    deployed.value("shelf:large", &args);
    assert_eq!(files(&deployed), 1);
}
