//! A message → WebSocket frames, each made when the socket takes it (RFC 6455 section 5.4).
//!
//! In: a message's text, in pieces. Out: frames of some kilobytes; a Transition in chunks
//! (`convex-compat.md` section 5.3) is one message a chunk. Invariant: what is large is shared by
//! all the clients that get it, and a client that takes it holds one frame of it besides.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::convex::answer::string;

/// Results of so many bytes are shared, smaller ones copied: that is quicker than one frame more.
const SHARED_BYTES: usize = 16 << 10;
/// Bytes of a frame's payload. What writes to the socket keeps as much for each client.
const FRAME_BYTES: usize = 16 << 10;
/// Bytes of one chunk: small enough that a slow line shows progress.
const CHUNK_BYTES: usize = 1_000_000;

/// A message's text while it is written.
#[derive(Default)]
pub(crate) struct Text {
    pieces: VecDeque<Bytes>,
    last: Vec<u8>,
}

/// Text that somebody else keeps too.
struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whether a result of this text is shared.
pub(crate) fn is_shared(text: &str) -> bool {
    text.len() >= SHARED_BYTES
}

impl Text {
    /// What is written next goes to its end.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// Appends a text that others send too.
    pub(crate) fn share(&mut self, text: &Arc<str>) {
        if is_shared(text) {
            self.close_piece();
            self.pieces.push_back(Bytes::from_owner(Shared(Arc::clone(text))));
        } else {
            self.last.extend_from_slice(text.as_bytes());
        }
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.last.len()
    }

    /// As one message.
    pub(crate) fn whole(mut self) -> Frames {
        let bytes = self.len();
        self.close_piece();
        Frames { bytes, pieces: self.pieces, chunks: None, begun: false }
    }

    /// As TransitionChunks, with what they say about when they were made.
    pub(crate) fn in_chunks(mut self, id: u64) -> Frames {
        let bytes = self.len();
        self.close_piece();
        let total = bytes.div_ceil(CHUNK_BYTES);
        let chunks = Chunks { rest: self.pieces, taken: 0, part: 0, total, id };
        Frames { bytes, pieces: VecDeque::new(), chunks: Some(chunks), begun: false }
    }

    fn close_piece(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.last).into());
        }
    }
}

/// The frames of a message, or of its chunks.
pub(crate) struct Frames {
    /// Of the text that is sent.
    pub(crate) bytes: usize,
    /// What is left of the message under way. No piece is empty.
    pieces: VecDeque<Bytes>,
    chunks: Option<Chunks>,
    /// Whether the first frame of the message has gone.
    begun: bool,
}

/// A text that travels as several messages, each with a piece of it as a JSON string.
struct Chunks {
    rest: VecDeque<Bytes>,
    /// Bytes that were taken from the text.
    taken: usize,
    part: usize,
    total: usize,
    id: u64,
}

impl Frames {
    /// The next one; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if self.pieces.is_empty() {
            self.pieces.push_back(self.chunks.as_mut()?.next()?);
        }
        let first = self.pieces.front_mut().expect("it was filled");
        let payload = first.split_to(first.len().min(FRAME_BYTES));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        let is_last = self.pieces.is_empty();
        let kind = if self.begun { Data::Continue } else { Data::Text };
        self.begun = !is_last;
        Some(Frame::message(payload, OpCode::Data(kind), is_last))
    }

    /// The texts of the messages that a client puts together.
    #[cfg(test)]
    pub(crate) fn messages(mut self) -> Vec<String> {
        let (mut all, mut text) = (Vec::new(), Vec::new());
        while let Some(frame) = self.next() {
            let kind = if text.is_empty() { Data::Text } else { Data::Continue };
            assert_eq!(frame.header().opcode, OpCode::Data(kind));
            assert!(!frame.payload().is_empty() && frame.payload().len() <= FRAME_BYTES);
            text.extend_from_slice(frame.payload());
            if frame.header().is_final {
                all.push(String::from_utf8(std::mem::take(&mut text)).unwrap());
            }
        }
        assert!(text.is_empty());
        all
    }
}

impl Chunks {
    fn next(&mut self) -> Option<Bytes> {
        if self.part == self.total {
            return None;
        }
        let piece = self.take();
        let (part, total, id) = (self.part, self.total, self.id);
        self.part += 1;
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 4);
        out.extend_from_slice(br#"{"type":"TransitionChunk","chunk":"#);
        string(&piece, &mut out);
        let rest = format!(r#","partNumber":{part},"totalParts":{total},"transitionId":"{id}"}}"#);
        out.extend_from_slice(rest.as_bytes());
        Some(out.into())
    }

    /// What goes into the next chunk: up to its end in the text, without a part of a character.
    fn take(&mut self) -> String {
        let end = (self.part + 1) * CHUNK_BYTES;
        let mut piece = Vec::with_capacity(CHUNK_BYTES);
        while self.taken + piece.len() < end
            && let Some(mut first) = self.rest.pop_front()
        {
            let room = end - self.taken - piece.len();
            piece.extend_from_slice(&first.split_to(first.len().min(room)));
            if !first.is_empty() {
                self.rest.push_front(first);
            }
        }
        let whole = match str::from_utf8(&piece) {
            Ok(_) => piece.len(),
            Err(error) => error.valid_up_to(),
        };
        let part = piece.split_off(whole);
        if !part.is_empty() {
            self.rest.push_front(part.into());
        }
        self.taken += whole;
        String::from_utf8(piece).expect("it was cut where it ends")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_texts_are_one_frame_and_large_ones_are_shared() {
        let mut text = Text::default();
        text.end().extend_from_slice(b"[");
        text.share(&"1".into());
        text.end().extend_from_slice(b"]");
        assert_eq!(text.whole().messages(), ["[1]"]);

        let large: Arc<str> = "é".repeat(FRAME_BYTES).into();
        let mut text = Text::default();
        text.end().extend_from_slice(b"[");
        text.share(&large);
        assert_eq!(Arc::strong_count(&large), 2, "it is not copied");
        text.end().extend_from_slice(b"]");
        assert_eq!(text.len(), large.len() + 2);
        assert_eq!(text.whole().messages(), [format!("[{large}]")]);
        assert_eq!(Arc::strong_count(&large), 1);
    }

    #[test]
    fn chunks_end_between_characters_and_are_as_many_as_they_say() {
        let long: Arc<str> = "aüß\u{1f600}\"".repeat(300_000).into();
        for shift in 0..5 {
            let mut text = Text::default();
            text.end().extend_from_slice("x".repeat(shift).as_bytes());
            text.share(&long);
            let total = text.len().div_ceil(CHUNK_BYTES);
            let mut whole = String::new();
            let messages = text.in_chunks(7).messages();
            assert_eq!(messages.len(), total);
            for (part, message) in messages.into_iter().enumerate() {
                let chunk: serde_json::Value = serde_json::from_str(&message).unwrap();
                assert_eq!(chunk["partNumber"], part);
                assert_eq!(chunk["totalParts"], total);
                assert_eq!(chunk["transitionId"], "7");
                whole.push_str(chunk["chunk"].as_str().unwrap());
            }
            assert_eq!(whole, format!("{}{long}", "x".repeat(shift)));
        }
    }
}
