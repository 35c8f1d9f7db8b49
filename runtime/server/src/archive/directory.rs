//! The directory of a zip: what must be right about it before anything is read.
//!
//! In: an open zip. Out: it again, or an error that names the entry. Invariant: no entry is passed
//! over in silence, although the reader keeps but the last of those with the same name.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use zip::read::ZipFileEntry;
use zip::{SUPPORTED_COMPRESSION_METHODS, ZipArchive};

use super::ArchiveError;

/// What each entry of a directory begins with.
const MAGIC: [u8; 4] = *b"PK\x01\x02";
/// Bytes of an entry between that and its name.
const HEAD: usize = 42;

/// Whether no two entries have the same name. Folders may: nothing is in them.
///
/// # Errors
/// Two have, with the name.
pub(super) fn check_names<R: Read + Seek>(
    archive: ZipArchive<R>,
) -> Result<ZipArchive<R>, ArchiveError> {
    if !archive.has_duplicate_names() {
        return Ok(archive);
    }
    let start = archive.central_directory_start();
    let mut file = archive.into_inner();
    file.seek(SeekFrom::Start(start))?;
    match twice(&mut file)? {
        Some(name) => Err(ambiguous(&String::from_utf8_lossy(&name))),
        None => ZipArchive::new(file).map_err(|error| ArchiveError::Io(error.into())),
    }
}

/// The error about two entries that have the same name.
pub(super) fn ambiguous(name: &str) -> ArchiveError {
    let text = format!(
        "The zip has two entries that are called {name}, and which one is meant cannot be known. \
         Pack it again with one of them."
    );
    ArchiveError::wrong("InvalidZip", text)
}

/// Whether an entry can be unpacked.
///
/// # Errors
/// It cannot, with the reason.
pub(super) fn check_packed(name: &str, entry: &ZipFileEntry<'_>) -> Result<(), ArchiveError> {
    let (method, packed) = (entry.compression(), "Pack the snapshot again");
    let text = if entry.encrypted() {
        format!("{name} is encrypted, and there is no way to give a password. {packed} without.")
    } else if !SUPPORTED_COMPRESSION_METHODS.contains(&method) {
        format!(
            "{name} is compressed with the method {method}, which is not supported: entries must \
             be stored or compressed with deflate. {packed} that way, as `zip -r` does."
        )
    } else {
        return Ok(());
    };
    Err(ArchiveError::wrong("InvalidZip", text))
}

/// The first name that a directory has twice, but for folders.
fn twice(directory: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut names = BTreeSet::new();
    loop {
        let mut magic = [0; MAGIC.len()];
        directory.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        directory.read_exact(&mut head)?;
        let length = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let mut name = vec![0; length(24).into()];
        directory.read_exact(&mut name)?;
        let behind = u64::from(length(26)) + u64::from(length(28));
        io::copy(&mut directory.by_ref().take(behind), &mut io::sink())?;
        if !name.ends_with(b"/") && !names.insert(name.clone()) {
            return Ok(Some(name));
        }
    }
}
