//! Stop 2 of 8, session: one client's connection as a state machine, without socket and clock.
//!
//! Before: `socket.rs` parsed a message. After: `functions/call.rs` runs what is asked for, and
//! `subscriber.rs` runs the queries again that a commit ended.
//! In: what the client says, tokens verified, calls finished, answers ended. Out: [`Effect`]s, and
//! rounds of queries at one timestamp.
//!
//! ```text
//!   said ─▶ wanted (query set, identity) ─┐
//!   ended ─▶ answers that hold no more ───┼─▶ begin(T) ─▶ round of queries at T ─▶ finish
//!   mutated ─▶ a Transition is owed ──────┘                                         │
//!                                     Transition version ─▶ (query set, identity, T)◀┘
//! ```
//! Invariant: every Transition starts where the one before ended; all answers in it are of one
//! timestamp, and those that it leaves out are still right at it; one that covers a mutation's
//! commit follows the mutation's response.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use database::error::{Refusal, UserError};
use database::limits;
use database::record::{
    Arguments, FunctionError, FunctionPath, Identity, LogLine, RequestKey, Timestamp,
};
use serde_json::value::RawValue;

use crate::auth::Authenticated;

/// The client's number for a query.
pub(crate) type QueryId = u32;

/// How far a client is: what Transitions lead from and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Of the set of queries, as the client counts.
    pub(crate) query_set: u32,
    /// How often the client has authenticated.
    pub(crate) identity: u32,
    /// Of the database.
    pub(crate) ts: Timestamp,
}

/// A function and its argument, or why there is no such call.
pub(crate) type Asked = Result<Arc<Target>, UserError>;

/// What a query, mutation or action runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// Which function.
    pub(crate) path: FunctionPath,
    /// Its argument.
    pub(crate) args: Arguments,
}

/// What a client says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The first message of a connection.
    Connect {
        /// The client's session, over all its connections.
        session: [u8; 16],
        /// The newest timestamp that it has seen.
        observed: Option<Timestamp>,
        /// Its clock, milliseconds since the Unix epoch.
        clock_ms: Option<f64>,
    },
    /// Who it is from now on.
    Authenticate {
        /// The version that this follows.
        base: u32,
        /// The proof.
        token: Token,
    },
    /// Which queries it wants to follow.
    Change {
        /// The version that this follows.
        base: u32,
        /// The version that this makes.
        new: u32,
        /// In order.
        changes: Vec<Change>,
    },
    /// Run a mutation or an action.
    Run(Kind, u32, Asked),
    /// Telemetry, which nobody reads here.
    Event,
}

/// What a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// One at a time, in the order they came.
    Mutation,
    /// Side by side.
    Action,
}

/// A proof of who somebody is.
#[derive(Debug)]
pub(crate) enum Token {
    /// A user's token.
    User(String),
    /// The operator's key, and the user to act as.
    Admin(String, Option<Box<RawValue>>),
    /// Nobody in particular.
    Nobody,
}

/// One change of the set of queries.
#[derive(Debug)]
pub(crate) enum Change {
    /// Follow a query, from where its journal says.
    Add(QueryId, Asked, Option<Arc<str>>),
    /// Follow it no more.
    Remove(QueryId),
}

/// What a call came to, as it is told to a client.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Encoded JSON text of the result, or the function's error.
    pub(crate) result: Result<Arc<str>, FunctionError>,
    /// Console lines.
    pub(crate) log_lines: Arc<[LogLine]>,
    /// Where a paginated query ended.
    pub(crate) journal: Option<Arc<str>>,
    /// Names the execution in an error's text.
    pub(crate) request_id: Arc<str>,
    /// Equal for equal results and log lines (or error texts), whatever the request.
    pub(crate) digest: [u8; 16],
    /// Its text on the wire: written once for all who get it.
    pub(crate) wire: OnceLock<Arc<str>>,
}

/// A query's answer at a round's timestamp.
pub(crate) struct Answered<W> {
    /// What it came to.
    pub(crate) answer: Arc<Answer>,
    /// Whether another caller might get another one.
    pub(crate) looked_at_identity: bool,
    /// Watches what it read, for as long as this lives.
    pub(crate) watch: Option<W>,
}

/// What to do now, in this order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell the client.
    Send(Say),
    /// Find out whose token this is.
    Verify(Token),
    /// Run a mutation or an action.
    Run(Job),
    /// Close the connection when all that was sent has left.
    Close(Close),
}

/// What the client is told.
#[derive(Debug)]
pub(crate) enum Say {
    /// New answers.
    Transition {
        /// Where it was.
        start: Version,
        /// Where it is with this.
        end: Version,
        /// What differs.
        changes: Vec<Changed>,
        /// The client's clock minus the host's when it connected, milliseconds.
        clock_skew_ms: Option<f64>,
    },
    /// What a mutation or an action came to, and when it committed.
    Response(Kind, u32, Arc<Answer>, Timestamp),
    /// A token that does not hold.
    AuthError {
        /// Why.
        error: String,
        /// The identity version it had.
        base: u32,
        /// Whether a new token was refused, or the one it had ended.
        attempted: bool,
    },
    /// The client broke the protocol; it must not try again.
    Fatal(String),
}

/// One difference in a Transition.
#[derive(Debug)]
pub(crate) enum Changed {
    /// A query's new answer.
    Answered(QueryId, Arc<Answer>),
    /// A query that is followed no more.
    Removed(QueryId),
}

/// A mutation or an action on its way.
#[derive(Debug)]
pub(crate) struct Job {
    /// Which of both.
    pub(crate) kind: Kind,
    /// The client's number for it.
    pub(crate) request: u32,
    /// What runs.
    pub(crate) asked: Asked,
    /// As whom.
    pub(crate) identity: Identity,
    /// So that it commits once, however often it arrives.
    pub(crate) once: Option<RequestKey>,
}

/// Which mutation or action it was that ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// Which of both.
    pub(crate) kind: Kind,
    /// The client's number for it.
    pub(crate) request: u32,
    /// Of its arguments.
    pub(crate) bytes: u64,
}

impl Job {
    /// What stays of it when it has run.
    pub(crate) fn ran(&self) -> Ran {
        Ran { kind: self.kind, request: self.request, bytes: bytes(&self.asked) }
    }
}

/// Of the arguments, as text.
fn bytes(asked: &Asked) -> u64 {
    asked.as_ref().map_or(0, |target| target.args.json.len() as u64)
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// The code of the close frame; `None` sends one without a code.
    pub(crate) code: Option<u16>,
    /// A short code first: clients choose by it how long they wait (`convex-compat.md`, 5.7).
    pub(crate) reason: String,
}

impl Close {
    /// The host is too busy: try again later.
    pub(crate) const BUSY: u16 = 1013;
    /// The host broke.
    pub(crate) const BROKEN: u16 = 1011;

    /// For what the host could not do.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let (code, reason) = match refusal {
            Refusal::Overloaded { code, message } => (Self::BUSY, format!("{code}: {message}")),
            Refusal::OutOfRetention(_) => (Self::BUSY, "OutOfRetention".to_owned()),
            Refusal::Bad(_) | Refusal::Broken(_) => (Self::BROKEN, "InternalServerError".into()),
        };
        Self { code: Some(code), reason }
    }
}

/// One query of a round.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Which query.
    pub(crate) query: QueryId,
    /// What runs.
    pub(crate) asked: Asked,
    /// Where its pages ended before.
    pub(crate) journal: Option<Arc<str>>,
    /// Whether it ran before for this client.
    pub(crate) again: bool,
}

/// Queries to run at one timestamp.
#[derive(Debug)]
pub(crate) struct Round {
    /// Counts up; watches made for its answers carry it.
    pub(crate) number: u64,
    /// The timestamp.
    pub(crate) at: Timestamp,
    /// As whom.
    pub(crate) identity: Identity,
    /// Which queries.
    pub(crate) asks: Vec<Ask>,
}

/// One client's connection. `W` watches what an answer read.
pub(crate) struct Session<W> {
    id: Option<[u8; 16]>,
    /// Where the last Transition ended.
    version: Version,
    /// What the client asked for last.
    query_set: u32,
    identity_version: u32,
    identity: Identity,
    expires: Option<u64>,
    verifying: bool,
    queries: BTreeMap<QueryId, Query<W>>,
    /// How many were ever added; tells a query from a later one of the same number.
    added: u64,
    /// Never answered, or answered for somebody else.
    to_run: BTreeSet<QueryId>,
    /// Answers that a commit ends, and when.
    ended: BTreeMap<QueryId, Timestamp>,
    removed: BTreeSet<QueryId>,
    /// Whether a Transition must follow although nothing may have changed.
    owed: bool,
    round: Option<Running>,
    rounds: u64,
    mutations: VecDeque<Job>,
    mutating: bool,
    /// Of the mutation that runs.
    running: Option<RequestKey>,
    acting: u64,
    /// Arguments of the mutations and actions that run or wait, bytes.
    job_bytes: u64,
    /// Arguments and journals of the queries, bytes.
    query_bytes: u64,
    ready: bool,
    closed: bool,
    clock_skew_ms: Option<f64>,
    effects: VecDeque<Effect>,
}

/// A query that the client follows.
struct Query<W> {
    asked: Asked,
    journal: Option<Arc<str>>,
    /// Of its arguments and first journal.
    bytes: u64,
    /// Which addition made it.
    addition: u64,
    /// Digest of the answer the client has.
    digest: Option<[u8; 16]>,
    looked_at_identity: bool,
    /// The round its answer is of.
    round: u64,
    watch: Option<W>,
}

/// The round that runs.
struct Running {
    number: u64,
    end: Version,
    removed: BTreeSet<QueryId>,
    /// By query: which addition was meant, and the digest of the answer the client has.
    asked: BTreeMap<QueryId, (u64, Option<[u8; 16]>)>,
    /// Answers of this round that a commit ended before the round did.
    ended: Vec<(QueryId, Timestamp)>,
}

impl<W> Default for Session<W> {
    fn default() -> Self {
        Self {
            id: None,
            version: Version::default(),
            query_set: 0,
            identity_version: 0,
            identity: Identity::Anonymous,
            expires: None,
            verifying: false,
            queries: BTreeMap::new(),
            added: 0,
            to_run: BTreeSet::new(),
            ended: BTreeMap::new(),
            removed: BTreeSet::new(),
            owed: false,
            round: None,
            rounds: 0,
            mutations: VecDeque::new(),
            mutating: false,
            running: None,
            acting: 0,
            job_bytes: 0,
            query_bytes: 0,
            ready: true,
            closed: false,
            clock_skew_ms: None,
            effects: VecDeque::new(),
        }
    }
}

impl<W> Session<W> {
    /// The next thing to do.
    pub(crate) fn next(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether a message may be given to it now: not while a token is being verified, because what
    /// follows is said by whoever that is; and not while as many calls, or as large ones, run and
    /// wait as one client may have.
    pub(crate) fn listens(&self) -> bool {
        let room = (self.mutations.len() as u64) < limits::SESSION_MUTATIONS
            && self.acting < limits::SESSION_ACTIONS
            && self.job_bytes < limits::SESSION_CALL_BYTES;
        !self.verifying && !self.closed && room
    }

    /// Whether the connection is to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The request of the mutation that runs: a snapshot tells by it whether it committed.
    pub(crate) fn running(&self) -> Option<RequestKey> {
        self.running
    }

    /// Whether nothing that the client waits for is being done.
    pub(crate) fn is_idle(&self) -> bool {
        !self.mutating && self.acting == 0 && self.round.is_none()
    }

    /// A message of the client, while `newest` is the newest timestamp and `now` the time.
    pub(crate) fn said(&mut self, said: Said, newest: Timestamp, now: u64) {
        debug_assert!(!self.verifying, "messages wait until the token is verified");
        self.tick(now);
        if self.closed {
            return;
        }
        match said {
            Said::Connect { session, observed, clock_ms } => {
                self.connect(session, observed, newest);
                self.clock_skew_ms = clock_ms.map(|clock| clock - (now / 1_000_000) as f64);
            }
            Said::Authenticate { base, token } => self.authenticate(base, token),
            Said::Change { base, new, changes } => self.change(base, new, changes),
            Said::Run(kind, request, asked) => self.request(kind, request, asked),
            Said::Event => {}
        }
    }

    /// Looks whether the token still holds at the time `now`.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.closed || self.verifying || self.expires.is_none_or(|expires| now < expires) {
            return;
        }
        let error = "The token has expired: send a fresh one.".to_owned();
        self.refuse_token(error, false);
    }

    /// The message could not be read: the client is not one of ours.
    pub(crate) fn fail(&mut self, error: impl Into<String>) {
        if self.closed {
            return;
        }
        self.effects.push_back(Effect::Send(Say::Fatal(error.into())));
        self.close(Close { code: None, reason: String::new() });
    }

    /// Ends the connection; what was sent before still leaves.
    pub(crate) fn close(&mut self, close: Close) {
        if !std::mem::replace(&mut self.closed, true) {
            self.effects.push_back(Effect::Close(close));
            self.mutations.clear();
            self.queries.clear();
        }
    }

    /// Starts nothing more: the host stops. What runs is answered.
    pub(crate) fn stop(&mut self) {
        self.mutations.clear();
        self.ready = false;
    }

    /// Whether the client takes more: rounds and mutations wait until it does.
    pub(crate) fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
        self.start_mutation();
    }

    /// A token was verified.
    pub(crate) fn verified(&mut self, result: Result<Authenticated, TokenRefused>) {
        assert!(std::mem::take(&mut self.verifying), "one token is verified at a time");
        match result {
            Ok(who) => self.become_somebody(who),
            Err(TokenRefused::Token(error)) => self.refuse_token(error, true),
            Err(TokenRefused::Host(close)) => self.close(close),
        }
    }

    /// A mutation or an action came to its end; a mutation that committed did so at `ts`.
    pub(crate) fn ran(
        &mut self,
        Ran { kind, request, bytes }: Ran,
        result: Result<(Arc<Answer>, Timestamp), Refusal>,
    ) {
        self.job_bytes -= bytes;
        match kind {
            Kind::Mutation => {
                assert!(std::mem::take(&mut self.mutating), "one at a time");
                self.running = None;
            }
            Kind::Action => self.acting -= 1,
        }
        if self.closed {
            return;
        }
        match result {
            Ok((answer, ts)) => {
                let say = Say::Response(kind, request, answer, ts);
                self.effects.push_back(Effect::Send(say));
                // A round that runs past it already will do.
                let covered = kind == Kind::Mutation
                    && self.round.as_ref().is_some_and(|round| round.end.ts >= ts);
                self.owed |= !covered;
            }
            Err(refusal) => self.close(Close::refused(&refusal)),
        }
        self.start_mutation();
    }

    /// A commit at `at` wrote what the answer of a query in a round had read. Told of every commit
    /// up to a timestamp before a round begins at it.
    pub(crate) fn ended(&mut self, query: QueryId, round: u64, at: Timestamp) {
        if let Some(running) = self.round.as_mut().filter(|running| running.number == round) {
            running.ended.push((query, at));
        } else if self.queries.get(&query).is_some_and(|query| query.round == round) {
            self.ended.insert(query, at);
        }
    }

    /// Whether there is anything to tell the client that it could take.
    pub(crate) fn wants_round(&self) -> bool {
        let moved = (self.query_set, self.identity_version)
            != (self.version.query_set, self.version.identity);
        let changed = moved || self.owed || !self.to_run.is_empty() || !self.ended.is_empty();
        changed && self.ready && !self.closed && !self.verifying && self.round.is_none()
    }

    /// Starts a round at the newest timestamp.
    pub(crate) fn begin(&mut self, at: Timestamp) -> Round {
        assert!(self.wants_round() && at >= self.version.ts, "rounds go forward, one at a time");
        let mut due = std::mem::take(&mut self.to_run);
        due.extend(self.ended.iter().filter(|(_, ended)| **ended <= at).map(|(query, _)| *query));
        self.ended.retain(|_, ended| *ended > at);
        self.owed = false;
        self.rounds += 1;
        let mut asked = BTreeMap::new();
        let ask = |query: QueryId| {
            let found = self.queries.get(&query).expect("what is due is followed");
            asked.insert(query, (found.addition, found.digest));
            let (asked, journal) = (found.asked.clone(), found.journal.clone());
            Ask { query, asked, journal, again: found.round > 0 }
        };
        let asks = due.into_iter().map(ask).collect();
        let end = Version { query_set: self.query_set, identity: self.identity_version, ts: at };
        let removed = std::mem::take(&mut self.removed);
        let number = self.rounds;
        self.round = Some(Running { number, end, removed, asked, ended: Vec::new() });
        Round { number, at, identity: self.identity.clone(), asks }
    }

    /// The round could not be answered at its timestamp, which is kept no more: another one will.
    pub(crate) fn abandon(&mut self) {
        let Some(round) = self.round.take() else { return };
        let followed = round.asked.into_iter().filter(|(query, (addition, _))| {
            self.queries.get(query).is_some_and(|query| query.addition == *addition)
        });
        self.to_run.extend(followed.map(|(query, _)| query));
        self.removed.extend(round.removed);
        self.owed = true;
    }

    /// Every query of the round is answered: one Transition.
    pub(crate) fn finish(&mut self, answers: Vec<(QueryId, Answered<W>)>) {
        let round = self.round.take().expect("a round was begun");
        if self.closed {
            return;
        }
        assert_eq!(round.asked.len(), answers.len(), "every query of a round is answered");
        let stale_identity = round.end.identity != self.identity_version;
        let mut changes: Vec<_> = round.removed.into_iter().map(Changed::Removed).collect();
        for (id, Answered { answer, looked_at_identity, watch }) in answers {
            let (addition, digest) = *round.asked.get(&id).expect("an answer of this round");
            if digest != Some(answer.digest) {
                changes.push(Changed::Answered(id, Arc::clone(&answer)));
            }
            let Some(query) = self.queries.get_mut(&id).filter(|q| q.addition == addition) else {
                // Removed meanwhile; the next Transition says so.
                continue;
            };
            if stale_identity && looked_at_identity {
                self.to_run.insert(id);
            }
            // What was heard of the answer before says nothing about this one.
            self.ended.remove(&id);
            query.looked_at_identity = looked_at_identity;
            query.journal = answer.journal.clone().or(query.journal.take());
            query.round = round.number;
            query.watch = watch;
            query.digest = Some(answer.digest);
        }
        for (query, at) in round.ended {
            self.ended(query, round.number, at);
        }
        let start = std::mem::replace(&mut self.version, round.end);
        let (end, clock_skew_ms) = (round.end, self.clock_skew_ms);
        let say = Say::Transition { start, end, changes, clock_skew_ms };
        self.effects.push_back(Effect::Send(say));
    }

    fn connect(&mut self, id: [u8; 16], observed: Option<Timestamp>, newest: Timestamp) {
        if self.id.is_some() {
            return self.fail("Connect must be sent once, as the first message.");
        }
        if observed.is_some_and(|observed| observed > newest) {
            // This host lost commits that the client has seen; going on would break its order.
            let reason = "InternalServerError: the client has seen a newer timestamp".to_owned();
            return self.close(Close { code: Some(Close::BROKEN), reason });
        }
        self.id = Some(id);
    }

    fn authenticate(&mut self, base: u32, token: Token) {
        if base != self.identity_version {
            let reason = "InternalServerError: the identity's version does not follow".to_owned();
            return self.close(Close { code: Some(Close::BROKEN), reason });
        }
        if let Token::Nobody = token {
            let identity = Identity::Anonymous;
            return self.become_somebody(Authenticated { identity, expires: None });
        }
        self.verifying = true;
        self.effects.push_back(Effect::Verify(token));
    }

    fn become_somebody(&mut self, who: Authenticated) {
        let before = std::mem::replace(&mut self.identity, who.identity);
        self.expires = who.expires;
        self.identity_version += 1;
        if before == self.identity {
            return;
        }
        // Which functions exist at all depends on whether the operator asks.
        let all = before.is_admin() != self.identity.is_admin();
        let answered = self.queries.iter().filter(|(_, query)| query.round > 0);
        let other = answered.filter(|(_, query)| all || query.looked_at_identity);
        self.to_run.extend(other.map(|(id, _)| *id));
        if let Some(round) = self.round.as_ref().filter(|_| all) {
            let live = round.asked.keys().filter(|id| self.queries.contains_key(id));
            self.to_run.extend(live.copied());
        }
    }

    fn refuse_token(&mut self, error: String, attempted: bool) {
        let base = self.identity_version;
        self.effects.push_back(Effect::Send(Say::AuthError { error, base, attempted }));
        self.close(Close { code: None, reason: String::new() });
    }

    fn change(&mut self, base: u32, new: u32, changes: Vec<Change>) {
        if base != self.query_set || new <= base {
            return self.fail(format!(
                "BaseVersionMismatch: the query set is at version {}, the change leads from {base} \
                 to {new}.",
                self.query_set
            ));
        }
        for change in changes {
            if let Err(error) = self.apply(change) {
                return self.fail(error);
            }
        }
        self.query_set = new;
    }

    fn apply(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::Add(id, asked, journal) => {
                if self.queries.contains_key(&id) {
                    return Err(format!("Query {id} is in the query set already."));
                }
                if self.queries.len() as u64 >= limits::SESSION_QUERIES {
                    return Err(format!(
                        "Too many queries: one client may follow {}.",
                        limits::SESSION_QUERIES
                    ));
                }
                let journal_bytes = journal.as_ref().map_or(0, |journal| journal.len() as u64);
                let bytes = bytes(&asked) + journal_bytes;
                // After a cut the client sends all of them again, in one message.
                self.query_bytes += bytes;
                if self.query_bytes > limits::SOCKET_MESSAGE_BYTES {
                    return Err(format!(
                        "Too many queries: their arguments may take {} bytes together.",
                        limits::SOCKET_MESSAGE_BYTES
                    ));
                }
                self.added += 1;
                let query = Query {
                    asked,
                    journal,
                    bytes,
                    addition: self.added,
                    digest: None,
                    looked_at_identity: false,
                    round: 0,
                    watch: None,
                };
                self.queries.insert(id, query);
                self.to_run.insert(id);
            }
            Change::Remove(id) => {
                let Some(query) = self.queries.remove(&id) else {
                    return Err(format!("Query {id} is not in the query set."));
                };
                self.query_bytes -= query.bytes;
                self.to_run.remove(&id);
                self.ended.remove(&id);
                self.removed.insert(id);
            }
        }
        Ok(())
    }

    fn request(&mut self, kind: Kind, request: u32, asked: Asked) {
        let session = self.id.filter(|_| kind == Kind::Mutation);
        let once = session.map(|session| RequestKey { session, request });
        let job = Job { kind, request, asked, identity: self.identity.clone(), once };
        self.job_bytes += bytes(&job.asked);
        match kind {
            Kind::Mutation => {
                self.mutations.push_back(job);
                self.start_mutation();
            }
            Kind::Action => {
                self.acting += 1;
                self.effects.push_back(Effect::Run(job));
            }
        }
    }

    fn start_mutation(&mut self) {
        if self.mutating || !self.ready || self.closed {
            return;
        }
        if let Some(job) = self.mutations.pop_front() {
            self.mutating = true;
            self.running = job.once;
            self.effects.push_back(Effect::Run(job));
        }
    }
}

/// Why nobody is known by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenRefused {
    /// It is not a good one.
    Token(String),
    /// The host could not find out.
    Host(Close),
}
