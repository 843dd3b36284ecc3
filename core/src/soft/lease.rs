//! Leases and their owners.
//!
//! ```text
//! owner tag  8   BLAKE3-derive("foreshore 1 soft owner", device 32 · peer 32)[..8]
//!
//! lease
//!   device 32 · peer 32 · incarnation u64 LE · seq varint · floor varint · ttl varint (ms) · period varint (ms)
//!   issue zigzag (ms since 1970) · anchor 16 · count u8 · signature 64
//!   signed, as "foreshore 1 soft lease": space 32 · everything above but the signature
//! ```
//!
//! `count` is the number of renewals that may follow; a lease with none is a *release*: its owner is gone, and its floor
//! ends all its entries. Leases of an owner are ordered by `(incarnation, seq, anchor)`.

use std::time::Duration;

use super::chain::{Preimage, Salt, leads};
use super::{MAX_RENEWALS, MIN_PERIOD, TTL_RANGE};
use crate::id::{DeviceId, PeerId, SpaceId};
use crate::time::WallTime;
use crate::trust::DeviceKey;
use crate::trust::device::{Context, Signature, SignatureError, verify};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Context of [`OwnerId::tag`].
const OWNER_CONTEXT: &str = "foreshore 1 soft owner";

/// Who owns soft state: a running peer, for which its device signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId {
    /// The device whose key signs.
    pub device: DeviceId,
    /// The running peer.
    pub peer: PeerId,
}

/// Names an owner in few bytes. Grinding a key that has another's tag takes 2⁶⁴ attempts; then the first one known stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerTag(pub [u8; 8]);

/// In the order of the bytes, compared as one number: maps by owner are looked up several times a renewal.
impl Ord for OwnerTag {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        u64::from_be_bytes(self.0).cmp(&u64::from_be_bytes(other.0))
    }
}

impl PartialOrd for OwnerTag {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl OwnerId {
    /// Its short name.
    pub fn tag(&self) -> OwnerTag {
        let mut hasher = blake3::Hasher::new_derive_key(OWNER_CONTEXT);
        hasher.update(&self.device.0).update(&self.peer.0);
        OwnerTag(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8"))
    }
}

/// How long a lease lives without a renewal, and how often it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Time to live.
    pub ttl: Duration,
    /// Time between renewals.
    pub period: Duration,
}

impl LeaseTerms {
    /// These terms, cut to what a lease may name; the period is at most a half of the ttl, so that one lost renewal ends
    /// nothing.
    pub fn bounded(self) -> Self {
        let millis = |d: Duration| Duration::from_millis(d.as_millis().min(u128::from(u32::MAX)) as u64);
        let ttl = millis(self.ttl).clamp(*TTL_RANGE.start(), *TTL_RANGE.end());
        Self { ttl, period: millis(self.period).clamp(MIN_PERIOD, ttl / 2) }
    }
}

/// Orders the leases of an owner.
pub(super) type LeaseKey = (u64, u64, Preimage);

/// A signed lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub owner: OwnerId,
    /// The owner's life.
    pub incarnation: u64,
    /// Numbers the leases of an incarnation, from 1.
    pub seq: u64,
    /// Entries at or below this version are dead.
    pub floor: u64,
    /// How long it lives and how often it is renewed.
    pub terms: LeaseTerms,
    /// When it was signed, by the owner's wall clock.
    pub issue: WallTime,
    /// The end of its chain.
    pub anchor: Preimage,
    /// Renewals that may follow; none: a release.
    pub count: u8,
    /// The device's signature.
    pub signature: Signature,
}

impl Lease {
    /// Signs; the signature that `self` has is replaced.
    pub(super) fn signed(mut self, key: &DeviceKey, space: &SpaceId) -> Self {
        self.signature = key.sign(Context::SoftLease, &self.signed_bytes(space));
        self
    }

    /// Checks the signature. About 85 µs.
    pub fn verify(&self, space: &SpaceId) -> Result<(), SignatureError> {
        verify(&self.owner.device, Context::SoftLease, &self.signed_bytes(space), &self.signature)
    }

    /// Whether the owner is gone by its own word.
    pub fn is_release(&self) -> bool {
        self.count == 0
    }

    pub(super) fn key(&self) -> LeaseKey {
        (self.incarnation, self.seq, self.anchor)
    }

    pub(super) fn salt(&self) -> Salt {
        salt(&self.owner, self.incarnation, self.seq)
    }

    /// Whether `later` is a value of this lease's chain, given one that is known to be.
    pub(super) fn reveals(&self, known: (&Preimage, u8), later: (&Preimage, u8)) -> bool {
        later.1 <= self.count && leads(&self.salt(), known, later)
    }

    /// Whether by the wall clock `now` preimage `index` is too old to be anything but a replay.
    pub(super) fn is_ancient(&self, index: u8, now: WallTime) -> bool {
        let spoken = self.issue.0.saturating_add(millis(self.terms.period * u32::from(index)));
        now.0 > spoken.saturating_add(millis(self.terms.ttl + super::MAX_SKEW))
    }

    fn encode_body(&self, w: &mut Writer) {
        w.array(&self.owner.device.0).array(&self.owner.peer.0).u64_le(self.incarnation).varint(self.seq);
        w.varint(self.floor).varint(self.terms.ttl.as_millis() as u64).varint(self.terms.period.as_millis() as u64);
        w.zigzag(self.issue.0).array(&self.anchor).u8(self.count);
    }

    fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0);
        self.encode_body(&mut w);
        w.finish()
    }
}

pub(super) fn salt(owner: &OwnerId, incarnation: u64, seq: u64) -> Salt {
    let mut salt = [0; 24];
    salt[..8].copy_from_slice(&owner.tag().0);
    salt[8..16].copy_from_slice(&incarnation.to_le_bytes());
    salt[16..].copy_from_slice(&seq.to_le_bytes());
    salt
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Codec for Lease {
    fn encode(&self, w: &mut Writer) {
        self.encode_body(w);
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let owner = OwnerId { device: DeviceId(r.array("device")?), peer: PeerId(r.array("peer")?) };
        let (incarnation, seq, floor) = (r.u64_le("incarnation")?, r.varint("lease seq")?, r.varint("floor")?);
        let ttl = Duration::from_millis(r.varint_max(TTL_RANGE.end().as_millis() as u64, "ttl")?);
        let period = Duration::from_millis(r.varint_max(TTL_RANGE.end().as_millis() as u64, "period")?);
        if ttl < *TTL_RANGE.start() || period < MIN_PERIOD || period > ttl {
            return Err(DecodeError::Invalid { field: "lease terms" });
        }
        let issue = WallTime(r.zigzag("issue")?);
        let (anchor, count) = (r.array("anchor")?, r.u8("renewals")?);
        if count > MAX_RENEWALS {
            let max = u64::from(MAX_RENEWALS);
            return Err(DecodeError::TooLarge { field: "renewals", got: u64::from(count), max });
        }
        let signature = Signature::decode(r)?;
        let terms = LeaseTerms { ttl, period };
        Ok(Self { owner, incarnation, seq, floor, terms, issue, anchor, count, signature })
    }
}
