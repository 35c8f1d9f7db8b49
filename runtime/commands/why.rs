//! `concave why`: why queries re-ran and mutations ran again on a running host.
//!
//! In: how many causes. Out: per cause one sentence, and the lines of TypeScript that read and
//! wrote. Invariant: text and JSON say the same; what is not known is said to be unknown.

use std::env;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::client::{Client, ClientError};
use super::target::{Target, TargetError};
use super::terminal;

/// Show why queries re-ran and mutations were retried: who read what, who wrote it, on which lines
#[derive(Debug, Args)]
#[command(after_help = "\
A query re-runs when a commit writes inside a range of an index that it read. A mutation is retried
when that happens before it could commit. Narrow what is read, by an index and its fields, and both
happen less often.

Examples:
  concave why                 the newest causes, newest first
  concave why -n 100
  concave why --json | jq -r '.[] | .reader.function' | sort | uniq -c")]
pub struct Arguments {
    /// Show at most this many causes
    #[arg(short, value_name = "COUNT", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..))]
    n: u64,
    /// A JSON array of {kind, at, reader, index, table, range, key, document, writer, text}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum WhyError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The host's answer has another shape.
    #[error(
        "{url} answered something else than causes: {cause}. Is it another version of concave?"
    )]
    Foreign {
        /// The host.
        url: String,
        /// What is wrong with the answer.
        cause: serde_json::Error,
    },
}

/// One cause, as far as its text needs it.
#[derive(Deserialize)]
struct Cause {
    text: String,
    index: String,
    range: String,
    reader: Party,
    writer: Party,
}

/// One of the two calls.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Party {
    request_id: String,
    /// `scheduled` or `cron job`.
    job: Option<String>,
    site: Option<Site>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Site {
    file: String,
    line: u32,
    column: u32,
    exact: bool,
}

/// Prints the newest causes.
///
/// # Errors
/// See [`WhyError`].
pub async fn run(arguments: Arguments) -> Result<(), WhyError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let endpoint = format!("/api/concave/why?n={}&sites=true", arguments.n);
    let causes: Value = client.get(&endpoint).await?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&causes);
        terminal::data(text.expect("JSON that was read can be written"));
        return Ok(());
    }
    let foreign = |cause| WhyError::Foreign { url: client.url().to_owned(), cause };
    let causes: Vec<Cause> = serde_json::from_value(causes).map_err(foreign)?;
    if causes.is_empty() {
        terminal::news("Nothing re-ran yet: no commit wrote into what somebody had read.");
        return Ok(());
    }
    terminal::data(causes.iter().map(text).collect::<Vec<_>>().join("\n\n"));
    if causes.iter().any(|cause| !cause.reader.is_asked() || !cause.writer.is_asked()) {
        terminal::news("The lines of the older ones are found when you ask again.");
    }
    Ok(())
}

/// The sentence, and below it what was read and both lines.
fn text(cause: &Cause) -> String {
    let Cause { text, index, range, reader, writer } = cause;
    let mut lines = vec![text.clone()];
    if !index.is_empty() {
        lines.push(format!("  range {index}{range}"));
    }
    lines.extend([reader.line("read"), writer.line("written")]);
    lines.join("\n")
}

impl Party {
    fn is_asked(&self) -> bool {
        self.site.is_some() || self.note.is_some()
    }

    fn line(&self, verb: &str) -> String {
        let place = match (&self.site, &self.note) {
            (Some(Site { file, line, column, exact: true }), _) => {
                format!("at {file}:{line}:{column}")
            }
            (Some(Site { file, line, column, exact: false }), _) => {
                format!("by a package, in the function at {file}:{line}:{column}")
            }
            (None, Some(note)) => format!("at an unknown line: {note}"),
            (None, None) => "at a line not looked for yet".to_owned(),
        };
        match &*self.request_id {
            "" => format!("  {verb} {place}"),
            id => {
                let job = self.job.as_ref().map(|job| format!("{job}, ")).unwrap_or_default();
                format!("  {verb} {place} ({job}request {id})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cause_is_a_sentence_with_its_lines() {
        let site = json!({ "file": "convex/shop.ts", "line": 12, "column": 5, "exact": true });
        let mut cause = json!({
            "text": "getItems re-ran: addCart wrote items[remaining=10] inside the range it read",
            "index": "items.by_remaining",
            "range": "[remaining>0]",
            "reader": { "requestId": "1f", "site": site },
            "writer": { "requestId": "2e", "site": null, "note": "no longer kept" },
        });
        let said = |cause: &Value| text(&serde_json::from_value(cause.clone()).unwrap());
        let expected = [
            "getItems re-ran: addCart wrote items[remaining=10] inside the range it read",
            "  range items.by_remaining[remaining>0]",
            "  read at convex/shop.ts:12:5 (request 1f)",
            "  written at an unknown line: no longer kept (request 2e)",
        ];
        assert_eq!(said(&cause).lines().collect::<Vec<_>>(), expected);
        cause["writer"]["job"] = "scheduled".into();
        let by = "  written at an unknown line: no longer kept (scheduled, request 2e)";
        assert_eq!(said(&cause).lines().nth(3), Some(by));
        cause["reader"]["site"]["exact"] = false.into();
        let by = "  read by a package, in the function at convex/shop.ts:12:5 (request 1f)";
        assert_eq!(said(&cause).lines().nth(2), Some(by));
    }
}
