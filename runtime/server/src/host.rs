//! What every handler needs, once per server.
//!
//! In: the [`Server`] as the root package assembled it. Out: shared state and request ids.
//! Invariant: request ids are unique within a process and unpredictable from outside it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use database::commit::Database;
use database::environment::{CLOUD_URL, Change, SITE_URL};
use database::files::StoredFile;
use database::record::{Functions, World};

use crate::admission::Bodies;
use crate::auth::{AdminKey, Auth};
use crate::calls::Calls;
use crate::convex::export::Exports;
use crate::convex::import::Imports;
use crate::convex::push::Pushes;
use crate::event::Event;
use crate::files::FileError;
use crate::logs::Logs;
use crate::owed::Owed;
use crate::socket::Sockets;
use crate::stats::Counts;
use crate::why::Why;
use crate::{Files, HttpActions, Server, ServerConfig, fork};

/// What every handler needs.
pub(crate) struct Host {
    /// The data.
    pub(crate) database: Arc<Database>,
    /// The door to functions.
    pub(crate) functions: Arc<dyn Functions>,
    /// The door to HTTP actions.
    pub(crate) http_actions: Arc<dyn HttpActions>,
    /// Stored files.
    pub(crate) files: Arc<Files>,
    /// The operator's choices.
    pub(crate) config: ServerConfig,
    /// The operator's secret, ready to compare.
    pub(crate) admin_key: AdminKey,
    /// Providers of users' tokens, and their keys.
    pub(crate) auth: Auth,
    /// Pushes between their start and their end.
    pub(crate) pushes: Pushes,
    /// WebSocket clients.
    pub(crate) sockets: Sockets,
    /// Why calls ran again.
    pub(crate) why: Why,
    /// The last calls, to be run again.
    pub(crate) calls: Calls,
    /// What functions did lately.
    pub(crate) logs: Logs,
    /// Room for bodies of requests.
    pub(crate) bodies: Bodies,
    /// Room for answers that clients have not taken.
    pub(crate) owed: Owed,
    /// How many calls came to which end.
    pub(crate) counts: Counts,
    /// The export that can be downloaded.
    pub(crate) exports: Exports,
    /// Uploads and imports under way.
    pub(crate) imports: Imports,
    /// Forks in this process.
    pub(crate) forks: fork::Running,
    /// Stored files that could not be read, by their blobs' names: each is told once.
    unreadable: Mutex<BTreeSet<String>>,
    request_ids: RequestIds,
}

impl Host {
    /// Prepares a server's state.
    pub(crate) fn new(server: Server) -> Self {
        let Server { database, functions, http_actions, files, config } = server;
        set_origins(&*functions, &config);
        Self {
            admin_key: AdminKey::new(&config.admin_key, &config.instance_name),
            auth: Auth::new(config.world.clone()),
            request_ids: RequestIds::new(&*config.world),
            pushes: Pushes::default(),
            sockets: Sockets::new(&database),
            why: Why::default(),
            calls: Calls::default(),
            logs: Logs::new(),
            bodies: Bodies::new(config.body_bytes),
            owed: Owed::new(config.answer_bytes),
            counts: Counts::default(),
            exports: Exports::default(),
            imports: Imports::new(&database),
            forks: fork::Running::default(),
            unreadable: Mutex::default(),
            database,
            functions,
            http_actions,
            files,
            config,
        }
    }

    /// A fresh request id.
    pub(crate) fn request_id(&self) -> Arc<str> {
        self.request_ids.next()
    }

    /// The time now, nanoseconds since the Unix epoch.
    pub(crate) fn stopwatch(&self) -> u64 {
        self.config.world.now()
    }

    /// Nanoseconds since `started`.
    pub(crate) fn elapsed(&self, started: u64) -> u64 {
        self.config.world.now().saturating_sub(started)
    }

    /// Tells the hook, and keeps what belongs into the log.
    pub(crate) fn tell(&self, event: Event) {
        self.counts.count(&event);
        if let Some(events) = &self.config.events {
            events(event.clone());
        }
        self.logs.add(event, self.config.world.now());
    }

    /// Tells the operator that a download of a stored file was cut, the first time.
    pub(crate) fn unreadable(&self, file: &StoredFile, why: &FileError) {
        let mut told = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(file.blob.clone()) {
            let id = file.id.encode();
            (self.config.warn)(&format!("A download of the stored file {id} was cut off: {why}"));
        }
    }
}

/// Tells functions under which origins they are reached.
fn set_origins(functions: &dyn Functions, config: &ServerConfig) {
    let origins = [(CLOUD_URL, &config.cloud_origin), (SITE_URL, &config.site_origin)];
    let changes = origins.map(|(name, origin)| {
        let (name, value) = (name.to_owned(), Some(origin.clone()));
        Change { name, value }
    });
    // It fails only for code that was deployed before and cannot be evaluated with the new origins;
    // that code goes on with the old ones.
    let _ = functions.change_environment(&changes);
}

/// A counter behind a bijection: no two ids are equal, and neighbours do not look alike.
struct RequestIds {
    base: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new(world: &dyn World) -> Self {
        let mut base = [0; 8];
        base.copy_from_slice(&world.seed()[..8]);
        Self { base: u64::from_le_bytes(base), count: AtomicU64::new(0) }
    }

    fn next(&self) -> Arc<str> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}", scramble(self.base.wrapping_add(count))).into()
    }
}

/// SplitMix64's finaliser: a permutation of the 64-bit numbers.
fn scramble(count: u64) -> u64 {
    let mut z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    struct Still;

    impl World for Still {
        fn now(&self) -> u64 {
            0
        }
        fn seed(&self) -> [u8; 32] {
            [7; 32]
        }
    }

    #[test]
    fn request_ids_are_16_hex_digits_and_differ() {
        let ids = RequestIds::new(&Still);
        let made: BTreeSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 10_000);
        let hex = |id: &Arc<str>| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(made.iter().all(hex));
    }
}
