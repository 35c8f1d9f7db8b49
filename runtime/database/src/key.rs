//! Index keys as order-preserving bytes; ranges over them (`convex-compat.md` section 2.4).
//!
//! In: values. Out: bytes whose order is the values' order, and [`Interval`]s of them.
//! Invariant: concatenated encodings order like tuples, as long as an encoding follows each string
//! and bytes value: no encoding starts with 0xff, so `"a"` followed by anything is below `"a\0"`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::value::Value;

/// An encoded index key.
pub type Key = Arc<[u8]>;

/// Appends the encoding of a value; `None` is undefined.
pub fn encode_value(value: Option<&Value>, out: &mut Vec<u8>) {
    let Some(value) = value else { return out.push(0x01) };
    match value {
        Value::Null => out.push(0x03),
        Value::Int64(number) => encode_integer(*number, out),
        Value::CommitTs => encode_integer(i64::MAX, out),
        Value::Float64(number) => {
            out.push(0x0d);
            let bits = number.to_bits();
            let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Value::Boolean(false) => out.push(0x0e),
        Value::Boolean(true) => out.push(0x0f),
        Value::String(text) => {
            out.push(0x10);
            encode_escaped(text.as_bytes(), out);
        }
        Value::Bytes(bytes) => {
            out.push(0x11);
            encode_escaped(bytes, out);
        }
        Value::Array(items) => {
            out.push(0x12);
            items.iter().for_each(|item| encode_value(Some(item), out));
            out.push(0x00);
        }
        Value::Object(fields) => {
            out.push(0x15);
            for (name, value) in fields {
                // A name starts after a tag, so that the empty name is not the terminator.
                out.push(0x10);
                encode_escaped(name.as_bytes(), out);
                encode_value(Some(value), out);
            }
            out.push(0x00);
        }
    }
}

/// Tags 4 to 7 are negative numbers of 8, 4, 2 and 1 bytes, 8 is zero, 9 to 12 positive ones.
fn encode_integer(number: i64, out: &mut Vec<u8>) {
    let magnitude = if number < 0 { !number } else { number };
    let bytes = number.to_be_bytes();
    let (step, width) = match magnitude {
        _ if number == 0 => return out.push(0x08),
        0..=0x7f => (1, 1),
        0x80..=0x7fff => (2, 2),
        0x8000..=0x7fff_ffff => (3, 4),
        _ => (4, 8),
    };
    out.push(if number < 0 { 0x08 - step } else { 0x08 + step });
    out.extend_from_slice(&bytes[8 - width..]);
}

fn encode_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.push(0x00);
}

/// Decodes the values of a key, for messages; stops at what is no encoding (the 16 id bytes).
pub fn decode_key(bytes: &[u8]) -> Vec<Option<Value>> {
    let mut rest = bytes;
    let mut values = Vec::new();
    while let Some(value) = decode_value(&mut rest) {
        values.push(value);
    }
    values
}

#[expect(clippy::option_option, reason = "the inner None is undefined, the outer one the end")]
fn decode_value(rest: &mut &[u8]) -> Option<Option<Value>> {
    let (tag, tail) = rest.split_first()?;
    let mut tail = tail;
    let value = match tag {
        0x01 => None,
        0x03 => Some(Value::Null),
        0x04..=0x0c => Some(Value::Int64(decode_integer(*tag, &mut tail)?)),
        0x0d => {
            let (bits, after) = tail.split_first_chunk::<8>()?;
            tail = after;
            let ordered = u64::from_be_bytes(*bits);
            let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
            Some(Value::Float64(f64::from_bits(bits)))
        }
        0x0e => Some(Value::Boolean(false)),
        0x0f => Some(Value::Boolean(true)),
        0x10 => Some(Value::String(String::from_utf8(decode_escaped(&mut tail)?).ok()?)),
        0x11 => Some(Value::Bytes(decode_escaped(&mut tail)?)),
        0x12 => {
            let mut items = Vec::new();
            while *tail.first()? != 0 {
                items.push(decode_value(&mut tail)??);
            }
            tail = &tail[1..];
            Some(Value::Array(items))
        }
        0x15 => {
            let mut fields = BTreeMap::new();
            while *tail.first()? != 0 {
                tail = &tail[1..];
                let name = String::from_utf8(decode_escaped(&mut tail)?).ok()?;
                fields.insert(name, decode_value(&mut tail)??);
            }
            tail = &tail[1..];
            Some(Value::Object(fields))
        }
        _ => return None,
    };
    *rest = tail;
    Some(value)
}

fn decode_integer(tag: u8, tail: &mut &[u8]) -> Option<i64> {
    let width = match tag.abs_diff(0x08) {
        0 => return Some(0),
        1 => 1,
        2 => 2,
        3 => 4,
        _ => 8,
    };
    let (payload, after) = tail.split_at_checked(width)?;
    *tail = after;
    let mut bytes = if tag < 0x08 { [0xff; 8] } else { [0; 8] };
    bytes[8 - width..].copy_from_slice(payload);
    Some(i64::from_be_bytes(bytes))
}

fn decode_escaped(tail: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let (byte, after) = tail.split_first()?;
        *tail = after;
        match (byte, tail.first()) {
            (0, Some(0xff)) => {
                bytes.push(0);
                *tail = &tail[1..];
            }
            (0, _) => return Some(bytes),
            _ => bytes.push(*byte),
        }
    }
}

/// The smallest bytes greater than every extension of `prefix`; `None` if there are none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// Keys from `start` (inclusive) to `end` (exclusive; `None` is unbounded).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// First key inside.
    pub start: Key,
    /// First key behind.
    pub end: Option<Key>,
}

impl Interval {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Arc::from([]), end: None }
    }

    /// One key.
    pub fn point(key: &[u8]) -> Self {
        let mut end = Vec::with_capacity(key.len() + 1);
        end.extend_from_slice(key);
        end.push(0);
        Self { start: key.into(), end: Some(end.into()) }
    }

    /// Every key that starts with `bytes`.
    pub fn prefix(bytes: &[u8]) -> Self {
        Self { start: bytes.into(), end: successor(bytes).map(Into::into) }
    }

    /// Whether `key` is inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether some key is inside both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |a: &Self, b: &Self| a.end.as_ref().is_none_or(|end| *b.start < **end);
        !self.is_empty() && !other.is_empty() && before(self, other) && before(other, self)
    }

    /// Whether no key is inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_value(Some(value), &mut bytes);
        bytes
    }

    #[test]
    fn bytes_of_the_reference() {
        let text = |text: &str| Value::String(text.into());
        let object = |name: &str| Value::Object(BTreeMap::from([(name.into(), Value::Null)]));
        let vectors: [(Value, &[u8]); 17] = [
            (Value::Null, &[0x03]),
            (Value::Int64(i64::MIN), &[0x04, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Int64(-32_769), &[0x05, 0xff, 0xff, 0x7f, 0xff]),
            (Value::Int64(-129), &[0x06, 0xff, 0x7f]),
            (Value::Int64(-1), &[0x07, 0xff]),
            (Value::Int64(0), &[0x08]),
            (Value::Int64(127), &[0x09, 0x7f]),
            (Value::Int64(128), &[0x0a, 0x00, 0x80]),
            (Value::Int64(32_768), &[0x0b, 0, 0, 0x80, 0]),
            (Value::Int64(1 << 31), &[0x0c, 0, 0, 0, 0, 0x80, 0, 0, 0]),
            (Value::Float64(-0.0), &[0x0d, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (Value::Float64(1.0), &[0x0d, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0]),
            (Value::Boolean(false), &[0x0e]),
            (text("a\0"), &[0x10, b'a', 0x00, 0xff, 0x00]),
            (Value::Bytes(vec![0, 0xff]), &[0x11, 0x00, 0xff, 0xff, 0x00]),
            (Value::Array(vec![text(""), Value::Null]), &[0x12, 0x10, 0x00, 0x03, 0x00]),
            (object("\0"), &[0x15, 0x10, 0x00, 0xff, 0x00, 0x03, 0x00]),
        ];
        for (value, bytes) in vectors {
            assert_eq!(encoded(&value), bytes, "{value:?}");
            assert_eq!(decode_key(bytes), vec![Some(value)]);
        }
        assert_eq!(encoded(&Value::CommitTs), encoded(&Value::Int64(i64::MAX)));
        assert_eq!(decode_key(&[0x01, 0x03]), vec![None, Some(Value::Null)]);
    }

    #[test]
    fn what_is_cut_off_does_not_decode() {
        let value = Value::Array(vec![Value::Int64(1 << 40), Value::String("a".into())]);
        let bytes = encoded(&value);
        for end in 0..bytes.len() {
            assert_eq!(decode_key(&bytes[..end]), [], "{end}");
        }
    }

    #[test]
    fn a_successor_is_behind_every_extension() {
        assert_eq!(successor(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(&[0xff, 0xff]), None);
        assert_eq!(successor(&[]), None);
        assert!(Interval::prefix(&[0xff]).contains(&[0xff, 0xff, 0xff]));
        assert_eq!(Interval::prefix(&[]), Interval::all());
    }

    #[test]
    fn intervals_that_touch_do_not_overlap() {
        let interval = |start: u8, end: u8| Interval {
            start: [start].as_slice().into(),
            end: Some([end].as_slice().into()),
        };
        assert!(!interval(1, 3).overlaps(&interval(3, 5)));
        assert!(interval(1, 4).overlaps(&interval(3, 5)));
        assert!(interval(1, 9).overlaps(&Interval::all()));
        assert!(!interval(4, 4).overlaps(&Interval::all()), "an empty interval overlaps nothing");
        assert!(!interval(5, 4).overlaps(&interval(1, 9)));
    }
}
