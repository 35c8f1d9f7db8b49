//! The native functions that the prelude (`js/runtime`) builds the world of functions from.
//!
//! In: arguments from JavaScript. Out: results or thrown errors. Invariant: [`TABLE`] is the only
//! list of them; its order is the order of V8's external references, equal in every process.

mod binary;
mod crypto;
pub(crate) mod lazy;
mod text;
pub(crate) mod touch;
pub(crate) mod web;
pub(crate) mod web_assembly;

use v8::MapFnTo as _;

use crate::execution;
use crate::syscall::{self, probe};

/// A native function as the prelude sees it: `__concave.host.<name>`.
struct Native {
    name: &'static str,
    callback: v8::FunctionCallback,
}

fn table() -> [Native; 25] {
    let native = |name, callback| Native { name, callback };
    [
        native("syscall", syscall_sync.map_fn_to()),
        native("asyncSyscall", syscall_async.map_fn_to()),
        native("observe", observe.map_fn_to()),
        native("log", log.map_fn_to()),
        native("namedKeys", named_keys.map_fn_to()),
        native("slots", slots.map_fn_to()),
        native("env", env.map_fn_to()),
        native("continuationGet", continuation_get.map_fn_to()),
        native("continuationSet", continuation_set.map_fn_to()),
        native("urlParse", text::url_parse.map_fn_to()),
        native("urlSet", text::url_set.map_fn_to()),
        native("encodingLabel", text::encoding_label.map_fn_to()),
        native("textDecode", text::decode.map_fn_to()),
        native("utf8Encode", binary::utf8_encode.map_fn_to()),
        native("structuredClone", binary::structured_clone.map_fn_to()),
        native("crypto", crypto::crypto.map_fn_to()),
        native("lazy", lazy::define.map_fn_to()),
        native("keepModule", web_assembly::keep_module.map_fn_to()),
        native("countMemory", web_assembly::count_memory.map_fn_to()),
        native("countHidden", web_assembly::count_hidden.map_fn_to()),
        native("base64Decode", binary::base64_decode.map_fn_to()),
        native("latin1Bytes", binary::latin1_bytes.map_fn_to()),
        native("webScript", web::web_script.map_fn_to()),
        native("urlPattern", web::url_pattern.map_fn_to()),
        native("urlPatternInput", web::url_pattern_input.map_fn_to()),
    ]
}

/// V8's table of external references: snapshots name our functions by their place in it.
pub(crate) fn external_references() -> Vec<v8::ExternalReference> {
    let of = |native: &Native| v8::ExternalReference { function: native.callback };
    table().iter().map(of).chain(lazy::references()).collect()
}

/// What a call uses; the others are made on first touch.
const USED_BY_EVERY_CALL: &[&str] = &["syscall", "asyncSyscall", "observe", "continuationSet"];

/// Makes the `host` object.
pub(crate) fn host_object<'s>(scope: &mut v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Object> {
    let host = v8::Object::new(scope);
    for native in table() {
        let key = string(scope, native.name);
        if USED_BY_EVERY_CALL.contains(&native.name) {
            let function = native_function(scope, &native);
            host.set(scope, key.into(), function.into());
        } else {
            host.set_lazy_data_property(scope, key.into(), lazy::native);
        }
    }
    host
}

/// The JavaScript function of a native one.
fn native_function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    native: &Native,
) -> v8::Local<'s, v8::Function> {
    let function = v8::Function::builder_raw(native.callback)
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)
        .expect("a function without captured data is always built");
    let name = string(scope, native.name);
    function.set_name(name);
    function
}

/// A V8 string; one byte a character where the text allows it.
pub(crate) fn string<'s>(
    scope: &v8::PinScope<'s, '_, ()>,
    text: &str,
) -> v8::Local<'s, v8::String> {
    let made = if text.is_ascii() {
        v8::String::new_from_one_byte(scope, text.as_bytes(), v8::NewStringType::Normal)
    } else {
        v8::String::new_from_utf8(scope, text.as_bytes(), v8::NewStringType::Normal)
    };
    made.unwrap_or_else(|| v8::String::empty(scope))
}

/// Throws a `TypeError`.
pub(crate) fn throw_type_error(scope: &mut v8::PinScope<'_, '_>, message: &str) {
    let message = string(scope, message);
    let error = v8::Exception::type_error(scope, message);
    scope.throw_exception(error);
}

/// Throws an `Error`, with `.data` where there is any (`convex-compat.md` section 1.1).
pub(crate) fn throw_error(scope: &mut v8::PinScope<'_, '_>, message: &str, data: Option<&str>) {
    let text = string(scope, message);
    let error = v8::Exception::error(scope, text);
    if let (Some(data), Ok(object)) = (data, v8::Local::<v8::Object>::try_from(error)) {
        let json = string(scope, data);
        if let Some(parsed) = v8::json::parse(scope, json) {
            let key = string(scope, "data");
            object.set(scope, key.into(), parsed);
        }
    }
    scope.throw_exception(error);
}

fn syscall_sync(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let (operation, arguments) = operands(scope, &args);
    let answer = syscall::sync(&operation, &arguments);
    probe::look(scope, &operation, &arguments, answer.as_deref().ok());
    match answer {
        Ok(text) => result.set(string(scope, &text).into()),
        Err(error) => throw_error(scope, &error.message, error.data.as_deref()),
    }
}

fn syscall_async(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let (operation, arguments) = operands(scope, &args);
    let answer = syscall::answer(scope, &operation, &arguments);
    if !matches!(answer, Err(syscall::Failure::Stopped)) {
        probe::look(scope, &operation, &arguments, answer.as_deref().ok());
    }
    match answer {
        Ok(text) => result.set(string(scope, &text).into()),
        Err(syscall::Failure::User(error)) => {
            throw_error(scope, &error.message, error.data.as_deref());
        }
        // V8 is already unwinding; whatever is returned here is never seen.
        Err(syscall::Failure::Stopped) => {}
    }
}

fn operands(
    scope: &mut v8::PinScope<'_, '_>,
    args: &v8::FunctionCallbackArguments<'_>,
) -> (String, String) {
    (args.get(0).to_rust_string_lossy(scope), args.get(1).to_rust_string_lossy(scope))
}

fn observe(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    let flag = args.get(0).uint32_value(scope).unwrap_or(0);
    execution::observe(flag);
}

fn log(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    let level = args.get(0).to_rust_string_lossy(scope);
    let mut parts = Vec::new();
    if let Ok(list) = v8::Local::<v8::Array>::try_from(args.get(1)) {
        for at in 0..list.length() {
            if let Some(part) = list.get_index(scope, at) {
                parts.push(part.to_rust_string_lossy(scope));
            }
        }
    }
    execution::log(&level, parts);
}

/// `(object)`: its own keys that are no array indices, which are not even looked at.
fn named_keys(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let Ok(object) = v8::Local::<v8::Object>::try_from(args.get(0)) else { return };
    let own = v8::GetPropertyNamesArgs {
        mode: v8::KeyCollectionMode::OwnOnly,
        property_filter: v8::PropertyFilter::ALL_PROPERTIES,
        index_filter: v8::IndexFilter::SkipIndices,
        ..v8::GetPropertyNamesArgs::default()
    };
    if let Some(keys) = object.get_property_names(scope, own) {
        result.set(keys.into());
    }
}

/// `(value)`: the built-in class whose internal slots it has, whatever it says of itself; undefined
/// for other objects. A question that throws nothing, as asking its methods does.
fn slots(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let value = args.get(0);
    let class = match () {
        () if value.is_map() => "Map",
        () if value.is_set() => "Set",
        () if value.is_date() => "Date",
        () if value.is_reg_exp() => "RegExp",
        () if value.is_array_buffer() => "ArrayBuffer",
        () if value.is_number_object() => "Number",
        () if value.is_string_object() => "String",
        () if value.is_boolean_object() => "Boolean",
        () if value.is_big_int_object() => "BigInt",
        () if value.is_symbol_object() => "Symbol",
        () => return,
    };
    result.set(string(scope, class).into());
}

fn env(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let name = args.get(0).to_rust_string_lossy(scope);
    let value = execution::environment_variable(&name);
    probe::look(scope, "env", &name, value.as_deref());
    if let Some(value) = value {
        result.set(string(scope, &value).into());
    }
}

/// What V8 carries across `await` and `then`: the frame of AsyncLocalStorage.
fn continuation_get(
    scope: &mut v8::PinScope<'_, '_>,
    _args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    result.set(scope.get_continuation_preserved_embedder_data());
}

fn continuation_set(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    scope.set_continuation_preserved_embedder_data(args.get(0));
}
