//! The web platform that every function kind shares: JavaScript sources and pure functions.
//!
//! In: nothing but arguments. Out: scripts in the form of deno's lazily loaded extension scripts,
//! WebCrypto's algorithms and the like as plain functions, and what of V8 both kinds need.
//! Invariant: no clock, no socket, no randomness of its own: the same source serves queries and
//! mutations, where it must be deterministic, and actions.
//!
//! ```text
//! scripts.rs  js/web and what deno publishes      crypto.rs         WebCrypto, one pure function
//! clone.rs    structuredClone                     url_pattern.rs    URLPattern's parsers
//! console.rs  the length of a line                wasm_memories.rs  what a module may grow to
//! lazy.rs     properties made on first touch
//! ```
#![forbid(unsafe_code)]

pub mod clone;
pub mod console;
pub mod crypto;
pub mod lazy;
mod scripts;
pub mod url_pattern;
pub mod wasm_memories;

pub use scripts::script;
