use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::super::craft::{random_history, tips};
use super::*;

fn history(seed: u64, steps: usize) -> Vec<Chunk> {
    random_history(&mut ChaCha12Rng::seed_from_u64(seed), 4, steps)
}

fn shuffle<T>(rng: &mut ChaCha12Rng, items: &mut [T]) {
    for index in (1..items.len()).rev() {
        items.swap(index, rng.next_u32() as usize % (index + 1));
    }
}

#[test]
fn a_real_history_is_admitted_whole() {
    let chunks = history(1, 60);
    let mut log = Log::new();
    let staged = log.stage(chunks.clone(), &tips(&chunks));
    assert_eq!(staged.refused, []);
    assert_eq!(staged.waiting, []);
    assert_eq!(staged.admitted.len(), chunks.len());
    log.admit(&staged.admitted, 1).unwrap();
    let mut doc = automerge::Automerge::new();
    doc.apply_changes(chunks.iter().map(super::super::craft::automerge)).unwrap();
    let mut heads: Vec<_> = doc.get_heads().iter().map(|h| ChangeHash(h.0)).collect();
    heads.sort();
    assert_eq!(log.heads(), heads);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_and_batching_do_not_matter(seed: u64, batch in 1..20usize) {
        let chunks = history(seed, 40);
        let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 1);
        let mut facts: Vec<Chunk> = chunks.iter().chain(&chunks[..chunks.len() / 3]).cloned().collect();
        shuffle(&mut rng, &mut facts);
        let all_tips = tips(&chunks);
        let mut log = Log::new();
        let mut waiting: Vec<Chunk> = Vec::new();
        for part in facts.chunks(batch) {
            let pool = waiting.drain(..).chain(part.iter().cloned()).collect();
            let staged = log.stage(pool, &all_tips);
            prop_assert_eq!(&staged.refused, &vec![]);
            let first = log.last_arrival() + 1;
            log.admit(&staged.admitted, first).unwrap();
            waiting = staged.waiting.into_iter().map(|w| w.chunk).collect();
        }
        prop_assert_eq!(log.len(), chunks.len());
        let mut whole = Log::new();
        let staged = whole.stage(chunks, &all_tips);
        whole.admit(&staged.admitted, 1).unwrap();
        prop_assert_eq!(log.heads(), whole.heads());
    }
}
