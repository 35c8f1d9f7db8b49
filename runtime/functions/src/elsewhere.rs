//! Functions that run elsewhere, on a transaction of this host: those that a test hands in.
//!
//! In: a call whose function asks for it (`syscall/elsewhere.rs`). Out: a [`Visit`], whose owner
//! runs the JavaScript and sends each of its syscalls back as a [`Turn`]. Invariant: the call's
//! thread answers every turn itself, so the transaction never leaves it; a visit that is dropped
//! fails its call.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use database::error::UserError;
use database::record::FunctionPath;
use database::snapshot::Snapshot;

/// The module that a test's deployment has, and no other: closures run through it.
pub const INLINE: &str = "concave_inline.js";

/// The function behind a handle that names it, `function://component;module:export`: what tests
/// write and convex-test gives. Only in the deployment of a test; elsewhere nobody guesses handles.
pub(crate) fn behind_name(snapshot: &Snapshot, handle: &str) -> Option<FunctionPath> {
    let analysis = &snapshot.deployment.as_ref()?.analysis;
    analysis.modules.get(INLINE)?;
    let (component, path) = handle.strip_prefix("function://")?.split_once(';')?;
    Some(FunctionPath::parse(path).ok()?.within(&component.into()))
}

/// The handle that [`behind_name`] understands.
pub(crate) fn handle_by_name(path: &FunctionPath) -> String {
    format!("function://{};{}", path.component, path.identifier())
}

/// Who runs functions elsewhere.
pub trait Elsewhere: Send + Sync + 'static {
    /// Runs one. Must not block.
    fn run(&self, visit: Visit);
}

/// One function to run elsewhere.
pub struct Visit {
    /// The request that it belongs to.
    pub request_id: Arc<str>,
    /// The component whose function it is; the app's is empty.
    pub component: Arc<str>,
    /// What was asked for, JSON text.
    pub asked: String,
    /// Takes what the function asks for, and in the end what came of it.
    pub turns: Sender<Turn>,
}

/// How an answer travels back: called once, on the call's thread, must not block.
pub type Answer = Box<dyn FnOnce(Result<String, UserError>) + Send>;

/// What a function elsewhere does next.
pub enum Turn {
    /// It asks its host.
    Ask {
        /// `1.0/get`, …
        operation: String,
        /// JSON text.
        arguments: String,
        /// Whether the answer is one of `Convex.syscall`.
        is_sync: bool,
        /// Takes the answer.
        answer: Answer,
    },
    /// It has ended: JSON text of the result, or the error that its caller sees.
    End(Result<String, UserError>),
}
