//! The memory budget: measured from outside, held by shrinking caches and then by refusing work.
//!
//! ```text
//!   every few milliseconds: resident memory ─▶ Calm · Tight (from 80 %) · Full (from 95 %) · Over
//!        Tight: caches, history, ready contexts shrink; freed pages go back to the system
//!        Full:  that, and new work is refused with the figures
//!        Over (from 110 %): that, and what makes the data larger, the operator's calls too
//! ```
//! In: a budget, a database, the processes that run actions. Out: pressure on the database, news
//! for the operator. Invariant: a level is left only when memory has fallen well below where it was
//! entered, so that it does not flicker.

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use database::commit::{Database, Options as DatabaseOptions};
use database::limits;
use database::memory::Pressure;
use database::record::Timestamp;
use functions::allocator;
use server::essential;
use thiserror::Error;

use crate::durable::Tell;

/// How often memory is measured: what can be read from a socket meanwhile must fit into the rest.
const LOOK: Duration = Duration::from_millis(50);
/// How often those who give memory up are asked again.
const PRESS: Duration = Duration::from_secs(1);
/// How often the operator is told that history was dropped.
const TRIMMED_NEWS: Duration = Duration::from_secs(3_600);
/// The part of a budget for one isolate: its heap and its buffers at their limits.
const ISOLATE: u64 = limits::HEAP_BYTES + limits::ARRAY_BUFFER_BYTES;

/// A memory budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In bytes.
    pub bytes: u64,
}

/// Room for history in a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: limits::CHECKPOINT_BYTES }
    }
}

/// Why a text is no budget.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoBudget {
    /// Another notation.
    #[error("{0:?} is no number of bytes: write bytes, or a number with K, M or G, like 512M")]
    Unread(String),
    /// Too little to work with.
    #[error(
        "A memory budget of {} is too small: a host needs {} at least",
        Size(*.0),
        Size(limits::MEMORY_MIN_BYTES)
    )]
    Small(u64),
    /// Too little for history on disk.
    #[error(
        "Room for history of {} is too small: the log needs {} at least",
        Size(*.0),
        Size(limits::HISTORY_DISK_MIN_BYTES)
    )]
    Narrow(u64),
}

impl FromStr for Budget {
    type Err = NoBudget;

    fn from_str(text: &str) -> Result<Self, NoBudget> {
        let bytes = bytes(text)?;
        if bytes < limits::MEMORY_MIN_BYTES {
            return Err(NoBudget::Small(bytes));
        }
        Ok(Self { bytes })
    }
}

impl FromStr for Room {
    type Err = NoBudget;

    fn from_str(text: &str) -> Result<Self, NoBudget> {
        let bytes = bytes(text)?;
        if bytes < limits::HISTORY_DISK_MIN_BYTES {
            return Err(NoBudget::Narrow(bytes));
        }
        Ok(Self { bytes })
    }
}

/// `536870912`, `512M`, `512MiB`, `1.5G`: K, M, G and T are powers of 1024.
fn bytes(text: &str) -> Result<u64, NoBudget> {
    let unread = || NoBudget::Unread(text.to_owned());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number: f64 = number.parse().map_err(|_| unread())?;
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(unread()),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let bytes = (number * (1_u64 << shift) as f64) as u64;
    Ok(bytes)
}

impl Budget {
    /// The database's shares: an eighth for cached results, a sixteenth for the past.
    pub fn database(self, now: u64) -> DatabaseOptions {
        let bytes = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        DatabaseOptions {
            cache_bytes: bytes(self.bytes / 8),
            history_bytes: bytes(self.bytes / 16),
            now,
        }
    }

    /// An eighth for bodies of requests.
    pub fn bodies(self) -> u64 {
        (self.bytes / 8).min(limits::HTTP_BODIES_BYTES)
    }

    /// A quarter for answers that clients have not taken.
    pub fn answers(self) -> u64 {
        (self.bytes / 4).min(limits::HTTP_ANSWERS_BYTES)
    }

    /// A quarter for files that are stored in memory.
    pub fn files(self) -> u64 {
        (self.bytes / 4).min(limits::FILES_MEMORY_BYTES)
    }

    /// How many isolates it has room for.
    pub fn isolates(self, cores: NonZeroUsize) -> usize {
        let room = usize::try_from(self.bytes / 2 / ISOLATE).unwrap_or(usize::MAX);
        room.clamp(1, cores.get())
    }

    fn part(self, percent: u64) -> u64 {
        self.bytes / 100 * percent
    }
}

/// Bytes, for people.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        match mib {
            mib if mib < 10.0 => write!(f, "{mib:.1} MiB"),
            mib if mib < 10_240.0 => write!(f, "{mib:.0} MiB"),
            mib => write!(f, "{:.1} GiB", mib / 1024.0),
        }
    }
}

/// Bytes of memory that this process has from the system; `None`: the system does not say.
pub fn resident() -> Option<u64> {
    Some(pages("self")?.0)
}

/// What processes have for themselves, in bytes: not what they share with this one.
pub fn of_their_own(processes: &[u32]) -> u64 {
    let own = processes.iter().filter_map(|process| {
        let (resident, shared) = pages(&process.to_string())?;
        Some(resident.saturating_sub(shared))
    });
    own.sum()
}

/// Resident bytes, and how many of them belong to files.
fn pages(process: &str) -> Option<(u64, u64)> {
    // Linux has pages of 4096 bytes wherever V8 runs.
    const PAGE: u64 = 4096;
    let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut numbers = text.split(' ').skip(1).map(|number| number.parse::<u64>());
    let (resident, shared) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((resident * PAGE, shared * PAGE))
}

/// Lists processes that belong to the host.
pub type Processes = Arc<dyn Fn() -> Vec<u32> + Send + Sync>;

/// What is watched.
pub struct Watched {
    /// The budget; `None`: memory is not bounded, and only the loss of history is told.
    pub budget: Option<Budget>,
    /// Whose caches shrink.
    pub database: Arc<Database>,
    /// The processes that count too.
    pub processes: Processes,
    /// Ends those of them that have nothing to do.
    pub shrink: Arc<dyn Fn() + Send + Sync>,
    /// Told what the operator should know.
    pub tell: Tell,
}

/// Watches memory, until it is dropped.
pub struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(watched: Watched) -> std::io::Result<Self> {
        let (stop, stopping) = mpsc::channel();
        let Watched { budget, database, processes, shrink, tell } = watched;
        let database = Arc::downgrade(&database);
        let warn = Arc::clone(&tell);
        let mut state = State { budget, processes, shrink, tell, ..State::default() };
        // What is full with its data alone is full before anybody can ask.
        state.look(&database);
        let run = move || {
            let pause = if budget.is_some() { LOOK } else { PRESS };
            while let Err(RecvTimeoutError::Timeout) = stopping.recv_timeout(pause) {
                if !state.look(&database) {
                    break;
                }
            }
        };
        let thread = essential::thread("watch over memory", &warn, run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

/// What the thread remembers.
struct State {
    budget: Option<Budget>,
    processes: Processes,
    shrink: Arc<dyn Fn() + Send + Sync>,
    tell: Tell,
    level: Level,
    pressed: Option<Instant>,
    /// Up to where the loss of history was told, and when.
    told: Option<(Timestamp, Instant)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            budget: None,
            processes: Arc::new(Vec::new),
            shrink: Arc::new(|| {}),
            tell: Arc::new(|_| {}),
            level: Level::Calm,
            pressed: None,
            told: None,
        }
    }
}

/// How much of the budget is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Calm,
    Tight,
    Full,
    Over,
}

impl Level {
    /// The next level, at so many bytes.
    fn next(self, used: u64, budget: Budget) -> Self {
        const OVER: u64 = limits::MEMORY_OPERATOR_PERCENT;
        let (tight, full, over) = match self {
            Self::Calm => (80, 95, OVER),
            Self::Tight => (75, 95, OVER),
            Self::Full => (75, 90, OVER),
            Self::Over => (75, 90, OVER - 5),
        };
        match used {
            used if used >= budget.part(over) => Self::Over,
            used if used >= budget.part(full) => Self::Full,
            used if used >= budget.part(tight) => Self::Tight,
            _ => Self::Calm,
        }
    }
}

impl State {
    /// One look. Says whether there is still something to look at.
    fn look(&mut self, database: &Weak<Database>) -> bool {
        let Some(database) = database.upgrade() else { return false };
        if let Some(budget) = self.budget
            && let Some(host) = resident()
        {
            let used = host + of_their_own(&(self.processes)());
            self.act(&database, used, budget);
        }
        self.tell_of_the_past(&database);
        true
    }

    fn act(&mut self, database: &Database, used: u64, budget: Budget) {
        let next = self.level.next(used, budget);
        let before = std::mem::replace(&mut self.level, next);
        let due = self.pressed.is_none_or(|pressed| pressed.elapsed() >= PRESS);
        if self.level == before && (self.level == Level::Calm || !due) {
            return;
        }
        self.pressed = Some(Instant::now());
        database.press(match self.level {
            Level::Calm => Pressure::Calm,
            Level::Tight => Pressure::Tight,
            Level::Full => Pressure::Full(full(database, used, budget)),
            Level::Over => Pressure::Over(full(database, used, budget)),
        });
        if self.level != Level::Calm {
            (self.shrink)();
            allocator::give_back();
        }
        match (before, self.level) {
            (Level::Calm | Level::Tight, Level::Full | Level::Over) => {
                (self.tell)(&format!("New work is refused: {}", full(database, used, budget)));
            }
            (Level::Full | Level::Over, Level::Calm | Level::Tight) => {
                let (used, budget) = (Size(used), Size(budget.bytes));
                (self.tell)(&format!("New work is taken again: {used} of {budget} are used."));
            }
            _ => {}
        }
    }

    /// Says so when the history was cut, now and then.
    fn tell_of_the_past(&mut self, database: &Database) {
        let kept = database.kept();
        let due = match self.told {
            None => kept.trimmed > 0,
            Some((oldest, when)) => kept.oldest > oldest && when.elapsed() >= TRIMMED_NEWS,
        };
        if !due {
            return;
        }
        self.told = Some((kept.oldest, Instant::now()));
        let (commits, oldest) = (kept.commits, kept.oldest);
        (self.tell)(&format!(
            "The history is cut to stay within its memory, oldest first: {commits} commits are \
             kept, back to the timestamp {oldest}. Older snapshots can no longer be asked for; \
             --memory gives the history a sixteenth of what it says."
        ));
    }
}

/// Why new work is refused.
fn full(database: &Database, used: u64, budget: Budget) -> String {
    let held = database.memory();
    let data = Size(held.documents + held.indexes);
    let (used, bytes) = (Size(used), Size(budget.bytes));
    format!(
        "The host is out of memory: it uses {used} of {bytes}, of which documents and their \
         indexes are {data}. Try again in a moment; if it stays, the operator can delete data or \
         start the host with a larger --memory."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn mib(count: u64) -> u64 {
        count << 20
    }

    #[test]
    fn budgets_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Budget>().map(|budget| budget.bytes);
        assert_eq!(read("512M"), Ok(mib(512)));
        assert_eq!(read("512 MiB"), Ok(mib(512)));
        assert_eq!(read("1.5g"), Ok(mib(1536)));
        assert_eq!(read("536870912"), Ok(mib(512)));
        assert_eq!(read("128M"), Ok(limits::MEMORY_MIN_BYTES));
        for text in ["", "M", "-1G", "1e9", "512 Q", "1.2.3G", "many"] {
            assert_eq!(read(text), Err(NoBudget::Unread(text.to_owned())), "{text}");
        }
        let small = read("64K").unwrap_err().to_string();
        assert!(small.starts_with("A memory budget of 0.1 MiB is too small"), "{small}");
        assert!(small.ends_with("128 MiB at least"), "{small}");
    }

    #[test]
    fn half_a_gibibyte_gives_the_shares_of_the_table() {
        let budget = Budget { bytes: mib(512) };
        let shares = budget.database(1);
        assert_eq!(shares.cache_bytes as u64, limits::CACHE_BYTES);
        assert_eq!(shares.history_bytes as u64, limits::HISTORY_BYTES);
        let cores = NonZeroUsize::new(16).unwrap();
        assert_eq!(budget.isolates(cores), 2);
        assert_eq!(Budget { bytes: limits::MEMORY_MIN_BYTES }.isolates(cores), 1);
        assert_eq!(Budget { bytes: mib(1 << 20) }.isolates(cores), 16);
        assert_eq!(Budget { bytes: mib(1 << 20) }.bodies(), limits::HTTP_BODIES_BYTES);
    }

    #[test]
    fn levels_do_not_flicker() {
        let budget = Budget { bytes: 1_000 };
        use Level::{Calm, Full, Over, Tight};
        let mut level = Calm;
        let walk = [790, 810, 770, 740, 960, 940, 910, 890, 700, 1_110, 1_060, 1_040, 700];
        let seen = walk.map(|used| {
            level = level.next(used, budget);
            level
        });
        let low = [Calm, Tight, Tight, Calm, Full, Full, Full, Tight, Calm];
        assert_eq!(seen, *[&low[..], &[Over, Over, Full, Calm]].concat());
    }

    #[test]
    fn the_process_is_measured() {
        assert!(resident().unwrap() > mib(1));
        let own = of_their_own(&[std::process::id()]);
        assert!(own > 0 && own < resident().unwrap(), "{own}");
    }

    #[test]
    fn a_full_host_presses_and_says_so_once() {
        let database = Database::new(DatabaseOptions::at(1));
        let news: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&news);
        let tell: Tell = Arc::new(move |line| told.lock().unwrap().push(line.to_owned()));
        let mut state = State { tell, ..State::default() };
        let budget = Budget { bytes: mib(512) };
        state.act(&database, mib(500), budget);
        state.act(&database, mib(501), budget);
        let refused = database.out_of_memory().unwrap().to_string();
        assert!(refused.contains("it uses 500 MiB of 512 MiB"), "{refused}");
        state.act(&database, mib(420), budget);
        assert!(database.out_of_memory().is_none());
        assert_eq!(database.pressure(), Pressure::Tight);
        state.act(&database, mib(100), budget);
        assert_eq!(database.pressure(), Pressure::Calm);
        let news = news.lock().unwrap();
        assert_eq!(news.len(), 2, "{news:?}");
        assert!(news[0].starts_with("New work is refused: The host is out of memory"), "{news:?}");
        assert!(news[1].starts_with("New work is taken again: 420 MiB of 512 MiB"), "{news:?}");
    }
}
