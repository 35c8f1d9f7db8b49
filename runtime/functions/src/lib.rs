//! The functions: V8, and nothing else knows of it.
//!
//! In: bundles and calls. Out: analyses and outcomes, through `database::record::Functions`.
//!
//! | stop | file |
//! |---|---|
//! | the door | `host.rs`: cache, equal queries, queue |
//! | threads | `pool.rs`, `reserves.rs`; `watchdog.rs`: one isolate a thread |
//! | 3 call | `call.rs`: begin, run, commit, retry; `action.rs`: what runs in another process |
//! | checked | `check.rs`: before, after; `twice.rs`: two runs that should be one; `warnings.rs` |
//! | 4 function | `run.rs`: one function in one context; `execution.rs`: the call of this thread |
//! | isolates | `platform.rs`: V8 once a process; `isolate.rs`, `engine.rs`, `entries.rs` |
//! | contexts | `context.rs`: fresh ones; `modules.rs`, `code.rs`, `wasm.rs`: what is in them |
//! | contexts used again | `kept.rs`, `reuse.rs`, `harden.rs`, `sentinel.rs` |
//! | looked at | `inspector.rs`, `coverage.rs`: by V8's inspector |
//! | what functions find | `natives.rs` and its folder; `linear_memory.rs`: WebAssembly's |
//! | files | `files.rs`: bytes that a mutation stores, kept until it commits |
//! | syscalls | `syscall.rs` and its folder: the ABI of `convex/server`; `address.rs`: names |
//! | errors | `exception.rs`, `rejections.rs`, `traces.rs`: in TypeScript's positions |
//! | memory | `allocator.rs`: jemalloc gives pages back |
//! | functions of tests | `elsewhere.rs`, `syscall/elsewhere.rs`: JavaScript of another process |
//! | calls run again | `replay.rs`, `debug.rs`: with a debugger |
//! | inline queries | `inline.rs`: a module that is not deployed |
//! | push | `push.rs`, `builder.rs` (child process), `startup.rs`, `analyze.rs`, `define.rs` |
//! | what a snapshot cannot hold | `late.rs`; `overtime.rs`: modules that do not finish |
//!
//! Safety rules: here and in the workers (`actions`) alone are `unsafe` and V8. Each block says why
//! it is sound.
//! An isolate lives and dies on one thread; every handle to it is dropped before it.

mod action;
pub mod address;
pub mod allocator;
mod analyze;
pub mod builder;
mod call;
mod check;
mod code;
mod context;
mod coverage;
mod debug;
mod define;
mod elsewhere;
mod engine;
mod entries;
mod exception;
mod execution;
mod files;
mod harden;
mod host;
mod inline;
mod inspector;
mod isolate;
mod kept;
mod late;
mod linear_memory;
mod modules;
mod natives;
mod overtime;
pub mod platform;
mod pool;
mod push;
mod rejections;
mod replay;
mod reserves;
pub mod reuse;
mod run;
mod sentinel;
mod startup;
mod syscall;
pub mod traces;
mod twice;
mod warnings;
mod wasm;
mod watchdog;

pub use builder::Helper;
pub use elsewhere::{Answer, Elsewhere, INLINE, Turn, Visit};
pub use host::{Config, Host, Neighbour};
pub use modules::join as joined;
pub use syscall::nested::transaction_limits;
