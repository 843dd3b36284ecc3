//! Chunks that wait: for a dependency, for the rest of their chain, or for an endorsement.
//!
//! The buffer is memory only. Nothing in it is admitted, so dropping all of it loses nothing: what an endorsed tip
//! covers is asked for again, by hash, each chunk authenticated by the one above that depends on it.
//!
//! **When to judge again.** A long chain arrives in many frames and is admitted whole. Judging everything that waits
//! with every frame would cost the square of the chain's length, so [`Orphans::offer`] hands a document's chunks out
//! when nothing is missing below them, or when a quarter of them is new; [`Orphans::take`] does at any time, for the end
//! of a transfer or a timer.
//!
//! **Eviction.** Over a bound, the document that holds most gives: first what no endorsement covers and nothing else
//! here depends on, oldest first; then what came last, since a chain is fetched from its tip and the bottom is what
//! lets the rest in. It gives an eighth of the bound at once, so that a flood pays for the search once in a while.

use std::collections::{BTreeMap, BTreeSet};

use super::chunk::Chunk;
use super::ingest::{EndorsedTip, Waiting};
use super::log::Log;
use crate::id::{ChangeHash, DocumentId};

/// Bounds on what waits in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanLimits {
    /// Most bytes of chunks. Default 128 MiB. A single chain that is longer than this cannot be admitted chunk by chunk.
    pub max_bytes: usize,
    /// Most chunks. Default 2¹⁸; a chunk takes about 300 B beside its bytes.
    pub max_chunks: usize,
}

impl Default for OrphanLimits {
    fn default() -> Self {
        Self { max_bytes: 128 << 20, max_chunks: 1 << 18 }
    }
}

/// All waiting chunks of a store.
#[derive(Debug, Default)]
pub struct Orphans {
    limits: OrphanLimits,
    documents: BTreeMap<DocumentId, Held>,
    bytes: usize,
    chunks: usize,
    evicted: u64,
    next_order: u64,
}

/// What waits for one document.
#[derive(Debug, Default)]
struct Held {
    chunks: BTreeMap<ChangeHash, Orphan>,
    /// How many of the chunks depend on a change that the log lacks.
    needs: BTreeMap<ChangeHash, u32>,
    bytes: usize,
    /// Chunks that came since the last judgement.
    fresh: usize,
}

#[derive(Debug)]
struct Orphan {
    chunk: Chunk,
    endorsed: bool,
    /// Grows with arrival.
    order: u64,
}

impl Orphans {
    /// An empty buffer.
    pub fn new(limits: OrphanLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a batch of a document's chunks in and returns everything that is worth judging now, if anything:
    /// the batch itself where nothing waits for the document.
    pub fn offer(&mut self, document: &DocumentId, batch: Vec<Chunk>, log: &Log) -> Option<Vec<Chunk>> {
        if !self.documents.contains_key(document) {
            return Some(batch);
        }
        let fresh = batch.len();
        for chunk in batch {
            self.insert(document, chunk, false, log);
        }
        self.evict();
        let held = self.documents.get_mut(document)?;
        held.fresh += fresh;
        let complete = held.needs.keys().all(|need| held.chunks.contains_key(need));
        if complete || held.fresh * 4 >= held.chunks.len() { Some(self.take(document)) } else { None }
    }

    /// Puts back what a judgement left waiting.
    pub fn hold(&mut self, document: &DocumentId, waiting: Vec<Waiting>, log: &Log) {
        for Waiting { chunk, endorsed, .. } in waiting {
            self.insert(document, chunk, endorsed, log);
        }
        self.evict();
    }

    /// Takes everything out that waits for a document: to be judged again, or to be forgotten with it.
    pub fn take(&mut self, document: &DocumentId) -> Vec<Chunk> {
        let Some(held) = self.documents.remove(document) else { return Vec::new() };
        self.bytes -= held.bytes;
        self.chunks -= held.chunks.len();
        held.chunks.into_values().map(|orphan| orphan.chunk).collect()
    }

    /// What to fetch next, at most `max` hashes: endorsed tips that are not here, and what is missing below those that
    /// are. Each is named by an endorsement or by a chunk that descends from one, so what comes is authentic.
    pub fn wanted(&self, document: &DocumentId, log: &Log, tips: &[EndorsedTip], max: usize) -> Vec<ChangeHash> {
        let none = Held::default();
        let held = self.documents.get(document).unwrap_or(&none);
        let mut seen = BTreeSet::new();
        let mut open: Vec<ChangeHash> = tips.iter().map(|tip| tip.hash).collect();
        let mut wanted = Vec::new();
        while let Some(hash) = open.pop() {
            if wanted.len() >= max {
                break;
            }
            if log.contains(&hash) || !seen.insert(hash) {
                continue;
            }
            match held.chunks.get(&hash) {
                Some(orphan) => open.extend(orphan.chunk.deps()),
                None => wanted.push(hash),
            }
        }
        wanted
    }

    /// Whether a chunk waits for the document.
    pub fn contains(&self, document: &DocumentId, hash: &ChangeHash) -> bool {
        self.documents.get(document).is_some_and(|held| held.chunks.contains_key(hash))
    }

    /// Heads of what waits for a document such that everything at and below them is here or in the log.
    pub fn tips(&self, document: &DocumentId, log: &Log) -> Vec<ChangeHash> {
        let Some(held) = self.documents.get(document) else { return Vec::new() };
        let mut open: BTreeMap<ChangeHash, usize> = BTreeMap::new();
        let mut children: BTreeMap<ChangeHash, Vec<ChangeHash>> = BTreeMap::new();
        let mut ready = Vec::new();
        for (hash, orphan) in &held.chunks {
            let lacking: Vec<_> = orphan.chunk.deps().iter().filter(|dep| !log.contains(dep)).collect();
            lacking.iter().for_each(|dep| children.entry(**dep).or_default().push(*hash));
            match lacking.len() {
                0 => ready.push(*hash),
                count => drop(open.insert(*hash, count)),
            }
        }
        let mut tips = BTreeSet::new();
        while let Some(hash) = ready.pop() {
            tips.insert(hash);
            for child in children.get(&hash).into_iter().flatten() {
                let count = open.get_mut(child).expect("whoever lacks something is open");
                *count -= 1;
                if *count == 0 {
                    ready.push(*child);
                }
            }
        }
        let below: BTreeSet<ChangeHash> =
            tips.iter().flat_map(|hash| held.chunks[hash].chunk.deps().iter().copied()).collect();
        tips.difference(&below).copied().collect()
    }

    /// Documents that something waits for.
    pub fn documents(&self) -> impl Iterator<Item = &DocumentId> {
        self.documents.keys()
    }

    /// Bytes of all waiting chunks.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of waiting chunks.
    pub fn len(&self) -> usize {
        self.chunks
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// How many chunks were evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn insert(&mut self, document: &DocumentId, chunk: Chunk, endorsed: bool, log: &Log) {
        let hash = chunk.hash();
        if log.contains(&hash) {
            return;
        }
        let held = self.documents.entry(*document).or_default();
        if let Some(known) = held.chunks.get_mut(&hash) {
            known.endorsed |= endorsed;
            return;
        }
        for dep in chunk.deps().iter().filter(|dep| !log.contains(dep)) {
            *held.needs.entry(*dep).or_default() += 1;
        }
        let bytes = chunk.bytes().len();
        held.bytes += bytes;
        self.bytes += bytes;
        self.chunks += 1;
        self.next_order += 1;
        held.chunks.insert(hash, Orphan { chunk, endorsed, order: self.next_order });
    }

    fn evict(&mut self) {
        if self.bytes <= self.limits.max_bytes && self.chunks <= self.limits.max_chunks {
            return;
        }
        let (bytes, chunks) = (self.limits.max_bytes / 8 * 7, self.limits.max_chunks / 8 * 7);
        while self.bytes > bytes || self.chunks > chunks {
            let by_chunks = self.bytes <= bytes;
            let load = |held: &Held| if by_chunks { held.chunks.len() } else { held.bytes };
            let Some(document) = self.documents.iter().max_by_key(|(_, held)| load(held)).map(|(id, _)| *id) else {
                return;
            };
            // Down to the bound, or to half of what it holds: then another document may hold more.
            let floor = self.documents.get(&document).map_or(0, load) / 2;
            for hash in self.documents[&document].victims() {
                let held = &self.documents[&document];
                if load(held) <= floor || (self.bytes <= bytes && self.chunks <= chunks) {
                    break;
                }
                self.remove(&document, &hash);
            }
        }
    }

    fn remove(&mut self, document: &DocumentId, hash: &ChangeHash) {
        let Some(held) = self.documents.get_mut(document) else { return };
        let Some(orphan) = held.chunks.remove(hash) else { return };
        for dep in orphan.chunk.deps() {
            if let Some(count) = held.needs.get_mut(dep) {
                *count -= 1;
                if *count == 0 {
                    held.needs.remove(dep);
                }
            }
        }
        let bytes = orphan.chunk.bytes().len();
        held.bytes -= bytes;
        self.bytes -= bytes;
        self.chunks -= 1;
        self.evicted += 1;
        if held.chunks.is_empty() {
            self.documents.remove(document);
        }
    }
}

impl Held {
    /// Everything here, in the order in which it goes.
    fn victims(&self) -> Vec<ChangeHash> {
        let stray = |hash: &ChangeHash, orphan: &Orphan| !orphan.endorsed && !self.needs.contains_key(hash);
        let mut order: Vec<(bool, u64, ChangeHash)> = self
            .chunks
            .iter()
            .map(|(hash, orphan)| match stray(hash, orphan) {
                true => (false, orphan.order, *hash),
                false => (true, u64::MAX - orphan.order, *hash),
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., hash)| hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::craft::{Craft, random_history, tip, tips};
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    const DOCUMENT: DocumentId = DocumentId([1; 16]);

    fn chain(len: usize) -> Vec<Chunk> {
        let mut chunks = vec![Craft::new(1).chunk()];
        for at in 1..len {
            chunks.push(Craft::after(&chunks[at - 1]).chunk());
        }
        chunks
    }

    /// Judges what the buffer hands out, as the engine does.
    fn judge(orphans: &mut Orphans, log: &mut Log, batch: Vec<Chunk>, tips: &[EndorsedTip]) {
        let Some(pool) = orphans.offer(&DOCUMENT, batch, log) else { return };
        let staged = log.stage(pool, tips);
        let first = log.last_arrival() + 1;
        log.admit(&staged.admitted, first).unwrap();
        orphans.hold(&DOCUMENT, staged.waiting, log);
    }

    #[test]
    fn a_chain_that_comes_backwards_is_admitted_when_it_is_whole() {
        let chunks = chain(50);
        let all_tips = [tip(&chunks[49])];
        let (mut orphans, mut log) = (Orphans::default(), Log::new());
        for (at, chunk) in chunks.iter().enumerate().rev() {
            assert_eq!(orphans.wanted(&DOCUMENT, &log, &all_tips, 9), [chunk.hash()], "fetch downward, at {at}");
            judge(&mut orphans, &mut log, vec![chunk.clone()], &all_tips);
        }
        assert_eq!(log.len(), 50);
        assert!(orphans.is_empty() && orphans.bytes() == 0);
    }

    #[test]
    fn a_flood_is_bounded_and_loses_nothing_for_good() {
        let chunks = random_history(&mut ChaCha12Rng::seed_from_u64(5), 3, 60);
        let all_tips = tips(&chunks);
        let mut orphans = Orphans::new(OrphanLimits { max_bytes: 1 << 20, max_chunks: 80 });
        let mut log = Log::new();
        // Upside down, so that everything waits, with strangers' chunks in between.
        for (at, chunk) in chunks.iter().rev().enumerate() {
            let mut stray = Craft::new(77);
            (stray.deps, stray.start_op) = (vec![ChangeHash([at as u8; 32])], 2 + at as u64);
            judge(&mut orphans, &mut log, vec![chunk.clone(), stray.chunk()], &all_tips);
            assert!(orphans.len() <= 80);
        }
        assert!(orphans.evicted() > 0);
        for _ in 0..chunks.len() {
            let wanted = orphans.wanted(&DOCUMENT, &log, &all_tips, 16);
            let fetched = chunks.iter().filter(|chunk| wanted.contains(&chunk.hash())).cloned().collect();
            judge(&mut orphans, &mut log, fetched, &all_tips);
            let held = orphans.take(&DOCUMENT);
            judge(&mut orphans, &mut log, held, &all_tips);
        }
        assert_eq!(log.len(), chunks.len());
    }

    #[test]
    fn tips_have_everything_below_them() {
        let chunks = chain(10);
        let (mut orphans, mut log) = (Orphans::default(), Log::new());
        log.admit(&chunks[..2], 1).unwrap();
        let wait = |chunk: &Chunk| Waiting { chunk: chunk.clone(), missing: Vec::new(), endorsed: true };
        orphans.hold(&DOCUMENT, chunks[2..5].iter().chain(&chunks[6..]).map(wait).collect(), &log);
        assert_eq!(orphans.tips(&DOCUMENT, &log), [chunks[4].hash()]);
        orphans.hold(&DOCUMENT, vec![wait(&chunks[5])], &log);
        assert_eq!(orphans.tips(&DOCUMENT, &log), [chunks[9].hash()]);
    }

    #[test]
    fn what_nobody_endorsed_goes_first() {
        let chunks = chain(10);
        let mut orphans = Orphans::new(OrphanLimits { max_bytes: 1 << 20, max_chunks: 8 });
        let log = Log::new();
        let wait = |chunk: &Chunk, endorsed| Waiting { chunk: chunk.clone(), missing: Vec::new(), endorsed };
        orphans.hold(&DOCUMENT, chunks[2..9].iter().map(|chunk| wait(chunk, true)).collect(), &log);
        let mut stray = Craft::new(9);
        (stray.deps, stray.start_op) = (vec![ChangeHash([3; 32])], 5);
        let stray = stray.chunk();
        orphans.hold(&DOCUMENT, vec![wait(&stray, false), wait(&chunks[9], true)], &log);
        assert!(!orphans.contains(&DOCUMENT, &stray.hash()));
        assert!(orphans.contains(&DOCUMENT, &chunks[2].hash()), "the bottom of the chain stays");
    }
}
