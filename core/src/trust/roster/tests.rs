use proptest::prelude::*;

use super::*;
use crate::id::PeerId;
use crate::trust::bootstrap::create_space;
use crate::trust::device::RootKey;
use crate::trust::grant::Delegation;
use crate::trust::membership::{Handshake, Present, PresentError, Side};
use crate::trust::statement::{FrontierDigest, Generation, Revocation};

mod revocations;

const NOW: WallTime = WallTime(1_000_000);

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&[n; 32])
}

fn root() -> RootKey {
    RootKey::from_seed(&[0xee; 32])
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn give(roster: &mut Roster, by: &DeviceKey, to: &DeviceKey, role: Role, at: &str) -> Result<Fact, FactError> {
    let grant = Grant::new(to.device(), role, prefix(at));
    roster.author(by, FactBody::Grant(grant)).map(|(fact, _)| fact)
}

#[test]
fn the_creator_of_a_space_may_do_everything_and_nobody_else_anything() {
    let made = create_space(&root(), &key(1).device(), true);
    let roster = &made.roster;
    assert_eq!(roster.len(), 3);
    let (creator, stranger) = (key(1).device(), key(2).device());
    assert!(roster.can_read(&creator, &path("/a")) && roster.can_write(&creator, &path("/a")));
    assert!(roster.is_admin(&creator, &Prefix::root()) && roster.is_voter(&creator));
    assert!(!roster.is_member(&stranger) && !roster.can_read(&stranger, &path("/a")));
    assert!(!roster.is_member(&root().signer().device()), "the root is not a device");
    assert_eq!(create_space(&root(), &creator, true).facts, made.facts, "making a space again makes the same space");
}

#[test]
fn rights_follow_prefixes() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    give(&mut roster, &key(1), &key(2), Role::Writer, "/a").unwrap();
    give(&mut roster, &key(1), &key(2), Role::Reader, "/a/b").unwrap();
    give(&mut roster, &key(1), &key(2), Role::Reader, "/a-b").unwrap();
    let device = key(2).device();
    for (at, reads, writes) in [
        ("/a", true, true),
        ("/a/b/c", true, true),
        ("/a-b/x", true, false),
        ("/ab", false, false),
        ("/b", false, false),
    ] {
        assert_eq!(
            (roster.can_read(&device, &path(at)), roster.can_write(&device, &path(at))),
            (reads, writes),
            "{at}"
        );
    }
    assert_eq!(roster.read_prefixes(&device), [prefix("/a"), prefix("/a-b")]);
    assert!(roster.can_read_prefix(&device, &prefix("/a/x")) && !roster.can_read_prefix(&device, &prefix("/")));
}

#[test]
fn a_prefix_admin_grants_inside_its_prefix_only() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    give(&mut roster, &key(1), &key(2), Role::Admin, "/a").unwrap();
    for (role, at, allowed) in [
        (Role::Writer, "/a/b", true),
        (Role::Admin, "/a", true),
        (Role::Writer, "/", false),
        (Role::Admin, "/ab", false),
        (Role::Voter, "/", false),
    ] {
        assert_eq!(give(&mut roster, &key(2), &key(3), role, at).is_ok(), allowed, "{role} {at}");
    }
    assert!(!roster.can_write(&key(2).device(), &path("/a/b")), "an admin does not write by that alone");
}

#[test]
fn circular_support_is_not_authority() {
    let space = root().space();
    let mut roster = Roster::new(space);
    for (by, to) in [(1, 2), (2, 1)] {
        let grant = Grant::new(key(to).device(), Role::Admin, Prefix::root());
        let fact = Fact::sign(&key(by), &space, Link::First, FactBody::Grant(grant)).unwrap();
        assert_eq!(roster.insert(fact), Ok(Insert::Pending));
    }
    assert!(roster.is_empty());
}

#[test]
fn a_fact_behind_a_foreign_or_misnumbered_predecessor_is_refused() {
    let made = create_space(&root(), &key(1).device(), false);
    let mut roster = made.roster;
    let body = FactBody::Grant(Grant::new(key(2).device(), Role::Reader, Prefix::root()));
    let roots = made.facts[0].hash();
    let foreign = Fact::sign(&key(1), &made.space, Link::After { seq: 2, previous: roots }, body.clone()).unwrap();
    assert_eq!(roster.insert(foreign), Err(RosterError::Chain));
    let link = Link::After { seq: 4, previous: made.facts[1].hash() };
    let misnumbered = Fact::sign(root().signer(), &made.space, link, body.clone()).unwrap();
    assert_eq!(roster.insert(misnumbered), Err(RosterError::Chain));
    let elsewhere = Fact::sign(&key(1), &SpaceId([9; 32]), Link::First, body).unwrap();
    assert_eq!(roster.insert(elsewhere), Err(RosterError::Signature));
    assert_eq!(roster.len(), 2);
}

#[test]
fn facts_that_wait_name_what_they_lack_and_are_admitted_with_it() {
    let made = create_space(&root(), &key(1).device(), true);
    let mut roster = Roster::new(made.space);
    let [first, second, third] = &made.facts[..] else { panic!("three facts") };
    assert_eq!(roster.insert(third.clone()), Ok(Insert::Pending));
    assert_eq!(roster.missing_predecessors(9), [second.hash()]);
    assert_eq!(roster.insert(second.clone()), Ok(Insert::Pending));
    assert_eq!(roster.missing_predecessors(9), [first.hash()]);
    assert_eq!(roster.insert(second.clone()), Ok(Insert::Known));
    let all: Vec<FactHash> = made.facts.iter().map(Fact::hash).collect();
    assert_eq!(roster.insert(first.clone()), Ok(Insert::Admitted(all)));
    assert_eq!((roster.missing_predecessors(9).len(), roster.waiting().len()), (0, 0));
}

#[test]
fn a_fork_is_admitted_on_both_sides_and_named() {
    let made = create_space(&root(), &key(1).device(), false);
    let mut roster = made.roster;
    let mut forked = Vec::new();
    for subject in [2, 3] {
        let body = FactBody::Grant(Grant::new(key(subject).device(), Role::Reader, Prefix::root()));
        let fact = Fact::sign(&key(1), &made.space, Link::First, body).unwrap();
        forked.push(fact.hash());
        assert!(matches!(roster.insert(fact), Ok(Insert::Admitted(_))));
    }
    forked.sort_unstable();
    assert_eq!(roster.forks(), [(forked[0], forked[1])]);
    assert_eq!(roster.chain_end(&key(1).device()), Some((1, forked[0])));
}

#[test]
fn the_waiting_room_is_bounded() {
    let mut roster = Roster::new(root().space());
    let body = FactBody::Grant(Grant::new(key(2).device(), Role::Reader, Prefix::root()));
    for seq in 0..MAX_PENDING as u64 {
        let link = Link::After { seq: seq + 2, previous: FactHash([1; 32]) };
        let fact = Fact::unsigned(key(1).device(), link, body.clone());
        assert_eq!(roster.place(fact, MAX_PENDING), Ok(Insert::Pending));
    }
    let fact = Fact::sign(&key(1), roster.space(), Link::First, body).unwrap();
    assert_eq!(roster.insert(fact), Err(RosterError::PendingFull));
}

#[test]
fn facts_without_effect_are_kept_and_change_no_right() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    give(&mut roster, &key(1), &key(2), Role::Reader, "/").unwrap();
    let unknown = FactBody::Unknown { kind: 77, bytes: b"from the future".as_slice().into() };
    let (fact, _) = roster.author(&key(2), unknown.clone()).unwrap();
    assert!(roster.contains(&fact.hash()));
    assert_eq!(roster.author(&key(3), unknown), Err(FactError::NotAuthorised), "a stranger's are not kept");
    assert!(!roster.can_write(&key(2).device(), &path("/a")) && !roster.is_member(&key(3).device()));
}

#[test]
fn ten_thousand_members_are_paged_and_found() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    let space = *roster.space();
    let mut end = None;
    let mut stored: Vec<Fact> = roster.facts().cloned().collect();
    for n in 0..10_000u32 {
        let mut subject = [0; 32];
        subject[..4].copy_from_slice(&n.to_be_bytes());
        let body = FactBody::Grant(Grant::new(DeviceId(subject), Role::Reader, prefix("/a")));
        let fact = Fact::unsigned(key(1).device(), Link::behind(end), body);
        end = Some((fact.link().seq(), fact.hash()));
        stored.push(fact);
    }
    stored.sort_by_key(Fact::hash);
    roster = Roster::load(space, stored);
    assert_eq!((roster.len(), roster.waiting().len()), (10_002, 0));
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = roster.members(after.as_ref(), 700);
        let Some(last) = page.last() else { break };
        after = Some(last.device);
        seen += page.len();
    }
    assert_eq!((seen, roster.member_count()), (10_001, 10_001));
    let mut subject = [0; 32];
    subject[..4].copy_from_slice(&9_999u32.to_be_bytes());
    assert!(roster.can_read(&DeviceId(subject), &path("/a/b")));
}

#[test]
fn colliding_short_ids_resolve_to_all_their_devices() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    let (mut one, mut two) = ([7; 32], [7; 32]);
    (one[31], two[31]) = (1, 2);
    for subject in [two, one] {
        let grant = Grant::new(DeviceId(subject), Role::Reader, Prefix::root());
        roster.author(&key(1), FactBody::Grant(grant)).unwrap();
    }
    let found: Vec<_> = roster.resolve(&ShortDeviceId([7; 8])).copied().collect();
    assert_eq!(found, [DeviceId(one), DeviceId(two)]);
    assert_eq!(roster.resolve(&ShortDeviceId([8; 8])).count(), 0);
}

fn handshake() -> Handshake {
    let (initiator, acceptor) = (PeerId([1; 32]), PeerId([2; 32]));
    Handshake { space: root().space(), initiator, acceptor, initiator_nonce: [3; 16], acceptor_nonce: [4; 16] }
}

#[test]
fn expiry_stops_a_device_at_the_handshake_and_leaves_its_rights() {
    let mut roster = create_space(&root(), &key(1).device(), false).roster;
    let grant = Grant::new(key(2).device(), Role::Writer, Prefix::root()).until(Some(WallTime(10)));
    roster.author(&key(1), FactBody::Grant(grant)).unwrap();
    let device = key(2).device();
    let present = |now| Present::create(&key(2), &handshake(), Side::Initiator, None, &roster, now);
    let verify = |now| present(now).verify(&handshake(), Side::Initiator, &roster, now);
    assert!(verify(WallTime(10)).is_ok());
    assert_eq!(verify(WallTime(11)), Err(PresentError::Expired));
    assert!(roster.may_connect(&device, WallTime(10)) && !roster.may_connect(&device, WallTime(11)));
    assert!(roster.can_write(&device, &path("/a")), "history does not depend on a clock");
    assert_eq!(roster.read_prefixes_at(&device, WallTime(11)), []);
}

/// A fact whose admission takes another right for each role.
fn inert_body(role: Role, subject: DeviceId) -> FactBody {
    match role {
        Role::Reader => FactBody::Unknown { kind: 99, bytes: subject.0.as_slice().into() },
        Role::Writer => {
            let generation = Generation { n: 1, voters: Vec::new(), digest: subject.0 };
            FactBody::Generation(Box::new(generation))
        }
        _ => {
            let frontier = FrontierDigest::new().finish(None);
            FactBody::Revocation(Box::new(Revocation { subject, grants: Vec::new(), frontier }))
        }
    }
}

/// Facts of a small world: admins, prefix admins, invitations, outsiders, chains and forks, some of it void.
fn world(choices: &[(u8, u8, u8, u8, bool)]) -> Vec<Fact> {
    let made = create_space(&root(), &key(1).device(), true);
    let mut facts = made.facts.clone();
    let mut ends: BTreeMap<DeviceId, (u64, FactHash)> = BTreeMap::new();
    for (by, to, role, at, unchained) in choices {
        let by = key(1 + by % 6);
        let inert = *role >= 200;
        let role = Role::ALL[usize::from(role % 3)];
        let at = ["/", "/a", "/a/b", "/b"][usize::from(at % 4)];
        let mut grant = Grant::new(key(1 + to % 6).device(), role, prefix(at));
        if to % 5 == 0 {
            grant = grant.delegating(Delegation { not_after: None });
        }
        let link = if *unchained && !inert { Link::Unchained } else { Link::behind(ends.get(&by.device()).copied()) };
        let body = if inert { inert_body(role, grant.subject) } else { FactBody::Grant(grant) };
        let fact = Fact::sign(&by, &made.space, link, body).unwrap();
        if fact.link() != Link::Unchained && role as u8 != 1 {
            // Facts that do not move the end are forked by the signer's next one.
            ends.insert(by.device(), (fact.link().seq(), fact.hash()));
        }
        facts.push(fact);
    }
    facts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_admitted_set_does_not_depend_on_the_order_of_arrival(
        choices in prop::collection::vec(any::<(u8, u8, u8, u8, bool)>(), 0..24),
        order in any::<u64>(),
    ) {
        let facts = world(&choices);
        let mut shuffled: Vec<(u64, &Fact)> = facts.iter().enumerate()
            .map(|(at, fact)| ((at as u64 + 1).wrapping_mul(order | 1).rotate_left(17), fact)).collect();
        shuffled.sort_by_key(|(at, _)| *at);
        let (mut one, mut two) = (Roster::new(root().space()), Roster::new(root().space()));
        for fact in &facts {
            let _ = one.insert(fact.clone());
        }
        for (_, fact) in shuffled {
            let _ = two.insert(fact.clone());
        }
        prop_assert!(one.hashes().eq(two.hashes()));
        prop_assert_eq!(one.forks(), two.forks());
        for n in 1..=6 {
            prop_assert_eq!(one.read_prefixes(&key(n).device()), two.read_prefixes(&key(n).device()));
            prop_assert_eq!(one.chain_end(&key(n).device()), two.chain_end(&key(n).device()));
        }
        // What is sent in order of admission never has to wait.
        let mut three = Roster::new(root().space());
        for fact in two.facts() {
            prop_assert!(matches!(three.insert(fact.clone()), Ok(Insert::Admitted(_))));
        }
        prop_assert!(three.hashes().eq(two.hashes()));
    }

    #[test]
    fn every_member_can_prove_itself_to_whoever_knows_only_the_space(
        choices in prop::collection::vec(any::<(u8, u8, u8, u8, bool)>(), 0..24),
    ) {
        let mut roster = Roster::new(root().space());
        for fact in world(&choices) {
            let _ = roster.insert(fact);
        }
        let ignorant = Roster::new(root().space());
        for n in 1..=6 {
            let present = Present::create(&key(n), &handshake(), Side::Acceptor, None, &roster, NOW);
            let verified = present.verify(&handshake(), Side::Acceptor, &ignorant, NOW);
            prop_assert_eq!(verified.is_ok(), roster.is_member(&key(n).device()));
        }
    }

    #[test]
    fn whoever_is_no_admin_grants_nothing(
        choices in prop::collection::vec((1u8..6, any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()), 0..24),
    ) {
        // All facts but the root's are signed by devices 2 to 6, of which 2 is a reader and the others are strangers.
        let made = create_space(&root(), &key(1).device(), true);
        let mut roster = made.roster;
        give(&mut roster, &key(1), &key(2), Role::Reader, "/").unwrap();
        let rights = |roster: &Roster| -> Vec<Grant> { roster.facts().filter_map(Fact::grant).cloned().collect() };
        let before = rights(&roster);
        for fact in world(&choices) {
            let _ = roster.insert(fact);
        }
        prop_assert_eq!(rights(&roster), before);
        let by_strangers = |fact: &Fact| (3..=6).any(|n| *fact.signer() == key(n).device());
        prop_assert!(!roster.facts().any(by_strangers));
    }
}
