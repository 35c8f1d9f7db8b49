//! The checkpointer: moves the oldest commits of the log into the checkpoint, beside the traffic.
//!
//! In: how much the log holds. Out: a newer checkpoint, a shorter log. Invariant: a commit leaves
//! the log after the checkpoint that holds what it did is durable.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use database::commit::Database;
use database::limits;
use database::record::Timestamp;
use database::stored::{self, Change};
use server::Disk;
use storage::{Changes, LogStore, Record, StoreError};

use super::Tell;
use super::recovery::damaged;
use crate::memory::Size;

/// Bytes of commits that one transaction of a checkpoint takes in: what they write again and again
/// is written once.
const STEP_BYTES: usize = 4 << 20;

/// Commits that one step of trimming removes: a commit that wants to be kept waits for a step.
const TRIM: usize = 256;

/// Times of the bytes at which a checkpoint is due: then there are no pauses any more.
const LATE: u64 = 3;

/// Longest pause after a step.
const PAUSE: Duration = Duration::from_millis(100);

/// What the log holds since the checkpoint.
pub(super) struct Checkpointer {
    tail: Mutex<Tail>,
    more: Condvar,
    /// Bytes of commits after which the oldest ones leave the log.
    room: u64,
}

/// Commits after the checkpoint: timestamps and bytes, oldest first.
#[derive(Default)]
pub(super) struct Tail {
    /// Where the checkpoint is.
    at: u64,
    records: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Commits that have left.
    trimmed: u64,
    /// Bytes of the store at the last checkpoint.
    size: u64,
    /// Whether the operator knows that commits leave.
    told: bool,
    stopping: bool,
}

impl Tail {
    /// Nothing after the checkpoint at `at`.
    pub(super) fn new(at: u64) -> Self {
        Self { at, ..Self::default() }
    }

    /// One more commit.
    pub(super) fn push(&mut self, record: &Record) {
        self.records.push_back((record.ts, record.body.len()));
        self.bytes += record.body.len();
    }

    /// Where the next checkpoint should be, if one is due: so that a quarter of the room is taken.
    fn due(&self, room: u64) -> Option<u64> {
        if self.bytes as u64 <= room {
            return None;
        }
        let mut left = self.bytes as u64;
        let mut due = None;
        for (ts, bytes) in &self.records {
            if left <= room / limits::CHECKPOINT_LEAVES_PART {
                break;
            }
            left -= *bytes as u64;
            due = Some(*ts);
        }
        due
    }

    fn checkpointed(&mut self, at: u64) {
        self.at = at;
        while let Some((_, bytes)) = self.records.pop_front_if(|(ts, _)| *ts <= at) {
            self.bytes -= bytes;
            self.trimmed += 1;
        }
    }
}

impl Checkpointer {
    /// Of a log that holds these commits, and has room for so many bytes of them.
    pub(super) fn new(tail: Tail, room: u64) -> Self {
        Self { tail: Mutex::new(tail), more: Condvar::new(), room }
    }

    /// Commits were appended.
    pub(super) fn appended(&self, records: &[Record]) {
        let mut tail = self.tail();
        records.iter().for_each(|record| tail.push(record));
        if tail.bytes as u64 > self.room {
            self.more.notify_one();
        }
    }

    /// Makes checkpoints when they are due, until it is stopped.
    pub(super) fn run(&self, database: &Database, store: &dyn LogStore, tell: &Tell) {
        self.measure(store);
        let mut failing = false;
        while let Some((at, upto)) = self.next(failing) {
            let moved = self.checkpoint(database, store, (at, upto));
            let (Ok(reached) | Err((reached, _))) = &moved;
            self.tail().checkpointed(*reached);
            let trimmed = moved.map_err(|(_, why)| why).and_then(|at| self.trim(store, at));
            self.measure(store);
            self.tell_of_the_past(tell);
            let failed = trimmed.is_err();
            if let Err(why) = trimmed
                && !failing
            {
                tell(&format!(
                    "No checkpoint can be made: {why}. The log grows, and a restart takes longer; \
                     it is tried again."
                ));
            }
            failing = failed;
        }
    }

    /// Waits for the next one: from where to where.
    fn next(&self, failing: bool) -> Option<(u64, u64)> {
        let mut tail = self.tail();
        if failing && !tail.stopping {
            // Not before there is something new.
            tail = self.more.wait(tail).unwrap_or_else(PoisonError::into_inner);
        }
        loop {
            if tail.stopping {
                return None;
            }
            if let Some(due) = tail.due(self.room) {
                return Some((tail.at, due));
            }
            tail = self.more.wait(tail).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the log holds.
    pub(super) fn disk(&self) -> Disk {
        let tail = self.tail();
        let (log_bytes, log_commits) = (tail.bytes as u64, tail.records.len() as u64);
        let (trimmed, bytes, log_room) = (tail.trimmed, tail.size, self.room);
        Disk { log_bytes, log_commits, log_room, checkpoint: tail.at, trimmed, bytes }
    }

    /// Says so when commits begin to leave.
    fn tell_of_the_past(&self, tell: &Tell) {
        let mut tail = self.tail();
        if tail.trimmed == 0 || std::mem::replace(&mut tail.told, true) {
            return;
        }
        let (commits, at, room) = (tail.records.len(), tail.at, Size(self.room));
        drop(tail);
        tell(&format!(
            "The history on disk is cut to stay within {room}, oldest first: {commits} commits \
             are kept, those after the timestamp {at}. A start brings back no older ones; \
             --history-disk gives them more room."
        ));
    }

    /// A store that cannot say how large it is keeps the figure that it had.
    fn measure(&self, store: &dyn LogStore) {
        if let Ok(size) = store.size() {
            self.tail().size = size;
        }
    }

    /// Ends after the step that is under way.
    pub(super) fn stop(&self) {
        self.tail().stopping = true;
        self.more.notify_one();
    }

    /// Takes the commits after `at`, up to `upto`, into the checkpoint. Gives where it is now.
    ///
    /// # Errors
    /// Where it stayed, and why.
    fn checkpoint(
        &self,
        database: &Database,
        store: &dyn LogStore,
        (mut at, upto): (u64, u64),
    ) -> Result<u64, (u64, StoreError)> {
        while at < upto {
            let begun = Instant::now();
            let mut records = store.read(at, STEP_BYTES).map_err(|why| (at, why))?;
            records.retain(|record| record.ts <= upto);
            let (Some(first), Some(last)) = (records.first(), records.last()) else { break };
            let last = last.ts;
            if first.previous != at {
                return Err((at, damaged(format!("commits before {} are missing", first.ts))));
            }
            let mut changes = folded(&records).map_err(|why| (at, why))?;
            let (start, end) = stored::forgotten_requests(&database.snapshot());
            changes.forgotten = Some(start..end);
            store.checkpoint(last, &changes).map_err(|why| (at, why))?;
            at = last;
            self.pause(begun);
        }
        Ok(at)
    }

    fn trim(&self, store: &dyn LogStore, at: u64) -> Result<(), StoreError> {
        loop {
            let begun = Instant::now();
            if store.trim(at, TRIM)? < TRIM {
                return store.settle();
            }
            self.pause(begun);
        }
    }

    /// After a step as long a pause: calls need the processors, and commits the log. None where
    /// the log grows faster than that.
    fn pause(&self, begun: Instant) {
        let tail = self.tail();
        let is_late = tail.bytes as u64 > LATE * self.room;
        if !is_late && !tail.stopping {
            drop(tail);
            std::thread::sleep(begun.elapsed().min(PAUSE));
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Each change is whole before anything can panic.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What commits did together.
fn folded(records: &[Record]) -> Result<Changes, StoreError> {
    let mut changes = Changes::default();
    for record in records {
        let written = stored::changes_of(Timestamp(record.ts), &record.body);
        let written = written.map_err(|why| damaged(why.to_string()))?;
        let pairs = written.into_iter().map(|Change { key, value }| (key, value));
        changes.pairs.extend(pairs);
    }
    Ok(changes)
}
