//! Writes: `db.insert`, `db.patch`, `db.replace`, `db.delete`; refused in queries.

use std::borrow::Cow;

use database::error::UserError;
use database::json;
use database::record::FunctionKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, parse};
use crate::execution::Execution;

#[derive(Deserialize)]
struct Insert<'a> {
    #[serde(borrow)]
    table: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

pub(super) fn insert(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "db.insert")?;
    let args: Insert<'_> = parse("db.insert", arguments)?;
    let value = json::decode(args.value.get()).map_err(|e| invalid("value", "db.insert", &e))?;
    let component = execution.component();
    let id = execution.transaction.insert(&component, &args.table, value)?;
    Ok(format!("{{\"_id\":\"{}\"}}", id.encode()))
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: &'a RawValue,
}

pub(super) fn patch(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "db.patch")?;
    let args: Change<'_> = parse("db.patch", arguments)?;
    let patch =
        json::decode_patch(args.value.get()).map_err(|e| invalid("value", "db.patch", &e))?;
    let component = execution.component();
    let table = args.table.as_deref();
    let document = execution.transaction.patch(&component, &args.id, table, patch)?;
    Ok(document.json().to_owned())
}

pub(super) fn replace(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "db.replace")?;
    let args: Change<'_> = parse("db.replace", arguments)?;
    let value = json::decode(args.value.get()).map_err(|e| invalid("value", "db.replace", &e))?;
    let component = execution.component();
    let table = args.table.as_deref();
    let document = execution.transaction.replace(&component, &args.id, table, value)?;
    Ok(document.json().to_owned())
}

#[derive(Deserialize)]
struct Remove<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
}

pub(super) fn remove(execution: &mut Execution, arguments: &str) -> Answer {
    may_write(execution, "db.delete")?;
    let args: Remove<'_> = parse("db.delete", arguments)?;
    let component = execution.component();
    let document = execution.transaction.remove(&component, &args.id, args.table.as_deref())?;
    Ok(document.json().to_owned())
}

pub(super) fn may_write(execution: &Execution, operation: &str) -> Result<(), UserError> {
    if execution.kind() == FunctionKind::Mutation {
        return Ok(());
    }
    Err(UserError::new(
        "WriteInQuery",
        format!(
            "`{operation}` in the query {}: queries only read. Make it a mutation.",
            execution.path()
        ),
    ))
}

fn invalid(argument: &str, operation: &str, error: &UserError) -> UserError {
    UserError::new(
        "InvalidArgument",
        format!("Invalid argument `{argument}` for `{operation}`: {}", error.message),
    )
}
