//! Topics between engines.

use super::*;
use crate::engine::TopicError;

impl Net {
    fn signal(&mut self, n: usize, space: SpaceId, path: &str, payload: &str) -> Result<Reply, CommandError> {
        let path = Path::parse(path).unwrap();
        self.call(n, Command::Publish { space, path, payload: payload.into() })
    }

    /// What others have signalled since the last look.
    fn heard(&mut self, n: usize) -> Vec<String> {
        let (heard, rest): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.nodes[n].events)
            .into_iter()
            .partition(|event| matches!(event, Event::Signalled { .. }));
        self.nodes[n].events = rest;
        let told = heard.into_iter().filter_map(|event| match event {
            Event::Signalled { event, .. } if !event.mine => {
                Some(format!("{}={}", event.path, String::from_utf8_lossy(&event.payload)))
            }
            _ => None,
        });
        told.collect()
    }
}

fn cluster(nodes: usize, pairs: &[(usize, usize)]) -> (Net, SpaceId) {
    let mut net = Net::new(nodes);
    let space = net.create_space(0);
    (1..nodes).for_each(|n| net.join(0, n, space, Role::Writer, "/"));
    pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
    net.run_for(200);
    (net, space)
}

#[test]
fn a_signal_crosses_a_chain_of_engines_and_is_told_here_too() {
    let (mut net, space) = cluster(4, &[(1, 0), (2, 1), (3, 2)]);
    let published = net.signal(0, space, "/a", "hello");
    assert!(matches!(published, Ok(Reply::Published { seq: 1, peers: 1 })), "{published:?}");
    let mine = net.nodes[0].events.iter().filter(|event| matches!(event, Event::Signalled { event, .. } if event.mine));
    assert_eq!(mine.count(), 1);
    for n in 1..4 {
        assert_eq!(net.heard(n), ["/a=hello"], "at {n}");
    }
    let writes = net.status(0).storage_writes;
    net.signal(0, space, "/a", "more").unwrap();
    net.run_for(500);
    assert_eq!(net.status(0).storage_writes, writes, "nothing of it is stored");
    let status = net.status(1);
    assert_eq!((status.topic_streams, status.topic_delivered, status.topic_refused), (1, 2, 0));
}

#[test]
fn nobody_hears_of_what_they_may_not_read_nor_speaks_where_they_may_not_write() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/a");
    net.join(0, 2, space, Role::Reader, "/");
    net.connect(1, 0);
    net.connect(2, 0);
    net.signal(0, space, "/a/x", "1").unwrap();
    net.signal(0, space, "/b", "2").unwrap();
    net.run_for(100);
    assert_eq!(net.heard(1), ["/a/x=1"]);
    assert_eq!(net.heard(2), ["/a/x=1", "/b=2"]);
    for (n, path) in [(1, "/b"), (2, "/a/x")] {
        let refused = net.signal(n, space, path, "3");
        assert!(matches!(refused, Err(CommandError::Topic(TopicError::NoGrant { .. }))), "{refused:?}");
    }
    net.signal(1, space, "/a/y", "4").unwrap();
    net.run_for(100);
    assert_eq!(net.heard(2), ["/a/y=4"], "through the peer between");
}

#[test]
fn a_sender_whose_clock_went_back_is_heard_in_its_next_life() {
    let (mut net, space) = cluster(2, &[(1, 0)]);
    for life in 0..4 {
        for n in 0..3 {
            net.signal(0, space, "/a", &format!("{life}.{n}")).unwrap();
        }
        net.run_for(50);
        let expected: Vec<String> = (0..3).map(|n| format!("/a={life}.{n}")).collect();
        assert_eq!(net.heard(1), expected);
        net.nodes[0].skew -= 100_000;
        net.restart(0);
        net.connect(1, 0);
    }
}

#[test]
fn a_peer_that_closes_a_link_in_a_mesh_still_hears_at_once() {
    let pairs = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)];
    let (mut net, space) = cluster(4, &pairs);
    for n in 0..5 {
        net.signal(0, space, "/a", &n.to_string()).unwrap();
        net.run_for(300);
    }
    for n in 1..4 {
        assert_eq!(net.heard(n).len(), 5, "at {n}");
    }
    net.cut(2, 0);
    net.cut(3, 0);
    net.signal(0, space, "/a", "after").unwrap();
    net.run_for(20);
    for n in 1..4 {
        assert_eq!(net.heard(n), ["/a=after"], "at {n}");
    }
}

/// A chain whose changes are still being stored holds frames back; a topic must not be held up for good by it, nor tell of a
/// grant before it is durable.
#[test]
fn topics_and_documents_share_a_link() {
    let (mut net, space) = cluster(3, &[(1, 0), (2, 1)]);
    for n in 0..20 {
        net.put(0, space, "/doc", "x", n);
        net.signal(0, space, "/topic", &n.to_string()).unwrap();
    }
    net.run_for(500);
    assert_eq!(net.heard(2).len(), 20);
    assert_eq!(net.value(2, space, "/doc"), map(&[("x", 19)]));
}
