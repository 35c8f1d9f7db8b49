//! Errors, by who reads them: the author of a function, the operator, and us.
//!
//! Invariant: a conflict is never an error of these kinds; it is `commit::Conflict` and carries
//! its reason.

use thiserror::Error;

/// A mistake of the function's author or caller: deterministic, and JavaScript may catch it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct UserError {
    /// Short CamelCase code, Convex's where it has one.
    pub code: &'static str,
    /// What happened, why, and what to do.
    pub message: String,
    /// Encoded JSON text for errors that clients recognise by data (`paginationError`, …).
    pub data: Option<String>,
}

impl UserError {
    /// An error without data.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

/// Why the host did not run a call, or could not finish it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The request itself is wrong: HTTP 400.
    #[error("{0}")]
    Bad(#[from] UserError),
    /// Queues are full: HTTP 429 (limits of concurrency) or 503 (the host is out of room).
    #[error("{message}")]
    Overloaded {
        /// `TooManyConcurrentRequests`, `ExpiredInQueue`, …
        code: &'static str,
        /// What is full and how large it is.
        message: String,
    },
    /// The snapshot asked for is older than the history kept: HTTP 503.
    #[error("{0}")]
    OutOfRetention(String),
    /// An invariant of ours broke: HTTP 500, and a bug report.
    #[error("{0}")]
    Broken(String),
}

/// Why a push was refused; the deployment that was serving goes on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct PushError {
    /// Short CamelCase code, Convex's where it has one.
    pub code: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl PushError {
    /// An error with its code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
