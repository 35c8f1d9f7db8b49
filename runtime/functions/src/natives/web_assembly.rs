//! The global `WebAssembly` of a context: V8's own, watched from its first use on.
//!
//! In: contexts made from a snapshot; V8 has added the object to them. Out: a lazy property in its
//! place, so that a context that never reads it pays for nothing more. Invariant: a module that a
//! function compiles is kept for the next one, whichever way it was compiled.

use std::sync::Arc;

use bounds::Memory;
use database::limits;
use web::wasm_memories;

use super::{lazy, string, throw_type_error};
use crate::isolate::StopSwitch;
use crate::wasm;

/// Puts the lazy property in place of V8's.
pub(crate) fn install(scope: &mut v8::PinScope<'_, '_>) {
    let global = scope.get_current_context().global(scope);
    let key = string(scope, "WebAssembly");
    let Some(object) = global.get(scope, key.into()).filter(|value| value.is_object()) else {
        return;
    };
    global.set_lazy_data_property_with_data(
        scope,
        key.into(),
        open,
        object,
        v8::PropertyAttribute::DONT_ENUM,
        v8::SideEffectType::HasNoSideEffect,
        v8::SideEffectType::HasSideEffectToReceiver,
    );
}

/// The first read of `WebAssembly` in a context.
fn open(
    scope: &mut v8::PinScope<'_, '_>,
    _name: v8::Local<'_, v8::Name>,
    args: v8::PropertyCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let Some(hooks) = lazy::hooks(scope) else { return };
    let key = string(scope, "webAssembly");
    let watch = hooks.get(scope, key.into()).map(v8::Local::<v8::Function>::try_from);
    let Some(Ok(watch)) = watch else { return };
    if let Some(object) = watch.call(scope, hooks.into(), &[args.data()]) {
        result.set(object);
    }
}

/// `(module)`: keeps it compiled.
pub(super) fn keep_module(
    _scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    if let Ok(module) = v8::Local::<v8::WasmModuleObject>::try_from(args.get(0)) {
        wasm::keep(module);
    }
}

/// `(memory)`: counts it; throws where it is shared.
pub(super) fn count_memory(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    if let Ok(memory) = v8::Local::<v8::WasmMemoryObject>::try_from(args.get(0)) {
        let is_shared = v8::Local::<v8::Value>::from(memory.buffer()).is_shared_array_buffer();
        // It is there until garbage is collected.
        count(scope, Memory::of(memory));
        if is_shared {
            throw_type_error(scope, NOT_SHARED);
        }
    }
}

/// Why there are no shared memories.
const NOT_SHARED: &str = "Can't use shared WebAssembly memory in queries and mutations. They have \
    no threads that could share it: make the memory without `shared: true`, or compile the module \
    without threads.";

/// `(module, exported)`: counts the memories of an instance of `module` beyond the `exported` ones
/// that JavaScript can see; throws where it declares shared ones.
pub(super) fn count_hidden(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    _result: v8::ReturnValue<'_, v8::Value>,
) {
    let Ok(module) = v8::Local::<v8::WasmModuleObject>::try_from(args.get(0)) else { return };
    let exported = args.get(1).uint32_value(scope).unwrap_or(0) as usize;
    let compiled = module.get_compiled_module();
    // Half of the limit each: one such instance and a memory that is seen fit side by side.
    let most = usize::try_from(limits::WASM_MEMORY_BYTES / 2).expect("64 MiB fits");
    let bytes = compiled.get_wire_bytes_ref();
    for bytes in wasm_memories::declared(bytes, most).into_iter().skip(exported) {
        count(scope, Memory::Hidden(bytes));
    }
    if wasm_memories::are_shared(bytes) {
        throw_type_error(scope, NOT_SHARED);
    }
}

fn count(scope: &mut v8::PinScope<'_, '_>, memory: Memory) {
    // A snapshot's creator has no limits, and no WebAssembly either.
    if let Some(stop) = scope.get_slot::<Arc<StopSwitch>>() {
        stop.memories.add(memory);
        stop.check_memories();
    }
}
