//! Links between peers that know each other: in step two round trips after the link is back.
//!
//! ```text
//!  initiator                                    acceptor
//!    Hello ─────────────────────────────────────▶   it knows the peer: Noise proved its key, and with this key it
//!                                                   proved a device that is still a member
//!          ◀───── Hello, Open, Present, Interests, Cursor
//!    Open, Present, Interests, Cursor,
//!    Roots, what is behind the cursor ──────────▶
//!          ◀───── Present is checked; Roots, what is behind the cursor
//! ```
//!
//! **Authorised before anything is said.** The initiator says nothing before it has checked the acceptor's proof. The
//! acceptor speaks first only to a peer key that proved its membership on an earlier link of this engine's life, and whose
//! device its roster still lets read; a peer that has lost its right meanwhile gets what a stranger gets. The memory is not
//! kept over a restart, since a running peer's key is all that it names.
//!
//! **Cursors ahead of roots.** Each end sends its cursor (L0) with its interests, instead of after unequal roots: what was
//! written during a cut is on its way a round trip sooner. Where a peer has no cursor, roots and sessions find what differs.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::sync::Round;
use crate::id::{DeviceId, PeerId, SpaceId};
use crate::io::LinkId;
use crate::wire::v1::Message;

/// Most peers and spaces that are remembered; the longest known is forgotten first, and costs a round trip.
const MAX_KNOWN: usize = 1_024;

/// Devices that peers have proved.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    devices: BTreeMap<(PeerId, SpaceId), DeviceId>,
    order: VecDeque<(PeerId, SpaceId)>,
}

impl Acquaintances {
    pub(super) fn remember(&mut self, peer: PeerId, space: SpaceId, device: DeviceId) {
        if self.devices.insert((peer, space), device).is_none() {
            self.order.push_back((peer, space));
        }
        while self.devices.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.devices.remove(&oldest);
        }
    }

    fn device(&self, peer: PeerId, space: SpaceId) -> Option<DeviceId> {
        self.devices.get(&(peer, space)).copied()
    }
}

impl Engine {
    /// The acceptor presents itself at once to a peer that it knows to be a member.
    pub(super) fn present_early(&mut self, id: LinkId) {
        let Some(peer) = self.links.get(&id).filter(|link| !link.initiator).map(|link| link.peer) else { return };
        let spaces: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for space in spaces {
            if !self.is_known_member(peer, space) {
                continue;
            }
            let Some((handshake, side)) = self.handshake(id, &space) else { continue };
            self.present(id, space, handshake, side);
            self.say_interests(id, space);
            self.say_cursor(id, space);
        }
    }

    fn is_known_member(&self, peer: PeerId, space: SpaceId) -> bool {
        let Some(device) = self.acquaintances.device(peer, space) else { return false };
        let roster = self.spaces.get(&space).map(|state| &state.roster);
        roster.is_some_and(|roster| !roster.read_prefixes_at(&device, self.now.wall).is_empty())
    }

    /// Asks for what has arrived at the peer since its log was last seen, once a link and space.
    pub(super) fn say_cursor(&mut self, id: LinkId, space: SpaceId) {
        let (now, arrival) = (self.now.mono, self.durable_arrival());
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(epoch) = link.hello.map(|hello| hello.epoch) else { return };
        let Some(known) = self.cursors.get(&(epoch, space)).copied() else { return };
        let Some(common) = link.spaces.get_mut(&space) else { return };
        if std::mem::replace(&mut common.cursor_said, true) {
            return;
        }
        link.out.control(Message::Cursor { space: common.tag, arrival: known });
        link.sync.expect_reached(space);
        if link.initiator {
            let (sent, received) = (link.bytes_sent, link.bytes_received);
            link.sync.begin_round(Round::behind_cursors(now, (sent, received), arrival));
        }
        self.busy_links.insert(id);
    }
}
