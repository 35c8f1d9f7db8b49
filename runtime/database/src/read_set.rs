//! What a transaction looked at: per index, the sorted and disjoint ranges of keys it depends on.
//!
//! In: intervals, as reads happen. Out: the answer to "does this key matter to that reader?", for
//! commit validation, cache invalidation and subscription wake-up alike.
//! Invariant: the intervals of one index are sorted, not empty, and neither overlap nor touch.

use std::collections::BTreeMap;

use crate::key::Interval;
use crate::snapshot::IndexId;

/// The ranges of index keys that a transaction read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    ranges: BTreeMap<IndexId, Vec<Interval>>,
}

impl ReadSet {
    /// Adds one range; ranges that overlap or touch it melt into one.
    pub fn insert(&mut self, index: IndexId, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        let ranges = self.ranges.entry(index).or_default();
        let low = ranges.partition_point(|range| ends_before(range, &interval.start));
        let high = low + ranges[low..].partition_point(|range| starts_within(range, &interval));
        if low == high {
            ranges.insert(low, interval);
            return;
        }
        let start = interval.start.min(ranges[low].start.clone());
        let end = match (interval.end, &ranges[high - 1].end) {
            (Some(new), Some(old)) => Some(new.max(old.clone())),
            _ => None,
        };
        ranges[low] = Interval { start, end };
        ranges.drain(low + 1..high);
        debug_assert!(ranges.windows(2).all(|pair| ends_before(&pair[0], &pair[1].start)));
    }

    /// Everything that `other` read was read here too.
    pub fn merge(&mut self, other: &Self) {
        for (index, interval) in other.iter() {
            self.insert(index, interval.clone());
        }
    }

    /// The range that holds `key`, if it was read.
    pub fn find(&self, index: IndexId, key: &[u8]) -> Option<&Interval> {
        let ranges = self.ranges.get(&index)?;
        let after = ranges.partition_point(|range| &*range.start <= key);
        let candidate = &ranges[after.checked_sub(1)?];
        candidate.contains(key).then_some(candidate)
    }

    /// Whether any key of `index` was read.
    pub fn touches(&self, index: IndexId) -> bool {
        self.ranges.contains_key(&index)
    }

    /// Every range, by index and key.
    pub fn iter(&self) -> impl Iterator<Item = (IndexId, &Interval)> {
        self.ranges.iter().flat_map(|(index, ranges)| ranges.iter().map(|range| (*index, range)))
    }

    /// How many disjoint ranges it holds.
    pub fn len(&self) -> usize {
        self.ranges.values().map(Vec::len).sum()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// An estimate of its memory, in bytes.
    pub fn bytes(&self) -> usize {
        let keys = |range: &Interval| range.start.len() + range.end.as_ref().map_or(0, |e| e.len());
        let ranges = self.iter().map(|(_, range)| size_of::<Interval>() + 32 + keys(range));
        ranges.sum::<usize>() + self.ranges.len() * 40
    }
}

/// Whether `range` ends before `start` with a gap between them.
fn ends_before(range: &Interval, start: &[u8]) -> bool {
    range.end.as_ref().is_some_and(|end| &**end < start)
}

/// Whether `range` begins inside `interval` or right at its end.
fn starts_within(range: &Interval, interval: &Interval) -> bool {
    interval.end.as_ref().is_none_or(|end| range.start <= *end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(start: u8, end: Option<u8>) -> Interval {
        Interval { start: [start][..].into(), end: end.map(|end| [end][..].into()) }
    }

    proptest! {
        #[test]
        fn equals_a_set_of_keys(
            ranges in prop::collection::vec((0u8..60, prop::option::of(0u8..60)), 0..20),
        ) {
            let mut reads = ReadSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, end) in ranges {
                reads.insert(IndexId(1), interval(start, end));
                model.extend(start..end.unwrap_or(64));
            }
            for key in 0..64u8 {
                let found = reads.find(IndexId(1), &[key]);
                prop_assert_eq!(found.is_some(), model.contains(&key));
                prop_assert!(reads.find(IndexId(2), &[key]).is_none());
            }
            let all: Vec<_> = reads.iter().map(|(_, range)| range.clone()).collect();
            for pair in all.windows(2) {
                prop_assert!(pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start));
            }
        }
    }

    #[test]
    fn a_scan_that_goes_on_stays_one_range() {
        let mut reads = ReadSet::default();
        for key in 0..100u8 {
            reads.insert(IndexId(1), interval(key, Some(key + 1)));
        }
        assert_eq!(reads.len(), 1);
    }
}
