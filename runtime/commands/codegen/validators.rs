//! TypeScript types: what a validator means, and how it is written.
//!
//! In: validators as JSON (`convex-compat.md` section 3.1). Out: a [`Type`], and its [`Doc`].
//! Invariant: a type is written as Prettier would write it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::layout::{Doc, concat, group, if_broken, indent, join, text};

/// A TypeScript type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Written as it is: a keyword, a literal, an imported type.
    Word(String),
    /// `Name<…>`.
    Generic(&'static str, Vec<Self>),
    Object(Object),
    Union(Vec<Self>),
    /// `["a", "b"]`.
    Tuple(Vec<Self>),
}

/// `{ a: string; b?: number }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) members: Vec<Member>,
    /// One member a line, however short they are.
    pub(super) tall: bool,
}

/// A property of an object type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) optional: bool,
    pub(super) is: Type,
}

impl Member {
    pub(super) fn new(name: impl Into<String>, is: Type) -> Self {
        Self { name: name.into(), optional: false, is }
    }
}

impl Type {
    pub(super) fn word(word: impl Into<String>) -> Self {
        Self::Word(word.into())
    }

    /// A string literal type.
    pub(super) fn string(value: &str) -> Self {
        Self::Word(Value::from(value).to_string())
    }

    /// An object with one member a line.
    pub(super) fn tall(members: Vec<Member>) -> Self {
        Self::Object(Object { members, tall: true })
    }

    /// Any of these types: unions in it become part of it, as they do in the text.
    pub(super) fn union(members: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = vec![];
        for member in members {
            match member {
                Self::Union(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::word("never"),
            1 => flat.remove(0),
            _ => Self::Union(flat),
        }
    }

    /// The type of the values that a validator lets pass. Ids are typed by their table only where
    /// the reader has the tables: `with_ids`.
    pub(super) fn of(validator: &Value, with_ids: bool) -> Self {
        let of = |validator: &Value| Self::of(validator, with_ids);
        match validator["type"].as_str().unwrap_or_default() {
            "null" => Self::word("null"),
            "number" => Self::word("number"),
            "bigint" => Self::word("bigint"),
            "boolean" => Self::word("boolean"),
            "string" => Self::word("string"),
            "bytes" => Self::word("ArrayBuffer"),
            // Committed, it is a number; the mutation that writes it reads a placeholder back.
            "commitTs" => Self::union([
                Self::word("bigint"),
                Self::word("import(\"convex/values\").CommitTsPlaceholder"),
            ]),
            "literal" => literal(&validator["value"]),
            "id" if with_ids => {
                let table = validator["tableName"].as_str().unwrap_or_default();
                Self::Generic("Id", vec![Self::string(table)])
            }
            "id" => Self::word("string"),
            "array" => Self::Generic("Array", vec![of(&validator["value"])]),
            "record" => {
                let values = of(&validator["values"]["fieldType"]);
                Self::Generic("Record", vec![of(&validator["keys"]), values])
            }
            "union" => Self::union(validator["value"].as_array().into_iter().flatten().map(of)),
            "object" => {
                let fields = validator["value"].as_object().into_iter().flatten();
                let member = |(name, field): (&String, &Value)| Member {
                    name: name.clone(),
                    optional: field["optional"] == Value::Bool(true),
                    is: of(&field["fieldType"]),
                };
                Self::Object(Object { members: fields.map(member).collect(), tall: false })
            }
            _ => Self::word("any"),
        }
    }

    /// How it is written.
    pub(super) fn doc(&self) -> Doc {
        match self {
            Self::Word(word) => text(word),
            Self::Generic(name, arguments) => arguments_doc(name, arguments),
            Self::Object(object) => object.doc(),
            Self::Union(members) if is_hugged(members) => {
                join(&text(" | "), members.iter().map(Self::doc))
            }
            // On the next line if that is enough, else one alternative a line.
            Self::Union(members) => group(indent(concat([Doc::Softline, alternatives(members)]))),
            Self::Tuple(members) => group(concat([
                text("["),
                indent(concat([
                    Doc::Softline,
                    join(&concat([text(","), Doc::Line]), members.iter().map(Self::doc)),
                ])),
                if_broken(text(",")),
                Doc::Softline,
                text("]"),
            ])),
        }
    }

    fn argument_doc(&self) -> Doc {
        match self {
            Self::Union(members) if !is_hugged(members) => alternatives(members),
            other => other.doc(),
        }
    }

    /// Whether it stands between `<` and `>` without line breaks around it.
    fn is_hugged(&self) -> bool {
        match self {
            Self::Word(_) | Self::Object(_) => true,
            Self::Union(members) => is_hugged(members),
            Self::Generic(..) | Self::Tuple(_) => false,
        }
    }
}

impl Object {
    fn doc(&self) -> Doc {
        if self.members.is_empty() {
            return text("{}");
        }
        let member = |member: &Member| {
            let mark = if member.optional { "?: " } else { ": " };
            concat([text(format!("{}{mark}", property(&member.name))), member.is.doc()])
        };
        let first = if self.tall { Doc::Hardline } else { Doc::Line };
        let members = join(&concat([text(";"), Doc::Line]), self.members.iter().map(member));
        let last = if_broken(text(";"));
        group(concat([text("{"), indent(concat([first, members])), last, Doc::Line, text("}")]))
    }
}

fn arguments_doc(name: &str, arguments: &[Type]) -> Doc {
    if let [only] = arguments
        && only.is_hugged()
    {
        return concat([text(format!("{name}<")), only.argument_doc(), text(">")]);
    }
    let arguments = arguments.iter().map(Type::argument_doc);
    let list = join(&concat([text(","), Doc::Line]), arguments);
    group(concat([
        text(format!("{name}<")),
        indent(concat([Doc::Softline, list])),
        Doc::Softline,
        text(">"),
    ]))
}

fn alternatives(members: &[Type]) -> Doc {
    let each = members.iter().map(|member| indent(member.doc()));
    group(concat([if_broken(text("| ")), join(&concat([Doc::Line, text("| ")]), each)]))
}

/// `{ … } | null`: the braces are break enough.
fn is_hugged(members: &[Type]) -> bool {
    let nulls = members.iter().filter(|member| **member == Type::word("null")).count();
    let has_object = members.iter().any(|m| matches!(m, Type::Object(_) | Type::Generic(..)));
    has_object && nulls + 1 == members.len()
}

/// A name as it stands before a colon.
fn property(name: &str) -> String {
    if is_identifier(name) || name.starts_with("readonly ") {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// The type of one value, which is in the encoding of section 2.1.
fn literal(value: &Value) -> Type {
    let bytes = |text: &str| <[u8; 8]>::try_from(STANDARD.decode(text).ok()?).ok();
    if let Some(bytes) = value["$integer"].as_str().and_then(bytes) {
        return Type::Word(format!("{}n", i64::from_le_bytes(bytes)));
    }
    if let Some(bytes) = value["$float"].as_str().and_then(bytes) {
        return Type::Word(number(f64::from_le_bytes(bytes)));
    }
    match value.as_f64() {
        Some(value) => Type::Word(number(value)),
        None => Type::Word(value.to_string()),
    }
}

/// A number as JavaScript writes it, but for the plus before an exponent.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    if (-6..21).contains(&exponent) { format!("{value}") } else { format!("{digits}e{exponent}") }
}

#[cfg(test)]
mod tests {
    use super::super::layout::print;
    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (value, expected) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (1.5e-7, "1.5e-7"),
            (0.000_001, "0.000001"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    /// Written by Prettier from the validators beside them: see tests/codegen/validators.mjs.
    #[test]
    fn types_are_written_as_prettier_does() {
        let golden = include_str!("../../../tests/codegen/validators.jsonl");
        for line in golden.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let is = Type::of(&case["validator"], true);
            let member = Member::new("field", is.clone());
            let argument = Type::Generic("Argument", vec![Type::word("any"), is]);
            let members = vec![member, Member::new("argument", argument)];
            let doc = concat([text("type T = "), Type::tall(members).doc(), text(";\n")]);
            assert_eq!(print(&doc), case["written"].as_str().unwrap(), "{line}");
        }
    }
}
