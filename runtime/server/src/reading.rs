//! Bytes of a stored file on their way out.
//!
//! In: a file and its blob, or a part of it. Out: the bytes, step by step. Invariant: the last step
//! of a whole file is given only if all of it is what was stored: a disk that has changed it makes
//! an error, and never a whole file that is another.

use std::sync::Arc;

use bytes::Bytes;
use database::files::StoredFile;
use sha2::{Digest as _, Sha256};
use storage::{Blob, BlobError};

use crate::files::{FileError, STEP, blocking};

/// A file that is being read.
pub(crate) struct Reading {
    blob: Arc<dyn Blob>,
    at: u64,
    end: u64,
    /// What the whole file must come to; `None`: a part is read, which nobody has a hash of.
    whole: Option<(Sha256, StoredFile)>,
}

impl Reading {
    /// Of the bytes from `start` to before `end`.
    pub(crate) fn new(file: &StoredFile, blob: Arc<dyn Blob>, (start, end): (u64, u64)) -> Self {
        let is_whole = (start, end) == (0, file.size);
        let whole = is_whole.then(|| (Sha256::new(), file.clone()));
        Self { blob, at: start, end, whole }
    }

    /// The next bytes; `None`: there are no more. An error is the last thing it gives.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FileError>> {
        if self.at >= self.end {
            return None;
        }
        let step = self.step().await;
        if step.is_err() {
            self.at = self.end;
        }
        Some(step)
    }

    async fn step(&mut self) -> Result<Bytes, FileError> {
        let most = usize::try_from(self.end - self.at).unwrap_or(STEP).min(STEP);
        let (blob, at) = (Arc::clone(&self.blob), self.at);
        let bytes = blocking(move || blob.read(at, most)).await?;
        if bytes.is_empty() {
            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(BlobError::Io(short).into());
        }
        self.at += bytes.len() as u64;
        if let Some((hash, _)) = &mut self.whole {
            hash.update(&bytes);
        }
        if let Some((hash, file)) = self.whole.take_if(|_| self.at >= self.end)
            && *hash.finalize() != file.sha256
        {
            return Err(FileError::Damaged(file.id.encode()));
        }
        Ok(bytes)
    }
}
