//! An Automerge document of 100 changes, loaded and read by a query.
//!
//! In: the built program and `examples/tasks-automerge`. Out: figures on standard output. Bounded:
//! fixed numbers of calls, one client; no answer comes from the cache, each call has an id of its
//! own in its arguments.
//!
//!   make modules && cargo bench --profile fast --bench automerge
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares a file with another"
)]

mod wire;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use wire::{answer, connect, post, start_host, wait_for};

const APP: &str = "examples/tasks-automerge";
const HOST: u16 = 3393;
const HOSTS: usize = 5;
const CALLS: usize = 100;
const CHANGES: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pieces = pieces().await;
    first(&pieces).await;
    warm(&pieces).await;
}

async fn call(socket: &mut TcpStream, kind: &str, path: &str, args: Value) -> Value {
    // The encoding in which bytes stay bytes.
    let format = "convex_encoded_json";
    let body = json!({ "path": path, "format": format, "args": [args] }).to_string();
    let answer = answer(socket, &post(HOST, &format!("/api/{kind}"), &body)).await;
    serde_json::from_str::<Value>(&answer).unwrap()["value"].take()
}

/// The changes of a document, as a client gets them: the first says what a list is.
async fn pieces() -> Vec<Value> {
    let mut host = start_host(APP, HOST, &[]);
    wait_for(HOST).await;
    let mut socket = connect(HOST).await;
    for text in 1..CHANGES {
        let args = json!({ "documentId": "d", "text": format!("task {text}") });
        call(&mut socket, "mutation", "documents:addTask", args).await;
    }
    let options = json!({ "numItems": CHANGES + 1, "cursor": null });
    let args = json!({ "documentId": "d", "paginationOpts": options });
    let mut pulled = call(&mut socket, "query", "sync:pullChanges", args).await;
    host.kill().unwrap();
    host.wait().unwrap();
    let rows = pulled["page"].as_array_mut().unwrap();
    assert_eq!(rows.len(), CHANGES);
    rows.iter_mut().map(|row| row["data"].take()).collect()
}

/// Stores the document under a name; no function that runs here needs Automerge.
async fn store(socket: &mut TcpStream, pieces: &[Value], name: &str) {
    for data in pieces {
        let args = json!({ "documentId": name, "data": data });
        call(socket, "mutation", "sync:submitChange", args).await;
    }
}

async fn read(socket: &mut TcpStream, name: &str) -> Duration {
    let start = Instant::now();
    let found = call(socket, "query", "documents:doc", json!({ "documentId": name })).await;
    let took = start.elapsed();
    assert_eq!(found["tasks"].as_array().unwrap().len(), CHANGES - 1);
    took
}

/// The first call in a process that has only just been pushed to.
async fn first(pieces: &[Value]) {
    let mut times = Vec::new();
    for _ in 0..HOSTS {
        let mut host = start_host(APP, HOST, &[]);
        wait_for(HOST).await;
        let mut socket = connect(HOST).await;
        store(&mut socket, pieces, "d").await;
        times.push(read(&mut socket, "d").await);
        host.kill().unwrap();
        host.wait().unwrap();
    }
    print("the first call of a process", &mut times);
}

/// Later calls, each of a document that no call has read before.
async fn warm(pieces: &[Value]) {
    let mut host = start_host(APP, HOST, &[]);
    wait_for(HOST).await;
    let mut socket = connect(HOST).await;
    for (name, pause) in [("warming up", 0), ("one after another", 0), ("20 ms apart", 20)] {
        for number in 0..CALLS {
            store(&mut socket, pieces, &format!("{name} {number}")).await;
        }
        let mut times = Vec::new();
        for number in 0..CALLS {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            times.push(read(&mut socket, &format!("{name} {number}")).await);
        }
        print(name, &mut times);
    }
    host.kill().unwrap();
    host.wait().unwrap();
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort();
    let (best, p50, last) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!(
        "a document of {CHANGES} changes in a query, {name}: best {best:.1?}, p50 {p50:.1?}, \
        max {last:.1?}"
    );
}
