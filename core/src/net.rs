//! The network driver: carries out what the pure [`Engine`](crate::engine::Engine) asks for, over libp2p.
//!
//! One task, the `driver`, owns the engine, the swarm and the links, and runs the loop that [`crate::io`] describes.
//! Around it: `transport` (comes from outside, so that a browser can bring its own), `sync` (one stream
//! `/foreshore/sync/1` a connection), `connections` (one connection a pair of peers), `link` and `frame` (bounded
//! reading and writing), `dial` (whom to dial, and when). Noise proves who a peer is; what it may do is the engine's
//! business, and nothing is said to it before the engine says it.
//!
//! **Invariants.** Frames of one link go in and out in order. Nothing here looks into a frame. Every queue has a bound
//! written beside it. Nothing but this module and [`crate::peer`] knows libp2p or tokio, and no type of either shows in
//! the public interface but for the runtime's handle.

mod address;
mod clock;
mod connections;
mod dial;
mod driver;
mod frame;
mod identity;
mod link;
mod runtime;
mod sync;
mod transport;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::address::{Address, AddressError};
pub(crate) use self::clock::Clock;
pub use self::dial::Backoff;
pub(crate) use self::driver::{Driver, Edit, Notice, Parts, Request, Sink, StartError};
pub use self::identity::peer_text;
pub(crate) use self::runtime::Runtime;
pub(crate) use self::transport::native;

/// A peer that takes nothing of what is written to it for this long is gone. Longer than a laptop's Wi-Fi roams.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is queued when a link is closed may take this long to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A store that does not answer for this long is closed without its seal: the next start begins a new incarnation, which
/// loses nothing. A supervisor kills after 10 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(7);

/// Configuration of the network side.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Addresses to listen on. Default: none.
    pub listen: Vec<Address>,
    /// Addresses of peers to stay connected to. Default: none.
    pub bootstrap: Vec<Address>,
    /// Waits between attempts to reach a peer.
    pub backoff: Backoff,
    /// Most connections at once. Default 256: each costs about 100 KiB of buffers, and up to the engine's link window
    /// of unprocessed data.
    pub max_connections: u32,
    /// Most connections that may be in their handshake at once, each way. Default 64.
    pub max_pending: u32,
    /// No new connection is let in while the process uses more than this. Default 2 GiB.
    pub max_memory: usize,
    /// How long a peer may take to open its sync stream. Default 10 s.
    pub open_timeout: Duration,
    /// A quiet peer is asked for a sign of life this often. Default 15 s; a dead link is noticed after about twice it.
    pub ping_interval: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            bootstrap: Vec::new(),
            backoff: Backoff::default(),
            max_connections: 256,
            max_pending: 64,
            max_memory: 2 << 30,
            open_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
        }
    }
}

/// Figures of the network side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetStatus {
    /// Addresses that peers can dial, each ending in this peer's id.
    pub listen: Vec<Address>,
    /// Connections, with and without a sync stream.
    pub connections: usize,
    /// Open sync streams.
    pub links: Vec<NetLink>,
    /// Connections refused since the start: over a limit, blocked, or not a peer of ours.
    pub refused: u64,
    /// Links closed since the start because the peer's bytes were not the protocol.
    pub violations: u64,
}

/// Figures of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetLink {
    /// The link, as in [`LinkStatus`](crate::engine::LinkStatus).
    pub link: crate::io::LinkId,
    /// Who is at its other end.
    pub peer: crate::id::PeerId,
    /// Where it is.
    pub address: Address,
    /// Whether this side dialled.
    pub dialled: bool,
    /// Bytes that wait to be written.
    pub queued: usize,
}
