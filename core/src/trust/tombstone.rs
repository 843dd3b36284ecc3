//! Signed deletions. They stand outside the fact chains and live in the domain of their path, so that whoever replicates a
//! path learns its deletions and nobody else's.
//!
//! ```text
//! tombstone
//!   device       32   who deleted
//!   path              varint length, then the path
//!   generation        varint, at most 2³² - 1
//!   heads             varint count (≤ 64), then 32 each, strictly ascending: what the deleter saw
//!   signature    64   over "foreshore 1 tombstone": space 32 · everything above
//! ```
//!
//! About 150 bytes for a short path with one head. The hash is BLAKE3 over all of it. Whoever receives one recomputes the
//! document's id from path and generation, so domain and right can be checked without the document. A tombstone covers
//! its heads for session tokens; of several for one generation, the union counts.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::id::{ChangeHash, DeviceId, DocumentId, Path, SpaceId};
use crate::trust::device::{Context, DeviceKey, Signature, verify};
use crate::trust::roster::{Refusal, Roster};
use crate::trust::statement::ascending;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most heads a tombstone names. A document with more is merged by a change before it is deleted.
pub const MAX_TOMBSTONE_HEADS: usize = 64;

/// Largest encoded tombstone.
pub const MAX_TOMBSTONE: usize = 32 + 2 + Path::MAX_LEN + 5 + 1 + 32 * MAX_TOMBSTONE_HEADS + 64;

/// The BLAKE3 hash of a tombstone's bytes, signature included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TombstoneHash(pub [u8; 32]);

/// Why a tombstone is not made or not accepted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TombstoneError {
    /// More heads than a tombstone names.
    #[error("the document has {heads} heads, a tombstone names at most {MAX_TOMBSTONE_HEADS}: merge them first")]
    TooManyHeads {
        /// How many there are.
        heads: usize,
    },
    /// Its signer may not write the path, as far as the roster knows.
    #[error("the device may not write {path}")]
    NotAWriter {
        /// The path.
        path: Path,
    },
    /// Its signer was revoked, and this is not among what was kept of it.
    #[error("the device that deleted {path} was revoked")]
    Revoked {
        /// The path.
        path: Path,
    },
    /// Its signature does not hold.
    #[error("the tombstone's signature does not hold")]
    Signature,
}

/// The signed statement that one generation of a path is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    device: DeviceId,
    path: Path,
    generation: u32,
    heads: Vec<ChangeHash>,
    signature: Signature,
}

impl Tombstone {
    /// Signs a deletion. The heads may come in any order; none means a path that nobody had written.
    pub fn sign(
        key: &DeviceKey,
        space: &SpaceId,
        path: Path,
        generation: u32,
        heads: impl IntoIterator<Item = ChangeHash>,
    ) -> Result<Self, TombstoneError> {
        let heads: Vec<ChangeHash> = heads.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        if heads.len() > MAX_TOMBSTONE_HEADS {
            return Err(TombstoneError::TooManyHeads { heads: heads.len() });
        }
        let mut tombstone = Self { device: key.device(), path, generation, heads, signature: Signature([0; 64]) };
        tombstone.signature = key.sign(Context::Tombstone, &tombstone.signed_bytes(space));
        Ok(tombstone)
    }

    /// Checks the signature and that its signer may write the path. The right is looked up first, since it is cheaper.
    pub fn verify(&self, space: &SpaceId, roster: &Roster) -> Result<(), TombstoneError> {
        roster.deletes(self).map_err(|refusal| match refusal {
            Refusal::Revoked { .. } => TombstoneError::Revoked { path: self.path.clone() },
            Refusal::NotAWriter { .. } => TombstoneError::NotAWriter { path: self.path.clone() },
        })?;
        let signed = self.signed_bytes(space);
        verify(&self.device, Context::Tombstone, &signed, &self.signature).map_err(|_| TombstoneError::Signature)
    }

    /// Who deleted.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// What was deleted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which generation of it.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the deleter saw, ascending.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// The document that it deletes.
    pub fn document(&self, space: &SpaceId) -> DocumentId {
        DocumentId::derive(space, &self.path, self.generation)
    }

    /// The hash that names it.
    pub fn hash(&self) -> TombstoneHash {
        TombstoneHash(*blake3::hash(&self.to_bytes()).as_bytes())
    }

    fn encode_unsigned(&self, w: &mut Writer) {
        w.array(&self.device.0).str(self.path.as_str()).varint(u64::from(self.generation));
        w.list(&self.heads, |w, head| {
            w.array(&head.0);
        });
    }

    fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0);
        self.encode_unsigned(&mut w);
        w.finish()
    }
}

/// What several tombstones of one generation cover together, ascending.
pub fn covered_heads<'a>(tombstones: impl IntoIterator<Item = &'a Tombstone>) -> Vec<ChangeHash> {
    let heads: BTreeSet<ChangeHash> =
        tombstones.into_iter().flat_map(|tombstone| tombstone.heads.iter().copied()).collect();
    heads.into_iter().collect()
}

impl Codec for Tombstone {
    fn encode(&self, w: &mut Writer) {
        self.encode_unsigned(w);
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let device = DeviceId(r.array("tombstone device")?);
        let path = r.str(Path::MAX_LEN, "tombstone path")?;
        let path = Path::parse(path).map_err(|_| DecodeError::Invalid { field: "tombstone path" })?;
        let generation = r.varint_max(u64::from(u32::MAX), "generation")? as u32;
        let heads = r.list(MAX_TOMBSTONE_HEADS, "tombstone heads", |r| r.array("tombstone head").map(ChangeHash))?;
        ascending(&heads, "tombstone heads")?;
        Ok(Self { device, path, generation, heads, signature: Signature::decode(r)? })
    }
}
