//! `concave export`: all data of a running host, as a zip in Convex's snapshot format.
//!
//! In: a file's name. Out: that file. Invariant: the file is there when it is whole, and not
//! before; no file that is there already is written over.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::client::{Client, ClientError};
use super::target::{Target, TargetError};
use super::terminal;

/// Write all data of a running host into a zip, as of one moment
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave export backup.zip                    documents and stored files
  concave export backup.zip --without-files    documents only
  concave export backups/                      a new file, named by its timestamp

The zip is Convex's own format: `concave import` and `npx convex import` read it.")]
pub struct Arguments {
    /// The zip to write, or a folder for it
    #[arg(value_name = "FILE.zip")]
    file: PathBuf,
    /// Leave stored files out
    #[arg(long)]
    without_files: bool,
    /// Export one component as if it were the app; default: the app and all components
    #[arg(long, value_name = "PATH")]
    component: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Why nothing was exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The host cannot read a stored file.
    #[error("{0} To export without stored files: --without-files.")]
    Files(ClientError),
    /// The file is there already.
    #[error("{} is there already. Delete it, or name another file.", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be written.
    #[error("Could not write {}: {cause}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
}

/// Exports.
///
/// # Errors
/// See [`ExportError`].
pub async fn run(arguments: Arguments) -> Result<(), ExportError> {
    let folder = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&folder)?)?;
    let file = arguments.file;
    if file.exists() && !file.is_dir() {
        return Err(ExportError::Exists { file });
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Started {
        start_ts: String,
    }
    let mut endpoint =
        format!("/api/export/request/zip?includeStorage={}", !arguments.without_files);
    if let Some(component) = &arguments.component {
        endpoint += &format!("&component={component}");
    }
    let Started { start_ts } = client.post(&endpoint, &Value::Null).await?;
    let file = match file.is_dir() {
        true => file.join(format!("snapshot_{start_ts}.zip")),
        false => file,
    };
    let size = download(&client, &format!("/api/export/zip/{start_ts}"), &file).await?;
    let size = indicatif::HumanBytes(size);
    terminal::news(format!("exported {} ({size}), as of {start_ts}", file.display()));
    Ok(())
}

/// Writes what an endpoint sends to a file; gives its size.
async fn download(client: &Client, endpoint: &str, file: &Path) -> Result<u64, ExportError> {
    let failed = |cause| ExportError::File { file: file.to_owned(), cause };
    if file.exists() {
        return Err(ExportError::Exists { file: file.to_owned() });
    }
    let draft = Draft::create(file).map_err(failed)?;
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{spinner} {bytes} exported, {bytes_per_sec}");
    bar.set_style(style.expect("the template is right"));
    let mut to = io::BufWriter::new(&draft.file);
    let taken = client.download(endpoint, |bytes| {
        bar.inc(bytes.len() as u64);
        to.write_all(bytes).map_err(failed)
    });
    match taken.await {
        Err(ExportError::Host(cut @ ClientError::Cut { .. })) => {
            return Err(reason(client, endpoint, cut).await);
        }
        taken => taken?,
    }
    to.flush().map_err(failed)?;
    drop(to);
    bar.finish_and_clear();
    draft.keep(file).map_err(failed)?;
    Ok(bar.position())
}

/// Why a stream was cut: a host that did it says so when it is asked again.
async fn reason(client: &Client, endpoint: &str, cut: ClientError) -> ExportError {
    match client.download(endpoint, |_| Err(None)).await {
        Err(Some(ClientError::Refused { status, code, message })) => {
            let is_file = ["FileDamaged", "FileNotFound"].contains(&&*code);
            let refused = ClientError::Refused { status, code, message };
            if is_file { ExportError::Files(refused) } else { refused.into() }
        }
        _ => cut.into(),
    }
}

/// A file that is not whole yet. Dropping it removes it.
struct Draft {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Draft {
    fn create(file: &Path) -> io::Result<Self> {
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        Ok(Self { file: File::create(&path)?, path, kept: false })
    }

    fn keep(mut self, file: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, file)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // It may be gone already.
            let _ = fs::remove_file(&self.path);
        }
    }
}
