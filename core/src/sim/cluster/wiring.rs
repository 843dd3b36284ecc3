//! Connecting, breaking, and what each end learns of it and when.

use std::time::Duration;

use super::{Cluster, Edge, Happening};
use crate::id::PeerId;
use crate::io::{Input, LinkId};
use crate::sim::network::{Item, NodeId, Profile, Side, WireId};
use crate::time::Timestamp;

impl Cluster {
    /// Every edge looks now and then whether it should connect, from either end.
    pub(super) fn dial(&mut self, edge: usize) {
        let again = self.net_dice.span(Duration::from_millis(200), Duration::from_millis(1_500));
        self.queue.at(self.queue.now() + again, Happening::Dial(edge));
        let [a, b] = self.edges[edge].ends;
        let (from, to) = if self.net_dice.chance(500) { (a, b) } else { (b, a) };
        self.connect(from, to, self.edges[edge].profile);
    }

    /// Connects two nodes, unless the one that dials believes that they are. Whether they are, or will be.
    fn connect(&mut self, from: NodeId, to: NodeId, profile: Profile) -> bool {
        let can = self.node(from).is_open()
            && self.node(to).is_open()
            && self.node(from).frozen_until <= self.queue.now()
            && self.node(to).frozen_until <= self.queue.now()
            && !self.network.is_stalled(from, to)
            && !self.network.is_stalled(to, from);
        // Only the dialling end's belief counts: the other end may hold a dead wire, or none.
        let believes = self.ends_between(from, to).next().is_some();
        if !can || believes {
            return believes;
        }
        let wire = self.network.open(from, to, profile);
        self.note(format_args!("n{} dials n{}: w{} {}", from.0, to.0, wire.0, profile.name));
        let half = self.net_dice.span(profile.delay_min, profile.delay_max);
        self.queue.at(self.queue.now() + half, Happening::Linked(wire, 1));
        self.queue.at(self.queue.now() + half * 2, Happening::Linked(wire, 0));
        true
    }

    /// An engine wants a link. The answer comes a moment later, as a dial takes one.
    pub(super) fn on_wish(&mut self, id: NodeId, life: u64, peer: PeerId) {
        let known = self.nodes.iter().find(|node| node.known.is_some_and(|known| known.peer == peer));
        let after = self.net_dice.span(Duration::from_millis(1), Duration::from_millis(300));
        match known.map(|node| node.id) {
            Some(other) => self.queue.at(self.queue.now() + after, Happening::Wish(id, life, other)),
            None => self.feed(id, life, Input::Unreachable { peer }),
        }
    }

    pub(super) fn fulfil(&mut self, id: NodeId, life: u64, other: NodeId) {
        let Some(peer) = self.node(other).known.map(|known| known.peer) else { return };
        if self.process(id).is_none_or(|process| process.life != life) {
            return;
        }
        let profile = match (self.edge_between(id, other), self.scenario.wished) {
            (Some(edge), _) => edge.profile,
            (None, true) => Profile::LAN,
            (None, false) => return self.feed(id, life, Input::Unreachable { peer }),
        };
        if !self.connect(id, other, profile) {
            self.feed(id, life, Input::Unreachable { peer });
        }
    }

    fn edge_between(&self, a: NodeId, b: NodeId) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.ends == [a, b] || edge.ends == [b, a])
    }

    /// An engine needs no link with a node. One that is configured stays; another one ends a moment later: what the engine says in the same breath still leaves.
    pub(super) fn on_surplus(&mut self, id: NodeId, life: u64, peer: PeerId) {
        let known = self.nodes.iter().find(|node| node.known.is_some_and(|known| known.peer == peer));
        if let Some(other) = known.map(|node| node.id).filter(|other| self.edge_between(id, *other).is_none()) {
            self.queue.at(self.queue.now() + Duration::from_millis(5), Happening::Surplus(id, life, other));
        }
    }

    pub(super) fn give_up(&mut self, id: NodeId, life: u64, other: NodeId) {
        if self.process(id).is_none_or(|process| process.life != life) {
            return;
        }
        let wires: Vec<(WireId, Side)> = self.ends_between(id, other).collect();
        for (wire, side) in wires {
            self.note(format_args!("n{} gives up w{} with n{}", id.0, wire.0, other.0));
            let mut dice = self.net_dice.clone();
            if let Some(process) = self.process(id)
                && let Some(link) = process.ends.remove(&(wire, side))
            {
                process.links.remove(&link);
                self.feed(id, life, Input::Unlinked { link });
            }
            if let Some(due) = self.network.close(self.queue.now(), wire, side, &mut dice) {
                self.queue.at(due, Happening::Arrive(wire, 1 - side));
            }
            self.net_dice = dice;
        }
    }

    /// Ends of wires to `to` that the process of `from` holds.
    fn ends_between(&self, from: NodeId, to: NodeId) -> impl Iterator<Item = (WireId, Side)> {
        self.network.wires().flat_map(move |(id, wire)| {
            (0..2)
                .filter(move |side| wire.nodes[*side] == from && wire.nodes[1 - side] == to && wire.open[*side])
                .map(move |side| (id, side))
        })
    }

    pub(super) fn linked(&mut self, wire: WireId, side: Side) {
        let Some(state) = self.network.wire(wire) else { return };
        let (me, other, torn) = (state.nodes[side], state.nodes[1 - side], state.torn);
        let peer = self.node(other).known.map(|known| known.peer);
        let (Some(peer), false) = (peer, torn) else {
            return self.break_wire(wire);
        };
        let Some(process) = self.process(me).filter(|p| p.identity.is_some()) else {
            return self.break_wire(wire);
        };
        process.next_link += 1;
        let link = LinkId(process.next_link);
        process.links.insert(link, (wire, side));
        process.ends.insert((wire, side), link);
        let life = process.life;
        self.note(format_args!("n{} linked to n{}: w{}", me.0, other.0, wire.0));
        self.feed(me, life, Input::Linked { link, peer, initiator: side == 0 });
        // What overtook the news of the link has been waiting.
        self.queue.at(self.queue.now(), Happening::Arrive(wire, side));
    }

    pub(super) fn arrive(&mut self, now: Timestamp, wire: WireId, side: Side) {
        let Some(me) = self.network.wire(wire).map(|w| w.nodes[side]) else { return };
        loop {
            let Some(process) = self.process(me) else { return };
            let Some(link) = process.ends.get(&(wire, side)).copied() else { return };
            let life = process.life;
            match self.network.arrive(now, wire, side) {
                None => return,
                Some(Item::Frame(bytes)) => self.feed(me, life, Input::Frame { link, bytes }),
                Some(Item::End) => return self.notice(wire, side),
            }
            self.drain_inbox();
        }
    }

    pub(super) fn notice(&mut self, wire: WireId, side: Side) {
        let Some(me) = self.network.wire(wire).map(|w| w.nodes[side]) else { return };
        if !self.network.notice(wire, side) {
            return;
        }
        let Some(process) = self.process(me) else { return };
        let life = process.life;
        if let Some(link) = process.ends.remove(&(wire, side)) {
            process.links.remove(&link);
            self.note(format_args!("n{} loses w{}", me.0, wire.0));
            self.feed(me, life, Input::Unlinked { link });
        }
    }

    /// Breaks a wire; each end learns of it in its own time, often at once, sometimes after seconds.
    pub(super) fn break_wire(&mut self, wire: WireId) {
        self.network.tear(wire);
        for side in 0..2 {
            let slow = self.net_dice.chance(200);
            let longest = if slow { Duration::from_secs(12) } else { Duration::from_millis(40) };
            let after = self.net_dice.span(Duration::ZERO, longest);
            self.queue.at(self.queue.now() + after, Happening::Notice(wire, side));
        }
    }

    /// Breaks every wire between two nodes.
    pub(super) fn break_between(&mut self, a: NodeId, b: NodeId) {
        let broken: Vec<WireId> = self
            .network
            .wires()
            .filter(|(_, wire)| !wire.torn && (wire.nodes == [a, b] || wire.nodes == [b, a]))
            .map(|(id, _)| id)
            .collect();
        for wire in broken {
            self.note(format_args!("w{} breaks", wire.0));
            self.break_wire(wire);
        }
    }

    /// Keep-alives went unanswered: if the stall still holds, the wires die.
    pub(super) fn lose_patience(&mut self, a: NodeId, b: NodeId) {
        if self.network.is_stalled(a, b) || self.network.is_stalled(b, a) {
            self.break_between(a, b);
        }
    }

    /// A process is gone: its ends close at once, the others learn of it in their own time.
    pub(in crate::sim) fn drop_ends(&mut self, node: NodeId) {
        let wires: Vec<(WireId, Side)> = self
            .network
            .wires()
            .flat_map(|(id, wire)| {
                (0..2).filter(move |side| wire.nodes[*side] == node && wire.open[*side]).map(move |side| (id, side))
            })
            .collect();
        for (wire, side) in wires {
            self.break_wire(wire);
            self.network.notice(wire, side);
        }
    }
}
