//! Before stop 1: connections are taken, counted, and given time to say what they want.
//!
//! In: listeners. Out: requests to a router, until the signal to stop.
//! Invariant: a connection holds its place until its socket is closed, a WebSocket's too; one that
//! finds no place is told so and not served; one that does not speak loses its place, and so does
//! one that does not take what it is owed (`owed.rs`).

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use database::limits;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::owed::HangUp;

/// How long accepting rests after the system had no file descriptor left.
const REST: Duration = Duration::from_secs(1);
/// Connections that are being turned away at the same time; more are just closed.
const REFUSALS: usize = 64;
/// How long one that is turned away may take.
const REFUSAL: Duration = Duration::from_secs(2);

/// The places of a host, for all of its listeners together.
#[derive(Clone)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    most: usize,
}

impl Connections {
    /// As many places as `limits` grants.
    pub(crate) fn new() -> Self {
        Self::with(usize::try_from(limits::HTTP_CONNECTIONS).expect("a small number"))
    }

    fn with(most: usize) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Self { places, refusals: Arc::new(Semaphore::new(REFUSALS)), most }
    }

    /// Serves what comes, until every sender of `stopping` is gone; then waits for what was begun.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        mut stopping: watch::Receiver<()>,
    ) {
        let (open, _) = watch::channel(());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Err(_) = stopping.changed() => break,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    if !is_one_connections(&error) {
                        tokio::time::sleep(REST).await;
                    }
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.refuse(socket);
                continue;
            };
            // An answer is one small write: waiting to fill a packet would only delay it. A socket
            // that refuses the option still works, only slower.
            let _ = socket.set_nodelay(true);
            let socket = Placed { socket, hang_up: HangUp::default(), _place: place };
            let serving = serve_one(socket, router.clone(), stopping.clone());
            let open = open.subscribe();
            tokio::spawn(async move {
                serving.await;
                drop(open);
            });
        }
        drop(listener);
        open.closed().await;
    }

    /// Says why, after the client has begun to speak: before, some take it for a broken line.
    fn refuse(&self, mut socket: TcpStream) {
        let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return;
        };
        let answer = full(self.most);
        tokio::spawn(async move {
            let refusal = async {
                let mut buffer = [0; 4096];
                let _some = socket.read(&mut buffer).await?;
                socket.write_all(answer.as_bytes()).await?;
                socket.shutdown().await?;
                // Closed with unread bytes, the answer would be lost with the connection.
                while socket.read(&mut buffer).await? > 0 {}
                io::Result::Ok(())
            };
            // A client that does not listen to its refusal is refused all the same.
            let _ = tokio::time::timeout(REFUSAL, refusal).await;
            drop(turn);
        });
    }
}

/// The answer in place of a connection.
fn full(most: usize) -> String {
    let message = format!(
        "Too many connections: this host serves {most} at a time. Close some, or try again later."
    );
    let body = json!({ "code": "TooManyConnections", "message": message }).to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Whether the next connection may be all right.
fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection, to its end or to its upgrade.
async fn serve_one(socket: Placed, router: Router, mut stopping: watch::Receiver<()>) {
    let patience = Duration::from_millis(limits::HTTP_HEAD_MS);
    // Below, the time limit counts only from the first byte on.
    let mut first = [0];
    let speaks = tokio::select! {
        speaks = tokio::time::timeout(patience, socket.socket.peek(&mut first)) => {
            matches!(speaks, Ok(Ok(1)))
        }
        Err(_) = stopping.changed() => false,
    };
    if !speaks {
        return;
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(patience);
    // WebSockets over HTTP/2 need it.
    builder.http2().enable_connect_protocol();
    let (router, hang_up) = (TowerToHyperService::new(router), socket.hang_up.clone());
    let cord = hang_up.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(cord.clone());
        router.call(request)
    });
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let mut stop = pin!(async move { while stopping.changed().await.is_ok() {} });
    let mut told = false;
    loop {
        tokio::select! {
            // What goes wrong on a connection is its client's to notice.
            _ = serving.as_mut() => return,
            () = hang_up.pulled() => return,
            () = stop.as_mut(), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A socket and its place.
struct Placed {
    socket: TcpStream,
    hang_up: HangUp,
    _place: OwnedSemaphorePermit,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.hang_up.is_pulled() {
            // The system would go on to offer the client what it does not take. A socket that
            // refuses the option ends all the same, only later.
            let _ = self.socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::{any, get};
    use futures_util::StreamExt;
    use tokio_tungstenite::connect_async;

    /// A listener's address, and what keeps it open.
    async fn serving(connections: &Connections) -> (String, watch::Sender<()>) {
        let socket = |upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                let _ = socket.recv().await;
            })
        };
        let router =
            Router::new().route("/", get(|| async { "served" })).route("/socket", any(socket));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopping) = watch::channel(());
        tokio::spawn(connections.clone().serve(listener, router, stopping));
        (address, stop)
    }

    /// Sends a request that asks to be the last, and reads to the end.
    async fn ask(address: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        socket.write_all(request).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn one_too_many_is_told_so_until_a_place_is_free() {
        let connections = Connections::with(1);
        let (address, _open) = serving(&connections).await;
        // A WebSocket keeps its place though its request is long over.
        let (mut socket, _) = connect_async(format!("ws://{address}/socket")).await.unwrap();
        let refused = ask(&address).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        let reason = "this host serves 1 at a time";
        assert!(refused.contains("\"TooManyConnections\"") && refused.contains(reason));
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
        while connections.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(ask(&address).await.ends_with("\r\n\r\nserved"));
        let all = Connections::new().places.available_permits();
        assert_eq!(all as u64, limits::HTTP_CONNECTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_speak_loses_the_place() {
        let connections = Connections::with(3);
        let (address, _open) = serving(&connections).await;
        let started = tokio::time::Instant::now();
        let silent = TcpStream::connect(&address).await.unwrap();
        let mut slow = TcpStream::connect(&address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        let mut idle = TcpStream::connect(&address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        for mut socket in [silent, slow, idle] {
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.unwrap();
        }
        let waited = started.elapsed().as_millis() as u64;
        assert!((limits::HTTP_HEAD_MS..2 * limits::HTTP_HEAD_MS).contains(&waited), "{waited}");
        while connections.places.available_permits() < 3 {
            tokio::task::yield_now().await;
        }
    }
}
