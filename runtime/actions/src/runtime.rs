//! A JavaScript runtime, from a startup snapshot made by a process of its own.
//!
//! In: a snapshot, limits. Out: a context in which `js/actions` waits for its function. Invariant:
//! a runtime has one run at a time, and one in all where its module does not ask to share it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::{
    Extension, JsRuntime, JsRuntimeForSnapshot, PollEventLoopOptions, RuntimeOptions, v8,
};

use crate::coverage::Coverage;
use crate::heap::{StopSwitch, Stopped};
use crate::loader::{Code, Loader, SCHEME};
use crate::protocol::{Limits, Residents};
use crate::scripts::Scripts;
use crate::{globals, residents, syscalls};

/// The parts of the queries' prelude that actions share, and what is around them.
const SCRIPTS: &[(&str, &str)] = &[
    ("concave:/actions/00_host.js", include_str!("../../../js/actions/00_host.js")),
    ("concave:/00_primordials.js", include_str!("../../../js/runtime/00_primordials.js")),
    ("concave:/10_console.js", include_str!("../../../js/runtime/10_console.js")),
    ("concave:/38_chacha.js", include_str!("../../../js/runtime/38_chacha.js")),
    ("concave:/actions/40_import_phase.js", include_str!("../../../js/actions/40_import_phase.js")),
    ("concave:/42_date.js", include_str!("../../../js/runtime/42_date.js")),
    ("concave:/55_web_assembly.js", include_str!("../../../js/runtime/55_web_assembly.js")),
    ("concave:/68_platform.js", include_str!("../../../js/runtime/68_platform.js")),
    ("concave:/70_structured_clone.js", include_str!("../../../js/runtime/70_structured_clone.js")),
    ("concave:/80_async_context.js", include_str!("../../../js/runtime/80_async_context.js")),
    ("concave:/90_convex.js", include_str!("../../../js/runtime/90_convex.js")),
];

/// The last ones: what a run calls, and a call of it.
const RUN: &[(&str, &str)] = &[
    ("concave:/actions/90_run.js", include_str!("../../../js/actions/90_run.js")),
    ("concave:/actions/95_warm.js", include_str!("../../../js/actions/95_warm.js")),
];

/// The global function that takes the host off the global object.
const START: &str = "__concaveStart";

/// How often, and by how much, the limit of the heap gives way to collections for buffers.
const SPARED_MOST: usize = 64;
const SPARED_BYTES: usize = 256 << 10;

/// What V8 is started with in every process of ours, with reasons.
const FLAGS: &[&str] = &[
    // eval and new Function.
    "--disallow-code-generation-from-strings",
    // KiB. Threads have 8 MiB; JSON and regular expressions recurse natively beyond this.
    "--stack-size=984",
    // Pages of 64 KiB: a wasm memory cannot pass 256 MiB, whatever the machine has.
    "--wasm-max-mem-pages=4096",
    // It takes the stack check out of small counted loops, and out of the endless loop around one
    // too: `for (;;) new Array(1000).fill(0)` could not be stopped by anything.
    "--no-turboshaft-loop-unrolling",
    // Many runs share few cores; one that collects garbage does so on its own thread.
    "--single-threaded-gc",
    // Most isolates live for one run: machine code for what was called a few times in it would be
    // made for nothing. What goes on being called gets it all the same.
    "--baseline-batch-compilation-threshold=65536",
    // Each page of machine code would cost two changes of the thread's rights; the host, which
    // runs the same authors' code, has none of it either.
    "--no-memory-protection-keys",
];

/// Starts V8. The first thing that a process does: threads that run JavaScript come after it.
pub(crate) fn initialize() {
    let arguments = ["concave".to_owned()].into_iter();
    let unknown =
        deno_core::v8_set_flags(arguments.chain(FLAGS.iter().map(ToString::to_string)).collect());
    debug_assert_eq!(unknown.len(), 1, "flags that this V8 does not know: {unknown:?}");
    v8::icu::set_default_locale("en-US");
}

fn extensions() -> Vec<Extension> {
    let mut extensions = globals::extensions();
    extensions.push(syscalls::extension());
    extensions
}

/// Makes the startup snapshot, in a process that does nothing else: V8 runs in another mode.
///
/// # Errors
/// A script or a resident that throws.
pub(crate) fn make_snapshot(residents: &Residents) -> Result<Box<[u8]>, String> {
    initialize();
    let modules = residents.modules.iter().map(|(path, text)| (path.to_string(), text.clone()));
    let code = Code::new(modules.collect(), residents.import);
    let options = RuntimeOptions {
        module_loader: Some(Rc::new(Loader::new(Arc::new(code)))),
        extensions: extensions(),
        ..RuntimeOptions::default()
    };
    let timers =
        tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    let _entered = timers.enter();
    let mut runtime = JsRuntimeForSnapshot::try_new(options).map_err(|e| e.to_string())?;
    runtime.op_state().borrow_mut().put(Scripts::of_snapshot());
    for (name, source) in SCRIPTS.iter().chain(globals::SCRIPTS).chain(RUN) {
        runtime.execute_script(*name, *source).map_err(|e| format!("{name}: {e}"))?;
    }
    // What the last script has called ends; deno_core's turn of the loop is compiled by that.
    let turns = runtime.run_event_loop(PollEventLoopOptions::default());
    timers.block_on(turns).map_err(|e| e.to_string())?;
    residents::move_in(&mut runtime, residents)?;
    Ok(runtime.snapshot())
}

/// A runtime that waits for its run.
pub(crate) struct Runtime {
    /// deno_core's.
    pub(crate) js: JsRuntime,
    /// Stops it from any thread.
    pub(crate) switch: Arc<StopSwitch>,
    loader: Rc<Loader>,
    /// The scripts of its context.
    pub(crate) platform: Rc<Scripts>,
    scripts: v8::Global<v8::Function>,
    prepare: v8::Global<v8::Function>,
    run: v8::Global<v8::Function>,
    run_http: v8::Global<v8::Function>,
}

impl Runtime {
    /// Makes one on the thread that will use it, inside of a tokio runtime.
    ///
    /// # Errors
    /// A snapshot of another build.
    pub(crate) fn new(
        snapshot: &'static [u8],
        code: Arc<Code>,
        limits: &Limits,
    ) -> Result<Self, String> {
        let switch = StopSwitch::new(limits);
        let platform = Scripts::new(Arc::clone(&code));
        let loader = Rc::new(Loader::new(code));
        let mut js = JsRuntime::try_new(RuntimeOptions {
            module_loader: Some(Rc::<Loader>::clone(&loader)),
            extensions: extensions(),
            startup_snapshot: Some(snapshot),
            // The snapshot has them.
            skip_op_registration: true,
            create_params: Some(switch.parameters(limits)),
            inspector: limits.coverage,
            ..RuntimeOptions::default()
        })
        .map_err(|e| e.to_string())?;
        switch.connect(js.v8_isolate().thread_safe_handle());
        js.op_state().borrow_mut().put(Arc::clone(&switch));
        js.op_state().borrow_mut().put(Rc::clone(&platform));
        if limits.coverage {
            let coverage = Coverage::start(&js);
            js.op_state().borrow_mut().put(coverage);
        }
        let on_limit = Arc::clone(&switch);
        let mut spared = 0;
        js.add_near_heap_limit_callback(move |current, _initial| {
            // V8 says so too where collections for the sake of buffers, which have a limit of their
            // own, gave the heap itself little.
            if spared < SPARED_MOST && on_limit.holds_buffers() {
                spared += 1;
                return current + SPARED_BYTES;
            }
            on_limit.stop(Stopped::OutOfMemory);
            // V8 ends the process when an allocation really fails: give it room to unwind.
            current * 4
        });
        let [scripts, prepare, run, run_http] = start(&mut js)
            .ok_or("the startup snapshot does not have the functions that a run is started with")?;
        Ok(Self { js, switch, loader, platform, scripts, prepare, run, run_http })
    }

    /// Runs scripts of the platform that a run will probably touch.
    pub(crate) fn run_scripts(&mut self, names: &BTreeSet<String>) {
        if !names.is_empty() {
            let list = serde_json::json!(names).to_string();
            let function = self.scripts.clone();
            self.invoke(&function, &[Argument::Json(&list)]);
        }
    }

    /// Begins to import a module; the event loop goes on with it.
    pub(crate) fn prepare(&mut self, target: &str) {
        let function = self.prepare.clone();
        self.invoke(&function, &[Argument::Json(target)]);
    }

    /// Keeps what V8 has compiled of modules and scripts of a run, for later ones: functions are
    /// compiled when they are first called, so there is more of it after a run than before.
    pub(crate) fn keep_compiled(&mut self) {
        let loader = Rc::clone(&self.loader);
        deno_core::scope!(scope, self.js);
        self.platform.keep_compiled(scope);
        for (path, source) in loader.loaded() {
            let url = format!("{SCHEME}{path}");
            let (Some(name), Some(text)) =
                (v8::String::new(scope, &url), v8::String::new(scope, &source))
            else {
                continue;
            };
            // V8 finds the script that it has by text and origin: deno_core's.
            let name = name.into();
            let origin =
                v8::ScriptOrigin::new(scope, name, 0, 0, false, 0, None, false, false, true, None);
            let mut source = v8::script_compiler::Source::new(text, Some(&origin));
            let module = v8::script_compiler::compile_module(scope, &mut source);
            let module = module.map(|module| module.get_unbound_module_script(scope));
            if let Some(compiled) = module.and_then(|module| module.create_code_cache()) {
                loader.keep(&path, &compiled);
            }
        }
    }

    /// Whether the runs so far have left room on the heap for another.
    pub(crate) fn has_room(&mut self, limits: &Limits) -> bool {
        let used = self.js.v8_isolate().get_heap_statistics().used_heap_size();
        (used as u64) < limits.heap_bytes / 2
            && self.switch.memories.bytes() <= limits.wasm_bytes / 2
    }

    /// Calls the function that starts the run: `runHttp` where there is a request, else `run`.
    pub(crate) fn call(&mut self, is_http: bool, arguments: &[Argument<'_>]) {
        let function = if is_http { self.run_http.clone() } else { self.run.clone() };
        self.invoke(&function, arguments);
    }

    fn invoke(&mut self, function: &v8::Global<v8::Function>, arguments: &[Argument<'_>]) {
        deno_core::scope!(scope, self.js);
        let function = v8::Local::new(scope, function);
        let undefined = v8::undefined(scope).into();
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(match argument {
                Argument::Text(text) => string(scope, text),
                Argument::Json(json) => {
                    let text = v8::Local::<v8::String>::try_from(string(scope, json));
                    text.ok().and_then(|text| v8::json::parse(scope, text)).unwrap_or(undefined)
                }
            });
        }
        // It is an async function that catches everything: a call never throws.
        let _ = function.call(scope, undefined, &values);
    }
}

/// An argument of the function that starts a run.
pub(crate) enum Argument<'a> {
    /// A string.
    Text(&'a str),
    /// JSON text; JavaScript gets what it says.
    Json(&'a str),
}

fn string<'s>(scope: &v8::PinScope<'s, '_>, text: &str) -> v8::Local<'s, v8::Value> {
    match v8::String::new(scope, text) {
        Some(text) => text.into(),
        // Longer than V8's strings can be, which is above the limit of arguments.
        None => v8::undefined(scope).into(),
    }
}

/// Takes the host off the global object; gives `scripts`, `prepare`, `run` and `runHttp`.
fn start(js: &mut JsRuntime) -> Option<[v8::Global<v8::Function>; 4]> {
    deno_core::scope!(scope, js);
    let global: v8::Local<'_, v8::Object> = scope.get_current_context().global(scope);
    let start = function(scope, global, START)?;
    let entries = start.call(scope, global.into(), &[])?;
    let entries = v8::Local::<v8::Object>::try_from(entries).ok()?;
    let named = |name| {
        let function = function(scope, entries, name)?;
        Some(v8::Global::new(scope, function))
    };
    Some([named("scripts")?, named("prepare")?, named("run")?, named("runHttp")?])
}

fn function<'s>(
    scope: &v8::PinScope<'s, '_>,
    owner: v8::Local<'_, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::Function>> {
    let key = string(scope, name);
    owner.get(scope, key).and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
}
