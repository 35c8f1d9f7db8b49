//! The path of a call, executable: one mutation followed through its eight stops, asserted at each.
//!
//! In: a mutation over HTTP, a subscriber on a WebSocket. Out: what each stop left behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use concave::world::SeededWorld;
use database::subscriptions::{Invalidation, Owner, Watcher};
use server::{Event, Listeners, Server, ServerConfig};

use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::deployed::Deployed;

const SHOP: &str = r#"
import { query, mutation } from "./abi.js";
export const stock = query(async (db) => (await db.table("items")).map((item) => item.left));
export const buy = mutation(async (db, { name }) => {
    console.log("buying", name);
    return await db.insert("items", { name, left: 3 });
});
"#;

/// Posts and gives the body of the answer.
fn post(address: &str, path: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A WebSocket client that follows `shop:stock`.
struct Subscriber {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    last: String,
}

impl Subscriber {
    fn connect(address: &str) -> Self {
        let url = format!("ws://{address}/api/1.48.0/sync");
        let (mut socket, _) = tungstenite::connect(url).unwrap();
        let mut say = |text: &str| socket.send(Message::text(text)).unwrap();
        say(r#"{"type":"Connect","sessionId":"00000000-0000-4000-8000-000000000001"}"#);
        let change = concat!(r#"{"type":"Modify"#, r#"QuerySet","baseVersion":0,"newVersion":1,"#);
        let add = r#"{"type":"Add","queryId":0,"udfPath":"shop:stock","args":[{}]}"#;
        say(&format!(r#"{change}"modifications":[{add}]}}"#));
        Self { socket, last: String::new() }
    }

    /// The value in the next Transition.
    fn transition(&mut self) -> String {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                let value = text.split_once(r#""value":"#).unwrap().1;
                self.last = text.to_string();
                return value.split_once(r#","logLines""#).unwrap().0.to_owned();
            }
        }
    }
}

/// Hears why a read set ended.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Watcher for Ears {
    fn end(self: Arc<Self>, why: &Invalidation) {
        self.0.lock().unwrap().push(why.to_string());
    }
    fn published(&self) {}
}

/// The server of a deployment, and what it tells.
fn server(deployed: &Deployed) -> (Server, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = Arc::clone(&events);
    let server = Server {
        database: Arc::clone(&deployed.database),
        functions: deployed.host.clone(),
        config: ServerConfig {
            admin_key: "key".into(),
            instance_name: "path".into(),
            cloud_origin: "http://127.0.0.1".into(),
            site_origin: "http://127.0.0.1".into(),
            redact: false,
            world: Arc::new(SeededWorld::new(2)),
            events: Some(Arc::new(move |event| told.lock().unwrap().push(event))),
            drain: Duration::from_secs(5),
        },
    };
    (server, events)
}

#[test]
fn one_mutation_through_its_stops() {
    let deployed = Deployed::with(&[("shop", SHOP)]);
    let (server, events) = server(&deployed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listeners = Listeners { cloud: listener, site: None };
    let serving = runtime.spawn(server::serve(server, listeners, async {
        let _ = stopped.await;
    }));

    // A query first, so that there is a cached result to lose.
    let query = r#"{"path":"shop:stock","args":{}}"#;
    assert_eq!(post(&address, "/api/query", query), r#"{"status":"success","value":[]}"#);
    assert_eq!(deployed.database.cache().len(), 1);
    let before = deployed.database.snapshot().ts;

    // A subscriber, and somebody else who relies on what the query read.
    let mut subscriber = Subscriber::connect(&address);
    assert_eq!(subscriber.transition(), "[]");
    let ears = Arc::new(Ears::default());
    let watcher: Arc<dyn Watcher> = ears.clone();
    let reads = deployed.run("shop:stock", "{}").reads;
    let owner = Owner::Watcher(Arc::downgrade(&watcher));
    deployed.database.subscriptions().register(&reads, before, owner).unwrap();

    // Stops 1 and 2: bytes become a call; 3 and 4: it runs once, and logs.
    let answer = post(&address, "/api/mutation", r#"{"path":"shop:buy","args":{"name":"mug"}}"#);
    assert!(answer.starts_with(r#"{"status":"success","value":""#), "{answer}");
    assert!(answer.contains(r#""logLines":["[LOG] buying mug"]"#), "{answer}");
    let outcome = match events.lock().unwrap().last() {
        Some(Event::Call(call)) => call.clone(),
        other => panic!("the call makes an event, not {other:?}"),
    };
    assert_eq!((outcome.path.as_str(), outcome.conflicts.len()), ("shop:buy", 0));

    // Stop 5: one document written. Stop 6: one commit in the log, with its writer.
    assert_eq!(outcome.usage.documents_written, 1);
    let history = deployed.database.history();
    let commit = history.entries.first().unwrap();
    assert_eq!(&*commit.writer.function, "shop:buy");
    assert_eq!(commit.writer.request_id, outcome.request_id);
    assert!(commit.ts > before && deployed.database.snapshot().ts == commit.ts);

    // Stop 7: the query read the table that the mutation made, and ends for that reason.
    let reasons = ears.0.lock().unwrap().clone();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("shop:buy"), "{reasons:?}");

    // Stop 8: it ran again, once, and its subscriber has the new result at that commit.
    assert_eq!(subscriber.transition(), "[3]");
    let ts = base64::engine::general_purpose::STANDARD.encode(commit.ts.0.to_le_bytes());
    assert!(
        subscriber
            .last
            .contains(&format!(r#""endVersion":{{"querySet":1,"identity":0,"ts":"{ts}"}}"#))
    );
    let events = events.lock().unwrap();
    let again = |event: &&Event| matches!(event, Event::Call(call) if call.rerun);
    assert_eq!(events.iter().filter(again).count(), 1);
    drop(events);
    assert_eq!(post(&address, "/api/query", query), r#"{"status":"success","value":[3]}"#);

    drop((stop, subscriber));
    runtime.block_on(serving).unwrap().unwrap();
}
