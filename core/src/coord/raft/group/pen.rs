//! What goes to disk, and what waits for it.
//!
//! At most one write is under way. Everything that consensus wants durable meanwhile gathers in the next one, together
//! with the messages that depend on it: that is group commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::eraftpb::HardState;

use super::super::entry::LogEntry;
use super::super::log::Log;
use super::super::rows::{
    Head, Identity, Snapshot, Tail, Write, delete_entries, delete_snapshots, entry_row, head_row, identity_row,
    snapshot_rows, tail_row,
};
use crate::id::PeerId;

/// Names one write of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What becomes durable together, and what it lets go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The newest of consensus' readies in it, 0 for none.
    pub(super) number: u64,
    pub(super) messages: Vec<(PeerId, Vec<u8>)>,
    entries: BTreeMap<u64, LogEntry>,
    /// Whether the rows have to be written at all.
    needed: bool,
    /// Whether term or vote are new in it.
    term: bool,
    identity: bool,
    /// A snapshot to keep, of either kind.
    snapshot: Option<Arc<Snapshot>>,
    /// Whether that snapshot came from elsewhere and replaces the log.
    install: bool,
    compacted: bool,
}

#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    batch: Batch,
}

#[derive(Debug)]
pub(super) struct Pen {
    seq: u64,
    tickets: u64,
    /// As consensus last gave it.
    hard: HardState,
    /// The last entry that the rows on disk name.
    disk_last: u64,
    /// The commit index of the last write.
    disk_commit: u64,
    flight: Option<Flight>,
    next: Batch,
}

impl Pen {
    pub(super) fn new() -> Self {
        Self {
            seq: 0,
            tickets: 0,
            hard: HardState::default(),
            disk_last: 0,
            disk_commit: 0,
            flight: None,
            next: Batch::default(),
        }
    }

    /// The first write of a founder: everything is new.
    pub(super) fn begin(&mut self, hard: &HardState, last: u64) {
        self.hard = hard.clone();
        self.disk_last = last;
        self.adopt_identity();
        self.next.install = true;
        self.next.term = true;
    }

    /// The identity is new and goes with the next write.
    pub(super) fn adopt_identity(&mut self) {
        self.next.identity = true;
        self.next.needed = true;
    }

    /// What an opened store holds.
    pub(super) fn resume(&mut self, seq: u64, hard: &HardState, last: u64) {
        self.seq = seq;
        self.hard = hard.clone();
        self.disk_last = last;
        self.disk_commit = hard.commit;
    }

    pub(super) fn hard(&mut self, hard: &HardState) {
        // A commit index that is lost is learnt again, so it waits for a write that is needed anyway.
        if hard.term != self.hard.term || hard.vote != self.hard.vote {
            self.next.term = true;
            self.next.needed = true;
        }
        self.hard = hard.clone();
    }

    pub(super) fn entries(&mut self, entries: &[raft::eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        self.next.entries.split_off(&first.index);
        let rows = entries.iter().filter_map(|entry| Some((entry.index, LogEntry::from_raft(entry)?)));
        self.next.entries.extend(rows);
        self.next.needed = true;
    }

    /// A snapshot from elsewhere replaces the log.
    pub(super) fn install(&mut self, snapshot: Arc<Snapshot>) {
        self.next.entries.clear();
        self.next.snapshot = Some(snapshot);
        self.next.install = true;
        self.next.needed = true;
    }

    /// A snapshot of the own state; entries before the log's new base may go.
    pub(super) fn compact(&mut self, snapshot: Arc<Snapshot>, base: u64) {
        self.next.entries = self.next.entries.split_off(&(base + 1));
        self.next.snapshot = Some(snapshot);
        self.next.compacted = true;
        self.next.needed = true;
    }

    pub(super) fn ready(&mut self, number: u64) {
        self.next.number = number;
    }

    pub(super) fn hold(&mut self, to: PeerId, bytes: Vec<u8>) {
        self.next.messages.push((to, bytes));
    }

    /// Whether a write is under way or needed.
    pub(super) fn is_busy(&self) -> bool {
        self.flight.is_some() || self.next.needed
    }

    /// Whether a snapshot that replaces the log is not durable yet.
    pub(super) fn has_install(&self) -> bool {
        self.next.install || self.flight.as_ref().is_some_and(|flight| flight.batch.install)
    }

    /// Whether a term or vote is not durable yet.
    pub(super) fn has_term(&self) -> bool {
        self.next.term || self.flight.as_ref().is_some_and(|flight| flight.batch.term)
    }

    /// The write under way is durable.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Batch> {
        self.flight.take_if(|flight| flight.ticket == ticket).map(|flight| flight.batch)
    }

    /// The next batch, if nothing has to be written for it and nothing is under way.
    pub(super) fn take_free(&mut self) -> Option<Batch> {
        let idle = self.next.number == 0 && self.next.messages.is_empty();
        if self.flight.is_some() || self.next.needed || idle { None } else { Some(std::mem::take(&mut self.next)) }
    }

    /// Puts the next batch on its way, if one is needed and nothing is.
    pub(super) fn take_write(
        &mut self,
        identity: &Identity,
        log: Option<&Log>,
        snapshot: Option<&Snapshot>,
    ) -> Option<(Ticket, Vec<Write>)> {
        if self.flight.is_some() || !self.next.needed {
            return None;
        }
        let batch = std::mem::take(&mut self.next);
        let writes = self.rows(&batch, identity, log, snapshot);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.flight = Some(Flight { ticket, batch });
        Some((ticket, writes))
    }

    /// Head, entries, snapshot, tail, and only then what nobody needs any more: see [`super::super::rows`].
    fn rows(
        &mut self,
        batch: &Batch,
        identity: &Identity,
        log: Option<&Log>,
        snapshot: Option<&Snapshot>,
    ) -> Vec<Write> {
        let mut writes = Vec::with_capacity(batch.entries.len() + 8);
        if batch.identity {
            writes.push(identity_row(identity));
        }
        let Some(log) = log else { return writes };
        self.seq += 1;
        let first = batch.entries.first_key_value().map_or(u64::MAX, |(index, _)| *index);
        let cut = first.min(self.disk_last + 1);
        let HardState { term, vote, commit, .. } = self.hard;
        // What a snapshot replaces may never have been committed. Where its write is cut off, those entries are all there
        // is, and the commit index that came with it would say that they were.
        let commit = if batch.install && self.seq > 1 { self.disk_commit.min(commit) } else { commit };
        writes.push(head_row(&Head { seq: self.seq, term, vote, commit, cut }));
        writes.extend(batch.entries.iter().map(|(index, entry)| entry_row(*index, entry)));
        let kept = batch.snapshot.as_deref().or(if self.seq == 1 { snapshot } else { None });
        if let Some(kept) = kept {
            writes.extend(snapshot_rows(kept));
        }
        let mut tail = Tail { seq: self.seq, base: log.base(), last: log.last(), ..Tail::default() };
        if let Some(snapshot) = snapshot {
            (tail.snapshot, tail.size, tail.hash) = (snapshot.at, snapshot.bytes.len() as u64, snapshot.hash);
        }
        writes.push(tail_row(&tail));
        if tail.last < self.disk_last {
            writes.push(delete_entries(tail.last + 1, self.disk_last + 1));
        }
        if batch.compacted || batch.install {
            writes.push(delete_entries(0, tail.base.index + 1));
            writes.push(delete_snapshots(0, tail.snapshot.index));
        }
        self.disk_last = tail.last;
        self.disk_commit = self.hard.commit;
        writes
    }
}
