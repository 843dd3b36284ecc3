//! Template layers: changes that certify themselves, so that every peer makes the same objects.
//!
//! Two peers that open the same path offline both need, say, a `text` object under `body`, and their edits only merge
//! when it is the *same* object. So the change that makes it is byte-identical everywhere: seq 1, no dependencies,
//! timestamp 0, no message, and an actor that is the hash of the rest:
//!
//! ```text
//! actor = BLAKE3-derive("foreshore 1 template layer", body of the change with the actor's 16 bytes zeroed)[..16]
//! ```
//!
//! Nobody can make two layers with one actor, so (actor, seq) stays unique without a signature, and a layer needs no
//! endorsement. It is admitted and shipped only as an ancestor of a change that has one, so it takes no room by itself.
//!
//! Not here: what a layer may contain (new root keys only) is a rule of the template that builds it.

use thiserror::Error;

use super::chunk::{self, Body, ChunkError, ChunkLimits};
use crate::wire::Writer;

/// Domain separation of a layer's actor.
const LAYER_CONTEXT: &str = "foreshore 1 template layer";
/// Length of a layer's actor in bytes.
pub const LAYER_ACTOR_LEN: usize = 16;
/// Largest layer in bytes, as an inflated chunk body.
pub const MAX_LAYER: usize = 4096;
/// The actor that a layer is built with before it is sealed.
pub const ZERO_ACTOR: [u8; LAYER_ACTOR_LEN] = [0; LAYER_ACTOR_LEN];

/// Why a change cannot be sealed as a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The bytes are not a change.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The change has dependencies, a seq other than 1, a timestamp, a message, extra bytes, other actors, or was not
    /// built with [`ZERO_ACTOR`].
    #[error("a layer is one change on the zero actor with seq 1, no dependencies, time 0 and no message")]
    Shape,
    /// Over [`MAX_LAYER`].
    #[error("a layer has at most {MAX_LAYER} bytes, this one has {bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Makes a layer of a change that was built with [`ZERO_ACTOR`] and time 0: puts the derived actor in and renews the
/// checksum. The result is an uncompressed chunk, the same bytes on every peer.
pub fn seal(zero_actor_chunk: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut body = chunk::body_of(zero_actor_chunk, &ChunkLimits::default())?;
    let parsed = Body::parse(&body)?;
    if !has_shape(&parsed) || parsed.actor.as_bytes() != ZERO_ACTOR {
        return Err(LayerError::Shape);
    }
    if body.len() > MAX_LAYER {
        return Err(LayerError::TooLarge { bytes: body.len() });
    }
    let (actor, at) = (derive_actor(&body, parsed.actor_at), parsed.actor_at);
    body[at..at + LAYER_ACTOR_LEN].copy_from_slice(&actor);
    let mut w = Writer::new();
    let checksum: [u8; 4] = chunk::hash_body(&body).0[..4].try_into().expect("a hash has more than four bytes");
    w.array(&chunk::MAGIC).array(&checksum).u8(chunk::TYPE_CHANGE).bytes(&body);
    Ok(w.finish())
}

/// Whether a change is a layer. `body` is the inflated body that `parsed` was read from.
pub(super) fn is_layer(parsed: &Body<'_>, body: &[u8]) -> bool {
    has_shape(parsed)
        && body.len() <= MAX_LAYER
        && parsed.actor.as_bytes().len() == LAYER_ACTOR_LEN
        && derive_actor(body, parsed.actor_at) == parsed.actor.as_bytes()
}

fn has_shape(parsed: &Body<'_>) -> bool {
    parsed.seq == 1
        && parsed.deps.is_empty()
        && parsed.timestamp == 0
        && parsed.message.is_empty()
        && parsed.other_actors.is_empty()
        && parsed.extra.is_empty()
}

/// The actor of a layer by its body, whatever stands in the place of the actor's bytes.
fn derive_actor(body: &[u8], actor_at: usize) -> [u8; LAYER_ACTOR_LEN] {
    let mut hasher = blake3::Hasher::new_derive_key(LAYER_CONTEXT);
    hasher.update(&body[..actor_at]).update(&ZERO_ACTOR).update(&body[actor_at + LAYER_ACTOR_LEN..]);
    let mut actor = [0; LAYER_ACTOR_LEN];
    actor.copy_from_slice(&hasher.finalize().as_bytes()[..LAYER_ACTOR_LEN]);
    actor
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Chunk;
    use super::*;
    use automerge::transaction::{CommitOptions, Transactable};
    use automerge::{ActorId, Automerge, ObjType, ReadDoc, TextEncoding};

    fn zero_actor_change(key: &str) -> Vec<u8> {
        let mut doc = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit);
        doc.set_actor(ActorId::from(ZERO_ACTOR));
        let mut tx = doc.transaction();
        tx.put_object(automerge::ROOT, key, ObjType::Text).unwrap();
        tx.commit_with(CommitOptions::default().with_time(0));
        doc.get_last_local_change().unwrap().raw_bytes().to_vec()
    }

    fn sealed(key: &str) -> Vec<u8> {
        seal(&zero_actor_change(key)).unwrap()
    }

    #[test]
    fn layers_are_the_same_bytes_wherever_they_are_built() {
        assert_eq!(sealed("body"), sealed("body"));
        let chunk = Chunk::parse(sealed("body"), &ChunkLimits::default()).unwrap();
        assert!(chunk.is_layer());
        assert_ne!(chunk.actor().as_bytes(), ZERO_ACTOR);
    }

    #[test]
    fn the_first_layers_bytes_are_the_same_in_every_version() {
        let chunk = Chunk::parse(sealed("body"), &ChunkLimits::default()).unwrap();
        assert_eq!(chunk.hash().to_string(), "c1723af566c9ddd9a1add105c02a9f3c721b791724cdc2495ac4062f2d5faf78");
    }

    #[test]
    fn layers_merge_to_equal_heads_in_any_order() {
        let layers: Vec<_> =
            ["a", "b"].map(|k| automerge::Change::from_bytes(sealed(k)).unwrap()).into_iter().collect();
        let mut one = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit);
        one.apply_changes(layers.clone()).unwrap();
        let mut two = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit);
        two.apply_changes(layers.into_iter().rev()).unwrap();
        assert_eq!(one.get_heads(), two.get_heads());
        assert_eq!(one.keys(automerge::ROOT).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_altered_layer_is_no_layer() {
        let chunk = Chunk::parse(zero_actor_change("body"), &ChunkLimits::default()).unwrap();
        assert!(!chunk.is_layer());
        let mut two = Automerge::new();
        let mut tx = two.transaction();
        tx.put(automerge::ROOT, "k", 1).unwrap();
        tx.commit_with(CommitOptions::default().with_time(0));
        let own_actor = two.get_last_local_change().unwrap().raw_bytes().to_vec();
        assert!(!Chunk::parse(own_actor.clone(), &ChunkLimits::default()).unwrap().is_layer());
        assert_eq!(seal(&own_actor), Err(LayerError::Shape));
    }

    #[test]
    fn a_large_layer_is_refused() {
        let big = zero_actor_change(&"k".repeat(MAX_LAYER));
        assert!(matches!(seal(&big), Err(LayerError::TooLarge { .. })));
    }
}
