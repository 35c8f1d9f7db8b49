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
use crate::schema::{IDENTIFIER_RULE, is_identifier};
use crate::shown::{Name, Shown};
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

/// Why a value does not match, and where; displays as Convex's text. Before what follows on lines
/// of its own the path has a line, an empty one at the root; a text of one line ends with it.
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
    SystemTable { id: String, validator: Validator },
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
    Keys,
    Values,
}

impl serde::Serialize for Validator {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Validator {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_value(&json).map_err(|error| serde::de::Error::custom(error.message))
    }
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
        // Nearly every value matches: only a mismatch pays for the copies that its text shows.
        if self.matches(value, tables) {
            return Ok(());
        }
        // An explanation that found nothing wrong must not let the value in.
        self.explain(value, tables).and_then(|()| Err(self.mismatch(value)))
    }

    /// Whether a value matches; copies nothing.
    fn matches(&self, value: &Value, tables: &Tables<'_>) -> bool {
        match (self, value) {
            (Self::Any, _)
            | (Self::Null, Value::Null)
            | (Self::Float64, Value::Float64(_))
            | (Self::Int64 | Self::CommitTs, Value::Int64(_) | Value::CommitTs)
            | (Self::Boolean, Value::Boolean(_))
            | (Self::Bytes, Value::Bytes(_)) => true,
            (Self::Union(members), value) => members.iter().any(|m| m.matches(value, tables)),
            (Self::Literal(expected), value) => expected == value,
            (_, Value::String(text)) => self.matches_text(text, tables),
            (Self::Array(element), Value::Array(items)) => {
                items.iter().all(|item| element.matches(item, tables))
            }
            (Self::Object(fields), Value::Object(object)) => {
                fields.iter().all(|(name, field)| match object.get(name) {
                    Some(value) => field.validator.matches(value, tables),
                    None => field.optional,
                }) && object.keys().all(|name| fields.contains_key(name))
            }
            (Self::Record(keys, values), Value::Object(object)) => object
                .iter()
                .all(|(key, v)| keys.matches_text(key, tables) && values.matches(v, tables)),
            _ => false,
        }
    }

    /// Whether a string, or the key of a record, matches.
    fn matches_text(&self, text: &str, tables: &Tables<'_>) -> bool {
        match self {
            Self::Any | Self::String => true,
            Self::Id(table) => table_of(text, tables).is_some_and(|found| found == *table),
            Self::Literal(Value::String(expected)) => expected == text,
            Self::Union(members) => members.iter().any(|m| m.matches_text(text, tables)),
            _ => false,
        }
    }

    /// The first mismatch of a value and its path.
    fn explain(&self, value: &Value, tables: &Tables<'_>) -> Result<(), ValidationError> {
        match (self, value) {
            (Self::Array(element), Value::Array(items)) => {
                items.iter().enumerate().try_for_each(|(at, item)| {
                    element.check(item, tables).map_err(|e| e.inside(Step::Index(at)))
                })
            }
            (Self::Object(fields), Value::Object(object)) => {
                self.check_object(fields, object, tables)
            }
            (Self::Record(keys, values), Value::Object(object)) => {
                object.iter().try_for_each(|(key, value)| {
                    let key = Value::String(key.clone());
                    keys.check(&key, tables).map_err(|e| e.inside(Step::Keys))?;
                    values.check(value, tables).map_err(|e| e.inside(Step::Values))
                })
            }
            (Self::Union(members), value) => self.check_union(members, value, tables),
            _ if self.matches(value, tables) => Ok(()),
            (Self::Id(_), Value::String(text)) => Err(self.wrong_id(text, tables)),
            (Self::Literal(_), value) => {
                let (value, validator) = (value.clone(), self.clone());
                Err(Problem::Literal { value, validator }.here())
            }
            _ => Err(self.mismatch(value)),
        }
    }

    fn mismatch(&self, value: &Value) -> ValidationError {
        Problem::Mismatch { value: value.clone(), validator: self.clone() }.here()
    }

    fn wrong_id(&self, text: &str, tables: &Tables<'_>) -> ValidationError {
        let (id, validator) = (text.to_owned(), self.clone());
        match table_of(text, tables) {
            None => self.mismatch(&Value::String(id)),
            Some(table) if table.starts_with('_') => Problem::SystemTable { id, validator }.here(),
            Some(table) => Problem::OtherTable { id, table, validator }.here(),
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
        if members.iter().any(|member| member.matches(value, tables)) {
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

    /// Whether the field at a dotted path may hold an array of floats.
    pub fn may_hold_vector(&self, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        match self {
            Self::Any => true,
            Self::Object(fields) => fields.get(first).is_some_and(|field| match rest {
                None => field.validator.takes_vectors(),
                Some(rest) => field.validator.may_hold_vector(rest),
            }),
            Self::Record(_, values) => match rest {
                None => values.takes_vectors(),
                Some(rest) => values.may_hold_vector(rest),
            },
            Self::Union(members) => members.iter().any(|member| member.may_hold_vector(path)),
            _ => false,
        }
    }

    fn takes_vectors(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Array(element) => matches!(**element, Self::Float64 | Self::Any),
            Self::Union(members) => members.iter().any(Self::takes_vectors),
            _ => false,
        }
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

/// The table that an id's text names.
fn table_of(text: &str, tables: &Tables<'_>) -> Option<Arc<str>> {
    DocumentId::decode(text).and_then(|id| tables(id.table))
}

fn invalid(why: &str) -> UserError {
    UserError::new("InvalidValidator", format!("Invalid validator: {why}"))
}

fn fields(value: Option<&Json>) -> Result<BTreeMap<String, Field>, UserError> {
    let object = value.and_then(Json::as_object);
    let object = object.ok_or_else(|| invalid("an object has fields as `value`"))?;
    let named = |(name, json): (&String, &Json)| {
        if !is_identifier(name) {
            return Err(invalid(&format!("the field name {name:?} {IDENTIFIER_RULE}")));
        }
        Ok((name.clone(), field(json)?))
    };
    object.iter().map(named).collect()
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
            // Convex's texts show what JSON can, of other numbers their type alone.
            Self::Literal(Value::Int64(_)) => f.write_str("v.literal(<bigint>)"),
            Self::Literal(Value::Float64(number)) if !number.is_finite() => {
                f.write_str("v.literal(<number>)")
            }
            Self::Literal(value) => write!(f, "v.literal({})", Shown(value)),
            Self::Id(table) => write!(f, "v.id(\"{table}\")"),
            Self::Array(element) => write!(f, "v.array({element})"),
            Self::Object(fields) => {
                f.write_str("v.object({")?;
                for (at, (name, field)) in fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: ", Name(name))?;
                    match field.optional {
                        true => write!(f, "v.optional({})", field.validator)?,
                        false => write!(f, "{}", field.validator)?,
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
            f.write_str("Path: ")?;
            self.path.iter().try_for_each(|step| match step {
                Step::Field(name) => write!(f, ".{name}"),
                Step::Index(at) => write!(f, "[{at}]"),
                Step::Keys => f.write_str(".keys()"),
                Step::Values => f.write_str(".values()"),
            })
        };
        match &self.problem {
            Problem::Missing { field, object, validator } => {
                writeln!(
                    f,
                    "Object is missing the required field `{field}`. Consider wrapping the field \
                     validator in `v.optional(...)` if this is expected."
                )?;
                path(f)?;
                write!(f, "\nObject: {}\nValidator: {validator}", Shown(object))
            }
            Problem::Extra { field, object, validator } => {
                writeln!(f, "Object contains extra field `{field}` that is not in the validator.")?;
                path(f)?;
                write!(f, "\nObject: {}\nValidator: {validator}", Shown(object))
            }
            Problem::Mismatch { value, validator } => {
                f.write_str("Value does not match validator.\n")?;
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
            Problem::SystemTable { id, validator } => {
                write!(
                    f,
                    "Found ID \"{id}\" from a system table, which does not match the table name \
                     in validator `{validator}`."
                )?;
                path(f)
            }
        }
    }
}

#[cfg(test)]
mod tests;
