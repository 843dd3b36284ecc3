//! A browser's transport: WebSocket, Noise, yamux. It dials and never listens.

use std::io;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, websocket_websys, yamux};

use super::Transport;

/// The browser's transport for one identity.
pub(crate) fn native(keypair: &Keypair) -> io::Result<Transport> {
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let streams = websocket_websys::Transport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(streams.boxed())
}

/// A page cannot listen.
pub(crate) fn check_free(_: &Multiaddr) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a browser cannot listen"))
}
