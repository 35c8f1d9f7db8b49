//! Startup snapshots: the prelude, and for most deployments the evaluated bundle too.
//!
//! In: the prelude's sources (compiled in) and a bundle. Out: a blob that `isolate.rs` starts from.
//! Invariant: runs in the builder's child process only; user code that aborts V8 while a blob is
//! made or first loaded never touches the host (`runtime.md` section 1.4).

use std::sync::Arc;

use database::deployment::Bundle;
use database::record::FunctionError;

use crate::code::Code;
use crate::natives::{host_object, lazy, string};
use crate::{exception, execution, isolate, modules, natives, platform};

/// The prelude, in the order of evaluation.
const PRELUDE: &[(&str, &str)] = &[
    ("00_primordials.js", include_str!("../../../js/runtime/00_primordials.js")),
    ("10_console.js", include_str!("../../../js/runtime/10_console.js")),
    ("20_encoding.js", include_str!("../../../js/runtime/20_encoding.js")),
    ("25_events.js", include_str!("../../../js/runtime/25_events.js")),
    ("30_url.js", include_str!("../../../js/runtime/30_url.js")),
    ("40_determinism.js", include_str!("../../../js/runtime/40_determinism.js")),
    ("50_crypto.js", include_str!("../../../js/runtime/50_crypto.js")),
    ("60_timers.js", include_str!("../../../js/runtime/60_timers.js")),
    ("70_structured_clone.js", include_str!("../../../js/runtime/70_structured_clone.js")),
    ("80_async_context.js", include_str!("../../../js/runtime/80_async_context.js")),
    ("85_late_features.js", include_str!("../../../js/runtime/85_late_features.js")),
    ("90_convex.js", include_str!("../../../js/runtime/90_convex.js")),
    ("99_seal.js", include_str!("../../../js/runtime/99_seal.js")),
];

/// Heap of the isolate that a snapshot is made in. V8 aborts the child beyond it; the fallback
/// tier, which has the functions' own limit, then says what happened.
const CREATOR_HEAP_BYTES: usize = 256 << 20;

/// A module that failed while it was imported.
#[derive(Debug)]
pub(crate) struct ImportFailure {
    /// Path of the entry.
    pub(crate) module: Arc<str>,
    /// What it threw.
    pub(crate) error: FunctionError,
}

/// Makes a blob: the prelude, and with `bundle` its evaluated function modules.
///
/// # Errors
/// What a module threw at import.
pub(crate) fn make_blob(bundle: Option<&Arc<Bundle>>) -> Result<Vec<u8>, ImportFailure> {
    platform::initialize();
    let references = natives::external_references();
    let params = v8::CreateParams::default().heap_limits(0, CREATOR_HEAP_BYTES);
    let mut creator = v8::Isolate::snapshot_creator(Some(references.into()), Some(params));
    isolate::configure(&mut creator);
    let evaluated = fill(&mut creator, bundle);
    // No handle of ours may be alive now: V8 checks, and aborts.
    modules::end();
    crate::rejections::clear();
    execution::set_environment(None);
    let blob = creator.create_blob(v8::FunctionCodeHandling::Keep);
    evaluated?;
    Ok(blob.expect("V8 makes a blob once its default context is set").to_vec())
}

fn fill(creator: &mut v8::OwnedIsolate, bundle: Option<&Arc<Bundle>>) -> Result<(), ImportFailure> {
    v8::scope!(let scope, creator);
    let context = v8::Context::new(scope, v8::ContextOptions::default());
    let scope = &mut v8::ContextScope::new(scope, context);
    let hooks = install_prelude(scope);
    let evaluated = match bundle {
        Some(bundle) => evaluate_entries(scope, hooks, bundle, None),
        None => Ok(()),
    };
    scope.set_default_context(context);
    let index = scope.add_context_data(context, hooks);
    assert_eq!(index, HOOKS_INDEX, "the hooks are the context's first datum");
    evaluated
}

/// Where a context made from a blob finds the prelude's hooks.
pub(crate) const HOOKS_INDEX: usize = 0;

/// Evaluates the prelude in a bare context and returns its hooks.
fn install_prelude<'s>(scope: &mut v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Object> {
    let global = scope.get_current_context().global(scope);
    let concave = v8::Object::new(scope);
    let host = host_object(scope);
    let hooks = v8::Object::new(scope);
    for (name, value) in [("host", host), ("hooks", hooks)] {
        let key = string(scope, name);
        concave.set(scope, key.into(), value.into());
    }
    let key = string(scope, "__concave");
    global.set(scope, key.into(), concave.into());
    lazy::keep_hooks(scope, hooks);
    for (name, source) in PRELUDE {
        run_script(scope, name, source);
    }
    hooks
}

fn run_script(scope: &mut v8::PinScope<'_, '_>, name: &str, source: &str) {
    v8::tc_scope!(let scope, scope);
    let url = string(scope, &format!("concave:/{name}"));
    let origin =
        v8::ScriptOrigin::new(scope, url.into(), 0, 0, false, -1, None, false, false, false, None);
    let code = string(scope, source);
    let ran = v8::Script::compile(scope, code, Some(&origin)).and_then(|script| script.run(scope));
    if ran.is_none() {
        let why = scope.exception().map(|e| e.to_rust_string_lossy(scope)).unwrap_or_default();
        let line = scope.message().and_then(|m| m.get_line_number(scope)).unwrap_or(0);
        panic!("js/runtime/{name}:{line} failed: {why}");
    }
}

/// Imports every entry of `bundle` into the current context and publishes the namespaces as
/// `hooks.registry`, by module path.
///
/// # Errors
/// The first module that failed, with what it threw.
pub(crate) fn evaluate_entries(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    bundle: &Arc<Bundle>,
    code: Option<&Code>,
) -> Result<(), ImportFailure> {
    begin_import(scope, hooks, bundle);
    modules::begin(Arc::clone(bundle), None);
    let null = v8::null(scope);
    let registry = v8::Object::with_prototype_and_properties(scope, null.into(), &[], &[]);
    for path in Code::entries(bundle) {
        v8::tc_scope!(let scope, scope);
        if let Some(namespace) = modules::load(scope, path) {
            let key = string(scope, path);
            registry.create_data_property(scope, key.into(), namespace.into());
            continue;
        }
        let error = match scope.exception() {
            Some(thrown) => {
                scope.reset();
                exception::describe(scope, hooks, code, thrown)
            }
            None => FunctionError { message: "evaluation was stopped".to_owned(), data: None },
        };
        return Err(ImportFailure { module: Arc::clone(path), error });
    }
    let key = string(scope, "registry");
    hooks.create_data_property(scope, key.into(), registry.into());
    // `import.meta` and the namespaces stay; what only linking needed goes.
    modules::end();
    Ok(())
}

/// Freezes clock and randomness for module evaluation: both are fixed at push.
pub(crate) fn begin_import(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    bundle: &Bundle,
) {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds stay below 2^53 for ages")]
    let now = bundle.import_time_ms as f64;
    begin(scope, hooks, &Start { seed: bundle.import_seed, now_ms: now, kind: "import" });
}

/// What the prelude's `begin` is told.
pub(crate) struct Start {
    /// Seed of `Math.random`.
    pub(crate) seed: [u8; 32],
    /// The frozen clock, milliseconds since the epoch.
    pub(crate) now_ms: f64,
    /// `import`, `query` or `mutation`.
    pub(crate) kind: &'static str,
}

/// Calls the prelude's `begin(s0 … s7, nowMs, kind)`: eight 32-bit words of seed, no allocation.
pub(crate) fn begin(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    start: &Start,
) {
    let key = string(scope, "begin");
    let function = hooks
        .get(scope, key.into())
        .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
        .expect("the prelude publishes begin");
    let words: Vec<v8::Local<'_, v8::Value>> = start
        .seed
        .chunks_exact(4)
        .map(|word| {
            let word = u32::from_le_bytes(word.try_into().expect("four bytes"));
            v8::Integer::new_from_unsigned(scope, word).into()
        })
        .collect();
    let seed = v8::Array::new_with_elements(scope, &words);
    let now = v8::Number::new(scope, start.now_ms);
    let kind = string(scope, start.kind);
    function.call(scope, hooks.into(), &[seed.into(), now.into(), kind.into()]);
}
