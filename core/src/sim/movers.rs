//! Clients that move from node to node and carry a bookmark: what they have seen in one place they have to see in the next.
//!
//! A client does one thing at a time, each at a node of its choice: it reads at least its bookmark, or it reaches its
//! bookmark and then edits or deletes through that node's program, or it takes the node's word for everything so far (one
//! point in the place of all it had named), or another client hands it its bookmark. Beside the bookmark it keeps what it
//! *knows*: the keys of the edits it has read or written, by path and generation. The checker in
//! [`super::check`] holds the one against the other and knows nothing of how bookmarks work.
//!
//! | guarantee | what is checked |
//! |---|---|
//! | read your writes, monotonic reads | a read shows every key that the client knows of the path, or a later generation of it that somebody's deletion explains |
//! | writes follow reads, monotonic writes | whoever shows an edit shows every key of the path that its author knew when making it |
//! | the same across documents | a client that was handed a bookmark knows what its giver knew |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{CommitId, Edit, Violation};
use super::cluster::{Cluster, Happening};
use super::network::NodeId;
use super::node::Standing;
use super::program::Asked;
use crate::document::value::Value;
use crate::engine::{Command, CommandError, Reply};
use crate::id::{ChangeHash, DocumentId, Path};
use crate::session::{Bookmark, Missing, Why};

/// Longest wait of a client for what is not at a node.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// How long after its wait an answer is overdue: the node has died.
const OVERDUE: Duration = Duration::from_secs(8);
/// Refusals in a row after which a client gives its session up.
const GIVES_UP: u32 = 12;

/// What a client has seen of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) generation: u32,
    pub(super) keys: BTreeSet<String>,
}

/// What a client wants to do once its bookmark is covered where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Edit,
    Delete,
    Fold,
}

/// What a client has asked a node for.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Read(Path),
    Reach(Path, Errand),
    /// After a deletion of its own: what there is now.
    Mark(Path),
    /// Everything so far, as the node has it.
    Fold,
}

/// A client on its way.
#[derive(Debug, Default)]
pub(super) struct Client {
    bookmark: Option<Bookmark>,
    known: BTreeMap<Path, Known>,
    /// Numbers what it asks for; an answer to something older is of no use any more.
    serial: u64,
    busy_until: Option<crate::time::Timestamp>,
    refusals: u32,
}

/// Edits of clients that are not acknowledged: who, where, in which generation.
pub(super) type Underway = BTreeMap<CommitId, (usize, Path, u32)>;

impl Cluster {
    pub(super) fn schedule_roam(&mut self, client: usize) {
        let after = self.mover_dice.span(self.scenario.pace / 8, self.scenario.pace);
        self.queue.at(self.queue.now() + after, Happening::Roam(client));
    }

    /// One step of a client.
    pub(super) fn roam(&mut self, client: usize) {
        if !self.stormy {
            return;
        }
        self.schedule_roam(client);
        let now = self.queue.now();
        let Some(space) = self.space else { return };
        let idle = |c: &Client| c.busy_until.is_none_or(|until| until <= now);
        let Some(here) = self.movers.get_mut(client).filter(|c| idle(c)) else { return };
        here.busy_until = None;
        here.serial += 1;
        here.bookmark.get_or_insert_with(|| Bookmark::new(space));
        if self.mover_dice.chance(80) {
            return self.hand_over(client);
        }
        let Some((node, path)) = self.somewhere() else { return };
        let errand = match self.mover_dice.below(100) {
            0..50 => None,
            50..88 => Some(Errand::Edit),
            88..93 => Some(Errand::Delete),
            _ => Some(Errand::Fold),
        };
        let wait = self.mover_dice.span(Duration::ZERO, MAX_WAIT);
        self.movers[client].busy_until = Some(now + wait + OVERDUE);
        let bookmark = self.movers[client].bookmark.clone().expect("set above");
        match errand {
            None => {
                let command = Command::ReadAtLeast { space, path: path.clone(), bookmark, wait: Some(wait) };
                self.ask_for(client, node, command, Request::Read(path));
            }
            Some(errand) => {
                let command = Command::Reach { space, bookmark, wait: Some(wait) };
                self.ask_for(client, node, command, Request::Reach(path, errand));
            }
        }
    }

    /// A node that is open and in the space, and a path that it replicates.
    fn somewhere(&mut self) -> Option<(NodeId, Path)> {
        let fit = |node: &&super::node::Node| node.is_open() && node.joined && node.standing != Standing::Stranger;
        let nodes: Vec<NodeId> = self.nodes.iter().filter(fit).map(|node| node.id).collect();
        let node = *self.mover_dice.pick(&nodes)?;
        let paths: Vec<Path> =
            self.scenario.paths.iter().filter(|path| self.node(node).replicates(path)).cloned().collect();
        self.mover_dice.pick(&paths).cloned().map(|path| (node, path))
    }

    fn ask_for(&mut self, client: usize, node: NodeId, command: Command, request: Request) {
        let serial = self.movers[client].serial;
        if self.ask(node, command, Asked::Mover { client, serial, request }).is_none() {
            self.movers[client].busy_until = None;
        }
    }

    /// Another client is given this one's bookmark, and with it what this one knows.
    fn hand_over(&mut self, giver: usize) {
        let taker = self.mover_dice.below(self.movers.len() as u64) as usize;
        if taker == giver || self.movers[taker].busy_until.is_some() {
            return;
        }
        let (Some(given), known) = (self.movers[giver].bookmark.clone(), self.movers[giver].known.clone()) else {
            return;
        };
        let taking = &mut self.movers[taker];
        let joined = match &mut taking.bookmark {
            Some(bookmark) => bookmark.merge(&given).is_ok(),
            none => none.replace(given).is_none(),
        };
        if joined {
            known.into_iter().for_each(|(path, known)| taking.learn(&path, known.generation, known.keys));
            self.note(format_args!("c{giver} hands its bookmark to c{taker}"));
        }
    }

    /// A node answers a client.
    pub(super) fn on_mover_reply(&mut self, id: NodeId, client: usize, serial: u64, request: Request, reply: Reply) {
        let Some(here) = self.movers.get_mut(client).filter(|c| c.serial == serial) else { return };
        here.busy_until = None;
        here.refusals = 0;
        match (request, reply) {
            (Request::Read(path), Reply::Read { value, bookmark }) => {
                self.checks.tally.session_reads += 1;
                self.on_mover_read(id, client, &path, value.map(|(value, _)| value), *bookmark);
            }
            (Request::Reach(path, errand), Reply::Bookmark(bookmark)) => {
                here.bookmark = Some(*bookmark);
                self.run_errand(id, client, path, errand);
            }
            (Request::Mark(path), Reply::Bookmark(bookmark)) => self.on_mover_mark(client, &path, &bookmark),
            (Request::Fold, Reply::Bookmark(bookmark)) => here.bookmark = Some(*bookmark),
            (request, _) => {
                let what = format!("{request:?} was answered with something else");
                self.checks.fail(Violation::WrongReply { node: id, what });
            }
        }
    }

    pub(super) fn on_mover_refusal(&mut self, id: NodeId, client: usize, serial: u64, error: &CommandError) {
        let Some(here) = self.movers.get_mut(client).filter(|c| c.serial == serial) else { return };
        here.busy_until = None;
        match error {
            CommandError::NotYet { missing } => {
                here.put_off(missing);
                self.checks.tally.not_yet += 1;
                if missing.is_empty() {
                    let what = "not yet, and nothing is missing".to_owned();
                    self.checks.fail(Violation::WrongReply { node: id, what });
                }
            }
            CommandError::Closed | CommandError::Storage(_) | CommandError::Busy { .. } => {}
            error if self.scenario.honest() => {
                let what = format!("a client was refused: {error}");
                self.checks.fail(Violation::WrongReply { node: id, what });
            }
            _ => {}
        }
    }

    /// What a client is shown has to have everything that it knows.
    fn on_mover_read(&mut self, id: NodeId, client: usize, path: &Path, value: Option<Value>, bookmark: Bookmark) {
        let keys = value.as_ref().map(root_keys).unwrap_or_default();
        let named = bookmark.documents().filter(|(of, ..)| *of == path);
        let named = named.map(|(_, generation, seen)| generation + u32::from(seen.deleted)).max();
        // The keys of a document tell its generation; of an empty one the bookmark has to be believed.
        let generation = self.checks.generation_of(&keys).or(named).unwrap_or(0);
        let known = self.movers[client].known.get(path).cloned().unwrap_or_default();
        self.checks.on_session_read(id, client, path, &known, generation, &keys);
        self.checks.check_causes(id, path, &keys);
        let here = &mut self.movers[client];
        here.learn(path, generation, keys);
        here.bookmark = Some(bookmark);
    }

    /// The client's bookmark is covered at this node: it does what it came for.
    fn run_errand(&mut self, id: NodeId, client: usize, path: Path, errand: Errand) {
        let Some(space) = self.space else { return };
        match errand {
            Errand::Fold => {
                self.movers[client].busy_until = Some(self.queue.now() + OVERDUE);
                self.ask_for(client, id, Command::Bookmark { space, paths: Vec::new() }, Request::Fold);
            }
            Errand::Edit => self.edit_for(id, client, &path),
            Errand::Delete => {
                let may = self.node(id).standing.writes(&path);
                if !may || !self.mover_dice.chance(self.scenario.deletes_per_mille) {
                    return;
                }
                let record = self.checks.on_delete_asked(id, &path);
                self.ask(id, Command::Delete { space, path: path.clone() }, Asked::Delete(path.clone(), record));
                // Commands are carried out in their order, and what is told is durable: this asks for what was there.
                self.movers[client].busy_until = Some(self.queue.now() + OVERDUE);
                let command = Command::Bookmark { space, paths: vec![path.clone()] };
                self.ask_for(client, id, command, Request::Mark(path));
            }
        }
    }

    fn edit_for(&mut self, id: NodeId, client: usize, path: &Path) {
        let Some(space) = self.space else { return };
        if !self.node(id).standing.writes(path) {
            return;
        }
        let Some(handle) = self.process(id).and_then(|p| p.program.handles.get(path)) else {
            return self.open(id, path.clone());
        };
        let (document, generation, cell) = (handle.document, handle.generation, handle.cell.clone());
        let Ok((key, added, Some(change))) = self.edit_cell(id, &cell) else { return };
        let known = self.movers[client].known.get(path).filter(|known| known.generation == generation);
        let causes = known.map(|known| known.keys.clone()).unwrap_or_default();
        self.checks.on_session_write(&key, causes);
        let edits = vec![Edit { path: path.clone(), generation, document, key, added, hash: change.hash }];
        let commit = self.checks.on_commit_asked(id, edits);
        self.underway.insert(commit, (client, path.clone(), generation));
        self.movers[client].busy_until = Some(self.queue.now() + OVERDUE);
        self.ask(id, Command::Commit { space, changes: vec![change] }, Asked::Commit(commit));
    }

    /// A commit is durable; if a client made it, the client knows it now.
    pub(super) fn on_mover_commit(&mut self, commit: CommitId, heads: &[(DocumentId, Vec<ChangeHash>)]) {
        let Some((client, path, generation)) = self.underway.remove(&commit) else { return };
        let keys = self.checks.keys_of(commit);
        let here = &mut self.movers[client];
        here.busy_until = None;
        let Some((_, heads)) = heads.first() else { return };
        let seen = here.bookmark.as_mut().map(|bookmark| bookmark.see(&path, generation, heads.iter().copied()));
        if matches!(seen, Some(Ok(()))) {
            here.learn(&path, generation, keys);
            self.checks.tally.session_writes += 1;
        }
    }

    fn on_mover_mark(&mut self, client: usize, path: &Path, bookmark: &Bookmark) {
        let here = &mut self.movers[client];
        let joined = here.bookmark.as_mut().is_some_and(|known| known.merge(bookmark).is_ok());
        let deleted = bookmark.documents().filter(|(_, _, seen)| seen.deleted).map(|(_, generation, _)| generation);
        if let Some(generation) = deleted.max().filter(|_| joined) {
            here.learn(path, generation + 1, BTreeSet::new());
        }
    }
}

impl Client {
    /// Later generations take the place of earlier ones.
    fn learn(&mut self, path: &Path, generation: u32, keys: BTreeSet<String>) {
        let known = self.known.entry(path.clone()).or_default();
        if known.generation < generation {
            *known = Known { generation, keys };
        } else if known.generation == generation {
            known.keys.extend(keys);
        }
    }

    /// What cannot come is given up at once; what does not come for long, with everything else.
    fn put_off(&mut self, missing: &Missing) {
        self.refusals += 1;
        let Some(bookmark) = &mut self.bookmark else { return };
        for document in missing.documents.iter().filter(|document| document.why == Why::Deleted) {
            bookmark.forget(&document.path);
            self.known.remove(&document.path);
        }
        if self.refusals >= GIVES_UP {
            (self.bookmark, self.refusals) = (None, 0);
            self.known.clear();
        }
    }
}

fn root_keys(value: &Value) -> BTreeSet<String> {
    let Value::Map(map) = value else { return BTreeSet::new() };
    let own = |key: &str| key.starts_with('n') && key.contains('e') && key[1..2].parse::<u8>().is_ok();
    map.keys().filter(|key| own(key)).map(|key| key.to_string()).collect()
}
