//! Imports: what goes, what stays, which numbers tables get, and what everybody else sees of it.

use std::sync::Arc;

use super::{
    EPOCH, begin, collect, database, dump, full_scan, given, index_query, mutate, push, value,
    writer,
};
use crate::commit::Database;
use crate::error::UserError;
use crate::id::{DocumentId, TableNumber};
use crate::import::{Import, ImportRow, ImportTable, Mode};
use crate::value::Value;

/// Tables `a` (with an index), `b` whose `a` is an id of `a`, and whatever else.
const SCHEMA: &str = r#"{"tables":[
    {"tableName":"a","indexes":[{"indexDescriptor":"by_x","fields":["x"]}],
     "documentType":{"type":"any"}},
    {"tableName":"b","indexes":[],"documentType":{"type":"object","value":
        {"a":{"fieldType":{"type":"id","tableName":"a"},"optional":false}}}}],
    "schemaValidation":true}"#;

fn id(table: u32, seed: u8) -> String {
    DocumentId { table: TableNumber(table), internal: [seed; 16] }.encode()
}

fn rows(texts: &[String]) -> Vec<ImportRow> {
    let row = |(text, place): (&String, usize)| match value(text) {
        Value::Object(fields) => ImportRow::new(place, fields),
        _ => unreachable!("rows are objects"),
    };
    texts.iter().zip(1..).map(row).collect()
}

fn table(name: &str, number: Option<u32>, texts: &[String]) -> ImportTable {
    ImportTable {
        component: "".into(),
        name: name.into(),
        number: number.map(TableNumber),
        source: format!("{name}/documents.jsonl"),
        rows: rows(texts),
    }
}

fn import(mode: Mode, tables: Vec<ImportTable>) -> Import {
    Import { mode, component: "".into(), tables, files: Vec::new() }
}

fn run(database: &Database, import: &Import) -> Result<u64, UserError> {
    let mut now = begin(database, 900);
    let count = now.import(import)?;
    database.commit(now, EPOCH, writer("import")).unwrap();
    Ok(count)
}

/// A host where `a` is 10001 and `b` is 10002, with one document each.
fn filled() -> Database {
    let database = database();
    push(&database, Some(SCHEMA)).unwrap();
    mutate(&database, 1, |now| {
        let a = now.insert("", "a", value(r#"{"x":1}"#))?;
        now.insert("", "b", value(&format!(r#"{{"a":"{}"}}"#, a.encode())))
    });
    database
}

/// An import from a host where their numbers are swapped.
fn swapped() -> Vec<ImportTable> {
    let a = format!(r#"{{"_id":"{}","_creationTime":5.5,"x":7}}"#, id(10_002, 1));
    let b = format!(r#"{{"_id":"{}","a":"{}"}}"#, id(10_001, 1), id(10_002, 1));
    vec![table("a", Some(10_002), &[a]), table("b", Some(10_001), &[b])]
}

fn numbers(database: &Database) -> Vec<(String, u32)> {
    let tables = database.snapshot().tables("");
    tables.iter().map(|table| (table.name.to_string(), table.number.0)).collect()
}

#[test]
fn replaced_tables_get_the_numbers_of_their_ids_and_keep_their_indexes() {
    let database = filled();
    assert_eq!(run(&database, &import(Mode::Replace, swapped())).unwrap(), 2);
    assert_eq!(numbers(&database), [("a".into(), 10_002), ("b".into(), 10_001)]);
    let mut now = begin(&database, 2);
    let found = collect(&mut now, &index_query("a.by_x", "", "asc", "")).unwrap();
    let texts: Vec<_> = found.iter().map(|document| document.json()).collect();
    let expected = format!(r#"{{"_creationTime":5.5,"_id":"{}","x":7}}"#, id(10_002, 1));
    assert_eq!(texts, [&expected]);
    // The schema speaks of `a` by its new number.
    let good = format!(r#"{{"a":"{}"}}"#, id(10_002, 3));
    now.insert("", "b", value(&good)).unwrap();
    let old = format!(r#"{{"a":"{}"}}"#, id(10_001, 3));
    assert_eq!(now.insert("", "b", value(&old)).unwrap_err().code, "SchemaEnforcementError");
}

#[test]
fn whoever_read_a_table_before_it_got_another_number_runs_again() {
    // Nothing is there, so no document's end can tell them.
    let database = database();
    push(&database, Some(SCHEMA)).unwrap();
    let nothing = index_query("a.by_x", r#"{"type":"Eq","fieldPath":"x","value":7}"#, "asc", "");
    let mut late = begin(&database, 3);
    assert!(collect(&mut late, &nothing).unwrap().is_empty());
    late.insert("", "b", value(&format!(r#"{{"a":"{}"}}"#, id(10_001, 9)))).unwrap();
    run(&database, &import(Mode::Replace, swapped())).unwrap();
    assert!(database.commit(late, EPOCH, writer("late")).is_err());
    let mut again = begin(&database, 4);
    assert_eq!(collect(&mut again, &nothing).unwrap().len(), 1);
}

#[test]
fn an_import_runs_beside_others_and_conflicts_with_those_it_replaces() {
    let database = filled();
    let (zip, mut first) = (import(Mode::Replace, swapped()), begin(&database, 5));
    first.import(&zip).unwrap();
    mutate(&database, 6, |now| now.insert("", "a", value("{}")));
    let lost = database.commit(first, EPOCH, writer("import")).unwrap_err();
    assert_eq!(&*lost.conflict.table, "a");
    mutate(&database, 6, |now| now.insert("", "aside", value(r#"{"x":1}"#)));
    let mut second = begin(&database, 7);
    second.import(&zip).unwrap();
    // A commit that it has nothing to do with goes into what it publishes.
    mutate(&database, 8, |now| now.insert("", "aside", value(r#"{"x":2}"#)));
    database.commit(second, EPOCH, writer("import")).unwrap();
    let mut now = begin(&database, 9);
    assert_eq!(collect(&mut now, &full_scan("aside")).unwrap().len(), 2);
    assert_eq!(collect(&mut now, &full_scan("a")).unwrap().len(), 1);
    now.insert("", "a", value("{}")).unwrap();
    database.commit(now, EPOCH, writer("after")).unwrap();
}

#[test]
fn what_is_there_goes_or_stays_as_the_mode_says() {
    let documents = |database: &Database| {
        let tables = database.snapshot().tables("");
        tables.iter().map(|table| (table.name.to_string(), table.documents)).collect::<Vec<_>>()
    };
    let more = || vec![table("a", None, &[r#"{"x":2}"#.into()]), table("c", None, &["{}".into()])];
    for (mode, a, b) in [(Mode::Append, 2, 1), (Mode::ReplaceAll, 1, 0)] {
        let database = filled();
        run(&database, &import(mode, more())).unwrap();
        let found = documents(&database);
        assert_eq!(found, [("a".into(), a), ("b".into(), b), ("c".into(), 1)], "{mode:?}");
    }
    let database = filled();
    let before = dump(&database);
    let refused = run(&database, &import(Mode::RequireEmpty, more())).unwrap_err();
    assert_eq!(refused.code, "TableExists");
    assert_eq!(dump(&database), before);
    let fine = import(Mode::RequireEmpty, vec![table("c", None, &["{}".into()])]);
    assert_eq!(run(&database, &fine).unwrap(), 1);
}

#[test]
fn what_cannot_be_imported_says_why() {
    let database = filled();
    let before = dump(&database);
    let a_of = |number, text: &str| vec![table("a", number, &[text.to_owned()])];
    let twice = format!(r#"{{"_id":"{}"}}"#, id(10_001, 1));
    let wrong = [
        (Mode::Append, swapped(), "TableNumberConflict", "they are from different deployments"),
        // b stays, with the number that a needs.
        (Mode::Replace, a_of(Some(10_002), "{}"), "TableNumberConflict", "which is that of \"b\""),
        // Nobody needs a's new number, but b's documents know the old one.
        (Mode::Replace, a_of(Some(10_009), "{}"), "SchemaValidationFailed", "in table \"b\""),
        (Mode::Replace, a_of(Some(540), "{}"), "InvalidTableNumber", "from 10001 on"),
        (Mode::Replace, a_of(None, r#"{"_id":"x"}"#), "InvalidId", "a/documents.jsonl:1: "),
        (Mode::Replace, a_of(None, r#"{"_id":3}"#), "InvalidId", "must be a string"),
        (Mode::Replace, a_of(None, r#"{"_creationTime":-1}"#), "InvalidCreationTime", ":1: "),
        (Mode::Replace, a_of(None, r#"{"_other":1}"#), "InvalidDocumentError", "underscore"),
        (Mode::Replace, a_of(None, r#"{"x":{"$commitTs":null}}"#), "InvalidDocumentError", "no v"),
        (
            Mode::Replace,
            vec![table("a", None, &[twice.clone(), twice])],
            "DuplicateId",
            "a/documents.jsonl:2: A document with the ID",
        ),
        (
            Mode::Append,
            vec![table("b", None, &[r#"{"a":"x"}"#.into()])],
            "SchemaEnforcementError",
            "b/documents.jsonl:1: Failed to insert or update a document in table \"b\"",
        ),
        (Mode::Append, vec![table("_storage", None, &[])], "ReadOnlyTable", "read-only"),
    ];
    for (mode, tables, code, words) in wrong {
        let error = run(&database, &import(mode, tables)).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
    assert_eq!(dump(&database), before);
}

#[test]
fn an_import_larger_than_any_function_may_write_is_one_commit() {
    let database = database();
    let texts: Vec<String> = (0..20_000).map(|n| format!(r#"{{"x":{n}}}"#)).collect();
    let import = import(Mode::RequireEmpty, vec![table("a", None, &texts)]);
    let mut now = database.begin(database.newest(), &given(1), false);
    assert_eq!(now.import(&import).unwrap(), 20_000);
    database.commit(now, EPOCH, writer("import")).unwrap();
    assert_eq!(database.history().entries.len(), 1);
    let table = Arc::clone(database.snapshot().table("", "a").unwrap());
    assert_eq!(database.snapshot().count(&table), 20_000);
}
