//! What a host says while it runs: lines for people, or one JSON object an event for machines.
//!
//! In: news, warnings, the server's events. Out: standard error. Invariant: whatever is said in
//! text is said in JSON too, with the same words under `message` and the facts in fields of their
//! own; no secret is written into a structured log that can be had elsewhere.

use std::fmt::Display;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use database::record::{Caller, FunctionKind, LogLevel, LogLine};
use server::{CallEvent, Event, Events, HttpActionEvent, PushEvent};
use tracing::{debug, error, info, warn};

use super::events::Printer;
use super::structured::Lines;
use super::terminal;

/// How a host logs.
#[derive(Clone, Copy, Debug, Args)]
pub struct LogArguments {
    /// How news are written: lines for people, or one JSON object each
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// What is written: `info` has what functions log and how they fail (in JSON), `debug` has
    /// every call
    #[arg(long, value_enum, default_value_t = Level::Info)]
    log_level: Level,
}

/// The notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines.
    Text,
    /// One JSON object a line: timestamp, level, target, message, and fields.
    Json,
}

/// What is worth saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// What failed.
    Error,
    /// And what may fail.
    Warn,
    /// And what happens.
    Info,
    /// And every call.
    Debug,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

/// Where news go.
#[derive(Clone)]
pub struct Log {
    format: Format,
    level: Level,
    printer: Option<Printer>,
}

impl Log {
    /// Begins to log. Once a process.
    pub fn start(arguments: LogArguments) -> Self {
        let LogArguments { log_format: format, log_level: level } = arguments;
        let printer = match format {
            Format::Json => {
                Lines::install(level.into());
                Some(Printer::start(structured))
            }
            Format::Text if level == Level::Debug => Some(Printer::in_lines()),
            Format::Text => None,
        };
        Self { format, level, printer }
    }

    /// Something happened.
    pub fn news(&self, text: impl Display) {
        match self.format {
            Format::Text if self.level >= Level::Info => terminal::news(text),
            Format::Text => {}
            Format::Json => info!(target: "concave", "{text}"),
        }
    }

    /// Something may go wrong.
    pub fn warning(&self, text: impl Display) {
        match self.format {
            Format::Text if self.level >= Level::Warn => terminal::warning(text),
            Format::Text => {}
            Format::Json => warn!(target: "concave", "{text}"),
        }
    }

    /// The host serves.
    pub fn serving(&self, url: &str, site_url: &str) {
        let text = format!("serving {url}, HTTP actions {site_url}");
        match self.format {
            // Whoever has started it must learn where it is.
            Format::Text => terminal::news(text),
            Format::Json => info!(target: "concave", url, site_url, "{text}"),
        }
    }

    /// A key that was made up, and stands in no file.
    pub fn made_up_key(&self, key: &str) {
        match self.format {
            Format::Text => terminal::news(format!("admin key {key}")),
            Format::Json => info!(target: "concave", key, "admin key {key}"),
        }
    }

    /// Whether this is for machines.
    pub fn is_structured(&self) -> bool {
        self.format == Format::Json
    }

    /// The hook for the server's events, where any are said.
    pub fn events(&self) -> Option<Events> {
        let printer = self.printer.clone()?;
        Some(Arc::new(move |event| printer.print(event)))
    }

    /// Says what waits to be said.
    pub fn finish(&self) {
        if let Some(printer) = &self.printer {
            printer.finish();
        }
    }
}

/// One event, as fields.
fn structured(event: &Event) {
    match event {
        Event::Call(call) => call_ended(call),
        Event::HttpAction(request) => request_ended(request),
        // The event of its end has the line too.
        Event::Progress(_) => {}
        Event::Push(push) => push_ended(push),
        Event::Invariant(news) => {
            let text = news.finding.text(None);
            warn!(target: "concave::invariant", call = news.call, "{text}");
        }
    }
}

fn call_ended(call: &CallEvent) {
    console(&call.request_id, &call.path, &call.log_lines);
    let kind = call.kind.map_or("refused", FunctionKind::lower_name);
    let caller = match call.caller {
        Caller::HttpApi => "http",
        Caller::SyncWorker => "socket",
        Caller::Function { .. } => "action",
        Caller::Scheduler => "scheduler",
        Caller::Cron => "cron",
        Caller::Tester => "tester",
    };
    macro_rules! say {
        ($level:ident, $message:literal) => {
            $level!(
                target: "concave::call",
                request_id = &*call.request_id,
                function = &*call.path,
                component = &*call.component,
                kind,
                caller,
                identity = call.identity_type,
                duration_ms = milliseconds(call.duration_ns),
                cached = call.cached,
                rerun = call.rerun,
                conflicts = call.conflicts.len(),
                cause = call.cause.as_deref(),
                documents_read = call.usage.documents_read,
                documents_written = call.usage.documents_written,
                error = call.error.as_deref(),
                $message
            )
        };
    }
    if let Some(remark) = &call.remark {
        warn!(target: "concave::call", request_id = &*call.request_id, "{remark}");
    }
    match call {
        CallEvent { kind: None, .. } => say!(warn, "a call was refused"),
        CallEvent { error: Some(_), .. } => say!(info, "a call failed"),
        CallEvent { .. } => say!(debug, "a call ended"),
    }
}

fn request_ended(request: &HttpActionEvent) {
    console(&request.request_id, &request.path, &request.log_lines);
    macro_rules! say {
        ($level:ident, $message:literal) => {
            $level!(
                target: "concave::http",
                request_id = &*request.request_id,
                method = &*request.method,
                path = &*request.path,
                route = request.route.as_deref(),
                status = request.status,
                duration_ms = milliseconds(request.duration_ns),
                error = request.error.as_deref(),
                $message
            )
        };
    }
    match request.error {
        Some(_) => say!(info, "an HTTP action failed"),
        None => say!(debug, "an HTTP action ended"),
    }
}

fn push_ended(push: &PushEvent) {
    let duration_ms = milliseconds(push.duration_ns);
    let PushEvent { version, functions, unchanged, .. } = push;
    for warning in &push.warnings {
        warn!(target: "concave::push", version, "{warning}");
    }
    match &push.result {
        Ok(ts) => info!(
            target: "concave::push",
            version, functions, unchanged, duration_ms, at = ts.0, "a push is running"
        ),
        Err(error) => {
            error!(target: "concave::push", version, duration_ms, error, "a push failed");
        }
    }
}

/// What a function logged.
fn console(request_id: &str, function: &str, lines: &[LogLine]) {
    for line in lines {
        let text = line.messages.join(" ");
        macro_rules! say {
            ($level:ident) => {
                $level!(target: "concave::console", request_id, function, "{text}")
            };
        }
        match line.level {
            LogLevel::Error => say!(error),
            LogLevel::Warn => say!(warn),
            LogLevel::Info | LogLevel::Log => say!(info),
            LogLevel::Debug => say!(debug),
        }
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
