//! A worker's end of the socket: messages of all its threads, one at a time.
//!
//! In: messages. Out: frames. Invariant: frames are never mixed; a host that is gone ends the
//! process.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::protocol::{self, End, Thrown, ToHost};

/// The sending half.
pub(crate) struct Wire {
    socket: Option<Mutex<UnixStream>>,
    said: AtomicBool,
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket: Some(Mutex::new(socket)), said: AtomicBool::new(false) }
    }

    /// One that nobody reads.
    pub(crate) fn deaf() -> Self {
        Self { socket: None, said: AtomicBool::new(false) }
    }

    /// Whether anything was sent.
    pub(crate) fn said(&self) -> bool {
        self.said.load(Ordering::Relaxed)
    }

    /// Sends a message; waits while the host does not read.
    pub(crate) fn send(&self, message: &ToHost, tail: &[u8]) {
        self.write(&frame(message, tail));
    }

    /// Sends two messages at once.
    pub(crate) fn send_two(&self, one: (&ToHost, &[u8]), other: (&ToHost, &[u8])) {
        let mut frames = frame(one.0, one.1);
        frames.extend_from_slice(&frame(other.0, other.1));
        self.write(&frames);
    }

    fn write(&self, frames: &[u8]) {
        self.said.store(true, Ordering::Relaxed);
        let Some(socket) = &self.socket else { return };
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.write_all(frames).is_err() {
            // Nobody is left to work for.
            std::process::exit(0);
        }
    }
}

fn frame(message: &ToHost, tail: &[u8]) -> Vec<u8> {
    protocol::encode(message, tail).unwrap_or_else(|_| too_long(message))
}

/// What is said instead of a message that is longer than a frame can be.
fn too_long(message: &ToHost) -> Vec<u8> {
    let message = match message {
        ToHost::Done { run, .. } => {
            let message = format!("The result is longer than {} bytes.", protocol::FRAME_BYTES);
            let end = End::Threw(Thrown { message, ..Thrown::default() });
            ToHost::Done { run: *run, end }
        }
        // Arguments and lines are limited before they come here.
        other => other.clone(),
    };
    protocol::encode(&message, &[]).unwrap_or_default()
}
