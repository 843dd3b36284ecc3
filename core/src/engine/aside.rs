//! What reviews took out of documents: listed, handed out to be made again, discarded.

use std::collections::BTreeSet;

use super::command::{Outcome, whole_document};
use super::keys::aside;
use super::review::{Stored, endorsements};
use super::storage::ReadPurpose;
use super::{CommandError, Engine, EvictedChange, EvictedDocument, Reply, keys};
use crate::document::Chunk;
use crate::document::row::StoredRow;
use crate::id::{ChangeHash, DocumentId, Path, Prefix, SpaceId};
use crate::io::{RequestId, Rows, StorageFailure, Table, WriteOp};
use crate::trust::Endorsement;

/// A read of what is set aside of a document.
#[derive(Debug)]
pub(super) struct AsideRead {
    request: RequestId,
    space: SpaceId,
    document: DocumentId,
    /// What is to be discarded, all of it if nothing is named; `None`: it is handed out.
    discard: Option<Vec<ChangeHash>>,
}

impl Engine {
    pub(super) fn list_evicted(&self, space: SpaceId, prefix: &Prefix) -> Outcome {
        let entries = self.space(&space)?.index.under(prefix, None);
        let evicted = entries.filter_map(|entry| {
            let changes = entry.aside.as_deref().map_or(0, |aside| aside.changes);
            let (path, generation, document) = (entry.path.clone(), entry.generation, entry.id);
            (changes > 0).then_some(EvictedDocument { path, generation, document, changes })
        });
        Ok(Some(Reply::Evicted(evicted.take(super::MAX_LIST).collect())))
    }

    pub(super) fn ask_aside(
        &mut self,
        request: RequestId,
        space: SpaceId,
        path: &Path,
        discard: Option<Vec<ChangeHash>>,
    ) -> Outcome {
        let index = &self.space(&space)?.index;
        let entry = index.generation(path, index.live_generation(path));
        let Some(document) = entry.filter(|entry| entry.aside.is_some()).map(|entry| entry.id) else {
            return Ok(Some(if discard.is_some() { Reply::Done } else { Reply::EvictedChanges(Vec::new()) }));
        };
        let ops = whole_document(&document).into_iter().chain(whole_document(&aside(&document))).collect();
        self.read(ReadPurpose::Aside(AsideRead { request, space, document, discard }), ops);
        Ok(None)
    }

    pub(super) fn on_aside_rows(&mut self, read: AsideRead, rows: Result<Vec<Rows>, StorageFailure>) {
        match rows {
            Err(failure) => self.reply(read.request, Err(CommandError::Storage(failure))),
            Ok(rows) => match &read.discard {
                None => {
                    let changes = self.evicted_changes(&read, &rows);
                    self.reply(read.request, Ok(Reply::EvictedChanges(changes)));
                }
                Some(changes) => self.discard_evicted(&read, changes, &rows),
            },
        }
    }

    fn evicted_changes(&self, read: &AsideRead, rows: &[Rows]) -> Vec<EvictedChange> {
        let [chunks, signed, chunks_aside, signed_aside] = rows else { return Vec::new() };
        let Some(state) = self.spaces.get(&read.space) else { return Vec::new() };
        let Some(entry) = state.index.by_id(&read.document) else { return Vec::new() };
        let own = self.identity().device;
        let mut all = endorsements(signed, &read.document);
        all.extend(endorsements(signed_aside, &read.document));
        let describe = |chunk: Chunk| {
            let covers = |it: &&Endorsement| it.actor() == *chunk.actor() && it.seq >= chunk.seq();
            let counting = all.iter().filter(covers).find(|it| state.roster.endorses(it, &entry.path).is_ok());
            let claims = state.roster.claims(&read.document).iter();
            let contested = claims.filter(|it| it.actor == *chunk.actor()).any(|it| it.seq <= chunk.seq());
            let device = counting.or_else(|| all.iter().find(covers)).map(|it| it.device);
            EvictedChange {
                change: chunk.hash(),
                seq: chunk.seq(),
                device,
                mine: device == Some(own),
                honest: counting.is_some() && !contested,
                bytes: chunk.into_bytes(),
            }
        };
        // What its author has signed anew came back like any change.
        let back = Stored::read(chunks).hashes();
        let aside = stored(chunks_aside).into_iter().map(|(_, chunk)| chunk);
        aside.filter(|chunk| !back.contains(&chunk.hash())).map(describe).collect()
    }

    fn discard_evicted(&mut self, read: &AsideRead, changes: &[ChangeHash], rows: &[Rows]) {
        let Some(chunks_aside) = rows.get(2) else { return };
        let picked: BTreeSet<&ChangeHash> = changes.iter().collect();
        let (mut ops, mut left) = (Vec::new(), 0u32);
        for (key, chunk) in stored(chunks_aside) {
            if changes.is_empty() || picked.contains(&chunk.hash()) {
                ops.push(WriteOp::Delete(Table::Chunks, key));
            } else {
                left += 1;
            }
        }
        if left == 0 {
            ops.push(super::batch::delete_endorsements(&aside(&read.document)));
        }
        let entry = self.spaces.get(&read.space).and_then(|s| Some((s.number, s.index.by_id(&read.document)?.clone())));
        // While the document is being reviewed its rows are written anew: ask again then.
        let busy = self.review_blocks(&read.document);
        if let Some((number, mut entry)) = entry.filter(|_| !busy)
            && let Some(aside) = &mut entry.aside
        {
            aside.changes = left;
            let spent = !aside.spent.is_empty();
            entry.aside = entry.aside.take().filter(|aside| spent || aside.changes > 0);
            let key = keys::index(number, &entry.path, entry.generation);
            ops.push(WriteOp::Put(Table::Index, key, entry.encode()));
            self.pending.ops.extend(ops);
            self.pending.replaced.push((read.space, entry));
        } else if busy {
            let error = CommandError::Busy { what: "a review of the document", bound: 1 };
            return self.reply(read.request, Err(error));
        }
        self.pending.replies.push((read.request, Ok(Reply::Done)));
    }
}

fn stored(rows: &Rows) -> Vec<(Vec<u8>, Chunk)> {
    let read = |(key, value): (&[u8], &[u8])| {
        let row = StoredRow::read(key, value).ok()?;
        Some((key.to_vec(), Chunk::parse_stored(row.bytes.to_vec()).ok()?))
    };
    rows.iter().filter_map(read).collect()
}
