//! One index's live ranges: which of them hold a key, at the price of those that do.
//!
//! In: ranges, each belonging to a subscription. Out: every range that holds a written key.
//! A treap ordered by (start, subscription); each node knows the farthest end below it, so whole
//! subtrees that end before the key are skipped:
//!
//! ```text
//!              [d,k) ─ farthest k
//!             /                  \
//!   [a,b) ─ farthest b        [f,g) ─ farthest j      stab(h): left subtree ends at b, skipped;
//!                                     \               [d,k) holds it; [f,g) does not; [h,j) does
//!                                   [h,j) ─ farthest j
//! ```
//! Invariant: heap order by priority; priorities are a hash of a counter, so the same calls build
//! the same tree.

use std::cmp::Ordering;

use crate::key::Interval;

/// A node that is not there.
const NONE: u32 = u32::MAX;

/// Ranges of one index.
#[derive(Debug)]
pub(crate) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    made: u64,
}

#[derive(Debug)]
struct Node {
    interval: Interval,
    subscription: u64,
    priority: u64,
    left: u32,
    right: u32,
    /// The node in this subtree whose interval ends last.
    farthest: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE, made: 0 }
    }
}

impl Intervals {
    /// Adds a range; a subscription has at most one range with a given start.
    pub(crate) fn insert(&mut self, interval: Interval, subscription: u64) {
        self.made += 1;
        let priority = scatter(self.made);
        let node =
            Node { interval, subscription, priority, left: NONE, right: NONE, farthest: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 live ranges")
            }
        };
        self.refresh(at);
        self.root = self.insert_below(self.root, at);
    }

    /// Takes a range away; says whether it was there.
    pub(crate) fn remove(&mut self, interval: &Interval, subscription: u64) -> bool {
        let before = self.free.len();
        self.root = self.remove_below(self.root, &interval.start, subscription);
        self.free.len() > before
    }

    /// Calls `found` for every range that holds `key`.
    pub(crate) fn stab(&self, key: &[u8], found: &mut impl FnMut(u64, &Interval)) {
        self.stab_below(self.root, key, found);
    }

    /// How many ranges live here.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn stab_below(&self, at: u32, key: &[u8], found: &mut impl FnMut(u64, &Interval)) {
        let Some(node) = self.node(at) else { return };
        let farthest = &self.nodes[node.farthest as usize].interval.end;
        if farthest.as_ref().is_some_and(|end| &**end <= key) {
            return;
        }
        self.stab_below(node.left, key, found);
        if &*node.interval.start <= key {
            if node.interval.contains(key) {
                found(node.subscription, &node.interval);
            }
            self.stab_below(node.right, key, found);
        }
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let (start, subscription) = self.position(new);
        if self.nodes[new as usize].priority > self.nodes[at as usize].priority {
            let (left, right) = self.split(at, &start, subscription);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.refresh(new);
            return new;
        }
        let Node { left, right, .. } = self.nodes[at as usize];
        if self.compare(at, &start, subscription) == Ordering::Greater {
            self.nodes[at as usize].left = self.insert_below(left, new);
        } else {
            self.nodes[at as usize].right = self.insert_below(right, new);
        }
        self.refresh(at);
        at
    }

    fn remove_below(&mut self, at: u32, start: &[u8], subscription: u64) -> u32 {
        if at == NONE {
            return NONE;
        }
        let Node { left, right, .. } = self.nodes[at as usize];
        match self.compare(at, start, subscription) {
            Ordering::Equal => {
                self.free.push(at);
                // The slot stays until it is used again; let go of its keys now.
                self.nodes[at as usize].interval = Interval::all();
                return self.merge(left, right);
            }
            Ordering::Greater => {
                self.nodes[at as usize].left = self.remove_below(left, start, subscription);
            }
            Ordering::Less => {
                self.nodes[at as usize].right = self.remove_below(right, start, subscription);
            }
        }
        self.refresh(at);
        at
    }

    /// The nodes before a position, and the others.
    fn split(&mut self, at: u32, start: &[u8], subscription: u64) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let Node { left, right, .. } = self.nodes[at as usize];
        if self.compare(at, start, subscription) == Ordering::Less {
            let (before, after) = self.split(right, start, subscription);
            self.nodes[at as usize].right = before;
            self.refresh(at);
            (at, after)
        } else {
            let (before, after) = self.split(left, start, subscription);
            self.nodes[at as usize].left = after;
            self.refresh(at);
            (before, at)
        }
    }

    /// Joins two trees of which the first lies wholly before the second.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let inner = self.nodes[left as usize].right;
            self.nodes[left as usize].right = self.merge(inner, right);
            self.refresh(left);
            left
        } else {
            let inner = self.nodes[right as usize].left;
            self.nodes[right as usize].left = self.merge(left, inner);
            self.refresh(right);
            right
        }
    }

    fn position(&self, at: u32) -> (crate::key::Key, u64) {
        let node = &self.nodes[at as usize];
        (node.interval.start.clone(), node.subscription)
    }

    /// Where the node stands relative to a position.
    fn compare(&self, at: u32, start: &[u8], subscription: u64) -> Ordering {
        let node = &self.nodes[at as usize];
        (*node.interval.start).cmp(start).then(node.subscription.cmp(&subscription))
    }

    /// Recomputes a node's farthest end from its children.
    fn refresh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let below = [node.left, node.right].into_iter().filter_map(|child| self.node(child));
        let farthest = below
            .map(|child| child.farthest)
            .fold(at, |best, other| if self.ends_after(other, best) { other } else { best });
        self.nodes[at as usize].farthest = farthest;
    }

    fn ends_after(&self, left: u32, right: u32) -> bool {
        let end = |at: u32| self.nodes[at as usize].interval.end.as_ref();
        match (end(left), end(right)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(left), Some(right)) => left > right,
        }
    }

    fn node(&self, at: u32) -> Option<&Node> {
        (at != NONE).then(|| &self.nodes[at as usize])
    }
}

/// Spreads consecutive numbers over all 64 bits (the finaliser of splitmix64).
fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
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
        fn finds_what_a_list_finds(
            operations in prop::collection::vec(
                (0u8..50, prop::option::of(1u8..20), any::<bool>(), any::<prop::sample::Index>()),
                1..200,
            ),
        ) {
            let mut tree = Intervals::default();
            let mut list: Vec<(u64, Interval)> = Vec::new();
            for (number, (start, length, remove, which)) in operations.into_iter().enumerate() {
                if remove && !list.is_empty() {
                    let (subscription, gone) = list.remove(which.index(list.len()));
                    prop_assert!(tree.remove(&gone, subscription));
                    prop_assert!(!tree.remove(&gone, subscription));
                } else {
                    let range = interval(start, length.map(|length| start + length));
                    tree.insert(range.clone(), number as u64);
                    list.push((number as u64, range));
                }
                prop_assert_eq!(tree.len(), list.len());
            }
            for key in 0..72u8 {
                let mut found = Vec::new();
                tree.stab(&[key], &mut |subscription, _| found.push(subscription));
                found.sort_unstable();
                let expected = list.iter().filter(|(_, range)| range.contains(&[key]));
                let expected: Vec<_> = expected.map(|(subscription, _)| *subscription).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn stays_shallow_when_ranges_arrive_in_order() {
        let mut tree = Intervals::default();
        for number in 0..20_000u64 {
            tree.insert(Interval::point(&number.to_be_bytes()), number);
        }
        fn depth(tree: &Intervals, at: u32) -> usize {
            tree.node(at).map_or(0, |n| 1 + depth(tree, n.left).max(depth(tree, n.right)))
        }
        assert!(depth(&tree, tree.root) < 60, "a list would be 20,000 deep");
    }
}
