//! What leaves with a revoked device, on every peer and in every order of arrival.

use super::*;
use crate::trust::{FactBody, Refusal, Tombstone};
use crate::wire::Codec;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn device(net: &Net, n: usize) -> DeviceId {
    net.nodes[n].engine.identity().device
}

fn revoke(net: &mut Net, by: usize, space: SpaceId, of: usize, keep: Keep) {
    let device = device(net, of);
    let reply = net.call(by, Command::Revoke { space, device, grants: Vec::new(), keep });
    assert!(matches!(&reply, Ok(Reply::Revoked(devices)) if *devices == [device]), "{reply:?}");
}

/// Three writers in one space, everybody linked with everybody.
fn three() -> (Net, SpaceId) {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.join(0, 2, space, Role::Writer, "/");
    for (a, b) in [(1, 0), (2, 0), (1, 2)] {
        net.connect(a, b);
    }
    net.run_for(200);
    (net, space)
}

fn heads(net: &Net, n: usize, space: SpaceId, at: &str) -> Vec<ChangeHash> {
    let entry = net.nodes[n].engine.spaces[&space].index.live_entry(&path(at));
    entry.map(|entry| entry.heads.to_vec()).unwrap_or_default()
}

fn evicted(net: &Net, n: usize) -> usize {
    let count = |event: &Event| if let Event::Evicted { changes, .. } = event { changes.len() } else { 0 };
    net.nodes[n].events.iter().map(count).sum()
}

#[test]
fn what_was_known_stays_and_what_comes_after_is_refused_with_its_reason() {
    let (mut net, space) = three();
    net.put(2, space, "/a", "before", 1);
    net.run_for(500);
    net.cut(2, 0);
    net.cut(1, 2);
    revoke(&mut net, 0, space, 2, Keep::Known);
    net.run_for(500);
    net.put(2, space, "/a", "after", 2);
    // By way of a peer that is on no side: an import of what the revoked device has.
    let Ok(Reply::Exported { page, .. }) = net.call(2, Command::Export { space, after: None }) else {
        panic!("no page")
    };
    for n in [0, 1] {
        net.call(n, Command::Import { space, page: page.clone() }).unwrap();
        assert_eq!(net.value(n, space, "/a"), map(&[("before", 1)]), "node {n}");
        let why = net.nodes[n].events.iter().find_map(|event| match event {
            Event::Refused { why, .. } => Some(why.clone()),
            _ => None,
        });
        assert_eq!(why, Some(RefusedChange::Standing(Refusal::Revoked { device: device(&net, 2) })), "node {n}");
        assert_eq!(evicted(&net, n), 0);
    }
    assert_eq!(net.root(0), net.root(1));
    // It is told nothing, whoever it calls.
    net.connect(2, 0);
    net.run_for(500);
    net.put(0, space, "/secret", "x", 1);
    net.run_for(500);
    assert_eq!(net.value(2, space, "/secret"), None);
    assert!(net.status(0).links.iter().all(|link| link.device != Some(device(&net, 2))));
}

#[test]
fn a_device_that_is_linked_learns_of_its_end_and_hears_nothing_more() {
    let (mut net, space) = three();
    net.put(2, space, "/a", "x", 1);
    net.run_for(300);
    revoke(&mut net, 0, space, 2, Keep::Known);
    net.run_for(500);
    net.put(0, space, "/a", "y", 2);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 1), ("y", 2)]));
    assert_eq!(net.value(2, space, "/a"), map(&[("x", 1)]));
    let cell = net.open(2, space, "/a");
    let change = edit(&cell, "z", 3);
    let refused = net.call(2, Command::Commit { space, changes: vec![change] });
    assert!(matches!(refused, Err(CommandError::Revoked { .. })), "{refused:?}");
}

/// The revoker has not seen some of what the device wrote, and others have built on it.
#[test]
fn what_lies_beyond_the_frontier_leaves_with_all_that_stands_on_it() {
    for restart in [false, true] {
        let (mut net, space) = three();
        net.put(2, space, "/a", "kept", 1);
        net.run_for(500);
        net.cut(1, 0);
        net.cut(2, 0);
        net.put(2, space, "/a", "evil", 2);
        net.put(2, space, "/b", "evil", 3);
        net.run_for(500);
        net.put(1, space, "/a", "honest", 4);
        net.run_for(500);
        let shown = net.open(1, space, "/a");
        revoke(&mut net, 0, space, 2, Keep::Known);
        net.put(0, space, "/a", "mine", 5);
        net.run_for(500);
        net.connect(1, 0);
        net.run_for(2_000);
        for n in [0, 1] {
            assert_eq!(net.value(n, space, "/a"), map(&[("kept", 1), ("mine", 5)]), "node {n}");
            assert_eq!(net.value(n, space, "/b"), None, "node {n}");
        }
        assert_eq!(heads(&net, 0, space, "/a"), heads(&net, 1, space, "/a"));
        assert_eq!(net.root(0), net.root(1));
        assert_eq!(evicted(&net, 1), 3);
        // Who has it open sees it leave.
        assert_eq!(shown.with(|hot| hot.value()).unwrap().unwrap(), map(&[("kept", 1), ("mine", 5)]).unwrap());
        if restart {
            net.restart(1);
            assert_eq!(net.value(1, space, "/a"), map(&[("kept", 1), ("mine", 5)]));
            net.connect(1, 0);
        }
        // Its own actor is not used again, so that what it signs now contradicts nothing.
        net.put(1, space, "/a", "again", 6);
        net.run_for(1_000);
        assert_eq!(net.value(0, space, "/a"), map(&[("again", 6), ("kept", 1), ("mine", 5)]));
        assert_eq!(net.root(0), net.root(1));
        assert!(
            net.nodes[0].engine.spaces[&space].roster.facts().all(|f| !matches!(f.body(), FactBody::Equivocation(_)))
        );
    }
}

#[test]
fn a_deletion_by_a_revoked_device_is_undone_where_it_was_not_known() {
    let (mut net, space) = three();
    net.put(0, space, "/a", "x", 1);
    net.run_for(300);
    net.cut(1, 0);
    net.cut(2, 0);
    net.call(2, Command::Delete { space, path: path("/a") }).unwrap();
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a"), None);
    revoke(&mut net, 0, space, 2, Keep::Known);
    net.connect(1, 0);
    net.run_for(2_000);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 1)]));
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 1)]), "what it had collected comes from who had not heard of it");
    assert_eq!(net.root(0), net.root(1));
    // And one that is made afterwards is refused.
    let late = Tombstone::sign(&net.nodes[2].engine.identity().key, &space, path("/a"), 0, []).unwrap();
    assert!(late.verify(&space, &net.nodes[0].engine.spaces[&space].roster).is_err());
    assert!(!late.to_bytes().is_empty());
}

#[test]
fn keeping_nothing_takes_everything_of_the_device() {
    let (mut net, space) = three();
    net.put(2, space, "/a", "x", 1);
    net.run_for(300);
    net.put(1, space, "/a", "y", 2);
    net.put(1, space, "/b", "y", 2);
    net.run_for(300);
    revoke(&mut net, 0, space, 2, Keep::Nothing);
    net.run_for(2_000);
    for n in [0, 1] {
        assert_eq!(net.value(n, space, "/a"), None);
        assert_eq!(net.value(n, space, "/b"), map(&[("y", 2)]));
        assert_eq!(evicted(&net, n), 2);
    }
    assert_eq!(net.root(0), net.root(1));
}

/// One endorsement stood for all that an author had made in a document, and it named the newest change: when that one left,
/// because it stood on what was taken back, the author's earlier edits left with it on every peer, though nothing was wrong
/// with them. The author signs them anew, whenever it learns of it.
#[test]
fn earlier_edits_of_a_chain_whose_newest_left_stay() {
    for away in [false, true] {
        let (mut net, space) = three();
        net.put(1, space, "/a", "mine", 1);
        net.put(1, space, "/a", "mine too", 2);
        net.run_for(300);
        net.put(2, space, "/a", "evil", 3);
        net.run_for(300);
        net.put(1, space, "/a", "on top", 4);
        net.put(1, space, "/a", "on top of that", 5);
        net.run_for(300);
        if away {
            net.cut(1, 0);
            net.cut(1, 2);
        }
        revoke(&mut net, 0, space, 2, Keep::Nothing);
        net.run_for(2_000);
        if away {
            // Nobody but the author can say what of it stands.
            assert_eq!(net.value(0, space, "/a"), None);
            net.connect(1, 0);
            net.run_for(2_000);
        }
        for n in [0, 1] {
            assert_eq!(net.value(n, space, "/a"), map(&[("mine", 1), ("mine too", 2)]), "node {n}, away: {away}");
            let Ok(Reply::EvictedChanges(aside)) = net.call(n, Command::EvictedChanges { space, path: path("/a") })
            else {
                panic!("no list")
            };
            assert_eq!(aside.len(), 3, "node {n}: what came back is not offered to be made again");
        }
        assert_eq!(net.root(0), net.root(1));
        // A newcomer gets it from either, and the author goes on.
        net.restart(1);
        assert_eq!(net.value(1, space, "/a"), map(&[("mine", 1), ("mine too", 2)]));
        net.connect(1, 0);
        net.put(1, space, "/a", "later", 6);
        net.run_for(1_000);
        assert_eq!(net.value(0, space, "/a"), map(&[("later", 6), ("mine", 1), ("mine too", 2)]));
        assert_eq!(net.root(0), net.root(1));
        let accuses = |fact: &crate::trust::Fact| matches!(fact.body(), FactBody::Equivocation(_));
        assert!(!net.nodes[0].engine.spaces[&space].roster.facts().any(accuses), "nobody lied");
    }
}

#[test]
fn a_process_that_dies_during_its_reviews_finishes_them_later() {
    let (mut net, space) = three();
    for n in 0..40 {
        net.put(2, space, &format!("/d/{n}"), "x", n);
    }
    net.run_for(500);
    let device = device(&net, 2);
    net.ask(0, Command::Revoke { space, device, grants: Vec::new(), keep: Keep::Nothing });
    // Until the fact is durable and no further.
    for _ in 0..200 {
        net.step();
        if net.nodes[0].engine.reviews.contains_key(&space) {
            break;
        }
    }
    assert!(net.nodes[0].engine.reviews.contains_key(&space));
    net.restart(0);
    net.run_for(1_000);
    for n in 0..40 {
        assert_eq!(net.value(0, space, &format!("/d/{n}")), None);
    }
    assert!(net.nodes[0].engine.reviews.is_empty());
    net.connect(1, 0);
    net.run_for(2_000);
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn who_does_not_replicate_cannot_say_what_is_kept() {
    let (mut net, space) = three();
    net.call(0, Command::Interest { space, prefixes: vec![Prefix::parse("/x").unwrap()] }).unwrap();
    let device = device(&net, 2);
    let refused = net.call(0, Command::Revoke { space, device, grants: Vec::new(), keep: Keep::Known });
    assert!(matches!(refused, Err(CommandError::Invalid { what: "revocation", .. })), "{refused:?}");
    let denied = net.call(1, Command::Revoke { space, device, grants: Vec::new(), keep: Keep::Known });
    assert!(matches!(denied, Err(CommandError::Denied { .. })), "{denied:?}");
}

#[test]
fn a_rotated_root_survives_a_restart_and_is_followed_by_others() {
    let (mut net, space) = three();
    let old = net.nodes[0].engine.spaces[&space].record.root_seed;
    let Ok(Reply::RootKey(Some(new))) = net.call(0, Command::RotateRoot { space, successor: None }) else {
        panic!("no new root")
    };
    net.run_for(500);
    for n in 0..3 {
        assert_eq!(net.nodes[n].engine.spaces[&space].roster.root(), Some(new.signer().device()), "node {n}");
    }
    net.restart(0);
    let seed = net.nodes[0].engine.spaces[&space].record.root_seed;
    assert_eq!(seed, Some(crate::id::Seed(*new.seed())));
    assert_ne!(seed, old);
    assert!(matches!(net.call(1, Command::RotateRoot { space, successor: None }), Err(CommandError::Denied { .. })));
    net.connect(1, 0);
    net.put(0, space, "/a", "x", 1);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 1)]));
}

/// A revocation is a list of facts and one more; where there is no room for all of them none is made.
#[test]
fn a_revocation_beyond_the_bound_of_its_signer_is_refused_whole() {
    let mut net =
        Net::with(2, |_| EngineConfig { store_identity: b"test".to_vec(), signer_facts: 1, ..EngineConfig::default() });
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.put(1, space, "/a", "x", 1);
    net.run_for(500);
    let facts = |net: &Net| net.nodes[0].engine.spaces[&space].roster.len();
    let (device, before) = (device(&net, 1), facts(&net));
    let refused = net.call(0, Command::Revoke { space, device, grants: Vec::new(), keep: Keep::Known });
    assert!(matches!(&refused, Err(CommandError::Invalid { why, .. }) if why.contains("bound")), "{refused:?}");
    assert_eq!(facts(&net), before);
    revoke(&mut net, 0, space, 1, Keep::Nothing);
    assert_eq!(facts(&net), before + 1, "one fact fits");
}

#[test]
fn what_has_ended_is_revoked_by_a_fact() {
    let (mut net, space) = three();
    let end = WallTime(net.now().wall.0 + 60_000);
    let invite = Command::Invite {
        space,
        role: Role::Writer,
        prefix: Prefix::root(),
        not_after: Some(end),
        addresses: Vec::new(),
    };
    net.call(0, invite).unwrap();
    assert!(matches!(net.call(0, Command::RevokeExpired { space }), Ok(Reply::Revoked(none)) if none.is_empty()));
    net.micros += 120_000_000;
    let reply = net.call(0, Command::RevokeExpired { space });
    assert!(matches!(&reply, Ok(Reply::Revoked(devices)) if devices.len() == 1), "{reply:?}");
    net.run_for(200);
    let again = net.call(0, Command::RevokeExpired { space });
    assert!(matches!(&again, Ok(Reply::Revoked(devices)) if devices.is_empty()), "{again:?}");
    assert_eq!(net.nodes[0].engine.spaces[&space].roster.len(), net.nodes[1].engine.spaces[&space].roster.len());
}

#[test]
fn edits_that_left_with_others_are_listed_made_again_and_forgotten() {
    let (mut net, space) = three();
    net.put(0, space, "/a", "kept", 1);
    net.run_for(500);
    net.cut(1, 0);
    net.cut(2, 0);
    net.put(2, space, "/a", "evil", 2);
    net.run_for(500);
    net.put(1, space, "/a", "honest", 3);
    net.put(1, space, "/a", "more", 4);
    let before = net.open(1, space, "/a");
    let seen = before.with(|hot| hot.heads()).unwrap().unwrap();
    revoke(&mut net, 0, space, 2, Keep::Known);
    net.connect(1, 0);
    net.run_for(2_000);
    // Who watched is told exactly what went.
    let patches = before.with(|hot| hot.patches_since(&seen)).unwrap().unwrap();
    let mut shown = map(&[("evil", 2), ("honest", 3), ("kept", 1), ("more", 4)]).unwrap();
    crate::document::patch::apply(&mut shown, &patches).unwrap();
    assert_eq!(Some(shown), map(&[("kept", 1)]));
    let Ok(Reply::Evicted(documents)) = net.call(1, Command::Evicted { space, prefix: Prefix::root() }) else {
        panic!("no list")
    };
    assert_eq!((documents.len(), documents[0].changes), (1, 3));
    let list = |net: &mut Net| match net.call(1, Command::EvictedChanges { space, path: path("/a") }) {
        Ok(Reply::EvictedChanges(changes)) => changes,
        other => panic!("{other:?}"),
    };
    let changes = list(&mut net);
    let honest: Vec<_> = changes.iter().filter(|change| change.honest).collect();
    assert_eq!((changes.len(), honest.len()), (3, 2));
    assert!(honest.iter().all(|change| change.mine));
    let evil = changes.iter().find(|change| !change.honest).unwrap();
    assert_eq!(evil.device, Some(device(&net, 2)));
    let aside: Vec<Vec<u8>> = changes.iter().map(|change| change.bytes.clone()).collect();
    let picks: std::collections::BTreeSet<ChangeHash> = honest.iter().map(|change| change.change).collect();
    let cell = net.open(1, space, "/a");
    let again = cell.with(|hot| hot.make_again(&aside, &picks, &EditOptions::default())).unwrap().unwrap();
    assert_eq!((again.changes.len(), again.lost.len()), (2, 0));
    net.call(1, Command::Commit { space, changes: again.changes }).unwrap();
    let discard = Command::DiscardEvicted { space, path: path("/a"), changes: picks.into_iter().collect() };
    net.call(1, discard).unwrap();
    assert_eq!(list(&mut net).len(), 1);
    net.call(1, Command::DiscardEvicted { space, path: path("/a"), changes: Vec::new() }).unwrap();
    assert_eq!(list(&mut net).len(), 0);
    net.run_for(1_000);
    assert_eq!(net.value(0, space, "/a"), map(&[("honest", 3), ("kept", 1), ("more", 4)]));
    assert_eq!(net.root(0), net.root(1));
    net.restart(1);
    net.put(1, space, "/a", "last", 5);
    net.connect(1, 0);
    net.run_for(1_000);
    assert_eq!(net.value(0, space, "/a"), map(&[("honest", 3), ("kept", 1), ("last", 5), ("more", 4)]));
}

/// A store that signs anew what it has signed: the same keys and the same life, put back to an older state. It speaks to the
/// first peer as one and to the second as the other, and then the two meet.
fn contradicted() -> (Net, SpaceId) {
    let (mut net, space) = three();
    net.put(2, space, "/a", "common", 1);
    net.run_for(500);
    for (a, b) in [(1, 0), (2, 0), (1, 2)] {
        net.cut(a, b);
    }
    assert!(net.call(2, Command::Close).is_ok());
    let closed = net.nodes[2].store.clone();
    net.restart(2);
    net.put(2, space, "/a", "one", 2);
    net.put(2, space, "/a", "two", 3);
    net.connect(2, 0);
    net.run_for(500);
    net.cut(2, 0);
    net.nodes[2].store = closed;
    net.restart(2);
    net.put(2, space, "/a", "three", 4);
    net.connect(2, 1);
    net.run_for(500);
    net.cut(2, 1);
    assert_eq!(net.value(0, space, "/a"), map(&[("common", 1), ("one", 2), ("two", 3)]));
    assert_eq!(net.value(1, space, "/a"), map(&[("common", 1), ("three", 4)]));
    net.put(1, space, "/a", "on top", 5);
    net.connect(1, 0);
    net.run_for(4_000);
    (net, space)
}

#[test]
fn two_chains_of_one_actor_are_proved_and_leave_on_both_sides() {
    let (mut net, space) = contradicted();
    for n in [0, 1] {
        assert_eq!(net.value(n, space, "/a"), map(&[("common", 1)]), "node {n}");
        let claims =
            net.nodes[n].engine.spaces[&space].roster.claims(&DocumentId::derive(&space, &path("/a"), 0)).len();
        assert!(claims >= 1, "node {n}");
    }
    assert_eq!(net.root(0), net.root(1));
    // The next edits go on.
    net.put(0, space, "/a", "later", 6);
    net.run_for(1_000);
    assert_eq!(net.value(1, space, "/a"), map(&[("common", 1), ("later", 6)]));
}

/// What two chains have in common was vouched for by whoever proved that there are two, in its own name; a revocation of the liar
/// that kept nothing did not touch that.
#[test]
fn what_others_vouch_for_does_not_undo_a_revocation() {
    for (keep, left) in [(Keep::Known, map(&[("common", 1)])), (Keep::Nothing, None)] {
        let (mut net, space) = contradicted();
        assert_eq!(net.value(1, space, "/a"), map(&[("common", 1)]));
        revoke(&mut net, 0, space, 2, keep);
        net.run_for(2_000);
        for n in [0, 1] {
            assert_eq!(net.value(n, space, "/a"), left, "node {n}, {keep:?}");
        }
        assert_eq!(net.root(0), net.root(1));
    }
}
