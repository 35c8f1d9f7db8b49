//! What the program has made and can make again, kept in a folder from one start to the next.
//!
//! In: a folder, what a thing is made of. Out: its bytes, if they are there. Invariant: what is
//! given back is, byte for byte, what this very program wrote for the same ingredients; whatever
//! else is found is left out and written again. A folder that others may write to is not used.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];

/// The ending of the names of things.
const ENDING: &str = "kept";

/// Where things are kept, of some megabytes each.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// A folder, made if need be.
    pub path: PathBuf,
    /// So many stay: programs that are built anew and functions that change leave some behind.
    pub most: usize,
}

/// Where one thing is kept.
pub struct Keep {
    shelf: Shelf,
    key: Hash,
}

impl Keep {
    /// The place of what `program` makes of `ingredients`; `None` where nothing can be kept.
    pub fn of(shelf: &Shelf, program: &Path, ingredients: &[u8]) -> Option<Self> {
        let program = identity(&fs::metadata(program).ok()?);
        DirBuilder::new().recursive(true).mode(0o700).create(&shelf.path).ok()?;
        is_ours(&fs::metadata(&shelf.path).ok()?).then(|| Self {
            shelf: shelf.clone(),
            key: Sha256::new_with_prefix(program).chain_update(ingredients).finalize().into(),
        })
    }

    /// The thing, if it is there and whole.
    pub fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.file()).ok()?;
        let (seal, thing) = bytes.split_at_checked(size_of::<Hash>())?;
        if seal != self.seal(thing) {
            return None;
        }
        bytes.drain(..size_of::<Hash>());
        Some(bytes)
    }

    /// Keeps it; whoever reads meanwhile finds the old one or this one.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, thing: &[u8]) -> io::Result<()> {
        let new = self.shelf.path.join(format!("{}.new", std::process::id()));
        // What a process of the same number has left.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&self.seal(thing))?;
        file.write_all(thing)?;
        fs::rename(new, self.file())?;
        self.tidy()
    }

    /// Says of which program and ingredients the bytes are.
    fn seal(&self, thing: &[u8]) -> Hash {
        Sha256::new_with_prefix(self.key).chain_update(thing).finalize().into()
    }

    fn file(&self) -> PathBuf {
        let name = HEXLOWER.encode(&self.key[..8]);
        self.shelf.path.join(name).with_extension(ENDING)
    }

    /// Removes the oldest.
    fn tidy(&self) -> io::Result<()> {
        let mut all: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.shelf.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                all.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        all.sort();
        let old = all.len().saturating_sub(self.shelf.most);
        all.into_iter().take(old).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The user's folder for what the program can make again.
pub fn cache() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.filter(|path| path.is_absolute()).map(|path| path.join("concave"))
}

/// What tells one build of the program from another: to read all of it would take longer than to
/// make most things. A file that was replaced or written to has another number or time of change.
fn identity(program: &Metadata) -> Vec<u8> {
    let times = [program.mtime(), program.mtime_nsec(), program.ctime(), program.ctime_nsec()];
    let told = (program.dev(), program.ino(), program.size(), times);
    format!("{told:?}").into_bytes()
}

/// Whether nobody else can write to a folder: what is in it is executed.
fn is_ours(folder: &Metadata) -> bool {
    // The owner of this process's own entry in /proc is who runs it.
    let us = fs::metadata("/proc/self").map(|entry| entry.uid());
    folder.is_dir() && us.is_ok_and(|us| us == folder.uid()) && folder.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn keep(shelf: &Shelf, program: &Path, ingredients: &str) -> Keep {
        Keep::of(shelf, program, ingredients.as_bytes()).unwrap()
    }

    #[test]
    fn a_snapshot_is_found_by_who_wrote_it_and_only_whole() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf { path: home.path().join("a/b"), most: 9 };
        let program = home.path().join("program");
        fs::write(&program, "1").unwrap();
        let kept = keep(&shelf, &program, "vitest");
        assert_eq!(kept.read(), None);
        kept.write(b"a snapshot").unwrap();
        assert_eq!(kept.read().unwrap(), b"a snapshot");
        assert_eq!(keep(&shelf, &program, "other").read(), None);
        let whole = fs::read(kept.file()).unwrap();
        for at in [0, 31, 32, whole.len() - 1] {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(kept.file(), broken).unwrap();
            assert_eq!(kept.read(), None, "byte {at}");
        }
        for length in [0, 31, 32, whole.len() - 1] {
            fs::write(kept.file(), &whole[..length]).unwrap();
            assert_eq!(kept.read(), None, "{length} bytes");
        }
        let other = keep(&shelf, &program, "other");
        fs::write(other.file(), &whole).unwrap();
        assert_eq!(other.read(), None, "the file of other ingredients");
        fs::write(&program, "22").unwrap();
        fs::write(keep(&shelf, &program, "vitest").file(), &whole).unwrap();
        assert_eq!(keep(&shelf, &program, "vitest").read(), None, "the file of another program");
    }

    #[test]
    fn few_stay_and_none_where_others_write() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("program");
        fs::write(&program, "1").unwrap();
        let shelf = Shelf { path: home.path().join("kept"), most: 3 };
        for n in 0..7 {
            keep(&shelf, &program, &n.to_string()).write(b"x").unwrap();
        }
        assert_eq!(fs::read_dir(&shelf.path).unwrap().count(), 3);
        fs::set_permissions(&shelf.path, Permissions::from_mode(0o777)).unwrap();
        assert!(Keep::of(&shelf, &program, b"").is_none());
    }
}
