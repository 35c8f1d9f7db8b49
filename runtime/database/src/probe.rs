//! Where in the source a read or a write happened: what is asked, and what the answer looks like.
//!
//! In: the place where a reader and a writer met, from a conflict or an invalidation. Out: a
//! question about one execution, which a transaction can answer after every syscall.
//! Invariant: nothing of this exists while calls run; a call is executed again to be asked
//! (design, section 1: "record what went in; derive everything else on demand").

use crate::id::DocumentId;
use crate::key::Key;
use crate::snapshot::{CATALOG, IndexId};
use crate::transaction::Transaction;

/// A key of an index: where a reader and a writer met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index.
    pub index: IndexId,
    /// The key in it that was written.
    pub key: Key,
    /// The document behind the key; `None` for catalog keys.
    pub document: Option<DocumentId>,
}

/// A question about one execution: at which syscall does it first hold?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Has it read a range that holds the place?
    Read(Place),
    /// Do its writes, net, touch the place?
    Write(Place),
}

/// A position in the author's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// `convex/shop.ts`, from the project's folder.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The JavaScript function around it; `None` for an anonymous one.
    pub function: Option<String>,
    /// Whether the read or the write itself stands here. If not, a package did it behind the
    /// author's back, and this is where their function begins.
    pub exact: bool,
}

impl Probe {
    /// The place it is about.
    pub fn place(&self) -> &Place {
        match self {
            Self::Read(place) | Self::Write(place) => place,
        }
    }

    /// Whether it holds for what a transaction has done so far.
    pub fn holds(&self, transaction: &Transaction) -> bool {
        match self {
            Self::Read(Place { index, key, .. }) => transaction.reads().find(*index, key).is_some(),
            Self::Write(place) => writes(transaction, place),
        }
    }
}

fn writes(transaction: &Transaction, place: &Place) -> bool {
    let state = &transaction.state;
    if place.index == CATALOG {
        return state.created.contains(&place.key);
    }
    let Some(index) = state.catalog.index(place.index) else { return false };
    let Some(document) = place.document else { return false };
    // Tables of different components can share name and number; a document's id is in one of them.
    state.catalog.tables_named(&index.table).any(|table| {
        state.writes.get(&(table.by_id.id, document.internal)).is_some_and(|write| {
            let mut changes = write.keys.iter().filter(|change| change.index == place.index);
            // A document that waits for the commit's timestamp has other keys until then.
            let waits = state.placeholders && write.after.is_some();
            waits || changes.any(|change| change.keys().any(|key| *key == place.key))
        })
    })
}
