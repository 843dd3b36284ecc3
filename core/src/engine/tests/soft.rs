//! Soft state between engines.

use super::*;
use crate::engine::{SoftChange, SoftError};

impl Net {
    fn set(&mut self, n: usize, space: SpaceId, path: &str, value: &str) -> Result<Reply, CommandError> {
        let path = Path::parse(path).unwrap();
        self.call(n, Command::SoftSet { space, path, value: value.into() })
    }

    fn soft(&mut self, n: usize, space: SpaceId) -> Vec<String> {
        let list = Command::SoftList { space, prefix: Prefix::root(), after: None, limit: 1000 };
        match self.call(n, list) {
            Ok(Reply::SoftList { items, next: None }) => {
                items.iter().map(|i| format!("{}={}", i.path, String::from_utf8_lossy(&i.value))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// What happened to soft entries since the last look, without own writes.
    fn soft_events(&mut self, n: usize) -> Vec<String> {
        let events = std::mem::take(&mut self.nodes[n].events);
        let told = events.into_iter().filter_map(|event| match event {
            Event::SoftChanged { event, .. } if !event.mine => Some(match event.change {
                SoftChange::Set(value) => format!("{}={}", event.path, String::from_utf8_lossy(&value)),
                SoftChange::Deleted => format!("{} deleted", event.path),
                SoftChange::Expired => format!("{} expired", event.path),
            }),
            _ => None,
        });
        told.collect()
    }
}

/// A founder and writers, connected as the pairs say.
fn cluster(nodes: usize, pairs: &[(usize, usize)]) -> (Net, SpaceId) {
    let mut net = Net::new(nodes);
    let space = net.create_space(0);
    (1..nodes).for_each(|n| net.join(0, n, space, Role::Writer, "/"));
    pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
    net.run_for(200);
    (net, space)
}

#[test]
fn an_entry_is_seen_by_others_and_goes_with_its_owner() {
    let (mut net, space) = cluster(2, &[(1, 0)]);
    net.set(0, space, "/here/a", "one").unwrap();
    net.run_for(100);
    assert_eq!(net.soft(1, space), ["/here/a=one"]);
    net.run_for(60_000);
    assert_eq!(net.soft(1, space), ["/here/a=one"], "renewals keep it");
    assert_eq!(net.soft_events(1), ["/here/a=one"]);
    net.cut(1, 0);
    net.run_for(9_000);
    assert_eq!(net.soft(1, space), ["/here/a=one"], "a lost link is no death");
    net.run_for(7_000);
    assert_eq!(net.soft(1, space), [""; 0]);
    assert_eq!(net.soft_events(1), ["/here/a expired"]);
    assert_eq!(net.soft(0, space), ["/here/a=one"], "its owner has it still");
    net.connect(1, 0);
    net.run_for(100);
    assert_eq!(net.soft(1, space), ["/here/a=one"], "the owner came back");
}

#[test]
fn writes_and_deletions_arrive_and_each_owner_has_its_own() {
    let (mut net, space) = cluster(3, &[(1, 0), (2, 0)]);
    for n in 0..3 {
        net.set(n, space, "/room", &format!("peer {n}")).unwrap();
    }
    net.run_for(100);
    for n in 0..3 {
        let mut shown = net.soft(n, space);
        shown.sort();
        assert_eq!(shown, ["/room=peer 0", "/room=peer 1", "/room=peer 2"], "at {n}");
    }
    net.set(1, space, "/room", "moved").unwrap();
    let path = Path::parse("/room").unwrap();
    assert!(matches!(net.call(2, Command::SoftDelete { space, path: path.clone() }), Ok(Reply::Deleted(true))));
    assert!(matches!(net.call(2, Command::SoftDelete { space, path }), Ok(Reply::Deleted(false))));
    net.run_for(100);
    for n in 0..3 {
        let mut shown = net.soft(n, space);
        shown.sort();
        assert_eq!(shown, ["/room=moved", "/room=peer 0"], "at {n}");
    }
}

#[test]
fn news_crosses_a_chain_of_peers_and_stops_in_time_when_the_owner_dies() {
    let pairs: Vec<(usize, usize)> = (1..6).map(|n| (n, n - 1)).collect();
    let (mut net, space) = cluster(6, &pairs);
    net.set(0, space, "/far", "here").unwrap();
    net.run_for(400_000);
    assert_eq!(net.soft(5, space), ["/far=here"], "over more than one lease");
    net.cut(1, 0);
    net.run_for(16_000);
    for n in 1..6 {
        assert_eq!(net.soft(n, space), [""; 0], "at {n}");
    }
}

#[test]
fn a_peer_that_closes_says_goodbye() {
    let (mut net, space) = cluster(3, &[(1, 0), (2, 1)]);
    net.set(0, space, "/here", "one").unwrap();
    net.run_for(100);
    assert_eq!(net.soft(2, space), ["/here=one"]);
    net.call(0, Command::Close).unwrap();
    net.run_for(100);
    assert_eq!(net.soft(1, space), [""; 0]);
    assert_eq!(net.soft(2, space), [""; 0]);
    assert_eq!(net.soft_events(2), ["/here=one", "/here deleted"]);
}

#[test]
fn a_later_life_replaces_the_former_one_at_once() {
    let (mut net, space) = cluster(2, &[(1, 0)]);
    net.set(0, space, "/a", "old").unwrap();
    net.set(0, space, "/b", "same").unwrap();
    net.run_for(100);
    net.soft_events(1);
    net.restart(0);
    net.connect(1, 0);
    net.set(0, space, "/b", "same").unwrap();
    net.set(0, space, "/c", "new").unwrap();
    net.run_for(100);
    assert_eq!(net.soft(1, space), ["/b=same", "/c=new"]);
    assert_eq!(net.soft_events(1), ["/a deleted", "/c=new"]);
}

#[test]
fn an_owner_whose_clock_went_back_rises_above_its_former_life() {
    let (mut net, space) = cluster(2, &[(1, 0)]);
    net.set(0, space, "/a", "old").unwrap();
    net.run_for(100);
    for lapsed in [false, true] {
        net.nodes[0].skew -= 250_000;
        net.restart(0);
        net.run_for(if lapsed { 20_000 } else { 0 });
        net.connect(1, 0);
        let value = format!("new {lapsed}");
        net.set(0, space, "/a", &value).unwrap();
        net.run_for(17_000);
        assert_eq!(net.soft(1, space), [format!("/a={value}")]);
    }
}

#[test]
fn nobody_hears_of_what_they_may_not_read() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/a");
    net.join(0, 2, space, Role::Writer, "/");
    net.connect(1, 0);
    net.connect(2, 1);
    net.set(0, space, "/a/x", "1").unwrap();
    net.set(0, space, "/b/y", "2").unwrap();
    net.run_for(500);
    assert_eq!(net.soft(1, space), ["/a/x=1"]);
    assert_eq!(net.soft(2, space), ["/a/x=1"], "what one hears of goes on");
    let denied = net.set(1, space, "/b/z", "3");
    assert!(matches!(denied, Err(CommandError::Denied { .. })), "{denied:?}");
    // Who sees more of the owner elsewhere is brought up to date there.
    net.connect(2, 0);
    net.run_for(500);
    assert_eq!(net.soft(2, space), ["/a/x=1", "/b/y=2"]);
    net.set(0, space, "/b/y", "3").unwrap();
    net.set(0, space, "/a/x", "4").unwrap();
    net.run_for(20_000);
    assert_eq!(net.soft(1, space), ["/a/x=4"]);
    assert_eq!(net.soft(2, space), ["/a/x=4", "/b/y=3"]);
}

#[test]
fn a_late_joiner_learns_everything() {
    let (mut net, space) = cluster(2, &[]);
    for n in 0..100 {
        net.set(0, space, &format!("/many/{n}"), &"x".repeat(500)).unwrap();
    }
    net.run_for(30_000);
    net.connect(1, 0);
    net.run_for(100);
    assert_eq!(net.soft(1, space).len(), 100, "more than one message");
}

#[test]
fn bounds_are_refused_by_name() {
    let (mut net, space) = cluster(1, &[]);
    let refused = |result: Result<Reply, CommandError>| match result {
        Err(CommandError::Soft(error)) => error,
        other => panic!("{other:?}"),
    };
    let long = "x".repeat(crate::soft::MAX_VALUE + 1);
    let error = refused(net.set(0, space, "/a", &long));
    assert_eq!(error, SoftError::ValueTooLarge { bytes: long.len(), max: crate::soft::MAX_VALUE });
    for n in 0..crate::soft::MAX_OWNER_ENTRIES {
        net.set(0, space, &format!("/n/{n}"), "x").unwrap();
    }
    assert!(matches!(refused(net.set(0, space, "/one-more", "x")), SoftError::TooManyEntries { .. }));
    net.set(0, space, "/n/0", "replacing is no addition").unwrap();
    for n in 0..7 {
        net.set(0, space, &format!("/n/{n}"), &long[1..]).unwrap();
    }
    assert!(matches!(refused(net.set(0, space, "/n/8", &long[1..])), SoftError::TooManyBytes { .. }));
}

#[test]
fn renewals_in_a_full_mesh_reach_everybody_once_and_cost_little() {
    const PEERS: usize = 6;
    let pairs: Vec<_> = (0..PEERS).flat_map(|a| (a + 1..PEERS).map(move |b| (b, a))).collect();
    let (mut net, space) = cluster(PEERS, &pairs);
    for n in 0..PEERS {
        net.set(n, space, "/load", "1").unwrap();
    }
    net.run_for(30_000);
    let sent =
        |net: &mut Net| -> u64 { (0..PEERS).flat_map(|n| net.status(n).links).map(|link| link.bytes_sent).sum() };
    let before = sent(&mut net);
    net.run_for(300_000);
    let bytes = sent(&mut net) - before;
    let renewals = 60 * PEERS as u64;
    // Roots are compared meanwhile, too.
    let roots = 300 / 11 * (PEERS * (PEERS - 1) / 2) as u64 * 64;
    let each = (bytes - roots) as f64 / (renewals * (PEERS as u64 - 1)) as f64;
    assert!(each <= 48.0, "{each} bytes a renewal and receiver");
    assert_eq!(net.soft(3, space).len(), PEERS);
}

#[test]
fn when_the_way_of_its_news_breaks_an_owner_is_heard_of_by_another_way() {
    let pairs = [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2)];
    let (mut net, space) = cluster(4, &pairs);
    net.set(0, space, "/a", "1").unwrap();
    net.run_for(30_000);
    for (a, b) in [(3, 1), (2, 0)] {
        net.cut(a, b);
        net.run_for(12_000);
        assert_eq!(net.soft(3, space), ["/a=1"]);
        net.set(0, space, "/a", "1").unwrap();
    }
    net.soft_events(3);
    net.run_for(60_000);
    assert_eq!(net.soft_events(3), [""; 0], "it never lapsed");
}

#[test]
fn many_deletions_are_forgotten_and_stay_deletions() {
    let (mut net, space) = cluster(3, &[(1, 0), (2, 1)]);
    net.set(0, space, "/stays", "x").unwrap();
    for n in 0..300 {
        let path = Path::parse(&format!("/n/{n}")).unwrap();
        net.set(0, space, path.as_str(), "x").unwrap();
        net.call(0, Command::SoftDelete { space, path }).unwrap();
        if n == 100 {
            net.cut(2, 1);
        }
    }
    net.connect(2, 1);
    net.run_for(11_000);
    for n in 0..3 {
        assert_eq!(net.soft(n, space), ["/stays=x"], "at {n}");
    }
    let state = net.nodes[2].engine.soft.state(&space);
    assert!(state.figures().2 < 2_000, "{:?}", state.figures());
}
