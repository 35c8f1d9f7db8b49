//! What a call was given and everything it touched: `Call`, `Outcome`, and the two seams
//! `Functions` and `World`.
//!
//! In: nothing; these are the nouns every other file speaks. Out: the types that stops 1 to 8 hand
//! to each other.
//! Invariant: a [`Call`], a [`Given`] and the code version reproduce an [`Outcome`] byte for byte
//! (design, section 1: "record what went in; derive everything else on demand").

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commit::Conflict;
use crate::deployment::{Analysis, Bundle, CodeVersion, Environment, Module};
use crate::environment::{Change, Variables};
use crate::error::{PushError, Refusal, UserError};
use crate::id::DocumentId;
use crate::json;
use crate::probe::{Probe, Site};
use crate::read_set::ReadSet;
use crate::recording::{Replay, Replayed};
use crate::snapshot::Deployment;
use crate::value::Value;
use crate::work::Usage;

/// A point in the database's history: nanoseconds since the Unix epoch, strictly increasing per
/// commit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where time and randomness enter (design, section 1, point 5). The real one reads the machine's
/// clock; a simulated one is a function of a seed.
pub trait World: Send + Sync + 'static {
    /// Nanoseconds since the Unix epoch.
    fn now(&self) -> u64;
    /// 32 fresh bytes: the seed of one call.
    fn seed(&self) -> [u8; 32];
}

/// The kind of a registered function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FunctionKind {
    /// Reads at one snapshot; cached.
    Query,
    /// Reads and writes in one serializable transaction.
    Mutation,
    /// Reaches the outside world; no transaction of its own.
    Action,
}

impl FunctionKind {
    /// `Query`, `Mutation` or `Action`, as Convex's messages and deploy protocol spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Mutation => "Mutation",
            Self::Action => "Action",
        }
    }

    /// `query`, `mutation` or `action`, as authors write it.
    pub fn lower_name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Action => "action",
        }
    }
}

/// The folder of modules that are the host's own: no author's module can be in it.
pub const HOST_MODULES: &str = "_system/";

/// The address of one function: component, module and export.
///
/// Grammar (`convex-compat.md` section 1.2): `dir/mod[.js][:export]`, split on the last `:`; a
/// missing export means `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionPath {
    /// Component path, child names joined by `/`; the root is the empty string.
    pub component: Arc<str>,
    /// Canonical module path with its extension: `dir/mod.js`.
    pub module: Arc<str>,
    /// Name of the export.
    pub export: Arc<str>,
}

impl FunctionPath {
    /// Parses `dir/mod[.js][:export]` in the root component.
    ///
    /// # Errors
    /// A component of the path that is empty, longer than 64 characters or has other characters
    /// than `[A-Za-z0-9_.]`, or an extension that is not `.js`.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let (module, export) = text.rsplit_once(':').unwrap_or((text, "default"));
        let bad = |why: String| Err(UserError::new("InvalidFunctionPath", why));
        for part in module.split('/') {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if part.len() > 64
                || !part.chars().all(legal)
                || !part.chars().any(|c| c.is_ascii_alphanumeric())
            {
                return bad(format!(
                    "{text:?} is not a function path: {part:?} must be 1 to 64 characters of \
                     A-Z, a-z, 0-9, '_' and '.'. Write it as \"dir/module:function\"."
                ));
            }
        }
        if export.is_empty() || export.len() > 64 {
            return bad(format!(
                "{text:?} is not a function path: the part after ':' must name an export."
            ));
        }
        let module = match module.strip_suffix(".js") {
            Some(stem) => format!("{stem}.js"),
            None => format!("{module}.js"),
        };
        Ok(Self { component: "".into(), module: module.into(), export: export.into() })
    }

    /// The same function of a component.
    pub fn within(self, component: &Arc<str>) -> Self {
        Self { component: Arc::clone(component), ..self }
    }

    /// ` in component "a/b"`, or nothing for the app: the end of messages.
    pub fn whereabouts(&self) -> String {
        match &*self.component {
            "" => String::new(),
            component => format!(" in component {component:?}"),
        }
    }

    /// `dir/mod:fn`, without `.js` and without `:default`: the form in logs and messages.
    pub fn identifier(&self) -> String {
        let stem = self.module.strip_suffix(".js").unwrap_or(&self.module);
        if &*self.export == "default" { stem.to_owned() } else { format!("{stem}:{}", self.export) }
    }

    /// `component/dir/mod:fn`: the same among the functions of all components.
    pub fn full_name(&self) -> String {
        full_name(&self.component, &self.identifier())
    }

    /// `dir/mod.js:fn`, the canonical form.
    pub fn canonical(&self) -> String {
        format!("{}:{}", self.module, self.export)
    }
}

/// What a function of a component is called among those of all components; `identifier` is its name
/// in there.
pub fn full_name(component: &str, identifier: &str) -> String {
    match component {
        "" => identifier.to_owned(),
        path => format!("{path}/{identifier}"),
    }
}

impl fmt::Display for FunctionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identifier())
    }
}

/// The one argument object of a call, decoded once and kept in canonical text.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// The object.
    pub value: Arc<Value>,
    /// Canonical encoded JSON of a one-element array: what `invokeQuery` receives and the cache
    /// key holds.
    pub json: Arc<str>,
}

impl Arguments {
    /// Parses the `args` of a request: an object, or an array of zero or one objects.
    ///
    /// # Errors
    /// JSON that is malformed, or of another shape (`convex-compat.md` section 3.4).
    pub fn parse(path: &FunctionPath, text: &str) -> Result<Self, UserError> {
        let invalid = |e: &dyn fmt::Display| {
            UserError::new("InvalidArguments", format!("Invalid arguments for {path}: {e}"))
        };
        let value = match json::decode(text).map_err(|e| invalid(&e))? {
            Value::Array(mut items) if items.len() <= 1 => {
                items.pop().unwrap_or_else(|| Value::Object(Default::default()))
            }
            other => other,
        };
        Self::from_value(value)
    }

    /// Wraps an object.
    ///
    /// # Errors
    /// A value that is not an object.
    pub fn from_value(value: Value) -> Result<Self, UserError> {
        let text = json::encode(&value);
        if !matches!(value, Value::Object(_)) {
            return Err(UserError::new(
                "InvalidArguments",
                format!(
                    "Expected to receive an object as the function's argument. Instead received: \
                     {text}"
                ),
            ));
        }
        Ok(Self { value: Arc::new(value), json: format!("[{text}]").into() })
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Nobody in particular.
    Anonymous,
    /// A user whose token was verified.
    User(Arc<UserIdentity>),
    /// The operator, with the admin key. `getUserIdentity()` gives null.
    Admin,
    /// The operator acting as a user.
    ActingAs(Arc<UserIdentity>),
    /// The host itself: scheduler, crons.
    System,
}

/// A user's verified attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIdentity {
    /// `<issuer>|<subject>`.
    pub token_identifier: String,
    /// JSON text of the object that `getUserIdentity()` returns.
    pub attributes: Arc<str>,
}

impl Identity {
    /// Whether it is let in while memory is short: the operator, who can make room.
    pub fn makes_room(&self) -> bool {
        matches!(self, Self::Admin | Self::ActingAs(_))
    }

    /// Whether internal functions and `_system/` functions exist for this caller.
    pub fn is_admin(&self) -> bool {
        matches!(self, Self::Admin | Self::ActingAs(_) | Self::System)
    }

    /// What `getUserIdentity()` gives: JSON text, or `None` for null.
    pub fn attributes(&self) -> Option<&Arc<str>> {
        match self {
            Self::User(user) | Self::ActingAs(user) => Some(&user.attributes),
            Self::Anonymous | Self::Admin | Self::System => None,
        }
    }
}

/// Through which door a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// `/api/query` and its siblings.
    HttpApi,
    /// A WebSocket session.
    SyncWorker,
    /// An action that called another function.
    Function {
        /// Actions above it, each called by the one before.
        depth: u8,
    },
    /// A scheduled call.
    Scheduler,
    /// A cron job.
    Cron,
    /// `/api/run_test_function` and `concave test`.
    Tester,
}

/// Which kind a caller insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The function must be of this kind.
    Kind(FunctionKind),
    /// Whatever it is registered as (`/api/function`).
    Any,
}

/// Names a request of a client across its connections, so that it commits at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The client's session: the bytes of its UUID.
    pub session: [u8; 16],
    /// The request's number within the session.
    pub request: u32,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of session ", self.request)?;
        self.session.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a call runs for that no client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// A row of `_scheduled_functions`.
    Scheduled(DocumentId),
    /// One occurrence of a cron job.
    Cron(CronRun),
}

impl Job {
    /// The scheduled function, if it is one.
    pub fn scheduled(self) -> Option<DocumentId> {
        match self {
            Self::Scheduled(id) => Some(id),
            Self::Cron(_) => None,
        }
    }

    /// Its run, of a function of this kind.
    pub fn call(
        self,
        kind: FunctionKind,
        (path, args): (FunctionPath, Arguments),
        request_id: Arc<str>,
    ) -> Call {
        let caller = match self {
            Self::Scheduled(_) => Caller::Scheduler,
            Self::Cron(_) => Caller::Cron,
        };
        Call {
            path,
            args,
            expect: Expect::Kind(kind),
            identity: Identity::System,
            caller,
            request_id,
            at: None,
            journal: None,
            once: None,
            job: Some(self),
        }
    }
}

/// One occurrence of a cron job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronRun {
    /// Its row of `_cron_jobs`.
    pub id: DocumentId,
    /// The occurrence, nanoseconds since the Unix epoch.
    pub due: u64,
    /// The one after it, nanoseconds since the Unix epoch.
    pub next: u64,
}

/// One request to run a function: what the caller decided.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which function.
    pub path: FunctionPath,
    /// Its argument.
    pub args: Arguments,
    /// The kind the door demands.
    pub expect: Expect,
    /// Who calls.
    pub identity: Identity,
    /// The door.
    pub caller: Caller,
    /// 16 hex digits that name the request in logs and errors.
    pub request_id: Arc<str>,
    /// For queries: the snapshot to run at; `None` is the newest.
    pub at: Option<Timestamp>,
    /// For queries: the journal of an earlier run, so that pages keep their ends.
    pub journal: Option<Arc<str>>,
    /// For mutations: a request that may arrive again and must not commit twice. A repeat gets the
    /// answer of the commit.
    pub once: Option<RequestKey>,
    /// The job that it is (from [`Caller::Scheduler`] and [`Caller::Cron`]), or on whose behalf it
    /// runs: an action hands its own on to what it calls.
    pub job: Option<Job>,
}

impl Call {
    /// The job whose run this call is.
    pub fn own_job(&self) -> Option<Job> {
        self.job.filter(|_| matches!(self.caller, Caller::Scheduler | Caller::Cron))
    }
}

/// A call and what was decided for one attempt at it, without what can be derived: what the log
/// keeps of it to run it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallRecord {
    /// Which function.
    pub path: FunctionPath,
    /// Canonical JSON text of the argument array.
    pub args: Arc<str>,
    /// The kind the door demanded.
    pub expect: Expect,
    /// Who called.
    pub identity: Identity,
    /// The door.
    pub caller: Caller,
    /// Names the request in logs and errors.
    pub request_id: Arc<str>,
    /// For queries: the journal it was handed.
    pub journal: Option<Arc<str>>,
    /// The job it was, or ran for.
    pub job: Option<Job>,
    /// What the host decided.
    pub given: Given,
}

impl CallRecord {
    /// Keeps what a call cannot do without; copies no text.
    pub fn new(call: &Call, given: &Given) -> Self {
        Self {
            path: call.path.clone(),
            args: Arc::clone(&call.args.json),
            expect: call.expect,
            identity: call.identity.clone(),
            caller: call.caller,
            request_id: Arc::clone(&call.request_id),
            journal: call.journal.clone(),
            job: call.job,
            given: given.clone(),
        }
    }

    /// The call, to be run at the snapshot of `given`.
    ///
    /// # Errors
    /// None for a record of a call that ran: its arguments were parsed before.
    pub fn call(&self) -> Result<Call, UserError> {
        Ok(Call {
            path: self.path.clone(),
            args: Arguments::parse(&self.path, &self.args)?,
            expect: self.expect,
            identity: self.identity.clone(),
            caller: self.caller,
            request_id: Arc::clone(&self.request_id),
            at: None,
            journal: self.journal.clone(),
            once: None,
            job: self.job,
        })
    }

    /// Estimated memory that it keeps alive, in bytes.
    pub fn bytes(&self) -> usize {
        let user = match &self.identity {
            Identity::User(user) | Identity::ActingAs(user) => {
                user.token_identifier.len() + user.attributes.len()
            }
            Identity::Anonymous | Identity::Admin | Identity::System => 0,
        };
        let path = self.path.component.len() + self.path.module.len() + self.path.export.len();
        let journal = self.journal.as_ref().map_or(0, |journal| journal.len());
        // Each text is an allocation with two counters; there are about six.
        size_of::<Self>() + 96 + path + self.args.len() + self.request_id.len() + user + journal
    }
}

/// What the host decided for one attempt at a call: with the [`Call`] it determines the
/// [`Outcome`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Code that ran.
    pub code: CodeVersion,
    /// Snapshot it read.
    pub snapshot: Timestamp,
    /// Seed of `Math.random`, ids and everything else random.
    pub seed: [u8; 32],
    /// The frozen clock, nanoseconds since the Unix epoch.
    pub now: u64,
}

/// Which hidden inputs a function looked at; they bound how widely its result may be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// `Date.now()` and its kin.
    pub time: bool,
    /// `Math.random()` and its kin.
    pub randomness: bool,
    /// `ctx.auth`.
    pub identity: bool,
}

/// Severity of a console line, as Convex prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// `console.debug`
    Debug,
    /// `console.error`
    Error,
    /// `console.warn` and the host's own warnings
    Warn,
    /// `console.info`
    Info,
    /// `console.log`
    Log,
}

impl LogLevel {
    /// `DEBUG`, `ERROR`, `WARN`, `INFO` or `LOG`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }
}

/// One line that a function (or the host about it) logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Severity.
    pub level: LogLevel,
    /// Rendered arguments.
    pub messages: Vec<String>,
    /// Whether text was cut at the line limit.
    pub truncated: bool,
    /// Where the log has it.
    pub logged: Logged,
}

/// Where the log has a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Logged {
    /// With the end of the call.
    #[default]
    AtEnd,
    /// By itself, since it was written: an action goes on for long.
    Live,
    /// With a function that the action called.
    ByCallee,
}

impl LogLine {
    /// One of the host's own, a warning.
    pub fn warning(text: String) -> Self {
        let level = LogLevel::Warn;
        Self { level, messages: vec![text], truncated: false, logged: Logged::AtEnd }
    }

    /// The form clients parse: `[LEVEL] a b c` (`convex-compat.md` section 8.4).
    pub fn client_text(&self) -> String {
        let cut = if self.truncated { " (truncated due to length)" } else { "" };
        format!("[{}] {}{cut}", self.level.name(), self.messages.join(" "))
    }
}

/// Why a function failed, in its author's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionError {
    /// Full text: `Uncaught Error: msg\n    at fn (../convex/file.ts:L:C)\n`.
    pub message: String,
    /// Encoded JSON text of a ConvexError's data.
    pub data: Option<String>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Encoded JSON text of the result, or the function's error.
    pub result: Result<Arc<str>, FunctionError>,
    /// Kind that the function turned out to be.
    pub kind: FunctionKind,
    /// Console lines, in order.
    pub log_lines: Arc<[LogLine]>,
    /// A mutation's commit; else the snapshot at which the result holds.
    pub ts: Timestamp,
    /// Every range of index keys that was read.
    pub reads: Arc<ReadSet>,
    /// Hash over the writes in order (ids, before, after): equal executions have equal hashes.
    pub writes_digest: [u8; 32],
    /// Hidden inputs that were looked at.
    pub observed: Observed,
    /// Counted work.
    pub usage: Usage,
    /// Where a paginated query ended, to be handed back on a re-run.
    pub journal: Option<Arc<str>>,
    /// Whether nothing ran for it: the query cache answered, an equal call that was running, or
    /// the record of the request's earlier delivery.
    pub cached: bool,
    /// The conflicts that made it run again, oldest first.
    pub retries: Vec<Conflict>,
    /// What the operator should know about how it ran.
    pub remark: Option<Arc<str>>,
    /// What the host decided for the attempt that counted.
    pub given: Given,
}

impl Outcome {
    /// That of a query that read nothing, said nothing and gave `null`, as of `given`'s snapshot:
    /// what others are made from.
    #[must_use]
    pub fn of_nothing(given: Given) -> Self {
        Self {
            result: Ok("null".into()),
            kind: FunctionKind::Query,
            log_lines: Arc::from([]),
            ts: given.snapshot,
            reads: Arc::default(),
            writes_digest: [0; 32],
            observed: Observed::default(),
            usage: Usage::default(),
            journal: None,
            cached: false,
            retries: Vec::new(),
            remark: None,
            given,
        }
    }
}

/// How an answer travels back: called exactly once, on any thread, and must not block.
pub type Reply = Box<dyn FnOnce(Result<Outcome, Refusal>) + Send>;

/// One action to run: it was found, the caller may call it, and its arguments are valid.
#[derive(Clone, Debug)]
pub struct Action {
    /// What was asked for.
    pub call: Call,
    /// The code to run.
    pub deployment: Arc<Deployment>,
    /// Where its module runs.
    pub environment: Environment,
    /// What the host decided: the snapshot it was found in, when it started.
    pub given: Given,
}

/// How an action ended.
#[derive(Clone, Debug)]
pub struct ActionEnd {
    /// Encoded JSON text of the result as the function returned it, or its error.
    pub result: Result<String, FunctionError>,
    /// Console lines, in order.
    pub log_lines: Vec<LogLine>,
    /// Whether the host did not begin it; `result` says why.
    pub refused: bool,
}

/// How the end of an action travels back: called exactly once, on any thread, must not block.
pub type ActionReply = Box<dyn FnOnce(ActionEnd) + Send>;

/// Why Node modules could not be analyzed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanalyzed {
    /// Short CamelCase code.
    pub code: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
    /// V8's stack text with positions in modules, where something was thrown.
    pub stack: String,
}

/// The door to the outside world. The root package implements it with worker processes; tests
/// implement it with closures.
pub trait Actions: Send + Sync + 'static {
    /// Runs one action to its end; at once, not in a queue behind others.
    fn run(&self, action: Action, reply: ActionReply);

    /// What the Node modules of a bundle export, as JSON text: by path, what
    /// `functions/src/analyze.rs` calls a `FoundModule`. Blocks for as long as it takes, the
    /// installation of packages included.
    ///
    /// # Errors
    /// A module that cannot be imported, a package that cannot be installed, no Node.
    fn analyze(&self, bundle: &Arc<Bundle>, environment: &Variables) -> Result<String, Unanalyzed> {
        let _ = (bundle, environment);
        let message = "Modules with \"use node\" are not run by this host.".to_owned();
        Err(Unanalyzed { code: "NodeUnavailable", message, stack: String::new() })
    }

    /// A push became the running deployment: workers may be made ready for it.
    fn deployed(&self, deployment: &Arc<Deployment>) {
        let _ = deployment;
    }
}

/// The one door from protocols to functions. The `functions` crate implements it with V8; tests
/// implement it with closures.
pub trait Functions: Send + Sync + 'static {
    /// Evaluates every module of a pushed bundle in a separate process and lists what it exports.
    /// Blocks for tens of milliseconds. Leaves what is serving untouched.
    ///
    /// # Errors
    /// What is wrong with the bundle, in its author's terms.
    fn analyze(&self, bundle: Arc<Bundle>) -> Result<Arc<Analysis>, PushError>;

    /// Makes an analyzed bundle the running deployment, atomically with its schema and indexes.
    /// Blocks while existing documents are checked and new indexes are filled.
    ///
    /// # Errors
    /// Documents that do not match the new schema; the previous deployment goes on serving.
    fn activate(
        &self,
        bundle: Arc<Bundle>,
        analysis: Arc<Analysis>,
    ) -> Result<Timestamp, PushError>;

    /// Sets and deletes environment variables that were checked, all of them or none. Where the
    /// running code looked at one of them while it was imported, its modules are evaluated again
    /// first. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Modules that fail with the new values, or a push that ended meanwhile (`RaceDetected`);
    /// nothing has changed then.
    fn change_environment(&self, changes: &[Change]) -> Result<Timestamp, PushError> {
        let _ = changes;
        Err(PushError::new("NotSupported", "These functions have no environment variables."))
    }

    /// Runs one call to its end: cache, queue, isolate, transaction, commit, retries.
    fn call(&self, call: Call, reply: Reply);

    /// How many calls wait for an isolate.
    fn waiting(&self) -> usize {
        0
    }

    /// Runs a query of `modules`, which are not deployed, at the newest snapshot; they may import
    /// and call what is. Nothing is written and nothing is cached. Blocks for as long as the
    /// modules take to be evaluated and the query to run.
    ///
    /// # Errors
    /// A module that cannot be evaluated, in its author's terms, or a host that cannot run it.
    fn inline(&self, modules: Vec<Module>, call: &Call) -> Result<Outcome, Refusal> {
        let _ = (modules, call);
        let text = "Inline queries are not run by this host.";
        Err(Refusal::Bad(UserError::new("NotSupported", text)))
    }

    /// Runs a call again, as [`Functions::replay`] does, and finds the author's line at which
    /// `probe` first held. `None`: no line did it, as when the code itself was replaced.
    ///
    /// # Errors
    /// [`Refusal::OutOfRetention`]: the call's snapshot is no longer kept.
    fn locate(&self, call: &Call, given: &Given, probe: &Probe) -> Result<Option<Site>, Refusal> {
        let _ = (call, given, probe);
        Ok(None)
    }

    /// Runs a call again with what was decided for it then, without cache and without commit, in
    /// the code of then or in other code. Blocks for as long as it runs, or is debugged.
    ///
    /// # Errors
    /// [`Refusal::OutOfRetention`]: the call's snapshot is no longer kept; code that cannot be
    /// evaluated or does not have the function; an action, which is more than its snapshot.
    fn replay(&self, replay: Replay) -> Result<Replayed, Refusal> {
        let text = format!("{} cannot be run again by this host.", replay.call.path);
        Err(Refusal::Bad(UserError::new("NotSupported", text)))
    }

    /// How the contexts of each module are used, in a few words for the operator, by its path.
    fn contexts(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
