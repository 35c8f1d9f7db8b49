//! The host's pool of worker processes.
//!
//! In: jobs, and the code they run. Out: what came of them. Invariant: a process runs one version
//! of the code; nothing that happens in one reaches the host but messages.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keep::{Keep, Shelf};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, oneshot};

use crate::node::Node;
use crate::node_folder::Folder;
use crate::process::{Process, Started};
use crate::protocol::{End, ImportPhase, Limits, Network, Residents, RunId, Thrown};
use crate::starting::{Asked, Placed, Starting};
use crate::streams::Body;
use crate::worker::SNAPSHOT_ARGUMENT;

/// What whoever wants to run something reads from then on.
const SHUTTING_DOWN: &str = "The host is shutting down.";

/// What a run reads that is killed.
const KILLED: &str = "the host is shutting down";

/// How a pool is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Path of the program that is a worker, usually this one.
    pub program: PathBuf,
    /// The arguments that make it one.
    pub arguments: Vec<OsString>,
    /// Where the pool's own work runs.
    pub runtime: Handle,
    /// What a run may use.
    pub limits: Limits,
    /// What one run may ask at once.
    pub calls: CallLimits,
    /// Runs at the same time in one process.
    pub runs_per_process: usize,
    /// Runs at the same time in all of them.
    pub runs: usize,
    /// Runs after which a process is replaced.
    pub retire_after: u64,
    /// How long a process may have nothing to do; one of the newest code stays.
    pub idle: Duration,
    /// Where the processes are Node's: how those are started. `program` and `arguments` are unused
    /// then, and each process has one run at a time.
    pub node: Option<Node>,
    /// What `fetch` may reach besides public addresses.
    pub network: Network,
    /// What every context has from its start.
    pub residents: Residents,
    /// Where the startup snapshot is kept for the next start of the program.
    pub keep: Option<Shelf>,
}

/// What calls back to the host one run may have unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// How many.
    pub count: usize,
    /// Their arguments together, in bytes.
    pub bytes: usize,
}

impl Config {
    pub(crate) fn log_lines(&self) -> usize {
        usize::try_from(self.limits.log_lines).unwrap_or(usize::MAX)
    }
}

/// The code of a deployment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Names it; equal names are equal code.
    pub version: String,
    /// JavaScript by path.
    pub modules: BTreeMap<Arc<str>, Arc<str>>,
    /// Clock and randomness while they are evaluated.
    pub import: ImportPhase,
    /// Where Node finds its modules; they are not sent then.
    pub folder: Option<Arc<Folder>>,
    /// `process.env` that its processes start with, where that is known.
    pub environment: Option<Arc<BTreeMap<String, String>>>,
}

/// One function to run.
pub struct Job {
    /// The code that has it.
    pub code: Arc<Code>,
    /// `process.env`.
    pub environment: Arc<BTreeMap<String, String>>,
    /// `dir/mod.js`
    pub module: String,
    /// Name of the export.
    pub export: String,
    /// Names the request in logs and errors.
    pub request_id: String,
    /// After which it is stopped.
    pub timeout: Duration,
    /// Whether it may share a context with other runs that may, one after another: faster, and what
    /// one leaves on the global object or in a module's variables the next one finds.
    pub reuse: bool,
    /// What it is given.
    pub input: Input,
}

impl Job {
    /// `dir/mod:fn`, or `GET /path` for an HTTP action.
    pub(crate) fn name(&self) -> String {
        if let Input::Http { method, routed_path, .. } = &self.input {
            return format!("{method} {routed_path}");
        }
        let stem = self.module.strip_suffix(".js").unwrap_or(&self.module);
        if self.export == "default" { stem.to_owned() } else { format!("{stem}:{}", self.export) }
    }
}

/// What a function is given.
pub enum Input {
    /// An action's arguments.
    Action {
        /// JSON text of an array.
        arguments: String,
    },
    /// Nothing: modules are only looked at, in Node.
    Analysis {
        /// Their paths.
        modules: Vec<String>,
    },
    /// A request for the router that the export is.
    Http {
        /// The whole URL, as the client wrote it.
        url: String,
        /// Its path, without the prefix under which the app is mounted.
        routed_path: String,
        /// `GET`, `POST`, …
        method: String,
        /// Headers in order, names in lower case.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Option<Body>,
    },
}

/// A call back to the host.
pub struct Syscall {
    /// `1.0/actions/query`, …
    pub op: String,
    /// Its arguments, JSON text.
    pub json: String,
    /// Bytes that belong to them.
    pub body: Option<Body>,
}

/// The host's answer to a [`Syscall`].
pub struct Reply {
    /// JSON text, or the error that the call throws.
    pub result: Result<String, Thrown>,
    /// Bytes that belong to it.
    pub body: Option<Body>,
    /// What a function that was called logged: lines of the run.
    pub lines: Vec<Line>,
}

impl Reply {
    /// A result without bytes.
    pub fn json(text: impl Into<String>) -> Self {
        Self { result: Ok(text.into()), body: None, lines: Vec::new() }
    }

    /// An `Error` with this text.
    pub fn error(message: impl Into<String>) -> Self {
        let thrown = Thrown { message: message.into(), ..Thrown::default() };
        Self { result: Err(thrown), body: None, lines: Vec::new() }
    }
}

/// A reply that is being made.
pub type Replying = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Who answers the calls of one run.
pub trait Callbacks: Send + Sync + 'static {
    /// Answers one call.
    fn syscall(&self, syscall: Syscall) -> Replying;

    /// Hears what nobody waits for an answer to, before whatever the run says later. Must not
    /// block.
    fn told(&self, _op: &str, _json: &str) {}

    /// Hears of a console line as soon as it is written.
    fn logged(&self, _line: &Line) {}
}

/// A console line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `DEBUG`, `ERROR`, `INFO`, `LOG` or `WARN`.
    pub level: String,
    /// Rendered arguments.
    pub messages: Vec<String>,
    /// Whether text was cut at the line limit.
    pub truncated: bool,
    /// Whose it is.
    pub source: Source,
}

/// Whose a console line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The run's own; [`Callbacks::logged`] has been told of it.
    Run,
    /// A function's that the run called.
    Callee,
    /// The host's.
    Host,
}

impl Line {
    /// The last line, where there were more than `limit`.
    pub(crate) fn overflow(limit: usize) -> Self {
        let text = format!("Log overflow (maximum {limit}). Remaining log lines omitted.");
        let (level, source) = ("ERROR".to_owned(), Source::Host);
        Self { level, messages: vec![text], truncated: false, source }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// In which way.
    pub end: End,
    /// An action's result, JSON text.
    pub result: String,
    /// Console lines, in order.
    pub lines: Vec<Line>,
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// 200, 404, …
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Content,
    /// The route that answers.
    pub route: Option<String>,
}

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// What is still being made; dropped, its stream is cancelled.
    Stream(Body),
}

/// A run; dropped before its end, it is stopped.
pub struct Running {
    /// The head of the response, where there is one.
    pub head: oneshot::Receiver<ResponseHead>,
    done: oneshot::Receiver<Ended>,
    guard: Option<(Arc<Process>, RunId)>,
}

impl Running {
    pub(crate) fn new(process: Arc<Process>, started: Started) -> Self {
        let Started { run, head, done } = started;
        Self { head, done, guard: Some((process, run)) }
    }

    /// Waits for the end.
    pub async fn end(&mut self) -> Ended {
        let ended = (&mut self.done).await;
        self.guard = None;
        ended.unwrap_or_else(|_| refused(SHUTTING_DOWN))
    }

    /// Nobody waits for the response any more: tells the handler, which may finish what it does.
    pub fn client_left(&self) {
        if let Some((process, run)) = &self.guard {
            process.client_left(*run);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((process, run)) = self.guard.take() {
            process.cancel(run);
        }
    }
}

/// The pool.
pub struct Pool {
    config: Config,
    /// Stays empty where it could not be made: the system may have been short of something.
    snapshot: OnceCell<Vec<u8>>,
    state: Mutex<State>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    processes: Vec<Arc<Process>>,
    starting: Vec<Starting>,
    /// How many processes have been started or were to be.
    begun: u64,
    newest: Option<Arc<Code>>,
    is_closed: bool,
}

impl State {
    /// Whether one run more may be.
    fn admits(&self, most: usize) -> Result<(), String> {
        if self.is_closed {
            return Err(SHUTTING_DOWN.to_owned());
        }
        let running: usize = self.processes.iter().map(|process| process.runs()).sum();
        let waiting: usize = self.starting.iter().map(|starting| starting.jobs.len()).sum();
        if running + waiting >= most {
            return Err(format!(
                "Too many concurrent requests. Your backend is limited to {most} concurrent \
                 actions. Run fewer of them at a time, or make them shorter."
            ));
        }
        Ok(())
    }

    /// A process of this code with room for a run.
    fn with_room(&self, code: &Arc<Code>, runs_per_process: usize) -> Option<Arc<Process>> {
        let of_code = self.processes.iter().filter(|process| process.code == *code);
        let with_room = of_code
            .filter_map(|process| process.load().map(|load| (load, process)))
            .filter(|(load, _)| *load < runs_per_process)
            // Of equals the oldest: it has imported most.
            .rev()
            // The fullest: the others may become idle and end.
            .max_by_key(|(load, _)| *load);
        with_room.map(|(_, process)| Arc::clone(process))
    }

    /// Has a job wait for a process that is being started, or for one that is to be: its number.
    fn wait(&mut self, code: &Arc<Code>, asked: Option<Asked>, most: usize) -> Option<u64> {
        if let Some(starting) = self.starting.iter_mut().find(|one| one.takes(code, most)) {
            starting.jobs.extend(asked);
            return None;
        }
        let number = self.begun;
        self.begun += 1;
        let (code, jobs) = (Arc::clone(code), asked.into_iter().collect());
        self.starting.push(Starting { number, code, jobs, is_retired: false });
        Some(number)
    }
}

impl Pool {
    /// Starts a pool without processes; the startup snapshot is made meanwhile.
    pub fn start(config: Config) -> Arc<Self> {
        let runtime = config.runtime.clone();
        let pool = Arc::new_cyclic(|this| Self {
            config,
            snapshot: OnceCell::new(),
            state: Mutex::default(),
            this: this.clone(),
        });
        let made = Arc::clone(&pool);
        runtime.spawn(async move {
            // A failure is told to whoever wants to run something.
            let _ = made.snapshot().await;
        });
        runtime.spawn(tend(Arc::downgrade(&pool)));
        pool
    }

    /// Code that is to be run from now on: a process is made ready for it, those of older code end
    /// with their runs.
    pub fn deployed(&self, code: Arc<Code>) {
        let mut state = self.state();
        state.newest = Some(Arc::clone(&code));
        // They end by themselves, and stay in the list until then: what looks for all processes
        // meanwhile must find them.
        for process in state.processes.iter().filter(|process| process.code != code) {
            process.retire();
        }
        for starting in state.starting.iter_mut().filter(|starting| starting.code != code) {
            starting.is_retired = true;
        }
        drop(state);
        let Some(pool) = self.this.upgrade() else { return };
        self.config.runtime.spawn(async move {
            // Jobs may have come first, and have what they need.
            let has_any = {
                let state = pool.state();
                state.with_room(&code, usize::MAX).is_some()
                    || state.starting.iter().any(|starting| starting.takes(&code, usize::MAX))
            };
            if !has_any {
                pool.make_ready(&code).await;
            }
        });
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Why it could not be started, as an end.
    pub async fn run(&self, mut job: Job, callbacks: Arc<dyn Callbacks>) -> Result<Running, Ended> {
        let code = Arc::clone(&job.code);
        self.snapshot().await.map_err(|why| refused(&why))?;
        loop {
            let (tell, told) = oneshot::channel();
            self.place(&code, Some(Asked { job, callbacks: Arc::clone(&callbacks), tell }));
            match told.await {
                Ok(Placed::Runs(running)) => {
                    self.keep_spare(&code);
                    return Ok(running);
                }
                Ok(Placed::Refused(why)) => return Err(refused(&why)),
                // It died, or was killed, in this moment, and is not found again.
                Ok(Placed::Again(back)) => job = back,
                Err(_) => return Err(refused(SHUTTING_DOWN)),
            }
        }
    }

    /// Where a process has one run at a time, the next one is started ahead of the next run.
    fn keep_spare(&self, code: &Arc<Code>) {
        let is_newest = self.state().newest.as_ref() == Some(code);
        let (true, true, Some(pool)) = (self.config.node.is_some(), is_newest, self.this.upgrade())
        else {
            return;
        };
        let code = Arc::clone(code);
        self.config.runtime.spawn(async move { pool.make_ready(&code).await });
    }

    /// Sees to it that a process of this code, the newest, has room for a run.
    async fn make_ready(&self, code: &Arc<Code>) {
        // Whoever needs it finds out himself why there is none.
        if self.snapshot().await.is_ok() {
            self.place(code, None);
        }
    }

    /// Sees to it that a process of this code has room for a run, and gives that to the job.
    fn place(&self, code: &Arc<Code>, asked: Option<Asked>) {
        // One lock for all of it: of jobs that come at once, each must see those before it.
        let mut state = self.state();
        if asked.is_none() && state.newest.as_ref() != Some(code) {
            // It would have nothing to do, and nothing would end it.
            return;
        }
        if let Err(why) = state.admits(self.config.runs) {
            asked.into_iter().for_each(|asked| asked.refuse(&why));
            return;
        }
        if let Some(process) = state.with_room(code, self.config.runs_per_process) {
            asked.into_iter().for_each(|asked| asked.begin_in(&process, &self.config));
            return;
        }
        let number = state.wait(code, asked, self.config.runs_per_process);
        drop(state);
        if let Some(number) = number {
            self.start_process(number, Arc::clone(code));
        }
    }

    /// Starts a process with no lock held, and on no thread of tokio's: the system may take long.
    fn start_process(&self, number: u64, code: Arc<Code>) {
        let Some(pool) = self.this.upgrade() else { return };
        self.config.runtime.spawn_blocking(move || {
            let of_pool = pool.this.clone();
            let when_dead = move |dead: &Arc<Process>| {
                if let Some(pool) = of_pool.upgrade() {
                    pool.state().processes.retain(|process| !Arc::ptr_eq(process, dead));
                }
            };
            // Node has none. Whoever else has a process started has waited for it.
            let snapshot = pool.snapshot.get().map_or(&[][..], Vec::as_slice);
            pool.started(number, Process::start(&pool.config, snapshot, code, when_dead));
        });
    }

    /// Gives a process that was started to those that wait for it.
    fn started(&self, number: u64, process: std::io::Result<Arc<Process>>) {
        let mut state = self.state();
        let mut found = state.starting.extract_if(.., |starting| starting.number == number);
        let Some(Starting { jobs, is_retired, .. }) = found.next() else { return };
        drop(found);
        let process = match process {
            Ok(process) => process,
            Err(why) => return not_started(jobs, &why.to_string()),
        };
        // Where it has died already, nothing would take it off the list.
        if !process.is_dead() {
            state.processes.push(Arc::clone(&process));
        }
        if state.is_closed {
            process.kill(KILLED.to_owned());
            return jobs.into_iter().for_each(|asked| asked.refuse(SHUTTING_DOWN));
        }
        if process.load().is_none() {
            return not_started(jobs, "it ended at once");
        }
        for asked in jobs {
            asked.begin_in(&process, &self.config);
        }
        if is_retired {
            process.retire();
        }
    }

    /// The startup snapshot, made once, and tried again where it failed.
    async fn snapshot(&self) -> Result<&[u8], String> {
        if self.config.node.is_some() {
            return Ok(&[]);
        }
        let made = self.snapshot.get_or_try_init(|| make_snapshot(&self.config)).await;
        made.map(Vec::as_slice)
    }

    /// Kills all processes; what runs ends with an error.
    pub fn shut_down(&self) {
        let processes = {
            let mut state = self.state();
            state.is_closed = true;
            state.processes.clone()
        };
        for process in processes {
            process.kill(KILLED.to_owned());
        }
    }

    /// The processes that take jobs: the system's number of each, and how many runs it has.
    pub fn processes(&self) -> Vec<(u32, usize)> {
        let state = self.state();
        let all = state.processes.iter();
        all.filter_map(|process| Some((process.pid?, process.load()?))).collect()
    }

    /// All processes by the system's number, also those that take no more jobs: they have memory
    /// until they are dead.
    pub fn live(&self) -> Vec<u32> {
        self.state().processes.iter().filter_map(|process| process.pid).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder leaves the list whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retires processes that have nothing to do, all of them: memory is short.
    pub fn shrink(&self) {
        for process in &self.state().processes {
            if process.idle_since().is_some() {
                process.retire();
            }
        }
    }

    /// Retires processes that have had nothing to do for long.
    fn retire_idle(&self) {
        let state = self.state();
        let mut kept_one = false;
        for process in &state.processes {
            let is_newest = state.newest.as_ref() == Some(&process.code);
            if is_newest && !kept_one && process.load().is_some() {
                kept_one = true;
                continue;
            }
            let since = process.idle_since();
            if since.is_some_and(|since| since + self.config.idle <= Instant::now()) {
                process.retire();
            }
        }
    }
}

/// Refuses jobs whose process could not be started.
fn not_started(jobs: Vec<Asked>, why: &str) {
    let why = format!("The host could not start a process for the action: {why}. Try again later.");
    jobs.into_iter().for_each(|asked| asked.refuse(&why));
}

fn refused(why: &str) -> Ended {
    let thrown = Thrown { message: why.to_owned(), ..Thrown::default() };
    Ended { end: End::Threw(thrown), result: String::new(), lines: Vec::new() }
}

/// The snapshot that an earlier start has kept, else one that a process of its own makes.
async fn make_snapshot(config: &Config) -> Result<Vec<u8>, String> {
    let Config { program, residents, keep, .. } = config;
    let ingredients = serde_json::to_vec(residents).map_err(|e| e.to_string())?;
    let keep = keep.as_ref().and_then(|folder| Keep::of(folder, program, &ingredients));
    if let Some(kept) = keep.as_ref().and_then(Keep::read) {
        return Ok(kept);
    }
    let made = print_snapshot(config, &ingredients).await;
    let program = program.display();
    let output = made.map_err(|e| format!("Actions cannot run: cannot start {program}: {e}."))?;
    if output.status.success() {
        // Without it the next start makes its own, as this one did.
        let _ = keep.map_or(Ok(()), |keep| keep.write(&output.stdout));
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("Actions cannot run: {program} made no snapshot ({}): {words}", output.status))
}

async fn print_snapshot(config: &Config, residents: &[u8]) -> std::io::Result<Output> {
    let mut making = Command::new(&config.program)
        .args(&config.arguments)
        .arg(SNAPSHOT_ARGUMENT)
        .env_clear()
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = making.stdin.take() {
        input.write_all(residents).await?;
    }
    making.wait_with_output().await
}

/// Looks after idle processes while there is a pool.
async fn tend(pool: Weak<Pool>) {
    loop {
        let Some(period) = pool.upgrade().map(|pool| pool.config.idle / 4) else { return };
        tokio::time::sleep(period).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.retire_idle();
    }
}

#[cfg(test)]
pub(crate) mod tests;
