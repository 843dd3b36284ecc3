use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::known::{Known, below};
use super::*;
use crate::id::PeerId;
use crate::io::LinkId;
use crate::time::Timestamp;
use crate::wire::{Codec, Reader};

fn peer(n: usize) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PeerId(bytes)
}

fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

const AT: fn(u64) -> Timestamp = |ms| Timestamp::from_micros(ms * 1_000);

fn peers_message(neighbours: u8, sample: Vec<Contact>) -> Message {
    Message::Peers { asks: false, neighbours, addresses: Vec::new(), sample }
}

/// Many states whose links and messages are there at once.
struct Crowd {
    states: Vec<State>,
    /// Both ends of a link carry its number.
    links: BTreeMap<LinkId, (usize, usize)>,
    next: u64,
    now: Timestamp,
    rng: ChaCha12Rng,
    /// Which half of a cut a peer is in.
    halves: Option<usize>,
    mail: VecDeque<(usize, LinkId, Message)>,
}

impl Crowd {
    fn new(peers: usize, seed: u64) -> Self {
        let now = AT(1_000);
        Self {
            states: (0..peers).map(|n| State::new(peer(n), now)).collect(),
            links: BTreeMap::new(),
            next: 0,
            now,
            rng: rng(seed),
            halves: None,
            mail: VecDeque::new(),
        }
    }

    fn apart(&self, a: usize, b: usize) -> bool {
        self.halves.is_some_and(|modulus| a % modulus != b % modulus)
    }

    fn link(&mut self, a: usize, b: usize) {
        let linked = self.links.values().any(|ends| *ends == (a, b) || *ends == (b, a));
        if a == b || linked || self.apart(a, b) {
            return;
        }
        self.next += 1;
        let link = LinkId(self.next);
        self.links.insert(link, (a, b));
        self.states[a].connect(link, peer(b), Share::Whole, self.now);
        self.states[b].connect(link, peer(a), Share::Whole, self.now);
    }

    fn unlink(&mut self, link: LinkId) {
        let Some((a, b)) = self.links.remove(&link) else { return };
        self.states[a].disconnect(link, self.now);
        self.states[b].disconnect(link, self.now);
    }

    fn unlink_where(&mut self, gone: impl Fn(usize, usize) -> bool) {
        let gone: Vec<LinkId> = self.links.iter().filter(|(_, (a, b))| gone(*a, *b)).map(|(link, _)| *link).collect();
        gone.into_iter().for_each(|link| self.unlink(link));
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now = self.now + Duration::from_millis(100);
            for n in 0..self.states.len() {
                self.states[n].tick(self.now, &mut self.rng, &|_| 0);
                while let Some(effect) = self.states[n].poll() {
                    self.carry_out(n, effect);
                }
            }
            while let Some((to, link, message)) = self.mail.pop_front() {
                self.states[to].on_message(link, message, self.now, &mut self.rng, &|_| 0);
            }
        }
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Send(link, message) => {
                let Some((a, b)) = self.links.get(&link) else { return };
                let to = if *a == n { *b } else { *a };
                self.mail.push_back((to, link, Message::from_bytes(&message.to_bytes()).unwrap()));
            }
            Effect::Link { peer: wanted, .. } => {
                let other = (0..self.states.len()).find(|other| peer(*other) == wanted).unwrap();
                if self.apart(n, other) {
                    self.states[n].unreachable(&wanted, self.now, &mut self.rng);
                } else {
                    self.link(n, other);
                }
            }
            Effect::Surplus { link } => {
                if self.links.get(&link).is_some_and(|(opener, _)| *opener == n) {
                    self.unlink(link);
                }
            }
            Effect::Neighbour { .. } => {}
        }
    }

    /// Everybody knows one who was there before.
    fn bootstrap(&mut self) {
        for n in 1..self.states.len() {
            let contact = below(n, &mut self.rng);
            self.link(n, contact);
        }
    }

    fn neighbours(&self, n: usize) -> BTreeSet<usize> {
        let other = |link: LinkId| {
            let (a, b) = self.links[&link];
            if a == n { b } else { a }
        };
        self.states[n].neighbours().map(other).collect()
    }

    /// Peers that one reaches over links that are neighbours on both sides.
    fn reached(&self, from: usize) -> usize {
        let (mut reached, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(here) = next.pop() {
            for other in self.neighbours(here) {
                if self.neighbours(other).contains(&here) && reached.insert(other) {
                    next.push(other);
                }
            }
        }
        reached.len()
    }
}

#[test]
fn up_to_a_dozen_everybody_is_everybodys_neighbour() {
    let mut crowd = Crowd::new(FULL_MESH, 1);
    crowd.bootstrap();
    crowd.run(Duration::from_secs(300));
    for n in 0..FULL_MESH {
        assert_eq!(crowd.neighbours(n).len(), FULL_MESH - 1, "peer {n}");
    }
}

#[test]
fn beyond_a_dozen_neighbours_are_bounded_symmetric_and_one_graph() {
    for (peers, seed) in [(20, 2), (60, 3), (200, 4)] {
        let mut crowd = Crowd::new(peers, seed);
        crowd.bootstrap();
        crowd.run(Duration::from_secs(240));
        let degrees: Vec<usize> = (0..peers).map(|n| crowd.neighbours(n).len()).collect();
        // Somebody may just have met somebody new, and let nobody go yet.
        assert!(degrees.iter().all(|degree| (PROVEN..=MAX_DEGREE + 2).contains(degree)), "{degrees:?}");
        let over = degrees.iter().filter(|degree| **degree > MAX_DEGREE).count();
        assert!(over <= peers / 20, "{degrees:?}");
        let mean = degrees.iter().sum::<usize>() as f64 / peers as f64;
        assert!(mean >= DEGREE as f64 - 0.5, "{mean}");
        assert_eq!(crowd.reached(0), peers);
        let one_sided = (0..peers).flat_map(|n| crowd.neighbours(n).into_iter().map(move |other| (n, other)));
        let one_sided = one_sided.filter(|(n, other)| !crowd.neighbours(*other).contains(n)).count();
        assert_eq!(one_sided, 0, "nothing is under way");
        // Links that nobody needs have gone.
        assert!(crowd.links.len() <= peers * (MAX_DEGREE + 1) / 2 + peers / 4, "{} links", crowd.links.len());
    }
}

#[test]
fn halves_that_were_cut_apart_find_each_other_by_themselves() {
    let mut crowd = Crowd::new(40, 5);
    crowd.bootstrap();
    crowd.run(Duration::from_secs(120));
    crowd.halves = Some(2);
    crowd.unlink_where(|a, b| a % 2 != b % 2);
    crowd.run(Duration::from_secs(120));
    assert_eq!(crowd.reached(0), 20, "each half is whole");
    assert_eq!(crowd.reached(1), 20);
    crowd.halves = None;
    crowd.run(Duration::from_secs(240));
    assert_eq!(crowd.reached(0), 40);
}

#[test]
fn who_loses_neighbours_finds_others() {
    let mut crowd = Crowd::new(60, 6);
    crowd.bootstrap();
    crowd.run(Duration::from_secs(120));
    // A third dies at once and does not come back.
    crowd.halves = Some(3);
    crowd.unlink_where(|a, b| a % 3 == 0 || b % 3 == 0);
    crowd.unlink_where(|a, b| a % 3 != b % 3);
    crowd.run(Duration::from_secs(60));
    for n in (0..60).filter(|n| n % 3 == 1) {
        assert!(crowd.neighbours(n).len() >= PROVEN, "peer {n}");
    }
    assert_eq!(crowd.reached(1), 20);
}

#[test]
fn old_neighbours_are_not_displaced_by_newcomers_that_claim_to_be_lonely() {
    let mut rng = rng(7);
    let mut state = State::new(peer(0), AT(0));
    for n in 1..=PROVEN {
        state.connect(LinkId(n as u64), peer(n), Share::Whole, AT(n as u64));
        // The old ones are honest about having many neighbours.
        state.on_message(LinkId(n as u64), peers_message(MAX_DEGREE as u8, Vec::new()), AT(10), &mut rng, &|_| 0);
    }
    for n in 100..200 {
        let at = AT(n as u64 * 100);
        state.connect(LinkId(n as u64), peer(n), Share::Whole, at);
        state.on_message(LinkId(n as u64), peers_message(0, Vec::new()), at, &mut rng, &|_| 0);
        let wish = Message::Neighbour { wish: Wish::Priority, neighbours: 0 };
        state.on_message(LinkId(n as u64), wish, at, &mut rng, &|_| 0);
        state.tick(at, &mut rng, &|_| 0);
    }
    for second in 20..200 {
        state.tick(AT(second * 1_000), &mut rng, &|_| 0);
    }
    let neighbours: BTreeSet<LinkId> = state.neighbours().collect();
    assert!(neighbours.len() <= MAX_DEGREE, "{neighbours:?}");
    assert!((1..=PROVEN as u64).all(|n| neighbours.contains(&LinkId(n))), "{neighbours:?}");
}

/// Three old neighbours, six over which nothing flows and whose peers claim to be lonely, five newer ones that carry
/// something and whose peers have enough.
fn state_with_branches(rng: &mut ChaCha12Rng) -> State {
    let mut state = State::new(peer(0), AT(0));
    for n in 1..=14 {
        state.connect(LinkId(n), peer(n as usize), Share::Whole, AT(n));
        let claims = if n < 10 { 0 } else { MAX_DEGREE as u8 };
        state.on_message(LinkId(n), peers_message(claims, Vec::new()), AT(20), rng, &carries);
    }
    state
}

fn carries(link: LinkId) -> usize {
    usize::from(link.0 >= 10)
}

/// A peer that had too many neighbours let go of any that had many, and what hung from that branch of a tree heard of
/// changes up to six network delays later.
#[test]
fn who_has_too_many_neighbours_keeps_those_over_which_changes_flow() {
    let mut rng = rng(11);
    let mut state = state_with_branches(&mut rng);
    (1..30).for_each(|second| state.tick(AT(second * 1_000), &mut rng, &carries));
    let neighbours: BTreeSet<u64> = state.neighbours().map(|link| link.0).collect();
    assert_eq!(neighbours, BTreeSet::from([1, 2, 3, 10, 11, 12, 13, 14]));
}

#[test]
fn who_has_enough_parts_from_another_that_has_only_where_nothing_flows() {
    let mut rng = rng(12);
    let mut state = state_with_branches(&mut rng);
    let later = AT(YOUNG.as_millis() as u64 + 1_000);
    state.tick(AT(500), &mut rng, &carries);
    for n in [4, 14] {
        state.on_message(LinkId(n), peers_message(MAX_DEGREE as u8, Vec::new()), later, &mut rng, &carries);
    }
    let neighbours: BTreeSet<u64> = state.neighbours().map(|link| link.0).collect();
    assert!(neighbours.contains(&14) && !neighbours.contains(&4), "{neighbours:?}");
}

#[test]
fn one_source_fills_only_its_share_of_what_is_known() {
    let mut rng = rng(8);
    let mut state = State::new(peer(0), AT(0));
    state.connect(LinkId(1), peer(1), Share::Whole, AT(0));
    for round in 0..100 {
        let sample = (0..MAX_SAMPLE).map(|n| Contact { peer: peer(1_000 + round * 10 + n), addresses: Vec::new() });
        state.on_message(LinkId(1), peers_message(3, sample.collect()), AT(0), &mut rng, &|_| 0);
    }
    assert_eq!(state.known(), 1 + MAX_PER_SOURCE);
}

#[test]
fn known_peers_are_bounded_and_those_met_are_kept_before_hearsay() {
    let mut rng = rng(9);
    let mut known = Known::default();
    (0..20).for_each(|n| known.met(peer(n)));
    for n in 100..400 {
        known.heard_of(Contact { peer: peer(n), addresses: Vec::new() }, peer(n % 20));
        known.trim(&BTreeSet::new(), &mut rng);
    }
    assert_eq!(known.count(), MAX_KNOWN);
    let taken: BTreeSet<PeerId> = (20..500).map(peer).collect();
    assert!(known.candidate(AT(0), &taken, &mut rng).is_some(), "the ones met are there");
}

#[test]
fn what_cannot_be_reached_rests_longer_each_time_and_hearsay_is_forgotten() {
    let mut rng = rng(10);
    let mut known = Known::default();
    known.met(peer(1));
    known.heard_of(Contact { peer: peer(2), addresses: Vec::new() }, peer(1));
    let taken = BTreeSet::new();
    let mut last = AT(0);
    for failure in 0..HOPELESS {
        known.failed(&peer(1), AT(0), &mut rng);
        known.failed(&peer(2), AT(0), &mut rng);
        let next = known.next_at(&BTreeSet::from([peer(2)])).unwrap();
        assert!(next > AT(0) && (failure == 0 || next >= last || failure < 2), "{next:?} after {last:?}");
        last = next;
        assert!(known.candidate(AT(0), &taken, &mut rng).is_none(), "both rest");
    }
    assert_eq!(known.count(), 0, "hearsay is gone, who was met does not count for now");
    let far = AT(1_000_000_000);
    assert_eq!(known.candidate(far, &taken, &mut rng).unwrap().0, peer(1));
}

#[test]
fn a_peer_that_does_not_speak_of_neighbours_stays_one() {
    let mut rng = rng(11);
    let mut state = State::new(peer(0), AT(0));
    for n in 1..=30 {
        state.connect(LinkId(n as u64), peer(n), Share::Whole, AT(0));
    }
    for second in 0..600 {
        state.tick(AT(second * 1_000), &mut rng, &|_| 0);
        while let Some(effect) = state.poll() {
            assert!(!matches!(effect, Effect::Neighbour { .. } | Effect::Send(_, Message::Disconnect)), "{effect:?}");
        }
    }
    assert_eq!(state.neighbours().count(), 30);
}

#[test]
fn questions_are_not_answered_faster_than_they_are_worth() {
    let mut rng = rng(12);
    let mut state = State::new(peer(0), AT(0));
    state.connect(LinkId(1), peer(1), Share::Whole, AT(0));
    let asks = Message::Peers { asks: true, neighbours: 1, addresses: Vec::new(), sample: Vec::new() };
    for ms in 0..1_000 {
        state.on_message(LinkId(1), asks.clone(), AT(ms), &mut rng, &|_| 0);
    }
    let answers = std::iter::from_fn(|| state.poll()).filter(|effect| matches!(effect, Effect::Send(..))).count();
    assert_eq!(answers, 1);
}

fn samples() -> Vec<(Message, &'static str)> {
    let contact = Contact { peer: PeerId([7; 32]), addresses: vec!["/dns/b/tcp/1".into()] };
    let addresses = vec!["/dns/a/tcp/1".into()];
    vec![
        (
            Message::Peers { asks: true, neighbours: 6, addresses, sample: vec![contact] },
            "000106010c2f646e732f612f7463702f3101\
             0707070707070707070707070707070707070707070707070707070707070707010c2f646e732f622f7463702f3100",
        ),
        (Message::Neighbour { wish: Wish::IfRoom, neighbours: 5 }, "01000500"),
        (Message::Neighbour { wish: Wish::Priority, neighbours: 1 }, "01010100"),
        (Message::Neighbour { wish: Wish::Granted, neighbours: 8 }, "01020800"),
        (Message::Disconnect, "0200"),
    ]
}

/// Frozen: version 1 of the bytes.
#[test]
fn messages_have_these_bytes() {
    for (message, hex) in samples() {
        let bytes = message.to_bytes();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, hex, "{message:?}");
        assert_eq!(Message::from_bytes(&bytes).unwrap(), message);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::decode(&mut Reader::new(&bytes)) {
            let again = Message::from_bytes(&message.to_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&message));
        }
    }

    #[test]
    fn whatever_a_peer_says_memory_and_answers_stay_bounded(
        said in proptest::collection::vec((0u64..4, any::<u8>(), 0u8..3, 0usize..2_000), 1..200),
    ) {
        let mut rng = rng(13);
        let mut state = State::new(peer(0), AT(0));
        (0..4).for_each(|link| state.connect(LinkId(link), peer(1 + link as usize), Share::Whole, AT(0)));
        for (at, (link, neighbours, kind, who)) in said.into_iter().enumerate() {
            let now = AT(at as u64 * 50);
            let message = match kind {
                0 => peers_message(neighbours, vec![Contact { peer: peer(who), addresses: vec!["x".repeat(who); 9] }]),
                1 => Message::Neighbour { wish: Wish::Priority, neighbours },
                _ => Message::Disconnect,
            };
            state.on_message(LinkId(link), message, now, &mut rng, &|_| 0);
            state.tick(now, &mut rng, &|_| 0);
            let effects = std::iter::from_fn(|| state.poll()).count();
            prop_assert!(effects < 20, "{} effects", effects);
            prop_assert!(state.known() <= MAX_KNOWN + 4);
        }
    }
}
