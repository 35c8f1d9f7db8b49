//! Tests of what is kept: through a folder, and through a store that fails when it is told to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use database::commit::{Committed, Writer};
use database::limits;
use database::record::{Given, Timestamp};
use database::value::Value;
use storage::{Changes, MemoryLog, Record, Take};

use super::*;

pub(super) const EPOCH: u64 = 1_700_000_000_000_000_000;

pub(super) fn sizes() -> DatabaseOptions {
    DatabaseOptions { history_bytes: 64 << 20, cache_bytes: 1 << 20, now: EPOCH }
}

pub(super) fn options(folder: &Path) -> Options {
    let tell: Tell = Arc::new(|_: &str| {});
    let (folder, history_disk) = (folder.to_owned(), limits::CHECKPOINT_BYTES);
    Options { folder, database: sizes(), give_up_after: None, history_disk, tell }
}

fn given(call: u64) -> Given {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&call.to_le_bytes());
    Given { seed, now: EPOCH + call, ..Given::default() }
}

/// Inserts a document with `bytes` of text, and gives when.
pub(super) fn insert(database: &Database, call: u64, bytes: usize) -> Committed {
    let mut now = database.begin(database.newest(), &given(call), false);
    let text = Value::String("x".repeat(bytes));
    let fields = [("n".to_owned(), Value::Float64(call as f64)), ("text".to_owned(), text)];
    now.insert("", "a", Value::Object(fields.into())).unwrap();
    database.commit(now, EPOCH + call, Writer::new("insert", "")).unwrap()
}

fn count(database: &Database) -> u64 {
    database.snapshot().tables("").first().map_or(0, |table| table.documents)
}

#[test]
fn a_folder_gives_back_what_was_kept_and_time_never_goes_back() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let data = open(options(&folder)).unwrap();
    let last = (1..=50).map(|call| insert(&data.database, call, 10).ts).max().unwrap();
    data.database.wait_durable(last).unwrap();
    // No orderly end: the threads are left as they are.
    std::mem::forget(data.database.clone());
    drop(data);
    // The clock has gone back by an hour.
    let now = EPOCH - 3_600_000_000_000;
    let database = DatabaseOptions { now, ..sizes() };
    let data = open(Options { database, ..options(&folder) }).unwrap();
    assert_eq!((count(&data.database), data.database.snapshot().ts), (50, last));
    let next = insert(&data.database, 51, 10);
    assert!(next.ts > last);
    let in_use = open(options(&folder)).err().unwrap().to_string();
    assert!(in_use.contains("in use by another concave"), "{in_use}");
}

#[test]
fn checkpoints_move_the_log_on_and_leave_history() {
    let root = tempfile::tempdir().unwrap();
    let data = open(options(root.path())).unwrap();
    let bytes = 500_000;
    let enough = (limits::CHECKPOINT_BYTES as usize / bytes + 4) as u64;
    let mut written = Vec::new();
    for call in 1..=enough {
        let committed = insert(&data.database, call, bytes);
        data.database.wait_durable(committed.ts).unwrap();
        written.push(committed.ts);
    }
    drop(data);
    // The first checkpoint may come later than the last insert: make one more start.
    let data = open(options(root.path())).unwrap();
    for call in enough + 1..=2 * enough {
        let committed = insert(&data.database, call, bytes);
        data.database.wait_durable(committed.ts).unwrap();
    }
    let disk = data.keeper.disk();
    while disk().trimmed == 0 || disk().log_bytes > limits::CHECKPOINT_BYTES {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let leaves = limits::CHECKPOINT_BYTES / limits::CHECKPOINT_LEAVES_PART;
    assert!(disk().bytes > leaves, "{:?}", disk());
    drop(data);
    let data = open(options(root.path())).unwrap();
    assert_eq!(count(&data.database), 2 * enough);
    let oldest = data.database.history().oldest;
    assert!(oldest > written[0], "the log was trimmed up to its checkpoint");
    let left = data.database.history().entries.len() * bytes;
    assert!(left + bytes > leaves as usize, "{left} bytes of history came back; {leaves} stay");
}

#[test]
fn history_on_disk_stays_within_its_room_oldest_first_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&said);
    let tell: Tell = Arc::new(move |news: &str| hear.lock().unwrap().push(news.to_owned()));
    let room = limits::HISTORY_DISK_MIN_BYTES;
    let options = || Options { history_disk: room, tell: tell.clone(), ..options(root.path()) };
    let data = open(options()).unwrap();
    let mut written = Vec::new();
    for call in 1..=200 {
        let committed = insert(&data.database, call, 50_000);
        data.database.wait_durable(committed.ts).unwrap();
        written.push(committed.ts);
    }
    let disk = data.keeper.disk();
    let begun = std::time::Instant::now();
    while disk().log_bytes > room || disk().trimmed == 0 {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", disk());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(data);
    let said = said.lock().unwrap().clone();
    let cut: Vec<_> = said.iter().filter(|text| text.contains("cut to stay within")).collect();
    assert_eq!(cut.len(), 1, "{said:?}");
    assert!(cut[0].starts_with("The history on disk is cut to stay within 1.0 MiB"), "{cut:?}");
    // Rows that are gone leave room that is used again: the file does not grow with the writes.
    let size = std::fs::metadata(root.path().join("db/log.sqlite")).unwrap().len();
    assert!(size < 6 * room, "{size} bytes after 10 MB of commits");
    let data = open(options()).unwrap();
    assert_eq!(count(&data.database), 200);
    let kept = data.database.kept();
    assert!(kept.oldest > written[150] && kept.newest == written[199], "{kept:?}");
}

#[test]
fn a_folder_without_its_commits_is_refused_and_no_file_goes() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    drop(open(options(&folder)).unwrap());
    let file = folder.join("files/6f1e2a34-5b6c-4d7e-8f90-a1b2c3d4e5f6");
    std::fs::write(&file, "stored").unwrap();
    std::fs::remove_dir_all(folder.join("db")).unwrap();
    for _ in 0..2 {
        let text = open(options(&folder)).err().unwrap().to_string();
        assert!(text.contains("is damaged, so it is not served: db is damaged"), "{text}");
        assert!(text.contains("it is missing") && text.contains("Restore a backup"), "{text}");
        assert!(file.exists() && !folder.join("db").exists(), "nothing has changed");
    }
    // A first start that was interrupted is none.
    let new = root.path().join("new");
    std::fs::create_dir_all(new.join("db.draft")).unwrap();
    std::fs::write(new.join("FORMAT"), format!("concave data, format {}", stored::FORMAT)).unwrap();
    std::fs::write(new.join(".gitignore"), "*").unwrap();
    drop(open(options(&new)).unwrap());
}

#[test]
fn damage_is_named_with_the_last_good_timestamp() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let data = open(options(&folder)).unwrap();
    let times: Vec<Timestamp> = (1..=9).map(|call| insert(&data.database, call, 30).ts).collect();
    data.database.wait_durable(times[8]).unwrap();
    drop(data);
    // The name of a field of the sixth.
    let log = folder.join("db/log.sqlite");
    let mut bytes = std::fs::read(&log).unwrap();
    let needle = br#""n":6"#;
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + 1] = b'm';
    std::fs::write(&log, &bytes).unwrap();
    let error = open(options(&folder)).err().unwrap().to_string();
    let good = times[4];
    assert!(error.contains("is damaged") && error.contains(&format!("{}", times[5])), "{error}");
    assert!(error.contains(&format!("--give-up-after {good}")), "{error}");
    let wrong = Some(good.0 + 1);
    let text =
        open(Options { give_up_after: wrong, ..options(&folder) }).err().unwrap().to_string();
    assert!(text.contains(&format!("the last one before it is {good}")), "{text}");
    let data = open(Options { give_up_after: Some(good.0), ..options(&folder) }).unwrap();
    assert_eq!((count(&data.database), data.database.snapshot().ts), (5, good));
    drop(data);
    assert_eq!(count(&open(options(&folder)).unwrap().database), 5);
}

#[test]
fn a_wrong_timestamp_to_give_up_after_is_told_with_those_that_are_possible() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let data = open(options(&folder)).unwrap();
    let times: Vec<u64> = (1..=9).map(|call| insert(&data.database, 10 * call, 30).ts.0).collect();
    data.database.wait_durable(Timestamp(times[8])).unwrap();
    drop(data);
    let tried = |given| {
        let error = open(Options { give_up_after: Some(given), ..options(&folder) }).err().unwrap();
        assert!(matches!(error, OpenError::GiveUp { .. }), "{error}");
        let text = error.to_string();
        let range = format!("Possible are {EPOCH}, where its checkpoint is, and the timestamp of");
        assert!(text.contains(&range) && text.contains(&format!("up to {}.", times[8])), "{text}");
        assert!(!text.contains("is damaged"), "{text}");
        text
    };
    assert!(tried(5).contains("before everything"));
    assert!(tried(times[3] - 1).contains(&format!("before it is {}.", times[2])));
    assert!(tried(u64::MAX).contains(&format!("before it is {}.", times[8])));
    assert_eq!(count(&open(options(&folder)).unwrap().database), 9, "nothing was given up");
}

#[test]
fn a_disk_too_full_to_start_is_told_with_the_room_that_it_takes() {
    let cause = StoreError::Full("log.sqlite: database or disk is full".into());
    let text = OpenError::Store { folder: "data".into(), cause }.to_string();
    assert!(text.contains("is full).") && text.contains("make room for 1 MiB"), "{text}");
    let cause = StoreError::Failed("log.sqlite: disk I/O error".into());
    let text = OpenError::Store { folder: "data".into(), cause }.to_string();
    assert!(text.ends_with("error)."), "{text}");
}

/// Fails while it is told to.
struct Failing {
    store: MemoryLog,
    fails: AtomicBool,
}

impl LogStore for Failing {
    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Full("no space left on device".into()));
        }
        self.store.append(records)
    }

    fn read(&self, after: u64, bytes: usize) -> Result<Vec<Record>, StoreError> {
        self.store.read(after, bytes)
    }

    fn load(&self, take: Take<'_>) -> Result<u64, StoreError> {
        self.store.load(take)
    }

    fn checkpoint(&self, ts: u64, changes: &Changes) -> Result<(), StoreError> {
        self.store.checkpoint(ts, changes)
    }

    fn trim(&self, ts: u64, count: usize) -> Result<usize, StoreError> {
        self.store.trim(ts, count)
    }

    fn size(&self) -> Result<u64, StoreError> {
        self.store.size()
    }
}

#[test]
fn a_full_disk_undoes_and_work_goes_on_when_there_is_room() {
    let database = Arc::new(Database::new(sizes()));
    let failing = Arc::new(Failing { store: MemoryLog::new(EPOCH), fails: AtomicBool::new(false) });
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&said);
    let committer = Arc::new(Committer::default());
    database.keep_in(committer.clone());
    let work = committer::Work {
        database: Arc::clone(&database),
        store: failing.clone(),
        checkpointer: Arc::new(Checkpointer::new(checkpointer::Tail::new(EPOCH), 16 << 20)),
        build: "test".into(),
        tell: Arc::new(move |news: &str| hear.lock().unwrap().push(news.to_owned())),
    };
    let running = Arc::clone(&committer);
    let thread = std::thread::spawn(move || running.run(&work));
    let first = insert(&database, 1, 10);
    database.wait_durable(first.ts).unwrap();
    failing.fails.store(true, Ordering::SeqCst);
    for call in 2..=4 {
        let lost = insert(&database, call, 10);
        let why = database.wait_durable(lost.ts).unwrap_err().to_string();
        assert!(why.contains("the disk is full (no space left on device)"), "{why}");
        assert_eq!(count(&database), 1);
    }
    failing.fails.store(false, Ordering::SeqCst);
    let kept = insert(&database, 5, 10);
    database.wait_durable(kept.ts).unwrap();
    assert_eq!(count(&database), 2);
    let records = failing.read(0, 1 << 20).unwrap();
    let times: Vec<_> = records.iter().map(|record| record.ts).collect();
    assert_eq!(times, [first.ts.0, kept.ts.0]);
    assert_eq!(records[1].previous, first.ts.0);
    committer.stop();
    thread.join().unwrap();
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 2, "once when it begins and once when it ends: {said:?}");
}
