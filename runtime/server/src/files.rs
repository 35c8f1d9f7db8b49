//! File storage outside of functions: uploads, downloads, and what actions do with files.
//!
//! In: streams of bytes, ids. Out: rows of `_storage`, blobs, streams.
//! Invariant: bytes first, row second: a file that can be seen is whole, and one whose stream ends
//! early, or whose hash is another than was promised, leaves neither blob nor row. A blob whose
//! file is deleted goes when no snapshot that is kept shows it.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use database::commit::{Database, Writer};
use database::durability::NotDurable;
use database::environment::CLOUD_URL;
use database::error::UserError;
use database::files::{NewFile, StoredFile, url_suffix};
use database::limits;
use database::record::{Given, Timestamp, World};
use database::transaction::Transaction;
use sha2::{Digest as _, Sha256};
use storage::{
    Blob, BlobError, BlobId, BlobStore, Draft, Storage, StoreError, TokenError, UploadGrant,
};
use tokio::sync::{mpsc, oneshot};

use crate::http_action::Body;
use crate::pins::{Pinned, Pins};
use crate::reading::Reading;

/// Bytes that an upload gathers before they are hashed and written, and that a download reads at
/// once: what is worth a hop to a thread that may block.
pub(crate) const STEP: usize = 256 << 10;

/// Steps of a download that wait for their reader.
const STEPS_AHEAD: usize = 2;

/// How long a blob that nobody needs may stay; an upload looks too.
const BETWEEN_COLLECTIONS: Duration = Duration::from_secs(10);

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// Files of a deployment.
pub struct Files {
    database: Arc<Database>,
    storage: Storage,
    world: Arc<dyn World>,
    pins: Mutex<Pins>,
    /// Held while blobs are deleted, and while a name is given to a new one.
    names: Mutex<()>,
    /// Until when files that the past shows have gone for its bounds.
    freed: Mutex<Timestamp>,
}

/// What whoever stores a file says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    /// `Content-Type`, kept as it is.
    pub content_type: Option<String>,
    /// SHA-256 that its bytes must have.
    pub sha256: Option<[u8; 32]>,
}

/// A file on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// What it is.
    pub file: StoredFile,
    /// Its bytes.
    pub body: Body,
}

/// Why a file was not stored or read.
#[derive(Debug)]
pub enum FileError {
    /// The caller's mistake: an id, a token, a hash, a size.
    User(UserError),
    /// The stream of bytes ended early, with its words.
    Cut(String),
    /// The store cannot take or give bytes.
    Store(BlobError),
    /// The bytes of the file with this ID are not those that were stored.
    Damaged(String),
    /// The bytes of the file with this ID are gone, and nobody has deleted it.
    Missing(String),
    /// Its row could not be kept.
    Undone(NotDurable),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(error) => f.write_str(&error.message),
            Self::Cut(why) => write!(f, "The file was not stored: its bytes ended early: {why}"),
            Self::Store(error @ BlobError::Full { .. }) => {
                write!(f, "The file was not stored: {error}. Delete files first.")
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::Damaged(id) => write!(
                f,
                "The stored file {id} is damaged: its bytes are not those that were stored. \
                 Restore a backup."
            ),
            Self::Missing(id) => write!(
                f,
                "The bytes of the stored file {id} are not there, although nobody has deleted it. \
                 Restore a backup."
            ),
            Self::Undone(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<UserError> for FileError {
    fn from(error: UserError) -> Self {
        Self::User(error)
    }
}

impl From<BlobError> for FileError {
    fn from(error: BlobError) -> Self {
        Self::Store(error)
    }
}

/// What the disk does not take can be sent again, like every commit that it does not take.
fn unkept(error: BlobError) -> FileError {
    match error {
        BlobError::Io(error) => FileError::Undone(not_kept(&error)),
        error @ BlobError::Full { .. } => error.into(),
    }
}

fn not_kept(error: &std::io::Error) -> NotDurable {
    NotDurable { why: StoreError::of("files", error).to_string().into() }
}

/// The hash in 64 hexadecimal digits, or in base64.
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> =
            pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect();
        return bytes?.try_into().ok();
    }
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?.try_into().ok()
}

impl Files {
    /// The files of a database, with their bytes in `storage`.
    pub fn new(database: Arc<Database>, storage: Storage, world: Arc<dyn World>) -> Arc<Self> {
        let (pins, names, freed) = Default::default();
        let files = Arc::new(Self { database, storage, world, pins, names, freed });
        let weak = Arc::downgrade(&files);
        files.storage.room.answer(move || {
            weak.upgrade().into_iter().for_each(|files: Arc<Self>| files.discard(files.history()));
        });
        files
    }

    /// Stores a stream of bytes: `ctx.storage.store` of actions. Gives the `Id<"_storage">`.
    ///
    /// # Errors
    /// A stream that ends with an error or brings nothing for too long, a file that is too large,
    /// another hash than promised, a full store. Nothing is stored then.
    pub async fn store(
        self: &Arc<Self>,
        component: &str,
        mut body: Body,
        promised: Promised,
    ) -> Result<String, FileError> {
        let mut incoming = self.receive().await?;
        let patience = Duration::from_millis(limits::UPLOAD_STALL_MS);
        loop {
            match tokio::time::timeout(patience, body.recv()).await {
                Ok(Some(Ok(bytes))) => incoming = incoming.push(bytes).await?,
                Ok(Some(Err(why))) => return Err(FileError::Cut(why)),
                Ok(None) => return incoming.finish(component.to_owned(), promised).await,
                Err(_) => return Err(stalled()),
            }
        }
    }

    /// The bytes of a file: `ctx.storage.get` of actions. `None`: there is no such file.
    ///
    /// # Errors
    /// An id that is none, a store that cannot be read, bytes that are missing.
    pub async fn get(&self, component: &str, id: &str) -> Result<Option<Outgoing>, FileError> {
        let Some(file) = self.look(|now| now.file(component, id, "storage.get"))? else {
            return Ok(None);
        };
        let Some(blob) = self.open(component, &file).await? else { return Ok(None) };
        let (sender, body) = mpsc::channel(STEPS_AHEAD);
        tokio::spawn(send(Reading::new(&file, blob, (0, file.size)), sender));
        Ok(Some(Outgoing { file, body }))
    }

    /// `ctx.storage.getUrl` of actions: where anybody can download it. `None`: no such file.
    ///
    /// # Errors
    /// An id that is none.
    pub fn url(&self, component: &str, id: &str) -> Result<Option<String>, UserError> {
        let file = self.look(|now| now.file(component, id, "storage.getUrl"))?;
        let component = url_suffix(component);
        Ok(file.map(|file| format!("{}/api/storage/{}{component}", self.origin(), file.blob)))
    }

    /// `ctx.storage.getMetadata` of actions, and its `_storage` row. `None`: no such file.
    ///
    /// # Errors
    /// An id that is none.
    pub fn metadata(&self, component: &str, id: &str) -> Result<Option<StoredFile>, UserError> {
        self.look(|now| now.file(component, id, "storage.getMetadata"))
    }

    /// `ctx.storage.generateUploadUrl` of actions: takes files for an hour.
    pub fn generate_upload_url(&self, component: &str) -> String {
        let expires = self.world.now() + limits::UPLOAD_URL_MS * MILLISECOND;
        let grant = UploadGrant { component: component.to_owned(), expires };
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&self.world.seed()[..16]);
        let token = self.storage.tokens.issue(&grant, nonce);
        format!("{}/api/storage/upload?token={token}", self.origin())
    }

    /// `ctx.storage.delete` of actions. Waits for the log store.
    ///
    /// # Errors
    /// An id that is none, or of no file.
    pub fn delete(&self, component: &str, id: &str) -> Result<(), UserError> {
        let deleted = |now: &mut Transaction| now.delete_file(component, id, "storage.delete");
        let (_, ts) = self.commit_blocking("storage.delete", deleted)?;
        Ok(self.database.wait_durable(ts)?)
    }

    /// The component that a token grants an upload to.
    ///
    /// # Errors
    /// A token that was not made here, or whose time is over.
    pub(crate) fn granted(&self, token: &str) -> Result<String, TokenError> {
        self.storage.tokens.check(token, self.world.now()).map(|grant| grant.component)
    }

    /// The file behind a URL, and its bytes.
    ///
    /// # Errors
    /// A store that cannot be read, bytes that are missing: with the file.
    pub(crate) async fn download(
        &self,
        component: &str,
        blob: BlobId,
    ) -> Result<Option<(StoredFile, Arc<dyn Blob>)>, (StoredFile, FileError)> {
        let found = self.database.snapshot().file_of_blob(component, &blob.to_string());
        let Some(file) = found else { return Ok(None) };
        match self.open(component, &file).await {
            Ok(blob) => Ok(blob.map(|blob| (file, blob))),
            Err(error) => Err((file, error)),
        }
    }

    /// Whether bytes can be kept.
    ///
    /// # Errors
    /// Why not. A budget that is used up is not the disk's failure.
    pub(crate) async fn check(&self) -> Result<(), NotDurable> {
        let blobs = Arc::clone(&self.storage.blobs);
        // A draft is never seen, and goes when it is dropped.
        match blocking(move || blobs.create()?.write(b"?")).await {
            Err(FileError::Store(BlobError::Io(error))) => Err(not_kept(&error)),
            _ => Ok(()),
        }
    }

    /// Begins to receive a file.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn receive(self: &Arc<Self>) -> Result<Incoming, FileError> {
        self.collect().await;
        let draft = self.storage.blobs.create().map_err(unkept)?;
        let state = Receiving { draft, hash: Sha256::new() };
        Ok(Incoming { files: Arc::clone(self), state, gathered: Vec::new(), size: 0 })
    }

    /// Makes a kept blob a file; or, if that fails, nothing.
    async fn add(self: &Arc<Self>, component: String, kept: Kept) -> Result<String, FileError> {
        let blob = kept.blob.to_string();
        let write = move |now: &mut Transaction| {
            let (blob, content_type) = (kept.blob.to_string(), kept.content_type.as_deref());
            let Kept { sha256, size, .. } = kept;
            now.store_file(&component, NewFile { blob: &blob, sha256, size, content_type })
        };
        let added = match self.commit("storage.store", write).await {
            Ok((id, ts)) => self.durable(ts).await.map(|()| id.encode()),
            Err(error) => Err(error.into()),
        };
        if added.is_err() {
            self.remove(vec![blob]).await;
        }
        added
    }

    /// Keeps the files that the newest durable snapshot shows; gives that.
    pub(crate) fn pin(&self) -> Arc<Pinned> {
        let mut pins = self.pins();
        // Under the lock: what it shows cannot be released before it is pinned.
        let snapshot = self.database.snapshot();
        pins.pin(snapshot)
    }

    /// Takes a name, if no blob has it and nobody else has taken it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn take_name(&self, name: BlobId) -> Result<bool, BlobError> {
        let _names = self.names();
        let is_free = self.storage.blobs.open(name)?.is_none();
        Ok(is_free && self.pins().take(name))
    }

    /// Gives names up that were taken; their blobs go with them, unless a file has one by now.
    pub(crate) fn give_names_up(&self, names: &[BlobId], discard: bool) {
        self.pins().give_up(names);
        if discard {
            self.discard(names.iter().map(ToString::to_string).collect());
        }
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        // There is nothing in it that could be half done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        // Nothing panics under this lock.
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes.
    pub(crate) fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.storage.blobs
    }

    /// A name that no blob has.
    pub(crate) fn fresh_name(&self) -> BlobId {
        let mut random = [0; 16];
        random.copy_from_slice(&self.world.seed()[..16]);
        BlobId::from_random(random)
    }

    /// Waits until a commit is durable.
    ///
    /// # Errors
    /// It was undone, or nobody is left to say.
    pub(crate) async fn durable(&self, ts: Timestamp) -> Result<(), FileError> {
        let (tell, told) = oneshot::channel();
        // Whoever waits may go away.
        self.database.when_durable(ts, Box::new(move |durable| drop(tell.send(durable))));
        told.await.unwrap_or_else(|_| Err(NotDurable::unsaid())).map_err(FileError::Undone)
    }

    /// Collects for as long as it is polled.
    pub(crate) async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(BETWEEN_COLLECTIONS).await;
            self.collect().await;
            self.bound_the_past().await;
        }
    }

    /// Deletes blobs of deleted files, the oldest deletions first, as far as they are more than the
    /// past may have: it is bounded by what commits write, and a file's bytes are not among that.
    async fn bound_the_past(self: &Arc<Self>) {
        let Some(most) = self.storage.past else { return };
        let names = {
            let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
            let (newest, names) = self.database.past_blobs(*freed, most);
            *freed = newest;
            names
        };
        if !names.is_empty() {
            self.remove(names).await;
        }
    }

    /// Deletes the blobs that no snapshot needs any more.
    pub(crate) async fn collect(self: &Arc<Self>) {
        self.remove(self.database.take_dead_blobs()).await;
    }

    /// Deletes blobs whose files are deleted, although the history still shows those: when the
    /// store is full, the past goes first.
    pub(crate) async fn collect_history(self: &Arc<Self>) {
        self.remove(self.history()).await;
    }

    /// The blobs that died, and those that only the history shows.
    fn history(&self) -> Vec<String> {
        let mut names = self.database.take_dead_blobs();
        let history = self.database.history();
        names.extend(history.entries.iter().flat_map(|entry| entry.deleted_blobs()));
        names
    }

    async fn remove(self: &Arc<Self>, names: Vec<String>) {
        let files = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || files.discard(names)).await;
    }

    /// Deletes those of the blobs that nobody needs.
    fn discard(&self, names: Vec<String>) {
        // A name is nobody's between the decision and the deletion.
        let _names = self.names();
        let go = self.pins().release(names, &self.database.newest());
        // What cannot be deleted stays as an orphan; nothing shows it.
        go.into_iter().for_each(|blob| drop(self.storage.blobs.delete(blob)));
    }

    /// The bytes of a file; `None`: it has been deleted meanwhile.
    async fn open(
        &self,
        component: &str,
        file: &StoredFile,
    ) -> Result<Option<Arc<dyn Blob>>, FileError> {
        let opened = match file.blob.parse::<BlobId>() {
            Ok(id) => {
                let blobs = Arc::clone(&self.storage.blobs);
                blocking(move || blobs.open(id)).await?
            }
            Err(_) => None,
        };
        let newest = self.database.newest();
        match opened {
            Some(blob) if blob.size() == file.size => Ok(Some(Arc::from(blob))),
            Some(_) => Err(FileError::Damaged(file.id.encode())),
            None if newest.file_of_blob(component, &file.blob).is_none() => Ok(None),
            None => Err(FileError::Missing(file.id.encode())),
        }
    }

    fn origin(&self) -> Arc<str> {
        let snapshot = self.database.snapshot();
        snapshot.environment().get(CLOUD_URL).cloned().unwrap_or_default()
    }

    /// What a transaction of the host's own is given.
    pub(crate) fn given(&self) -> Given {
        let (seed, now) = (self.world.seed(), self.world.now());
        Given { seed, now, ..Given::default() }
    }

    fn look<T>(&self, use_it: impl FnOnce(&mut Transaction) -> T) -> T {
        let mut now = self.database.begin(self.database.snapshot(), &self.given(), true);
        use_it(&mut now)
    }

    /// Runs a transaction while nobody else commits: it cannot conflict. Gives when. Whoever
    /// commits may hold the turn for as long as a function may run, so the wait for it is not on
    /// the thread of a task: others would wait with it.
    pub(crate) async fn commit<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        write: impl FnOnce(&mut Transaction) -> Result<T, UserError> + Send + 'static,
    ) -> Result<(T, Timestamp), UserError> {
        let files = Arc::clone(self);
        let work = move || files.commit_blocking(operation, write);
        match tokio::task::spawn_blocking(work).await {
            Ok(committed) => committed,
            Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
            Err(_) => Err(NotDurable::unsaid().into()),
        }
    }

    /// The same on a thread that may wait.
    pub(crate) fn commit_blocking<T>(
        &self,
        operation: &str,
        write: impl FnOnce(&mut Transaction) -> Result<T, UserError>,
    ) -> Result<(T, Timestamp), UserError> {
        let turn = self.database.turn();
        let mut now = turn.begin(&self.given(), false);
        let written = write(&mut now)?;
        let committed = turn.commit(now, self.world.now(), Writer::new(operation, ""));
        let committed = committed.expect("what begins under the turn cannot conflict");
        Ok((written, committed.ts))
    }
}

/// A file that is being received. Dropping it leaves nothing.
pub(crate) struct Incoming {
    files: Arc<Files>,
    state: Receiving,
    gathered: Vec<u8>,
    size: u64,
}

/// Bytes that are kept and have no row yet.
struct Kept {
    blob: BlobId,
    sha256: [u8; 32],
    size: u64,
    content_type: Option<String>,
}

struct Receiving {
    draft: Box<dyn Draft>,
    hash: Sha256,
}

impl Incoming {
    /// Takes bytes.
    ///
    /// # Errors
    /// The file is too large, or the store is full.
    pub(crate) async fn push(mut self, bytes: Bytes) -> Result<Self, FileError> {
        self.size += bytes.len() as u64;
        check_size(self.size)?;
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() < STEP { Ok(self) } else { self.write().await }
    }

    /// Hashes and writes what is gathered.
    async fn write(mut self) -> Result<Self, FileError> {
        let mut full = false;
        loop {
            let work = move || {
                let written = self.state.draft.write(&self.gathered);
                if written.is_ok() {
                    self.state.hash.update(&self.gathered);
                    self.gathered.clear();
                }
                Ok((self, written))
            };
            let (this, written) = blocking(work).await?;
            self = this;
            match written {
                Ok(()) => return Ok(self),
                Err(BlobError::Full { .. }) if !full => {
                    full = true;
                    self.files.collect_history().await;
                }
                Err(error) => return Err(unkept(error)),
            }
        }
    }

    /// Makes it a file, if its hash is the promised one.
    ///
    /// # Errors
    /// As [`Files::store`].
    pub(crate) async fn finish(
        self,
        component: String,
        promised: Promised,
    ) -> Result<String, FileError> {
        // On a task of its own: whoever waits may go away between the blob and its row.
        let finished = tokio::spawn(self.keep(component, promised)).await;
        finished.map_err(|error| BlobError::Io(std::io::Error::other(error)))?
    }

    /// Makes it a blob that is no file; gives its name.
    ///
    /// # Errors
    /// As [`Files::store`].
    pub(crate) async fn keep_blob(self) -> Result<BlobId, FileError> {
        let Self { files, state, .. } = self.write().await?;
        let blob = files.fresh_name();
        kept(state.draft, blob).await?;
        Ok(blob)
    }

    async fn keep(self, component: String, promised: Promised) -> Result<String, FileError> {
        let Self { files, state, size, .. } = self.write().await?;
        let sha256: [u8; 32] = state.hash.finalize().into();
        if let Some(promised) = promised.sha256.filter(|promised| *promised != sha256) {
            return Err(mismatch(&promised, &sha256).into());
        }
        let blob = files.fresh_name();
        kept(state.draft, blob).await?;
        let content_type = promised.content_type;
        files.add(component, Kept { blob, sha256, size, content_type }).await
    }
}

/// Refuses a file that is too large.
///
/// # Errors
/// `FileTooLarge`.
pub(crate) fn check_size(bytes: u64) -> Result<(), UserError> {
    let most = limits::FILE_BYTES;
    if bytes <= most {
        return Ok(());
    }
    let text = format!("The file is too large: the limit is {most} bytes. Store it in parts.");
    Err(UserError::new("FileTooLarge", text))
}

/// The client has stopped sending.
pub(crate) fn stalled() -> FileError {
    let seconds = limits::UPLOAD_STALL_MS / 1_000;
    FileError::Cut(format!("The upload stopped: no byte came for {seconds} seconds"))
}

fn mismatch(promised: &[u8; 32], found: &[u8; 32]) -> UserError {
    use base64::Engine as _;
    let text = |hash: &[u8; 32]| base64::engine::general_purpose::STANDARD.encode(hash);
    let (promised, found) = (text(promised), text(found));
    let message = format!(
        "The file was not stored: its SHA-256 is {found}, and {promised} was promised. Bytes were \
         lost or changed on the way: send it again."
    );
    UserError::new("Sha256Mismatch", message)
}

/// Makes a draft a blob.
async fn kept(draft: Box<dyn Draft>, blob: BlobId) -> Result<(), FileError> {
    let kept = blocking(move || Ok(draft.keep(blob))).await?;
    kept.map_err(unkept)
}

/// Runs what may wait for a disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, FileError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| BlobError::Io(std::io::Error::other(error)))??)
}

/// Sends a file, until its end or until nobody reads any more.
async fn send(mut file: Reading, to: mpsc::Sender<Result<Bytes, String>>) {
    while let Some(bytes) = file.next().await {
        if to.send(bytes.map_err(|error| error.to_string())).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_hex_and_as_base64() {
        let hash = [0xab; 32];
        assert_eq!(parse_sha256(&"ab".repeat(32)), Some(hash));
        assert_eq!(parse_sha256("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="), Some(hash));
        for wrong in ["", "ab", &"é".repeat(32), &"zz".repeat(32), "q6urq6s="] {
            assert_eq!(parse_sha256(wrong), None, "{wrong}");
        }
    }
}
