//! Fresh contexts: one a call, made ahead of time, never used twice.
//!
//! In: an isolate started from a deployment's blob. Out: a context whose modules are evaluated.
//! Invariant: nothing that one call does to a global or a module variable is seen by another.

use database::record::FunctionError;

use crate::code::Code;
use crate::startup::{self, HOOKS_INDEX, ImportFailure};

/// A context waiting for its one call.
pub(crate) struct Ready {
    pub(crate) context: v8::Global<v8::Context>,
    pub(crate) hooks: v8::Global<v8::Object>,
}

impl Ready {
    /// Makes a context; in the fallback tier evaluates the bundle in it.
    ///
    /// # Errors
    /// A module that throws at import here although analysis saw it succeed.
    pub(crate) fn make(
        scope: &mut v8::PinScope<'_, '_, ()>,
        code: &Code,
        queue: *mut v8::MicrotaskQueue,
    ) -> Result<Self, FunctionError> {
        v8::scope!(let scope, scope);
        let options =
            v8::ContextOptions { microtask_queue: Some(queue), ..v8::ContextOptions::default() };
        let context = v8::Context::new(scope, options);
        let scope = &mut v8::ContextScope::new(scope, context);
        let hooks = scope
            .get_context_data_from_snapshot_once::<v8::Object>(HOOKS_INDEX)
            .expect("every blob of ours carries the hooks");
        if !code.is_evaluated() {
            let evaluated = startup::evaluate_entries(scope, hooks, &code.bundle, Some(code));
            if let Err(ImportFailure { module, error }) = evaluated {
                let message = format!("Failed to import {module}: {}", error.message);
                return Err(FunctionError { message, data: error.data });
            }
        }
        Ok(Self { context: v8::Global::new(scope, context), hooks: v8::Global::new(scope, hooks) })
    }
}
