//! Who wrote each version of a document, for the operator.
//!
//! In: a table and an id. Out: its versions within the history kept, newest first.
//! Invariant: only durable commits are shown, and only to the operator.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use database::commit::Writer;
use database::id::DocumentId;
use database::log::LogEntry;
use database::record::Identity;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::host::Host;
use crate::refusal::Failure;
use crate::{convex, recording, request};

#[derive(Deserialize)]
struct Asked {
    table: String,
    id: String,
    /// Empty for the app.
    #[serde(default)]
    component: String,
}

/// `GET /api/concave/history?table=&id=&component=`
pub(crate) async fn history(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let Asked { table, id, component } = request::parameters(&head.uri)?;
    let component = convex::api::named_component(&host, &component, &Identity::Admin)
        .map_err(|error| Failure::bad(error.code, error.message))?;
    let snapshot = host.database.snapshot();
    let Some(found) = snapshot.table(&component, &table) else {
        let message = match &*component {
            "" => format!("There is no table {table:?}. `concave data` lists them."),
            path => format!(
                "There is no table {table:?} in the component {path:?}. `concave data --component \
                 {path}` lists its tables."
            ),
        };
        return Err(Failure::bad("TableNotFound", message));
    };
    let wanted = DocumentId::decode(&id).filter(|id| id.table == found.number);
    let Some(wanted) = wanted else {
        let message = format!("{id:?} is no id of the table {table:?}.");
        return Err(Failure::bad("InvalidId", message));
    };
    let history = host.database.history();
    let versions = history.entries.iter().filter_map(|entry| version(entry, wanted));
    let versions: Vec<Value> = versions.collect();
    let oldest = history.oldest.to_string();
    Ok(convex::json(json!({ "oldest": oldest, "versions": versions }).to_string()))
}

fn version(entry: &LogEntry, wanted: DocumentId) -> Option<Value> {
    let write = entry.writes.iter().find(|write| write.document().id == wanted)?;
    let document = write.after.as_ref().map(|document| parsed(document.json()));
    let Writer { function, request_id, record } = &entry.writer;
    let args = record.as_ref().and_then(|record| {
        let args: Vec<Value> = serde_json::from_str(&record.args).ok()?;
        args.into_iter().next()
    });
    let identity = record.as_ref().map_or(&Identity::System, |record| &record.identity);
    let identity = recording::identity(identity);
    Some(json!({
        "at": entry.ts.to_string(),
        "writer": {
            "function": &**function,
            "args": args,
            "requestId": &**request_id,
            "identity": identity,
        },
        "document": document,
    }))
}

/// A document as it is stored.
fn parsed(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}
