//! The local program of a simulated node: random edits, and what it does with the answers.
//!
//! Every edit writes one root key that no other edit ever writes, `n<node>e<number>`. Such keys never conflict, so an
//! acknowledged edit is there exactly when its key is, and the checkers need to know nothing of changes and heads. Beside
//! the key an edit does something that may conflict: it types, counts, pushes, overwrites.

mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{CommitId, DeleteId, Violation};
use super::cluster::{Cluster, Happening};
use super::network::NodeId;
use super::node::Standing;
use crate::document::hot::HotCell;
use crate::engine::{Command, CommandError, Event, MAX_LIST, Reply};
use crate::id::{ChangeHash, DocumentId, Path, Prefix};
use crate::io::{Input, RequestId};

pub use edits::template;

/// An open document.
pub(super) struct Handle {
    pub(super) document: DocumentId,
    pub(super) generation: u32,
    pub(super) cell: HotCell,
}

/// What a command was for. The trace prints all of it.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "some fields are for the trace alone")]
pub(super) enum Asked {
    Found,
    Invite(NodeId),
    Join,
    /// The generation that the path had reached when it was asked for.
    Open(Path, u32),
    Commit(CommitId),
    Read(Path),
    List,
    Survey,
    Inspect(Path),
    Delete(Path, DeleteId),
    Interest(Vec<Prefix>),
    Synced {
        commit: CommitId,
        document: DocumentId,
        peers: usize,
    },
    Cancel,
    /// A client that moves asked for it.
    Mover {
        client: usize,
        serial: u64,
        request: super::movers::Request,
    },
    Close {
        down: Duration,
    },
    Status,
    SoftSet(Path, String),
    SoftDelete(Path),
    SoftList {
        survey: bool,
    },
    Publish(Path),
    Revoke(NodeId, crate::engine::Keep),
    Rotate,
    Nothing,
}

/// What a process's program holds; gone with the process.
#[derive(Default)]
pub struct Program {
    pub(super) handles: BTreeMap<Path, Handle>,
    pub(super) asked: BTreeMap<RequestId, Asked>,
    /// Documents of which a commit was refused: what was edited on top of it will be, too.
    pub(super) refused: BTreeSet<DocumentId>,
    pub(super) closing: bool,
}

impl Cluster {
    /// Gives a command and remembers what it was for.
    pub(super) fn ask(&mut self, id: NodeId, command: Command, asked: Asked) -> Option<RequestId> {
        self.process(id).filter(|p| p.identity.is_some() && !p.program.closing)?;
        let closes = matches!(asked, Asked::Close { .. });
        self.note(format_args!("n{} asks {asked:?}", id.0));
        let request = self.command(id, command)?;
        let program = &mut self.process(id)?.program;
        program.asked.insert(request, asked);
        program.closing |= closes;
        Some(request)
    }

    /// The store is open: make or join the space, or go on working in it.
    pub(super) fn begin_program(&mut self, id: NodeId) {
        let node = self.node(id);
        let Some(life) = node.process.as_ref().map(|p| p.life) else { return };
        match (&node.standing, node.joined, &node.invitation) {
            (Standing::Stranger, false, _) => {
                self.ask(id, Command::CreateSpace { name: "own".to_owned() }, Asked::Nothing);
                self.node_mut(id).joined = false;
            }
            (Standing::Founder, false, _) => {
                self.ask(id, Command::CreateSpace { name: "sim".to_owned() }, Asked::Found);
            }
            (Standing::Founder, true, _) => self.invite_all(id),
            (Standing::Member { .. }, false, Some(text)) => {
                let command = Command::Join { invitation: text.clone(), name: None };
                self.ask(id, command, Asked::Join);
            }
            _ => {}
        }
        if self.node(id).joined {
            self.restate_interests(id);
        }
        self.schedule_act(id, life);
    }

    fn invite_all(&mut self, founder: NodeId) {
        let Some(space) = self.space else { return };
        let waiting: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.invitation.is_none())
            .filter_map(|node| match &node.standing {
                Standing::Member { role, prefix } => Some((node.id, *role, prefix.clone())),
                _ => None,
            })
            .collect();
        for (guest, role, prefix) in waiting {
            let command = Command::Invite { space, role, prefix, not_after: None, addresses: Vec::new() };
            self.ask(founder, command, Asked::Invite(guest));
        }
    }

    /// A node with interests says so once it is in the space, in case the last time was not durable.
    fn restate_interests(&mut self, id: NodeId) {
        let (Some(space), Some(prefixes)) = (self.space, self.node(id).interests.clone()) else { return };
        self.ask(id, Command::Interest { space, prefixes: prefixes.clone() }, Asked::Interest(prefixes));
    }

    pub(super) fn schedule_act(&mut self, id: NodeId, life: u64) {
        let pace = self.scenario.pace;
        let after = self.program_dice.span(pace / 8, pace * 2);
        self.queue.at(self.queue.now() + after, Happening::Act(id, life));
    }

    /// One step of the local program.
    pub(super) fn act(&mut self, id: NodeId, life: u64) {
        let stormy = self.stormy;
        let Some(process) = self.process(id).filter(|p| p.life == life) else { return };
        if !stormy || process.program.closing {
            return;
        }
        self.schedule_act(id, life);
        let node = self.node(id);
        if !node.joined || self.space.is_none() || node.standing == Standing::Stranger {
            return;
        }
        let Some(path) = self.choose_path(id) else { return };
        if self.scenario.soft_per_mille > 0 && self.program_dice.chance(self.scenario.soft_per_mille) {
            return self.act_soft(id, &path);
        }
        if self.scenario.topics_per_mille > 0 && self.program_dice.chance(self.scenario.topics_per_mille) {
            return self.act_topic(id, &path);
        }
        match self.program_dice.below(100) {
            0..58 => self.edit(id, &path),
            58..66 => self.edit_batch(id),
            66..70 => self.delete(id, &path),
            70..74 => self.ask_read(id, path),
            74..78 => self.ask_list(id),
            78..82 => self.forget_handle(id, &path),
            82..86 => self.change_interests(id),
            86..88 => self.cancel_something(id),
            88..90 => drop(self.ask(id, Command::Reconcile, Asked::Nothing)),
            90..92 => drop(self.ask(id, Command::Compact, Asked::Nothing)),
            _ => self.open(id, path),
        }
    }

    /// A path that this node replicates at present.
    fn choose_path(&mut self, id: NodeId) -> Option<Path> {
        let node = self.node(id);
        let paths: Vec<Path> = self.scenario.paths.iter().filter(|path| node.replicates(path)).cloned().collect();
        self.program_dice.pick(&paths).cloned()
    }

    pub(super) fn open(&mut self, id: NodeId, path: Path) {
        let Some(space) = self.space else { return };
        let floor = self.checks.floor(id, &path);
        let command = Command::Open { space, path: path.clone(), template: template() };
        self.ask(id, command, Asked::Open(path, floor));
    }

    fn forget_handle(&mut self, id: NodeId, path: &Path) {
        if let Some(process) = self.process(id) {
            process.program.handles.remove(path);
        }
    }

    fn ask_read(&mut self, id: NodeId, path: Path) {
        if let Some(space) = self.space {
            self.ask(id, Command::Read { space, path: path.clone() }, Asked::Read(path));
        }
    }

    fn ask_list(&mut self, id: NodeId) {
        let Some(space) = self.space else { return };
        let command = Command::List { space, prefix: Prefix::root(), after: None, limit: MAX_LIST };
        self.ask(id, command, Asked::List);
    }

    fn delete(&mut self, id: NodeId, path: &Path) {
        let Some(space) = self.space else { return };
        if !self.node(id).standing.writes(path) || !self.program_dice.chance(self.scenario.deletes_per_mille) {
            return;
        }
        let record = self.checks.on_delete_asked(id, path);
        let command = Command::Delete { space, path: path.clone() };
        if self.ask(id, command, Asked::Delete(path.clone(), record)).is_some() {
            self.forget_handle(id, path);
        }
    }

    fn change_interests(&mut self, id: NodeId) {
        let Some(space) = self.space else { return };
        if !self.scenario.changing_interests || self.node(id).standing == Standing::Founder {
            return;
        }
        let choices = self.scenario.prefixes.clone();
        let prefixes: Vec<Prefix> = choices.into_iter().filter(|_| self.program_dice.chance(500)).collect();
        let node = self.node_mut(id);
        // From here on the engine may hold either; what it ever wanted only grows.
        node.wanted.extend(prefixes.iter().cloned());
        node.interests = Some(prefixes.clone());
        self.checks.on_interests(id);
        self.ask(id, Command::Interest { space, prefixes: prefixes.clone() }, Asked::Interest(prefixes));
    }

    fn cancel_something(&mut self, id: NodeId) {
        let Some(process) = self.process(id) else { return };
        let waiting = process.program.asked.iter().find(|(_, asked)| matches!(asked, Asked::Synced { .. }));
        if let Some(target) = waiting.map(|(request, _)| *request) {
            self.ask(id, Command::Cancel { target }, Asked::Cancel);
        }
    }

    pub(super) fn on_reply(&mut self, id: NodeId, life: u64, request: RequestId, result: Result<Reply, CommandError>) {
        let node = self.node_mut(id);
        let process = [&mut node.process, &mut node.ghost].into_iter().flatten().find(|p| p.life == life);
        let Some(process) = process else { return };
        let Some(asked) = process.program.asked.remove(&request) else {
            return self.checks.fail(Violation::Contract { node: id, what: "a command was answered twice" });
        };
        match &result {
            Ok(reply) => self.note(format_args!("n{} {asked:?}: {}", id.0, outline(reply))),
            Err(error) => self.note(format_args!("n{} {asked:?}: {error}", id.0)),
        }
        match result {
            Ok(reply) => self.on_success(id, life, asked, reply),
            Err(error) => self.on_refusal(id, life, asked, &error),
        }
    }

    fn on_success(&mut self, id: NodeId, life: u64, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Found, Reply::Space(space)) => {
                self.space = Some(space.id);
                self.node_mut(id).joined = true;
                self.invite_all(id);
            }
            (Asked::Invite(guest), Reply::Invitation(text)) => {
                self.node_mut(guest).invitation = Some(text);
                if self.node(guest).is_open() && !self.node(guest).joined {
                    self.begin_program(guest);
                }
            }
            (Asked::Join, Reply::Space(_)) => {
                self.node_mut(id).joined = true;
                self.restate_interests(id);
            }
            (Asked::Open(path, floor), Reply::Document { document, generation, cell }) => {
                self.checks.on_opened(id, &path, generation, floor);
                if let Some(process) = self.process(id).filter(|p| p.life == life) {
                    process.program.refused.remove(&document);
                    process.program.handles.insert(path.clone(), Handle { document, generation, cell });
                    if self.stormy {
                        self.edit(id, &path);
                    }
                }
            }
            (Asked::Inspect(path), Reply::Document { generation, cell, .. }) => {
                self.checks.on_inspected(id, &path, generation, &cell);
            }
            (Asked::Commit(commit), Reply::Committed(heads)) => {
                self.checks.on_acknowledged(commit);
                self.on_mover_commit(commit, &heads);
                self.after_commit(id, commit, heads);
            }
            (Asked::Read(path), Reply::Value(value)) => self.checks.on_read(id, &path, value.map(|(value, _)| value)),
            (Asked::Inspect(path), Reply::Value(value)) => self.checks.on_read(id, &path, value.map(|(v, _)| v)),
            (Asked::List, Reply::List { items, .. }) => self.checks.on_list(id, &items),
            (Asked::Survey, Reply::List { items, .. }) => {
                self.checks.on_list(id, &items);
                self.checks.on_survey(id, items);
            }
            (Asked::Delete(_, record), Reply::Deleted(there)) => self.checks.on_deleted(record, there),
            (Asked::Mover { client, serial, request }, reply) => {
                self.on_mover_reply(id, client, serial, request, reply);
            }
            (Asked::Synced { commit, document, peers }, Reply::Done) => {
                self.check_synced(id, commit, document, peers);
            }
            (Asked::Close { down }, Reply::Done) => self.closed(id, life, down),
            (Asked::Status, Reply::Status(report)) => self.checks.on_status(id, &report, &self.scenario),
            (Asked::SoftSet(path, value), Reply::SoftWritten { .. }) => self.on_soft_written(id, path, value),
            (Asked::SoftDelete(path), Reply::Deleted(there)) => self.on_soft_deleted(id, &path, there),
            (Asked::SoftList { survey }, Reply::SoftList { items, .. }) => self.on_soft_list(id, items, survey),
            (Asked::Publish(path), Reply::Published { .. }) => self.on_published(id, &path),
            (Asked::Revoke(of, keep), Reply::Revoked(_)) => self.on_revoked(id, of, keep),
            (Asked::Interest(_) | Asked::Cancel | Asked::Rotate | Asked::Nothing, _) => {}
            (asked, reply) => {
                let what = format!("{asked:?} was answered with {}", outline(&reply));
                self.checks.fail(Violation::WrongReply { node: id, what });
            }
        }
    }

    fn after_commit(&mut self, id: NodeId, commit: CommitId, heads: Vec<(DocumentId, Vec<ChangeHash>)>) {
        let Some(space) = self.space else { return };
        let others = self.nodes.len() as u64 - 1;
        if self.stormy && others > 0 && self.program_dice.chance(80) {
            let Some((document, heads)) = heads.into_iter().next() else { return };
            let peers = self.program_dice.between(1, others.min(2)) as usize;
            let asked = Asked::Synced { commit, document, peers };
            self.ask(id, Command::Synced { space, document, heads, peers }, asked);
        }
    }

    fn on_refusal(&mut self, id: NodeId, life: u64, asked: Asked, error: &CommandError) {
        match asked {
            Asked::Commit(commit) => {
                let documents = self.checks.on_refused(commit);
                let Some(process) = self.process(id).filter(|p| p.life == life) else { return };
                let follows = documents.iter().any(|document| process.program.refused.contains(document));
                process.program.refused.extend(&documents);
                process.program.handles.retain(|_, handle| !documents.contains(&handle.document));
                let fair = match error {
                    CommandError::Deleted(_)
                    | CommandError::Storage(_)
                    | CommandError::Closed
                    | CommandError::Busy { .. } => true,
                    CommandError::Denied { .. } => self.checks.is_denied(commit, &self.nodes),
                    CommandError::Revoked { .. } => self.checks.standing.revoked.contains(&id),
                    // What it stood on may have left.
                    _ => follows || self.scenario.judges(),
                };
                if !fair {
                    let what = format!("a commit was refused: {error}");
                    self.checks.fail(Violation::WrongReply { node: id, what });
                }
            }
            Asked::Found | Asked::Join | Asked::Interest(_) => {
                // Not durable: say it again later.
                if matches!(error, CommandError::Invalid { .. } | CommandError::UnknownSpace(_)) {
                    let what = format!("{asked:?} was refused: {error}");
                    return self.checks.fail(Violation::WrongReply { node: id, what });
                }
                self.crash(id, Duration::from_secs(1));
            }
            Asked::Delete(_, record) => self.checks.on_delete_refused(record),
            Asked::Mover { client, serial, .. } => self.on_mover_refusal(id, client, serial, error),
            Asked::Close { down } => {
                self.crash(id, down);
            }
            Asked::Open(path, _) if self.scenario.honest() && matches!(error, CommandError::Quarantined(_)) => {
                let what = format!("{path} is quarantined though everybody is honest");
                self.checks.fail(Violation::WrongReply { node: id, what });
            }
            _ => {}
        }
    }

    fn closed(&mut self, id: NodeId, life: u64, down: Duration) {
        let now = self.queue.now();
        let node = self.node_mut(id);
        if node.process.as_ref().is_some_and(|p| p.life == life) {
            if let Some(process) = node.process.take() {
                self.checks.on_crash(id, &process.program);
                self.soft.on_death(id, life, now);
            }
            self.put_fork_aside(id);
            self.drop_ends(id);
            self.queue.at(now + down, Happening::Start(id));
        }
    }

    pub(super) fn on_notification(&mut self, id: NodeId, life: u64, event: Event) {
        match event {
            Event::DocumentChanged { path, deleted, remote, .. } => {
                self.note(format_args!("n{} changed {path} deleted {deleted} remote {remote}", id.0));
                if deleted && let Some(process) = self.process(id).filter(|p| p.life == life) {
                    process.program.handles.remove(&path);
                }
            }
            Event::Quarantined { path, hidden, .. } => {
                self.note(format_args!("n{} quarantined {path}: {} hidden", id.0, hidden.len()));
                if self.scenario.honest() {
                    let what = format!("{path} is quarantined though everybody is honest");
                    self.checks.fail(Violation::WrongReply { node: id, what });
                }
            }
            Event::InStep { stats, .. } => {
                self.note(format_args!("n{} in step: {stats:?}", id.0));
                self.checks.on_in_step(&stats);
            }
            Event::Joined { device, .. } => {
                self.note(format_args!("n{} meets {device:?}", id.0));
                self.checks.on_met(id, &device, &self.nodes);
            }
            Event::Evicted { path, changes, .. } => {
                self.note(format_args!("n{} evicted {} changes of {path}", id.0, changes.len()));
                self.checks.on_evicted(id, changes, self.scenario.judges());
            }
            Event::Refused { path, why, .. } => self.note(format_args!("n{} refused a change of {path}: {why}", id.0)),
            Event::SoftChanged { event, .. } => self.on_soft_event(id, life, &event),
            Event::Signalled { event, .. } => self.on_signal(id, life, &event),
            Event::StorageTrouble(trouble) => self.note(format_args!("n{} storage trouble: {trouble:?}", id.0)),
            _ => {}
        }
    }

    /// The frozen former host goes on, believing that the store is its own.
    pub(super) fn act_as_ghost(&mut self, id: NodeId) {
        if !self.node(id).is_open() {
            // Nobody has taken over yet: it would be right to go on.
            return;
        }
        let path = self.scenario.paths.first().cloned();
        let Some(life) = self.node(id).ghost.as_ref().map(|ghost| ghost.life) else { return };
        self.note(format_args!("n{} ghost of life {life} goes on", id.0));
        self.feed(id, life, Input::Wake);
        if let Some(path) = path {
            self.edit_as_ghost(id, &path);
        }
    }
}

/// A reply in few words.
fn outline(reply: &Reply) -> String {
    match reply {
        Reply::Document { document, generation, .. } => format!("{document:?} generation {generation}"),
        Reply::Committed(heads) => format!("committed {heads:?}"),
        Reply::Value(value) => format!("value {}", value.is_some()),
        Reply::List { items, .. } => {
            let bytes: Vec<u8> = items.iter().flat_map(|item| item.heads.iter().flat_map(|head| head.0)).collect();
            format!("{} documents {}", items.len(), super::trace::short(&bytes))
        }
        Reply::Status(_) => "status".to_owned(),
        Reply::Invitation(_) => "invitation".to_owned(),
        Reply::Read { value, bookmark } => format!("value {} {bookmark:?}", value.is_some()),
        other => format!("{other:?}"),
    }
}
