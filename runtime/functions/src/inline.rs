//! Modules that are not deployed, next to those that are: `convex run --inline-query`.
//!
//! In: the modules, the component they are for, and what runs. Out: a bundle of both, to be
//! analyzed and run once.
//! Invariant: the bundle is never activated, so what it brings replaces nothing that runs.

use std::sync::Arc;

use database::deployment::{Bundle, Environment, Module};
use database::snapshot::Deployment;

/// What runs, as far as an isolate can evaluate it, with `modules` in a component; the empty path
/// is the app.
pub(crate) fn bundle(
    running: Option<&Deployment>,
    component: &str,
    modules: Vec<Module>,
) -> Bundle {
    let Some(running) = running else {
        return with(Bundle::default(), modules);
    };
    let app = Bundle::clone(&running.bundle);
    let Some(instance) = running.analysis.components.instances.get(component) else {
        return with(app, modules);
    };
    let mut app = with(app, Vec::new());
    if let Some(definition) = app.components.get_mut(&instance.definition) {
        *definition = Arc::new(with(Bundle::clone(definition), modules));
    }
    app
}

/// What an isolate can evaluate of a bundle, and `modules`.
pub(crate) fn with(mut bundle: Bundle, modules: Vec<Module>) -> Bundle {
    bundle.schema = None;
    bundle.node_packages.clear();
    let evaluated = |module: &Module| {
        module.environment == Environment::Isolate && &*module.path != "auth.config.js"
    };
    bundle.modules.retain(|_, module| evaluated(module));
    bundle.modules.extend(modules.into_iter().map(|module| (module.path.clone(), module)));
    bundle
}
