//! ES modules of a bundle: resolve, compile, link, evaluate; V8 does the linking.
//!
//! In: a [`Bundle`]'s sources. Out: namespaces. Invariant: a module URL is `convex:/<path>`, never
//! a path of the host; nothing outside the bundle can be imported.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use database::deployment::{Bundle, Module};

use crate::natives::string;

/// Scheme of module URLs.
pub(crate) const SCHEME: &str = "convex:/";

/// The modules that one context has loaded, and the bundle it loads from.
#[derive(Default)]
struct Graph {
    bundle: Option<Arc<Bundle>>,
    extra: Option<Module>,
    loaded: BTreeMap<Arc<str>, v8::Global<v8::Module>>,
    paths: Vec<(v8::Global<v8::Module>, Arc<str>)>,
}

thread_local! {
    static GRAPH: RefCell<Graph> = RefCell::default();
}

/// Starts loading from `bundle` on this thread; `extra` is a module outside its function modules
/// (`schema.js`, `convex.config.js`).
pub(crate) fn begin(bundle: Arc<Bundle>, extra: Option<Module>) {
    GRAPH.set(Graph { bundle: Some(bundle), extra, ..Graph::default() });
}

/// Drops every handle to a module: before the isolate is dropped or a snapshot is taken.
pub(crate) fn end() {
    GRAPH.take();
}

/// Loads `path` and everything it imports, and evaluates it. Returns the namespace.
/// `None`: an exception is pending in the current try-catch.
pub(crate) fn load<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    path: &str,
) -> Option<v8::Local<'s, v8::Object>> {
    let module = compile(scope, path)?;
    if module.get_status() == v8::ModuleStatus::Uninstantiated
        && module.instantiate_module(scope, resolve) != Some(true)
    {
        return None;
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
    let source = GRAPH.with_borrow(|graph| {
        let extra = graph.extra.as_ref().filter(|module| &*module.path == path);
        let bundled = || graph.bundle.as_ref().and_then(|bundle| bundle.modules.get(path));
        extra.or_else(bundled).map(|module| Arc::clone(&module.source))
    });
    let Some(source) = source else {
        let text = format!(
            "Couldn't find JavaScript module '{path}'. Did you forget to run `npx convex dev`?"
        );
        let text = string(scope, &text);
        let error = v8::Exception::error(scope, text);
        scope.throw_exception(error);
        return None;
    };
    let origin = origin(scope, path);
    let code = string(scope, &source);
    let mut source = v8::script_compiler::Source::new(code, Some(&origin));
    let module = v8::script_compiler::compile_module(scope, &mut source)?;
    let path: Arc<str> = path.into();
    let global = v8::Global::new(scope, module);
    GRAPH.with_borrow_mut(|graph| {
        graph.loaded.insert(Arc::clone(&path), global.clone());
        graph.paths.push((global, path));
    });
    Some(module)
}

fn origin<'s>(scope: &mut v8::PinScope<'s, '_>, path: &str) -> v8::ScriptOrigin<'s> {
    let name = string(scope, &format!("{SCHEME}{path}"));
    v8::ScriptOrigin::new(scope, name.into(), 0, 0, false, -1, None, false, false, true, None)
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
    let referrer = v8::Global::new(scope, referrer);
    let from = GRAPH.with_borrow(|graph| {
        let found = graph.paths.iter().find(|(module, _)| *module == referrer);
        found.map_or_else(|| Arc::from(""), |(_, path)| Arc::clone(path))
    });
    compile(scope, &join(&from, &specifier))
}

/// The path that `specifier` names when `from` imports it; `./` and `../` as URLs resolve them.
pub(crate) fn join(from: &str, specifier: &str) -> String {
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
    let module = v8::Global::new(scope, module);
    let path = GRAPH.with_borrow(|graph| {
        graph.paths.iter().find(|(other, _)| *other == module).map(|(_, path)| Arc::clone(path))
    });
    if let Some(path) = path {
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
