//! Frozen vectors: every signed statement and stored row, from fixed seeds, byte for byte. A change that breaks one breaks
//! every store and every peer out there; a new format gets a new vector, and the old one stays.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, FactHash, Incarnation, Path, PeerId, Prefix};
use crate::time::WallTime;
use crate::trust::endorsement::WireEndorsement;
use crate::trust::invitation::Offer;
use crate::trust::statement::{Contradiction, FrontierDigest, Voter};
use crate::trust::tombstone::TombstoneHash;
use crate::wire::{Codec, Writer};

const FROZEN: &str = include_str!("../../../tests/vectors/trust.json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The space, devices and facts that every vector stands on.
struct Ground {
    root: RootKey,
    admin: DeviceKey,
    writer: DeviceKey,
    roster: Roster,
    facts: Vec<(&'static str, Fact)>,
}

fn ground() -> Ground {
    let root = RootKey::from_seed(&[1; 32]);
    let (admin, writer) = (DeviceKey::from_seed(&[2; 32]), DeviceKey::from_seed(&[3; 32]));
    let made = create_space(&root, &admin.device(), true);
    let names = ["fact_root_admin", "fact_root_writer", "fact_root_voter"];
    let mut facts: Vec<_> = names.into_iter().zip(made.facts).collect();
    let mut roster = made.roster;
    let scoped = Grant::new(writer.device(), Role::Writer, Prefix::parse("/lists").unwrap());
    let scoped = scoped.until(Some(WallTime(1_800_000_000_000)));
    facts.push(("fact_writer_until", roster.author(&admin, FactBody::Grant(scoped)).unwrap().0));
    for (name, body) in inert_bodies(&root, &admin) {
        let by = if name == "fact_succession" { root.signer() } else { &admin };
        facts.push((name, roster.author(by, body).unwrap().0));
    }
    Ground { root, admin, writer, roster, facts }
}

fn inert_bodies(root: &RootKey, admin: &DeviceKey) -> Vec<(&'static str, FactBody)> {
    let space = root.space();
    let mut frontier = FrontierDigest::new();
    frontier.endorsement(&DocumentId([5; 16]), &Actor::from_bytes(&[6; 16]).unwrap(), 7, &ChangeHash([8; 32]));
    let frontier = frontier.fact(&FactHash([9; 32])).finish(Some((2, FactHash([10; 32]))));
    let revocation = Revocation { subject: DeviceId([11; 32]), grants: vec![FactHash([12; 32])], frontier };
    let succession = Succession::new(&space, &root.signer().device(), &RootKey::from_seed(&[13; 32]));
    let side = |n| Contradiction { seq: 3, hash: ChangeHash([n; 32]), signature: Signature([n; 64]) };
    let equivocation = EquivocationProof::Changes {
        document: DocumentId([5; 16]),
        device: admin.device(),
        actor: ActorPreimage::Own { incarnation: Incarnation(14), n: 1 },
        seq: 2,
        sides: [side(15), side(16)],
    };
    let newest = (7, ChangeHash([8; 32]));
    let deed = Endorsement::own(admin, &space, DocumentId([5; 16]), Incarnation(14), 1, newest);
    let deeds = vec![
        Deed::Endorsement(Box::new(deed)),
        Deed::Fact(FactHash([9; 32])),
        Deed::Tombstone(TombstoneHash([10; 32])),
    ];
    let inventory = Inventory { device: admin.device(), deeds };
    let voters = vec![Voter { peer: PeerId([17; 32]), store: 18 }];
    vec![
        ("fact_revocation", FactBody::Revocation(Box::new(revocation))),
        ("fact_succession", FactBody::Succession(Box::new(succession))),
        ("fact_equivocation", FactBody::Equivocation(Box::new(equivocation))),
        ("fact_generation", FactBody::Generation(Box::new(Generation { n: 2, voters, digest: [19; 32] }))),
        ("fact_unknown", FactBody::Unknown { kind: 300, bytes: b"later".as_slice().into() }),
        ("fact_inventory", FactBody::Inventory(Box::new(inventory))),
    ]
}

/// Every vector, made anew.
fn made() -> BTreeMap<&'static str, String> {
    let Ground { root, admin, writer, mut roster, facts } = ground();
    let space = root.space();
    let mut out: BTreeMap<&'static str, String> = BTreeMap::new();
    out.insert("space", space.to_string());
    for (name, fact) in &facts {
        out.insert(name, hex(&fact.to_bytes()));
    }
    out.insert("fact_hash_root_admin", facts[0].1.hash().to_string());
    statements(&space, &writer, &roster, &mut out);
    let (initiator, acceptor) = (PeerId([20; 32]), PeerId([21; 32]));
    let handshake = Handshake { space, initiator, acceptor, initiator_nonce: [22; 16], acceptor_nonce: [23; 16] };
    let incarnation = Some(Incarnation(24));
    let present = Present::create(&writer, &handshake, Side::Initiator, incarnation, &roster, WallTime(0));
    out.insert("present", hex(&present.to_bytes()));
    out.insert("tag_initiator", hex(&handshake.tag_of(Side::Initiator)));
    out.insert("tag_acceptor", hex(&handshake.tag_of(Side::Acceptor)));
    let offer = Offer {
        grants: vec![(Role::Writer, Prefix::root())],
        expires: Some(WallTime(1_700_000_000_000)),
        grants_end: None,
        addresses: vec!["/ip4/192.0.2.7/tcp/4801".into()],
    };
    let mut rng = ChaCha12Rng::from_seed([25; 32]);
    let (invitation, _) = Invitation::create(&mut roster, &admin, offer, &mut rng).unwrap();
    out.insert("invitation", invitation.to_link().to_string());
    let accepted = invitation.accept(&DeviceId([26; 32]), WallTime(0)).unwrap();
    out.insert("fact_delegated", hex(&accepted.last().unwrap().to_bytes()));
    let mut digest = SequenceDigest::new();
    digest.actor(&DocumentId([5; 16]), &Actor::from_bytes(&[6; 16]).unwrap(), 7).number(8);
    out.insert("seal", hex(&Seal::new(Incarnation(24), b"file 1", digest.finish()).to_bytes()));
    out.insert("host_epoch", hex(HostEpoch::following(None, &mut ChaCha12Rng::from_seed([27; 32])).as_bytes()));
    out
}

fn statements(
    space: &crate::id::SpaceId,
    writer: &DeviceKey,
    roster: &Roster,
    out: &mut BTreeMap<&'static str, String>,
) {
    let path = Path::parse("/lists/food").unwrap();
    let document = DocumentId::derive(space, &path, 0);
    let newest = (300, ChangeHash([28; 32]));
    let own = Endorsement::own(writer, space, document, Incarnation(24), 1, newest);
    let foreign = Actor::from_bytes(&[29; 20]).unwrap();
    let single = Endorsement::foreign(writer, space, document, foreign, newest, EndorsementKind::Single);
    out.insert("actor", hex(own.actor().as_bytes()));
    let wire = |endorsement: &Endorsement, roster, newest| {
        let mut w = Writer::new();
        endorsement.encode_wire(&mut w, roster, newest);
        hex(&w.finish())
    };
    out.insert("endorsement_wire_short", wire(&own, Some(roster), Some(&newest.1)));
    out.insert("endorsement_wire_full", wire(&own, None, None));
    out.insert("endorsement_wire_single", wire(&single, Some(roster), None));
    for (key, value, endorsement) in [
        ("endorsement_key", "endorsement_value", &own),
        ("endorsement_key_single", "endorsement_value_single", &single),
    ] {
        out.insert(key, hex(&endorsement.storage_key()));
        out.insert(value, hex(&endorsement.storage_value()));
    }
    let heads = [ChangeHash([31; 32]), ChangeHash([30; 32])];
    let tombstone = Tombstone::sign(writer, space, path, 1, heads).unwrap();
    out.insert("tombstone", hex(&tombstone.to_bytes()));
    out.insert("tombstone_hash", hex(&tombstone.hash().0));
}

fn frozen() -> BTreeMap<String, String> {
    serde_json::from_str(FROZEN).expect("the vectors are a JSON object of strings")
}

fn frozen_bytes(name: &str) -> Vec<u8> {
    let text = &frozen()[name];
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[cfg_attr(test, test)]
fn statements_keep_their_bytes() {
    let (made, frozen) = (made(), frozen());
    for (name, made) in &made {
        assert_eq!(frozen.get(*name), Some(made), "{name} changed");
    }
    assert_eq!(made.len(), frozen.len(), "a vector is no longer made");
}

#[cfg_attr(test, test)]
fn frozen_statements_are_read_and_hold() {
    let Ground { root, roster, facts, .. } = ground();
    let space = root.space();
    for (name, made) in &facts {
        let fact = Fact::from_bytes(&frozen_bytes(name)).unwrap();
        assert_eq!((fact.verify(&space), &fact), (Ok(()), made), "{name}");
    }
    let row = (frozen_bytes("endorsement_key"), frozen_bytes("endorsement_value"));
    let endorsement = Endorsement::from_storage(&row.0, &row.1).unwrap();
    assert_eq!(endorsement.verify(&space), Ok(()));
    let wire = WireEndorsement::from_bytes(&frozen_bytes("endorsement_wire_short")).unwrap();
    assert_eq!(wire.resolve(&space, endorsement.document, &roster, |_| Some(endorsement.hash)), Some(endorsement));
    let tombstone = Tombstone::from_bytes(&frozen_bytes("tombstone")).unwrap();
    assert_eq!(tombstone.verify(&space, &roster), Ok(()));
    let (initiator, acceptor) = (PeerId([20; 32]), PeerId([21; 32]));
    let handshake = Handshake { space, initiator, acceptor, initiator_nonce: [22; 16], acceptor_nonce: [23; 16] };
    let present = Present::from_bytes(&frozen_bytes("present")).unwrap();
    assert!(present.verify(&handshake, Side::Initiator, &Roster::new(space), WallTime(0)).is_ok());
    assert_eq!(Invitation::parse(&frozen()["invitation"]).unwrap().space(), &space);
    let seal = Seal::from_bytes(&frozen_bytes("seal")).unwrap();
    assert!(matches!(Seal::check(Some(&seal), b"file 2", &[0; 32]), SealVerdict::New(_)));
}

/// All of it, where there is no test harness.
#[cfg(feature = "vectors")]
pub(crate) fn check() {
    statements_keep_their_bytes();
    frozen_statements_are_read_and_hold();
}
