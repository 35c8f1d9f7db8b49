//! A fork: another host of the same moment, in this process, for as long as whoever asked listens.
//!
//! In: the operator. Out: a stream: one line that says where the fork is, then silence.
//! Invariant: a fork sees nothing of what happens here later, and nothing here sees what happens
//! there; it ends with the stream, or with this host.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use database::limits;
use database::snapshot::Snapshot;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use storage::{BlobStore, Overlay};
use tokio::sync::watch;

use crate::host::Host;
use crate::refusal::Failure;
use crate::request;

/// Between two signs of life, so that a listener that is gone is noticed.
const BEAT: Duration = Duration::from_secs(1);

/// What a fork begins with.
pub struct Origin {
    /// The database.
    pub snapshot: Arc<Snapshot>,
    /// Stored files; new ones do not reach the original.
    pub blobs: Arc<dyn BlobStore>,
    /// Whether it runs scheduled functions and cron jobs.
    pub schedules: bool,
}

/// A fork that serves.
pub struct Forked {
    /// Origin of its API.
    pub url: String,
    /// Origin of its HTTP actions.
    pub site_url: String,
    /// Its operator's secret.
    pub admin_key: String,
    /// Ends it.
    pub stop: Box<dyn FnOnce() -> Later<()> + Send>,
}

/// Something that takes a while.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Starts forks.
pub trait Forks: Send + Sync + 'static {
    /// Starts one, on sockets of its own.
    ///
    /// # Errors
    /// Why it did not start, for the operator.
    fn fork(&self, origin: Origin) -> Later<Result<Forked, String>>;
}

/// The forks of a host.
pub(crate) struct Running {
    count: Arc<AtomicU64>,
    /// `false`: they end.
    open: watch::Sender<bool>,
}

impl Default for Running {
    fn default() -> Self {
        Self { count: Arc::default(), open: watch::Sender::new(true) }
    }
}

impl Running {
    /// Ends all of them.
    pub(crate) fn stop(&self) {
        self.open.send_replace(false);
    }

    /// A place for one more.
    fn enter(&self) -> Result<Place, Failure> {
        let most = limits::FORKS;
        let place = Place(Arc::clone(&self.count));
        if self.count.fetch_add(1, Ordering::AcqRel) < most {
            return Ok(place);
        }
        let text = format!(
            "Too many forks: {most} are running in this process. End one, or fork into a folder."
        );
        Err(Failure::bad("TooManyForks", text))
    }
}

/// One of the forks there may be.
struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A fork, until it is dropped.
struct Held {
    stop: Option<Box<dyn FnOnce() -> Later<()> + Send>>,
    place: Option<Place>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (stop, place) = (self.stop.take(), self.place.take());
        tokio::spawn(async move {
            if let Some(stop) = stop {
                stop().await;
            }
            drop(place);
        });
    }
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    schedules: bool,
}

/// `POST /api/concave/fork?schedules=`
pub(crate) async fn fork(State(host): State<Arc<Host>>, head: Parts) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let Asked { schedules } = request::parameters(&head.uri)?;
    let Some(forks) = host.config.forks.clone() else {
        return Err(Failure::unsupported("A fork in memory"));
    };
    let place = host.forks.enter()?;
    let begun = host.stopwatch();
    let pinned = host.files.pin();
    let snapshot = Arc::clone(&pinned.0);
    let ts = snapshot.ts;
    let blobs = Overlay::new(Arc::clone(host.files.blobs()), pinned, limits::FILES_MEMORY_BYTES);
    let origin = Origin { snapshot, blobs: Arc::new(blobs), schedules };
    // On a task of its own: whoever asked may go away before it serves, and then it ends.
    let starting = tokio::spawn(async move {
        let Forked { url, site_url, admin_key, stop } = forks.fork(origin).await?;
        let held = Held { stop: Some(stop), place: Some(place) };
        Ok((held, url, site_url, admin_key))
    });
    let started = starting.await.unwrap_or_else(|error| Err(error.to_string()));
    let started = started.map_err(|why: String| Failure::bad("ForkFailed", why));
    let (held, url, site_url, admin_key) = started?;
    let line = json!({
        "url": url, "siteUrl": site_url, "adminKey": admin_key, "ts": ts.to_string(),
        "milliseconds": host.elapsed(begun) as f64 / 1e6,
    });
    let open = host.forks.open.subscribe();
    let first = Some(format!("{line}\n"));
    let beats = stream::unfold((held, open, first), |(held, mut open, first)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, std::io::Error>(Bytes::from(first)), (held, open, None)));
        }
        let goes_on = tokio::select! {
            _ = open.wait_for(|open| !open) => false,
            () = tokio::time::sleep(BEAT) => true,
        };
        goes_on.then(|| (Ok(Bytes::from("\n")), (held, open, None)))
    });
    Ok(Response::new(Body::from_stream(beats)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        let running = Running::default();
        let mut places: Vec<_> = (0..limits::FORKS).map(|_| running.enter().unwrap()).collect();
        assert_eq!(running.enter().map(drop).unwrap_err().code, "TooManyForks");
        places.pop();
        assert!(running.enter().is_ok(), "one has ended, and the refused one took no place");
    }
}
