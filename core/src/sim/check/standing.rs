//! What revocations and proofs of equivocation may take away, and what they must.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checks, Violation};
use crate::document::value::Value;
use crate::engine::{Command, Keep};
use crate::id::{ChangeHash, Path};
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
    /// Of a revoked node: the keys of its edits that the revoker had when it was told that it is done.
    kept: BTreeMap<NodeId, BTreeSet<(Path, String)>>,
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
        }
        // A second revocation can keep no more than the first.
        let known = self.checks.standing.kept.remove(&of);
        let kept = known.map_or(kept.clone(), |known| known.intersection(&kept).cloned().collect());
        self.checks.standing.kept.insert(of, kept);
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
        for ((node, path), shown) in &self.checks.shown {
            let with_revoker = self.islands(path).into_iter().any(|i| i.contains(&NodeId(0)) && i.contains(node));
            for (of, kept) in standing.kept.iter().filter(|_| with_revoker) {
                let keys = keys_of(Some(&shown.value), *of);
                if let Some(key) = keys.into_iter().find(|key| !kept.contains(&(path.clone(), key.clone()))) {
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
