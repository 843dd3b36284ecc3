use std::collections::BTreeMap;
use std::sync::OnceLock;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::id::SpaceId;
use crate::reconcile::item::{Item, KeyName};
use crate::reconcile::message::{Answer, Ask, Holds, MAX_MESSAGE, Part, SMALL_SET};
use crate::reconcile::range::{Bound, Range};
use crate::reconcile::summary::Summary;
use crate::wire::Codec;

const SPACE: SpaceId = SpaceId([9; 32]);

/// A peer's item set, as plain as can be.
#[derive(Clone, Default)]
struct Set {
    items: BTreeMap<(String, Item), u64>,
    summary: Summary,
    /// Items whose id under the default key is this: stands for a collision that took 2³² tries.
    forced: BTreeMap<Item, u64>,
    root: Option<Root>,
}

impl Set {
    fn new(numbers: impl IntoIterator<Item = u64>, cached: bool) -> Self {
        let mut set = Self::default();
        if cached {
            set.summary.keep_prefix(PrefixCache::new(IdKey::default_of(&SPACE)));
        }
        numbers.into_iter().for_each(|n| set.add(n));
        set
    }

    fn with(&self, numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut set = self.clone();
        numbers.into_iter().for_each(|n| set.add(n));
        set
    }

    fn add(&mut self, n: u64) {
        self.items.insert((path(n), item(n)), n);
        self.summary.add(&item(n));
    }

    fn remove(&mut self, n: u64) {
        self.items.remove(&(path(n), item(n)));
        self.summary.remove(&item(n));
    }

    fn id(&self, key: &IdKey, item: &Item) -> u64 {
        let forced = self.forced.get(item).filter(|_| key.is_default());
        forced.copied().unwrap_or_else(|| key.item_id(item))
    }

    fn ids_without(&self, key: &IdKey, other: &Set) -> Vec<u64> {
        let mut ids: Vec<u64> =
            self.items.keys().filter(|k| !other.items.contains_key(*k)).map(|(_, item)| self.id(key, item)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl ItemSource for Set {
    fn root(&self) -> Root {
        self.root.unwrap_or_else(|| self.summary.root())
    }
    fn count(&self) -> u64 {
        self.summary.count()
    }
    fn sketch(&self) -> &Sketch {
        self.summary.sketch()
    }
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64)) {
        self.items.keys().for_each(|(_, item)| visit(self.id(key, item)));
    }
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64)) {
        self.items.keys().for_each(|(path, item)| visit(path, self.id(key, item)));
    }
    fn cached_prefix(&self, key: &IdKey) -> Option<&PrefixCache> {
        self.summary.prefix().filter(|prefix| prefix.key() == key)
    }
}

fn item(n: u64) -> Item {
    Item(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// About three items a path.
fn path(n: u64) -> String {
    format!("/project/{}/note{}", n % 7, n / 21)
}

#[derive(Debug, Default)]
struct Cost {
    round_trips: u32,
    asked_bytes: usize,
    answered_bytes: usize,
    names: Vec<&'static str>,
}

/// Runs one session to its end; `meanwhile` may change the sets after each round trip.
fn run(mine: &mut Set, theirs: &mut Set, meanwhile: impl FnMut(u32, &mut Set, &mut Set)) -> (Outcome, Cost) {
    let requester = Requester::new(SPACE, 250, mine);
    run_from(requester, mine, theirs, meanwhile)
}

fn run_from(
    mut requester: Requester,
    mine: &mut Set,
    theirs: &mut Set,
    mut meanwhile: impl FnMut(u32, &mut Set, &mut Set),
) -> (Outcome, Cost) {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut responder = Responder::new(SPACE);
    let mut cost = Cost::default();
    for _ in 0..5_000 {
        cost.round_trips += 1;
        while let Some(message) = requester.poll() {
            let message = through_the_wire(message, &mut cost.asked_bytes, &mut cost.names);
            responder.on_message(theirs, message).unwrap();
        }
        let mut outcome = None;
        while let Some(message) = responder.poll(theirs) {
            let message = through_the_wire(message, &mut cost.answered_bytes, &mut cost.names);
            outcome = outcome.or(requester.on_message(mine, &mut rng, message).unwrap());
        }
        if let Some(outcome) = outcome {
            while let Some(message) = requester.poll() {
                responder.on_message(theirs, message).unwrap();
            }
            assert!(responder.is_idle(), "the responder was told that the session is over");
            return (outcome, cost);
        }
        meanwhile(cost.round_trips, mine, theirs);
    }
    panic!("the session does not end: {cost:?}");
}

fn through_the_wire(message: Message, bytes: &mut usize, names: &mut Vec<&'static str>) -> Message {
    let encoded = message.to_bytes();
    assert!(encoded.len() <= MAX_MESSAGE, "{} has {} bytes", message.name(), encoded.len());
    *bytes += encoded.len();
    names.push(message.name());
    let decoded = Message::from_bytes(&encoded).unwrap();
    assert_eq!(decoded, message);
    decoded
}

fn assert_exact(outcome: &Outcome, mine: &Set, theirs: &Set) {
    match outcome {
        Outcome::Diff { key, diff, complete } => {
            assert!(complete);
            assert_eq!(diff.only_mine, mine.ids_without(key, theirs));
            assert_eq!(diff.only_theirs, theirs.ids_without(key, mine));
        }
        Outcome::Equal => assert_eq!(mine.root(), theirs.root()),
        Outcome::AllMine => assert!(theirs.items.is_empty() && !mine.items.is_empty()),
        Outcome::AllTheirs => assert!(mine.items.is_empty() && !theirs.items.is_empty()),
        Outcome::Unsettled => panic!("two honest peers settle"),
    }
}

fn two_sets(common: u64, mine: u64, theirs: u64, cached: bool) -> (Set, Set) {
    let base = Set::new(0..common, cached);
    let second = base.with(common + mine..common + mine + theirs);
    (base.with(common..common + mine), second)
}

/// Like [`two_sets`] over a base that is built once.
fn two_large_sets(mine: u64, theirs: u64, cached: bool) -> (Set, Set) {
    const COMMON: u64 = 5_000;
    static BASES: OnceLock<[Set; 2]> = OnceLock::new();
    let bases = BASES.get_or_init(|| [false, true].map(|cached| Set::new(0..COMMON, cached)));
    let base = &bases[usize::from(cached)];
    (base.with(COMMON..COMMON + mine), base.with(COMMON + mine..COMMON + mine + theirs))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn session_ends_with_the_exact_difference(
        common in proptest::option::of(0u64..60),
        mine in prop_oneof![0u64..5, 0u64..500],
        theirs in prop_oneof![0u64..5, 0u64..500],
        caches: (bool, bool),
    ) {
        let pair = |cached| match common {
            Some(common) => two_sets(common, mine, theirs, cached),
            None => two_large_sets(mine, theirs, cached),
        };
        let (mut first, mut second) = (pair(caches.0).0, pair(caches.1).1);
        let (outcome, _) = run(&mut first, &mut second, |_, _, _| {});
        assert_exact(&outcome, &first, &second);
    }

    #[test]
    fn set_that_changes_meanwhile_still_settles(seed: u64, d in 1u64..500, changes in 0u32..5) {
        let (mut first, mut second) = two_large_sets(d, d, true);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (outcome, _) = run(&mut first, &mut second, |round, first, second| {
            if round <= changes {
                second.add(1_000_000 + u64::from(rng.next_u32()));
                first.remove(u64::from(round));
            }
        });
        // The outcome describes some moment in between: what differed all the while is in it.
        let Outcome::Diff { key, diff, .. } = outcome else { panic!("{outcome:?}") };
        for n in 5_000..5_000 + d {
            prop_assert!(diff.only_mine.binary_search(&key.item_id(&item(n))).is_ok());
        }
    }

    #[test]
    fn hostile_messages_end_in_bounded_work(seed: u64, common in 0u64..400, messages in arbitrary_messages()) {
        let set = Set::new(0..common, seed % 2 == 0);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut requester = Requester::new(SPACE, 0, &set);
        let mut responder = Responder::new(SPACE);
        responder.on_message(&set, requester.poll().unwrap()).unwrap();
        for message in messages {
            if message.is_for_responder() {
                let _ = responder.on_message(&set, message);
            } else {
                let _ = requester.on_message(&set, &mut rng, message);
            }
            let polled = std::iter::from_fn(|| requester.poll()).take(100).count()
                + std::iter::from_fn(|| responder.poll(&set)).take(100).count();
            prop_assert!(polled < 100);
        }
    }

    #[test]
    fn random_bytes_never_panic(kind in 0u8..12, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [vec![kind, 0], bytes].concat();
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }

    #[test]
    fn messages_survive_the_wire(messages in arbitrary_messages()) {
        for message in messages {
            prop_assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap(), message);
        }
    }
}

fn arbitrary_messages() -> impl Strategy<Value = Vec<Message>> {
    proptest::collection::vec(arbitrary_message(), 1..40)
}

fn arbitrary_message() -> impl Strategy<Value = Message> {
    // Mostly the serial of the running session, so that messages are not just dropped.
    let serial = prop_oneof![9 => Just(0u8), 1 => any::<u8>()];
    let symbol = any::<[u8; 13]>().prop_map(|bytes| Symbol::from_bytes(&bytes).unwrap());
    let bound = || {
        ("[/a-c]{0,5}", prop_oneof![Just(0u64), any::<u64>()]).prop_map(|(path, id)| Bound { path: path.into(), id })
    };
    let range = (bound(), proptest::option::of(bound())).prop_map(|(from, to)| Range { from, to });
    let ask = prop_oneof![any::<u128>().prop_map(Ask::Fingerprint), Just(Ask::List)];
    let ids = || proptest::collection::vec(any::<u64>(), 0..40);
    let holds = prop_oneof![any::<u128>().prop_map(Holds::Fingerprint), ids().prop_map(Holds::Ids)];
    let part = (proptest::option::of(bound()), holds).prop_map(|(to, holds)| Part { to, holds });
    let answer = prop_oneof![Just(Answer::Equal), proptest::collection::vec(part, 1..16).prop_map(Answer::Parts)];
    let body = prop_oneof![
        3 => (any::<bool>(), 0u32..9_000, prop_oneof![0u64..40, any::<u64>()], any::<[u8; 24]>(), any::<[u8; 80]>()).prop_map(
            |(fresh, at_least, count, root, sketch)| Message::Root {
                serial: 0,
                key: if fresh { KeyName::Session([1; 16]) } else { KeyName::Epoch(0) },
                at_least,
                count,
                root: Root(root),
                sketch: (count > SMALL_SET).then(|| Codec::from_bytes(&sketch).unwrap()),
            }
        ),
        1 => Just(Message::Equal { serial: 0 }),
        1 => Just(Message::OneSided { serial: 0 }),
        1 => ids().prop_map(|ids| Message::Ids { serial: 0, ids }),
        6 => (prop_oneof![Just(0u32), Just(20u32), any::<u32>()], any::<u32>(), proptest::collection::vec(symbol, 0..20))
            .prop_map(|(start, target, symbols)| Message::Symbols { serial: 0, start, target, symbols }),
        3 => prop_oneof![0u32..2_000, any::<u32>()].prop_map(|upto| Message::More { serial: 0, upto }),
        3 => Just(Message::UseRanges { serial: 0 }),
        1 => Just(Message::Stale { serial: 0 }),
        6 => proptest::collection::vec((range, ask), 0..6)
            .prop_map(|ranges| Message::Compare { serial: 0, ranges }),
        6 => proptest::collection::vec(answer, 0..4).prop_map(|answers| Message::Compared { serial: 0, answers }),
        1 => Just(Message::Done { serial: 0 }),
    ];
    (serial, body).prop_map(|(serial, body)| with_serial(body, serial))
}

fn with_serial(mut message: Message, to: u8) -> Message {
    match &mut message {
        Message::Root { serial, .. }
        | Message::Equal { serial }
        | Message::OneSided { serial }
        | Message::Ids { serial, .. }
        | Message::Symbols { serial, .. }
        | Message::More { serial, .. }
        | Message::UseRanges { serial }
        | Message::Stale { serial }
        | Message::Compare { serial, .. }
        | Message::Compared { serial, .. }
        | Message::Done { serial } => *serial = to,
    }
    message
}

#[test]
fn one_changed_document_costs_one_round_trip_and_few_bytes() {
    let (mut first, mut second) = two_large_sets(1, 1, true);
    let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
    assert_exact(&outcome, &first, &second);
    assert_eq!(cost.round_trips, 1);
    assert!(cost.asked_bytes <= 116, "{cost:?}");
    assert!(cost.answered_bytes <= 141, "{cost:?}");
}

#[test]
fn one_burst_suffices_for_a_changed_document_nearly_always() {
    const ROUNDS: u64 = 400;
    let (base, _) = two_large_sets(0, 0, true);
    let single = (1..=ROUNDS).filter(|round| {
        let from = round * 1_000_000;
        let (mut first, mut second) = (base.with(from..from + 1), base.with(from + 1..from + 2));
        let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
        assert_exact(&outcome, &first, &second);
        cost.round_trips == 1
    });
    let single = single.count() as u64;
    assert!(single * 100 >= ROUNDS * 96, "{single} of {ROUNDS}");
}

#[test]
fn one_burst_suffices_nearly_always() {
    let mut single = 0;
    let mut bytes = 0;
    const ROUNDS: u64 = 60;
    let (base, _) = two_large_sets(0, 0, true);
    for round in 1..=ROUNDS {
        let from = round * 1_000_000;
        let (mut first, mut second) = (base.with(from..from + 200), base.with(from + 200..from + 400));
        let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
        assert_exact(&outcome, &first, &second);
        single += u64::from(cost.round_trips == 1);
        bytes += cost.answered_bytes as u64;
    }
    assert!(single * 10 >= ROUNDS * 92 / 10, "{single} of {ROUNDS}");
    assert!(bytes / ROUNDS / 400 <= 30, "{} bytes a difference", bytes / ROUNDS / 400);
}

#[test]
fn small_sets_are_listed() {
    let (mut first, mut second) = two_sets(3, 20, 20, false);
    let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
    assert_exact(&outcome, &first, &second);
    assert_eq!(cost.names, ["Root", "Ids"]);
}

#[test]
fn sets_with_little_in_common_are_compared_by_ranges() {
    let (mut first, mut second) = two_sets(500, 12_000, 9_000, false);
    let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
    assert_exact(&outcome, &first, &second);
    assert!(cost.names.contains(&"Compare") && !cost.names.contains(&"Symbols"), "{cost:?}");
    assert!(cost.answered_bytes < 9_500 * 13, "{cost:?}");
}

#[test]
fn empty_side_is_told_at_once() {
    let (mut full, mut empty) = two_sets(0, 8, 0, false);
    assert_eq!(run(&mut full, &mut empty, |_, _, _| {}).0, Outcome::AllMine);
    assert_eq!(run(&mut empty, &mut full, |_, _, _| {}).0, Outcome::AllTheirs);
    assert_eq!(run(&mut empty.clone(), &mut empty, |_, _, _| {}).0, Outcome::Equal);
}

/// Two items with one id, one on each side: symbols cancel, and under the default key nothing seems to differ.
#[test]
fn colliding_ids_are_found_under_a_fresh_key() {
    for (common, cached) in [(10, false), (6_000, true), (6_000, false)] {
        let (mut first, mut second) = two_sets(common, 1, 1, false);
        for set in [&mut first, &mut second] {
            set.forced.extend([(item(common), 77), (item(common + 1), 77)]);
            if cached {
                let key = IdKey::default_of(&SPACE);
                let mut prefix = PrefixCache::new(key.clone());
                set.for_each_id(&key, &mut |id| prefix.add(id));
                set.summary.keep_prefix(prefix);
            }
        }
        let (outcome, _) = run(&mut first, &mut second, |_, _, _| {});
        assert_exact(&outcome, &first, &second);
        let Outcome::Diff { key, diff, .. } = outcome else { panic!("{outcome:?}") };
        assert!(!key.is_default());
        assert_eq!(diff.len(), 2);
    }
}

/// Two items with one id on one side: a symbol of them never becomes pure, so ranges have to find them.
#[test]
fn id_twice_on_one_side_is_found_by_ranges() {
    let (mut first, mut second) = two_large_sets(2, 1, false);
    first.forced.extend([(item(5_000), 5), (item(5_001), 5)]);
    let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
    assert_exact(&outcome, &first, &second);
    assert!(cost.names.contains(&"Compared"), "{cost:?}");
}

#[test]
fn peer_that_lies_about_its_root_does_not_keep_us_busy() {
    for common in [10, 7_500] {
        let (mut first, mut second) = two_sets(common, 0, 0, false);
        second.root = Some(Root([1; 24]));
        let (outcome, cost) = run(&mut first, &mut second, |_, _, _| {});
        assert_eq!(outcome, Outcome::Unsettled);
        assert!(cost.round_trips < 20, "{cost:?}");
    }
}

#[test]
fn set_that_equals_by_the_time_of_the_answer_is_equal() {
    let (mut first, mut second) = two_large_sets(0, 1, false);
    let mut requester = Requester::new(SPACE, 0, &first);
    let mut responder = Responder::new(SPACE);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    responder.on_message(&second, requester.poll().unwrap()).unwrap();
    let answer = responder.poll(&second).unwrap();
    first.add(5_000);
    assert_eq!(requester.on_message(&first, &mut rng, answer), Ok(None));
    let (outcome, _) = run_from(requester, &mut first, &mut second, |_, _, _| {});
    assert_eq!(outcome, Outcome::Equal);
}

#[test]
fn messages_of_an_abandoned_session_are_dropped() {
    let (first, second) = two_large_sets(3, 3, false);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut responder = Responder::new(SPACE);
    let mut old = Requester::new(SPACE, 1, &first);
    responder.on_message(&second, old.poll().unwrap()).unwrap();
    let late = responder.poll(&second).unwrap();
    let mut new = Requester::new(SPACE, 2, &first);
    assert_eq!(new.on_message(&first, &mut rng, late), Ok(None));
    responder.on_message(&second, new.poll().unwrap()).unwrap();
    responder.on_message(&second, Message::Done { serial: 1 }).unwrap();
    let answer = responder.poll(&second).unwrap();
    assert!(matches!(new.on_message(&first, &mut rng, answer), Ok(Some(Outcome::Diff { .. }))));
}

#[test]
fn endless_splits_are_cut_off() {
    let set = two_large_sets(0, 0, false).0;
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut requester = Requester::new(SPACE, 0, &set);
    requester.poll();
    requester.on_message(&set, &mut rng, Message::UseRanges { serial: 0 }).unwrap();
    let mut sum = 0;
    for _ in 0..20_000 {
        let Some(Message::Compare { ranges, .. }) = requester.poll() else { break };
        // Each range falls apart again into an empty piece and all the rest.
        let answers = ranges
            .iter()
            .map(|(range, _)| {
                sum += 1;
                let to = Some(Bound { path: range.from.path.clone(), id: range.from.id + 1 });
                let holds = Holds::Fingerprint(sum);
                Answer::Parts(vec![Part { to, holds: holds.clone() }, Part { to: None, holds }])
            })
            .collect();
        match requester.on_message(&set, &mut rng, Message::Compared { serial: 0, answers }) {
            Ok(None) => {}
            Ok(Some(outcome)) => return assert_eq!(outcome, Outcome::Unsettled),
            Err(error) => return assert_eq!(error, SessionError::Answer),
        }
    }
    panic!("still going on");
}
