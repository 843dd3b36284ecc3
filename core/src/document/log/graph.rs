//! Questions about the change graph, each a sweep over the rows in order of arrival.

use std::collections::BTreeSet;

use super::{Log, Row, RowIx};
use crate::id::ChangeHash;

impl Log {
    /// What a neighbour with these heads lacks, in topological order. Heads that are not known here are passed over.
    pub fn missing<'a>(&'a self, have: &[ChangeHash]) -> impl Iterator<Item = &'a Row> {
        let known = self.mark_ancestors(have);
        self.rows.iter().enumerate().filter(move |(index, _)| !known.get(*index)).map(|(_, row)| row)
    }

    /// The changes at and below these heads, in topological order. Heads that are not known here are passed over.
    pub fn ancestors<'a>(&'a self, heads: &[ChangeHash]) -> impl Iterator<Item = &'a Row> {
        let known = self.mark_ancestors(heads);
        self.rows.iter().enumerate().filter(move |(index, _)| known.get(*index)).map(|(_, row)| row)
    }

    /// Whether `ancestor` is at or below `of`.
    pub fn is_ancestor(&self, ancestor: &ChangeHash, of: &ChangeHash) -> bool {
        let (Some(low), Some(high)) = (self.index_of(ancestor), self.index_of(of)) else { return false };
        self.reaches(high, low)
    }

    /// Whether every one of `heads` was admitted.
    pub fn covers(&self, heads: &[ChangeHash]) -> bool {
        heads.iter().all(|head| self.contains(head))
    }

    /// The rows of these changes in topological order; unknown ones are passed over.
    pub fn topological(&self, hashes: &[ChangeHash]) -> Vec<&Row> {
        let mut indexes: Vec<RowIx> = hashes.iter().filter_map(|hash| self.index_of(hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.into_iter().map(|index| self.at(index)).collect()
    }

    /// What arrived after the arrival number `after`, in topological order. A snapshot's changes count as one arrival.
    pub fn changes_since(&self, after: u64) -> impl Iterator<Item = &Row> {
        let (packed, loose) = self.rows.split_at(self.packed);
        let packed = if packed.first().is_some_and(|row| row.arrival > after) { packed } else { &[] };
        packed.iter().chain(&loose[loose.partition_point(|row| row.arrival <= after)..])
    }

    /// The heads after each arrival, newest first: to recognise which of its own past states a neighbour is in. Each
    /// comes with the number for [`Log::changes_since`] that gives at least everything which that state lacks: the
    /// arrival itself, or an earlier number where a snapshot stands between. Cost a step: the number of heads.
    pub fn heads_history(&self) -> HeadsHistory<'_> {
        HeadsHistory { log: self, heads: self.heads.clone(), next: self.rows.len(), children: self.child_counts() }
    }

    /// A number that everything behind the row at `index` arrived after.
    fn number_at(&self, index: usize) -> u64 {
        let arrival = self.rows[index].arrival;
        if index >= self.packed {
            return arrival;
        }
        // Packed changes share one number, and hidden ones may have arrived among them.
        let loose = self.rows.get(self.packed).map_or(arrival, |row| row.arrival.saturating_sub(1));
        if index + 1 < self.packed { loose.min(arrival.saturating_sub(1)) } else { loose.min(arrival) }
    }

    fn child_counts(&self) -> Vec<u32> {
        let mut children = vec![0; self.rows.len()];
        for dep in self.rows.iter().flat_map(|row| &row.deps) {
            children[*dep as usize] += 1;
        }
        children
    }

    fn mark_ancestors(&self, heads: &[ChangeHash]) -> Marks {
        let mut marks = Marks::new(self.rows.len());
        let mut last = 0;
        for index in heads.iter().filter_map(|head| self.index_of(head)) {
            marks.set(index as usize);
            last = last.max(index as usize + 1);
        }
        for index in (0..last).rev() {
            if marks.get(index) {
                self.rows[index].deps.iter().for_each(|dep| marks.set(*dep as usize));
            }
        }
        marks
    }

    /// Whether `low` is at or below `high`. Visits only what lies between the two.
    pub(in crate::document) fn reaches(&self, high: RowIx, low: RowIx) -> bool {
        let mut open = vec![high];
        let mut seen = BTreeSet::new();
        while let Some(index) = open.pop() {
            if index == low {
                return true;
            }
            // Dependencies stand before their dependants, so nothing below `low` can lead up to it.
            let fresh = self.at(index).deps.iter().filter(|dep| **dep >= low && seen.insert(**dep));
            open.extend(fresh);
        }
        false
    }
}

/// One bit a row.
struct Marks(Vec<u64>);

impl Marks {
    fn new(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(64)])
    }

    fn get(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }
}

/// The heads after each arrival, newest first. See [`Log::heads_history`].
#[derive(Debug)]
pub struct HeadsHistory<'a> {
    log: &'a Log,
    /// Heads after the row before `next`, sorted.
    heads: Vec<ChangeHash>,
    next: usize,
    /// Dependants of each row among the rows before `next`.
    children: Vec<u32>,
}

impl Iterator for HeadsHistory<'_> {
    /// A number for [`Log::changes_since`], and the sorted heads of that time.
    type Item = (u64, Vec<ChangeHash>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next.checked_sub(1)?;
        let row = &self.log.rows[index];
        let item = (self.log.number_at(index), self.heads.clone());
        self.next = index;
        self.heads.retain(|head| *head != row.hash);
        for dep in &row.deps {
            let children = &mut self.children[*dep as usize];
            *children -= 1;
            if *children == 0 {
                let hash = self.log.at(*dep).hash;
                let at = self.heads.partition_point(|head| *head < hash);
                self.heads.insert(at, hash);
            }
        }
        Some(item)
    }
}
