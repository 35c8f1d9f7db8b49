//! From an HTTP request to a WebSocket (RFC 6455 section 4.2, RFC 8441 over HTTP/2).
//!
//! In: a request. Out: the response that makes its connection a WebSocket, and that. Invariant:
//! frames are written here alone and read in `inbound.rs`; little is kept for a quiet client.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Version};
use axum::response::Response;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// A client's connection.
pub(crate) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Bytes of small frames that leave together.
const BUFFER_BYTES: usize = 4096;

/// Accepts a request for a WebSocket; `serve` gets it.
///
/// # Errors
/// Why it is no such request.
pub(crate) fn accept<F>(
    mut request: Request,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Result<Response, String>
where
    F: Future<Output = ()> + Send,
{
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let response = if request.version() <= Version::HTTP_11 {
        create_response_with_body(&request, Body::empty).map_err(|why| why.to_string())?
    } else {
        let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
        if request.method() != Method::CONNECT || protocol != Some("websocket") {
            return Err("over HTTP/2 a WebSocket begins with an extended CONNECT".to_owned());
        }
        Response::new(Body::empty())
    };
    let on_upgrade = on_upgrade.ok_or("its connection cannot be upgraded")?;
    tokio::spawn(async move {
        // A client that has gone by now has nobody to hear of it.
        if let Ok(upgraded) = on_upgrade.await {
            let io = TokioIo::new(upgraded);
            serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await).await;
        }
    });
    Ok(response)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(0).write_buffer_size(BUFFER_BYTES)
}
