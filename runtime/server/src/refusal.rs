//! An error on its way out: status, short code, message (`convex-compat.md` section 4.2).
//!
//! In: the typed errors of the database crate and of this one. Out: a response whose body is
//! `{"code":"ShortCamelCase","message":"…"}`.
//! Invariant: a function's own failure never comes through here; that is an answer with status 200.

use std::borrow::Cow;
use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use database::error::{PushError, Refusal, UserError};
use serde_json::json;

/// Upstream's text for everything that is not the caller's fault and not the caller's business.
const TRY_LATER: &str = "Your request couldn't be completed. Try again later.";

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Short CamelCase code, Convex's where it has one.
    pub(crate) code: Cow<'static, str>,
    /// What happened, why, and what to do.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with any status.
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The request is wrong: 400.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A feature that does not exist yet. Status 400 and not 404, because the official CLI repeats
    /// every 404 six times over half a minute.
    pub(crate) fn unsupported(what: impl Display) -> Self {
        Self::bad("NotSupported", format!("{what} is not supported by concave yet."))
    }

    /// The host did not run a call, or could not finish it.
    pub(crate) fn refused(refusal: Refusal, redact: bool) -> Self {
        match refusal {
            Refusal::Bad(error) => error.into(),
            Refusal::Overloaded { code, message } => {
                // Too many at once is the caller's to pace; every other shortage is the host's.
                let concurrency = code.starts_with("TooMany");
                let status = if concurrency {
                    StatusCode::TOO_MANY_REQUESTS
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Self::new(status, code, message)
            }
            Refusal::OutOfRetention(message) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "OutOfRetention", message)
            }
            Refusal::Broken(_) if redact => Self::broken(TRY_LATER),
            Refusal::Broken(why) => Self::broken(format!(
                "{TRY_LATER} (concave broke a rule of its own, please report it: {why})"
            )),
        }
    }

    /// An invariant of ours broke: 500.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
    }

    /// A push that failed; the CLI prints the message as it is.
    pub(crate) fn push(error: PushError) -> Self {
        const PREFIX: &str = "Hit an error while pushing:\n";
        let PushError { code, message } = error;
        let message =
            if message.starts_with(PREFIX) { message } else { format!("{PREFIX}{message}") };
        Self::bad(code, message)
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::bad(error.code, error.message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.code, "message": self.message }).to_string();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overloaded(code: &'static str) -> Failure {
        Failure::refused(Refusal::Overloaded { code, message: "full".into() }, false)
    }

    #[test]
    fn shortage_says_whose_it_is() {
        assert_eq!(overloaded("TooManyConcurrentRequests").status, 429);
        assert_eq!(overloaded("ExpiredInQueue").status, 503);
        assert_eq!(overloaded("ExpiredInQueue").into_response().headers()["retry-after"], "1");
        let old = Failure::refused(Refusal::OutOfRetention("too old".into()), false);
        assert_eq!((old.status.as_u16(), &*old.code), (503, "OutOfRetention"));
    }

    #[test]
    fn a_broken_rule_is_told_only_to_whom_it_may_be() {
        let broken = || Refusal::Broken("page 7 is torn".into());
        assert!(Failure::refused(broken(), false).message.contains("page 7"));
        assert_eq!(Failure::refused(broken(), true).message, TRY_LATER);
    }

    #[test]
    fn a_push_error_is_introduced_once() {
        let failure = Failure::push(PushError::new("BadModule", "a.js: no"));
        assert_eq!(failure.message, "Hit an error while pushing:\na.js: no");
        let again = Failure::push(PushError::new("BadModule", failure.message.clone()));
        assert_eq!(again.message, failure.message);
    }
}
