//! Properties that exist from their first touch on: of built-ins, and the natives themselves.
//!
//! In: `host.lazy(target, names, part)`, while a blob is made. Out: lazy data properties
//! ([`web::lazy`]). Invariant: a native that no context touches costs it nothing.

use std::ffi::c_void;

use v8::MapFnTo as _;
pub(crate) use web::lazy::{hooks, keep_hooks};

use super::{native_function, table, throw_type_error};

/// The getters' addresses: V8's snapshots name them by their place in the table of references.
pub(super) fn references() -> [v8::ExternalReference; 3] {
    let getters: [v8::AccessorNameGetterCallback; 3] =
        [web::lazy::getter(), native.map_fn_to(), super::touch::reference()];
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
    web::lazy::define(scope, target, names, args.get(2));
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
