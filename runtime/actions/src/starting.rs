//! Processes that are being started, and the jobs that wait for them.
//!
//! In: jobs that no process has room for. Out: where each runs, or why not. Invariant: a job that
//! waits is one of those that may be at once; it goes into one process, with no more others than
//! that may have.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::pool::{Callbacks, Code, Config, Job, Running};
use crate::process::Process;

/// A process that is being started.
pub(crate) struct Starting {
    /// Names it.
    pub(crate) number: u64,
    /// The code that it will run.
    pub(crate) code: Arc<Code>,
    /// What it will run first.
    pub(crate) jobs: Vec<Asked>,
    /// Newer code came meanwhile: it takes no more jobs.
    pub(crate) is_retired: bool,
}

impl Starting {
    /// Whether a job of this code may wait for it.
    pub(crate) fn takes(&self, code: &Arc<Code>, runs_per_process: usize) -> bool {
        !self.is_retired && self.jobs.len() < runs_per_process && self.code == *code
    }
}

/// A job that has no process yet.
pub(crate) struct Asked {
    /// The job.
    pub(crate) job: Job,
    /// Who answers its calls.
    pub(crate) callbacks: Arc<dyn Callbacks>,
    /// Told what became of it.
    pub(crate) tell: oneshot::Sender<Placed>,
}

/// What became of a job.
pub(crate) enum Placed {
    /// It runs.
    Runs(Running),
    /// It cannot, for this reason.
    Refused(String),
    /// The process that was found for it takes no more: another one is to be found.
    Again(Job),
}

impl Asked {
    /// Has the job run in a process.
    pub(crate) fn begin_in(self, process: &Arc<Process>, config: &Config) {
        let Self { job, callbacks, tell } = self;
        if tell.is_closed() {
            // Nobody waits for it any more.
            return;
        }
        let mut waiting = Some(job);
        let started = process.run(&mut waiting, &callbacks, config);
        let placed = match (started, waiting) {
            (Some(started), _) => Placed::Runs(Running::new(Arc::clone(process), started)),
            (None, Some(job)) => Placed::Again(job),
            (None, None) => return,
        };
        // Whoever asked may have left in this moment: what is dropped with it stops its run.
        let _ = tell.send(placed);
    }

    /// Says why it cannot run.
    pub(crate) fn refuse(self, why: &str) {
        // Whoever asked may have left.
        let _ = self.tell.send(Placed::Refused(why.to_owned()));
    }
}
