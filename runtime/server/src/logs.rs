//! What functions did lately, for `convex logs` and everybody else who tails.
//!
//! In: an [`Event`] for each call and HTTP action that ended. Out: those after a cursor, at once or
//! when there are some.
//! Invariant: memory is bounded by the limits table. A cursor is a time in milliseconds that no two
//! entries share, so that whoever goes on from the newest one seen misses none that is kept and
//! sees none twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use database::commit::Conflict;
use database::limits::{LOG_ENTRIES, LOG_ENTRY_BYTES, LOGS_WAIT_MS};
use database::record::LogLine;
use tokio::sync::watch;

use crate::event::{CallEvent, Event, HttpActionEvent, ProgressEvent};

/// The last events.
pub(crate) struct Logs {
    kept: Mutex<Kept>,
    /// Sent again with every entry; `false`: nobody waits any more.
    open: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    bytes: u64,
    /// No entry of the future has a cursor at or before this one.
    newest: f64,
}

/// One event.
pub(crate) struct Entry {
    /// Where it stands: milliseconds since the Unix epoch.
    pub(crate) cursor: f64,
    /// When it ended, nanoseconds since the Unix epoch.
    pub(crate) ended: u64,
    /// What ended.
    pub(crate) event: Event,
    bytes: u64,
}

/// Entries in order, and the cursor to go on from.
pub(crate) struct Batch {
    /// Oldest first.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Of the newest of them.
    pub(crate) cursor: f64,
}

impl Logs {
    /// Nothing happened yet.
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default(), open: watch::Sender::new(true) }
    }

    /// Keeps an event that ended at `now`, nanoseconds since the Unix epoch. Pushes, and the
    /// functions of the host itself, are not for the author's eyes.
    pub(crate) fn add(&self, event: Event, now: u64) {
        let Some(bytes) = bytes(&event) else { return };
        {
            let mut kept = self.kept();
            let cursor = kept.next_cursor(now);
            kept.entries.push_back(Arc::new(Entry { cursor, ended: now, event, bytes }));
            kept.bytes += bytes;
            while kept.entries.len() as u64 > LOG_ENTRIES || kept.bytes > LOG_ENTRY_BYTES {
                let Some(oldest) = kept.entries.pop_front() else { break };
                kept.bytes -= oldest.bytes;
            }
        }
        self.open.send_modify(|_| {});
    }

    /// What came after `cursor`; when nothing did, what comes next, or nothing after a while. From
    /// the beginning (0) the answer is at once, so that a tail knows where it starts.
    pub(crate) async fn after(&self, cursor: f64, now: u64) -> Batch {
        let mut grown = self.open.subscribe();
        let wait = tokio::time::sleep(Duration::from_millis(LOGS_WAIT_MS));
        tokio::pin!(wait);
        loop {
            let batch = self.kept().after(cursor, now);
            let open = *grown.borrow_and_update();
            if !batch.entries.is_empty() || cursor <= 0.0 || !open {
                return batch;
            }
            tokio::select! {
                _ = grown.changed() => {}
                () = &mut wait => return batch,
            }
        }
    }

    /// Memory of what is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// Lets go whoever waits, for good.
    pub(crate) fn stop(&self) {
        self.open.send_replace(false);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // An entry is counted right after it is pushed; nothing between the two can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// A cursor at `now` or, where the clock has not moved, right after the newest one.
    fn next_cursor(&mut self, now: u64) -> f64 {
        self.newest = (now as f64 / 1e6).max(self.newest.next_up());
        self.newest
    }

    fn after(&mut self, cursor: f64, now: u64) -> Batch {
        let first = self.entries.partition_point(|entry| entry.cursor <= cursor);
        let entries: Vec<_> = self.entries.range(first..).cloned().collect();
        let cursor = match entries.last() {
            Some(last) => last.cursor,
            None if cursor <= 0.0 => self.next_cursor(now),
            None => cursor,
        };
        Batch { entries, cursor }
    }
}

/// Estimated memory; `None` for what is not kept.
fn bytes(event: &Event) -> Option<u64> {
    let (path, error, lines, conflicts) = match event {
        Event::Call(CallEvent { kind: None, .. }) | Event::Push(_) | Event::Invariant(_) => {
            return None;
        }
        Event::Call(CallEvent { path, .. }) if path.starts_with("_system/") => return None,
        Event::Call(CallEvent { path, error, log_lines, conflicts, .. }) => {
            (path, error, &log_lines[..], &conflicts[..])
        }
        Event::HttpAction(HttpActionEvent { path, error, log_lines, .. }) => {
            (path, error, &log_lines[..], &[][..])
        }
        Event::Progress(ProgressEvent { path, line, .. }) => {
            (path, &None, std::slice::from_ref(line), &[][..])
        }
    };
    let message = |message: &String| size_of::<String>() + message.len();
    let line =
        |line: &LogLine| size_of::<LogLine>() + line.messages.iter().map(message).sum::<usize>();
    let conflict = |conflict: &Conflict| {
        size_of::<Conflict>() + conflict.range.len() + conflict.key.len() + conflict.did.len()
    };
    let counted = size_of::<Entry>()
        + path.len()
        + error.as_ref().map_or(0, String::len)
        + lines.iter().map(line).sum::<usize>()
        + conflicts.iter().map(conflict).sum::<usize>();
    Some(counted as u64)
}
