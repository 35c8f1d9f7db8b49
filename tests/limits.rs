//! Every limit of a call, hit; and the process that goes on.

use database::error::Refusal;
use database::limits;

use crate::deployed::Deployed;

const HUNGRY: &str = r#"
import { query, mutation } from "./abi.js";
export const fine = query(() => "fine");
export const loop = query(() => { for (;;) ; });
export const overCountedLoop = query(() => { for (;;) new Array(1000).fill(0); });
export const microtasks = query(async () => { for (;;) await null; });
export const memory = query(() => { const kept = [];
    for (;;) kept.push(new Array(1e5).fill(kept.length)); });
export const text = query(() => { let s = "xxxxxxxx"; for (;;) s += s + Math.random(); });
export const buffers = query(() => { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20));
    });
export const smallBuffers = query(() => { const kept = [];
    for (;;) kept.push(new TextEncoder().encode("x".repeat(5000))); });
export const buffer = query((db, { bytes }) => new ArrayBuffer(bytes).byteLength);
export const nest = query((db, { levels }) =>
    levels === 0 ? 0 : db.runQuery("hungry:nest", { levels: levels - 1 }));
export const recursion = query(() => { const f = () => f() + 1; return f(); });
export const deepJson = query(() => { let v = 1; for (let i = 0; i < 70; i++) v = [v]; return v; });
export const regexp = query(() => /(a+)+$/.test("a".repeat(40) + "b"));
export const wasm = query(() => { const m = new WebAssembly.Memory({ initial: 1 });
    for (;;) m.grow(100); });
export const passwords = query(async (db, { iterations }) => {
    const key = await crypto.subtle.importKey("raw", new Uint8Array(8), "PBKDF2", false,
        ["deriveBits"]);
    const algorithm = { name: "PBKDF2", hash: "SHA-1", salt: new Uint8Array(8), iterations };
    await crypto.subtle.deriveBits(algorithm, key, 168); });
export const deaf = query(() => new Array(50_000_000).fill(1).length);
export const listed = query(() => { const many = new Array(4_000_000).fill("abc"); many.name = 1;
    console.log(many); console.table(many); });
export const bigResult = query(() => "x".repeat((16 << 20) + 10));
export const largeResult = query(() => "x".repeat(14_000_000));
export const logs = query(() => { for (let i = 0; i < 300; i++) console.log("line", i); });
export const longLog = query(() => { console.log("y".repeat(40000)); });
export const manyWrites = mutation(async (db) => { for (let i = 0; i < 16001;
    i++) await db.insert("t", { i }); });
export const fatWrites = mutation(async (db) => { const s = "z".repeat(1000000); for (let i = 0;
    i < 18; i++) await db.insert("fat", { s }); });
export const fill = mutation(async (db, { from, n, size }) => { const s = "w".repeat(size);
    for (let i = 0; i < n; i++) await db.insert("big", { i: from + i, s }); });
export const readAll = query(async (db) => (await db.table("big")).length);
export const ranges = query(async (db) => { for (let i = 0; i < 4097;
    i++) await db.get("j57000820c20a1g7104gm2rc1m70ynr8"); });
export const bigDocument = mutation((db) => db.insert("t", { s: "x".repeat(1 << 20) }));
export const deepDocument = mutation((db) => { let v = 1; for (let i = 0; i < 20; i++) v = { v };
    return db.insert("t", { v }); });
"#;

fn hungry() -> Deployed {
    Deployed::with(&[("hungry", HUNGRY)])
}

/// The call fails with this text, and the next one works.
fn stops(deployed: &Deployed, name: &str, expected: &str) {
    let error = deployed.error(&format!("hungry:{name}"), "{}");
    assert!(error.contains(expected), "{name}: {error}");
    assert_eq!(deployed.value("hungry:fine", "{}"), r#""fine""#, "after {name}");
}

#[test]
fn time_runs_out() {
    let deployed = hungry();
    let seconds = limits::CPU_TIME_MS / 1000;
    let expected = format!("Function execution timed out (maximum duration: {seconds}s)");
    for name in ["loop", "overCountedLoop", "microtasks", "regexp"] {
        stops(&deployed, name, &expected);
    }
}

#[test]
fn others_are_served_while_a_call_is_inside_a_built_in_that_cannot_be_stopped() {
    let deployed = hungry();
    let start = |name: &str, args: &str| deployed.start(deployed.make(name, args));
    // As many as there are isolates; equal calls would run once.
    let deaf = [1, 2].map(|n| start("hungry:deaf", &format!(r#"{{"n":{n}}}"#)));
    assert!(start("hungry:fine", "{}").recv().unwrap().unwrap().result.is_ok());
    for answer in &deaf {
        assert!(answer.try_recv().is_err(), "it was stopped, so this test shows nothing");
    }
    for answer in deaf {
        let error = answer.recv().unwrap().unwrap().result.unwrap_err().message;
        assert!(error.starts_with("Function execution timed out"), "{error}");
    }
    assert_eq!(deployed.value("hungry:fine", r#"{"again":1}"#), r#""fine""#);
}

#[test]
fn the_console_shows_a_large_array_without_listing_its_indices() {
    let outcome = hungry().run("hungry:listed", "{}");
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    let lines: Vec<_> =
        outcome.log_lines.iter().map(database::record::LogLine::client_text).collect();
    assert!(lines[0].ends_with("... 3999900 more items,\n  name: 1\n]"), "{}", lines[0]);
    assert!(lines[1].contains("| 999     | 'abc'  |"), "{}", lines[1]);
}

#[test]
fn derivations_are_bounded() {
    let deployed = hungry();
    // 168 bits are two blocks of SHA-1.
    let iterations = limits::PBKDF2_ITERATIONS / 2 + 1;
    let args = format!(r#"{{"iterations":{iterations}}}"#);
    let error = deployed.error("hungry:passwords", &args);
    let most = limits::PBKDF2_ITERATIONS;
    let asked = iterations * 2;
    let expected = format!("PBKDF2 of {asked} iterations; at most {most} fit here");
    assert!(error.contains(&expected), "{error}");
    assert_eq!(deployed.value("hungry:passwords", r#"{"iterations":1}"#), "null");
}

#[test]
fn memory_runs_out() {
    let deployed = hungry();
    let megabytes = limits::HEAP_BYTES >> 20;
    let expected = format!("ran out of memory (maximum memory usage: {megabytes} MB)");
    stops(&deployed, "memory", &expected);
    stops(&deployed, "recursion", "Uncaught RangeError: Maximum call stack size exceeded");
    // Buffers count against their own limit and against V8's; whichever is hit first stops the
    // call.
    for name in ["buffers", "smallBuffers", "text"] {
        let error = deployed.error(&format!("hungry:{name}"), "{}");
        assert!(error.contains("out of memory") || error.contains("RangeError"), "{name}: {error}");
    }
    stops(&deployed, "wasm", "WebAssembly memory of hungry:wasm is too large");
    assert_eq!(deployed.value("hungry:fine", "{}"), r#""fine""#);
}

#[test]
fn one_buffer_above_the_limit_is_refused() {
    let deployed = hungry();
    let fits = format!(r#"{{"bytes":{}}}"#, limits::ARRAY_BUFFER_BYTES / 2);
    assert_eq!(deployed.value("hungry:buffer", &fits), fits[9..fits.len() - 1]);
    let above = format!(r#"{{"bytes":{}}}"#, limits::ARRAY_BUFFER_BYTES + 1);
    let error = deployed.error("hungry:buffer", &above);
    assert!(error.contains("out of memory") || error.contains("RangeError"), "{error}");
}

#[test]
fn arguments_and_results_are_bounded() {
    let deployed = hungry();
    assert_eq!(limits::RESULT_BYTES, 16 << 20, "what `bigResult` goes above");
    stops(&deployed, "bigResult", "return value is too large");
    stops(&deployed, "deepJson", "nested");
    let bytes = usize::try_from(limits::ARGUMENT_BYTES).unwrap();
    let args = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
    let error = deployed.error("hungry:fine", &args);
    assert!(error.starts_with("Arguments for hungry:fine are too large (actual: "), "{error}");
}

#[test]
fn logs_are_bounded() {
    let deployed = hungry();
    let outcome = deployed.run("hungry:logs", "{}");
    assert_eq!(outcome.log_lines.len() as u64, limits::LOG_LINES + 1);
    let last = outcome.log_lines.last().unwrap().client_text();
    assert_eq!(last, "[ERROR] Log overflow (maximum 256). Remaining log lines omitted.");
    let outcome = deployed.run("hungry:longLog", "{}");
    assert!(outcome.log_lines[0].client_text().ends_with(" (truncated due to length)"));
    assert_eq!(outcome.log_lines[0].messages[0].len() as u64, limits::LOG_LINE_BYTES);
}

#[test]
fn transactions_are_bounded() {
    let deployed = hungry();
    let writes = limits::DOCUMENTS_WRITTEN;
    let expected = format!("Too many writes in a single function execution (limit: {writes})");
    stops(&deployed, "manyWrites", &expected);
    assert_eq!(limits::BYTES_WRITTEN, 16 << 20, "what `fatWrites` goes above");
    stops(&deployed, "fatWrites", "Too many bytes written in a single function execution");
    let ranges = limits::INDEX_RANGES;
    let expected = format!("Too many reads in a single function execution (limit: {ranges})");
    stops(&deployed, "ranges", &expected);
    assert_eq!(limits::DOCUMENT_BYTES, 1 << 20, "what `bigDocument` goes above");
    stops(&deployed, "bigDocument", "Value is too large");
    let depth = limits::DOCUMENT_DEPTH;
    stops(&deployed, "deepDocument", &format!("levels deep > maximum nesting {depth})"));
}

#[test]
fn reads_are_bounded() {
    let deployed = hungry();
    for from in [0, 15_000, 30_000] {
        deployed.value("hungry:fill", &format!(r#"{{"from":{from},"n":15000,"size":1}}"#));
    }
    let documents = limits::DOCUMENTS_READ;
    let expected =
        format!("Too many documents read in a single function execution (limit: {documents})");
    stops(&deployed, "readAll", &expected);
    let deployed = hungry();
    for from in [0, 10] {
        deployed.value("hungry:fill", &format!(r#"{{"from":{from},"n":10,"size":900000}}"#));
    }
    assert_eq!(limits::BYTES_READ, 16 << 20, "what 20 documents of 900,000 bytes go above");
    stops(&deployed, "readAll", "Too many bytes read in a single function execution");
}

#[test]
fn what_comes_near_a_limit_is_told() {
    let deployed = hungry();
    let told = |name: &str, args: &str| {
        let lines = deployed.run(&format!("hungry:{name}"), args).log_lines;
        lines.iter().map(database::record::LogLine::client_text).collect::<Vec<_>>()
    };
    let limit = limits::DOCUMENTS_WRITTEN;
    let fill = |from| told("fill", &format!(r#"{{"from":{from},"n":14000,"size":1}}"#));
    let writes = "Many writes in a single function execution (actual: 14000";
    assert_eq!(fill(0), [format!("[WARN] {writes}, limit: {limit}).")]);
    assert_eq!(told("readAll", "{}"), [""; 0]);
    fill(14_000);
    let reads = "Many documents read in a single function execution (actual: 28000";
    let [read] = &told("readAll", "{}")[..] else { panic!("one line") };
    let limit = limits::DOCUMENTS_READ;
    let expected = format!("[WARN] {reads}, limit: {limit}). Consider using smaller limits in");
    assert!(read.starts_with(&expected), "{read}");
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(14_000_000));
    let [arguments] = &told("fine", &large)[..] else { panic!("one line") };
    let expected = "[WARN] Large size of the function arguments (actual: 140000";
    assert!(arguments.starts_with(expected), "{arguments}");
    let limit = limits::RESULT_BYTES;
    let sizes = format!("(actual: 14000002 bytes, limit: {limit} bytes)");
    let expected = format!("[WARN] Large size of the function return value {sizes}.");
    assert_eq!(told("largeResult", "{}"), [expected]);
}

#[test]
fn a_test_file_has_more_room_than_what_it_tests() {
    // What they do when they are passed is seen by `tests/test.test.mjs`.
    const { assert!(limits::TEST_HEAP_BYTES > limits::HEAP_BYTES) };
    const { assert!(limits::TEST_PROCESS_BYTES > limits::TEST_HEAP_BYTES) };
    const { assert!(limits::TEST_LOG_LINES >= limits::LOG_LINES) };
}

#[test]
fn nested_calls_are_bounded() {
    let deployed = hungry();
    for (levels, fits) in [(limits::CALL_DEPTH, true), (limits::CALL_DEPTH + 1, false)] {
        let outcome = deployed.run("hungry:nest", &format!(r#"{{"levels":{levels}}}"#));
        assert_eq!(outcome.result.is_ok(), fits, "{levels}: {:?}", outcome.result);
    }
}

#[test]
fn the_queue_is_bounded_and_says_so() {
    let deployed = hungry();
    let count = limits::MAX_QUEUED_CALLS * 3;
    let answers: Vec<_> = (0..count)
        .map(|n| deployed.start(deployed.make("hungry:fine", &format!(r#"{{"n":{n}}}"#))))
        .collect();
    let mut refused = 0;
    for answer in answers {
        match answer.recv().unwrap() {
            Ok(outcome) => assert_eq!(&*outcome.result.unwrap(), r#""fine""#),
            Err(Refusal::Overloaded { code, message }) => {
                assert_eq!(code, "TooManyConcurrentRequests");
                assert!(message.starts_with("Too many concurrent requests."), "{message}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "{count} calls at once must overflow the queue");
    assert_eq!(deployed.value("hungry:fine", "{}"), r#""fine""#);
}
