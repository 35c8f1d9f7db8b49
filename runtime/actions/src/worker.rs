//! A worker process: code in, then runs, each on a thread of its own.
//!
//! In: [`ToWorker`] on the socket that is standard input. Out: [`ToHost`]. Invariant: the process
//! ends with the socket; a run that is over its time is stopped by a thread that runs no
//! JavaScript.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::ahead::{Forecast, Loud};
use crate::confinement::Filter;
use crate::heap::{StopSwitch, Stopped};
use crate::loader::Code;
use crate::network::Network;
use crate::owed::{self, Owed};
use crate::protocol::{self, Frame, ImportPhase, Limits, RunId, ToHost, ToWorker};
use crate::run::{Job, Shared, Spare, Starts, path};
use crate::run_state::{Answered, Event};
use crate::runtime;
use crate::sharing::{Place, Sharing};
use crate::wire::Wire;

/// How often runs are looked at: one may pass its time by this much.
const PERIOD: Duration = Duration::from_millis(20);
/// After how many looks at no run the watchdog sleeps until there is one.
const LOOKS_AWAKE: u32 = 50;

/// The unit of the system's account of memory, in bytes.
const PAGE_BYTES: u64 = 4096;

/// The exit code of a process that used too much memory.
const OUT_OF_MEMORY: i32 = 137;

/// The argument that makes the process print a startup snapshot instead.
pub(crate) const SNAPSHOT_ARGUMENT: &str = "snapshot";

/// The main of a worker process.
///
/// # Errors
/// A socket that is none, or messages that break the protocol.
pub fn main(arguments: &[String]) -> io::Result<()> {
    if arguments.iter().any(|argument| argument == SNAPSHOT_ARGUMENT) {
        let residents = serde_json::from_reader(io::stdin().lock())?;
        let snapshot = runtime::make_snapshot(&residents).map_err(io::Error::other)?;
        let mut out = io::stdout().lock();
        out.write_all(&snapshot)?;
        return out.flush();
    }
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let wire = Arc::new(Wire::new(socket.try_clone()?));
    let mut socket = io::BufReader::with_capacity(64 << 10, socket);
    let Some(deployed) = Deployed::receive(&mut socket)? else { return Ok(()) };
    leave_no_core();
    owed::listen();
    // Before there are threads, which would not be confined.
    Filter::new().map_or(Ok(()), |mut filter| filter.enter())?;
    runtime::initialize();
    deno_core::JsRuntime::init_platform(None);
    let shared = Arc::new(Shared {
        snapshot: deployed.snapshot.leak(),
        code: Arc::new(Code::new(deployed.modules, deployed.import)),
        limits: deployed.limits,
        network: Arc::new(deployed.network),
        wire,
        sharing: Sharing::default(),
        loud: Loud::default(),
        threads: Arc::default(),
    });
    let worker = Worker { spare: Some(Spare::start(&shared, None)?), shared, runs: Arc::default() };
    watch(Arc::clone(&worker.runs), Arc::clone(&worker.shared))?;
    worker.shared.wire.send(&ToHost::Ready, &[]);
    let served = worker.serve(&mut socket);
    if let Err(why) = &served {
        let _ = writeln!(io::stderr(), "{why}");
    }
    // Runs may still be going on their threads: nothing of the process is taken down around them.
    // SAFETY: a plain system call that does not return.
    unsafe { libc::_exit(i32::from(served.is_err())) }
}

/// A process that dies leaves no image of its memory, which is users' data.
fn leave_no_core() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain system call on a value that lives here.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}

/// Ends the process when it uses more memory than it may: the wall behind the limits of runs. What
/// V8 and wasm only reserve does not count, so the system's own limits are of no use.
fn check_memory(account: &File, limit: u64) {
    let mut text = [0; 128];
    let Ok(length) = account.read_at(&mut text, 0) else { return };
    let text = String::from_utf8_lossy(&text[..length]);
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    if pages.unwrap_or(0) * PAGE_BYTES > limit {
        let _ = writeln!(io::stderr(), "out of memory: it used more than {} MB", limit >> 20);
        // SAFETY: a plain system call that does not return.
        unsafe { libc::_exit(OUT_OF_MEMORY) };
    }
}

/// What comes before the first run.
struct Deployed {
    snapshot: Vec<u8>,
    modules: BTreeMap<String, Arc<str>>,
    import: ImportPhase,
    limits: Limits,
    network: Network,
}

impl Deployed {
    /// Reads messages up to the last module; `None` when the host has changed its mind.
    fn receive(socket: &mut impl io::Read) -> io::Result<Option<Self>> {
        let mut snapshot = Vec::new();
        let mut expected = None;
        let mut modules = BTreeMap::new();
        let mut received = 0;
        loop {
            let Some(Frame { head, tail }) = protocol::read(socket)? else { return Ok(None) };
            match head {
                ToWorker::Snapshot => snapshot = tail,
                ToWorker::Deploy { modules, limits, network, import, .. } => {
                    expected = Some((modules, limits, network, import));
                }
                ToWorker::Module { path } => {
                    received += 1;
                    let text = String::from_utf8(tail).map_err(io::Error::other)?;
                    modules.insert(path, text.into());
                }
                other => return Err(unexpected(&other)),
            }
            let complete = expected.take_if(|(count, ..)| received >= *count);
            if let Some((_, limits, network, import)) = complete {
                return Ok(Some(Self { snapshot, modules, import, limits, network }));
            }
        }
    }
}

fn unexpected(message: &ToWorker) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not now: {message:?}"))
}

/// A run as the process sees it.
struct Running {
    events: UnboundedSender<Event>,
    deadline: Instant,
    switch: Option<Arc<StopSwitch>>,
    /// Why it is to be stopped as soon as it has a switch.
    doomed: Option<Stopped>,
}

impl Running {
    fn stop(&mut self, why: Stopped) {
        let why = *self.doomed.get_or_insert(why);
        if let Some(switch) = &self.switch {
            switch.stop(why);
            // It may wait for something: that wakes it.
            let _ = self.events.send(Event::Stopped);
        }
    }
}

/// The runs of the process.
#[derive(Default)]
struct Runs {
    all: Mutex<HashMap<RunId, Running>>,
    /// Told when there is one more.
    begun: Condvar,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Running>> {
        // Each holder does one insertion, removal or look-up.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, run: RunId, running: Running) {
        self.lock().insert(run, running);
        self.begun.notify_one();
    }

    /// Waits until there is a run.
    fn wait(&self) {
        let any = self.begun.wait_while(self.lock(), |all| all.is_empty());
        drop(any.unwrap_or_else(PoisonError::into_inner));
    }
}

struct Worker {
    shared: Arc<Shared>,
    runs: Arc<Runs>,
    spare: Option<Spare>,
}

impl Worker {
    fn serve(mut self, socket: &mut impl io::Read) -> io::Result<()> {
        let mut environment = Arc::new(BTreeMap::new());
        while let Some(Frame { head, tail }) = protocol::read::<ToWorker>(socket)? {
            match head {
                ToWorker::Environment { variables } => environment = Arc::new(variables),
                ToWorker::Run { run, module, export, request_id, timeout_ms, reuse, http } => {
                    let (sender, events) = unbounded_channel();
                    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
                    let running = Running { events: sender, deadline, switch: None, doomed: None };
                    self.runs.begin(run, running);
                    let arguments = String::from_utf8(tail).map_err(io::Error::other)?;
                    let path = path(&module, &export, http.as_ref());
                    let (started, owed) = self.watchers(run, path);
                    self.start(Job {
                        run,
                        module,
                        export,
                        request_id,
                        timeout_ms,
                        reuse,
                        turn: None,
                        http,
                        arguments,
                        environment: Arc::clone(&environment),
                        events,
                        started,
                        owed,
                    });
                }
                ToWorker::Answer { run, call, error, body } => {
                    let text = String::from_utf8(tail).map_err(io::Error::other)?;
                    let result = error.map_or(Ok(text), Err);
                    let answer = Answered { result, body };
                    self.tell(run, Event::Answer { call, answer });
                }
                ToWorker::Stream(about) => {
                    self.tell(about.id().run(), Event::Stream(about, tail));
                }
                ToWorker::Gone { run } => self.tell(run, Event::Gone),
                ToWorker::Cancel { run } => {
                    if let Some(running) = self.runs.lock().get_mut(&run) {
                        running.stop(Stopped::Cancelled);
                    }
                }
                ToWorker::Shutdown => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }

    /// Gives a job to a thread whose context it may share, else to the one that waits with a fresh
    /// context, and starts the next one of those.
    fn start(&mut self, mut job: Job) {
        if job.reuse {
            job = match Sharing::place(&self.shared, job) {
                Place::Context(thread, job) => return thread.take(job),
                Place::Waits => return,
                Place::Fresh(job) => job,
            };
        }
        let forecast = Forecast::of(&job);
        let spare = self.spare.take().map_or_else(|| Spare::start(&self.shared, None), Ok);
        let is_given = spare.is_ok();
        Spare::give(spare, job);
        if is_given {
            self.spare = Spare::start(&self.shared, Some(forecast)).ok();
        }
    }

    /// What a run tells the process when it starts, and when it has ended.
    fn watchers(&self, run: RunId, path: String) -> (Starts, Owed) {
        let (at_start, at_end) = (Arc::clone(&self.runs), Arc::clone(&self.runs));
        let started = move |switch| {
            if let Some(running) = at_start.lock().get_mut(&run) {
                running.switch = Some(switch);
                if let Some(why) = running.doomed {
                    running.stop(why);
                }
            }
        };
        let ended = move || {
            at_end.lock().remove(&run);
        };
        (Box::new(started), Owed::new(run, path, Arc::clone(&self.shared.wire), ended))
    }

    fn tell(&self, run: RunId, event: Event) {
        if let Some(running) = self.runs.lock().get(&run) {
            // A run that has ended hears nothing.
            let _ = running.events.send(event);
        }
    }
}

/// Starts the thread that stops runs at their time, and the process at the end of its memory.
fn watch(runs: Arc<Runs>, shared: Arc<Shared>) -> io::Result<()> {
    let account = File::open("/proc/self/statm")?;
    thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut idle = 0;
        loop {
            thread::sleep(PERIOD);
            check_memory(&account, shared.limits.process_bytes);
            Sharing::hurry(&shared);
            idle = if stop_what_is_over(&runs) { 0 } else { idle + 1 };
            if idle == LOOKS_AWAKE {
                runs.wait();
                idle = 0;
            }
        }
    })?;
    Ok(())
}

/// Stops runs that used too much time or memory; says whether there are any runs.
fn stop_what_is_over(runs: &Runs) -> bool {
    let now = Instant::now();
    let mut all = runs.lock();
    for running in all.values_mut() {
        let why = running.switch.as_ref().and_then(|switch| {
            switch.check_memories();
            switch.reason()
        });
        if let Some(why) = why.or((running.deadline <= now).then_some(Stopped::TimedOut)) {
            // Again and again: deno_core calls one off when it describes an error.
            running.stop(why);
        }
    }
    !all.is_empty()
}
