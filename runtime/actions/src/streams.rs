//! The host's ends of streams: bodies in and out of workers, a window at a time.
//!
//! In: chunks and credit from the socket. Out: [`Body`]s, and frames. Invariant: of each stream the
//! host holds at most [`WINDOW_BYTES`] that its reader has not taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use crate::protocol::{self, CHUNK_BYTES, RunId, Stream, StreamId, ToWorker, WINDOW_BYTES};

/// Chunks of a body; an error ends it, and says why it is not whole.
pub type Body = mpsc::Receiver<Result<Bytes, String>>;

/// Chunks that wait in a [`Body`] besides those of the window.
const BODY_CHUNKS: usize = 4;

/// Frames to one worker.
pub(crate) type Outbox = mpsc::UnboundedSender<Vec<u8>>;

/// The streams of one process.
pub(crate) struct Streams {
    outbox: Outbox,
    incoming: Mutex<HashMap<StreamId, Incoming>>,
    outgoing: Mutex<HashMap<StreamId, Arc<Semaphore>>>,
    /// How many there were to each run that has not ended.
    opened: Mutex<HashMap<RunId, u64>>,
}

struct Incoming {
    chunks: mpsc::UnboundedSender<Result<Bytes, String>>,
    /// Bytes that were sent and not consumed.
    under_way: usize,
}

impl Streams {
    pub(crate) fn new(outbox: Outbox) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            incoming: Mutex::default(),
            outgoing: Mutex::default(),
            opened: Mutex::default(),
        })
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &ToWorker, tail: &[u8]) {
        // A frame that is too long was refused where its content came in; a closed outbox means
        // that the process is gone, which its reader reports.
        if let Ok(frame) = protocol::encode(message, tail) {
            let _ = self.outbox.send(frame);
        }
    }

    /// Expects a stream from the worker; must be called before the message that names it has been
    /// acted on.
    pub(crate) fn receive(self: &Arc<Self>, stream: StreamId) -> Body {
        let (chunks, mut waiting) = mpsc::unbounded_channel();
        lock(&self.incoming).insert(stream, Incoming { chunks, under_way: 0 });
        let (forward, body) = mpsc::channel(BODY_CHUNKS);
        let streams = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let chunk = tokio::select! {
                    chunk = waiting.recv() => chunk,
                    // Nobody reads it, though nothing more may come to find that out with.
                    () = forward.closed() => break,
                };
                let Some(chunk) = chunk else { return };
                let length = chunk.as_ref().map_or(0, Bytes::len);
                if forward.send(chunk).await.is_err() {
                    break;
                }
                streams.consumed(stream, length);
            }
            streams.stop(stream);
        });
        body
    }

    fn stop(&self, stream: StreamId) {
        if lock(&self.incoming).remove(&stream).is_some() {
            self.send(&ToWorker::Stream(Stream::Stop { stream }), &[]);
        }
    }

    fn consumed(&self, stream: StreamId, length: usize) {
        let mut incoming = lock(&self.incoming);
        let Some(found) = incoming.get_mut(&stream) else { return };
        found.under_way = found.under_way.saturating_sub(length);
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        if bytes > 0 {
            self.send(&ToWorker::Stream(Stream::Credit { stream, bytes }), &[]);
        }
    }

    /// Sends `body` to the worker for a run, which has not ended; gives the stream's number.
    ///
    /// # Errors
    /// As [`StreamId::of`].
    pub(crate) fn transmit(self: &Arc<Self>, run: RunId, body: Body) -> Result<StreamId, String> {
        let stream = {
            let mut opened = lock(&self.opened);
            let count = opened.entry(run).or_default();
            let stream = StreamId::of(run, *count)?;
            *count += 1;
            stream
        };
        let credit = Arc::new(Semaphore::new(WINDOW_BYTES));
        lock(&self.outgoing).insert(stream, Arc::clone(&credit));
        let streams = Arc::clone(self);
        tokio::spawn(async move {
            let error = streams.pump(stream, body, &credit).await;
            if lock(&streams.outgoing).remove(&stream).is_some() {
                streams.send(&ToWorker::Stream(Stream::End { stream, error }), &[]);
            }
        });
        Ok(stream)
    }

    /// Sends chunk after chunk as credit allows; gives the error that ends the body.
    async fn pump(&self, stream: StreamId, mut body: Body, credit: &Semaphore) -> Option<String> {
        while let Some(chunk) = body.recv().await {
            let bytes = match chunk {
                Ok(bytes) => bytes,
                Err(why) => return Some(why),
            };
            for piece in bytes.chunks(CHUNK_BYTES) {
                let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                match credit.acquire_many(length).await {
                    Ok(taken) => taken.forget(),
                    // It was stopped.
                    Err(_) => return None,
                }
                self.send(&ToWorker::Stream(Stream::Chunk { stream }), piece);
            }
        }
        None
    }

    /// Acts on what the worker said about a stream.
    ///
    /// # Errors
    /// A worker that sends more than it may.
    pub(crate) fn take_in(&self, about: &Stream, bytes: Vec<u8>) -> Result<(), String> {
        match about {
            Stream::Chunk { stream } => {
                let mut incoming = lock(&self.incoming);
                let Some(found) = incoming.get_mut(stream) else { return Ok(()) };
                found.under_way += bytes.len();
                if found.under_way > WINDOW_BYTES {
                    return Err("it sent more of a body than it may".to_owned());
                }
                // A reader that is gone has its stream stopped by its forwarder.
                let _ = found.chunks.send(Ok(bytes.into()));
            }
            Stream::End { stream, error } => {
                if let Some(found) = lock(&self.incoming).remove(stream)
                    && let Some(why) = error
                {
                    let _ = found.chunks.send(Err(why.clone()));
                }
            }
            Stream::Credit { stream, bytes } => {
                if let Some(found) = lock(&self.outgoing).get(stream) {
                    found.add_permits((*bytes as usize).min(WINDOW_BYTES));
                }
            }
            Stream::Stop { stream } => {
                if let Some(found) = lock(&self.outgoing).remove(stream) {
                    found.close();
                }
            }
        }
        Ok(())
    }

    /// Ends the streams to and from a run that has ended. It has ended those from it itself, where
    /// its thread came to that.
    pub(crate) fn ended(&self, run: RunId) {
        lock(&self.opened).remove(&run);
        for (_, incoming) in lock(&self.incoming).extract_if(|stream, _| stream.run() == run) {
            let _ = incoming.chunks.send(Err("the function ended before its body did".to_owned()));
        }
        for (_, credit) in lock(&self.outgoing).extract_if(|stream, _| stream.run() == run) {
            credit.close();
        }
    }

    /// Ends all streams: the process is gone.
    pub(crate) fn broke(&self, why: &str) {
        for (_, incoming) in lock(&self.incoming).drain() {
            let _ = incoming.chunks.send(Err(why.to_owned()));
        }
        for (_, credit) in lock(&self.outgoing).drain() {
            credit.close();
        }
    }
}

/// A poisoned lock holds nothing half-done here: one insertion or removal each.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Frame;

    fn said(frames: &mut mpsc::UnboundedReceiver<Vec<u8>>) -> Vec<Frame<ToWorker>> {
        let mut said = Vec::new();
        while let Ok(frame) = frames.try_recv() {
            said.push(protocol::read(&mut frame.as_slice()).unwrap().unwrap());
        }
        said
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_body_out_waits_for_credit_and_ends_when_it_is_stopped() {
        let (outbox, mut frames) = mpsc::unbounded_channel();
        let streams = Streams::new(outbox);
        let (chunks, body) = mpsc::channel(1);
        let stream = streams.transmit(1, body).unwrap();
        let feeder = tokio::spawn(async move {
            while chunks.send(Ok(Bytes::from(vec![7; CHUNK_BYTES]))).await.is_ok() {}
        });
        settle().await;
        let sent: usize = said(&mut frames).iter().map(|frame| frame.tail.len()).sum();
        assert_eq!(sent, WINDOW_BYTES, "as much as the window, and no more");
        streams.take_in(&Stream::Credit { stream, bytes: 10 }, Vec::new()).unwrap();
        streams.take_in(&Stream::Credit { stream, bytes: 65_536 }, Vec::new()).unwrap();
        settle().await;
        assert_eq!(said(&mut frames).len(), 1, "one chunk's credit, one chunk");
        streams.take_in(&Stream::Stop { stream }, Vec::new()).unwrap();
        feeder.await.unwrap();
        assert!(said(&mut frames).is_empty(), "a stopped stream has no end to tell");
    }

    #[tokio::test]
    async fn a_body_in_is_credited_as_it_is_read_and_no_worker_may_send_more() {
        let (outbox, mut frames) = mpsc::unbounded_channel();
        let streams = Streams::new(outbox);
        let stream = StreamId(9);
        let mut body = streams.receive(stream);
        let chunk = Stream::Chunk { stream };
        for _ in 0..WINDOW_BYTES / CHUNK_BYTES {
            streams.take_in(&chunk, vec![1; CHUNK_BYTES]).unwrap();
        }
        assert!(streams.take_in(&chunk, vec![1]).is_err(), "past the window");
        settle().await;
        assert_eq!(body.recv().await.unwrap().unwrap().len(), CHUNK_BYTES);
        settle().await;
        let credit = said(&mut frames);
        assert!(!credit.is_empty());
        drop(body);
        settle().await;
        let stop = ToWorker::Stream(Stream::Stop { stream });
        assert!(said(&mut frames).iter().any(|frame| frame.head == stop), "nobody reads it");
    }

    #[tokio::test]
    async fn streams_to_a_run_carry_its_number_and_nothing_is_kept_of_those_that_ended() {
        let (outbox, _frames) = mpsc::unbounded_channel();
        let streams = Streams::new(outbox);
        for run in 1..100 {
            let sent = [(); 3].map(|()| streams.transmit(run, mpsc::channel(1).1).unwrap());
            assert!(sent.iter().all(|stream| stream.run() == run), "{sent:?}");
            streams.ended(run);
        }
        assert!(lock(&streams.opened).is_empty() && lock(&streams.outgoing).is_empty());
        *lock(&streams.opened).entry(100).or_default() = 1 << 20;
        let refused = streams.transmit(100, mpsc::channel(1).1).unwrap_err();
        assert!(refused.contains("and receive as many"), "{refused}");
    }

    #[tokio::test]
    async fn a_body_from_a_run_that_ended_without_ending_it_is_not_waited_for() {
        let streams = Streams::new(mpsc::unbounded_channel().0);
        let of = |run| streams.receive(StreamId::of(run, 0).unwrap());
        let (mut lost, mut other) = (of(1), of(2));
        streams.ended(1);
        settle().await;
        let why = lost.try_recv().unwrap().unwrap_err();
        assert_eq!(why, "the function ended before its body did");
        assert!(other.try_recv().is_err() && !other.is_closed(), "that run goes on");
    }
}
