//! Who is told of what, and that nobody misses anything unawares.

use super::*;
use crate::coord::acl::{AclEntry, Perms};
use crate::coord::error::Bounded;
use crate::coord::reply::Change;
use crate::coord::watch::{Event, EventKind, MAX_WATCHES_OF_SESSION, Watch, Watches};

const ME: SessionId = SessionId(9);

struct Voter {
    rig: Rig,
    watches: Watches,
}

impl Voter {
    fn new() -> Self {
        let rig = Rig::with_sessions(2);
        let watches = Watches::new(rig.index);
        Self { rig, watches }
    }

    fn watch(&mut self, watch: Watch, at: &str) {
        self.watches.add(ME, watch, &path(at)).unwrap();
    }

    fn does(&mut self, command: Command) -> Vec<(EventKind, String)> {
        self.rig.ask(1, command).unwrap();
        let events = self.watches.feed(self.rig.index, &self.rig.last.changes);
        assert!(events.iter().all(|event| event.session == ME && event.zxid == self.rig.index));
        told(events)
    }

    fn op(&mut self, op: Op) -> Vec<(EventKind, String)> {
        self.does(Command::Op(op))
    }

    fn rearm(&mut self, watches: &[(Watch, &str)], seen: u64) -> Vec<(EventKind, String)> {
        let watches: Vec<_> = watches.iter().map(|(watch, at)| (*watch, path(at))).collect();
        told(self.watches.rearm(ME, &watches, seen, self.rig.machine.tree(), self.rig.index).unwrap())
    }
}

fn told(events: Vec<Event>) -> Vec<(EventKind, String)> {
    events.into_iter().map(|event| (event.kind, event.path.as_str().to_owned())).collect()
}

fn made(at: &str) -> Op {
    create(at, Mode::Persistent)
}

fn is(kind: EventKind, at: &str) -> (EventKind, String) {
    (kind, at.to_owned())
}

#[test]
fn one_shot_watches_fire_once() {
    let mut voter = Voter::new();
    voter.watch(Watch::Exists, "/a");
    voter.watch(Watch::Children, "/");
    assert_eq!(voter.op(made("/a")), [is(EventKind::Created, "/a"), is(EventKind::Children, "/")]);
    assert_eq!(voter.op(made("/b")), []);
    voter.watch(Watch::Data, "/a");
    assert_eq!(voter.op(set("/a", "x", -1)), [is(EventKind::Changed, "/a")]);
    assert_eq!(voter.op(set("/a", "y", -1)), []);
    voter.watch(Watch::Data, "/a");
    voter.watch(Watch::Children, "/a");
    assert_eq!(voter.op(delete("/a", -1)), [is(EventKind::Deleted, "/a")], "one event for both");
    assert!(voter.watches.is_empty());
    // Setting a list is no change of data.
    voter.watch(Watch::Data, "/b");
    assert_eq!(voter.op(Op::SetAcl { path: "/b".into(), acl: Acl::open(), version: -1 }), []);
    assert_eq!(voter.watches.len(), 1);
}

#[test]
fn persistent_watches_see_node_and_children_and_recursive_ones_the_subtree() {
    let mut voter = Voter::new();
    voter.op(made("/a"));
    voter.watch(Watch::Persistent, "/a");
    for _ in 0..2 {
        assert_eq!(voter.op(made("/a/b")), [is(EventKind::Children, "/a")]);
        assert_eq!(voter.op(set("/a/b", "", -1)), []);
        assert_eq!(voter.op(set("/a", "", -1)), [is(EventKind::Changed, "/a")]);
        assert_eq!(voter.op(delete("/a/b", -1)), [is(EventKind::Children, "/a")]);
    }
    assert!(voter.watches.remove(ME, Watch::Persistent, &path("/a")));
    assert!(!voter.watches.remove(ME, Watch::Persistent, &path("/a")));
    voter.watch(Watch::Recursive, "/a");
    assert_eq!(voter.op(made("/a/b")), [is(EventKind::Created, "/a/b")]);
    assert_eq!(voter.op(made("/a/b/c")), [is(EventKind::Created, "/a/b/c")]);
    assert_eq!(voter.op(set("/a/b/c", "", -1)), [is(EventKind::Changed, "/a/b/c")]);
    assert_eq!(voter.op(delete("/a/b/c", -1)), [is(EventKind::Deleted, "/a/b/c")]);
    assert_eq!(voter.op(made("/ab")), []);
    // With a watch of its own on the node, a client is told once.
    voter.watch(Watch::Data, "/a/b");
    assert_eq!(voter.op(set("/a/b", "", -1)), [is(EventKind::Changed, "/a/b")]);
}

#[test]
fn a_multi_is_told_in_its_order_under_its_index() {
    let mut voter = Voter::new();
    voter.watch(Watch::Recursive, "/");
    let ops = vec![made("/a"), made("/a/b"), set("/a", "x", -1), delete("/a/b", -1)];
    assert_eq!(
        voter.does(Command::Multi(ops)),
        [
            is(EventKind::Created, "/a"),
            is(EventKind::Created, "/a/b"),
            is(EventKind::Changed, "/a"),
            is(EventKind::Deleted, "/a/b"),
        ]
    );
}

#[test]
fn watches_set_again_fire_at_once_when_they_were_overtaken() {
    let mut voter = Voter::new();
    for at in ["/same", "/changed", "/deleted", "/parent", "/still"] {
        voter.op(made(at));
    }
    let seen = voter.rig.index;
    voter.op(set("/changed", "", -1));
    voter.op(delete("/deleted", -1));
    voter.op(made("/parent/x"));
    voter.op(made("/new"));
    let mut events = voter.rearm(
        &[
            (Watch::Data, "/same"),
            (Watch::Data, "/changed"),
            (Watch::Data, "/deleted"),
            (Watch::Exists, "/new"),
            (Watch::Exists, "/not-yet"),
            (Watch::Children, "/parent"),
            (Watch::Children, "/still"),
            (Watch::Children, "/deleted"),
        ],
        seen,
    );
    events.sort();
    assert_eq!(
        events,
        [
            is(EventKind::Created, "/new"),
            is(EventKind::Changed, "/changed"),
            is(EventKind::Deleted, "/deleted"),
            is(EventKind::Deleted, "/deleted"),
            is(EventKind::Children, "/parent"),
        ]
    );
    assert_eq!(voter.watches.len(), 3, "what fired is not watched any more");
    assert_eq!(voter.op(set("/same", "", -1)), [is(EventKind::Changed, "/same")]);
}

#[test]
fn persistent_watches_get_what_they_missed_in_order_or_are_told_to_read_again() {
    let mut voter = Voter::new();
    voter.op(made("/a"));
    let seen = voter.rig.index;
    voter.op(made("/a/b"));
    voter.op(set("/a/b", "", -1));
    voter.op(made("/other"));
    voter.op(delete("/a/b", -1));
    let watches = [(Watch::Recursive, "/a")];
    let missed = [is(EventKind::Created, "/a/b"), is(EventKind::Changed, "/a/b"), is(EventKind::Deleted, "/a/b")];
    assert_eq!(voter.rearm(&watches, seen), missed);
    voter.watches.end(ME);
    assert!(voter.watches.is_empty());
    let children = [is(EventKind::Children, "/a"), is(EventKind::Children, "/a")];
    assert_eq!(voter.rearm(&[(Watch::Persistent, "/a")], seen), children);
    assert_eq!(voter.rearm(&watches, voter.rig.index), []);
    // Another voter, which came by a snapshot and knows nothing of before.
    voter.watches = Watches::new(voter.rig.index);
    assert_eq!(voter.rearm(&watches, voter.rig.index), []);
    assert_eq!(voter.rearm(&watches, seen), [is(EventKind::Resync, "/a")]);
}

#[test]
fn the_ring_is_bounded_and_says_so() {
    let mut watches = Watches::new(0);
    let tree = Rig::new().machine.tree().clone();
    let change = Change::Set { path: path("/"), acl: Acl::open() };
    for index in 1..=20_000 {
        assert!(watches.feed(index, std::slice::from_ref(&change)).is_empty());
    }
    let mut kinds = |seen| {
        let events = watches.rearm(ME, &[(Watch::Persistent, path("/"))], seen, &tree, 20_000).unwrap();
        watches.end(ME);
        (events.len(), events[0].kind)
    };
    assert_eq!(kinds(20_000 - 16_384), (16_384, EventKind::Changed));
    assert_eq!(kinds(20_000 - 16_385), (1, EventKind::Resync));
}

#[test]
fn a_voter_that_jumps_by_a_snapshot_leaves_no_silent_gap() {
    let mut voter = Voter::new();
    for at in ["/a", "/b", "/c"] {
        voter.op(made(at));
    }
    voter.watch(Watch::Data, "/a");
    voter.watch(Watch::Data, "/b");
    voter.watch(Watch::Exists, "/d");
    voter.watch(Watch::Recursive, "/c");
    // Entries that this voter never applies.
    voter.rig.op(1, set("/a", "", -1)).unwrap();
    voter.rig.create("/d");
    voter.rig.create("/c/x");
    let mut events = told(voter.watches.jump(voter.rig.machine.tree(), voter.rig.index));
    events.sort();
    assert_eq!(events, [is(EventKind::Created, "/d"), is(EventKind::Changed, "/a"), is(EventKind::Resync, "/c")]);
    assert_eq!(voter.op(set("/b", "", -1)), [is(EventKind::Changed, "/b")]);
    assert_eq!(voter.op(set("/c/x", "", -1)), [is(EventKind::Changed, "/c/x")]);
}

/// A client that hears one event of a jump and not the others names its entry to the next voter, less one.
#[test]
fn the_events_of_a_jump_are_of_the_first_entry_that_was_not_seen() {
    let Voter { mut rig, mut watches } = Voter::new();
    for (watch, at) in [(Watch::Data, "/a"), (Watch::Data, "/b"), (Watch::Persistent, "/c")] {
        rig.create(at);
        watches.add(ME, watch, &path(at)).unwrap();
    }
    let seen = rig.index;
    // An entry that changes no node is seen too.
    watches.feed(seen, &[Change::Leader { path: path("/e") }]);
    for at in ["/a", "/b", "/c"] {
        rig.op(1, set(at, "", -1)).unwrap();
    }
    let events = watches.jump(rig.machine.tree(), rig.index);
    assert_eq!(events.iter().map(|event| event.zxid).collect::<Vec<_>>(), [seen + 1; 3]);
    assert!(rig.index > seen + 1);
}

#[test]
fn who_may_not_read_is_not_told() {
    let mut voter = Voter::new();
    voter.rig.identities = vec![Identity::new("digest", "joe:hash")];
    let acl = Acl::new(vec![AclEntry { perms: Perms::ALL, who: Identity::new("auth", "") }]);
    let secret = Op::Create { path: "/s".into(), data: data(""), acl, mode: Mode::Persistent, sequential: false };
    voter.watch(Watch::Recursive, "/");
    voter.watch(Watch::Children, "/s");
    let seen = voter.rig.index;
    assert_eq!(voter.op(secret), []);
    assert_eq!(voter.op(made("/s/open")), [is(EventKind::Created, "/s/open")]);
    assert_eq!(voter.rearm(&[(Watch::Recursive, "/")], seen), [is(EventKind::Created, "/s/open")]);
    let identities = voter.rig.identities.clone();
    voter.watches.identify(ME, identities);
    assert_eq!(voter.op(set("/s", "", -1)), [is(EventKind::Changed, "/s")]);
}

#[test]
fn leaders_and_queues_are_watched_too() {
    let mut voter = Voter::new();
    voter.watch(Watch::Leader, "/x");
    voter.watch(Watch::Queue, "/x");
    voter.watch(Watch::Recursive, "/");
    let campaign = acquire(Kind::Election, "/x", Share::Exclusive, Wait::Try, 0);
    assert_eq!(voter.does(campaign), [is(EventKind::Leader, "/x")]);
    let enqueue = Command::Enqueue { path: "/x".into(), body: data(""), max_attempts: 1 };
    assert_eq!(voter.does(enqueue), [is(EventKind::Ready, "/x")]);
    voter.watches.end(ME);
    let again = [is(EventKind::Leader, "/x"), is(EventKind::Ready, "/x")];
    assert_eq!(voter.rearm(&[(Watch::Leader, "/x"), (Watch::Queue, "/x")], voter.rig.index), again);
    assert_eq!(voter.watches.len(), 2);
}

#[test]
fn watches_are_bounded_and_counted() {
    let mut watches = Watches::new(0);
    for n in 0..MAX_WATCHES_OF_SESSION {
        watches.add(ME, Watch::Data, &path(&format!("/{n}"))).unwrap();
    }
    let full = CoordError::TooLarge { what: Bounded::Watches, max: MAX_WATCHES_OF_SESSION as u64 };
    assert_eq!(watches.add(ME, Watch::Data, &path("/more")), Err(full.clone()));
    assert_eq!(watches.add(ME, Watch::Data, &path("/0")), Ok(()), "watched already");
    let tree = Rig::new().machine.tree().clone();
    assert_eq!(watches.rearm(ME, &[(Watch::Data, path("/more"))], 0, &tree, 0), Err(full));
    assert_eq!(watches.add(SessionId(1), Watch::Data, &path("/0")), Ok(()));
    assert_eq!((watches.len(), watches.spread()), (MAX_WATCHES_OF_SESSION + 1, (MAX_WATCHES_OF_SESSION, 2)));
    watches.end(ME);
    assert_eq!((watches.len(), watches.spread()), (1, (1, 1)));
}
