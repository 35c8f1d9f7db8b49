//! The outside world of a host: actions and HTTP actions, run by worker processes.
//!
//! In: actions from `functions`, requests from `server`. Out: their results; while they run, their
//! calls back to functions, scheduler and storage. Invariant: every call back is a call like any
//! other, made with the identity that the action was called with.

use std::sync::Arc;

use database::record::{Action, ActionEnd, ActionReply, Actions, FunctionError};
use server::{Answering, HttpActions, HttpFailure, HttpRequest};

/// Runs actions.
pub struct Outside {}

impl Outside {
    /// One that has no workers yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }
}

impl Actions for Outside {
    fn run(&self, action: Action, reply: ActionReply) {
        let message = format!(
            "{} is an action; actions are not supported by this version of concave yet. Queries \
             and mutations are.",
            action.call.path
        );
        let result = Err(FunctionError { message, data: None });
        reply(ActionEnd { result, log_lines: Vec::new() });
    }
}

impl HttpActions for Outside {
    fn fetch(&self, request: HttpRequest) -> Answering {
        let message = format!("{}: HTTP actions are not supported yet.", request.routed_path);
        let error = FunctionError { message, data: None };
        Box::pin(async { Err(HttpFailure::Threw(error, Vec::new())) })
    }
}
