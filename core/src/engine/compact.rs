//! Snapshots in the place of chunks, in idle moments.
//!
//! Compacting opens a document, which costs about as much as a program opening it. So a document waits until nobody has
//! changed it for [`EngineConfig::compact_after`](crate::config::EngineConfig::compact_after), and one is compacted at a
//! time.

use std::collections::BTreeMap;

use super::batch::Batch;
use super::document::LoadWait;
use super::index::Entry;
use super::{Engine, Reply};
use crate::document::compaction::{CompactionPolicy, compact};
use crate::id::{DocumentId, SpaceId};
use crate::io::{RequestId, Rows, WriteOp};
use crate::time::Timestamp;

/// Most documents that are remembered as due; others are found when they change again.
const MAX_DUE: usize = 4_096;

/// Documents that may be worth compacting.
#[derive(Debug, Default)]
pub(super) struct Compacting {
    /// With the time of their last change.
    due: BTreeMap<DocumentId, (SpaceId, Timestamp)>,
    /// No document is due before; looked up anew when this has come.
    earliest: Option<Timestamp>,
    running: Option<DocumentId>,
    /// Commands to answer when nothing is due any more.
    requests: Vec<RequestId>,
}

impl Engine {
    /// Remembers a document whose loose chunks may have become many.
    pub(super) fn note_compactable(&mut self, entry: &Entry) {
        let policy = CompactionPolicy::default();
        let enough = entry.chunks as usize >= policy.min_changes + policy.tail;
        if !enough || entry.deleted() {
            return;
        }
        let Some(place) = self.place(entry) else { return };
        let now = self.now.mono;
        self.compacting.earliest.get_or_insert(now);
        if self.compacting.due.len() < MAX_DUE || self.compacting.due.contains_key(&entry.id) {
            self.compacting.due.insert(entry.id, (place, self.now.mono));
        }
    }

    fn place(&self, entry: &Entry) -> Option<SpaceId> {
        self.spaces.values().find(|s| s.index.by_id(&entry.id).is_some()).map(|s| s.id())
    }

    /// Compacts everything that is due, however recent its last change.
    pub(super) fn compact_all(&mut self, request: RequestId) {
        let policy = CompactionPolicy::default();
        for space in self.spaces.values() {
            let entries = space.index.newest_first();
            let many = entries.filter(|e| !e.deleted() && e.chunks as usize >= policy.min_changes + policy.tail);
            self.compacting.due.extend(many.map(|e| (e.id, (space.id(), Timestamp::ZERO))));
        }
        self.compacting.requests.push(request);
        self.run_compaction();
    }

    pub(super) fn compaction_timer(&self) -> Option<Timestamp> {
        if self.compacting.running.is_some() {
            return None;
        }
        self.compacting.earliest.map(|at| at + self.config.compact_after)
    }

    /// Begins with the next document, if one has rested for long enough.
    pub(super) fn run_compaction(&mut self) {
        if self.compacting.running.is_some() {
            return;
        }
        let now = self.now.mono;
        let after = self.config.compact_after;
        let asked = !self.compacting.requests.is_empty();
        if !asked && self.compacting.earliest.is_none_or(|at| at + after > now) {
            return;
        }
        self.compacting.earliest = self.compacting.due.values().map(|(_, at)| *at).min();
        let rested = self.compacting.due.iter().find(|(_, (_, at))| asked || *at + after <= now);
        let Some((id, (space, _))) = rested.map(|(id, place)| (*id, *place)) else {
            if self.compacting.due.is_empty() {
                for request in std::mem::take(&mut self.compacting.requests) {
                    self.reply(request, Ok(Reply::Done));
                }
            }
            return;
        };
        self.compacting.due.remove(&id);
        if let Some((path, generation)) = self.place_of(&space, &id) {
            self.compacting.running = Some(id);
            self.await_rows(space, &path, generation, id, LoadWait::Compact);
        }
    }

    pub(super) fn compaction_done(&mut self, id: &DocumentId) {
        if self.compacting.running == Some(*id) {
            self.compacting.running = None;
            self.run_compaction();
        }
    }

    /// A document's rows are there.
    pub(super) fn compact_loaded(&mut self, id: DocumentId, rows: Option<&Rows>) {
        let working = self.documents.get(&id);
        let compacted = working.zip(rows).and_then(|(working, rows)| {
            let log = working.log.as_ref()?;
            let plan = CompactionPolicy::default().plan(log)?;
            // A document that does not open, or whose snapshot is not faithful, stays as it is.
            let compacted = compact(&id, log, &plan, rows).ok()?;
            let at = compacted.ops.iter().find_map(|op| match op {
                WriteOp::Put(_, key, _) => super::keys::parse_chunk(key),
                _ => None,
            })?;
            Some((working.space, compacted, (at, plan.last_arrival)))
        });
        match compacted {
            Some((space, compacted, packed)) => {
                self.pending.compactions.push((space, id, compacted, packed));
            }
            None => self.compaction_done(&id),
        }
    }

    pub(super) fn draft_compactions(&mut self, batch: &mut Batch) {
        for (space, id, compacted, packed) in std::mem::take(&mut self.pending.compactions) {
            let Some((path, generation)) = self.place_of(&space, &id) else { continue };
            // A review that was being written meanwhile has given every row another number.
            let stands = self.documents.get(&id).and_then(|working| working.log.as_ref()).is_some_and(|log| {
                log.loose_rows().binary_search_by_key(&packed.1, crate::document::log::Row::arrival).is_ok()
            });
            let draft = self.draft(batch, space, &path, generation, id);
            if draft.entry.deleted() || draft.redraft.is_some() || !stands {
                // It was made of what is no longer there.
                batch.effects.compacted.push(id);
                continue;
            }
            let removed = compacted.ops.iter().filter(|op| matches!(op, WriteOp::Delete(..))).count();
            draft.entry.chunks = draft.entry.chunks.saturating_sub(u32::try_from(removed).unwrap_or(u32::MAX));
            let bytes = draft.entry.bytes.saturating_sub(compacted.replaced_bytes as u64);
            draft.entry.bytes = bytes + compacted.snapshot_bytes as u64;
            draft.entry.packed = Some(Box::new(packed));
            draft.compacted = true;
            batch.ops.extend(compacted.ops);
            batch.effects.compacted.push(id);
        }
    }
}
