//! At most one connection a pair of peers.
//!
//! Who dialled opens the sync stream, so the dialler decides between its own dials, and the other side follows where
//! the stream opens. When both dialled at once, both sides keep the connection that the lesser peer id dialled. A new
//! inbound connection beside one that has stood for [`SIMULTANEOUS`] means that the peer lost the old one: the new one
//! wins. If the two sides should ever disagree, both connections close and backoff sorts it out.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId as NetPeerId};

use crate::io::LinkId;
use crate::time::Timestamp;

/// Two dials that crossed are this close together; anything further apart is a reconnection. Handshakes take well under
/// a second; 10 s covers a stalled one.
const SIMULTANEOUS: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) peer: NetPeerId,
    pub(crate) address: Multiaddr,
    /// Whether this side dialled.
    pub(crate) dialled: bool,
    pub(crate) since: Timestamp,
    /// Its sync stream, once open.
    pub(crate) link: Option<LinkId>,
    /// What the last sign of life took, there and back.
    pub(crate) rtt: Option<Duration>,
    /// It is being closed: nothing on it counts any more.
    closing: bool,
}

/// What to do about a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays. The other one, if any, is to be closed.
    Keep(Option<ConnectionId>),
    /// It is to be closed.
    Close,
}

/// Every connection of this peer.
#[derive(Debug)]
pub(crate) struct Connections {
    me: NetPeerId,
    all: BTreeMap<ConnectionId, Connection>,
    kept: BTreeMap<NetPeerId, ConnectionId>,
}

impl Connections {
    pub(crate) fn new(me: NetPeerId) -> Self {
        Self { me, all: BTreeMap::new(), kept: BTreeMap::new() }
    }

    /// A connection is up.
    pub(crate) fn established(
        &mut self,
        id: ConnectionId,
        peer: NetPeerId,
        address: Multiaddr,
        dialled: bool,
        now: Timestamp,
    ) -> Verdict {
        let verdict = self.judge(peer, dialled, now);
        let closing = verdict == Verdict::Close;
        self.all.insert(id, Connection { peer, address, dialled, since: now, link: None, rtt: None, closing });
        match verdict {
            Verdict::Keep(None) if self.kept.contains_key(&peer) => {} // waits for the peer to choose
            Verdict::Keep(other) => {
                self.kept.insert(peer, id);
                self.mark_closing(other);
            }
            Verdict::Close => {}
        }
        verdict
    }

    fn judge(&self, peer: NetPeerId, dialled: bool, now: Timestamp) -> Verdict {
        let Some((id, old)) = self.kept.get(&peer).and_then(|id| Some((*id, self.all.get(id)?))) else {
            return Verdict::Keep(None);
        };
        let crossed = now.since(old.since) < SIMULTANEOUS;
        match (dialled, old.dialled) {
            (true, true) => Verdict::Close,
            (true, false) if crossed && self.me < peer => Verdict::Keep(Some(id)),
            (true, false) => Verdict::Close,
            (false, false) => Verdict::Keep(None),
            (false, true) if crossed && self.me < peer => Verdict::Close,
            (false, true) => Verdict::Keep(Some(id)),
        }
    }

    /// A sync stream opened on a connection. `Ok`: it becomes the link, and the connection that it replaces, if any, is
    /// to be closed. `Err`: the stream is to be dropped.
    pub(crate) fn opened(&mut self, id: ConnectionId, link: LinkId) -> Result<Option<ConnectionId>, ()> {
        let connection = self.all.get_mut(&id).filter(|c| !c.closing && c.link.is_none()).ok_or(())?;
        connection.link = Some(link);
        let other = self.kept.insert(connection.peer, id).filter(|old| *old != id);
        self.mark_closing(other);
        Ok(other)
    }

    /// A sign of life was answered.
    pub(crate) fn answered(&mut self, id: ConnectionId, rtt: Duration) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.rtt = Some(rtt);
        }
    }

    /// Nothing on this connection counts any more; it is being closed.
    pub(crate) fn mark_closing(&mut self, id: Option<ConnectionId>) {
        let Some(connection) = id.and_then(|id| self.all.get_mut(&id)) else { return };
        connection.closing = true;
        if self.kept.get(&connection.peer) == id.as_ref() {
            self.kept.remove(&connection.peer);
        }
    }

    /// A connection is gone. Returns what it was.
    pub(crate) fn closed(&mut self, id: ConnectionId) -> Option<Connection> {
        self.mark_closing(Some(id));
        self.all.remove(&id)
    }

    /// Takes the link off its connection; the connection that carried it.
    pub(crate) fn unlink(&mut self, link: LinkId) -> Option<ConnectionId> {
        let (id, connection) = self.all.iter_mut().find(|(_, c)| c.link == Some(link))?;
        connection.link = None;
        Some(*id)
    }

    /// Whether a connection to this peer stands.
    pub(crate) fn has(&self, peer: &NetPeerId) -> bool {
        self.kept.contains_key(peer)
    }

    /// Connections to a peer.
    pub(crate) fn of(&self, peer: NetPeerId) -> Vec<ConnectionId> {
        self.all.iter().filter(|(_, c)| c.peer == peer).map(|(id, _)| *id).collect()
    }

    /// Who is at the other end, and the link of a connection.
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    /// Number of connections.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: fn(usize) -> ConnectionId = ConnectionId::new_unchecked;

    fn up(connections: &mut Connections, id: usize, peer: NetPeerId, dialled: bool, now: Timestamp) -> Verdict {
        connections.established(ID(id), peer, Multiaddr::empty(), dialled, now)
    }

    fn pair() -> (NetPeerId, NetPeerId) {
        let (a, b) = (NetPeerId::random(), NetPeerId::random());
        if a < b { (a, b) } else { (b, a) }
    }

    #[test]
    fn crossed_dials_leave_the_one_of_the_lesser_peer_on_both_sides_in_any_order() {
        let (lesser, greater) = pair();
        // Connection 1 was dialled by the lesser peer, connection 2 by the greater.
        for (me, peer) in [(lesser, greater), (greater, lesser)] {
            for order in [[1, 2], [2, 1]] {
                let mut connections = Connections::new(me);
                for (at, id) in order.into_iter().enumerate() {
                    let dialled = (id == 1) == (me == lesser);
                    up(&mut connections, id, peer, dialled, Timestamp::from_micros(at as u64));
                }
                assert_eq!(connections.kept.get(&peer), Some(&ID(1)), "{order:?}");
                assert!(connections.get(ID(2)).unwrap().closing, "{order:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_comes_back_replaces_its_dead_connection() {
        let (me, peer) = pair();
        let later = Timestamp::ZERO + 2 * SIMULTANEOUS;
        let mut connections = Connections::new(me);
        assert_eq!(up(&mut connections, 1, peer, true, Timestamp::ZERO), Verdict::Keep(None));
        assert_eq!(up(&mut connections, 2, peer, false, later), Verdict::Keep(Some(ID(1))));
        assert_eq!(connections.opened(ID(1), LinkId(1)), Err(()));
        assert_eq!(connections.opened(ID(2), LinkId(2)), Ok(None));
    }

    #[test]
    fn the_dialler_chooses_between_its_own_dials_and_the_other_side_follows() {
        let (me, peer) = pair();
        let mut dialler = Connections::new(peer);
        assert_eq!(up(&mut dialler, 1, me, true, Timestamp::ZERO), Verdict::Keep(None));
        assert_eq!(up(&mut dialler, 2, me, true, Timestamp::ZERO), Verdict::Close);
        let mut listener = Connections::new(me);
        assert_eq!(up(&mut listener, 2, peer, false, Timestamp::ZERO), Verdict::Keep(None));
        assert_eq!(up(&mut listener, 1, peer, false, Timestamp::ZERO), Verdict::Keep(None));
        assert_eq!(listener.opened(ID(1), LinkId(1)), Ok(Some(ID(2))));
        assert_eq!(listener.opened(ID(1), LinkId(2)), Err(()), "one stream a connection");
    }

    #[test]
    fn a_closed_connection_frees_its_place() {
        let (me, peer) = pair();
        let mut connections = Connections::new(me);
        up(&mut connections, 1, peer, true, Timestamp::ZERO);
        connections.opened(ID(1), LinkId(1)).unwrap();
        assert_eq!(connections.closed(ID(1)).unwrap().link, Some(LinkId(1)));
        assert!(!connections.has(&peer));
        assert_eq!(up(&mut connections, 2, peer, true, Timestamp::ZERO), Verdict::Keep(None));
    }
}
