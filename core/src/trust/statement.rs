//! What facts say beside grants: revocations, root successions, equivocation proofs, group generations and inventories.
//! What follows from the first three and from inventories is worked out in [`super::roster`].
//!
//! ```text
//! revocation       subject 32 · grants: varint count, then 32 each; none: every grant of the subject
//!                  frontier: digest 32 · entries varint · chain: presence byte, then seq varint · hash 32
//! succession       successor 32 · consent signature 64, by the successor over space 32 · old root 32
//! equivocation     0 changes: document 16 · device 32 · actor preimage · seq varint
//!                             then twice: seq varint · hash 32 · signature 64, the hashes in ascending order
//!                  1 facts:   device 32 · seq varint · hash 32 · hash 32, ascending
//! generation       n varint · voters: varint count, then peer 32 · store u64 LE each, ascending · digest 32
//! inventory        device 32 · entries: varint count (≤ 128), then each
//!                  0 endorsement  document 16 · kind (0 chain, 1 single) · actor preimage · seq varint · hash 32 · signature 64
//!                  1 fact         hash 32
//!                  2 tombstone    hash 32
//! ```
//!
//! A frontier names what counts of a revoked device: the last of its endorsements, its tombstones and its facts
//! ([`FrontierDigest`] says what is hashed). The list itself stands in the revoker's chain, as the inventories right before
//! the revocation: who has admitted the revocation has the list, and nothing has to be fetched.
//!
//! In an equivocation proof the two endorsements need not end at the contested sequence number, since an endorsement covers
//! the chain below it. Two of one sequence number prove themselves; of others whoever holds the longer chain sees whether the
//! shorter one's end is on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, FactHash, PeerId, SpaceId};
use crate::trust::device::{Context, RootKey, Signature, SignatureError, verify};
use crate::trust::endorsement::{ActorPreimage, Endorsement, EndorsementKind};
use crate::trust::tombstone::TombstoneHash;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most grants that one revocation names; to revoke more, revoke them all.
pub const MAX_REVOKED_GRANTS: usize = 64;

/// Most voters of a consensus group. Raft groups are useful up to 7; 32 leaves room for joint configurations.
pub const MAX_VOTERS: usize = 32;

/// What counts of a revoked device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// The digest of the list of its last endorsements and unchained facts.
    pub digest: [u8; 32],
    /// How many entries the list has.
    pub entries: u64,
    /// The last fact of its chain that counts, if any does.
    pub chain: Option<(u64, FactHash)>,
}

/// Digests the list behind a frontier: a device's last endorsements by ascending (document, actor, seq), then its facts that
/// are not on the chain that the frontier names, by ascending hash, then its tombstones by ascending hash.
///
/// ```text
/// BLAKE3-derive("foreshore 1 frontier", entries)
///   endorsement   0 · document 16 · actor length 1 · actor · seq u64 LE · hash 32
///   fact          1 · hash 32
///   tombstone     2 · hash 32
/// ```
#[derive(Clone, Debug)]
pub struct FrontierDigest {
    hasher: blake3::Hasher,
    entries: u64,
}

impl Default for FrontierDigest {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("foreshore 1 frontier"), entries: 0 }
    }
}

impl FrontierDigest {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the last endorsement of an actor.
    pub fn endorsement(&mut self, document: &DocumentId, actor: &Actor, seq: u64, hash: &ChangeHash) -> &mut Self {
        self.entries += 1;
        self.hasher.update(&[0]).update(&document.0).update(&[actor.as_bytes().len() as u8]).update(actor.as_bytes());
        self.hasher.update(&seq.to_le_bytes()).update(&hash.0);
        self
    }

    /// Adds an unchained fact.
    pub fn fact(&mut self, hash: &FactHash) -> &mut Self {
        self.entries += 1;
        self.hasher.update(&[1]).update(&hash.0);
        self
    }

    /// Adds a tombstone.
    pub fn tombstone(&mut self, hash: &TombstoneHash) -> &mut Self {
        self.entries += 1;
        self.hasher.update(&[2]).update(&hash.0);
        self
    }

    /// The frontier, with the last fact of the device's chain that counts.
    pub fn finish(&self, chain: Option<(u64, FactHash)>) -> Frontier {
        Frontier { digest: *self.hasher.finalize().as_bytes(), entries: self.entries, chain }
    }
}

/// Takes grants from a device, as of a frontier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub subject: DeviceId,
    /// Which, ascending; empty: all.
    pub grants: Vec<FactHash>,
    /// What it had done by then, and is kept.
    pub frontier: Frontier,
}

impl Codec for Revocation {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.subject.0).list(&self.grants, |w, hash| {
            w.array(&hash.0);
        });
        w.array(&self.frontier.digest).varint(self.frontier.entries);
        w.option(self.frontier.chain.as_ref(), |w, (seq, hash)| {
            w.varint(*seq).array(&hash.0);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let subject = DeviceId(r.array("revoked device")?);
        let grants = r.list(MAX_REVOKED_GRANTS, "revoked grants", |r| r.array("revoked grant").map(FactHash))?;
        ascending(&grants, "revoked grants")?;
        let digest = r.array("frontier digest")?;
        let entries = r.varint("frontier entries")?;
        let chain =
            r.option("frontier chain", |r| Ok((r.varint("frontier seq")?, FactHash(r.array("frontier fact")?))))?;
        Ok(Self { subject, grants, frontier: Frontier { digest, entries, chain } })
    }
}

/// Names the key that follows a space's root. The space keeps its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The new root.
    pub successor: DeviceId,
    /// The new root's own signature, so that nobody hands a space to a key that nobody holds.
    pub consent: Signature,
}

impl Succession {
    /// A succession from `root` to `successor`, with the latter's consent.
    pub fn new(space: &SpaceId, root: &DeviceId, successor: &RootKey) -> Self {
        let consent = successor.signer().sign(Context::Consent, &consent_bytes(space, root));
        Self { successor: successor.signer().device(), consent }
    }

    /// Checks the successor's consent.
    pub fn verify_consent(&self, space: &SpaceId, root: &DeviceId) -> Result<(), SignatureError> {
        verify(&self.successor, Context::Consent, &consent_bytes(space, root), &self.consent)
    }
}

fn consent_bytes(space: &SpaceId, root: &DeviceId) -> Vec<u8> {
    [space.0, root.0].concat()
}

impl Codec for Succession {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.successor.0);
        self.consent.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { successor: DeviceId(r.array("successor")?), consent: Signature::decode(r)? })
    }
}

/// One side of an equivocation over changes: an endorsement whose chain holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The endorsement's sequence number.
    pub seq: u64,
    /// The endorsed hash.
    pub hash: ChangeHash,
    /// The endorsement's signature.
    pub signature: Signature,
}

/// Proof that a device said two different things in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EquivocationProof {
    /// Two chains of one actor that differ at a sequence number.
    Changes {
        /// The document.
        document: DocumentId,
        /// The device that signed both.
        device: DeviceId,
        /// Whose actor it is.
        actor: ActorPreimage,
        /// The contested sequence number.
        seq: u64,
        /// Both endorsements, by ascending hash.
        sides: [Contradiction; 2],
    },
    /// Two facts of one device with one sequence number.
    Facts {
        /// The device that signed both.
        device: DeviceId,
        /// The contested sequence number.
        seq: u64,
        /// Both facts, ascending.
        sides: [FactHash; 2],
    },
}

impl Codec for EquivocationProof {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Changes { document, device, actor, seq, sides } => {
                w.u8(0).array(&document.0).array(&device.0);
                actor.encode(w);
                w.varint(*seq);
                for side in sides {
                    w.varint(side.seq).array(&side.hash.0);
                    side.signature.encode(w);
                }
            }
            Self::Facts { device, seq, sides } => {
                w.u8(1).array(&device.0).varint(*seq).array(&sides[0].0).array(&sides[1].0);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let side = |r: &mut Reader<'_>| -> Result<Contradiction, DecodeError> {
            Ok(Contradiction {
                seq: r.varint("contradiction seq")?,
                hash: ChangeHash(r.array("contradiction hash")?),
                signature: Signature::decode(r)?,
            })
        };
        match r.u8("equivocation kind")? {
            0 => {
                let document = DocumentId(r.array("document")?);
                let device = DeviceId(r.array("device")?);
                let actor = ActorPreimage::decode(r)?;
                let seq = r.varint("contested seq")?;
                let sides = [side(r)?, side(r)?];
                let in_place = sides.iter().all(|side| side.seq >= seq) && sides[0].hash < sides[1].hash;
                in_place.then_some(()).ok_or(DecodeError::Invalid { field: "contradiction" })?;
                Ok(Self::Changes { document, device, actor, seq, sides })
            }
            1 => {
                let device = DeviceId(r.array("device")?);
                let seq = r.varint("contested seq")?;
                let sides = [FactHash(r.array("fact")?), FactHash(r.array("fact")?)];
                ascending(&sides, "contradicting facts")?;
                Ok(Self::Facts { device, seq, sides })
            }
            _ => Err(DecodeError::Invalid { field: "equivocation kind" }),
        }
    }
}

/// One voter of a consensus group. The store id keeps a wiped or copied store from voting as the one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    /// The peer.
    pub peer: PeerId,
    /// Its store.
    pub store: u64,
}

/// A consensus group rebuilt after it lost its quorum for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The generation's number; fencing tokens begin with it.
    pub n: u64,
    /// Who votes in it, ascending, at most [`MAX_VOTERS`].
    pub voters: Vec<Voter>,
    /// The digest of the state it begins with.
    pub digest: [u8; 32],
}

impl Codec for Generation {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.n).list(&self.voters, |w, voter| {
            w.array(&voter.peer.0).u64_le(voter.store);
        });
        w.array(&self.digest);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.varint("generation")?;
        let voters = r.list(MAX_VOTERS, "voters", |r| {
            Ok(Voter { peer: PeerId(r.array("voter")?), store: r.u64_le("voter store")? })
        })?;
        ascending(&voters, "voters")?;
        Ok(Self { n, voters, digest: r.array("generation digest")? })
    }
}

/// Most entries of one inventory. Its bytes have the bound of every fact, which is reached first with endorsements.
pub const MAX_INVENTORY: usize = 128;

/// Most entries of the inventories behind one revocation: about 8 MiB of facts. A device that has written to more documents
/// cannot be revoked by a frontier that keeps all of it.
pub const MAX_FRONTIER: usize = 65_536;

/// One thing that a device has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It endorsed a change. The endorsement's device is the inventory's.
    Endorsement(Box<Endorsement>),
    /// It signed a fact that stands outside the chain which the frontier names.
    Fact(FactHash),
    /// It deleted a document.
    Tombstone(TombstoneHash),
}

impl Deed {
    /// Bytes that it takes in an inventory.
    pub(crate) fn encoded_len(&self) -> usize {
        let mut w = Writer::new();
        self.encode(&mut w);
        w.finish().len()
    }

    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Endorsement(it) => {
                w.u8(0).array(&it.document.0).u8(u8::from(it.kind == EndorsementKind::Single));
                it.actor.encode(w);
                w.varint(it.seq).array(&it.hash.0);
                it.signature.encode(w);
            }
            Self::Fact(hash) => {
                w.u8(1).array(&hash.0);
            }
            Self::Tombstone(hash) => {
                w.u8(2).array(&hash.0);
            }
        }
    }

    fn decode(r: &mut Reader<'_>, device: DeviceId) -> Result<Self, DecodeError> {
        match r.u8("deed")? {
            0 => {
                let document = DocumentId(r.array("document")?);
                let kind = match r.u8("endorsement kind")? {
                    0 => EndorsementKind::Chain,
                    1 => EndorsementKind::Single,
                    _ => return Err(DecodeError::Invalid { field: "endorsement kind" }),
                };
                let actor = ActorPreimage::decode(r)?;
                if kind == EndorsementKind::Single && !matches!(actor, ActorPreimage::Foreign(_)) {
                    return Err(DecodeError::Invalid { field: "endorsement kind" });
                }
                let (seq, hash) = (r.varint("seq")?, ChangeHash(r.array("change")?));
                let signature = Signature::decode(r)?;
                Ok(Self::Endorsement(Box::new(Endorsement { document, device, actor, seq, hash, kind, signature })))
            }
            1 => r.array("fact").map(|hash| Self::Fact(FactHash(hash))),
            2 => r.array("tombstone").map(|hash| Self::Tombstone(TombstoneHash(hash))),
            _ => Err(DecodeError::Invalid { field: "deed" }),
        }
    }
}

/// Part of the list of what a device has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Whose deeds.
    pub device: DeviceId,
    /// At most [`MAX_INVENTORY`]. Nothing says that the endorsements' signatures hold: whoever uses one checks it.
    pub deeds: Vec<Deed>,
}

impl Codec for Inventory {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.device.0).list(&self.deeds, |w, deed| deed.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let device = DeviceId(r.array("inventory device")?);
        let deeds = r.list(MAX_INVENTORY, "inventory", |r| Deed::decode(r, device))?;
        Ok(Self { device, deeds })
    }
}

/// What counts of a device's deeds by a frontier: the list behind it, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The last change that counts of each actor that the device endorsed as a chain.
    chains: BTreeMap<(DocumentId, Actor), (u64, ChangeHash)>,
    /// Changes that it endorsed for themselves.
    singles: BTreeSet<(DocumentId, ChangeHash)>,
    facts: BTreeSet<FactHash>,
    tombstones: BTreeSet<TombstoneHash>,
}

impl Kept {
    /// Reads the list of deeds behind a frontier; `None` if it is another list than the one that the frontier names.
    pub(crate) fn read<'a>(frontier: &Frontier, deeds: impl Iterator<Item = &'a Deed>) -> Option<Self> {
        let (mut kept, mut digest) = (Self::default(), FrontierDigest::new());
        for deed in deeds {
            match deed {
                Deed::Endorsement(it) => {
                    let actor = it.actor();
                    digest.endorsement(&it.document, &actor, it.seq, &it.hash);
                    if it.kind == EndorsementKind::Single {
                        kept.singles.insert((it.document, it.hash));
                    } else {
                        kept.chains.insert((it.document, actor), (it.seq, it.hash));
                    }
                }
                Deed::Fact(hash) => {
                    digest.fact(hash);
                    kept.facts.insert(*hash);
                }
                Deed::Tombstone(hash) => {
                    digest.tombstone(hash);
                    kept.tombstones.insert(*hash);
                }
            }
        }
        (digest.finish(frontier.chain) == *frontier).then_some(kept)
    }

    /// Whether an endorsement of the device counts: it does not end beyond the last one that counts. Below that one, what
    /// belongs to the same chain shows when the chain is here, and what does not is equivocation.
    pub(crate) fn endorsement(&self, it: &Endorsement) -> bool {
        if it.kind == EndorsementKind::Single {
            return self.singles.contains(&(it.document, it.hash));
        }
        let last = self.chains.get(&(it.document, it.actor()));
        last.is_some_and(|(seq, hash)| it.seq < *seq || (it.seq == *seq && it.hash == *hash))
    }

    /// Whether a fact of the device is on the list.
    pub(crate) fn fact(&self, hash: &FactHash) -> bool {
        self.facts.contains(hash)
    }

    /// Whether a tombstone of the device counts.
    pub(crate) fn tombstone(&self, hash: &TombstoneHash) -> bool {
        self.tombstones.contains(hash)
    }
}

/// Refuses lists that are not strictly ascending: one set has one spelling.
pub(crate) fn ascending<T: Ord>(items: &[T], field: &'static str) -> Result<(), DecodeError> {
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(DecodeError::Invalid { field }) }
}
