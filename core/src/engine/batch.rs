//! What gathers while a write is on its way, and the write it becomes.
//!
//! A batch drafts the new state of every document it touches, writes it in one transaction, and [`Engine::apply`]s the
//! drafts when the write is durable: index, roots, logs, hydrated cells, replies, acknowledgements, pushes, in this order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::document::LoadWait;
use super::index::{Entry, MAX_TOMBSTONES, advance_heads};
use super::link::Fate;
use super::marker::Marker;
use super::review::{Redraft, Reviewed};
use super::space::replace_items;
use super::{CommandError, Engine, Event, Phase, Reply, keys};
use crate::document::chunk::Chunk;
use crate::document::compaction::Compacted;
use crate::document::local::{LocalChange, own_actor};
use crate::document::log::Log;
use crate::document::row;
use crate::id::{Actor, ChangeHash, DocumentId, FactHash, Path, Prefix, SpaceId};
use crate::io::{LinkId, RequestId, StorageFailure, Table, WriteOp};
use crate::trust::{Endorsement, Fact, Seal, SequenceDigest, Tombstone};
use crate::wire::Codec;
use crate::wire::v1::AuthorTag;

/// A change that a batch admits.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) arrival: u64,
    pub(super) hash: ChangeHash,
    pub(super) bytes: Arc<[u8]>,
    /// Made here: the hydrated document has it already.
    pub(super) local: bool,
    /// Whose it is, as links name authors.
    pub(super) author: AuthorTag,
    /// Links that sent it: it need not go back to them.
    pub(super) senders: Senders,
}

/// The links that sent something.
pub(super) type Senders = SmallVec<[LinkId; 2]>;

/// The new state of one document.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) space: SpaceId,
    pub(super) entry: Entry,
    /// Admitted changes in topological order.
    pub(super) fresh: Vec<Fresh>,
    /// The same as parsed chunks, for a log that is loaded.
    pub(super) admitted: Vec<(u64, Chunk)>,
    /// Newest own change of each own actor: what to sign.
    own: BTreeMap<Actor, (u32, u64, ChangeHash)>,
    /// Newest endorsement of each actor that got one.
    pub(super) endorsements: BTreeMap<Vec<u8>, Endorsement>,
    /// Tombstones that are new.
    pub(super) tombstones: Vec<Vec<u8>>,
    /// Links that sent them.
    pub(super) tombstone_senders: BTreeSet<LinkId>,
    pub(super) remote: bool,
    /// A snapshot took the place of chunks: the log is to be loaded anew.
    pub(super) compacted: bool,
    /// It has opened without harm.
    proven: bool,
    /// The hydrated document has what others made, and its watchers know.
    pub(super) shown: bool,
    /// All of it is written anew.
    pub(super) redraft: Option<Redraft>,
}

/// What happens when a batch is durable.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) drafts: Vec<Draft>,
    pub(super) replies: Vec<(RequestId, Result<Reply, CommandError>)>,
    /// Commits: replied with the heads that the drafts lead to.
    pub(super) commits: Vec<(RequestId, Vec<DocumentId>)>,
    pub(super) events: Vec<Event>,
    /// Numbered messages of links, and what became of what they brought.
    pub(super) resolved: Vec<(LinkId, u64, Fate)>,
    pub(super) facts: Vec<(SpaceId, Vec<FactHash>, BTreeSet<LinkId>)>,
    pub(super) interests_changed: BTreeSet<SpaceId>,
    pub(super) holds_back: bool,
    /// Links that were handed changes of it before they are durable here.
    pub(super) ahead: BTreeSet<LinkId>,
    pub(super) closing: Option<RequestId>,
    pub(super) reload: BTreeSet<DocumentId>,
    pub(super) opened: Vec<SpaceId>,
    pub(super) replaced: Vec<(SpaceId, Entry)>,
    pub(super) compacted: Vec<DocumentId>,
    pub(super) marked: Vec<(DocumentId, Marker)>,
    /// Arrival numbers, end excluded, in which something was set aside.
    pub(super) set_aside: Vec<(SpaceId, (u64, u64))>,
}

/// A local commit that waits for its batch.
#[derive(Debug)]
pub(super) struct PendingCommit {
    pub(super) request: RequestId,
    pub(super) space: SpaceId,
    pub(super) changes: Vec<LocalChange>,
}

/// What gathers for the next batch.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) commits: VecDeque<PendingCommit>,
    pub(super) deletions: Vec<(RequestId, SpaceId, Path)>,
    /// Facts that rosters have admitted and the store has not.
    pub(super) facts: Vec<(SpaceId, Fact, Vec<FactHash>, Option<LinkId>)>,
    pub(super) ops: Vec<WriteOp>,
    pub(super) replies: Vec<(RequestId, Result<Reply, CommandError>)>,
    pub(super) events: Vec<Event>,
    pub(super) resolved: Vec<(LinkId, u64, Fate)>,
    pub(super) interests_changed: BTreeSet<SpaceId>,
    pub(super) reload: BTreeSet<DocumentId>,
    pub(super) closing: Option<RequestId>,
    /// Spaces that were just added: named to peers once durable.
    pub(super) opened: Vec<SpaceId>,
    /// Entries that a command wrote.
    pub(super) replaced: Vec<(SpaceId, Entry)>,
    pub(super) compactions: Vec<(SpaceId, DocumentId, Compacted, (u64, u64))>,
    pub(super) reviewed: Vec<Reviewed>,
    /// Crash markers to be made durable, and documents that have opened well.
    pub(super) marked: Vec<(DocumentId, Marker)>,
    pub(super) proven: Vec<(SpaceId, DocumentId)>,
    /// Rows that are not worth a write of their own.
    pub(super) lazy_ops: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.commits.is_empty()
            && self.deletions.is_empty()
            && self.facts.is_empty()
            && self.ops.is_empty()
            && self.replies.is_empty()
            && self.events.is_empty()
            && self.resolved.is_empty()
            && self.interests_changed.is_empty()
            && self.compactions.is_empty()
            && self.reviewed.is_empty()
            && self.marked.is_empty()
            && self.proven.is_empty()
            && self.closing.is_none()
    }
}

/// A batch in the making.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) drafts: BTreeMap<DocumentId, Draft>,
    pub(super) ops: Vec<WriteOp>,
    pub(super) effects: Effects,
    pub(super) changes: usize,
}

/// What a seal says of the store's sequence numbers. Every change of the device has an arrival number, so the last one
/// stands for them all.
pub(super) fn sequence_digest(last_arrival: u64) -> [u8; 32] {
    SequenceDigest::new().number(last_arrival).finish()
}

impl Engine {
    /// Turns what has gathered into the next write, unless one is on its way.
    pub(super) fn commit_batch(&mut self) {
        if self.storage.flying() || !matches!(self.phase, Phase::Open | Phase::Closing) {
            return;
        }
        if self.pending.is_empty() && self.ready.is_empty() {
            return;
        }
        let mut batch = Batch::default();
        self.draft_reviews(&mut batch);
        self.draft_commits(&mut batch);
        self.draft_deletions(&mut batch);
        self.draft_inboxes(&mut batch);
        self.draft_facts(&mut batch);
        self.draft_compactions(&mut batch);
        self.draft_proven(&mut batch);
        self.finish_batch(batch);
    }

    /// The draft of a document, begun from its entry if the batch has none.
    pub(super) fn draft<'b>(
        &self,
        batch: &'b mut Batch,
        space: SpaceId,
        path: &Path,
        generation: u32,
        id: DocumentId,
    ) -> &'b mut Draft {
        batch.drafts.entry(id).or_insert_with(|| {
            let known = self.spaces.get(&space).and_then(|s| s.index.by_id(&id)).cloned();
            Draft {
                space,
                entry: known.unwrap_or_else(|| Entry::new(&space, path.clone(), generation)),
                fresh: Vec::new(),
                admitted: Vec::new(),
                own: BTreeMap::new(),
                endorsements: BTreeMap::new(),
                tombstones: Vec::new(),
                tombstone_senders: BTreeSet::new(),
                remote: false,
                compacted: false,
                proven: false,
                shown: false,
                redraft: None,
            }
        })
    }

    fn draft_commits(&mut self, batch: &mut Batch) {
        while batch.changes < self.config.max_batch {
            let Some(commit) = self.pending.commits.pop_front() else { break };
            if self.await_logs(&commit) {
                self.pending.commits.push_front(commit);
                break;
            }
            match self.check_commit(batch, &commit) {
                Ok(chunks) => self.draft_commit(batch, commit, chunks),
                Err(error) => {
                    // The hydrated documents have the edits and the store never will: they are loaded anew.
                    commit.changes.iter().for_each(|c| self.drop_cell(&c.document));
                    self.reply(commit.request, Err(error));
                }
            }
        }
        self.sign_drafts(batch);
    }

    /// Has the logs read that a commit is checked against; whether it has to wait for them.
    fn await_logs(&mut self, commit: &PendingCommit) -> bool {
        let mut waits = false;
        for change in &commit.changes {
            let id = change.document;
            if self.review_blocks(&id) {
                waits = true;
                continue;
            }
            if self.documents.get(&id).is_some_and(|w| w.log.is_some()) {
                continue;
            }
            if let Some((path, generation)) = self.place_of(&commit.space, &id) {
                self.await_rows(commit.space, &path, generation, id, LoadWait::Log);
                waits = true;
            }
        }
        waits
    }

    /// Whether everything that a change depends on is admitted, and its actor's chain goes on with it. An edit made on
    /// top of one that was refused does not, and must never be signed.
    fn follows(&self, batch: &Batch, earlier: &[Chunk], change: &LocalChange, chunk: &Chunk) -> bool {
        let log = self.documents.get(&change.document).and_then(|w| w.log.as_ref());
        let draft = batch.drafts.get(&change.document);
        let known = |dep: &ChangeHash| {
            log.is_some_and(|log| log.contains(dep))
                || draft.is_some_and(|d| d.fresh.iter().rev().any(|f| f.hash == *dep))
                || earlier.iter().any(|c| c.hash() == *dep)
                || change.layers.iter().any(|l| Chunk::parse_stored(l.clone()).is_ok_and(|c| c.hash() == *dep))
        };
        chunk.deps().iter().all(known)
    }

    fn check_commit(&self, batch: &Batch, commit: &PendingCommit) -> Result<Vec<Chunk>, CommandError> {
        let space = self.spaces.get(&commit.space).ok_or(CommandError::UnknownSpace(commit.space))?;
        let identity = self.identity();
        let mut chunks = Vec::with_capacity(commit.changes.len());
        for change in &commit.changes {
            let place = self.place_of(&commit.space, &change.document);
            let (path, _) = place.ok_or_else(|| CommandError::Invalid {
                what: "change",
                why: format!("document {} was not opened here", change.document),
            })?;
            if space.index.by_id(&change.document).is_some_and(Entry::deleted) {
                return Err(CommandError::Deleted(path));
            }
            if !space.roster.can_write(&self.identity().device, &path) {
                return Err(self.denied(&commit.space, "write", &path));
            }
            let own = own_actor(&identity.device, &change.document, identity.incarnation, change.actor_n);
            let chunk = Chunk::parse_stored(change.bytes.clone()).ok();
            let chunk = chunk.filter(|c| c.hash() == change.hash && *c.actor() == own && c.seq() == change.seq);
            let aside = space.index.by_id(&change.document).and_then(|entry| entry.aside.as_deref());
            // What such an actor signs now would contradict what it signed before.
            let chunk = chunk.filter(|_| aside.is_none_or(|aside| !aside.spent.contains(&own)));
            let chunk = chunk.filter(|c| self.follows(batch, &chunks, change, c));
            chunks.push(chunk.ok_or_else(|| CommandError::Invalid {
                what: "change",
                why: "it was not made by an edit of an open document of this store's present life".into(),
            })?);
        }
        Ok(chunks)
    }

    fn draft_commit(&mut self, batch: &mut Batch, commit: PendingCommit, chunks: Vec<Chunk>) {
        let mut touched = Vec::new();
        for (change, chunk) in commit.changes.into_iter().zip(chunks) {
            let Some((path, generation)) = self.place_of(&commit.space, &change.document) else { continue };
            let id = change.document;
            if !touched.contains(&id) {
                touched.push(id);
            }
            let log = self.documents.get(&id).and_then(|w| w.log.as_ref());
            let log_loaded = log.is_some();
            let known_layers = known_layers(log, &change.layers);
            let mut arrival = self.storage.next_arrival;
            let draft = self.draft(batch, commit.space, &path, generation, id);
            for layer in &change.layers {
                let Ok(chunk) = Chunk::parse_stored(layer.clone()) else { continue };
                // A peer's change may have brought the layer meanwhile.
                if !known_layers.contains(&chunk.hash()) && draft.fresh.iter().all(|f| f.hash != chunk.hash()) {
                    arrival = draft.admit_chunk(chunk, arrival, log_loaded, None);
                }
            }
            arrival = draft.admit_chunk(chunk, arrival, log_loaded, None);
            draft.own.insert(change.actor, (change.actor_n, change.seq, change.hash));
            self.storage.next_arrival = arrival;
            batch.changes += 1;
        }
        batch.effects.commits.push((commit.request, touched));
    }

    /// One signature a document and own actor covers everything that the batch holds of it.
    fn sign_drafts(&mut self, batch: &mut Batch) {
        let identity = self.identity();
        for (document, draft) in &mut batch.drafts {
            for (_, (n, seq, hash)) in std::mem::take(&mut draft.own) {
                let incarnation = identity.incarnation;
                let endorsement = Endorsement::own(&identity.key, &draft.space, *document, incarnation, n, (seq, hash));
                draft.endorsements.insert(endorsement.storage_key(), endorsement);
            }
        }
    }

    fn draft_deletions(&mut self, batch: &mut Batch) {
        for (request, space_id, path) in std::mem::take(&mut self.pending.deletions) {
            match self.draft_deletion(batch, space_id, &path) {
                Ok(deleted) => batch.effects.replies.push((request, Ok(Reply::Deleted(deleted)))),
                Err(error) => batch.effects.replies.push((request, Err(error))),
            }
        }
    }

    fn draft_deletion(&mut self, batch: &mut Batch, id: SpaceId, path: &Path) -> Result<bool, CommandError> {
        let space = self.spaces.get(&id).ok_or(CommandError::UnknownSpace(id))?;
        if !space.roster.can_write(&self.identity().device, path) {
            return Err(self.denied(&id, "delete", path));
        }
        let generation = space.index.live_generation(path);
        let document = DocumentId::derive(&id, path, generation);
        let drafted = batch.drafts.get(&document).map(|d| &d.entry);
        let entry = drafted.or_else(|| space.index.by_id(&document));
        let Some(heads) = entry.filter(|e| e.exists()).map(|e| e.heads.clone()) else { return Ok(false) };
        let tombstone = Tombstone::sign(&self.identity().key, &id, path.clone(), generation, heads.to_vec())
            .map_err(|error| CommandError::Invalid { what: "deletion", why: error.to_string() })?;
        self.draft_tombstone(batch, id, &tombstone, None);
        Ok(true)
    }

    /// Adds a verified tombstone to a document's draft.
    pub(super) fn draft_tombstone(
        &mut self,
        batch: &mut Batch,
        space: SpaceId,
        tombstone: &Tombstone,
        source: Option<LinkId>,
    ) {
        let (path, generation) = (tombstone.path().clone(), tombstone.generation());
        let document = DocumentId::derive(&space, &path, generation);
        let bytes = tombstone.to_bytes();
        let arrival = self.storage.next_arrival;
        let draft = self.draft(batch, space, &path, generation, document);
        let tombstones = draft.entry.tombstones.get_or_insert_default();
        if tombstones.contains(&bytes) || tombstones.len() >= MAX_TOMBSTONES {
            return;
        }
        let at = tombstones.partition_point(|t| *t < bytes);
        tombstones.insert(at, bytes.clone());
        draft.entry.arrival = arrival;
        draft.tombstones.push(bytes);
        draft.tombstone_senders.extend(source);
        draft.remote |= source.is_some();
        self.storage.next_arrival = arrival + 1;
        batch.changes += 1;
    }

    fn draft_facts(&mut self, batch: &mut Batch) {
        let marked: BTreeSet<SpaceId> = self.pending.facts.iter().map(|(space, ..)| *space).collect();
        batch.ops.extend(marked.into_iter().filter_map(|space| self.put_review_mark(space)));
        for (id, fact, admitted, source) in std::mem::take(&mut self.pending.facts) {
            let Some(space) = self.spaces.get_mut(&id) else { continue };
            let key = keys::fact(space.number, space.facts_stored);
            space.facts_stored += 1;
            batch.ops.push(WriteOp::Put(Table::Facts, key, fact.to_bytes()));
            batch.effects.facts.push((id, admitted, source.into_iter().collect()));
            batch.effects.holds_back = true;
        }
    }

    /// Documents that opened well need no marker until something else comes from elsewhere.
    fn draft_proven(&mut self, batch: &mut Batch) {
        for (space, id) in std::mem::take(&mut self.pending.proven) {
            let Some((path, generation)) = self.place_of(&space, &id) else { continue };
            let news = batch.drafts.get(&id).is_some_and(|d| d.remote);
            let draft = self.draft(batch, space, &path, generation, id);
            if draft.entry.unproven && !news {
                draft.entry.unproven = false;
                draft.proven = true;
            }
        }
    }

    fn finish_batch(&mut self, mut batch: Batch) {
        batch.ops.append(&mut self.pending.ops);
        batch.effects.replies.append(&mut self.pending.replies);
        batch.effects.events.append(&mut self.pending.events);
        batch.effects.resolved.append(&mut self.pending.resolved);
        batch.effects.interests_changed.append(&mut self.pending.interests_changed);
        batch.effects.reload.append(&mut self.pending.reload);
        batch.effects.replaced.append(&mut self.pending.replaced);
        batch.effects.opened.append(&mut self.pending.opened);
        batch.effects.marked.append(&mut self.pending.marked);
        batch.effects.holds_back |= !batch.effects.opened.is_empty();
        self.write_drafts(&mut batch);
        let nothing_left = self.pending.commits.is_empty() && self.ready.is_empty() && self.reviews.is_empty();
        if nothing_left && let Some(request) = self.pending.closing.take() {
            self.write_seal(&mut batch);
            batch.effects.closing = Some(request);
        }
        batch.effects.drafts = batch.drafts.into_values().collect();
        if !batch.ops.is_empty() {
            batch.ops.extend(self.take_lazy_ops());
        }
        if batch.ops.is_empty() {
            self.apply(batch.effects);
        } else {
            self.run_ahead(&mut batch.effects);
            self.fly(batch.ops, batch.effects);
        }
    }

    /// Shows and pushes what a write is about to make durable, instead of after it ([`EngineConfig::run_ahead`]). Only
    /// changes: what they mean for the index, the roots, and whoever waits for durability, follows the write.
    ///
    /// [`EngineConfig::run_ahead`]: crate::config::EngineConfig::run_ahead
    fn run_ahead(&mut self, effects: &mut Effects) {
        if !self.config.run_ahead || effects.holds_back {
            return;
        }
        for draft in &mut effects.drafts {
            let plain =
                draft.tombstones.is_empty() && !draft.entry.deleted() && !draft.compacted && draft.redraft.is_none();
            if draft.fresh.is_empty() || !plain {
                continue;
            }
            // What crashes a peer when it is shown must be in the store by then, or nobody would find it there, and it would
            // be fetched and shown again: after a crash nothing is shown before that.
            draft.shown = !self.crashed && self.show_remote(draft);
            if draft.shown {
                let (space, path) = (draft.space, draft.entry.path.clone());
                self.emit(Event::DocumentShown { space, path, document: draft.entry.id });
            }
            let told = self.push(draft);
            draft.fresh.iter_mut().for_each(|fresh| fresh.senders.extend(told.iter().copied()));
            effects.ahead.extend(told);
        }
    }

    fn write_drafts(&mut self, batch: &mut Batch) {
        let seconds = u32::try_from(self.now.wall.0.max(0) / 1000).unwrap_or(u32::MAX);
        let mut touched: BTreeMap<SpaceId, Vec<&Entry>> = BTreeMap::new();
        let mut set_aside = Vec::new();
        let changed = |d: &Draft| !d.fresh.is_empty() || !d.tombstones.is_empty() || !d.endorsements.is_empty();
        batch.drafts.retain(|_, d| changed(d) || d.compacted || d.proven || d.redraft.is_some());
        for (document, draft) in &mut batch.drafts {
            let Some(space) = self.spaces.get(&draft.space) else { continue };
            if !draft.fresh.is_empty() || !draft.tombstones.is_empty() {
                draft.entry.changed_at = seconds;
            }
            draft.entry.unproven |= draft.remote && !draft.fresh.is_empty();
            if let Some(redraft) = &mut draft.redraft {
                draft.entry.changed_at = seconds;
                batch.ops.append(&mut redraft.ops);
                if !redraft.evicted.is_empty() {
                    // What this store's log held up to here is no longer all there.
                    set_aside.push((draft.space, (0, draft.entry.arrival)));
                }
            }
            for fresh in &draft.fresh {
                batch.ops.push(row::put_change(document, fresh.arrival, &fresh.bytes, false));
            }
            for (key, endorsement) in &draft.endorsements {
                batch.ops.push(WriteOp::Put(Table::Endorsements, key.clone(), endorsement.storage_value()));
            }
            set_aside.extend(self.range_set_aside(draft).map(|range| (draft.space, range)));
            if draft.covered_by_tombstones() {
                batch.ops.extend(row::delete_all(document));
                batch.ops.push(delete_endorsements(document));
                (draft.entry.bytes, draft.entry.chunks, draft.entry.packed) = (0, 0, None);
            }
            let key = keys::index(space.number, &draft.entry.path, draft.entry.generation);
            batch.ops.push(WriteOp::Put(Table::Index, key, draft.entry.encode()));
            touched.entry(draft.space).or_default().push(&draft.entry);
        }
        batch.ops.extend(self.put_set_aside(&set_aside));
        batch.effects.set_aside = set_aside;
        for (id, entries) in touched {
            let Some(space) = self.spaces.get_mut(&id) else { continue };
            space.domain(&Prefix::root());
            for (prefix, domain) in &space.domains {
                let mut under = entries.iter().filter(|e| prefix.covers(&e.path)).peekable();
                if under.peek().is_none() {
                    continue;
                }
                let mut summary = domain.summary.without_prefix();
                under.for_each(|e| replace_items(&mut summary, space.index.by_id(&e.id), e));
                batch.ops.push(WriteOp::Put(Table::Roots, keys::root(space.number, prefix), summary.to_bytes()));
            }
        }
    }

    fn write_seal(&mut self, batch: &mut Batch) {
        let identity = self.identity();
        let last = batch.drafts.values().map(|d| d.entry.arrival);
        let last = last.chain(self.spaces.values().map(|s| s.index.last_arrival())).max().unwrap_or(0);
        let seal = Seal::new(identity.incarnation, &self.config.store_identity, sequence_digest(last));
        batch.ops.push(WriteOp::Put(Table::Meta, b"seal".to_vec(), seal.to_bytes()));
    }

    /// The batch is durable: now it is so.
    pub(super) fn apply(&mut self, effects: Effects) {
        for (id, admitted, sources) in &effects.facts {
            if let Some(space) = self.spaces.get_mut(id) {
                space.admit_facts(admitted);
            }
            self.on_facts_durable(*id, admitted, sources);
        }
        let spaces: BTreeSet<SpaceId> = effects.facts.iter().map(|(space, ..)| *space).collect();
        spaces.into_iter().for_each(|space| self.part_with_revoked(space));
        for (space, entry) in effects.replaced {
            if let Some(space) = self.spaces.get_mut(&space) {
                space.index.upsert(entry);
            }
        }
        for space in effects.opened {
            self.open_space_on_links(space);
        }
        self.sessions.note_set_aside(effects.set_aside);
        let mut heads = BTreeMap::new();
        for draft in effects.drafts {
            heads.insert(draft.entry.id, draft.entry.heads.to_vec());
            self.apply_draft(draft);
        }
        for (request, documents) in effects.commits {
            let of = |d: DocumentId| (d, heads.get(&d).cloned().unwrap_or_default());
            self.reply(request, Ok(Reply::Committed(documents.into_iter().map(of).collect())));
        }
        for (request, result) in effects.replies {
            self.reply(request, result);
        }
        for event in effects.events {
            self.emit(event);
        }
        for id in &effects.interests_changed {
            self.on_interests_changed(*id);
        }
        for (document, marker) in effects.marked {
            self.on_marked(document, marker);
        }
        for document in effects.compacted {
            self.compaction_done(&document);
        }
        for document in effects.reload {
            self.drop_log(&document);
        }
        for (link, number, fate) in effects.resolved {
            self.on_resolved(link, number, fate);
        }
        if let Some(request) = effects.closing {
            self.reply(request, Ok(Reply::Done));
            self.shut_down();
        }
    }

    fn apply_draft(&mut self, draft: Draft) {
        let Some(space) = self.spaces.get_mut(&draft.space) else { return };
        let (id, path) = (draft.entry.id, draft.entry.path.clone());
        let deleted = draft.entry.deleted();
        let place = (draft.space, path.clone());
        let old = space.index.by_id(&id).cloned();
        for (prefix, domain) in &mut space.domains {
            if prefix.covers(&path) {
                domain.change(|summary| replace_items(summary, old.as_ref(), &draft.entry));
            }
        }
        space.index.upsert(draft.entry.clone());
        self.settle_working(&draft);
        if deleted {
            self.on_deleted(id);
        }
        if let Some(redraft) = &draft.redraft {
            self.settle_review(draft.space, &draft.entry, redraft);
        }
        self.note_compactable(&draft.entry);
        if !draft.fresh.is_empty() || !draft.tombstones.is_empty() || draft.redraft.is_some() {
            let remote = draft.remote;
            self.emit(Event::DocumentChanged { space: draft.space, path, document: id, deleted, remote });
            self.push(&draft);
        }
        self.on_session_news(&place);
    }

    /// The engine is over before the batch was written.
    pub(super) fn fail_batch(&mut self, effects: Effects, failure: &StorageFailure) {
        let requests = effects.commits.into_iter().map(|(request, _)| request);
        let requests = requests.chain(effects.replies.into_iter().map(|(request, _)| request));
        for request in requests.chain(effects.closing) {
            self.reply(request, Err(CommandError::Storage(failure.clone())));
        }
    }

    /// Closes every link and refuses everything from now on.
    pub(super) fn shut_down(&mut self) {
        self.phase = Phase::Closed;
        for link in self.links.take().into_keys() {
            self.out.push_back(crate::io::Output::Close { link, reason: crate::io::CloseReason::Shutdown });
        }
        for wait in std::mem::take(&mut self.sync_waits) {
            self.reply(wait.request, Err(CommandError::Closed));
        }
        self.close_sessions();
        for commit in std::mem::take(&mut self.pending.commits) {
            self.reply(commit.request, Err(CommandError::Closed));
        }
    }
}

impl Batch {
    /// Changes of a document that this batch admits.
    pub(super) fn drafted(&self, document: &DocumentId) -> impl Iterator<Item = &Chunk> {
        self.drafts.get(document).into_iter().flat_map(|draft| &draft.admitted).map(|(_, chunk)| chunk)
    }
}

impl Draft {
    /// `from`: whose it is and who sent it; `None`: it was made here.
    fn admit_chunk(&mut self, chunk: Chunk, arrival: u64, log_loaded: bool, from: Option<(AuthorTag, Senders)>) -> u64 {
        let (hash, local) = (chunk.hash(), from.is_none());
        advance_heads(&mut self.entry.heads, hash, chunk.deps());
        self.entry.bytes += chunk.bytes().len() as u64;
        self.entry.chunks += 1;
        self.entry.arrival = arrival;
        let (author, senders) = from.unwrap_or_default();
        self.fresh.push(Fresh { arrival, hash, bytes: chunk.bytes().into(), local, author, senders });
        if log_loaded {
            self.admitted.push((arrival, chunk));
        }
        arrival + 1
    }

    /// Adds admitted changes that came from peers or an import; `from`: whose each is, and who sent it.
    pub(super) fn admit_remote(
        &mut self,
        chunks: Vec<Chunk>,
        arrival: u64,
        from: impl Fn(&Chunk) -> (AuthorTag, Senders),
    ) -> u64 {
        self.remote = true;
        chunks.into_iter().fold(arrival, |arrival, chunk| {
            let from = from(&chunk);
            self.admit_chunk(chunk, arrival, true, Some(from))
        })
    }

    /// Changes that the hydrated document does not have yet.
    pub(super) fn remote_chunks(&self) -> impl Iterator<Item = (ChangeHash, &[u8])> {
        self.fresh.iter().filter(|f| !f.local).map(|f| (f.hash, &*f.bytes))
    }

    /// Whether the tombstones name every head: then nothing is set aside and the changes can go.
    pub(super) fn covered_by_tombstones(&self) -> bool {
        let Some(tombstones) = &self.entry.tombstones else { return false };
        let covered: BTreeSet<ChangeHash> =
            tombstones.iter().filter_map(|t| Tombstone::from_bytes(t).ok()).flat_map(|t| t.heads().to_vec()).collect();
        self.entry.heads.iter().all(|h| covered.contains(h))
    }
}

/// Which of these layers the log has. Documents that are edited here have their log loaded.
fn known_layers(log: Option<&Log>, layers: &[Vec<u8>]) -> Vec<ChangeHash> {
    let hashes = layers.iter().filter_map(|l| Chunk::parse_stored(l.clone()).ok()).map(|c| c.hash());
    hashes.filter(|h| log.is_some_and(|log| log.contains(h))).collect()
}

pub(super) fn delete_endorsements(document: &DocumentId) -> WriteOp {
    let end = keys::after_document(document).unwrap_or_else(|| vec![0xff; 17]);
    WriteOp::DeleteRange(Table::Endorsements, document.0.to_vec(), end)
}
