//! The memories of WebAssembly: counted, and bounded for the call that uses them.
//!
//! In: memories, when an instance or a call makes them. Out: how many bytes a call has in them, for
//! its own thread and for the watchdog. Invariant: what is counted is what V8 holds now, also while
//! the code inside grows it: V8 tells nobody of that, so the watchdog looks every few milliseconds,
//! and V8 itself refuses to let a single memory pass `--wasm-max-mem-pages`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use database::limits;

/// Bytes of a page.
const PAGE: usize = 64 << 10;

/// One memory.
pub(crate) enum Memory {
    /// One that JavaScript can see.
    Seen(Store),
    /// One that only its module sees: it counts as what it may become.
    Hidden(usize),
}

/// V8's hold on a memory.
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

/// The most that each memory which a module makes for itself may become, in bytes; `most` where it
/// says nothing, and nothing for what is no module.
pub(crate) fn declared(module: &[u8], most: usize) -> Vec<usize> {
    sections(module).unwrap_or_default().iter().flat_map(|text| memories(text, most)).collect()
}

/// The bodies of the memory sections, of which a valid module has at most one.
fn sections(module: &[u8]) -> Option<Vec<&[u8]>> {
    const MEMORY: u8 = 5;
    let mut rest = module.strip_prefix(b"\0asm")?.get(4..)?;
    let mut found = Vec::new();
    while let Some((id, after)) = rest.split_first() {
        rest = after;
        let size = number(&mut rest)?;
        let (body, after) = rest.split_at_checked(size)?;
        if *id == MEMORY {
            found.push(body);
        }
        rest = after;
    }
    Some(found)
}

fn memories(mut section: &[u8], most: usize) -> Vec<usize> {
    let count = number(&mut section).unwrap_or(0);
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((flags, rest)) = section.split_first() else { break };
        section = rest;
        let _least = number(&mut section);
        let bound = if flags & 1 == 1 { number(&mut section) } else { None };
        found.push(bound.map_or(most, |pages| pages.saturating_mul(PAGE).min(most)));
    }
    found
}

/// An unsigned number in LEB128.
fn number(text: &mut &[u8]) -> Option<usize> {
    let mut value: usize = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = text.split_first()?;
        *text = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_its_memories_may_become() {
        let module = |sections: &[u8]| [b"\0asm\x01\0\0\0", sections].concat();
        assert_eq!(declared(&module(&[]), 9), [0; 0]);
        // A custom section, then one memory of 1 to 2 pages.
        let bounded = module(&[0, 3, 1, b'x', 7, 5, 4, 1, 1, 1, 2]);
        assert_eq!(declared(&bounded, 1 << 30), [2 * PAGE]);
        assert_eq!(declared(&bounded, PAGE), [PAGE]);
        // Two memories without a bound, their least size in two bytes.
        let unbounded = module(&[5, 7, 2, 0, 0x80, 1, 0, 0x80, 1]);
        assert_eq!(declared(&unbounded, 5 * PAGE), [5 * PAGE, 5 * PAGE]);
        for cut in 0..unbounded.len() {
            assert!(declared(&unbounded[..cut], 1).is_empty(), "cut at {cut}");
        }
        assert_eq!(declared(b"no module", 1), [0; 0]);
    }
}
