//! A browser's transport: WebSocket, Noise, yamux. It dials and never listens.

use std::io;
use std::time::Duration;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, websocket_websys, yamux};

use super::Transport;

/// A socket that neither opens nor fails for this long is given up; a browser itself may wait for minutes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The browser's transport for one identity.
pub(crate) fn native(keypair: &Keypair) -> io::Result<Transport> {
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let streams = websocket_websys::Transport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(DIAL_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(streams.boxed())
}

/// A page cannot listen.
pub(crate) fn check_free(_: &Multiaddr) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a browser cannot listen"))
}
