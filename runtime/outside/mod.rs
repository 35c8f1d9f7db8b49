//! The outside world of a host: actions and HTTP actions, run by worker processes.
//!
//! ```text
//! http.rs     a request to `http.ts`            node.rs      modules with "use node"
//! calls.rs    what they call of functions       services.rs  and of scheduler and storage
//! ```
//! In: actions from `functions`, requests from `server`. Out: their results; while they run, their
//! calls back to functions, scheduler and storage. Invariant: every call back is a call like any
//! other, made with the identity that the action was called with.

mod calls;
mod http;
mod node;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use ::actions::pool::{CallLimits, Code, Config, Ended, Input, Job, Line, Pool, Source};
use ::actions::protocol::{End, FetchLimits, ImportPhase, Limits, Network, Residents};
use data_encoding::HEXLOWER;
use database::deployment::{Analysis, Bundle, CodeVersion, Environment};
use database::environment::Variables;
use database::limits;
use database::record::{
    Action, ActionEnd, ActionReply, Actions, FunctionError, LogLevel, LogLine, Logged, Unanalyzed,
};
use database::snapshot::Deployment;
use functions::traces::Traces;
use server::{Answering, HttpActions, HttpRequest};
use tokio::runtime::Handle;

pub use calls::Calls;
pub(crate) use calls::thrown;
use node::NodeActions;
pub use node::NodeOptions;
pub use services::Services;

/// Versions whose code is kept ready to be sent to a process.
const VERSIONS_KEPT: usize = 16;

/// How workers are started.
#[derive(Clone)]
pub struct Options {
    /// Path of this program.
    pub program: PathBuf,
    /// The arguments that make it a worker.
    pub arguments: Vec<OsString>,
    /// Wall time of one action.
    pub timeout: Duration,
    /// What runs modules with `"use node"`.
    pub node: NodeOptions,
    /// What `fetch` may reach besides public addresses.
    pub network: Network,
}

/// Runs actions.
pub struct Outside {
    pool: Arc<Pool>,
    node: NodeActions,
    runtime: Handle,
    timeout: Duration,
    services: OnceLock<Arc<Services>>,
    versions: Mutex<Vec<Arc<Version>>>,
    this: Weak<Self>,
}

/// The app of a deployment, or a unit of its components, as workers need it.
struct Version {
    version: CodeVersion,
    code: Arc<Code>,
    traces: Traces,
    /// Modules that export `experimental_reuseContext = true`.
    reusing: BTreeSet<Arc<str>>,
}

impl Outside {
    /// Starts a pool of workers; must be called inside of a tokio runtime.
    pub fn new(options: Options) -> Arc<Self> {
        let runtime = Handle::current();
        let pool = Pool::start(Config {
            program: options.program,
            arguments: options.arguments,
            runtime: runtime.clone(),
            limits: limits_of_a_run(),
            calls: calls_of_a_run(),
            runs_per_process: count(limits::ACTIONS_PER_PROCESS),
            runs: count(limits::ACTIONS_AT_ONCE),
            retire_after: limits::ACTIONS_OF_A_PROCESS,
            idle: Duration::from_millis(limits::ACTION_PROCESS_IDLE_MS),
            node: None,
            residents: Residents::default(),
            keep: None,
            network: options.network.clone(),
        });
        Arc::new_cyclic(|this| Self {
            pool,
            node: NodeActions::new(options.node, options.network, runtime.clone()),
            runtime,
            timeout: options.timeout,
            services: OnceLock::new(),
            versions: Mutex::default(),
            this: this.clone(),
        })
    }

    /// Connects it to what actions ask for. Once.
    pub fn connect(&self, services: Services) {
        // A second call would be a bug of the caller's, and changes nothing.
        let _ = self.services.set(Arc::new(services));
    }

    /// Kills the workers; what still runs ends with an error.
    pub fn shut_down(&self) {
        self.pool.shut_down();
        self.node.shut_down();
    }

    /// The processes that run actions now, those of older code too.
    pub fn processes(&self) -> Vec<u32> {
        let mut processes = self.pool.live();
        processes.extend(self.node.live());
        processes
    }

    /// Ends those that have nothing to do: memory is short.
    pub fn shrink(&self) {
        self.pool.shrink();
        self.node.shrink();
    }

    fn services(&self) -> Option<Arc<Services>> {
        self.services.get().cloned()
    }

    /// `process.env` of a run of a component that begins now.
    fn environment(
        &self,
        deployment: &Deployment,
        component: &str,
    ) -> Arc<BTreeMap<String, String>> {
        let Some(services) = self.services.get() else { return Arc::default() };
        let bindings = deployment.analysis.components.unit(component);
        services.environment(bindings.map(|unit| &unit.environment))
    }

    /// A component of a deployment as workers need it; `None`: there is no such component.
    fn version(&self, deployment: &Deployment, component: &str) -> Option<Arc<Version>> {
        let unit = deployment.analysis.components.unit(component);
        let analysis = match unit {
            Some(unit) => &unit.analysis,
            None if component.is_empty() => &deployment.analysis,
            None => return None,
        };
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = analysis.version;
        if let Some(found) = versions.iter().find(|known| known.version == wanted) {
            return Some(Arc::clone(found));
        }
        let version = Arc::new(match unit {
            Some(unit) => Version::new(&unit.bundle, analysis),
            None => Version::of_app(deployment),
        });
        versions.insert(0, Arc::clone(&version));
        versions.truncate(VERSIONS_KEPT);
        Some(version)
    }

    async fn run_in_worker(self: Arc<Self>, action: Action) -> ActionEnd {
        let call = &action.call;
        let component = &call.path.component;
        let Some(version) = self.version(&action.deployment, component) else {
            return failed(format!("There is no component {component:?}."));
        };
        let job = Job {
            code: Arc::clone(&version.code),
            environment: self.environment(&action.deployment, component),
            module: call.path.module.to_string(),
            export: call.path.export.to_string(),
            request_id: call.request_id.to_string(),
            timeout: self.timeout,
            reuse: version.reuses(&call.path.module),
            input: Input::Action { arguments: call.args.json.to_string() },
        };
        let calls = Arc::new(Calls::of_action(&self, &action, &version));
        match self.pool.run(job, calls).await {
            Ok(mut running) => version.end(running.end().await),
            Err(refused) => ActionEnd { refused: true, ..version.end(refused) },
        }
    }

    async fn run_in_node(self: Arc<Self>, action: Action) -> ActionEnd {
        // A component has no modules for Node.
        let Some(version) = self.version(&action.deployment, "") else {
            return failed("There is no app.".to_owned());
        };
        let calls = Arc::new(Calls::of_action(&self, &action, &version));
        let environment = self.environment(&action.deployment, "");
        let bundle = &action.deployment.bundle;
        match self.node.run(bundle, environment, &action.call, calls).await {
            Ok(ended) => version.end(ended),
            Err(refused) => ActionEnd { refused: true, ..version.end(refused) },
        }
    }
}

impl Actions for Outside {
    fn run(&self, action: Action, reply: ActionReply) {
        let Some(this) = self.this.upgrade() else {
            return reply(failed("The host is shutting down.".to_owned()));
        };
        self.runtime.spawn(async move {
            let end = match action.environment {
                Environment::Isolate => this.run_in_worker(action).await,
                Environment::Node => this.run_in_node(action).await,
            };
            reply(end);
        });
    }

    fn analyze(&self, bundle: &Arc<Bundle>, environment: &Variables) -> Result<String, Unanalyzed> {
        let (tell, told) = std::sync::mpsc::channel();
        if let Some(this) = self.this.upgrade() {
            let (bundle, environment) = (Arc::clone(bundle), by_name(environment));
            self.runtime.spawn(async move {
                // Whoever asked waits below.
                let _ = tell.send(this.node.analyze(&bundle, environment).await);
            });
        }
        told.recv().unwrap_or_else(|_| {
            let message = "The host is shutting down.".to_owned();
            Err(Unanalyzed { code: "AnalysisUnavailable", message, stack: String::new() })
        })
    }

    fn deployed(&self, deployment: &Arc<Deployment>) {
        if let Some(version) = self.version(deployment, "") {
            self.pool.deployed(Arc::clone(&version.code));
        }
        let push = self.node.pushed();
        if NodeActions::is_needed(&deployment.bundle)
            && let Some(this) = self.this.upgrade()
        {
            let deployment = Arc::clone(deployment);
            self.runtime.spawn(async move {
                let environment = this.environment(&deployment, "");
                this.node.deployed(push, &deployment.bundle, &environment).await;
            });
        }
    }
}

impl HttpActions for Outside {
    fn fetch(&self, request: HttpRequest) -> Answering {
        http::fetch(self.this.upgrade(), request)
    }
}

impl Version {
    fn new(bundle: &Arc<Bundle>, analysis: &Arc<Analysis>) -> Self {
        let here = bundle.modules.values().filter(|m| m.environment == Environment::Isolate);
        let modules = here.map(|m| (Arc::clone(&m.path), Arc::clone(&m.source))).collect();
        let version = analysis.version;
        let code = Code {
            version: HEXLOWER.encode(&version.0),
            modules,
            import: ImportPhase { now_ms: bundle.import_time_ms, seed: words(&bundle.import_seed) },
            ..Code::default()
        };
        let traces = Traces::new(bundle, analysis);
        Self { version, code: Arc::new(code), traces, reusing: BTreeSet::new() }
    }

    /// That of the app, whose modules may ask for shared contexts. Instances of a component have
    /// one code: what a run of one leaves in a context is not for the other to find.
    fn of_app(deployment: &Deployment) -> Self {
        let modules = &deployment.analysis.modules;
        let reusing = modules.iter().filter(|(_, module)| module.reuse_context);
        let reusing = reusing.map(|(path, _)| Arc::clone(path)).collect();
        Self { reusing, ..Self::new(&deployment.bundle, &deployment.analysis) }
    }

    /// Whether runs of a module may share a context.
    fn reuses(&self, module: &str) -> bool {
        self.reusing.contains(module)
    }

    /// What a worker said of an action's end, for the action's caller.
    fn end(&self, ended: Ended) -> ActionEnd {
        let log_lines = ended.lines.into_iter().map(|line| self.log_line(line)).collect();
        let result = match ended.end {
            End::Returned => Ok(ended.result),
            End::NoRoute => Err("the worker took it for a router".to_owned()),
            End::Threw(thrown) => {
                let stack = thrown.stack.unwrap_or_default();
                let message = self.traces.full_text(thrown.message, &stack);
                return ActionEnd {
                    result: Err(FunctionError { message, data: thrown.data }),
                    log_lines,
                    refused: false,
                };
            }
        };
        let result = result.map_err(|message| FunctionError { message, data: None });
        ActionEnd { result, log_lines, refused: false }
    }

    /// A line of a worker as functions have them.
    fn log_line(&self, line: Line) -> LogLine {
        let level = match line.level.as_str() {
            "DEBUG" => LogLevel::Debug,
            "ERROR" => LogLevel::Error,
            "WARN" => LogLevel::Warn,
            "INFO" => LogLevel::Info,
            _ => LogLevel::Log,
        };
        let messages = line.messages.into_iter().map(|text| self.traces.readable(text)).collect();
        let logged = match line.source {
            Source::Run => Logged::Live,
            Source::Callee => Logged::ByCallee,
            Source::Host => Logged::AtEnd,
        };
        LogLine { level, messages, truncated: line.truncated, logged }
    }
}

fn failed(message: String) -> ActionEnd {
    let result = Err(FunctionError { message, data: None });
    ActionEnd { result, log_lines: Vec::new(), refused: false }
}

/// A line of a function as workers send them.
fn line(log: &LogLine) -> Line {
    Line {
        level: log.level.name().to_owned(),
        messages: log.messages.clone(),
        truncated: log.truncated,
        source: Source::Callee,
    }
}

/// Environment variables as processes are given them.
fn by_name(variables: &Variables) -> BTreeMap<String, String> {
    variables.iter().map(|(name, found)| (name.to_string(), found.value.to_string())).collect()
}

/// What every run may use, as `database::limits` has it.
pub fn limits_of_a_run() -> Limits {
    Limits {
        heap_bytes: limits::HEAP_BYTES,
        buffer_bytes: limits::ACTION_BUFFER_BYTES,
        wasm_bytes: limits::ACTION_WASM_MEMORY_BYTES,
        process_bytes: limits::ACTION_PROCESS_BYTES,
        log_lines: limits::LOG_LINES,
        log_line_bytes: limits::LOG_LINE_BYTES,
        response_bytes: limits::HTTP_RESPONSE_BYTES,
        pbkdf2_iterations: limits::ACTION_PBKDF2_ITERATIONS,
        context_runs: small(limits::ACTION_CONTEXT_RUNS),
        contexts_kept: small(limits::ACTION_CONTEXTS_KEPT),
        coverage: false,
        fetch: FetchLimits {
            redirects: small(limits::FETCH_REDIRECTS),
            body_bytes: limits::FETCH_BODY_BYTES,
            whole_body_bytes: small(limits::FETCH_WHOLE_BODY_BYTES),
            connect_ms: limits::FETCH_CONNECT_MS,
        },
    }
}

fn words(seed: &[u8; 32]) -> [u32; 8] {
    let (words, _) = seed.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_le_bytes(words[at]))
}

fn small(limit: u64) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// What one action may ask at once, by the table.
pub fn calls_of_a_run() -> CallLimits {
    CallLimits {
        count: count(limits::ACTION_CALLS_AT_ONCE),
        bytes: count(limits::ACTION_CALL_BYTES),
    }
}

fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
