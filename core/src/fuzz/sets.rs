//! Reconciliation with a liar at the other end.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::{Target, Verdict, join, parts, strict, vectors};
use crate::id::SpaceId;
use crate::reconcile::message::{MAX_MESSAGE, Message};
use crate::reconcile::riblt::{Decoder, Encoder, PrefixCache, Symbol};
use crate::reconcile::session::{ItemSource, Requester, Responder};
use crate::reconcile::{IdKey, Item, Root, Sketch, Summary};
use crate::wire::Codec;

pub(super) const TARGETS: &[Target] = &[
    Target::new("reconcile", messages, strict::<Message>),
    Target::new("requester", to_requester, requester).room(16 << 20),
    Target::new("responder", to_responder, responder).room(16 << 20),
    Target::new("symbols", symbols, peel),
];

const SPACE: SpaceId = SpaceId([9; 32]);

/// A set as plain as can be. Made once: what is fuzzed does not change it.
struct Set {
    items: BTreeMap<(String, Item), ()>,
    summary: Summary,
}

impl Set {
    fn new(count: u64) -> Self {
        let mut set = Self { items: BTreeMap::new(), summary: Summary::new() };
        for n in 0..count {
            let item = Item(*blake3::hash(&n.to_le_bytes()).as_bytes());
            set.summary.add(&item);
            set.items.insert((format!("/{}/{n}", n % 7), item), ());
        }
        set
    }
}

impl ItemSource for Set {
    fn root(&self) -> Root {
        self.summary.root()
    }
    fn count(&self) -> u64 {
        self.summary.count()
    }
    fn sketch(&self) -> &Sketch {
        self.summary.sketch()
    }
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64)) {
        self.items.keys().for_each(|(_, item)| visit(key.item_id(item)));
    }
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64)) {
        self.items.keys().for_each(|(path, item)| visit(path, key.item_id(item)));
    }
    fn cached_prefix(&self, _: &IdKey) -> Option<&PrefixCache> {
        None
    }
}

/// Most messages that one of the other side's calls for, with room: comparisons under way, and a burst of symbols.
const MAX_ANSWERS: usize = 64;

/// Whoever asks is told lies: it ends, refuses or waits, and says a bounded amount.
fn requester(bytes: &[u8]) -> Verdict {
    static SET: OnceLock<Set> = OnceLock::new();
    let set = SET.get_or_init(|| Set::new(200));
    let mut requester = Requester::new(SPACE, 1, set);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut kind = 0;
    let drain = |requester: &mut Requester| {
        let mut said = 0;
        while let Some(message) = requester.poll() {
            assert!(message.to_bytes().len() <= MAX_MESSAGE, "a message over its bound");
            said += 1;
            assert!(said <= MAX_ANSWERS, "an endless answer");
        }
    };
    drain(&mut requester);
    for part in parts(bytes).into_iter().take(64) {
        let Ok(message) = Message::from_bytes(part) else { continue };
        match requester.on_message(set, &mut rng, message) {
            Ok(outcome) => kind = (kind << 2) | (1 + u64::from(outcome.is_some())),
            Err(error) => return Verdict::refused(&error),
        }
        drain(&mut requester);
    }
    Verdict::accepted(kind)
}

/// Whoever answers is asked nonsense.
fn responder(bytes: &[u8]) -> Verdict {
    static SET: OnceLock<Set> = OnceLock::new();
    let set = SET.get_or_init(|| Set::new(3_000));
    let mut responder = Responder::new(SPACE);
    let mut kind = 0;
    for part in parts(bytes).into_iter().take(64) {
        let Ok(message) = Message::from_bytes(part) else { continue };
        if let Err(error) = responder.on_message(set, message) {
            return Verdict::refused(&error);
        }
        let mut said = 0;
        while let Some(message) = responder.poll(set) {
            assert!(message.to_bytes().len() <= MAX_MESSAGE, "a message over its bound");
            said += 1;
            assert!(said <= MAX_ANSWERS, "an endless answer");
        }
        kind = kind << 3 | said.min(7) as u64;
    }
    Verdict::accepted(kind)
}

/// No more ids come out than symbols went in.
fn peel(bytes: &[u8]) -> Verdict {
    let key = IdKey::default_of(&SPACE);
    let theirs: Vec<Symbol> =
        bytes.as_chunks::<{ Symbol::LEN }>().0.iter().flat_map(|b| Symbol::from_bytes(b)).collect();
    let mut mine = Vec::new();
    Encoder::new(&key, 0..40).block(theirs.len(), &mut mine);
    let mut decoder = Decoder::new(key);
    let mut progress = decoder.progress();
    for (theirs, mine) in theirs.chunks(5).zip(mine.chunks(5)) {
        progress = decoder.push(theirs, mine);
        assert!(decoder.found() <= decoder.taken(), "more ids than symbols");
        let _ = decoder.estimate();
    }
    let taken = decoder.taken();
    let found = decoder.finish().map(|diff| diff.len());
    assert!(found.is_none_or(|found| found <= taken));
    Verdict::accepted(progress as u64 | (found.unwrap_or(0).min(63) as u64) << 2)
}

fn frozen() -> Vec<Message> {
    let bytes = vectors(include_str!("../../../tests/vectors/reconcile.json"));
    bytes.iter().filter_map(|bytes| Message::from_bytes(bytes).ok()).collect()
}

fn messages() -> Vec<Vec<u8>> {
    frozen().iter().map(Codec::to_bytes).collect()
}

/// What the sides of an honest session say: (to the requester, to the responder).
fn session(mine: &Set, theirs: &Set) -> [Vec<Vec<u8>>; 2] {
    let (mut requester, mut responder) = (Requester::new(SPACE, 1, mine), Responder::new(SPACE));
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut said = [Vec::new(), Vec::new()];
    for _ in 0..30 {
        while let Some(message) = requester.poll() {
            said[1].push(message.to_bytes());
            let _ = responder.on_message(theirs, message);
        }
        while let Some(message) = responder.poll(theirs) {
            said[0].push(message.to_bytes());
            let _ = requester.on_message(mine, &mut rng, message);
        }
    }
    said
}

fn sessions(side: usize) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [(200, 3_000), (200, 190), (3_000, 200), (200, 0)]
        .into_iter()
        .map(|(mine, theirs)| {
            let said = session(&Set::new(mine), &Set::new(theirs));
            join(said[side].iter().map(Vec::as_slice).take(6).filter(|part| part.len() < 3_000))
        })
        .collect();
    let meant = |message: &&Message| message.is_for_responder() == (side == 1);
    let with_serial = |message: &Message| {
        let mut bytes = message.to_bytes();
        // The serial number follows the kind.
        bytes[1..2].fill(1);
        bytes
    };
    let frozen: Vec<Vec<u8>> = frozen().iter().filter(meant).map(with_serial).collect();
    seeds.push(join(frozen.iter().map(Vec::as_slice)));
    seeds
}

fn to_requester() -> Vec<Vec<u8>> {
    sessions(0)
}

fn to_responder() -> Vec<Vec<u8>> {
    sessions(1)
}

fn symbols() -> Vec<Vec<u8>> {
    let key = IdKey::default_of(&SPACE);
    let of = |ids: std::ops::Range<u64>| {
        let mut symbols = Vec::new();
        Encoder::new(&key, ids).block(60, &mut symbols);
        symbols.iter().flat_map(Codec::to_bytes).collect()
    };
    vec![of(0..40), of(0..50), of(20..60), of(0..0)]
}
