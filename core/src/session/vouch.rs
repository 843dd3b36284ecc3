//! What equal roots have proved of another store's log, and what they cannot vouch for. The module above has the proof.

use std::collections::BTreeMap;

use crate::id::Prefix;
use crate::wire::v1::{MAX_PREFIXES, MAX_RANGES};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Ranges `[from, to)` of arrival numbers, ascending and disjoint: points in them may stand for what was set aside.
///
/// At most [`MAX_RANGES`] are kept apart; beyond it the two that lie closest become one, which claims less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range; an empty one adds nothing.
    pub fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|(a, b)| {
            let apart = *b < from || to < *a;
            if !apart {
                (from, to) = (from.min(*a), to.max(*b));
            }
            apart
        });
        let at = self.0.partition_point(|(a, _)| *a < from);
        self.0.insert(at, (from, to));
        if self.0.len() > MAX_RANGES {
            let gaps = self.0.windows(2).enumerate().map(|(i, pair)| (pair[1].0 - pair[0].1, i));
            let closest = gaps.min().map_or(0, |(_, i)| i);
            let (_, end) = self.0.remove(closest + 1);
            self.0[closest].1 = end;
        }
    }

    /// Whether a range holds `seq`.
    pub fn holds(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= seq);
        after > 0 && seq < self.0[after - 1].1
    }

    /// The end of the last range: when something was last set aside. Zero: never.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, to)| *to)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Codec for Ranges {
    fn encode(&self, w: &mut Writer) {
        w.list(&self.0, |w, (from, to)| {
            w.varint(*from).varint(*to);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ranges = r.list(MAX_RANGES, "ranges", |r| Ok((r.varint("from")?, r.varint("to")?)))?;
        let ascending = ranges.iter().all(|(from, to)| from < to) && ranges.windows(2).all(|w| w[0].1 < w[1].0);
        if ascending { Ok(Self(ranges)) } else { Err(DecodeError::Invalid { field: "ranges" }) }
    }
}

/// How far a domain of another store's log is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    /// The other store's arrival number when roots were last equal.
    theirs: u64,
    /// This store's arrival number then.
    ours: u64,
}

/// What is proved of one epoch of another store's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouched {
    domains: BTreeMap<Prefix, Reached>,
    set_aside: Ranges,
}

impl Vouched {
    /// Roots over these domains were equal, with the other store at `theirs` and this one at `ours`. `set_aside` is what
    /// the other store had told before.
    pub fn record(&mut self, domains: &[Prefix], theirs: u64, ours: u64, set_aside: &Ranges) {
        // Joined, never replaced: a store that was put back to an older state has forgotten some of its own.
        set_aside.0.iter().for_each(|(from, to)| self.set_aside.add(*from, *to));
        for prefix in domains {
            if self.domains.len() >= MAX_PREFIXES && !self.domains.contains_key(prefix) {
                self.domains.pop_first();
            }
            let reached = self.domains.entry(prefix.clone()).or_insert(Reached { theirs, ours });
            // A stream that was replaced may be answered late.
            if theirs >= reached.theirs {
                *reached = Reached { theirs, ours };
            }
        }
    }

    /// Whether all that the other store had under `prefix` at `seq` is covered here. `last_set_aside`: when this store last
    /// set something aside, by its own arrival numbers.
    pub fn proves(&self, prefix: &Prefix, seq: u64, last_set_aside: u64) -> bool {
        let reached = |domain: &Prefix, reached: &Reached| {
            domain.contains(prefix) && seq <= reached.theirs && last_set_aside <= reached.ours
        };
        !self.set_aside.holds(seq) && self.domains.iter().any(|(domain, at)| reached(domain, at))
    }

    /// The greatest arrival number that is proved of anything.
    pub fn furthest(&self) -> u64 {
        self.domains.values().map(|reached| reached.theirs).max().unwrap_or(0)
    }
}

impl Codec for Vouched {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.domains.len() as u64);
        for (prefix, reached) in &self.domains {
            w.str(prefix.as_str()).varint(reached.theirs).varint(reached.ours);
        }
        self.set_aside.encode(w);
        w.extensions(&[]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let domains = r.list(MAX_PREFIXES, "domains", |r| {
            let prefix = r.str(crate::id::Path::MAX_LEN, "prefix")?;
            let prefix = Prefix::parse(prefix).map_err(|_| DecodeError::Invalid { field: "prefix" })?;
            Ok((prefix, Reached { theirs: r.varint("theirs")?, ours: r.varint("ours")? }))
        })?;
        if !domains.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(DecodeError::Invalid { field: "domains" });
        }
        let vouched = Self { domains: domains.into_iter().collect(), set_aside: Ranges::decode(r)? };
        r.extensions()?;
        Ok(vouched)
    }
}
