//! One memory of WebAssembly, as it counts.
//!
//! In: a memory that JavaScript can see, or the size that a hidden one may grow to. Out: its bytes,
//! on any thread. Invariant: V8 tells nobody when the code inside grows a memory, so whoever counts
//! looks again.

/// One memory.
#[derive(Clone)]
pub enum Memory {
    /// One that JavaScript can see.
    Seen(Store),
    /// One that only its module sees: it counts as what it may become, in bytes.
    Hidden(usize),
}

/// V8's hold on a memory.
#[derive(Clone)]
pub struct Store(v8::SharedRef<v8::BackingStore>);

// SAFETY: a counted reference whose count is atomic; other threads read the length alone, which
// V8 keeps in an atomic because shared memories grow under other threads' eyes.
unsafe impl Send for Store {}

impl Memory {
    /// The memory behind a `WebAssembly.Memory`.
    #[must_use]
    pub fn of(memory: v8::Local<'_, v8::WasmMemoryObject>) -> Self {
        Self::Seen(Store(memory.buffer().get_backing_store()))
    }

    /// Its size now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Seen(Store(store)) => store.byte_length(),
            Self::Hidden(most) => *most,
        }
    }

    /// Whether both are one memory that JavaScript can see: a module may export it twice.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Seen(Store(one)), Self::Seen(Store(two))) => one.data() == two.data(),
            _ => false,
        }
    }
}
