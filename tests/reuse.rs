//! Design, section 6, point 2: a call in a context that served others is a call in a fresh one.
//!
//! In: modules that try to leave something behind, and a proof that lets everything pass, so that
//! only what the host does itself stands between them. Out: no call sees anything of another;
//! modules whose contexts cannot be kept say why.

use std::sync::Arc;

use database::deployment::Bundle;
use database::limits;
use functions::reuse::{Impure, Purity, Ran, Reuse};

use crate::deployed::Deployed;

/// A proof that lets everything pass.
struct Blind;

impl Purity for Blind {
    fn prove(&self, _: &[Arc<str>], _: &Bundle, _: &Ran) -> Result<(), Impure> {
        Ok(())
    }
}

/// A host with one isolate on which `module` serves from kept contexts as far as they can be.
fn kept(module: &str, warm: &str) -> Deployed {
    let deployed = Deployed::proved_by(1, Some(Arc::new(Blind)));
    deployed.push(&[("m", module)]).expect("it is fine");
    for number in 0..limits::CALLS_BEFORE_PROOF {
        deployed.run(warm, &other(number));
    }
    while standing(&deployed) == Reuse::NotYet {
        std::thread::yield_now();
    }
    // One that goes without a kept context, which is made after it, and one that has it.
    deployed.run(warm, &other(limits::CALLS_BEFORE_PROOF));
    deployed.run(warm, &other(limits::CALLS_BEFORE_PROOF + 1));
    deployed
}

/// Arguments that no cached answer has.
fn other(number: u64) -> String {
    format!(r#"{{"number":{number}}}"#)
}

fn standing(deployed: &Deployed) -> Reuse {
    deployed.host.reuse().remove("m.js").expect("it is deployed")
}

/// Calls often enough that most are no samples, and gives the different answers.
fn answers(deployed: &Deployed, path: &str) -> Vec<String> {
    let mut all: Vec<String> = (1_000..1_040)
        .map(|number| match deployed.run(path, &other(number)).result {
            Ok(text) => text.to_string(),
            Err(error) => error.message.lines().next().unwrap_or_default().to_owned(),
        })
        .collect();
    all.dedup();
    all
}

/// Module and body of functions that leave something in an object and say what an earlier call had
/// left there.
const PLACES: &[(&str, &str, &str)] = &[
    ("an array", "const list = [];", "const n = list.length; list.push(1); return n;"),
    ("an object", "const o = {};", "const n = o.n ?? 0; o.n = n + 1; return n;"),
    ("a function", "const g = () => 1;", "const n = g.n ?? 0; g.n = n + 1; return n;"),
    (
        "a hidden object",
        "const get = (() => { const o = { n: 0 }; return () => o; })();",
        "return get().n++;",
    ),
    ("a class", "class C { static n = 0; }", "return C.n++;"),
    (
        "a prototype",
        "class C {}",
        "const n = C.prototype.n ?? 0; C.prototype.n = n + 1;
        return n;",
    ),
    (
        "the prototype of a function",
        "function F() {}",
        "const n = F.prototype.n ?? 0;
        F.prototype.n = n + 1; return n;",
    ),
    ("the global object", "", "const n = globalThis.n ?? 0; globalThis.n = n + 1; return n;"),
    (
        "a built-in",
        "",
        "const n = Array.prototype.n ?? 0; Array.prototype.n = n + 1;
        return n;",
    ),
    (
        "a lazy global",
        "",
        "const n = TextEncoder.prototype.n ?? 0;
        TextEncoder.prototype.n = n + 1; return n;",
    ),
    (
        "an object without prototype",
        "const o = { o: Object.create(null) };",
        "const n = o.o.n ?? 0; o.o.n = n + 1; return n;",
    ),
    (
        "a regular expression",
        "const e = /a/g;",
        "const n = e.lastIndex; e.test('aaa');
        return n;",
    ),
    (
        "inside a regular expression",
        "const e = /a/;",
        "const n = e.source === 'a' ? 0 : 1; e.compile('b'); return n;",
    ),
    (
        "a property of the console",
        "",
        "const n = console.n ?? 0; console.n = n + 1;
        return n;",
    ),
];

#[test]
fn nothing_of_a_call_stays_in_an_object() {
    for (place, module, body) in PLACES {
        let source = format!(
            "import {{ query }} from './abi.js';\n{module}\n\
             export const f = query(async () => {{ {body} }});"
        );
        let deployed = kept(&source, "m:f");
        assert_eq!(answers(&deployed, "m:f"), ["0"], "{place}");
        match standing(&deployed) {
            Reuse::Never(why) => assert!(why.contains("There it threw: "), "{place}: {why}"),
            other => panic!("{place}: {other:?}"),
        }
    }
}

#[test]
fn a_module_that_keeps_state_out_of_properties_has_fresh_contexts() {
    let kinds = [
        ("a Map", "new Map()"),
        ("a Set", "[new Set()]"),
        ("a WeakMap", "new WeakMap()"),
        ("a Date", "new Date(0)"),
        ("a typed array", "new Uint8Array(4)"),
        ("a promise", "new Promise(() => {})"),
        ("an instance of Iterator", "[1, 2][Symbol.iterator]()"),
        ("an instance of Iterator", "[1, 2].values().map((n) => n)"),
        ("an instance of Iterator", "'ab'[Symbol.iterator]()"),
        ("an instance of URL", "new URL('https://a.b/c')"),
        ("an instance of TextDecoder", "new TextDecoder()"),
        ("an instance of Headers", "new (class extends Headers {})()"),
        ("an instance of EventTarget", "new EventTarget()"),
    ];
    for (what, made) in kinds {
        let source = format!(
            "import {{ query }} from './abi.js';\nconst hidden = (() => {{ const made = {made}; \
             return () => made; }})();\nexport const f = query(async () => typeof hidden());"
        );
        let deployed = kept(&source, "m:f");
        match standing(&deployed) {
            Reuse::Never(why) => assert!(why.contains(&format!("it keeps {what}")), "{why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// What a call finds frozen throws; a function that catches it must not come to something else.
#[test]
fn what_is_thrown_and_caught_is_decided_by_a_fresh_context() {
    const BODIES: [(&str, &str); 13] = [
        ("push", "try { list.push(1); return 'set'; } catch { return 'no'; }"),
        ("sort", "try { list.sort(); return 'set'; } catch { return 'no'; }"),
        ("splice", "try { list.splice(0, 1); return 'set'; } catch { return 'no'; }"),
        ("define", "try { Object.defineProperty(given, 'x', {}); return 1; } catch { return 2; }"),
        ("assign", "try { Object.assign(given, { n: 1 }); return 1; } catch { return 2; }"),
        ("prototype", "try { Object.setPrototypeOf(given, {}); return 1; } catch { return 2; }"),
        ("delete", "try { delete list[0]; return 'set'; } catch { return 'no'; }"),
        ("match", "try { return word.test('a b') ? 'is' : 'is not'; } catch { return 'no'; }"),
        ("its own error", "try { throw new Gone(); } catch (e) { return e.name; }"),
        ("a promise", "return (async () => { throw new Gone(); })().catch((e) => e.name);"),
        ("all settled", "const [a] = await Promise.allSettled([set()]); return a.status;"),
        ("finally", "try { given.n = 1; return 'set'; } finally { return 'done'; }"),
        (
            "an index of words",
            "try { words['toString'] = 1; return 'set'; } catch { return 'no'; }",
        ),
    ];
    for (what, body) in BODIES {
        let source = format!(
            "
            import {{ query }} from './abi.js';
            class Gone extends Error {{ constructor() {{ super('gone'); this.name = 'Gone'; }} }}
            const given = (() => ({{}}))();
            const list = (() => [2, 1])();
            const word = (() => /b/g)();
            const set = async () => {{ const own = Object.create(given); own.n = 1; }};
            export const f = query(async (db, {{ number }}) => {{
                const words = Object.create(Object.prototype);
                if (number < 1_000) return 'warm';
                {body}
            }});"
        );
        let fresh = Deployed::on_threads(1);
        fresh.push(&[("m", &source)]).expect("it is fine");
        let expected = fresh.run("m:f", &other(1_000)).result.unwrap().to_string();
        let deployed = kept(&source, "m:f");
        // Until the first calls, which are samples, are over.
        for number in 500..520 {
            deployed.run("m:f", &other(number));
        }
        assert_eq!(answers(&deployed, "m:f"), [expected], "{what}");
        assert_eq!(standing(&deployed), Reuse::Proved, "{what}: it may go on");
    }
}

/// To notice something that is thrown takes V8 a fifth of a millisecond: were each noticed, a call
/// would run out of time in a kept context that ends in a fresh one.
#[test]
fn a_call_may_throw_and_catch_as_often_in_a_kept_context() {
    let source = "
        import { query } from './abi.js';
        export const f = query(async (db, { times }) => {
            let caught = 0;
            for (let at = 0; at < (times ?? 0); at++) {
                try { JSON.parse('{'); } catch { caught++; }
            }
            return caught;
        });
    ";
    let deployed = kept(source, "m:f");
    let often =
        |number: u64| deployed.run("m:f", &format!(r#"{{"times":15000,"number":{number}}}"#));
    for number in 0..2 {
        assert_eq!(&*often(number).result.unwrap(), "15000");
        // Noticed again by the next call.
        assert_eq!(&*deployed.run("m:f", &other(1_000 + number)).result.unwrap(), "0");
    }
    assert_eq!(standing(&deployed), Reuse::Proved);
}

/// Freezing takes longer than a call may: were it done within calls, or again after each error,
/// these would time out.
#[test]
fn no_call_waits_until_contexts_are_frozen() {
    let source = "
        import { query } from './abi.js';
        export const f = query(async () => 1);
        export const nest = query(async (db, { left }) => {
            if (left === 0) throw new Error('too deep');
            return await db.runQuery('m:nest', { left: left - 1 });
        });
    ";
    let deployed = kept(source, "m:f");
    assert_eq!(standing(&deployed), Reuse::Proved);
    for number in 0..8 {
        let answer = deployed.run("m:nest", &format!(r#"{{"left":6,"number":{number}}}"#));
        let error = answer.result.unwrap_err().message;
        assert!(error.starts_with("Uncaught Error: Uncaught Error: "), "{error}");
        assert!(error.contains("too deep"), "{error}");
    }
    assert_eq!(standing(&deployed), Reuse::Proved);
}

#[test]
fn state_of_the_prelude_is_each_calls_own() {
    let source = "
        import { query } from './abi.js';
        export const f = query(async () => {
            console.group();
            console.count('c');
            console.time('t');
            const storage = new AsyncLocalStorage();
            const seen = storage.run(7, () => storage.getStore());
            const left = storage.getStore() ?? null;
            storage.enterWith(8);
            new TextDecoder().decode(new TextEncoder().encode('é'));
            new URLSearchParams('a=1').append('b', '2');
            crypto.randomUUID();
            return [seen, left, new AsyncResource('R').asyncId(), performance.now()];
        });
        export const random = query(async () => [Math.random(), Math.random()]);
    ";
    let deployed = kept(source, "m:f");
    let lines = deployed.run("m:f", "{}").log_lines;
    for number in 1_000..1_040 {
        let outcome = deployed.run("m:f", &other(number));
        assert_eq!(&*outcome.result.unwrap(), "[7,null,1,0]");
        assert_eq!(outcome.log_lines, lines);
        let call = deployed.make("m:random", &other(number));
        let outcome = deployed.run("m:random", &other(number));
        let again = deployed.host.rerun(&call, &outcome.given).expect("it is kept");
        assert_eq!(again.result.unwrap(), outcome.result.unwrap());
    }
    assert_eq!(standing(&deployed), Reuse::Proved);
}

#[test]
fn a_variable_that_the_proof_missed_is_found_by_a_sample() {
    let source = "
        import { query } from './abi.js';
        let n = 0;
        export const f = query(async () => n++);
    ";
    let deployed = kept(source, "m:f");
    assert_eq!(answers(&deployed, "m:f"), ["0"]);
    match standing(&deployed) {
        Reuse::Never(why) => assert!(why.contains("m:f behaved otherwise"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_is_decided_by_a_fresh_context() {
    let source = "
        import { mutation } from './abi.js';
        class Mine extends Error { constructor(text) { super(text); this.name = 'Mine'; } }
        export const f = mutation(async (db, { fail }) => {
            await db.insert('rows', {});
            if (fail) throw new Mine('no');
            return 1;
        });
    ";
    let deployed = kept(source, "m:f");
    for _ in 0..20 {
        // The name is an assignment that a frozen `Error.prototype` refuses.
        let text = deployed.error("m:f", r#"{"fail":true}"#);
        assert!(text.contains("Uncaught Mine: no\n"), "{text}");
        assert_eq!(deployed.value("m:f", "{}"), "1");
    }
    assert_eq!(standing(&deployed), Reuse::Proved, "errors are no reason against it");
}

#[test]
fn a_module_that_asks_keeps_its_state() {
    let source = "
        import { query } from './abi.js';
        export const experimental_reuseContext = true;
        const cache = new Map();
        export const f = query(async () => {
            if (!cache.has('made')) cache.set('made', 42);
            return cache.get('made');
        });
    ";
    let deployed = Deployed::on_threads(1);
    deployed.push(&[("m", source)]).expect("it is fine");
    assert_eq!(answers(&deployed, "m:f"), ["42"]);
    assert_eq!(standing(&deployed), Reuse::AskedFor);
}

#[test]
fn a_context_is_replaced_when_it_has_served_its_calls() {
    let source = format!(
        "import {{ query }} from './abi.js';
        export const experimental_reuseContext = true;
        let calls = 0;
        export const f = query(async () => {{ if (++calls > {}) throw 1; return null; }});",
        limits::CALLS_PER_CONTEXT
    );
    let deployed = Deployed::on_threads(1);
    deployed.push(&[("m", &source)]).expect("it is fine");
    for number in 0..limits::CALLS_PER_CONTEXT + 10 {
        deployed.run("m:f", &other(number));
    }
    assert_eq!(standing(&deployed), Reuse::AskedFor);
}

#[test]
fn the_context_that_was_used_last_is_kept() {
    let source = "
        import { query } from './abi.js';
        export const experimental_reuseContext = true;
        let calls = 0;
        export const f = query(async () => ++calls);
    ";
    let count = usize::try_from(limits::KEPT_CONTEXTS).unwrap() + 1;
    let names: Vec<String> = (0..count).map(|number| format!("m{number}")).collect();
    let modules: Vec<(&str, &str)> = names.iter().map(|name| (&**name, source)).collect();
    let deployed = Deployed::on_threads(1);
    deployed.push(&modules).expect("they are fine");
    // One more than are kept, in turns: each finds that its own is gone.
    for number in 0..3 {
        for name in &names {
            let outcome = deployed.run(&format!("{name}:f"), &other(number));
            assert_eq!((&*outcome.result.unwrap(), outcome.remark), ("1", None), "{name}");
        }
    }
}
