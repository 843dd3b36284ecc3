use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::super::chunk::ChunkLimits;
use super::super::craft::{Craft, put_columns, random_history, tip, tips};
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

/// A layer and an edit that depends on it.
fn layered() -> (Chunk, Chunk) {
    let mut zero = Craft::new(0);
    zero.columns = put_columns("title", 1);
    let sealed = super::super::layer::seal(&zero.bytes()).unwrap();
    let layer = Chunk::parse(sealed, &ChunkLimits::default()).unwrap();
    let mut edit = Craft::new(1);
    (edit.deps, edit.start_op) = (vec![layer.hash()], 2);
    (layer, edit.chunk())
}

#[test]
fn a_layer_comes_in_only_under_a_change_that_depends_on_it() {
    let (layer, edit) = layered();
    let log = Log::new();
    let alone = log.stage(vec![layer.clone()], &[]);
    assert_eq!((alone.admitted.len(), alone.waiting.len(), alone.refused.len()), (0, 1, 0));
    let unendorsed = log.stage(vec![layer.clone(), edit.clone()], &[]);
    assert_eq!((unendorsed.admitted.len(), unendorsed.waiting.len()), (0, 2));
    let staged = log.stage(vec![edit.clone(), layer.clone()], &[tip(&edit)]);
    assert_eq!(staged.admitted, [layer, edit]);
}

#[test]
fn a_change_without_an_endorsement_waits_and_blocks_nobody() {
    let one = Craft::new(1).chunk();
    // Somebody else's bytes at the same place: not endorsed, so they count for nothing.
    let mut forged = Craft::new(1);
    forged.columns = put_columns("forged", 1);
    let forged = forged.chunk();
    let staged = Log::new().stage(vec![forged.clone(), one.clone()], &[tip(&one)]);
    assert_eq!(staged.admitted, [one]);
    assert_eq!(staged.waiting[0].chunk, forged);
    assert!(!staged.waiting[0].endorsed);
}

#[test]
fn chains_that_need_each_other_come_in_together() {
    let a1 = Craft::new(1).chunk();
    let b1 = Craft::new(2).chunk();
    let across = |own: &Chunk, other: &Chunk| {
        let mut craft = Craft::after(own);
        craft.deps.push(other.hash());
        craft.deps.sort();
        craft.chunk()
    };
    let (a2, b2) = (across(&a1, &b1), across(&b1, &a1));
    let batch = vec![a1.clone(), b1.clone(), a2.clone(), b2.clone()];
    assert_eq!(Log::new().stage(batch.clone(), &[tip(&a2), tip(&b2)]).admitted.len(), 4);
    // One chain is not whole: nothing of it comes in, nor of the one that needs it.
    let torn = batch.into_iter().filter(|chunk| chunk != &b1).collect();
    let staged = Log::new().stage(torn, &[tip(&a2), tip(&b2)]);
    assert!(staged.admitted.is_empty());
    assert_eq!(staged.waiting.iter().flat_map(|w| &w.missing).filter(|h| **h == b1.hash()).count(), 2);
}

#[test]
fn an_older_tip_holds_while_a_newer_chain_is_torn() {
    let mut chain = vec![Craft::new(1).chunk()];
    for at in 0..4 {
        chain.push(Craft::after(&chain[at]).chunk());
    }
    let (older, newer) = (tip(&chain[2]), tip(&chain[4]));
    let batch = vec![chain[0].clone(), chain[1].clone(), chain[2].clone(), chain[4].clone()];
    let staged = Log::new().stage(batch, &[newer, older]);
    assert_eq!(staged.admitted, chain[..3]);
    assert_eq!(staged.waiting[0].missing, [chain[3].hash()]);
}

#[test]
fn a_tip_that_names_another_place_covers_nothing() {
    let one = Craft::new(1).chunk();
    let wrong = EndorsedTip { seq: 2, ..tip(&one) };
    assert!(Log::new().stage(vec![one], &[wrong]).admitted.is_empty());
}
