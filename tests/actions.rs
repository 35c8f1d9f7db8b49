//! The pool of workers with real processes: what an action does to its process, it does to no
//! other.
//!
//! In: functions in plain JavaScript that loop, eat memory, stream and die. Out: an end for each of
//! them, and the next call works. Invariant: the host is this test's process, and it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actions::pool::{
    CallLimits, Callbacks, Code, Config, Content, Ended, Input, Job, Pool, Reply, Replying,
    Running, Syscall,
};
use actions::protocol::{End, ImportPhase, Limits, Network, Residents};
use database::limits;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// What `action(…)` and `httpRouter()` of npm's `convex/server` come down to.
const ABI: &str = r#"
export const action = (handler) => ({
    isAction: true,
    invokeAction: async (id, args) =>
        JSON.stringify(await handler(JSON.parse(args)[0], id) ?? null),
});
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const host = async (op, args = {}) =>
    JSON.parse(await Convex.asyncSyscall(op, JSON.stringify(args)));
"#;

const HOSTILE: &str = r#"
import { action, host, sleep } from "./abi.js";
globalThis.runs = (globalThis.runs ?? 0) + 1;
export const one = action(() => globalThis.runs);
export const again = action(() => globalThis.again = (globalThis.again ?? 0) + 1);
export const waits = action(async ({ ms }) => { await sleep(ms); return "waited"; });
export const loops = action(() => { for (;;) {} });
export const eats = action(() => { const all = []; for (;;) all.push(new Array(1000).fill(all)); });
export const counts = action(() => { for (;;) new Array(1000).fill(0); });
export const bursts = action(() => "x".repeat(1000).split("").map(() => new Array(1e7).fill(1)));
export const buffers = action(() => {
    const kept = [];
    try {
        for (;;) kept.push(new Uint8Array(1 << 20));
    } catch (error) {
        return [error.name, kept.length];
    }
});
export const drops = action(({ times, megabytes }) => {
    let made = 0;
    for (; made < times; made++) new Uint8Array(megabytes << 20)[made] = 1;
    return made;
});
const grower = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0,
    5, 3, 1, 0, 1, 7, 5, 1, 1, 103, 0, 0, 10, 8, 1, 6, 0, 32, 0, 64, 0, 11]);
const memory = (initial) => new WebAssembly.Memory({ initial });
export const wasm = action(async ({ how }) => {
    const kept = [];
    const make = {
        filled: () => kept.push(new Uint8Array(memory(160).buffer).fill(1)),
        untouched: () => kept.push(memory(160)),
        buffers: () => kept.push(memory(160).buffer),
        empty: () => kept.push(memory(0)),
        grown: () => kept.push(memory(1)) && kept.at(-1).grow(160),
        again: () => kept.push(Reflect.construct(memory(0).constructor, [{ initial: 160 }])),
        hidden: () => kept.push(new WebAssembly.Instance(new WebAssembly.Module(grower))),
        inside: async () => {
            const { instance } = await WebAssembly.instantiate(grower);
            kept.push(instance.exports.g(160));
            kept.push(instance);
        },
    }[how];
    for (;;) await make();
});
export const frees = action(() => {
    for (let n = 0; n < 60; n += 1) new Uint8Array(memory(160).buffer).fill(1);
    return "freed";
});
export const asks = action(({ op }) => host(op, { a: [1] }));
export const floods = action(({ count, length }) => Promise.race(
    Array.from({ length: count }, () =>
        host("hangs", { text: "x".repeat(length) }).catch((error) => error.message))));
export const stores = new AsyncLocalStorage();
export const context = action(() => stores.run("kept", async () => {
    await sleep(1);
    await host("echo");
    return [stores.getStore(), await new Promise((resolve) =>
        setTimeout(() => resolve(stores.getStore()), 1))];
}));
export const logs = action(() => { for (let n = 0; n < 1000; n += 1) console.log(n); });
export const shouts = action(() => console.warn("é".repeat(40000)));
export const rejects = action(async () => { Promise.reject(new Error("lost")); await sleep(50); });
export const loses = action(async ({ wait }) => {
    if (wait) await sleep(1);
    Promise.reject(null);
    return "ok";
});
const late = () => { throw new Error("late"); };
export const timer = action(async () => { setTimeout(late); await sleep(50); });
export const leaks = action(() => {
    (globalThis.kept ??= []).push(new Array(250_000).fill(1), new Uint8Array(1 << 20));
    return globalThis.kept.length / 2;
});
export const lingers = action(() => { setTimeout(() => {}, 100_000); });
export const random = action(() => Math.random());
export const env = action(() => [process.env.NAME, process.env.NONE ?? null]);
export const sees = action(() =>
    [typeof Deno, typeof __bootstrap, typeof __concave, typeof window]);
"#;

/// A pool under test.
struct Tested {
    pool: Arc<Pool>,
    code: Arc<Code>,
    environment: Arc<BTreeMap<String, String>>,
}

/// Answers calls of tests.
struct Host;

impl Callbacks for Host {
    fn syscall(&self, Syscall { op, json, body }: Syscall) -> Replying {
        Box::pin(async move {
            match op.as_str() {
                "echo" => Reply::json(json),
                "fails" => Reply::error("the host says no"),
                "hangs" => std::future::pending().await,
                "sink" => {
                    let mut body = body.unwrap();
                    let mut bytes = 0;
                    while let Some(chunk) = body.recv().await {
                        bytes += chunk.unwrap().len();
                    }
                    Reply::json(bytes.to_string())
                }
                other => Reply::error(format!("Unknown async operation {other}")),
            }
        })
    }
}

/// Answers everybody once all are there.
struct Meeting(Arc<tokio::sync::Barrier>);

impl Callbacks for Meeting {
    fn syscall(&self, _: Syscall) -> Replying {
        let all = Arc::clone(&self.0);
        Box::pin(async move {
            all.wait().await;
            Reply::json("null")
        })
    }
}

fn config() -> Config {
    Config {
        program: PathBuf::from(env!("CARGO_BIN_EXE_concave")),
        arguments: vec!["action-worker".into()],
        runtime: Handle::current(),
        limits: concave::outside::limits_of_a_run(),
        calls: concave::outside::calls_of_a_run(),
        runs_per_process: usize::try_from(limits::ACTIONS_PER_PROCESS).unwrap(),
        runs: usize::try_from(limits::ACTIONS_AT_ONCE).unwrap(),
        retire_after: limits::ACTIONS_OF_A_PROCESS,
        idle: Duration::from_millis(limits::ACTION_PROCESS_IDLE_MS),
        network: Network::default(),
        node: None,
        residents: Residents::default(),
        keep: None,
    }
}

impl Tested {
    fn new(config: Config, modules: &[(&str, &str)]) -> Self {
        let modules = modules.iter().chain(&[("abi.js", ABI)]);
        let modules = modules.map(|(path, source)| ((*path).into(), (*source).into())).collect();
        let code = Code { version: "1".into(), modules, ..Code::default() };
        let environment = BTreeMap::from([("NAME".to_owned(), "value".to_owned())]);
        Self { pool: Pool::start(config), code: Arc::new(code), environment: environment.into() }
    }

    fn hostile(config: Config) -> Self {
        Self::new(config, &[("hostile.js", HOSTILE)])
    }

    fn job(&self, export: &str, args: &str) -> Job {
        Job {
            code: Arc::clone(&self.code),
            environment: Arc::clone(&self.environment),
            module: "hostile.js".into(),
            export: export.into(),
            request_id: "0123456789abcdef".into(),
            timeout: Duration::from_millis(limits::ACTION_TIME_MS),
            reuse: false,
            input: Input::Action { arguments: format!("[{args}]") },
        }
    }

    async fn run(&self, job: Job) -> Ended {
        match self.pool.run(job, Arc::new(Host)).await {
            Ok(mut running) => running.end().await,
            Err(refused) => refused,
        }
    }

    /// The JSON text of an action that must succeed.
    async fn value(&self, export: &str, args: &str) -> String {
        let Ended { end, result, .. } = self.run(self.job(export, args)).await;
        assert_eq!(end, End::Returned, "{export}");
        result
    }

    /// The error text of an action that must fail.
    async fn error(&self, job: Job) -> String {
        match self.run(job).await {
            Ended { end: End::Threw(thrown), .. } => thrown.message,
            other => panic!("{other:?}"),
        }
    }

    /// The one process.
    fn pid(&self) -> u32 {
        let [(pid, _)] = self.pool.processes()[..] else { panic!("{:?}", self.pool.processes()) };
        pid
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        self.pool.shut_down();
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_isolated_from_each_other_and_from_the_host() {
    let tested = Tested::hostile(config());
    for _ in 0..3 {
        assert_eq!(tested.value("one", "{}").await, "1", "no run sees another's globals");
    }
    assert_eq!(tested.value("env", "{}").await, r#"["value",null]"#);
    let nothing = r#"["undefined","undefined","undefined","undefined"]"#;
    assert_eq!(tested.value("sees", "{}").await, nothing);
    assert_eq!(tested.value("asks", r#"{"op":"echo"}"#).await, r#"{"a":[1]}"#);
    let no = tested.error(tested.job("asks", r#"{"op":"fails"}"#)).await;
    assert_eq!(no, "Uncaught Error: the host says no");
    assert_ne!(tested.value("random", "{}").await, tested.value("random", "{}").await);
    tested.pid();
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_of_the_snapshot_are_evaluated_once_and_each_context_has_its_own() {
    let resident = r#"
        import { action } from "./abi.js";
        const found = [typeof Deno, typeof __bootstrap, typeof __concave, typeof AsyncLocalStorage];
        const [now, drawn] = [Date.now(), Math.random()];
        let count = 0;
        export const tells = action(() => [count++, now, found, typeof __concave,
            drawn === Math.random(), Math.abs(Date.now() - now) > 1000]);
    "#;
    let modules = [("resident.js", resident), ("abi.js", ABI)];
    let residents = |modules: &[(&str, &str)]| Residents {
        modules: modules.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect(),
        entry: "resident.js".into(),
        import: ImportPhase { now_ms: 7, seed: [1; 8] },
    };
    let folder = tempfile::tempdir().unwrap();
    let keep = Some(keep::Shelf { path: folder.path().join("kept"), most: 2 });
    // The second pool finds the snapshot of the first.
    for _ in 0..2 {
        let config = Config { residents: residents(&modules), keep: keep.clone(), ..config() };
        let tested = Tested::new(config, &[]);
        let nothing = r#"["undefined","undefined","undefined","function"],"undefined""#;
        for _ in 0..2 {
            let job = Job { module: "resident.js".into(), ..tested.job("tells", "{}") };
            let Ended { result, .. } = tested.run(job).await;
            assert_eq!(result, format!("[0,7,{nothing},false,true]"));
        }
    }
    let broken = residents(&[("resident.js", "throw new Error('at import')")]);
    let tested = Tested::new(Config { residents: broken, ..config() }, &[]);
    let why = tested.error(tested.job("one", "{}")).await;
    assert!(why.contains("at import"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_shared_by_runs_that_may_and_left_it_clean() {
    let limits = Limits { context_runs: 4, ..config().limits };
    let mut tested = Tested::hostile(Config { limits, ..config() });
    let again = |tested: &Tested, export: &str| Job { reuse: true, ..tested.job(export, "{}") };
    for wanted in ["1", "2", "3", "4", "1"] {
        assert_eq!(tested.run(again(&tested, "again")).await.result, wanted);
    }
    assert_eq!(tested.value("again", "{}").await, "1", "who does not ask has one of its own");
    for (how, wanted) in [("lingers", "null"), ("rejects", ""), ("timer", "")] {
        assert_eq!(tested.run(again(&tested, how)).await.result, wanted, "{how}");
        assert_eq!(tested.run(again(&tested, "again")).await.result, "1", "after {how}");
    }
    let two = || tested.run(again(&tested, "waits"));
    let (one, other) = tokio::join!(two(), two());
    assert_eq!((one.end, other.end), (End::Returned, End::Returned), "never two at once");
    tested.environment = Arc::new(BTreeMap::from([("NAME".to_owned(), "new".to_owned())]));
    assert_eq!(tested.run(again(&tested, "env")).await.result, r#"["new",null]"#);
    assert_eq!(tested.run(again(&tested, "again")).await.result, "1", "it saw other variables");
    tested.pid();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_share_contexts_hold_nobody_up() {
    let tested = Arc::new(Tested::hostile(config()));
    let again = |export: &str, args: &str| Job { reuse: true, ..tested.job(export, args) };
    let cores = std::thread::available_parallelism().unwrap().get();
    // Who waits for something outside has given its turn back: all of them are there at once.
    let count = 4 * cores + 3;
    let meeting = Meeting(Arc::new(tokio::sync::Barrier::new(count)));
    let meeting: Arc<dyn Callbacks> = Arc::new(meeting);
    let asked = (0..count).map(|_| {
        let job = again("asks", r#"{"op":"meet"}"#);
        let (tested, meeting) = (Arc::clone(&tested), Arc::clone(&meeting));
        tokio::spawn(async move { tested.pool.run(job, meeting).await.unwrap().end().await })
    });
    for ended in asked.collect::<Vec<_>>() {
        assert_eq!(ended.await.unwrap().result, "null");
    }
    // Who computes without an end has company after a while: it still runs when others have ended.
    let looping = (0..cores).map(|_| {
        let timeout = Duration::from_secs(30);
        let job = Job { timeout, ..again("loops", "{}") };
        let tested = Arc::clone(&tested);
        tokio::spawn(async move { tested.run(job).await.end })
    });
    let looping: Vec<_> = looping.collect();
    for _ in 0..3 {
        assert_eq!(tested.run(again("again", "{}")).await.end, End::Returned);
    }
    let all = tested.pool.processes().iter().map(|(_, load)| load).sum::<usize>();
    assert_eq!(all, cores, "nobody waited for the loops to be stopped");
    looping.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_tell_that_a_module_was_imported_ahead() {
    const QUIET: &str = r#"
        import { action } from "./abi.js";
        const name = process.env.NAME;
        let runs = 0;
        export const sees = action(() => [name, ++runs]);
    "#;
    const LOUD: &str = r#"
        import { action } from "./abi.js";
        console.log("imported");
        export const sees = action(() => 1);
    "#;
    const BROKEN: &str = r#"
        import { action } from "./abi.js";
        export const sees = action(() => 1);
        throw new Error("at import");
    "#;
    let modules = [("quiet.js", QUIET), ("loud.js", LOUD), ("broken.js", BROKEN)];
    let mut tested = Tested::new(config(), &modules);
    let job = |tested: &Tested, module: &str| Job {
        module: module.to_owned(),
        ..tested.job("sees", "{}")
    };
    for _ in 0..3 {
        assert_eq!(tested.run(job(&tested, "quiet.js")).await.result, r#"["value",1]"#);
    }
    for _ in 0..3 {
        let loud = tested.run(job(&tested, "loud.js")).await;
        let lines: Vec<&[String]> = loud.lines.iter().map(|line| &line.messages[..]).collect();
        assert_eq!(lines, [["'imported'".to_owned()]]);
    }
    for _ in 0..3 {
        let broken = tested.error(job(&tested, "broken.js")).await;
        assert_eq!(broken, "Uncaught Error: at import");
    }
    for value in ["one", "other"] {
        tested.environment = Arc::new(BTreeMap::from([("NAME".to_owned(), value.to_owned())]));
        for _ in 0..2 {
            let seen = tested.run(job(&tested, "quiet.js")).await.result;
            assert_eq!(seen, format!(r#"["{value}",1]"#));
        }
    }
    tested.pid();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_stopped_and_its_neighbours_are_not() {
    let tested = Tested::hostile(config());
    let waits = tested.run(tested.job("waits", r#"{"ms":1500}"#));
    let timeout = Duration::from_millis(300);
    let loops = tested.error(Job { timeout, ..tested.job("loops", "{}") });
    let idles = tested.error(Job { timeout, ..tested.job("waits", r#"{"ms":100000}"#) });
    let counts = tested.error(Job { timeout, ..tested.job("counts", "{}") });
    let (waits, loops, idles, counts) = tokio::join!(waits, loops, idles, counts);
    assert_eq!((waits.end, waits.result.as_str()), (End::Returned, "\"waited\""));
    assert_eq!(loops, "Function execution timed out (maximum duration: 1s)");
    assert_eq!(idles, loops, "whether it computes or waits");
    assert_eq!(counts, loops, "also where V8 takes checks out of loops");
    tested.pid();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_for_each_action() {
    let tested = Tested::hostile(config());
    let waits = tested.run(tested.job("waits", r#"{"ms":3000}"#));
    let eats = tested.error(tested.job("eats", "{}"));
    let bursts = tested.error(tested.job("bursts", "{}"));
    let (waits, eats, bursts) = tokio::join!(waits, eats, bursts);
    let text = "JavaScript execution ran out of memory (maximum memory usage: 64 MB)";
    assert_eq!((eats.as_str(), bursts.as_str()), (text, text));
    assert_eq!(waits.end, End::Returned);
    // Buffers count against their own limit and against V8's; whichever is hit first counts.
    let buffers = tested.run(tested.job("buffers", "{}")).await;
    match buffers.end {
        End::Threw(thrown) => assert_eq!(thrown.message, text),
        End::NoRoute => panic!("it is no router"),
        End::Returned => {
            let (name, count): (String, u64) = serde_json::from_str(&buffers.result).unwrap();
            assert_eq!(name, "RangeError");
            assert!(count << 20 <= limits::ACTION_BUFFER_BYTES, "{count} MB");
        }
    }
    // What is dead does not count for long.
    assert_eq!(tested.value("drops", r#"{"times":40,"megabytes":32}"#).await, "40");
    // Memory that nobody uses is given back when it is short.
    let waits = tested.run(tested.job("waits", r#"{"ms":300}"#));
    let shrinks = async { tested.pool.shrink() };
    assert_eq!(tokio::join!(waits, shrinks).0.end, End::Returned, "it has something to do");
    while !tested.pool.live().is_empty() {
        tested.pool.shrink();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tested.value("one", "{}").await, "1", "another is started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_an_error_for_its_actions_and_nobody_else() {
    let tested = Tested::hostile(config());
    assert_eq!(tested.value("one", "{}").await, "1");
    let pid = tested.pid();
    let killer = async {
        // Both have begun when both are counted.
        while tested.pool.processes() != [(pid, 2)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        signal("-KILL", pid);
    };
    let one = tested.error(tested.job("waits", r#"{"ms":100000}"#));
    let other = tested.error(tested.job("asks", r#"{"op":"hangs"}"#));
    let (one, other, ()) = tokio::join!(one, other, killer);
    assert!(one.starts_with("The process that ran hostile:waits ended: signal: 9"), "{one}");
    assert!(one.contains("1 other actions at that time"), "{one}");
    assert!(other.starts_with("The process that ran hostile:asks ended: signal: 9"), "{other}");
    assert_eq!(tested.value("one", "{}").await, "1");
    assert_ne!(tested.pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_stop_is_killed() {
    let tested = Tested::hostile(config());
    assert_eq!(tested.value("one", "{}").await, "1");
    signal("-STOP", tested.pid());
    let timeout = Duration::from_millis(10);
    let stuck = tested.error(Job { timeout, ..tested.job("one", "{}") }).await;
    assert!(stuck.contains("ended: hostile:one did not stop at its time limit"), "{stuck}");
    assert_eq!(tested.value("one", "{}").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_waits_for_is_stopped() {
    let tested = Tested::hostile(config());
    for (export, args) in [("loops", "{}"), ("waits", r#"{"ms":100000}"#)] {
        let running = tested.pool.run(tested.job(export, args), Arc::new(Host)).await;
        drop(running);
    }
    while tested.pool.processes().iter().any(|(_, load)| *load > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tested.value("one", "{}").await, "1");
    tested.pid();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_thrown_outside_of_the_handler_ends_the_action_too() {
    let tested = Tested::hostile(config());
    let lost = tested.error(tested.job("rejects", "{}")).await;
    let late = tested.error(tested.job("timer", "{}")).await;
    assert_eq!((lost.as_str(), late.as_str()), ("Uncaught Error: lost", "Uncaught Error: late"));
    // In the turn in which the handler returns, as in a mutation.
    for arguments in ["{}", r#"{"wait":true}"#] {
        assert_eq!(tested.error(tested.job("loses", arguments)).await, "Uncaught null");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_action_asks_at_once_is_bounded() {
    let count = usize::try_from(limits::ACTION_CALLS_AT_ONCE).unwrap();
    // A heap holds few arguments of the real limit.
    let calls = CallLimits { count, bytes: 1 << 20 };
    let tested = Tested::hostile(Config { calls, ..config() });
    for (count, length, text) in [
        (limits::ACTION_CALLS_AT_ONCE + 1, 1, "Too many operations at once"),
        (10, 1 << 17, "Too much at once"),
    ] {
        let args = format!(r#"{{"count":{count},"length":{length}}}"#);
        let said = tested.value("floods", &args).await;
        assert!(said.contains(text), "{said}");
    }
    assert_eq!(tested.value("context", "{}").await, r#"["kept","kept"]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_counted_and_cut() {
    let tested = Tested::hostile(config());
    let lines = tested.run(tested.job("logs", "{}")).await.lines;
    assert_eq!(lines.len() as u64, limits::LOG_LINES + 1);
    assert_eq!(lines[256].messages, ["Log overflow (maximum 256). Remaining log lines omitted."]);
    let lines = tested.run(tested.job("shouts", "{}")).await.lines;
    assert!(lines[0].truncated && lines[0].level == "WARN");
    // A quote, and whole characters of two bytes.
    assert_eq!(lines[0].messages[0].len() as u64, limits::LOG_LINE_BYTES - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wasm_memory_without_end_ends_its_own_run_only() {
    let tested = Tested::hostile(config());
    let innocent = tested.value("waits", r#"{"ms":8000}"#);
    let guilty = async {
        let megabytes = limits::ACTION_WASM_MEMORY_BYTES >> 20;
        let ways =
            ["filled", "untouched", "buffers", "empty", "grown", "again", "hidden", "inside"];
        for how in ways {
            let text = tested.error(tested.job("wasm", &format!(r#"{{"how":"{how}"}}"#))).await;
            let expected = format!(
                "WebAssembly memory of hostile:wasm is too large (maximum memory usage: \
                 {megabytes} MB). "
            );
            assert!(text.starts_with(&expected), "{how}: {text}");
        }
        assert_eq!(
            tested.value("frees", "{}").await,
            r#""freed""#,
            "what is dropped does not count"
        );
    };
    let (innocent, ()) = tokio::join!(innocent, guilty);
    assert_eq!(innocent, r#""waited""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_confined_before_it_runs_functions() {
    let tested = Tested::hostile(config());
    tested.value("one", "{}").await;
    for (pid, _) in tested.pool.processes() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut confined = 0;
        for task in tasks {
            // One that ended since the listing has no status any more.
            let status = std::fs::read_to_string(task.unwrap().path().join("status"));
            let Ok(status) = status else { continue };
            assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
            confined += 1;
        }
        assert!(confined > 0, "the process lives");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_actions_wait_at_once_in_few_processes() {
    let tested = Arc::new(Tested::hostile(config()));
    let meeting = Arc::new(Meeting(Arc::new(tokio::sync::Barrier::new(100))));
    let meeting_ones: Vec<_> = (0..100)
        .map(|_| {
            let (tested, meeting) = (Arc::clone(&tested), Arc::clone(&meeting));
            let job = tested.job("asks", r#"{"op":"meets"}"#);
            tokio::spawn(async move { tested.pool.run(job, meeting).await.unwrap().end().await })
        })
        .collect();
    let per_process = usize::try_from(limits::ACTIONS_PER_PROCESS).unwrap();
    for ended in meeting_ones {
        let loads: Vec<usize> = tested.pool.processes().iter().map(|(_, load)| *load).collect();
        assert!(loads.iter().all(|load| *load <= per_process), "{loads:?}");
        assert_eq!(ended.await.unwrap().result, "null", "all of them were there at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_actions_that_leak_leave_nothing_behind() {
    let tested = Arc::new(Tested::hostile(Config { retire_after: u64::MAX, ..config() }));
    let mut resident = Vec::new();
    for _ in 0..5 {
        let lanes = [(); 4].map(|()| {
            let tested = Arc::clone(&tested);
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert_eq!(tested.value("leaks", "{}").await, "1");
                }
            })
        });
        for lane in lanes {
            lane.await.unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/statm", tested.pid())).unwrap();
        let pages: u64 = status.split_whitespace().nth(1).unwrap().parse().unwrap();
        resident.push(pages * 4 / 1024);
    }
    // Each leaks 2 MB. The first rounds fill what the allocator keeps.
    assert!(resident[4] < resident[1] + 40, "MB after each 400 actions: {resident:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_actions_are_refused_and_used_up_processes_replaced() {
    let tested = Tested::hostile(Config { runs: 1, retire_after: 3, ..config() });
    let waits = tested.value("waits", r#"{"ms":500}"#);
    let second = async {
        while tested.pool.processes().iter().all(|(_, load)| *load == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tested.error(tested.job("one", "{}")).await
    };
    let (_, second) = tokio::join!(waits, second);
    assert!(second.starts_with("Too many concurrent requests. Your backend is limited to 1"));
    let pid = tested.pid();
    for _ in 0..2 {
        tested.value("one", "{}").await;
    }
    tested.value("one", "{}").await;
    assert_ne!(tested.pid(), pid, "the fourth run has a process of its own");
}

/// Waits until the pool has a process, or none.
async fn has_processes(tested: &Tested, any: bool) {
    let patience = Instant::now() + Duration::from_mins(1);
    while tested.pool.processes().is_empty() == any {
        assert!(Instant::now() < patience, "processes: {:?}", tested.pool.processes());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_when_idle_and_when_their_code_is_old() {
    let idle = Duration::from_millis(100);
    let mut tested = Tested::hostile(Config { idle, ..config() });
    tested.value("one", "{}").await;
    has_processes(&tested, false).await;
    tested.pool.deployed(Arc::clone(&tested.code));
    has_processes(&tested, true).await;
    let first = tested.pid();
    tokio::time::sleep(idle * 5).await;
    assert_eq!(tested.pid(), first, "one of the newest code stays");
    let modules = tested.code.modules.clone();
    tested.code = Arc::new(Code { version: "2".into(), modules, ..Code::default() });
    tested.pool.deployed(Arc::clone(&tested.code));
    tested.value("one", "{}").await;
    assert_ne!(tested.pid(), first);
}

const ROUTER: &str = r#"
export default {
    isRouter: true,
    lookup: (path, method) => path === "/missing" ? null : [null, method, "/prefix/*"],
    async runRequest(text) {
        const request = Convex.jsSyscall("requestFromConvexJson", { convexJson: JSON.parse(text) });
        const response = await handle(new URL(request.url).searchParams.get("do"), request);
        return JSON.stringify(Convex.jsSyscall("convexJsonFromResponse", { response }));
    },
};
const endless = () => new ReadableStream({
    pull(controller) { controller.enqueue(new Uint8Array(1 << 16)); },
});
const handle = async (what, request) => {
    if (what === "throw") throw new Error("no answer");
    if (what === "echo") return new Response(request.body, { status: 201 });
    if (what === "endless") return new Response(endless());
    if (what === "break") return new Response(new ReadableStream({
        start(controller) {
            controller.enqueue(new Uint8Array(3));
            setTimeout(() => controller.error(new Error("cut")), 10);
        },
    }));
    return new Response(null, { status: 204, headers: { "x-a": "b" } });
};
"#;

async fn stream(running: &mut Running) -> actions::streams::Body {
    match (&mut running.head).await.unwrap().body {
        Content::Stream(body) => body,
        Content::Whole(body) => panic!("{body:?} is no stream"),
    }
}

fn request(tested: &Tested, what: &str, body: Option<actions::streams::Body>) -> Job {
    let input = Input::Http {
        url: format!("http://a.b/prefix/x?do={what}"),
        routed_path: if what == "missing" { "/missing" } else { "/prefix/x" }.into(),
        method: if body.is_some() { "POST" } else { "GET" }.into(),
        headers: vec![("x-in".into(), "1".into())],
        body,
    };
    Job { module: "http.js".into(), export: "default".into(), input, ..tested.job("", "") }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let tested = Tested::new(config(), &[("http.js", ROUTER)]);
    let (chunks, body) = mpsc::channel(1);
    let job = request(&tested, "echo", Some(body));
    let mut running = tested.pool.run(job, Arc::new(Host)).await.ok().unwrap();
    // The head comes before the request is whole.
    chunks.send(Ok("first ".into())).await.unwrap();
    let head = (&mut running.head).await.unwrap();
    assert_eq!((head.status, head.route.as_deref()), (201, Some("/prefix/*")));
    let Content::Stream(mut back) = head.body else { panic!("it streams") };
    assert_eq!(back.recv().await.unwrap().unwrap(), "first ");
    let sender = tokio::spawn(async move {
        for _ in 0..100 {
            chunks.send(Ok(vec![7; 100_000].into())).await.unwrap();
        }
    });
    let mut bytes = 0;
    while let Some(chunk) = back.recv().await {
        bytes += chunk.unwrap().len();
    }
    sender.await.unwrap();
    assert_eq!(bytes, 100 * 100_000);
    assert_eq!(running.end().await.end, End::Returned);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_end_badly_say_so() {
    let tested = Tested::new(config(), &[("http.js", ROUTER)]);
    let run = async |what: &str| {
        tested.pool.run(request(&tested, what, None), Arc::new(Host)).await.ok().unwrap()
    };
    assert_eq!(run("missing").await.end().await.end, End::NoRoute);
    let mut threw = run("throw").await;
    let End::Threw(thrown) = threw.end().await.end else { panic!("it threw") };
    assert_eq!(thrown.message, "Uncaught Error: no answer");
    let mut empty = run("empty").await;
    let head = (&mut empty.head).await.unwrap();
    assert_eq!(head.status, 204);
    assert!(matches!(head.body, Content::Whole(body) if body.is_empty()));
    assert_eq!(head.headers, [("x-a".to_owned(), "b".to_owned())]);

    let mut broken = run("break").await;
    let mut body = stream(&mut broken).await;
    assert_eq!(body.recv().await.unwrap().unwrap().len(), 3);
    assert_eq!(body.recv().await.unwrap().unwrap_err(), "Uncaught Error: cut");

    let mut endless = run("endless").await;
    let mut body = stream(&mut endless).await;
    let mut bytes = 0;
    let why = loop {
        match body.recv().await.unwrap() {
            Ok(chunk) => bytes += chunk.len() as u64,
            Err(why) => break why,
        }
    };
    assert_eq!(bytes, limits::HTTP_RESPONSE_BYTES);
    assert!(why.contains("HttpResponseTooLarge"), "{why}");

    let mut unread = run("endless").await;
    drop((&mut unread.head).await);
    assert_eq!(unread.end().await.end, End::Returned, "a body that nobody reads is stopped");
}

#[test]
fn a_run_is_given_the_limits_of_the_table() {
    let given = concave::outside::limits_of_a_run();
    assert_eq!(given.wasm_bytes, limits::ACTION_WASM_MEMORY_BYTES);
    assert_eq!(given.pbkdf2_iterations, limits::ACTION_PBKDF2_ITERATIONS);
    assert_eq!(u64::from(given.fetch.redirects), limits::FETCH_REDIRECTS);
    assert_eq!(given.fetch.body_bytes, limits::FETCH_BODY_BYTES);
    assert_eq!(u64::from(given.fetch.whole_body_bytes), limits::FETCH_WHOLE_BODY_BYTES);
    assert_eq!(given.fetch.connect_ms, limits::FETCH_CONNECT_MS);
    assert_eq!(u64::from(given.context_runs), limits::ACTION_CONTEXT_RUNS);
    assert_eq!(u64::from(given.contexts_kept), limits::ACTION_CONTEXTS_KEPT);
    let calls = concave::outside::calls_of_a_run();
    assert_eq!(calls.bytes as u64, limits::ACTION_CALL_BYTES);
}
