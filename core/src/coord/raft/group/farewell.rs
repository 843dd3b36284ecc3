//! What a leader that is removed still has to say: that the entry which removes it is committed.
//!
//! Members follow a configuration when they have *applied* it. Until then the others need the removed one for a majority of
//! the one before; if it fell silent with one of them dead, nobody could be elected any more. So it repeats how far its term
//! had committed, as its heartbeats would have, until a majority of the voters have answered that it is gone: they have
//! applied it, and elect without it.
//!
//! Consensus cannot say it: it looks its leader up among the members, and aborts.

use std::collections::BTreeMap;

use raft::StateRole;

use super::super::member::{Member, MemberId};
use super::super::message::{self, Body};
use super::{Group, Output};
use crate::coord::replicated::Replicated;
use crate::id::PeerId;

/// Whom a removed leader has still to tell.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// The entry that removed this replica, once it is applied.
    pub(super) removed_at: u64,
    term: u64,
    /// How far each may commit: no further than it is known to have the log. Who lacks the removal is not told: it would only
    /// go on following a leader that is none.
    commits: BTreeMap<MemberId, (Member, u64)>,
    /// Voters that may be left untold.
    spared: usize,
}

impl<M: Replicated> Group<M> {
    /// This replica is removed now. Nothing is to be said if it did not lead.
    pub(super) fn begin_farewell(&mut self) {
        let Some(node) = &self.node else { return };
        let raft = &node.raft;
        if self.gone || raft.state != StateRole::Leader {
            return;
        }
        let removed_at = self.farewell.removed_at;
        let commits = self.membership.voters.iter().filter_map(|id| {
            let member = *self.membership.members.get(id)?;
            let commit = raft.prs().get(id.0)?.matched.min(raft.raft_log.committed);
            (commit >= removed_at).then_some((*id, (member, commit)))
        });
        let commits: BTreeMap<_, _> = commits.collect();
        let majority = self.membership.voters.len() / 2 + 1;
        let spared = commits.len().saturating_sub(majority);
        self.farewell = Farewell { removed_at, term: raft.term, commits, spared };
        self.bid_farewell();
    }

    /// Says it once more.
    pub(super) fn bid_farewell(&mut self) {
        let Farewell { term, commits, .. } = &self.farewell;
        let frames = commits.iter().map(|(id, (member, commit))| {
            let body = Body::Heartbeat { term: *term, commit: *commit, round: None };
            (member.peer, self.frame(*id, *member, &body))
        });
        let frames: Vec<_> = frames.collect();
        self.out.extend(frames.into_iter().map(|(to, bytes)| Output::Send { to, bytes }));
    }

    /// A frame came to a removed replica: whoever says that it is gone knows it.
    pub(super) fn hear_farewell(&mut self, from: PeerId, bytes: &[u8]) {
        let Ok((header, Body::Gone)) = message::decode(bytes) else { return };
        if self.check_header(from, &header).is_err() {
            return;
        }
        let commits = &mut self.farewell.commits;
        commits.remove(&header.from);
        if commits.len() <= self.farewell.spared {
            commits.clear();
        }
    }
}
