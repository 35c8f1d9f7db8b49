//! `concave data`: look at the tables of a running host.
//!
//! In: a table's name, or none. Out: documents, or the list of tables.
//! Invariant: what is shown of a document is what is stored, in Convex's encoded JSON.

use std::collections::BTreeSet;
use std::env;

use clap::{Args, ValueEnum};
use console::Term;
use serde_json::{Value, json};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::system::{SystemError, system_in};
use super::target::{Target, TargetError};
use super::terminal;

/// List the tables of a running host, or the documents of one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave data                          tables and how many documents each holds
  concave data messages --limit 10      the ten newest
  concave data _scheduled_functions     what is scheduled, and what came of it
  concave data _cron_jobs               when cron jobs run next, and how they ended last
  concave data --component workflow/workpool        the tables of a component in another
  concave data items --jsonl > items.jsonl")]
pub struct Arguments {
    /// The table; without it, the list of tables
    table: Option<String>,
    /// Of this component: the names joined by "/", like workflow/workpool
    #[arg(long, value_name = "PATH")]
    component: Option<String>,
    /// Show at most this many documents
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Creation order: desc shows the newest first
    #[arg(long, value_enum, default_value_t = Order::Desc)]
    order: Order,
    /// One JSON array
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// One JSON object a line; the default where the output is not a terminal
    #[arg(long)]
    jsonl: bool,
    #[command(flatten)]
    target: Target,
}

/// Order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub enum DataError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No such address.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// No table of that name.
    #[error("There is no table {table:?}. Tables of {owner}: {known}.")]
    NoTable {
        /// What was asked for.
        table: String,
        /// The deployment, or a component.
        owner: String,
        /// The names there are.
        known: String,
    },
    /// The host's own function failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// The host's own tables.
const HOST_TABLES: [&str; 5] =
    ["_scheduled_functions", "_cron_jobs", "_storage", "_exports", "_snapshot_imports"];

/// Most documents of one request.
const PAGE: u64 = 1000;
/// Most columns of terminal that one field of a document may take.
const FIELD_WIDTH: usize = 40;

/// Prints the tables, or one table's documents.
///
/// # Errors
/// See [`DataError`].
pub async fn run(arguments: Arguments) -> Result<(), DataError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let rows = match &arguments.table {
        None => tables(&client, arguments.component.as_deref()).await?,
        Some(table) => documents(&client, table, &arguments).await?,
    };
    let text = if arguments.json {
        serde_json::to_string_pretty(&rows).expect("JSON that was read can be written")
    } else if arguments.jsonl || !Term::stdout().is_term() {
        rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    } else if rows.is_empty() {
        "Nothing here yet.".to_owned()
    } else {
        grid(&rows)
    };
    if !text.is_empty() {
        terminal::data(text);
    }
    Ok(())
}

/// `{name, documents}` of each table.
async fn tables(client: &Client, component: Option<&str>) -> Result<Vec<Value>, DataError> {
    let mut rows = Vec::new();
    for name in table_names(client, component).await? {
        let args = json!({ "tableName": name });
        let size = system_in(client, component, "tableSize:default", args).await?;
        // A count is a whole number, however the encoding writes it.
        let documents = size.as_f64().unwrap_or_default() as u64;
        rows.push(json!({ "name": name, "documents": documents }));
    }
    Ok(rows)
}

async fn table_names(client: &Client, component: Option<&str>) -> Result<Vec<String>, DataError> {
    let options = json!({ "paginationOpts": { "cursor": null, "numItems": 10_000 } });
    let answer = system_in(client, component, "tables", options).await?;
    let tables = answer["page"].as_array().into_iter().flatten();
    Ok(tables.filter_map(|table| Some(table["name"].as_str()?.to_owned())).collect())
}

async fn documents(
    client: &Client,
    table: &str,
    arguments: &Arguments,
) -> Result<Vec<Value>, DataError> {
    let component = arguments.component.as_deref();
    let known = table_names(client, component).await?;
    // The host's own are not listed, and shown to whoever asks by name.
    if !known.iter().any(|name| name == table) && !HOST_TABLES.contains(&table) {
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let owner = match component {
            None | Some("") => "this deployment".to_owned(),
            Some(component) => format!("the component {component:?}"),
        };
        return Err(DataError::NoTable { table: table.to_owned(), owner, known });
    }
    let order = if arguments.order == Order::Asc { "asc" } else { "desc" };
    let (mut rows, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let wanted = (arguments.limit - rows.len() as u64).min(PAGE);
        let options = json!({ "cursor": cursor, "numItems": wanted });
        let args = json!({ "table": table, "order": order, "paginationOpts": options });
        let mut page = system_in(client, component, "tableData", args).await?;
        if let Value::Array(documents) = page["page"].take() {
            rows.extend(documents);
        }
        if page["isDone"] != Value::Bool(false) || rows.len() as u64 >= arguments.limit {
            return Ok(rows);
        }
        cursor = page["continueCursor"].take();
    }
}

/// Columns under names, each as wide as its widest field, up to a limit.
fn grid(rows: &[Value]) -> String {
    let columns = columns(rows);
    let mut lines = vec![columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    let field = |row: &Value, name: &&str| row.get(*name).map(shown).unwrap_or_default();
    lines.extend(rows.iter().map(|row| columns.iter().map(|name| field(row, name)).collect()));
    let width = |at: usize| {
        lines.iter().map(|line| console::measure_text_width(&line[at])).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(text, &width)| {
            console::pad_str(text, width, console::Alignment::Left, None).into_owned()
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}

/// The id first, then the fields by name, the creation time last.
fn columns(rows: &[Value]) -> Vec<&str> {
    let names = rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys());
    let mut columns: Vec<_> =
        names.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
    columns.sort_by_key(|name| match *name {
        "_id" | "name" => 0,
        "_creationTime" => 2,
        _ => 1,
    });
    columns
}

/// One field in one line.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.replace('\n', "⏎"),
        other => other.to_string(),
    };
    console::truncate_str(&text, FIELD_WIDTH, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_missing_fields_stay_empty() {
        let rows = [
            json!({ "_id": "k1", "_creationTime": 1.5, "body": "hé", "n": { "$integer": "AA==" } }),
            json!({ "_id": "k2", "_creationTime": 2.0, "body": "two\nlines" }),
        ];
        let expected = [
            r#"_id  body       n                    _creationTime"#,
            r#"k1   hé         {"$integer":"AA=="}  1.5"#,
            r#"k2   two⏎lines                       2.0"#,
        ];
        assert_eq!(grid(&rows).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_fields_are_cut() {
        assert_eq!(console::measure_text_width(&shown(&json!("x".repeat(99)))), FIELD_WIDTH);
        assert!(shown(&json!("x".repeat(99))).ends_with('…'));
    }
}
