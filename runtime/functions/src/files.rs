//! Bytes of files that a mutation stores: held back until it commits.
//!
//! In: bytes. Out: blobs, right before the commit that makes them files.
//! Invariant: a mutation that fails, conflicts, or is only run again leaves no blob; bytes whose
//! row was rolled back are never stored.

use database::error::UserError;
use database::files::StoredFile;
use database::transaction::Transaction;
use sha2::{Digest as _, Sha256};
use storage::{BlobError, BlobId, Storage};

/// The files of one call.
pub(crate) struct Files {
    storage: Storage,
    stored: Vec<(BlobId, Vec<u8>)>,
}

/// Blobs that were kept for a commit.
#[must_use]
pub(crate) struct Kept {
    storage: Storage,
    blobs: Vec<BlobId>,
}

impl Files {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, stored: Vec::new() }
    }

    /// Who may upload.
    pub(crate) fn tokens(&self) -> &storage::UploadTokens {
        &self.storage.tokens
    }

    /// Holds bytes for the commit.
    pub(crate) fn store(&mut self, blob: BlobId, bytes: Vec<u8>) {
        self.stored.push((blob, bytes));
    }

    /// The bytes of a file, this call's own ones included; `None`: they are gone.
    ///
    /// # Errors
    /// The store cannot be read; what it gives is not what was stored.
    pub(crate) fn read(&self, file: &StoredFile) -> Result<Option<Vec<u8>>, UserError> {
        let Ok(id) = file.blob.parse::<BlobId>() else { return Ok(None) };
        if let Some((_, bytes)) = self.stored.iter().find(|(stored, _)| *stored == id) {
            return Ok(Some(bytes.clone()));
        }
        let Some(blob) = self.storage.blobs.open(id).map_err(broken)? else { return Ok(None) };
        let size = usize::try_from(blob.size()).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let more = blob.read(bytes.len() as u64, size - bytes.len()).map_err(broken)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        if *Sha256::digest(&bytes) != file.sha256 {
            let text = format!(
                "The stored file {} is damaged: its bytes are not those that were stored. Restore \
                 a backup.",
                file.id.encode()
            );
            return Err(UserError::new("FileStorageFailed", text));
        }
        Ok(Some(bytes))
    }

    /// Keeps the blobs that the transaction's files need.
    ///
    /// # Errors
    /// The store is full, or cannot be reached; nothing is kept then.
    pub(crate) fn keep(self, transaction: &Transaction) -> Result<Kept, UserError> {
        let Self { storage, stored } = self;
        let mut kept = Kept { storage, blobs: Vec::new() };
        if stored.is_empty() {
            return Ok(kept);
        }
        let needed = transaction.new_blobs();
        for (id, bytes) in stored.iter().filter(|(id, _)| needed.contains(&id.to_string())) {
            let mut result = keep(&kept.storage, *id, bytes);
            if matches!(result, Err(BlobError::Full { .. })) {
                // The past goes first, as far as nobody reads it.
                kept.storage.room.make();
                result = keep(&kept.storage, *id, bytes);
            }
            if let Err(error) = result {
                kept.discard();
                return Err(broken(error));
            }
            kept.blobs.push(*id);
        }
        Ok(kept)
    }
}

impl Kept {
    /// Deletes them: there was no commit.
    pub(crate) fn discard(self) {
        // What cannot be deleted stays as an orphan; nothing shows it.
        self.blobs.into_iter().for_each(|id| drop(self.storage.blobs.delete(id)));
    }

    /// Leaves them: they are files now.
    pub(crate) fn committed(self) {}
}

fn keep(storage: &Storage, id: BlobId, bytes: &[u8]) -> Result<(), BlobError> {
    let mut draft = storage.blobs.create()?;
    draft.write(bytes)?;
    draft.keep(id)
}

fn broken(error: BlobError) -> UserError {
    let code = match error {
        BlobError::Full { .. } => "FileStorageFull",
        BlobError::Io(_) => "FileStorageFailed",
    };
    UserError::new(code, format!("{error}. Nothing of this mutation was stored."))
}
