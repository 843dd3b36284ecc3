//! What facts say of single documents: claims that a device contradicted itself, and endorsements for everybody.
//!
//! Both speak for themselves, whoever put them into a fact and whatever became of that device's rights: a claim holds two
//! signatures of the device that it is about, an endorsement one of the device that endorses.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::trust::endorsement::{ActorPreimage, Endorsement, EndorsementKind};
use crate::trust::fact::{Fact, FactBody};
use crate::trust::roster::Changes;
use crate::trust::statement::{Contradiction, Deed, EquivocationProof};

/// Two endorsements by one device, both signatures checked, that are said to lie on two chains of one actor.
///
/// It holds unless the chain of the higher one is seen to run through the lower one. Then the actor's changes from `seq` on
/// are out, whichever of the two chains they are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose chains.
    pub actor: Actor,
    /// The device that endorsed both.
    pub device: DeviceId,
    /// The number from which on they are said to differ.
    pub seq: u64,
    /// The endorsed change with the higher number.
    pub high: (u64, ChangeHash),
    /// The other one.
    pub low: (u64, ChangeHash),
}

impl Claim {
    fn read(space: &SpaceId, proof: &EquivocationProof) -> Option<(DocumentId, Self)> {
        let EquivocationProof::Changes { document, device, actor, seq, sides } = proof else { return None };
        // Of a foreign actor somebody else made the changes: the device that let both in did not contradict itself.
        if !matches!(actor, ActorPreimage::Own { .. }) {
            return None;
        }
        let signed = |side: &Contradiction| {
            let endorsement = Endorsement {
                document: *document,
                device: *device,
                actor: actor.clone(),
                seq: side.seq,
                hash: side.hash,
                kind: EndorsementKind::Chain,
                signature: side.signature,
            };
            endorsement.verify(space).is_ok()
        };
        let in_place = *seq > 0 && sides[0].hash != sides[1].hash && sides.iter().all(|side| side.seq >= *seq);
        if !in_place || !sides.iter().all(signed) {
            return None;
        }
        let mut ends = sides.clone().map(|side| (side.seq, side.hash));
        ends.sort_unstable();
        let [low, high] = ends;
        let claim = Self { actor: actor.actor(device, document), device: *device, seq: *seq, high, low };
        Some((*document, claim))
    }

    /// Whether both endorsements are of one number, so that nothing can clear the device.
    pub fn is_plain(&self) -> bool {
        self.high.0 == self.low.0
    }
}

/// All claims and endorsements of a space's facts, by document.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices {
    claims: BTreeMap<DocumentId, Vec<Claim>>,
    posted: BTreeMap<DocumentId, Vec<Endorsement>>,
}

impl Notices {
    pub(super) fn note(&mut self, space: &SpaceId, fact: &Fact, changes: &mut Changes) {
        match fact.body() {
            FactBody::Equivocation(proof) => {
                let Some((document, claim)) = Claim::read(space, proof) else { return };
                let claims = self.claims.entry(document).or_default();
                if !claims.contains(&claim) {
                    claims.push(claim);
                    changes.documents.insert(document);
                }
            }
            FactBody::Inventory(inventory) => {
                for deed in &inventory.deeds {
                    let Deed::Endorsement(endorsement) = deed else { continue };
                    let posted = self.posted.entry(endorsement.document).or_default();
                    if !posted.contains(endorsement) {
                        posted.push((**endorsement).clone());
                        changes.documents.insert(endorsement.document);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn claims(&self, document: &DocumentId) -> &[Claim] {
        self.claims.get(document).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn posted(&self, document: &DocumentId) -> &[Endorsement] {
        self.posted.get(document).map(Vec::as_slice).unwrap_or_default()
    }

    /// Documents with claims about one of these devices.
    pub(super) fn contested_by(&self, devices: &BTreeSet<DeviceId>) -> impl Iterator<Item = &DocumentId> {
        let about = |claims: &Vec<Claim>| claims.iter().any(|claim| devices.contains(&claim.device));
        self.claims.iter().filter(move |(_, claims)| about(claims)).map(|(document, _)| document)
    }

    /// Documents of which facts say anything.
    pub(super) fn documents(&self) -> impl Iterator<Item = &DocumentId> {
        self.claims.keys().chain(self.posted.keys())
    }
}
