//! Proofs of membership: the few grants that lead from the root to a device.
//!
//! A proof is not a piece of the fact chains, which can be long, but the path of authority through them: every grant in it
//! is allowed by another one in it or by the root. It proves the device's rights to somebody who knows nothing but the
//! space id; the predecessors follow when facts are reconciled.

use std::collections::{BTreeSet, VecDeque};

use crate::id::{DeviceId, FactHash};
use crate::time::WallTime;
use crate::trust::fact::{Fact, FactBody};
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
        let indexes = self.indexes_of(device).iter().copied().filter(|index| self.in_force(*index));
        let mut own: Vec<u32> = indexes.filter(|index| self.grant(*index).is_some_and(Grant::is_own)).collect();
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

    /// The shortest path of authority from the root to a grant, without the grant itself, breadth first from the grant; in
    /// front of it the successions that lead from the space's key to the root that begins it. A grant that counts has one;
    /// each grant that counts is looked at once.
    fn path_from_root(&self, target: &Fact) -> Option<Vec<u32>> {
        let mut visited: Vec<(u32, usize)> = Vec::new();
        let mut queue = VecDeque::from([(target, usize::MAX)]);
        let mut seen = BTreeSet::new();
        while let Some((fact, at)) = queue.pop_front() {
            let grant = fact.grant()?;
            if permits(self.root_may_say(fact), fact.link(), std::iter::empty(), grant) {
                let mut path = self.successions_down_to(fact.signer());
                path.extend(downward(&visited, at));
                return Some(path);
            }
            for above in self.indexes_of(fact.signer()).iter().copied().filter(|above| self.supports(*above, fact)) {
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

impl Roster {
    /// The successions from the space's key down to a root.
    fn successions_down_to(&self, root: &DeviceId) -> Vec<u32> {
        let mut path = Vec::new();
        let mut next = *root;
        while next.0 != self.space.0 && path.len() < MAX_PROOF_FACTS {
            let leads = |fact: &Fact| match fact.body() {
                FactBody::Succession(it) => it.successor == next && self.root_may_say(fact),
                _ => false,
            };
            let Some(index) = self.facts.iter().position(leads) else { break };
            path.push(index as u32);
            next = *self.facts[index].signer();
        }
        path.reverse();
        path
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

/// Which facts of a proof hold, by position: each counts in the roster, or has authority from the root, from grants of the
/// roster that support it, or from facts of the proof that hold, and no revocation of the roster is against it. The facts'
/// signatures must have been checked. Least fixed point in at most [`MAX_PROOF_FACTS`] rounds.
pub(crate) fn established(roster: &Roster, proof: &[Fact], doubt: Doubt) -> Vec<bool> {
    let hashes: Vec<FactHash> = proof.iter().map(Fact::hash).collect();
    let mut holds: Vec<bool> = hashes.iter().map(|hash| roster.counts(hash)).collect();
    let too_late = |held: &Grant| match doubt {
        Doubt::Expired(now) => !held.is_own() && held.expired(now),
        Doubt::Nothing => false,
    };
    loop {
        let next = proof.iter().enumerate().position(|(at, fact)| {
            if holds[at] || roster.contains(&hashes[at]) {
                return false;
            }
            let held = proof.iter().zip(&holds).filter(|(_, holds)| **holds).map(|(held, _)| held);
            let is_root = roster.root_may_say(fact)
                || held.clone().any(|held| match held.body() {
                    FactBody::Succession(it) => it.successor == *fact.signer(),
                    _ => false,
                });
            match fact.body() {
                FactBody::Succession(it) => is_root && it.verify_consent(&roster.space, fact.signer()).is_ok(),
                FactBody::Grant(grant) => {
                    // What the roster has of the proof it judges by itself.
                    let new = held.filter(|held| !roster.contains(&held.hash())).filter_map(Fact::grant);
                    let new = new.filter(|held| held.subject == *fact.signer());
                    let known = roster.indexes_of(fact.signer()).iter().filter(|at| roster.supports(**at, fact));
                    let held = new.chain(known.filter_map(|at| roster.grant(*at))).filter(|held| !too_late(held));
                    !roster.bars(&hashes[at], grant) && permits(is_root, fact.link(), held, grant)
                }
                _ => false,
            }
        });
        match next {
            Some(at) => holds[at] = true,
            None => return holds,
        }
    }
}
