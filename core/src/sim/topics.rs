//! Topics in a simulation: programs that publish signals, and what must hold of what is heard.
//!
//! Every payload names its writer, the life of the writer's process and a count, so a checker can tell whose it is and
//! where it belongs without asking the engine.
//!
//! | check | |
//! |---|---|
//! | at most once, in order | what a process hears of a sender at a path has rising lives and counts |
//! | gaps | a signal says that as many were missed as numbers are missing, within a life of its sender |
//! | only authorised | a signal is heard under the peer that published it, where that peer may write and the hearer read |
//! | delivered | once all is healed and quiet, everybody connected hears everything that is published, with nothing missed |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Violation;
use super::cluster::Cluster;
use super::network::NodeId;
use super::program::Asked;
use crate::engine::{Command, TopicEvent};
use crate::id::Path;

/// After the heal: until every end of a dead wire has noticed, and who can has connected.
const SETTLING: Duration = Duration::from_secs(30);
/// How long what is published then may take: the worst profile's delays over every link, and a tree that is mended.
const PATIENCE: Duration = Duration::from_secs(40);
/// Signals that each writer publishes at each path then.
const LAST: usize = 3;

/// Who wrote a payload: node, life of its process, count.
type Mark = (u8, u64, u64);

/// The last signal that a process heard of a sender at a path.
#[derive(Debug, Clone, Copy)]
struct Last {
    life: u64,
    count: u64,
    seq: u64,
}

/// A signal that everybody connected must hear.
#[derive(Debug)]
struct Due {
    path: Path,
    heard: BTreeSet<NodeId>,
}

/// What is known of topics in a run.
#[derive(Debug, Default)]
pub struct TopicRecord {
    published: BTreeSet<(Mark, Path)>,
    /// By hearer and life of its process, sender and path.
    last: BTreeMap<(NodeId, u64, u8, Path), Last>,
    due: BTreeMap<Mark, Due>,
    /// Whether what is published now has to be heard by everybody.
    calm: bool,
    counter: u64,
    /// Signals of others that were heard.
    pub heard: u64,
    /// Signals that were said to be missed.
    pub missed: u64,
}

fn mark(payload: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(payload).ok()?.trim_end();
    let (node, rest) = text.strip_prefix('n')?.split_once('l')?;
    let (life, count) = rest.split_once('t')?;
    Some((node.parse().ok()?, life.parse().ok()?, count.parse().ok()?))
}

impl Cluster {
    /// The local program publishes a signal.
    pub(super) fn act_topic(&mut self, id: NodeId, path: &Path) {
        let (Some(space), Some(life)) = (self.space, self.node(id).process.as_ref().map(|p| p.life)) else { return };
        self.topics.counter += 1;
        let mark = (id.0, life, self.topics.counter);
        let mut payload = format!("n{}l{}t{}", mark.0, mark.1, mark.2);
        if self.program_dice.chance(200) {
            let length = self.program_dice.below(crate::topic::MAX_PAYLOAD as u64) as usize;
            payload = format!("{payload:<length$}");
        }
        // Written down before it is answered: others may hear of it first.
        self.topics.published.insert((mark, path.clone()));
        if self.topics.calm {
            self.topics.due.insert(mark, Due { path: path.clone(), heard: BTreeSet::new() });
        }
        let command = Command::Publish { space, path: path.clone(), payload: payload.into_bytes() };
        self.ask(id, command, Asked::Publish(path.clone()));
    }

    pub(super) fn on_published(&mut self, id: NodeId, path: &Path) {
        if !self.node(id).standing.writes(path) {
            let what = format!("a signal at {path} was published without the right");
            self.checks.fail(Violation::WrongReply { node: id, what });
        }
    }

    pub(super) fn on_signal(&mut self, id: NodeId, life: u64, event: &TopicEvent) {
        if self.node(id).process.as_ref().is_none_or(|p| p.life != life) {
            return;
        }
        let text = String::from_utf8_lossy(&event.payload).trim_end().to_owned();
        self.note(format_args!("n{} hears {text} at {} missed {}", id.0, event.path, event.missed));
        let Some(mark) = self.check_publisher(id, life, event) else {
            return self.checks.fail(Violation::TopicForeign { node: id, path: event.path.clone(), payload: text });
        };
        if !event.mine && !self.node(id).may_hold(&event.path) {
            let what = format!("a signal at {}", event.path);
            self.checks.fail(Violation::Leaked { node: id, what, place: "topics" });
        }
        let now = Last { life: mark.1, count: mark.2, seq: event.seq };
        let before = self.topics.last.insert((id, life, mark.0, event.path.clone()), now);
        let wrong = match before {
            Some(before) if (before.life, before.count) >= (now.life, now.count) => {
                Some(format!("heard {text} after life {} count {}", before.life, before.count))
            }
            // Told of a life that its store does not know of, a sender goes on above that, and numbers anew.
            Some(before)
                if before.life == now.life && event.missed == 0 && self.checks.was_restored(NodeId(mark.0)) =>
            {
                None
            }
            Some(before) if before.life == now.life && now.seq != before.seq + event.missed + 1 => Some(format!(
                "{text} has number {} after {} and says that {} were missed",
                now.seq, before.seq, event.missed
            )),
            Some(before) if before.life == now.life => None,
            _ if event.missed > 0 => Some(format!("{text} is the first of a life, and {} were missed", event.missed)),
            _ => None,
        };
        if let Some(what) = wrong {
            return self.checks.fail(Violation::TopicBroken { node: id, path: event.path.clone(), what });
        }
        if let Some(due) = self.topics.due.get_mut(&mark) {
            due.heard.insert(id);
        }
        self.topics.heard += u64::from(!event.mine);
        self.topics.missed += event.missed;
        self.checks.tally.signals += u64::from(!event.mine);
    }

    /// Whose a signal is, if it is what its sender published there, and could.
    fn check_publisher(&self, id: NodeId, life: u64, event: &TopicEvent) -> Option<Mark> {
        let mark = mark(&event.payload).filter(|mark| self.topics.published.contains(&(*mark, event.path.clone())))?;
        let node = self.nodes.get(usize::from(mark.0))?;
        let known = node.known.filter(|known| known.peer == event.sender.peer && known.device == event.sender.device);
        let mine = mark.0 == id.0 && mark.1 == life;
        (known.is_some() && node.standing.writes(&event.path) && mine == event.mine).then_some(mark)
    }

    /// Healed, connected and quiet: what is published now is heard by everybody connected.
    pub(super) fn conclude_topics(&mut self) -> Result<(), Violation> {
        if self.scenario.topics_per_mille == 0 {
            return Ok(());
        }
        self.run_for(SETTLING)?;
        self.topics.calm = true;
        let begun = self.now();
        for _ in 0..LAST {
            for path in self.scenario.paths.clone() {
                let writers: Vec<NodeId> = self
                    .islands(&path)
                    .concat()
                    .into_iter()
                    .filter(|id| self.node(*id).standing.writes(&path))
                    .collect();
                writers.into_iter().for_each(|id| self.act_topic(id, &path));
            }
            self.drain_inbox();
            self.run_for(Duration::from_millis(300))?;
        }
        self.topics.calm = false;
        while let Some(what) = self.unheard() {
            if self.now().since(begun) > PATIENCE {
                return Err(Violation::TopicLost { what, seconds: PATIENCE.as_secs() });
            }
            self.run_for(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// A signal that somebody connected to its sender has not heard.
    fn unheard(&self) -> Option<String> {
        for (mark, due) in &self.topics.due {
            let island = self.islands(&due.path).into_iter().find(|island| island.contains(&NodeId(mark.0)))?;
            if let Some(deaf) = island.into_iter().find(|id| !due.heard.contains(id)) {
                return Some(format!("n{} has not heard n{}l{}t{} at {}", deaf.0, mark.0, mark.1, mark.2, due.path));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
