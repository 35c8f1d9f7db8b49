//! What a function can do and what it is told when it fails: the syscall ABI, errors, nesting.

use crate::deployed::Deployed;

const NOTES: &str = r#"
import { action, query, mutation, db } from "./abi.js";
export const crowded = action(() => 1);
export const add = mutation((db, { text }) => db.insert("notes", { text }));
export const list = query(async (db) => (await db.table("notes")).map((note) => note.text));
export const get = query((db, { id }) => db.get(id));
export const edit = mutation(async (db, { id, text }) => { await db.patch(id, { text }); });
export const remove = mutation(async (db, { id }) => { await db.remove(id); });
export const secret = query(() => 42, "isInternal");
export const writes_in_query = query((db) => db.insert("notes", { text: "no" }));
export const throws = query(() => { throw new TypeError("bad thing"); });
export const throws_text = query(() => { throw "just text"; });
export const throws_null = mutation(async () => { throw null; });
export const never = query(() => new Promise(() => {}));
export const unhandled = query(() => { Promise.reject(new Error("nobody caught me")); return 1; });
export const logs = query(() => { console.log("a", 1, { b: [2] }); console.warn("careful"); });
export const half = mutation(async (db) => {
    await db.insert("notes", { text: "half" });
    throw new Error("after the write");
});
export const nests = mutation(async (db) => {
    await db.insert("notes", { text: "outer" });
    try { await db.runMutation("notes:half", {}); } catch (e) {
        return e.message.includes("after"); }
});
export const sees_own = mutation(async (db) => {
    await db.insert("notes", { text: "own" });
    return await db.runQuery("notes:list", {});
});
export const forever = mutation((db) => db.runMutation("notes:forever", {}));
"#;

fn notes() -> Deployed {
    Deployed::with(&[("notes", NOTES)])
}

#[test]
fn documents_come_back_as_they_went_in() {
    let deployed = notes();
    let id = deployed.value("notes:add", r#"{"text":"hello"}"#);
    assert_eq!(deployed.value("notes:list", "{}"), r#"["hello"]"#);
    let document = deployed.value("notes:get", &format!(r#"{{"id":{id}}}"#));
    assert!(document.contains(r#""text":"hello""#) && document.contains(&id), "{document}");
    deployed.value("notes:edit", &format!(r#"{{"id":{id},"text":"bye"}}"#));
    assert_eq!(deployed.value("notes:list", "{}"), r#"["bye"]"#);
    deployed.value("notes:remove", &format!(r#"{{"id":{id}}}"#));
    assert_eq!(deployed.value("notes:list", "{}"), "[]");
}

#[test]
fn a_failed_mutation_leaves_nothing() {
    let deployed = notes();
    let error = deployed.error("notes:half", "{}");
    assert!(error.starts_with("Uncaught Error: after the write\n    at "), "{error}");
    assert!(error.contains("convex:/notes.js:"), "{error}");
    assert_eq!(deployed.value("notes:list", "{}"), "[]");
}

#[test]
fn a_nested_mutation_that_fails_is_undone_and_its_caller_goes_on() {
    let deployed = notes();
    assert_eq!(deployed.value("notes:nests", "{}"), "true");
    assert_eq!(deployed.value("notes:list", "{}"), r#"["outer"]"#);
    assert_eq!(deployed.value("notes:sees_own", "{}"), r#"["outer","own"]"#);
}

#[test]
fn endless_nesting_hits_its_limit() {
    let error = notes().error("notes:forever", "{}");
    assert!(error.contains("call depth limit exceeded"), "{error}");
}

#[test]
fn queries_do_not_write() {
    let error = notes().error("notes:writes_in_query", "{}");
    assert!(error.contains("queries only read"), "{error}");
}

#[test]
fn whatever_is_thrown_becomes_a_text() {
    let deployed = notes();
    let error = deployed.error("notes:throws", "{}");
    assert!(error.starts_with("Uncaught TypeError: bad thing\n    at "), "{error}");
    assert_eq!(deployed.error("notes:throws_text", "{}"), "Uncaught just text");
    assert_eq!(deployed.error("notes:throws_null", "{}"), "Uncaught null");
    let error = deployed.error("notes:never", "{}");
    assert!(error.starts_with("Returned promise will never resolve"), "{error}");
    let error = deployed.error("notes:unhandled", "{}");
    assert!(error.starts_with("Uncaught Error: nobody caught me"), "{error}");
}

#[test]
fn an_action_that_the_host_did_not_begin_is_refused_and_not_failed() {
    use database::error::Refusal;
    use database::record::Caller;
    let deployed = notes();
    let mut call = deployed.make("notes:crowded", "{}");
    let refusal = deployed.start(call.clone()).recv().unwrap().unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Overloaded { code: "ActionNotStarted", message }
            if message == "too many"),
        "{refusal:?}"
    );
    // A refusal would close the session, and other actions of it run.
    call.caller = Caller::SyncWorker;
    let outcome = deployed.start(call).recv().unwrap().unwrap();
    assert_eq!(outcome.result.unwrap_err().message, "too many");
}

#[test]
fn console_lines_come_in_convex_format() {
    let outcome = notes().run("notes:logs", "{}");
    let lines: Vec<_> =
        outcome.log_lines.iter().map(database::record::LogLine::client_text).collect();
    assert_eq!(lines, ["[LOG] 'a' 1 { b: [ 2 ] }", "[WARN] 'careful'"]);
}

#[test]
fn internal_functions_do_not_exist_for_the_public() {
    use database::record::{Expect, FunctionKind, Identity};
    let deployed = notes();
    let mut call = deployed.make("notes:secret", "{}");
    assert_eq!(deployed.value("notes:secret", "{}"), "42");
    call.identity = Identity::Anonymous;
    call.expect = Expect::Kind(FunctionKind::Query);
    let outcome = deployed.start(call).recv().unwrap().unwrap();
    let error = outcome.result.unwrap_err().message;
    assert!(error.starts_with("Could not find public function for 'notes:secret'."), "{error}");
    let mut call = deployed.make("notes:list", "{}");
    call.expect = Expect::Kind(FunctionKind::Mutation);
    let error = deployed.start(call).recv().unwrap().unwrap().result.unwrap_err().message;
    assert_eq!(error, "Trying to execute notes:list as Mutation, but it is defined as Query.");
}

/// A context that was made ahead has the outer call's microtask queue, which V8 will not let go of
/// while it runs: nested calls make their own.
#[test]
fn nested_calls_run_beside_contexts_made_ahead() {
    let deployed = notes();
    for round in 0..40 {
        let args = format!(r#"{{"round":{round}}}"#);
        assert_eq!(deployed.value("notes:nests", &args), "true");
    }
}

#[test]
fn a_call_that_fails_its_checks_keeps_its_kind() {
    use database::record::FunctionKind;
    let checked = r#"
        export const f = { isMutation: true, isPublic: true, exportReturns: () => "null",
            exportArgs: () => '{"type":"object","value":{}}', invokeMutation: async () => "1" };"#;
    let deployed = Deployed::with(&[("m", checked)]);
    let outcome = deployed.run("m:f", r#"{"extra":1}"#);
    assert_eq!(outcome.kind, FunctionKind::Mutation);
    let error = outcome.result.unwrap_err().message;
    assert!(error.starts_with("ArgumentValidationError: Object contains extra field"), "{error}");
}

#[test]
fn equal_queries_at_one_moment_run_once() {
    let deployed = notes();
    deployed.value("notes:add", r#"{"text":"shared"}"#);
    for round in 0..5 {
        // Something slow is ahead of them, so that they are all in flight together.
        let slow: Vec<_> = (0..4)
            .map(|n| deployed.start(deployed.make("notes:add", &format!(r#"{{"text":"{n}"}}"#))))
            .collect();
        slow.into_iter().for_each(|answer| drop(answer.recv().unwrap().unwrap()));
        let args = format!(r#"{{"round":{round}}}"#);
        let answers: Vec<_> =
            (0..20).map(|_| deployed.start(deployed.make("notes:list", &args))).collect();
        let seeds: std::collections::BTreeSet<_> =
            answers.into_iter().map(|answer| answer.recv().unwrap().unwrap().given.seed).collect();
        assert_eq!(seeds.len(), 1, "20 answers came from {} executions", seeds.len());
    }
}

const LAZY: &str = r#"
import { query } from "./abi.js";
const shape = (owner, name) => {
    const { value, writable, enumerable, configurable } =
        Object.getOwnPropertyDescriptor(owner, name);
    return [typeof value, value.name, writable, enumerable, configurable].join();
};
export const shapes = query(() => [[globalThis, "URL"], [globalThis, "setTimeout"],
    [Promise, "try"], [WeakMap.prototype, "getOrInsert"]].map(([o, n]) => shape(o, n)));
export const replace = query(() => {
    globalThis.URL = 6;
    delete globalThis.Event;
    Math.sumPrecise = 7;
    return [URL, typeof Event, Math.sumPrecise, Object.keys(globalThis).length];
});
export const same = query(() => [URL === globalThis.URL, new URL("http://h/p").host]);
"#;

#[test]
fn what_the_prelude_makes_on_first_touch_looks_as_if_it_had_always_been() {
    let freezes = format!("Object.freeze(globalThis);{LAZY}");
    let touches =
        format!("new URL('http://a'); Object.freeze(Promise); Object.freeze(Math);{LAZY}");
    let deployed = Deployed::with(&[("m", LAZY)]);
    let shape = |name: &str| format!(r#""function,{name},true,false,true""#);
    let shapes = ["URL", "setTimeout", "try", "getOrInsert"].map(shape).join(",");
    for _ in 0..2 {
        assert_eq!(deployed.value("m:shapes", "{}"), format!("[{shapes}]"));
        assert_eq!(deployed.value("m:replace", "{}"), r#"[6,"undefined",7,0]"#);
        assert_eq!(deployed.value("m:same", "{}"), r#"[true,"h"]"#);
    }
    let touched = Deployed::with(&[("m", &touches)]);
    let shapes = shapes.replace(r#"try,true,false,true"#, "try,false,false,false");
    assert_eq!(touched.value("m:shapes", "{}"), format!("[{shapes}]"));
    assert!(touched.error("m:replace", "{}").contains("Cannot assign to read only property"));
    let frozen = Deployed::with(&[("m", &freezes)]);
    assert_eq!(frozen.value("m:same", "{}"), r#"[true,"h"]"#);
    assert!(frozen.error("m:replace", "{}").contains("Cannot assign to read only property"));
}

#[test]
fn while_memory_is_short_new_calls_are_refused_and_the_operators_are_not() {
    use database::error::Refusal;
    use database::memory::Pressure;
    use database::record::{Call, Caller, Identity};
    let deployed = notes();
    deployed.value("notes:add", r#"{"text":"before"}"#);
    deployed.database.press(Pressure::Full("9 of 8 MiB".to_owned()));
    let operators = deployed.make("notes:list", "{}");
    let anybodys = Call { identity: Identity::Anonymous, ..operators.clone() };
    // An action's calls have transactions of their own, also where the scheduler began it.
    let inner = Call { caller: Caller::Function { depth: 1 }, ..anybodys.clone() };
    let scheduled = Call { identity: Identity::System, ..inner.clone() };
    for call in [anybodys, inner, scheduled] {
        match deployed.start(call).recv().unwrap() {
            Err(Refusal::Overloaded { code: "OutOfMemory", message }) => {
                assert_eq!(message, "9 of 8 MiB");
            }
            other => panic!("{other:?}"),
        }
    }
    let outcome = deployed.start(operators).recv().unwrap().unwrap();
    assert_eq!(&*outcome.result.unwrap(), r#"["before"]"#);
    let add = || deployed.start(deployed.make("notes:add", r#"{"text":"more"}"#)).recv().unwrap();
    deployed.database.press(Pressure::Over("10 of 8 MiB.".to_owned()));
    match add() {
        Err(Refusal::Overloaded { code: "OutOfMemory", message }) => {
            assert!(message.starts_with("10 of 8 MiB. Above 110 % of it"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    deployed.database.press(Pressure::Calm);
    assert_eq!(deployed.value("notes:list", "{}"), r#"["before"]"#);
}
