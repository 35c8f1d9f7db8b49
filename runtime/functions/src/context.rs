//! Fresh contexts: one a call, made ahead of time, never used twice.
//!
//! In: an isolate started from a deployment's blob. Out: a context whose modules are evaluated.
//! Invariant: nothing that one call does to a global or a module variable is seen by another.

use std::sync::Arc;

use bounds::Memory;
use database::record::FunctionError;

use crate::code::{Code, Origin};
use crate::debug;
use crate::isolate::StopSwitch;
use crate::natives::web_assembly;
use crate::startup::{self, HOOKS_INDEX, ImportFailure};

/// A context waiting for its one call.
pub(crate) struct Ready {
    pub(crate) context: v8::Global<v8::Context>,
    pub(crate) hooks: v8::Global<v8::Object>,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// The WebAssembly memories that it made.
    pub(crate) memories: Vec<Memory>,
}

/// What a context is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// Functions of the modules that come from here.
    Calls(&'a Origin),
    /// Analysis: every entry is evaluated in it.
    Everything,
}

impl Ready {
    /// Makes a context and evaluates in it what the snapshot does not hold.
    ///
    /// # Errors
    /// A module that throws at import here although analysis saw it succeed.
    pub(crate) fn make(
        scope: &mut v8::PinScope<'_, '_, ()>,
        code: &Code,
        queue: *mut v8::MicrotaskQueue,
        purpose: Purpose<'_>,
    ) -> Result<Self, FunctionError> {
        v8::scope!(let scope, scope);
        let options =
            v8::ContextOptions { microtask_queue: Some(queue), ..v8::ContextOptions::default() };
        let (origin, late) = match purpose {
            Purpose::Calls(origin) => (origin.clone(), origin.late.iter().collect()),
            Purpose::Everything => (code.whole(), code.late()),
        };
        let context = match origin.context {
            None => v8::Context::new(scope, options),
            Some(number) => v8::Context::from_snapshot(scope, number, options)
                .expect("a blob has the contexts that its builder counted"),
        };
        let scope = &mut v8::ContextScope::new(scope, context);
        debug::meet(scope);
        let hooks = scope
            .get_context_data_from_snapshot_once::<v8::Object>(HOOKS_INDEX)
            .expect("every blob of ours carries the hooks");
        web_assembly::install(scope);
        let stop = scope.get_slot::<Arc<StopSwitch>>().cloned();
        let others = stop.as_ref().map_or(0, |stop| stop.memories.count());
        if !late.is_empty() {
            // SAFETY: the caller's queue lives as long as its isolate.
            let queue = unsafe { &*queue };
            let imported = startup::import_late(scope, hooks, code, late, queue);
            if let Err(ImportFailure { module, error }) = imported {
                let message = format!("Failed to import {module}: {}", error.message);
                return Err(FunctionError { message, data: error.data });
            }
        }
        let memories = stop.map_or_else(Vec::new, |stop| stop.memories.take_after(others));
        let (context, hooks) = (v8::Global::new(scope, context), v8::Global::new(scope, hooks));
        Ok(Self { context, hooks, origin, memories })
    }
}
