//! What imports are under way, and the rows that say how each goes.
//!
//! In: steps of the operator. Out: rows of the hidden table of imports. Invariant: every blob of an
//! upload belongs to exactly one entry here, and is deleted with it; an import that an earlier
//! process left behind shows as failed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use database::backup_rows::Backups;
use database::commit::Database;
use database::document::Document;
use database::error::UserError;
use database::id::DocumentId;
use database::json;
use database::limits;
use database::transaction::Transaction;
use database::value::Value;
use storage::BlobId;

use super::{CANCELED, NOTHING, Wanted, not_found};
use crate::archive::ArchiveError;
use crate::convex::system::Answered;
use crate::host::Host;
use crate::refusal::Failure;

use super::prepare::Prepared;

/// Why an import failed that was under way when its host ended.
const LEFT: &str =
    "The host was started again before the import was done; nothing was imported. Import again.";

/// Uploads and imports.
pub(crate) struct Imports(Mutex<State>);

#[derive(Default)]
struct State {
    uploads: BTreeMap<String, Upload>,
    jobs: BTreeMap<DocumentId, Job>,
    /// Why imports failed whose rows do not say so yet: nobody was left to, or the disk took
    /// nothing.
    unsaid: BTreeMap<DocumentId, String>,
}

struct Upload {
    parts: BTreeMap<u64, BlobId>,
    since: u64,
}

struct Job {
    /// What was uploaded.
    blobs: Vec<BlobId>,
    /// What waits to be confirmed.
    prepared: Option<Box<Prepared>>,
    running: bool,
    /// Whether the operator wants it no more.
    canceled: bool,
    since: u64,
}

/// The states of an import, as the official CLI reads them.
pub(super) enum Progress {
    Waiting { message: String, deletes: bool },
    Running { message: String },
    Completed { ts: u64, rows: u64 },
    Failed { message: String },
}

impl Progress {
    pub(super) fn value(self) -> Value {
        let text = |text: String| Value::String(text);
        let integer = |number: u64| Value::Int64(i64::try_from(number).unwrap_or(i64::MAX));
        let (name, fields) = match self {
            Self::Waiting { message, deletes } => (
                "waiting_for_confirmation",
                vec![
                    ("message_to_confirm", text(message)),
                    ("require_manual_confirmation", Value::Boolean(deletes)),
                ],
            ),
            Self::Running { message } => (
                "in_progress",
                vec![
                    ("progress_message", text(message)),
                    ("checkpoint_messages", Value::Array(Vec::new())),
                ],
            ),
            Self::Completed { ts, rows } => {
                ("completed", vec![("timestamp", integer(ts)), ("num_rows_written", integer(rows))])
            }
            Self::Failed { message } => ("failed", vec![("error_message", text(message))]),
        };
        let fields = fields.into_iter().chain([("state", text(name.to_owned()))]);
        Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl Imports {
    /// None is under way in a host that starts.
    pub(crate) fn new(database: &Database) -> Self {
        let rows = database.newest();
        let left = rows.backups(Backups::Imports).filter(|row| !is_over(&row.value()));
        let unsaid = left.map(|row| (row.id, LEFT.to_owned())).collect();
        Self(Mutex::new(State { unsaid, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload.
    pub(super) fn begin(&self, token: &str, now: u64) -> Result<(), Failure> {
        let mut state = self.state();
        let most = limits::IMPORTS_AT_ONCE;
        if (state.uploads.len() + state.jobs.len()) as u64 >= most {
            let text = format!(
                "Too many imports at the same time: {most} are being uploaded or wait to be \
                 confirmed. Finish or cancel one."
            );
            return Err(Failure::bad("TooManyImports", text));
        }
        let upload = Upload { parts: BTreeMap::new(), since: now };
        state.uploads.insert(token.to_owned(), upload);
        Ok(())
    }

    /// Whether a part can be taken.
    pub(super) fn check(&self, token: &str, part: u64) -> Result<(), Failure> {
        if !(1..limits::IMPORT_PARTS).contains(&part) {
            let text = format!(
                "The upload has too many parts, or this one has no number: they are 1 to {}.",
                limits::IMPORT_PARTS - 1
            );
            return Err(Failure::bad("InvalidPartNumber", text));
        }
        self.state().uploads.get(token).map(drop).ok_or_else(no_upload)
    }

    /// Takes a part in.
    pub(super) fn part(&self, token: &str, part: u64, blob: BlobId) -> Result<(), Failure> {
        let mut state = self.state();
        let upload = state.uploads.get_mut(token).ok_or_else(no_upload)?;
        if upload.parts.contains_key(&part) {
            let text = format!("Part {part} of the upload is there already.");
            return Err(Failure::bad("InvalidPartNumber", text));
        }
        upload.parts.insert(part, blob);
        Ok(())
    }

    /// Ends an upload; gives its parts in order. One whose parts are not all there goes on.
    pub(super) fn take_upload(
        &self,
        token: &str,
        parts: &[String],
    ) -> Result<Vec<BlobId>, Failure> {
        let mut state = self.state();
        let upload = state.uploads.get(token).ok_or_else(no_upload)?;
        let there: Vec<String> = upload.parts.values().map(ToString::to_string).collect();
        if there != parts {
            let text = format!(
                "The upload has {} parts, and {} are named, or they are named in another order.",
                there.len(),
                parts.len()
            );
            return Err(Failure::bad("InvalidParts", text));
        }
        let upload = state.uploads.remove(token);
        Ok(upload.map(|upload| upload.parts.into_values().collect()).unwrap_or_default())
    }

    /// An import whose upload is whole.
    pub(super) fn enter(&self, id: DocumentId, blobs: Vec<BlobId>, now: u64) {
        let job = Job { blobs, prepared: None, running: true, canceled: false, since: now };
        self.state().jobs.insert(id, job);
    }

    /// It waits to be confirmed.
    ///
    /// # Errors
    /// It was canceled.
    pub(super) fn wait(&self, prepared: Box<Prepared>) -> Result<(), UserError> {
        match self.state().jobs.get_mut(&prepared.id) {
            Some(job) if !job.canceled => {
                job.running = false;
                job.prepared = Some(prepared);
                Ok(())
            }
            _ => Err(canceled()),
        }
    }

    /// Whether it waits to be confirmed still.
    fn waits(&self, id: DocumentId) -> bool {
        self.state().jobs.get(&id).is_some_and(|job| job.prepared.is_some())
    }

    /// It was confirmed, or canceled: nobody else can do either.
    pub(super) fn confirm(&self, id: &str) -> Result<Box<Prepared>, Failure> {
        let mut state = self.state();
        let job = DocumentId::decode(id).and_then(|id| state.jobs.get_mut(&id));
        let job = job.ok_or_else(|| not_found("There is no such import under way."))?;
        job.running = true;
        job.prepared.take().ok_or_else(|| {
            Failure::bad("ImportInProgress", "The import does not wait for this any more, or yet.")
        })
    }

    /// It was canceled. Gives what waited; what runs sees it by itself.
    pub(super) fn cancel(&self, id: &str) -> Result<Option<Box<Prepared>>, Failure> {
        let mut state = self.state();
        let job = DocumentId::decode(id).and_then(|id| state.jobs.get_mut(&id));
        let job = job.ok_or_else(|| not_found("There is no such import under way."))?;
        (job.running, job.canceled) = (true, true);
        Ok(job.prepared.take())
    }

    /// Whether it is still wanted.
    pub(super) fn check_wanted(&self, id: DocumentId) -> Result<(), UserError> {
        match self.state().jobs.get(&id) {
            Some(job) if job.canceled => Err(canceled()),
            _ => Ok(()),
        }
    }

    /// It is over.
    pub(super) fn leave(&self, host: &Host, id: DocumentId) {
        let job = self.state().jobs.remove(&id);
        remove(host, job.map(|job| job.blobs).unwrap_or_default());
    }

    /// Forgets what nobody has gone on with.
    pub(super) fn tidy(&self, host: &Arc<Host>) {
        let now = host.config.world.now();
        let old = |since: u64| now.saturating_sub(since) > limits::IMPORT_WAIT_MS * 1_000_000;
        let mut state = self.state();
        let uploads = state.uploads.extract_if(.., |_, upload| old(upload.since));
        let mut blobs: Vec<BlobId> =
            uploads.flat_map(|(_, upload)| upload.parts.into_values()).collect();
        let jobs: Vec<_> =
            state.jobs.extract_if(.., |_, job| !job.running && old(job.since)).collect();
        drop(state);
        let ids: Vec<DocumentId> = jobs.iter().map(|(id, _)| *id).collect();
        blobs.extend(jobs.into_iter().flat_map(|(_, job)| job.blobs));
        if blobs.is_empty() && ids.is_empty() {
            return;
        }
        let host = Arc::clone(host);
        tokio::task::spawn_blocking(move || {
            let late = "The import was not confirmed in time; nothing was imported.";
            ids.into_iter().for_each(|id| fail(&host, id, late));
            remove(&host, blobs);
        });
    }

    /// An import failed, and its row cannot say so.
    fn note(&self, database: &Database, id: DocumentId, why: &str) {
        let rows: BTreeSet<_> =
            database.newest().backups(Backups::Imports).map(|row| row.id).collect();
        let unsaid = &mut self.state().unsaid;
        unsaid.retain(|id, _| rows.contains(id));
        unsaid.insert(id, why.to_owned());
    }

    fn unsaid(&self, id: DocumentId) -> Option<String> {
        self.state().unsaid.get(&id).cloned()
    }
}

fn canceled() -> UserError {
    UserError::new("ImportCanceled", CANCELED)
}

fn no_upload() -> Failure {
    not_found("There is no such upload: it was finished, or begun more than an hour ago.")
}

fn remove(host: &Host, blobs: Vec<BlobId>) {
    // What cannot be deleted goes at the next start.
    blobs.into_iter().for_each(|blob| drop(host.files.blobs().delete(blob)));
}

/// Adds the row of an import.
pub(super) async fn add(host: &Host, wanted: &Wanted) -> Result<DocumentId, Failure> {
    let text = |text: &str| Value::String(text.to_owned());
    let state = Value::Object([("state".to_owned(), text("uploaded"))].into());
    let table = wanted.table_name.as_deref().map_or(Value::Null, text);
    let fields = [
        ("state", state),
        ("format", text(wanted.format.name())),
        ("mode", text(wanted.mode.name())),
        ("table_name", table),
        ("component_path", text(wanted.component())),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    let add = move |now: &mut Transaction| Ok(now.add_backup(Backups::Imports, fields.into()));
    let (id, ts) = host.files.commit("import", add).await?;
    host.files.durable(ts).await?;
    Ok(id)
}

/// Says how an import goes. That it cannot be said is no reason to stop. Gives whether it was.
pub(super) fn set(host: &Host, id: DocumentId, progress: Progress) -> bool {
    let value = progress.value();
    let set = |now: &mut Transaction| {
        Ok::<_, UserError>(now.set_backup(Backups::Imports, id, "state", value))
    };
    // It shows when it is durable.
    let said = host.files.commit_blocking("import", set);
    said.is_ok_and(|(_, ts)| host.database.wait_durable(ts).is_ok())
}

/// Asks for confirmation, unless somebody has confirmed or canceled it by now.
pub(super) fn ask(host: &Host, id: DocumentId, progress: Progress) {
    let value = progress.value();
    let set = |now: &mut Transaction| {
        // Under the turn: who takes it from those that wait writes the row after this.
        if host.imports.waits(id) {
            now.set_backup(Backups::Imports, id, "state", value);
        }
        Ok(())
    };
    // That it cannot be said is no reason to stop.
    let _ = host.files.commit_blocking("import", set);
}

/// Takes a step of an import; if it fails, or panics, the import has failed and is over.
pub(super) fn step<T>(
    host: &Arc<Host>,
    id: DocumentId,
    work: impl FnOnce() -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    // What it held is gone then, and what others see is changed by commits only.
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(UserError::new("InternalServerError", "The import ended in the middle.").into())
    });
    if let Err(error) = &done {
        fail(host, id, &format!("{error}\n{NOTHING}"));
        host.imports.leave(host, id);
    }
    done
}

/// It has failed.
pub(super) fn fail(host: &Host, id: DocumentId, why: &str) {
    if !set(host, id, Progress::Failed { message: why.to_owned() }) {
        host.imports.note(&host.database, id, why);
    }
}

/// Says in their rows why imports failed whose rows could not say so.
pub(super) fn say(host: &Host) {
    let unsaid = host.imports.state().unsaid.clone();
    for (id, message) in unsaid {
        let snapshot = host.database.snapshot();
        let mut rows = snapshot.backups(Backups::Imports);
        let is_said = rows.find(|row| row.id == id).is_none_or(|row| is_over(&row.value()));
        if is_said || set(host, id, Progress::Failed { message }) {
            host.imports.state().unsaid.remove(&id);
        }
    }
}

/// `_system/cli/queryImport`
pub(in crate::convex) fn one(host: &Host, id: &str) -> Result<Answered, UserError> {
    let snapshot = host.database.snapshot();
    let wanted = DocumentId::decode(id);
    let row = snapshot.backups(Backups::Imports).rev().find(|row| Some(row.id) == wanted);
    let Some(row) = row else {
        return Err(UserError::new("ImportNotFound", format!("There is no import {id:?}.")));
    };
    Ok(Answered { value: shown(host, row), reads: snapshot.backup_reads(Backups::Imports) })
}

/// `_system/cli/queryImport:list`: newest first.
pub(in crate::convex) fn list(host: &Host) -> Answered {
    let snapshot = host.database.snapshot();
    let rows = snapshot.backups(Backups::Imports).rev().map(|row| shown(host, row));
    let value = format!("[{}]", rows.collect::<Vec<_>>().join(","));
    Answered { value, reads: snapshot.backup_reads(Backups::Imports) }
}

/// A row. It is older than what is known beside it: only what nobody will ever say in it may be
/// taken from there.
fn shown(host: &Host, row: &Document) -> String {
    let mut value = row.value();
    if !is_over(&value)
        && let Some(message) = host.imports.unsaid(row.id)
        && let Value::Object(fields) = &mut value
    {
        fields.insert("state".to_owned(), Progress::Failed { message }.value());
    }
    json::encode(&value)
}

/// Whether the row says how the import ended.
fn is_over(row: &Value) -> bool {
    matches!(
        row.field("state.state"),
        Some(Value::String(state)) if state == "completed" || state == "failed"
    )
}
