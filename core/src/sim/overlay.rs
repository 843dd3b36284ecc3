//! Who is whose neighbour in a simulation of many: what must hold once all is quiet.
//!
//! | check | |
//! |---|---|
//! | bounded | next to nobody has more neighbours than an engine keeps, and nobody many more; of other links there are few |
//! | mutual | whoever takes a link for a neighbour is one at its other end |
//! | connected | everybody is reached from everybody over neighbours |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Violation;
use super::cluster::Cluster;
use super::network::NodeId;
use super::node::Standing;
use super::program::Asked;
use crate::engine::Command;
use crate::id::PeerId;
use crate::overlay::{FULL_MESH, MAX_DEGREE};

/// How long it may take: halves that were cut apart, and have found enough neighbours each, find together by looking around
/// once a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many neighbours more than it keeps a node may have for a moment, since others have just found it.
const COMING: usize = 3;
/// Links that are no neighbours: found by looking around, or not given up yet.
const QUIET: usize = 8;

impl Cluster {
    /// Healed and quiet: neighbours come to be what they should.
    pub(super) fn conclude_overlay(&mut self) -> Result<(), Violation> {
        if !self.scenario.wished || !self.scenario.engine.overlay {
            return Ok(());
        }
        let begun = self.now();
        loop {
            self.run_for(Duration::from_secs(5))?;
            self.checks.links.clear();
            let members: Vec<NodeId> =
                self.nodes.iter().filter(|node| node.standing != Standing::Stranger).map(|node| node.id).collect();
            for id in members {
                self.ask(id, Command::Status, Asked::Status);
            }
            self.drain_inbox();
            match self.overlay_fault() {
                None => return Ok(()),
                Some(what) if self.now().since(begun) > PATIENCE => {
                    return Err(Violation::Overlay { what, seconds: PATIENCE.as_secs() });
                }
                Some(_) => {}
            }
        }
    }

    /// The first thing that is not as it should be.
    fn overlay_fault(&self) -> Option<String> {
        let by_peer: BTreeMap<PeerId, NodeId> =
            self.nodes.iter().filter_map(|node| Some((node.known?.peer, node.id))).collect();
        let mut neighbours: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for (id, links) in &self.checks.links {
            let near = links.iter().filter(|link| link.neighbour).filter_map(|link| by_peer.get(&link.peer).copied());
            neighbours.insert(*id, near.collect());
        }
        let crowd = neighbours.len() > FULL_MESH + 1;
        let (mut over, total) = (0, neighbours.len());
        for (id, near) in &neighbours {
            let given = self.edges.iter().filter(|edge| edge.ends.contains(id)).count();
            let links = self.checks.links.get(id).map_or(0, Vec::len).saturating_sub(given);
            if crowd && (near.len() > MAX_DEGREE + COMING || links > MAX_DEGREE + COMING + QUIET) {
                return Some(format!("n{} has {} neighbours and {links} links beside those given", id.0, near.len()));
            }
            over += usize::from(near.len() > MAX_DEGREE);
            if let Some(other) = near.iter().find(|other| !neighbours.get(other).is_some_and(|of| of.contains(id))) {
                return Some(format!("n{} takes n{} for a neighbour, and is none to it", id.0, other.0));
            }
        }
        if crowd && over > 1 + total / 10 {
            return Some(format!("{over} of {total} nodes have more than {MAX_DEGREE} neighbours"));
        }
        let first = *neighbours.keys().next()?;
        let (mut reached, mut next) = (BTreeSet::from([first]), vec![first]);
        while let Some(here) = next.pop() {
            next.extend(neighbours[&here].iter().copied().filter(|other| reached.insert(*other)));
        }
        (reached.len() < total).then(|| format!("{} of {total} nodes are reached over neighbours", reached.len()))
    }
}
