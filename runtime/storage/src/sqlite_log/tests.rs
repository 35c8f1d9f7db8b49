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
    assert_eq!(again.promised(), Ok(12));
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
    assert_eq!(said(&path), Said::Undone(7), "before anybody is told");
    store.append(&[record(9, 7, "d")]).unwrap();
    assert_eq!(said(&path), Said::Kept(9));
    drop(store);
    let again = SqliteLog::open(&path).unwrap();
    assert_eq!(again.read(5, 1 << 20).unwrap(), [record(7, 5, "a"), record(9, 7, "d")]);
}

fn said(path: &Path) -> Said {
    Mark::open(path).unwrap().1
}

/// The files of a folder that is in use, as the death of its process leaves them.
fn killed(path: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir(to).unwrap();
    for name in [LOG, "log.sqlite-wal", "state.sqlite", "state.sqlite-wal", "mark"] {
        fs::copy(path.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn what_was_undone_stays_undone_in_the_next_process() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    // As a commit whose sync fails leaves it: whole in the write-ahead log, and told as undone.
    store.append(&[record(9, 7, "b"), record(10, 9, "c")]).unwrap();
    lock(&store.kept().unwrap().writer).mark.undo(7).unwrap();
    let crashed = root.path().join("crashed");
    killed(&path, &crashed);
    let again = SqliteLog::open(&crashed).unwrap();
    assert_eq!((again.promised(), said(&crashed)), (Ok(7), Said::Kept(7)));
    assert_eq!(again.read(5, 1 << 20).unwrap(), [record(7, 5, "a")]);
    let left = fs::metadata(crashed.join("log.sqlite-wal")).unwrap().len();
    assert_eq!(left, 0, "nothing that SQLite could find again");
    again.append(&[record(9, 7, "d")]).unwrap();
    drop(again);
    let all = [record(7, 5, "a"), record(9, 7, "d")];
    assert_eq!(SqliteLog::open(&crashed).unwrap().read(5, 1 << 20).unwrap(), all);
    // An orderly end moves it into the database.
    drop(store);
    assert_eq!(SqliteLog::open(&path).unwrap().read(5, 1 << 20).unwrap(), all[..1]);
}

#[test]
fn an_undone_commit_of_which_no_note_can_be_made_is_told_as_one_that_may_come_back() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    let put = |mark| std::mem::replace(&mut lock(&store.kept().unwrap().writer).mark, mark);
    // A file that cannot be written to.
    let mark = put(Mark(File::open(path.join("mark")).unwrap()));
    for _ in 0..2 {
        let failed = store.append(&[record(7, 5, "b")]).unwrap_err();
        assert!(failed.to_string().contains("a restart may bring it back"), "{failed}");
        assert_eq!(said(&path), Said::Kept(7));
    }
    // It is tried again before anything else.
    put(mark);
    assert!(matches!(store.append(&[record(7, 5, "b")]), Err(StoreError::Failed(_))));
    assert_eq!(said(&path), Said::Undone(7));
    store.append(&[record(8, 7, "b")]).unwrap();
    assert_eq!(said(&path), Said::Kept(8));
}

#[test]
fn a_cut_leaves_the_records_up_to_it_and_the_old_log_beside_them() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    let all = [record(7, 5, "a"), record(9, 7, "b"), record(12, 9, "c")];
    store.append(&all).unwrap();
    store.checkpoint(7, &changes(&[("x", Some("1"))])).unwrap();
    assert!(store.cut(10).is_err(), "no commit is there");
    let store = SqliteLog::open(&path).unwrap();
    assert_eq!(store.read(5, 1 << 20).unwrap(), all);
    let store = store.cut(9).unwrap();
    assert_eq!(store.read(5, 1 << 20).unwrap(), all[1..2]);
    assert_eq!(store.promised(), Ok(9));
    store.append(&[record(11, 9, "d")]).unwrap();
    let store = store.cut(7).unwrap();
    assert_eq!(store.read(0, 1 << 20).unwrap(), []);
    assert_eq!((store.promised(), pairs(&store).0), (Ok(7), 7));
    let old = open_to_read(&path.join("log.given-up.sqlite"), false).unwrap();
    let newest = old.query_row("SELECT max(ts) FROM log", [], |row| row.get(0));
    assert_eq!(newest, Ok(11), "of the last cut");
}

#[test]
fn a_cut_that_a_crash_interrupts_is_finished_by_the_next_start() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    store.append(&[record(9, 7, "b")]).unwrap();
    let crashed = root.path().join("crashed");
    for stage in 0..4 {
        killed(&path, &crashed);
        let at = |name: &str| crashed.join(name);
        let mut new = NewLog::create(&at("log.draft.sqlite")).unwrap();
        new.append(&[record(7, 5, "a")]).unwrap();
        new.finish().unwrap();
        if stage > 0 {
            fs::rename(at("log.draft.sqlite"), at("log.ready.sqlite")).unwrap();
        }
        if stage > 1 {
            fs::rename(at("log.sqlite-wal"), at("log.given-up.sqlite-wal")).unwrap();
        }
        if stage > 2 {
            fs::rename(at(LOG), at("log.given-up.sqlite")).unwrap();
        }
        let all = [record(7, 5, "a"), record(9, 7, "b")];
        let expected = if stage == 0 { &all[..] } else { &all[..1] };
        for _ in 0..2 {
            let again = SqliteLog::open(&crashed).unwrap();
            assert_eq!(again.read(0, 1 << 20).unwrap(), expected, "{stage}");
            assert_eq!(again.promised(), Ok(9), "a start tells that something is missing");
        }
    }
}

#[test]
fn files_that_are_missing_or_empty_are_told_as_damage() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    let crashed = root.path().join("crashed");
    for name in [LOG, "state.sqlite", "mark"] {
        for how in ["missing", "empty"] {
            killed(&path, &crashed);
            match how {
                "missing" => fs::remove_file(crashed.join(name)).unwrap(),
                _ => fs::write(crashed.join(name), "").unwrap(),
            }
            for _ in 0..2 {
                let text = look(&crashed).unwrap_err().to_string();
                assert_eq!(text, format!("{name} is damaged: it is {how}"));
            }
            assert_eq!(crashed.join(name).exists(), how == "empty", "nothing is made up");
        }
    }
    // The checkpoint alone still says up to where a log can be cut.
    killed(&path, &crashed);
    fs::write(crashed.join(LOG), vec![7; 10_000]).unwrap();
    let broken = SqliteLog::open(&crashed).unwrap();
    assert!(matches!(broken.promised(), Err(StoreError::Damaged { .. })));
    assert!(matches!(broken.append(&[]), Err(StoreError::Damaged { .. })));
    let cut = broken.cut(5).unwrap();
    cut.append(&[record(6, 5, "new")]).unwrap();
    assert_eq!(cut.read(0, 1 << 20).unwrap(), [record(6, 5, "new")]);
}

#[test]
fn a_log_that_is_too_short_is_read_as_far_as_it_goes() {
    let (_root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    let body = "0123456789".repeat(300);
    let all: Vec<Record> = (6..100).map(|ts| record(ts, ts - 1, &body)).collect();
    store.append(&all).unwrap();
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(path.join(LOG)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 4_096).unwrap();
    let store = SqliteLog::open(&path).unwrap();
    assert!(matches!(store.promised(), Err(StoreError::Damaged { .. })));
    // All of it at once, and then the error: who looks for the end need not read it twice.
    let read = store.read(5, 1 << 20).unwrap();
    assert!(read.len() > 80 && read == all[..read.len()], "{} were read", read.len());
    let last = read.last().unwrap().ts;
    for bytes in [0, 1 << 20] {
        assert!(matches!(store.read(last, bytes), Err(StoreError::Damaged { .. })));
    }
    assert_eq!(store.read(last - 1, 0).unwrap(), read[read.len() - 1..]);
    let store = store.cut(read.last().unwrap().ts).unwrap();
    assert_eq!(store.read(5, 1 << 20).unwrap(), read);
}

#[test]
fn a_clock_beyond_what_can_be_written_is_refused() {
    let (_root, path) = folder();
    let late = 1 << 63;
    let refused = SqliteLog::create(&path, late).err();
    assert!(matches!(refused, Some(StoreError::Late(_))) && !path.exists(), "{refused:?}");
    let store = SqliteLog::create(&path, 5).unwrap();
    let refused = store.append(&[record(7, 5, "a"), record(late, 7, "b")]).unwrap_err();
    assert!(refused.to_string().contains("the system's clock is wrong"), "{refused}");
    assert_eq!((store.read(0, 1 << 20), said(&path)), (Ok(vec![]), Said::Kept(0)));
    store.append(&[record(8, 5, "c")]).unwrap();
    drop(store);
    let again = SqliteLog::open(&path).unwrap();
    assert_eq!(again.read(0, 1 << 20).unwrap(), [record(8, 5, "c")]);
}

#[test]
fn a_log_that_ends_early_shows() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    store.append(&[record(7, 5, "a")]).unwrap();
    store.append(&[record(9, 7, "b")]).unwrap();
    // A crash: the write-ahead log is as long as it was.
    let crashed = root.path().join("crashed");
    killed(&path, &crashed);
    assert_eq!(look(&crashed).unwrap().0.len(), 2);
    fs::copy(path.join(LOG), crashed.join(LOG)).unwrap();
    let wal = fs::read(path.join("log.sqlite-wal")).unwrap();
    fs::write(crashed.join("log.sqlite-wal"), &wal[..wal.len() - 100]).unwrap();
    let early = SqliteLog::open(&crashed).unwrap();
    assert_eq!(early.read(5, 1 << 20).unwrap(), [record(7, 5, "a")], "SQLite sees no damage");
    assert_eq!(early.promised(), Ok(9));
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
    let mut records: Vec<Record> = Vec::new();
    loop {
        let more = store.read(records.last().map_or(0, |last| last.ts), 1 << 20)?;
        if more.is_empty() {
            break;
        }
        records.extend(more);
    }
    let mut all = Vec::new();
    let ts = store.load(&mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    let newest = records.last().map_or(ts, |last| last.ts);
    let promised = store.promised()?;
    if newest < promised || records.first().is_some_and(|first| first.previous > ts) {
        return Err(damaged("commits are missing"));
    }
    Ok((records, (ts, all), promised))
}

#[test]
fn a_settled_checkpoint_gives_the_room_of_its_write_ahead_log_back() {
    let (root, path) = folder();
    let store = SqliteLog::create(&path, 5).unwrap();
    let text = "x".repeat(100_000);
    let written = |ts: u64| {
        let keys: Vec<String> = (0..20).map(|n| format!("{ts} {n}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (&**key, Some(&*text))).collect();
        store.checkpoint(ts, &changes(&pairs)).unwrap();
    };
    let bytes = |folder: &Path| fs::metadata(folder.join("state.sqlite-wal")).unwrap().len();
    (6..9).for_each(written);
    assert!(bytes(&path) > 2_000_000, "{}", bytes(&path));
    store.settle().unwrap();
    assert_eq!(bytes(&path), 0);
    // What a host that was killed has left goes with the next start.
    (9..12).for_each(written);
    let crashed = root.path().join("crashed");
    killed(&path, &crashed);
    assert!(bytes(&crashed) > 2_000_000);
    let again = SqliteLog::open(&crashed).unwrap();
    assert_eq!((bytes(&crashed), pairs(&again).1.len()), (0, 120));
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
