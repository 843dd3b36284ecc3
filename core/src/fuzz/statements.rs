//! What is signed.

use super::{Target, Verdict, strict, unhex};
use crate::id::{DocumentId, PeerId, SpaceId};
use crate::time::WallTime;
use crate::trust::endorsement::WireEndorsement;
use crate::trust::{Endorsement, Fact, Handshake, Invitation, Present, Roster, Seal, SealVerdict, Side, Tombstone};
use crate::wire::Codec;

pub(super) const TARGETS: &[Target] = &[
    Target::new("fact", facts, fact),
    Target::new("endorsement", endorsements, endorsement),
    Target::new("tombstone", tombstones, tombstone),
    Target::new("present", presents, present),
    Target::new("invitation", invitations, invitation),
    Target::new("seal", seals, seal),
];

const FROZEN: &str = include_str!("../../../tests/vectors/trust.json");

/// The frozen statements whose names begin so.
fn named(prefix: &str) -> Vec<Vec<u8>> {
    let all: serde_json::Value = serde_json::from_str(FROZEN).unwrap_or_default();
    let named = all.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with(prefix));
    named.filter_map(|(_, value)| unhex(value.as_str()?)).collect()
}

pub(super) fn facts() -> Vec<Vec<u8>> {
    named("fact_")
}

/// No fact that decodes is admitted on damage alone: the space of the vectors did not sign it.
fn fact(bytes: &[u8]) -> Verdict {
    let verdict = strict::<Fact>(bytes);
    if let Ok(fact) = Fact::from_bytes(bytes) {
        let space = SpaceId([0x5a; 32]);
        assert!(fact.verify(&space).is_err(), "nobody has signed this");
        let mut roster = Roster::new(space);
        let _ = roster.insert(fact.clone());
        assert_eq!(roster.len(), 0, "an unsigned fact was admitted");
        return Verdict::accepted(u64::from(fact.body().kind()).min(20));
    }
    verdict
}

fn endorsements() -> Vec<Vec<u8>> {
    named("endorsement_wire")
}

fn endorsement(bytes: &[u8]) -> Verdict {
    let verdict = strict::<WireEndorsement>(bytes);
    if let Ok(wire) = WireEndorsement::from_bytes(bytes) {
        let (space, document) = (SpaceId([0x5a; 32]), DocumentId([5; 16]));
        let roster = Roster::new(space);
        let resolved = wire.resolve(&space, document, &roster, |_| None);
        assert_eq!(resolved, None, "nobody has signed this");
    }
    verdict
}

fn tombstones() -> Vec<Vec<u8>> {
    named("tombstone")
}

fn tombstone(bytes: &[u8]) -> Verdict {
    if let Ok(tombstone) = Tombstone::from_bytes(bytes) {
        let space = SpaceId([0x5a; 32]);
        assert!(tombstone.verify(&space, &Roster::new(space)).is_err(), "nobody has signed this");
    }
    strict::<Tombstone>(bytes)
}

fn presents() -> Vec<Vec<u8>> {
    named("present")
}

fn present(bytes: &[u8]) -> Verdict {
    if let Ok(present) = Present::from_bytes(bytes) {
        let space = SpaceId([0x5a; 32]);
        let (initiator, acceptor) = (PeerId([20; 32]), PeerId([21; 32]));
        let handshake = Handshake { space, initiator, acceptor, initiator_nonce: [22; 16], acceptor_nonce: [23; 16] };
        for side in [Side::Initiator, Side::Acceptor] {
            let verified = present.verify(&handshake, side, &Roster::new(space), WallTime(0));
            assert!(verified.is_err(), "nobody is a member of this space");
        }
    }
    strict::<Present>(bytes)
}

fn invitations() -> Vec<Vec<u8>> {
    let all: serde_json::Value = serde_json::from_str(FROZEN).unwrap_or_default();
    let link = all["invitation"].as_str().unwrap_or_default();
    vec![link.as_bytes().to_vec(), link.trim_start_matches("foreshore:").as_bytes().to_vec()]
}

/// An invitation that parses is spelled again as it was, but for case and the scheme.
fn invitation(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::refused(&"no text") };
    match Invitation::parse(text) {
        Ok(invitation) => {
            let (again, given) = (invitation.to_text(), text.trim().to_ascii_lowercase());
            assert!(given.ends_with(again.as_str()), "a second spelling was taken");
            assert_eq!(invitation.facts().iter().filter(|fact| fact.verify(invitation.space()).is_err()).count(), 0);
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn seals() -> Vec<Vec<u8>> {
    named("seal")
}

/// A seal that goes on must name this file and these numbers.
fn seal(bytes: &[u8]) -> Verdict {
    if let Ok(seal) = Seal::from_bytes(bytes) {
        let verdict = Seal::check(Some(&seal), b"another file", &[0x77; 32]);
        assert!(matches!(verdict, SealVerdict::New(_)), "a seal of nobody goes on");
    }
    strict::<Seal>(bytes)
}

/// Endorsements as they lie in a store, key and value.
pub(super) fn stored_endorsements() -> Vec<(Vec<u8>, Vec<u8>)> {
    named("endorsement_key").into_iter().zip(named("endorsement_value")).collect()
}

/// Reads an endorsement from its row.
pub(super) fn stored(key: &[u8], value: &[u8]) -> Verdict {
    match Endorsement::from_storage(key, value) {
        Ok(endorsement) => {
            assert_eq!((endorsement.storage_key().as_slice(), endorsement.storage_value().as_slice()), (key, value));
            assert!(endorsement.verify(&SpaceId([0x5a; 32])).is_err(), "nobody has signed this");
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}
