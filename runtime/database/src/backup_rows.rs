//! Rows about exports and imports: what the operator asked for, and what came of it.
//!
//! In: fields that the server made. Out: rows of two hidden tables, newest last.
//! Invariant: a table holds the newest few only, so that no history of backups grows forever.

use std::sync::Arc;

use crate::catalog::{EXPORTS, IMPORTS};
use crate::document::Document;
use crate::id::DocumentId;
use crate::key::Interval;
use crate::limits;
use crate::read_set::ReadSet;
use crate::snapshot::Snapshot;
use crate::system_rows::{Fields, row};
use crate::transaction::Transaction;
use crate::value::Value;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backups {
    /// Exports.
    Exports,
    /// Imports.
    Imports,
}

impl Backups {
    fn table(self) -> &'static str {
        match self {
            Self::Exports => EXPORTS,
            Self::Imports => IMPORTS,
        }
    }
}

impl Transaction {
    /// Adds a row; the oldest goes when there are too many.
    pub fn add_backup(&mut self, of: Backups, fields: Fields) -> DocumentId {
        let table = self.system_table(of.table());
        let snapshot = Arc::clone(&self.snapshot);
        let rows = snapshot.range(table.by_creation_time.id, &Interval::all());
        let most = usize::try_from(limits::BACKUP_ROWS).expect("it is small");
        let old: Vec<_> = rows.rev().skip(most - 1).map(|(_, document)| row(document)).collect();
        self.reads.insert(table.by_id.id, Interval::all());
        old.iter().for_each(|old| self.remove_row(&table, old));
        self.insert_row(&table, fields)
    }

    /// Changes one field of a row. Says whether the row is there.
    pub fn set_backup(&mut self, of: Backups, id: DocumentId, field: &str, value: Value) -> bool {
        let table = self.system_table(of.table());
        let Some(row) = self.row(&table, id) else { return false };
        let mut fields = row.fields.clone();
        fields.insert(field.to_owned(), value);
        self.replace_row(&table, &row, fields);
        true
    }
}

impl Snapshot {
    /// The rows, oldest first.
    pub fn backups(&self, of: Backups) -> impl DoubleEndedIterator<Item = &Arc<Document>> {
        let table = self.table("", of.table());
        let index = table.expect("every catalog begins with it").by_creation_time.id;
        self.range(index, &Interval::all()).map(|(_, document)| document)
    }

    /// What looking at the rows reads.
    pub fn backup_reads(&self, of: Backups) -> ReadSet {
        let mut reads = ReadSet::default();
        if let Some(table) = self.table("", of.table()) {
            reads.insert(table.by_id.id, Interval::all());
        }
        reads
    }
}
