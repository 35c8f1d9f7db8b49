//! One test file's run in a worker: what it asks of the host.
//!
//! In: the syscalls of `js/test`. Out: answers; events of its tests. Invariant: every function that
//! the engine hands to the worker is ended, by the worker or with the run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use ::actions::pool::{Callbacks, Reply, Replying, Syscall};
use database::error::{PushError, UserError};
use database::id::DocumentId;
use database::record::{
    Action, ActionEnd, ActionReply, Actions, Arguments, Call, Caller, Expect, FunctionError,
    FunctionKind, FunctionPath, Functions as _, Identity, UserIdentity,
};
use database::snapshot::{Deployment, Snapshot};
use database::work::Budget;
use functions::address::Address;
use functions::{Elsewhere, Turn, Visit};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::coverage::Counted;
use super::deploy::{Deployer, Part};
use super::frames::Frames;
use super::world::{Clock, Opening, World};
use crate::outside::{Calls, thrown};

/// What every file's run shares.
pub struct Bench {
    /// Its threads run the functions of every world.
    pub host: Arc<functions::Host>,
    /// Makes deployments.
    pub deployer: Deployer,
    /// Source maps of the test files.
    pub frames: Frames,
    /// Seed of all randomness.
    pub seed: u64,
}

/// A test as it begins or ends.
#[derive(Clone, Debug)]
pub enum News {
    /// It began.
    Started(Started),
    /// It ended; the report of it.
    Ended(Value),
    /// The file has been imported; its tests begin.
    Collected,
    /// What of the modules ran.
    Counted(Counted),
}

/// A test that began.
#[derive(Clone, Debug, Deserialize)]
pub struct Started {
    /// Names it in its file.
    pub id: String,
    /// Suites and test.
    pub names: Vec<String>,
    /// Milliseconds that it may take.
    pub timeout: f64,
}

/// One run.
pub struct Realm {
    bench: Arc<Bench>,
    this: Weak<Self>,
    numbers: AtomicU64,
    worlds: Mutex<BTreeMap<u64, Arc<World>>>,
    visits: Mutex<BTreeMap<u64, Sender<Turn>>>,
    actions: Mutex<BTreeMap<u64, Doing>>,
    events: Mutex<Option<UnboundedSender<Value>>>,
    listener: AsyncMutex<UnboundedReceiver<Value>>,
    news: UnboundedSender<News>,
    heard: Mutex<Option<(Instant, Instant)>>,
}

/// An action that the worker runs.
struct Doing {
    world: u64,
    calls: Arc<Calls>,
    /// Who waits for its end: the engine, or for what a test runs itself nobody.
    reply: Option<ActionReply>,
}

#[derive(Deserialize)]
struct Open {
    parts: Vec<Part>,
    /// `transactionLimits`, JSON text.
    limits: Option<String>,
    now: f64,
    /// Tells the randomness of this world from that of others.
    salt: u32,
}

#[derive(Deserialize)]
struct Deploy {
    world: u64,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Asked {
    world: u64,
    kind: String,
    /// JSON text of the fields that name a function.
    address: String,
    /// JSON text.
    args: String,
    component: Arc<str>,
    identity: Option<Value>,
    now: f64,
    env: BTreeMap<String, String>,
    /// Names the request; what it runs in the worker is told by it.
    request: Arc<str>,
}

#[derive(Deserialize)]
struct Begin {
    world: u64,
    component: Arc<str>,
    identity: Option<Value>,
    request: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnOf {
    visit: u64,
    op: String,
    json: String,
    is_sync: bool,
}

#[derive(Deserialize)]
struct AskOf {
    action: u64,
    op: String,
    json: String,
    now: f64,
}

#[derive(Deserialize)]
struct End {
    visit: Option<u64>,
    action: Option<u64>,
    result: Option<String>,
    error: Option<Described>,
}

/// A value that a function of the worker threw.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    /// Whether the function is one of the test itself: its errors stay as they were thrown.
    is_own: bool,
    /// `Uncaught Error: …`
    message: String,
    /// A ConvexError's, encoded JSON text.
    data: Option<String>,
    stack: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fire {
    world: u64,
    job: String,
    #[serde(default)]
    is_cron: bool,
    now: f64,
    request: Arc<str>,
}

#[derive(Deserialize)]
struct Due {
    world: u64,
    now: f64,
    /// What runs already, or is about to.
    #[serde(default)]
    skip: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Watching {
    /// How the test names it.
    watch: u64,
    #[serde(flatten)]
    asked: Asked,
}

#[derive(Deserialize)]
struct SnapshotFile {
    file: PathBuf,
    #[serde(default)]
    text: String,
}

/// Whose file it is, in what `ctx.storage` asks.
#[derive(Deserialize)]
struct Storing {
    action: u64,
}

impl Realm {
    /// A run that tells its news.
    pub fn new(bench: Arc<Bench>, news: UnboundedSender<News>) -> Arc<Self> {
        let (events, listener) = unbounded_channel();
        Arc::new_cyclic(|this| Self {
            bench,
            this: this.clone(),
            numbers: AtomicU64::new(1),
            worlds: Mutex::default(),
            visits: Mutex::default(),
            actions: Mutex::default(),
            events: Mutex::new(Some(events)),
            listener: AsyncMutex::new(listener),
            news,
            heard: Mutex::default(),
        })
    }

    /// When the worker said something first and last; `None`: it is still starting.
    pub fn heard(&self) -> Option<(Instant, Instant)> {
        *lock(&self.heard)
    }

    fn note(&self) {
        let (mut heard, now) = (lock(&self.heard), Instant::now());
        *heard = Some((heard.map_or(now, |(first, _)| first), now));
    }

    /// Ends what waits for the worker.
    pub fn close(&self) {
        lock(&self.events).take();
        lock(&self.visits).clear();
        lock(&self.worlds).clear();
        for (_, Doing { reply, .. }) in std::mem::take(&mut *lock(&self.actions)) {
            if let Some(reply) = reply {
                reply(failed("The test ended before this action did.".to_owned(), None));
            }
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn send(&self, event: Value) {
        if let Some(events) = &*lock(&self.events) {
            // The listener lives as long as the run.
            let _ = events.send(event);
        }
    }

    fn world(&self, id: u64) -> Result<Arc<World>, UserError> {
        let found = lock(&self.worlds).get(&id).cloned();
        found.ok_or_else(|| UserError::new("NoWorld", "This convexTest() has ended."))
    }

    /// What the worker is to do next; null when there will be no more.
    async fn next(&self) -> Value {
        let mut listener = self.listener.lock().await;
        let Some(first) = listener.recv().await else { return Value::Null };
        let mut events = vec![first];
        while let Ok(more) = listener.try_recv() {
            events.push(more);
        }
        Value::Array(events)
    }

    /// Opens a world; blocks while its deployment is made.
    fn open(&self, asked: &Open) -> Result<Value, UserError> {
        let ready = self.bench.deployer.deployment(&asked.parts)?;
        let budget = asked.limits.as_deref().map(functions::transaction_limits).transpose();
        let budget = budget
            .map_err(|e| UserError::new("TransactionLimits", format!("transactionLimits: {e}")))?;
        let id = self.number();
        let seed = self.bench.seed ^ (u64::from(asked.salt) << 32);
        let clock = Clock::new(asked.now, seed);
        let opening = self.opening(id, clock, budget);
        let world = World::open(&self.bench.host, &ready, opening).map_err(pushed)?;
        lock(&self.worlds).insert(id, Arc::new(world));
        Ok(json!({ "id": id }))
    }

    /// Replaces the functions of a world; blocks while the deployment is made.
    fn deploy(&self, asked: &Deploy) -> Result<Value, UserError> {
        let world = self.world(asked.world)?;
        let ready = self.bench.deployer.deployment(&asked.parts)?;
        let Deployment { bundle, analysis } = &*ready.deployment;
        world.functions.activate(Arc::clone(bundle), Arc::clone(analysis)).map_err(pushed)?;
        Ok(Value::Null)
    }

    fn opening(&self, id: u64, clock: Clock, budget: Option<Budget>) -> Opening {
        let seat = Arc::new(Seat { realm: self.this.clone(), world: id });
        let (clock, actions) = (Arc::new(clock), seat.clone());
        Opening { id, clock, actions, elsewhere: seat, budget, twice: true }
    }

    /// Copies a world. Every copy draws the same randomness: what differs is the order of calls.
    async fn fork(&self, of: &Due) -> Result<Value, UserError> {
        let world = self.world(of.world)?;
        let id = self.number();
        let clock = Clock::new(of.now, !world.clock.seed);
        // Whether its functions are deterministic the test has seen before.
        let opening = Opening { twice: false, ..self.opening(id, clock, None) };
        let forked = world.fork(&self.bench.host, opening).await;
        lock(&self.worlds).insert(id, Arc::new(forked));
        Ok(json!({ "id": id }))
    }

    /// The call that a test asks for.
    async fn prepare(&self, asked: Asked) -> Result<(Arc<World>, Call), UserError> {
        let world = self.world(asked.world)?;
        world.clock.set(asked.now);
        let mut env = asked.env;
        env.remove("NODE_ENV");
        world.set_environment(env).await.map_err(pushed)?;
        let path = parse::<Address<'_>>(&asked.address)?
            .path(&world.database.newest(), &asked.component)?;
        let args = Arguments::parse(&path, &asked.args)?;
        let call = Call {
            path,
            args,
            expect: expected(&asked.kind),
            identity: identity(asked.identity.as_ref()),
            caller: Caller::Function { depth: 0 },
            request_id: asked.request,
            at: None,
            journal: None,
            once: None,
            job: None,
        };
        Ok((world, call))
    }

    /// Watches a query.
    async fn watch(&self, Watching { watch, asked }: Watching) -> Result<Value, UserError> {
        let (world, call) = self.prepare(asked).await?;
        world.watch(watch, call);
        Ok(json!({ "changes": world.changes().await }))
    }

    /// Runs a named function.
    async fn call(&self, asked: Asked) -> Result<Value, UserError> {
        let (world, call) = self.prepare(asked).await?;
        let outcome = world.call(call).await;
        let outcome = outcome.map_err(|refusal| UserError::new("Refused", refusal.to_string()))?;
        let (jobs, changes) = (world.new_jobs(), world.changes().await);
        let violations = self.violations(&world).await;
        match outcome.result {
            Ok(text) => {
                let value = RawValue::from_string(text.to_string());
                let value = value.map_err(|e| UserError::new("BadResult", e.to_string()))?;
                Ok(json!({
                    "value": value, "jobs": jobs, "changes": changes, "violations": violations,
                }))
            }
            Err(error) => Ok(json!({
                "error": { "message": error.message, "data": error.data }, "jobs": jobs,
                "changes": changes, "violations": violations,
            })),
        }
    }

    /// Passes a question of a function in the worker to its call's thread.
    async fn turn(&self, turn: TurnOf) -> Result<Value, UserError> {
        let (done, answered) = oneshot::channel();
        let asked = Turn::Ask {
            operation: turn.op,
            arguments: turn.json,
            is_sync: turn.is_sync,
            answer: Box::new(move |answer| drop(done.send(answer))),
        };
        let over = || {
            UserError::new(
                "FunctionEnded",
                "This function has ended: its ctx cannot be used any more. Is an await missing?",
            )
        };
        let turns = lock(&self.visits).get(&turn.visit).cloned().ok_or_else(over)?;
        turns.send(asked).map_err(|_| over())?;
        parse(&answered.await.map_err(|_| over())??)
    }

    /// Answers an action in the worker.
    async fn ask(&self, asked: AskOf) -> Result<Reply, UserError> {
        let (world, calls) = {
            let actions = lock(&self.actions);
            let doing = actions.get(&asked.action);
            doing.map(|doing| (doing.world, Arc::clone(&doing.calls)))
        }
        .ok_or_else(|| UserError::new("ActionEnded", "This action has ended."))?;
        let world = self.world(world)?;
        world.clock.set(asked.now);
        let reply = calls.syscall(Syscall { op: asked.op, json: asked.json, body: None }).await;
        let Ok(text) = &reply.result else { return Ok(reply) };
        let value: Box<RawValue> = parse(text)?;
        Ok(answer(&json!({ "value": value, "jobs": world.new_jobs(),
            "changes": world.changes().await, "violations": self.violations(&world).await })))
    }

    /// Lets the worker act as an action of nobody's module.
    fn begin(&self, begin: Begin) -> Result<Value, UserError> {
        let world = self.world(begin.world)?;
        let path = FunctionPath::parse("inline")?.within(&begin.component);
        let call = Call {
            args: Arguments::parse(&path, "{}")?,
            path,
            expect: Expect::Kind(FunctionKind::Action),
            identity: identity(begin.identity.as_ref()),
            caller: Caller::Function { depth: 0 },
            request_id: begin.request,
            at: None,
            journal: None,
            once: None,
            job: None,
        };
        let calls = Arc::new(Calls::of_call(Some(Arc::clone(&world.services)), &call));
        let id = self.number();
        lock(&self.actions).insert(id, Doing { world: world.id, calls, reply: None });
        Ok(json!(id))
    }

    /// A function of the worker has ended.
    fn end(&self, end: End) -> Value {
        if let Some(turns) = end.visit.and_then(|visit| lock(&self.visits).remove(&visit)) {
            let result = match (end.result, &end.error) {
                (Some(text), _) => Ok(text),
                (None, Some(error)) => Err(UserError {
                    code: "TestFunctionFailed",
                    message: raw(&error.message).to_owned(),
                    data: error.data.clone(),
                }),
                (None, None) => Ok("null".to_owned()),
            };
            // A call that was stopped meanwhile needs no result.
            let _ = turns.send(Turn::End(result));
            return Value::Null;
        }
        let doing = end.action.and_then(|action| lock(&self.actions).remove(&action));
        if let Some(reply) = doing.and_then(|doing| doing.reply) {
            reply(match (end.result, end.error) {
                (_, Some(error)) if error.is_own => failed(raw(&error.message).into(), error.data),
                (_, Some(error)) => {
                    let frames = self.bench.frames.of(&error.stack);
                    let frames = frames.iter().map(|f| format!("\n    at {}", f.as_of_engine()));
                    failed(frames.fold(error.message, |text, one| text + one.as_str()), error.data)
                }
                (result, None) => ActionEnd {
                    result: Ok(result.unwrap_or_else(|| "null".to_owned())),
                    log_lines: Vec::new(),
                    refused: false,
                },
            });
        }
        Value::Null
    }

    async fn fire(&self, fire: Fire) -> Result<Value, UserError> {
        let world = self.world(fire.world)?;
        world.clock.set(fire.now);
        match DocumentId::decode(&fire.job) {
            Some(id) if fire.is_cron => world.fire_cron(id, fire.request).await,
            Some(id) => world.fire(id, fire.request).await?,
            None => {}
        }
        Ok(json!({ "jobs": world.new_jobs(), "changes": world.changes().await,
            "violations": self.violations(&world).await }))
    }

    /// What must fail the test of what just ran.
    async fn violations(&self, world: &World) -> Vec<Value> {
        world.violations(&format!("again: concave test --seed {}", self.bench.seed)).await
    }

    /// `ctx.storage` of actions in the worker; a transaction's files are turns of its own.
    async fn store(&self, syscall: Syscall) -> Result<Reply, UserError> {
        let Storing { action } = parse(&syscall.json)?;
        let calls = lock(&self.actions).get(&action).map(|doing| Arc::clone(&doing.calls));
        let calls = calls.ok_or_else(|| UserError::new("ActionEnded", "This action has ended."))?;
        Ok(calls.syscall(syscall).await)
    }

    async fn answer(self: Arc<Self>, syscall: Syscall) -> Result<Reply, UserError> {
        self.note();
        let Syscall { op, json, .. } = &syscall;
        let Some(op) = op.strip_prefix("test/") else { return self.store(syscall).await };
        Ok(answer(&match op {
            "next" => self.next().await,
            "open" => {
                let (asked, this): (Open, _) = (parse(json)?, Arc::clone(&self));
                if self.bench.deployer.knows(&asked.parts) {
                    self.open(&asked)?
                } else {
                    let opened = tokio::task::spawn_blocking(move || this.open(&asked)).await;
                    opened
                        .unwrap_or_else(|_| Err(UserError::new("Broken", "The host hit a bug.")))?
                }
            }
            "call" => match self.call(parse(json)?).await {
                Ok(value) => value,
                Err(UserError { message, data, .. }) => {
                    json!({ "error": { "message": message, "data": data } })
                }
            },
            "deploy" => {
                let (asked, this) = (parse(json)?, Arc::clone(&self));
                let done = tokio::task::spawn_blocking(move || this.deploy(&asked)).await;
                done.unwrap_or_else(|_| Err(UserError::new("Broken", "The host hit a bug.")))?
            }
            "turn" => self.turn(parse(json)?).await?,
            "ask" => return self.ask(parse(json)?).await,
            "begin" => self.begin(parse(json)?)?,
            "end" => self.end(parse(json)?),
            "fire" => self.fire(parse(json)?).await?,
            "due" => {
                let Due { world, now, skip } = parse(json)?;
                let world = self.world(world)?;
                world.clock.set(now);
                world.next_due(&skip).await
            }
            "step" => {
                let Due { world, .. } = parse(json)?;
                let world = self.world(world)?;
                world.footprint()
            }
            "fork" => self.fork(&parse(json)?).await?,
            "forget" => {
                let Due { world, .. } = parse(json)?;
                lock(&self.worlds).remove(&world);
                Value::Null
            }
            "watch" => self.watch(parse(json)?).await?,
            "coverage" => self.tell(News::Counted(parse(json)?)),
            "read" | "write" | "remove" => snapshot_file(op, &parse(json)?)?,
            "snapshot" => Value::Null,
            "close" => {
                self.close();
                Value::Null
            }
            _ => return Err(UserError::new("UnknownOperation", format!("test/{op}"))),
        }))
    }

    fn hear(&self, op: &str, json: &str) -> Result<(), UserError> {
        self.note();
        match op {
            "test/started" => self.tell(News::Started(parse(json)?)),
            "test/ended" => self.tell(News::Ended(parse(json)?)),
            "test/collected" => self.tell(News::Collected),
            _ => Value::Null,
        };
        Ok(())
    }

    fn tell(&self, news: News) -> Value {
        // Whoever printed them may have gone.
        let _ = self.news.send(news);
        Value::Null
    }
}

impl Callbacks for Realm {
    fn told(&self, op: &str, json: &str) {
        if let Err(error) = self.hear(op, json) {
            tracing::error!(%op, %error, "a test's report cannot be read");
        }
    }

    fn syscall(&self, syscall: Syscall) -> Replying {
        let this = self.this.upgrade();
        Box::pin(async move {
            match this {
                Some(this) => this.answer(syscall).await.unwrap_or_else(thrown),
                None => Reply::error("The test has ended."),
            }
        })
    }
}

/// A world's way into the worker.
struct Seat {
    realm: Weak<Realm>,
    world: u64,
}

impl Actions for Seat {
    fn run(&self, action: Action, reply: ActionReply) {
        let realm = self.realm.upgrade();
        let Some((realm, world)) = realm.and_then(|r| Some((r.clone(), r.world(self.world).ok()?)))
        else {
            return reply(failed("The test has ended.".to_owned(), None));
        };
        let Call { path, args, request_id, .. } = &action.call;
        let calls = Arc::new(Calls::of_call(Some(Arc::clone(&world.services)), &action.call));
        let id = realm.number();
        lock(&realm.actions).insert(id, Doing { world: world.id, calls, reply: Some(reply) });
        realm.send(json!({
            "type": "action", "world": self.world, "action": id, "component": &*path.component,
            "requestId": &**request_id,
            "asked": { "module": &*path.module, "name": &*path.export, "args": &*args.json },
        }));
    }
}

impl Elsewhere for Seat {
    fn run(&self, visit: Visit) {
        let Some(realm) = self.realm.upgrade() else { return };
        let Ok(world) = realm.world(self.world) else { return };
        let Visit { request_id, component, asked, turns } = visit;
        let id = realm.number();
        lock(&realm.visits).insert(id, turns);
        let asked: Value = serde_json::from_str(&asked).unwrap_or_default();
        realm.send(json!({
            "type": "visit", "world": self.world, "visit": id, "component": &*component,
            "requestId": &*request_id, "asked": asked,
            "tables": tables(&world.database.newest(), &component),
        }));
    }
}

/// Numbers of a component's tables, by name.
fn tables(snapshot: &Snapshot, component: &str) -> Value {
    /// Those of the host that functions see.
    const SYSTEM: [&str; 2] = ["_scheduled_functions", "_storage"];
    let own = snapshot.tables(component).into_iter().map(|table| (table.name, table.number));
    let system = SYSTEM.iter().filter_map(|name| snapshot.table(component, name));
    let system = system.map(|table| (Arc::clone(&table.name), table.number));
    let named = own.chain(system).map(|(name, number)| (name.to_string(), json!(number.0)));
    Value::Object(named.collect())
}

/// Reads or writes a file of snapshots.
fn snapshot_file(op: &str, of: &SnapshotFile) -> Result<Value, UserError> {
    let SnapshotFile { file, text } = of;
    let done = match op {
        "read" => return Ok(json!(std::fs::read_to_string(file).ok())),
        "remove" => std::fs::remove_file(file),
        _ => {
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            folder.and_then(|()| std::fs::write(file, text))
        }
    };
    done.map_err(|cause| {
        UserError::new("SnapshotFile", format!("Could not {op} {}: {cause}", file.display()))
    })?;
    Ok(Value::Null)
}

fn expected(kind: &str) -> Expect {
    match kind {
        "query" => Expect::Kind(FunctionKind::Query),
        "mutation" => Expect::Kind(FunctionKind::Mutation),
        "action" => Expect::Kind(FunctionKind::Action),
        _ => Expect::Any,
    }
}

fn identity(given: Option<&Value>) -> Identity {
    let Some(given) = given else { return Identity::Anonymous };
    let token_identifier = given["tokenIdentifier"].as_str().unwrap_or_default().to_owned();
    Identity::User(Arc::new(UserIdentity {
        token_identifier,
        attributes: given.to_string().into(),
    }))
}

/// A message without what is put before it on its way out of a function.
fn raw(message: &str) -> &str {
    let message = message.strip_prefix("Uncaught ").unwrap_or(message);
    message.strip_prefix("Error: ").unwrap_or(message)
}

fn failed(message: String, data: Option<String>) -> ActionEnd {
    let result = Err(FunctionError { message, data });
    ActionEnd { result, log_lines: Vec::new(), refused: false }
}

fn pushed(error: PushError) -> UserError {
    UserError::new(error.code, error.message)
}

fn answer(value: &Value) -> Reply {
    Reply::json(value.to_string())
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, UserError> {
    serde_json::from_str(json)
        .map_err(|error| UserError::new("BadTestMessage", format!("{error}: {json}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder inserts, looks up or takes out one thing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
