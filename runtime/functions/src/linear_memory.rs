//! The memories of WebAssembly: counted, and bounded for the call that uses them.
//!
//! In: memories, when an instance or a call makes them. Out: how many bytes a call has in them, for
//! its own thread and for the watchdog. Invariant: what is counted is what V8 holds now, also while
//! the code inside grows it: V8 tells nobody of that, so the watchdog looks every few milliseconds,
//! and V8 itself refuses to let a single memory pass `--wasm-max-mem-pages`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bounds::Memory;
use database::limits;

/// The memories of the call that an isolate runs.
#[derive(Default)]
pub(crate) struct Memories(Mutex<Vec<Memory>>);

impl Memories {
    /// Counts one more; one that is exported twice counts once.
    pub(crate) fn add(&self, memory: Memory) {
        let mut all = self.lock();
        if !all.iter().any(|other| other.is(&memory)) {
            all.push(memory);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Takes out all but the first `count`: those of a context that waits for its call.
    pub(crate) fn take_after(&self, count: usize) -> Vec<Memory> {
        let mut all = self.lock();
        let at = count.min(all.len());
        all.split_off(at)
    }

    /// Whether they have more bytes than a call may have.
    pub(crate) fn are_too_large(&self) -> bool {
        let bytes: usize = self.lock().iter().map(Memory::bytes).sum();
        bytes as u64 > limits::WASM_MEMORY_BYTES
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        // Whatever panicked, the list is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
