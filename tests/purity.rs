//! What a push sees run at import, and what the proof of purity makes of it, on real bundles.
//!
//! In: the examples, bundled by us and by esbuild, and npm packages. Out: verdicts by module.
//! Invariant: the modules of an ordinary app are pure; of each refused one the reason is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bundler::purity::verdict;
use database::deployment::{Analysis, Bundle, Module};

use crate::bundles;
use crate::deployed::Deployed;

fn pushed(bundle: Bundle) -> Arc<Analysis> {
    let deployed = Deployed::empty();
    deployed.push_bundle(bundle).unwrap();
    deployed.database.snapshot().deployment.clone().unwrap().analysis.clone()
}

/// The refused modules, with why.
fn refused(modules: BTreeMap<Arc<str>, Module>) -> Vec<String> {
    let bundle = Bundle { modules: modules.clone(), ..Bundle::default() };
    let analysis = pushed(bundle);
    let judged = modules.values().map(|module| {
        let ran = analysis.ran_at_import.get(&module.path).map_or(&[][..], Vec::as_slice);
        verdict(&module.path, &module.source, ran)
    });
    judged.filter_map(|verdict| verdict.err().map(|why| why.to_string())).collect()
}

#[test]
fn ordinary_apps_are_pure() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (name, entries) in [
        ("transfer", &["accounts", "seed", "transfer"][..]),
        ("chat", &["messages", "channels", "users"]),
        ("swaghaus", &["shop", "stock"]),
        ("components", &["messages"]),
    ] {
        let example = examples.join(name);
        eprintln!("{name} {:?}", refused(bundles::ours(&example)));
        eprintln!("{name} {:?}", refused(bundles::esbuilds(&example, entries)));
    }
    let bundling = bundles::project();
    for entry in ["dates", "functions", "ids", "lodash", "page", "zod"] {
        eprintln!("{entry} {:?}", refused(bundles::esbuilds(&bundling, &[entry])));
    }
    eprintln!("all {:#?}", refused(bundles::ours(&bundling)));
}
