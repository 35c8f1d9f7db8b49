//! Index range expressions: `q.eq("a", 1).gt("b", 2)` becomes one interval of keys.
//!
//! In: an index and the comparisons a function made. Out: the interval that holds exactly the
//! documents for which all of them are true.
//! Invariant: equalities on a prefix of the fields, then at most one lower and one upper bound on
//! the next field; anything else is an error in Convex's words (`convex-compat.md` section 1.11).

use std::sync::Arc;

use serde::Deserialize;

use crate::catalog::{Index, IndexKind};
use crate::error::UserError;
use crate::id::DocumentId;
use crate::json;
use crate::key::{Interval, Key, encode_value, successor};
use crate::query::next_key;
use crate::value::Value;

/// How a field is compared.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// One comparison of a field with a value; `None` is undefined.
#[derive(Clone, Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) field: &'a str,
    pub(crate) comparison: Comparison,
    pub(crate) value: Option<Value>,
}

/// The comparisons, sorted by what they do.
#[derive(Default)]
struct Bounds<'a> {
    equal: Vec<&'a Bound<'a>>,
    lower: Option<&'a Bound<'a>>,
    upper: Option<&'a Bound<'a>>,
}

/// What every key in the interval begins with.
#[derive(Default)]
struct Prefix {
    bytes: Vec<u8>,
    /// The first bytes behind all those keys.
    end: Option<Vec<u8>>,
}

/// The interval of an index that the comparisons describe.
///
/// # Errors
/// A field that is not in the index, fields out of order, a bound given twice.
pub(crate) fn index_interval(index: &Index, bounds: &[Bound<'_>]) -> Result<Interval, UserError> {
    let mut sorted = Bounds::default();
    for bound in bounds {
        check_field(index, bound)?;
        sorted.add(bound)?;
    }
    let prefix = sorted.prefix(index, bounds)?;
    match bounds.iter().any(|bound| bound.field == ID) {
        true => Ok(id_interval(index, &prefix, &sorted)),
        false => Ok(encoded_interval(&prefix, &sorted)),
    }
}

/// What every key ends with, as the bytes of the id.
const ID: &str = "_id";

/// The fields before the id.
fn encoded_fields(index: &Index) -> &[Arc<str>] {
    match index.kind {
        IndexKind::ById => &[],
        IndexKind::ByCreationTime | IndexKind::Declared => &index.fields,
    }
}

impl<'a> Bounds<'a> {
    fn add(&mut self, bound: &'a Bound<'a>) -> Result<(), UserError> {
        use Comparison::{Eq, Gt, Gte, Lt, Lte};
        let on_field = |other: &&Bound<'_>| other.field == bound.field;
        let has_equal = self.equal.iter().any(on_field);
        let ranged = self.lower.iter().chain(&self.upper).any(on_field);
        let clash = match bound.comparison {
            _ if has_equal => Some("equality"),
            Eq if ranged => Some("inequality"),
            Gt | Gte if self.lower.is_some_and(|lower| on_field(&lower)) => Some("lower"),
            Lt | Lte if self.upper.is_some_and(|upper| on_field(&upper)) => Some("upper"),
            _ => None,
        };
        if let Some(kind) = clash {
            let operator = match bound.comparison {
                Eq => "==",
                Gt => ">",
                Gte => ">=",
                Lt => "<",
                Lte => "<=",
            };
            return Err(invalid(format!(
                "Already defined {kind} bound in index range. Can't add {} {operator} {}.",
                bound.field,
                text(bound.value.as_ref()),
            )));
        }
        let ranged_before = self.lower.or(self.upper);
        match bound.comparison {
            Eq => self.equal.push(bound),
            _ if ranged_before.is_some_and(|other| other.field != bound.field) => {
                let first = ranged_before.map_or("", |other| other.field);
                return Err(invalid(format!(
                    "Upper and lower bounds in `range` can only be applied to a single index \
                     field. This query attempted to set a range bound on both {first:?} and {:?}. \
                     Consider using `filter` instead. {READ_MORE}",
                    bound.field
                )));
            }
            Gt | Gte => self.lower = Some(bound),
            Lt | Lte => self.upper = Some(bound),
        }
        Ok(())
    }

    /// The encoded values of the equalities, in the order of the index.
    fn prefix(&self, index: &Index, bounds: &[Bound<'_>]) -> Result<Prefix, UserError> {
        let mut prefix = Prefix::default();
        let mut fixed = 0;
        let fields = encoded_fields(index);
        for field in fields {
            let Some(equal) = self.equal.iter().find(|bound| bound.field == &**field) else {
                break;
            };
            encode_bound(equal.value.as_ref(), &mut prefix.bytes);
            prefix.end = behind(prefix.bytes.clone(), equal.value.as_ref());
            fixed += 1;
        }
        let next = fields.get(fixed).map_or(ID, |field| &**field);
        let in_prefix = |field: &str| {
            fields[..fixed].iter().any(|own| &**own == field) || (field == ID && next == ID)
        };
        let ranged = self.lower.or(self.upper).map(|bound| bound.field);
        let skipped = self.equal.iter().map(|bound| bound.field).find(|field| !in_prefix(field));
        match skipped.or(ranged.filter(|field| *field != next)) {
            Some(field) => Err(out_of_order(index, bounds, field)),
            None => Ok(prefix),
        }
    }
}

const READ_MORE: &str = "For more information see https://docs.convex.dev/using/indexes.";

fn invalid(text: String) -> UserError {
    UserError::new("InvalidIndexRange", text)
}

fn check_field(index: &Index, bound: &Bound<'_>) -> Result<(), UserError> {
    if bound.field == ID || index.fields.iter().any(|field| &**field == bound.field) {
        return Ok(());
    }
    Err(invalid(format!(
        "The index range included a comparison with {:?}, but {} with fields {} doesn't index that \
         field. {READ_MORE}",
        bound.field,
        index.label(),
        list(index.fields.iter().map(|field| &**field)),
    )))
}

fn out_of_order(index: &Index, bounds: &[Bound<'_>], first: &str) -> UserError {
    let mut fields: Vec<&str> = Vec::new();
    for bound in bounds {
        if !fields.contains(&bound.field) {
            fields.push(bound.field);
        }
    }
    invalid(format!(
        "Tried to query index {} but the query didn't use the index fields in order.\nIndex \
         fields: {}\nQuery fields: {}\nFirst incorrect field: {first:?}\n{READ_MORE}",
        index.label(),
        list(index.fields.iter().map(|field| &**field)),
        list(fields.into_iter()),
    ))
}

fn list<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = fields.map(|field| format!("{field:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "undefined".into(), json::encode)
}

/// A commit's timestamp is not known yet: it is greater than every one before it.
fn encode_bound(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        Some(Value::CommitTs) => encode_value(Some(&Value::Int64(i64::MAX)), out),
        value => encode_value(value, out),
    }
}

/// Keys that begin with `prefix`, and whose next value lies between the bounds.
fn encoded_interval(prefix: &Prefix, bounds: &Bounds<'_>) -> Interval {
    let at = |bound: &Bound<'_>| {
        let mut key = prefix.bytes.clone();
        encode_bound(bound.value.as_ref(), &mut key);
        key
    };
    let behind = |bound: &Bound<'_>| {
        behind(at(bound), bound.value.as_ref()).expect("a type's tag is never 0xff")
    };
    let start = match bounds.lower {
        Some(bound) if bound.comparison == Comparison::Gt => behind(bound),
        Some(bound) => at(bound),
        None => prefix.bytes.clone(),
    };
    let end = match bounds.upper {
        Some(bound) if bound.comparison == Comparison::Lte => Some(behind(bound)),
        Some(bound) => Some(at(bound)),
        None => prefix.end.clone(),
    };
    Interval { start: start.into(), end: end.map(Key::from) }
}

/// The first bytes behind every key that holds `value` where `key` ends with it.
///
/// Strings and bytes end with 0x00 and escape their own zeros as 0x00 0xff, so the encoding of "a"
/// begins that of "a\0". What follows a whole one is the tag of the next field, never 0xff.
fn behind(mut key: Vec<u8>, value: Option<&Value>) -> Option<Vec<u8>> {
    match value {
        Some(Value::String(_) | Value::Bytes(_)) => {
            key.push(0xff);
            Some(key)
        }
        _ => successor(&key),
    }
}

/// Keys end with the ids' own bytes, which sort as the ids' texts do.
fn id_interval(index: &Index, prefix: &Prefix, bounds: &Bounds<'_>) -> Interval {
    let key = |internal: &[u8; 16]| [&prefix.bytes[..], internal].concat();
    if let Some(equal) = bounds.equal.iter().find(|bound| bound.field == ID) {
        let nothing = Interval { start: [][..].into(), end: Some([][..].into()) };
        return own_id(index, equal).map_or(nothing, |id| Interval::point(&key(&id)));
    }
    // Where ids begin that are greater than the bound's value, or not less.
    let begin = |bound: &Bound<'_>, strict: bool| match (own_id(index, bound), strict) {
        (Some(id), true) => next_key(&key(&id)),
        (Some(id), false) => key(&id).into(),
        (None, _) => match first_id_behind(index, bound) {
            Some(id) => key(&id).into(),
            None => next_key(&key(&[0xff; 16])),
        },
    };
    let start = bounds.lower.map(|bound| begin(bound, bound.comparison == Comparison::Gt));
    let end = bounds.upper.map(|bound| begin(bound, bound.comparison == Comparison::Lte));
    Interval {
        start: start.unwrap_or_else(|| prefix.bytes[..].into()),
        end: end.or_else(|| prefix.end.clone().map(Key::from)),
    }
}

/// The id that a bound compares with, if it is one of the index's table.
fn own_id(index: &Index, bound: &Bound<'_>) -> Option<[u8; 16]> {
    let Some(Value::String(id)) = &bound.value else { return None };
    Some(DocumentId::decode(id).filter(|id| id.table == index.number)?.internal)
}

/// The first id whose text is greater than a value that is no id of the table; `None`: all are
/// less.
fn first_id_behind(index: &Index, bound: &Bound<'_>) -> Option<[u8; 16]> {
    let encoded = |value: Option<&Value>| {
        let mut bytes = Vec::new();
        encode_bound(value, &mut bytes);
        bytes
    };
    let value = encoded(bound.value.as_ref());
    let is_behind = |internal: u128| {
        let id = DocumentId { table: index.number, internal: internal.to_be_bytes() };
        encoded(Some(&Value::String(id.encode()))) > value
    };
    // The texts sort as the numbers do: bisect.
    let (mut low, mut high) = (0, u128::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_behind(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    is_behind(low).then(|| low.to_be_bytes())
}
