//! From a folder to a database: the checkpoint, then the log after it.
//!
//! In: a folder. Out: a [`Database`] as of the newest commit that was kept. Invariant: commits
//! follow on each other without a gap and reach what the folder promised; else there is no
//! database, and the error says up to where everything is whole, if only up to the checkpoint.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use database::commit::{Database, Options};
use database::record::Timestamp;
use database::stored::{Commit, Damaged, Restored, Restoring};
use storage::{
    BlobError, BlobId, BlobStore as _, DataFolder, FolderStore, LogStore as _, SqliteLog,
    StoreError,
};

use super::OpenError;
use super::checkpointer::Tail;

/// Bytes of the log that are read at once.
const STEP_BYTES: usize = 8 << 20;

/// What came back.
pub(super) struct Recovered {
    pub(super) database: Database,
    pub(super) is_stale: bool,
    pub(super) tail: Tail,
    pub(super) store: SqliteLog,
}

/// Why nothing came back.
pub(super) enum Failure {
    /// The store, and up to where everything is whole.
    Store(StoreError, Option<u64>),
    /// Nothing can be given up after `given`.
    GiveUp(Moments),
}

/// What can be given up.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// What was asked for.
    pub given: u64,
    /// The timestamp of the checkpoint: the oldest one.
    pub oldest: u64,
    /// The newest commit that is whole.
    pub newest: u64,
    /// The newest one that is not after what was asked for.
    pub before: u64,
}

impl Failure {
    /// With the folder's name.
    pub(super) fn of(self, folder: &Path) -> OpenError {
        let folder = folder.to_owned();
        match self {
            Self::Store(cause @ StoreError::Damaged { .. }, good) => {
                OpenError::Damaged { folder, what: cause.to_string(), good }
            }
            Self::Store(cause, _) => OpenError::Store { folder, cause },
            Self::GiveUp(moments) => OpenError::GiveUp { folder, moments },
        }
    }
}

/// The commits of a folder, made if need be.
pub(super) fn store(folder: &DataFolder, now: u64) -> Result<SqliteLog, StoreError> {
    let path = folder.commits();
    let failed = |error: std::io::Error| StoreError::Failed(format!("db: {error}"));
    if path.try_exists().map_err(failed)? {
        return SqliteLog::open(&path);
    }
    // Made anew, they would know of no stored file, and all of them would go.
    if folder.was_served().map_err(failed)? {
        let (file, what) = ("db".to_owned(), "it is missing".to_owned());
        return Err(StoreError::Damaged { file, what });
    }
    SqliteLog::create(&path, now)
}

/// Brings a database back.
pub(super) fn recover(
    store: SqliteLog,
    build: &str,
    options: Options,
    give_up_after: Option<u64>,
) -> Result<Recovered, Failure> {
    let mut restoring = Restoring::new(build);
    let mut take = |key: &[u8], value: &[u8]| {
        restoring.put(key, value).map_err(|damaged: Damaged| damaged.to_string())
    };
    let at = store.load(&mut take).map_err(|cause| Failure::Store(cause, None))?;
    let mut restored = restoring.finish(Timestamp(at), options);
    let mut tail = Tail::new(at);
    let replayed = replay(&store, &mut restored, &mut tail, give_up_after);
    let good = restored.ts().0;
    let failed = |cause| Failure::Store(cause, Some(good));
    let store = match give_up_after {
        Some(end) if good == end => store.cut(end).map_err(failed)?,
        Some(given) => {
            // As far as it goes: an end that is damage is an end too.
            let _ = replay(&store, &mut restored, &mut tail, None);
            let newest = restored.ts().0;
            return Err(Failure::GiveUp(Moments { given, oldest: at, newest, before: good }));
        }
        None => {
            let promised = replayed.and_then(|()| store.promised()).map_err(failed)?;
            if good < promised {
                return Err(failed(damaged(format!(
                    "commits up to {promised} were kept, and the log ends at {good}"
                ))));
            }
            store
        }
    };
    let is_stale = restored.is_stale();
    Ok(Recovered { database: restored.database(), is_stale, tail, store })
}

/// Applies the commits after the checkpoint, up to `end`.
fn replay(
    store: &SqliteLog,
    restored: &mut Restored,
    tail: &mut Tail,
    end: Option<u64>,
) -> Result<(), StoreError> {
    loop {
        let records = store.read(restored.ts().0, STEP_BYTES)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            if end.is_some_and(|end| record.ts > end) {
                return Ok(());
            }
            let ts = Timestamp(record.ts);
            let commit = Commit::decode(ts, &record.body).and_then(|commit| {
                // The two say the same, or one of them lies.
                let previous = Timestamp(record.previous);
                restored.replay(Commit { previous, ..commit })
            });
            commit.map_err(|why| damaged(why.to_string()))?;
            tail.push(&record);
        }
    }
}

/// The log is not what was written.
pub(super) fn damaged(what: String) -> StoreError {
    StoreError::Damaged { file: "the log".to_owned(), what }
}

/// Names this program's build: startup snapshots of V8 are good for one build only.
pub(super) fn build() -> String {
    let program = std::fs::metadata("/proc/self/exe")
        .or_else(|_| std::env::current_exe().and_then(std::fs::metadata));
    let version = env!("CARGO_PKG_VERSION");
    match program {
        Ok(found) => {
            let (size, seconds, rest) = (found.size(), found.mtime(), found.mtime_nsec());
            format!("{version} {size} {seconds}.{rest}")
        }
        // Then no snapshot is trusted: a build that is not known is no known build.
        Err(_) => format!("{version} unknown {}", std::process::id()),
    }
}

/// Removes files that no snapshot shows: their commits were never made, or undone.
pub(super) fn remove_orphans(database: &Database, files: &FolderStore) -> Result<(), BlobError> {
    let known: BTreeSet<BlobId> =
        database.known_blobs().iter().filter_map(|name| name.parse().ok()).collect();
    for id in files.list()? {
        if !known.contains(&id) {
            files.delete(id)?;
        }
    }
    Ok(())
}
