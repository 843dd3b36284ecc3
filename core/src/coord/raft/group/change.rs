//! Commands of an operator: who is in the group and who leads it. One change at a time.

use raft::{ProgressState, StateRole};
use thiserror::Error;

use super::super::log::Position;
use super::super::member::{Change, MAX_MEMBERS, Member, MemberId};
use super::Group;
use super::ready::conf_change;
use crate::coord::replicated::Replicated;
use crate::wire::Codec;

/// How far behind a learner may be when it becomes a voter: it then holds no majority up for longer than a follower does.
pub const CATCH_UP_ENTRIES: u64 = 64;

/// Why a change was not proposed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Somebody else leads, or nobody.
    #[error("this replica does not lead; ask {leader:?}")]
    NotLeader {
        /// Who does, as far as this replica knows.
        leader: Option<MemberId>,
    },
    /// Another change is under way, or the leader is new and has not applied everything of before.
    #[error("a change is under way; ask again when it is applied")]
    Pending,
    /// No such member, or not of the kind that is asked for.
    #[error("{id} is no such member")]
    Unknown {
        /// The id.
        id: MemberId,
    },
    /// It is one already.
    #[error("that store is a member already, as {id}")]
    Member {
        /// As which.
        id: MemberId,
    },
    /// The store left the group once, and knows itself under an id that is gone.
    #[error("that store was a member before: start its peer with an empty log and add the new store")]
    Former,
    /// The group is full.
    #[error("a group has at most {MAX_MEMBERS} members; remove one first")]
    Full,
    /// A learner that is too far behind to vote.
    #[error("{id} is {behind} entries behind, at most {CATCH_UP_ENTRIES} are allowed: wait until it has caught up")]
    Behind {
        /// The learner.
        id: MemberId,
        /// Entries it lacks.
        behind: u64,
    },
    /// The leader itself: hand leadership over first.
    #[error("the leader cannot remove itself: hand leadership over first")]
    Leader,
    /// The only voter.
    #[error("a group keeps one voter: add another before removing this one")]
    LastVoter,
    /// Too much waits to be committed.
    #[error("too much waits to be committed; ask again when some of it is")]
    Busy,
    /// The replica stopped or was removed.
    #[error("this replica has stopped")]
    Stopped,
}

impl<M: Replicated> Group<M> {
    /// Adds a newcomer that receives everything and does not vote. The place is that of the change in the log;
    /// [`super::Output::Membership`] tells of its effect and of the id that the newcomer got.
    pub fn add_learner(&mut self, member: Member) -> Result<Position, ChangeError> {
        self.may_change()?;
        if let Some(id) = self.membership.id_of(&member) {
            return Err(ChangeError::Member { id });
        }
        if self.membership.former.contains(&member.store) {
            return Err(ChangeError::Former);
        }
        if self.membership.members.len() >= MAX_MEMBERS {
            return Err(ChangeError::Full);
        }
        self.propose_change(Change::AddLearner { id: MemberId(self.membership.next_id), member })
    }

    /// Makes a learner that has caught up a voter.
    pub fn promote(&mut self, id: MemberId) -> Result<Position, ChangeError> {
        self.may_change()?;
        self.is_caught_up(id)?;
        self.propose_change(Change::Promote { id })
    }

    /// Removes a voter or learner other than the leader.
    pub fn remove(&mut self, id: MemberId) -> Result<Position, ChangeError> {
        self.may_change()?;
        self.is_removable(id)?;
        self.propose_change(Change::Remove { id })
    }

    /// Puts a learner that has caught up in a voter's place, in one step.
    pub fn replace(&mut self, voter: MemberId, learner: MemberId) -> Result<Position, ChangeError> {
        self.may_change()?;
        if !self.membership.voters.contains(&voter) {
            return Err(ChangeError::Unknown { id: voter });
        }
        if self.identity.id == Some(voter) {
            return Err(ChangeError::Leader);
        }
        self.is_caught_up(learner)?;
        self.propose_change(Change::Replace { voter, learner })
    }

    /// Hands leadership to a voter. [`super::Output::Role`] tells when it went; it stays where the voter does not take it
    /// within the time of an election, and no proposal is taken meanwhile.
    pub fn transfer_leadership(&mut self, to: MemberId) -> Result<(), ChangeError> {
        self.leads()?;
        if !self.membership.voters.contains(&to) {
            return Err(ChangeError::Unknown { id: to });
        }
        if let Some(node) = &mut self.node {
            node.transfer_leader(to.0);
        }
        self.pin();
        Ok(())
    }

    /// The newest entry that each member is known to have. Only a leader knows; elsewhere it is empty.
    pub fn progress(&self) -> impl Iterator<Item = (MemberId, u64)> + '_ {
        let leads = self.node.as_ref().filter(|node| node.raft.state == StateRole::Leader);
        let ids = self.membership.members.keys().copied();
        ids.filter_map(move |id| Some((id, leads?.raft.prs().get(id.0)?.matched)))
    }

    /// The voter that is best placed to lead next: one that answered of late before one that did not, and of these the one
    /// that has most of the log. `None` where this replica does not lead, or nobody else votes.
    pub fn successor(&self) -> Option<MemberId> {
        let node = self.node.as_ref().filter(|node| node.raft.state == StateRole::Leader)?;
        let others = self.membership.voters.iter().filter(|id| Some(**id) != self.identity.id);
        let known = others.filter_map(|id| Some((*id, node.raft.prs().get(id.0)?)));
        // Consensus forgets once an election's time who answered, so nobody may have: that excludes no one.
        known.max_by_key(|(_, progress)| (progress.recent_active, progress.matched)).map(|(id, _)| id)
    }

    fn leads(&self) -> Result<(), ChangeError> {
        if self.is_stopped() {
            return Err(ChangeError::Stopped);
        }
        match &self.node {
            Some(node) if node.raft.state == StateRole::Leader => Ok(()),
            _ => Err(ChangeError::NotLeader { leader: self.leader() }),
        }
    }

    fn may_change(&self) -> Result<(), ChangeError> {
        self.leads()?;
        let pending = self.node.as_ref().is_some_and(|node| {
            node.raft.has_pending_conf() || node.raft.lead_transferee.is_some() || self.membership.is_joint()
        });
        if pending { Err(ChangeError::Pending) } else { Ok(()) }
    }

    fn is_caught_up(&self, id: MemberId) -> Result<(), ChangeError> {
        if !self.membership.learners.contains(&id) {
            return Err(ChangeError::Unknown { id });
        }
        let Some(node) = &self.node else { return Err(ChangeError::Stopped) };
        let last = node.raft.raft_log.last_index();
        let progress = node.raft.prs().get(id.0);
        let behind = last - progress.map_or(0, |progress| progress.matched.min(last));
        // One that never answered may be anybody; one that gets a snapshot has no log yet.
        let flows = progress.is_some_and(|of| of.matched > 0 && of.state != ProgressState::Snapshot);
        if flows && behind <= CATCH_UP_ENTRIES { Ok(()) } else { Err(ChangeError::Behind { id, behind }) }
    }

    fn is_removable(&self, id: MemberId) -> Result<(), ChangeError> {
        if !self.membership.members.contains_key(&id) {
            return Err(ChangeError::Unknown { id });
        }
        if self.membership.voters.len() == 1 && self.membership.voters.contains(&id) {
            return Err(ChangeError::LastVoter);
        }
        if self.identity.id == Some(id) { Err(ChangeError::Leader) } else { Ok(()) }
    }

    fn propose_change(&mut self, change: Change) -> Result<Position, ChangeError> {
        if !self.membership.allows(&change) {
            return Err(ChangeError::Pending);
        }
        let Some(node) = &mut self.node else { return Err(ChangeError::Stopped) };
        let at = Position { index: node.raft.raft_log.last_index() + 1, term: node.raft.term };
        node.propose_conf_change(change.to_bytes(), conf_change(&change)).map_err(|_| ChangeError::Busy)?;
        self.pin();
        Ok(at)
    }
}
