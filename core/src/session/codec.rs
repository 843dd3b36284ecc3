//! The bytes and the text of a bookmark.
//!
//! ```text
//! text     "fsb1" · bytes in bech32's alphabet, all lower or all upper case
//!
//! bytes
//!   version       varint   1
//!   space             32
//!   hint              option 32   a peer that has all of it
//!   documents         varint count (≤ 64), ascending: path str · generation varint · flags u8 (bit 0: deleted)
//!                     · heads list(≤ 16) 32, ascending
//!   points            varint count (≤ 16), ascending: peer 32 · epoch u64 · prefix str · seq varint
//!   extensions        varint count (≤ 16), tags ascending: tag varint · bytes(≤ 4 KiB); 1: soft state seen
//!   checksum           4   BLAKE3-derive("foreshore 1 bookmark checksum", everything above)[..4]
//! ```
//!
//! One document of one head and a short path: about 120 bytes, 200 characters. bech32's own checksum is not used, since it
//! only vouches for 1,023 characters. Another version is refused, since what it asks for would be passed over; an unknown
//! extension asks for nothing that documents and points promise, so it is kept and passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Bookmark, BookmarkError, MAX_BOOKMARK, MAX_DOCUMENTS, MAX_HEADS, MAX_POINTS, Seen};
use crate::id::{ChangeHash, Path, PeerId, Prefix, SpaceId};
use crate::wire::{DecodeError, Reader, Writer};

/// Human-readable prefix of the text.
const HRP: bech32::Hrp = bech32::Hrp::parse_unchecked("fsb");

/// Version of the bytes.
const VERSION: u64 = 1;

/// Context of the checksum.
const CHECKSUM_CONTEXT: &str = "foreshore 1 bookmark checksum";

/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

/// Longest text in characters: eight fifths of the bytes and the prefix.
const MAX_TEXT: usize = MAX_BOOKMARK / 5 * 8 + 16;

impl Bookmark {
    /// The bookmark as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.varint(VERSION).array(&self.space.0).option(self.hint.as_ref(), |w, peer| {
            w.array(&peer.0);
        });
        w.varint(self.documents.len() as u64);
        for ((path, generation), seen) in &self.documents {
            w.str(path.as_str()).varint(u64::from(*generation)).u8(u8::from(seen.deleted));
            w.varint(seen.heads.len() as u64);
            for head in &seen.heads {
                w.array(&head.0);
            }
        }
        w.varint(self.points.len() as u64);
        for ((peer, epoch, prefix), seq) in &self.points {
            w.array(&peer.0).u64_le(*epoch).str(prefix.as_str()).varint(*seq);
        }
        let extensions: Vec<(u64, &[u8])> = self.extensions.iter().map(|(tag, bytes)| (*tag, &**bytes)).collect();
        w.extensions(&extensions);
        let mut bytes = w.finish();
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads bytes. They have one form only: what is read is written as the same bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BookmarkError> {
        if bytes.len() > MAX_BOOKMARK {
            return Err(BookmarkError::Malformed { what: "it is too long" });
        }
        let at = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(BookmarkError::Damaged)?;
        let (payload, sum) = bytes.split_at(at);
        if checksum(payload) != sum {
            return Err(BookmarkError::Damaged);
        }
        let mut r = Reader::new(payload);
        match r.varint("version")? {
            VERSION => {}
            0 => return Err(BookmarkError::Malformed { what: "version" }),
            got => return Err(BookmarkError::Newer { got, supported: VERSION }),
        }
        let bookmark = Self {
            space: SpaceId(r.array("space")?),
            hint: r.option("hint", |r| r.array("hint"))?.map(PeerId),
            documents: ascending(r.list(MAX_DOCUMENTS, "documents", read_document)?, "documents")?,
            points: ascending(r.list(MAX_POINTS, "points", read_point)?, "points")?,
            extensions: ascending(
                r.extensions()?.into_iter().map(|(tag, bytes)| (tag, bytes.to_vec())).collect(),
                "extensions",
            )?,
        };
        r.finish()?;
        Ok(bookmark)
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = blake3::derive_key(CHECKSUM_CONTEXT, payload);
    *hash.first_chunk().expect("four of 32 bytes")
}

fn read_document(r: &mut Reader<'_>) -> Result<((Path, u32), Seen), DecodeError> {
    let path = Path::parse(r.str(Path::MAX_LEN, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })?;
    let generation = r.varint_max(u64::from(u32::MAX), "generation")? as u32;
    let deleted = match r.u8("flags")? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Invalid { field: "flags" }),
    };
    let heads = r.list(MAX_HEADS, "heads", |r| Ok(ChangeHash(r.array("head")?)))?;
    if !heads.is_sorted_by(|a, b| a < b) || (heads.is_empty() && !deleted) {
        return Err(DecodeError::Invalid { field: "heads" });
    }
    Ok(((path, generation), Seen { heads: BTreeSet::from_iter(heads), deleted }))
}

fn read_point(r: &mut Reader<'_>) -> Result<((PeerId, u64, Prefix), u64), DecodeError> {
    let (peer, epoch) = (PeerId(r.array("peer")?), r.u64_le("epoch")?);
    let prefix = r.str(Path::MAX_LEN, "prefix")?;
    let prefix = Prefix::parse(prefix).map_err(|_| DecodeError::Invalid { field: "prefix" })?;
    Ok(((peer, epoch, prefix), r.varint("seq")?))
}

/// A map of entries that come in strictly ascending order.
fn ascending<K: Ord, V>(entries: Vec<(K, V)>, field: &'static str) -> Result<BTreeMap<K, V>, DecodeError> {
    if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(DecodeError::Invalid { field });
    }
    Ok(entries.into_iter().collect())
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<bech32::NoChecksum, _>(f, HRP, &self.to_bytes()).map_err(|_| fmt::Error)
    }
}

impl FromStr for Bookmark {
    type Err = BookmarkError;

    fn from_str(text: &str) -> Result<Self, BookmarkError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(BookmarkError::Malformed { what: "it is too long" });
        }
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::NoChecksum>(text);
        let parsed = parsed.ok().filter(|parsed| parsed.hrp() == HRP);
        let parsed = parsed.ok_or(BookmarkError::Malformed { what: "it does not read fsb1…" })?;
        let bookmark = Self::from_bytes(&parsed.byte_iter().collect::<Vec<u8>>())?;
        // The last letter may carry bits of no byte: one of them altered is damage too, and a value has one encoding.
        if !bookmark.to_string().eq_ignore_ascii_case(text) {
            return Err(BookmarkError::Malformed { what: "its last letter is not what was written" });
        }
        Ok(bookmark)
    }
}
