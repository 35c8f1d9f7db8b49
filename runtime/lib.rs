//! The root library: the commands and the worlds, for `main.rs`, the tests and the benches.
//!
//! In: parsed arguments. Out: a running host, or a client of one.
//! Invariant: this is the only package that sees all the crates; they meet nowhere else.
//!
//! ```text
//! commands/    what a user types           world.rs    time and randomness
//! durable/     data in a folder            memory.rs   the budget
//! outside/     actions, by processes       purity.rs   which contexts may serve many calls
//! testing/     `concave test`
//! ```
#![forbid(unsafe_code)]

pub mod commands;
pub mod durable;
pub mod memory;
pub mod outside;
pub mod purity;
pub mod testing;
pub mod world;

// V8's helpers and the persistent maps free much memory on other threads than allocated it.
// jemalloc gives it back to the system, where the default allocator keeps it, and a call costs a
// twentieth less. It replaces `malloc` itself, so V8 allocates from it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
