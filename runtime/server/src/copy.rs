//! A whole deployment for whoever keeps a copy: code, environment, documents, jobs, files.
//!
//! In: the operator. Out: a stream of `storage::copy`. Invariant: everything is as of one durable
//! moment; a stream that cannot be whole is cut.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use database::stored;
use futures_util::stream;
use storage::{BlobId, BlobStore, CopyWriter, Frame};
use tokio::sync::mpsc;

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
    let failed = move |why: &io::Error| {
        (host.config.warn)(&format!("A copy was cut off, and nothing of it was kept: {why}"));
    };
    let mut response = Response::new(piped(move |pipe| write(&pinned, &*blobs, pipe), failed));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn write(pinned: &Pinned, blobs: &dyn BlobStore, pipe: &mut Pipe) -> io::Result<()> {
    let snapshot = &pinned.0;
    let mut copy = CopyWriter::new(pipe);
    copy.write(Frame::Begin(snapshot.ts.0))?;
    // The build is none: whoever starts from a copy evaluates its code again.
    for (key, value) in stored::pairs(snapshot, "") {
        copy.write(Frame::Pair(&key, &value))?;
    }
    for component in snapshot.components() {
        for (file, _) in snapshot.files(component) {
            let id: BlobId = file.blob.parse().map_err(io::Error::other)?;
            let unreadable = |why: &dyn Display| {
                let id = file.id.encode();
                io::Error::other(format!("The stored file {id} could not be read: {why}."))
            };
            let blob = blobs.open(id).map_err(|why| unreadable(&why))?;
            let blob = blob.ok_or_else(|| unreadable(&"its bytes are not there"))?;
            copy.write(Frame::Blob(id))?;
            let mut at = 0;
            while at < blob.size() {
                let bytes = blob.read(at, STEP).map_err(|why| unreadable(&why))?;
                copy.write(Frame::Bytes(&bytes))?;
                at += bytes.len() as u64;
            }
        }
    }
    copy.finish()
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
