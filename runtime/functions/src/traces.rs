//! Errors of other processes as their authors read them: frames in TypeScript.
//!
//! In: the code of a deployment, and a text with V8's stack. Out: the full text. Invariant: the
//! same text as for an error in a query.

use std::sync::Arc;

use database::deployment::{Analysis, Bundle};

use crate::code::Code;
use crate::exception;

/// The source maps of a bundle, each parsed when it is first needed.
pub struct Traces {
    code: Code,
}

impl Traces {
    /// Those of a bundle of a deployment: the app's, or a unit's of its components.
    pub fn new(bundle: &Arc<Bundle>, analysis: &Arc<Analysis>) -> Self {
        Self { code: Code::new(Arc::clone(bundle), Arc::clone(analysis)) }
    }

    /// `text`, then a line for each frame of `stack` that stands in the author's code:
    /// `Uncaught Error: msg\n    at fn (../convex/file.ts:L:C)\n`.
    pub fn full_text(&self, text: String, stack: &str) -> String {
        exception::full_text(Some(&self.code), text, stack)
    }

    /// A logged text whose frames stand in TypeScript.
    pub fn readable(&self, text: String) -> String {
        exception::readable(&self.code, text)
    }
}
