//! What is on its way to a WebSocket client.
//!
//! In: messages, the socket. Out: frames, each made when the socket takes it. Invariant: a message
//! that a client does not take costs the host what only that message has: large results are shared,
//! and of a frame there is one copy.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use database::limits;
use futures_util::Sink;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::convex::sync::{Frames, ping};
use crate::upgrade::WebSocket;

/// What an answer to a ping takes at most while it waits.
const PONG_BYTES: u64 = 256;

/// Messages for one client.
pub(crate) struct Unsent {
    queue: VecDeque<Parcel>,
    /// In the queue, and handed over but not written.
    weight: Weight,
    /// Handed over to the WebSocket, which may not have written all of it.
    unwritten: Weight,
    is_flushed: bool,
    /// When something last was said, and when something last went out.
    said: Instant,
    moved: Instant,
}

struct Parcel {
    content: Content,
    weight: Weight,
}

enum Content {
    /// A message of the protocol, or several.
    Frames(Frames),
    /// A frame of the WebSocket's own.
    Control(Message),
}

/// What is waited for.
#[derive(Clone, Copy, Default)]
struct Weight {
    bytes: u64,
    transitions: u64,
}

impl Unsent {
    /// For a client to whom nothing was said.
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            weight: Weight::default(),
            unwritten: Weight::default(),
            is_flushed: true,
            said: Instant::now(),
            moved: Instant::now(),
        }
    }

    /// Appends a message.
    pub(crate) fn say(&mut self, frames: Frames, is_transition: bool) {
        self.said = Instant::now();
        let weight = Weight { bytes: frames.bytes as u64, transitions: u64::from(is_transition) };
        self.enqueue(Content::Frames(frames), weight);
    }

    /// Appends the message that only resets the client's patience.
    pub(crate) fn say_nothing(&mut self) {
        self.say(ping(), false);
    }

    /// Appends a ping of the WebSocket: no message of the protocol.
    pub(crate) fn ping(&mut self) {
        self.enqueue(Content::Control(Message::Ping(Default::default())), Weight::default());
    }

    /// Appends the answer to a client's ping. It counts, so that one who only asks is not heard on.
    pub(crate) fn pong(&mut self, payload: Vec<u8>) {
        let weight = Weight { bytes: PONG_BYTES, ..Weight::default() };
        self.enqueue(Content::Control(Message::Pong(payload.into())), weight);
    }

    /// Appends the close frame, behind which nothing goes.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>) {
        self.said = Instant::now();
        self.enqueue(Content::Control(Message::Close(frame)), Weight::default());
    }

    /// Nothing is left to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.is_flushed
    }

    /// Bytes of the messages that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.weight.bytes
    }

    /// When something was said last.
    pub(crate) fn said(&self) -> Instant {
        self.said
    }

    /// Whether the client takes what it gets.
    pub(crate) fn has_room(&self) -> bool {
        self.weight.transitions < limits::SOCKET_UNSENT_TRANSITIONS
            && self.weight.bytes < limits::SOCKET_UNSENT_BYTES
    }

    /// Whether the client has taken nothing for too long; that is sooner while memory is short.
    pub(crate) fn is_stalled(&self, now: Instant, is_memory_short: bool) -> bool {
        let patience = match is_memory_short {
            true => limits::SOCKET_STALL_SHORT_MS,
            false => limits::SOCKET_STALL_MS,
        };
        !self.is_empty() && now - self.moved >= Duration::from_millis(patience)
    }

    /// Writes what the socket takes; ready when all of it went out.
    pub(crate) fn poll_write(
        &mut self,
        mut socket: Pin<&mut WebSocket>,
        context: &mut Context<'_>,
    ) -> Poll<tungstenite::Result<()>> {
        if self.is_empty() {
            return Poll::Pending;
        }
        while !self.queue.is_empty() {
            ready!(socket.as_mut().poll_ready(context))?;
            if let Some(message) = self.next() {
                self.is_flushed = false;
                self.moved = Instant::now();
                socket.as_mut().start_send(message)?;
            }
        }
        ready!(socket.as_mut().poll_flush(context))?;
        self.weight -= std::mem::take(&mut self.unwritten);
        self.is_flushed = true;
        self.moved = Instant::now();
        Poll::Ready(Ok(()))
    }

    /// The next frame of the first message; `None` after its last.
    fn next(&mut self) -> Option<Message> {
        let first = self.queue.front_mut()?;
        let (message, is_over) = match &mut first.content {
            Content::Frames(frames) => match frames.next() {
                Some(frame) => (Some(Message::Frame(frame)), false),
                None => (None, true),
            },
            Content::Control(message) => {
                (Some(std::mem::replace(message, Message::Close(None))), true)
            }
        };
        if is_over && let Some(Parcel { weight, .. }) = self.queue.pop_front() {
            self.unwritten += weight;
        }
        message
    }

    fn enqueue(&mut self, content: Content, weight: Weight) {
        if self.is_empty() {
            self.moved = Instant::now();
        }
        self.weight += weight;
        self.queue.push_back(Parcel { content, weight });
    }
}

impl std::ops::AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.transitions += other.transitions;
    }
}

impl std::ops::SubAssign for Weight {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.transitions -= other.transitions;
    }
}
