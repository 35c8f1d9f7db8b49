//! Stored files: the rows that say which blob is which file.
//!
//! In: blobs that are kept already, and deletions. Out: documents of `_storage`, as functions see
//! them, and the name of each one's blob.
//! Invariant: every document of `_storage` has exactly one in the hidden table [`BLOBS`], with the
//! same internal id; both are written and deleted together, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::catalog::{HIDDEN_INDEX, Table};
use crate::commit::Database;
use crate::document::Document;
use crate::error::UserError;
use crate::id::DocumentId;
use crate::key::{Interval, encode_value};
use crate::log::LogEntry;
use crate::record::Timestamp;
use crate::snapshot::Snapshot;
use crate::transaction::{Transaction, check_table};
use crate::value::Value;

/// The table that functions see.
pub const STORAGE: &str = "_storage";

/// The table of blobs' names.
pub(crate) const BLOBS: &str = "_blobs";

/// A stored file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFile {
    /// Its `Id<"_storage">`.
    pub id: DocumentId,
    /// Name of its blob: a UUID that nobody can guess.
    pub blob: String,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub size: u64,
    /// What whoever stored it said it is.
    pub content_type: Option<String>,
}

/// A file whose blob is kept.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// Name of the blob: a UUID.
    pub blob: &'a str,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub size: u64,
    /// What it is, if anybody knows.
    pub content_type: Option<&'a str>,
}

/// What the URL of a file ends with, that says of which component it is.
pub fn url_suffix(component: &str) -> String {
    match component {
        "" => String::new(),
        // A path is letters, digits, underscores and slashes: none needs an escape in a query.
        component => format!("?component={component}"),
    }
}

impl StoredFile {
    fn read(document: &Document, blob: &Document) -> Self {
        let value = document.value();
        let text = |value: &Value, field: &str| match value.field(field) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        let sha256 = text(&value, "sha256").and_then(|text| STANDARD.decode(text).ok());
        let size = size(&value);
        Self {
            id: document.id,
            blob: text(&blob.value(), "blob").unwrap_or_default(),
            sha256: sha256.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
            size,
            content_type: text(&value, "contentType"),
        }
    }
}

impl Transaction {
    /// Makes a kept blob a file.
    ///
    /// # Errors
    /// A query that writes, a component without file storage, a limit.
    pub fn store_file(
        &mut self,
        component: &str,
        file: NewFile<'_>,
    ) -> Result<DocumentId, UserError> {
        self.check_writable("storage.store")?;
        let (storage, _) = self.file_tables(component)?;
        let id = self.draw_id(&storage);
        let creation_time = self.draw_creation_time();
        self.write_file(component, (id, creation_time), file)?;
        Ok(id)
    }

    /// Writes both rows of a new file.
    pub(crate) fn write_file(
        &mut self,
        component: &str,
        (id, creation_time): (DocumentId, f64),
        file: NewFile<'_>,
    ) -> Result<(), UserError> {
        let (storage, blobs) = self.file_tables(component)?;
        let text = |text: &str| Value::String(text.to_owned());
        let mut fields: BTreeMap<String, Value> = BTreeMap::new();
        fields.insert("_id".into(), text(&id.encode()));
        fields.insert("_creationTime".into(), Value::Float64(creation_time));
        fields.insert("sha256".into(), text(&STANDARD.encode(file.sha256)));
        fields.insert("size".into(), Value::Float64(file.size as f64));
        if let Some(content_type) = file.content_type {
            fields.insert("contentType".into(), text(content_type));
        }
        let version = self.version(id, creation_time, fields)?;
        self.write(&storage, None, Some(version));
        let id_of_blob = DocumentId { table: blobs.number, ..id };
        let value = Value::Object(BTreeMap::from([
            ("_id".into(), text(&id_of_blob.encode())),
            ("_creationTime".into(), Value::Float64(creation_time)),
            ("blob".into(), text(file.blob)),
        ]));
        let document = Arc::new(Document::new(id_of_blob, creation_time, &value));
        self.write(&blobs, None, Some((document, value)));
        Ok(())
    }

    /// One file; that there is none is a read too. `operation` is what its author called.
    ///
    /// # Errors
    /// An id that is malformed or of another table, a limit.
    pub fn file(
        &mut self,
        component: &str,
        id: &str,
        operation: &str,
    ) -> Result<Option<StoredFile>, UserError> {
        self.count_range()?;
        let Some((_, document, blob)) = self.look_file_up(component, id, operation)? else {
            return Ok(None);
        };
        self.count_document(&document)?;
        Ok(Some(StoredFile::read(&document, &blob)))
    }

    /// Deletes a file, and gives what it was. Its blob stays for as long as a snapshot needs it.
    ///
    /// # Errors
    /// As [`Transaction::file`], a query that writes, a file that does not exist.
    pub fn delete_file(
        &mut self,
        component: &str,
        id: &str,
        operation: &str,
    ) -> Result<StoredFile, UserError> {
        self.check_writable(operation)?;
        let Some(((storage, blobs), document, blob)) =
            self.look_file_up(component, id, operation)?
        else {
            let text = format!(
                "There is no file with the id {id} to delete: it was deleted before, or the id is \
                 from another deployment."
            );
            return Err(UserError::new("StorageIdNotFound", text));
        };
        self.count_write(0)?;
        for (table, document) in [(&storage, &document), (&blobs, &blob)] {
            self.write(table, Some((Arc::clone(document), document.value())), None);
        }
        Ok(StoredFile::read(&document, &blob))
    }

    /// Counts a file whose bytes are read.
    ///
    /// # Errors
    /// The limit.
    pub fn count_file_read(&mut self, bytes: u64) -> Result<(), UserError> {
        self.usage.files_read += 1;
        self.usage.file_bytes_read += bytes;
        let (files, most_files) = (self.usage.files_read, self.budget.files_read);
        let (bytes, most_bytes) = (self.usage.file_bytes_read, self.budget.file_bytes_read);
        within([(files, most_files), (bytes, most_bytes)], "read", "TooManyFilesRead")
    }

    /// Counts a file that is stored.
    ///
    /// # Errors
    /// The limit.
    pub fn count_file_written(&mut self, bytes: u64) -> Result<(), UserError> {
        self.usage.files_written += 1;
        self.usage.file_bytes_written += bytes;
        let (files, most_files) = (self.usage.files_written, self.budget.files_written);
        let (bytes, most_bytes) = (self.usage.file_bytes_written, self.budget.file_bytes_written);
        within([(files, most_files), (bytes, most_bytes)], "stored", "TooManyFilesWritten")
    }

    /// The names of blobs whose files it stores.
    pub fn new_blobs(&self) -> BTreeSet<String> {
        let new = self.state.writes.values().filter(|write| write.before.is_none());
        let blobs = new.filter(|write| *write.table.name == *BLOBS);
        blobs.filter_map(|write| blob_name(write.after.as_ref()?)).collect()
    }

    pub(crate) fn file_tables(&self, component: &str) -> Result<FileTables, UserError> {
        let table = |name| self.state.catalog.table(component, name).cloned();
        table(STORAGE).zip(table(BLOBS)).ok_or_else(|| {
            let text = format!("The component {component:?} has no file storage.");
            UserError::new("NoFileStorage", text)
        })
    }

    fn look_file_up(
        &mut self,
        component: &str,
        id: &str,
        operation: &str,
    ) -> Result<Option<FoundFile>, UserError> {
        let id = DocumentId::decode(id).ok_or_else(|| {
            UserError::new(
                "InvalidArgument",
                format!(
                    "Invalid argument `storageId` for `{operation}`: Unable to decode ID: {id:?} \
                     is not an Id<\"{STORAGE}\">."
                ),
            )
        })?;
        let Some(table) = self.table_of(component, id) else { return Ok(None) };
        check_table(&table, Some(STORAGE), operation)?;
        let Ok((storage, blobs)) = self.file_tables(component) else { return Ok(None) };
        let Some(document) = self.look_up(&storage, id) else { return Ok(None) };
        let blob = self.look_up(&blobs, DocumentId { table: blobs.number, ..id });
        let blob = blob.expect("both rows of a file are written and deleted together");
        Ok(Some(((storage, blobs), document, blob)))
    }
}

/// `_storage` and [`BLOBS`].
pub(crate) type FileTables = (Arc<Table>, Arc<Table>);

/// A file's tables and its rows in them.
type FoundFile = (FileTables, Arc<Document>, Arc<Document>);

/// Checks a count and a sum of bytes, each with its limit.
fn within(used: [(u64, u64); 2], done: &str, code: &'static str) -> Result<(), UserError> {
    let [(files, most_files), (bytes, most_bytes)] = used;
    let (what, limit) = if files > most_files {
        ("files", most_files.to_string())
    } else if bytes > most_bytes {
        ("bytes of files", format!("{most_bytes} bytes"))
    } else {
        return Ok(());
    };
    let text = format!(
        "Too many {what} {done} in a single function execution (limit: {limit}). Use an action, \
         or several mutations."
    );
    Err(UserError::new(code, text))
}

impl Snapshot {
    /// The files of a component, by id, each with its `_creationTime`.
    pub fn files(&self, component: &str) -> impl Iterator<Item = (StoredFile, f64)> {
        let table = |name| self.catalog.table(component, name);
        let tables = table(STORAGE).zip(table(BLOBS));
        tables.into_iter().flat_map(move |(storage, blobs)| {
            self.range(storage.by_id.id, &Interval::all()).filter_map(move |(_, document)| {
                let row = self.maps.document(blobs, &document.id.internal)?;
                Some((StoredFile::read(document, row), document.creation_time))
            })
        })
    }

    /// The file whose blob has this name.
    pub fn file_of_blob(&self, component: &str, blob: &str) -> Option<StoredFile> {
        let blobs = self.catalog.table(component, BLOBS)?;
        let mut prefix = Vec::new();
        encode_value(Some(&Value::String(blob.to_owned())), &mut prefix);
        let (_, row) =
            self.range(blobs.index(HIDDEN_INDEX)?.id, &Interval::prefix(&prefix)).next()?;
        let storage = self.catalog.table(component, STORAGE)?;
        let document = self.maps.document(storage, &row.id.internal)?;
        Some(StoredFile::read(document, row))
    }
}

impl Database {
    /// The names of blobs that a snapshot shows, the newest one or one that is kept.
    pub fn known_blobs(&self) -> BTreeSet<String> {
        let newest = self.newest();
        let of_table = |table: &Arc<Table>| newest.range(table.by_id.id, &Interval::all());
        let rows = newest.catalog.tables_named(BLOBS).flat_map(of_table);
        let mut known: BTreeSet<String> = rows.filter_map(|(_, row)| blob_name(row)).collect();
        let history = self.history();
        known.extend(history.entries.iter().flat_map(|entry| entry.deleted_blobs()));
        known
    }

    /// The blobs of files that were deleted after `since`, but for the latest deletions, as many as
    /// have `most` bytes together. Gives the time of the newest of them too, else `since`.
    pub fn past_blobs(&self, since: Timestamp, most: u64) -> (Timestamp, Vec<String>) {
        let (mut bytes, mut newest, mut names) = (0_u64, since, Vec::new());
        let history = self.history();
        for entry in history.entries.iter().take_while(|entry| entry.ts > since) {
            bytes = bytes.saturating_add(entry.deleted_bytes());
            if bytes > most {
                newest = newest.max(entry.ts);
                names.extend(entry.deleted_blobs());
            }
        }
        (newest, names)
    }
}

impl LogEntry {
    /// The names of blobs whose files it deleted, or gave another blob.
    pub fn deleted_blobs(&self) -> impl Iterator<Item = String> {
        let blobs = self.writes.iter().filter(|write| *write.table.name == *BLOBS);
        blobs.filter_map(|write| {
            let before = blob_name(write.before.as_ref()?)?;
            let after = write.after.as_deref().and_then(blob_name);
            (after.as_ref() != Some(&before)).then_some(before)
        })
    }

    /// How many bytes those files have.
    fn deleted_bytes(&self) -> u64 {
        let files = self.writes.iter().filter(|write| *write.table.name == *STORAGE);
        let before = files.filter_map(|write| write.before.as_deref());
        before.fold(0, |sum, row| sum.saturating_add(size(&row.value())))
    }
}

fn size(file: &Value) -> u64 {
    match file.field("size") {
        Some(Value::Float64(size)) => *size as u64,
        _ => 0,
    }
}

fn blob_name(row: &Document) -> Option<String> {
    match row.value().field("blob") {
        Some(Value::String(name)) => Some(name.clone()),
        _ => None,
    }
}
