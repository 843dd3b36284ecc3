//! The native transports: TCP, QUIC and WebSocket, Noise (TLS inside QUIC), yamux, and DNS where the system has it.
//!
//! A transport comes to the driver from outside as a [`Boxed`] one, so that a browser's worker can bring its own.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId as NetPeerId, dns, noise, quic, relay, tcp, websocket, yamux};

/// How long a connection may take to stand, encryption included. A SYN that nobody answers would take the system two
/// minutes to give up; a slow handshake on a bad line takes a few seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What the driver needs of a transport.
pub(crate) type Transport = Boxed<(NetPeerId, StreamMuxerBox)>;

/// Every native transport for one identity. Call it inside the runtime that will drive it.
pub(crate) fn native(keypair: &Keypair) -> io::Result<Transport> {
    install_crypto();
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    // A keystroke is one small frame: waiting for more (Nagle) would cost 40 ms.
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let streams = tcp()
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = streams.or_transport(quic).map(|either, _| either.into_inner());
    // WebSocket goes first: its addresses begin like TCP's, and TCP would take `/tcp/1/ws` for `/tcp/1`.
    if dns::tokio::Transport::system(()).is_ok() {
        let ws = websocket::Config::new(dns::tokio::Transport::system(tcp())?)
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let both = dns::tokio::Transport::system(both)?;
        return Ok(ws.or_transport(both).map(|either, _| either.into_inner()).boxed());
    }
    tracing::info!("no resolver configuration on this system: addresses with names cannot be dialled");
    let ws = websocket::Config::new(tcp())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(ws.or_transport(both).map(|either, _| either.into_inner()).boxed())
}

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

/// Whether an address can be listened on. libp2p's TCP listeners share their port (`SO_REUSEPORT`, for hole punching), so
/// that two peers on one port would take turns in silence; this finds out first.
pub(crate) fn check_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Fixes the process's TLS provider: with two compiled in, the first handshake panics inside a task.
fn install_crypto() {
    // An error says that the program has installed one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
