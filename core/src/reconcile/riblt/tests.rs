use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::id::SpaceId;
use crate::reconcile::item::KeyName;

fn key(n: u8) -> IdKey {
    IdKey::new(&SpaceId([n; 32]), KeyName::Epoch(0))
}

fn ids(seed: u64, count: usize) -> Vec<u64> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.next_u64()).collect()
}

fn prefix(key: &IdKey, ids: &[u64], count: usize) -> Vec<Symbol> {
    let mut out = Vec::new();
    Encoder::new(key, ids.iter().copied()).block(count, &mut out);
    out
}

/// Feeds symbols in blocks of growing size; returns the difference and how many symbols it took at most.
fn reconcile(key: &IdKey, mine: &[u64], theirs: &[u64], step: usize) -> (Option<Diff>, usize) {
    let mut encoders = [Encoder::new(key, mine.iter().copied()), Encoder::new(key, theirs.iter().copied())];
    let mut decoder = Decoder::new(key.clone());
    for _ in 0..10_000 {
        let [ours, others] = encoders.each_mut().map(|encoder| {
            let mut out = Vec::new();
            encoder.block(step, &mut out);
            out
        });
        if decoder.push(&others, &ours) != Progress::NeedMore {
            break;
        }
    }
    let taken = decoder.taken();
    (decoder.finish(), taken)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn difference_of_random_sets_is_exact(
        seed: u64,
        common in 0usize..3_000,
        mine in 0usize..1_500,
        theirs in 0usize..1_500,
        step in 1usize..700,
    ) {
        let key = key(1);
        let all = ids(seed, common + mine + theirs);
        let my_set = &all[..common + mine];
        let their_set = [&all[..common], &all[common + mine..]].concat();
        let (diff, _) = reconcile(&key, my_set, &their_set, step);
        let mut expected =
            Diff { only_mine: all[common..common + mine].to_vec(), only_theirs: all[common + mine..].to_vec() };
        expected.sort();
        prop_assert_eq!(diff, Some(expected));
    }

    #[test]
    fn prefix_kept_up_to_date_equals_a_fresh_one(seed: u64, kept in 0usize..400, gone in 0usize..400) {
        let key = key(2);
        let all = ids(seed, kept + gone);
        let mut cache = PrefixCache::new(key.clone());
        all.iter().for_each(|id| cache.add(*id));
        all[kept..].iter().for_each(|id| cache.remove(*id));
        prop_assert_eq!(cache.symbols(), &prefix(&key, &all[..kept], PrefixCache::LEN)[..]);
    }

    #[test]
    fn blocks_join_to_one_prefix(seed: u64, count in 0usize..300, cut in 1usize..999) {
        let key = key(3);
        let all = ids(seed, count);
        let mut parts = Vec::new();
        let mut encoder = Encoder::new(&key, all.iter().copied());
        encoder.block(cut, &mut parts);
        encoder.block(1_000 - cut, &mut parts);
        prop_assert_eq!(parts, prefix(&key, &all, 1_000));
    }

    #[test]
    fn symbols_survive_the_wire(sum: u64, check: u32, count: i8) {
        let symbol = Symbol { sum, check, count };
        let bytes = symbol.to_bytes();
        prop_assert_eq!(bytes.len(), Symbol::LEN);
        prop_assert_eq!(Symbol::from_bytes(&bytes).unwrap(), symbol);
    }

    #[test]
    fn hostile_symbols_end_in_bounded_work(seed: u64, count in 1usize..600, crafted in 0usize..600) {
        let key = key(4);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        // Pure-looking symbols in the wrong places are the worst case: each peels an id that was never there.
        let symbols: Vec<Symbol> = (0..count)
            .map(|i| {
                let sum = rng.next_u64();
                let check = if i < crafted { check_of(&key, sum) } else { rng.next_u32() };
                Symbol { sum, check, count: if rng.next_u32() & 1 == 0 { 1 } else { -1 } }
            })
            .collect();
        let mut decoder = Decoder::new(key);
        for part in symbols.chunks(100) {
            decoder.push(part, &vec![Symbol::default(); part.len()]);
        }
        prop_assert!(decoder.found() <= symbols.len());
    }
}

#[test]
fn equal_sets_need_one_symbol() {
    let key = key(5);
    let all = ids(7, 1_000);
    assert_eq!(reconcile(&key, &all, &all, 1), (Some(Diff::default()), 1));
}

#[test]
fn overhead_stays_in_the_published_band() {
    let key = key(6);
    for (d, low, high) in [(100usize, 1.2, 1.65), (1_000, 1.3, 1.5), (5_000, 1.3, 1.45)] {
        let rounds = 20_000 / d as u64;
        let mut taken = 0;
        for seed in 0..rounds {
            let all = ids(1_000 + seed, d);
            taken += reconcile(&key, &all[..d / 2], &all[d / 2..], 1 + d / 100).1;
        }
        let overhead = taken as f64 / (rounds as usize * d) as f64;
        assert!((low..high).contains(&overhead), "{d} differences took {overhead} symbols each");
    }
}

#[test]
fn id_twice_in_one_set_is_noticed_at_once() {
    let key = key(7);
    let mut theirs = ids(3, 50);
    theirs.push(theirs[0]);
    let mut decoder = Decoder::new(key.clone());
    let mine: Vec<u64> = theirs[1..50].to_vec();
    let progress = decoder.push(&prefix(&key, &theirs, 64), &prefix(&key, &mine, 64));
    assert_eq!(progress, Progress::Inconsistent);
}

#[test]
fn empty_symbols_tell_how_many_ids_differ() {
    let key = key(8);
    for d in [1_000usize, 10_000] {
        let theirs = prefix(&key, &ids(11, d), d);
        let mut decoder = Decoder::new(key.clone());
        decoder.push(&theirs, &vec![Symbol::default(); d]);
        let estimate = decoder.estimate().map(|estimate| estimate as f64 / d as f64);
        assert!(estimate.is_some_and(|ratio| (0.8..1.25).contains(&ratio)), "{d}: {estimate:?}");
    }
}
