//! Pushes: what each kind of bundle comes to, and that a failed one leaves the previous serving.

use std::time::Duration;

use database::deployment::Tier;
use database::record::Functions as _;

use crate::deployed::{Deployed, Made, bundle};

const ONE: &str = r#"import { query } from "./abi.js"; export const f = query(() => 1);"#;

/// The function as `import` would leave it, after a line of top-level code.
fn with(top: &str) -> String {
    format!("{top}\nimport {{ query }} from \"./abi.js\"; export const f = query(() => 2);")
}

fn tier(top: &str) -> Result<Tier, String> {
    let deployed = Deployed::empty();
    let bundle = std::sync::Arc::new(bundle(&[("m", &with(top))]));
    let analysis = deployed.host.analyze(bundle.clone()).map_err(|e| e.message)?;
    deployed.host.activate(bundle, analysis.clone()).map_err(|e| e.message)?;
    assert_eq!(deployed.value("m:f", "{}"), "2", "{top}");
    assert_eq!(deployed.value("m:f", r#"{"again":1}"#), "2", "{top}");
    Ok(analysis.tier.clone())
}

#[test]
fn plain_bundles_are_kept_in_a_snapshot() {
    for top in
        ["", "const table = new Map([[1, { a: [2n, /x/g, new Date(0), new Uint8Array(9)] }]]);"]
    {
        assert!(matches!(tier(top), Ok(Tier::Snapshot(_))), "{top}");
    }
}

/// Modules that say at import that they were imported, and tell who has.
const IMPORTED: &str = r#"export const imported = [];"#;

fn telling(name: &str, top: &str) -> String {
    format!(
        r#"import {{ query }} from "./abi.js"; import {{ imported }} from "./_deps/imported.js";
        imported.push("{name}"); {top}
        export const f = query(() => imported);
        export const g = query((db) => db.runQuery("a:f", {{}}));"#
    )
}

#[test]
fn a_module_is_called_in_a_context_of_its_own() {
    let (a, b) = (telling("a", "globalThis.a = 1;"), telling("b", ""));
    // It needs what `a` does at import.
    let c = telling("c", "if (globalThis.a !== 1) throw new Error('no a');");
    // It exports something else without it.
    let d = telling("d", "export const h = globalThis.a === 1 ? query(() => 4) : 4;");
    let sources = [("a", a), ("b", b), ("c", c), ("d", d)];
    let mut sources: Vec<_> = sources.iter().map(|(name, text)| (*name, text.as_str())).collect();
    sources.push(("_deps/imported", IMPORTED));
    let deployed = Deployed::empty();
    let bundle = std::sync::Arc::new(bundle(&sources));
    let analysis = deployed.host.analyze(bundle.clone()).expect("the modules are fine");
    deployed.host.activate(bundle, analysis.clone()).expect("nothing is stored");
    let Tier::Snapshot(blob) = &analysis.tier else { panic!("they fit a snapshot") };
    let own: Vec<&str> = blob.contexts.keys().map(|entry| &**entry).collect();
    assert_eq!(own, ["a.js", "b.js"]);
    for _ in 0..2 {
        assert_eq!(deployed.value("a:f", "{}"), r#"["a"]"#);
        assert_eq!(deployed.value("b:f", "{}"), r#"["b"]"#);
        assert_eq!(deployed.value("c:f", "{}"), r#"["a","b","c","d"]"#);
        assert_eq!(deployed.value("d:h", "{}"), "4");
        // A nested call finds what a call from outside finds.
        assert_eq!(deployed.value("b:g", "{}"), r#"["a"]"#);
        assert_eq!(deployed.value("c:g", "{}"), r#"["a"]"#);
    }
}

#[test]
fn modules_share_contexts_where_there_are_many() {
    let names: Vec<String> = (0..70).map(|n| format!("m{n:02}")).collect();
    let sources: Vec<String> = names.iter().map(|name| telling(name, "")).collect();
    let mut modules: Vec<(&str, &str)> =
        names.iter().zip(&sources).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    modules.push(("_deps/imported", IMPORTED));
    let deployed = Deployed::with(&modules);
    let nine: Vec<String> = names[..9].iter().map(|name| format!("{name:?}")).collect();
    assert_eq!(deployed.value("m00:f", "{}"), format!("[{}]", nine.join(",")));
    let seven: Vec<String> = names[63..].iter().map(|name| format!("{name:?}")).collect();
    assert_eq!(deployed.value("m69:f", "{}"), format!("[{}]", seven.join(",")));
}

#[test]
fn bundles_that_cannot_be_snapshotted_are_evaluated_and_say_why() {
    for top in ["Object.freeze(globalThis);", "globalThis.format = new Intl.NumberFormat('de');"] {
        match tier(top) {
            Ok(Tier::Evaluate { reason: Some(reason), .. }) => {
                let cure = ["top level of a file", "at import", "inside the function"];
                assert!(cure.iter().any(|words| reason.contains(words)), "{reason}");
            }
            other => panic!("{top}: {}", if other.is_ok() { "snapshot" } else { "refused" }),
        }
    }
}

#[test]
fn a_module_that_needs_wasm_is_evaluated_and_nothing_to_warn_of() {
    let wasm = "const m = new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0]));";
    assert!(matches!(tier(wasm), Ok(Tier::Partial { .. })));
}

#[test]
fn modules_that_fail_are_refused_with_their_place() {
    let error = |top: &str| tier(top).err().unwrap_or_else(|| panic!("{top} was accepted"));
    let thrown = error("function boom() { throw new Error('no'); } boom();");
    assert!(thrown.starts_with("Failed to analyze m.js: Uncaught Error: no"), "{thrown}");
    assert!(thrown.contains("boom (convex:/m.js:1:"), "{thrown}");
    let gone = error("import './gone.js';");
    assert!(gone.contains("Couldn't find JavaScript module 'gone.js'"), "{gone}");
    let place = error("let x = ;");
    let expected = "SyntaxError: Unexpected token ';'\n    at <anonymous> (convex:/m.js:1:9)";
    assert!(place.contains(expected), "{place}");
    let place = error("import { nope } from './abi.js';");
    assert!(place.contains("(convex:/m.js:1:10)"), "{place}");
    assert!(error("await 1;").contains("Top-level awaits in source files are unsupported"));
    let endless = error("const never = () => {\n  for (;;) ;\n};\nnever();");
    let seconds = database::limits::ANALYSIS_TIME_MS / 1000;
    let expected = format!(
        "Evaluating your modules was stopped: they used {seconds} seconds of CPU, and were running \
         at m.js:2:"
    );
    assert!(endless.starts_with(&expected), "{endless}");
    let hungry = error("const kept = []; for (;;) kept.push(new Array(1e6).fill(0));");
    assert!(hungry.contains("memory") || hungry.contains("stopped"), "{hungry}");
    let database = error("Convex.syscall('1.0/queryStream', '{}');");
    assert!(database.contains("Can't use database at import time"), "{database}");
}

#[test]
fn a_failed_push_leaves_the_previous_deployment() {
    let deployed = Deployed::with(&[("m", ONE)]);
    assert_eq!(deployed.value("m:f", "{}"), "1");
    deployed.push(&[("m", "throw new Error('broken');")]).unwrap_err();
    assert_eq!(deployed.value("m:f", "{}"), "1");
    deployed.push(&[("m", &with(""))]).unwrap();
    assert_eq!(deployed.value("m:f", "{}"), "2");
}

#[test]
fn a_schema_that_existing_documents_break_is_refused_whole() {
    let source = r#"import { mutation } from "./abi.js";
        export const add = mutation((db, v) => db.insert("t", v));"#;
    let deployed = Deployed::with(&[("m", source)]);
    deployed.value("m:add", r#"{"n":"text"}"#);
    let schema = r#"export default { export: () => JSON.stringify({ schemaValidation: true,
        tables: [{ tableName: "t", indexes: [], documentType: { type: "object", value: {
        n: { fieldType: { type: "number" }, optional: false } } } }] }) };"#;
    let error = deployed.push(&[("m", source), ("schema", schema)]).unwrap_err();
    assert!(error.message.contains("in table \"t\" does not match the schema"), "{error}");
    deployed.value("m:add", r#"{"n":"still free"}"#);
}

#[test]
fn a_push_in_the_middle_of_calls_gives_each_one_version() {
    let deployed = Deployed::with(&[("m", ONE)]);
    for round in 0..6 {
        let calls: Vec<_> = (0..40)
            .map(|n| deployed.start(deployed.make("m:f", &format!(r#"{{"n":{n},"r":{round}}}"#))))
            .collect();
        let source = if round % 2 == 0 { with("") } else { ONE.to_owned() };
        deployed.push(&[("m", &source)]).unwrap();
        for call in calls {
            let text = call.recv().unwrap().unwrap().result.unwrap();
            assert!(["1", "2"].contains(&&*text), "{text}");
        }
    }
}

/// Snapshots of several deployments alive at once in one process: V8's shared read-only heap.
#[test]
fn snapshots_of_several_deployments_live_together() {
    let deployed: Vec<Deployed> = (0..4)
        .map(|n| {
            let top =
                format!("const big = Array.from({{ length: {} }}, (_, i) => ({{ i }}));", n * 500);
            Deployed::with(&[("m", &with(&top))])
        })
        .collect();
    for round in 0..50 {
        let args = format!(r#"{{"round":{round}}}"#);
        let calls: Vec<_> = deployed.iter().map(|one| one.start(one.make("m:f", &args))).collect();
        for call in calls {
            assert_eq!(&*call.recv().unwrap().unwrap().result.unwrap(), "2");
        }
    }
}

/// Waits until the snapshot of the last push was tried; gives its tier.
fn completed(deployed: &Deployed) -> Tier {
    loop {
        let tier = deployed.host.newest().expect("something is deployed").tier.clone();
        if !tier.is_provisional() {
            return tier;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn deployed_tier(deployed: &Deployed) -> Tier {
    deployed.database.snapshot().deployment.as_ref().expect("deployed").analysis.tier.clone()
}

/// A host as `concave dev` starts it, with its first push behind it.
fn in_dev() -> Deployed {
    let deployed = Deployed::made(Made { answers_at_once: true, ..Made::default() });
    deployed.push(&[("m", ONE)]).expect("the module is fine");
    deployed
}

#[test]
fn a_second_push_in_dev_serves_before_its_snapshot_is_made() {
    let deployed = in_dev();
    assert!(matches!(deployed_tier(&deployed), Tier::Snapshot(_)));
    for round in 0..3 {
        let top = format!("const ROUND = {round};");
        deployed.push(&[("m", &with(&top)), ("n", ONE)]).unwrap();
        assert!(deployed_tier(&deployed).is_provisional());
        assert_eq!(deployed.value("m:f", &format!("{{\"n\":{round}}}")), "2");
        assert!(matches!(completed(&deployed), Tier::Snapshot(_)));
        for n in 0..4 {
            assert_eq!(deployed.value("n:f", &format!("{{\"n\":{n},\"r\":{round}}}")), "1");
        }
    }
}

#[test]
fn modules_that_need_each_other_wait_for_their_snapshot() {
    let needs = "if (globalThis.a !== 1) throw new Error('no a');";
    let deployed = in_dev();
    deployed.push(&[("a", &with("globalThis.a = 1;")), ("b", &with(needs))]).unwrap();
    assert!(matches!(deployed_tier(&deployed), Tier::Snapshot(_)));
    assert_eq!(deployed.value("b:f", "{}"), "2");
}

#[test]
fn a_snapshot_that_cannot_be_made_is_told_with_the_next_call_and_the_next_push() {
    let deployed = in_dev();
    let top = "Object.freeze(globalThis);";
    deployed.push(&[("m", &with(top))]).unwrap();
    assert!(deployed_tier(&deployed).is_provisional());
    assert!(matches!(completed(&deployed), Tier::Evaluate { .. }));
    let told = deployed.run("m:f", "{}").remark.expect("the author is told");
    assert!(told.contains("cannot be kept in a startup snapshot"), "{told}");
    assert_eq!(deployed.run("m:f", r#"{"again":1}"#).remark, None);
    deployed.push(&[("m", &with(&format!("{top} // again")))]).unwrap();
    assert!(matches!(deployed_tier(&deployed), Tier::Evaluate { reason: Some(_), .. }));
}
