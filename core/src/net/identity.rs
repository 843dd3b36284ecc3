//! Between the product's [`PeerId`] (an Ed25519 public key) and libp2p's (a multihash of the same key).

use libp2p::PeerId as NetPeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multihash::Multihash;

use crate::id::PeerId;

/// The multihash code of a key that is carried whole.
const IDENTITY_CODE: u64 = 0;

/// The libp2p keypair of a seed.
pub(crate) fn keypair(mut seed: [u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(&mut seed).expect("any 32 bytes are an Ed25519 seed")
}

/// The product's id of a libp2p peer; `None` if its key is not Ed25519.
pub(crate) fn from_net(peer: &NetPeerId) -> Option<PeerId> {
    let hash: &Multihash<64> = peer.as_ref();
    if hash.code() != IDENTITY_CODE {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(PeerId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The libp2p id of a peer; `None` if the bytes are not a point of the curve.
pub(crate) fn to_net(peer: &PeerId) -> Option<NetPeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// A peer's id as people and addresses write it: `12D3KooW…`.
pub fn peer_text(peer: &PeerId) -> String {
    to_net(peer).map_or_else(|| peer.to_string(), |net| net.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_both_ways() {
        let net = keypair([7; 32]).public().to_peer_id();
        let peer = from_net(&net).unwrap();
        assert_eq!(to_net(&peer), Some(net));
        assert!(net.to_string().starts_with("12D3KooW"));
        assert_eq!(from_net(&NetPeerId::random()), None);
    }
}
