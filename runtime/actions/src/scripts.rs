//! The platform's scripts, each run when a context first needs something of it.
//!
//! In: a script's name, as `ext:deno_web/00_url.js`. Out: the function of `__bootstrap` that the
//! script is the body of, and what V8 has compiled of it by the end of earlier runs. Invariant: a
//! script's text lives in the program, outside of V8's heap; a context runs it once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use deno_core::v8::script_compiler::{CompileOptions, NoCacheReason, Source, compile_function};
use deno_core::{OpState, op2, v8};
use deno_error::JsErrorBox;

use crate::globals;
use crate::loader::Code;

/// The scripts of one runtime.
pub(crate) struct Scripts {
    /// Where what was compiled is kept; not while a snapshot is made, which holds it itself.
    code: Option<Arc<Code>>,
    run: RefCell<Vec<(&'static str, v8::Global<v8::Function>)>>,
    touched: RefCell<BTreeSet<String>>,
}

impl Scripts {
    pub(crate) fn new(code: Arc<Code>) -> Rc<Self> {
        Rc::new(Self { code: Some(code), run: RefCell::default(), touched: RefCell::default() })
    }

    /// Those of the runtime that becomes the snapshot.
    pub(crate) fn of_snapshot() -> Rc<Self> {
        Rc::new(Self { code: None, run: RefCell::default(), touched: RefCell::default() })
    }

    /// The names of those that a run needed something of.
    pub(crate) fn take_touched(&self) -> BTreeSet<String> {
        self.touched.take()
    }

    /// Keeps what V8 has compiled of those that were run.
    pub(crate) fn keep_compiled(&self, scope: &v8::PinScope<'_, '_>) {
        let Some(code) = &self.code else { return };
        for (name, function) in self.run.borrow().iter() {
            if let Some(compiled) = v8::Local::new(scope, function).create_code_cache() {
                code.keep(name, &compiled);
            }
        }
    }

    fn compile<'s>(
        &self,
        scope: &v8::PinScope<'s, '_>,
        name: &str,
    ) -> Option<v8::Local<'s, v8::Function>> {
        let (name, text) = *sources().get(sources().binary_search_by_key(&name, |s| s.0).ok()?)?;
        let text = match &self.code {
            Some(_) => v8::String::new_external_onebyte_static(scope, text.as_bytes()),
            // A snapshot cannot name what is outside of V8's heap.
            None => v8::String::new(scope, text),
        }?;
        let origin = v8::String::new(scope, name)?.into();
        let origin =
            v8::ScriptOrigin::new(scope, origin, 0, 0, false, -1, None, false, false, false, None);
        let compiled = self.code.as_ref().and_then(|code| code.compiled_of(name));
        let (mut source, options) = match &compiled {
            Some(bytes) => {
                let cache = v8::CachedData::new(bytes);
                let source = Source::new_with_cached_data(text, Some(&origin), cache);
                (source, CompileOptions::ConsumeCodeCache)
            }
            None => (Source::new(text, Some(&origin)), CompileOptions::NoCompileOptions),
        };
        let parameter = v8::String::new(scope, "__bootstrap")?;
        let reason = NoCacheReason::NoReason;
        let function = compile_function(scope, &mut source, &[parameter], &[], options, reason)?;
        if self.code.is_some() {
            self.run.borrow_mut().push((name, v8::Global::new(scope, function)));
        }
        Some(function)
    }
}

/// Names and texts, each a function's body, in the order of the names. ASCII only.
fn sources() -> &'static [(&'static str, &'static str)] {
    static SOURCES: OnceLock<Vec<(&str, &str)>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let extensions = globals::extensions();
        let files = extensions.iter().flat_map(|extension| extension.lazy_loaded_js_files.iter());
        let texts = files.map(|file| {
            let text = file.load().expect("deno compiles its scripts into the program");
            assert!(text.as_str().is_ascii(), "{} is not ASCII", file.specifier);
            (file.specifier, &*deno_core::wrap_lazy_ext_script(text.as_str()).leak())
        });
        let mut texts: Vec<_> = texts.collect();
        texts.sort_unstable();
        texts
    })
}

fn of(state: &RefCell<OpState>) -> Rc<Scripts> {
    Rc::clone(state.borrow().borrow::<Rc<Scripts>>())
}

/// The function of `__bootstrap` that gives what a script exports; it is asked for once.
#[op2]
pub(crate) fn op_script<'s, 'i>(
    scope: &mut v8::PinScope<'s, 'i>,
    state: Rc<RefCell<OpState>>,
    #[string] name: &str,
) -> Result<v8::Local<'s, v8::Function>, JsErrorBox> {
    let function = of(&state).compile(scope, name);
    function.ok_or_else(|| JsErrorBox::generic(format!("The platform has no script {name}")))
}

/// Notes that a run needs something of a script.
#[op2(nofast)]
pub(crate) fn op_script_touched(state: Rc<RefCell<OpState>>, #[string] name: String) {
    of(&state).touched.borrow_mut().insert(name);
}

#[cfg(test)]
mod tests {
    use super::sources;

    #[test]
    fn scripts_are_bodies_of_functions_in_order() {
        assert!(sources().is_sorted());
        for name in ["ext:concave_web/fetch.js", "ext:deno_web/06_streams.js"] {
            let at = sources().binary_search_by_key(&name, |source| source.0).unwrap();
            assert!(sources()[at].1.starts_with("\"use strict\"; return ("), "{name}");
        }
    }
}
