//! What is checked before and after a function runs: existence, visibility, kind, arguments,
//! result.
//!
//! In: the analysis that a push left behind. Out: Convex's error texts (`convex-compat.md`
//! section 3.4). Invariant: no JavaScript runs for a call that fails a check.

use std::sync::Arc;

use database::deployment::{Analysis, AnalyzedFunction, Visibility};
use database::error::UserError;
use database::id::TableNumber;
use database::json;
use database::limits;
use database::record::{Arguments, Call, Caller, Expect, FunctionKind, FunctionPath};
use database::snapshot::Snapshot;
use serde::de::IgnoredAny;

/// Finds the function a call from outside names.
///
/// # Errors
/// It does not exist for this caller, or is of another kind.
pub(crate) fn find<'a>(
    analysis: &'a Analysis,
    call: &Call,
) -> Result<&'a AnalyzedFunction, UserError> {
    let path = &call.path;
    let inside = matches!(call.caller, Caller::Function { .. } | Caller::Scheduler | Caller::Cron);
    let function = analysis.function(path).filter(|function| {
        let is_shown = path.component.is_empty() && function.visibility == Some(Visibility::Public);
        inside || call.identity.is_admin() || is_shown
    });
    match (function, call.expect) {
        (Some(function), Expect::Any) => Ok(function),
        (Some(function), Expect::Kind(kind)) => of_kind(function, path, kind),
        (None, Expect::Any) => Err(missing(path)),
        (None, Expect::Kind(_)) if inside => Err(missing(path)),
        (None, Expect::Kind(_)) => Err(UserError::new(
            "FunctionNotFound",
            format!(
                "Could not find public function for '{path}'{}.{}",
                path.whereabouts(),
                suggestion(analysis, path)
            ),
        )),
    }
}

/// Finds the function that another function calls.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_nested<'a>(
    analysis: &'a Analysis,
    path: &FunctionPath,
    kind: FunctionKind,
) -> Result<&'a AnalyzedFunction, UserError> {
    of_kind(analysis.function(path).ok_or_else(|| missing(path))?, path, kind)
}

/// The official CLI matches on "Could not find function".
pub(crate) fn missing(path: &FunctionPath) -> UserError {
    UserError::new(
        "FunctionNotFound",
        format!(
            "Could not find function for '{path}'{}. Did you forget to run `npx convex dev`?",
            path.whereabouts()
        ),
    )
}

/// ` Did you mean …?` where a public function's name is one or two edits away.
fn suggestion(analysis: &Analysis, path: &FunctionPath) -> String {
    let wanted = path.identifier();
    let modules = analysis.of(&path.component).map(|found| &found.modules);
    let names = modules.into_iter().flatten().flat_map(|(module, analyzed)| {
        let public = |f: &&AnalyzedFunction| f.visibility == Some(Visibility::Public);
        analyzed.functions.iter().filter(public).map(move |function| {
            let (component, export) = ("".into(), Arc::clone(&function.name));
            FunctionPath { component, module: Arc::clone(module), export }.identifier()
        })
    });
    let closest = names.map(|name| (distance(&name, &wanted), name)).min();
    match closest {
        Some((1..=2, name)) => format!(" Did you mean '{name}'?"),
        _ => String::new(),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn of_kind<'a>(
    function: &'a AnalyzedFunction,
    path: &FunctionPath,
    kind: FunctionKind,
) -> Result<&'a AnalyzedFunction, UserError> {
    if function.kind == kind {
        return Ok(function);
    }
    Err(UserError::new(
        "WrongFunctionKind",
        format!(
            "Trying to execute {path} as {}, but it is defined as {}.",
            kind.name(),
            function.kind.name()
        ),
    ))
}

/// Checks the size of the arguments and the args validator.
///
/// # Errors
/// Which one failed, and where in the value.
pub(crate) fn arguments(
    snapshot: &Snapshot,
    function: &AnalyzedFunction,
    path: &FunctionPath,
    arguments: &Arguments,
) -> Result<(), UserError> {
    arguments.value.check_argument_size(path)?;
    arguments.value.check_limits()?;
    let tables = tables(snapshot, path);
    function.args.check(&arguments.value, &tables).map_err(|e| {
        UserError::new("ArgumentValidationError", format!("ArgumentValidationError: {e}"))
    })
}

/// What a function returned.
pub(crate) struct Returned {
    /// In canonical encoding.
    pub(crate) text: String,
    /// As values are counted.
    pub(crate) bytes: u64,
}

/// Checks what a function returned.
///
/// # Errors
/// Not JSON, too large, or not what the returns validator says.
pub(crate) fn result(
    snapshot: &Snapshot,
    function: &AnalyzedFunction,
    path: &FunctionPath,
    text: &str,
) -> Result<Returned, UserError> {
    let invalid = |why: String| UserError::new("InvalidReturnValue", why);
    let value = json::decode(text).map_err(|e| {
        invalid(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(IgnoredAny) => format!("Function {path} return value invalid: {}", e.message),
            Err(why) => {
                format!("Function {path} failed. Could not parse return value as json: {why}")
            }
        })
    })?;
    let size = value.size() as u64;
    if size > limits::RESULT_BYTES {
        return Err(invalid(format!(
            "Function {path} return value is too large (actual: {size} bytes, limit: {} bytes)",
            limits::RESULT_BYTES
        )));
    }
    value
        .check_limits()
        .map_err(|e| invalid(format!("Function {path} return value invalid: {}", e.message)))?;
    if let Some(returns) = &function.returns {
        returns.check(&value, &tables(snapshot, path)).map_err(|e| {
            UserError::new("ReturnsValidationError", format!("ReturnsValidationError: {e}"))
        })?;
    }
    Ok(Returned { text: json::encode(&value), bytes: size })
}

fn tables<'a>(
    snapshot: &'a Snapshot,
    path: &'a FunctionPath,
) -> impl Fn(TableNumber) -> Option<Arc<str>> + 'a {
    move |number| snapshot.table_name(&path.component, number)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn edit_distance() {
        assert_eq!(distance("items:get", "items:get"), 0);
        assert_eq!(distance("items:get", "item:get"), 1);
        assert_eq!(distance("a", "xyz"), 3);
    }
}
