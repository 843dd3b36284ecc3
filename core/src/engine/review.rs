//! Reviews: what leaves the admitted set, and what comes back, when facts change what counts.
//!
//! Which changes of a document are admitted is a function of its chunks and endorsements and of the space's facts. When new
//! facts take something from a device, or say something of a document, every document concerned is *reviewed*: all that is
//! stored of it is judged anew as if it had just come, in one go. What is admitted is stored again as chunks, under new
//! arrival numbers; what is not is *set aside* under a name of its own ([`aside`]), with the endorsements that do not count
//! any more, so that honest edits among it can be made again and so that nothing is lost when facts bring it back. Index,
//! roots, logs and hydrated documents follow when that is durable, like after any other batch.
//!
//! A device's documents are found by a scan over all endorsements, a page at a time. Until the reviews of a space are done a
//! mark is kept in the store, so that a process that dies in between begins again.
//!
//! **Chains that are torn.** One endorsement covers a chain, and it names the newest change: when that one leaves, because
//! it stands on what leaves, nothing is left that vouches for the earlier ones, which stand on nothing wrong. Their signer
//! signs its chain anew up to there and puts that into a fact, so that every peer reviews the document with it, whatever
//! order they come in. Authors who built on each other wait for each other's word: each signs as much as stands if the others
//! sign, too, and as much as stands if they never do. What nobody signs anew, because its signer is gone for good, stays
//! aside and can be made again by whoever has it.
//!
//! **Own actors.** The next change of an actor whose last ones were set aside would have the number of one that is signed
//! already, and other peers could not tell that from equivocation. So such an actor is never used again; the index row
//! remembers it.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::Batch;
use super::index::{Aside, Entry, Heads, advance_heads};
use super::ingest::{contests, tip};
use super::keys::aside;
use super::storage::ReadPurpose;
use super::{Engine, Event, keys};
use crate::document::ingest::{EndorsedTip, TipKind};
use crate::document::local::own_actor;
use crate::document::log::Log;
use crate::document::row::{self, RowKind, StoredRow};
use crate::document::{Chunk, compaction};
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, SpaceId};
use crate::io::{ReadOp, Rows, StorageFailure, Table, WriteOp};
use crate::trust::{Changes, DeviceKey, Endorsement, EndorsementKind, Roster, Tombstone};
use crate::wire::Codec;

/// Rows of one page of the scan over endorsements.
const PAGE: usize = 4_096;
/// Documents of a space that are reviewed at once.
const MAX_RUNNING: usize = 16;

/// The reviews that a space has to go through.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// Devices whose documents are to be found.
    devices: BTreeSet<DeviceId>,
    /// Where the scan goes on; `None`: it is over.
    scan: Option<Vec<u8>>,
    scanning: bool,
    queue: BTreeSet<DocumentId>,
    running: BTreeSet<DocumentId>,
    /// Endorsements of what is left of this store's own chains, to be made known when all is reviewed.
    stumps: Vec<Endorsement>,
}

/// What came of reviewing a document, to become durable.
#[derive(Debug)]
pub(super) struct Reviewed {
    space: SpaceId,
    document: DocumentId,
    /// The newest arrival when the rows were asked for.
    base: u64,
    /// In topological order, with whether each is hidden from the view.
    admitted: Vec<(Chunk, bool)>,
    aside: Vec<Chunk>,
    /// What left the admitted set just now.
    evicted: BTreeSet<ChangeHash>,
    endorsements: Vec<Endorsement>,
    endorsements_aside: Vec<Endorsement>,
    tombstones: Vec<Vec<u8>>,
    /// Actors of this store that must not be used again.
    spent: Vec<Actor>,
}

/// A review as part of a draft.
#[derive(Debug)]
pub(super) struct Redraft {
    pub(super) ops: Vec<WriteOp>,
    /// What the view shows.
    pub(super) visible: Vec<Vec<u8>>,
    pub(super) evicted: BTreeSet<ChangeHash>,
}

impl Engine {
    /// Facts changed what counts: the documents that this may concern are to be reviewed.
    pub(super) fn begin_review(&mut self, space: SpaceId, changes: Changes) {
        let Some(state) = self.spaces.get(&space) else { return };
        if changes.is_empty() {
            return;
        }
        let review = self.reviews.entry(space).or_default();
        let known = changes.documents.iter().filter(|id| state.index.by_id(id).is_some());
        review.queue.extend(known);
        if changes.devices.is_empty() {
            return;
        }
        for entry in state.index.newest_first() {
            let deleted_by =
                |bytes: &Vec<u8>| Tombstone::from_bytes(bytes).is_ok_and(|t| changes.devices.contains(t.device()));
            if entry.aside.is_some() || entry.tombstones.iter().any(|all| all.iter().any(deleted_by)) {
                review.queue.insert(entry.id);
            }
        }
        // What others vouch for of them is not found by a scan for what they signed.
        let vouched = state.roster.documents_contested_by(&changes.devices);
        review.queue.extend(vouched.filter(|id| state.index.by_id(id).is_some()));
        review.devices.extend(changes.devices);
        review.scan = Some(Vec::new());
    }

    /// The mark that reviews are to be made, if facts that are about to be written ask for them.
    pub(super) fn put_review_mark(&self, space: SpaceId) -> Option<WriteOp> {
        let state = self.spaces.get(&space).filter(|state| state.roster.has_changes())?;
        Some(WriteOp::Put(Table::Meta, keys::review(state.number), Vec::new()))
    }

    /// Goes on with reviews that an earlier process did not finish.
    pub(super) fn resume_reviews(&mut self, meta: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let marked = self.spaces.values().filter(|state| meta.contains_key(&keys::review(state.number)));
        let changes: Vec<(SpaceId, Changes)> = marked.map(|state| (state.id(), state.roster.all_changes())).collect();
        for (space, changes) in changes {
            self.reviews.entry(space).or_default();
            self.begin_review(space, changes);
        }
    }

    /// Begins as many reviews as may run.
    pub(super) fn run_reviews(&mut self) {
        let spaces: Vec<SpaceId> = self.reviews.keys().copied().collect();
        for space in spaces {
            self.scan_endorsements(space);
            while let Some(review) = self.reviews.get_mut(&space)
                && review.running.len() < MAX_RUNNING
                && let Some(id) = review.queue.pop_first()
            {
                self.start_review(space, id);
            }
            let over = |review: &Review| review.scan.is_none() && review.queue.is_empty() && review.running.is_empty();
            if self.reviews.get(&space).is_some_and(over) {
                self.finish_reviews(space);
            }
        }
    }

    fn scan_endorsements(&mut self, space: SpaceId) {
        let Some(review) = self.reviews.get_mut(&space).filter(|review| !review.scanning) else { return };
        let Some(from) = review.scan.clone() else { return };
        review.scanning = true;
        let scan = ReadOp::Scan { table: Table::Endorsements, from, to: None, limit: PAGE };
        self.read(ReadPurpose::ReviewScan(space), vec![scan]);
    }

    pub(super) fn on_review_scan(&mut self, space: SpaceId, rows: Result<Vec<Rows>, StorageFailure>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let Some(review) = self.reviews.get_mut(&space) else { return };
        review.scanning = false;
        // A page that could not be read is asked for again.
        let Some(rows) = rows.ok().and_then(|rows| rows.into_iter().next()) else { return };
        let mut last = None;
        for (key, value) in rows.iter() {
            last = Some(key);
            let Some(id) = key.first_chunk().map(|id| DocumentId(*id)) else { continue };
            if review.queue.contains(&id) || state.index.by_id(&id).is_none() {
                continue;
            }
            let device = Endorsement::from_storage(key, value).ok().map(|endorsement| endorsement.device);
            if device.is_some_and(|device| review.devices.contains(&device)) {
                review.queue.insert(id);
            }
        }
        // Unless it was begun anew meanwhile.
        let more = last.filter(|_| rows.len() == PAGE).map(|key| [key, &[0]].concat());
        review.scan = more;
    }

    fn finish_reviews(&mut self, space: SpaceId) {
        let stumps = self.reviews.remove(&space).map(|review| review.stumps).unwrap_or_default();
        let key = self.identity().key.clone();
        if let Some(state) = self.spaces.get_mut(&space) {
            self.pending.ops.push(WriteOp::Delete(Table::Meta, keys::review(state.number)));
            // Without room for facts they stay aside, listed.
            let made = state.roster.post(&key, stumps);
            self.keep_facts(space, made, None);
        }
        for (id, link) in self.links.iter_mut() {
            if link.spaces.contains_key(&space) {
                link.sync.start_over();
                self.busy_links.insert(*id);
            }
        }
    }

    fn start_review(&mut self, space: SpaceId, id: DocumentId) {
        let Some((path, generation)) = self.place_of(&space, &id) else { return };
        self.working(space, &path, generation, id).reviewing = true;
        let base = self.spaces.get(&space).and_then(|s| s.index.by_id(&id)).map_or(0, |entry| entry.arrival);
        if let Some(review) = self.reviews.get_mut(&space) {
            review.running.insert(id);
        }
        let ops = [id, aside(&id)].iter().flat_map(super::command::whole_document).collect();
        self.read(ReadPurpose::Review { space, document: id, base }, ops);
    }

    fn end_review(&mut self, space: SpaceId, id: DocumentId, again: bool) {
        if let Some(review) = self.reviews.get_mut(&space) {
            review.running.remove(&id);
            if again {
                review.queue.insert(id);
            }
        }
        if let Some(working) = self.documents.get_mut(&id).filter(|_| !again) {
            working.reviewing = false;
            if !working.inbox.is_empty() {
                self.ready.insert(id);
            }
        }
    }

    /// Everything that is stored of a document is there.
    pub(super) fn on_review_rows(
        &mut self,
        space: SpaceId,
        id: DocumentId,
        base: u64,
        rows: Result<Vec<Rows>, StorageFailure>,
    ) {
        let Ok(rows) = rows else { return self.end_review(space, id, true) };
        let own = self.own_actors(&id);
        let Some(state) = self.spaces.get(&space) else { return };
        let Some(entry) = state.index.by_id(&id) else { return self.end_review(space, id, false) };
        let Judged { reviewed, stumps } = judge(&state.roster, entry, &rows, &own, &self.identity().key);
        if let Some(review) = self.reviews.get_mut(&space) {
            review.stumps.extend(stumps);
        }
        match reviewed {
            Some(reviewed) => self.pending.reviewed.push(Reviewed { space, base, ..reviewed }),
            None => self.end_review(space, id, false),
        }
    }

    /// This store's own actors of a document, as far as a program can have come with them.
    fn own_actors(&self, id: &DocumentId) -> BTreeSet<Actor> {
        let identity = self.identity();
        let numbers = 0..8 * crate::document::hot::ACTORS;
        numbers.map(|n| own_actor(&identity.device, id, identity.incarnation, n)).collect()
    }

    /// Takes reviews into a batch. They come first in it, and nothing else of their documents comes ahead of them.
    pub(super) fn draft_reviews(&mut self, batch: &mut Batch) {
        for reviewed in std::mem::take(&mut self.pending.reviewed) {
            let (space, id) = (reviewed.space, reviewed.document);
            let entry = self.spaces.get(&space).and_then(|s| s.index.by_id(&id));
            let Some(entry) = entry.filter(|entry| entry.arrival == reviewed.base) else {
                // A write that was on its way has brought something since.
                self.end_review(space, id, true);
                continue;
            };
            let (path, generation) = (entry.path.clone(), entry.generation);
            let first = self.storage.next_arrival;
            let draft = self.draft(batch, space, &path, generation, id);
            let redraft = reviewed.redraft(&mut draft.entry, first);
            draft.remote = true;
            draft.redraft = Some(redraft);
            self.storage.next_arrival = draft.entry.arrival + 1;
            batch.changes += 1;
            self.orphans.take(&id);
        }
    }

    /// A review is durable.
    pub(super) fn settle_review(&mut self, space: SpaceId, entry: &Entry, redraft: &Redraft) {
        let id = entry.id;
        if let Some(working) = self.documents.get_mut(&id) {
            working.log = (entry.chunks == 0).then(Log::new);
            let cell = working.cell.clone();
            let spent = entry.aside.as_deref().map(|aside| aside.spent.clone()).unwrap_or_default();
            let replaced = cell.as_ref().is_some_and(|cell| {
                let replaced = cell.with(|hot| hot.evict(redraft.visible.clone(), &redraft.evicted, &spent));
                matches!(replaced, Ok(Ok(())))
            });
            if cell.is_some() && (!replaced || entry.deleted()) {
                self.drop_cell(&id);
            }
        }
        if !redraft.evicted.is_empty() {
            let changes = redraft.evicted.iter().copied().collect();
            self.emit(Event::Evicted { space, path: entry.path.clone(), document: id, changes });
        }
        self.end_review(space, id, false);
        // Its rows changed under whoever was waiting for them.
        if self.documents.get(&id).is_some_and(|working| !working.waits.is_empty()) {
            self.pending_loads.insert(id);
        }
    }

    /// Whether a wait needs a document that is being reviewed.
    pub(super) fn review_blocks(&self, id: &DocumentId) -> bool {
        self.documents.get(id).is_some_and(|working| working.reviewing)
    }
}

/// What is stored of a document.
pub(super) struct Stored {
    chunks: Vec<Chunk>,
    hidden: BTreeSet<ChangeHash>,
}

impl Stored {
    pub(super) fn read(rows: &Rows) -> Self {
        let (mut chunks, mut hidden) = (Vec::new(), BTreeSet::new());
        for row in rows.iter().filter_map(|(key, value)| StoredRow::read(key, value).ok()) {
            match row.kind {
                RowKind::Change => {
                    let Ok(chunk) = Chunk::parse_stored(row.bytes.to_vec()) else { continue };
                    if row.hidden {
                        hidden.insert(chunk.hash());
                    }
                    chunks.push(chunk);
                }
                RowKind::Snapshot => chunks.extend(compaction::expand(row.bytes).unwrap_or_default()),
            }
        }
        Self { chunks, hidden }
    }

    pub(super) fn hashes(&self) -> BTreeSet<ChangeHash> {
        self.chunks.iter().map(Chunk::hash).collect()
    }
}

pub(super) fn endorsements(rows: &Rows, document: &DocumentId) -> Vec<Endorsement> {
    let read = |(key, value): (&[u8], &[u8])| {
        // Rows that were set aside lie under another name.
        let key = [document.0.as_slice(), key.get(16..)?].concat();
        Endorsement::from_storage(&key, value).ok()
    };
    rows.iter().filter_map(read).collect()
}

/// What came of judging a document.
#[derive(Default)]
struct Judged {
    /// `None`: nothing changes.
    reviewed: Option<Reviewed>,
    /// Endorsements to be made known of what is left of own chains.
    stumps: Vec<Endorsement>,
}

/// Judges all that is stored of a document.
fn judge(roster: &Roster, entry: &Entry, rows: &[Rows], own: &BTreeSet<Actor>, key: &DeviceKey) -> Judged {
    let [chunks, signed, chunks_aside, signed_aside] = rows else { return Judged::default() };
    let (stored, stored_aside) = (Stored::read(chunks), Stored::read(chunks_aside));
    let (before, before_aside) = (stored.hashes(), stored_aside.hashes());
    let mut all = endorsements(signed, &entry.id);
    let known = all.len();
    all.extend(endorsements(signed_aside, &entry.id));
    let pool: BTreeMap<ChangeHash, Chunk> =
        stored.chunks.into_iter().chain(stored_aside.chunks).map(|chunk| (chunk.hash(), chunk)).collect();
    let posted = roster.posted(&entry.id).iter().filter(|it| pool.contains_key(&it.hash));
    all.extend(posted.filter(|it| it.verify(roster.space()).is_ok()).cloned());
    let (counting, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| roster.endorses(it, &entry.path).is_ok());
    let staged = stage(roster, &entry.id, &pool, counting.iter().map(tip).collect());
    let admitted: BTreeSet<ChangeHash> = staged.iter().map(Chunk::hash).collect();
    let stumps = stumps(roster, &entry.id, &pool, &counting, &admitted, key);
    let aside: Vec<Chunk> = pool.into_values().filter(|chunk| !admitted.contains(&chunk.hash())).collect();
    let evicted: BTreeSet<ChangeHash> = before.difference(&admitted).copied().collect();
    let stands = |bytes: &&Vec<u8>| Tombstone::from_bytes(bytes).is_ok_and(|it| roster.deletes(&it).is_ok());
    let all_tombstones = entry.tombstones.as_deref().map(Vec::as_slice).unwrap_or_default();
    let tombstones: Vec<Vec<u8>> = all_tombstones.iter().filter(stands).cloned().collect();
    let unchanged = evicted.is_empty()
        && admitted.len() == before.len()
        && aside.len() == before_aside.len()
        && tombstones.len() == all_tombstones.len();
    // An endorsement that does not count any more must not be served as one that does.
    let (mut kept, mut unkept) = (BTreeMap::<Vec<u8>, Endorsement>::new(), others);
    for endorsement in counting {
        let place = endorsement.storage_key();
        if !admitted.contains(&endorsement.hash) {
            unkept.push(endorsement);
        } else if kept.get(&place).is_none_or(|known| known.seq < endorsement.seq) {
            kept.insert(place, endorsement);
        }
    }
    if unchanged && kept.len() == known {
        return Judged { reviewed: None, stumps };
    }
    let spent = aside.iter().map(Chunk::actor).filter(|actor| own.contains(*actor)).cloned();
    let known_spent = entry.aside.iter().flat_map(|aside| aside.spent.iter().cloned());
    let spent: BTreeSet<Actor> = known_spent.chain(spent).collect();
    let hidden = stored.hidden;
    let reviewed = Reviewed {
        space: *roster.space(),
        document: entry.id,
        base: entry.arrival,
        admitted: staged
            .into_iter()
            .map(|chunk| (chunk.hash(), chunk))
            .map(|(hash, chunk)| (chunk, hidden.contains(&hash)))
            .collect(),
        aside,
        evicted,
        endorsements: kept.into_values().collect(),
        endorsements_aside: unkept,
        tombstones,
        spent: spent.into_iter().collect(),
    };
    Judged { reviewed: Some(reviewed), stumps }
}

/// What of a document's changes is admitted by these endorsed changes, in topological order.
fn stage(
    roster: &Roster,
    document: &DocumentId,
    pool: &BTreeMap<ChangeHash, Chunk>,
    tips: Vec<EndorsedTip>,
) -> Vec<Chunk> {
    Log::new().stage_contested(pool.values().cloned().collect(), &tips, &contests(roster, document)).admitted
}

/// Endorsements by `key` of what is left of the chains that it endorsed and that do not stand as a whole: up to where they
/// stand if every other signer does the same, and up to where they stand if none does.
fn stumps(
    roster: &Roster,
    document: &DocumentId,
    pool: &BTreeMap<ChangeHash, Chunk>,
    counting: &[Endorsement],
    admitted: &BTreeSet<ChangeHash>,
    key: &DeviceKey,
) -> Vec<Endorsement> {
    let mine = |it: &Endorsement| it.device == key.device() && it.kind == EndorsementKind::Chain;
    let torn: Vec<&Endorsement> = counting.iter().filter(|it| mine(it) && !admitted.contains(&it.hash)).collect();
    if torn.is_empty() {
        return Vec::new();
    }
    let staged = |torn: &dyn Fn(&Endorsement) -> bool| {
        let tip = |it: &Endorsement| match it.kind {
            EndorsementKind::Chain if torn(it) => EndorsedTip { kind: TipKind::Torn, ..tip(it) },
            _ => tip(it),
        };
        stage(roster, document, pool, counting.iter().map(tip).collect())
    };
    let newest = |of: &Endorsement, admitted: &[Chunk]| {
        let actor = of.actor();
        let stump = admitted.iter().filter(|chunk| *chunk.actor() == actor && chunk.seq() < of.seq);
        stump.map(|chunk| (chunk.seq(), chunk.hash())).max()
    };
    let (together, alone) = (staged(&|_| true), staged(&mine));
    let signed = |(_, hash): &(u64, ChangeHash)| counting.iter().any(|it| mine(it) && it.hash == *hash);
    let mut stumps = BTreeMap::new();
    for it in torn {
        // Who has said so once waits for the others, and does not say more with every word of theirs.
        let Some(most) = newest(it, &together).filter(|most| !signed(most)) else { continue };
        for stump in [Some(most), newest(it, &alone)].into_iter().flatten().filter(|stump| !signed(stump)) {
            stumps.insert(stump.1, it.shortened(key, roster.space(), stump));
        }
    }
    stumps.into_values().collect()
}

impl Reviewed {
    /// Writes the document anew; arrival numbers count from `first`.
    fn redraft(self, entry: &mut Entry, first: u64) -> Redraft {
        let (document, name) = (entry.id, aside(&entry.id));
        let mut ops = Vec::new();
        for id in [document, name] {
            ops.extend(row::delete_all(&id));
            ops.push(super::batch::delete_endorsements(&id));
        }
        let (mut arrival, mut visible) = (first, Vec::with_capacity(self.admitted.len()));
        (entry.heads, entry.bytes, entry.chunks, entry.packed) = (Heads::new(), 0, 0, None);
        for (chunk, hidden) in &self.admitted {
            ops.push(row::put_change(&document, arrival, chunk.bytes(), *hidden));
            advance_heads(&mut entry.heads, chunk.hash(), chunk.deps());
            entry.bytes += chunk.bytes().len() as u64;
            entry.chunks += 1;
            arrival += 1;
            if !hidden {
                visible.push(chunk.bytes().to_vec());
            }
        }
        let puts = self.endorsements.iter().map(|it| (it.storage_key(), it));
        let puts_aside = self.endorsements_aside.iter().map(|it| ([&name.0, &it.storage_key()[16..]].concat(), it));
        for (key, endorsement) in puts.chain(puts_aside) {
            ops.push(WriteOp::Put(Table::Endorsements, key, endorsement.storage_value()));
        }
        for (number, chunk) in (0..).zip(&self.aside) {
            ops.push(row::put_change(&name, number, chunk.bytes(), false));
        }
        // The number of a review that admits nothing is its own.
        entry.arrival = arrival.saturating_sub(1).max(first);
        let changes = u32::try_from(self.aside.len()).unwrap_or(u32::MAX);
        let remembered = changes > 0 || !self.spent.is_empty();
        entry.aside = remembered.then(|| Box::new(Aside { changes, spent: self.spent }));
        entry.tombstones = (!self.tombstones.is_empty()).then(|| Box::new(self.tombstones));
        Redraft { ops, visible, evicted: self.evicted }
    }
}
