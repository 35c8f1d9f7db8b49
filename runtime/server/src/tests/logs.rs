//! What whoever tails the logs is told, and when.

use database::limits::{LOG_ENTRIES, LOG_ENTRY_BYTES, LOGS_WAIT_MS};

use super::*;

async fn logs(bench: &Bench, parameters: &str) -> Got {
    let with = (&*format!("Convex {KEY}"), String::new());
    bench.authorized(Method::GET, &format!("/api/stream_function_logs{parameters}"), with).await
}

async fn run(bench: &Bench, path: &str) {
    let body = format!(r#"{{"path":"{path}","args":{{}}}}"#);
    assert_eq!(bench.post("/api/query", body).await.status, 200);
}

/// Paths of the entries, and the cursor to go on from.
fn told(got: &Got) -> (Vec<String>, f64) {
    let json = got.json();
    let entries = json["entries"].as_array().unwrap().iter();
    let paths = entries.map(|entry| entry["identifier"].as_str().unwrap().to_owned()).collect();
    (paths, json["newCursor"].as_f64().unwrap())
}

#[tokio::test]
async fn history_comes_at_once_and_only_to_the_operator() {
    let bench = echo();
    let open = bench.get("/api/stream_function_logs?cursor=0").await;
    assert_eq!(open.failure(), (401, "MissingAdminKey".into()));
    // Nothing happened yet: a tail learns where it starts, at once.
    let (none, start) = told(&logs(&bench, "?cursor=0").await);
    assert!(none.is_empty() && start > 1.6e12, "{start}");

    bench.fake.log_lines.lock().unwrap().push(log_line("'hello'"));
    run(&bench, "a:one").await;
    run(&bench, "a:two").await;
    let all = logs(&bench, "?cursor=0").await;
    let (paths, newest) = told(&all);
    assert_eq!(paths, ["a:one", "a:two"]);
    assert_eq!(told(&logs(&bench, &format!("?cursor={start}")).await), (paths, newest));
    let entry = &all.json()["entries"][0];
    assert_eq!((&entry["kind"], &entry["udfType"]), (&"Completion".into(), &"Query".into()));
    assert_eq!(entry["caller"], "HttpApi");
    assert_eq!(entry["identityType"], "unknown");
    assert_eq!(entry["logLines"][0]["messages"], serde_json::json!(["'hello'"]));
    assert_eq!(entry["logLines"][0]["level"], "LOG");
    assert!(entry["timestamp"].as_f64().unwrap() < 1e10, "seconds: {entry}");
    assert!(entry["logLines"][0]["timestamp"].as_f64().unwrap() > 1e12, "milliseconds: {entry}");
    let filtered = logs(&bench, "?cursor=0&sessionId=x&clientRequestCounter=1").await;
    assert_eq!(filtered.failure(), (400, "NotSupported".into()));
}

#[tokio::test]
async fn a_tail_waits_for_what_comes_next_and_is_let_go() {
    let bench = Arc::new(echo());
    run(&bench, "a:one").await;
    let (_, cursor) = told(&logs(&bench, "?cursor=0").await);
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { told(&logs(&bench, &format!("?cursor={cursor}")).await).0 }
    });
    // A system function is the host's own and wakes nobody up with nothing.
    let system = serde_json::json!({ "path": "_system/cli/tables", "args": {} });
    assert_eq!(bench.admin("/api/query", system).await.status, 200);
    run(&bench, "a:two").await;
    assert_eq!(waiting.await.unwrap(), ["a:two"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_an_answer_after_a_while() {
    let bench = echo();
    run(&bench, "a:one").await;
    let (_, cursor) = told(&logs(&bench, "?cursor=0").await);
    let begun = tokio::time::Instant::now();
    let (none, same) = told(&logs(&bench, &format!("?cursor={cursor}")).await);
    assert!(none.is_empty());
    assert_eq!(same, cursor);
    assert_eq!(begun.elapsed().as_millis() / 1_000, u128::from(LOGS_WAIT_MS) / 1_000);
}

#[tokio::test]
async fn the_log_is_bounded_by_entries_and_by_bytes() {
    let bench = echo();
    for n in 0..=LOG_ENTRIES {
        run(&bench, &format!("a:f{n}")).await;
    }
    let (paths, _) = told(&logs(&bench, "?cursor=0").await);
    assert_eq!((paths.len() as u64, &*paths[0]), (LOG_ENTRIES, "a:f1"));
    bench.fake.log_lines.lock().unwrap().push(log_line(&"x".repeat(LOG_ENTRY_BYTES as usize / 4)));
    for n in 0..9 {
        run(&bench, &format!("a:fat{n}")).await;
    }
    assert_eq!(told(&logs(&bench, "?cursor=0").await).0, ["a:fat6", "a:fat7", "a:fat8"]);
}
