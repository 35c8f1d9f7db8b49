//! Actions of modules with `"use node"`: real Node processes, one run at a time in each.
//!
//! In: deployments and their actions. Out: results; at push, what Node modules export. Invariant: a
//! process has seen one set of modules, packages and environment variables, and no other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::actions::node::{Node, NodeError};
use ::actions::node_folder::{self, Folder};
use ::actions::node_packages::{Packages, PackagesError, Tell};
use ::actions::pool::{Callbacks, Code, Config, Ended, Input, Job, Pool, Reply, Replying, Syscall};
use ::actions::protocol::{End, Network, Residents, Thrown};
use data_encoding::HEXLOWER;
use database::deployment::{Bundle, Environment};
use database::limits;
use database::record::{Call, Unanalyzed};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::{calls_of_a_run, count, limits_of_a_run};

/// Sets of modules, packages and variables whose folders are kept.
const CODES_KEPT: usize = 4;

/// How Node is found and used.
#[derive(Clone)]
pub struct NodeOptions {
    /// The program; `None`: the first `node` on `PATH`.
    pub program: Option<PathBuf>,
    /// Wall time of one action.
    pub timeout: Duration,
    /// Told what takes long.
    pub tell: Tell,
}

/// Runs Node actions.
pub(super) struct NodeActions {
    options: NodeOptions,
    network: Network,
    runtime: Handle,
    packages: Packages,
    /// Stays empty until there is a Node. Whoever only looks at it waits for nobody.
    pool: OnceCell<(Node, Arc<Pool>)>,
    is_shut: AtomicBool,
    codes: Mutex<Vec<Arc<Code>>>,
    /// How many pushes there were.
    pushes: Mutex<u64>,
}

/// The number of a push: the higher, the later.
#[derive(Clone, Copy)]
pub(super) struct Push(u64);

/// Why nothing runs in Node.
#[derive(Debug, Error)]
pub(super) enum Unavailable {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error("The modules could not be written for Node: {0}. Look at the host's temporary folder.")]
    Folder(#[from] std::io::Error),
}

/// While modules are looked at, they may ask nothing.
struct Silent;

impl Callbacks for Silent {
    fn syscall(&self, _: Syscall) -> Replying {
        Box::pin(async { Reply::error("Can't use the host while a module is imported") })
    }
}

impl NodeActions {
    pub(super) fn new(options: NodeOptions, network: Network, runtime: Handle) -> Self {
        let patience = Duration::from_millis(limits::NODE_INSTALL_MS);
        let packages = Packages::new(patience, Arc::clone(&options.tell));
        runtime.spawn_blocking(node_folder::sweep);
        let (pool, is_shut, codes, pushes) = Default::default();
        Self { options, network, runtime, packages, pool, is_shut, codes, pushes }
    }

    /// All processes, also those that take no more jobs.
    pub(super) fn live(&self) -> Vec<u32> {
        self.pool.get().map(|(_, pool)| pool.live()).unwrap_or_default()
    }

    /// Ends those that have nothing to do.
    pub(super) fn shrink(&self) {
        self.pool.get().iter().for_each(|(_, pool)| pool.shrink());
    }

    /// Whether a bundle has anything for Node.
    pub(super) fn is_needed(bundle: &Bundle) -> bool {
        bundle.modules.values().any(|module| module.environment == Environment::Node)
    }

    /// Runs an action.
    ///
    /// # Errors
    /// Why it was not begun, as an end.
    pub(super) async fn run(
        &self,
        bundle: &Bundle,
        environment: Arc<BTreeMap<String, String>>,
        call: &Call,
        callbacks: Arc<dyn Callbacks>,
    ) -> Result<Ended, Ended> {
        let ready = self.ready(bundle, &environment).await;
        let (pool, code) = match ready {
            Ok(ready) => ready,
            Err(why) => return Ok(refused(format!("{} cannot run: {why}", call.path))),
        };
        let input = Input::Action { arguments: call.args.json.to_string() };
        let job = Job {
            code,
            environment,
            module: call.path.module.to_string(),
            export: call.path.export.to_string(),
            request_id: call.request_id.to_string(),
            timeout: self.options.timeout,
            reuse: false,
            input,
        };
        Ok(pool.run(job, callbacks).await?.end().await)
    }

    /// What a bundle's Node modules export, as JSON text.
    pub(super) async fn analyze(
        &self,
        bundle: &Bundle,
        environment: BTreeMap<String, String>,
    ) -> Result<String, Unanalyzed> {
        let (pool, code) = self.ready(bundle, &environment).await.map_err(|why| {
            let code = match why {
                Unavailable::Node(_) => "NodeUnavailable",
                Unavailable::Packages(_) => "NodePackagesNotInstalled",
                Unavailable::Folder(_) => "AnalysisUnavailable",
            };
            Unanalyzed { code, message: why.to_string(), stack: String::new() }
        })?;
        let job = Job {
            code,
            environment: Arc::new(environment),
            module: "your \"use node\" modules".to_owned(),
            export: "default".to_owned(),
            request_id: String::new(),
            timeout: Duration::from_millis(limits::NODE_ANALYSIS_MS),
            reuse: false,
            input: Input::Analysis { modules: entries(bundle) },
        };
        let ended = match pool.run(job, Arc::new(Silent)).await {
            Ok(mut running) => running.end().await,
            Err(refused) => refused,
        };
        match ended.end {
            End::Threw(Thrown { message, stack, .. }) => Err(Unanalyzed {
                code: "ModuleAnalyzeError",
                message,
                stack: stack.unwrap_or_default(),
            }),
            _ => Ok(ended.result),
        }
    }

    /// Counts a push, at the moment from which it is what runs.
    pub(super) fn pushed(&self) -> Push {
        let mut pushes = self.pushes();
        *pushes += 1;
        Push(*pushes)
    }

    fn pushes(&self) -> MutexGuard<'_, u64> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a process ready for a deployment, unless another one was pushed since: one may wait
    /// for its packages while the next has all it needs.
    pub(super) async fn deployed(
        &self,
        push: Push,
        bundle: &Bundle,
        environment: &BTreeMap<String, String>,
    ) {
        // Whoever calls an action hears why there is none.
        let Ok((pool, code)) = self.ready(bundle, environment).await else { return };
        // Held until the pool knows: the next push is told after this one, or instead of it.
        let pushes = self.pushes();
        if *pushes == push.0 {
            pool.deployed(code);
        }
    }

    /// Kills the processes and removes their folders.
    pub(super) fn shut_down(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
        if let Some((_, pool)) = self.pool.get() {
            pool.shut_down();
        }
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in codes.drain(..).filter_map(|code| code.folder.clone()) {
            folder.remove();
        }
    }

    /// The pool, and what is to run in it.
    async fn ready(
        &self,
        bundle: &Bundle,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Arc<Pool>, Arc<Code>), Unavailable> {
        let (node, pool) = self.pool().await?;
        let version = version(bundle, environment);
        if let Some(code) = self.kept(&version) {
            return Ok((pool, code));
        }
        let packages = match bundle.node_packages.is_empty() {
            true => None,
            false => Some(self.packages.folder(&node, &bundle.node_packages).await?),
        };
        let modules = bundle.modules.values().filter(|m| m.environment == Environment::Node);
        let modules = modules.map(|module| (&*module.path, &*module.source));
        let folder = tokio::task::block_in_place(|| {
            Folder::write(modules, &entries(bundle), packages.as_deref())
        });
        let folder = folder?;
        let folder = Some(Arc::new(folder));
        let environment = Some(Arc::new(environment.clone()));
        let code = Code { version, folder, environment, ..Code::default() };
        Ok((pool, self.keep(Arc::new(code))))
    }

    fn kept(&self, version: &str) -> Option<Arc<Code>> {
        let codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.iter().find(|code| code.version == version).cloned()
    }

    /// Keeps it, unless somebody was quicker.
    fn keep(&self, code: Arc<Code>) -> Arc<Code> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = codes.iter().find(|known| known.version == code.version) {
            return Arc::clone(known);
        }
        codes.insert(0, Arc::clone(&code));
        codes.truncate(CODES_KEPT);
        code
    }

    /// Looks for Node until there is one.
    async fn pool(&self) -> Result<(Node, Arc<Pool>), NodeError> {
        let (node, pool) = self.pool.get_or_try_init(|| self.start()).await?;
        // Who shut it down may have looked before there was a pool.
        if self.is_shut.load(Ordering::SeqCst) {
            pool.shut_down();
        }
        Ok((node.clone(), Arc::clone(pool)))
    }

    async fn start(&self) -> Result<(Node, Arc<Pool>), NodeError> {
        let program = self.options.program.as_deref();
        let heap_mib = limits::NODE_HEAP_BYTES >> 20;
        let (process, file) = (limits::ACTION_PROCESS_BYTES, limits::NODE_FILE_BYTES);
        let node = Node::find(program, heap_mib, process, file).await?;
        let pool = Pool::start(Config {
            program: node.program.clone(),
            arguments: Vec::new(),
            runtime: self.runtime.clone(),
            limits: limits_of_a_run(),
            calls: calls_of_a_run(),
            runs_per_process: 1,
            runs: count(limits::NODE_ACTIONS_AT_ONCE),
            retire_after: limits::ACTIONS_OF_A_PROCESS,
            idle: Duration::from_millis(limits::ACTION_PROCESS_IDLE_MS),
            network: self.network.clone(),
            node: Some(node.clone()),
            residents: Residents::default(),
            keep: None,
        });
        Ok((node, pool))
    }
}

/// The modules that have functions: not those that others only import.
fn entries(bundle: &Bundle) -> Vec<String> {
    let modules = bundle.modules.values().filter(|m| m.environment == Environment::Node);
    let is_chunk = |path: &str| path.starts_with("_deps/") || path.contains("/_deps/");
    modules.map(|m| m.path.to_string()).filter(|path| !is_chunk(path)).collect()
}

/// Names what a process has seen.
fn version(bundle: &Bundle, environment: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    let mut feed = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    let modules = bundle.modules.values().filter(|m| m.environment == Environment::Node);
    for module in modules {
        feed(&module.path);
        feed(&module.source);
    }
    for (name, value) in bundle.node_packages.iter().chain(environment) {
        feed(name);
        feed(value);
    }
    HEXLOWER.encode(&hash.finalize())
}

fn refused(message: String) -> Ended {
    let thrown = Thrown { message, ..Thrown::default() };
    Ended { end: End::Threw(thrown), result: String::new(), lines: Vec::new() }
}

#[cfg(test)]
mod tests {
    use database::deployment::Module;

    use super::*;

    fn bundle(source: &str) -> Bundle {
        let (path, source): (Arc<str>, Arc<str>) = ("m.js".into(), source.into());
        let environment = Environment::Node;
        let module = Module { path: Arc::clone(&path), source, source_map: None, environment };
        Bundle { modules: BTreeMap::from([(path, module)]), ..Bundle::default() }
    }

    fn actions() -> NodeActions {
        let timeout = Duration::from_millis(limits::NODE_ACTION_TIME_MS);
        let options = NodeOptions { program: None, timeout, tell: Arc::new(|_| {}) };
        NodeActions::new(options, Network::default(), Handle::current())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_pushes_the_later_one_is_the_newest_though_it_is_ready_first() {
        let node = actions();
        let (older, newer) = (bundle("export {};"), bundle("export const a = 1;"));
        let variables = BTreeMap::new();
        let (first, second) = (node.pushed(), node.pushed());
        node.deployed(second, &newer, &variables).await;
        let (_, pool) = node.pool().await.unwrap();
        while pool.processes().is_empty() {
            tokio::task::yield_now().await;
        }
        let processes = pool.processes();
        node.deployed(first, &older, &variables).await;
        assert_eq!(pool.processes(), processes, "those of the newer code go on");
        node.deployed(node.pushed(), &older, &variables).await;
        assert!(!pool.processes().contains(&processes[0]), "the older code was pushed again");
        node.shut_down();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn processes_are_seen_and_killed_whoever_asks_for_the_pool_meanwhile() {
        let (node, is_over) = (Arc::new(actions()), Arc::new(AtomicBool::new(false)));
        let (_, pool) = node.pool().await.unwrap();
        node.deployed(node.pushed(), &bundle("export {};"), &BTreeMap::new()).await;
        while pool.live().is_empty() {
            tokio::task::yield_now().await;
        }
        let (asking, until) = (Arc::clone(&node), Arc::clone(&is_over));
        let asks = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                asking.pool().await.unwrap();
            }
        });
        assert!((0..100_000).all(|_| !node.live().is_empty()), "a look finds the process");
        is_over.store(true, Ordering::Relaxed);
        asks.await.unwrap();
        node.shut_down();
        while !pool.live().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_started_once_it_is_shut_down() {
        let node = actions();
        node.shut_down();
        let why = node.analyze(&bundle("export {};"), BTreeMap::new()).await.unwrap_err();
        assert_eq!(why.message, "The host is shutting down.");
    }
}
