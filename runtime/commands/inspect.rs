//! `concave replay --inspect`: Chrome DevTools on a call that is run again.
//!
//! In: a host, and what it is asked to run. Out: an inspector's address on this machine, as Node's
//! `--inspect` has it, and at the end what the call came to. Invariant: only this machine reaches
//! the address, pages of the web do not, and whoever debugs is carried to the host and back
//! unchanged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message as Local, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get};
use data_encoding::HEXLOWER;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WireError, Message as Remote};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::Client;
use super::terminal;
use crate::world::RealWorld;
use database::record::World as _;

/// Why nothing was debugged.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The port cannot be had.
    #[error(
        "Cannot listen on 127.0.0.1:{port} for a debugger: {cause}. Another one may be waiting \
         there; name another port with --inspect=PORT."
    )]
    Port {
        /// The port.
        port: u16,
        /// The system's words.
        cause: io::Error,
    },
    /// The connection to the host.
    #[error("The host broke off while the call was debugged: {0}. Is it still running?")]
    Host(Box<WireError>),
    /// The host did not run it.
    #[error("{message}")]
    Refused {
        /// Why, in the host's words.
        message: String,
    },
    /// The host ended without a word.
    #[error("The host ended while the call was debugged.")]
    Ended,
}

/// What the routes share.
struct Shared {
    /// Names the only target; nobody can guess it.
    id: String,
    title: String,
    address: SocketAddr,
    debuggers: Sender<WebSocket>,
}

/// The host's end.
type Host = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Waits for a debugger on `port`, and gives what the call that it debugs comes to.
///
/// # Errors
/// See [`InspectError`].
pub(super) async fn run(
    client: &Client,
    port: u16,
    asked: &Value,
    title: String,
) -> Result<Value, InspectError> {
    let unavailable = |cause| InspectError::Port { port, cause };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((here, port)).await.map_err(unavailable)?;
    let address = listener.local_addr().map_err(unavailable)?;
    let seed = RealWorld::new().map_err(unavailable)?.seed();
    let id = HEXLOWER.encode(&seed[..16]);
    let (debuggers, mut connected) = mpsc::channel(1);
    let shared = Arc::new(Shared { id, title, address, debuggers });
    terminal::news(format!("debugger: {}", shared.frontend()));
    terminal::news(format!("waiting at {}, or in chrome://inspect", shared.socket()));
    let served = tokio::spawn(axum::serve(listener, routes(shared)).into_future());
    let Some(debugger) = connected.recv().await else { return Err(InspectError::Ended) };
    let ended = carry(client, asked, debugger).await;
    served.abort();
    ended
}

/// What Node's inspector answers on its port.
fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/json", get(list))
        .route("/json/list", get(list))
        .route("/json/version", get(version))
        .route("/{id}", any(connect))
        .with_state(shared)
}

impl Shared {
    fn socket(&self) -> String {
        format!("ws://{}/{}", self.address, self.id)
    }

    fn frontend(&self) -> String {
        let (address, id) = (self.address, &self.id);
        format!(
            "devtools://devtools/bundled/js_app.html?experiments=true&v8only=true&ws={address}/{id}"
        )
    }
}

async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !is_local(&headers) {
        return not_local();
    }
    Json(json!([{
        "id": shared.id,
        "type": "node",
        "title": shared.title,
        "description": "concave replay",
        "url": "concave://replay",
        "devtoolsFrontendUrl": shared.frontend(),
        "webSocketDebuggerUrl": shared.socket(),
    }]))
    .into_response()
}

async fn version(headers: HeaderMap) -> Response {
    if !is_local(&headers) {
        return not_local();
    }
    let name = concat!("concave/", env!("CARGO_PKG_VERSION"));
    Json(json!({ "Browser": name, "Protocol-Version": "1.3" })).into_response()
}

async fn connect(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path(id): axum::extract::Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !is_local(&headers) {
        return not_local();
    }
    if id != shared.id {
        return StatusCode::NOT_FOUND.into_response();
    }
    // A second one is dropped: the call is debugged once.
    upgrade.on_upgrade(move |socket| async move { drop(shared.debuggers.try_send(socket)) })
}

/// A page of the web reaches this port under a name of its own; a debugger does not.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn not_local() -> Response {
    (StatusCode::FORBIDDEN, "Use the address 127.0.0.1.").into_response()
}

/// Carries messages between the debugger and the host until the host has told the end.
async fn carry(
    client: &Client,
    asked: &Value,
    mut debugger: WebSocket,
) -> Result<Value, InspectError> {
    let broken = |error| InspectError::Host(Box::new(error));
    let mut host = reach(client).await.map_err(broken)?;
    host.send(Remote::text(asked.to_string())).await.map_err(broken)?;
    let mut is_here = true;
    loop {
        tokio::select! {
            said = host.next() => match said {
                Some(Ok(Remote::Text(text))) => {
                    is_here &= debugger.send(Local::Text(text.as_str().into())).await.is_ok();
                }
                Some(Ok(Remote::Binary(end))) => return end_of(&end),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(InspectError::Ended),
            },
            heard = debugger.recv(), if is_here => match heard {
                Some(Ok(Local::Text(text))) => {
                    host.send(Remote::text(text.as_str())).await.map_err(broken)?;
                }
                Some(Ok(Local::Ping(_) | Local::Pong(_))) => {}
                // It left: the call goes on without it.
                _ => {
                    is_here = false;
                    host.send(Remote::binary(Vec::new())).await.map_err(broken)?;
                }
            },
        }
    }
}

/// The host's end of the wire.
async fn reach(client: &Client) -> Result<Host, WireError> {
    let origin = client.url().replacen("http", "ws", 1);
    let mut request = format!("{origin}/api/concave/inspect").into_client_request()?;
    let key = format!("Convex {}", client.admin_key());
    request.headers_mut().insert(header::AUTHORIZATION, key.parse().map_err(WireError::from)?);
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (host, _) =
        tokio_tungstenite::connect_async_with_config(request, Some(config), true).await?;
    Ok(host)
}

fn end_of(bytes: &[u8]) -> Result<Value, InspectError> {
    let mut end: Value = serde_json::from_slice(bytes).map_err(|_| InspectError::Ended)?;
    match end["failure"]["message"].as_str() {
        Some(message) => Err(InspectError::Refused { message: message.to_owned() }),
        None => Ok(end.take()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_web_are_kept_out() {
        let from = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_local(&headers)
        };
        assert!(from("127.0.0.1:9229") && from("localhost:9229") && from("[::1]:9229"));
        assert!(!from("evil.example:9229") && !from("localhost.evil.example") && !from(""));
    }
}
