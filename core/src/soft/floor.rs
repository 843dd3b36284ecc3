//! What stays of an owner that has lapsed: enough to tell an old copy from a new life.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::Preimage;
use super::lease::{Lease, OwnerTag};
use super::replica::taken_until;
use super::{MAX_FLOORS, MAX_SKEW};
use crate::time::Timestamp;

/// A lapsed owner.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) lease: Lease,
    pub(super) index: u8,
    pub(super) preimage: Preimage,
    pub(super) seen: (Timestamp, u8),
    forget_at: Timestamp,
}

impl Floor {
    /// Whether a renewal of the same lease is a sign of life: a later one, and in time by its schedule.
    pub(super) fn is_exceeded(&self, index: u8, now: Timestamp) -> bool {
        index > self.index && now <= taken_until(&self.lease, self.seen, index)
    }
}

/// Floors, with a bound on their number.
#[derive(Debug, Default)]
pub(super) struct Floors {
    by_owner: BTreeMap<OwnerTag, Floor>,
    by_time: BTreeSet<(Timestamp, OwnerTag)>,
}

impl Floors {
    pub(super) fn get(&self, owner: &OwnerTag) -> Option<&Floor> {
        self.by_owner.get(owner)
    }

    /// Keeps a floor until no copy of its lease can pass the check against the wall clock any more. The clock may have been
    /// ahead by the allowed skew when the owner lapsed and be behind by it later, hence twice.
    pub(super) fn keep(
        &mut self,
        lease: Lease,
        (index, preimage): (u8, Preimage),
        seen: (Timestamp, u8),
        now: Timestamp,
    ) {
        let owner = lease.owner.tag();
        let forget_at = now + lease.terms.ttl + 2 * MAX_SKEW;
        self.remove(&owner);
        self.by_owner.insert(owner, Floor { lease, index, preimage, seen, forget_at });
        self.by_time.insert((forget_at, owner));
        if self.by_owner.len() > MAX_FLOORS
            && let Some((_, first)) = self.by_time.pop_first()
        {
            self.by_owner.remove(&first);
        }
    }

    pub(super) fn remove(&mut self, owner: &OwnerTag) -> Option<Floor> {
        let floor = self.by_owner.remove(owner)?;
        self.by_time.remove(&(floor.forget_at, *owner));
        Some(floor)
    }

    /// The clock that ages leases gained on the one that their schedules go by.
    pub(super) fn shift(&mut self, gained: std::time::Duration) {
        self.by_owner.values_mut().for_each(|floor| floor.seen.0 = floor.seen.0 + gained);
    }

    /// Forgets what no longer matters.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some((at, owner)) = self.by_time.first().copied()
            && at <= now
        {
            self.by_time.pop_first();
            self.by_owner.remove(&owner);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_owner.len()
    }
}
