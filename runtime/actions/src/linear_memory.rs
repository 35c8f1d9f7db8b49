//! The memories of WebAssembly of one run: counted, and bounded.
//!
//! In: memories, when a run makes them (`js/runtime/55_web_assembly.js`). Out: how many bytes the
//! run has in them. Invariant: what is counted is what V8 holds now, also while the code inside
//! grows it: V8 tells nobody of that, so the watchdog looks too. What a long run has dropped is
//! collected before it counts against it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bounds::Memory;
use deno_core::{OpState, op2, v8};
use web::wasm_memories::declared;

use crate::heap::{StopSwitch, Stopped};

/// What the smallest memory counts as, in bytes: V8 reserves addresses for each, of which a process
/// has only so many.
const LEAST_BYTES: usize = 1 << 20;

/// What a memory counts as.
fn counted(memory: &Memory) -> usize {
    memory.bytes().max(LEAST_BYTES)
}

/// The memories of a run, for its own thread and for the watchdog.
#[derive(Default)]
pub(crate) struct Memories(Mutex<Vec<(u64, Memory)>>);

impl Memories {
    /// Their size now, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().iter().map(|(_, memory)| counted(memory) as u64).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Memory)>> {
        // Each holder does one insertion, removal or sum.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the run's own thread knows: who keeps each memory alive.
#[derive(Default)]
struct Owners {
    next: u64,
    owners: Vec<(u64, v8::Weak<v8::Value>)>,
    /// The sum after garbage was collected last.
    collected: u64,
}

#[op2(fast)]
pub(crate) fn op_wasm_memory(
    isolate: &mut v8::Isolate,
    state: &mut OpState,
    memory: v8::Local<'_, v8::Value>,
) {
    if let Ok(seen) = v8::Local::<v8::WasmMemoryObject>::try_from(memory) {
        count(isolate, state, memory, Memory::of(seen));
    }
}

/// Counts the memories of an instance beyond the `exported` ones that JavaScript can see.
#[op2(fast)]
pub(crate) fn op_wasm_hidden(
    isolate: &mut v8::Isolate,
    state: &mut OpState,
    instance: v8::Local<'_, v8::Value>,
    module: v8::Local<'_, v8::Value>,
    #[smi] exported: u32,
) {
    let Ok(module) = v8::Local::<v8::WasmModuleObject>::try_from(module) else { return };
    let compiled = module.get_compiled_module();
    // Half of the limit each: one such instance and a memory that is seen fit side by side.
    let most = usize::try_from(limit(state) / 2).unwrap_or(usize::MAX);
    let sizes = declared(compiled.get_wire_bytes_ref(), most);
    let hidden: usize = sizes.into_iter().skip(exported as usize).sum();
    if hidden > 0 {
        count(isolate, state, instance, Memory::Hidden(hidden));
    }
}

fn limit(state: &OpState) -> u64 {
    state.borrow::<Arc<StopSwitch>>().wasm_limit
}

fn count(
    isolate: &mut v8::Isolate,
    state: &mut OpState,
    owner: v8::Local<'_, v8::Value>,
    memory: Memory,
) {
    let switch = Arc::clone(state.borrow::<Arc<StopSwitch>>());
    if !state.has::<Owners>() {
        state.put(Owners::default());
    }
    let known = state.borrow_mut::<Owners>();
    let mut all = switch.memories.lock();
    if all.iter().any(|(_, other)| other.is(&memory)) {
        return;
    }
    known.next += 1;
    all.push((known.next, memory));
    drop(all);
    known.owners.push((known.next, v8::Weak::new(isolate, owner)));
    let limit = switch.wasm_limit;
    let bytes = switch.memories.bytes();
    // Whole collections are dear: not before there is something to gain.
    if bytes > limit || bytes > (limit / 2).max(known.collected + limit / 8) {
        isolate.low_memory_notification();
        let (kept, gone): (Vec<_>, Vec<_>) =
            known.owners.drain(..).partition(|(_, owner)| !owner.is_empty());
        known.owners = kept;
        switch.memories.lock().retain(|(id, _)| !gone.iter().any(|(other, _)| other == id));
        known.collected = switch.memories.bytes();
        if known.collected > limit {
            switch.stop(Stopped::WasmMemory);
        }
    }
}
