//! `concave calls`: the last calls of a running host, each of which can be run again.
//!
//! In: which calls. Out: a line for each, or all that is known of one. Invariant: what `--json`
//! writes of one call is the recording that `concave replay` takes.

use std::env;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use database::record::full_name;
use serde_json::Value;
use thiserror::Error;

use super::client::{Client, ClientError, escaped};
use super::target::{Target, TargetError};
use super::terminal;

/// List the last calls of a running host, with what it takes to run each again
#[derive(Debug, Args)]
#[command(after_help = "\
The host keeps the last calls of queries, mutations and actions (CALLS and CALLS_BYTES of `concave
limits`), each with a number.

Examples:
  concave calls                             the newest, newest last
  concave calls -n 200 --function shop: --outcome error
  concave calls 17                          all that is known of one
  concave calls 17 --json > call.json       to keep it: concave replay call.json
  concave calls --json | jq -r '.[] | .function' | sort | uniq -c")]
pub struct Arguments {
    /// Only this call, with all that is known of it
    id: Option<u64>,
    /// Show at most this many calls
    #[arg(short, default_value_t = 20, value_name = "COUNT")]
    n: usize,
    /// Only functions whose name (dir/module:name) has this in it
    #[arg(long, value_name = "TEXT")]
    function: Option<String>,
    /// Only calls that ended so
    #[arg(long)]
    outcome: Option<Ended>,
    /// Only calls that came with this request, those that an action made among them
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// A JSON array of recordings, newest first; of one call its recording alone
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ended {
    /// With a result.
    Success,
    /// With an error of the function.
    Error,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum CallsError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
}

/// Prints calls.
///
/// # Errors
/// See [`CallsError`].
pub async fn run(arguments: Arguments) -> Result<(), CallsError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    if let Some(id) = arguments.id {
        let call = recording(&client, id).await?;
        terminal::data(if arguments.json { pretty(&call) } else { in_full(&call) });
        return Ok(());
    }
    let mut found: Value = client.get(&endpoint(&arguments)).await?;
    let calls = found["calls"].take();
    if arguments.json {
        terminal::data(pretty(&calls));
        return Ok(());
    }
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    if calls.is_empty() {
        terminal::news("No such call is kept. A host keeps those since it started.");
        return Ok(());
    }
    terminal::data(calls.iter().rev().map(line).collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// The recording of a call that a running host keeps.
///
/// # Errors
/// A host that cannot be asked, or that does not keep it.
pub(super) async fn recording(client: &Client, id: u64) -> Result<Value, ClientError> {
    let mut found: Value = client.get(&format!("/api/concave/calls?id={id}")).await?;
    Ok(found["calls"][0].take())
}

fn endpoint(arguments: &Arguments) -> String {
    let Arguments { n, function, outcome, request, .. } = arguments;
    let mut endpoint = format!("/api/concave/calls?n={n}");
    let outcome = outcome.map(|outcome| match outcome {
        Ended::Success => "success".to_owned(),
        Ended::Error => "error".to_owned(),
    });
    for (name, value) in [("function", function), ("request", request), ("outcome", &outcome)] {
        if let Some(value) = value {
            endpoint.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    endpoint
}

/// What goes before a list of calls and of one: number, moment, kind, function, argument.
pub(super) fn title(call: &Value) -> String {
    let component = call["component"].as_str().unwrap_or_default();
    let name = full_name(component, &text(&call["function"]));
    let argument = match call["omitted"].as_u64() {
        Some(bytes) => format!("{bytes} bytes, not kept"),
        None => clipped(&call["args"].to_string(), 60),
    };
    format!("{name}({argument})")
}

fn line(call: &Value) -> String {
    let end = match call["error"]["message"].as_str() {
        Some(message) => clipped(message.lines().next().unwrap_or_default(), 80),
        None => clipped(&call["result"].to_string(), 40),
    };
    let mark = if call["error"].is_null() { "→" } else { "✗" };
    format!(
        "{:>6}  {}  {:<8}  {} {mark} {end}  {}",
        text(&call["id"]),
        moment(&call["begun"]),
        text(&call["kind"]),
        title(call),
        remarks(call)
    )
}

/// How long it took, and whatever is unusual.
fn remarks(call: &Value) -> String {
    let mut remarks = vec![format!("{:.1} ms", call["milliseconds"].as_f64().unwrap_or_default())];
    if call["cached"] == true {
        remarks.push("from the cache".to_owned());
    }
    match call["retries"].as_u64() {
        Some(1) => remarks.push("1 retry".to_owned()),
        Some(more @ 2..) => remarks.push(format!("{more} retries")),
        _ => {}
    }
    remarks.join(", ")
}

fn in_full(call: &Value) -> String {
    let mut lines = vec![
        format!("{} {}, {}", text(&call["kind"]), title(call), remarks(call)),
        format!(
            "  {} by {} over {}, request {}",
            moment(&call["begun"]),
            text(&call["identity"]),
            text(&call["caller"]),
            text(&call["requestId"])
        ),
        format!("  args       {}", call["args"]),
        format!("  snapshot   {}", text(&call["snapshot"])),
        format!("  committed  {}", text(&call["committed"])),
        format!("  code       {}", text(&call["code"])),
        format!("  time       {}", moment(&call["now"])),
        format!("  seed       {}", text(&call["seed"])),
    ];
    match call["error"]["message"].as_str() {
        Some(message) => lines.push(format!("  error      {}", indented(message))),
        None => lines.push(format!("  result     {}", call["result"])),
    }
    for (title, field) in [("read", "reads"), ("logged", "logs")] {
        let all = call[field].as_array().into_iter().flatten();
        lines.extend(all.map(|item| format!("  {title:<9}  {}", indented(&text(item)))));
    }
    match call["writes"].as_array() {
        Some(writes) => lines.extend(writes.iter().map(|w| format!("  wrote      {}", wrote(w)))),
        None => lines.push("  wrote      (the history no longer says what)".to_owned()),
    }
    if call["kind"] != "action" {
        lines.push(format!("  again      concave replay {}", text(&call["id"])));
    }
    lines.join("\n")
}

/// One write: `accounts j57…: {…} → {…}`.
pub(super) fn wrote(write: &Value) -> String {
    let version = |version: &Value, none: &str| match version {
        Value::Null => none.to_owned(),
        document => document.to_string(),
    };
    format!(
        "{} {}: {} → {}",
        text(&write["table"]),
        text(&write["id"]),
        version(&write["before"], "nothing"),
        version(&write["after"], "deleted")
    )
}

/// The text of a JSON string, or the JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n             ")
}

/// A moment of nanoseconds since 1970 as people read it.
pub(super) fn moment(nanoseconds: &Value) -> String {
    let nanoseconds: i64 = text(nanoseconds).parse().unwrap_or_default();
    let moment: DateTime<Utc> = DateTime::from_timestamp_nanos(nanoseconds);
    moment.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON that was read can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_one_line() {
        let mut call = json!({
            "id": "17", "function": "shop:buy", "component": "", "kind": "mutation",
            "args": { "item": "pin" }, "begun": "1700000000123000000", "milliseconds": 1.25,
            "cached": false, "retries": 2, "result": null, "error": null,
        });
        let expected = "    17  2023-11-14 22:13:20.123  mutation  shop:buy({\"item\":\"pin\"}) → \
                        null  1.2 ms, 2 retries";
        assert_eq!(line(&call), expected);
        call["error"] = json!({ "message": "Uncaught Error: sold out\n    at buy (…)" });
        call["component"] = "store".into();
        call["omitted"] = 9.into();
        let said = line(&call);
        assert!(said.contains("store/shop:buy(9 bytes, not kept) ✗ Uncaught Error: sold out  "));
    }
}
