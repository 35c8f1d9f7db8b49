//! Properties that exist from their first touch on, as those of queries do.
//!
//! In: `op_lazy(target, names, part)` and `op_lazy_hooks(hooks)`, while the snapshot is made and
//! when a run's context starts. Out: lazy data properties of V8: to who looks they are writable,
//! configurable, not enumerable data properties. Invariant: the value is `hooks.lazy(part, name)`.

use std::ffi::c_void;

use deno_core::v8::MapFnTo as _;
use deno_core::{op2, v8};

/// The context's hooks, under a name that no reflection shows.
fn hooks_key<'s>(scope: &v8::PinScope<'s, '_, ()>) -> Option<v8::Local<'s, v8::Private>> {
    let name = v8::String::new(scope, "concave.hooks")?;
    Some(v8::Private::for_api(scope, Some(name)))
}

/// The getter's address: V8's snapshots name it by its place in the table of references.
pub(crate) fn references() -> Vec<v8::ExternalReference> {
    let getter: v8::AccessorNameGetterCallback = make.map_fn_to();
    vec![v8::ExternalReference { pointer: getter as *mut c_void }]
}

/// Lets the context's lazy properties find `hooks`.
#[op2(nofast)]
pub(crate) fn op_lazy_hooks(scope: &mut v8::PinScope<'_, '_>, hooks: v8::Local<'_, v8::Object>) {
    let global = scope.get_current_context().global(scope);
    if let Some(key) = hooks_key(scope) {
        global.set_private(scope, key, hooks.into());
    }
}

/// Defines properties of `target`, one for each of `names`.
#[op2(nofast)]
pub(crate) fn op_lazy(
    scope: &mut v8::PinScope<'_, '_>,
    target: v8::Local<'_, v8::Object>,
    names: v8::Local<'_, v8::Array>,
    part: v8::Local<'_, v8::Value>,
) {
    for at in 0..names.length() {
        let name = names.get_index(scope, at).map(v8::Local::<v8::Name>::try_from);
        let Some(Ok(name)) = name else { return };
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
    let global = scope.get_current_context().global(scope);
    let Some(hooks) = hooks_key(scope)
        .and_then(|key| global.get_private(scope, key))
        .and_then(|hooks| v8::Local::<v8::Object>::try_from(hooks).ok())
    else {
        return;
    };
    let maker = v8::String::new(scope, "lazy")
        .and_then(|key| hooks.get(scope, key.into()))
        .and_then(|maker| v8::Local::<v8::Function>::try_from(maker).ok());
    // What it throws (only a stack that is full makes it) passes on; the property stays lazy.
    if let Some(maker) = maker
        && let Some(value) = maker.call(scope, hooks.into(), &[args.data(), name.into()])
    {
        result.set(value);
    }
}
