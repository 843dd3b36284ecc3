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
    #[cfg(target_arch = "wasm32")]
    let circuits = alike(circuits);
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(io::Error::other)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = circuits.or_transport(direct).map(|either, _| either.into_inner());
    Ok(TransportTimeout::new(both, CONNECT_TIMEOUT).boxed())
}

/// A stream of bytes, whatever carries it.
#[cfg(target_arch = "wasm32")]
pub(crate) trait Duplex: futures::AsyncRead + futures::AsyncWrite + Send + Unpin {}

#[cfg(target_arch = "wasm32")]
impl<S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin> Duplex for S {}

/// The transport with streams of one type. Encryption and multiplexing are compiled once then, not once a transport, which
/// is a tenth of what a page downloads; the call through a table costs nothing beside the encryption.
#[cfg(target_arch = "wasm32")]
fn alike<T>(
    transport: T,
) -> libp2p::core::transport::map::Map<T, impl FnOnce(T::Output, libp2p::core::ConnectedPoint) -> Box<dyn Duplex> + Clone>
where
    T: libp2p::core::Transport,
    T::Output: Duplex + 'static,
{
    transport.map(|stream, _| -> Box<dyn Duplex> { Box::new(stream) })
}
