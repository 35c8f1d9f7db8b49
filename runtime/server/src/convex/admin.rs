//! Small endpoints about the deployment itself (`convex-compat.md` sections 4.4 and 6.14).
//!
//! In: mostly nothing. Out: names, versions, origins.
//! Invariant: what only the operator should know needs the admin key; the rest is public upstream
//! too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use database::error::Refusal;
use serde_json::json;

use super::json as answer;
use crate::host::Host;
use crate::refusal::Failure;
use crate::request;

/// Largest body that `POST /echo` gives back (`convex network-test` sends 64 MiB).
const ECHO_BODY: usize = 128 * 1024 * 1024;

/// `GET /`
pub(crate) async fn root() -> &'static str {
    "This concave deployment is running.\n"
}

/// `GET /health`: the host answers.
pub(crate) async fn health() -> Response {
    answer(r#"{"status":"ok"}"#)
}

/// `GET /ready`: the host answers, takes new work, and keeps what it is told. 503 where it cannot.
pub(crate) async fn ready(State(host): State<Arc<Host>>) -> Result<Response, Failure> {
    let cannot_keep = host.database.cannot_keep().map(Refusal::from);
    let cannot_keep = match cannot_keep {
        None => host.files.check().await.err().map(Refusal::from),
        known => known,
    };
    match cannot_keep.or_else(|| host.database.out_of_memory()) {
        None => Ok(answer(r#"{"status":"ready"}"#)),
        Some(why) => Err(Failure::refused(why, host.config.redact)),
    }
}

/// `GET /version`
pub(crate) async fn version() -> &'static str {
    concat!("concave ", env!("CARGO_PKG_VERSION"))
}

/// `GET /instance_name`
pub(crate) async fn instance_name(State(host): State<Arc<Host>>) -> String {
    host.config.instance_name.clone()
}

/// `POST /echo`
pub(crate) async fn echo(request: Request) -> Result<Response, Failure> {
    Ok(request::read(request.into_body(), ECHO_BODY).await?.into_response())
}

/// `GET /api/check_admin_key`
pub(crate) async fn check_admin_key(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let body = json!({ "success": true, "allowedOps": [], "isReadOnly": false });
    Ok(answer(body.to_string()))
}

/// `GET /api/v1/get_canonical_urls`
pub(crate) async fn get_canonical_urls(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let config = &host.config;
    let body =
        json!({ "convexCloudUrl": config.cloud_origin, "convexSiteUrl": config.site_origin });
    Ok(answer(body.to_string()))
}

/// `GET /api/v1/deployment_info`
pub(crate) async fn deployment_info(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    Ok(answer(r#"{"kind":"selfHosted"}"#))
}
