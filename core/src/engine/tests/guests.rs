//! Changes of actors that are no devices: who vouches for them, and what of them is let in.

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};

use super::*;
use crate::document::Chunk;
use crate::trust::{Endorsement, EndorsementKind};

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn guest(actor: u8) -> AutoCommit {
    AutoCommit::new().with_actor(automerge::ActorId::from([actor; 5]))
}

fn put(doc: &mut AutoCommit, key: &str, value: i64) {
    doc.put(ROOT, key, value).unwrap();
    doc.commit();
}

fn chunks(doc: &mut AutoCommit) -> Vec<Vec<u8>> {
    doc.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect()
}

/// Changes let in, and refused.
fn admit(net: &mut Net, n: usize, space: SpaceId, chunks: Vec<Vec<u8>>) -> (u64, u64) {
    match net.call(n, Command::Admit { space, path: path("/a"), generation: 0, chunks }) {
        Ok(Reply::Imported { changes, refused }) => (changes, refused),
        other => panic!("{other:?}"),
    }
}

fn stored(net: &mut Net, n: usize, space: SpaceId, after: u64) -> StoredChanges {
    match net.call(n, Command::Changes { space, path: path("/a"), after }) {
        Ok(Reply::Changes(changes)) => *changes,
        other => panic!("{other:?}"),
    }
}

fn two() -> (Net, SpaceId) {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.run_for(200);
    (net, space)
}

#[test]
fn what_guests_wrote_is_everywhere_and_survives_a_restart() {
    let (mut net, space) = two();
    let mut doc = guest(1);
    (0..5).for_each(|n| put(&mut doc, &format!("k{n}"), n));
    let mut other = doc.fork().with_actor(automerge::ActorId::from([2; 20]));
    put(&mut other, "other", 7);
    put(&mut doc, "k5", 5);
    doc.merge(&mut other).unwrap();
    put(&mut doc, "k6", 6);
    let all = chunks(&mut doc);
    assert_eq!(admit(&mut net, 1, space, all.clone()), (8, 0));
    // One signature an actor, whatever the length of its chain.
    let endorsements = net.nodes[1].store.table(Table::Endorsements).count();
    assert_eq!(endorsements, 2);
    net.run_for(500);
    let expected = map(&[("k0", 0), ("k1", 1), ("k2", 2), ("k3", 3), ("k4", 4), ("k5", 5), ("k6", 6), ("other", 7)]);
    assert_eq!(net.value(0, space, "/a"), expected);
    assert_eq!(net.root(0), net.root(1));
    net.restart(1);
    assert_eq!(net.value(1, space, "/a"), expected);
    // The same again is nothing new, and what goes on from there is.
    assert_eq!(admit(&mut net, 1, space, all), (0, 0));
    put(&mut doc, "k7", 8);
    let newest = vec![chunks(&mut doc).pop().unwrap()];
    assert_eq!(admit(&mut net, 0, space, newest), (1, 0), "by the door of another peer");
    net.connect(1, 0);
    net.run_for(500);
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn what_lacks_its_dependencies_is_refused_until_they_are_here() {
    let (mut net, space) = two();
    let mut doc = guest(1);
    (0..4).for_each(|n| put(&mut doc, "k", n));
    let all = chunks(&mut doc);
    assert_eq!(admit(&mut net, 0, space, all[2..].to_vec()), (0, 2));
    assert_eq!(net.status(0).orphans, 0, "nothing is kept of it");
    let damaged = [&all[0][..all[0].len() - 1], &[all[0].last().unwrap() ^ 1]].concat();
    assert_eq!(admit(&mut net, 0, space, vec![damaged, b"nonsense".to_vec(), all[0].clone()]), (1, 2));
    assert_eq!(admit(&mut net, 0, space, all), (3, 0));
    assert_eq!(net.value(0, space, "/a"), map(&[("k", 3)]));
}

/// What `Automerge.emptyChange` makes for a document without content.
#[test]
fn a_founding_change_may_be_empty() {
    let (mut net, space) = two();
    let mut doc = guest(1);
    doc.empty_change(automerge::transaction::CommitOptions::default());
    put(&mut doc, "k", 1);
    doc.empty_change(automerge::transaction::CommitOptions::default());
    assert_eq!(admit(&mut net, 0, space, chunks(&mut doc)), (2, 1), "a later one says nothing");
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a"), map(&[("k", 1)]));
}

/// Automerge has an actor's change depend on its previous one; other programs may not.
#[test]
fn a_change_that_lacks_its_direct_predecessor_stands_alone_and_so_does_what_follows() {
    use crate::document::craft::Craft;
    let (mut net, space) = two();
    let one = Craft::new(1).chunk();
    let between = {
        let mut craft = Craft::after(&one);
        craft.actor = vec![9; 16];
        craft.seq = 1;
        craft.chunk()
    };
    let loose = {
        let mut craft = Craft::after(&between);
        craft.actor = one.actor().as_bytes().to_vec();
        craft.seq = 2;
        craft.chunk()
    };
    let next = Craft::after(&loose).chunk();
    let bytes = |chunk: &Chunk| chunk.bytes().to_vec();
    assert_eq!(admit(&mut net, 0, space, [&one, &between, &loose].map(bytes).to_vec()), (3, 0));
    assert_eq!(admit(&mut net, 0, space, vec![bytes(&next)]), (1, 0));
    let kinds: Vec<EndorsementKind> = net.nodes[0]
        .store
        .table(Table::Endorsements)
        .map(|(key, value)| Endorsement::from_storage(key, value).unwrap().kind)
        .collect();
    let single = kinds.iter().filter(|kind| **kind == EndorsementKind::Single).count();
    assert_eq!((kinds.len(), single), (4, 2));
    net.run_for(500);
    assert_eq!(net.root(0), net.root(1));
    assert_eq!(stored(&mut net, 1, space, 0).chunks.len(), 4);
}

#[test]
fn nobody_goes_on_in_the_name_of_a_device() {
    let (mut net, space) = two();
    net.put(1, space, "/a", "mine", 1);
    net.run_for(500);
    let own = stored(&mut net, 0, space, 0).chunks;
    let mut doc = AutoCommit::load(&own.concat()).unwrap();
    let actor = Chunk::parse_stored(own[0].clone()).unwrap().actor().as_bytes().to_vec();
    doc.set_actor(automerge::ActorId::from(actor));
    put(&mut doc, "theirs", 2);
    let forged = chunks(&mut doc).pop().unwrap();
    assert_eq!(Chunk::parse_stored(forged.clone()).unwrap().seq(), 2);
    assert_eq!(admit(&mut net, 0, space, vec![forged]), (0, 1));
    assert_eq!(net.value(0, space, "/a"), map(&[("mine", 1)]));
    net.put(1, space, "/a", "more", 3);
    net.run_for(500);
    assert_eq!(net.value(0, space, "/a"), map(&[("mine", 1), ("more", 3)]));
}

#[test]
fn what_a_device_let_in_leaves_with_it_and_stays_out() {
    let (mut net, space) = two();
    net.put(0, space, "/a", "honest", 1);
    net.run_for(500);
    let mut doc = AutoCommit::load(&stored(&mut net, 1, space, 0).chunks.concat()).unwrap();
    doc.set_actor(automerge::ActorId::from([3; 8]));
    put(&mut doc, "guest", 2);
    let brought = vec![chunks(&mut doc).pop().unwrap()];
    net.cut(1, 0);
    assert_eq!(admit(&mut net, 1, space, brought.clone()), (1, 0));
    // It reaches the other one, which learns afterwards that it does not count.
    let device = net.nodes[1].engine.identity().device;
    net.connect(1, 0);
    net.run_for(500);
    assert_eq!(net.value(0, space, "/a"), map(&[("honest", 1), ("guest", 2)]));
    let before = stored(&mut net, 0, space, 0);
    let reply = net.call(0, Command::Revoke { space, device, grants: Vec::new(), keep: Keep::Nothing });
    assert!(matches!(reply, Ok(Reply::Revoked(_))), "{reply:?}");
    net.run_for(500);
    assert_eq!(net.value(0, space, "/a"), map(&[("honest", 1)]));
    let after = stored(&mut net, 0, space, before.last);
    assert_ne!(after.evicted, before.evicted, "who keeps the hashes of changes is told to begin anew");
    assert_eq!(admit(&mut net, 0, space, brought), (0, 1));
    assert_eq!(net.value(0, space, "/a"), map(&[("honest", 1)]));
}

#[test]
fn changes_are_handed_out_from_where_the_last_answer_ended() {
    let (mut net, space) = two();
    let nothing = stored(&mut net, 0, space, 0);
    assert_eq!((nothing.exists, nothing.generation, nothing.chunks.len(), nothing.last), (false, 0, 0, 0));
    let mut last = 0;
    for n in 0..5 {
        net.put(0, space, "/a", "k", n);
        let changes = stored(&mut net, 0, space, last);
        assert_eq!((changes.exists, changes.chunks.len()), (true, 1));
        assert!(changes.last > last);
        last = changes.last;
    }
    assert_eq!(stored(&mut net, 0, space, last).chunks.len(), 0);
    assert_eq!(stored(&mut net, 0, space, 0).chunks.len(), 5);
    assert!(net.status(0).hot_documents <= 1);
    net.call(0, Command::Delete { space, path: path("/a") }).unwrap();
    let deleted = stored(&mut net, 0, space, last);
    assert_eq!((deleted.exists, deleted.generation), (false, 1));
    let late = net.call(0, Command::Admit { space, path: path("/a"), generation: 0, chunks: Vec::new() });
    assert!(matches!(late, Err(CommandError::Deleted(_))), "{late:?}");
}

#[test]
fn too_much_at_once_and_a_reader_are_refused_by_name() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Reader, "/");
    net.connect(1, 0);
    net.run_for(200);
    let many = vec![Vec::new(); MAX_ADMITTED + 1];
    let refused = net.call(0, Command::Admit { space, path: path("/a"), generation: 0, chunks: many });
    assert!(matches!(refused, Err(CommandError::Invalid { what: "changes", .. })), "{refused:?}");
    let mut doc = guest(1);
    put(&mut doc, "k", 1);
    let chunks = chunks(&mut doc);
    let refused = net.call(1, Command::Admit { space, path: path("/a"), generation: 0, chunks });
    assert!(matches!(refused, Err(CommandError::Denied { .. })), "{refused:?}");
}
