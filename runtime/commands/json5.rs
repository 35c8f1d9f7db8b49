//! Arguments as people type them: JSON, or JSON5.
//!
//! In: a text. Out: an object of JSON in which numbers that JSON lacks are written as Convex
//! encodes them. Invariant: each number is the one that JavaScript reads in the same text.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// The object in a text.
///
/// # Errors
/// What is wrong with the text as JSON, or what it is instead.
pub(super) fn object(text: &str) -> Result<Value, String> {
    let read = serde_json::from_str::<Exact>(text).or_else(|error| {
        // As on the official command line: keys without quotes, trailing commas, comments.
        ::json5::from_str::<Exact>(&with_zeros(text)).map_err(|_| error.to_string())
    });
    match read?.0 {
        // A number of its own would be an object once it is encoded.
        Value::Object(_) if ::json5::from_str::<BTreeMap<String, IgnoredAny>>(text).is_err() => {
            Err("it is a number".to_owned())
        }
        Value::Object(fields) => Ok(Value::Object(fields)),
        other => Err(format!("it is {other}")),
    }
}

/// JSON in which every number is exact.
struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(number(value as f64))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = vec![];
        while let Some(Exact(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Exact(value))) = fields.next_entry()? {
            all.insert(name, value);
        }
        Ok(all.into())
    }
}

fn number(value: f64) -> Value {
    if value.is_finite() && !(value == 0.0 && value.is_sign_negative()) {
        return value.into();
    }
    // There is one NaN in JavaScript.
    let value = if value.is_nan() { f64::NAN } else { value };
    json!({ "$float": STANDARD.encode(value.to_le_bytes()) })
}

/// The text with `-0` as `-0.0`: the parser takes it for an integer, which has no such zero.
fn with_zeros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => string_length(rest, first),
            '/' if rest.starts_with("//") => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            // Not that of an exponent.
            '-' if !out.ends_with(|before: char| before.is_ascii_alphanumeric()) => {
                let after = &rest[1..];
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
                1 + after.find(|c| !is_part(c)).unwrap_or(after.len())
            }
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        out.push_str(if is_negative_zero(token) { "-0.0" } else { token });
        rest = after;
    }
    out
}

/// How long the string is that a text begins with, its quotes included.
fn string_length(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            end if end == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `-0`, or the same in hexadecimal digits.
fn is_negative_zero(token: &str) -> bool {
    let Some(digits) = token.strip_prefix('-') else { return false };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let zeros = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit == b'0');
    digits == "0" || hexadecimal.is_some_and(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_must_be_an_object() {
        assert!(object("{}").is_ok());
        assert!(object("[1]").unwrap_err().contains("[1]"));
        assert!(object("NaN").is_err());
        assert!(object("{\"a\": }").unwrap_err().contains("column"));
        assert_eq!(
            object("{a: [1, 2.5, 'x', null, true,],}").unwrap(),
            json!({
                "a": [1, 2.5, "x", null, true],
            })
        );
    }

    #[test]
    fn numbers_that_json_lacks_are_encoded() {
        let float = |value: f64| json!({ "$float": STANDARD.encode(value.to_le_bytes()) });
        for (text, value) in [
            ("NaN", f64::NAN),
            ("-NaN", f64::NAN),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
            ("-1e999", f64::NEG_INFINITY),
            ("-0", -0.0),
            ("-0.0", -0.0),
            ("-0e5", -0.0),
            ("-0x00", -0.0),
        ] {
            for text in [format!("{{\"x\":{text}}}"), format!("{{y: [], x: {text}, /* -0 */}}")] {
                assert_eq!(object(&text).unwrap()["x"], float(value), "{text}");
            }
        }
        for (text, value) in [("-0x10", -16.0), ("1e3", 1000.0), ("1e-0", 1.0), ("-1", -1.0)] {
            assert_eq!(object(&format!("{{x: {text}}}")).unwrap()["x"].as_f64(), Some(value));
        }
        let large = object("{x: 123456789012345678901234567890}").unwrap();
        assert_eq!(large["x"].as_f64(), Some(123_456_789_012_345_678_901_234_567_890.0));
        assert!(object("{x: -00}").is_err());
    }

    #[test]
    fn texts_and_comments_stay_as_they_are() {
        let read = object("{a: '-0 \\' -0', // -0 '\n \"b -0\": \"-0\", c: -0}").unwrap();
        assert_eq!(read["a"], "-0 ' -0");
        assert_eq!(read["b -0"], "-0");
        assert!(read["c"].is_object());
    }
}
