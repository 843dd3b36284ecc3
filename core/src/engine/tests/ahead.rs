//! Changes that leave, and are shown, while they are being written; and trees of broadcast that lose a branch or find a
//! shorter one.

use super::*;
use crate::document::hot::HotDocument;
use crate::engine::link::Link;

impl Net {
    /// Nothing that this node writes becomes durable until it is released.
    fn hold(&mut self, n: usize) {
        self.nodes[n].held = Some(Vec::new());
    }

    fn release(&mut self, n: usize) {
        let held = self.nodes[n].held.take().expect("its disk was held");
        held.into_iter().for_each(|task| self.carry_out(n, Output::Storage(task)));
        self.settle();
    }

    /// What was not written never is.
    fn crash(&mut self, n: usize) {
        self.nodes[n].held = None;
        self.restart(n);
    }

    fn has_event(&self, n: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.nodes[n].events.iter().any(wanted)
    }
}

fn shown(cell: &HotCell) -> Value {
    cell.with(HotDocument::value).unwrap().unwrap()
}

fn number(cell: &HotCell, key: &str) -> Option<i64> {
    match shown(cell) {
        Value::Map(map) => map.get(key).and_then(Value::as_i64),
        other => panic!("{other:?}"),
    }
}

/// Two peers in step, each with the document open.
fn pair() -> (Net, SpaceId, [HotCell; 2]) {
    pair_that(true)
}

fn pair_that(run_ahead: bool) -> (Net, SpaceId, [HotCell; 2]) {
    let config = |_| EngineConfig { store_identity: b"t".to_vec(), run_ahead, ..EngineConfig::default() };
    let mut net = Net::with(2, config);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.put(0, space, "/a", "x", 1);
    net.run_for(200);
    let cells = [net.open(0, space, "/a"), net.open(1, space, "/a")];
    net.nodes.iter_mut().for_each(|node| node.events.clear());
    (net, space, cells)
}

fn commit(net: &mut Net, n: usize, space: SpaceId, cell: &HotCell, value: i64) -> RequestId {
    let change = edit(cell, "x", value);
    let request = net.ask(n, Command::Commit { space, changes: vec![change] });
    net.settle();
    request
}

#[test]
fn a_change_is_pushed_and_shown_while_it_is_written() {
    let (mut net, space, cells) = pair();
    (0..2).for_each(|n| net.hold(n));
    let request = commit(&mut net, 0, space, &cells[0], 2);
    let told = |e: &Event| matches!(e, Event::DocumentShown { .. });
    let changed = |e: &Event| matches!(e, Event::DocumentChanged { .. });
    assert_eq!(number(&cells[1], "x"), Some(2), "shown before either disk has it");
    assert!(net.has_event(1, told) && !net.has_event(1, changed));
    assert!(net.answer(0, request).is_none(), "acknowledged means durable");
    net.release(1);
    assert!(net.has_event(1, changed));
    assert!(net.answer(0, request).is_none());
    // The peer has what is not durable here: that is no difference to be looked for.
    let trips = |net: &Net| net.nodes[0].engine.links.values().map(|link| link.sync.round_trips).sum::<u64>();
    let before = trips(&net);
    net.run_for(30);
    assert_eq!(trips(&net), before);
    net.release(0);
    assert!(matches!(net.answer(0, request), Some(Ok(Reply::Committed(_)))));
    net.run_for(100);
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn what_is_shown_once_is_pushed_once() {
    let (mut net, space, cells) = pair();
    net.hold(0);
    commit(&mut net, 0, space, &cells[0], 2);
    let sent = |net: &Net| net.nodes[0].engine.links.values().map(|link| link.out.last_number()).sum::<u64>();
    let before = sent(&net);
    net.release(0);
    net.run_for(100);
    assert_eq!(sent(&net), before, "nothing more to push once it is durable");
}

#[test]
fn what_a_crash_takes_comes_back_from_who_got_it() {
    let (mut net, space, cells) = pair();
    net.hold(0);
    commit(&mut net, 0, space, &cells[0], 2);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 2)]));
    net.crash(0);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 1)]), "the crash took it");
    net.connect(1, 0);
    net.run_for(200);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 2)]));
    // The next life signs as another actor: nobody finds two changes of one number.
    net.put(0, space, "/a", "y", 3);
    net.run_for(200);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 2), ("y", 3)]));
    assert_eq!(net.root(0), net.root(1));
    for n in 0..2 {
        assert!(!net.has_event(n, |e| matches!(e, Event::Refused { .. })));
    }
}

/// What crashes a program when it is shown has to be in the store by then, where the next life finds it.
#[test]
fn after_a_crash_nothing_is_shown_before_it_is_stored() {
    let (mut net, space, cells) = pair();
    net.crash(1);
    net.connect(1, 0);
    net.run_for(200);
    let cell = net.open(1, space, "/a");
    net.hold(1);
    commit(&mut net, 0, space, &cells[0], 2);
    assert_eq!(number(&cell, "x"), Some(1));
    net.release(1);
    assert_eq!(number(&cell, "x"), Some(2));
}

/// A browser's page makes its edits again when the tab that was to store them is gone.
#[test]
fn nothing_leaves_before_it_is_durable_where_that_is_asked_for() {
    let (mut net, space, cells) = pair_that(false);
    net.hold(0);
    commit(&mut net, 0, space, &cells[0], 2);
    assert_eq!(number(&cells[1], "x"), Some(1));
    net.release(0);
    assert_eq!(number(&cells[1], "x"), Some(2));
}

/// Whoever lost the link that brought an author's changes waited half a second for each until an announcement elsewhere
/// was followed up.
#[test]
fn who_loses_the_link_that_brought_changes_is_pushed_to_by_others() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    (1..3).for_each(|n| net.join(0, n, space, Role::Writer, "/"));
    [(1, 0), (2, 0), (2, 1)].into_iter().for_each(|(a, b)| net.connect(a, b));
    for value in 0..6 {
        net.put(0, space, "/a", "x", value);
        net.run_for(300);
    }
    let pruned = |net: &Net| {
        let of = |link: &Link| link.spaces.values().map(|common| common.tree.pruned_count()).sum::<usize>();
        net.nodes[2].engine.links.values().map(of).sum::<usize>()
    };
    assert!(pruned(&net) > 0, "what comes from the author is forwarded by nobody else");
    net.cut(2, 0);
    net.put(0, space, "/a", "x", 9);
    net.wait(60);
    assert_eq!(net.value(2, space, "/a"), map(&[("x", 9)]));
}

/// The author, two on the way, and one behind both, none of which runs ahead of its store.
fn two_ways() -> (Net, SpaceId) {
    let config = |_| EngineConfig { store_identity: b"t".to_vec(), run_ahead: false, ..EngineConfig::default() };
    let mut net = Net::with(4, config);
    let space = net.create_space(0);
    (1..4).for_each(|n| net.join(0, n, space, Role::Writer, "/"));
    [(1, 0), (2, 0), (3, 1), (3, 2)].into_iter().for_each(|(a, b)| net.connect(a, b));
    for value in 0..4 {
        net.put(0, space, "/a", "x", value);
        net.run_for(300);
    }
    (net, space)
}

/// Once a branch of a tree, always one: however much sooner others heard of a change.
#[test]
fn a_way_that_became_the_faster_one_is_taken() {
    let (mut net, space) = two_ways();
    let far = net.open(3, space, "/a");
    let near = net.open(0, space, "/a");
    // Whichever of the two brings changes becomes slow.
    let brings = |net: &mut Net, value: i64| {
        net.hold(1);
        commit(net, 0, space, &near, value);
        net.wait(60);
        let other = number(&far, "x") == Some(value);
        net.release(1);
        net.run_for(300);
        if other { 2 } else { 1 }
    };
    let first = brings(&mut net, 10);
    net.run_for(6_000);
    for (step, value) in [20, 21].into_iter().enumerate() {
        net.hold(first);
        commit(&mut net, 0, space, &near, value);
        net.wait(60);
        assert_eq!(number(&far, "x") == Some(value), step == 1, "it was late once");
        net.release(first);
        net.run_for(300);
    }
    assert_eq!(number(&far, "x"), Some(21));
}

/// Each late message moved a branch of the tree to where the next one was late: of two ways that are slow by turns, one was
/// kept.
#[test]
fn two_ways_that_are_slow_by_turns_are_both_kept_and_one_that_always_is_goes() {
    let (mut net, space) = two_ways();
    net.run_for(6_000);
    let far = net.open(3, space, "/a");
    let near = net.open(0, space, "/a");
    // Whether the far one has a change in time although one of the two on the way is slow.
    let in_time = |net: &mut Net, slow: usize, value: i64| {
        net.hold(slow);
        commit(net, 0, space, &near, value);
        net.wait(60);
        let came = number(&far, "x") == Some(value);
        net.release(slow);
        net.run_for(300);
        assert_eq!(number(&far, "x"), Some(value));
        came
    };
    // One of the first two is late, after which both push.
    let late = (0..2).filter(|step| !in_time(&mut net, 1 + step, 10 + *step as i64)).count();
    assert_eq!(late, 1, "one way pushes at first");
    for step in 2..20 {
        assert!(in_time(&mut net, 1 + step % 2, 10 + step as i64), "step {step}: the other way was open");
    }
    let duplicates = |net: &Net| net.nodes[3].engine.links.values().map(|link| link.duplicates).sum::<u64>();
    (0..6).for_each(|step| assert!(in_time(&mut net, 1, 100 + step)));
    let before = duplicates(&net);
    (0..6).for_each(|step| assert!(in_time(&mut net, 1, 200 + step)));
    assert_eq!(duplicates(&net), before, "the way that is always slow announces by now");
}
