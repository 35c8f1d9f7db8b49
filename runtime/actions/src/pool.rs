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
use crate::streams::Body;
use crate::worker::SNAPSHOT_ARGUMENT;

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
    /// Waits for the end.
    pub async fn end(&mut self) -> Ended {
        let ended = (&mut self.done).await;
        self.guard = None;
        ended.unwrap_or_else(|_| refused("The host is shutting down."))
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
    newest: Option<Arc<Code>>,
    is_closed: bool,
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
        drop(state);
        let Some(pool) = self.this.upgrade() else { return };
        self.config.runtime.spawn(async move {
            // Jobs may have come first, and have what they need.
            let serves = |process: &Arc<Process>| process.load().is_some() && process.code == code;
            let has_any = pool.state().processes.iter().any(serves);
            if !has_any {
                pool.make_ready(&code).await;
            }
        });
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Why it could not be started, as an end.
    pub async fn run(&self, job: Job, callbacks: Arc<dyn Callbacks>) -> Result<Running, Ended> {
        let code = Arc::clone(&job.code);
        let snapshot = self.snapshot().await.map_err(|why| refused(&why))?;
        let mut waiting = Some(job);
        loop {
            let (process, started) = {
                // One lock for both: of jobs that come at once, each must see those before it.
                let mut state = self.state();
                let process = self.process_for(&mut state, snapshot, &code);
                let process = process.map_err(|why| refused(&why))?;
                let started = process.run(&mut waiting, &callbacks, &self.config);
                (process, started)
            };
            if let Some(Started { run, head, done }) = started {
                self.keep_spare(&code);
                return Ok(Running { head, done, guard: Some((process, run)) });
            }
            // It died, or was killed, in this moment, and is not found again.
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

    /// Sees to it that a process of this code has room for a run.
    async fn make_ready(&self, code: &Arc<Code>) {
        if let Ok(snapshot) = self.snapshot().await {
            // Whoever needs it finds out himself why there is none.
            let _ = self.process_for(&mut self.state(), snapshot, code);
        }
    }

    /// A process of this code with room for a run.
    fn process_for(
        &self,
        state: &mut State,
        snapshot: &[u8],
        code: &Arc<Code>,
    ) -> Result<Arc<Process>, String> {
        if state.is_closed {
            return Err("The host is shutting down.".to_owned());
        }
        let running: usize = state.processes.iter().map(|process| process.runs()).sum();
        if running >= self.config.runs {
            return Err(format!(
                "Too many concurrent requests. Your backend is limited to {} concurrent actions. \
                 Run fewer of them at a time, or make them shorter.",
                self.config.runs
            ));
        }
        let of_code = state.processes.iter().filter(|process| process.code == *code);
        let with_room = of_code
            .filter_map(|process| process.load().map(|load| (load, process)))
            .filter(|(load, _)| *load < self.config.runs_per_process)
            // Of equals the oldest: it has imported most.
            .rev()
            // The fullest: the others may become idle and end.
            .max_by_key(|(load, _)| *load);
        if let Some((_, process)) = with_room {
            return Ok(Arc::clone(process));
        }
        let pool = self.this.clone();
        let when_dead = move |dead: &Arc<Process>| {
            if let Some(pool) = pool.upgrade() {
                pool.state().processes.retain(|process| !Arc::ptr_eq(process, dead));
            }
        };
        let started = Process::start(&self.config, snapshot, Arc::clone(code), when_dead);
        let process = started.map_err(|e| {
            format!("The host could not start a process for the action: {e}. Try again later.")
        })?;
        state.processes.push(Arc::clone(&process));
        Ok(process)
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
            process.kill("the host is shutting down".to_owned());
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
pub(crate) mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Barrier;
    use tokio::task::JoinSet;

    use super::*;
    use crate::node::Version;

    /// Asks for nothing.
    pub(crate) struct Silent;

    impl Callbacks for Silent {
        fn syscall(&self, _: Syscall) -> Replying {
            Box::pin(std::future::pending())
        }
    }

    /// A pool whose processes hear everything and say nothing: their runs end when a test says so.
    pub(crate) fn config(runs_per_process: usize, runs: usize) -> Config {
        let version = Version { major: 20, minor: 0 };
        let program = PathBuf::from("/bin/cat");
        let (heap_mib, process_bytes, file_bytes) = Default::default();
        // It is not started, as the code has no folder. With it there is no snapshot to be made.
        let node = Node { program: program.clone(), version, heap_mib, process_bytes, file_bytes };
        Config {
            program,
            arguments: Vec::new(),
            runtime: Handle::current(),
            limits: Limits::default(),
            calls: CallLimits { count: 8, bytes: 1 << 20 },
            runs_per_process,
            runs,
            retire_after: u64::MAX,
            idle: Duration::from_secs(3600),
            node: Some(node),
            network: Network::default(),
            residents: Residents::default(),
            keep: None,
        }
    }

    pub(crate) fn code(version: &str) -> Arc<Code> {
        Arc::new(Code { version: version.to_owned(), ..Code::default() })
    }

    pub(crate) fn job(code: &Arc<Code>) -> Job {
        Job {
            code: Arc::clone(code),
            environment: Arc::default(),
            module: "m.js".to_owned(),
            export: "f".to_owned(),
            request_id: String::new(),
            timeout: Duration::from_secs(3600),
            reuse: false,
            input: Input::Action { arguments: "[]".to_owned() },
        }
    }

    async fn run(pool: &Pool, code: &Arc<Code>) -> Result<Running, Ended> {
        pool.run(job(code), Arc::new(Silent)).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn jobs_that_come_at_once_have_a_process_each_and_are_no_more_than_may_be() {
        let jobs = 32;
        for limit in [1, 2, 3, 16].into_iter().cycle().take(100) {
            let (pool, code) = (Pool::start(config(1, limit)), code("1"));
            let together = Arc::new(Barrier::new(jobs));
            let mut tasks = JoinSet::new();
            for _ in 0..jobs {
                let (pool, code) = (Arc::clone(&pool), Arc::clone(&code));
                let together = Arc::clone(&together);
                tasks.spawn(async move {
                    together.wait().await;
                    run(&pool, &code).await
                });
            }
            let running: Vec<_> =
                tasks.join_all().await.into_iter().filter_map(Result::ok).collect();
            let processes: HashSet<_> =
                running.iter().map(|run| run.guard.as_ref().unwrap().0.pid).collect();
            assert_eq!((running.len(), processes.len()), (limit, limit));
            pool.shut_down();
        }
    }

    #[tokio::test]
    async fn runs_of_older_code_are_among_those_that_may_be() {
        let (pool, old) = (Pool::start(config(1, 2)), code("1"));
        let first = run(&pool, &old).await.unwrap();
        let new = code("2");
        pool.deployed(Arc::clone(&new));
        assert_eq!(first.guard.as_ref().unwrap().0.load(), None, "it is retired");
        let _second = run(&pool, &new).await.unwrap();
        let refused = run(&pool, &new).await.err().unwrap();
        assert!(
            matches!(refused.end, End::Threw(thrown) if thrown.message.contains("limited to 2"))
        );
    }

    #[tokio::test]
    async fn all_processes_can_be_found_while_those_of_older_code_are_retired() {
        let (pool, old) = (Pool::start(config(1, 1)), code("1"));
        let start = || Process::start(&pool.config, &[], Arc::clone(&old), |_| {}).unwrap();
        pool.state().processes = std::iter::repeat_with(start).take(16).collect();
        let is_over = AtomicBool::new(false);
        let fewest = std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut fewest = usize::MAX;
                while !is_over.load(Ordering::Relaxed) {
                    fewest = fewest.min(pool.live().len());
                }
                fewest
            });
            for push in 0..2000 {
                pool.deployed(code(&format!("later {push}")));
            }
            is_over.store(true, Ordering::Relaxed);
            looks.join().unwrap()
        });
        assert_eq!(fewest, 16, "a host that stops must find all of them");
        assert!(pool.state().processes.iter().all(|process| process.load().is_none()));
    }

    #[tokio::test]
    async fn a_process_of_older_code_counts_until_it_is_dead() {
        let (pool, old) = (Pool::start(config(1, 8)), code("1"));
        let long = run(&pool, &old).await.unwrap();
        let process = Arc::clone(&long.guard.as_ref().unwrap().0);
        pool.deployed(code("2"));
        let pid = process.pid.unwrap();
        assert!(pool.processes().iter().all(|(taking, _)| *taking != pid), "it takes no more jobs");
        assert!(pool.live().contains(&pid), "and its run has its memory still");
        process.kill("this test has seen enough".to_owned());
        while pool.live().contains(&pid) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_could_not_be_made_is_tried_again() {
        let mark = std::env::temp_dir().join(format!("concave-snapshot-{}", std::process::id()));
        let script = "cat > /dev/null; if mkdir \"$0\"; then exit 1; fi; echo made";
        let config = Config {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into(), mark.clone().into()],
            node: None,
            ..config(1, 1)
        };
        let pool = Pool::start(config);
        // The pool tries by itself as it starts: one of the two tries fails, whichever comes first.
        let _ = pool.snapshot().await;
        let then = pool.snapshot().await.map(<[u8]>::to_vec);
        std::fs::remove_dir(&mark).unwrap();
        assert_eq!(then.as_deref(), Ok(&b"made\n"[..]));
    }
}
