//! The memories of WebAssembly: counted, and bounded for the call that uses them.
//!
//! In: memories, when an instance or a call makes them. Out: how many bytes a call has in them, for
//! its own thread and for the watchdog. Invariant: what is counted is what V8 holds now, also while
//! the code inside grows it: V8 tells nobody of that, so the watchdog looks every few milliseconds,
//! and V8 itself refuses to let a single memory pass `--wasm-max-mem-pages`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use database::limits;

/// One memory.
#[derive(Clone)]
pub(crate) enum Memory {
    /// One that JavaScript can see.
    Seen(Store),
    /// One that only its module sees: it counts as what it may become.
    Hidden(usize),
}

/// V8's hold on a memory.
#[derive(Clone)]
pub(crate) struct Store(v8::SharedRef<v8::BackingStore>);

// SAFETY: a counted reference whose count is atomic; other threads read the length alone, which
// V8 keeps in an atomic because shared memories grow under other threads' eyes.
unsafe impl Send for Store {}

impl Memory {
    /// The memory behind a `WebAssembly.Memory`.
    pub(crate) fn of(memory: v8::Local<'_, v8::WasmMemoryObject>) -> Self {
        Self::Seen(Store(memory.buffer().get_backing_store()))
    }

    /// Its size now.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Seen(Store(store)) => store.byte_length(),
            Self::Hidden(most) => *most,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Seen(Store(one)), Self::Seen(Store(two))) => one.data() == two.data(),
            _ => false,
        }
    }
}

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
