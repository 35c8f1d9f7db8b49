//! Startup snapshots: the prelude, and the modules of a bundle evaluated.
//!
//! In: the prelude's sources (compiled in) and a bundle. Out: a blob that `isolate.rs` starts from.
//! Invariant: runs in the builder's child process only; user code that aborts V8 while a blob is
//! made or first loaded never touches the host (`runtime.md` section 1.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use database::deployment::Bundle;
use database::record::FunctionError;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::execution::{Imported, Importing};
use crate::late::Plan;
use crate::natives::{host_object, lazy, string, touch};
use crate::{exception, execution, isolate, modules, natives, overtime, platform, watchdog};

/// The prelude, in the order of evaluation.
const PRELUDE: &[(&str, &str)] = &[
    ("00_primordials.js", include_str!("../../../js/runtime/00_primordials.js")),
    ("10_console.js", include_str!("../../../js/runtime/10_console.js")),
    ("20_encoding.js", include_str!("../../../js/runtime/20_encoding.js")),
    ("25_events.js", include_str!("../../../js/runtime/25_events.js")),
    ("30_url.js", include_str!("../../../js/runtime/30_url.js")),
    ("38_chacha.js", include_str!("../../../js/runtime/38_chacha.js")),
    ("40_determinism.js", include_str!("../../../js/runtime/40_determinism.js")),
    ("42_date.js", include_str!("../../../js/runtime/42_date.js")),
    ("45_typed_arrays.js", include_str!("../../../js/runtime/45_typed_arrays.js")),
    ("web/crypto.js", WEB_CRYPTO),
    ("50_crypto.js", include_str!("../../../js/runtime/50_crypto.js")),
    ("55_web_assembly.js", include_str!("../../../js/runtime/55_web_assembly.js")),
    ("60_timers.js", include_str!("../../../js/runtime/60_timers.js")),
    ("68_platform.js", include_str!("../../../js/runtime/68_platform.js")),
    ("70_structured_clone.js", include_str!("../../../js/runtime/70_structured_clone.js")),
    ("72_bootstrap.js", include_str!("../../../js/runtime/72_bootstrap.js")),
    ("75_web.js", include_str!("../../../js/runtime/75_web.js")),
    ("80_async_context.js", include_str!("../../../js/runtime/80_async_context.js")),
    ("85_late_features.js", include_str!("../../../js/runtime/85_late_features.js")),
    ("90_convex.js", include_str!("../../../js/runtime/90_convex.js")),
    ("99_seal.js", include_str!("../../../js/runtime/99_seal.js")),
];

/// WebCrypto's script as a function of the `__bootstrap` that it expects: it runs on first use.
const WEB_CRYPTO: &str = concat!(
    "globalThis.__concave.later((prelude) => { ",
    "prelude.webCrypto = (__bootstrap) => { const made = ",
    include_str!("../../../js/web/crypto.js"),
    "return made; }; });"
);

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

/// What a blob holds.
pub(crate) enum Content<'a> {
    /// The prelude alone.
    Prelude,
    /// The modules too, each part in a context of its own.
    Modules(&'a [Part]),
}

/// Modules that are evaluated together: the app, or one unit of its components.
pub(crate) struct Part {
    /// Path of its definition; empty for the app.
    pub(crate) definition: String,
    /// Its modules.
    pub(crate) bundle: Arc<Bundle>,
    /// What `process.env` shows them while they are imported.
    pub(crate) environment: Imported,
    /// Those that stay outside, and so does all that imports them.
    pub(crate) absent: BTreeSet<Arc<str>>,
}

/// What a blob has of one part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Filled {
    /// Modules that those outside it may import, in the order of its data.
    pub(crate) kept: Vec<Arc<str>>,
    /// Entries outside it.
    pub(crate) late: BTreeSet<Arc<str>>,
    /// Entries with a context of their own, and its number.
    pub(crate) contexts: BTreeMap<Arc<str>, usize>,
    /// What its modules saw of the environment.
    pub(crate) read: Imported,
}

/// A blob, or why there is none.
pub(crate) enum Made {
    /// A blob.
    Blob {
        /// For [`isolate::LimitedIsolate`].
        bytes: Vec<u8>,
        /// By part.
        filled: Vec<Filled>,
    },
    /// These modules of each part touched WebAssembly, which does not exist here.
    Touched(Vec<BTreeSet<Arc<str>>>),
}

/// Makes a blob.
///
/// # Errors
/// What a module threw at import.
pub(crate) fn make_blob(content: &Content<'_>) -> Result<Made, ImportFailure> {
    platform::initialize();
    let references = natives::external_references();
    let params = v8::CreateParams::default().heap_limits(0, CREATOR_HEAP_BYTES);
    let mut creator = v8::Isolate::snapshot_creator(Some(references.into()), Some(params));
    isolate::configure(&mut creator);
    let mut touched = Vec::new();
    let filled = fill(&mut creator, content, &mut touched);
    natives::web::forget(&mut creator);
    // No handle of ours may be alive now: V8 checks, and aborts.
    modules::end();
    crate::rejections::clear();
    let blob = creator.create_blob(v8::FunctionCodeHandling::Keep);
    if touched.iter().any(|modules| !modules.is_empty()) {
        return Ok(Made::Touched(touched));
    }
    let filled = filled?;
    let bytes = blob.expect("V8 makes a blob once its default context is set").to_vec();
    Ok(Made::Blob { bytes, filled })
}

fn fill(
    creator: &mut v8::OwnedIsolate,
    content: &Content<'_>,
    touched: &mut Vec<BTreeSet<Arc<str>>>,
) -> Result<Vec<Filled>, ImportFailure> {
    match content {
        Content::Modules(parts) => fill_parts(creator, parts, touched),
        Content::Prelude => {
            v8::scope!(let scope, creator);
            let context = v8::Context::new(scope, v8::ContextOptions::default());
            let scope = &mut v8::ContextScope::new(scope, context);
            let hooks = install_prelude(scope);
            scope.set_default_context(context);
            add_data(scope, hooks);
            Ok(vec![Filled::default()])
        }
    }
}

/// Fills a context for each part, and then, as far as they are worth it, those of their entries;
/// the app's entries come first.
fn fill_parts(
    creator: &mut v8::OwnedIsolate,
    parts: &[Part],
    touched: &mut Vec<BTreeSet<Arc<str>>>,
) -> Result<Vec<Filled>, ImportFailure> {
    let mut all = Vec::new();
    let mut with_functions = Vec::new();
    let mut failed = None;
    for (at, part) in parts.iter().enumerate() {
        let before = Cost::so_far(creator);
        let filled = fill_whole(creator, at, part);
        touched.push(touch::take());
        match filled {
            Ok((filled, entries)) => {
                all.push(filled);
                with_functions.push((entries, Cost::so_far(creator).less(&before)));
            }
            Err(failure) if part.definition.is_empty() => failed = failed.or(Some(failure)),
            Err(failure) => {
                let module = format!("{}/{}", part.definition, failure.module).into();
                failed = failed.or(Some(ImportFailure { module, ..failure }));
            }
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    // Else there will be no blob of it.
    if touched.iter().all(BTreeSet::is_empty) {
        let mut left = Left { contexts: MAX_CONTEXTS, cost: Cost::ALL };
        for ((part, filled), entries) in parts.iter().zip(&mut all).zip(&with_functions) {
            fill_entries(creator, (part, filled), entries, &mut left);
        }
    }
    Ok(all)
}

/// Contexts of entries in one blob at most: each costs some 90 KB of it and 5 ms of the push.
const MAX_CONTEXTS: usize = 8;

/// What contexts cost a push.
struct Cost {
    heap_bytes: usize,
    cpu: Duration,
}

impl Cost {
    /// What all of them may cost: a library that is dear to import stays in the default one.
    const ALL: Self = Self { heap_bytes: 32 << 20, cpu: Duration::from_millis(500) };

    fn so_far(isolate: &mut v8::OwnedIsolate) -> Self {
        let heap_bytes = isolate.get_heap_statistics().used_heap_size();
        Self { heap_bytes, cpu: watchdog::cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) }
    }

    fn less(&self, other: &Self) -> Self {
        Self {
            heap_bytes: self.heap_bytes.saturating_sub(other.heap_bytes),
            cpu: self.cpu.saturating_sub(other.cpu),
        }
    }
}

/// What there may still be of contexts of entries, in all parts.
struct Left {
    contexts: usize,
    cost: Cost,
}

impl Left {
    /// How many contexts of this cost.
    fn affordable(&self, one: &Cost) -> usize {
        let by_heap = self.cost.heap_bytes / one.heap_bytes.max(1);
        let by_time = self.cost.cpu.as_micros() / one.cpu.as_micros().max(1);
        by_heap.min(usize::try_from(by_time).unwrap_or(MAX_CONTEXTS)).min(self.contexts)
    }
}

/// Fills contexts of the entries of a part, whose own context has cost that much.
fn fill_entries(
    creator: &mut v8::OwnedIsolate,
    (part, filled): (&Part, &mut Filled),
    (entries, cost): &(Vec<Arc<str>>, Cost),
    left: &mut Left,
) {
    let most = left.affordable(cost);
    // One that holds all entries is there already.
    if entries.len().min(most) < 2 {
        return;
    }
    let before = Cost::so_far(creator);
    // Neighbours share a context where there are too many.
    for group in entries.chunks(entries.len().div_ceil(most)) {
        left.contexts -= 1;
        if let Some(number) = fill_own(creator, part, group) {
            filled.contexts.extend(group.iter().map(|entry| (Arc::clone(entry), number)));
        }
    }
    filled.read.append(&mut execution::take_import_reads());
    left.cost = left.cost.less(&Cost::so_far(creator).less(&before));
}

/// Evaluates entries in a context of their own and puts it into the blob; gives its number. `None`:
/// they fail without what others do at import, or touch WebAssembly then; calls of them are served
/// by the context of their part.
fn fill_own(creator: &mut v8::OwnedIsolate, part: &Part, entries: &[Arc<str>]) -> Option<usize> {
    v8::scope!(let scope, creator);
    let context = v8::Context::new(scope, v8::ContextOptions::default());
    let scope = &mut v8::ContextScope::new(scope, context);
    let hooks = install_prelude(scope);
    touch::arm(scope);
    let imported = {
        let _importing = Importing::begin(Some(&part.environment));
        begin_import(scope, hooks, &part.bundle);
        modules::begin(Arc::clone(&part.bundle), None);
        entries.iter().try_for_each(|entry| import(scope, hooks, None, entry))
    };
    scope.perform_microtask_checkpoint();
    modules::end();
    crate::rejections::clear();
    let touched = touch::take();
    touch::disarm(scope);
    if !touched.is_empty() || imported.is_err() {
        return None;
    }
    let number = scope.add_context(context);
    add_data(scope, hooks);
    Some(number)
}

/// Fills the context of a whole part: the default one is the app's, the others have numbers. Gives
/// the entries in it that export functions too.
fn fill_whole(
    creator: &mut v8::OwnedIsolate,
    at: usize,
    part: &Part,
) -> Result<(Filled, Vec<Arc<str>>), ImportFailure> {
    v8::scope!(let scope, creator);
    let context = v8::Context::new(scope, v8::ContextOptions::default());
    let scope = &mut v8::ContextScope::new(scope, context);
    let hooks = install_prelude(scope);
    touch::arm(scope);
    let filled = import_all(scope, hooks, part);
    touch::disarm(scope);
    if at == 0 {
        scope.set_default_context(context);
    } else {
        let number = scope.add_context(context);
        assert_eq!(number + 1, at, "contexts are numbered in the order of their parts");
    }
    let filled = filled.map(|filled| {
        add_data(scope, hooks);
        add_modules(scope, &filled);
        let all = Code::entries(&part.bundle);
        let entries = all.filter(|e| exports_functions(scope, hooks, e)).cloned().collect();
        (filled, entries)
    });
    modules::end();
    filled
}

/// Keeps the hooks for contexts made from the blob.
fn add_data(scope: &mut v8::PinScope<'_, '_>, hooks: v8::Local<'_, v8::Object>) {
    let context = scope.get_current_context();
    let index = scope.add_context_data(context, hooks);
    assert_eq!(index, HOOKS_INDEX, "the hooks are the context's first datum");
}

/// Keeps the modules that others may import, where there are others.
fn add_modules(scope: &mut v8::PinScope<'_, '_>, filled: &Filled) {
    if filled.late.is_empty() {
        return;
    }
    let context = scope.get_current_context();
    let modules = modules::evaluated(scope);
    assert!(modules.iter().map(|(path, _)| path).eq(&filled.kept), "nothing was evaluated since");
    for (at, (_, module)) in modules.into_iter().enumerate() {
        let index = scope.add_context_data(context, module);
        assert_eq!(index, FIRST_MODULE + at, "modules follow the hooks");
    }
}

/// Where a context made from a blob finds the prelude's hooks.
pub(crate) const HOOKS_INDEX: usize = 0;

/// Where it finds the first of the modules that others may import.
pub(crate) const FIRST_MODULE: usize = HOOKS_INDEX + 1;

/// Evaluates the prelude in a bare context and returns its hooks.
fn install_prelude<'s>(scope: &mut v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Object> {
    drop_extras(scope);
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

/// Empties the object that V8 makes for its embedders: a console of its own, tracing. No function
/// can reach it, but every context would carry it.
fn drop_extras(scope: &mut v8::PinScope<'_, '_>) {
    let extras = scope.get_current_context().get_extras_binding_object(scope);
    let all = v8::GetPropertyNamesArgs {
        property_filter: v8::PropertyFilter::ALL_PROPERTIES,
        ..v8::GetPropertyNamesArgs::default()
    };
    let names = extras.get_own_property_names(scope, all);
    for name in names.iter().flat_map(|names| 0..names.length()) {
        if let Some(name) = names.and_then(|names| names.get_index(scope, name)) {
            extras.delete(scope, name);
        }
    }
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

/// Imports the entries of `part` into a creator's context, except those that import an absent
/// module; of these, what comes before the first such module.
fn import_all(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    part: &Part,
) -> Result<Filled, ImportFailure> {
    let Part { bundle, absent, environment, .. } = part;
    let _importing = Importing::begin(Some(environment));
    execution::take_import_reads();
    begin_import(scope, hooks, bundle);
    modules::begin(Arc::clone(bundle), None);
    let mut filled = Filled::default();
    for entry in Code::entries(bundle) {
        let plan = if absent.is_empty() {
            Plan { first: Vec::new(), is_late: false }
        } else {
            guarded(scope, hooks, None, entry, |scope| Plan::of(scope, entry, absent))?
        };
        for path in &plan.first {
            guarded(scope, hooks, None, path, |scope| modules::load(scope, path).map(drop))?;
        }
        if plan.is_late {
            filled.late.insert(Arc::clone(entry));
            continue;
        }
        let imported = import(scope, hooks, None, entry);
        // A module that touched WebAssembly throws because it is not there: see who else does.
        if !touch::is_noted() {
            imported?;
        }
    }
    scope.perform_microtask_checkpoint();
    filled.kept = modules::evaluated(scope).into_iter().map(|(path, _)| path).collect();
    filled.read = execution::take_import_reads();
    Ok(filled)
}

/// Whether an entry is evaluated and exports queries or mutations. Runs no code of its author.
fn exports_functions(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    entry: &Arc<str>,
) -> bool {
    v8::tc_scope!(let scope, scope);
    let key = string(scope, "registry");
    let registry = hooks.get(scope, key.into()).map(v8::Local::<v8::Object>::try_from);
    let Some(Ok(registry)) = registry else { return false };
    let key = string(scope, entry);
    let namespace = registry.get(scope, key.into()).map(v8::Local::<v8::Object>::try_from);
    let Some(Ok(namespace)) = namespace else { return false };
    let names = namespace.get_own_property_names(scope, v8::GetPropertyNamesArgs::default());
    let Some(names) = names else { return false };
    let flags = ["isQuery", "isMutation"].map(|flag| string(scope, flag));
    (0..names.length()).any(|at| {
        let name = names.get_index(scope, at);
        let value = name.and_then(|name| namespace.get(scope, name));
        let object = value.and_then(|value| v8::Local::<v8::Object>::try_from(value).ok());
        object.is_some_and(|object| {
            flags
                .iter()
                .any(|flag| object.has_real_named_property(scope, (*flag).into()) == Some(true))
        })
    })
}

/// Imports `entries` into a context of functions, whose snapshot does not hold them.
///
/// # Errors
/// The first module that failed, with what it threw.
pub(crate) fn import_late<'e>(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    code: &Code,
    entries: impl IntoIterator<Item = &'e Arc<str>>,
    queue: &v8::MicrotaskQueue,
) -> Result<(), ImportFailure> {
    // A call that evaluates its module on the way must not be seen by the module.
    execution::aside(|| {
        let _importing = Importing::begin(Some(&code.analysis.imported_environment));
        begin_import(scope, hooks, &code.bundle);
        modules::begin_late(code);
        let mut entries = entries.into_iter();
        let imported = entries.try_for_each(|entry| import(scope, hooks, Some(code), entry));
        queue.perform_checkpoint(scope);
        modules::keep_code(scope);
        // `import.meta` and the namespaces stay; what only linking needed goes.
        modules::end();
        imported
    })
}

/// Imports `entry` and publishes its namespace in `hooks.registry`.
fn import(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    code: Option<&Code>,
    entry: &Arc<str>,
) -> Result<(), ImportFailure> {
    guarded(scope, hooks, code, entry, |scope| {
        let _importing = overtime::Importing::begin(scope);
        let namespace = modules::load(scope, entry)?;
        let key = string(scope, "registry");
        let registry = hooks.get(scope, key.into())?;
        let registry = match v8::Local::<v8::Object>::try_from(registry) {
            Ok(registry) => registry,
            Err(_) => {
                let null = v8::null(scope);
                let made = v8::Object::with_prototype_and_properties(scope, null.into(), &[], &[]);
                hooks.create_data_property(scope, key.into(), made.into())?;
                made
            }
        };
        let key = string(scope, entry);
        registry.create_data_property(scope, key.into(), namespace.into()).map(drop)
    })
}

/// Runs `work`; `None` becomes what it threw.
fn guarded<R>(
    scope: &mut v8::PinScope<'_, '_>,
    hooks: v8::Local<'_, v8::Object>,
    code: Option<&Code>,
    module: &Arc<str>,
    work: impl FnOnce(&mut v8::PinScope<'_, '_>) -> Option<R>,
) -> Result<R, ImportFailure> {
    v8::tc_scope!(let scope, scope);
    if let Some(done) = work(scope) {
        return Ok(done);
    }
    let error = match scope.exception() {
        Some(thrown) => {
            scope.reset();
            exception::describe(scope, hooks, code, thrown)
        }
        None => FunctionError { message: "evaluation was stopped".to_owned(), data: None },
    };
    Err(ImportFailure { module: Arc::clone(module), error })
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
