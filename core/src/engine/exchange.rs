//! Where members are: what the driver lets be told on a link, and what peers tell.
//!
//! The engine knows no addresses. It carries the driver's [`Message::Peers`] to proved members only, hands those of proved
//! members to the driver with the device that vouches for them, and keeps the driver's address book as one row of the
//! store.

use super::link::protocol;
use super::sync::Handled;
use super::{Engine, Event, keys};
use crate::id::SpaceId;
use crate::io::{LinkId, Table, WriteOp};
use crate::wire::v1::Message;
use crate::wire::v1::exchange::PeerAddresses;

/// Messages of this kind that a link may bring at once for each of its spaces; one more comes with every second that it
/// lives. An honest peer sends one at the beginning and one when something changes, at most one a second; what is beyond
/// that is not listened to.
const AT_ONCE: u64 = 64;

/// Largest address book: far above what a driver keeps.
const MAX_BOOK: usize = 1 << 20;

impl Engine {
    /// Tells a peer where members of a space are, if it proved to be one.
    pub(super) fn tell_peers(&mut self, id: LinkId, space: SpaceId, peers: Vec<PeerAddresses>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space).filter(|common| common.device.is_some()) else { return };
        let peers = PeerAddresses::bounded(peers);
        if !peers.is_empty() {
            link.out.control(Message::Peers { space: common.tag, peers });
            self.busy_links.insert(id);
        }
    }

    pub(super) fn on_peers(&mut self, id: LinkId, space: SpaceId, peers: Vec<PeerAddresses>) -> Handled {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let device = link.spaces.get(&space).and_then(|common| common.device);
        let device = device.ok_or_else(|| protocol("peers of a space before its proof"))?;
        let allowed = (AT_ONCE + self.now.mono.since(link.opened_at).as_secs()) * link.spaces.len() as u64;
        if link.told < allowed {
            link.told += 1;
            let peer = link.peer;
            self.emit(Event::PeersTold { link: id, peer, device, space, peers });
        }
        Ok(())
    }

    /// Keeps the driver's address book with the next write.
    pub(super) fn keep_peers(&mut self, book: Vec<u8>) {
        if book.len() <= MAX_BOOK {
            self.pending.ops.push(WriteOp::Put(Table::Meta, keys::PEERS.to_vec(), book));
        }
    }
}
