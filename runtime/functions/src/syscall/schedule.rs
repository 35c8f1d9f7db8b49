//! `ctx.scheduler` in mutations: rows written by the transaction that asks.

use std::borrow::Cow;

use database::error::UserError;
use database::record::{Arguments, FunctionKind};
use database::scheduling::NewJob;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, parse};
use crate::address::Address;
use crate::execution::Execution;

#[derive(Deserialize)]
struct Schedule<'a> {
    /// Seconds since the Unix epoch; null where JavaScript had NaN or an infinity.
    ts: Option<f64>,
    #[serde(borrow)]
    args: &'a RawValue,
}

pub(super) fn schedule(execution: &mut Execution, arguments: &str) -> Answer {
    may_schedule(execution, "scheduler.runAfter")?;
    let Schedule { ts, args } = parse("scheduler.runAfter", arguments)?;
    let from = execution.component();
    let address: Address<'_> = parse("scheduler.runAfter", arguments)?;
    let path = address.path(execution.transaction.snapshot(), &from)?;
    let args = Arguments::parse(&path, args.get())?;
    let (at, by) = (ts.unwrap_or(f64::NAN), execution.call.job);
    let id = execution.transaction.schedule(NewJob { from, path, args, at, by })?;
    Ok(format!("\"{}\"", id.encode()))
}

#[derive(Deserialize)]
struct Cancel<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

pub(super) fn cancel(execution: &mut Execution, arguments: &str) -> Answer {
    may_schedule(execution, "scheduler.cancel")?;
    let Cancel { id } = parse("scheduler.cancel", arguments)?;
    let own = execution.call.own_job();
    let component = execution.component();
    execution.transaction.cancel_job(&component, &id, own)?;
    Ok("null".to_owned())
}

fn may_schedule(execution: &Execution, operation: &str) -> Result<(), UserError> {
    if execution.kind() == FunctionKind::Mutation {
        return Ok(());
    }
    Err(UserError::new(
        "WriteInQuery",
        format!(
            "`{operation}` in the query {}: queries schedule nothing. Make it a mutation.",
            execution.path()
        ),
    ))
}
