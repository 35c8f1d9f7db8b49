//! What a terminal is told: one event per finished call, HTTP action and push.
//!
//! In: outcomes and refusals. Out: plain data for the log and for whoever set the hook.
//! Invariant: an event holds no more than a path's text and what the outcome shares already.

use std::sync::{Arc, OnceLock, Weak};

use database::commit::Conflict;
use database::error::Refusal;
use database::record::{
    Call, CallRecord, Caller, FunctionKind, Given, Identity, LogLine, Outcome, Timestamp,
};
use database::work::Usage;

use crate::host::Host;
use crate::invariants::Finding;
use crate::subscriber::Live;

/// The hook. Runs on the thread that answers the request, so it must not block.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Where warnings go. They are few.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

/// Something finished.
#[derive(Clone, Debug)]
pub enum Event {
    /// A query, mutation or action came to its end, or was refused.
    Call(CallEvent),
    /// An HTTP action came to its end, or its client left.
    HttpAction(HttpActionEvent),
    /// An action that still runs, or an HTTP action, has logged a line.
    Progress(ProgressEvent),
    /// A push was finished, or failed.
    Push(PushEvent),
    /// An invariant does not hold any more, or holds again.
    Invariant(InvariantEvent),
}

/// News of an invariant.
#[derive(Clone, Debug)]
pub struct InvariantEvent {
    /// What.
    pub finding: Finding,
    /// The number of the call that brought it about, for `concave replay`.
    pub call: Option<u64>,
}

/// One console line of an action that goes on.
#[derive(Clone, Debug)]
pub struct ProgressEvent {
    /// Names the action in logs and errors.
    pub request_id: Arc<str>,
    /// `dir/mod:fn` of an action, `GET /path` of an HTTP action.
    pub path: String,
    /// The component that it belongs to; the app's path is empty.
    pub component: Arc<str>,
    /// Whether it is an HTTP action.
    pub is_http: bool,
    /// The line.
    pub line: LogLine,
}

/// One finished request to `http.ts`.
#[derive(Clone, Debug)]
pub struct HttpActionEvent {
    /// Names the request in logs and errors.
    pub request_id: Arc<str>,
    /// `GET`, `POST`, …
    pub method: String,
    /// The path asked for.
    pub path: String,
    /// The route that answered, as `http.ts` names it: `/path` or `/prefix/*`.
    pub route: Option<String>,
    /// What the client was answered; `None` when it left before.
    pub status: Option<u16>,
    /// From the request's head to the end of its handler, nanoseconds.
    pub duration_ns: u64,
    /// The handler's error, or why the response was cut.
    pub error: Option<String>,
    /// Console lines, in order.
    pub log_lines: Arc<[LogLine]>,
}

/// One finished call.
#[derive(Clone, Debug)]
pub struct CallEvent {
    /// Names the call in logs and errors.
    pub request_id: Arc<str>,
    /// `dir/mod:fn`.
    pub path: String,
    /// The component that it belongs to; the app's path is empty.
    pub component: Arc<str>,
    /// What it turned out to be; `None` when it never ran.
    pub kind: Option<FunctionKind>,
    /// Through which door it came.
    pub caller: Caller,
    /// Who called, as Convex's logs spell it.
    pub identity_type: &'static str,
    /// Whether a commit made a followed query run again.
    pub rerun: bool,
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
    /// What the operator should know about how it ran.
    pub remark: Option<Arc<str>>,
    /// Console lines, in order.
    pub log_lines: Arc<[LogLine]>,
    /// Counted work.
    pub usage: Usage,
}

/// What there is to say about a call before it has run.
pub(crate) struct Told {
    /// Names the call.
    pub(crate) request_id: Arc<str>,
    /// Through which door it came.
    pub(crate) caller: Caller,
    /// Who called.
    pub(crate) identity_type: &'static str,
    /// Whether it ran before for the same follower.
    pub(crate) rerun: bool,
    /// The answer that a commit ended, where that made it run again.
    pub(crate) cause: Option<Arc<Live>>,
    /// What it takes to run it again; `None` for what is no function of the author.
    pub(crate) record: Option<Arc<CallRecord>>,
    /// When it began, nanoseconds since the Unix epoch.
    pub(crate) begun: u64,
    /// `dir/mod:fn`.
    pub(crate) path: String,
    /// The component that it belongs to; the app's path is empty.
    pub(crate) component: Arc<str>,
}

impl Told {
    /// Of a call that begins now, for the first time.
    pub(crate) fn of(host: &Host, call: &Call) -> Self {
        Self {
            request_id: Arc::clone(&call.request_id),
            caller: call.caller,
            identity_type: identity_type(&call.identity),
            rerun: false,
            cause: None,
            record: Some(recorded(call)),
            begun: host.stopwatch(),
            path: call.path.identifier(),
            component: Arc::clone(&call.path.component),
        }
    }

    /// Tells the hook how it ended.
    pub(crate) fn tell(self, host: &Host, outcome: &Result<Outcome, Refusal>) {
        if let Ok(Outcome { retries, .. }) = outcome {
            host.why.retried(retries);
        }
        let cause = self.cause.as_ref().and_then(|ended| ended.why().zip(ended.reader()));
        if let Some((why, reader)) = cause {
            host.why.invalidated(reader.clone(), why);
        }
        let ran = outcome.as_ref().ok();
        let duration_ns = host.elapsed(self.begun);
        if let (Some(record), Some(outcome)) = (&self.record, ran) {
            host.calls.add(record, outcome, self.begun, duration_ns);
        }
        let new = ran.filter(|outcome| !outcome.cached);
        let remark = new.and_then(|outcome| outcome.remark.clone());
        if let (Some(remark), None) = (&remark, &host.config.events) {
            (host.config.warn)(remark);
        }
        let error = match outcome {
            Ok(outcome) => outcome.result.as_ref().err().map(|error| error.message.clone()),
            Err(refusal) => Some(refusal.to_string()),
        };
        host.tell(Event::Call(CallEvent {
            request_id: self.request_id,
            path: self.path,
            component: self.component,
            kind: ran.map(|outcome| outcome.kind),
            caller: self.caller,
            identity_type: self.identity_type,
            rerun: self.rerun,
            duration_ns,
            cached: ran.is_some_and(|outcome| outcome.cached),
            error,
            cause: cause.map(|(why, reader)| why.cause(&reader.function)),
            conflicts: ran.map(|outcome| outcome.retries.clone()).unwrap_or_default(),
            remark,
            log_lines: ran.map_or_else(|| Arc::from([]), |outcome| outcome.log_lines.clone()),
            usage: ran.map(|outcome| outcome.usage).unwrap_or_default(),
        }));
    }
}

/// What went into a call, for whoever runs it again; what the host decides comes with its outcome.
pub(crate) fn recorded(call: &Call) -> Arc<CallRecord> {
    Arc::new(CallRecord::new(call, &Given::default()))
}

/// Where those tell who run actions: of the calls that no client makes, those of functions that an
/// action calls, and of lines that it logs.
#[derive(Default)]
pub struct InnerCalls(OnceLock<Weak<Host>>);

/// One of them, on its way.
pub struct InnerCall(Option<(Arc<Host>, Told)>);

impl InnerCalls {
    /// Connects it to a host. Once: a second host would get nothing.
    pub(crate) fn connect(&self, host: &Arc<Host>) {
        let _ = self.0.set(Arc::downgrade(host));
    }

    /// Tells of a line.
    pub fn progress(&self, event: ProgressEvent) {
        if let Some(host) = self.0.get().and_then(Weak::upgrade) {
            host.tell(Event::Progress(event));
        }
    }

    /// Takes note of a call that begins.
    pub fn begin(&self, call: &Call) -> InnerCall {
        let host = self.0.get().and_then(Weak::upgrade);
        InnerCall(host.map(|host| {
            let told = Told::of(&host, call);
            (host, told)
        }))
    }
}

impl InnerCall {
    /// Tells of its end.
    pub fn end(self, outcome: &Result<Outcome, Refusal>) {
        if let Some((host, told)) = self.0 {
            told.tell(&host, outcome);
        }
    }
}

/// Who calls, in the words of Convex's logs.
pub(crate) fn identity_type(identity: &Identity) -> &'static str {
    match identity {
        Identity::Anonymous => "unknown",
        Identity::User(_) => "user",
        Identity::Admin => "instance_admin",
        Identity::ActingAs(_) => "member_acting_user",
        Identity::System => "system",
    }
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
