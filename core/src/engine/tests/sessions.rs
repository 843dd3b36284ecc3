//! Bookmarks carried between engines.

use std::time::Duration;

use super::*;
use crate::session::{Bookmark, BookmarkError, FOLD_AT, Missing, Why};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

impl Net {
    /// Two or more stores of one space whose facts have met, cut apart again.
    fn apart(count: usize) -> (Self, SpaceId) {
        Self::apart_with(count, EngineConfig::default())
    }

    fn apart_with(count: usize, config: EngineConfig) -> (Self, SpaceId) {
        let mut net = Net::with(count, |_| EngineConfig { store_identity: b"test".to_vec(), ..config.clone() });
        let space = net.create_space(0);
        for n in 1..count {
            net.join(0, n, space, Role::Writer, "/");
            net.connect(0, n);
            net.run_for(200);
        }
        for n in 1..count {
            net.cut(0, n);
        }
        (net, space)
    }

    fn bookmark(&mut self, n: usize, space: SpaceId, paths: &[&str]) -> Bookmark {
        let paths = paths.iter().map(|p| path(p)).collect();
        match self.call(n, Command::Bookmark { space, paths }) {
            Ok(Reply::Bookmark(bookmark)) => *bookmark,
            other => panic!("{other:?}"),
        }
    }

    fn ask_read(&mut self, n: usize, at: &str, bookmark: &Bookmark, wait: Duration) -> RequestId {
        let (space, bookmark) = (*bookmark.space(), bookmark.clone());
        self.ask(n, Command::ReadAtLeast { space, path: path(at), bookmark, wait: Some(wait) })
    }

    /// What a read that waits for nothing says.
    fn read_now(&mut self, n: usize, at: &str, bookmark: &Bookmark) -> Result<(Option<Value>, Bookmark), CommandError> {
        let request = self.ask_read(n, at, bookmark, Duration::ZERO);
        self.settle();
        self.answer(n, request).expect("a read without a wait is answered").map(read)
    }

    fn missing(&mut self, n: usize, bookmark: &Bookmark) -> Missing {
        let (space, bookmark) = (*bookmark.space(), bookmark.clone());
        match self.call(n, Command::Reach { space, bookmark, wait: Some(Duration::ZERO) }) {
            Ok(Reply::Bookmark(_)) => Missing::default(),
            Err(CommandError::NotYet { missing }) => *missing,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, n: usize, space: SpaceId, at: &str) {
        assert!(matches!(self.call(n, Command::Delete { space, path: path(at) }), Ok(Reply::Deleted(true))));
    }

    /// A bookmark of everything, as one point.
    fn point(&mut self, n: usize, space: SpaceId) -> Bookmark {
        let bookmark = self.bookmark(n, space, &[]);
        assert_eq!((bookmark.documents().count(), bookmark.points().count()), (0, 1));
        bookmark
    }
}

fn read(reply: Reply) -> (Option<Value>, Bookmark) {
    match reply {
        Reply::Read { value, bookmark } => (value.map(|(value, _)| value), *bookmark),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_with_the_bookmark_of_a_write_waits_until_the_write_is_here() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    let bookmark = net.bookmark(0, space, &["/a"]);
    let refused = net.read_now(1, "/a", &bookmark).unwrap_err();
    let CommandError::NotYet { missing } = refused else { panic!("{refused:?}") };
    assert_eq!((missing.documents[0].path.as_str(), missing.documents[0].why), ("/a", Why::NotHere));
    let request = net.ask_read(1, "/a", &bookmark, 60 * SECOND);
    net.run_for(500);
    assert!(net.answer(1, request).is_none(), "it waits");
    net.connect(0, 1);
    net.run_for(500);
    let (value, seen) = read(net.answer(1, request).expect("the write is here").unwrap());
    assert_eq!(value, map(&[("x", 1)]));
    assert_eq!(seen.documents().collect::<Vec<_>>(), bookmark.documents().collect::<Vec<_>>());
    assert_eq!(seen.hint(), net.nodes[1].peer, "who answered has all of it");
}

#[test]
fn at_the_deadline_a_read_says_what_is_missing() {
    let (mut net, space) = Net::apart(2);
    let heads = net.put(0, space, "/a", "x", 1);
    let bookmark = net.bookmark(0, space, &["/a"]);
    let request = net.ask_read(1, "/b", &bookmark, 2 * SECOND);
    net.run_for(1_500);
    assert!(net.answer(1, request).is_none());
    net.run_for(1_000);
    let Some(Err(CommandError::NotYet { missing })) = net.answer(1, request) else { panic!("it is over") };
    assert_eq!(missing.documents[0].heads, heads);
    assert!(missing.may_come());
}

#[test]
fn heads_are_covered_by_what_came_after_them() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    let bookmark = net.bookmark(0, space, &["/a"]);
    net.put(0, space, "/a", "x", 2);
    net.connect(0, 1);
    net.run_for(500);
    net.put(1, space, "/a", "y", 3);
    assert!(net.missing(1, &bookmark).is_empty());
    // Its log is read from disk anew.
    net.restart(1);
    let (value, seen) = net.read_now(1, "/a", &bookmark).unwrap();
    assert_eq!(value, map(&[("x", 2), ("y", 3)]));
    let heads = |b: &Bookmark| b.documents().next().unwrap().2.heads.clone();
    assert!(heads(&seen).is_disjoint(&heads(&bookmark)), "the newer state stands for the older one");
}

#[test]
fn a_bookmark_of_another_space_is_refused() {
    let (mut net, space) = Net::apart(1);
    let other = SpaceId([9; 32]);
    let command = Command::Reach { space, bookmark: Bookmark::new(other), wait: None };
    let refused = net.call(0, command).unwrap_err();
    assert_eq!(refused, CommandError::Bookmark(BookmarkError::OtherSpace { got: other, expected: space }));
}

#[test]
fn what_is_missing_is_fetched_without_waiting_for_reconciliation() {
    let config = EngineConfig { push: false, reconcile_period: 3_600 * SECOND, ..EngineConfig::default() };
    let (mut net, space) = Net::apart_with(2, config);
    net.connect(1, 0);
    net.run_for(500);
    net.put(0, space, "/a", "x", 1);
    net.run_for(2_000);
    assert_eq!(net.value(1, space, "/a"), None, "nothing is pushed, and the next comparison is an hour away");
    let bookmark = net.bookmark(0, space, &["/a"]);
    let request = net.ask_read(1, "/a", &bookmark, 5 * SECOND);
    net.settle();
    let (value, _) = read(net.answer(1, request).expect("asked for and sent at once").unwrap());
    assert_eq!(value, map(&[("x", 1)]));
}

#[test]
fn points_are_proved_by_equal_roots_that_a_wait_asks_for() {
    let config = EngineConfig { push: false, reconcile_period: 3_600 * SECOND, ..EngineConfig::default() };
    for (near, far) in [(0, 1), (1, 0)] {
        let (mut net, space) = Net::apart_with(2, config.clone());
        net.connect(near, far);
        net.run_for(500);
        net.put(0, space, "/a", "x", 1);
        let bookmark = net.point(0, space);
        assert!(!net.missing(1, &bookmark).is_empty());
        let request = net.ask_read(1, "/a", &bookmark, 30 * SECOND);
        net.run_for(5_000);
        let (value, _) = read(net.answer(1, request).expect("roots were compared").unwrap());
        assert_eq!(value, map(&[("x", 1)]));
    }
}

#[test]
fn a_deletion_is_part_of_a_bookmark() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    net.connect(0, 1);
    net.run_for(500);
    net.cut(0, 1);
    net.delete(0, space, "/a");
    let bookmark = net.bookmark(0, space, &["/a"]);
    assert_eq!(net.missing(1, &bookmark).documents[0].why, Why::NotHere, "it still shows the document");
    net.connect(0, 1);
    net.run_for(500);
    assert_eq!(net.read_now(1, "/a", &bookmark).unwrap().0, None);
}

#[test]
fn a_path_begun_anew_is_not_shown_before_its_deletion_is_known() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    net.connect(0, 1);
    net.run_for(500);
    net.cut(0, 1);
    net.delete(0, space, "/a");
    net.put(0, space, "/a", "y", 2);
    let bookmark = net.bookmark(0, space, &["/a"]);
    assert_eq!(bookmark.documents().next().unwrap().1, 1);
    assert!(!net.missing(1, &bookmark).is_empty());
    let request = net.ask_read(1, "/a", &bookmark, 30 * SECOND);
    net.connect(0, 1);
    net.run_for(500);
    assert_eq!(read(net.answer(1, request).unwrap().unwrap()).0, map(&[("y", 2)]));
}

#[test]
fn a_tombstone_covers_the_heads_it_names_and_what_lay_below_them() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    let first = net.bookmark(0, space, &["/a"]);
    net.put(0, space, "/a", "x", 2);
    let second = net.bookmark(0, space, &["/a"]);
    net.delete(0, space, "/a");
    net.connect(0, 1);
    net.run_for(500);
    assert!(net.missing(1, &second).is_empty(), "the tombstone names it");
    assert!(net.missing(0, &first).is_empty(), "the store still knows what it buried");
    // Who never had the document cannot tell an older change from a concurrent one, and does not guess.
    let missing = net.missing(1, &first);
    assert_eq!(missing.documents[0].why, Why::Deleted);
    assert!(!missing.may_come());
}

/// A document is edited at 0 and deleted at 1, apart from each other.
fn set_aside() -> (Net, SpaceId, Bookmark, Bookmark, Bookmark) {
    let (mut net, space) = Net::apart(3);
    net.put(0, space, "/a", "x", 1);
    net.connect(0, 1);
    net.run_for(500);
    net.cut(0, 1);
    let before = net.point(0, space);
    net.put(0, space, "/a", "y", 2);
    let edit = net.bookmark(0, space, &["/a"]);
    let between = net.point(0, space);
    net.delete(1, space, "/a");
    (net, space, before, edit, between)
}

#[test]
fn an_edit_that_a_deletion_set_aside_is_never_said_to_be_covered() {
    let (mut net, space, before, edit, between) = set_aside();
    net.connect(0, 1);
    net.run_for(40_000);
    net.connect(0, 2);
    net.run_for(40_000);
    for n in 0..3 {
        assert_eq!(net.missing(n, &edit).documents[0].why, Why::Deleted, "on {n}");
        assert_eq!(net.missing(n, &between).points.len(), 1, "the point may stand for the edit, on {n}");
    }
    assert!(net.missing(0, &before).is_empty(), "a point from before the edit");
    assert!(net.missing(1, &before).is_empty());
    let after = net.point(0, space);
    net.run_for(40_000);
    (0..3).for_each(|n| assert!(net.missing(n, &after).is_empty(), "a point from after the deletion, on {n}"));
}

#[test]
fn a_point_is_not_claimed_while_the_own_store_has_set_something_aside_since() {
    let (mut net, space, _, edit, between) = set_aside();
    // 2 gets the edit from 0, in step with it, and then the deletion from 1.
    net.connect(0, 2);
    net.run_for(40_000);
    assert!(net.missing(2, &between).is_empty() && net.missing(2, &edit).is_empty());
    net.cut(0, 2);
    net.connect(1, 2);
    net.run_for(2_000);
    assert_eq!(net.read_now(2, "/a", &Bookmark::new(space)).unwrap().0, None);
    assert!(!net.missing(2, &edit).is_empty());
    assert!(!net.missing(2, &between).is_empty());
    net.restart(2);
    assert!(!net.missing(2, &between).is_empty(), "not after a restart either");
}

#[test]
fn long_bookmarks_are_folded_to_a_point_of_the_store_that_covers_them() {
    let (mut net, space) = Net::apart(3);
    let names: Vec<String> = (0..=FOLD_AT).map(|n| format!("/lists/{n}")).collect();
    let mut bookmark = Bookmark::new(space);
    for name in &names {
        net.put(0, space, name, "x", 1);
        bookmark.merge(&net.bookmark(0, space, &[name])).unwrap();
    }
    let (_, folded) = net.read_now(0, &names[0], &bookmark).unwrap();
    assert_eq!(folded.documents().count(), 0);
    let points: Vec<String> = folded.points().map(|p| p.prefix.to_string()).collect();
    assert_eq!(points, ["/lists"], "the least prefix that suffices");
    assert_eq!(net.missing(1, &folded).points.len(), 1);
    net.connect(0, 1);
    net.run_for(40_000);
    assert!(net.missing(1, &folded).is_empty(), "roots were equal since");
    net.cut(0, 1);
    net.connect(1, 2);
    net.run_for(40_000);
    assert_eq!(net.value(2, space, &names[3]), map(&[("x", 1)]));
    assert!(!net.missing(2, &folded).is_empty(), "all of it is here, and nothing proves it");
}

#[test]
fn what_is_proved_of_a_log_survives_restarts_of_either_store() {
    let (mut net, space) = Net::apart(3);
    net.put(0, space, "/a", "x", 1);
    let early = net.point(0, space);
    net.connect(0, 1);
    net.run_for(40_000);
    net.cut(0, 1);
    net.put(1, space, "/b", "x", 1);
    net.restart(1);
    assert!(net.missing(1, &early).is_empty());
    // Not closed, so its log begins a new epoch; of the former one it knows all.
    net.put(0, space, "/c", "x", 1);
    let late = net.point(0, space);
    net.restart(0);
    net.put(0, space, "/d", "x", 1);
    net.restart(0);
    assert!(net.missing(0, &early).is_empty() && net.missing(0, &late).is_empty());
    net.connect(0, 2);
    net.run_for(40_000);
    assert!(net.missing(2, &late).is_empty(), "it was told of the former epoch");
    assert!(!net.missing(1, &late).is_empty());
}

#[test]
fn a_point_under_a_prefix_that_is_not_replicated_is_not_claimed() {
    let (mut net, space) = Net::apart(2);
    let interest = Command::Interest { space, prefixes: vec![Prefix::parse("/b").unwrap()] };
    net.call(1, interest).unwrap();
    net.put(0, space, "/a", "x", 1);
    net.put(0, space, "/b/c", "x", 1);
    let all = net.point(0, space);
    let one = net.bookmark(0, space, &["/a"]);
    let mut narrow = net.bookmark(0, space, &["/b/c"]);
    let point = all.points().next().unwrap();
    narrow.fold(&point).unwrap();
    net.connect(0, 1);
    net.run_for(40_000);
    assert!(net.missing(1, &narrow).is_empty());
    assert!(!net.missing(1, &all).is_empty());
    assert_eq!(net.missing(1, &one).documents[0].why, Why::NotReplicated);
}

#[test]
fn a_wait_ends_with_its_cancellation_and_with_the_store() {
    let (mut net, space) = Net::apart(2);
    net.put(0, space, "/a", "x", 1);
    let bookmark = net.bookmark(0, space, &["/a"]);
    let wait = |bookmark: &Bookmark| Command::Reach { space, bookmark: bookmark.clone(), wait: None };
    let [first, second] = [0; 2].map(|_| net.ask(1, wait(&bookmark)));
    net.run_for(60_000);
    net.call(1, Command::Cancel { target: first }).unwrap();
    assert!(matches!(net.answer(1, first), Some(Err(CommandError::Cancelled))));
    assert!(net.answer(1, second).is_none());
    net.call(1, Command::Close).unwrap();
    assert!(matches!(net.answer(1, second), Some(Err(CommandError::Closed))));
}

#[test]
fn a_read_names_durable_changes_only() {
    let (mut net, space) = Net::apart(1);
    net.put(0, space, "/a", "x", 1);
    let cell = net.open(0, space, "/a");
    let change = edit(&cell, "y", 2);
    // The edit shows already and no commit was asked for.
    let request = net.ask_read(0, "/a", &Bookmark::new(space), 10 * SECOND);
    net.run_for(1_000);
    assert!(net.answer(0, request).is_none());
    net.call(0, Command::Commit { space, changes: vec![change] }).unwrap();
    let (value, seen) = read(net.answer(0, request).expect("it is durable now").unwrap());
    assert_eq!(value, map(&[("x", 1), ("y", 2)]));
    net.restart(0);
    assert!(net.missing(0, &seen).is_empty());
}

#[test]
fn a_read_shows_what_is_durable_when_the_store_does_not_get_around_to_more() {
    let (mut net, space) = Net::apart(1);
    net.put(0, space, "/a", "x", 1);
    let cell = net.open(0, space, "/a");
    drop(edit(&cell, "y", 2));
    let request = net.ask_read(0, "/a", &Bookmark::new(space), Duration::ZERO);
    net.run_for(1_000);
    assert!(net.answer(0, request).is_none());
    net.run_for(2_000);
    let (value, seen) = read(net.answer(0, request).expect("it does not wait for ever").unwrap());
    assert_eq!(value, map(&[("x", 1)]));
    assert!(net.missing(0, &seen).is_empty());
}

#[test]
fn ranges_that_do_not_read_vouch_for_nothing_up_to_then() {
    let (mut net, space, before, _, between) = set_aside();
    net.connect(0, 1);
    net.run_for(40_000);
    let damage = vec![WriteOp::Put(crate::io::Table::Meta, keys::set_aside(1), vec![0xff; 3])];
    net.nodes[0].store.write(&[(damage.as_slice(), None)]).pop().unwrap().unwrap();
    net.restart(0);
    assert!(!net.missing(0, &between).is_empty() && !net.missing(0, &before).is_empty());
    net.put(0, space, "/b", "x", 1);
    let later = net.point(0, space);
    assert!(net.missing(0, &later).is_empty());
}
