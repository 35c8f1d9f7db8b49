//! `concave import`: a zip, or a file of rows, into a running host.
//!
//! In: a file. Out: documents in tables, all of them or none. Invariant: nothing that is there is
//! deleted without a yes, typed or given with `--yes`.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::system::{SystemError, system};
use super::target::{Target, TargetError};
use super::terminal;

/// Bytes of one part of an upload.
const PART: u64 = 5 << 20;
/// Between two looks at how an import goes.
const LOOK: Duration = Duration::from_millis(100);
/// How files begin that some programs write.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Read a zip of `export`, or a file of rows, into a running host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave import backup.zip                      into empty tables; ids stay as they were
  concave import backup.zip --replace            instead of what those tables hold
  concave import messages.jsonl --table messages
  concave import people.csv --table people --append

Everything is imported, or nothing: documents must match the schema.")]
pub struct Arguments {
    /// A .zip, .jsonl, .json (one array) or .csv
    file: PathBuf,
    /// The table; for every format but zip
    #[arg(long)]
    table: Option<String>,
    /// How the file is written; default: what its name says
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Keep what the tables hold
    #[arg(long, conflicts_with_all = ["replace", "replace_all"])]
    append: bool,
    /// Delete what the imported tables hold
    #[arg(long, conflicts_with = "replace_all")]
    replace: bool,
    /// Delete what every table holds
    #[arg(long)]
    replace_all: bool,
    /// Import into this component
    #[arg(long, value_name = "PATH")]
    component: Option<String>,
    /// Do not ask before deleting
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    #[value(name = "csv")]
    Csv,
    #[value(name = "jsonLines", alias = "jsonl")]
    JsonLines,
    #[value(name = "jsonArray", alias = "json")]
    JsonArray,
    #[value(name = "zip")]
    Zip,
}

/// Why nothing was imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The host could not say how it goes.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The file cannot be read.
    #[error("Could not read {}: {cause}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Its name says nothing.
    #[error(
        "What kind of file {} is cannot be seen from its name. Say it with --format: csv, \
         jsonLines, jsonArray or zip.",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
    },
    /// A file of rows without a table, or a zip with one.
    #[error("{0}")]
    Table(&'static str),
    /// The host has read the file, or tried to.
    #[error("{}: {message}", file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Nobody can be asked.
    #[error("Documents would be deleted, and nobody is here to say yes. Give --yes.")]
    NotAsked,
    /// The answer was no.
    #[error("Nothing was imported.")]
    Declined,
}

/// Imports.
///
/// # Errors
/// See [`ImportError`].
pub async fn run(arguments: Arguments) -> Result<(), ImportError> {
    let folder = env::current_dir().unwrap_or_default();
    let format = format(&arguments)?;
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let id = upload(&client, &arguments, format).await?;
    let bar = ProgressBar::new_spinner().with_message("The host reads it");
    bar.enable_steady_tick(LOOK);
    let result = follow(&client, &arguments, &id, &bar).await;
    bar.finish_and_clear();
    let rows = result?;
    let rows = terminal::count(usize::try_from(rows).unwrap_or(usize::MAX), "document");
    terminal::news(format!("imported {rows} from {}", arguments.file.display()));
    Ok(())
}

/// What the file is, and whether a table belongs to it.
fn format(arguments: &Arguments) -> Result<Format, ImportError> {
    let file = &arguments.file;
    let extension = file.extension().map(|name| name.to_string_lossy().to_lowercase());
    let format = arguments.format.or(match extension.as_deref() {
        Some("csv") => Some(Format::Csv),
        Some("jsonl") => Some(Format::JsonLines),
        Some("json") => Some(Format::JsonArray),
        Some("zip") => Some(Format::Zip),
        _ => None,
    });
    let format = format.ok_or_else(|| ImportError::Format { file: file.clone() })?;
    match (format, &arguments.table) {
        (Format::Zip, Some(_)) => Err(ImportError::Table(
            "A zip names its own tables: leave --table out. For one table of it, unpack the zip.",
        )),
        (Format::Csv | Format::JsonLines | Format::JsonArray, None) => {
            Err(ImportError::Table("Say which table the documents go into, with --table NAME."))
        }
        _ => Ok(format),
    }
}

/// Sends the file in parts; gives the import's id.
async fn upload(
    client: &Client,
    arguments: &Arguments,
    format: Format,
) -> Result<String, ImportError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Started {
        upload_token: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Finished {
        import_id: String,
    }
    let path = &arguments.file;
    let failed = |cause| ImportError::File { file: path.clone(), cause };
    let size = fs::metadata(path).map_err(failed)?.len();
    let mut file = File::open(path).map_err(failed)?;
    let Started { upload_token } = client.post("/api/import/start_upload", &Value::Null).await?;
    let bar = ProgressBar::new(size);
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes} sent, {eta} left");
    bar.set_style(style.expect("the template is right"));
    let (mut tokens, most) = (Vec::<String>::new(), PART.max(size.div_ceil(9_000)));
    loop {
        let mut part = Vec::new();
        let read = Read::by_ref(&mut file).take(most).read_to_end(&mut part).map_err(failed)?;
        if read == 0 && !tokens.is_empty() {
            break;
        }
        if tokens.is_empty() && format != Format::Zip && part.starts_with(BYTE_ORDER_MARK) {
            part.drain(..BYTE_ORDER_MARK.len());
        }
        let number = tokens.len() + 1;
        let endpoint =
            format!("/api/import/upload_part?uploadToken={upload_token}&partNumber={number}");
        tokens.push(client.post_bytes(&endpoint, Bytes::from(part)).await?);
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    let import = json!({
        "tableName": arguments.table,
        "componentPath": arguments.component,
        "mode": mode(arguments),
        "format": format.to_possible_value().map(|value| value.get_name().to_owned()),
    });
    let body = json!({ "import": import, "uploadToken": upload_token, "partTokens": tokens });
    let Finished { import_id } = client.post("/api/import/finish_upload", &body).await?;
    Ok(import_id)
}

fn mode(arguments: &Arguments) -> &'static str {
    match (arguments.append, arguments.replace, arguments.replace_all) {
        (true, _, _) => "append",
        (_, true, _) => "replace",
        (_, _, true) => "replaceAll",
        _ => "requireEmpty",
    }
}

/// Waits for the end of an import, and confirms it on the way; gives how many documents it brought.
async fn follow(
    client: &Client,
    arguments: &Arguments,
    id: &str,
    bar: &ProgressBar,
) -> Result<u64, ImportError> {
    let named = json!({ "importId": id });
    let mut is_confirmed = false;
    loop {
        let import = system(client, "queryImport", named.clone()).await?;
        let state = &import["state"];
        let text = |field: &str| state[field].as_str().unwrap_or_default().to_owned();
        match state["state"].as_str().unwrap_or_default() {
            "completed" => return Ok(integer(&state["num_rows_written"])),
            "failed" => {
                let file = Path::to_owned(&arguments.file);
                return Err(ImportError::Failed { file, message: text("error_message") });
            }
            "waiting_for_confirmation" if !is_confirmed => {
                let deletes = state["require_manual_confirmation"] == Value::Bool(true);
                let question = text("message_to_confirm");
                let agreed = bar.suspend(|| agree(&question, deletes && !arguments.yes));
                if let Err(error) = agreed {
                    client.post::<Value>("/api/cancel_import", &named).await?;
                    return Err(error);
                }
                client.post::<Value>("/api/perform_import", &named).await?;
                is_confirmed = true;
            }
            "in_progress" => bar.set_message(text("progress_message")),
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Shows what will change, and asks where something would be lost.
fn agree(question: &str, asks: bool) -> Result<(), ImportError> {
    terminal::news(question);
    if !asks {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ImportError::NotAsked);
    }
    terminal::news("Perform the import? [y/N]");
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ImportError::Declined),
    }
}

/// A count, as encoded JSON writes an int64.
fn integer(value: &Value) -> u64 {
    let text = value.to_string();
    match database::json::decode(&text) {
        Ok(database::value::Value::Int64(number)) => number.unsigned_abs(),
        _ => 0,
    }
}
