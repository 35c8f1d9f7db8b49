//! The server: protocols in, [`Call`](database::record::Call)s out, answers back.
//!
//! In: HTTP requests of Convex clients and of the CLI. Out: calls through the one seam
//! [`Functions`], deployments activated through the same seam, and JSON.
//! Invariant: this crate knows no V8 and holds no documents: all that it remembers between two
//! requests is bounded, and can be lost: pushes, imports and exports under way, the last calls and
//! log lines, public keys of identity providers.
//!
//! ```text
//! connections.rs  before stop 1: connections: how many, and how long they may be silent
//! http.rs       Stop 1: sockets, routes, CORS, shutdown
//! socket.rs     Stop 1: one WebSocket client: frames in, frames out, timers
//! upgrade.rs    from an HTTP request to a WebSocket
//! inbound.rs    a client's bytes → messages; unsent.rs: what is on its way to a client
//! session.rs    Stop 2: the same client as a state machine
//! round.rs      the queries of a session, at one timestamp
//! subscriber.rs Stop 8: who relies on which result, and is told when it ends
//! files.rs      stored files, outside of functions; reading.rs: their bytes on the way out
//! pins.rs       which of their bytes must stay, and whose names are taken
//! fork.rs       another host of the same moment, in this process
//! copy.rs       a whole deployment as a stream
//! archive/      backups: a snapshot ⇄ a zip, files of rows
//! http_action.rs  the seam to HTTP actions
//! scheduler.rs  runs what is due: scheduled functions and cron jobs
//! crons.rs      what the schedules of cron jobs mean
//! request.rs    bytes → typed request, with errors that name the line or the field
//! strict.rs     JSON as types, where an array is no object
//! auth.rs       who calls: the admin key, users' tokens (auth/)
//! admission.rs  while memory is short: new work is turned away
//! stats.rs      where memory and time go, for the operator and for Prometheus
//! host.rs       what every handler needs: database, functions, configuration, request ids
//! refusal.rs    an error → status, code and message
//! essential.rs  the threads and tasks without which a host ends
//! event.rs      what the terminal is told about each call and push
//! logs.rs       what functions did lately, for whoever tails
//! why.rs        why calls ran again, for the operator
//! history.rs    who wrote each version of a document, for the operator
//! calls.rs      the last calls; recording.rs: each as JSON; replay.rs: runs one again
//! invariants.rs queries that must hold after every commit
//! inspect.rs    runs one again with a debugger
//! convex/       everything that exists only because Convex's clients expect it
//! ```
#![forbid(unsafe_code)]

mod admission;
mod archive;
mod auth;
mod calls;
mod connections;
mod convex;
mod copy;
mod crons;
pub mod essential;
mod event;
mod files;
mod fork;
mod history;
mod host;
mod http;
mod http_action;
mod inbound;
mod inspect;
mod invariants;
mod logs;
mod pins;
mod reading;
mod recording;
mod refusal;
mod replay;
mod request;
mod round;
mod scheduler;
mod session;
mod socket;
mod stats;
mod strict;
mod subscriber;
#[cfg(test)]
mod tests;
mod unsent;
mod upgrade;
mod why;

use std::sync::Arc;
use std::time::Duration;

use database::commit::Database;
use database::record::{Functions, World};

pub use crons::Schedule;
pub use event::{
    CallEvent, Event, Events, HttpActionEvent, InnerCall, InnerCalls, InvariantEvent,
    ProgressEvent, PushEvent, Warn,
};
pub use files::{FileError, Files, Outgoing, Promised, parse_sha256};
pub use fork::{Forked, Forks, Later, Origin};
pub use http::{Gate, Listeners, Routes, Stopped, serve};
pub use http_action::{
    Answering, Body, Content, Gone, HttpActions, HttpEnd, HttpFailure, HttpRequest, HttpResponse,
};
pub use invariants::{Finding, Invariants, Violation};
pub use stats::{Disk, Measure, Measured};

/// What a server serves, and how.
pub struct Server {
    /// The data, for snapshots, schema checks and the operator's look at tables.
    pub database: Arc<Database>,
    /// The door to functions.
    pub functions: Arc<dyn Functions>,
    /// The door to HTTP actions.
    pub http_actions: Arc<dyn HttpActions>,
    /// Stored files.
    pub files: Arc<Files>,
    /// The operator's choices.
    pub config: ServerConfig,
}

/// The operator's choices.
#[derive(Clone)]
pub struct ServerConfig {
    /// The secret of the operator. Opaque, without `:` (Convex's clients put an identity after it).
    pub admin_key: String,
    /// Name of the deployment, as `/instance_name` answers it.
    pub instance_name: String,
    /// Origin of the API, `http://127.0.0.1:3210`; functions see it as `CONVEX_CLOUD_URL`.
    pub cloud_origin: String,
    /// Origin of HTTP actions; functions see it as `CONVEX_SITE_URL`.
    pub site_origin: String,
    /// Whether clients get `Server Error` alone: no message, no log lines.
    pub redact: bool,
    /// Where time and randomness come from.
    pub world: Arc<dyn World>,
    /// Told about every finished call and push.
    pub events: Option<Events>,
    /// Told what the operator must know at once, in one sentence or two.
    pub warn: Warn,
    /// Where those who run actions tell of the functions that these call.
    pub inner: Arc<InnerCalls>,
    /// How long requests in flight may take to finish after the signal to stop.
    pub drain: Duration,
    /// Bytes of bodies that requests in flight may hold together.
    pub body_bytes: u64,
    /// Measures the process; `None`: nobody knows what it takes.
    pub measure: Option<Measure>,
    /// Whether it runs scheduled functions and cron jobs.
    pub schedules: bool,
    /// Whether it checks the invariants of `convex/invariants.ts`.
    pub invariants: bool,
    /// Starts forks in this process, where that can be.
    pub forks: Option<Arc<dyn Forks>>,
}
