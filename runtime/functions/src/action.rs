//! Stop 3 for actions: checked here, run elsewhere, their results checked here again.
//!
//! In: a [`Call`] of an action. Out: an [`Outcome`] without reads and writes: an action has no
//! transaction of its own. Invariant: what runs actions sees only calls that are found, allowed and
//! valid; what it answers is checked like any function's result.

use std::sync::Arc;

use database::deployment::Environment;
use database::error::{Refusal, UserError};
use database::record::{
    Action, ActionEnd, ActionReply, Actions, Call, Caller, FunctionError, FunctionKind, Outcome,
    Reply,
};
use database::snapshot::Snapshot;

use crate::call::failed;
use crate::check;
use crate::code::Code;
use crate::host::Shared;
use crate::warnings;

/// Runs one action; `found` is where it was looked up.
pub(crate) fn run(
    actions: &dyn Actions,
    found: (&Arc<Shared>, Arc<Code>, Arc<Snapshot>),
    call: Call,
    reply: Reply,
) {
    let (shared, code, snapshot) = found;
    let given = shared.given(&code, &snapshot);
    let refused = match (check::find(&code.analysis, &call), &snapshot.deployment) {
        (Ok(function), Some(deployment)) => {
            match check::arguments(&snapshot, function, &call.path, &call.args) {
                Ok(()) => {
                    let deployment = Arc::clone(deployment);
                    let environment = environment(&code, &call);
                    let action = Action { call, deployment, environment, given };
                    let ended = ended(Arc::clone(shared), action.clone(), reply);
                    return actions.run(action, ended);
                }
                Err(error) => error,
            }
        }
        (Err(error), _) => error,
        (Ok(_), None) => UserError::new("NoDeployment", "Nothing is deployed."),
    };
    reply(Ok(Outcome { kind: FunctionKind::Action, ..failed(&call, &given, refused) }));
}

/// What is done with an action's end: its result is checked, and becomes the call's outcome.
fn ended(shared: Arc<Shared>, action: Action, reply: Reply) -> ActionReply {
    Box::new(move |end| {
        let Action { call, deployment, given, .. } = action;
        let ActionEnd { result, mut log_lines, refused } = end;
        // A session is closed by a refusal, and would lose the answers of its other actions.
        let result = match result {
            Err(why) if refused && call.caller != Caller::SyncWorker => {
                let message = why.message;
                return reply(Err(Refusal::Overloaded { code: "ActionNotStarted", message }));
            }
            result => result,
        };
        let snapshot = shared.database.snapshot();
        let result = result.and_then(|text| {
            let function = deployment.analysis.function(&call.path).expect("it was found to run");
            check::result(&snapshot, function, &call.path, &text)
                .map_err(|e| FunctionError { message: e.message, data: e.data })
        });
        let result_bytes = result.as_ref().ok().map(|returned| returned.bytes);
        log_lines.extend(warnings::of_values(&call.args, result_bytes));
        reply(Ok(Outcome {
            kind: FunctionKind::Action,
            result: result.map(|returned| returned.text.into()),
            log_lines: log_lines.into(),
            ts: snapshot.ts,
            ..Outcome::of_nothing(given)
        }));
    })
}

fn environment(code: &Arc<Code>, call: &Call) -> Environment {
    let code = code.of(&call.path.component);
    let module = code.and_then(|code| code.bundle.modules.get(&call.path.module));
    module.map_or(Environment::Isolate, |module| module.environment)
}
