//! The swarm's side of the driver: listeners, connections, links and dials.

mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
#[cfg(not(target_arch = "wasm32"))]
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, NetworkBehaviour, Stream, Swarm};
use libp2p::{Multiaddr, PeerId as NetPeerId, connection_limits, ping, relay};
#[cfg(not(target_arch = "wasm32"))]
use libp2p::{mdns, memory_connection_limits};

use super::contacts::{Contacts, shown_address};
use super::{Driver, Machine, Notice, Opened, StartError, draw};
use crate::engine::{Command, SpaceInfo};
use crate::id::{DeviceId, Incarnation, PeerId};
use crate::io::{CloseReason, Input, LinkId, MAX_FRAME};
use crate::net::book::Book;
use crate::net::clock::Clock;
use crate::net::connections::{Connections, Verdict};
use crate::net::dial::{Attempt, Dialler};
use crate::net::gate::Gate;
use crate::net::link::{Ended, Link};
use crate::net::quiet::Quiet;
use crate::net::relay::{self as relays, Relays};
use crate::net::route::{self, Scope};
use crate::net::sync::{self, OpenStreamError, SyncEvent};
use crate::net::{Address, NetConfig, NetLink, NetStatus, identity, transport};
use crate::time::Timestamp;

pub(super) type SwarmEvent = libp2p::swarm::SwarmEvent<BehaviourEvent>;

/// Connections a peer may have with us at once: the kept one, one that crossed it, and one that replaces it.
const MAX_PER_PEER: u32 = 3;

/// A connection without a sync stream is closed after this long.
const IDLE: Duration = Duration::from_secs(20);

/// A sign of life may take this long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) gate: Gate,
    #[cfg(not(target_arch = "wasm32"))]
    memory: memory_connection_limits::Behaviour,
    pub(super) sync: sync::Behaviour,
    #[cfg(feature = "coord")]
    pub(super) coord: sync::Behaviour,
    ping: ping::Behaviour,
    identify: Quiet,
    relay_client: relay::client::Behaviour,
    // A page neither listens nor has UDP.
    #[cfg(not(target_arch = "wasm32"))]
    relay_server: Toggle<relay::Behaviour>,
    #[cfg(not(target_arch = "wasm32"))]
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Everything that exists once the store has told who this peer is.
pub(super) struct Net {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) me: NetPeerId,
    pub(super) connections: Connections,
    pub(super) links: BTreeMap<LinkId, OpenLink>,
    /// Links that the engine closed and whose last frames are on their way out.
    pub(super) draining: BTreeMap<LinkId, ConnectionId>,
    next_link: u64,
    pub(super) dialler: Dialler,
    pub(super) dials: BTreeMap<ConnectionId, Dial>,
    /// Peers of the book that the engine wants a link with, until an attempt has an end.
    pub(super) wishes: BTreeSet<NetPeerId>,
    pub(super) book: Book,
    pub(super) relays: Relays,
    pub(super) contacts: Contacts,
    /// When something is to be dialled, told or dropped.
    pub(super) dial_at: Option<Timestamp>,
    /// Listeners that have not said where they listen yet.
    awaited: Vec<(ListenerId, Multiaddr)>,
    /// Without this peer at their ends.
    pub(super) listen: BTreeSet<Multiaddr>,
    refused: u64,
    violations: u64,
}

/// Why something is being dialled.
pub(super) enum Dial {
    /// It is configured.
    Target(Attempt),
    /// The book names it.
    Known(NetPeerId),
}

pub(super) struct OpenLink {
    link: Link,
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) address: Multiaddr,
    pub(super) dialled: bool,
}

impl Net {
    pub(super) async fn next_event(&mut self) -> SwarmEvent {
        self.swarm.select_next_some().await
    }

    fn addresses(&self, advertised: &[Address]) -> Vec<Address> {
        let advertised = advertised.iter().map(|Address(address)| address);
        let named = advertised.chain(&self.listen).map(|address| route::with_peer(address.clone(), self.me));
        let mut seen = BTreeSet::new();
        named.filter(|address| seen.insert(address.clone())).map(Address).collect()
    }

    fn hurry(&mut self, now: Timestamp) {
        self.dialler.hurry_all(now);
        self.book.hurry_all(now);
        self.relays.hurry(now);
    }

    /// A peer sent what no honest peer sends.
    pub(super) fn violated(&mut self, peer: &PeerId) {
        self.violations += 1;
        if let Some(other) = identity::to_net(peer)
            && self.swarm.behaviour_mut().gate.violated(other)
        {
            tracing::info!(%peer, "shut out for a while: it keeps sending what is not the protocol");
        }
    }

    fn close_connection(&mut self, id: ConnectionId) {
        self.connections.mark_closing(Some(id));
        // `false`: closed already.
        let _ = self.swarm.close_connection(id);
    }
}

fn behaviour(
    config: &NetConfig,
    clock: Clock,
    keypair: &libp2p::identity::Keypair,
    relay_client: relay::client::Behaviour,
) -> std::io::Result<Behaviour> {
    let me = keypair.public().to_peer_id();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(config.max_pending))
        .with_max_pending_outgoing(Some(config.max_pending))
        .with_max_established(Some(config.max_connections))
        // A quarter stays for whom we dial ourselves, so that strangers cannot take every place.
        .with_max_established_incoming(Some(config.max_connections - config.max_connections / 4))
        .with_max_established_per_peer(Some(MAX_PER_PEER));
    #[cfg(not(target_arch = "wasm32"))]
    let relay_server = config.relay.as_ref().map(|limits| relay::Behaviour::new(me, relays::server(limits)));
    #[cfg(not(target_arch = "wasm32"))]
    let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me)).transpose()?;
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        gate: Gate::new(config.limits.clone(), clock),
        #[cfg(not(target_arch = "wasm32"))]
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.max_memory),
        sync: sync::Behaviour::new(me, sync::PROTOCOL, config.open_timeout),
        #[cfg(feature = "coord")]
        coord: sync::Behaviour::new(me, sync::COORD_PROTOCOL, config.open_timeout).anew(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(config.ping_interval).with_timeout(PING_TIMEOUT)),
        identify: Quiet::new(keypair.public()),
        relay_client,
        #[cfg(not(target_arch = "wasm32"))]
        relay_server: relay_server.into(),
        #[cfg(not(target_arch = "wasm32"))]
        mdns: mdns.into(),
    })
}

impl<M: Machine> Driver<M> {
    pub(super) fn start_network(
        &mut self,
        device: DeviceId,
        peer_seed: [u8; 32],
        incarnation: Incarnation,
        spaces: &[SpaceInfo],
    ) -> Result<(), StartError> {
        let Some(transport) = self.transport.take() else { return Ok(()) };
        let keypair = identity::keypair(peer_seed);
        let me = keypair.public().to_peer_id();
        let (circuits, relay_client) = relay::client::new(me);
        let transport = transport(&keypair).and_then(|direct| transport::with_circuits(&keypair, direct, circuits));
        let transport = transport.map_err(StartError::Transport)?;
        let behaviour = behaviour(&self.config, self.clock, &keypair, relay_client).map_err(StartError::Transport)?;
        let config = libp2p::swarm::Config::with_executor(self.runtime.clone()).with_idle_connection_timeout(IDLE);
        let mut swarm = Swarm::new(transport, behaviour, me, config);
        let mut awaited = Vec::new();
        for Address(address) in &self.config.listen {
            let refused = |why: String| StartError::Listen { address: Address(address.clone()), why };
            transport::check_free(address).map_err(|error| refused(error.to_string()))?;
            let listener = swarm.listen_on(address.clone()).map_err(|error| refused(error.to_string()))?;
            awaited.push((listener, address.clone()));
        }
        self.net = Some(Net {
            swarm,
            me,
            connections: Connections::new(me),
            links: BTreeMap::new(),
            draining: BTreeMap::new(),
            next_link: 0,
            dialler: Dialler::new(me, self.config.backoff, draw(&mut self.rng)),
            dials: BTreeMap::new(),
            wishes: BTreeSet::new(),
            book: Book::new(me, self.config.backoff, draw(&mut self.rng)),
            relays: Relays::new(self.config.backoff, draw(&mut self.rng)),
            contacts: Contacts::default(),
            dial_at: None,
            awaited,
            listen: BTreeSet::new(),
            refused: 0,
            violations: 0,
        });
        let peer = identity::from_net(&me).expect("the identity was made as Ed25519");
        self.restore_book();
        self.start_relays();
        for Address(address) in self.config.bootstrap.clone() {
            self.dial(address);
        }
        spaces.iter().for_each(|space| self.dial_all(&space.addresses));
        self.opened = Some(Opened { device, peer, incarnation, listen: Vec::new() });
        #[cfg(feature = "coord")]
        self.start_coord();
        self.dial_due();
        self.report_start();
        Ok(())
    }

    /// Notes the relays to ask, and what a relay of one's own says of itself.
    fn start_relays(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        for Address(address) in &self.config.relays {
            if !net.relays.add(address, now) {
                tracing::warn!(%address, most = relays::MAX_RELAYS, "not asked for a reservation: too many relays");
            }
        }
        if self.config.relay.is_some() {
            for Address(address) in &self.config.advertise {
                net.swarm.add_external_address(route::split_peer(address.clone()).0);
            }
        }
    }

    /// Says that the peer has started once every listener has its address.
    fn report_start(&mut self) {
        let (Some(net), Some(opened)) = (&self.net, &self.opened) else { return };
        if net.awaited.is_empty()
            && let Some(started) = self.started.take()
        {
            let listen = net.addresses(&self.config.advertise);
            let _ = started.send(Ok(Opened { listen, ..opened.clone() }));
        }
    }

    pub(super) fn on_swarm(&mut self, event: SwarmEvent) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                let why = cause.map_or_else(|| "closed".into(), |cause| cause.to_string());
                self.on_closed(connection_id, &why);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                if let (Some(net), ListenError::Denied { .. }) = (&mut self.net, &error) {
                    net.refused += 1;
                }
                tracing::debug!(%error, "an inbound connection failed");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.on_listening(listener_id, address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_unlistening(&[address]),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                let why = reason.map_or_else(|error| error.to_string(), |()| "closed".into());
                self.on_listener_failed(listener_id, &why);
                self.on_unlistening(&addresses);
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                self.on_listener_failed(listener_id, &error.to_string());
            }
            _ => {}
        }
        self.dial_due();
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Sync(SyncEvent::Opened { connection, initiator, stream, .. }) => {
                self.on_stream(connection, initiator, stream);
            }
            #[cfg(feature = "coord")]
            BehaviourEvent::Coord(event) => self.on_coord_stream(event),
            BehaviourEvent::Sync(SyncEvent::Failed { peer, connection, error }) => {
                tracing::debug!(%peer, %error, "no sync stream");
                // A relay need not be a peer of ours.
                let relay = matches!(error, OpenStreamError::Unsupported);
                self.net_mut(|net| {
                    if !(relay && net.relays.has(&peer)) {
                        net.close_connection(connection);
                    }
                });
            }
            #[cfg(not(target_arch = "wasm32"))]
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
            #[cfg(not(target_arch = "wasm32"))]
            BehaviourEvent::RelayServer(event) => tracing::debug!(?event, "relay"),
            BehaviourEvent::RelayClient(event) => tracing::debug!(?event, "circuit"),
            BehaviourEvent::Ping(ping::Event { connection, result: Ok(rtt), .. }) => {
                self.net_mut(|net| net.connections.answered(connection, rtt));
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) })
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                tracing::debug!(%peer, %error, "no sign of life");
                self.net_mut(|net| net.close_connection(connection));
            }
            _ => {}
        }
    }

    fn net_mut(&mut self, act: impl FnOnce(&mut Net)) {
        if let Some(net) = &mut self.net {
            act(net);
        }
    }

    fn on_established(&mut self, peer: NetPeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        let dialled = endpoint.is_dialer();
        if let Some(Dial::Target(attempt)) = net.dials.remove(&id) {
            net.dialler.connected(&attempt, peer);
        }
        net.book.connected(&peer);
        net.wishes.remove(&peer);
        let address = shown_address(endpoint, peer);
        match net.connections.established(id, peer, address, dialled, now) {
            Verdict::Close => net.close_connection(id),
            Verdict::Keep(other) => {
                // The one who dialled opens the stream; in a browser that is always the browser.
                if dialled {
                    net.swarm.behaviour_mut().sync.open(peer, id);
                }
                if let Some(other) = other {
                    self.drop_connection(other, "crossed another connection to the same peer");
                }
            }
        }
    }

    fn on_stream(&mut self, id: ConnectionId, initiator: bool, stream: Stream) {
        if self.closing.is_some() {
            return;
        }
        let Some(net) = &mut self.net else { return };
        let link = LinkId(net.next_link);
        let Ok(replaced) = net.connections.opened(id, link) else { return };
        let Some(connection) = net.connections.get(id) else { return };
        let Some(peer) = identity::from_net(&connection.peer) else { return };
        net.next_link += 1;
        let address = connection.address.clone();
        let open = OpenLink {
            link: Link::spawn(&self.runtime, link, stream, self.pace.reader(MAX_FRAME), self.to_driver.clone()),
            peer,
            connection: id,
            address: address.clone(),
            dialled: connection.dialled,
        };
        let by_book = connection.dialled && !net.dialler.has(&connection.peer) && !net.relays.has(&connection.peer);
        net.contacts.linked(link, by_book, self.clock.mono());
        net.links.insert(link, open);
        if let Some(replaced) = replaced {
            self.drop_connection(replaced, "replaced by a newer connection");
        }
        (self.notices)(Notice::Linked { link, peer, address: Address(address) });
        self.feed(Input::Linked { link, peer, initiator });
    }

    /// Closes a connection, and its link at once.
    pub(super) fn drop_connection(&mut self, id: ConnectionId, why: &str) {
        let Some(net) = &mut self.net else { return };
        net.close_connection(id);
        if let Some(link) = net.connections.get(id).and_then(|c| c.link) {
            self.unlink(link, why);
        }
    }

    /// Forgets a link that the engine has not closed itself, and tells the engine.
    fn unlink(&mut self, link: LinkId, why: &str) {
        let Some(net) = &mut self.net else { return };
        net.connections.unlink(link);
        net.contacts.unlinked(link);
        let Some(open) = net.links.remove(&link) else { return };
        (self.notices)(Notice::Unlinked { link, peer: open.peer, why: why.into() });
        self.feed(Input::Unlinked { link });
    }

    fn on_closed(&mut self, id: ConnectionId, why: &str) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        let Some(connection) = net.connections.closed(id) else { return };
        net.draining.retain(|_, on| *on != id);
        if !net.connections.has(&connection.peer) {
            let lived = now.since(connection.since);
            net.dialler.disconnected(connection.peer, lived, now);
            net.book.disconnected(&connection.peer, lived, now);
        }
        if let Some(link) = connection.link {
            self.unlink(link, why);
        }
        // After its link, so that nothing that the engine says in answer looks for a way over this connection.
        #[cfg(feature = "coord")]
        self.coord_closed(id);
    }

    pub(super) fn on_link_ended(&mut self, link: LinkId, why: &Ended) {
        let Some(net) = &mut self.net else { return };
        if let Some(connection) = net.draining.remove(&link) {
            return net.close_connection(connection);
        }
        let Some(open) = net.links.get(&link) else { return };
        let (connection, peer) = (open.connection, open.peer);
        if matches!(why, Ended::Frame(_)) {
            net.violated(&peer);
        }
        self.drop_connection(connection, &why.to_string());
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        // A frame for a link that has just gone is lost with it; reconciliation makes up for it.
        let Some(open) = self.net.as_ref().and_then(|net| net.links.get(&link)) else { return };
        if !open.link.send(bytes) {
            let connection = open.connection;
            tracing::warn!(peer = %open.peer, queued = open.link.queued(), "a link's queue is at its bound: closing it");
            self.drop_connection(connection, "its queue is at its bound");
        }
    }

    /// The engine closes a link: what it has sent leaves first.
    pub(super) fn close_link(&mut self, link: LinkId, reason: &CloseReason) {
        let Some(net) = &mut self.net else { return };
        let Some(open) = net.links.remove(&link) else { return };
        net.connections.unlink(link);
        net.contacts.unlinked(link);
        net.connections.mark_closing(Some(open.connection));
        net.draining.insert(link, open.connection);
        if matches!(reason, CloseReason::Protocol { .. }) {
            net.violated(&open.peer);
        }
        tracing::debug!(peer = %open.peer, ?reason, "the engine closes a link");
        (self.notices)(Notice::Unlinked { link, peer: open.peer, why: format!("{reason:?}") });
    }

    fn on_listening(&mut self, listener: ListenerId, address: Multiaddr) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        net.awaited.retain(|(id, _)| *id != listener);
        let circuit = net.relays.reserved(listener, now);
        let (address, _) = route::split_peer(address);
        if self.config.relay.is_some() && !circuit {
            // A relay names its own addresses in every reservation, and grants none while it has no address.
            net.swarm.add_external_address(address.clone());
        }
        let back = self.started.is_none() && !circuit && route::scope(&address) == Some(Scope::Routed);
        net.listen.insert(address);
        if back {
            net.hurry(now);
        }
        self.tell_listening();
        self.report_start();
    }

    fn on_unlistening(&mut self, gone: &[Multiaddr]) {
        let Some(net) = &mut self.net else { return };
        for address in gone {
            let (address, _) = route::split_peer(address.clone());
            net.listen.remove(&address);
            net.swarm.remove_external_address(&address);
        }
        self.tell_listening();
    }

    fn tell_listening(&mut self) {
        let Some(net) = &self.net else { return };
        (self.notices)(Notice::Listening(net.addresses(&self.config.advertise)));
        self.on_own_addresses();
    }

    fn on_listener_failed(&mut self, listener: ListenerId, why: &str) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        if net.relays.closed(listener, now) {
            return tracing::debug!(%why, "a reservation at a relay is gone");
        }
        let never = net.awaited.iter().position(|(id, _)| *id == listener).map(|i| net.awaited.remove(i));
        match never {
            // It never listened: the peer does not start half deaf.
            Some((_, address)) if self.started.is_some() && self.failure.is_none() => {
                self.fail(StartError::Listen { address: Address(address), why: why.into() });
            }
            _ => tracing::warn!(%why, "a listener failed"),
        }
    }

    fn on_dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        let attempt = match net.dials.remove(&id) {
            Some(Dial::Target(attempt)) => attempt,
            Some(Dial::Known(peer)) => {
                tracing::debug!(%peer, %error, "a dial failed");
                return self.on_known_failed(&peer);
            }
            None => return,
        };
        tracing::debug!(addresses = ?attempt.addresses, %error, "a dial failed");
        match error {
            // The address is this peer's own.
            DialError::LocalPeerId { .. } => net.dialler.forget(&attempt),
            _ => net.dialler.failed(&attempt, now),
        }
    }

    /// Adds an address and dials it. `false`: too many addresses.
    pub(super) fn dial(&mut self, address: Multiaddr) -> bool {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return false };
        let connections = &net.connections;
        let added = net.dialler.add(address, now, |peer| connections.has(peer));
        self.dial_due();
        added
    }

    /// Asks a relay for a reservation, and keeps it.
    pub(super) fn relay(&mut self, address: &Multiaddr) -> bool {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return false };
        let added = net.relays.add(address, now);
        self.dial_due();
        self.contacts_due();
        added
    }

    /// Dials what is due, and notes when something is due again.
    pub(super) fn dial_due(&mut self) {
        let now = self.clock.mono();
        let closing = self.closing.is_some();
        let Some(net) = &mut self.net else { return };
        net.dial_at = None;
        if closing {
            return;
        }
        loop {
            let (connections, sync) = (&net.connections, &net.swarm.behaviour().sync);
            let Some(attempt) = net.dialler.due(now, |peer| !connections.has(peer) && !sync.is_blocked(peer)) else {
                break;
            };
            let options = match attempt.peer {
                Some(peer) => DialOpts::peer_id(peer)
                    .addresses(attempt.addresses.clone())
                    .condition(PeerCondition::Always)
                    .build(),
                None => match attempt.addresses.first() {
                    Some(address) => DialOpts::unknown_peer_id().address(address.clone()).build(),
                    None => continue,
                },
            };
            let id = options.connection_id();
            match net.swarm.dial(options) {
                Ok(()) => drop(net.dials.insert(id, Dial::Target(attempt))),
                Err(DialError::LocalPeerId { .. }) => net.dialler.forget(&attempt),
                Err(error) => {
                    tracing::debug!(addresses = ?attempt.addresses, %error, "a dial failed");
                    net.dialler.failed(&attempt, now);
                }
            }
        }
        self.contacts_due();
        let max_dialled = self.book_dials();
        self.net_mut(|net| {
            net.dial_at = [net.dialler.next_at(), net.contacts_at(max_dialled)].into_iter().flatten().min();
        });
    }

    pub(super) fn block(&mut self, peer: PeerId, blocked: bool) {
        let now = self.clock.mono();
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return };
        net.swarm.behaviour_mut().sync.set_blocked(other, blocked);
        if blocked {
            for id in net.connections.of(other) {
                self.drop_connection(id, "blocked here");
            }
        } else {
            net.swarm.behaviour_mut().gate.forgive(&other);
            net.dialler.hurry(other, now);
            net.book.hurry(&other, now);
            self.reachable(peer, None, Some(peer));
            self.dial_due();
        }
    }

    /// The network may be back. `probe`: it changed, and links may be dead without a sign of it.
    pub(super) fn hurry(&mut self, probe: bool) {
        let now = self.clock.mono();
        self.net_mut(|net| net.hurry(now));
        if probe {
            self.probe();
        }
        self.all_reachable();
        self.dial_due();
        self.feed(Input::Command { request: super::NOBODY, command: Command::Reconcile });
    }

    pub(super) fn status(&self) -> NetStatus {
        let Some(net) = &self.net else { return NetStatus::default() };
        let links = net.links.iter().map(|(link, open)| NetLink {
            link: *link,
            peer: open.peer,
            address: Address(open.address.clone()),
            dialled: open.dialled,
            relayed: route::is_relayed(&open.address),
            queued: open.link.queued(),
            rtt: net.connections.get(open.connection).and_then(|connection| connection.rtt),
        });
        NetStatus {
            listen: net.addresses(&self.config.advertise),
            known: net.book.entries().len(),
            reservations: net.relays.reservations(),
            serves_relay: self.config.relay.is_some(),
            connections: net.connections.len(),
            links: links.collect(),
            refused: net.refused,
            violations: net.violations,
            shunned: net.swarm.behaviour().gate.shunned(),
            throttled: self.pace.throttled(),
        }
    }
}
