//! Threads that run JavaScript, each used again for one runtime after another.
//!
//! In: tasks. Out: nothing. Invariant: a task has its thread to itself until it ends; a thread
//! whose task panics ends with it.
//!
//! A new thread for each run would cost a stack of untouched pages, and all that jemalloc keeps of
//! it: an arena that no thread uses gives every page back at once.

use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

/// Stack of a thread that runs JavaScript, in bytes; V8 is told to use an eighth of it.
const STACK_BYTES: usize = 8 << 20;

/// Threads that may wait for a task: as many as end runs at about the same time on few cores.
const IDLE_MOST: usize = 4;

/// What a thread does.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// The threads that wait for a task.
#[derive(Default)]
pub(crate) struct Threads(Mutex<Vec<Sender<Task>>>);

impl Threads {
    /// Gives the task to a thread that waits, or to a new one.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn run(self: &Arc<Self>, mut task: Task) -> io::Result<()> {
        loop {
            let Some(idle) = self.lock().pop() else { break };
            match idle.send(task) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => task = back,
            }
        }
        let threads = Arc::clone(self);
        let thread = thread::Builder::new().name("action".into()).stack_size(STACK_BYTES);
        thread.spawn(move || threads.serve(task)).map(drop)
    }

    fn serve(&self, mut task: Task) {
        loop {
            task();
            let (sender, tasks) = channel();
            {
                let mut idle = self.lock();
                if idle.len() >= IDLE_MOST {
                    return;
                }
                idle.push(sender);
            }
            match tasks.recv() {
                Ok(next) => task = next,
                Err(_) => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sender<Task>>> {
        // Each holder does one push or pop.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use super::*;

    fn which(threads: &Arc<Threads>) -> thread::ThreadId {
        let (said, heard) = channel();
        let task = Box::new(move || said.send(thread::current().id()).unwrap());
        threads.run(task).unwrap();
        heard.recv().unwrap()
    }

    fn wait_for_idle(threads: &Threads, count: usize) {
        let patience = Instant::now() + Duration::from_mins(1);
        while threads.lock().len() < count {
            assert!(Instant::now() < patience, "{} threads wait", threads.lock().len());
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_serves_again_and_few_wait() {
        let threads = Arc::<Threads>::default();
        let first = which(&threads);
        wait_for_idle(&threads, 1);
        assert_eq!(which(&threads), first);
        wait_for_idle(&threads, 1);
        let (said, heard) = channel();
        let mut held = Vec::new();
        for _ in 0..3 * IDLE_MOST {
            let (let_go, wait) = channel::<()>();
            held.push(let_go);
            let said = said.clone();
            let task = Box::new(move || {
                said.send(thread::current().id()).unwrap();
                let _ = wait.recv();
            });
            threads.run(task).unwrap();
        }
        drop(said);
        let at_once: HashSet<_> = heard.iter().take(3 * IDLE_MOST).collect();
        assert_eq!(at_once.len(), 3 * IDLE_MOST, "each has a thread to itself");
        drop(held);
        wait_for_idle(&threads, IDLE_MOST);
        assert_eq!(threads.lock().len(), IDLE_MOST);
    }

    #[test]
    fn a_task_that_panics_takes_its_thread_along() {
        let threads = Arc::<Threads>::default();
        threads.run(Box::new(|| panic!("on purpose"))).unwrap();
        which(&threads);
        wait_for_idle(&threads, 1);
        assert_eq!(threads.lock().len(), 1);
    }
}
