//! Environment variables: part of every snapshot, each read of one recorded.
//!
//! In: changes from the operator. Out: values for `process.env`.
//! Invariant: the running code's modules were evaluated with the values that the newest snapshot
//! holds: a change that would break this is refused here, and comes again with newly evaluated
//! modules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::{all_variables, environment_key};
use crate::commit::{Database, OPERATOR, Writer};
use crate::error::PushError;
use crate::key::{Interval, Key, decode_key};
use crate::limits;
use crate::log::{LogEntry, MAP_NODE_BYTES};
use crate::read_set::ReadSet;
use crate::record::Timestamp;
use crate::snapshot::{CATALOG, Snapshot};
use crate::transaction::Transaction;
use crate::value::Value;

/// The variable that holds the origin of the API, set by the host.
pub const CLOUD_URL: &str = "CONVEX_CLOUD_URL";

/// The variable that holds the origin of HTTP actions, set by the host.
pub const SITE_URL: &str = "CONVEX_SITE_URL";

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its value.
    pub value: Arc<str>,
    /// When it was set.
    pub set: Timestamp,
}

/// Every variable of a deployment, by name. A copy is free.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables(imbl::OrdMap<Arc<str>, Variable>);

/// One variable to be set, or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its value; `None` deletes it.
    pub value: Option<String>,
}

impl Variables {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.0.get(name).map(|variable| &variable.value)
    }

    /// A variable, with when it was set.
    pub(crate) fn variable(&self, name: &str) -> Option<&Variable> {
        self.0.get(name)
    }

    /// Puts back what was stored.
    pub(crate) fn restore(&mut self, name: &str, variable: Option<Variable>) {
        match variable {
            Some(variable) => drop(self.0.insert(name.into(), variable)),
            None => drop(self.0.remove(name)),
        }
    }

    /// All of them, by name, those of the host included.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Variable)> {
        self.0.iter()
    }

    /// Those that the operator has set, by name.
    pub fn set_by_operator(&self) -> impl Iterator<Item = (&Arc<str>, &Variable)> {
        self.0.iter().filter(|(name, _)| !is_built_in(name))
    }

    /// As they are after `changes`, made at `ts`.
    pub fn after(&self, changes: &[Change], ts: Timestamp) -> Self {
        let mut next = self.clone();
        for Change { name, value } in changes {
            match value.as_deref() {
                Some(value) if next.get(name).is_some_and(|old| **old == *value) => {}
                Some(value) => {
                    next.0.insert(name.as_str().into(), Variable { value: value.into(), set: ts });
                }
                None => drop(next.0.remove(name.as_str())),
            }
        }
        next
    }

    /// Whether modules that saw `imported` would see the same now.
    pub fn agrees(&self, imported: &BTreeMap<String, Option<String>>) -> bool {
        let same = |(name, seen): (&String, &Option<String>)| {
            self.get(name).map(|value| &**value) == seen.as_deref()
        };
        imported.iter().all(same)
    }

    /// Memory of the variable that a catalog key names.
    pub(crate) fn bytes_at(&self, key: &[u8]) -> usize {
        match &decode_key(key)[..] {
            [Some(Value::String(kind)), Some(Value::String(name))] if kind == "environment" => {
                self.get(name).map_or(0, |value| value.len() + MAP_NODE_BYTES)
            }
            _ => 0,
        }
    }

    /// The keys of variables that differ between the two.
    pub(crate) fn changed_keys(&self, before: &Self) -> Vec<Key> {
        let names: BTreeSet<&Arc<str>> = self.0.keys().chain(before.0.keys()).collect();
        let changed = names.into_iter().filter(|name| self.get(name) != before.get(name));
        changed.map(|name| environment_key(name)).collect()
    }
}

/// What somebody depends on who may read any variable.
pub fn every_variable() -> ReadSet {
    let mut reads = ReadSet::default();
    reads.insert(CATALOG, all_variables());
    reads
}

/// Whether the host sets a variable.
pub fn is_built_in(name: &str) -> bool {
    name == CLOUD_URL || name == SITE_URL
}

/// Checks changes that the operator asks for.
///
/// # Errors
/// A name that is malformed, too long, taken by the host or there twice; a value that is too long;
/// too many variables, or too many bytes of them (`convex-compat.md` section 6.11).
pub fn check(variables: &Variables, changes: &[Change]) -> Result<(), PushError> {
    let mut seen = BTreeSet::new();
    for Change { name, value } in changes {
        check_name(name)?;
        if !seen.insert(name) {
            let text = format!("The environment variable {name} is there twice. Send it once.");
            return Err(PushError::new("EnvVarNameNotUnique", text));
        }
        let length = value.as_ref().map_or(0, String::len) as u64;
        let most = limits::ENVIRONMENT_VALUE_BYTES;
        if length > most {
            let text = format!(
                "The value of {name} is too long: {length} bytes, and the limit is {most}. Keep \
                 larger data in a table or in file storage."
            );
            return Err(PushError::new("EnvironmentVariableValueTooLarge", text));
        }
    }
    let next = variables.after(changes, Timestamp::default());
    let count = next.set_by_operator().count() as u64;
    let most = limits::ENVIRONMENT_VARIABLES;
    if count > most {
        let text = format!(
            "There are too many environment variables: {count} with this change, and the limit is \
             {most}. Unset some first."
        );
        return Err(PushError::new("EnvVarLimitMet", text));
    }
    let bytes = next.set_by_operator().map(|(name, found)| name.len() + found.value.len());
    let (bytes, most) = (bytes.sum::<usize>() as u64, limits::ENVIRONMENT_BYTES);
    if bytes > most {
        let text = format!(
            "The environment variables are too large together: {bytes} bytes, and the limit is \
             {most}. Keep larger data in a table or in file storage."
        );
        return Err(PushError::new("EnvVarTotalSizeLimitMet", text));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), PushError> {
    let most = limits::ENVIRONMENT_NAME_BYTES;
    if name.len() as u64 > most {
        let length = name.len();
        let text = format!(
            "The name of an environment variable is too long: {length} bytes, and the limit is \
             {most}."
        );
        return Err(PushError::new("EnvironmentVariableNameTooLong", text));
    }
    if !is_name(name) {
        let text = format!(
            "{name:?} cannot be the name of an environment variable: it must begin with a letter \
             or an underscore and hold only letters, digits and underscores."
        );
        return Err(PushError::new("EnvironmentVariableNameInvalid", text));
    }
    if is_built_in(name) {
        let text = format!(
            "The environment variable {name} is set by the host and cannot be changed. Choose \
             another name."
        );
        return Err(PushError::new("EnvVarNameForbidden", text));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Database {
    /// Sets and deletes variables. Commits wait meanwhile; readers do not. Changing nothing is no
    /// commit.
    ///
    /// # Errors
    /// `RaceDetected`: the running code's modules saw another value of one of them; they must be
    /// evaluated again ([`Database::activate_with`]).
    pub fn change_environment(&self, changes: &[Change], now: u64) -> Result<Timestamp, PushError> {
        let turn = self.turn();
        let newest = turn.snapshot();
        let ts = turn.next_timestamp(now, 0);
        let environment = newest.environment.after(changes, ts);
        let written = environment.changed_keys(&newest.environment);
        if written.is_empty() {
            return Ok(newest.ts);
        }
        if let Some(deployment) = &newest.deployment {
            check_imported(&environment, &deployment.analysis.imported_environment)?;
        }
        turn.publish(LogEntry {
            ts,
            writer: Writer::new(OPERATOR, ""),
            writes: Vec::new(),
            catalog: written,
            snapshot: Arc::new(Snapshot { ts, environment, ..Snapshot::clone(&newest) }),
        });
        Ok(ts)
    }
}

/// Refuses code whose modules saw other values.
pub(crate) fn check_imported(
    environment: &Variables,
    imported: &BTreeMap<String, Option<String>>,
) -> Result<(), PushError> {
    if environment.agrees(imported) {
        return Ok(());
    }
    let text = "Environment variables have changed during push. Push again.";
    Err(PushError::new("RaceDetected", text))
}

impl Transaction {
    /// `process.env.NAME`; that a variable is not set is a read too.
    pub fn environment_variable(&mut self, name: &str) -> Option<Arc<str>> {
        if name.len() as u64 > limits::ENVIRONMENT_NAME_BYTES || !is_name(name) {
            // No variable can ever have that name.
            return None;
        }
        self.variables_read += 1;
        let range = if self.variables_read > limits::ENVIRONMENT_VARIABLES {
            // A function that makes names up must not fill the memory with them.
            all_variables()
        } else {
            Interval::point(&environment_key(name))
        };
        self.reads.insert(CATALOG, range);
        self.snapshot.environment.get(name).cloned()
    }
}
