//! HTTP actions on the site port, beside `deno serve` with the smallest handler there is.
//!
//! In: the built program, `tests/hello`, and npm's `deno` in `benches/`. Out: figures on standard
//! output. Bounded: each round sends a fixed number of requests, in alternating rounds. The load
//! client, the host with its workers, and the peer are processes of their own on the same cores.
//!
//!   make modules && npm install --prefix benches && cargo bench --profile fast --bench site
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares files with others"
)]

mod deno;
mod load;
mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use load::storm;
use wire::{start_host, wait_for};

const HOST: u16 = 3391;
const SITE: u16 = HOST - 1;
const DENO: u16 = 3388;
const ROUNDS: usize = 5;
const REQUESTS: usize = 30_000;
/// Before the first round: contexts are made and compiled by then, on both sides.
const WARM_UP: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut host = start_host("tests/hello", HOST, &[]);
    let mut deno = start_deno();
    wait_for(SITE).await;
    wait_for(DENO).await;
    for connections in [1, 16] {
        let mut rounds = Vec::new();
        for port in [SITE, DENO] {
            storm(port, connections, &hello(port, WARM_UP)).await;
        }
        for _ in 0..ROUNDS {
            let ours = storm(SITE, connections, &hello(SITE, REQUESTS)).await;
            let theirs = storm(DENO, connections, &hello(DENO, REQUESTS)).await;
            rounds.push((ours, theirs));
        }
        print(connections, &mut rounds);
    }
    for child in [&mut host, &mut deno] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn hello(port: u16, requests: usize) -> VecDeque<Vec<u8>> {
    let request = format!("GET /hello HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    VecDeque::from(vec![request.into_bytes(); requests])
}

fn start_deno() -> Child {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    Command::new(deno::program().expect("npm's deno: npm install --prefix benches"))
        .args(["serve", "--host", "127.0.0.1", "--port", &DENO.to_string()])
        .arg(benches.join("peers/hello.js"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn print(connections: usize, rounds: &mut [(f64, f64)]) {
    let pairs: Vec<String> =
        rounds.iter().map(|(ours, theirs)| format!("({ours:.0}, {theirs:.0})")).collect();
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let ratio = |at: usize| rounds[at].0 / rounds[at].1;
    println!(
        "hello, {connections} connections: (ours, deno serve) requests/s {}\n  \
         ratio: median {:.2}, min {:.2}, max {:.2}",
        pairs.join(" "),
        ratio(ROUNDS / 2),
        ratio(0),
        ratio(ROUNDS - 1),
    );
}
