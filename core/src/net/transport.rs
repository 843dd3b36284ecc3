//! How bytes get to other peers. A transport comes to the driver from outside as a [`Boxed`] one: TCP, QUIC and WebSocket
//! natively, WebSocket in a browser.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use std::io;
use std::time::Duration;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId as NetPeerId, noise, relay, yamux};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::{check_free, native};
#[cfg(target_arch = "wasm32")]
pub(crate) use self::web::{check_free, native};

/// How long a connection may take to stand, encryption included. A SYN that nobody answers would take the system two
/// minutes to give up, and a browser as long; a slow handshake on a bad line takes a few seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What the driver needs of a transport.
pub(crate) type Transport = Boxed<(NetPeerId, StreamMuxerBox)>;

/// Circuits over relays beside direct connections, and a limit on how long either may take to stand.
///
/// Circuits go first: their addresses begin like a direct one to the relay.
pub(crate) fn with_circuits(
    keypair: &Keypair,
    direct: Transport,
    circuits: relay::client::Transport,
) -> io::Result<Transport> {
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(io::Error::other)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = circuits.or_transport(direct).map(|either, _| either.into_inner());
    Ok(TransportTimeout::new(both, CONNECT_TIMEOUT).boxed())
}
