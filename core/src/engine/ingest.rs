//! A document's inbox against its log.
//!
//! What peers send for a document gathers in its inbox while a write is on its way. A batch then parses it, adds what the
//! orphan buffer kept for the document, checks *one* signature an actor (the newest endorsement covers the chain below
//! it by hash), and lets the log judge the whole lot.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Batch, Senders};
use super::broadcast::{Expected, author_tag};
use super::document::LoadWait;
use super::link::Fate;
use super::ship::{Shipment, What};
use super::{CommandError, Engine, Event, RefusedChange, Reply};
use crate::config::lacks;
use crate::document::chunk::{Chunk, ChunkLimits};
use crate::document::ingest::{Contest, EndorsedTip, IngestError, Staged, TipKind, Waiting};
use crate::document::log::Log;
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, Path, SpaceId};
use crate::io::{LinkId, RequestId};
use crate::time::Timestamp;
use crate::trust::endorsement::WireEndorsement;
use crate::trust::{Endorsement, EndorsementKind, Refusal, Roster, Tombstone};
use crate::wire::v1::DocumentUpdate;
use crate::wire::{Codec, Reader};

/// Older endorsements of an actor that are tried when the newest does not hold, so that one forged endorsement cannot
/// shadow a good one.
const MAX_TRIES: usize = 4;

/// Most changes that are asked for by hash at once.
const MAX_FETCH: usize = 256;

/// Most endorsements of one document that are kept while their chains are incomplete.
const MAX_HELD: usize = 256;

/// Where a piece of an inbox came from: to be answered when it is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A numbered message of a link.
    Link(LinkId, u64),
    /// A page of an import.
    Import(RequestId),
    /// Changes of foreign actors, for which nobody has signed.
    Guest(RequestId),
}

impl Source {
    fn link(&self) -> Option<LinkId> {
        match self {
            Source::Link(link, _) => Some(*link),
            Source::Import(_) | Source::Guest(_) => None,
        }
    }
}

/// What peers sent of a document and no batch has dealt with. Bounded by the links' credit.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    chunks: Vec<(Vec<u8>, Source)>,
    endorsements: Vec<Vec<u8>>,
    tombstones: Vec<(Vec<u8>, Source)>,
    sources: BTreeSet<Source>,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Forgets everything; the messages it came in, as not stored.
    pub(super) fn drop_all(&mut self) -> Vec<(LinkId, u64, Fate)> {
        let sources = std::mem::take(self).sources;
        sources
            .into_iter()
            .filter_map(|s| if let Source::Link(l, n) = s { Some((l, n, Fate::Refused)) } else { None })
            .collect()
    }

    /// Takes out what nobody has signed for.
    pub(super) fn take_guests(&mut self) -> Vec<(Vec<u8>, RequestId)> {
        let (guests, others) =
            std::mem::take(&mut self.chunks).into_iter().partition(|(_, source)| matches!(source, Source::Guest(_)));
        self.chunks = others;
        let named = |(bytes, source)| if let Source::Guest(request) = source { Some((bytes, request)) } else { None };
        Vec::into_iter(guests).filter_map(named).collect()
    }

    pub(super) fn add_vouched(&mut self, chunks: Vec<(Vec<u8>, Source)>, endorsements: Vec<Vec<u8>>) {
        self.chunks.extend(chunks);
        self.endorsements.extend(endorsements);
    }

    /// `false`: it joined what the same source had sent already, and both are dealt with as one.
    fn add(&mut self, update: DocumentUpdate, source: Source) -> bool {
        self.chunks.extend(update.chunks.into_iter().map(|bytes| (bytes, source)));
        self.endorsements.extend(update.endorsements);
        self.tombstones.extend(update.tombstones.into_iter().map(|t| (t, source)));
        self.sources.insert(source)
    }
}

impl Engine {
    /// Puts news of a document into its inbox. `false`: there is nothing more to wait for, because it concerns nothing
    /// here or because another part of the same message is waited for already.
    pub(super) fn receive(&mut self, space: SpaceId, update: DocumentUpdate, source: Source) -> bool {
        let (path, generation) = (update.path.clone(), update.generation);
        let id = DocumentId::derive(&space, &path, generation);
        let entry = self.spaces.get(&space).and_then(|s| s.index.by_id(&id));
        if entry.is_some_and(|e| e.deleted()) && update.tombstones.is_empty() {
            // A deleted generation takes nothing in any more.
            self.send_tombstone(space, &id, source);
            return false;
        }
        let working = self.working(space, &path, generation, id);
        let awaited = working.inbox.add(update, source);
        if working.log.is_some() {
            self.ready.insert(id);
        } else {
            self.await_rows(space, &path, generation, id, LoadWait::Log);
        }
        awaited
    }

    /// Who still sends changes of a deleted document has missed its tombstone.
    fn send_tombstone(&mut self, space: SpaceId, id: &DocumentId, source: Source) {
        let Source::Link(link, _) = source else { return };
        let (Some(state), Some(link)) = (self.spaces.get(&space), self.links.get_mut(&link)) else { return };
        if let Some(entry) = state.index.by_id(id) {
            link.out.ship(Shipment::of(space, entry, What::Tombstones));
        }
    }

    /// Works off inboxes whose logs are loaded.
    pub(super) fn draft_inboxes(&mut self, batch: &mut Batch) {
        while batch.changes < self.config.max_batch {
            let Some(id) = self.ready.pop_first() else { break };
            let Some(working) = self.documents.get(&id) else { continue };
            if working.reviewing {
                // The review's end makes it ready again.
                continue;
            }
            if working.log.is_none() && !working.inbox.is_empty() {
                // A review or a compaction took the log away after it was ready: without it all would look new.
                let (space, path, generation) = (working.space, working.path.clone(), working.generation);
                self.await_rows(space, &path, generation, id, LoadWait::Log);
                continue;
            }
            self.draft_inbox(batch, id);
        }
    }

    fn draft_inbox(&mut self, batch: &mut Batch, id: DocumentId) {
        let Some(working) = self.documents.get_mut(&id) else { return };
        let mut inbox = std::mem::take(&mut working.inbox);
        let (space, path, generation) = (working.space, working.path.clone(), working.generation);
        if inbox.is_empty() || !self.spaces.contains_key(&space) {
            return;
        }
        for (bytes, source) in &inbox.tombstones {
            self.draft_remote_tombstone(batch, space, &path, generation, bytes, *source);
        }
        let turned_away = self.vouch_for_guests(batch, (space, &path, id), &mut inbox);
        let stored = if inbox.chunks.is_empty() && inbox.endorsements.is_empty() {
            Outcome { admitted: 0, refused: 0, waiting: false }
        } else {
            self.draft_chunks(batch, space, &path, generation, id, &mut inbox)
        };
        for source in inbox.sources {
            match source {
                Source::Link(link, number) => batch.effects.resolved.push((link, number, stored.fate())),
                Source::Import(request) => self.count_import(batch, request, &stored),
                Source::Guest(request) => {
                    let refused = stored.refused + turned_away.get(&request).copied().unwrap_or(0);
                    self.count_import(batch, request, &Outcome { refused, ..stored });
                }
            }
        }
    }

    fn draft_remote_tombstone(
        &mut self,
        batch: &mut Batch,
        space: SpaceId,
        path: &Path,
        generation: u32,
        bytes: &[u8],
        source: Source,
    ) {
        let Ok(tombstone) = Tombstone::from_bytes(bytes) else { return self.count_refused(1) };
        let roster = &self.spaces[&space].roster;
        self.counters.signatures_checked += 1;
        let matches = tombstone.path() == path && tombstone.generation() == generation;
        if !matches || tombstone.verify(&space, roster).is_err() {
            return self.count_refused(1);
        }
        self.draft_tombstone(batch, space, &tombstone, source.link());
        if let Some(draft) = batch.drafts.get_mut(&DocumentId::derive(&space, path, generation)) {
            draft.remote = true;
        }
    }

    fn draft_chunks(
        &mut self,
        batch: &mut Batch,
        space: SpaceId,
        path: &Path,
        generation: u32,
        id: DocumentId,
        inbox: &mut Inbox,
    ) -> Outcome {
        let deleted_now = batch.drafts.get(&id).is_some_and(|d| d.entry.deleted());
        let deleted = self.spaces[&space].index.by_id(&id).is_some_and(|e| e.deleted());
        if deleted || deleted_now {
            return Outcome { admitted: 0, refused: 0, waiting: false };
        }
        let Parsed { mut chunks, senders, mut refused } = parse_chunks(std::mem::take(&mut inbox.chunks));
        let held = self.documents.get_mut(&id).map(|w| std::mem::take(&mut w.held)).unwrap_or_default();
        let (endorsements, barred) = self.verify_endorsements(space, path, id, inbox, &chunks, held);
        // What nobody who counts answers for is not kept waiting for somebody who does.
        let offered = chunks.len();
        chunks.retain(|chunk| barred.get(chunk.actor()).is_none_or(|last| chunk.seq() <= *last));
        refused += (offered - chunks.len()) as u64;
        let covered = endorsements
            .iter()
            .any(|e| self.orphans.contains(&id, &e.hash) || chunks.iter().any(|c| c.hash() == e.hash));
        if !covered {
            self.count_refused(refused);
            return self.hold_uncovered(id, chunks, endorsements, inbox);
        }
        chunks.extend(self.orphans.take(&id));
        let tips: Vec<EndorsedTip> = endorsements.iter().map(tip).collect();
        let contests = contests(&self.spaces[&space].roster, &id);
        let staged = self.stage(batch, id, chunks, &tips, &contests);
        refused += staged.refused.len() as u64;
        for (hash, error) in &staged.refused {
            if let IngestError::Equivocation { .. } | IngestError::Contested { .. } = error {
                let why = RefusedChange::Ingest(error.clone());
                self.pending.events.push(Event::Refused { space, path: path.clone(), change: *hash, why });
            }
        }
        self.count_refused(refused);
        self.suspect(space, id, &staged.contradicted, &endorsements);
        let admitted = staged.admitted.len() as u64;
        let arrival = self.storage.next_arrival;
        let waiting = !staged.waiting.is_empty();
        let chunk_hashes: BTreeSet<ChangeHash> = staged.admitted.iter().map(Chunk::hash).collect();
        // What is admitted already is covered by the endorsement it came with, or by a newer one.
        let known: Vec<bool> = endorsements.iter().map(|e| self.log_has(&id, &e.hash)).collect();
        let authors: BTreeMap<Actor, DeviceId> = endorsements.iter().map(|e| (e.actor(), e.device)).collect();
        self.note_duplicates(space, path, &chunk_hashes, &senders, &authors);
        let all: Senders = inbox.sources.iter().filter_map(Source::link).collect();
        let draft = self.draft(batch, space, path, generation, id);
        // What waited here before is covered by what these links sent now, so they have it.
        let from = |chunk: &Chunk| {
            let links = senders.get(&chunk.hash()).map_or(&all, |(_, links)| links);
            (author_tag(authors.get(chunk.actor())), links.clone())
        };
        self.storage.next_arrival = draft.admit_remote(staged.admitted, arrival, from);
        let mut unfinished = Vec::new();
        for (endorsement, known) in endorsements.into_iter().zip(known) {
            if chunk_hashes.contains(&endorsement.hash) {
                draft.endorsements.insert(endorsement.storage_key(), endorsement);
            } else if !known {
                unfinished.push(endorsement);
            }
        }
        batch.changes += admitted as usize;
        let missing: BTreeSet<ChangeHash> = staged.waiting.iter().flat_map(|w| w.missing.iter().copied()).collect();
        let wanted: BTreeSet<ChangeHash> = unfinished.iter().map(|e| e.hash).chain(missing).collect();
        let empty = Log::new();
        let log = self.documents.get(&id).and_then(|w| w.log.as_ref()).unwrap_or(&empty);
        self.orphans.hold(&id, staged.waiting, log);
        self.hold_endorsements(id, unfinished);
        if !wanted.is_empty() {
            self.expect_missing(space, id, &inbox.sources);
        }
        Outcome { admitted, refused, waiting }
    }

    /// Keeps changes that no endorsement here covers yet: a long chain comes in many messages, its endorsement with the
    /// last, and judging everything that waits with every message would cost the square of its length.
    fn hold_uncovered(
        &mut self,
        id: DocumentId,
        chunks: Vec<Chunk>,
        endorsements: Vec<Endorsement>,
        inbox: &Inbox,
    ) -> Outcome {
        let empty = Log::new();
        let log = self.documents.get(&id).and_then(|w| w.log.as_ref()).unwrap_or(&empty);
        let news = chunks.into_iter().filter(|c| !log.contains(&c.hash()));
        let waiting: Vec<Waiting> = news.map(|chunk| Waiting { chunk, missing: Vec::new(), endorsed: false }).collect();
        let unfinished: Vec<Endorsement> = endorsements.into_iter().filter(|e| !log.contains(&e.hash)).collect();
        let wanted: BTreeSet<ChangeHash> = unfinished.iter().map(|e| e.hash).collect();
        let waits = !waiting.is_empty() || !unfinished.is_empty();
        self.orphans.hold(&id, waiting, log);
        self.hold_endorsements(id, unfinished);
        if let Some(space) = self.documents.get(&id).map(|w| w.space).filter(|_| !wanted.is_empty()) {
            self.expect_missing(space, id, &inbox.sources);
        }
        Outcome { admitted: 0, refused: 0, waiting: waits }
    }

    /// Remembers who was first to send what is new, and looks for links that bring what others brought before.
    fn note_duplicates(
        &mut self,
        space: SpaceId,
        path: &Path,
        admitted: &BTreeSet<ChangeHash>,
        senders: &BTreeMap<ChangeHash, (Actor, Senders)>,
        authors: &BTreeMap<Actor, DeviceId>,
    ) {
        let mut late: BTreeSet<(LinkId, (LinkId, Timestamp), Option<DeviceId>)> = BTreeSet::new();
        let now = self.now.mono;
        for (hash, (actor, links)) in senders {
            let Some(first) = links.first() else { continue };
            if admitted.contains(hash) {
                self.recent.note(*hash, *first, now);
                self.recent.note_feed(space, author_tag(authors.get(actor)), *first);
            }
            if let Some(first) = self.recent.first_sender(hash) {
                let author = authors.get(actor).copied();
                late.extend(links.iter().filter(|link| **link != first.0).map(|link| (*link, first, author)));
            }
        }
        for (link, first, author) in late {
            self.on_duplicate(link, first, author, space, path);
        }
    }

    /// What is missing below what came is on its way by another link more often than not: it is asked for from whoever
    /// sent what stands on it, if it does not come.
    fn expect_missing(&mut self, space: SpaceId, id: DocumentId, sources: &BTreeSet<Source>) {
        if let Some(link) = sources.iter().find_map(Source::link) {
            self.expect(link, space, id, Expected::Missing);
        }
    }

    /// What to fetch of a document: endorsed tips, and what is missing below those that are here.
    pub(super) fn wanted_of(&self, id: &DocumentId) -> Vec<ChangeHash> {
        let empty = Log::new();
        let Some(working) = self.documents.get(id) else { return Vec::new() };
        let tips: Vec<EndorsedTip> = working.held.iter().map(tip).collect();
        self.orphans.wanted(id, working.log.as_ref().unwrap_or(&empty), &tips, MAX_FETCH)
    }

    /// Of each actor the two newest: the newest may be one that is never complete.
    fn hold_endorsements(&mut self, id: DocumentId, unfinished: Vec<Endorsement>) {
        let Some(working) = self.documents.get_mut(&id) else { return };
        let mut kept: BTreeMap<Vec<u8>, Vec<Endorsement>> = BTreeMap::new();
        for endorsement in unfinished {
            kept.entry(endorsement.storage_key()).or_default().push(endorsement);
        }
        let newest = |mut of_one: Vec<Endorsement>| {
            of_one.sort_by_key(|e| std::cmp::Reverse(e.seq));
            of_one.into_iter().take(2)
        };
        working.held = kept.into_values().flat_map(newest).take(MAX_HELD).collect();
    }

    /// The log's verdict. Changes that this batch admits already count as known: local commits come first in a batch.
    pub(super) fn stage(
        &self,
        batch: &Batch,
        id: DocumentId,
        chunks: Vec<Chunk>,
        tips: &[EndorsedTip],
        contests: &[Contest],
    ) -> Staged {
        let log = self.documents.get(&id).and_then(|w| w.log.as_ref());
        match (log, batch.drafts.get(&id)) {
            (Some(log), Some(draft)) if !draft.admitted.is_empty() => {
                let mut log = log.clone();
                for (arrival, chunk) in &draft.admitted {
                    if log.admit(std::slice::from_ref(chunk), *arrival).is_err() {
                        break;
                    }
                }
                log.stage_contested(chunks, tips, contests)
            }
            (Some(log), _) => log.stage_contested(chunks, tips, contests),
            (None, _) => Log::new().stage_contested(chunks, tips, contests),
        }
    }

    pub(super) fn log_has(&self, id: &DocumentId, hash: &ChangeHash) -> bool {
        self.documents.get(id).and_then(|w| w.log.as_ref()).is_some_and(|log| log.contains(hash))
    }

    /// What is held, what facts carry, and the newest new endorsement of each actor that is valid, a bounded number tried
    /// for each. And the actors whose newer ones do not count any more, each with the last number that does.
    fn verify_endorsements(
        &mut self,
        space: SpaceId,
        path: &Path,
        id: DocumentId,
        inbox: &Inbox,
        chunks: &[Chunk],
        held: Vec<Endorsement>,
    ) -> (Vec<Endorsement>, BTreeMap<Actor, u64>) {
        let roster = &self.spaces[&space].roster;
        let mut barred: BTreeMap<Actor, (ChangeHash, Refusal)> = BTreeMap::new();
        let meant = by_seq(chunks);
        let mut by_actor: BTreeMap<Vec<u8>, Vec<Endorsement>> = BTreeMap::new();
        for bytes in &inbox.endorsements {
            for endorsement in resolve(roster, id, bytes, &meant) {
                by_actor.entry(endorsement.storage_key()).or_default().push(endorsement);
            }
        }
        // What is held waits for changes that may never come, if their author lost them: it says nothing about an older
        // endorsement whose changes are here. Ascending, so that the newest of those that are complete is the one kept.
        // Facts that came since may have taken the right away.
        let held = held.into_iter().filter(|e| roster.endorses(e, path).is_ok());
        let mut verified: BTreeMap<(Vec<u8>, u64), Endorsement> = held.map(|e| ((e.storage_key(), e.seq), e)).collect();
        let here =
            |e: &&Endorsement| self.orphans.contains(&id, &e.hash) || chunks.iter().any(|chunk| chunk.hash() == e.hash);
        for posted in roster.posted(&id).iter().filter(here).filter(|e| roster.endorses(e, path).is_ok()) {
            self.counters.signatures_checked += 1;
            if posted.verify(&space).is_ok() {
                verified.insert((posted.storage_key(), posted.seq), posted.clone());
            }
        }
        for (key, mut candidates) in by_actor {
            candidates.sort_by_key(|e| std::cmp::Reverse(e.seq));
            candidates.dedup();
            for candidate in candidates.into_iter().take(MAX_TRIES) {
                let place = (key.clone(), candidate.seq);
                if verified.get(&place).is_some_and(|known| known.hash == candidate.hash) {
                    break;
                }
                let all = lacks!(self.config, Endorsements);
                if let Err(refusal) = roster.endorses(&candidate, path)
                    && !all
                {
                    if let Refusal::Revoked { .. } = refusal {
                        barred.insert(candidate.actor(), (candidate.hash, refusal));
                    }
                    continue;
                }
                self.counters.signatures_checked += 1;
                if all || candidate.verify(&space).is_ok() {
                    verified.insert(place, candidate);
                    break;
                }
            }
        }
        let verified: Vec<Endorsement> = verified.into_values().collect();
        for (change, refusal) in barred.values() {
            let why = RefusedChange::Standing(*refusal);
            self.pending.events.push(Event::Refused { space, path: path.clone(), change: *change, why });
        }
        let last =
            |actor: &Actor| verified.iter().filter(|it| it.actor() == *actor).map(|it| it.seq).max().unwrap_or(0);
        let barred = barred.into_keys().map(|actor| (actor.clone(), last(&actor))).collect();
        (verified, barred)
    }

    fn count_refused(&mut self, changes: u64) {
        self.counters.refused_changes += changes;
    }

    fn count_import(&mut self, batch: &mut Batch, request: RequestId, outcome: &Outcome) {
        let Some(import) = self.imports.get_mut(&request) else { return };
        import.changes += outcome.admitted;
        import.refused += outcome.refused;
        import.documents -= 1;
        if import.documents == 0 {
            let reply = Reply::Imported { changes: import.changes, refused: import.refused };
            self.imports.remove(&request);
            batch.effects.replies.push((request, Ok::<Reply, CommandError>(reply)));
        }
    }
}

/// What came of a document's inbox.
#[derive(Clone, Copy)]
struct Outcome {
    admitted: u64,
    refused: u64,
    waiting: bool,
}

impl Outcome {
    fn fate(&self) -> Fate {
        match (self.refused, self.waiting) {
            (1.., _) => Fate::Refused,
            (0, true) => Fate::Waits,
            (0, false) => Fate::Stored,
        }
    }
}

/// Chunks by author and seq: what an endorsement means that leaves its change unnamed.
type BySeq = BTreeMap<(Actor, u64), ChangeHash>;

/// What an inbox held.
struct Parsed {
    chunks: Vec<Chunk>,
    /// The author of each, and the links that sent it, the first one first.
    senders: BTreeMap<ChangeHash, (Actor, Senders)>,
    /// How many do not parse.
    refused: u64,
}

fn parse_chunks(raw: Vec<(Vec<u8>, Source)>) -> Parsed {
    let limits = ChunkLimits::default();
    let mut parsed = Parsed { chunks: Vec::with_capacity(raw.len()), senders: BTreeMap::new(), refused: 0 };
    for (bytes, source) in raw {
        let Ok(chunk) = Chunk::parse(bytes, &limits) else {
            parsed.refused += 1;
            continue;
        };
        let (_, senders) =
            parsed.senders.entry(chunk.hash()).or_insert_with(|| (chunk.actor().clone(), Senders::default()));
        senders.extend(source.link().filter(|link| !senders.contains(link)));
        parsed.chunks.push(chunk);
    }
    parsed
}

fn by_seq(chunks: &[Chunk]) -> BySeq {
    chunks.iter().map(|c| ((c.actor().clone(), c.seq()), c.hash())).collect()
}

/// What a wire endorsement may mean: one endorsement a device that its name could stand for.
fn resolve(roster: &Roster, document: DocumentId, bytes: &[u8], chunks: &BySeq) -> Vec<Endorsement> {
    let mut r = Reader::new(bytes);
    let Ok(wire) = WireEndorsement::decode(&mut r) else { return Vec::new() };
    let devices = wire.devices(roster);
    let meant = devices.into_iter().filter_map(|device| {
        let actor = wire.actor.actor(&device, &document);
        wire.clone().complete(document, device, chunks.get(&(actor, wire.seq)).copied())
    });
    meant.collect()
}

/// What facts say against chains of a document.
pub(super) fn contests(roster: &Roster, document: &DocumentId) -> Vec<Contest> {
    let contest = |claim: &crate::trust::Claim| Contest {
        actor: claim.actor.clone(),
        seq: claim.seq,
        high: claim.high,
        low: claim.low,
    };
    roster.claims(document).iter().map(contest).collect()
}

pub(super) fn tip(endorsement: &Endorsement) -> EndorsedTip {
    EndorsedTip {
        actor: endorsement.actor(),
        seq: endorsement.seq,
        hash: endorsement.hash,
        kind: match endorsement.kind {
            EndorsementKind::Chain => TipKind::Chain,
            EndorsementKind::Single => TipKind::Single,
        },
    }
}
