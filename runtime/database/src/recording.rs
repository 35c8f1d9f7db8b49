//! What a call read and wrote, in words that outlive the snapshot it ran at; and running it again.
//!
//! In: read sets and writes. Out: ranges as `items.by_name[name="x"]`, and per document its version
//! before and after. Invariant: two executions that did the same say the same; nothing decides by
//! these words but people who compare them.

use std::sync::Arc;

use crate::deployment::{Bundle, CodeVersion};
use crate::document::Document;
use crate::explain;
use crate::log::{LogEntry, Write};
use crate::read_set::ReadSet;
use crate::record::{Call, Given, Outcome, Timestamp};
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

/// What was written to one document.
#[derive(Clone, Debug)]
pub struct Wrote {
    /// Path of its component; the app's is empty.
    pub component: Arc<str>,
    /// Its table.
    pub table: Arc<str>,
    /// Its id.
    pub id: String,
    /// The version before; `None` for an insert.
    pub before: Option<Arc<Document>>,
    /// The version after; `None` for a delete.
    pub after: Option<Arc<Document>>,
}

impl Wrote {
    fn of(write: &Arc<Write>) -> Self {
        Self {
            component: Arc::clone(&write.table.component),
            table: Arc::clone(&write.table.name),
            id: write.document().id.encode(),
            before: write.before.clone(),
            after: write.after.clone(),
        }
    }

    /// What a commit wrote, by table and id.
    pub fn by(commit: &LogEntry) -> Vec<Self> {
        commit.writes.iter().map(Self::of).collect()
    }
}

/// What one execution read and would have written.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Ranges, in the order of the indexes.
    pub reads: Vec<String>,
    /// Documents, by table and id.
    pub writes: Vec<Wrote>,
}

impl Touched {
    /// By a transaction that is not committed, as if it were at `ts`.
    pub fn by(mut transaction: Transaction, ts: Timestamp) -> Self {
        let state = &mut transaction.state;
        if state.placeholders {
            state.resolve_placeholders(ts);
        }
        Self {
            reads: explain::ranges(&state.catalog, &transaction.reads),
            writes: state.writes.values().map(Wrote::of).collect(),
        }
    }
}

/// The keys that a commit wrote, in words: `accounts[_id="j57…"]`.
pub fn written(commit: &LogEntry) -> Vec<String> {
    let key = |write: &Arc<Write>| {
        let index = &write.table.by_id;
        let key = &write.document().id.internal;
        format!("{}{}", write.table.name, explain::key_text(index, key))
    };
    commit.writes.iter().map(key).collect()
}

/// The ranges of a read set in the words of a snapshot's tables and indexes.
pub fn ranges(snapshot: &Snapshot, reads: &ReadSet) -> Vec<String> {
    explain::ranges(&snapshot.catalog, reads)
}

/// An execution of a call that ran before.
pub struct Replay {
    /// The call.
    pub call: Call,
    /// What the host decided for it then.
    pub given: Given,
    /// When it committed; a query's snapshot.
    pub committed: Timestamp,
    /// The code to run instead of what was deployed then.
    pub bundle: Option<Bundle>,
    /// Whoever watches it line by line.
    pub debugger: Option<Arc<dyn Debugger>>,
}

/// What came of it.
pub struct Replayed {
    /// As a call's, though nothing is committed.
    pub outcome: Outcome,
    /// What it read and would have written; of one that failed nothing.
    pub touched: Touched,
    /// The code that ran.
    pub code: CodeVersion,
}

/// A client of the Chrome DevTools Protocol that debugs one execution. Called on the thread that
/// executes.
pub trait Debugger: Send + Sync {
    /// Its next message; waits for it. `None`: it is gone.
    fn hear(&self) -> Option<String>;

    /// Sends it a message.
    fn say(&self, message: String);
}
