//! The scripts of the web platform in queries and mutations, compiled once an isolate.
//!
//! In: a script's specifier. Out: the script as a function of the current context. Invariant: the
//! text and the compiled code belong to the isolate; a context holds only what it has run.

use std::collections::HashMap;

use super::{string, throw_type_error};

/// Compiled scripts of this isolate; dropped with it.
#[derive(Default)]
struct Compiled(HashMap<&'static str, v8::Global<v8::UnboundScript>>);

/// `(specifier) → (__bootstrap) => exports`.
pub(super) fn web_script(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let specifier = args.get(0).to_rust_string_lossy(scope);
    let Some(text) = web::script(&specifier) else {
        return throw_type_error(scope, &format!("There is no script {specifier}"));
    };
    if scope.get_slot::<Compiled>().is_none() {
        scope.set_slot(Compiled::default());
    }
    let known = scope.get_slot::<Compiled>().and_then(|compiled| compiled.0.get(text)).cloned();
    let script = match known {
        Some(unbound) => v8::Local::new(scope, unbound),
        // Only a termination makes it fail: what is thrown passes on.
        None => match compile(scope, &specifier, text) {
            Some(script) => script,
            None => return,
        },
    };
    if let Some(function) = script.bind_to_current_context(scope).run(scope) {
        result.set(function);
    }
}

fn compile<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    specifier: &str,
    text: &'static str,
) -> Option<v8::Local<'s, v8::UnboundScript>> {
    let url = string(scope, specifier);
    let origin =
        v8::ScriptOrigin::new(scope, url.into(), 0, 0, false, -1, None, false, false, false, None);
    // V8 reads the text where it is.
    let code = v8::String::new_external_onebyte_static(scope, text.as_bytes())?;
    let mut source = v8::script_compiler::Source::new(code, Some(&origin));
    let script = v8::script_compiler::compile_unbound_script(
        scope,
        &mut source,
        v8::script_compiler::CompileOptions::NoCompileOptions,
        v8::script_compiler::NoCacheReason::NoReason,
    )?;
    let kept = v8::Global::new(scope, script);
    if let Some(compiled) = scope.get_slot_mut::<Compiled>() {
        compiled.0.insert(text, kept);
    }
    Some(script)
}

/// Lets go of the compiled scripts: V8 makes no snapshot while a handle is alive.
pub(crate) fn forget(isolate: &mut v8::Isolate) {
    isolate.remove_slot::<Compiled>();
}

/// `(json) → json`: [`web::url_pattern::parse`].
pub(super) fn url_pattern(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    result: v8::ReturnValue<'_, v8::Value>,
) {
    let json = args.get(0).to_rust_string_lossy(scope);
    answer(scope, web::url_pattern::parse(&json), result);
}

/// `(json) → json`: [`web::url_pattern::match_input`].
pub(super) fn url_pattern_input(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    result: v8::ReturnValue<'_, v8::Value>,
) {
    let json = args.get(0).to_rust_string_lossy(scope);
    answer(scope, web::url_pattern::match_input(&json), result);
}

fn answer(
    scope: &mut v8::PinScope<'_, '_>,
    answer: Result<String, web::url_pattern::PatternError>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    match answer {
        Ok(text) => result.set(string(scope, &text).into()),
        Err(error) => throw_type_error(scope, &error.to_string()),
    }
}
