//! The one integration binary: V8 is linked once, and every module below runs in it.
//!
//! In: the crates and the built program. Out: checks of what must always hold (design, section 6).
//! Invariant: each file in this folder that is not a Node driver is listed here.
#![allow(clippy::unwrap_used, reason = "a test that panics fails, which is its job")]
#![allow(unreachable_pub, reason = "nothing outside this binary sees any of it")]

mod actions;
mod bundles;
mod components;
mod deployed;
mod determinism;
mod files;
mod functions;
mod isolation;
mod limits;
mod live;
mod node;
mod path;
mod purity;
mod push;
mod restored;
mod reuse;
mod schedule;
mod tidy;
mod variables;
mod wasm;
mod why;
mod worlds;
