//! Prints what finding a difference costs: time an update, symbols and bytes a difference, round trips.
//!
//! `cargo run --release -p foreshore --no-default-features --example reconcile_figures [ITEMS]`
#![allow(clippy::disallowed_methods, reason = "an example that measures reads the clock")]

use std::sync::OnceLock;
use std::time::Instant;

use foreshore::id::SpaceId;
use foreshore::reconcile::message::Message;
use foreshore::reconcile::riblt::{Decoder, Diff, Encoder, PrefixCache, Progress};
use foreshore::reconcile::session::{ItemSource, Outcome, Requester, Responder, planned_symbols};
use foreshore::reconcile::{IdKey, Item, LtHash, Root, Sketch, Summary};
use foreshore::wire::Codec;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

const SPACE: SpaceId = SpaceId([1; 32]);

/// Items numbered in the order of their paths.
#[derive(Clone)]
struct Set {
    items: Vec<(u64, Item)>,
    ids: Vec<u64>,
    summary: Summary,
    root: Root,
}

impl Set {
    fn new(numbers: impl Iterator<Item = u64>) -> Self {
        let key = IdKey::default_of(&SPACE);
        let items: Vec<_> = numbers.map(|n| (n, item(n))).collect();
        let ids: Vec<u64> = items.iter().map(|(_, item)| key.item_id(item)).collect();
        let mut summary = Summary::new();
        summary.keep_prefix(PrefixCache::new(key));
        items.iter().for_each(|(_, item)| summary.add(item));
        let root = summary.root();
        Self { items, ids, summary, root }
    }

    /// The set with `count` items in other states.
    fn changed(&self, count: usize) -> Self {
        let (mut set, key) = (self.clone(), IdKey::default_of(&SPACE));
        let step = self.items.len() / count;
        for i in (0..count).map(|i| i * step) {
            let new = item(self.items[i].0 + (1 << 40));
            set.summary.remove(&set.items[i].1);
            set.summary.add(&new);
            set.items[i].1 = new;
            set.ids[i] = key.item_id(&new);
        }
        set.root = set.summary.root();
        set
    }
}

impl ItemSource for Set {
    fn root(&self) -> Root {
        self.root
    }
    fn count(&self) -> u64 {
        self.summary.count()
    }
    fn sketch(&self) -> &Sketch {
        self.summary.sketch()
    }
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64)) {
        if key.is_default() {
            self.ids.iter().for_each(|id| visit(*id));
        } else {
            self.items.iter().for_each(|(_, item)| visit(key.item_id(item)));
        }
    }
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64)) {
        let mut path = String::new();
        for ((n, item), id) in self.items.iter().zip(&self.ids) {
            path.clear();
            std::fmt::Write::write_fmt(&mut path, format_args!("/lists/{n:09}")).expect("strings grow");
            visit(&path, if key.is_default() { *id } else { key.item_id(item) });
        }
    }
    fn cached_prefix(&self, key: &IdKey) -> Option<&PrefixCache> {
        self.summary.prefix().filter(|prefix| prefix.key() == key)
    }
}

fn item(n: u64) -> Item {
    Item(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000u64);
    updates();
    overhead();
    bursts();
    println!("\nsessions over {count} items");
    let start = nanos_on_cpu();
    let mine = Set::new(0..count);
    println!("  building one summary      {:>8.1} ms", millis(start));
    for changed in [1, 100, 1_000, 10_000, 100_000] {
        if changed as u64 * 2 <= count {
            session(&format!("{changed} changed"), &mine, &mine.changed(changed));
        }
    }
    session("nothing in common", &mine, &Set::new(count..2 * count));
    session("a tenth is missing", &mine, &Set::new(0..count / 10 * 9));
}

fn updates() {
    const N: u64 = 200_000;
    let key = IdKey::default_of(&SPACE);
    let items: Vec<Item> = (0..N).map(item).collect();
    let each = |name: &str, mut add: Box<dyn FnMut(&Item) + '_>| {
        let start = nanos_on_cpu();
        items.iter().for_each(&mut add);
        println!("  {name:<24}  {:>8.0} ns", (nanos_on_cpu() - start) as f64 / N as f64);
    };
    println!("an update");
    let (mut hash, mut sketch, mut prefix) = (LtHash::new(), Sketch::new(), PrefixCache::new(key.clone()));
    each("set hash", Box::new(|item| hash.add(item)));
    each("sketch", Box::new(|item| sketch.add(item)));
    let mut last = 0;
    each("item to id", Box::new(|item| last ^= key.item_id(item)));
    each("cached prefix (id known)", Box::new(|item| prefix.add(u64::from_le_bytes(*item.0.first_chunk().unwrap()))));
    let start = nanos_on_cpu();
    (0..10_000).for_each(|_| last ^= u64::from(hash.root().0[0]));
    println!("  {:<24}  {:>8.0} ns", "root", (nanos_on_cpu() - start) as f64 / 10_000.0);
    assert_ne!(last, 1);
}

/// Symbols a difference when they are asked for in small steps.
fn overhead() {
    println!("\ncoded symbols       mean a difference");
    let key = IdKey::default_of(&SPACE);
    for d in [1usize, 2, 5, 10, 50, 100, 1_000, 10_000, 100_000] {
        let rounds = (20_000 / d).clamp(2, 2_000);
        let (mut taken, mut nanos) = (0, 0);
        for round in 0..rounds {
            let ids = |from: usize| (from..from + d / 2 + d % 2).map(|n| key.item_id(&item((round << 24 | n) as u64)));
            let mut sides = [Encoder::new(&key, ids(0)), Encoder::new(&key, ids(1 << 22).take(d / 2))];
            let mut decoder = Decoder::new(key.clone());
            loop {
                let [mine, theirs] = sides.each_mut().map(|side| {
                    let mut out = Vec::new();
                    side.block(1 + d / 100, &mut out);
                    out
                });
                let start = nanos_on_cpu();
                let progress = decoder.push(&theirs, &mine);
                nanos += nanos_on_cpu() - start;
                if progress == Progress::Complete {
                    break;
                }
            }
            taken += decoder.taken();
        }
        let per = (rounds * d) as f64;
        println!("  {d:>7} differ    {:>6.3}    decoding {:>5.0} ns", taken as f64 / per, nanos as f64 / per);
    }
}

/// How often the planned burst suffices, sketch error included.
fn bursts() {
    println!("\nfirst bursts        enough    symbols a difference");
    let key = IdKey::default_of(&SPACE);
    for d in [1usize, 2, 3, 4, 6, 10, 20, 50, 100, 300, 1_000, 2_000, 3_000, 10_000] {
        let rounds = (400_000 / d).clamp(40, 2_000);
        let (mut enough, mut sent) = (0, 0);
        for round in 0..rounds {
            let items: Vec<Item> = (0..d).map(|n| item((1 << 50 | round << 24 | n) as u64)).collect();
            let mut sketch = Sketch::new();
            items.iter().for_each(|item| sketch.add(item));
            let planned = planned_symbols(Sketch::new().estimate(&sketch.digest()).max(1)) as usize;
            let (mut theirs, mut mine) = (Vec::new(), Vec::new());
            Encoder::new(&key, items.iter().map(|item| key.item_id(item))).block(planned, &mut theirs);
            Encoder::new(&key, []).block(planned, &mut mine);
            let mut decoder = Decoder::new(key.clone());
            enough += usize::from(decoder.push(&theirs, &mine) == Progress::Complete);
            sent += planned;
        }
        let percent = 100.0 * enough as f64 / rounds as f64;
        println!("  {d:>7} differ    {percent:>5.1} %    {:>6.2}", sent as f64 / (rounds * d) as f64);
    }
}

fn session(name: &str, mine: &Set, theirs: &Set) {
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let start = nanos_on_cpu();
    let mut requester = Requester::new(SPACE, 0, mine);
    let mut responder = Responder::new(SPACE);
    let (mut bytes, mut round_trips, mut outcome) = ([0usize; 2], 0, None);
    while outcome.is_none() {
        round_trips += 1;
        while let Some(message) = requester.poll() {
            let message = sent(&message, &mut bytes[0]);
            responder.on_message(theirs, message).expect("an honest requester");
        }
        while let Some(message) = responder.poll(theirs) {
            let message = sent(&message, &mut bytes[1]);
            outcome = outcome.or(requester.on_message(mine, &mut rng, message).expect("an honest responder"));
        }
    }
    let diff = match outcome {
        Some(Outcome::Diff { diff, .. }) => diff,
        _ => Diff::default(),
    };
    println!(
        "  {name:<20} {:>8} differ  {:>6} B asked {:>9} B answered  {:>6.1} B a difference  {round_trips:>3} round trips  {:>7.1} ms",
        diff.len(),
        bytes[0],
        bytes[1],
        (bytes[0] + bytes[1]) as f64 / diff.len().max(1) as f64,
        millis(start),
    );
}

fn sent(message: &Message, bytes: &mut usize) -> Message {
    let encoded = message.to_bytes();
    *bytes += encoded.len();
    Message::from_bytes(&encoded).expect("what was encoded decodes")
}

fn millis(start: u64) -> f64 {
    (nanos_on_cpu() - start) as f64 / 1e6
}

/// Time that this thread has run; where the system does not tell, time that has passed.
fn nanos_on_cpu() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu = on_cpu.and_then(|text| text.split(' ').next()?.parse().ok());
    on_cpu.unwrap_or_else(|| START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}
