//! One peer's soft state of one space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::entry::covered;
use super::floor::Floors;
use super::lease::{LeaseTerms, OwnerId, OwnerTag};
use super::message::Summary;
use super::own::Own;
use super::peering::Peering;
use super::replica::{Replica, Stored};
use super::scope::contains;
use crate::id::{Incarnation, Path, Prefix, SpaceId};
use crate::io::LinkId;
use crate::time::{Timestamp, WallTime};
use crate::touched::TouchedMap;

/// How long renewals gather before they are handed on: with a thousand owners and the default period each message to a
/// neighbour then brings dozens, and its frame and acknowledgement cost each of them next to nothing.
const GATHER: Duration = Duration::from_millis(300);
/// Part of a period that this may be at most.
const GATHER_PART: u32 = 16;

/// Why an own write was refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SoftError {
    /// The value is too long; put it into a document and its path here.
    #[error("a soft value has at most {max} bytes, this one has {bytes}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// This peer has as many entries in the space as an owner may have; delete some.
    #[error("a peer has at most {max} soft entries in a space")]
    TooManyEntries {
        /// The bound.
        max: usize,
    },
    /// This peer's entries in the space would take too many bytes.
    #[error("a peer's soft entries in a space take at most {max} bytes, these would take {bytes}")]
    TooManyBytes {
        /// What they would take.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoftChange {
    /// It has this value now.
    Set(Arc<[u8]>),
    /// Its owner deleted it, or said goodbye.
    Deleted,
    /// Its owner's lease lapsed.
    Expired,
}

/// Something happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftEvent {
    /// Where.
    pub path: Path,
    /// Whose.
    pub owner: OwnerId,
    /// What.
    pub change: SoftChange,
    /// Whether it is this peer's own.
    pub mine: bool,
}

/// An entry as programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where.
    pub path: Path,
    /// Whose.
    pub owner: OwnerId,
    /// What.
    pub value: Arc<[u8]>,
    /// The owner's count of writes when it wrote this.
    pub version: u64,
    /// Whether it is this peer's own.
    pub mine: bool,
    /// Whether its owner has missed a renewal; it may come back.
    pub away: bool,
    /// When it lapses unless a renewal comes; an own one is renewed while this peer runs.
    pub expires_in: Duration,
}

/// The incarnation that begins when a store is opened: later lives are above earlier ones, and the low bits keep copies
/// of a store apart that were opened in the same millisecond.
pub fn incarnation(opened: WallTime, store: Incarnation) -> u64 {
    let millis = u64::try_from(opened.0).unwrap_or(0).min((1 << 47) - 1);
    millis << 16 | (store.0 & 0xffff)
}

/// One peer's soft state of one space.
#[derive(Debug)]
pub struct State {
    pub(super) space: SpaceId,
    pub(super) own: Own,
    pub(super) replicas: BTreeMap<OwnerTag, Replica>,
    pub(super) floors: Floors,
    pub(super) links: TouchedMap<LinkId, Peering>,
    /// Links that want to say something, as far as they have been looked at.
    pub(super) busy: BTreeSet<LinkId>,
    /// The links on which an owner may be spoken of: what they cover holds entries of it, or their peers have it. A peer with
    /// many links, each for a part of the tree, looks at these few when something of the owner is new.
    pub(super) audience: BTreeMap<OwnerTag, BTreeSet<LinkId>>,
    /// Living entries by path.
    pub(super) by_path: BTreeSet<(Path, OwnerTag)>,
    /// When to look at which owner.
    pub(super) timers: BTreeSet<(Timestamp, OwnerTag)>,
    /// Peers that may have what is missing here: when to ask them.
    pub(super) suspects: BTreeMap<(Timestamp, LinkId, OwnerTag), Summary>,
    /// When links are told of renewals that could wait.
    pub(super) calm_until: Option<Timestamp>,
    pub(super) bytes: usize,
    pub(super) arrivals: u64,
    pub(super) events: Vec<SoftEvent>,
    /// News that was dropped: over a bound, too old, or of an owner without the right.
    pub(super) refused: u64,
}

impl State {
    /// Nothing is known. `owner` is this peer, `incarnation` its present life.
    pub fn new(space: SpaceId, owner: OwnerId, incarnation: u64, terms: LeaseTerms) -> Self {
        Self {
            space,
            own: Own::new(owner, incarnation, terms.bounded()),
            replicas: BTreeMap::new(),
            floors: Floors::default(),
            links: TouchedMap::default(),
            busy: BTreeSet::new(),
            audience: BTreeMap::new(),
            by_path: BTreeSet::new(),
            timers: BTreeSet::new(),
            suspects: BTreeMap::new(),
            calm_until: None,
            bytes: 0,
            arrivals: 0,
            events: Vec::new(),
            refused: 0,
        }
    }

    /// What has happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<SoftEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether anybody is spoken to.
    pub fn is_linked(&self) -> bool {
        !self.links.is_empty()
    }

    /// News that was dropped so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Owners that live, floors of lapsed ones, and bytes of entries.
    pub fn figures(&self) -> (usize, usize, usize) {
        (self.replicas.len(), self.floors.len(), self.bytes)
    }

    /// When [`State::tick`] has something to do.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let suspect = self.suspects.first_key_value().map(|((at, ..), _)| *at);
        self.timers
            .first()
            .map(|(at, _)| *at)
            .into_iter()
            .chain(self.own.due())
            .chain(suspect)
            .chain(self.calm_until)
            .min()
    }

    /// Living entries under a prefix in path order, those after `after` only, at most `limit`, never a part of a path's.
    pub fn list(&self, prefix: &Prefix, after: Option<&Path>, limit: usize, now: Timestamp) -> (Vec<Shown>, bool) {
        let mut shown: Vec<Shown> = Vec::new();
        let from = after.map(Path::as_str).unwrap_or_default();
        let begin = if from > prefix.as_str() { from } else { prefix.as_str() };
        let Some(begin) = Path::parse(begin).ok().or_else(|| self.by_path.first().map(|(path, _)| path.clone())) else {
            return (shown, false);
        };
        for (path, owner) in self.by_path.range((begin, OwnerTag([0; 8]))..) {
            if after.is_some_and(|after| path <= after) || !prefix.covers(path) {
                if !path.as_str().starts_with(prefix.as_str()) {
                    break;
                }
                continue;
            }
            if shown.len() >= limit && shown.last().is_none_or(|last| last.path != *path) {
                return (shown, true);
            }
            shown.extend(self.show(owner, path, now));
        }
        (shown, false)
    }

    /// Living entries at a path, one an owner.
    pub fn get(&self, path: &Path, now: Timestamp) -> Vec<Shown> {
        let owners = (path.clone(), OwnerTag([0; 8]))..=(path.clone(), OwnerTag([0xff; 8]));
        self.by_path.range(owners).filter_map(|(path, owner)| self.show(owner, path, now)).collect()
    }

    fn show(&self, owner: &OwnerTag, path: &Path, now: Timestamp) -> Option<Shown> {
        let replica = self.replicas.get(owner)?;
        let Stored { entry, deadline, .. } = replica.entries.get(path)?;
        let mine = *owner == self.own.tag;
        let deadline = if mine { replica.deadline } else { *deadline };
        if !mine && deadline <= now {
            return None;
        }
        Some(Shown {
            path: path.clone(),
            owner: replica.lease.owner,
            value: entry.value.clone()?,
            version: entry.version,
            mine,
            away: !mine && replica.is_away(now),
            expires_in: deadline.since(now),
        })
    }

    /// Puts an entry into a replica, whatever was at its path before.
    pub(super) fn put(&mut self, owner: OwnerTag, stored: Stored) {
        let path = stored.entry.path.clone();
        if self.take_out(owner, &path).is_none() {
            let sees = self.links.iter().filter(|(_, peering)| covered(&peering.domains, &path));
            let sees: Vec<LinkId> = sees.map(|(link, _)| *link).collect();
            if !sees.is_empty() {
                self.audience.entry(owner).or_default().extend(sees);
            }
        }
        let weight = stored.entry.weight();
        if stored.entry.value.is_some() {
            self.by_path.insert((path.clone(), owner));
        }
        let replica = self.replicas.get_mut(&owner).expect("entries are put into replicas that are there");
        replica.bytes += weight;
        self.bytes += weight;
        replica.entries.insert(path, stored);
    }

    /// Takes an entry out of a replica.
    pub(super) fn take_out(&mut self, owner: OwnerTag, path: &Path) -> Option<Stored> {
        let replica = self.replicas.get_mut(&owner)?;
        let stored = replica.entries.remove(path)?;
        replica.bytes -= stored.entry.weight();
        self.bytes -= stored.entry.weight();
        self.by_path.remove(&(path.clone(), owner));
        Some(stored)
    }

    /// Drops the entries of an owner that `dead` says are dead, telling of those that lived.
    pub(super) fn drop_entries(&mut self, owner: OwnerTag, dead: impl Fn(&Stored) -> bool, change: &SoftChange) {
        let Some(replica) = self.replicas.get(&owner) else { return };
        let who = replica.lease.owner;
        let paths: Vec<Path> = replica.entries.iter().filter(|(_, s)| dead(s)).map(|(path, _)| path.clone()).collect();
        for path in paths {
            let gone = self.take_out(owner, &path);
            if gone.is_some_and(|stored| stored.entry.value.is_some()) {
                self.tell(who, path, change.clone());
            }
        }
    }

    pub(super) fn tell(&mut self, owner: OwnerId, path: Path, change: SoftChange) {
        let mine = owner == self.own.owner;
        self.events.push(SoftEvent { path, owner, change, mine });
    }

    /// Sets when to look at an owner next.
    pub(super) fn set_timer(&mut self, owner: OwnerTag, at: Timestamp) {
        let Some(replica) = self.replicas.get_mut(&owner) else { return };
        self.timers.remove(&(replica.timer, owner));
        replica.timer = at;
        self.timers.insert((at, owner));
    }

    /// Something of an owner is new: every link of its audience but the one that brought it may want it.
    pub(super) fn mark_others(&mut self, owner: OwnerTag, except: Option<LinkId>) {
        self.mark_on(owner, except, Peering::mark);
    }

    /// Entries of an owner are new here: those links may want them, and those that hear of it from others are told that they exist.
    pub(super) fn mark_entries(&mut self, owner: OwnerTag, except: Option<LinkId>) {
        self.mark_on(owner, except, Peering::mark_entries);
    }

    /// A renewal of an owner has come from a link: the others are told of it with those that come in the next moment, a small
    /// part of its period. It ages meanwhile, so nobody lives longer for it.
    pub(super) fn mark_renewal(&mut self, owner: OwnerTag, from: LinkId, now: Timestamp) {
        let Some(replica) = self.replicas.get(&owner) else { return };
        let at = now + (replica.lease.terms.period / GATHER_PART).min(GATHER);
        self.calm_until = Some(self.calm_until.map_or(at, |until| until.min(at)));
        self.mark_on(owner, Some(from), Peering::mark_calm);
    }

    /// What could wait goes to the links.
    pub(super) fn ripen(&mut self, now: Timestamp) {
        if self.calm_until.is_some_and(|at| at <= now) {
            self.calm_until = None;
            let calm = self.links.iter().filter(|(_, peering)| !peering.calm.is_empty());
            let calm: Vec<LinkId> = calm.map(|(link, _)| *link).collect();
            for link in calm {
                self.links.get_mut(&link).expect("listed above").ripen();
            }
        }
    }

    fn mark_on(&mut self, owner: OwnerTag, except: Option<LinkId>, mark: fn(&mut Peering, OwnerTag)) {
        let Some(replica) = self.replicas.get(&owner) else { return };
        debug_assert!(self.audience_is_whole(owner), "an owner is spoken of on a link that is not in its audience");
        let audience = self.audience.get(&owner).into_iter().flatten();
        for link in audience.filter(|link| Some(**link) != except) {
            let Some(peering) = self.links.get_mut(link) else { continue };
            if let Some(view) = peering.views.get_mut(&owner).filter(|view| view.lazy)
                && !contains(&view.scope, &replica.scope(&peering.domains))
            {
                // The peer asked for silence when this end could vouch for less.
                view.lazy = false;
            }
            mark(peering, owner);
        }
    }

    /// Whether nobody outside an owner's audience has anything to hear of it.
    fn audience_is_whole(&self, owner: OwnerTag) -> bool {
        let Some(replica) = self.replicas.get(&owner) else { return true };
        let outside = |link: &LinkId| self.audience.get(&owner).is_none_or(|audience| !audience.contains(link));
        self.links.iter().filter(|(link, _)| outside(link)).all(|(_, peering)| {
            let known = peering.views.get(&owner).is_some_and(|view| view.known.is_some());
            !known && replica.under(&peering.domains).next().is_none()
        })
    }

    /// A link is to hear of an owner from here on.
    pub(super) fn admit(&mut self, owner: OwnerTag, link: LinkId) {
        self.audience.entry(owner).or_default().insert(link);
    }

    /// A link covers something else than before: it is in the audience of owners of whom it sees entries.
    pub(super) fn admit_by_domains(&mut self, link: LinkId) {
        let Some(peering) = self.links.get(&link) else { return };
        let sees = |replica: &Replica| replica.entries.keys().any(|path| covered(&peering.domains, path));
        for (owner, _) in self.replicas.iter().filter(|(_, replica)| sees(replica)) {
            self.audience.entry(*owner).or_default().insert(link);
        }
    }

    pub(super) fn mark(&mut self, owner: OwnerTag, link: LinkId) {
        if let Some(peering) = self.links.get_mut(&link) {
            peering.mark(owner);
        }
    }

    pub(super) fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }
}
