//! Links between peers that know each other, flight by flight.

use super::*;
use crate::wire::v1::exchange::PeerAddresses;
use crate::wire::v1::{Message, decode_frame};

/// Frames under way between two nodes on a fresh link: what both send during one flight arrives at the end of it.
struct Flights {
    a: (usize, LinkId),
    b: (usize, LinkId),
    /// By receiver.
    air: Vec<(usize, Input)>,
    /// What each flight carried, by receiver.
    log: Vec<Vec<(usize, Message)>>,
}

impl Flights {
    /// Node `a` has opened a stream to node `b`, which learns of it by the first frame.
    fn begin(net: &mut Net, a: usize, b: usize) -> Self {
        let (near, far) = (LinkId(net.next_link), LinkId(net.next_link + 1));
        net.next_link += 2;
        let (pa, pb) = (net.nodes[a].peer.unwrap(), net.nodes[b].peer.unwrap());
        net.nodes[a].inbox.push_back(Input::Linked { link: near, peer: pb, initiator: true });
        let linked = Input::Linked { link: far, peer: pa, initiator: false };
        let mut flights = Self { a: (a, near), b: (b, far), air: vec![(b, linked)], log: Vec::new() };
        flights.work(net);
        flights
    }

    /// Half a round trip: what is in the air arrives, and everybody does what follows.
    fn fly(&mut self, net: &mut Net) {
        let mut carried = Vec::new();
        for (to, input) in std::mem::take(&mut self.air) {
            if let Input::Frame { bytes, .. } = &input {
                carried.extend(decode_frame(bytes).unwrap().into_iter().map(|(message, _)| (to, message)));
            }
            net.nodes[to].inbox.push_back(input);
        }
        self.log.push(carried);
        self.work(net);
    }

    /// Everything that happens without a frame arriving.
    fn work(&mut self, net: &mut Net) {
        for n in [self.a.0, self.b.0] {
            while let Some(input) = net.nodes[n].inbox.pop_front() {
                net.micros += 10;
                let now = net.now();
                let now = Now { wall: WallTime(now.wall.0 + net.nodes[n].skew), ..now };
                net.nodes[n].engine.handle(now, input);
                while let Some(output) = net.nodes[n].engine.poll() {
                    match output {
                        Output::Send { link, bytes } => {
                            let (to, far) = if (n, link) == self.a { self.b } else { self.a };
                            self.air.push((to, Input::Frame { link: far, bytes }));
                        }
                        output => net.carry_out(n, output),
                    }
                }
            }
        }
    }

    /// Flies until a condition holds; how many flights that took.
    fn until(&mut self, net: &mut Net, what: &str, holds: impl Fn(&mut Net) -> bool) -> usize {
        for flights in 1..=20 {
            self.fly(net);
            if holds(net) {
                return flights;
            }
        }
        panic!("{what} does not come about: {:#?}", self.log);
    }

    fn end(self, net: &mut Net) {
        for (n, link) in [self.a, self.b] {
            net.nodes[n].inbox.push_back(Input::Unlinked { link });
        }
        net.settle();
    }
}

/// The root of `/` as the engine has it, without asking it through its inbox.
fn root_of(net: &mut Net, n: usize, space: SpaceId) -> [u8; 24] {
    net.nodes[n].engine.spaces.get_mut(&space).unwrap().domain(&Prefix::root()).root().0
}

/// Two members that have been in step and lost each other.
fn acquainted() -> (Net, SpaceId) {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.put(0, space, "/a", "x", 1);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    net.run_for(200);
    assert_eq!(net.root(0), net.root(1));
    net.cut(1, 0);
    (net, space)
}

#[test]
fn peers_that_regain_each_other_are_in_step_within_two_round_trips() {
    for (initiator, acceptor) in [(0, 1), (1, 0)] {
        let (mut net, space) = acquainted();
        net.put(0, space, "/a", "y", 2);
        net.put(0, space, "/only0", "z", 3);
        net.put(1, space, "/a", "z", 3);
        net.put(1, space, "/only1", "z", 3);
        let mut flights = Flights::begin(&mut net, initiator, acceptor);
        let equal = |net: &mut Net| root_of(net, 0, space) == root_of(net, 1, space);
        let taken = flights.until(&mut net, "equality", equal);
        assert!(taken <= 4, "{taken} flights: {:#?}", flights.log);
        let both = |net: &mut Net| (0..2).all(|n| net.nodes[n].engine.links.values().all(|link| link.sync.in_step));
        let confirmed = flights.until(&mut net, "confirmation", both);
        assert!(taken + confirmed <= 8, "{confirmed} more flights until both know: {:#?}", flights.log);
        let sessions = flights.log.iter().flatten().filter(|(_, m)| matches!(m, Message::Reconcile { .. })).count();
        assert_eq!(sessions, 0, "cursors sufficed");
        flights.end(&mut net);
    }
}

#[test]
fn peers_that_missed_nothing_know_it_after_two_round_trips() {
    let (mut net, _) = acquainted();
    let mut flights = Flights::begin(&mut net, 1, 0);
    let initiator = |net: &mut Net| net.nodes[1].engine.links.values().all(|link| link.sync.in_step);
    let taken = flights.until(&mut net, "equality", initiator);
    assert!(taken <= 4, "{taken} flights");
    flights.end(&mut net);
}

#[test]
fn cursors_outlive_a_restart_and_cost_one_round_trip_more() {
    let (mut net, space) = acquainted();
    // A cursor goes to the disk with the next write.
    net.put(1, space, "/own", "x", 1);
    net.connect(1, 0);
    net.run_for(200);
    net.restart(1);
    net.put(0, space, "/a", "y", 2);
    let mut flights = Flights::begin(&mut net, 1, 0);
    let equal = |net: &mut Net| root_of(net, 0, space) == root_of(net, 1, space);
    assert!(flights.until(&mut net, "equality", equal) <= 6);
    flights.end(&mut net);
}

#[test]
fn the_acceptor_says_nothing_to_a_peer_that_it_does_not_know() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let mut flights = Flights::begin(&mut net, 1, 0);
    let proved = |net: &mut Net| {
        net.nodes[0].engine.links.values().any(|link| link.spaces.values().any(|common| common.device.is_some()))
    };
    flights.until(&mut net, "a proof", proved);
    let before: Vec<_> = flights.log.iter().flatten().filter(|(to, _)| *to == 1).map(|(_, message)| message).collect();
    assert!(before.iter().all(|m| matches!(m, Message::Hello { .. } | Message::Open { .. })), "{before:?}");
    flights.end(&mut net);
}

#[test]
fn the_acceptor_says_nothing_ahead_to_a_peer_whose_device_is_no_member_any_more() {
    for (member, early) in [(true, true), (false, false)] {
        let (mut net, space) = acquainted();
        if !member {
            let peer = net.nodes[1].peer.unwrap();
            net.nodes[0].engine.acquaintances.remember(peer, space, DeviceId([9; 32]));
        }
        let mut flights = Flights::begin(&mut net, 1, 0);
        flights.fly(&mut net);
        flights.fly(&mut net);
        let ahead = flights.log[1].iter().any(|(to, m)| *to == 1 && matches!(m, Message::Present { .. }));
        assert_eq!(ahead, early, "{:#?}", flights.log);
        flights.end(&mut net);
    }
}

#[test]
fn where_members_are_is_told_to_proved_members_only() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let told = |net: &Net, n: usize| -> Vec<PeerAddresses> {
        let events = net.nodes[n].events.iter();
        events
            .filter_map(|e| if let Event::PeersTold { peers, .. } = e { Some(peers.clone()) } else { None })
            .flatten()
            .collect()
    };
    let peers = vec![PeerAddresses { peer: PeerId([5; 32]), addresses: vec!["/ip4/192.0.2.1/tcp/1".into()] }];
    net.connect(1, 0);
    net.connect(2, 0);
    let links: Vec<LinkId> = net.nodes[0].engine.links.keys().copied().collect();
    for link in links.into_iter().chain([LinkId(9_999)]) {
        net.call(0, Command::TellPeers { link, space, peers: peers.clone() }).unwrap();
    }
    assert_eq!(told(&net, 1), peers);
    assert_eq!(told(&net, 2), [], "a stranger is told nothing");
    // Nobody listens to a flood of it.
    let link = *net.nodes[0].engine.links.iter().find(|(_, link)| !link.spaces.is_empty()).unwrap().0;
    for _ in 0..200 {
        net.call(0, Command::TellPeers { link, space, peers: peers.clone() }).unwrap();
    }
    assert!((64..100).contains(&told(&net, 1).len()), "{} messages", told(&net, 1).len());
    // A stranger that tells something all the same is nobody.
    let link = *net.nodes[2].engine.links.keys().next().unwrap();
    net.call(2, Command::TellPeers { link, space, peers }).unwrap();
    assert_eq!(told(&net, 0), []);
}

#[test]
fn the_address_book_comes_back_at_the_next_start() {
    let mut net = Net::new(1);
    net.call(0, Command::KeepPeers { book: b"first".to_vec() }).unwrap();
    net.call(0, Command::KeepPeers { book: b"second".to_vec() }).unwrap();
    net.restart(0);
    let kept: Vec<_> =
        net.nodes[0].events.iter().filter(|e| matches!(e, Event::PeersKept { book } if book == b"second")).collect();
    assert_eq!(kept.len(), 1);
}
