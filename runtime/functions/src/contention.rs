//! Which functions conflict so often that waiting for their turn is cheaper than trying twice.
//!
//! In: how many conflicts each commit took. Out: whether to start with the turn. Invariant: a hint
//! only; either answer is correct.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use database::record::FunctionPath;

/// What one conflict adds to a function's heat; each commit without one takes 1 off.
const HEAT_PER_CONFLICT: u32 = 6;
/// From here on a function takes its turn at once: about one conflict in four commits.
const HOT: u32 = 24;
/// Ceiling, so that a function cools down within this many commits.
const HOTTEST: u32 = 64;

/// Heat by function.
#[derive(Default)]
pub(crate) struct Contention {
    // Most hosts never see a conflict: one relaxed load then.
    any: AtomicBool,
    heat: Mutex<BTreeMap<FunctionPath, u32>>,
}

impl Contention {
    /// Whether `path` should hold its turn from the start.
    pub(crate) fn is_hot(&self, path: &FunctionPath) -> bool {
        self.any.load(Ordering::Relaxed) && self.heat().get(path).is_some_and(|heat| *heat >= HOT)
    }

    /// A commit of `path` took `conflicts` conflicts.
    pub(crate) fn note(&self, path: &FunctionPath, conflicts: usize) {
        if conflicts == 0 && !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut heat = self.heat();
        if conflicts > 0 {
            let added =
                HEAT_PER_CONFLICT.saturating_mul(u32::try_from(conflicts).unwrap_or(u32::MAX));
            let entry = heat.entry(path.clone()).or_default();
            *entry = entry.saturating_add(added).min(HOTTEST);
        } else if let Some(entry) = heat.get_mut(path) {
            *entry -= 1;
            if *entry == 0 {
                heat.remove(path);
            }
        }
        self.any.store(!heat.is_empty(), Ordering::Relaxed);
    }

    fn heat(&self) -> std::sync::MutexGuard<'_, BTreeMap<FunctionPath, u32>> {
        self.heat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heats_up_by_conflicts_and_cools_down_without() {
        let path = FunctionPath::parse("a:b").unwrap();
        let contention = Contention::default();
        assert!(!contention.is_hot(&path));
        for _ in 0..4 {
            contention.note(&path, 1);
        }
        assert!(contention.is_hot(&path));
        contention.note(&path, 0);
        assert!(!contention.is_hot(&path));
        for _ in 0..100 {
            contention.note(&path, 0);
        }
        assert!(!contention.any.load(Ordering::Relaxed));
    }
}
