//! The address book: who is known besides the configured peers, where, and how well.
//!
//! A peer gets in by being **met** (it proved its membership on a link), by being **found** (mDNS), or by being **told of**
//! by a member. What was met comes first in everything: it is dialled first, kept longest, and never pushed out by hearsay.
//!
//! **Against eclipse.** A member that lies can name as many peers as it likes. It fills its own [`MAX_PER_SOURCE`] places and
//! no more, where one device is one source whatever number of peers it runs; all hearsay together has [`MAX_TOLD`] places;
//! addresses that others tell of a peer that was met are tried after those that worked and those that it told itself, and a
//! device has one say in them (four devices that lie together can have all four places). What
//! is told is never told on: only a peer that was met is named to others, with what it said of itself and what worked.
//! A peer that was only heard of is forgotten after [`GIVE_UP`] failures.
//!
//! **Kept.** Peers that were met outlive a restart as one row of the store, [`Book::encode`], so that a peer finds the
//! others again without a configured address. What was not met again within [`MAX_AGE`] is dropped.
//!
//! Pure: time and randomness come in. Not here: configured addresses ([`dial`](super::dial)), the choice whom to link with
//! beyond "as many as there is room for".

mod row;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId as NetPeerId};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::reach::{Backoff, Reach};
use super::route::{self, Scope};
use crate::id::{DeviceId, SpaceId};
use crate::time::{Timestamp, WallTime};
use crate::wire::v1::exchange::{MAX_TOLD_ADDRESSES, MAX_TOLD_PEERS};

/// Most peers. One costs about 1 KiB; one that was met, and of which four devices tell, up to 4 KiB.
pub(crate) const MAX_PEERS: usize = 512;
/// Most peers that are known by hearsay only.
pub(crate) const MAX_TOLD: usize = 256;
/// Most of them by the word of one device.
pub(crate) const MAX_PER_SOURCE: usize = 32;
/// Most peers that were only found, by mDNS.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const MAX_FOUND: usize = 64;
/// Most addresses of a peer at which it was reached.
const MAX_PROVEN: usize = 4;
/// Most devices whose word on where a peer is that was met is remembered: the last ones.
const MAX_SOURCES: usize = 4;
/// Most spaces that are remembered of a peer.
const MAX_SPACES: usize = 16;
/// Failures in a row after which a peer that was never met is forgotten.
const GIVE_UP: u32 = 8;
/// Failures in a row after which a peer that was met is tried ten times as rarely: it has been away for a quarter of an
/// hour, and a book may hold a hundred that are gone for good.
const LONG_GONE: u32 = 40;
/// How long a peer that was met is remembered.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long after it was met a peer is named to others.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// How long a peer that shares no space is left alone.
const STRANGE: Duration = Duration::from_secs(600);

/// How well a peer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Standing {
    /// Another member named it.
    Told,
    /// It answered on the local network.
    Found,
    /// It proved its membership on a link.
    Met,
}

/// One peer.
#[derive(Debug, Clone)]
struct Known {
    /// Spaces of which it proved to be a member.
    spaces: BTreeSet<SpaceId>,
    /// Where it was reached, the last first.
    proven: Vec<Multiaddr>,
    /// What it says of itself.
    said: Vec<Multiaddr>,
    /// Where mDNS found it.
    found: Vec<Multiaddr>,
    /// What other devices say, the last first.
    told: Vec<(DeviceId, Vec<Multiaddr>)>,
    /// Who named it first.
    source: Option<DeviceId>,
    /// When it was last a member on a link.
    met: Option<WallTime>,
    /// Order of hearsay, for who goes first.
    serial: u64,
    /// Not to be dialled until somebody asks for it.
    dropped: bool,
    reach: Reach,
}

impl Known {
    fn new(reach: Reach, serial: u64) -> Self {
        Self {
            spaces: BTreeSet::new(),
            proven: Vec::new(),
            said: Vec::new(),
            found: Vec::new(),
            told: Vec::new(),
            source: None,
            met: None,
            serial,
            dropped: false,
            reach,
        }
    }

    fn standing(&self) -> Standing {
        match (self.met, self.found.is_empty()) {
            (Some(_), _) => Standing::Met,
            (None, false) => Standing::Found,
            (None, true) => Standing::Told,
        }
    }

    /// Every address, the best first.
    fn addresses(&self) -> Vec<Multiaddr> {
        let mut all: Vec<Multiaddr> = Vec::new();
        let told = self.told.iter().flat_map(|(_, addresses)| addresses);
        for address in [&self.proven, &self.said, &self.found].into_iter().flatten().chain(told) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }
}

/// A known peer, as [`Book::entries`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) peer: NetPeerId,
    pub(crate) standing: Standing,
    pub(crate) spaces: Vec<SpaceId>,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) met: Option<WallTime>,
    pub(crate) failures: u32,
}

/// Every peer that is known.
#[derive(Debug)]
pub(crate) struct Book {
    me: NetPeerId,
    known: BTreeMap<NetPeerId, Known>,
    backoff: Backoff,
    rng: ChaCha12Rng,
    serial: u64,
    /// Something that outlives a restart has changed.
    dirty: bool,
}

impl Book {
    pub(crate) fn new(me: NetPeerId, backoff: Backoff, rng: ChaCha12Rng) -> Self {
        Self { me, known: BTreeMap::new(), backoff, rng, serial: 0, dirty: false }
    }

    /// A peer proved to be a member of a space on a link; `at`: where it was dialled, if it was.
    pub(crate) fn meet(&mut self, peer: NetPeerId, space: SpaceId, at: Option<Multiaddr>, now: WallTime) {
        let Some(known) = self.entry(peer, Standing::Met, Reach::resting()) else { return };
        known.met = Some(now);
        if known.spaces.len() < MAX_SPACES {
            known.spaces.insert(space);
        }
        if let Some(at) = at {
            known.proven.retain(|known| *known != at);
            known.proven.insert(0, at);
            known.proven.truncate(MAX_PROVEN);
        }
        self.dirty = true;
    }

    /// A peer that was met says where it listens. Whether that is news.
    pub(crate) fn say(&mut self, peer: NetPeerId, addresses: Vec<Multiaddr>) -> bool {
        let Some(known) = self.known.get_mut(&peer).filter(|known| known.met.is_some()) else { return false };
        let addresses: Vec<_> = addresses.into_iter().take(MAX_TOLD_ADDRESSES).collect();
        if known.said == addresses {
            return false;
        }
        known.said = addresses;
        self.dirty = true;
        true
    }

    /// A member names another peer. `false`: at a bound, or nothing new.
    pub(crate) fn tell(
        &mut self,
        source: DeviceId,
        peer: NetPeerId,
        addresses: Vec<Multiaddr>,
        now: Timestamp,
    ) -> bool {
        let addresses: Vec<_> = addresses.into_iter().take(MAX_TOLD_ADDRESSES).collect();
        if addresses.is_empty() || peer == self.me {
            return false;
        }
        if !self.known.contains_key(&peer) && !self.make_room_for(source) {
            return false;
        }
        let Some(known) = self.entry(peer, Standing::Told, Reach::at(now)) else { return false };
        // Who named a peer first is its source: nobody moves an entry into another's share, or out of it. One that was met is
        // in nobody's share, and whoever has seen it since may say where it is now.
        if known.met.is_none() && known.source.is_some_and(|first| first != source) {
            return false;
        }
        if known.told.iter().any(|(who, told)| *who == source && *told == addresses) {
            return false;
        }
        known.source.get_or_insert(source);
        known.told.retain(|(who, _)| *who != source);
        known.told.insert(0, (source, addresses));
        known.told.truncate(MAX_SOURCES);
        true
    }

    /// The local network names a peer. `false`: at a bound.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn find(&mut self, peer: NetPeerId, address: Multiaddr, now: Timestamp) -> bool {
        if peer == self.me {
            return false;
        }
        let found = self.known.values().filter(|known| known.standing() == Standing::Found).count();
        if !self.known.contains_key(&peer) && found >= MAX_FOUND {
            return false;
        }
        let Some(known) = self.entry(peer, Standing::Found, Reach::at(now)) else { return false };
        if !known.found.contains(&address) && known.found.len() < MAX_TOLD_ADDRESSES {
            known.found.push(address);
        }
        true
    }

    /// The local network names a peer at an address no more.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn lose(&mut self, peer: &NetPeerId, address: &Multiaddr) {
        let Some(known) = self.known.get_mut(peer) else { return };
        known.found.retain(|found| found != address);
        if known.addresses().is_empty() && known.met.is_none() {
            self.known.remove(peer);
        }
    }

    /// The best peer to dial now, with the addresses to dial; it counts as being dialled from now on. `may`: whether a peer
    /// may be dialled at all.
    pub(crate) fn due(
        &mut self,
        now: Timestamp,
        may: impl Fn(&NetPeerId) -> bool,
    ) -> Option<(NetPeerId, Vec<Multiaddr>)> {
        let ready = |known: &Known| known.reach.due().is_some_and(|at| at <= now) && !known.dropped;
        let due = self.known.iter().filter(|(peer, known)| ready(known) && may(peer));
        // The best known first; among equals those that failed least, then by a draw, so that a crowd of newcomers does not
        // fall upon one peer.
        let salt = self.rng.next_u64();
        let best = due.max_by_key(|(peer, known)| {
            (known.standing(), std::cmp::Reverse(known.reach.failures()), shuffled(peer, salt))
        });
        let peer = *best?.0;
        let known = self.known.get_mut(&peer)?;
        let addresses = known.reach.begin(&known.addresses());
        if addresses.is_empty() {
            known.reach.rest();
            return None;
        }
        Some((peer, addresses))
    }

    /// When [`Book::due`] may have something again.
    pub(crate) fn next_at(&self, may: impl Fn(&NetPeerId) -> bool) -> Option<Timestamp> {
        let waiting = self.known.iter().filter(|(peer, known)| !known.dropped && may(peer));
        waiting.filter_map(|(_, known)| known.reach.due()).min()
    }

    /// Peers of the book that are being dialled.
    pub(crate) fn dialling(&self) -> usize {
        self.known.values().filter(|known| known.reach.is_dialling()).count()
    }

    /// Whether a peer is being dialled.
    pub(crate) fn is_dialling(&self, peer: &NetPeerId) -> bool {
        self.known.get(peer).is_some_and(|known| known.reach.is_dialling())
    }

    /// Lets a peer be dialled now, whatever it waits for, and counts its failures on. Whether it may be: it is known, with
    /// an address, and nobody has dropped it.
    pub(crate) fn free(&mut self, peer: &NetPeerId, now: Timestamp) -> bool {
        let Some(known) = self.known.get_mut(peer).filter(|known| !known.dropped) else { return false };
        known.reach.free(now);
        !known.addresses().is_empty()
    }

    /// A connection to a peer is up, whoever dialled it.
    pub(crate) fn connected(&mut self, peer: &NetPeerId) {
        if let Some(known) = self.known.get_mut(peer) {
            known.reach.connected();
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, peer: &NetPeerId, now: Timestamp) {
        let Some(known) = self.known.get_mut(peer) else { return };
        let relays = known.addresses().iter().any(route::is_relayed);
        let rarely = if known.reach.failures() >= LONG_GONE { 10 } else { 1 };
        let backoff = Backoff { max: self.backoff.max.saturating_mul(rarely), ..self.backoff };
        known.reach.failed(relays, now, backoff, &mut self.rng);
        if known.met.is_none() && known.reach.failures() >= GIVE_UP {
            self.known.remove(peer);
        }
    }

    /// The last connection to a peer is gone after `lived`.
    pub(crate) fn disconnected(&mut self, peer: &NetPeerId, lived: Duration, now: Timestamp) {
        if let Some(known) = self.known.get_mut(peer) {
            known.reach.disconnected(lived, now, self.backoff, &mut self.rng);
        }
    }

    /// A peer that was dialled shares no space with this one: it is left alone for a while, and forgotten if it was only
    /// heard of.
    pub(crate) fn is_strange(&mut self, peer: &NetPeerId, now: Timestamp) {
        let Some(known) = self.known.get_mut(peer) else { return };
        match known.standing() {
            Standing::Told => drop(self.known.remove(peer)),
            Standing::Found => known.reach = Reach::at(now + STRANGE),
            // It may have been slow, or one of the two has not heard of a grant.
            Standing::Met => known.reach = Reach::at(now + STRANGE / 10),
        }
    }

    /// Dials a peer at once, as if it had never failed. Whether an address of it is known.
    pub(crate) fn hurry(&mut self, peer: &NetPeerId, now: Timestamp) -> bool {
        let Some(known) = self.known.get_mut(peer).filter(|known| !known.addresses().is_empty()) else { return false };
        known.dropped = false;
        known.reach.hurry(now);
        true
    }

    /// Dials everything that waits, at once: the network came back.
    pub(crate) fn hurry_all(&mut self, now: Timestamp) {
        self.known.values_mut().for_each(|known| known.reach.network_back(now));
    }

    /// Leaves a peer alone until [`Book::hurry`] names it. Whether it is known.
    pub(crate) fn drop_peer(&mut self, peer: &NetPeerId) -> bool {
        let Some(known) = self.known.get_mut(peer) else { return false };
        known.dropped = true;
        true
    }

    /// A peer and where it can be dialled, as told to another member of the space; `None`: it was not met there lately, or
    /// nothing of it may be told over such a link.
    pub(crate) fn told_of(
        &self,
        peer: &NetPeerId,
        space: &SpaceId,
        link: Scope,
        now: WallTime,
    ) -> Option<(NetPeerId, Vec<String>)> {
        let known = self.known.get(peer)?;
        let fresh = known.met.is_some_and(|met| age(met, now) < FRESH);
        if !fresh || !known.spaces.contains(space) {
            return None;
        }
        let mut addresses: Vec<String> = Vec::new();
        for text in known.said.iter().chain(&known.proven).filter_map(|address| route::tell(address, link)) {
            if addresses.len() < MAX_TOLD_ADDRESSES && !addresses.contains(&text) {
                addresses.push(text);
            }
        }
        (!addresses.is_empty()).then_some((*peer, addresses))
    }

    /// Up to [`MAX_TOLD_PEERS`] members of a space, drawn by lot, as told to one of them.
    pub(crate) fn sample(
        &mut self,
        asker: &NetPeerId,
        space: &SpaceId,
        link: Scope,
        now: WallTime,
    ) -> Vec<(NetPeerId, Vec<String>)> {
        let salt = self.rng.next_u64();
        let mut peers: Vec<NetPeerId> = self.known.keys().filter(|peer| *peer != asker).copied().collect();
        peers.sort_unstable_by_key(|peer| shuffled(peer, salt));
        peers.iter().filter_map(|peer| self.told_of(peer, space, link, now)).take(MAX_TOLD_PEERS).collect()
    }

    /// Every peer, by its id.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let entry = |(peer, known): (&NetPeerId, &Known)| Entry {
            peer: *peer,
            standing: known.standing(),
            spaces: known.spaces.iter().copied().collect(),
            addresses: known.addresses(),
            met: known.met,
            failures: known.reach.failures(),
        };
        self.known.iter().map(entry).collect()
    }

    /// Whether a row of this book differs from the last one that was taken; asking takes it.
    pub(crate) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Whether there is something to keep.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The peer's entry, made if there is room for one of this standing. The least known, then the longest not met, makes
    /// room for a better one.
    fn entry(&mut self, peer: NetPeerId, standing: Standing, reach: Reach) -> Option<&mut Known> {
        if peer == self.me {
            return None;
        }
        if !self.known.contains_key(&peer) {
            if self.known.len() >= MAX_PEERS {
                let rank = |known: &Known| (known.standing(), known.met, known.serial);
                let (worst, known) = self.known.iter().min_by_key(|(_, known)| rank(known))?;
                if known.standing() > standing || (known.standing() == standing && standing != Standing::Met) {
                    return None;
                }
                let worst = *worst;
                self.known.remove(&worst);
            }
            self.serial += 1;
            self.known.insert(peer, Known::new(reach, self.serial));
        }
        self.known.get_mut(&peer)
    }

    /// Makes room for hearsay of a device: beyond its share its own oldest goes, beyond everybody's share nothing does.
    fn make_room_for(&mut self, source: DeviceId) -> bool {
        let heard: Vec<(&NetPeerId, &Known)> =
            self.known.iter().filter(|(_, known)| known.standing() == Standing::Told).collect();
        let own: Vec<_> = heard.iter().filter(|(_, known)| known.source == Some(source)).collect();
        if own.len() >= MAX_PER_SOURCE {
            let oldest = own.iter().filter(|(_, known)| !known.reach.is_dialling()).min_by_key(|(_, k)| k.serial);
            let Some(oldest) = oldest.map(|(peer, _)| **peer) else { return false };
            self.known.remove(&oldest);
            return true;
        }
        heard.len() < MAX_TOLD
    }
}

fn age(then: WallTime, now: WallTime) -> Duration {
    // A clock that went back makes nothing older.
    Duration::from_millis(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

/// A number that orders peers anew for every salt.
fn shuffled(peer: &NetPeerId, salt: u64) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes()).update(&peer.to_bytes());
    let hash = hasher.finalize();
    hash.as_bytes()[..8].try_into().expect("eight of 32 bytes")
}
