//! What clients over HTTP are owed: answers, until they have taken them.
//!
//! ```text
//!   answer ─▶ room for it? ─▶ pieces, each counted until the socket has it ─▶ taken
//!                  └──▶ 503                └──▶ none taken for long: its connection ends
//! ```
//! In: responses of the routers. Out: the same, counted; 503 where there is no room for one.
//! Invariant: bytes count as long as they are in memory: here, in hyper's hands, and in a stream
//! of HTTP/2 that its client does not open. Who takes nothing does not keep them for ever.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use database::limits;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::host::Host;
use crate::refusal::Failure;

/// Smaller answers are not counted: one for every connection is still little.
const COUNTED_BYTES: u64 = 4 << 10;
/// What is handed over at once: who takes that much within the time is not stalled.
const PIECE_BYTES: usize = 16 << 10;
/// How often those who take nothing are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// All that is owed.
pub(crate) struct Owed {
    most: u64,
    all: Arc<All>,
}

#[derive(Default)]
struct All {
    bytes: AtomicU64,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    begun: u64,
    open: BTreeMap<u64, Weak<Answer>>,
}

/// One answer, while anything of it is in memory.
struct Answer {
    all: Arc<All>,
    number: u64,
    /// Bytes that wait for the client.
    waiting: AtomicU64,
    /// When the client last took some.
    taken: Mutex<Instant>,
    connection: Option<HangUp>,
}

/// Memory that is taken, until this is dropped.
struct Room {
    answer: Arc<Answer>,
    bytes: u64,
}

/// Bytes in hyper's hands.
struct Piece {
    bytes: Bytes,
    room: Arc<Room>,
}

/// Ends a connection.
#[derive(Clone, Default)]
pub(crate) struct HangUp(Arc<Cord>);

#[derive(Default)]
struct Cord {
    is_pulled: AtomicBool,
    told: Notify,
}

impl HangUp {
    /// Ends it.
    fn pull(&self) {
        self.0.is_pulled.store(true, Ordering::Release);
        self.0.told.notify_one();
    }

    /// Whether it is to end.
    pub(crate) fn is_pulled(&self) -> bool {
        self.0.is_pulled.load(Ordering::Acquire)
    }

    /// Waits until it is to end.
    pub(crate) async fn pulled(&self) {
        self.0.told.notified().await;
    }
}

impl Owed {
    /// Room for `most` bytes.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, all: Arc::default() }
    }

    /// Bytes that are owed now.
    pub(crate) fn bytes(&self) -> u64 {
        self.all.bytes.load(Ordering::Relaxed)
    }

    /// Room for a whole answer. One alone always has it.
    ///
    /// # Errors
    /// What others are owed leaves too little.
    fn admit(&self, answer: &Arc<Answer>, bytes: u64) -> Result<Room, u64> {
        // Gives it back when it is dropped, fit or not.
        let room = answer.hold(bytes);
        let before = self.bytes().saturating_sub(bytes);
        if before == 0 || before + bytes <= self.most { Ok(room) } else { Err(before) }
    }

    /// Why an answer is not sent.
    fn full(&self, before: u64, bytes: u64, is_query: bool) -> Failure {
        let done = match is_query {
            true => "",
            false => " What was called has run, and what it wrote is kept.",
        };
        let message = format!(
            "The host owes its clients {before} bytes of answers that they have not taken, and \
             may owe {}: there is no room for this one of {bytes} bytes.{done} Try again in a \
             moment, or give the host more memory.",
            self.most
        );
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "TooManyBytesOwed", message)
    }

    fn begin(&self, connection: Option<HangUp>) -> Arc<Answer> {
        let mut answers = self.all.answers();
        let number = answers.begun;
        answers.begun += 1;
        let answer = Arc::new(Answer {
            all: Arc::clone(&self.all),
            number,
            waiting: AtomicU64::new(0),
            taken: Mutex::new(Instant::now()),
            connection,
        });
        answers.open.insert(number, Arc::downgrade(&answer));
        answer
    }

    /// Ends the connections of those who have taken nothing for too long; that is sooner while
    /// memory is short, or half of the room is taken.
    fn end_stalled(&self, is_memory_short: bool) {
        let patience = match is_memory_short || self.bytes() > self.most / 2 {
            true => limits::SOCKET_STALL_SHORT_MS,
            false => limits::SOCKET_STALL_MS,
        };
        // Dropped with no lock held: the last of them goes with its entry.
        let open: Vec<_> = self.all.answers().open.values().filter_map(Weak::upgrade).collect();
        for answer in open {
            if answer.has_waited() >= Duration::from_millis(patience)
                && let Some(connection) = &answer.connection
            {
                connection.pull();
            }
        }
    }
}

impl All {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        // Each holder leaves the map whole.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Counts bytes, whether there is room or not.
    fn hold(self: &Arc<Self>, bytes: u64) -> Room {
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) == 0 {
            // The client took all that there was: it has not kept anybody waiting.
            self.moved();
        }
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        Room { answer: Arc::clone(self), bytes }
    }

    fn moved(&self) {
        *self.taken() = Instant::now();
    }

    /// How long it is that the client has taken nothing of what waits for it.
    fn has_waited(&self) -> Duration {
        match self.waiting.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            _ => self.taken().elapsed(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Instant> {
        // A single assignment.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.all.answers().open.remove(&self.number);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.answer.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        self.answer.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.room.answer.moved();
    }
}

/// The body of a response, in pieces.
struct Counted {
    inner: Body,
    answer: Arc<Answer>,
    /// For a body that was whole from the start.
    held: Option<Room>,
    /// What is left of the bytes that came last.
    rest: Option<(Bytes, Arc<Room>)>,
}

impl Counted {
    /// The next piece of what is there.
    fn piece(&mut self) -> Option<Bytes> {
        let (rest, room) = self.rest.as_mut()?;
        let bytes = rest.split_to(rest.len().min(PIECE_BYTES));
        let piece = Piece { bytes, room: Arc::clone(room) };
        if rest.is_empty() {
            self.rest = None;
        }
        Some(Bytes::from_owner(piece))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(piece) = self.piece() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let held = self.held.take();
        let room = held.unwrap_or_else(|| self.answer.hold(bytes.len() as u64));
        self.rest = Some((bytes, Arc::new(room)));
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |(rest, _)| rest.len() as u64);
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Counts an answer until its client has taken it; says so instead where there is no room for it.
/// The operator's answers always have it.
pub(crate) async fn count(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let connection = request.extensions().get().cloned();
    let is_query = request.uri().path().starts_with("/api/query");
    let credentials = request.headers().get(header::AUTHORIZATION).cloned();
    let response = next.run(request).await;
    // One of unknown size is made as its client takes it.
    let whole = response.body().size_hint().exact();
    if whole.is_some_and(|bytes| bytes < COUNTED_BYTES) {
        return response;
    }
    let answer = host.owed.begin(connection);
    let held = match whole.map(|bytes| (bytes, host.owed.admit(&answer, bytes))) {
        None => None,
        Some((_, Ok(room))) => Some(room),
        Some((bytes, Err(_))) if host.admin_key.is_in(credentials.as_ref()) => {
            Some(answer.hold(bytes))
        }
        Some((bytes, Err(before))) => {
            host.counts.refused();
            return host.owed.full(before, bytes, is_query).into_response();
        }
    };
    response.map(|inner| Body::new(Counted { inner, answer, held, rest: None }))
}

/// Ends connections that take nothing, as long as the host serves.
pub(crate) async fn tend(host: Arc<Host>) {
    loop {
        tokio::time::sleep(LOOK).await;
        host.owed.end_stalled(host.database.out_of_memory().is_some());
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const MOST: u64 = 100_000;

    #[tokio::test]
    async fn an_answer_counts_until_its_last_piece_is_taken() {
        let owed = Owed::new(MOST);
        let answer = owed.begin(None);
        let held = owed.admit(&answer, 40_000).ok();
        let inner = Body::from(vec![7; 40_000]);
        let mut body = Counted { inner, answer, held, rest: None };
        assert_eq!(body.size_hint().exact(), Some(40_000));
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
            assert_eq!(owed.bytes(), 40_000, "nobody has taken one yet");
        }
        assert!(body.is_end_stream());
        drop(body);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), vec![7; 40_000]);
        let last = pieces.pop();
        drop(pieces);
        assert_eq!(owed.bytes(), 40_000);
        drop(last);
        assert_eq!(owed.bytes(), 0);
        assert!(owed.all.answers().open.is_empty());
    }

    #[tokio::test]
    async fn a_stream_counts_what_came_and_was_not_taken() {
        let owed = Owed::new(MOST);
        let chunks =
            [30_000, 0, 10].map(|length| Ok::<_, axum::Error>(Bytes::from(vec![1; length])));
        let inner = Body::from_stream(futures_util::stream::iter(chunks));
        let mut body = Counted { inner, answer: owed.begin(None), held: None, rest: None };
        assert_eq!(owed.bytes(), 0, "nothing came");
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            count += frame.unwrap().into_data().unwrap().len();
            assert_eq!(owed.bytes(), if count < 30_000 { 30_000 } else { 0 });
        }
        assert_eq!((count, owed.bytes()), (30_010, 0));
    }

    #[test]
    fn there_is_room_for_one_alone_and_for_as_many_as_fit() {
        let owed = Owed::new(MOST);
        let answer = owed.begin(None);
        let large = owed.admit(&answer, MOST * 3).ok();
        assert!(large.is_some(), "one alone");
        assert_eq!(owed.admit(&answer, 1).err(), Some(MOST * 3));
        drop(large);
        let one = owed.admit(&answer, MOST - 10).ok();
        assert!(one.is_some() && owed.admit(&answer, 10).is_ok());
        assert_eq!(owed.admit(&answer, 11).err(), Some(MOST - 10));
        assert_eq!(owed.bytes(), MOST - 10, "what was refused is not owed");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_hung_up_on_and_sooner_where_room_is_short() {
        let stall = |ms| tokio::time::advance(Duration::from_millis(ms + 1));
        let (owed, connection) = (Owed::new(MOST), HangUp::default());
        let answer = owed.begin(Some(connection.clone()));
        stall(limits::SOCKET_STALL_MS).await;
        owed.end_stalled(false);
        assert!(!connection.is_pulled(), "it is owed nothing");
        let held = Arc::new(answer.hold(1_000));
        stall(limits::SOCKET_STALL_SHORT_MS).await;
        drop(Piece { bytes: Bytes::new(), room: Arc::clone(&held) });
        stall(limits::SOCKET_STALL_SHORT_MS).await;
        owed.end_stalled(false);
        assert!(!connection.is_pulled(), "it took a piece");
        let others = owed.begin(None).hold(MOST);
        owed.end_stalled(false);
        assert!(connection.is_pulled(), "others want the room");
        drop(others);
        let patient = HangUp::default();
        let answer = owed.begin(Some(patient.clone()));
        let _held = answer.hold(1_000);
        stall(limits::SOCKET_STALL_SHORT_MS).await;
        owed.end_stalled(false);
        assert!(!patient.is_pulled());
        owed.end_stalled(true);
        assert!(patient.is_pulled(), "memory is short");
        patient.pulled().await;
    }
}
