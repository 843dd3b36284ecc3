use super::*;

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Everything that side 1 gets, looking whenever the network said to.
fn drain(network: &mut Network, wire: WireId, until: Timestamp) -> Vec<Item> {
    std::iter::from_fn(|| network.arrive(until, wire, 1)).collect()
}

#[test]
fn a_wire_keeps_order_whatever_it_loses_below() {
    let mut network = Network::default();
    let mut dice = Dice::new(1);
    let wire = network.open(A, B, Profile { loss_per_mille: 500, ..Profile::MOBILE });
    let mut last = Timestamp::ZERO;
    for n in 0..100u8 {
        last = network.send(at(u64::from(n) * 1000), wire, 0, vec![n; 50], &mut dice).unwrap();
    }
    assert!(network.arrive(at(0), wire, 1).is_none());
    let got = drain(&mut network, wire, last);
    assert_eq!(got, (0..100u8).map(|n| Item::Frame(vec![n; 50])).collect::<Vec<_>>());
}

#[test]
fn bandwidth_delays_what_comes_behind() {
    let mut network = Network::default();
    let mut dice = Dice::new(2);
    let wire = network.open(A, B, Profile { loss_per_mille: 0, ..Profile::MOBILE });
    network.send(at(0), wire, 0, vec![0; 150_000], &mut dice);
    let small = network.send(at(0), wire, 0, vec![0; 10], &mut dice).unwrap();
    assert!(small >= at(1_000_000), "a second of line time lies before it");
}

#[test]
fn a_torn_wire_loses_its_frames_and_dies_at_each_end_apart() {
    let mut network = Network::default();
    let mut dice = Dice::new(3);
    let wire = network.open(A, B, Profile::LAN);
    network.send(at(0), wire, 0, vec![1], &mut dice);
    network.tear(wire);
    assert!(drain(&mut network, wire, at(1_000_000)).is_empty());
    assert!(network.notice(wire, 1));
    assert!(network.send(at(5), wire, 0, vec![2], &mut dice).is_none(), "the other end believes in it still");
    assert!(network.notice(wire, 0));
    assert!(network.wire(wire).is_none());
}

#[test]
fn a_stall_holds_one_direction_and_loses_nothing() {
    let mut network = Network::default();
    let mut dice = Dice::new(4);
    let wire = network.open(A, B, Profile::LAN);
    network.stall(A, B);
    let due = network.send(at(0), wire, 0, vec![1], &mut dice).unwrap();
    network.send(at(0), wire, 1, vec![2], &mut dice);
    assert!(network.arrive(due, wire, 1).is_none());
    assert_eq!(network.arrive(at(10_000_000), wire, 0), Some(Item::Frame(vec![2])));
    assert_eq!(network.flow(A, B), [(wire, 1)]);
    assert_eq!(network.arrive(due, wire, 1), Some(Item::Frame(vec![1])));
}

#[test]
fn a_closed_end_is_seen_after_the_last_frame() {
    let mut network = Network::default();
    let mut dice = Dice::new(5);
    let wire = network.open(A, B, Profile::WIFI);
    network.send(at(0), wire, 0, vec![1], &mut dice);
    let end = network.close(at(0), wire, 0, &mut dice).unwrap();
    assert_eq!(drain(&mut network, wire, end), [Item::Frame(vec![1]), Item::End]);
}

#[test]
fn mischief_doubles_swaps_replays_and_alters() {
    let mut network = Network { mischief: Mischief { duplicate: 1000, ..Mischief::NONE }, ..Network::default() };
    let mut dice = Dice::new(6);
    let wire = network.open(A, B, Profile::LAN);
    let due = network.send(at(0), wire, 0, vec![1], &mut dice).unwrap();
    assert_eq!(drain(&mut network, wire, due).len(), 2);
    network.mischief = Mischief { reorder: 1000, ..Mischief::NONE };
    network.send(at(0), wire, 0, vec![2], &mut dice);
    let due = network.send(at(0), wire, 0, vec![3], &mut dice).unwrap();
    assert_eq!(drain(&mut network, wire, due), [Item::Frame(vec![3]), Item::Frame(vec![2])]);
    network.mischief = Mischief { corrupt: 1000, ..Mischief::NONE };
    let due = network.send(at(0), wire, 0, vec![0; 32], &mut dice).unwrap();
    assert_ne!(drain(&mut network, wire, due), [Item::Frame(vec![0; 32])]);
    network.mischief = Mischief { replay: 1000, ..Mischief::NONE };
    network.tear(wire);
    let next = network.open(A, B, Profile::LAN);
    let replayed = (0..20).any(|_| {
        let due = network.send(at(0), next, 0, vec![9], &mut dice).unwrap();
        drain(&mut network, next, due) != [Item::Frame(vec![9])]
    });
    assert!(replayed, "a frame of the torn wire comes back on the next one");
}
