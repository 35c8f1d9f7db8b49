//! Connections to SQLite, and its errors in our words.
//!
//! In: paths. Out: connections that sync every commit. Invariant: a failure of the disk, a full
//! disk and a damaged file are told apart.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::log::StoreError;

/// How long one connection waits for another of this process.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages of a write-ahead log after which a commit moves it into its database: 16 MiB.
const PAGES: u32 = 4_096;
/// The same where somebody moves it beside the commits, and is late: 64 MiB.
const PAGES_OF_LOG: u32 = 16_384;

/// Makes a database.
pub(super) fn create(path: &Path) -> Result<Connection, StoreError> {
    connected(path, OpenFlags::SQLITE_OPEN_CREATE)
}

/// Opens a database.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    check(path)?;
    connected(path, OpenFlags::empty())
}

fn connected(path: &Path, more: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", PAGES)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(connection)
    });
    opened.map_err(|error| failed(&name(path), &error))
}

/// SQLite opens what may not be written to read it, and does not say why it opens something not;
/// an empty file is an empty database to it, and none of ours.
fn check(path: &Path) -> Result<(), StoreError> {
    let name = name(path);
    let opened = OpenOptions::new().read(true).write(true).open(path);
    match opened.and_then(|file| file.metadata()) {
        Ok(found) if found.len() == 0 => Err(StoreError::empty(&name)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::missing(&name)),
        Err(error) => Err(StoreError::of(&name, &error)),
    }
}

/// Opens a database whose write-ahead log somebody else moves.
pub(super) fn open_log(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    let set = connection.pragma_update(None, "wal_autocheckpoint", PAGES_OF_LOG);
    set.map(|()| connection).map_err(|error| failed(&name(path), &error))
}

/// Opens a database beside the connection that writes; or one that is damaged, to read what can
/// still be read: SQLite reads no page of a file that is too short, unless it is told so.
pub(super) fn open_to_read(path: &Path, is_damaged: bool) -> Result<Connection, StoreError> {
    check(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "writable_schema", is_damaged)?;
        Ok(connection)
    });
    opened.map_err(|error| failed(&name(path), &error))
}

/// Bytes of a database that are in use.
pub(super) fn size(file: &str, connection: &Connection) -> Result<u64, StoreError> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let used = || {
        let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        Ok(pages * number("PRAGMA page_size")?)
    };
    let used: Result<i64, rusqlite::Error> = used();
    used.map(|bytes| u64::try_from(bytes).unwrap_or(0)).map_err(|error| failed(file, &error))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What SQLite said, in the words of a store.
pub(super) fn failed(file: &str, error: &rusqlite::Error) -> StoreError {
    let text = format!("{file}: {error}");
    let damaged = |what: &str| StoreError::Damaged { file: file.to_owned(), what: what.to_owned() };
    let Some(code) = error.sqlite_error() else {
        // A value that is not of its column's type.
        return damaged(&error.to_string());
    };
    match (code.code, code.extended_code) {
        (_, ffi::SQLITE_IOERR_SHORT_READ) => damaged("it is shorter than it was"),
        // Our words to SQLite never change: its tables are others.
        (_, ffi::SQLITE_ERROR) => damaged(&error.to_string()),
        (ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => {
            StoreError::Denied(text)
        }
        (ErrorCode::DiskFull, _) => StoreError::Full(text),
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => damaged(&error.to_string()),
        _ => StoreError::Failed(text),
    }
}
