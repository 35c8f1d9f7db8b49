//! Function endpoints: what a client sends, what it gets (`convex-compat.md` sections 2.2, 4.1).

use database::error::UserError;
use database::record::{Expect, Identity};
use serde_json::json;

use super::*;

/// Behaves by the name of the export.
fn zoo(redact: bool) -> Bench {
    let zoo = bench(redact, |call| {
        Ok(match &*call.path.export {
            "number" => Ok(r#"{"n":{"$integer":"AQAAAAAAAAA="}}"#.to_owned()),
            "throws" => Err(FunctionError {
                message: "Uncaught Error: no\n    at f (../convex/a.ts:1:2)\n".into(),
                data: None,
            }),
            "refuses" => Err(FunctionError {
                message: "Uncaught ConvexError: {\"why\":1}".into(),
                data: Some(r#"{"why":1}"#.into()),
            }),
            "busy" => {
                return Err(Refusal::Overloaded {
                    code: "TooManyConcurrentRequests",
                    message: "16 calls wait already.".into(),
                });
            }
            "old" => return Err(Refusal::OutOfRetention("too old".into())),
            "bad" => return Err(Refusal::Bad(UserError::new("NoDeployment", "nothing then"))),
            "at" => Ok(json!(call.at.map(|at| at.0.to_string())).to_string()),
            "who" => Ok(match &call.identity {
                Identity::ActingAs(user) => user.attributes.to_string(),
                Identity::Admin => "\"operator\"".into(),
                _ => "null".into(),
            }),
            "kind" => Ok(json!(match call.expect {
                Expect::Kind(kind) => kind.name(),
                Expect::Any => "any",
            })
            .to_string()),
            _ => Ok(json!(call.path.canonical()).to_string()),
        })
    });
    zoo.fake.log_lines.lock().unwrap().push(log_line("'hi'"));
    zoo
}

fn body(path: &str) -> String {
    format!(r#"{{"path":"{path}","args":[{{}}],"format":"convex_encoded_json"}}"#)
}

#[tokio::test]
async fn a_result_is_copied_as_it_is() {
    let echo = echo();
    let sent = r#"{"path":"a:b","args":{"s":"ü\n","x":[1,null]},"format":"convex_encoded_json"}"#;
    let got = echo.post("/api/query", sent).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.headers["content-type"], "application/json");
    assert_eq!(got.body, r#"{"status":"success","value":{"s":"ü\n","x":[1.0,null]}}"#);
    let none = echo.post("/api/mutation", r#"{"path":"a:b","args":[]}"#).await;
    assert_eq!(none.json(), json!({ "status": "success", "value": {} }));
}

#[tokio::test]
async fn the_door_decides_the_kind() {
    let zoo = zoo(false);
    for (door, kind) in [("query", "Query"), ("mutation", "Mutation"), ("action", "Action")] {
        let got = zoo.post(&format!("/api/{door}"), body("a:kind")).await;
        assert_eq!(got.json()["value"], kind);
        assert_eq!(got.json()["logLines"], json!(["[LOG] 'hi'"]));
    }
    let got = zoo.post("/api/run/dir/a/kind", r#"{"args":{}}"#).await;
    assert_eq!(got.json()["value"], "any");
    let got = zoo.post("/api/run/dir/a/other", r#"{"args":{}}"#).await;
    assert_eq!(got.json()["value"], "dir/a.js:other");
}

#[tokio::test]
async fn errors_are_answers_too() {
    let zoo = zoo(false);
    let got = zoo.post("/api/query", body("a:throws")).await;
    assert_eq!(got.status, 200);
    let text = got.json()["errorMessage"].as_str().unwrap().to_owned();
    let (id, rest) = text.strip_prefix("[Request ID: ").unwrap().split_at(16);
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
    assert_eq!(rest, "] Server Error\nUncaught Error: no\n    at f (../convex/a.ts:1:2)\n");
    assert_eq!(got.json()["status"], "error");
    assert!(got.json().get("errorData").is_none(), "absent, not null");

    let got = zoo.post("/api/query", body("a:refuses")).await;
    assert_eq!(got.json()["errorData"], json!({ "why": 1.0 }));
    let wrong = r#"{"path":"a:b","args":[3]}"#;
    let got = zoo.post("/api/query", wrong).await;
    assert_eq!(got.json()["status"], "error");
    assert!(got.body.contains("Expected to receive an object"), "{}", got.body);
}

#[tokio::test]
async fn redaction_leaves_the_id_and_the_data() {
    let zoo = zoo(true);
    let got = zoo.post("/api/query", body("a:refuses")).await;
    assert!(got.json()["errorMessage"].as_str().unwrap().ends_with("] Server Error"));
    assert_eq!(got.json()["errorData"], json!({ "why": 1.0 }));
    assert!(got.json().get("logLines").is_none());
}

#[tokio::test]
async fn the_request_id_can_be_the_clients() {
    let request = |id: &str| {
        let request = Request::post("/api/query").header("convex-request-id", id);
        request.body(Body::from(body("a:throws"))).unwrap()
    };
    let zoo = zoo(false);
    assert!(zoo.send(request("my-id")).await.body.contains("[Request ID: my-id]"));
    assert!(!zoo.send(request("my id\"")).await.body.contains("my id"));
}

#[tokio::test]
async fn refusals_have_their_status() {
    let zoo = zoo(false);
    let busy = zoo.post("/api/query", body("a:busy")).await;
    assert_eq!(busy.failure(), (429, "TooManyConcurrentRequests".into()));
    assert_eq!(busy.json()["message"], "16 calls wait already.");
    let old = zoo.post("/api/query", body("a:old")).await;
    assert_eq!(old.failure(), (503, "OutOfRetention".into()));
    let bad = zoo.post("/api/query", body("a:bad")).await;
    assert_eq!(bad.failure(), (400, "NoDeployment".into()));
}

#[tokio::test]
async fn formats() {
    let zoo = zoo(false);
    let value = async |format: &str| {
        let body = format!(r#"{{"path":"a:number","args":{{}}{format}}}"#);
        zoo.post("/api/query", body).await.json()["value"]["n"].clone()
    };
    let integer = json!({ "$integer": "AQAAAAAAAAA=" });
    assert_eq!(value(r#","format":"convex_encoded_json""#).await, integer);
    assert_eq!(value(r#","format":"json""#).await, json!("1"));
    assert_eq!(value("").await, json!("1"));
    let bad = zoo.post("/api/query", r#"{"path":"a:number","args":{},"format":"xml"}"#).await;
    assert_eq!(bad.failure(), (400, "BadFormat".into()));

    let client = |version: &str| {
        let request = Request::post("/api/query").header("convex-client", version);
        request.body(Body::from(r#"{"path":"a:number","args":{}}"#)).unwrap()
    };
    assert_eq!(zoo.send(client("npm-1.0.0")).await.json()["value"]["n"], integer);
    let run = Request::post("/api/run/a/number").header("convex-client", "npm-1.0.0");
    let run = zoo.send(run.body(Body::from("{}")).unwrap()).await;
    assert_eq!(run.json()["value"]["n"], json!("1"), "whoever asks");
    assert_eq!(zoo.send(client("npm-1.48.0")).await.json()["value"]["n"], json!("1"));
    assert_eq!(zoo.send(client("?")).await.failure(), (400, "InvalidClientVersion".into()));
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let echo = echo();
    let message = async |sent: &str| {
        let got = echo.post("/api/query", sent.to_owned()).await;
        assert_eq!(got.failure(), (400, "BadJsonBody".into()), "{sent}");
        got.json()["message"].as_str().unwrap().to_owned()
    };
    assert!(message("{\"path\":\n\"a:b\",,").await.contains("line 2 column 7"));
    assert!(message(r#"{"path":7,"args":{}}"#).await.contains("at `path`"));
    assert!(message(r#"{"args":{}}"#).await.contains("missing field `path`"));
    assert!(message(r#"{"path":"a","format":[]}"#).await.contains("at `format`"));
    assert!(message("").await.contains("empty"));
    assert!(message("[]").await.contains("line 1"));
    let array = message(r#"["a:b",{}]"#).await;
    assert!(array.contains("found an array, expected an object with the fields `path`"), "{array}");
    let path = echo.post("/api/query", r#"{"path":"a b:c","args":{}}"#).await;
    assert_eq!(path.failure(), (400, "InvalidFunctionPath".into()));
    for (path, encoding) in [("/api/query", "gzip"), ("/api/update_environment_variables", "br")] {
        let packed = Request::post(path).header(header::CONTENT_ENCODING, encoding);
        let got = echo.send(packed.body(Body::from("\u{1f}packed")).unwrap()).await;
        assert_eq!(got.failure(), (415, "UnsupportedContentEncoding".into()));
        assert!(got.json()["message"].as_str().unwrap().contains(encoding), "{}", got.body);
    }
    let as_it_is = Request::post("/api/query").header(header::CONTENT_ENCODING, "identity");
    let got = echo.send(as_it_is.body(Body::from(body("a:b"))).unwrap()).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let large = "x".repeat(usize::try_from(database::limits::HTTP_BODY_BYTES).unwrap() + 1);
    let got = echo.post("/api/query", large).await;
    assert_eq!(got.failure(), (413, "RequestBodyTooLarge".into()));
    assert!(got.json()["message"].as_str().unwrap().contains("16779216 bytes"));
}

#[tokio::test]
async fn queries_by_url_and_in_batches() {
    let zoo = zoo(false);
    let got = zoo.get("/api/query?path=a:b&args=%7B%7D&format=json").await;
    assert_eq!(got.json()["value"], "a.js:b");
    let got = zoo.get("/api/query?path=a:b&args=%7B").await;
    assert_eq!(got.failure(), (400, "BadJsonBody".into()));
    assert_eq!(zoo.get("/api/query").await.failure(), (400, "BadQueryParameters".into()));

    let now = zoo.fake.database.snapshot().ts.0.to_string();
    let batch = format!(r#"{{"queries":[{},{},{}]}}"#, body("a:at"), body("a:throws"), body("c:d"));
    let results = zoo.post("/api/query_batch", batch).await.json()["results"].clone();
    assert_eq!(results[0]["value"], json!(now));
    assert_eq!(results[1]["status"], "error");
    assert_eq!(results[2]["value"], "c.js:d");
}

#[tokio::test]
async fn a_batch_is_bounded_by_its_results() {
    let size = usize::try_from(database::limits::QUERY_BATCH_BYTES).unwrap() / 4;
    let large = bench(false, move |_| Ok(Ok(format!("\"{}\"", "x".repeat(size)))));
    let of = |count: usize| format!(r#"{{"queries":[{}]}}"#, vec![body("a:b"); count].join(","));
    assert_eq!(large.post("/api/query_batch", of(3)).await.status, 200);
    let got = large.post("/api/query_batch", of(5)).await;
    assert_eq!(got.failure(), (413, "QueryBatchTooLarge".into()));
}

#[tokio::test]
async fn consistent_queries_name_their_snapshot() {
    let zoo = zoo(false);
    let ts = zoo.post("/api/query_ts", "").await.json()["ts"].as_str().unwrap().to_owned();
    let sent = format!(r#"{{"path":"a:at","args":[{{}}],"ts":"{ts}"}}"#);
    let got = zoo.post("/api/query_at_ts", sent).await;
    assert_eq!(got.json()["value"], json!(zoo.fake.database.snapshot().ts.0.to_string()));
    let got = zoo.post("/api/query_at_ts", body("a:at")).await;
    assert_eq!(got.failure(), (400, "InvalidTimestamp".into()));
    // The year 2554.
    let sent = r#"{"path":"a:at","args":[{}],"ts":"//////////8="}"#;
    let got = zoo.post("/api/query_at_ts", sent).await;
    assert_eq!(got.failure(), (400, "InvalidTimestamp".into()));
    let said = got.json().to_string();
    assert!(said.contains("is in the future"), "{said}");
}

#[tokio::test]
async fn every_finished_call_is_told() {
    let zoo = zoo(false);
    zoo.post("/api/query", body("a:throws")).await;
    zoo.post("/api/query", body("a:busy")).await;
    zoo.post("/api/query", r#"{"path":"a:b","args":"x"}"#).await;
    let events = zoo.events.lock().unwrap();
    let [Event::Call(threw), Event::Call(busy), Event::Call(wrong)] = &events[..] else {
        panic!("three calls, got {events:?}");
    };
    assert_eq!((&*threw.path, threw.cached), ("a:throws", true));
    assert_eq!(threw.kind, Some(FunctionKind::Query));
    assert!(threw.error.as_ref().unwrap().starts_with("Uncaught Error: no"));
    assert_eq!(threw.log_lines.len(), 1);
    assert!(threw.duration_ns > 0);
    assert_eq!((busy.kind, busy.error.as_deref()), (None, Some("16 calls wait already.")));
    assert!(wrong.error.as_ref().unwrap().contains("Expected to receive an object"));
}

#[tokio::test]
async fn a_dropped_call_is_our_fault_and_says_so() {
    struct Forgets;
    impl Functions for Forgets {
        fn analyze(&self, _: Arc<Bundle>) -> Result<Arc<Analysis>, PushError> {
            Err(PushError::new("Forgotten", "forgotten"))
        }
        fn activate(&self, _: Arc<Bundle>, _: Arc<Analysis>) -> Result<Timestamp, PushError> {
            Err(PushError::new("Forgotten", "forgotten"))
        }
        fn call(&self, _: Call, reply: Reply) {
            drop(reply);
        }
    }
    let (mut server, fake, events) = server(false, Box::new(|_| Ok(Ok("null".into()))));
    server.functions = Arc::new(Forgets);
    let Routes { cloud, site } = Routes::new(server);
    let got = Bench { fake, cloud, site, events }.post("/api/query", body("a:b")).await;
    assert_eq!(got.failure(), (500, "InternalServerError".into()));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let bench = echo();
    *bench.fake.held.lock().unwrap() = Some(Vec::new());
    let got = bench.post("/api/action", r#"{"path":"a:b","args":{}}"#).await;
    assert_eq!(got.failure(), (504, "NoAnswer".into()), "{}", got.body);
    let seconds = database::limits::HTTP_CALL_MS / 1000;
    assert!(got.body.contains(&format!("within {seconds} s")), "{}", got.body);
    // What it came to is told all the same.
    assert!(bench.events.lock().unwrap().is_empty());
    for (reply, outcome) in bench.fake.held.lock().unwrap().take().unwrap() {
        reply(Ok(outcome));
    }
    assert_eq!(bench.events.lock().unwrap().len(), 1);
    let never = Body::from_stream(futures_util::stream::pending::<Result<&str, String>>());
    let got = bench.post("/api/query", never).await;
    assert_eq!(got.failure(), (408, "ClientDisconnect".into()), "{}", got.body);
}
