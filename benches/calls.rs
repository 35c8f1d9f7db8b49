//! Calls in process, without HTTP: what a fresh context costs, transfers per second, and a call
//! beside a bare V8 call of the same bundle.
//!
//! In: `examples/transfer`, bundled and pushed as `concave push` does; npm's `deno` in `benches/`.
//! Out: a table on standard output. Bounded by counts.
//!
//!   make modules && cargo bench --profile fast --bench calls
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares a file with the tests"
)]

mod accounts;
mod deno;
#[path = "../tests/deployed.rs"]
mod deployed;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bundler::{BundledModule, Bundler, Project};
use concave::purity::Reader;
use database::deployment::{Bundle, Environment, Module};
use database::record::{Call, Functions as _};
use functions::Host;
use functions::reuse::Purity;

use accounts::{ACCOUNTS, Random, Zipf};
use deployed::Deployed;

/// Calls in flight: enough to keep every isolate busy, few enough to keep contention realistic.
const IN_FLIGHT: usize = 16;

fn main() {
    for (threads, contexts) in [(1, "fresh"), (1, "kept"), (2, "fresh"), (2, "kept")] {
        let purity = (contexts == "kept").then(|| Arc::new(Reader) as Arc<dyn Purity>);
        let deployed = Deployed::proved_by(threads, purity);
        deployed.push_bundle(transfer_bundle()).unwrap();
        for start in (0..ACCOUNTS).step_by(2_000) {
            let args = format!(r#"{{"start":{start},"count":2000,"initial":1000000}}"#);
            deployed.value("seed:seed_range", &args);
        }
        for name in ["uniform", "Zipf 1.5"] {
            let zipf = Zipf::new(1.5);
            let mut random = Random(0x5eed);
            let mut pick =
                || if name == "uniform" { random.below(ACCOUNTS) } else { zipf.pick(&mut random) };
            let calls = (0..10_000).map(|_| transfer(&deployed, &mut pick)).collect();
            let (rate, conflicts) = run(&deployed, calls);
            let of = format!("{threads} isolates, {contexts}, transfer, {name}");
            println!("{of}: {rate:.0}/s, {conflicts} conflicts");
        }
        let reads = (0..10_000).map(|id| read(&deployed, id)).collect();
        let rate = run(&deployed, reads).0;
        println!("{threads} isolates, {contexts}, uncached point read: {rate:.0}/s");
        if threads == 1 {
            idle_latency(&deployed);
        }
    }
    match bare() {
        Some(us) => println!("the same read, bare V8 (deno), one warm context: {us:.1} µs a call"),
        None => println!("npm's deno is not installed: no bare V8 (npm install --prefix benches)"),
    }
    let trivial = "import { query } from \"./abi.js\"; export const f = query(() => 1);";
    let deployed = Deployed::on_threads(1);
    deployed.push(&[("m", trivial)]).unwrap();
    let calls = (0..10_000).map(|n| deployed.make("m:f", &format!(r#"{{"n":{n}}}"#))).collect();
    let rate = run(&deployed, calls).0;
    println!("1 isolate, a query that returns 1, no library: {:.3} ms a call", 1e3 / rate);
}

/// Point reads with the thread idle before each: the context is ready, the call alone is timed.
fn idle_latency(deployed: &Deployed) {
    let mut times: Vec<Duration> = (0..1_000)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(2));
            let call = read(deployed, ACCOUNTS + 20_000 + n);
            let start = Instant::now();
            deployed.start(call).recv().unwrap().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("1 isolate, point read 2 ms apart: p50 {:?}, p99 {:?}", times[500], times[990]);
}

/// What the read of an account costs where V8 has nothing else to do, in microseconds.
fn bare() -> Option<f64> {
    let folder = tempfile::tempdir().unwrap();
    for (path, module) in &transfer_bundle().modules {
        let file = folder.path().join(&**path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, &*module.source).unwrap();
    }
    let module = format!("file://{}", folder.path().join("accounts.js").display());
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/bare.js");
    let mut deno = std::process::Command::new(deno::program()?);
    let run = deno.args(["run", "--no-prompt", "--allow-read", "--allow-env"]).arg(peer);
    let done = run.args([&*module, "20000"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(String::from_utf8(done.stdout).unwrap().trim().parse().unwrap())
}

fn read(deployed: &Deployed, id: u64) -> Call {
    deployed.make("accounts:get_account", &format!(r#"{{"id":{id}}}"#))
}

fn transfer(deployed: &Deployed, pick: &mut impl FnMut() -> u64) -> Call {
    let (from, mut to) = (pick(), pick());
    if from == to {
        to = (to + 1) % ACCOUNTS;
    }
    let args = format!(r#"{{"amount":1,"from_id":{from},"to_id":{to}}}"#);
    deployed.make("transfer:transfer", &args)
}

/// Calls per second, and conflicts in all. A closed loop: every answer starts the next call on the
/// thread it arrives on, so that nothing but calls is measured.
fn run(deployed: &Deployed, calls: VecDeque<Call>) -> (f64, usize) {
    let count = calls.len();
    let (all_done, done) = mpsc::channel();
    let round = Arc::new(Round {
        host: Arc::clone(&deployed.host),
        left: Mutex::new(calls),
        answered: AtomicUsize::new(0),
        conflicts: AtomicUsize::new(0),
        count,
        all_done,
    });
    let start = Instant::now();
    (0..IN_FLIGHT).for_each(|_| round.next());
    done.recv().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "thousands of calls")]
    let rate = count as f64 / start.elapsed().as_secs_f64();
    (rate, round.conflicts.load(Ordering::Relaxed))
}

/// Calls still to be made, and what came of the others.
struct Round {
    host: Arc<Host>,
    left: Mutex<VecDeque<Call>>,
    answered: AtomicUsize,
    conflicts: AtomicUsize,
    count: usize,
    all_done: mpsc::Sender<()>,
}

impl Round {
    fn next(self: &Arc<Self>) {
        let Some(call) = self.left.lock().unwrap().pop_front() else { return };
        let round = Arc::clone(self);
        self.host.call(
            call,
            Box::new(move |answer| {
                let outcome = answer.unwrap();
                assert!(outcome.result.is_ok(), "{:?}", outcome.result);
                round.conflicts.fetch_add(outcome.retries.len(), Ordering::Relaxed);
                round.next();
                if round.answered.fetch_add(1, Ordering::Relaxed) + 1 == round.count {
                    round.all_done.send(()).unwrap();
                }
            }),
        );
    }
}

fn transfer_bundle() -> Bundle {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transfer");
    let project = Project::find(&example).unwrap();
    let output = Bundler::new().bundle(&project).unwrap_or_else(|e| panic!("{e}\nmake modules"));
    let module = |bundled: &BundledModule| Module {
        path: bundled.path.as_str().into(),
        source: bundled.source.as_str().into(),
        source_map: bundled.source_map.as_deref().map(Into::into),
        environment: Environment::Isolate,
    };
    let modules = output.modules.iter().map(module);
    Bundle {
        modules: modules.map(|module| (Arc::clone(&module.path), module)).collect(),
        schema: output.schema.as_ref().map(module),
        ..Bundle::default()
    }
}
