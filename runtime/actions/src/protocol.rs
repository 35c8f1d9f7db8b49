//! The language of host and worker: framed messages over one local socket.
//!
//! In: messages. Out: bytes, and back. V8 workers and Node processes speak it alike.
//! Invariant: a frame that breaks a rule ends the conversation: no half message is acted on.
//!
//! A frame is two lengths, a head and a tail, little-endian:
//!
//! ```text
//! u32 bytes that follow | u32 bytes of head | head: JSON, UTF-8 | tail: any bytes
//! ```
//!
//! The head is one [`ToWorker`] or [`ToHost`], an object whose `type` names the message. The tail
//! carries what would be dear inside of JSON; which message has which tail stands with it.
//!
//! ```text
//! host   ─ deploy, module…, environment ─ run ──────── answer ─────────────▶ worker
//! worker ─ ready ─────────────────────────── log, syscall ── http_head ── done ─▶ host
//! both   ─ stream: chunk… end; the receiver: credit, stop
//! ```
//!
//! Streams are bodies of requests, responses and files. Their numbers are chosen by the sender, per
//! direction, and carry their run's: see [`StreamId`]. A sender keeps at most [`WINDOW_BYTES`]
//! under way: it stops until the receiver gives credit for what it has consumed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

pub use crate::fetch::FetchLimits;
pub use crate::network::Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest frame, in bytes: a module of a bundle, or the largest value, and room.
pub const FRAME_BYTES: usize = 80 << 20;

/// What a sender may have under way in one stream before it is given credit, in bytes.
pub const WINDOW_BYTES: usize = 256 << 10;

/// The largest chunk of a stream, in bytes.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Names one run of a function in its process.
pub type RunId = u64;
/// Names one call back to the host in its run.
pub type CallId = u64;

/// How many bits of a stream's number tell the streams of one run apart.
const STREAM_BITS: u32 = 20;

/// Names a stream in its process and direction: the number of its run, and above how many others
/// of that run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The stream of a run that comes after so many others of it.
    ///
    /// # Errors
    /// What the author of the function reads, who had as many streams as a run may have.
    pub fn of(run: RunId, before: u64) -> Result<Self, String> {
        let most = 1 << STREAM_BITS;
        if before >= most {
            return Err(format!(
                "Too many streams: an action may send {most} bodies and files in all, and receive \
                 as many. Split its work over several actions."
            ));
        }
        Ok(Self((run << STREAM_BITS) | before))
    }

    /// Whose it is.
    pub fn run(self) -> RunId {
        self.0 >> STREAM_BITS
    }
}

/// What a host says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Before everything else, for V8 workers: the startup snapshot, in the tail.
    Snapshot,
    /// The first message: the code of every run to come; `modules` messages [`Self::Module`]
    /// follow.
    Deploy {
        /// Names the code in messages.
        version: String,
        /// How many messages with modules follow.
        modules: u32,
        /// What modules see of clock and randomness while they are evaluated.
        #[serde(default)]
        import: ImportPhase,
        /// A folder that holds the modules too, for Node; nothing else in it is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
        /// What `fetch` may reach besides public addresses.
        #[serde(default)]
        network: Network,
        /// What a run may use.
        limits: Limits,
    },
    /// A module of the code; the tail is its JavaScript.
    Module {
        /// `dir/mod.js`, as in `convex:/dir/mod.js`.
        path: String,
    },
    /// Replaces `process.env` for the runs that follow.
    Environment {
        /// Names and values.
        variables: BTreeMap<String, String>,
    },
    /// Runs a function. The tail is its arguments, JSON text of an array; empty for HTTP.
    Run {
        /// Names the run.
        run: RunId,
        /// `dir/mod.js`
        module: String,
        /// Name of the export.
        export: String,
        /// Names the request in logs and errors.
        request_id: String,
        /// Milliseconds after which the run is stopped.
        timeout_ms: u64,
        /// Whether it may share a context with other runs that may, one after another.
        #[serde(default)]
        reuse: bool,
        /// The request, where the export is a router.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http: Option<HttpHead>,
    },
    /// Asks a Node process what modules export. Ends like a run; the result is JSON text.
    Analyze {
        /// Names the run.
        run: RunId,
        /// Their paths: `dir/mod.js`.
        modules: Vec<String>,
        /// Milliseconds after which it is stopped.
        timeout_ms: u64,
    },
    /// Answers a [`ToHost::Syscall`]. The tail is the result, JSON text; empty with an error.
    Answer {
        /// The run that asked.
        run: RunId,
        /// What it asked.
        call: CallId,
        /// Why there is no result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Thrown>,
        /// Bytes that belong to the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<StreamId>,
    },
    /// About the bytes of a stream.
    Stream(Stream),
    /// Nobody waits for the response of an HTTP action any more: its request's signal aborts.
    Gone {
        /// Which run.
        run: RunId,
    },
    /// Stops a run; its [`ToHost::Done`] is sent all the same.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// The process ends when its runs have.
    Shutdown,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToHost {
    /// It can run functions.
    Ready,
    /// Asks the host. The tail is the arguments, JSON text.
    Syscall {
        /// The run that asks.
        run: RunId,
        /// Names the question in the run.
        call: CallId,
        /// `1.0/actions/query`, …
        op: String,
        /// Bytes that belong to the arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<StreamId>,
    },
    /// Something that nobody waits for an answer to; the tail is JSON text.
    Report {
        /// The run that tells it.
        run: RunId,
        /// What it is about.
        op: String,
    },
    /// A console line.
    Log {
        /// The run that logs.
        run: RunId,
        /// `DEBUG`, `ERROR`, `INFO`, `LOG` or `WARN`.
        level: String,
        /// Rendered arguments.
        messages: Vec<String>,
        /// Whether text was cut at the line limit.
        #[serde(default)]
        truncated: bool,
    },
    /// The response of an HTTP action begins.
    HttpHead {
        /// The run that answers.
        run: RunId,
        /// 200, 404, …
        status: u16,
        /// Headers in order.
        headers: Vec<(String, String)>,
        /// Its body; without one the tail is all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<StreamId>,
        /// The route that answers, as `http.ts` names it: `/path` or `/prefix/*`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    /// About the bytes of a stream.
    Stream(Stream),
    /// It takes no more runs: something of an old one may still be under way in it.
    Retire,
    /// The last word about a run. The tail is the result, JSON text; empty otherwise.
    Done {
        /// Which.
        run: RunId,
        /// How.
        end: End,
    },
}

/// An HTTP request without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHead {
    /// The whole URL, as the client wrote it.
    pub url: String,
    /// Its path, without the prefix under which the app is mounted.
    pub routed_path: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<StreamId>,
}

/// Clock and randomness while modules are evaluated, both fixed at the push, so that values at
/// module level are the same in every run (`convex-compat.md` section 8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPhase {
    /// `Date.now()`, milliseconds since the epoch.
    pub now_ms: u64,
    /// Seed of `Math.random()`.
    pub seed: [u32; 8],
}

/// Modules that are evaluated into the startup snapshot: every context has them from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residents {
    /// JavaScript by path; empty for none.
    pub modules: BTreeMap<Arc<str>, Arc<str>>,
    /// The path of the one that imports the others.
    pub entry: String,
    /// What they see while they are evaluated.
    pub import: ImportPhase,
}

/// What a run may use; a worker enforces what it can see, the host the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// JavaScript heap of one run, in bytes.
    pub heap_bytes: u64,
    /// ArrayBuffers of one run, in bytes.
    pub buffer_bytes: u64,
    /// Memories of WebAssembly of one run, in bytes.
    #[serde(default)]
    pub wasm_bytes: u64,
    /// Memory of a process with all its runs, in bytes.
    pub process_bytes: u64,
    /// Console lines of one run.
    pub log_lines: u64,
    /// One console line, in bytes.
    pub log_line_bytes: u64,
    /// The body of one HTTP action's response, in bytes.
    pub response_bytes: u64,
    /// PBKDF2 iterations of one derivation, times blocks of its output.
    pub pbkdf2_iterations: u64,
    /// Runs after which a context that runs share is replaced.
    #[serde(default)]
    pub context_runs: u32,
    /// Contexts of a process that wait for another run.
    #[serde(default)]
    pub contexts_kept: u32,
    /// What `fetch` may take.
    #[serde(default)]
    pub fetch: FetchLimits,
    /// Whether to count what runs.
    #[serde(default)]
    pub coverage: bool,
}

/// An error on its way into or out of JavaScript.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thrown {
    /// To a worker: the text of the `Error`. From one: `Uncaught Error: msg`, without frames.
    pub message: String,
    /// From a worker: V8's stack text with positions in modules, as
    /// `Error: msg\n    at fn (convex:/file.js:L:C)`. The host maps them to TypeScript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// A ConvexError's data, encoded JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum End {
    /// It returned: an action its result, an HTTP action all of its response.
    Returned,
    /// It threw, was stopped, or ran into a limit.
    Threw(Thrown),
    /// HTTP: no route matches.
    NoRoute,
}

/// About the bytes of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Stream {
    /// The next bytes, in the tail: 1 to [`CHUNK_BYTES`].
    Chunk {
        /// Which.
        stream: StreamId,
    },
    /// There are no more.
    End {
        /// Which.
        stream: StreamId,
        /// Why it is not whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// From the receiver: it has consumed bytes, so as many more may be sent.
    Credit {
        /// Which.
        stream: StreamId,
        /// Bytes consumed.
        bytes: u32,
    },
    /// From the receiver: it wants no more. The sender may still end it, and forgets it.
    Stop {
        /// Which.
        stream: StreamId,
    },
}

impl Stream {
    /// Which stream it is about.
    pub fn id(&self) -> StreamId {
        match self {
            Self::Chunk { stream }
            | Self::End { stream, .. }
            | Self::Credit { stream, .. }
            | Self::Stop { stream } => *stream,
        }
    }
}

/// A head and its tail.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<T> {
    /// The message.
    pub head: T,
    /// Its bytes.
    pub tail: Vec<u8>,
}

/// A frame as bytes.
///
/// # Errors
/// A frame longer than [`FRAME_BYTES`].
pub fn encode(head: &impl Serialize, tail: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 8];
    serde_json::to_writer(&mut bytes, head)?;
    let head_length = bytes.len() - 8;
    let length = bytes.len() - 4 + tail.len();
    if length > FRAME_BYTES {
        return Err(broken(format!("a frame of {length} bytes is longer than {FRAME_BYTES}")));
    }
    bytes[..4].copy_from_slice(&(u32::try_from(length).unwrap_or(u32::MAX)).to_le_bytes());
    bytes[4..8].copy_from_slice(&(u32::try_from(head_length).unwrap_or(u32::MAX)).to_le_bytes());
    bytes.extend_from_slice(tail);
    Ok(bytes)
}

/// How many bytes follow the first four of a frame.
///
/// # Errors
/// More than [`FRAME_BYTES`], or fewer than the second length takes.
pub fn body_length(first: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(first) as usize;
    if (4..=FRAME_BYTES).contains(&length) {
        Ok(length)
    } else {
        Err(broken(format!("a frame of {length} bytes")))
    }
}

/// What follows the first four bytes of a frame as a message.
///
/// # Errors
/// A head that is longer than the frame, or no message.
pub fn decode<T: DeserializeOwned>(mut body: Vec<u8>) -> io::Result<Frame<T>> {
    let (length, rest) = body.split_first_chunk::<4>().ok_or_else(|| broken("no head".into()))?;
    let length = u32::from_le_bytes(*length) as usize;
    let head = rest.get(..length).ok_or_else(|| broken("a cut head".into()))?;
    let head = serde_json::from_slice(head)?;
    body.drain(..4 + length);
    Ok(Frame { head, tail: body })
}

/// Writes one frame, blocking.
///
/// # Errors
/// The socket's, or a frame that is too long.
pub fn write(to: &mut impl Write, head: &impl Serialize, tail: &[u8]) -> io::Result<()> {
    to.write_all(&encode(head, tail)?)
}

/// Reads one frame, blocking; `None` when the other side has closed the socket between frames.
///
/// # Errors
/// The socket's, or a frame that breaks a rule.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<Frame<T>>> {
    let mut first = [0; 4];
    match from.read_exact(&mut first) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut body = vec![0; body_length(first)?];
    from.read_exact(&mut body)?;
    decode(body).map(Some)
}

fn broken(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(message: &ToHost, tail: &[u8]) -> Frame<ToHost> {
        let bytes = encode(message, tail).unwrap();
        read(&mut bytes.as_slice()).unwrap().unwrap()
    }

    #[test]
    fn messages_survive_the_way() {
        let messages = [
            ToHost::Ready,
            ToHost::Syscall { run: 1, call: 2, op: "1.0/x".into(), body: Some(StreamId(7)) },
            ToHost::Stream(Stream::Credit { stream: StreamId(3), bytes: 9 }),
            ToHost::Done { run: 1, end: End::Returned },
            ToHost::Done {
                run: 1,
                end: End::Threw(Thrown {
                    message: "é\n".into(),
                    stack: None,
                    data: Some("{}".into()),
                }),
            },
        ];
        for message in messages {
            let frame = there_and_back(&message, b"tail\0");
            assert_eq!((frame.head, frame.tail.as_slice()), (message, &b"tail\0"[..]));
        }
    }

    #[test]
    fn the_wire_form_is_what_other_languages_read() {
        let chunk = ToWorker::Stream(Stream::Chunk { stream: StreamId(5) });
        let bytes = encode(&chunk, b"xy").unwrap();
        let head = br#"{"type":"stream","event":"chunk","stream":5}"#;
        let (length, rest) = bytes.split_at(8);
        assert_eq!(length[..4], u32::to_le_bytes(4 + head.len() as u32 + 2));
        assert_eq!(length[4..], u32::to_le_bytes(head.len() as u32));
        assert_eq!(rest, [&head[..], b"xy"].concat());
        let done = ToHost::Done { run: 1, end: End::NoRoute };
        assert_eq!(
            serde_json::to_string(&done).unwrap(),
            r#"{"type":"done","run":1,"end":{"how":"no_route"}}"#
        );
    }

    #[test]
    fn streams_are_numbered_by_run_and_no_run_reaches_the_numbers_of_the_next() {
        let last = StreamId::of(7, (1 << 20) - 1).unwrap();
        let next = StreamId::of(8, 0).unwrap();
        assert_eq!((last.run(), next.run(), next.0 - last.0), (7, 8, 1));
        let refused = StreamId::of(7, 1 << 20).unwrap_err();
        assert!(refused.contains("may send 1048576 bodies and files"), "{refused}");
    }

    #[test]
    fn frames_that_break_a_rule_are_refused() {
        let good = encode(&ToHost::Ready, b"").unwrap();
        // Closed between frames, and inside of one.
        assert!(read::<ToHost>(&mut &b""[..]).unwrap().is_none());
        assert!(read::<ToHost>(&mut &good[..good.len() - 1]).is_err());
        for bad in [&b"\xff\xff\xff\xff...."[..], b"\x00\x00\x00\x00", b"\x04\0\0\0\x09\0\0\0"] {
            assert!(read::<ToHost>(&mut &bad[..]).is_err(), "{bad:?}");
        }
        assert!(encode(&ToHost::Ready, &vec![0; FRAME_BYTES]).is_err());
    }
}
