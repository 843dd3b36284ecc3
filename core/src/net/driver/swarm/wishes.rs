//! Links that the engine wishes for, and links that it no longer needs.
//!
//! Where the engine chooses neighbours, the book dials nobody by itself: a wish is one attempt at a peer of the book, over
//! its relays too, and its failure is told. Configured peers stay linked whatever is wished. A program that has set
//! [`NetConfig::max_dialled`](crate::net::NetConfig::max_dialled) to 0 chooses itself, and wishes are not fulfilled.

use libp2p::PeerId as NetPeerId;

use crate::id::{PeerId, SpaceId};
use crate::io::{Input, LinkId};
use crate::net::driver::{Driver, Machine};
use crate::net::{Standing, identity};

impl<M: Machine> Driver<M> {
    /// Members that the book links with on its own.
    pub(in crate::net::driver) fn book_dials(&self) -> usize {
        if self.overlay { 0 } else { self.config.max_dialled }
    }

    /// The engine wants a link with a peer.
    pub(in crate::net::driver) fn wish(&mut self, peer: PeerId) {
        let fulfils = self.overlay && self.config.max_dialled > 0 && self.closing.is_none();
        let (Some(net), Some(other), true) = (&mut self.net, identity::to_net(&peer), fulfils) else { return };
        // Under way already, or always dialled.
        if net.connections.has(&other) || net.dialler.has(&other) || net.book.is_dialling(&other) {
            return;
        }
        net.wishes.insert(other);
        if net.swarm.behaviour().sync.is_blocked(&other) || !net.book.free(&other, self.clock.mono()) {
            return self.disappoint(&other);
        }
        self.try_wish(other);
    }

    /// Dials a peer that is wished for, if there is an address left to try.
    fn try_wish(&mut self, other: NetPeerId) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        match net.book.due(now, |peer| *peer == other) {
            Some((peer, addresses)) => {
                net.dial_from_book(peer, addresses, now);
                if !net.book.is_dialling(&other) {
                    self.disappoint(&other);
                }
            }
            None => self.disappoint(&other),
        }
    }

    /// A dial of the book has failed: what was wished for is tried through relays, once.
    pub(super) fn on_known_failed(&mut self, other: &NetPeerId) {
        let now = self.clock.mono();
        let Some(net) = &mut self.net else { return };
        net.book.failed(other, now);
        if net.wishes.contains(other) {
            self.try_wish(*other);
        }
    }

    fn disappoint(&mut self, other: &NetPeerId) {
        let wished = self.net.as_mut().is_some_and(|net| net.wishes.remove(other));
        if let Some(peer) = identity::from_net(other).filter(|_| wished) {
            self.feed(Input::Unreachable { peer });
        }
    }

    /// The engine needs no link with a peer.
    pub(in crate::net::driver) fn give_up(&mut self, peer: PeerId) {
        let fulfils = self.overlay && self.config.max_dialled > 0;
        let (Some(net), Some(other), true) = (&mut self.net, identity::to_net(&peer), fulfils) else { return };
        if net.dialler.has(&other) || net.relays.has(&other) {
            return;
        }
        for id in net.connections.of(other) {
            self.drop_connection(id, "not needed: enough neighbours");
        }
    }

    /// The book has learnt where a peer is.
    pub(in crate::net::driver) fn reachable(&mut self, peer: PeerId, space: Option<SpaceId>, source: Option<PeerId>) {
        if self.overlay {
            self.feed(Input::Reachable { peer, space, source });
        }
    }

    /// Everybody in the book may be reached, as far as is known: at the start, and when the network is back.
    pub(in crate::net::driver) fn all_reachable(&mut self) {
        let Some(net) = self.net.as_ref().filter(|_| self.overlay) else { return };
        let me = identity::from_net(&net.me);
        for entry in net.book.entries() {
            let Some(peer) = identity::from_net(&entry.peer) else { continue };
            match entry.standing {
                Standing::Met => entry.spaces.iter().for_each(|space| self.reachable(peer, Some(*space), None)),
                // Its own word counts as one source among others: anybody on the local network can say anything.
                _ => self.reachable(peer, None, me),
            }
        }
    }

    /// Tells a member where those are that the engine has named to it.
    pub(in crate::net::driver) fn tell_named(&mut self, link: LinkId, space: SpaceId, peers: &[PeerId]) {
        let now = self.clock.now();
        let Some(net) = self.net.as_ref().filter(|_| self.config.peer_exchange) else { return };
        let scope = net.link_scope(link);
        let named = peers.iter().filter_map(identity::to_net);
        let told = named.filter_map(|peer| net.book.told_of(&peer, &space, scope, now.wall)).collect();
        self.tell_peers(link, space, told);
    }
}
