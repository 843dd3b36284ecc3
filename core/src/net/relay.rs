//! Circuit relays: the limits of a server, and the reservations of a client.
//!
//! A relay (libp2p's circuit relay v2) joins two peers of which at least one cannot be dialled. It carries Noise
//! ciphertext between them: it learns who talks to whom, when and how much, and nothing else. It need not be a member of
//! any space, and **whoever reaches it may use it, within its limits**: it cannot tell members of spaces that it is no
//! member of, and a limit that binds strangers binds everybody alike.
//!
//! A client keeps a *reservation* at each of its relays and can then be dialled at `…/p2p/RELAY/p2p-circuit`. Renewing is
//! libp2p's; asking again after the relay was away is [`Relays`]', with the waits of [`reach`](super::reach).

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
#[cfg(not(target_arch = "wasm32"))]
use libp2p::relay;
use libp2p::{Multiaddr, PeerId as NetPeerId};
use rand_chacha::ChaCha12Rng;

use super::reach::{Backoff, Retry, STABLE};
use super::route;
use crate::time::Timestamp;

/// Most relays that a peer keeps reservations at. One suffices, a second one survives it, more cost connections.
pub(crate) const MAX_RELAYS: usize = 4;

/// What a relay gives to whom. The defaults are for a small server with a few hundred peers behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers that can be reached through the relay at once. Default [`RelayLimits::RESERVATIONS`].
    pub reservations: u32,
    /// Reservations of one peer, which has one a connection. Default [`RelayLimits::RESERVATIONS_PER_PEER`].
    pub reservations_per_peer: u32,
    /// Circuits at once. Default [`RelayLimits::CIRCUITS`]; each takes two streams and 16 KiB of buffers.
    pub circuits: u32,
    /// Circuits that one peer opens at once. Default [`RelayLimits::CIRCUITS_PER_PEER`].
    pub circuits_per_peer: u32,
    /// Bytes that one circuit carries, both directions together, before it is closed; peers open a new one. Default
    /// [`RelayLimits::BYTES`].
    pub bytes: u64,
    /// How long one circuit lasts. Default [`RelayLimits::DURATION`].
    pub duration: Duration,
    /// Requests, for reservations and for circuits each, that one peer may make in a row; one more every
    /// [`RelayLimits::REFILL_PEER`]. Default [`RelayLimits::REQUESTS_PER_PEER`].
    pub requests_per_peer: NonZeroU32,
    /// The same for one IP address; one more every [`RelayLimits::REFILL_IP`]. Default
    /// [`RelayLimits::REQUESTS_PER_IP`].
    pub requests_per_ip: NonZeroU32,
}

impl RelayLimits {
    /// A peer costs the relay a connection, about 100 KiB.
    pub const RESERVATIONS: u32 = 512;
    /// A connection that is lost is noticed after half a minute; its successor must not wait for that.
    pub const RESERVATIONS_PER_PEER: u32 = 4;
    /// Two for every peer that can be reached.
    pub const CIRCUITS: u32 = 1_024;
    /// A peer links with about a dozen others, and all of them may be behind the relay.
    pub const CIRCUITS_PER_PEER: u32 = 32;
    /// A first copy of a large space goes through one circuit. What a stranger gets of a relay is this times what it may
    /// open in a row.
    pub const BYTES: u64 = 1 << 30;
    /// A working day: a circuit that ends costs its peers a round trip or two.
    pub const DURATION: Duration = Duration::from_secs(12 * 3600);
    /// A peer that comes and goes with its network asks often; twice the circuits that it may hold.
    pub const REQUESTS_PER_PEER: NonZeroU32 = NonZeroU32::new(64).expect("it is not zero");
    /// One more every ten seconds.
    pub const REFILL_PEER: Duration = Duration::from_secs(10);
    /// An office or a whole mobile network is behind one address: as many as there are reservations, so that no such crowd
    /// is turned away after the relay restarts.
    pub const REQUESTS_PER_IP: NonZeroU32 = NonZeroU32::new(1_024).expect("it is not zero");
    /// One more every 100 ms.
    pub const REFILL_IP: Duration = Duration::from_millis(100);
    /// How long a reservation lasts unless it is renewed, which clients do.
    #[cfg(not(target_arch = "wasm32"))]
    const RESERVATION: Duration = Duration::from_secs(3600);
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: Self::RESERVATIONS,
            reservations_per_peer: Self::RESERVATIONS_PER_PEER,
            circuits: Self::CIRCUITS,
            circuits_per_peer: Self::CIRCUITS_PER_PEER,
            bytes: Self::BYTES,
            duration: Self::DURATION,
            requests_per_peer: Self::REQUESTS_PER_PEER,
            requests_per_ip: Self::REQUESTS_PER_IP,
        }
    }
}

/// The server's configuration. libp2p's own defaults (128 KiB and two minutes a circuit, 16 circuits) are none of it.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn server(limits: &RelayLimits) -> relay::Config {
    let config = relay::Config {
        max_reservations: limits.reservations as usize,
        max_reservations_per_peer: limits.reservations_per_peer as usize,
        reservation_duration: RelayLimits::RESERVATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.circuits as usize,
        max_circuits_per_peer: limits.circuits_per_peer as usize,
        // On the wire it is a u32 of seconds.
        max_circuit_duration: limits.duration.min(Duration::from_secs(u32::MAX.into())),
        max_circuit_bytes: limits.bytes,
        circuit_src_rate_limiters: Vec::new(),
    };
    config
        .reservation_rate_per_peer(limits.requests_per_peer, RelayLimits::REFILL_PEER)
        .reservation_rate_per_ip(limits.requests_per_ip, RelayLimits::REFILL_IP)
        .circuit_src_per_peer(limits.requests_per_peer, RelayLimits::REFILL_PEER)
        .circuit_src_per_ip(limits.requests_per_ip, RelayLimits::REFILL_IP)
}

/// The address at which a relay is asked for a reservation; `None`: it does not say who the relay is, or goes through
/// another one.
pub(crate) fn reservation_address(relay: &Multiaddr) -> Option<Multiaddr> {
    let bare: Multiaddr = relay.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    let after = relay.iter().skip_while(|part| *part != Protocol::P2pCircuit).count();
    let named = matches!(bare.iter().last(), Some(Protocol::P2p(_)));
    (named && after <= 1).then(|| bare.with(Protocol::P2pCircuit))
}

/// Whether an address names a relay that can be asked for a reservation.
pub(crate) fn is_relay(address: &super::Address) -> bool {
    reservation_address(&address.0).is_some()
}

#[derive(Debug)]
enum State {
    /// To be asked at this time.
    Waiting(Timestamp),
    /// Asked.
    Asked(ListenerId),
    /// Reserved since.
    Reserved(ListenerId, Timestamp),
}

#[derive(Debug)]
struct Relay {
    /// `…/p2p/RELAY/p2p-circuit`.
    address: Multiaddr,
    peer: NetPeerId,
    retry: Retry,
    state: State,
}

/// The relays at which this peer wants reservations.
#[derive(Debug)]
pub(crate) struct Relays {
    all: Vec<Relay>,
    backoff: Backoff,
    rng: ChaCha12Rng,
}

impl Relays {
    pub(crate) fn new(backoff: Backoff, rng: ChaCha12Rng) -> Self {
        Self { all: Vec::new(), backoff, rng }
    }

    /// Adds a relay, to be asked at once. `false`: at the bound, or no address of a relay.
    pub(crate) fn add(&mut self, address: &Multiaddr, now: Timestamp) -> bool {
        let Some(address) = reservation_address(address) else { return false };
        let Some(peer) = route::relay_of(&address) else { return false };
        if self.all.iter().any(|relay| relay.address == address) {
            return true;
        }
        let room = self.all.len() < MAX_RELAYS;
        if room {
            self.all.push(Relay { address, peer, retry: Retry::default(), state: State::Waiting(now) });
        }
        room
    }

    /// Whether a peer is one of the relays.
    pub(crate) fn has(&self, peer: &NetPeerId) -> bool {
        self.all.iter().any(|relay| relay.peer == *peer)
    }

    /// A relay to ask now: answer with [`Relays::asked`] or [`Relays::refused`].
    pub(crate) fn due(&self, now: Timestamp) -> Option<Multiaddr> {
        let due = |relay: &&Relay| matches!(relay.state, State::Waiting(at) if at <= now);
        self.all.iter().find(due).map(|relay| relay.address.clone())
    }

    /// When [`Relays::due`] has something again.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.all.iter().filter_map(|relay| if let State::Waiting(at) = relay.state { Some(at) } else { None }).min()
    }

    /// The relay is being asked.
    pub(crate) fn asked(&mut self, address: &Multiaddr, listener: ListenerId) {
        if let Some(relay) = self.all.iter_mut().find(|relay| relay.address == *address) {
            relay.state = State::Asked(listener);
        }
    }

    /// The relay cannot be asked.
    pub(crate) fn refused(&mut self, address: &Multiaddr, now: Timestamp) {
        if let Some(relay) = self.all.iter_mut().find(|relay| relay.address == *address) {
            relay.state = State::Waiting(now + relay.retry.next(self.backoff, &mut self.rng));
        }
    }

    /// A reservation stands. `false`: the listener is none of a relay.
    pub(crate) fn reserved(&mut self, listener: ListenerId, now: Timestamp) -> bool {
        let Some(relay) = self.of(listener) else { return false };
        if let State::Asked(_) = relay.state {
            relay.state = State::Reserved(listener, now);
        }
        true
    }

    /// A reservation is gone, or was refused. `false`: the listener is none of a relay.
    pub(crate) fn closed(&mut self, listener: ListenerId, now: Timestamp) -> bool {
        let Some(relay) = self.of(listener) else { return false };
        if matches!(relay.state, State::Reserved(_, since) if now.since(since) >= STABLE) {
            relay.retry = Retry::default();
        }
        let at = relay.address.clone();
        self.refused(&at, now);
        true
    }

    /// Asks every relay that waits, at once: the network came back.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        for relay in &mut self.all {
            relay.retry = Retry::default();
            if matches!(relay.state, State::Waiting(_)) {
                relay.state = State::Waiting(now);
            }
        }
    }

    /// Reservations that stand.
    pub(crate) fn reservations(&self) -> usize {
        self.all.iter().filter(|relay| matches!(relay.state, State::Reserved(..))).count()
    }

    fn of(&mut self, listener: ListenerId) -> Option<&mut Relay> {
        self.all.iter_mut().find(|relay| match relay.state {
            State::Asked(id) | State::Reserved(id, _) => id == listener,
            State::Waiting(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const AT: fn(u64) -> Timestamp = |ms| Timestamp::from_micros(ms * 1000);

    fn relays() -> Relays {
        Relays::new(Backoff::default(), ChaCha12Rng::seed_from_u64(1))
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}/p2p/{}", NetPeerId::random()).parse().unwrap()
    }

    #[test]
    fn a_relay_is_asked_again_after_it_was_away_and_after_it_refused() {
        let mut relays = relays();
        assert!(relays.add(&address(1), AT(0)));
        let (first, second) = (ListenerId::next(), ListenerId::next());
        let at = relays.due(AT(0)).unwrap();
        assert!(route::is_relayed(&at));
        relays.asked(&at, first);
        assert_eq!((relays.due(AT(60_000)), relays.next_at()), (None, None));
        assert!(relays.reserved(first, AT(100)));
        assert_eq!(relays.reservations(), 1);
        assert!(relays.closed(first, AT(60_000)));
        assert!(!relays.closed(first, AT(60_000)), "once");
        let again = relays.next_at().unwrap();
        assert!(again > AT(60_000) && again <= AT(60_750));
        relays.asked(&at, second);
        assert!(relays.closed(second, AT(61_000)), "refused");
        relays.hurry(AT(61_001));
        assert_eq!(relays.due(AT(61_001)), Some(at));
    }

    #[test]
    fn only_named_relays_up_to_the_bound_are_taken() {
        let mut relays = relays();
        assert!(!relays.add(&"/ip4/192.0.2.1/tcp/1".parse().unwrap(), AT(0)), "it does not say who it is");
        let twice = address(1).with(Protocol::P2pCircuit).with(Protocol::P2p(NetPeerId::random()));
        assert!(!relays.add(&twice, AT(0)), "that is a peer behind a relay");
        let first = address(1);
        assert!(relays.add(&first, AT(0)) && relays.add(&first.clone().with(Protocol::P2pCircuit), AT(0)));
        assert!(relays.has(&route::split_peer(first).1.unwrap()));
        for port in 2..=MAX_RELAYS as u16 {
            assert!(relays.add(&address(port), AT(0)));
        }
        assert!(!relays.add(&address(99), AT(0)));
    }

    #[test]
    fn the_server_has_our_limits_and_none_of_the_defaults_of_the_library() {
        let limits = RelayLimits { bytes: 77, circuits: 5, ..RelayLimits::default() };
        let config = server(&limits);
        assert_eq!((config.max_circuit_bytes, config.max_circuits), (77, 5));
        assert_eq!(config.max_reservations, RelayLimits::RESERVATIONS as usize);
        assert_eq!((config.reservation_rate_limiters.len(), config.circuit_src_rate_limiters.len()), (2, 2));
    }
}
