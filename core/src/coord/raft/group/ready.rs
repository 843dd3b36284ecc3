//! Between consensus and the world: takes what consensus has ready, writes, sends and applies it.

use std::sync::Arc;

use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry, Message, MessageType,
};
use raft::{RawNode, StateRole};

use super::super::entry::{LogEntry, Payload};
use super::super::log::{Log, Position};
use super::super::member::{Change, Member, MemberId};
use super::super::message::{self, Body, Header};
use super::super::rows::Snapshot;
use super::pen::Batch;
use super::{Group, Halt, Output};
use crate::coord::replicated::Replicated;

/// A change of the membership in consensus' own words.
pub(super) fn conf_change(change: &Change) -> ConfChangeV2 {
    let single = |kind, id: MemberId| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id.0;
        single
    };
    let mut conf = ConfChangeV2::default();
    conf.set_transition(ConfChangeTransition::Auto);
    let changes = match change {
        Change::AddLearner { id, .. } => vec![single(ConfChangeType::AddLearnerNode, *id)],
        Change::Promote { id } => vec![single(ConfChangeType::AddNode, *id)],
        Change::Remove { id } => vec![single(ConfChangeType::RemoveNode, *id)],
        // Two at once, so consensus goes through a joint configuration and leaves it by itself.
        Change::Replace { voter, learner } => {
            vec![single(ConfChangeType::AddNode, *learner), single(ConfChangeType::RemoveNode, *voter)]
        }
    };
    conf.set_changes(changes.into());
    conf
}

impl<M: Replicated> Group<M> {
    /// Works until there is nothing to do without new input.
    pub(super) fn advance(&mut self) {
        loop {
            let mut moved = self.drain();
            moved |= self.begin_reads();
            moved |= self.write();
            if !moved || self.halted.is_some() {
                break;
            }
        }
        self.update_role();
    }

    /// Takes what consensus has ready. Whether there was anything.
    fn drain(&mut self) -> bool {
        let Some(mut node) = self.node.take() else { return false };
        let mut moved = false;
        while self.halted.is_none() && node.has_ready() {
            moved = true;
            self.take_ready(&mut node);
        }
        self.node = Some(node);
        if moved {
            self.pin();
            self.update_role();
        }
        moved
    }

    fn take_ready(&mut self, node: &mut RawNode<Log>) {
        let mut ready = node.ready();
        if let Some(hard) = ready.hs() {
            self.pen.hard(hard);
        }
        if !ready.snapshot().is_empty() {
            let meta = ready.snapshot().get_metadata();
            let at = Position { index: meta.index, term: meta.term };
            node.mut_store().install(at, meta.get_conf_state().clone());
            match &self.snapshot {
                Some(snapshot) if snapshot.at == at => self.pen.install(snapshot.clone()),
                // Only a snapshot whose bytes are here is ever given to consensus.
                _ => return self.halt(Halt::Inconsistent),
            }
        }
        node.mut_store().append(ready.entries());
        self.pen.entries(ready.entries());
        let (early, held) = (ready.take_messages(), ready.take_persisted_messages());
        let (committed, reads) = (ready.take_committed_entries(), ready.take_read_states());
        self.pen.ready(ready.number());
        // From here on what was ready counts as on its way to the disk.
        node.advance_append_async(ready);
        self.send_all(node, early, held);
        reads.into_iter().for_each(|state| self.round_done(&state.request_ctx, state.index));
        if !committed.is_empty() {
            self.apply_all(node, committed);
        }
    }

    fn send_all(&mut self, node: &mut RawNode<Log>, mut early: Vec<Message>, mut held: Vec<Message>) {
        // Consensus walks its members in the order of a hash table; ours is the same on every machine.
        early.sort_by_key(|message| message.to);
        held.sort_by_key(|message| message.to);
        let may = !self.pen.has_term();
        for message in early {
            let may = may && message::may_precede_write(&message);
            self.send(node, message, may);
        }
        held.into_iter().for_each(|message| self.send(node, message, false));
    }

    fn send(&mut self, node: &mut RawNode<Log>, message: Message, now: bool) {
        let to = MemberId(message.to);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return self.offer(node, to);
        }
        let Some(member) = self.member(to) else { return };
        for body in message::from_raft(message) {
            let bytes = self.frame(to, member, &body);
            if now {
                self.out.push_back(Output::Send { to: member.peer, bytes });
            } else {
                self.pen.hold(member.peer, bytes);
            }
        }
    }

    /// Who an id is, from the log or from what it said of itself.
    pub(super) fn member(&self, id: MemberId) -> Option<Member> {
        self.membership.members.get(&id).or_else(|| self.newcomers.get(&id)).copied()
    }

    pub(super) fn frame(&self, to: MemberId, member: Member, body: &Body) -> Vec<u8> {
        let header = Header {
            generation: self.identity.generation,
            from: self.identity.id.expect("only a replica with an id has something to say"),
            from_store: self.identity.me.store,
            to,
            to_store: member.store,
        };
        message::encode(&header, body)
    }

    fn apply_all(&mut self, node: &mut RawNode<Log>, committed: Vec<Entry>) {
        for entry in committed {
            self.apply(node, entry);
            if self.halted.is_some() {
                return;
            }
        }
        node.advance_apply_to(self.applied.index);
        self.answer_reads();
        self.compact(node);
    }

    fn apply(&mut self, node: &mut RawNode<Log>, entry: Entry) {
        let at = Position { index: entry.index, term: entry.term };
        self.applied_bytes += LogEntry::weight(&entry);
        self.applied = at;
        match LogEntry::from_raft(&entry).map(|entry| entry.payload) {
            Some(Payload::Data(data)) if data.is_empty() => {}
            Some(Payload::Data(data)) => {
                let output = self.machine.apply(at.index, &data);
                self.out.push_back(Output::Applied { at, output });
            }
            Some(Payload::Change(change)) if self.membership.allows(&change) => {
                self.change_to(node, Some(&change), &conf_change(&change));
            }
            Some(Payload::Leave) if self.membership.is_joint() => self.change_to(node, None, &ConfChangeV2::default()),
            Some(Payload::Change(_) | Payload::Leave) => {}
            None => self.halt(Halt::Inconsistent),
        }
    }

    fn change_to(&mut self, node: &mut RawNode<Log>, change: Option<&Change>, conf: &ConfChangeV2) {
        match node.apply_conf_change(conf) {
            Ok(sets) => {
                self.membership.follow(change, &sets);
                let members = &self.membership.members;
                if !self.identity.id.is_some_and(|id| members.contains_key(&id)) && self.farewell.removed_at == 0 {
                    self.farewell.removed_at = self.applied.index;
                }
                self.newcomers.retain(|id, _| !members.contains_key(id));
                self.outgoing.retain(|id, _| members.contains_key(id));
                self.out.push_back(Output::Membership(self.membership.clone()));
            }
            Err(_) => self.halt(Halt::Inconsistent),
        }
    }

    /// Takes a snapshot when enough was applied since the last one.
    fn compact(&mut self, node: &mut RawNode<Log>) {
        let since = self.applied.index - node.store().snapshot_at().index;
        let due =
            since >= self.config.compact_entries || (since > 0 && self.applied_bytes >= self.config.compact_bytes);
        if due {
            self.take_snapshot(node);
        }
    }

    /// Takes a snapshot of the own state, and drops what it stands for, except a tail for followers that are a little
    /// behind.
    pub(super) fn take_snapshot(&mut self, node: &mut RawNode<Log>) {
        if self.pen.has_install() {
            return;
        }
        let snapshot = Arc::new(Snapshot::new(self.applied, &self.membership, &self.machine.snapshot()));
        self.counters.snapshots_taken += 1;
        self.applied_bytes = 0;
        let log = node.mut_store();
        log.snapshot_taken(self.applied, self.membership.conf_state());
        // What a snapshot on its way stands before is needed right after it.
        let sent = self.outgoing.values().map(|outgoing| outgoing.at().index).min().unwrap_or(u64::MAX);
        log.compact(self.applied.index.saturating_sub(self.config.keep_entries).min(sent));
        while log.bytes() > 2 * self.config.compact_bytes && log.base().index < self.applied.index {
            log.compact(log.base().index + 1);
        }
        let base = log.base().index;
        self.pen.compact(snapshot.clone(), base);
        self.snapshot = Some(snapshot);
    }

    /// Starts the next write, or lets go what needs none. Whether something was let go.
    fn write(&mut self) -> bool {
        if let Some(batch) = self.pen.take_free() {
            self.complete(batch);
            return true;
        }
        let log = self.node.as_ref().map(|node| node.store());
        let Some((ticket, writes)) = self.pen.take_write(&self.identity, log, self.snapshot.as_deref()) else {
            return false;
        };
        self.counters.writes += 1;
        self.out.push_back(Output::Persist { ticket, writes });
        #[cfg(any(test, feature = "sim"))]
        if self.config.planted == Some(super::super::sim::Planted::SendBeforeFsync) {
            return self.persisted(ticket);
        }
        false
    }

    /// What a batch held is durable.
    pub(super) fn complete(&mut self, batch: Batch) {
        self.out.extend(batch.messages.into_iter().map(|(to, bytes)| Output::Send { to, bytes }));
        // Consensus looks itself up among its members here, and aborts where a leader applied its own removal.
        if self.is_stopped() {
            return;
        }
        let Some(node) = &mut self.node else { return };
        if batch.number > 0 {
            node.on_persist_ready(batch.number);
        }
        // A snapshot that was installed counts as applied only now: consensus asks for both.
        let log = &node.raft.raft_log;
        if log.applied < self.applied.index && self.applied.index <= log.committed.min(log.persisted) {
            node.advance_apply_to(self.applied.index);
        }
    }

    /// Consensus leaves a joint configuration by itself unless leadership changed at the wrong moment.
    pub(super) fn leave_joint(&mut self) {
        let joint = self.membership.is_joint();
        let Some(node) = &mut self.node else { return };
        if joint && node.raft.state == StateRole::Leader && !node.raft.has_pending_conf() {
            // Refused where it comes too early; the next tick tries again.
            let _ = node.propose_conf_change(Vec::new(), ConfChangeV2::default());
            self.pin();
        }
    }
}
