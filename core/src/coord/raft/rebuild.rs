//! A group that lost its quorum for good, begun again from one survivor under a new generation.
//!
//! Consensus cannot do this: a minority that goes on by itself breaks every promise, unless somebody outside *knows* that
//! the majority never comes back. So it is a command, it leaves a record, and what it does is exactly this:
//!
//! 1. of the stores that are left, [`best`] picks the one with the newest log: what a majority had agreed on and any of
//!    them still holds is in it;
//! 2. [`rebuild`] counts *all* its entries as agreed on, also those whose majority cannot be asked any more, and makes a
//!    store of one voter from the state they give;
//! 3. everybody else joins the new generation with an empty log. The generation stands in every frame, so a voter of the
//!    old one that comes back after all is refused, and so is a second rebuild of the same number.
//!
//! Fencing tokens begin with how often the group was rebuilt, which the machine learns from the new life's first entry: so they
//! are greater than all of the old life, also than those that only the lost replicas knew of.

use super::entry::{LogEntry, Payload};
use super::log::Position;
use super::member::{Generation, MAX_NUMBER, Member, MemberId, Membership, Rebuild};
use super::rows::{Identity, OpenError, Snapshot, Stored, Write, fresh_rows};
use crate::coord::replicated::Replicated;

/// A rebuilt group: what to write and what to tell.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// For the survivor's store, durable before anybody opens it. They replace everything in it, and none may be durable
    /// without all: a backend writes them in one transaction, or into a store of its own.
    pub writes: Vec<Write>,
    /// The record, also kept in the membership for ever after.
    pub record: Rebuild,
    /// The group's membership: the survivor alone. Its generation is what newcomers join.
    pub membership: Membership,
}

/// Of several survivors, the one to go on from: the greatest (term, index) of last entries, as a vote would choose.
pub fn best(survivors: &[Stored]) -> Option<usize> {
    let rank = |stored: &Stored| {
        let Position { index, term } = stored.last();
        (term, index)
    };
    (0..survivors.len()).max_by_key(|n| rank(&survivors[*n]))
}

/// Begins the group anew from `survivor`. `machine` is in its first state and ends in the state of the new group. The
/// store `me` is the survivor's peer with a store id of its own, drawn for this: the old one has promises in the old life.
/// `behind` is the greatest number of a life that is known; the new one is behind it and behind the survivor's.
/// `opening` is an entry that the new life begins with, behind everything that the survivor holds; empty for none.
///
/// Costs as much as opening the store: one restore, and an apply of every entry behind the snapshot. Nothing is written
/// here; on an error nothing has changed.
pub fn rebuild<M: Replicated>(
    survivor: &Stored,
    me: Member,
    behind: u64,
    machine: &mut M,
    opening: &[u8],
) -> Result<Rebuilt, OpenError> {
    let snapshot = survivor.snapshot.as_ref().ok_or(OpenError::Empty)?;
    machine.restore(Snapshot::parse(&snapshot.bytes)?.1)?;
    let mut next_id = survivor.membership.next_id;
    for entry in survivor.entries.iter().filter(|entry| entry.index > snapshot.at.index) {
        match LogEntry::from_raft(entry).map(|entry| entry.payload) {
            Some(Payload::Data(data)) if !data.is_empty() => {
                machine.apply(entry.index, &data);
            }
            // Who was in the old group does not matter any more, except that no id is given twice.
            Some(Payload::Change(super::Change::AddLearner { id, .. })) => next_id = next_id.max(id.0 + 1),
            _ => {}
        }
    }
    let mut last = survivor.last();
    if !opening.is_empty() {
        last.index += 1;
        machine.apply(last.index, opening);
    }
    let record = Rebuild {
        from: Generation { number: survivor.identity.generation.number.max(behind), ..survivor.identity.generation },
        survivor: me,
        last_index: last.index,
        last_term: last.term,
        proved: survivor.hard.commit,
        digest: machine.digest(),
    };
    let membership = Membership { next_id, ..survivor.membership.clone() }.rebuilt(record.clone());
    // The term goes on, so that no term of the new life is one of the old.
    let at = Position { index: last.index, term: survivor.hard.term.max(last.term).min(MAX_NUMBER) };
    let snapshot = Snapshot::new(at, &membership, &machine.snapshot());
    let id: Option<MemberId> = membership.id_of(&me);
    let identity = Identity { generation: membership.generation, me, id };
    Ok(Rebuilt { writes: fresh_rows(&identity, &snapshot, at.term), record, membership })
}
