//! Index backfill beside traffic: commits go on while a push fills its indexes.
//!
//! In: pushes that are half done, writes in between. Out: indexes that hold what a fresh fill of
//! the newest documents gives, documents checked whenever they were written, and a free commit
//! order.

use proptest::prelude::*;

use super::*;
use crate::backfill::{Backfill, fill};
use crate::key::Interval;

const ANY: &str = r#"{"type":"any"}"#;
const NUMBER_X: &str = r#"{"type":"object","value":
    {"x":{"fieldType":{"type":"number"},"optional":false},
     "y":{"fieldType":{"type":"any"},"optional":true}}}"#;

/// Table `t` with `by_x` and `by_xy`, and an empty table.
fn indexed(document: &str) -> Deployment {
    let table = |name: &str, document: &str| {
        format!(
            r#"{{"tableName":"{name}","indexes":[
                {{"indexDescriptor":"by_x","fields":["x"]}},
                {{"indexDescriptor":"by_xy","fields":["x","y"]}}],
            "stagedDbIndexes":[],"searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],
            "stagedVectorIndexes":[],"documentType":{document}}}"#
        )
    };
    let tables = [table("t", document), table("later", ANY)].join(",");
    deployment(Some(&format!(r#"{{"tables":[{tables}],"schemaValidation":true}}"#)))
}

fn insert(database: &Database, call: u64, table: &str, x: &str) -> String {
    let body = value(&format!(r#"{{"x":{x},"y":{call}}}"#));
    mutate(database, call, |tx| tx.insert("", table, body)).0.encode()
}

/// Every index of every table holds what a fresh fill holds.
fn check_indexes(database: &Database) {
    let snapshot = database.newest();
    for table in snapshot.catalog.tables("").filter(|table| !table.is_system()) {
        let documents = snapshot.maps.documents(table).unwrap();
        for index in table.indexes.values() {
            let keys = snapshot.maps.keys(index).unwrap();
            assert!(*keys == fill(index, documents), "{}", index.label());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        table: bool,
        x: i8,
    },
    Patch {
        which: usize,
        x: i8,
    },
    Remove {
        which: usize,
    },
    /// The push looks at a snapshot: an old one, as if what came later had been undone.
    Look {
        back: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), -3i8..5).prop_map(|(table, x)| Step::Insert { table, x }),
        3 => (0usize..30, -3i8..5).prop_map(|(which, x)| Step::Patch { which, x }),
        2 => (0usize..30).prop_map(|which| Step::Remove { which }),
        2 => (0usize..20).prop_map(|back| Step::Look { back }),
    ]
}

proptest! {
    #[test]
    fn indexes_hold_what_was_written_while_they_were_filled(
        before in prop::collection::vec(-3i8..5, 0..80),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let database = database();
        let mut ids = Vec::new();
        for (call, x) in before.iter().enumerate() {
            ids.push(insert(&database, call as u64 + 1, "t", &x.to_string()));
        }
        let deployment = indexed(ANY);
        let mut ready = Backfill::beside(|| database.newest(), &deployment).unwrap();
        let mut seen = vec![database.newest()];
        for (call, step) in (1_000..).zip(steps) {
            match step {
                Step::Insert { table, x } => {
                    let name = if table { "t" } else { "later" };
                    ids.push(insert(&database, call, name, &x.to_string()));
                }
                Step::Patch { which, x } => if let Some(id) = ids.get(which) {
                    let patch = json::decode_patch(&format!(r#"{{"x":{x}}}"#)).unwrap();
                    mutate(&database, call, |tx| tx.patch("", id, None, patch));
                },
                Step::Remove { which } => if which < ids.len() {
                    let id = ids.remove(which);
                    mutate(&database, call, |tx| tx.remove("", &id, None));
                },
                Step::Look { back } => {
                    let at = seen[seen.len().saturating_sub(back + 1)].clone();
                    ready.catch_up(at, &deployment).unwrap();
                }
            }
            seen.push(database.newest());
        }
        database.activate_ready(ready, deployment, &[], EPOCH).unwrap();
        check_indexes(&database);
    }
}

#[test]
fn commits_go_on_while_indexes_are_filled() {
    let database = database();
    insert(&database, 1, "t", "1");
    let deployment = indexed(NUMBER_X);
    // Whoever commits now holds the turn for as long as the push fills.
    let turn = database.turn();
    let ready = std::thread::scope(|threads| {
        let filling = threads.spawn(|| Backfill::beside(|| database.newest(), &deployment));
        filling.join().unwrap().unwrap()
    });
    let mut late = turn.begin(&given(2), false);
    late.insert("", "t", value(r#"{"x":0}"#)).unwrap();
    turn.commit(late, EPOCH + 2, writer("late")).unwrap();
    drop(turn);
    database.activate_ready(ready, deployment, &[], EPOCH).unwrap();
    check_indexes(&database);
    let query = index_query("t.by_x", "", "asc", "");
    let found = collect(&mut begin(&database, 3), &query).unwrap();
    assert_eq!(found.iter().map(|d| field(d, "x")).collect::<Vec<_>>(), ["0", "1"]);
}

#[test]
fn a_document_that_came_meanwhile_is_checked_too() {
    for table in ["t", "fresh"] {
        let database = database();
        insert(&database, 1, "t", "1");
        let deployment = indexed(NUMBER_X);
        let ready = Backfill::beside(|| database.newest(), &deployment).unwrap();
        // A table that is new makes the push look at everything again.
        insert(&database, 2, table, "2");
        let id = insert(&database, 3, "t", r#""three""#);
        let (before, ts) = (dump(&database), database.newest().ts);
        let refused = database.activate_ready(ready, deployment, &[], EPOCH).unwrap_err();
        let begins = format!("Document with ID \"{id}\" in table \"t\" does not match the schema");
        assert!(refused.message.starts_with(&begins), "{}", refused.message);
        assert_eq!((dump(&database), database.newest().ts), (before, ts));
    }
}

#[test]
fn what_is_left_for_the_turn_is_little() {
    let database = database();
    let ids: Vec<_> = (1..2_000).map(|call| insert(&database, call, "t", "1")).collect();
    let deployment = indexed(ANY);
    let mut ready = Backfill::beside(|| database.newest(), &deployment).unwrap();
    let patch = |x: u64| json::decode_patch(&format!(r#"{{"x":{x}}}"#)).unwrap();
    for call in 2_000..2_010 {
        mutate(&database, call, |tx| tx.patch("", &ids[call as usize - 2_000], None, patch(call)));
    }
    // Ten documents in two indexes; and ten checked.
    assert_eq!(ready.catch_up(database.newest(), &deployment).unwrap(), 30);
    assert_eq!(ready.catch_up(database.newest(), &deployment).unwrap(), 0);
    let snapshot = database.newest();
    let all = snapshot.table("", "t").unwrap();
    assert_eq!(snapshot.range(all.by_id.id, &Interval::all()).count(), 1_999);
}
