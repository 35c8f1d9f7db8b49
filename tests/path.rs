//! The path of a call, executable: one mutation followed through its eight stops, asserted at each.
//!
//! In: a WebSocket client that follows a query and then writes what the query read. Out: what each
//! stop left behind, ending with the Transition that the follower gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use concave::world::SeededWorld;
use database::record::FunctionKind;
use futures_util::{SinkExt as _, StreamExt as _};
use server::{CallEvent, Event, Files, Listeners, Server, ServerConfig};
use tokio_tungstenite::tungstenite::Message;

use crate::deployed::{Deployed, NoActions};

const SHOP: &str = r#"
import { query, mutation } from "./abi.js";
export const stock = query(async (db) => (await db.table("items")).map((item) => item.left));
export const buy = mutation(async (db, { name }) => {
    console.log("buying", name);
    return await db.insert("items", { name, left: 3 });
});
"#;

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// The next frame that is not a Ping.
async fn hear(socket: &mut Socket) -> serde_json::Value {
    loop {
        let frame = socket.next().await.unwrap().unwrap();
        let Message::Text(text) = frame else { continue };
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        if frame["type"] != "Ping" {
            return frame;
        }
    }
}

/// The calls that were told of, in order.
fn calls(events: &Mutex<Vec<Event>>) -> Vec<CallEvent> {
    let events = events.lock().unwrap();
    let call = |event: &Event| match event {
        Event::Call(call) => Some(call.clone()),
        _ => None,
    };
    events.iter().filter_map(call).collect()
}

#[test]
fn one_mutation_through_its_stops() {
    let deployed = Deployed::with(&[("shop", SHOP)]);
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = Arc::clone(&events);
    let server = Server {
        database: Arc::clone(&deployed.database),
        functions: deployed.host.clone(),
        http_actions: Arc::new(NoActions),
        files: Files::new(
            Arc::clone(&deployed.database),
            deployed.storage.clone(),
            Arc::new(SeededWorld::new(3)),
        ),
        config: ServerConfig {
            admin_key: "key".into(),
            instance_name: "path".into(),
            cloud_origin: "http://127.0.0.1".into(),
            site_origin: "http://127.0.0.1".into(),
            redact: false,
            world: Arc::new(SeededWorld::new(2)),
            events: Some(Arc::new(move |event| told.lock().unwrap().push(event))),
            warn: Arc::new(|_| {}),
            inner: Arc::default(),
            drain: Duration::from_secs(5),
            body_bytes: database::limits::HTTP_BODIES_BYTES,
            answer_bytes: database::limits::HTTP_ANSWERS_BYTES,
            measure: None,
            schedules: true,
            invariants: false,
            forks: None,
        },
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listeners = Listeners { cloud: listener, site: None, gate: None };
    let serving = runtime.spawn(server::serve(server, listeners, async {
        let _ = stopped.await;
    }));

    runtime.block_on(follow(&deployed, &events, &address));

    drop(stop);
    runtime.block_on(serving).unwrap().unwrap();
}

async fn follow(deployed: &Deployed, events: &Mutex<Vec<Event>>, address: &str) {
    let url = format!("ws://{address}/api/1.48.0/sync");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let session = "00000000-0000-4000-8000-000000000001";
    let connect = format!(
        r#"{{"type":"Connect","sessionId":"{session}","connectionCount":0,
             "lastCloseReason":null,"clientTs":0}}"#
    );
    say(&mut socket, &connect).await;
    let follow = r#"{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[
        {"type":"Add","queryId":7,"udfPath":"shop:stock","args":[{}]}]}"#;
    say(&mut socket, follow).await;
    let first = hear(&mut socket).await;
    assert_eq!(first["modifications"][0]["value"], serde_json::json!([]));
    let before = deployed.database.snapshot().ts;

    // Stops 1 and 2: bytes become a call; 3 and 4: it runs once, and logs.
    let buy = r#"{"type":"Mutation","requestId":0,"udfPath":"shop:buy","args":[{"name":"mug"}]}"#;
    say(&mut socket, buy).await;
    let response = hear(&mut socket).await;
    assert_eq!(response["type"], "MutationResponse");
    assert_eq!(response["success"], true);
    assert_eq!(response["logLines"], serde_json::json!(["[LOG] 'buying' 'mug'"]));
    let bought = calls(events).into_iter().find(|call| call.path == "shop:buy").unwrap();
    assert_eq!((bought.kind, bought.conflicts.len()), (Some(FunctionKind::Mutation), 0));

    // Stop 5: one document written. Stop 6: one commit in the log, with its writer.
    assert_eq!(bought.usage.documents_written, 1);
    let history = deployed.database.history();
    let commit = history.entries.first().unwrap();
    assert_eq!(&*commit.writer.function, "shop:buy");
    assert_eq!(commit.writer.request_id, bought.request_id);
    assert!(commit.ts > before && deployed.database.snapshot().ts == commit.ts);

    // Stop 8: the follower gets the new result, at the commit's timestamp or later.
    let transition = hear(&mut socket).await;
    assert_eq!(transition["type"], "Transition");
    assert_eq!(transition["startVersion"], first["endVersion"]);
    assert_eq!(transition["modifications"][0]["queryId"], 7);
    assert_eq!(transition["modifications"][0]["value"], serde_json::json!([3]));

    // Stop 7, seen from its end: the query ran again for this reason and no other.
    let again: Vec<_> = calls(events).into_iter().filter(|call| call.rerun).collect();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0].path, "shop:stock");
    let cause = again[0].cause.as_deref().unwrap();
    assert!(cause.starts_with("stock re-ran: buy "), "{cause}");
    socket.close(None).await.unwrap();
}
