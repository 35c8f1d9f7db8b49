//! A call into a component, next to the same function called in the app.
//!
//! In: one query that calls another, which is in the app or in a component. Out: a table on
//! standard output; how much the boundary costs. Bounded by counts.
//!
//!   cargo bench --profile fast --bench components
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a bench prints, dies when it fails, and shares a file with the tests"
)]

#[path = "../tests/deployed.rs"]
mod deployed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::deployment::{Bundle, Environment, Module};
use deployed::{Deployed, bundle};

/// Calls of each kind; the two take turns, so that both see the same machine.
const CALLS: u64 = 2_000;

const LEAF: &str = r#"
import { query, mutation } from "./abi.js";
export const read = query((db, { n }) => db.table("rows", [{ limit: 1 }]));
export const write = mutation((db, { n }) => db.insert("rows", { n }));
"#;

const APP: &str = r#"
import { query, mutation } from "./abi.js";
export { read, write } from "./leaf.js";
const run = (udfType) => (db, { n, ...where }) =>
    db.call("runUdf", { udfType, args: { n }, ...where });
export const ask = query(run("query"));
export const tell = mutation(run("mutation"));
"#;

const CONFIG: &str = r#"
import leaf from "./_componentDeps/bGVhZg";
export default { export: () => ({ childComponents:
    [{ name: "leaf", path: leaf.componentDefinitionPath, env: [] }] }) };
"#;

fn main() {
    let deployed = Deployed::on_threads(1);
    deployed.push_bundle(app()).unwrap();
    for (caller, callee) in [("app:ask", "read"), ("app:tell", "write")] {
        let here = format!("\"name\":\"app:{callee}\"");
        let there = format!("\"reference\":\"_reference/childComponent/leaf/leaf/{callee}\"");
        let mut times = [Vec::new(), Vec::new()];
        for n in 0..CALLS {
            for (times, place) in times.iter_mut().zip([&here, &there]) {
                let call = deployed.make(caller, &format!("{{{place},\"n\":{n}}}"));
                let start = Instant::now();
                deployed.start(call).recv().unwrap().unwrap().result.unwrap();
                times.push(start.elapsed());
            }
        }
        let [here, there] = times.map(median);
        let more = 100.0 * (there.as_secs_f64() / here.as_secs_f64() - 1.0);
        println!(
            "{caller} → {callee}: in the app {here:?}, in a component {there:?} ({more:+.0} %)"
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn app() -> Bundle {
    let config = |source: &str| {
        Some(Module {
            path: "convex.config.js".into(),
            source: source.into(),
            source_map: None,
            environment: Environment::Isolate,
        })
    };
    let leaf = "export default { export: () => ({}) };";
    let part = Bundle {
        definition: config(leaf),
        import_time_ms: 0,
        import_seed: [0; 32],
        ..bundle(&[("leaf", LEAF)])
    };
    Bundle {
        definition: config(CONFIG),
        components: [(Arc::from("leaf"), Arc::new(part))].into(),
        ..bundle(&[("app", APP), ("leaf", LEAF)])
    }
}
