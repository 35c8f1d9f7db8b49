//! Actions over HTTP on loopback, beside the calls that they make, made by the client itself.
//!
//! In: the built program and `tests/actions`. Out: figures on standard output. Bounded: fixed
//! numbers of calls, one client, in alternating rounds.
//!
//!   make modules && cargo bench --profile fast --bench actions
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares a file with another"
)]

mod wire;

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use wire::{answer, connect, post, start_host, wait_for};

const HOST: u16 = 3395;
const ROUNDS: usize = 5;
const CALLS: usize = 200;
/// How calls follow each other: on two busy cores, or with contexts made ahead; milliseconds.
const PACES: [(&str, u64); 2] = [("one after another", 0), ("20 ms apart", 20)];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    cold().await;
    let mut host = start_host("tests/actions", HOST, &[]);
    wait_for(HOST).await;
    let mut socket = connect(HOST).await;
    warm(&mut socket).await;
    for (name, pause) in PACES {
        calls(&mut socket, name, Duration::from_millis(pause)).await;
    }
    host.kill().unwrap();
    host.wait().unwrap();
}

fn action(name: &str, args: &str) -> Vec<u8> {
    post(HOST, "/api/action", &format!(r#"{{"path":"acts:{name}","args":{args}}}"#))
}

/// The first action of a process: it is started for a push, so that push is killed first.
async fn cold() {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut host = start_host("tests/actions", HOST, &[]);
        wait_for(HOST).await;
        let mut socket = connect(HOST).await;
        answer(&mut socket, &action("nothing", "{}")).await;
        // The worker, not the host.
        let parent = host.id().to_string();
        let killed = std::process::Command::new("pkill")
            .args(["-KILL", "-P", &parent, "-f", "action-worker"])
            .status();
        assert!(killed.unwrap().success());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let start = Instant::now();
        answer(&mut socket, &action("nothing", "{}")).await;
        times.push(start.elapsed());
        host.kill().unwrap();
        host.wait().unwrap();
    }
    println!("cold: an action that returns null, its process not started: {}", median(&mut times));
}

/// An action that does nothing, with its thread and context made ahead, and without.
async fn warm(socket: &mut TcpStream) {
    for (name, pause) in PACES {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let start = Instant::now();
            answer(socket, &action("nothing", "{}")).await;
            times.push(start.elapsed());
        }
        times.sort();
        let (p50, p99) = (times[CALLS / 2], times[CALLS * 99 / 100]);
        println!("warm: an action that returns null, {name}: p50 {p50:.2?}, p99 {p99:.2?}");
    }
}

/// An action with one mutation and one query, against the two called by the client.
async fn calls(socket: &mut TcpStream, pace: &str, pause: Duration) {
    let (mut actions, mut pairs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let key = |of: &str, n: usize| format!(r#"{{"key":"{pace} {of} {round}-{n}"}}"#);
        let mut action_time = Duration::ZERO;
        let mut pair_time = Duration::ZERO;
        for n in 0..CALLS {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            answer(socket, &action("both", &key("action", n))).await;
            action_time += start.elapsed();
        }
        for n in 0..CALLS {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            for (kind, name) in [("mutation", "write"), ("query", "read")] {
                let args = key("pair", n);
                let body = format!(r#"{{"path":"acts:{name}","args":{args}}}"#);
                answer(socket, &post(HOST, &format!("/api/{kind}"), &body)).await;
            }
            pair_time += start.elapsed();
        }
        actions.push(action_time / u32::try_from(CALLS).unwrap());
        pairs.push(pair_time / u32::try_from(CALLS).unwrap());
    }
    let mut ratios: Vec<f64> =
        actions.iter().zip(&pairs).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "an action with one mutation and one query, {pace}: {}; the two from a client: {}",
        median(&mut actions),
        median(&mut pairs)
    );
    println!("  ratio: median {:.2}, min {:.2}, max {:.2}", ratios[2], ratios[0], ratios[4]);
}

fn median(times: &mut [Duration]) -> String {
    times.sort();
    format!("median {:.2?}, max {:.2?}", times[times.len() / 2], times[times.len() - 1])
}
