//! Stop 1 of 8: one WebSocket client: frames in, frames out, timers.
//!
//! After: `session.rs` decides what is to be done. In: frames, what calls came to, what a commit
//! ended, the clock. Out: frames, calls, rounds of queries.
//! Invariant: one task a client, and nobody waits for it. What it holds for a client that does not
//! read is bounded: first no new answers are made, then nothing more is read, then it is dropped.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use database::commit::Database;
use database::error::Refusal;
use database::limits;
use futures_util::{Sink, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::convex::client::takes_chunks;
use crate::convex::sync::{self, PING, Writer};
use crate::host::Host;
use crate::refusal::Failure;
use crate::round::{self, Running};
use crate::session::{Close, Effect, QueryId, Say, Session, Token, TokenRefused};
use crate::subscriber::{Hub, Live, Mail, Mailbox, Watch, answer};

/// How often the timers are looked at, and a WebSocket ping is sent.
const BEAT: Duration = Duration::from_secs(5);
/// Silence after which the client is told that the host lives.
const QUIET: Duration = Duration::from_secs(15);
/// How long a client has to take the last frames and to answer the close frame.
const GOODBYE: Duration = Duration::from_secs(2);
/// Bytes of a client's read buffer, and of small frames that leave together.
const BUFFER_BYTES: usize = 4096;
/// Longest reason of a close frame.
const REASON_BYTES: usize = 123;
/// Close code of a host that stops.
const GOING_AWAY: u16 = 1001;

/// What all WebSocket clients share.
pub(crate) struct Sockets {
    /// Who relies on which result.
    pub(crate) hub: Arc<Hub>,
    rounds: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    delivery: Once,
}

impl Sockets {
    /// Before the first client.
    pub(crate) fn new(database: &Arc<Database>) -> Self {
        let rounds = usize::try_from(limits::LIVE_ROUNDS).expect("a small number");
        Self {
            hub: Arc::new(Hub::new(Arc::clone(database))),
            rounds: Arc::new(Semaphore::new(rounds)),
            stop: watch::Sender::new(false),
            delivery: Once::new(),
        }
    }

    /// Asks every client to come back later, and waits until they have gone.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }

    /// How many clients there are.
    pub(crate) fn count(&self) -> usize {
        self.stop.receiver_count()
    }

    /// From the first client on, what commits end is delivered as they come.
    fn deliver(&self) {
        self.delivery.call_once(|| {
            let hub = Arc::clone(&self.hub);
            tokio::spawn(async move { hub.run().await });
        });
    }
}

/// `GET /api/{version}/sync`
pub(crate) async fn upgrade(
    State(host): State<Arc<Host>>,
    version: Option<Path<String>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("This is the place of the WebSocket sync protocol: {rejection}.");
            return Failure::bad("NoWebSocket", message).into_response();
        }
    };
    let version = version.as_ref().map(|Path(version)| version.as_str());
    let takes_chunks = takes_chunks(version, &headers);
    let writer = Writer { redact: host.config.redact, takes_chunks };
    let message_bytes = usize::try_from(limits::SOCKET_MESSAGE_BYTES).expect("fits into memory");
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(message_bytes)
        .max_frame_size(message_bytes)
        .on_upgrade(move |socket| async move {
            host.sockets.deliver();
            Connection::new(host, writer).serve(socket).await;
        })
}

/// One client.
struct Connection {
    host: Arc<Host>,
    writer: Writer,
    session: Session<Watch>,
    mailbox: Arc<Mailbox>,
    round: Option<Running>,
    /// Answers that ended since the last round began.
    causes: HashMap<QueryId, Arc<Live>>,
    /// The place in the queue for a round.
    waiting: Option<Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>>,
    outgoing: Outgoing,
    heard: Instant,
    stopping: bool,
    /// When a connection that was closed is dropped at the latest.
    goodbye: Option<Instant>,
}

/// What the select of [`Connection::serve`] came back with.
enum Woken {
    Wrote(Result<(), axum::Error>),
    Read(Option<Result<Message, axum::Error>>),
    Permit(OwnedSemaphorePermit),
    Mail,
    Beat,
    Stop,
    Goodbye,
}

impl Connection {
    fn new(host: Arc<Host>, writer: Writer) -> Self {
        Self {
            mailbox: host.sockets.hub.mailbox(),
            host,
            writer,
            session: Session::default(),
            round: None,
            causes: HashMap::new(),
            waiting: None,
            outgoing: Outgoing::new(),
            heard: Instant::now(),
            stopping: false,
            goodbye: None,
        }
    }

    /// Serves the client to its end.
    async fn serve(mut self, mut socket: WebSocket) {
        let mut stop = self.host.sockets.stop.subscribe();
        let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle();
            let reads = self.reads();
            let (outgoing, waiting, mailbox) =
                (&mut self.outgoing, &mut self.waiting, &self.mailbox);
            let goodbye = self.goodbye;
            let woken = tokio::select! {
                woken = exchange(&mut socket, outgoing, reads) => woken,
                () = mailbox.notify.notified() => Woken::Mail,
                permit = turn(waiting) => Woken::Permit(permit),
                _ = beat.tick() => Woken::Beat,
                _ = stop.wait_for(|stop| *stop), if !self.stopping => Woken::Stop,
                () = until(goodbye) => Woken::Goodbye,
            };
            match woken {
                Woken::Wrote(Err(_)) | Woken::Read(None) | Woken::Goodbye => break,
                Woken::Wrote(Ok(())) | Woken::Mail => {}
                Woken::Read(Some(message)) => self.heard(message),
                Woken::Permit(permit) => {
                    self.waiting = None;
                    self.begin(permit);
                }
                Woken::Beat => {
                    if !self.beat() {
                        break;
                    }
                }
                Woken::Stop => {
                    self.stopping = true;
                    self.session.stop();
                }
            }
        }
    }

    /// Whether the client is listened to. After the close frame it is, for its answer to that.
    fn reads(&self) -> bool {
        let room = self.outgoing.bytes < limits::SOCKET_UNSENT_BYTES;
        self.session.is_closed() || (self.session.listens() && room && !self.stopping)
    }

    /// Does everything that can be done without waiting.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for mail in self.mailbox.take() {
                moved = true;
                self.receive(mail);
            }
            moved |= self.advance_round();
            if !self.stopping {
                self.session.set_ready(self.outgoing.has_room());
            } else if self.session.is_idle() {
                let reason = "The host stops; come back in a moment".to_owned();
                self.session.close(Close { code: Some(GOING_AWAY), reason });
            }
            while let Some(effect) = self.session.next() {
                moved = true;
                self.perform(effect);
            }
            if self.waiting.is_none() && self.session.wants_round() {
                let rounds = &self.host.sockets.rounds;
                match Arc::clone(rounds).try_acquire_owned() {
                    Ok(permit) => {
                        moved = true;
                        self.begin(permit);
                    }
                    Err(_) => {
                        let rounds = Arc::clone(rounds);
                        self.waiting = Some(Box::pin(async move {
                            rounds.acquire_owned().await.expect("nobody closes it")
                        }));
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Starts a round, if there still is a reason.
    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        // In this order: everything that ended at or before the timestamp is known after it.
        let newest = self.host.database.snapshot().ts;
        self.host.sockets.hub.deliver();
        for mail in self.mailbox.take() {
            self.receive(mail);
        }
        if self.session.wants_round() {
            let round = self.session.begin(newest);
            let causes = std::mem::take(&mut self.causes);
            let mut running = Running::new(round, causes, permit);
            running.start(&self.host, &self.mailbox);
            self.round = Some(running);
        }
    }

    /// Whether it came further.
    fn advance_round(&mut self) -> bool {
        let Some(round) = &mut self.round else { return false };
        if self.session.is_closed() {
            self.round = None;
            return true;
        }
        round.start(&self.host, &self.mailbox);
        // What a mutation changed is not shown before its answer, which is on its way where it has
        // committed: else the client would show its optimistic update on top of the real one.
        let snapshot = self.host.database.snapshot();
        if self.session.running().is_some_and(|request| snapshot.answered(request).is_some()) {
            return false;
        }
        let Some(answers) = round.finished() else { return false };
        self.round = None;
        self.session.finish(answers);
        true
    }

    fn receive(&mut self, mail: Mail) {
        match mail {
            Mail::Ended(query, round, live) => {
                let at = live.ended_at().expect("what is delivered has ended");
                self.session.ended(query, round, at);
                self.causes.insert(query, live);
            }
            Mail::Answered(answered) => {
                let Some(round) = &mut self.round else { return };
                match round.answered(&self.host, &self.mailbox, *answered) {
                    Ok(()) => {}
                    Err(Refusal::OutOfRetention(_)) => {
                        self.round = None;
                        self.session.abandon();
                    }
                    Err(refusal) => self.session.close(Close::refused(&refusal)),
                }
            }
            Mail::Ran(ran, ended) => {
                let (outcome, told) = *ended;
                let request_id = Arc::clone(&told.request_id);
                told.tell(&self.host, &outcome);
                let result =
                    outcome.map(|outcome| (Arc::new(answer(&outcome, request_id)), outcome.ts));
                self.session.ran(ran, result);
            }
            Mail::Verified(result) => self.session.verified(*result),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(say) => {
                let now = self.host.config.world.now();
                let is_transition = matches!(say, Say::Transition { .. });
                let mut frames = self.writer.frames(&say, now).into_iter().peekable();
                while let Some(frame) = frames.next() {
                    let last = is_transition && frames.peek().is_none();
                    self.outgoing.push(Message::Text(frame.into()), last);
                }
            }
            Effect::Verify(token) => self.verify(token),
            Effect::Run(job) => round::start(&self.host, &self.mailbox, job),
            Effect::Close(Close { code, mut reason }) => {
                while reason.len() > REASON_BYTES {
                    reason.pop();
                }
                let frame = code.map(|code| CloseFrame { code, reason: reason.into() });
                self.outgoing.push(Message::Close(frame), false);
                self.goodbye = Some(Instant::now() + GOODBYE);
            }
        }
    }

    fn verify(&self, token: Token) {
        let (host, mailbox) = (Arc::clone(&self.host), Arc::clone(&self.mailbox));
        let put = |mailbox: &Mailbox, result: Result<_, Failure>| {
            mailbox.put(Mail::Verified(Box::new(result.map_err(refused_token))));
        };
        tokio::spawn(async move {
            let result = match token {
                Token::User(token) => host.user(&token).await,
                Token::Admin(key, acting_as) => host
                    .admin(&key, acting_as.as_deref())
                    .map(|identity| crate::auth::Authenticated { identity, expires: None }),
                Token::Nobody => unreachable!("a session knows nobody without asking"),
            };
            put(&mailbox, result);
        });
    }

    /// A frame came, or what came was none.
    fn heard(&mut self, message: Result<Message, axum::Error>) {
        self.heard = Instant::now();
        if self.session.is_closed() {
            return;
        }
        match message {
            Ok(Message::Text(text)) => match sync::read(&text) {
                Ok(said) => {
                    let newest = self.host.database.snapshot().ts;
                    self.session.said(said, newest, self.host.config.world.now());
                }
                Err(error) => self.session.fail(error),
            },
            Ok(Message::Binary(_)) => self.session.fail("Messages are text frames, not binary."),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
            Err(error) => self.session.fail(format!(
                "The message is too large or no WebSocket message: {error}. At most {} bytes.",
                limits::SOCKET_MESSAGE_BYTES
            )),
        }
    }

    /// Every five seconds. Says whether the client is still there.
    fn beat(&mut self) -> bool {
        let now = Instant::now();
        if self.outgoing.is_stalled(now) {
            return false;
        }
        if !self.reads() {
            // What it says is not heard at the moment; that is no silence.
            self.heard = now;
        }
        if now - self.heard >= Duration::from_millis(limits::SOCKET_SILENCE_MS) {
            let reason = "ClientInactive".to_owned();
            self.session.close(Close { code: Some(Close::BUSY), reason });
        }
        self.session.tick(self.host.config.world.now());
        if !self.session.is_closed() && self.outgoing.is_empty() {
            if now - self.outgoing.said >= QUIET {
                self.outgoing.push(Message::Text(PING.into()), false);
            }
            self.outgoing.push_ping();
        }
        true
    }
}

fn refused_token(failure: Failure) -> TokenRefused {
    if failure.status.is_client_error() {
        return TokenRefused::Token(failure.message);
    }
    let reason = format!("{}: {}", failure.code, failure.message);
    TokenRefused::Host(Close { code: Some(Close::BUSY), reason })
}

/// Frames on their way to the client.
struct Outgoing {
    /// Each with whether it ends a Transition.
    queue: VecDeque<(Message, bool)>,
    /// In the queue, and handed over but not written.
    bytes: u64,
    transitions: u64,
    /// Handed over to the WebSocket, which may not have written all of it.
    is_flushed: bool,
    unwritten: (u64, u64),
    /// When something last was said, and when something last went out.
    said: Instant,
    moved: Instant,
}

impl Outgoing {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            transitions: 0,
            is_flushed: true,
            unwritten: (0, 0),
            said: Instant::now(),
            moved: Instant::now(),
        }
    }

    fn push(&mut self, message: Message, ends_transition: bool) {
        let now = Instant::now();
        self.said = now;
        self.enqueue(message, ends_transition, now);
    }

    /// A ping of the WebSocket: no message of the protocol.
    fn push_ping(&mut self) {
        self.enqueue(Message::Ping(Default::default()), false, Instant::now());
    }

    fn enqueue(&mut self, message: Message, ends_transition: bool, now: Instant) {
        if self.is_empty() {
            self.moved = now;
        }
        self.bytes += bytes(&message);
        self.transitions += u64::from(ends_transition);
        self.queue.push_back((message, ends_transition));
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.is_flushed
    }

    /// Whether the client takes what it gets.
    fn has_room(&self) -> bool {
        self.transitions < limits::SOCKET_UNSENT_TRANSITIONS
            && self.bytes < limits::SOCKET_UNSENT_BYTES
    }

    fn is_stalled(&self, now: Instant) -> bool {
        !self.is_empty() && now - self.moved >= Duration::from_millis(limits::SOCKET_STALL_MS)
    }

    /// Writes what the socket takes; ready when something went out.
    fn poll_write(
        &mut self,
        mut socket: Pin<&mut WebSocket>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), axum::Error>> {
        if self.is_empty() {
            return Poll::Pending;
        }
        while !self.queue.is_empty() {
            match socket.as_mut().poll_ready(context)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {}
            }
            let Some((message, ends_transition)) = self.queue.pop_front() else { break };
            self.unwritten.0 += bytes(&message);
            self.unwritten.1 += u64::from(ends_transition);
            self.is_flushed = false;
            self.moved = Instant::now();
            socket.as_mut().start_send(message)?;
        }
        ready!(socket.as_mut().poll_flush(context))?;
        let (bytes, transitions) = std::mem::take(&mut self.unwritten);
        self.bytes -= bytes;
        self.transitions -= transitions;
        self.is_flushed = true;
        self.moved = Instant::now();
        Poll::Ready(Ok(()))
    }
}

fn bytes(message: &Message) -> u64 {
    match message {
        Message::Text(text) => text.len() as u64,
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len() as u64,
        Message::Close(_) => 0,
    }
}

/// Writes and reads, whichever comes first.
async fn exchange(socket: &mut WebSocket, outgoing: &mut Outgoing, reads: bool) -> Woken {
    poll_fn(|context| {
        if let Poll::Ready(wrote) = outgoing.poll_write(Pin::new(socket), context) {
            return Poll::Ready(Woken::Wrote(wrote));
        }
        if !reads {
            return Poll::Pending;
        }
        Pin::new(&mut *socket).poll_next(context).map(Woken::Read)
    })
    .await
}

/// The turn in the queue for rounds; never, if it does not wait there.
async fn turn(
    waiting: &mut Option<Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>>,
) -> OwnedSemaphorePermit {
    match waiting {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
