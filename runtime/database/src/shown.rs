//! Values as messages print them: as their author would write them, not as JSON.
//!
//! In: values and field names. Out: text for errors about validators and filters. Invariant: a
//! float is never shown like an integer (`1.0`, `1n`).

use std::fmt;

use crate::json;
use crate::value::Value;

/// A value as Convex's messages print it: `{a: 1.0, b: "x"}`.
pub(crate) struct Shown<'a>(pub(crate) &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Int64(number) => write!(f, "{number}n"),
            Value::Float64(number) if number.is_infinite() => {
                f.write_str(if *number > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Value::Float64(number) => write!(f, "{number:?}"),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::String(text) => write_quoted(text, f),
            Value::Bytes(bytes) => write_bytes(bytes, f),
            Value::CommitTs => f.write_str("<commit timestamp>"),
            Value::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if at > 0 { ", " } else { "" }, Shown(item))?;
                }
                f.write_str("]")
            }
            Value::Object(fields) => {
                f.write_str("{")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", Name(name), Shown(value))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A field's name, in quotes where JavaScript needs them.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let number = self.0.starts_with(|c: char| c.is_ascii_digit());
        match self.0.chars().all(bare) && !number && !self.0.is_empty() {
            true => f.write_str(self.0),
            false => write_quoted(self.0, f),
        }
    }
}

fn write_quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut quoted = String::new();
    json::write_string(text, &mut quoted);
    f.write_str(&quoted)
}

/// `<00ff17>`; of more than 16 bytes the first, and how many there are.
fn write_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<")?;
    bytes.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))?;
    match bytes.len() {
        0..=16 => f.write_str(">"),
        length => write!(f, "… {length} bytes>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_their_author_writes_them() {
        let text = r#"{"a":[{"$integer":"AQAAAAAAAAA="},1,-2.5,{"$float":"AAAAAAAA8P8="}],
            "a b":"x\"y","1":{"$bytes":"AP8X"},"":{},"big":{"$bytes":"AAAAAAAAAAAAAAAAAAAAAAAA"}}"#;
        assert_eq!(
            Shown(&json::decode(text).unwrap()).to_string(),
            "{\"\": {}, \"1\": <00ff17>, a: [1n, 1.0, -2.5, -Infinity], \"a b\": \"x\\\"y\", \
             big: <00000000000000000000000000000000… 18 bytes>}"
        );
    }
}
