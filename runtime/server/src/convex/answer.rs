//! The answer to a call over HTTP: `{"status":…}` (`convex-compat.md` section 4.1).
//!
//! In: an outcome, or the error of a call that could not start. Out: the body, in one buffer.
//! Invariant: in the encoded format a result's text is copied, never parsed, its whole numbers with
//! the point that Convex gives them; `errorData` is there only for a ConvexError, and `logLines`
//! only where something was logged.

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
            with_points(encoded, body);
        } else {
            let value = json::decode(encoded)?;
            body.extend_from_slice(json::export(&value, self.format).as_bytes());
        }
        Ok(())
    }
}

/// Copies encoded JSON with every whole float64 as Convex writes it, `1.0`: clients in languages
/// with integers tell by the point that it is a float64, and PyPI's takes nothing else for one.
fn with_points(encoded: &str, body: &mut Vec<u8>) {
    let bytes = encoded.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let number = &bytes[at..];
                let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = number.iter().take_while(|b| is_part(b)).count();
                at += length;
                if !number[..length].iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
                    body.extend_from_slice(&bytes[copied..at]);
                    body.extend_from_slice(b".0");
                    copied = at;
                }
            }
            _ => at += 1,
        }
    }
    body.extend_from_slice(&bytes[copied..]);
}

/// After the quote that ends the string that goes on at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes[at..].iter().position(|b| matches!(b, b'"' | b'\\')) {
            Some(found) if bytes[at + found] == b'\\' => at = (at + found + 2).min(bytes.len()),
            Some(found) => return at + found + 1,
            None => return bytes.len(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_get_their_point_and_nothing_else_does() {
        let written = |encoded: &str| {
            let mut body = b"<".to_vec();
            with_points(encoded, &mut body);
            String::from_utf8(body).unwrap()
        };
        for (encoded, expected) in [
            ("0", "<0.0"),
            ("-12", "<-12.0"),
            ("[1,2.5,-0.1,1e21,5e-324,9007199254740992.0]", {
                "<[1.0,2.5,-0.1,1e21,5e-324,9007199254740992.0]"
            }),
            (r#"{"1":1,"a":"2, 3","ü\"4":[{"b\\":5}]}"#, {
                r#"<{"1":1.0,"a":"2, 3","ü\"4":[{"b\\":5.0}]}"#
            }),
            (r#"[{"$integer":"AQAAAAAAAAA="},true,null,""]"#, {
                r#"<[{"$integer":"AQAAAAAAAAA="},true,null,""]"#
            }),
        ] {
            assert_eq!(written(encoded), expected);
            let value = json::decode(encoded).unwrap();
            assert_eq!(json::decode(&expected[1..]).unwrap(), value);
        }
        // Not JSON, and so a broken rule of ours: it is copied all the same.
        assert_eq!(written("\"1\\"), "<\"1\\");
    }
}
