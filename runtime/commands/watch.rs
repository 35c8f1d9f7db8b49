//! Which saves matter: file events, quietened.
//!
//! In: the functions folder, or one with tests, and the sources outside it. Out: one wake-up per
//! burst of changes.
//! Invariant: what concave itself writes (`_generated`, `.env.local`) never wakes it.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;
use tokio::sync::mpsc;

use super::codegen;
use crate::testing::suite::is_left_out;

/// A burst of changes (an editor saves through a draft, a branch is checked out) has ended when it
/// was quiet for this long.
const QUIET: Duration = Duration::from_millis(30);

/// Endings of files that may become part of a run of tests by being there.
const CODE: [&str; 9] = ["ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs", "json"];

/// Folders that a run of tests makes itself.
const MADE: [&str; 2] = ["__snapshots__", "coverage"];

/// Files cannot be watched.
#[derive(Debug, Error)]
#[error(
    "Could not watch {}: {cause}. If the system is out of watches, raise \
     fs.inotify.max_user_watches.",
    folder.display()
)]
pub struct WatchError {
    /// The folder.
    folder: PathBuf,
    /// The system's words.
    cause: notify::Error,
}

/// Watches an app's sources.
pub struct Watch {
    watcher: RecommendedWatcher,
    changes: mpsc::UnboundedReceiver<PathBuf>,
    sources: Arc<Mutex<Sources>>,
    folders: BTreeSet<PathBuf>,
}

/// What is watched.
#[derive(Default)]
struct Sources {
    /// Whatever is in it matters.
    functions_dir: Option<PathBuf>,
    /// Folders in which code may come and go, as folders may.
    tree: BTreeSet<PathBuf>,
    /// Files outside of it, and folders whose files matter.
    outside: BTreeSet<PathBuf>,
}

impl Sources {
    fn hold(&self, path: &Path) -> bool {
        let named = |path: &Path| self.outside.contains(path);
        matters(path)
            && (self.is_in_functions(path)
                || named(path)
                || path.parent().is_some_and(named)
                || self.is_in_tree(path))
    }

    fn is_in_functions(&self, path: &Path) -> bool {
        self.functions_dir.as_ref().is_some_and(|folder| path.starts_with(folder))
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_code = || {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| CODE.contains(&extension))
        };
        let is_folder = || path.is_dir() && !is_left_out(&name) && !MADE.contains(&&*name);
        let is_known = self.tree.contains(path) && !MADE.contains(&&*name);
        let is_inside = path.parent().is_some_and(|folder| self.tree.contains(folder));
        is_known || (is_inside && (is_code() || is_folder()))
    }

    /// The folders of what is named outside.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let folder = |path: &PathBuf| {
            if path.is_dir() { Some(path.clone()) } else { path.parent().map(Path::to_owned) }
        };
        self.outside.iter().filter_map(folder).collect()
    }
}

impl Watch {
    /// Watches a functions folder.
    ///
    /// # Errors
    /// The system has no watches left, or the folder cannot be read.
    pub fn new(functions_dir: &Path) -> Result<Self, WatchError> {
        let failed = |cause| WatchError { folder: functions_dir.to_owned(), cause };
        Self::open(functions_dir).map_err(failed)
    }

    fn open(functions_dir: &Path) -> notify::Result<Self> {
        let functions_dir = functions_dir.canonicalize()?;
        let mut watch =
            Self::of(Sources { functions_dir: Some(functions_dir.clone()), ..Sources::default() })?;
        watch.watcher.watch(&functions_dir, RecursiveMode::Recursive)?;
        Ok(watch)
    }

    /// Watches for tests in a folder and below it, once [`Watch::renew`] has looked what is there.
    ///
    /// # Errors
    /// The system has no more watchers.
    pub fn for_tests(folder: &Path) -> Result<Self, WatchError> {
        Self::of(Sources::default())
            .map_err(|cause| WatchError { folder: folder.to_owned(), cause })
    }

    fn of(sources: Sources) -> notify::Result<Self> {
        let sources = Arc::new(Mutex::new(sources));
        let (tell, changes) = mpsc::unbounded_channel();
        let known = sources.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error here means that events were lost: look again, to be safe.
            let paths = match event {
                Ok(event) if changes_content(event.kind) => event.paths,
                Ok(_) => Vec::new(),
                Err(error) => error.paths,
            };
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            for path in paths.into_iter().filter(|path| known.hold(path)) {
                // The receiver goes away only with the whole watch.
                let _ = tell.send(path);
            }
        })?;
        Ok(Self { watcher, changes, sources, folders: BTreeSet::new() })
    }

    /// Watches the folders that are in `root` now, before anybody reads what is in them. All of
    /// them anew: a watch goes with its folder, and another one may stand in its place.
    ///
    /// # Errors
    /// The system has no watches left, or `root` is not there.
    pub fn renew(&mut self, root: &Path) -> Result<(), WatchError> {
        let failed = |folder: &Path, cause| WatchError { folder: folder.to_owned(), cause };
        let root = root.canonicalize().map_err(|e| failed(root, notify::Error::io(e)))?;
        for folder in std::mem::take(&mut self.folders) {
            // It may have gone.
            let _ = self.watcher.unwatch(&folder);
        }
        // Known before they are watched, lest the first event be that of nobody.
        let (mut tree, mut open) = (BTreeSet::new(), vec![root.clone()]);
        let sources = Arc::clone(&self.sources);
        while let Some(folder) = open.pop() {
            if !folder.canonicalize().is_ok_and(|folder| tree.insert(folder)) {
                continue;
            }
            sources.lock().unwrap_or_else(PoisonError::into_inner).tree.insert(folder.clone());
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Err(cause) if folder == root || folder.is_dir() => {
                    return Err(failed(&folder, cause));
                }
                _ => self.folders.insert(folder.clone()),
            };
            open.extend(folders_in(&folder));
        }
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.tree.retain(|folder| self.folders.contains(folder));
        let folders = sources.folders();
        drop(sources);
        self.watch_all(folders);
        Ok(())
    }

    fn watch_all(&mut self, folders: BTreeSet<PathBuf>) {
        for folder in folders.difference(&self.folders) {
            // A folder that went away meanwhile fails the next push, which says so.
            let _ = self.watcher.watch(folder, RecursiveMode::NonRecursive);
        }
        self.folders.extend(folders);
    }

    /// Watches these sources too: what the app imports from outside its functions folder.
    pub fn also(&mut self, named: &[PathBuf]) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = |path: &&PathBuf| matters(path) && !sources.is_in_functions(path);
        let outside: BTreeSet<PathBuf> = named.iter().filter(outside).cloned().collect();
        sources.outside = outside;
        let folders = sources.folders();
        drop(sources);
        self.watch_all(folders);
    }

    /// Waits for changes, then for quiet, and names one file that changed.
    pub async fn changed(&mut self) -> PathBuf {
        let Some(first) = self.changes.recv().await else {
            // The watcher owns the sender and is owned by `self`.
            return std::future::pending().await;
        };
        let functions_dir = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.functions_dir.clone()
        };
        let is_it = |path: &PathBuf| functions_dir.as_ref() == Some(path);
        let mut moved = is_it(&first);
        while let Ok(Some(path)) = tokio::time::timeout(QUIET, self.changes.recv()).await {
            moved |= is_it(&path);
        }
        if let Some(functions_dir) = functions_dir.filter(|_| moved) {
            // A watch goes with its folder: another one may stand in its place. Where none does,
            // the folder around it tells when it comes, and the next push says that it is missing.
            let _ = self.watcher.unwatch(&functions_dir);
            let _ = self.watcher.watch(&functions_dir, RecursiveMode::Recursive);
        }
        first
    }
}

/// The folders of a folder that may have tests.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let may = |entry: &std::fs::DirEntry| {
        !is_left_out(&entry.file_name().to_string_lossy()) && entry.path().is_dir()
    };
    entries.filter(may).map(|entry| entry.path()).collect()
}

/// Reading a file is an event too; and so is a change of its dates alone.
fn changes_content(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Not generated, not a package, not a dot file or an editor's draft.
fn matters(path: &Path) -> bool {
    let skipped = |part: Component<'_>| {
        let name = part.as_os_str().to_string_lossy();
        name == codegen::FOLDER || name == "node_modules"
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !path.components().any(skipped) && !name.starts_with('.') && !name.ends_with('~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn generated_files_packages_and_drafts_do_not_matter() {
        for path in
            ["/a/convex/_generated/api.js", "/a/node_modules/x/i.js", "/a/.env.local", "/a/b.ts~"]
        {
            assert!(!matters(Path::new(path)), "{path}");
        }
        assert!(matters(Path::new("/a/convex/messages.ts")));
    }

    #[tokio::test]
    async fn a_save_wakes_and_generated_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join(codegen::FOLDER)).unwrap();
        let mut watch = Watch::new(&root).unwrap();
        fs::write(root.join(codegen::FOLDER).join("api.js"), "1").unwrap();
        fs::write(root.join("messages.ts"), "1").unwrap();
        assert_eq!(watch.changed().await, root.join("messages.ts"));
    }

    #[tokio::test]
    async fn sources_outside_the_folder_wake_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (convex, shared) = (root.join("convex"), root.join("shared/a.ts"));
        fs::create_dir(&convex).unwrap();
        fs::create_dir(root.join("shared")).unwrap();
        fs::write(&shared, "1").unwrap();
        let mut watch = Watch::new(&convex).unwrap();
        watch.also(std::slice::from_ref(&shared));
        fs::write(root.join("shared/unrelated.ts"), "2").unwrap();
        fs::write(&shared, "2").unwrap();
        assert_eq!(watch.changed().await, shared);
    }
}
