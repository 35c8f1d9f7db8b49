//! Everything that exists only because Convex's clients and its CLI expect it.
//!
//! ```text
//! api.rs     calls of functions      answer.rs  their answers      client.rs  who asks
//! sync/      the WebSocket protocol  site.rs    HTTP actions       storage.rs files
//! push/      the deploy protocol     inline.rs  inline queries     system.rs  what the CLI calls
//! admin.rs   components.rs  environment.rs  logs.rs                for the operator
//! export.rs  import/                 data out and in
//! ```
//! In: heads and bodies from `http.rs`. Out: responses in the shapes of the `convex` npm package.
//! Invariant: nothing outside this folder knows these shapes. The table of what is served, and what
//! not yet, is `README.md` here.

pub(crate) mod admin;
mod answer;
pub(crate) mod api;
pub(crate) mod client;
pub(crate) mod components;
pub(crate) mod environment;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inline;
pub(crate) mod logs;
pub(crate) mod push;
pub(crate) mod site;
pub(crate) mod storage;
pub(crate) mod sync;
pub(crate) mod system;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;

/// A 200 with a JSON body.
pub(crate) fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
