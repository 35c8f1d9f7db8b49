//! What bounds an isolate, whoever runs in it: functions or a worker's actions.
//!
//! In: limits, and what V8 allocates. Out: a switch that stops what runs, counts of bytes.
//! Invariant: a count is what V8 holds now, on every thread; nothing here stops anything by itself.
//!
//! | file | what it is |
//! |---|---|
//! | `stop.rs` | the switch that stops what an isolate runs, with its first reason |
//! | `buffers.rs` | the allocator of `ArrayBuffer`s: counted, and bounded |
//! | `linear_memory.rs` | one memory of WebAssembly, as it counts |
//! | `coverage.rs` | what V8 answers when it is asked what ran |

mod buffers;
pub mod coverage;
mod linear_memory;
mod stop;

pub use buffers::{Buffers, Uninitialized};
pub use linear_memory::Memory;
pub use stop::Switch;
