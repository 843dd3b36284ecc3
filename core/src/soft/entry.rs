//! Entries: one write of one owner at one path.
//!
//! ```text
//! entry      version varint · path str · option (value bytes) · signature 64
//!   signed, as "foreshore 1 soft entry": space 32 · peer 32 · incarnation u64 LE · version varint · path str ·
//!   option (value bytes)
//! ```
//!
//! No value: the owner deleted what was there. Space, peer and incarnation are known from the lease that it comes with;
//! the device is the signature's key.

use std::sync::Arc;

use super::MAX_VALUE;
use super::lease::OwnerId;
use crate::id::{Path, Prefix, SpaceId};
use crate::trust::DeviceKey;
use crate::trust::device::{Context, Signature, SignatureError, verify};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// One write of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftEntry {
    /// Numbers the writes of an incarnation, from 1, without gaps.
    pub version: u64,
    /// Where.
    pub path: Path,
    /// What; `None`: deleted.
    pub value: Option<Arc<[u8]>>,
    /// The device's signature.
    pub signature: Signature,
}

impl SoftEntry {
    pub(super) fn sign(
        key: &DeviceKey,
        (space, owner, incarnation): (&SpaceId, &OwnerId, u64),
        version: u64,
        path: Path,
        value: Option<Arc<[u8]>>,
    ) -> Self {
        let mut entry = Self { version, path, value, signature: Signature([0; 64]) };
        entry.signature = key.sign(Context::SoftEntry, &entry.signed_bytes(space, owner, incarnation));
        entry
    }

    /// Checks the signature. About 85 µs.
    pub fn verify(&self, space: &SpaceId, owner: &OwnerId, incarnation: u64) -> Result<(), SignatureError> {
        verify(&owner.device, Context::SoftEntry, &self.signed_bytes(space, owner, incarnation), &self.signature)
    }

    /// What this write adds to a checksum.
    pub(super) fn mark(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.version.to_le_bytes()).update(self.path.as_str().as_bytes());
        u32::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 4"))
    }

    /// Bytes that count against the bounds.
    pub(super) fn weight(&self) -> usize {
        self.path.as_str().len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    /// Bytes on the wire, never too few.
    pub(super) fn size(&self) -> usize {
        self.weight() + 64 + 16
    }

    fn encode_body(&self, w: &mut Writer) {
        w.varint(self.version).str(self.path.as_str()).option(self.value.as_ref(), |w, value| {
            w.bytes(value);
        });
    }

    fn signed_bytes(&self, space: &SpaceId, owner: &OwnerId, incarnation: u64) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0).array(&owner.peer.0).u64_le(incarnation);
        self.encode_body(&mut w);
        w.finish()
    }
}

/// Names a path in a comparison.
pub(super) fn path_hash(path: &Path) -> u64 {
    u64::from_le_bytes(*blake3::hash(path.as_str().as_bytes()).as_bytes().first_chunk().expect("32 bytes hold 8"))
}

/// Whether a path lies under one of the prefixes.
pub(super) fn covered(prefixes: &[Prefix], path: &Path) -> bool {
    prefixes.iter().any(|prefix| prefix.covers(path))
}

impl Codec for SoftEntry {
    fn encode(&self, w: &mut Writer) {
        self.encode_body(w);
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = r.varint("version")?;
        let path = Path::parse(r.str(Path::MAX_LEN, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })?;
        let value = r.option("value", |r| Ok(r.bytes(MAX_VALUE, "value")?.into()))?;
        Ok(Self { version, path, value, signature: Signature::decode(r)? })
    }
}
