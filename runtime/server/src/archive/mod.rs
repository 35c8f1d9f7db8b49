//! Backups as files, in Convex's snapshot format (`convex-compat.md` sections 6.12 and 6.13), and
//! files of rows: JSON lines, one JSON array, CSV.
//!
//! ```text
//!   Snapshot ─▶ write.rs ─▶ zip          parts.rs: uploaded parts as one file
//!   zip ─▶ read.rs ─▶ Import             rows.rs: the other formats, and the lines of a zip
//!                                        quotes.rs: those of a CSV file
//!                                        directory.rs: whether a zip's entries are plain
//!                                        budget.rs: how much may come
//! ```
//! In: a snapshot and blobs, or bytes from anywhere. Out: the other. Invariant: what was written
//! reads back as the same documents with the same ids, bit for bit; what cannot be read says which
//! file and line, and nothing of it is used.

mod budget;
mod directory;
mod parts;
mod quotes;
mod read;
mod rows;
mod write;

use std::io;

use database::error::UserError;
use storage::BlobError;
use thiserror::Error;

pub(crate) use budget::{Budget, Needs, Room};
pub(crate) use parts::Parts;
pub(crate) use read::{Entry, Zip, Zipped};
pub(crate) use rows::{Rows, rows};
pub(crate) use write::{Exported, write};

/// The folder of a component's children.
const COMPONENTS: &str = "_components/";
/// The table of tables' numbers.
const TABLES: &str = "_tables";
/// The name of a table's documents.
const DOCUMENTS: &str = "documents.jsonl";
/// The name of what says how documents are written.
const SCHEMA: &str = "generated_schema.jsonl";
/// What it says.
const UNIFORM: &str = "\"uniform\"";

/// Why a file was not written or read.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// It is not what it should be.
    #[error("{0}")]
    Wrong(#[from] UserError),
    /// File storage failed.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    fn wrong(code: &'static str, text: impl Into<String>) -> Self {
        Self::Wrong(UserError::new(code, text))
    }
}
