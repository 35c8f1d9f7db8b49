//! Tests of the SQLite log: what other stores do too, and what only files can suffer.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::log::tests::{Pairs, behaves, changes, pairs, record};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("db");
    (root, path)
}

#[test]
fn behaves_like_every_store() {
    let (_root, path) = folder();
    behaves(&SqliteLog::create(&path, 5).unwrap());
    let again = SqliteLog::open(&path).unwrap();
    assert_eq!(again.read(9, 1 << 20).unwrap(), [record(12, 9, "ccc")]);
    assert_eq!(pairs(&again), (12, vec![(b"z".to_vec(), b"4".to_vec())]));
    assert_eq!(again.promised(), 12);
}

#[test]
fn a_failed_append_leaves_nothing_and_the_next_one_works() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    // The second of the group has a timestamp that is taken.
    let failed = store.append(&[record(8, 7, "b"), record(7, 8, "c")]);
    assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
    assert_eq!(store.read(5, 1 << 20).unwrap(), [record(7, 5, "a")]);
    store.append(&[record(9, 7, "d")]).unwrap();
    drop(store);
    let again = SqliteLog::open(&path).unwrap();
    assert_eq!(again.read(5, 1 << 20).unwrap(), [record(7, 5, "a"), record(9, 7, "d")]);
}

#[test]
fn a_log_that_ends_early_shows() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    store.append(&[record(9, 7, "b")]).unwrap();
    // A crash: the write-ahead log is as long as it was.
    let crashed = root.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for name in [LOG, "log.sqlite-wal", "state.sqlite", "state.sqlite-wal", "mark"] {
        fs::copy(path.join(name), crashed.join(name)).unwrap();
    }
    assert_eq!(look(&crashed).unwrap().0.len(), 2);
    fs::copy(path.join(LOG), crashed.join(LOG)).unwrap();
    let wal = fs::read(path.join("log.sqlite-wal")).unwrap();
    fs::write(crashed.join("log.sqlite-wal"), &wal[..wal.len() - 100]).unwrap();
    let early = SqliteLog::open(&crashed).unwrap();
    assert_eq!(early.read(5, 1 << 20).unwrap(), [record(7, 5, "a")], "SQLite sees no damage");
    assert_eq!(early.promised(), 9);
    drop(early);
    assert!(look(&crashed).is_err());
}

/// Every byte of both databases, flipped one after the other, is found or does not matter.
#[test]
fn flipped_bits_are_found() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    let body = "0123456789".repeat(30);
    store.append(&[record(7, 5, &body), record(9, 7, &body), record(12, 9, "ccc")]).unwrap();
    store.checkpoint(7, &changes(&[("x", Some(&*body)), ("y", Some("2"))])).unwrap();
    drop(store);
    let good = look(&path).unwrap();
    let mut found = 0;
    for name in [LOG, "state.sqlite", "mark"] {
        let file = fs::OpenOptions::new().read(true).write(true).open(path.join(name)).unwrap();
        let bytes = fs::read(path.join(name)).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
            match look(&path) {
                Ok(seen) => assert!(seen == good, "{name}: byte {at} changed what is read"),
                Err(_) => found += 1,
            }
            file.write_all_at(&bytes, 0).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
    }
    assert!(found > 100, "{found} flips were found");
}

type Seen = (Vec<Record>, (u64, Pairs), u64);

/// What a start reads, or that it is refused: the log must reach what was promised.
fn look(path: &Path) -> Result<Seen, StoreError> {
    let store = SqliteLog::open(path)?;
    let records = store.read(0, 1 << 20)?;
    let mut all = Vec::new();
    let ts = store.load(&mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    let newest = records.last().map_or(ts, |last| last.ts);
    if newest < store.promised() || records.first().is_some_and(|first| first.previous > ts) {
        return Err(damaged("commits are missing"));
    }
    Ok((records, (ts, all), store.promised()))
}

/// Pages of the write-ahead log that its file holds.
fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(path.join("log.sqlite-wal")).unwrap().len()
}

#[test]
fn a_settled_log_is_written_again_in_place() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    let body = "0123456789".repeat(300);
    let round = |round: u64| {
        for n in 1..=200 {
            let ts = 5 + round * 200 + n;
            store.append(&[record(ts, ts - 1, &body)]).unwrap();
        }
        let newest = 5 + round * 200 + 200;
        assert!(store.trim(newest - 10, 1_000).unwrap() > 100);
        store.settle().unwrap();
    };
    round(0);
    let first = wal_bytes(&path);
    (1..6).for_each(round);
    // A round's pages, and those of what the one before left.
    assert!(wal_bytes(&path) < 2 * first, "{} after {first}", wal_bytes(&path));
    let kept: Vec<u64> = store.read(0, 1 << 20).unwrap().iter().map(|record| record.ts).collect();
    assert_eq!(kept, Vec::from_iter(1_196..=1_205));
    drop(store);
    assert_eq!(SqliteLog::open(&path).unwrap().read(0, 1 << 20).unwrap().len(), 10);
}
