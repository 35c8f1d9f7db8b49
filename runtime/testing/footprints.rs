//! What each step of an explored order read and wrote: two steps that do not meet have one order;
//! and what the engine remarks on calls.
//!
//! In: the outcomes of a world's calls, its commits. Out: index ranges and keys, for
//! `js/test/explore.js`. Invariant: what is not known to be apart meets. Documents that are
//! inserted into one table meet, for their order of creation can be seen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use database::commit::Database;
use database::deployment::{Analysis, Bundle};
use database::error::PushError;
use database::read_set::ReadSet;
use database::record::{Call, Functions, Reply, Timestamp};
use database::snapshot::CATALOG;
use serde_json::{Value, json};

/// A world's functions; it notes what the engine remarks on them, and while its orders are explored
/// what they read.
pub struct Noted {
    functions: Arc<functions::Host>,
    remarks: Arc<Mutex<Vec<String>>>,
    steps: Arc<Mutex<Option<Step>>>,
}

/// The step that is under way.
struct Step {
    reads: ReadSet,
    /// The newest commit before it.
    since: Timestamp,
}

impl Noted {
    /// Notes nothing yet.
    pub fn new(functions: Arc<functions::Host>) -> Self {
        Self { functions, remarks: Arc::default(), steps: Arc::default() }
    }

    /// What was remarked since the last time.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.remarks))
    }

    /// Begins to note.
    pub fn start(&self, database: &Database) {
        *lock(&self.steps) = Some(Step::after(database));
    }

    /// What was read and written since the last time; from now on more is noted.
    pub fn take(&self, database: &Database) -> Value {
        let step = lock(&self.steps).replace(Step::after(database));
        step.unwrap_or_else(|| Step::after(database)).footprint(database)
    }
}

impl Step {
    fn after(database: &Database) -> Self {
        Self { reads: ReadSet::default(), since: database.newest().ts }
    }

    fn footprint(&self, database: &Database) -> Value {
        let (mut writes, mut inserts) = (Vec::new(), BTreeSet::new());
        let history = database.history();
        for entry in history.entries.iter().take_while(|entry| entry.ts > self.since) {
            let keys = entry.keys();
            writes.extend(keys.map(|(index, key, _)| json!([index.0, HEXLOWER.encode(key)])));
            let new = entry.writes.iter().filter(|write| write.before.is_none());
            inserts.extend(new.map(|write| write.table.by_id.id.0));
        }
        // Indexes that a step makes have the numbers of those that another one makes.
        let is_alone = writes.iter().any(|write| write[0] == CATALOG.0);
        let reads = self.reads.iter().map(|(index, range)| {
            json!([
                index.0,
                HEXLOWER.encode(&range.start),
                range.end.as_deref().map(|end| HEXLOWER.encode(end))
            ])
        });
        json!({
            "reads": reads.collect::<Vec<_>>(), "writes": writes, "inserts": inserts,
            "isAlone": is_alone,
        })
    }
}

impl Functions for Noted {
    fn analyze(&self, bundle: Arc<Bundle>) -> Result<Arc<Analysis>, PushError> {
        self.functions.analyze(bundle)
    }

    fn activate(
        &self,
        bundle: Arc<Bundle>,
        analysis: Arc<Analysis>,
    ) -> Result<Timestamp, PushError> {
        self.functions.activate(bundle, analysis)
    }

    fn call(&self, call: Call, reply: Reply) {
        let (steps, remarks) = (Arc::clone(&self.steps), Arc::clone(&self.remarks));
        self.functions.call(
            call,
            Box::new(move |answer| {
                if let Ok(outcome) = &answer {
                    let new = outcome.remark.iter().filter(|_| !outcome.cached);
                    lock(&remarks).extend(new.map(ToString::to_string));
                    if let Some(step) = &mut *lock(&steps) {
                        step.reads.merge(&outcome.reads);
                    }
                }
                reply(answer);
            }),
        );
    }
}

fn lock<T>(notes: &Mutex<T>) -> MutexGuard<'_, T> {
    // Notes are added one by one; each is whole.
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}
