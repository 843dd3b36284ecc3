//! Compaction: a snapshot in the place of many small chunks.
//!
//! A snapshot is Automerge's own document format: one deflated table of all ops, about a hundredth of the changes it
//! stands for when those are keystrokes. It is a *cache* of changes, and is kept only if it gives back every one of
//! them under its own hash, each of which passes the chunk parser again; otherwise the chunks stay as they are.
//!
//! ```text
//! before   5: change   8: change   9: hidden   12: change   13: change
//! after    5: snapshot of 5, 8, 12             9: hidden    13: change
//! ```
//!
//! The snapshot takes the place of the oldest entry that it covers, so that it is read first; the newest arrivals stay
//! chunks, since those are what neighbours ask for; hidden changes and their descendants stay chunks, so that a later
//! version may show them. The covered changes count as arrived when the last of them did.
//!
//! **When.** Once the loose changes outnumber what the snapshot holds: the whole costs a constant number of times the
//! last compaction, however long a document grows. It opens the document, so it belongs to idle moments of a document
//! that nobody edits. Not here: when that is.

use automerge::{Automerge, LoadOptions, OnPartialLoad, TextEncoding};
use thiserror::Error;

use super::chunk::{Chunk, ChunkError, ChunkLimits};
use super::log::Log;
use super::quarantine::{self, ApplyError};
use super::row::{self, RowKind, StoredRow};
use crate::id::{Actor, ChangeHash, DocumentId};
use crate::io::{Rows, Table, WriteOp};

/// When a document is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Fewest changes worth a snapshot. Default 64: below, a page of the store holds them all anyway.
    pub min_changes: usize,
    /// Newest changes that stay chunks. Default 32.
    pub tail: usize,
    /// How many loose changes for each packed one before the next compaction, in percent. Default 100: a document is
    /// packed at twice its last packed length. Less saves disk, more saves time.
    pub growth_percent: usize,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self { min_changes: 64, tail: 32, growth_percent: 100 }
    }
}

/// Why a document was not compacted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// Automerge does not take the changes, or not the snapshot that it made of them.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A change that the snapshot gives back is malformed.
    #[error("the snapshot gives back a malformed change: {0}")]
    Chunk(#[from] ChunkError),
    /// The snapshot does not give back exactly the changes that it is to stand for.
    #[error("the snapshot lacks {missing} changes and invents {invented}")]
    Unfaithful {
        /// Covered changes that it does not give back.
        missing: usize,
        /// Changes that it gives back and does not cover.
        invented: usize,
    },
    /// The chunks weigh less than the snapshot.
    #[error("a snapshot of {snapshot} B does not pay for {chunks} B of chunks")]
    NotSmaller {
        /// Bytes of the snapshot.
        snapshot: usize,
        /// Bytes of what it would replace.
        chunks: usize,
    },
    /// A change in the snapshot has an actor that no change chunk can have.
    #[error("the snapshot names an actor that no change can have")]
    Actor,
    /// The stored entries are not those of the log.
    #[error("the stored entries do not belong to this log")]
    Mismatch,
}

/// What a compaction is going to cover: every visible change up to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The last covered arrival.
    pub last_arrival: u64,
    /// Number of covered changes, packed ones included.
    pub changes: usize,
}

/// A finished compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// To be written in one transaction; then the log is to be loaded anew.
    pub ops: Vec<WriteOp>,
    /// Bytes of the snapshot.
    pub snapshot_bytes: usize,
    /// Bytes of the entries that it replaces.
    pub replaced_bytes: usize,
}

impl CompactionPolicy {
    /// Decides by the log alone, in O(tail) where nothing is due.
    pub fn plan(&self, log: &Log) -> Option<Plan> {
        let loose = log.loose_rows();
        let due = (log.packed_len() * self.growth_percent / 100).max(self.min_changes);
        let coverable = &loose[..loose.len().saturating_sub(self.tail)];
        if coverable.len() < due {
            return None;
        }
        let last_arrival = coverable.last()?.arrival();
        let fresh = coverable.iter().filter(|row| !row.is_hidden()).count();
        (fresh >= due).then_some(Plan { last_arrival, changes: log.packed_len() + fresh })
    }
}

/// Builds the snapshot that a plan asks for, proves it, and says what to write. `stored` is everything that table
/// `chunks` holds of the document, in key order.
pub fn compact(document: &DocumentId, log: &Log, plan: &Plan, stored: &Rows) -> Result<Compacted, CompactionError> {
    let rows: Result<Vec<StoredRow<'_>>, _> = stored.iter().map(|(key, value)| StoredRow::read(key, value)).collect();
    let covers =
        |row: &StoredRow<'_>| row.kind == RowKind::Snapshot || (row.arrival <= plan.last_arrival && !row.hidden);
    let covered: Vec<StoredRow<'_>> = rows.map_err(|_| CompactionError::Mismatch)?.into_iter().filter(covers).collect();
    let first = covered.first().ok_or(CompactionError::Mismatch)?.arrival;
    let snapshot = build(&covered)?;
    prove(log, plan, &snapshot)?;
    let replaced_bytes: usize = covered.iter().map(|row| row.bytes.len() + row::KEY_LEN).sum();
    if snapshot.len() + row::KEY_LEN >= replaced_bytes {
        return Err(CompactionError::NotSmaller { snapshot: snapshot.len(), chunks: replaced_bytes });
    }
    let mut ops = vec![row::put_snapshot(document, first, plan.last_arrival, plan.changes, &snapshot)];
    let rest = covered.iter().skip(1).map(|row| row::key(document, row.arrival).to_vec());
    ops.extend(rest.map(|key| WriteOp::Delete(Table::Chunks, key)));
    Ok(Compacted { ops, snapshot_bytes: snapshot.len(), replaced_bytes })
}

/// The snapshot of covered entries: an older snapshot, if any, and changes.
fn build(covered: &[StoredRow<'_>]) -> Result<Vec<u8>, CompactionError> {
    let (older, changes): (Vec<&StoredRow<'_>>, Vec<_>) = covered.iter().partition(|row| row.kind == RowKind::Snapshot);
    if older.len() > 1 {
        return Err(CompactionError::Mismatch);
    }
    let mut doc = match older.first() {
        Some(row) => load(row.bytes)?,
        None => Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit),
    };
    let snapshot = quarantine::guarded(move || {
        quarantine::apply(&mut doc, changes.iter().map(|row| row.bytes))?;
        Ok(doc.save())
    })?;
    Ok(snapshot)
}

/// Checks that a snapshot gives back what it is to stand for.
fn prove(log: &Log, plan: &Plan, snapshot: &[u8]) -> Result<(), CompactionError> {
    let mut given: Vec<ChangeHash> = expand(snapshot)?.iter().map(Chunk::hash).collect();
    given.sort_unstable();
    let covered = |row: &&super::log::Row| row.is_packed() || (row.arrival() <= plan.last_arrival && !row.is_hidden());
    let mut wanted: Vec<ChangeHash> = log.rows().iter().filter(covered).map(|row| row.hash()).collect();
    wanted.sort_unstable();
    let lacking = |of: &[ChangeHash], from: &[ChangeHash]| of.iter().filter(|h| from.binary_search(h).is_err()).count();
    let (missing, invented) = (lacking(&wanted, &given), lacking(&given, &wanted));
    if missing + invented > 0 || given.len() != plan.changes {
        return Err(CompactionError::Unfaithful { missing, invented });
    }
    Ok(())
}

/// The changes of a snapshot, in topological order and in the form in which they travel. About 3 µs a change, and the
/// heap of the opened document.
pub fn expand(snapshot: &[u8]) -> Result<Vec<Chunk>, CompactionError> {
    let doc = load(snapshot)?;
    let changes = quarantine::guarded(|| Ok(doc.get_changes(&[])))?;
    let limits = ChunkLimits::default();
    let parse = |mut change: automerge::Change| Chunk::parse(change.bytes().into_owned(), &limits);
    Ok(changes.into_iter().map(parse).collect::<Result<_, _>>()?)
}

/// What a log keeps of a change in a snapshot.
pub(super) struct PackedChange {
    pub(super) hash: ChangeHash,
    pub(super) actor: Actor,
    pub(super) seq: u64,
    pub(super) start_op: u64,
    pub(super) max_op: u64,
    /// Sorted.
    pub(super) deps: Vec<ChangeHash>,
}

/// The rows of a snapshot's changes, in topological order: a third of the work of [`expand`], since opening the document
/// computes the hashes and nothing has to be encoded again.
pub(super) fn read(snapshot: &[u8]) -> Result<Vec<PackedChange>, CompactionError> {
    let doc = load(snapshot)?;
    let rows = quarantine::guarded(|| {
        let metadata = doc.get_changes_meta(&[]);
        Ok(metadata.into_iter().map(PackedChange::of).collect::<Option<Vec<_>>>())
    })?;
    rows.ok_or(CompactionError::Actor)
}

impl PackedChange {
    fn of(change: automerge::ChangeMetadata<'_>) -> Option<Self> {
        let mut deps: Vec<ChangeHash> = change.deps.iter().map(|dep| ChangeHash(dep.0)).collect();
        deps.sort_unstable();
        Some(Self {
            hash: ChangeHash(change.hash.0),
            actor: Actor::from_bytes(change.actor.to_bytes())?,
            seq: change.seq,
            start_op: change.start_op,
            max_op: change.max_op,
            deps,
        })
    }
}

fn load(snapshot: &[u8]) -> Result<Automerge, ApplyError> {
    quarantine::guarded(|| {
        let options =
            LoadOptions::new().on_partial_load(OnPartialLoad::Error).text_encoding(TextEncoding::Utf16CodeUnit);
        Automerge::load_with_options(snapshot, options).map_err(|e| ApplyError::Refused { detail: e.to_string() })
    })
}

#[cfg(test)]
mod tests {
    use super::super::craft::{Craft, put_columns, random_history};
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use std::collections::{BTreeMap, BTreeSet};

    const DOCUMENT: DocumentId = DocumentId([4; 16]);
    const POLICY: CompactionPolicy = CompactionPolicy { min_changes: 10, tail: 5, growth_percent: 50 };

    /// Table `chunks` of one document.
    #[derive(Default)]
    struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Store {
        fn write(&mut self, ops: Vec<WriteOp>) {
            for op in ops {
                match op {
                    WriteOp::Put(_, key, value) => drop(self.0.insert(key, value)),
                    WriteOp::Delete(_, key) => drop(self.0.remove(&key)),
                    WriteOp::DeleteRange(_, from, to) => self.0.retain(|key, _| !(&from..&to).contains(&key)),
                }
            }
        }

        fn add(&mut self, log: &mut Log, chunks: &[Chunk]) {
            for chunk in chunks {
                let arrival = log.last_arrival() + 3;
                log.admit(std::slice::from_ref(chunk), arrival).unwrap();
                let hidden = log.row(&chunk.hash()).unwrap().is_hidden();
                self.write(vec![row::put_change(&DOCUMENT, arrival, chunk.bytes(), hidden)]);
            }
        }

        fn rows(&self) -> Rows {
            let mut rows = Rows::default();
            self.0.iter().for_each(|(key, value)| rows.push(key, value));
            rows
        }

        fn compact(&mut self, log: &mut Log) -> Compacted {
            let plan = POLICY.plan(log).expect("due");
            let compacted = compact(&DOCUMENT, log, &plan, &self.rows()).unwrap();
            self.write(compacted.ops.clone());
            *log = Log::load(&self.rows()).unwrap();
            compacted
        }
    }

    fn history(len: usize) -> Vec<Chunk> {
        random_history(&mut ChaCha12Rng::seed_from_u64(8), 3, len)
    }

    #[test]
    fn a_compacted_log_is_the_same_log() {
        let chunks = history(80);
        let (mut store, mut log) = (Store::default(), Log::new());
        store.add(&mut log, &chunks[..40]);
        let before = (log.heads().to_vec(), log.len(), log.max_op(), log.last_arrival());
        let compacted = store.compact(&mut log);
        assert!(compacted.snapshot_bytes < compacted.replaced_bytes / 2, "{compacted:?}");
        assert_eq!(store.0.len(), 6, "a snapshot and the tail");
        assert_eq!(before, (log.heads().to_vec(), log.len(), log.max_op(), log.last_arrival()));
        assert_eq!(log.packed_len(), 35);
        assert!(POLICY.plan(&log).is_none());
        assert_eq!(log.changes_since(log.last_arrival() - 6).count(), 2);
        // It goes on from there, and packs again.
        store.add(&mut log, &chunks[40..]);
        store.compact(&mut log);
        assert_eq!(store.0.len(), 6);
        let mut whole = Log::new();
        whole.admit(&chunks, 1).unwrap();
        assert_eq!((whole.heads(), whole.len()), (log.heads(), log.len()));
        for chunk in &chunks {
            let (one, two) = (whole.row(&chunk.hash()).unwrap(), log.row(&chunk.hash()).unwrap());
            assert_eq!((one.seq(), one.start_op(), one.max_op()), (two.seq(), two.start_op(), two.max_op()));
            let deps = |log: &Log, row| Log::deps_of(log, row).map(|dep| dep.hash()).collect::<BTreeSet<_>>();
            assert_eq!(deps(&whole, one), deps(&log, two));
        }
        let tips = |log: &Log| log.tips().map(|(actor, row)| (actor.clone(), row.hash())).collect::<Vec<_>>();
        assert_eq!(tips(&whole), tips(&log));
    }

    #[test]
    fn a_packed_change_is_found_in_the_snapshot() {
        let chunks = history(40);
        let (mut store, mut log) = (Store::default(), Log::new());
        store.add(&mut log, &chunks);
        store.compact(&mut log);
        let row = log.row(&chunks[3].hash()).unwrap();
        assert!(row.is_packed());
        let rows = store.rows();
        let (key, value) = rows.row(0).unwrap();
        let stored = StoredRow::read(key, value).unwrap();
        assert_eq!((stored.kind, Some(stored.arrival)), (RowKind::Snapshot, log.snapshot_arrival()));
        let expanded = expand(stored.bytes).unwrap();
        assert!(
            expanded.iter().any(|chunk| chunk.hash() == chunks[3].hash() && chunk.op_count() == chunks[3].op_count())
        );
    }

    #[test]
    fn hidden_changes_stay_chunks() {
        let mut chunks = history(40);
        let first = Craft::new(50).chunk();
        let mut craft = Craft::after(&first);
        craft.columns = put_columns("j", 1);
        craft.set_column(1, &[0x7f, 0]).set_column(2, &[0x7f, 1]);
        let poison = craft.chunk();
        let above = Craft::after(&poison).chunk();
        chunks.splice(10..10, [first, poison.clone(), above.clone()]);
        let (mut store, mut log) = (Store::default(), Log::new());
        store.add(&mut log, &chunks);
        let plan = POLICY.plan(&log).unwrap();
        assert!(matches!(compact(&DOCUMENT, &log, &plan, &store.rows()), Err(CompactionError::Apply(_))));
        for hash in log.hide(&[poison.hash()]) {
            let chunk = chunks.iter().find(|chunk| chunk.hash() == hash).unwrap();
            let arrival = log.row(&hash).unwrap().arrival();
            store.write(vec![row::put_change(&DOCUMENT, arrival, chunk.bytes(), true)]);
        }
        let heads = log.heads().to_vec();
        store.compact(&mut log);
        assert_eq!(log.heads(), heads);
        for (number, heads) in log.heads_history() {
            let since: Vec<_> = log.changes_since(number).map(|row| row.hash()).collect();
            assert!(
                log.missing(&heads).all(|row| since.contains(&row.hash())),
                "what a past state lacks came after it"
            );
        }
        for hidden in [&poison, &above] {
            let row = log.row(&hidden.hash()).unwrap();
            assert!(row.is_hidden() && !row.is_packed());
        }
        assert_eq!(log.len(), chunks.len());
    }

    #[test]
    fn a_snapshot_that_does_not_cover_the_log_is_not_kept() {
        let chunks = history(40);
        let (mut store, mut log) = (Store::default(), Log::new());
        store.add(&mut log, &chunks);
        let plan = POLICY.plan(&log).unwrap();
        let short = Plan { last_arrival: plan.last_arrival, changes: plan.changes + 1 };
        let error = compact(&DOCUMENT, &log, &short, &store.rows()).unwrap_err();
        assert_eq!(error, CompactionError::Unfaithful { missing: 0, invented: 0 });
        assert!(expand(b"no snapshot").is_err());
    }
}
