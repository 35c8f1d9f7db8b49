//! Stop 8 of 8, subscriber: what clients rely on, and who must be told when it ends.
//!
//! Before: `database/subscriptions.rs` ends the read sets that a commit touches. After: a session
//! runs those queries again, and `session.rs` makes a Transition of what differs.
//!
//! ```text
//!   outcome ─▶ Live (one per distinct result) ◀─ watches of every session that has it
//!                │ end: under the log's lock
//!                ▼
//!            Hub.ended ─▶ deliver: up to a visible timestamp ─▶ mailboxes ─▶ sessions wake up
//! ```
//! In: outcomes of queries, commits. Out: in each session's mailbox, which answers ended when.
//! Invariant: whoever takes a timestamp T from the newest snapshot and then delivers, knows of
//! every answer that a commit at or before T ended. A commit pays for the results that it touches,
//! not for the sessions that have them, and nobody pays for what it does not touch.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use database::commit::{Database, Writer};
use database::durability::NotDurable;
use database::error::Refusal;
use database::read_set::ReadSet;
use database::record::{CallRecord, Outcome, Timestamp};
use database::subscriptions::{Invalidation, Owner, SubscriptionId, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::auth::Authenticated;
use crate::event::Told;
use crate::session::{Answer, QueryId, Ran, TokenRefused};

/// Every result that a session relies on.
pub(crate) struct Hub {
    database: Arc<Database>,
    /// By the address of the read set, which equal answers share. A read set lives as long as its
    /// entry, so no other one has that address.
    live: Mutex<HashMap<usize, Weak<Live>>>,
    /// Ended and not delivered yet, in commit order.
    ended: Mutex<VecDeque<Arc<Live>>>,
    /// Held while mailboxes are filled.
    delivering: Mutex<()>,
    /// There is something to deliver.
    signal: Notify,
    mailboxes: AtomicU64,
}

/// One result, as long as any session relies on it.
pub(crate) struct Live {
    hub: Arc<Hub>,
    reads: Arc<ReadSet>,
    /// Held by those who send it, and no longer: results may be large.
    answer: Mutex<Weak<Answer>>,
    digest: OnceLock<[u8; 16]>,
    /// The call whose answer it is.
    reader: OnceLock<Option<Writer>>,
    /// `None` if it ended before it could be watched.
    subscription: OnceLock<Option<SubscriptionId>>,
    /// The commit that ended it.
    why: OnceLock<Invalidation>,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    /// Nobody is told any more: whoever comes now is told at once.
    delivered: bool,
    by_place: HashMap<(u64, QueryId), (Arc<Mailbox>, u64)>,
}

/// A session's interest in a result; ends when it is dropped.
pub(crate) struct Watch {
    live: Arc<Live>,
    mailbox: u64,
    query: QueryId,
    round: u64,
}

/// What waits for a session.
pub(crate) struct Mailbox {
    number: u64,
    mail: Mutex<Vec<Mail>>,
    /// Something came.
    pub(crate) notify: Notify,
}

/// News for a session.
pub(crate) enum Mail {
    /// The answer of a query in a round ended.
    Ended(QueryId, u64, Arc<Live>),
    /// A query of a round was answered.
    Answered(Box<QueryAnswer>),
    /// A mutation or an action came to its end.
    Ran(Ran, Box<(Result<Outcome, Refusal>, Told)>),
    /// A token was verified, or not.
    Verified(Box<Result<Authenticated, TokenRefused>>),
}

/// One answer of a round.
pub(crate) struct QueryAnswer {
    /// Which round.
    pub(crate) round: u64,
    /// Which query.
    pub(crate) query: QueryId,
    /// What came of it.
    pub(crate) outcome: Result<Outcome, Refusal>,
    /// For the terminal.
    pub(crate) told: Told,
}

impl Hub {
    /// A hub without results.
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            live: Mutex::default(),
            ended: Mutex::default(),
            delivering: Mutex::default(),
            signal: Notify::new(),
            mailboxes: AtomicU64::new(0),
        }
    }

    /// Delivers what ends, for as long as somebody polls it.
    pub(crate) async fn run(&self) {
        loop {
            self.signal.notified().await;
            self.deliver();
        }
    }

    /// A mailbox for a new session.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        let number = self.mailboxes.fetch_add(1, Ordering::Relaxed);
        Arc::new(Mailbox { number, mail: Mutex::default(), notify: Notify::new() })
    }

    /// How many distinct results sessions rely on.
    #[cfg(test)]
    pub(crate) fn results(&self) -> usize {
        lock(&self.live).len()
    }

    /// How many answers somebody still sends.
    #[cfg(test)]
    pub(crate) fn answers(&self) -> usize {
        let live: Vec<_> = lock(&self.live).values().filter_map(Weak::upgrade).collect();
        live.iter().filter(|live| lock(&live.answer).strong_count() > 0).count()
    }

    /// How often any session waits for any result's end.
    #[cfg(test)]
    pub(crate) fn watches(&self) -> usize {
        let live: Vec<_> = lock(&self.live).values().filter_map(Weak::upgrade).collect();
        live.iter().map(|live| lock(&live.watchers).by_place.len()).sum()
    }

    /// The result with an outcome's reads, which holds at `at`, and what clients are told of it:
    /// one for all sessions that get it.
    pub(crate) fn result(
        self: &Arc<Self>,
        outcome: &Outcome,
        at: Timestamp,
        request_id: Arc<str>,
    ) -> (Arc<Live>, Arc<Answer>) {
        let reads = &outcome.reads;
        let place = Arc::as_ptr(reads) as usize;
        let live = {
            let mut all = lock(&self.live);
            all.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
                let live = Arc::new(Live::new(self, reads));
                all.insert(place, Arc::downgrade(&live));
                live
            })
        };
        // Whoever comes second waits until the first has done both.
        let answer = live.answer(outcome, request_id);
        live.subscription.get_or_init(|| live.subscribe(at));
        (live, answer)
    }

    /// Tells every session what ended, up to the newest timestamp that anybody may be told.
    pub(crate) fn deliver(&self) {
        let mut wake = Vec::new();
        {
            let _one_at_a_time = lock(&self.delivering);
            let newest = self.database.snapshot().ts;
            while let Some(live) = self.next_ended(newest) {
                let watchers = {
                    let mut watchers = lock(&live.watchers);
                    watchers.delivered = true;
                    std::mem::take(&mut watchers.by_place)
                };
                for ((_, query), (mailbox, round)) in watchers {
                    lock(&mailbox.mail).push(Mail::Ended(query, round, Arc::clone(&live)));
                    wake.push(mailbox);
                }
            }
        }
        wake.iter().for_each(|mailbox| mailbox.notify.notify_one());
    }

    fn next_ended(&self, newest: Timestamp) -> Option<Arc<Live>> {
        let mut ended = lock(&self.ended);
        ended.pop_front_if(|live| live.ended_at().is_some_and(|at| at <= newest))
    }
}

impl Live {
    fn new(hub: &Arc<Hub>, reads: &Arc<ReadSet>) -> Self {
        Self {
            hub: Arc::clone(hub),
            reads: Arc::clone(reads),
            answer: Mutex::default(),
            digest: OnceLock::new(),
            reader: OnceLock::new(),
            subscription: OnceLock::new(),
            why: OnceLock::new(),
            watchers: Mutex::default(),
        }
    }

    fn subscribe(self: &Arc<Self>, at: Timestamp) -> Option<SubscriptionId> {
        let watcher: Arc<dyn Watcher> = self.clone();
        let owner = Owner::Watcher(Arc::downgrade(&watcher));
        match self.hub.database.subscriptions().register(&self.reads, at, owner) {
            Ok(subscription) => Some(subscription),
            Err(why) => {
                self.over(&why);
                {
                    let mut ended = lock(&self.hub.ended);
                    let place = ended.partition_point(|live| live.ended_at() <= Some(why.at));
                    ended.insert(place, Arc::clone(self));
                }
                let hub = Arc::clone(&self.hub);
                // Undone or durable: it is worth looking.
                let look = move |_: Result<(), NotDurable>| hub.signal.notify_one();
                self.hub.database.when_durable(why.at, Box::new(look));
                None
            }
        }
    }

    fn over(&self, why: &Invalidation) {
        let first = self.why.set(why.clone()).is_ok();
        assert!(first, "a read set ends once");
    }

    /// What clients are told; the same for all who get it at a time.
    fn answer(&self, outcome: &Outcome, request_id: Arc<str>) -> Arc<Answer> {
        let mut kept = lock(&self.answer);
        kept.upgrade().unwrap_or_else(|| {
            let digest = *self.digest.get_or_init(|| digest(outcome));
            let made = Arc::new(Answer::new(outcome, request_id, digest));
            *kept = Arc::downgrade(&made);
            made
        })
    }

    /// Keeps the call whose answer it is, unless it is known already.
    pub(crate) fn read_by(&self, record: impl FnOnce() -> Option<CallRecord>) {
        self.reader.get_or_init(|| record().map(Writer::of));
    }

    /// The call whose answer it is; `None` where no function ran.
    pub(crate) fn reader(&self) -> Option<&Writer> {
        self.reader.get()?.as_ref()
    }

    /// The commit that ended it.
    pub(crate) fn why(&self) -> Option<&Invalidation> {
        self.why.get()
    }

    /// When a commit ended it.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        self.why().map(|why| why.at)
    }

    /// Tells a session when it ends, for as long as the watch lives.
    pub(crate) fn watch(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        query: QueryId,
        round: u64,
    ) -> Watch {
        let mut watchers = lock(&self.watchers);
        if watchers.delivered {
            mailbox.put(Mail::Ended(query, round, Arc::clone(self)));
        } else {
            watchers.by_place.insert((mailbox.number, query), (Arc::clone(mailbox), round));
        }
        Watch { live: Arc::clone(self), mailbox: mailbox.number, query, round }
    }
}

impl Watcher for Live {
    fn end(self: Arc<Self>, why: &Invalidation) {
        self.over(why);
        lock(&self.hub.ended).push_back(Arc::clone(&self));
    }

    fn durable(&self) {
        self.hub.signal.notify_one();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(Some(subscription)) = self.subscription.get() {
            self.hub.database.subscriptions().cancel(*subscription);
        }
        let place = Arc::as_ptr(&self.reads) as usize;
        let mut all = lock(&self.hub.live);
        // A newer one may have taken its place after the last strong reference was gone.
        if all.get(&place).is_some_and(|live| live.strong_count() == 0) {
            all.remove(&place);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = lock(&self.live.watchers);
        let place = (self.mailbox, self.query);
        // The next round's watch of the same result stands in the same place.
        if watchers.by_place.get(&place).is_some_and(|(_, round)| *round == self.round) {
            watchers.by_place.remove(&place);
        }
    }
}

impl Mailbox {
    /// Puts mail in and wakes the session.
    pub(crate) fn put(&self, mail: Mail) {
        lock(&self.mail).push(mail);
        self.notify.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *lock(&self.mail))
    }
}

/// What a client is told of an outcome.
pub(crate) fn answer(outcome: &Outcome, request_id: Arc<str>) -> Answer {
    Answer::new(outcome, request_id, digest(outcome))
}

/// Equal for equal results and log lines, or error texts.
fn digest(outcome: &Outcome) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut add = |kind: u8, text: &str| {
        hash.update([kind]);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    match &outcome.result {
        Ok(text) => add(0, text),
        Err(error) => {
            add(1, &error.message);
            error.data.iter().for_each(|data| add(2, data));
        }
    }
    outcome.log_lines.iter().for_each(|line| add(3, &line.client_text()));
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

impl Answer {
    fn new(outcome: &Outcome, request_id: Arc<str>, digest: [u8; 16]) -> Self {
        Self {
            result: outcome.result.clone(),
            log_lines: Arc::clone(&outcome.log_lines),
            journal: outcome.journal.clone(),
            request_id,
            digest,
            wire: OnceLock::new(),
        }
    }
}

/// No caller's code runs under these locks, so a poisoned state is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
