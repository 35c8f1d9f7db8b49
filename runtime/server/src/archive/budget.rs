//! How much an import may bring: bytes of text, and memory where the host's is bounded.
//!
//! ```text
//!   each row ─▶ its text ─▶ within the limit? ─▶ what it takes at the import's height ─▶ room?
//! ```
//! In: rows as they are read; what the host takes. Out: an error with the figures, in time.
//! Invariant: no row is kept for which there is no room.

use std::sync::Arc;

use database::error::UserError;
use database::import::ImportRow;
use database::limits;
use database::memory::OUT_OF_MEMORY;
use database::snapshot::Snapshot;

use super::ArchiveError;

/// How much an import may still bring.
pub(crate) struct Budget {
    /// Bytes of text.
    text: u64,
    /// Memory, where it is bounded.
    memory: Option<Memory>,
}

/// Room in the host's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes that the host takes, without what it would give up.
    pub(crate) used: u64,
    /// Bytes that it may take.
    pub(crate) budget: u64,
    /// Whether commits are kept on disk, which they pass through memory on their way to.
    pub(crate) is_kept: bool,
}

/// The room, and what was put into it.
struct Memory {
    room: Room,
    /// Has the indexes that documents get.
    snapshot: Arc<Snapshot>,
    /// How many those of the table have that is being read.
    indexes: usize,
    rows: u64,
    needs: Needs,
}

/// Memory for the rows of an import.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Bytes that are taken when they are read.
    read: u64,
    /// Bytes that come at its height.
    more: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { text: limits::IMPORT_BYTES, memory: None }
    }
}

impl Budget {
    /// For an import into a host with so much room.
    pub(crate) fn within(room: Option<Room>, snapshot: &Arc<Snapshot>) -> Self {
        let memory = room.map(|room| Memory {
            room,
            snapshot: Arc::clone(snapshot),
            indexes: 0,
            rows: 0,
            needs: Needs::default(),
        });
        Self { memory, ..Self::default() }
    }

    /// The rows of a table come next.
    pub(crate) fn begin(&mut self, component: &str, table: &str) {
        if let Some(memory) = &mut self.memory {
            let table = memory.snapshot.table(component, table);
            // A table that is made by its first document has the two that every table has.
            memory.indexes = table.map_or(2, |table| table.all_indexes().count());
        }
    }

    /// Takes in bytes of text.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.text = self.text.checked_sub(bytes as u64).ok_or_else(|| {
            let text = format!(
                "The import is too large: its documents may have at most {} bytes together. Import \
                 the tables one by one, or a table in parts with `append`.",
                limits::IMPORT_BYTES
            );
            ArchiveError::wrong("ImportTooLarge", text)
        })?;
        Ok(())
    }

    /// Takes in a row.
    pub(super) fn hold(&mut self, row: &ImportRow) -> Result<(), ArchiveError> {
        let Some(Memory { room, indexes, rows, needs, .. }) = &mut self.memory else {
            return Ok(());
        };
        let (read, more) = row.needs(*indexes, room.is_kept);
        needs.read += read;
        needs.more += more;
        *rows += 1;
        let rows = *rows;
        room.check(needs.read + needs.more, || match rows {
            1 => "its first document".to_owned(),
            rows => format!("its first {rows} documents"),
        })
    }

    /// What was taken in.
    pub(crate) fn needs(&self) -> Needs {
        self.memory.as_ref().map(|memory| memory.needs).unwrap_or_default()
    }
}

impl Needs {
    /// Whether there is room for rows that were read.
    ///
    /// # Errors
    /// There is none, with the figures.
    pub(crate) fn check(self, room: Option<Room>) -> Result<(), ArchiveError> {
        room.map_or(Ok(()), |room| room.check(self.more, || "its documents".to_owned()))
    }
}

impl Room {
    fn check(self, needed: u64, what: impl FnOnce() -> String) -> Result<(), ArchiveError> {
        let Self { used, budget, .. } = self;
        if used.saturating_add(needed) <= budget {
            return Ok(());
        }
        // Rounded so that the figures do not seem to fit.
        let (needed, used, budget) = (needed.div_ceil(1 << 20), used >> 20, budget >> 20);
        let text = format!(
            "The import does not fit into the host's memory: {what} would take about {needed} MiB \
             while they are imported, and the host uses {used} MiB of {budget} MiB without its \
             caches. Import it in parts with `append`, delete data, or start the host with a \
             larger --memory.",
            what = what()
        );
        Err(ArchiveError::Wrong(UserError::new(OUT_OF_MEMORY, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::commit::{Database, Options};

    fn room(used: u64, budget: u64) -> Room {
        Room { used: used << 20, budget: budget << 20, is_kept: false }
    }

    #[test]
    fn rows_are_counted_as_the_documents_that_they_become() {
        let snapshot = Database::new(Options::at(1)).snapshot();
        let mut budget = Budget::within(Some(room(299, 300)), &snapshot);
        budget.begin("", "small");
        let row = ImportRow::new(1, [].into());
        let held = (0..).find_map(|count| budget.hold(&row).err().map(|why| (count, why)));
        let (count, why) = held.unwrap();
        assert!((500..5_000).contains(&count), "{count} documents of no bytes have one MiB");
        let why = why.to_string();
        let begins = format!(
            "The import does not fit into the host's memory: its first {} documents would take \
             about 2 MiB while they are imported, and the host uses 299 MiB of 300 MiB",
            count + 1
        );
        assert!(why.starts_with(&begins), "{why}");
    }

    #[test]
    fn what_was_read_is_asked_for_again_when_it_is_imported() {
        let snapshot = Database::new(Options::at(1)).snapshot();
        let mut budget = Budget::within(Some(room(0, 300)), &snapshot);
        budget.begin("", "small");
        (0..1_000).for_each(|_| budget.hold(&ImportRow::new(1, [].into())).unwrap());
        let needs = budget.needs();
        assert!(needs.check(None).is_ok() && needs.check(Some(room(200, 300))).is_ok());
        let why = needs.check(Some(room(300, 300))).unwrap_err().to_string();
        assert!(why.contains(": its documents would take about 1 MiB"), "{why}");
        assert!(Budget::within(None, &snapshot).hold(&ImportRow::new(1, [].into())).is_ok());
    }
}
