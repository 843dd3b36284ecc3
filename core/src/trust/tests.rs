//! What crosses the rooms: joining by invitation, hostile bytes against every decoder, altered statements.

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, Incarnation, Path, PeerId, Prefix};
use crate::time::WallTime;
use crate::trust::endorsement::{DeviceName, WireEndorsement, verify_all};
use crate::trust::fact::{Link, MAX_FACT};
use crate::trust::invitation::Offer;
use crate::trust::seal::NewIncarnation;
use crate::trust::tombstone::{MAX_TOMBSTONE, MAX_TOMBSTONE_HEADS, covered_heads};
use crate::wire::{Codec, DecodeError, Writer};

const NOW: WallTime = WallTime(1_000);
const LATER: WallTime = WallTime(9_000);

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&[n; 32])
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn space() -> Bootstrap {
    create_space(&RootKey::from_seed(&[0xee; 32]), &key(1).device(), true)
}

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::from_seed([5; 32])
}

fn handshake() -> Handshake {
    let (initiator, acceptor) = (PeerId([1; 32]), PeerId([2; 32]));
    Handshake { space: space().space, initiator, acceptor, initiator_nonce: [3; 16], acceptor_nonce: [4; 16] }
}

fn offer(role: Role, at: &str) -> Offer {
    Offer {
        grants: vec![(role, prefix(at))],
        expires: Some(WallTime(5_000)),
        grants_end: Some(WallTime(50_000)),
        addresses: vec!["/ip4/127.0.0.1/tcp/4801".into()],
    }
}

fn insert_all(roster: &mut Roster, facts: impl IntoIterator<Item = Fact>) {
    for fact in facts {
        roster.insert(fact).unwrap();
    }
}

mod invitations {
    use super::*;

    #[test]
    fn a_link_makes_its_reader_a_member_without_a_network() {
        let mut host = space().roster;
        let (invitation, made) = Invitation::create(&mut host, &key(1), offer(Role::Writer, "/a"), &mut rng()).unwrap();
        assert!(made.iter().all(|fact| host.contains(&fact.hash())));
        let link = invitation.to_link();
        assert!(link.len() < 900, "{} characters no longer make a handy QR code", link.len());
        for text in [link.to_string(), link.to_ascii_uppercase(), format!(" {}\n", *invitation.to_text())] {
            let read = Invitation::parse(&text).unwrap();
            let mut joiner = Roster::new(*read.space());
            insert_all(&mut joiner, read.accept(&key(2).device(), NOW).unwrap());
            assert_eq!(joiner.waiting().len(), 0, "nothing of the host's chain is missing");
            assert!(joiner.can_write(&key(2).device(), &path("/a/b")));
            assert!(!joiner.can_write(&key(2).device(), &path("/b")));
        }
        assert_eq!(invitation.addresses(), ["/ip4/127.0.0.1/tcp/4801"]);
    }

    #[test]
    fn the_invitation_of_an_admin_far_from_the_root_is_complete() {
        let mut host = space().roster;
        for n in 1..6 {
            // Busy chains, so that a proof by predecessors would be long.
            for _ in 0..n {
                let grant =
                    Grant::new(key(100 + n).device(), Role::Reader, Prefix::root()).until(Some(WallTime(n.into())));
                host.author(&key(n), FactBody::Grant(grant)).unwrap();
            }
            host.author(&key(n), FactBody::Grant(Grant::new(key(n + 1).device(), Role::Admin, Prefix::root())))
                .unwrap();
        }
        let (invitation, _) = Invitation::create(&mut host, &key(6), offer(Role::Reader, "/"), &mut rng()).unwrap();
        let mut joiner = Roster::new(*host.space());
        insert_all(
            &mut joiner,
            Invitation::parse(&invitation.to_text()).unwrap().accept(&key(9).device(), NOW).unwrap(),
        );
        assert!(joiner.can_read(&key(9).device(), &path("/x")) && joiner.waiting().len() == 0);
    }

    #[test]
    fn an_ended_invitation_is_refused_by_the_joiner_and_by_whoever_is_called() {
        let mut host = space().roster;
        let (invitation, _) = Invitation::create(&mut host, &key(1), offer(Role::Writer, "/"), &mut rng()).unwrap();
        let device = key(2).device();
        assert_eq!(invitation.accept(&device, LATER), Err(InvitationError::Expired { at: WallTime(5_000) }));
        // A joiner that lies about the time.
        let mut joiner = Roster::new(*host.space());
        insert_all(&mut joiner, invitation.accept(&device, NOW).unwrap());
        let present = |side| Present::create(&key(2), &handshake(), side, None, &joiner, LATER);
        let late = present(Side::Initiator).verify(&handshake(), Side::Initiator, &host, LATER);
        assert_eq!(late, Err(PresentError::Expired));
        // An old member that a newcomer calls, and one that the verifier has admitted before.
        assert!(present(Side::Acceptor).verify(&handshake(), Side::Acceptor, &host, LATER).is_ok());
        let early = Present::create(&key(2), &handshake(), Side::Initiator, None, &joiner, NOW);
        let early = early.verify(&handshake(), Side::Initiator, &host, NOW).unwrap();
        insert_all(&mut host, early.new_facts);
        assert!(present(Side::Initiator).verify(&handshake(), Side::Initiator, &host, LATER).is_ok());
    }

    #[test]
    fn the_key_of_an_invitation_is_no_member_itself() {
        let mut host = space().roster;
        let (invitation, _) = Invitation::create(&mut host, &key(1), offer(Role::Writer, "/"), &mut rng()).unwrap();
        let ephemeral = invitation.offers().next().unwrap().subject;
        assert!(!host.is_member(&ephemeral) && !host.can_read(&ephemeral, &path("/a")));
        assert!(host.members(None, 99).iter().all(|member| member.device != ephemeral));
        assert_eq!(host.proof_for(&ephemeral, NOW), []);
    }

    #[test]
    fn what_an_invitation_cannot_offer_is_refused_and_changes_nothing() {
        let mut host = space().roster;
        let before = host.len();
        let mut create = |by: u8, offer| Invitation::create(&mut host, &key(by), offer, &mut rng()).map(|_| ());
        assert_eq!(create(2, offer(Role::Reader, "/a")), Err(InvitationError::NotAnAdmin { prefix: prefix("/a") }));
        assert!(matches!(create(1, offer(Role::Voter, "/a")), Err(InvitationError::Grant(FactError::Malformed(_)))));
        let bad = |addresses| Offer { addresses, ..offer(Role::Reader, "/") };
        assert!(matches!(create(1, bad(vec!["not an address".into()])), Err(InvitationError::Address { .. })));
        assert!(matches!(create(1, bad(vec!["/x".into(); 9])), Err(InvitationError::TooMany { .. })));
        let none = Offer { grants: vec![], ..offer(Role::Reader, "/") };
        assert!(matches!(create(1, none), Err(InvitationError::Malformed { .. })));
        assert_eq!(host.len(), before);
    }

    #[test]
    fn damaged_and_foreign_texts_get_an_error_that_says_what_to_do() {
        let mut host = space().roster;
        let (invitation, _) = Invitation::create(&mut host, &key(1), offer(Role::Writer, "/"), &mut rng()).unwrap();
        let text = invitation.to_text();
        let swapped = if text.as_bytes()[40] == b'q' { "p" } else { "q" };
        let damaged = format!("{}{swapped}{}", &text[..40], &text[41..]);
        let mixed = format!("{}{}", &text[..60], text[60..].to_ascii_uppercase());
        for (bad, error) in [
            (damaged, InvitationError::Damaged),
            (text[..text.len() - 8].to_string(), InvitationError::Damaged),
            (mixed, InvitationError::Malformed { what: "it does not read fsi1…" }),
            (space().space.to_bech32(), InvitationError::Malformed { what: "it does not read fsi1…" }),
            (String::new(), InvitationError::Malformed { what: "it does not read fsi1…" }),
            ("é".repeat(20), InvitationError::Malformed { what: "it does not read fsi1…" }),
            ("q".repeat(1 << 20), InvitationError::Malformed { what: "it is too long" }),
        ] {
            assert_eq!(Invitation::parse(&bad).unwrap_err(), error);
        }
        assert!(!format!("{invitation:?}").contains("fsi1"), "Debug shows nothing secret");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn a_joiner_gains_what_the_invitation_offers_and_no_more(
            offered in 0usize..3, wished in 0usize..4, at in 0usize..3, to in 0usize..4, end in 0i64..100_000,
        ) {
            let (places, wishes) = (["/", "/a", "/a/b"], ["/", "/a", "/a/b", "/c"]);
            let mut host = space().roster;
            let offer = offer(Role::ALL[offered], places[at]);
            let (invitation, _) = Invitation::create(&mut host, &key(1), offer, &mut rng()).unwrap();
            let wish = Grant::new(key(2).device(), Role::ALL[wished], prefix(if wished == 3 { "/" } else { wishes[to] }))
                .until(Some(WallTime(end)));
            let offers = invitation.offers().next().unwrap().clone();
            let ephemeral = DeviceKey::generate(&mut rng());
            prop_assert_eq!(ephemeral.device(), offers.subject);
            let fact = Fact::sign(&ephemeral, host.space(), Link::Unchained, FactBody::Grant(wish.clone())).unwrap();
            let admitted = matches!(host.insert(fact), Ok(Insert::Admitted(_)));
            let inside = offers.prefix.contains(&wish.prefix) && offers.role.covers(wish.role) && end <= 50_000;
            prop_assert_eq!(admitted, inside);
            // The same wish in a chain of its own is never taken.
            let fact = Fact::sign(&ephemeral, host.space(), Link::First, FactBody::Grant(wish)).unwrap();
            prop_assert_eq!(host.insert(fact), Ok(Insert::Pending));
        }
    }
}

mod handshakes {
    use super::*;

    #[test]
    fn a_claim_holds_for_its_handshake_only() {
        let roster = space().roster;
        let incarnation = Some(Incarnation(7));
        let present = Present::create(&key(1), &handshake(), Side::Initiator, incarnation, &roster, NOW);
        let ignorant = Roster::new(*roster.space());
        let verified = present.verify(&handshake(), Side::Initiator, &ignorant, NOW).unwrap();
        assert_eq!((verified.device, verified.incarnation), (key(1).device(), incarnation));
        assert_eq!(verified.reads, [Prefix::root()]);
        assert_eq!(verified.new_facts.len(), 3);
        let known = present.verify(&handshake(), Side::Initiator, &roster, NOW).unwrap();
        assert!(known.new_facts.is_empty());
        let altered = |alter: fn(&mut Handshake)| {
            let mut other = handshake();
            alter(&mut other);
            other
        };
        for other in [
            altered(|h| h.initiator = PeerId([9; 32])),
            altered(|h| h.acceptor = PeerId([9; 32])),
            altered(|h| h.initiator_nonce[0] ^= 1),
            altered(|h| h.acceptor_nonce[15] ^= 1),
            altered(|h| std::mem::swap(&mut h.initiator, &mut h.acceptor)),
        ] {
            let result = present.verify(&other, Side::Initiator, &roster, NOW);
            assert_eq!(result, Err(PresentError::Signature), "{other:?}");
        }
        let reflected = present.verify(&handshake(), Side::Acceptor, &roster, NOW);
        assert_eq!(reflected, Err(PresentError::Signature));
        let other_life = Present { incarnation: Some(Incarnation(8)), ..present };
        assert_eq!(other_life.verify(&handshake(), Side::Initiator, &roster, NOW), Err(PresentError::Signature));
    }

    #[test]
    fn strangers_and_forgers_are_refused() {
        let roster = space().roster;
        let verify = |present: &Present| present.verify(&handshake(), Side::Initiator, &roster, NOW);
        let stranger = Present::create(&key(2), &handshake(), Side::Initiator, None, &roster, NOW);
        assert_eq!(verify(&stranger), Err(PresentError::NotProved));
        // With the proof of somebody else, and with one that it signed itself.
        let borrowed = Present { proof: roster.proof_for(&key(1).device(), NOW), ..stranger.clone() };
        assert_eq!(verify(&borrowed), Err(PresentError::NotProved));
        let grant = FactBody::Grant(Grant::new(key(2).device(), Role::Writer, Prefix::root()));
        let own = Fact::sign(&key(2), roster.space(), Link::First, grant).unwrap();
        assert_eq!(verify(&Present { proof: vec![own.clone()], ..stranger.clone() }), Err(PresentError::NotProved));
        let mut bytes = own.to_bytes();
        let root = RootKey::from_seed(&[0xee; 32]).signer().device();
        bytes[1..33].copy_from_slice(&root.0);
        let forged = Present { proof: vec![Fact::from_bytes(&bytes).unwrap()], ..stranger };
        assert_eq!(verify(&forged), Err(PresentError::Forged));
    }

    #[test]
    fn a_tag_shows_the_space_to_those_who_know_it_and_its_echo_shows_nothing() {
        let handshake = handshake();
        assert_ne!(handshake.tag_of(Side::Initiator), handshake.tag_of(Side::Acceptor));
        let other = Handshake { space: crate::id::SpaceId([9; 32]), ..handshake };
        assert_ne!(handshake.tag_of(Side::Initiator), other.tag_of(Side::Initiator));
        let again = Handshake { acceptor_nonce: [5; 16], ..handshake };
        assert_ne!(handshake.tag_of(Side::Initiator), again.tag_of(Side::Initiator));
    }
}

mod endorsements {
    use super::*;

    fn document() -> DocumentId {
        DocumentId::derive(&space().space, &path("/a"), 0)
    }

    fn own() -> Endorsement {
        Endorsement::own(&key(1), &space().space, document(), Incarnation(7), 1, (300, ChangeHash([8; 32])))
    }

    fn wire(endorsement: &Endorsement, roster: Option<&Roster>, newest: Option<&ChangeHash>) -> Vec<u8> {
        let mut w = Writer::new();
        endorsement.encode_wire(&mut w, roster, newest);
        w.finish()
    }

    #[test]
    fn an_endorsement_between_members_is_small() {
        let roster = space().roster;
        assert_eq!(wire(&own(), Some(&roster), Some(&own().hash)).len(), 84);
        assert_eq!(wire(&own(), Some(&roster), None).len(), 116);
        assert_eq!(wire(&own(), None, None).len(), 140);
    }

    #[test]
    fn the_own_actor_is_the_one_that_edits_use() {
        let (device, incarnation) = (key(1).device(), Incarnation(7));
        let edits = crate::document::local::own_actor(&device, &document(), incarnation, 1);
        assert_eq!(own().actor(), edits);
    }

    #[test]
    fn a_device_the_receiver_does_not_know_does_not_resolve() {
        let roster = space().roster;
        let short = WireEndorsement::from_bytes(&wire(&own(), Some(&roster), None)).unwrap();
        assert!(matches!(short.device, DeviceName::Short(_)));
        let ignorant = Roster::new(space().space);
        assert_eq!(short.resolve(&space().space, document(), &ignorant, |_| None), None);
        assert_eq!(short.resolve(&space().space, document(), &roster, |_| None), Some(own()));
        let bare = WireEndorsement::from_bytes(&wire(&own(), Some(&roster), Some(&own().hash))).unwrap();
        assert_eq!(bare.resolve(&space().space, document(), &roster, |_| None), None, "no hash from anywhere");
        assert_eq!(bare.resolve(&space().space, document(), &roster, |_| Some(ChangeHash([1; 32]))), None);
    }

    #[test]
    fn everything_an_endorsement_says_is_signed() {
        let made = own();
        let altered: Vec<Endorsement> = vec![
            Endorsement { document: DocumentId([1; 16]), ..made.clone() },
            Endorsement { device: key(2).device(), ..made.clone() },
            Endorsement { actor: ActorPreimage::Own { incarnation: Incarnation(8), n: 1 }, ..made.clone() },
            Endorsement { actor: ActorPreimage::Own { incarnation: Incarnation(7), n: 2 }, ..made.clone() },
            Endorsement { actor: ActorPreimage::Foreign(made.actor()), ..made.clone() },
            Endorsement { seq: 301, ..made.clone() },
            Endorsement { hash: ChangeHash([9; 32]), ..made.clone() },
            Endorsement { kind: EndorsementKind::Single, ..made.clone() },
        ];
        assert!(verify_all(&space().space, &altered).into_iter().all(|holds| !holds));
        assert_eq!(verify_all(&space().space, std::slice::from_ref(&made)), [true]);
        assert!(made.verify(&crate::id::SpaceId([1; 32])).is_err());
    }

    #[test]
    fn a_row_under_a_wrong_key_is_damage() {
        let (key, value) = (own().storage_key(), own().storage_value());
        for at in 0..key.len() {
            let mut bad = key.clone();
            bad[at] ^= 1;
            let read = Endorsement::from_storage(&bad, &value);
            assert!(read.is_err() || read.unwrap().verify(&space().space).is_err(), "byte {at}");
        }
    }

    #[test]
    fn newer_chains_replace_and_singles_stand_beside_each_other() {
        let space = space().space;
        let actor = Actor::from_bytes(&[5; 20]).unwrap();
        let foreign = |by, seq, kind| {
            let newest = (seq, ChangeHash([seq as u8; 32]));
            Endorsement::foreign(&key(by), &space, document(), actor.clone(), newest, kind).storage_key()
        };
        assert_eq!(foreign(1, 1, EndorsementKind::Chain), foreign(1, 2, EndorsementKind::Chain));
        assert_ne!(foreign(1, 1, EndorsementKind::Single), foreign(1, 2, EndorsementKind::Single));
        assert_ne!(foreign(1, 1, EndorsementKind::Chain), foreign(2, 1, EndorsementKind::Chain));
        let prefix = endorsement::storage_prefix(&document(), &actor);
        assert!(foreign(1, 1, EndorsementKind::Single).starts_with(&prefix));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn rows_and_wire_forms_survive(
            incarnation: u64, n: u32, seq: u64, hash: [u8; 32],
            foreign in prop::option::of(prop::collection::vec(any::<u8>(), 1..=64)), single: bool,
        ) {
            let (space, document, newest) = (space().space, document(), (seq, ChangeHash(hash)));
            let endorsement = match foreign {
                None => Endorsement::own(&key(1), &space, document, Incarnation(incarnation), n, newest),
                Some(actor) => {
                    let kind = if single { EndorsementKind::Single } else { EndorsementKind::Chain };
                    Endorsement::foreign(&key(1), &space, document, Actor::from_bytes(&actor).unwrap(), newest, kind)
                }
            };
            let read = Endorsement::from_storage(&endorsement.storage_key(), &endorsement.storage_value());
            prop_assert_eq!(read.as_ref(), Ok(&endorsement));
            let roster = super::space().roster;
            for (names, newest) in [(None, None), (Some(&roster), None), (Some(&roster), Some(&endorsement.hash))] {
                let bytes = wire(&endorsement, names, newest);
                let read = WireEndorsement::from_bytes(&bytes).unwrap();
                prop_assert_eq!(read.to_bytes(), bytes);
                let read = read.resolve(&space, document, &roster, |_| Some(endorsement.hash));
                prop_assert_eq!(read, Some(endorsement.clone()));
            }
        }
    }
}

mod tombstones {
    use super::*;

    fn head(n: u8) -> ChangeHash {
        ChangeHash([n; 32])
    }

    #[test]
    fn only_a_writer_of_the_path_deletes() {
        let mut roster = space().roster;
        let grant = |role, at| FactBody::Grant(Grant::new(key(2).device(), role, prefix(at)));
        roster.author(&key(1), grant(Role::Writer, "/a")).unwrap();
        roster.author(&key(1), grant(Role::Reader, "/")).unwrap();
        let sign = |at| Tombstone::sign(&key(2), &space().space, path(at), 0, [head(1)]).unwrap();
        assert_eq!(sign("/a/b").verify(&space().space, &roster), Ok(()));
        assert_eq!(sign("/b").verify(&space().space, &roster), Err(TombstoneError::NotAWriter { path: path("/b") }));
        let elsewhere = sign("/a/b").verify(&crate::id::SpaceId([1; 32]), &roster);
        assert_eq!(elsewhere, Err(TombstoneError::Signature));
    }

    #[test]
    fn a_tombstone_is_small_ordered_and_bounded() {
        let sign = |heads: Vec<ChangeHash>| Tombstone::sign(&key(1), &space().space, path("/lists/food"), 3, heads);
        let one = sign(vec![head(1)]).unwrap();
        assert_eq!(one.to_bytes().len(), 142);
        assert_eq!(one.document(&space().space), DocumentId::derive(&space().space, &path("/lists/food"), 3));
        let two = sign(vec![head(3), head(2), head(3)]).unwrap();
        assert_eq!(two.heads(), [head(2), head(3)]);
        assert_eq!(covered_heads([&two, &one]), [head(1), head(2), head(3)]);
        let many: Vec<ChangeHash> = (0..=MAX_TOMBSTONE_HEADS as u8).map(head).collect();
        let full = Tombstone::sign(
            &key(1),
            &space().space,
            path(&format!("/{}", "x".repeat(511))),
            u32::MAX,
            many[1..].to_vec(),
        );
        assert_eq!(full.unwrap().to_bytes().len(), MAX_TOMBSTONE);
        assert_eq!(sign(many), Err(TombstoneError::TooManyHeads { heads: 65 }));
        let mut bytes = two.to_bytes();
        let at = bytes.len() - 64 - 64;
        bytes[at..at + 32].fill(9);
        assert_eq!(Tombstone::from_bytes(&bytes), Err(DecodeError::Invalid { field: "tombstone heads" }));
    }
}

mod seals {
    use super::*;

    #[test]
    fn a_store_goes_on_only_as_the_very_file_that_was_closed() {
        let digest = |n| SequenceDigest::new().number(n).finish();
        let seal = Seal::new(Incarnation(7), b"device 1 inode 2", digest(5));
        let seal = Seal::from_bytes(&seal.to_bytes()).unwrap();
        let check = |found, identity: &[u8], n| Seal::check(found, identity, &digest(n));
        assert_eq!(check(Some(&seal), b"device 1 inode 2", 5), SealVerdict::Keep(Incarnation(7)));
        assert_eq!(check(None, b"device 1 inode 2", 5), SealVerdict::New(NewIncarnation::Unsealed));
        assert_eq!(check(Some(&seal), b"device 1 inode 3", 5), SealVerdict::New(NewIncarnation::Copied));
        assert_eq!(check(Some(&seal), b"device 1 inode 2", 4), SealVerdict::New(NewIncarnation::Altered));
        let unnamed = Seal::new(Incarnation(7), b"", digest(5));
        assert_eq!(check(Some(&unnamed), b"", 5), SealVerdict::New(NewIncarnation::Copied));
        let long = Seal::new(Incarnation(7), &[1; 999], digest(5));
        assert_eq!(check(Some(&long), &[1; 999], 5), SealVerdict::Keep(Incarnation(7)));
        let mut rng = rng();
        assert_eq!(SealVerdict::Keep(Incarnation(7)).incarnation(&mut rng), Incarnation(7));
        let fresh = SealVerdict::New(NewIncarnation::Unsealed);
        assert_ne!(fresh.incarnation(&mut rng), fresh.incarnation(&mut rng));
    }

    #[test]
    fn every_opening_has_an_epoch_of_its_own() {
        let mut rng = rng();
        let first = HostEpoch::following(None, &mut rng);
        let next = HostEpoch::following(Some(first.as_bytes()), &mut rng);
        let rival = HostEpoch::following(Some(first.as_bytes()), &mut rng);
        assert_eq!((first.count(), next.count(), rival.count()), (1, 2, 2));
        assert_ne!(next, rival);
        assert_eq!(HostEpoch::following(Some(b"junk"), &mut rng).count(), 1);
    }
}

mod bytes {
    use super::*;

    fn grants() -> impl Strategy<Value = Grant> {
        let end = || prop::option::of(any::<i64>().prop_map(WallTime));
        let delegation = prop::option::of(end().prop_map(|not_after| Delegation { not_after }));
        (any::<[u8; 32]>(), 0usize..3, "(/[a-zà-ö]{1,9}){1,4}", end(), delegation).prop_map(
            |(subject, role, at, not_after, delegation)| {
                let grant = Grant::new(DeviceId(subject), Role::ALL[role], Prefix::parse(&at).unwrap());
                Grant { not_after, delegation, ..grant }
            },
        )
    }

    /// Encoded statements of every kind, to be altered.
    fn samples() -> Vec<Vec<u8>> {
        let roster = space().roster;
        let present = Present::create(&key(1), &handshake(), Side::Initiator, Some(Incarnation(1)), &roster, NOW);
        let tombstone = Tombstone::sign(&key(1), &space().space, path("/a"), 1, [ChangeHash([1; 32])]).unwrap();
        let unknown = FactBody::Unknown { kind: 9, bytes: vec![0; 3800].into() };
        let unknown = Fact::sign(&key(1), &space().space, Link::First, unknown).unwrap();
        let mut samples: Vec<Vec<u8>> = roster.facts().map(Codec::to_bytes).collect();
        samples.extend([unknown.to_bytes(), present.to_bytes(), tombstone.to_bytes()]);
        samples
    }

    /// Every decoder on the same bytes; whatever it takes it gives back byte for byte.
    fn all_decoders(bytes: &[u8]) {
        fn same<T: Codec>(bytes: &[u8]) {
            if let Ok(value) = T::from_bytes(bytes) {
                assert_eq!(value.to_bytes(), bytes, "one value, one spelling");
            }
        }
        same::<Fact>(bytes);
        same::<Grant>(bytes);
        same::<Revocation>(bytes);
        same::<Succession>(bytes);
        same::<EquivocationProof>(bytes);
        same::<Generation>(bytes);
        same::<Present>(bytes);
        same::<Tombstone>(bytes);
        same::<WireEndorsement>(bytes);
        same::<ActorPreimage>(bytes);
        same::<Seal>(bytes);
        let (key, value) = bytes.split_at(bytes.len().min(33));
        let _ = Endorsement::from_storage(key, value);
        let _ = Invitation::parse(&String::from_utf8_lossy(bytes));
    }

    #[test]
    fn no_altered_bit_of_a_fact_passes() {
        let space = space();
        let fact = &space.facts[1];
        let bytes = fact.to_bytes();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let refused = Fact::from_bytes(&bad).map_or(true, |bad| bad.verify(&space.space).is_err());
            assert!(refused, "byte {at}");
        }
    }

    #[test]
    fn no_altered_bit_of_a_tombstone_or_a_claim_passes() {
        let roster = space().roster;
        let tombstone = Tombstone::sign(&key(1), roster.space(), path("/a"), 1, [ChangeHash([1; 32])]).unwrap();
        let bytes = tombstone.to_bytes();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let refused = Tombstone::from_bytes(&bad).map_or(true, |bad| bad.verify(roster.space(), &roster).is_err());
            assert!(refused, "byte {at}");
        }
        let present = Present::create(&key(1), &handshake(), Side::Initiator, Some(Incarnation(1)), &roster, NOW);
        let bytes = present.to_bytes();
        let ignorant = Roster::new(*roster.space());
        for at in (0..bytes.len()).step_by(3) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let read = Present::from_bytes(&bad);
            let refused = read.map_or(true, |bad| bad.verify(&handshake(), Side::Initiator, &ignorant, NOW).is_err());
            assert!(refused, "byte {at}");
        }
    }

    #[test]
    fn what_is_too_large_is_neither_signed_nor_read() {
        let space = space().space;
        let body = |len| FactBody::Unknown { kind: 9, bytes: vec![0; len].into() };
        let largest = Fact::sign(
            &key(1),
            &space,
            Link::After { seq: u64::MAX, previous: crate::id::FactHash([1; 32]) },
            body(3900),
        );
        assert!(largest.unwrap().to_bytes().len() <= MAX_FACT);
        assert!(matches!(Fact::sign(&key(1), &space, Link::First, body(3901)), Err(FactError::Malformed(_))));
        let voters = (0..33).map(|n| statement::Voter { peer: PeerId([n; 32]), store: 0 }).collect();
        let generation = FactBody::Generation(Box::new(Generation { n: 1, voters, digest: [0; 32] }));
        assert!(matches!(Fact::sign(&key(1), &space, Link::First, generation.clone()), Err(FactError::Malformed(_))));
        assert_eq!(Fact::sign(&key(1), &space, Link::Unchained, body(1)).map(|_| ()), Ok(()));
        let small = Generation { n: 1, voters: vec![], digest: [0; 32] };
        let unchained = Fact::sign(&key(1), &space, Link::Unchained, FactBody::Generation(Box::new(small)));
        assert_eq!(unchained, Err(FactError::NeedsChain));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            all_decoders(&bytes);
        }

        #[test]
        fn altered_statements_never_panic(
            which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), value: u8, cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = which.get(&samples()).clone();
            *at.get_mut(&mut bytes) = value;
            all_decoders(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            all_decoders(&bytes);
        }

        #[test]
        fn grants_survive(grant in grants()) {
            prop_assert_eq!(Grant::from_bytes(&grant.to_bytes()), Ok(grant));
        }
    }
}
