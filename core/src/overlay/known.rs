//! Peers that are known: HyParView's passive view, with a memory for who told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::message::Contact;
use super::{HOPELESS, LONG_GONE, LONGEST_RETRY, MAX_ADDRESS, MAX_ADDRESSES, MAX_KNOWN, MAX_PER_SOURCE, RETRY};
use crate::id::PeerId;
use crate::time::Timestamp;

/// What is known of a peer.
#[derive(Debug)]
struct Acquaintance {
    addresses: Vec<String>,
    /// Who told of it; `None`: there was a link with it.
    source: Option<PeerId>,
    failures: u8,
    /// Not to be tried before.
    rests_until: Timestamp,
}

/// Known peers, those with a link among them.
#[derive(Debug, Default)]
pub(super) struct Known {
    peers: BTreeMap<PeerId, Acquaintance>,
}

/// A number below `n`, which is not 0.
pub(super) fn below(n: usize, rng: &mut ChaCha12Rng) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// A duration with ±50 % jitter.
pub(super) fn jittered(around: Duration, rng: &mut ChaCha12Rng) -> Duration {
    around.mul_f64(0.5 + f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

/// Addresses within their bounds.
pub(super) fn bounded(mut addresses: Vec<String>) -> Vec<String> {
    addresses.retain(|address| !address.is_empty() && address.len() <= MAX_ADDRESS);
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

impl Known {
    /// There is a link with a peer: whatever was said of it, it exists.
    pub(super) fn met(&mut self, peer: PeerId) {
        let nothing = Acquaintance { addresses: Vec::new(), source: None, failures: 0, rests_until: Timestamp::ZERO };
        let known = self.peers.entry(peer).or_insert(nothing);
        (known.source, known.failures, known.rests_until) = (None, 0, Timestamp::ZERO);
    }

    /// A peer says itself where it can be reached.
    pub(super) fn reachable_at(&mut self, peer: &PeerId, addresses: Vec<String>) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.addresses = bounded(addresses);
        }
    }

    /// The link with a peer is gone: it is tried again before long, but not at once.
    pub(super) fn parted(&mut self, peer: &PeerId, pause: Duration, now: Timestamp) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.rests_until = now + pause;
        }
    }

    /// Somebody else than a link's peer says where a peer is: on whose word, or by own experience. It is tried as if it had
    /// never failed.
    pub(super) fn reachable(&mut self, peer: PeerId, source: Option<PeerId>) {
        if let Some(known) = self.peers.get_mut(&peer) {
            (known.failures, known.rests_until) = (0, Timestamp::ZERO);
        } else if let Some(source) = source {
            self.heard_of(Contact { peer, addresses: Vec::new() }, source);
        } else {
            self.met(peer);
        }
    }

    /// `source` says that a peer exists. What is known better is not changed by hearsay. Returns whether it is news.
    pub(super) fn heard_of(&mut self, contact: Contact, source: PeerId) -> bool {
        if let Some(known) = self.peers.get_mut(&contact.peer) {
            if known.source.is_some() && known.addresses.is_empty() {
                known.addresses = bounded(contact.addresses);
            }
            return false;
        }
        let told = self.peers.values().filter(|known| known.source == Some(source)).count();
        if told >= MAX_PER_SOURCE {
            return false;
        }
        let (addresses, rests_until) = (bounded(contact.addresses), Timestamp::ZERO);
        let known = Acquaintance { addresses, source: Some(source), failures: 0, rests_until };
        self.peers.insert(contact.peer, known).is_none()
    }

    /// Forgets what is above the bound: first what failed most, hearsay before own experience. Linked peers stay.
    pub(super) fn trim(&mut self, linked: &BTreeSet<PeerId>, rng: &mut ChaCha12Rng) {
        let worth = |known: &Acquaintance| (known.failures, known.source.is_some());
        loop {
            let unlinked = self.peers.iter().filter(|(peer, _)| !linked.contains(peer));
            if unlinked.clone().count() <= MAX_KNOWN {
                return;
            }
            let worst = unlinked.clone().map(|(_, known)| worth(known)).max();
            let worst: Vec<PeerId> =
                unlinked.filter(|(_, known)| Some(worth(known)) == worst).map(|(peer, _)| *peer).collect();
            self.peers.remove(&worst[below(worst.len(), rng)]);
        }
    }

    /// A peer could not be reached.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Timestamp, rng: &mut ChaCha12Rng) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.failures = known.failures.saturating_add(1);
        if known.source.is_some() && known.failures >= HOPELESS {
            self.peers.remove(peer);
            return;
        }
        let longest = if known.failures >= LONG_GONE { LONGEST_RETRY * 10 } else { LONGEST_RETRY };
        let pause = RETRY.saturating_mul(1 << u32::from(known.failures - 1).min(10)).min(longest);
        known.rests_until = now + jittered(pause, rng);
    }

    /// Peers that are there as far as is known.
    pub(super) fn count(&self) -> usize {
        self.peers.values().filter(|known| known.failures < HOPELESS).count()
    }

    /// Someone to link with, chosen among the sources first, so that one who tells of many has no greater say.
    pub(super) fn candidate(
        &self,
        now: Timestamp,
        taken: &BTreeSet<PeerId>,
        rng: &mut ChaCha12Rng,
    ) -> Option<(PeerId, Vec<String>)> {
        let mut by_source: BTreeMap<Option<PeerId>, Vec<PeerId>> = BTreeMap::new();
        for (peer, known) in self.peers.iter().filter(|(peer, _)| !taken.contains(peer)) {
            if known.rests_until <= now {
                by_source.entry(known.source).or_default().push(*peer);
            }
        }
        let sources: Vec<Vec<PeerId>> = by_source.into_values().collect();
        let of_source = sources.get(below(sources.len().max(1), rng))?;
        let peer = of_source[below(of_source.len(), rng)];
        Some((peer, self.peers[&peer].addresses.clone()))
    }

    /// When the first peer that rests may be tried again.
    pub(super) fn next_at(&self, taken: &BTreeSet<PeerId>) -> Option<Timestamp> {
        self.peers.iter().filter(|(peer, _)| !taken.contains(peer)).map(|(_, known)| known.rests_until).min()
    }

    /// A random sample of what can be told to a peer: whom this one met, and of whom it heard and has not failed to reach.
    pub(super) fn sample(&self, most: usize, except: &PeerId, rng: &mut ChaCha12Rng) -> Vec<Contact> {
        let good = |(peer, known): &(&PeerId, &Acquaintance)| *peer != except && known.failures == 0;
        let mut peers: Vec<PeerId> = self.peers.iter().filter(good).map(|(peer, _)| *peer).collect();
        let mut sample = Vec::new();
        while sample.len() < most && !peers.is_empty() {
            let peer = peers.swap_remove(below(peers.len(), rng));
            sample.push(Contact { peer, addresses: self.peers[&peer].addresses.clone() });
        }
        sample
    }
}
