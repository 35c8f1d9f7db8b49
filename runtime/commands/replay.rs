//! `concave replay`: a recorded call, run again against its snapshot, and both compared.
//!
//! In: a recording, and the code of then or that of a folder. Out: what differs of result, reads,
//! writes, log lines and errors. Invariant: nothing is written, here or on the host; two executions
//! that the host cannot tell apart are called the same.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use thiserror::Error;

use super::calls::{self, moment, text, title, wrote};
use super::client::{Client, ClientError};
use super::inspect::{self, InspectError};
use super::push::{PushError, Pusher};
use super::target::{Target, TargetError};
use super::terminal;

/// Run a recorded call again against its snapshot, and say what differs
#[derive(Debug, Args)]
#[command(after_help = "\
The call gets what it got then: the same snapshot, time, randomness, identity and arguments. Nothing
is committed. Exit code 0: it behaved the same; 1: it did not; 2: it could not be run.

Examples:
  concave replay 17                     call 17 of `concave calls`, with the code in this folder
  concave replay 17 --old               with the code that was deployed then
  concave replay call.json ../other     a recording that `concave calls 17 --json` wrote
  concave replay 17 --inspect           stops in its first line: chrome://inspect shows it
  concave replay 17 --json | jq .different")]
pub struct Arguments {
    /// The number of a call, or a file with its recording
    record: String,
    /// The app whose code to run: a folder with package.json, or its convex/ folder
    #[arg(default_value = ".", conflicts_with = "old")]
    dir: PathBuf,
    /// Run the code that was deployed when the call ran
    #[arg(long)]
    old: bool,
    /// Wait for Chrome DevTools (or another debugger) at this port of 127.0.0.1, and stop in the
    /// first line
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "9229")]
    inspect: Option<u16>,
    /// A JSON object {recording, replayed, different}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why there is nothing to compare, or what the comparison says.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The code of the folder cannot be had.
    #[error(transparent)]
    Code(#[from] PushError),
    /// The recording cannot be read.
    #[error(
        "{record} is neither the number of a call, as `concave calls` lists them, nor a file with \
         a recording: {cause}."
    )]
    Recording {
        /// What was given.
        record: String,
        /// Why not.
        cause: String,
    },
    /// It could not be debugged.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The two executions differ.
    #[error("It behaved differently: {}.", .different.join(", "))]
    Different {
        /// In what.
        different: Vec<&'static str>,
    },
}

/// What is compared: its name for people, and the field of a recording.
const COMPARED: [(&str, &str); 5] = [
    ("result", "result"),
    ("error", "error"),
    ("reads", "reads"),
    ("writes", "writes"),
    ("log lines", "logs"),
];

/// Runs the call again and prints what differs.
///
/// # Errors
/// See [`ReplayError`].
pub async fn run(arguments: Arguments) -> Result<(), ReplayError> {
    let Arguments { record, dir, old, inspect, json, target } = arguments;
    let here = env::current_dir().unwrap_or_default();
    let mut pusher = if old { None } else { Some(Pusher::new(&dir)?) };
    let folder = pusher.as_ref().map_or(here, |pusher| pusher.project().root.clone());
    let client = Client::new(target.resolve(&folder)?)?;
    let recording = recording(&client, &record).await?;
    let push = pusher.as_mut().map(|pusher| pusher.request(client.admin_key())).transpose()?;
    let asked = json!({ "recording": recording, "push": push });
    let replayed: Value = match inspect {
        Some(port) => inspect::run(&client, port, &asked, title(&recording)).await?,
        None => client.post_compressed("/api/concave/replay", &asked).await?,
    };
    let different = different(&recording, &replayed, old);
    if json {
        let told = json!({ "recording": recording, "replayed": replayed, "different": different });
        terminal::data(serde_json::to_string_pretty(&told).unwrap_or_default());
    } else {
        terminal::data(report(&recording, &replayed, &different, old));
    }
    match different.is_empty() {
        true => Ok(()),
        false => Err(ReplayError::Different { different }),
    }
}

/// The recording that is meant.
async fn recording(client: &Client, record: &str) -> Result<Value, ReplayError> {
    if let Ok(id) = record.parse() {
        return Ok(calls::recording(client, id).await?);
    }
    let unusable = |cause: String| ReplayError::Recording { record: record.to_owned(), cause };
    let text = std::fs::read_to_string(Path::new(record)).map_err(|e| unusable(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| unusable(format!("it is no JSON: {e}")))
}

/// The names of what differs.
fn different(recording: &Value, replayed: &Value, old: bool) -> Vec<&'static str> {
    let differs = |field: &str| {
        let (then, now) = (&recording[field], &replayed[field]);
        match field {
            "error" => said(then, old) != said(now, old) || then["data"] != now["data"],
            // What the history no longer has is compared by its hash.
            "writes" if then.is_null() => recording["writesDigest"] != replayed["writesDigest"],
            _ => then != now,
        }
    };
    COMPARED.iter().filter(|(_, field)| differs(field)).map(|(name, _)| *name).collect()
}

/// An error's text; of other code without its frames, whose lines may have moved.
fn said(error: &Value, with_frames: bool) -> Vec<&str> {
    let lines = error["message"].as_str().unwrap_or_default().lines();
    lines.filter(|line| with_frames || !line.starts_with("    at ")).collect()
}

fn report(recording: &Value, replayed: &Value, different: &[&str], old: bool) -> String {
    let code = text(&replayed["code"]);
    let with = match (old, recording["code"] == replayed["code"]) {
        (true, _) => format!("the code of then, {code}"),
        (false, true) => format!("the code of this folder, {code}, which is the code of then"),
        (false, false) => {
            format!("the code of this folder, {code}; then it was {}", text(&recording["code"]))
        }
    };
    let mut lines = vec![
        format!(
            "{} {} of {}, request {}",
            text(&recording["kind"]),
            title(recording),
            moment(&recording["begun"]),
            text(&recording["requestId"])
        ),
        format!("run again at its snapshot {} with {with}", text(&recording["snapshot"])),
    ];
    for (name, field) in COMPARED {
        let (then, now) = (items(recording, field), items(replayed, field));
        if !different.contains(&name) {
            continue;
        }
        lines.push(format!("{name} differ{}:", if name.ends_with('s') { "" } else { "s" }));
        lines.extend(changes(&then, &now));
    }
    let same: Vec<_> =
        COMPARED.iter().map(|(name, _)| *name).filter(|name| !different.contains(name)).collect();
    if !same.is_empty() {
        lines.push(format!("the same: {}", same.join(", ")));
    }
    lines.join("\n")
}

/// What is compared of an execution, in lines.
fn items(of: &Value, field: &str) -> Vec<String> {
    match (field, &of[field]) {
        ("result", _) if !of["error"].is_null() => vec!["(no result)".to_owned()],
        ("writes", Value::Null) => vec!["(the history no longer says what was written)".to_owned()],
        ("writes", Value::Array(writes)) => writes.iter().map(wrote).collect(),
        (_, Value::Array(all)) if field != "result" => all.iter().map(text).collect(),
        ("error", Value::Null) => vec!["(no error)".to_owned()],
        ("error", error) => {
            let message = text(&error["message"]);
            let data = (!error["data"].is_null()).then(|| format!("data {}", error["data"]));
            message.trim_end().lines().map(str::to_owned).chain(data).collect()
        }
        (_, value) => vec![value.to_string()],
    }
}

/// Both lists as one, each line marked with where it is: the longest common part stays.
fn changes(then: &[String], now: &[String]) -> Vec<String> {
    let (rows, columns) = (then.len(), now.len());
    // longest[a][b]: of what follows a in the one and b in the other.
    let mut longest = vec![vec![0_usize; columns + 1]; rows + 1];
    for a in (0..rows).rev() {
        for b in (0..columns).rev() {
            longest[a][b] = match then[a] == now[b] {
                true => longest[a + 1][b + 1] + 1,
                false => longest[a + 1][b].max(longest[a][b + 1]),
            };
        }
    }
    let (mut a, mut b, mut lines) = (0, 0, Vec::new());
    while a < rows || b < columns {
        if a < rows && b < columns && then[a] == now[b] {
            lines.push(format!("    {}", then[a]));
            (a, b) = (a + 1, b + 1);
        } else if b == columns || (a < rows && longest[a + 1][b] >= longest[a][b + 1]) {
            lines.push(format!("  - {}", then[a]));
            a += 1;
        } else {
            lines.push(format!("  + {}", now[b]));
            b += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: Value, logs: &[&str]) -> Value {
        json!({
            "result": result, "error": null, "reads": ["items.by_id[all]"], "writes": null,
            "writesDigest": "0", "logs": logs,
        })
    }

    #[test]
    fn what_differs_is_named_and_shown_line_by_line() {
        let (then, now) = (of(json!(1), &["a", "b", "c"]), of(json!(2), &["a", "c", "d"]));
        assert_eq!(different(&then, &now, true), ["result", "log lines"]);
        assert!(different(&then, &then, true).is_empty());
        let said = report(&then, &now, &["result", "log lines"], true);
        let tail: Vec<_> = said.lines().skip(2).collect();
        let expected = [
            "result differs:",
            "  - 1",
            "  + 2",
            "log lines differ:",
            "    a",
            "  - b",
            "    c",
            "  + d",
            "the same: error, reads, writes",
        ];
        assert_eq!(tail, expected);
    }

    #[test]
    fn frames_count_only_where_the_code_is_the_same() {
        let thrown = |line: u32| {
            let message = format!("Uncaught Error: no\n    at buy (../convex/shop.ts:{line}:1)\n");
            json!({ "error": { "message": message, "data": null } })
        };
        assert!(different(&thrown(3), &thrown(4), false).is_empty());
        assert_eq!(different(&thrown(3), &thrown(4), true), ["error"]);
    }

    #[test]
    fn writes_that_are_forgotten_are_compared_by_hash() {
        let then = of(Value::Null, &[]);
        let now = json!({ "writes": [], "writesDigest": "1", "reads": then["reads"], "logs": [] });
        assert_eq!(different(&then, &now, true), ["writes"]);
    }
}
