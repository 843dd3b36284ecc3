//! Resolving: from ids that differ to what has to be shipped.
//!
//! An updated document shows as two ids: its new heads on one side, its old heads on the other. Whoever has the newer
//! state finds the other's id among the heads that the document once had (the log replays them), and so knows exactly
//! what to ship without exchanging heads. Only what matches nothing (a document edited on both sides) costs an exchange
//! of heads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Engine;
use super::document::LoadWait;
use super::index::Entry;
use super::link::protocol;
use super::ship::{Shipment, What};
use super::sync::Handled;
use crate::document::Log;
use crate::id::{ChangeHash, DocumentId, Prefix, SpaceId};
use crate::io::LinkId;
use crate::reconcile::{IdKey, Item};
use crate::wire::v1::{DocumentHeads, DomainTag, MAX_DOCUMENTS, MAX_IDS, Message};

/// Matching our documents with the ids that the other side has.
#[derive(Debug)]
pub(super) struct Resolution {
    requester: bool,
    key: IdKey,
    /// Ids that the other side has and this side has not.
    others: BTreeSet<u64>,
    /// Our documents with their ids, waiting for their logs.
    waiting: BTreeMap<DocumentId, u64>,
    /// Our documents in whose history no id of the other side occurs.
    unmatched: BTreeMap<u64, DocumentId>,
}

impl Engine {
    pub(super) fn on_diff(
        &mut self,
        id: LinkId,
        space: SpaceId,
        tag: DomainTag,
        prefix: Option<&Prefix>,
        key: IdKey,
        mine: Vec<u64>,
        theirs: BTreeSet<u64>,
    ) {
        let Some(prefix) = prefix else {
            let wanted = mine.into_iter().collect();
            self.ship_facts_by_id(id, space, &key, &wanted);
            if !theirs.is_empty() {
                self.send_want(id, space, tag, &key, Some(theirs), BTreeSet::new());
            }
            return;
        };
        let documents = self.find(space, prefix, &key, mine.into_iter().collect());
        self.resolve(id, space, tag, true, key, theirs, documents);
    }

    /// The entries with these ids, looked for from the most recent arrival on: that is where differences are.
    fn find(&self, space: SpaceId, prefix: &Prefix, key: &IdKey, mut ids: BTreeSet<u64>) -> Vec<(u64, Entry)> {
        let mut found = Vec::new();
        let Some(state) = self.spaces.get(&space) else { return found };
        for entry in state.index.newest_first().filter(|e| prefix.covers(&e.path)) {
            if ids.is_empty() {
                break;
            }
            for item in entry.items() {
                let item_id = key.item_id(&item);
                if ids.remove(&item_id) {
                    found.push((item_id, entry.clone()));
                }
            }
        }
        found
    }

    /// Begins matching `documents` of ours with the ids in `others`.
    fn resolve(
        &mut self,
        id: LinkId,
        space: SpaceId,
        tag: DomainTag,
        requester: bool,
        key: IdKey,
        others: BTreeSet<u64>,
        documents: Vec<(u64, Entry)>,
    ) {
        let mut resolution =
            Resolution { requester, key, others, waiting: BTreeMap::new(), unmatched: BTreeMap::new() };
        let (mut loads, mut whole) = (Vec::new(), Vec::new());
        let link = self.links.get_mut(&id).expect("checked by the caller");
        for (item, entry) in documents {
            if entry.deleted() {
                link.out.ship(Shipment::of(space, &entry, What::Tombstones));
            } else if resolution.others.is_empty() && !requester {
                whole.push(entry);
            } else if entry.chunks <= 1 || resolution.others.is_empty() {
                // A single change has no earlier state that the other side could be in.
                resolution.unmatched.insert(item, entry.id);
            } else {
                resolution.waiting.insert(entry.id, item);
                loads.push(entry);
            }
        }
        let run = link.spaces.get_mut(&space).expect("checked by the caller").runs.entry(tag).or_default();
        run.resolution = Some(resolution);
        whole.iter().for_each(|entry| self.ship_whole(id, space, entry));
        for entry in loads {
            self.await_rows(space, &entry.path, entry.generation, entry.id, LoadWait::Resolve(id));
        }
        self.finish_resolution(id, space, tag);
    }

    /// A document's log is there (or cannot be had): match it.
    pub(super) fn on_resolvable(&mut self, id: LinkId, document: DocumentId) {
        let Some(working) = self.documents.get(&document) else { return };
        let (space, log) = (working.space, working.log.as_ref());
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get_mut(&space) else { return };
        let mut touched = Vec::new();
        for (tag, run) in &mut common.runs {
            let Some(resolution) = &mut run.resolution else { continue };
            let Some(item) = resolution.waiting.remove(&document) else { continue };
            touched.push(*tag);
            let key = &resolution.key;
            let others = &mut resolution.others;
            let earlier = log.and_then(|log| {
                log.heads_history().find_map(|(arrival, heads)| {
                    let id = key.item_id(&Item::document(&document, &heads));
                    others.remove(&id).then_some(arrival)
                })
            });
            let entry = self.spaces.get(&space).and_then(|s| s.index.by_id(&document));
            match (earlier, entry) {
                (Some(arrival), Some(entry)) => link.out.ship(Shipment::of(space, entry, What::From(arrival + 1))),
                _ => {
                    resolution.unmatched.insert(item, document);
                }
            }
        }
        for tag in touched {
            self.finish_resolution(id, space, tag);
        }
        self.busy_links.insert(id);
    }

    fn finish_resolution(&mut self, id: LinkId, space: SpaceId, tag: DomainTag) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        let Some(run) = common.runs.get_mut(&tag) else { return };
        if run.resolution.as_ref().is_none_or(|r| !r.waiting.is_empty()) {
            return;
        }
        let resolution = run.resolution.take().expect("looked at above");
        if resolution.requester {
            let Resolution { key, others, unmatched, .. } = resolution;
            if others.is_empty() {
                // Nothing of theirs is unknown, so what matched nothing is new to them.
                self.ship_documents(id, space, unmatched.into_values());
                return;
            }
            let mine = unmatched.keys().copied().collect();
            run.unmatched = unmatched;
            self.send_want(id, space, tag, &key, Some(others), mine);
        } else {
            let space_tag = common.tag;
            let unmatched: Vec<DocumentId> = resolution.unmatched.into_values().collect();
            self.send_heads(id, space, &unmatched, true);
            let link = self.links.get_mut(&id).expect("checked by the caller");
            let ids: Vec<u64> = resolution.others.into_iter().collect();
            for ids in ids.chunks(MAX_IDS) {
                link.out.control(Message::Unmatched { space: space_tag, domain: tag, ids: ids.to_vec() });
            }
            let marker = Message::Shipped { space: space_tag, domain: tag };
            link.out.ship(Shipment::marker(space, marker));
        }
        self.busy_links.insert(id);
    }

    fn ship_documents(&mut self, id: LinkId, space: SpaceId, documents: impl Iterator<Item = DocumentId>) {
        for document in documents {
            let Some(state) = self.spaces.get(&space) else { return };
            if let Some(entry) = state.index.by_id(&document).cloned() {
                self.ship_whole(id, space, &entry);
            }
        }
        self.busy_links.insert(id);
    }

    /// `theirs`: `None` asks for everything.
    pub(super) fn send_want(
        &mut self,
        id: LinkId,
        space: SpaceId,
        tag: DomainTag,
        key: &IdKey,
        theirs: Option<BTreeSet<u64>>,
        mine: BTreeSet<u64>,
    ) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.runs.entry(tag).or_default().shipping = true;
        let mut theirs: VecDeque<u64> = theirs.map(Vec::from_iter).unwrap_or_default().into();
        let mut mine: VecDeque<u64> = Vec::from_iter(mine).into();
        link.sync.count_trip();
        loop {
            let take = |ids: &mut VecDeque<u64>| ids.drain(..ids.len().min(MAX_IDS / 2)).collect::<Vec<_>>();
            let (some_theirs, some_mine) = (take(&mut theirs), take(&mut mine));
            let last = theirs.is_empty() && mine.is_empty();
            link.out.control(Message::Want {
                space: common.tag,
                domain: tag,
                theirs: some_theirs,
                mine: some_mine,
                key: key.name(),
                last,
            });
            if last {
                break;
            }
        }
        self.busy_links.insert(id);
    }

    pub(super) fn on_want(
        &mut self,
        id: LinkId,
        space: SpaceId,
        tag: DomainTag,
        theirs: Vec<u64>,
        mine: Vec<u64>,
        key: crate::reconcile::KeyName,
        last: bool,
    ) -> Handled {
        let Some(prefix) = self.prefix_of(id, &space, tag) else { return Ok(()) };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.pushing = true;
        let space_tag = common.tag;
        let run = common.runs.entry(tag).or_default();
        let gathered = run.wanted.get_or_insert_with(|| (IdKey::new(&space, key), Vec::new(), BTreeSet::new()));
        gathered.1.extend(theirs);
        gathered.2.extend(mine);
        if gathered.1.len() + gathered.2.len() > 2 * crate::reconcile::session::MAX_DIFFERENCES {
            return Err(protocol("more ids wanted than a difference may have"));
        }
        if !last {
            return Ok(());
        }
        let (key, theirs, mine) = run.wanted.take().expect("gathered above");
        let everything = theirs.is_empty() && mine.is_empty();
        match (&prefix, everything) {
            (None, true) => self.ship_facts(id, space, None),
            (None, false) => self.ship_facts_by_id(id, space, &key, &theirs.into_iter().collect()),
            (Some(prefix), true) => self.ship_all(id, space, Some(prefix)),
            (Some(prefix), false) => {
                let documents = self.find(space, prefix, &key, theirs.into_iter().collect());
                self.resolve(id, space, tag, false, key, mine, documents);
                return Ok(());
            }
        }
        let marker = Message::Shipped { space: space_tag, domain: tag };
        self.links.get_mut(&id).expect("checked by the caller").out.ship(Shipment::marker(space, marker));
        Ok(())
    }

    pub(super) fn on_unmatched(&mut self, id: LinkId, space: SpaceId, tag: DomainTag, ids: &[u64]) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let Some(run) = link.spaces.get_mut(&space).and_then(|s| s.runs.get_mut(&tag)) else { return };
        let documents: Vec<DocumentId> = ids.iter().filter_map(|i| run.unmatched.remove(i)).collect();
        // What the peer has in a state unknown here, it has announced by heads just before; the rest is new to it.
        self.ship_documents(id, space, documents.into_iter());
    }

    pub(super) fn on_shipped(&mut self, id: LinkId, space: SpaceId, tag: DomainTag) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if let Some(run) = link.spaces.get_mut(&space).and_then(|s| s.runs.get_mut(&tag)) {
            run.shipping = false;
            run.unmatched.clear();
        }
        link.sync.check_now();
    }

    /// Tells heads of documents: as an offer (`Heads`), or to be brought up to date (`FetchSince`).
    ///
    /// Where a log is at hand, some older changes go with them: a document that is edited on both sides has heads that
    /// the other side has never seen, and heads alone would have it shipped from its beginning.
    pub(super) fn send_heads(&mut self, id: LinkId, space: SpaceId, documents: &[DocumentId], offer: bool) {
        let Some(state) = self.spaces.get(&space) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space) else { return };
        let heads_of = |d: &DocumentId| {
            let entry = state.index.by_id(d)?;
            let mut heads = entry.heads.to_vec();
            heads.extend(self.documents.get(d).and_then(|w| w.log.as_ref()).into_iter().flat_map(Log::milestones));
            heads.sort_unstable();
            heads.dedup();
            Some(DocumentHeads { path: entry.path.clone(), generation: entry.generation, heads })
        };
        let heads: Vec<DocumentHeads> = documents.iter().filter_map(heads_of).collect();
        for documents in super::ship::pack(heads, |h| h.path.as_str().len() + 8 + 32 * h.heads.len(), MAX_DOCUMENTS) {
            let space = common.tag;
            link.out.control(if offer {
                Message::Heads { space, documents }
            } else {
                Message::FetchSince { space, documents }
            });
        }
        self.busy_links.insert(id);
    }

    /// The peer's heads of documents: ship what it lacks, and, for an offer, ask for what is missing here.
    pub(super) fn on_heads(&mut self, id: LinkId, space: SpaceId, documents: Vec<DocumentHeads>, offer: bool) {
        for theirs in documents {
            let document = DocumentId::derive(&space, &theirs.path, theirs.generation);
            let link = self.links.get_mut(&id).expect("checked by the caller");
            let common = link.spaces.get_mut(&space).expect("checked by the caller");
            if !super::space::covered(&common.domains, &theirs.path) {
                continue;
            }
            for run in common.runs.values_mut() {
                run.unmatched.retain(|_, d| *d != document);
            }
            let entry = self.spaces.get(&space).and_then(|s| s.index.by_id(&document)).cloned();
            match entry {
                Some(entry) if entry.deleted() => link.out.ship(Shipment::of(space, &entry, What::Tombstones)),
                Some(entry) => {
                    let wait = LoadWait::Compare { link: id, heads: theirs.heads, offer };
                    self.await_rows(space, &entry.path, entry.generation, document, wait);
                }
                None if offer => {
                    let space = common.tag;
                    let nothing = DocumentHeads { heads: Vec::new(), ..theirs };
                    link.out.control(Message::FetchSince { space, documents: vec![nothing] });
                }
                None => {}
            }
        }
    }

    /// A document's log is there: compare it with the peer's heads.
    pub(super) fn on_comparable(&mut self, id: LinkId, document: DocumentId, theirs: &[ChangeHash], offer: bool) {
        let Some(working) = self.documents.get(&document) else { return };
        let (space, Some(log)) = (working.space, working.log.as_ref()) else { return };
        let Some(entry) = self.spaces.get(&space).and_then(|s| s.index.by_id(&document)).cloned() else { return };
        let lacks_some = theirs.iter().any(|h| !log.contains(h));
        let what = What::of_rows(log, log.missing(theirs));
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(what) = what {
            link.out.ship(Shipment::of(space, &entry, what));
        }
        if offer && lacks_some {
            self.send_heads(id, space, &[document], false);
        }
        self.busy_links.insert(id);
    }
}
