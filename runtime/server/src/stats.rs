//! Where memory, time and work go: `GET /api/concave/stats` for people, `GET /metrics` for
//! Prometheus.
//!
//! In: what calls came to; what the database, the sockets and the process hold. Out: JSON, and the
//! text format of Prometheus 0.0.4.
//! Invariant: the operator alone sees it. A counter only grows. Both answers are made of the same
//! figures, each with its unit in its name.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use database::memory::Pressure;
use database::record::FunctionKind;
use serde_json::{Map, Value};

use crate::convex;
use crate::event::{CallEvent, Event, HttpActionEvent};
use crate::host::Host;
use crate::refusal::Failure;

/// Measures the process.
pub type Measure = Arc<dyn Fn() -> Measured + Send + Sync>;

/// What the process takes.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Bytes it may take; `None`: as many as there are.
    pub budget: Option<u64>,
    /// Bytes of memory that it has from the system; `None`: the system does not say.
    pub resident: Option<u64>,
    /// Of the processes that run its actions.
    pub workers: u64,
    /// How many those are.
    pub worker_processes: u64,
    /// The data folder; `None`: data is in memory only.
    pub disk: Option<Disk>,
}

/// What the data folder holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    /// Bytes of commits after the checkpoint.
    pub log_bytes: u64,
    /// Commits after the checkpoint.
    pub log_commits: u64,
    /// Bytes that they may have: then the oldest leave.
    pub log_room: u64,
    /// Where the checkpoint is, nanoseconds since the Unix epoch.
    pub checkpoint: u64,
    /// Commits that left the log for the checkpoint since the start: a start brings back what they
    /// did, and not their history.
    pub trimmed: u64,
    /// Bytes of the databases in use when the checkpoint was made, files not counted.
    pub bytes: u64,
}

/// Ways in which a call ends.
const ENDS: [&str; 4] = ["ok", "cached", "error", "refused"];
/// What a call is; one that was refused never became anything.
const KINDS: [&str; 5] = ["query", "mutation", "action", "httpAction", "unknown"];
/// Upper bounds of durations, nanoseconds, with Prometheus's text for them.
const BOUNDS: [(u64, &str); 10] = [
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (50_000_000, "0.05"),
    (250_000_000, "0.25"),
    (1_000_000_000, "1"),
    (10_000_000_000, "10"),
];

/// What calls came to since the start.
#[derive(Default)]
pub(crate) struct Counts {
    calls: [[AtomicU64; ENDS.len()]; KINDS.len()],
    durations: [Durations; KINDS.len()],
    conflicts: AtomicU64,
    reruns: AtomicU64,
    pushes: AtomicU64,
    documents_read: AtomicU64,
    documents_written: AtomicU64,
}

/// A histogram.
#[derive(Default)]
struct Durations {
    /// How many were within a bound and beyond the one before.
    within: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_ns: AtomicU64,
}

impl Counts {
    /// Takes one event in.
    pub(crate) fn count(&self, event: &Event) {
        match event {
            Event::Call(call) => self.call(call),
            Event::HttpAction(HttpActionEvent { error, duration_ns, .. }) => {
                let end = if error.is_some() { 2 } else { 0 };
                self.ended(3, end, *duration_ns);
            }
            Event::Progress(_) | Event::Invariant(_) => {}
            Event::Push(_) => add(&self.pushes, 1),
        }
    }

    /// Takes in a request that was sent away: before anybody looked what it asks for, or because
    /// there was no room for its answer.
    pub(crate) fn refused(&self) {
        add(&self.calls[4][3], 1);
    }

    fn call(&self, call: &CallEvent) {
        let kind = match call.kind {
            Some(FunctionKind::Query) => 0,
            Some(FunctionKind::Mutation) => 1,
            Some(FunctionKind::Action) => 2,
            None => 4,
        };
        let end = match call {
            CallEvent { kind: None, .. } => 3,
            CallEvent { error: Some(_), .. } => 2,
            CallEvent { cached: true, .. } => 1,
            CallEvent { .. } => 0,
        };
        self.ended(kind, end, call.duration_ns);
        add(&self.conflicts, call.conflicts.len() as u64);
        add(&self.reruns, call.rerun.into());
        add(&self.documents_read, call.usage.documents_read);
        add(&self.documents_written, call.usage.documents_written);
    }

    fn ended(&self, kind: usize, end: usize, duration_ns: u64) {
        add(&self.calls[kind][end], 1);
        let durations = &self.durations[kind];
        add(&durations.count, 1);
        add(&durations.sum_ns, duration_ns);
        if let Some(within) = BOUNDS.iter().position(|(bound, _)| duration_ns <= *bound) {
            add(&durations.within[within], 1);
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One number.
struct Figure {
    /// Its group in the JSON.
    group: &'static str,
    /// Its name there.
    name: &'static str,
    /// Its name for Prometheus, without `concave_`; a counter's ends with `_total`.
    metric: &'static str,
    help: &'static str,
    value: u64,
}

/// `GET /api/concave/stats`
pub(crate) async fn stats(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let mut groups: Map<String, Value> = Map::new();
    let mut put = |group: &str, name: &str, value: Value| {
        let group = groups.entry(group).or_insert_with(|| Value::Object(Map::new()));
        group[name] = value;
    };
    let pressure = match host.database.pressure() {
        Pressure::Calm => "calm",
        Pressure::Tight => "tight",
        Pressure::Full(_) => "full",
        Pressure::Over(_) => "over",
    };
    put("memory", "pressure", pressure.into());
    for Figure { group, name, metric, value, .. } in figures(&host) {
        // Numbers of JSON are too coarse for nanoseconds.
        let exact = metric.ends_with("_nanoseconds");
        put(group, name, if exact { value.to_string().into() } else { value.into() });
    }
    for (kind, ends) in KINDS.iter().zip(&host.counts.calls) {
        let counted = ENDS.iter().zip(ends).map(|(end, count)| ((*end).to_owned(), get(count)));
        let counted: Map<_, _> = counted.map(|(end, count)| (end, count.into())).collect();
        put("calls", kind, Value::Object(counted));
    }
    for (module, how) in host.functions.contexts() {
        put("contexts", &module, how.into());
    }
    Ok(convex::json(Value::Object(groups).to_string()))
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let mut text = String::new();
    for Figure { metric, help, value, .. } in figures(&host) {
        let kind = if metric.ends_with("_total") { "counter" } else { "gauge" };
        head_of(&mut text, metric, help, kind);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "concave_{metric} {value}");
    }
    head_of(&mut text, "calls_total", "Calls that ended, by kind and end.", "counter");
    for (kind, ends) in KINDS.iter().zip(&host.counts.calls) {
        for (end, count) in ENDS.iter().zip(ends) {
            let count = get(count);
            let _ = writeln!(text, "concave_calls_total{{kind=\"{kind}\",end=\"{end}\"}} {count}");
        }
    }
    head_of(&mut text, "call_seconds", "From request to answer.", "histogram");
    for (kind, durations) in KINDS.iter().zip(&host.counts.durations) {
        histogram(&mut text, kind, durations);
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, text).into_response())
}

fn head_of(text: &mut String, metric: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP concave_{metric} {help}\n# TYPE concave_{metric} {kind}");
}

fn histogram(text: &mut String, kind: &str, durations: &Durations) {
    let mut below = 0;
    for ((_, bound), count) in BOUNDS.iter().zip(&durations.within) {
        below += get(count);
        let labels = format!("kind=\"{kind}\",le=\"{bound}\"");
        let _ = writeln!(text, "concave_call_seconds_bucket{{{labels}}} {below}");
    }
    // Counted before the buckets were: it may lag behind them.
    let count = get(&durations.count).max(below);
    let sum = get(&durations.sum_ns) as f64 / 1e9;
    let _ = writeln!(
        text,
        "concave_call_seconds_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {count}\n\
         concave_call_seconds_sum{{kind=\"{kind}\"}} {sum}\n\
         concave_call_seconds_count{{kind=\"{kind}\"}} {count}"
    );
}

/// Every figure without labels.
fn figures(host: &Host) -> Vec<Figure> {
    // Once: it asks about every process, and one answer shows one moment.
    let measured = host.config.measure.as_ref().map(|measure| measure()).unwrap_or_default();
    let mut figures = memory(host, &measured);
    figures.extend(history(host));
    figures.extend(work(host, &measured));
    figures
}

macro_rules! figures {
    ($($group:literal $name:literal $metric:literal $help:literal = $value:expr;)*) => {
        vec![$(Figure {
            group: $group, name: $name, metric: $metric, help: $help, value: $value,
        }),*]
    };
}

fn memory(host: &Host, measured: &Measured) -> Vec<Figure> {
    let held = host.database.memory();
    let mut figures = figures! {
        "memory" "workers" "memory_worker_bytes" "Memory of the processes that run actions."
            = measured.workers;
        "memory" "documents" "memory_document_bytes" "Documents of the newest snapshot."
            = held.documents;
        "memory" "indexes" "memory_index_bytes" "Their places in all indexes, estimated."
            = held.indexes;
        "memory" "cache" "memory_cache_bytes" "Cached results of queries." = held.cache;
        "memory" "history" "memory_history_bytes" "What only the history keeps." = held.history;
        "memory" "answers" "memory_answer_bytes" "Answers kept for mutations that come again."
            = held.answers;
        "memory" "logs" "memory_log_bytes" "Executions that logs can look back at."
            = host.logs.bytes();
        "memory" "calls" "memory_call_bytes" "Calls that can be run again." = host.calls.bytes();
        "memory" "bodies" "memory_body_bytes" "Bodies of requests in flight."
            = host.bodies.held();
        "memory" "unsent" "memory_unsent_bytes" "Answers over HTTP that clients have not taken."
            = host.owed.bytes();
    };
    let optional = figures! {
        "memory" "budget" "memory_budget_bytes" "What the host may take."
            = measured.budget.unwrap_or_default();
        "memory" "resident" "memory_resident_bytes" "What the host has from the system."
            = measured.resident.unwrap_or_default();
    };
    figures.extend(optional.into_iter().filter(|figure| figure.value > 0));
    if let Some(disk) = measured.disk {
        figures.extend(figures! {
            "disk" "logBytes" "disk_log_bytes" "Commits after the checkpoint." = disk.log_bytes;
            "disk" "logCommits" "disk_log_commits" "How many those are." = disk.log_commits;
            "disk" "logRoom" "disk_log_room_bytes" "Bytes from which on the oldest of them leave."
                = disk.log_room;
            "disk" "checkpoint" "disk_checkpoint_nanoseconds" "When the checkpoint is of."
                = disk.checkpoint;
            "disk" "trimmed" "disk_log_trimmed_total" "Commits that only the checkpoint has now."
                = disk.trimmed;
            "disk" "bytes" "disk_bytes" "Both databases at the last checkpoint." = disk.bytes;
        });
    }
    figures
}

fn history(host: &Host) -> Vec<Figure> {
    let kept = host.database.kept();
    figures! {
        "history" "commits" "history_commits" "Commits that can be looked back at."
            = kept.commits;
        "history" "trimmed" "history_trimmed_total" "Commits that memory had no room for any more."
            = kept.trimmed;
        "history" "oldest" "history_oldest_nanoseconds" "The oldest snapshot kept."
            = kept.oldest.0;
        "history" "newest" "history_newest_nanoseconds" "The newest commit." = kept.newest.0;
    }
}

fn work(host: &Host, measured: &Measured) -> Vec<Figure> {
    let counts = &host.counts;
    figures! {
        "work" "waiting" "calls_waiting" "Calls that wait for an isolate."
            = host.functions.waiting() as u64;
        "work" "conflicts" "conflicts_total" "Conflicts that made a mutation run again."
            = get(&counts.conflicts);
        "work" "reruns" "reruns_total" "Followed queries that ran again after a commit."
            = get(&counts.reruns);
        "work" "pushes" "pushes_total" "Pushes that ended." = get(&counts.pushes);
        "work" "documentsRead" "documents_read_total" "Documents that calls read."
            = get(&counts.documents_read);
        "work" "documentsWritten" "documents_written_total" "Documents that calls wrote."
            = get(&counts.documents_written);
        "work" "sessions" "sessions" "WebSocket clients." = host.sockets.count() as u64;
        "work" "subscriptions" "subscriptions" "Read sets that commits are compared with."
            = host.database.subscriptions().len() as u64;
        "work" "cachedResults" "cached_results" "Results in the query cache."
            = host.database.cache().len() as u64;
        "work" "workerProcesses" "worker_processes" "Processes that run actions."
            = measured.worker_processes;
    }
}
