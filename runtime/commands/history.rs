//! `concave history`: who wrote each version of a document, on a running host.
//!
//! In: a table and an id. Out: per version when, which call with which argument, and the document.
//! Invariant: text and JSON say the same; what the history no longer holds is not guessed.

use std::env;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::client::{Client, ClientError, escaped};
use super::target::{Target, TargetError};
use super::terminal;

/// Show every version of a document: when, by which call, with which arguments, for whom
#[derive(Debug, Args)]
#[command(after_help = "\
The history goes back as far as its memory does (HISTORY_BYTES of `concave limits`).

Examples:
  concave history items j57000820c20a1g7104gm2rc1m70ynr8
  concave history items j57… --json | jq -r '.versions[].writer.function'
  concave history steps k17… --component workflow          of a component's document
  concave run shop:getItems --at 1700000000000000000       the query as of one of its timestamps")]
pub struct Arguments {
    /// The table
    table: String,
    /// The document's _id
    id: String,
    /// Of this component: the names joined by "/", like workflow/workpool
    #[arg(long, value_name = "PATH")]
    component: Option<String>,
    /// A JSON object {oldest, versions: [{at, writer, document}]}, newest first
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The host's answer has another shape.
    #[error(
        "{url} answered something else than versions: {cause}. Is it another version of concave?"
    )]
    Foreign {
        /// The host.
        url: String,
        /// What is wrong with the answer.
        cause: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct History {
    oldest: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    at: String,
    writer: Writer,
    document: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Writer {
    function: String,
    args: Value,
    request_id: String,
    identity: String,
}

/// Prints the versions, newest first.
///
/// # Errors
/// See [`HistoryError`].
pub async fn run(arguments: Arguments) -> Result<(), HistoryError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let Arguments { table, id, component, json, .. } = arguments;
    let (table, id) = (escaped(&table), escaped(&id));
    let component = escaped(&component.unwrap_or_default());
    let endpoint = format!("/api/concave/history?table={table}&id={id}&component={component}");
    let found: Value = client.get(&endpoint).await?;
    if json {
        let text = serde_json::to_string_pretty(&found);
        terminal::data(text.expect("JSON that was read can be written"));
        return Ok(());
    }
    let foreign = |cause| HistoryError::Foreign { url: client.url().to_owned(), cause };
    let History { oldest, versions } = serde_json::from_value(found).map_err(foreign)?;
    if versions.is_empty() {
        terminal::news(format!("Nobody wrote it since {oldest}, where the history kept begins."));
        return Ok(());
    }
    terminal::data(versions.iter().map(text).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn text(version: &Version) -> String {
    let Version { at, writer, document } = version;
    let Writer { function, args, request_id, identity } = writer;
    let args = if args.is_null() { String::new() } else { args.to_string() };
    // What the host wrote itself answers no request.
    let request = match request_id.is_empty() {
        true => String::new(),
        false => format!(", request {request_id}"),
    };
    let now = if document.is_null() { "deleted".to_owned() } else { document.to_string() };
    format!("{at}  {function}({args}) by {identity}{request}\n    {now}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_where_there_was_one() {
        let version = |function: &str, request: &str| {
            let writer = Writer {
                function: function.to_owned(),
                args: Value::Null,
                request_id: request.to_owned(),
                identity: "the host".to_owned(),
            };
            text(&Version { at: "7".to_owned(), writer, document: Value::Null })
        };
        assert_eq!(version("storage.store", ""), "7  storage.store() by the host\n    deleted");
        assert_eq!(version("m:f", "ab"), "7  m:f() by the host, request ab\n    deleted");
    }
}
