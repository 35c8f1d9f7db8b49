//! A snapshot as a zip, written from front to back.
//!
//! In: a snapshot that does not change, and the blobs of its files. Out: bytes. Invariant: equal
//! snapshots give equal zips; a file that cannot be read ends the zip with an error, never with
//! less than there is.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::files::StoredFile;
use database::id::{DocumentId, TableNumber};
use database::json::{Format, export};
use database::key::Interval;
use database::snapshot::Snapshot;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use storage::{BlobId, BlobStore};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::{ArchiveError, COMPONENTS, DOCUMENTS, SCHEMA, TABLES, UNIFORM};
use crate::files::FileError;

/// Bytes of a blob read at once.
const STEP: usize = 256 << 10;

/// From here on a zip needs its larger numbers; text grows when it is escaped, so far below 4 GiB.
const LARGE: u64 = 1 << 30;

const README: &str = "\
# A snapshot of a deployment

Documents are in `<table>/documents.jsonl`, one JSON object a line: integers are int64, numbers
with a dot are float64, bytes are {\"$bytes\": base64}. `_tables/documents.jsonl` has the number of
each table, by which ids know it. Stored files are in `_storage/`; components are in
`_components/<name>/`, each with tables and files of its own.

It goes back with `concave import FILE.zip` or `npx convex import FILE.zip`.
";

/// What to write.
pub(crate) struct Exported<'a> {
    /// The moment.
    pub(crate) snapshot: &'a Snapshot,
    /// One component, as if it were the app; `None`: all.
    pub(crate) component: Option<&'a str>,
    /// Stored files; `None`: without them.
    pub(crate) files: Option<&'a dyn BlobStore>,
}

/// Writes a zip.
///
/// # Errors
/// What is written to fails, or a file's bytes are gone.
pub(crate) fn write<W: Write>(what: &Exported<'_>, out: W) -> Result<W, ArchiveError> {
    let mut zip = Writer { zip: ZipWriter::new_stream(out) };
    zip.start("README.md", false)?;
    zip.zip.write_all(README.as_bytes())?;
    match what.component {
        Some(component) => zip.component(what, component, "")?,
        None => {
            for component in what.snapshot.components() {
                zip.component(what, component, &prefix(component))?;
            }
        }
    }
    let out = zip.zip.finish().map_err(failed)?;
    Ok(out.into_inner())
}

struct Writer<W: Write> {
    zip: ZipWriter<StreamWriter<W>>,
}

impl<W: Write> Writer<W> {
    fn component(
        &mut self,
        what: &Exported<'_>,
        component: &str,
        prefix: &str,
    ) -> Result<(), ArchiveError> {
        let tables = what.snapshot.tables(component);
        self.start(&format!("{prefix}{TABLES}/{DOCUMENTS}"), false)?;
        for table in &tables {
            self.line(&json!({ "name": &*table.name, "id": table.number.0 }).to_string())?;
        }
        for table in &tables {
            let index =
                what.snapshot.table(component, &table.name).expect("it was listed").by_id.id;
            let documents = || what.snapshot.range(index, &Interval::all());
            let bytes: usize = documents().map(|(_, document)| document.json().len()).sum();
            let large = bytes as u64 > LARGE;
            self.start(&format!("{prefix}{}/{DOCUMENTS}", table.name), large)?;
            for (_, document) in documents() {
                self.line(&export(&document.value(), Format::Export))?;
            }
            self.start(&format!("{prefix}{}/{SCHEMA}", table.name), false)?;
            self.line(UNIFORM)?;
        }
        match what.files {
            Some(blobs) => self.files(what.snapshot, blobs, (component, prefix)),
            None => Ok(()),
        }
    }

    fn files(
        &mut self,
        snapshot: &Snapshot,
        blobs: &dyn BlobStore,
        (component, prefix): (&str, &str),
    ) -> Result<(), ArchiveError> {
        self.start(&format!("{prefix}_storage/{DOCUMENTS}"), false)?;
        for (file, creation_time) in snapshot.files(component) {
            let mut line = json!({
                "_id": file.id.encode(),
                "_creationTime": creation_time,
                "sha256": STANDARD.encode(file.sha256),
                "size": file.size,
                "internalId": file.blob,
            });
            if let Some(content_type) = &file.content_type {
                line["contentType"] = json!(content_type);
            }
            self.line(&line.to_string())?;
        }
        for (file, _) in snapshot.files(component) {
            let name = format!("{prefix}_storage/{}{}", file.id.encode(), extension(&file));
            self.start(&name, file.size > LARGE)?;
            self.blob(&file, blobs)?;
        }
        Ok(())
    }

    fn blob(&mut self, file: &StoredFile, blobs: &dyn BlobStore) -> Result<(), ArchiveError> {
        let id = file.blob.parse::<BlobId>().ok();
        let blob = id.map(|id| blobs.open(id)).transpose()?.flatten();
        let Some(blob) = blob.filter(|blob| blob.size() == file.size) else {
            let id = file.id.encode();
            return Err(ArchiveError::wrong(
                "FileNotFound",
                format!(
                    "The bytes of the stored file {id} are not there: the export is not whole."
                ),
            ));
        };
        let unreadable = |why| {
            let id = file.id.encode();
            let text = format!("The stored file {id} could not be read: {why}. Restore a backup.");
            ArchiveError::wrong("FileDamaged", text)
        };
        let (mut at, mut hash) = (0, Sha256::new());
        while at < file.size {
            let bytes = blob.read(at, STEP).map_err(unreadable)?;
            hash.update(&bytes);
            self.zip.write_all(&bytes)?;
            at += bytes.len() as u64;
        }
        if *hash.finalize() != file.sha256 {
            let text = FileError::Damaged(file.id.encode()).to_string();
            return Err(ArchiveError::wrong("FileDamaged", text));
        }
        Ok(())
    }

    fn start(&mut self, name: &str, large: bool) -> Result<(), ArchiveError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(1))
            .large_file(large);
        self.zip.start_file(name, options).map_err(failed)
    }

    fn line(&mut self, text: &str) -> Result<(), ArchiveError> {
        self.zip.write_all(text.as_bytes())?;
        Ok(self.zip.write_all(b"\n")?)
    }
}

fn failed(error: zip::result::ZipError) -> ArchiveError {
    ArchiveError::Io(error.into())
}

/// `_components/a/_components/b/` for `a/b`.
fn prefix(component: &str) -> String {
    let names = component.split('/').filter(|name| !name.is_empty());
    names.map(|name| format!("{COMPONENTS}{name}/")).collect()
}

/// What a file's name ends with, so that programs know what it is.
fn extension(file: &StoredFile) -> &'static str {
    let kind = file.content_type.as_deref().unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => ".json",
        "application/pdf" => ".pdf",
        "application/zip" => ".zip",
        "audio/mpeg" => ".mp3",
        "image/gif" => ".gif",
        "image/jpeg" => ".jpg",
        "image/png" => ".png",
        "image/svg+xml" => ".svg",
        "image/webp" => ".webp",
        "text/csv" => ".csv",
        "text/html" => ".html",
        "text/plain" => ".txt",
        "video/mp4" => ".mp4",
        _ => "",
    }
}

/// A line of `_tables/documents.jsonl`.
#[derive(serde::Deserialize)]
pub(super) struct TableLine {
    pub(super) name: String,
    pub(super) id: u32,
}

impl TableLine {
    pub(super) fn number(&self) -> TableNumber {
        TableNumber(self.id)
    }
}

/// A line of `_storage/documents.jsonl`; the default is what is known of a file without one.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileLine {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_creationTime")]
    pub(super) creation_time: Option<f64>,
    pub(super) sha256: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) internal_id: Option<String>,
}

impl FileLine {
    pub(super) fn document_id(&self) -> Option<DocumentId> {
        DocumentId::decode(&self.id)
    }
}
