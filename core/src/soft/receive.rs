//! Taking in what peers say.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::chain::Preimage;
use super::entry::SoftEntry;
use super::floor::Floor;
use super::lease::{Lease, OwnerTag};
use super::message::News;
use super::peering::Reached;
use super::replica::{Replica, Stored};
use super::scope::{contains, intersection, union};
use super::state::{SoftChange, State};
use super::{MAX_DELETIONS, MAX_OWNER_BYTES, MAX_OWNER_ENTRIES, MAX_OWNERS, MAX_SPACE_BYTES};
use crate::id::{DeviceId, Path, Prefix};
use crate::io::LinkId;
use crate::time::{Now, Timestamp};

/// What no honest peer says: it costs the connection. What was taken in before it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// Honest peers pass on only what they have checked.
    #[error("a signature on soft state does not hold")]
    Signature,
    /// A renewal that is none of its lease.
    #[error("a renewal is not of the chain of its lease")]
    Chain,
    /// More owners than a peer can have.
    #[error("a digest of more owners than a peer keeps")]
    TooManyOwners,
}

/// May a device write a path? Asked of the space's roster.
pub type MayWrite<'a> = &'a dyn Fn(&DeviceId, &Path) -> bool;

/// A renewal as it came.
#[derive(Clone, Copy)]
struct Sign {
    index: u8,
    preimage: Preimage,
    age: Duration,
    hops: u8,
}

/// What the sender of news has, and what it vouches for.
struct Claim {
    checksum: Option<u32>,
    scope: Vec<Prefix>,
}

impl State {
    /// Takes in news from a link.
    pub fn on_news(
        &mut self,
        link: LinkId,
        now: Now,
        news: Vec<News>,
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        // Also of what does not count: the peer does not name it again.
        news.iter().for_each(|item| self.note_scope(link, item));
        if self.links.get(&link).is_none_or(|peering| peering.barrier.is_some()) {
            self.refused += news.len() as u64;
            return Ok(());
        }
        for item in news {
            match item {
                News::Renewal { owner, seq, index, preimage, age, hops, checksum, scope } => {
                    let claim = self.claim(link, checksum, scope);
                    let sign = Sign { index, preimage, age: Duration::from_millis(age), hops };
                    self.on_renewal(link, now, owner, seq, sign, &claim);
                }
                News::Again { owner, seq, index, preimage, age, hops, checksum } => {
                    let heard = self.links.get(&link).and_then(|peering| peering.views.get(&owner)?.heard.clone());
                    let Some(scope) = heard else {
                        // It was said before this end forgot everything.
                        self.ask(link, owner, now, true);
                        continue;
                    };
                    let claim = self.claim(link, checksum, Some(scope));
                    let sign = Sign { index, preimage, age: Duration::from_millis(age), hops };
                    self.on_renewal(link, now, owner, seq, sign, &claim);
                }
                News::Lease { lease, index, preimage, age, hops, entries, checksum, scope } => {
                    let claim = self.claim(link, checksum, scope);
                    let sign = Sign { index, preimage, age: Duration::from_millis(age), hops };
                    self.on_lease(link, now, *lease, sign, (entries, &claim), may_write)?;
                }
                News::Entries { owner, incarnation, entries, checksum, scope } => {
                    let claim = self.claim(link, checksum, scope);
                    match self.replicas.get(&owner).map(|r| r.lease.incarnation) {
                        _ if owner == self.own.tag => {}
                        Some(held) if held == incarnation => {
                            self.take_entries(link, owner, entries, may_write)?;
                            self.settle(link, owner, now, &claim);
                        }
                        Some(held) if held > incarnation => self.mark(owner, link),
                        _ => self.ask(link, owner, now, true),
                    }
                }
            }
        }
        Ok(())
    }

    fn on_renewal(&mut self, link: LinkId, now: Now, owner: OwnerTag, seq: u64, sign: Sign, claim: &Claim) {
        if owner == self.own.tag {
            return;
        }
        let Some(replica) = self.replicas.get(&owner) else {
            let floor = self.floors.get(&owner);
            let old = floor.is_some_and(|f| f.lease.seq == seq && !f.is_exceeded(sign.index, now.mono));
            if !old {
                // Forgotten, or never heard of: the lease and everything under it is asked for.
                self.ask(link, owner, now, true);
            }
            return;
        };
        if replica.lease.seq > seq {
            return self.mark(owner, link);
        }
        let known = (&replica.preimage, replica.index);
        let follows = || {
            let from = if sign.index >= replica.index { known } else { (&replica.lease.anchor, 0) };
            replica.lease.reveals(from, (&sign.preimage, sign.index))
        };
        if replica.lease.seq < seq || !follows() {
            return self.ask(link, owner, now, true);
        }
        if replica.lease.is_ancient(sign.index, now.wall) {
            self.refused += 1;
            return;
        }
        let reached = (replica.lease.incarnation, seq, sign.index);
        let second = replica.index == sign.index
            && replica.from.is_some_and(|from| from != link)
            && contains(&replica.vouched, &claim.scope);
        if let Some(peering) = self.links.get_mut(&link) {
            let view = peering.view(owner);
            let first = view.known.is_none();
            view.reached(reached, &claim.scope);
            if second && !std::mem::replace(&mut view.pruned, true) {
                peering.prune.insert(owner);
            }
            if first {
                self.admit(owner, link);
            }
        }
        self.renew(link, now, owner, sign, &claim.scope);
        self.settle(link, owner, now, claim);
    }

    /// Remembers what a peer names as vouched for, if there is somebody of whom it may be.
    fn note_scope(&mut self, link: LinkId, news: &News) {
        let (owner, scope) = match news {
            News::Renewal { owner, scope: Some(scope), .. } | News::Entries { owner, scope: Some(scope), .. } => {
                (*owner, scope)
            }
            News::Lease { lease, scope: Some(scope), .. } => (lease.owner.tag(), scope),
            _ => return,
        };
        let Some(peering) = self.links.get_mut(&link) else { return };
        if peering.views.contains_key(&owner) || peering.views.len() < 2 * MAX_OWNERS {
            peering.view(owner).heard = Some(scope.clone());
        }
    }

    fn claim(&self, link: LinkId, checksum: Option<u32>, scope: Option<Vec<Prefix>>) -> Claim {
        let domains = self.links.get(&link).map(|peering| peering.domains.as_slice()).unwrap_or_default();
        let scope = scope.map_or_else(|| domains.to_vec(), |scope| intersection(&scope, domains));
        Claim { checksum, scope }
    }

    /// A later renewal of the lease that is held.
    fn renew(&mut self, link: LinkId, now: Now, owner: OwnerTag, sign: Sign, scope: &[Prefix]) {
        let Some(replica) = self.replicas.get_mut(&owner) else { return };
        if sign.index < replica.index {
            return self.mark(owner, link);
        }
        let ttl = replica.lease.terms.ttl;
        if sign.index == replica.index {
            replica.from.get_or_insert(link);
            // This link may vouch for what the first one did not.
            let deadline = replica.deadline.min(now.mono + ttl.saturating_sub(sign.age));
            replica.refresh(scope, deadline);
            if !contains(&replica.vouched, scope) {
                replica.vouched = union(&replica.vouched, scope);
                self.mark_others(owner, Some(link));
            }
            return;
        }
        if now.mono > replica.taken_until(sign.index) || sign.age >= ttl {
            self.refused += 1;
            return;
        }
        (replica.index, replica.preimage, replica.hops) = (sign.index, sign.preimage, sign.hops);
        replica.from = Some(link);
        let deadline = now.mono + (ttl - sign.age);
        replica.deadline = replica.deadline.max(deadline);
        replica.refresh(scope, deadline);
        let last = std::mem::replace(&mut replica.vouched, scope.to_vec());
        let shrank = !contains(&last, &replica.vouched_before);
        replica.vouched_before = last;
        if shrank {
            // For a whole period nobody vouched for what somebody had vouched for: others may, who were asked to be silent.
            self.links.values_mut().for_each(|peering| peering.graft(owner));
        }
        let at = self.replicas[&owner].next_look();
        self.set_timer(owner, at);
        // Whoever brought the lease has had a period to bring what goes with its floor.
        self.apply_floor(owner);
        self.mark_renewal(owner, link, now.mono);
    }

    fn on_lease(
        &mut self,
        link: LinkId,
        now: Now,
        lease: Lease,
        sign: Sign,
        (entries, claim): (Vec<SoftEntry>, &Claim),
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        let owner = lease.owner.tag();
        let held = self.replicas.get(&owner).map(|r| &r.lease);
        if held.is_some_and(|held| held.owner != lease.owner) {
            return Ok(());
        }
        if held != Some(&lease) && self.floors.get(&owner).is_none_or(|floor| floor.lease != lease) {
            lease.verify(&self.space).map_err(|_| Misbehaviour::Signature)?;
        }
        if !lease.reveals((&lease.anchor, 0), (&sign.preimage, sign.index)) {
            return Err(Misbehaviour::Chain);
        }
        let reached = (lease.incarnation, lease.seq, sign.index);
        if owner == self.own.tag {
            self.peer_has(link, owner, reached, &claim.scope);
            self.on_own_lease(&lease);
            self.mark(owner, link);
            return Ok(());
        }
        if lease.is_ancient(sign.index, now.wall) || sign.age >= lease.terms.ttl {
            self.refused += 1;
            return Ok(());
        }
        if self.replicas.contains_key(&owner) {
            self.peer_has(link, owner, reached, &claim.scope);
        }
        let before = match self.replicas.get(&owner).map(|r| r.lease.key().cmp(&lease.key())) {
            Some(std::cmp::Ordering::Greater) => {
                self.mark(owner, link);
                return Ok(());
            }
            Some(std::cmp::Ordering::Equal) => {
                self.renew(link, now, owner, sign, &claim.scope);
                Vec::new()
            }
            Some(std::cmp::Ordering::Less) => self.supersede(link, now, lease, sign, &claim.scope),
            None if !self.may_rise(link, now, &lease, sign.index) => return Ok(()),
            None => {
                // Keys cost nothing: room is for owners who may say something.
                let device = lease.owner.device;
                let speaks = entries.iter().any(|e| e.value.is_some() && may_write(&device, &e.path));
                if !self.welcome(link, now, lease, (sign, &claim.scope), speaks) {
                    if entries.is_empty() {
                        // The peer believes that its entries are here.
                        self.ask(link, owner, now, true);
                    }
                    return Ok(());
                }
                self.peer_has(link, owner, reached, &claim.scope);
                Vec::new()
            }
        };
        self.take_entries_over(link, owner, entries, &before, may_write)?;
        self.settle(link, owner, now, claim);
        Ok(())
    }

    fn peer_has(&mut self, link: LinkId, owner: OwnerTag, reached: Reached, scope: &[Prefix]) {
        if let Some(peering) = self.links.get_mut(&link) {
            peering.view(owner).reached(reached, scope);
            self.admit(owner, link);
        }
    }

    /// Whether the floor of a lapsed owner lets a lease in. One that is older is answered with the later one, so that an
    /// owner who began too low learns of it.
    fn may_rise(&mut self, link: LinkId, now: Now, lease: &Lease, index: u8) -> bool {
        let owner = lease.owner.tag();
        let Some(floor) = self.floors.get(&owner) else { return true };
        let rises = match floor.lease.key().cmp(&lease.key()) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => floor.is_exceeded(index, now.mono),
            std::cmp::Ordering::Greater => {
                if let Some(peering) = self.links.get_mut(&link) {
                    peering.view(owner).refute = true;
                    peering.dirty.insert(owner);
                }
                false
            }
        };
        self.refused += u64::from(!rises);
        rises
    }

    /// Begins to keep an owner. `false`: it has nothing to say here, or there is no room.
    fn welcome(
        &mut self,
        link: LinkId,
        now: Now,
        lease: Lease,
        (sign, scope): (Sign, &[Prefix]),
        speaks: bool,
    ) -> bool {
        let owner = lease.owner.tag();
        if lease.is_release() {
            if self.floors.get(&owner).is_some() {
                self.floors.keep(lease, (sign.index, sign.preimage), (now.mono, sign.index), now.mono);
            }
            return false;
        }
        if !speaks || self.replicas.len() >= MAX_OWNERS {
            self.refused += 1;
            return false;
        }
        let floor: Option<Floor> = self.floors.remove(&owner).filter(|floor| floor.lease == lease);
        let deadline = now.mono + (lease.terms.ttl - sign.age);
        let mut replica = Replica::new(lease, (sign.index, sign.preimage), now.mono, deadline);
        // The schedule of a lease runs from when it was first seen, whatever happened since.
        replica.seen = floor.map_or(replica.seen, |floor| floor.seen);
        (replica.hops, replica.from) = (sign.hops, Some(link));
        replica.vouched = scope.to_vec();
        let at = replica.away_at().min(deadline);
        replica.timer = at;
        self.replicas.insert(owner, replica);
        self.timers.insert((at, owner));
        self.mark_others(owner, Some(link));
        true
    }

    /// A later lease takes the place of the one that is held. Returns the living entries of a former life, which are gone.
    fn supersede(
        &mut self,
        link: LinkId,
        now: Now,
        lease: Lease,
        sign: Sign,
        scope: &[Prefix],
    ) -> Vec<(Path, Arc<[u8]>)> {
        let owner = lease.owner.tag();
        let Some(replica) = self.replicas.get_mut(&owner) else { return Vec::new() };
        let new_life = lease.incarnation > replica.lease.incarnation;
        let release = lease.is_release();
        let deadline = now.mono + (lease.terms.ttl - sign.age);
        (replica.index, replica.preimage, replica.hops) = (sign.index, sign.preimage, sign.hops);
        replica.lease = lease;
        replica.from = Some(link);
        replica.seen = (now.mono, sign.index);
        replica.deadline = deadline;
        replica.refresh(scope, deadline);
        replica.vouched = scope.to_vec();
        let mut before = Vec::new();
        if new_life {
            replica.floor = 0;
            let paths: Vec<Path> = replica.entries.keys().cloned().collect();
            for path in paths {
                let gone = self.take_out(owner, &path);
                before.extend(gone.and_then(|s| s.entry.value).map(|value| (path, value)));
            }
        }
        let at = if release { deadline } else { self.replicas[&owner].next_look() };
        self.set_timer(owner, at);
        if release {
            self.apply_floor(owner);
        }
        self.mark_others(owner, Some(link));
        before
    }

    /// Takes entries in, and tells what became of those of a former life.
    fn take_entries_over(
        &mut self,
        link: LinkId,
        owner: OwnerTag,
        entries: Vec<SoftEntry>,
        before: &[(Path, Arc<[u8]>)],
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        let told = self.events.len();
        let taken = self.take_entries(link, owner, entries, may_write);
        if before.is_empty() {
            return taken;
        }
        let same = |path: &Path, value: &Arc<[u8]>| before.iter().any(|(p, v)| p == path && v == value);
        let fresh = self.events.split_off(told);
        self.events.extend(fresh.into_iter().filter(|event| match &event.change {
            SoftChange::Set(value) => !same(&event.path, value),
            _ => true,
        }));
        let Some(replica) = self.replicas.get(&owner) else { return taken };
        let who = replica.lease.owner;
        let lives = |path: &Path| replica.entries.get(path).is_some_and(|s| s.entry.value.is_some());
        let gone: Vec<Path> = before.iter().map(|(path, _)| path).filter(|path| !lives(path)).cloned().collect();
        gone.into_iter().for_each(|path| self.tell(who, path, SoftChange::Deleted));
        taken
    }

    fn take_entries(
        &mut self,
        link: LinkId,
        owner: OwnerTag,
        entries: Vec<SoftEntry>,
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        let Some(replica) = self.replicas.get(&owner) else { return Ok(()) };
        let (who, incarnation, floor) = (replica.lease.owner, replica.lease.incarnation, replica.lease.floor);
        let deadline = replica.deadline;
        let mut news = false;
        for entry in entries {
            let held = self.replicas.get(&owner).and_then(|r| r.entries.get(&entry.path)).map(|s| &s.entry);
            if entry.version <= floor || held.is_some_and(|held| held.version >= entry.version) {
                continue;
            }
            entry.verify(&self.space, &who, incarnation).map_err(|_| Misbehaviour::Signature)?;
            let before = held.and_then(|held| held.value.clone());
            if !may_write(&who.device, &entry.path) || !self.has_room(owner, &entry) {
                self.refused += 1;
                continue;
            }
            if before != entry.value {
                let change = entry.value.clone().map_or(SoftChange::Deleted, SoftChange::Set);
                self.tell(who, entry.path.clone(), change);
            }
            let (arrival, mark) = (self.next_arrival(), entry.mark());
            self.put(owner, Stored { entry, mark, arrival, from: Some(link), deadline });
            news = true;
        }
        if news {
            self.mark_entries(owner, Some(link));
        }
        Ok(())
    }

    fn has_room(&self, owner: OwnerTag, entry: &SoftEntry) -> bool {
        let Some(replica) = self.replicas.get(&owner) else { return false };
        let held = replica.entries.get(&entry.path).map_or(0, |s| s.entry.weight());
        // An owner that collects has its deletions and the entries written anew at once.
        let most = MAX_OWNER_ENTRIES + MAX_DELETIONS + 1;
        let fits = replica.entries.len() < most || replica.entries.contains_key(&entry.path);
        // Deletions keep their paths, so a replica may pass its owner's own bound by them.
        let deletions = (MAX_DELETIONS + 1) * Path::MAX_LEN;
        fits && replica.bytes - held + entry.weight() <= MAX_OWNER_BYTES + deletions
            && self.bytes - held + entry.weight() <= MAX_SPACE_BYTES
    }

    /// Compares with what the sender has: equal, and the floor can do its work; unequal, and the difference is asked for.
    fn settle(&mut self, link: LinkId, owner: OwnerTag, now: Now, claim: &Claim) {
        let (Some(theirs), Some(replica)) = (claim.checksum, self.replicas.get(&owner)) else { return };
        if replica.checksum(&claim.scope) == theirs {
            self.apply_floor(owner);
        } else {
            self.ask(link, owner, now, false);
        }
    }

    fn apply_floor(&mut self, owner: OwnerTag) {
        let Some(replica) = self.replicas.get_mut(&owner) else { return };
        let floor = replica.lease.floor;
        if std::mem::replace(&mut replica.floor, floor) < floor {
            self.drop_entries(owner, |s| s.entry.version <= floor, &SoftChange::Deleted);
        }
    }

    /// Asks a link about an owner, at most once a period.
    pub(super) fn ask(&mut self, link: LinkId, owner: OwnerTag, now: Now, lease: bool) {
        let period = self.replicas.get(&owner).map_or(MIN_ASK, |r| r.lease.terms.period);
        let Some(peering) = self.links.get_mut(&link) else { return };
        if !peering.views.contains_key(&owner) && peering.views.len() >= 2 * MAX_OWNERS {
            // Of owners that were asked for and never came.
            peering.views.retain(|owner, _| self.replicas.contains_key(owner));
        }
        let view = peering.view(owner);
        if now.mono < view.next_fetch {
            return;
        }
        view.next_fetch = now.mono + period;
        *peering.fetch.entry(owner).or_insert(false) |= lease;
    }

    /// Looks after what is due: own renewals, owners that lapse or fell silent, floors.
    pub fn tick(&mut self, now: Now, key: &crate::trust::DeviceKey, rng: &mut rand_chacha::ChaCha12Rng) {
        self.tick_own(now, key, rng);
        self.ripen(now.mono);
        self.ask_suspects(now);
        while let Some((at, owner)) = self.timers.first().copied()
            && at <= now.mono
        {
            self.timers.pop_first();
            let Some(replica) = self.replicas.get(&owner) else { continue };
            if replica.deadline <= now.mono {
                self.lapse(owner, now.mono);
                continue;
            }
            let (period, away) = (replica.lease.terms.period, replica.is_away(now.mono));
            if owner != self.own.tag {
                // No link that covers these has brought a sign of life.
                let lapsed = |s: &Stored| s.entry.value.is_some() && s.deadline <= now.mono;
                self.drop_entries(owner, lapsed, &SoftChange::Expired);
            }
            if away {
                // The way that its news took may be broken.
                self.links.values_mut().for_each(|peering| peering.graft(owner));
            }
            let look = self.replicas[&owner].next_look();
            let next = if look > now.mono { look } else { (now.mono + period).min(self.replicas[&owner].deadline) };
            self.set_timer(owner, next);
        }
        self.floors.expire(now.mono);
    }

    fn lapse(&mut self, owner: OwnerTag, now: Timestamp) {
        self.drop_entries(owner, |_| true, &SoftChange::Expired);
        for peering in self.links.values_mut() {
            // It may live on where this peer has asked for silence about it.
            let silent = peering.views.get(&owner).is_some_and(|view| view.pruned) || peering.graft.contains(&owner);
            peering.forget(&owner);
            if silent {
                peering.fetch.insert(owner, true);
            }
        }
        self.audience.remove(&owner);
        if let Some(replica) = self.replicas.remove(&owner) {
            self.timers.remove(&(replica.timer, owner));
            if owner != self.own.tag {
                self.floors.keep(replica.lease, (replica.index, replica.preimage), replica.seen, now);
            }
        }
    }
}

/// Shortest time between two questions about an owner that is not known.
const MIN_ASK: Duration = Duration::from_secs(1);
