//! The simulated network: reliable ordered streams that are slow, stall, break in the middle of a frame, and half die.
//!
//! A [`Wire`] is one stream between two nodes, as TCP or QUIC gives it. Under it packets are lost, duplicated and
//! reordered, but what the stream's user sees of that is *delay* (a retransmission holds up all that follows) and *death*
//! (the stream breaks; what was in flight is lost; either end may notice seconds after the other, and the next stream may
//! be up before the old one is known to be dead). So loss is modelled as retransmission delay, and a torn wire loses its
//! frames. A stall blocks one direction between two nodes without breaking anything, which is how a one-way or
//! non-transitive partition looks until somebody's patience ends.
//!
//! [`Mischief`] goes beyond what an honest stream can do: frames doubled, swapped, dropped, altered, or replayed from an
//! earlier wire of the same pair. It is there to be sure that the engine tolerates stale and damaged frames by at worst
//! giving the stream up.
//!
//! **Invariants.** Without mischief the frames of one direction of one wire arrive in order, each once, a prefix of what
//! was sent. All bytes in flight are counted.
//!
//! The network knows nothing of engines: it takes bytes at one end and says when to ask for them at the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::dice::Dice;
use crate::time::Timestamp;

/// A simulated machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

/// One stream between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub u64);

/// An end of a wire: 0 opened it, 1 accepted it.
pub type Side = usize;

/// The quality of the path between two nodes, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// For the trace.
    pub name: &'static str,
    /// Shortest one-way delay.
    pub delay_min: Duration,
    /// Longest one-way delay without loss.
    pub delay_max: Duration,
    /// Bytes a second.
    pub bandwidth: u64,
    /// Packets of a thousand that are lost, each costing one `retransmit`.
    pub loss_per_mille: u32,
    /// Time until a lost packet is sent again.
    pub retransmit: Duration,
}

impl Profile {
    /// One switch.
    pub const LAN: Self = Self::new("lan", 100, 800, 100_000_000, 0, 5);
    /// A wireless room: small delay, some loss.
    pub const WIFI: Self = Self::new("wifi", 1_500, 25_000, 4_000_000, 20, 200);
    /// A telephone on a train.
    pub const MOBILE: Self = Self::new("mobile", 40_000, 400_000, 150_000, 80, 600);
    /// Another continent.
    pub const FAR: Self = Self::new("far", 110_000, 180_000, 10_000_000, 5, 400);
    /// All of the above.
    pub const ALL: [Self; 4] = [Self::LAN, Self::WIFI, Self::MOBILE, Self::FAR];

    const fn new(name: &'static str, min_us: u64, max_us: u64, bandwidth: u64, loss: u32, retransmit_ms: u64) -> Self {
        Self {
            name,
            delay_min: Duration::from_micros(min_us),
            delay_max: Duration::from_micros(max_us),
            bandwidth,
            loss_per_mille: loss,
            retransmit: Duration::from_millis(retransmit_ms),
        }
    }

    fn draw(&self, dice: &mut Dice) -> Duration {
        let mut delay = dice.span(self.delay_min, self.delay_max);
        // Bounded: a path that loses everything is a stall, and has a switch of its own.
        for _ in 0..8 {
            if !dice.chance(self.loss_per_mille) {
                break;
            }
            delay += self.retransmit;
        }
        delay
    }
}

/// What no honest stream does, each in so many of a thousand frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mischief {
    /// The frame arrives twice.
    pub duplicate: u32,
    /// The frame overtakes the one before it.
    pub reorder: u32,
    /// An old frame of the same pair, perhaps of an earlier wire, arrives in its stead.
    pub replay: u32,
    /// A few bits are turned over.
    pub corrupt: u32,
    /// The frame vanishes and the stream goes on.
    pub drop: u32,
}

impl Mischief {
    /// None of it.
    pub const NONE: Self = Self { duplicate: 0, reorder: 0, replay: 0, corrupt: 0, drop: 0 };
}

/// Old frames kept for replaying, a pair and direction.
const ARCHIVE: usize = 64;

/// What travels on a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole frame.
    Frame(Vec<u8>),
    /// The other end closed the stream after its last frame.
    End,
}

#[derive(Debug, Default)]
struct Direction {
    /// When the sender's line is free again.
    free_at: Timestamp,
    last_arrival: Timestamp,
    in_flight: VecDeque<(Timestamp, Item)>,
    bytes_in_flight: usize,
}

/// One stream between two nodes.
#[derive(Debug)]
pub struct Wire {
    /// The node at each side.
    pub nodes: [NodeId; 2],
    /// Whether each side still has its end open.
    pub open: [bool; 2],
    /// A torn wire carries nothing any more, whether or not its ends have noticed.
    pub torn: bool,
    profile: Profile,
    /// By the sending side.
    directions: [Direction; 2],
}

/// Counters of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Frames taken for sending.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes in flight in one direction of one wire, and who sent them.
    pub peak_in_flight: (usize, NodeId),
    /// Frames lost with their wire.
    pub lost: u64,
}

/// All wires.
#[derive(Debug, Default)]
pub struct Network {
    wires: BTreeMap<WireId, Wire>,
    opened: u64,
    /// Directions that carry nothing at present.
    stalled: BTreeSet<(NodeId, NodeId)>,
    /// Present mischief.
    pub mischief: Mischief,
    archive: BTreeMap<(NodeId, NodeId), VecDeque<Vec<u8>>>,
    /// Counters.
    pub stats: NetworkStats,
}

impl Network {
    /// Opens a wire from `from` to `to`.
    pub fn open(&mut self, from: NodeId, to: NodeId, profile: Profile) -> WireId {
        self.opened += 1;
        let id = WireId(self.opened);
        let wire = Wire { nodes: [from, to], open: [true; 2], torn: false, profile, directions: Default::default() };
        self.wires.insert(id, wire);
        id
    }

    /// A wire, unless both its ends are closed.
    pub fn wire(&self, id: WireId) -> Option<&Wire> {
        self.wires.get(&id)
    }

    /// Every wire that one of its ends believes to be open.
    pub fn wires(&self) -> impl Iterator<Item = (WireId, &Wire)> {
        self.wires.iter().map(|(id, wire)| (*id, wire))
    }

    /// Takes a frame at `side`. Returns when to call [`Network::arrive`] for the other side, `None` if it is lost.
    pub fn send(
        &mut self,
        now: Timestamp,
        id: WireId,
        side: Side,
        mut frame: Vec<u8>,
        dice: &mut Dice,
    ) -> Option<Timestamp> {
        let wire = self.wires.get_mut(&id)?;
        self.stats.frames += 1;
        self.stats.bytes += frame.len() as u64;
        if wire.torn || !wire.open[side] || !wire.open[1 - side] {
            self.stats.lost += 1;
            return None;
        }
        if self.mischief != Mischief::NONE {
            let pair = (wire.nodes[side], wire.nodes[1 - side]);
            let archive = self.archive.entry(pair).or_default();
            if archive.len() == ARCHIVE {
                archive.pop_front();
            }
            archive.push_back(frame.clone());
            if dice.chance(self.mischief.drop) {
                return None;
            }
            if dice.chance(self.mischief.replay) {
                frame.clone_from(&archive[dice.below(archive.len() as u64) as usize]);
            }
            if dice.chance(self.mischief.corrupt) {
                corrupt(&mut frame, dice);
            }
        }
        let copies = 1 + usize::from(dice.chance(self.mischief.duplicate));
        let overtakes = dice.chance(self.mischief.reorder);
        for _ in 0..copies {
            wire.push(now, side, Item::Frame(frame.clone()), dice);
        }
        let direction = &mut wire.directions[side];
        if overtakes && let [.., before, last] = direction.in_flight.make_contiguous() {
            std::mem::swap(&mut before.1, &mut last.1);
        }
        self.stats.peak_in_flight = self.stats.peak_in_flight.max((direction.bytes_in_flight, wire.nodes[side]));
        Some(direction.last_arrival)
    }

    /// Closes an end. The other end reads what was sent before, then [`Item::End`]; returns when to look for it.
    pub fn close(&mut self, now: Timestamp, id: WireId, side: Side, dice: &mut Dice) -> Option<Timestamp> {
        let wire = self.wires.get_mut(&id)?;
        wire.open[side] = false;
        let arrival = (!wire.torn && wire.open[1 - side]).then(|| {
            wire.push(now, side, Item::End, dice);
            wire.directions[side].last_arrival
        });
        self.sweep(id);
        arrival
    }

    /// Breaks a wire at once: what is in flight is lost. Both ends still have to be told.
    pub fn tear(&mut self, id: WireId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.torn = true;
            for direction in &mut wire.directions {
                self.stats.lost += direction.in_flight.len() as u64;
                direction.in_flight.clear();
                direction.bytes_in_flight = 0;
            }
        }
    }

    /// The node at `side` learns that the wire is dead. Returns whether its end was open until now.
    pub fn notice(&mut self, id: WireId, side: Side) -> bool {
        let Some(wire) = self.wires.get_mut(&id) else { return false };
        let was_open = std::mem::replace(&mut wire.open[side], false);
        self.sweep(id);
        was_open
    }

    /// Takes what is due at `side`.
    pub fn arrive(&mut self, now: Timestamp, id: WireId, side: Side) -> Option<Item> {
        let wire = self.wires.get_mut(&id)?;
        if !wire.open[side] || self.stalled.contains(&(wire.nodes[1 - side], wire.nodes[side])) {
            return None;
        }
        let direction = &mut wire.directions[1 - side];
        if direction.in_flight.front().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        let (_, item) = direction.in_flight.pop_front()?;
        if let Item::Frame(frame) = &item {
            direction.bytes_in_flight -= frame.len();
        }
        Some(item)
    }

    /// Stalls the direction `from → to`. Frames wait; nothing breaks.
    pub fn stall(&mut self, from: NodeId, to: NodeId) {
        self.stalled.insert((from, to));
    }

    /// Whether `from → to` is stalled.
    pub fn is_stalled(&self, from: NodeId, to: NodeId) -> bool {
        self.stalled.contains(&(from, to))
    }

    /// Lets `from → to` flow again. Returns the (wire, receiving side) pairs to look at.
    pub fn flow(&mut self, from: NodeId, to: NodeId) -> Vec<(WireId, Side)> {
        self.stalled.remove(&(from, to));
        let sides = |wire: &Wire| (0..2).find(|side| wire.nodes[1 - side] == from && wire.nodes[*side] == to);
        self.wires.iter().filter_map(|(id, wire)| Some((*id, sides(wire)?))).collect()
    }

    /// Every stalled direction.
    pub fn stalls(&self) -> Vec<(NodeId, NodeId)> {
        self.stalled.iter().copied().collect()
    }

    /// Forgets a wire of which nobody holds an end.
    fn sweep(&mut self, id: WireId) {
        if self.wires.get(&id).is_some_and(|wire| wire.open == [false; 2]) {
            self.wires.remove(&id);
        }
    }
}

impl Wire {
    fn push(&mut self, now: Timestamp, side: Side, item: Item, dice: &mut Dice) {
        let bytes = if let Item::Frame(frame) = &item { frame.len() } else { 0 };
        let direction = &mut self.directions[side];
        let sending = Duration::from_micros(bytes as u64 * 1_000_000 / self.profile.bandwidth);
        direction.free_at = direction.free_at.max(now) + sending;
        // In order, whatever was drawn: the stream holds back what overtook.
        direction.last_arrival = direction.last_arrival.max(direction.free_at + self.profile.draw(dice));
        direction.in_flight.push_back((direction.last_arrival, item));
        direction.bytes_in_flight += bytes;
    }
}

fn corrupt(frame: &mut [u8], dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(frame.len() as u64) as usize;
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    }
}

#[cfg(test)]
mod tests;
