//! A module that is not deployed, next to those that are: `convex run --inline-query`.
//!
//! In: its source, and the running bundle. Out: a bundle of both, to be analyzed and run once.
//! Invariant: what it brings replaces nothing that runs; the bundle is never activated.

use database::deployment::{Bundle, Environment, Module};
use database::record::FunctionPath;

/// Where an inline module finds `query`; npm's command line imports it by this path.
const WRAPPERS_PATH: &str = "_system/repl/wrappers.js";

const WRAPPERS: &str = include_str!("../../../js/system/wrappers.js");

/// The running modules that an isolate can evaluate, and an inline one at `path`.
pub(crate) fn bundle(running: Option<&Bundle>, path: &FunctionPath, source: &str) -> Bundle {
    let mut bundle = running.cloned().unwrap_or_default();
    bundle.schema = None;
    bundle.definition = None;
    bundle.node_packages.clear();
    let evaluated = |module: &Module| {
        module.environment == Environment::Isolate && &*module.path != "auth.config.js"
    };
    bundle.modules.retain(|_, module| evaluated(module));
    for (path, source) in [(WRAPPERS_PATH, WRAPPERS), (&*path.module, source)] {
        let module = Module {
            path: path.into(),
            source: source.into(),
            source_map: None,
            environment: Environment::Isolate,
        };
        bundle.modules.insert(module.path.clone(), module);
    }
    bundle
}
