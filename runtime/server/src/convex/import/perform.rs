//! Performs an import: files first, then everything in one commit.
//!
//! In: an import that was confirmed. Out: its row says `completed` or `failed`. Invariant: blobs of
//! an import that fails are deleted again; documents of one that fails were never seen.

use std::sync::Arc;

use database::backup_rows::Backups;
use database::commit::Writer;
use database::error::UserError;
use database::files::StoredFile;
use database::import::ImportFiles;
use database::record::Timestamp;
use database::snapshot::Snapshot;

use super::prepare::{Prepared, room};
use super::state::{self, Progress};
use crate::archive::{ArchiveError, Entry};
use crate::host::Host;
use crate::pins::Claims;

/// How many times it may lose to others before it commits while they wait.
const LOSSES: usize = 2;
/// Files between two words about progress.
const FILES_A_WORD: usize = 100;

/// Performs an import to its end; `started` hears when its row says that it is under way. Gives how
/// many documents and files came.
///
/// # Errors
/// Why nothing was imported; the row says so too.
pub(super) fn perform(
    host: &Arc<Host>,
    prepared: Prepared,
    started: impl FnOnce(),
) -> Result<u64, ArchiveError> {
    let Prepared { id, size, .. } = prepared;
    let message = format!("Importing {size} documents");
    state::set(host, id, Progress::Running { message });
    started();
    state::step(host, id, || import(host, prepared))?;
    host.imports.leave(host, id);
    Ok(size)
}

fn import(host: &Arc<Host>, mut prepared: Prepared) -> Result<(), ArchiveError> {
    // It may have waited for long.
    prepared.needs.check(room(host))?;
    let mut claims = Claims::new(&host.files);
    // From here on nobody deletes the blobs that it finds.
    let pinned = host.files.pin();
    place_files(host, &mut prepared, &pinned.0, &mut claims)?;
    host.imports.check_wanted(prepared.id)?;
    let ts = commit(host, &prepared)?;
    // What is kept on disk now takes memory on its way there.
    drop(prepared.import);
    host.database.wait_durable(ts).map_err(UserError::from)?;
    claims.committed();
    Ok(())
}

/// Gives every file its blob. Blobs get their names back where those are free, so that URLs stay as
/// they were; a file that is as it was keeps its blob.
fn place_files(
    host: &Host,
    prepared: &mut Prepared,
    snapshot: &Snapshot,
    claims: &mut Claims,
) -> Result<(), ArchiveError> {
    let Some((zip, entries)) = &mut prepared.files else { return Ok(()) };
    let (mut placed, count) = (0_usize, entries.iter().map(Vec::len).sum::<usize>());
    for (ImportFiles { component, files }, entries) in prepared.import.files.iter_mut().zip(entries)
    {
        for (file, entry) in files.iter_mut().zip(entries) {
            if placed.is_multiple_of(FILES_A_WORD) {
                let message = format!("Storing files: {placed} of {count}");
                state::set(host, prepared.id, Progress::Running { message });
            }
            placed += 1;
            host.imports.check_wanted(prepared.id)?;
            if let Some(there) = there(host, snapshot, component, entry) {
                // What was exported is; somebody may have changed the zip since.
                zip.copy(*entry, None)?;
                (file.blob, file.size) = (there.blob, there.size);
                continue;
            }
            let mut draft = host.files.blobs().create()?;
            (file.sha256, file.size) = zip.copy(*entry, Some(&mut *draft))?;
            let name = claims.claim(entry.before)?;
            draft.keep(name)?;
            file.blob = name.to_string();
        }
    }
    Ok(())
}

/// The component's file that has the entry's bytes and its name.
fn there(host: &Host, snapshot: &Snapshot, component: &str, entry: &Entry) -> Option<StoredFile> {
    let before = entry.before?;
    let file = snapshot.file_of_blob(component, &before.to_string())?;
    let is_same = entry.promised == Some(file.sha256);
    (is_same && matches!(host.files.blobs().open(before), Ok(Some(_)))).then_some(file)
}

/// Commits beside traffic; if that changes what the import replaces again and again, before it.
fn commit(host: &Host, prepared: &Prepared) -> Result<Timestamp, UserError> {
    let database = &host.database;
    let writer = || Writer::new("import", prepared.id.encode());
    for _ in 0..LOSSES {
        let given = host.files.given();
        let mut now = database.begin(database.newest(), &given, false);
        write(prepared, &mut now, given.now)?;
        if let Ok(committed) = database.commit(now, given.now, writer()) {
            return Ok(committed.ts);
        }
    }
    let turn = database.turn();
    let given = host.files.given();
    let mut now = turn.begin(&given, false);
    write(prepared, &mut now, given.now)?;
    let committed = turn.commit(now, given.now, writer());
    Ok(committed.expect("what begins under the turn cannot conflict").ts)
}

fn write(
    prepared: &Prepared,
    now: &mut database::transaction::Transaction,
    ts: u64,
) -> Result<(), UserError> {
    let rows = now.import(&prepared.import)?;
    let done = Progress::Completed { ts, rows }.value();
    now.set_backup(Backups::Imports, prepared.id, "state", done);
    Ok(())
}
