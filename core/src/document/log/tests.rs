use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::super::craft::{Craft, random_history};
use super::super::row;
use super::*;
use crate::id::DocumentId;
use crate::io::WriteOp;

const DOCUMENT: DocumentId = DocumentId([4; 16]);

fn history(seed: u64) -> (Vec<Chunk>, Log) {
    let chunks = random_history(&mut ChaCha12Rng::seed_from_u64(seed), 4, 40);
    let mut log = Log::new();
    log.admit(&chunks, 10).unwrap();
    (chunks, log)
}

fn stored(chunks: &[Chunk]) -> Rows {
    let mut rows = Rows::default();
    for (chunk, arrival) in chunks.iter().zip(10..) {
        let WriteOp::Put(_, key, value) = row::put_change(&DOCUMENT, arrival, chunk.bytes(), false) else { panic!() };
        rows.push(&key, &value);
    }
    rows
}

/// Ancestors by the plain definition.
fn ancestors(chunks: &[Chunk], heads: &[ChangeHash]) -> BTreeSet<ChangeHash> {
    let by_hash: BTreeMap<_, _> = chunks.iter().map(|chunk| (chunk.hash(), chunk)).collect();
    let mut all = BTreeSet::new();
    let mut open = heads.to_vec();
    while let Some(hash) = open.pop() {
        if all.insert(hash) {
            open.extend(by_hash[&hash].deps());
        }
    }
    all
}

fn hashes<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeSet<ChangeHash> {
    rows.map(Row::hash).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn questions_about_the_graph_have_their_plain_answers(seed: u64) {
        let (chunks, log) = history(seed);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let all: BTreeSet<_> = chunks.iter().map(Chunk::hash).collect();
        for _ in 0..8 {
            let have: Vec<_> = (0..2).map(|_| chunks[rng.next_u32() as usize % chunks.len()].hash()).collect();
            let known = ancestors(&chunks, &have);
            prop_assert_eq!(&hashes(log.ancestors(&have)), &known);
            prop_assert_eq!(hashes(log.missing(&have)), &all - &known);
            let other = chunks[rng.next_u32() as usize % chunks.len()].hash();
            prop_assert_eq!(log.is_ancestor(&other, &have[0]), ancestors(&chunks, &have[..1]).contains(&other));
            let subset: Vec<_> = known.iter().copied().collect();
            let mut done = BTreeSet::new();
            for row in log.topological(&subset) {
                prop_assert!(log.deps_of(row).all(|dep| done.contains(&dep.hash())));
                done.insert(row.hash());
            }
        }
        // A stranger's head changes nothing.
        prop_assert_eq!(log.missing(&[ChangeHash([9; 32])]).count(), chunks.len());
    }

    #[test]
    fn random_entries_never_panic(entries: Vec<(Vec<u8>, Vec<u8>)>, body: Vec<u8>) {
        let mut rows = Rows::default();
        entries.iter().for_each(|(key, value)| rows.push(key, value));
        let _ = Log::load(&rows);
        for kind in [1, 2, 0x81] {
            let mut rows = Rows::default();
            rows.push(&row::key(&DOCUMENT, 1), &[&[kind], &body[..]].concat());
            let _ = Log::load(&rows);
        }
    }

    #[test]
    fn past_heads_are_those_that_were_there(seed: u64) {
        let (chunks, log) = history(seed);
        let mut past = Log::new();
        let mut expected = Vec::new();
        for (chunk, arrival) in chunks.iter().zip(10..) {
            past.admit(std::slice::from_ref(chunk), arrival).unwrap();
            expected.push((arrival, past.heads().to_vec()));
        }
        expected.reverse();
        prop_assert_eq!(log.heads_history().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_log_comes_back_from_storage(seed: u64) {
        let (chunks, log) = history(seed);
        let again = Log::load(&stored(&chunks)).unwrap();
        prop_assert_eq!(again.heads(), log.heads());
        prop_assert_eq!(again.last_arrival(), log.last_arrival());
        prop_assert_eq!(again.max_op(), log.max_op());
        prop_assert_eq!(again.chunk_bytes(), log.chunk_bytes());
        let since: Vec<_> = again.changes_since(20).map(Row::arrival).collect();
        prop_assert_eq!(since, (21..=log.last_arrival()).collect::<Vec<_>>());
    }
}

#[test]
fn damaged_storage_is_told_apart() {
    let (chunks, _) = history(1);
    let mut half = chunks.clone();
    half.remove(0);
    assert!(matches!(Log::load(&stored(&half)), Err(LogError::MissingDep { .. })));
    let twice = [chunks[0].clone(), chunks[0].clone()];
    assert_eq!(Log::load(&stored(&twice)).unwrap_err(), LogError::Twice { hash: chunks[0].hash() });
    let mut rows = Rows::default();
    let WriteOp::Put(_, key, mut value) = row::put_change(&DOCUMENT, 3, chunks[0].bytes(), false) else { panic!() };
    *value.last_mut().unwrap() ^= 1;
    rows.push(&key, &value);
    let error = Log::load(&rows).unwrap_err();
    assert_eq!(error, LogError::Chunk { arrival: 3, error: ChunkError::Checksum });
    let mut log = Log::new();
    log.admit(&chunks[..1], 7).unwrap();
    assert_eq!(log.admit(&chunks[1..2], 7), Err(LogError::Order { arrival: 7 }));
}

#[test]
fn memory_is_told_within_reason() {
    let mut chunks = vec![Craft::new(1).chunk()];
    for at in 1..1_000 {
        chunks.push(Craft::after(&chunks[at - 1]).chunk());
    }
    let mut log = Log::new();
    log.admit(&chunks, 1).unwrap();
    let per_row = log.bytes() / log.len();
    assert!((100..200).contains(&per_row), "{per_row} B a row");
}
