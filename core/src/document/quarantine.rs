//! Finding the change that Automerge cannot take, and keeping it out of the view.
//!
//! Ingest refuses what it can see is nonsense. What only the whole document can tell (an object that does not exist, a
//! predecessor that is not there) may still make Automerge unwind, or abort the process. So hydration is guarded twice:
//! where unwinding works it is caught and the object discarded, and a marker on disk tells the next start that the
//! process died while hydrating. Either way [`Bisection`] narrows the log down to the first change with which a prefix
//! of it fails. Rows stand in topological order, so every prefix is a document.
//!
//! **Hidden, not dropped.** The culprit and everything that depends on it stay out of the view and in the log: heads
//! and roots are a function of what was admitted, never of what one version of a library made of it. Hidden changes
//! stay chunks when the document is compacted, so that a later version can try again.
//!
//! Not here: the marker itself, a row of table `meta` that the engine writes before it hydrates.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, Change, TextEncoding};
use thiserror::Error;

use super::chunk::Chunk;
use super::log::Log;
use crate::id::ChangeHash;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most culprits that are looked for in one document before everything from the last one on is hidden: a log that
/// fails more often than this is not worth one hydration of its prefix for each.
pub const MAX_CULPRITS: usize = 64;

/// Why Automerge did not take a set of changes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A chunk that it does not parse, or changes that it refuses.
    #[error("Automerge refuses the changes: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
    /// It unwound. Nothing of the document object may be used any more.
    #[error("Automerge panicked: {detail}")]
    Panicked {
        /// The message of the panic.
        detail: String,
    },
}

/// Opens a document from changes in topological order. Unwinding is caught where the target unwinds; on wasm32 a panic
/// aborts, and the crash marker does its work at the next start.
pub fn open<'a>(changes: impl IntoIterator<Item = &'a [u8]>) -> Result<Automerge, ApplyError> {
    let changes = changes.into_iter();
    guarded(move || {
        let mut doc = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit);
        apply(&mut doc, changes)?;
        Ok(doc)
    })
}

/// Applies change chunks in one batch. To be called under [`guarded`].
pub(super) fn apply<'a>(doc: &mut Automerge, changes: impl Iterator<Item = &'a [u8]>) -> Result<(), ApplyError> {
    let changes: Result<Vec<Change>, _> = changes.map(Change::try_from).collect();
    let changes = changes.map_err(|e| ApplyError::Refused { detail: e.to_string() })?;
    doc.apply_changes(changes).map_err(|e| ApplyError::Refused { detail: e.to_string() })
}

/// Runs something that may unwind out of Automerge.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let detail = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(ApplyError::Panicked { detail: detail.to_owned() })
    })
}

/// Whether Automerge takes these changes and can show what they make.
pub fn is_sound<'a>(changes: impl IntoIterator<Item = &'a [u8]>) -> bool {
    open(changes).and_then(|doc| guarded(|| Ok(doc.hydrate(None)))).is_ok()
}

/// A binary search for the first change with which a prefix of the log fails. Written down before each attempt it goes
/// on after a crash, which counts as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bisection {
    /// A prefix of this length works.
    works: u64,
    /// A prefix of this length fails.
    fails: u64,
}

impl Bisection {
    /// The search in a log of `len` changes that fails as a whole.
    pub fn new(len: u64) -> Self {
        Self { works: 0, fails: len }
    }

    /// The length of the prefix to try next; `None` once the culprit is known.
    pub fn next_prefix(&self) -> Option<u64> {
        (self.fails - self.works > 1).then(|| self.works + (self.fails - self.works) / 2)
    }

    /// Takes the outcome of trying [`Bisection::next_prefix`].
    pub fn report(&mut self, works: bool) {
        if let Some(tried) = self.next_prefix() {
            if works { self.works = tried } else { self.fails = tried }
        }
    }

    /// The position of the culprit, once it is known.
    pub fn culprit(&self) -> Option<u64> {
        (self.fails == self.works + 1).then_some(self.works)
    }
}

impl Codec for Bisection {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.works).varint(self.fails);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let works = r.varint("bisection")?;
        let fails = r.varint("bisection")?;
        if works < fails { Ok(Self { works, fails }) } else { Err(DecodeError::Invalid { field: "bisection" }) }
    }
}

/// Finds every culprit among changes in topological order, each found with the earlier ones and their descendants left
/// out. `sound` tells whether Automerge takes a set of changes; see [`is_sound`]. Returns hashes to pass to
/// [`Log::hide`], none if all is well.
pub fn culprits(chunks: &[Chunk], mut sound: impl FnMut(&[&Chunk]) -> bool) -> Vec<ChangeHash> {
    let mut found = Vec::new();
    let mut left: Vec<&Chunk> = chunks.iter().collect();
    while !left.is_empty() && !sound(&left) {
        let mut search = Bisection::new(left.len() as u64);
        while let Some(prefix) = search.next_prefix() {
            search.report(sound(&left[..prefix as usize]));
        }
        let at = search.culprit().expect("the search ends at a culprit") as usize;
        found.push(left[at].hash());
        if found.len() >= MAX_CULPRITS {
            found.extend(left[at + 1..].iter().map(|chunk| chunk.hash()));
            break;
        }
        leave_out(&mut left, at);
    }
    found
}

/// Removes the change at `at` and everything that depends on it.
fn leave_out(chunks: &mut Vec<&Chunk>, at: usize) {
    let mut out = std::collections::BTreeSet::from([chunks[at].hash()]);
    chunks.retain(|chunk| {
        let hidden = out.contains(&chunk.hash()) || chunk.deps().iter().any(|dep| out.contains(dep));
        if hidden {
            out.insert(chunk.hash());
        }
        !hidden
    });
}

impl Log {
    /// Hides changes and everything that depends on them, and returns the rows that were not hidden before, whose
    /// entries on disk are to be written anew. Heads do not change.
    pub fn hide(&mut self, culprits: &[ChangeHash]) -> Vec<ChangeHash> {
        self.hide_where(|hash| culprits.contains(hash))
    }

    /// The heads of what is in view: the changes that no visible one depends on. Sorted; the same as
    /// [`Log::heads`] while nothing is hidden.
    pub fn view_heads(&self) -> Vec<ChangeHash> {
        if !self.has_hidden() {
            return self.heads().to_vec();
        }
        let visible = |row: &&super::log::Row| !row.is_hidden();
        let mut heads: std::collections::BTreeSet<_> = self.rows().iter().filter(visible).map(|r| r.hash()).collect();
        for row in self.rows().iter().filter(visible) {
            for dep in self.deps_of(row) {
                heads.remove(&dep.hash());
            }
        }
        heads.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkLimits;
    use super::super::craft::{Craft, put_columns, random_history, reseal, tamper, tip, tips};
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    fn sound(chunks: &[&Chunk]) -> bool {
        is_sound(chunks.iter().map(|chunk| chunk.bytes()))
    }

    /// A change under a map that is not there: op 1 of its actor is an integer.
    fn under_nothing(below: &Chunk) -> Chunk {
        let mut craft = Craft::after(below);
        craft.columns = put_columns("j", 1);
        craft.set_column(1, &[0x7f, 0]).set_column(2, &[0x7f, 1]);
        craft.chunk()
    }

    fn poisoned() -> (Vec<Chunk>, Chunk, Chunk) {
        let mut chunks = random_history(&mut ChaCha12Rng::seed_from_u64(3), 3, 30);
        let first = Craft::new(50).chunk();
        let poison = under_nothing(&first);
        let above = Craft::after(&poison).chunk();
        chunks.splice(10..10, [first, poison.clone(), above.clone()]);
        (chunks, poison, above)
    }

    #[test]
    fn a_change_under_an_object_that_is_not_there_passes_ingest_and_panics_in_automerge() {
        let first = Craft::new(50).chunk();
        let chunks = vec![first.clone(), under_nothing(&first)];
        assert_eq!(Log::new().stage(chunks.clone(), &tips(&chunks)).admitted.len(), 2);
        let opened = open(chunks.iter().map(|chunk| chunk.bytes()));
        assert!(matches!(opened, Err(ApplyError::Panicked { .. })), "{opened:?}");
    }

    #[test]
    fn the_culprit_is_found_and_the_rest_stays_in_view() {
        let (chunks, poison, above) = poisoned();
        assert_eq!(culprits(&chunks, sound), [poison.hash()]);
        let mut log = Log::new();
        log.admit(&chunks, 1).unwrap();
        let heads = log.heads().to_vec();
        assert_eq!(log.hide(&[poison.hash()]), [poison.hash(), above.hash()]);
        assert_eq!(log.heads(), heads, "hiding changes no heads");
        assert!(heads.contains(&above.hash()) && !log.view_heads().contains(&above.hash()));
        let visible: Vec<&Chunk> = chunks.iter().filter(|c| !log.row(&c.hash()).unwrap().is_hidden()).collect();
        assert_eq!(visible.len(), chunks.len() - 2);
        assert!(sound(&visible));
        // What comes later on top of a hidden change is hidden as well.
        let later = Craft::after(&above).chunk();
        log.admit(std::slice::from_ref(&later), 1_000).unwrap();
        assert!(log.row(&later.hash()).unwrap().is_hidden());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn whatever_passes_ingest_leaves_something_that_opens(seed: u64) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut chunks = random_history(&mut rng, 3, 16);
            // Changes of a newcomer, made of the history's own bytes and tampered with.
            for source in chunks.clone() {
                let mut bytes = source.bytes().to_vec();
                tamper(&mut rng, &mut bytes);
                let Ok(odd) = Chunk::parse(reseal(&bytes), &ChunkLimits::default()) else { continue };
                chunks.push(odd);
            }
            let all_tips = chunks.iter().map(tip).collect::<Vec<_>>();
            let admitted = Log::new().stage(chunks, &all_tips).admitted;
            let culprits = culprits(&admitted, sound);
            let mut log = Log::new();
            log.admit(&admitted, 1).unwrap();
            log.hide(&culprits);
            let visible: Vec<_> = admitted.iter().filter(|c| !log.row(&c.hash()).unwrap().is_hidden()).collect();
            prop_assert!(sound(&visible));
        }
    }

    #[test]
    fn a_sound_log_has_no_culprit() {
        let chunks = random_history(&mut ChaCha12Rng::seed_from_u64(4), 3, 20);
        assert_eq!(culprits(&chunks, sound), []);
    }

    #[test]
    fn a_search_goes_on_after_a_crash() {
        for culprit in 0..20 {
            let mut search = Bisection::new(20);
            let mut tries = 0;
            while let Some(prefix) = search.next_prefix() {
                // Written down, read back by the next process.
                search = Bisection::from_bytes(&search.to_bytes()).unwrap();
                search.report(prefix <= culprit);
                tries += 1;
            }
            assert_eq!(search.culprit(), Some(culprit));
            assert!(tries <= 5);
        }
    }
}
