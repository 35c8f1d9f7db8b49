//! One isolate: heap limit, buffer limit, termination reason, the end of its life.
//!
//! In: a startup snapshot. Out: an isolate whose every way to die is a reason, never a dead
//! process.
//! Invariant: after a termination the isolate is thrown away; nothing runs in it again.

use std::ffi::c_void;
use std::sync::Arc;

use bounds::{Buffers, Switch, Uninitialized};
use database::limits;

use crate::linear_memory::Memories;
use crate::{modules, natives, overtime, rejections};

/// Room above the user heap for the garbage of finished contexts and V8's own slack, in bytes.
const HEAP_SLACK_BYTES: usize = 32 << 20;

/// Room of a call that ran out of memory until it unwinds, in bytes.
const UNWINDING_BYTES: usize = 4 << 30;

/// Why an isolate was stopped in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Termination {
    /// The heap limit or the buffer limit.
    OutOfMemory,
    /// The limit of CPU time.
    CpuTime,
    /// The limit of wall time.
    WallTime,
    /// The limit of WebAssembly memory.
    WasmMemory,
}

impl Termination {
    /// What the function's author reads (`convex-compat.md` section 8.6).
    pub(crate) fn message(self, function: &str) -> String {
        match self {
            Self::OutOfMemory => format!(
                "JavaScript execution ran out of memory (maximum memory usage: {} MB)",
                limits::HEAP_BYTES >> 20
            ),
            Self::CpuTime => format!(
                "Function execution timed out (maximum duration: {}s)",
                limits::CPU_TIME_MS / 1000
            ),
            Self::WallTime => {
                "Your request timed out performing too many system operations.".to_owned()
            }
            Self::WasmMemory => format!(
                "WebAssembly memory of {function} is too large (maximum memory usage: {} MB). Does \
                 it load more than it needs, or keep what it no longer uses? Free documents, or \
                 work in pages.",
                limits::WASM_MEMORY_BYTES >> 20
            ),
        }
    }
}

/// The part of an isolate that other threads and V8's callbacks may touch.
pub(crate) struct StopSwitch {
    switch: Switch<Termination>,
    buffers: Arc<Buffers>,
    /// WebAssembly memories of the running call.
    pub(crate) memories: Memories,
}

impl StopSwitch {
    pub(crate) fn new() -> Arc<Self> {
        let most = usize::try_from(limits::ARRAY_BUFFER_BYTES).expect("64 MiB fits");
        Arc::new(Self {
            switch: Switch::default(),
            buffers: Buffers::new(most, Uninitialized::Zeroed),
            memories: Memories::default(),
        })
    }

    /// Stops a call whose WebAssembly memories passed their limit.
    pub(crate) fn check_memories(&self) {
        if self.memories.are_too_large() {
            self.stop(Termination::WasmMemory);
        }
    }

    /// Stops whatever the isolate runs. The first reason stays.
    pub(crate) fn stop(&self, why: Termination) {
        self.switch.stop(why);
    }

    /// The reason, if it was stopped.
    pub(crate) fn reason(&self) -> Option<Termination> {
        self.switch.reason()
    }
}

/// An isolate with its limits installed. Entered on the thread that made it, for as long as it
/// lives.
pub(crate) struct LimitedIsolate {
    // Dropped in this order: the isolate, then what its callbacks point at.
    isolate: v8::OwnedIsolate,
    stop: Arc<StopSwitch>,
    /// Contexts are copied out of it.
    _blob: Arc<[u8]>,
}

impl LimitedIsolate {
    /// Makes an isolate from a snapshot that [`crate::startup`] made with the same flags and
    /// external references.
    pub(crate) fn new(blob: Arc<[u8]>) -> Self {
        let stop = StopSwitch::new();
        let max = usize::try_from(limits::HEAP_BYTES).expect("64 MiB fits") + HEAP_SLACK_BYTES;
        // SAFETY: the count that `Self` keeps is given back after the isolate (field order above).
        let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(blob.as_ptr(), blob.len()) };
        let params = v8::CreateParams::default()
            .snapshot_blob(v8::StartupData::from(bytes))
            .external_references(natives::external_references().into())
            .allow_atomics_wait(false)
            .heap_limits(0, max)
            .array_buffer_allocator(stop.buffers.allocator());
        let mut isolate = v8::Isolate::new(params);
        stop.switch.connect(isolate.thread_safe_handle());
        // The pointer stays valid: `stop` outlives the isolate (field order above).
        let data = Arc::as_ptr(&stop).cast_mut().cast::<c_void>();
        isolate.set_slot(Arc::clone(&stop));
        isolate.add_near_heap_limit_callback(near_heap_limit, data);
        configure(&mut isolate);
        Self { isolate, stop, _blob: blob }
    }

    /// V8's isolate.
    pub(crate) fn v8(&mut self) -> &mut v8::OwnedIsolate {
        &mut self.isolate
    }

    /// The switch that stops it.
    pub(crate) fn stop_switch(&self) -> &Arc<StopSwitch> {
        &self.stop
    }
}

/// What every isolate of ours has set, snapshot creators included.
pub(crate) fn configure(isolate: &mut v8::Isolate) {
    overtime::note(isolate);
    isolate.set_microtasks_policy(v8::MicrotasksPolicy::Explicit);
    isolate.set_promise_reject_callback(rejections::on_reject);
    isolate.set_host_import_module_dynamically_callback(modules::import_dynamically);
    isolate.set_host_initialize_import_meta_object_callback(modules::initialize_import_meta);
}

unsafe extern "C" fn near_heap_limit(data: *mut c_void, current: usize, _initial: usize) -> usize {
    // SAFETY: `data` is the `StopSwitch` that `LimitedIsolate::new` registered and keeps alive.
    let stop = unsafe { &*data.cast::<StopSwitch>() };
    stop.stop(Termination::OutOfMemory);
    // V8 aborts the process when an allocation really fails: give it room to unwind. So much that a
    // built-in, which sees only at its end that it was stopped, is not held up by collections.
    current.saturating_add(UNWINDING_BYTES)
}
