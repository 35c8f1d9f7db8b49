//! A zip of a deployment, as an import.
//!
//! In: a zip, of concave or of Convex. Out: its documents; and its files, when they are asked for.
//! Invariant: an entry is read whole and its checksum compared; entries that mean nothing here are
//! told, not guessed.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::components::is_component_name;
use database::error::UserError;
use database::id::{DocumentId, TableNumber};
use database::import::{Import, ImportFile, ImportFiles, ImportTable, Mode, check_creation_time};
use database::json::Dialect;
use sha2::{Digest as _, Sha256};
use storage::{BlobId, Draft};
use zip::ZipArchive;
use zip::result::ZipError;

use super::directory::{ambiguous, check_names, check_packed};
use super::rows::{UNREADABLE, at, each_line, lines, unreadable};
use super::write::{FileLine, TableLine};
use super::{ArchiveError, Budget, COMPONENTS, DOCUMENTS, Parts, SCHEMA, TABLES, UNIFORM};
use crate::files::parse_sha256;
use crate::strict::{self, Wrong};

/// A zip that is open.
pub(crate) struct Zip {
    archive: ZipArchive<BufReader<Parts>>,
}

/// A zip that was read, but for the bytes of its files.
pub(crate) struct Zipped {
    /// What to import; the blobs of its files have no names yet.
    pub(crate) import: Import,
    /// For each component with files, and each of its files: where its bytes are.
    pub(crate) entries: Vec<Vec<Entry>>,
    /// Entries that were not understood.
    pub(crate) ignored: Vec<String>,
    /// The zip.
    pub(crate) zip: Zip,
}

/// The bytes of a file.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    index: usize,
    /// The SHA-256 that they must have.
    pub(crate) promised: Option<[u8; 32]>,
    /// The name that their blob had before.
    pub(crate) before: Option<BlobId>,
}

/// What an entry's name says, after its component.
enum Place<'a> {
    Numbers,
    Documents(&'a str),
    Schema(&'a str),
    FileLines,
    File(&'a str),
    Nothing,
    Unknown,
}

/// Entries of one component, by what they are.
#[derive(Default)]
struct Component {
    numbers: Option<usize>,
    documents: BTreeMap<String, usize>,
    schemas: BTreeMap<String, usize>,
    file_lines: Option<usize>,
    /// By id.
    files: BTreeMap<String, usize>,
}

/// Components by the names on the way to each.
type Components = BTreeMap<Vec<String>, Component>;

/// Files of one component.
#[derive(Default)]
struct Stored {
    files: Vec<ImportFile>,
    entries: Vec<Entry>,
    /// What is beside them.
    ignored: Vec<String>,
}

impl Stored {
    /// Adds the file of an entry, and what a line says of it.
    fn add(&mut self, id: DocumentId, index: usize, line: FileLine) -> Result<(), String> {
        let promised = line.sha256.as_deref().map(promised).transpose()?;
        let creation_time = line.creation_time.map(check_creation_time).transpose();
        let creation_time = creation_time.map_err(|error| error.message)?;
        let before = line.internal_id.as_deref().and_then(|id| id.parse().ok());
        self.files.push(ImportFile {
            id: Some(id),
            creation_time,
            blob: String::new(),
            sha256: promised.unwrap_or_default(),
            size: 0,
            content_type: line.content_type,
        });
        self.entries.push(Entry { index, promised, before });
        Ok(())
    }
}

/// The hash that a line says.
fn promised(sha256: &str) -> Result<[u8; 32], String> {
    parse_sha256(sha256).ok_or_else(|| {
        format!(
            "`sha256` {sha256:?} is no SHA-256: it must be the base64 of 32 bytes, as exports have \
             it. Without `sha256`, the file's bytes are taken as they are."
        )
    })
}

/// Whether an id is that of a stored file.
fn check_number(id: DocumentId) -> Result<(), String> {
    if id.table.0 == 540 {
        return Ok(());
    }
    Err(format!(
        "{:?} is an ID of the table number {}, and stored files have 540 here, as in every Convex \
         deployment of today. Export without file storage, and store the files anew.",
        id.encode(),
        id.table.0
    ))
}

impl Zip {
    /// Opens a zip.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn open(parts: Parts) -> Result<Self, ArchiveError> {
        match ZipArchive::new(BufReader::new(parts)) {
            Ok(archive) => Ok(Self { archive: check_names(archive)? }),
            Err(ZipError::Io(error)) => Err(not_a_zip(&error)),
            Err(error) => Err(not_a_zip(&error)),
        }
    }

    /// Reads the documents.
    ///
    /// # Errors
    /// Entries that are not what their names say.
    pub(crate) fn read(
        mut self,
        mode: Mode,
        into: &Arc<str>,
        budget: &mut Budget,
    ) -> Result<Zipped, ArchiveError> {
        let (top, components, mut ignored) = self.contents()?;
        let mut import =
            Import { mode, component: Arc::clone(into), tables: Vec::new(), files: Vec::new() };
        let mut entries = Vec::new();
        for (inner, component) in components {
            let prefix = inner.iter().map(|name| format!("{COMPONENTS}{name}/"));
            let prefix = top.clone() + &prefix.collect::<String>();
            let path: Vec<&str> = [&**into].into_iter().filter(|path| !path.is_empty()).collect();
            let path: Vec<&str> =
                path.into_iter().chain(inner.iter().map(String::as_str)).collect();
            let path: Arc<str> = path.join("/").into();
            let numbers = self.numbers(&prefix, &component)?;
            for (name, index) in &component.documents {
                let source = format!("{prefix}{name}/{DOCUMENTS}");
                let dialect = self.dialect(&source, component.schemas.get(name))?;
                let mut entry = self.entry(*index, &source)?;
                budget.begin(&path, name);
                let rows = lines(&source, &mut entry, dialect, budget);
                let rows = rows.map_err(|wrong| damage_or(wrong, &source, entry))?;
                let (component, name) = (Arc::clone(&path), Arc::from(&**name));
                let number = numbers.get(&*name).copied();
                import.tables.push(ImportTable { component, name, number, source, rows });
            }
            if component.file_lines.is_some() || !component.files.is_empty() {
                let stored = self.files(&prefix, &component)?;
                ignored.extend(stored.ignored);
                // What was replaced by nothing would be deleted.
                if component.file_lines.is_some() || !stored.files.is_empty() {
                    import.files.push(ImportFiles { component: path, files: stored.files });
                    entries.push(stored.entries);
                }
            }
        }
        if import.tables.is_empty() && import.files.is_empty() {
            let text = format!("The zip has no tables: no entry is called <table>/{DOCUMENTS}.");
            return Err(ArchiveError::wrong("InvalidZip", text));
        }
        Ok(Zipped { import, entries, ignored, zip: self })
    }

    /// Copies a file's bytes, or only looks at them; gives their hash and how many they are.
    ///
    /// # Errors
    /// They are damaged, or not those that were promised; the store's.
    pub(crate) fn copy(
        &mut self,
        entry: Entry,
        mut draft: Option<&mut dyn Draft>,
    ) -> Result<([u8; 32], u64), ArchiveError> {
        let source = self.archive.name_for_index(entry.index).and_then(Result::ok);
        let source = source.map(String::from).unwrap_or_default();
        let mut file = self.entry(entry.index, &source)?;
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut bytes = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut bytes).map_err(|error| unreadable(&source, &error))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            crate::files::check_size(size)?;
            hash.write_all(&bytes[..read])?;
            if let Some(draft) = &mut draft {
                draft.write(&bytes[..read])?;
            }
        }
        let sha256: [u8; 32] = hash.finalize().into();
        if let Some(promised) = entry.promised.filter(|promised| *promised != sha256) {
            let text = format!(
                "{source} has other bytes than _storage/{DOCUMENTS} says: its SHA-256 there is {}, \
                 and the SHA-256 of the bytes is {}. If they were changed on purpose, write that \
                 one there, or take `sha256` out of the line.",
                STANDARD.encode(promised),
                STANDARD.encode(sha256)
            );
            return Err(ArchiveError::wrong("Sha256Mismatch", text));
        }
        Ok((sha256, size))
    }

    /// The folder around everything, and what is in it, by the names of the components on the way.
    fn contents(&self) -> Result<(String, Components, Vec<String>), ArchiveError> {
        let mut components = Components::new();
        let mut ignored = Vec::new();
        let name_of = |index| self.archive.name_for_index(index).and_then(Result::ok);
        let names: Vec<_> = (0..self.archive.len()).filter_map(name_of).collect();
        let top = top(&names).to_owned();
        for index in 0..self.archive.len() {
            let Some(name) = name_of(index) else { continue };
            let (inner, rest) = split_components(name.strip_prefix(&*top).unwrap_or(&name));
            match place(rest) {
                Place::Nothing => continue,
                Place::Unknown => {
                    ignored.push(name.to_string());
                    continue;
                }
                _ => self.check(index, &name, &inner)?,
            }
            let found = components.entry(inner).or_default();
            let twice = match place(rest) {
                Place::Numbers => found.numbers.replace(index).is_some(),
                Place::Documents(table) => found.documents.insert(table.into(), index).is_some(),
                Place::Schema(table) => found.schemas.insert(table.into(), index).is_some(),
                Place::FileLines => found.file_lines.replace(index).is_some(),
                Place::File(id) => found.files.insert(id.into(), index).is_some(),
                Place::Nothing | Place::Unknown => false,
            };
            if twice {
                return Err(ambiguous(&name));
            }
        }
        Ok((top, components, ignored))
    }

    /// Whether an entry can be read, and what its name says can be.
    fn check(&self, index: usize, name: &str, inner: &[String]) -> Result<(), ArchiveError> {
        if let Some(component) = inner.iter().find(|component| !is_component_name(component)) {
            let text = format!(
                "{name}: no component can be called {component:?}: a name is 1 to 64 letters, \
                 digits and underscores, the first a letter."
            );
            return Err(ArchiveError::wrong("InvalidZip", text));
        }
        let entry = self.archive.by_index_data(index).map_err(|error| unopened(name, &error))?;
        check_packed(name, &entry)
    }

    /// The numbers of a component's tables.
    fn numbers(
        &mut self,
        prefix: &str,
        component: &Component,
    ) -> Result<BTreeMap<String, TableNumber>, ArchiveError> {
        let mut numbers = BTreeMap::new();
        let Some(index) = component.numbers else { return Ok(numbers) };
        let source = format!("{prefix}{TABLES}/{DOCUMENTS}");
        let file = self.entry(index, &source)?;
        each_line(&source, file, &mut Budget::default(), |place, line, _| {
            let table: TableLine = parsed(&source, place, line)?;
            let number = table.number();
            numbers.insert(table.name, number);
            Ok(())
        })?;
        Ok(numbers)
    }

    /// How a table's documents are written.
    fn dialect(&mut self, of: &str, schema: Option<&usize>) -> Result<Dialect, ArchiveError> {
        let Some(index) = schema else { return Ok(Dialect::Plain) };
        let mut uniform = false;
        let file = self.entry(*index, SCHEMA)?;
        each_line(SCHEMA, file, &mut Budget::default(), |_, line, _| {
            uniform |= line.trim() == UNIFORM;
            Ok(())
        })?;
        if uniform {
            return Ok(Dialect::Export);
        }
        let text = format!(
            "{of} is written as exports were years ago: its {SCHEMA} does not say {UNIFORM}. \
             Export it again with a newer Convex."
        );
        Err(ArchiveError::wrong("OldExport", text))
    }

    fn files(&mut self, prefix: &str, component: &Component) -> Result<Stored, ArchiveError> {
        let source = format!("{prefix}_storage/{DOCUMENTS}");
        let mut stored = Stored::default();
        let mut bare = component.files.clone();
        if let Some(index) = component.file_lines {
            let file = self.entry(index, &source)?;
            each_line(&source, file, &mut Budget::default(), |place, line, _| {
                let line: FileLine = parsed(&source, place, line)?;
                let wrong = |why: String| {
                    ArchiveError::wrong("InvalidFile", format!("{source}:{place}: {why}"))
                };
                let id = line.document_id();
                let id = id.ok_or_else(|| wrong(format!("{:?} is no ID of a file.", line.id)))?;
                check_number(id).map_err(wrong)?;
                let index = component.files.get(&line.id);
                let index =
                    index.ok_or_else(|| wrong(format!("the zip has no file {}.", line.id)))?;
                bare.remove(&line.id);
                stored.add(id, *index, line).map_err(wrong)
            })?;
        }
        for (id, index) in bare {
            let name_of = self.archive.name_for_index(index).and_then(Result::ok);
            let source = name_of.map(String::from).unwrap_or_default();
            let wrong = |why| ArchiveError::wrong("InvalidFile", format!("{source}: {why}"));
            let Some(id) = DocumentId::decode(&id) else {
                stored.ignored.push(source);
                continue;
            };
            check_number(id).map_err(wrong)?;
            stored.add(id, index, FileLine::default()).map_err(wrong)?;
        }
        Ok(stored)
    }

    fn entry(&mut self, index: usize, source: &str) -> Result<BufReader<impl Read>, ArchiveError> {
        let entry = self.archive.by_index(index).map_err(|error| unopened(source, &error))?;
        Ok(BufReader::with_capacity(64 << 10, entry))
    }
}

fn unopened(source: &str, error: &ZipError) -> ArchiveError {
    ArchiveError::wrong("InvalidZip", format!("{source} cannot be read: {error}."))
}

fn parsed<T: serde::de::DeserializeOwned>(
    source: &str,
    place: usize,
    line: &str,
) -> Result<T, ArchiveError> {
    strict::from_slice(line.as_bytes()).map_err(|wrong| {
        let why = match wrong {
            Wrong::Syntax(why) => why,
            Wrong::Shape { field, why } if field.is_empty() => why,
            Wrong::Shape { field, why } => format!("`{field}`: {why}"),
        };
        at(source, place, &UserError::new("InvalidJson", why))
    })
}

/// What is wrong in an entry may come of its damage, which its checksum shows at the end.
fn damage_or(wrong: ArchiveError, source: &str, mut rest: impl Read) -> ArchiveError {
    if matches!(&wrong, ArchiveError::Wrong(error) if error.code == UNREADABLE) {
        return wrong;
    }
    let read = std::io::copy(&mut rest, &mut std::io::sink());
    read.err().map_or(wrong, |error| unreadable(source, &error))
}

fn not_a_zip(error: &dyn std::fmt::Display) -> ArchiveError {
    let text = format!(
        "The file is no whole zip ({error}). It may have been cut off on its way: compare its \
         size, or export it again."
    );
    ArchiveError::wrong("InvalidZip", text)
}

/// The folder that is around all entries, `a/` or `a/b/`: whoever unpacks a snapshot and packs it
/// again may get one. Empty as soon as there is anything of a snapshot beside it.
fn top(names: &[impl AsRef<str>]) -> &str {
    let names = names.iter().map(AsRef::as_ref).filter(|name| !is_junk(name));
    let names: Vec<&str> = names.filter(|name| !name.ends_with('/')).collect();
    let mut top = "";
    while !names.iter().any(|name| is_known(&name[top.len()..])) {
        let Some((folder, _)) = names.first().and_then(|name| name[top.len()..].split_once('/'))
        else {
            return "";
        };
        top = &names[0][..top.len() + folder.len() + 1];
        if !names.iter().all(|name| name.starts_with(top)) {
            return "";
        }
    }
    top
}

/// Whether an entry is a snapshot's.
fn is_known(name: &str) -> bool {
    !matches!(place(split_components(name).1), Place::Nothing | Place::Unknown)
}

/// What macOS adds.
fn is_junk(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.ends_with(".DS_Store")
}

/// The components on the way to an entry, and the rest of its name.
fn split_components(name: &str) -> (Vec<String>, &str) {
    let (mut inner, mut rest) = (Vec::new(), name);
    while let Some((component, after)) =
        rest.strip_prefix(COMPONENTS).and_then(|after| after.split_once('/'))
    {
        inner.push(component.to_owned());
        rest = after;
    }
    (inner, rest)
}

fn place(name: &str) -> Place<'_> {
    match name.split_once('/') {
        _ if name.is_empty() || name.ends_with('/') || is_junk(name) || name == "README.md" => {
            Place::Nothing
        }
        Some((TABLES, DOCUMENTS)) => Place::Numbers,
        Some(("_storage", DOCUMENTS)) => Place::FileLines,
        Some(("_storage", SCHEMA)) | Some((TABLES, SCHEMA)) => Place::Nothing,
        Some(("_storage", file)) if !file.contains('/') => {
            Place::File(file.split('.').next().unwrap_or_default())
        }
        Some((table, DOCUMENTS)) if !table.starts_with('_') => Place::Documents(table),
        Some((table, SCHEMA)) if !table.starts_with('_') => Place::Schema(table),
        _ => Place::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn a_folder_around_everything_is_seen_and_nothing_else() {
        for (names, expected) in [
            (&["a/t/documents.jsonl", "a/_tables/documents.jsonl"][..], "a/"),
            (&["a/", "a/b/", "a/b/t/documents.jsonl"], "a/b/"),
            (&["a/t/documents.jsonl", "__MACOSX/a/._t", ".DS_Store", "a/README.md"], "a/"),
            (&["a/_components/c/t/documents.jsonl", "a/_storage/documents.jsonl"], "a/"),
            (&["a/_storage/kg2.txt"], "a/"),
            (&["t/documents.jsonl"], ""),
            (&["_components/c/t/documents.jsonl"], ""),
            (&["a/t/documents.jsonl", "b/t/documents.jsonl"], ""),
            (&["a/t/documents.jsonl", "t/documents.jsonl"], ""),
            (&["a/t/documents.jsonl", "notes.txt"], ""),
            (&["a/b.txt", "a/c.txt"], ""),
            (&[], ""),
        ] {
            assert_eq!(top(names), expected, "{names:?}");
        }
    }
}
