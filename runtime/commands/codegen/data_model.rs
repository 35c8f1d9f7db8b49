//! `dataModel.d.ts` or `dataModel.ts`: the types of tables and documents.
//!
//! In: whether there is a schema, or the schema itself as the host exported it. Out: text.
//! Invariant: however they are written, `DataModel`, `TableNames`, `Doc` and `Id` are there.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::layout::{concat, print, text};
use super::validators::{Member, Type};
use super::{comment, header, order};

const WHAT: &str = "Generated data model types.";

const ID: &str = "export type Id<TableName extends TableNames | SystemTableNames> =
  GenericId<TableName>;
";

const DOC: &str = "export type Doc<TableName extends TableNames> = DocumentByName<
  DataModel,
  TableName
>;
";

/// Tables as TypeScript infers them from `schema.ts`.
pub(super) fn inferred() -> String {
    let imports = "import type {
  DataModelFromSchemaDefinition,
  DocumentByName,
  TableNamesInDataModel,
  SystemTableNames,
} from \"convex/server\";
import type { GenericId } from \"convex/values\";
import schema from \"../schema.js\";
";
    let model = "export type DataModel = DataModelFromSchemaDefinition<typeof schema>;\n";
    let comment = comment("dataModel DataModel");
    format!("{}{imports}\n{}\n{comment}{model}", header(WHAT), names_of_tables())
}

/// Anything may be in any table.
pub(super) fn without_schema() -> String {
    let imports = "import { AnyDataModel } from \"convex/server\";
import type { GenericId } from \"convex/values\";
";
    let parts = [
        ("dataModel TableNames", "export type TableNames = string;\n"),
        ("noSchema Doc", "export type Doc = any;\n"),
        (
            "noSchema Id",
            "export type Id<TableName extends TableNames = TableNames> =\n  \
             GenericId<TableName>;\n",
        ),
        ("noSchema DataModel", "export type DataModel = AnyDataModel;\n"),
    ];
    let parts = parts.map(|(name, line)| format!("\n{}{line}", comment(name)));
    format!("{}{imports}\n{}{}", header(WHAT), comment("noSchema notice"), parts.concat())
}

/// Tables written out.
pub(super) fn written_out(schema: &Value) -> String {
    let imports = "import type {
  DocumentByName,
  TableNamesInDataModel,
  SystemTableNames,
  AnyDataModel,
} from \"convex/server\";
import type { GenericId } from \"convex/values\";
";
    let mut tables: Vec<&Value> = schema["tables"].as_array().into_iter().flatten().collect();
    let name = |table: &Value| table["tableName"].as_str().unwrap_or_default().to_owned();
    tables.sort_by(|a, b| order::compare(&name(a), &name(b)));
    let members = tables.iter().map(|own| Member::new(name(own), table(&name(own), own)));
    let others =
        if schema["schemaValidation"] == Value::Bool(false) { " & AnyDataModel" } else { "" };
    let object = Type::tall(members.collect()).doc();
    let doc = concat([text("export type DataModel = "), object, text(format!("{others};\n"))]);
    let comment = comment("dataModel DataModel");
    format!("{}{imports}\n{comment}\n{}\n{}", header(WHAT), print(&doc), names_of_tables())
}

fn names_of_tables() -> String {
    let names = "export type TableNames = TableNamesInDataModel<DataModel>;\n";
    let parts = [("dataModel TableNames", names), ("dataModel Doc", DOC), ("dataModel Id", ID)];
    parts.map(|(name, line)| format!("{}{line}", comment(name))).join("\n")
}

fn table(name: &str, table: &Value) -> Type {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let document = with_system_fields(name, &table["documentType"]);
    let paths: BTreeSet<String> =
        field_paths(&document).into_iter().map(|path| path.join(".")).collect();
    let mut paths: Vec<String> = paths.into_iter().collect();
    paths.sort_by(|a, b| order::compare(a, b));
    let index = |name: &str, fields: &[Value]| {
        Member::new(name, Type::Tuple(fields.iter().map(|f| Type::string(&text(f))).collect()))
    };
    let mut indexes =
        vec![index("by_id", &[json!("_id")]), index("by_creation_time", &[json!("_creationTime")])];
    indexes.extend(
        list(&table["indexes"])
            .iter()
            .map(|own| index(&text(&own["indexDescriptor"]), &list(&own["fields"]))),
    );
    let filters = |own: &Value| {
        Member::new("filterFields", literals(list(&own["filterFields"]).iter().map(text)))
    };
    let search = list(&table["searchIndexes"]).into_iter().map(|own| {
        let field = Member::new("searchField", Type::string(&text(&own["searchField"])));
        Member::new(text(&own["indexDescriptor"]), Type::tall(vec![field, filters(&own)]))
    });
    let vector = list(&table["vectorIndexes"]).into_iter().map(|own| {
        let field = Member::new("vectorField", Type::string(&text(&own["vectorField"])));
        let dimensions = Member::new("dimensions", Type::word("number"));
        let members = vec![field, dimensions, filters(&own)];
        Member::new(text(&own["indexDescriptor"]), Type::tall(members))
    });
    Type::tall(vec![
        Member::new("document", Type::of(&document, true)),
        Member::new("fieldPaths", literals(paths)),
        Member::new("indexes", Type::tall(indexes)),
        Member::new("searchIndexes", Type::tall(search.collect())),
        Member::new("vectorIndexes", Type::tall(vector.collect())),
    ])
}

/// The strings of a union; those that stand for many are template literals.
fn literals(names: impl IntoIterator<Item = String>) -> Type {
    Type::union(names.into_iter().map(|name| {
        if name.contains("${") { Type::word(format!("`{name}`")) } else { Type::string(&name) }
    }))
}

/// The validator of stored documents.
fn with_system_fields(table: &str, validator: &Value) -> Value {
    match validator["type"].as_str() {
        Some("union") => {
            let members = validator["value"].as_array().into_iter().flatten();
            let members: Vec<_> = members.map(|m| with_system_fields(table, m)).collect();
            json!({ "type": "union", "value": members })
        }
        Some("object") => {
            let mut fields: Map<String, Value> =
                validator["value"].as_object().cloned().unwrap_or_default();
            let id = json!({ "type": "id", "tableName": table });
            fields.insert("_id".to_owned(), json!({ "fieldType": id, "optional": false }));
            let number = json!({ "type": "number" });
            let time = json!({ "fieldType": number, "optional": false });
            fields.insert("_creationTime".to_owned(), time);
            json!({ "type": "object", "value": fields })
        }
        _ => validator.clone(),
    }
}

/// The paths that an index on these documents may name.
fn field_paths(validator: &Value) -> Vec<Vec<String>> {
    match validator["type"].as_str() {
        Some("object") => {
            let mut paths = vec![];
            for (name, field) in validator["value"].as_object().into_iter().flatten() {
                paths.push(vec![name.clone()]);
                let inner = field_paths(&field["fieldType"]);
                let inner = inner.into_iter().filter(|path| !path.is_empty());
                paths.extend(inner.map(|path| [vec![name.clone()], path].concat()));
            }
            paths
        }
        Some("union") => {
            validator["value"].as_array().into_iter().flatten().flat_map(field_paths).collect()
        }
        Some("record") => vec![vec!["${string}".to_owned()]],
        _ => vec![vec![]],
    }
}
