//! `concave limits`: the table that the database, the functions and the server enforce.
//!
//! In: nothing. Out: every limit with its number, unit and reason.
//! Invariant: what is printed is the table that the code reads its numbers from.

use clap::Args;
use database::limits::{Limit, TABLE, Unit};
use serde_json::json;

use super::terminal;

/// Print every limit: what it bounds, how far, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave limits
  concave limits --json | jq '.[] | select(.unit == \"bytes\")'")]
pub struct Arguments {
    /// A JSON array of {name, value, unit, reason, error}
    #[arg(long)]
    json: bool,
}

/// Prints the table.
pub fn run(arguments: &Arguments) {
    terminal::data(if arguments.json { as_json() } else { as_text() });
}

fn as_json() -> String {
    let rows: Vec<_> = TABLE
        .iter()
        .map(|limit| {
            json!({
                "name": limit.name, "value": limit.value, "unit": unit(limit.unit),
                "reason": limit.reason, "error": limit.error,
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("plain text and numbers serialise")
}

/// Name, number and unit in columns, the reason below each.
fn as_text() -> String {
    let widest = |width: fn(&Limit) -> usize| TABLE.iter().map(width).max().unwrap_or_default();
    let (names, values) = (widest(|l| l.name.len()), widest(|l| grouped(l.value).len()));
    let rows = TABLE.iter().map(|limit| {
        let (name, value, unit) = (limit.name, grouped(limit.value), unit(limit.unit));
        format!("{name:names$}  {value:>values$} {unit}\n    {}", limit.reason)
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "ms",
        Unit::Count => "",
    }
}

/// `16000000` as `16,000,000`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!([0, 999, 1000, 16_777_216].map(grouped), ["0", "999", "1,000", "16,777,216"]);
    }

    #[test]
    fn both_forms_hold_every_limit() {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&as_json()).unwrap();
        assert_eq!(rows.len(), TABLE.len());
        let text = as_text();
        assert!(TABLE.iter().all(|limit| text.contains(limit.name)));
        assert_eq!(text.lines().count(), 2 * TABLE.len());
    }
}
