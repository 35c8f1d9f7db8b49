//! Packages of `"use node"` modules that are not part of the bundle: npm installs them.
//!
//! In: names and exact versions. Out: a folder with their `node_modules`. Invariant: named by its
//! content and complete: it is made elsewhere and renamed into place; no script of a package runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::node::{Node, on_path};

/// Lines of npm that are shown of an error that is not known.
const WORDS_LINES: usize = 12;

/// Told what takes long.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The installed packages of this machine's user.
pub struct Packages {
    root: PathBuf,
    patience: Duration,
    tell: Tell,
    /// One installation at a time.
    turn: Mutex<()>,
}

/// Why packages could not be installed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PackagesError {
    /// No npm.
    #[error(
        "node.externalPackages must be installed on the host, and there is no `npm` beside its \
         Node.js or on its PATH. Install npm there, or leave node.externalPackages out of \
         convex.json so that the packages become part of the bundle."
    )]
    NoNpm,
    /// The registry does not have one.
    #[error(
        "The npm registry does not have {what}, which node.externalPackages of convex.json asks \
         for. Correct its name or version in package.json, run npm install and push again. If it \
         is private, give the host's user access to it (npm login)."
    )]
    Unknown {
        /// `name@version`.
        what: String,
    },
    /// The registry does not answer.
    #[error(
        "The host could not reach the npm registry to install {packages} (npm says {code}). \
         Connect it, or set its proxy in the host user's .npmrc, and push again."
    )]
    Offline {
        /// What was to be installed.
        packages: String,
        /// `ENOTFOUND`, …
        code: String,
    },
    /// Something else.
    #[error("npm could not install {packages}: {words}")]
    Failed {
        /// What was to be installed.
        packages: String,
        /// npm's.
        words: String,
    },
    /// It takes too long.
    #[error("npm did not install {packages} within {seconds} seconds and was stopped. Push again.")]
    TooLong {
        /// What was to be installed.
        packages: String,
        /// The limit.
        seconds: u64,
    },
    /// Files cannot be written.
    #[error("Packages could not be kept in {folder:?}: {why}. Make it writable to the host.")]
    Folder {
        /// Where.
        folder: PathBuf,
        /// The system's words.
        why: String,
    },
}

impl Packages {
    /// Packages in the user's cache folder, else in the system's temporary one.
    pub fn new(patience: Duration, tell: Tell) -> Self {
        let cache = keep::cache().filter(|path| fs::create_dir_all(path).is_ok());
        let cache = cache.unwrap_or_else(|| std::env::temp_dir().join("concave"));
        let root = cache.join("packages");
        Self::in_folder(root, patience, tell)
    }

    /// Packages in a folder of the caller's.
    pub fn in_folder(root: PathBuf, patience: Duration, tell: Tell) -> Self {
        Self { root, patience, tell, turn: Mutex::default() }
    }

    /// The folder that holds the `node_modules` of these packages; installs what is not there.
    ///
    /// # Errors
    /// See [`PackagesError`].
    pub async fn folder(
        &self,
        node: &Node,
        wanted: &BTreeMap<String, String>,
    ) -> Result<PathBuf, PackagesError> {
        let place = self.root.join(name(node, wanted));
        let _turn = self.turn.lock().await;
        if !place.join("node_modules").is_dir() {
            let list: Vec<_> = wanted.iter().map(|(name, at)| format!("{name}@{at}")).collect();
            let list = list.join(", ");
            (self.tell)(&format!("installing {list} for \"use node\" modules"));
            self.install(node, wanted, &place, &list).await?;
            (self.tell)(&format!("installed {list}"));
        }
        // Node compares real paths with what it may read.
        fs::canonicalize(&place).map_err(|e| unwritable(&place, &e))
    }

    /// Installs beside `place`, then renames.
    async fn install(
        &self,
        node: &Node,
        wanted: &BTreeMap<String, String>,
        place: &Path,
        list: &str,
    ) -> Result<(), PackagesError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let work = place.with_extension(format!("{}-{number}", std::process::id()));
        let result = async {
            begin(&work, wanted, place).map_err(|e| unwritable(&work, &e))?;
            if !work.join("package-lock.json").exists() {
                self.npm(node, &work, list, &["install", "--package-lock-only"]).await?;
            }
            self.npm(node, &work, list, &["ci"]).await?;
            // A package list may come to nothing, and still be installed.
            fs::create_dir_all(work.join("node_modules")).map_err(|e| unwritable(&work, &e))?;
            // Without its node_modules it is left over: only its lock file was of use.
            let _ = fs::remove_dir_all(place);
            match fs::rename(&work, place) {
                Err(e) if !place.join("node_modules").is_dir() => Err(unwritable(place, &e)),
                _ => Ok(()),
            }
        };
        let result = result.await;
        // It was renamed, or is of no use.
        let _ = fs::remove_dir_all(&work);
        result
    }

    async fn npm(
        &self,
        node: &Node,
        work: &Path,
        list: &str,
        what: &[&str],
    ) -> Result<(), PackagesError> {
        let beside = node.program.parent().map(|folder| folder.join("npm"));
        let npm = beside.filter(|npm| npm.is_file()).or_else(|| on_path("npm"));
        let mut command = Command::new(npm.ok_or(PackagesError::NoNpm)?);
        command
            .args(what)
            .args(["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"])
            .args(["--no-update-notifier", "--loglevel=error"])
            // Somebody waits for the push.
            .args(["--fetch-retries=2", "--fetch-retry-mintimeout=1000"])
            .args(["--fetch-retry-maxtimeout=4000"])
            .current_dir(work)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let packages = || list.to_owned();
        match tokio::time::timeout(self.patience, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(failed(packages(), &output)),
            Ok(Err(why)) => {
                Err(PackagesError::Failed { packages: packages(), words: why.to_string() })
            }
            Err(_) => {
                let seconds = self.patience.as_secs();
                Err(PackagesError::TooLong { packages: packages(), seconds })
            }
        }
    }
}

/// A folder's name: everything that the installed files depend on.
fn name(node: &Node, wanted: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{} {} ", std::env::consts::OS, std::env::consts::ARCH));
    hash.update(format!("{}\n", node.version.major));
    for (name, version) in wanted {
        hash.update(format!("{name}@{version}\n"));
    }
    HEXLOWER.encode(&hash.finalize()[..16])
}

/// The folder that npm works in; a lock file of an earlier time is used again.
fn begin(work: &Path, wanted: &BTreeMap<String, String>, place: &Path) -> io::Result<()> {
    fs::create_dir_all(work)?;
    let package = json!({ "private": true, "dependencies": wanted });
    fs::write(work.join("package.json"), package.to_string())?;
    match fs::copy(place.join("package-lock.json"), work.join("package-lock.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unwritable(folder: &Path, why: &io::Error) -> PackagesError {
    PackagesError::Folder { folder: folder.to_owned(), why: why.to_string() }
}

/// What npm's words come down to.
fn failed(packages: String, output: &Output) -> PackagesError {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(|line| {
        let line = line.strip_prefix("npm ").unwrap_or(line);
        line.strip_prefix("error ").or_else(|| line.strip_prefix("ERR! ")).unwrap_or(line)
    });
    let code = lines.clone().find_map(|line| line.strip_prefix("code ")).unwrap_or_default();
    match code {
        "E404" | "ETARGET" | "ENOVERSIONS" => {
            // `404  'name@1.0.0' is not in this registry.`
            // `notarget No matching version found for name@9.9.9.`
            let what = lines.clone().find_map(|line| {
                let quoted = line.split('\'').nth(1).filter(|_| line.contains("registry"));
                let listed = line.split("version found for ").nth(1);
                quoted.or_else(|| listed?.split_whitespace().next())
            });
            let what = what.map_or(packages, |what| what.trim_end_matches('.').to_owned());
            PackagesError::Unknown { what }
        }
        "ENOTFOUND" | "EAI_AGAIN" | "ECONNREFUSED" | "ECONNRESET" | "ETIMEDOUT" | "ENETUNREACH"
        | "EHOSTUNREACH" | "ERR_SOCKET_TIMEOUT" | "ENOTCACHED" => {
            PackagesError::Offline { packages, code: code.to_owned() }
        }
        _ => {
            let said = lines.filter(|line| !line.contains("complete log of this run"));
            let words: Vec<_> = said.take(WORDS_LINES).collect();
            PackagesError::Failed { packages, words: words.join("\n").trim().to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn said(stderr: &str) -> PackagesError {
        let status = ExitStatus::from_raw(256);
        let output = Output { status, stdout: vec![], stderr: stderr.into() };
        failed("a@1.0.0, b@2.0.0".to_owned(), &output)
    }

    #[test]
    fn npm_is_understood() {
        let unknown = said(
            "npm error code E404\nnpm error 404 Not Found - GET https://r.example/bb - Not found\n\
             npm error 404\nnpm error 404  'bb@2.0.0' is not in this registry.\n",
        );
        assert_eq!(unknown, PackagesError::Unknown { what: "bb@2.0.0".into() });
        let target = "npm error code ETARGET\n\
                      npm error notarget No matching version found for b@2.0.0.\n";
        assert_eq!(said(target), PackagesError::Unknown { what: "b@2.0.0".into() });
        let offline = said("npm ERR! code ENOTFOUND\nnpm ERR! errno ENOTFOUND\n").to_string();
        assert!(offline.contains("a@1.0.0, b@2.0.0") && offline.contains("ENOTFOUND"), "{offline}");
        let other = said("npm error code EINTEGRITY\nnpm error sha512 wrong\n").to_string();
        assert!(other.ends_with("code EINTEGRITY\nsha512 wrong"), "{other}");
    }
}
