//! The memory of one run, and the switch that stops it.
//!
//! In: limits. Out: parameters for an isolate, and a [`StopSwitch`]. Invariant: a run that passes a
//! limit is stopped with a reason; only what V8 cannot survive ends the process.

use std::sync::Arc;

use bounds::{Buffers, Switch, Uninitialized};
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
    switch: Switch<Stopped>,
    buffers: Arc<Buffers>,
    /// Memories of WebAssembly, and how many bytes they may have.
    pub(crate) memories: Memories,
    pub(crate) wasm_limit: u64,
}

impl StopSwitch {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            switch: Switch::default(),
            buffers: Buffers::new(bytes(limits.buffer_bytes), Uninitialized::AsItIs),
            memories: Memories::default(),
            wasm_limit: limits.wasm_bytes,
        })
    }

    /// Stops whatever the isolate runs; nothing may run in it any more. The first reason stays.
    pub(crate) fn stop(&self, why: Stopped) {
        self.switch.stop(why);
    }

    /// The reason, if it was stopped.
    pub(crate) fn reason(&self) -> Option<Stopped> {
        self.switch.reason()
    }

    /// Parameters of an isolate with the limits.
    pub(crate) fn parameters(&self, limits: &Limits) -> v8::CreateParams {
        v8::CreateParams::default()
            .heap_limits(0, bytes(limits.heap_bytes) + HEAP_SLACK_BYTES)
            .array_buffer_allocator(self.buffers.allocator())
    }

    /// Stops the run if what it grew inside of WebAssembly is too much.
    pub(crate) fn check_memories(&self) {
        if self.memories.bytes() > self.wasm_limit {
            self.stop(Stopped::WasmMemory);
        }
    }

    /// Connects the switch to the isolate made with [`Self::parameters`].
    pub(crate) fn connect(&self, isolate: v8::IsolateHandle) {
        self.switch.connect(isolate);
    }

    /// Whether buffers take so much that V8 collects because of them.
    pub(crate) fn holds_buffers(&self) -> bool {
        self.buffers.are_many()
    }
}

fn bytes(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX / 2)
}
