//! Exports (`convex-compat.md` section 6.12): a moment is pinned when it is asked for, and written
//! as a zip while it is downloaded.
//!
//! In: what to export. Out: a row that says it is there; then a stream. Invariant: the zip is the
//! deployment at one timestamp, whatever is written meanwhile; it takes no room before it is sent,
//! and needs none on the host's disk; its moment is held until it expires, is canceled, or a newer
//! one takes its place; a download that is cut says why to the operator, and to whoever asks again.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use database::backup_rows::Backups;
use database::error::UserError;
use database::id::DocumentId;
use database::json::encode;
use database::limits;
use database::record::Timestamp;
use database::transaction::Transaction;
use database::value::Value;
use serde::Deserialize;
use serde_json::json;

use super::json as answer;
use super::system::Answered;
use crate::archive::{ArchiveError, Exported, write};
use crate::copy::{Pipe, piped};
use crate::host::Host;
use crate::pins::Pinned;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY};

/// What can be downloaded.
#[derive(Default)]
pub(crate) struct Exports {
    newest: Mutex<Option<Arc<Held>>>,
    asking: AtomicBool,
}

/// An export is being started, until this is dropped.
struct Asking<'a>(&'a Exports);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Release);
    }
}

/// A moment that is held.
#[derive(Clone)]
struct Held {
    row: DocumentId,
    pinned: Arc<Pinned>,
    component: Option<String>,
    with_files: bool,
    /// The row, if it could not be kept.
    unkept: Option<Arc<str>>,
    /// Why a download was cut: code and text. The next one would be cut too.
    failed: Arc<OnceLock<(&'static str, String)>>,
}

impl Held {
    fn ts(&self) -> Timestamp {
        self.pinned.0.ts
    }

    /// A download was cut, which cannot say why: the operator is told, and whoever asks again.
    fn fail(&self, host: &Host, why: &io::Error) {
        let archive = why.get_ref().and_then(|why| why.downcast_ref());
        let code = match archive {
            Some(ArchiveError::Wrong(error)) => error.code,
            _ => "ExportFailed",
        };
        (host.config.warn)(&format!("An export was cut off, and is not whole: {why}"));
        // Two that fail at once fail alike.
        let _ = self.failed.set((code, why.to_string()));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    include_storage: bool,
    component: Option<String>,
}

/// `POST /api/export/request/zip?includeStorage=&component=`
pub(crate) async fn request(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let asked: Asked = request::parameters(&head.uri)?;
    if host.exports.asking.swap(true, Ordering::AcqRel) {
        let text = "An export is being started at this moment. Try again.";
        return Err(Failure::bad("ExportInProgress", text));
    }
    // Whoever asked may go away in the middle.
    let asking = Asking(&host.exports);
    let held = hold(&host, asked).await?;
    drop(asking);
    let ts = held.ts();
    keep(host, held, Duration::from_millis(limits::EXPORT_KEPT_MS));
    Ok(answer(json!({ "startTs": ts.to_string() }).to_string()))
}

/// Keeps a moment so long, unless another one takes its place.
fn keep(host: Arc<Host>, held: Held, time: Duration) {
    let held = Arc::new(held);
    // Whoever waits does not hold it: it may be let go before.
    let waited = Arc::downgrade(&held);
    *host.exports.newest() = Some(held);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        let mut newest = host.exports.newest();
        if newest.as_ref().is_some_and(|newest| Arc::as_ptr(newest) == waited.as_ptr()) {
            *newest = None;
        }
    });
}

/// `POST /api/export/cancel/{id}`: lets go of the moment. A download under way goes on.
pub(crate) async fn cancel(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let held = host.exports.of(&id)?;
    *host.exports.newest() = None;
    note(&host, held.row, ("state", Value::String("canceled".to_owned()))).await?;
    Ok(answer("null"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expiration {
    expiration_ts_ns: u64,
}

/// `POST /api/export/set_expiration/{id}`
pub(crate) async fn set_expiration(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let body = request::read(body, CALL_BODY).await?;
    let Expiration { expiration_ts_ns: until } = request::parse(&body)?;
    let held = host.exports.of(&id)?;
    let left = Duration::from_nanos(until.saturating_sub(host.config.world.now()));
    let most = Duration::from_millis(limits::EXPORT_KEPT_MS);
    if left > most {
        let text = format!(
            "An export is kept for {} minutes at most: what was deleted since takes memory until \
             then. Download it.",
            most.as_secs() / 60
        );
        return Err(Failure::bad("InvalidExpiration", text));
    }
    let row = held.row;
    keep(Arc::clone(&host), (*held).clone(), left);
    note(&host, row, ("expiration_ts", integer(until))).await?;
    Ok(answer("null"))
}

/// Changes a field of an export's row.
async fn note(
    host: &Host,
    row: DocumentId,
    (field, value): (&'static str, Value),
) -> Result<(), Failure> {
    let set = move |now: &mut Transaction| {
        Ok::<_, UserError>(now.set_backup(Backups::Exports, row, field, value))
    };
    let (_, ts) = host.files.commit("export", set).await?;
    Ok(host.files.durable(ts).await?)
}

fn integer(ts: u64) -> Value {
    Value::Int64(i64::try_from(ts).unwrap_or(i64::MAX))
}

/// Pins the newest durable moment, and notes that it is there.
async fn hold(host: &Host, asked: Asked) -> Result<Held, Failure> {
    let pinned = host.files.pin();
    let snapshot = &pinned.0;
    let Asked { include_storage: with_files, component } = asked;
    let component = component.filter(|component| !component.is_empty());
    if let Some(component) = component.as_ref().filter(|path| !snapshot.has_component(path)) {
        let text = format!("There is no component {component:?}.");
        return Err(Failure::bad("ComponentPathNotFound", text));
    }
    let text = |text: &str| Value::String(text.to_owned());
    let (ts, kept) = (snapshot.ts.0, limits::EXPORT_KEPT_MS * 1_000_000);
    let format = [("format", text("zip")), ("include_storage", Value::Boolean(with_files))];
    let format = format.map(|(name, value)| (name.to_owned(), value));
    let fields = [
        ("state", text("completed")),
        ("start_ts", integer(ts)),
        ("complete_ts", integer(ts)),
        ("expiration_ts", integer(host.config.world.now().saturating_add(kept))),
        ("zip_object_key", text(&ts.to_string())),
        ("format", Value::Object(format.into())),
        ("component", component.as_deref().map_or(Value::Null, text)),
        ("requestor", text("snapshotExport")),
    ];
    let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let row = fields.clone();
    let add = move |now: &mut Transaction| Ok(now.add_backup(Backups::Exports, row));
    let (row, at) = host.files.commit("export", add).await?;
    // Where nothing can be written any more, the data must still get out.
    let is_kept = host.files.durable(at).await.is_ok();
    let unkept = (!is_kept).then(|| row_in_memory(row, at, fields));
    Ok(Held { row, pinned, component, with_files, unkept, failed: Arc::default() })
}

/// A row as if it were kept, encoded.
fn row_in_memory(row: DocumentId, at: Timestamp, mut fields: BTreeMap<String, Value>) -> Arc<str> {
    fields.insert("_id".to_owned(), Value::String(row.encode()));
    fields.insert("_creationTime".to_owned(), Value::Float64(at.0 as f64 / 1e6));
    encode(&Value::Object(fields)).into()
}

impl Exports {
    fn newest(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        // Each change is a single store.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The export of a row.
    fn of(&self, row: &str) -> Result<Arc<Held>, Failure> {
        let row = DocumentId::decode(row);
        let held = self.newest().clone().filter(|held| Some(held.row) == row);
        held.ok_or_else(|| not_found("There is no such export any more."))
    }
}

/// `GET /api/export/zip/{ts}`
pub(crate) async fn download(
    State(host): State<Arc<Host>>,
    Path(ts): Path<String>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    let held = host.exports.newest().clone().filter(|held| held.ts().to_string() == ts);
    let Some(held) = held else {
        let text = format!(
            "There is no export at {ts} to download: it is an hour old, the host was started \
             again, or a newer one took its place. Ask for a new one."
        );
        return Err(not_found(&text));
    };
    if let Some((code, why)) = held.failed.get() {
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, *code, why));
    }
    let (files, name) = (Arc::clone(&host.files), &host.config.instance_name);
    let disposition = format!("attachment; filename=snapshot_{name}_{ts}.zip");
    let (this, host) = (Arc::clone(&held), Arc::clone(&host));
    let send = move |pipe: &mut Pipe| {
        let what = Exported {
            snapshot: &held.pinned.0,
            component: held.component.as_deref(),
            files: held.with_files.then(|| &**files.blobs()),
        };
        write(&what, pipe).map(drop).map_err(io::Error::other)
    };
    let body = piped(send, move |why| this.fail(&host, why));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

fn not_found(what: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "ExportNotFound", what)
}

/// `_system/cli/exports:getLatest`
pub(super) fn latest(host: &Host) -> Answered {
    let snapshot = host.database.snapshot();
    let unkept = host.exports.newest().as_ref().and_then(|held| held.unkept.clone());
    let kept = snapshot.backups(Backups::Exports).next_back();
    let newest = unkept.as_deref().or_else(|| kept.map(|row| row.json()));
    let value = newest.unwrap_or("null").to_owned();
    Answered { value, reads: snapshot.backup_reads(Backups::Exports) }
}
