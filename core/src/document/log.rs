//! The log of one document: a row for each admitted change, without the changes themselves.
//!
//! A row holds what the ingest checks and reconciliation need: hash, dependencies, actor, seq, op counters, and the set
//! of actors in the change's ancestry. The chunk stays on disk under the row's arrival number. Rows stand in order of
//! arrival, those of the snapshot first. That is a topological order, since nothing is admitted before its dependencies; so "all ancestors of X"
//! and "everything that these heads lack" are one backward sweep.
//!
//! Ancestry sets are interned bit sets: most changes have the very set of their one dependency, so a document of A
//! actors has about A sets, of A/8 bytes each.
//!
//! Invariant: heads are a pure function of the set of rows (those that no row depends on). Arrival numbers are local.
//!
//! Not here: who may write (the caller verifies endorsements), and bytes ([`super::row`]).

use std::collections::BTreeMap;

use smallvec::SmallVec;
use thiserror::Error;

use super::chunk::{Chunk, ChunkError};
use super::compaction::{self, CompactionError, PackedChange};
use super::row::{RowError, RowKind, StoredRow};
use crate::id::{Actor, ChangeHash};
use crate::io::Rows;

mod actors;
mod graph;

pub(super) use actors::{ActorSet, ActorSets};
pub use graph::HeadsHistory;

/// Why stored entries do not make a log: the store is damaged, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LogError {
    /// An entry is not one of ours.
    #[error("entry {index} is damaged: {error}")]
    Row {
        /// Which entry.
        index: usize,
        /// What is wrong.
        error: RowError,
    },
    /// A stored chunk does not parse.
    #[error("the chunk at arrival {arrival} is damaged: {error}")]
    Chunk {
        /// Where it is.
        arrival: u64,
        /// What is wrong.
        error: ChunkError,
    },
    /// A change whose dependencies are not stored before it.
    #[error("change {hash} depends on {dep}, which is not stored before it")]
    MissingDep {
        /// The change.
        hash: ChangeHash,
        /// What it lacks.
        dep: ChangeHash,
    },
    /// The same change twice.
    #[error("change {hash} is stored twice")]
    Twice {
        /// The change.
        hash: ChangeHash,
    },
    /// A snapshot does not give its changes back.
    #[error("the snapshot at arrival {arrival} is damaged: {error}")]
    Snapshot {
        /// Where it is.
        arrival: u64,
        /// What is wrong.
        error: CompactionError,
    },
    /// Arrival numbers do not grow, or a snapshot is not the first entry.
    #[error("arrival {arrival} does not follow its predecessor's")]
    Order {
        /// The number.
        arrival: u64,
    },
}

/// Position of a row in its log.
pub(super) type RowIx = u32;

/// What is kept of one admitted change.
#[derive(Debug, Clone)]
pub struct Row {
    hash: ChangeHash,
    arrival: u64,
    actor: u32,
    seq: u32,
    start_op: u32,
    max_op: u32,
    /// Bytes of the chunk.
    bytes: u32,
    /// Which set of actors occurs in the ancestry, the change itself included.
    ancestry: u32,
    hidden: bool,
    packed: bool,
    deps: SmallVec<[RowIx; 2]>,
}

impl Row {
    /// The change's hash.
    pub fn hash(&self) -> ChangeHash {
        self.hash
    }

    /// When it came, by the store's own count; part of its key on disk.
    pub fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Number of the change among its actor's.
    pub fn seq(&self) -> u64 {
        u64::from(self.seq)
    }

    /// Counter of its first op.
    pub fn start_op(&self) -> u64 {
        u64::from(self.start_op)
    }

    /// Counter of its last op.
    pub fn max_op(&self) -> u64 {
        u64::from(self.max_op)
    }

    /// Size of its chunk; 0 for a packed change.
    pub fn chunk_bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Whether it stays out of the view.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Whether its chunk is in the document's snapshot and not in an entry of its own. Its arrival number is then that
    /// of the snapshot's last change.
    pub fn is_packed(&self) -> bool {
        self.packed
    }
}

/// A change on its way into the log.
struct Arriving<'a> {
    hash: ChangeHash,
    actor: &'a Actor,
    seq: u64,
    start_op: u64,
    max_op: u64,
    /// Sorted.
    deps: &'a [ChangeHash],
    bytes: u32,
    arrival: u64,
    hidden: bool,
    packed: bool,
}

impl<'a> Arriving<'a> {
    fn loose(chunk: &'a Chunk, arrival: u64, hidden: bool) -> Self {
        Self {
            hash: chunk.hash(),
            actor: chunk.actor(),
            seq: chunk.seq(),
            start_op: chunk.start_op(),
            max_op: chunk.max_op(),
            deps: chunk.deps(),
            bytes: chunk.bytes().len() as u32,
            arrival,
            hidden,
            packed: false,
        }
    }

    fn packed(change: &'a PackedChange, arrival: u64) -> Self {
        Self {
            hash: change.hash,
            actor: &change.actor,
            seq: change.seq,
            start_op: change.start_op,
            max_op: change.max_op,
            deps: &change.deps,
            bytes: 0,
            arrival,
            hidden: false,
            packed: true,
        }
    }
}

/// The rows of one actor, by seq from 1.
#[derive(Debug, Clone)]
struct ActorRows {
    actor: Actor,
    rows: Vec<RowIx>,
}

/// The log of one document. See the module.
#[derive(Debug, Clone, Default)]
pub struct Log {
    rows: Vec<Row>,
    by_hash: BTreeMap<ChangeHash, RowIx>,
    /// Sorted.
    heads: Vec<ChangeHash>,
    actors: Vec<ActorRows>,
    actor_index: BTreeMap<Actor, u32>,
    sets: ActorSets,
    chunk_bytes: u64,
    /// Number of hidden rows.
    hidden: usize,
    /// Number of packed rows, which stand before all others.
    packed: usize,
    /// Under which arrival number the snapshot is stored.
    snapshot_at: Option<u64>,
}

impl Log {
    /// The log of a document that has no change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rebuilds the log from everything that table `chunks` holds of the document, in key order. About 1 µs a change.
    pub fn load(stored: &Rows) -> Result<Self, LogError> {
        let mut log = Self::new();
        log.extend_stored(stored)?;
        Ok(log)
    }

    /// Goes on loading with the next page of a scan.
    pub fn extend_stored(&mut self, stored: &Rows) -> Result<(), LogError> {
        for (index, (key, value)) in stored.iter().enumerate() {
            let row = StoredRow::read(key, value).map_err(|error| LogError::Row { index, error })?;
            let arrival = row.arrival;
            match row.kind {
                RowKind::Change => {
                    let chunk =
                        Chunk::parse_stored(row.bytes.to_vec()).map_err(|error| LogError::Chunk { arrival, error })?;
                    self.push(&chunk, arrival, row.hidden)?;
                }
                RowKind::Snapshot => self.unpack(&row)?,
            }
        }
        Ok(())
    }

    /// Takes in the changes of a snapshot, which is the first entry of a document or there is none.
    fn unpack(&mut self, row: &StoredRow<'_>) -> Result<(), LogError> {
        let arrival = row.arrival;
        let (last_arrival, changes) = row.covers.unwrap_or((arrival, 0));
        if !self.rows.is_empty() {
            return Err(LogError::Order { arrival });
        }
        let packed = compaction::read(row.bytes).map_err(|error| LogError::Snapshot { arrival, error })?;
        if packed.len() as u64 != changes {
            let missing = changes.saturating_sub(packed.len() as u64) as usize;
            let invented = packed.len().saturating_sub(changes as usize);
            return Err(LogError::Snapshot { arrival, error: CompactionError::Unfaithful { missing, invented } });
        }
        for change in &packed {
            self.append(Arriving::packed(change, last_arrival))?;
        }
        self.packed = packed.len();
        self.snapshot_at = Some(arrival);
        self.chunk_bytes += row.bytes.len() as u64;
        Ok(())
    }

    /// Appends changes that [`Log::stage`](super::ingest) admitted, in its order, under consecutive arrival numbers.
    pub fn admit(&mut self, admitted: &[Chunk], first_arrival: u64) -> Result<(), LogError> {
        for (chunk, arrival) in admitted.iter().zip(first_arrival..) {
            self.push(chunk, arrival, false)?;
        }
        Ok(())
    }

    fn push(&mut self, chunk: &Chunk, arrival: u64, hidden: bool) -> Result<(), LogError> {
        if self.loose_rows().last().is_some_and(|last| last.arrival >= arrival) {
            return Err(LogError::Order { arrival });
        }
        self.append(Arriving::loose(chunk, arrival, hidden))
    }

    fn append(&mut self, change: Arriving<'_>) -> Result<(), LogError> {
        let Arriving { hash, arrival, hidden, packed, .. } = change;
        if self.by_hash.contains_key(&hash) {
            return Err(LogError::Twice { hash });
        }
        let mut deps = SmallVec::with_capacity(change.deps.len());
        for dep in change.deps {
            deps.push(*self.by_hash.get(dep).ok_or(LogError::MissingDep { hash, dep: *dep })?);
        }
        let index = self.rows.len() as RowIx;
        let actor = self.intern_actor(change.actor);
        let ancestry = self.sets.extend(deps.iter().map(|d: &RowIx| self.rows[*d as usize].ancestry), actor);
        self.actors[actor as usize].rows.push(index);
        self.by_hash.insert(hash, index);
        // Ingest admits sorted dependencies only.
        self.heads.retain(|head| change.deps.binary_search(head).is_err());
        let at = self.heads.partition_point(|head| *head < hash);
        self.heads.insert(at, hash);
        self.chunk_bytes += u64::from(change.bytes);
        let hidden = hidden || deps.iter().any(|dep: &RowIx| self.rows[*dep as usize].hidden);
        self.hidden += usize::from(hidden);
        self.rows.push(Row {
            hash,
            arrival,
            actor,
            seq: change.seq as u32,
            start_op: change.start_op as u32,
            max_op: change.max_op as u32,
            bytes: change.bytes,
            ancestry,
            hidden,
            packed,
            deps,
        });
        Ok(())
    }

    fn intern_actor(&mut self, actor: &Actor) -> u32 {
        if let Some(index) = self.actor_index.get(actor) {
            return *index;
        }
        let index = self.actors.len() as u32;
        self.actors.push(ActorRows { actor: actor.clone(), rows: Vec::new() });
        self.actor_index.insert(actor.clone(), index);
        index
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the document has no change.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The changes that no other depends on, sorted.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// Whether the change was admitted.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// Whether a change whose hash begins with these bytes was admitted.
    pub fn contains_prefix(&self, prefix: &[u8; 8]) -> bool {
        let mut from = [0; 32];
        from[..8].copy_from_slice(prefix);
        self.by_hash.range(ChangeHash(from)..).next().is_some_and(|(hash, _)| hash.0.starts_with(prefix))
    }

    /// The row of a change.
    pub fn row(&self, hash: &ChangeHash) -> Option<&Row> {
        self.by_hash.get(hash).map(|index| self.at(*index))
    }

    /// A few changes, dense at the end and sparse towards the beginning: whoever knows one of them knows everything below.
    pub fn milestones(&self) -> impl Iterator<Item = ChangeHash> {
        let steps = std::iter::successors(Some(1usize), |step| step.checked_mul(2));
        steps.map_while(|step| self.len().checked_sub(step)).filter_map(|index| self.rows().get(index)).map(Row::hash)
    }

    /// All rows in a topological order: those in the snapshot, then the others by arrival.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The author of a row.
    pub fn actor_of(&self, row: &Row) -> &Actor {
        &self.actors[row.actor as usize].actor
    }

    /// Direct dependencies of a row.
    pub fn deps_of<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a Row> {
        row.deps.iter().map(|dep| self.at(*dep))
    }

    /// The newest change of each actor, by actor.
    pub fn tips(&self) -> impl Iterator<Item = (&Actor, &Row)> {
        self.actor_index.iter().filter_map(|(actor, index)| {
            let last = *self.actors[*index as usize].rows.last()?;
            Some((actor, self.at(last)))
        })
    }

    /// The newest change of one actor.
    pub fn tip(&self, actor: &Actor) -> Option<&Row> {
        let rows = &self.actors[*self.actor_index.get(actor)? as usize].rows;
        rows.last().map(|last| self.at(*last))
    }

    /// The change of an actor with this seq.
    pub fn by_seq(&self, actor: &Actor, seq: u64) -> Option<&Row> {
        let rows = &self.actors[*self.actor_index.get(actor)? as usize].rows;
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        rows.get(index).map(|index| self.at(*index))
    }

    /// Largest op counter in the document.
    pub fn max_op(&self) -> u64 {
        self.heads.iter().filter_map(|head| self.row(head)).map(Row::max_op).max().unwrap_or(0)
    }

    /// Number of the last arrival, zero for an empty log.
    pub fn last_arrival(&self) -> u64 {
        let packed = self.rows.first().filter(|row| row.packed).map_or(0, |row| row.arrival);
        self.rows.last().map_or(0, |row| row.arrival.max(packed))
    }

    /// Number of changes in the snapshot.
    pub fn packed_len(&self) -> usize {
        self.packed
    }

    /// Under which arrival number the snapshot is stored, if there is one.
    pub fn snapshot_arrival(&self) -> Option<u64> {
        self.snapshot_at
    }

    /// The changes that have entries of their own, in order of arrival.
    pub fn loose_rows(&self) -> &[Row] {
        &self.rows[self.packed..]
    }

    /// Bytes of all chunks and of the snapshot on disk.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Estimate of the heap that this log takes, in bytes.
    pub fn bytes(&self) -> usize {
        // A B-tree keeps its leaves about two thirds full.
        let per_row = size_of::<Row>() + (size_of::<ChangeHash>() + 4) * 3 / 2 + 4;
        let spilled: usize = self.rows.iter().filter(|r| r.deps.spilled()).map(|r| r.deps.capacity() * 4).sum();
        let per_actor = size_of::<ActorRows>() + 2 * (size_of::<Actor>() + 8);
        size_of::<Self>()
            + self.rows.len() * per_row
            + spilled
            + self.actors.len() * per_actor
            + self.heads.capacity() * size_of::<ChangeHash>()
            + self.sets.bytes()
    }

    /// Whether any change is hidden from the view.
    pub fn has_hidden(&self) -> bool {
        self.hidden > 0
    }

    /// Hides every row that is picked or depends on a hidden one; returns those that were not hidden before.
    pub(super) fn hide_where(&mut self, pick: impl Fn(&ChangeHash) -> bool) -> Vec<ChangeHash> {
        let mut fresh = Vec::new();
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            let hide = pick(&row.hash) || row.deps.iter().any(|dep| self.rows[*dep as usize].hidden);
            if hide && !row.hidden {
                fresh.push(row.hash);
                self.rows[index].hidden = true;
            }
        }
        self.hidden += fresh.len();
        fresh
    }

    pub(super) fn at(&self, index: RowIx) -> &Row {
        &self.rows[index as usize]
    }

    pub(super) fn index_of(&self, hash: &ChangeHash) -> Option<RowIx> {
        self.by_hash.get(hash).copied()
    }

    pub(super) fn actor_number(&self, actor: &Actor) -> Option<u32> {
        self.actor_index.get(actor).copied()
    }

    pub(super) fn actor_count(&self) -> u32 {
        self.actors.len() as u32
    }

    pub(super) fn ancestry_of(&self, row: &Row) -> &ActorSet {
        self.sets.set(row.ancestry)
    }
}

#[cfg(test)]
mod tests;
