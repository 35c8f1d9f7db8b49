//! The root library: the commands and the worlds, for `main.rs`, the tests and the benches.
//!
//! In: parsed arguments. Out: a running host, or a client of one.
//! Invariant: this is the only package that sees all the crates; they meet nowhere else.
#![forbid(unsafe_code)]

pub mod commands;
pub mod world;
