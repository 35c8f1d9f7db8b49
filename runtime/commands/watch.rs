//! Which saves matter: file events, quietened.
//!
//! In: the functions folder, or one with tests, and the sources outside it. Out: one wake-up per
//! burst of changes.
//! Invariant: what concave itself writes (`_generated`, `.env.local`) never wakes it; that somebody
//! has removed it does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// The same where packages are installed: there a package is gone for a while.
const PACKAGES_QUIET: Duration = Duration::from_millis(300);

/// Folders of packages that are watched: a large app reads files of hundreds, and the system gives
/// its users so many thousand watches for all of their programs.
const PACKAGE_FOLDERS_MAX: usize = 1024;

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
    /// Whether the functions folder is another one since it was watched.
    moved: bool,
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
    /// The folders outside of it that are watched.
    folders: BTreeSet<PathBuf>,
}

impl Sources {
    fn hold(&self, path: &Path) -> bool {
        let named = |path: &Path| self.outside.contains(path);
        let inside = self.is_in_functions(path);
        let beside = path.parent().is_some_and(named);
        if is_generated(path) {
            return (inside || beside || named(path)) && !is_draft(path) && !path.exists();
        }
        let is_own = || !is_package(path) && (inside || self.is_in_tree(path));
        named(path) || (!is_draft(path) && (beside || is_own()))
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

    /// The folders of what is named outside: those of packages last, and not more than may be.
    fn named_folders(&self) -> Vec<PathBuf> {
        let folder = |path: &PathBuf| {
            if path.is_dir() { Some(path.clone()) } else { path.parent().map(Path::to_owned) }
        };
        let folders: BTreeSet<PathBuf> = self.outside.iter().filter_map(folder).collect();
        let (packages, own): (Vec<_>, Vec<_>) = folders.into_iter().partition(|at| is_package(at));
        own.into_iter().chain(packages.into_iter().take(PACKAGE_FOLDERS_MAX)).collect()
    }

    /// A watch goes with its folder.
    fn forget(&mut self, gone: &Path) {
        self.folders.retain(|folder| !folder.starts_with(gone));
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
            let (paths, moves) = match event {
                Ok(Event { kind: EventKind::Access(_), .. }) => (Vec::new(), false),
                Ok(event) => (event.paths, moves(event.kind)),
                Err(error) => (error.paths, false),
            };
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if moves {
                paths.iter().for_each(|path| known.forget(path));
            }
            for path in paths.into_iter().filter(|path| known.hold(path)) {
                // The receiver goes away only with the whole watch.
                let _ = tell.send(path);
            }
        })?;
        Ok(Self { watcher, changes, sources, moved: false })
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        // Each holder leaves the sets whole.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the folders that are in `root` now, before anybody reads what is in them. All of
    /// them anew: a watch goes with its folder, and another one may stand in its place.
    ///
    /// # Errors
    /// The system has no watches left, or `root` is not there.
    pub fn renew(&mut self, root: &Path) -> Result<(), WatchError> {
        let failed = |folder: &Path, cause| WatchError { folder: folder.to_owned(), cause };
        let root = root.canonicalize().map_err(|e| failed(root, notify::Error::io(e)))?;
        let watched = std::mem::take(&mut self.sources().folders);
        for folder in watched {
            // It may have gone.
            let _ = self.watcher.unwatch(&folder);
        }
        let (mut tree, mut open) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(folder) = open.pop() {
            if !folder.canonicalize().is_ok_and(|folder| tree.insert(folder)) {
                continue;
            }
            // Known before it is watched, lest the first event be that of nobody.
            self.sources().tree.insert(folder.clone());
            self.sources().folders.insert(folder.clone());
            if let Err(cause) = self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                if folder == root || folder.is_dir() {
                    return Err(failed(&folder, cause));
                }
                self.sources().folders.remove(&folder);
            }
            open.extend(folders_in(&folder));
        }
        let named = {
            let mut sources = self.sources();
            let Sources { tree, folders, .. } = &mut *sources;
            tree.retain(|folder| folders.contains(folder));
            sources.named_folders()
        };
        self.watch_all(named);
        Ok(())
    }

    /// Watches these sources too: what the app imports from outside its functions folder. Says
    /// whether there are new ones among them, whose changes until now nobody has seen.
    pub fn also(&mut self, named: &[PathBuf]) -> bool {
        let mut sources = self.sources();
        let outside = |path: &&PathBuf| {
            is_package(path) || !(is_draft(path) || sources.is_in_functions(path))
        };
        let outside: BTreeSet<PathBuf> = named.iter().filter(outside).cloned().collect();
        // Packages are installed, not saved: a push for each app's first look is too many.
        let is_own = |path: &&PathBuf| !is_package(path);
        let has_new = outside.iter().filter(is_own).any(|path| !sources.outside.contains(path));
        sources.outside = outside;
        let folders = sources.named_folders();
        drop(sources);
        self.watch_all(folders);
        has_new
    }

    fn watch_all(&mut self, folders: Vec<PathBuf>) {
        for folder in folders {
            let is_new = self.sources().folders.insert(folder.clone());
            if is_new && self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_err() {
                // It is not there, which fails whatever needs it: it may come.
                self.sources().folders.remove(&folder);
            }
        }
    }

    /// Waits for changes, then for quiet, and names one file that changed.
    pub async fn changed(&mut self) -> PathBuf {
        let Some(first) = self.changes.recv().await else {
            // The watcher owns the sender and is owned by `self`.
            return std::future::pending().await;
        };
        let functions_dir = self.sources().functions_dir.clone();
        let is_it = |path: &PathBuf| functions_dir.as_ref() == Some(path);
        // Kept in `self`: whoever waits may turn to something else meanwhile.
        self.moved |= is_it(&first);
        let mut quiet = quiet_after(&first);
        while let Ok(Some(path)) = tokio::time::timeout(quiet, self.changes.recv()).await {
            self.moved |= is_it(&path);
            quiet = quiet.max(quiet_after(&path));
        }
        if std::mem::take(&mut self.moved)
            && let Some(functions_dir) = functions_dir
        {
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

/// Whether something may stand in the place of something else now.
fn moves(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

fn quiet_after(path: &Path) -> Duration {
    if is_package(path) { PACKAGES_QUIET } else { QUIET }
}

/// Whether a file belongs to an installed package, or is where packages are.
pub fn is_package(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "node_modules")
}

fn is_generated(path: &Path) -> bool {
    !is_package(path) && path.components().any(|part| part.as_os_str() == codegen::FOLDER)
}

/// A dot file or an editor's draft.
fn is_draft(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn generated_files_packages_and_drafts_do_not_matter() {
        let sources = Sources {
            functions_dir: Some("/a/convex".into()),
            outside: ["/a/b.ts", "/a/node_modules/x/read.js"].map(PathBuf::from).into(),
            ..Sources::default()
        };
        for path in [
            "/a/convex/_generated/.api.js.new",
            "/a/convex/node_modules/x/i.js",
            "/a/node_modules/x/i.js",
            "/a/convex/.env.local",
            "/a/convex/b.ts~",
        ] {
            assert!(!sources.hold(Path::new(path)), "{path}");
        }
        for path in ["/a/convex/messages.ts", "/a/b.ts", "/a/node_modules/x/read.js"] {
            assert!(sources.hold(Path::new(path)), "{path}");
        }
        assert!(sources.hold(Path::new("/a/convex/_generated/api.js")), "it is not there");
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
        assert!(watch.also(std::slice::from_ref(&shared)));
        fs::write(root.join("shared/unrelated.ts"), "2").unwrap();
        fs::write(&shared, "2").unwrap();
        assert_eq!(watch.changed().await, shared);
    }

    #[test]
    fn only_sources_that_nobody_watched_are_new() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let paths = ["convex", "a.ts", "b.ts", "convex/m.ts", ".env.local"];
        let [convex, a, b, inside, skipped] = paths.map(|name| root.join(name));
        fs::create_dir(&convex).unwrap();
        let mut watch = Watch::new(&convex).unwrap();
        assert!(!watch.also(&[inside, skipped]), "inside of the folder, or of no matter");
        assert!(watch.also(&[a.clone(), b.clone()]));
        assert!(!watch.also(std::slice::from_ref(&a)));
        assert!(watch.also(&[a, b]), "changes of what is imported again were not heard meanwhile");
    }
}
