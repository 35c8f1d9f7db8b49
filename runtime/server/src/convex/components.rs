//! Components as the operator sees them: the list of all, mounted or not, and the end of one that
//! is not (`convex-compat.md` sections 6.9 and 6.14).
//!
//! In: the newest snapshot; an id. Out: JSON. Invariant: a component's id is its path, which names
//! the same tables until it is deleted.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use database::commit::Database;
use database::environment::is_built_in;
use database::error::PushError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::json as answer;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY};

/// `POST /api/delete_component`: deletes the data of a component that is not mounted.
pub(crate) async fn delete(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        component_id: String,
    }
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let body = request::read(body, CALL_BODY).await?;
    let Asked { component_id } = request::parse(&body)?;
    let work = move || {
        let ts = host.database.delete_component(&component_id, host.config.world.now())?;
        host.database.wait_durable(ts)?;
        Ok::<_, PushError>(())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(_)) => Ok(answer("null")),
        Ok(Err(error)) => Err(Failure::bad(error.code, error.message)),
        Err(error) => Err(Failure::broken(format!(
            "The deletion ended abruptly; nothing was deleted. Please report it: {error}"
        ))),
    }
}

/// `[{id, name, path, args, state, httpPrefix}]`, the app left out.
pub(super) fn list(database: &Database) -> String {
    let snapshot = database.snapshot();
    let mounted = snapshot.deployment.as_ref().map(|now| &now.analysis.components);
    let known = snapshot.components().filter(|path| !path.is_empty());
    let list = known.map(|path| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let unit = mounted.and_then(|components| components.unit(path));
        let prefix = mounted.and_then(|components| components.mounts.get(parent)).and_then(|all| {
            all.iter().find(|(_, child)| *child == path).map(|(prefix, _)| prefix.as_str())
        });
        let environment = unit.into_iter().flat_map(|unit| &unit.environment);
        let environment: Map<String, Value> = environment
            .filter(|(name, _)| !is_built_in(name))
            .map(|(name, binding)| {
                let argument = match binding.source(None) {
                    Some((of_app, _)) => json!({ "envVar": of_app }),
                    None => json!({ "value": binding.value(|_| None).as_deref() }),
                };
                (name.clone(), argument)
            })
            .collect();
        json!({
            "id": &**path,
            "name": name,
            "path": &**path,
            "args": environment,
            "state": if unit.is_some() { "active" } else { "unmounted" },
            "httpPrefix": prefix,
        })
    });
    Value::Array(list.collect()).to_string()
}
