//! Modules that are not deployed, next to those that are: `convex run --inline-query`.
//!
//! In: the modules, and the running bundle. Out: a bundle of both, to be analyzed and run once.
//! Invariant: the bundle is never activated, so what it brings replaces nothing that runs.

use database::deployment::{Bundle, Environment, Module};

/// The running modules that an isolate can evaluate, and `modules`.
pub(crate) fn bundle(running: Option<&Bundle>, modules: Vec<Module>) -> Bundle {
    let mut bundle = running.cloned().unwrap_or_default();
    bundle.schema = None;
    bundle.definition = None;
    bundle.node_packages.clear();
    let evaluated = |module: &Module| {
        module.environment == Environment::Isolate && &*module.path != "auth.config.js"
    };
    bundle.modules.retain(|_, module| evaluated(module));
    bundle.modules.extend(modules.into_iter().map(|module| (module.path.clone(), module)));
    bundle
}
