//! A data folder: its version, its files, and the right of one host to use it.
//!
//! ```text
//!   DIR/FORMAT          what wrote it: `concave data, format 2`
//!   DIR, DIR/LOCK       locked while a host runs
//!   DIR/db/log.sqlite   commits              DIR/db/state.sqlite  a checkpoint of them
//!   DIR/db/mark         what was kept        DIR/files/           stored files
//!   DIR/db/log.given-up.sqlite  the log before the operator gave up some of it
//!   DIR/snapshots/      what was made of the code, and can be made again (`keep`)
//! ```
//! In: a path. Out: the right to it, until it is dropped. Invariant: two hosts never have one
//! folder; a folder of a newer program, or one that holds something else, is not touched.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::sqlite_log::{LOG, draft_of};
use crate::whole::write_whole;

const FORMAT: &str = "FORMAT";
/// What `write_whole` makes FORMAT of.
const DRAFT: &str = "FORMAT-draft";
const LOCK: &str = "LOCK";
const COMMITS: &str = "db";
/// What `concave dev` puts beside the data.
const GITIGNORE: &str = ".gitignore";
/// Tries to get the lock, and the pause between two: a second together.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);
const FIRST_WORDS: &str = "concave data, format ";

/// The right to a folder.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The folder itself, which nobody deletes by mistake; and its file LOCK, for older programs.
    _locked: [File; 2],
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Another host has it.
    #[error(
        "The data in {} is in use by another concave. Stop that one first, or give each its own \
         folder.", folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "The data in {} was written by a newer concave (format {found}; this one knows {known}). \
         Update this program.", folder.display()
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Commits are in it, and the file that says how they are written is damaged.
    #[error(
        "The data in {} is damaged, so it is not served: {what}. Write it anew: it must hold the \
         one line `{FIRST_WORDS}{known}`, unless an older concave wrote the folder, with another \
         number; or restore a backup of the folder.", folder.display()
    )]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the file.
        what: &'static str,
        /// The newest format that is known.
        known: u32,
    },
    /// Something else is in it.
    #[error(
        "{} is not empty, and it holds no data of concave: {why}. Choose another folder.",
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// How that shows.
        why: String,
    },
    /// The system's words.
    #[error("Could not use the data folder {}: {cause}.", folder.display())]
    System {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl DataFolder {
    /// Takes a folder, made if need be; one of an older format has this one from now on.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn take(path: &Path, format: u32) -> Result<Self, FolderError> {
        let folder = path.to_owned();
        let system = |cause| FolderError::System { folder: folder.clone(), cause };
        make_private(path).map_err(system)?;
        let version = version(path, format)?;
        match version {
            Some(found) if found > format => {
                return Err(FolderError::Newer { folder, found, known: format });
            }
            Some(_) => {}
            None => check_empty(path)?,
        }
        let itself = File::open(path).map_err(system)?;
        let file = File::create(path.join(LOCK)).map_err(system)?;
        for (locked, must) in [(&itself, false), (&file, true)] {
            match lock(locked, || std::thread::sleep(PAUSE)) {
                Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { folder }),
                Err(TryLockError::Error(cause)) if must => return Err(system(cause)),
                // A file system that cannot lock folders, NFS for one, has LOCK.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
        }
        // Before anything is written that an older program would take for damage.
        if version != Some(format) {
            write_format(path, format).map_err(system)?;
        }
        Ok(Self { path: folder, _locked: [itself, file] })
    }

    /// Where commits are.
    pub fn commits(&self) -> PathBuf {
        self.path.join(COMMITS)
    }

    /// Whether a host has served it: files and keys come after commits, so commits that are not
    /// there were there.
    ///
    /// # Errors
    /// The system's.
    pub fn was_served(&self) -> io::Result<bool> {
        let mut first = [LOCK, DRAFT, FORMAT, GITIGNORE].map(PathBuf::from).to_vec();
        // A first start that was interrupted leaves these.
        first.extend([PathBuf::from(COMMITS), draft_of(Path::new(COMMITS))]);
        for entry in fs::read_dir(&self.path)? {
            if !first.contains(&PathBuf::from(entry?.file_name())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where files are.
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }
}

/// Makes a folder that only its owner can look into: environment variables are in the data. One
/// that is there stays as it is.
///
/// # Errors
/// The system's.
pub fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// A host that died may have been starting a process, which has the lock too until it runs its
/// program: whoever is still there after all tries is a host.
fn lock(file: &File, mut pause: impl FnMut()) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => pause(),
            done => return done,
        }
    }
    file.try_lock()
}

/// Says what the folder is, before anything is in it.
fn write_format(path: &Path, format: u32) -> io::Result<()> {
    write_whole(&path.join(FORMAT), format!("{FIRST_WORDS}{format}\n").as_bytes(), 0o666)
}

/// The format of a folder; `None`: it has none.
fn version(path: &Path, known: u32) -> Result<Option<u32>, FolderError> {
    let folder = path.to_owned();
    let holds_commits = path.join(COMMITS).join(LOG).exists();
    let wrong = |what, why: &str| match holds_commits {
        true => FolderError::Format { folder: folder.clone(), what, known },
        false => FolderError::Foreign { folder: folder.clone(), why: why.to_owned() },
    };
    match fs::read_to_string(path.join(FORMAT)) {
        Ok(text) => match text.trim_end().strip_prefix(FIRST_WORDS).map(str::parse) {
            Some(Ok(found)) => Ok(Some(found)),
            _ => Err(wrong("its file FORMAT is not what was written", "its file FORMAT says so")),
        },
        // A copy has its FORMAT last (`copy.rs`).
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.join(DRAFT).exists() => {
            match holds_commits {
                true => {
                    let why = "it is a copy that was not finished".to_owned();
                    Err(FolderError::Foreign { folder, why })
                }
                false => Ok(None),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && holds_commits => {
            Err(wrong("its file FORMAT is missing", ""))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(wrong("its file FORMAT is not what was written", "its file FORMAT is no text"))
        }
        Err(cause) => Err(FolderError::System { folder, cause }),
    }
}

/// A folder without a format is not ours, unless nothing is in it.
fn check_empty(path: &Path) -> Result<(), FolderError> {
    let folder = path.to_owned();
    let system = |cause| FolderError::System { folder: folder.clone(), cause };
    for entry in fs::read_dir(path).map_err(system)? {
        let name = entry.map_err(system)?.file_name().to_string_lossy().into_owned();
        if ![LOCK, DRAFT, GITIGNORE].contains(&&*name) {
            return Err(FolderError::Foreign { folder, why: format!("there is {name:?}") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_host_and_an_older_format_goes_on_as_this_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let held = DataFolder::take(&path, 3).unwrap();
        let again = DataFolder::take(&path, 3).unwrap_err();
        assert!(matches!(again, FolderError::InUse { .. }), "{again}");
        drop(held);
        drop(DataFolder::take(&path, 4).unwrap());
        let newer = DataFolder::take(&path, 2).unwrap_err().to_string();
        assert!(newer.contains("format 4; this one knows 2"), "{newer}");
    }

    #[test]
    fn a_new_folder_is_its_owners_and_an_old_one_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let new = root.path().join("above/new");
        drop(DataFolder::take(&new, 1).unwrap());
        assert_eq!(mode(&new), 0o700);
        assert_ne!(mode(&root.path().join("above")), 0o700, "that is not ours");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        drop(DataFolder::take(&new, 1).unwrap());
        assert_eq!(mode(&new), 0o755);
    }

    #[test]
    fn a_folder_whose_lock_file_is_deleted_still_has_one_host() {
        let root = tempfile::tempdir().unwrap();
        let _held = DataFolder::take(root.path(), 1).unwrap();
        fs::remove_file(root.path().join(LOCK)).unwrap();
        let again = DataFolder::take(root.path(), 1).unwrap_err();
        assert!(matches!(again, FolderError::InUse { .. }), "{again}");
    }

    #[test]
    fn a_lock_that_is_about_to_go_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(LOCK);
        let (held, wanted) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        held.lock().unwrap();
        let mut pauses = 0;
        let given_up = lock(&wanted, || pauses += 1);
        assert!(matches!(given_up, Err(TryLockError::WouldBlock)) && pauses == TRIES - 1);
        lock(&wanted, || held.unlock().unwrap()).unwrap();
    }

    #[test]
    fn a_format_that_is_damaged_is_told_with_what_it_must_hold() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let held = DataFolder::take(&path, 1).unwrap();
        fs::create_dir(held.commits()).unwrap();
        fs::write(held.commits().join(LOG), "commits").unwrap();
        drop(held);
        let flipped = |at: usize, bit: u8| {
            let mut bytes = b"concave data, format 1\n".to_vec();
            bytes[at] ^= bit;
            bytes
        };
        for bytes in [None, Some(vec![]), Some(flipped(3, 1)), Some(flipped(3, 128))] {
            match &bytes {
                Some(bytes) => fs::write(path.join(FORMAT), bytes).unwrap(),
                None => fs::remove_file(path.join(FORMAT)).unwrap(),
            }
            let text = DataFolder::take(&path, 1).unwrap_err().to_string();
            assert!(text.contains("its file FORMAT is"), "{bytes:?}: {text}");
            assert!(text.contains("the one line `concave data, format 1`"), "{bytes:?}: {text}");
        }
        fs::write(path.join(FORMAT), "concave data, format 1").unwrap();
        drop(DataFolder::take(&path, 1).unwrap());
    }

    #[test]
    fn a_folder_of_something_else_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "…").unwrap();
        let foreign = DataFolder::take(root.path(), 1).unwrap_err().to_string();
        assert!(foreign.contains("there is \"thesis.tex\""), "{foreign}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        fs::write(root.path().join(FORMAT), "another program's").unwrap();
        assert!(matches!(DataFolder::take(root.path(), 1), Err(FolderError::Foreign { .. })));
    }
}
