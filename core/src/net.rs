//! The network driver: carries out what the pure [`Engine`](crate::engine::Engine) asks for, over libp2p.
//!
//! One task, the `driver`, owns the engine, the swarm and the links, and runs the loop that [`crate::io`] describes.
//! Around it: `transport` (comes from outside, so that a browser can bring its own), `sync` (one stream
//! `/foreshore/sync/1` a connection), `connections` (one connection a pair of peers), `link` and `frame` (bounded
//! reading and writing), `dial` (configured peers), `book` (peers that were met or heard of), `reach` (when to dial again),
//! `relay` (circuits), `route` (what an address says), `limits`, `gate` and `score` (what one peer and one address may take). Noise proves who a peer is; what it may do is the engine's
//! business, and nothing is said to it before the engine says it.
//!
//! **Invariants.** Frames of one link go in and out in order. Nothing here looks into a frame. Every queue has a bound
//! written beside it. Nothing but this module and [`crate::peer`] knows libp2p or tokio, and no type of either shows in
//! the public interface but for the runtime's handle.

mod address;
mod book;
mod clock;
mod connections;
mod dial;
mod driver;
mod frame;
#[cfg(feature = "sim")]
pub(crate) mod fuzz;
mod gate;
mod identity;
#[cfg(feature = "sim")]
pub(crate) mod liar;
mod limits;
mod link;
mod quiet;
mod reach;
mod relay;
mod route;
mod runtime;
mod score;
mod sync;
mod transport;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::address::invited;
pub use self::address::{Address, AddressError};
pub use self::book::Standing;
pub(crate) use self::clock::Clock;
#[cfg(feature = "sim")]
pub(crate) use self::driver::Machine;
pub(crate) use self::driver::{Driver, Edit, Notice, Parts, Request, Sink, StartError};
pub use self::identity::peer_text;
#[cfg(feature = "sim")]
pub use self::liar::{Lies, LyingSets};
pub use self::limits::PeerLimits;
pub use self::reach::Backoff;
pub use self::relay::RelayLimits;
pub(crate) use self::relay::is_relay;
pub(crate) use self::runtime::Runtime;
pub(crate) use self::transport::native;

/// A peer that takes nothing of what is written to it for this long is gone. Longer than a laptop's Wi-Fi roams.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is queued when a link is closed may take this long to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A store that does not answer for this long is closed without its seal: the next start begins a new incarnation, which
/// loses nothing. A supervisor kills after 10 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(7);

/// Members that this peer links with on its own, beside those that are configured: below it, known peers are dialled; above
/// it, only who dials here is linked. A full mesh up to a dozen costs little, and any larger set is connected by far
/// fewer.
pub const MAX_DIALLED: usize = 12;

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
    /// Known members are dialled while fewer than this many are linked, where the engine does not choose
    /// ([`EngineConfig::overlay`](crate::config::EngineConfig::overlay)). Default [`MAX_DIALLED`]; 0 leaves the choice to who
    /// calls [`Peer::dial_peer`](crate::peer::Peer::dial_peer), also where the engine would choose.
    pub max_dialled: usize,
    /// Whether members tell each other where members are. Default true. Without it, only configured peers, invitations, the
    /// local network and earlier links lead to others.
    pub peer_exchange: bool,
    /// Whether peers are looked for on the local network by multicast DNS. Default false. It shows everybody there that
    /// this peer runs, its id and its addresses, and nothing of its spaces.
    pub mdns: bool,
    /// Whether this peer is a circuit relay for others, and its limits. Default none. Whoever reaches it may use it.
    pub relay: Option<RelayLimits>,
    /// Relays to be reachable through, each ending in `/p2p/` and the relay's id. At most 4. Default none.
    pub relays: Vec<Address>,
    /// Addresses at which this peer is reached though it does not listen on them: of a router that forwards, of a load
    /// balancer. They are told to members and in invitations. Default none.
    pub advertise: Vec<Address>,
    /// A quiet peer is asked for a sign of life this often. Default 15 s; a dead link is noticed after about twice it.
    pub ping_interval: Duration,
    /// What one peer, and one address, may take.
    pub limits: PeerLimits,
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
            max_dialled: MAX_DIALLED,
            peer_exchange: true,
            mdns: false,
            relay: None,
            relays: Vec::new(),
            advertise: Vec::new(),
            ping_interval: Duration::from_secs(15),
            limits: PeerLimits::default(),
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
    /// Peers in the address book.
    pub known: usize,
    /// Reservations at relays that stand.
    pub reservations: usize,
    /// Whether it is a circuit relay for others.
    pub serves_relay: bool,
    /// Connections refused since the start: over a limit, blocked, or not a peer of ours.
    pub refused: u64,
    /// Links closed since the start because the peer's bytes were not the protocol.
    pub violations: u64,
    /// Peers that are shut out at present for what they did.
    pub shunned: usize,
    /// Times since the start that reading of a link paused, since its peer sent more than it may.
    pub throttled: u64,
}

/// A peer that was met, found or heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// The peer.
    pub peer: crate::id::PeerId,
    /// How well it is known.
    pub standing: Standing,
    /// Spaces of which it proved to be a member.
    pub spaces: Vec<crate::id::SpaceId>,
    /// Where it may be, the best first.
    pub addresses: Vec<Address>,
    /// Whether a link to it is open.
    pub linked: bool,
    /// When it was last met.
    pub met: Option<crate::time::WallTime>,
    /// Attempts to reach it that failed since the last one that did not.
    pub failures: u32,
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
    /// Whether it goes through a relay.
    pub relayed: bool,
    /// Bytes that wait to be written.
    pub queued: usize,
    /// What the last sign of life took, there and back; none has come yet: `None`. Asked for every
    /// [`NetConfig::ping_interval`].
    pub rtt: Option<Duration>,
}
