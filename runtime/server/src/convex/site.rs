//! The origin of HTTP actions, and `/http/` on the other one (`convex-compat.md` section 4.6).
//!
//! In: any request. Out: a text that says why no HTTP action answers it.
//! Invariant: an app without `http.ts` gets upstream's words; an app with one is never told that it
//! has none.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::host::Host;

/// Any method, any path.
pub(crate) async fn request(State(host): State<Arc<Host>>) -> (StatusCode, &'static str) {
    let snapshot = host.database.snapshot();
    let routed = snapshot.deployment.as_ref().is_some_and(|deployment| {
        deployment.analysis.modules.values().any(|module| module.http_routes.is_some())
    });
    if routed {
        (StatusCode::NOT_IMPLEMENTED, "HTTP actions are not supported by concave yet.")
    } else {
        (StatusCode::NOT_FOUND, "This Convex deployment does not have HTTP actions enabled.")
    }
}
