//! The last calls, each with what it takes to run it again: `GET /api/concave/calls`.
//!
//! In: calls that came to their end. Out: for the operator, recordings: what went in, what came
//! out, what was read and written.
//! Invariant: memory is bounded by the limits table; a call costs the entry and no text is copied
//! before somebody asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use database::limits::{CALL_RECORD_BYTES, CALLS, CALLS_BYTES};
use database::record::{CallRecord, FunctionError, FunctionKind, LogLine, Outcome, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::host::Host;
use crate::refusal::Failure;
use crate::{convex, recording, request};

/// How many are shown where nobody says.
const SHOWN: usize = 20;

/// The last calls of a host.
#[derive(Default)]
pub(crate) struct Calls {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    calls: VecDeque<Arc<Recorded>>,
    bytes: u64,
    /// Of the newest one; numbers are never used again.
    newest: u64,
}

/// One call that came to its end.
pub(crate) struct Recorded {
    /// Names it on this host: 1, 2, 3, …
    pub(crate) number: u64,
    /// What went in; what the host decided is in the outcome.
    pub(crate) record: Arc<CallRecord>,
    /// What came out.
    pub(crate) outcome: Outcome,
    /// When it began, nanoseconds since the Unix epoch.
    pub(crate) begun: u64,
    /// Until the answer, nanoseconds.
    pub(crate) duration_ns: u64,
    /// Bytes of what was too much to keep of it.
    pub(crate) omitted: Option<u64>,
    bytes: u64,
}

#[derive(Deserialize)]
struct Asked {
    n: Option<usize>,
    id: Option<u64>,
    /// Part of a function's name.
    function: Option<String>,
    outcome: Option<Ended>,
    /// The request that it came with.
    request: Option<String>,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ended {
    Success,
    Error,
}

/// `GET /api/concave/calls?n=20&function=&outcome=&request=`, newest first; or `?id=17`.
pub(crate) async fn calls(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let asked: Asked = request::parameters(&head.uri)?;
    let found = match asked.id {
        Some(id) => vec![host.calls.find(id).ok_or_else(|| host.calls.unknown(id))?],
        None => host.calls.newest(asked.n.unwrap_or(SHOWN), |call| asked.wants(call)),
    };
    let shown: Vec<_> = found.iter().map(|call| recording::of(&host, call)).collect();
    Ok(convex::json(json!({ "calls": shown }).to_string()))
}

impl Asked {
    fn wants(&self, call: &Recorded) -> bool {
        let ended = if call.outcome.result.is_ok() { Ended::Success } else { Ended::Error };
        let name = || call.record.path.identifier();
        self.outcome.is_none_or(|wanted| wanted == ended)
            && self.request.as_ref().is_none_or(|wanted| **wanted == *call.record.request_id)
            && self.function.as_ref().is_none_or(|wanted| name().contains(wanted.as_str()))
    }
}

impl Calls {
    /// Keeps a call that began at `begun`, and says by which number.
    pub(crate) fn add(
        &self,
        record: &Arc<CallRecord>,
        outcome: &Outcome,
        begun: u64,
        duration_ns: u64,
    ) -> u64 {
        let size = variable_bytes(record, outcome);
        let is_large = size > CALL_RECORD_BYTES;
        let (record, outcome) = match is_large {
            true => (Arc::new(shortened(record)), without_texts(outcome)),
            false => (Arc::clone(record), outcome.clone()),
        };
        // A record counts its arguments itself.
        let fixed = size_of::<Recorded>() + record.bytes() - record.args.len();
        let texts = variable_bytes(&record, &outcome);
        let bytes = (fixed + outcome.reads.bytes()) as u64 + texts;
        let omitted = is_large.then_some(size);
        let mut kept = self.kept();
        kept.newest += 1;
        let number = kept.newest;
        let call = Recorded { number, record, outcome, begun, duration_ns, omitted, bytes };
        kept.calls.push_back(Arc::new(call));
        kept.bytes += bytes;
        while (kept.calls.len() as u64 > CALLS || kept.bytes > CALLS_BYTES)
            && kept.calls.len() > 1
            && let Some(oldest) = kept.calls.pop_front()
        {
            kept.bytes -= oldest.bytes;
        }
        number
    }

    /// Memory of what is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// The number of the call that committed at `ts`.
    pub(crate) fn of_commit(&self, ts: Timestamp) -> Option<u64> {
        let is_it = |call: &&Arc<Recorded>| {
            let outcome = &call.outcome;
            outcome.ts == ts && outcome.kind == FunctionKind::Mutation && !outcome.cached
        };
        self.kept().calls.iter().rev().find(is_it).map(|call| call.number)
    }

    fn find(&self, number: u64) -> Option<Arc<Recorded>> {
        let kept = self.kept();
        let at = kept.calls.binary_search_by_key(&number, |call| call.number).ok()?;
        Some(Arc::clone(&kept.calls[at]))
    }

    fn newest(&self, count: usize, wanted: impl Fn(&Recorded) -> bool) -> Vec<Arc<Recorded>> {
        let calls: Vec<_> = self.kept().calls.iter().cloned().collect();
        calls.into_iter().rev().filter(|call| wanted(call)).take(count).collect()
    }

    fn unknown(&self, number: u64) -> Failure {
        let kept = self.kept();
        let range = match (kept.calls.front(), kept.calls.back()) {
            (Some(oldest), Some(newest)) => {
                format!("it keeps {} to {}", oldest.number, newest.number)
            }
            _ => "nothing was called yet".to_owned(),
        };
        let message = format!(
            "This host keeps no call {number}: {range}. It forgets the oldest, and all when it \
             stops; `concave calls` lists them. `concave calls ID --json > call.json` keeps one."
        );
        Failure::new(StatusCode::BAD_REQUEST, "UnknownCall", message)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing of anybody else's runs under this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the texts of a call, which its caller and its author decide.
fn variable_bytes(record: &CallRecord, outcome: &Outcome) -> u64 {
    let result = match &outcome.result {
        Ok(text) => text.len(),
        Err(FunctionError { message, data }) => {
            message.len() + data.as_ref().map_or(0, String::len)
        }
    };
    let line = |line: &LogLine| {
        size_of::<LogLine>() + line.messages.iter().map(|text| 24 + text.len()).sum::<usize>()
    };
    let lines = outcome.log_lines.iter().map(line).sum::<usize>();
    (record.args.len() + result + lines) as u64
}

/// Without its arguments.
fn shortened(record: &CallRecord) -> CallRecord {
    CallRecord { args: "[]".into(), ..record.clone() }
}

/// Without result, log lines and reads.
fn without_texts(outcome: &Outcome) -> Outcome {
    let result = match &outcome.result {
        Ok(_) => Ok("null".into()),
        Err(error) => {
            let message = error.message.lines().next().unwrap_or_default();
            let message = message.chars().take(200).collect();
            Err(FunctionError { message, data: None })
        }
    };
    let (log_lines, reads) = (Arc::from([]), Arc::default());
    Outcome { result, log_lines, reads, ..outcome.clone() }
}

#[cfg(test)]
mod tests {
    use database::record::{Arguments, Call, Caller, Expect, FunctionPath, Given, Identity};

    use super::*;

    fn record(args: &str) -> Arc<CallRecord> {
        let path = FunctionPath::parse("shop:buy").unwrap();
        let call = Call {
            args: Arguments::parse(&path, args).unwrap(),
            path,
            expect: Expect::Any,
            identity: Identity::Anonymous,
            caller: Caller::SyncWorker,
            request_id: "1f".into(),
            at: None,
            journal: None,
            once: None,
            job: None,
        };
        Arc::new(CallRecord::new(&call, &Given::default()))
    }

    fn outcome() -> Outcome {
        Outcome::of_nothing(Given::default())
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let calls = Calls::default();
        for _ in 0..CALLS + 5 {
            calls.add(&record("{}"), &outcome(), 1, 1);
        }
        assert!(calls.find(5).is_none() && calls.find(6).is_some());
        assert_eq!(calls.newest(usize::MAX, |_| true).len() as u64, CALLS);
        let text = calls.unknown(5).message;
        assert!(text.contains(&format!("it keeps 6 to {}", CALLS + 5)), "{text}");
    }

    #[test]
    fn large_calls_push_out_others_and_huge_ones_are_only_named() {
        let calls = Calls::default();
        let with = |bytes: u64| {
            let text = "x".repeat(usize::try_from(bytes).unwrap());
            record(&format!("{{\"x\":\"{text}\"}}"))
        };
        let large = with(CALL_RECORD_BYTES - 100);
        for _ in 0..100 {
            calls.add(&large, &outcome(), 1, 1);
        }
        let kept = calls.newest(usize::MAX, |_| true);
        assert!((4..=8).contains(&kept.len()), "{} are kept", kept.len());
        assert!(calls.bytes() <= CALLS_BYTES);
        let number = calls.add(&with(CALL_RECORD_BYTES), &outcome(), 1, 1);
        let huge = calls.find(number).unwrap();
        assert!(huge.omitted.is_some_and(|bytes| bytes > CALL_RECORD_BYTES));
        assert_eq!(&*huge.record.args, "[]");
        assert!(huge.bytes < 10_000, "{}", huge.bytes);
    }
}
