//! Answers of mutations that a client may deliver again: exactly once, whatever the network does.
//!
//! In: the answer of each committed request, as part of its commit. Out: that answer, for a repeat.
//! Invariant: a request is here if and only if its commit is in the same snapshot (or in an older
//! one, and memory or age have not pushed it out): the record and the writes cannot part.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::record::{LogLine, RequestKey, Timestamp};

/// What a record weighs beside its texts: two map entries and their nodes, bytes.
const FIXED_BYTES: usize = 256;

/// What the client of a mutation is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestAnswer {
    /// Encoded JSON text of the result.
    pub result: Arc<str>,
    /// Console lines, in order.
    pub log_lines: Arc<[LogLine]>,
}

/// The answer of a request that committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What the client was told.
    pub answer: RequestAnswer,
    /// When it committed.
    pub ts: Timestamp,
}

/// A request on its way to its commit.
pub(crate) struct Once {
    pub(crate) key: RequestKey,
    pub(crate) answer: RequestAnswer,
}

/// Every answer kept; a copy is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    answers: OrdMap<RequestKey, Arc<Recorded>>,
    by_age: OrdMap<Timestamp, RequestKey>,
    bytes: usize,
}

impl Requests {
    /// The answer to a repeat.
    pub(crate) fn find(&self, key: RequestKey) -> Option<&Arc<Recorded>> {
        self.answers.get(&key)
    }

    /// The request whose commit is at `ts`, and its answer.
    pub(crate) fn at(&self, ts: Timestamp) -> Option<(RequestKey, &RequestAnswer)> {
        let key = self.by_age.get(&ts)?;
        Some((*key, &self.answers.get(key)?.answer))
    }

    /// Every request kept, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Timestamp, RequestKey, &RequestAnswer)> {
        self.by_age.iter().filter_map(|(ts, key)| Some((*ts, *key, &self.answers.get(key)?.answer)))
    }

    /// With one more, committed at `ts`; without what is too old or does not fit any more.
    pub(crate) fn with(&self, key: RequestKey, answer: RequestAnswer, ts: Timestamp) -> Self {
        let mut next = self.clone();
        let recorded = Recorded { answer, ts };
        next.bytes += recorded.bytes();
        let replaced = next.answers.insert(key, Arc::new(recorded));
        assert!(replaced.is_none(), "a request that committed conflicts with its repeat");
        next.by_age.insert(ts, key);
        next.forget(ts);
        next
    }

    /// What all records weigh, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// What the record of the commit at `ts` weighs, bytes.
    pub(crate) fn bytes_at(&self, ts: Timestamp) -> usize {
        let key = self.by_age.get(&ts);
        key.and_then(|key| self.answers.get(key)).map_or(0, |recorded| recorded.bytes())
    }

    /// Drops the oldest; the newest always stays.
    fn forget(&mut self, now: Timestamp) {
        let budget = usize::try_from(limits::REQUESTS_BYTES).expect("budgets fit into memory");
        let young = now.0.saturating_sub(limits::REQUESTS_AGE_MS * 1_000_000);
        while let Some((ts, key)) = self.by_age.get_min().cloned()
            && ts != now
            && (self.bytes > budget || ts.0 < young)
        {
            self.by_age.remove(&ts);
            let gone = self.answers.remove(&key).expect("both maps hold the same requests");
            self.bytes -= gone.bytes();
        }
    }
}

impl Recorded {
    fn bytes(&self) -> usize {
        let lines = self.answer.log_lines.iter().flat_map(|line| &line.messages);
        let lines: usize = lines.map(|message| message.len() + 32).sum();
        FIXED_BYTES + self.answer.result.len() + lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(request: u32) -> RequestKey {
        RequestKey { session: [1; 16], request }
    }

    fn answer(bytes: usize) -> RequestAnswer {
        RequestAnswer { result: "x".repeat(bytes).into(), log_lines: [].into() }
    }

    #[test]
    fn the_oldest_go_when_memory_is_full() {
        let quarter = limits::REQUESTS_BYTES as usize / 4;
        let mut requests = Requests::default();
        for request in 1..=10 {
            requests = requests.with(key(request), answer(quarter), Timestamp(request.into()));
            assert!(requests.bytes <= limits::REQUESTS_BYTES as usize);
            assert!(requests.bytes_at(Timestamp(request.into())) > quarter);
        }
        let kept: Vec<_> = (1..=10).filter(|r| requests.find(key(*r)).is_some()).collect();
        assert_eq!(kept, [8, 9, 10]);
        assert_eq!(requests.by_age.len(), 3);
        let huge = requests.with(key(11), answer(5 * quarter), Timestamp(11));
        assert!(huge.find(key(11)).is_some(), "the newest stays, whatever it weighs");
        assert_eq!(huge.answers.len(), 1);
    }

    #[test]
    fn what_is_too_old_goes() {
        let age = limits::REQUESTS_AGE_MS * 1_000_000;
        let requests = Requests::default().with(key(1), answer(1), Timestamp(10));
        let requests = requests.with(key(2), answer(1), Timestamp(10 + age));
        assert!(requests.find(key(1)).is_some());
        let requests = requests.with(key(3), answer(1), Timestamp(11 + age));
        assert!(requests.find(key(1)).is_none() && requests.find(key(2)).is_some());
    }
}
