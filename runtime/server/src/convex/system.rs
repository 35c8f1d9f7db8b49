//! The `_system/…` functions that the official CLI calls, written natively (`convex-compat.md`
//! section 6.9).
//!
//! In: a path, decoded arguments, who asks. Out: encoded JSON of the result.
//! Invariant: to everybody but the operator these functions look missing, with the text of a
//! missing function; one that is not written yet says so instead of looking missing.

use database::commit::Database;
use database::deployment::{Analysis, AnalyzedFunction, Visibility};
use database::error::UserError;
use database::pagination::PageRequest;
use database::record::{FunctionPath, Given, Identity};
use database::value::Value;
use serde_json::json;

use super::{components, environment};
use crate::host::Host;

/// Most documents of one page of `tableData`; the CLI asks for 10,000 when it has no limit.
const PAGE_DOCUMENTS_MAX: u64 = 10_000;

/// Runs one of them at the newest snapshot.
///
/// # Errors
/// Not the operator, no such function here, or arguments that do not fit.
pub(crate) fn run(
    host: &Host,
    identity: &Identity,
    path: &FunctionPath,
    args: &Value,
) -> Result<String, UserError> {
    let name = path.identifier();
    if !identity.is_admin() {
        let text = format!("Could not find public function for '{name}'.");
        return Err(UserError::new("FunctionNotFound", text));
    }
    match name.as_str() {
        "_system/cli/tables" => Ok(tables(&host.database)),
        "_system/cli/tableData" => table_data(host, args),
        "_system/cli/tableSize" => table_size(&host.database, text(args, "tableName")?),
        "_system/cli/modules:apiSpec" => Ok(api_spec(&host.database)),
        "_system/cli/convexUrl:cloudUrl" => Ok(json!(host.config.cloud_origin).to_string()),
        "_system/frontend/getSchemas" => Ok(schemas(&host.database)),
        "_system/cli/queryEnvironmentVariables" => Ok(environment::documents(&host.database)),
        "_system/cli/queryEnvironmentVariables:get" => {
            Ok(environment::document_named(&host.database, text(args, "name")?))
        }
        "_system/frontend/components:list" => Ok(components::list(&host.database)),
        // Nothing of these kinds can exist yet, so their lists are empty.
        "_system/cli/queryImport:list" => Ok("[]".to_owned()),
        "_system/cli/exports:getLatest" => Ok("null".to_owned()),
        _ => Err(UserError::new(
            "NotSupported",
            format!("The system function '{name}' is not supported by concave yet."),
        )),
    }
}

/// `{page:[{name}], isDone, continueCursor}` of the user's tables.
fn tables(database: &Database) -> String {
    let tables = database.snapshot().tables("");
    let page: Vec<_> = tables.iter().map(|table| json!({ "name": &*table.name })).collect();
    json!({ "page": page, "isDone": true, "continueCursor": "end" }).to_string()
}

/// How many documents a table holds; 0 for a table that does not exist.
fn table_size(database: &Database, name: &str) -> Result<String, UserError> {
    let tables = database.snapshot().tables("");
    let size = tables.iter().find(|table| &*table.name == name).map_or(0, |table| table.documents);
    Ok(size.to_string())
}

/// One page of a table's documents in creation order, as stored.
fn table_data(host: &Host, args: &Value) -> Result<String, UserError> {
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
        maximum_bytes_read: None,
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
    let page = transaction.page("", request)?;
    let documents: Vec<&str> = page.documents.iter().map(|document| document.json()).collect();
    Ok(format!(
        r#"{{"page":[{}],"isDone":{},"continueCursor":{}}}"#,
        documents.join(","),
        page.is_done,
        json!(page.continue_cursor),
    ))
}

/// What every function takes and gives.
fn api_spec(database: &Database) -> String {
    let snapshot = database.snapshot();
    let functions = match &snapshot.deployment {
        Some(deployment) => described(&deployment.analysis),
        None => Vec::new(),
    };
    serde_json::Value::Array(functions).to_string()
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
fn schemas(database: &Database) -> String {
    let snapshot = database.snapshot();
    let schema = snapshot.deployment.as_ref().and_then(|d| d.analysis.schema.as_ref());
    match schema {
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
