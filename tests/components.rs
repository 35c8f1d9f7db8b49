//! Components in the isolates: contexts of their own, in every tier, in calls that run again.
//!
//! In: bundles with definitions, in plain JavaScript. Out: tiers and outcomes. Invariant: nothing
//! but arguments and results crosses from one component to another.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use database::deployment::{Analysis, Bundle, Environment, Module, Tier};
use database::record::{Call, FunctionPath};

use crate::deployed::{Deployed, bundle};

const APP: &str = r#"
import { query, mutation } from "./abi.js";
globalThis.mark = "the app's";
const at = (name) => `_reference/childComponent/${name}`;
export const ask = query((db, { to, args }) =>
    db.call("runUdf", { udfType: "query", reference: at(to), args }));
export const tell = mutation((db, { to, args }) =>
    db.call("runUdf", { udfType: "mutation", reference: at(to), args }));
export const mine = query(() => [globalThis.mark, typeof globalThis.leaf]);
export const own = query(async (db) => [await db.runQuery("app:one", {})]);
export const one = query(() => 1);
export const deep = mutation(async (db) => {
    const functionHandle = await db.call("createFunctionHandle", { name: "app:deep" });
    return await db.call("runUdf", { udfType: "mutation", reference: at("a/leaf/back"),
        args: { functionHandle } });
});
"#;

const LEAF: &str = r#"
import { query, mutation } from "./abi.js";
globalThis.leaf = "the component's";
let calls = 0;
export const count = query(() => ++calls);
export const marks = query(() => [globalThis.leaf, typeof globalThis.mark]);
export const one = query(() => 1);
export const add = mutation(async (db) => {
    const value = { at: Date.now(), chance: Math.random(), calls: ++calls };
    await db.insert("rows", value);
    return value;
});
export const rows = query(async (db) => (await db.table("rows")).length);
export const fails = mutation(async (db) => {
    await db.insert("rows", {});
    throw new Error("leaf fails");
});
export const back = mutation((db, { functionHandle }) =>
    db.call("runUdf", { udfType: "mutation", functionHandle, args: {} }));
"#;

/// `convex.config.js` of something that uses `children`: names, and paths of definitions.
fn definition(children: &[(&str, &str)]) -> Module {
    let mut source = String::new();
    let mut used = Vec::new();
    for (at, (name, path)) in children.iter().enumerate() {
        let import = URL_SAFE_NO_PAD.encode(path);
        source.push_str(&format!("import c{at} from \"./_componentDeps/{import}\";\n"));
        used.push(format!("{{name:\"{name}\",path:c{at}.componentDefinitionPath,env:[]}}"));
    }
    source.push_str(&format!(
        "export default {{ export: () => ({{ definitionType: {{ type: \"app\" }}, \
         httpMounts: {{}}, childComponents: [{}] }}) }};",
        used.join(",")
    ));
    Module {
        path: "convex.config.js".into(),
        source: source.into(),
        source_map: None,
        environment: Environment::Isolate,
    }
}

/// An app whose components `a` and `b` are of the modules in `leaf`.
fn mounted(app: &[(&str, &str)], leaf: &[(&str, &str)]) -> Bundle {
    let part = Bundle {
        definition: Some(definition(&[])),
        import_time_ms: 0,
        import_seed: [0; 32],
        ..bundle(leaf)
    };
    Bundle {
        definition: Some(definition(&[("a", "leaf"), ("b", "leaf")])),
        components: [(Arc::from("leaf"), Arc::new(part))].into(),
        ..bundle(app)
    }
}

fn deployed() -> Deployed {
    let deployed = Deployed::empty();
    deployed.push_bundle(mounted(&[("app", APP)], &[("leaf", LEAF)])).unwrap();
    deployed
}

fn of(deployed: &Deployed, path: &str) -> String {
    deployed.value("app:ask", &format!(r#"{{"to":"{path}","args":{{}}}}"#))
}

fn told(deployed: &Deployed, path: &str) -> Call {
    deployed.make("app:tell", &format!(r#"{{"to":"{path}","args":{{}}}}"#))
}

/// A call from outside into a component.
fn within(deployed: &Deployed, component: &str, path: &str) -> Call {
    let call = deployed.make(path, "{}");
    Call { path: FunctionPath::clone(&call.path).within(&component.into()), ..call }
}

#[test]
fn a_component_has_a_context_of_its_own_in_each_call() {
    let deployed = deployed();
    let analysis = Arc::clone(&deployed.database.snapshot().deployment.as_ref().unwrap().analysis);
    assert_eq!(analysis.components.units.len(), 1, "equal instances share what is evaluated");
    assert!(matches!(analysis.components.units[0].analysis.tier, Tier::Snapshot(_)));
    assert_eq!(deployed.value("app:mine", "{}"), r#"["the app's","undefined"]"#);
    assert_eq!(of(&deployed, "a/leaf/marks"), r#"["the component's","undefined"]"#);
    for path in ["a/leaf/count", "a/leaf/count", "b/leaf/count"] {
        assert_eq!(of(&deployed, path), "1");
    }
    for _ in 0..3 {
        let call = within(&deployed, "b", "leaf:count");
        let outcome = deployed.start(call).recv().unwrap().unwrap();
        assert_eq!(&*outcome.result.unwrap(), "1");
    }
}

#[test]
fn calls_across_run_again_to_the_same_outcome_while_newer_versions_serve() {
    let deployed = deployed();
    let mut calls = Vec::new();
    for path in ["a/leaf/add", "b/leaf/add", "a/leaf/fails", "a/leaf/add"] {
        let call = told(&deployed, path);
        let outcome = deployed.start(call.clone()).recv().unwrap().unwrap();
        calls.push((call, outcome));
    }
    assert_eq!([of(&deployed, "a/leaf/rows"), of(&deployed, "b/leaf/rows")], ["2", "1"]);
    let other = LEAF.replace("++calls", "calls += 10");
    for leaf in [other.as_str(), "export const nothing = 1;"] {
        deployed.push_bundle(mounted(&[("app", APP)], &[("leaf", leaf)])).unwrap();
        for (call, outcome) in &calls {
            let again = deployed.host.rerun(call, &outcome.given).unwrap();
            crate::determinism::assert_same(&call.path.identifier(), outcome, &again);
        }
    }
    let error = deployed.error("app:ask", r#"{"to":"a/leaf/rows","args":{}}"#);
    assert!(error.contains("Child component \"a\" does not export leaf:rows"), "{error}");
}

#[test]
fn what_a_snapshot_cannot_hold_is_evaluated_for_each_call_in_a_component_too() {
    let wasm = "import { query } from \"./abi.js\";\n\
                const present = typeof WebAssembly.Module;\n\
                let calls = 0;\n\
                export const seen = query(() => [present, ++calls]);";
    let deployed = Deployed::empty();
    let leaf = [("leaf", LEAF), ("wasm", wasm)];
    deployed.push_bundle(mounted(&[("app", APP)], &leaf)).unwrap();
    let analysis = Arc::clone(&deployed.database.snapshot().deployment.as_ref().unwrap().analysis);
    assert!(matches!(analysis.tier, Tier::Snapshot(_)), "the app's modules are in the snapshot");
    assert!(matches!(analysis.components.units[0].analysis.tier, Tier::Partial { .. }));
    for _ in 0..2 {
        assert_eq!(of(&deployed, "a/wasm/seen"), r#"["function",1]"#);
        assert_eq!(of(&deployed, "b/leaf/count"), "1");
        let call = within(&deployed, "b", "wasm:seen");
        let outcome = deployed.start(call).recv().unwrap().unwrap();
        assert_eq!(&*outcome.result.unwrap(), r#"["function",1]"#);
    }
}

#[test]
fn an_app_without_a_snapshot_calls_its_components_all_the_same() {
    let frozen = format!("{LEAF}\nObject.freeze(globalThis);");
    let deployed = Deployed::empty();
    let leaf = [("leaf", frozen.as_str())];
    deployed.push_bundle(mounted(&[("app", APP)], &leaf)).unwrap();
    let analysis = Arc::clone(&deployed.database.snapshot().deployment.as_ref().unwrap().analysis);
    let Tier::Evaluate { reason: Some(reason), .. } = &analysis.tier else {
        panic!("{:?}", analysis.tier)
    };
    assert!(reason.contains("cannot be kept in a startup snapshot"), "{reason}");
    assert_eq!(of(&deployed, "a/leaf/count"), "1");
    assert_eq!(deployed.value("app:mine", "{}"), r#"["the app's","undefined"]"#);
}

#[test]
fn calls_back_and_forth_end_at_the_limit() {
    let error = deployed().error("app:deep", "{}");
    assert!(error.contains("Cross component call depth limit exceeded."), "{error}");
}

/// Modules that tell which of them were evaluated.
fn telling(names: &[String], top: impl Fn(&str) -> &'static str) -> Vec<(&str, String)> {
    let text = |name: &String| {
        let top = top(name);
        format!(
            r#"import {{ query }} from "./abi.js"; import {{ seen }} from "./_deps/seen.js";
            seen.push("{name}"); {top}
            export const f = query(() => seen);"#
        )
    };
    let list = ("_deps/seen", "export const seen = [];".to_owned());
    names.iter().map(|name| (name.as_str(), text(name))).chain([list]).collect()
}

fn with_texts<'a>(modules: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    modules.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

#[test]
fn a_module_of_a_component_is_called_in_a_context_of_its_own() {
    let names = ["m0", "m1", "m2", "m3"].map(ToOwned::to_owned);
    let app = telling(&names, |_| "");
    let leaf = telling(&names, |name| match name {
        "m1" => "globalThis.first = 1;",
        // It fails without the other.
        "m2" => "if (globalThis.first !== 1) throw new Error('alone');",
        // It is in no snapshot.
        "m3" => "typeof WebAssembly;",
        _ => "",
    });
    let mut app = with_texts(&app);
    app.push(("app", APP));
    let deployed = Deployed::empty();
    deployed.push_bundle(mounted(&app, &with_texts(&leaf))).unwrap();
    for _ in 0..2 {
        let alone = [("m0", r#"["m0"]"#), ("m1", r#"["m1"]"#)];
        let shared = [("m2", r#"["m0","m1","m2"]"#), ("m3", r#"["m0","m1","m2","m3"]"#)];
        for (name, seen) in alone.into_iter().chain(shared) {
            assert_eq!(of(&deployed, &format!("a/{name}/f")), seen);
            let call = within(&deployed, "b", &format!("{name}:f"));
            let outcome = deployed.start(call).recv().unwrap().unwrap();
            assert_eq!(&*outcome.result.unwrap(), seen);
            // The app's module of the same name.
            assert_eq!(deployed.value(&format!("{name}:f"), "{}"), format!(r#"["{name}"]"#));
        }
    }
}

#[test]
fn contexts_of_modules_are_counted_over_all_parts_the_apps_first() {
    let names: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
    let (app, leaf) = (telling(&names[..5], |_| ""), telling(&names, |_| ""));
    let mut app = with_texts(&app);
    app.push(("app", APP));
    let deployed = Deployed::empty();
    deployed.push_bundle(mounted(&app, &with_texts(&leaf))).unwrap();
    let analysis = Arc::clone(&deployed.database.snapshot().deployment.as_ref().unwrap().analysis);
    let own = |analysis: &Analysis| {
        let Tier::Snapshot(blob) = &analysis.tier else { panic!("they fit a snapshot") };
        blob.contexts.values().copied().collect::<BTreeSet<_>>()
    };
    let (of_app, of_leaf) = (own(&analysis), own(&analysis.components.units[0].analysis));
    assert_eq!(of_app, (1..7).collect(), "after the component's whole one, number 0");
    assert!(of_leaf.len() <= 8 - 6 && of_leaf.iter().all(|n| *n > 6), "{of_leaf:?}");
    assert_eq!(deployed.value("m03:f", "{}"), r#"["m03"]"#);
    assert!(of(&deployed, "a/m07/f").contains(r#""m07""#));
}
