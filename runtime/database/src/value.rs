//! The kinds of value, their order and their size.
//!
//! In: decoded JSON. Out: [`Value`]. Invariant: [`Ord`] is Convex's total order
//! (`convex-compat.md` section 2.4) and equals the order of `key::encode_value`'s bytes. One
//! corner: the commit's timestamp is above the largest int64, so that a write of it over that
//! number is seen as a change, while their keys are the same.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::error::UserError;
use crate::limits;
use crate::record::{FunctionPath, Timestamp};

/// A Convex value. `undefined` is not one: where it can occur, code says `Option<Value>`.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`
    Null,
    /// `bigint`, 64 bits
    Int64(i64),
    /// `number`
    Float64(f64),
    /// `boolean`
    Boolean(bool),
    /// `string`
    String(String),
    /// `ArrayBuffer`
    Bytes(Vec<u8>),
    /// Array
    Array(Vec<Self>),
    /// Plain object
    Object(BTreeMap<String, Self>),
    /// `{"$commitTs": null}`: the commit's timestamp, known only once the mutation commits.
    CommitTs,
}

impl Value {
    /// Puts a commit's timestamp where it has `db.vars.commitTs`.
    pub fn fill_placeholders(&mut self, ts: Timestamp) {
        match self {
            Self::CommitTs => {
                let ts = i64::try_from(ts.0).expect("nanoseconds fit until the year 2262");
                *self = Self::Int64(ts);
            }
            Self::Array(items) => items.iter_mut().for_each(|item| item.fill_placeholders(ts)),
            Self::Object(fields) => {
                fields.values_mut().for_each(|item| item.fill_placeholders(ts));
            }
            _ => {}
        }
    }

    /// Size in bytes by Convex's rule (`convex-compat.md` section 2.3).
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) => 1,
            Self::Int64(_) | Self::Float64(_) | Self::CommitTs => 9,
            Self::String(text) => 2 + text.len(),
            Self::Bytes(bytes) => 2 + bytes.len(),
            Self::Array(items) => 2 + items.iter().map(Self::size).sum::<usize>(),
            Self::Object(fields) => 2 + object_size(fields),
        }
    }

    /// Levels of arrays and objects: 0 for a scalar, 1 for an empty array.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(fields) => 1 + fields.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The kind as Convex's error texts name it.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Int64(_) | Self::CommitTs => "Int64",
            Self::Float64(_) => "Float64",
            Self::Boolean(_) => "Boolean",
            Self::String(_) => "String",
            Self::Bytes(_) => "Bytes",
            Self::Array(_) => "Array",
            Self::Object(_) => "Object",
        }
    }

    /// The value at a dotted path; `None` is undefined.
    pub fn field(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, name| match value {
            Self::Object(fields) => fields.get(name),
            _ => None,
        })
    }

    /// Checks that it is not too large to be the argument of a function.
    ///
    /// # Errors
    /// Its size, and the limit.
    pub fn check_argument_size(&self, path: &FunctionPath) -> Result<(), UserError> {
        let (size, most) = (self.size() as u64, limits::ARGUMENT_BYTES);
        if size <= most {
            return Ok(());
        }
        let message = format!(
            "Arguments for {path} are too large (actual: {size} bytes, limit: {most} bytes)"
        );
        Err(UserError::new("ArgumentsTooLarge", message))
    }

    /// Checks size, nesting and lengths (`convex-compat.md` section 2.3).
    ///
    /// # Errors
    /// Which limit, with the actual figure.
    pub fn check_limits(&self) -> Result<(), UserError> {
        let invalid = |message: String| Err(UserError::new("InvalidValue", message));
        let (size, depth) = (self.size() as u64, self.depth() as u64);
        if size > limits::VALUE_BYTES {
            let max = limits::VALUE_BYTES;
            return invalid(format!("Value is too large ({size} > maximum size {max})"));
        }
        if depth > limits::VALUE_DEPTH {
            let max = limits::VALUE_DEPTH;
            return invalid(format!(
                "Value is too nested (nested {depth} levels deep > maximum nesting {max})"
            ));
        }
        self.check_lengths()
    }

    fn check_lengths(&self) -> Result<(), UserError> {
        let invalid = |message: String| Err(UserError::new("InvalidValue", message));
        match self {
            Self::Array(items) => {
                let (length, max) = (items.len() as u64, limits::ARRAY_LENGTH);
                if length > max {
                    return invalid(format!(
                        "Array length is too long ({length} > maximum length {max})"
                    ));
                }
                items.iter().try_for_each(Self::check_lengths)
            }
            Self::Object(fields) => {
                let (count, max) = (fields.len() as u64, limits::OBJECT_FIELDS);
                if count > max {
                    return invalid(format!(
                        "Object has too many fields ({count} > maximum number {max})"
                    ));
                }
                for (name, value) in fields {
                    check_field_name(name)?;
                    value.check_lengths()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Place of the kind in the order; undefined would be before all.
    fn band(&self) -> u8 {
        match self {
            Self::Null => 1,
            Self::Int64(_) | Self::CommitTs => 2,
            Self::Float64(_) => 3,
            Self::Boolean(_) => 4,
            Self::String(_) => 5,
            Self::Bytes(_) => 6,
            Self::Array(_) => 7,
            Self::Object(_) => 8,
        }
    }

    /// Place among the integers: the commit's timestamp is after every number.
    fn integer(&self) -> (bool, i64) {
        match self {
            Self::Int64(number) => (false, *number),
            _ => (true, 0),
        }
    }
}

/// Size of an object's fields without the object's own two bytes.
pub fn object_size(fields: &BTreeMap<String, Value>) -> usize {
    fields.iter().map(|(name, value)| name.len() + 1 + value.size()).sum()
}

/// Field names are at most 1024 bytes of printable ASCII and do not start with `$`.
fn check_field_name(name: &str) -> Result<(), UserError> {
    let why = if name.len() as u64 > limits::FIELD_NAME_BYTES {
        "is too long: at most 1024 bytes"
    } else if name.starts_with('$') {
        "starts with a '$', which is reserved"
    } else if !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        "has characters that are not printable ASCII: use a field's value, or a record's entry \
         list, for such text"
    } else {
        return Ok(());
    };
    let message = format!("Field name {:?} {why}.", name.chars().take(80).collect::<String>());
    Err(UserError::new("InvalidFieldName", message))
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Float64(a), Self::Float64(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => a.cmp(b),
            (Self::Object(a), Self::Object(b)) => a.iter().cmp(b.iter()),
            _ if self.band() == 2 && other.band() == 2 => self.integer().cmp(&other.integer()),
            _ => self.band().cmp(&other.band()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn value(text: &str) -> Value {
        json::decode(text).unwrap()
    }

    #[test]
    fn sizes_are_those_convex_bills() {
        for (text, size) in [
            ("null", 1),
            ("true", 1),
            ("1", 9),
            (r#"{"$integer":"AQAAAAAAAAA="}"#, 9),
            (r#"{"$commitTs":null}"#, 9),
            ("\"\"", 2),
            ("\"é\"", 4),
            (r#"{"$bytes":"AQID"}"#, 5),
            ("[]", 2),
            ("[1,null]", 12),
            ("{}", 2),
            (r#"{"ab":1,"c":[true]}"#, 2 + (2 + 1 + 9) + (1 + 1 + 3)),
        ] {
            assert_eq!(value(text).size(), size, "{text}");
        }
    }

    #[test]
    fn depth_counts_lists_and_objects() {
        for (text, depth) in
            [("1", 0), ("[]", 1), ("{}", 1), (r#"{"a":1,"b":[{}]}"#, 3), ("[[],[[]]]", 3)]
        {
            assert_eq!(value(text).depth(), depth, "{text}");
        }
    }

    #[test]
    fn a_path_goes_through_objects_only() {
        let document = value(r#"{"a":{"b":{"":1}},"l":[1],"n":null}"#);
        assert_eq!(document.field("a.b."), Some(&Value::Float64(1.0)));
        assert_eq!(document.field("n"), Some(&Value::Null));
        for missing in ["", "a.c", "b", "l.0", "n.x", "a.b.c"] {
            assert_eq!(document.field(missing), None, "{missing}");
        }
    }

    #[test]
    fn the_order_goes_by_kind_then_by_value() {
        let nan = |sign: f64| Value::Float64(f64::NAN.copysign(sign));
        let text = |text: &str| Value::String(text.into());
        let ascending = [
            Value::Null,
            Value::Int64(i64::MIN),
            Value::Int64(-1),
            Value::Int64(1),
            Value::Int64(i64::MAX),
            Value::CommitTs,
            nan(-1.0),
            Value::Float64(f64::NEG_INFINITY),
            Value::Float64(-1.0),
            Value::Float64(-0.0),
            Value::Float64(0.0),
            Value::Float64(f64::INFINITY),
            nan(1.0),
            Value::Boolean(false),
            Value::Boolean(true),
            text(""),
            text("\0"),
            text("a"),
            text("a\0"),
            text("ab"),
            text("é"),
            Value::Bytes(vec![]),
            Value::Bytes(vec![255]),
            value("[]"),
            value("[null]"),
            value("[null,null]"),
            value("[1]"),
            value("{}"),
            value(r#"{"":1}"#),
            value(r#"{"a":1}"#),
            value(r#"{"a":1,"b":0}"#),
            value(r#"{"a":2}"#),
            value(r#"{"aa":0}"#),
            value(r#"{"b":0}"#),
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), at.cmp(&other), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn names_of_fields_are_limited() {
        let check = |name: &str| {
            let field = BTreeMap::from([(name.to_owned(), Value::Null)]);
            let nested = Value::Array(vec![Value::Object(field)]);
            nested.check_limits().map_err(|e| (e.code, e.message))
        };
        let longest = usize::try_from(limits::FIELD_NAME_BYTES).unwrap();
        for good in ["", "a b", "a.b", "~", &"x".repeat(longest)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("$a", "starts with a '$'"),
            ("é", "not printable ASCII"),
            ("a\n", "not printable ASCII"),
            (&"x".repeat(longest + 1), "at most 1024 bytes"),
        ] {
            let (code, message) = check(bad).unwrap_err();
            assert_eq!(code, "InvalidFieldName");
            assert!(message.contains(why) && message.len() < 300, "{message}");
        }
    }
}
