//! The time between a request and the answer of its handler.
//!
//! In: an answer that is being made. Out: the answer, if its client waits for it. Invariant: a
//! client that leaves does not end its handler; the answer that nobody waits for is dropped, and
//! what the handler logged is told all the same.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::answer::{Here, Told};
use crate::{Answering, HttpFailure, HttpResponse};

/// A client that waits. Dropped before it has its answer: a client that left.
pub(super) struct Waiting(Option<(Answering, Told, Here)>);

impl Waiting {
    /// Waits for `answering`.
    pub(super) fn new(answering: Answering, told: Told, here: Here) -> Self {
        Self(Some((answering, told, here)))
    }
}

impl Future for Waiting {
    type Output = (Result<HttpResponse, HttpFailure>, Told, Here);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answering, ..) = self.0.as_mut().expect("not polled after its end");
        let answer = ready!(answering.as_mut().poll(cx));
        let (_, told, here) = self.0.take().expect("it was there");
        Poll::Ready((answer, told, here))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((answering, told, here)) = self.0.take() else { return };
        drop(here);
        tokio::spawn(async move {
            match answering.await {
                Ok(response) => {
                    drop(response.body);
                    told.end_with(response.end);
                }
                Err(HttpFailure::NoRoute) => told.end(None, None, Vec::new()),
                Err(HttpFailure::Threw(error, log_lines)) => {
                    told.end(None, Some(error.message), log_lines);
                }
                Err(HttpFailure::Refused(refusal)) => {
                    told.end(None, Some(refusal.to_string()), Vec::new());
                }
            }
        });
    }
}
