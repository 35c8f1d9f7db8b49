//! One readable line an event: what ran, how long, what it logged, why it failed or ran again.
//!
//! In: the server's events, on the threads that answer requests. Out: lines, from one thread.
//! Invariant: a slow terminal never slows a request: lines that do not fit are counted, not waited
//! for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use console::Style;
use database::commit::Conflict;
use database::record::{Caller, FunctionKind, LogLevel, LogLine, Logged, full_name};
use server::{CallEvent, Event, Finding, HttpActionEvent, InvariantEvent, PushEvent};

use super::terminal;

/// Events that may wait for the terminal.
const WAITING_MAX: usize = 1024;
/// Width of the first column: `mutation`.
const KIND_WIDTH: usize = 8;

/// Prints events in the order they come, on a thread of its own.
#[derive(Clone)]
pub struct Printer {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the printing thread is told.
enum Message {
    Event(Box<Event>),
    End,
}

impl Printer {
    /// Starts the thread, which prints lines for people.
    pub fn in_lines() -> Self {
        Self::start(print)
    }

    /// Starts the thread, which prints lines for people who push themselves: they are told of their
    /// pushes by the push.
    pub fn in_lines_but_pushes() -> Self {
        Self::start(|event| {
            if !matches!(event, Event::Push(_)) {
                print(event)
            }
        })
    }

    /// Starts the thread, which shows each event.
    pub fn start(show: fn(&Event)) -> Self {
        let (queue, waiting) = mpsc::sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        let thread = std::thread::spawn(move || print_all(&waiting, &count, show));
        Self { queue, dropped, thread: Arc::new(Mutex::new(Some(thread))) }
    }

    /// Prints an event soon, or counts it as left out.
    pub fn print(&self, event: Event) {
        if self.queue.try_send(Message::Event(Box::new(event))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Prints what waits, then ends the thread.
    pub fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Both fail only when the thread has ended already.
            let _ = self.queue.send(Message::End);
            let _ = thread.join();
        }
    }
}

fn print_all(waiting: &Receiver<Message>, dropped: &AtomicU64, show: fn(&Event)) {
    while let Ok(Message::Event(event)) = waiting.recv() {
        show(&event);
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            terminal::news(format!("… and {dropped} more calls, faster than this terminal"));
        }
    }
}

fn print(event: &Event) {
    lines(event).into_iter().for_each(terminal::news);
}

/// The lines of one event. Pushes are told by whoever made them; the host adds what only it knows.
fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Call(call) => call_lines(call),
        Event::HttpAction(request) => http_action_lines(request),
        Event::Push(push) => push_lines(push),
        Event::Invariant(news) => invariant_lines(news),
        // They come again with the end of their action.
        Event::Progress(_) => Vec::new(),
    }
}

/// A line that starts with its kind.
pub fn marked(kind: &str, text: &str) -> String {
    format!("{} {text}", dim().apply_to(format!("{kind:KIND_WIDTH$}")))
}

fn call_lines(call: &CallEvent) -> Vec<String> {
    let kind = call.kind.map_or("refused", FunctionKind::lower_name);
    let name = full_name(&call.component, &call.path);
    let mut head = format!("{name} {}", dim().apply_to(duration(call.duration_ns)));
    if call.cached {
        head.push_str(&format!(" {}", dim().apply_to("cached")));
    }
    match call.caller {
        Caller::Scheduler => head.push_str(&format!(" {}", dim().apply_to("scheduled"))),
        Caller::Cron => head.push_str(&format!(" {}", dim().apply_to("cron job"))),
        Caller::Function { .. } => {
            head.push_str(&format!(" {}", dim().apply_to("called by an action")));
        }
        Caller::HttpApi | Caller::SyncWorker | Caller::Tester => {}
    }
    if !call.conflicts.is_empty() {
        let note = match call.conflicts.len() {
            1 => "ran again after a conflict".to_owned(),
            n => format!("ran again after {n} conflicts"),
        };
        head.push_str(&format!(" {}", Style::new().for_stderr().yellow().apply_to(note)));
    }
    let mut lines = vec![marked(kind, &head)];
    let causes = call.cause.iter().cloned().chain(call.conflicts.iter().map(Conflict::cause));
    lines.extend(causes.map(|cause| indented(&cause)));
    lines.extend(call.remark.iter().map(|remark| indented(remark)));
    lines.extend(said(&call.log_lines, call.error.as_deref()));
    lines
}

fn http_action_lines(request: &HttpActionEvent) -> Vec<String> {
    let HttpActionEvent { method, path, route, status, duration_ns, .. } = request;
    let status = status.map_or_else(|| "the client left".to_owned(), |status| status.to_string());
    let mut head = format!("{method} {path} {status} {}", dim().apply_to(duration(*duration_ns)));
    if let Some(route) = route.as_ref().filter(|route| *route != path) {
        head.push_str(&format!(" {}", dim().apply_to(format!("by {route}"))));
    }
    let mut lines = vec![marked("http", &head)];
    lines.extend(said(&request.log_lines, request.error.as_deref()));
    lines
}

/// What a function logged, and why it failed.
fn said(log_lines: &[LogLine], error: Option<&str>) -> Vec<String> {
    // A function that an action called has a line of its own, with what it logged.
    let own = log_lines.iter().filter(|line| line.logged != Logged::ByCallee);
    let line = |line: &LogLine| {
        let text = indented(&line.client_text());
        match line.level {
            LogLevel::Error => red().apply_to(text).to_string(),
            LogLevel::Warn => Style::new().for_stderr().yellow().apply_to(text).to_string(),
            LogLevel::Debug | LogLevel::Info | LogLevel::Log => text,
        }
    };
    let error = error.map(|error| red().apply_to(indented(error.trim_end())).to_string());
    own.map(line).chain(error).collect()
}

fn push_lines(push: &PushEvent) -> Vec<String> {
    match &push.result {
        Ok(_) => Vec::new(),
        Err(error) => vec![marked("push", &red().apply_to(error).to_string())],
    }
}

fn invariant_lines(news: &InvariantEvent) -> Vec<String> {
    let replay = news.call.map(|call| format!("again: concave replay {call}"));
    let text = news.finding.text(replay.as_deref());
    let (kind, style) = match &news.finding {
        Finding::Violated(_) => ("violated", red()),
        Finding::Unchecked { .. } => ("unknown", Style::new().for_stderr().yellow()),
        Finding::Holds { .. } => ("holds", Style::new().for_stderr()),
    };
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let head = marked(kind, &style.apply_to(first).to_string());
    std::iter::once(head).chain((!rest.is_empty()).then(|| indented(rest))).collect()
}

/// Every line of a text under the second column.
fn indented(text: &str) -> String {
    let margin = " ".repeat(KIND_WIDTH + 1);
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}

/// Three digits or so: `0.042 ms`, `1.2 ms`, `310 ms`, `2.5 s`.
fn duration(nanoseconds: u64) -> String {
    let ms = nanoseconds as f64 / 1e6;
    match ms {
        ms if ms < 0.1 => format!("{ms:.3} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

fn dim() -> Style {
    Style::new().for_stderr().dim()
}

fn red() -> Style {
    Style::new().for_stderr().red()
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::commit::Writer;
    use database::record::Timestamp;

    fn call() -> CallEvent {
        CallEvent {
            request_id: "0123456789abcdef".into(),
            path: "shop:addCart".into(),
            component: "".into(),
            kind: Some(FunctionKind::Mutation),
            caller: Caller::HttpApi,
            identity_type: "unknown",
            rerun: false,
            duration_ns: 1_250_000,
            cached: false,
            error: None,
            cause: None,
            conflicts: Vec::new(),
            remark: None,
            log_lines: Arc::from([]),
            usage: Default::default(),
        }
    }

    fn plain(call: CallEvent) -> Vec<String> {
        let strip = |line: String| console::strip_ansi_codes(&line).into_owned();
        lines(&Event::Call(call)).into_iter().map(strip).collect()
    }

    #[test]
    fn a_call_is_one_line() {
        assert_eq!(plain(call()), ["mutation shop:addCart 1.2 ms"]);
        let scheduled = CallEvent { caller: Caller::Scheduler, ..call() };
        assert_eq!(plain(scheduled), ["mutation shop:addCart 1.2 ms scheduled"]);
        let inner = CallEvent { component: "a/b".into(), ..call() };
        assert_eq!(plain(inner), ["mutation a/b/shop:addCart 1.2 ms"]);
        let query = CallEvent { kind: Some(FunctionKind::Query), cached: true, ..call() };
        assert_eq!(plain(query), ["query    shop:addCart 1.2 ms cached"]);
    }

    #[test]
    fn logs_and_errors_stand_below_it() {
        let line = LogLine::warning("'low'".into());
        let error = "Uncaught Error: sold out\n    at handler (../convex/shop.ts:4:7)\n";
        let failed =
            CallEvent { error: Some(error.into()), log_lines: Arc::from([line]), ..call() };
        let expected = [
            "mutation shop:addCart 1.2 ms",
            "         [WARN] 'low'",
            "         Uncaught Error: sold out\n             at handler (../convex/shop.ts:4:7)",
        ];
        assert_eq!(plain(failed), expected);
    }

    #[test]
    fn a_query_that_ran_again_says_why() {
        let cause = "getItems re-ran: addCart wrote items[remaining=10] inside the range it read";
        let kind = Some(FunctionKind::Query);
        let path = "shop:getItems".into();
        let again = CallEvent { kind, path, cause: Some(cause.into()), ..call() };
        let expected = ["query    shop:getItems 1.2 ms".to_owned(), format!("         {cause}")];
        assert_eq!(plain(again), expected);
    }

    #[test]
    fn a_retry_names_the_range_and_the_call_that_wrote_there() {
        let writer = |id: &str| Writer::new("shop:addCart", id);
        let conflict = Conflict {
            index: "items.by_id".into(),
            table: "items".into(),
            range: "[_id=\"k\"]".into(),
            key: "[_id=\"k\"]".into(),
            document: Some("k".into()),
            did: "wrote items[_id=\"k\"] inside the range it read".into(),
            place: None,
            reader: writer("one"),
            writer: writer("two"),
            at: Timestamp(1),
        };
        let expected = [
            "mutation shop:addCart 1.2 ms ran again after a conflict",
            "         addCart re-ran: another addCart wrote items[_id=\"k\"] inside the range \
             it read",
        ];
        assert_eq!(plain(CallEvent { conflicts: vec![conflict], ..call() }), expected);
    }

    #[test]
    fn what_the_operator_should_know_stands_below_the_call() {
        let remark = Some("shop:addCart behaved otherwise".into());
        let expected = ["mutation shop:addCart 1.2 ms", "         shop:addCart behaved otherwise"];
        assert_eq!(plain(CallEvent { remark, ..call() }), expected);
    }

    #[test]
    fn an_http_action_says_what_was_asked_and_who_answered() {
        let line = LogLine { level: LogLevel::Log, ..LogLine::warning("'hi'".into()) };
        let request = HttpActionEvent {
            request_id: "0123456789abcdef".into(),
            method: "GET".into(),
            path: "/users/7".into(),
            route: Some("/users/*".into()),
            status: Some(200),
            duration_ns: 1_250_000,
            error: Some("it was cut".into()),
            log_lines: Arc::from([line]),
        };
        let plain = |request: HttpActionEvent| -> Vec<String> {
            let strip = |line: String| console::strip_ansi_codes(&line).into_owned();
            lines(&Event::HttpAction(request)).into_iter().map(strip).collect()
        };
        let expected = [
            "http     GET /users/7 200 1.2 ms by /users/*",
            "         [LOG] 'hi'",
            "         it was cut",
        ];
        assert_eq!(plain(request.clone()), expected);
        let left = HttpActionEvent {
            path: "/hi".into(),
            route: Some("/hi".into()),
            status: None,
            error: None,
            log_lines: Arc::from([]),
            ..request
        };
        assert_eq!(plain(left), ["http     GET /hi the client left 1.2 ms"]);
    }

    #[test]
    fn durations_keep_two_or_three_digits() {
        let texts = [42_000, 1_240_000, 310_400_000, 2_500_000_000].map(duration);
        assert_eq!(texts, ["0.042 ms", "1.2 ms", "310 ms", "2.5 s"]);
    }

    #[test]
    fn a_full_queue_drops_and_does_not_block() {
        let (queue, waiting) = mpsc::sync_channel(1);
        let printer = Printer { queue, dropped: Arc::default(), thread: Arc::default() };
        for _ in 0..5 {
            printer.print(Event::Call(call()));
        }
        assert_eq!(printer.dropped.load(Ordering::Relaxed), 4);
        drop(waiting);
    }
}
