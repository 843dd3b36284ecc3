//! The owner's side: writing, renewing, and going above an own former life.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;

use super::chain::Chain;
use super::entry::SoftEntry;
use super::lease::{Lease, LeaseTerms, OwnerId, OwnerTag, salt};
use super::replica::{Replica, Stored};
use super::state::{SoftChange, SoftError, State};
use super::{MAX_DELETIONS, MAX_OWNER_BYTES, MAX_OWNER_ENTRIES, MAX_RENEWALS, MAX_VALUE};
use crate::id::{Path, Prefix};
use crate::time::{Now, Timestamp};
use crate::trust::DeviceKey;
use crate::trust::device::Signature;

/// This peer as an owner.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) owner: OwnerId,
    pub(super) tag: OwnerTag,
    pub(super) incarnation: u64,
    version: u64,
    seq: u64,
    terms: LeaseTerms,
    /// The present lease: its chain, and when it was signed.
    lease: Option<(Chain, Timestamp)>,
    due: Option<Timestamp>,
    /// An incarnation of this owner that others have and this peer does not know of.
    refuted: Option<u64>,
    raised_at: Option<Timestamp>,
    /// Everything at or below this version is dead.
    floor: u64,
}

impl Own {
    pub(super) fn new(owner: OwnerId, incarnation: u64, terms: LeaseTerms) -> Self {
        Self {
            owner,
            tag: owner.tag(),
            incarnation,
            version: 0,
            seq: 0,
            terms,
            lease: None,
            due: None,
            refuted: None,
            raised_at: None,
            floor: 0,
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }
}

impl State {
    /// Writes an own entry; it lives with this peer's lease. Whether the peer may write the path is for the caller to ask.
    /// Returns its version.
    pub fn set(
        &mut self,
        now: Now,
        (key, rng): (&DeviceKey, &mut ChaCha12Rng),
        path: Path,
        value: Arc<[u8]>,
    ) -> Result<u64, SoftError> {
        if value.len() > MAX_VALUE {
            return Err(SoftError::ValueTooLarge { bytes: value.len(), max: MAX_VALUE });
        }
        let held = self.replicas.get(&self.own.tag);
        let before = held.and_then(|r| r.entries.get(&path)).map(|s| &s.entry);
        let adds = before.is_none_or(|e| e.value.is_none());
        if adds && held.map_or(0, Replica::living) >= MAX_OWNER_ENTRIES {
            return Err(SoftError::TooManyEntries { max: MAX_OWNER_ENTRIES });
        }
        let bytes =
            held.map_or(0, |r| r.bytes) - before.map_or(0, SoftEntry::weight) + path.as_str().len() + value.len();
        if bytes > MAX_OWNER_BYTES {
            return Err(SoftError::TooManyBytes { bytes, max: MAX_OWNER_BYTES });
        }
        self.ensure_lease(now, (key, rng));
        Ok(self.write(key, path, Some(value)))
    }

    /// Deletes an own entry; `false`: there is none.
    pub fn delete(&mut self, now: Now, (key, rng): (&DeviceKey, &mut ChaCha12Rng), path: &Path) -> bool {
        let held = self.replicas.get(&self.own.tag).and_then(|r| r.entries.get(path));
        if held.is_none_or(|s| s.entry.value.is_none()) {
            return false;
        }
        self.write(key, path.clone(), None);
        if self.replicas.get(&self.own.tag).is_some_and(|r| r.deletions() > MAX_DELETIONS) {
            self.collect(key);
            self.sign_lease(now, (key, rng));
        }
        true
    }

    /// Says goodbye: with this peer's next words its entries are gone everywhere. Returns whether there were any.
    pub fn release(&mut self, now: Now, key: &DeviceKey) -> bool {
        let tag = self.own.tag;
        if self.replicas.get(&tag).is_none_or(|r| r.lease.is_release()) {
            return false;
        }
        self.drop_entries(tag, |_| true, &SoftChange::Deleted);
        self.own.seq += 1;
        self.own.floor = self.own.version;
        let lease = self.new_lease(now, key, [0; 16], 0);
        let replica = self.replicas.get_mut(&tag).expect("looked up above");
        (replica.index, replica.preimage, replica.lease) = (0, lease.anchor, lease);
        replica.deadline = now.mono + self.own.terms.ttl;
        (self.own.lease, self.own.due) = (None, None);
        let deadline = replica.deadline;
        self.set_timer(tag, deadline);
        self.mark_others(tag, None);
        true
    }

    /// A verified lease of this very owner that this life did not sign.
    pub(super) fn on_own_lease(&mut self, lease: &Lease) {
        let own = (self.own.incarnation, self.own.seq);
        let mine = self.replicas.get(&self.own.tag).is_some_and(|r| r.lease == *lease);
        if !mine && (lease.incarnation, lease.seq) >= own {
            self.own.refuted = self.own.refuted.max(Some(lease.incarnation));
        }
    }

    /// Renews what is due. After a sleep the schedule goes on where it would be now; a lease that has lapsed meanwhile is
    /// signed anew.
    pub(super) fn tick_own(&mut self, now: Now, key: &DeviceKey, rng: &mut ChaCha12Rng) {
        self.rise(now, key, rng);
        if self.own.due.is_none_or(|due| due > now.mono) {
            return;
        }
        let tag = self.own.tag;
        let Some(replica) = self.replicas.get_mut(&tag) else {
            self.own.due = None;
            return;
        };
        if replica.living() == 0 {
            // Nobody misses a lease without entries: it lapses, and with it what is left of deletions.
            (self.own.lease, self.own.due) = (None, None);
            let deadline = replica.deadline;
            return self.set_timer(tag, deadline);
        }
        let lapsed = replica.deadline <= now.mono;
        let step = self.own.lease.as_ref().and_then(|(chain, issued)| {
            let index = now.mono.since(*issued).as_micros() / self.own.terms.period.as_micros().max(1);
            let index = u8::try_from(index).ok()?;
            Some((index, chain.value(index)?, *issued + self.own.terms.period * u32::from(index)))
        });
        match step.filter(|_| !lapsed) {
            Some((index, preimage, spoken)) => {
                (replica.index, replica.preimage) = (index, preimage);
                replica.deadline = spoken + self.own.terms.ttl;
                self.own.due = Some(spoken + self.own.terms.period);
                self.mark_others(tag, None);
            }
            None => {
                if replica.deletions() > 0 {
                    self.collect(key);
                }
                self.sign_lease(now, (key, rng));
            }
        }
    }

    fn ensure_lease(&mut self, now: Now, (key, rng): (&DeviceKey, &mut ChaCha12Rng)) {
        if self.own.lease.is_none() {
            // Whatever was there has lapsed or is lapsing, and must not come back under the new lease.
            let tag = self.own.tag;
            self.own.floor = self.own.version;
            self.drop_entries(tag, |_| true, &SoftChange::Deleted);
            self.sign_lease(now, (key, rng));
        }
    }

    fn new_lease(&self, now: Now, key: &DeviceKey, anchor: [u8; 16], count: u8) -> Lease {
        let lease = Lease {
            owner: self.own.owner,
            incarnation: self.own.incarnation,
            seq: self.own.seq,
            floor: self.own.floor,
            terms: self.own.terms,
            issue: now.wall,
            anchor,
            count,
            signature: Signature([0; 64]),
        };
        lease.signed(key, &self.space)
    }

    /// Signs the next lease.
    fn sign_lease(&mut self, now: Now, (key, rng): (&DeviceKey, &mut ChaCha12Rng)) {
        self.own.seq += 1;
        let tag = self.own.tag;
        let chain = Chain::generate(rng, &salt(&self.own.owner, self.own.incarnation, self.own.seq), MAX_RENEWALS);
        let lease = self.new_lease(now, key, chain.anchor(), MAX_RENEWALS);
        let deadline = now.mono + self.own.terms.ttl;
        let renewal = (0, lease.anchor);
        match self.replicas.get_mut(&tag) {
            Some(replica) => {
                (replica.index, replica.preimage) = renewal;
                replica.floor = lease.floor;
                replica.lease = lease;
                replica.deadline = deadline;
                self.timers.remove(&(replica.timer, tag));
            }
            None => {
                let mut replica = Replica::new(lease, renewal, now.mono, deadline);
                replica.vouched = vec![Prefix::root()];
                self.replicas.insert(tag, replica);
            }
        }
        self.own.lease = Some((chain, now.mono));
        self.own.due = Some(now.mono + self.own.terms.period);
        self.mark_others(tag, None);
    }

    /// Signs a write.
    fn write(&mut self, key: &DeviceKey, path: Path, value: Option<Arc<[u8]>>) -> u64 {
        let tag = self.own.tag;
        let before = self.replicas.get(&tag).and_then(|r| r.entries.get(&path)).and_then(|s| s.entry.value.clone());
        self.own.version += 1;
        let version = self.own.version;
        self.write_as(key, version, path.clone(), value.clone());
        if before != value {
            let change = value.map_or(SoftChange::Deleted, SoftChange::Set);
            self.tell(self.own.owner, path, change);
        }
        self.mark_entries(tag, None);
        version
    }

    fn write_as(&mut self, key: &DeviceKey, version: u64, path: Path, value: Option<Arc<[u8]>>) {
        let who = (&self.space, &self.own.owner, self.own.incarnation);
        let entry = SoftEntry::sign(key, who, version, path, value);
        let arrival = self.next_arrival();
        let mark = entry.mark();
        // An own entry lapses with the whole only.
        self.put(self.own.tag, Stored { entry, mark, arrival, from: None, deadline: Timestamp::from_micros(u64::MAX) });
    }

    /// Forgets deletions: living entries are written anew above the newest of them, and the next lease says so.
    fn collect(&mut self, key: &DeviceKey) {
        let tag = self.own.tag;
        let Some(replica) = self.replicas.get(&tag) else { return };
        let dead = replica.entries.values().filter(|s| s.entry.value.is_none());
        let Some(floor) = dead.map(|s| s.entry.version).max() else { return };
        let stale = replica.entries.values().filter(|s| s.entry.value.is_some() && s.entry.version <= floor);
        let stale: Vec<(Path, Option<Arc<[u8]>>)> =
            stale.map(|s| (s.entry.path.clone(), s.entry.value.clone())).collect();
        for (path, value) in stale {
            self.own.version += 1;
            self.write_as(key, self.own.version, path, value);
        }
        self.drop_entries(tag, |s| s.entry.version <= floor, &SoftChange::Deleted);
        self.own.floor = floor;
    }

    /// Goes above a former life that others still believe in: everything is signed anew. At most once a ttl, so that two
    /// copies of one store that run at once do not chase each other.
    fn rise(&mut self, now: Now, key: &DeviceKey, rng: &mut ChaCha12Rng) {
        let wait = self.own.terms.ttl;
        let too_soon = self.own.raised_at.is_some_and(|at| now.mono.since(at) < wait);
        let Some(above) = self.own.refuted.filter(|_| !too_soon) else { return };
        self.own.refuted = None;
        self.own.raised_at = Some(now.mono);
        self.own.incarnation = above.saturating_add(1 << 16);
        (self.own.version, self.own.seq, self.own.floor) = (0, 0, 0);
        let tag = self.own.tag;
        if self.own.lease.is_none() {
            return;
        }
        let Some(replica) = self.replicas.get(&tag) else { return };
        let living: Vec<(Path, Option<Arc<[u8]>>)> = replica
            .entries
            .values()
            .filter(|s| s.entry.value.is_some())
            .map(|s| (s.entry.path.clone(), s.entry.value.clone()))
            .collect();
        let dead: Vec<Path> =
            replica.entries.values().filter(|s| s.entry.value.is_none()).map(|s| s.entry.path.clone()).collect();
        dead.iter().for_each(|path| drop(self.take_out(tag, path)));
        for (path, value) in living {
            self.own.version += 1;
            self.write_as(key, self.own.version, path, value);
        }
        self.sign_lease(now, (key, rng));
    }
}
