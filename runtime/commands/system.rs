//! The functions that a host has of its own, called from a command.
//!
//! In: a name and arguments. Out: the result as encoded JSON. Invariant: what such a function
//! throws is told in its words.

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::client::{Client, ClientError};

/// Why there is no result.
#[derive(Debug, Error)]
pub enum SystemError {
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The function failed.
    #[error("{message}")]
    Failed {
        /// Its error.
        message: String,
    },
}

/// Calls `_system/cli/{name}`.
///
/// # Errors
/// See [`SystemError`].
pub(super) async fn system(client: &Client, name: &str, args: Value) -> Result<Value, SystemError> {
    system_in(client, None, name, args).await
}

/// The same for a component.
///
/// # Errors
/// See [`SystemError`].
pub(super) async fn system_in(
    client: &Client,
    component: Option<&str>,
    name: &str,
    args: Value,
) -> Result<Value, SystemError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        status: String,
        #[serde(default)]
        value: Value,
        #[serde(default)]
        error_message: String,
    }
    let path = format!("_system/cli/{name}");
    let mut body = json!({ "path": path, "args": args, "format": "convex_encoded_json" });
    if let Some(component) = component {
        body["componentPath"] = component.into();
    }
    let answer: Answer = client.post("/api/query", &body).await?;
    if answer.status == "success" {
        Ok(answer.value)
    } else {
        Err(SystemError::Failed { message: answer.error_message.trim_end().to_owned() })
    }
}
