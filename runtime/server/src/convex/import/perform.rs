//! Performs an import: files first, then everything in one commit.
//!
//! In: an import that was confirmed. Out: its row says `completed` or `failed`. Invariant: blobs of
//! an import that fails are deleted again; documents of one that fails were never seen.

use std::sync::Arc;

use database::backup_rows::Backups;
use database::commit::Writer;
use database::error::UserError;
use database::import::ImportFiles;
use database::record::Timestamp;
use storage::BlobId;

use super::NOTHING;
use super::prepare::{Prepared, room};
use super::state::{self, Progress};
use crate::archive::ArchiveError;
use crate::host::Host;

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
    let mut kept = Vec::new();
    let done = import(host, prepared, &mut kept);
    if let Err(error) = &done {
        kept.into_iter().for_each(|blob: BlobId| drop(host.files.blobs().delete(blob)));
        state::fail(host, id, &format!("{error}\n{NOTHING}"));
    }
    host.imports.leave(host, id);
    done.map(|()| size)
}

fn import(host: &Host, mut prepared: Prepared, kept: &mut Vec<BlobId>) -> Result<(), ArchiveError> {
    // It may have waited for long.
    prepared.needs.check(room(host))?;
    copy_files(host, &mut prepared, kept)?;
    host.imports.check_wanted(prepared.id)?;
    let ts = commit(host, &prepared)?;
    // What is kept on disk now takes memory on its way there.
    drop(prepared.import);
    let durable = host.database.wait_durable(ts);
    // Until here nobody deletes the blobs that it found.
    drop(prepared.pinned);
    Ok(durable.map_err(UserError::from)?)
}

/// Keeps the bytes of the import's files.
fn copy_files(
    host: &Host,
    prepared: &mut Prepared,
    kept: &mut Vec<BlobId>,
) -> Result<(), ArchiveError> {
    let Some((zip, entries)) = &mut prepared.files else { return Ok(()) };
    let count: usize = entries.iter().map(Vec::len).sum();
    for (ImportFiles { files, .. }, entries) in prepared.import.files.iter_mut().zip(entries) {
        for (file, entry) in files.iter_mut().zip(entries) {
            let Some(entry) = entry else { continue };
            if kept.len().is_multiple_of(FILES_A_WORD) {
                let message = format!("Storing files: {} of {count}", kept.len());
                state::set(host, prepared.id, Progress::Running { message });
            }
            host.imports.check_wanted(prepared.id)?;
            let mut draft = host.files.blobs().create()?;
            (file.sha256, file.size) = zip.copy(*entry, &mut *draft)?;
            let name = file.blob.parse().map_err(std::io::Error::other)?;
            draft.keep(name)?;
            kept.push(name);
        }
    }
    Ok(())
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
