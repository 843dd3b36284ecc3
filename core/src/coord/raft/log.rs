//! The log in memory: what consensus reads. Rows on disk are written from it and read back only when a store is opened.
//!
//! Its size is bounded by the thresholds of compaction, see [`super::config::Config`].

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::entry::LogEntry;

/// The place of an entry: index and term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index in the log, from 1.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
}

/// Entries behind `base`, and the snapshot that stands for what is before.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last entry that was dropped.
    base: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard: HardState,
    /// Of the snapshot's place; a follower that needs what is before `base` is sent to it.
    snapshot: Position,
    conf: ConfState,
}

impl Log {
    pub(crate) fn new(
        base: Position,
        snapshot: Position,
        conf: ConfState,
        hard: HardState,
        entries: Vec<Entry>,
    ) -> Self {
        let bytes = entries.iter().map(LogEntry::weight).sum();
        Self { base, entries: entries.into(), bytes, hard, snapshot, conf }
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn snapshot_at(&self) -> Position {
        self.snapshot
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.base.index + 1)? as usize)
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index { Some(self.base.term) } else { self.get(index).map(|entry| entry.term) }
    }

    /// Puts entries in place of everything from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        debug_assert!(first.index > self.base.index && first.index <= self.last() + 1, "entries follow the log");
        while self.last() >= first.index {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= LogEntry::weight(&entry);
            }
        }
        self.bytes += entries.iter().map(LogEntry::weight).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// A snapshot of this replica's own state was taken at `at`.
    pub(crate) fn snapshot_taken(&mut self, at: Position, conf: ConfState) {
        self.snapshot = at;
        self.conf = conf;
    }

    /// Drops entries up to and including `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.base.index < index {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes -= LogEntry::weight(&entry);
            self.base = Position { index: entry.index, term: entry.term };
        }
    }

    /// A snapshot from elsewhere stands for everything.
    pub(crate) fn install(&mut self, at: Position, conf: ConfState) {
        self.base = at;
        self.entries.clear();
        self.bytes = 0;
        self.snapshot_taken(at, conf);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let offset = self.base.index + 1;
        let mut entries: Vec<Entry> = Vec::new();
        let max = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        for entry in self.entries.range((low - offset) as usize..(high - offset) as usize) {
            size += LogEntry::weight(entry) as u64;
            if size > max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let unknown = if index < self.base.index { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_at(index).ok_or(Error::Store(unknown))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The place only: its bytes travel in messages of our own, see [`super::transfer`].
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.snapshot.index == 0 || self.snapshot.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.snapshot.index;
        meta.term = self.snapshot.term;
        meta.set_conf_state(self.conf.clone());
        Ok(snapshot)
    }
}
