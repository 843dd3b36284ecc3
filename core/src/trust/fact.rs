//! The signed facts of a space, one chain a device.
//!
//! ```text
//! fact
//!   kind         varint   1 grant · 2 revocation · 3 succession · 4 equivocation proof · 5 generation ·
//!                         6 inventory
//!   signer           32   the device's public key, or the space's root
//!   seq          varint   1, 2, 3 … along the signer's chain; 0: unchained
//!   previous         32   hash of the fact before it in the chain; only if seq ≥ 2
//!   body         varint   length, then the bytes that the kind defines
//!   signature        64   over "foreshore 1 fact": space 32 · everything above
//! ```
//!
//! The hash of a fact is BLAKE3 over all of it, signature included. The space is signed and not written: facts travel and
//! lie where the space is known. A first grant is about 140 bytes, a later one 172.
//!
//! A chain lets a device's facts be cut off at a point (a revocation names it) and shows a device that said two things in
//! one place. *Unchained* are the grants that an invitation's key hands on, since several holders share that key and could
//! not keep one chain; and admin and delegating grants, so that an invitation is complete without the whole chains of
//! everyone on the way to the root.
//!
//! **A newer minor version** may add kinds. A kind that is not known here keeps its bytes as [`FactBody::Unknown`], is
//! admitted, stored and forwarded like any other, and has no effect. A known kind never grows.
//!
//! **Not here.** Whether a fact counts: see [`super::roster`].

use thiserror::Error;

use crate::id::{DeviceId, FactHash, SpaceId};
use crate::trust::device::{Context, DeviceKey, Signature, SignatureError, verify};
use crate::trust::grant::Grant;
use crate::trust::statement::{EquivocationProof, Generation, Inventory, Revocation, Succession};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Largest fact, encoded.
pub const MAX_FACT: usize = 4096;

/// Largest body: what [`MAX_FACT`] leaves beside the longest header and the signature.
pub const MAX_FACT_BODY: usize = 3900;

/// Highest number of a kind.
const MAX_KIND: u64 = u16::MAX as u64;

/// What a fact says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FactBody {
    /// A right of a device.
    Grant(Grant),
    /// The end of rights.
    Revocation(Box<Revocation>),
    /// A new root.
    Succession(Box<Succession>),
    /// Proof of a lie.
    Equivocation(Box<EquivocationProof>),
    /// A rebuilt consensus group.
    Generation(Box<Generation>),
    /// What a device has done, for a revocation that follows; or endorsements that everybody is to have.
    Inventory(Box<Inventory>),
    /// A kind of a newer version: kept and forwarded, without effect.
    Unknown {
        /// Its number.
        kind: u16,
        /// Its body.
        bytes: Box<[u8]>,
    },
}

impl FactBody {
    /// The kind's number.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Grant(_) => 1,
            Self::Revocation(_) => 2,
            Self::Succession(_) => 3,
            Self::Equivocation(_) => 4,
            Self::Generation(_) => 5,
            Self::Inventory(_) => 6,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    fn body_bytes(&self) -> Vec<u8> {
        match self {
            Self::Grant(grant) => grant.to_bytes(),
            Self::Revocation(revocation) => revocation.to_bytes(),
            Self::Succession(succession) => succession.to_bytes(),
            Self::Equivocation(proof) => proof.to_bytes(),
            Self::Generation(generation) => generation.to_bytes(),
            Self::Inventory(inventory) => inventory.to_bytes(),
            Self::Unknown { bytes, .. } => bytes.to_vec(),
        }
    }

    fn from_kind(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            0 => return Err(DecodeError::Invalid { field: "fact kind" }),
            1 => Self::Grant(Grant::from_bytes(bytes)?),
            2 => Self::Revocation(Box::new(Revocation::from_bytes(bytes)?)),
            3 => Self::Succession(Box::new(Succession::from_bytes(bytes)?)),
            4 => Self::Equivocation(Box::new(EquivocationProof::from_bytes(bytes)?)),
            5 => Self::Generation(Box::new(Generation::from_bytes(bytes)?)),
            6 => Self::Inventory(Box::new(Inventory::from_bytes(bytes)?)),
            kind => Self::Unknown { kind, bytes: bytes.into() },
        })
    }

    /// Whether the kind may stand outside a chain.
    fn may_be_unchained(&self) -> bool {
        matches!(self, Self::Grant(_) | Self::Unknown { .. })
    }
}

/// Why a fact cannot be made. Nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FactError {
    /// The statement does not have the form that its kind demands; every peer would refuse it.
    #[error("the fact is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Only grants stand outside a chain.
    #[error("a fact of this kind belongs into a chain")]
    NeedsChain,
    /// The signer lacks the right to say it; every peer would leave it out.
    #[error("the signer has no right to make this fact")]
    NotAuthorised,
    /// The signer has made as many facts as this store takes of one. Another device with the right can say it.
    #[error("this device has made {bound} facts, which is the bound of one signer")]
    TooManyFacts {
        /// The bound.
        bound: u64,
    },
    /// The device has none of the grants that were to be revoked.
    #[error("the device holds nothing that could be revoked")]
    NothingToRevoke,
    /// The device has done more than the list behind a frontier holds.
    #[error("{entries} endorsements and facts are more than a revocation can keep")]
    FrontierTooLarge {
        /// How many there are.
        entries: u64,
    },
}

/// Where a fact stands in its signer's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Outside the chain.
    Unchained,
    /// The chain's first.
    First,
    /// Number `seq` (2 or more), after the fact of this hash.
    After {
        /// Its number.
        seq: u64,
        /// The one before it.
        previous: FactHash,
    },
}

impl Link {
    /// The place behind the chain's newest fact.
    pub fn behind(newest: Option<(u64, FactHash)>) -> Self {
        match newest {
            None => Link::First,
            Some((seq, previous)) => Link::After { seq: seq.saturating_add(1), previous },
        }
    }

    /// The number in the chain; 0 outside of it.
    pub fn seq(&self) -> u64 {
        match self {
            Link::Unchained => 0,
            Link::First => 1,
            Link::After { seq, .. } => *seq,
        }
    }

    /// The fact before it.
    pub fn previous(&self) -> Option<FactHash> {
        match self {
            Link::After { previous, .. } => Some(*previous),
            _ => None,
        }
    }
}

/// A signed fact. What decodes is well formed; only [`Fact::verify`] says that its signer signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    signer: DeviceId,
    link: Link,
    body: FactBody,
    signature: Signature,
}

impl Fact {
    /// Signs a fact. [`Roster::author`](crate::trust::Roster::author) finds the place in the chain.
    pub fn sign(key: &DeviceKey, space: &SpaceId, link: Link, body: FactBody) -> Result<Self, FactError> {
        let bytes = body.body_bytes();
        if bytes.len() > MAX_FACT_BODY {
            let (got, max) = (bytes.len() as u64, MAX_FACT_BODY as u64);
            return Err(DecodeError::TooLarge { field: "fact body", got, max }.into());
        }
        // What a peer could not read back must not be signed.
        FactBody::from_kind(body.kind(), &bytes)?;
        if link == Link::Unchained && !body.may_be_unchained() {
            return Err(FactError::NeedsChain);
        }
        if matches!(link, Link::After { seq: 0 | 1, .. }) {
            return Err(DecodeError::Invalid { field: "fact seq" }.into());
        }
        let mut fact = Self { signer: key.device(), link, body, signature: Signature([0; 64]) };
        fact.signature = key.sign(Context::Fact, &fact.signed_bytes(space));
        Ok(fact)
    }

    /// A fact whose signature does not hold, for tests of what comes after the check of signatures.
    #[cfg(test)]
    pub(crate) fn unsigned(signer: DeviceId, link: Link, body: FactBody) -> Self {
        Self { signer, link, body, signature: Signature([0; 64]) }
    }

    /// Checks the signature, as a fact of `space`. About 85 µs.
    pub fn verify(&self, space: &SpaceId) -> Result<(), SignatureError> {
        verify(&self.signer, Context::Fact, &self.signed_bytes(space), &self.signature)
    }

    /// Who signed it.
    pub fn signer(&self) -> &DeviceId {
        &self.signer
    }

    /// Where it stands in its signer's chain.
    pub fn link(&self) -> Link {
        self.link
    }

    /// What it says.
    pub fn body(&self) -> &FactBody {
        &self.body
    }

    /// The grant, if it is one.
    pub fn grant(&self) -> Option<&Grant> {
        match &self.body {
            FactBody::Grant(grant) => Some(grant),
            _ => None,
        }
    }

    /// The hash that names the fact.
    pub fn hash(&self) -> FactHash {
        FactHash(*blake3::hash(&self.to_bytes()).as_bytes())
    }

    fn encode_unsigned(&self, w: &mut Writer) {
        w.varint(u64::from(self.body.kind())).array(&self.signer.0).varint(self.link.seq());
        if let Some(previous) = self.link.previous() {
            w.array(&previous.0);
        }
        w.bytes(&self.body.body_bytes());
    }

    fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0);
        self.encode_unsigned(&mut w);
        w.finish()
    }
}

impl Codec for Fact {
    fn encode(&self, w: &mut Writer) {
        self.encode_unsigned(w);
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.varint_max(MAX_KIND, "fact kind")? as u16;
        let signer = DeviceId(r.array("fact signer")?);
        let link = match r.varint("fact seq")? {
            0 => Link::Unchained,
            1 => Link::First,
            seq => Link::After { seq, previous: FactHash(r.array("previous fact")?) },
        };
        let body = FactBody::from_kind(kind, r.bytes(MAX_FACT_BODY, "fact body")?)?;
        if link == Link::Unchained && !body.may_be_unchained() {
            return Err(DecodeError::Invalid { field: "fact seq" });
        }
        Ok(Self { signer, link, body, signature: Signature::decode(r)? })
    }
}
