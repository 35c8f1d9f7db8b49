//! Pushes: documents checked, tables and indexes as declared, and all of it or nothing.
//!
//! In: schemas against existing data. Out: a new deployment, or the old one untouched.

use super::*;
use crate::activate::IndexChange;

fn table(name: &str, indexes: &str, staged: &str, document: &str) -> String {
    format!(
        r#"{{"tableName":"{name}","indexes":[{indexes}],"stagedDbIndexes":[{staged}],
        "searchIndexes":[],"stagedSearchIndexes":[],"vectorIndexes":[],"stagedVectorIndexes":[],
        "documentType":{document}}}"#
    )
}

fn schema(tables: &[String]) -> String {
    format!(r#"{{"tables":[{}],"schemaValidation":true}}"#, tables.join(","))
}

const BY_X: &str = r#"{"indexDescriptor":"by_x","fields":["x"]}"#;
const BY_X_AS_Y: &str = r#"{"indexDescriptor":"by_x","fields":["y"]}"#;
const ANY: &str = r#"{"type":"any"}"#;
const NUMBER_X: &str = r#"{"type":"object","value":
    {"x":{"fieldType":{"type":"number"},"optional":false}}}"#;

fn by_x(database: &Database) -> Result<Vec<String>, String> {
    let query = index_query("t.by_x", "", "asc", "");
    let found = collect(&mut begin(database, 90), &query).map_err(|error| error.message)?;
    Ok(found.iter().map(|document| field(document, "x")).collect())
}

fn filled() -> Database {
    let database = database();
    mutate(&database, 1, |tx| {
        for x in [3, 1, 2] {
            tx.insert("", "t", value(&format!(r#"{{"x":{x},"y":0}}"#)))?;
        }
        Ok(())
    });
    database
}

#[test]
fn documents_that_do_not_match_leave_everything_as_it_was() {
    let database = filled();
    push(&database, Some(&schema(&[table("t", BY_X, "", ANY)]))).unwrap();
    let (id, _) = mutate(&database, 2, |tx| tx.insert("", "t", value(r#"{"x":"four"}"#)));
    let (before, ts) = (dump(&database), database.snapshot().ts);
    let commits = database.history().entries.len();
    let strict = schema(&[table("t", "", "", NUMBER_X), table("fresh", BY_X, "", ANY)]);
    let refused = push(&database, Some(&strict)).unwrap_err().message;
    assert!(refused.starts_with("Document with ID \""), "{refused}");
    assert!(refused.contains("\" in table \"t\" does not match the schema: "), "{refused}");
    assert_eq!(dump(&database), before);
    assert_eq!(database.snapshot().ts, ts);
    assert_eq!(database.history().entries.len(), commits);
    assert!(database.snapshot().table("", "fresh").is_none());
    assert_eq!(by_x(&database).unwrap().len(), 4, "the old indexes still serve");
    let strict = Schema::from_json(&strict).unwrap();
    assert_eq!(database.check_schema("", &strict).unwrap_err().message, refused);

    let text = |error: UserError| error.message;
    mutate(&database, 3, |tx| {
        for document in collect(tx, &full_scan("t"))? {
            tx.replace("", &document.id.encode(), None, value(r#"{"x":1}"#))?;
        }
        tx.remove("", &id.encode(), None)
    });
    push(&database, Some(&schema(&[table("t", "", "", NUMBER_X)]))).unwrap();
    let refused = begin(&database, 4).insert("", "t", value("{}")).map_err(text).unwrap_err();
    assert!(
        refused.starts_with(
            "Failed to insert or update a document in table \"t\" because it does not match the \
             schema: Object is missing the required field `x`."
        ),
        "{refused}"
    );
}

#[test]
fn indexes_come_and_go_with_the_schema() {
    let database = filled();
    assert_eq!(by_x(&database).unwrap_err(), "Index t.by_x not found.");
    let declared = schema(&[table("t", BY_X, "", ANY), table("empty", "", "", ANY)]);
    push(&database, Some(&declared)).unwrap();
    assert_eq!(by_x(&database).unwrap(), ["1", "2", "3"]);
    let names: Vec<_> =
        database.snapshot().tables("").into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["empty".into(), Arc::<str>::from("t")]);
    mutate(&database, 2, |tx| tx.insert("", "t", value(r#"{"x":0}"#)));
    assert_eq!(by_x(&database).unwrap(), ["0", "1", "2", "3"]);
    push(&database, None).unwrap();
    assert_eq!(by_x(&database).unwrap_err(), "Index t.by_x not found.");
    assert_eq!(collect(&mut begin(&database, 3), &full_scan("t")).unwrap().len(), 4);
}

#[test]
fn a_staged_index_is_filled_but_not_yet_available() {
    let database = filled();
    push(&database, Some(&schema(&[table("t", "", BY_X, ANY)]))).unwrap();
    let staged = "Index t.by_x is currently staged and not available to query until it is enabled.";
    assert_eq!(by_x(&database).unwrap_err(), staged);
    mutate(&database, 2, |tx| tx.insert("", "t", value(r#"{"x":0}"#)));
    push(&database, Some(&schema(&[table("t", BY_X, "", ANY)]))).unwrap();
    assert_eq!(by_x(&database).unwrap(), ["0", "1", "2", "3"]);
}

#[test]
fn the_diff_says_what_a_push_would_do() {
    let database = filled();
    let diff = |json: Option<String>| {
        let schema = json.map(|json| Schema::from_json(&json).unwrap());
        database.index_diff("", schema.as_ref())
    };
    let change = |field: &str, staged: bool| {
        vec![IndexChange {
            table: "t".into(),
            name: "by_x".into(),
            fields: vec![field.into()],
            staged,
        }]
    };
    let declared = schema(&[table("t", BY_X, "", ANY)]);
    let staged = schema(&[table("t", "", BY_X, ANY)]);
    assert_eq!(diff(Some(declared.clone())).added, change("x", false));
    push(&database, Some(&declared)).unwrap();
    assert_eq!(diff(Some(declared.clone())), Default::default());
    assert_eq!(diff(Some(staged.clone())).disabled, change("x", true));
    assert_eq!(diff(None).removed, change("x", false));
    let other = diff(Some(schema(&[table("t", BY_X_AS_Y, "", ANY)])));
    assert_eq!((other.added, other.removed), (change("y", false), change("x", false)));
    push(&database, Some(&staged)).unwrap();
    assert_eq!(diff(Some(declared)).enabled, change("x", false));
}

#[test]
fn a_refused_write_leaves_no_table_behind() {
    let database = database();
    push(&database, Some(&schema(&[table("t", "", "", NUMBER_X)]))).unwrap();
    let mut transaction = begin(&database, 1);
    assert!(transaction.insert("", "t", value(r#"{"x":"no"}"#)).is_err());
    assert!(!transaction.has_writes());
    transaction.insert("", "t", value(r#"{"x":1}"#)).unwrap();
    assert!(transaction.has_writes());
}
