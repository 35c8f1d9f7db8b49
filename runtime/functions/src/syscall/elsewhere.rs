//! The way to functions that run elsewhere (`../elsewhere.rs`).
//!
//! In: the syscall of a module that a test's deployment has for them. Out: the function's result.
//! Invariant: where nobody runs functions elsewhere the operation does not exist.

use std::borrow::Cow;
use std::sync::mpsc;

use database::error::UserError;
use database::record::FunctionError;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Failure};
use crate::address::Address;
use crate::elsewhere::{Turn, Visit, handle_by_name};
use crate::execution::Visits;
use crate::reserves::Waiting;
use crate::{execution, kept, watchdog};

/// Its name.
pub(super) const OPERATION: &str = "concave/elsewhere";

/// An error of a function whose JavaScript ran elsewhere: as it was thrown there, without the
/// frames of the module that stands for it here.
pub(crate) fn as_thrown(error: FunctionError, raw: Option<&str>) -> FunctionError {
    match raw {
        Some(raw) if error.message.contains(raw) => {
            FunctionError { message: raw.to_owned(), ..error }
        }
        _ => error,
    }
}

/// What a test's own functions can do and others cannot, as on convex-test: take rows out of
/// `_scheduled_functions`, as time does on a host, and make handles of functions that do not exist,
/// which fail when they are called.
fn of_test(operation: &str, arguments: &str) -> Option<Answer> {
    match operation {
        "1.0/remove" => {
            let Removed { id } = serde_json::from_str(arguments).ok()?;
            let forgotten = execution::with(|execution| {
                let component = execution.component();
                execution.transaction.forget_job(&component, &id)
            })?;
            match forgotten {
                Ok(false) => None,
                Ok(true) => Some(Ok("null".to_owned())),
                Err(error) => Some(Err(error)),
            }
        }
        "1.0/createFunctionHandle" => execution::with(|execution| {
            let address: Address<'_> = serde_json::from_str(arguments).ok()?;
            let (component, snapshot) = (execution.component(), execution.transaction.snapshot());
            let path = address.path(snapshot, &component).ok()?;
            let found = address.handle(snapshot, &component);
            Some(Ok(found.unwrap_or_else(|_| json!(handle_by_name(&path)).to_string())))
        })?,
        _ => None,
    }
}

#[derive(Deserialize)]
struct Removed<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Runs a function elsewhere, and answers what it asks for until it ends.
pub(super) fn visit(scope: &mut v8::PinScope<'_, '_>, arguments: &str) -> Result<String, Failure> {
    let (turns, asked) = mpsc::channel();
    let begun = execution::with(|execution| {
        let elsewhere = execution.elsewhere.clone()?;
        if kept::is_serving() {
            execution.visits = Visits::Refused;
            return None;
        }
        execution.visits = Visits::Some;
        elsewhere.run(Visit {
            request_id: execution.call.request_id.clone(),
            component: execution.component(),
            asked: arguments.to_owned(),
            turns,
        });
        Some(())
    });
    if begun.flatten().is_none() {
        return Err(super::unknown(OPERATION).into());
    }
    watchdog::be_patient();
    let _waiting = Waiting::begin();
    while let Ok(turn) = asked.recv() {
        match turn {
            Turn::End(ended) => {
                if let Err(error) = &ended {
                    execution::with(|now| now.elsewhere_threw = Some(error.message.clone()));
                }
                return ended.map_err(Failure::from);
            }
            Turn::Ask { operation, arguments, is_sync, answer } => {
                let answered = match of_test(&operation, &arguments) {
                    Some(answered) => answered.map_err(Failure::from),
                    None if is_sync => super::sync(&operation, &arguments).map_err(Failure::from),
                    None => super::answer(scope, &operation, &arguments),
                };
                match answered {
                    Ok(text) => answer(Ok(text)),
                    Err(Failure::User(error)) => answer(Err(error)),
                    Err(Failure::Stopped) => {
                        answer(Err(UserError::new("Stopped", "The function was stopped.")));
                        return Err(Failure::Stopped);
                    }
                }
            }
        }
    }
    Err(UserError::new("TestEnded", "The test ended before this function did.").into())
}
