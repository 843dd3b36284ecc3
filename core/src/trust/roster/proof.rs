//! Proofs of membership: the few grants that lead from the root to a device.
//!
//! A proof is not a piece of the fact chains, which can be long, but the path of authority through them: every grant in it
//! is allowed by another one in it or by the root. It proves the device's rights to somebody who knows nothing but the
//! space id; the predecessors follow when facts are reconciled.

use std::collections::{BTreeSet, VecDeque};

use crate::id::DeviceId;
use crate::time::WallTime;
use crate::trust::fact::Fact;
use crate::trust::grant::Grant;
use crate::wire::Codec;

use super::{Roster, permits};

/// Most facts in a proof: at least 8 grants of the device, through a few admins each.
pub const MAX_PROOF_FACTS: usize = 32;

/// Largest proof in bytes, so that a handshake message fits in a frame with room to spare.
pub const MAX_PROOF_BYTES: usize = 32 * 1024;

/// Most of a device's own grants that its proof covers. The others follow with the facts.
const MAX_PROVED_GRANTS: usize = 8;

impl Roster {
    /// The facts that prove a device's rights to a stranger to this roster, each after the one that allows it: at most
    /// [`MAX_PROOF_FACTS`]. Grants that have not ended come first; empty if the device has none at all.
    pub fn proof_for(&self, device: &DeviceId, now: WallTime) -> Vec<Fact> {
        let Some(indexes) = self.by_subject.get(device) else { return Vec::new() };
        let mut own: Vec<u32> =
            indexes.iter().copied().filter(|index| self.grant(*index).is_some_and(Grant::is_own)).collect();
        own.sort_by_key(|index| self.grant(*index).is_some_and(|grant| grant.expired(now)));
        let mut proof: Vec<u32> = Vec::new();
        let mut bytes = 0;
        for index in own.into_iter().take(MAX_PROVED_GRANTS) {
            let Some(path) = self.path_from_root(&self.facts[index as usize]) else { continue };
            let new: Vec<u32> = path.into_iter().chain([index]).filter(|index| !proof.contains(index)).collect();
            let size: usize = new.iter().map(|index| self.facts[*index as usize].to_bytes().len()).sum();
            if proof.len() + new.len() <= MAX_PROOF_FACTS && bytes + size <= MAX_PROOF_BYTES {
                proof.extend(new);
                bytes += size;
            }
        }
        proof.into_iter().map(|index| self.facts[index as usize].clone()).collect()
    }

    /// The facts that allow a fact which need not be admitted itself, each after the one that allows it: what an
    /// invitation carries in front of its own. `None` if nothing allows it.
    pub(crate) fn proof_of(&self, fact: &Fact) -> Option<Vec<Fact>> {
        let path = self.path_from_root(fact)?;
        (path.len() < MAX_PROOF_FACTS).then(|| path.into_iter().map(|i| self.facts[i as usize].clone()).collect())
    }

    fn grant(&self, index: u32) -> Option<&Grant> {
        self.facts[index as usize].grant()
    }

    /// The shortest path of authority from the root to a grant, without the grant itself, breadth first from the grant.
    /// An admitted grant has one; each admitted grant is looked at once.
    fn path_from_root(&self, target: &Fact) -> Option<Vec<u32>> {
        let mut visited: Vec<(u32, usize)> = Vec::new();
        let mut queue = VecDeque::from([(target, usize::MAX)]);
        let mut seen = BTreeSet::new();
        while let Some((fact, at)) = queue.pop_front() {
            let grant = fact.grant()?;
            if permits(self.is_root(fact.signer()), fact.link(), std::iter::empty(), grant) {
                return Some(downward(&visited, at));
            }
            for above in self.by_subject.get(fact.signer()).into_iter().flatten().copied() {
                let allows = permits(false, fact.link(), self.grant(above).into_iter(), grant);
                if allows && seen.insert(above) {
                    visited.push((above, at));
                    queue.push_back((&self.facts[above as usize], visited.len() - 1));
                }
            }
        }
        None
    }
}

/// Reads a path off the visited facts, from the root's down.
fn downward(visited: &[(u32, usize)], mut at: usize) -> Vec<u32> {
    let mut path = Vec::new();
    while let Some((index, below)) = visited.get(at) {
        path.push(*index);
        at = *below;
    }
    path
}

/// What a verifier does not take from a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Grants from invitations that had run out by this time.
    Expired(WallTime),
    /// It takes everything that the signatures prove.
    Nothing,
}

/// Which facts of a proof hold, by position: each has authority from the root, from the roster's admitted grants, or from
/// facts of the proof that hold. The facts' signatures must have been checked. Least fixed point in at most
/// [`MAX_PROOF_FACTS`] rounds.
pub(crate) fn established(roster: &Roster, proof: &[Fact], doubt: Doubt) -> Vec<bool> {
    let mut holds: Vec<bool> = proof.iter().map(|fact| roster.contains(&fact.hash())).collect();
    let too_late = |held: &Grant| match doubt {
        Doubt::Expired(now) => !held.is_own() && held.expired(now),
        Doubt::Nothing => false,
    };
    loop {
        let next = proof.iter().enumerate().position(|(at, fact)| {
            let Some(grant) = fact.grant().filter(|_| !holds[at]) else { return false };
            let held = proof.iter().zip(&holds).filter(|(_, holds)| **holds).filter_map(|(held, _)| held.grant());
            let held = held.filter(|held| held.subject == *fact.signer()).chain(roster.all_grants_of(fact.signer()));
            permits(roster.is_root(fact.signer()), fact.link(), held.filter(|held| !too_late(held)), grant)
        });
        match next {
            Some(at) => holds[at] = true,
            None => return holds,
        }
    }
}
