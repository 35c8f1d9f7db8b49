//! `_system/frontend/components:list`: every component, mounted or not (`convex-compat.md` section
//! 6.9).
//!
//! In: the newest snapshot. Out: JSON of the list. Invariant: a component's id is its path, which
//! names the same tables for as long as the database lives.

use database::commit::Database;
use database::components::Binding;
use serde_json::{Map, Value, json};

/// `[{id, name, path, args, state, httpPrefix}]`, the app left out.
pub(super) fn list(database: &Database) -> String {
    let snapshot = database.snapshot();
    let mounted = snapshot.deployment.as_ref().map(|now| &now.analysis.components);
    let known = snapshot.components().filter(|path| !path.is_empty());
    let list = known.map(|path| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let unit = mounted.and_then(|components| components.unit(path));
        let prefix = mounted.and_then(|components| components.mounts.get(parent)).and_then(|all| {
            all.iter().find(|(_, child)| *child == path).map(|(prefix, _)| prefix.as_str())
        });
        let environment = unit.into_iter().flat_map(|unit| &unit.environment);
        let environment: Map<String, Value> = environment
            .map(|(name, binding)| match binding {
                Binding::Value(value) => (name.clone(), json!({ "value": &**value })),
                Binding::Variable(of_app) => (name.clone(), json!({ "envVar": &**of_app })),
            })
            .collect();
        json!({
            "id": &**path,
            "name": name,
            "path": &**path,
            "args": environment,
            "state": if unit.is_some() { "active" } else { "unmounted" },
            "httpPrefix": prefix,
        })
    });
    Value::Array(list.collect()).to_string()
}
