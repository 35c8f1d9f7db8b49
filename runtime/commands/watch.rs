//! Which saves matter: file events, quietened.
//!
//! In: the functions folder and the sources outside it. Out: one wake-up per burst of changes.
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

/// A burst of changes (an editor saves through a draft, a branch is checked out) has ended when it
/// was quiet for this long.
const QUIET: Duration = Duration::from_millis(30);

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
struct Sources {
    functions_dir: PathBuf,
    /// Files outside of it, and folders whose files matter.
    outside: BTreeSet<PathBuf>,
}

impl Sources {
    fn hold(&self, path: &Path) -> bool {
        let named = |path: &Path| self.outside.contains(path);
        matters(path)
            && (path.starts_with(&self.functions_dir)
                || named(path)
                || path.parent().is_some_and(named))
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
        let sources = Sources { functions_dir: functions_dir.clone(), outside: BTreeSet::new() };
        let sources = Arc::new(Mutex::new(sources));
        let (tell, changes) = mpsc::unbounded_channel();
        let known = sources.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
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
        watcher.watch(&functions_dir, RecursiveMode::Recursive)?;
        Ok(Self { watcher, changes, sources, folders: BTreeSet::new() })
    }

    /// Watches these sources too: what the app imports from outside its functions folder. Says
    /// whether there are new ones among them, whose changes until now nobody has seen.
    pub fn also(&mut self, named: &[PathBuf]) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = |path: &&PathBuf| matters(path) && !path.starts_with(&sources.functions_dir);
        let outside: BTreeSet<PathBuf> = named.iter().filter(outside).cloned().collect();
        let folder = |path: &PathBuf| {
            if path.is_dir() { Some(path.clone()) } else { path.parent().map(Path::to_owned) }
        };
        let folders: BTreeSet<PathBuf> = outside.iter().filter_map(folder).collect();
        let has_new = !outside.is_subset(&sources.outside);
        sources.outside = outside;
        drop(sources);
        for folder in folders.difference(&self.folders) {
            // A folder that went away meanwhile fails the next push, which says so.
            let _ = self.watcher.watch(folder, RecursiveMode::NonRecursive);
        }
        self.folders.extend(folders);
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
        let mut moved = first == functions_dir;
        while let Ok(Some(path)) = tokio::time::timeout(QUIET, self.changes.recv()).await {
            moved |= path == functions_dir;
        }
        if moved {
            // A watch goes with its folder: another one may stand in its place. Where none does,
            // the folder around it tells when it comes, and the next push says that it is missing.
            let _ = self.watcher.unwatch(&functions_dir);
            let _ = self.watcher.watch(&functions_dir, RecursiveMode::Recursive);
        }
        first
    }
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
