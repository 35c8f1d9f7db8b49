//! Stop 1 of 8: one WebSocket client: frames in, frames out, timers.
//!
//! After: `session.rs` decides what is to be done. In: frames, what calls came to, what a commit
//! ended, the clock. Out: frames, calls, rounds of queries.
//! Invariant: one task a client, and nobody waits for it. What it holds for a client that does not
//! read is bounded: first no new answers are made, then nothing more is read, then it is dropped.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::Poll;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use database::commit::Database;
use database::error::Refusal;
use database::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::admission::{Bodies, Held};
use crate::convex::client::takes_chunks;
use crate::convex::sync::{self, Writer};
use crate::essential;
use crate::event::Warn;
use crate::host::Host;
use crate::inbound::{Heard, Inbound, Unheard};
use crate::refusal::Failure;
use crate::round::{self, Running};
use crate::session::{Close, Effect, Kind, QueryId, Said, Say, Session, Token, TokenRefused};
use crate::subscriber::{Hub, Live, Mail, Mailbox, Watch, answer};
use crate::unsent::Unsent;
use crate::upgrade::{self, WebSocket};

/// How often the timers are looked at, and a WebSocket ping is sent.
const BEAT: Duration = Duration::from_secs(5);
/// Silence after which the client is told that the host lives.
const QUIET: Duration = Duration::from_secs(15);
/// How long a client has to take the last frames and to answer the close frame.
const GOODBYE: Duration = Duration::from_secs(2);
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
    fn deliver(&self, warn: &Warn) {
        self.delivery.call_once(|| {
            let hub = Arc::clone(&self.hub);
            essential::task("delivery", warn, async move { hub.run().await });
        });
    }
}

/// `GET /api/{version}/sync`
pub(crate) async fn upgrade(
    State(host): State<Arc<Host>>,
    version: Option<Path<String>>,
    request: Request,
) -> Response {
    let version = version.as_ref().map(|Path(version)| version.as_str());
    let takes_chunks = takes_chunks(version, request.headers());
    let writer = Writer { redact: host.config.redact, takes_chunks };
    let upgraded = upgrade::accept(request, move |socket| async move {
        host.sockets.deliver(&host.config.warn);
        Connection::new(host, writer).serve(socket).await;
    });
    upgraded.unwrap_or_else(|why| {
        let message = format!("This is the place of the WebSocket sync protocol: {why}.");
        Failure::bad("NoWebSocket", message).into_response()
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
    inbound: Inbound,
    unsent: Unsent,
    /// Room of the large messages whose calls run or wait.
    held: HashMap<(Kind, u32), Held>,
    heard: Instant,
    stopping: bool,
    /// The client has said that it closes.
    over: bool,
    /// When a connection that was closed is dropped at the latest.
    goodbye: Option<Instant>,
}

/// What the select of [`Connection::serve`] came back with.
enum Woken {
    Wrote(tungstenite::Result<()>),
    Read(Option<Result<Heard, Unheard>>),
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
            inbound: Inbound::default(),
            unsent: Unsent::new(),
            held: HashMap::new(),
            heard: Instant::now(),
            stopping: false,
            over: false,
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
            if self.over && self.unsent.is_empty() {
                break;
            }
            let reads = self.reads().then_some((&mut self.inbound, &self.host.bodies));
            let (unsent, waiting, mailbox) = (&mut self.unsent, &mut self.waiting, &self.mailbox);
            let goodbye = self.goodbye;
            let woken = tokio::select! {
                woken = exchange(&mut socket, unsent, reads) => woken,
                () = mailbox.notify.notified() => Woken::Mail,
                permit = turn(waiting) => Woken::Permit(permit),
                _ = beat.tick() => Woken::Beat,
                _ = stop.wait_for(|stop| *stop), if !self.stopping => Woken::Stop,
                () = until(goodbye) => Woken::Goodbye,
            };
            match woken {
                Woken::Wrote(Err(_)) | Woken::Goodbye => break,
                Woken::Read(None | Some(Err(Unheard::Broken(_)))) => break,
                Woken::Wrote(Ok(())) | Woken::Mail => {}
                Woken::Read(Some(heard)) => self.heard(heard),
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
        let room = self.unsent.bytes() < limits::SOCKET_UNSENT_BYTES;
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
                self.session.set_ready(self.unsent.has_room());
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
                self.held.remove(&(ran.kind, ran.request));
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
                self.unsent.say(self.writer.frames(&say, now), is_transition);
            }
            Effect::Verify(token) => self.verify(token),
            Effect::Run(job) => round::start(&self.host, &self.mailbox, job),
            Effect::Close(Close { code, mut reason }) => {
                while reason.len() > REASON_BYTES {
                    reason.pop();
                }
                let reason = reason.into();
                let frame = code.map(|code| CloseFrame { code: code.into(), reason });
                self.unsent.close(frame);
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

    /// A message came, or what came was none.
    fn heard(&mut self, heard: Result<Heard, Unheard>) {
        self.heard = Instant::now();
        match heard {
            Ok(Heard::Closed(code)) => {
                self.over = true;
                let code = code.filter(|code| CloseCode::from(*code).is_allowed());
                self.session.close(Close { code, reason: String::new() });
            }
            Ok(Heard::Ping(payload)) => self.unsent.pong(payload),
            _ if self.session.is_closed() => {}
            Ok(Heard::Text(text, held)) => self.said(&text, held),
            Ok(Heard::Binary) => self.session.fail("Messages are text frames, not binary."),
            Ok(Heard::Pong) => {}
            Err(Unheard::NoRoom(Failure { code, message, .. })) => {
                self.host.counts.refused();
                let reason = format!("{code}: {message}");
                self.session.close(Close { code: Some(Close::BUSY), reason });
            }
            Err(why) => {
                if let Unheard::TooLarge { .. } = why {
                    (self.host.config.warn)(&format!("A WebSocket client was sent away. {why}"));
                }
                self.session.fail(why.to_string());
            }
        }
    }

    fn said(&mut self, text: &str, held: Option<Held>) {
        match sync::read(text) {
            Ok(said) => {
                if let (Some(held), Said::Run(kind, request, Ok(_))) = (held, &said) {
                    self.held.insert((*kind, *request), held);
                }
                let newest = self.host.database.snapshot().ts;
                self.session.said(said, newest, self.host.config.world.now());
            }
            Err(error) => self.session.fail(error),
        }
    }

    /// Every five seconds. Says whether the client is still there.
    fn beat(&mut self) -> bool {
        let now = Instant::now();
        if self.unsent.is_stalled(now, self.host.database.out_of_memory().is_some()) {
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
        if !self.session.is_closed() && self.unsent.is_empty() {
            if now - self.unsent.said() >= QUIET {
                self.unsent.say_nothing();
            }
            self.unsent.ping();
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

/// Writes and, where it may, reads, whichever comes first.
async fn exchange(
    socket: &mut WebSocket,
    unsent: &mut Unsent,
    mut reads: Option<(&mut Inbound, &Bodies)>,
) -> Woken {
    poll_fn(|context| {
        if let Poll::Ready(wrote) = unsent.poll_write(Pin::new(socket), context) {
            return Poll::Ready(Woken::Wrote(wrote));
        }
        let Some((inbound, bodies)) = &mut reads else { return Poll::Pending };
        inbound.poll_next(Pin::new(socket.get_mut()), bodies, context).map(Woken::Read)
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
