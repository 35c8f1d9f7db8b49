//! Blobs as files of a folder.
//!
//! In: bytes. Out: the same, read from disk.
//! Invariant: a draft has a name that no blob can have; it gets its own by a rename, after its
//! bytes are on the disk, so a crash leaves a whole blob or a draft that the next start removes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::blob::{Blob, BlobError, BlobId, BlobStore, Draft};

/// How the names of drafts begin.
const DRAFT: &str = "draft-";

/// Blobs in a folder that nobody else writes to.
pub struct FolderStore {
    folder: PathBuf,
    drafts: AtomicU64,
}

struct FileDraft {
    folder: PathBuf,
    path: PathBuf,
    /// Whether the draft's name is gone, so that nothing is left to remove.
    renamed: bool,
    file: File,
}

struct FileBlob {
    file: File,
    size: u64,
}

impl FolderStore {
    /// Opens a folder, made if need be, and removes what a crash left half written.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder: folder.to_owned(), drafts: AtomicU64::new(0) })
    }

    fn path(&self, id: BlobId) -> PathBuf {
        self.folder.join(id.to_string())
    }
}

/// Makes a change of names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl BlobStore for FolderStore {
    fn create(&self) -> Result<Box<dyn Draft>, BlobError> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{DRAFT}{number}"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Box::new(FileDraft { folder: self.folder.clone(), path, renamed: false, file }))
    }

    fn open(&self, id: BlobId) -> Result<Option<Box<dyn Blob>>, BlobError> {
        let file = match File::open(self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let size = file.metadata()?.len();
        Ok(Some(Box::new(FileBlob { file, size })))
    }

    fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            all.extend(entry?.file_name().to_string_lossy().parse::<BlobId>());
        }
        all.sort_unstable();
        Ok(all)
    }
}

impl Draft for FileDraft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        Ok(self.file.write_all(bytes)?)
    }

    fn keep(mut self: Box<Self>, id: BlobId) -> Result<(), BlobError> {
        self.file.sync_all()?;
        fs::rename(&self.path, self.folder.join(id.to_string()))?;
        self.renamed = true;
        Ok(sync(&self.folder)?)
    }
}

impl Drop for FileDraft {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is removed at the next start; it was never visible.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Blob for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, at: u64, most: usize) -> Result<Bytes, BlobError> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::tests::{behaves, get, id, put};

    #[test]
    fn keeps_blobs_whole_across_starts() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(&folder.path().join("files")).unwrap();
        behaves(&store);
        put(&store, id(7), &[b"stays"]);
        let mut half = store.create().unwrap();
        half.write(b"half").unwrap();
        // A crash drops nothing.
        std::mem::forget(half);
        let again = FolderStore::open(&folder.path().join("files")).unwrap();
        assert_eq!(again.list().unwrap(), [id(2), id(7)]);
        assert_eq!(get(&*again.open(id(7)).unwrap().unwrap(), 1, 2), b"tays");
        let left = fs::read_dir(folder.path().join("files")).unwrap().count();
        assert_eq!(left, 2, "drafts are removed");
    }
}
