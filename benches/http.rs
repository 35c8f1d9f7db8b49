//! The host over HTTP on loopback, beside a bare axum handler that returns the same bytes.
//!
//! In: the built program and `examples/transfer`. Out: tables on standard output. Bounded: each
//! round sends a fixed number of requests. The load client, the host and the bare handler are
//! processes of their own on the same two cores, so the client's work is part of every figure.
//!
//!   make modules && cargo bench --profile fast --bench http [-- served | fresh | documents]
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares a file with another"
)]

mod accounts;
mod load;
mod wire;

use std::collections::VecDeque;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use accounts::{ACCOUNTS, Random, Zipf};
use load::storm;
use wire::{answer, connect, post, start_host, wait_for};

const HOST: u16 = 3399;
const BARE: u16 = 3397;
/// A host that makes a context for each call.
const FRESH: u16 = 3395;
/// A host whose memory is looked at.
const LARGE: u16 = 3393;

fn main() {
    if is_asked("bare") {
        return tokio::runtime::Runtime::new().unwrap().block_on(serve_bare());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = !["served", "fresh", "documents"].into_iter().any(is_asked);
    if all || is_asked("served") {
        runtime.block_on(served());
    }
    if all || is_asked("fresh") {
        runtime.block_on(fresh());
    }
    if all || is_asked("documents") {
        runtime.block_on(documents());
    }
}

fn is_asked(part: &str) -> bool {
    std::env::args().any(|argument| argument == part)
}

/// As everybody gets it: contexts are kept where that is proved to make no difference.
async fn served() {
    let host = Stopped(start_host("examples/transfer", HOST, &[]));
    let bare = Command::new(std::env::current_exe().unwrap()).arg("bare").spawn().unwrap();
    let _bare = Stopped(bare);
    wait_for(HOST).await;
    wait_for(BARE).await;
    println!("resident after start with examples/transfer pushed: {} MB", host.resident_mb());
    seed(HOST).await;
    cached_query().await;
    point_reads().await;
    transfers(HOST, 30_000).await;
    flatness(&host).await;
}

/// A context for each call.
async fn fresh() {
    let _host = Stopped(start_host("examples/transfer", FRESH, &["--fresh-contexts"]));
    println!("with a fresh context for each call:");
    wait_for(FRESH).await;
    seed(FRESH).await;
    transfers(FRESH, 10_000).await;
}

/// A process that ends with its last use.
struct Stopped(Child);

impl Stopped {
    fn resident_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A query that the cache answers, against a handler that does nothing, in alternating rounds.
async fn cached_query() {
    let query = post(HOST, "/api/query", r#"{"path":"accounts:get_account","args":{"id":7}}"#);
    let bare = post(BARE, "/api/query", r#"{"path":"accounts:get_account","args":{"id":7}}"#);
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..5 {
        let ours = storm(HOST, 16, &VecDeque::from(vec![query.clone(); 20_000])).await;
        let theirs = storm(BARE, 16, &VecDeque::from(vec![bare.clone(); 20_000])).await;
        ratios.push(ours / theirs);
        rates.push((ours, theirs));
    }
    ratios.sort_by(f64::total_cmp);
    println!("cached query, 16 connections: (ours, bare axum) requests/s {}", rounded(&rates));
    println!("  ratio: median {:.2}, min {:.2}, max {:.2}", ratios[2], ratios[0], ratios[4]);
}

/// One client, a query that no cache has seen, with and without a pause before each.
async fn point_reads() {
    for (name, pause) in
        [("back to back", Duration::ZERO), ("2 ms apart", Duration::from_millis(2))]
    {
        let mut socket = connect(HOST).await;
        let mut times = Vec::new();
        for id in 0..1_000 {
            // The clients' own field `n` makes each question a new one.
            let id = id + 1_000 * u64::from(pause.is_zero());
            let body = format!(r#"{{"path":"accounts:get_account","args":{{"id":{id}}}}}"#);
            let request = post(HOST, "/api/query", &body);
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            answer(&mut socket, &request).await;
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "uncached point read, one client, {name}: p50 {:?}, p99 {:?}",
            times[500], times[990]
        );
    }
}

/// The two-document transfer, 16 connections, uniform and by Zipf's law.
async fn transfers(port: u16, calls: u64) {
    let mut random = Random(0x5eed);
    let zipf = Zipf::new(1.5);
    let mut rates = Vec::new();
    for _ in 0..3 {
        for skewed in [false, true] {
            let mut pick = || if skewed { zipf.pick(&mut random) } else { random.below(ACCOUNTS) };
            let requests = (0..calls).map(|_| {
                let (from, mut to) = (pick(), pick());
                if from == to {
                    to = (to + 1) % ACCOUNTS;
                }
                let args = format!(r#"{{"amount":1,"from_id":{from},"to_id":{to}}}"#);
                let body = format!(r#"{{"path":"transfer:transfer","args":{args}}}"#);
                post(port, "/api/mutation", &body)
            });
            rates.push(storm(port, 16, &requests.collect()).await);
        }
    }
    let pairs: Vec<(f64, f64)> = rates.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    println!("transfers/s, 16 connections (uniform, Zipf 1.5): {}", rounded(&pairs));
    let ratios: Vec<String> = pairs.iter().map(|(u, z)| format!("{:.2}", z / u)).collect();
    println!("  Zipf / uniform: {}", ratios.join(", "));
}

/// Resident memory with 100,000 documents of 200 bytes, each of them by a call of its own.
async fn documents() {
    let host = Stopped(start_host("tests/live", LARGE, &[]));
    wait_for(LARGE).await;
    let before = host.resident_mb();
    let body = "x".repeat(100);
    let calls = (0..100_000).map(|n| {
        let args = format!(r#"{{"list":"list-{:05}","body":"{body}"}}"#, n % 20_000);
        post(LARGE, "/api/mutation", &format!(r#"{{"path":"notes:add","args":{args}}}"#))
    });
    storm(LARGE, 16, &calls.collect()).await;
    let after = host.resident_mb();
    println!("resident: {before} MB, after 100,000 documents of 200 bytes: {after} MB");
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("resident two seconds later: {} MB", host.resident_mb());
}

/// Resident memory over calls.
async fn flatness(host: &Stopped) {
    let mut samples = Vec::new();
    for round in 0..10_u64 {
        let requests = (0..10_000_u64).map(|n| {
            let (from, to) = ((n * 7 + round) % ACCOUNTS, (n * 13 + 5) % ACCOUNTS);
            let to = if from == to { (to + 1) % ACCOUNTS } else { to };
            let args = format!(r#"{{"amount":1,"from_id":{from},"to_id":{to}}}"#);
            let body = format!(r#"{{"path":"transfer:transfer","args":{args}}}"#);
            post(HOST, "/api/mutation", &body)
        });
        storm(HOST, 16, &requests.collect()).await;
        samples.push(host.resident_mb().to_string());
    }
    println!("resident over 100,000 transfers, every 10,000, MB: {}", samples.join(" "));
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("resident two seconds later: {} MB", host.resident_mb());
}

async fn seed(port: u16) {
    let calls = (0..5).map(|n| {
        let args = format!(r#"{{"start":{},"count":2000,"initial":1000000}}"#, n * 2_000);
        post(port, "/api/mutation", &format!(r#"{{"path":"seed:seed_range","args":{args}}}"#))
    });
    storm(port, 1, &calls.collect()).await;
}

/// The peer: axum, one route, the bytes that the cached query answers with.
async fn serve_bare() {
    // As long, and of the same shape, as what the cached query answers.
    let id = "j57abababababababababababababababab";
    let body =
        format!(r#"{{"status":"success","value":{{"_creationTime":1700000000000.25,"_id":"{id}","#)
            + r#""balance":1000000,"id":7}}"#;
    let body = bytes::Bytes::from(body);
    let handler = move |_: axum::body::Bytes| {
        let body = body.clone();
        async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], body) }
    };
    let routes = axum::Router::new().route("/api/query", axum::routing::post(handler));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", BARE)).await.unwrap();
    axum::serve(listener, routes).await.unwrap();
}

fn rounded(pairs: &[(f64, f64)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("({a:.0}, {b:.0})")).collect();
    pairs.join(" ")
}
