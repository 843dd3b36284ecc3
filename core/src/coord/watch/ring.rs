//! Recent changes of the tree.

use std::collections::VecDeque;

use crate::coord::reply::Change;

/// Most changes that are kept.
pub(super) const RING_CHANGES: usize = 16_384;

/// Most bytes of paths that are kept.
pub(super) const RING_BYTES: usize = 4 << 20;

/// The newest changes, with the entries that made them.
pub(super) struct Ring {
    changes: VecDeque<(u64, Change)>,
    bytes: usize,
    /// Every change of an entry above this one is here.
    floor: u64,
}

impl Ring {
    pub(super) fn new(applied: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, floor: applied }
    }

    pub(super) fn push(&mut self, index: u64, change: &Change) {
        let Some(size) = size(change) else { return };
        self.bytes += size;
        self.changes.push_back((index, change.clone()));
        while self.changes.len() > RING_CHANGES || self.bytes > RING_BYTES {
            let Some((index, change)) = self.changes.pop_front() else { break };
            self.bytes -= size_of_kept(&change);
            self.floor = index;
        }
    }

    /// The changes of all entries above `seen`; `None` if some of them are gone.
    pub(super) fn since(&self, seen: u64) -> Option<impl Iterator<Item = (u64, &Change)>> {
        let first = self.changes.partition_point(|(index, _)| *index <= seen);
        (seen >= self.floor).then(|| self.changes.range(first..).map(|(index, change)| (*index, change)))
    }
}

fn size(change: &Change) -> Option<usize> {
    match change {
        Change::Created { path, .. } | Change::Set { path, .. } | Change::Deleted { path, .. } => {
            Some(path.as_str().len())
        }
        Change::Leader { .. } | Change::Ready { .. } => None,
    }
}

fn size_of_kept(change: &Change) -> usize {
    size(change).expect("only changes of the tree are kept")
}
