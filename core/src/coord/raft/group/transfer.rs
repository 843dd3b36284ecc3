//! Snapshots on their way: offered, asked for, sent in chunks, resumed where they stopped.
//!
//! Consensus thinks of a snapshot as one message. Here the leader *offers* it (place, size, hash), the follower says up to
//! where it has it, and the leader sends chunks up to [`WINDOW_BYTES`] ahead of that. A machine's snapshot is the same bytes
//! on every replica at the same index, so what came from one leader goes on from the next if that offers the same hash.
//! Only when all of it is there, its hash holds and the machine has taken it, consensus is told.

use std::sync::Arc;

use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

use super::super::log::{Log, Position};
use super::super::member::MemberId;
use super::super::message::{Body, CHUNK_BYTES};
use super::super::rows::Snapshot;
use super::{Group, Halt, Output};
use crate::coord::replicated::Replicated;

/// Bytes of a snapshot that may be on their way to one follower.
pub const WINDOW_BYTES: u64 = 4 * CHUNK_BYTES as u64;

/// Heartbeats without a word from the follower after which the offer is repeated, and times that it is.
const REPEAT_HEARTBEATS: usize = 4;
const MAX_REPEATS: u32 = 20;

#[derive(Debug)]
pub(super) struct Outgoing {
    snapshot: Arc<Snapshot>,
    had: u64,
    sent: u64,
    idle: usize,
    repeats: u32,
}

impl Outgoing {
    pub(super) fn at(&self) -> Position {
        self.snapshot.at
    }
}

#[derive(Debug)]
pub(super) struct Incoming {
    from: MemberId,
    term: u64,
    at: Position,
    size: u64,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

impl<M: Replicated> Group<M> {
    /// Consensus wants a member to have the newest snapshot.
    pub(super) fn offer(&mut self, node: &mut RawNode<Log>, to: MemberId) {
        // A snapshot that does not name its receiver is not taken by it: a newcomer needs one of after it was added.
        let names =
            |snapshot: &Snapshot| Snapshot::parse(&snapshot.bytes).is_ok_and(|(of, _)| of.members.contains_key(&to));
        if !self.snapshot.as_deref().is_some_and(names) {
            self.take_snapshot(node);
        }
        let Some(snapshot) = self.snapshot.clone() else { return };
        self.send_offer(node.raft.term, to, &snapshot);
        self.outgoing.insert(to, Outgoing { snapshot, had: 0, sent: 0, idle: 0, repeats: 0 });
    }

    fn send_offer(&mut self, term: u64, to: MemberId, snapshot: &Snapshot) {
        let size = snapshot.bytes.len() as u64;
        self.say(to, &Body::Offer { term, at: snapshot.at, size, hash: snapshot.hash });
    }

    /// Nothing here depends on a write: a snapshot is committed, and a follower's progress with one is a promise of nothing.
    fn say(&mut self, to: MemberId, body: &Body) {
        if let Some(member) = self.member(to) {
            let bytes = self.frame(to, member, body);
            self.out.push_back(Output::Send { to: member.peer, bytes });
        }
    }

    pub(super) fn on_want(&mut self, from: MemberId, index: u64, offset: u64) {
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        let size = outgoing.snapshot.bytes.len() as u64;
        if outgoing.snapshot.at.index != index || offset > size {
            return;
        }
        if offset < outgoing.had {
            // It was restarted, or lost a chunk.
            outgoing.sent = offset;
        }
        (outgoing.had, outgoing.sent, outgoing.idle) = (offset, outgoing.sent.max(offset), 0);
        outgoing.repeats = 0;
        let snapshot = outgoing.snapshot.clone();
        let begin = outgoing.sent;
        let end = size.min(offset + WINDOW_BYTES);
        outgoing.sent = end.max(begin);
        let mut offset = begin;
        while offset < end {
            let to = end.min(offset + CHUNK_BYTES as u64);
            let bytes = snapshot.bytes[offset as usize..to as usize].to_vec();
            self.say(from, &Body::Chunk { index, offset, bytes });
            offset = to;
        }
    }

    pub(super) fn on_unfit(&mut self, from: MemberId, index: u64) {
        if self.outgoing.get(&from).is_some_and(|outgoing| outgoing.snapshot.at.index == index) {
            self.give_up(from);
        }
    }

    /// Consensus tries again by itself, after a heartbeat.
    fn give_up(&mut self, to: MemberId) {
        self.outgoing.remove(&to);
        if let Some(node) = &mut self.node {
            node.report_snapshot(to.0, SnapshotStatus::Failure);
            self.pin();
        }
    }

    pub(super) fn tick_transfers(&mut self) {
        let Some(node) = &self.node else { return };
        if node.raft.state != StateRole::Leader {
            return self.outgoing.clear();
        }
        let term = node.raft.term;
        let progress = node.raft.prs();
        self.outgoing.retain(|id, _| progress.get(id.0).is_some_and(|of| of.state == ProgressState::Snapshot));
        let patience = REPEAT_HEARTBEATS * self.config.heartbeat;
        let late: Vec<(MemberId, Arc<Snapshot>, u32)> = self
            .outgoing
            .iter_mut()
            .filter_map(|(id, outgoing)| {
                outgoing.idle += 1;
                if outgoing.idle < patience {
                    return None;
                }
                (outgoing.idle, outgoing.sent) = (0, outgoing.had);
                outgoing.repeats += 1;
                Some((*id, outgoing.snapshot.clone(), outgoing.repeats))
            })
            .collect();
        for (id, snapshot, repeats) in late {
            if repeats > MAX_REPEATS { self.give_up(id) } else { self.send_offer(term, id, &snapshot) }
        }
    }

    pub(super) fn on_offer(&mut self, from: MemberId, term: u64, at: Position, size: u64, hash: [u8; 32]) {
        let Some(node) = &self.node else { return };
        if term < node.raft.term {
            return;
        }
        let log = &node.raft.raft_log;
        let matches = log.match_term(at.index, at.term);
        if at.index <= log.committed || matches {
            // Consensus knows what to say to a snapshot that is not needed, and takes what it stands for as committed where
            // the log has that. It looks for itself among its members first, and says nothing new otherwise: the leader would
            // offer it for ever. One that contradicts what is committed must not name it: consensus would take it.
            self.incoming = None;
            let mut conf = raft::eraftpb::ConfState::default();
            conf.voters.extend(self.identity.id.map(|id| id.0).filter(|_| matches));
            return self.step_snapshot(from, term, at, conf);
        }
        if size > self.config.snapshot_bytes as u64 || at.index == 0 {
            self.counters.snapshots_refused += 1;
            return self.say(from, &Body::Unfit { index: at.index });
        }
        let same = |had: &Incoming| had.at == at && had.hash == hash && had.size == size;
        let bytes = self.incoming.take_if(|had| same(had)).map(|had| had.bytes).unwrap_or_default();
        let offset = bytes.len() as u64;
        self.incoming = Some(Incoming { from, term, at, size, hash, bytes });
        self.say(from, &Body::Want { index: at.index, offset });
    }

    pub(super) fn on_chunk(&mut self, from: MemberId, index: u64, offset: u64, bytes: &[u8]) {
        let Some(incoming) = self.incoming.as_mut().filter(|had| had.from == from && had.at.index == index) else {
            return;
        };
        let had = incoming.bytes.len() as u64;
        if offset > had {
            return self.say(from, &Body::Want { index, offset: had });
        }
        if offset < had || bytes.is_empty() || had + bytes.len() as u64 > incoming.size {
            return;
        }
        // Grows with what came, not with what was promised.
        incoming.bytes.extend_from_slice(bytes);
        let offset = incoming.bytes.len() as u64;
        if offset < incoming.size {
            return self.say(from, &Body::Want { index, offset });
        }
        if let Some(whole) = self.incoming.take() {
            self.install(whole);
        }
    }

    fn install(&mut self, whole: Incoming) {
        let Incoming { from, term, at, hash, bytes, .. } = whole;
        let Some(node) = &self.node else { return };
        let log = &node.raft.raft_log;
        // The same questions that consensus asks: what it would not take must not reach the machine.
        let stale = term < node.raft.term || (term == node.raft.term && node.raft.state == StateRole::Leader);
        if stale || at.index <= log.committed || log.match_term(at.index, at.term) {
            return;
        }
        let me = self.identity.id;
        let parsed = (*blake3::hash(&bytes).as_bytes() == hash).then(|| Snapshot::parse(&bytes).ok()).flatten();
        let ours = parsed.filter(|(membership, _)| {
            membership.generation == self.identity.generation
                && me.is_some_and(|id| membership.members.contains_key(&id))
        });
        let taken = ours.and_then(|(membership, machine)| self.machine.restore(machine).ok().map(|()| membership));
        let Some(membership) = taken else {
            self.counters.snapshots_refused += 1;
            return self.say(from, &Body::Unfit { index: at.index });
        };
        self.counters.snapshots_installed += 1;
        let conf = membership.conf_state();
        self.membership = membership;
        let members = &self.membership.members;
        self.newcomers.retain(|id, _| !members.contains_key(id));
        self.applied = at;
        self.applied_bytes = 0;
        self.snapshot = Some(Arc::new(Snapshot { at, bytes, hash }));
        self.out.push_back(Output::Installed { at });
        self.out.push_back(Output::Membership(self.membership.clone()));
        self.step_snapshot(from, term, at, conf);
        let staged = self.node.as_ref().and_then(|node| node.snap()).map(|snapshot| snapshot.get_metadata().index);
        if staged != Some(at.index) {
            return self.halt(Halt::Inconsistent);
        }
        self.answer_reads();
    }

    fn step_snapshot(&mut self, from: MemberId, term: u64, at: Position, conf: raft::eraftpb::ConfState) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = from.0;
        message.to = self.identity.id.map_or(0, |id| id.0);
        message.term = term;
        let meta = message.mut_snapshot().mut_metadata();
        (meta.index, meta.term) = (at.index, at.term);
        meta.set_conf_state(conf);
        if let Some(node) = &mut self.node {
            // An unneeded one is answered with what is committed here.
            let _ = node.step(message);
        }
        self.pin();
    }
}
