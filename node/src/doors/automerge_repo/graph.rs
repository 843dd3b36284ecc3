//! Which changes a document has, and which stands on which: all that a sync needs to know, without their content.

use std::collections::{BTreeMap, BTreeSet};

use foreshore::id::ChangeHash;

use super::sync::Have;

/// The changes of a document. Some 100 bytes each.
#[derive(Debug, Default)]
pub struct Graph {
    /// In an order in which each comes after what it stands on.
    order: Vec<ChangeHash>,
    places: BTreeMap<ChangeHash, usize>,
    deps: Vec<Box<[usize]>>,
    heads: BTreeSet<ChangeHash>,
}

impl Graph {
    /// Adds a change; `false`: it stands on something that is not here.
    pub fn insert(&mut self, hash: ChangeHash, deps: &[ChangeHash]) -> bool {
        if self.has(&hash) {
            return true;
        }
        let Some(places) = deps.iter().map(|dep| self.places.get(dep).copied()).collect::<Option<Box<[usize]>>>()
        else {
            return false;
        };
        deps.iter().for_each(|dep| _ = self.heads.remove(dep));
        self.heads.insert(hash);
        self.places.insert(hash, self.order.len());
        self.order.push(hash);
        self.deps.push(places);
        true
    }

    /// Whether a change is here.
    pub fn has(&self, hash: &ChangeHash) -> bool {
        self.places.contains_key(hash)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What nothing stands on, ascending.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.heads.iter().copied().collect()
    }

    /// Which of the changes are some of these, or below them. What is not here is passed over.
    fn below(&self, of: &[ChangeHash]) -> Vec<bool> {
        let mut below = vec![false; self.order.len()];
        of.iter().filter_map(|hash| self.places.get(hash)).for_each(|at| below[*at] = true);
        // From the newest down: what stands on a change comes after it.
        for at in (0..self.order.len()).rev() {
            if below[at] {
                self.deps[at].iter().for_each(|dep| below[*dep] = true);
            }
        }
        below
    }

    /// What is neither one of these nor below them, in order.
    pub fn since(&self, heads: &[ChangeHash]) -> Vec<ChangeHash> {
        if self.heads.iter().eq(heads.iter()) {
            return Vec::new();
        }
        let below = self.below(heads);
        self.order.iter().zip(&below).filter(|(_, below)| !**below).map(|(hash, _)| *hash).collect()
    }

    /// Takes out of a set what is below some heads.
    pub fn forget_below(&self, heads: &[ChangeHash], set: &mut BTreeSet<ChangeHash>) {
        if set.is_empty() {
            return;
        }
        let below = self.below(heads);
        set.retain(|hash| self.places.get(hash).is_none_or(|at| !below[*at]));
    }

    /// What somebody lacks who has this and needs that, in order: what its filters keep out, all that stands on it, and what
    /// it names.
    pub fn lacking(&self, have: &[Have], need: &[ChangeHash]) -> Vec<ChangeHash> {
        let mut lacks = vec![false; self.order.len()];
        need.iter().filter_map(|hash| self.places.get(hash)).for_each(|at| lacks[*at] = true);
        if !have.is_empty() {
            let last: Vec<ChangeHash> = have.iter().flat_map(|have| have.last_sync.iter().copied()).collect();
            let below = self.below(&last);
            let mut wanting = vec![false; self.order.len()];
            for (at, hash) in self.order.iter().enumerate().filter(|(at, _)| !below[*at]) {
                let passes = have.iter().any(|have| have.filter.passes(hash));
                wanting[at] = !passes || self.deps[at].iter().any(|dep| wanting[*dep]);
                lacks[at] |= wanting[at];
            }
        }
        self.order.iter().zip(&lacks).filter(|(_, lacks)| **lacks).map(|(hash, _)| *hash).collect()
    }
}
