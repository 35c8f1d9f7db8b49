//! Environment variables for the operator (`convex-compat.md` section 6.11).
//!
//! In: changes; questions. Out: names and values.
//! Invariant: only the operator sees a value; a change is made whole or not at all. Variables that
//! the host sets itself are neither listed nor changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use database::commit::Database;
use database::environment::{self, Change, Variable};
use database::id::{DocumentId, TableNumber};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::json as answer;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY};

/// The number of `_environment_variables` (`convex-compat.md` section 2.6).
const TABLE: TableNumber = TableNumber(525);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    admin_key: Option<String>,
    changes: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    value: Option<String>,
}

/// `POST /api/update_environment_variables`
pub(crate) async fn update(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let body = request::read(body, CALL_BODY).await?;
    // Who has not shown the key learns nothing about the body either.
    let asked = request::parse::<Update>(&body);
    let in_body = asked.as_ref().ok().and_then(|asked| asked.admin_key.as_deref());
    host.admin_key.require(&head, in_body)?;
    let changes = asked?.changes.into_iter();
    let changes: Vec<_> = changes.map(|Wanted { name, value }| Change { name, value }).collect();
    // Modules may have to be evaluated again.
    let work = move || {
        // One change, or one end of a push, at a time: each is checked against what is there.
        let _turn = host.pushes.turn();
        environment::check(host.database.snapshot().environment(), &changes)?;
        host.functions.change_environment(&changes)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(_)) => Ok(answer("null")),
        Ok(Err(error)) => Err(Failure::bad(error.code, error.message)),
        Err(error) => Err(Failure::broken(format!(
            "The change ended abruptly; nothing was changed. Please report it: {error}"
        ))),
    }
}

/// `GET /api/v1/list_environment_variables`: those that the operator has set.
pub(crate) async fn list(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let snapshot = host.database.snapshot();
    let set = snapshot.environment().set_by_operator();
    let all: BTreeMap<_, _> = set.map(|(name, found)| (&**name, &*found.value)).collect();
    Ok(answer(json!({ "environmentVariables": all }).to_string()))
}

/// `_system/cli/queryEnvironmentVariables`: as documents, by name.
pub(super) fn documents(database: &Database) -> String {
    let snapshot = database.snapshot();
    let set = snapshot.environment().set_by_operator();
    set.map(|(name, found)| document(name, found)).collect::<Value>().to_string()
}

/// `_system/cli/queryEnvironmentVariables:get`: one as a document, or null.
pub(super) fn document_named(database: &Database, name: &str) -> String {
    let snapshot = database.snapshot();
    let mut set = snapshot.environment().set_by_operator();
    let found = set.find(|(found, _)| ***found == *name);
    found.map_or(Value::Null, |(name, found)| document(name, found)).to_string()
}

fn document(name: &str, variable: &Variable) -> Value {
    let mut internal = [0; 16];
    internal.copy_from_slice(&Sha256::digest(name)[..16]);
    let id = DocumentId { table: TABLE, internal };
    json!({
        "_id": id.encode(),
        "_creationTime": variable.set.0 as f64 / 1e6,
        "name": name,
        "value": &*variable.value,
    })
}
