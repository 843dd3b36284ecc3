//! The admitted facts of a space, and every question about them.
//!
//! A grow-only set with a rule for what belongs to it. The admitted set is the least set of facts such that a fact is in
//! it when its signature holds, and
//!
//! - **chain**: it is unchained, or the first of its signer's chain, or its predecessor is admitted, has the same signer
//!   and the number before;
//! - **authority**, by kind:
//!   - a chained grant: its signer is the root, or the subject of an admitted admin grant whose prefix contains its own;
//!   - an unchained grant: its signer is the subject of an admitted delegating grant that [hands it
//!     on](super::grant::Grant::delegates), or it is itself an admin or a delegating grant and its signer is as above;
//!   - a revocation: its signer is the root or has any admin grant; a succession: is the root; a generation: is the root,
//!     an admin of `/` or a voter;
//!   - everything else: its signer is the root or the subject of any admitted grant.
//!
//! Every condition asks only that other facts *are* admitted, never that one is not, so the least set exists, is unique,
//! and depends neither on the order of arrival nor on a clock; grants that support each other in a circle are not in it.
//! What is not admitted yet waits in a bounded room and is looked at again when what it lacks arrives.
//!
//! Two different facts of one signer with one number are both admitted, and [`Roster::forks`] names them: the evidence is
//! kept, and nothing depends on who heard what first.
//!
//! **What counts.** The admitted set only grows, so that all members hold the same one. Which of it *counts* is a function of
//! it: a revocation that is in force limits grants to what a frontier holds, a succession ends what a root may say, and facts
//! without authority are void. `roster::effect` says how; every question below but those about admission is about what counts.
//!
//! **Cost.** About 400 bytes a member with one grant; a question costs one lookup by subject. Where nothing was ever revoked
//! nothing has to be worked out; otherwise each batch of new facts costs a few passes over all of them.
//!
//! **Not here.** Expiry: only [`Roster::may_connect`] and [`Roster::read_prefixes_at`] look at it, for handshakes. An admin
//! turns it into a revocation where it is to bind history.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use smallvec::SmallVec;
use thiserror::Error;

use crate::id::{DeviceId, FactHash, Path, Prefix, SpaceId};
use crate::time::WallTime;
use crate::trust::device::{DeviceKey, ShortDeviceId};
use crate::trust::fact::{Fact, FactBody, FactError, Link};
use crate::trust::grant::{Grant, Role};

mod effect;
mod notice;
mod pending;
mod proof;
mod revoke;

use effect::Effects;
pub use effect::{Changes, Refusal};
pub use notice::Claim;
use notice::Notices;
pub use pending::MAX_PENDING;
use pending::Pending;
pub(crate) use proof::{Doubt, established};
pub use proof::{MAX_PROOF_BYTES, MAX_PROOF_FACTS};
pub use revoke::Ending;

/// Most facts of a space. At about 400 bytes each this is what bounds a roster's memory.
pub const MAX_FACTS: usize = 1_000_000;

/// Why a fact was refused. The roster is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Nobody signed this. Whoever sent it is at fault.
    #[error("the fact's signature does not hold")]
    Signature,
    /// Its predecessor is of another signer or has the wrong number. Whoever sent it is at fault.
    #[error("the fact does not fit behind the fact it names as its predecessor")]
    Chain,
    /// The waiting room is full of facts that lack something; this one can be offered again later.
    #[error("too many facts wait for their predecessors or for authority")]
    PendingFull,
    /// Its signer has made as many facts as one signer may. Whoever sent it is at fault, or has a greater bound.
    #[error("device {signer} has made {bound} facts, which is the bound")]
    SignerFull {
        /// Who.
        signer: DeviceId,
        /// How many a signer may make.
        bound: u64,
    },
    /// The space has as many facts as a roster takes.
    #[error("the space has {MAX_FACTS} facts, which is the bound")]
    Full,
}

/// What became of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insert {
    /// Admitted, and with it others that had waited for it: all of them, each after what it needs. To be stored and
    /// passed on.
    Admitted(Vec<FactHash>),
    /// It lacks a predecessor or authority and waits.
    Pending,
    /// It was here already.
    Known,
}

/// A device and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The device.
    pub device: DeviceId,
    /// Its grants, in order of admission. Grants that an invitation's key holds are not among them.
    pub grants: Vec<&'a Grant>,
}

/// The admitted facts of one space.
#[derive(Debug, Clone)]
pub struct Roster {
    space: SpaceId,
    /// In order of admission: each after what it needs.
    facts: Vec<Fact>,
    by_hash: BTreeMap<FactHash, u32>,
    /// Indexes of the grants of each subject.
    by_subject: BTreeMap<DeviceId, SmallVec<[u32; 2]>>,
    /// The newest fact of each signer's chain.
    chains: BTreeMap<DeviceId, (u64, FactHash)>,
    /// Devices with a voter grant that counts.
    voters: BTreeSet<DeviceId>,
    /// Subjects with a grant of their own that counts.
    members: usize,
    pending: Pending,
    /// Most facts of one signer's chain, but for a root's.
    signer_facts: u64,
    /// Facts refused for that.
    over: u64,
    /// Keys that are or were the space's root, or may yet turn out to have been.
    roots: BTreeSet<DeviceId>,
    /// What of the facts counts.
    effects: Effects,
    /// What facts say of single documents.
    notices: Notices,
    changes: Changes,
}

/// Whether a fact can be admitted now.
enum Standing {
    Admissible,
    Lacks,
    Never,
}

impl Roster {
    /// The roster of a space of which nothing but the id is known.
    pub fn new(space: SpaceId) -> Self {
        Self {
            space,
            facts: Vec::new(),
            by_hash: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            chains: BTreeMap::new(),
            voters: BTreeSet::new(),
            members: 0,
            pending: Pending::default(),
            signer_facts: u64::MAX,
            over: 0,
            roots: BTreeSet::from([DeviceId(space.0)]),
            effects: Effects::default(),
            notices: Notices::default(),
            changes: Changes::default(),
        }
    }

    /// The roster of facts that were admitted and stored here before, in any order. Signatures are not checked again.
    pub fn load(space: SpaceId, facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut roster = Self::new(space);
        for fact in facts {
            // A stored fact that is refused now is damaged or of no use; the others stand without it.
            let _ = roster.place(fact, usize::MAX);
        }
        roster.pending.shrink_to(MAX_PENDING);
        roster.settle();
        roster.changes = Changes::default();
        roster
    }

    /// Takes no facts into a signer's chain beyond this number, but a root's; those that are in stay. Facts are counted by
    /// their numbers, so that peers with one bound hold the same facts, in whatever order they came.
    pub fn bound_signers(&mut self, facts: u64) {
        self.signer_facts = facts;
    }

    /// How many facts were refused because their signers had made too many.
    pub fn over_bound(&self) -> u64 {
        self.over
    }

    /// Offers a fact.
    pub fn insert(&mut self, fact: Fact) -> Result<Insert, RosterError> {
        let inserted = self.offer(fact);
        self.settle();
        inserted
    }

    /// Offers many facts and works out once what they change. Comes back with everything that was admitted, each after what
    /// it needs; the others wait, were here already or are refused.
    pub fn insert_all(&mut self, facts: impl IntoIterator<Item = Fact>) -> Vec<FactHash> {
        let mut admitted = Vec::new();
        for fact in facts {
            if let Ok(Insert::Admitted(hashes)) = self.offer(fact) {
                admitted.extend(hashes);
            }
        }
        self.settle();
        admitted
    }

    fn offer(&mut self, fact: Fact) -> Result<Insert, RosterError> {
        let hash = fact.hash();
        if self.by_hash.contains_key(&hash) || self.pending.contains(&hash) {
            return Ok(Insert::Known);
        }
        if self.is_over(&fact) {
            self.over += 1;
            return Err(RosterError::SignerFull { signer: *fact.signer(), bound: self.signer_facts });
        }
        fact.verify(&self.space).map_err(|_| RosterError::Signature)?;
        self.place(fact, MAX_PENDING)
    }

    /// Signs a fact of this device and admits it: admin and delegating grants unchained, everything else at the end of
    /// the device's chain. Refused, with nothing changed, if the device has no right to make it. Comes back with
    /// everything that was admitted by it.
    pub fn author(&mut self, key: &DeviceKey, body: FactBody) -> Result<(Fact, Vec<FactHash>), FactError> {
        // What a root says has a place in its chain, so that a succession can say what of it counts.
        let by_root = self.roots.contains(&key.device());
        let unchained = !by_root && matches!(&body, FactBody::Grant(grant) if grant.goes_unchained());
        let mut link = if unchained { Link::Unchained } else { Link::behind(self.chain_end(&key.device())) };
        let mut fact = Fact::sign(key, &self.space, link, body)?;
        if let Some(index) = self.by_hash.get(&fact.hash()).copied() {
            if self.in_force(index) {
                return Ok((fact, Vec::new()));
            }
            // The very same grant was revoked: in the chain it is another one.
            link = Link::behind(self.chain_end(&key.device()));
            fact = Fact::sign(key, &self.space, link, fact.body().clone())?;
        }
        if self.is_over(&fact) {
            return Err(FactError::TooManyFacts { bound: self.signer_facts });
        }
        let admissible = matches!(self.standing(&fact), Standing::Admissible) && self.would_count(&fact);
        if !admissible || self.facts.len() >= MAX_FACTS {
            return Err(FactError::NotAuthorised);
        }
        let admitted = self.admit_with_followers(fact.clone());
        self.settle();
        Ok((fact, admitted))
    }

    fn is_over(&self, fact: &Fact) -> bool {
        fact.link().seq() > self.signer_facts && !self.roots.contains(fact.signer())
    }

    /// Whether a signer's chain takes so many facts more.
    fn has_room(&self, key: &DeviceKey, facts: u64) -> Result<(), FactError> {
        let last = self.chain_end(&key.device()).map_or(0, |(seq, _)| seq);
        let room = self.roots.contains(&key.device()) || last.saturating_add(facts) <= self.signer_facts;
        if room { Ok(()) } else { Err(FactError::TooManyFacts { bound: self.signer_facts }) }
    }

    fn place(&mut self, fact: Fact, room: usize) -> Result<Insert, RosterError> {
        if self.by_hash.contains_key(&fact.hash()) {
            return Ok(Insert::Known);
        }
        match self.standing(&fact) {
            Standing::Never => Err(RosterError::Chain),
            Standing::Lacks => {
                self.pending.add(fact, room).map_err(|pending::NoRoom| RosterError::PendingFull)?;
                Ok(Insert::Pending)
            }
            Standing::Admissible if self.facts.len() >= MAX_FACTS => Err(RosterError::Full),
            Standing::Admissible => Ok(Insert::Admitted(self.admit_with_followers(fact))),
        }
    }

    fn standing(&self, fact: &Fact) -> Standing {
        if let Some(previous) = fact.link().previous() {
            let Some(previous) = self.fact(&previous) else { return Standing::Lacks };
            if previous.signer() != fact.signer() || previous.link().seq().checked_add(1) != Some(fact.link().seq()) {
                return Standing::Never;
            }
        }
        if self.authorises(fact) { Standing::Admissible } else { Standing::Lacks }
    }

    /// Whether the admitted facts, of which some may not count, give `fact`'s signer the right to say it.
    fn authorises(&self, fact: &Fact) -> bool {
        let signer = fact.signer();
        says(self.roots.contains(signer), fact, self.known_grants_of(signer))
    }

    /// Admits a fact and everything that waited for it.
    fn admit_with_followers(&mut self, fact: Fact) -> Vec<FactHash> {
        let mut ready = vec![fact];
        let mut admitted = Vec::new();
        while let Some(fact) = ready.pop() {
            let hash = fact.hash();
            if self.by_hash.contains_key(&hash) {
                continue;
            }
            let subject = match fact.body() {
                FactBody::Grant(grant) => Some(grant.subject),
                FactBody::Succession(succession) => Some(succession.successor),
                _ => None,
            };
            self.admit(hash, fact);
            admitted.push(hash);
            for waiting in self.pending.concerned(&hash, subject.as_ref()) {
                let Some(fact) = self.pending.fact(&waiting) else { continue };
                match self.standing(fact) {
                    Standing::Lacks => {}
                    Standing::Never => drop(self.pending.remove(&waiting)),
                    Standing::Admissible if self.facts.len() + ready.len() >= MAX_FACTS => {}
                    Standing::Admissible => ready.extend(self.pending.remove(&waiting)),
                }
            }
        }
        admitted
    }

    fn admit(&mut self, hash: FactHash, fact: Fact) {
        let index = u32::try_from(self.facts.len()).expect("a roster holds at most MAX_FACTS facts");
        if let Some(grant) = fact.grant() {
            self.members += usize::from(grant.is_own() && !self.is_member(&grant.subject));
            self.by_subject.entry(grant.subject).or_default().push(index);
            if grant.is_own() && grant.role == Role::Voter {
                self.voters.insert(grant.subject);
            }
        }
        if let FactBody::Succession(succession) = fact.body() {
            self.roots.insert(succession.successor);
        }
        self.notices.note(&self.space, &fact, &mut self.changes);
        self.effects.note(&fact);
        let seq = fact.link().seq();
        if seq > 0 {
            let end = self.chains.entry(*fact.signer()).or_insert((seq, hash));
            // On a fork the smaller hash stands for both, so that every peer names the same one.
            if seq > end.0 || (seq == end.0 && hash < end.1) {
                *end = (seq, hash);
            }
        }
        self.by_hash.insert(hash, index);
        self.facts.push(fact);
    }

    /// The space.
    pub fn space(&self) -> &SpaceId {
        &self.space
    }

    /// Number of admitted facts.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether nothing is admitted yet.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// An admitted fact.
    pub fn fact(&self, hash: &FactHash) -> Option<&Fact> {
        self.by_hash.get(hash).map(|index| &self.facts[*index as usize])
    }

    /// Whether the fact is admitted.
    pub fn contains(&self, hash: &FactHash) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// All admitted facts in the order of their admission here, each after what it needs: the order to send them in.
    pub fn facts(&self) -> impl ExactSizeIterator<Item = &Fact> {
        self.facts.iter()
    }

    /// The hashes of all admitted facts, ascending: the items of domain 0.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = &FactHash> {
        self.by_hash.keys()
    }

    /// The newest fact of a device's chain.
    pub fn chain_end(&self, device: &DeviceId) -> Option<(u64, FactHash)> {
        self.chains.get(device).copied()
    }

    /// Facts that are named as predecessors by facts that wait, and are not here: what to ask for. At most `limit`.
    pub fn missing_predecessors(&self, limit: usize) -> Vec<FactHash> {
        self.pending.missing().filter(|hash| !self.contains(hash)).take(limit).collect()
    }

    /// Facts that wait for a predecessor or for authority. A device that has just joined stores them too, since its own
    /// proof may be among them; [`Roster::load`] takes them back.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Fact> {
        self.pending.facts()
    }

    /// Pairs of facts of one signer with one number: evidence of equivocation, or of a store restored from a copy. Looks
    /// at every fact.
    pub fn forks(&self) -> Vec<(FactHash, FactHash)> {
        let mut places: BTreeMap<(&DeviceId, u64), FactHash> = BTreeMap::new();
        let mut forks = Vec::new();
        for (hash, index) in &self.by_hash {
            let fact = &self.facts[*index as usize];
            if fact.link() == Link::Unchained {
                continue;
            }
            if let Some(other) = places.insert((fact.signer(), fact.link().seq()), *hash) {
                forks.push((other, *hash));
            }
        }
        forks
    }

    fn indexes_of(&self, device: &DeviceId) -> &[u32] {
        self.by_subject.get(device).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// Every grant to a device, whether it counts or not.
    fn known_grants_of(&self, device: &DeviceId) -> impl Iterator<Item = &Grant> + use<'_> {
        self.indexes_of(device).iter().filter_map(|index| self.facts[*index as usize].grant())
    }

    /// The rights of a device, in order of admission.
    pub fn grants_of(&self, device: &DeviceId) -> impl Iterator<Item = &Grant> + use<'_> {
        self.grant_facts_of(device).filter_map(Fact::grant).filter(|grant| grant.is_own())
    }

    /// The facts that give a device its rights, in order of admission, and those by which it may hand rights on: what a
    /// revocation names.
    pub fn grant_facts_of(&self, device: &DeviceId) -> impl Iterator<Item = &Fact> + use<'_> {
        let indexes = self.indexes_of(device).iter().filter(|index| self.in_force(**index));
        indexes.map(|index| &self.facts[*index as usize])
    }

    /// Whether the device has any right of its own.
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.grants_of(device).next().is_some()
    }

    /// Whether the device may be let in by the local wall clock: it has a grant that has not ended.
    pub fn may_connect(&self, device: &DeviceId, now: WallTime) -> bool {
        self.grants_of(device).any(|grant| !grant.expired(now))
    }

    /// Whether the device may read the path.
    pub fn can_read(&self, device: &DeviceId, path: &Path) -> bool {
        self.grants_of(device).any(|grant| grant.reads(path))
    }

    /// Whether the device may read everything under the prefix by one grant.
    pub fn can_read_prefix(&self, device: &DeviceId, prefix: &Prefix) -> bool {
        self.grants_of(device).any(|grant| grant.role.reads() && grant.prefix.contains(prefix))
    }

    /// Whether the device may write the path.
    pub fn can_write(&self, device: &DeviceId, path: &Path) -> bool {
        self.grants_of(device).any(|grant| grant.writes(path))
    }

    /// Whether the device is an admin of all of the prefix.
    pub fn is_admin(&self, device: &DeviceId, prefix: &Prefix) -> bool {
        self.grants_of(device).any(|grant| grant.administers(prefix))
    }

    /// Whether the device may vote in the space's consensus group.
    pub fn is_voter(&self, device: &DeviceId) -> bool {
        self.voters.contains(device)
    }

    /// The devices that may vote, ascending.
    pub fn voters(&self) -> impl ExactSizeIterator<Item = &DeviceId> {
        self.voters.iter()
    }

    /// What the device may read: disjoint prefixes, ascending.
    pub fn read_prefixes(&self, device: &DeviceId) -> Vec<Prefix> {
        outermost(self.grants_of(device).filter(|grant| grant.role.reads()))
    }

    /// What the device may read by grants that have not ended: disjoint prefixes, ascending. For handshakes.
    pub fn read_prefixes_at(&self, device: &DeviceId, now: WallTime) -> Vec<Prefix> {
        outermost(self.grants_of(device).filter(|grant| grant.role.reads() && !grant.expired(now)))
    }

    /// Number of members.
    pub fn member_count(&self) -> usize {
        self.members
    }

    /// At most `limit` members after `after`, by ascending device.
    pub fn members(&self, after: Option<&DeviceId>, limit: usize) -> Vec<Member<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let subjects = self.by_subject.range::<DeviceId, _>((from, Bound::Unbounded));
        let members = subjects.map(|(device, _)| Member { device: *device, grants: self.grants_of(device).collect() });
        members.filter(|member| !member.grants.is_empty()).take(limit).collect()
    }

    /// The devices that a short id can mean, ascending: usually one, more only if keys were ground to collide. At most
    /// 4, so that colliding keys cost a bounded number of signature checks.
    pub fn resolve(&self, short: &ShortDeviceId) -> impl Iterator<Item = &DeviceId> + use<'_> {
        let (mut from, mut to) = ([0; 32], [0xff; 32]);
        from[..8].copy_from_slice(&short.0);
        to[..8].copy_from_slice(&short.0);
        self.by_subject.range(DeviceId(from)..=DeviceId(to)).map(|(device, _)| device).take(4)
    }
}

/// Whether a signer may say what a fact says: the root, or one that holds `held`.
fn says<'a>(is_root: bool, fact: &Fact, held: impl Iterator<Item = &'a Grant>) -> bool {
    let mut held = held.peekable();
    match fact.body() {
        FactBody::Grant(grant) => permits(is_root, fact.link(), held, grant),
        // Whoever it is may give up its own rights.
        FactBody::Revocation(it) if it.subject == *fact.signer() => is_root || held.peek().is_some(),
        FactBody::Revocation(_) => is_root || held.any(|held| held.is_own() && held.role == Role::Admin),
        FactBody::Succession(_) => is_root,
        FactBody::Generation(_) => {
            is_root || held.any(|held| held.is_own() && held.role == Role::Voter || held.administers(&Prefix::root()))
        }
        FactBody::Equivocation(_) | FactBody::Inventory(_) | FactBody::Unknown { .. } => {
            is_root || held.peek().is_some()
        }
    }
}

/// The one rule for grants: whether a signer that holds `held` may make `grant` at that place of its chain.
fn permits<'a>(is_root: bool, link: Link, mut held: impl Iterator<Item = &'a Grant>, grant: &Grant) -> bool {
    let chained = link != Link::Unchained;
    let for_admins = chained || grant.goes_unchained();
    (for_admins && is_root)
        || held.any(|held| (for_admins && held.administers(&grant.prefix)) || (!chained && held.delegates(grant)))
}

/// The prefixes of these grants without those that another one contains.
pub(crate) fn outermost<'a>(grants: impl Iterator<Item = &'a Grant>) -> Vec<Prefix> {
    let all: BTreeMap<&str, &Prefix> = grants.map(|grant| (grant.prefix.as_str(), &grant.prefix)).collect();
    let contained = |text: &str| {
        let mut above = text.match_indices('/').map(|(at, _)| if at == 0 { "/" } else { &text[..at] });
        text != "/" && above.any(|prefix| all.contains_key(prefix))
    };
    all.iter().filter(|(text, _)| !contained(text)).map(|(_, prefix)| (*prefix).clone()).collect()
}

#[cfg(test)]
mod tests;
