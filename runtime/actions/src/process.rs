//! One worker process, as the host sees it: its runs, its socket, its end.
//!
//! In: jobs. Out: what came of them. Invariant: every job gets exactly one end, also when the
//! process dies, and then one that says so; a run that does not stop costs the process its life.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::bounds::{Lines, Waiting};
use crate::pool::{
    CallLimits, Callbacks, Code, Config, Content, Ended, Input, Job, Line, Reply, ResponseHead,
    Source, Syscall,
};
use crate::protocol::{self, CallId, End, Frame, HttpHead, RunId, Thrown, ToHost, ToWorker};
use crate::streams::Streams;

/// How long a run may take to stop when it is told to, before its process is killed.
const GRACE: Duration = Duration::from_secs(3);
/// How often runs are looked at for that.
const PERIOD: Duration = Duration::from_millis(500);
/// How much of a process's last words is kept, in bytes.
const WORDS_BYTES: usize = 4 << 10;

/// How much of what a process says is read at once, in bytes: most messages are shorter.
const READ_BYTES: usize = 16 << 10;

/// Frames that are taken together, where as many wait.
const FRAMES_AT_ONCE: usize = 32;

/// A worker process.
pub(crate) struct Process {
    /// Its number in the system, while it lives.
    pub(crate) pid: Option<u32>,
    /// The code that it runs.
    pub(crate) code: Arc<Code>,
    calls: CallLimits,
    streams: Arc<Streams>,
    state: Mutex<State>,
    killed: Notify,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    runs: HashMap<RunId, Entry>,
    started: u64,
    /// Runs that got a context of their own.
    made_contexts: u64,
    environment: Option<Arc<BTreeMap<String, String>>>,
    /// It takes no more jobs, and ends with its last.
    is_retired: bool,
    is_dead: bool,
    /// Why the host kills it.
    kill_reason: Option<String>,
    idle_since: Option<Instant>,
}

impl State {
    /// It is to be killed, and is given nothing more while it dies.
    fn condemn(&mut self, why: String) {
        self.kill_reason.get_or_insert(why);
        self.is_retired = true;
    }
}

/// One run of the process.
struct Entry {
    name: String,
    callbacks: Arc<dyn Callbacks>,
    head: Option<oneshot::Sender<ResponseHead>>,
    done: oneshot::Sender<Ended>,
    lines: Lines,
    waiting: Waiting,
    timeout: Duration,
    kill_at: Instant,
}

/// What is handed back for a job that was started.
pub(crate) struct Started {
    pub(crate) run: RunId,
    pub(crate) head: oneshot::Receiver<ResponseHead>,
    pub(crate) done: oneshot::Receiver<Ended>,
}

impl Process {
    /// Starts a process and gives it its code.
    ///
    /// # Errors
    /// The system has no process to give.
    pub(crate) fn start(
        config: &Config,
        snapshot: &[u8],
        code: Arc<Code>,
        when_dead: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (mut command, held) = match (&config.node, &code.folder) {
            (Some(node), Some(folder)) => {
                let temporary = folder.temporary()?;
                let (command, lifeline) = node.command(folder, &temporary, theirs)?;
                (command, Some((lifeline, temporary)))
            }
            _ => (worker(config, theirs), None),
        };
        let mut child = command
            .env_clear()
            .env("TZ", "UTC")
            .envs(certificates())
            .envs(held.as_ref().map(|(_, temporary)| ("TMPDIR", temporary.path())))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A terminal's Ctrl-C is for the host, which lets actions end.
            .process_group(0)
            .spawn()?;
        // It holds the other end of the socket.
        drop(command);
        let (words, pid) = (child.stderr.take(), child.id());
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        let (outbox, frames) = mpsc::unbounded_channel();
        tokio::spawn(write_frames(write, frames));
        let process = Arc::new_cyclic(|this| Self {
            pid,
            code,
            calls: config.calls,
            streams: Streams::new(outbox),
            state: Mutex::default(),
            killed: Notify::new(),
            this: this.clone(),
        });
        process.deploy(config, snapshot);
        let owned = Arc::clone(&process);
        tokio::spawn(async move {
            owned.own(child, read, words).await;
            when_dead(&owned);
            // It may have written many files.
            tokio::task::spawn_blocking(move || drop(held));
        });
        tokio::spawn(watch(Arc::downgrade(&process)));
        Ok(process)
    }

    fn deploy(&self, config: &Config, snapshot: &[u8]) {
        let code = &self.code;
        if code.folder.is_none() {
            self.streams.send(&ToWorker::Snapshot, snapshot);
        }
        let deploy = ToWorker::Deploy {
            version: code.version.clone(),
            modules: u32::try_from(code.modules.len()).unwrap_or(u32::MAX),
            import: code.import,
            folder: code.folder.as_ref().map(|folder| folder.modules()),
            network: config.network.clone(),
            limits: config.limits,
        };
        self.streams.send(&deploy, &[]);
        if let Some(known) = &code.environment {
            let variables = (**known).clone();
            self.streams.send(&ToWorker::Environment { variables }, &[]);
            self.state().environment = Some(Arc::clone(known));
        }
        for (path, source) in &code.modules {
            self.streams.send(&ToWorker::Module { path: path.to_string() }, source.as_bytes());
        }
    }

    /// How many runs it has; `None` when it takes no more.
    pub(crate) fn load(&self) -> Option<usize> {
        let state = self.state();
        (!state.is_retired && !state.is_dead).then_some(state.runs.len())
    }

    /// Whether it has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// How many runs it has, also when it takes no more.
    pub(crate) fn runs(&self) -> usize {
        self.state().runs.len()
    }

    /// Takes the job out of `waiting` and starts it; `None` when the process has no room for it.
    pub(crate) fn run(
        &self,
        waiting: &mut Option<Job>,
        callbacks: &Arc<dyn Callbacks>,
        config: &Config,
    ) -> Option<Started> {
        let mut state = self.state();
        let is_full = state.runs.len() >= config.runs_per_process;
        if state.is_retired || state.is_dead || is_full {
            return None;
        }
        let job = waiting.take()?;
        state.started += 1;
        let run = state.started;
        // Contexts that are used again are replaced inside of the process.
        state.made_contexts += u64::from(!job.reuse);
        state.is_retired = state.made_contexts >= config.retire_after;
        state.idle_since = None;
        let (head, head_receiver) = oneshot::channel();
        let (done, done_receiver) = oneshot::channel();
        let entry = Entry {
            name: job.name(),
            callbacks: Arc::clone(callbacks),
            head: Some(head),
            done,
            waiting: Waiting::default(),
            lines: Lines::new(config.log_lines()),
            timeout: job.timeout,
            kill_at: Instant::now() + job.timeout + GRACE,
        };
        state.runs.insert(run, entry);
        if state.environment.as_ref().is_none_or(|known| *known != job.environment) {
            let variables = (*job.environment).clone();
            self.streams.send(&ToWorker::Environment { variables }, &[]);
            state.environment = Some(Arc::clone(&job.environment));
        }
        // With the lock held: the next run's environment must not overtake this run.
        self.send_run(run, job);
        drop(state);
        Some(Started { run, head: head_receiver, done: done_receiver })
    }

    fn send_run(&self, run: RunId, job: Job) {
        let Job { module, export, request_id, timeout, reuse, input, .. } = job;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let (http, arguments) = match input {
            Input::Analysis { modules } => {
                return self.streams.send(&ToWorker::Analyze { run, modules, timeout_ms }, &[]);
            }
            Input::Action { arguments } => (None, arguments),
            Input::Http { url, routed_path, method, headers, body } => {
                // The first of its run always has a number.
                let body = body.and_then(|body| self.streams.transmit(run, body).ok());
                (Some(HttpHead { url, routed_path, method, headers, body }), String::new())
            }
        };
        let message = ToWorker::Run { run, module, export, request_id, timeout_ms, reuse, http };
        self.streams.send(&message, arguments.as_bytes());
    }

    /// Stops a run that nobody waits for.
    pub(crate) fn cancel(&self, run: RunId) {
        let mut state = self.state();
        if let Some(entry) = state.runs.get_mut(&run) {
            entry.kill_at = entry.kill_at.min(Instant::now() + GRACE);
            self.streams.send(&ToWorker::Cancel { run }, &[]);
        }
    }

    /// Tells a run that nobody waits for its response.
    pub(crate) fn client_left(&self, run: RunId) {
        if self.state().runs.contains_key(&run) {
            self.streams.send(&ToWorker::Gone { run }, &[]);
        }
    }

    /// Lets it end with its last run.
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        state.is_retired = true;
        if state.runs.is_empty() {
            self.streams.send(&ToWorker::Shutdown, &[]);
        }
    }

    /// Since when it has had nothing to do.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.state().idle_since
    }

    /// Ends it at once; its runs end with `why`.
    pub(crate) fn kill(&self, why: String) {
        self.state().condemn(why);
        self.killed.notify_one();
    }

    /// Reads until the end of the process, which it makes sure of.
    async fn own(&self, mut child: Child, socket: OwnedReadHalf, words: Option<ChildStderr>) {
        let mut socket = BufReader::with_capacity(READ_BYTES, socket);
        let words = tokio::spawn(last_words(words));
        let broke = tokio::select! {
            broke = self.read(&mut socket) => broke,
            () = self.killed.notified() => None,
        };
        // A job that came now would be lost with it.
        self.state().is_retired = true;
        // It may be ending by itself, and say why.
        let status = tokio::time::timeout(GRACE, self.exit(&mut child)).await.unwrap_or_default();
        // A process that has ended already cannot be killed.
        let _ = child.kill().await;
        let words = words.await.unwrap_or_default();
        self.died(broke, status, &words);
    }

    async fn exit(&self, child: &mut Child) -> Option<ExitStatus> {
        if self.state().kill_reason.is_some() {
            return None;
        }
        child.wait().await.ok()
    }

    /// Reads and acts until the socket ends; says what was wrong with a message.
    async fn read(&self, socket: &mut BufReader<OwnedReadHalf>) -> Option<String> {
        loop {
            let mut first = [0; 4];
            if socket.read_exact(&mut first).await.is_err() {
                return None;
            }
            let length = match protocol::body_length(first) {
                Ok(length) => length,
                Err(why) => return Some(why.to_string()),
            };
            let mut body = vec![0; length];
            if socket.read_exact(&mut body).await.is_err() {
                return None;
            }
            let acted = protocol::decode(body).map_err(|e| e.to_string());
            if let Err(why) = acted.and_then(|frame| self.act(frame)) {
                self.kill(format!("it broke the protocol: {why}"));
                return Some(why);
            }
        }
    }

    fn act(&self, Frame { head, tail }: Frame<ToHost>) -> Result<(), String> {
        match head {
            ToHost::Ready => {}
            ToHost::Retire => self.state().is_retired = true,
            ToHost::Syscall { run, call, op, body } => {
                let json = String::from_utf8(tail).map_err(|e| e.to_string())?;
                let body = body.map(|stream| self.streams.receive(stream));
                self.ask((run, call), Syscall { op, json, body });
            }
            ToHost::Report { run, op } => {
                let json = String::from_utf8(tail).map_err(|e| e.to_string())?;
                let callbacks = self.state().runs.get(&run).map(|run| Arc::clone(&run.callbacks));
                if let Some(callbacks) = callbacks {
                    callbacks.told(&op, &json);
                }
            }
            ToHost::Log { run, level, messages, truncated } => {
                self.logged(run, Line { level, messages, truncated, source: Source::Run });
            }
            ToHost::HttpHead { run, status, headers, body, route } => {
                let body = match body {
                    Some(stream) => Content::Stream(self.streams.receive(stream)),
                    None => Content::Whole(tail.into()),
                };
                let head = ResponseHead { status, headers, body, route };
                let waiting = self.state().runs.get_mut(&run).and_then(|entry| entry.head.take());
                if let Some(waiting) = waiting {
                    // Whoever asked is gone, and has cancelled the run.
                    let _ = waiting.send(head);
                }
            }
            ToHost::Stream(about) => self.streams.take_in(&about, tail)?,
            ToHost::Done { run, end } => {
                let text = String::from_utf8(tail).map_err(|e| e.to_string())?;
                self.done(run, end, text);
            }
        }
        Ok(())
    }

    /// Has a question answered; at once with an error, where too many of the run wait already.
    fn ask(&self, (run, call): (RunId, CallId), syscall: Syscall) {
        let bytes = syscall.json.len();
        let (callbacks, fits) = {
            let mut state = self.state();
            let Some(entry) = state.runs.get_mut(&run) else { return };
            (Arc::clone(&entry.callbacks), entry.waiting.add(bytes, &self.calls))
        };
        let process = self.this.clone();
        tokio::spawn(async move {
            let reply = match fits {
                Ok(()) => callbacks.syscall(syscall).await,
                Err(why) => Reply::error(why),
            };
            if let Some(process) = process.upgrade() {
                process.answer((run, call), bytes, reply);
            }
        });
    }

    /// Gives a run what it asked for in a question of so many bytes.
    fn answer(&self, (run, call): (RunId, CallId), bytes: usize, reply: Reply) {
        let Reply { result, body, lines } = reply;
        let mut state = self.state();
        // It may have ended meanwhile, and then nobody would end a stream to it.
        let Some(entry) = state.runs.get_mut(&run) else { return };
        entry.waiting.remove(bytes);
        for line in lines {
            entry.lines.push(line);
        }
        // With the lock held: the run ends before this stream is opened, or ends it.
        let body = body.map(|body| self.streams.transmit(run, body)).transpose();
        drop(state);
        let thrown = |message| Thrown { message, ..Thrown::default() };
        let answer = body.map_err(thrown).and_then(|body| Ok((result?, body)));
        let (json, body, error) = match answer {
            Ok((json, body)) => (json, body, None),
            Err(error) => (String::new(), None, Some(error)),
        };
        self.streams.send(&ToWorker::Answer { run, call, error, body }, json.as_bytes());
    }

    /// A line of the run's own: told at once, where it is one of those that are kept.
    fn logged(&self, run: RunId, line: Line) {
        let told = self.state().runs.get_mut(&run).and_then(|entry| {
            let fits = entry.lines.push(line.clone());
            fits.then(|| Arc::clone(&entry.callbacks))
        });
        if let Some(callbacks) = told {
            callbacks.logged(&line);
        }
    }

    fn done(&self, run: RunId, end: End, text: String) {
        let mut state = self.state();
        let Some(entry) = state.runs.remove(&run) else { return };
        // No more of them can be opened now.
        self.streams.ended(run);
        if state.runs.is_empty() {
            state.idle_since = Some(Instant::now());
            if state.is_retired {
                self.streams.send(&ToWorker::Shutdown, &[]);
            }
        }
        drop(state);
        // Whoever asked is gone: nothing is left to tell.
        let _ = entry.done.send(Ended { end, result: text, lines: entry.lines.into_vec() });
    }

    /// Ends every run that the process still had.
    fn died(&self, broke: Option<String>, status: Option<ExitStatus>, words: &str) {
        let (runs, reason) = {
            let mut state = self.state();
            state.is_dead = true;
            (std::mem::take(&mut state.runs), state.kill_reason.take())
        };
        let why = match (reason.or(broke), status) {
            (Some(reason), _) => reason,
            (None, Some(status)) if words.is_empty() => status.to_string(),
            (None, Some(status)) => format!("{status}; {words}"),
            (None, None) => "it stopped answering".to_owned(),
        };
        self.streams.broke(&format!("the process that sent it ended: {why}"));
        let count = runs.len();
        for (_, entry) in runs {
            let message = end_of_process(&entry.name, &why, count);
            let end = End::Threw(Thrown { message, ..Thrown::default() });
            let _ = entry.done.send(Ended {
                end,
                result: String::new(),
                lines: entry.lines.into_vec(),
            });
        }
    }

    /// Kills the process if a run should have ended long ago.
    fn check(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let stuck = state.runs.iter().find(|(_, entry)| entry.kill_at <= now);
        let Some((run, name)) = stuck.map(|(run, entry)| (*run, entry.name.clone())) else {
            return;
        };
        // Where it has its process to itself, no more is to be said than that its time was up.
        let alone = self.code.folder.is_some().then(|| state.runs.remove(&run)).flatten();
        // With the lock held: what came into its place would die with it.
        state.condemn(format!("{name} did not stop at its time limit"));
        drop(state);
        self.killed.notify_one();
        if let Some(entry) = alone {
            let seconds = entry.timeout.as_millis().div_ceil(1000);
            let message = format!("Function execution timed out (maximum duration: {seconds}s)");
            let end = End::Threw(Thrown { message, ..Thrown::default() });
            // Whoever asked may be gone.
            let _ = entry.done.send(Ended {
                end,
                result: String::new(),
                lines: entry.lines.into_vec(),
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder finishes a few assignments, whatever it calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The command of a process of the same binary.
fn worker(config: &Config, socket: StdUnixStream) -> Command {
    let mut command = Command::new(&config.program);
    command.args(&config.arguments).stdin(Stdio::from(OwnedFd::from(socket)));
    command
}

/// Where the system's certificates are, if the operator says so: the only things that a worker gets
/// to know of the host's environment.
fn certificates() -> impl Iterator<Item = (&'static str, OsString)> {
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    names.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

/// What the author of a function reads when its process died around it.
fn end_of_process(name: &str, why: &str, count: usize) -> String {
    let others = match count {
        0 | 1 => String::new(),
        many => format!(
            " It ran {} other actions at that time, so the cause may be one of those.",
            many - 1
        ),
    };
    format!(
        "The process that ran {name} ended: {why}.{others} The action may have done a part of its \
         work; it is not run again by itself."
    )
}

async fn write_frames(mut socket: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut waiting = Vec::new();
    while frames.recv_many(&mut waiting, FRAMES_AT_ONCE).await > 0 {
        for bytes in joined(waiting.drain(..)) {
            if socket.write_all(&bytes).await.is_err() {
                // The process is gone, which its reader reports.
                return;
            }
        }
    }
}

/// Small frames in one piece: each write may wake the process.
fn joined(frames: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for frame in frames {
        match pieces.last_mut() {
            Some(last) if last.len() + frame.len() <= READ_BYTES => last.extend_from_slice(&frame),
            _ => pieces.push(frame),
        }
    }
    pieces
}

async fn watch(process: Weak<Process>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(process) = process.upgrade() else { return };
        if process.is_dead() {
            return;
        }
        process.check();
    }
}

/// Whether a line belongs to one of the stacks that Node prints when it aborts: what is in them,
/// like `1: 0xd3a3c0 [node]`, says nothing to the author of a function.
fn is_of_a_stack(line: &str) -> bool {
    let (number, rest) = line.split_once(": ").unwrap_or_default();
    let is_frame = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_frame && !rest.is_empty()) || line.starts_with("-----")
}

/// The line of a process's last words that says most.
async fn last_words(words: Option<ChildStderr>) -> String {
    let Some(mut words) = words else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = vec![0; WORDS_BYTES];
    while let Ok(length @ 1..) = words.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        let excess = kept.len().saturating_sub(WORDS_BYTES);
        kept.drain(..excess);
    }
    let text = String::from_utf8_lossy(&kept);
    // V8 frames its last words with lines of `#`.
    let lines = text.lines().map(|line| line.trim_matches(['#', ' ']));
    let lines = lines.filter(|line| !line.is_empty() && !is_of_a_stack(line));
    let telling = ["out of memory", "atal", "memory allocation", "panicked", "heck failed"];
    let mut found = lines.clone().filter(|line| telling.iter().any(|word| line.contains(word)));
    found.next().or_else(|| lines.clone().next_back()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::node_folder::Folder;
    use crate::pool::Replying;
    use crate::pool::tests::{Silent, code, config, job};
    use crate::streams::Body;

    fn started(config: &Config, code: Arc<Code>) -> Arc<Process> {
        Process::start(config, &[], code, |_| {}).unwrap()
    }

    fn run(process: &Process, callbacks: Arc<dyn Callbacks>, config: &Config) -> Option<Started> {
        process.run(&mut Some(job(&process.code)), &callbacks, config)
    }

    #[tokio::test]
    async fn a_process_has_no_more_runs_than_it_may_have() {
        let config = config(2, 8);
        let process = started(&config, code("1"));
        let begin = || run(&process, Arc::new(Silent), &config);
        let (first, _second) = (begin().unwrap(), begin().unwrap());
        let (mut waiting, callbacks) = (Some(job(&process.code)), Arc::new(Silent) as Arc<_>);
        assert!(process.run(&mut waiting, &callbacks, &config).is_none());
        assert!(waiting.is_some(), "the job is for another process");
        process.done(first.run, End::Returned, String::new());
        assert!(begin().is_some(), "there is room again");
    }

    #[tokio::test]
    async fn nothing_comes_into_the_place_of_a_run_that_costs_its_process_its_life() {
        // With a folder a process is Node's, though this one is not started as such.
        let config = Config { node: None, ..config(1, 1) };
        let folder = Some(Arc::new(Folder::named("/f", None)));
        let process = started(&config, Arc::new(Code { folder, ..Code::default() }));
        for round in 0..100 {
            let mut stuck = run(&process, Arc::new(Silent), &config).unwrap();
            process.state().runs.get_mut(&stuck.run).unwrap().kill_at = Instant::now();
            let (is_there, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
            let came_in = std::thread::scope(|scope| {
                let others = scope.spawn(|| {
                    let mut came_in = false;
                    while !is_over.load(Ordering::Relaxed) {
                        came_in |= run(&process, Arc::new(Silent), &config).is_some();
                        is_there.store(true, Ordering::Relaxed);
                    }
                    came_in
                });
                while !is_there.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                process.check();
                is_over.store(true, Ordering::Relaxed);
                others.join().unwrap()
            });
            assert!(!came_in, "round {round}");
            assert!(matches!(stuck.done.try_recv().unwrap().end, End::Threw(_)));
            assert_eq!(process.load(), None);
            // The task that kills it has not come to run yet.
            *process.state() = State::default();
        }
    }

    /// Answers with a body, once it may.
    struct Late(Arc<Semaphore>, Mutex<Option<Body>>);

    impl Callbacks for Late {
        fn syscall(&self, _: Syscall) -> Replying {
            let (may, body) = (Arc::clone(&self.0), self.1.lock().unwrap().take());
            Box::pin(async move {
                may.acquire().await.unwrap().forget();
                Reply { body, ..Reply::json("{}") }
            })
        }
    }

    /// Lets the other tasks of this thread come to where they wait.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn bytes_that_come_when_their_run_has_ended_are_not_read() {
        for ends_first in [false, true] {
            let config = config(1, 1);
            let process = started(&config, code("1"));
            let (chunks, body) = mpsc::channel(64);
            // More than may be under way.
            let chunk = Bytes::from(vec![7; protocol::WINDOW_BYTES]);
            for _ in 0..8 {
                chunks.try_send(Ok(chunk.clone())).unwrap();
            }
            let may = Arc::new(Semaphore::new(0));
            let late = Late(Arc::clone(&may), Mutex::new(Some(body)));
            let Started { run, .. } = run(&process, Arc::new(late), &config).unwrap();
            let ask = ToHost::Syscall { run, call: 0, op: "storage.get".to_owned(), body: None };
            process.act(Frame { head: ask, tail: b"{}".to_vec() }).unwrap();
            let done = Frame { head: ToHost::Done { run, end: End::Returned }, tail: Vec::new() };
            if ends_first {
                process.act(done).unwrap();
                may.add_permits(1);
                settle().await;
            } else {
                may.add_permits(1);
                settle().await;
                assert!(!chunks.is_closed(), "it waits for credit");
                process.act(done).unwrap();
                settle().await;
            }
            assert!(chunks.is_closed(), "ends first: {ends_first}");
        }
    }

    #[test]
    fn small_frames_go_together_and_none_overtakes_another() {
        let frames = [vec![1; 10], vec![2; READ_BYTES - 10], vec![3], vec![4; 2 * READ_BYTES]];
        let pieces = joined(frames.iter().cloned());
        assert_eq!(
            pieces.iter().map(Vec::len).collect::<Vec<_>>(),
            [READ_BYTES, 1, 2 * READ_BYTES]
        );
        assert_eq!(pieces.concat(), frames.concat());
    }
}
