//! One space: its roster, its index, and the reconciled sets of its domains.

use std::collections::BTreeMap;

use super::SpaceInfo;
use super::index::{Entry, Index};
use super::keys::{SpaceNumber, SpaceRecord};
use crate::id::{DeviceId, FactHash, Path, Prefix, SpaceId};
use crate::reconcile::{Item, Root, Summary};
use crate::time::WallTime;
use crate::trust::Roster;
use crate::wire::v1::{DomainTag, FACTS_DOMAIN};

/// Most domains whose sets are kept up to date. Links ask for few; more means that somebody asks for odd prefixes, and
/// the least recently used set is built anew when it is needed again.
pub(super) const MAX_DOMAINS: usize = 64;

/// A domain that some link reconciles.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) summary: Summary,
    /// Root of the summary, made when first asked for after a change.
    root: Option<Root>,
}

impl Domain {
    pub(super) fn new(summary: Summary) -> Self {
        Self { summary, root: None }
    }

    pub(super) fn change(&mut self, f: impl FnOnce(&mut Summary)) {
        f(&mut self.summary);
        self.root = None;
    }

    pub(super) fn root(&mut self) -> Root {
        *self.root.get_or_insert_with(|| self.summary.root())
    }
}

/// Exchanges in a summary what an entry contributed before for what it contributes now.
pub(super) fn replace_items(summary: &mut Summary, old: Option<&Entry>, new: &Entry) {
    let old_items = old.map(Entry::items).unwrap_or_default();
    let new_items = new.items();
    old_items.iter().filter(|i| !new_items.contains(i)).for_each(|i| summary.remove(i));
    new_items.iter().filter(|i| !old_items.contains(i)).for_each(|i| summary.add(i));
}

fn summarise<'a>(entries: impl Iterator<Item = &'a Entry>) -> Summary {
    let mut summary = Summary::new();
    entries.for_each(|e| e.items().iter().for_each(|i| summary.add(i)));
    summary
}

/// One space of a store.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) number: SpaceNumber,
    pub(super) record: SpaceRecord,
    pub(super) roster: Roster,
    pub(super) facts: Domain,
    /// Facts stored so far: the next fact's place in table `facts`.
    pub(super) facts_stored: u64,
    pub(super) index: Index,
    pub(super) domains: BTreeMap<Prefix, Domain>,
}

impl Space {
    pub(super) fn new(number: SpaceNumber, record: SpaceRecord, roster: Roster, index: Index) -> Self {
        let mut space =
            Self { number, facts_stored: 0, facts: Domain::default(), domains: BTreeMap::new(), record, roster, index };
        space.rebuild_facts();
        space
    }

    pub(super) fn id(&self) -> SpaceId {
        self.record.id
    }

    pub(super) fn info(&self) -> SpaceInfo {
        SpaceInfo {
            id: self.record.id,
            name: self.record.name.clone(),
            documents: self.index.live(),
            root: self.record.root_seed.is_some(),
            addresses: self.record.addresses.clone(),
        }
    }

    /// Adds hashes of newly admitted facts to the set of domain 0.
    pub(super) fn admit_facts(&mut self, hashes: &[FactHash]) {
        let mut summary = std::mem::take(&mut self.facts).summary;
        hashes.iter().for_each(|h| summary.add(&fact_item(h)));
        self.facts = Domain::new(summary);
    }

    fn rebuild_facts(&mut self) {
        let mut summary = Summary::new();
        self.roster.hashes().for_each(|h| summary.add(&fact_item(h)));
        self.facts = Domain::new(summary);
    }

    /// Takes a domain's summary from the store.
    pub(super) fn keep_domain(&mut self, prefix: Prefix, summary: Summary) {
        self.domains.insert(prefix, Domain::new(summary));
    }

    /// What this store wants of the space: its interests cut to what `device` may read.
    pub(super) fn interests(&self, device: &DeviceId) -> Vec<Prefix> {
        let readable = self.roster.read_prefixes(device);
        match &self.record.interests {
            None => canonical(readable),
            Some(wanted) => intersect(&readable, wanted),
        }
    }

    /// The domains of a link: what both sides want and may read.
    pub(super) fn common_domains(
        &self,
        own: &DeviceId,
        peer: &DeviceId,
        wanted: &[Prefix],
        now: WallTime,
    ) -> Vec<Prefix> {
        let theirs = intersect(&self.roster.read_prefixes_at(peer, now), wanted);
        intersect(&self.interests(own), &theirs)
    }

    /// The domain of a prefix, built if it is not kept.
    pub(super) fn domain(&mut self, prefix: &Prefix) -> &mut Domain {
        if !self.domains.contains_key(prefix) {
            if self.domains.len() >= MAX_DOMAINS {
                let victim = self.domains.keys().find(|p| p.as_str() != "/").cloned();
                victim.and_then(|v| self.domains.remove(&v));
            }
            let summary = summarise(self.index.under(prefix, None));
            self.domains.insert(prefix.clone(), Domain::new(summary));
        }
        self.domains.get_mut(prefix).expect("inserted above")
    }
}

/// The item of a fact in domain 0.
pub(super) fn fact_item(hash: &FactHash) -> Item {
    Item(hash.0)
}

/// The tag of a prefix's domain on the wire.
pub(super) fn domain_tag(prefix: &Prefix) -> DomainTag {
    let hash = blake3::hash(prefix.as_str().as_bytes());
    let tag: DomainTag = hash.as_bytes()[..4].try_into().expect("four of 32 bytes");
    // Zero is taken by the facts.
    if tag == FACTS_DOMAIN { [0, 0, 0, 1] } else { tag }
}

/// Sorted, without a prefix that another one contains.
pub(super) fn canonical(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_unstable();
    prefixes.dedup();
    let all = prefixes.clone();
    prefixes.retain(|p| !all.iter().any(|q| q != p && q.contains(p)));
    prefixes
}

/// Canonical, disjoint prefixes of what lies under both lists.
pub(super) fn intersect(a: &[Prefix], b: &[Prefix]) -> Vec<Prefix> {
    canonical(a.iter().flat_map(|p| b.iter().filter_map(|q| p.intersection(q))).collect())
}

/// Whether a path lies under one of the prefixes.
pub(super) fn covered(prefixes: &[Prefix], path: &Path) -> bool {
    prefixes.iter().any(|p| p.covers(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|t| Prefix::parse(t).unwrap()).collect()
    }

    #[test]
    fn intersections_are_canonical_and_disjoint() {
        let a = prefixes(&["/a", "/b/c", "/a/x"]);
        assert_eq!(intersect(&a, &prefixes(&["/"])), prefixes(&["/a", "/b/c"]));
        assert_eq!(intersect(&a, &prefixes(&["/b", "/a/y"])), prefixes(&["/a/y", "/b/c"]));
        assert_eq!(intersect(&a, &prefixes(&["/z"])), prefixes(&[]));
    }
}
