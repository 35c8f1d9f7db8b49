//! Small files that are there whole, or as they were before.
//!
//! In: a path and bytes. Out: a file. Invariant: whatever ends the host, and however full the disk
//! is, nobody finds half a file: it gets its name after its bytes are on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// How the name of a file ends until it is whole.
const DRAFT: &str = "-draft";

/// Writes a file anew; `mode` says who may read and write it. Where this succeeds it stays.
///
/// # Errors
/// The system's. The file is as it was.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(DRAFT);
    let draft = Path::new(&draft);
    match fs::remove_file(draft) {
        // An earlier try ended in the middle.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(draft, path)) {
        // What cannot be removed goes at the next try.
        let _ = fs::remove_file(draft);
        return Err(error);
    }
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_only_its_owner_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let (path, draft) = (root.path().join("key"), root.path().join("key-draft"));
        fs::write(&path, "old").unwrap();
        fs::write(&draft, "of a start that ended in the middle, and longer").unwrap();
        write_whole(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!draft.exists());
    }

    #[test]
    fn what_cannot_be_written_leaves_the_file_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        // Nothing can take the place of a folder.
        let (path, draft) = (root.path().join("key"), root.path().join("key-draft"));
        fs::create_dir(&path).unwrap();
        write_whole(&path, b"new", 0o600).unwrap_err();
        assert!(path.is_dir() && !draft.exists());
    }
}
