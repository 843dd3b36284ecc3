//! Range-based reconciliation's ground: a set in document order, with a fingerprint of any range in O(log n).
//!
//! The idea is Aljoscha Meyer's, *Range-Based Set Reconciliation* (SRDS 2023): two peers compare fingerprints of a range; equal
//! means done, unequal means split and compare the parts, and a small range is listed. It needs more round trips and bytes
//! than [coded symbols](super::riblt), but makes progress whatever the difference looks like, and can be cut off
//! and resumed anywhere. That makes it the layer to fall back to.
//!
//! Items are ordered by path, then by id, so what changed together lies together. The tree is a snapshot: leaves in one
//! sorted array, above it levels of sums with a fan-out of 16. A fingerprint is the sum modulo 2¹²⁸ of a keyed expansion of
//! each id; equal sums under a key that an attacker did not know mean equal sets, and under the default key an attacker's
//! collision ends with the next session key.
//!
//! - Memory: path bytes, plus 17 bytes an item, while a session lives.
//! - It is not kept up to date, and it is not persisted.

use std::ops::Range as Span;

use super::item::{IdKey, mix};

/// Children of a node, and parts of a split range.
pub const FANOUT: usize = 16;
/// A range of at most this many items is listed rather than split.
pub const LEAF: usize = 32;

/// A place between items. It need not be an item's place: only as much of a path as separates is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// Bytes in the order of paths; not always a whole path.
    pub path: Vec<u8>,
    /// Tells apart items of one path; 0 lies before all of them.
    pub id: u64,
}

/// All places `from <= place < to`; without `to`, everything from `from` on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first place inside.
    pub from: Bound,
    /// The first place after it.
    pub to: Option<Bound>,
}

impl Range {
    /// Everything.
    pub fn whole() -> Self {
        Self::default()
    }

    /// Whether no place lies inside.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// The sum of a range's expanded ids. The empty range's is 0.
pub type Fingerprint = u128;

/// A snapshot of an item set in document order.
#[derive(Debug, Clone)]
pub struct RangeTree {
    range_key: u64,
    paths: Vec<u8>,
    /// End of each item's path in `paths`.
    ends: Vec<usize>,
    ids: Vec<u64>,
    /// `levels[0][k]` sums items 16k to 16k+15, `levels[n+1][k]` sums entries 16k to 16k+15 of `levels[n]`.
    levels: Vec<Vec<Fingerprint>>,
}

impl RangeTree {
    /// Builds the tree of what `fill` visits, which is every item's path and id under `key` in ascending order of paths.
    /// Items of one path may come in any order. About 100 ns an item.
    pub fn new(key: &IdKey, fill: impl FnOnce(&mut dyn FnMut(&str, u64))) -> Self {
        let mut tree =
            Self { range_key: key.range, paths: Vec::new(), ends: Vec::new(), ids: Vec::new(), levels: Vec::new() };
        fill(&mut |path, id| tree.push(path.as_bytes(), id));
        tree.sort_ties();
        tree.build_levels();
        tree
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The items of a range, as positions. O(log n).
    pub fn span(&self, range: &Range) -> Span<usize> {
        let start = self.position(&range.from);
        let end = range.to.as_ref().map_or(self.len(), |to| self.position(to));
        start..end.max(start)
    }

    /// The ids at these positions, in document order.
    pub fn ids(&self, span: Span<usize>) -> &[u64] {
        &self.ids[span]
    }

    /// The fingerprint of the items at these positions. O(log n).
    pub fn fingerprint(&self, span: Span<usize>) -> Fingerprint {
        let Span { mut start, mut end } = span;
        let mut sum: Fingerprint = 0;
        let mut level = None::<usize>;
        while start < end {
            let value = |i: usize| match level {
                None => expand(self.range_key, self.ids[i]),
                Some(level) => self.levels[level][i],
            };
            while start < end && !start.is_multiple_of(FANOUT) {
                sum = sum.wrapping_add(value(start));
                start += 1;
            }
            while start < end && !end.is_multiple_of(FANOUT) {
                end -= 1;
                sum = sum.wrapping_add(value(end));
            }
            (start, end) = (start / FANOUT, end / FANOUT);
            level = Some(level.map_or(0, |level| level + 1));
        }
        sum
    }

    /// Cuts positions into at most [`FANOUT`] parts of about equal size, none empty and none much smaller than half a
    /// leaf: a fingerprint and a bound weigh as much as four ids.
    pub fn split(&self, span: Span<usize>) -> impl Iterator<Item = Span<usize>> + use<> {
        let (start, len) = (span.start, span.len());
        let parts = FANOUT.min(len.div_ceil(LEAF / 2));
        (0..parts).map(move |k| start + len * k / parts..start + len * (k + 1) / parts)
    }

    /// The shortest bound after the item before `position` and not after the item at it.
    pub fn bound_at(&self, position: usize) -> Bound {
        if position == 0 {
            return Bound::default();
        }
        let before = self.path(position - 1);
        if position >= self.len() {
            // Just after the last item: its path with a zero byte follows every id of that path.
            return Bound { path: [before, &[0]].concat(), id: 0 };
        }
        let path = self.path(position);
        if before == path {
            return Bound { path: path.to_vec(), id: self.ids[position] };
        }
        let common = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        Bound { path: path[..common + 1].to_vec(), id: 0 }
    }

    fn push(&mut self, path: &[u8], id: u64) {
        debug_assert!(self.is_empty() || self.path(self.len() - 1) <= path, "paths come in ascending order");
        self.paths.extend_from_slice(path);
        self.ends.push(self.paths.len());
        self.ids.push(id);
    }

    fn path(&self, position: usize) -> &[u8] {
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.paths[start..self.ends[position]]
    }

    fn sort_ties(&mut self) {
        let mut start = 0;
        for end in 1..=self.len() {
            if end == self.len() || self.path(end) != self.path(start) {
                self.ids[start..end].sort_unstable();
                start = end;
            }
        }
    }

    fn build_levels(&mut self) {
        if self.len() < FANOUT {
            return;
        }
        let sum = |total: Fingerprint, more: Fingerprint| total.wrapping_add(more);
        let of_items = |ids: &[u64]| ids.iter().map(|id| expand(self.range_key, *id)).fold(0, sum);
        let mut level: Vec<Fingerprint> = self.ids.chunks(FANOUT).map(of_items).collect();
        while level.len() >= FANOUT {
            let above = level.chunks(FANOUT).map(|chunk| chunk.iter().copied().fold(0, sum)).collect();
            self.levels.push(std::mem::replace(&mut level, above));
        }
        self.levels.push(level);
    }

    /// The position of the first item at or after a bound.
    fn position(&self, bound: &Bound) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if (self.path(middle), self.ids[middle]) < (&bound.path, bound.id) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn expand(range_key: u64, id: u64) -> Fingerprint {
    let low = mix(id ^ range_key);
    let high = mix(low ^ id.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SpaceId;
    use proptest::prelude::*;

    fn tree(items: &mut [(String, u64)]) -> RangeTree {
        items.sort_by(|a, b| a.0.cmp(&b.0));
        let key = IdKey::default_of(&SpaceId([1; 32]));
        let tree = RangeTree::new(&key, |visit| items.iter().for_each(|(path, id)| visit(path, *id)));
        items.sort();
        tree
    }

    fn items(max: usize) -> impl Strategy<Value = Vec<(String, u64)>> {
        proptest::collection::vec(("/[a-c]{1,4}", any::<u64>()), 0..max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn fingerprint_of_any_span_is_the_sum_of_its_items(mut items in items(700), a: usize, b: usize) {
            let tree = tree(&mut items);
            let (a, b) = (a % (items.len() + 1), b % (items.len() + 1));
            let span = a.min(b)..a.max(b);
            let slow = items[span.clone()].iter().fold(0u128, |sum, (_, id)| {
                sum.wrapping_add(expand(tree.range_key, *id))
            });
            prop_assert_eq!(tree.fingerprint(span), slow);
        }

        #[test]
        fn bounds_separate_exactly(mut items in items(200)) {
            items.sort();
            items.dedup();
            let tree = tree(&mut items);
            for position in 0..=items.len() {
                let to = Range { from: Bound::default(), to: Some(tree.bound_at(position)) };
                let from = Range { from: tree.bound_at(position), to: None };
                prop_assert_eq!(tree.span(&to), 0..position);
                prop_assert_eq!(tree.span(&from), position..items.len());
            }
        }

        #[test]
        fn parts_of_a_split_cover_it(mut items in items(300)) {
            let tree = tree(&mut items);
            let parts: Vec<_> = tree.split(0..tree.len()).collect();
            prop_assert!(parts.len() <= FANOUT);
            prop_assert_eq!(parts.iter().map(Span::len).sum::<usize>(), items.len());
            let sum = parts.iter().fold(0u128, |sum, part| sum.wrapping_add(tree.fingerprint(part.clone())));
            prop_assert_eq!(sum, tree.fingerprint(0..tree.len()));
        }
    }
}
