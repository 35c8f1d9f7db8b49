//! Errors of other processes as their authors read them: frames in TypeScript.
//!
//! In: the code of a deployment, and a text with V8's stack. Out: the full text. Invariant: the
//! same text as for an error in a query.

use std::sync::Arc;

use database::snapshot::Deployment;

use crate::code::Code;
use crate::exception;

/// The source maps of a deployment, each parsed when it is first needed.
pub struct Traces {
    code: Code,
}

impl Traces {
    /// Those of `deployment`.
    pub fn new(deployment: &Deployment) -> Self {
        let (bundle, analysis) = (Arc::clone(&deployment.bundle), Arc::clone(&deployment.analysis));
        Self { code: Code::new(bundle, analysis) }
    }

    /// `text`, then a line for each frame of `stack` that stands in the author's code:
    /// `Uncaught Error: msg\n    at fn (../convex/file.ts:L:C)\n`.
    pub fn full_text(&self, text: String, stack: &str) -> String {
        exception::full_text(Some(&self.code), text, stack)
    }
}
