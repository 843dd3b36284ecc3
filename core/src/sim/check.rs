//! What must hold, and the record of what was promised.
//!
//! | promise | how it is checked | when |
//! |---|---|---|
//! | convergence | equal generations, heads and values of a path on all connected peers that replicate it | at the end |
//! | nothing acknowledged is lost | every edit's own key is in the document, on every such peer and in the reopened store | at the end, and at `synced` |
//! | nothing refused appears | the key of a refused commit is nowhere | at the end |
//! | an edit is whole | the counter is the sum of what the edits present added to it | at the end |
//! | deleted stays deleted | the generation of a path never goes back on a node, nor behind an acknowledged deletion | every list |
//! | partial replication | frames to, and tables of, a node hold no id and no path outside its grant and interests | every frame; at the end |
//! | strangers learn nothing | the same, with the space's id and devices | every frame |
//! | bounds | frame sizes, outputs an input, inputs an instant, bytes in flight, figures of `status` | every step |
//! | the driver's contract | tickets only grow, no frame for a closed link, one answer a command | every step |
//! | honest peers understand each other | no link is closed for a protocol error, no change is refused, nothing is quarantined | every step |
//! | topics | at most once, in order, gaps told, only authorised; all of it delivered once all is quiet | every signal; at the end |
//! | session guarantees | a client's read shows what it knows; an edit is never shown without what its author had seen | every read with a bookmark; at the end |
//! | standing | nothing of a revoked device beyond what the revoker had; nobody honest is accused; nothing leaves without a cause | at the end, and at evictions |
//! | overlay | neighbours are mutual, few, and lead from everybody to everybody; links are not many more | at the end, in crowds |
//! | liveness | converged within a bounded time after the storm | at the end |
//! | silence | a converged cluster sends next to nothing | at the end |
//!
//! The checkers ask the engines through their public commands and look at raw tables and frames; they share no code with
//! what they check.

mod autopsy;
mod conclude;
mod sessions;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::network::NodeId;
use super::node::{Node, Standing};
use super::program::{Asked, Program};
use super::scenario::Scenario;
use crate::document::hot::HotCell;
use crate::document::value::Value;
use crate::engine::{DocumentInfo, LinkStatus, StatusReport, SyncStats};
use crate::id::{ChangeHash, DeviceId, DocumentId, Path, SpaceId};
use crate::io::CloseReason;

pub use autopsy::Corpse;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A key of an acknowledged commit is missing.
    #[error("acknowledged edit {key} of {path} is not on {node:?} ({place})")]
    AcknowledgedLost {
        /// Where it is missing.
        node: NodeId,
        /// The document.
        path: Path,
        /// The edit's key.
        key: String,
        /// Live engine or reopened store.
        place: &'static str,
    },
    /// A document with acknowledged edits is gone and nobody deleted it.
    #[error("{path} generation {generation} is not on {node:?}, and nobody deleted it")]
    Vanished {
        /// Where.
        node: NodeId,
        /// The document.
        path: Path,
        /// Its generation.
        generation: u32,
    },
    /// A key of a refused commit is there.
    #[error("refused edit {key} of {path} is on {node:?}")]
    RefusedAppeared {
        /// Where.
        node: NodeId,
        /// The document.
        path: Path,
        /// The edit's key.
        key: String,
    },
    /// The value is not what its edits make.
    #[error("{path} on {node:?}: the counter is {got}, its edits add up to {sum}")]
    TornEdit {
        /// Where.
        node: NodeId,
        /// The document.
        path: Path,
        /// What it shows.
        got: i64,
        /// What its edits add.
        sum: i64,
    },
    /// A deleted generation is back.
    #[error("{path} on {node:?} shows generation {got} after generation {floor} was reached")]
    CameBack {
        /// Where.
        node: NodeId,
        /// The path.
        path: Path,
        /// Shown.
        got: u32,
        /// Seen or promised before.
        floor: u32,
    },
    /// Peers do not agree within the time allowed.
    #[error("not converged {seconds} s after the storm: {difference}")]
    NotConverged {
        /// How long they had.
        seconds: u64,
        /// The first difference.
        difference: String,
    },
    /// Equal heads, different values.
    #[error("{path}: {left:?} and {right:?} have equal heads and different values ({what})")]
    ValuesDiffer {
        /// The path.
        path: Path,
        /// One.
        left: NodeId,
        /// The other.
        right: NodeId,
        /// Which values.
        what: &'static str,
    },
    /// A converged cluster talks too much.
    #[error("{bytes} B in {seconds} s over {links} links though nothing changes, the bound is {bound} B")]
    Chatter {
        /// Bytes of frames.
        bytes: u64,
        /// In this time.
        seconds: u64,
        /// Over so many pairs of nodes.
        links: u64,
        /// What would be fair.
        bound: u64,
    },
    /// Something outside a node's grant or interests reached it.
    #[error("{what} reached {node:?}, which may not have it ({place})")]
    Leaked {
        /// Where.
        node: NodeId,
        /// What.
        what: String,
        /// Frame or table.
        place: &'static str,
    },
    /// Something is over its bound.
    #[error("{what} on {node:?} is at {got}")]
    Unbounded {
        /// Where.
        node: NodeId,
        /// What.
        what: &'static str,
        /// Its size.
        got: u64,
    },
    /// The engine broke the driver's contract.
    #[error("{node:?} broke the driver's contract: {what}")]
    Contract {
        /// Who.
        node: NodeId,
        /// How.
        what: &'static str,
    },
    /// An honest peer closed an honest peer's link.
    #[error("{node:?} took an honest peer for a liar: {reason}")]
    HonestLinkClosed {
        /// Who.
        node: NodeId,
        /// What it said.
        reason: String,
    },
    /// A command was answered by something that does not fit it.
    #[error("{node:?}: {what}")]
    WrongReply {
        /// Who.
        node: NodeId,
        /// What.
        what: String,
    },
    /// A soft entry is shown for too long after its owner's last sign of life.
    #[error(
        "{node:?} shows {value} at {path}, {seconds} s after its owner's last sign of life; the bound is {bound} s"
    )]
    SoftOutlived {
        /// Where.
        node: NodeId,
        /// The entry.
        path: Path,
        /// Its value.
        value: String,
        /// How long.
        seconds: u64,
        /// How long it may be.
        bound: u64,
    },
    /// A soft entry that its owner never wrote there.
    #[error("{node:?} shows {value} at {path}, which its owner did not write")]
    SoftForeign {
        /// Where.
        node: NodeId,
        /// The entry.
        path: Path,
        /// Its value.
        value: String,
    },
    /// A signal was heard twice, out of order, or with the wrong count of what was missed.
    #[error("{node:?} at {path}: {what}")]
    TopicBroken {
        /// Who heard it.
        node: NodeId,
        /// Where.
        path: Path,
        /// What is wrong.
        what: String,
    },
    /// A signal that its sender never published there, or could not.
    #[error("{node:?} heard {payload} at {path}, which its sender did not publish")]
    TopicForeign {
        /// Who heard it.
        node: NodeId,
        /// Where.
        path: Path,
        /// What it says.
        payload: String,
    },
    /// A signal that was published when all was connected and quiet has not arrived.
    #[error("{what}, {seconds} s after it was published and nothing was in the way")]
    TopicLost {
        /// Which, and where.
        what: String,
        /// How long it had.
        seconds: u64,
    },
    /// Neighbours are not what they should be once all is quiet.
    #[error("{what}, {seconds} s after all was quiet")]
    Overlay {
        /// What is wrong.
        what: String,
        /// How long it had.
        seconds: u64,
    },
    /// A store does not open.
    #[error("the store of {node:?} does not open: {error}")]
    StoreUnopenable {
        /// Whose.
        node: NodeId,
        /// What it said.
        error: String,
    },
    /// A store forgot its space.
    #[error("{node:?} had joined the space durably and does not know it any more")]
    SpaceLost {
        /// Whose.
        node: NodeId,
    },
    /// A former host committed after another one had taken over.
    #[error("{node:?}: a former host was told that its commit is durable")]
    GhostCommitted {
        /// Whose.
        node: NodeId,
    },
    /// `synced` was answered too early.
    #[error("{node:?} was told that {wanted} peers have {key} of {path}; {found} have it")]
    NotSynced {
        /// Who was told.
        node: NodeId,
        /// The document.
        path: Path,
        /// The edit.
        key: String,
        /// Asked for.
        wanted: usize,
        /// Found in the durable tables of others.
        found: usize,
    },
    /// A client that carried a bookmark was shown less than it had seen or written.
    #[error("client {client} read {path} on {node:?}: {what}")]
    SessionBroken {
        /// Where it read.
        node: NodeId,
        /// Who.
        client: usize,
        /// What it read.
        path: Path,
        /// How.
        what: String,
    },
    /// An edit is shown without what its author had seen of the document.
    #[error("{path} on {node:?}: {what}")]
    Uncaused {
        /// Where.
        node: NodeId,
        /// The document.
        path: Path,
        /// Which edits.
        what: String,
    },
    /// Something of a revoked device is shown that the revoker did not have.
    #[error("{node:?} shows {key} at {path}, which its revoked author had not told the revoker")]
    BeyondFrontier {
        /// Where.
        node: NodeId,
        /// The document.
        path: Path,
        /// The edit.
        key: String,
    },
    /// A revocation that was told to be durable is not there.
    #[error("the revocation of {node:?} was told to be done and is not there")]
    RevocationLost {
        /// Whose device.
        node: NodeId,
    },
    /// A store holds a proof that an honest device contradicted itself.
    #[error("{node:?} holds a proof of equivocation, and nobody lied")]
    FalselyAccused {
        /// Where.
        node: NodeId,
    },
    /// Changes left a document although nothing was revoked and nobody lied.
    #[error("{changes} changes were evicted on {node:?} without a cause")]
    EvictedWithoutCause {
        /// Where.
        node: NodeId,
        /// How many.
        changes: usize,
    },
    /// The engine panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
}

/// A commit of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(pub(super) usize);

/// A deletion of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeleteId(pub(super) usize);

/// What became of something that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet, or the process died before the answer.
    Unknown,
    /// Promised.
    Acknowledged,
    /// Refused, with the promise that it has no effect.
    Refused,
}

/// One edit of a commit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Where.
    pub path: Path,
    /// In this generation.
    pub generation: u32,
    /// Of this document.
    pub document: DocumentId,
    /// The root key that only this edit writes.
    pub key: String,
    /// What it added to the counter.
    pub added: i64,
    /// Its change.
    pub hash: ChangeHash,
}

#[derive(Debug)]
pub(super) struct Commit {
    pub(super) node: NodeId,
    pub(super) edits: Vec<Edit>,
    pub(super) fate: Fate,
    ghost: bool,
}

#[derive(Debug)]
struct Delete {
    node: NodeId,
    path: Path,
    /// The least generation that this deletion can have meant.
    floor: u32,
    fate: Fate,
}

/// What an open document showed at the end.
#[derive(Debug, Clone)]
struct Shown {
    generation: u32,
    heads: Vec<ChangeHash>,
    value: Value,
}

/// Counters for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits that were acknowledged.
    pub acknowledged: u64,
    /// Commits that were refused.
    pub refused: u64,
    /// Deletions that were acknowledged.
    pub deletions: u64,
    /// Processes that died or closed.
    pub deaths: u64,
    /// `synced` answers that were verified in the peers' tables.
    pub synced: u64,
    /// Reads with a bookmark that were answered.
    pub session_reads: u64,
    /// Edits that clients made after their bookmark was covered.
    pub session_writes: u64,
    /// Signals of others that were heard.
    pub signals: u64,
    /// Answers to clients that something is not here yet.
    pub not_yet: u64,
    /// Devices that were revoked.
    pub revoked: u64,
    /// Changes that left documents, counted on every node.
    pub evicted: u64,
    /// Microseconds of virtual time from the end of the storm to convergence.
    pub converged_after: u64,
}

/// The record and the verdict.
#[derive(Debug, Default)]
pub struct Checks {
    verdict: Option<Violation>,
    pub(super) commits: Vec<Commit>,
    deletes: Vec<Delete>,
    floors: BTreeMap<(NodeId, Path), u32>,
    surveys: BTreeMap<NodeId, Vec<DocumentInfo>>,
    shown: BTreeMap<(NodeId, Path), Shown>,
    /// Links of each node by its last report.
    pub(super) links: BTreeMap<NodeId, Vec<LinkStatus>>,
    cold: BTreeMap<(NodeId, Path), Option<Value>>,
    /// What must not reach a node: bytes and a name for them.
    forbidden: BTreeMap<NodeId, Vec<(Vec<u8>, String)>>,
    paths: Vec<Path>,
    restored: BTreeSet<NodeId>,
    causes: sessions::Causes,
    pub(super) standing: standing::StandingRecord,
    honest: bool,
    /// Counters for the report.
    pub tally: Tally,
}

impl Checks {
    /// An empty record.
    pub fn new(scenario: &Scenario) -> Self {
        Self { paths: scenario.paths.clone(), honest: scenario.honest(), ..Self::default() }
    }

    /// Records a violation; the first one counts.
    pub fn fail(&mut self, violation: Violation) {
        self.verdict.get_or_insert(violation);
    }

    /// The first violation, if any.
    pub fn verdict(&self) -> Result<(), Violation> {
        self.verdict.clone().map_or(Ok(()), Err)
    }

    /// Whether something was violated.
    pub fn is_violated(&self) -> bool {
        self.verdict.is_some()
    }

    pub(super) fn on_commit_asked(&mut self, node: NodeId, edits: Vec<Edit>) -> CommitId {
        self.commits.push(Commit { node, edits, fate: Fate::Unknown, ghost: false });
        CommitId(self.commits.len() - 1)
    }

    pub(super) fn on_ghost_commit(&mut self, node: NodeId, edits: Vec<Edit>) -> CommitId {
        self.commits.push(Commit { node, edits, fate: Fate::Unknown, ghost: true });
        CommitId(self.commits.len() - 1)
    }

    pub(super) fn on_acknowledged(&mut self, commit: CommitId) {
        self.tally.acknowledged += 1;
        let commit = &mut self.commits[commit.0];
        commit.fate = Fate::Acknowledged;
        if commit.ghost {
            let node = commit.node;
            self.fail(Violation::GhostCommitted { node });
        }
    }

    /// Returns the documents of the commit.
    pub(super) fn on_refused(&mut self, commit: CommitId) -> Vec<DocumentId> {
        self.tally.refused += 1;
        let commit = &mut self.commits[commit.0];
        commit.fate = Fate::Refused;
        commit.edits.iter().map(|edit| edit.document).collect()
    }

    /// Whether the node that made a commit may not write somewhere in it.
    pub(super) fn is_denied(&self, commit: CommitId, nodes: &[Node]) -> bool {
        let commit = &self.commits[commit.0];
        let standing = &nodes[usize::from(commit.node.0)].standing;
        commit.edits.iter().any(|edit| !standing.writes(&edit.path))
    }

    pub(super) fn on_delete_asked(&mut self, node: NodeId, path: &Path) -> DeleteId {
        let floor = self.floor(node, path);
        self.deletes.push(Delete { node, path: path.clone(), floor, fate: Fate::Unknown });
        DeleteId(self.deletes.len() - 1)
    }

    pub(super) fn on_deleted(&mut self, delete: DeleteId, there: bool) {
        let Delete { node, path, floor, fate } = &mut self.deletes[delete.0];
        *fate = if there { Fate::Acknowledged } else { Fate::Refused };
        if there {
            self.tally.deletions += 1;
            let (key, next) = ((*node, path.clone()), *floor + 1);
            let floor = self.floors.entry(key).or_insert(0);
            *floor = (*floor).max(next);
        }
    }

    pub(super) fn on_delete_refused(&mut self, delete: DeleteId) {
        self.deletes[delete.0].fate = Fate::Refused;
    }

    /// The generation that a path is known to have reached on a node.
    pub(super) fn floor(&self, node: NodeId, path: &Path) -> u32 {
        self.floors.get(&(node, path.clone())).copied().unwrap_or(0)
    }

    /// A deletion may have been answered while the document was being opened: what counts is the time of asking.
    pub(super) fn on_opened(&mut self, node: NodeId, path: &Path, got: u32, floor: u32) {
        if got < floor {
            return self.fail(Violation::CameBack { node, path: path.clone(), got, floor });
        }
        let known = self.floors.entry((node, path.clone())).or_insert(0);
        *known = got.max(*known);
    }

    pub(super) fn on_generation(&mut self, node: NodeId, path: &Path, got: u32) {
        let floor = self.floors.entry((node, path.clone())).or_insert(0);
        if got < *floor {
            let (path, floor) = (path.clone(), *floor);
            return self.fail(Violation::CameBack { node, path, got, floor });
        }
        *floor = got;
    }

    pub(super) fn on_list(&mut self, node: NodeId, items: &[DocumentInfo]) {
        for item in items {
            self.on_generation(node, &item.path, item.generation);
        }
    }

    pub(super) fn on_survey(&mut self, node: NodeId, items: Vec<DocumentInfo>) {
        self.surveys.insert(node, items);
    }

    pub(super) fn on_read(&mut self, node: NodeId, path: &Path, value: Option<Value>) {
        self.cold.insert((node, path.clone()), value);
    }

    pub(super) fn on_inspected(&mut self, node: NodeId, path: &Path, generation: u32, cell: &HotCell) {
        self.on_generation(node, path, generation);
        let shown = cell.with(|document| {
            Ok::<_, crate::document::hot::HotError>(Shown {
                generation,
                heads: document.heads()?,
                value: document.value()?,
            })
        });
        if let Ok(Ok(Shown { value: Value::Map(map), .. })) = &shown {
            let keys = map.keys().map(|key| key.to_string()).collect();
            self.check_causes(node, path, &keys);
        }
        match shown.and_then(|inner| inner) {
            Ok(shown) => drop(self.shown.insert((node, path.clone()), shown)),
            Err(error) => self.fail(Violation::WrongReply { node, what: format!("{path} cannot be read: {error}") }),
        }
    }

    pub(super) fn on_crash(&mut self, _node: NodeId, program: &Program) {
        self.tally.deaths += 1;
        for asked in program.asked.values() {
            // What was asked for and not answered may have happened or not; its fate stays unknown.
            debug_assert!(!matches!(asked, Asked::Commit(commit) if self.commits[commit.0].fate != Fate::Unknown));
        }
    }

    pub(super) fn on_restore(&mut self, node: NodeId) {
        self.restored.insert(node);
        self.floors.retain(|(of, _), _| *of != node);
    }

    /// Whether a node's store was ever put back from a copy.
    pub(super) fn was_restored(&self, node: NodeId) -> bool {
        self.restored.contains(&node)
    }

    pub(super) fn on_mischief(&mut self) {
        self.honest = false;
    }

    /// Forgets what was computed from a node's interests.
    pub(super) fn on_interests(&mut self, node: NodeId) {
        self.forbidden.remove(&node);
    }

    pub(super) fn on_frame(&mut self, space: Option<SpaceId>, _from: NodeId, to: &Node, bytes: &[u8]) {
        let Some(space) = space else { return };
        let paths = &self.paths;
        let forbidden = self.forbidden.entry(to.id).or_insert_with(|| forbidden(&space, to, paths));
        let found = forbidden.iter().find(|(pattern, _)| contains(bytes, pattern));
        if let Some((_, what)) = found {
            let what = what.clone();
            self.fail(Violation::Leaked { node: to.id, what, place: "a frame" });
        }
    }

    pub(super) fn on_close(&mut self, node: NodeId, reason: &CloseReason) {
        if let CloseReason::Protocol { .. } | CloseReason::Version = reason
            && self.honest
        {
            self.fail(Violation::HonestLinkClosed { node, reason: format!("{reason:?}") });
        }
    }

    pub(super) fn on_met(&mut self, node: NodeId, device: &DeviceId, nodes: &[Node]) {
        let met = nodes.iter().find(|other| other.known.is_some_and(|known| known.device == *device));
        if met.is_none_or(|other| other.standing == Standing::Stranger) {
            self.fail(Violation::Leaked { node, what: format!("a stranger {device:?}"), place: "membership" });
        }
    }

    pub(super) fn on_in_step(&mut self, _stats: &SyncStats) {}

    pub(super) fn on_status(&mut self, node: NodeId, report: &StatusReport, scenario: &Scenario) {
        self.links.insert(node, report.links.clone());
        let config = &scenario.engine;
        // A budget may be passed by the one document that is being used.
        const SLACK: u64 = 8 << 20;
        let bounds = [
            ("bytes of loaded logs", report.log_bytes, config.log_budget as u64 + SLACK),
            ("links", report.links.len() as u64, config.max_links as u64),
            ("orphans", report.orphans, 20_000),
            ("streams of topics", report.topic_streams, crate::topic::MAX_STREAMS as u64),
            ("bytes of signals", report.topic_bytes, topic_bytes(report)),
        ];
        for (what, got, bound) in bounds {
            if got > bound {
                self.fail(Violation::Unbounded { node, what, got });
            }
        }
        if self.honest && report.refused_changes > 0 && !scenario.judges() {
            let what = format!("{} changes of honest peers were refused", report.refused_changes);
            self.fail(Violation::WrongReply { node, what });
        }
    }
}

/// What an engine with one space may keep of signals.
fn topic_bytes(report: &StatusReport) -> u64 {
    (crate::topic::RECENT_BYTES + report.links.len() * crate::topic::QUEUE_BYTES) as u64
}

/// What must not reach a node: paths it may not hold, their documents, and for a stranger the space itself.
fn forbidden(space: &SpaceId, node: &Node, paths: &[Path]) -> Vec<(Vec<u8>, String)> {
    let mut patterns = Vec::new();
    for path in paths.iter().filter(|path| !node.may_hold(path)) {
        patterns.push((path.as_str().as_bytes().to_vec(), format!("the path {path}")));
        for generation in 0..4 {
            let document = DocumentId::derive(space, path, generation);
            patterns.push((document.0.to_vec(), format!("the document id of {path} generation {generation}")));
        }
    }
    if node.standing == Standing::Stranger {
        patterns.push((space.0.to_vec(), "the space's id".to_owned()));
    }
    patterns
}

/// Whether `pattern` occurs in `bytes`.
pub(super) fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return true };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| b == first) {
        let tail = &bytes[from + at + 1..];
        if tail.starts_with(rest) {
            return true;
        }
        from += at + 1;
    }
    false
}
