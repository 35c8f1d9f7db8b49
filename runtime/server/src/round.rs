//! What a session has running: the queries of a round, and its mutations and actions.
//!
//! In: questions and jobs of a session. Out: calls to functions, whose answers go into the
//! session's mailbox; a round's answers when all are there.
//! Invariant: a round has a bounded number of calls in flight, and all of them read at its
//! timestamp.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec::IntoIter;

use database::error::{Refusal, UserError};
use database::key::Interval;
use database::limits;
use database::read_set::ReadSet;
use database::record::{
    Call, CallRecord, Caller, Expect, FunctionError, FunctionKind, Given, Identity, Observed,
    Outcome, RequestKey, Timestamp,
};
use database::snapshot::CATALOG;
use tokio::sync::OwnedSemaphorePermit;

use crate::convex::api::named_component;
use crate::convex::system;
use crate::event::{Told, identity_type, recorded};
use crate::host::Host;
use crate::session::{Answered, Ask, Asked, Job, Kind, QueryId, Round, Target};
use crate::subscriber::{Live, Mail, Mailbox, QueryAnswer, Watch, answer};

/// A round on its way.
pub(crate) struct Running {
    number: u64,
    at: Timestamp,
    identity: Identity,
    left: IntoIter<Ask>,
    /// What ended the earlier answers.
    causes: HashMap<QueryId, Arc<Live>>,
    in_flight: u64,
    answers: Vec<(QueryId, Answered<Watch>)>,
    /// The right to run it; given back at its end.
    _permit: OwnedSemaphorePermit,
}

impl Running {
    /// Takes a round over. `causes` are the answers that ended, of the queries that run again.
    pub(crate) fn new(
        round: Round,
        causes: HashMap<QueryId, Arc<Live>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let Round { number, at, identity, asks } = round;
        let answers = Vec::with_capacity(asks.len());
        let left = asks.into_iter();
        Self { number, at, identity, left, causes, in_flight: 0, answers, _permit: permit }
    }

    /// Starts as many calls as may run.
    pub(crate) fn start(&mut self, host: &Arc<Host>, mailbox: &Arc<Mailbox>) {
        while self.in_flight < limits::LIVE_ROUND_CALLS
            && let Some(Ask { query, asked, journal, again }) = self.left.next()
        {
            self.in_flight += 1;
            let (identity, at) = (self.identity.clone(), Some(self.at));
            let kind = FunctionKind::Query;
            let cause = self.causes.remove(&query);
            let order = Order { kind, identity, at, journal, again, cause, once: None };
            let (round, mailbox) = (self.number, Arc::clone(mailbox));
            call(host, asked, order, move |outcome, told| {
                let answer = QueryAnswer { round, query, outcome, told };
                mailbox.put(Mail::Answered(Box::new(answer)));
            });
        }
    }

    /// Takes an answer in. One of a round that was abandoned is of no use any more.
    ///
    /// # Errors
    /// Why the host did not run the query.
    pub(crate) fn answered(
        &mut self,
        host: &Host,
        mailbox: &Arc<Mailbox>,
        answered: QueryAnswer,
    ) -> Result<(), Refusal> {
        let QueryAnswer { round, query, outcome, told } = answered;
        let record = told.record.clone();
        let request_id = Arc::clone(&told.request_id);
        // Of all who follow a query, one runs it again: that is the event.
        if !told.rerun || outcome.as_ref().is_ok_and(|outcome| !outcome.cached) {
            told.tell(host, &outcome);
        }
        if round != self.number {
            return Ok(());
        }
        self.in_flight -= 1;
        let outcome = outcome?;
        let looked_at_identity = outcome.observed.identity;
        let (answer, watch) = if outcome.reads.is_empty() {
            (Arc::new(answer(&outcome, request_id)), None)
        } else {
            let hub = &host.sockets.hub;
            let (live, answer) = hub.result(&outcome, self.at, request_id);
            let given = outcome.given.clone();
            live.read_by(|| record.map(|record| CallRecord { given, ..(*record).clone() }));
            (answer, Some(live.watch(mailbox, query, round)))
        };
        self.answers.push((query, Answered { answer, looked_at_identity, watch }));
        Ok(())
    }

    /// The answers, when all are there.
    pub(crate) fn finished(&mut self) -> Option<Vec<(QueryId, Answered<Watch>)>> {
        let done = self.in_flight == 0 && self.left.len() == 0;
        done.then(|| std::mem::take(&mut self.answers))
    }
}

/// Starts a mutation or an action.
pub(crate) fn start(host: &Arc<Host>, mailbox: &Arc<Mailbox>, job: Job) {
    let ran = job.ran();
    let Job { kind, asked, identity, once, .. } = job;
    let kind_of_function = match kind {
        Kind::Mutation => FunctionKind::Mutation,
        Kind::Action => FunctionKind::Action,
    };
    let (at, journal, cause) = (None, None, None);
    let order = Order { kind: kind_of_function, identity, at, journal, again: false, cause, once };
    let mailbox = Arc::clone(mailbox);
    call(host, asked, order, move |outcome, told| {
        mailbox.put(Mail::Ran(ran, Box::new((outcome, told))));
    });
}

/// What a session decides about a call.
struct Order {
    kind: FunctionKind,
    identity: Identity,
    at: Option<Timestamp>,
    journal: Option<Arc<str>>,
    again: bool,
    cause: Option<Arc<Live>>,
    once: Option<RequestKey>,
}

/// Starts a call; `reply` hears of its end, perhaps before this returns.
fn call(
    host: &Arc<Host>,
    asked: Asked,
    order: Order,
    reply: impl FnOnce(Result<Outcome, Refusal>, Told) + Send + 'static,
) {
    let Order { kind, identity, at, journal, again, cause, once } = order;
    let request_id = host.request_id();
    let identity_type = identity_type(&identity);
    let told = |path: String, component: &Arc<str>| Told {
        request_id: Arc::clone(&request_id),
        caller: Caller::SyncWorker,
        rerun: again,
        cause,
        record: None,
        identity_type,
        begun: host.stopwatch(),
        path,
        component: Arc::clone(component),
    };
    let asked = asked.and_then(|target| {
        named_component(host, &target.path.component, &identity)?;
        Ok(target)
    });
    let target = match asked {
        Ok(target) => target,
        Err(error) => {
            return reply(Ok(wrong(kind, error)), told("(no call)".to_owned(), &"".into()));
        }
    };
    let Target { path, args, .. } = &*target;
    let mut told = told(path.identifier(), &path.component);
    if path.module.starts_with("_system/") {
        let result = system::run(host, &identity, path, &args.value);
        return reply(Ok(by_the_host(kind, result, host.database.snapshot().ts)), told);
    }
    let call = Call {
        path: path.clone(),
        args: args.clone(),
        expect: Expect::Kind(kind),
        identity,
        caller: Caller::SyncWorker,
        request_id,
        at,
        journal,
        once,
        job: None,
    };
    told.record = Some(recorded(&call));
    host.functions.call(call, Box::new(move |outcome| reply(outcome, told)));
}

/// What a function of ours came to. It is computed again when what it read changes, or the catalog
/// does, as at a push.
fn by_the_host(
    kind: FunctionKind,
    result: Result<system::Answered, UserError>,
    ts: Timestamp,
) -> Outcome {
    let (result, mut reads) = match result {
        Ok(system::Answered { value, reads }) => (Ok(value), reads),
        Err(error) => (Err(error), ReadSet::default()),
    };
    reads.insert(CATALOG, Interval::all());
    let result = result
        .map(Arc::from)
        .map_err(|error| FunctionError { message: error.message, data: error.data });
    Outcome {
        result,
        kind,
        reads: Arc::new(reads),
        observed: Observed { identity: true, ..Observed::default() },
        ..Outcome::of_nothing(Given { snapshot: ts, ..Given::default() })
    }
}

/// What cannot be called fails, whatever is written.
fn wrong(kind: FunctionKind, error: UserError) -> Outcome {
    let outcome = by_the_host(kind, Err(error), Timestamp(0));
    Outcome { reads: Arc::default(), ..outcome }
}
