//! Which context has the next run, where runs may share contexts.
//!
//! In: runs, as they come, wait for something outside, and end. Out: a context each. Invariant: no
//! more runs compute at once than there are cores, as long as each computes for a short time: few
//! contexts stay warm, and one that ends a run goes on with the next without another thread waking.
//! A run that waits for something outside holds up nobody, and none waits for long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::{Environment, Job, Shared, Spare};

/// A run that has waited for so long for the others to end is started beside them.
const WAIT: Duration = Duration::from_millis(20);

/// The runs and contexts of one process that are shared.
pub(crate) struct Sharing {
    state: Mutex<State>,
    /// How many runs compute at once before others wait for them.
    at_once: usize,
}

#[derive(Default)]
struct State {
    /// Contexts that wait for a run, with the variables that they saw.
    idle: Vec<(Environment, Spare)>,
    /// Runs that wait for a context, the oldest first.
    waiting: VecDeque<(Instant, Job)>,
    /// Runs that compute.
    active: usize,
}

/// What is to be done for a run.
pub(crate) enum Place {
    /// It goes on in this context.
    Context(Spare, Job),
    /// There is none for it yet.
    Fresh(Job),
    /// It waits for its turn.
    Waits,
}

/// What becomes of a context whose run has ended.
pub(crate) enum After {
    /// It has this run next.
    Run(Box<Job>),
    /// It waits for one.
    Rest,
    /// There are enough that wait.
    End,
}

impl Default for Sharing {
    fn default() -> Self {
        let at_once = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { state: Mutex::default(), at_once }
    }
}

impl Sharing {
    /// Finds a place for a run that may share its context.
    pub(crate) fn place(shared: &Arc<Shared>, job: Job) -> Place {
        let sharing = &shared.sharing;
        let mut state = sharing.lock();
        if state.active >= sharing.at_once {
            state.waiting.push_back((Instant::now(), job));
            return Place::Waits;
        }
        state.start(shared, job)
    }

    /// Starts what has waited for too long.
    pub(crate) fn hurry(shared: &Arc<Shared>) {
        let now = Instant::now();
        let overdue = |(since, _): &mut (Instant, Job)| now.duration_since(*since) >= WAIT;
        loop {
            let place = {
                let mut state = shared.sharing.lock();
                let Some((_, job)) = state.waiting.pop_front_if(overdue) else { return };
                state.start(shared, job)
            };
            begin(shared, place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each holder leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a run its turn, and the newest idle context that saw its variables.
    fn start(&mut self, shared: &Arc<Shared>, mut job: Job) -> Place {
        self.active += 1;
        job.turn = Some(Turn { shared: Arc::clone(shared), is_active: true });
        while let Some((seen, spare)) = self.idle.pop() {
            // Those that saw other variables are given up.
            if Arc::ptr_eq(&seen, &job.environment) {
                return Place::Context(spare, job);
            }
        }
        Place::Fresh(job)
    }
}

/// Puts a run where it belongs, on whatever thread this is.
fn begin(shared: &Arc<Shared>, place: Place) {
    match place {
        Place::Context(spare, job) => spare.take(job),
        Place::Fresh(job) => Spare::give(Spare::start(shared, None), job),
        Place::Waits => {}
    }
}

/// The turn of a run that may share its context; it is given back when the run waits or ends.
pub(crate) struct Turn {
    shared: Arc<Shared>,
    is_active: bool,
}

impl Turn {
    /// The run waits for something outside: another may compute.
    pub(crate) fn pause(&mut self) {
        if !std::mem::take(&mut self.is_active) {
            return;
        }
        let next = {
            let mut state = self.shared.sharing.lock();
            state.active -= 1;
            let next = state.waiting.pop_front();
            next.map(|(_, job)| state.start(&self.shared, job))
        };
        if let Some(place) = next {
            begin(&self.shared, place);
        }
    }

    /// The run has ended, and has left its context as it should be.
    pub(crate) fn end(mut self, environment: Environment, spare: Spare) -> After {
        let shared = Arc::clone(&self.shared);
        let sharing = &shared.sharing;
        let mut state = sharing.lock();
        let fits = |(_, job): &(Instant, Job)| Arc::ptr_eq(&job.environment, &environment);
        if (self.is_active || state.active < sharing.at_once)
            && let Some(at) = state.waiting.iter().position(fits)
            && let Some((_, mut job)) = state.waiting.remove(at)
        {
            state.active += usize::from(!self.is_active);
            self.is_active = true;
            job.turn = Some(self);
            return After::Run(Box::new(job));
        }
        // The turn is given back when the lock is gone: a parameter outlives what is declared here.
        if state.idle.len() >= shared.limits.contexts_kept as usize {
            return After::End;
        }
        state.idle.push((environment, spare));
        After::Rest
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pause();
    }
}
