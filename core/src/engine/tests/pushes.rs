//! Fresh changes on links.

use super::*;

/// Own edits that became durable together with a peer's were taken for the peer's and not pushed to it: it learnt of them
/// a period later.
#[test]
fn an_edit_stored_together_with_a_peers_is_pushed_to_that_peer() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    for n in 0..2 {
        net.put(n, space, "/a", &format!("first{n}"), 1);
        net.run_for(100);
    }
    let cells = [net.open(0, space, "/a"), net.open(1, space, "/a")];
    for round in 0..20 {
        for (n, cell) in cells.iter().enumerate() {
            let change = edit(cell, &format!("k{n}"), round);
            net.ask(n, Command::Commit { space, changes: vec![change] });
        }
        // Both writes are on their way: what the other sends now and what is edited now make the next one.
        for (n, cell) in cells.iter().enumerate() {
            let change = edit(cell, &format!("l{n}"), round);
            net.ask(n, Command::Commit { space, changes: vec![change] });
        }
        net.run_for(15);
    }
    net.run_for(200);
    let values = [net.value(0, space, "/a"), net.value(1, space, "/a")];
    assert_eq!(values[0], values[1]);
    assert_eq!(net.root(0), net.root(1));
}

/// A push that brought nothing new made a link lazy although there was no other; an announcement was forgotten when
/// anything else of the document came.
#[test]
fn the_only_link_of_a_peer_stays_eager() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.put(0, space, "/a", "x", 1);
    net.run_for(100);
    for round in 0..10 {
        net.cut(1, 0);
        net.put(0, space, "/a", "x", round);
        net.put(1, space, "/a", "y", round);
        net.connect(1, 0);
        net.put(0, space, "/a", "z", round);
        net.run_for(60);
        assert_eq!(net.value(0, space, "/a"), net.value(1, space, "/a"), "round {round}");
    }
}

/// Roots that were due and could not be compared, since a change waited for its push, hid the time of that push: nothing
/// woke the engine any more.
#[test]
fn something_overdue_hides_no_later_timer() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.put(0, space, "/a", "x", 1);
    net.run_for(100);
    let cell = net.open(1, space, "/a");
    let commit = |net: &mut Net, value| {
        let change = edit(&cell, "y", value);
        net.ask(1, Command::Commit { space, changes: vec![change] });
    };
    let sent = |net: &Net| net.nodes[1].engine.links.values().map(|link| link.bytes_sent).sum::<u64>();
    // The peer answers nothing from here on.
    let ends: Vec<_> = net.wires.keys().copied().filter(|(n, _)| *n == 1).collect();
    ends.iter().for_each(|end| assert!(net.wires.remove(end).is_some()));
    commit(&mut net, 1);
    net.wait(5);
    let now = net.now().mono;
    net.nodes[1].engine.links.values_mut().for_each(|link| link.sync.look_later(now));
    net.wait(600);
    commit(&mut net, 2);
    net.wait(2);
    let before = sent(&net);
    commit(&mut net, 3);
    net.wait(100);
    assert!(sent(&net) > before, "the third change leaves an interval after the second");
}

/// Three peers that typed without a pause never stood in step, and so never asked each other to stop forwarding.
#[test]
fn peers_that_never_rest_stop_forwarding_what_the_author_sends() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.join(0, 2, space, Role::Writer, "/");
    for (a, b) in [(1, 0), (2, 0), (2, 1)] {
        net.connect(a, b);
    }
    net.put(0, space, "/a", "x", 1);
    net.run_for(200);
    let cells: Vec<_> = (0..3).map(|n| net.open(n, space, "/a")).collect();
    let duplicates = |net: &Net| {
        net.nodes.iter().flat_map(|node| node.engine.links.values()).map(|link| link.duplicates).sum::<u64>()
    };
    let rounds = |net: &mut Net, count: i64| {
        for round in 0..count {
            for (n, cell) in cells.iter().enumerate() {
                let change = edit(cell, &format!("k{n}"), round);
                net.ask(n, Command::Commit { space, changes: vec![change] });
                net.wait(3);
            }
        }
    };
    rounds(&mut net, 30);
    let settled = duplicates(&net);
    rounds(&mut net, 300);
    assert!(duplicates(&net) < settled + 30, "{} duplicates after {settled}", duplicates(&net));
    net.run_for(2000);
    assert_eq!((net.root(0), net.root(0)), (net.root(1), net.root(2)));
}

/// Peers that typed without a pause never stood in step, and after a cut were sent everything since they last had.
#[test]
fn a_cut_between_busy_peers_costs_what_was_under_way() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.put(0, space, "/a", "x", 1);
    net.run_for(200);
    let cells = [net.open(0, space, "/a"), net.open(1, space, "/a")];
    let rounds = |net: &mut Net, count: i64| {
        for round in 0..count {
            for (n, cell) in cells.iter().enumerate() {
                let change = edit(cell, &format!("k{n}"), round);
                net.ask(n, Command::Commit { space, changes: vec![change] });
                net.wait(4);
            }
        }
    };
    rounds(&mut net, 500);
    net.cut(1, 0);
    rounds(&mut net, 5);
    net.connect(1, 0);
    net.wait(3000);
    assert_eq!(net.root(0), net.root(1));
    let bytes: u64 = net.nodes.iter().flat_map(|n| n.engine.links.values()).map(|link| link.bytes_sent).sum();
    assert!(bytes < 60_000, "{bytes} bytes after the cut, for a second and a half of typing");
}
