//! What of the admitted facts counts.
//!
//! The admitted set only grows; which of it counts is a function of it, worked out anew when it grows:
//!
//! - A **grant** counts in full unless a revocation in force *covers* it: one of its subject that names it, or names none,
//!   by the root, an admin of all of its prefix, or the subject itself. A covered grant supports what its subject did within
//!   the revocation's frontier and nothing else.
//! - A **fact** counts when the root may say it, or when a grant of its signer that counts gives it the right and supports it.
//! - A **revocation** is in force when it counts. Revocations may be beyond each other's frontiers, so they are taken in
//!   layers: one that nothing can touch first, then those that only it can touch. Revocations that touch each other in a
//!   circle are judged together, none by another one of the circle: two admins that revoke each other are both revoked.
//! - The **root** is the space's key until a succession by it, its successor from then on; of a former root counts what stands
//!   in its chain up to its succession. Of two successions by one root neither counts, nor what stands behind their parting,
//!   until an admin of `/` revokes one of them: a revocation of the successor that names the fact.
//!
//! A revocation whose inventories are not the list that its frontier names does nothing.
//!
//! What a revocation takes back a later one can restore: whoever may revoke the revoker names a frontier before it. A new
//! grant to a revoked device supports all that the device ever did, unless the revocation named no grant: that removes the
//! device for good.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Roster, permits, says};
use crate::id::{DeviceId, DocumentId, FactHash, Path, Prefix};
use crate::trust::endorsement::Endorsement;
use crate::trust::fact::{Fact, FactBody, Link};
use crate::trust::grant::{Grant, Role};
use crate::trust::roster::Claim;
use crate::trust::statement::{Kept, MAX_FRONTIER, Revocation};
use crate::trust::tombstone::Tombstone;

/// Why what a device signed does not count, as far as this roster knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no grant to write the path.
    #[error("device {device} may not write here")]
    NotAWriter {
        /// Who signed.
        device: DeviceId,
    },
    /// It had one, and what it signed lies beyond the frontier of the revocation.
    #[error("device {device} was revoked, and this is not among what was kept")]
    Revoked {
        /// Who signed.
        device: DeviceId,
    },
}

/// What new facts changed of what counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Devices of whose past something counts that did not, or the other way round.
    pub devices: BTreeSet<DeviceId>,
    /// Documents of which facts say something new.
    pub documents: BTreeSet<DocumentId>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.documents.is_empty()
    }
}

/// What counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Effects {
    /// Whether the facts hold anything that may keep others from counting.
    touched: bool,
    /// Facts were admitted since this was worked out.
    stale: bool,
    /// How many facts there were when it was.
    known: usize,
    /// Facts that do not count.
    void: BTreeSet<u32>,
    /// Which revocations in force cover a grant.
    limits: BTreeMap<u32, Vec<u32>>,
    in_force: BTreeMap<u32, InForce>,
    /// The root's reigns, the present one last. Empty: the space's key reigns from the beginning.
    reigns: Vec<Reign>,
}

/// A revocation in force.
#[derive(Debug, Clone)]
struct InForce {
    /// Prefixes whose grants it can cover.
    scope: Scope,
    list: std::sync::Arc<List>,
}

#[derive(Debug, Clone)]
enum Scope {
    All,
    Under(Vec<Prefix>),
}

impl Scope {
    fn contains(&self, prefix: &Prefix) -> bool {
        match self {
            Scope::All => true,
            Scope::Under(prefixes) => prefixes.iter().any(|admin| admin.contains(prefix)),
        }
    }
}

/// What a revocation keeps.
#[derive(Debug)]
struct List {
    kept: Kept,
    /// The facts at and below the one that the frontier names; `None` while that one is not here, when numbers decide.
    chain: Option<BTreeSet<FactHash>>,
    last: u64,
}

impl List {
    fn keeps(&self, fact: &Fact) -> bool {
        let hash = fact.hash();
        let on_chain = match &self.chain {
            Some(chain) => chain.contains(&hash),
            None => fact.link() != Link::Unchained && fact.link().seq() <= self.last,
        };
        on_chain || self.kept.fact(&hash)
    }
}

/// The time in which one key is the root.
#[derive(Debug, Clone)]
struct Reign {
    root: DeviceId,
    /// Of a reign that is over: the facts of its chain that count.
    ended: Option<BTreeSet<FactHash>>,
}

impl Effects {
    /// Takes note of a new fact.
    pub(super) fn note(&mut self, fact: &Fact) {
        self.touched |= matches!(fact.body(), FactBody::Revocation(_) | FactBody::Succession(_));
        self.stale = true;
    }
}

/// A revocation that may be in force, while that is worked out.
struct Candidate<'a> {
    index: u32,
    fact: &'a Fact,
    revocation: &'a Revocation,
    list: std::sync::Arc<List>,
}

/// What counts, in the making.
struct Making<'a> {
    roster: &'a Roster,
    effects: Effects,
    counts: Vec<bool>,
}

impl Roster {
    /// Works out what counts, if facts came since that was last done.
    pub(super) fn settle(&mut self) {
        if !std::mem::take(&mut self.effects.stale) || !self.effects.touched {
            return;
        }
        let new = Making::of(self).finish();
        let old = std::mem::replace(&mut self.effects, new);
        let subjects = [&old, &self.effects].into_iter().flat_map(|effects| effects.limits.keys().chain(&effects.void));
        let subjects = subjects.filter_map(|index| self.facts[*index as usize].grant()).map(|grant| grant.subject);
        let subjects: BTreeSet<DeviceId> = subjects.collect();
        let state = |effects: &Effects, device: &DeviceId, known: usize| -> Vec<(u32, bool, Vec<u32>)> {
            let indexes = self.indexes_of(device).iter().filter(|index| (**index as usize) < known);
            let limits = |index: &u32| effects.limits.get(index).cloned().unwrap_or_default();
            indexes.map(|index| (*index, effects.void.contains(index), limits(index))).collect()
        };
        // A grant that came since has no state in what was worked out before it.
        let changed = subjects
            .into_iter()
            .filter(|device| state(&old, device, old.known) != state(&self.effects, device, usize::MAX));
        let changed: Vec<DeviceId> = changed.collect();
        self.changes.devices.extend(changed);
        self.recount();
    }

    /// Counts members and voters anew.
    fn recount(&mut self) {
        let subjects: Vec<DeviceId> = self.by_subject.keys().copied().collect();
        self.members = subjects.iter().filter(|device| self.is_member(device)).count();
        let votes = |device: &DeviceId| self.grants_of(device).any(|grant| grant.role == Role::Voter);
        self.voters = subjects.into_iter().filter(votes).collect();
    }

    /// What facts changed since this was last asked.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Whether [`Roster::take_changes`] has anything to say.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Every device and document of which facts may keep something from counting: what [`Roster::take_changes`] names over
    /// a roster's whole life.
    pub fn all_changes(&self) -> Changes {
        let indexes = self.effects.limits.keys().chain(&self.effects.void);
        let devices = indexes.filter_map(|index| self.facts[*index as usize].grant()).map(|grant| grant.subject);
        Changes { devices: devices.collect(), documents: self.notices.documents().copied().collect() }
    }

    /// Whether a grant counts in full.
    pub(super) fn in_force(&self, index: u32) -> bool {
        !self.effects.void.contains(&index) && !self.effects.limits.contains_key(&index)
    }

    /// Whether a grant supports what its subject says in `fact`.
    pub(super) fn supports(&self, index: u32, fact: &Fact) -> bool {
        self.effects.supports(index, fact) && !self.effects.void.contains(&index)
    }

    /// Whether the fact would count if it were admitted.
    pub(super) fn would_count(&self, fact: &Fact) -> bool {
        let indexes = self.indexes_of(fact.signer()).iter().filter(|index| self.supports(**index, fact));
        let held = indexes.filter_map(|index| self.facts[*index as usize].grant());
        says(self.root_may_say(fact), fact, held)
    }

    /// Whether a grant that is not admitted here is covered by a revocation all the same: its subject was removed.
    pub(super) fn bars(&self, hash: &FactHash, grant: &Grant) -> bool {
        self.effects.in_force.iter().any(|(index, it)| {
            let FactBody::Revocation(revocation) = self.facts[*index as usize].body() else { return false };
            covers(revocation, &it.scope, hash, grant)
        })
    }

    /// Whether the fact is one that its signer may say as the root, present or former.
    pub(super) fn root_may_say(&self, fact: &Fact) -> bool {
        self.effects.root_may_say(self, fact)
    }

    /// The key that is the space's root now; `None` while two successions contradict each other.
    pub fn root(&self) -> Option<DeviceId> {
        match self.effects.reigns.last() {
            None => Some(DeviceId(self.space().0)),
            Some(reign) => reign.ended.is_none().then_some(reign.root),
        }
    }

    /// Whether a fact is admitted and counts.
    pub fn counts(&self, hash: &FactHash) -> bool {
        self.by_hash.get(hash).is_some_and(|index| !self.effects.void.contains(index))
    }

    /// Whether an endorsement counts for a document at `path`. Its signature is not checked.
    ///
    /// What somebody else vouches for of a device's own chain, because the device contradicted itself further on, counts only
    /// as far as the device's own word for it would: a revocation is not undone by whoever vouched.
    pub fn endorses(&self, endorsement: &Endorsement, path: &Path) -> Result<(), Refusal> {
        self.judge(&endorsement.device, path, |list| list.kept.endorsement(endorsement))?;
        match self.claimed_author(endorsement) {
            Some(author) => self.judge(&author, path, |list| list.kept.endorsement(endorsement)),
            None => Ok(()),
        }
    }

    /// The device whose own changes an endorsement by another one covers, as far as claims name it.
    pub(crate) fn claimed_author(&self, endorsement: &Endorsement) -> Option<DeviceId> {
        let claims = self.claims(&endorsement.document);
        if claims.is_empty() {
            return None;
        }
        let actor = endorsement.actor();
        let of_other = |claim: &&Claim| claim.actor == actor && claim.device != endorsement.device;
        claims.iter().find(of_other).map(|claim| claim.device)
    }

    /// Documents in which one of these devices is said to have contradicted itself.
    pub(crate) fn documents_contested_by(&self, devices: &BTreeSet<DeviceId>) -> impl Iterator<Item = &DocumentId> {
        self.notices.contested_by(devices)
    }

    /// Whether a tombstone counts. Its signature is not checked.
    pub fn deletes(&self, tombstone: &Tombstone) -> Result<(), Refusal> {
        let hash = tombstone.hash();
        self.judge(tombstone.device(), tombstone.path(), |list| list.kept.tombstone(&hash))
    }

    fn judge(&self, device: &DeviceId, path: &Path, kept: impl Fn(&List) -> bool) -> Result<(), Refusal> {
        let mut refusal = Refusal::NotAWriter { device: *device };
        for index in self.indexes_of(device) {
            let writes = self.facts[*index as usize].grant().is_some_and(|grant| grant.writes(path));
            if !writes || self.effects.void.contains(index) {
                continue;
            }
            let limits = self.effects.limits.get(index).map(Vec::as_slice).unwrap_or_default();
            if limits.iter().all(|revocation| self.effects.in_force.get(revocation).is_some_and(|it| kept(&it.list))) {
                return Ok(());
            }
            refusal = Refusal::Revoked { device: *device };
        }
        Err(refusal)
    }

    /// Whether anything of the device was revoked.
    pub fn is_revoked(&self, device: &DeviceId) -> bool {
        self.indexes_of(device).iter().any(|index| self.effects.limits.contains_key(index))
    }

    /// What is said against chains of a document.
    pub fn claims(&self, document: &DocumentId) -> &[Claim] {
        self.notices.claims(document)
    }

    /// Endorsements of a document that facts carry. Their signatures are not checked.
    pub fn posted(&self, document: &DocumentId) -> &[Endorsement] {
        self.notices.posted(document)
    }

    /// The facts of a device that are not at or below the end of its chain: those outside the chain, and those of a fork.
    pub(crate) fn facts_off_chain(&self, device: &DeviceId) -> BTreeSet<FactHash> {
        let chain = self.chain_end(device).map(|(_, end)| self.at_and_below(end)).unwrap_or_default();
        let own = self.by_hash.iter().filter(|(_, index)| self.facts[**index as usize].signer() == device);
        own.map(|(hash, _)| *hash).filter(|hash| !chain.contains(hash)).collect()
    }

    /// A fact and those before it in its chain.
    fn at_and_below(&self, end: FactHash) -> BTreeSet<FactHash> {
        let mut chain = BTreeSet::new();
        let mut next = Some(end);
        while let Some(fact) = next.and_then(|hash| self.fact(&hash)) {
            chain.insert(fact.hash());
            next = fact.link().previous();
        }
        chain
    }

    /// What a revocation keeps: the inventories right before it, if they are what its frontier names.
    fn list_of(&self, fact: &Fact, revocation: &Revocation) -> Option<List> {
        let frontier = &revocation.frontier;
        if frontier.entries > MAX_FRONTIER as u64 {
            return None;
        }
        let (mut pieces, mut entries) = (Vec::new(), 0);
        let mut next = fact.link().previous();
        while entries < frontier.entries {
            let before = self.fact(&next?)?;
            let FactBody::Inventory(inventory) = before.body() else { return None };
            if inventory.device != revocation.subject || inventory.deeds.is_empty() {
                return None;
            }
            entries += inventory.deeds.len() as u64;
            pieces.push(inventory);
            next = before.link().previous();
        }
        let deeds = pieces.iter().rev().flat_map(|piece| piece.deeds.iter());
        let kept = Kept::read(frontier, deeds)?;
        let (last, chain) = match frontier.chain {
            None => (0, Some(BTreeSet::new())),
            Some((seq, end)) => (seq, self.contains(&end).then(|| self.at_and_below(end))),
        };
        Some(List { kept, chain, last })
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let indexed = (0u32..).zip(&self.facts);
        let candidates = indexed.filter_map(|(index, fact)| {
            let FactBody::Revocation(revocation) = fact.body() else { return None };
            let list = std::sync::Arc::new(self.list_of(fact, revocation)?);
            Some(Candidate { index, fact, revocation, list })
        });
        candidates.collect()
    }

    /// The facts that what `fact` says may rest on, itself included: grants of its signer, of their signers, and so on, and
    /// successions on the way.
    fn rests_on(&self, fact: &Fact) -> BTreeSet<FactHash> {
        let mut all = BTreeSet::from([fact.hash()]);
        let mut devices = BTreeSet::new();
        let mut open = vec![*fact.signer()];
        while let Some(device) = open.pop() {
            if !devices.insert(device) {
                continue;
            }
            let grants = self.indexes_of(&device).iter().map(|index| &self.facts[*index as usize]);
            let successions = self.roots.contains(&device).then(|| self.successions_to(device)).into_iter().flatten();
            for above in grants.chain(successions) {
                all.insert(above.hash());
                open.push(*above.signer());
            }
        }
        all
    }

    fn successions_to(&self, successor: DeviceId) -> impl Iterator<Item = &Fact> {
        let to = move |fact: &&Fact| matches!(fact.body(), FactBody::Succession(it) if it.successor == successor);
        self.facts.iter().filter(to)
    }
}

impl Roster {
    /// Whether the device, or the root if that is it, may end a grant.
    pub(super) fn may_revoke(&self, device: &DeviceId, grant: &Grant) -> bool {
        grant.subject == *device || self.root() == Some(*device) || self.is_admin(device, &grant.prefix)
    }
}

/// Whether a revocation of this reach covers a grant.
fn covers(revocation: &Revocation, scope: &Scope, hash: &FactHash, grant: &Grant) -> bool {
    revocation.subject == grant.subject
        && (revocation.grants.is_empty() || revocation.grants.binary_search(hash).is_ok())
        && scope.contains(&grant.prefix)
}

impl Effects {
    fn supports(&self, index: u32, fact: &Fact) -> bool {
        let limits = self.limits.get(&index).map(Vec::as_slice).unwrap_or_default();
        limits.iter().all(|revocation| self.in_force.get(revocation).is_some_and(|it| it.list.keeps(fact)))
    }

    fn root_may_say(&self, roster: &Roster, fact: &Fact) -> bool {
        if self.reigns.is_empty() {
            return fact.signer().0 == roster.space.0;
        }
        self.reigns.iter().filter(|reign| reign.root == *fact.signer()).any(|reign| match &reign.ended {
            None => true,
            Some(counting) => counting.contains(&fact.hash()),
        })
    }
}

impl<'a> Making<'a> {
    fn of(roster: &'a Roster) -> Self {
        let effects = Effects { touched: true, known: roster.facts.len(), ..Effects::default() };
        let mut making = Self { roster, effects, counts: Vec::new() };
        let candidates = roster.candidates();
        for layer in layers(roster, &candidates) {
            making.reign();
            making.count();
            let in_force: Vec<(u32, InForce)> = layer
                .into_iter()
                .map(|at| &candidates[at])
                .filter(|it| making.counts[it.index as usize])
                .map(|it| (it.index, InForce { scope: making.scope_of(it), list: it.list.clone() }))
                .collect();
            making.effects.in_force.extend(in_force);
        }
        making.reign();
        making.count();
        making
    }

    fn finish(mut self) -> Effects {
        let void = (0u32..).zip(&self.counts).filter(|(_, counts)| !**counts).map(|(index, _)| index);
        self.effects.void = void.collect();
        self.effects
    }

    /// Where the signer of a revocation may revoke.
    fn scope_of(&self, it: &Candidate<'_>) -> Scope {
        if it.revocation.subject == *it.fact.signer() || self.effects.root_may_say(self.roster, it.fact) {
            return Scope::All;
        }
        let indexes = self.roster.indexes_of(it.fact.signer()).iter();
        let held = indexes.filter(|index| self.counts[**index as usize] && self.effects.supports(**index, it.fact));
        let grants = held.filter_map(|index| self.roster.facts[*index as usize].grant());
        let admins = grants.filter(|grant| grant.is_own() && grant.role == Role::Admin);
        Scope::Under(admins.map(|grant| grant.prefix.clone()).collect())
    }

    /// Who was and is the root, by the revocations found to be in force.
    fn reign(&mut self) {
        let (roster, mut reigns) = (self.roster, Vec::new());
        let mut root = DeviceId(roster.space.0);
        loop {
            let heirs: Vec<&Fact> = self.heirs(&reigns, root);
            let parting = heirs.iter().map(|heir| roster.at_and_below(heir.hash()));
            let common = parting.reduce(|one, other| one.intersection(&other).copied().collect());
            reigns.push(Reign { root, ended: common });
            let [heir] = &heirs[..] else { break };
            let FactBody::Succession(succession) = heir.body() else { break };
            root = succession.successor;
        }
        self.effects.reigns = if reigns.len() == 1 && reigns[0].ended.is_none() { Vec::new() } else { reigns };
    }

    /// The successions by `root` that stand: one, unless they contradict each other.
    fn heirs(&self, reigns: &[Reign], root: DeviceId) -> Vec<&'a Fact> {
        let roster = self.roster;
        let named = |fact: &&Fact| {
            let FactBody::Succession(succession) = fact.body() else { return false };
            let new = !reigns.iter().any(|reign| reign.root == succession.successor) && succession.successor != root;
            *fact.signer() == root && new && succession.verify_consent(&roster.space, &root).is_ok()
        };
        let all: Vec<&Fact> = roster.facts.iter().filter(named).collect();
        if all.len() < 2 {
            return all;
        }
        let struck = |fact: &Fact| {
            self.effects.in_force.iter().any(|(index, it)| {
                let FactBody::Revocation(revocation) = roster.facts[*index as usize].body() else { return false };
                let FactBody::Succession(succession) = fact.body() else { return false };
                revocation.subject == succession.successor
                    && revocation.grants.binary_search(&fact.hash()).is_ok()
                    && it.scope.contains(&Prefix::root())
            })
        };
        all.into_iter().filter(|fact| !struck(fact)).collect()
    }

    /// The least set of facts that count, by the revocations found to be in force.
    fn count(&mut self) {
        let roster = self.roster;
        self.effects.limits.clear();
        for (index, it) in &self.effects.in_force {
            let FactBody::Revocation(revocation) = roster.facts[*index as usize].body() else { continue };
            for grant_index in roster.indexes_of(&revocation.subject) {
                let fact = &roster.facts[*grant_index as usize];
                if fact.grant().is_some_and(|grant| covers(revocation, &it.scope, &fact.hash(), grant)) {
                    self.effects.limits.entry(*grant_index).or_default().push(*index);
                }
            }
        }
        self.counts = vec![false; roster.facts.len()];
        // Facts stand behind what admitted them, so one pass finds nearly all; another support may stand further back.
        loop {
            let mut more = false;
            for (index, fact) in roster.facts.iter().enumerate() {
                if !self.counts[index] && self.is_supported(fact) {
                    self.counts[index] = true;
                    more = true;
                }
            }
            if !more {
                break;
            }
        }
    }

    fn is_supported(&self, fact: &Fact) -> bool {
        let indexes = self.roster.indexes_of(fact.signer()).iter();
        let held = indexes.filter(|index| self.counts[**index as usize] && self.effects.supports(**index, fact));
        let held = held.filter_map(|index| self.roster.facts[*index as usize].grant());
        let is_root = self.effects.root_may_say(self.roster, fact);
        match fact.body() {
            FactBody::Grant(grant) => permits(is_root, fact.link(), held, grant),
            // They speak for themselves.
            FactBody::Equivocation(_) | FactBody::Inventory(_) => true,
            _ => says(is_root, fact, held),
        }
    }
}

/// The candidates in layers: each layer can be touched by earlier ones and, in circles, by itself.
fn layers(roster: &Roster, candidates: &[Candidate<'_>]) -> Vec<Vec<usize>> {
    let mut by_subject: BTreeMap<DeviceId, Vec<usize>> = BTreeMap::new();
    for (at, it) in candidates.iter().enumerate() {
        by_subject.entry(it.revocation.subject).or_default().push(at);
    }
    // touched_by[r]: the revocations that may keep r from counting.
    let touched_by: Vec<Vec<usize>> = candidates
        .iter()
        .map(|it| {
            let mut by = BTreeSet::new();
            for fact in roster.rests_on(it.fact).iter().filter_map(|hash| roster.fact(hash)) {
                let of_signer = by_subject.get(fact.signer()).into_iter().flatten();
                by.extend(of_signer.copied().filter(|at| !candidates[*at].list.keeps(fact)));
                if let FactBody::Succession(succession) = fact.body() {
                    let naming = by_subject.get(&succession.successor).into_iter().flatten();
                    by.extend(naming.copied().filter(|at| candidates[*at].revocation.grants.contains(&fact.hash())));
                }
            }
            by.into_iter().collect()
        })
        .collect();
    let component = components(&touched_by);
    // A component's layer is one above the highest that touches it. Components come numbered with touchers first.
    let count = component.iter().max().map_or(0, |last| last + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    component.iter().enumerate().for_each(|(at, number)| members[*number].push(at));
    let mut layer_of = vec![0usize; count];
    for number in 0..count {
        let touching = members[number].iter().flat_map(|at| &touched_by[*at]).map(|by| component[*by]);
        let below = touching.filter(|by| *by != number).map(|by| layer_of[by] + 1).max();
        layer_of[number] = below.unwrap_or(0);
    }
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); layer_of.iter().max().map_or(0, |last| last + 1)];
    component.iter().enumerate().for_each(|(at, number)| layers[layer_of[*number]].push(at));
    layers
}

/// Strongly connected components (Tarjan 1972, without recursion), numbered so that whatever a node points to has a number
/// that is not greater than its own.
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let count = edges.len();
    let (mut order, mut low, mut component) = (vec![NONE; count], vec![NONE; count], vec![NONE; count]);
    let (mut next, mut found) = (0, 0);
    let mut stack: Vec<usize> = Vec::new();
    for start in 0..count {
        if order[start] != NONE {
            continue;
        }
        let mut calls = vec![(start, 0)];
        while let Some((node, edge)) = calls.pop() {
            if edge == 0 {
                (order[node], low[node]) = (next, next);
                next += 1;
                stack.push(node);
            }
            match edges[node].get(edge).copied() {
                Some(to) => {
                    calls.push((node, edge + 1));
                    if order[to] == NONE {
                        calls.push((to, 0));
                    } else if component[to] == NONE {
                        low[node] = low[node].min(order[to]);
                    }
                }
                None => {
                    if low[node] == order[node] {
                        while let Some(member) = stack.pop() {
                            component[member] = found;
                            if member == node {
                                break;
                            }
                        }
                        found += 1;
                    }
                    if let Some((parent, _)) = calls.last() {
                        low[*parent] = low[*parent].min(low[node]);
                    }
                }
            }
        }
    }
    component
}
