//! What a broken transfer left here, so that the next link goes on where the last one ended.
//!
//! Two things outlive a link in memory: pieces of a change that is larger than a frame ([`Parts`]), and chunks of a chain
//! that is not whole yet ([`Orphans`](crate::document::orphan::Orphans)). As soon as a peer is proved a member it is told
//! of both by one [`Message::Held`], before anything is shipped: whoever ships a document then leaves out what lies at and
//! below the held heads, and begins a change at the byte after the last one held.
//!
//! Nothing held is admitted, so forgetting all of it (a crash, a bound) costs bytes and nothing else. A peer that lies
//! about what it holds withholds from itself.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::document::LoadWait;
use super::index::Entry;
use super::ingest::Source;
use super::link::Fate;
use super::ship::{Shipment, What};
use crate::document::Log;
use crate::id::{ChangeHash, DocumentId, Path, PeerId, SpaceId};
use crate::io::{CloseReason, LinkId};
use crate::wire::v1::{DocumentHeads, DocumentUpdate, MAX_HELD_DOCUMENTS, MAX_HELD_PARTS, Message};

/// Most bytes of unfinished changes in a store: two of the largest of each of a few peers.
const PARTS_BYTES: usize = 64 << 20;

/// Most heads of one document that are told as held.
const MAX_HEADS: usize = 64;

/// Beginnings of changes that are larger than a frame. Kept by peer, so that nobody can spoil what another sends.
#[derive(Debug, Default)]
pub(super) struct Parts {
    unfinished: BTreeMap<(PeerId, ChangeHash), Unfinished>,
    /// Oldest first.
    order: VecDeque<(PeerId, ChangeHash)>,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    space: SpaceId,
    bytes: Vec<u8>,
}

/// What became of a piece.
enum Piece {
    /// More is to come.
    Taken,
    /// The change is whole.
    Complete(Vec<u8>),
    /// It does not continue what is here, or is over a bound.
    Refused,
}

impl Parts {
    fn take(&mut self, key: (PeerId, ChangeHash), space: SpaceId, total: usize, offset: u64, bytes: &[u8]) -> Piece {
        if offset == 0 {
            // The peer begins anew, whatever it was told.
            self.forget(&key);
            if total > PARTS_BYTES {
                return Piece::Refused;
            }
            self.unfinished.insert(key, Unfinished { space, bytes: Vec::new() });
            self.order.push_back(key);
        }
        let Some(part) = self.unfinished.get_mut(&key) else { return Piece::Refused };
        if part.bytes.len() as u64 != offset || part.bytes.len() + bytes.len() > total {
            self.forget(&key);
            return Piece::Refused;
        }
        part.bytes.extend_from_slice(bytes);
        self.bytes += bytes.len();
        if part.bytes.len() == total {
            return self.forget(&key).map_or(Piece::Refused, Piece::Complete);
        }
        while self.bytes > PARTS_BYTES
            && let Some(oldest) = self.order.front().copied()
        {
            self.forget(&oldest);
        }
        Piece::Taken
    }

    fn forget(&mut self, key: &(PeerId, ChangeHash)) -> Option<Vec<u8>> {
        let part = self.unfinished.remove(key)?;
        self.order.retain(|other| other != key);
        self.bytes -= part.bytes.len();
        Some(part.bytes)
    }

    /// What of a peer's and a space's changes has come so far.
    fn of(&self, peer: PeerId, space: &SpaceId) -> Vec<(ChangeHash, u64)> {
        let own = self.unfinished.range((peer, ChangeHash([0; 32]))..).take_while(|((p, _), _)| *p == peer);
        own.filter(|(_, part)| part.space == *space && !part.bytes.is_empty())
            .map(|((_, hash), part)| (*hash, part.bytes.len() as u64))
            .take(MAX_HELD_PARTS)
            .collect()
    }
}

/// What a peer holds of what we may ship, for one space.
#[derive(Debug, Default)]
pub(super) struct PeerHeld {
    documents: BTreeMap<DocumentId, Vec<ChangeHash>>,
    parts: BTreeMap<ChangeHash, u64>,
}

impl PeerHeld {
    /// Whether it holds chunks of any document.
    pub(super) fn any_document(&self) -> bool {
        !self.documents.is_empty()
    }

    /// Where to begin sending a change; 0 the next time, should this one be lost too.
    pub(super) fn resume(&mut self, hash: &ChangeHash, total: usize) -> usize {
        let offset = self.parts.remove(hash).and_then(|offset| usize::try_from(offset).ok());
        offset.filter(|offset| *offset < total).unwrap_or(0)
    }
}

impl Engine {
    /// Tells a member what is held here of a space, if anything is: of documents that this store wants, by the interests that
    /// it has now, and that the member may read, since their paths are not for everybody.
    pub(super) fn send_held(&mut self, id: LinkId, space: SpaceId) {
        let empty = Log::new();
        let mut documents = Vec::new();
        let state = self.spaces.get(&space);
        let member = self.links.get(&id).and_then(|link| link.spaces.get(&space)).and_then(|common| common.device);
        let (Some(state), Some(member)) = (state, member) else { return };
        let wanted = state.interests(&self.identity().device);
        let both =
            |path: &Path| wanted.iter().any(|prefix| prefix.covers(path)) && state.roster.can_read(&member, path);
        for document in self.orphans.documents() {
            let working = self.documents.get(document).filter(|w| w.space == space && both(&w.path));
            let Some(working) = working else { continue };
            let log = working.log.as_ref().unwrap_or(&empty);
            let mut heads = self.orphans.tips(document, log);
            heads.truncate(MAX_HEADS);
            if !heads.is_empty() && documents.len() < MAX_HELD_DOCUMENTS {
                let (path, generation) = (working.path.clone(), working.generation);
                documents.push(DocumentHeads { path, generation, heads });
            }
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space) else { return };
        let parts = self.parts.of(link.peer, &space);
        if !documents.is_empty() || !parts.is_empty() {
            link.out.control(Message::Held { space: common.tag, documents, parts });
        }
    }

    pub(super) fn on_held(
        &mut self,
        id: LinkId,
        space: SpaceId,
        documents: Vec<DocumentHeads>,
        parts: Vec<(ChangeHash, u64)>,
    ) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        let named = documents.into_iter().map(|d| (DocumentId::derive(&space, &d.path, d.generation), d.heads));
        common.held = PeerHeld { documents: named.collect(), parts: parts.into_iter().collect() };
    }

    /// Ships a whole document, without what the peer said it holds.
    pub(super) fn ship_whole(&mut self, id: LinkId, space: SpaceId, entry: &Entry) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let held = link.spaces.get_mut(&space).and_then(|common| common.held.documents.remove(&entry.id));
        match held {
            Some(heads) if !entry.deleted() => {
                let wait = LoadWait::Compare { link: id, heads, offer: false };
                self.await_rows(space, &entry.path, entry.generation, entry.id, wait);
            }
            _ => link.out.ship(Shipment::of(space, entry, What::From(0))),
        }
    }

    pub(super) fn on_part(
        &mut self,
        id: LinkId,
        space: SpaceId,
        (number, size): (u64, usize),
        (path, generation, hash): (Path, u32, ChangeHash),
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), CloseReason> {
        self.take_number(id, number, 1, size)?;
        let peer = self.links[&id].peer;
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        match self.parts.take((peer, hash), space, total, offset, bytes) {
            Piece::Taken => self.on_resolved(id, number, Fate::Stored),
            Piece::Refused => self.on_resolved(id, number, Fate::Refused),
            Piece::Complete(chunk) => {
                let (endorsements, tombstones) = (Vec::new(), Vec::new());
                let update = DocumentUpdate { path, generation, chunks: vec![chunk], endorsements, tombstones };
                if !self.receive(space, update, Source::Link(id, number)) {
                    self.on_resolved(id, number, Fate::Stored);
                }
            }
        }
        Ok(())
    }
}
