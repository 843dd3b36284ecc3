//! What revocations and proofs of equivocation may take away, and what they must.

use std::collections::BTreeSet;

use super::{Checks, Violation};
use crate::document::value::Value;
use crate::engine::{Command, Keep};
use crate::id::{ChangeHash, FactHash, Path};
use crate::io::Table;
use crate::sim::cluster::Cluster;
use crate::sim::network::NodeId;
use crate::sim::program::Asked;
use crate::trust::{Fact, FactBody};
use crate::wire::Codec;

/// What is known of who lost its standing.
#[derive(Debug, Default)]
pub(in crate::sim) struct StandingRecord {
    /// Nodes whose device was revoked, from the moment of asking.
    pub(in crate::sim) revoked: BTreeSet<NodeId>,
    /// Nodes whose store was forged.
    pub(in crate::sim) liars: BTreeSet<NodeId>,
    /// Nodes that are being closed to have their store copied.
    pub(in crate::sim) forking: BTreeSet<NodeId>,
    /// Changes that left a document somewhere.
    evicted: BTreeSet<ChangeHash>,
    /// What was told to be done.
    revocations: Vec<Revoked>,
}

/// A revocation of which its revoker was told that it is durable.
#[derive(Debug)]
struct Revoked {
    of: NodeId,
    /// The facts that revoke the device, by what the revoker's store held then.
    facts: BTreeSet<FactHash>,
    /// Keys of the device's edits that the revoker had then: shown, or set aside because something below was missing.
    kept: BTreeSet<(Path, String)>,
}

impl StandingRecord {
    /// Whether an edit need not be there any more.
    pub(super) fn excuses(&self, author: NodeId, change: &ChangeHash) -> bool {
        self.revoked.contains(&author) || self.evicted.contains(change)
    }
}

impl Checks {
    pub(in crate::sim) fn on_evicted(&mut self, node: NodeId, changes: Vec<ChangeHash>, may: bool) {
        self.tally.evicted += changes.len() as u64;
        if !may {
            self.fail(Violation::EvictedWithoutCause { node, changes: changes.len() });
        }
        self.standing.evicted.extend(changes);
    }
}

impl Cluster {
    /// The founder revokes a node, if it is a member.
    pub(in crate::sim) fn revoke(&mut self, of: NodeId, keep: Keep) {
        let Some(space) = self.space else { return };
        let node = self.node(of);
        let Some(device) = node.known.filter(|_| node.joined).map(|known| known.device) else { return };
        let command = Command::Revoke { space, device, grants: Vec::new(), keep };
        if self.ask(NodeId(0), command, Asked::Revoke(of, keep)).is_some() {
            // Whether it became durable shows in what follows; what it may take is taken from here on.
            self.checks.standing.revoked.insert(of);
        }
    }

    /// The revocation is durable: nothing more of the device than its revoker has now can ever count.
    pub(in crate::sim) fn on_revoked(&mut self, by: NodeId, of: NodeId, keep: Keep) {
        self.checks.tally.revoked += 1;
        let mut kept = BTreeSet::new();
        if keep == Keep::Known {
            match self.autopsy(by, |_| true) {
                Ok(corpse) => {
                    for (path, (.., value)) in corpse {
                        kept.extend(keys_of(value.as_ref(), of).into_iter().map(|key| (path.clone(), key)));
                    }
                }
                Err(violation) => self.checks.fail(violation),
            }
            kept.extend(self.stored_keys(by, of));
        }
        let facts = self.facts_against(by, of);
        self.checks.standing.revocations.push(Revoked { of, facts, kept });
    }

    /// Keys of a node's edits whose changes lie in a store, whatever document row they are under.
    fn stored_keys(&self, at: NodeId, of: NodeId) -> BTreeSet<(Path, String)> {
        // A change carries the beginning of its hash behind its magic.
        let table = self.node(at).disk.durable().table(Table::Chunks);
        let stored: BTreeSet<&[u8]> = table.filter_map(|(_, value)| value.get(5..9)).collect();
        let commits = self.checks.commits.iter().filter(|commit| commit.node == of);
        let edits = commits.flat_map(|commit| &commit.edits).filter(|edit| stored.contains(&edit.hash.0[..4]));
        edits.map(|edit| (edit.path.clone(), edit.key.clone())).collect()
    }

    /// Facts in a store that revoke a node's device.
    fn facts_against(&self, at: NodeId, of: NodeId) -> BTreeSet<FactHash> {
        let device = self.node(of).known.map(|known| known.device);
        let facts = self.node(at).disk.durable().table(Table::Facts);
        let facts = facts.filter_map(|(_, bytes)| Fact::from_bytes(bytes).ok());
        let against = facts.filter(|fact| match fact.body() {
            FactBody::Revocation(it) => Some(it.subject) == device,
            _ => false,
        });
        against.map(|fact| fact.hash()).collect()
    }

    /// A store that was just closed is copied, seal and all.
    pub(in crate::sim) fn put_fork_aside(&mut self, id: NodeId) {
        if self.checks.standing.forking.remove(&id) {
            let copy = self.node(id).disk.durable().clone();
            self.backups.insert(id, copy);
        }
    }

    pub(super) fn check_standing(&mut self) -> Result<(), Violation> {
        let standing = &self.checks.standing;
        for (at, told) in standing.revocations.iter().enumerate() {
            let before = standing.revocations[..at].iter().filter(|other| other.of == told.of);
            let known: BTreeSet<FactHash> = before.flat_map(|other| other.facts.iter().copied()).collect();
            let here = self.facts_against(NodeId(0), told.of);
            let mut new: BTreeSet<FactHash> = told.facts.difference(&known).copied().collect();
            if new.is_empty() {
                // Two that were under way together.
                new.clone_from(&told.facts);
            }
            if new.is_disjoint(&here) {
                // A revoker that was put back to an older state may have lost it like anything that it had told nobody.
                if self.checks.restored.contains(&NodeId(0)) {
                    continue;
                }
                return Err(Violation::RevocationLost { node: told.of });
            }
            for ((node, path), shown) in &self.checks.shown {
                let with_revoker = self.islands(path).into_iter().any(|i| i.contains(&NodeId(0)) && i.contains(node));
                let mut keys = keys_of(Some(&shown.value), told.of).into_iter();
                let beyond = keys.find(|key| !told.kept.contains(&(path.clone(), key.clone())));
                if let Some(key) = beyond.filter(|_| with_revoker) {
                    return Err(Violation::BeyondFrontier { node: *node, path: path.clone(), key });
                }
            }
        }
        if standing.liars.is_empty() {
            for node in &self.nodes {
                let mut facts = node.disk.durable().table(Table::Facts);
                let accuses = |bytes: &[u8]| {
                    Fact::from_bytes(bytes).is_ok_and(|fact| matches!(fact.body(), FactBody::Equivocation(_)))
                };
                if facts.any(|(_, fact)| accuses(fact)) {
                    return Err(Violation::FalselyAccused { node: node.id });
                }
            }
        }
        Ok(())
    }
}

/// The keys in a value that edits of a node wrote.
fn keys_of(value: Option<&Value>, node: NodeId) -> Vec<String> {
    let Some(Value::Map(map)) = value else { return Vec::new() };
    let prefix = format!("n{}e", node.0);
    map.keys().map(|key| key.to_string()).filter(|key| key.starts_with(&prefix)).collect()
}
