//! The answers of `start_push` and `evaluate_push` (`convex-compat.md` section 6.4).
//!
//! In: an analyzed push. Out: what it contains and what it would change.
//! Invariant: the CLI echoes the answer of `start_push` to `finish_push` verbatim, so the push's id
//! inside `schemaChange` finds it again; nothing secret is in it.

use database::deployment::Tier;
use serde_json::{Map, Value, json};

use super::pending::Push;
use super::{definition, indexes};
use crate::host::Host;
use crate::refusal::Failure;

/// The answer of `start_push`.
///
/// # Errors
/// An auth configuration that is not one.
pub(super) fn response(host: &Host, push: &Push) -> Result<Value, Failure> {
    let analysis = &push.analysis;
    Ok(json!({
        // The server keeps the values and checks for races itself; nothing is echoed.
        "environmentVariables": {},
        "externalDepsId": null,
        "componentDefinitionPackages": {},
        "appAuth": definition::providers(analysis)?,
        "analysis": definition::analysis(&push.bundle, analysis)?,
        "app": definition::tree(analysis, ""),
        "schemaChange": schema_change(push)?,
        "concave": concave(host, push),
    }))
}

/// The answer of `evaluate_push`.
///
/// # Errors
/// Only a broken rule of ours.
pub(super) fn evaluation(push: &Push) -> Result<Value, Failure> {
    Ok(json!({ "schemaChange": schema_change(push)? }))
}

/// Added, removed, enabled and disabled indexes of a component.
///
/// # Errors
/// Only a broken rule of ours.
pub(super) fn index_diff(push: &Push, component: &str) -> Result<Value, Failure> {
    let (old, new) = index_sets(push, component)?;
    Ok(indexes::difference(&old, &new))
}

/// The indexes of a component before and after a push.
///
/// # Errors
/// Only a broken rule of ours.
pub(super) fn index_sets(
    push: &Push,
    component: &str,
) -> Result<(indexes::Indexes, indexes::Indexes), Failure> {
    let before = push.base.as_ref().and_then(|base| base.schema(component).map(|s| &**s));
    let of = |schema| {
        indexes::of(schema).map_err(|error| {
            Failure::broken(format!("A schema was kept in a wrong shape: {error}"))
        })
    };
    let after = push.analysis.of(component).and_then(|found| found.schema.as_deref());
    Ok((of(before)?, of(after)?))
}

/// What the author should know that does not fail the push.
pub(super) fn warnings(push: &Push) -> Vec<String> {
    let mut indexes = Vec::new();
    for (component, analysis) in push.analysis.each() {
        let tables = analysis.schema.iter().flat_map(|schema| &schema.tables);
        for (table, declared) in tables {
            let search = declared.search_indexes.keys().map(|name| ("search index", name));
            let vector = declared.vector_indexes.keys().map(|name| ("vector index", name));
            indexes.extend(search.chain(vector).map(|(kind, name)| {
                let place = match component {
                    "" => String::new(),
                    path => format!(" of component {path:?}"),
                };
                format!("{kind} {table}.{name}{place}")
            }));
        }
    }
    let search = (!indexes.is_empty()).then(|| {
        format!(
            "This version of concave has no search yet. The schema may declare it, but queries by \
             it will fail here: {}.",
            indexes.join(", ")
        )
    });
    push.analysis.warnings.iter().cloned().chain(search).collect()
}

fn schema_change(push: &Push) -> Result<Value, Failure> {
    let mut schemas = Map::new();
    let mut indexes = Map::new();
    for (component, analysis) in push.analysis.each() {
        schemas.insert(component.to_owned(), json!(analysis.schema.as_ref().map(|_| &push.id)));
        indexes.insert(component.to_owned(), index_diff(push, component)?);
    }
    Ok(json!({
        "allocatedComponentIds": {},
        "schemaIds": schemas,
        "indexDiffs": indexes,
        "pushId": push.id,
    }))
}

/// What only concave's own command reads: zod lets unknown keys pass.
fn concave(host: &Host, push: &Push) -> Value {
    let analysis = &push.analysis;
    let slow_start = match &analysis.tier {
        Tier::Snapshot(_) | Tier::Partial { .. } => None,
        Tier::Evaluate { reason, .. } => reason.as_ref(),
    };
    let unchanged = push.base.as_ref().is_some_and(|base| base.bundle == push.bundle);
    json!({
        "version": analysis.version.to_string(),
        "instanceName": host.config.instance_name,
        "warnings": warnings(push),
        "withoutSnapshot": slow_start,
        "unchanged": unchanged,
    })
}
