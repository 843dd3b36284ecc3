//! The native transports: TCP, QUIC and WebSocket, Noise (TLS inside QUIC), yamux, and DNS where the system has it.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, dns, noise, quic, tcp, websocket, yamux};

use super::Transport;

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
