//! Which saves matter: file events, quietened.
//!
//! In: the functions folder and the sources outside it. Out: one wake-up per burst of changes.
//! Invariant: what concave itself writes (`_generated`, `.env.local`) never wakes it; that somebody
//! has removed it does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;
use tokio::sync::mpsc;

use super::codegen;

/// A burst of changes (an editor saves through a draft, a branch is checked out) has ended when it
/// was quiet for this long.
const QUIET: Duration = Duration::from_millis(30);
/// The same where packages are installed: there a package is gone for a while.
const PACKAGES_QUIET: Duration = Duration::from_millis(300);

/// Folders of packages that are watched: a large app reads files of hundreds, and the system gives
/// its users so many thousand watches for all of their programs.
const PACKAGE_FOLDERS_MAX: usize = 1024;

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
struct Sources {
    functions_dir: PathBuf,
    /// Files outside of it, and folders whose files matter.
    outside: BTreeSet<PathBuf>,
    /// The folders outside of it that are watched.
    folders: BTreeSet<PathBuf>,
}

impl Sources {
    fn hold(&self, path: &Path) -> bool {
        let named = |path: &Path| self.outside.contains(path);
        let inside = path.starts_with(&self.functions_dir);
        let beside = path.parent().is_some_and(named);
        if is_generated(path) {
            return (inside || beside || named(path)) && !is_draft(path) && !path.exists();
        }
        named(path) || (!is_draft(path) && (beside || (inside && !is_package(path))))
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
        let (outside, folders) = (BTreeSet::new(), BTreeSet::new());
        let sources = Sources { functions_dir: functions_dir.clone(), outside, folders };
        let sources = Arc::new(Mutex::new(sources));
        let (tell, changes) = mpsc::unbounded_channel();
        let known = sources.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
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
        watcher.watch(&functions_dir, RecursiveMode::Recursive)?;
        Ok(Self { watcher, changes, sources, moved: false })
    }

    /// Watches these sources too: what the app imports from outside its functions folder. Says
    /// whether there are new ones among them, whose changes until now nobody has seen.
    pub fn also(&mut self, named: &[PathBuf]) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let outside =
            |path: &&PathBuf| is_package(path) || !path.starts_with(&sources.functions_dir);
        let outside: BTreeSet<PathBuf> = named.iter().filter(outside).cloned().collect();
        let folder = |path: &PathBuf| {
            if path.is_dir() { Some(path.clone()) } else { path.parent().map(Path::to_owned) }
        };
        let folders: BTreeSet<PathBuf> = outside.iter().filter_map(folder).collect();
        // Packages are installed, not saved: a push for each app's first look is too many.
        let is_own = |path: &&PathBuf| !is_package(path);
        let has_new = outside.iter().filter(is_own).any(|path| !sources.outside.contains(path));
        let (packages, own): (Vec<_>, Vec<_>) = folders.into_iter().partition(|at| is_package(at));
        let folders = own.into_iter().chain(packages.into_iter().take(PACKAGE_FOLDERS_MAX));
        let new: Vec<_> = folders.filter(|folder| !sources.folders.contains(folder)).collect();
        sources.outside = outside;
        sources.folders.extend(new.iter().cloned());
        drop(sources);
        for folder in new {
            if self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_err() {
                // It is not there, which fails the push that needs it: it may come.
                let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                sources.folders.remove(&folder);
            }
        }
        has_new
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
        // Kept in `self`: whoever waits may turn to something else meanwhile.
        self.moved |= first == functions_dir;
        let mut quiet = quiet_after(&first);
        while let Ok(Some(path)) = tokio::time::timeout(quiet, self.changes.recv()).await {
            self.moved |= path == functions_dir;
            quiet = quiet.max(quiet_after(&path));
        }
        if std::mem::take(&mut self.moved) {
            // A watch goes with its folder: another one may stand in its place. Where none does,
            // the folder around it tells when it comes, and the next push says that it is missing.
            let _ = self.watcher.unwatch(&functions_dir);
            let _ = self.watcher.watch(&functions_dir, RecursiveMode::Recursive);
        }
        first
    }
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
            functions_dir: "/a/convex".into(),
            outside: ["/a/b.ts", "/a/node_modules/x/read.js"].map(PathBuf::from).into(),
            folders: BTreeSet::new(),
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
