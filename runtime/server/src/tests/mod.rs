//! The whole server without V8: a fake behind the seam, requests without a socket.
//!
//! In: HTTP requests. Out: assertions on the responses.
//! Invariant: the fake is as small as the seam; what it answers depends only on the call.

mod admission;
mod auth;
mod backups;
mod calls;
mod data;
mod files;
mod http_actions;
mod imports;
mod logs;
mod operator;
mod push;
mod scheduler;
mod session;
mod shutdown;
mod signing;
mod socket;
mod turn;
mod why;

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use database::commit::{Conflict, Database, Options};
use database::deployment::{
    Analysis, AnalyzedFunction, AnalyzedModule, Bundle, CodeVersion, Tier, Visibility,
};
use database::environment::Change;
use database::error::{PushError, Refusal};
use database::probe::{Probe, Site};
use database::record::{
    Call, FunctionError, FunctionKind, Functions, Given, LogLevel, LogLine, Logged, Observed,
    Outcome, Reply, Timestamp, World,
};
use database::schema::Schema;
use database::snapshot::Deployment;
use database::validate::Validator;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::host::Host;
use crate::{
    Answering, Event, Files, HttpActions, HttpFailure, HttpRequest, Routes, Server, ServerConfig,
};
use storage::{BlobStore, MemoryStore, Storage, UploadTokens};

/// The key of every test.
const KEY: &str = "test|0123456789abcdef";

/// Bytes that all files of a test may have.
const MEMORY: u64 = 4 << 20;

/// A clock that moves one microsecond a look, and a seed that counts.
struct Clock(AtomicU64);

impl World for Clock {
    fn now(&self) -> u64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.now().to_le_bytes());
        seed
    }
}

/// What a fake function does with a call.
type Answer = dyn Fn(&Call) -> Answered + Send + Sync;

/// Encoded JSON, the function's error, or the host's refusal.
type Answered = Result<Result<String, FunctionError>, Refusal>;

/// The seam, without V8.
struct Fake {
    database: Arc<Database>,
    world: Arc<Clock>,
    answer: Box<Answer>,
    log_lines: Mutex<Vec<LogLine>>,
    /// Bundles that were analyzed, in order.
    analyzed: Mutex<Vec<Arc<Bundle>>>,
    /// What made every call run again.
    retries: Mutex<Vec<Conflict>>,
    /// Calls whose lines were looked for.
    located: Mutex<Vec<String>>,
    /// Replies that wait for the test.
    held: Mutex<Option<Vec<(Reply, Outcome)>>>,
}

impl Functions for Fake {
    fn analyze(&self, bundle: Arc<Bundle>) -> Result<Arc<Analysis>, PushError> {
        self.analyzed.lock().unwrap().push(bundle.clone());
        let mut version = Sha256::new();
        version.update(format!("{bundle:?}"));
        let mut modules = std::collections::BTreeMap::new();
        for (path, module) in &bundle.modules {
            if module.source.contains("SYNTAX ERROR") {
                return Err(PushError::new("BadModule", format!("{path}: syntax error")));
            }
            modules.insert(path.clone(), analyzed_module(&module.source));
        }
        let schema = bundle.schema.as_ref().map(|schema| Schema::from_json(&schema.source));
        let schema = schema.transpose().map_err(|e| PushError::new(e.code, e.message))?;
        let auth = bundle.modules.iter().find(|(path, _)| path.ends_with("auth.config.js"));
        Ok(Arc::new(Analysis {
            version: CodeVersion(version.finalize().into()),
            modules,
            schema: schema.map(Arc::new),
            definition_json: None,
            auth_json: auth.map(|(_, module)| module.source.to_string()),
            imported_environment: Default::default(),
            components: Default::default(),
            tier: Tier::Evaluate {
                reason: Some("a fake has no snapshot".into()),
                blob: Arc::from([]),
            },
            warnings: vec!["a fake warns".into()],
        }))
    }

    fn activate(
        &self,
        bundle: Arc<Bundle>,
        analysis: Arc<Analysis>,
    ) -> Result<Timestamp, PushError> {
        self.database.activate(Deployment { bundle, analysis }, self.world.now())
    }

    fn change_environment(&self, changes: &[Change]) -> Result<Timestamp, PushError> {
        self.database.change_environment(changes, self.world.now())
    }

    fn call(&self, call: Call, reply: Reply) {
        let outcome = match (self.answer)(&call) {
            Ok(result) => self.outcome(result),
            Err(refusal) => return reply(Err(refusal)),
        };
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push((reply, outcome)),
            None => reply(Ok(outcome)),
        }
    }

    fn locate(&self, call: &Call, given: &Given, probe: &Probe) -> Result<Option<Site>, Refusal> {
        self.located.lock().unwrap().push(call.path.identifier());
        self.database.snapshot_at(given.snapshot)?;
        let line = match probe {
            Probe::Read(_) => 12,
            Probe::Write(_) => 31,
        };
        let (file, function) = ("convex/shop.ts".to_owned(), Some("handler".to_owned()));
        Ok(Some(Site { file, line, column: 5, function, exact: true }))
    }
}

impl Fake {
    fn outcome(&self, result: Result<String, FunctionError>) -> Outcome {
        Outcome {
            result: result.map(Arc::from),
            log_lines: self.log_lines.lock().unwrap().clone().into(),
            cached: true,
            retries: self.retries.lock().unwrap().clone(),
            ..Outcome::of_nothing(Given { snapshot: Timestamp(1), ..Given::default() })
        }
    }
}

/// The public query `list`; routes, cron jobs, the mutation `tick` and the action `fly` where the
/// source says so. What follows `cronJobs` is their specs.
fn analyzed_module(source: &str) -> AnalyzedModule {
    let mut functions = vec![analyzed_function("list", FunctionKind::Query)];
    if source.contains("cronJobs") || source.contains("mutation") {
        functions.push(analyzed_function("tick", FunctionKind::Mutation));
        functions.push(analyzed_function("fly", FunctionKind::Action));
    }
    let crons = source.split_once("cronJobs").map(|(_, specs)| match specs.trim() {
        "" => {
            r#"{"tick":{"name":"crons:tick","args":[{}],"schedule":{"type":"hourly"}}}"#.to_owned()
        }
        specs => specs.to_owned(),
    });
    AnalyzedModule {
        functions,
        http_routes: source.contains("httpRouter").then(Vec::new),
        crons_json: crons,
        reuse_context: false,
    }
}

fn analyzed_function(name: &str, kind: FunctionKind) -> AnalyzedFunction {
    let any = r#"{"type":"any"}"#;
    AnalyzedFunction {
        name: name.into(),
        kind,
        visibility: Some(Visibility::Public),
        args_json: any.into(),
        args: Validator::from_json(any).unwrap(),
        returns_json: "null".into(),
        returns: None,
        position: None,
        invariant: None,
    }
}

/// A server under test.
struct Bench {
    fake: Arc<Fake>,
    cloud: Router,
    site: Router,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A server whose functions answer with their arguments.
fn echo() -> Bench {
    bench(false, |call| Ok(Ok(call.args.json[1..call.args.json.len() - 1].to_owned())))
}

fn bench(redact: bool, answer: impl Fn(&Call) -> Answered + Send + Sync + 'static) -> Bench {
    let (server, fake, events) = server(redact, Box::new(answer));
    let Routes { cloud, site } = Routes::new(server);
    Bench { fake, cloud, site, events }
}

/// What every handler has, without routes.
pub(crate) fn host_alone() -> Arc<Host> {
    Arc::new(Host::new(server(false, Box::new(|_| Ok(Ok("null".into())))).0))
}

fn server(redact: bool, answer: Box<Answer>) -> (Server, Arc<Fake>, Arc<Mutex<Vec<Event>>>) {
    let world = Arc::new(Clock(AtomicU64::new(1_700_000_000_000_000_000)));
    let database = Arc::new(Database::new(Options::at(world.now())));
    let fake = Arc::new(Fake {
        database: database.clone(),
        world: world.clone(),
        answer,
        log_lines: Mutex::default(),
        analyzed: Mutex::default(),
        retries: Mutex::default(),
        located: Mutex::default(),
        held: Mutex::default(),
    });
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = events.clone();
    let config = ServerConfig {
        admin_key: KEY.into(),
        instance_name: "bench".into(),
        cloud_origin: "http://127.0.0.1:3210".into(),
        site_origin: "http://127.0.0.1:3211".into(),
        redact,
        world,
        events: Some(Arc::new(move |event| told.lock().unwrap().push(event))),
        warn: Arc::new(|text| panic!("nothing warns here: {text}")),
        inner: Arc::default(),
        drain: Duration::from_millis(200),
        body_bytes: database::limits::HTTP_BODIES_BYTES,
        answer_bytes: database::limits::HTTP_ANSWERS_BYTES,
        measure: None,
        schedules: true,
        invariants: false,
        forks: None,
    };
    let http_actions = Arc::new(NoHttpActions);
    let files = files(&database, &fake.world).1;
    (Server { database, functions: fake.clone(), http_actions, files, config }, fake, events)
}

/// File storage in memory.
fn files<W: World>(database: &Arc<Database>, world: &Arc<W>) -> (Arc<MemoryStore>, Arc<Files>) {
    let blobs = Arc::new(MemoryStore::new(MEMORY));
    let storage = storage_of(blobs.clone());
    (blobs, Files::new(database.clone(), storage, world.clone()))
}

fn storage_of(blobs: Arc<dyn BlobStore>) -> Storage {
    let (tokens, room) = (Arc::new(UploadTokens::new(KEY)), Arc::default());
    Storage { blobs, tokens, room, past: None }
}

/// An app without `http.ts`.
struct NoHttpActions;

impl HttpActions for NoHttpActions {
    fn fetch(&self, _: HttpRequest) -> Answering {
        Box::pin(async { Err(HttpFailure::NoRoute) })
    }
}

/// A response, read to its end.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    /// Status and code of a failure.
    fn failure(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Bench {
    async fn send(&self, request: Request<Body>) -> Got {
        let response = self.cloud.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Got { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Got {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Got {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// With an `Authorization` header.
    async fn authorized(&self, method: Method, path: &str, (auth, body): (&str, String)) -> Got {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, auth).body(Body::from(body));
        self.send(request.unwrap()).await
    }

    /// As the operator.
    async fn admin(&self, path: &str, body: Value) -> Got {
        let with = (&*format!("Convex {KEY}"), body.to_string());
        self.authorized(Method::POST, path, with).await
    }
}

/// Runs a test that ends its process, in a process of its own; gives how it ended and what it said.
pub(crate) fn run_alone(test: &str) -> (ExitStatus, String) {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let ended = alone.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    (ended.status, String::from_utf8(ended.stderr).unwrap())
}

/// Waits for the end of such a process; without one the test has failed.
pub(crate) fn outlive() {
    std::thread::sleep(Duration::from_secs(20));
}

/// A `console.log` line.
fn log_line(text: &str) -> LogLine {
    let (level, messages) = (LogLevel::Log, vec![text.to_owned()]);
    LogLine { level, messages, truncated: false, logged: Logged::AtEnd }
}
