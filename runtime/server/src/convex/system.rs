//! The `_system/…` functions that the official CLI calls, written natively (`convex-compat.md`
//! section 6.9).
//!
//! In: a path, decoded arguments, who asks. Out: encoded JSON of the result, and what it was read
//! from: whoever follows one of them is answered again when that changes.
//! Invariant: to everybody but the operator these functions look missing, with the text of a
//! missing function; one that is not written yet says so instead of looking missing.

use database::commit::Database;
use database::deployment::{Analysis, AnalyzedFunction, Visibility};
use database::error::UserError;
use database::key::Interval;
use database::limits;
use database::pagination::PageRequest;
use database::read_set::ReadSet;
use database::record::{FunctionPath, Given, Identity};
use database::snapshot::Snapshot;
use database::value::Value;
use serde_json::json;

use super::{components, environment, export, import};
use crate::host::Host;

/// Most documents of one page of `tableData`; the CLI asks for 10,000 when it has no limit.
const PAGE_DOCUMENTS_MAX: u64 = 10_000;
/// Bytes of documents after which a page ends: with the last one it is below what a query reads.
const PAGE_BYTES: u64 = limits::BYTES_READ / 2;

/// What one of them gave.
pub(crate) struct Answered {
    /// Encoded JSON.
    pub(crate) value: String,
    /// What it read besides the catalog.
    pub(crate) reads: ReadSet,
}

impl From<String> for Answered {
    fn from(value: String) -> Self {
        Self { value, reads: ReadSet::default() }
    }
}

/// Runs one of them at the newest snapshot.
///
/// # Errors
/// Not the operator, no such function here, or arguments that do not fit.
pub(crate) fn run(
    host: &Host,
    identity: &Identity,
    path: &FunctionPath,
    args: &Value,
) -> Result<Answered, UserError> {
    let name = path.identifier();
    let component = component_of(path, args);
    if !identity.is_admin() {
        let text = format!("Could not find public function for '{name}'.");
        return Err(UserError::new("FunctionNotFound", text));
    }
    match name.as_str() {
        "_system/cli/tables" => Ok(tables(&host.database, component).into()),
        "_system/cli/tableData" => table_data(host, component, args),
        "_system/cli/tableSize" => {
            Ok(table_size(&host.database, component, text(args, "tableName")?))
        }
        "_system/cli/queryTable" => Ok(table_changes(host, component, text(args, "tableName")?)),
        "_system/cli/modules:apiSpec" => Ok(api_spec(&host.database, component).into()),
        "_system/cli/convexUrl:cloudUrl" => Ok(json!(host.config.cloud_origin).to_string().into()),
        "_system/frontend/getSchemas" => Ok(schemas(&host.database, component).into()),
        "_system/cli/queryEnvironmentVariables" => {
            Ok(environment::documents(&host.database).into())
        }
        "_system/cli/queryEnvironmentVariables:get" => {
            Ok(environment::document_named(&host.database, text(args, "name")?).into())
        }
        "_system/frontend/components:list" => Ok(components::list(&host.database).into()),
        "_system/cli/queryImport:list" => Ok(import::list(host)),
        "_system/cli/queryImport" => import::one(host, text(args, "importId")?),
        "_system/cli/exports:getLatest" => Ok(export::latest(host)),
        _ => Err(UserError::new(
            "NotSupported",
            format!("The system function '{name}' is not supported by concave yet."),
        )),
    }
}

/// The component asked about: the one that the request is for, or the one that it names by its id.
fn component_of<'a>(path: &'a FunctionPath, args: &'a Value) -> &'a str {
    match args.field("componentId") {
        Some(Value::String(id)) => id,
        _ => &path.component,
    }
}

/// `{page:[{name}], isDone, continueCursor}` of the user's tables.
fn tables(database: &Database, component: &str) -> String {
    let tables = database.snapshot().tables(component);
    let page: Vec<_> = tables.iter().map(|table| json!({ "name": &*table.name })).collect();
    json!({ "page": page, "isDone": true, "continueCursor": "end" }).to_string()
}

/// How many documents a table holds; 0 for a table that does not exist.
fn table_size(database: &Database, component: &str, name: &str) -> Answered {
    let snapshot = database.snapshot();
    let size = snapshot.table(component, name).map_or(0, |table| snapshot.count(table));
    Answered { value: size.to_string(), reads: whole_table(&snapshot, component, name) }
}

/// Another number each time that the table has changed.
fn table_changes(host: &Host, component: &str, name: &str) -> Answered {
    let seed = host.config.world.seed();
    let number = u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]);
    let reads = whole_table(&host.database.snapshot(), component, name);
    Answered { value: number.to_string(), reads }
}

/// Every document of a table.
fn whole_table(snapshot: &Snapshot, component: &str, name: &str) -> ReadSet {
    let mut reads = ReadSet::default();
    if let Some(table) = snapshot.table(component, name) {
        reads.insert(table.by_id.id, Interval::all());
    }
    reads
}

/// One page of a table's documents in creation order, as stored.
fn table_data(host: &Host, component: &str, args: &Value) -> Result<Answered, UserError> {
    let options = args.field("paginationOpts").unwrap_or(&Value::Null);
    let wanted = match options.field("numItems") {
        Some(Value::Float64(wanted)) if *wanted >= 1.0 => *wanted as u64,
        _ => return Err(wrong("paginationOpts.numItems", "a number of at least 1")),
    };
    let cursor = match options.field("cursor") {
        Some(Value::String(cursor)) => Some(cursor.as_str()),
        Some(Value::Null) | None => None,
        Some(_) => return Err(wrong("paginationOpts.cursor", "a string or null")),
    };
    let order = match args.field("order") {
        Some(Value::String(order)) if order == "asc" || order == "desc" => order,
        _ => return Err(wrong("order", "\"asc\" or \"desc\"")),
    };
    let source =
        json!({ "type": "FullTableScan", "tableName": text(args, "table")?, "order": order });
    let query = json!({ "source": source, "operators": [] }).to_string();
    let request = PageRequest {
        query: &query,
        cursor,
        end_cursor: None,
        page_size: wanted.min(PAGE_DOCUMENTS_MAX),
        maximum_rows_read: None,
        maximum_bytes_read: Some(PAGE_BYTES),
        journal: None,
    };
    let world = &host.config.world;
    let snapshot = host.database.snapshot();
    let given = Given {
        code: snapshot.deployment.as_ref().map(|d| d.analysis.version).unwrap_or_default(),
        snapshot: snapshot.ts,
        seed: world.seed(),
        now: world.now(),
    };
    let mut transaction = host.database.begin(snapshot, &given, true);
    transaction.show_hidden();
    let page = transaction.page(component, request)?;
    let documents: Vec<&str> = page.documents.iter().map(|document| document.json()).collect();
    let value = format!(
        r#"{{"page":[{}],"isDone":{},"continueCursor":{}}}"#,
        documents.join(","),
        page.is_done,
        json!(page.continue_cursor),
    );
    Ok(Answered { value, reads: transaction.reads().clone() })
}

/// What every function takes and gives.
fn api_spec(database: &Database, component: &str) -> String {
    let snapshot = database.snapshot();
    let deployment = snapshot.deployment.as_ref();
    let analysis = deployment.and_then(|deployment| deployment.analysis.of(component));
    serde_json::Value::Array(analysis.map(described).unwrap_or_default()).to_string()
}

fn described(analysis: &Analysis) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    for (path, module) in &analysis.modules {
        all.extend(module.functions.iter().map(|function| describe(path, function)));
        for route in module.http_routes.iter().flatten() {
            all.push(json!({
                "functionType": "HttpAction", "method": route.method, "path": route.path,
            }));
        }
    }
    all
}

fn describe(module: &str, function: &AnalyzedFunction) -> serde_json::Value {
    let visibility = match function.visibility {
        Some(Visibility::Internal) => "internal",
        Some(Visibility::Public) | None => "public",
    };
    json!({
        "identifier": format!("{module}:{}", function.name),
        "functionType": function.kind.name(),
        "visibility": { "kind": visibility },
        "args": validator(&function.args_json),
        "returns": validator(&function.returns_json),
    })
}

/// The validator's JSON; anything goes where the function declares none.
fn validator(text: &str) -> serde_json::Value {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Null) | Err(_) => json!({ "type": "any" }),
        Ok(validator) => validator,
    }
}

/// `{active?: JSON text of the schema}`.
fn schemas(database: &Database, component: &str) -> String {
    let snapshot = database.snapshot();
    match snapshot.deployment.as_ref().and_then(|deployment| deployment.schema(component)) {
        Some(schema) => json!({ "active": &*schema.json }).to_string(),
        None => "{}".to_owned(),
    }
}

fn text<'a>(args: &'a Value, name: &str) -> Result<&'a str, UserError> {
    match args.field(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong(name, "a string")),
    }
}

fn wrong(name: &str, expected: &str) -> UserError {
    UserError::new("InvalidArguments", format!("The argument `{name}` must be {expected}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::json;

    #[test]
    fn absent_validators_accept_anything() {
        assert_eq!(validator("null"), json!({ "type": "any" }));
        let literal = r#"{"type":"literal","value":{"$integer":"AQAAAAAAAAA="}}"#;
        assert_eq!(validator(literal).to_string(), literal);
        assert!(json::decode(literal).is_ok());
    }
}
