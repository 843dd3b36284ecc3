//! What counts once something was revoked or handed on.

use super::*;
use crate::id::{Actor, ChangeHash, DocumentId, Incarnation};
use crate::trust::device::Signature;
use crate::trust::endorsement::{ActorPreimage, Endorsement, EndorsementKind};
use crate::trust::statement::{Contradiction, Deed, EquivocationProof, Succession};
use crate::trust::tombstone::Tombstone;

const DOCUMENT: DocumentId = DocumentId([4; 16]);

fn made() -> Roster {
    create_space(&root(), &key(1).device(), true).roster
}

fn endorsement(by: u8, seq: u64, hash: u8) -> Endorsement {
    Endorsement::own(&key(by), &root().space(), DOCUMENT, Incarnation(1), 0, (seq, ChangeHash([hash; 32])))
}

fn ending(endorsements: &[Endorsement]) -> Ending {
    Ending { endorsements: endorsements.to_vec(), ..Ending::default() }
}

fn grant_of(roster: &Roster, device: u8) -> FactHash {
    roster.grant_facts_of(&key(device).device()).next().unwrap().hash()
}

/// The same facts in another roster, in an order of its own.
fn shuffled(roster: &Roster, order: u64) -> Roster {
    let mut facts: Vec<(u64, Fact)> = (1u64..)
        .zip(roster.facts())
        .map(|(at, fact)| (at.wrapping_mul(order | 1).rotate_left(17), fact.clone()))
        .collect();
    facts.sort_by_key(|(at, _)| *at);
    let mut other = Roster::new(root().space());
    for (_, fact) in facts {
        other.insert(fact).unwrap();
    }
    other
}

#[test]
fn what_lies_within_the_frontier_counts_and_nothing_beyond_it() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Writer, "/").unwrap();
    let at = path("/a");
    assert_eq!(roster.endorses(&endorsement(2, 9, 9), &at), Ok(()));
    let tombstone = |generation| Tombstone::sign(&key(2), &root().space(), at.clone(), generation, []).unwrap();
    let mut ending = ending(&[endorsement(2, 5, 5)]);
    ending.tombstones.insert(tombstone(0).hash());
    roster.take_changes();
    roster.revoke(&key(1), key(2).device(), ending).unwrap();
    assert_eq!(roster.take_changes().devices, BTreeSet::from([key(2).device()]));
    let revoked = Err(Refusal::Revoked { device: key(2).device() });
    for order in [1, 77, 12_345] {
        let roster = shuffled(&roster, order);
        for (seq, hash, counts) in [(5, 5, true), (4, 7, true), (5, 6, false), (6, 6, false), (9, 9, false)] {
            let expected = if counts { Ok(()) } else { revoked };
            assert_eq!(roster.endorses(&endorsement(2, seq, hash), &at), expected, "{seq} {hash}");
        }
        let other = Endorsement { document: DocumentId([5; 16]), ..endorsement(2, 1, 1) };
        assert_eq!(roster.endorses(&other, &at), revoked);
        assert_eq!((roster.deletes(&tombstone(0)), roster.deletes(&tombstone(1))), (Ok(()), revoked));
        let device = key(2).device();
        assert!(!roster.is_member(&device) && !roster.can_write(&device, &at) && roster.is_revoked(&device));
        assert!(!roster.may_connect(&device, NOW) && roster.read_prefixes(&device).is_empty());
        assert_eq!(roster.member_count(), 1);
        assert_eq!(roster.posted(&DOCUMENT), [endorsement(2, 5, 5)]);
    }
}

#[test]
fn one_grant_of_several_is_revoked_by_its_name() {
    let mut roster = made();
    let first = give(&mut roster, &key(1), &key(2), Role::Writer, "/a").unwrap();
    give(&mut roster, &key(1), &key(2), Role::Writer, "/b").unwrap();
    let ending = Ending { grants: BTreeSet::from([first.hash()]), ..Ending::default() };
    roster.revoke(&key(1), key(2).device(), ending).unwrap();
    let device = key(2).device();
    assert!(roster.is_member(&device) && roster.can_write(&device, &path("/b/x")));
    assert!(!roster.can_write(&device, &path("/a/x")));
    assert!(roster.endorses(&endorsement(2, 1, 1), &path("/a/x")).is_err());
    assert!(roster.endorses(&endorsement(2, 1, 1), &path("/b/x")).is_ok());
    // A named grant can be given again; the very same bytes would be the revoked one.
    let again = give(&mut roster, &key(1), &key(2), Role::Writer, "/a").unwrap();
    assert_ne!(again.hash(), first.hash());
    assert!(roster.can_write(&device, &path("/a/x")));
}

#[test]
fn who_has_no_right_to_revoke_does_not() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Writer, "/").unwrap();
    give(&mut roster, &key(1), &key(3), Role::Admin, "/a").unwrap();
    give(&mut roster, &key(1), &key(4), Role::Reader, "/a/b").unwrap();
    let mut revoke = |by: u8, of: u8| roster.revoke(&key(by), key(of).device(), Ending::default()).map(|_| ());
    assert_eq!(revoke(4, 2), Err(FactError::NotAuthorised), "a reader");
    assert_eq!(revoke(3, 2), Err(FactError::NotAuthorised), "an admin of another prefix");
    assert_eq!(revoke(1, 9), Err(FactError::NothingToRevoke), "nobody");
    assert_eq!(revoke(3, 4), Ok(()), "an admin of the prefix");
    assert_eq!(revoke(2, 2), Ok(()), "whoever gives up its own");
    // One that was made nevertheless has no effect on what its signer does not administer.
    let frontier = FrontierDigest::new().finish(None);
    let revocation = Revocation { subject: key(1).device(), grants: Vec::new(), frontier };
    let fact = Fact::sign(
        &key(3),
        roster.space(),
        Link::behind(roster.chain_end(&key(3).device())),
        FactBody::Revocation(Box::new(revocation)),
    );
    roster.insert(fact.unwrap()).unwrap();
    assert!(roster.is_admin(&key(1).device(), &Prefix::root()));
}

#[test]
fn a_removed_device_does_not_come_back_by_an_old_invitation() {
    let mut roster = made();
    let inviter = Grant::new(key(7).device(), Role::Writer, Prefix::root()).delegating(Delegation { not_after: None });
    roster.author(&key(1), FactBody::Grant(inviter)).unwrap();
    give(&mut roster, &key(7), &key(2), Role::Writer, "/").unwrap_err();
    let accept = |end| {
        let grant = Grant::new(key(2).device(), Role::Writer, Prefix::root()).until(Some(WallTime(end)));
        Fact::sign(&key(7), &root().space(), Link::Unchained, FactBody::Grant(grant)).unwrap()
    };
    roster.insert(accept(5_000_000)).unwrap();
    assert!(roster.is_member(&key(2).device()));
    roster.revoke(&key(1), key(2).device(), Ending::default()).unwrap();
    assert!(!roster.is_member(&key(2).device()));
    // At the handshake of somebody who has not seen the new grant, and as a fact.
    let mut joiner = shuffled(&roster, 3);
    joiner.insert(accept(6_000_000)).unwrap();
    let mut old = made();
    for fact in roster.facts().filter(|fact| !matches!(fact.body(), FactBody::Revocation(_))) {
        old.insert(fact.clone()).unwrap();
    }
    old.insert(accept(6_000_000)).unwrap();
    let present = Present::create(&key(2), &handshake(), Side::Initiator, None, &old, NOW);
    assert_eq!(present.verify(&handshake(), Side::Initiator, &roster, NOW), Err(PresentError::Revoked));
    assert!(!joiner.is_member(&key(2).device()));
    // The invitation itself can be revoked: whoever joined by it stays, nobody else does.
    give(&mut roster, &key(1), &key(3), Role::Reader, "/").unwrap();
    roster.revoke(&key(1), key(7).device(), Ending::default()).unwrap();
    let late = Grant::new(key(5).device(), Role::Writer, Prefix::root());
    let late = Fact::sign(&key(7), &root().space(), Link::Unchained, FactBody::Grant(late)).unwrap();
    roster.insert(late).unwrap();
    assert!(!roster.is_member(&key(5).device()));
}

#[test]
fn what_a_revoked_admin_did_before_stays_and_what_it_does_after_is_void() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Admin, "/").unwrap();
    give(&mut roster, &key(2), &key(3), Role::Writer, "/a").unwrap();
    let mut behind = roster.clone();
    roster.revoke(&key(1), key(2).device(), Ending::default()).unwrap();
    assert!(roster.can_write(&key(3).device(), &path("/a")), "made before");
    assert_eq!(give(&mut roster, &key(2), &key(4), Role::Writer, "/a"), Err(FactError::NotAuthorised));
    // The revoked admin does not know, or does not care.
    give(&mut behind, &key(2), &key(4), Role::Writer, "/a").unwrap();
    give(&mut behind, &key(4), &key(4), Role::Writer, "/a").unwrap_err();
    behind.revoke(&key(2), key(3).device(), Ending::default()).unwrap();
    for fact in behind.facts() {
        roster.insert(fact.clone()).unwrap();
    }
    assert!(!roster.can_write(&key(4).device(), &path("/a")), "granted after");
    assert!(roster.can_write(&key(3).device(), &path("/a")), "revoked by a revoked admin");
}

#[test]
fn admins_that_revoke_each_other_are_both_revoked_and_the_root_restores() {
    let mut base = made();
    give(&mut base, &key(1), &key(2), Role::Admin, "/").unwrap();
    give(&mut base, &key(1), &key(3), Role::Admin, "/").unwrap();
    let (mut one, mut two) = (base.clone(), base);
    one.revoke(&key(2), key(3).device(), Ending::default()).unwrap();
    let wrong = *two.revoke(&key(3), key(2).device(), Ending::default()).unwrap().last().unwrap();
    for fact in two.facts() {
        one.insert(fact.clone()).unwrap();
    }
    for order in [1, 5, 99] {
        let both = shuffled(&one, order);
        assert!(!both.is_admin(&key(2).device(), &Prefix::root()) && !both.is_admin(&key(3).device(), &Prefix::root()));
    }
    // The rights are gone already; what the root takes back is the wrong revocation.
    one.revoke(root().signer(), key(3).device(), Ending { before: Some(wrong), ..Ending::default() }).unwrap();
    assert!(one.is_admin(&key(2).device(), &Prefix::root()), "restored");
    assert!(!one.is_admin(&key(3).device(), &Prefix::root()));
}

#[test]
fn a_revocation_whose_list_is_not_the_one_it_names_does_nothing() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Writer, "/").unwrap();
    let mut digest = FrontierDigest::new();
    digest.endorsement(&DOCUMENT, &Actor::from_bytes(&[1; 16]).unwrap(), 1, &ChangeHash([1; 32]));
    let revocation = Revocation { subject: key(2).device(), grants: Vec::new(), frontier: digest.finish(None) };
    roster.author(&key(1), FactBody::Revocation(Box::new(revocation))).unwrap();
    assert!(roster.can_write(&key(2).device(), &path("/a")));
}

#[test]
fn long_lists_span_several_facts() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Writer, "/").unwrap();
    let of = |n: u16| {
        let mut document = [0; 16];
        document[..2].copy_from_slice(&n.to_be_bytes());
        Endorsement { document: DocumentId(document), ..endorsement(2, 3, 3) }
    };
    let all: Vec<Endorsement> = (0..300).rev().map(of).collect();
    let facts = roster.revoke(&key(1), key(2).device(), ending(&all)).unwrap();
    assert!(facts.len() > 8, "{} facts", facts.len());
    let again = shuffled(&roster, 31);
    for n in [0, 150, 299] {
        assert_eq!(again.endorses(&of(n), &path("/a")), Ok(()));
        assert!(again.endorses(&Endorsement { seq: 4, ..of(n) }, &path("/a")).is_err());
    }
}

#[test]
fn a_root_hands_the_space_on_and_says_nothing_afterwards() {
    let mut roster = made();
    let (old, new) = (root(), RootKey::from_seed(&[0xdd; 32]));
    roster.succeed(&old, &new).unwrap();
    assert_eq!(roster.root(), Some(new.signer().device()));
    assert!(roster.can_write(&key(1).device(), &path("/a")), "what the old root granted stands");
    assert_eq!(roster.succeed(&old, &new), Err(FactError::NotAuthorised));
    assert_eq!(give(&mut roster, old.signer(), &key(2), Role::Writer, "/"), Err(FactError::NotAuthorised));
    give(&mut roster, new.signer(), &key(3), Role::Admin, "/").unwrap();
    give(&mut roster, &key(3), &key(4), Role::Writer, "/").unwrap();
    // A thief of the old key.
    let grant = Grant::new(key(2).device(), Role::Admin, Prefix::root());
    for link in [Link::Unchained, Link::behind(roster.chain_end(&old.signer().device()))] {
        let fact = Fact::sign(old.signer(), roster.space(), link, FactBody::Grant(grant.clone())).unwrap();
        roster.insert(fact).unwrap();
    }
    for order in [1, 3, 17, 1_001] {
        let roster = shuffled(&roster, order);
        assert_eq!(roster.root(), Some(new.signer().device()));
        assert!(!roster.is_member(&key(2).device()) && roster.can_write(&key(4).device(), &path("/x")));
        // Whoever knows only the space's id follows the succession.
        let present = Present::create(&key(4), &handshake(), Side::Acceptor, None, &roster, NOW);
        let verified = present.verify(&handshake(), Side::Acceptor, &Roster::new(root().space()), NOW).unwrap();
        let mut newcomer = Roster::new(root().space());
        newcomer.insert_all(verified.new_facts);
        assert!(present.verify(&handshake(), Side::Acceptor, &newcomer, NOW).is_ok());
    }
}

#[test]
fn two_successions_leave_no_root_until_an_admin_strikes_one() {
    let mut roster = made();
    let (mine, theirs) = (RootKey::from_seed(&[0xdd; 32]), RootKey::from_seed(&[0xcc; 32]));
    let mut thief = roster.clone();
    roster.succeed(&root(), &mine).unwrap();
    let stolen = thief.succeed(&root(), &theirs).unwrap()[0];
    roster.insert_all(thief.facts().cloned());
    assert_eq!(roster.root(), None);
    assert!(give(&mut roster, mine.signer(), &key(2), Role::Writer, "/").is_err());
    let ending = Ending { grants: BTreeSet::from([stolen]), ..Ending::default() };
    roster.revoke(&key(1), theirs.signer().device(), ending).unwrap();
    for order in [1, 9, 333] {
        assert_eq!(shuffled(&roster, order).root(), Some(mine.signer().device()));
    }
}

#[test]
fn a_succession_without_consent_is_none() {
    let mut roster = made();
    let succession = Succession { successor: key(2).device(), consent: Signature([1; 64]) };
    roster.author(root().signer(), FactBody::Succession(Box::new(succession))).unwrap();
    assert_eq!(roster.root(), Some(root().signer().device()));
}

#[test]
fn a_claim_needs_both_signatures_of_its_device() {
    let mut roster = made();
    give(&mut roster, &key(1), &key(2), Role::Reader, "/").unwrap();
    let proof = |one: &Endorsement, two: &Endorsement, seq| {
        let side = |it: &Endorsement| Contradiction { seq: it.seq, hash: it.hash, signature: it.signature };
        let mut sides = [side(one), side(two)];
        sides.sort_by_key(|side| side.hash);
        let actor = ActorPreimage::Own { incarnation: Incarnation(1), n: 0 };
        FactBody::Equivocation(Box::new(EquivocationProof::Changes {
            document: DOCUMENT,
            device: key(3).device(),
            actor,
            seq,
            sides,
        }))
    };
    let forged = Endorsement { signature: Signature([9; 64]), ..endorsement(3, 4, 8) };
    roster.author(&key(2), proof(&endorsement(3, 4, 1), &forged, 2)).unwrap();
    assert_eq!(roster.claims(&DOCUMENT), []);
    roster.author(&key(2), proof(&endorsement(3, 4, 1), &endorsement(3, 6, 2), 3)).unwrap();
    let [claim] = roster.claims(&DOCUMENT) else { panic!("one claim") };
    assert_eq!((claim.seq, claim.low, claim.high), (3, (4, ChangeHash([1; 32])), (6, ChangeHash([2; 32]))));
    assert!(!claim.is_plain());
    let kind = EndorsementKind::Chain;
    assert_eq!(endorsement(3, 4, 1).kind, kind);
    assert!(matches!(roster.facts().last().unwrap().body(), FactBody::Equivocation(_)));
    assert!(Deed::Fact(FactHash([1; 32])).encoded_len() == 33);
    assert_ne!(grant_of(&roster, 2), FactHash([0; 32]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Revocations, successions and grants in any order of arrival come to the same.
    #[test]
    fn what_counts_does_not_depend_on_the_order_of_arrival(
        choices in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..24),
        order in any::<u64>(),
    ) {
        let mut views = [made(), made(), made()];
        for (at, (view, by, to, what)) in choices.iter().enumerate() {
            // Three admins that do not always know what the others have done.
            let view = usize::from(view % 3);
            if view == 0 && what % 5 == 0 {
                let others: Vec<Fact> = views.iter().flat_map(|view| view.facts().cloned()).collect();
                views[0].insert_all(others.clone());
                views[usize::from(by % 3)].insert_all(others);
            }
            let (by, to) = (key(1 + by % 4), key(1 + to % 5));
            let roster = &mut views[view];
            let _ = match what % 4 {
                0 => roster.revoke(&by, to.device(), Ending::default()).map(|_| ()),
                1 => roster.revoke(&by, to.device(), ending(&[endorsement(3, 1 + at as u64, 1)])).map(|_| ()),
                2 => give(roster, &by, &to, Role::Admin, ["/", "/a"][usize::from(what / 4 % 2)]).map(|_| ()),
                _ => give(roster, &by, &to, Role::Writer, ["/", "/a"][usize::from(what / 4 % 2)]).map(|_| ()),
            };
        }
        let mut all = Roster::new(root().space());
        for view in &views {
            for fact in view.facts() {
                let _ = all.insert(fact.clone());
            }
        }
        let other = shuffled(&all, order);
        prop_assert!(all.hashes().eq(other.hashes()));
        let loaded = Roster::load(*all.space(), all.facts().cloned());
        for other in [&other, &loaded] {
            for hash in all.hashes() {
                prop_assert_eq!(all.counts(hash), other.counts(hash));
            }
            for n in 1..=5 {
                let device = key(n).device();
                prop_assert_eq!(all.is_member(&device), other.is_member(&device));
                prop_assert_eq!(all.read_prefixes(&device), other.read_prefixes(&device));
                prop_assert_eq!(all.is_revoked(&device), other.is_revoked(&device));
                for seq in 1..8 {
                    let it = endorsement(n, seq, 1);
                    prop_assert_eq!(all.endorses(&it, &path("/a/x")), other.endorses(&it, &path("/a/x")));
                }
            }
            prop_assert_eq!(all.member_count(), other.member_count());
            prop_assert_eq!(all.all_changes(), other.all_changes());
        }
    }
}
