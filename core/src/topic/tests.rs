//! States wired to each other on virtual time, and single ones fed by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::{DeviceId, Incarnation, Path, PeerId, Prefix, SpaceId};
use crate::io::LinkId;
use crate::soft::OwnerId;
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::DeviceKey;
use crate::trust::device::Signature;
use crate::wire::Codec;

mod bounds;
mod trees;

const SPACE: SpaceId = SpaceId([7; 32]);
/// A wall clock's reading when virtual time begins.
const WALL: i64 = 1_790_000_000_000;

fn key(n: usize) -> DeviceKey {
    DeviceKey::from_seed(&[n as u8 + 1; 32])
}

fn sender(n: usize) -> OwnerId {
    OwnerId { device: key(n).device(), peer: PeerId([n as u8 + 1; 32]) }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn at(micros: u64) -> Now {
    Now { mono: Timestamp::from_micros(micros), wall: WallTime(WALL + micros as i64 / 1000) }
}

fn root() -> Vec<Prefix> {
    vec![Prefix::root()]
}

/// A signal as its sender would make it.
fn signal(n: usize, incarnation: u64, seq: u64, text: &str, issue: i64) -> Signal {
    let unsigned = Signal {
        sender: sender(n),
        incarnation,
        seq,
        issue: WallTime(issue),
        path: path(text),
        payload: b"x".as_slice().into(),
        signature: Signature([0; 64]),
    };
    unsigned.signed(&key(n), &SPACE)
}

fn state(n: usize) -> State {
    State::new(SPACE, sender(n), 1, Timestamp::ZERO)
}

/// Hands a signal to a state and says what its programs were given.
fn give(to: &mut State, link: u64, now: Now, signal: &Signal) -> Vec<TopicEvent> {
    let message = Message::Signal(Box::new(signal.clone()));
    let size = message.to_bytes().len();
    to.on_message(LinkId(link), now, message, size, &|_, _| true).unwrap();
    to.take_events()
}

/// What leaves on a link now.
fn sent(from: &mut State, link: u64, now: Now) -> Vec<Message> {
    from.poll_link(LinkId(link), now.mono).iter().map(|bytes| Message::from_bytes(bytes).unwrap()).collect()
}

/// States and the links between them, with delays drawn from a seed.
struct Net {
    states: Vec<State>,
    /// Link from one to the other; both ends have the same number.
    wires: BTreeMap<u64, [usize; 2]>,
    /// Delay of each direction of a wire, in microseconds.
    delays: BTreeMap<(u64, usize), u64>,
    /// (due, serial) → (wire, end, bytes)
    flying: BTreeMap<(u64, u64), (u64, usize, Vec<u8>)>,
    heard: Vec<Vec<TopicEvent>>,
    micros: u64,
    serial: u64,
    /// Signals that crossed a wire.
    crossed: u64,
    /// Ends that take nothing in at present: what comes waits.
    asleep: BTreeSet<usize>,
    seed: u64,
}

impl Net {
    fn new(nodes: usize, pairs: &[(usize, usize)], seed: u64) -> Self {
        let mut net = Self {
            states: (0..nodes).map(state).collect(),
            wires: BTreeMap::new(),
            delays: BTreeMap::new(),
            flying: BTreeMap::new(),
            heard: vec![Vec::new(); nodes],
            micros: 0,
            serial: 0,
            crossed: 0,
            asleep: BTreeSet::new(),
            seed,
        };
        pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
        net
    }

    fn mesh(nodes: usize, seed: u64) -> Self {
        let pairs: Vec<_> = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect();
        Self::new(nodes, &pairs, seed)
    }

    fn draw(&mut self, most: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % most
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.serial += 1;
        let wire = self.serial;
        self.wires.insert(wire, [a, b]);
        let delay = 100 + self.draw(20_000);
        for (end, node, other) in [(0, a, b), (1, b, a)] {
            let jitter = self.draw(3_000);
            self.delays.insert((wire, end), delay + jitter);
            let now = Timestamp::from_micros(self.micros);
            self.states[node].connect(LinkId(wire), sender(other).peer, root(), now);
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let cut: Vec<u64> = self.wires.iter().filter(|(_, ends)| **ends == [a, b]).map(|(wire, _)| *wire).collect();
        for wire in cut {
            self.wires.remove(&wire);
            self.flying.retain(|_, (of, ..)| *of != wire);
            [a, b].into_iter().for_each(|node| self.states[node].disconnect(LinkId(wire)));
        }
    }

    fn publish(&mut self, n: usize, text: &str, payload: &str) -> u64 {
        let now = at(self.micros);
        let (seq, _) = self.states[n].publish(now, &key(n), path(text), payload.as_bytes().into()).unwrap();
        self.heard[n].extend(self.states[n].take_events());
        seq
    }

    fn run_for(&mut self, millis: u64) {
        let end = self.micros + millis * 1000;
        while self.micros < end {
            self.micros += 500;
            let now = at(self.micros);
            loop {
                let awake = |wire: u64, end: usize| !self.asleep.contains(&self.wires[&wire][end]);
                let due = self.flying.range(..=(self.micros, u64::MAX)).find(|(_, (wire, end, _))| awake(*wire, *end));
                let Some(key) = due.map(|(key, _)| *key) else { break };
                let (wire, end, bytes) = self.flying.remove(&key).expect("found above");
                let node = self.wires[&wire][end];
                let message = Message::from_bytes(&bytes).unwrap();
                let size = bytes.len();
                self.states[node].on_message(LinkId(wire), now, message, size, &|_, _| true).unwrap();
                let events = self.states[node].take_events();
                self.heard[node].extend(events);
            }
            self.pump(now);
        }
    }

    fn pump(&mut self, now: Now) {
        for n in 0..self.states.len() {
            if self.asleep.contains(&n) {
                continue;
            }
            self.states[n].tick(now.mono);
            for link in self.states[n].take_busy() {
                let Some(ends) = self.wires.get(&link.0).copied() else { continue };
                let far = usize::from(ends[0] == n);
                let jitter = self.draw(200);
                for bytes in self.states[n].poll_link(link, now.mono) {
                    self.crossed += u64::from(bytes[0] == 0);
                    self.serial += 1;
                    let due = self.micros + self.delays[&(link.0, far)] + jitter;
                    self.flying.insert((due, self.serial), (link.0, far, bytes));
                }
            }
        }
    }

    /// Payloads that a node heard of a sender at a path.
    fn payloads(&self, node: usize, of: usize, text: &str) -> Vec<String> {
        let of = sender(of);
        let heard = self.heard[node].iter().filter(|event| event.sender == of && event.path.as_str() == text);
        heard.map(|event| String::from_utf8_lossy(&event.payload).into_owned()).collect()
    }

    /// Everything heard is in order and heard once, and what is missing is told.
    fn check(&self) {
        for (node, heard) in self.heard.iter().enumerate() {
            let mut marks: BTreeMap<(OwnerId, Path), u64> = BTreeMap::new();
            for event in heard {
                let before = marks.insert((event.sender, event.path.clone()), event.seq);
                if let Some(before) = before {
                    assert!(event.seq > before, "node {node}: {event:?} after {before}");
                    assert_eq!(event.missed, event.seq - before - 1, "node {node}: {event:?}");
                } else {
                    assert_eq!(event.missed, 0, "node {node}: {event:?}");
                }
            }
        }
    }
}

#[test]
fn a_signal_is_heard_by_everybody_once_and_in_order() {
    let mut net = Net::new(5, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 3)], 1);
    for n in 0..100 {
        net.publish(n % 5, "/a", &n.to_string());
        net.run_for(3);
    }
    net.run_for(3_000);
    net.check();
    for node in 0..5 {
        assert_eq!(net.heard[node].len(), 100, "node {node}");
        assert!(net.heard[node].iter().all(|event| event.mine == (event.sender == sender(node))));
    }
}

#[test]
fn a_late_peer_hears_what_is_published_from_then_on() {
    let mut net = Net::new(3, &[(0, 1)], 2);
    net.publish(0, "/a", "before");
    net.run_for(100);
    net.connect(1, 2);
    net.run_for(1_000);
    assert_eq!(net.heard[2], [], "nothing is kept for who was not there");
    net.publish(0, "/a", "after");
    net.run_for(100);
    assert_eq!(net.payloads(2, 0, "/a"), ["after"]);
    assert_eq!(net.heard[2][0].missed, 0, "what was never there to be heard was not missed");
}

/// The store was put back from a copy that does not know of the life in which it was heard, and the clock went back as well.
#[test]
fn a_sender_that_does_not_know_of_its_latest_life_is_told_and_heard() {
    let known = crate::soft::incarnation(WallTime(WALL + 5_000), Incarnation(3));
    let now = at(1_000_000);
    for told_when_it_comes in [true, false] {
        let mut there = state(0);
        if !told_when_it_comes {
            there.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
        }
        there.connect(LinkId(2), sender(2).peer, root(), Timestamp::ZERO);
        assert_eq!(give(&mut there, 2, now, &signal(1, known, 7, "/a", WALL)).len(), 1);
        let mut here = State::new(SPACE, sender(1), known - 9, Timestamp::ZERO);
        here.connect(LinkId(1), sender(0).peer, root(), Timestamp::ZERO);
        if told_when_it_comes {
            there.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
        } else {
            here.publish(now, &key(1), path("/a"), b"lost".as_slice().into()).unwrap();
            assert_eq!(pass(&mut here, &mut there, now), []);
        }
        assert_eq!(pass(&mut there, &mut here, now), []);
        here.publish(now, &key(1), path("/a"), b"heard".as_slice().into()).unwrap();
        let events = pass(&mut here, &mut there, now);
        assert_eq!(
            events.iter().map(|event| (event.seq, event.missed, &*event.payload)).collect::<Vec<_>>(),
            [(1, 0, b"heard".as_slice())]
        );
    }
    // Who lies about it leads nowhere that a clock could not.
    let mut here = State::new(SPACE, sender(1), known, Timestamp::ZERO);
    here.on_former(now, u64::MAX);
    here.on_former(now, known);
    assert_eq!(here.own.incarnation, known);
}

/// Hands what leaves on link 1 to the other end; what its programs are given.
fn pass(from: &mut State, to: &mut State, now: Now) -> Vec<TopicEvent> {
    for bytes in from.poll_link(LinkId(1), now.mono) {
        let message = Message::from_bytes(&bytes).unwrap();
        to.on_message(LinkId(1), now, message, bytes.len(), &|_, _| true).unwrap();
    }
    from.take_events();
    to.take_events()
}

#[test]
fn a_restarted_sender_is_heard_anew_and_its_former_life_no_more() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    let now = at(1_000_000);
    for seq in [4, 5, 9] {
        give(&mut here, 1, now, &signal(1, 10, seq, "/a", WALL));
    }
    let events = give(&mut here, 1, now, &signal(1, 11, 1, "/a", WALL));
    assert_eq!((events.len(), events[0].seq, events[0].missed), (1, 1, 0));
    for late in [signal(1, 10, 10, "/a", WALL), signal(1, 11, 1, "/a", WALL)] {
        assert_eq!(give(&mut here, 1, now, &late), []);
    }
    assert_eq!(give(&mut here, 1, now, &signal(1, 11, 4, "/a", WALL))[0].missed, 2);
    assert_eq!(here.figures().refused, 1, "a duplicate is no offence");
}

#[test]
fn who_has_no_right_is_not_heard_and_who_forges_is_cut_off() {
    let mut here = state(0);
    let now = at(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    here.connect(LinkId(2), sender(2).peer, root(), Timestamp::ZERO);
    let reader = |device: &DeviceId, path: &Path| *device != key(1).device() || path.as_str() == "/open";
    let deliver = |here: &mut State, signal: Signal| {
        here.on_message(LinkId(1), now, Message::Signal(Box::new(signal)), 100, &reader)
    };
    deliver(&mut here, signal(1, 1, 1, "/closed", WALL)).unwrap();
    assert_eq!((here.take_events(), here.figures().refused), (vec![], 1));
    deliver(&mut here, signal(1, 1, 1, "/open", WALL)).unwrap();
    assert_eq!(here.take_events().len(), 1);
    for forge in
        [|s: &mut Signal| s.seq += 1, |s: &mut Signal| s.incarnation += 1, |s: &mut Signal| s.path = path("/b")]
    {
        let mut forged = signal(3, 1, 1, "/open", WALL);
        forge(&mut forged);
        assert_eq!(deliver(&mut here, forged), Err(Misbehaviour::Signature));
    }
    let elsewhere = signal(3, 1, 1, "/open", WALL).signed(&key(3), &SpaceId([8; 32]));
    assert_eq!(deliver(&mut here, elsewhere), Err(Misbehaviour::Signature));
    assert_eq!(here.take_events(), []);
    let passed = sent(&mut here, 2, now);
    assert!(matches!(passed.as_slice(), [Message::Signal(s)] if s.path.as_str() == "/open"), "{passed:?}");
}

#[test]
fn nothing_of_a_path_goes_where_it_may_not_be_read() {
    let mut here = state(0);
    let now = at(0);
    here.connect(LinkId(1), sender(1).peer, vec![Prefix::parse("/a").unwrap()], Timestamp::ZERO);
    let publish = |here: &mut State, text: &str| here.publish(now, &key(0), path(text), Arc::from(*b"x")).unwrap().1;
    assert_eq!(publish(&mut here, "/b"), 0, "it goes to nobody");
    assert_eq!(publish(&mut here, "/a/x"), 1);
    assert_eq!(sent(&mut here, 1, now).len(), 1);
    here.take_events();
    // Told of only, and then out of reach.
    let tag = signal::stream_tag(&sender(0), 1, &path("/a/x"));
    here.on_message(LinkId(1), now, Message::Prune(vec![tag]), 9, &|_, _| true).unwrap();
    publish(&mut here, "/a/x");
    here.take_events();
    here.connect(LinkId(1), sender(1).peer, vec![Prefix::parse("/c").unwrap()], Timestamp::ZERO);
    let later = at(2_000_000);
    here.tick(later.mono);
    assert_eq!(sent(&mut here, 1, later), []);
    here.on_message(LinkId(1), later, Message::Graft(vec![(tag, 0)]), 9, &|_, _| true).unwrap();
    assert_eq!(sent(&mut here, 1, later), [], "nor when it is asked for");
    // What comes by a link on which it has no place is not taken.
    assert_eq!(give(&mut here, 1, later, &signal(1, 1, 1, "/a/y", WALL)), []);
}

#[test]
fn an_old_signal_is_no_news() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    let age = MAX_AGE.as_millis() as i64;
    let now = at(0);
    assert_eq!(give(&mut here, 1, now, &signal(1, 1, 1, "/a", WALL - age - 1)), []);
    assert_eq!(give(&mut here, 1, now, &signal(1, 1, 2, "/a", WALL - age)).len(), 1);
    assert_eq!(
        give(&mut here, 1, now, &signal(1, 1, 3, "/a", WALL + 10 * age)).len(),
        1,
        "a clock ahead is no offence"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }

    #[test]
    fn messages_survive(seq in 1..=MAX_SEQ, incarnation: u64, issue: i64, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sample = signal(1, incarnation, seq, "/a/b", issue);
        sample.payload = payload.into();
        let tag = sample.tag();
        for message in [
            Message::Signal(Box::new(sample)),
            Message::Have(vec![(tag, seq)]),
            Message::Prune(vec![tag]),
            Message::Graft(vec![(tag, seq)]),
            Message::Ack { bytes: seq },
            Message::Former { incarnation: seq },
        ] {
            prop_assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap(), message);
        }
    }
}
