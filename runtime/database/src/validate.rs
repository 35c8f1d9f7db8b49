//! Validators: what a value must look like, and errors that point at the path
//! (`convex-compat.md` sections 3.1 and 3.3).
//!
//! In: the JSON that `exportArgs()` and `defineSchema().export()` give. Out: a check. Invariant: a
//! validator prints as the TypeScript that made it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::error::UserError;
use crate::id::{DocumentId, TableNumber};
use crate::json;
use crate::value::Value;

/// Finds a table's name by the number in its ids.
pub type Tables<'a> = dyn Fn(TableNumber) -> Option<Arc<str>> + 'a;

/// A validator.
#[derive(Clone, Debug, PartialEq)]
pub enum Validator {
    /// `v.any()`
    Any,
    /// `v.null()`
    Null,
    /// `v.number()`
    Float64,
    /// `v.int64()`
    Int64,
    /// `v.boolean()`
    Boolean,
    /// `v.string()`
    String,
    /// `v.bytes()`
    Bytes,
    /// `v.commitTs()`
    CommitTs,
    /// `v.literal(x)`
    Literal(Value),
    /// `v.id("table")`
    Id(Arc<str>),
    /// `v.array(x)`
    Array(Box<Self>),
    /// `v.object({…})`
    Object(BTreeMap<String, Field>),
    /// `v.record(k, x)`
    Record(Box<Self>, Box<Self>),
    /// `v.union(a, b)`
    Union(Vec<Self>),
}

/// A field of an object validator.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// What its value must be.
    pub validator: Validator,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Why a value does not match, and where; displays as Convex's text.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationError {
    problem: Problem,
    path: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Problem {
    Missing { field: String, object: Value, validator: Validator },
    Extra { field: String, object: Value, validator: Validator },
    Mismatch { value: Value, validator: Validator },
    Literal { value: Value, validator: Validator },
    OtherTable { id: String, table: Arc<str>, validator: Validator },
    SystemTable { id: String, table: Arc<str>, validator: Validator },
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
    Keys,
    Values,
}

impl Validator {
    /// Parses a validator's JSON text.
    ///
    /// # Errors
    /// What is no validator, and why.
    pub fn from_json(text: &str) -> Result<Self, UserError> {
        let parsed: Json = serde_json::from_str(text).map_err(|e| invalid(&e.to_string()))?;
        Self::from_value(&parsed)
    }

    /// Parses a validator's JSON.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_value(json: &Json) -> Result<Self, UserError> {
        let kind = json.get("type").and_then(Json::as_str);
        let value = json.get("value");
        Ok(match kind.ok_or_else(|| invalid("a validator has a `type`"))? {
            "any" => Self::Any,
            "null" => Self::Null,
            "number" => Self::Float64,
            "bigint" => Self::Int64,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "commitTs" => Self::CommitTs,
            "literal" => {
                let value = value.ok_or_else(|| invalid("a literal has a `value`"))?;
                Self::Literal(json::decode(&value.to_string())?)
            }
            "id" => {
                let table = json.get("tableName").and_then(Json::as_str);
                Self::Id(table.ok_or_else(|| invalid("an id has a `tableName`"))?.into())
            }
            "array" => {
                let element = value.ok_or_else(|| invalid("an array has a `value`"))?;
                Self::Array(Box::new(Self::from_value(element)?))
            }
            "object" => Self::Object(fields(value)?),
            "record" => record(json)?,
            "union" => {
                let members = value.and_then(Json::as_array);
                let members = members.ok_or_else(|| invalid("a union has a list as `value`"))?;
                Self::Union(members.iter().map(Self::from_value).collect::<Result<_, _>>()?)
            }
            other => return Err(invalid(&format!("{other:?} is no type of validator"))),
        })
    }

    /// The validator's JSON text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    fn to_value(&self) -> Json {
        let plain = |name: &str| serde_json::json!({ "type": name });
        match self {
            Self::Any => plain("any"),
            Self::Null => plain("null"),
            Self::Float64 => plain("number"),
            Self::Int64 => plain("bigint"),
            Self::Boolean => plain("boolean"),
            Self::String => plain("string"),
            Self::Bytes => plain("bytes"),
            Self::CommitTs => plain("commitTs"),
            Self::Literal(value) => {
                let value: Json = serde_json::from_str(&json::encode(value)).unwrap_or(Json::Null);
                serde_json::json!({ "type": "literal", "value": value })
            }
            Self::Id(table) => serde_json::json!({ "type": "id", "tableName": &**table }),
            Self::Array(element) => {
                serde_json::json!({ "type": "array", "value": element.to_value() })
            }
            Self::Object(fields) => {
                let field = |field: &Field| {
                    let kind = field.validator.to_value();
                    serde_json::json!({ "fieldType": kind, "optional": field.optional })
                };
                let fields: serde_json::Map<String, Json> =
                    fields.iter().map(|(name, value)| (name.clone(), field(value))).collect();
                serde_json::json!({ "type": "object", "value": fields })
            }
            Self::Record(keys, values) => serde_json::json!({
                "type": "record",
                "keys": keys.to_value(),
                "values": { "fieldType": values.to_value(), "optional": false },
            }),
            Self::Union(members) => {
                let members: Vec<Json> = members.iter().map(Self::to_value).collect();
                serde_json::json!({ "type": "union", "value": members })
            }
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first mismatch and its path.
    pub fn check(&self, value: &Value, tables: &Tables<'_>) -> Result<(), ValidationError> {
        let matches = match (self, value) {
            (Self::Any, _)
            | (Self::Null, Value::Null)
            | (Self::Float64, Value::Float64(_))
            | (Self::Int64, Value::Int64(_) | Value::CommitTs)
            | (Self::CommitTs, Value::Int64(_) | Value::CommitTs)
            | (Self::Boolean, Value::Boolean(_))
            | (Self::String, Value::String(_))
            | (Self::Bytes, Value::Bytes(_)) => true,
            (Self::Literal(expected), value) => {
                if expected == value {
                    return Ok(());
                }
                let (value, validator) = (value.clone(), self.clone());
                return Err(Problem::Literal { value, validator }.here());
            }
            (Self::Id(table), Value::String(text)) => return self.check_id(table, text, tables),
            (Self::Array(element), Value::Array(items)) => {
                return items.iter().enumerate().try_for_each(|(at, item)| {
                    element.check(item, tables).map_err(|e| e.inside(Step::Index(at)))
                });
            }
            (Self::Object(fields), Value::Object(object)) => {
                return self.check_object(fields, object, tables);
            }
            (Self::Record(keys, values), Value::Object(object)) => {
                return object.iter().try_for_each(|(key, value)| {
                    let key = Value::String(key.clone());
                    keys.check(&key, tables).map_err(|e| e.inside(Step::Keys))?;
                    values.check(value, tables).map_err(|e| e.inside(Step::Values))
                });
            }
            (Self::Union(members), value) => return self.check_union(members, value, tables),
            _ => false,
        };
        if matches { Ok(()) } else { Err(self.mismatch(value)) }
    }

    fn mismatch(&self, value: &Value) -> ValidationError {
        Problem::Mismatch { value: value.clone(), validator: self.clone() }.here()
    }

    fn check_id(
        &self,
        table: &Arc<str>,
        text: &str,
        tables: &Tables<'_>,
    ) -> Result<(), ValidationError> {
        let found = DocumentId::decode(text).and_then(|id| tables(id.table));
        let (id, validator) = (text.to_owned(), self.clone());
        match found {
            None => Err(self.mismatch(&Value::String(id))),
            Some(found) if found == *table => Ok(()),
            Some(found) if found.starts_with('_') => {
                Err(Problem::SystemTable { id, table: found, validator }.here())
            }
            Some(found) => Err(Problem::OtherTable { id, table: found, validator }.here()),
        }
    }

    fn check_object(
        &self,
        fields: &BTreeMap<String, Field>,
        object: &BTreeMap<String, Value>,
        tables: &Tables<'_>,
    ) -> Result<(), ValidationError> {
        let whole = || (Value::Object(object.clone()), self.clone());
        for (name, field) in fields {
            match object.get(name) {
                Some(value) => {
                    let checked = field.validator.check(value, tables);
                    checked.map_err(|e| e.inside(Step::Field(name.clone())))?;
                }
                None if field.optional => {}
                None => {
                    let ((object, validator), field) = (whole(), name.clone());
                    return Err(Problem::Missing { field, object, validator }.here());
                }
            }
        }
        match object.keys().find(|name| !fields.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let ((object, validator), field) = (whole(), name.clone());
                Err(Problem::Extra { field, object, validator }.here())
            }
        }
    }

    /// The first member that matches wins. Where exactly one member has the value's literal tags,
    /// its error is the useful one.
    fn check_union(
        &self,
        members: &[Self],
        value: &Value,
        tables: &Tables<'_>,
    ) -> Result<(), ValidationError> {
        if members.iter().any(|member| member.check(value, tables).is_ok()) {
            return Ok(());
        }
        if let Value::Object(object) = value {
            let tagged: Vec<&Self> =
                members.iter().filter(|member| member.has_tags_of(object)).collect();
            if let [member] = tagged[..] {
                return member.check(value, tables);
            }
        }
        Err(self.mismatch(value))
    }

    /// Whether this is an object whose literal fields (at least one) all equal the value's.
    fn has_tags_of(&self, object: &BTreeMap<String, Value>) -> bool {
        let Self::Object(fields) = self else { return false };
        let mut tags = fields.iter().filter_map(|(name, field)| match &field.validator {
            Self::Literal(expected) => Some(object.get(name) == Some(expected)),
            _ => None,
        });
        tags.next() == Some(true) && tags.all(|equal| equal)
    }

    /// Whether a document may have this field, wherever it is declared (dotted path).
    pub fn has_field(&self, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        match self {
            Self::Any => true,
            Self::Object(fields) => fields.get(first).is_some_and(|field| match rest {
                None => true,
                Some(rest) => field.validator.has_field(rest),
            }),
            Self::Record(_, values) => rest.is_none_or(|rest| values.has_field(rest)),
            Self::Union(members) => members.iter().any(|member| member.has_field(path)),
            _ => false,
        }
    }
}

fn invalid(why: &str) -> UserError {
    UserError::new("InvalidValidator", format!("Invalid validator: {why}"))
}

fn fields(value: Option<&Json>) -> Result<BTreeMap<String, Field>, UserError> {
    let object = value.and_then(Json::as_object);
    let object = object.ok_or_else(|| invalid("an object has fields as `value`"))?;
    object.iter().map(|(name, json)| Ok((name.clone(), field(json)?))).collect()
}

fn field(json: &Json) -> Result<Field, UserError> {
    let kind = json.get("fieldType").ok_or_else(|| invalid("a field has a `fieldType`"))?;
    let optional = json.get("optional").and_then(Json::as_bool).unwrap_or(false);
    Ok(Field { validator: Validator::from_value(kind)?, optional })
}

fn record(json: &Json) -> Result<Validator, UserError> {
    let part = |name| json.get(name).ok_or_else(|| invalid("a record has `keys` and `values`"));
    let keys = Validator::from_value(part("keys")?)?;
    let values = field(part("values")?)?;
    check_record_keys(&keys)?;
    if values.optional {
        return Err(invalid("Records cannot have optional values"));
    }
    Ok(Validator::Record(Box::new(keys), Box::new(values.validator)))
}

fn check_record_keys(keys: &Validator) -> Result<(), UserError> {
    match keys {
        Validator::String | Validator::Id(_) => Ok(()),
        Validator::Union(members) => members.iter().try_for_each(check_record_keys),
        Validator::Literal(_) => Err(invalid("Records cannot have string literal keys")),
        _ => Err(invalid("Records can only have string keys: use v.string() or v.id(…)")),
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("v.any()"),
            Self::Null => f.write_str("v.null()"),
            Self::Float64 => f.write_str("v.float64()"),
            Self::Int64 => f.write_str("v.int64()"),
            Self::Boolean => f.write_str("v.boolean()"),
            Self::String => f.write_str("v.string()"),
            Self::Bytes => f.write_str("v.bytes()"),
            Self::CommitTs => f.write_str("v.commitTs()"),
            Self::Literal(value) => write!(f, "v.literal({})", Shown(value)),
            Self::Id(table) => write!(f, "v.id(\"{table}\")"),
            Self::Array(element) => write!(f, "v.array({element})"),
            Self::Object(fields) => {
                f.write_str("v.object({")?;
                for (at, (name, field)) in fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    match field.optional {
                        true => write!(f, "{comma}{name}: v.optional({})", field.validator)?,
                        false => write!(f, "{comma}{name}: {}", field.validator)?,
                    }
                }
                f.write_str("})")
            }
            Self::Record(keys, values) => write!(f, "v.record({keys}, {values})"),
            Self::Union(members) => {
                f.write_str("v.union(")?;
                for (at, member) in members.iter().enumerate() {
                    write!(f, "{}{member}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// A value as Convex's messages print it: `{a: 1.0, b: "x"}`.
pub struct Shown<'a>(pub &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Int64(number) => write!(f, "{number}n"),
            Value::Float64(number) => write!(f, "{number:?}"),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::String(text) => {
                let mut quoted = String::new();
                json::write_string(text, &mut quoted);
                f.write_str(&quoted)
            }
            Value::Bytes(bytes) => write!(f, "<{} bytes>", bytes.len()),
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
                    write!(f, "{}{name}: {}", if at > 0 { ", " } else { "" }, Shown(value))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Problem {
    fn here(self) -> ValidationError {
        ValidationError { problem: self, path: Vec::new() }
    }
}

impl ValidationError {
    fn inside(mut self, step: Step) -> Self {
        self.path.insert(0, step);
        self
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |f: &mut fmt::Formatter<'_>| {
            if self.path.is_empty() {
                return Ok(());
            }
            f.write_str("\nPath: ")?;
            self.path.iter().try_for_each(|step| match step {
                Step::Field(name) => write!(f, ".{name}"),
                Step::Index(at) => write!(f, "[{at}]"),
                Step::Keys => f.write_str(".keys()"),
                Step::Values => f.write_str(".values()"),
            })
        };
        match &self.problem {
            Problem::Missing { field, object, validator } => {
                write!(
                    f,
                    "Object is missing the required field `{field}`. Consider wrapping the field \
                     validator in `v.optional(...)` if this is expected."
                )?;
                path(f)?;
                write!(f, "\nObject: {}\nValidator: {validator}", Shown(object))
            }
            Problem::Extra { field, object, validator } => {
                write!(f, "Object contains extra field `{field}` that is not in the validator.")?;
                path(f)?;
                write!(f, "\nObject: {}\nValidator: {validator}", Shown(object))
            }
            Problem::Mismatch { value, validator } => {
                f.write_str("Value does not match validator.")?;
                path(f)?;
                write!(f, "\nValue: {}\nValidator: {validator}", Shown(value))
            }
            Problem::Literal { value, validator } => {
                write!(f, "`{}` does not match literal validator `{validator}`.", Shown(value))?;
                path(f)
            }
            Problem::OtherTable { id, table, validator } => {
                write!(
                    f,
                    "Found ID \"{id}\" from table `{table}`, which does not match the table name \
                     in validator `{validator}`."
                )?;
                path(f)
            }
            Problem::SystemTable { id, table, validator } => {
                write!(
                    f,
                    "Found ID \"{id}\" from system table `{table}`, which does not match the table \
                     name in validator `{validator}`."
                )?;
                path(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validator: &str, value: &str) -> Result<(), String> {
        let validator = Validator::from_json(validator).unwrap();
        assert_eq!(Validator::from_json(&validator.to_json()).unwrap(), validator);
        let tables = |number: TableNumber| match number.0 {
            10001 => Some(Arc::from("users")),
            540 => Some(Arc::from("_storage")),
            _ => None,
        };
        validator.check(&json::decode(value).unwrap(), &tables).map_err(|e| e.to_string())
    }

    const USER: &str = r#"{"type":"object","value":{"name":{"fieldType":{"type":"string"},
        "optional":false},"tags":{"fieldType":{"type":"array","value":{"type":"number"}},
        "optional":true}}}"#;

    #[test]
    fn texts_of_objects() {
        assert_eq!(check(USER, r#"{"name":"x"}"#), Ok(()));
        assert_eq!(
            check(USER, "{}").unwrap_err(),
            "Object is missing the required field `name`. Consider wrapping the field validator \
             in `v.optional(...)` if this is expected.\nObject: {}\nValidator: v.object({name: \
             v.string(), tags: v.optional(v.array(v.float64()))})"
        );
        assert_eq!(
            check(USER, r#"{"name":"x","z":1}"#).unwrap_err(),
            "Object contains extra field `z` that is not in the validator.\nObject: {name: \"x\", \
             z: 1.0}\nValidator: v.object({name: v.string(), tags: \
             v.optional(v.array(v.float64()))})"
        );
        assert_eq!(
            check(USER, r#"{"name":"x","tags":[1,"a"]}"#).unwrap_err(),
            "Value does not match validator.\nPath: .tags[1]\nValue: \"a\"\nValidator: v.float64()"
        );
    }

    #[test]
    fn texts_of_ids_and_literals() {
        let id = r#"{"type":"id","tableName":"users"}"#;
        assert_eq!(check(id, "\"j57000820c20a1g7104gm2rc1m70ynr8\""), Ok(()));
        let error =
            check(r#"{"type":"id","tableName":"posts"}"#, "\"j57000820c20a1g7104gm2rc1m70ynr8\"");
        assert_eq!(
            error.unwrap_err(),
            "Found ID \"j57000820c20a1g7104gm2rc1m70ynr8\" from table `users`, which does not \
             match the table name in validator `v.id(\"posts\")`."
        );
        let error = check(id, "\"kg2000820c20a1g7104gm2rc1m70y674\"").unwrap_err();
        assert!(error.contains("from system table `_storage`"), "{error}");
        assert!(check(id, "\"nonsense\"").is_err());
        let literal = r#"{"type":"literal","value":"on"}"#;
        assert_eq!(
            check(literal, "\"off\"").unwrap_err(),
            "`\"off\"` does not match literal validator `v.literal(\"on\")`."
        );
    }

    #[test]
    fn unions_match_any_member_and_explain_the_tagged_one() {
        let union = r#"{"type":"union","value":[{"type":"null"},{"type":"number"}]}"#;
        assert_eq!(check(union, "null"), Ok(()));
        assert_eq!(check(union, "1"), Ok(()));
        let error = check(union, "\"x\"").unwrap_err();
        assert!(error.ends_with("Validator: v.union(v.null(), v.float64())"), "{error}");
        let member = |kind: &str, field: &str| {
            format!(
                r#"{{"type":"object","value":{{
                "kind":{{"fieldType":{{"type":"literal","value":"{kind}"}},"optional":false}},
                "{field}":{{"fieldType":{{"type":"string"}},"optional":false}}}}}}"#
            )
        };
        let tagged =
            format!(r#"{{"type":"union","value":[{},{}]}}"#, member("a", "x"), member("b", "y"));
        let error = check(&tagged, r#"{"kind":"b","y":1}"#).unwrap_err();
        assert!(error.contains("Path: .y"), "{error}");
    }

    #[test]
    fn records() {
        let record = r#"{"type":"record","keys":{"type":"string"},
            "values":{"fieldType":{"type":"number"},"optional":false}}"#;
        assert_eq!(check(record, r#"{"a":1}"#), Ok(()));
        let error = check(record, r#"{"a":"b"}"#).unwrap_err();
        assert!(error.contains("Path: .values()"), "{error}");
        let bad = record.replace(r#"{"type":"string"}"#, r#"{"type":"number"}"#);
        assert!(Validator::from_json(&bad).unwrap_err().message.contains("string keys"));
    }
}
