//! What a session has to say → frames (`convex-compat.md` section 5.3).
//!
//! In: [`Say`]. Out: text, in chunks where a Transition is so large that it needs them.
//! Invariant: `errorData` is there only for a ConvexError; an answer's text is written once for all
//! the clients that get it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::json;
use database::record::Timestamp;

use super::frames::{Frames, Text, is_shared};
use crate::convex::answer::{error_text, log_lines, string};
use crate::session::{Answer, Changed, Kind, Say, Version};

/// A message that resets the client's patience, and nothing else.
pub(crate) fn ping() -> Frames {
    let mut text = Text::default();
    put(text.end(), r#"{"type":"Ping"}"#);
    text.whole()
}

/// Beyond this many bytes a Transition travels in chunks, as upstream.
const CHUNKED_BYTES: usize = 5_000_000;

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
    pub(crate) fn frames(&self, say: &Say, now: u64) -> Frames {
        let text = self.text(say, now);
        let large = text.len() > CHUNKED_BYTES && matches!(say, Say::Transition { .. });
        if large && self.takes_chunks { text.in_chunks(now) } else { text.whole() }
    }

    fn text(&self, say: &Say, now: u64) -> Text {
        let mut text = Text::default();
        match say {
            Say::Transition { start, end, changes, clock_skew_ms } => {
                put(text.end(), r#"{"type":"Transition","startVersion":"#);
                version(*start, text.end());
                put(text.end(), r#","endVersion":"#);
                version(*end, text.end());
                put(text.end(), r#","modifications":["#);
                for (at, change) in changes.iter().enumerate() {
                    if at > 0 {
                        text.end().push(b',');
                    }
                    self.change(change, &mut text);
                }
                let skew = clock_skew_ms.filter(|skew| skew.is_finite());
                let skew = skew.map_or("null".to_owned(), |skew| skew.to_string());
                let rest = format!(r#"],"clientClockSkew":{skew},"serverTs":{now}}}"#);
                put(text.end(), &rest);
            }
            Say::Response(kind, request, answer, ts) => {
                self.response((*kind, *request), answer, *ts, &mut text);
            }
            Say::AuthError { error, base, attempted } => {
                put(text.end(), r#"{"type":"AuthError","error":"#);
                string(error, text.end());
                let rest = format!(r#","baseVersion":{base},"authUpdateAttempted":{attempted}}}"#);
                put(text.end(), &rest);
            }
            Say::Fatal(error) => {
                put(text.end(), r#"{"type":"FatalError","error":"#);
                string(error, text.end());
                text.end().push(b'}');
            }
        }
        text
    }

    fn change(&self, change: &Changed, text: &mut Text) {
        match change {
            Changed::Removed(query) => {
                put(text.end(), &format!(r#"{{"type":"QueryRemoved","queryId":{query}}}"#));
            }
            Changed::Answered(query, answer) => {
                let kind = if answer.result.is_ok() { "QueryUpdated" } else { "QueryFailed" };
                put(text.end(), &format!(r#"{{"type":"{kind}","queryId":{query}"#));
                if answer.result.as_ref().is_ok_and(|result| is_shared(result)) {
                    self.answered(answer, text);
                } else {
                    put(text.end(), answer.wire.get_or_init(|| self.wire(answer)));
                }
            }
        }
    }

    /// [`Self::answered`], written once for all the clients that get it.
    fn wire(&self, answer: &Answer) -> Arc<str> {
        let mut text = Text::default();
        self.answered(answer, &mut text);
        let written = std::mem::take(text.end());
        String::from_utf8(written).expect("made of texts, and of JSON that serde wrote").into()
    }

    /// What of a query's answer is the same for everybody.
    fn answered(&self, answer: &Answer, text: &mut Text) {
        let name = if answer.result.is_ok() { ",\"value\":" } else { ",\"errorMessage\":" };
        put(text.end(), name);
        self.result(answer, text);
        put(text.end(), r#","journal":"#);
        match &answer.journal {
            Some(journal) => string(journal, text.end()),
            None => put(text.end(), "null"),
        }
        text.end().push(b'}');
    }

    fn response(
        &self,
        (kind, request): (Kind, u32),
        answer: &Answer,
        ts: Timestamp,
        text: &mut Text,
    ) {
        let name = match kind {
            Kind::Mutation => "MutationResponse",
            Kind::Action => "ActionResponse",
        };
        let success = answer.result.is_ok();
        let head = format!(r#"{{"type":"{name}","requestId":{request},"success":{success}"#);
        put(text.end(), &head);
        put(text.end(), r#","result":"#);
        self.result(answer, text);
        match kind {
            Kind::Mutation if success => {
                put(text.end(), &format!(r#","ts":"{}"}}"#, timestamp(ts)));
            }
            Kind::Mutation => put(text.end(), r#","ts":null}"#),
            Kind::Action => text.end().push(b'}'),
        }
    }

    /// The result or the error's text, the log lines, and a ConvexError's data.
    fn result(&self, answer: &Answer, text: &mut Text) {
        match &answer.result {
            Ok(value) => text.share(value),
            Err(error) => string(&error_text(&answer.request_id, error, self.redact), text.end()),
        }
        log_lines(if self.redact { &[] } else { &answer.log_lines }, text.end());
        let data = answer.result.as_ref().err().and_then(|error| error.data.as_ref());
        // Data of ours is valid; should it ever not be, the text alone still is the answer.
        if let Some(data) = data.filter(|data| json::decode(data).is_ok()) {
            put(text.end(), r#","errorData":"#);
            put(text.end(), data);
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
        let frames = Writer::default().frames(&transition("[1]".into()), 42).messages();
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
    fn a_large_transition_travels_in_chunks_to_who_takes_them() {
        let large = format!("\"{}\"", "ü\\n".repeat(1_400_000));
        let whole = Writer::default().frames(&transition(large.clone()), 9).messages();
        assert_eq!(whole.len(), 1, "an old client gets one message");
        let chunked = Writer { takes_chunks: true, ..Writer::default() };
        let chunks = chunked.frames(&transition(large), 9).messages();
        assert_eq!(chunks.len(), 6);
        let text: String = chunks
            .iter()
            .map(|chunk| {
                let chunk: Value = serde_json::from_str(chunk).unwrap();
                assert_eq!(
                    (&chunk["type"], &chunk["transitionId"]),
                    (&"TransitionChunk".into(), &"9".into())
                );
                chunk["chunk"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(text, whole[0]);
        assert_eq!(chunked.frames(&transition("1".into()), 9).messages().len(), 1);
    }

    #[test]
    fn responses_and_errors() {
        let writer = Writer::default();
        let say = Say::Response(Kind::Mutation, 4, answer(Ok("null".into())), Timestamp(0));
        let expected = concat!(
            r#"{"type":"MutationResponse","requestId":4,"success":true,"#,
            r#""result":null,"logLines":[],"ts":"AAAAAAAAAAA="}"#,
        );
        assert_eq!(writer.frames(&say, 0).messages(), [expected]);
        let error = |data: Option<&str>| {
            answer(Err(FunctionError { message: "no".into(), data: data.map(Into::into) }))
        };
        let say = Say::Response(Kind::Mutation, 4, error(None), Timestamp(5));
        let expected = concat!(
            r#"{"type":"MutationResponse","requestId":4,"success":false,"#,
            r#""result":"[Request ID: ff] Server Error\nno","logLines":[],"ts":null}"#,
        );
        assert_eq!(writer.frames(&say, 0).messages(), [expected]);
        let say = Say::Response(Kind::Action, 4, error(Some("{\"a\":1}")), Timestamp(5));
        let redacting = Writer { redact: true, ..writer };
        let expected = concat!(
            r#"{"type":"ActionResponse","requestId":4,"success":false,"#,
            r#""result":"[Request ID: ff] Server Error","logLines":[],"errorData":{"a":1}}"#,
        );
        assert_eq!(redacting.frames(&say, 0).messages(), [expected]);
        let say = Say::AuthError { error: "old".into(), base: 1, attempted: false };
        let expected =
            r#"{"type":"AuthError","error":"old","baseVersion":1,"authUpdateAttempted":false}"#;
        assert_eq!(writer.frames(&say, 0).messages(), [expected]);
        let expected = r#"{"type":"FatalError","error":"\""}"#;
        assert_eq!(writer.frames(&Say::Fatal("\"".into()), 0).messages(), [expected]);
    }
}
