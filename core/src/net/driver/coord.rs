//! Streams of the strong path: one each way a connection, opened when there is something to say.
//!
//! What goes to one peer leaves over the stream that this side opened, in order. When that stream breaks, or a frame cannot be
//! queued, the engine is told that frames may have been lost; it starts anew with whoever that is.

use std::collections::BTreeMap;

use libp2p::swarm::{ConnectionId, Stream};
use tokio::sync::mpsc;

use super::{BURST, Driver, LINK_EVENTS, Machine, NOBODY};
use crate::engine::{Command, CoordCommand};
use crate::id::PeerId;
use crate::io::{Input, LinkId, MAX_COORD_FRAME};
use crate::net::identity;
use crate::net::link::{Ended, Link, LinkEvent};
use crate::net::sync::SyncEvent;

/// Bytes that may wait for a stream to open: two of the largest frames.
const MAX_WAITING: usize = 2 * MAX_COORD_FRAME;

/// A stream that this side opened.
enum Outgoing {
    Opening { connection: ConnectionId, frames: Vec<Vec<u8>>, bytes: usize },
    Open { connection: ConnectionId, id: LinkId, link: Link },
}

/// A stream that the peer opened.
struct Incoming {
    peer: PeerId,
    connection: ConnectionId,
    _link: Link,
}

/// All streams.
pub(super) struct Streams {
    outgoing: BTreeMap<PeerId, Outgoing>,
    incoming: BTreeMap<LinkId, Incoming>,
    next: u64,
    events: mpsc::Receiver<LinkEvent>,
    to_driver: mpsc::Sender<LinkEvent>,
}

impl Streams {
    pub(super) fn new() -> Self {
        let (to_driver, events) = mpsc::channel(LINK_EVENTS);
        Self { outgoing: BTreeMap::new(), incoming: BTreeMap::new(), next: 0, events, to_driver }
    }

    /// The next thing that a stream's tasks tell.
    pub(super) fn next_event(&mut self) -> impl Future<Output = Option<LinkEvent>> + '_ {
        self.events.recv()
    }

    fn id(&mut self) -> LinkId {
        self.next += 1;
        LinkId(self.next)
    }
}

impl<M: Machine> Driver<M> {
    /// Serves the groups that this store votes in.
    pub(super) fn start_coord(&mut self) {
        self.feed(Input::Command { request: NOBODY, command: Command::Coord(CoordCommand::Start) });
    }

    pub(super) fn send_coord(&mut self, peer: PeerId, bytes: Vec<u8>) {
        let sent = match self.coord.outgoing.get_mut(&peer) {
            Some(Outgoing::Open { link, .. }) => link.send(bytes),
            Some(Outgoing::Opening { frames, bytes: waiting, .. }) => {
                *waiting += bytes.len();
                frames.push(bytes);
                *waiting <= MAX_WAITING
            }
            None => self.open_coord(peer, bytes),
        };
        if !sent {
            self.coord.outgoing.remove(&peer);
            self.feed(Input::CoordGone { peer });
        }
    }

    /// Opens a stream on the connection with a peer, if there is one.
    fn open_coord(&mut self, peer: PeerId, first: Vec<u8>) -> bool {
        let (Some(net), Some(other)) = (&mut self.net, identity::to_net(&peer)) else { return false };
        // A stream on a connection that is gone would be opening for ever.
        let lives =
            |open: &&super::swarm::OpenLink| open.peer == peer && net.connections.get(open.connection).is_some();
        let linked = net.links.values().find(lives).map(|open| open.connection);
        let Some(connection) = linked else { return false };
        net.swarm.behaviour_mut().coord.open(other, connection);
        let bytes = first.len();
        self.coord.outgoing.insert(peer, Outgoing::Opening { connection, frames: vec![first], bytes });
        true
    }

    pub(super) fn on_coord_stream(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Opened { connection, initiator, stream } => self.on_coord_opened(connection, initiator, stream),
            SyncEvent::Failed { peer, connection, error } => {
                tracing::debug!(%peer, %error, "no stream of the strong path");
                let Some(peer) = identity::from_net(&peer) else { return };
                let opening =
                    |found: &Outgoing| matches!(found, Outgoing::Opening { connection: on, .. } if *on == connection);
                if self.coord.outgoing.get(&peer).is_some_and(opening) {
                    self.coord.outgoing.remove(&peer);
                    self.feed(Input::CoordGone { peer });
                }
            }
        }
    }

    fn on_coord_opened(&mut self, connection: ConnectionId, initiator: bool, stream: Stream) {
        let found = self.net.as_ref().and_then(|net| net.connections.get(connection));
        let Some(peer) = found.and_then(|found| identity::from_net(&found.peer)) else { return };
        let id = self.coord.id();
        let link =
            Link::spawn(&self.runtime, id, stream, self.pace.reader(MAX_COORD_FRAME), self.coord.to_driver.clone());
        if !initiator {
            let before = self.coord.incoming.len();
            self.coord.incoming.retain(|_, incoming| incoming.connection != connection);
            let replaced = self.coord.incoming.len() < before;
            self.coord.incoming.insert(id, Incoming { peer, connection, _link: link });
            if replaced {
                // What was on its way over the one before is lost.
                self.feed(Input::CoordGone { peer });
            }
            return;
        }
        // One that was asked for on a connection that has been replaced since is of no use.
        let Some(Outgoing::Opening { connection: on, frames, .. }) = self.coord.outgoing.get_mut(&peer) else { return };
        if *on == connection {
            let sent = std::mem::take(frames).into_iter().all(|frame| link.send(frame));
            self.coord.outgoing.insert(peer, Outgoing::Open { connection, id, link });
            if !sent {
                self.coord.outgoing.remove(&peer);
                self.feed(Input::CoordGone { peer });
            }
        }
    }

    pub(super) fn on_coord_event(&mut self, first: LinkEvent) {
        let (mut gathered, mut next) = (Vec::new(), Some(first));
        while let Some(event) = next {
            match event {
                LinkEvent::Frames { link, frames } => {
                    // The opener of a stream is the one who speaks on it.
                    if let Some(peer) = self.coord.incoming.get(&link).map(|incoming| incoming.peer) {
                        gathered.extend(frames.into_iter().map(|bytes| (peer, bytes)));
                    }
                }
                LinkEvent::Ended { link, why } => {
                    self.feed_frames(&mut gathered);
                    self.on_coord_ended(link, &why);
                }
            }
            next = if gathered.len() < BURST { self.coord.events.try_recv().ok() } else { None };
        }
        self.feed_frames(&mut gathered);
    }

    /// Hands the engine what waits, from whomever, as one: under load a voter appends, writes and acknowledges once for all of it.
    fn feed_frames(&mut self, gathered: &mut Vec<(PeerId, Vec<u8>)>) {
        if !gathered.is_empty() {
            self.feed(Input::CoordFrames(std::mem::take(gathered)));
        }
    }

    fn on_coord_ended(&mut self, link: LinkId, why: &Ended) {
        let own = |found: &Outgoing| matches!(found, Outgoing::Open { id, .. } if *id == link);
        let outgoing = self.coord.outgoing.iter().find(|(_, found)| own(found)).map(|(peer, _)| *peer);
        let incoming = self.coord.incoming.remove(&link);
        if let Some(peer) = outgoing {
            self.coord.outgoing.remove(&peer);
        }
        if let (Some(Incoming { connection, peer, .. }), Ended::Frame(_)) = (&incoming, why) {
            self.net.iter_mut().for_each(|net| net.violated(peer));
            self.drop_connection(*connection, &why.to_string());
        }
        if let Some(peer) = outgoing.or(incoming.map(|incoming| incoming.peer)) {
            self.feed(Input::CoordGone { peer });
        }
    }

    /// A connection is gone, and with it its streams.
    pub(super) fn coord_closed(&mut self, id: ConnectionId) {
        let on = |found: &Outgoing| match found {
            Outgoing::Opening { connection, .. } | Outgoing::Open { connection, .. } => *connection == id,
        };
        let gone: Vec<PeerId> =
            self.coord.outgoing.iter().filter(|(_, found)| on(found)).map(|(peer, _)| *peer).collect();
        self.coord.incoming.retain(|_, incoming| incoming.connection != id);
        for peer in gone {
            self.coord.outgoing.remove(&peer);
            self.feed(Input::CoordGone { peer });
        }
    }
}
