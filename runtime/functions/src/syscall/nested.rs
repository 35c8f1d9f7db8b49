//! `ctx.runQuery` and `ctx.runMutation` inside a transaction: a fresh context, the same
//! transaction, a savepoint (`convex-compat.md` section 1.9).

use std::borrow::Cow;
use std::sync::Arc;

use database::error::UserError;
use database::record::{Arguments, FunctionKind};
use database::transaction::{Savepoint, Scope, Transaction};
use database::work::Budget;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, Failure, elsewhere, parse};
use crate::address::Address;
use crate::execution::{self, Execution};
use crate::run::{self, End, Target};
use crate::{check, code::Code};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunUdf<'a> {
    #[serde(borrow)]
    udf_type: Cow<'a, str>,
    #[serde(borrow)]
    args: &'a RawValue,
    transaction_limits: Option<Limits>,
}

/// What a caller leaves its callee; absent means whatever it has left itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limits {
    bytes_read: f64,
    bytes_written: f64,
    database_queries: f64,
    documents_read: f64,
    documents_written: f64,
    functions_scheduled: f64,
    scheduled_function_args_bytes: f64,
    files_read: f64,
    #[serde(rename = "fileReadBytes")]
    file_bytes_read: f64,
    files_written: f64,
    #[serde(rename = "fileWriteBytes")]
    file_bytes_written: f64,
}

impl Default for Limits {
    fn default() -> Self {
        let all = f64::INFINITY;
        Self {
            bytes_read: all,
            bytes_written: all,
            database_queries: all,
            documents_read: all,
            documents_written: all,
            functions_scheduled: all,
            scheduled_function_args_bytes: all,
            files_read: all,
            file_bytes_read: all,
            files_written: all,
            file_bytes_written: all,
        }
    }
}

impl From<Limits> for Budget {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, which is what is wanted"
    )]
    fn from(limits: Limits) -> Self {
        Self {
            bytes_read: limits.bytes_read as u64,
            bytes_written: limits.bytes_written as u64,
            ranges: limits.database_queries as u64,
            documents_read: limits.documents_read as u64,
            documents_written: limits.documents_written as u64,
            functions_scheduled: limits.functions_scheduled as u64,
            scheduled_bytes: limits.scheduled_function_args_bytes as u64,
            files_read: limits.files_read as u64,
            file_bytes_read: limits.file_bytes_read as u64,
            files_written: limits.files_written as u64,
            file_bytes_written: limits.file_bytes_written as u64,
        }
    }
}

/// The budget that limits of a transaction (`transactionLimits`, JSON text) are.
///
/// # Errors
/// JSON that is no such object.
pub fn transaction_limits(json: &str) -> Result<Budget, serde_json::Error> {
    serde_json::from_str::<Limits>(json).map(Budget::from)
}

/// What is kept of the caller while the callee runs.
struct Entered {
    code: Arc<Code>,
    target: Target,
    depth: usize,
    savepoint: Option<Savepoint>,
    /// The caller's open queries and budget.
    scope: Scope,
    /// The caller's transaction, while a `snapshotQuery` reads outside it.
    outer: Option<Transaction>,
}

pub(super) fn run(scope: &mut v8::PinScope<'_, '_>, arguments: &str) -> Result<String, Failure> {
    let entered = execution::with(|execution| enter(execution, arguments));
    let entered = entered.unwrap_or_else(|| {
        Err(UserError::new(
            "NoNestedCallDuringImport",
            "ctx.runQuery and ctx.runMutation are unsupported at import time",
        ))
    })?;
    let ran = run::invoke(scope, &entered.code, &entered.target, entered.depth);
    let left = execution::with(|execution| leave(execution, entered, ran));
    left.expect("the caller still runs")
}

fn enter(execution: &mut Execution, arguments: &str) -> Result<Entered, UserError> {
    let args: RunUdf<'_> = parse("runQuery/runMutation", arguments)?;
    let address: Address<'_> = parse("runQuery/runMutation", arguments)?;
    let path = address.path(execution.transaction.snapshot(), &execution.component())?;
    let kind = match &*args.udf_type {
        "query" | "snapshotQuery" => FunctionKind::Query,
        "mutation" => FunctionKind::Mutation,
        other => {
            let message = format!("Cannot run a function of type {other:?} inside a transaction");
            return Err(UserError::new("InvalidUdfType", message));
        }
    };
    let caller = execution.kind();
    if caller == FunctionKind::Query && kind != FunctionKind::Query {
        let (kind, caller) = (kind.lower_name(), caller.lower_name());
        return Err(UserError::new(
            "InvalidNestedCall",
            format!("Cannot call a {kind} function from a {caller} function"),
        ));
    }
    let function = check::find_nested(&execution.code.analysis, &path, kind)?;
    let code = execution.code.of(&path.component).expect("it has a function");
    let code = Arc::clone(code);
    let arguments = Arguments::parse(&path, args.args.get())?;
    check::arguments(execution.transaction.snapshot(), function, &path, &arguments)?;
    execution.enter(path.clone(), kind)?;
    let seed = execution.nested_seed();
    let depth = execution.depth() - 1;
    let target = Target { path, kind, args: arguments.json, seed, now: execution.given.now };
    let savepoint = (kind == FunctionKind::Mutation).then(|| execution.savepoint());
    let outer = (args.udf_type == "snapshotQuery").then(|| execution.fork_at_snapshot());
    let scope = execution.transaction.enter(args.transaction_limits.map(Budget::from));
    Ok(Entered { code, target, depth, savepoint, scope, outer })
}

/// Ends the nested call: its result checked, or its writes undone.
fn leave(
    execution: &mut Execution,
    entered: Entered,
    ran: Result<String, End>,
) -> Result<String, Failure> {
    execution.leave();
    execution.transaction.leave(entered.scope);
    if let Some(outer) = entered.outer {
        execution.end_fork(outer);
    }
    let path = &entered.target.path;
    let checked = match ran {
        Err(End::Stopped) => return Err(Failure::Stopped),
        Err(End::Threw(error)) => {
            let raw = execution.elsewhere_threw.take();
            let error = elsewhere::as_thrown(error, raw.as_deref());
            Err(UserError { code: "NestedCallFailed", message: error.message, data: error.data })
        }
        Ok(text) => {
            let function = execution.code.analysis.function(path).expect("it was found to run");
            check::result(execution.transaction.snapshot(), function, path, &text)
                .map(|returned| returned.text)
        }
    };
    if checked.is_err()
        && let Some(savepoint) = entered.savepoint
    {
        execution.transaction.rollback(savepoint);
    }
    Ok(checked?)
}

pub(super) fn create_handle(execution: &mut Execution, arguments: &str) -> Answer {
    let address: Address<'_> = parse("createFunctionHandle", arguments)?;
    address.handle(execution.transaction.snapshot(), &execution.component())
}
