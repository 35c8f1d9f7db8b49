//! Pushes between their start and their end.
//!
//! In: analyzed bundles. Out: the same, found again by the id that travels through the CLI inside
//! `schemaChange`.
//! Invariant: at most [`PENDING_MAX`] are held; one that was dropped is reported as a race, which
//! makes the CLI start again, and never guessed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use database::commit::Database;
use database::deployment::{Analysis, Bundle};
use database::environment::Variables;
use database::snapshot::Deployment;
use serde::Deserialize;

use super::assemble::{self, StartPush};
use crate::crons;
use crate::host::Host;
use crate::refusal::Failure;

/// How many analyzed pushes wait for their end. Two developers and two terminals each; a bundle
/// with its startup snapshot is a few megabytes.
const PENDING_MAX: usize = 4;

/// A bundle that was analyzed and is not running yet.
pub(super) struct Push {
    /// Travels through the CLI and back.
    pub(super) id: String,
    /// What was pushed.
    pub(super) bundle: Arc<Bundle>,
    /// What is in it.
    pub(super) analysis: Arc<Analysis>,
    /// What was running when it was analyzed.
    pub(super) base: Option<Arc<Deployment>>,
}

/// The part of our own answer that the CLI hands to `wait_for_schema` and, inside `startPush`, to
/// `finish_push`. It passes unknown keys through.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaChange {
    #[serde(default)]
    push_id: String,
}

/// The pushes of one server.
#[derive(Default)]
pub(crate) struct Pushes {
    newest_last: Mutex<VecDeque<Arc<Push>>>,
    /// Held while a push is checked against what is running and activated: pushes end one by one.
    ending: Mutex<()>,
}

impl Pushes {
    /// The push that a client speaks of, if it is still held.
    pub(super) fn find(&self, change: &SchemaChange) -> Option<Arc<Push>> {
        self.held().iter().find(|push| push.id == change.push_id).cloned()
    }

    /// Waits for its turn to end a push.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a push that came to its end.
    pub(super) fn remove(&self, push: &Push) {
        self.held().retain(|held| held.id != push.id);
    }

    fn insert(&self, push: Arc<Push>) {
        let mut held = self.held();
        held.push_back(push);
        while held.len() > PENDING_MAX {
            held.pop_front();
        }
    }

    /// An earlier analysis of the same sources, which saw these environment variables; then the
    /// bundle takes over its import time and seed.
    fn analyzed(&self, bundle: &mut Bundle, environment: &Variables) -> Option<Arc<Push>> {
        let held = self.held();
        let mut agree = held
            .iter()
            .rev()
            .filter(|push| environment.agrees(&push.analysis.imported_environment));
        agree.find(|push| assemble::adopt(bundle, &push.bundle)).cloned()
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<Arc<Push>>> {
        self.newest_last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Assembles and analyzes a push, and remembers it. No effect on what is running.
///
/// # Errors
/// What is wrong with the request or with the bundle.
pub(super) fn analyze(host: &Host, asked: StartPush) -> Result<Arc<Push>, Failure> {
    let base = running(&host.database);
    let mut bundle = assemble::bundle(host, asked, base.as_ref().map(|base| &*base.bundle))?;
    let (bundle, analysis) = match &base {
        // The CLI may push what is running already; then nothing is left to find out.
        Some(base) if *base.bundle == bundle => (base.bundle.clone(), base.analysis.clone()),
        _ => match host.pushes.analyzed(&mut bundle, host.database.snapshot().environment()) {
            Some(twin) if same(&twin.base, &base) => return Ok(twin),
            Some(twin) => (twin.bundle.clone(), twin.analysis.clone()),
            None => {
                let bundle = Arc::new(bundle);
                let analysis = host.functions.analyze(bundle.clone()).map_err(Failure::push)?;
                crons::check(&analysis).map_err(Failure::push)?;
                (bundle, analysis)
            }
        },
    };
    let id = format!("{}-{}", analysis.version, host.request_id());
    let push = Arc::new(Push { id, bundle, analysis, base });
    host.pushes.insert(push.clone());
    Ok(push)
}

/// What is serving now.
pub(super) fn running(database: &Database) -> Option<Arc<Deployment>> {
    database.snapshot().deployment.clone()
}

/// Whether two looks at the running deployment saw the same code.
pub(super) fn same(a: &Option<Arc<Deployment>>, b: &Option<Arc<Deployment>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.bundle == b.bundle,
        _ => false,
    }
}
