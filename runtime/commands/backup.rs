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
  concave backup --without-damaged-files backups/rest   all but files that the disk has lost

For data alone, in a format that other programs read: concave export")]
pub struct Arguments {
    /// The folder to make
    folder: PathBuf,
    /// Go on without stored files that are damaged or missing, and name them
    #[arg(long)]
    without_damaged_files: bool,
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
    /// The host cannot read a stored file.
    #[error(
        "Nothing was copied to {}: {why} To copy everything but such files: concave backup \
         --without-damaged-files.", folder.display()
    )]
    File {
        /// The folder.
        folder: PathBuf,
        /// Which file, and why.
        why: String,
    },
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
    let Copied { ts, bytes, left_out } =
        copy(&client, &arguments.folder, arguments.without_damaged_files).await?;
    let (folder, size) = (arguments.folder.display(), HumanBytes(bytes));
    left_out.iter().for_each(|why| terminal::warning(format!("Not in the copy: {why}")));
    terminal::news(format!("copied {} to {folder} ({size}), as of {ts}", client.url()));
    terminal::news(format!("serve it with: concave serve --data {}", terminal::word(folder)));
    Ok(())
}

/// What came of a copy.
pub(super) struct Copied {
    /// Its moment.
    pub(super) ts: u64,
    bytes: u64,
    /// Why files are not in it.
    left_out: Vec<String>,
}

/// Copies a host into a new data folder, without files that it cannot read if they may be missing.
///
/// # Errors
/// See [`BackupError`].
pub(super) async fn copy(
    client: &Client,
    folder: &Path,
    may_lack_files: bool,
) -> Result<Copied, BackupError> {
    let failed = |cause| match cause {
        CopyError::Unreadable(why) => BackupError::File { folder: folder.to_owned(), why },
        cause => BackupError::Copy { folder: folder.to_owned(), cause },
    };
    let mut copy = CopyFolder::create(folder, stored::FORMAT).map_err(failed)?;
    if may_lack_files {
        copy = copy.without_unreadable();
    }
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{spinner} {bytes} copied, {bytes_per_sec}");
    bar.set_style(style.expect("the template is right"));
    let taken = client.download("/api/concave/copy", |bytes| {
        bar.inc(bytes.len() as u64);
        tokio::task::block_in_place(|| copy.take(bytes)).map_err(failed)
    });
    taken.await?;
    bar.finish_and_clear();
    let left_out = copy.left_out().to_vec();
    let ts = tokio::task::block_in_place(|| copy.finish()).map_err(failed)?;
    Ok(Copied { ts, bytes: bar.position(), left_out })
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
