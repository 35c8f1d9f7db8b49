//! A host's data in a folder: opened, recovered, kept.
//!
//! ```text
//!   commit ─▶ committer.rs (a thread: one sync for all that wait) ─▶ LogStore ─▶ made durable
//!                                  checkpointer.rs (a thread, beside it) ─▶ LogStore
//!   start  ─▶ recovery.rs: checkpoint, then the log after it ─▶ Database
//! ```
//! In: a folder. Out: a [`Database`] whose commits are kept in it, and what keeps them. Invariant:
//! what the folder promised is there when it is opened, or it is not opened.

mod checkpointer;
mod committer;
mod recovery;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use database::commit::{Database, Options as DatabaseOptions};
use database::stored;
use server::{Disk, essential};
use storage::{
    BlobError, BlobStore as _, DataFolder, FolderError, FolderStore, LogStore, StoreError,
};
use thiserror::Error;

use checkpointer::Checkpointer;
use committer::Committer;
pub use recovery::Moments;

/// Told what the operator should know.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What to open.
pub struct Options {
    /// Where the data is.
    pub folder: PathBuf,
    /// Sizes, and the first timestamp of a new folder.
    pub database: DatabaseOptions,
    /// Gives up the commits after this timestamp: the operator's way out of a damaged log.
    pub give_up_after: Option<u64>,
    /// Bytes of commits that the log has room for: the history that a start brings back.
    pub history_disk: u64,
    /// Told what the operator should know.
    pub tell: Tell,
}

/// Data that is open.
pub struct Data {
    /// The database.
    pub database: Arc<Database>,
    /// Stored files.
    pub files: Arc<FolderStore>,
    /// Whether the deployed code must be analyzed again before it runs: another build of this
    /// program evaluated it.
    pub is_stale: bool,
    /// What keeps its commits.
    pub keeper: Keeper,
}

/// Keeps commits, until it is stopped.
pub struct Keeper {
    committer: Arc<Committer>,
    checkpointer: Arc<Checkpointer>,
    threads: Vec<JoinHandle<()>>,
    _folder: DataFolder,
}

/// Why data cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder is not for this host.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something is not as it was written.
    #[error(
        "The data in {} is damaged, so it is not served: {what}. {}",
        folder.display(),
        advice(*good)
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        what: String,
        /// The newest timestamp up to which everything is as it was written; `None`: no such.
        good: Option<u64>,
    },
    /// The operator gives up commits after a timestamp that is none.
    #[error(
        "--give-up-after {} is not possible with the data in {}: {}. Possible are {}, where its \
         checkpoint is, and the timestamp of each commit after it that is whole, up to {}. \
         Nothing was given up.",
        moments.given, folder.display(), near(*moments), moments.oldest, moments.newest
    )]
    GiveUp {
        /// The folder.
        folder: PathBuf,
        /// What is possible.
        moments: Moments,
    },
    /// The disk.
    #[error("Could not open the data in {}: {cause}.{}", folder.display(), room(cause))]
    Store {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        cause: StoreError,
    },
    /// Stored files.
    #[error("Could not open the files in {}: {cause}.", folder.display())]
    Files {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        cause: BlobError,
    },
    /// The system gave no threads.
    #[error("Could not start the threads that keep data: {0}. Close programs and try again.")]
    Threads(std::io::Error),
}

/// What to do about damage.
fn advice(good: Option<u64>) -> String {
    let Some(good) = good else {
        return "Nothing before it can be used either. Restore a backup of the folder.".to_owned();
    };
    format!(
        "Everything up to the timestamp {good} is whole. Restore a backup of the folder; or copy \
         the folder, and give up what came later with --give-up-after {good}: the log as it is \
         now stays beside the new one, as db/log.given-up.sqlite."
    )
}

/// What to do about a disk that is full.
fn room(cause: &StoreError) -> &'static str {
    match cause {
        StoreError::Full(_) => {
            " Nothing is lost: make room for 1 MiB or more by deleting other files, none of this \
             folder, and start it again; then data can be deleted too."
        }
        _ => "",
    }
}

/// What is near a timestamp that is none.
fn near(Moments { given, oldest, before, .. }: Moments) -> String {
    if given < oldest {
        return "that is before everything that can be told apart".to_owned();
    }
    format!("no commit that is whole is at that timestamp; the last one before it is {before}")
}

/// Opens a folder, made if need be.
///
/// # Errors
/// See [`OpenError`]. Nothing in the folder has changed then.
pub fn open(options: Options) -> Result<Data, OpenError> {
    let Options { folder, database: sizes, give_up_after, history_disk, tell } = options;
    let taken = DataFolder::take(&folder, stored::FORMAT)?;
    let store = recovery::store(&taken, sizes.now).map_err(named(&folder))?;
    let build = recovery::build();
    let recovered = recovery::recover(store, &build, sizes, give_up_after);
    let recovery::Recovered { database, is_stale, tail, store } =
        recovered.map_err(|failure| failure.of(&folder))?;
    let database = Arc::new(database);
    let files_failed = |cause| OpenError::Files { folder: folder.clone(), cause };
    let files = Arc::new(FolderStore::open(&taken.files()).map_err(files_failed)?);
    recovery::remove_orphans(&database, &files).map_err(files_failed)?;
    // It starts all the same: how else could room be made?
    if let Err(why) = files.create().and_then(|mut draft| draft.write(b"?")) {
        let folder = taken.files();
        tell(&format!("Files cannot be stored in {}: {why}.", folder.display()));
    }
    let store: Arc<dyn LogStore> = Arc::new(store);
    let checkpointer = Arc::new(Checkpointer::new(tail, history_disk));
    let committer = Arc::new(Committer::default());
    database.keep_in(committer.clone());
    let mut keeper = Keeper { committer, checkpointer, threads: Vec::new(), _folder: taken };
    keeper.start((&database, &store), build.into(), tell).map_err(OpenError::Threads)?;
    Ok(Data { database, files, is_stale, keeper })
}

fn named(folder: &Path) -> impl Fn(StoreError) -> OpenError {
    move |cause| match cause {
        StoreError::Damaged { .. } => {
            let (folder, what) = (folder.to_owned(), cause.to_string());
            OpenError::Damaged { folder, what, good: None }
        }
        cause => OpenError::Store { folder: folder.to_owned(), cause },
    }
}

impl Keeper {
    fn start(
        &mut self,
        (database, store): (&Arc<Database>, &Arc<dyn LogStore>),
        build: Arc<str>,
        tell: Tell,
    ) -> std::io::Result<()> {
        let work = committer::Work {
            database: Arc::clone(database),
            store: Arc::clone(store),
            checkpointer: Arc::clone(&self.checkpointer),
            build,
            tell: Arc::clone(&tell),
        };
        let committer = Arc::clone(&self.committer);
        let keep = move || committer.run(&work);
        self.threads.push(essential::thread("committer", &tell, keep)?);
        let (database, store) = (Arc::clone(database), Arc::clone(store));
        let checkpointer = Arc::clone(&self.checkpointer);
        let warn = Arc::clone(&tell);
        let checkpoint = move || checkpointer.run(&database, &*store, &tell);
        self.threads.push(essential::thread("checkpointer", &warn, checkpoint)?);
        Ok(())
    }

    /// What says, at any time, what the folder holds.
    pub fn disk(&self) -> Arc<dyn Fn() -> Disk + Send + Sync> {
        let checkpointer = Arc::clone(&self.checkpointer);
        Arc::new(move || checkpointer.disk())
    }

    /// Keeps what is still to be kept, then ends.
    pub fn stop(&mut self) {
        self.committer.stop();
        self.checkpointer.stop();
        for thread in self.threads.drain(..) {
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
