//! WebAssembly in queries and mutations: what is evaluated when, and what stops it.
//!
//! In: modules that touch WebAssembly while they are imported, in the functions, or not at all.
//! Out: tiers and outcomes. Invariant: a module that does finds it as it is, whatever the snapshot
//! that the others come from was made without.

use base64::Engine as _;
use database::deployment::Tier;
use database::limits;
use database::record::Functions as _;

use crate::deployed::{Deployed, bundle};

/// `memory m` of one page, exported or not; `grow` without end, `spin` without end, `to(pages)`.
fn module(exported: bool) -> String {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend(b"\x01\x08\x02\x60\0\0\x60\x01\x7f\0\x03\x04\x03\0\0\x01\x05\x03\x01\0\x01");
    let memory: &[u8] = if exported { b"\x01m\x02\0" } else { b"" };
    let functions = b"\x04grow\0\0\x04spin\0\x01\x02to\0\x02";
    let count = if exported { 4 } else { 3 };
    let length = u8::try_from(1 + memory.len() + functions.len()).unwrap();
    bytes.extend([7, length, count]);
    bytes.extend([memory, functions].concat());
    bytes.extend(b"\x0a\x1e\x03\x0c\0\x03\x40\x41\x10\x40\0\x1a\x0c\0\x0b\x0b");
    bytes.extend(b"\x07\0\x03\x40\x0c\0\x0b\x0b\x07\0\x20\0\x40\0\x1a\x0b");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A `.wasm` file as the bundler sends it.
fn file(exported: bool) -> String {
    format!(
        "const webAssembly = \"{}\";\n\
         const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(webAssembly) : \
         globalThis.Buffer ? Buffer.from(webAssembly, \"base64\") : \
         Uint8Array.from(atob(webAssembly), (character)=>character.charCodeAt(0));\n\
         export default new WebAssembly.Module(bytes);\n",
        module(exported)
    )
}

const HUNGRY: &str = r#"
import { query } from "./abi.js";
import seen from "./seen.wasm.js";
import hidden from "./hidden.wasm.js";
const start = (module) => new WebAssembly.Instance(module, {}).exports;
const one = start(seen);
export const pages = query(() => one.m.buffer.byteLength / 65536);
export const some = query((db, { pages }) => { one.to(pages); return one.m.buffer.byteLength; });
export const grow = query(() => one.grow());
export const spin = query(() => one.spin());
export const many = query(() => { const all = [];
    for (;;) { const next = start(seen); next.to(200); all.push(next); } });
export const manyHidden = query(() => { const all = []; for (;;) all.push(start(hidden)); });
const shared = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 5, 4, 1, 3, 1, 2]);
export const threads = query(async () => {
    const all = [() => new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true }),
        () => start(new WebAssembly.Module(shared)), () => WebAssembly.instantiate(shared)];
    return Promise.all(all.map(async (make) => { try { await make(); return "made"; } catch (e) {
        return `${e}`.slice(0, 46); } })); });
export const once = query(() => { const all = [start(hidden)]; return all.length; });
"#;

fn hungry() -> Deployed {
    let (seen, hidden) = (file(true), file(false));
    Deployed::with(&[("hungry", HUNGRY), ("seen.wasm", &seen), ("hidden.wasm", &hidden)])
}

#[test]
fn memory_without_end_is_an_error_that_names_the_function_and_the_limit() {
    let deployed = hungry();
    let megabytes = limits::WASM_MEMORY_BYTES >> 20;
    for name in ["grow", "many", "manyHidden"] {
        let expected = format!(
            "WebAssembly memory of hungry:{name} is too large (maximum memory usage: \
             {megabytes} MB)"
        );
        let error = deployed.error(&format!("hungry:{name}"), "{}");
        assert!(error.starts_with(&expected), "{name}: {error}");
        assert_eq!(deployed.value("hungry:pages", "{}"), "1", "after {name}");
    }
    // Below the limit nothing stops a call, and what it grew is not the next one's.
    let pages = limits::WASM_MEMORY_BYTES / 65536 - 1;
    let bytes = deployed.value("hungry:some", &format!(r#"{{"pages":{}}}"#, pages - 1));
    assert_eq!(bytes, (pages * 65536).to_string());
    assert_eq!(deployed.value("hungry:pages", r#"{"again":1}"#), "1");
    assert_eq!(deployed.value("hungry:once", "{}"), "1");
}

#[test]
fn memory_for_several_threads_is_refused() {
    let refused = r#""TypeError: Can't use shared WebAssembly memory""#;
    let expected = format!("[{}]", [refused; 3].join(","));
    assert_eq!(hungry().value("hungry:threads", "{}"), expected);
}

#[test]
fn an_endless_loop_inside_wasm_is_stopped() {
    let deployed = hungry();
    let seconds = limits::CPU_TIME_MS / 1000;
    let expected = format!("Function execution timed out (maximum duration: {seconds}s)");
    let error = deployed.error("hungry:spin", "{}");
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(deployed.value("hungry:pages", "{}"), "1");
}

const BASE64: &str = r#"
import { query } from "./abi.js";
const attempt = (use) => { try { return use(); } catch (e) { return e.name; } };
const list = (bytes) => typeof bytes === "string" ? bytes : Array.from(bytes).join();
export const read = query((db, { text }) => [attempt(() => list(Array.from(atob(text), (c) =>
    c.charCodeAt(0)))), attempt(() => list(Uint8Array.fromBase64(text))),
    attempt(() => list(Uint8Array.fromBase64(text, { alphabet: "base64url" })))].join("|"));
export const thereAndBack = query((db, { length }) => {
    const bytes = Uint8Array.from({ length }, (_, at) => at * 7 + 3);
    const text = btoa(String.fromCharCode(...bytes));
    const copies = [Uint8Array.from(atob(text), (c) => c.charCodeAt(0)),
        Uint8Array.from(atob(text), (c, at) => c.charCodeAt(0) + 0 * at),
        Uint8Array.fromBase64(text)];
    return [copies.every((copy) => list(copy) === list(bytes)), text.length].join(); });
export const shared = query(() => { const bytes = Uint8Array.from(atob("AAEC"), (c) =>
    c.charCodeAt(0)); bytes[0] = 9; return list(Uint8Array.from(atob("AAEC"), (c) =>
    c.charCodeAt(0))) + bytes.buffer.byteLength; });
"#;

#[test]
fn base64_is_read_as_the_standards_say() {
    let deployed = Deployed::with(&[("base64", BASE64)]);
    let bad = "InvalidCharacterError|SyntaxError|SyntaxError";
    for (text, expected) in [
        ("", "||"),
        ("YQ==", "97|97|97"),
        ("YQ", "97|97|97"),
        ("YR==", "97|97|97"),
        (" Y\\tQ\\n= =\\f", "97|97|97"),
        ("AAEC_w==", "InvalidCharacterError|SyntaxError|0,1,2,255"),
        ("AAEC/w", "0,1,2,255|0,1,2,255|SyntaxError"),
        ("YQ=", bad),
        ("YQ===", bad),
        ("Y", bad),
        ("=", bad),
        ("YQ==YQ==", bad),
        ("Yé==", bad),
        ("AA\\u000bAA", bad),
    ] {
        let found = deployed.value("base64:read", &format!(r#"{{"text":"{text}"}}"#));
        assert_eq!(found, format!("\"{expected}\""), "{text:?}");
    }
    for length in [0_usize, 1, 2, 3, 4, 255, 1000] {
        let args = format!(r#"{{"length":{length}}}"#);
        let found = deployed.value("base64:thereAndBack", &args);
        assert_eq!(found, format!("\"true,{}\"", length.div_ceil(3) * 4));
    }
    assert_eq!(deployed.value("base64:shared", "{}"), r#""0,1,23""#);
}

const APP: &[(&str, &str)] = &[
    ("_deps/log", "export const log = [];\nglobalThis.order = log;"),
    ("_deps/first", "import { log } from './log.js'; log.push('first');"),
    (
        "_deps/glue",
        "import { log } from './log.js'; log.push('glue:' + typeof WebAssembly);
        const here = typeof WebAssembly === 'object';
        export const made = here && new WebAssembly.Memory({ initial: 1 });",
    ),
    ("_deps/last", "import { log } from './log.js'; log.push('last');"),
    (
        "plain",
        "import { query } from './abi.js'; import './_deps/first.js';
        let calls = 0;
        export const order = query(() => [globalThis.order.join(), ++calls].join());",
    ),
    (
        "late",
        "import { query, mutation } from './abi.js'; import './_deps/first.js';
        import { made } from './_deps/glue.js'; import './_deps/last.js';
        const random = Math.random(); let calls = 0; let job = 'never ran';
        Promise.resolve().then(() => { job = 'ran'; });
        export const order = query(() => [globalThis.order.join(), ++calls, job].join());
        export const fixed = query(() => [random, made.buffer.byteLength].join());
        export const twice = query(async (db, { x }) => [await db.runQuery('late:order', { x }),
            await db.runQuery('plain:order', { x })].join(' '));
        export const edit = mutation(() => [random, ++calls].join());",
    ),
    (
        "other",
        "import { query } from './abi.js';
        export const kind = query(() => typeof WebAssembly.Module);
        export const wasm = query(async () => {
            const bytes = new Uint8Array([0,97,115,109,1,0,0,0]);
            const { module, instance } = await WebAssembly.instantiate(bytes);
            const alone = await WebAssembly.instantiate(await WebAssembly.compile(bytes), {});
            const bad = await WebAssembly.instantiate(bytes.slice(1)).catch((e) => e.name);
            return [module instanceof WebAssembly.Module, instance instanceof WebAssembly.Instance,
                alone instanceof WebAssembly.Instance, bad,
                new WebAssembly.Module(bytes).constructor === WebAssembly.Module].join(); });",
    ),
];

#[test]
fn only_what_touches_wasm_stays_out_of_the_snapshot() {
    let deployed = Deployed::empty();
    let bundle = std::sync::Arc::new(bundle(APP));
    let analysis = deployed.host.analyze(bundle.clone()).unwrap();
    let Tier::Partial { late, kept, .. } = &analysis.tier else { panic!("no part of it") };
    assert_eq!(late.iter().map(|path| &**path).collect::<Vec<_>>(), ["late.js"]);
    let kept: Vec<_> = kept.iter().map(|path| &**path).collect();
    // Not `last`: nothing before it may be evaluated after it.
    assert_eq!(kept, ["_deps/first.js", "_deps/log.js", "abi.js", "other.js", "plain.js"]);
    assert_eq!(analysis.warnings, [""; 0]);
    deployed.host.activate(bundle, analysis).unwrap();
    for round in 0..3 {
        let args = format!(r#"{{"x":{round}}}"#);
        // Each in a context of its own, with its own module and no other's.
        let late = deployed.value("late:order", &args);
        assert_eq!(late, r#""first,glue:object,last,1,ran""#);
        assert_eq!(deployed.value("plain:order", &args), r#""first,1""#);
        let nested = deployed.value("late:twice", &args);
        assert_eq!(nested, r#""first,glue:object,last,1,ran first,1""#);
        assert_eq!(deployed.value("other:kind", &args), r#""function""#);
        assert_eq!(deployed.value("other:wasm", &args), r#""true,true,true,CompileError,true""#);
    }
    // The import phase has one seed, in every context of the version.
    let fixed: Vec<String> =
        (0..4).map(|x| deployed.value("late:fixed", &format!(r#"{{"x":{x}}}"#))).collect();
    assert!(
        fixed[0].ends_with(",65536\"") && fixed.iter().all(|one| *one == fixed[0]),
        "{fixed:?}"
    );
    let random = fixed[0].split(',').next().unwrap();
    assert_eq!(deployed.value("late:edit", "{}"), format!("{random},1\""));
}
