//! Telling peers what they lack.

use std::collections::BTreeMap;

use super::entry::path_hash;
use super::lease::OwnerTag;
use super::message::{Fetch, MAX_FETCHES, MAX_NEWS, MAX_SUMMARIES, Message, News, Summary};
use super::peering::{Peering, View};
use super::receive::Misbehaviour;
use super::replica::{Replica, Stored};
use super::scope::contains;
use super::state::State;
use super::{MAX_HOPS, MAX_OWNERS};
use crate::id::{Path, Prefix};
use crate::io::LinkId;
use crate::time::{Now, Timestamp};

/// Bytes of a message, so that it fits a frame with what surrounds it.
const MESSAGE_BYTES: usize = 48 * 1024;
/// How long what a peer is said to have may take to come by another link.
const SUSPECT_AFTER: std::time::Duration = std::time::Duration::from_millis(500);
/// Bytes of an entry in a fetch, never too few.
const HELD_BYTES: usize = 18;

impl State {
    /// A link speaks of the space, or what both ends see of it has changed: the peers tell each other what they have.
    pub fn connect(&mut self, link: LinkId, domains: Vec<Prefix>) {
        match self.links.get_mut(&link) {
            Some(peering) if peering.domains == domains => return,
            Some(peering) => {
                // Either end may see more now: what the peer is known to have says nothing of that.
                peering.domains = domains;
                peering.restart();
            }
            None => {
                self.links.insert(link, Peering::new(domains));
            }
        }
        self.admit_by_domains(link);
    }

    /// This peer was stopped or asleep. What has waited in its buffers meanwhile did not age, so news counts again only
    /// once a peer has answered. `slept` is what the clock that ages leases gained on the machine's monotonic one; the
    /// schedules of leases go by the latter, since a wall clock that was set forward must not make every later renewal
    /// look late.
    pub fn wake(&mut self, slept: std::time::Duration) {
        self.replicas.values_mut().for_each(|replica| replica.seen.0 = replica.seen.0 + slept);
        self.floors.shift(slept);
        for peering in self.links.values_mut() {
            peering.barrier = Some(peering.restart());
        }
    }

    /// A link is gone, or speaks of the space no more. Owners that were heard of through it are asked for elsewhere.
    pub fn disconnect(&mut self, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        self.audience.values_mut().for_each(|audience| _ = audience.remove(&link));
        let orphans: Vec<OwnerTag> =
            self.replicas.iter().filter(|(_, r)| r.from == Some(link)).map(|(owner, _)| *owner).collect();
        for owner in orphans {
            self.replicas.get_mut(&owner).expect("listed above").from = None;
            self.links.values_mut().for_each(|peering| peering.graft(owner));
        }
    }

    /// Links that want to say something.
    pub fn busy_links(&mut self) -> impl Iterator<Item = LinkId> {
        for link in self.links.take_touched() {
            if self.links.get(&link).is_some_and(|peering| peering.has_words() || peering.has_news()) {
                self.busy.insert(link);
            } else {
                self.busy.remove(&link);
            }
        }
        self.busy.iter().copied()
    }

    /// The peer's digest, or a part of it.
    pub fn on_digest(
        &mut self,
        link: LinkId,
        now: Now,
        (first, last, graft): (bool, bool, bool),
        (asks, answers): (Option<u8>, Option<u8>),
        owners: Vec<Summary>,
    ) -> Result<(), Misbehaviour> {
        let Some(peering) = self.links.get_mut(&link) else { return Ok(()) };
        if graft {
            for summary in owners {
                if self.replicas.contains_key(&summary.owner) {
                    let peering = self.links.get_mut(&link).expect("looked up above");
                    peering.view(summary.owner).lazy = false;
                    self.compare(link, now, Some(summary), summary.owner);
                }
            }
            return Ok(());
        }
        if answers.is_some() && answers == peering.barrier {
            peering.barrier = None;
        }
        if first {
            peering.arriving = Some(BTreeMap::new());
        }
        let Some(arriving) = &mut peering.arriving else { return Ok(()) };
        arriving.extend(owners.into_iter().map(|summary| (summary.owner, summary)));
        if arriving.len() > MAX_OWNERS {
            return Err(Misbehaviour::TooManyOwners);
        }
        if last {
            let theirs = peering.arriving.take().unwrap_or_default();
            peering.ready = true;
            if asks.is_some() {
                (peering.digest_due, peering.answers) = (true, asks);
            }
            // Whom the peer was asked to be silent about it forgets when this end's digest reaches it, not before.
            let before = std::mem::take(&mut peering.views);
            let all: Vec<OwnerTag> = self.replicas.keys().copied().collect();
            for owner in all {
                self.compare(link, now, theirs.get(&owner).copied(), owner);
                if before.get(&owner).is_some_and(|view| view.pruned)
                    && let Some(peering) = self.links.get_mut(&link)
                {
                    peering.view(owner).pruned = true;
                }
            }
        }
        Ok(())
    }

    /// Sets a link's view of an owner by what the peer said that it has, and sees who lacks something.
    fn compare(&mut self, link: LinkId, now: Now, theirs: Option<Summary>, owner: OwnerTag) {
        let (Some(replica), Some(peering)) = (self.replicas.get(&owner), self.links.get_mut(&link)) else { return };
        let ours = replica.summary(&peering.domains);
        let reached = |s: &Summary| (s.incarnation, s.seq, s.index);
        let domains = peering.domains.clone();
        let view = peering.view(owner);
        (view.known, view.scope) = (theirs.as_ref().map(reached), domains);
        // Under the same incarnation a checksum finds what is missing; under another one nothing is known.
        let same_life = theirs.is_some_and(|s| s.incarnation == ours.incarnation);
        view.sent = if same_life { self.arrivals } else { 0 };
        if view.known < Some(reached(&ours)) {
            peering.mark(owner);
        }
        if theirs.is_some() {
            self.admit(owner, link);
        }
        let differs = theirs.is_some_and(|s| (s.incarnation, s.seq) == (ours.incarnation, ours.seq))
            && theirs.is_some_and(|s| s.checksum != ours.checksum);
        if differs {
            self.ask(link, owner, now, false);
        }
    }

    /// The peer lacks something.
    pub fn on_fetch(&mut self, link: LinkId, now: Now, fetches: Vec<Fetch>) {
        for fetch in fetches {
            let owner = fetch.owner;
            let (Some(replica), Some(peering)) = (self.replicas.get(&owner), self.links.get_mut(&link)) else {
                continue;
            };
            let held: BTreeMap<u64, u64> = fetch.held.into_iter().collect();
            let mut wanted: Vec<Path> = Vec::new();
            let mut common = 0;
            for stored in replica.under(&replica.scope(&peering.domains)) {
                let theirs = held.get(&path_hash(&stored.entry.path)).copied();
                if theirs.is_none_or(|version| version < stored.entry.version) {
                    wanted.push(stored.entry.path.clone());
                }
                common += usize::from(theirs.is_some_and(|version| version <= stored.entry.version));
            }
            let view = peering.view(owner);
            view.lazy = false;
            if fetch.lease {
                (view.known, view.sent) = (None, 0);
            } else {
                view.wanted.extend(wanted);
            }
            peering.dirty.insert(owner);
            if common < held.len() && owner != self.own.tag {
                // The peer has what is missing here.
                self.ask(link, owner, now, false);
            }
        }
    }

    /// What a peer has of owners of whom this one hears by other links. Those may be on their way with it, so the
    /// difference is looked at a little later.
    pub fn on_have(&mut self, link: LinkId, now: Now, owners: Vec<Summary>) {
        for summary in owners {
            if self.suspects.len() < MAX_OWNERS && self.differs(link, &summary) {
                self.suspects.insert((now.mono + SUSPECT_AFTER, link, summary.owner), summary);
            }
        }
    }

    /// Asks those who still have something else.
    pub(super) fn ask_suspects(&mut self, now: Now) {
        while let Some(((at, link, owner), _)) = self.suspects.first_key_value().map(|(key, s)| (*key, *s))
            && at <= now.mono
        {
            let Some((_, summary)) = self.suspects.pop_first() else { break };
            if self.differs(link, &summary) {
                let held = self.replicas.get(&owner).map(|r| (r.lease.incarnation, r.lease.seq));
                self.ask(link, owner, now, held < Some((summary.incarnation, summary.seq)));
            }
        }
    }

    /// Whether a peer has a later lease of an owner, or other entries under the same one.
    fn differs(&self, link: LinkId, theirs: &Summary) -> bool {
        let Some(peering) = self.links.get(&link) else { return false };
        if theirs.owner == self.own.tag {
            return false;
        }
        let Some(replica) = self.replicas.get(&theirs.owner) else { return true };
        let held = (replica.lease.incarnation, replica.lease.seq);
        match held.cmp(&(theirs.incarnation, theirs.seq)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => replica.summary(&peering.domains).checksum != theirs.checksum,
            std::cmp::Ordering::Greater => false,
        }
    }

    /// The peer hears of these owners from others first.
    pub fn on_prune(&mut self, link: LinkId, owners: Vec<OwnerTag>) {
        let Some(peering) = self.links.get_mut(&link) else { return };
        for owner in owners {
            if self.replicas.contains_key(&owner) {
                peering.view(owner).lazy = true;
            }
        }
    }

    /// What to say on a link now. `window`: whether news may be among it.
    pub fn poll_link(&mut self, link: LinkId, now: Timestamp, window: bool) -> Vec<Message> {
        let Some(mut peering) = self.links.remove(&link) else { return Vec::new() };
        let mut messages = Vec::new();
        if std::mem::take(&mut peering.digest_due) {
            messages.extend(self.digest(&peering));
            (peering.asks, peering.answers) = (None, None);
            // Whoever gets it speaks of everybody again.
            peering.views.values_mut().for_each(|view| view.pruned = false);
        }
        let graft: Vec<Summary> = std::mem::take(&mut peering.graft)
            .iter()
            .filter_map(|owner| self.replicas.get(owner))
            .map(|replica| replica.summary(&peering.domains))
            .collect();
        for owners in graft.chunks(MAX_SUMMARIES) {
            messages.push(Message::Digest {
                first: false,
                last: false,
                graft: true,
                asks: None,
                answers: None,
                owners: owners.to_vec(),
            });
        }
        let prune: Vec<OwnerTag> = std::mem::take(&mut peering.prune).into_iter().collect();
        messages.extend(prune.chunks(MAX_SUMMARIES).map(|owners| Message::Prune(owners.to_vec())));
        messages.extend(self.fetches(&mut peering));
        if peering.ready {
            let have: Vec<Summary> = std::mem::take(&mut peering.have)
                .iter()
                .filter_map(|owner| self.replicas.get(owner))
                .filter(|replica| replica.under(&replica.scope(&peering.domains)).next().is_some())
                .map(|replica| replica.summary(&peering.domains))
                .collect();
            messages.extend(have.chunks(MAX_SUMMARIES).map(|owners| Message::Have(owners.to_vec())));
        }
        if window && peering.has_news() {
            peering.ripen();
            let news = self.news(link, &mut peering, now);
            if !news.is_empty() {
                messages.push(Message::News(news));
            }
        }
        self.links.insert(link, peering);
        messages
    }

    fn digest(&self, peering: &Peering) -> Vec<Message> {
        let seen = |r: &&Replica| r.under(&r.scope(&peering.domains)).next().is_some();
        let owners: Vec<Summary> =
            self.replicas.values().filter(seen).map(|replica| replica.summary(&peering.domains)).collect();
        let mut chunks: Vec<Vec<Summary>> = owners.chunks(MAX_SUMMARIES).map(<[Summary]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let end = chunks.len() - 1;
        let message = |(at, owners)| Message::Digest {
            first: at == 0,
            last: at == end,
            graft: false,
            asks: peering.asks,
            answers: peering.answers,
            owners,
        };
        chunks.into_iter().enumerate().map(message).collect()
    }

    fn fetches(&self, peering: &mut Peering) -> Vec<Message> {
        let (mut messages, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (owner, lease) in std::mem::take(&mut peering.fetch) {
            let replica = self.replicas.get(&owner).filter(|_| !lease);
            let held: Vec<(u64, u64)> = replica
                .into_iter()
                .flat_map(|r| r.under(&peering.domains))
                .map(|s| (path_hash(&s.entry.path), s.entry.version))
                .collect();
            bytes += 16 + HELD_BYTES * held.len();
            if bytes > MESSAGE_BYTES || part.len() == MAX_FETCHES {
                bytes = 16 + HELD_BYTES * held.len();
                messages.push(Message::Fetch(std::mem::take(&mut part)));
            }
            part.push(Fetch { owner, lease, held });
        }
        if !part.is_empty() {
            messages.push(Message::Fetch(part));
        }
        messages
    }

    /// As much of what the peer lacks as a message holds.
    fn news(&self, link: LinkId, peering: &mut Peering, now: Timestamp) -> Vec<News> {
        let (mut news, mut bytes) = (Vec::new(), 0);
        while bytes < MESSAGE_BYTES
            && news.len() + 2 <= MAX_NEWS
            && let Some(owner) = peering.dirty.pop_first()
        {
            let Peering { views, domains, .. } = peering;
            let view = views.entry(owner).or_default();
            let Some(replica) = self.replicas.get(&owner) else {
                news.extend(self.refutation(view, &owner));
                continue;
            };
            let whole = self.news_of(link, view, domains, replica, now, MESSAGE_BYTES - bytes, &mut news);
            bytes = news.iter().map(News::size).sum();
            if !whole {
                peering.dirty.insert(owner);
                break;
            }
        }
        news
    }

    /// The later lease of an owner that has lapsed, for who brought an older one: dead for everybody, and a proof for the
    /// owner itself.
    fn refutation(&self, view: &mut View, owner: &OwnerTag) -> Option<News> {
        let floor = self.floors.get(owner).filter(|_| std::mem::take(&mut view.refute))?;
        Some(News::Lease {
            lease: Box::new(floor.lease.clone()),
            index: floor.index,
            preimage: floor.preimage,
            age: floor.lease.terms.ttl.as_millis() as u64,
            hops: MAX_HOPS,
            entries: Vec::new(),
            checksum: None,
            scope: None,
        })
    }

    /// What a link lacks of an owner; whether that is all.
    fn news_of(
        &self,
        link: LinkId,
        view: &mut View,
        domains: &[Prefix],
        replica: &Replica,
        now: Timestamp,
        room: usize,
        news: &mut Vec<News>,
    ) -> bool {
        let reached = (replica.lease.incarnation, replica.lease.seq, replica.index);
        let dead = replica.deadline <= now || replica.hops >= MAX_HOPS;
        let scope = replica.scope(domains);
        let unknown = view.known.is_none() && replica.under(&scope).next().is_none();
        if dead || unknown || scope.is_empty() || view.known.is_some_and(|(i, s, _)| (i, s) > (reached.0, reached.1)) {
            view.wanted.clear();
            return true;
        }
        let (entries, whole) = entries_for(link, view, &scope, replica, room);
        let checksum = whole.then(|| replica.checksum(&scope));
        let partial = !contains(&scope, domains);
        let widened = !contains(&view.scope, &scope);
        let known = view.known;
        view.reached(reached, &scope);
        let scope = partial.then_some(scope);
        // What was told by name need not be told again.
        let same = scope.is_some() && scope == view.told;
        if scope.is_some() {
            view.told.clone_from(&scope);
        }
        let (index, preimage, hops) = (replica.index, replica.preimage, replica.hops + 1);
        let age = replica.age(now).as_micros().div_ceil(1000) as u64;
        let same_lease = known.is_some_and(|(i, s, _)| (i, s) == (reached.0, reached.1));
        if !same_lease {
            let lease = Box::new(replica.lease.clone());
            news.push(News::Lease { lease, index, preimage, age, hops, entries, checksum, scope: scope.clone() });
        } else {
            let owner = replica.lease.owner.tag();
            let bare = entries.is_empty();
            if !bare {
                let incarnation = reached.0;
                news.push(News::Entries { owner, incarnation, entries, checksum, scope: scope.clone() });
            }
            if known < Some(reached) || widened {
                let seq = reached.1;
                let checksum = checksum.filter(|_| bare);
                if same && bare {
                    news.push(News::Again { owner, seq, index, preimage, age, hops, checksum });
                    return whole;
                }
                news.push(News::Renewal { owner, seq, index, preimage, age, hops, checksum, scope: scope.clone() });
            }
        }
        whole
    }
}

/// Entries that a link has not been sent, oldest arrival first, and whether these are all.
fn entries_for(
    link: LinkId,
    view: &mut View,
    scope: &[Prefix],
    replica: &Replica,
    room: usize,
) -> (Vec<super::SoftEntry>, bool) {
    let lacks = |s: &&Stored| (s.arrival > view.sent && s.from != Some(link)) || view.wanted.contains(&s.entry.path);
    let mut lacking: Vec<&Stored> = replica.under(scope).filter(lacks).collect();
    lacking.sort_unstable_by_key(|s| s.arrival);
    let (mut entries, mut bytes, mut whole) = (Vec::new(), 0, true);
    let mut sent = view.sent;
    for stored in &lacking {
        bytes += stored.entry.size();
        if bytes > room && !entries.is_empty() || bytes > MESSAGE_BYTES {
            whole = false;
            break;
        }
        sent = sent.max(stored.arrival);
        view.wanted.remove(&stored.entry.path);
        entries.push(stored.entry.clone());
    }
    if whole {
        view.wanted.clear();
        sent = replica.entries.values().map(|s| s.arrival).max().unwrap_or(0).max(view.sent);
    }
    view.sent = sent;
    (entries, whole)
}
