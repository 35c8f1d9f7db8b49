//! ES modules of a bundle: resolve, compile, link, evaluate; V8 does the linking.
//!
//! In: a [`Bundle`]'s sources. Out: namespaces. Invariant: a module URL is `convex:/<path>`, never
//! a path of the host; nothing outside the bundle can be imported.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use database::deployment::{Bundle, Module};

use crate::code::{Caches, Code};
use crate::debug;
use crate::natives::{string, touch};
use crate::wasm;

/// Scheme of module URLs.
pub(crate) const SCHEME: &str = "convex:/";

/// The modules that one context has loaded, and the code it loads from.
#[derive(Default)]
struct Graph {
    bundle: Option<Arc<Bundle>>,
    extra: Option<Module>,
    /// Modules that the context's snapshot holds, by their place in its data.
    kept: Arc<BTreeMap<Arc<str>, usize>>,
    /// Definitions of components that a `convex.config.js` may import.
    definitions: Arc<Definitions>,
    /// Compiled code, where this thread loads for a context of functions.
    caches: Option<Arc<Caches>>,
    loaded: BTreeMap<Arc<str>, v8::Global<v8::Module>>,
    paths: Vec<(v8::Global<v8::Module>, Arc<str>)>,
}

/// Definitions of components: path and default name, by the path that imports them.
pub(crate) type Definitions = BTreeMap<String, (Arc<str>, String)>;

/// The folder of the modules that stand for definitions.
const DEFINITIONS: &str = "_componentDeps/";

/// A source as the isolate has it; the text is held, so that no other can have its address.
type SharedString = (Arc<str>, v8::Global<v8::String>);

thread_local! {
    static GRAPH: RefCell<Graph> = RefCell::default();
    /// Sources as V8 has them, for the life of the isolate: V8 finds compiled code by them.
    static SOURCES: RefCell<BTreeMap<usize, SharedString>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// Starts loading from `bundle` on this thread; `extra` is a module outside its function modules
/// (`schema.js`, `convex.config.js`).
pub(crate) fn begin(bundle: Arc<Bundle>, extra: Option<Module>) {
    GRAPH.set(Graph { bundle: Some(bundle), extra, ..Graph::default() });
}

/// Starts loading the `convex.config.js` of `bundle`, which may import `definitions`.
pub(crate) fn begin_definition(bundle: Arc<Bundle>, definitions: Arc<Definitions>) {
    let extra = bundle.definition.clone();
    GRAPH.set(Graph { bundle: Some(bundle), extra, definitions, ..Graph::default() });
}

/// The path of the component's definition that an import of a `convex.config.js` means.
pub(crate) fn definition_of(path: &str) -> Option<Arc<str>> {
    let name = path.strip_prefix(DEFINITIONS)?;
    let name = URL_SAFE_NO_PAD.decode(name.strip_suffix(".js").unwrap_or(name)).ok()?;
    String::from_utf8(name).ok().map(Arc::from)
}

/// The path by which a `convex.config.js` imports a component's definition.
pub(crate) fn definition_import(definition: &str) -> String {
    format!("{DEFINITIONS}{}.js", URL_SAFE_NO_PAD.encode(definition))
}

/// Starts loading what `code`'s snapshot does not hold.
pub(crate) fn begin_late(code: &Code) {
    GRAPH.set(Graph {
        bundle: Some(Arc::clone(&code.bundle)),
        kept: Arc::clone(&code.kept),
        caches: Some(Arc::clone(&code.caches)),
        ..Graph::default()
    });
}

/// Drops every handle to a module: before the isolate is dropped or a snapshot is taken.
pub(crate) fn end() {
    GRAPH.take();
}

/// Drops the handles that outlive single contexts too: before the isolate is dropped.
pub(crate) fn forget_sources() {
    SOURCES.take();
}

/// The paths that `path` imports by import statements, compiling it the first time.
/// `None`: an exception is pending.
pub(crate) fn requests(scope: &mut v8::PinScope<'_, '_>, path: &str) -> Option<Vec<Arc<str>>> {
    let module = compile(scope, path)?;
    if module.is_synthetic_module() {
        return Some(Vec::new());
    }
    let list = module.get_module_requests();
    let mut paths = Vec::new();
    for at in 0..list.length() {
        let request = list.get(scope, at).map(v8::Local::<v8::ModuleRequest>::try_from);
        let Some(Ok(request)) = request else { continue };
        let specifier = request.get_specifier().to_rust_string_lossy(scope);
        paths.push(join(path, &specifier).into());
    }
    Some(paths)
}

/// The modules that were evaluated since `begin`, by path.
pub(crate) fn evaluated<'s>(
    scope: &mut v8::PinScope<'s, '_>,
) -> Vec<(Arc<str>, v8::Local<'s, v8::Module>)> {
    let loaded: Vec<_> = GRAPH
        .with_borrow(|graph| graph.loaded.iter().map(|(p, m)| (p.clone(), m.clone())).collect());
    let local =
        |(path, module): (Arc<str>, v8::Global<v8::Module>)| (path, v8::Local::new(scope, module));
    let all = loaded.into_iter().map(local);
    all.filter(|(_, module)| module.get_status() == v8::ModuleStatus::Evaluated).collect()
}

/// Keeps the compiled code of what was evaluated since `begin_late`: of what ran once before in
/// this process, so that the functions it called by then are in it.
pub(crate) fn keep_code(scope: &mut v8::PinScope<'_, '_>) {
    let Some(caches) = GRAPH.with_borrow(|graph| graph.caches.clone()) else { return };
    for (path, module) in evaluated(scope) {
        let is_late = GRAPH.with_borrow(|graph| !graph.kept.contains_key(&path));
        if is_late && module.is_source_text_module() && caches.is_due(&path) {
            let script = module.get_unbound_module_script(scope);
            if let Some(code) = script.create_code_cache() {
                caches.keep(&path, &code);
            }
        }
    }
}

/// Loads `path` and everything it imports, and evaluates it. Returns the namespace.
/// `None`: an exception is pending in the current try-catch.
pub(crate) fn load<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
) -> Option<v8::Local<'s, v8::Object>> {
    let module = compile(scope, path)?;
    if module.get_status() == v8::ModuleStatus::Uninstantiated {
        v8::tc_scope!(let scope, scope);
        if module.instantiate_module(scope, resolve) != Some(true) {
            place(scope);
            scope.rethrow();
            return None;
        }
    }
    if module.is_graph_async() {
        let text = string(scope, "Top-level awaits in source files are unsupported");
        let error = v8::Exception::error(scope, text);
        scope.throw_exception(error);
        return None;
    }
    let result = module.evaluate(scope)?;
    if module.get_status() == v8::ModuleStatus::Errored {
        // The promise repeats the exception; nobody awaits it.
        if let Ok(promise) = v8::Local::<v8::Promise>::try_from(result) {
            promise.mark_as_handled();
        }
        let exception = module.get_exception();
        let exception = v8::Local::new(scope, exception);
        scope.throw_exception(exception);
        return None;
    }
    v8::Local::<v8::Object>::try_from(module.get_module_namespace()).ok()
}

/// The compiled module at `path`, compiling it the first time.
fn compile<'s>(scope: &mut v8::PinScope<'s, '_>, path: &str) -> Option<v8::Local<'s, v8::Module>> {
    let known = GRAPH.with_borrow(|graph| graph.loaded.get(path).cloned());
    if let Some(module) = known {
        return Some(v8::Local::new(scope, module));
    }
    let kept = GRAPH.with_borrow(|graph| graph.kept.get(path).copied());
    if let Some(index) = kept
        && let Ok(module) = scope.get_context_data_from_snapshot_once::<v8::Module>(index)
    {
        return Some(remember(scope, path, module));
    }
    if GRAPH.with_borrow(|graph| graph.definitions.contains_key(path)) {
        let name = string(scope, path);
        let default = string(scope, "default");
        let module =
            v8::Module::create_synthetic_module(scope, name, &[default], evaluate_definition);
        return Some(remember(scope, path, module));
    }
    let source = GRAPH.with_borrow(|graph| {
        let extra = graph.extra.as_ref().filter(|module| &*module.path == path);
        let bundled = || graph.bundle.as_ref().and_then(|bundle| bundle.modules.get(path));
        extra.or_else(bundled).map(|module| Arc::clone(&module.source))
    });
    let Some(source) = source else {
        let text = match definition_of(path) {
            Some(component) => {
                format!("Couldn't find the component {component:?}: it was not pushed. Push again.")
            }
            None => format!(
                "Couldn't find JavaScript module '{path}'. Did you forget to run `npx convex dev`?"
            ),
        };
        let text = string(scope, &text);
        let error = v8::Exception::error(scope, text);
        scope.throw_exception(error);
        return None;
    };
    let module = if wasm::is_file(&source) {
        let name = string(scope, &format!("{SCHEME}{path}"));
        let default = string(scope, "default");
        v8::Module::create_synthetic_module(scope, name, &[default], evaluate_wasm)
    } else {
        v8::tc_scope!(let scope, scope);
        let Some(module) = compile_source(scope, path, &source) else {
            place(scope);
            scope.rethrow();
            return None;
        };
        module
    };
    Some(remember(scope, path, module))
}

/// Gives the caught error of a module that does not compile or link a frame: V8 knows the place,
/// and tells it in the message, not in the stack.
fn place(scope: &mut v8::PinnedRef<'_, v8::TryCatch<'_, '_, v8::HandleScope<'_>>>) -> Option<()> {
    let error = v8::Local::<v8::Object>::try_from(scope.exception()?).ok()?;
    let key = string(scope, "stack");
    let stack = error.get(scope, key.into())?.to_rust_string_lossy(scope);
    // V8 has no script for the message of what the host throws.
    if stack.starts_with("SyntaxError") && !stack.contains("\n    at ") {
        let message = scope.message()?;
        let script = message.get_script_resource_name(scope)?.to_rust_string_lossy(scope);
        let (line, column) =
            (message.get_line_number(scope)?, message.get_start_column().checked_add(1)?);
        let stack = string(scope, &format!("{stack}\n    at {script}:{line}:{column}"));
        error.set(scope, key.into(), stack.into())?;
    }
    Some(())
}

/// Notes a module of the graph.
fn remember<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
    module: v8::Local<'s, v8::Module>,
) -> v8::Local<'s, v8::Module> {
    let path: Arc<str> = path.into();
    let global = v8::Global::new(scope, module);
    GRAPH.with_borrow_mut(|graph| {
        graph.loaded.insert(Arc::clone(&path), global.clone());
        graph.paths.push((global, path));
    });
    module
}

/// Compiles JavaScript, with the code that is kept of it where there is any.
fn compile_source<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
    source: &Arc<str>,
) -> Option<v8::Local<'s, v8::Module>> {
    use v8::script_compiler::{CachedData, CompileOptions, NoCacheReason, Source, compile_module2};
    let origin = origin(scope, path);
    let caches = GRAPH.with_borrow(|graph| graph.caches.clone());
    let Some(caches) = caches else {
        let text = string(scope, source);
        let mut text = Source::new(text, Some(&origin));
        return v8::script_compiler::compile_module(scope, &mut text);
    };
    let text = shared_string(scope, source);
    let cached = caches.find(path);
    let (mut text, options) = match &cached {
        Some(code) => (
            Source::new_with_cached_data(text, Some(&origin), CachedData::new(code)),
            CompileOptions::ConsumeCodeCache,
        ),
        None => (Source::new(text, Some(&origin)), CompileOptions::NoCompileOptions),
    };
    compile_module2(scope, &mut text, options, NoCacheReason::NoReason)
}

/// `source` as a string of this isolate, made once and, where it is ASCII, not copied.
fn shared_string<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &Arc<str>,
) -> v8::Local<'s, v8::String> {
    let address = source.as_ptr().addr();
    let known = SOURCES
        .with_borrow(|sources| sources.get(&address).map(|(_, text)| v8::Local::new(scope, text)));
    if let Some(text) = known {
        return text;
    }
    let text = external_string(scope, source).unwrap_or_else(|| string(scope, source));
    let global = v8::Global::new(scope, text);
    SOURCES.with_borrow_mut(|all| all.insert(address, (Arc::clone(source), global)));
    text
}

/// A string over the bytes of `source` itself.
fn external_string<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &Arc<str>,
) -> Option<v8::Local<'s, v8::String>> {
    unsafe extern "C" fn release(text: *mut c_char, length: usize) {
        let text = std::ptr::slice_from_raw_parts(text.cast::<u8>(), length) as *const str;
        // SAFETY: V8 gives back what `Arc::into_raw` gave below, once.
        drop(unsafe { Arc::from_raw(text) });
    }
    if !source.is_ascii() {
        return None;
    }
    let length = source.len();
    let text = Arc::into_raw(Arc::clone(source)).cast_mut().cast::<c_char>();
    // SAFETY: the bytes are ASCII, hence Latin-1; the count taken here keeps them until `release`.
    unsafe { v8::String::new_external_onebyte_raw(scope, text, length, release) }
}

/// Evaluation of a module that stands for a component's definition: its default export is what
/// `app.use` takes.
fn evaluate_definition<'s>(
    context: v8::Local<'s, v8::Context>,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    v8::callback_scope!(unsafe scope, context);
    let path = path_of(scope, module)?;
    let found = GRAPH.with_borrow(|graph| graph.definitions.get(&*path).cloned());
    let (definition, default_name) = found?;
    let value = v8::Object::new(scope);
    for (key, text) in [("componentDefinitionPath", &*definition), ("defaultName", &default_name)] {
        let (key, text) = (string(scope, key), string(scope, text));
        value.create_data_property(scope, key.into(), text.into())?;
    }
    exported_default(scope, module, value.into())
}

/// Evaluation of a `.wasm` file: its default export is a module of this context.
fn evaluate_wasm<'s>(
    context: v8::Local<'s, v8::Context>,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    v8::callback_scope!(unsafe scope, context);
    let path = path_of(scope, module)?;
    touch::note(&path);
    let source = GRAPH.with_borrow(|graph| {
        let found = graph.bundle.as_ref().and_then(|bundle| bundle.modules.get(&path));
        found.map(|module| Arc::clone(&module.source))
    })?;
    let value = compiled_file(scope, &path, &source)?;
    exported_default(scope, module, value.into())
}

/// Ends the evaluation of a synthetic module, with its default export.
fn exported_default<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    module: v8::Local<'s, v8::Module>,
    value: v8::Local<'s, v8::Value>,
) -> Option<v8::Local<'s, v8::Value>> {
    let name = string(scope, "default");
    module.set_synthetic_module_export(scope, name, value)?;
    let done = v8::PromiseResolver::new(scope)?;
    let undefined = v8::undefined(scope);
    done.resolve(scope, undefined.into());
    Some(done.get_promise(scope).into())
}

/// The module of a `.wasm` file, or an error that names the file.
fn compiled_file<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
    source: &Arc<str>,
) -> Option<v8::Local<'s, v8::WasmModuleObject>> {
    v8::tc_scope!(let scope, scope);
    if let Some(module) = wasm::module_of(scope, source) {
        return Some(module);
    }
    let why = scope.exception()?.to_rust_string_lossy(scope);
    let file = path.trim_start_matches("_deps/").trim_end_matches(".js");
    let text = string(scope, &format!("{file} is not a WebAssembly module: {why}"));
    scope.reset();
    let error = v8::Exception::error(scope, text);
    scope.throw_exception(error);
    scope.rethrow();
    None
}

/// The path of a module of the graph.
fn path_of(scope: &v8::PinScope<'_, '_>, module: v8::Local<'_, v8::Module>) -> Option<Arc<str>> {
    let module = v8::Global::new(scope, module);
    GRAPH.with_borrow(|graph| {
        graph.paths.iter().find(|(other, _)| *other == module).map(|(_, path)| Arc::clone(path))
    })
}

fn origin<'s>(scope: &mut v8::PinScope<'s, '_>, path: &str) -> v8::ScriptOrigin<'s> {
    let name = string(scope, &format!("{SCHEME}{path}"));
    let map = GRAPH.with_borrow(|graph| {
        let module = graph.bundle.as_ref().and_then(|bundle| bundle.modules.get(path));
        module.and_then(|module| module.source_map.clone())
    });
    let map = debug::map_address(scope, map.as_ref());
    v8::ScriptOrigin::new(scope, name.into(), 0, 0, false, -1, map, false, false, true, None)
}

/// V8 asks for an import while it links.
fn resolve<'s>(
    context: v8::Local<'s, v8::Context>,
    specifier: v8::Local<'s, v8::String>,
    _attributes: v8::Local<'s, v8::FixedArray>,
    referrer: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Module>> {
    v8::callback_scope!(unsafe scope, context);
    let specifier = specifier.to_rust_string_lossy(scope);
    let from = path_of(scope, referrer).unwrap_or_default();
    compile(scope, &join(&from, &specifier))
}

/// The path that `specifier` names when `from` imports it; `./` and `../` as URLs resolve them.
pub fn join(from: &str, specifier: &str) -> String {
    if let Some(absolute) = specifier.strip_prefix(SCHEME) {
        return with_extension(absolute.trim_start_matches('/'));
    }
    if !specifier.starts_with('.') {
        return specifier.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    with_extension(&parts.join("/"))
}

fn with_extension(path: &str) -> String {
    if path.ends_with(".js") { path.to_owned() } else { format!("{path}.js") }
}

/// `import()`: never in a query or mutation (`convex-compat.md` section 1.2).
pub(crate) fn import_dynamically<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    _options: v8::Local<'s, v8::Data>,
    referrer: v8::Local<'s, v8::Value>,
    specifier: v8::Local<'s, v8::String>,
    _attributes: v8::Local<'s, v8::FixedArray>,
) -> Option<v8::Local<'s, v8::Promise>> {
    let resolver = v8::PromiseResolver::new(scope)?;
    let referrer = referrer.to_rust_string_lossy(scope);
    let from = referrer.strip_prefix(SCHEME).unwrap_or(&referrer);
    let path = join(from, &specifier.to_rust_string_lossy(scope));
    let importing = GRAPH.with_borrow(|graph| graph.bundle.is_some());
    if importing && !crate::execution::is_running() {
        v8::tc_scope!(let scope, scope);
        match load(scope, &path) {
            Some(namespace) => resolver.resolve(scope, namespace.into()),
            None => {
                let error = scope.exception()?;
                scope.reset();
                resolver.reject(scope, error)
            }
        };
    } else {
        let text = format!("Can't dynamically import {path} in a query or mutation");
        let text = string(scope, &text);
        let error = v8::Exception::error(scope, text);
        resolver.reject(scope, error);
    }
    Some(resolver.get_promise(scope))
}

/// `import.meta.url` is the module's `convex:` URL; there is nothing else in `import.meta`.
pub(crate) unsafe extern "C" fn initialize_import_meta(
    context: v8::Local<'_, v8::Context>,
    module: v8::Local<'_, v8::Module>,
    meta: v8::Local<'_, v8::Object>,
) {
    v8::callback_scope!(unsafe scope, context);
    if let Some(path) = path_of(scope, module) {
        let key = string(scope, "url");
        let url = string(scope, &format!("{SCHEME}{path}"));
        meta.create_data_property(scope, key.into(), url.into());
    }
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn specifiers_resolve_like_urls() {
        assert_eq!(join("a/b.js", "./c.js"), "a/c.js");
        assert_eq!(join("a/b.js", "../c"), "c.js");
        assert_eq!(join("b.js", "./_deps/x/../y.js"), "_deps/y.js");
        assert_eq!(join("b.js", "../../c.js"), "c.js");
        assert_eq!(join("b.js", "convex:/a/repl/wrappers.js"), "a/repl/wrappers.js");
        assert_eq!(join("b.js", "lodash"), "lodash");
    }
}
