//! What has to hold, checked after every step: the five properties of the paper's figure 3, and what clients were told.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::coord::raft::group::Refused;
use crate::coord::raft::{Group, Halt, OpenError, Position, Standing};
use crate::coord::replicated::Replicated;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Election safety.
    #[error("nodes {first} and {second} both lead term {term}")]
    TwoLeaders {
        /// The term.
        term: u64,
        /// One.
        first: usize,
        /// The other.
        second: usize,
    },
    /// Log matching.
    #[error("node {node} has another entry at index {index}, term {term}, or another before it")]
    LogsDiffer {
        /// Who.
        node: usize,
        /// Where.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// Leader completeness.
    #[error("node {node} leads term {term} without the committed entry {index}")]
    LeaderLacks {
        /// Who.
        node: usize,
        /// Its term.
        term: u64,
        /// The entry.
        index: u64,
    },
    /// State machine safety, by entry.
    #[error("node {node} committed another entry at index {index}")]
    CommitsDiffer {
        /// Who.
        node: usize,
        /// Where.
        index: u64,
    },
    /// State machine safety, by state.
    #[error("node {node} has another state at index {index}")]
    DigestsDiffer {
        /// Who.
        node: usize,
        /// Where.
        index: u64,
    },
    /// A client was told that its proposal is committed, and it is not.
    #[error("the proposal acknowledged at index {index}, term {term} is not in the log")]
    AcknowledgedLost {
        /// Where it was.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// A read missed what was committed before it began.
    #[error("node {node} answered a read at index {index}; {floor} was committed before it was asked")]
    StaleRead {
        /// Who answered.
        node: usize,
        /// What it answered.
        index: u64,
        /// What was committed.
        floor: u64,
    },
    /// A frame that honest replicas never see.
    #[error("node {node} refused a frame: {why}")]
    Refused {
        /// Who.
        node: usize,
        /// Why.
        why: Refused,
    },
    /// A replica stopped.
    #[error("node {node} stopped: {why}")]
    Halted {
        /// Who.
        node: usize,
        /// Why.
        why: Halt,
    },
    /// A store that did not open after a crash.
    #[error("node {node} does not open: {why}")]
    DoesNotOpen {
        /// Who.
        node: usize,
        /// Why.
        why: OpenError,
    },
    /// Consensus aborted.
    #[error("a replica panicked: {what}")]
    Panicked {
        /// Its words.
        what: String,
    },
    /// After all was healed, the group did not come together.
    #[error("not healed in time: {what}")]
    NotHealed {
        /// What is missing.
        what: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    term: u64,
    /// `None` where every replica compacted it in the step in which it was applied.
    hash: Option<[u8; 32]>,
    /// Of whoever first knew it to be committed: not before the term in which it was.
    seen_in: u64,
}

/// Up to where one node's log was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::coord) struct Seen {
    log: Position,
    committed: u64,
    leads: u64,
    digest: u64,
}

/// What is known about the whole.
#[derive(Debug, Default)]
pub(in crate::coord) struct Ledger {
    leaders: BTreeMap<u64, usize>,
    /// Every entry ever seen, by place: its content and the term before it.
    entries: BTreeMap<(u64, u64), ([u8; 32], Option<u64>)>,
    committed: BTreeMap<u64, Committed>,
    digests: BTreeMap<u64, [u8; 32]>,
    acknowledged: BTreeMap<u64, u64>,
    /// States are compared at multiples of this index; at all of them if it is 0. A large state takes long to digest.
    pub(in crate::coord) digest_every: u64,
    /// The greatest index that any machine applied.
    pub(in crate::coord) applied: u64,
}

impl Ledger {
    pub(in crate::coord) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Looks at one node after a step.
    pub(in crate::coord) fn check<M: Replicated>(
        &mut self,
        node: usize,
        group: &Group<M>,
        seen: &mut Seen,
    ) -> Result<(), Violation> {
        self.check_log(node, group, seen)?;
        self.check_commits(node, group, seen)?;
        self.check_leader(node, group, seen)?;
        let at = group.applied().index;
        if seen.digest != at && at.is_multiple_of(self.digest_every.max(1)) {
            seen.digest = at;
            let digest = group.machine().digest();
            if *self.digests.entry(at).or_insert(digest) != digest {
                return Err(Violation::DigestsDiffer { node, index: at });
            }
        }
        self.applied = self.applied.max(at);
        Ok(())
    }

    /// Equal (index, term) means equal content and an equal term before it, so by induction an equal log up to there.
    fn check_log<M: Replicated>(&mut self, node: usize, group: &Group<M>, seen: &mut Seen) -> Result<(), Violation> {
        let known = group.entry_at(seen.log.index).is_some_and(|(term, _)| term == seen.log.term);
        let mut index = if known { seen.log.index } else { group.committed().min(seen.log.index) };
        let mut before = group.entry_at(index).map(|(term, _)| term);
        if before.is_none() {
            // Compacted: begin at the first entry that is there.
            let last = group.last_index();
            index = (index..=last).find(|index| group.entry_at(index + 1).is_some()).unwrap_or(last);
        }
        while let Some((term, bytes)) = group.entry_at(index + 1) {
            index += 1;
            let hash = *blake3::hash(&bytes).as_bytes();
            let (known, known_before) = self.entries.entry((index, term)).or_insert((hash, before));
            let differs = matches!((*known_before, before), (Some(a), Some(b)) if a != b);
            if *known != hash || differs {
                return Err(Violation::LogsDiffer { node, index, term });
            }
            *known_before = known_before.or(before);
            before = Some(term);
            seen.log = Position { index, term };
        }
        Ok(())
    }

    fn check_commits<M: Replicated>(
        &mut self,
        node: usize,
        group: &Group<M>,
        seen: &mut Seen,
    ) -> Result<(), Violation> {
        let committed = group.committed();
        for index in seen.committed + 1..=committed {
            let Some((term, bytes)) = group.entry_at(index) else { continue };
            let hash = *blake3::hash(&bytes).as_bytes();
            let entry = Committed { term, hash: Some(hash), seen_in: group.role().term };
            let known = self.committed.entry(index).or_insert(entry);
            if known.term != term || *known.hash.get_or_insert(hash) != hash {
                return Err(Violation::CommitsDiffer { node, index });
            }
            if self.acknowledged.get(&index).is_some_and(|acknowledged| *acknowledged != term) {
                return Err(Violation::AcknowledgedLost { index, term: self.acknowledged[&index] });
            }
        }
        seen.committed = seen.committed.max(committed);
        Ok(())
    }

    fn check_leader<M: Replicated>(&mut self, node: usize, group: &Group<M>, seen: &mut Seen) -> Result<(), Violation> {
        let role = group.role();
        if role.standing != Standing::Leader || seen.leads == role.term {
            return Ok(());
        }
        seen.leads = role.term;
        let term = role.term;
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            return Err(Violation::TwoLeaders { term, first, second: node });
        }
        let before = self.committed.iter().filter(|(_, entry)| entry.seen_in < term);
        for (index, entry) in before {
            let lacks = match group.entry_at(*index) {
                Some((term, _)) => term != entry.term,
                // In its snapshot, or missing.
                None => *index > group.applied().index,
            };
            if lacks {
                return Err(Violation::LeaderLacks { node, term, index: *index });
            }
        }
        Ok(())
    }

    /// A machine applied an entry, so it is committed.
    pub(in crate::coord) fn apply(&mut self, node: usize, at: Position, seen_in: u64) -> Result<(), Violation> {
        let entry = Committed { term: at.term, hash: None, seen_in };
        let known = self.committed.entry(at.index).or_insert(entry);
        if known.term == at.term { Ok(()) } else { Err(Violation::CommitsDiffer { node, index: at.index }) }
    }

    /// A client was told that what it proposed is committed.
    pub(in crate::coord) fn acknowledge(&mut self, at: Position) -> Result<(), Violation> {
        self.acknowledged.insert(at.index, at.term);
        match self.committed.get(&at.index) {
            Some(entry) if entry.term != at.term => Err(Violation::AcknowledgedLost { index: at.index, term: at.term }),
            _ => Ok(()),
        }
    }

    pub(in crate::coord) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// The last of what clients were told.
    pub(in crate::coord) fn last_acknowledged(&self) -> u64 {
        self.acknowledged.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// After everything: whatever was acknowledged is committed, as it was proposed.
    pub(in crate::coord) fn account(&self) -> Result<(), Violation> {
        let lost = self
            .acknowledged
            .iter()
            .find(|(index, term)| self.committed.get(index).is_none_or(|entry| entry.term != **term));
        match lost {
            Some((index, term)) => Err(Violation::AcknowledgedLost { index: *index, term: *term }),
            None => Ok(()),
        }
    }
}
