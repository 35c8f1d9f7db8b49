//! Stored files: what functions see of them, deletions, and when a blob is needed no more.

use super::*;
use crate::files::{NewFile, StoredFile};
use crate::limits;
use crate::transaction::GetArgs;

const BLOB: &str = "00112233-4455-4677-8899-aabbccddeeff";

const FILE: NewFile<'_> =
    NewFile { blob: BLOB, sha256: [0xab; 32], size: 7, content_type: Some("text/plain") };

/// A database with one file, and its id.
fn stored() -> (Database, String) {
    let database = deployed();
    let (id, _) = mutate(&database, 1, |transaction| transaction.store_file("", FILE));
    (database, id.encode())
}

fn read(database: &Database, id: &str) -> Option<StoredFile> {
    begin(database, 9).file("", id, "storage.getUrl").unwrap()
}

#[test]
fn functions_see_the_row_and_not_the_blob() {
    let (database, id) = stored();
    let mut now = begin(&database, 2);
    let get = |table, is_system| GetArgs { id: &id, table, is_system };
    let document = now.get("", get(Some("_storage"), true)).unwrap().unwrap();
    assert_eq!(field(&document, "size"), "7");
    assert_eq!(field(&document, "contentType"), "\"text/plain\"");
    let sha256 = "\"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\"";
    assert_eq!(field(&document, "sha256"), sha256);
    assert!(!document.json().contains(BLOB), "{}", document.json());
    assert!(now.get("", get(None, false)).unwrap_err().message.contains("db.system"));
    assert_eq!(collect(&mut now, &full_scan("_storage")).unwrap().len(), 1);
    // The other table does not exist for functions, whatever they try.
    assert_eq!(collect(&mut now, &full_scan("_blobs")).unwrap().len(), 0);
    assert_eq!(now.count("", "_blobs").unwrap(), 0);
    let parsed = crate::id::DocumentId::decode(&id).unwrap();
    let hidden = crate::id::DocumentId { table: crate::id::TableNumber(600), ..parsed }.encode();
    assert_eq!(now.normalize_id("", "_blobs", &hidden), None);
    let get = GetArgs { id: &hidden, table: None, is_system: true };
    assert!(now.get("", get).unwrap().is_none());
    assert!(now.remove("", &hidden, None).unwrap_err().message.contains("nonexistent"));
    assert!(now.remove("", &id, None).unwrap_err().message.contains("read-only"));
}

#[test]
fn a_file_is_found_by_id_and_by_blob_until_it_is_deleted() {
    let (database, id) = stored();
    let file = read(&database, &id).unwrap();
    assert_eq!((file.blob.as_str(), file.size, file.sha256), (BLOB, 7, [0xab; 32]));
    assert_eq!(database.snapshot().file_of_blob("", BLOB), Some(file));
    assert_eq!(database.snapshot().file_of_blob("", "0"), None);
    let before = database.snapshot();
    mutate(&database, 2, |transaction| transaction.delete_file("", &id, "storage.delete"));
    assert_eq!(read(&database, &id), None);
    assert_eq!(database.snapshot().file_of_blob("", BLOB), None);
    assert!(before.file_of_blob("", BLOB).is_some());
    let again = begin(&database, 3).delete_file("", &id, "storage.delete").unwrap_err();
    assert_eq!(again.code, "StorageIdNotFound");
}

#[test]
fn who_looked_at_a_file_depends_on_it() {
    let (database, id) = stored();
    let mut reader = begin(&database, 2);
    reader.file("", &id, "storage.getUrl").unwrap();
    let (other, _) = mutate(&database, 3, |transaction| transaction.store_file("", FILE));
    let history = database.history();
    assert!(history.entries[0].overlap(reader.reads()).is_none());
    mutate(&database, 4, |transaction| transaction.delete_file("", &id, "storage.delete"));
    assert!(database.history().entries[0].overlap(reader.reads()).is_some());
    let mut absent = begin(&database, 5);
    absent.file("", &id, "storage.getUrl").unwrap();
    assert!(!absent.reads().is_empty());
    assert_ne!(other.encode(), id);
}

#[test]
fn ids_that_are_none_are_refused_and_queries_do_not_write() {
    let (database, id) = stored();
    let (document, _) = mutate(&database, 2, |now| now.insert("", "a", value("{}")));
    let mut now = begin(&database, 3);
    let text = |error: UserError| error.message;
    assert!(text(now.file("", "x", "storage.getUrl").unwrap_err()).contains("`storage.getUrl`"));
    let wrong = text(now.file("", &document.encode(), "storage.getUrl").unwrap_err());
    assert!(
        wrong.ends_with("expected to be an Id<\"_storage\">, got Id<\"a\"> instead."),
        "{wrong}"
    );
    let mut query = database.begin(database.snapshot(), &given(4), true);
    assert_eq!(query.delete_file("", &id, "storage.delete").unwrap_err().code, "WriteInQuery");
    assert_eq!(query.store_file("", FILE).unwrap_err().code, "WriteInQuery");
}

#[test]
fn files_and_their_bytes_are_counted() {
    let (database, _) = stored();
    let refused = |count: &dyn Fn(&mut Transaction) -> Result<(), UserError>, times: u64| {
        let mut now = begin(&database, 2);
        let ended = (0..times).try_for_each(|_| count(&mut now));
        (ended, count(&mut now).unwrap_err().message)
    };
    let (ok, files) = refused(&|now| now.count_file_written(0), limits::FILES_WRITTEN);
    assert!(ok.is_ok() && files.starts_with("Too many files stored"), "{files}");
    let (ok, bytes) = refused(&|now| now.count_file_written(limits::FILE_BYTES_WRITTEN), 1);
    assert!(ok.is_ok() && bytes.starts_with("Too many bytes of files stored"), "{bytes}");
    let (ok, files) = refused(&|now| now.count_file_read(0), limits::FILES_READ);
    assert!(ok.is_ok() && files.starts_with("Too many files read"), "{files}");
    let (ok, bytes) = refused(&|now| now.count_file_read(limits::FILE_BYTES_READ), 1);
    assert!(ok.is_ok() && bytes.starts_with("Too many bytes of files read"), "{bytes}");
}

#[test]
fn a_blob_dies_when_the_history_forgets_its_deletion() {
    let options = Options { history_bytes: 16 << 10, cache_bytes: 0, now: EPOCH };
    let database = Database::new(options);
    let (id, _) = mutate(&database, 1, |transaction| transaction.store_file("", FILE));
    let id = id.encode();
    let (_, deleted) =
        mutate(&database, 2, |transaction| transaction.delete_file("", &id, "storage.delete"));
    let blobs: Vec<_> = database.history().entries[0].deleted_blobs().collect();
    assert_eq!(blobs, [BLOB]);
    let mut call = 3;
    while database.history().oldest < deleted.ts {
        assert_eq!(database.take_dead_blobs(), [""; 0], "a snapshot still shows the file");
        mutate(&database, call, |now| now.insert("", "a", value("{\"text\":\"some text\"}")));
        call += 1;
    }
    assert_eq!(database.take_dead_blobs(), [BLOB]);
    assert_eq!(database.take_dead_blobs(), [""; 0]);
}
