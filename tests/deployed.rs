//! A running deployment for tests: a database, a host, and functions written in plain JavaScript
//! against the bare ABI, so that no npm package is needed.
//!
//! In: module sources. Out: outcomes. Invariant: the builder is the real binary's hidden command.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use concave::world::SeededWorld;
use database::commit::{Database, Options};
use database::deployment::{Bundle, Environment, Module};
use database::error::{PushError, Refusal};
use database::record::{
    Action, ActionEnd, ActionReply, Actions, Arguments, Call, Caller, Expect, FunctionError,
    FunctionPath, Functions as _, Identity, Outcome,
};
use functions::reuse::Purity;
use functions::{Config, Helper, Host};
use server::{Answering, HttpActions, HttpFailure, HttpRequest};
use storage::{MemoryStore, Storage, UploadTokens};

/// What `query(…)` and `mutation(…)` of npm's `convex/server` come down to.
pub const ABI: &str = r#"
const wrap = (flag, method) => (handler, visibility = "isPublic") => ({
    [flag]: true, [visibility]: true, _handler: handler,
    exportArgs: () => '{"type":"any"}', exportReturns: () => "null",
    [method]: async (text) => {
        const result = await handler(db, JSON.parse(text)[0]);
        return JSON.stringify(result === undefined ? null : result);
    },
});
export const query = wrap("isQuery", "invokeQuery");
export const action = wrap("isAction", "invokeAction");
export const mutation = wrap("isMutation", "invokeMutation");
const call = async (op, args) => JSON.parse(await Convex.asyncSyscall("1.0/" + op,
    JSON.stringify(args)));
const stream = (source, operators = []) => {
    const text = JSON.stringify({ query: { source, operators } });
    return JSON.parse(Convex.syscall("1.0/queryStream", text)).queryId;
};
export const db = {
    call,
    get: (id) => call("get", { id, isSystem: false }),
    insert: async (table, value) => (await call("insert", { table, value }))._id,
    patch: (id, value) => call("shallowMerge", { id, value }),
    replace: (id, value) => call("replace", { id, value }),
    remove: (id) => call("remove", { id }),
    runMutation: (name, args) => call("runUdf", { udfType: "mutation", name, args }),
    runQuery: (name, args) => call("runUdf", { udfType: "query", name, args }),
    async all(source, operators) {
        const queryId = stream(source, operators);
        const found = [];
        for (;;) {
            const { value, done } = await call("queryStreamNext", { queryId });
            if (done) return found;
            found.push(value);
        }
    },
    table: (tableName, operators) =>
        db.all({ type: "FullTableScan", tableName, order: "asc" }, operators),
    index: (indexName, range, operators, order = "asc") =>
        db.all({ type: "IndexRange", indexName, range, order }, operators),
};
"#;

/// The outside world of tests that have none; it does not even begin what is called `crowded`.
pub struct NoActions;

impl Actions for NoActions {
    fn run(&self, action: Action, reply: ActionReply) {
        let refused = &*action.call.path.export == "crowded";
        let message = if refused { "too many" } else { "no actions here" }.to_owned();
        let result = Err(FunctionError { message, data: None });
        reply(ActionEnd { result, log_lines: Vec::new(), refused });
    }
}

impl HttpActions for NoActions {
    fn fetch(&self, _request: HttpRequest) -> Answering {
        Box::pin(async { Err(HttpFailure::NoRoute) })
    }
}
/// Bytes that all files of a test may have.
pub const FILE_BYTES: u64 = 1 << 20;

/// Where an answer arrives.
pub type Answer = mpsc::Receiver<Result<Outcome, Refusal>>;

/// What a host under test is made with.
pub struct Made {
    pub threads: usize,
    pub purity: Option<Arc<dyn Purity>>,
    pub answers_at_once: bool,
}

impl Default for Made {
    fn default() -> Self {
        Self { threads: 2, purity: None, answers_at_once: false }
    }
}

/// A deployment under test.
pub struct Deployed {
    pub host: Arc<Host>,
    pub database: Arc<Database>,
    pub storage: Storage,
    pub blobs: Arc<MemoryStore>,
    requests: AtomicU64,
}

impl Deployed {
    /// Pushes `modules` (path without extension, source); each may `import … from "./abi.js"`.
    pub fn with(modules: &[(&str, &str)]) -> Self {
        let deployed = Self::empty();
        deployed.push(modules).expect("the modules are fine");
        deployed
    }

    /// A host with nothing deployed.
    pub fn empty() -> Self {
        Self::on_threads(2)
    }

    /// A host with nothing deployed and so many isolates.
    pub fn on_threads(threads: usize) -> Self {
        Self::proved_by(threads, None)
    }

    /// The same, where contexts of modules that `purity` proves are used again.
    pub fn proved_by(threads: usize, purity: Option<Arc<dyn Purity>>) -> Self {
        Self::made(Made { threads, purity, ..Made::default() })
    }

    /// A host with nothing deployed.
    pub fn made(made: Made) -> Self {
        let database = Arc::new(Database::new(Options::at(1_699_999_999_000_000_000)));
        Self::over(made, database, helper())
    }

    /// A host of a database, with another builder.
    pub fn over(made: Made, database: Arc<Database>, helper: Helper) -> Self {
        let Made { threads, purity, answers_at_once } = made;
        let world = Arc::new(SeededWorld::new(1));
        let blobs = Arc::new(MemoryStore::new(FILE_BYTES));
        let (tokens, room) = (Arc::new(UploadTokens::new("key")), Arc::default());
        let storage = Storage { blobs: blobs.clone(), tokens, room, past: None };
        let (actions, given) = (Arc::new(NoActions), storage.clone());
        let config = Config {
            threads,
            spare_threads: threads,
            helper,
            actions,
            storage: given,
            purity,
            answers_at_once,
        };
        let host = Host::start(config, Arc::clone(&database), world).expect("threads start");
        Self { host, database, storage, blobs, requests: AtomicU64::new(1) }
    }

    /// Pushes modules over whatever serves.
    pub fn push(&self, modules: &[(&str, &str)]) -> Result<(), PushError> {
        self.push_bundle(bundle(modules))
    }

    /// Pushes a bundle.
    pub fn push_bundle(&self, bundle: Bundle) -> Result<(), PushError> {
        let bundle = Arc::new(bundle);
        let analysis = self.host.analyze(Arc::clone(&bundle))?;
        self.host.activate(bundle, analysis)?;
        Ok(())
    }

    /// Starts a call; the answer comes on the channel.
    pub fn start(&self, call: Call) -> Answer {
        let (send, answer) = mpsc::channel();
        self.host.call(call, Box::new(move |outcome| drop(send.send(outcome))));
        answer
    }

    /// A call as `/api/function` makes it.
    pub fn make(&self, path: &str, args: &str) -> Call {
        let path = FunctionPath::parse(path).expect("a path");
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Call {
            args: Arguments::parse(&path, args).expect("arguments"),
            path,
            expect: Expect::Any,
            identity: Identity::Admin,
            caller: Caller::HttpApi,
            request_id: format!("{number:016x}").into(),
            at: None,
            journal: None,
            once: None,
            job: None,
        }
    }

    /// Runs a function to its end.
    pub fn run(&self, path: &str, args: &str) -> Outcome {
        self.start(self.make(path, args)).recv().expect("an answer").expect("no refusal")
    }

    /// The JSON text of a function that must succeed.
    pub fn value(&self, path: &str, args: &str) -> String {
        match self.run(path, args).result {
            Ok(text) => text.to_string(),
            Err(error) => panic!("{path} failed: {}", error.message),
        }
    }

    /// The error text of a function that must fail.
    pub fn error(&self, path: &str, args: &str) -> String {
        match self.run(path, args).result {
            Ok(text) => panic!("{path} gave {text}"),
            Err(error) => error.message,
        }
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        self.host.shutdown();
    }
}

/// The builder's process.
pub fn helper() -> Helper {
    Helper {
        program: PathBuf::from(env!("CARGO_BIN_EXE_concave")),
        arguments: vec!["snapshot-builder".into()],
        keep: None,
    }
}

/// A bundle of plain modules plus `abi.js`.
pub fn bundle(modules: &[(&str, &str)]) -> Bundle {
    let mut bundle =
        Bundle { import_time_ms: 1_600_000_000_000, import_seed: [9; 32], ..Bundle::default() };
    for (name, source) in modules.iter().copied().chain([("abi", ABI)]) {
        let path: Arc<str> = format!("{name}.js").into();
        let module = Module {
            path: Arc::clone(&path),
            source: source.into(),
            source_map: None,
            environment: Environment::Isolate,
        };
        match name {
            "schema" => bundle.schema = Some(module),
            _ => drop(bundle.modules.insert(path, module)),
        }
    }
    bundle
}
