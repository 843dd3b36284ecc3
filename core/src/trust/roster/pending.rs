//! The waiting room: facts with good signatures that lack a predecessor or authority.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceId, FactHash};
use crate::trust::fact::Fact;

/// Most facts that wait. Honest peers send facts in an order in which none has to wait, so this only bounds what a
/// disordered or hostile sender can make a roster hold: at most 4 MiB.
pub const MAX_PENDING: usize = 1024;

/// No room is left.
pub(super) struct NoRoom;

/// Facts that wait, by what they wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    facts: BTreeMap<FactHash, Fact>,
    by_previous: BTreeSet<(FactHash, FactHash)>,
    by_signer: BTreeSet<(DeviceId, FactHash)>,
}

const FIRST: FactHash = FactHash([0; 32]);
const LAST: FactHash = FactHash([0xff; 32]);

impl Pending {
    pub(super) fn facts(&self) -> impl ExactSizeIterator<Item = &Fact> {
        self.facts.values()
    }

    pub(super) fn contains(&self, hash: &FactHash) -> bool {
        self.facts.contains_key(hash)
    }

    pub(super) fn fact(&self, hash: &FactHash) -> Option<&Fact> {
        self.facts.get(hash)
    }

    pub(super) fn add(&mut self, fact: Fact, room: usize) -> Result<(), NoRoom> {
        if self.facts.len() >= room {
            return Err(NoRoom);
        }
        let hash = fact.hash();
        self.by_signer.insert((*fact.signer(), hash));
        if let Some(previous) = fact.link().previous() {
            self.by_previous.insert((previous, hash));
        }
        self.facts.insert(hash, fact);
        Ok(())
    }

    pub(super) fn remove(&mut self, hash: &FactHash) -> Option<Fact> {
        let fact = self.facts.remove(hash)?;
        self.by_signer.remove(&(*fact.signer(), *hash));
        if let Some(previous) = fact.link().previous() {
            self.by_previous.remove(&(previous, *hash));
        }
        Some(fact)
    }

    /// The facts whose standing may have changed now that `admitted` is, a grant to `subject` if it is one.
    pub(super) fn concerned(&self, admitted: &FactHash, subject: Option<&DeviceId>) -> Vec<FactHash> {
        let followers = self.by_previous.range((*admitted, FIRST)..=(*admitted, LAST)).map(|(_, hash)| *hash);
        let signed = subject.map(|device| self.by_signer.range((*device, FIRST)..=(*device, LAST)));
        followers.chain(signed.into_iter().flatten().map(|(_, hash)| *hash)).collect()
    }

    /// Predecessors that do not wait here themselves.
    pub(super) fn missing(&self) -> impl Iterator<Item = FactHash> + '_ {
        let mut last = None;
        let previous = self.by_previous.iter().map(|(previous, _)| *previous);
        previous.filter(move |hash| last.replace(*hash) != Some(*hash) && !self.contains(hash))
    }

    /// Drops facts, greatest hash first, until `room` are left.
    pub(super) fn shrink_to(&mut self, room: usize) {
        while self.facts.len() > room {
            let Some(last) = self.facts.keys().next_back().copied() else { break };
            self.remove(&last);
        }
    }
}
