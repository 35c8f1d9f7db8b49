//! The end of a push: `wait_for_schema` and `finish_push` (`convex-compat.md` sections 6.6, 6.7).
//!
//! In: the id of a push that was started. Out: whether the documents fit; then the activation, and
//! what it changed.
//! Invariant: a push ends only on top of the deployment that it was started on; otherwise it is a
//! race, and the CLI starts again. A dry run activates nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use database::deployment::{Analysis, Bundle};
use database::record::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::pending::{self, Push, SchemaChange};
use super::{Keyed, definition, started};
use crate::event::{Event, PushEvent};
use crate::host::Host;
use crate::refusal::Failure;

/// The body of `finish_push`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FinishPush {
    admin_key: Option<String>,
    start_push: Started,
    #[serde(default)]
    dry_run: bool,
}

/// Of our own answer to `start_push` only the id matters: the rest is kept here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    schema_change: SchemaChange,
}

impl Keyed for FinishPush {
    fn admin_key(&self) -> Option<&str> {
        self.admin_key.as_deref()
    }
}

/// The answer of `wait_for_schema`. The check is made here and now, so it is never in progress.
pub(super) fn schema_status(host: &Host, change: &SchemaChange) -> Value {
    let Some(push) = host.pushes.find(change) else {
        return json!({ "type": "raceDetected" });
    };
    for (component, analysis) in push.analysis.each() {
        let checked = match &analysis.schema {
            Some(schema) => host.database.check_schema(component, schema),
            None => Ok(()),
        };
        if let Err(error) = checked {
            return json!({
                "type": "failed",
                "error": error.message,
                "componentPath": component,
                "tableName": table_of(&error.message),
            });
        }
    }
    json!({ "type": "complete" })
}

/// The answer of `finish_push`.
///
/// # Errors
/// A push that is not known any more, a race, or documents that do not fit.
pub(super) fn response(host: &Host, asked: &FinishPush) -> Result<Value, Failure> {
    let push = host.pushes.find(&asked.start_push.schema_change).ok_or_else(|| {
        race(
            "This push is not known any more: concave was restarted, or newer pushes came since. \
              Push again.",
        )
    })?;
    if push.bundle.for_codegen {
        let text = "This push was for code generation only. Push without `forCodegen`.";
        return Err(Failure::bad("OnlyForCodegen", text));
    }
    let watch = host.stopwatch();
    let _turn = host.pushes.turn();
    let running = pending::running(&host.database);
    let unchanged = running.as_ref().is_some_and(|running| running.bundle == push.bundle);
    if !unchanged && !pending::same(&push.base, &running) {
        host.pushes.remove(&push);
        return Err(race("Another push was finished while this one was under way. Push again."));
    }
    let mut diff = difference(host, &push)?;
    diff["concave"] = json!({ "version": push.analysis.version.to_string() });
    if asked.dry_run {
        return Ok(diff);
    }
    let result = if unchanged {
        Ok(host.database.snapshot().ts)
    } else {
        host.functions.activate(push.bundle.clone(), push.analysis.clone()).map_err(Failure::push)
    };
    tell(host, &push, watch, (unchanged, &result));
    if result.is_ok() {
        host.pushes.remove(&push);
    }
    result.map(|_| diff)
}

fn tell(
    host: &Host,
    push: &Arc<Push>,
    watch: u64,
    (unchanged, result): (bool, &Result<Timestamp, Failure>),
) {
    let analysis = &push.analysis;
    host.tell(Event::Push(PushEvent {
        version: analysis.version.to_string(),
        functions: analysis.each().map(functions).sum(),
        duration_ns: host.elapsed(watch),
        result: result.as_ref().copied().map_err(|failure| failure.message.clone()),
        unchanged,
        warnings: started::warnings(push),
    }));
}

fn functions((_, analysis): (&str, &Analysis)) -> usize {
    analysis.modules.values().map(|module| module.functions.len()).sum()
}

/// Tells that a push ended before there was anything to activate.
pub(super) fn tell_failure(host: &Host, watch: u64, failure: &Failure) {
    host.tell(Event::Push(PushEvent {
        version: String::new(),
        functions: 0,
        duration_ns: host.elapsed(watch),
        result: Err(failure.message.clone()),
        unchanged: false,
        warnings: Vec::new(),
    }));
}

fn race(message: &str) -> Failure {
    Failure::bad("RaceDetected", message)
}

/// `FinishPushDiff`: what the push changed, against what it was started on.
fn difference(host: &Host, push: &Push) -> Result<Value, Failure> {
    let before = push.base.as_deref().map(|base| &*base.analysis);
    let texts = |analysis: &Analysis| -> Result<BTreeSet<String>, Failure> {
        Ok(definition::providers(analysis)?.iter().map(Value::to_string).collect())
    };
    let auth = added_and_removed(
        &before.map(texts).transpose()?.unwrap_or_default(),
        &texts(&push.analysis)?,
    );
    let mut diffs = Map::new();
    for (component, _) in push.analysis.each() {
        diffs.insert(component.to_owned(), component_diff(host, push, component)?);
    }
    for (component, _) in before.into_iter().flat_map(Analysis::each) {
        if push.analysis.of(component).is_none() {
            diffs.insert(component.to_owned(), component_diff(host, push, component)?);
        }
    }
    Ok(json!({ "authDiff": auth, "definitionDiffs": {}, "componentDiffs": diffs }))
}

/// What happens to one component; the empty path is the app.
fn component_diff(host: &Host, push: &Push, component: &str) -> Result<Value, Failure> {
    let base = push.base.as_deref();
    let before =
        base.and_then(|base| Some((base.bundle(component)?, base.analysis.of(component)?)));
    let after = push.analysis.of(component).map(|analysis| {
        let unit = push.analysis.components.unit(component);
        (unit.map_or(&push.bundle, |unit| &unit.bundle), analysis)
    });
    let kind = match (before, after) {
        (Some(_), None) => "unmount",
        (Some(_), Some(_)) => "modify",
        // Its tables are still there.
        (None, _) if !component.is_empty() && host.database.snapshot().has_component(component) => {
            "remount"
        }
        (None, _) => "create",
    };
    type Part<'a> = Option<(&'a Arc<Bundle>, &'a Analysis)>;
    let paths = |part: Part<'_>| -> BTreeSet<String> {
        part.into_iter()
            .flat_map(|(bundle, _)| bundle.modules.keys())
            .map(|p| p.to_string())
            .collect()
    };
    let schema = |part: Part<'_>| Some(part?.1.schema.as_ref()?.json.clone());
    let (old_schema, new_schema) = (schema(before), schema(after));
    let schema_diff = (old_schema != new_schema)
        .then(|| json!({ "previous_schema": old_schema, "next_schema": new_schema }));
    let version = |part: Part<'_>| Some(part?.0.udf_server_version.clone());
    let version_diff = version(before).zip(version(after)).filter(|(old, new)| old != new);
    let version_diff =
        version_diff.map(|(old, new)| json!({ "previous_version": old, "next_version": new }));
    Ok(json!({
        "diffType": { "type": kind },
        "moduleDiff": added_and_removed(&paths(before), &paths(after)),
        "udfConfigDiff": version_diff,
        "cronDiff": cron_diff(before.map(|part| part.1), after.map(|part| part.1)),
        "indexDiff": started::index_diff(push, component)?,
        "schemaDiff": schema_diff,
    }))
}

fn added_and_removed(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Value {
    json!({
        "added": after.difference(before).collect::<Vec<_>>(),
        "removed": before.difference(after).collect::<Vec<_>>(),
    })
}

fn cron_diff(before: Option<&Analysis>, after: Option<&Analysis>) -> Value {
    let before = before.map(definition::crons).unwrap_or_default();
    let after = after.map(definition::crons).unwrap_or_default();
    let changed = |name: &&String| before.get(*name).is_some_and(|old| *old != after[*name]);
    json!({
        "added": after.keys().filter(|name| !before.contains_key(*name)).collect::<Vec<_>>(),
        "updated": after.keys().filter(changed).collect::<Vec<_>>(),
        "deleted": before.keys().filter(|name| !after.contains_key(*name)).collect::<Vec<_>>(),
    })
}

/// The table that a schema error speaks of: `… in table "name" …` (section 3.3).
fn table_of(message: &str) -> Option<&str> {
    message.split_once("in table \"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_table_in_the_text() {
        let text = "Document with ID \"j5\" in table \"users\" does not match the schema: …";
        assert_eq!(table_of(text), Some("users"));
        assert_eq!(table_of("something else"), None);
    }
}
