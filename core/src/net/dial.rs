//! Whom to stay connected to: addresses from configuration, from invitations and from programs.
//!
//! They stay. Those of one peer form a *target* and are dialled together; the first that answers wins. A target with a
//! connection is left alone, whoever dialled it. When and by which address is [`reach`](super::reach)'s. Peers that were
//! met or heard of are not here but in the [`book`](super::book).
//!
//! Pure: time and randomness come in, dialling is the driver's.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId as NetPeerId};
use rand_chacha::ChaCha12Rng;

use super::reach::{Backoff, Reach};
use super::route;
use crate::time::Timestamp;

/// Most addresses kept. An invitation carries a handful; beyond the bound a new one is refused.
pub(crate) const MAX_ADDRESSES: usize = 1024;

/// Most addresses of one peer.
const MAX_PER_TARGET: usize = 16;

/// One peer to dial, by its addresses.
#[derive(Debug)]
struct Target {
    /// Who answers there, once known or if the address says so.
    peer: Option<NetPeerId>,
    addresses: Vec<Multiaddr>,
    reach: Reach,
}

/// Something to dial now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) peer: Option<NetPeerId>,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Every address that this peer dials whatever happens.
#[derive(Debug)]
pub(crate) struct Dialler {
    me: NetPeerId,
    targets: Vec<Target>,
    backoff: Backoff,
    rng: ChaCha12Rng,
}

impl Dialler {
    pub(crate) fn new(me: NetPeerId, backoff: Backoff, rng: ChaCha12Rng) -> Self {
        Self { me, targets: Vec::new(), backoff, rng }
    }

    /// Adds an address, to be dialled at once unless its peer is connected. `false`: at the bound, or a circuit that does
    /// not say who is at its end; not added.
    pub(crate) fn add(&mut self, address: Multiaddr, now: Timestamp, connected: impl Fn(&NetPeerId) -> bool) -> bool {
        let (address, peer) = route::split_peer(address);
        if peer == Some(self.me) || self.targets.iter().any(|t| t.addresses.contains(&address) && t.peer == peer) {
            return true;
        }
        let total: usize = self.targets.iter().map(|t| t.addresses.len()).sum();
        if total >= MAX_ADDRESSES || (peer.is_none() && route::is_relayed(&address)) {
            return false;
        }
        let reach = match peer {
            Some(peer) if connected(&peer) => Reach::resting(),
            _ => Reach::at(now),
        };
        match self.targets.iter_mut().find(|t| peer.is_some() && t.peer == peer) {
            Some(target) if target.addresses.len() >= MAX_PER_TARGET => return false,
            Some(target) => target.addresses.push(address),
            None => self.targets.push(Target { peer, addresses: vec![address], reach }),
        }
        true
    }

    /// The next target that is due; it counts as being dialled from now on. `may`: whether a known peer may be dialled
    /// (it is neither connected nor blocked); one that may not rests until [`Dialler::disconnected`].
    pub(crate) fn due(&mut self, now: Timestamp, may: impl Fn(&NetPeerId) -> bool) -> Option<Attempt> {
        for target in &mut self.targets {
            if target.reach.due().is_none_or(|at| at > now) {
                continue;
            }
            if target.peer.is_some_and(|peer| !may(&peer)) {
                target.reach.rest();
                continue;
            }
            return Some(Attempt { peer: target.peer, addresses: target.reach.begin(&target.addresses) });
        }
        None
    }

    /// When [`Dialler::due`] has something again.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.targets.iter().filter_map(|t| t.reach.due()).min()
    }

    /// Whether a peer is one of these.
    pub(crate) fn has(&self, peer: &NetPeerId) -> bool {
        self.targets.iter().any(|t| t.peer.as_ref() == Some(peer))
    }

    /// A connection that this side dialled as `attempt` is up.
    pub(crate) fn connected(&mut self, attempt: &Attempt, peer: NetPeerId) {
        let Some(i) = self.find(attempt) else { return };
        let mut target = self.targets.remove(i);
        target.reach.connected();
        target.peer = Some(peer);
        match self.targets.iter_mut().find(|t| t.peer == Some(peer)) {
            // The address turned out to be another one of a peer that is a target already.
            Some(known) => {
                let room = MAX_PER_TARGET.saturating_sub(known.addresses.len());
                let new = target.addresses.into_iter().filter(|a| !known.addresses.contains(a)).take(room);
                let new: Vec<_> = new.collect();
                known.addresses.extend(new);
                known.reach.connected();
            }
            None => self.targets.push(target),
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, attempt: &Attempt, now: Timestamp) {
        let Some(i) = self.find(attempt) else { return };
        let target = &mut self.targets[i];
        let relays = target.addresses.iter().any(route::is_relayed);
        target.reach.failed(relays, now, self.backoff, &mut self.rng);
    }

    /// The address leads to this peer itself, or somewhere that will never answer: forget it.
    pub(crate) fn forget(&mut self, attempt: &Attempt) {
        if let Some(i) = self.find(attempt) {
            self.targets.remove(i);
        }
    }

    /// The last connection to a peer is gone after `lived`.
    pub(crate) fn disconnected(&mut self, peer: NetPeerId, lived: Duration, now: Timestamp) {
        if let Some(target) = self.targets.iter_mut().find(|t| t.peer == Some(peer)) {
            target.reach.disconnected(lived, now, self.backoff, &mut self.rng);
        }
    }

    /// Dials a peer at once, as if it had never failed. Whether an address of it is known.
    pub(crate) fn hurry(&mut self, peer: NetPeerId, now: Timestamp) -> bool {
        let Some(target) = self.targets.iter_mut().find(|t| t.peer == Some(peer)) else { return false };
        target.reach.hurry(now);
        true
    }

    /// Dials everything that waits, at once: the network came back.
    pub(crate) fn hurry_all(&mut self, now: Timestamp) {
        self.targets.iter_mut().for_each(|target| target.reach.network_back(now));
    }

    fn find(&self, attempt: &Attempt) -> Option<usize> {
        self.targets.iter().position(|t| {
            if attempt.peer.is_some() { t.peer == attempt.peer } else { t.addresses == attempt.addresses }
        })
    }
}

#[cfg(test)]
mod tests {
    use libp2p::multiaddr::Protocol;
    use rand_core::SeedableRng;

    use super::*;

    const AT: fn(u64) -> Timestamp = |ms| Timestamp::from_micros(ms * 1000);

    fn dialler() -> Dialler {
        Dialler::new(NetPeerId::random(), Backoff::default(), ChaCha12Rng::seed_from_u64(1))
    }

    fn address(port: u16, peer: Option<NetPeerId>) -> Multiaddr {
        let plain: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        peer.map_or(plain.clone(), |peer| plain.with(Protocol::P2p(peer)))
    }

    #[test]
    fn there_is_one_attempt_at_a_time_and_a_wait_after_each() {
        let mut dialler = dialler();
        assert!(dialler.add(address(1, None), AT(0), |_| false));
        let mut now = AT(0);
        for _ in 0..12 {
            let attempt = dialler.due(now, |_| true).unwrap();
            assert_eq!(dialler.due(now, |_| true), None, "one attempt at a time");
            dialler.failed(&attempt, now);
            let next = dialler.next_at().unwrap();
            assert!(next >= now + Backoff::default().min && next <= now + Backoff::default().max);
            now = next;
        }
    }

    #[test]
    fn addresses_of_one_peer_are_dialled_together_and_not_while_connected() {
        let mut dialler = dialler();
        let peer = NetPeerId::random();
        for port in [1, 2, 2] {
            assert!(dialler.add(address(port, Some(peer)), AT(0), |_| false));
        }
        let attempt = dialler.due(AT(0), |_| true).unwrap();
        assert_eq!(attempt.addresses, [address(1, None), address(2, None)]);
        dialler.connected(&attempt, peer);
        assert_eq!(dialler.next_at(), None);
        dialler.disconnected(peer, Duration::from_secs(60), AT(5));
        assert!(dialler.next_at().unwrap() <= AT(755));
        assert!(dialler.hurry(peer, AT(6)));
        assert_eq!(dialler.due(AT(6), |_| false), None, "blocked or connected: at rest");
        assert_eq!(dialler.next_at(), None);
    }

    #[test]
    fn an_address_that_leads_to_a_known_peer_joins_its_target() {
        let mut dialler = dialler();
        let peer = NetPeerId::random();
        dialler.add(address(1, Some(peer)), AT(0), |_| false);
        let known = dialler.due(AT(0), |_| true).unwrap();
        dialler.connected(&known, peer);
        dialler.add(address(2, None), AT(0), |_| false);
        let unknown = dialler.due(AT(0), |_| true).unwrap();
        dialler.connected(&unknown, peer);
        dialler.disconnected(peer, Duration::ZERO, AT(0));
        let both = dialler.due(AT(1000), |_| true).unwrap();
        assert_eq!((both.peer, both.addresses.len()), (Some(peer), 2));
    }

    #[test]
    fn the_own_address_and_addresses_over_the_bound_are_not_kept() {
        let mut dialler = dialler();
        let me = dialler.me;
        assert!(dialler.add(address(1, Some(me)), AT(0), |_| false));
        assert_eq!(dialler.next_at(), None);
        for port in 0..MAX_ADDRESSES as u16 {
            assert!(dialler.add(address(port, None), AT(0), |_| false));
        }
        assert!(!dialler.add(address(60_000, None), AT(0), |_| false));
    }

    #[test]
    fn a_circuit_must_say_who_is_at_its_end() {
        let mut dialler = dialler();
        let circuit: Multiaddr =
            format!("/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit", NetPeerId::random()).parse().unwrap();
        assert!(!dialler.add(circuit.clone(), AT(0), |_| false));
        assert!(dialler.add(circuit.with(Protocol::P2p(NetPeerId::random())), AT(0), |_| false));
    }
}
