//! Documents in messages: what a peer has of one, and news of one.

use super::{MAX_HEADS, MAX_STATEMENT};
use crate::id::{ChangeHash, Path};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What a peer has of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHeads {
    /// Where.
    pub path: Path,
    /// The path's generation.
    pub generation: u32,
    /// Heads, sorted; empty: nothing.
    pub heads: Vec<ChangeHash>,
}

/// News of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentUpdate {
    /// Where.
    pub path: Path,
    /// The path's generation.
    pub generation: u32,
    /// Change chunks, in an order in which dependencies come first.
    pub chunks: Vec<Vec<u8>>,
    /// Endorsements that cover them, in the wire form of `trust`.
    pub endorsements: Vec<Vec<u8>>,
    /// Tombstones of this generation.
    pub tombstones: Vec<Vec<u8>>,
}

impl DocumentUpdate {
    /// Bytes on the wire, roughly and never too few.
    pub fn size(&self) -> usize {
        let parts = self.chunks.iter().chain(&self.endorsements).chain(&self.tombstones);
        self.path.as_str().len() + 16 + parts.map(|p| p.len() + 4).sum::<usize>()
    }
}

impl Codec for DocumentHeads {
    fn encode(&self, w: &mut Writer) {
        w.str(self.path.as_str()).varint(u64::from(self.generation));
        encode_hashes(w, &self.heads);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: decode_path(r)?, generation: decode_generation(r)?, heads: decode_hashes(r)? })
    }
}

impl DocumentUpdate {
    /// The same encoding in places that no frame bounds: portable copies.
    pub fn encode_unbounded(&self, w: &mut Writer) {
        self.encode(w);
    }

    /// Decodes where no frame bounds the parts; the input itself does.
    pub fn decode_unbounded(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_bounded(r, 1 << 30)
    }

    fn decode_bounded(r: &mut Reader<'_>, max: usize) -> Result<Self, DecodeError> {
        let (path, generation) = (decode_path(r)?, decode_generation(r)?);
        Ok(Self {
            path,
            generation,
            chunks: r.list(max, "chunks", |r| Ok(r.bytes(max, "chunk")?.to_vec()))?,
            endorsements: r.list(max, "endorsements", |r| Ok(r.bytes(MAX_STATEMENT, "endorsement")?.to_vec()))?,
            tombstones: r.list(16, "tombstones", |r| Ok(r.bytes(MAX_STATEMENT, "tombstone")?.to_vec()))?,
        })
    }
}

impl Codec for DocumentUpdate {
    fn encode(&self, w: &mut Writer) {
        w.str(self.path.as_str()).varint(u64::from(self.generation));
        for parts in [&self.chunks, &self.endorsements, &self.tombstones] {
            w.list(parts, |w, p| {
                w.bytes(p);
            });
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_bounded(r, crate::io::MAX_FRAME)
    }
}

pub(super) fn decode_path(r: &mut Reader<'_>) -> Result<Path, DecodeError> {
    Path::parse(r.str(Path::MAX_LEN, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })
}

pub(super) fn decode_generation(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(r.varint_max(u64::from(u32::MAX), "generation")? as u32)
}

pub(super) fn encode_hashes(w: &mut Writer, hashes: &[ChangeHash]) {
    w.list(hashes, |w, h| {
        w.array(&h.0);
    });
}

pub(super) fn decode_hashes(r: &mut Reader<'_>) -> Result<Vec<ChangeHash>, DecodeError> {
    r.list(MAX_HEADS, "hashes", |r| Ok(ChangeHash(r.array("hash")?)))
}
