//! When a store may go on with its incarnation.
//!
//! A store that was copied, restored from a backup or cut short by a crash may have forgotten sequence numbers that others
//! have seen; if it used them again, it would sign two different changes under one number. So every store has an
//! *incarnation* that enters the names of its actors, and begins a new one unless it can prove that nothing was forgotten.
//! The proof is the *seal*, written as the last act of a clean close:
//!
//! ```text
//! seal (Meta["seal"])
//!   format        1   1
//!   incarnation   8   u64 LE
//!   identity          varint length (≤ 256), then what the backend says of the file itself: device and inode and birth
//!                     time, the id of an IndexedDB database: whatever a copy does not carry over
//!   digest       32   over the last sequence numbers, see [`SequenceDigest`]
//!
//! host epoch (Meta["epoch"])
//!   count         8   u64 BE, one more at every opening
//!   random        8
//! ```
//!
//! **Order of acts.** On opening: read the seal, remove it (durably, before anything is signed), then
//! [check](Seal::check) it. On closing: finish every write, then write the seal. So a seal that is found was written by a
//! close after which nothing was written.
//!
//! The *host epoch* keeps two hosts of one store apart: each write names the epoch it was opened under, and fails once
//! another host has written its own.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use crate::id::{Actor, DocumentId, Incarnation};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Longest identity of a store.
pub const MAX_IDENTITY: usize = 256;

/// Version of the stored form.
const SEAL_FORMAT: u8 = 1;

/// Context of [`SequenceDigest`].
const SEQUENCE_CONTEXT: &str = "foreshore 1 sequence digest";

/// A store was closed cleanly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    incarnation: Incarnation,
    identity: Vec<u8>,
    digest: [u8; 32],
}

/// What a seal allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealVerdict {
    /// Go on: nothing was forgotten.
    Keep(Incarnation),
    /// Begin a new incarnation.
    New(NewIncarnation),
}

/// Why a new incarnation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewIncarnation {
    /// There is no seal: a first start, or the last close was not clean.
    Unsealed,
    /// The seal is of another file: this one is a copy or was restored.
    Copied,
    /// The store does not hold what it held when it was sealed.
    Altered,
}

impl Seal {
    /// A seal for a clean close. `identity`: at most [`MAX_IDENTITY`] bytes; of a longer one the hash is taken.
    pub fn new(incarnation: Incarnation, identity: &[u8], digest: [u8; 32]) -> Self {
        Self { incarnation, identity: bounded(identity), digest }
    }

    /// What the seal found at opening allows the store that has this identity and these last sequence numbers now. An
    /// empty identity, of a backend that cannot tell a copy from the original, never goes on.
    pub fn check(found: Option<&Seal>, identity: &[u8], digest: &[u8; 32]) -> SealVerdict {
        match found {
            None => SealVerdict::New(NewIncarnation::Unsealed),
            Some(seal) if identity.is_empty() || seal.identity != bounded(identity) => {
                SealVerdict::New(NewIncarnation::Copied)
            }
            Some(seal) if seal.digest != *digest => SealVerdict::New(NewIncarnation::Altered),
            Some(seal) => SealVerdict::Keep(seal.incarnation),
        }
    }
}

impl SealVerdict {
    /// The incarnation to run under: the old one, or a fresh one.
    pub fn incarnation(self, rng: &mut ChaCha12Rng) -> Incarnation {
        match self {
            SealVerdict::Keep(incarnation) => incarnation,
            SealVerdict::New(_) => Incarnation(rng.next_u64()),
        }
    }
}

fn bounded(identity: &[u8]) -> Vec<u8> {
    if identity.len() <= MAX_IDENTITY { identity.to_vec() } else { blake3::hash(identity).as_bytes().to_vec() }
}

impl Codec for Seal {
    fn encode(&self, w: &mut Writer) {
        w.u8(SEAL_FORMAT).u64_le(self.incarnation.0).bytes(&self.identity).array(&self.digest);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.u8("seal format")? != SEAL_FORMAT {
            return Err(DecodeError::Invalid { field: "seal format" });
        }
        let incarnation = Incarnation(r.u64_le("incarnation")?);
        let identity = r.bytes(MAX_IDENTITY, "store identity")?.to_vec();
        Ok(Self { incarnation, identity, digest: r.array("sequence digest")? })
    }
}

/// Digests the last sequence numbers of a store's own actors. Feed them by ascending document, then actor; a store that
/// keeps a cheaper summary of all that it wrote (its last arrival number) feeds that with [`SequenceDigest::number`].
#[derive(Clone, Debug)]
pub struct SequenceDigest(blake3::Hasher);

impl Default for SequenceDigest {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key(SEQUENCE_CONTEXT))
    }
}

impl SequenceDigest {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an actor's last sequence number.
    pub fn actor(&mut self, document: &DocumentId, actor: &Actor, seq: u64) -> &mut Self {
        self.0.update(&[1]).update(&document.0).update(&(actor.as_bytes().len() as u64).to_le_bytes());
        self.0.update(actor.as_bytes()).update(&seq.to_le_bytes());
        self
    }

    /// Adds a number that grows with everything written.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&[2]).update(&number.to_le_bytes());
        self
    }

    /// The digest.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Names one opening of a store by one host. Its bytes are what `Meta["epoch"]` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostEpoch([u8; 16]);

impl HostEpoch {
    /// The epoch that follows the one found in the store; anything that is not an epoch counts as none.
    pub fn following(found: Option<&[u8]>, rng: &mut ChaCha12Rng) -> Self {
        let count = found.and_then(|bytes| bytes.try_into().ok().map(|bytes| HostEpoch(bytes).count()));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&count.unwrap_or(0).wrapping_add(1).to_be_bytes());
        rng.fill_bytes(&mut bytes[8..]);
        Self(bytes)
    }

    /// How many openings there were, this one included.
    pub fn count(&self) -> u64 {
        self.0.iter().take(8).fold(0, |count, byte| count << 8 | u64::from(*byte))
    }

    /// The bytes to store and to compare.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
