//! The shapes of the WebSocket sync protocol (`convex-compat.md` section 5), and nothing else.
//!
//! ```text
//! read.rs  a client's frame      write.rs  what a session says      frames.rs  in pieces
//! ```
//! In: frames of a client; what a session has to say. Out: [`Said`](crate::session::Said), or why a
//! frame is none; frames.
//! Invariant: results are JSON text already and are copied, never parsed.

mod frames;
mod read;
mod write;

pub(crate) use frames::Frames;
pub(crate) use read::read;
pub(crate) use write::{Writer, ping};

#[cfg(test)]
pub(crate) use write::timestamp;
