//! A host, wired: real world, database, functions and server in this process.
//!
//! In: ports and a key. Out: a running host with its addresses, and a way to stop it.
//! Invariant: stopping answers the requests in flight first, then ends the isolates' threads.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::actions::protocol::Network;
use data_encoding::HEXLOWER;
use database::commit::{Database, Options as DatabaseOptions};
use database::error::PushError;
use database::limits;
use database::record::{Functions, World};
use functions::reuse::Purity;
use functions::{Config, Helper, allocator};
use server::{
    Events, Files, Forked, Forks, Gate, Later, Listeners, Measure, Measured, Origin, Server,
    ServerConfig, Stopped,
};
use storage::{MemoryStore, Storage, UploadTokens};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::target::Address;
use crate::durable::{self, Data, Keeper, OpenError, Tell};
use crate::memory::{self, Budget, Processes, Room, Size};
use crate::outside::{self, Outside};
use crate::purity::Reader;
use crate::world::RealWorld;

/// The hidden command that is the builder's child process.
pub const BUILDER_COMMAND: &str = "snapshot-builder";
/// The hidden command that is a process of actions.
pub const WORKER_COMMAND: &str = "action-worker";
/// The admin key of a data folder, inside of it.
pub const KEY_FILE: &str = "admin-key";
/// The folder in a data folder for startup snapshots of code, which can be made again.
const SNAPSHOTS: &str = "snapshots";
/// How many stay there: each save of a file makes two.
const SNAPSHOTS_KEPT: usize = 8;
/// How long requests in flight may take to finish when the host stops.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long a signal that comes again is no second one.
pub const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// What to serve, and where.
#[derive(Clone)]
pub struct Options {
    /// Port of the API; 0 takes a free one.
    pub port: u16,
    /// Port of HTTP actions; 0 takes a free one.
    pub site_port: u16,
    /// The operator's secret; `None` makes one up.
    pub admin_key: Option<String>,
    /// Whether `fetch` in actions may reach addresses that are not public.
    pub private_network: bool,
    /// Whether it may reach this machine.
    pub loopback: bool,
    /// Told about calls and pushes.
    pub events: Option<Events>,
    /// What runs modules with `"use node"`; `None`: the first `node` on `PATH`.
    pub node: Option<PathBuf>,
    /// Whether no module's contexts are kept because they were proved to keep nothing of a call.
    pub fresh_contexts: bool,
    /// Whether clients get `Server Error` alone: no message, no log lines.
    pub redact: bool,
    /// Whether a push after the first serves before its snapshot is made.
    pub answers_at_once: bool,
    /// Where data is kept; `None`: in memory.
    pub data: Option<Kept>,
    /// How much memory the host may take; `None`: what there is.
    pub memory: Option<Budget>,
    /// Told what may go wrong.
    pub warn: Tell,
    /// Told what takes long.
    pub tell: Tell,
    /// Whether it runs scheduled functions and cron jobs.
    pub schedules: bool,
    /// Whether it checks the invariants of `convex/invariants.ts`.
    pub invariants: bool,
}

impl Options {
    /// On free ports and in memory, with nothing on that can be off.
    pub fn new(warn: Tell, tell: Tell) -> Self {
        Self {
            port: 0,
            site_port: 0,
            admin_key: None,
            private_network: false,
            loopback: false,
            events: None,
            node: None,
            fresh_contexts: false,
            redact: false,
            answers_at_once: false,
            data: None,
            memory: None,
            warn,
            tell,
            schedules: false,
            invariants: false,
        }
    }
}

/// What a host serves.
struct Content {
    database: Arc<Database>,
    storage: Storage,
    admin_key: String,
    /// Whether its code must be evaluated again.
    is_stale: bool,
    keeper: Option<Keeper>,
}

/// Where a host listens.
struct Ports {
    cloud: TcpListener,
    site: TcpListener,
}

impl Ports {
    async fn open(options: &Options) -> Result<Self, StartError> {
        let cloud = listen(options.port, "--port").await?;
        let site = listen(options.site_port, "--site-port").await?;
        Ok(Self { cloud, site })
    }
}

/// Where data is kept.
#[derive(Clone)]
pub struct Kept {
    /// The folder; made if need be.
    pub folder: PathBuf,
    /// Gives up the commits after this timestamp.
    pub give_up_after: Option<u64>,
    /// Room for history in it.
    pub history_disk: Room,
}

/// A host that serves.
pub struct Running {
    /// Where and with which key.
    pub address: Address,
    /// Origin of HTTP actions.
    pub site_url: String,
    /// Where pushes go: it answers before the gate is open.
    pub operator: Address,
    gate: Option<oneshot::Sender<()>>,
    database: Arc<Database>,
    functions: Arc<functions::Host>,
    outside: Arc<Outside>,
    keeper: Option<Keeper>,
    watch: memory::Watch,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<Stopped>>,
}

/// Why a host could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another program listens there.
    #[error(
        "Port {port} is in use, perhaps by another concave. Stop it, or choose another port with \
         {flag}."
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// The port cannot be opened for another reason.
    #[error("Could not listen on port {port}: {cause}. Choose another with {flag}.")]
    Port {
        /// The port.
        port: u16,
        /// The flag that changes it.
        flag: &'static str,
        /// The system's words.
        cause: io::Error,
    },
    /// A key that cannot be used.
    #[error(
        "The admin key must be 1 to 256 visible ASCII characters without ':' (Convex's clients \
         write an identity after it). Leave the flag out and concave makes one up."
    )]
    AdminKey,
    /// The system gives no randomness.
    #[error("Could not read the system's randomness: {0}.")]
    Entropy(io::Error),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The key in the data folder.
    #[error("Could not read or write {}, which holds the admin key: {cause}.", file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Code that another build of this program evaluated, and this one cannot.
    #[error(
        "The app in the data folder cannot be evaluated: {0} If another version of concave \
         deployed it, start that one, push what this one takes, and come back."
    )]
    Stale(PushError),
    /// A budget that cannot be held.
    #[error(
        "This system does not say how much memory a process has (Linux's /proc is missing), so \
         --memory cannot be held. Leave it out."
    )]
    Unmeasured,
    /// The system gives no threads.
    #[error("Could not start the threads that run functions: {0}. Close programs and try again.")]
    Threads(#[from] io::Error),
}

impl Running {
    /// Opens the ports, starts the threads, serves: the operator at once, everybody else once the
    /// gate is open. A client that connects before that waits for his answer.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let world: Arc<dyn World> = Arc::new(RealWorld::new().map_err(StartError::Entropy)?);
        allocator::give_back_when_idle();
        // First: a host that cannot listen makes no folder.
        let ports = Ports::open(&options).await?;
        let kept = tokio::task::block_in_place(|| open(&options, &*world))?;
        look_for_room(&options)?;
        let admin_key = match (&options.admin_key, &options.data) {
            (Some(key), _) => key.clone(),
            (None, Some(kept)) => key_in(&kept.folder, &*world)?,
            (None, None) => fresh_key(&*world),
        };
        check_key(&admin_key)?;
        let mut storage = files_in_memory(&admin_key, options.memory);
        if let Some(data) = &kept {
            storage.blobs = data.files.clone();
            storage.past = options.data.as_ref().map(|kept| kept.history_disk.bytes);
        }
        let (database, is_stale) = match &kept {
            Some(data) => (Arc::clone(&data.database), data.is_stale),
            None => (Arc::new(Database::new(sizes(&options, &*world))), false),
        };
        let keeper = kept.map(|data| data.keeper);
        warn_unless_confined(&options.warn);
        let content = Content { database, storage, admin_key, is_stale, keeper };
        Self::serve(options, ports, content, world).await
    }

    /// Serves what is there.
    async fn serve(
        options: Options,
        Ports { cloud, site }: Ports,
        content: Content,
        world: Arc<dyn World>,
    ) -> Result<Self, StartError> {
        let Content { database, storage, admin_key, is_stale, keeper } = content;
        let operator = listen(0, "--port").await?;
        let (url, site_url) = (origin(&cloud), origin(&site));
        let operators = Address { url: origin(&operator), admin_key: admin_key.clone() };
        let outside = start_outside(&options, &[&cloud, &site]);
        let files = Files::new(database.clone(), storage.clone(), world.clone());
        let config = config(&options, outside.clone(), storage);
        let functions = functions::Host::start(config, database.clone(), world.clone())?;
        let inner = Arc::default();
        outside.connect(outside::Services {
            functions: Arc::<functions::Host>::downgrade(&functions),
            database: database.clone(),
            world: world.clone(),
            files: files.clone(),
            inner: Arc::clone(&inner),
        });
        tokio::task::block_in_place(|| resume(&functions, &database, is_stale))?;
        let (measure, watch) = watched(&options, &database, &outside, keeper.as_ref())?;
        let server = Server {
            database: database.clone(),
            functions: functions.clone(),
            http_actions: outside.clone(),
            files,
            config: ServerConfig {
                admin_key: admin_key.clone(),
                instance_name: "concave".to_owned(),
                cloud_origin: url.clone(),
                site_origin: site_url.clone(),
                redact: options.redact,
                world: world.clone(),
                events: options.events.clone(),
                warn: options.warn.clone(),
                inner,
                drain: DRAIN,
                body_bytes: options.memory.map_or(limits::HTTP_BODIES_BYTES, Budget::bodies),
                answer_bytes: options.memory.map_or(limits::HTTP_ANSWERS_BYTES, Budget::answers),
                measure: Some(measure),
                schedules: options.schedules,
                invariants: options.invariants,
                forks: Some(Arc::new(Forker { options, world })),
            },
        };
        let (stop, stopping) = oneshot::channel();
        let (gate, opened) = oneshot::channel();
        let listeners =
            Listeners { cloud, site: Some(site), gate: Some(Gate { operator, opened }) };
        let served = tokio::spawn(server::serve(server, listeners, async {
            // The sender is only ever dropped together with the whole host.
            let _ = stopping.await;
        }));
        Ok(Self {
            address: Address { url, admin_key },
            site_url,
            operator: operators,
            gate: Some(gate),
            database,
            functions,
            outside,
            keeper,
            watch,
            stop,
            served,
        })
    }

    /// Lets everybody in. Once is enough.
    pub fn open(&mut self) {
        // Dropping the sender is the signal.
        drop(self.gate.take());
    }

    /// What it serves.
    pub fn database(&self) -> Arc<Database> {
        self.database.clone()
    }

    /// Answers what is in flight, then ends; at once when it is asked a second time. Says why not
    /// everything was answered.
    pub async fn stop(mut self) -> Option<&'static str> {
        // A receiver that is gone means that serving has ended already.
        let _ = self.stop.send(());
        let cut_off = tokio::select! {
            ended = &mut self.served => match ended {
                Ok(Ok(Stopped::Drained)) => None,
                _ => Some("Some requests were still running and were cut off."),
            },
            () = asked_again() => {
                self.served.abort();
                Some("A second signal came: what was still running was cut off.")
            }
        };
        self.outside.shut_down();
        let (functions, keeper, watch) = (self.functions, self.keeper, self.watch);
        tokio::task::block_in_place(|| {
            drop(watch);
            functions.shutdown();
            drop(keeper);
        });
        cut_off
    }
}

/// Starts forks of a host, with its options.
struct Forker {
    options: Options,
    world: Arc<dyn World>,
}

impl Forks for Forker {
    fn fork(&self, origin: Origin) -> Later<Result<Forked, String>> {
        let Origin { snapshot, blobs, schedules } = origin;
        let (options, world) = (self.options.clone(), self.world.clone());
        let options =
            Options { port: 0, site_port: 0, events: None, data: None, schedules, ..options };
        let admin_key = fresh_key(&*world);
        let storage = Storage { blobs, ..files_in_memory(&admin_key, options.memory) };
        let database = Arc::new(Database::fork(snapshot, &sizes(&options, &*world)));
        let content = Content { database, storage, admin_key, is_stale: false, keeper: None };
        Box::pin(async move {
            let ports = Ports::open(&options).await.map_err(|e| e.to_string())?;
            let mut host =
                Running::serve(options, ports, content, world).await.map_err(|e| e.to_string())?;
            host.open();
            let Address { url, admin_key } = host.address.clone();
            let site_url = host.site_url.clone();
            let stop: Box<dyn FnOnce() -> Later<()> + Send> = Box::new(|| {
                Box::pin(async {
                    host.stop().await;
                })
            });
            Ok(Forked { url, site_url, admin_key, stop })
        })
    }
}

/// Starts what runs actions; `fetch` never reaches the host's own sockets.
fn start_outside(options: &Options, own: &[&TcpListener]) -> Arc<Outside> {
    Outside::new(outside::Options {
        program: helper().program,
        arguments: vec![OsString::from(WORKER_COMMAND)],
        timeout: Duration::from_millis(limits::ACTION_TIME_MS),
        network: Network {
            private: options.private_network,
            loopback: options.loopback,
            own: own.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
        },
        node: outside::NodeOptions {
            program: options.node.clone(),
            timeout: Duration::from_millis(limits::NODE_ACTION_TIME_MS),
            tell: options.tell.clone(),
        },
    })
}

/// How the memory of a database is divided.
fn sizes(options: &Options, world: &dyn World) -> DatabaseOptions {
    let now = world.now();
    options.memory.map_or_else(|| DatabaseOptions::at(now), |budget| budget.database(now))
}

/// One a core, as far as there is memory for them.
fn isolates(memory: Option<Budget>) -> usize {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let cores = std::thread::available_parallelism().unwrap_or(two);
    memory.map_or(cores.get(), |budget| budget.isolates(cores))
}

/// Says so when there is little room to work in beside the data. The host starts all the same: how
/// else could room be made?
fn look_for_room(options: &Options) -> Result<(), StartError> {
    let Some(budget) = options.memory else { return Ok(()) };
    allocator::give_back();
    let used = memory::resident().ok_or(StartError::Unmeasured)?;
    if used >= budget.bytes / 100 * 80 {
        (options.warn)(&format!(
            "The host takes {} with its data, and --memory gives it {}: it starts, and refuses \
             new work while memory is full. Calls with the admin key are let in, to delete data \
             (`concave run`); or start it with --memory {}M.",
            Size(used),
            Size(budget.bytes),
            (used * 2).div_ceil(1 << 20)
        ));
    }
    Ok(())
}

/// The processes that run actions.
fn processes(outside: &Arc<Outside>) -> Processes {
    let outside = Arc::downgrade(outside);
    Arc::new(move || {
        let found = outside.upgrade().map(|outside| outside.processes());
        found.unwrap_or_default()
    })
}

/// Ends those of them that have nothing to do.
fn shrink(outside: &Arc<Outside>) -> Arc<dyn Fn() + Send + Sync> {
    let outside = Arc::downgrade(outside);
    Arc::new(move || outside.upgrade().iter().for_each(|outside| outside.shrink()))
}

/// Starts to watch memory; what says at any time what the host takes.
fn watched(
    options: &Options,
    database: &Arc<Database>,
    outside: &Arc<Outside>,
    keeper: Option<&Keeper>,
) -> Result<(Measure, memory::Watch), StartError> {
    let watched = memory::Watched {
        budget: options.memory,
        database: database.clone(),
        processes: processes(outside),
        shrink: shrink(outside),
        tell: options.warn.clone(),
    };
    let measure = measure(&watched, keeper);
    Ok((measure, memory::Watch::start(watched).map_err(StartError::Threads)?))
}

/// What says at any time what the host takes.
fn measure(watched: &memory::Watched, keeper: Option<&Keeper>) -> Measure {
    let budget = watched.budget.map(|budget| budget.bytes);
    let processes = watched.processes.clone();
    let disk = keeper.map(Keeper::disk);
    Arc::new(move || {
        let running = processes();
        Measured {
            budget,
            resident: memory::resident(),
            workers: memory::of_their_own(&running),
            worker_processes: running.len() as u64,
            disk: disk.as_ref().map(|disk| disk()),
        }
    })
}

/// Opens the data, if it is kept.
fn open(options: &Options, world: &dyn World) -> Result<Option<Data>, OpenError> {
    let Some(kept) = &options.data else { return Ok(None) };
    let Kept { folder, give_up_after, history_disk } = kept;
    let options = durable::Options {
        folder: folder.clone(),
        database: sizes(options, world),
        give_up_after: *give_up_after,
        history_disk: history_disk.bytes,
        tell: options.warn.clone(),
    };
    durable::open(options).map(Some)
}

/// Makes the deployment that the data came with run again.
fn resume(
    functions: &functions::Host,
    database: &Database,
    is_stale: bool,
) -> Result<(), StartError> {
    let deployed = database.snapshot().deployment.clone().filter(|_| is_stale);
    match deployed {
        Some(deployed) => {
            // Its startup snapshot is another build's; the sources are as good as ever.
            let bundle = Arc::clone(&deployed.bundle);
            let analysis = functions.analyze(bundle.clone()).map_err(StartError::Stale)?;
            functions.activate(bundle, analysis).map(drop).map_err(StartError::Stale)
        }
        None => functions.resume().map_err(StartError::Stale),
    }
}

/// The admin key of a data folder, made up at its first start. An empty file is none: a start that
/// was interrupted, or had no room, may have left one.
fn key_in(folder: &Path, world: &dyn World) -> Result<String, StartError> {
    let file = folder.join(KEY_FILE);
    let failed = |cause| StartError::KeyFile { file: file.clone(), cause };
    match fs::read_to_string(&file) {
        Ok(key) if !key.trim_end().is_empty() => return Ok(key.trim_end().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    let key = fresh_key(world);
    storage::write_whole(&file, key.as_bytes(), 0o600).map_err(failed)?;
    Ok(key)
}

/// Says what the operator does without on a system that cannot filter system calls.
fn warn_unless_confined(warn: &Tell) {
    if !::actions::confinement::is_available() {
        warn(
            "This system cannot confine processes (Linux's seccomp is missing or forbidden), so \
             actions could send signals to this host and to other programs of its user. Serve \
             only functions that you trust.",
        );
    }
}

/// Functions on so many threads.
fn config(options: &Options, actions: Arc<Outside>, storage: Storage) -> Config {
    let purity = (!options.fresh_contexts).then(|| Arc::new(Reader) as Arc<dyn Purity>);
    let answers_at_once = options.answers_at_once;
    let keep = options.data.as_ref().map(|kept| {
        // Beside the data: the next start finds what it would make again.
        keep::Shelf { path: kept.folder.join(SNAPSHOTS), most: SNAPSHOTS_KEPT }
    });
    let (threads, helper) = (isolates(options.memory), Helper { keep, ..helper() });
    Config { threads, spare_threads: threads, helper, actions, storage, purity, answers_at_once }
}

/// File storage of a host without a data folder.
pub fn files_in_memory(admin_key: &str, memory: Option<Budget>) -> Storage {
    let most = memory.map_or(limits::FILES_MEMORY_BYTES, Budget::files);
    Storage {
        blobs: Arc::new(MemoryStore::new(most)),
        tokens: Arc::new(UploadTokens::new(admin_key)),
        room: Arc::default(),
        past: None,
    }
}

/// Resolves when the user (Ctrl-C) or the system (SIGTERM) wants the host to end.
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let sent = async |kind: SignalKind| match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        // Without a handler the system ends the process by itself.
        Err(_) => std::future::pending().await,
    };
    let hung_up = async {
        match ignores_hangups() {
            true => std::future::pending().await,
            false => sent(SignalKind::hangup()).await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = sent(SignalKind::terminate()) => {}
        () = hung_up => {}
    }
}

/// Resolves when that is wanted once more. Terminals, and `timeout`, send a signal to the host and
/// to its group: what comes within this time is the first one still.
async fn asked_again() {
    tokio::time::sleep(SAME_SIGNAL).await;
    asked_to_stop().await;
}

/// Whether whoever started the host wants it to outlive their terminal: `nohup`.
fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first signal is SIGHUP.
    mask.is_some_and(|mask| mask & 1 != 0)
}

/// `concave|` and 64 hex digits: unguessable, and without the `:` that ends a key in a header.
pub fn fresh_key(world: &dyn World) -> String {
    format!("concave|{}", HEXLOWER.encode(&world.seed()))
}

fn check_key(key: &str) -> Result<(), StartError> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if (1..=256).contains(&key.len()) && key.bytes().all(legal) {
        Ok(())
    } else {
        Err(StartError::AdminKey)
    }
}

async fn listen(port: u16, flag: &'static str) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { port, flag },
        _ => StartError::Port { port, flag, cause },
    })
}

fn origin(listener: &TcpListener) -> String {
    let address = listener.local_addr().expect("a bound socket knows its address");
    format!("http://{address}")
}

/// This program again. Through /proc where there is one: that name stays right when the file was
/// replaced by a newer build while this process runs.
pub fn helper() -> Helper {
    let this = Path::new("/proc/self/exe");
    let program = if this.exists() {
        this.to_owned()
    } else {
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("concave"))
    };
    Helper { program, arguments: vec![OsString::from(BUILDER_COMMAND)], keep: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::SeededWorld;

    #[test]
    fn made_up_keys_are_usable_and_differ() {
        let world = SeededWorld::new(1);
        let (one, other) = (fresh_key(&world), fresh_key(&world));
        assert_ne!(one, other);
        assert_eq!(one.len(), "concave|".len() + 64);
        assert!(check_key(&one).is_ok());
    }

    #[test]
    fn a_folder_keeps_its_key_and_an_empty_file_is_none() {
        let (folder, world) = (tempfile::tempdir().unwrap(), SeededWorld::new(1));
        let file = folder.path().join(KEY_FILE);
        let key = || key_in(folder.path(), &world).unwrap();
        for left in [None, Some(""), Some("\n")] {
            left.into_iter().for_each(|left| fs::write(&file, left).unwrap());
            let made = key();
            assert!(check_key(&made).is_ok(), "{left:?}: {made:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), made);
            assert_eq!(key(), made, "the next start finds it");
        }
        fs::write(&file, "of-the-operator\n").unwrap();
        assert_eq!(key(), "of-the-operator");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn keys_that_headers_cannot_carry_are_refused() {
        for key in ["", "a:b", "a b", "ключ", &"x".repeat(257)] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = listen(port, "--port").await.unwrap_err().to_string();
        assert!(text.contains(&port.to_string()) && text.contains("--port"), "{text}");
    }
}
