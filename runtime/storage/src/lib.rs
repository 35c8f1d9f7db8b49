//! Where bytes are kept: files of the application, and commits, each behind one trait.
//!
//! In: bytes and their names. Out: the same bytes.
//! Invariant: a blob is visible whole or not at all; a commit that was kept stays.
//!
//! ```text
//! blob.rs    the trait, names and errors
//! memory.rs  blobs in this process, within a budget
//! folder.rs  blobs as files of a folder
//! overlay.rs blobs of a fork, over those of its original
//! room.rs    who makes room when the budget is used up
//! token.rs   who may upload: signed, and only for a while
//!
//! log.rs         the trait of logs of commits
//! memory_log.rs  commits in this process
//! sqlite_log.rs  commits in a folder
//! folder_lock.rs that folder: its version, and one host at a time
//! copy.rs        a whole deployment as a stream, and a folder made of it
//! whole.rs       a small file that is there whole or not at all
//! ```
#![forbid(unsafe_code)]

mod blob;
mod copy;
mod folder;
mod folder_lock;
mod log;
mod memory;
mod memory_log;
mod overlay;
mod room;
mod sqlite_log;
mod token;
mod whole;

use std::sync::Arc;

pub use blob::{Blob, BlobError, BlobId, BlobStore, Draft};
pub use copy::{CopyError, CopyFolder, CopyWriter, Frame};
pub use folder::FolderStore;
pub use folder_lock::{DataFolder, FolderError, make_private};
pub use log::{Changes, LogStore, Record, StoreError, Take};
pub use memory::MemoryStore;
pub use memory_log::MemoryLog;
pub use overlay::Overlay;
pub use room::Room;
pub use sqlite_log::SqliteLog;
pub use token::{TokenError, UploadGrant, UploadTokens};
pub use whole::write_whole;

/// What functions and the server share of file storage.
#[derive(Clone)]
pub struct Storage {
    /// The bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// Who may upload.
    pub tokens: Arc<UploadTokens>,
    /// Who makes room when the bytes are too many.
    pub room: Arc<Room>,
    /// How many bytes of deleted files stay for the past that shows them; `None`: all that fit.
    pub past: Option<u64>,
}
