//! A deployment's schema: tables, fields, indexes (`convex-compat.md` section 3.2).
//!
//! In: the JSON text of `defineSchema(…).export()`. Out: a checked [`Schema`]. Invariant: a schema
//! that exists has legal names, and its indexes name fields that documents can have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::UserError;
use crate::id::TableNumber;
use crate::limits;
use crate::validate::{ValidationError, Validator};
use crate::value::Value;

/// A schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// By name.
    pub tables: BTreeMap<Arc<str>, TableSchema>,
    /// Whether documents are checked (`schemaValidation`).
    pub validation: bool,
    /// As exported.
    pub json: Arc<str>,
}

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    /// What its documents must look like, system fields aside.
    pub document: Validator,
    /// By name.
    pub indexes: BTreeMap<Arc<str>, IndexSchema>,
    /// By name.
    pub search_indexes: BTreeMap<Arc<str>, SearchIndexSchema>,
    /// By name.
    pub vector_indexes: BTreeMap<Arc<str>, VectorIndexSchema>,
}

/// An index over fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSchema {
    /// As declared; `_creationTime` and the id come after them.
    pub fields: Vec<Arc<str>>,
    /// Filled, but not to be queried yet.
    pub staged: bool,
}

/// A full-text index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchIndexSchema {
    /// Field whose text is searched.
    pub search_field: Arc<str>,
    /// Fields that `eq` may filter by.
    pub filter_fields: Vec<Arc<str>>,
    /// Not to be queried yet.
    pub staged: bool,
}

/// A vector index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorIndexSchema {
    /// Field that holds the vector.
    pub vector_field: Arc<str>,
    /// Its length.
    pub dimensions: u64,
    /// Fields that `eq` may filter by.
    pub filter_fields: Vec<Arc<str>>,
    /// Not to be queried yet.
    pub staged: bool,
}

/// In the form in which it was exported.
impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = String::deserialize(deserializer)?;
        Self::from_json(&json).map_err(|error| serde::de::Error::custom(error.message))
    }
}

impl Schema {
    /// Parses and checks an exported schema.
    ///
    /// # Errors
    /// The codes of section 3.2, with the table and index at fault.
    pub fn from_json(text: &str) -> Result<Self, UserError> {
        let wire: Wire<'_> = serde_json::from_str(text)
            .map_err(|e| problem("InvalidSchemaExport", format!("The schema is malformed: {e}")))?;
        if wire.tables.len() as u64 > limits::TABLES {
            let text = format!("Too many tables: at most {}.", limits::TABLES);
            return Err(problem("TooManyTables", text));
        }
        let mut tables = BTreeMap::new();
        for table in &wire.tables {
            let name = check_table_name(&table.table_name)?;
            let schema = table.check()?;
            if tables.insert(Arc::clone(&name), schema).is_some() {
                let text = format!("The table \"{name}\" is defined twice.");
                return Err(problem("TableNotUnique", text));
            }
        }
        Ok(Self { tables, validation: wire.schema_validation, json: text.into() })
    }

    /// Checks a document (without its system fields) of `table`.
    ///
    /// # Errors
    /// The first mismatch. A table that the schema does not name takes anything.
    pub fn check_document(
        &self,
        table: &str,
        document: &Value,
        tables: &dyn Fn(TableNumber) -> Option<Arc<str>>,
    ) -> Result<(), ValidationError> {
        match self.tables.get(table) {
            Some(schema) if self.validation => schema.document.check(document, tables),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    tables: Vec<WireTable<'a>>,
    #[serde(default = "yes")]
    schema_validation: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTable<'a> {
    table_name: String,
    #[serde(default)]
    indexes: Vec<WireIndex>,
    #[serde(default)]
    staged_db_indexes: Vec<WireIndex>,
    #[serde(default)]
    search_indexes: Vec<WireSearch>,
    #[serde(default)]
    staged_search_indexes: Vec<WireSearch>,
    #[serde(default)]
    vector_indexes: Vec<WireVector>,
    #[serde(default)]
    staged_vector_indexes: Vec<WireVector>,
    #[serde(borrow)]
    document_type: &'a RawValue,
    #[serde(borrow)]
    staged_document_type: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIndex {
    index_descriptor: String,
    fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSearch {
    index_descriptor: String,
    search_field: String,
    #[serde(default)]
    filter_fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVector {
    index_descriptor: String,
    vector_field: String,
    dimensions: f64,
    #[serde(default)]
    filter_fields: Vec<String>,
}

/// What the checks of one table's indexes share.
struct Checked<'a> {
    table: &'a str,
    document: &'a Validator,
    names: BTreeSet<String>,
}

impl WireTable<'_> {
    fn check(&self) -> Result<TableSchema, UserError> {
        let table = &self.table_name;
        let document = Validator::from_json(self.document_type.get())?;
        self.check_type("document type", &document)?;
        if let Some(staged) = self.staged_document_type {
            self.check_type("staged document type", &Validator::from_json(staged.get())?)?;
        }
        let mut checked = Checked { table, document: &document, names: BTreeSet::new() };
        let mut indexes = BTreeMap::new();
        for (list, staged) in [(&self.indexes, false), (&self.staged_db_indexes, true)] {
            for index in list {
                let (name, fields) = checked.index(index)?;
                indexes.insert(name, IndexSchema { fields, staged });
            }
        }
        let mut search_indexes = BTreeMap::new();
        for (list, staged) in [(&self.search_indexes, false), (&self.staged_search_indexes, true)] {
            for index in list {
                let name = checked.name(&index.index_descriptor)?;
                let search_field = checked.field(&name, &index.search_field)?;
                let not_unique = "SearchIndexFieldNotUnique";
                let filter_fields =
                    checked.filter_fields(&name, &index.filter_fields, not_unique)?;
                search_indexes
                    .insert(name, SearchIndexSchema { search_field, filter_fields, staged });
            }
        }
        let mut vector_indexes = BTreeMap::new();
        for (list, staged) in [(&self.vector_indexes, false), (&self.staged_vector_indexes, true)] {
            for index in list {
                let (name, mut schema) = checked.vector(index)?;
                schema.staged = staged;
                vector_indexes.insert(name, schema);
            }
        }
        if checked.names.len() as u64 > limits::INDEXES_PER_TABLE {
            let (count, max) = (checked.names.len(), limits::INDEXES_PER_TABLE);
            let text = format!("Table \"{table}\" has {count} indexes; at most {max} are allowed.");
            return Err(problem("TooManyIndexes", text));
        }
        Ok(TableSchema { document, indexes, search_indexes, vector_indexes })
    }

    fn check_type(&self, what: &str, document: &Validator) -> Result<(), UserError> {
        if is_document_type(document) {
            return Ok(());
        }
        let text = format!(
            "The {what} of table \"{}\" must be an object, a union of objects, or v.any(), not \
             {document}.",
            self.table_name
        );
        Err(problem("InvalidDocumentType", text))
    }
}

impl Checked<'_> {
    fn index(&mut self, index: &WireIndex) -> Result<(Arc<str>, Vec<Arc<str>>), UserError> {
        let name = self.name(&index.index_descriptor)?;
        let (table, max) = (self.table, limits::INDEX_FIELDS);
        let at = format!("In table \"{table}\" the index \"{name}\"");
        if index.fields.is_empty() {
            let text = format!("{at} must have at least one field.");
            return Err(problem("EmptyIndex", text));
        }
        if index.fields.len() as u64 > max {
            let text =
                format!("{at} has {} fields; at most {max} are allowed.", index.fields.len());
            return Err(problem("IndexTooManyFields", text));
        }
        let mut fields = Vec::new();
        for field in &index.fields {
            if field == "_id" {
                let text = format!("{at} has the field \"_id\"; db.get finds documents by id.");
                return Err(problem("IndexFieldsContainId", text));
            }
            if field == "_creationTime" {
                let text = format!(
                    "{at} has the field \"_creationTime\", which is added to every index; leave it \
                     out."
                );
                return Err(problem("IndexFieldsContainCreationTime", text));
            }
            let field = self.field(&name, field)?;
            if fields.contains(&field) {
                let text = format!("{at} has the field \"{field}\" more than once.");
                return Err(problem("FieldsNotUniqueWithinIndex", text));
            }
            fields.push(field);
        }
        Ok((name, fields))
    }

    fn vector(&mut self, index: &WireVector) -> Result<(Arc<str>, VectorIndexSchema), UserError> {
        let name = self.name(&index.index_descriptor)?;
        let (min, max) = (2, limits::VECTOR_DIMENSIONS);
        let range = min as f64..=max as f64;
        if !range.contains(&index.dimensions) || index.dimensions.fract() != 0.0 {
            let text = format!(
                "In table \"{}\" the vector index \"{name}\" has {} dimensions; {min} to {max} \
                 are allowed.",
                self.table, index.dimensions
            );
            return Err(problem("InvalidVectorDimensions", text));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be a small whole number"
        )]
        let dimensions = index.dimensions as u64;
        let vector_field = self.field(&name, &index.vector_field)?;
        if !self.document.may_hold_vector(&vector_field) {
            let text = format!(
                "In table \"{}\" the vector index \"{name}\" is invalid because its field \
                 {vector_field} is not v.array(v.float64()).",
                self.table
            );
            return Err(problem("InvalidIndexField", text));
        }
        let filter_fields =
            self.filter_fields(&name, &index.filter_fields, "VectorIndexFieldNotUnique")?;
        let schema = VectorIndexSchema { vector_field, dimensions, filter_fields, staged: false };
        Ok((name, schema))
    }

    /// A name no other index of the table has.
    fn name(&mut self, name: &str) -> Result<Arc<str>, UserError> {
        let at = format!("In table \"{}\" the index name \"{name}\"", self.table);
        if matches!(name, "by_id" | "by_creation_time") || name.starts_with('_') {
            let text = format!("{at} is reserved; choose another.");
            return Err(problem("IndexNameReserved", text));
        }
        if !is_identifier(name) {
            return Err(problem("InvalidIndexName", format!("{at} {IDENTIFIER_RULE}")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(problem("IndexNamesNotUnique", format!("{at} is used twice.")));
        }
        Ok(name.into())
    }

    /// Distinct fields; `not_unique` is the code of the error if they are not.
    fn filter_fields(
        &self,
        name: &str,
        fields: &[String],
        not_unique: &'static str,
    ) -> Result<Vec<Arc<str>>, UserError> {
        if fields.len() as u64 > limits::INDEX_FILTER_FIELDS {
            let (table, max) = (self.table, limits::INDEX_FILTER_FIELDS);
            let text = format!(
                "In table \"{table}\" the index \"{name}\" has too many filter fields: at most \
                 {max} are allowed."
            );
            return Err(problem("IndexTooManyFilterFields", text));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !seen.insert(field.as_str())) {
            let text = format!(
                "In table \"{}\" the index \"{name}\" has the filter field \"{twice}\" more than \
                 once.",
                self.table
            );
            return Err(problem(not_unique, text));
        }
        fields.iter().map(|field| self.field(name, field)).collect()
    }

    /// A dotted path that documents can have.
    fn field(&self, name: &str, field: &str) -> Result<Arc<str>, UserError> {
        let at = format!("In table \"{}\" the index \"{name}\"", self.table);
        if field.split('.').any(|part| !is_identifier(part)) {
            let text = format!("{at} has the field \"{field}\", which {IDENTIFIER_RULE}");
            return Err(problem("InvalidIndexField", text));
        }
        if field.starts_with('_') {
            let text = format!("{at} has the field \"{field}\"; names with '_' are reserved.");
            return Err(problem("IndexFieldNameReserved", text));
        }
        if !self.document.has_field(field) {
            let text = format!(
                "{at} is invalid because it references the field {field} that does not exist."
            );
            return Err(problem("InvalidIndexField", text));
        }
        Ok(field.into())
    }
}

/// How a name that is no identifier is refused.
pub(crate) const IDENTIFIER_RULE: &str = concat!(
    "must be 1 to 64 characters of A-Z, a-z, 0-9 and '_', not start with a digit, ",
    "and not be only underscores.",
);

/// Whether a name is legal for a table, an index or a field of one (section 2.3).
pub fn is_identifier(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=limits::IDENTIFIER_LENGTH).contains(&(name.len() as u64))
        && name.chars().all(legal)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.chars().all(|c| c == '_')
}

fn check_table_name(name: &str) -> Result<Arc<str>, UserError> {
    if name.starts_with('_') {
        return Err(problem("TableNameReserved", format!("{name} is a reserved table name.")));
    }
    if !is_identifier(name) {
        let text = format!("Invalid table name \"{name}\": it {IDENTIFIER_RULE}");
        return Err(problem("InvalidTableName", text));
    }
    Ok(name.into())
}

fn is_document_type(validator: &Validator) -> bool {
    match validator {
        Validator::Any | Validator::Object(_) => true,
        Validator::Union(members) => members.iter().all(is_document_type),
        _ => false,
    }
}

fn problem(code: &'static str, message: String) -> UserError {
    UserError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(indexes: &str) -> Result<Schema, &'static str> {
        let text = format!(
            r#"{{"tables":[{{"tableName":"items","indexes":{indexes},"searchIndexes":[],
            "vectorIndexes":[],"documentType":{{"type":"object","value":{{"name":{{"fieldType":
            {{"type":"string"}},"optional":false}},"at":{{"fieldType":{{"type":"object","value":
            {{"x":{{"fieldType":{{"type":"number"}},"optional":false}}}}}},"optional":false}}}}}}
            }}],
            "schemaValidation":true}}"#
        );
        Schema::from_json(&text).map_err(|e| e.code)
    }

    #[test]
    fn indexes_are_read_as_declared() {
        let schema = schema(r#"[{"indexDescriptor":"by_name","fields":["name","at.x"]}]"#).unwrap();
        let index = &schema.tables["items"].indexes["by_name"];
        assert_eq!(index.fields, [Arc::from("name"), Arc::from("at.x")]);
        assert!(!index.staged && schema.validation);
    }

    #[test]
    fn each_mistake_has_its_code() {
        let index = |name: &str, fields: &str| {
            schema(&format!(r#"[{{"indexDescriptor":"{name}","fields":{fields}}}]"#)).unwrap_err()
        };
        assert_eq!(index("i", "[]"), "EmptyIndex");
        assert_eq!(index("i", r#"["name","name"]"#), "FieldsNotUniqueWithinIndex");
        assert_eq!(index("i", r#"["_id"]"#), "IndexFieldsContainId");
        assert_eq!(index("i", r#"["_creationTime"]"#), "IndexFieldsContainCreationTime");
        assert_eq!(index("i", r#"["_x"]"#), "IndexFieldNameReserved");
        assert_eq!(index("by_id", r#"["name"]"#), "IndexNameReserved");
        assert_eq!(index("1x", r#"["name"]"#), "InvalidIndexName");
        assert_eq!(index("i", r#"["missing"]"#), "InvalidIndexField");
        assert_eq!(index("i", r#"["at.y"]"#), "InvalidIndexField");
        let many: Vec<String> = (0..17).map(|n| format!("\"f{n}\"")).collect();
        assert_eq!(index("i", &format!("[{}]", many.join(","))), "IndexTooManyFields");
        let twice = r#"[{"indexDescriptor":"i","fields":["name"]},
            {"indexDescriptor":"i","fields":["name"]}]"#;
        assert_eq!(schema(twice).unwrap_err(), "IndexNamesNotUnique");
    }

    #[test]
    fn names_of_tables() {
        let named = |name: &str| {
            let text = format!(
                r#"{{"tables":[{{"tableName":"{name}","documentType":{{"type":"any"}}}}]}}"#
            );
            Schema::from_json(&text).map(|_| ()).map_err(|e| e.code)
        };
        assert_eq!(named("ok_1"), Ok(()));
        assert_eq!(named("_mine"), Err("TableNameReserved"));
        assert_eq!(named("a b"), Err("InvalidTableName"));
        assert_eq!(named("1a"), Err("InvalidTableName"));
        let length = usize::try_from(limits::IDENTIFIER_LENGTH).unwrap();
        assert_eq!(named(&"t".repeat(length)), Ok(()));
        assert_eq!(named(&"t".repeat(length + 1)), Err("InvalidTableName"));
        let twice = r#"{"tables":[{"tableName":"t","documentType":{"type":"any"}},
            {"tableName":"t","documentType":{"type":"any"}}]}"#;
        assert_eq!(Schema::from_json(twice).unwrap_err().code, "TableNotUnique");
    }

    /// One table whose documents are `document`, with the given lists of indexes.
    fn table(document: &str, lists: &str) -> Result<TableSchema, UserError> {
        let text =
            format!(r#"{{"tables":[{{"tableName":"t",{lists},"documentType":{document}}}]}}"#);
        Schema::from_json(&text).map(|schema| schema.tables["t"].clone())
    }

    fn object(field: &str) -> String {
        format!(r#"{{"type":"object","value":{{"f":{{"fieldType":{field},"optional":true}}}}}}"#)
    }

    #[test]
    fn a_missing_field_is_named() {
        let indexes = r#""indexes":[{"indexDescriptor":"i","fields":["g"]}]"#;
        assert_eq!(
            table(&object(r#"{"type":"any"}"#), indexes).unwrap_err().message,
            "In table \"t\" the index \"i\" is invalid because it references the field g that \
             does not exist."
        );
        let either = format!(r#"{{"type":"union","value":[{},{{"type":"any"}}]}}"#, object("null"));
        assert!(table(&either.replace("null", r#"{"type":"null"}"#), indexes).is_ok());
        assert!(table(r#"{"type":"any"}"#, indexes).is_ok());
    }

    #[test]
    fn documents_are_objects() {
        for kind in ["string", "null", "number"] {
            let code = table(&format!(r#"{{"type":"{kind}"}}"#), r#""indexes":[]"#);
            assert_eq!(code.unwrap_err().code, "InvalidDocumentType", "{kind}");
        }
        let union = r#"{"type":"union","value":[{"type":"object","value":{}},{"type":"null"}]}"#;
        assert_eq!(table(union, r#""indexes":[]"#).unwrap_err().code, "InvalidDocumentType");
    }

    #[test]
    fn vectors_are_arrays_of_floats() {
        let vector = |field: &str, dimensions: &str, filters: &str| {
            let lists = format!(
                r#""vectorIndexes":[{{"indexDescriptor":"v","vectorField":"f","dimensions":
                {dimensions},"filterFields":{filters}}}]"#
            );
            table(&object(field), &lists).map_err(|e| e.code)
        };
        let floats = r#"{"type":"array","value":{"type":"number"}}"#;
        let made = vector(floats, "2", r#"["f"]"#).unwrap();
        assert_eq!(made.vector_indexes["v"].dimensions, 2);
        let maybe = format!(r#"{{"type":"union","value":[{{"type":"null"}},{floats}]}}"#);
        assert!(vector(&maybe, "1536", "[]").is_ok());
        assert!(vector(r#"{"type":"any"}"#, "1536", "[]").is_ok());
        for wrong in [
            r#"{"type":"number"}"#,
            r#"{"type":"array","value":{"type":"bigint"}}"#,
            r#"{"type":"array","value":{"type":"string"}}"#,
        ] {
            assert_eq!(vector(wrong, "8", "[]"), Err("InvalidIndexField"), "{wrong}");
        }
        assert!(vector(floats, &limits::VECTOR_DIMENSIONS.to_string(), "[]").is_ok());
        let above = (limits::VECTOR_DIMENSIONS + 1).to_string();
        for wrong in ["1", "2.5", "-8", &above] {
            assert_eq!(vector(floats, wrong, "[]"), Err("InvalidVectorDimensions"), "{wrong}");
        }
        assert_eq!(vector(floats, "8", r#"["f","f"]"#), Err("VectorIndexFieldNotUnique"));
    }

    #[test]
    fn search_and_staged_indexes_share_the_names_of_a_table() {
        let field = object(r#"{"type":"string"}"#);
        let search = |filters: &str| {
            format!(r#"[{{"indexDescriptor":"s","searchField":"f","filterFields":{filters}}}]"#)
        };
        let staged = format!(
            r#""stagedDbIndexes":[{{"indexDescriptor":"i","fields":["f"]}}],
            "searchIndexes":{},"stagedVectorIndexes":[]"#,
            search(r#"["f"]"#)
        );
        let made = table(&field, &staged).unwrap();
        assert!(made.indexes["i"].staged && !made.search_indexes["s"].staged);
        assert_eq!(&*made.search_indexes["s"].search_field, "f");
        let twice = format!(r#""searchIndexes":{}"#, search(r#"["f","f"]"#));
        assert_eq!(table(&field, &twice).unwrap_err().code, "SearchIndexFieldNotUnique");
        let both =
            format!(r#""searchIndexes":{},"stagedSearchIndexes":{}"#, search("[]"), search("[]"));
        assert_eq!(table(&field, &both).unwrap_err().code, "IndexNamesNotUnique");
    }

    #[test]
    fn documents_are_checked_unless_the_schema_says_not_to() {
        let text = |validation: bool| {
            let document = r#"{"type":"object","value":{}}"#;
            format!(
                r#"{{"tables":[{{"tableName":"t","documentType":{document}}}],
                "schemaValidation":{validation}}}"#
            )
        };
        let document = crate::json::decode(r#"{"x":1}"#).unwrap();
        let strict = Schema::from_json(&text(true)).unwrap();
        assert!(strict.check_document("t", &document, &|_| None).is_err());
        assert!(strict.check_document("other", &document, &|_| None).is_ok());
        let lax = Schema::from_json(&text(false)).unwrap();
        assert!(lax.check_document("t", &document, &|_| None).is_ok());
        assert_eq!(&*lax.json, text(false));
    }
}
