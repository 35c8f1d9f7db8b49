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

/// How a file writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As [`Format::Export`] does: integers are int64, and specials are what they say.
    Export,
    /// As any other program does: numbers are float64. What JSON has no text for may stand there as
    /// a special, as `concave data --jsonl` writes it.
    Plain,
}

/// Decodes a value of a file.
///
/// # Errors
/// As [`decode`].
pub fn import(text: &str, dialect: Dialect) -> Result<Value, UserError> {
    let mut parser = Parser { dialect: Some(dialect), ..Parser::new(text) };
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
/// As [`decode`]; a text that is no object; a field whose name starts with `$`.
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
            return Err(parser.error_at(start, &reserved(&name)));
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
    /// `None`: encoded JSON.
    dialect: Option<Dialect>,
}

/// Levels the parser follows: far below the stack. Above [`limits::VALUE_DEPTH`], because a special
/// is a scalar in braces and calls wrap their argument in a list; `Value::check_limits` is exact.
const MAX_DEPTH: usize = 96;

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, dialect: None }
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
            let value = self.value(depth)?;
            more = self.goes_on(b'}', "expected `,` or `}`")?;
            if name.starts_with('$') {
                let known = self.dialect.is_none() || IN_FILES.contains(&&*name);
                let alone = fields.is_empty() && !more && known;
                let special =
                    if alone { special(&name, value.as_ref()) } else { Err(reserved(&name)) };
                return special.map_err(|why| self.error_at(start, &why));
            }
            let Some(value) = value else {
                let why = format!("`undefined` is not a value: the field {name:?}");
                return Err(self.error_at(start, &why));
            };
            fields.push((name, value));
        }
        Ok(Some(Value::Object(fields.into_iter().collect())))
    }

    /// A field's name and its colon.
    fn name(&mut self) -> Result<String, UserError> {
        self.space();
        self.expect(b'"', "expected a field name in double quotes")?;
        let name = self.string()?;
        self.space();
        self.expect(b':', "expected `:`")?;
        Ok(name)
    }

    /// Whether a list ends right after it began.
    fn closes(&mut self, close: u8) -> bool {
        self.space();
        self.eat(close)
    }

    /// After an element: whether another follows.
    fn goes_on(&mut self, close: u8, why: &str) -> Result<bool, UserError> {
        if self.closes(close) {
            return Ok(false);
        }
        self.expect(b',', why)?;
        Ok(true)
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

    /// A JSON number: a float64, but for integers of exports.
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
        let digits = &self.text[start..at];
        if valid
            && self.dialect == Some(Dialect::Export)
            && let Ok(integer) = digits.parse::<i64>()
        {
            self.at = at;
            return Ok(Value::Int64(integer));
        }
        let number = digits.parse::<f64>().ok().filter(|_| valid);
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
        self.error_at(self.at, why)
    }

    fn error_at(&self, at: usize, why: &str) -> UserError {
        let mut end = at.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        UserError::new("InvalidJson", format!("{why} at line {line} column {column}"))
    }
}

fn reserved(name: &str) -> String {
    format!("the field {name:?} starts with a `$`, which is reserved")
}

/// Specials that stand for values of documents.
const IN_FILES: [&str; 3] = ["$integer", "$float", "$bytes"];

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
    fn files_say_what_their_numbers_and_dollars_mean() {
        let both = |text: &str| {
            [Dialect::Export, Dialect::Plain].map(|d| import(text, d).ok().map(|v| encode(&v)))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(both("3"), [some(r#"{"$integer":"AwAAAAAAAAA="}"#), some("3")]);
        assert_eq!(both("3.0"), [some("3"), some("3")]);
        assert_eq!(both("9223372036854775808")[0], some("9.223372036854776e18"));
        let bytes = r#"{"$bytes":"AQ=="}"#;
        assert_eq!(both(bytes), [some(bytes), some(bytes)]);
        assert_eq!(both(r#"{"$float":"AAAAAAAA+H8="}"#)[1], some(r#"{"$float":"AAAAAAAA+H8="}"#));
        for no_value in [r#"{"$commitTs":null}"#, r#"{"$undefined":null}"#, r#"{"$a":1}"#] {
            assert_eq!(both(no_value), [None, None]);
        }
        assert_eq!(both("03"), [None, None]);
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
    fn hostile_nesting_ends_in_an_error() {
        let max = usize::try_from(limits::VALUE_DEPTH).unwrap();
        // A special is a scalar, though its JSON is an object.
        for leaf in ["1", r#"{"$integer":"AQAAAAAAAAA="}"#, r#"{"$commitTs":null}"#] {
            let text = format!("{}{leaf}{}", "[".repeat(max), "]".repeat(max));
            let value = decode(&text).unwrap();
            assert_eq!(value.depth(), max, "{leaf}");
            assert!(value.check_limits().is_ok());
        }
        for level in ["[", r#"{"a":"#, r#"{"$integer":"#, r#"[{"a":["#] {
            let message = error(&level.repeat(100_000));
            assert!(message.starts_with("Value is too nested"), "{message}");
        }
        let patch = decode_patch(&r#"{"a":"#.repeat(100_000)).unwrap_err();
        assert!(patch.message.starts_with("Value is too nested"), "{}", patch.message);
    }

    #[test]
    fn a_special_stands_alone_and_holds_what_it_says() {
        for (text, why) in [
            (r#"{"$integer":"AQAAAAAAAAA=","a":1}"#, "which is reserved"),
            (r#"{"a":1,"$integer":"AQAAAAAAAAA="}"#, "which is reserved"),
            (r#"{"$integer":"AQ=="}"#, "`$integer` must hold 8 bytes, not 1"),
            (r#"{"$integer":1}"#, "`$integer` must hold a base64 string"),
            (r#"{"$integer":{"$undefined":null}}"#, "`$integer` must hold a base64 string"),
            (r#"{"$bytes":"A"}"#, "`$bytes` holds malformed base64"),
            (r#"{"$bytes":"AQ"}"#, "`$bytes` holds malformed base64"),
            (r#"{"$float":"AAAAAAAA8D8="}"#, "Float 1 should be encoded as a number"),
            (r#"{"$float":"AAAAAAAAAAA="}"#, "Float 0 should be encoded as a number"),
            (r#"{"$set":[1]}"#, "\"$set\" is not one of $integer, $float, $bytes"),
            (r#"{"$undefined":null}"#, "`undefined` is not a value here"),
        ] {
            let message = error(text);
            assert!(message.starts_with(why) || message.contains(why), "{text}: {message}");
        }
        assert_eq!(decode_optional(r#" {"$undefined": null} "#), Ok(None));
        assert_eq!(decode_optional("null"), Ok(Some(Value::Null)));
        assert_eq!(decode(r#"{"$commitTs":null}"#), Ok(Value::CommitTs));
    }

    #[test]
    fn errors_count_lines_and_characters_not_bytes() {
        assert_eq!(error("{\"é\":1 2}"), "expected `,` or `}` at line 1 column 8");
        assert_eq!(error("[\n\n  x]"), "expected a JSON value at line 3 column 3");
        assert_eq!(error("{\"a\" 1}"), "expected `:` at line 1 column 6");
        assert_eq!(error("{a:1}"), "expected a field name in double quotes at line 1 column 2");
        assert_eq!(error("[1,]"), "expected a JSON value at line 1 column 4");
        assert_eq!(error("\"abc"), "the string does not end at line 1 column 5");
        assert_eq!(error("[1] 2"), "expected the end of the JSON at line 1 column 5");
        assert_eq!(error("1e400"), "the number is too large for a float64 at line 1 column 1");
    }

    #[test]
    fn strings_are_unicode_and_nothing_else() {
        let text = |text: &str| decode(text).map_err(|e| e.message);
        let string = |text: &str| Ok(Value::String(text.into()));
        assert_eq!(text(r#""\u0041\ud83d\ude00\b\f\/""#), string("A\u{1f600}\u{8}\u{c}/"));
        for lone in
            [r#""\ud800""#, r#""\ud800x""#, r#""\ud800\u0041""#, r#""\udc00""#, r#""\ud800\ud800""#]
        {
            assert!(text(lone).unwrap_err().starts_with("a lone surrogate"), "{lone}");
        }
        assert!(text(r#""\u+041""#).unwrap_err().starts_with("expected four hex digits"));
        assert!(text(r#""\u00é""#).unwrap_err().starts_with("expected four hex digits"));
        assert!(text(r#""\x""#).unwrap_err().starts_with("no such escape"));
        let controls: String = (0..0x20_u8).map(char::from).collect();
        let value = Value::String(controls + "\"\\\u{7f}\u{2028}é");
        assert_eq!(decode(&encode(&value)), Ok(value));
    }

    #[test]
    fn text_is_canonical() {
        let text = r#" { "b" : 1.0 , "a" : [ 1e2, -0, 9007199254740991, 9007199254740992 ],
            "b": 2, "": 5e-324, "c": {} } "#;
        let canonical = concat!(
            r#"{"":5e-324,"a":[100,{"$float":"AAAAAAAAAIA="},9007199254740991,"#,
            r#"9007199254740992.0],"b":2,"c":{}}"#
        );
        let value = decode(text).unwrap();
        assert_eq!(encode(&value), canonical);
        assert_eq!(decode(canonical), Ok(value));
    }

    #[test]
    fn formats_of_the_public_api() {
        let nan = Value::Float64(f64::NAN);
        let minus = Value::Float64(f64::NEG_INFINITY);
        let value = Value::Array(vec![nan, minus, Value::Int64(i64::MIN), Value::Float64(-1.0)]);
        let texts = [
            ("json", r#"["NaN","-Infinity","-9223372036854775808",-1]"#),
            (
                "export_json",
                concat!(
                    r#"[{"$float":"AAAAAAAA+H8="},{"$float":"AAAAAAAA8P8="},"#,
                    r#"-9223372036854775808,-1.0]"#
                ),
            ),
        ];
        for (format, text) in texts {
            assert_eq!(export(&value, Format::parse(format).unwrap()), text);
        }
        assert_eq!(Format::parse("convex_json"), Ok(Format::Encoded));
        assert_eq!(Format::parse("convex_encoded_json"), Ok(Format::Encoded));
        assert_eq!(Format::parse("convex_clean_json"), Ok(Format::Clean));
        assert_eq!(export(&value, Format::Encoded), encode(&value));
        let error = Format::parse("xml").unwrap_err();
        assert_eq!(error.code, "BadFormat");
        assert_eq!(error.message, "format param must be one of [`json`]. Got xml");
    }
}
