//! Why a mutation ran again: what the operator is told, and what that costs.

use database::commit::Writer;
use database::json;
use database::limits::CAUSE_SITES;
use database::record::{Arguments, CallRecord, Caller, Expect, FunctionPath, Identity};
use serde_json::json;

use super::*;

/// A call that began now.
fn record(bench: &Bench, path: &str, request_id: &str) -> CallRecord {
    let path = FunctionPath::parse(path).unwrap();
    let call = Call {
        args: Arguments::parse(&path, r#"{"n": 1}"#).unwrap(),
        path,
        expect: Expect::Any,
        identity: Identity::Anonymous,
        caller: Caller::HttpApi,
        request_id: request_id.into(),
        at: None,
        journal: None,
        once: None,
        job: None,
    };
    let snapshot = bench.fake.database.snapshot().ts;
    let mut given = Given { snapshot, ..Given::default() };
    given.seed[..request_id.len()].copy_from_slice(request_id.as_bytes());
    CallRecord::new(&call, &given)
}

/// A real conflict: the reader counted a table into which the writer inserted.
fn conflict(bench: &Bench) -> Conflict {
    let database = &bench.fake.database;
    let insert = |record: &CallRecord| {
        let mut transaction = database.begin(database.snapshot(), &record.given, false);
        transaction.count("", "items").unwrap();
        transaction.insert("", "items", json::decode(r#"{"x":1}"#).unwrap()).unwrap();
        transaction
    };
    let first = record(bench, "shop:stock", "r0");
    drop(database.commit(insert(&first), 0, Writer::of(first)).unwrap());
    let (reader, writer) = (record(bench, "shop:addCart", "r1"), record(bench, "shop:stock", "r2"));
    let (slow, fast) = (insert(&reader), insert(&writer));
    drop(database.commit(fast, 0, Writer::of(writer)).unwrap());
    database.commit(slow, 0, Writer::of(reader)).unwrap_err().conflict
}

async fn why(bench: &Bench, parameters: &str) -> Got {
    let with = (&*format!("Convex {KEY}"), String::new());
    bench.authorized(Method::GET, &format!("/api/concave/why{parameters}"), with).await
}

#[tokio::test]
async fn the_causes_of_retries_are_told_to_the_operator_alone() {
    let bench = echo();
    assert_eq!(bench.get("/api/concave/why").await.failure(), (401, "MissingAdminKey".into()));
    assert_eq!(why(&bench, "").await.json(), json!([]));
    let conflict = conflict(&bench);
    bench.fake.retries.lock().unwrap().push(conflict.clone());
    bench.post("/api/mutation", r#"{"path":"shop:addCart","args":{}}"#).await;

    let document = conflict.document.clone().unwrap();
    let found = why(&bench, "?n=5&sites=true").await.json();
    let site = |line: u32| {
        json!({ "file": "convex/shop.ts", "line": line, "column": 5, "function": "handler",
                "exact": true })
    };
    let expected = json!([{
        "kind": "conflict",
        "at": conflict.at.to_string(),
        "reader": { "function": "shop:addCart", "args": {"n": 1}, "requestId": "r1",
                    "site": site(12) },
        "index": "items.by_id",
        "table": "items",
        "range": "[all]",
        "key": format!("[_id=\"{document}\"]"),
        "document": document,
        "writer": { "function": "shop:stock", "args": {"n": 1}, "requestId": "r2",
                    "site": site(31) },
        "text": format!(
            "addCart re-ran: stock wrote items[_id=\"{document}\"] inside the range it read"
        ),
    }]);
    assert_eq!(found, expected);
    assert_eq!(why(&bench, "?n=x").await.failure(), (400, "BadQueryParameters".into()));
}

#[tokio::test]
async fn lines_are_looked_for_only_when_asked_and_only_once() {
    let bench = echo();
    let conflict = conflict(&bench);
    let count = usize::try_from(CAUSE_SITES).unwrap() + 3;
    bench.fake.retries.lock().unwrap().extend(vec![conflict; count]);
    bench.post("/api/mutation", r#"{"path":"shop:addCart","args":{}}"#).await;
    let located = || bench.fake.located.lock().unwrap().len();

    let quiet = why(&bench, "").await.json();
    assert_eq!(quiet.as_array().unwrap().len(), 20);
    assert!(quiet[0]["reader"].get("site").is_none());
    assert_eq!(located(), 0);
    let all = format!("?n={count}&sites=true");
    let first = why(&bench, &all).await.json();
    assert_eq!(located(), 2 * (count - 3), "a request looks for so many and no more");
    assert!(first[0]["writer"]["site"]["line"] == 31);
    assert!(first[count - 1]["writer"].get("site").is_none());
    assert!(why(&bench, &all).await.json()[count - 1]["writer"]["site"]["line"] == 31);
    why(&bench, &all).await;
    assert_eq!(located(), 2 * count, "what is known is not looked for again");
}

#[tokio::test]
async fn what_is_not_known_is_said() {
    let bench = echo();
    let mut conflict = conflict(&bench);
    let mut old = CallRecord::clone(conflict.reader.record.as_ref().unwrap());
    old.given.snapshot = Timestamp(1);
    conflict.reader = Writer::of(old);
    conflict.writer = Writer::new("push", "abc");
    bench.fake.retries.lock().unwrap().push(conflict);
    bench.post("/api/mutation", r#"{"path":"shop:addCart","args":{}}"#).await;
    let cause = &why(&bench, "?sites=true").await.json()[0];
    assert_eq!(cause["reader"]["site"], Value::Null);
    assert_eq!(cause["reader"]["note"], "no longer kept: the history has moved on");
    assert_eq!(cause["writer"]["note"], "it is not a function");
    assert_eq!(cause["writer"]["args"], Value::Null);
}
