//! The end of a run: heal, converge, be silent, and account for every promise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Commit, Corpse, Edit, Fate, Shown, Violation, contains};
use crate::document::value::Value;
use crate::engine::{Command, MAX_LIST};
use crate::id::{Path, Prefix};
use crate::io::Table;
use crate::sim::cluster::Cluster;
use crate::sim::network::NodeId;
use crate::sim::node::Standing;
use crate::sim::program::Asked;

/// How long a converged cluster is listened to.
const SILENCE: Duration = Duration::from_secs(60);

/// How long what was under way at convergence may still arrive.
const SETTLING: Duration = Duration::from_secs(20);

/// Fair bytes a pair of linked nodes in [`SILENCE`]: four periods of reconciliation at 64 bytes, doubled, and room for one
/// new handshake.
const SILENT_BYTES: u64 = 4_096;

/// What may be in flight beside what credit counts: handshakes, symbols, acknowledgements.
const CONTROL_BYTES: usize = 256 << 10;

impl Cluster {
    /// Heals everything, waits for convergence and checks what is left.
    pub(in crate::sim) fn conclude(&mut self) -> Result<(), Violation> {
        self.heal();
        self.drain_inbox();
        let healed = self.now();
        let patience = self.scenario.patience;
        let mut difference;
        loop {
            self.survey(Duration::from_millis(1_500))?;
            difference = self.difference();
            if difference.is_none() {
                break;
            }
            if self.now().since(healed) > patience {
                let difference = difference.unwrap_or_default();
                return Err(Violation::NotConverged { seconds: patience.as_secs(), difference });
            }
        }
        self.checks.tally.converged_after = self.now().since(healed).as_micros() as u64;
        self.note(format_args!("converged"));
        self.conclude_overlay()?;
        self.conclude_soft()?;
        self.conclude_topics()?;
        self.listen()?;
        self.check_flight()?;
        self.inspect()?;
        self.check_promises()?;
        self.check_standing()?;
        self.check_stores()
    }

    /// Asks every engine for its list, and waits `span`.
    fn survey(&mut self, span: Duration) -> Result<(), Violation> {
        self.checks.surveys.clear();
        let Some(space) = self.space else { return self.run_for(span) };
        let members: Vec<NodeId> =
            self.nodes.iter().filter(|node| node.standing != Standing::Stranger).map(|node| node.id).collect();
        self.run_for(span)?;
        for id in members {
            let command = Command::List { space, prefix: Prefix::root(), after: None, limit: MAX_LIST };
            self.ask(id, command, Asked::Survey);
            self.ask(id, Command::Status, Asked::Status);
        }
        self.drain_inbox();
        self.run_for(Duration::from_millis(500))
    }

    /// Nodes that replicate `path` and are connected through others that do.
    pub(in crate::sim) fn islands(&self, path: &Path) -> Vec<Vec<NodeId>> {
        let mut left: BTreeSet<NodeId> =
            self.nodes.iter().filter(|node| node.joined && node.replicates(path)).map(|node| node.id).collect();
        // Nobody talks to the revoked, and what they show is their own affair.
        left.retain(|id| !self.checks.standing.revoked.contains(id));
        let mut islands = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut island = vec![first];
            let mut next = 0;
            while let Some(here) = island.get(next).copied() {
                next += 1;
                for edge in &self.edges {
                    for (from, to) in [(edge.ends[0], edge.ends[1]), (edge.ends[1], edge.ends[0])] {
                        if from == here && left.remove(&to) {
                            island.push(to);
                        }
                    }
                }
            }
            islands.push(island);
        }
        islands
    }

    /// The first thing in which connected peers differ, by their lists.
    fn difference(&self) -> Option<String> {
        if let Some(down) = self.nodes.iter().find(|node| !node.is_open()) {
            return Some(format!("n{} is not open", down.id.0));
        }
        if let Some(out) = self.nodes.iter().find(|node| !node.joined && node.standing != Standing::Stranger) {
            return Some(format!("n{} has not joined", out.id.0));
        }
        for path in &self.scenario.paths {
            for island in self.islands(path) {
                let looks: Vec<_> = island
                    .iter()
                    .map(|id| {
                        let items = self.checks.surveys.get(id)?;
                        Some(items.iter().find(|item| item.path == *path).map(|i| (i.generation, i.heads.clone())))
                    })
                    .collect();
                if let Some(other) = looks.iter().position(|look| look.is_none() || *look != looks[0]) {
                    let (a, b) = (island[0].0, island[other].0);
                    return Some(format!("{path}: n{a} has {:?}, n{b} has {:?}", looks[0], looks[other]));
                }
            }
        }
        None
    }

    /// Nothing changes any more, so next to nothing is sent, and nothing changes.
    fn listen(&mut self) -> Result<(), Violation> {
        self.run_for(SETTLING)?;
        let before = self.network.stats.bytes;
        self.run_for(SILENCE)?;
        let bytes = self.network.stats.bytes - before;
        let links = if self.scenario.wished { self.network.wires().count() } else { self.edges.len() } as u64;
        let bound = SILENT_BYTES * links.max(1) + self.soft_allowance(SILENCE);
        if bytes > bound {
            return Err(Violation::Chatter { bytes, seconds: SILENCE.as_secs(), links, bound });
        }
        self.survey(Duration::from_millis(100))?;
        match self.difference() {
            Some(difference) => Err(Violation::NotConverged { seconds: SILENCE.as_secs(), difference }),
            None => Ok(()),
        }
    }

    /// Credit bounds what one peer may have on its way to another.
    fn check_flight(&self) -> Result<(), Violation> {
        let (peak, node) = self.network.stats.peak_in_flight;
        if peak > self.scenario.engine.link_window + CONTROL_BYTES {
            return Err(Violation::Unbounded { node, what: "bytes in flight on one wire", got: peak as u64 });
        }
        Ok(())
    }

    /// Opens and reads every document everywhere.
    fn inspect(&mut self) -> Result<(), Violation> {
        let Some(space) = self.space else { return Ok(()) };
        self.checks.cold.clear();
        self.checks.shown.clear();
        let listed: Vec<(NodeId, Path)> = self
            .checks
            .surveys
            .iter()
            .flat_map(|(id, items)| items.iter().map(|item| (*id, item.path.clone())))
            .collect();
        for (id, path) in &listed {
            self.ask(*id, Command::Read { space, path: path.clone() }, Asked::Inspect(path.clone()));
        }
        self.drain_inbox();
        self.run_for(Duration::from_secs(5))?;
        for (id, path) in &listed {
            self.ask(
                *id,
                Command::Open { space, path: path.clone(), template: crate::sim::program::template() },
                Asked::Inspect(path.clone()),
            );
        }
        self.drain_inbox();
        self.run_for(Duration::from_secs(5))?;
        for (id, path) in &listed {
            let key = (*id, path.clone());
            let (Some(shown), Some(Some(cold))) = (self.checks.shown.get(&key), self.checks.cold.get(&key)) else {
                return Err(Violation::WrongReply { node: *id, what: format!("{path} is listed and cannot be read") });
            };
            // A cold read knows no template, so it may lack the keys that nobody has touched yet.
            if !covers(&shown.value, cold) {
                return Err(Violation::ValuesDiffer { path: path.clone(), left: *id, right: *id, what: "hot, cold" });
            }
        }
        self.compare_values()
    }

    fn compare_values(&self) -> Result<(), Violation> {
        for path in &self.scenario.paths {
            for island in self.islands(path) {
                let shown: Vec<_> =
                    island.iter().map(|id| (*id, self.checks.shown.get(&(*id, path.clone())))).collect();
                let Some((left, Some(first))) = shown.first() else { continue };
                for (right, other) in &shown[1..] {
                    let Some(other) = other else { continue };
                    if first.heads == other.heads && first.value != other.value {
                        let (path, left, right) = (path.clone(), *left, *right);
                        return Err(Violation::ValuesDiffer { path, left, right, what: "hot" });
                    }
                }
            }
        }
        Ok(())
    }

    /// Every commit and deletion of the record against what is there.
    fn check_promises(&mut self) -> Result<(), Violation> {
        let live: BTreeMap<(NodeId, Path), Shown> = self.checks.shown.clone();
        for commit in &self.checks.commits {
            for edit in &commit.edits {
                for node in self.holders(commit.node, &edit.path) {
                    let shown = live.get(&(node, edit.path.clone()));
                    self.check_edit(commit, edit, node, shown.map(|shown| (shown.generation, &shown.value)))?;
                }
            }
        }
        for ((node, path), shown) in &live {
            self.check_whole(*node, path, shown.generation, &shown.value)?;
        }
        self.check_deletions()
    }

    /// Who must have an edit: everybody connected to its author, and the author itself.
    fn holders(&self, author: NodeId, path: &Path) -> Vec<NodeId> {
        let island = self.islands(path).into_iter().find(|island| island.contains(&author));
        island.unwrap_or_else(|| vec![author])
    }

    fn check_edit(
        &self,
        commit: &Commit,
        edit: &Edit,
        node: NodeId,
        found: Option<(u32, &Value)>,
    ) -> Result<(), Violation> {
        let present = found.is_some_and(|(_, value)| value.get(&edit.key).is_some());
        let same = found.is_some_and(|(generation, _)| generation == edit.generation);
        let (path, key) = (edit.path.clone(), edit.key.clone());
        if commit.fate == Fate::Refused && present {
            return Err(Violation::RefusedAppeared { node, path, key });
        }
        let gone = self.checks.standing.excuses(commit.node, &edit.hash);
        if commit.fate != Fate::Acknowledged || self.checks.restored.contains(&commit.node) || gone {
            return Ok(());
        }
        if same && !present {
            return Err(Violation::AcknowledgedLost { node, path, key, place: "live" });
        }
        let deletable = self.checks.deletes.iter().any(|d| d.path == edit.path && d.floor <= edit.generation);
        if !same && !deletable {
            return Err(Violation::Vanished { node, path, generation: edit.generation });
        }
        Ok(())
    }

    /// An edit is there as a whole: its key and what it added.
    fn check_whole(&self, node: NodeId, path: &Path, generation: u32, value: &Value) -> Result<(), Violation> {
        let Some(Value::Counter(got)) = value.get("votes") else { return Ok(()) };
        let edits = self.checks.commits.iter().flat_map(|commit| &commit.edits);
        let sum = edits
            .filter(|edit| edit.path == *path && edit.generation == generation && value.get(&edit.key).is_some())
            .map(|edit| edit.added)
            .sum();
        if *got != sum && self.scenario.shared_template {
            return Err(Violation::TornEdit { node, path: path.clone(), got: *got, sum });
        }
        Ok(())
    }

    /// An acknowledged deletion holds on everyone who is connected to who made it.
    fn check_deletions(&self) -> Result<(), Violation> {
        for delete in self.checks.deletes.iter().filter(|delete| delete.fate == Fate::Acknowledged) {
            if self.checks.restored.contains(&delete.node) {
                continue;
            }
            let Some(island) = self.islands(&delete.path).into_iter().find(|i| i.contains(&delete.node)) else {
                continue;
            };
            for node in island {
                let shown = self.checks.shown.get(&(node, delete.path.clone()));
                if let Some(shown) = shown.filter(|shown| shown.generation <= delete.floor) {
                    let (path, got, floor) = (delete.path.clone(), shown.generation, delete.floor + 1);
                    return Err(Violation::CameBack { node, path, got, floor });
                }
            }
        }
        Ok(())
    }

    /// What would be there after a crash now: the same; and nothing that a node may not hold.
    fn check_stores(&mut self) -> Result<(), Violation> {
        let Some(space) = self.space else { return Ok(()) };
        for node in &self.nodes {
            let patterns = super::forbidden(&space, node, &self.scenario.paths);
            for table in Table::ALL {
                for (key, value) in node.disk.durable().table(table) {
                    let leak = patterns.iter().find(|(pattern, _)| contains(key, pattern) || contains(value, pattern));
                    if let Some((_, what)) = leak {
                        let what = what.clone();
                        return Err(Violation::Leaked { node: node.id, what, place: table.name() });
                    }
                }
            }
        }
        let members: Vec<NodeId> = self.checks.surveys.keys().copied().collect();
        // Values follow from heads; one store is read in full to be sure of that, too.
        let full = self.dice.pick(&members).copied();
        for id in members {
            let corpse = self.autopsy(id, |_| Some(id) == full)?;
            self.compare_store(id, &corpse, Some(id) == full)?;
        }
        Ok(())
    }

    fn compare_store(&self, id: NodeId, corpse: &Corpse, full: bool) -> Result<(), Violation> {
        for item in self.checks.surveys.get(&id).into_iter().flatten() {
            let stored = corpse.get(&item.path);
            let same =
                stored.is_some_and(|(generation, heads, _)| (*generation, heads) == (item.generation, &item.heads));
            if !same {
                let what = format!("{} is {:?} after reopening", item.path, stored.map(|(g, h, _)| (*g, h)));
                return Err(Violation::WrongReply { node: id, what });
            }
            let cold = self.checks.cold.get(&(id, item.path.clone())).and_then(Option::as_ref);
            if full && stored.and_then(|(.., value)| value.as_ref()) != cold {
                let (path, left, right) = (item.path.clone(), id, id);
                return Err(Violation::ValuesDiffer { path, left, right, what: "live, reopened" });
            }
        }
        Ok(())
    }
}

/// Whether every root key of `part` is in `whole` with the same value.
fn covers(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Map(whole), Value::Map(part)) => part.iter().all(|(key, value)| whole.get(key) == Some(value)),
        (whole, part) => whole == part,
    }
}
