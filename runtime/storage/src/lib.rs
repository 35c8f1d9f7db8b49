//! Where bytes are kept: files of the application, behind one trait.
//!
//! In: bytes and their names. Out: the same bytes.
//! Invariant: a blob is visible whole or not at all.
//!
//! ```text
//! blob.rs    the trait, names and errors
//! memory.rs  blobs in this process, within a budget
//! folder.rs  blobs as files of a folder
//! token.rs   who may upload: signed, and only for a while
//! ```
#![forbid(unsafe_code)]

mod blob;
mod folder;
mod memory;
mod token;

use std::sync::Arc;

pub use blob::{Blob, BlobError, BlobId, BlobStore, Draft};
pub use folder::FolderStore;
pub use memory::MemoryStore;
pub use token::{TokenError, UploadGrant, UploadTokens};

/// What functions and the server share of file storage.
#[derive(Clone)]
pub struct Storage {
    /// The bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// Who may upload.
    pub tokens: Arc<UploadTokens>,
}
