//! Stop 4 of 8: one function, once, inside one isolate.
//!
//! Before: `call.rs` opened a transaction. After: `database/transaction.rs` answers each syscall.
//! In: a target and its arguments as JSON text. Out: the result as JSON text, or what it threw.
//! Invariant: the whole call is one uninterrupted run on this thread; every microtask it started
//! has run before it ends, so nothing of it is left in the isolate.

use std::sync::Arc;

use database::record::{FunctionError, FunctionKind, FunctionPath};

use crate::code::Code;
use crate::context::Ready;
use crate::isolate::StopSwitch;
use crate::natives::string;
use crate::startup::{self, Start};
use crate::{debug, engine, exception, kept, rejections};

/// What to run.
pub(crate) struct Target {
    /// Which export.
    pub(crate) path: FunctionPath,
    /// As what.
    pub(crate) kind: FunctionKind,
    /// JSON text of the argument array.
    pub(crate) args: Arc<str>,
    /// Seed of `Math.random`.
    pub(crate) seed: [u8; 32],
    /// The frozen clock, nanoseconds since the epoch.
    pub(crate) now: u64,
}

/// How a run ended without a result.
pub(crate) enum End {
    /// The function failed.
    Threw(FunctionError),
    /// The isolate was terminated; V8 is unwinding and nothing may run in it.
    Stopped,
}

/// Runs `target` at `depth` of nesting: in a kept context where there is one that may be used, else
/// in a fresh one.
///
/// # Errors
/// See [`End`].
pub(crate) fn invoke(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    target: &Target,
    depth: usize,
) -> Result<String, End> {
    v8::scope!(let scope, scope);
    let module = &target.path.module;
    if let Some(kept) = kept::take(scope, code, module, depth) {
        let ended = run_in(scope, code, target, (kept.ready(), depth));
        match &ended {
            Ok(_) => kept.give_back(),
            Err(End::Threw(_)) => kept.give_back_after_error(),
            Err(End::Stopped) => kept.drop_after_stop(),
        }
        return ended;
    }
    let ready = engine::take_ready(scope, code, module, depth).map_err(End::Threw)?;
    run_in(scope, code, target, (&ready, depth))
}

fn run_in(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    target: &Target,
    (ready, depth): (&Ready, usize),
) -> Result<String, End> {
    v8::scope!(let scope, scope);
    let Ready { context, hooks, memories, .. } = ready;
    if let Some(stop) = scope.get_slot::<Arc<StopSwitch>>() {
        memories.iter().cloned().for_each(|memory| stop.memories.add(memory));
    }
    let context = v8::Local::new(scope, context);
    let scope = &mut v8::ContextScope::new(scope, context);
    let hooks = v8::Local::new(scope, hooks);
    v8::tc_scope!(let scope, scope);
    let mark = rejections::mark();
    startup::begin(scope, hooks, &start(target));
    let promise = start_call(scope, hooks, target);
    if promise.is_some() {
        // SAFETY: `QUEUES` keeps the queue until the engine is dropped.
        let queue = unsafe { &*engine::queue_at(scope, depth) };
        queue.perform_checkpoint(scope);
    }
    if scope.is_execution_terminating() || scope.has_terminated() {
        return Err(End::Stopped);
    }
    let thrown = |scope: &mut v8::PinScope<'_, '_>, error| {
        Err(End::Threw(exception::describe(scope, hooks, Some(code), error)))
    };
    let Some(started) = promise else {
        let error = scope.exception().unwrap_or_else(|| v8::undefined(scope).into());
        scope.reset();
        return thrown(scope, error);
    };
    let promise = match started {
        Started::Promise(promise) => promise,
        Started::Problem(message) => {
            return Err(End::Threw(FunctionError { message, data: None }));
        }
    };
    if let Some(error) = rejections::take_since(scope, mark, Some(promise)) {
        return thrown(scope, error);
    }
    match promise.state() {
        v8::PromiseState::Fulfilled => {
            let value = promise.result(scope);
            if value.is_string() {
                return Ok(value.to_rust_string_lossy(scope));
            }
            let message = format!(
                "Function {} failed. Could not parse return value as json: it is no text",
                target.path
            );
            Err(End::Threw(FunctionError { message, data: None }))
        }
        v8::PromiseState::Rejected => {
            let error = promise.result(scope);
            thrown(scope, error)
        }
        v8::PromiseState::Pending => {
            let message = never_resolves(&target.path);
            Err(End::Threw(FunctionError { message, data: None }))
        }
    }
}

fn never_resolves(path: &FunctionPath) -> String {
    format!(
        "Returned promise will never resolve: {path} awaits something that nothing will ever \
         settle. Timers, fetch and events do not exist in queries and mutations; look for a \
         `new Promise(…)` whose resolve is never called."
    )
}

fn start(target: &Target) -> Start {
    #[expect(clippy::cast_precision_loss, reason = "Date.now() is a float of milliseconds")]
    let now_ms = (target.now / 1_000_000) as f64;
    Start { seed: target.seed, now_ms, kind: target.kind.lower_name() }
}

/// What calling the function gave.
enum Started<'s> {
    Promise(v8::Local<'s, v8::Promise>),
    Problem(String),
}

/// Looks the export up and calls `invokeQuery` or `invokeMutation` (`convex-compat.md` section
/// 1.4). `None`: it threw at once.
fn start_call<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    hooks: v8::Local<'s, v8::Object>,
    target: &Target,
) -> Option<Started<'s>> {
    let path = &target.path;
    let missing = || {
        let text = format!("Couldn't find \"{}\" in module \"{}\".", path.export, path.module);
        Some(Started::Problem(text))
    };
    let key = string(scope, "registry");
    let registry = v8::Local::<v8::Object>::try_from(hooks.get(scope, key.into())?).ok()?;
    let key = string(scope, &path.module);
    let namespace = registry.get(scope, key.into())?;
    let Ok(namespace) = v8::Local::<v8::Object>::try_from(namespace) else { return missing() };
    let key = string(scope, &path.export);
    let function = namespace.get(scope, key.into())?;
    let Ok(function) = v8::Local::<v8::Object>::try_from(function) else { return missing() };
    let name = match target.kind {
        FunctionKind::Query => "invokeQuery",
        FunctionKind::Mutation => "invokeMutation",
        FunctionKind::Action => "invokeAction",
    };
    let key = string(scope, name);
    let invoke = function.get(scope, key.into())?;
    let Ok(invoke) = v8::Local::<v8::Function>::try_from(invoke) else {
        return Some(Started::Problem(format!(
            "Function {path} is neither a query or mutation. Did you forget to wrap it with \
             `query` or `mutation`?"
        )));
    };
    debug::stop_in(scope, function);
    let args = string(scope, &target.args);
    let returned = invoke.call(scope, function.into(), &[args.into()])?;
    match v8::Local::<v8::Promise>::try_from(returned) {
        Ok(promise) => {
            promise.mark_as_handled();
            Some(Started::Promise(promise))
        }
        Err(_) => Some(Started::Problem(format!("Function {path} did not return a promise"))),
    }
}
