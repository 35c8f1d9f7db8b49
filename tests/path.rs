//! The path of a call, executable: one mutation followed through its stops, asserted at each.
//!
//! Stop 8, the subscriber, comes with the sync protocol; until then the invalidation that would
//! wake it is where the path ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concave::world::SeededWorld;
use server::{Event, Listeners, Server, ServerConfig};

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

#[test]
fn one_mutation_through_its_stops() {
    let deployed = Deployed::with(&[("shop", SHOP)]);
    let invalidated: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&invalidated);
    deployed.database.subscriptions().on_invalidated(Arc::new(move |list| {
        seen.lock()
            .unwrap()
            .extend(list.iter().map(|i| format!("{:?} {}", i.index, i.writer.function)));
    }));
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

    // Stop 7: the cached query read the table that the mutation made, and is gone for that reason.
    let reasons = invalidated.lock().unwrap().clone();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].ends_with("shop:buy"), "{reasons:?}");
    assert_eq!(deployed.database.cache().len(), 0);
    assert_eq!(post(&address, "/api/query", query), r#"{"status":"success","value":[3]}"#);

    drop(stop);
    runtime.block_on(serving).unwrap().unwrap();
}
