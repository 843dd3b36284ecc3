//! Rounds: what they take, and what becomes of one that nobody answers.

use super::*;
use crate::wire::v1::DocumentUpdate;
use crate::wire::{Reader, Writer};

/// Two peers in step that each forgot how far it had followed the other's log, and are not linked.
fn parted() -> (Net, SpaceId) {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.put(0, space, "/a", "x", 1);
    net.put(0, space, "/b", "x", 1);
    net.connect(1, 0);
    net.run_for(200);
    net.cut(1, 0);
    forget_cursors(&mut net);
    (net, space)
}

fn forget_cursors(net: &mut Net) {
    net.nodes.iter_mut().for_each(|node| node.engine.cursors.clear());
}

fn in_step(net: &Net) -> bool {
    net.nodes.iter().all(|node| {
        let mut links = node.engine.links.values();
        links.len() == 1 && links.all(|link| link.sync.in_step)
    })
}

/// Steps until both ends of a new link know that they are in step. A message takes one, and so does a task of the store.
fn steps_until_in_step(net: &mut Net, initiator: usize, acceptor: usize) -> usize {
    net.connect_without_settling(initiator, acceptor);
    (1..1000)
        .find(|_| {
            net.step();
            in_step(net)
        })
        .expect("they come into step")
}

#[test]
fn roots_are_compared_right_behind_what_a_round_ships() {
    for (editor, initiator) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (mut net, space) = parted();
        let equal = steps_until_in_step(&mut net, initiator, 1 - initiator);
        net.cut(initiator, 1 - initiator);
        net.put(editor, space, "/a", "x", 2);
        forget_cursors(&mut net);
        let took = steps_until_in_step(&mut net, initiator, 1 - initiator) - equal;
        // Whoever has the news may have begun the round: the question of what differs and its answer, the news and the last
        // answer. Otherwise the news is asked for first.
        let most = if editor == initiator { 4 } else { 6 };
        assert!(took <= most, "{took} steps, editor {editor}, initiator {initiator}");
        assert_eq!(net.root(0), net.root(1));
    }
}

/// Whatever a peer owes after so long a silence is not going to come.
#[test]
fn a_round_that_nobody_answers_is_begun_anew() {
    let (mut net, space) = parted();
    net.connect(1, 0);
    net.run_for(200);
    assert!(in_step(&net));
    let lost: Vec<_> = net.wires.iter().filter(|((n, _), _)| *n == 0).map(|(near, far)| (*near, *far)).collect();
    lost.iter().for_each(|(near, _)| assert!(net.wires.remove(near).is_some()));
    net.call(1, Command::Reconcile).unwrap();
    net.wait(500);
    net.wires.extend(lost);
    net.put(0, space, "/a", "y", 3);
    net.wait(15_000);
    assert!(!in_step(&net), "the answer was lost, and is not waited for so short a time");
    // Whatever it says of other things meanwhile, for one who its neighbours are, is a sign of life.
    net.wait(40_000);
    assert!(in_step(&net));
    assert_eq!(net.root(0), net.root(1));
}

/// The page of an export with only the last change of each document, as it reaches a peer that missed what came before.
fn last_changes(page: &[u8]) -> Vec<u8> {
    let mut r = Reader::new(page);
    let (version, space) = (r.varint("version").unwrap(), r.array::<32>("space").unwrap());
    let facts = r.list(64, "facts", |r| Ok(r.bytes(4096, "fact")?.to_vec())).unwrap();
    let documents = r.list(64, "documents", DocumentUpdate::decode_unbounded).unwrap();
    let mut w = Writer::new();
    w.varint(version).array(&space);
    w.list(&facts, |w, fact| {
        w.bytes(fact);
    });
    w.varint(documents.len() as u64);
    for mut document in documents {
        document.chunks.drain(..document.chunks.len() - 1);
        document.encode_unbounded(&mut w);
    }
    w.finish()
}

/// An author lost its store after its last change had reached one peer without the one before it. The endorsement of that
/// last change waited there for ever and hid the older one under which everybody else has the author's earlier changes.
#[test]
fn an_endorsement_whose_changes_are_lost_hides_no_older_one() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.join(0, 2, space, Role::Writer, "/");
    net.put(0, space, "/a", "x", 1);
    net.put(0, space, "/a", "x", 2);
    net.connect(1, 0);
    net.run_for(200);
    net.cut(1, 0);
    net.put(0, space, "/a", "x", 3);
    net.put(0, space, "/a", "x", 4);
    let Ok(Reply::Exported { page, .. }) = net.call(0, Command::Export { space, after: None }) else { panic!() };
    net.call(2, Command::Import { space, page: last_changes(&page) }).unwrap();
    assert_eq!(net.value(2, space, "/a"), None, "what it depends on is missing");
    net.connect(2, 1);
    net.wait(5_000);
    assert_eq!(net.value(2, space, "/a"), map(&[("x", 2)]));
    // What was lost turns up after all.
    net.connect(2, 0);
    net.wait(5_000);
    assert_eq!(net.value(2, space, "/a"), map(&[("x", 4)]));
}
