//! The memory of one run, and the switch that stops it.
//!
//! In: limits. Out: parameters for an isolate, and a [`StopSwitch`]. Invariant: a run that passes a
//! limit is stopped with a reason; only what V8 cannot survive ends the process.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use deno_core::v8;

use crate::linear_memory::Memories;
use crate::protocol::Limits;

/// Room above the heap of the run for what the runtime itself keeps there, in bytes.
const HEAP_SLACK_BYTES: usize = 16 << 20;

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The heap limit.
    OutOfMemory,
    /// The limit of WebAssembly's memories.
    WasmMemory,
    /// The time limit.
    TimedOut,
    /// The host wants no result any more.
    Cancelled,
}

/// The part of a run that other threads and V8's callbacks may touch.
pub(crate) struct StopSwitch {
    reason: AtomicU8,
    buffer_bytes: AtomicUsize,
    buffer_limit: usize,
    /// Memories of WebAssembly, and how many bytes they may have.
    pub(crate) memories: Memories,
    pub(crate) wasm_limit: u64,
    isolate: OnceLock<v8::IsolateHandle>,
}

impl StopSwitch {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            reason: AtomicU8::new(0),
            buffer_bytes: AtomicUsize::new(0),
            buffer_limit: bytes(limits.buffer_bytes),
            memories: Memories::default(),
            wasm_limit: limits.wasm_bytes,
            isolate: OnceLock::new(),
        })
    }

    /// Stops whatever the isolate runs; nothing may run in it any more. The first reason stays.
    pub(crate) fn stop(&self, why: Stopped) {
        let code = match why {
            Stopped::OutOfMemory => 1,
            Stopped::TimedOut => 2,
            Stopped::Cancelled => 3,
            Stopped::WasmMemory => 4,
        };
        // A lost race means that another reason came first, which is the one to report.
        let _ = self.reason.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        if let Some(isolate) = self.isolate.get() {
            isolate.terminate_execution();
        }
    }

    /// The reason, if it was stopped.
    pub(crate) fn reason(&self) -> Option<Stopped> {
        match self.reason.load(Ordering::Acquire) {
            1 => Some(Stopped::OutOfMemory),
            2 => Some(Stopped::TimedOut),
            3 => Some(Stopped::Cancelled),
            4 => Some(Stopped::WasmMemory),
            _ => None,
        }
    }

    /// Parameters of an isolate with the limits.
    pub(crate) fn parameters(self: &Arc<Self>, limits: &Limits) -> v8::CreateParams {
        v8::CreateParams::default()
            .heap_limits(0, bytes(limits.heap_bytes) + HEAP_SLACK_BYTES)
            .array_buffer_allocator(counted_allocator(self))
    }

    /// Stops the run if what it grew inside of WebAssembly is too much.
    pub(crate) fn check_memories(&self) {
        if self.memories.bytes() > self.wasm_limit {
            self.stop(Stopped::WasmMemory);
        }
    }

    /// Connects the switch to the isolate made with [`Self::parameters`].
    pub(crate) fn connect(&self, isolate: v8::IsolateHandle) {
        let set = self.isolate.set(isolate);
        assert!(set.is_ok(), "a stop switch serves one isolate");
    }

    /// Whether buffers take so much that V8 collects because of them.
    pub(crate) fn holds_buffers(&self) -> bool {
        self.buffer_bytes.load(Ordering::Acquire) >= self.buffer_limit / 4
    }

    /// Counts `length` bytes in, or says no.
    fn reserve(&self, length: usize) -> bool {
        let before = self.buffer_bytes.fetch_add(length, Ordering::AcqRel);
        let fits = before.checked_add(length).is_some_and(|total| total <= self.buffer_limit);
        if !fits {
            self.buffer_bytes.fetch_sub(length, Ordering::AcqRel);
        }
        fits
    }
}

fn bytes(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX / 2)
}

fn counted_allocator(switch: &Arc<StopSwitch>) -> v8::UniqueRef<v8::Allocator> {
    static VTABLE: v8::RustAllocatorVtable<StopSwitch> =
        v8::RustAllocatorVtable { allocate, allocate_uninitialized, free, drop: drop_switch };
    // SAFETY: the handle is a strong count that `drop_switch` gives back, and the vtable's
    // functions take what `Arc::into_raw` gave.
    unsafe { v8::new_rust_allocator(Arc::into_raw(Arc::clone(switch)), &VTABLE) }
}

unsafe extern "C" fn allocate(switch: &StopSwitch, length: usize) -> *mut c_void {
    if !switch.reserve(length) {
        return std::ptr::null_mut();
    }
    // SAFETY: calloc takes any sizes; null is V8's own sign of failure (a RangeError).
    unsafe { libc::calloc(length.max(1), 1) }
}

unsafe extern "C" fn allocate_uninitialized(switch: &StopSwitch, length: usize) -> *mut c_void {
    if !switch.reserve(length) {
        return std::ptr::null_mut();
    }
    // SAFETY: as `allocate`.
    unsafe { libc::malloc(length.max(1)) }
}

unsafe extern "C" fn free(switch: &StopSwitch, data: *mut c_void, length: usize) {
    switch.buffer_bytes.fetch_sub(length, Ordering::AcqRel);
    // SAFETY: `data` came from one of the two functions above.
    unsafe { libc::free(data) };
}

unsafe extern "C" fn drop_switch(switch: *const StopSwitch) {
    // SAFETY: gives back the count that `counted_allocator` took.
    drop(unsafe { Arc::from_raw(switch) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            heap_bytes: 1 << 20,
            buffer_bytes: 100,
            wasm_bytes: 100,
            process_bytes: 0,
            log_lines: 0,
            log_line_bytes: 0,
            response_bytes: 0,
            pbkdf2_iterations: 0,
            context_runs: 1,
            contexts_kept: 0,
            coverage: false,
            fetch: Default::default(),
        }
    }

    #[test]
    fn buffers_are_counted_in_and_out() {
        let switch = StopSwitch::new(&limits());
        assert!(switch.reserve(60));
        assert!(!switch.reserve(60), "the limit is 100");
        assert!(!switch.reserve(usize::MAX), "sums that overflow do not fit");
        assert!(switch.reserve(40));
    }

    #[test]
    fn the_first_reason_stays() {
        let switch = StopSwitch::new(&limits());
        assert_eq!(switch.reason(), None);
        switch.stop(Stopped::TimedOut);
        switch.stop(Stopped::OutOfMemory);
        assert_eq!(switch.reason(), Some(Stopped::TimedOut));
    }
}
