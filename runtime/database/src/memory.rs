//! Memory: what the database holds, and what it gives up when there is too little.
//!
//! ```text
//!   the process is measured ─▶ press(Calm | Tight | Full | Over) ─▶ cache and history take their
//!                                │    │                            share
//!                                │    └──▶ Over: that, and whatever makes the data larger
//!                                └──▶ Full: new work is sent away
//! ```
//! In: how pressed the process is, as somebody measured who can. Out: smaller caches, a shorter
//! history, the reason why new work is refused. Invariant: nothing that a client was told is given
//! up; what goes can be computed again, or is the past.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::commit::{Database, Options};
use crate::error::Refusal;
use crate::limits;
use crate::log::{MAP_NODE_BYTES, MAP_NODE_ENTRIES, growth};
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

/// The code of the refusal of new work while memory is short.
pub const OUT_OF_MEMORY: &str = "OutOfMemory";

/// A key of an index: its header, and the 40 bytes that most take.
const KEY_BYTES: usize = 56;

/// How pressed for memory the process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// Everything has its share.
    #[default]
    Calm,
    /// What can be computed again is dropped.
    Tight,
    /// New work is refused, for this reason.
    Full(String),
    /// That, and whatever makes the data larger, whoever asks for it.
    Over(String),
}

/// What the database holds, in estimated bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Documents of the newest snapshot.
    pub documents: u64,
    /// Their places in all indexes.
    pub indexes: u64,
    /// Cached results of queries.
    pub cache: u64,
    /// What only the history keeps alive.
    pub history: u64,
    /// Answers of mutations that may be delivered again.
    pub answers: u64,
}

/// The shares, and the pressure.
pub(crate) struct Pressed {
    pressure: ArcSwap<Pressure>,
    /// Counts how often somebody was asked to give up what they can.
    squeezes: AtomicU64,
    cache_bytes: u64,
    history_bytes: usize,
    /// Bytes of the documents in the beginning: found out when somebody asks, so that a fork costs
    /// nothing.
    documents: OnceLock<i64>,
}

impl Pressed {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            pressure: ArcSwap::default(),
            squeezes: AtomicU64::new(0),
            cache_bytes: options.cache_bytes as u64,
            history_bytes: options.history_bytes,
            documents: OnceLock::new(),
        }
    }
}

impl Database {
    /// Takes note of how pressed the process is, and gives up accordingly. To be said again as long
    /// as the pressure lasts.
    pub fn press(&self, pressure: Pressure) {
        let pressed = &self.pressed;
        let (cache, history) = match pressure {
            Pressure::Calm => (pressed.cache_bytes, pressed.history_bytes),
            Pressure::Tight => (pressed.cache_bytes / 4, pressed.history_bytes / 4),
            Pressure::Full(_) | Pressure::Over(_) => (0, pressed.history_bytes / 16),
        };
        if pressure != Pressure::Calm {
            pressed.squeezes.fetch_add(1, Ordering::AcqRel);
        }
        pressed.pressure.store(pressure.into());
        self.cache().resize(cache);
        let forgotten = self.log().resize(history, self.snapshot().ts);
        self.bury(&forgotten);
    }

    /// Changes whenever whoever holds what can be made again should give it up.
    pub fn squeezes(&self) -> u64 {
        self.pressed.squeezes.load(Ordering::Acquire)
    }

    /// How pressed the process is.
    pub fn pressure(&self) -> Pressure {
        Pressure::clone(&self.pressed.pressure.load())
    }

    /// Why new work is to be refused, if it is.
    pub fn out_of_memory(&self) -> Option<Refusal> {
        match &**self.pressed.pressure.load() {
            Pressure::Calm | Pressure::Tight => None,
            Pressure::Full(why) | Pressure::Over(why) => {
                Some(Refusal::Overloaded { code: OUT_OF_MEMORY, message: why.clone() })
            }
        }
    }

    /// Why a transaction is to be refused because it makes the data larger, if it is: so much is
    /// taken that not even the operator may add to it.
    pub fn no_room_for(&self, transaction: &Transaction) -> Option<Refusal> {
        let pressure = self.pressed.pressure.load();
        let Pressure::Over(why) = &**pressure else { return None };
        let grows = growth(transaction.state.writes.values()) > 0;
        grows.then(|| {
            let above = limits::MEMORY_OPERATOR_PERCENT;
            let message = format!(
                "{why} Above {above} % of it the operator's calls are refused too where they make \
                 the data larger: delete some first."
            );
            Refusal::Overloaded { code: OUT_OF_MEMORY, message }
        })
    }

    /// What it holds.
    pub fn memory(&self) -> Memory {
        let snapshot = self.newest();
        let begun = *self.pressed.documents.get_or_init(|| {
            let (snapshot, growth) = {
                let log = self.log();
                (log.newest_snapshot(), log.growth())
            };
            document_bytes(&snapshot).cast_signed() - growth
        });
        let (growth, history) = {
            let log = self.log();
            (log.growth(), log.bytes() as u64)
        };
        Memory {
            documents: begun.saturating_add(growth).max(0).cast_unsigned(),
            indexes: index_bytes(snapshot.maps.all_entries()),
            cache: self.cache().bytes(),
            history,
            answers: snapshot.requests.bytes(),
        }
    }
}

/// Bytes of the documents of a snapshot.
pub(crate) fn document_bytes(snapshot: &Snapshot) -> u64 {
    let tables = snapshot.catalog.all_tables();
    let documents = tables.filter_map(|table| snapshot.maps.documents(table));
    documents.flat_map(|map| map.values()).map(|document| document.bytes() as u64).sum()
}

/// Bytes of so many entries of indexes.
pub(crate) fn index_bytes(entries: usize) -> u64 {
    (entries * (MAP_NODE_BYTES / MAP_NODE_ENTRIES + KEY_BYTES)) as u64
}
