//! A PostgreSQL server for a bench, with its own settings.
//!
//! In: a folder, a port, Debian's or the path's programs. Out: a server on 127.0.0.1, gone with the
//! value. A module of the benches, not a bench.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The superuser of the new cluster, and the account that it runs as where the bench is root's.
pub const USER: &str = "postgres";

/// A server.
pub struct Postgres(Child);

impl Postgres {
    /// Makes a cluster in a folder and serves it; `None`: PostgreSQL is not installed.
    pub fn start(folder: &Path, port: u16) -> Option<Self> {
        let programs = programs()?;
        let data = folder.join("postgres");
        fs::create_dir(&data).unwrap();
        let owner = owner();
        if let Some((user, group)) = owner {
            // The owner must reach its folder.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
            chown(&data, Some(user), Some(group)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(programs.join(name));
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command.stdout(Stdio::null()).current_dir("/").arg("-D").arg(&data);
            command
        };
        let made = command("initdb").args(["-A", "trust", "-U", USER]).status().unwrap();
        assert!(made.success(), "initdb failed");
        let mut server = command("postgres");
        server.args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        let mut server = Self(server.stderr(Stdio::null()).spawn().unwrap());
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            assert!(server.0.try_wait().unwrap().is_none(), "postgres ended");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("postgres does not listen on port {port}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: a fast shutdown, with its children.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.0.wait();
    }
}

/// Where the programs are.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    found.sort();
    found.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    found.into_iter().find(|folder| folder.join("initdb").exists())
}

/// PostgreSQL does not run as root: the ids of its account, where the bench is root's.
fn owner() -> Option<(u32, u32)> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts.lines().find(|line| line.starts_with("postgres:")).filter(|_| root)?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}
