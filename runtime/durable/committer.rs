//! The committer: takes commits as they are made, and makes whatever has gathered durable at once.
//!
//! In: commits, in order. Out: records in the log store, then news to the database. Invariant: one
//! sync for all commits that came during the one before; those that could not be kept are undone,
//! and the next ones are tried again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use database::commit::Database;
use database::durability::Journal;
use database::log::LogEntry;
use database::snapshot::Snapshot;
use database::stored;
use storage::{LogStore, Record, StoreError};

use super::Tell;
use super::checkpointer::Checkpointer;

/// Commits that share a sync, at most: a group is encoded in memory.
const GROUP: usize = 1_024;

/// Where commits gather.
#[derive(Default)]
pub(super) struct Committer {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Arc<LogEntry>>,
    stopping: bool,
}

/// What the thread works with.
pub(super) struct Work {
    pub(super) database: Arc<Database>,
    pub(super) store: Arc<dyn LogStore>,
    pub(super) checkpointer: Arc<Checkpointer>,
    /// Names this program's build.
    pub(super) build: Arc<str>,
    pub(super) tell: Tell,
}

impl Journal for Committer {
    fn append(&self, entry: &Arc<LogEntry>) {
        self.queue().entries.push(Arc::clone(entry));
        self.more.notify_one();
    }

    fn forget(&self) {
        self.queue().entries.clear();
    }
}

impl Committer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change is a single call.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps commits until it is stopped and nothing is left.
    pub(super) fn run(&self, work: &Work) {
        let mut failing = false;
        while let Some(group) = self.next() {
            match work.keep(&group) {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        (work.tell)("Data can be kept again: commits are durable.");
                    }
                }
                Err(error) => {
                    let undone = work.database.undo(&error.to_string());
                    if !std::mem::replace(&mut failing, true) {
                        (work.tell)(&format!(
                            "Data cannot be kept: {error}. {undone} commits were undone and their \
                             callers told; it is tried again with every new one."
                        ));
                    }
                }
            }
        }
    }

    /// Takes what has gathered; `None`: it is over.
    fn next(&self) -> Option<Vec<Arc<LogEntry>>> {
        let mut queue = self.queue();
        while queue.entries.is_empty() {
            if queue.stopping {
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let count = queue.entries.len().min(GROUP);
        Some(queue.entries.drain(..count).collect())
    }

    /// Ends when everything is kept.
    pub(super) fn stop(&self) {
        self.queue().stopping = true;
        self.more.notify_one();
    }
}

impl Work {
    fn keep(&self, group: &[Arc<LogEntry>]) -> Result<(), StoreError> {
        let mut before: Arc<Snapshot> = self.database.snapshot();
        let encode = |entry: &Arc<LogEntry>| {
            let body = stored::encode(&before, entry, &self.build);
            let record = Record { ts: entry.ts.0, previous: before.ts.0, body };
            before = Arc::clone(&entry.snapshot);
            record
        };
        let records: Vec<Record> = group.iter().map(encode).collect();
        self.store.append(&records)?;
        if let Some(last) = group.last() {
            self.database.made_durable(last);
        }
        self.checkpointer.appended(&records);
        Ok(())
    }
}
