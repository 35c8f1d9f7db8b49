//! A whole deployment for whoever keeps a copy: code, environment, documents, jobs, files.
//!
//! In: the operator. Out: a stream of `storage::copy`. Invariant: everything is as of one durable
//! moment; a stream that cannot be whole is cut. A stored file that is not as it was stored is
//! named in the stream, so that whoever takes it knows, and decides.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use database::files::StoredFile;
use database::stored;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use storage::{BlobId, BlobStore, CopyWriter, Frame};
use tokio::sync::mpsc;

use crate::files::FileError;
use crate::host::Host;
use crate::pins::Pinned;
use crate::refusal::Failure;

/// Bytes that are sent at once, and that are read of a blob at once.
const STEP: usize = 64 << 10;
/// Steps that wait for their reader.
const STEPS_AHEAD: usize = 4;

/// `GET /api/concave/copy`
pub(crate) async fn copy(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let pinned = host.files.pin();
    let blobs = Arc::clone(host.files.blobs());
    let told = Arc::clone(&host);
    let failed = move |why: &io::Error| {
        (told.config.warn)(&format!("A copy was cut off, and nothing of it was kept: {why}"));
    };
    let unreadable = move |why: &str| {
        (host.config.warn)(&format!("A copy of this host goes without a stored file: {why}"));
    };
    let write = move |pipe: &mut Pipe| write((&pinned, &*blobs), pipe, &unreadable);
    let mut response = Response::new(piped(write, failed));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn write(
    (pinned, blobs): (&Pinned, &dyn BlobStore),
    pipe: &mut Pipe,
    unreadable: &dyn Fn(&str),
) -> io::Result<()> {
    let snapshot = &pinned.0;
    let mut copy = CopyWriter::new(pipe);
    copy.write(Frame::Begin(snapshot.ts.0))?;
    // The build is none: whoever starts from a copy evaluates its code again.
    for (key, value) in stored::pairs(snapshot, "") {
        copy.write(Frame::Pair(&key, &value))?;
    }
    for component in snapshot.components() {
        for (file, _) in snapshot.files(component) {
            if let Err(why) = write_file(&mut copy, &file, blobs)? {
                unreadable(&why);
                copy.write(Frame::Unreadable(&file.blob, &why))?;
            }
        }
    }
    copy.finish()
}

/// Writes a file; or says why it is not what was stored.
fn write_file(
    copy: &mut CopyWriter<&mut Pipe>,
    file: &StoredFile,
    blobs: &dyn BlobStore,
) -> io::Result<Result<(), String>> {
    let id = || file.id.encode();
    let unreadable = |why| format!("The stored file {} could not be read: {why}.", id());
    let opened = match file.blob.parse::<BlobId>() {
        Ok(name) => blobs.open(name).map(|blob| blob.map(|blob| (name, blob))),
        Err(_) => Ok(None),
    };
    let (name, blob) = match opened {
        Ok(Some((name, blob))) if blob.size() == file.size => (name, blob),
        Ok(Some(_)) => return Ok(Err(FileError::Damaged(id()).to_string())),
        Ok(None) => return Ok(Err(FileError::Missing(id()).to_string())),
        Err(why) => return Ok(Err(unreadable(why))),
    };
    copy.write(Frame::Blob(name))?;
    let (mut at, mut hash) = (0, Sha256::new());
    while at < file.size {
        let bytes = match blob.read(at, STEP) {
            // The end, although its size says otherwise: the hash tells.
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => bytes,
            Err(why) => return Ok(Err(unreadable(why))),
        };
        hash.update(&bytes);
        copy.write(Frame::Bytes(&bytes))?;
        at += bytes.len() as u64;
    }
    if *hash.finalize() != file.sha256 {
        return Ok(Err(FileError::Damaged(id()).to_string()));
    }
    Ok(Ok(()))
}

/// A body that is written by a thread that may wait. An error cuts it; `failed` hears of it first,
/// unless it is only that nobody reads any more.
pub(crate) fn piped(
    write: impl FnOnce(&mut Pipe) -> io::Result<()> + Send + 'static,
    failed: impl FnOnce(&io::Error) + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(STEPS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { to: sender, gathered: Vec::with_capacity(STEP) };
        let written = write(&mut pipe).and_then(|()| pipe.flush());
        if let Err(why) = written {
            if !pipe.to.is_closed() {
                failed(&why);
            }
            // Whoever reads has gone, or must not take the beginning for the whole.
            let _ = pipe.to.blocking_send(Err(why));
        }
    });
    Body::from_stream(stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((bytes, receiver))
    }))
}

/// Bytes on their way from a thread that may wait to a response.
pub(crate) struct Pipe {
    to: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= STEP {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.gathered, Vec::with_capacity(STEP));
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.to.blocking_send(Ok(bytes.into())).map_err(gone)
    }
}
