//! Tests of files that are not what was written: bits flipped, ends cut off, pages lost or moved,
//! at hundreds of seeded places.
//!
//! In: a folder that a host left behind, killed or in order. Out: for each damage, an error that
//! names it, or the very same data. Invariant: never other data; and where an error says up to
//! when everything is whole, giving up the rest leaves exactly that.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use database::commit::Database;
use database::key::Interval;
use database::limits;

use super::tests::{insert, options};
use super::{Options, open};

/// Bytes of a page of SQLite.
const PAGE: usize = 4096;
/// Damages of each kind.
const TIMES: u64 = 60;

/// What a host must find again: its documents, by their hash, at each of its timestamps.
type Known = BTreeMap<u64, Vec<u64>>;

fn documents(database: &Database) -> (u64, Vec<u64>) {
    let snapshot = database.snapshot();
    let Some(table) = snapshot.table("", "a") else { return (snapshot.ts.0, Vec::new()) };
    let documents = snapshot.range(table.by_id.id, &Interval::all());
    let hash = |text: String| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    };
    let hashes = documents.map(|(_, document)| hash(document.json().to_string()));
    (snapshot.ts.0, hashes.collect())
}

/// A number that is a function of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// One way to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit is another.
    Flip,
    /// The end is gone.
    Cut,
    /// A page is zeros.
    Lose,
    /// Two pages have changed places.
    Swap,
}

fn damage(bytes: &mut Vec<u8>, how: Damage, dice: &mut Dice) {
    let pages = bytes.len() / PAGE;
    match how {
        Damage::Flip => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        Damage::Cut => bytes.truncate(dice.below(bytes.len())),
        Damage::Lose if pages > 0 => {
            let page = dice.below(pages) * PAGE;
            bytes[page..page + PAGE].fill(0);
        }
        Damage::Swap if pages > 1 => {
            let (one, other) = (dice.below(pages) * PAGE, dice.below(pages) * PAGE);
            let page = bytes[one..one + PAGE].to_vec();
            bytes.copy_within(other..other + PAGE, one);
            bytes[other..other + PAGE].copy_from_slice(&page);
        }
        Damage::Lose | Damage::Swap => {}
    }
}

fn within(folder: &Path) -> Options {
    Options { history_disk: limits::HISTORY_DISK_MIN_BYTES, ..options(folder) }
}

/// A folder with a checkpoint and a log after it, as a host leaves it that is killed, with a
/// write-ahead log; and as one leaves it that ends in order.
fn left_behind(root: &Path) -> (PathBuf, PathBuf, Known) {
    let folder = root.join("running");
    let data = open(within(&folder)).unwrap();
    let mut known = BTreeMap::from([documents(&data.database)]);
    let mut write = |call, bytes| {
        let committed = insert(&data.database, call, bytes);
        data.database.wait_durable(committed.ts).unwrap();
        known.extend([documents(&data.database)]);
    };
    (1..=80).for_each(|call| write(call, 20_000));
    let (disk, begun) = (data.keeper.disk(), std::time::Instant::now());
    while disk().trimmed == 0 || disk().log_bytes > limits::HISTORY_DISK_MIN_BYTES {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", disk());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // These stay in the write-ahead log.
    (81..=90).for_each(|call| write(call, 2_000));
    let (killed, ended) = (root.join("killed"), root.join("ended"));
    copy(&folder, &killed);
    drop(data);
    copy(&folder, &ended);
    (killed, ended, known)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("db")).unwrap();
    fs::copy(from.join("FORMAT"), to.join("FORMAT")).unwrap();
    for entry in fs::read_dir(from.join("db")).unwrap() {
        let name = entry.unwrap().file_name();
        if !name.to_string_lossy().ends_with("-shm") {
            fs::copy(from.join("db").join(&name), to.join("db").join(&name)).unwrap();
        }
    }
}

/// What came of a damage.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// The same data.
    Same,
    /// A refusal, and nothing that could be given up.
    Lost,
    /// A refusal, and a folder that goes on from a timestamp.
    GivenUp(u64),
}

/// Opens a folder that is damaged, and gives up what the error says can be given up.
fn open_damaged(folder: &Path, known: &Known, what: &str) -> Came {
    let newest = known.last_key_value().unwrap();
    let same = |database: &Database, expected: (&u64, &Vec<u64>)| {
        let (ts, found) = documents(database);
        assert!((&ts, &found) == expected, "{what}: other data is served, at {ts}");
    };
    let text = match open(within(folder)) {
        Ok(data) => {
            same(&data.database, newest);
            return Came::Same;
        }
        Err(error) => error.to_string(),
    };
    assert!(text.contains("is damaged"), "{what}: {text}");
    let Some((_, rest)) = text.split_once("--give-up-after ") else {
        assert!(text.contains("Restore a backup"), "{what}: {text}");
        return Came::Lost;
    };
    let ts: u64 = rest.split(':').next().unwrap().parse().unwrap();
    let give_up = Options { give_up_after: Some(ts), ..within(folder) };
    let expected = known.get_key_value(&ts).unwrap();
    let data = open(give_up).unwrap_or_else(|error| panic!("{what}: {text} {error}"));
    same(&data.database, expected);
    drop(data);
    let data = open(within(folder)).unwrap_or_else(|error| panic!("{what}: again: {error}"));
    same(&data.database, expected);
    let next = insert(&data.database, 1_000, 10);
    data.database.wait_durable(next.ts).unwrap();
    let expected = documents(&data.database);
    drop(data);
    let data = open(within(folder)).unwrap_or_else(|error| panic!("{what}: later: {error}"));
    same(&data.database, (&expected.0, &expected.1));
    Came::GivenUp(ts)
}

#[test]
fn no_damage_shows_other_data() {
    let root = tempfile::tempdir().unwrap();
    let (killed, _, known) = left_behind(root.path());
    let files = ["log.sqlite", "log.sqlite-wal", "state.sqlite", "mark"];
    let mut came = Vec::new();
    for how in [Damage::Flip, Damage::Cut, Damage::Lose, Damage::Swap] {
        for seed in 0..TIMES {
            let mut dice = Dice(seed * 4 + how as u64);
            let file = files[dice.below(files.len())];
            let folder = root.path().join("damaged");
            copy(&killed, &folder);
            let path = folder.join("db").join(file);
            let mut bytes = fs::read(&path).unwrap();
            assert!(!bytes.is_empty(), "{file}");
            damage(&mut bytes, how, &mut dice);
            fs::write(&path, &bytes).unwrap();
            came.push(open_damaged(&folder, &known, &format!("{how:?} {seed} {file}")));
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    let same = came.iter().filter(|came| **came == Came::Same).count();
    let lost = came.iter().filter(|came| **came == Came::Lost).count();
    let given_up = came.len() - same - lost;
    assert!(lost + given_up > same / 4 && given_up > 20, "{same} same, {lost} lost, {given_up}");
}

/// After an orderly end everything is in the database: each of its pages, lost.
#[test]
fn a_log_with_a_lost_page_can_be_given_up_from_there() {
    let root = tempfile::tempdir().unwrap();
    let (_, ended, known) = left_behind(root.path());
    let folder = root.path().join("damaged");
    let whole = fs::read(ended.join("db/log.sqlite")).unwrap();
    let pages = whole.len() / PAGE;
    let mut came = Vec::new();
    let mut tried = |bytes: &[u8], what: &str| {
        copy(&ended, &folder);
        fs::write(folder.join("db/log.sqlite"), bytes).unwrap();
        came.push(open_damaged(&folder, &known, what));
        fs::remove_dir_all(&folder).unwrap();
    };
    for page in (0..pages).step_by(1 + pages / 50) {
        let mut bytes = whole.clone();
        bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        tried(&bytes, &format!("page {page} of {pages}"));
    }
    for length in [0, 1, PAGE / 2, PAGE, whole.len() / 2, whole.len() - PAGE, whole.len() - 1] {
        tried(&whole[..length], &format!("{length} bytes of {}", whole.len()));
    }
    assert!(!came.contains(&Came::Lost), "the checkpoint is whole: {came:?}");
    let mut moments: Vec<&Came> = came.iter().filter(|came| **came != Came::Same).collect();
    let refused = moments.len();
    moments.dedup();
    assert!(refused > pages.min(50) / 4 && moments.len() > 10, "{came:?}");
}
