//! Keys and small rows of the store. Larger rows have their codec beside their type.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `format`, `device`, `peer`, `incarnation`, `seal`, `epoch`, `log-epoch` | see `boot` |
//! | meta | `space/` ‖ number u32 BE | [`SpaceRecord`] |
//! | meta | `cursor/` ‖ peer's log epoch u64 LE ‖ number u32 BE | arrival varint |
//! | meta | `peers` | the driver's address book, opaque here |
//! | meta | `vouched/` ‖ peer ‖ its log epoch u64 LE ‖ number u32 BE | [`crate::session::Vouched`] |
//! | meta | `set-aside/` ‖ number u32 BE | [`crate::session::Ranges`] |
//! | meta | `review/` ‖ number u32 BE | nothing: reviews of the space are to be made |
//! | facts | number u32 BE ‖ order u64 BE | the signed fact |
//! | index | number u32 BE ‖ path ‖ 0 ‖ generation u32 BE | [`super::index::Entry`] |
//! | chunks | document ‖ arrival u64 BE | a stored chunk, see [`crate::document`] |
//! | endorsements | document ‖ actor ‖ seq if single | an endorsement, see [`crate::trust`] |
//! | both | BLAKE3-derive("foreshore 1 set aside", document)[..16] ‖ … | the same, set aside, see `review` |
//! | roots | number u32 BE ‖ prefix | LtHash state, sketch, count |
//!
//! A path has no control character, so the zero byte ends it without changing the order.

use crate::id::{DocumentId, Path, PeerId, Prefix, Seed, SpaceId};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// The format that this version reads and writes.
pub const FORMAT: u64 = 1;

/// A space's number in one store's keys: shorter than its id by 28 bytes a row.
pub type SpaceNumber = u32;

/// Key of a space's record.
pub fn space(number: SpaceNumber) -> Vec<u8> {
    [b"space/".as_slice(), &number.to_be_bytes()].concat()
}

/// Key of the cursor into a peer's arrival log.
pub fn cursor(epoch: u64, number: SpaceNumber) -> Vec<u8> {
    [b"cursor/".as_slice(), &epoch.to_le_bytes(), &number.to_be_bytes()].concat()
}

/// Key of the driver's address book.
pub const PEERS: &[u8] = b"peers";

/// Beginning of the keys of what is proved of other stores' logs.
pub const VOUCHED: &[u8] = b"vouched/";

/// Key of what is proved of a log.
pub fn vouched(peer: &PeerId, epoch: u64, number: SpaceNumber) -> Vec<u8> {
    [VOUCHED, &peer.0, &epoch.to_le_bytes(), &number.to_be_bytes()].concat()
}

/// Peer, epoch and space number of such a key.
pub fn parse_vouched(key: &[u8]) -> Option<(PeerId, u64, SpaceNumber)> {
    let mut r = Reader::new(key.strip_prefix(VOUCHED)?);
    let (peer, epoch) = (PeerId(r.array("peer").ok()?), r.u64_le("epoch").ok()?);
    let number = u32::from_be_bytes(r.array("space number").ok()?);
    r.finish().ok()?;
    Some((peer, epoch, number))
}

/// Beginning of the keys of what was set aside.
pub const SET_ASIDE: &[u8] = b"set-aside/";

/// Key of the ranges in which something of a space was set aside.
pub fn set_aside(number: SpaceNumber) -> Vec<u8> {
    [SET_ASIDE, &number.to_be_bytes()].concat()
}

/// Key of the mark that reviews of a space are to be made.
pub fn review(number: SpaceNumber) -> Vec<u8> {
    [b"review/".as_slice(), &number.to_be_bytes()].concat()
}

/// Key of the `order`th fact that was admitted.
pub fn fact(number: SpaceNumber, order: u64) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), &order.to_be_bytes()].concat()
}

/// Key of an index row.
pub fn index(number: SpaceNumber, path: &Path, generation: u32) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), path.as_str().as_bytes(), &[0], &generation.to_be_bytes()].concat()
}

/// Space number, path and generation of an index row's key.
pub fn parse_index(key: &[u8]) -> Result<(SpaceNumber, Path, u32), DecodeError> {
    let mut r = Reader::new(key);
    let number = u32::from_be_bytes(r.array("space number")?);
    let path_len = r.remaining().checked_sub(5).ok_or(DecodeError::Truncated { field: "path" })?;
    let path = std::str::from_utf8(r.take(path_len, "path")?).ok().and_then(|text| Path::parse(text).ok());
    let path = path.ok_or(DecodeError::Invalid { field: "path" })?;
    if r.u8("separator")? != 0 {
        return Err(DecodeError::Invalid { field: "separator" });
    }
    Ok((number, path, u32::from_be_bytes(r.array("generation")?)))
}

/// Key of a stored chunk.
pub fn chunk(document: &DocumentId, arrival: u64) -> Vec<u8> {
    [document.0.as_slice(), &arrival.to_be_bytes()].concat()
}

/// The name under which what was taken out of a document lies in the tables `chunks` and `endorsements`.
pub fn aside(document: &DocumentId) -> DocumentId {
    let name = blake3::derive_key("foreshore 1 set aside", &document.0);
    DocumentId(*name.first_chunk().expect("32 bytes hold 16"))
}

/// The arrival number in a chunk's key.
pub fn parse_chunk(key: &[u8]) -> Option<u64> {
    key.get(16..).and_then(|tail| tail.try_into().ok()).map(u64::from_be_bytes)
}

/// First key after every key that begins with `document`.
pub fn after_document(document: &DocumentId) -> Option<Vec<u8>> {
    successor(&document.0)
}

/// Key of a domain's root.
pub fn root(number: SpaceNumber, prefix: &Prefix) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), prefix.as_str().as_bytes()].concat()
}

/// The least key greater than every key with this beginning; `None` if there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// What a store remembers of a space besides its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRecord {
    /// The space.
    pub id: SpaceId,
    /// The local name.
    pub name: String,
    /// Seed of the root key, where this store made the space.
    pub root_seed: Option<Seed>,
    /// What to replicate; `None`: all that may be read.
    pub interests: Option<Vec<Prefix>>,
    /// Addresses from the invitation.
    pub addresses: Vec<String>,
}

impl Codec for SpaceRecord {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.id.0).str(&self.name).option(self.root_seed.as_ref(), |w, seed| {
            w.array(&seed.0);
        });
        w.option(self.interests.as_ref(), |w, prefixes| {
            w.list(prefixes, |w, p| {
                w.str(p.as_str());
            });
        });
        w.list(&self.addresses, |w, a| {
            w.str(a);
        });
        w.extensions(&[]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let record = Self {
            id: SpaceId(r.array("space")?),
            name: r.str(64, "name")?.to_owned(),
            root_seed: r.option("root seed", |r| r.array("root seed").map(Seed))?,
            interests: r.option("interests", |r| {
                r.list(crate::wire::v1::MAX_PREFIXES, "interests", |r| {
                    Prefix::parse(r.str(Path::MAX_LEN, "prefix")?).map_err(|_| DecodeError::Invalid { field: "prefix" })
                })
            })?,
            addresses: r.list(64, "addresses", |r| Ok(r.str(512, "address")?.to_owned()))?,
        };
        r.extensions()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_keys_keep_path_order() {
        let paths = ["/a", "/a b", "/a/b", "/a/b/c", "/b"].map(|p| Path::parse(p).unwrap());
        let keys: Vec<_> = paths.iter().map(|p| index(3, p, 7)).collect();
        assert!(keys.is_sorted());
        assert_eq!(parse_index(&keys[2]).unwrap(), (3, paths[2].clone(), 7));
        assert!(parse_index(&[0; 6]).is_err());
    }

    #[test]
    fn successors_end_a_range() {
        assert_eq!(successor(&[1, 0xff]), Some(vec![2]));
        assert_eq!(successor(&[0xff]), None);
    }

    #[test]
    fn space_records_survive() {
        let record = SpaceRecord {
            id: SpaceId([1; 32]),
            name: "default".into(),
            root_seed: Some(Seed([2; 32])),
            interests: Some(vec![Prefix::root()]),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        };
        assert_eq!(SpaceRecord::from_bytes(&record.to_bytes()).unwrap(), record);
    }
}
