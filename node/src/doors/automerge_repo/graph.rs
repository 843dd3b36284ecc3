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

    /// Places of what is neither one of these nor below them, ascending. What is not here is passed over. Cost: what lies above
    /// them, and what of the rest lies beside that, not the whole history.
    fn above(&self, heads: &[ChangeHash]) -> Vec<usize> {
        // What is to be looked at, and whether it is below; what stands on a change is looked at before it.
        let mut pending: BTreeMap<usize, bool> = self.heads.iter().map(|head| (self.places[head], false)).collect();
        let mut open = pending.len();
        let mark = |pending: &mut BTreeMap<usize, bool>, open: &mut usize, at: usize, below: bool| {
            match pending.insert(at, below) {
                // Once below, always below.
                Some(true) => _ = pending.insert(at, true),
                Some(false) if below => *open -= 1,
                Some(false) => {}
                None => *open += usize::from(!below),
            }
        };
        for at in heads.iter().filter_map(|head| self.places.get(head)) {
            mark(&mut pending, &mut open, *at, true);
        }
        let mut above = Vec::new();
        while open > 0
            && let Some((at, below)) = pending.pop_last()
        {
            if !below {
                open -= 1;
                above.push(at);
            }
            for dep in &self.deps[at] {
                mark(&mut pending, &mut open, *dep, below);
            }
        }
        above.reverse();
        above
    }

    /// What is neither one of these nor below them, in order.
    pub fn since(&self, heads: &[ChangeHash]) -> Vec<ChangeHash> {
        self.above(heads).into_iter().map(|at| self.order[at]).collect()
    }

    /// Takes out of a set what is below some heads.
    pub fn forget_below(&self, heads: &[ChangeHash], set: &mut BTreeSet<ChangeHash>) {
        if !set.is_empty() {
            let above: BTreeSet<ChangeHash> = self.since(heads).into_iter().collect();
            set.retain(|hash| above.contains(hash) || !self.has(hash));
        }
    }

    /// What somebody lacks who has this and needs that, in order: what its filters keep out, all that stands on it, and what
    /// it names.
    pub fn lacking(&self, have: &[Have], need: &[ChangeHash]) -> Vec<ChangeHash> {
        let mut lacks: BTreeSet<usize> = need.iter().filter_map(|hash| self.places.get(hash)).copied().collect();
        if !have.is_empty() {
            let last: Vec<ChangeHash> = have.iter().flat_map(|have| have.last_sync.iter().copied()).collect();
            let mut kept_out: BTreeSet<usize> = BTreeSet::new();
            for at in self.above(&last) {
                let passes = have.iter().any(|have| have.filter.passes(&self.order[at]));
                if !passes || self.deps[at].iter().any(|dep| kept_out.contains(dep)) {
                    kept_out.insert(at);
                }
            }
            lacks.append(&mut kept_out);
        }
        lacks.into_iter().map(|at| self.order[at]).collect()
    }
}
