//! Soft state in a simulation: programs that set and delete entries, and what must hold of them.
//!
//! Every value names its writer, the life of the writer's process and a number, so a checker can tell from what a node
//! shows whose word it is and how old it can be. What a node shows is what its events add up to.
//!
//! | check | |
//! |---|---|
//! | lifetime | nobody shows an entry longer than ttl + links × keep-alive after its owner died, stopped or slept |
//! | one writer | an entry is shown under the peer that wrote it, at the path and with the value that it wrote |
//! | events | what a list returns is what the events add up to |
//! | agreement | once healed, everybody connected shows what each owner has, and nothing else |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Violation;
use super::cluster::{Cluster, Happening};
use super::network::NodeId;
use super::node::Standing;
use super::program::Asked;
use crate::engine::{Command, SoftChange, SoftEvent, SoftInfo};
use crate::id::{Path, PeerId, Prefix};
use crate::time::Timestamp;

/// How often every node is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What clocks, timers and the loop itself may add to a bound.
const SLACK: Duration = Duration::from_secs(3);
/// How long a frame may take over a link on which nothing goes wrong: the worst profile loses a packet eight times.
const CALM_LINK: Duration = Duration::from_secs(7);
/// How long a frame may wait on a link that stalls: until somebody's patience ends.
const STALLED_LINK: Duration = Duration::from_secs(48);
/// How long agreement may take after the heal.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who wrote a value: node, life of its process, count.
type Mark = (u8, u64, u64);

/// What is known of soft state in a run.
#[derive(Debug, Default)]
pub struct SoftRecord {
    /// What each node shows by its events.
    shown: BTreeMap<NodeId, BTreeMap<(Path, PeerId), String>>,
    /// Own entries that a process's program has set and not deleted.
    own: BTreeMap<NodeId, BTreeMap<Path, String>>,
    /// Everything that was ever set, and where.
    written: BTreeSet<(Mark, Path)>,
    /// When a life ended.
    ended: BTreeMap<(u8, u64), Timestamp>,
    /// When a node was last stopped or put to sleep.
    stopped: BTreeMap<NodeId, Timestamp>,
    surveys: BTreeMap<NodeId, Vec<SoftInfo>>,
    counter: u64,
    /// Looks at an entry that was shown.
    pub looks: u64,
    /// Entries that lapsed.
    pub lapses: u64,
}

fn mark(value: &str) -> Option<Mark> {
    let (node, rest) = value.strip_prefix('n')?.split_once('l')?;
    let (life, count) = rest.split_once('e')?;
    Some((node.parse().ok()?, life.parse().ok()?, count.parse().ok()?))
}

impl SoftRecord {
    /// A process is gone.
    pub(super) fn on_death(&mut self, node: NodeId, life: u64, now: Timestamp) {
        self.ended.insert((node.0, life), now);
        self.own.remove(&node);
        self.shown.remove(&node);
    }

    /// A process stops for a while.
    pub(super) fn on_stop(&mut self, node: NodeId, now: Timestamp) {
        self.stopped.insert(node, now);
    }
}

impl Cluster {
    /// Begins to look at what nodes show.
    pub(super) fn schedule_soft(&mut self) {
        if self.scenario.soft_per_mille > 0 {
            self.queue.at(Timestamp::ZERO + LOOK, Happening::LookAtSoft);
        }
    }

    /// The local program sets or deletes an entry, or asks for the list.
    pub(super) fn act_soft(&mut self, id: NodeId, path: &Path) {
        let (Some(space), Some(life)) = (self.space, self.node(id).process.as_ref().map(|p| p.life)) else { return };
        match self.program_dice.below(10) {
            0..6 => {
                self.soft.counter += 1;
                let mark = (id.0, life, self.soft.counter);
                let value = format!("n{}l{}e{}", mark.0, mark.1, mark.2);
                // Written down before it is answered: others may hear of it first.
                self.soft.written.insert((mark, path.clone()));
                let command = Command::SoftSet { space, path: path.clone(), value: value.clone().into_bytes() };
                self.ask(id, command, Asked::SoftSet(path.clone(), value));
            }
            6..8 => {
                self.ask(id, Command::SoftDelete { space, path: path.clone() }, Asked::SoftDelete(path.clone()));
            }
            _ => self.ask_soft_list(id, false),
        }
    }

    fn ask_soft_list(&mut self, id: NodeId, survey: bool) {
        let Some(space) = self.space else { return };
        let list = Command::SoftList { space, prefix: Prefix::root(), after: None, limit: crate::engine::MAX_LIST };
        self.ask(id, list, Asked::SoftList { survey });
    }

    pub(super) fn on_soft_written(&mut self, id: NodeId, path: Path, value: String) {
        if !self.node(id).standing.writes(&path) {
            let what = format!("a soft entry at {path} was written without the right");
            self.checks.fail(Violation::WrongReply { node: id, what });
        }
        self.soft.own.entry(id).or_default().insert(path, value);
    }

    pub(super) fn on_soft_deleted(&mut self, id: NodeId, path: &Path, there: bool) {
        let was = self.soft.own.entry(id).or_default().remove(path).is_some();
        if was != there {
            let what = format!("deleting {path} found {there}, and {was} was there");
            self.checks.fail(Violation::WrongReply { node: id, what });
        }
    }

    pub(super) fn on_soft_event(&mut self, id: NodeId, life: u64, event: &SoftEvent) {
        if self.node(id).process.as_ref().is_none_or(|p| p.life != life) {
            return;
        }
        self.note(format_args!("n{} soft {} of {:?}: {:?}", id.0, event.path, event.owner.peer, event.change));
        let shown = self.soft.shown.entry(id).or_default();
        let key = (event.path.clone(), event.owner.peer);
        match &event.change {
            SoftChange::Set(value) => {
                let text = String::from_utf8_lossy(value).into_owned();
                shown.insert(key, text.clone());
                self.check_writer(id, event, &text);
            }
            SoftChange::Deleted | SoftChange::Expired => {
                self.soft.lapses += u64::from(event.change == SoftChange::Expired);
                if shown.remove(&key).is_none() {
                    let what = format!("{} of {:?} went without having been there", event.path, event.owner.peer);
                    self.checks.fail(Violation::WrongReply { node: id, what });
                }
            }
        }
    }

    fn check_writer(&mut self, id: NodeId, event: &SoftEvent, text: &str) {
        let writer = mark(text).filter(|mark| self.soft.written.contains(&(*mark, event.path.clone())));
        let node = writer.and_then(|(node, ..)| self.nodes.get(usize::from(node)));
        let right = node.is_some_and(|node| {
            node.known.is_some_and(|known| known.peer == event.owner.peer && known.device == event.owner.device)
        });
        if !right {
            let (path, value) = (event.path.clone(), text.to_owned());
            return self.checks.fail(Violation::SoftForeign { node: id, path, value });
        }
        if !self.node(id).may_hold(&event.path) {
            let what = format!("a soft entry at {}", event.path);
            self.checks.fail(Violation::Leaked { node: id, what, place: "soft state" });
        }
    }

    pub(super) fn on_soft_list(&mut self, id: NodeId, items: Vec<SoftInfo>, survey: bool) {
        let listed: BTreeMap<(Path, PeerId), String> = items
            .iter()
            .map(|i| ((i.path.clone(), i.owner.peer), String::from_utf8_lossy(&i.value).into_owned()))
            .collect();
        let shown = self.soft.shown.get(&id).cloned().unwrap_or_default();
        if listed != shown {
            let what = format!("the soft list is {listed:?}, the events add up to {shown:?}");
            self.checks.fail(Violation::WrongReply { node: id, what });
        }
        if survey {
            self.soft.surveys.insert(id, items);
        }
    }

    /// How long an entry may be shown after its owner's last sign of life.
    fn soft_bound(&self) -> Duration {
        let stalls = self.scenario.faults.iter().any(|(_, fault)| fault.holds_up_frames());
        let link = if stalls { STALLED_LINK } else { CALM_LINK };
        // A renewal that was lost and comes again much later is new to who has not seen it, for a ttl by its schedule.
        let replayed = if self.scenario.honest() { Duration::ZERO } else { 2 * self.scenario.engine.soft_ttl };
        let links = (self.nodes.len() as u32 - 1).min(u32::from(crate::soft::MAX_HOPS));
        self.scenario.engine.soft_ttl + replayed + link * links + SLACK
    }

    /// The last moment at which a life can have renewed its lease.
    fn last_sign(&self, (node, life, _): Mark) -> Timestamp {
        let now = self.queue.now();
        if let Some(end) = self.soft.ended.get(&(node, life)) {
            return *end;
        }
        let stopped = self.node(NodeId(node)).frozen_until > now;
        self.soft.stopped.get(&NodeId(node)).copied().filter(|_| stopped).unwrap_or(now)
    }

    /// Looks at everything that everybody shows.
    pub(super) fn look_at_soft(&mut self) {
        let now = self.queue.now();
        self.queue.at(now + LOOK, Happening::LookAtSoft);
        let bound = self.soft_bound();
        let mut late = None;
        for (id, shown) in &self.soft.shown {
            let node = self.node(*id);
            // One that has just woken has not had its turn.
            if !node.is_open() || node.frozen_until + SLACK > now && node.frozen_until > Timestamp::ZERO {
                continue;
            }
            for ((path, _), value) in shown {
                self.soft.looks += 1;
                let Some(mark) = mark(value) else { continue };
                let since = now.since(self.last_sign(mark));
                if since > bound && mark.0 != id.0 {
                    late = Some(Violation::SoftOutlived {
                        node: *id,
                        path: path.clone(),
                        value: value.clone(),
                        seconds: since.as_secs(),
                        bound: bound.as_secs(),
                    });
                }
            }
        }
        if let Some(late) = late {
            self.checks.fail(late);
        }
    }

    /// Healed and converged: everybody connected comes to show the same.
    pub(super) fn conclude_soft(&mut self) -> Result<(), Violation> {
        if self.scenario.soft_per_mille == 0 {
            return Ok(());
        }
        let begun = self.now();
        loop {
            self.run_for(Duration::from_secs(2))?;
            self.soft.surveys.clear();
            let members: Vec<NodeId> =
                self.nodes.iter().filter(|n| n.standing != Standing::Stranger).map(|n| n.id).collect();
            members.into_iter().for_each(|id| self.ask_soft_list(id, true));
            self.drain_inbox();
            self.run_for(Duration::from_millis(100))?;
            match self.soft_difference() {
                None => return Ok(()),
                Some(difference) if self.now().since(begun) > PATIENCE => {
                    return Err(Violation::NotConverged { seconds: PATIENCE.as_secs(), difference });
                }
                Some(_) => {}
            }
        }
    }

    /// The first thing that somebody shows and should not, or the other way round.
    fn soft_difference(&self) -> Option<String> {
        for path in &self.scenario.paths {
            for island in self.islands(path) {
                let mut wanted: Vec<(PeerId, String)> = Vec::new();
                for id in &island {
                    let value = self.soft.own.get(id).and_then(|own| own.get(path));
                    let peer = self.node(*id).known.map(|known| known.peer);
                    wanted.extend(peer.zip(value.cloned()));
                }
                wanted.sort();
                for id in &island {
                    let survey = self.soft.surveys.get(id)?;
                    let mut found: Vec<(PeerId, String)> = survey
                        .iter()
                        .filter(|item| item.path == *path)
                        .map(|item| (item.owner.peer, String::from_utf8_lossy(&item.value).into_owned()))
                        .collect();
                    found.sort();
                    if found != wanted {
                        return Some(format!("soft {path}: n{} shows {found:?} of {wanted:?}", id.0));
                    }
                }
            }
        }
        None
    }

    /// What renewals may add to the bytes of a silent minute: 48 bytes a renewal and receiver, and a lease now and then.
    pub(super) fn soft_allowance(&self, silence: Duration) -> u64 {
        if self.scenario.soft_per_mille == 0 {
            return 0;
        }
        let periods = silence.as_millis() as u64 / self.scenario.engine.soft_period.as_millis().max(1) as u64 + 2;
        let nodes = self.nodes.len() as u64;
        nodes * (nodes - 1) * periods * 48 + nodes * self.edges.len() as u64 * 2 * 400
    }
}

#[cfg(test)]
mod tests;
