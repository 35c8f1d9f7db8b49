//! Before a request's body is read: is there memory for it?
//!
//! In: request heads. Out: 503 with the reason, or the request goes on, its body counted until it
//! is answered; large messages of WebSocket clients count too.
//! Invariant: the operator is let in, so that room can be made; what was begun is not cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{CALL_BODY, refuse_encoded};

/// Bodies of requests in flight.
pub(crate) struct Bodies {
    most: u64,
    held: Arc<AtomicU64>,
}

/// Room for one body.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Bodies {
    /// Room for `most` bytes.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, held: Arc::default() }
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How much that may be.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Takes room, until what is given is dropped.
    ///
    /// # Errors
    /// 503: others have it.
    pub(crate) fn hold(&self, bytes: u64) -> Result<Held, Failure> {
        // Gives it back when it is dropped, fit or not.
        let held = Held { bytes, all: Arc::clone(&self.held) };
        let together = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if together <= self.most {
            return Ok(held);
        }
        let message = format!(
            "The host holds {} bytes of request bodies and may hold {}. Try again in a moment, or \
             give it more memory.",
            together - bytes,
            self.most
        );
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "TooManyBytesInFlight", message))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Turns new work away while memory is short.
pub(crate) async fn begin(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let Some(refusal) = host.database.out_of_memory() else { return next.run(request).await };
    let (head, body) = request.into_parts();
    if host.admin_key.require(&head, None).is_ok() {
        return next.run(Request::from_parts(head, body)).await;
    }
    host.counts.refused();
    Failure::refused(refusal, host.config.redact).into_response()
}

/// Turns encoded bodies away, for what reads plain JSON.
pub(crate) async fn plain(request: Request, next: Next) -> Response {
    match refuse_encoded(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// Counts the body of a call until it is answered: from then on its bytes are nobody's.
pub(crate) async fn hold(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let bytes = match length.map(str::parse) {
        Some(Ok(bytes)) => bytes,
        // It may become as long as a body can.
        _ if headers.contains_key(header::TRANSFER_ENCODING) => CALL_BODY as u64,
        _ => 0,
    };
    // One that is longer is refused for that.
    match host.bodies.hold(bytes.min(CALL_BODY as u64)) {
        Ok(held) => {
            let answer = next.run(request).await;
            drop(held);
            answer
        }
        Err(failure) => {
            host.counts.refused();
            failure.into_response()
        }
    }
}
