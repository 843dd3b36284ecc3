//! One signature for the whole chain of an actor's changes.
//!
//! Every change has its actor's previous change among its direct dependencies, so a device that signs the hash of its
//! newest change on an actor has signed the chain below it. A newer endorsement replaces an older one. Changes of foreign
//! actors (imports, other implementations) may lack the direct predecessor; such a change is endorsed *singly*, for
//! itself alone.
//!
//! ```text
//! signed, as "foreshore 1 endorsement"
//!   space 32 · document 16 · kind (0 chain, 1 single) · actor preimage · seq varint · hash 32
//!
//! actor preimage
//!   own       0 · incarnation u64 LE · n varint          the actor is BLAKE3-derive("foreshore 1 actor",
//!                                                        device · document · incarnation u64 LE · n u32 LE)[..16]
//!   foreign   1 · varint length · the actor's bytes
//!
//! on the wire, document known from context (wire form)
//!   flags      1   bit 0: foreign · bit 1: single · bit 2: full device key · bit 3: hash follows · others 0
//!   device     8   the first bytes of its key; 32 if bit 2
//!   own            incarnation u64 LE · n varint
//!   foreign        varint length · actor
//!   seq            varint
//!   hash      32   if bit 3; otherwise it is the newest change of that actor in the same message
//!   signature 64
//!
//! stored (table Endorsements)
//!   key     document 16 · actor length 1 · actor · foreign: device 32 · single: seq u64 BE
//!   value   format 1 · flags 1 (bits 0 and 1 as above) · device 32 · own: incarnation u64 LE · n varint ·
//!           seq varint · hash 32 · signature 64
//! ```
//!
//! An own endorsement takes 84 bytes on the wire with a short device, an n below 128, a seq below 16,384 and its hash left out.
//!
//! **Not here.** Whether the device may write the path (the roster), and whether the chain is complete (the cold log).

use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, Incarnation, SpaceId};
use crate::trust::device::{Context, DeviceKey, ShortDeviceId, Signature, SignatureError, verify};
use crate::trust::roster::Roster;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Context of [`actor_for`].
const ACTOR_CONTEXT: &str = "foreshore 1 actor";

/// Version of the stored form.
const STORED_FORMAT: u8 = 1;

const FOREIGN: u8 = 1;
const SINGLE: u8 = 2;
const FULL_DEVICE: u8 = 4;
const HAS_HASH: u8 = 8;

/// The actor number `n` of a device for a document, in one incarnation of its store.
pub fn actor_for(device: &DeviceId, document: &DocumentId, incarnation: Incarnation, n: u32) -> Actor {
    let mut hasher = blake3::Hasher::new_derive_key(ACTOR_CONTEXT);
    hasher.update(&device.0).update(&document.0).update(&incarnation.0.to_le_bytes()).update(&n.to_le_bytes());
    Actor::from_bytes(&hasher.finalize().as_bytes()[..16]).expect("16 bytes are an actor")
}

/// Where an endorsed actor comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActorPreimage {
    /// The device's own: the actor is [`actor_for`] of device, document, incarnation and `n`.
    Own {
        /// The store's incarnation when the actor began.
        incarnation: Incarnation,
        /// Which of the device's actors.
        n: u32,
    },
    /// Somebody else's, let in by the device.
    Foreign(Actor),
}

impl ActorPreimage {
    /// The actor it stands for.
    pub fn actor(&self, device: &DeviceId, document: &DocumentId) -> Actor {
        match self {
            Self::Own { incarnation, n } => actor_for(device, document, *incarnation, *n),
            Self::Foreign(actor) => actor.clone(),
        }
    }

    fn encode_tail(&self, w: &mut Writer) {
        match self {
            Self::Own { incarnation, n } => w.u64_le(incarnation.0).varint(u64::from(*n)),
            Self::Foreign(actor) => w.bytes(actor.as_bytes()),
        };
    }

    fn decode_own(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let incarnation = Incarnation(r.u64_le("actor incarnation")?);
        let n = r.varint_max(u64::from(u32::MAX), "actor number")? as u32;
        Ok(Self::Own { incarnation, n })
    }

    fn decode_foreign(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = r.bytes(Actor::MAX_LEN, "foreign actor")?;
        Actor::from_bytes(bytes).map(Self::Foreign).ok_or(DecodeError::Invalid { field: "foreign actor" })
    }

    fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }
}

impl Codec for ActorPreimage {
    fn encode(&self, w: &mut Writer) {
        w.u8(u8::from(self.is_foreign()));
        self.encode_tail(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("actor preimage")? {
            0 => Self::decode_own(r),
            1 => Self::decode_foreign(r),
            _ => Err(DecodeError::Invalid { field: "actor preimage" }),
        }
    }
}

/// What of an actor's changes an endorsement covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndorsementKind {
    /// The named change and the actor's chain below it.
    Chain,
    /// The named change alone. Foreign actors only.
    Single,
}

/// A device's signature over the newest change of an actor in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The document.
    pub document: DocumentId,
    /// Who endorses.
    pub device: DeviceId,
    /// Whose changes.
    pub actor: ActorPreimage,
    /// The actor's sequence number of the change.
    pub seq: u64,
    /// The change.
    pub hash: ChangeHash,
    /// What it covers.
    pub kind: EndorsementKind,
    /// By the device.
    pub signature: Signature,
}

impl Endorsement {
    /// Endorses a device's own chain up to a change.
    pub fn own(
        key: &DeviceKey,
        space: &SpaceId,
        document: DocumentId,
        incarnation: Incarnation,
        n: u32,
        (seq, hash): (u64, ChangeHash),
    ) -> Self {
        let actor = ActorPreimage::Own { incarnation, n };
        Self::sign(key, space, document, actor, (seq, hash), EndorsementKind::Chain)
    }

    /// Endorses changes of an actor that is not the device's own.
    pub fn foreign(
        key: &DeviceKey,
        space: &SpaceId,
        document: DocumentId,
        actor: Actor,
        (seq, hash): (u64, ChangeHash),
        kind: EndorsementKind,
    ) -> Self {
        Self::sign(key, space, document, ActorPreimage::Foreign(actor), (seq, hash), kind)
    }

    /// Whether the actor is none of the device's own.
    pub fn is_foreign(&self) -> bool {
        self.actor.is_foreign()
    }

    /// Endorses an earlier change of the same chain.
    pub(crate) fn shortened(&self, key: &DeviceKey, space: &SpaceId, newest: (u64, ChangeHash)) -> Self {
        Self::sign(key, space, self.document, self.actor.clone(), newest, EndorsementKind::Chain)
    }

    fn sign(
        key: &DeviceKey,
        space: &SpaceId,
        document: DocumentId,
        actor: ActorPreimage,
        (seq, hash): (u64, ChangeHash),
        kind: EndorsementKind,
    ) -> Self {
        let signature = Signature([0; 64]);
        let mut endorsement = Self { document, device: key.device(), actor, seq, hash, kind, signature };
        endorsement.signature = key.sign(Context::Endorsement, &endorsement.signed_bytes(space));
        endorsement
    }

    /// The actor whose changes it covers.
    pub fn actor(&self) -> Actor {
        self.actor.actor(&self.device, &self.document)
    }

    /// Checks the signature. About 85 µs.
    pub fn verify(&self, space: &SpaceId) -> Result<(), SignatureError> {
        verify(&self.device, Context::Endorsement, &self.signed_bytes(space), &self.signature)
    }

    fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&space.0).array(&self.document.0).u8(u8::from(self.kind == EndorsementKind::Single));
        self.actor.encode(&mut w);
        w.varint(self.seq).array(&self.hash.0);
        w.finish()
    }

    fn flags(&self) -> u8 {
        let single = if self.kind == EndorsementKind::Single { SINGLE } else { 0 };
        (u8::from(self.actor.is_foreign()) * FOREIGN) | single
    }

    /// Appends the wire form. `roster`: the device is named by its short id if that is unique in it. `newest`: the newest
    /// change of the actor that this message carries; the hash is left out if it is the endorsed one.
    pub fn encode_wire(&self, w: &mut Writer, roster: Option<&Roster>, newest: Option<&ChangeHash>) {
        let short = ShortDeviceId::from(&self.device);
        let known = roster.is_some_and(|roster| roster.resolve(&short).eq([&self.device]));
        let implied = newest == Some(&self.hash);
        let full = if known { 0 } else { FULL_DEVICE };
        let hash = if implied { 0 } else { HAS_HASH };
        w.u8(self.flags() | full | hash);
        if known {
            w.array(&short.0)
        } else {
            w.array(&self.device.0)
        };
        self.actor.encode_tail(w);
        w.varint(self.seq);
        if !implied {
            w.array(&self.hash.0);
        }
        self.signature.encode(w);
    }

    /// The key of its row in the table Endorsements.
    pub fn storage_key(&self) -> Vec<u8> {
        let actor = self.actor();
        let mut key = storage_prefix(&self.document, &actor);
        if self.actor.is_foreign() {
            key.extend_from_slice(&self.device.0);
        }
        if self.kind == EndorsementKind::Single {
            key.extend_from_slice(&self.seq.to_be_bytes());
        }
        key
    }

    /// The value of its row.
    pub fn storage_value(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(STORED_FORMAT).u8(self.flags()).array(&self.device.0);
        if !self.actor.is_foreign() {
            self.actor.encode_tail(&mut w);
        }
        w.varint(self.seq).array(&self.hash.0);
        self.signature.encode(&mut w);
        w.finish()
    }

    /// Reads a row back.
    pub fn from_storage(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut k = Reader::new(key);
        let document = DocumentId(k.array("document")?);
        let len = usize::from(k.u8("actor length")?);
        let actor = Actor::from_bytes(k.take(len, "actor")?).ok_or(DecodeError::Invalid { field: "actor length" })?;
        let mut r = Reader::new(value);
        if r.u8("endorsement format")? != STORED_FORMAT {
            return Err(DecodeError::Invalid { field: "endorsement format" });
        }
        let (foreign, kind) = read_flags(r.u8("endorsement flags")?, FOREIGN | SINGLE)?;
        let device = DeviceId(r.array("device")?);
        let actor = if foreign { ActorPreimage::Foreign(actor) } else { ActorPreimage::decode_own(&mut r)? };
        let seq = r.varint("seq")?;
        let hash = ChangeHash(r.array("change")?);
        let signature = Signature::decode(&mut r)?;
        r.finish()?;
        let endorsement = Self { document, device, actor, seq, hash, kind, signature };
        // The key says again what the value says; a row under a wrong key is damage.
        if endorsement.storage_key() != key {
            return Err(DecodeError::Invalid { field: "endorsement key" });
        }
        Ok(endorsement)
    }
}

/// First bytes of the keys of all endorsements of an actor in a document.
pub fn storage_prefix(document: &DocumentId, actor: &Actor) -> Vec<u8> {
    let mut key = document.0.to_vec();
    key.push(u8::try_from(actor.as_bytes().len()).expect("an actor has at most 64 bytes"));
    key.extend_from_slice(actor.as_bytes());
    key
}

/// Checks the known bits and their combination; returns whether the actor is foreign, and the kind.
fn read_flags(flags: u8, known: u8) -> Result<(bool, EndorsementKind), DecodeError> {
    let foreign = flags & FOREIGN != 0;
    let kind = if flags & SINGLE == 0 { EndorsementKind::Chain } else { EndorsementKind::Single };
    if flags & !known != 0 || (kind == EndorsementKind::Single && !foreign) {
        return Err(DecodeError::Invalid { field: "endorsement flags" });
    }
    Ok((foreign, kind))
}

/// How the wire names a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// By its key.
    Full(DeviceId),
    /// By the first bytes of its key, to be resolved through the roster.
    Short(ShortDeviceId),
}

/// An endorsement as it came over the wire: its device and hash may still have to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEndorsement {
    /// Who endorses.
    pub device: DeviceName,
    /// Whose changes.
    pub actor: ActorPreimage,
    /// The actor's sequence number of the change.
    pub seq: u64,
    /// The change; `None`: the newest one of that actor in the same message.
    pub hash: Option<ChangeHash>,
    /// What it covers.
    pub kind: EndorsementKind,
    /// By the device.
    pub signature: Signature,
}

impl Codec for WireEndorsement {
    fn encode(&self, w: &mut Writer) {
        let single = if self.kind == EndorsementKind::Single { SINGLE } else { 0 };
        let full = if matches!(self.device, DeviceName::Full(_)) { FULL_DEVICE } else { 0 };
        let hash = if self.hash.is_some() { HAS_HASH } else { 0 };
        w.u8((u8::from(self.actor.is_foreign()) * FOREIGN) | single | full | hash);
        match &self.device {
            DeviceName::Full(device) => w.array(&device.0),
            DeviceName::Short(short) => w.array(&short.0),
        };
        self.actor.encode_tail(w);
        w.varint(self.seq);
        if let Some(hash) = &self.hash {
            w.array(&hash.0);
        }
        self.signature.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = r.u8("endorsement flags")?;
        let (foreign, kind) = read_flags(flags, FOREIGN | SINGLE | FULL_DEVICE | HAS_HASH)?;
        let device = match flags & FULL_DEVICE {
            0 => DeviceName::Short(ShortDeviceId(r.array("short device")?)),
            _ => DeviceName::Full(DeviceId(r.array("device")?)),
        };
        let actor = if foreign { ActorPreimage::decode_foreign(r)? } else { ActorPreimage::decode_own(r)? };
        let seq = r.varint("seq")?;
        let hash = match flags & HAS_HASH {
            0 => None,
            _ => Some(ChangeHash(r.array("change")?)),
        };
        Ok(Self { device, actor, seq, hash, kind, signature: Signature::decode(r)? })
    }
}

impl WireEndorsement {
    /// The devices it may come from, by the roster: one, unless keys were ground to collide; none if the roster does not
    /// know it yet.
    pub fn devices(&self, roster: &Roster) -> Vec<DeviceId> {
        match &self.device {
            DeviceName::Full(device) => vec![*device],
            DeviceName::Short(short) => roster.resolve(short).copied().collect(),
        }
    }

    /// The endorsement as one of these devices would have made it. `newest`: the newest change of that actor in the same
    /// message; `None` if neither it nor the wire form names a hash.
    pub fn complete(self, document: DocumentId, device: DeviceId, newest: Option<ChangeHash>) -> Option<Endorsement> {
        let Self { device: _, actor, seq, hash, kind, signature } = self;
        Some(Endorsement { document, device, actor, seq, hash: hash.or(newest)?, kind, signature })
    }

    /// Fills in device and hash and checks the signature against each device it may come from; `newest_of` gives the
    /// newest change in the message of an actor. `None` if no device fits: unknown to the roster, forged, or without a hash.
    pub fn resolve(
        &self,
        space: &SpaceId,
        document: DocumentId,
        roster: &Roster,
        mut newest_of: impl FnMut(&Actor) -> Option<ChangeHash>,
    ) -> Option<Endorsement> {
        self.devices(roster).into_iter().find_map(|device| {
            let newest = newest_of(&self.actor.actor(&device, &document));
            let endorsement = self.clone().complete(document, device, newest)?;
            endorsement.verify(space).is_ok().then_some(endorsement)
        })
    }
}

/// Checks many endorsements one by one; the batched equation would accept signatures that the strict one refuses.
/// Returns whether each holds.
pub fn verify_all(space: &SpaceId, endorsements: &[Endorsement]) -> Vec<bool> {
    endorsements.iter().map(|endorsement| endorsement.verify(space).is_ok()).collect()
}
