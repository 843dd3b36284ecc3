//! Linearizable reads by ReadIndex (thesis, 6.4): a round to a majority shows that the leader still led when it was asked,
//! so everything committed before the round is at or below its commit index.
//!
//! One round is under way at a time and carries every read that came before it began. Consensus drops a round in silence
//! where the leader has not committed in its term, and where it stops leading; so a round that is not answered in time is
//! begun again, under a fresh name.

use std::collections::{BTreeMap, VecDeque};

use raft::StateRole;
use thiserror::Error;

use super::super::message::READ_CONTEXT_BYTES;
use super::{Group, Output};
use crate::coord::replicated::Replicated;

/// Why a read was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Too many wait.
    #[error("{max} reads wait already; ask again when some are answered")]
    Busy {
        /// The bound.
        max: usize,
    },
    /// The replica stopped or was removed.
    #[error("this replica has stopped")]
    Stopped,
}

/// Why a read has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadFailure {
    /// No majority answered in time: this replica may be on the minority side of a cut.
    #[error("no quorum answered in time; ask again, or another voter")]
    NoQuorum,
    /// The replica stopped or was removed.
    #[error("this replica has stopped")]
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    ctx: u64,
    age: u32,
}

#[derive(Debug)]
struct Round {
    name: [u8; READ_CONTEXT_BYTES],
    reads: Vec<Read>,
    age: u32,
}

#[derive(Debug)]
pub(super) struct Reads {
    nonce: u64,
    rounds: u64,
    waiting: VecDeque<Read>,
    round: Option<Round>,
    /// Answered, by the index that has to be applied first.
    due: BTreeMap<u64, Vec<u64>>,
    count: usize,
}

impl Reads {
    pub(super) fn new(nonce: u64) -> Self {
        Self { nonce, rounds: 0, waiting: VecDeque::new(), round: None, due: BTreeMap::new(), count: 0 }
    }

    /// A name that no other round of any replica has, also not one of this replica before it was restarted.
    fn name(&mut self) -> [u8; READ_CONTEXT_BYTES] {
        self.rounds += 1;
        let mut name = [0; READ_CONTEXT_BYTES];
        name[..8].copy_from_slice(&self.nonce.to_le_bytes());
        name[8..].copy_from_slice(&self.rounds.to_le_bytes());
        name
    }
}

impl<M: Replicated> Group<M> {
    /// Asks to read everything that is committed now. [`Output::ReadReady`] or [`Output::ReadFailed`] answers `ctx`, which
    /// is the caller's. Works on every member, learners too: a follower asks the leader.
    pub fn read(&mut self, ctx: u64) -> Result<(), ReadError> {
        if self.is_stopped() {
            return Err(ReadError::Stopped);
        }
        if self.reads.count >= self.config.reads {
            return Err(ReadError::Busy { max: self.config.reads });
        }
        self.reads.count += 1;
        #[cfg(any(test, feature = "sim"))]
        if self.config.planted == Some(super::super::sim::Planted::ReadWithoutQuorum)
            && self.node.as_ref().is_some_and(|node| node.raft.state == StateRole::Leader)
        {
            let index = self.committed();
            self.reads.due.entry(index).or_default().push(ctx);
            self.answer_reads();
            return Ok(());
        }
        self.reads.waiting.push_back(Read { ctx, age: 0 });
        Ok(())
    }

    /// Begins a round if reads wait and none is under way. Whether it did.
    pub(super) fn begin_reads(&mut self) -> bool {
        if self.reads.round.is_some() || self.reads.waiting.is_empty() {
            return false;
        }
        let Some(node) = &mut self.node else { return false };
        let leads = node.raft.state == StateRole::Leader;
        // Consensus would drop it in silence.
        if node.raft.leader_id == 0 || (leads && !node.raft.commit_to_current_term()) {
            return false;
        }
        let name = self.reads.name();
        self.reads.round = Some(Round { name, reads: self.reads.waiting.drain(..).collect(), age: 0 });
        self.counters.read_rounds += 1;
        node.read_index(name.to_vec());
        self.pin();
        true
    }

    /// A majority confirmed a round.
    pub(super) fn round_done(&mut self, name: &[u8], index: u64) {
        if let Some(round) = self.reads.round.take_if(|round| round.name == name) {
            self.reads.due.entry(index).or_default().extend(round.reads.iter().map(|read| read.ctx));
            self.answer_reads();
        }
    }

    /// Answers what the machine has reached.
    pub(super) fn answer_reads(&mut self) {
        while let Some(entry) = self.reads.due.first_entry() {
            if *entry.key() > self.applied.index {
                break;
            }
            let (index, reads) = entry.remove_entry();
            self.reads.count -= reads.len();
            self.out.extend(reads.into_iter().map(|ctx| Output::ReadReady { ctx, index }));
        }
    }

    pub(super) fn tick_reads(&mut self) {
        let limit = self.config.read_ticks;
        // An answer takes a heartbeat to be confirmed, another where it has to be forwarded.
        let retry = 2 * self.config.heartbeat as u32 + 1;
        let mut round = self.reads.round.take();
        let waiting = self.reads.waiting.iter_mut();
        waiting.chain(round.iter_mut().flat_map(|round| round.reads.iter_mut())).for_each(|read| read.age += 1);
        if let Some(mut late) = round.take_if(|round| {
            round.age += 1;
            round.age >= retry
        }) {
            late.reads.drain(..).rev().for_each(|read| self.reads.waiting.push_front(read));
        }
        self.reads.round = round;
        // Older reads stand before younger ones.
        while let Some(read) = self.reads.waiting.pop_front_if(|read| read.age >= limit) {
            self.reads.count -= 1;
            self.out.push_back(Output::ReadFailed { ctx: read.ctx, why: ReadFailure::NoQuorum });
        }
    }

    pub(super) fn fail_reads(&mut self, why: ReadFailure) {
        let reads = &mut self.reads;
        let round = reads.round.take().into_iter().flat_map(|round| round.reads);
        let mut failed: Vec<u64> = round.chain(reads.waiting.drain(..)).map(|read| read.ctx).collect();
        failed.extend(std::mem::take(&mut reads.due).into_values().flatten());
        reads.count = 0;
        self.out.extend(failed.into_iter().map(|ctx| Output::ReadFailed { ctx, why }));
    }
}
