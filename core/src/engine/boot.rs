//! Opening a store.
//!
//! Read `meta`; on a first start make keys; read facts, roots and the index in pages; write a new host epoch (and take the
//! seal away, so that only a clean close brings it back); then the store is open. Nothing is told to anyone before that
//! write is durable. A store that does not open is left as it was.

use std::collections::BTreeMap;

use rand_core::Rng;

use super::index::{Entry, Index};
use super::keys::{self, FORMAT, SpaceNumber, SpaceRecord};
use super::space::Space;
use super::{Engine, Event, Identity, OpenError, Phase, SpaceInfo};
use crate::id::{Incarnation, PeerId, Prefix, Seed, SpaceId};
use crate::io::{Output, ReadOp, Rows, StorageFailure, StorageReply, StorageTask, StorageWork, Table, Ticket, WriteOp};
use crate::reconcile::Summary;
use crate::trust::{DeviceKey, Fact, HostEpoch, Roster, Seal, SealVerdict};
use crate::wire::{Codec, Reader, Writer};

/// Rows of one page of the index scan: about 10 MB of rows at a time.
const INDEX_PAGE: usize = 100_000;
/// Most rows of `meta`; far above what a store writes.
const META_ROWS: usize = 100_000;
/// Facts and roots are read whole.
const ALL: usize = usize::MAX;

/// What is known while the store is being read.
#[derive(Debug, Default)]
pub(super) struct Opening {
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
    meta_read: bool,
    facts: Option<Rows>,
    roots: Option<Rows>,
    entries: BTreeMap<SpaceNumber, Vec<Entry>>,
    ready: Option<Ready>,
}

/// All that becomes the engine's once the opening write is durable.
#[derive(Debug)]
struct Ready {
    identity: Identity,
    peer_seed: Seed,
    epoch: Vec<u8>,
    spaces: Vec<Space>,
    cursors: BTreeMap<(u64, SpaceId), u64>,
    life: u64,
    /// The store was not closed when it was last open.
    crashed: bool,
}

impl Engine {
    pub(super) fn start_opening(&mut self) {
        self.phase = Phase::Opening(Box::default());
        self.opening_read(vec![scan(Table::Meta, Vec::new(), META_ROWS)]);
    }

    pub(super) fn on_opening_storage(&mut self, _: Ticket, result: Result<StorageReply, StorageFailure>) {
        let Phase::Opening(opening) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        let outcome = match result {
            Err(failure) => Err(OpenError::Storage(failure)),
            Ok(StorageReply::Read(rows)) => self.on_opening_rows(opening, rows),
            Ok(StorageReply::Written) => {
                self.finish_opening(*opening);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.phase = Phase::Closed;
            self.emit(Event::OpenFailed(error));
        }
    }

    fn on_opening_rows(&mut self, mut opening: Box<Opening>, rows: Vec<Rows>) -> Result<(), OpenError> {
        let mut rows = rows.into_iter();
        let next = if !std::mem::replace(&mut opening.meta_read, true) {
            let meta = rows.next().unwrap_or_default();
            opening.meta = meta.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            opening.check_format()?;
            vec![
                scan(Table::Facts, vec![], ALL),
                scan(Table::Roots, vec![], ALL),
                scan(Table::Index, vec![], INDEX_PAGE),
            ]
        } else {
            if opening.facts.is_none() {
                opening.facts = rows.next();
                opening.roots = rows.next();
            }
            match opening.take_entries(&rows.next().unwrap_or_default())? {
                Some(from) => vec![scan(Table::Index, from, INDEX_PAGE)],
                None => return self.write_opening(opening),
            }
        };
        self.phase = Phase::Opening(opening);
        self.opening_read(next);
        Ok(())
    }

    fn write_opening(&mut self, mut opening: Box<Opening>) -> Result<(), OpenError> {
        let (ready, ops) = opening.prepare(self)?;
        opening.ready = Some(ready);
        self.phase = Phase::Opening(opening);
        let ticket = self.storage.ticket();
        let work = StorageWork::Write { ops, epoch: None };
        self.out.push_back(Output::Storage(StorageTask { ticket, work }));
        Ok(())
    }

    fn finish_opening(&mut self, opening: Opening) {
        let Some(ready) = opening.ready else { return };
        self.phase = Phase::Open;
        self.soft.opened = self.now.wall;
        self.storage.epoch = ready.epoch;
        self.storage.next_arrival = 1 + ready.spaces.iter().map(|s| s.index.last_arrival()).max().unwrap_or(0);
        let (device, incarnation) = (ready.identity.device, ready.identity.incarnation);
        self.identity = Some(ready.identity);
        self.cursors = ready.cursors;
        self.crashed = ready.crashed;
        self.topics.life = ready.life;
        self.markers = super::marker::Markers::load(&opening.meta);
        self.load_sessions(&opening.meta, &ready.spaces);
        self.spaces = ready.spaces.into_iter().map(|s| (s.id(), s)).collect();
        self.spaces.values_mut().for_each(|space| space.roster.bound_signers(self.config.signer_facts));
        self.resume_reviews(&opening.meta);
        let spaces: Vec<SpaceInfo> = self.spaces.values().map(Space::info).collect();
        if let Some(book) = opening.meta.get(keys::PEERS) {
            self.emit(Event::PeersKept { book: book.clone() });
        }
        self.emit(Event::Opened { device, peer_seed: ready.peer_seed, incarnation, spaces });
    }

    fn opening_read(&mut self, ops: Vec<ReadOp>) {
        let ticket = self.storage.ticket();
        self.out.push_back(Output::Storage(StorageTask { ticket, work: StorageWork::Read { ops } }));
    }
}

impl Opening {
    fn check_format(&self) -> Result<(), OpenError> {
        let Some(format) = self.meta.get(b"format".as_slice()) else { return Ok(()) };
        match Reader::new(format).varint("format") {
            Ok(FORMAT) => Ok(()),
            Ok(found) if found > FORMAT => Err(OpenError::NewerFormat { found, supported: FORMAT }),
            _ => Err(corrupt("meta row `format`")),
        }
    }

    /// Takes one page of index rows; the key at which the next page starts, if there may be one.
    fn take_entries(&mut self, rows: &Rows) -> Result<Option<Vec<u8>>, OpenError> {
        let records = self.records()?;
        let mut last = None;
        for (key, value) in rows.iter() {
            let (number, path, generation) = keys::parse_index(key).map_err(|_| corrupt("an index key"))?;
            let record = records.get(&number).ok_or_else(|| corrupt("an index row of an unknown space"))?;
            let entry = Entry::decode(&record.id, path.clone(), generation, value)
                .map_err(|error| corrupt(&format!("index row of {path}: {error}")))?;
            self.entries.entry(number).or_default().push(entry);
            last = Some(key);
        }
        Ok(last.filter(|_| rows.len() == INDEX_PAGE).map(|key| [key, &[0]].concat()))
    }

    fn records(&self) -> Result<BTreeMap<SpaceNumber, SpaceRecord>, OpenError> {
        let rows = self.meta.range(b"space/".to_vec()..b"space0".to_vec());
        rows.map(|(key, value)| {
            let number = key[6..].try_into().map(SpaceNumber::from_be_bytes).map_err(|_| corrupt("a space's key"))?;
            Ok((number, SpaceRecord::from_bytes(value).map_err(|_| corrupt("a space's record"))?))
        })
        .collect()
    }

    fn seed(&self, key: &[u8], engine: &mut Engine) -> Result<[u8; 32], OpenError> {
        match self.meta.get(key) {
            Some(value) => value.as_slice().try_into().map_err(|_| corrupt("a key in meta")),
            None => Ok(engine.random()),
        }
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        self.meta.get(key).and_then(|v| v.as_slice().try_into().ok()).map(u64::from_le_bytes)
    }

    fn prepare(&mut self, engine: &mut Engine) -> Result<(Ready, Vec<WriteOp>), OpenError> {
        let (device_seed, peer_seed) = (self.seed(b"device", engine)?, self.seed(b"peer", engine)?);
        let key = DeviceKey::from_seed(&device_seed);
        let spaces = self.spaces()?;
        let last_arrival = spaces.iter().map(|s| s.index.last_arrival()).max().unwrap_or(0);
        let seal = self.meta.get(b"seal".as_slice()).and_then(|bytes| Seal::from_bytes(bytes).ok());
        let identity = &engine.config.store_identity;
        let verdict = Seal::check(seal.as_ref(), identity, &super::batch::sequence_digest(last_arrival));
        let kept = matches!(verdict, SealVerdict::Keep(_)).then(|| self.number(b"log-epoch")).flatten();
        let incarnation = verdict.incarnation(&mut engine.rng).0;
        // A log that may have been rolled back counts its arrivals anew: other peers' cursors into it no longer hold.
        let log_epoch = kept.unwrap_or_else(|| engine.rng.next_u64());
        let found = self.meta.get(b"epoch".as_slice()).map(Vec::as_slice);
        let epoch = HostEpoch::following(found, &mut engine.rng).as_bytes().to_vec();
        let mut format = Writer::new();
        format.varint(FORMAT);
        let life = super::topic::next_life(self.number(b"life"), engine.now.wall, Incarnation(incarnation));
        let rows: [(&[u8], &[u8]); 7] = [
            (b"format", &format.finish()),
            (b"device", &device_seed),
            (b"peer", &peer_seed),
            (b"incarnation", &incarnation.to_le_bytes()),
            (b"log-epoch", &log_epoch.to_le_bytes()),
            (b"epoch", &epoch),
            (b"life", &life.to_le_bytes()),
        ];
        let mut ops: Vec<_> = rows.iter().map(|(k, v)| WriteOp::Put(Table::Meta, k.to_vec(), v.to_vec())).collect();
        ops.push(WriteOp::Delete(Table::Meta, b"seal".to_vec()));
        let peer = PeerId(DeviceKey::from_seed(&peer_seed).device().0);
        if let (None, Some(former)) = (kept, self.number(b"log-epoch")) {
            ops.extend(super::session::put_former_epoch(&peer, former, last_arrival, &spaces));
        }
        let identity = Identity { device: key.device(), peer, key, incarnation: Incarnation(incarnation), log_epoch };
        let cursors = self.cursors(&spaces);
        let crashed = kept.is_none() && self.meta.contains_key(b"device".as_slice());
        let peer_seed = Seed(peer_seed);
        Ok((Ready { identity, peer_seed, epoch, spaces, cursors, life, crashed }, ops))
    }

    fn cursors(&self, spaces: &[Space]) -> BTreeMap<(u64, SpaceId), u64> {
        let rows = self.meta.range(b"cursor/".to_vec()..b"cursor0".to_vec());
        let read = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            let mut r = Reader::new(key.get(7..)?);
            let epoch = r.u64_le("epoch").ok()?;
            let number = u32::from_be_bytes(r.array("space number").ok()?);
            let space = spaces.iter().find(|s| s.number == number)?;
            Some(((epoch, space.id()), Reader::new(value).varint("arrival").ok()?))
        };
        rows.filter_map(read).collect()
    }

    fn spaces(&mut self) -> Result<Vec<Space>, OpenError> {
        let facts = self.facts.take().unwrap_or_default();
        let roots = self.roots.take().unwrap_or_default();
        let mut spaces = Vec::new();
        for (number, record) in self.records()? {
            let own = number.to_be_bytes();
            let mut stored = 0;
            let mut of_space = Vec::new();
            for (_, value) in facts.iter().filter(|(key, _)| key.starts_with(&own)) {
                of_space.push(Fact::from_bytes(value).map_err(|_| corrupt("a fact"))?);
                stored += 1;
            }
            let index = Index::build(self.entries.remove(&number).unwrap_or_default());
            let mut space = Space::new(number, record.clone(), Roster::load(record.id, of_space), index);
            space.facts_stored = stored;
            for (key, value) in roots.iter().filter(|(key, _)| key.starts_with(&own)) {
                let prefix = std::str::from_utf8(&key[4..]).ok().and_then(|text| Prefix::parse(text).ok());
                let prefix = prefix.ok_or_else(|| corrupt("a root's key"))?;
                let summary = Summary::from_bytes(value).map_err(|_| corrupt("a root"))?;
                space.keep_domain(prefix, summary);
            }
            spaces.push(space);
        }
        Ok(spaces)
    }
}

impl Engine {
    /// Fresh random bytes.
    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

fn scan(table: Table, from: Vec<u8>, limit: usize) -> ReadOp {
    ReadOp::Scan { table, from, to: None, limit }
}

fn corrupt(what: &str) -> OpenError {
    OpenError::Corrupt { what: what.to_owned() }
}
