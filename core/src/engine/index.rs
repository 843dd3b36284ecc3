//! The index of a space: one entry a path generation, in memory.
//!
//! At rest a document is this entry and its rows on disk. Three orders serve three questions: by path (listing, ranges of
//! a domain), by id (what a peer names), by arrival (what is new since). Entries live in a slab so that each order costs a
//! number a document and not a copy.
//!
//! **Invariant:** the index holds only what is durable. It changes when a storage write has been answered, never before,
//! so whatever is computed from it may be told to a peer.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::SmallVec;

use crate::id::{Actor, ChangeHash, DocumentId, Path, Prefix, SpaceId};
use crate::reconcile::Item;
use crate::time::WallTime;
use crate::wire::v1::MAX_STATEMENT;
use crate::wire::{DecodeError, Reader, Writer};

/// Heads of a document, sorted. Nearly all documents at rest have one.
pub type Heads = SmallVec<[ChangeHash; 1]>;

/// Number of an entry in its index.
pub type Slot = u32;

/// The greatest arrival number: there is always a next one.
const MAX_ARRIVAL: u64 = 1 << 62;

/// Most tombstones kept of one generation: concurrent deletions beyond it add nothing (any one deletes).
pub const MAX_TOMBSTONES: usize = 16;

/// What left the admitted set of a document and is kept aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aside {
    /// How many changes; 0: they were discarded.
    pub changes: u32,
    /// Actors of this store that signed some of them, and must not be used again.
    pub spent: Vec<Actor>,
}

/// Most spent actors that a row holds: no store gets near.
const MAX_SPENT: usize = 65_536;

/// One generation of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: Path,
    /// Which generation of the path.
    pub generation: u32,
    /// The document.
    pub id: DocumentId,
    /// Heads of the admitted changes.
    pub heads: Heads,
    /// Bytes of the stored chunks.
    pub bytes: u64,
    /// Number of stored chunks.
    pub chunks: u32,
    /// Arrival number of the newest chunk or tombstone.
    pub arrival: u64,
    /// When that was, in seconds of the wall clock.
    pub changed_at: u32,
    /// Whether chunks from elsewhere came since the document was last hydrated without harm.
    pub unproven: bool,
    /// Where a snapshot stands for older chunks: the arrival number in its key, and the last that it covers.
    pub packed: Option<Box<(u64, u64)>>,
    /// Encoded tombstones; not empty: deleted.
    pub tombstones: Option<Box<Vec<Vec<u8>>>>,
    /// What was taken out of it.
    pub aside: Option<Box<Aside>>,
}

impl Entry {
    /// An entry without changes.
    pub fn new(space: &SpaceId, path: Path, generation: u32) -> Self {
        let id = DocumentId::derive(space, &path, generation);
        Self {
            path,
            generation,
            id,
            heads: Heads::new(),
            bytes: 0,
            chunks: 0,
            arrival: 0,
            changed_at: 0,
            unproven: false,
            packed: None,
            tombstones: None,
            aside: None,
        }
    }

    /// Whether a tombstone names this generation.
    pub fn deleted(&self) -> bool {
        self.tombstones.is_some()
    }

    /// Whether the generation is alive and has changes.
    pub fn exists(&self) -> bool {
        !self.deleted() && !self.heads.is_empty()
    }

    /// When it changed last.
    pub fn changed_at(&self) -> WallTime {
        WallTime(i64::from(self.changed_at) * 1000)
    }

    /// What this entry adds to the item set: its heads, or one item a tombstone.
    pub fn items(&self) -> SmallVec<[Item; 1]> {
        match &self.tombstones {
            Some(tombstones) => tombstones.iter().map(|t| Item::tombstone(blake3::hash(t).as_bytes())).collect(),
            None if self.heads.is_empty() => SmallVec::new(),
            None => SmallVec::from_buf([Item::document(&self.id, &self.heads)]),
        }
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let flags = [self.unproven, self.deleted(), self.packed.is_some(), self.aside.is_some()];
        w.u8((0..).zip(flags).map(|(bit, set)| u8::from(set) << bit).sum());
        w.varint(self.arrival).varint(u64::from(self.changed_at)).varint(self.bytes).varint(u64::from(self.chunks));
        w.list(&self.heads, |w, h| {
            w.array(&h.0);
        });
        if let Some(packed) = &self.packed {
            w.varint(packed.0).varint(packed.1);
        }
        if let Some(tombstones) = &self.tombstones {
            w.list(tombstones, |w, t| {
                w.bytes(t);
            });
        }
        if let Some(aside) = &self.aside {
            w.varint(u64::from(aside.changes)).list(&aside.spent, |w, actor| {
                w.bytes(actor.as_bytes());
            });
        }
        w.finish()
    }

    /// How many of its changes are kept aside since facts took them out.
    pub fn evicted(&self) -> u32 {
        self.aside.as_deref().map_or(0, |aside| aside.changes)
    }

    /// Reads a row.
    pub fn decode(space: &SpaceId, path: Path, generation: u32, value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        if flags & !0b1111 != 0 {
            return Err(DecodeError::Invalid { field: "flags" });
        }
        let mut entry = Self::new(space, path, generation);
        entry.unproven = flags & 1 != 0;
        entry.arrival = r.varint_max(MAX_ARRIVAL, "arrival")?;
        entry.changed_at = r.varint_max(u64::from(u32::MAX), "changed at")? as u32;
        entry.bytes = r.varint("bytes")?;
        entry.chunks = r.varint_max(u64::from(u32::MAX), "chunks")? as u32;
        let count = r.varint_max(u64::from(u32::MAX), "heads")?;
        for _ in 0..count {
            entry.heads.push(ChangeHash(r.array("head")?));
        }
        if flags & 4 != 0 {
            entry.packed = Some(Box::new((r.varint("snapshot arrival")?, r.varint("last packed arrival")?)));
        }
        if flags & 2 != 0 {
            let tombstones =
                r.list(MAX_TOMBSTONES, "tombstones", |r| Ok(r.bytes(MAX_STATEMENT, "tombstone")?.to_vec()))?;
            entry.tombstones = Some(Box::new(tombstones));
        }
        if flags & 8 != 0 {
            let changes = r.varint_max(u64::from(u32::MAX), "changes set aside")? as u32;
            let spent = r.list(MAX_SPENT, "spent actors", |r| {
                let actor = Actor::from_bytes(r.bytes(Actor::MAX_LEN, "spent actor")?);
                actor.ok_or(DecodeError::Invalid { field: "spent actor" })
            })?;
            entry.aside = Some(Box::new(Aside { changes, spent }));
        }
        r.finish()?;
        Ok(entry)
    }
}

/// Applies a change to sorted heads: `heads ∖ deps ∪ {hash}`.
pub fn advance_heads(heads: &mut Heads, hash: ChangeHash, deps: &[ChangeHash]) {
    heads.retain(|h| !deps.contains(h) && *h != hash);
    let at = heads.partition_point(|h| *h < hash);
    heads.insert(at, hash);
}

/// Entries a slab page holds: growth never copies more than the page table.
const PAGE: usize = 1024;

/// All entries of a space.
#[derive(Debug, Default)]
pub struct Index {
    pages: Vec<Vec<Entry>>,
    by_path: BTreeMap<(Path, u32), Slot>,
    by_id: BTreeMap<DocumentId, Slot>,
    by_arrival: BTreeMap<u64, Slot>,
    live: u64,
}

impl Index {
    /// An index of entries that come in path order, built in one go.
    pub fn build(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut index = Self::default();
        for entry in entries {
            index.live += u64::from(entry.exists());
            index.push_slab(entry);
        }
        let slots = || (0u32..).zip(index.pages.iter().flatten());
        let by_path = slots().map(|(slot, e)| ((e.path.clone(), e.generation), slot)).collect();
        let mut by_id: Vec<_> = slots().map(|(slot, e)| (e.id, slot)).collect();
        let mut by_arrival: Vec<_> = slots().map(|(slot, e)| (e.arrival, slot)).collect();
        by_id.sort_unstable();
        by_arrival.sort_unstable();
        index.by_path = by_path;
        index.by_id = by_id.into_iter().collect();
        index.by_arrival = by_arrival.into_iter().collect();
        index
    }

    /// Number of living documents.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Number of entries, tombstones included.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// The entry in a slot.
    pub fn entry(&self, slot: Slot) -> &Entry {
        &self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    /// The entry of a document.
    pub fn by_id(&self, id: &DocumentId) -> Option<&Entry> {
        self.by_id.get(id).map(|slot| self.entry(*slot))
    }

    /// The entry of a path's generation.
    pub fn generation(&self, path: &Path, generation: u32) -> Option<&Entry> {
        self.by_path.get(&(path.clone(), generation)).map(|slot| self.entry(*slot))
    }

    /// The live generation of a path: the least without a tombstone. It may have no entry yet.
    pub fn live_generation(&self, path: &Path) -> u32 {
        let range = self.by_path.range((path.clone(), 0)..=(path.clone(), u32::MAX));
        let mut live = 0;
        for ((_, generation), slot) in range {
            if *generation != live || !self.entry(*slot).deleted() {
                break;
            }
            live += 1;
        }
        live
    }

    /// The living document at a path.
    pub fn live_entry(&self, path: &Path) -> Option<&Entry> {
        self.generation(path, self.live_generation(path)).filter(|e| e.exists())
    }

    /// Inserts or replaces the entry of a path's generation; the replaced one comes back.
    pub fn upsert(&mut self, entry: Entry) -> Option<Entry> {
        self.live += u64::from(entry.exists());
        let key = (entry.path.clone(), entry.generation);
        if let Some(slot) = self.by_path.get(&key).copied() {
            let place = &mut self.pages[slot as usize / PAGE][slot as usize % PAGE];
            let arrival = entry.arrival;
            let old = std::mem::replace(place, entry);
            self.live -= u64::from(old.exists());
            if old.arrival != arrival {
                self.by_arrival.remove(&old.arrival);
                self.by_arrival.insert(arrival, slot);
            }
            return Some(old);
        }
        let (id, arrival) = (entry.id, entry.arrival);
        let slot = self.push_slab(entry);
        self.by_path.insert(key, slot);
        self.by_id.insert(id, slot);
        self.by_arrival.insert(arrival, slot);
        None
    }

    /// Entries under a prefix in path order, generations ascending, beginning after a path if one is given.
    pub fn under<'a>(&'a self, prefix: &'a Prefix, after: Option<&Path>) -> impl Iterator<Item = &'a Entry> {
        let start = match (after, Path::parse(prefix.as_str())) {
            (Some(after), Ok(first)) if *after < first => Bound::Included((first, 0)),
            (Some(after), _) => Bound::Excluded((after.clone(), u32::MAX)),
            (None, Ok(first)) => Bound::Included((first, 0)),
            (None, Err(_)) => Bound::Unbounded,
        };
        // Paths between "/a" and "/a/" in byte order ("/a b", "/a.b") do not lie under "/a": they are skipped, and the
        // walk ends at the first path that no longer begins with the prefix's text.
        self.by_path
            .range((start, Bound::Unbounded))
            .take_while(move |((path, _), _)| prefix.as_str() == "/" || path.as_str().starts_with(prefix.as_str()))
            .filter(move |((path, _), _)| prefix.covers(path))
            .map(|(_, slot)| self.entry(*slot))
    }

    /// Living documents under a prefix in path order, beginning after a path if one is given. A generation above the live
    /// one may be here already, before the tombstone that makes room for it: it is not listed.
    pub fn living<'a>(&'a self, prefix: &'a Prefix, after: Option<&Path>) -> impl Iterator<Item = &'a Entry> {
        let mut live: Option<(&Path, u32)> = None;
        self.under(prefix, after).filter(move |entry| {
            let generation = live.filter(|(path, _)| **path == entry.path).map_or(0, |(_, generation)| generation);
            let reached = entry.generation == generation;
            live = Some((&entry.path, generation + u32::from(reached && entry.deleted())));
            reached && entry.exists()
        })
    }

    /// Entries that changed after an arrival number, oldest first.
    pub fn arrived_since(&self, arrival: u64) -> impl Iterator<Item = &Entry> {
        self.by_arrival.range((Bound::Excluded(arrival), Bound::Unbounded)).map(|(_, slot)| self.entry(*slot))
    }

    /// All entries, the most recently changed first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.by_arrival.values().rev().map(|slot| self.entry(*slot))
    }

    /// The greatest arrival number.
    pub fn last_arrival(&self) -> u64 {
        self.by_arrival.last_key_value().map_or(0, |(arrival, _)| *arrival)
    }

    fn push_slab(&mut self, entry: Entry) -> Slot {
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            // The first page grows; later ones are made whole, so that a million entries leave no doubling slack.
            let room = if self.pages.is_empty() { 4 } else { PAGE };
            self.pages.push(Vec::with_capacity(room));
        }
        let page = self.pages.len() - 1;
        self.pages[page].push(entry);
        Slot::try_from(page * PAGE + self.pages[page].len() - 1).expect("fewer than 2^32 documents in a space")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId([5; 32]);

    fn entry(path: &str, generation: u32, arrival: u64) -> Entry {
        let mut entry = Entry::new(&SPACE, Path::parse(path).unwrap(), generation);
        entry.heads.push(ChangeHash([arrival as u8; 32]));
        entry.arrival = arrival;
        entry
    }

    fn paths<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
        entries.map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn rows_survive() {
        let mut e = entry("/a", 2, 9);
        e.tombstones = Some(Box::new(vec![vec![1, 2, 3]]));
        e.unproven = true;
        e.packed = Some(Box::new((3, 300)));
        assert_eq!(Entry::decode(&SPACE, e.path.clone(), 2, &e.encode()).unwrap(), e);
        let spent = vec![Actor::from_bytes(&[7; 16]).unwrap()];
        e.aside = Some(Box::new(Aside { changes: 3, spent }));
        assert_eq!(Entry::decode(&SPACE, e.path.clone(), 2, &e.encode()).unwrap(), e);
    }

    #[test]
    fn prefixes_list_what_they_cover_and_nothing_beside() {
        let mut index = Index::default();
        for (n, path) in ["/a", "/a b", "/a/x", "/a/y", "/a.z", "/b"].iter().enumerate() {
            index.upsert(entry(path, 0, n as u64 + 1));
        }
        let prefix = Prefix::parse("/a").unwrap();
        assert_eq!(paths(index.under(&prefix, None)), ["/a", "/a/x", "/a/y"]);
        assert_eq!(paths(index.under(&prefix, Some(&Path::parse("/a/x").unwrap()))), ["/a/y"]);
        assert_eq!(paths(index.under(&Prefix::root(), None)).len(), 6);
        assert_eq!(paths(index.under(&Prefix::parse("/a/x").unwrap(), Some(&Path::parse("/a").unwrap()))), ["/a/x"]);
    }

    #[test]
    fn the_live_generation_is_the_least_without_a_tombstone() {
        let mut index = Index::default();
        let path = Path::parse("/a").unwrap();
        assert_eq!(index.live_generation(&path), 0);
        let mut first = entry("/a", 0, 1);
        index.upsert(first.clone());
        index.upsert(entry("/a", 2, 2));
        assert_eq!(index.live_generation(&path), 0);
        first.tombstones = Some(Box::new(vec![vec![0]]));
        index.upsert(first);
        assert_eq!(index.live_generation(&path), 1, "generation 2 waits for the tombstone of 1");
        let listed: Vec<u32> = index.living(&Prefix::root(), None).map(|e| e.generation).collect();
        assert_eq!(listed, index.live_entry(&path).map(|e| e.generation).into_iter().collect::<Vec<_>>());
        assert_eq!(index.live(), 1);
    }

    #[test]
    fn built_and_grown_indexes_are_alike() {
        let entries: Vec<_> = (0..3000u64).map(|n| entry(&format!("/d/{n:05}"), 0, 3001 - n)).collect();
        let built = Index::build(entries.clone());
        let mut grown = Index::default();
        entries.iter().for_each(|e| {
            grown.upsert(e.clone());
        });
        assert_eq!(paths(built.newest_first()), paths(grown.newest_first()));
        assert_eq!(paths(built.arrived_since(2999)), ["/d/00001", "/d/00000"]);
        assert_eq!(built.by_id(&entries[7].id), grown.by_id(&entries[7].id));
        assert_eq!((built.live(), built.len(), built.last_arrival()), (3000, 3000, 3001));
    }

    #[test]
    fn heads_follow_the_rule() {
        let hash = |n| ChangeHash([n; 32]);
        let mut heads: Heads = SmallVec::from_slice(&[hash(1), hash(3)]);
        advance_heads(&mut heads, hash(2), &[hash(1)]);
        assert_eq!(heads.as_slice(), [hash(2), hash(3)]);
    }
}
