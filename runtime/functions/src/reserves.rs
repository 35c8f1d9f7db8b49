//! Threads that run calls only while others wait for functions that run elsewhere, or cannot be
//! stopped.
//!
//! In: visits that begin and end, calls that go on although they were stopped. Out: which of the
//! spare threads are wanted. Invariant: as many are awake as threads are held up so, if there are
//! so many; one more would only take turns with the others on the same cores, each with an isolate
//! and contexts of its own.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

thread_local! {
    /// Those of this thread's pool.
    static MINE: RefCell<Option<Arc<Reserves>>> = const { RefCell::new(None) };
}

/// The reserves of a pool.
#[derive(Default)]
pub(crate) struct Reserves {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that are held up.
    waiting: usize,
    is_closed: bool,
}

impl Reserves {
    /// Makes visits on this thread count.
    pub(crate) fn join(self: Arc<Self>) {
        MINE.set(Some(self));
    }

    /// Waits until a reserve is wanted, the first of which has the number 0; returns at once when
    /// the pool ends.
    pub(crate) fn wait(&self, number: usize) {
        let is_needless = |state: &mut State| state.waiting <= number && !state.is_closed;
        drop(self.changed.wait_while(self.lock(), is_needless));
    }

    /// The same, for so long at most. Says whether it is wanted then.
    pub(crate) fn wait_at_most(&self, number: usize, longest: Duration) -> bool {
        let is_needless = |state: &mut State| state.waiting <= number && !state.is_closed;
        match self.changed.wait_timeout_while(self.lock(), longest, is_needless) {
            Ok((_, waited)) => !waited.timed_out(),
            Err(_) => true,
        }
    }

    /// Wakes all: the pool ends.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.lock();
        state.waiting = change(state.waiting);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each holder does one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the pool that this thread belongs to.
pub(crate) fn mine() -> Option<Arc<Reserves>> {
    MINE.with_borrow(Clone::clone)
}

/// A thread is held up until it is dropped.
pub(crate) struct Waiting(Option<Arc<Reserves>>);

impl Waiting {
    /// This one, from now on.
    pub(crate) fn begin() -> Self {
        Self::of(mine())
    }

    /// One of the pool with these reserves, from now on.
    pub(crate) fn of(mine: Option<Arc<Reserves>>) -> Self {
        if let Some(reserves) = &mine {
            reserves.count(|waiting| waiting + 1);
        }
        Self(mine)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reserves) = &self.0 {
            reserves.count(|waiting| waiting.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{TryRecvError, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_wake_as_threads_wait_and_all_at_the_end() {
        let reserves = Arc::<Reserves>::default();
        let (awake, woken) = channel();
        let start = |number: usize| {
            let (reserves, awake) = (Arc::clone(&reserves), awake.clone());
            thread::spawn(move || {
                reserves.wait(number);
                awake.send(number).unwrap();
            })
        };
        let threads = [start(0), start(1), start(2)];
        Arc::clone(&reserves).join();
        let one = Waiting::begin();
        assert_eq!(woken.recv(), Ok(0));
        thread::sleep(Duration::from_millis(20));
        assert_eq!(woken.try_recv(), Err(TryRecvError::Empty), "one waits, one is awake");
        drop(one);
        let two = [Waiting::begin(), Waiting::begin()];
        assert_eq!(woken.recv(), Ok(1));
        reserves.close();
        assert_eq!(woken.recv(), Ok(2));
        for thread in threads {
            thread.join().unwrap();
        }
        drop(two);
    }
}
