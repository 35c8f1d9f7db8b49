//! Time and randomness: the real ones, and ones that are a function of a seed.
//!
//! In: the machine's clock and entropy, or a seed. Out: [`World`].
//! Invariant: nothing else in concave reads a clock or draws randomness that a function could see.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use database::record::World;
use sha2::{Digest as _, Sha256};

/// The machine's clock and entropy.
pub struct RealWorld {
    seeds: Seeds,
}

impl RealWorld {
    /// Draws 32 bytes of entropy, once: every seed is derived from them.
    ///
    /// # Errors
    /// The system's random device cannot be read.
    pub fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Self { seeds: Seeds::new(key) })
    }
}

impl World for RealWorld {
    fn now(&self) -> u64 {
        // A machine whose clock stands before 1970 gets 1970: commits are ordered all the same.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).expect("64 bits of nanoseconds last until the year 2554")
    }

    fn seed(&self) -> [u8; 32] {
        self.seeds.draw()
    }
}

/// A world that is a function of a seed: each look at the clock finds it one millisecond later.
pub struct SeededWorld {
    now: AtomicU64,
    seeds: Seeds,
}

/// One look at a [`SeededWorld`]'s clock to the next, nanoseconds.
const STEP_NS: u64 = 1_000_000;

/// The first look at a [`SeededWorld`]'s clock: 14 November 2023.
const START_NS: u64 = 1_700_000_000_000_000_000;

impl SeededWorld {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let key = Sha256::digest(seed.to_le_bytes()).into();
        Self { now: AtomicU64::new(START_NS), seeds: Seeds::new(key) }
    }
}

impl World for SeededWorld {
    fn now(&self) -> u64 {
        self.now.fetch_add(STEP_NS, Ordering::SeqCst)
    }

    fn seed(&self) -> [u8; 32] {
        self.seeds.draw()
    }
}

/// SHA-256 over a key and a counter: as unpredictable as the key, and never the same twice.
struct Seeds {
    key: [u8; 32],
    drawn: AtomicU64,
}

impl Seeds {
    fn new(key: [u8; 32]) -> Self {
        Self { key, drawn: AtomicU64::new(0) }
    }

    fn draw(&self) -> [u8; 32] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        Sha256::new().chain_update(self.key).chain_update(number.to_le_bytes()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_seeds_differ_within_and_between_processes() {
        let (one, other) = (RealWorld::new().unwrap(), RealWorld::new().unwrap());
        let seeds = [one.seed(), one.seed(), other.seed(), other.seed()];
        let distinct: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn a_seeded_world_repeats_itself() {
        let walk = |seed| {
            let world = SeededWorld::new(seed);
            (0..3).map(|_| (world.now(), world.seed())).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1)[0].1, walk(2)[0].1);
        assert_eq!(walk(1)[2].0, START_NS + 2 * STEP_NS);
    }
}
