//! What a terminal is told: one event per finished call and per push.
//!
//! In: outcomes and refusals. Out: plain data for whoever set the hook.
//! Invariant: without a hook nothing is measured, cloned or allocated for it.

use std::sync::Arc;

use database::commit::Conflict;
use database::record::{FunctionKind, LogLine, Timestamp, Usage};

/// The hook. Runs on the thread that answers the request, so it must not block.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Something finished.
#[derive(Clone, Debug)]
pub enum Event {
    /// A query, mutation or action came to its end, or was refused.
    Call(CallEvent),
    /// A push was finished, or failed.
    Push(PushEvent),
}

/// One finished call.
#[derive(Clone, Debug)]
pub struct CallEvent {
    /// Names the call in logs and errors.
    pub request_id: Arc<str>,
    /// `dir/mod:fn`.
    pub path: String,
    /// What it turned out to be; `None` when it never ran.
    pub kind: Option<FunctionKind>,
    /// From the parsed request to the answer, nanoseconds.
    pub duration_ns: u64,
    /// Whether the query cache answered.
    pub cached: bool,
    /// The function's error, or why the host refused.
    pub error: Option<String>,
    /// For a query that ran again because of somebody's write: which one, in one sentence.
    pub cause: Option<String>,
    /// The conflicts that made it run again, oldest first.
    pub conflicts: Vec<Conflict>,
    /// Console lines, in order.
    pub log_lines: Arc<[LogLine]>,
    /// Counted work.
    pub usage: Usage,
}

/// One push, at its end.
#[derive(Clone, Debug)]
pub struct PushEvent {
    /// Code version, shortened; empty where analysis did not get that far.
    pub version: String,
    /// How many functions it registers.
    pub functions: usize,
    /// Of the request that ended it, nanoseconds.
    pub duration_ns: u64,
    /// When it became the running deployment, or why it did not.
    pub result: Result<Timestamp, String>,
    /// Whether it was the deployment that is running already.
    pub unchanged: bool,
    /// Things the author should know that did not fail the push.
    pub warnings: Vec<String>,
}
