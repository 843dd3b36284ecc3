//! A check of everything that a store holds, row by row, without opening it as a peer.
//!
//! What is compared: every row decodes; every chunk has the hash that its dependants name and its dependencies before
//! it; an index row's heads, chunk count and bytes are those of the chunks; every change is covered by an endorsement
//! that verifies, of a device that may write there; facts verify and none waits for a missing predecessor; tombstones
//! verify; persisted roots are those of the index; no chunk or endorsement lies around without an index row.
//!
//! Nothing is written and nothing is repaired. Memory: the index (about 220 B a document), and one document's rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::document::chunk::Chunk;
use crate::document::log::{Log, Row};
use crate::document::row::{RowKind, StoredRow};
use crate::engine::index::Entry;
use crate::engine::keys::{self, SpaceNumber, SpaceRecord};
use crate::id::{Actor, DocumentId, Prefix, SpaceId};
use crate::io::{ReadOp, Rows, StorageFailure, Table};
use crate::reconcile::Summary;
use crate::session::{Ranges, Vouched};
use crate::store::Backend;
use crate::trust::{Endorsement, EndorsementKind, Fact, Roster, Tombstone};
use crate::wire::Codec;

/// Bytes that a page of a scan aims at.
const PAGE_BYTES: usize = 8 << 20;

/// Rows of the first page of a scan; further pages are sized by what the rows turn out to weigh.
const FIRST_PAGE: usize = 64;

/// What was found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: the table.
    pub table: Table,
    /// Where: a path, a space, or a key in hexadecimal.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What it means for whoever owns the data.
    pub severity: Severity,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the store works.
    Notice,
    /// Something cannot be read or trusted. Peers that have it can bring it back.
    Damage,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.table.name(), self.at, self.what)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Spaces.
    pub spaces: u64,
    /// Facts.
    pub facts: u64,
    /// Path generations, the deleted ones included.
    pub documents: u64,
    /// Changes.
    pub changes: u64,
    /// Bytes of changes.
    pub change_bytes: u64,
    /// Changes that stay out of the view because Automerge does not survive them.
    pub hidden: u64,
    /// Endorsements.
    pub endorsements: u64,
    /// Persisted roots.
    pub roots: u64,
}

/// Checks a store. `each` is told of findings as they come and of progress (documents done) now and then.
///
/// # Errors
/// When the backend itself fails; what was found until then has been told.
pub fn check(store: &dyn Backend, each: &mut dyn FnMut(Told)) -> Result<Counts, StorageFailure> {
    let mut doctor = Doctor { store, each, counts: Counts::default(), spaces: BTreeMap::new() };
    doctor.meta()?;
    doctor.facts()?;
    let mut entries = doctor.index()?;
    doctor.documents(&mut entries)?;
    doctor.roots()?;
    Ok(doctor.counts)
}

/// What the caller of [`check`] is told.
#[derive(Debug)]
pub enum Told {
    /// Something is wrong.
    Finding(Finding),
    /// So many changes have been looked at.
    Progress(u64),
}

struct Doctor<'a> {
    store: &'a dyn Backend,
    each: &'a mut dyn FnMut(Told),
    counts: Counts,
    spaces: BTreeMap<SpaceNumber, Space>,
}

struct Space {
    record: SpaceRecord,
    roster: Roster,
    /// What each persisted root should be.
    domains: BTreeMap<Prefix, Summary>,
}

/// An index row, and what its document's rows have shown so far.
struct Checked {
    number: SpaceNumber,
    entry: Entry,
    seen: bool,
}

impl Doctor<'_> {
    fn found(&mut self, severity: Severity, table: Table, at: impl ToString, what: impl fmt::Display) {
        let finding = Finding { table, at: at.to_string(), what: what.to_string(), severity };
        (self.each)(Told::Finding(finding));
    }

    fn damage(&mut self, table: Table, at: impl ToString, what: impl fmt::Display) {
        self.found(Severity::Damage, table, at, what);
    }

    fn meta(&mut self) -> Result<(), StorageFailure> {
        let store = self.store;
        scan(store, Table::Meta, &mut |key, value| {
            let expected = match key {
                b"device" | b"peer" => Some(32),
                b"incarnation" | b"log-epoch" | b"life" => Some(8),
                _ => None,
            };
            if expected.is_some_and(|length| value.len() != length) {
                self.damage(Table::Meta, String::from_utf8_lossy(key), format_args!("{} bytes", value.len()));
            }
            let unread = match key {
                key if key.starts_with(keys::SET_ASIDE) => Ranges::from_bytes(value).err(),
                key if key.starts_with(keys::VOUCHED) => Vouched::from_bytes(value).err(),
                _ => None,
            };
            if let Some(error) = unread {
                self.damage(Table::Meta, hex(key), error);
            }
            let Some(number) = key.strip_prefix(b"space/") else { return };
            let number = number.try_into().map(SpaceNumber::from_be_bytes);
            match (number, SpaceRecord::from_bytes(value)) {
                (Ok(number), Ok(record)) => {
                    let roster = Roster::new(record.id);
                    self.counts.spaces += 1;
                    self.spaces.insert(number, Space { record, roster, domains: BTreeMap::new() });
                }
                (Ok(number), Err(e)) => self.damage(Table::Meta, format_args!("space {number}"), e),
                (Err(_), _) => self.damage(Table::Meta, hex(key), "not the key of a space"),
            }
        })
    }

    fn facts(&mut self) -> Result<(), StorageFailure> {
        let store = self.store;
        let mut facts: BTreeMap<SpaceNumber, Vec<Fact>> = BTreeMap::new();
        scan(store, Table::Facts, &mut |key, value| {
            self.counts.facts += 1;
            let number = key.get(..4).and_then(|n| n.try_into().ok()).map(SpaceNumber::from_be_bytes);
            let Some(space) = number.and_then(|number| self.spaces.get(&number)) else {
                return self.damage(Table::Facts, hex(key), "of no space of this store");
            };
            let checked = Fact::from_bytes(value).map_err(|e| e.to_string()).and_then(|fact| {
                fact.verify(&space.record.id).map_err(|e| e.to_string())?;
                Ok(fact)
            });
            match checked {
                Ok(fact) => facts.entry(number.unwrap_or_default()).or_default().push(fact),
                Err(e) => self.damage(Table::Facts, hex(key), e),
            }
        })?;
        for (number, facts) in facts {
            let Some(space) = self.spaces.get_mut(&number) else { continue };
            space.roster = Roster::load(space.record.id, facts);
            let (name, waiting) = (space.record.name.clone(), space.roster.waiting().len());
            if waiting > 0 {
                self.found(Severity::Notice, Table::Facts, name, format_args!("{waiting} wait for their predecessors"));
            }
        }
        self.prepare_domains()
    }

    /// Finds out which roots are persisted, so that one pass over the index makes them all.
    fn prepare_domains(&mut self) -> Result<(), StorageFailure> {
        let store = self.store;
        scan(store, Table::Roots, &mut |key, _| {
            if let Some((space, prefix)) = domain_of(key).and_then(|(n, p)| Some((self.spaces.get_mut(&n)?, p))) {
                space.domains.insert(prefix, Summary::new());
            }
        })
    }

    fn index(&mut self) -> Result<BTreeMap<DocumentId, Checked>, StorageFailure> {
        let store = self.store;
        let mut entries = BTreeMap::new();
        scan(store, Table::Index, &mut |key, value| {
            self.counts.documents += 1;
            let (number, path, generation) = match keys::parse_index(key) {
                Ok(parsed) => parsed,
                Err(e) => return self.damage(Table::Index, hex(key), e),
            };
            let Some(space) = self.spaces.get_mut(&number) else {
                return self.damage(Table::Index, path, "of no space of this store");
            };
            let entry = match Entry::decode(&space.record.id, path.clone(), generation, value) {
                Ok(entry) => entry,
                Err(e) => return self.damage(Table::Index, path, e),
            };
            for (prefix, summary) in &mut space.domains {
                if prefix.covers(&path) {
                    entry.items().iter().for_each(|item| summary.add(item));
                }
            }
            let bad: Vec<String> = tombstones(&entry).filter_map(|t| bad_tombstone(t, space, &entry)).collect();
            bad.into_iter().for_each(|what| self.damage(Table::Index, &path, what));
            entries.insert(entry.id, Checked { number, entry, seen: false });
        })?;
        Ok(entries)
    }

    /// Walks chunks and endorsements together, document by document.
    fn documents(&mut self, entries: &mut BTreeMap<DocumentId, Checked>) -> Result<(), StorageFailure> {
        let store = self.store;
        let mut endorsements = Documents::new(store, Table::Endorsements);
        let mut chunks = Documents::new(store, Table::Chunks);
        let mut endorsed = endorsements.next()?;
        let aside = entries.values().filter(|checked| checked.entry.aside.is_some());
        let aside: BTreeSet<DocumentId> = aside.map(|checked| keys::aside(&checked.entry.id)).collect();
        while let Some((id, rows)) = chunks.next()? {
            while let Some((other, rows)) = endorsed.take_if(|(other, _)| *other < id) {
                if !aside.contains(&other) {
                    self.stray_endorsements(other, &rows);
                }
                endorsed = endorsements.next()?;
            }
            let own = endorsed.take_if(|(other, _)| *other == id).map(|(_, rows)| rows);
            if own.is_some() {
                endorsed = endorsements.next()?;
            }
            match entries.get_mut(&id) {
                Some(checked) => self.document(checked, &rows, &own.unwrap_or_default()),
                None if aside.contains(&id) => {}
                None => self.damage(Table::Chunks, id, format_args!("{} chunks of no document", rows.len())),
            }
            (self.each)(Told::Progress(self.counts.changes));
        }
        while let Some((other, rows)) = endorsed {
            if !aside.contains(&other) {
                self.stray_endorsements(other, &rows);
            }
            endorsed = endorsements.next()?;
        }
        for checked in entries.values().filter(|c| !c.seen && c.entry.chunks > 0) {
            self.damage(Table::Index, &checked.entry.path, "its chunks are missing");
        }
        Ok(())
    }

    fn stray_endorsements(&mut self, id: DocumentId, rows: &Rows) {
        self.found(Severity::Notice, Table::Endorsements, id, format_args!("{} of no change", rows.len()));
    }

    fn document(&mut self, checked: &mut Checked, chunks: &Rows, endorsements: &Rows) {
        checked.seen = true;
        let Checked { number, entry, .. } = checked;
        let path = entry.path.clone();
        let log = match Log::load(chunks) {
            Ok(log) => log,
            Err(e) => return self.damage(Table::Chunks, path, e),
        };
        let hidden = log.rows().iter().filter(|row| row.is_hidden()).count() as u64;
        self.counts.changes += log.len() as u64;
        self.counts.change_bytes += log.chunk_bytes();
        self.counts.hidden += hidden;
        if hidden > 0 {
            self.found(
                Severity::Notice,
                Table::Chunks,
                &path,
                format_args!("{hidden} changes are hidden from the view"),
            );
        }
        // A deleted generation keeps what was set aside; its heads say what the tombstone covered.
        if !entry.deleted() {
            if log.heads() != entry.heads.as_slice() {
                self.damage(Table::Index, &path, "its heads are not those of its chunks");
            }
            // A snapshot stands for many changes, and is counted in another way.
            let loose = stored(chunks).all(|row| row.kind == RowKind::Change);
            if loose && (log.chunk_bytes(), log.len()) != (entry.bytes, entry.chunks as usize) {
                let counted = format!("{} chunks of {} bytes", log.len(), log.chunk_bytes());
                let what = format!("it counts {} chunks of {} bytes, there are {counted}", entry.chunks, entry.bytes);
                self.found(Severity::Notice, Table::Index, &path, what);
            }
        }
        self.endorsed(*number, entry, &log, chunks, endorsements);
    }

    /// Every change but a template's layers has to be covered by an endorsement that holds.
    fn endorsed(&mut self, number: SpaceNumber, entry: &Entry, log: &Log, chunks: &Rows, rows: &Rows) {
        let Some(space) = self.spaces.get(&number) else { return };
        let mut wrong = Vec::new();
        let mut chains: BTreeMap<Actor, u64> = BTreeMap::new();
        let mut singles = Vec::new();
        for (key, value) in rows.iter() {
            let endorsement = match Endorsement::from_storage(key, value) {
                Ok(endorsement) => endorsement,
                Err(e) => {
                    wrong.push(format!("endorsement {}: {e}", hex(key)));
                    continue;
                }
            };
            if let Some(why) = bad_endorsement(&endorsement, space, entry, log) {
                wrong.push(why);
                continue;
            }
            match endorsement.kind {
                EndorsementKind::Chain => {
                    let covered = chains.entry(endorsement.actor()).or_default();
                    *covered = (*covered).max(endorsement.seq);
                }
                EndorsementKind::Single => singles.push(endorsement.hash),
            }
        }
        self.counts.endorsements += rows.len() as u64;
        let uncovered = |row: &&Row| {
            chains.get(log.actor_of(row)).is_none_or(|seq| *seq < row.seq())
                && !singles.contains(&row.hash())
                && !is_layer(log, row, chunks)
        };
        let uncovered = log.rows().iter().filter(uncovered).count();
        wrong.into_iter().for_each(|what| self.damage(Table::Endorsements, &entry.path, what));
        if uncovered > 0 {
            let what = format!("{uncovered} changes have no endorsement");
            self.damage(Table::Endorsements, &entry.path, what);
        }
    }

    fn roots(&mut self) -> Result<(), StorageFailure> {
        let store = self.store;
        scan(store, Table::Roots, &mut |key, value| {
            self.counts.roots += 1;
            let Some((number, prefix)) = domain_of(key) else {
                return self.damage(Table::Roots, hex(key), "not the key of a root");
            };
            let expected = self.spaces.get(&number).and_then(|space| space.domains.get(&prefix)).map(Summary::root);
            match (Summary::from_bytes(value), expected) {
                (Ok(found), Some(expected)) if found.root() == expected => {}
                (Ok(_), Some(_)) => self.damage(Table::Roots, prefix, "not the root of the documents under it"),
                (Ok(_), None) => self.damage(Table::Roots, prefix, "of no space of this store"),
                (Err(e), _) => self.damage(Table::Roots, prefix, e),
            }
        })
    }
}

fn tombstones(entry: &Entry) -> impl Iterator<Item = &Vec<u8>> {
    entry.tombstones.iter().flat_map(|all| all.iter())
}

fn bad_tombstone(bytes: &[u8], space: &Space, entry: &Entry) -> Option<String> {
    let tombstone = match Tombstone::from_bytes(bytes) {
        Ok(tombstone) => tombstone,
        Err(e) => return Some(format!("tombstone: {e}")),
    };
    if tombstone.path() != &entry.path || tombstone.generation() != entry.generation {
        return Some("a tombstone of another document".into());
    }
    tombstone.verify(&space.record.id, &space.roster).err().map(|e| format!("tombstone: {e}"))
}

fn bad_endorsement(endorsement: &Endorsement, space: &Space, entry: &Entry, log: &Log) -> Option<String> {
    let id: SpaceId = space.record.id;
    if endorsement.verify(&id).is_err() {
        return Some(format!("the signature over {} does not verify", endorsement.hash));
    }
    if let Err(refusal) = space.roster.endorses(endorsement, &entry.path) {
        return Some(refusal.to_string());
    }
    match log.row(&endorsement.hash) {
        Some(row) if row.seq() == endorsement.seq && *log.actor_of(row) == endorsement.actor() => None,
        Some(_) => Some(format!("change {} is another actor's", endorsement.hash)),
        None => Some(format!("the endorsed change {} is not stored", endorsement.hash)),
    }
}

/// A template's layer needs no endorsement: its actor is its own hash. Inside a snapshot only its shape can be seen.
fn is_layer(log: &Log, row: &Row, chunks: &Rows) -> bool {
    if row.seq() != 1 || log.deps_of(row).next().is_some() {
        return false;
    }
    match stored(chunks).find(|stored| stored.kind == RowKind::Change && stored.arrival == row.arrival()) {
        Some(stored) => Chunk::parse_stored(stored.bytes.to_vec()).is_ok_and(|chunk| chunk.is_layer()),
        None => true,
    }
}

/// Entries that can be read; the others are reported by [`Log::load`].
fn stored(chunks: &Rows) -> impl Iterator<Item = StoredRow<'_>> {
    chunks.iter().filter_map(|(key, value)| StoredRow::read(key, value).ok())
}

fn domain_of(key: &[u8]) -> Option<(SpaceNumber, Prefix)> {
    let (number, prefix) = key.split_at_checked(4)?;
    let prefix = Prefix::parse(std::str::from_utf8(prefix).ok()?).ok()?;
    Some((SpaceNumber::from_be_bytes(number.try_into().ok()?), prefix))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Gives every row of a table to `each`.
fn scan(store: &dyn Backend, table: Table, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageFailure> {
    let mut pages = Pages::new(store, table);
    while let Some(rows) = pages.next()? {
        rows.iter().for_each(|(key, value)| each(key, value));
    }
    Ok(())
}

/// A table in pages of about [`PAGE_BYTES`].
struct Pages<'a> {
    store: &'a dyn Backend,
    table: Table,
    from: Option<Vec<u8>>,
    limit: usize,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn Backend, table: Table) -> Self {
        Self { store, table, from: Some(Vec::new()), limit: FIRST_PAGE }
    }

    fn next(&mut self) -> Result<Option<Rows>, StorageFailure> {
        let Some(from) = self.from.take() else { return Ok(None) };
        let op = ReadOp::Scan { table: self.table, from, to: None, limit: self.limit };
        let rows = self.store.read(&[op])?.pop().unwrap_or_default();
        if rows.len() == self.limit {
            self.from = rows.row(rows.len() - 1).map(|(key, _)| [key, &[0]].concat());
        }
        let weight = rows.byte_len() / rows.len().max(1) + 1;
        self.limit = (PAGE_BYTES / weight).clamp(1, 100_000);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// A table whose keys begin with a document, one document at a time.
struct Documents<'a> {
    pages: Pages<'a>,
    page: Rows,
    at: usize,
}

impl<'a> Documents<'a> {
    fn new(store: &'a dyn Backend, table: Table) -> Self {
        Self { pages: Pages::new(store, table), page: Rows::default(), at: 0 }
    }

    /// The next document and its rows. Keys too short for a document come as the document of zeros and fail there.
    fn next(&mut self) -> Result<Option<(DocumentId, Rows)>, StorageFailure> {
        let mut own: Option<(DocumentId, Rows)> = None;
        loop {
            let Some((key, value)) = self.page.row(self.at) else {
                match self.pages.next()? {
                    Some(page) => (self.page, self.at) = (page, 0),
                    None => return Ok(own),
                }
                continue;
            };
            let id = key.get(..16).and_then(|id| id.try_into().ok()).map_or(DocumentId([0; 16]), DocumentId);
            let (current, rows) = own.get_or_insert_with(|| (id, Rows::default()));
            if *current != id {
                return Ok(own);
            }
            rows.push(key, value);
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
