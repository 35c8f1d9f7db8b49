//! Every limit of a call, hit; and the process that goes on.

use crate::deployed::Deployed;

const HUNGRY: &str = r#"
import { query, mutation } from "./abi.js";
export const fine = query(() => "fine");
export const loop = query(() => { for (;;) ; });
export const microtasks = query(async () => { for (;;) await null; });
export const memory = query(() => { const kept = [];
    for (;;) kept.push(new Array(1e5).fill(kept.length)); });
export const text = query(() => { let s = "xxxxxxxx"; for (;;) s += s + Math.random(); });
export const buffers = query(() => { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20));
    });
export const smallBuffers = query(() => { const kept = [];
    for (;;) kept.push(new TextEncoder().encode("x".repeat(5000))); });
export const recursion = query(() => { const f = () => f() + 1; return f(); });
export const deepJson = query(() => { let v = 1; for (let i = 0; i < 70; i++) v = [v]; return v; });
export const regexp = query(() => /(a+)+$/.test("a".repeat(40) + "b"));
export const wasm = query(() => { const m = new WebAssembly.Memory({ initial: 1 });
    for (;;) m.grow(100); });
export const bigResult = query(() => "x".repeat((16 << 20) + 10));
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
    let expected = "Function execution timed out (maximum duration: 1s)";
    for name in ["loop", "microtasks", "regexp"] {
        stops(&deployed, name, expected);
    }
}

#[test]
fn memory_runs_out() {
    let deployed = hungry();
    stops(&deployed, "memory", "ran out of memory (maximum memory usage: 64 MB)");
    stops(&deployed, "recursion", "Uncaught RangeError: Maximum call stack size exceeded");
    // Buffers count against their own limit and against V8's; whichever is hit first stops the
    // call.
    for name in ["buffers", "smallBuffers", "text", "wasm"] {
        let error = deployed.error(&format!("hungry:{name}"), "{}");
        assert!(error.contains("out of memory") || error.contains("RangeError"), "{name}: {error}");
    }
    assert_eq!(deployed.value("hungry:fine", "{}"), r#""fine""#);
}

#[test]
fn results_are_bounded() {
    let deployed = hungry();
    stops(&deployed, "bigResult", "return value is too large");
    stops(&deployed, "deepJson", "nested");
}

#[test]
fn logs_are_bounded() {
    let deployed = hungry();
    let outcome = deployed.run("hungry:logs", "{}");
    assert_eq!(outcome.log_lines.len(), 257);
    let last = outcome.log_lines[256].client_text();
    assert_eq!(last, "[ERROR] Log overflow (maximum 256). Remaining log lines omitted.");
    let outcome = deployed.run("hungry:longLog", "{}");
    assert!(outcome.log_lines[0].client_text().ends_with(" (truncated due to length)"));
}

#[test]
fn transactions_are_bounded() {
    let deployed = hungry();
    stops(&deployed, "manyWrites", "Too many writes in a single function execution (limit: 16000)");
    stops(&deployed, "fatWrites", "Too many bytes written in a single function execution");
    stops(&deployed, "ranges", "Too many reads in a single function execution (limit: 4096)");
    stops(&deployed, "bigDocument", "Value is too large");
    stops(&deployed, "deepDocument", "Document is too nested");
}

#[test]
fn reads_are_bounded() {
    let deployed = hungry();
    for from in [0, 15_000, 30_000] {
        deployed.value("hungry:fill", &format!(r#"{{"from":{from},"n":15000,"size":1}}"#));
    }
    stops(
        &deployed,
        "readAll",
        "Too many documents read in a single function execution (limit: 32000)",
    );
    let deployed = hungry();
    for from in [0, 10] {
        deployed.value("hungry:fill", &format!(r#"{{"from":{from},"n":10,"size":900000}}"#));
    }
    stops(&deployed, "readAll", "Too many bytes read in a single function execution");
}
