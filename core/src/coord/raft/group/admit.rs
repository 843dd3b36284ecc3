//! What may be stepped. Consensus trusts its peers: it aborts on a commit index beyond its log, on an entry whose term is
//! missing, on a leader's command at the wrong moment. Everything is checked here first.

use raft::StateRole;
use thiserror::Error;

use super::super::member::{MAX_MEMBERS, Member, MemberId};
use super::super::message::{self, Body, Header};
use super::Group;
use crate::coord::replicated::Replicated;
use crate::id::PeerId;
use crate::wire::DecodeError;

/// Rounds of reads that a leader keeps for itself and its followers. Each has one under way, and begins another when that
/// is late; a leader without a quorum is deposed long before it keeps this many.
const MAX_ROUNDS: usize = 1_024;

/// Why a frame was not taken. Nothing has changed. Frames that the network delayed or doubled are refused in honest groups
/// too; only [`Refused::Malformed`], [`Refused::Impostor`] and [`Refused::SecondLeader`] never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not a frame.
    #[error("not a frame: {0}")]
    Malformed(#[from] DecodeError),
    /// For another life of the group, or another group.
    #[error("the frame is for generation {theirs}, this store is in {ours}")]
    Generation {
        /// The frame's.
        theirs: u64,
        /// This store's.
        ours: u64,
    },
    /// For another store or id than this one: one that was lost, most likely.
    #[error("the frame is for another member than this one")]
    Recipient,
    /// The link's peer is not who the frame says.
    #[error("the frame names a member that is not the peer on this link")]
    Impostor,
    /// The sender was removed from the group.
    #[error("the sender is not a member any more")]
    Removed,
    /// More unknown members spoke than a group may have.
    #[error("too many members speak that the log does not name yet")]
    TooManyNewcomers,
    /// It speaks of entries that this log cannot have: the sender remembers an acknowledgement that this store forgot, or
    /// lies.
    #[error("the frame speaks of index {index}, the log ends at {last}")]
    BeyondLog {
        /// The index.
        index: u64,
        /// The last of this log.
        last: u64,
    },
    /// Another member leads this term.
    #[error("the term has another leader")]
    SecondLeader,
    /// A command of somebody who does not lead.
    #[error("the sender does not lead")]
    NotLeader,
    /// A command that has to wait for this replica's disk, or for the rounds of reads before it.
    #[error("this replica is not that far yet")]
    Busy,
    /// A response from one that is not in the configuration.
    #[error("no such member in the configuration")]
    NotConfigured,
    /// The replica stopped or was removed.
    #[error("this replica has stopped")]
    Stopped,
}

impl<M: Replicated> Group<M> {
    pub(super) fn take_message(&mut self, from: PeerId, bytes: &[u8]) -> Result<(), Refused> {
        let (header, body) = message::decode(bytes)?;
        let known = self.check_header(from, &header);
        if known == Err(Refused::Removed) && self.identity.id.is_some() && body != Body::Gone {
            // It may not know, and would ask for votes for ever.
            let sender = Member { peer: from, store: header.from_store };
            let bytes = self.frame(header.from, sender, &Body::Gone);
            self.out.push_back(super::Output::Send { to: from, bytes });
        }
        known?;
        if self.node.is_some() {
            self.check_body(header.from, &body)?;
        } else {
            // Only a leader that speaks to a newcomer gives it its id; a late answer or a vote does not.
            if !matches!(body, Body::Append { .. } | Body::Heartbeat { .. }) {
                return Err(Refused::NotLeader);
            }
            self.adopt(header.to);
            self.check_body(header.from, &body)?;
        }
        self.note_newcomer(from, &header)?;
        match body {
            Body::Offer { term, at, size, hash } => self.on_offer(header.from, term, at, size, hash),
            Body::Want { index, offset } => self.on_want(header.from, index, offset),
            Body::Chunk { index, offset, bytes } => self.on_chunk(header.from, index, offset, &bytes),
            Body::Unfit { index } => self.on_unfit(header.from, index),
            Body::Gone => {
                self.gone = true;
                self.update_role();
            }
            body => return self.step(&header, body),
        }
        self.pin();
        Ok(())
    }

    fn step(&mut self, header: &Header, body: Body) -> Result<(), Refused> {
        let Some(node) = &mut self.node else { return Err(Refused::Stopped) };
        let Some(message) = message::into_raft(header, body) else { return Ok(()) };
        let result = node.step(message).map_err(|_| Refused::NotConfigured);
        self.pin();
        result
    }

    pub(super) fn check_header(&self, from: PeerId, header: &Header) -> Result<(), Refused> {
        let ours = self.identity.generation;
        if header.generation != ours {
            return Err(Refused::Generation { theirs: header.generation.number, ours: ours.number });
        }
        if header.to_store != self.identity.me.store || self.identity.id.is_some_and(|id| id != header.to) {
            return Err(Refused::Recipient);
        }
        if header.from == header.to {
            return Err(Refused::Impostor);
        }
        let claimed = Member { peer: from, store: header.from_store };
        match self.membership.members.get(&header.from) {
            Some(member) if *member == claimed => Ok(()),
            Some(_) => Err(Refused::Impostor),
            // The log gave this id and took it back; no member gets it again.
            None if header.from.0 < self.membership.next_id => Err(Refused::Removed),
            // The log here is behind the entry that added it. The driver vouches that the peer may vote.
            None => Ok(()),
        }
    }

    fn note_newcomer(&mut self, from: PeerId, header: &Header) -> Result<(), Refused> {
        if self.membership.members.contains_key(&header.from) {
            return Ok(());
        }
        if self.newcomers.len() >= MAX_MEMBERS && !self.newcomers.contains_key(&header.from) {
            return Err(Refused::TooManyNewcomers);
        }
        self.newcomers.insert(header.from, Member { peer: from, store: header.from_store });
        Ok(())
    }

    fn check_body(&self, from: MemberId, body: &Body) -> Result<(), Refused> {
        let Some(node) = &self.node else { return Err(Refused::Stopped) };
        let raft = &node.raft;
        let last = raft.raft_log.last_index();
        let within = |index: u64| if index <= last { Ok(()) } else { Err(Refused::BeyondLog { index, last }) };
        match body {
            Body::Append { term, .. } | Body::Heartbeat { term, .. } | Body::Offer { term, .. }
                if *term == raft.term =>
            {
                let other = raft.leader_id != 0 && raft.leader_id != from.0;
                if other || raft.state == StateRole::Leader {
                    return Err(Refused::SecondLeader);
                }
            }
            _ => {}
        }
        match body {
            // Aborts in consensus. An older term's is answered without being looked at.
            Body::Heartbeat { term, commit, .. } if *term >= raft.term => within(*commit),
            // To one that led this term, crashed and forgot what it sent ahead of its disk, the same answer is only late.
            Body::Accepted { term, index, .. } | Body::Rejected { term, index, .. }
                if *term == raft.term && raft.state == StateRole::Leader =>
            {
                within(*index)
            }
            Body::TimeoutNow { term } if *term != raft.term || raft.leader_id != from.0 => Err(Refused::NotLeader),
            Body::TimeoutNow { .. } if self.must_not_campaign() => Err(Refused::Busy),
            Body::Read { .. } if raft.state != StateRole::Leader => Err(Refused::NotLeader),
            Body::Read { .. } if raft.pending_read_count() >= MAX_ROUNDS => Err(Refused::Busy),
            Body::ReadReply { term, .. } if *term != raft.term => Err(Refused::NotLeader),
            _ => Ok(()),
        }
    }

    /// Takes the id that the group gave this store.
    fn adopt(&mut self, id: MemberId) {
        self.identity.id = Some(id);
        self.pen.adopt_identity();
        self.start(super::super::log::Log::default());
    }
}
