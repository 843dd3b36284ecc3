//! What is known of one owner that lives.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chain::Preimage;
use super::entry::{SoftEntry, covered};
use super::lease::Lease;
use super::message::Summary;
use super::scope::intersection;
use crate::id::{Path, Prefix};
use crate::io::LinkId;
use crate::time::Timestamp;

/// An entry and how it came here.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) entry: SoftEntry,
    pub(super) mark: u32,
    /// Counts what this peer took in, so that a link's view needs one number to say what it has been sent.
    pub(super) arrival: u64,
    pub(super) from: Option<LinkId>,
    /// When it lapses: renewals count for what the link that brings them covers.
    pub(super) deadline: Timestamp,
}

/// An owner that lives, and its entries.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) lease: Lease,
    /// The newest renewal, and its proof.
    pub(super) index: u8,
    pub(super) preimage: Preimage,
    /// When it lapses, by this peer's clock.
    pub(super) deadline: Timestamp,
    /// When this lease was first seen, and at which renewal: later ones are due by this peer's own clock.
    pub(super) seen: (Timestamp, u8),
    /// Links that the newest renewal crossed.
    pub(super) hops: u8,
    /// The link that brought it first.
    pub(super) from: Option<LinkId>,
    pub(super) entries: BTreeMap<Path, Stored>,
    pub(super) bytes: usize,
    /// What the newest renewal vouches for, by all links that brought it.
    pub(super) vouched: Vec<Prefix>,
    /// The same of the renewal before it.
    pub(super) vouched_before: Vec<Prefix>,
    /// The floor below which entries have been dropped here.
    pub(super) floor: u64,
    /// When to look at it next.
    pub(super) timer: Timestamp,
}

/// Periods without a renewal after which an owner counts as away, and other links are asked about it.
const AWAY_AFTER: f64 = 2.5;

impl Replica {
    pub(super) fn new(lease: Lease, renewal: (u8, Preimage), now: Timestamp, deadline: Timestamp) -> Self {
        Self {
            index: renewal.0,
            preimage: renewal.1,
            deadline,
            seen: (now, renewal.0),
            hops: 0,
            from: None,
            entries: BTreeMap::new(),
            bytes: 0,
            vouched: Vec::new(),
            vouched_before: Vec::new(),
            floor: lease.floor,
            timer: deadline,
            lease,
        }
    }

    /// Time since the newest renewal, as far as known.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        self.lease.terms.ttl.saturating_sub(self.deadline.since(now))
    }

    /// The age after which it counts as away.
    fn away_age(&self) -> Duration {
        self.lease.terms.period.mul_f64(AWAY_AFTER).min(self.lease.terms.ttl)
    }

    pub(super) fn is_away(&self, now: Timestamp) -> bool {
        self.age(now) >= self.away_age()
    }

    /// When it will count as away, if no renewal comes.
    pub(super) fn away_at(&self) -> Timestamp {
        let left = self.lease.terms.ttl.saturating_sub(self.away_age());
        Timestamp::from_micros(self.deadline.as_micros().saturating_sub(left.as_micros() as u64))
    }

    /// The latest time by this peer's clock at which preimage `index` is still taken.
    pub(super) fn taken_until(&self, index: u8) -> Timestamp {
        taken_until(&self.lease, self.seen, index)
    }

    /// Entries that a link may see.
    pub(super) fn under<'a>(&'a self, domains: &'a [Prefix]) -> impl Iterator<Item = &'a Stored> {
        let floor = self.lease.floor;
        self.entries.values().filter(move |s| s.entry.version > floor && covered(domains, &s.entry.path))
    }

    /// What this peer can vouch for on a link.
    pub(super) fn scope(&self, domains: &[Prefix]) -> Vec<Prefix> {
        intersection(&self.vouched, domains)
    }

    pub(super) fn checksum(&self, domains: &[Prefix]) -> u32 {
        self.under(domains).fold(0, |sum, stored| sum.wrapping_add(stored.mark))
    }

    pub(super) fn summary(&self, domains: &[Prefix]) -> Summary {
        Summary {
            owner: self.lease.owner.tag(),
            incarnation: self.lease.incarnation,
            seq: self.lease.seq,
            index: self.index,
            checksum: self.checksum(&self.scope(domains)),
        }
    }

    /// A renewal, or the same one by another link, came and vouches for `domains`.
    pub(super) fn refresh(&mut self, domains: &[Prefix], deadline: Timestamp) {
        for stored in self.entries.values_mut().filter(|s| covered(domains, &s.entry.path)) {
            stored.deadline = stored.deadline.max(deadline);
        }
    }

    /// When to look at it next: it lapses, a part of it does, or it counts as away.
    pub(super) fn next_look(&self) -> Timestamp {
        let living = self.entries.values().filter(|s| s.entry.value.is_some());
        let parts = living.map(|s| s.deadline).min().unwrap_or(self.deadline);
        self.deadline.min(parts).min(self.away_at())
    }

    pub(super) fn living(&self) -> usize {
        self.entries.values().filter(|s| s.entry.value.is_some()).count()
    }

    pub(super) fn deletions(&self) -> usize {
        self.entries.len() - self.living()
    }
}

/// The schedule of a lease by the clock of who first saw it at `seen`.
pub(super) fn taken_until(lease: &Lease, seen: (Timestamp, u8), index: u8) -> Timestamp {
    let steps = u32::from(index.saturating_sub(seen.1));
    seen.0 + lease.terms.period * steps + lease.terms.ttl
}
