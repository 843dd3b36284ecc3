//! What goes out on a link, in fair turns, and what comes in.
//!
//! Control messages leave first. Data leaves as far as the peer's credit reaches: changes in memory (fresh ones), then
//! shipments from disk. A shipment is read a piece at a time and goes to the back of the queue after each, so one huge
//! document does not hold up small ones, and at most one read a link is under way, so what waits in memory is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::broadcast::Fresh;
use super::command::wire_endorsement;
use super::document::LoadWait;
use super::held::PeerHeld;
use super::index::Entry;
use super::ingest::Source;
use super::link::{Fate, protocol};
use super::storage::ReadPurpose;
use super::{Engine, keys};
use crate::document::log::Log;
use crate::document::row::{RowKind, StoredRow};
use crate::document::{Chunk, compaction};
use crate::id::{ChangeHash, DocumentId, Path, SpaceId};
use crate::io::{CloseReason, LinkId, MAX_FRAME, Output, ReadOp, Rows, StorageFailure, Table};
use crate::trust::{Endorsement, Roster};
use crate::wire::v1::{DocumentUpdate, Message, SpaceTag};

/// Bytes of data that a message may bring, so that it fits a frame with what surrounds it.
const MESSAGE_BYTES: usize = 56 * 1024;
/// A chunk above this travels in parts.
const PART_BYTES: usize = 48 * 1024;
/// Bytes that one read of shipments aims at.
const READ_BYTES: u64 = 256 * 1024;
/// Most shipments in one read.
const READ_SHIPMENTS: usize = 128;
/// Data messages that may wait for credit before no more is read.
const QUEUE_BYTES: usize = 256 * 1024;
/// Most shipments that wait on one link; a peer that is behind by more finds the rest in the next round.
const MAX_SHIPMENTS: usize = 2_000_000;

/// Which changes of a document to ship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Those that arrived at or after this number.
    From(u64),
    /// These, which are stored under this arrival number or later ones.
    Changes(BTreeSet<ChangeHash>, u64),
    /// None: the document is deleted.
    Tombstones,
}

/// Something to be sent to a peer from disk.
#[derive(Debug, Clone)]
pub(super) struct Shipment {
    space: SpaceId,
    document: DocumentId,
    what: What,
    /// Where to go on reading, after a first piece.
    position: Option<u64>,
    /// Nothing from disk: this message, in its turn.
    marker: Option<Box<Message>>,
}

impl Shipment {
    pub(super) fn of(space: SpaceId, entry: &Entry, what: What) -> Self {
        let what = if entry.deleted() { What::Tombstones } else { what };
        Self { space, document: entry.id, what, position: None, marker: None }
    }

    pub(super) fn marker(space: SpaceId, message: Message) -> Self {
        let marker = Some(Box::new(message));
        Self { space, document: DocumentId([0; 16]), what: What::Tombstones, position: None, marker }
    }
}

/// A read of shipments that is under way.
#[derive(Debug)]
pub(super) struct ShipmentRead {
    link: LinkId,
    /// The shipments with the row limit of each.
    shipments: Vec<(Shipment, usize)>,
}

/// Heads that a numbered message takes the peer to.
type Carried = Vec<(DocumentId, Vec<ChangeHash>)>;

/// What waits to go out on a link.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Vec<u8>>,
    /// Encoded messages; `false`: a marker in its turn, which costs no credit.
    data: VecDeque<(Vec<u8>, bool)>,
    data_bytes: usize,
    shipments: VecDeque<Shipment>,
    reading: bool,
    credit: u64,
    next_number: u64,
    unacknowledged: BTreeMap<u64, Carried>,
    pub(super) fresh: Fresh,
}

impl Outbox {
    /// Queues a message that needs no credit.
    pub(super) fn control(&mut self, message: Message) {
        let mut bytes = Vec::new();
        message.append_to(&mut bytes);
        self.control.push_back(bytes);
    }

    pub(super) fn ship(&mut self, shipment: Shipment) {
        if self.shipments.len() < MAX_SHIPMENTS || shipment.marker.is_some() {
            self.shipments.push_back(shipment);
        }
    }

    fn data(&mut self, carried: Carried, make: impl FnOnce(u64) -> Message) {
        self.next_number += 1;
        let mut bytes = Vec::new();
        make(self.next_number).append_to(&mut bytes);
        self.data_bytes += bytes.len();
        self.data.push_back((bytes, true));
        self.unacknowledged.insert(self.next_number, carried);
    }

    pub(super) fn facts(&mut self, space: SpaceTag, facts: Vec<Vec<u8>>) {
        for facts in pack(facts, |f| f.len() + 4, 1024) {
            self.data(Vec::new(), |number| Message::Facts { space, number, facts });
        }
    }

    pub(super) fn add_credit(&mut self, bytes: u64) -> Result<(), CloseReason> {
        self.credit =
            self.credit.checked_add(bytes).filter(|c| *c <= 1 << 40).ok_or_else(|| protocol("credit overflow"))?;
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, number: u64) -> Result<Vec<(u64, Carried)>, CloseReason> {
        if number > self.next_number {
            return Err(protocol("an acknowledgement of something never sent"));
        }
        let rest = self.unacknowledged.split_off(&(number + 1));
        Ok(std::mem::replace(&mut self.unacknowledged, rest).into_iter().collect())
    }

    /// Whether nothing waits and everything sent has been dealt with.
    pub(super) fn settled(&self) -> bool {
        self.data.is_empty()
            && self.shipments.is_empty()
            && !self.reading
            && self.unacknowledged.is_empty()
            && self.fresh.is_empty()
    }

    /// Whether everything was sent, and some of it has not been acknowledged.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        let sent = self.data.is_empty() && self.shipments.is_empty() && !self.reading && self.fresh.is_empty();
        sent && !self.unacknowledged.is_empty()
    }

    /// Whether nothing waits to be read or sent.
    pub(super) fn is_drained(&self) -> bool {
        self.data.is_empty() && self.shipments.is_empty() && !self.reading
    }

    /// The number of the last data message.
    pub(super) fn last_number(&self) -> u64 {
        self.next_number
    }

    /// Whether the peer has dealt with everything that was sent.
    pub(super) fn is_idle(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Whether more data may be queued; what is fresh goes on gathering otherwise.
    pub(super) fn has_room(&self) -> bool {
        self.data_bytes <= QUEUE_BYTES
    }

    pub(super) fn last_words(&mut self) -> Vec<Vec<u8>> {
        self.frames(false)
    }

    /// Frames of what may leave now.
    fn frames(&mut self, with_data: bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        let mut add = |message: Vec<u8>| {
            if !frame.is_empty() && frame.len() + message.len() > MAX_FRAME {
                frames.push(std::mem::take(&mut frame));
            }
            if frame.is_empty() {
                frame = message;
            } else {
                frame.extend_from_slice(&message);
            }
        };
        self.control.drain(..).for_each(&mut add);
        while with_data
            && self.credit > 0
            && let Some((message, costs)) = self.data.pop_front()
        {
            self.data_bytes -= message.len();
            self.credit = self.credit.saturating_sub(if costs { message.len() as u64 } else { 0 });
            add(message);
        }
        if !frame.is_empty() {
            frames.push(frame);
        }
        frames
    }
}

impl Engine {
    /// Lets everything leave that may.
    pub(super) fn pump_links(&mut self) {
        let busy = std::mem::take(&mut self.busy_links);
        for id in busy {
            if self.storage.holds_back() || !self.pending.facts.is_empty() || !self.pending.opened.is_empty() {
                // Something here is known before it is durable; nobody is told anything meanwhile.
                self.busy_links.insert(id);
                continue;
            }
            self.push_due(id);
            self.settle_debts(id);
            self.run_link_sync(id);
            self.read_shipments(id);
            self.pump_soft(id);
            self.pump_topics(id);
            self.send_frames(id);
            self.ask_behind_data(id);
            self.send_frames(id);
        }
    }

    fn send_frames(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for bytes in link.out.frames(true) {
            link.bytes_sent += bytes.len() as u64 + 2;
            self.out.push_back(Output::Send { link: id, bytes });
        }
    }

    fn read_shipments(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.out.reading || link.out.data_bytes > QUEUE_BYTES || (link.out.credit == 0 && !link.out.data.is_empty())
        {
            return;
        }
        let (mut ops, mut shipments, mut bytes) = (Vec::new(), Vec::new(), 0);
        while shipments.len() < READ_SHIPMENTS && bytes < READ_BYTES {
            // A marker closes what was shipped before it: it waits for the reads ahead of it.
            let marker_next = link.out.shipments.front().is_some_and(|s| s.marker.is_some());
            if marker_next && !shipments.is_empty() {
                break;
            }
            let Some(mut shipment) = link.out.shipments.pop_front() else { break };
            if let Some(marker) = shipment.marker.take() {
                // Behind data that waits for credit a marker waits too.
                let mut encoded = Vec::new();
                marker.append_to(&mut encoded);
                link.out.data_bytes += encoded.len();
                link.out.data.push_back((encoded, false));
                continue;
            }
            let Some(entry) = self.spaces.get(&shipment.space).and_then(|s| s.index.by_id(&shipment.document)) else {
                continue;
            };
            if entry.deleted() {
                shipment.what = What::Tombstones;
            }
            let average = (entry.bytes / u64::from(entry.chunks.max(1))).max(1);
            let limit = usize::try_from((READ_BYTES / average).clamp(1, 4_096)).unwrap_or(1);
            bytes += entry.bytes.clamp(1, READ_BYTES);
            if shipment.what != What::Tombstones {
                ops.extend(shipment.reads(entry, limit));
            }
            shipments.push((shipment, limit));
        }
        if !shipments.is_empty() {
            link.out.reading = true;
            self.read(ReadPurpose::Ship(ShipmentRead { link: id, shipments }), ops);
        }
    }

    pub(super) fn on_shipment_read(&mut self, read: ShipmentRead, rows: Result<Vec<Rows>, StorageFailure>) {
        let Some(link) = self.links.get_mut(&read.link) else { return };
        link.out.reading = false;
        self.busy_links.insert(read.link);
        let Ok(rows) = rows else {
            // What could not be read is found missing in the next round.
            link.sync.gap();
            return;
        };
        let mut rows = rows.into_iter();
        let mut by_space: BTreeMap<SpaceId, Vec<Loaded>> = BTreeMap::new();
        for (shipment, limit) in read.shipments {
            let Some(state) = self.spaces.get(&shipment.space) else { continue };
            let Some(entry) = state.index.by_id(&shipment.document) else { continue };
            let (chunks, endorsements) = if shipment.what == What::Tombstones {
                (Rows::default(), Rows::default())
            } else {
                (rows.next().unwrap_or_default(), rows.next().unwrap_or_default())
            };
            if chunks.len() == limit
                && let Some(rest) = shipment.after(&chunks)
            {
                link.out.shipments.push_back(rest);
            }
            by_space.entry(shipment.space).or_default().push(Loaded::new(entry, &shipment, &chunks, &endorsements));
        }
        for (space, documents) in by_space {
            let (Some(common), Some(state)) = (link.spaces.get_mut(&space), self.spaces.get(&space)) else { continue };
            let mut packer = Packer::new(common.tag, Some(&state.roster)).resuming(&mut common.held);
            for document in documents {
                packer.add(&mut link.out, document);
            }
            packer.flush(&mut link.out);
        }
    }

    pub(super) fn on_update(
        &mut self,
        id: LinkId,
        space: SpaceId,
        number: u64,
        documents: Vec<DocumentUpdate>,
        bytes: usize,
    ) -> Result<(), CloseReason> {
        self.take_number(id, number, documents.len(), bytes)?;
        let device = self.identity().device;
        let interests = self.spaces.get(&space).map(|s| s.interests(&device)).unwrap_or_default();
        for update in documents {
            let wanted = super::space::covered(&interests, &update.path);
            if !wanted {
                self.on_resolved(id, number, Fate::Refused);
            } else if !self.receive(space, update, Source::Link(id, number)) {
                self.on_resolved(id, number, Fate::Stored);
            }
        }
        Ok(())
    }

    pub(super) fn on_fetch(
        &mut self,
        id: LinkId,
        space: SpaceId,
        path: &Path,
        generation: u32,
        hashes: Vec<ChangeHash>,
    ) {
        let document = DocumentId::derive(&space, path, generation);
        let link = &self.links[&id];
        let covered = super::space::covered(&link.spaces[&space].domains, path);
        let known = self.spaces.get(&space).is_some_and(|s| s.index.by_id(&document).is_some());
        if covered && known {
            self.await_rows(space, path, generation, document, LoadWait::Fetch { link: id, hashes });
        }
    }

    /// A document's log is there: ship what was asked for by hash.
    pub(super) fn on_fetchable(&mut self, id: LinkId, document: DocumentId, hashes: &[ChangeHash]) {
        let Some(working) = self.documents.get(&document) else { return };
        let (space, Some(log)) = (working.space, working.log.as_ref()) else { return };
        let what = What::of_rows(log, hashes.iter().filter_map(|h| log.row(h)));
        let Some(entry) = self.spaces.get(&space).and_then(|s| s.index.by_id(&document)) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(what) = what {
            link.out.ship(Shipment::of(space, entry, what));
            self.busy_links.insert(id);
        }
    }
}

impl What {
    /// Some rows of a log; `None`: no row.
    pub(super) fn of_rows<'a>(log: &Log, rows: impl Iterator<Item = &'a crate::document::log::Row>) -> Option<Self> {
        let mut from = u64::MAX;
        let mut hashes = BTreeSet::new();
        for row in rows {
            let stored_at = if row.is_packed() { log.snapshot_arrival().unwrap_or(0) } else { row.arrival() };
            from = from.min(stored_at);
            hashes.insert(row.hash());
        }
        match hashes.len() {
            0 => None,
            all if all == log.len() => Some(What::From(0)),
            _ => Some(What::Changes(hashes, from)),
        }
    }
}

impl Shipment {
    fn reads(&self, entry: &Entry, limit: usize) -> [ReadOp; 2] {
        let from = self.position.unwrap_or(match (&self.what, entry.packed.as_deref()) {
            // Some of it lies in the snapshot, which stands before it.
            (What::From(arrival), Some((snapshot, last))) if arrival <= last => *snapshot,
            (What::From(arrival), _) => *arrival,
            (What::Changes(_, from), Some((snapshot, _))) => *from.min(snapshot),
            (What::Changes(_, from), None) => *from,
            (What::Tombstones, _) => u64::MAX,
        });
        let end = keys::after_document(&self.document);
        [
            ReadOp::Scan { table: Table::Chunks, from: keys::chunk(&self.document, from), to: end.clone(), limit },
            ReadOp::Scan { table: Table::Endorsements, from: self.document.0.to_vec(), to: end, limit: usize::MAX },
        ]
    }

    /// What is left after a piece that ends with the last of these rows.
    fn after(&self, chunks: &Rows) -> Option<Self> {
        let (key, _) = chunks.row(chunks.len().checked_sub(1)?)?;
        let position = Some(keys::parse_chunk(key)? + 1);
        Some(Self { position, ..self.clone() })
    }

    fn includes(&self, arrival: u64, packed: bool, hash: &ChangeHash) -> bool {
        match &self.what {
            What::From(from) => packed || arrival >= *from,
            What::Changes(hashes, _) => hashes.contains(hash),
            What::Tombstones => false,
        }
    }
}

/// Rows as single changes, with their hashes: snapshots are expanded.
pub(super) fn expand<'a>(rows: impl Iterator<Item = StoredRow<'a>>) -> Vec<(ChangeHash, Vec<u8>)> {
    expand_where(rows, |_, _, _| true)
}

fn expand_where<'a>(
    rows: impl Iterator<Item = StoredRow<'a>>,
    keep: impl Fn(u64, bool, &ChangeHash) -> bool,
) -> Vec<(ChangeHash, Vec<u8>)> {
    let mut changes = Vec::new();
    for row in rows {
        match row.kind {
            RowKind::Change => {
                if let Ok(chunk) = Chunk::parse_stored(row.bytes.to_vec())
                    && keep(row.arrival, false, &chunk.hash())
                {
                    changes.push((chunk.hash(), chunk.into_bytes()));
                }
            }
            RowKind::Snapshot => {
                let expanded = compaction::expand(row.bytes).unwrap_or_default().into_iter();
                let kept = expanded.filter(|chunk| keep(row.arrival, true, &chunk.hash()));
                changes.extend(kept.map(|chunk| (chunk.hash(), chunk.into_bytes())));
            }
        }
    }
    changes
}

/// A piece of a document, ready to be packed.
pub(super) struct Loaded {
    pub(super) document: DocumentId,
    pub(super) path: Path,
    pub(super) generation: u32,
    pub(super) heads: BTreeSet<ChangeHash>,
    pub(super) changes: Vec<(ChangeHash, Vec<u8>)>,
    pub(super) endorsements: Vec<Endorsement>,
    pub(super) tombstones: Vec<Vec<u8>>,
}

impl Loaded {
    fn new(entry: &Entry, shipment: &Shipment, chunks: &Rows, endorsements: &Rows) -> Self {
        let rows = chunks.iter().filter_map(|(k, v)| StoredRow::read(k, v).ok());
        let changes = expand_where(rows, |arrival, packed, hash| shipment.includes(arrival, packed, hash));
        let endorsements = endorsements.iter().filter_map(|(k, v)| Endorsement::from_storage(k, v).ok()).collect();
        Self {
            document: entry.id,
            path: entry.path.clone(),
            generation: entry.generation,
            heads: entry.heads.iter().copied().collect(),
            changes,
            endorsements,
            tombstones: entry.tombstones.as_deref().cloned().unwrap_or_default(),
        }
    }
}

/// Fills messages with pieces of documents.
pub(super) struct Packer<'r> {
    space: SpaceTag,
    roster: Option<&'r Roster>,
    /// What the peer holds of changes that travel in parts.
    held: Option<&'r mut PeerHeld>,
    updates: Vec<DocumentUpdate>,
    carried: Carried,
    size: usize,
}

impl<'r> Packer<'r> {
    pub(super) fn new(space: SpaceTag, roster: Option<&'r Roster>) -> Self {
        Self { space, roster, held: None, updates: Vec::new(), carried: Vec::new(), size: 0 }
    }

    /// Goes on where an earlier link ended.
    fn resuming(mut self, held: &'r mut PeerHeld) -> Self {
        self.held = Some(held);
        self
    }

    pub(super) fn add(&mut self, out: &mut Outbox, document: Loaded) {
        let mut by_hash: BTreeMap<ChangeHash, Vec<&Endorsement>> = BTreeMap::new();
        for endorsement in &document.endorsements {
            by_hash.entry(endorsement.hash).or_default().push(endorsement);
        }
        let mut update = self.begin(&document);
        update.tombstones.clone_from(&document.tombstones);
        self.size += update.size();
        for (hash, bytes) in document.changes {
            let endorsed = by_hash.remove(&hash).unwrap_or_default();
            if document.heads.contains(&hash) {
                self.carry(document.document, hash);
            }
            if bytes.len() > PART_BYTES {
                self.send_parts(out, &update.path, update.generation, hash, &bytes);
                // The endorsement follows by itself and names its change.
                update.endorsements.extend(endorsed.iter().map(|e| wire_endorsement(e, self.roster)));
                continue;
            }
            let endorsed: Vec<Vec<u8>> = endorsed.iter().map(|e| self.wire(e, &hash)).collect();
            let size = bytes.len() + 4 + endorsed.iter().map(|e| e.len() + 4).sum::<usize>();
            if self.size + size > MESSAGE_BYTES {
                let next = DocumentUpdate {
                    path: update.path.clone(),
                    generation: update.generation,
                    chunks: Vec::new(),
                    endorsements: Vec::new(),
                    tombstones: Vec::new(),
                };
                let full = std::mem::replace(&mut update, next);
                self.finish(full);
                self.flush(out);
                self.size = update.size();
            }
            self.size += size;
            update.chunks.push(bytes);
            update.endorsements.extend(endorsed);
        }
        self.finish(update);
        if self.size > MESSAGE_BYTES {
            self.flush(out);
        }
    }

    fn begin(&self, document: &Loaded) -> DocumentUpdate {
        DocumentUpdate {
            path: document.path.clone(),
            generation: document.generation,
            chunks: Vec::new(),
            endorsements: Vec::new(),
            tombstones: Vec::new(),
        }
    }

    fn finish(&mut self, update: DocumentUpdate) {
        if !update.chunks.is_empty() || !update.endorsements.is_empty() || !update.tombstones.is_empty() {
            self.updates.push(update);
        }
    }

    fn carry(&mut self, document: DocumentId, hash: ChangeHash) {
        match self.carried.last_mut() {
            Some((last, heads)) if *last == document => heads.push(hash),
            _ => self.carried.push((document, vec![hash])),
        }
    }

    /// An endorsement whose change is in the same message need not name it.
    fn wire(&self, endorsement: &Endorsement, newest: &ChangeHash) -> Vec<u8> {
        let mut w = crate::wire::Writer::new();
        endorsement.encode_wire(&mut w, self.roster, Some(newest));
        w.finish()
    }

    pub(super) fn flush(&mut self, out: &mut Outbox) {
        self.size = 0;
        let (space, documents) = (self.space, std::mem::take(&mut self.updates));
        if !documents.is_empty() {
            let carried = std::mem::take(&mut self.carried);
            out.data(carried, |number| Message::Update { space, number, documents });
        }
    }

    fn send_parts(&mut self, out: &mut Outbox, path: &Path, generation: u32, hash: ChangeHash, bytes: &[u8]) {
        self.flush(out);
        let (space, total) = (self.space, bytes.len() as u64);
        let begin = self.held.as_mut().map_or(0, |held| held.resume(&hash, bytes.len()));
        for (n, piece) in bytes[begin..].chunks(PART_BYTES).enumerate() {
            let (path, offset, bytes) = (path.clone(), (begin + n * PART_BYTES) as u64, piece.to_vec());
            out.data(Vec::new(), |number| Message::Part {
                space,
                number,
                path,
                generation,
                hash,
                total,
                offset,
                bytes,
            });
        }
    }
}

/// Groups items so that each group fits a message.
pub(super) fn pack<T>(items: Vec<T>, size: impl Fn(&T) -> usize, most: usize) -> Vec<Vec<T>> {
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let next = size(&item);
        if !group.is_empty() && (bytes + next > MESSAGE_BYTES || group.len() >= most) {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += next;
        group.push(item);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}
