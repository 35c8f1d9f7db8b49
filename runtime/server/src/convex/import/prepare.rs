//! Reads what was uploaded, and says what it would change.
//!
//! In: the parts of a file. Out: an import that waits to be confirmed, or why it cannot be one.
//! Invariant: nothing is written but the import's row.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::Arc;

use database::error::UserError;
use database::id::DocumentId;
use database::import::{Import, ImportTable, TableChange};
use database::snapshot::Snapshot;
use storage::BlobId;

use super::state::{self, Progress};
use super::{Wanted, WantedFormat};
use crate::archive::{ArchiveError, Budget, Entry, Needs, Parts, Room, Zip, Zipped, rows};
use crate::host::Host;

/// What every question ends with.
const LAST: &str =
    "Once the import has started, it runs in the host, whatever becomes of the command.";

/// An import that can be performed.
pub(crate) struct Prepared {
    /// Its row.
    pub(super) id: DocumentId,
    /// What to write.
    pub(super) import: Import,
    /// Where the bytes of its files are.
    pub(super) files: Option<(Zip, Vec<Vec<Entry>>)>,
    /// How many documents and files it has.
    pub(super) size: u64,
    /// The memory it takes.
    pub(super) needs: Needs,
}

/// Reads an upload, and asks for confirmation.
///
/// # Errors
/// What is wrong; the row says so too.
pub(super) fn prepare(
    host: &Arc<Host>,
    id: DocumentId,
    wanted: &Wanted,
    blobs: &[BlobId],
) -> Result<(), ArchiveError> {
    let progress = state::step(host, id, || {
        let (prepared, progress) = read(host, id, wanted, blobs)?;
        host.imports.wait(Box::new(prepared))?;
        Ok(progress)
    })?;
    state::ask(host, id, progress);
    Ok(())
}

fn read(
    host: &Host,
    id: DocumentId,
    wanted: &Wanted,
    blobs: &[BlobId],
) -> Result<(Prepared, Progress), ArchiveError> {
    let snapshot = host.database.snapshot();
    let component: Arc<str> = wanted.component().into();
    if !snapshot.has_component(&component) {
        let text = format!(
            "There is no component {component:?}; {}. Push it first.",
            names(snapshot.components())
        );
        return Err(UserError::new("ComponentPathNotFound", text).into());
    }
    let mut budget = Budget::within(room(host), &snapshot);
    let parts = Parts::new(Arc::clone(host.files.blobs()), blobs)?;
    let (import, files, ignored) = match (wanted.format.rows(), &wanted.table_name) {
        (Some(format), Some(name)) => {
            let source = format!("{name}.{}", extension(wanted.format));
            budget.begin(&component, name);
            let rows = rows(&source, BufReader::new(parts), format, &mut budget)?;
            let (component_of, name, number) = (Arc::clone(&component), name.as_str().into(), None);
            let table = ImportTable { component: component_of, name, number, source, rows };
            let mode = wanted.mode.mode();
            (Import { mode, component, tables: vec![table], files: Vec::new() }, None, Vec::new())
        }
        _ => {
            let zip = Zip::open(parts)?;
            let read = zip.read(wanted.mode.mode(), &component, &mut budget)?;
            let Zipped { import, entries, ignored, zip } = read;
            (import, Some((zip, entries)), ignored)
        }
    };
    let changes = import.changes(&snapshot)?;
    let deletes = changes.iter().any(|change| change.deletes > 0);
    let size = changes.iter().map(|change| change.creates).sum();
    let message = message(&changes, &ignored) + &unmounted(&changes, &snapshot) + LAST;
    let prepared = Prepared { id, import, files, size, needs: budget.needs() };
    Ok((prepared, Progress::Waiting { message, deletes }))
}

/// The room that there is in the host's memory; `None`: it is not bounded, or not measured.
pub(super) fn room(host: &Host) -> Option<Room> {
    let measured = host.config.measure.as_ref()?();
    let (budget, resident) = (measured.budget?, measured.resident?);
    let held = host.database.memory();
    // What shrinks when memory gets short is room.
    let used = (resident + measured.workers).saturating_sub(held.cache + held.history);
    Some(Room { used, budget, is_kept: measured.disk.is_some() })
}

fn extension(format: WantedFormat) -> &'static str {
    match format {
        WantedFormat::Csv => "csv",
        WantedFormat::JsonLines => "jsonl",
        WantedFormat::JsonArray => "json",
        WantedFormat::Zip => "zip",
    }
}

/// What will change, as a table.
fn message(changes: &[TableChange], ignored: &[String]) -> String {
    let mut lines = vec![["table".to_owned(), "create".to_owned(), "delete".to_owned()]];
    for change in changes {
        let name = match &*change.component {
            "" => change.name.to_string(),
            component => format!("{component}:{}", change.name),
        };
        let deletes = match (change.deletes, change.there) {
            (0, 0) => String::new(),
            (deletes, there) => format!("{deletes} of {there}"),
        };
        lines.push([name, change.creates.to_string(), deletes]);
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let [first, second, third] = [width(0), width(1), width(2)];
    let mut text = "Import change summary:\n".to_owned();
    for (at, [name, creates, deletes]) in lines.iter().enumerate() {
        let line = format!("{name:first$} | {creates:second$} | {deletes:third$} |");
        text += line.trim_end();
        text.push('\n');
        if at == 0 {
            text += &"-".repeat(line.len());
            text.push('\n');
        }
    }
    if !ignored.is_empty() {
        text += &format!("Not imported, because it means nothing here: {}\n", ignored.join(", "));
    }
    text
}

/// What to know of components that the code does not have. As with Convex, what is theirs is
/// imported: it waits for a push that mounts them.
fn unmounted(changes: &[TableChange], snapshot: &Snapshot) -> String {
    let mounted = snapshot.deployment.as_ref().map(|now| &now.analysis.components);
    let is_mounted = |path: &str| {
        path.is_empty() || mounted.is_some_and(|components| components.unit(path).is_some())
    };
    let into = changes.iter().filter(|change| change.creates > 0).map(|change| &change.component);
    let missing: BTreeSet<&Arc<str>> = into.filter(|path| !is_mounted(path)).collect();
    let there = names(snapshot.components().filter(|path| is_mounted(path)));
    let line = |path: &Arc<str>| {
        format!(
            "No component is mounted at {path:?} ({there}): what is imported into it is seen by no \
             function until a push mounts it there.\n"
        )
    };
    missing.into_iter().map(line).collect()
}

/// The components that there are.
fn names<'a>(components: impl Iterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<_> =
        components.filter(|path| !path.is_empty()).map(|path| format!("{path:?}")).collect();
    if names.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convex::import::CANCELED;
    use crate::tests::host_alone;
    use database::backup_rows::Backups;
    use serde_json::json;

    /// An import of no rows that waits from the next step on.
    async fn read_one(host: &Arc<Host>) -> (Prepared, Progress) {
        let wanted = json!({ "format": "csv", "tableName": "t" });
        let wanted: Wanted = serde_json::from_value(wanted).unwrap();
        let id = crate::convex::import::enter(host, &wanted, &[]).await.ok().unwrap();
        read(host, id, &wanted, &[]).unwrap()
    }

    fn state(host: &Host) -> String {
        let snapshot = host.database.snapshot();
        let row = snapshot.backups(Backups::Imports).next_back().unwrap().value();
        format!("{:?}", row.field("state.state"))
    }

    #[tokio::test]
    async fn an_import_that_was_canceled_while_it_was_read_does_not_wait() {
        let host = host_alone();
        let (prepared, _) = read_one(&host).await;
        let id = prepared.id;
        assert!(host.imports.cancel(&id.encode()).ok().unwrap().is_none());
        let refused = host.imports.wait(Box::new(prepared));
        assert_eq!(refused.unwrap_err().message, CANCELED);
        assert!(host.imports.confirm(&id.encode()).is_err());
    }

    #[tokio::test]
    async fn a_row_does_not_ask_for_what_was_answered() {
        let host = host_alone();
        let (prepared, progress) = read_one(&host).await;
        let id = prepared.id;
        host.imports.wait(Box::new(prepared)).unwrap();
        // Somebody cancels it before its row says that it waits.
        assert!(host.imports.cancel(&id.encode()).ok().unwrap().is_some());
        state::fail(&host, id, CANCELED);
        host.imports.leave(&host, id);
        state::ask(&host, id, progress);
        assert!(state(&host).contains("failed"), "{}", state(&host));
    }

    #[test]
    fn what_changes_is_a_table() {
        let change = |name: &str, creates, deletes, there| {
            let (component, name) = ("".into(), name.into());
            TableChange { component, name, creates, deletes, there }
        };
        let text = message(&[change("messages", 12, 3, 3), change("x", 0, 0, 0)], &["y".into()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1..5],
            [
                "table    | create | delete |",
                "----------------------------",
                "messages | 12     | 3 of 3 |",
                "x        | 0      |        |",
            ]
        );
        assert!(lines[5].ends_with(": y"), "{text}");
    }
}
