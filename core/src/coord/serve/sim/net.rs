//! Links between peers: ordered streams that are late, cut one way, and break; and datagrams for consensus, which are lost,
//! doubled and overtaken too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::sim::dice::Dice;
use crate::time::Timestamp;

/// How bad the wires are.
#[derive(Clone, Copy, Debug)]
pub struct Wires {
    /// Datagrams of a thousand that are lost.
    pub lost: u32,
    /// Datagrams of a thousand that come twice.
    pub doubled: u32,
    /// Datagrams of a thousand that come much later.
    pub late: u32,
    /// The shortest and the longest way, in microseconds.
    pub between_us: (u64, u64),
}

impl Wires {
    /// Those of a quiet machine room.
    pub const CALM: Self = Self { lost: 0, doubled: 0, late: 0, between_us: (300, 2_000) };
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    epoch: u64,
    up: bool,
    /// Whether each end, the lower one first, believes that it is up.
    known: [bool; 2],
}

/// All links.
#[derive(Debug)]
pub struct Net {
    pub(in crate::coord::serve) wires: Wires,
    links: BTreeMap<(usize, usize), Link>,
    /// Who is not heard by whom.
    pub(in crate::coord::serve) cuts: BTreeSet<(usize, usize)>,
    held: BTreeMap<(usize, usize), Vec<Vec<u8>>>,
    last: BTreeMap<(usize, usize), Timestamp>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Net {
    pub(in crate::coord::serve) fn new(wires: Wires) -> Self {
        let (links, cuts, held, last) = Default::default();
        Self { wires, links, cuts, held, last }
    }

    /// Whether a frame of this epoch still arrives.
    pub(in crate::coord::serve) fn is_current(&self, from: usize, to: usize, epoch: u64) -> bool {
        self.links.get(&pair(from, to)).is_some_and(|link| link.up && link.epoch == epoch)
    }

    pub(in crate::coord::serve) fn is_up(&self, a: usize, b: usize) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.up)
    }

    /// Whether `end` believes in its link to `other`.
    pub(in crate::coord::serve) fn believes(&self, end: usize, other: usize) -> bool {
        self.links.get(&pair(end, other)).is_some_and(|link| link.known[usize::from(end > other)])
    }

    pub(in crate::coord::serve) fn forget(&mut self, end: usize, other: usize) {
        if let Some(link) = self.links.get_mut(&pair(end, other)) {
            link.known[usize::from(end > other)] = false;
        }
    }

    pub(in crate::coord::serve) fn can_reach(&self, a: usize, b: usize) -> bool {
        !self.cuts.contains(&(a, b)) && !self.cuts.contains(&(b, a))
    }

    /// A new link; both ends know of it.
    pub(in crate::coord::serve) fn connect(&mut self, a: usize, b: usize) {
        let link = self.links.entry(pair(a, b)).or_default();
        *link = Link { epoch: link.epoch + 1, up: true, known: [true; 2] };
    }

    /// The link ends, and what is on its way with it. Whether there was one.
    pub(in crate::coord::serve) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        self.held.remove(&(a, b));
        self.held.remove(&(b, a));
        self.links.get_mut(&pair(a, b)).is_some_and(|link| std::mem::take(&mut link.up))
    }

    /// When an ordered frame arrives, and in which epoch; `None` while it is held or if there is no link.
    pub(in crate::coord::serve) fn ordered(
        &mut self,
        now: Timestamp,
        dice: &mut Dice,
        (from, to): (usize, usize),
        bytes: &[u8],
    ) -> Option<(Timestamp, u64)> {
        let link = self.links.get(&pair(from, to)).filter(|link| link.up)?;
        if self.cuts.contains(&(from, to)) {
            self.held.entry((from, to)).or_default().push(bytes.to_vec());
            return None;
        }
        let epoch = link.epoch;
        let at = now + Duration::from_micros(dice.between(self.wires.between_us.0, self.wires.between_us.1));
        let at = self.last.get(&(from, to)).map_or(at, |last| at.max(*last));
        self.last.insert((from, to), at);
        Some((at, epoch))
    }

    /// When copies of a datagram arrive.
    pub(in crate::coord::serve) fn datagram(
        &self,
        now: Timestamp,
        dice: &mut Dice,
        from: usize,
        to: usize,
    ) -> Vec<Timestamp> {
        if self.cuts.contains(&(from, to)) || dice.chance(self.wires.lost) {
            return Vec::new();
        }
        let copies = if dice.chance(self.wires.doubled) { 2 } else { 1 };
        let arrivals = (0..copies).map(|_| {
            let late = if dice.chance(self.wires.late) { dice.below(3_000_000) } else { 0 };
            let (least, most) = self.wires.between_us;
            now + Duration::from_micros(dice.between(least, most) + late)
        });
        arrivals.collect()
    }

    /// The cut is over: what was held goes on.
    pub(in crate::coord::serve) fn heal(&mut self, from: usize, to: usize) -> Vec<Vec<u8>> {
        self.cuts.remove(&(from, to));
        self.held.remove(&(from, to)).unwrap_or_default()
    }
}
