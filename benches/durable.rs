//! Durable transfers over HTTP, beside the same in memory, better-sqlite3 and PostgreSQL.
//!
//! In: the built program, `examples/transfer`, `benches/peers` with its packages, PostgreSQL's
//! programs. Out: tables on standard output. Bounded: each round sends a fixed number of requests,
//! in alternating rounds. All data is on one file system; everybody syncs before each answer. The
//! load client, the hosts and the peers are processes on the same cores. With `peers`, `checkpoint`
//! or `restart` as arguments only those parts run.
//!
//!   make modules && npm ci --prefix benches/peers && apt-get install postgresql
//!   cargo bench --profile fast --bench durable
#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares files with others"
)]

mod accounts;
mod load;
mod postgres;
mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use accounts::{ACCOUNTS, Random, Zipf};
use load::{storm, timed};
use postgres::Postgres;
use wire::{answer, connect, post, start_host, start_host_with, wait_for};

const APP: &str = "examples/transfer";
const MEMORY: u16 = 3387;
const DURABLE: u16 = 3385;
const SQLITE: u16 = 3383;
const PEER: u16 = 3381;
const POSTGRES: u16 = 3379;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const REQUESTS: usize = 10_000;
/// The peers' rounds last as long with fewer.
const PEER_REQUESTS: usize = 3_000;
/// Documents of the restart.
const DOCUMENTS: u64 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| part != "--bench").collect();
    let runs = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if runs("peers") {
        peers(folder.path()).await;
    }
    if runs("checkpoint") {
        checkpoints(folder.path()).await;
    }
    if runs("restart") {
        restart(folder.path()).await;
    }
}

/// Requests a second of everybody, in turns.
async fn peers(folder: &Path) {
    let mut random = Random(0x5eed);
    let mut memory = start_host(APP, MEMORY, &[]);
    let data = folder.join("data");
    let mut durable = start_host_with(Some(APP), DURABLE, &["--data", data.to_str().unwrap()]);
    let mut sqlite = start_peer("sqlite.mjs", &[SQLITE.to_string(), path(folder, "peer.sqlite")]);
    let postgres = Postgres::start(folder, POSTGRES);
    for port in [MEMORY, DURABLE] {
        wait_for(port).await;
        seed(port, 0..ACCOUNTS).await;
    }
    wait_for(SQLITE).await;
    let mut ports = vec![MEMORY, DURABLE, SQLITE];
    let mut peer = postgres.as_ref().map(|_| {
        let user = postgres::USER.to_owned();
        start_peer("postgres.mjs", &[PEER.to_string(), POSTGRES.to_string(), user])
    });
    if peer.is_some() {
        wait_for(PEER).await;
        ports.push(PEER);
    } else {
        println!("PostgreSQL is not installed here, and left out (Debian's package: postgresql)");
    }
    for pick in [Pick::Uniform, Pick::Zipf(Zipf::new(1.5))] {
        let mut rounds: Vec<Vec<f64>> = Vec::new();
        for round in 0..=ROUNDS {
            let mut rates = Vec::new();
            for port in &ports {
                let count = if [MEMORY, DURABLE].contains(port) { REQUESTS } else { PEER_REQUESTS };
                let requests = transfers(*port, count, &pick, &mut random);
                rates.push(storm(*port, CONNECTIONS, &requests).await);
            }
            // The first one warms everybody up.
            if round > 0 {
                rounds.push(rates);
            }
        }
        print(&pick, &rounds);
    }
    for child in [&mut memory, &mut durable, &mut sqlite].into_iter().chain(&mut peer) {
        end(child);
    }
}

/// How accounts are picked.
enum Pick {
    Uniform,
    Zipf(Zipf),
}

impl Pick {
    fn name(&self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf(_) => "Zipf 1.5",
        }
    }

    fn account(&self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform => random.below(ACCOUNTS),
            Self::Zipf(zipf) => zipf.pick(random),
        }
    }
}

fn print(pick: &Pick, rounds: &[Vec<f64>]) {
    let names = ["durable", "in memory", "better-sqlite3", "PostgreSQL SERIALIZABLE"];
    let pick = pick.name();
    println!("transfers/s, {pick}, {CONNECTIONS} connections (in memory, durable, the peers):");
    for rates in rounds {
        let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("  {}", rates.join("  "));
    }
    for (at, name) in [0, 2, 3].into_iter().zip(&names[1..]) {
        let ratios: Option<Vec<f64>> =
            rounds.iter().map(|rates| Some(rates[1] / rates.get(at)?)).collect();
        if let Some(mut ratios) = ratios {
            ratios.sort_by(f64::total_cmp);
            let (median, last) = (ratios[ratios.len() / 2], ratios.len() - 1);
            let (min, max) = (ratios[0], ratios[last]);
            println!("{pick}, durable / {name}: median {median:.2}, min {min:.2}, max {max:.2}");
        }
    }
}

/// What those wait who ask while a checkpoint is made, beside those who ask when none is.
async fn checkpoints(folder: &Path) {
    let data = folder.join("checkpoints");
    let mut host = start_host_with(Some(APP), DURABLE, &["--data", data.to_str().unwrap()]);
    wait_for(DURABLE).await;
    seed(DURABLE, 0..ACCOUNTS).await;
    let mut random = Random(0x5eed);
    storm(DURABLE, CONNECTIONS, &transfers(DURABLE, REQUESTS, &Pick::Uniform, &mut random)).await;
    let watch = std::thread::spawn(watch_checkpoints);
    let requests = transfers(DURABLE, 20 * REQUESTS, &Pick::Uniform, &mut random);
    let times = timed(DURABLE, CONNECTIONS, &requests).await;
    end(&mut host);
    let made = watch.join().unwrap();
    let (mut beside, mut without) = (Vec::new(), Vec::new());
    for (sent, answered) in times {
        let is_beside = made.iter().any(|(from, to)| sent < *to && answered > *from);
        if is_beside { &mut beside } else { &mut without }.push(answered - sent);
    }
    let p99 = |times: &mut Vec<Duration>| {
        times.sort();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    };
    println!("{} checkpoints beside {CONNECTIONS} connections:", made.len());
    let (beside, without) = ((beside.len(), p99(&mut beside)), (without.len(), p99(&mut without)));
    println!("  p99 of {} transfers beside them {:?}", beside.0, beside.1);
    println!("  p99 of {} transfers without {:?}", without.0, without.1);
    println!("  ratio {:.2}", beside.1.as_secs_f64() / without.1.as_secs_f64());
}

/// When checkpoints were made, until the host is gone: from the moment the log is long enough until
/// it is shorter.
fn watch_checkpoints() -> Vec<(Instant, Instant)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut made = Vec::new();
    let mut begun = None;
    while let Some(bytes) = runtime.block_on(log_bytes(DURABLE)) {
        let now = Instant::now();
        if bytes > database::limits::CHECKPOINT_BYTES {
            begun = begun.or(Some(now));
        } else if let Some(begun) = begun.take() {
            made.push((begun, now));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    made
}

/// Bytes of the log since the checkpoint; `None`: nobody is there.
async fn log_bytes(port: u16) -> Option<u64> {
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Convex {}\r\n\
         Connection: close\r\n\r\n",
        wire::KEY
    );
    let answer = wire::whole(&mut socket, request.as_bytes()).await.ok()?;
    let line = answer.lines().find(|line| line.starts_with("concave_disk_log_bytes "))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// From the start of the process to its first answer, with a million documents in the folder.
async fn restart(folder: &Path) {
    let data = folder.join("restart");
    let data = data.to_str().unwrap();
    let mut host = start_host_with(Some(APP), DURABLE, &["--data", data]);
    wait_for(DURABLE).await;
    seed(DURABLE, 0..DOCUMENTS).await;
    let mut random = Random(0x5eed);
    storm(DURABLE, CONNECTIONS, &transfers(DURABLE, REQUESTS, &Pick::Uniform, &mut random)).await;
    println!("restart with {DOCUMENTS} documents, until a query is answered:");
    for how in ["killed", "killed again", "stopped"] {
        if how == "stopped" {
            // As with Ctrl-C.
            let pid = host.id().to_string();
            Command::new("kill").args(["-INT", &pid]).status().unwrap();
            host.wait().unwrap();
        } else {
            end(&mut host);
        }
        let start = Instant::now();
        host = start_host_with(None, DURABLE, &["--data", data]);
        let body =
            format!(r#"{{"path":"accounts:get_account","args":{{"id":{}}}}}"#, DOCUMENTS - 1);
        let request = post(DURABLE, "/api/query", &body);
        while !wire::is_answered(DURABLE, &request).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("  {how}: {:?}", start.elapsed());
    }
    end(&mut host);
}

/// Transfers between two accounts.
fn transfers(port: u16, count: usize, pick: &Pick, random: &mut Random) -> VecDeque<Vec<u8>> {
    let one = |_| {
        let (from, mut to) = (pick.account(random), pick.account(random));
        if from == to {
            to = (to + 1) % ACCOUNTS;
        }
        let args = format!(r#"{{"amount":1,"from_id":{from},"to_id":{to}}}"#);
        post(port, "/api/mutation", &format!(r#"{{"path":"transfer:transfer","args":{args}}}"#))
    };
    (0..count).map(one).collect()
}

async fn seed(port: u16, accounts: std::ops::Range<u64>) {
    let mut socket = connect(port).await;
    for start in accounts.step_by(5_000) {
        let args = format!(r#"{{"start":{start},"count":5000,"initial":1000000}}"#);
        let body = format!(r#"{{"path":"seed:seed_range","args":{args}}}"#);
        answer(&mut socket, &post(port, "/api/mutation", &body)).await;
    }
}

fn start_peer(file: &str, arguments: &[String]) -> Child {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    assert!(peers.join("node_modules").exists(), "npm ci --prefix benches/peers");
    Command::new("node")
        .arg(peers.join(file))
        .args(arguments)
        .args([ACCOUNTS.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
