//! The answer to a call over HTTP: `{"status":…}` (`convex-compat.md` section 4.1).
//!
//! In: an outcome, or the error of a call that could not start. Out: the body, in one buffer.
//! Invariant: in the encoded format a result's text is copied, never parsed; `errorData` is there
//! only for a ConvexError, and `logLines` only where something was logged.

use database::error::UserError;
use database::json::{self, Format};
use database::record::{FunctionError, LogLine, Outcome};

/// How the caller wants to read the answer.
#[derive(Clone, Copy)]
pub(super) struct Style<'a> {
    /// Form of values.
    pub(super) format: Format,
    /// Named in error texts.
    pub(super) request_id: &'a str,
    /// Whether texts and log lines stay on this side.
    pub(super) redact: bool,
}

impl Style<'_> {
    /// The body for a call that ran.
    ///
    /// # Errors
    /// A result that is not valid encoded JSON: a broken rule of ours.
    pub(super) fn outcome(&self, outcome: &Outcome) -> Result<Vec<u8>, UserError> {
        let mut body = match &outcome.result {
            Ok(value) => {
                let mut body = Vec::with_capacity(value.len() + 64);
                body.extend_from_slice(br#"{"status":"success","value":"#);
                self.value(value, &mut body)?;
                body
            }
            Err(error) => self.error(error)?,
        };
        if !self.redact && !outcome.log_lines.is_empty() {
            log_lines(&outcome.log_lines, &mut body);
        }
        body.push(b'}');
        Ok(body)
    }

    /// The body for a result that no function computed.
    ///
    /// # Errors
    /// A result that is not valid encoded JSON.
    pub(super) fn result(&self, value: &str) -> Result<Vec<u8>, UserError> {
        let mut body = br#"{"status":"success","value":"#.to_vec();
        self.value(value, &mut body)?;
        body.push(b'}');
        Ok(body)
    }

    /// The body for a call that was wrong before it could run.
    pub(super) fn wrong(&self, error: UserError) -> Vec<u8> {
        let UserError { message, data, .. } = error;
        // Data of ours is valid; should it ever not be, the text alone still is the answer.
        let mut body = self
            .error(&FunctionError { message: message.clone(), data })
            .or_else(|_| self.error(&FunctionError { message, data: None }))
            .unwrap_or_default();
        body.push(b'}');
        body
    }

    fn error(&self, error: &FunctionError) -> Result<Vec<u8>, UserError> {
        let text = error_text(self.request_id, error, self.redact);
        let mut body = Vec::with_capacity(text.len() + 64);
        body.extend_from_slice(br#"{"status":"error","errorMessage":"#);
        string(&text, &mut body);
        if let Some(data) = &error.data {
            body.extend_from_slice(br#","errorData":"#);
            self.value(data, &mut body)?;
        }
        Ok(body)
    }

    fn value(&self, encoded: &str, body: &mut Vec<u8>) -> Result<(), UserError> {
        if matches!(self.format, Format::Encoded) {
            body.extend_from_slice(encoded.as_bytes());
        } else {
            let value = json::decode(encoded)?;
            body.extend_from_slice(json::export(&value, self.format).as_bytes());
        }
        Ok(())
    }
}

/// A function's error as clients read it: with the text only where they may.
pub(super) fn error_text(request_id: &str, error: &FunctionError, redact: bool) -> String {
    let mut text = format!("[Request ID: {request_id}] Server Error");
    if !redact {
        text.push('\n');
        text.push_str(&error.message);
    }
    text
}

/// Appends `,"logLines":[…]`.
pub(super) fn log_lines(lines: &[LogLine], body: &mut Vec<u8>) {
    body.extend_from_slice(br#","logLines":["#);
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        string(&line.client_text(), body);
    }
    body.push(b']');
}

/// Appends a JSON string.
pub(super) fn string(text: &str, body: &mut Vec<u8>) {
    serde_json::to_writer(body, text)
        .expect("a string always serializes and a Vec always takes it");
}
