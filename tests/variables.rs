//! Environment variables in V8: reads in handlers, reads at import, in both tiers.
//!
//! In: modules that read variables. Out: checks of what they see after each change.
//! Invariant: a call sees the values of its snapshot; what modules saw at import are those too.

use database::deployment::Tier;
use database::environment::Change;
use database::record::Functions as _;

use crate::deployed::Deployed;

fn set(deployed: &Deployed, name: &str, value: Option<&str>) -> Result<(), String> {
    let change = Change { name: name.to_owned(), value: value.map(str::to_owned) };
    deployed.host.change_environment(&[change]).map(drop).map_err(|error| error.message)
}

const PLAIN: &str = r#"
import { mutation, query } from "./abi.js";
const mode = process.env.MODE ?? "none";
export const atImport = query(async () => mode);
export const now = query(async () => [process.env.MODE ?? null, process.env.KEY ?? null]);
export const keep = mutation(async (db) => {
    await db.insert("kept", { key: process.env.KEY });
    return process.env.KEY;
});
export const other = query(async () => process.env.OTHER ?? null);
"#;

/// The same in a bundle that no snapshot can hold.
fn unsnapshotted() -> String {
    let empty = "new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))";
    format!("{PLAIN}\nconst module = {empty};")
}

#[test]
fn both_tiers_see_at_import_what_the_snapshot_holds() {
    for (source, in_snapshot) in [(PLAIN.to_owned(), true), (unsnapshotted(), false)] {
        let deployed = Deployed::empty();
        set(&deployed, "MODE", Some("first")).unwrap();
        deployed.push(&[("m", &source)]).unwrap();
        let analysis = deployed.database.snapshot().deployment.clone().unwrap().analysis.clone();
        assert_eq!(matches!(analysis.tier, Tier::Snapshot(_)), in_snapshot);
        let seen: Vec<_> = analysis.imported_environment.iter().collect();
        assert_eq!(seen, [(&"MODE".to_owned(), &Some("first".to_owned()))]);
        for turn in 0..4 {
            // The first context is made for its call, others ahead: equal calls read the same.
            let call = deployed.make("m:atImport", &format!(r#"{{"turn":{turn}}}"#));
            let first = deployed.start(call.clone()).recv().unwrap().unwrap();
            assert_eq!(first.result, Ok("\"first\"".into()));
            let again = deployed.host.rerun(&call, &first.given).unwrap();
            assert_eq!((again.result, again.reads), (first.result, first.reads));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        set(&deployed, "KEY", Some("k")).unwrap();
        let same = deployed.database.snapshot().deployment.clone().unwrap();
        assert_eq!(same.analysis.version, analysis.version, "KEY was not looked at");
        assert_eq!(deployed.value("m:now", "{}"), r#"["first","k"]"#);
        set(&deployed, "MODE", None).unwrap();
        assert_eq!(deployed.value("m:atImport", "{}"), "\"none\"");
        assert_eq!(deployed.value("m:now", "{}"), r#"[null,"k"]"#);
        let newest = deployed.database.snapshot().deployment.clone().unwrap();
        assert_ne!(newest.analysis.version, analysis.version);
        set(&deployed, "MODE", Some("first")).unwrap();
        let back = deployed.database.snapshot().deployment.clone().unwrap();
        assert_eq!(back.analysis.version, analysis.version, "equal inputs, equal version");
    }
}

#[test]
fn a_change_ends_cached_results_that_read_it_and_no_others() {
    let deployed = Deployed::with(&[("m", PLAIN)]);
    let cached = |path: &str| deployed.run(path, "{}").cached;
    deployed.run("m:now", "{}");
    deployed.run("m:other", "{}");
    assert!(cached("m:now") && cached("m:other"));
    set(&deployed, "KEY", Some("1")).unwrap();
    assert!(!cached("m:now") && cached("m:other"));
    set(&deployed, "KEY", Some("1")).unwrap();
    assert!(cached("m:now"), "the same value is no change");
}

#[test]
fn a_call_is_reproduced_with_the_values_of_its_snapshot() {
    let deployed = Deployed::with(&[("m", PLAIN)]);
    set(&deployed, "KEY", Some("then")).unwrap();
    let call = deployed.make("m:keep", "{}");
    let first = deployed.start(call.clone()).recv().unwrap().unwrap();
    set(&deployed, "KEY", Some("later")).unwrap();
    let again = deployed.host.rerun(&call, &first.given).unwrap();
    assert_eq!(again.result, Ok("\"then\"".into()));
    assert_eq!((again.writes_digest, again.reads), (first.writes_digest, first.reads));
}

#[test]
fn a_change_that_breaks_the_modules_changes_nothing() {
    let source = format!("{PLAIN}\nif (mode === \"bad\") throw new Error(\"no such mode\");");
    let deployed = Deployed::with(&[("m", &source)]);
    let before = deployed.database.snapshot().ts;
    let said = set(&deployed, "MODE", Some("bad")).unwrap_err();
    assert!(said.contains("no such mode") && said.contains("m.js"), "{said}");
    assert_eq!(deployed.database.snapshot().ts, before);
    assert_eq!(deployed.value("m:now", "{}"), "[null,null]");
}
