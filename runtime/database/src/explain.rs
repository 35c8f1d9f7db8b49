//! Index keys and ranges in an author's words: the bytes of a conflict become `[id=5]`.
//!
//! In: an index, and a key or a range of its keys. Out: text that names fields and values.
//! Invariant: the text is for people; nothing decides by it. A range that cannot be said exactly is
//! said wider, never narrower.

use std::sync::Arc;

use crate::catalog::{Catalog, Index, IndexKind};
use crate::commit::{HISTORY, OPERATOR, PUSH};
use crate::document::Document;
use crate::id::DocumentId;
use crate::json;
use crate::key::{Interval, decode_key, encode_value, successor};
use crate::log::Overlap;
use crate::read_set::ReadSet;
use crate::snapshot::{CATALOG, IndexId};
use crate::value::Value;

/// An index, a range of it and a key, said in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `items.by_name`, or `catalog`.
    pub index: String,
    /// The index's table; empty for the catalog.
    pub table: Arc<str>,
    /// The range that was read: `[name="x"]`.
    pub range: String,
    /// The key in it that was written.
    pub key: String,
    /// What the writer did, as the end of a sentence: `wrote items[name="x"] inside the range it
    /// read`.
    pub did: String,
}

/// Says which key of which range was written.
pub(crate) fn explain(catalog: &Catalog, overlap: &Overlap) -> Explanation {
    let Overlap { index, range, key, document } = overlap;
    if *index == CATALOG {
        return Explanation {
            index: "catalog".into(),
            table: "".into(),
            range: catalog_text(&range.start),
            key: catalog_text(key),
            did: catalog_deed(key),
        };
    }
    match catalog.index(*index) {
        Some(found) => Explanation {
            index: found.label(),
            table: Arc::clone(&found.table),
            range: range_text(found, range),
            key: key_text(found, key),
            did: format!(
                "wrote {}{} inside the range it read",
                found.table,
                written_text(found, key, document.as_deref())
            ),
        },
        None => Explanation {
            index: format!("dropped index {}", index.0),
            table: "".into(),
            range: "[all]".into(),
            key: "[all]".into(),
            did: "wrote into an index that is gone".into(),
        },
    }
}

/// Every range of a read set, in words and in the order of the indexes: `items.by_name[name="x"]`.
pub(crate) fn ranges(catalog: &Catalog, reads: &ReadSet) -> Vec<String> {
    let say = |(index, range): (IndexId, &Interval)| match catalog.index(index) {
        _ if index == CATALOG => catalog_text(&range.start),
        Some(found) => format!("{}{}", found.label(), range_text(found, range)),
        None => format!("dropped index {}", index.0),
    };
    reads.iter().map(say).collect()
}

/// Why `reader` ran again, in one sentence. Names are short where that leaves no doubt.
pub(crate) fn sentence(reader: &str, writer: &str, did: &str) -> String {
    let writer_text = match writer {
        PUSH => "a push".into(),
        OPERATOR => "the operator".into(),
        HISTORY => "the history".into(),
        same if same == reader => format!("another {}", export(same)),
        other if is_told_apart(reader, other) => export(other).into(),
        other => other.into(),
    };
    let doubt = !reader.eq(writer) && writer.contains(':') && !is_told_apart(reader, writer);
    let reader = if doubt { reader } else { export(reader) };
    format!("{reader} re-ran: {writer_text} {did}")
}

/// Whether the exports' names alone tell two functions apart.
fn is_told_apart(one: &str, other: &str) -> bool {
    export(one) != export(other)
}

/// `fn` of `dir/mod:fn`; a default export keeps its module's name.
fn export(function: &str) -> &str {
    function.rsplit_once(':').map_or(function, |(_, export)| export)
}

/// What was written, by the fields that the index sorts by: `[remaining=10]`.
fn written_text(index: &Index, key: &[u8], document: Option<&Document>) -> String {
    match (index.kind, document) {
        (IndexKind::Declared, _) => key_fields(index, key, index.declared_fields().len()),
        // A time of creation tells nobody which document it was.
        (_, Some(document)) => format!("[_id=\"{}\"]", document.id.encode()),
        (_, None) => key_text(index, key),
    }
}

/// What the writer of a catalog key did.
fn catalog_deed(key: &[u8]) -> String {
    let parts = decode_key(key);
    let text = |at: usize| parts.get(at).and_then(Option::as_ref).map(json::encode);
    match (text(0).as_deref(), text(2)) {
        (Some("\"environment\""), _) => {
            let name = text(1).unwrap_or_default();
            format!("changed the environment variable {name}, which it had read")
        }
        (Some("\"tables\""), Some(name)) => {
            format!("created the table {name}, which it had looked for")
        }
        (Some("\"numbers\""), _) => "created a table while it looked which ones exist".into(),
        _ => "replaced the code or the schema it ran with".into(),
    }
}

/// `[deployment]`, `[table "a"]`, `[table numbers]`.
fn catalog_text(key: &[u8]) -> String {
    let parts = decode_key(key);
    let text = |at: usize| parts.get(at).and_then(Option::as_ref).map(json::encode);
    match (text(0).as_deref(), text(2)) {
        (Some("\"environment\""), _) => match text(1) {
            Some(name) => format!("[environment variable {name}]"),
            None => "[environment variables]".into(),
        },
        (Some("\"tables\""), Some(name)) => format!("[table {name}]"),
        (Some("\"numbers\""), Some(_)) => "[table number]".into(),
        (Some("\"numbers\""), None) => "[table numbers]".into(),
        _ => "[deployment]".into(),
    }
}

/// One key: `[name="x", _creationTime=17]`.
pub(crate) fn key_text(index: &Index, key: &[u8]) -> String {
    if index.kind == IndexKind::ById {
        return format!("[_id={}]", id_text(index, key));
    }
    key_fields(index, key, index.fields.len())
}

/// The first `count` fields of a key.
fn key_fields(index: &Index, key: &[u8], count: usize) -> String {
    let values = leading_values(index, key);
    let parts = values.iter().zip(&index.fields).take(count);
    let parts: Vec<_> = parts.map(|((v, _), field)| format!("{field}={}", text(v))).collect();
    format!("[{}]", parts.join(", "))
}

/// One range: `[account=5, _creationTime>17]`, or `[all]`.
pub(crate) fn range_text(index: &Index, interval: &Interval) -> String {
    if index.kind == IndexKind::ById {
        let point = Interval::point(&interval.start) == *interval;
        return match point {
            true => key_text(index, &interval.start),
            false if *interval == Interval::all() => "[all]".into(),
            false => format!("[_id>={}, …]", id_text(index, &interval.start)),
        };
    }
    let values = leading_values(index, &interval.start);
    let shared = values.iter().take_while(|(_, end)| is_within(interval, *end)).count();
    let prefix = shared.checked_sub(1).map_or(0, |last| values[last].1);
    let mut parts: Vec<String> = values[..shared]
        .iter()
        .zip(&index.fields)
        .map(|((value, _), field)| format!("{field}={}", text(value)))
        .collect();
    if let Some(field) = index.fields.get(shared) {
        let lower = &interval.start[prefix..];
        parts.extend(bound(lower, [">=", ">", ">="]).map(|bound| format!("{field}{bound}")));
        let within = |end: &&[u8]| end.starts_with(&interval.start[..prefix]);
        let upper = interval.end.as_deref().filter(within).map(|end| &end[prefix..]);
        let upper = upper.and_then(|upper| bound(upper, ["<", "<=", "<="]));
        parts.extend(upper.map(|bound| format!("{field}{bound}")));
    }
    if parts.is_empty() { "[all]".into() } else { format!("[{}]", parts.join(", ")) }
}

/// Whether every key of the range starts with the first `length` bytes of its start.
fn is_within(interval: &Interval, length: usize) -> bool {
    match (&interval.end, successor(&interval.start[..length])) {
        (Some(end), Some(limit)) => **end <= *limit,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// Operator and value of a bound: `operators` for a bound that is exactly a value, just behind a
/// value's keys, or in the midst of them.
fn bound(bytes: &[u8], operators: [&str; 3]) -> Option<String> {
    let exact = first_value(bytes);
    let (last, front) = bytes.split_last()?;
    // Behind a string stands 0xff; behind anything else its last byte is one more.
    let before = match last {
        0x00 => Vec::new(),
        0xff => front.to_vec(),
        more => [front, &[more - 1]].concat(),
    };
    let behind = first_value(&before).filter(|(_, length)| *length == before.len());
    let say = |operator: &str, value: &Option<Value>| format!("{operator}{}", text(value));
    match (exact, behind) {
        // Both readings are right where a value has a next one; the shorter is what was written.
        (Some((value, length)), Some((last, _))) if length == bytes.len() => {
            let readings = [say(operators[0], &value), say(operators[1], &last)];
            readings.into_iter().min_by_key(String::len)
        }
        (Some((value, length)), _) if length == bytes.len() => Some(say(operators[0], &value)),
        (_, Some((last, _))) => Some(say(operators[1], &last)),
        (Some((value, _)), None) => Some(say(operators[2], &value)),
        (None, None) => None,
    }
}

fn first_value(bytes: &[u8]) -> Option<(Option<Value>, usize)> {
    values_with_ends(bytes, 1).pop()
}

fn leading_values(index: &Index, key: &[u8]) -> Vec<(Option<Value>, usize)> {
    values_with_ends(key, index.fields.len())
}

/// The values at the front of a key, each with the offset where its bytes end.
fn values_with_ends(key: &[u8], limit: usize) -> Vec<(Option<Value>, usize)> {
    let mut encoded = Vec::new();
    let mut values = Vec::new();
    for value in decode_key(key).into_iter().take(limit) {
        encode_value(value.as_ref(), &mut encoded);
        // Behind the fields stand the raw bytes of an id, which can look like a value.
        if !key.starts_with(&encoded) {
            break;
        }
        values.push((value, encoded.len()));
    }
    values
}

fn id_text(index: &Index, key: &[u8]) -> String {
    match key.get(..16).and_then(|bytes| bytes.try_into().ok()) {
        Some(internal) => format!("\"{}\"", DocumentId { table: index.number, internal }.encode()),
        None => "…".into(),
    }
}

fn text(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "undefined".into(), json::encode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn index(catalog: &mut Catalog) -> Arc<Index> {
        let table = catalog.create_table("", "items");
        catalog.declare_index(&table, &"by_ab".into(), &["a".into(), "b".into()], false)
    }

    fn bytes(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        values.iter().for_each(|value| encode_value(Some(value), &mut out));
        out
    }

    fn number(value: f64) -> Value {
        Value::Float64(value)
    }

    #[test]
    fn ranges_are_said_with_fields_and_values() {
        let index = index(&mut Catalog::new());
        let say = |start: Vec<u8>, end: Option<Vec<u8>>| {
            range_text(&index, &Interval { start: start.into(), end: end.map(Key::from) })
        };
        assert_eq!(range_text(&index, &Interval::all()), "[all]");
        let five = bytes(&[number(5.0)]);
        assert_eq!(say(five.clone(), successor(&five)), "[a=5]");
        let prefix = bytes(&[Value::String("x".into())]);
        let low = bytes(&[Value::String("x".into()), number(1.0)]);
        let high = bytes(&[Value::String("x".into()), number(9.0)]);
        let above = successor(&low).unwrap();
        assert_eq!(say(above, successor(&prefix)), "[a=\"x\", b>1]");
        assert_eq!(say(low, Some(high)), "[a=\"x\", b>=1, b<9]");
        assert_eq!(say(five, None), "[a>=5]");
        let mut key = bytes(&[number(5.0), Value::Null, number(17.0)]);
        key.extend_from_slice(&[0x0e; 16]);
        assert_eq!(key_text(&index, &key), "[a=5, b=null, _creationTime=17]");
    }
}
