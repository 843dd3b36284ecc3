//! Rounds of reconciliation on a link.
//!
//! The link's initiator drives. It asks for the peer's root over all domains; equal roots end the round at about 60 bytes.
//! Otherwise, cheapest first: L0 ships what has arrived since each side's cursor into the other's arrival log; then a
//! session a domain finds the differing items (L1, L2), the difference is resolved to documents, and what is missing on
//! either side is shipped. After each layer, once nothing is on its way, the roots are compared again.
//!
//! **Resolving.** An updated document shows as two ids: its new heads on one side, its old heads on the other. Whoever has
//! the newer state finds the other's id among the heads that the document once had (the log replays them), and so knows
//! exactly what to ship without exchanging heads. Only what matches nothing (a document edited on both sides) costs an
//! exchange of heads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::document::LoadWait;
use super::index::Entry;
use super::keys;
use super::link::protocol;
use super::ship::{Shipment, What};
use super::space::{Space, domain_tag, fact_item};
use super::{CommandError, Engine, Event, Phase, Reply, SyncStats};
use crate::document::Log;
use crate::id::{ChangeHash, DocumentId, FactHash, Prefix, SpaceId};
use crate::io::{CloseReason, LinkId, Table, WriteOp};
use crate::reconcile::message::Message as Step;
use crate::reconcile::riblt::PrefixCache;
use crate::reconcile::session::{ItemSource, Outcome, Requester, Responder};
use crate::reconcile::{IdKey, Item, Root, Sketch};
use crate::time::Timestamp;
use crate::trust::{Fact, Insert};
use crate::wire::v1::{DocumentHeads, DomainTag, FACTS_DOMAIN, MAX_DOCUMENTS, MAX_IDS, Message};
use crate::wire::{Codec, Writer};

/// Rounds without reaching equal roots after which a link waits for its next period.
const MAX_ATTEMPTS: u32 = 12;
/// Pause before the roots are compared again while changes are being pushed, which makes them differ for a moment.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(40);
/// Facts that are sent whole when interests show that the facts differ; more are reconciled.
const FEW_FACTS: usize = 64;
/// Cursors that a store remembers, the least recently used beyond it are forgotten and cost a session.
const MAX_CURSORS: usize = 1_024;
/// How long an announced change may take before it is asked for.
const GRAFT_AFTER: std::time::Duration = std::time::Duration::from_millis(150);
/// Most announced documents that are waited for on a link.
const MAX_ANNOUNCED: usize = 4_096;

/// Where a link stands with its rounds.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// Roots were equal when last compared, and nothing differs since as far as we know.
    pub(super) in_step: bool,
    /// Everything of ours up to this arrival number was at the peer when roots were last equal.
    pub(super) in_step_arrival: u64,
    pub(super) round_trips: u64,
    /// When to compare roots next; `None`: at once when settled.
    next_check: Option<Timestamp>,
    /// An answer to our roots is on its way.
    asked: bool,
    round: Option<Round>,
    serial: u8,
}

/// A difference that is being dealt with.
#[derive(Debug)]
struct Round {
    since: Timestamp,
    sent: u64,
    received: u64,
    trips: u64,
    attempts: u32,
    /// The last arrival number when roots were compared.
    arrival: u64,
    cursors_tried: bool,
    /// Cursors whose shipment has not ended.
    cursors: BTreeSet<SpaceId>,
}

impl Sync {
    /// The peer will not answer what it was asked about a space that it refuses.
    pub(super) fn forget_question(&mut self) {
        self.asked = false;
        self.unsure();
    }

    /// Roots may differ now: compare them as soon as nothing is on its way.
    pub(super) fn unsure(&mut self) {
        self.in_step = false;
        self.next_check = None;
    }
}

/// What a domain is going through.
#[derive(Debug, Default)]
pub(super) struct DomainRun {
    requester: Option<Requester>,
    responder: Option<Responder>,
    /// Our side of a difference that is being resolved.
    resolution: Option<Resolution>,
    /// `Want`s of the peer that gather until the last one.
    wanted: Option<(IdKey, Vec<u64>, BTreeSet<u64>)>,
    /// Our items that matched nothing; the peer says which of them meant nothing to it.
    unmatched: BTreeMap<u64, DocumentId>,
    /// The peer's shipment has not ended.
    shipping: bool,
}

impl DomainRun {
    fn idle(&self) -> bool {
        self.requester.is_none() && self.resolution.is_none() && !self.shipping
    }
}

/// Matching our documents with the ids that the other side has.
#[derive(Debug)]
struct Resolution {
    requester: bool,
    key: IdKey,
    /// Ids that the other side has and this side has not.
    others: BTreeSet<u64>,
    /// Our documents with their ids, waiting for their logs.
    waiting: BTreeMap<DocumentId, u64>,
    /// Our documents in whose history no id of the other side occurs.
    unmatched: BTreeMap<u64, DocumentId>,
}

/// A domain's items as sessions read them.
struct DomainItems<'a> {
    space: &'a Space,
    prefix: Option<&'a Prefix>,
}

impl ItemSource for DomainItems<'_> {
    fn root(&self) -> Root {
        self.summary().root()
    }
    fn count(&self) -> u64 {
        self.summary().count()
    }
    fn sketch(&self) -> &Sketch {
        self.summary().sketch()
    }
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64)) {
        self.for_each_item(|_, item| visit(key.item_id(item)));
    }
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64)) {
        self.for_each_item(|path, item| visit(path, key.item_id(item)));
    }
    fn cached_prefix(&self, key: &IdKey) -> Option<&PrefixCache> {
        self.summary().prefix().filter(|_| key.is_default())
    }
}

impl DomainItems<'_> {
    fn summary(&self) -> &crate::reconcile::Summary {
        match self.prefix {
            None => &self.space.facts.summary,
            Some(prefix) => &self.space.domains[prefix].summary,
        }
    }

    fn for_each_item(&self, mut visit: impl FnMut(&str, &Item)) {
        match self.prefix {
            None => self.space.roster.hashes().for_each(|h| visit("", &fact_item(h))),
            Some(prefix) => {
                for entry in self.space.index.under(prefix, None) {
                    entry.items().iter().for_each(|item| visit(entry.path.as_str(), item));
                }
            }
        }
    }
}

type Handled = Result<(), CloseReason>;

impl Engine {
    /// The last arrival number that is durable.
    fn durable_arrival(&self) -> u64 {
        self.spaces.values().map(|s| s.index.last_arrival()).max().unwrap_or(0)
    }

    /// One root over all domains of a link.
    fn link_root(&mut self, id: LinkId) -> Option<Root> {
        let link = self.links.get(&id)?;
        let ready = link.spaces.iter().filter(|(_, s)| s.wanted.is_some() && s.device.is_some());
        let parts: Vec<(SpaceId, Vec<Prefix>)> = ready.map(|(id, s)| (*id, s.domains.clone())).collect();
        let mut roots = Vec::new();
        for (space, domains) in parts {
            let state = self.spaces.get_mut(&space)?;
            roots.push((FACTS_DOMAIN, state.facts.root()));
            for prefix in domains {
                roots.push((domain_tag(&prefix), state.domain(&prefix).root()));
            }
        }
        (!roots.is_empty()).then(|| Root::combined(roots.iter().map(|(tag, root)| (tag, root))))
    }

    /// Compares roots where that is due and nothing is on its way.
    pub(super) fn run_link_sync(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get(&id) else { return };
        let due = link.sync.next_check.is_none_or(|at| at <= now);
        let ready = link.spaces.values().any(|s| s.wanted.is_some());
        let busy = link.sync.asked
            || !link.settled()
            || link.sync.round.as_ref().is_some_and(|r| !r.cursors.is_empty())
            || link.spaces.values().any(|s| s.runs.values().any(|run| !run.idle()));
        if !ready || !due || busy || !link.initiator || self.storage.holds_back() {
            return;
        }
        let Some(root) = self.link_root(id) else { return };
        let arrival = self.durable_arrival();
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("looked up above");
        link.sync.asked = true;
        link.sync.next_check = Some(now + period);
        link.out.control(Message::Roots { ask: true, root: root.0, arrival });
    }

    pub(super) fn on_roots(&mut self, id: LinkId, ask: bool, root: [u8; 24], arrival: u64) -> Handled {
        let Some(own) = self.link_root(id) else { return Ok(()) };
        let own_arrival = self.durable_arrival();
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if ask {
            link.out.control(Message::Roots { ask: false, root: own.0, arrival: own_arrival });
        } else {
            link.sync.asked = false;
            link.sync.round_trips += 1;
            if let Some(round) = &mut link.sync.round {
                round.trips += 1;
            }
        }
        if own.0 == root {
            self.on_in_step(id, own_arrival, arrival);
        } else if self.links[&id].initiator {
            self.on_difference(id);
        } else {
            self.links.get_mut(&id).expect("checked by the caller").sync.in_step = false;
        }
        Ok(())
    }

    fn on_in_step(&mut self, id: LinkId, own_arrival: u64, peer_arrival: u64) {
        let now = self.now.mono;
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let was = std::mem::replace(&mut link.sync.in_step, true);
        link.sync.in_step_arrival = own_arrival;
        link.sync.next_check = Some(now + period);
        let round = link.sync.round.take();
        let epoch = link.hello.map(|h| h.epoch);
        let spaces: Vec<SpaceId> = link
            .spaces
            .iter_mut()
            .filter(|(_, s)| s.wanted.is_some())
            .map(|(id, s)| {
                s.pushing = true;
                *id
            })
            .collect();
        let stats = round.map(|r| SyncStats {
            bytes_sent: link.bytes_sent - r.sent,
            bytes_received: link.bytes_received - r.received,
            round_trips: u32::try_from(r.trips).unwrap_or(u32::MAX),
            micros: u64::try_from(now.since(r.since).as_micros()).unwrap_or(u64::MAX),
        });
        for space in spaces {
            if let Some(epoch) = epoch {
                self.remember_cursor(epoch, space, peer_arrival);
            }
            if !was || stats.is_some() {
                self.emit(Event::InStep { link: id, space, stats: stats.unwrap_or_default() });
            }
        }
        self.check_sync_waits();
    }

    fn remember_cursor(&mut self, epoch: u64, space: SpaceId, arrival: u64) {
        if self.cursors.get(&(epoch, space)) == Some(&arrival) {
            return;
        }
        if self.cursors.len() >= MAX_CURSORS && !self.cursors.contains_key(&(epoch, space)) {
            self.cursors.pop_first();
        }
        self.cursors.insert((epoch, space), arrival);
        let Some(number) = self.spaces.get(&space).map(|s| s.number) else { return };
        let mut w = Writer::new();
        w.varint(arrival);
        // Not worth a write of its own: it goes with the next one.
        self.pending.lazy_ops.insert(keys::cursor(epoch, number), w.finish());
    }

    /// The initiator learnt that roots differ.
    fn on_difference(&mut self, id: LinkId) {
        let now = self.now.mono;
        let arrival = self.durable_arrival();
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let settled = link.settled();
        link.sync.in_step = false;
        if !settled || link.spaces.values().any(|s| s.runs.values().any(|run| !run.idle())) {
            link.sync.next_check = Some(now + RECHECK);
            return;
        }
        let (sent, received) = (link.bytes_sent, link.bytes_received);
        let round = link.sync.round.get_or_insert_with(|| Round {
            since: now,
            sent,
            received,
            trips: 0,
            attempts: 0,
            arrival,
            cursors_tried: false,
            cursors: BTreeSet::new(),
        });
        // While changes keep arriving, unequal roots are no sign of a round that leads nowhere.
        if std::mem::replace(&mut round.arrival, arrival) != arrival {
            round.attempts = 0;
        }
        round.attempts += 1;
        if round.attempts > MAX_ATTEMPTS {
            link.sync.round = None;
            link.sync.next_check = Some(now + period);
            return;
        }
        link.sync.next_check = None;
        let first = !std::mem::replace(&mut round.cursors_tried, true);
        if !first || !self.start_cursors(id) {
            self.start_sessions(id);
        }
    }

    /// L0, where a cursor into the peer's log is known.
    fn start_cursors(&mut self, id: LinkId) -> bool {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let Some(epoch) = link.hello.map(|h| h.epoch) else { return false };
        let mut started = BTreeSet::new();
        for (space, common) in link.spaces.iter().filter(|(_, s)| s.wanted.is_some()) {
            let Some(arrival) = self.cursors.get(&(epoch, *space)) else { continue };
            link.out.control(Message::Cursor { space: common.tag, arrival: *arrival });
            started.insert(*space);
        }
        let any = !started.is_empty();
        if let Some(round) = &mut link.sync.round {
            round.cursors = started;
            round.trips += u64::from(any);
        }
        any
    }

    pub(super) fn on_cursor(&mut self, id: LinkId, space: SpaceId, arrival: u64) {
        self.ship_since(id, space, arrival);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let epoch = link.hello.map_or(0, |h| h.epoch);
        let mine = self.cursors.get(&(epoch, space)).copied();
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.pushing = true;
        let marker = Message::CursorReached { space: common.tag, mine };
        link.out.ship(Shipment::marker(space, marker));
    }

    pub(super) fn on_cursor_reached(&mut self, id: LinkId, space: SpaceId, mine: Option<u64>) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let expected = link.sync.round.as_mut().is_some_and(|r| r.cursors.remove(&space));
        if !expected {
            return;
        }
        link.sync.next_check = None;
        link.spaces.get_mut(&space).expect("checked by the caller").pushing = true;
        if let Some(arrival) = mine {
            self.ship_since(id, space, arrival);
        }
    }

    fn ship_since(&mut self, id: LinkId, space: SpaceId, arrival: u64) {
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let domains = &link.spaces[&space].domains;
        let mut packed = Vec::new();
        for entry in state.index.arrived_since(arrival).filter(|e| super::space::covered(domains, &e.path)) {
            if entry.packed.as_deref().is_some_and(|(_, last)| *last > arrival) {
                // When each change of a snapshot arrived is no longer known: heads tell what the peer lacks.
                packed.push(entry.id);
            } else {
                link.out.ship(Shipment::of(space, entry, What::From(arrival + 1)));
            }
        }
        self.send_heads(id, space, &packed, true);
    }

    /// L1: a session for every domain and the facts.
    fn start_sessions(&mut self, id: LinkId) {
        let link = self.links.get(&id).expect("checked by the caller");
        let domains: Vec<(SpaceId, Option<Prefix>)> = link
            .spaces
            .iter()
            .filter(|(_, s)| s.wanted.is_some())
            .flat_map(|(id, s)| std::iter::once((*id, None)).chain(s.domains.iter().map(|p| (*id, Some(p.clone())))))
            .collect();
        for (space, prefix) in domains {
            self.start_session(id, space, prefix.as_ref());
        }
    }

    fn start_session(&mut self, id: LinkId, space: SpaceId, prefix: Option<&Prefix>) {
        self.prepare_domain(space, prefix);
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        link.sync.serial = link.sync.serial.wrapping_add(1);
        if let Some(round) = &mut link.sync.round {
            round.trips += 1;
        }
        link.sync.round_trips += 1;
        let requester = Requester::new(space, link.sync.serial, &DomainItems { space: state, prefix });
        let tag = prefix.map_or(FACTS_DOMAIN, domain_tag);
        let common = link.spaces.get_mut(&space).expect("listed by the caller");
        let run = common.runs.entry(tag).or_default();
        run.requester = Some(requester);
        self.pump_run(id, space, tag);
    }

    /// Builds a domain's summary and, for large sets, its kept symbols.
    fn prepare_domain(&mut self, space: SpaceId, prefix: Option<&Prefix>) {
        let (Some(state), Some(prefix)) = (self.spaces.get_mut(&space), prefix) else { return };
        if !state.domain(prefix).summary.wants_prefix() {
            return;
        }
        let key = IdKey::default_of(&space);
        let mut cache = PrefixCache::new(key.clone());
        for entry in state.index.under(prefix, None) {
            entry.items().iter().for_each(|item| cache.add(key.item_id(item)));
        }
        state.domain(prefix).summary.keep_prefix(cache);
    }

    fn prefix_of(&self, id: LinkId, space: &SpaceId, tag: DomainTag) -> Option<Option<Prefix>> {
        if tag == FACTS_DOMAIN {
            return Some(None);
        }
        let common = self.links.get(&id)?.spaces.get(space)?;
        common.domains.iter().find(|p| domain_tag(p) == tag).map(|p| Some(p.clone()))
    }

    pub(super) fn on_reconcile(&mut self, id: LinkId, space: SpaceId, tag: DomainTag, body: &[u8]) -> Handled {
        let step = Step::from_bytes(body).map_err(|error| protocol(error.to_string()))?;
        // A domain that is none (any more): interests are on their way that say so.
        let Some(prefix) = self.prefix_of(id, &space, tag) else { return Ok(()) };
        self.prepare_domain(space, prefix.as_ref());
        let Some(state) = self.spaces.get(&space) else { return Ok(()) };
        let items = DomainItems { space: state, prefix: prefix.as_ref() };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let run = link.spaces.get_mut(&space).expect("checked by the caller").runs.entry(tag).or_default();
        let mut outcome = None;
        if step.is_for_responder() {
            let responder = run.responder.get_or_insert_with(|| Responder::new(space));
            responder.on_message(&items, step).map_err(|error| protocol(error.to_string()))?;
        } else if let Some(requester) = &mut run.requester {
            outcome = requester.on_message(&items, &mut self.rng, step).map_err(|error| protocol(error.to_string()))?;
            if outcome.is_none() {
                link.sync.round_trips += 1;
            }
        }
        self.pump_run(id, space, tag);
        if let Some(outcome) = outcome {
            let link = self.links.get_mut(&id).expect("checked by the caller");
            let common = link.spaces.get_mut(&space).expect("checked by the caller");
            common.runs.entry(tag).or_default().requester = None;
            self.on_outcome(id, space, tag, prefix.as_ref(), outcome);
        }
        Ok(())
    }

    /// Sends what a domain's sessions want to say.
    fn pump_run(&mut self, id: LinkId, space: SpaceId, tag: DomainTag) {
        let Some(prefix) = self.prefix_of(id, &space, tag) else { return };
        let Some(state) = self.spaces.get(&space) else { return };
        let items = DomainItems { space: state, prefix: prefix.as_ref() };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        let space_tag = common.tag;
        let Some(run) = common.runs.get_mut(&tag) else { return };
        let mut steps = Vec::new();
        if let Some(requester) = &mut run.requester {
            steps.extend(std::iter::from_fn(|| requester.poll()));
        }
        if let Some(responder) = &mut run.responder {
            steps.extend(std::iter::from_fn(|| responder.poll(&items)));
            if responder.is_idle() {
                run.responder = None;
            }
        }
        for step in steps {
            link.out.control(Message::Reconcile { space: space_tag, domain: tag, body: step.to_bytes() });
        }
        self.busy_links.insert(id);
    }

    fn on_outcome(&mut self, id: LinkId, space: SpaceId, tag: DomainTag, prefix: Option<&Prefix>, outcome: Outcome) {
        let key = IdKey::default_of(&space);
        match outcome {
            Outcome::Diff { key, diff, .. } => {
                let theirs = diff.only_theirs.iter().copied().collect();
                self.on_diff(id, space, tag, prefix, key, diff.only_mine, theirs);
            }
            Outcome::AllMine => self.ship_all(id, space, prefix),
            Outcome::AllTheirs => self.send_want(id, space, tag, &key, None, BTreeSet::new()),
            Outcome::Equal | Outcome::Unsettled => {}
        }
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if let Some(common) = link.spaces.get_mut(&space) {
            common.pushing = true;
        }
        link.sync.next_check = None;
    }

    fn ship_all(&mut self, id: LinkId, space: SpaceId, prefix: Option<&Prefix>) {
        let Some(prefix) = prefix else { return self.ship_facts(id, space, None) };
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        for entry in state.index.under(prefix, None).filter(|e| !e.items().is_empty()) {
            link.out.ship(Shipment::of(space, entry, What::From(0)));
        }
    }

    /// Sends facts: all of them, or those with these hashes.
    pub(super) fn ship_facts(&mut self, id: LinkId, space: SpaceId, only: Option<&BTreeSet<FactHash>>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let Some(common) = link.spaces.get(&space) else { return };
        let facts = state.roster.facts().filter(|f| only.is_none_or(|only| only.contains(&f.hash())));
        let facts: Vec<Vec<u8>> = facts.map(Codec::to_bytes).collect();
        link.out.facts(common.tag, facts);
        self.busy_links.insert(id);
    }

    fn on_diff(
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

    fn ship_facts_by_id(&mut self, id: LinkId, space: SpaceId, key: &IdKey, ids: &BTreeSet<u64>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let hashes = state.roster.hashes().filter(|h| ids.contains(&key.item_id(&fact_item(h))));
        let hashes: BTreeSet<FactHash> = hashes.copied().collect();
        self.ship_facts(id, space, Some(&hashes));
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
        let mut loads = Vec::new();
        let link = self.links.get_mut(&id).expect("checked by the caller");
        for (item, entry) in documents {
            if entry.deleted() {
                link.out.ship(Shipment::of(space, &entry, What::Tombstones));
            } else if resolution.others.is_empty() && !requester {
                link.out.ship(Shipment::of(space, &entry, What::From(0)));
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
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        for document in documents {
            if let Some(entry) = state.index.by_id(&document) {
                link.out.ship(Shipment::of(space, entry, What::From(0)));
            }
        }
        self.busy_links.insert(id);
    }

    /// `theirs`: `None` asks for everything.
    fn send_want(
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
        link.sync.round_trips += 1;
        if let Some(round) = &mut link.sync.round {
            round.trips += 1;
        }
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
        link.sync.next_check = None;
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

    /// The peer says what it replicates, and how its facts stand.
    pub(super) fn on_interests(
        &mut self,
        id: LinkId,
        space: SpaceId,
        prefixes: Vec<Prefix>,
        root: [u8; 24],
        facts: u64,
    ) {
        let Some(state) = self.spaces.get_mut(&space) else { return };
        let differ = state.facts.root().0 != root;
        let few = state.roster.len() <= FEW_FACTS;
        let _ = facts;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.wanted = Some(prefixes);
        link.sync.unsure();
        if differ && few {
            self.ship_facts(id, space, None);
        }
        self.refresh_domains(id, space);
    }

    pub(super) fn on_facts(
        &mut self,
        id: LinkId,
        space: SpaceId,
        number: u64,
        facts: &[Vec<u8>],
        bytes: usize,
    ) -> Handled {
        self.take_number(id, number, 1, bytes)?;
        let facts = facts.iter().filter_map(|f| Fact::from_bytes(f).ok()).collect();
        self.admit_facts(space, facts, Some(id));
        self.pending.resolved.push((id, number, true));
        Ok(())
    }

    /// Offers facts to a roster; what is admitted is stored with the next batch.
    pub(super) fn admit_facts(&mut self, space: SpaceId, facts: Vec<Fact>, source: Option<LinkId>) {
        let Some(state) = self.spaces.get_mut(&space) else { return };
        for fact in facts {
            if let Ok(Insert::Admitted(hashes)) = state.roster.insert(fact) {
                for hash in hashes {
                    let Some(fact) = state.roster.fact(&hash).cloned() else { continue };
                    self.pending.facts.push((space, fact, vec![hash], source));
                }
            }
        }
    }

    /// New facts are durable: pass them on, and see who may now read what.
    pub(super) fn on_facts_durable(&mut self, space: SpaceId, admitted: &[FactHash], sources: &BTreeSet<LinkId>) {
        let only: BTreeSet<FactHash> = admitted.iter().copied().collect();
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            let member = self.links[&id].spaces.get(&space).is_some_and(|s| s.device.is_some() && s.wanted.is_some());
            if member && !sources.contains(&id) {
                self.ship_facts(id, space, Some(&only));
            }
            self.refresh_domains(id, space);
            if let Some(link) = self.links.get_mut(&id).filter(|link| link.spaces.contains_key(&space)) {
                // What came ahead of its author's grant was refused, and rounds may have been spent on it in vain.
                link.sync.unsure();
                link.sync.round.iter_mut().for_each(|round| round.attempts = 0);
                self.busy_links.insert(id);
            }
        }
        self.emit(Event::MembersChanged { space });
    }

    /// Compares roots on every link as soon as nothing is on its way.
    pub(super) fn reconcile_all(&mut self) {
        for (id, link) in &mut self.links {
            link.sync.next_check = None;
            self.busy_links.insert(*id);
        }
    }

    pub(super) fn on_have(&mut self, id: LinkId, space: SpaceId, documents: Vec<(DocumentId, [u8; 8])>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let at = self.now.mono + GRAFT_AFTER;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        for (document, change) in documents {
            let known = state.index.by_id(&document).is_some_and(|e| has_head(e, &change));
            if !known && common.announced.len() < MAX_ANNOUNCED {
                common.announced.entry(document).or_insert((at, change));
            }
        }
    }

    /// Announced changes that did not come another way are asked for, eagerly from now on.
    fn graft_overdue(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        for (space, common) in &mut link.spaces {
            let Some(state) = self.spaces.get(space) else { continue };
            let due = common.announced.iter().filter(|(_, (at, _))| *at <= now);
            let due: Vec<(DocumentId, [u8; 8])> = due.map(|(d, (_, change))| (*d, *change)).collect();
            let mut wanted = Vec::new();
            for (document, change) in due {
                common.announced.remove(&document);
                if !state.index.by_id(&document).is_some_and(|e| e.deleted() || has_head(e, &change)) {
                    wanted.push(document);
                }
            }
            if !wanted.is_empty() {
                common.pruned = false;
                for documents in wanted.chunks(MAX_DOCUMENTS) {
                    let documents = documents.to_vec();
                    link.out.control(Message::Graft { space: common.tag, documents });
                }
                self.busy_links.insert(id);
            }
        }
    }

    pub(super) fn on_graft(&mut self, id: LinkId, space: SpaceId, documents: Vec<DocumentId>) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.lazy = false;
        let domains = common.domains.clone();
        let Some(state) = self.spaces.get(&space) else { return };
        let covered = |d: &DocumentId| state.index.by_id(d).is_some_and(|e| super::space::covered(&domains, &e.path));
        let documents: Vec<DocumentId> = documents.into_iter().filter(covered).collect();
        self.send_heads(id, space, &documents, true);
    }

    /// A push brought nothing new: another link is faster, so this one may announce instead.
    pub(super) fn on_duplicate(&mut self, id: LinkId, space: SpaceId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.duplicates += 1;
        let reconciling = link.sync.round.is_some();
        let Some(common) = link.spaces.get_mut(&space) else { return };
        if !common.pruned && !reconciling && common.pushing {
            common.pruned = true;
            link.out.control(Message::Prune { space: common.tag });
            self.busy_links.insert(id);
        }
    }

    /// Answers programs that wait for peers, where enough peers have stored what they wait for.
    pub(super) fn check_sync_waits(&mut self) {
        if self.sync_waits.is_empty() {
            return;
        }
        let mut done = Vec::new();
        self.sync_waits.retain(|wait| {
            let entry = self.spaces.get(&wait.space).and_then(|s| s.index.by_id(&wait.document));
            let has = |link: &super::link::Link| {
                let Some(common) = link.spaces.get(&wait.space) else { return false };
                let by_root = entry.is_some_and(|e| {
                    e.arrival <= link.sync.in_step_arrival && super::space::covered(&common.domains, &e.path)
                });
                let confirmed = link.confirmed.get(&wait.document);
                by_root || confirmed.is_some_and(|known| wait.heads.iter().all(|h| known.contains(h)))
            };
            let peers: BTreeSet<_> = self.links.values().filter(|l| has(l)).map(|l| l.peer).collect();
            let enough = peers.len() >= wait.peers;
            if enough {
                done.push(wait.request);
            }
            !enough
        });
        for request in done {
            self.reply(request, Ok::<Reply, CommandError>(Reply::Done));
        }
    }

    /// Documents with changes that no connected peer is known to have stored.
    pub(super) fn pending_documents(&self, space: &SpaceId) -> u64 {
        let stored = self.links.values().filter(|l| l.spaces.contains_key(space)).map(|l| l.sync.in_step_arrival).max();
        let Some(state) = self.spaces.get(space) else { return 0 };
        state.index.arrived_since(stored.unwrap_or(0)).filter(|e| e.exists()).count() as u64
    }

    pub(super) fn run_timers(&mut self) {
        if !matches!(self.phase, Phase::Open | Phase::Closing) {
            return;
        }
        self.retry_write();
        self.run_compaction();
        let now = self.now.mono;
        let timeout = self.config.handshake_timeout;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            let link = &self.links[&id];
            if link.hello.is_none() && now >= link.opened_at + timeout {
                self.close_link(id, CloseReason::Timeout);
                continue;
            }
            if link.timer().is_some_and(|at| at <= now) {
                self.busy_links.insert(id);
                self.graft_overdue(id);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let links = self.links.values().filter_map(|link| {
            let handshake = link.hello.is_none().then(|| link.opened_at + self.config.handshake_timeout);
            [link.timer(), handshake].into_iter().flatten().min()
        });
        links.chain(self.storage.retry_at()).chain(self.compaction_timer()).chain(self.soft_timer()).min()
    }

    /// Cursors that changed go with the next write.
    pub(super) fn take_lazy_ops(&mut self) -> Vec<WriteOp> {
        let lazy = std::mem::take(&mut self.pending.lazy_ops);
        lazy.into_iter().map(|(key, value)| WriteOp::Put(Table::Meta, key, value)).collect()
    }
}

impl super::link::Link {
    /// When the link wants to be looked at.
    fn timer(&self) -> Option<Timestamp> {
        let announced = self.spaces.values().flat_map(|s| s.announced.values().map(|(at, _)| *at));
        let check = self.sync.next_check.filter(|_| self.initiator && !self.sync.asked);
        announced.chain(check).chain(self.out.due()).min()
    }
}

fn has_head(entry: &Entry, change: &[u8; 8]) -> bool {
    entry.heads.iter().any(|h| h.0.starts_with(change))
}
