//! A request's body on its way to the handler.
//!
//! In: bytes off the socket, as fast as the handler reads them. Out: chunks, then the end, or why
//! the body is not whole.
//! Invariant: at most [`WAITING`] chunks wait; a body that was cut never looks complete.

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use database::limits;
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Chunks between the socket and the handler.
const WAITING: usize = 4;
/// The largest chunk, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Starts to receive; `None` for a body that is empty from the start.
pub(super) fn receive(body: Body) -> Option<crate::Body> {
    if body.is_end_stream() {
        return None;
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(pump(body.into_data_stream(), sender));
    Some(receiver)
}

async fn pump(mut body: BodyDataStream, handler: mpsc::Sender<Result<Bytes, String>>) {
    loop {
        let next = tokio::select! {
            next = body.next() => next,
            () = handler.closed() => return discard(body).await,
        };
        let mut chunk = match next {
            None => return,
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                // The handler that has ended meanwhile has no use for the reason.
                let _ = handler.send(Err(format!("The request body ended early: {error}"))).await;
                return;
            }
        };
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(CHUNK_BYTES));
            if handler.send(Ok(piece)).await.is_err() {
                return discard(body).await;
            }
        }
    }
}

/// Lets the client finish, as far as that is bearable: most read an answer only then.
async fn discard(mut body: BodyDataStream) {
    let mut left = limits::HTTP_DISCARD_BYTES;
    while let Some(Ok(chunk)) = body.next().await {
        left = left.saturating_sub(chunk.len() as u64);
        if left == 0 {
            return;
        }
    }
}
