//! The scheduler: runs what is due, a bounded number side by side, and writes what came of it.
//!
//! In: rows of `_scheduled_functions` and `_cron_jobs`, the time of the world. Out: calls, and
//! rows.
//!
//! ```text
//!   commit that touches what is due ─┐
//!   end of a call ───────────────────┼─▶ mail ─▶ step: look at the newest snapshot, start what is
//!   timer ───────────────────────────┘           due and has room, watch what was looked at
//! ```
//! Invariant: what is due is decided by the rows and by [`World::now`](database::record::World)
//! alone; mail and timers only say that it is worth looking. A row that is due is running, waits
//! for room, or waits out a pause that the host's own trouble made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use database::crons::{self, CronJob};
use database::deployment::CodeVersion;
use database::durability::{NOT_DURABLE, NotDurable};
use database::error::{Refusal, UserError};
use database::id::DocumentId;
use database::limits;
use database::read_set::ReadSet;
use database::record::{Arguments, CronRun, FunctionKind, FunctionPath, Job, LogLine, Outcome};
use database::scheduling::{self, JobState, Pending};
use database::snapshot::Snapshot;
use database::subscriptions::{Invalidation, Owner, SubscriptionId, Watcher};

use crate::crons::Schedule;
use crate::essential;
use crate::event::Told;
use crate::host::Host;

const NS_PER_MS: u64 = 1_000_000;
/// The longest wait for mail: a machine that slept, or a clock that was set, is noticed after it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time between two looks for rows that are too old.
const COLLECT_EVERY_NS: u64 = 60_000 * NS_PER_MS;
/// The first pause before a job is tried again.
const FIRST_PAUSE_NS: u64 = 500 * NS_PER_MS;
/// Rows that are due and that one look goes over: what is behind them waits for their end.
const LOOK: usize = 2_000;
/// Mutations that wait for room, after which one look goes no further: they are soon done.
const LOOK_PAST: usize = 8;

/// What the scheduler is told.
enum Mail {
    /// What it looked at has changed.
    Look,
    /// A call came to its end.
    Ended(Box<Ended>),
    /// That a job ended so was noted, and undone.
    Undone(Job, JobState),
    /// Start nothing more, and end when nothing runs.
    Stop,
    /// End now.
    Abandon,
}

struct Ended {
    row: DocumentId,
    outcome: Result<Outcome, Refusal>,
    told: Told,
}

/// One call under way.
struct Running {
    job: Job,
    path: FunctionPath,
    kind: FunctionKind,
}

/// Actions that wait for room, as long as the code that says so serves.
#[derive(Default)]
struct Waiting {
    code: CodeVersion,
    actions: BTreeSet<DocumentId>,
}

/// A job that the host could not run.
struct Pause {
    tries: u32,
    until: u64,
}

/// The scheduler's state. It has no thread of its own: [`Thread`] steps it, or a test does.
pub(crate) struct Scheduler {
    host: Arc<Host>,
    mail: Receiver<Mail>,
    outbox: Sender<Mail>,
    running: BTreeMap<DocumentId, Running>,
    /// How many of those are actions.
    actions: u64,
    /// Rows of actions that found no room: not to be read again at each look.
    waiting: Waiting,
    paused: BTreeMap<DocumentId, Pause>,
    /// While the host's queue is full nothing is started.
    overloaded: Option<Pause>,
    watch: Option<SubscriptionId>,
    alarm: Arc<Alarm>,
    next_collection: u64,
    /// Ends of jobs that could not be made durable; noted again at the next look.
    undone: Vec<(Job, JobState)>,
    stopping: Option<Stop>,
}

/// When the scheduler ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// When nothing runs any more.
    Idle,
    Now,
}

/// Whether one look got to the end of what is due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

/// Sends the scheduler to look again.
#[derive(Debug)]
struct Alarm(Sender<Mail>);

impl Watcher for Alarm {
    fn end(self: Arc<Self>, _: &Invalidation) {}

    fn published(&self) {
        // A scheduler that has ended needs no news.
        let _ = self.0.send(Mail::Look);
    }
}

impl Scheduler {
    /// A scheduler of what a host's database holds. Actions that an earlier one left in progress
    /// have failed.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        let world = &*host.config.world;
        scheduling::recover(&host.database, world);
        crons::recover(&host.database, world);
        let (outbox, mail) = mpsc::channel();
        Self {
            alarm: Arc::new(Alarm(outbox.clone())),
            host,
            mail,
            outbox,
            running: BTreeMap::new(),
            actions: 0,
            waiting: Waiting::default(),
            paused: BTreeMap::new(),
            overloaded: None,
            watch: None,
            next_collection: 0,
            undone: Vec::new(),
            stopping: None,
        }
    }

    /// Takes in the mail that is there, starts what is due and has room, and says when it is worth
    /// looking again even without mail: nanoseconds since the Unix epoch.
    pub(crate) fn step(&mut self) -> Option<u64> {
        while let Ok(mail) = self.mail.try_recv() {
            self.take(mail);
        }
        loop {
            let (wake, reads, snapshot) = self.look();
            if self.watches(&reads, &snapshot) {
                return wake;
            }
        }
    }

    /// How many calls are under way.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether there is mail; takes one.
    #[cfg(test)]
    pub(crate) fn has_mail(&mut self) -> bool {
        let mail = self.mail.try_recv();
        mail.map(|mail| self.take(mail)).is_ok()
    }

    fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Look => {}
            Mail::Ended(ended) => self.ended(*ended),
            Mail::Undone(job, state) => {
                self.undone.push((job, state));
                self.overloaded = Some(longer(self.overloaded.take(), self.now()));
            }
            Mail::Stop => self.stopping = self.stopping.or(Some(Stop::Idle)),
            Mail::Abandon => self.stopping = Some(Stop::Now),
        }
    }

    /// One look at the newest snapshot.
    fn look(&mut self) -> (Option<u64>, ReadSet, Arc<Snapshot>) {
        let now = self.now();
        if self.stopping.is_none() && now >= self.next_collection {
            let removed =
                scheduling::collect_garbage(&self.host.database, &*self.host.config.world);
            // After a full batch there may be more.
            self.next_collection = if removed > 0 { now } else { now + COLLECT_EVERY_NS };
        }
        let snapshot = self.host.database.newest();
        let mut reads = ReadSet::default();
        if self.stopping.is_some() {
            return (None, reads, snapshot);
        }
        if let Some(until) = self.overloaded.as_ref().map(|pause| pause.until).filter(|u| *u > now)
        {
            return (Some(until), reads, snapshot);
        }
        if self.host.database.out_of_memory().is_some() {
            let until = now + FIRST_PAUSE_NS;
            self.overloaded = Some(Pause { tries: 0, until });
            return (Some(until), reads, snapshot);
        }
        for (job, state) in std::mem::take(&mut self.undone) {
            self.end(job, &state);
        }
        let crons = self.start_crons(&snapshot, now);
        crons::looked_at(&snapshot, &mut reads);
        let jobs = self.start_jobs(&snapshot, now, &mut reads);
        let wake = crons.into_iter().chain(jobs).chain([self.next_collection]).min();
        (wake, reads, snapshot)
    }

    /// Starts the scheduled functions that are due. Says when the next one will be.
    fn start_jobs(&mut self, snapshot: &Snapshot, now: u64, reads: &mut ReadSet) -> Option<u64> {
        let (mut wake, mut last, mut waiting) = (None, None, 0);
        let code = snapshot.deployment.as_ref().map(|d| d.analysis.version).unwrap_or_default();
        if self.waiting.code != code || self.has_room(FunctionKind::Action) {
            self.waiting = Waiting { code, actions: BTreeSet::new() };
        }
        for row in scheduling::pending(snapshot).take(LOOK) {
            last = Some(row);
            if row.due > now {
                wake = earlier(wake, row.due);
                break;
            }
            if let Some(until) = self.held_back(row.id(), now) {
                wake = earlier(wake, until);
            } else if !self.running.contains_key(&row.id())
                && !self.waiting.actions.contains(&row.id())
                && self.start_job(snapshot, &row) == Room::Full
            {
                waiting += usize::from(!self.has_room(FunctionKind::Mutation));
                if waiting > LOOK_PAST {
                    break;
                }
            }
        }
        // Where mutations wait, the end of one brings the next look.
        if waiting == 0 {
            let future = last.as_ref().filter(|last| last.due > now);
            scheduling::looked_at(snapshot, future, reads);
        }
        wake
    }

    fn start_job(&mut self, snapshot: &Snapshot, row: &Pending<'_>) -> Room {
        let job = Job::Scheduled(row.id());
        match row.job() {
            Ok(found) => self.start(snapshot, job, (found.path, found.args)),
            Err(error) => {
                self.end(job, &JobState::Failed(error.message));
                Room::Left
            }
        }
    }

    /// Starts the cron jobs that are due. Says when the next one will be.
    fn start_crons(&mut self, snapshot: &Snapshot, now: u64) -> Option<u64> {
        let mut wake = None;
        for cron in crons::jobs(snapshot).flatten() {
            let Ok(schedule) = Schedule::parse(&cron.name, &cron.schedule) else { continue };
            let Some(due) = cron.next else {
                let first = schedule.first(cron.previous, now);
                self.set_next(cron.id, (None, first));
                continue;
            };
            if let Some(sooner) = schedule.sooner(due, now) {
                self.set_next(cron.id, (Some(due), sooner));
                continue;
            }
            if due > now {
                return earlier(wake, due);
            }
            if let Some(until) = self.held_back(cron.id, now) {
                wake = earlier(wake, until);
            } else if !cron.in_progress && !self.running.contains_key(&cron.id) {
                let (next, _) = schedule.after(due, now);
                let run = CronRun { id: cron.id, due, next };
                self.start(snapshot, Job::Cron(run), (cron.path, cron.args));
            }
        }
        wake
    }

    /// Starts one call, if there is room for its kind.
    fn start(
        &mut self,
        snapshot: &Snapshot,
        job: Job,
        (path, args): (FunctionPath, Arguments),
    ) -> Room {
        let kind = match kind_of(snapshot, &path) {
            Ok(kind) => kind,
            Err(why) => {
                self.end(job, &JobState::Failed(why));
                return Room::Left;
            }
        };
        if !self.has_room(kind) {
            if kind == FunctionKind::Action {
                self.waiting.actions.insert(row_of(job));
            }
            return Room::Full;
        }
        let host = &self.host;
        let begin = || scheduling::begin(&host.database, &*host.config.world, job);
        let begun = (kind == FunctionKind::Action).then(begin);
        if begun == Some(None) {
            return Room::Left;
        }
        let row = row_of(job);
        self.actions += u64::from(kind == FunctionKind::Action);
        self.running.insert(row, Running { job, path: path.clone(), kind });
        let call = job.call(kind, (path, args), host.request_id());
        let told = Told::of(host, &call);
        let outbox = self.outbox.clone();
        let reply = move |outcome| {
            // A scheduler that was abandoned needs no news.
            let _ = outbox.send(Mail::Ended(Box::new(Ended { row, outcome, told })));
        };
        let Some(begun) = begun.flatten() else {
            host.functions.call(call, Box::new(reply));
            return Room::Left;
        };
        let functions = Arc::clone(&host.functions);
        let start = move |durable: Result<(), NotDurable>| match durable {
            Ok(()) => functions.call(call, Box::new(reply)),
            Err(undone) => reply(Err(undone.into())),
        };
        host.database.when_durable(begun, Box::new(start));
        Room::Left
    }

    /// A call came to its end.
    fn ended(&mut self, ended: Ended) {
        let Ended { row, mut outcome, told } = ended;
        let Some(Running { job, path, kind }) = self.running.remove(&row) else { return };
        self.actions -= u64::from(kind == FunctionKind::Action);
        let state = match &outcome {
            Ok(Outcome { result: Ok(_), .. }) => Some(JobState::Success),
            Ok(Outcome { result: Err(error), .. }) => Some(JobState::Failed(error.message.clone())),
            Err(Refusal::Bad(UserError { code: "JobNotPending", .. })) => return,
            // It never left its queue, or the host hit a bug before anything was committed.
            Err(refusal) if kind == FunctionKind::Mutation => return self.refused(row, refusal),
            // That it began was undone, so it did not.
            Err(refusal @ Refusal::Overloaded { code: NOT_DURABLE, .. }) => {
                return self.refused(row, refusal);
            }
            Err(refusal) => Some(JobState::Failed(refusal.to_string())),
        };
        self.paused.remove(&row);
        self.overloaded = None;
        match (kind, &state) {
            // That is part of the mutation's own commit.
            (FunctionKind::Mutation, Some(JobState::Success)) => {}
            // A push replaced it by something else meanwhile: look again what it is.
            (FunctionKind::Mutation, _)
                if kind_of(&self.host.database.newest(), &path) != Ok(kind) => {}
            (_, Some(state)) => self.end(job, state),
            (_, None) => {}
        }
        if let Job::Cron(run) = job
            && let Some(note) = self.skip_missed(run)
            && let Ok(outcome) = &mut outcome
        {
            outcome.log_lines = outcome.log_lines.iter().cloned().chain([note]).collect();
        }
        told.tell(&self.host, &outcome);
    }

    /// The host could not run a mutation: it is tried again, later and later.
    fn refused(&mut self, row: DocumentId, refusal: &Refusal) {
        let now = self.now();
        if matches!(refusal, Refusal::Overloaded { .. }) {
            self.overloaded = Some(longer(self.overloaded.take(), now));
        } else {
            let pause = longer(self.paused.remove(&row), now);
            self.paused.insert(row, pause);
        }
    }

    /// Occurrences that passed while one ran, or before it could start, are left out.
    fn skip_missed(&self, run: CronRun) -> Option<LogLine> {
        let now = self.now();
        let cron: CronJob = crons::job(&self.host.database.newest(), run.id)?;
        let schedule = Schedule::parse(&cron.name, &cron.schedule).ok()?;
        let (next, missed) = schedule.after(run.due, now);
        if cron.next == Some(run.next) && run.next <= now {
            self.set_next(run.id, (Some(run.next), next));
        }
        (missed > 0).then(|| {
            LogLine::warning(format!(
                "Skipping {missed} run(s) of job {} because multiple scheduled runs are in the \
                 past",
                cron.name
            ))
        })
    }

    fn end(&self, job: Job, state: &JobState) {
        let database = &self.host.database;
        let ts = scheduling::end(database, &*self.host.config.world, job, state);
        let (outbox, state) = (self.outbox.clone(), state.clone());
        let told = move |durable: Result<(), NotDurable>| {
            if durable.is_err() {
                // A scheduler that has ended needs no news.
                let _ = outbox.send(Mail::Undone(job, state));
            }
        };
        database.when_durable(ts, Box::new(told));
    }

    fn set_next(&self, cron: DocumentId, change: (Option<u64>, u64)) {
        crons::set_next(&self.host.database, &*self.host.config.world, cron, change);
    }

    /// Until when a job must wait after the host could not run it.
    fn held_back(&self, row: DocumentId, now: u64) -> Option<u64> {
        self.paused.get(&row).map(|pause| pause.until).filter(|until| *until > now)
    }

    fn has_room(&self, kind: FunctionKind) -> bool {
        match kind {
            FunctionKind::Action => self.actions < limits::SCHEDULED_ACTIONS,
            FunctionKind::Mutation | FunctionKind::Query => {
                (self.running.len() as u64 - self.actions) < limits::SCHEDULED_MUTATIONS
            }
        }
    }

    /// Watches what was looked at. `false`: it has changed already.
    fn watches(&mut self, reads: &ReadSet, snapshot: &Snapshot) -> bool {
        let subscriptions = self.host.database.subscriptions();
        if let Some(before) = self.watch.take() {
            subscriptions.cancel(before);
        }
        if reads.is_empty() {
            return true;
        }
        let alarm: Weak<Alarm> = Arc::downgrade(&self.alarm);
        let registered =
            subscriptions.register(&Arc::new(reads.clone()), snapshot.ts, Owner::Watcher(alarm));
        self.watch = registered.ok();
        self.watch.is_some()
    }

    fn now(&self) -> u64 {
        self.host.config.world.now()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.host.database.subscriptions().cancel(watch);
        }
    }
}

/// What a function is, or why it cannot be run from a schedule.
fn kind_of(snapshot: &Snapshot, path: &FunctionPath) -> Result<FunctionKind, String> {
    let deployment = snapshot.deployment.as_ref();
    let function = deployment.and_then(|deployment| deployment.analysis.function(path));
    match function.map(|function| function.kind) {
        Some(kind @ (FunctionKind::Mutation | FunctionKind::Action)) => Ok(kind),
        Some(FunctionKind::Query) => Err(format!(
            "Unsupported function type: {path} is a query; only mutations and actions can be \
             scheduled."
        )),
        None => Err(format!(
            "Could not find function for '{path}'. Did you forget to run `npx convex dev`?"
        )),
    }
}

fn row_of(job: Job) -> DocumentId {
    match job {
        Job::Scheduled(id) => id,
        Job::Cron(run) => run.id,
    }
}

fn earlier(wake: Option<u64>, other: u64) -> Option<u64> {
    Some(wake.map_or(other, |wake| wake.min(other)))
}

/// The pause after one more failure.
fn longer(before: Option<Pause>, now: u64) -> Pause {
    let tries = before.map_or(0, |pause| pause.tries + 1);
    let longest = limits::SCHEDULER_BACKOFF_MS * NS_PER_MS;
    let pause = FIRST_PAUSE_NS.saturating_mul(1 << tries.min(30)).min(longest);
    Pause { tries, until: now + pause }
}

/// A scheduler that runs by itself.
pub(crate) struct Thread {
    outbox: Sender<Mail>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(host: &Arc<Host>) -> std::io::Result<Self> {
        let scheduler = Scheduler::new(Arc::clone(host));
        let outbox = scheduler.outbox.clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let run = move || {
            run(scheduler);
            // Whoever waits may have gone.
            let _ = end.send(());
        };
        let _: JoinHandle<()> = essential::thread("scheduler", &host.config.warn, run)?;
        Ok(Self { outbox, ended })
    }

    /// Starts nothing more; resolves when everything that ran has ended.
    pub(crate) async fn stop(&mut self) {
        // It fails only when the thread has ended.
        let _ = self.outbox.send(Mail::Stop);
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.outbox.send(Mail::Abandon);
    }
}

/// Steps a scheduler until it is told to end.
fn run(mut scheduler: Scheduler) {
    loop {
        let wake = scheduler.step();
        match scheduler.stopping {
            Some(Stop::Now) => return,
            Some(Stop::Idle) if scheduler.running.is_empty() => return,
            Some(Stop::Idle) | None => {}
        }
        let left = wake.map(|wake| Duration::from_nanos(wake.saturating_sub(scheduler.now())));
        let wait = left.map_or(LONGEST_WAIT, |left| left.min(LONGEST_WAIT));
        match scheduler.mail.recv_timeout(wait) {
            Ok(mail) => scheduler.take(mail),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}
