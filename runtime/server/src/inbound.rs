//! What comes from a WebSocket client: bytes → whole messages (RFC 6455 sections 5.2 to 5.5).
//!
//! In: a client's bytes, room for large messages. Out: messages; why one is none.
//! Invariant: a large message has its room before its bytes are kept, together with the bodies of
//! HTTP; one that finds none, or is too large, is read to its end and dropped before that is said,
//! because a client that still sends hears nothing. A quiet client keeps nothing here.

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use database::limits;
use thiserror::Error;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::admission::{Bodies, Held};
use crate::refusal::Failure;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 4096;
/// Larger messages are counted.
const COUNTED_BYTES: u64 = 64 << 10;
/// Largest payload of a control frame.
const CONTROL_BYTES: u64 = 125;

/// What a client sent.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A text message, and its room.
    Text(String, Option<Held>),
    /// A message of bytes.
    Binary,
    /// A ping, to be answered with the same.
    Ping(Vec<u8>),
    /// The answer to a ping.
    Pong,
    /// The close frame, with its code.
    Closed(Option<u16>),
}

/// Why there is no message.
#[derive(Debug, Error)]
pub(crate) enum Unheard {
    /// It is over the limit.
    #[error(
        "The message is too large: it has {bytes} bytes, and at most {most} are taken. Store large \
         data as files, or send it in parts."
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// Others fill the memory for it.
    #[error("{}", .0.message)]
    NoRoom(Failure),
    /// The bytes are no frames. Nothing that follows is understood.
    #[error("What was sent is no WebSocket message: {0}.")]
    Malformed(String),
    /// The connection broke.
    #[error("The connection broke: {0}")]
    Broken(#[from] std::io::Error),
}

/// What was read of a client.
#[derive(Default)]
pub(crate) struct Inbound {
    /// Read and not looked at, from `at` on.
    bytes: Vec<u8>,
    at: usize,
    frame: Option<Frame>,
    message: Option<Partial>,
    /// It was malformed: what follows is dropped.
    deaf: bool,
}

/// The frame under way.
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// Begins with what the next byte is masked with.
    mask: [u8; 4],
    /// Bytes to come.
    left: u64,
    /// The payload of a control frame.
    control: Vec<u8>,
}

/// The message under way, of one frame or several.
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
    /// As the frames so far say.
    length: u64,
    held: Option<Held>,
    /// Why its bytes are dropped.
    refused: Option<Unheard>,
}

impl Inbound {
    /// The next message; `None` at the end.
    pub(crate) fn poll_next(
        &mut self,
        mut io: Pin<&mut (impl AsyncRead + ?Sized)>,
        bodies: &Bodies,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Heard, Unheard>>> {
        loop {
            if !self.deaf {
                match self.advance(bodies) {
                    Ok(None) => {}
                    Ok(Some(heard)) => return Poll::Ready(Some(Ok(heard))),
                    Err(why) => {
                        self.deaf = matches!(why, Unheard::Malformed(_));
                        return Poll::Ready(Some(Err(why)));
                    }
                }
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            if self.deaf || self.bytes.is_empty() {
                self.bytes = Vec::new();
            }
            let mut chunk = [0; CHUNK_BYTES];
            let mut room = ReadBuf::new(&mut chunk);
            if let Err(error) = ready!(io.as_mut().poll_read(context, &mut room)) {
                return Poll::Ready(Some(Err(error.into())));
            }
            if room.filled().is_empty() {
                return Poll::Ready(None);
            }
            self.bytes.extend_from_slice(room.filled());
        }
    }

    /// Looks at what was read; `None`: it wants more.
    fn advance(&mut self, bodies: &Bodies) -> Result<Option<Heard>, Unheard> {
        loop {
            if self.frame.is_none() {
                let mut cursor = Cursor::new(&self.bytes[self.at..]);
                let header = FrameHeader::parse(&mut cursor).map_err(malformed)?;
                let Some((header, length)) = header else { return Ok(None) };
                self.at += usize::try_from(cursor.position()).expect("it is within the slice");
                self.begin(&header, length, bodies)?;
            }
            if !self.take() {
                return Ok(None);
            }
            if let Some(heard) = self.end()? {
                return Ok(Some(heard));
            }
        }
    }

    /// A frame begins.
    fn begin(&mut self, header: &FrameHeader, length: u64, bodies: &Bodies) -> Result<(), Unheard> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(malformed("a reserved bit is set"));
        }
        let mask = header.mask.ok_or_else(|| malformed("a frame of a client must be masked"))?;
        match (header.opcode, &mut self.message) {
            (OpCode::Control(_), _) if length > CONTROL_BYTES || !header.is_final => {
                return Err(malformed("a control frame is too long, or in pieces"));
            }
            (OpCode::Control(_), _) => {}
            (OpCode::Data(Data::Continue), Some(message)) => message.grow(length, bodies),
            (OpCode::Data(Data::Continue), None) => {
                return Err(malformed("a message begins with a continuation"));
            }
            (OpCode::Data(_), Some(_)) => return Err(malformed("a message does not end")),
            (OpCode::Data(kind), none) => {
                let message = none.insert(Partial::of(kind == Data::Text));
                message.grow(length, bodies);
            }
        }
        let (opcode, is_final) = (header.opcode, header.is_final);
        self.frame = Some(Frame { opcode, is_final, mask, left: length, control: Vec::new() });
        Ok(())
    }

    /// Takes what there is of the frame's payload. Says whether that is all of it.
    fn take(&mut self) -> bool {
        let frame = self.frame.as_mut().expect("a frame is under way");
        let there = &self.bytes[self.at..];
        let count = there.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let into = match (frame.opcode, &mut self.message) {
            (OpCode::Control(_), _) => Some(&mut frame.control),
            (OpCode::Data(_), Some(message)) if message.refused.is_none() => {
                Some(&mut message.bytes)
            }
            _ => None,
        };
        if let Some(into) = into {
            let start = into.len();
            into.extend_from_slice(&there[..count]);
            unmask(&mut into[start..], frame.mask);
        }
        frame.mask.rotate_left(count % 4);
        frame.left -= count as u64;
        self.at += count;
        frame.left == 0
    }

    /// The frame is whole.
    fn end(&mut self) -> Result<Option<Heard>, Unheard> {
        let frame = self.frame.take().expect("a frame is under way");
        match frame.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Heard::Ping(frame.control))),
            OpCode::Control(Control::Close) => {
                let code = frame.control.first_chunk().map(|code| u16::from_be_bytes(*code));
                Ok(Some(Heard::Closed(code)))
            }
            OpCode::Control(_) => Ok(Some(Heard::Pong)),
            OpCode::Data(_) if !frame.is_final => Ok(None),
            OpCode::Data(_) => {
                self.message.take().expect("its first frame began it").whole().map(Some)
            }
        }
    }
}

impl Partial {
    fn of(is_text: bool) -> Self {
        Self { is_text, bytes: Vec::new(), length: 0, held: None, refused: None }
    }

    /// A frame of it has so many bytes.
    fn grow(&mut self, frame: u64, bodies: &Bodies) {
        let bytes = self.length.saturating_add(frame);
        let most = limits::SOCKET_MESSAGE_BYTES.min(bodies.most()).max(COUNTED_BYTES);
        self.length = bytes;
        if bytes > most {
            self.refuse(Unheard::TooLarge { bytes, most });
        } else if self.refused.is_none() {
            // The smaller room goes back before the larger one is asked for.
            self.held = None;
            match (bytes > COUNTED_BYTES).then(|| bodies.hold(bytes)).transpose() {
                Ok(held) => {
                    self.held = held;
                    self.bytes.reserve_exact(usize::try_from(frame).unwrap_or_default());
                }
                Err(failure) => self.refuse(Unheard::NoRoom(failure)),
            }
        }
    }

    fn refuse(&mut self, why: Unheard) {
        self.bytes = Vec::new();
        self.held = None;
        self.refused = Some(why);
    }

    fn whole(self) -> Result<Heard, Unheard> {
        match self.refused {
            Some(why) => Err(why),
            None if !self.is_text => Ok(Heard::Binary),
            None => {
                let text = String::from_utf8(self.bytes).map_err(malformed)?;
                Ok(Heard::Text(text, self.held))
            }
        }
    }
}

fn malformed(why: impl ToString) -> Unheard {
    Unheard::Malformed(why.to_string())
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let whole = u32::from_ne_bytes(mask);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        let plain = u32::from_ne_bytes(word.try_into().expect("four bytes")) ^ whole;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    words.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Written;

    /// Gives so many bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl AsyncRead for Drip<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let (now, later) = self.0.split_at(self.0.len().min(self.1).min(room.remaining()));
            room.put_slice(now);
            self.0 = later;
            Poll::Ready(Ok(()))
        }
    }

    fn frame(kind: Data, payload: &[u8], is_final: bool) -> Vec<u8> {
        written(Written::message(payload.to_vec(), OpCode::Data(kind), is_final))
    }

    fn written(mut frame: Written) -> Vec<u8> {
        let mask = [1, 200, 3, 77];
        frame.header_mut().mask = Some(mask);
        let mut bytes = Vec::new();
        frame.header().format(frame.payload().len() as u64, &mut bytes).unwrap();
        let masked = frame.payload().iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
        bytes.extend(masked);
        bytes
    }

    /// What is heard of these bytes, in short.
    fn heard(sent: &[u8], at_once: usize, bodies: &Bodies) -> Vec<String> {
        let (mut inbound, mut drip) = (Inbound::default(), Drip(sent, at_once));
        let mut context = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(heard)) =
            inbound.poll_next(Pin::new(&mut drip), bodies, &mut context)
        {
            all.push(match heard {
                Ok(Heard::Text(text, held)) if text.len() > 40 => {
                    format!("{} {}", text.len(), held.is_some())
                }
                Ok(Heard::Text(text, _)) => text,
                Ok(other) => format!("{other:?}"),
                Err(why) => why.to_string().chars().take(45).collect(),
            });
        }
        assert!(inbound.bytes.capacity() == 0 && bodies.held() == 0);
        all
    }

    #[test]
    fn messages_come_whole_however_their_bytes_do() {
        let large = "ü".repeat(50_000);
        let (head, tail) = large.as_bytes().split_at(70_001);
        let sent = [
            frame(Data::Text, "[1,\"ü\"]".as_bytes(), true),
            frame(Data::Text, head, false),
            written(Written::ping(&b"hi"[..])),
            frame(Data::Continue, tail, true),
            frame(Data::Text, b"", true),
            written(Written::pong(&b""[..])),
            frame(Data::Binary, b"x", true),
            written(Written::close(None)),
        ];
        let expected =
            ["[1,\"ü\"]", "Ping([104, 105])", "100000 true", "", "Pong", "Binary", "Closed(None)"];
        let bodies = Bodies::new(1 << 20);
        for at_once in [1, 7, 4096] {
            assert_eq!(heard(&sent.concat(), at_once, &bodies), expected, "{at_once}");
        }
    }

    #[test]
    fn what_has_no_room_is_dropped_to_its_end_and_what_follows_is_heard() {
        let long = vec![b'x'; 80_000];
        let sent = [
            frame(Data::Text, &long, false),
            frame(Data::Continue, &long, false),
            frame(Data::Continue, &long, true),
            frame(Data::Text, b"next", true),
        ];
        let expected = ["The message is too large: it has 240000 bytes", "next"];
        assert_eq!(heard(&sent.concat(), 4096, &Bodies::new(200_000)), expected);
        let sent = [frame(Data::Text, &long, true), frame(Data::Text, b"next", true)].concat();
        let bodies = Bodies::new(100_000);
        let others = bodies.hold(50_000).unwrap();
        let mut inbound = Inbound::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut drip = Drip(&sent, 4096);
        let mut next = || inbound.poll_next(Pin::new(&mut drip), &bodies, &mut context);
        assert!(matches!(next(), Poll::Ready(Some(Err(Unheard::NoRoom(_))))));
        assert_eq!(bodies.held(), 50_000);
        drop(others);
        assert!(matches!(next(), Poll::Ready(Some(Ok(Heard::Text(text, None)))) if text == "next"));
    }

    #[test]
    fn what_is_no_frame_is_said_once() {
        let bare = Written::message(&b"x"[..], OpCode::Data(Data::Text), true);
        let mut unmasked = Vec::new();
        bare.header().format(1, &mut unmasked).unwrap();
        for sent in [
            vec![0xff; 64],
            [unmasked, vec![b'x']].concat(),
            frame(Data::Continue, b"x", true),
            frame(Data::Text, b"\xff", true),
            [frame(Data::Text, b"x", false), frame(Data::Text, b"y", true)].concat(),
            written(Written::ping(vec![0; 126])),
        ] {
            let sent = [sent, frame(Data::Text, b"unheard", true)].concat();
            let expected = ["What was sent is no WebSocket message: "];
            let all = heard(&sent, 4096, &Bodies::new(1 << 20));
            assert!(all.len() == 1 && all[0].starts_with(expected[0]), "{all:?}");
        }
    }
}
