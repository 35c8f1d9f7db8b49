//! Properties of built-ins that a part of the prelude makes on first touch.
//!
//! In: `define(target, names, part)`, while a snapshot is made or a context starts. Out: lazy data
//! properties of V8: to whoever looks they are writable, configurable, not enumerable data
//! properties, and what V8 keeps of them lives in the isolate, so a context that never touches one
//! pays one slot for it. Invariant: the value is `hooks.lazy(part, name)` of the context that is
//! current, which is the only one that can hold the object.

use deno_core::v8::{self, MapFnTo as _};

/// The context's hooks, under a name that no reflection shows.
fn hooks_key<'s>(scope: &v8::PinScope<'s, '_, ()>) -> Option<v8::Local<'s, v8::Private>> {
    let name = v8::String::new(scope, "concave.hooks")?;
    Some(v8::Private::for_api(scope, Some(name)))
}

/// Lets the current context's lazy properties find `hooks`.
pub fn keep_hooks(scope: &mut v8::PinScope<'_, '_>, hooks: v8::Local<'_, v8::Object>) {
    let global = scope.get_current_context().global(scope);
    if let Some(key) = hooks_key(scope) {
        global.set_private(scope, key, hooks.into());
    }
}

/// The hooks of the current context.
pub fn hooks<'s>(scope: &mut v8::PinScope<'s, '_>) -> Option<v8::Local<'s, v8::Object>> {
    let global = scope.get_current_context().global(scope);
    let key = hooks_key(scope)?;
    global.get_private(scope, key).and_then(|hooks| v8::Local::<v8::Object>::try_from(hooks).ok())
}

/// The getter of all lazy properties: V8's snapshots name it by its place in the table of
/// external references, of which it must be one.
#[must_use]
pub fn getter() -> v8::AccessorNameGetterCallback {
    make.map_fn_to()
}

/// Defines properties of `target`, one for each of `names`.
pub fn define(
    scope: &mut v8::PinScope<'_, '_>,
    target: v8::Local<'_, v8::Object>,
    names: v8::Local<'_, v8::Array>,
    part: v8::Local<'_, v8::Value>,
) {
    for at in 0..names.length() {
        let name = names.get_index(scope, at);
        let Some(Ok(name)) = name.map(v8::Local::<v8::Name>::try_from) else { return };
        target.set_lazy_data_property_with_data(
            scope,
            name,
            make,
            part,
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
    let (Some(hooks), Some(key)) = (hooks(scope), v8::String::new(scope, "lazy")) else { return };
    let maker = hooks.get(scope, key.into()).map(v8::Local::<v8::Function>::try_from);
    let Some(Ok(maker)) = maker else { return };
    // What it throws (only a stack that is full makes it) passes on; the property stays lazy.
    if let Some(value) = maker.call(scope, hooks.into(), &[args.data(), name.into()]) {
        result.set(value);
    }
}
