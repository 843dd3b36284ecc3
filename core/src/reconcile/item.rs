//! What is reconciled: items, the roots over them, and the keyed 64-bit ids under which they are compared.
//!
//! An item names one state of one document (or one tombstone) in 32 bytes, so equal item sets mean equal heads. Ids are
//! shorter, hence they can collide; they are keyed so that a collision found once is gone under another key.

use std::fmt;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::wire::{Codec, DecodeError, Reader, Writer};

const DOCUMENT_CONTEXT: &str = "foreshore 1 item";
const TOMBSTONE_CONTEXT: &str = "foreshore 1 tombstone item";
const EPOCH_CONTEXT: &str = "foreshore 1 reconcile epoch key";
const SESSION_CONTEXT: &str = "foreshore 1 reconcile session key";
const COMBINED_CONTEXT: &str = "foreshore 1 combined root";

/// One element of a domain's item set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(pub [u8; 32]);

impl Item {
    /// The item of a document at these heads. `heads` are sorted and without duplicates.
    pub fn document(document: &DocumentId, heads: &[ChangeHash]) -> Self {
        debug_assert!(heads.is_sorted(), "heads are kept sorted");
        let mut hasher = blake3::Hasher::new_derive_key(DOCUMENT_CONTEXT);
        hasher.update(document.as_bytes());
        for head in heads {
            hasher.update(head.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The item of a tombstone with this hash.
    pub fn tombstone(hash: &[u8; 32]) -> Self {
        Self(blake3::derive_key(TOMBSTONE_CONTEXT, hash))
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item(")?;
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "…)")
    }
}

/// A digest of a whole item set: two sets with equal roots are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; 24]);

impl Root {
    /// Length in bytes. 192 bits leave no room for accidents and 96 bits against a birthday search, more than the
    /// ids below offer.
    pub const LEN: usize = 24;

    /// One root over all of a stream's domains, given as (wire tag, root) in an order that both peers know.
    pub fn combined<'a>(domains: impl IntoIterator<Item = (&'a [u8; 4], &'a Root)>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(COMBINED_CONTEXT);
        for (tag, root) in domains {
            hasher.update(tag).update(&root.0);
        }
        Self::truncated(&hasher.finalize())
    }

    pub(super) fn truncated(hash: &blake3::Hash) -> Self {
        let mut root = [0; Self::LEN];
        root.copy_from_slice(&hash.as_bytes()[..Self::LEN]);
        Self(root)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root(")?;
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "…)")
    }
}

impl Codec for Root {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array("root").map(Self)
    }
}

/// Says on the wire which key the ids of a session are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyName {
    /// The space's key of this epoch; epoch 0 is everyone's default and the only one with cached prefixes.
    Epoch(u64),
    /// A key that the requester drew for one session.
    Session([u8; 16]),
}

impl KeyName {
    /// A fresh random session key's name.
    pub fn random(rng: &mut ChaCha12Rng) -> Self {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        Self::Session(nonce)
    }
}

impl Codec for KeyName {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Epoch(epoch) => w.u8(0).varint(*epoch),
            Self::Session(nonce) => w.u8(1).array(nonce),
        };
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("id key")? {
            0 => r.varint("id key epoch").map(Self::Epoch),
            1 => r.array("id key nonce").map(Self::Session),
            _ => Err(DecodeError::Invalid { field: "id key" }),
        }
    }
}

/// Keys the 64-bit ids of items and the checksums made from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdKey {
    name: KeyName,
    key: [u8; 32],
    /// Separate seeds for a symbol's check, an id's walk and an id's range fingerprint.
    pub(super) check: u64,
    pub(super) walk: u64,
    pub(super) range: u64,
}

impl IdKey {
    /// The key of that name in `space`.
    pub fn new(space: &SpaceId, name: KeyName) -> Self {
        let mut hasher = match name {
            KeyName::Epoch(_) => blake3::Hasher::new_derive_key(EPOCH_CONTEXT),
            KeyName::Session(_) => blake3::Hasher::new_derive_key(SESSION_CONTEXT),
        };
        hasher.update(space.as_bytes());
        match &name {
            KeyName::Epoch(epoch) => hasher.update(&epoch.to_le_bytes()),
            KeyName::Session(nonce) => hasher.update(nonce),
        };
        let mut out = [0; 56];
        hasher.finalize_xof().fill(&mut out);
        let (key, seeds) = out.split_first_chunk::<32>().expect("56 bytes hold 32");
        let seed = |i: usize| u64::from_le_bytes(seeds[8 * i..8 * i + 8].try_into().expect("8 bytes"));
        Self { name, key: *key, check: seed(0), walk: seed(1), range: seed(2) }
    }

    /// The key that everyone uses unless a collision showed: epoch 0 of the space.
    pub fn default_of(space: &SpaceId) -> Self {
        Self::new(space, KeyName::Epoch(0))
    }

    /// Its name on the wire.
    pub fn name(&self) -> KeyName {
        self.name
    }

    /// Whether this is the space's default key, under which a peer may keep ids and prefixes at hand.
    pub fn is_default(&self) -> bool {
        self.name == KeyName::Epoch(0)
    }

    /// The id of an item under this key. About 60 ns.
    pub fn item_id(&self, item: &Item) -> u64 {
        let hash = blake3::keyed_hash(&self.key, &item.0);
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits without visible structure.
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_space_epoch_and_session() {
        let item = Item([5; 32]);
        let names = [KeyName::Epoch(0), KeyName::Epoch(1), KeyName::Session([0; 16]), KeyName::Session([1; 16])];
        let mut ids = Vec::new();
        for space in [SpaceId([1; 32]), SpaceId([2; 32])] {
            ids.extend(names.iter().map(|name| IdKey::new(&space, *name).item_id(&item)));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn documents_and_tombstones_have_separate_items() {
        let document = DocumentId([1; 16]);
        let bare = Item::document(&document, &[]);
        let head = Item::document(&document, &[ChangeHash([2; 32])]);
        assert_ne!(bare, head);
        assert_ne!(Item::tombstone(&[3; 32]), Item::tombstone(&[4; 32]));
    }

    #[test]
    fn combined_root_depends_on_tags_and_roots() {
        let (a, b) = (Root([1; 24]), Root([2; 24]));
        let one = Root::combined([(&[0; 4], &a), (&[1; 4], &b)]);
        assert_ne!(one, Root::combined([(&[0; 4], &b), (&[1; 4], &a)]));
        assert_ne!(one, Root::combined([(&[0; 4], &a)]));
    }
}
