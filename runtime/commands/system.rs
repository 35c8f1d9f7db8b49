//! The functions that a host has of its own, called from a command.
//!
//! In: a name and arguments. Out: the result, as people write JSON. Invariant: what such a function
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
        Ok(plain(answer.value))
    } else {
        Err(SystemError::Failed { message: answer.error_message.trim_end().to_owned() })
    }
}

/// A function's result for people, who write no point behind a whole number; hosts write `1.0`.
pub(super) fn plain(value: Value) -> Value {
    /// From here on not every whole number is a float64, and a point says that it is none.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            Some(float) if float.fract() == 0.0 && float.abs() < EXACT => (float as i64).into(),
            _ => Value::Number(number),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_whole_numbers_without_a_point() {
        let told = r#"{"a":[1.0,-2.0,0.5,1e21,9007199254740992.0],"b":"3.0"}"#;
        let shown = r#"{"a":[1,-2,0.5,1e+21,9007199254740992.0],"b":"3.0"}"#;
        assert_eq!(plain(serde_json::from_str(told).unwrap()).to_string(), shown);
    }
}
