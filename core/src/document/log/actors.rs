//! Interned sets of actors.

use std::collections::BTreeMap;

use smallvec::SmallVec;

/// A set of actor numbers, as bits. The last word is never zero, so that equal sets are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::document) struct ActorSet(SmallVec<[u64; 2]>);

impl ActorSet {
    pub(in crate::document) fn contains(&self, actor: u32) -> bool {
        self.0.get(actor as usize / 64).is_some_and(|word| word & (1 << (actor % 64)) != 0)
    }

    pub(in crate::document) fn insert(&mut self, actor: u32) {
        let word = actor as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (actor % 64);
    }

    pub(in crate::document) fn union(&mut self, other: &ActorSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(in crate::document) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Sets by number, each once.
#[derive(Debug, Clone, Default)]
pub(in crate::document) struct ActorSets {
    sets: Vec<ActorSet>,
    index: BTreeMap<ActorSet, u32>,
}

impl ActorSets {
    pub(in crate::document) fn set(&self, number: u32) -> &ActorSet {
        &self.sets[number as usize]
    }

    /// The set that holds everything in the sets `parts`, and `actor`.
    pub(in crate::document) fn extend(&mut self, mut parts: impl Iterator<Item = u32>, actor: u32) -> u32 {
        let mut union = ActorSet::default();
        if let Some(first) = parts.next() {
            let mut rest = parts.filter(|part| *part != first).peekable();
            // The common case: one dependency, whose ancestry knows the author already.
            if rest.peek().is_none() && self.set(first).contains(actor) {
                return first;
            }
            union = self.set(first).clone();
            rest.for_each(|part| union.union(self.set(part)));
        }
        union.insert(actor);
        if let Some(number) = self.index.get(&union) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(union.clone());
        self.index.insert(union, number);
        number
    }

    pub(in crate::document) fn bytes(&self) -> usize {
        let spilled: usize = self.sets.iter().filter(|s| s.0.spilled()).map(|s| s.0.capacity() * 8).sum();
        2 * (self.sets.len() * size_of::<ActorSet>() + spilled)
    }
}
