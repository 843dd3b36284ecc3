//! Changes of foreign actors: what programs bring that speak Automerge and are no peers.
//!
//! Nobody has signed such changes. The device that lets them in vouches for them, with its own right to write: for an
//! actor's chain by one endorsement of its newest change, for a change that lacks its direct predecessor alone. From there
//! on they are like any others: judged by the same checks, replicated, and gone when the device's grant is revoked with
//! what it let in.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::Batch;
use super::command::{Import, Outcome, wire_endorsement};
use super::index::Entry;
use super::ingest::{Inbox, Source, contests};
use super::storage::ReadPurpose;
use super::{CommandError, Engine, Reply, StoredChanges, keys};
use crate::document::chunk::{Chunk, ChunkLimits};
use crate::document::ingest::{EndorsedTip, TipKind};
use crate::document::log::Log;
use crate::document::row::StoredRow;
use crate::id::{Actor, ChangeHash, DocumentId, Path, SpaceId};
use crate::io::{ReadOp, RequestId, Rows, StorageFailure, Table};
use crate::trust::{Endorsement, EndorsementKind};
use crate::wire::v1::DocumentUpdate;

/// Most changes that one command lets in.
pub const MAX_ADMITTED: usize = 4_096;

/// Most bytes that one command lets in.
pub const MAX_ADMITTED_BYTES: usize = 16 << 20;

/// Changes that wait for the endorsements of their document to be read.
#[derive(Debug)]
pub(super) struct AdmitRead {
    request: RequestId,
    space: SpaceId,
    path: Path,
    generation: u32,
    chunks: Vec<Vec<u8>>,
}

/// A document whose changes are being read.
#[derive(Debug)]
pub(super) struct ChangesRead {
    request: RequestId,
    generation: u32,
    evicted: u32,
    after: u64,
}

fn all(table: Table, document: &DocumentId) -> ReadOp {
    ReadOp::Scan { table, from: document.0.to_vec(), to: keys::after_document(document), limit: usize::MAX }
}

impl Engine {
    pub(super) fn admit(
        &mut self,
        request: RequestId,
        space: SpaceId,
        path: Path,
        generation: u32,
        chunks: Vec<Vec<u8>>,
    ) -> Outcome {
        let state = self.space(&space)?;
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        for (what, found, most) in
            [("changes", chunks.len(), MAX_ADMITTED), ("bytes of changes", bytes, MAX_ADMITTED_BYTES)]
        {
            if found > most {
                let why = format!("{found} at once, at most {most} are taken: send them in several parts");
                return Err(CommandError::Invalid { what, why });
            }
        }
        if !state.roster.can_write(&self.identity().device, &path) {
            return Err(self.denied(&space, "write", &path));
        }
        if state.index.live_generation(&path) != generation {
            return Err(CommandError::Deleted(path));
        }
        let id = DocumentId::derive(&space, &path, generation);
        let scans = vec![all(Table::Endorsements, &id), all(Table::Chunks, &keys::aside(&id))];
        let read = AdmitRead { request, space, path, generation, chunks };
        self.read(ReadPurpose::Admit(Box::new(read)), scans);
        Ok(None)
    }

    /// Actors that devices of the space have signed for as their own are nobody else's to go on with.
    pub(super) fn on_admit_rows(&mut self, read: AdmitRead, rows: Result<Vec<Rows>, StorageFailure>) {
        let AdmitRead { request, space, path, generation, chunks } = read;
        let rows = match rows {
            Ok(rows) => rows,
            Err(failure) => return self.reply(request, Err(CommandError::Storage(failure))),
        };
        let [endorsed, aside] = rows.as_slice() else {
            let detail = format!("two ranges were to be read, and {} were", rows.len());
            return self.reply(request, Err(CommandError::Storage(StorageFailure::Io { detail })));
        };
        let signed = endorsed.iter().filter_map(|(key, value)| Endorsement::from_storage(key, value).ok());
        let (mut owned, mut loose) = (BTreeSet::new(), BTreeSet::new());
        for endorsement in signed {
            match (endorsement.is_foreign(), endorsement.kind) {
                (false, _) => _ = owned.insert(endorsement.actor()),
                (true, EndorsementKind::Single) => _ = loose.insert(endorsement.actor()),
                (true, EndorsementKind::Chain) => {}
            }
        }
        // What facts took out of the document does not come back by way of somebody who still has it.
        let id = DocumentId::derive(&space, &path, generation);
        let entry = self.spaces.get(&space).and_then(|state| state.index.by_id(&id));
        owned.extend(entry.and_then(|entry| entry.aside.as_deref()).into_iter().flat_map(|aside| aside.spent.clone()));
        let aside = super::ship::expand(aside.iter().filter_map(|(key, value)| StoredRow::read(key, value).ok()));
        let evicted: BTreeSet<ChangeHash> = aside.into_iter().map(|(hash, _)| hash).collect();
        let offered = chunks.len();
        let limits = ChunkLimits::default();
        let parsed = chunks.into_iter().filter_map(|bytes| Chunk::parse(bytes, &limits).ok());
        let guests: Vec<Vec<u8>> = parsed
            .filter(|it| !owned.contains(it.actor()) && !evicted.contains(&it.hash()))
            .map(Chunk::into_bytes)
            .collect();
        let refused = (offered - guests.len()) as u64;
        let import = Import { changes: 0, refused, documents: 1, loose };
        if guests.is_empty() {
            return self.reply(request, Ok(Reply::Imported { changes: 0, refused }));
        }
        self.imports.insert(request, import);
        let update =
            DocumentUpdate { path, generation, chunks: guests, endorsements: Vec::new(), tombstones: Vec::new() };
        if !self.receive(space, update, Source::Guest(request)) {
            // It was deleted while its endorsements were read.
            self.imports.remove(&request);
            self.reply(request, Ok(Reply::Imported { changes: 0, refused: offered as u64 }));
        }
    }

    /// Endorses what guests brought and what can be admitted now. The rest is taken out of the inbox: nobody vouches for it,
    /// so nothing would ever come of it. How many those are is said by source.
    pub(super) fn vouch_for_guests(
        &mut self,
        batch: &Batch,
        (space, path, id): (SpaceId, &Path, DocumentId),
        inbox: &mut Inbox,
    ) -> BTreeMap<RequestId, u64> {
        let mut turned_away: BTreeMap<RequestId, u64> = BTreeMap::new();
        let brought = inbox.take_guests();
        if brought.is_empty() || !self.spaces[&space].roster.can_write(&self.identity().device, path) {
            brought.iter().for_each(|(_, request)| *turned_away.entry(*request).or_default() += 1);
            return turned_away;
        }
        let limits = ChunkLimits::default();
        let mut chunks: Vec<(Chunk, RequestId)> = brought
            .into_iter()
            .filter_map(|(bytes, request)| Chunk::parse(bytes, &limits).ok().map(|chunk| (chunk, request)))
            .collect();
        // Whoever depends on another begins above it.
        chunks.sort_by_key(|(chunk, _)| (chunk.start_op(), chunk.max_op(), chunk.seq(), chunk.hash()));
        let empty = Log::new();
        let log = self.documents.get(&id).and_then(|working| working.log.as_ref()).unwrap_or(&empty);
        let requests: BTreeSet<RequestId> = chunks.iter().map(|(_, request)| *request).collect();
        let loose =
            requests.iter().filter_map(|request| self.imports.get(request)).flat_map(|it| it.loose.iter().cloned());
        let loose: BTreeSet<Actor> = loose.collect();
        // What could be admitted if all of it were vouched for; an endorsement of more would hold up the rest.
        let mut offered = Guests::new(log, batch.drafted(&id), loose.clone());
        let standing: Vec<Chunk> =
            chunks.iter().filter(|(chunk, _)| offered.take(chunk)).map(|(chunk, _)| chunk.clone()).collect();
        let tips: Vec<EndorsedTip> = offered.tips().map(|(actor, newest, kind)| wish(actor, newest, kind)).collect();
        let contests = contests(&self.spaces[&space].roster, &id);
        let staged = self.stage(batch, id, standing, &tips, &contests);
        let stands: BTreeSet<ChangeHash> = staged.admitted.iter().map(Chunk::hash).collect();
        let mut guests = Guests::new(log, batch.drafted(&id), loose);
        let mut taken = Vec::new();
        for (chunk, request) in chunks {
            if guests.has(&chunk.hash()) || (stands.contains(&chunk.hash()) && guests.take(&chunk)) {
                taken.push((chunk.into_bytes(), Source::Guest(request)));
            } else {
                *turned_away.entry(request).or_default() += 1;
            }
        }
        let key = &self.identity().key;
        let endorsements = guests.tips().map(|(actor, newest, kind)| {
            wire_endorsement(&Endorsement::foreign(key, &space, id, actor, newest, kind), None)
        });
        inbox.add_vouched(taken, endorsements.collect());
        turned_away
    }

    pub(super) fn ask_changes(&mut self, request: RequestId, space: SpaceId, path: &Path, after: u64) -> Outcome {
        let index = &self.space(&space)?.index;
        let generation = index.live_generation(path);
        let Some(entry) = index.live_entry(path).filter(|entry| entry.arrival > after) else {
            let entry = index.live_entry(path);
            let evicted = entry.map_or(0, Entry::evicted);
            let changes =
                StoredChanges { generation, exists: entry.is_some(), chunks: Vec::new(), evicted, last: after };
            return Ok(Some(Reply::Changes(Box::new(changes))));
        };
        let from = match entry.packed.as_deref() {
            Some((snapshot, last)) if after < *last => *snapshot,
            _ => after + 1,
        };
        let scan = ReadOp::Scan {
            table: Table::Chunks,
            from: keys::chunk(&entry.id, from),
            to: keys::after_document(&entry.id),
            limit: usize::MAX,
        };
        let read = ChangesRead { request, generation, evicted: entry.evicted(), after };
        self.read(ReadPurpose::Changes(read), vec![scan]);
        Ok(None)
    }

    pub(super) fn on_changes_read(&mut self, read: &ChangesRead, rows: Result<Vec<Rows>, StorageFailure>) {
        let result = rows.map_err(CommandError::Storage).map(|rows| {
            let rows: Vec<StoredRow<'_>> = rows
                .iter()
                .flat_map(Rows::iter)
                .filter_map(|(key, value)| StoredRow::read(key, value).ok())
                // What makes Automerge fail is nobody's to hydrate.
                .filter(|row| !row.hidden)
                .collect();
            let last = rows.iter().map(|row| row.covers.map_or(row.arrival, |(last, _)| last)).max();
            let chunks = super::ship::expand(rows.into_iter()).into_iter().map(|(_, bytes)| bytes).collect();
            let last = last.unwrap_or(read.after).max(read.after);
            let ChangesRead { generation, evicted, .. } = *read;
            Reply::Changes(Box::new(StoredChanges { generation, exists: true, chunks, evicted, last }))
        });
        self.reply(read.request, result);
    }
}

/// An endorsement that could be made, as the ingest checks see it: of a chain, as much of it as stands.
fn wish(actor: Actor, (seq, hash): (u64, ChangeHash), kind: EndorsementKind) -> EndorsedTip {
    let kind = if kind == EndorsementKind::Single { TipKind::Single } else { TipKind::Torn };
    EndorsedTip { actor, seq, hash, kind }
}

/// What of the changes that guests brought can be admitted, and what covers it.
struct Guests<'l> {
    log: &'l Log,
    /// Changes of this batch, those that are admitted before and those that were taken.
    fresh: BTreeMap<ChangeHash, (Actor, u64)>,
    by_seq: BTreeMap<(Actor, u64), ChangeHash>,
    chains: BTreeMap<Actor, (u64, ChangeHash)>,
    /// Actors with a change that stands alone: everything above it does, too.
    loose: BTreeSet<Actor>,
    singles: Vec<(Actor, (u64, ChangeHash))>,
}

impl<'l> Guests<'l> {
    fn new<'c>(log: &'l Log, drafted: impl Iterator<Item = &'c Chunk>, loose: BTreeSet<Actor>) -> Self {
        let (fresh, by_seq) = (BTreeMap::new(), BTreeMap::new());
        let mut guests = Self { log, fresh, by_seq, chains: BTreeMap::new(), loose, singles: Vec::new() };
        drafted.for_each(|chunk| guests.note(chunk));
        guests
    }

    fn note(&mut self, chunk: &Chunk) {
        self.fresh.insert(chunk.hash(), (chunk.actor().clone(), chunk.seq()));
        self.by_seq.insert((chunk.actor().clone(), chunk.seq()), chunk.hash());
    }

    fn has(&self, hash: &ChangeHash) -> bool {
        self.log.contains(hash) || self.fresh.contains_key(hash)
    }

    /// Whether a change's dependencies are all there, and nothing else has its number.
    fn take(&mut self, chunk: &Chunk) -> bool {
        let (actor, seq) = (chunk.actor(), chunk.seq());
        if self.at(actor, seq).is_some() || !chunk.deps().iter().all(|dep| self.has(dep)) {
            return false;
        }
        let newest = (seq, chunk.hash());
        let before = seq.checked_sub(1).and_then(|before| self.at(actor, before));
        let stands_on_it = before.is_some_and(|hash| chunk.deps().contains(&hash));
        // A chain is one from its beginning on.
        if seq == 1 || (stands_on_it && !self.loose.contains(actor)) {
            self.chains.insert(actor.clone(), newest);
        } else {
            self.loose.insert(actor.clone());
            self.singles.push((actor.clone(), newest));
        }
        self.note(chunk);
        true
    }

    fn at(&self, actor: &Actor, seq: u64) -> Option<ChangeHash> {
        let stored = self.log.by_seq(actor, seq).map(|row| row.hash());
        stored.or_else(|| self.by_seq.get(&(actor.clone(), seq)).copied())
    }

    fn tips(self) -> impl Iterator<Item = (Actor, (u64, ChangeHash), EndorsementKind)> {
        let chains = self.chains.into_iter().map(|(actor, newest)| (actor, newest, EndorsementKind::Chain));
        chains.chain(self.singles.into_iter().map(|(actor, newest)| (actor, newest, EndorsementKind::Single)))
    }
}
