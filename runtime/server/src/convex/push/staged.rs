//! Staged validators: what a table's documents would have to look like one push later
//! (`stagedDocumentType` of `convex-compat.md` section 3.2).
//!
//! In: the validators that the running schema and the pushed one stage. Out: whether the documents
//! there are fit, and which staged validators the push drops.
//! Invariant: nothing is enforced here and nothing is kept. Documents are in memory, so a state is
//! found out when it is asked for: it is never pending, and never out of date.

use std::sync::Arc;

use database::id::TableNumber;
use database::key::Interval;
use database::snapshot::Snapshot;
use database::validate::Validator;
use database::value::Value as Document;
use serde_json::{Value, json};

use crate::refusal::Failure;

/// The document type of one table, and the one that is staged for it.
#[derive(Clone, Copy)]
pub(super) struct Staging<'a> {
    pub(super) document: Option<&'a Value>,
    pub(super) staged: Option<&'a Value>,
}

/// What a staged validator has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Every document fits.
    Valid,
    /// The first document that does not.
    Failed(String),
}

/// What there is to say about one table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Of the validator that is staged, or was until this push.
    pub(super) state: Option<State>,
    /// The push enforces what was staged.
    pub(super) applied: bool,
    /// The push drops what was staged without enforcing it, and whether it stages another.
    pub(super) discarded: Option<bool>,
}

impl State {
    /// As `evaluate_schema` spells it.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Valid => json!({ "state": "valid" }),
            Self::Failed(error) => json!({ "state": "failed", "error": error }),
        }
    }
}

/// Looks at one table of a component before and after the push.
///
/// # Errors
/// Only a broken rule of ours: a validator that was accepted and cannot be read.
pub(super) fn look(
    snapshot: &Snapshot,
    (component, table): (&str, &str),
    before: Staging<'_>,
    after: Staging<'_>,
) -> Result<Found, Failure> {
    let applied = before.staged.is_some() && before.staged == after.document;
    let dropped = before.staged.is_some() && before.staged != after.staged && !applied;
    // What is staged from now on counts more than what was.
    let Some(staged) = after.staged.or(before.staged) else {
        return Ok(Found::default());
    };
    let state = check(snapshot, (component, table), staged)?;
    let was_valid = match before.staged {
        Some(old) if dropped && old != staged => {
            check(snapshot, (component, table), old)? == State::Valid
        }
        _ => state == State::Valid,
    };
    Ok(Found {
        state: Some(state),
        applied,
        // One that failed is no loss.
        discarded: (dropped && was_valid).then_some(after.staged.is_some()),
    })
}

fn check(
    snapshot: &Snapshot,
    (component, name): (&str, &str),
    staged: &Value,
) -> Result<State, Failure> {
    let validator = Validator::from_json(&staged.to_string()).map_err(|error| {
        Failure::broken(format!("A staged validator was kept in a wrong shape: {}", error.message))
    })?;
    let Some(table) = snapshot.table(component, name) else {
        return Ok(State::Valid);
    };
    let tables =
        |number: TableNumber| -> Option<Arc<str>> { snapshot.table_name(component, number) };
    for (_, document) in snapshot.range(table.by_id.id, &Interval::all()) {
        let mut value = document.value();
        if let Document::Object(fields) = &mut value {
            fields.remove("_id");
            fields.remove("_creationTime");
        }
        if let Err(error) = validator.check(&value, &tables) {
            let id = document.id.encode();
            return Ok(State::Failed(format!(
                "Document with ID \"{id}\" in table \"{name}\" does not match the staged \
                 schema: {error}"
            )));
        }
    }
    Ok(State::Valid)
}

/// Bytes of the documents of a table.
pub(super) fn size(snapshot: &Snapshot, component: &str, table: &str) -> u64 {
    let Some(table) = snapshot.table(component, table) else { return 0 };
    let all = snapshot.range(table.by_id.id, &Interval::all());
    all.map(|(_, document)| u64::from(document.size)).sum()
}
