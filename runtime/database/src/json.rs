//! Values as Convex's JSON: `$integer`, `$float`, `$bytes` (`convex-compat.md` sections 2.1 and
//! 2.2).
//!
//! In: JSON text. Out: [`Value`]s, and text again. Invariant: [`encode`] is canonical: equal values
//! have equal texts, and `decode(encode(v)) == v`, bit for bit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::UserError;
use crate::limits;
use crate::value::Value;

/// Decodes encoded JSON.
///
/// # Errors
/// Malformed JSON or a malformed special, with its line and column.
pub fn decode(text: &str) -> Result<Value, UserError> {
    let mut parser = Parser::new(text);
    let value = parser.document()?;
    value.ok_or_else(|| parser.error("`undefined` is not a value here"))
}

/// Decodes a literal of a filter or an index range; `{"$undefined": null}` is `None`.
///
/// # Errors
/// As [`decode`].
pub fn decode_optional(text: &str) -> Result<Option<Value>, UserError> {
    Parser::new(text).document()
}

/// Decodes a patch: fields whose value is `{"$undefined": null}` are to be removed.
///
/// # Errors
/// As [`decode`]; a text that is no object.
pub fn decode_patch(text: &str) -> Result<BTreeMap<String, Option<Value>>, UserError> {
    let mut parser = Parser::new(text);
    parser.space();
    if parser.peek() != Some(b'{') {
        return Err(parser.error("expected an object"));
    }
    parser.at += 1;
    let start = parser.at;
    let mut fields = BTreeMap::new();
    let mut more = !parser.closes(b'}');
    while more {
        let name = parser.name()?;
        if name.starts_with('$') {
            return Err(parser.at(start).reserved(&name));
        }
        fields.insert(name, parser.value(1)?);
        more = parser.goes_on(b'}', "expected `,` or `}`")?;
    }
    parser.end()?;
    Ok(fields)
}

/// Recursive descent over bytes, straight into values.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// Levels the parser follows: beyond every limit on values, far below the stack.
const MAX_DEPTH: usize = 96;

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The whole text.
    fn document(&mut self) -> Result<Option<Value>, UserError> {
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    fn end(&mut self) -> Result<(), UserError> {
        self.space();
        if self.at < self.text.len() {
            return Err(self.error("expected the end of the JSON"));
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Option<Value>, UserError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.object(depth + 1)
            }
            Some(b'[') => {
                self.at += 1;
                self.array(depth + 1).map(Some)
            }
            Some(b'"') => {
                self.at += 1;
                Ok(Some(Value::String(self.string()?)))
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(Some),
            _ => {
                for (word, value) in [
                    ("null", Value::Null),
                    ("true", Value::Boolean(true)),
                    ("false", Value::Boolean(false)),
                ] {
                    if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(Some(value));
                    }
                }
                Err(self.error("expected a JSON value"))
            }
        }
    }

    /// After `[`.
    fn array(&mut self, depth: usize) -> Result<Value, UserError> {
        self.check_depth(depth)?;
        let mut items = Vec::new();
        let mut more = !self.closes(b']');
        while more {
            let item = self.value(depth)?;
            items.push(item.ok_or_else(|| self.error("`undefined` is not a value in an array"))?);
            more = self.goes_on(b']', "expected `,` or `]`")?;
        }
        Ok(Value::Array(items))
    }

    /// After `{`: an object or a special. A later duplicate of a field wins, as in JavaScript.
    fn object(&mut self, depth: usize) -> Result<Option<Value>, UserError> {
        self.check_depth(depth)?;
        let start = self.at;
        // Collected first: a map is built at once from fields in order, which encoded text has.
        let mut fields = Vec::new();
        let mut more = !self.closes(b'}');
        while more {
            let name = self.name()?;
            if name.starts_with('$') {
                let first = fields.is_empty();
                return self.special(&name, depth, first).map_err(|why| self.at(start).error(&why));
            }
            let Some(value) = self.value(depth)? else {
                let why = format!("`undefined` is not a value: the field {name:?}");
                return Err(self.at(start).error(&why));
            };
            fields.push((name, value));
            more = self.goes_on(b'}', "expected `,` or `}`")?;
        }
        Ok(Some(Value::Object(fields.into_iter().collect())))
    }

    /// After `"`.
    fn string(&mut self) -> Result<String, UserError> {
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        let mut run = self.at;
        loop {
            match bytes.get(self.at) {
                None => return Err(self.error("the string does not end")),
                Some(b'"') => {
                    out.push_str(&self.text[run..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[run..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                    run = self.at;
                }
                Some(0..=0x1f) => return Err(self.error("a control character must be escaped")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// After `\`.
    fn escape(&mut self) -> Result<char, UserError> {
        let letter = self.peek().ok_or_else(|| self.error("the string does not end"))?;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.error("no such escape")),
        })
    }

    /// After `\u`: one unit, or a surrogate pair.
    fn unicode(&mut self) -> Result<char, UserError> {
        let lone = "a lone surrogate is no character: strings must be valid Unicode";
        let high = self.hex4()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high).ok_or_else(|| self.error(lone));
        }
        if high >= 0xdc00 || !self.text[self.at..].starts_with("\\u") {
            return Err(self.error(lone));
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(self.error(lone));
        }
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        char::from_u32(code).ok_or_else(|| self.error(lone))
    }

    fn hex4(&mut self) -> Result<u32, UserError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let number = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.error("expected four hex digits"))?;
        self.at += 4;
        Ok(number)
    }

    /// A JSON number, always a float64.
    fn number(&mut self) -> Result<Value, UserError> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let digits = |at: &mut usize| {
            let first = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > first
        };
        let mut at = start + usize::from(bytes[start] == b'-');
        let leading_zero = bytes.get(at) == Some(&b'0');
        let first = at;
        let mut valid = digits(&mut at) && !(leading_zero && at > first + 1);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            valid &= digits(&mut at);
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            valid &= digits(&mut at);
        }
        let number = self.text[start..at].parse::<f64>().ok().filter(|_| valid);
        let number = number.ok_or_else(|| self.error("malformed number"))?;
        if !number.is_finite() {
            return Err(self.error("the number is too large for a float64"));
        }
        self.at = at;
        Ok(Value::Float64(number))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, why: &str) -> Result<(), UserError> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(why)) }
    }

    fn check_depth(&self, depth: usize) -> Result<(), UserError> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        let max = limits::VALUE_DEPTH;
        Err(self.error(&format!(
            "Value is too nested (nested {depth} levels deep > maximum nesting {max})"
        )))
    }

    fn error(&self, why: &str) -> UserError {
        let mut end = self.at.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        UserError::new("InvalidJson", format!("{why} at line {line} column {column}"))
    }
}

/// The value behind `{"$x": …}`.
fn special(name: &str, value: Option<&Value>) -> Result<Option<Value>, String> {
    let bytes = |what: &str| match value {
        Some(Value::String(text)) => {
            STANDARD.decode(text).map_err(|e| format!("`{what}` holds malformed base64: {e}"))
        }
        _ => Err(format!("`{what}` must hold a base64 string")),
    };
    let eight = |what: &str| {
        let count = |bytes: &Vec<u8>| format!("`{what}` must hold 8 bytes, not {}", bytes.len());
        bytes(what)?.try_into().map_err(|bytes| count(&bytes))
    };
    match (name, value) {
        ("$integer", _) => Ok(Some(Value::Int64(i64::from_le_bytes(eight(name)?)))),
        ("$bytes", _) => Ok(Some(Value::Bytes(bytes(name)?))),
        ("$float", _) => {
            let number = f64::from_le_bytes(eight(name)?);
            if is_plain(number) {
                return Err(format!("Float {number} should be encoded as a number"));
            }
            Ok(Some(Value::Float64(number)))
        }
        ("$undefined", Some(Value::Null)) => Ok(None),
        ("$commitTs", Some(Value::Null)) => Ok(Some(Value::CommitTs)),
        _ => Err(format!("{name:?} is not one of $integer, $float, $bytes")),
    }
}

/// Whether a float is written as a JSON number.
fn is_plain(number: f64) -> bool {
    number.is_finite() && !(number == 0.0 && number.is_sign_negative())
}

/// Encodes a value, canonically: sorted fields, shortest numbers, no spaces.
pub fn encode(value: &Value) -> String {
    let mut out = String::with_capacity(value.size() + 16);
    encode_into(value, &mut out);
    out
}

/// Appends the encoding of a value.
pub fn encode_into(value: &Value, out: &mut String) {
    write(value, Format::Encoded, out);
}

/// How values leave through the public API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `convex_encoded_json`: lossless.
    Encoded,
    /// `json`: int64 and bytes as strings, lossy.
    Clean,
    /// `export_json`: int64 as JSON integers, floats always with a dot.
    Export,
}

impl Format {
    /// Parses the `format` of a request.
    ///
    /// # Errors
    /// `BadFormat`.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        match text {
            "convex_encoded_json" | "convex_json" => Ok(Self::Encoded),
            "json" | "convex_clean_json" => Ok(Self::Clean),
            "export_json" => Ok(Self::Export),
            other => {
                let message = format!("format param must be one of [`json`]. Got {other}");
                Err(UserError::new("BadFormat", message))
            }
        }
    }
}

/// Writes a value in a format.
pub fn export(value: &Value, format: Format) -> String {
    let mut out = String::with_capacity(value.size() + 16);
    write(value, format, &mut out);
    out
}

fn write(value: &Value, format: Format, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Boolean(true) => out.push_str("true"),
        Value::Boolean(false) => out.push_str("false"),
        Value::Int64(number) => match format {
            Format::Encoded => write_special("$integer", &number.to_le_bytes(), out),
            Format::Clean => infallible(write!(out, "\"{number}\"")),
            Format::Export => infallible(write!(out, "{number}")),
        },
        Value::Float64(number) => write_float(*number, format, out),
        Value::String(text) => write_string(text, out),
        Value::Bytes(bytes) if format == Format::Clean => {
            write_string(&STANDARD.encode(bytes), out);
        }
        Value::Bytes(bytes) => write_special("$bytes", bytes, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, format, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(value, format, out);
            }
            out.push('}');
        }
        Value::CommitTs => out.push_str("{\"$commitTs\":null}"),
    }
}

fn write_float(number: f64, format: Format, out: &mut String) {
    if !is_plain(number) {
        return match format {
            Format::Clean if number.is_nan() => out.push_str("\"NaN\""),
            Format::Clean if number == f64::INFINITY => out.push_str("\"Infinity\""),
            Format::Clean if number == f64::NEG_INFINITY => out.push_str("\"-Infinity\""),
            Format::Clean => out.push_str("-0.0"),
            Format::Encoded | Format::Export => {
                write_special("$float", &number.to_le_bytes(), out);
            }
        };
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked to be integral and small")]
    if format != Format::Export && number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return infallible(write!(out, "{}", number as i64));
    }
    out.push_str(ryu::Buffer::new().format_finite(number));
}

fn write_special(name: &str, bytes: &[u8], out: &mut String) {
    out.push_str("{\"");
    out.push_str(name);
    out.push_str("\":\"");
    STANDARD.encode_string(bytes, out);
    out.push_str("\"}");
}

/// Writes a JSON string with the fewest escapes.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut run = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[run..at]);
        run = at + 1;
        if escape.is_empty() {
            infallible(write!(out, "\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[run..]);
    out.push('"');
}

/// Writing into a `String` cannot fail.
fn infallible(written: std::fmt::Result) {
    written.expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        decode(text).unwrap_err().message
    }

    #[test]
    fn a_patch_takes_away_only_at_its_top() {
        let patch = decode_patch(r#"{"a":{"$undefined":null},"b":{"$integer":"AQAAAAAAAAA="}}"#);
        let expected = [("a".to_owned(), None), ("b".to_owned(), Some(Value::Int64(1)))];
        assert_eq!(patch.unwrap(), BTreeMap::from(expected));
        assert!(decode_patch(r#"{"a":{"b":{"$undefined":null}}}"#).is_err());
        assert!(decode_patch(r#"{"a":[{"$undefined":null}]}"#).is_err());
        assert!(decode_patch("[]").is_err());
    }

    #[test]
    fn a_patch_is_no_special() {
        for text in
            [r#"{"$integer":"AQAAAAAAAAA="}"#, r#"{"$undefined":null}"#, r#"{"a":1,"$b":2}"#]
        {
            let message = decode_patch(text).expect_err(text).message;
            assert!(message.contains("starts with a `$`, which is reserved"), "{message}");
        }
    }

    #[test]
    fn nesting_is_counted_in_values_not_in_braces() {
        let wrap = |levels: usize, leaf: &str| {
            format!("{}{leaf}{}", "[".repeat(levels), "]".repeat(levels))
        };
        let max = usize::try_from(limits::VALUE_DEPTH).unwrap();
        // A special is a scalar, though its JSON is an object.
        for leaf in ["1", r#"{"$integer":"AQAAAAAAAAA="}"#, r#"{"$commitTs":null}"#] {
            assert_eq!(decode(&wrap(max, leaf)).unwrap().depth(), max, "{leaf}");
            let message = error(&wrap(max + 1, leaf));
            assert!(
                message.starts_with(
                    "Value is too nested (nested 65 levels deep > maximum nesting 64)"
                ),
                "{message}"
            );
        }
        assert!(error(&wrap(max, "{}")).starts_with("Value is too nested"));
        assert!(decode(&wrap(max - 1, "{}")).is_ok());
        let hostile = r#"{"a":"#.repeat(100_000);
        assert!(error(&hostile).starts_with("Value is too nested"));
        let hostile = r#"{"$integer":"#.repeat(100_000);
        assert!(decode(&hostile).is_err());
    }
}
