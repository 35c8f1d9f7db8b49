//! The table of syscalls: name → handler; the ABI that `convex/server` expects (`convex-compat.md`
//! sections 1.6 and 1.7).
//!
//! In: an operation's name and its JSON arguments. Out: JSON text, at once: the store is in memory.
//! Invariant: answered in program order, so completion order is deterministic by construction.

pub(crate) mod elsewhere;
mod meta;
pub(crate) mod nested;
pub(crate) mod probe;
mod query;
mod read;
mod schedule;
mod storage;
mod write;

use database::error::UserError;
use serde::Deserialize;

use crate::execution::{self, Execution};

/// Why a syscall has no answer.
pub(crate) enum Failure {
    /// The function's mistake: JavaScript sees a rejection.
    User(UserError),
    /// The isolate is being terminated.
    Stopped,
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::User(error)
    }
}

type Answer = Result<String, UserError>;

/// `Convex.syscall`.
///
/// # Errors
/// The function's mistake.
pub(crate) fn sync(operation: &str, arguments: &str) -> Answer {
    let handler: fn(&mut Execution, &str) -> Answer = match operation {
        "1.0/queryStream" => query::open,
        "1.0/queryCleanup" => query::close,
        "1.0/db/normalizeId" => read::normalize_id,
        "1.0/componentArgument" => meta::component_argument,
        "1.0/getSnapshotTs" => meta::snapshot_timestamp,
        _ => {
            let message = format!("Unknown operation {operation}");
            return Err(UserError::new("UnknownOperation", message));
        }
    };
    with_call(operation, |execution| handler(execution, arguments))
}

/// `Convex.asyncSyscall`.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn answer(
    scope: &mut v8::PinScope<'_, '_>,
    operation: &str,
    arguments: &str,
) -> Result<String, Failure> {
    match operation {
        "1.0/runUdf" => return nested::run(scope, arguments),
        elsewhere::OPERATION => return elsewhere::visit(scope, arguments),
        _ => {}
    }
    let handler: fn(&mut Execution, &str) -> Answer = match operation {
        "1.0/queryStreamNext" => query::next,
        "1.0/queryPage" => query::page,
        "1.0/get" => read::get,
        "1.0/count" => read::count,
        "1.0/insert" => write::insert,
        "1.0/shallowMerge" => write::patch,
        "1.0/replace" => write::replace,
        "1.0/remove" => write::remove,
        "1.0/schedule" => schedule::schedule,
        "1.0/cancel_job" => schedule::cancel,
        "1.0/storageGetUrl" => storage::url,
        "1.0/storageGetMetadata" => storage::metadata,
        "1.0/storageGenerateUploadUrl" => storage::upload_url,
        "1.0/storageDelete" => storage::delete,
        "1.0/storageStore" => storage::store,
        "1.0/storageGet" => storage::get,
        "1.0/getUserIdentity" => meta::user_identity,
        "1.0/createFunctionHandle" => nested::create_handle,
        "1.0/getTransactionMetrics" => meta::transaction_metrics,
        "1.0/getFunctionMetadata" => meta::function_metadata,
        "1.0/getDeploymentMetadata" => meta::deployment_metadata,
        "1.0/getRequestMetadata" => meta::request_metadata,
        _ => return Err(unknown(operation).into()),
    };
    Ok(with_call(operation, |execution| handler(execution, arguments))?)
}

/// What is not done says so, with the name its user knows.
fn unknown(operation: &str) -> UserError {
    let name = match operation {
        "1.0/signJwt" => "ctx.auth.signJwt",
        "1.0/auditLog" => "ctx.meta audit logging",
        _ => {
            let message = format!("Unknown async operation {operation}");
            return UserError::new("UnknownAsyncOperation", message);
        }
    };
    UserError::new(
        "NotSupportedYet",
        format!("{name} is not supported by this version of concave yet (operation {operation})."),
    )
}

fn with_call(operation: &str, run: impl FnOnce(&mut Execution) -> Answer) -> Answer {
    execution::with(run).unwrap_or_else(|| {
        Err(UserError::new(
            "NoDatabaseDuringImport",
            format!(
                "Can't use database at import time ({operation}): `ctx` exists only inside a \
                 function's handler; move the call there."
            ),
        ))
    })
}

/// Parses an operation's arguments.
fn parse<'a, T: Deserialize<'a>>(operation: &str, arguments: &'a str) -> Result<T, UserError> {
    serde_json::from_str(arguments).map_err(|e| {
        UserError::new(
            "SyscallArgsInvalidJson",
            format!("Invalid arguments for `{operation}`: {e}"),
        )
    })
}
