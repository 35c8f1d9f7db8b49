//! Properties that exist from their first touch on, as those of queries do ([`web::lazy`]).
//!
//! In: `op_lazy(target, names, part)` and `op_lazy_hooks(hooks)`, while the snapshot is made and
//! when a run's context starts. Out: lazy data properties of V8. Invariant: the value is
//! `hooks.lazy(part, name)`.

use std::ffi::c_void;

use deno_core::{op2, v8};

/// The getter's address: V8's snapshots name it by its place in the table of references.
pub(crate) fn references() -> Vec<v8::ExternalReference> {
    vec![v8::ExternalReference { pointer: web::lazy::getter() as *mut c_void }]
}

/// Lets the context's lazy properties find `hooks`.
#[op2(nofast)]
pub(crate) fn op_lazy_hooks(scope: &mut v8::PinScope<'_, '_>, hooks: v8::Local<'_, v8::Object>) {
    web::lazy::keep_hooks(scope, hooks);
}

/// Defines properties of `target`, one for each of `names`.
#[op2(nofast)]
pub(crate) fn op_lazy(
    scope: &mut v8::PinScope<'_, '_>,
    target: v8::Local<'_, v8::Object>,
    names: v8::Local<'_, v8::Array>,
    part: v8::Local<'_, v8::Value>,
) {
    web::lazy::define(scope, target, names, part);
}
