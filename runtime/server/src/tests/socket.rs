//! Real WebSocket clients of a real server, over functions written in Rust on a real database.
//!
//! In: frames, good and bad, slow readers, many clients. Out: what each client is told.
//! Invariant: at every Transition a client has exactly what its queries give at the Transition's
//! timestamp, run afresh, whatever is committed meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use database::cache::{Asker, CacheKey};
use database::commit::Writer;
use database::json;
use database::limits;
use database::memory::Pressure;
use database::read_set::ReadSet;
use database::record::{Caller, Expect};
use database::requests::RequestAnswer;
use database::snapshot::Snapshot;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::event::Events;
use crate::host::Host;

/// Functions on a database: `list`, `size`, `big`, `who`, `fails`, `busy`, and the mutation `add`.
struct Shelf {
    database: Arc<Database>,
    world: Arc<Clock>,
    /// Queries that ran.
    runs: AtomicUsize,
    /// Whether replies come from another thread, late.
    threads: bool,
}

impl Functions for Shelf {
    fn analyze(&self, _: Arc<Bundle>) -> Result<Arc<Analysis>, PushError> {
        Err(PushError::new("Fixed", "nothing is pushed here"))
    }

    fn activate(&self, _: Arc<Bundle>, _: Arc<Analysis>) -> Result<Timestamp, PushError> {
        Err(PushError::new("Fixed", "nothing is pushed here"))
    }

    fn call(&self, call: Call, reply: Reply) {
        let answer = match call.expect {
            Expect::Kind(FunctionKind::Query) => self.query(&call),
            Expect::Kind(FunctionKind::Mutation) => self.mutate(&call),
            _ => Ok(outcome(Err(failure("no actions")), Timestamp(0))),
        };
        if self.threads {
            std::thread::spawn(move || reply(answer));
        } else {
            reply(answer);
        }
    }
}

fn failure(text: &str) -> FunctionError {
    FunctionError { message: text.into(), data: None }
}

fn outcome(result: Result<String, FunctionError>, ts: Timestamp) -> Outcome {
    Outcome {
        result: result.map(Arc::from),
        ..Outcome::of_nothing(Given { snapshot: ts, ..Given::default() })
    }
}

/// The `x` of every document of a table.
fn list(database: &Database, snapshot: Arc<Snapshot>, table: &str) -> (Vec<String>, ReadSet) {
    let mut reader = database.begin(snapshot, &Given::default(), true);
    let source = json!({"type": "FullTableScan", "tableName": table});
    let query = json!({"source": source, "operators": []}).to_string();
    let open = reader.open_query("", &query).unwrap();
    let mut found = Vec::new();
    while let Some(document) = reader.next(open).unwrap() {
        found.push(json::encode(document.value().field("x").unwrap()));
    }
    (found, reader.reads().clone())
}

impl Shelf {
    fn query(&self, call: &Call) -> Result<Outcome, Refusal> {
        let snapshot = self.database.snapshot_at(call.at.unwrap())?;
        let ts = snapshot.ts;
        let key = CacheKey {
            code: CodeVersion::default(),
            path: call.path.clone(),
            args: call.args.json.clone(),
            asker: Asker::of(&call.identity),
            journal: call.journal.clone(),
        };
        if let Some(found) = self.database.cache().find(&key, ts, 0) {
            return Ok(Outcome { cached: true, ..(*found.outcome).clone() });
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        let table = match call.args.value.field("t") {
            Some(database::value::Value::String(table)) => table.clone(),
            _ => "a".to_owned(),
        };
        let (found, reads) = list(&self.database, snapshot, &table);
        let (result, identity) = match &*call.path.export {
            "list" => (Ok(format!("[{}]", found.join(","))), false),
            "size" => (Ok(found.len().min(2).to_string()), false),
            "big" => (Ok(format!("\"{}{}\"", found.len(), "x".repeat(1_000_000))), false),
            "huge" => (Ok(format!("\"{}\"", "x".repeat(6_000_000))), false),
            "who" => (Ok(json!(call.identity.attributes().map(|a| &**a)).to_string()), true),
            "busy" => {
                let message = "full".into();
                return Err(Refusal::Overloaded { code: "TooManyConcurrentRequests", message });
            }
            _ => (Err(failure("Uncaught Error: no")), false),
        };
        let observed = Observed { identity, ..Observed::default() };
        let outcome = Arc::new(Outcome { observed, reads: reads.into(), ..outcome(result, ts) });
        self.database.cache().insert(key, &outcome);
        Ok((*outcome).clone())
    }

    fn mutate(&self, call: &Call) -> Result<Outcome, Refusal> {
        if let Some(done) =
            call.once.and_then(|once| self.database.snapshot().answered(once).cloned())
        {
            return Ok(outcome(Ok(done.answer.result.to_string()), done.ts));
        }
        let text = |name: &str| json::encode(call.args.value.field(name).unwrap());
        let result: Arc<str> = format!("{{\"added\":{}}}", text("x")).into();
        let ts =
            add(&self.database, &self.world, (text("t").trim_matches('"'), &text("x")), |tx| {
                let answer = RequestAnswer { result: result.clone(), log_lines: [].into() };
                call.once.into_iter().for_each(|once| tx.once(once, answer.clone()));
            });
        let outcome = outcome(Ok(result.to_string()), ts);
        Ok(Outcome { kind: FunctionKind::Mutation, ..outcome })
    }
}

fn add(
    database: &Database,
    world: &Clock,
    (table, x): (&str, &str),
    also: impl Fn(&mut database::transaction::Transaction),
) -> Timestamp {
    loop {
        let given = Given { seed: world.seed(), now: world.now(), ..Given::default() };
        let mut tx = database.begin(database.snapshot(), &given, false);
        tx.insert("", table, json::decode(&format!("{{\"x\":{x}}}")).unwrap()).unwrap();
        also(&mut tx);
        let writer = Writer::new("a:add", "r");
        if let Ok(committed) = database.commit(tx, world.now(), writer) {
            return committed.ts;
        }
    }
}

/// A server on a socket.
struct Live {
    host: Arc<Host>,
    shelf: Arc<Shelf>,
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    warnings: Arc<Mutex<Vec<String>>>,
}

async fn live() -> Live {
    live_with(false).await
}

async fn live_with(threads: bool) -> Live {
    live_of(threads, limits::HTTP_BODIES_BYTES).await
}

async fn live_of(threads: bool, body_bytes: u64) -> Live {
    let world = Arc::new(Clock(AtomicU64::new(1_700_000_000_000_000_000)));
    let database = Arc::new(Database::new(Options::at(world.now())));
    let (runs, shared) = (AtomicUsize::new(0), (database.clone(), world.clone()));
    let shelf = Arc::new(Shelf { database: shared.0, world: shared.1, runs, threads });
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = events.clone();
    let hook: Events = Arc::new(move |event| told.lock().unwrap().push(event));
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let warned = warnings.clone();
    let config = ServerConfig {
        admin_key: KEY.into(),
        instance_name: "live".into(),
        cloud_origin: "http://127.0.0.1:3210".into(),
        site_origin: "http://127.0.0.1:3211".into(),
        redact: false,
        world,
        events: Some(hook),
        warn: Arc::new(move |text| warned.lock().unwrap().push(text.to_owned())),
        inner: Arc::default(),
        drain: Duration::from_secs(5),
        body_bytes,
        answer_bytes: limits::HTTP_ANSWERS_BYTES,
        measure: None,
        schedules: true,
        invariants: false,
        forks: None,
    };
    let files = files(&database, &shelf.world).1;
    let host = Arc::new(Host::new(Server {
        database,
        functions: shelf.clone(),
        http_actions: Arc::new(NoHttpActions),
        files,
        config,
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Routes::of(&host).cloud;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Live { host, shelf, address, events, warnings }
}

impl Live {
    fn add(&self, table: &str, x: u64) -> Timestamp {
        add(&self.shelf.database, &self.shelf.world, (table, &x.to_string()), |_| {})
    }

    fn runs(&self) -> usize {
        self.shelf.runs.load(Ordering::SeqCst)
    }

    async fn client(&self, session: u32) -> Client {
        self.client_of("1.48.0", session).await
    }

    async fn client_of(&self, version: &str, session: u32) -> Client {
        let url = format!("ws://{}/api/{version}/sync", self.address);
        let (socket, _) = connect_async(url).await.unwrap();
        let mut client = Client { socket, version: json!({}), has: BTreeMap::new(), set: 0 };
        let id = format!("00000000-0000-4000-8000-{session:012}");
        client.say(json!({"type":"Connect","sessionId":id,"connectionCount":0,"clientTs":5})).await;
        client.version = json!({"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="});
        client
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    version: Value,
    /// Results or error texts by query.
    has: BTreeMap<u64, Value>,
    set: u64,
}

impl Client {
    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message; Transitions are checked and taken in.
    async fn hear(&mut self) -> Value {
        let mut chunks = String::new();
        loop {
            let text = match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => text,
                Message::Ping(_) => continue,
                other => panic!("{other:?}"),
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == "TransitionChunk" {
                chunks.push_str(message["chunk"].as_str().unwrap());
                let parts = message["totalParts"].as_u64().unwrap();
                if message["partNumber"].as_u64().unwrap() + 1 < parts {
                    continue;
                }
                message = serde_json::from_str(&chunks).unwrap();
                message["parts"] = parts.into();
            }
            if message["type"] == "Transition" {
                self.transition(&message);
            }
            return message;
        }
    }

    fn transition(&mut self, message: &Value) {
        assert_eq!(message["startVersion"], self.version);
        self.version = message["endVersion"].clone();
        for change in message["modifications"].as_array().unwrap() {
            let query = change["queryId"].as_u64().unwrap();
            let value = match change["type"].as_str().unwrap() {
                "QueryUpdated" => change["value"].clone(),
                "QueryFailed" => change["errorMessage"].clone(),
                "QueryRemoved" => {
                    self.has.remove(&query);
                    continue;
                }
                other => panic!("{other}"),
            };
            assert_eq!(change["journal"], Value::Null);
            self.has.insert(query, value);
        }
    }

    /// Listens until `done`.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.hear().await;
        }
    }

    async fn change(&mut self, modifications: Value) {
        let (base, new) = (self.set, self.set + 1);
        self.set = new;
        let kind = "ModifyQuerySet";
        let message =
            json!({"type":kind,"baseVersion":base,"newVersion":new,"modifications":modifications});
        self.say(message).await;
    }

    async fn follow(&mut self, query: u64, path: &str, table: &str) {
        let args = json!([{"t": table}]);
        let add = json!({"type":"Add","queryId":query,"udfPath":path,"args":args});
        self.change(json!([add])).await;
        let set = self.set;
        self.until(|client| client.version["querySet"] == set).await;
    }

    async fn mutate(&mut self, request: u64, x: impl Into<Value>) {
        let args = json!([{"t": "a", "x": x.into()}]);
        let message = json!({"type":"Mutation","requestId":request,"udfPath":"a:add","args":args});
        self.say(message).await;
    }

    fn ts(&self) -> Timestamp {
        use base64::Engine;
        let text = self.version["ts"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        Timestamp(u64::from_le_bytes(bytes.try_into().unwrap()))
    }

    /// The FatalError or AuthError, and the code (0 for none) and reason of the close frame.
    async fn end(&mut self) -> (Option<Value>, Option<(u16, String)>) {
        let mut said = None;
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => said = Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                    return (said, Some(frame.unwrap_or_default()));
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return (said, None),
            }
        }
    }
}

#[tokio::test]
async fn a_query_follows_what_it_read() {
    let live = live().await;
    let mut client = live.client(1).await;
    client.follow(7, "a:list", "a").await;
    assert_eq!(client.has[&7], json!([]));
    client.mutate(0, 5).await;
    let response = client.hear().await;
    assert_eq!(
        (&response["type"], &response["success"]),
        (&json!("MutationResponse"), &json!(true))
    );
    assert_eq!(response["result"], json!({"added": 5}));
    client.until(|client| client.has[&7] == json!([5])).await;
    assert!(client.version["ts"] == response["ts"]);
    live.add("b", 1);
    live.add("a", 6);
    client.until(|client| client.has[&7] == json!([5, 6])).await;
    assert_eq!(live.runs(), 3, "what it did not read made it run no more");
    let events = live.events.lock().unwrap();
    let told = events.iter().map(|event| match event {
        Event::Call(call) => (call.path.as_str(), call.rerun, call.caller),
        _ => panic!(),
    });
    let sync = Caller::SyncWorker;
    let expected = [
        ("a:list", false, sync),
        ("a:add", false, sync),
        ("a:list", true, sync),
        ("a:list", true, sync),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_mutation_that_is_delivered_again_is_answered_again() {
    let live = live().await;
    let mut client = live.client(1).await;
    client.mutate(3, 5).await;
    let first = client.hear().await;
    drop(client);
    let mut client = live.client(1).await;
    client.follow(0, "a:list", "a").await;
    client.mutate(3, 5).await;
    let again = client.hear().await;
    assert_eq!(first, again);
    assert_eq!(client.hear().await["type"], "Transition", "one follows all the same");
    let mut other = live.client(2).await;
    other.mutate(3, 6).await;
    assert_eq!(other.hear().await["result"], json!({"added": 6}), "another session's request");
    client.until(|client| client.has[&0] == json!([5, 6])).await;
}

#[tokio::test]
async fn equal_queries_of_many_clients_run_once_and_leave_nothing() {
    let live = live().await;
    let mut clients = Vec::new();
    for session in 0..50 {
        let mut client = live.client(session).await;
        client.follow(0, "a:list", "a").await;
        clients.push(client);
    }
    assert_eq!(live.runs(), 1);
    let subscriptions = || live.host.database.subscriptions().len();
    assert_eq!((live.host.sockets.hub.results(), subscriptions()), (1, 2), "the cache, and they");
    for x in 1..=3 {
        live.add("a", x);
        for client in &mut clients {
            client.until(|client| client.has[&0].as_array().unwrap().len() as u64 == x).await;
        }
        assert_eq!(live.runs() as u64, 1 + x);
    }
    assert_eq!(live.host.sockets.hub.watches(), 50);
    clients.truncate(1);
    while live.host.sockets.hub.watches() > 1 {
        tokio::task::yield_now().await;
    }
    drop(clients);
    while live.host.sockets.hub.results() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(subscriptions(), 1, "the cache's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_transition_is_what_a_fresh_run_at_its_timestamp_gives() {
    let live = Arc::new(live_with(true).await);
    let tables = ["a", "b", "c"];
    let ready = Arc::new(tokio::sync::Barrier::new(4));
    let commits = {
        let (live, ready) = (live.clone(), ready.clone());
        tokio::spawn(async move {
            ready.wait().await;
            tokio::task::block_in_place(|| {
                let mut seed = 7u64;
                for x in 0..300 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    live.add(tables[(seed >> 33) as usize % 3], x);
                    std::thread::sleep(Duration::from_micros(seed >> 53));
                }
            });
        })
    };
    let follow = async |session: u32| {
        let mut client = live.client(session).await;
        let mut queries = HashMap::new();
        for (at, table) in tables.iter().cycle().take(4 + session as usize).enumerate() {
            let path = if at % 2 == 0 { "a:list" } else { "a:size" };
            client.follow(at as u64, path, table).await;
            queries.insert(at as u64, (path, *table));
        }
        let mut checked = 0;
        ready.wait().await;
        loop {
            let snapshot = live.host.database.snapshot_at(client.ts()).unwrap();
            for (query, (path, table)) in &queries {
                let (found, _) = list(&live.host.database, snapshot.clone(), table);
                let size = found.len().min(2);
                let list = serde_json::from_str(&format!("[{}]", found.join(","))).unwrap();
                let fresh = if *path == "a:list" { list } else { json!(size) };
                assert_eq!(client.has[query], fresh, "{path} {table} at {}", client.ts());
            }
            checked += 1;
            let all: u64 = tables
                .iter()
                .map(|t| {
                    let table = snapshot.table("", t);
                    table.map_or(0, |table| snapshot.count(table))
                })
                .sum();
            if all == 300 {
                return checked;
            }
            client.hear().await;
        }
    };
    let (one, two, three) = tokio::join!(follow(1), follow(2), follow(3));
    commits.await.unwrap();
    assert!(one.min(two).min(three) > 3, "they did follow: {one}, {two}, {three}");
}

#[tokio::test]
async fn ten_thousand_queries_in_one_change() {
    let live = live().await;
    let mut client = live.client(1).await;
    let add = |query: u64| {
        let args = json!([{"t": "a", "number": query}]);
        json!({"type":"Add","queryId":query,"udfPath":"a:list","args":args})
    };
    client.change((0..10_000).map(add).collect()).await;
    client.until(|client| client.version["querySet"] == 1).await;
    assert_eq!(client.has.len(), 10_000);
    live.add("a", 1);
    client.until(|client| client.has.values().all(|value| *value == json!([1]))).await;
    assert!(live.runs() <= 30_000);
}

#[tokio::test]
async fn a_reader_that_sleeps_gets_the_newest_when_it_wakes() {
    let live = live().await;
    let (mut slow, mut quick) = (live.client(1).await, live.client(2).await);
    slow.follow(0, "a:big", "a").await;
    quick.follow(0, "a:list", "a").await;
    for x in 1..=60 {
        live.add("a", x);
        quick.until(|client| client.has[&0].as_array().unwrap().len() as u64 == x).await;
    }
    let runs = live.runs();
    assert!(runs < 60 + 40, "nothing is made for who takes nothing: {runs} runs");
    slow.until(|client| client.has[&0].as_str().unwrap().starts_with("60x")).await;
    let late = (live.runs() - runs) as u64;
    assert!(late <= 1 + limits::SOCKET_UNSENT_TRANSITIONS, "{late}: what it missed came in one");
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_is_held_no_longer() {
    let live = live().await;
    let hub = &live.host.sockets.hub;
    let mut clients = Vec::new();
    for session in 0..3 {
        let mut client = live.client(session).await;
        client.follow(0, "a:big", "a").await;
        assert_eq!(client.has[&0].as_str().unwrap().len(), 1_000_001);
        assert_eq!((hub.results(), hub.answers()), (1, 0), "they rely on it, and hold it not");
        clients.push(client);
    }
    assert_eq!(live.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_is_dropped_sooner_while_memory_is_short() {
    let enough = never_reads(|_| {}).await;
    let patience = limits::SOCKET_STALL_MS..limits::SOCKET_SILENCE_MS;
    assert!(patience.contains(&enough), "{enough}");
    let short = never_reads(|live| {
        live.host.database.press(Pressure::Full("full".into()));
    });
    let short = short.await;
    let patience = limits::SOCKET_STALL_SHORT_MS..limits::SOCKET_STALL_MS;
    assert!(patience.contains(&short), "{short}");
}

/// After how many milliseconds a client that does not read is dropped; `then` comes when nothing
/// more can be sent to it.
async fn never_reads(then: impl Fn(&Live)) -> u64 {
    let live = live().await;
    let mut slow = live.client(1).await;
    slow.follow(0, "a:big", "a").await;
    let began = tokio::time::Instant::now();
    let mut x = 0;
    while live.host.sockets.hub.results() > 0 {
        x += 1;
        live.add("a", x);
        // Virtual time passes at once; sockets and threads need some of the real one.
        std::thread::sleep(Duration::from_millis(5));
        tokio::time::sleep(Duration::from_millis(500)).await;
        if x == 30 {
            then(&live);
        }
    }
    began.elapsed().as_millis() as u64
}

#[tokio::test]
async fn a_client_that_sends_and_never_reads_is_not_listened_to() {
    let live = live().await;
    let mut client = live.client(1).await;
    let text = "y".repeat(500_000);
    let send = async {
        for request in 0..200u64 {
            let args = json!([{"t": "a", "x": text}]);
            let kind = "Mutation";
            client
                .say(json!({"type":kind,"requestId":request,"udfPath":"a:add","args":args}))
                .await;
        }
    };
    // It never gets all of it rid: the answers are as large, and nobody takes them.
    let sent = tokio::time::timeout(Duration::from_secs(3), send).await;
    assert!(sent.is_err());
    let (found, _) = list(&live.host.database, live.host.database.snapshot(), "a");
    let unsent = (found.len() * 500_000) as u64;
    assert!(unsent < limits::SOCKET_UNSENT_BYTES + (40 << 20), "{unsent}: what systems buffer");
}

#[tokio::test]
async fn frames_that_are_none_end_their_sender_only() {
    let live = live().await;
    let mut good = live.client(1).await;
    good.follow(0, "a:list", "a").await;
    let fatal = async |message: Message, named: &str| {
        let mut client = live.client(2).await;
        client.socket.send(message).await.unwrap();
        let (said, close) = client.end().await;
        let said = said.unwrap();
        assert_eq!(said["type"], "FatalError");
        assert!(said["error"].as_str().unwrap().contains(named), "{said}");
        assert_eq!(close.unwrap().0, 0, "a close frame without a code");
    };
    fatal(Message::text("{"), "cannot be read").await;
    fatal(Message::text(r#"{"type":"Nonsense"}"#), "Nonsense").await;
    fatal(Message::binary(vec![1, 2, 3]), "text frames").await;
    assert!(live.warnings.lock().unwrap().is_empty());
    let huge = "z".repeat(limits::SOCKET_MESSAGE_BYTES as usize + 1);
    // It hears nothing before it has sent all of it.
    fatal(Message::text(huge), "too large: it has 67108865 bytes, and at most 67108864").await;
    let warnings = live.warnings.lock().unwrap().clone();
    assert!(warnings.len() == 1 && warnings[0].contains("67108865 bytes"), "{warnings:?}");
    let mut raw = TcpStream::connect(live.address).await.unwrap();
    let head = "GET /api/sync HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    raw.write_all(head.as_bytes()).await.unwrap();
    raw.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    let _ = raw.read_to_end(&mut rest).await;
    assert!(rest.starts_with(b"HTTP/1.1 101"));
    live.add("a", 1);
    good.until(|client| client.has[&0] == json!([1])).await;
}

#[tokio::test]
async fn arguments_that_are_too_large_fail_their_call_only() {
    let live = live().await;
    let mut client = live.client(1).await;
    // As text six times what they are as a value.
    let control = "\u{1}".repeat(3_000_000);
    let call = json!({"type":"Action","requestId":0,"udfPath":"a:act","args":[{"x":control}]});
    client.say(call).await;
    assert!(client.hear().await["result"].as_str().unwrap().ends_with("no actions"), "it ran");
    let large = json!([{"t": "a", "x": "x".repeat(17 << 20)}]);
    let told = "Arguments for a:add are too large (actual: 17825";
    for kind in ["Mutation", "Action"] {
        let request = json!({"type":kind,"requestId":1,"udfPath":"a:add","args":large});
        client.say(request).await;
        let mut answered = client.hear().await;
        while answered["type"] == "Transition" {
            answered = client.hear().await;
        }
        assert_eq!((&answered["requestId"], &answered["success"]), (&json!(1), &json!(false)));
        assert!(answered["result"].as_str().unwrap().contains(told), "{answered}");
    }
    client.change(json!([{"type":"Add","queryId":5,"udfPath":"a:add","args":large}])).await;
    client.until(|client| client.has.contains_key(&5)).await;
    assert!(client.has[&5].as_str().unwrap().contains(told));
    assert_eq!(live.host.bodies.held(), 0);
}

#[tokio::test]
async fn large_messages_share_the_room_of_bodies() {
    let live = live_of(false, 1_000_000).await;
    let mut client = live.client(1).await;
    client.mutate(0, "x".repeat(900_000)).await;
    assert_eq!(client.hear().await["success"], true);
    let others = live.host.bodies.hold(200_000).unwrap();
    client.mutate(1, "x".repeat(900_001)).await;
    let (_, close) = client.end().await;
    let (code, reason) = close.unwrap();
    assert!(code == 1013 && reason.starts_with("TooManyBytesInFlight: "), "{code} {reason}");
    drop(others);
    // More than all the room there is never fits.
    let mut client = live.client(2).await;
    client.mutate(0, "x".repeat(1_000_000)).await;
    let (fatal, _) = client.end().await;
    assert!(fatal.unwrap()["error"].as_str().unwrap().contains("at most 1000000 are taken"));
    assert_eq!(live.host.bodies.held(), 0);
}

#[tokio::test]
async fn who_may_do_what() {
    let live = live().await;
    let mut client = live.client(1).await;
    client.follow(0, "a:who", "a").await;
    client.follow(1, "a:list", "a").await;
    client.follow(2, "_system/cli/tables", "a").await;
    assert!(client.has[&2].as_str().unwrap().contains("Could not find public function"));
    let token = json!({
        "type":"Authenticate","baseVersion":0,"tokenType":"Admin","value":KEY,
        "impersonating":{"issuer":"i","subject":"s"}
    });
    client.say(token).await;
    client.until(|client| client.version["identity"] == 1).await;
    let user: Value = serde_json::from_str(client.has[&0].as_str().unwrap()).unwrap();
    assert_eq!(user["tokenIdentifier"], "i|s");
    assert_eq!(client.has[&2]["isDone"], true);
    client.follow(3, "a:fails", "a").await;
    let text = client.has[&3].as_str().unwrap();
    assert!(
        text.starts_with("[Request ID: ") && text.ends_with("Server Error\nUncaught Error: no")
    );

    let mut client = live.client(2).await;
    let kind = "Authenticate";
    client.say(json!({"type":kind,"baseVersion":0,"tokenType":"User","value":"x"})).await;
    let (said, close) = client.end().await;
    let said = said.unwrap();
    assert_eq!((&said["type"], &said["authUpdateAttempted"]), (&json!("AuthError"), &json!(true)));
    assert!(close.is_some());
    let mut client = live.client(3).await;
    let add = json!({"type":"Add","queryId":0,"udfPath":"a:busy","args":[{}]});
    client.change(json!([add])).await;
    let (_, close) = client.end().await;
    assert_eq!(close, Some((1013, "TooManyConcurrentRequests: full".into())));
}

#[tokio::test]
async fn large_results_travel_in_chunks_to_those_who_take_them() {
    let live = live().await;
    for (version, parts) in [("1.48.0", Some(7)), ("1.27.3", None)] {
        let mut client = live.client_of(version, 1).await;
        client.change(json!([{"type":"Add","queryId":0,"udfPath":"a:huge","args":[]}])).await;
        let transition = client.hear().await;
        assert_eq!(transition.get("parts").and_then(Value::as_u64), parts, "{version}");
        assert_eq!(client.has[&0].as_str().unwrap().len(), 6_000_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_is_pinged() {
    let live = live().await;
    let mut client = live.client(1).await;
    let began = tokio::time::Instant::now();
    for beat in 1..=20u64 {
        assert_eq!(client.hear().await["type"], "Ping");
        let quiet = began.elapsed().as_secs() / beat;
        assert!((15..=20).contains(&quiet), "{quiet}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped() {
    let live = live().await;
    let mut raw = TcpStream::connect(live.address).await.unwrap();
    let head = "GET /api/sync HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    raw.write_all(head.as_bytes()).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut all = Vec::new();
    // It reads what comes and answers nothing.
    raw.read_to_end(&mut all).await.unwrap();
    let waited = began.elapsed().as_millis() as u64;
    assert!((limits::SOCKET_SILENCE_MS..limits::SOCKET_SILENCE_MS + 10_000).contains(&waited));
    assert!(String::from_utf8_lossy(&all).contains("ClientInactive"));
}

#[tokio::test]
async fn a_host_that_stops_sends_its_clients_away() {
    let live = live().await;
    let mut client = live.client(1).await;
    client.follow(0, "a:list", "a").await;
    let stopped = {
        let host = live.host.clone();
        tokio::spawn(async move { host.sockets.stop().await })
    };
    let (_, close) = client.end().await;
    assert_eq!(close.unwrap().0, 1001);
    drop(client);
    stopped.await.unwrap();
}

#[tokio::test]
async fn more_rounds_than_may_run_take_turns() {
    let live = live_with(true).await;
    let clients = 2 * u32::try_from(limits::LIVE_ROUNDS).unwrap();
    let mut all = Vec::new();
    for session in 0..clients {
        let mut client = live.client(session).await;
        let queries = limits::LIVE_ROUND_CALLS + 3;
        let add = |query: u64| {
            let args = json!([{"t": "a", "number": query}]);
            json!({"type":"Add","queryId":query,"udfPath":"a:list","args":args})
        };
        client.change((0..queries).map(add).collect()).await;
        all.push(client);
    }
    for client in &mut all {
        client.until(|client| client.version["querySet"] == 1).await;
    }
    live.add("a", 1);
    for client in &mut all {
        client.until(|client| client.has.values().all(|value| *value == json!([1]))).await;
    }
}
