//! A toy engine for the simulator's own tests: it floods every change to everybody and trusts everyone.
//!
//! It keeps the driver's contract and the promises that the checkers check, in the plainest way there is, so that what a
//! test plants in a disk, a network or in the toy itself is what the checkers find.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::node::Machine;
use crate::config::EngineConfig;
use crate::document::Chunk;
use crate::document::hot::{Author, HotCell, HotDocument};
use crate::document::local::LocalChange;
use crate::document::template::Template;
use crate::engine::{Command, CommandError, DocumentInfo, Event, Reply, SpaceInfo, StatusReport};
use crate::id::{ChangeHash, DeviceId, DocumentId, Incarnation, Path, SpaceId};
use crate::io::{
    Input, LinkId, MAX_FRAME, Output, ReadOp, RequestId, StorageReply, StorageTask, StorageWork, Table, Ticket, WriteOp,
};
use crate::time::{Now, Timestamp, WallTime};
use crate::wire::{DecodeError, Reader, Writer};

const PERIOD: Duration = Duration::from_secs(10);

/// What is wrong with this toy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// Acknowledges a commit before it is written.
    EarlyAck,
    /// Sends a commit before it is written.
    EarlySend,
    /// Takes no notice of deletions that arrive late.
    Undead,
    /// Talks a hundred times too often.
    Chatty,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Chunk(Path, u32, Vec<u8>),
    Tombstone(Path, u32),
}

enum After {
    Open,
    Rows(Vec<Row>, Option<Box<(RequestId, Reply)>>),
}

pub(super) struct Toy {
    flaw: Flaw,
    seed: [u8; 32],
    device: [u8; 32],
    space: Option<SpaceId>,
    opened: bool,
    rows: BTreeSet<Row>,
    cells: BTreeMap<Path, HotCell>,
    links: BTreeMap<LinkId, Vec<u8>>,
    waiting: BTreeMap<Ticket, After>,
    tickets: u64,
    outputs: VecDeque<Output>,
    next_period: Option<Timestamp>,
}

impl Toy {
    pub(super) fn new(_: EngineConfig, seed: [u8; 32], flaw: Flaw) -> Self {
        Self {
            flaw,
            seed,
            device: seed,
            space: None,
            opened: false,
            rows: BTreeSet::new(),
            cells: BTreeMap::new(),
            links: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
            outputs: VecDeque::new(),
            next_period: None,
        }
    }

    fn store(&mut self, work: StorageWork, after: After) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, after);
        self.outputs.push_back(Output::Storage(StorageTask { ticket, work }));
    }

    fn reply(&mut self, request: RequestId, result: Result<Reply, CommandError>) {
        self.outputs.push_back(Output::Event(Event::Reply { request, result }));
    }

    fn generation(&self, path: &Path) -> u32 {
        let dead = self.rows.iter().filter_map(|row| match row {
            Row::Tombstone(of, generation) if of == path => Some(*generation + 1),
            _ => None,
        });
        dead.max().unwrap_or(0)
    }

    fn chunks(&self, path: &Path) -> Vec<Vec<u8>> {
        let live = self.generation(path);
        let chunk = |row: &Row| match row {
            Row::Chunk(of, generation, bytes) if of == path && *generation == live => Some(bytes.clone()),
            _ => None,
        };
        self.rows.iter().filter_map(chunk).collect()
    }

    fn load(&self, path: &Path, template: Template) -> HotDocument {
        let document = DocumentId::derive(&self.space.unwrap(), path, self.generation(path));
        let device = DeviceId(ed25519_dalek::SigningKey::from_bytes(&self.device).verifying_key().to_bytes());
        let incarnation = Incarnation(u64::from_le_bytes(self.seed[..8].try_into().unwrap()));
        HotDocument::load(Author { device, document, incarnation }, template, self.chunks(path)).unwrap()
    }

    fn write(&mut self, rows: Vec<Row>, answer: Option<(RequestId, Reply)>) {
        let ops = rows.iter().map(|row| WriteOp::Put(Table::Chunks, encode(row), Vec::new())).collect();
        if self.flaw == Flaw::EarlySend {
            let base = self.digest();
            self.send_rows(base, &rows, None);
        }
        match (answer, self.flaw) {
            (Some((request, reply)), Flaw::EarlyAck) => {
                self.reply(request, Ok(reply));
                self.store(StorageWork::Write { ops, epoch: None }, After::Rows(rows, None));
            }
            (answer, _) => self.store(StorageWork::Write { ops, epoch: None }, After::Rows(rows, answer.map(Box::new))),
        }
    }

    /// Rows for those who hold exactly what hashes to `base`; zero: everything, for anyone.
    fn send_rows(&mut self, base: [u8; 32], rows: &[Row], only: Option<LinkId>) {
        let mut batch = Writer::new();
        batch.list(rows, |w, row| {
            w.bytes(&encode(row));
        });
        let mut w = Writer::new();
        w.u8(1).array(&base).bytes(&batch.finish());
        let bytes = w.finish();
        for link in self.links.keys().filter(|link| only.is_none_or(|only| only == **link)) {
            for part in bytes.chunks(MAX_FRAME) {
                self.outputs.push_back(Output::Send { link: *link, bytes: part.to_vec() });
            }
        }
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for row in &self.rows {
            hasher.update(&encode(row));
        }
        *hasher.finalize().as_bytes()
    }

    fn send_digest(&mut self, link: LinkId) {
        let mut w = Writer::new();
        w.u8(0).array(&self.digest());
        self.outputs.push_back(Output::Send { link, bytes: w.finish() });
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(buffer) = self.links.get_mut(&link) else { return };
        buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(buffer);
        let mut reader = Reader::new(&buffer);
        let mut fresh = Vec::new();
        let (mut ask, mut differs) = (false, false);
        let rest = loop {
            let before = reader.remaining();
            match message(&mut reader) {
                Ok((base, None)) => differs |= base != self.digest(),
                Ok((base, Some(rows))) if base == [0; 32] || base == self.digest() => fresh.extend(rows),
                Ok(_) => ask = true,
                Err(_) => break before,
            }
        };
        self.links.insert(link, buffer[buffer.len() - rest..].to_vec());
        fresh.retain(|row| !self.rows.contains(row));
        fresh.retain(|row| !(self.flaw == Flaw::Undead && matches!(row, Row::Tombstone(..)) && self.rows.len() > 9));
        if !fresh.is_empty() {
            self.write(fresh, None);
        } else if ask {
            self.send_digest(link);
        }
        if differs {
            let rows: Vec<Row> = self.rows.iter().cloned().collect();
            self.send_rows([0; 32], &rows, Some(link));
        }
    }

    fn durable(&mut self, rows: Vec<Row>, answer: Option<(RequestId, Reply)>) {
        let base = self.digest();
        let fresh: Vec<Row> = rows.into_iter().filter(|row| self.rows.insert(row.clone())).collect();
        for row in &fresh {
            match row {
                Row::Chunk(path, generation, bytes) if *generation == self.generation(path) => {
                    if let Some(cell) = self.cells.get(path) {
                        let hash = Chunk::parse_stored(bytes.clone()).expect("the toy stores changes").hash();
                        cell.with(|hot| hot.push_remote(vec![(hash, bytes.clone())])).unwrap().unwrap();
                    }
                }
                Row::Tombstone(path, _) => drop(self.cells.remove(path)),
                Row::Chunk(..) => {}
            }
        }
        if self.flaw != Flaw::EarlySend && !fresh.is_empty() {
            self.send_rows(base, &fresh, None);
        }
        if let Some((request, reply)) = answer {
            self.reply(request, Ok(reply));
        }
    }

    fn on_command(&mut self, request: RequestId, command: Command) {
        let answer = match command {
            Command::CreateSpace { .. } => return self.enter(request, SpaceId(self.seed)),
            Command::Join { invitation, .. } => return self.enter(request, invitation.parse().unwrap()),
            Command::Invite { space, .. } => Ok(Reply::Invitation(space.to_string())),
            Command::Open { path, template, .. } => Ok(self.open(path, template)),
            Command::Commit { changes, .. } => return self.commit(request, changes),
            Command::Read { path, .. } => {
                let mut hot = self.load(&path, Template::default());
                Ok(Reply::Value(Some((hot.value().unwrap(), hot.heads().unwrap()))))
            }
            Command::List { .. } => Ok(Reply::List { items: self.list(), next: None }),
            Command::Delete { path, .. } if self.chunks(&path).is_empty() => Ok(Reply::Deleted(false)),
            Command::Delete { path, .. } => {
                let row = Row::Tombstone(path.clone(), self.generation(&path));
                return self.write(vec![row], Some((request, Reply::Deleted(true))));
            }
            Command::Status => Ok(Reply::Status(Box::<StatusReport>::default())),
            Command::Synced { .. } => return,
            _ => Ok(Reply::Done),
        };
        self.reply(request, answer);
    }

    fn enter(&mut self, request: RequestId, space: SpaceId) {
        let ops = vec![WriteOp::Put(Table::Facts, b"space".to_vec(), space.0.to_vec())];
        self.space = Some(space);
        let reply = Reply::Space(info(space));
        self.store(StorageWork::Write { ops, epoch: None }, After::Rows(Vec::new(), Some(Box::new((request, reply)))));
    }

    fn open(&mut self, path: Path, template: Template) -> Reply {
        let generation = self.generation(&path);
        let document = DocumentId::derive(&self.space.unwrap(), &path, generation);
        if !self.cells.contains_key(&path) {
            let cell = HotCell::new(self.load(&path, template));
            self.cells.insert(path.clone(), cell);
        }
        Reply::Document { document, generation, cell: self.cells[&path].clone() }
    }

    fn commit(&mut self, request: RequestId, changes: Vec<LocalChange>) {
        let space = self.space.unwrap();
        let mut rows = Vec::new();
        let mut heads = Vec::new();
        for change in changes {
            let live = self.cells.keys().find(|p| DocumentId::derive(&space, p, self.generation(p)) == change.document);
            let Some(path) = live.cloned() else {
                let path = Path::parse("/gone").unwrap();
                return self.reply(request, Err(CommandError::Deleted(path)));
            };
            let generation = self.generation(&path);
            rows.extend(change.layers.iter().map(|layer| Row::Chunk(path.clone(), generation, layer.clone())));
            rows.push(Row::Chunk(path.clone(), generation, change.bytes));
            heads.push((change.document, vec![change.hash]));
        }
        self.write(rows, Some((request, Reply::Committed(heads))));
    }

    fn list(&self) -> Vec<DocumentInfo> {
        let paths: BTreeSet<&Path> = self
            .rows
            .iter()
            .filter_map(|row| match row {
                Row::Chunk(path, generation, _) if *generation == self.generation(path) => Some(path),
                _ => None,
            })
            .collect();
        let item = |path: &Path| {
            let mut hot = self.load(path, Template::default());
            let heads: Vec<ChangeHash> = hot.heads().unwrap();
            let generation = self.generation(path);
            let document = hot.author().document;
            let changed_at = WallTime::default();
            DocumentInfo { path: path.clone(), document, generation, heads, bytes: 0, changed_at }
        };
        paths.into_iter().map(item).collect()
    }

    fn on_opened(&mut self, rows: &[crate::io::Rows]) {
        for (key, value) in rows[0].iter() {
            match key {
                b"device" => self.device.copy_from_slice(value),
                b"space" => self.space = SpaceId::try_from(value).ok(),
                _ => {}
            }
        }
        for (key, _) in rows[1].iter() {
            self.rows.insert(decode(key).unwrap());
        }
        let ops = vec![WriteOp::Put(Table::Facts, b"device".to_vec(), self.device.to_vec())];
        self.store(StorageWork::Write { ops, epoch: None }, After::Open);
    }
}

impl Machine for Toy {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Wake if self.tickets == 0 => {
                let scan = |table| ReadOp::Scan { table, from: Vec::new(), to: None, limit: usize::MAX };
                let ops = vec![scan(Table::Facts), scan(Table::Chunks)];
                self.store(StorageWork::Read { ops }, After::Open);
            }
            Input::StorageDone { ticket, result } => match (self.waiting.remove(&ticket), result) {
                (Some(After::Open), Ok(StorageReply::Read(rows))) => self.on_opened(&rows),
                (Some(After::Open), _) => {
                    self.opened = true;
                    let device = ed25519_dalek::SigningKey::from_bytes(&self.device).verifying_key().to_bytes();
                    self.outputs.push_back(Output::Event(Event::Opened {
                        device: DeviceId(device),
                        peer_seed: crate::id::Seed(self.device),
                        incarnation: Incarnation(1),
                        spaces: self.space.map(info).into_iter().collect(),
                    }));
                }
                (Some(After::Rows(rows, answer)), Ok(_)) => self.durable(rows, answer.map(|answer| *answer)),
                (Some(After::Rows(_, Some(answer))), Err(failure)) => self.reply(answer.0, Err(failure.into())),
                _ => {}
            },
            #[cfg(feature = "coord")]
            Input::Coord { .. } | Input::CoordFrames(_) | Input::CoordGone { .. } => {}
            Input::Linked { link, .. } => {
                self.links.insert(link, Vec::new());
                self.send_digest(link);
            }
            Input::Unlinked { link } => drop(self.links.remove(&link)),
            Input::Frame { link, bytes } => self.on_bytes(link, &bytes),
            Input::Command { request, command } => self.on_command(request, command),
            Input::Commands(commands) => {
                commands.into_iter().for_each(|(request, command)| self.on_command(request, command));
            }
            Input::Wake | Input::Unreachable { .. } | Input::Reachable { .. } => {}
        }
        if self.opened && self.next_period.is_none_or(|at| at <= now.mono) {
            let links: Vec<LinkId> = self.links.keys().copied().collect();
            links.into_iter().for_each(|link| self.send_digest(link));
            let period = if self.flaw == Flaw::Chatty { PERIOD / 100 } else { PERIOD };
            self.next_period = Some(now.mono + period);
            self.outputs.push_back(Output::Wake { at: now.mono + period });
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

fn info(id: SpaceId) -> SpaceInfo {
    SpaceInfo { id, name: "toy".to_owned(), documents: 0, root: false, addresses: Vec::new() }
}

fn encode(row: &Row) -> Vec<u8> {
    let mut w = Writer::new();
    match row {
        Row::Chunk(path, generation, bytes) => w.u8(0).str(path.as_str()).varint((*generation).into()).bytes(bytes),
        Row::Tombstone(path, generation) => w.u8(1).str(path.as_str()).varint((*generation).into()),
    };
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Row, DecodeError> {
    let mut r = Reader::new(bytes);
    let kind = r.u8("kind")?;
    let path = Path::parse(r.str(512, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })?;
    let generation = r.varint_max(1 << 20, "generation")? as u32;
    match kind {
        0 => Ok(Row::Chunk(path, generation, r.bytes(1 << 24, "chunk")?.to_vec())),
        _ => Ok(Row::Tombstone(path, generation)),
    }
}

/// A digest alone, or rows for those who hold what hashes to it.
fn message(r: &mut Reader<'_>) -> Result<([u8; 32], Option<Vec<Row>>), DecodeError> {
    let kind = r.u8("message")?;
    let base = r.array::<32>("digest")?;
    if kind == 0 {
        return Ok((base, None));
    }
    let mut batch = Reader::new(r.bytes(1 << 26, "rows")?);
    let rows = batch.list(1 << 20, "rows", |r| decode(r.bytes(1 << 24, "row")?))?;
    Ok((base, Some(rows)))
}
