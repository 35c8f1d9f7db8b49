//! The way to functions that run elsewhere (`../elsewhere.rs`).
//!
//! In: the syscall of a module that a test's deployment has for them. Out: the function's result.
//! Invariant: where nobody runs functions elsewhere the operation does not exist.

use std::sync::mpsc;

use database::error::UserError;
use database::record::FunctionError;

use super::Failure;
use crate::elsewhere::{Turn, Visit};
use crate::{execution, watchdog};

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

/// Runs a function elsewhere, and answers what it asks for until it ends.
pub(super) fn visit(scope: &mut v8::PinScope<'_, '_>, arguments: &str) -> Result<String, Failure> {
    let (turns, asked) = mpsc::channel();
    let begun = execution::with(|execution| {
        let elsewhere = execution.elsewhere.clone()?;
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
    while let Ok(turn) = asked.recv() {
        match turn {
            Turn::End(ended) => {
                if let Err(error) = &ended {
                    execution::with(|now| now.elsewhere_threw = Some(error.message.clone()));
                }
                return ended.map_err(Failure::from);
            }
            Turn::Ask { operation, arguments, is_sync, answer } => {
                let answered = if is_sync {
                    super::sync(&operation, &arguments).map_err(Failure::from)
                } else {
                    super::answer(scope, &operation, &arguments)
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
