//! The pool: one isolate a thread, bounded queues before them.
//!
//! ```text
//!   server tasks ──► Host::call ──► queue (bounded) ──┬─► worker 1: engine, ready contexts
//!                     │ cache hit      full: 503      ├─► worker 2: engine, ready contexts
//!   scheduler ──────► │ ──► background's queue ───────┘       │
//!                   reply ◄───────────────────────────────────┘
//! ```
//!
//! In: jobs. Out: replies, exactly one each. Invariant: a job of the scheduler is taken only when
//! nobody waits for another one, and never by the last thread that is free; a worker whose engine
//! was terminated, or whose job panicked, replaces the engine and goes on; the thread never dies
//! before the pool does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError};
use database::error::Refusal;
use database::limits;
use database::memory::Pressure;
use database::record::{Call, Outcome, Reply};
use database::snapshot::Snapshot;

use crate::call::{self, Ran};
use crate::code::Code;
use crate::engine::Engine;
use crate::host::Shared;
use crate::reserves::Reserves;
use crate::watchdog::{Watchdog, Watched};

/// After this long without a job a worker gives the memory of finished contexts back.
const IDLE: Duration = Duration::from_millis(300);

/// How often a worker that has done so looks whether memory is short.
const NAP: Duration = Duration::from_secs(1);

/// After this long without being wanted a spare worker gives its isolate back.
const WANTED_AGAIN: Duration = Duration::from_millis(limits::ISOLATE_IDLE_MS);

/// A thread's stack: V8 uses at most `--stack-size`; native recursion needs the rest.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// One call on its way to a worker.
pub(crate) struct Job {
    /// Of the host that it came to; hosts may share a pool.
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: Call,
    pub(crate) code: Arc<Code>,
    /// The snapshot a query runs at; a mutation takes the newest when it starts.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) reply: Reply,
}

impl Job {
    /// Whether nobody waits for it.
    fn in_background(&self) -> bool {
        self.call.own_job().is_some()
    }

    /// Answers it with a refusal.
    fn refuse(self, code: &'static str, message: String) {
        (self.reply)(Err(Refusal::Overloaded { code, message }));
    }

    /// Answers it while the threads end.
    pub(crate) fn refuse_at_shutdown(self) {
        (self.reply)(Err(shutting_down()));
    }
}

/// Nothing new is begun.
pub(crate) fn shutting_down() -> Refusal {
    let message = "The host is shutting down.".to_owned();
    Refusal::Overloaded { code: "ShuttingDown", message }
}

/// A panic: our bug, not the caller's.
pub(crate) fn broken() -> Refusal {
    Refusal::Broken(
        "Your request couldn't be completed: the host hit a bug of its own and recovered. Nothing \
         was committed. Please report what you called."
            .to_owned(),
    )
}

/// The threads and their queues.
pub(crate) struct Pool {
    queues: Option<Senders>,
    threads: Vec<JoinHandle<()>>,
    /// Those that are no spare ones.
    isolates: usize,
    reserves: Arc<Reserves>,
}

/// The ends that jobs are put in.
struct Senders {
    waited_for: Sender<Job>,
    background: Sender<Job>,
}

/// The ends that workers take jobs out of: one that somebody waits for always goes first.
#[derive(Clone)]
struct Queues {
    waited_for: Receiver<Job>,
    background: Receiver<Job>,
    /// Told when a thread has run a job of the background.
    freed: Receiver<()>,
    share: Arc<Sharing>,
}

/// How many threads run jobs of the background.
struct Sharing {
    busy: AtomicUsize,
    /// How many may: where there are two threads or more, one is left to those who wait.
    most: usize,
    freed: Sender<()>,
}

/// Every sender is gone and the queues are empty.
struct Closed;

impl Queues {
    fn new(threads: usize) -> (Senders, Self) {
        let capacity = usize::try_from(limits::MAX_QUEUED_CALLS).expect("a queue's length fits");
        let (waited_for, first) = crossbeam_channel::bounded(capacity);
        let (background, second) = crossbeam_channel::bounded(capacity);
        let (freed, free) = crossbeam_channel::bounded(threads.max(1));
        let most = threads.saturating_sub(1).max(1);
        let share = Arc::new(Sharing { busy: AtomicUsize::new(0), most, freed });
        (
            Senders { waited_for, background },
            Self { waited_for: first, background: second, freed: free, share },
        )
    }

    /// A job that may run now.
    fn next(&self) -> Result<Option<Taken>, Closed> {
        let open = match self.waited_for.try_recv() {
            Ok(job) => return Ok(Some(Taken { job, share: None })),
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        };
        let share = Share::take(&self.share);
        if open && share.is_none() {
            return Ok(None);
        }
        match self.background.try_recv() {
            Ok(job) => Ok(Some(Taken { job, share })),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) if open => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Closed),
        }
    }

    /// Waits until there may be a next job. Says whether the time ran out first.
    fn wait(&self, longest: Option<Duration>) -> bool {
        let mut select = Select::new();
        select.recv(&self.waited_for);
        let full = self.share.busy.load(Ordering::Acquire) >= self.share.most;
        if full {
            select.recv(&self.freed);
        } else {
            select.recv(&self.background);
        }
        match longest {
            Some(longest) if select.ready_timeout(longest).is_err() => return true,
            Some(_) => {}
            None => {
                select.ready();
            }
        }
        // Its news is that it is worth looking again, which is what happens now.
        let _ = self.freed.try_recv();
        false
    }
}

/// A job, and the right to run it.
struct Taken {
    job: Job,
    share: Option<Share>,
}

/// Counts one of the threads that run jobs of the background.
struct Share(Arc<Sharing>);

impl Share {
    fn take(sharing: &Arc<Sharing>) -> Option<Self> {
        let more = |busy| (busy < sharing.most).then_some(busy + 1);
        let taken = sharing.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Self(Arc::clone(sharing)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        // Somebody may wait who did not look at the background's queue. Enough news waits if full.
        let _ = self.0.freed.try_send(());
    }
}

impl Pool {
    /// Starts `threads` workers, and `spare` ones that run calls only while others of them wait
    /// for functions elsewhere, or cannot be stopped.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub(crate) fn start(
        threads: usize,
        spare: usize,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let reserves = Arc::<Reserves>::default();
        let (queues, jobs) = Queues::new(threads);
        let watchdog = Arc::new(Watchdog::start()?);
        let start = |number: usize| {
            let is_first = number == 1;
            let (jobs, shared, watchdog) =
                (jobs.clone(), Arc::clone(shared), Arc::clone(&watchdog));
            let reserves = Arc::clone(&reserves);
            std::thread::Builder::new()
                .name(format!("isolate-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    Arc::clone(&reserves).join();
                    let reserve = number.checked_sub(threads + 1).map(|at| (at, reserves));
                    Worker { reserve, ..Worker::new(shared, is_first) }.serve(&jobs, &watchdog);
                })
        };
        let all = (1..=threads + spare).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queues: Some(queues), threads: all, isolates: threads, reserves })
    }

    /// Queues a job, or answers it with a refusal.
    pub(crate) fn submit(&self, job: Job) {
        let sent = match &self.queues {
            Some(queues) if job.in_background() => queues.background.try_send(job),
            Some(queues) => queues.waited_for.try_send(job),
            None => return job.refuse_at_shutdown(),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.refuse(
                "TooManyConcurrentRequests",
                format!(
                    "Too many concurrent requests. Your backend is limited to {} queued calls; \
                     they wait for {} isolates. Try again in a moment.",
                    limits::MAX_QUEUED_CALLS,
                    self.isolates
                ),
            ),
            Err(TrySendError::Disconnected(job)) => job.refuse_at_shutdown(),
        }
    }

    /// Jobs that wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.waited_for.len() + queues.background.len())
    }

    /// Runs what is queued to its end, then ends the threads.
    pub(crate) fn shut_down(&mut self) {
        self.queues = None;
        self.reserves.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One thread.
struct Worker {
    /// Of the host whose job it ran last, at first the one that started the pool.
    shared: Arc<Shared>,
    engine: Option<Engine>,
    /// Whether it keeps its isolate when there is nothing to do: so that the first call is quick.
    is_first: bool,
    /// The database's count of squeezes when it gave up what it could.
    squeezes: u64,
    /// Where it serves only while it is wanted: its number among those, and who knows.
    reserve: Option<(usize, Arc<Reserves>)>,
}

/// How far a worker without a job has wound down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It has run a job just now.
    Not,
    /// It has given the memory of finished contexts back; it has looked so often since.
    Tidy(u64),
    /// It has given its isolate back.
    Asleep,
}

impl Rest {
    /// After a while without a job.
    fn next(self, is_calm: bool, is_first: bool) -> Self {
        const PATIENCE: u64 = limits::ISOLATE_IDLE_MS / NAP.as_millis() as u64;
        match self {
            Self::Not => Self::Tidy(0),
            Self::Tidy(looks) if is_calm && (is_first || looks < PATIENCE) => {
                Self::Tidy(looks.saturating_add(1))
            }
            Self::Tidy(_) | Self::Asleep => Self::Asleep,
        }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, is_first: bool) -> Self {
        let squeezes = shared.database.squeezes();
        Self { shared, engine: None, is_first, squeezes, reserve: None }
    }

    fn serve(mut self, jobs: &Queues, watchdog: &Watchdog) {
        let watched = Watched::this_thread();
        watchdog.watch(Arc::clone(&watched));
        let mut rest = Rest::Not;
        loop {
            if let Some((number, reserves)) = &self.reserve
                && !reserves.wait_at_most(*number, WANTED_AGAIN)
            {
                self.engine = None;
                reserves.wait(*number);
            }
            let Ok(next) = jobs.next() else { break };
            if let Some(Taken { job, share }) = next {
                rest = Rest::Not;
                self.run(job, &watched);
                self.freeze_wished();
                drop(share);
                self.give_up_when_squeezed();
                continue;
            }
            // Nothing waits: make the next context now, off everybody's path.
            if rest != Rest::Asleep && self.prepare() {
                continue;
            }
            let longest = match rest {
                Rest::Not => Some(IDLE),
                Rest::Tidy(_) => Some(NAP),
                Rest::Asleep => None,
            };
            if jobs.wait(longest) {
                rest = self.wind_down(rest);
            }
        }
        watchdog.forget(&watched);
    }

    /// One job, whatever it does.
    fn run(&mut self, job: Job, watched: &Watched) {
        let Job { shared, call, code, snapshot, reply } = job;
        self.shared = shared;
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_to_end(watched, call, code, snapshot)));
        watched.end();
        match ran {
            Ok(answer) => reply(answer),
            Err(_) => {
                // Our bug, not the user's: the caller gets an error and the isolate goes.
                crate::execution::abandon();
                self.engine = None;
                reply(Err(broken()));
            }
        }
        if self.engine.as_ref().is_some_and(Engine::is_spent) {
            self.engine = None;
        }
    }

    /// Runs a call with its code, or with the code of a version that was pushed meanwhile.
    fn run_to_end(
        &mut self,
        watched: &Watched,
        mut call: Call,
        mut code: Arc<Code>,
        mut snapshot: Arc<Snapshot>,
    ) -> Result<Outcome, Refusal> {
        let shared = Arc::clone(&self.shared);
        loop {
            let engine = self.engine_for(&code);
            match call::run(&shared, engine, watched, call, snapshot) {
                Ran::Done(answer) => return *answer,
                Ran::Moved(moved) => {
                    call = *moved;
                    snapshot = shared.database.newest();
                    code = shared.code_of(&snapshot).ok_or_else(|| {
                        Refusal::Broken("the deployment vanished during a call".to_owned())
                    })?;
                }
            }
        }
    }

    /// The engine of `code`, replacing one of another version, and one without a snapshot by one
    /// with it. A call that was begun without it is served with it too.
    fn engine_for(&mut self, code: &Arc<Code>) -> &mut Engine {
        let wanted = &code.analysis;
        let fits = |engine: &Engine| {
            let has = &engine.code().analysis;
            let is_behind = has.tier.is_provisional() && !wanted.tier.is_provisional();
            has.version == wanted.version && !is_behind && !engine.is_spent()
        };
        if self.engine.as_ref().is_some_and(|engine| !fits(engine)) {
            self.engine = None;
        }
        self.engine.get_or_insert_with(|| Engine::new(Arc::clone(code)))
    }

    /// Makes a context for the newest deployment ahead of time. Returns whether it did anything.
    fn prepare(&mut self) -> bool {
        let Some(code) = self.shared.newest_code() else { return false };
        self.engine_for(&code).prepare()
    }

    /// The next calls find a context that this one went without.
    fn freeze_wished(&mut self) {
        let engine = self.engine.as_mut().filter(|engine| !engine.is_spent());
        if let Some(engine) = engine {
            engine.freeze_wished();
        }
    }

    /// One step towards sleep, after a while without a job.
    fn wind_down(&mut self, rest: Rest) -> Rest {
        let is_calm = self.shared.database.pressure() == Pressure::Calm;
        let next = rest.next(is_calm, self.is_first);
        match next {
            Rest::Tidy(0) => self.tidy(),
            Rest::Asleep => self.engine = None,
            Rest::Tidy(_) | Rest::Not => {}
        }
        next
    }

    /// Between two jobs, if somebody needs the memory.
    fn give_up_when_squeezed(&mut self) {
        let squeezes = self.shared.database.squeezes();
        if std::mem::replace(&mut self.squeezes, squeezes) != squeezes {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.collect_garbage();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a worker looks before it sleeps, if it does.
    fn looks(is_calm: bool, is_first: bool) -> Option<usize> {
        let steps =
            std::iter::successors(Some(Rest::Not), |rest| Some(rest.next(is_calm, is_first)));
        steps.take(1_000).position(|rest| rest == Rest::Asleep)
    }

    #[test]
    fn an_isolate_without_work_goes_and_one_stays_unless_memory_is_short() {
        let patience = Duration::from_millis(limits::ISOLATE_IDLE_MS);
        let waits = |looks: usize| IDLE + NAP * u32::try_from(looks - 1).unwrap();
        assert!(waits(looks(true, false).unwrap()) >= patience);
        assert_eq!(looks(true, true), None);
        assert_eq!((looks(false, true), looks(false, false)), (Some(2), Some(2)));
    }
}
