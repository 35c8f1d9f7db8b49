//! The operator's look at documents, and documents that a new schema does not allow
//! (`convex-compat.md` sections 3.3, 6.6, 6.9).

use std::collections::BTreeSet;

use database::commit::Writer;
use database::json;
use serde_json::json;

use super::push::{finish, numbers, push, serving, start, with_schema};
use super::*;

fn insert(bench: &Bench, table: &str, document: Value) {
    let database = &bench.fake.database;
    let snapshot = database.snapshot();
    let now = bench.fake.world.now();
    let given = Given { code: CodeVersion::default(), snapshot: snapshot.ts, seed: [1; 32], now };
    let mut transaction = database.begin(snapshot, &given, false);
    transaction.insert("", table, json::decode(&document.to_string()).unwrap()).unwrap();
    let writer = Writer::new("test", "0");
    assert!(database.commit(transaction, now, writer).is_ok());
}

/// A system function's answer, as the operator gets it.
async fn system(bench: &Bench, path: &str, args: Value) -> Value {
    let body = json!({ "path": path, "args": args, "format": "convex_encoded_json" });
    bench.admin("/api/query", body).await.json()
}

async fn page(bench: &Bench, order: &str, cursor: Value) -> Value {
    let args = json!({ "table": "numbers", "order": order,
                       "paginationOpts": { "cursor": cursor, "numItems": 2 } });
    system(bench, "_system/cli/tableData", args).await["value"].clone()
}

fn ns(page: &Value) -> Vec<f64> {
    page["page"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["n"].as_f64().unwrap())
        .collect()
}

#[tokio::test]
async fn tables_are_listed_counted_and_paged() {
    let bench = echo();
    for n in 1..=3 {
        insert(&bench, "numbers", json!({ "n": n }));
    }
    insert(&bench, "words", json!({ "w": "a" }));
    let tables = system(&bench, "_system/cli/tables", json!({})).await;
    assert_eq!(tables["value"]["page"], json!([{ "name": "numbers" }, { "name": "words" }]));
    let size = json!({ "tableName": "numbers" });
    assert_eq!(system(&bench, "_system/cli/tableSize:default", size).await["value"], 3.0);
    let size = json!({ "tableName": "nothing" });
    assert_eq!(system(&bench, "_system/cli/tableSize", size).await["value"], 0.0);

    let first = page(&bench, "asc", json!(null)).await;
    assert_eq!((ns(&first), &first["isDone"]), (vec![1.0, 2.0], &json!(false)));
    assert!(first["page"][0]["_id"].is_string());
    let second = page(&bench, "asc", first["continueCursor"].clone()).await;
    assert_eq!((ns(&second), &second["isDone"]), (vec![3.0], &json!(true)));
    assert_eq!(ns(&page(&bench, "desc", json!(null)).await), [3.0, 2.0]);
}

#[tokio::test]
async fn a_table_of_large_documents_is_read_in_pages_that_fit() {
    let bench = echo();
    let text = "x".repeat(1_000_000);
    for _ in 0..20 {
        insert(&bench, "large", json!({ "text": text }));
    }
    let (mut ids, mut cursor, mut pages) = (BTreeSet::new(), json!(null), 0);
    loop {
        let args = json!({ "table": "large", "order": "asc",
                           "paginationOpts": { "cursor": cursor, "numItems": 100 } });
        let answer = system(&bench, "_system/cli/tableData", args).await;
        let page = &answer["value"];
        let documents = page["page"].as_array().unwrap_or_else(|| panic!("{answer:.300}"));
        ids.extend(documents.iter().map(|document| document["_id"].to_string()));
        pages += 1;
        if page["isDone"] == true {
            break;
        }
        cursor = page["continueCursor"].clone();
    }
    assert_eq!(ids.len(), 20);
    assert!(pages > 1, "{pages}");
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let bench = echo();
    let error = async |args: Value| {
        let answer = system(&bench, "_system/cli/tableData", args).await;
        answer["errorMessage"].as_str().unwrap().to_owned()
    };
    let one = json!({ "cursor": null, "numItems": 1 });
    assert!(error(json!({ "order": "asc" })).await.contains("`paginationOpts.numItems`"));
    let args = json!({ "table": "t", "order": "up", "paginationOpts": one });
    assert!(error(args).await.contains("`order`"));
    let args = json!({ "order": "asc", "paginationOpts": one });
    assert!(error(args).await.contains("`table`"));
}

#[tokio::test]
async fn documents_that_do_not_fit_fail_the_push() {
    let bench = echo();
    let good = start(&bench, push(&[("a.js", "good")])).await;
    finish(&bench, &good, false).await;
    insert(&bench, "numbers", json!({ "n": "three" }));
    let sent = with_schema(push(&[("a.js", "strict")]), numbers());
    let cost = bench.admin("/api/deploy2/evaluate_schema", sent.clone()).await.json();
    let table = &cost["componentSchemaEvaluations"][""]["tables"][0];
    assert_eq!((&table["outcome"], &table["numDocs"]), (&json!("mustWalk"), &json!(1)));

    let started = start(&bench, sent).await;
    let wait = json!({ "adminKey": KEY, "schemaChange": started["schemaChange"] });
    let waited = bench.admin("/api/deploy2/wait_for_schema", wait).await.json();
    assert_eq!((&waited["type"], &waited["tableName"]), (&json!("failed"), &json!("numbers")));
    assert!(waited["error"].as_str().unwrap().contains("does not match the schema"));
    let got = finish(&bench, &started, false).await;
    assert_eq!(got.status, 400, "{}", got.body);
    assert!(got.body.contains("Hit an error while pushing"), "{}", got.body);
    assert_eq!(serving(&bench).as_deref(), Some("good"));
    let events = bench.events.lock().unwrap();
    assert!(matches!(events.last(), Some(Event::Push(push)) if push.result.is_err()));
}

/// What `evaluate_schema` says of the table `numbers`, and what it says is discarded.
async fn staging(bench: &Bench, schema: Value) -> (Value, Value) {
    let sent = with_schema(push(&[("a.js", "staging")]), schema);
    let cost = bench.admin("/api/deploy2/evaluate_schema", sent).await.json();
    let found = &cost["componentSchemaEvaluations"][""];
    (found["tables"][0].clone(), found["discardedStagedValidators"].clone())
}

fn numbers_of(kind: &str, staged: Option<&str>) -> Value {
    let object = |kind: &str| {
        json!({ "type": "object", "value": {
            "n": { "fieldType": { "type": kind }, "optional": false },
        } })
    };
    let mut tables = numbers();
    tables[0]["documentType"] = object(kind);
    if let Some(kind) = staged {
        tables[0]["stagedDocumentType"] = object(kind);
    }
    tables
}

#[tokio::test]
async fn a_staged_validator_is_checked_applied_and_discarded() {
    let bench = echo();
    insert(&bench, "numbers", json!({ "n": 3 }));
    let any = |staged| numbers_of("any", staged);
    let (table, _) = staging(&bench, any(Some("string"))).await;
    assert_eq!(table["staged"]["state"], "failed", "{table}");
    assert!(table["staged"]["error"].as_str().unwrap().contains("in table \"numbers\""));
    assert!(table["sizeBytes"].as_u64().unwrap() > 20, "a walk is weighed: {table}");

    let sent = with_schema(push(&[("a.js", "staging")]), any(Some("number")));
    let started = start(&bench, sent).await;
    assert_eq!(finish(&bench, &started, false).await.status, 200);
    let (table, gone) = staging(&bench, any(Some("number"))).await;
    assert_eq!((&table["staged"]["state"], gone), (&json!("valid"), json!([])));
    let (table, gone) = staging(&bench, numbers_of("number", None)).await;
    assert_eq!((&table["outcome"], gone), (&json!("supersetOfStagedValidated"), json!([])));
    let (_, gone) = staging(&bench, any(None)).await;
    assert_eq!((&gone[0]["tableName"], &gone[0]["replaced"]), (&json!("numbers"), &json!(false)));
    let (table, gone) = staging(&bench, any(Some("string"))).await;
    assert_eq!((&table["staged"]["state"], &gone[0]["replaced"]), (&json!("failed"), &json!(true)));

    let mut wrong = any(None);
    wrong[0]["stagedDocumentType"] = json!({ "type": "string" });
    let sent = with_schema(push(&[("a.js", "wrong")]), wrong);
    let got = bench.admin("/api/deploy2/start_push", sent).await;
    assert_eq!(got.failure(), (400, "InvalidDocumentType".into()));
}
