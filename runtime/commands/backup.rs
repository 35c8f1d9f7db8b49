//! `concave backup`: a whole copy of a running host, as a data folder.
//!
//! In: a folder's name. Out: that folder: code, environment variables, documents, scheduled
//! functions, files, as of one moment. Invariant: the folder is there when it is whole.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;
use database::stored;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use storage::{CopyError, CopyFolder};
use thiserror::Error;

use super::client::{Client, ClientError};
use super::target::{Target, TargetError};
use super::terminal;

/// Copy everything of a running host into a new data folder, as of one moment
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concave backup backups/monday          beside the traffic; nobody waits for it
  concave serve --data backups/monday    serves the copy, scheduled functions included

For data alone, in a format that other programs read: concave export")]
pub struct Arguments {
    /// The folder to make
    folder: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum BackupError {
    /// No host is known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host could not be asked, or refused.
    #[error(transparent)]
    Host(#[from] ClientError),
    /// The copy cannot be made.
    #[error("Could not copy to {}: {}.", folder.display(), cause.to_string().trim_end_matches('.'))]
    Copy {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        cause: CopyError,
    },
}

/// Copies.
///
/// # Errors
/// See [`BackupError`].
pub async fn run(arguments: Arguments) -> Result<(), BackupError> {
    let here = env::current_dir().unwrap_or_default();
    let client = Client::new(arguments.target.resolve(&here)?)?;
    let (ts, size) = copy(&client, &arguments.folder).await?;
    let (folder, size) = (arguments.folder.display(), HumanBytes(size));
    terminal::news(format!("copied {} to {folder} ({size}), as of {ts}", client.url()));
    terminal::news(format!("serve it with: concave serve --data {}", terminal::word(folder)));
    Ok(())
}

/// Copies a host into a new data folder; gives the moment, and how many bytes came.
///
/// # Errors
/// See [`BackupError`].
pub(super) async fn copy(client: &Client, folder: &Path) -> Result<(u64, u64), BackupError> {
    let failed = |cause| BackupError::Copy { folder: folder.to_owned(), cause };
    let mut copy = CopyFolder::create(folder, stored::FORMAT).map_err(failed)?;
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{spinner} {bytes} copied, {bytes_per_sec}");
    bar.set_style(style.expect("the template is right"));
    let taken = client.download("/api/concave/copy", |bytes| {
        bar.inc(bytes.len() as u64);
        tokio::task::block_in_place(|| copy.take(bytes)).map_err(failed)
    });
    taken.await?;
    bar.finish_and_clear();
    let ts = tokio::task::block_in_place(|| copy.finish()).map_err(failed)?;
    Ok((ts, bar.position()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_one_end() {
        let cause = CopyError::Broken("it ends early");
        let error = BackupError::Copy { folder: "a".into(), cause };
        assert!(error.to_string().ends_with("it ends early."), "{error}");
        let cause = storage::FolderError::InUse { folder: "b".into() };
        let error = BackupError::Copy { folder: "a".into(), cause: cause.into() };
        assert!(error.to_string().ends_with("its own folder."), "{error}");
    }
}
