//! Rounds of reconciliation on a link.
//!
//! The link's initiator drives. It asks for the peer's root over all domains; equal roots end the round at about 60 bytes.
//! Otherwise, cheapest first: L0 ships what has arrived since each side's cursor into the other's arrival log; then a
//! session a domain finds the differing items (L1, L2), the difference is resolved to documents, and what is missing on
//! either side is shipped. After each layer, once nothing is on its way, the roots are compared again.

use std::collections::{BTreeMap, BTreeSet};

use super::keys;
use super::link::protocol;
use super::resolve::Resolution;
use super::ship::{Shipment, What};
use super::space::{Space, domain_tag, fact_item};
use super::{Engine, Event, SyncStats};
use crate::id::{DocumentId, Prefix, SpaceId};
use crate::io::{CloseReason, LinkId, Table, WriteOp};
use crate::reconcile::message::Message as Step;
use crate::reconcile::riblt::PrefixCache;
use crate::reconcile::session::{ItemSource, Outcome, Requester, Responder};
use crate::reconcile::{IdKey, Item, Root, Sketch};
use crate::time::Timestamp;
use crate::topic::Rate;
use crate::wire::v1::{DomainTag, FACTS_DOMAIN, Message, RootsKind};
use crate::wire::{Codec, Writer};

/// What a peer may make this one look at by beginning sessions: an item is about 200 ns, so that at worst a fifth of a core
/// goes into it. 16 sessions over a million items at once, and one a second.
pub(super) const VISITS: Rate = Rate { per_second: 1_000_000, burst: 16_000_000 };

/// What a session costs beside its items.
const VISITS_A_SESSION: u64 = 1_000;

/// Most sessions over an empty set that a peer may begin at once.
#[cfg(test)]
pub(crate) const SESSIONS_AT_ONCE: u64 = VISITS.burst / VISITS_A_SESSION;

/// Rounds without reaching equal roots after which a link waits for its next period.
const MAX_ATTEMPTS: u32 = 12;
/// Pause before the roots are compared again while changes are being pushed, which makes them differ for a moment.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(40);
/// Pause before the roots are compared because of something that will probably come by itself.
const LATER: std::time::Duration = std::time::Duration::from_millis(500);
/// How long roots may differ while either side is busy, before a difference is looked for all the same. What pushes bring
/// mends itself within a second; this is for what lies elsewhere, and costs two busy peers part of what is under way.
const BUSY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// How long a peer that is asked something may say nothing at all before the round is begun anew. Whatever it owes then is
/// not going to come: it has forgotten, or it lies.
const STALLED: std::time::Duration = std::time::Duration::from_secs(20);
/// Cursors that a store remembers, the least recently used beyond it are forgotten and cost a session.
const MAX_CURSORS: usize = 1_024;

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
    /// The peer's roots, to be compared with ours once what it sent before them is durable.
    deferred: Option<DeferredRoots>,
    /// Something that the peer lacks was not pushed: whoever accepted the link tells the initiator by asking for roots.
    gap: bool,
    /// When the peer last said anything.
    heard: Timestamp,
    /// Since the roots were last equal everything went the straight way: sent, taken, acknowledged.
    clean: bool,
    /// Since when the roots have differed while one of the two sides was busy.
    busy_since: Option<Timestamp>,
    round: Option<Round>,
    /// Spaces whose cursor went ahead of the roots, and whose shipment has not ended.
    early: BTreeSet<SpaceId>,
    serial: u8,
}

/// Roots of a peer that came right behind its data.
#[derive(Debug, Clone, Copy)]
struct DeferredRoots {
    root: [u8; 24],
    arrival: u64,
    /// The last numbered message ahead of them.
    behind: u64,
}

/// A difference that is being dealt with.
#[derive(Debug)]
pub(super) struct Round {
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

impl Round {
    /// A round that began with cursors, before anybody knew of a difference. `moved`: bytes sent and received so far.
    pub(super) fn behind_cursors(now: Timestamp, moved: (u64, u64), arrival: u64) -> Self {
        let (sent, received) = moved;
        let cursors = BTreeSet::new();
        Self { since: now, sent, received, trips: 0, attempts: 0, arrival, cursors_tried: true, cursors }
    }
}

impl Sync {
    /// What lies behind a cursor is on its way.
    pub(super) fn expect_reached(&mut self, space: SpaceId) {
        self.early.insert(space);
    }

    /// A round begins, unless one is under way.
    pub(super) fn begin_round(&mut self, round: Round) {
        self.round.get_or_insert(round);
    }

    /// The peer will not answer what it was asked about a space that it refuses.
    pub(super) fn forget_question(&mut self, space: SpaceId) {
        self.early.remove(&space);
        self.asked = false;
        self.unsure();
    }

    /// Roots may differ now: compare them as soon as nothing is on its way.
    pub(super) fn unsure(&mut self) {
        self.in_step = false;
        self.clean = false;
        self.next_check = None;
    }

    /// Something may be missing that is on its way: compare roots a little later.
    pub(super) fn look_later(&mut self, now: Timestamp) {
        self.in_step = false;
        self.clean = false;
        self.gap = true;
        let at = now + LATER;
        self.next_check = Some(self.next_check.map_or(at, |next| next.min(at)));
    }

    /// What the peer's log up to an arrival number brings is here: a cursor may begin there. Not after anything was
    /// refused or waited since the roots were last equal.
    pub(super) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Something was not sent that the peer may have from others: the roots tell, in their own time.
    pub(super) fn fell_behind(&mut self) {
        self.clean = false;
    }

    /// Something is missing on one of the two sides that nothing on its way will bring.
    pub(super) fn gap(&mut self) {
        self.gap = true;
        self.unsure();
    }

    /// Another round trip was spent.
    pub(super) fn count_trip(&mut self) {
        self.round_trips += 1;
        if let Some(round) = &mut self.round {
            round.trips += 1;
        }
    }

    /// The link's members or domains changed: rounds that were spent before do not count.
    pub(super) fn start_over(&mut self) {
        self.unsure();
        self.round.iter_mut().for_each(|round| round.attempts = 0);
    }

    /// The peer said something.
    pub(super) fn on_heard(&mut self, now: Timestamp) {
        self.heard = now;
    }

    /// When the roots want to be compared, and when a silent peer is to be given up on.
    pub(super) fn due(&self, initiator: bool) -> impl Iterator<Item = Timestamp> {
        let patience = (self.asked || self.round.is_some()).then(|| self.heard + STALLED);
        let check = self.next_check.filter(|_| !self.asked && (initiator || self.gap));
        patience.into_iter().chain(check)
    }

    /// Compare roots as soon as nothing is on its way.
    pub(super) fn check_now(&mut self) {
        self.next_check = None;
    }
}

/// What a domain is going through.
#[derive(Debug, Default)]
pub(super) struct DomainRun {
    requester: Option<Requester>,
    responder: Option<Responder>,
    /// Our side of a difference that is being resolved.
    pub(super) resolution: Option<Resolution>,
    /// `Want`s of the peer that gather until the last one.
    pub(super) wanted: Option<(IdKey, Vec<u64>, BTreeSet<u64>)>,
    /// Our items that matched nothing; the peer says which of them meant nothing to it.
    pub(super) unmatched: BTreeMap<u64, DocumentId>,
    /// The peer's shipment has not ended.
    pub(super) shipping: bool,
}

impl DomainRun {
    fn idle(&self) -> bool {
        self.requester.is_none() && self.resolution.is_none() && !self.shipping
    }
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

pub(super) type Handled = Result<(), CloseReason>;

impl Engine {
    /// The last arrival number that is durable.
    pub(super) fn durable_arrival(&self) -> u64 {
        self.spaces.values().map(|s| s.index.last_arrival()).max().unwrap_or(0)
    }

    /// One root over all domains of a link.
    pub(super) fn link_root(&mut self, id: LinkId) -> Option<Root> {
        self.tell_vouch(id);
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
        self.give_up_stalled(id);
        let Some(link) = self.links.get(&id) else { return };
        let due = link.sync.next_check.is_none_or(|at| at <= now) && (link.initiator || link.sync.gap);
        let ready = link.spaces.values().any(|s| s.wanted.is_some());
        if !ready || !due || link.sync.asked || link.busy() || self.storage.is_behind(&id) || self.storage.holds_back()
        {
            return;
        }
        self.send_roots(id);
    }

    /// Asks for the peer's roots right behind the last of what a round ships, before it is acknowledged: the peer answers
    /// once that is durable, so the round ends a round trip earlier. Whatever else comes in between makes the answer differ,
    /// and then the roots are compared again when both have settled.
    pub(super) fn ask_behind_data(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get(&id) else { return };
        let due = link.initiator && link.sync.next_check.is_none_or(|at| at <= now);
        // What lies behind an early cursor would make the answer differ.
        let expecting = link.in_round() || !link.sync.early.is_empty();
        let last = link.incoming.is_empty() && link.out.awaits_acknowledgement() && !expecting;
        if due && last && link.sync.round.is_some() && !link.sync.asked {
            self.send_roots(id);
        }
    }

    fn send_roots(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(root) = self.link_root(id) else { return };
        let arrival = self.durable_arrival();
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("looked up above");
        (link.sync.asked, link.sync.gap) = (true, false);
        link.sync.heard = now;
        link.sync.next_check = Some(now + period);
        link.out.control(Message::Roots { kind: RootsKind::Ask, root: root.0, arrival });
    }

    /// Forgets what a peer was asked that has said nothing for too long, and begins anew.
    fn give_up_stalled(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let waiting = link.sync.asked || link.sync.round.is_some();
        if waiting && link.sync.heard + STALLED <= now {
            link.spaces.values_mut().for_each(|space| space.runs.clear());
            link.sync.round = None;
            link.sync.early.clear();
            link.sync.asked = false;
            link.sync.unsure();
        }
    }

    pub(super) fn on_roots(&mut self, id: LinkId, kind: RootsKind, root: [u8; 24], arrival: u64) -> Handled {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if kind == RootsKind::Ask
            && let Some((behind, _)) = link.incoming.last_key_value()
        {
            link.sync.deferred = Some(DeferredRoots { root, arrival, behind: *behind });
            return Ok(());
        }
        self.compare_roots(id, kind, root, arrival);
        Ok(())
    }

    /// Answers roots that waited for the data ahead of them.
    pub(super) fn answer_deferred(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let over = |roots: &mut DeferredRoots| link.incoming.keys().next().is_none_or(|first| *first > roots.behind);
        if let Some(DeferredRoots { root, arrival, .. }) = link.sync.deferred.take_if(over) {
            self.compare_roots(id, RootsKind::Ask, root, arrival);
        }
    }

    fn compare_roots(&mut self, id: LinkId, kind: RootsKind, root: [u8; 24], arrival: u64) {
        let Some(own) = self.link_root(id) else { return };
        let own_arrival = self.durable_arrival();
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if kind == RootsKind::Ask {
            let settled = link.settled() && !self.storage.is_behind(&id);
            let kind = if settled { RootsKind::Answer } else { RootsKind::BusyAnswer };
            link.out.control(Message::Roots { kind, root: own.0, arrival: own_arrival });
        } else {
            link.sync.asked = false;
            link.sync.count_trip();
        }
        if own.0 == root {
            self.on_in_step(id, own_arrival, arrival);
        } else if self.links[&id].initiator {
            self.on_difference(id, kind == RootsKind::BusyAnswer);
        } else {
            self.links.get_mut(&id).expect("checked by the caller").sync.in_step = false;
        }
    }

    fn on_in_step(&mut self, id: LinkId, own_arrival: u64, peer_arrival: u64) {
        let now = self.now.mono;
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        link.sync.busy_since = None;
        link.sync.clean = true;
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
        self.on_equal_roots(id, own_arrival, peer_arrival);
    }

    /// The peer says that its log up to a number was sent here, or announced. If nothing of it is missing, the next link
    /// begins there, however long the two have been too busy to stand in step.
    pub(super) fn on_reached(&mut self, id: LinkId, space: SpaceId, arrival: u64) {
        let link = self.links.get(&id).expect("checked by the caller");
        let complete = link.sync.clean && link.spaces.get(&space).is_some_and(|common| common.tree.is_complete());
        if let Some(epoch) = link.hello.map(|hello| hello.epoch).filter(|_| complete)
            && self.cursors.get(&(epoch, space)).is_none_or(|known| *known < arrival)
        {
            self.remember_cursor(epoch, space, arrival);
        }
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
    fn on_difference(&mut self, id: LinkId, peer_busy: bool) {
        let now = self.now.mono;
        let arrival = self.durable_arrival();
        let period = self.jittered(self.config.reconcile_period);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let peer_busy = peer_busy || !link.sync.early.is_empty();
        link.sync.in_step = false;
        if link.busy() || self.storage.is_behind(&id) {
            link.sync.next_check = Some(now + RECHECK);
            return;
        }
        // What the peer is about to send is no difference to be looked for, unless it is always about to.
        let since = *link.sync.busy_since.get_or_insert(now);
        if peer_busy && since + BUSY_PATIENCE > now {
            link.sync.next_check = Some(now + RECHECK);
            return;
        }
        link.sync.busy_since = None;
        let (sent, received) = (link.bytes_sent, link.bytes_received);
        let round = link.sync.round.get_or_insert_with(|| Round {
            since: now,
            sent,
            received,
            trips: 0,
            attempts: 0,
            arrival,
            // A cursor is of when roots were last equal: after minutes of steady pushing it would ship all of that again.
            cursors_tried: peer_busy,
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
        let first = !std::mem::replace(&mut round.cursors_tried, true);
        link.sync.check_now();
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
        common.cursor_served = true;
        let marker = Message::CursorReached { space: common.tag, mine };
        if link.out.is_drained() {
            // There is nothing that it would have to wait for.
            link.out.control(marker);
        } else {
            link.out.ship(Shipment::marker(space, marker));
        }
    }

    pub(super) fn on_cursor_reached(&mut self, id: LinkId, space: SpaceId, mine: Option<u64>) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let expected = link.sync.round.as_mut().is_some_and(|r| r.cursors.remove(&space));
        let early = link.sync.early.remove(&space);
        if !expected && !early {
            return;
        }
        link.sync.check_now();
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.pushing = true;
        let wanted = expected || !common.cursor_served;
        if let Some(arrival) = mine.filter(|_| wanted) {
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
        link.sync.count_trip();
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

    pub(super) fn prefix_of(&self, id: LinkId, space: &SpaceId, tag: DomainTag) -> Option<Option<Prefix>> {
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
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        let mut outcome = None;
        if let Step::Root { serial, .. } = step
            && !crate::config::lacks!(self.config, Sessions)
            && link.visits.take(self.now.mono, (items.count() + VISITS_A_SESSION).min(VISITS.burst)).is_err()
        {
            // Its set has changed, as far as the peer can tell: an honest one tries a few times and then later.
            let body = Step::Stale { serial }.to_bytes();
            link.out.control(Message::Reconcile { space: common.tag, domain: tag, body });
            self.busy_links.insert(id);
            return Ok(());
        }
        if step.is_for_responder() {
            // What is durable now is in the symbols; what comes later is pushed.
            common.pushing = true;
            let run = common.runs.entry(tag).or_default();
            let responder = run.responder.get_or_insert_with(|| Responder::new(space));
            responder.on_message(&items, step).map_err(|error| protocol(error.to_string()))?;
        } else if let Some(requester) = common.runs.entry(tag).or_default().requester.as_mut() {
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
        link.sync.check_now();
    }

    pub(super) fn ship_all(&mut self, id: LinkId, space: SpaceId, prefix: Option<&Prefix>) {
        let Some(prefix) = prefix else { return self.ship_facts(id, space, None) };
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let held = link.spaces.get(&space).is_some_and(|common| common.held.any_document());
        let mut resumed = Vec::new();
        for entry in state.index.under(prefix, None).filter(|e| !e.items().is_empty()) {
            if held {
                resumed.push(entry.clone());
            } else {
                link.out.ship(Shipment::of(space, entry, What::From(0)));
            }
        }
        resumed.iter().for_each(|entry| self.ship_whole(id, space, entry));
    }

    /// Compares roots on every link as soon as nothing is on its way.
    pub(super) fn reconcile_all(&mut self) {
        for (id, link) in self.links.iter_mut() {
            link.sync.check_now();
            self.busy_links.insert(*id);
        }
    }

    /// Cursors that changed go with the next write.
    pub(super) fn take_lazy_ops(&mut self) -> Vec<WriteOp> {
        let lazy = std::mem::take(&mut self.pending.lazy_ops);
        lazy.into_iter().map(|(key, value)| WriteOp::Put(Table::Meta, key, value)).collect()
    }
}

impl super::link::Link {
    /// Whether anything of a round is still on its way.
    fn busy(&self) -> bool {
        !self.settled() || self.in_round()
    }

    /// Whether a layer of a round has not ended.
    fn in_round(&self) -> bool {
        self.sync.round.as_ref().is_some_and(|r| !r.cursors.is_empty()) || self.is_resolving()
    }

    /// Whether a session, or what came out of one, is under way.
    pub(super) fn is_resolving(&self) -> bool {
        self.spaces.values().any(|space| space.runs.values().any(|run| !run.idle()))
    }

    /// When the link wants to be looked at. Some of it may be over and wait for something else than time.
    pub(super) fn timers(&self) -> impl Iterator<Item = Timestamp> {
        let expected = self.spaces.values().filter_map(|s| s.tree.due());
        expected.chain(self.sync.due(self.initiator)).chain(self.out.fresh.due())
    }
}
