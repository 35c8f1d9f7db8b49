//! Point reads: `db.get`, `db.normalizeId`, counting.

use std::borrow::Cow;

use database::error::UserError;
use database::transaction::GetArgs;
use serde::Deserialize;

use super::{Answer, parse};
use crate::execution::Execution;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Get<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    is_system: bool,
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
}

pub(super) fn get(execution: &mut Execution, arguments: &str) -> Answer {
    let args: Get<'_> = parse("db.get", arguments)?;
    let component = execution.component();
    let get = GetArgs { id: &args.id, table: args.table.as_deref(), is_system: args.is_system };
    let document = execution.transaction.get(&component, get)?;
    Ok(document.map_or_else(|| "null".to_owned(), |document| document.json().to_owned()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NormalizeId<'a> {
    #[serde(borrow)]
    table: Cow<'a, str>,
    #[serde(borrow)]
    id_string: Cow<'a, str>,
}

pub(super) fn normalize_id(execution: &mut Execution, arguments: &str) -> Answer {
    let args: NormalizeId<'_> = parse("db.normalizeId", arguments)?;
    let component = execution.component();
    let id = execution.transaction.normalize_id(&component, &args.table, &args.id_string);
    Ok(serde_json::json!({ "id": id }).to_string())
}

#[derive(Deserialize)]
struct Count<'a> {
    #[serde(borrow)]
    table: Cow<'a, str>,
}

pub(super) fn count(execution: &mut Execution, arguments: &str) -> Answer {
    let args: Count<'_> = parse("db.count", arguments)?;
    let component = execution.component();
    let documents: Result<u64, UserError> = execution.transaction.count(&component, &args.table);
    Ok(documents?.to_string())
}
