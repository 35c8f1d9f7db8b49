//! Node for `"use node"`: which one there is, and how its processes are started.
//!
//! In: a path that the operator gave, or `PATH`. Out: commands. Invariant: a process finds its own
//! modules and packages, a folder for its files and the network, and nothing else of the host: no
//! environment, no other files, no processes, neither its own nor others'. Node's permissions are a
//! seat belt, not a wall against code that means harm: native code of packages may read and write
//! what the host's user may, and only the filter of system calls (`confinement.rs`) holds it.

use std::io::{self, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;

use crate::confinement::Filter;
use crate::node_folder::{Folder, Temporary};

/// The environment variable that names a Node for `"use node"`.
pub const NODE_VARIABLE: &str = "CONCAVE_NODE";

/// The oldest major version that works.
const MAJOR_MIN: u32 = 20;
/// How long Node may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// The descriptor of the socket in a process.
const SOCKET: i32 = 3;
/// The descriptor of the pipe that ends with the host.
const LIFELINE: i32 = 4;

/// A version of Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 20, 22, …
    pub major: u32,
    /// The number after the first point.
    pub minor: u32,
}

/// A Node that can be started.
#[derive(Clone, Debug)]
pub struct Node {
    /// The program.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// JavaScript heap of a process, in MiB.
    pub heap_mib: u64,
    /// Memory of a process that can be written, in bytes.
    pub process_bytes: u64,
    /// The largest file that a process writes, in bytes.
    pub file_bytes: u64,
}

/// Why there is no Node.
#[derive(Clone, Debug, Error)]
pub enum NodeError {
    /// Nothing on `PATH`.
    #[error(
        "Modules with \"use node\" need Node.js {MAJOR_MIN} or newer on the host, and there is no \
         `node` on its PATH. Install Node.js, or start the host with --node PATH (or \
         {NODE_VARIABLE}=PATH)."
    )]
    None,
    /// What was configured does not run.
    #[error(
        "{program:?} could not be started as Node.js: {why}. Give the host another one with --node \
         PATH (or {NODE_VARIABLE}=PATH)."
    )]
    Unusable {
        /// The program.
        program: PathBuf,
        /// The system's words.
        why: String,
    },
    /// It is too old.
    #[error(
        "{program:?} is Node.js {found}; modules with \"use node\" need {MAJOR_MIN} or newer. \
         Update it, or give the host another one with --node PATH (or {NODE_VARIABLE}=PATH)."
    )]
    Old {
        /// The program.
        program: PathBuf,
        /// What it calls its version.
        found: String,
    },
}

impl Version {
    /// Reads `v20.20.2`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { major, minor })
    }

    fn is(self, major: u32, minor: u32) -> bool {
        self >= Self { major, minor }
    }

    /// The flag that switches permissions on, and those that give some back.
    fn permissions(self, folder: &Folder, temporary: &Path) -> Vec<String> {
        let stable = self.is(23, 5) || (self.major == 22 && self.minor >= 13);
        let mut flags = vec![if stable { "--permission" } else { "--experimental-permission" }];
        if self.is(25, 0) {
            flags.push("--allow-net");
        }
        // Packages may have native code; a deployment's own modules cannot.
        if folder.packages().is_some() && (self.is(21, 6) || (self.major == 20 && self.minor >= 12))
        {
            flags.push("--allow-addons");
        }
        let mut flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        let inside = |path: &Path| format!("{}/*", path.display());
        let mut readable: Vec<_> = folder.readable().map(|path| inside(&path)).collect();
        readable.push(inside(temporary));
        if self.is(20, 7) {
            flags.extend(readable.iter().map(|path| format!("--allow-fs-read={path}")));
        } else {
            flags.push(format!("--allow-fs-read={}", readable.join(",")));
        }
        flags.push(format!("--allow-fs-write={}", inside(temporary)));
        flags
    }
}

impl Node {
    /// Finds Node: the configured one, else the first on `PATH`.
    ///
    /// # Errors
    /// There is none, or it is too old.
    pub async fn find(
        configured: Option<&Path>,
        heap_mib: u64,
        process_bytes: u64,
        file_bytes: u64,
    ) -> Result<Self, NodeError> {
        let program = match configured {
            Some(path) => path.to_owned(),
            None => on_path("node").ok_or(NodeError::None)?,
        };
        let unusable = |why: String| NodeError::Unusable { program: program.clone(), why };
        let mut command = Command::new(&program);
        command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let said = tokio::time::timeout(PATIENCE, command.output()).await;
        let said = said.map_err(|_| unusable("it does not say its version".to_owned()))?;
        let said = said.map_err(|e| unusable(e.to_string()))?;
        let found = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        match Version::parse(&found) {
            Some(version) if version.is(MAJOR_MIN, 0) => {
                Ok(Self { program, version, heap_mib, process_bytes, file_bytes })
            }
            Some(_) => Err(NodeError::Old { program, found }),
            None => Err(unusable(format!("asked for its version, it says {found:?}"))),
        }
    }

    /// The command of a process that runs what is in `folder`, writes into `temporary` and listens
    /// to `socket`, and a pipe:
    /// when that is closed, as it is when the host's process ends, the process ends too.
    ///
    /// # Errors
    /// The system has no descriptors to give.
    pub(crate) fn command(
        &self,
        folder: &Folder,
        temporary: &Temporary,
        socket: UnixStream,
    ) -> io::Result<(Command, PipeWriter)> {
        let mut command = Command::new(&self.program);
        command
            .args(self.version.permissions(folder, temporary.path()))
            .arg(format!("--max-old-space-size={}", self.heap_mib))
            .arg("--no-warnings")
            .arg(folder.executor())
            .current_dir(folder.modules())
            .stdin(Stdio::null());
        let (lifeline, ours) = io::pipe()?;
        let (memory, file) = (self.process_bytes, self.file_bytes);
        let mut filter = Filter::new();
        let prepare = move || {
            let _held = (&socket, &lifeline);
            inherit(socket.as_raw_fd(), lifeline.as_raw_fd())?;
            bound(memory, file)?;
            // Last: it could not be told who owns its descriptors any more.
            filter.as_mut().map_or(Ok(()), Filter::enter)
        };
        // SAFETY: between fork and exec, `prepare` makes system calls and nothing else: it neither
        // allocates nor locks.
        unsafe { command.pre_exec(prepare) };
        Ok((command, ours))
    }
}

/// Gives the process its two descriptors, and has the system end it when the host's process is
/// gone: a function that loops would not notice.
fn inherit(socket: i32, lifeline: i32) -> io::Result<()> {
    // SAFETY: plain system calls on descriptors that the caller holds open. Both are duplicated
    // first to above those that are to be replaced, so neither is closed by the other's `dup2`.
    unsafe {
        let high = LIFELINE + 1;
        let socket = check(libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, high))?;
        let lifeline = check(libc::fcntl(lifeline, libc::F_DUPFD_CLOEXEC, high))?;
        check(libc::dup2(socket, SOCKET))?;
        check(libc::dup2(lifeline, LIFELINE))?;
        // The pipe's end is an event, an event is SIGIO, and SIGIO ends a process.
        check(libc::fcntl(LIFELINE, libc::F_SETOWN, libc::getpid()))?;
        check(libc::fcntl(LIFELINE, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// Bounds what the process may take of the system.
fn bound(memory: u64, file: u64) -> io::Result<()> {
    // Its JavaScript has a limit of its own; this is for buffers, wasm and native code.
    let limits = [(libc::RLIMIT_DATA, memory), (libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, file)];
    for (resource, limit) in limits {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: `limit` is valid for the length of the call.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The first program of this name on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_given_the_flags_that_it_knows() {
        let flags = |text: &str, packages: Option<&str>| {
            let folder = Folder::named("/f", packages.map(Path::new));
            let version = Version::parse(text).unwrap();
            version.permissions(&folder, Path::new("/f/tmp-0")).join(" ")
        };
        let own = "--allow-fs-read=/f/executor/* --allow-fs-read=/f/modules/*";
        let written = "--allow-fs-read=/f/tmp-0/* --allow-fs-write=/f/tmp-0/*";
        assert_eq!(
            flags("v20.5.1", Some("/p")),
            "--experimental-permission \
             --allow-fs-read=/f/executor/*,/f/modules/*,/p/*,/f/tmp-0/* --allow-fs-write=/f/tmp-0/*"
        );
        assert_eq!(
            flags("v20.20.2\n", Some("/p")),
            format!(
                "--experimental-permission --allow-addons {own} --allow-fs-read=/p/* {written}"
            )
        );
        let experimental = format!("--experimental-permission {own} {written}");
        assert_eq!(flags("v22.12.0", None), experimental);
        let stable = format!("--permission {own} {written}");
        assert_eq!(flags("v22.13.0", None), stable);
        assert_eq!(flags("v24.1.0", None), stable);
        let networked = format!("--permission --allow-net {own} {written}");
        assert_eq!(flags("v26.10.0", None), networked);
    }

    #[tokio::test]
    async fn what_is_not_node_is_named_with_the_flag_that_changes_it() {
        let text = Node::find(Some(Path::new("/nowhere/node")), 1, 1, 1).await.unwrap_err();
        assert!(text.to_string().contains("/nowhere/node"), "{text}");
        assert!(text.to_string().contains("--node PATH"), "{text}");
        let text = Node::find(Some(Path::new("/bin/true")), 1, 1, 1).await.unwrap_err();
        assert!(matches!(text, NodeError::Unusable { .. }), "{text}");
        assert!(Version::parse("v18.20.4").unwrap() < Version { major: MAJOR_MIN, minor: 0 });
    }
}
