//! Bodies of requests: whole, or as they come.
//!
//! In: bytes, or chunks through a channel. Out: frames for hyper. Invariant: of a streamed body at
//! most one chunk waits; a writer that is dropped without `end` breaks the body off, so the server
//! never takes a part for the whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// A request's body.
pub(crate) enum Outgoing {
    /// All of it; `None` is no body, or what is left of one that was sent.
    Whole(Option<Bytes>),
    /// Chunks, and whether the last one was the end.
    Streamed(mpsc::Receiver<Bytes>, Arc<AtomicBool>),
}

/// The sending end of a streamed body.
#[derive(Clone)]
pub(crate) struct Writer {
    chunks: mpsc::Sender<Bytes>,
    ended: Arc<AtomicBool>,
}

impl Outgoing {
    /// A body whose chunks are still to come.
    pub(crate) fn streamed() -> (Self, Writer) {
        let (chunks, receiver) = mpsc::channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        (Self::Streamed(receiver, Arc::clone(&ended)), Writer { chunks, ended })
    }
}

impl Writer {
    /// Hands over a chunk; false when nobody wants more.
    pub(crate) async fn write(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// There is no more.
    pub(crate) fn end(self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(chunks, ended) => match ready!(chunks.poll_recv(context)) {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                None if ended.load(Ordering::Acquire) => Poll::Ready(None),
                None => Poll::Ready(Some(Err(io::Error::other("the request's body broke off")))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(..) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn only_a_body_that_was_ended_is_whole() {
        for ends in [true, false] {
            let (body, writer) = Outgoing::streamed();
            let collected = tokio::spawn(body.collect());
            assert!(writer.write(Bytes::from_static(b"a")).await);
            assert!(writer.write(Bytes::from_static(b"b")).await);
            if ends {
                writer.end();
            } else {
                drop(writer);
            }
            let collected = collected.await.unwrap();
            assert_eq!(collected.is_ok(), ends);
            if let Ok(whole) = collected {
                assert_eq!(whole.to_bytes(), "ab");
            }
        }
    }
}
