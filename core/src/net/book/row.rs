//! The book's row in the store: the peers that were met.
//!
//! ```text
//! row    version u8 (1) · list(≤ 128) peer
//! peer   id bytes(≤ 64) · met zigzag (ms since 1970) · spaces list(≤ 16) space[32] · proven list(≤ 4) address
//!        · said list(≤ 6) address · extensions
//! address   multiaddr bytes(≤ 256)
//! ```
//!
//! Of a newer version, or damaged, it is passed over: it is a cache, and the next one takes its place.

use libp2p::{Multiaddr, PeerId as NetPeerId};

use super::{Book, Known, MAX_AGE, MAX_PROVEN, MAX_SPACES, age};
use crate::id::SpaceId;
use crate::net::reach::Reach;
use crate::time::{Timestamp, WallTime};
use crate::trust::invitation::MAX_ADDRESS;
use crate::wire::v1::exchange::MAX_TOLD_ADDRESSES;
use crate::wire::{DecodeError, Reader, Writer};

/// Most peers of a row, the last met first. A row is written whole: at worst 300 KiB, as a rule 30.
pub(super) const MAX_KEPT: usize = 128;

/// Longest libp2p peer id in bytes; that of an Ed25519 key has 38.
const MAX_PEER: usize = 64;

const VERSION: u8 = 1;

struct Row {
    peer: NetPeerId,
    met: WallTime,
    spaces: Vec<SpaceId>,
    proven: Vec<Multiaddr>,
    said: Vec<Multiaddr>,
}

impl Book {
    /// The row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut met: Vec<_> = self.known.iter().filter_map(|(peer, known)| Some((known.met?, peer, known))).collect();
        met.retain(|(.., known)| !known.proven.is_empty() || !known.said.is_empty());
        met.sort_by_key(|(at, peer, _)| (std::cmp::Reverse(*at), **peer));
        met.truncate(MAX_KEPT);
        let mut w = Writer::new();
        w.u8(VERSION).list(&met, |w, (at, peer, known)| {
            let spaces: Vec<SpaceId> = known.spaces.iter().copied().collect();
            w.bytes(&peer.to_bytes()).zigzag(at.0).list(&spaces, |w, space| {
                w.array(&space.0);
            });
            for addresses in [&known.proven, &known.said] {
                w.list(addresses, |w, address| {
                    w.bytes(&address.to_vec());
                });
            }
            w.extensions(&[]);
        });
        w.finish()
    }

    /// Takes in a row, beside what is known already. Peers that were not met for too long are left out. `false`: the row
    /// does not read.
    pub(crate) fn restore(&mut self, bytes: &[u8], now: Timestamp, wall: WallTime) -> bool {
        let Ok(rows) = decode(bytes) else { return false };
        for row in rows.into_iter().filter(|row| row.peer != self.me && age(row.met, wall) < MAX_AGE) {
            self.serial += 1;
            let mut known = Known::new(Reach::at(now), self.serial);
            known.met = Some(row.met.min(wall));
            (known.proven, known.said) = (row.proven, row.said);
            known.spaces = row.spaces.into_iter().collect();
            self.known.entry(row.peer).or_insert(known);
        }
        true
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Row>, DecodeError> {
    let mut r = Reader::new(bytes);
    if r.u8("version")? != VERSION {
        return Err(DecodeError::Invalid { field: "version" });
    }
    let rows = r.list(MAX_KEPT, "peers", |r| {
        let peer = NetPeerId::from_bytes(r.bytes(MAX_PEER, "peer")?);
        let row = Row {
            peer: peer.map_err(|_| DecodeError::Invalid { field: "peer" })?,
            met: WallTime(r.zigzag("met")?),
            spaces: r.list(MAX_SPACES, "spaces", |r| Ok(SpaceId(r.array("space")?)))?,
            proven: decode_addresses(r, MAX_PROVEN)?,
            said: decode_addresses(r, MAX_TOLD_ADDRESSES)?,
        };
        r.extensions()?;
        Ok(row)
    })?;
    r.finish()?;
    Ok(rows)
}

fn decode_addresses(r: &mut Reader<'_>, max: usize) -> Result<Vec<Multiaddr>, DecodeError> {
    r.list(max, "addresses", |r| {
        let bytes = r.bytes(MAX_ADDRESS, "address")?.to_vec();
        Multiaddr::try_from(bytes).map_err(|_| DecodeError::Invalid { field: "address" })
    })
}
