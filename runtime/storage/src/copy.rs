//! A whole deployment as a stream: the pairs of its snapshot, then its files.
//!
//! ```text
//!   Begin(ts) ─▶ Pair × n ─▶ (Blob(name) ─▶ Bytes × m) × k ─▶ End(SHA-256 of everything before)
//! ```
//! In: frames, in that order. Out: bytes; from bytes, frames; from frames, a data folder.
//! Invariant: a stream without its end, or with another hash, is an error, and no folder appears.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;

use crate::blob::{BlobError, BlobId, BlobStore as _, Draft};
use crate::folder::FolderStore;
use crate::folder_lock::{DataFolder, FolderError};
use crate::log::{Changes, LogStore as _, StoreError};
use crate::sqlite_log::SqliteLog;

/// Bytes of pairs that are written to the folder at once.
const STEP: usize = 8 << 20;
/// Bytes before a frame's own: its kind, and two lengths.
const HEAD: usize = 9;

/// What says that a folder is data, and its name until it is: nobody serves a part of a copy.
const FORMAT: &str = "FORMAT";
const FORMAT_OF_PART: &str = "FORMAT-draft";

const BEGIN: u8 = 1;
const PAIR: u8 = 2;
const BLOB: u8 = 3;
const BYTES: u8 = 4;
const END: u8 = 5;
const UNREADABLE: u8 = 6;

/// A piece of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The timestamp that everything is as of.
    Begin(u64),
    /// A pair of the snapshot.
    Pair(&'a [u8], &'a [u8]),
    /// The next bytes are this blob's.
    Blob(BlobId),
    /// Bytes of a blob.
    Bytes(&'a [u8]),
    /// The blob of this name is not in the copy, although it may have begun: why.
    Unreadable(&'a str, &'a str),
}

/// Why a copy failed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The stream is not one.
    #[error("what the host sent is no whole copy: {0}")]
    Broken(&'static str),
    /// A stored file is not in it.
    #[error("{0}")]
    Unreadable(String),
    /// The folder is there.
    #[error("{} is there already, and is not empty", .0.display())]
    Exists(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its databases cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its files cannot be written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The system's words.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Writes frames as bytes.
pub struct CopyWriter<W> {
    to: W,
    hash: Context,
}

impl<W: Write> CopyWriter<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self { to, hash: Context::new(&SHA256) }
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// Those of what is written to.
    pub fn write(&mut self, frame: Frame<'_>) -> io::Result<()> {
        match frame {
            Frame::Begin(ts) => self.frame(BEGIN, &ts.to_le_bytes(), &[]),
            Frame::Pair(key, value) => self.frame(PAIR, key, value),
            Frame::Blob(id) => self.frame(BLOB, id.to_string().as_bytes(), &[]),
            Frame::Bytes(bytes) => self.frame(BYTES, bytes, &[]),
            Frame::Unreadable(name, why) => self.frame(UNREADABLE, why.as_bytes(), name.as_bytes()),
        }
    }

    /// Writes the end, without which nothing counts.
    ///
    /// # Errors
    /// Those of what is written to.
    pub fn finish(mut self) -> io::Result<()> {
        let hash = self.hash.clone().finish();
        self.frame(END, hash.as_ref(), &[])?;
        self.to.flush()
    }

    fn frame(&mut self, kind: u8, first: &[u8], second: &[u8]) -> io::Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let mut head = [kind, 0, 0, 0, 0, 0, 0, 0, 0];
        head[1..5].copy_from_slice(&length(first)?.to_le_bytes());
        head[5..].copy_from_slice(&length(second)?.to_le_bytes());
        for bytes in [&head, first, second] {
            self.hash.update(bytes);
            self.to.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Makes a data folder of a stream that comes in pieces.
pub struct CopyFolder {
    path: PathBuf,
    gathered: Vec<u8>,
    hash: Context,
    folder: DataFolder,
    store: SqliteLog,
    files: FolderStore,
    changes: Changes,
    /// Bytes of `changes`.
    size: usize,
    /// Steps made; they have timestamps of their own until the last one.
    steps: u64,
    ts: Option<u64>,
    blob: Option<(BlobId, Box<dyn Draft>)>,
    is_whole: bool,
    /// Last, so that it goes when nothing of it is open.
    /// Why files were left out; `None`: none may be.
    left_out: Option<Vec<String>>,
    part: Part,
}

/// A folder that is not whole. Dropping it removes it, unless it has its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It is gone when it was renamed; what stays is removed by the next copy.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl CopyFolder {
    /// Begins a folder; it appears at its end. `format` is that of the pairs.
    ///
    /// # Errors
    /// Something is there already, or the system's.
    pub fn create(path: &Path, format: u32) -> Result<Self, CopyError> {
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_free {
            return Err(CopyError::Exists(path.to_owned()));
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        if draft.exists() {
            fs::remove_dir_all(&draft)?;
        }
        let part = Part(draft.clone());
        let folder = DataFolder::take(&draft, format)?;
        fs::rename(draft.join(FORMAT), draft.join(FORMAT_OF_PART))?;
        fs::File::open(&draft)?.sync_all()?;
        let store = SqliteLog::create(&folder.commits(), 0)?;
        let files = FolderStore::open(&folder.files())?;
        Ok(Self {
            path: path.to_owned(),
            gathered: Vec::new(),
            hash: Context::new(&SHA256),
            folder,
            store,
            files,
            changes: Changes::default(),
            size: 0,
            steps: 0,
            ts: None,
            blob: None,
            is_whole: false,
            left_out: None,
            part,
        })
    }

    /// Goes on without stored files that the host cannot read.
    #[must_use]
    pub fn without_unreadable(self) -> Self {
        Self { left_out: Some(Vec::new()), ..self }
    }

    /// Why files are not in it, one text each.
    pub fn left_out(&self) -> &[String] {
        self.left_out.as_deref().unwrap_or_default()
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// They are not those of a copy, or cannot be written.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.gathered.extend_from_slice(bytes);
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut at = 0;
        while let Some(head) = gathered[at..].first_chunk::<HEAD>() {
            let length = |from: usize| {
                let bytes = [head[from], head[from + 1], head[from + 2], head[from + 3]];
                u32::from_le_bytes(bytes) as usize
            };
            let (first, second) = (length(1), length(5));
            let (start, middle) = (at + HEAD, at + HEAD + first);
            let end = middle + second;
            if gathered.len() < end {
                break;
            }
            self.frame(head[0], &gathered[start..middle], &gathered[middle..end])?;
            self.hash.update(&gathered[at..end]);
            at = end;
        }
        gathered.drain(..at);
        self.gathered = gathered;
        Ok(())
    }

    fn frame(&mut self, kind: u8, first: &[u8], second: &[u8]) -> Result<(), CopyError> {
        if self.is_whole {
            return Err(CopyError::Broken("something comes after its end"));
        }
        match kind {
            BEGIN => {
                let ts = first.try_into().map_err(|_| CopyError::Broken("it has no timestamp"))?;
                self.ts = Some(u64::from_le_bytes(ts));
                Ok(())
            }
            PAIR => {
                self.size += first.len() + second.len();
                self.changes.pairs.insert(first.to_vec(), Some(second.to_vec()));
                if self.size < STEP { Ok(()) } else { self.step(None) }
            }
            BLOB => {
                self.keep_blob()?;
                let id = str::from_utf8(first).ok().and_then(|id| id.parse().ok());
                let id = id.ok_or(CopyError::Broken("a file has no name"))?;
                self.blob = Some((id, self.files.create()?));
                Ok(())
            }
            BYTES => {
                let (_, blob) = self.blob.as_mut().ok_or(CopyError::Broken("bytes of no file"))?;
                Ok(blob.write(first)?)
            }
            UNREADABLE => {
                // What came of it is no file; what came before it is one.
                self.blob.take_if(|(id, _)| id.to_string().as_bytes() == second);
                self.keep_blob()?;
                let why = String::from_utf8_lossy(first).into_owned();
                let left_out = self.left_out.as_mut();
                left_out.map(|all| all.push(why.clone())).ok_or(CopyError::Unreadable(why))
            }
            END if first == self.hash.clone().finish().as_ref() => {
                self.keep_blob()?;
                let ts = self.ts.ok_or(CopyError::Broken("it has no timestamp"))?;
                self.step(Some(ts))?;
                self.is_whole = true;
                Ok(())
            }
            END => Err(CopyError::Broken("its checksum is another")),
            _ => Err(CopyError::Broken("a piece of it is of no kind")),
        }
    }

    fn keep_blob(&mut self) -> Result<(), CopyError> {
        Ok(self.blob.take().map_or(Ok(()), |(id, draft)| draft.keep(id))?)
    }

    /// Writes the pairs that have gathered; the last step has the timestamp of the copy.
    fn step(&mut self, last: Option<u64>) -> Result<(), CopyError> {
        self.steps += 1;
        let changes = std::mem::take(&mut self.changes);
        self.size = 0;
        Ok(self.store.checkpoint(last.unwrap_or(self.steps), &changes)?)
    }

    /// Makes the folder appear; gives the timestamp that it is as of.
    ///
    /// # Errors
    /// The stream has not come to its end, or the system's.
    pub fn finish(self) -> Result<u64, CopyError> {
        let Self { path, folder, store, ts, is_whole, part, .. } = self;
        let Some(ts) = ts.filter(|_| is_whole) else {
            return Err(CopyError::Broken("it ends early"));
        };
        drop(store);
        drop(folder);
        fs::rename(part.0.join(FORMAT_OF_PART), part.0.join(FORMAT))?;
        fs::File::open(&part.0)?.sync_all()?;
        fs::rename(&part.0, &path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(ts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::tests::{get, id};
    use crate::log::tests::pairs;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = CopyWriter::new(&mut bytes);
        let frames = [
            Frame::Begin(7_000),
            Frame::Pair(b"b", b"2"),
            Frame::Pair(b"a", &[1; 3_000]),
            Frame::Blob(id(1)),
            Frame::Bytes(b"he"),
            Frame::Bytes(b"llo"),
            Frame::Blob(id(2)),
        ];
        frames.into_iter().for_each(|frame| writer.write(frame).unwrap());
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn a_stream_in_pieces_becomes_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("copy");
        let mut folder = CopyFolder::create(&path, 1).unwrap();
        stream().chunks(7).for_each(|piece| folder.take(piece).unwrap());
        assert!(!path.exists());
        // Whoever is killed here leaves a folder that nobody takes for data.
        let part = home.path().join("copy.part");
        assert!(matches!(DataFolder::take(&part, 1), Err(FolderError::Foreign { .. })));
        assert_eq!(folder.finish().unwrap(), 7_000);
        let taken = DataFolder::take(&path, 1).unwrap();
        let (ts, kept) = pairs(&SqliteLog::open(&taken.commits()).unwrap());
        assert_eq!((ts, kept.len(), &kept[1].1[..]), (7_000, 2, &b"2"[..]));
        let files = FolderStore::open(&taken.files()).unwrap();
        assert_eq!(files.list().unwrap(), [id(1), id(2)]);
        assert_eq!(get(&*files.open(id(1)).unwrap().unwrap(), 0, 9), b"hello");
        assert!(matches!(CopyFolder::create(&path, 1), Err(CopyError::Exists(_))));
    }

    #[test]
    fn a_file_that_cannot_be_read_ends_a_copy_or_is_left_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("copy");
        let mut bytes = Vec::new();
        let mut writer = CopyWriter::new(&mut bytes);
        let names = [0, 1, 2, 3].map(|n| id(n).to_string());
        let frames = [
            Frame::Begin(7_000),
            Frame::Unreadable(&names[0], "a is gone"),
            Frame::Blob(id(1)),
            Frame::Bytes(b"whole"),
            Frame::Unreadable(&names[3], "d is gone"),
            Frame::Blob(id(2)),
            Frame::Bytes(b"ha"),
            Frame::Unreadable(&names[2], "b is damaged"),
        ];
        frames.into_iter().for_each(|frame| writer.write(frame).unwrap());
        writer.finish().unwrap();
        let refused = CopyFolder::create(&path, 1).unwrap().take(&bytes).unwrap_err();
        assert_eq!(refused.to_string(), "a is gone");
        let mut folder = CopyFolder::create(&path, 1).unwrap().without_unreadable();
        folder.take(&bytes).unwrap();
        assert_eq!(folder.left_out(), ["a is gone", "d is gone", "b is damaged"]);
        folder.finish().unwrap();
        let taken = DataFolder::take(&path, 1).unwrap();
        assert_eq!(FolderStore::open(&taken.files()).unwrap().list().unwrap(), [id(1)]);
    }

    #[test]
    fn what_is_not_whole_leaves_no_folder() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("copy");
        let whole = stream();
        for cut in [0, 5, whole.len() - 1] {
            let mut folder = CopyFolder::create(&path, 1).unwrap();
            folder.take(&whole[..cut]).unwrap();
            assert!(matches!(folder.finish(), Err(CopyError::Broken("it ends early"))), "{cut}");
        }
        for at in [HEAD + 3, whole.len() - 40] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            let mut folder = CopyFolder::create(&path, 1).unwrap();
            assert!(folder.take(&flipped).is_err() || folder.finish().is_err(), "{at}");
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left");
    }
}
