//! What a session has to say → frames (`convex-compat.md` section 5.3).
//!
//! In: [`Say`]. Out: text frames; several, where a Transition is so large that it needs chunks.
//! Invariant: `errorData` is there only for a ConvexError; an answer's text is written once for all
//! the clients that get it, and copied into each one's frame.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::json;
use database::record::Timestamp;

use crate::convex::answer::{error_text, log_lines, string};
use crate::session::{Answer, Changed, Kind, Say, Version};

/// Resets the client's patience, and nothing else.
pub(crate) const PING: &str = r#"{"type":"Ping"}"#;

/// Beyond this many bytes a Transition travels in chunks, as upstream.
const CHUNKED_BYTES: usize = 5_000_000;
/// Bytes of one chunk: small enough that a slow line shows progress.
const CHUNK_BYTES: usize = 1_000_000;

/// How one client is written to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Writer {
    /// Whether texts and log lines of functions stay on this side.
    pub(crate) redact: bool,
    /// Whether it puts Transitions together from chunks.
    pub(crate) takes_chunks: bool,
}

impl Writer {
    /// The frames of a message, sent at the time `now`, nanoseconds since the Unix epoch.
    pub(crate) fn frames(&self, say: &Say, now: u64) -> Vec<String> {
        let body = self.body(say, now);
        let text = String::from_utf8(body).expect("made of texts, and of JSON that serde wrote");
        let large = text.len() > CHUNKED_BYTES && matches!(say, Say::Transition { .. });
        if large && self.takes_chunks { chunks(&text, now) } else { vec![text] }
    }

    fn body(&self, say: &Say, now: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match say {
            Say::Transition { start, end, changes, clock_skew_ms } => {
                out.extend_from_slice(br#"{"type":"Transition","startVersion":"#);
                version(*start, &mut out);
                out.extend_from_slice(br#","endVersion":"#);
                version(*end, &mut out);
                out.extend_from_slice(br#","modifications":["#);
                for (at, change) in changes.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.change(change, &mut out);
                }
                let skew = clock_skew_ms.filter(|skew| skew.is_finite());
                let skew = skew.map_or("null".to_owned(), |skew| skew.to_string());
                put(&mut out, &format!(r#"],"clientClockSkew":{skew},"serverTs":{now}}}"#));
            }
            Say::Response(kind, request, answer, ts) => {
                self.response((*kind, *request), answer, *ts, &mut out);
            }
            Say::AuthError { error, base, attempted } => {
                out.extend_from_slice(br#"{"type":"AuthError","error":"#);
                string(error, &mut out);
                let rest = format!(r#","baseVersion":{base},"authUpdateAttempted":{attempted}}}"#);
                put(&mut out, &rest);
            }
            Say::Fatal(error) => {
                out.extend_from_slice(br#"{"type":"FatalError","error":"#);
                string(error, &mut out);
                out.push(b'}');
            }
        }
        out
    }

    fn change(&self, change: &Changed, out: &mut Vec<u8>) {
        match change {
            Changed::Removed(query) => {
                put(out, &format!(r#"{{"type":"QueryRemoved","queryId":{query}}}"#));
            }
            Changed::Answered(query, answer) => {
                let kind = if answer.result.is_ok() { "QueryUpdated" } else { "QueryFailed" };
                put(out, &format!(r#"{{"type":"{kind}","queryId":{query}"#));
                put(out, answer.wire.get_or_init(|| self.answered(answer)));
            }
        }
    }

    /// What of a query's answer is the same for everybody.
    fn answered(&self, answer: &Answer) -> Arc<str> {
        let mut out = Vec::new();
        let name = if answer.result.is_ok() { ",\"value\":" } else { ",\"errorMessage\":" };
        put(&mut out, name);
        self.result(answer, &mut out);
        out.extend_from_slice(br#","journal":"#);
        match &answer.journal {
            Some(journal) => string(journal, &mut out),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
        let text = String::from_utf8(out).expect("made of texts, and of JSON that serde wrote");
        text.into()
    }

    fn response(
        &self,
        (kind, request): (Kind, u32),
        answer: &Answer,
        ts: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let name = match kind {
            Kind::Mutation => "MutationResponse",
            Kind::Action => "ActionResponse",
        };
        let success = answer.result.is_ok();
        let head = r#""requestId":"#;
        put(out, &format!(r#"{{"type":"{name}",{head}{request},"success":{success},"result":"#));
        self.result(answer, out);
        match kind {
            Kind::Mutation if success => put(out, &format!(r#","ts":"{}"}}"#, timestamp(ts))),
            Kind::Mutation => put(out, r#","ts":null}"#),
            Kind::Action => out.push(b'}'),
        }
    }

    /// The result or the error's text, the log lines, and a ConvexError's data.
    fn result(&self, answer: &Answer, out: &mut Vec<u8>) {
        match &answer.result {
            Ok(value) => put(out, value),
            Err(error) => string(&error_text(&answer.request_id, error, self.redact), out),
        }
        log_lines(if self.redact { &[] } else { &answer.log_lines }, out);
        let data = answer.result.as_ref().err().and_then(|error| error.data.as_ref());
        // Data of ours is valid; should it ever not be, the text alone still is the answer.
        if let Some(data) = data.filter(|data| json::decode(data).is_ok()) {
            put(out, r#","errorData":"#);
            put(out, data);
        }
    }
}

/// The wire form of a timestamp: base64 of eight bytes, the lowest first.
pub(crate) fn timestamp(ts: Timestamp) -> String {
    STANDARD.encode(ts.0.to_le_bytes())
}

fn version(version: Version, out: &mut Vec<u8>) {
    let Version { query_set, identity, ts } = version;
    let ts = timestamp(ts);
    put(out, &format!(r#"{{"querySet":{query_set},"identity":{identity},"ts":"{ts}"}}"#));
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Cuts a Transition's text into pieces that each travel as a JSON string.
fn chunks(text: &str, now: u64) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(CHUNK_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let total = pieces.len();
    let frame = |(part, piece): (usize, &str)| {
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 4);
        put(&mut out, r#"{"type":"TransitionChunk","chunk":"#);
        string(piece, &mut out);
        let id = format!(r#","transitionId":"{now}"}}"#);
        put(&mut out, &format!(r#","partNumber":{part},"totalParts":{total}{id}"#));
        String::from_utf8(out).expect("made of texts, and of JSON that serde wrote")
    };
    pieces.into_iter().enumerate().map(frame).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use database::record::FunctionError;
    use serde_json::Value;

    use super::*;

    fn answer(result: Result<String, FunctionError>) -> Arc<Answer> {
        Arc::new(Answer {
            result: result.map(Arc::from),
            log_lines: [].into(),
            journal: Some("\"end\"".into()),
            request_id: "ff".into(),
            digest: [0; 16],
            wire: OnceLock::new(),
        })
    }

    fn transition(result: String) -> Say {
        let changes = vec![Changed::Answered(7, answer(Ok(result))), Changed::Removed(3)];
        let end = Version { query_set: 1, identity: 2, ts: Timestamp(1_700_000_000_000_000_000) };
        let start = Version::default();
        Say::Transition { start, end, changes, clock_skew_ms: Some(-1.5) }
    }

    #[test]
    fn a_transition() {
        let frames = Writer::default().frames(&transition("[1]".into()), 42);
        let expected = concat!(
            r#"{"type":"Transition","#,
            r#""startVersion":{"querySet":0,"identity":0,"ts":"AAAAAAAAAAA="},"#,
            r#""endVersion":{"querySet":1,"identity":2,"ts":"AAAqNv6clxc="},"modifications":["#,
            r#"{"type":"QueryUpdated","queryId":7,"value":[1],"logLines":[],"#,
            r#""journal":"\"end\""},{"type":"QueryRemoved","queryId":3}],"#,
            r#""clientClockSkew":-1.5,"serverTs":42}"#,
        );
        assert_eq!(frames, [expected]);
    }

    #[test]
    fn a_large_transition_travels_in_chunks() {
        let large = format!("\"{}\"", "ü\\n".repeat(1_400_000));
        let whole = Writer::default().frames(&transition(large.clone()), 9);
        assert_eq!(whole.len(), 1, "an old client gets one frame");
        let chunked = Writer { takes_chunks: true, ..Writer::default() };
        let frames = chunked.frames(&transition(large), 9);
        assert!(frames.len() > 5);
        let mut text = String::new();
        for (part, frame) in frames.iter().enumerate() {
            let chunk: Value = serde_json::from_str(frame).unwrap();
            assert_eq!(chunk["type"], "TransitionChunk");
            assert_eq!(
                (&chunk["partNumber"], &chunk["totalParts"]),
                (&part.into(), &frames.len().into())
            );
            assert_eq!(chunk["transitionId"], "9");
            text.push_str(chunk["chunk"].as_str().unwrap());
        }
        assert_eq!(text, whole[0]);
        assert_eq!(chunked.frames(&transition("1".into()), 9).len(), 1);
    }

    #[test]
    fn responses_and_errors() {
        let writer = Writer::default();
        let say = Say::Response(Kind::Mutation, 4, answer(Ok("null".into())), Timestamp(0));
        let expected = concat!(
            r#"{"type":"MutationResponse","requestId":4,"success":true,"#,
            r#""result":null,"logLines":[],"ts":"AAAAAAAAAAA="}"#,
        );
        assert_eq!(writer.frames(&say, 0), [expected]);
        let error = |data: Option<&str>| {
            answer(Err(FunctionError { message: "no".into(), data: data.map(Into::into) }))
        };
        let say = Say::Response(Kind::Mutation, 4, error(None), Timestamp(5));
        let expected = concat!(
            r#"{"type":"MutationResponse","requestId":4,"success":false,"#,
            r#""result":"[Request ID: ff] Server Error\nno","logLines":[],"ts":null}"#,
        );
        assert_eq!(writer.frames(&say, 0), [expected]);
        let say = Say::Response(Kind::Action, 4, error(Some("{\"a\":1}")), Timestamp(5));
        let redacting = Writer { redact: true, ..writer };
        let expected = concat!(
            r#"{"type":"ActionResponse","requestId":4,"success":false,"#,
            r#""result":"[Request ID: ff] Server Error","logLines":[],"errorData":{"a":1}}"#,
        );
        assert_eq!(redacting.frames(&say, 0), [expected]);
        let say = Say::AuthError { error: "old".into(), base: 1, attempted: false };
        let expected =
            r#"{"type":"AuthError","error":"old","baseVersion":1,"authUpdateAttempted":false}"#;
        assert_eq!(writer.frames(&say, 0), [expected]);
        let expected = r#"{"type":"FatalError","error":"\""}"#;
        assert_eq!(writer.frames(&Say::Fatal("\"".into()), 0), [expected]);
    }
}
