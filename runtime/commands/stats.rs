//! `concave stats`: where a running host's memory and work go.
//!
//! In: a host. Out: its figures, for people or as JSON.
//! Invariant: text and JSON say the same; a figure that this version does not know is shown too.

use std::env;
use std::ops::RangeInclusive;

use clap::Args;
use console::{Alignment, measure_text_width, pad_str};
use serde_json::{Map, Value};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::target::{Target, TargetError};
use super::terminal;
use crate::memory::Size;

/// Show where a running host's memory, history and work are
#[derive(Debug, Args)]
#[command(after_help = "\
The same figures are at /metrics for Prometheus, with the admin key:
  authorization: { type: Convex, credentials: 'concave|…' }

Examples:
  concave stats
  concave stats --json | jq .memory.resident")]
pub struct Arguments {
    /// A JSON object {memory, history, work, calls, contexts}: bytes, nanoseconds, counts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum StatsError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
}

/// Prints the figures.
///
/// # Errors
/// See [`StatsError`].
pub async fn run(arguments: Arguments) -> Result<(), StatsError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let found: Map<String, Value> = client.get("/api/concave/stats").await?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&found);
        terminal::data(text.expect("JSON that was read can be written"));
        return Ok(());
    }
    terminal::data(text(&found));
    Ok(())
}

/// Least and most columns of terminal for the names of one group, a space after them included.
const NAMES_WIDTH: RangeInclusive<usize> = 18..=50;

/// One line a figure, in groups; a name that is longer than its column has a line of its own.
fn text(groups: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (group, figures) in groups {
        lines.push(group.clone());
        let figures = || figures.as_object().into_iter().flatten();
        let widths = figures().map(|(name, _)| measure_text_width(name) + 1);
        let widest = widths.filter(|width| NAMES_WIDTH.contains(width)).max();
        let column = widest.unwrap_or(*NAMES_WIDTH.start());
        for (name, value) in figures() {
            let mut named = pad_str(name, column, Alignment::Left, None);
            if measure_text_width(name) >= column {
                lines.push(format!("  {name}"));
                named = " ".repeat(column).into();
            }
            lines.push(format!("  {named}{}", shown(group, name, value)));
        }
    }
    lines.join("\n")
}

fn is_size(group: &str, name: &str) -> bool {
    group == "memory" || name == "logRoom" || name.to_lowercase().ends_with("bytes")
}

fn shown(group: &str, name: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if is_size(group, name) => {
            number.as_u64().map_or_else(|| number.to_string(), |bytes| Size(bytes).to_string())
        }
        Value::String(text) => text.clone(),
        Value::Object(counts) => {
            let shown = counts.iter().filter(|(_, count)| count.as_u64() != Some(0));
            let shown: Vec<_> = shown.map(|(end, count)| format!("{count} {end}")).collect();
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_with_units() {
        let found = r#"{"memory": {"resident": 1572864, "pressure": "calm"}, "disk":
            {"bytes": 2097152, "logBytes": 20971520, "logRoom": 16777216},
            "work": {"conflicts": 3}, "calls": {
            "query": {"ok": 5, "cached": 2, "error": 0}, "action": {"ok": 0}}}"#;
        let expected = "memory\n  resident          1.5 MiB\n  pressure          calm\n\
            disk\n  bytes             2.0 MiB\n  logBytes          20 MiB\n\
            \x20 logRoom           16 MiB\n\
            work\n  conflicts         3\n\
            calls\n  query             5 ok, 2 cached\n  action            none";
        assert_eq!(text(&serde_json::from_str(found).unwrap()), expected);
    }

    #[test]
    fn names_of_any_length_stay_apart_from_what_is_said_of_them() {
        let lines = |names: &[&str]| {
            let figures = names.iter().map(|name| ((*name).to_owned(), "fresh".into()));
            let contexts = Value::Object(figures.collect());
            let text = text(&Map::from_iter([("contexts".to_owned(), contexts)]));
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        // A column ends at the 18th, or as far as a longer name goes.
        assert_eq!(lines(&["seventeen letters"]), ["  seventeen letters fresh"]);
        assert_eq!(
            lines(&["eighteen letters 8", "short", "wörkflow"]),
            [
                "  eighteen letters 8 fresh",
                "  short              fresh",
                "  wörkflow           fresh"
            ]
        );
        let long = "x".repeat(50);
        let [first, named, said] = &lines(&["short", &long])[..] else { panic!() };
        assert_eq!(
            [first, named, said].map(|line| line.trim_end()),
            ["  short             fresh", &format!("  {long}"), &format!("{:20}fresh", "")]
        );
    }
}
