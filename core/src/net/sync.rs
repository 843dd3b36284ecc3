//! The sync stream: one substream `/foreshore/sync/1` a connection, opened by whoever dialled. The strong path's
//! `/foreshore/coord/1` is the same mechanism a second time, with a stream each way.
//!
//! A behaviour of our own instead of a generic stream crate, since a link belongs to one *connection*: the driver
//! decides which connection to a peer stays, and asks for the stream on exactly that one. A negotiated stream goes to
//! the driver at once, so nothing waits in a queue that could drop it; a second inbound stream on a connection is
//! refused, since nobody honest opens one; opening has a time limit.
//!
//! It also refuses connections of blocked peers, of peers whose identity is not Ed25519, and of this peer with itself.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId as NetPeerId};

/// The protocol of the sync stream.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/foreshore/sync/1");

/// The protocol of the strong path's streams.
#[cfg(feature = "coord")]
pub(crate) const COORD_PROTOCOL: StreamProtocol = StreamProtocol::new("/foreshore/coord/1");

/// What the driver learns.
#[derive(Debug)]
pub(crate) enum SyncEvent {
    /// A stream is open.
    Opened {
        connection: ConnectionId,
        /// Whether this side opened it.
        initiator: bool,
        stream: Stream,
    },
    /// A stream that was asked for did not open.
    Failed { peer: NetPeerId, connection: ConnectionId, error: OpenStreamError },
}

/// Why a stream did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenStreamError {
    #[error("the peer did not answer in time")]
    Timeout,
    #[error("the peer does not speak this protocol")]
    Unsupported,
    #[error("the connection broke: {0}")]
    Io(std::io::Error),
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this peer is blocked here")]
    Blocked,
    #[error("only Ed25519 identities are let in")]
    Identity,
    #[error("this is the peer itself")]
    Myself,
}

/// The behaviour.
pub(crate) struct Behaviour {
    me: NetPeerId,
    protocol: StreamProtocol,
    open_timeout: Duration,
    anew: bool,
    blocked: BTreeSet<NetPeerId>,
    queue: VecDeque<ToSwarm<SyncEvent, OpenStream>>,
}

/// Tells a handler to open its stream.
#[derive(Debug)]
pub(crate) struct OpenStream;

impl Behaviour {
    pub(crate) fn new(me: NetPeerId, protocol: StreamProtocol, open_timeout: Duration) -> Self {
        Self { me, protocol, open_timeout, anew: false, blocked: BTreeSet::new(), queue: VecDeque::new() }
    }

    /// A peer may open its stream once more: the newest one counts, whoever takes them drops the one before.
    #[cfg(feature = "coord")]
    pub(crate) fn anew(self) -> Self {
        Self { anew: true, ..self }
    }

    /// Opens the stream on a connection; answered by one [`SyncEvent`] unless the connection closes first.
    pub(crate) fn open(&mut self, peer: NetPeerId, connection: ConnectionId) {
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: OpenStream,
        });
    }

    /// Refuses connections with a peer from now on, or lets them in again. Whether that changed anything.
    pub(crate) fn set_blocked(&mut self, peer: NetPeerId, blocked: bool) -> bool {
        if blocked { self.blocked.insert(peer) } else { self.blocked.remove(&peer) }
    }

    pub(crate) fn is_blocked(&self, peer: &NetPeerId) -> bool {
        self.blocked.contains(peer)
    }

    fn admit(&self, peer: &NetPeerId) -> Result<Handler, ConnectionDenied> {
        let refused = if *peer == self.me {
            Refused::Myself
        } else if self.blocked.contains(peer) {
            Refused::Blocked
        } else if super::identity::from_net(peer).is_none() {
            Refused::Identity
        } else {
            return Ok(Handler {
                protocol: self.protocol.clone(),
                open_timeout: self.open_timeout,
                wanted: false,
                anew: self.anew,
                taken: false,
                ready: VecDeque::new(),
            });
        };
        Err(ConnectionDenied::new(refused))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = SyncEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NetPeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NetPeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: NetPeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            HandlerEvent::Opened { initiator, stream } => SyncEvent::Opened { connection, initiator, stream },
            HandlerEvent::Failed(error) => SyncEvent::Failed { peer, connection, error },
        };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    // The queue is filled either from inside the swarm's own poll, which polls this right after, or by `open`, whose
    // caller polls the swarm next: no waker is needed.
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The per-connection half.
pub(crate) struct Handler {
    protocol: StreamProtocol,
    open_timeout: Duration,
    /// An outbound stream was asked for and not yet requested.
    wanted: bool,
    /// The peer may open its stream once more.
    anew: bool,
    /// The peer has opened its one stream.
    taken: bool,
    ready: VecDeque<HandlerEvent>,
}

/// What the handler reports.
pub(crate) enum HandlerEvent {
    Opened { initiator: bool, stream: Stream },
    Failed(OpenStreamError),
}

impl fmt::Debug for HandlerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { initiator, .. } => f.debug_struct("Opened").field("initiator", initiator).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenStream;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ()).with_timeout(self.open_timeout)
    }

    // The connection polls its handler after every call of the two `on_` functions below: no waker is needed.
    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(event) = self.ready.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if std::mem::take(&mut self.wanted) {
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ()).with_timeout(self.open_timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, OpenStream: Self::FromBehaviour) {
        self.wanted = true;
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                // A second one is dropped, which resets it.
                let first = !std::mem::replace(&mut self.taken, true);
                self.ready.extend((first || self.anew).then_some(HandlerEvent::Opened { initiator: false, stream }));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                self.ready.push_back(HandlerEvent::Opened { initiator: true, stream });
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.ready.push_back(HandlerEvent::Failed(match error {
                    StreamUpgradeError::Timeout => OpenStreamError::Timeout,
                    StreamUpgradeError::NegotiationFailed => OpenStreamError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenStreamError::Io(error),
                    StreamUpgradeError::Apply(never) => unreachable_error(never),
                }));
            }
            _ => {}
        }
    }
}

fn unreachable_error(never: Infallible) -> OpenStreamError {
    match never {}
}
