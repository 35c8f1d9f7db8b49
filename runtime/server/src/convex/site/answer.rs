//! A response's body on its way to the client, and what is told about it in the end.
//!
//! In: chunks from the handler, as fast as the client takes them. Out: the same bytes.
//! Invariant: a response that is not whole is cut, so that no client takes it for complete; each
//! request makes one event, when its handler has ended.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use database::limits;
use database::record::LogLine;
use futures_util::Stream;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::event::{Event, HttpActionEvent};
use crate::host::Host;
use crate::{Body, HttpEnd};

/// Kept as long as the client is there: dropped, it resolves [`crate::Gone`].
pub(super) type Here = oneshot::Sender<Infallible>;

/// A body that is being sent.
pub(super) struct Answer {
    chunks: Body,
    /// Until it has come.
    end: Option<oneshot::Receiver<HttpEnd>>,
    sent: u64,
    /// The handler's Content-Length.
    promised: Option<u64>,
    /// The last chunk of such a body, until it is known to be the last.
    held: Option<Bytes>,
    told: Option<Told>,
    _here: Here,
}

impl Answer {
    /// Sends what the handler makes.
    pub(super) fn new(
        chunks: Body,
        end: oneshot::Receiver<HttpEnd>,
        told: Told,
        here: Here,
    ) -> Self {
        let (promised, held) = (None, None);
        Self { chunks, end: Some(end), sent: 0, promised, held, told: Some(told), _here: here }
    }

    /// Holds the handler to its Content-Length: the client was told it.
    pub(super) fn promised(mut self, length: Option<u64>) -> Self {
        self.promised = length;
        self
    }

    /// The next chunk; `None` after the last one of a body that is whole.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, String>> {
        while let Some(chunk) = ready!(self.chunks.poll_recv(cx)) {
            let chunk = chunk?;
            if chunk.is_empty() {
                continue;
            }
            self.sent += chunk.len() as u64;
            if self.sent > limits::HTTP_RESPONSE_BYTES {
                return Poll::Ready(Err(too_large()));
            }
            match self.promised {
                Some(promised) if promised < self.sent => {
                    return Poll::Ready(Err(another_length(promised, "longer")));
                }
                // A client would not read on, and never learn that there is more.
                Some(promised) if promised == self.sent => self.held = Some(chunk),
                _ => return Poll::Ready(Ok(Some(chunk))),
            }
        }
        if let Some(promised) = self.promised.filter(|promised| *promised > self.sent) {
            return Poll::Ready(Err(another_length(promised, "shorter")));
        }
        if let Some(last) = self.held.take() {
            return Poll::Ready(Ok(Some(last)));
        }
        let Some(waiting) = &mut self.end else { return Poll::Ready(Ok(None)) };
        let end = ready!(Pin::new(waiting).poll(cx));
        self.end = None;
        let Ok(HttpEnd { route, error, log_lines }) = end else {
            return Poll::Ready(Err("the handler's process ended".to_owned()));
        };
        let error = error.map(|error| error.message);
        if let Some(told) = self.told.take() {
            told.end(route, error.clone(), log_lines);
        }
        Poll::Ready(error.map_or(Ok(None), Err))
    }
}

fn another_length(promised: u64, how: &str) -> String {
    format!(
        "The response's body is {how} than its Content-Length header says ({promised} bytes). \
         Leave that header out: a streamed body needs none."
    )
}

fn too_large() -> String {
    let mebibytes = limits::HTTP_RESPONSE_BYTES >> 20;
    format!(
        "HTTP actions support responses up to {mebibytes} MiB; this one was cut there. Put larger \
         data into file storage and answer with its URL."
    )
}

impl Stream for Answer {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.next(cx));
        if let (Err(why), Some(told)) = (&next, &mut self.told) {
            told.cut = Some(why.clone());
        }
        Poll::Ready(next.transpose())
    }
}

impl Drop for Answer {
    /// Nobody wants more: the client has gone or has all it asked for, or the rest is lost. The
    /// handler ends by itself, and says then what there is to say.
    fn drop(&mut self) {
        let Some(told) = self.told.take() else {
            return;
        };
        let Some(end) = self.end.take() else {
            return told.end(None, None, Vec::new());
        };
        self.chunks.close();
        told.end_with(end);
    }
}

/// What there is to say about a request before it has ended. Dropped unsaid, it tells that the
/// client left before there was an answer.
pub(super) struct Told {
    host: Arc<Host>,
    /// When it began; `None` once it was told.
    begun: Option<u64>,
    request_id: Arc<str>,
    method: Method,
    path: String,
    status: Option<StatusCode>,
    /// Why its response is not whole.
    cut: Option<String>,
}

impl Told {
    /// Starts the clock.
    pub(super) fn new(
        host: &Arc<Host>,
        request_id: &Arc<str>,
        method: &Method,
        path: &str,
    ) -> Self {
        Self {
            begun: Some(host.stopwatch()),
            host: Arc::clone(host),
            request_id: Arc::clone(request_id),
            method: method.clone(),
            path: path.to_owned(),
            status: None,
            cut: None,
        }
    }

    /// Whether texts stay on this side.
    pub(super) fn redacts(&self) -> bool {
        self.host.config.redact
    }

    /// The head is on its way.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The host answered in the handler's place.
    pub(super) fn finish(
        &mut self,
        status: StatusCode,
        error: Option<String>,
        log_lines: Vec<LogLine>,
    ) {
        self.status = Some(status);
        self.tell(None, error, log_lines);
    }

    /// The handler ends by itself, and says then what there is to say.
    pub(super) fn end_with(self, mut end: oneshot::Receiver<HttpEnd>) {
        let tell = |told: Self, end: Option<HttpEnd>| match end {
            Some(HttpEnd { route, error, log_lines }) => {
                told.end(route, error.map(|error| error.message), log_lines);
            }
            None => told.end(None, None, Vec::new()),
        };
        match end.try_recv() {
            Err(TryRecvError::Empty) => {
                tokio::spawn(async move { tell(self, end.await.ok()) });
            }
            ended => tell(self, ended.ok()),
        }
    }

    /// The handler has ended.
    pub(super) fn end(
        mut self,
        route: Option<String>,
        error: Option<String>,
        log_lines: Vec<LogLine>,
    ) {
        let error = self.cut.take().or(error);
        self.tell(route, error, log_lines);
    }

    fn tell(&mut self, route: Option<String>, error: Option<String>, log_lines: Vec<LogLine>) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        self.host.tell(Event::HttpAction(HttpActionEvent {
            request_id: Arc::clone(&self.request_id),
            method: self.method.to_string(),
            path: std::mem::take(&mut self.path),
            route,
            status: self.status.map(|status| status.as_u16()),
            duration_ns: self.host.elapsed(begun),
            error,
            log_lines: log_lines.into(),
        }));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(None, None, Vec::new());
    }
}
