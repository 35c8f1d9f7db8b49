//! Tests of files that are not what was written: bits flipped, ends cut off, pages lost or moved,
//! at hundreds of seeded places.
//!
//! In: a folder that a host left behind, as if killed. Out: for each damage, an error that names
//! it, or the very same data. Invariant: never other data.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use database::commit::Database;
use database::key::Interval;
use database::limits;

use super::tests::{insert, options};
use super::{Options, open};

/// Bytes of a page of SQLite.
const PAGE: usize = 4096;
/// Damages of each kind.
const TIMES: u64 = 60;

/// What a host must find again: its newest timestamp, and every document.
type Known = (u64, Vec<String>);

fn known(database: &Database) -> Known {
    let snapshot = database.snapshot();
    let table = snapshot.table("", "a").unwrap();
    let documents = snapshot.range(table.by_id.id, &Interval::all());
    (snapshot.ts.0, documents.map(|(_, document)| document.json().to_string()).collect())
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

/// A folder with a checkpoint, a log after it, and a write-ahead log, as a killed host leaves it.
fn left_behind(root: &Path) -> (PathBuf, Known) {
    let folder = root.join("running");
    let data = open(within(&folder)).unwrap();
    for call in 1..=80 {
        let committed = insert(&data.database, call, 20_000);
        data.database.wait_durable(committed.ts).unwrap();
    }
    let (disk, begun) = (data.keeper.disk(), std::time::Instant::now());
    while disk().trimmed == 0 || disk().log_bytes > limits::HISTORY_DISK_MIN_BYTES {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", disk());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // These stay in the write-ahead log.
    for call in 81..=90 {
        let committed = insert(&data.database, call, 2_000);
        data.database.wait_durable(committed.ts).unwrap();
    }
    let left = root.join("left");
    copy(&folder, &left);
    (left, known(&data.database))
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

#[test]
fn no_damage_shows_other_data() {
    let root = tempfile::tempdir().unwrap();
    let (left, known_before) = left_behind(root.path());
    let files = ["log.sqlite", "log.sqlite-wal", "state.sqlite", "mark"];
    let (mut refused, mut same) = (0, 0);
    for how in [Damage::Flip, Damage::Cut, Damage::Lose, Damage::Swap] {
        for seed in 0..TIMES {
            let mut dice = Dice(seed * 4 + how as u64);
            let file = files[dice.below(files.len())];
            let folder = root.path().join("damaged");
            copy(&left, &folder);
            let path = folder.join("db").join(file);
            let mut bytes = fs::read(&path).unwrap();
            assert!(!bytes.is_empty(), "{file}");
            damage(&mut bytes, how, &mut dice);
            fs::write(&path, &bytes).unwrap();
            match open(within(&folder)) {
                Ok(data) => {
                    let found = known(&Arc::clone(&data.database));
                    assert!(found == known_before, "{how:?} {seed} {file}: other data is served");
                    same += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("is damaged"), "{how:?} {seed} {file}: {text}");
                    refused += 1;
                }
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    assert!(refused > same / 4, "{refused} refused, {same} without effect");
}
