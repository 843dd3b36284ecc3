//! What one peer, and one address, may take of this one.
//!
//! | over the limit | what happens |
//! |---|---|
//! | connections and handshakes of one address, by peers that have not proved to be members | the connection is refused |
//! | handshakes of one address at once | the connection is refused before it costs a key exchange |
//! | bytes and frames a second of one link | reading pauses: the peer's own flow control stops it |
//! | malformed input | the link is closed, and counts against the peer |
//! | too much of that | connections with the peer are refused until the count has decayed |
//!
//! **Who is punished.** Counts against a peer are kept by its proved identity, never by its address. Limits of an address
//! bind strangers alone: a peer that proved to be a member, now or before, passes them, however many others share its
//! router or proxy. Whoever stands behind a proxy that this peer trusts has no address here.

use std::net::IpAddr;
use std::time::Duration;

use crate::topic::Rate;

/// Limits of a peer and of an address. Each has a default for a peer on the open Internet.
#[derive(Debug, Clone)]
pub struct PeerLimits {
    /// Connections that one address may have here at once without a proof of membership. Default 32: an office that joins
    /// together. An address is an IPv4 address or an IPv6 network of 64 bits.
    pub connections_per_address: u32,
    /// Connections that one address may begin without a proof of membership. Default 64 at once and 4 a second. Fewer slows
    /// a crowd that joins from one address, more lets one machine make this one exchange keys: each costs about 0.2 ms.
    pub handshakes_per_address: Rate,
    /// Handshakes that one address may have under way. Default 16 of
    /// [`NetConfig::max_pending`](super::NetConfig::max_pending), so that one that never finishes them leaves room.
    pub pending_per_address: u32,
    /// Bytes that are read of one link. Default 64 MiB a second and 64 MiB at once: above what a store takes in, so that
    /// only a flood is slowed.
    pub bytes: Rate,
    /// Frames that are read of one link. Default 20,000 a second and 40,000 at once.
    pub frames: Rate,
    /// Violations after which connections with a peer are refused. Default 4. Fewer shuts out a peer with a bug sooner; one
    /// whose release is too old or new is told so and does not count.
    pub violations: u32,
    /// In which a count of violations halves. Default 10 min. Longer costs a liar more, and an honest peer that was updated.
    pub forgiven_in: Duration,
    /// Addresses behind which many peers stand: reverse proxies, tunnels. Limits of an address do not bind there, so a proxy
    /// has to have its own. Default 127.0.0.1 and ::1.
    pub trusted: Vec<IpAddr>,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            connections_per_address: 32,
            handshakes_per_address: Rate { per_second: 4, burst: 64 },
            pending_per_address: 16,
            bytes: Rate { per_second: 64 << 20, burst: 64 << 20 },
            frames: Rate { per_second: 20_000, burst: 40_000 },
            violations: 4,
            forgiven_in: Duration::from_secs(600),
            trusted: vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)],
        }
    }
}
