//! The folder that a deployment's Node processes run in.
//!
//! In: modules with `"use node"` and the folder of their packages. Out: files. Invariant: only this
//! host's user can read or change it; it is gone with its last user.
//!
//! ```text
//! executor/   js/node, the process's own half
//! modules/    package.json {"type":"module"}, dir/mod.js, …, node_modules → the packages
//! tmp-0/ …    a process's own: what os.tmpdir() is there; gone with the process
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

/// The process's own half.
const EXECUTOR: [(&str, &str); 8] = [
    ("executor.mjs", include_str!("../../../js/node/executor.mjs")),
    ("addresses.mjs", include_str!("../../../js/node/addresses.mjs")),
    ("analyze.mjs", include_str!("../../../js/node/analyze.mjs")),
    ("console.mjs", include_str!("../../../js/node/console.mjs")),
    ("errors.mjs", include_str!("../../../js/node/errors.mjs")),
    ("fetch.mjs", include_str!("../../../js/node/fetch.mjs")),
    ("network.mjs", include_str!("../../../js/node/network.mjs")),
    ("streams.mjs", include_str!("../../../js/node/streams.mjs")),
];

/// How the name of each folder begins, before the number of the host's process.
const PREFIX: &str = "concave-node-";

/// A folder, removed when it is dropped.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    packages: Option<PathBuf>,
    is_ours: bool,
}

impl Folder {
    /// Writes modules, of which `entries` have functions; `packages` is a folder with
    /// `node_modules` in it.
    ///
    /// # Errors
    /// The system's.
    pub fn write<'a>(
        modules: impl Iterator<Item = (&'a str, &'a str)>,
        entries: &[String],
        packages: Option<&Path>,
    ) -> io::Result<Self> {
        let root = make()?;
        let folder = Self { root, packages: packages.map(Path::to_owned), is_ours: true };
        for (name, text) in EXECUTOR {
            put(&folder.root.join("executor").join(name), text)?;
        }
        put(&folder.root.join("executor/entries.json"), &json!(entries).to_string())?;
        let inside = folder.root.join("modules");
        put(&inside.join("package.json"), "{\"type\":\"module\"}\n")?;
        for (path, source) in modules {
            put(&inside.join(path), source)?;
        }
        if let Some(packages) = packages {
            symlink(packages.join("node_modules"), inside.join("node_modules"))?;
        }
        Ok(folder)
    }

    /// One that is not written, for tests.
    #[cfg(test)]
    pub(crate) fn named(root: &str, packages: Option<&Path>) -> Self {
        Self { root: root.into(), packages: packages.map(Path::to_owned), is_ours: false }
    }

    /// Removes it before its last user goes.
    pub fn remove(&self) {
        if self.is_ours {
            // What cannot be removed is swept by the next host.
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// All of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder for what one process writes.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn temporary(&self) -> io::Result<Temporary> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("tmp-{number}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Temporary { path })
    }

    /// What every process may read: not what another one has written.
    pub(crate) fn readable(&self) -> impl Iterator<Item = PathBuf> {
        let ours = ["executor", "modules"].map(|name| self.root.join(name));
        ours.into_iter().chain(self.packages.clone())
    }

    /// The folder that holds the packages' `node_modules`.
    pub fn packages(&self) -> Option<&Path> {
        self.packages.as_deref()
    }

    /// The script that a process runs.
    pub(crate) fn executor(&self) -> PathBuf {
        self.root.join("executor/executor.mjs")
    }

    /// Where the modules are.
    pub(crate) fn modules(&self) -> String {
        self.root.join("modules").display().to_string()
    }
}

/// The folder of what one process writes, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may be gone with the whole folder; else the next host sweeps.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// By identity: a folder is written once for its code.
impl PartialEq for Folder {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Eq for Folder {}

impl Drop for Folder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A new folder that nobody else can read.
fn make() -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Node compares real paths with what it may read.
    let above = fs::canonicalize(std::env::temp_dir())?;
    let process = std::process::id();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = above.join(format!("{PREFIX}{process}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => return Ok(root),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

/// Removes the folders of hosts that were killed.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let is_dead = |process: &str| {
            process.bytes().all(|b| b.is_ascii_digit())
                && Path::new("/proc/self").exists()
                && !Path::new("/proc").join(process).exists()
        };
        if process.is_some_and(is_dead) {
            // Another user's cannot be removed, and is not ours to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_goes_with_its_last_user() {
        use std::os::unix::fs::PermissionsExt as _;
        let packages = std::env::temp_dir();
        let modules = [("a/b.js", "export {};")];
        let folder = Folder::write(modules.into_iter(), &[], Some(&packages)).unwrap();
        let root = folder.root().to_owned();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(root.join("modules/a/b.js")).unwrap(), "export {};");
        assert!(root.join("modules/node_modules").is_symlink() && folder.executor().is_file());
        let temporary = folder.temporary().unwrap();
        fs::write(temporary.path().join("file"), "written").unwrap();
        assert_eq!(fs::metadata(temporary.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = temporary.path().to_owned();
        drop(temporary);
        assert!(!path.exists() && root.exists());
        drop(folder);
        assert!(!root.exists());
        assert!(packages.exists(), "packages are others' too");
    }

    #[test]
    fn folders_of_dead_hosts_are_swept() {
        // No process has this number: it is larger than the system allows.
        let dead = std::env::temp_dir().join(format!("{PREFIX}99999999-0"));
        fs::create_dir_all(&dead).unwrap();
        let live = Folder::write(std::iter::empty(), &[], None).unwrap();
        sweep();
        assert!(!dead.exists() && live.root().exists());
    }
}
