//! What a push sees run at import, and what the proof of purity makes of it, on real bundles.
//!
//! In: modules whose import runs some of their functions; the examples, bundled by us and by
//! esbuild; npm packages. Out: what ran, and verdicts. Invariant: the modules of an ordinary app
//! are pure, and of each refused one the reason is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bundler::purity::verdict;
use database::deployment::{Analysis, Bundle, Module, Tier};

use crate::bundles;
use crate::deployed::Deployed;

fn analysis(deployed: &Deployed) -> Arc<Analysis> {
    Arc::clone(&deployed.database.snapshot().deployment.as_ref().unwrap().analysis)
}

/// The refused modules, with why.
fn refused(modules: BTreeMap<Arc<str>, Module>) -> Vec<String> {
    let deployed = Deployed::empty();
    deployed.push_bundle(Bundle { modules: modules.clone(), ..Bundle::default() }).unwrap();
    let ran = deployed.host.ran_at_import().remove(0);
    let judged = modules.values().map(|module| {
        let ran = ran.get(&module.path).map_or(&[][..], Vec::as_slice);
        verdict(&module.path, &module.source, ran)
    });
    judged.filter_map(|verdict| verdict.err().map(|why| why.to_string())).collect()
}

/// A `§` stands behind each function that runs at import.
const MARKED: &str = r#"// 😀 two units of UTF-16
import { query } from "./abi.js";
function never() { return () => 1; }
function ran() { return () => never(); }§
const arrow = (value) => (value)§;
class Plain { a = 1; m() { return 2; }§ get g() { return 3; }§ static s() {} }
class Fields extends Plain { #b = arrow(1); c§; inc() { this.#b++; } }
class Made { constructor() { this.d = 1; }§ }
class Static { static e = arrow(2); static { ran(); }§ }
class Unmade { #f = 1; inc() { this.#f++; } }
const object = { get h() { return 4; }§, set h(value) {}§, *i() {}, async j() {}§ };
new Fields().m(); new Fields().g; new Made(); object.h = object.h; object.j();
(function () { ran(); }§)();
export const run = query(async () => new Fields().inc());
"#;

#[test]
fn what_runs_at_import_is_seen_in_every_tier() {
    let mut source = String::new();
    let mut expected = Vec::new();
    for part in MARKED.split_inclusive('§') {
        source.push_str(part.trim_end_matches('§'));
        expected.push(u32::try_from(source.encode_utf16().count()).unwrap());
    }
    // No `§` has room there: the field's semicolon is not part of it.
    let before = source.split("; m()").next().unwrap();
    expected.push(u32::try_from(before.encode_utf16().count()).unwrap());
    expected.sort_unstable();
    let wasm = "new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))";
    let late = format!("import \"./m.js\";\nexport const made = {wasm};\n");
    let refusal = verdict("m.js", &source, &expected).unwrap_err().to_string();
    assert!(refusal.contains("`#b` is assigned"), "{refusal}");
    for modules in [&[("m", &*source)][..], &[("m", &source), ("late", &late)]] {
        let deployed = Deployed::with(modules);
        let analysis = analysis(&deployed);
        assert_eq!(matches!(analysis.tier, Tier::Snapshot(_)), modules.len() == 1);
        let texts = |ends: &[u32]| {
            let units: Vec<u16> = source.encode_utf16().collect();
            let upto = |end: &u32| String::from_utf16_lossy(&units[..*end as usize]);
            ends.iter().map(upto).map(|t| t[t.len() - 20..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(&deployed.host.ran_at_import()[0]["m.js"]), texts(&expected));
    }
}

#[test]
fn ordinary_apps_are_pure() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (name, entries) in [
        ("transfer", &["accounts", "seed", "transfer"][..]),
        ("chat", &["channels", "messages", "users"]),
        ("swaghaus", &["shop", "stock"]),
    ] {
        let example = examples.join(name);
        assert_eq!(refused(bundles::ours(&example)), [""; 0], "{name}");
        assert_eq!(refused(bundles::esbuilds(&example, entries)), [""; 0], "{name} by esbuild");
    }
}

#[test]
fn packages_are_pure_or_the_reason_is_known() {
    let ours = refused(bundles::ours(&bundles::project()));
    assert!(ours.iter().any(|why| {
        why.starts_with("nested/counter.js:3:3: a function assigns `counter`, a variable of the")
    }));
    let known = |why: &&String| {
        !["a function assigns", "`Function` runs", "auth.config.js", "is frozen, as those"]
            .iter()
            .any(|part| why.contains(part))
    };
    assert_eq!(ours.iter().find(known), None);
    for (entry, reason) in [
        ("dates", None),
        ("ids", None),
        ("functions", Some("functions.js:1:10: `Object.create` at import")),
        ("zod", Some("shows a function whether an object is frozen")),
    ] {
        let refused = refused(bundles::esbuilds(&bundles::project(), &[entry]));
        let found = refused.first().map(String::as_str);
        assert_eq!(found.is_some(), reason.is_some(), "{entry}: {found:?}");
        assert!(found.unwrap_or("").contains(reason.unwrap_or("")), "{entry}: {found:?}");
    }
}
