//! What need not be bundled again: installed components whose files are those of last time.
//!
//! In: a component's folder and the files that went into its output. Out: that output, while not
//! one of the files, nor a folder around them, has changed. Invariant: what changed while it was
//! read is not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::Output;
use crate::package::in_node_modules;

/// How exactly file systems tell when a file changed.
const GRAIN: Duration = Duration::from_millis(100);

/// Outputs by the folder of their component.
#[derive(Default)]
pub(crate) struct Memo {
    kept: Mutex<BTreeMap<PathBuf, Kept>>,
}

struct Kept {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    output: Arc<Output>,
    files: BTreeSet<PathBuf>,
}

/// What tells one state of a file or folder from another.
#[derive(PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Number of the file, and when its entry changed: packages come with old dates.
    entry: (u64, i64, i64),
}

impl Memo {
    /// The output of the component in `dir`, and the files that it was made of, if nothing about it
    /// has changed.
    pub(crate) fn get(&self, dir: &Path) -> Option<(Arc<Output>, BTreeSet<PathBuf>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(dir)?;
        let same = |(path, known): &(PathBuf, Option<Stamp>)| stamp(path) == *known;
        let kept = kept.stamps.iter().all(same).then_some(kept)?;
        Some((Arc::clone(&kept.output), kept.files.clone()))
    }

    /// Keeps an output that was made of `files`, reading which began at `began`.
    pub(crate) fn keep(
        &self,
        (dir, root): (&Path, &Path),
        files: &BTreeSet<PathBuf>,
        began: SystemTime,
        output: &Output,
    ) {
        let mut paths: BTreeSet<PathBuf> = files.clone();
        for file in files {
            // A file that appears may be found before another one. Packages are looked for in
            // the folders above as well.
            paths.extend(file.ancestors().skip(1).take_while(|up| *up != root).map(Into::into));
            if let Some((package, ..)) = in_node_modules(file) {
                paths.insert(package.join("package.json"));
            }
        }
        paths.extend(folders(dir));
        paths.extend(["package.json", "tsconfig.json"].map(|name| root.join(name)));
        let stamps: Vec<_> = paths
            .into_iter()
            .filter(|path| path.starts_with(root) || in_node_modules(path).is_some())
            .map(|path| (stamp(&path), path))
            .map(|(stamp, path)| (path, stamp))
            .collect();
        let settled = began.checked_sub(GRAIN).unwrap_or(began);
        let is_settled = |stamp: &Stamp| {
            let (_, seconds, nanos) = stamp.entry;
            let since = settled.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let entry = (u64::try_from(seconds), u32::try_from(nanos));
            let before = matches!(entry, (Ok(s), Ok(nanos)) if Duration::new(s, nanos) < since);
            before && stamp.modified.is_none_or(|modified| modified < settled)
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps.iter().all(|(_, stamp)| stamp.as_ref().is_none_or(is_settled)) {
            let (files, output) = (files.clone(), Arc::new(output.clone()));
            kept.insert(dir.to_owned(), Kept { stamps, output, files });
        } else {
            kept.remove(dir);
        }
    }

    /// Forgets the components that are not among these.
    pub(crate) fn retain(&self, dirs: &BTreeSet<&Path>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|dir, _| dirs.contains(dir.as_path()));
    }
}

/// A folder and all below it: a file that is added may be an entry.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    std::iter::once(dir.to_owned()).chain(below.flat_map(|entry| folders(&entry.path()))).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    let entry = entry(&found);
    Some(Stamp { length: found.len(), modified: found.modified().ok(), entry })
}

#[cfg(unix)]
fn entry(found: &fs::Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn entry(_: &fs::Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}
