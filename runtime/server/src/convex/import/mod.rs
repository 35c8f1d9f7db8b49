//! Imports (`convex-compat.md` section 6.13): upload, look, confirm, perform.
//!
//! ```text
//!   start_upload ─▶ upload_part × n ─▶ finish_upload ─▶ (prepare.rs) ─▶ waiting_for_confirmation
//!   perform_import ─▶ in_progress ─▶ (perform.rs: one commit) ─▶ completed │ failed
//!   cancel_import  ─▶ failed, unless that commit was made
//!   /api/import    ─▶ all of it in one request (once.rs)
//!   what is under way, and how it goes: state.rs
//! ```
//! In: parts of a file; what to do with it. Out: a row that the operator follows, and one commit.
//! Invariant: nothing changes before it is confirmed, and then all of it or nothing: the row says
//! `completed` in the very commit that writes the documents. What is under way is bounded, and gone
//! when the host ends.

mod once;
mod perform;
mod prepare;
mod state;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use database::id::DocumentId;
use database::import::Mode;
use database::limits;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::json;
use storage::BlobId;

use super::json as answer;
use crate::archive::Rows;
use crate::files::{FileError, Incoming, stalled};
use crate::host::Host;
use crate::refusal::Failure;
use crate::request::{self, CALL_BODY};

pub(crate) use once::once;
pub(crate) use state::Imports;
pub(super) use state::{list, one};

/// Why a canceled import failed.
const CANCELED: &str = "The import was canceled.";
/// How long one that nobody goes on with may stay, or one that failed be silent, when it is time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);
/// What came of one that failed.
const NOTHING: &str = "Nothing was imported.";

/// What the operator wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    table_name: Option<String>,
    component_path: Option<String>,
    #[serde(default)]
    mode: WantedMode,
    format: WantedFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WantedMode {
    #[default]
    RequireEmpty,
    Append,
    Replace,
    ReplaceAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WantedFormat {
    Csv,
    JsonLines,
    JsonArray,
    Zip,
}

impl WantedMode {
    fn mode(self) -> Mode {
        match self {
            Self::RequireEmpty => Mode::RequireEmpty,
            Self::Append => Mode::Append,
            Self::Replace => Mode::Replace,
            Self::ReplaceAll => Mode::ReplaceAll,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::RequireEmpty => "requireEmpty",
            Self::Append => "append",
            Self::Replace => "replace",
            Self::ReplaceAll => "replaceAll",
        }
    }
}

impl WantedFormat {
    /// `None`: a zip.
    fn rows(self) -> Option<Rows> {
        match self {
            Self::Csv => Some(Rows::Csv),
            Self::JsonLines => Some(Rows::Lines),
            Self::JsonArray => Some(Rows::Array),
            Self::Zip => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonLines",
            Self::JsonArray => "jsonArray",
            Self::Zip => "zip",
        }
    }
}

impl Wanted {
    fn component(&self) -> &str {
        self.component_path.as_deref().unwrap_or_default()
    }

    /// Whether a table is named where one must be, and only there.
    fn check(&self) -> Result<(), Failure> {
        match (self.format.rows(), &self.table_name) {
            (None, Some(table)) => Err(Failure::bad(
                "InvalidName",
                format!("A zip names its own tables, so {table:?} cannot be named beside it."),
            )),
            (Some(_), None) => Err(Failure::bad(
                "InvalidName",
                format!("The format {} needs the name of a table.", self.format.name()),
            )),
            _ => Ok(()),
        }
    }
}

/// `POST /api/import/start_upload`
pub(crate) async fn start_upload(
    State(host): State<Arc<Host>>,
    head: Parts,
) -> Result<Response, Failure> {
    host.admin_key.require(&head, None)?;
    host.imports.tidy(&host);
    let token = host.files.fresh_name().to_string();
    host.imports.begin(&token, host.config.world.now())?;
    Ok(answer(json!({ "uploadToken": token }).to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    upload_token: String,
    part_number: u64,
}

/// `POST /api/import/upload_part?uploadToken=&partNumber=`: gives the part's token.
pub(crate) async fn upload_part(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let Part { upload_token, part_number } = request::parameters(&head.uri)?;
    host.imports.check(&upload_token, part_number)?;
    let incoming = receive(&host, body).await?;
    to_its_end(async move {
        let blob = incoming.keep_blob().await?;
        if let Err(failure) = host.imports.part(&upload_token, part_number, blob) {
            delete(&host, vec![blob]).await;
            return Err(failure);
        }
        Ok(answer(json!(blob.to_string()).to_string()))
    })
    .await
}

/// Takes the bytes of a body; they are no blob yet.
async fn receive(host: &Host, mut body: Body) -> Result<Incoming, Failure> {
    let mut incoming = host.files.receive().await?;
    let patience = Duration::from_millis(limits::UPLOAD_STALL_MS);
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| stalled())?;
        match frame {
            Some(Ok(frame)) => {
                incoming = incoming.push(frame.into_data().unwrap_or_default()).await?;
            }
            Some(Err(error)) => return Err(FileError::Cut(error.to_string()).into()),
            None => return Ok(incoming),
        }
    }
}

/// Runs what whoever asked may not stop by going away: between blobs and who owns them.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(lost()))
}

fn lost() -> Failure {
    let text = "The import ended without a result. Nothing was imported.";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", text)
}

/// An import of these blobs begins.
async fn enter(host: &Host, wanted: &Wanted, blobs: &[BlobId]) -> Result<DocumentId, Failure> {
    match state::add(host, wanted).await {
        Ok(id) => {
            host.imports.enter(id, blobs.to_vec(), host.config.world.now());
            Ok(id)
        }
        Err(failure) => {
            delete(host, blobs.to_vec()).await;
            Err(failure)
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finish {
    import: Wanted,
    upload_token: String,
    part_tokens: Vec<String>,
}

/// `POST /api/import/finish_upload`: begins to read what was uploaded.
pub(crate) async fn finish_upload(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let body = request::read(body, CALL_BODY).await?;
    let Finish { import, upload_token, part_tokens } = request::parse(&body)?;
    import.check()?;
    host.imports.tidy(&host);
    to_its_end(async move {
        let blobs = host.imports.take_upload(&upload_token, &part_tokens)?;
        let id = enter(&host, &import, &blobs).await?;
        // Its row says what comes of it.
        let work = move || drop(prepare::prepare(&host, id, &import, &blobs));
        tokio::task::spawn_blocking(work);
        Ok(answer(json!({ "importId": id.encode() }).to_string()))
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    import_id: String,
}

/// `POST /api/perform_import`: does what was asked for.
pub(crate) async fn perform(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let id = named(&host, request).await?;
    let prepared = host.imports.confirm(&id)?;
    let (done, started) = tokio::sync::oneshot::channel();
    let begun = move || {
        // Whoever confirmed it may be gone.
        let _ = done.send(());
    };
    tokio::task::spawn_blocking(move || drop(perform::perform(&host, *prepared, begun)));
    // Whoever follows the row sees it under way before this answers.
    let _ = started.await;
    Ok(answer("null"))
}

/// `POST /api/cancel_import`: one that waits has failed then; one that runs stops before its
/// commit, or is over.
pub(crate) async fn cancel(
    State(host): State<Arc<Host>>,
    request: Request,
) -> Result<Response, Failure> {
    let id = named(&host, request).await?;
    let Some(prepared) = host.imports.cancel(&id)? else { return Ok(answer("null")) };
    let work = move || {
        state::fail(&host, prepared.id, &format!("{CANCELED}\n{NOTHING}"));
        host.imports.leave(&host, prepared.id);
    };
    // It runs to its end by itself.
    let _ = tokio::task::spawn_blocking(work).await;
    Ok(answer("null"))
}

/// Sees to what nobody goes on with for as long as it is polled.
pub(crate) async fn tend(host: Arc<Host>) {
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        host.imports.tidy(&host);
        let host = Arc::clone(&host);
        // A panic ends one look.
        let _ = tokio::task::spawn_blocking(move || state::say(&host)).await;
    }
}

async fn named(host: &Host, request: Request) -> Result<String, Failure> {
    let (head, body) = request.into_parts();
    host.admin_key.require(&head, None)?;
    let body = request::read(body, CALL_BODY).await?;
    let Named { import_id } = request::parse(&body)?;
    Ok(import_id)
}

async fn delete(host: &Host, blobs: Vec<BlobId>) {
    let store = Arc::clone(host.files.blobs());
    // What cannot be deleted goes at the next start.
    let work = move || blobs.into_iter().for_each(|blob| drop(store.delete(blob)));
    let _ = tokio::task::spawn_blocking(work).await;
}

fn not_found(what: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "ImportNotFound", what)
}
