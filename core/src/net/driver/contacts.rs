//! Whom this peer knows, on the driver's side: members told of and heard of, peers of the book dialled as long as there is
//! room, reservations at relays, links that may be dead, and the book kept in the store.
//!
//! What a program needs to choose neighbours itself is here too: [`Driver::known`], [`Driver::dial_peer`],
//! [`Driver::drop_peer`], with [`NetConfig::max_dialled`](crate::net::NetConfig::max_dialled) at 0. What the engine chooses
//! is fulfilled in `wishes`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
use libp2p::mdns;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId as NetPeerId};

use super::swarm::{Dial, Net};
use super::{Driver, Machine, NOBODY};
use crate::engine::Command;
use crate::id::{DeviceId, PeerId, SpaceId};
use crate::io::{Input, LinkId};
use crate::net::route::{self, Scope};
use crate::net::{Address, KnownPeer, identity};
use crate::time::Timestamp;
use crate::wire::v1::exchange::{MAX_TOLD_ADDRESSES, MAX_TOLD_PEERS, PeerAddresses};

/// How long a peer of the book that was dialled may take to prove that it shares a space.
const STRANGER: Duration = Duration::from_secs(10);

/// Members are told news of others at most this often.
const NEWS_PAUSE: Duration = Duration::from_secs(1);

/// The book is kept this long after it changed, so that who crashes a moment after it joined finds the others again.
const KEEP_SOON: Duration = Duration::from_millis(500);

/// And not again before this: joins come in crowds.
const KEEP_PAUSE: Duration = Duration::from_secs(5);

/// Peers that stay linked count as met anew this often.
const TOUCH: Duration = Duration::from_secs(3600);

/// How long a peer may stay silent that was asked for its roots because the network changed. Twice what a satellite link
/// takes, and far less than it takes the ping to notice.
const PROBE: Duration = Duration::from_secs(4);

/// What the driver knows of its links' peers, and what it is about to do about it.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    /// Links whose peer proved its membership, with its device for each space.
    members: BTreeMap<LinkId, BTreeMap<SpaceId, DeviceId>>,
    /// Links of peers of the book that have not, and until when they may.
    strangers: BTreeMap<LinkId, Timestamp>,
    /// Members that said something new of themselves, at most [`MAX_TOLD_PEERS`] a turn.
    news: BTreeSet<NetPeerId>,
    /// This peer listens elsewhere than it said.
    news_of_me: bool,
    last_news: Option<Timestamp>,
    keep_at: Option<Timestamp>,
    /// When it was kept last.
    kept_at: Option<Timestamp>,
    touch_at: Option<Timestamp>,
    /// Links that must say something until then.
    probed: BTreeSet<LinkId>,
    probe_until: Option<Timestamp>,
}

impl Contacts {
    /// A link is open. `book`: this side dialled it because of the book alone.
    pub(super) fn linked(&mut self, link: LinkId, book: bool, now: Timestamp) {
        if book {
            self.strangers.insert(link, now + STRANGER);
        }
    }

    /// A link is gone.
    pub(super) fn unlinked(&mut self, link: LinkId) {
        self.members.remove(&link);
        self.strangers.remove(&link);
        self.probed.remove(&link);
    }

    /// A link's peer lives.
    pub(super) fn heard(&mut self, link: LinkId) {
        self.probed.remove(&link);
    }

    fn news_at(&self) -> Option<Timestamp> {
        let any = self.news_of_me || !self.news.is_empty();
        any.then(|| self.last_news.map_or(Timestamp::ZERO, |last| last + NEWS_PAUSE))
    }

    fn next_at(&self) -> Option<Timestamp> {
        let probe = self.probe_until.filter(|_| !self.probed.is_empty());
        let stranger = self.strangers.values().min().copied();
        [self.news_at(), self.keep_at, self.touch_at, probe, stranger].into_iter().flatten().min()
    }
}

impl Net {
    /// How far a link reaches: what is told over it must mean the same at its other end.
    pub(super) fn link_scope(&self, link: LinkId) -> Scope {
        let Some(open) = self.links.get(&link) else { return Scope::Routed };
        let relayed = route::is_relayed(&open.address);
        if relayed { Scope::Routed } else { route::scope(&open.address).unwrap_or(Scope::Routed) }
    }

    /// What this peer says of itself over a link.
    fn own_addresses(&self, advertised: &[Address], link: Scope) -> Vec<String> {
        let advertised = advertised.iter().map(|address| route::split_peer(address.0.clone()).0);
        let ranked = route::ranked(advertised.chain(self.listen.iter().cloned()));
        ranked.iter().filter_map(|address| route::tell(address, link)).take(MAX_TOLD_ADDRESSES).collect()
    }

    /// Whether another peer of the book is to be dialled: fewer than `max` members are linked, counting those who may turn out
    /// to be some, or fewer than half as many by this side's own choice. Whoever dials here in crowds does not keep this
    /// peer from choosing.
    fn has_room(&self, max: usize) -> bool {
        let chosen = |link: &&LinkId| self.links.get(link).is_some_and(|open| open.dialled);
        let asked = self.contacts.strangers.len() + self.book.dialling();
        let own = self.contacts.members.keys().filter(chosen).count() + asked;
        self.contacts.members.len() + asked < max || own < max / 2
    }

    /// When anything in here is due again.
    pub(super) fn contacts_at(&self, max_dialled: usize) -> Option<Timestamp> {
        let (connections, sync, dialler) = (&self.connections, &self.swarm.behaviour().sync, &self.dialler);
        let may = |peer: &NetPeerId| !connections.has(peer) && !sync.is_blocked(peer) && !dialler.has(peer);
        let book = if self.has_room(max_dialled) { self.book.next_at(may) } else { None };
        [book, self.relays.next_at(), self.contacts.next_at()].into_iter().flatten().min()
    }
}

impl<M: Machine> Driver<M> {
    /// A peer proved to be a member of a space.
    pub(super) fn on_joined(&mut self, link: LinkId, peer: PeerId, device: DeviceId, space: SpaceId) {
        let now = self.clock.now();
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return };
        let Some(open) = net.links.get(&link) else { return };
        let at = open.dialled.then(|| route::split_peer(open.address.clone()).0);
        net.book.meet(other, space, at, now.wall);
        net.swarm.behaviour_mut().gate.proved(other);
        net.contacts.strangers.remove(&link);
        net.contacts.members.entry(link).or_default().insert(space, device);
        net.contacts.touch_at.get_or_insert(now.mono + TOUCH);
        if self.config.peer_exchange {
            let scope = net.link_scope(link);
            let me = (net.me, net.own_addresses(&self.config.advertise, scope));
            let mut told = net.book.sample(&other, &space, scope, now.wall);
            told.insert(0, me);
            self.tell_peers(link, space, told);
        }
        self.keep_soon();
    }

    /// A member says where members are.
    pub(super) fn on_peers_told(
        &mut self,
        link: LinkId,
        (peer, device): (PeerId, DeviceId),
        space: SpaceId,
        peers: Vec<PeerAddresses>,
    ) {
        let now = self.clock.mono();
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return };
        if !self.config.peer_exchange || !net.contacts.members.contains_key(&link) {
            return;
        }
        let scope = net.link_scope(link);
        let mut news = Vec::new();
        for told in peers {
            let Some(subject) = identity::to_net(&told.peer) else { continue };
            let taken = told.addresses.iter().filter_map(|text| route::take(text, subject, scope));
            let taken: Vec<Multiaddr> = taken.collect();
            if subject == other {
                if net.book.say(subject, taken) {
                    net.contacts.news.insert(subject);
                }
            } else if net.book.tell(device, subject, taken, now) {
                news.push(told.peer);
            }
        }
        news.into_iter().for_each(|subject| self.reachable(subject, Some(space), Some(peer)));
        self.keep_soon();
        self.dial_due();
    }

    /// What was kept of the book.
    pub(super) fn restore_book(&mut self) {
        let now = self.clock.now();
        let (Some(net), Some(row)) = (&mut self.net, self.kept.take()) else { return };
        if !net.book.restore(&row, now.mono, now.wall) {
            tracing::warn!("the list of known peers does not read: beginning a new one");
        }
        let met: Vec<_> =
            net.book.entries().into_iter().filter(|known| known.met.is_some()).map(|known| known.peer).collect();
        met.into_iter().for_each(|peer| net.swarm.behaviour_mut().gate.proved(peer));
        self.all_reachable();
    }

    /// This peer listens elsewhere than before.
    pub(super) fn on_own_addresses(&mut self) {
        let Some(net) = &mut self.net else { return };
        net.contacts.news_of_me = self.config.peer_exchange && !net.contacts.members.is_empty();
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        match event {
            mdns::Event::Discovered(found) => {
                let me = identity::from_net(&net.me);
                let mut news = Vec::new();
                for (peer, address) in found {
                    if let Some(address) = route::take(&address.to_string(), peer, Scope::Routed)
                        && net.book.find(peer, address, now)
                    {
                        news.extend(identity::from_net(&peer));
                    }
                }
                news.into_iter().for_each(|peer| self.reachable(peer, None, me));
            }
            mdns::Event::Expired(lost) => {
                for (peer, address) in lost {
                    net.book.lose(&peer, &route::split_peer(address).0);
                }
            }
        }
    }

    /// Does what is due: news, strangers, dead links, reservations, dials of the book, the book itself.
    pub(super) fn contacts_due(&mut self) {
        self.tell_news();
        self.dismiss_strangers();
        self.dismiss_silent();
        self.reserve();
        self.dial_known();
        self.keep_due();
    }

    pub(super) fn tell_peers(&mut self, link: LinkId, space: SpaceId, peers: Vec<(NetPeerId, Vec<String>)>) {
        let told = peers.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        let told =
            told.filter_map(|(peer, addresses)| Some(PeerAddresses { peer: identity::from_net(&peer)?, addresses }));
        let peers: Vec<_> = told.collect();
        if !peers.is_empty() {
            self.feed(Input::Command { request: NOBODY, command: Command::TellPeers { link, space, peers } });
        }
    }

    /// Tells every member what is new of others and of this peer.
    fn tell_news(&mut self) {
        let now = self.clock.now();
        let Some(net) = &mut self.net else { return };
        if net.contacts.news_at().is_none_or(|at| at > now.mono) {
            return;
        }
        net.contacts.last_news = Some(now.mono);
        let of_me = std::mem::take(&mut net.contacts.news_of_me);
        let mut news = Vec::new();
        while news.len() < MAX_TOLD_PEERS - 1
            && let Some(peer) = net.contacts.news.pop_first()
        {
            news.push(peer);
        }
        let mut messages = Vec::new();
        for (link, spaces) in &net.contacts.members {
            let scope = net.link_scope(*link);
            let other = net.links.get(link).and_then(|open| identity::to_net(&open.peer));
            for space in spaces.keys() {
                let others = news.iter().filter(|peer| Some(**peer) != other);
                let mut told: Vec<_> = others.filter_map(|p| net.book.told_of(p, space, scope, now.wall)).collect();
                if of_me {
                    told.push((net.me, net.own_addresses(&self.config.advertise, scope)));
                }
                messages.push((*link, *space, told));
            }
        }
        for (link, space, told) in messages {
            self.tell_peers(link, space, told);
        }
    }

    /// Peers of the book that turned out to share no space with this one are left alone.
    fn dismiss_strangers(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        let over: Vec<LinkId> =
            net.contacts.strangers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for link in over {
            let Some(net) = &mut self.net else { return };
            net.contacts.strangers.remove(&link);
            let Some(open) = net.links.get(&link) else { continue };
            let (connection, peer) = (open.connection, identity::to_net(&open.peer));
            self.drop_connection(connection, "it shares no space with this peer");
            if let (Some(net), Some(peer)) = (&mut self.net, peer) {
                net.book.is_strange(&peer, now);
            }
        }
    }

    /// The network changed: whatever can be reached again is reached at once, and links that do not answer are dead.
    pub(super) fn probe(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        // Only the side that opened a link asks for roots when told to.
        net.contacts.probed = net.links.iter().filter(|(_, open)| open.dialled).map(|(link, _)| *link).collect();
        net.contacts.probed.retain(|link| net.contacts.members.contains_key(link));
        net.contacts.probe_until = Some(now + PROBE);
    }

    fn dismiss_silent(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        if net.contacts.probe_until.is_none_or(|until| until > now) {
            return;
        }
        net.contacts.probe_until = None;
        let silent = std::mem::take(&mut net.contacts.probed);
        for link in silent {
            let Some(net) = &mut self.net else { return };
            let Some(open) = net.links.get(&link) else { continue };
            let (connection, peer) = (open.connection, identity::to_net(&open.peer));
            self.drop_connection(connection, "silent since the network changed");
            if let (Some(net), Some(peer)) = (&mut self.net, peer) {
                net.dialler.hurry(peer, now);
                net.book.hurry(&peer, now);
            }
        }
    }

    /// Asks relays for reservations.
    fn reserve(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        while let Some(address) = net.relays.due(now) {
            match net.swarm.listen_on(address.clone()) {
                Ok(listener) => net.relays.asked(&address, listener),
                Err(error) => {
                    tracing::debug!(%address, %error, "a relay cannot be asked");
                    net.relays.refused(&address, now);
                }
            }
        }
    }

    /// Dials peers of the book while there is room for more links.
    fn dial_known(&mut self) {
        let now = self.clock.mono();
        let max = self.book_dials();
        let Some(net) = &mut self.net else { return };
        while net.has_room(max) {
            let (connections, sync, dialler) = (&net.connections, &net.swarm.behaviour().sync, &net.dialler);
            let may = |peer: &NetPeerId| !connections.has(peer) && !sync.is_blocked(peer) && !dialler.has(peer);
            let Some((peer, addresses)) = net.book.due(now, may) else { return };
            net.dial_from_book(peer, addresses, now);
        }
    }

    /// Keeps the book a little later.
    fn keep_soon(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        if net.book.is_dirty() {
            let pause = net.contacts.kept_at.map_or(now, |kept| kept + KEEP_PAUSE);
            net.contacts.keep_at.get_or_insert(pause.max(now + KEEP_SOON));
        }
    }

    fn keep_due(&mut self) {
        let now = self.clock.now();
        let Some(net) = &mut self.net else { return };
        if net.contacts.touch_at.is_some_and(|at| at <= now.mono) {
            net.touch(now.wall);
            net.contacts.touch_at = Some(now.mono + TOUCH);
            net.contacts.keep_at.get_or_insert(now.mono);
        }
        if net.contacts.keep_at.is_some_and(|at| at <= now.mono) {
            self.keep_book();
        }
    }

    /// Keeps the book now, if it changed.
    pub(super) fn keep_book(&mut self) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        net.contacts.keep_at = None;
        if net.book.take_dirty() {
            net.contacts.kept_at = Some(now);
            let book = net.book.encode();
            self.feed(Input::Command { request: NOBODY, command: Command::KeepPeers { book } });
        }
    }

    /// The last words of the book: whoever is linked now was met now.
    pub(super) fn close_book(&mut self) {
        let wall = self.clock.now().wall;
        self.net.iter_mut().for_each(|net| net.touch(wall));
        self.keep_book();
    }

    /// Every known peer, configured ones and those of the book.
    pub(super) fn known(&self) -> Vec<KnownPeer> {
        let Some(net) = &self.net else { return Vec::new() };
        let known = net.book.entries().into_iter().filter_map(|entry| {
            let links = net.links.values().find(|open| identity::to_net(&open.peer) == Some(entry.peer));
            Some(KnownPeer {
                peer: identity::from_net(&entry.peer)?,
                standing: entry.standing,
                spaces: entry.spaces,
                addresses: entry.addresses.into_iter().map(Address).collect(),
                linked: links.is_some(),
                met: entry.met,
                failures: entry.failures,
            })
        });
        known.collect()
    }

    /// Dials a peer of the book now, and whenever it is lost and there is room. `false`: no address of it is known.
    pub(super) fn dial_peer(&mut self, peer: PeerId) -> bool {
        let now = self.clock.mono();
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return false };
        let known = net.book.hurry(&other, now) | net.dialler.hurry(other, now);
        // Whoever asks for one peer has counted the others.
        if known && !net.connections.has(&other) && !net.dialler.has(&other) {
            let only = |peer: &NetPeerId| *peer == other;
            if let Some((peer, addresses)) = net.book.due(now, only) {
                net.dial_from_book(peer, addresses, now);
            }
        }
        self.dial_due();
        known
    }

    /// Drops the links with a peer and does not dial it until it is asked for; it may dial. `false`: it is not known.
    pub(super) fn drop_peer(&mut self, peer: PeerId) -> bool {
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return false };
        let known = net.book.drop_peer(&other);
        for id in net.connections.of(other) {
            self.drop_connection(id, "dropped here");
        }
        known
    }
}

impl Net {
    pub(super) fn dial_from_book(&mut self, peer: NetPeerId, addresses: Vec<Multiaddr>, now: Timestamp) {
        let options = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(id, Dial::Known(peer))),
            Err(error) => {
                tracing::debug!(%peer, %error, "a dial failed");
                self.book.failed(&peer, now);
            }
        }
    }

    fn touch(&mut self, wall: crate::time::WallTime) {
        for (link, spaces) in &self.contacts.members {
            let Some(peer) = self.links.get(link).and_then(|open| identity::to_net(&open.peer)) else { continue };
            spaces.keys().for_each(|space| self.book.meet(peer, *space, None, wall));
        }
    }
}

/// Where a connection leads, for people: an inbound one through a relay shows the relay.
pub(super) fn shown_address(endpoint: &libp2p::core::ConnectedPoint, peer: NetPeerId) -> Multiaddr {
    match endpoint {
        libp2p::core::ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            let circuit: Multiaddr = local_addr.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
            circuit.with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
        }
        _ => endpoint.get_remote_address().clone(),
    }
}
