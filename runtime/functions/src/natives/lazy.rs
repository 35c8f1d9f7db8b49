//! Properties of built-ins that a part of the prelude makes on first touch.
//!
//! In: `host.lazy(target, names, part)`, while a blob is made. Out: lazy data properties of V8: to
//! whoever looks they are writable, configurable, not enumerable data properties, and what V8 keeps
//! of them lives in the isolate, so a context that never touches one pays one slot for it.
//! Invariant: the value is `hooks.lazy(part, name)` of the context that is current, which is the
//! only one that can hold the object.

use std::ffi::c_void;

use v8::MapFnTo as _;

use super::{native_function, string, table, throw_type_error};

/// The context's hooks, under a name that no reflection shows.
fn hooks_key<'s>(scope: &v8::PinScope<'s, '_, ()>) -> v8::Local<'s, v8::Private> {
    let name = string(scope, "concave.hooks");
    v8::Private::for_api(scope, Some(name))
}

/// Lets this context's lazy properties find `hooks`.
pub(crate) fn keep_hooks(scope: &mut v8::PinScope<'_, '_>, hooks: v8::Local<'_, v8::Object>) {
    let global = scope.get_current_context().global(scope);
    let key = hooks_key(scope);
    global.set_private(scope, key, hooks.into());
}

/// The hooks of the current context.
pub(super) fn hooks<'s>(scope: &mut v8::PinScope<'s, '_>) -> Option<v8::Local<'s, v8::Object>> {
    let global = scope.get_current_context().global(scope);
    let key = hooks_key(scope);
    global.get_private(scope, key).and_then(|hooks| v8::Local::<v8::Object>::try_from(hooks).ok())
}

/// The getters' addresses: V8's snapshots name them by their place in the table of references.
pub(super) fn references() -> [v8::ExternalReference; 3] {
    let getters: [v8::AccessorNameGetterCallback; 3] =
        [make.map_fn_to(), native.map_fn_to(), super::touch::reference()];
    getters.map(|getter| v8::ExternalReference { pointer: getter as *mut c_void })
}

/// `(target, names, part)`.
pub(super) fn define(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    let target = v8::Local::<v8::Object>::try_from(args.get(0));
    let names = v8::Local::<v8::Array>::try_from(args.get(1));
    let (Ok(target), Ok(names)) = (target, names) else {
        return throw_type_error(scope, "host.lazy takes an object and a list of names");
    };
    for at in 0..names.length() {
        let name = names.get_index(scope, at);
        let Some(Ok(name)) = name.map(v8::Local::<v8::Name>::try_from) else { return };
        target.set_lazy_data_property_with_data(
            scope,
            name,
            make,
            args.get(2),
            v8::PropertyAttribute::DONT_ENUM,
            v8::SideEffectType::HasNoSideEffect,
            v8::SideEffectType::HasSideEffectToReceiver,
        );
    }
}

/// The value of a property that is read for the first time in this context.
fn make(
    scope: &mut v8::PinScope<'_, '_>,
    name: v8::Local<'_, v8::Name>,
    args: v8::PropertyCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let Some(hooks) = hooks(scope) else { return };
    let key = string(scope, "lazy");
    let maker = hooks.get(scope, key.into()).map(v8::Local::<v8::Function>::try_from);
    let Some(Ok(maker)) = maker else { return };
    // What it throws (only a stack that is full makes it) passes on; the property stays lazy.
    if let Some(value) = maker.call(scope, hooks.into(), &[args.data(), name.into()]) {
        result.set(value);
    }
}

/// A native function that the prelude reads from `host` for the first time in this context.
pub(super) fn native(
    scope: &mut v8::PinScope<'_, '_>,
    name: v8::Local<'_, v8::Name>,
    _args: v8::PropertyCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let name = name.to_rust_string_lossy(scope);
    if let Some(native) = table().iter().find(|native| native.name == name) {
        result.set(native_function(scope, native).into());
    }
}
