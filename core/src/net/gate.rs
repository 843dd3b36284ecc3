//! Who may connect: limits of an address for strangers, and peers that are shut out for what they did.
//!
//! A behaviour of the swarm's that speaks no protocol. It refuses at two moments: before a handshake where only an address is
//! known, and after it, where a peer is. See [`limits`](super::limits) for what is counted and who is not.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId as NetPeerId};

use super::clock::Clock;
use super::limits::PeerLimits;
use super::score::Scores;
use crate::time::Timestamp;
use crate::topic::Bucket;

/// Peers that are remembered as members; what is forgotten proves itself again.
const MAX_MEMBERS: usize = 4_096;

/// Addresses whose allowance is remembered; at the bound the one that was seen longest ago begins anew.
const MAX_SOURCES: usize = 4_096;

/// What a stranger's violation costs its address, in handshakes.
const VIOLATION_COST: u64 = 8;

/// Where a connection comes from, as far as strangers cannot choose it freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4([u8; 4]),
    /// The network that one customer has.
    V6([u8; 8]),
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("too many handshakes of this address are under way")]
    Pending,
    #[error("too many connections of this address have not proved a membership")]
    Strangers,
    #[error("this address connects too often")]
    TooOften,
    #[error("this peer is shut out for a while for what it did")]
    Shunned,
}

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: PeerLimits,
    clock: Clock,
    pending: BTreeMap<ConnectionId, Source>,
    /// Connections of peers that have not proved a membership.
    strangers: BTreeMap<ConnectionId, (NetPeerId, Source)>,
    allowances: BTreeMap<Source, (Bucket, Timestamp)>,
    members: BTreeSet<NetPeerId>,
    scores: Scores,
}

impl Gate {
    pub(crate) fn new(limits: PeerLimits, clock: Clock) -> Self {
        Self {
            scores: Scores::new(limits.violations, limits.forgiven_in),
            limits,
            clock,
            pending: BTreeMap::new(),
            strangers: BTreeMap::new(),
            allowances: BTreeMap::new(),
            members: BTreeSet::new(),
        }
    }

    /// A peer has proved to be a member of a space that both have, now or in an earlier life.
    pub(crate) fn proved(&mut self, peer: NetPeerId) {
        if self.members.len() >= MAX_MEMBERS && !self.members.contains(&peer) {
            self.members.pop_first();
        }
        self.members.insert(peer);
        self.strangers.retain(|_, (stranger, _)| *stranger != peer);
    }

    /// A peer sent what no honest peer sends. Whether it is shut out by now.
    pub(crate) fn violated(&mut self, peer: NetPeerId) -> bool {
        let now = self.clock.mono();
        let source = self.strangers.values().find(|(stranger, _)| *stranger == peer).map(|(_, source)| *source);
        if let Some(source) = source {
            // A new identity is free, an address is not.
            let _ = self.allowance(source, now).take(now, VIOLATION_COST);
        }
        self.scores.add(peer, now)
    }

    /// A peer is let in whatever it did.
    pub(crate) fn forgive(&mut self, peer: &NetPeerId) {
        self.scores.forgive(peer);
    }

    /// How many peers are shut out.
    pub(crate) fn shunned(&self) -> usize {
        self.scores.shunned(self.clock.mono())
    }

    fn source(&self, address: &Multiaddr) -> Option<Source> {
        let ip = match address.iter().next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
            _ => return None,
        };
        // A circuit's address is the relay's: whoever is behind it is bound by the relay's limits.
        let relayed = address.iter().any(|part| part == Protocol::P2pCircuit);
        if relayed || self.limits.trusted.contains(&ip) {
            return None;
        }
        Some(match ip {
            IpAddr::V4(ip) => Source::V4(ip.octets()),
            IpAddr::V6(ip) => Source::V6(ip.octets()[..8].try_into().expect("eight of 16 bytes")),
        })
    }

    fn allowance(&mut self, source: Source, now: Timestamp) -> &mut Bucket {
        if self.allowances.len() >= MAX_SOURCES
            && !self.allowances.contains_key(&source)
            && let Some(oldest) = self.allowances.iter().min_by_key(|(_, (_, seen))| *seen).map(|(source, _)| *source)
        {
            self.allowances.remove(&oldest);
        }
        let rate = self.limits.handshakes_per_address;
        let (bucket, seen) = self.allowances.entry(source).or_insert_with(|| (Bucket::new(rate, now), now));
        *seen = now;
        bucket
    }

    /// A handshake begins.
    fn begin(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), Refused> {
        let Some(source) = self.source(remote) else { return Ok(()) };
        let under_way = self.pending.values().filter(|other| **other == source).count();
        if under_way >= self.limits.pending_per_address as usize {
            return Err(Refused::Pending);
        }
        self.pending.insert(id, source);
        Ok(())
    }

    /// A handshake has shown who it is.
    fn admit(&mut self, id: ConnectionId, peer: NetPeerId, remote: &Multiaddr) -> Result<(), Refused> {
        let now = self.clock.mono();
        self.pending.remove(&id);
        if self.scores.is_shunned(&peer, now) {
            return Err(Refused::Shunned);
        }
        let Some(source) = self.source(remote).filter(|_| !self.members.contains(&peer)) else { return Ok(()) };
        let standing = self.strangers.values().filter(|(_, other)| *other == source).count();
        if standing >= self.limits.connections_per_address as usize {
            return Err(Refused::Strangers);
        }
        self.allowance(source, now).take(now, 1).map_err(|_| Refused::TooOften)?;
        self.strangers.insert(id, (peer, source));
        Ok(())
    }

    fn forget(&mut self, id: ConnectionId) {
        self.pending.remove(&id);
        self.strangers.remove(&id);
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.begin(id, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: NetPeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, peer, remote).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NetPeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.scores.is_shunned(&peer, self.clock.mono()) {
            return Err(ConnectionDenied::new(Refused::Shunned));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.forget(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: NetPeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Rate;

    const ID: fn(usize) -> ConnectionId = ConnectionId::new_unchecked;

    fn gate() -> Gate {
        let limits = PeerLimits {
            connections_per_address: 3,
            pending_per_address: 2,
            handshakes_per_address: Rate { per_second: 1, burst: 20 },
            violations: 2,
            ..PeerLimits::default()
        };
        Gate::new(limits, Clock::new())
    }

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_of_one_address_are_bounded_and_those_of_another_are_not_their_fault() {
        let mut gate = gate();
        let (here, there) = (at("/ip4/192.0.2.1/tcp/1"), at("/ip4/192.0.2.2/tcp/1"));
        for n in 0..3 {
            assert_eq!(gate.admit(ID(n), NetPeerId::random(), &here), Ok(()));
        }
        assert_eq!(gate.admit(ID(3), NetPeerId::random(), &here), Err(Refused::Strangers));
        assert_eq!(gate.admit(ID(4), NetPeerId::random(), &there), Ok(()));
        gate.forget(ID(0));
        assert_eq!(gate.admit(ID(5), NetPeerId::random(), &here), Ok(()));
    }

    /// An office behind one router: its members come and go, whatever a stranger beside them does.
    #[test]
    fn members_pass_whatever_strangers_behind_the_same_address_do() {
        let mut gate = gate();
        let here = at("/ip6/2001:db8::1/udp/4801/quic-v1");
        let neighbour = at("/ip6/2001:db8::2:3/tcp/1");
        let members: Vec<NetPeerId> = (0..50).map(|_| NetPeerId::random()).collect();
        members.iter().for_each(|member| gate.proved(*member));
        let mut refused = 0;
        for n in 0..100 {
            let stranger = NetPeerId::random();
            refused += usize::from(gate.admit(ID(n), stranger, &neighbour).is_err());
            gate.violated(stranger);
            gate.forget(ID(n));
        }
        assert!(refused > 50, "an address of liars is slowed: {refused}");
        for (n, member) in (1_000..).zip(&members) {
            assert_eq!(gate.admit(ID(n), *member, &here), Ok(()));
        }
    }

    #[test]
    fn a_stranger_that_proves_itself_gives_its_place_back() {
        let mut gate = gate();
        let here = at("/ip4/192.0.2.1/tcp/1");
        for n in 0..10 {
            let newcomer = NetPeerId::random();
            assert_eq!(gate.admit(ID(n), newcomer, &here), Ok(()), "{n}");
            gate.proved(newcomer);
        }
    }

    #[test]
    fn handshakes_under_way_are_bounded_by_address_and_a_trusted_proxy_has_none() {
        let mut gate = gate();
        let here = at("/ip4/192.0.2.1/tcp/1");
        assert_eq!([gate.begin(ID(1), &here), gate.begin(ID(2), &here)], [Ok(()), Ok(())]);
        assert_eq!(gate.begin(ID(3), &here), Err(Refused::Pending));
        gate.forget(ID(1));
        assert_eq!(gate.begin(ID(4), &here), Ok(()));
        let proxied =
            [at("/ip4/127.0.0.1/tcp/1/ws"), at("/ip6/::ffff:127.0.0.1/tcp/1"), at("/ip4/192.0.2.1/tcp/1/p2p-circuit")];
        for (n, from) in (10..200).zip(proxied.iter().cycle()) {
            assert_eq!(gate.begin(ID(n), from), Ok(()));
            assert_eq!(gate.admit(ID(n + 200), NetPeerId::random(), from), Ok(()));
        }
    }

    #[test]
    fn a_peer_that_goes_on_is_shut_out_wherever_it_comes_from() {
        let mut gate = gate();
        let (liar, member) = (NetPeerId::random(), NetPeerId::random());
        gate.proved(liar);
        gate.proved(member);
        (0..3).for_each(|_| assert!(gate.violated(liar) || gate.shunned() == 0));
        for (n, from) in
            ["/ip4/192.0.2.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"].into_iter().enumerate()
        {
            assert_eq!(gate.admit(ID(n), liar, &at(from)), Err(Refused::Shunned));
            assert_eq!(gate.admit(ID(n + 9), member, &at(from)), Ok(()));
        }
        assert_eq!(gate.shunned(), 1);
        gate.forgive(&liar);
        assert_eq!(gate.admit(ID(99), liar, &at("/ip4/192.0.2.1/tcp/1")), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut gate = gate();
        for n in 0..2 * MAX_SOURCES as u32 {
            let from = Multiaddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n));
            assert_eq!(gate.admit(ID(n as usize), NetPeerId::random(), &from), Ok(()));
            gate.forget(ID(n as usize));
            gate.proved(NetPeerId::random());
        }
        assert!(gate.allowances.len() <= MAX_SOURCES && gate.members.len() <= MAX_MEMBERS);
        assert!(gate.strangers.is_empty());
    }
}
