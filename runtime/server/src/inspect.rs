//! `GET /api/concave/inspect`: a recorded call, run again with a debugger, over a WebSocket.
//!
//! In: first what `POST /api/concave/replay` takes, as one text; then messages of the Chrome
//! DevTools Protocol. Out: the same protocol's answers and events; at the end, as one binary
//! frame, what the call came to. Invariant: only the operator connects; a debugger that leaves (an
//! empty binary frame, or the end of the connection) lets the call run to its end.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use database::recording::{Debugger, Replay};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::host::Host;
use crate::refusal::Failure;
use crate::replay::{Asked, failure, shown};
use crate::request::{self, PUSH_BODY};

/// Messages that wait for either side, before the other waits.
const WAITING: usize = 256;

/// Connects a debugger.
pub(crate) async fn inspect(
    State(host): State<Arc<Host>>,
    head: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let upgrade = upgrade.map_err(|rejection| {
        Failure::bad("NoWebSocket", format!("This is the place of a debugger: {rejection}."))
    })?;
    let serve = |socket| async move { debug(&host, socket).await };
    let upgrade = upgrade.max_message_size(PUSH_BODY).max_frame_size(PUSH_BODY);
    Ok(upgrade.on_upgrade(serve).into_response())
}

async fn debug(host: &Arc<Host>, mut socket: WebSocket) {
    let ended = match begin(host, &mut socket).await {
        Ok(replay) => run(host, &mut socket, replay).await,
        Err(failure) => Err(failure),
    };
    let told = ended.unwrap_or_else(
        |failure| json!({ "failure": { "code": failure.code, "message": failure.message } }),
    );
    // Whoever is gone does not hear it.
    let _ = socket.send(Message::Binary(told.to_string().into())).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// What is to be run.
async fn begin(host: &Arc<Host>, socket: &mut WebSocket) -> Result<Replay, Failure> {
    let Some(Ok(Message::Text(first))) = socket.recv().await else {
        return Err(Failure::bad("InvalidRecording", "No recording came."));
    };
    let host = Arc::clone(host);
    let read = move || {
        let plain = request::plain(&HeaderMap::new(), first.into(), PUSH_BODY)?;
        request::parse::<Asked>(&plain)?.replay(&host)
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| Failure::broken(e.to_string()))?
}

/// Carries messages until the call has come to its end.
async fn run(
    host: &Arc<Host>,
    socket: &mut WebSocket,
    mut replay: Replay,
) -> Result<Value, Failure> {
    let (to_call, hears) = mpsc::channel(WAITING);
    let (says, mut from_call) = mpsc::channel(WAITING);
    replay.debugger = Some(Arc::new(Wire { hears: Mutex::new(hears), says }));
    let functions = Arc::clone(&host.functions);
    let mut running = tokio::task::spawn_blocking(move || functions.replay(replay));
    let mut to_call = Some(to_call);
    let ended = loop {
        tokio::select! {
            biased;
            Some(message) = from_call.recv() => {
                if socket.send(Message::Text(message.into())).await.is_err() {
                    to_call = None;
                }
            }
            message = socket.recv(), if to_call.is_some() => match (message, &to_call) {
                (Some(Ok(Message::Text(text))), Some(call)) => {
                    // It waits for nothing more once it is about to end.
                    let _ = call.send(text.to_string()).await;
                }
                (Some(Ok(Message::Ping(_) | Message::Pong(_))), _) => {}
                _ => to_call = None,
            },
            ended = &mut running => break ended,
        }
    };
    let replayed = ended.map_err(|e| Failure::broken(e.to_string()))?;
    replayed.map(shown).map_err(failure)
}

/// The debugger, as the thread that executes sees it.
struct Wire {
    hears: Mutex<Receiver<String>>,
    says: Sender<String>,
}

impl Debugger for Wire {
    fn hear(&self) -> Option<String> {
        // One thread executes.
        self.hears.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
    }

    fn say(&self, message: String) {
        // Nobody hears it who is gone.
        let _ = self.says.blocking_send(message);
    }
}
