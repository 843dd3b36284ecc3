//! A change made here: what an edit of a hot document hands to the engine for committing.
//!
//! **Invariants.** The change's actor is one of the device's own for this document and incarnation; `seq` is contiguous
//! on that actor; the actor's previous change is among `deps`. `layers` is closed: every template layer that the change
//! depends on is either in it or was committed before.
//!
//! It is not durable and not endorsed: the engine writes, signs and only then lets anyone see it.

use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, Incarnation};

/// Context of [`own_actor`].
const ACTOR_CONTEXT: &str = "foreshore 1 actor";

/// The actor of a device's own changes: `BLAKE3-derive("foreshore 1 actor", device ‖ document ‖ incarnation_le ‖
/// n_le)[..16]`. The preimage travels in the endorsement, so that everyone can check whose actor it is.
pub fn own_actor(device: &DeviceId, document: &DocumentId, incarnation: Incarnation, n: u32) -> Actor {
    let mut hasher = blake3::Hasher::new_derive_key(ACTOR_CONTEXT);
    hasher.update(&device.0).update(&document.0).update(&incarnation.0.to_le_bytes()).update(&n.to_le_bytes());
    Actor::from_bytes(&hasher.finalize().as_bytes()[..16]).expect("16 bytes are within an actor's bounds")
}

/// One change made by an edit of a hot document, as bytes and with what the cold log has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalChange {
    /// The document.
    pub document: DocumentId,
    /// The actor, [`own_actor`] of this device, document and incarnation.
    pub actor: Actor,
    /// Which of the device's actors it is: the `n` of its preimage.
    pub actor_n: u32,
    /// The change's hash.
    pub hash: ChangeHash,
    /// Its direct dependencies, sorted.
    pub deps: Vec<ChangeHash>,
    /// Its number on the actor, from 1.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// The counter of its last operation.
    pub max_op: u64,
    /// The change chunk.
    pub bytes: Vec<u8>,
    /// Template layer chunks that this change is the first to depend on; to be admitted before it.
    pub layers: Vec<Vec<u8>>,
}
