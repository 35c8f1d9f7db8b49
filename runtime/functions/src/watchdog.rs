//! The watchdog: one thread that stops calls which use too much CPU or wall time.
//!
//! In: what each worker is running. Out: terminations. Invariant: CPU time is the worker thread's
//! own clock, so a busy machine does not fail a call, nor does one that stood still; wall time is
//! the second bound. While nothing runs the thread sleeps, until a call begins.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use database::limits;

use crate::isolate::{StopSwitch, Termination};
use crate::reserves::{self, Reserves, Waiting};

/// How often running calls are looked at: a call may pass its limit by this much.
const PERIOD: Duration = Duration::from_millis(10);

/// What a call is charged at most from one look to the next: clocks leap where a virtual machine
/// stands still, even those of CPU time, and then the watchdog stands still with it.
const MOST_A_LOOK: Duration = PERIOD.saturating_mul(10);

/// After how many periods without a call the thread sleeps: waking it is not for every call.
const PERIODS_AWAKE: u32 = 100;

/// One worker's entry.
pub(crate) struct Watched {
    clock: libc::clockid_t,
    running: Mutex<Option<Running>>,
    /// Who takes over while its call cannot be stopped.
    reserves: Option<Arc<Reserves>>,
    /// That of the watchdog it belongs to.
    alarm: OnceLock<Arc<Alarm>>,
}

/// Wakes the watchdog's thread.
#[derive(Default)]
struct Alarm {
    sleeps: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Alarm {
    /// Whoever rings has said before what it wants looked at.
    fn ring(&self) {
        if self.sleeps.load(Ordering::SeqCst)
            && self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Sleeps until somebody rings, unless `is_needed` by then.
    fn sleep(&self, is_needed: impl FnOnce() -> bool) {
        self.sleeps.store(true, Ordering::SeqCst);
        // Who said so before the store is seen here; who says so after it sees the store.
        if !is_needed() {
            thread::park();
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }
}

/// The call a worker runs.
struct Running {
    cpu: Meter,
    wall: Meter,
    started: Instant,
    stop: Arc<StopSwitch>,
    /// By how much its limits of time are multiplied.
    patience: u32,
    /// Since when it has been stopped.
    stopped: Option<Instant>,
    /// While it goes on all the same.
    relief: Option<Waiting>,
}

/// What a call has used of a clock, look by look.
struct Meter {
    shown: Duration,
    charged: Duration,
}

impl Meter {
    fn from(shown: Duration) -> Self {
        Self { shown, charged: Duration::ZERO }
    }

    /// What is charged by now, as the clock shows this.
    fn charge(&mut self, shown: Duration) -> Duration {
        self.charged += shown.saturating_sub(self.shown).min(MOST_A_LOOK);
        self.shown = shown;
        self.charged
    }
}

/// V8 looks whether it was stopped between two instructions of JavaScript. A call that has not
/// looked for so long is inside one: a built-in function over millions of items.
const DEAFNESS: Duration = Duration::from_millis(100);

impl Running {
    /// Has another thread serve while this one cannot be stopped.
    fn relieve(&mut self, reserves: Option<&Arc<Reserves>>) {
        if self.stop.reason().is_none() || self.relief.is_some() {
            return;
        }
        let stopped = *self.stopped.get_or_insert_with(Instant::now);
        if stopped.elapsed() > DEAFNESS {
            self.relief = Some(Waiting::of(reserves.cloned()));
        }
    }
}

/// The same for calls that wait for a test.
const PATIENCE: u32 = 60;

thread_local! {
    /// The thread's own entry.
    static HERE: RefCell<Option<Arc<Watched>>> = const { RefCell::new(None) };
}

/// Gives the call that runs on this thread the time of a test instead of a call's.
pub(crate) fn be_patient() {
    HERE.with_borrow(|here| {
        let Some(here) = here else { return };
        if let Some(running) = lock(&here.running).as_mut() {
            running.patience = PATIENCE;
        }
    });
}

impl Watched {
    /// An entry for the thread that calls this.
    pub(crate) fn this_thread() -> Arc<Self> {
        let mut clock = 0;
        // SAFETY: the handle is the calling thread's own; the clock is written before use.
        let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        assert_eq!(error, 0, "every thread has a CPU clock");
        let running = Mutex::new(None);
        let made =
            Arc::new(Self { clock, running, reserves: reserves::mine(), alarm: OnceLock::new() });
        HERE.set(Some(Arc::clone(&made)));
        made
    }

    /// Starts the clocks of one call.
    pub(crate) fn begin(&self, stop: Arc<StopSwitch>) {
        let (cpu, wall) = (Meter::from(self.cpu_time()), Meter::from(Duration::ZERO));
        let started = Instant::now();
        let running =
            Running { cpu, wall, started, stop, patience: 1, stopped: None, relief: None };
        *lock(&self.running) = Some(running);
        if let Some(alarm) = self.alarm.get() {
            alarm.ring();
        }
    }

    /// Stops them.
    pub(crate) fn end(&self) {
        *lock(&self.running) = None;
    }

    fn cpu_time(&self) -> Duration {
        cpu_time(self.clock)
    }

    /// Stops its call if that is due; says whether it runs one.
    fn check(&self) -> bool {
        let mut running = lock(&self.running);
        let Some(call) = running.as_mut() else { return false };
        let cpu = call.cpu.charge(self.cpu_time());
        let wall = call.wall.charge(call.started.elapsed());
        let most = |ms| Duration::from_millis(ms) * call.patience;
        if cpu > most(limits::CPU_TIME_MS) {
            call.stop.stop(Termination::CpuTime);
        } else if wall > most(limits::WALL_TIME_MS) {
            call.stop.stop(Termination::WallTime);
        } else {
            call.stop.check_memories();
        }
        call.relieve(self.reserves.as_ref());
        true
    }
}

/// The thread.
pub(crate) struct Watchdog {
    watched: Arc<Mutex<Vec<Arc<Watched>>>>,
    ended: Arc<AtomicBool>,
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start() -> std::io::Result<Self> {
        let watched: Arc<Mutex<Vec<Arc<Watched>>>> = Arc::default();
        let ended = Arc::new(AtomicBool::new(false));
        let (list, end) = (Arc::clone(&watched), Arc::clone(&ended));
        let alarm = Arc::<Alarm>::default();
        let awaited = Arc::clone(&alarm);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(move || {
            let check = || lock(&list).iter().filter(|worker| worker.check()).count() > 0;
            let mut idle = 0;
            while !end.load(Ordering::Acquire) {
                thread::park_timeout(PERIOD);
                idle = if check() { 0 } else { idle + 1 };
                if idle == PERIODS_AWAKE {
                    awaited.sleep(|| end.load(Ordering::Acquire) || check());
                    idle = 0;
                }
            }
        })?;
        let _ = alarm.thread.set(thread.thread().clone());
        Ok(Self { watched, ended, alarm, thread: Some(thread) })
    }

    /// Adds a worker. It must be removed before its thread ends.
    pub(crate) fn watch(&self, worker: Arc<Watched>) {
        let _ = worker.alarm.set(Arc::clone(&self.alarm));
        lock(&self.watched).push(worker);
    }

    /// Watches a worker for as long as the guard lives.
    pub(crate) fn guard<'a>(&'a self, worker: &'a Arc<Watched>) -> Guard<'a> {
        self.watch(Arc::clone(worker));
        Guard { watchdog: self, worker }
    }

    /// Removes a worker.
    pub(crate) fn forget(&self, worker: &Arc<Watched>) {
        lock(&self.watched).retain(|other| !Arc::ptr_eq(other, worker));
    }
}

/// Ends the watch over a worker, however its work ends.
pub(crate) struct Guard<'a> {
    watchdog: &'a Watchdog,
    worker: &'a Arc<Watched>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.watchdog.forget(self.worker);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A poisoned lock holds nothing half-done here: one assignment each.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a clock of CPU time shows.
pub(crate) fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec that lives here; the clock is a valid id while its thread lives,
    // and an error leaves zero behind, which stops nothing.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_stops_a_call_that_gets_no_cpu() {
        let watched = Watched::this_thread();
        let limit = Duration::from_millis(limits::WALL_TIME_MS);
        for (age, expected) in [(limit / 2, None), (limit * 2, Some(Termination::WallTime))] {
            let stop = StopSwitch::new();
            watched.begin(Arc::clone(&stop));
            lock(&watched.running).as_mut().unwrap().wall.charged = age;
            watched.check();
            assert_eq!(stop.reason(), expected);
            watched.end();
        }
    }

    #[test]
    fn a_call_that_begins_while_the_watchdog_sleeps_is_watched() {
        let watchdog = Watchdog::start().unwrap();
        let watched = Watched::this_thread();
        let _guard = watchdog.guard(&watched);
        let until = |what: &dyn Fn() -> bool| {
            let patience = Instant::now() + Duration::from_mins(1);
            while !what() {
                assert!(Instant::now() < patience, "it never happens");
                thread::sleep(PERIOD);
            }
        };
        until(&|| watchdog.alarm.sleeps.load(Ordering::SeqCst));
        let stop = StopSwitch::new();
        watched.begin(Arc::clone(&stop));
        let long = Duration::from_millis(limits::WALL_TIME_MS * 2);
        lock(&watched.running).as_mut().unwrap().wall.charged = long;
        until(&|| stop.reason() == Some(Termination::WallTime));
        watched.end();
    }

    #[test]
    fn cpu_time_is_the_threads_own() {
        let watched = Watched::this_thread();
        let stop = StopSwitch::new();
        watched.begin(Arc::clone(&stop));
        // Another thread's work does not count.
        let busy = thread::spawn(|| (0..10_000_000_u64).fold(0, |a, b| a ^ b));
        assert!(busy.join().is_ok());
        watched.check();
        assert_eq!(stop.reason(), None);
        while stop.reason().is_none() {
            std::hint::black_box((0..1_000_000_u64).fold(0, |a, b| a ^ b));
            watched.check();
        }
        assert!(watched.cpu_time() > Duration::from_millis(limits::CPU_TIME_MS));
        assert_eq!(stop.reason(), Some(Termination::CpuTime));
    }

    #[test]
    fn a_clock_that_leaps_while_nobody_looks_stops_no_call() {
        let looks = |step: Duration, count: u32| {
            let mut meter = Meter::from(step);
            (2..count + 2).map(|look| meter.charge(step * look)).last().unwrap()
        };
        let limit = Duration::from_millis(limits::CPU_TIME_MS);
        assert_eq!(looks(limit * 3, 1), MOST_A_LOOK);
        assert_eq!(looks(PERIOD, 200), PERIOD * 200);
    }
}
