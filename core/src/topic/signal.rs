//! Signals: one publication of one running peer at one path.
//!
//! ```text
//! signal     device 32 · peer 32 · incarnation u64 LE · seq varint · issue zigzag (ms since 1970) · path str
//!            · payload bytes(≤ 4 KiB) · signature 64
//!   signed, as "foreshore 1 topic signal": space 32 · everything above but the signature
//! stream tag BLAKE3-derive("foreshore 1 topic stream", device · peer · incarnation u64 LE · path)[..8]
//! ```

use std::sync::Arc;

use super::{MAX_PAYLOAD, MAX_SEQ, SIGNAL_CHARGE};
use crate::id::{DeviceId, Path, PeerId, SpaceId};
use crate::soft::OwnerId;
use crate::time::WallTime;
use crate::trust::DeviceKey;
use crate::trust::device::{Context, Signature, SignatureError, verify};
use crate::wire::{Codec, DecodeError, Reader, Writer};

const STREAM_CONTEXT: &str = "foreshore 1 topic stream";

/// Names a stream of one incarnation on a link. Two that share one (2³² attempts for a sender's own) at worst leave a tree
/// unmended; marks are kept by full names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamTag(pub [u8; 8]);

/// One publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Who published it.
    pub sender: OwnerId,
    /// The life of the sender that did.
    pub incarnation: u64,
    /// Numbers the incarnation's signals at the path, from 1, without gaps.
    pub seq: u64,
    /// When, by the sender's wall clock.
    pub issue: WallTime,
    /// Where.
    pub path: Path,
    /// What.
    pub payload: Arc<[u8]>,
    /// The device's signature.
    pub signature: Signature,
}

impl Signal {
    /// With the device's signature.
    pub fn signed(mut self, key: &DeviceKey, space: &SpaceId) -> Self {
        self.signature = key.sign(Context::TopicSignal, &self.signed_bytes(space));
        self
    }

    /// Checks the signature. About 85 µs.
    pub fn verify(&self, space: &SpaceId) -> Result<(), SignatureError> {
        verify(&self.sender.device, Context::TopicSignal, &self.signed_bytes(space), &self.signature)
    }

    /// The stream that it belongs to.
    pub fn tag(&self) -> StreamTag {
        stream_tag(&self.sender, self.incarnation, &self.path)
    }

    /// What it takes of a rate.
    pub(super) fn cost(&self) -> u64 {
        SIGNAL_CHARGE + (self.payload.len() + self.path.as_str().len()) as u64
    }

    fn encode_body(&self, w: &mut Writer) {
        w.array(&self.sender.device.0).array(&self.sender.peer.0).u64_le(self.incarnation).varint(self.seq);
        w.zigzag(self.issue.0).str(self.path.as_str()).bytes(&self.payload);
    }

    fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0);
        self.encode_body(&mut w);
        w.finish()
    }
}

/// The tag of a stream.
pub(super) fn stream_tag(sender: &OwnerId, incarnation: u64, path: &Path) -> StreamTag {
    let mut hasher = blake3::Hasher::new_derive_key(STREAM_CONTEXT);
    hasher.update(&sender.device.0).update(&sender.peer.0).update(&incarnation.to_le_bytes());
    hasher.update(path.as_str().as_bytes());
    StreamTag(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8"))
}

impl Codec for Signal {
    fn encode(&self, w: &mut Writer) {
        self.encode_body(w);
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sender = OwnerId { device: DeviceId(r.array("device")?), peer: PeerId(r.array("peer")?) };
        let (incarnation, seq) = (r.u64_le("incarnation")?, r.varint_max(MAX_SEQ, "seq")?);
        if seq == 0 {
            return Err(DecodeError::Invalid { field: "seq" });
        }
        let issue = WallTime(r.zigzag("issue")?);
        let path = Path::parse(r.str(Path::MAX_LEN, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })?;
        let payload = r.bytes(MAX_PAYLOAD, "payload")?.into();
        Ok(Self { sender, incarnation, seq, issue, path, payload, signature: Signature::decode(r)? })
    }
}
