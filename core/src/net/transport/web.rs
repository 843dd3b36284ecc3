//! A browser's transport: WebSocket, Noise, yamux; and memory, between peers of one page, which is for tests. It dials, and
//! listens only in memory.

use std::io;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, noise, websocket_websys, yamux};

use super::{Transport, alike};

/// The browser's transport for one identity.
pub(crate) fn native(keypair: &Keypair) -> io::Result<Transport> {
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let streams = alike(websocket_websys::Transport::default())
        .or_transport(alike(MemoryTransport::default()))
        .map(|either, _| either.into_inner())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(streams.boxed())
}

/// A page cannot listen but in memory.
pub(crate) fn check_free(address: &Multiaddr) -> io::Result<()> {
    match address.iter().next() {
        Some(Protocol::Memory(_)) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "a browser cannot listen")),
    }
}
