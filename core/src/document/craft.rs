//! Crafted chunks for tests: well hashed, and otherwise whatever a test wants.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, ObjType, ROOT, TextEncoding};
use rand_core::Rng;

use super::chunk::{Chunk, ChunkLimits, MAGIC, TYPE_CHANGE, hash_body};
use super::ingest::{EndorsedTip, TipKind};
use crate::id::ChangeHash;
use crate::wire::{Reader, Writer};

/// Builds a change chunk field by field. The default is one `put` of the integer 1 under root key `k`.
#[derive(Debug, Clone)]
pub(crate) struct Craft {
    pub(crate) deps: Vec<ChangeHash>,
    pub(crate) actor: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) timestamp: i64,
    pub(crate) message: Vec<u8>,
    pub(crate) other_actors: Vec<Vec<u8>>,
    pub(crate) columns: Vec<(u64, Vec<u8>)>,
    pub(crate) extra: Vec<u8>,
}

impl Craft {
    pub(crate) fn new(actor: u8) -> Self {
        Self {
            deps: Vec::new(),
            actor: vec![actor; 16],
            seq: 1,
            start_op: 1,
            timestamp: 0,
            message: Vec::new(),
            other_actors: Vec::new(),
            columns: put_columns("k", 1),
            extra: Vec::new(),
        }
    }

    /// The change that follows another as its actor's next.
    pub(crate) fn after(previous: &Chunk) -> Self {
        Self {
            actor: previous.actor().as_bytes().to_vec(),
            seq: previous.seq() + 1,
            start_op: previous.max_op() + 1,
            deps: vec![previous.hash()],
            ..Self::new(0)
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.list(&self.deps, |w, dep| {
            w.array(&dep.0);
        });
        w.bytes(&self.actor).varint(self.seq).varint(self.start_op).raw(&leb_i64(self.timestamp));
        w.bytes(&self.message);
        w.list(&self.other_actors, |w, actor| {
            w.bytes(actor);
        });
        w.list(&self.columns, |w, (spec, data)| {
            w.varint(*spec).varint(data.len() as u64);
        });
        for (_, data) in &self.columns {
            w.raw(data);
        }
        w.raw(&self.extra);
        w.finish()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        frame(TYPE_CHANGE, &self.body())
    }

    pub(crate) fn chunk(&self) -> Chunk {
        Chunk::parse(self.bytes(), &ChunkLimits::default()).unwrap()
    }

    pub(crate) fn set_column(&mut self, spec: u64, data: &[u8]) -> &mut Self {
        self.columns.retain(|(s, _)| *s != spec);
        if !data.is_empty() {
            let at = self.columns.partition_point(|(s, _)| *s < spec);
            self.columns.insert(at, (spec, data.to_vec()));
        }
        self
    }
}

/// A chunk of any type around a body, with the checksum of a change.
pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    frame_as(kind, body, body)
}

/// A chunk whose checksum is that of `body` and whose bytes are `stored`.
pub(super) fn frame_as(kind: u8, body: &[u8], stored: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    let hash = hash_body(body);
    w.array(&MAGIC).raw(&hash.0[..4]).u8(kind).bytes(stored);
    w.finish()
}

/// The columns of `n` equal ops that put the integer 1 under a root key.
pub(super) fn put_columns(key: &str, n: i64) -> Vec<(u64, Vec<u8>)> {
    let run = |value: &[u8]| [leb_i64(if n == 1 { -1 } else { n }), value.to_vec()].concat();
    let mut name = Writer::new();
    name.str(key);
    // Key string, insert (all false), action set, value metadata (int of one byte), value, predecessor count 0.
    vec![
        (21, run(&name.finish())),
        (52, leb_u64(n as u64)),
        (66, run(&[1])),
        (86, run(&[0x14])),
        (87, vec![1; n as usize]),
        (112, run(&[0])),
    ]
}

pub(super) fn leb_u64(value: u64) -> Vec<u8> {
    let mut w = Writer::new();
    w.varint(value);
    w.finish()
}

pub(super) fn leb_i64(mut value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// Parses a change that Automerge made, in the form in which it travels.
pub(super) fn parse(change: &automerge::Change) -> Chunk {
    Chunk::parse(change.clone().bytes().into_owned(), &ChunkLimits::default()).unwrap()
}

/// What Automerge takes a chunk for.
pub(super) fn automerge(chunk: &Chunk) -> automerge::Change {
    automerge::Change::from_bytes(chunk.bytes().to_vec()).unwrap()
}

/// A chain tip at a chunk.
pub(super) fn tip(chunk: &Chunk) -> EndorsedTip {
    EndorsedTip { actor: chunk.actor().clone(), seq: chunk.seq(), hash: chunk.hash(), kind: TipKind::Chain }
}

/// Chain tips at the newest change of each actor.
pub(super) fn tips(chunks: &[Chunk]) -> Vec<EndorsedTip> {
    let mut newest = std::collections::BTreeMap::new();
    for chunk in chunks {
        let slot = newest.entry(chunk.actor().clone()).or_insert(chunk);
        if slot.seq() < chunk.seq() {
            *slot = chunk;
        }
    }
    newest.into_values().map(tip).collect()
}

/// Replicas that edit one document of every kind of object at random and merge at random; all changes in an order in
/// which they can be applied.
pub(super) fn random_history(rng: &mut impl Rng, actors: u8, steps: usize) -> Vec<Chunk> {
    let mut base = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(ActorId::from([99; 16]));
    let mut tx = base.transaction();
    let text = tx.put_object(ROOT, "text", ObjType::Text).unwrap();
    let list = tx.put_object(ROOT, "list", ObjType::List).unwrap();
    tx.put(ROOT, "n", automerge::ScalarValue::counter(0)).unwrap();
    tx.commit();
    let mut docs: Vec<Automerge> = (0..actors).map(|n| base.fork().with_actor(ActorId::from([n + 1; 16]))).collect();
    for step in 0..steps {
        let me = rng.next_u32() as usize % docs.len();
        if rng.next_u32().is_multiple_of(3) {
            let mut other = docs[rng.next_u32() as usize % actors as usize].clone();
            docs[me].merge(&mut other).unwrap();
        }
        random_edit(rng, &mut docs[me], &text, &list, step);
    }
    let mut all = docs.remove(0);
    docs.iter_mut().for_each(|doc| drop(all.merge(doc).unwrap()));
    all.get_changes(&[]).iter().map(parse).collect()
}

fn random_edit(rng: &mut impl Rng, doc: &mut Automerge, text: &automerge::ObjId, list: &automerge::ObjId, step: usize) {
    use automerge::ReadDoc;
    use automerge::marks::{ExpandMark, Mark};
    let mut tx = doc.transaction();
    let pick = |rng: &mut dyn FnMut() -> u32, len: usize| rng() as usize % (len + 1);
    let mut next = || rng.next_u32();
    match next() % 8 {
        0 | 1 => {
            let at = pick(&mut next, tx.length(text));
            let delete = pick(&mut next, (tx.length(text) - at).min(3));
            tx.splice_text(text, at, delete as isize, "añ😀b").unwrap();
        }
        2 => {
            let at = pick(&mut next, tx.length(list));
            tx.insert(list, at, step as i64 * 1_000).unwrap();
        }
        3 if tx.length(list) > 0 => tx.delete(list, next() as usize % tx.length(list)).unwrap(),
        4 => tx.increment(ROOT, "n", i64::from(next() % 9) - 4).unwrap(),
        5 if tx.length(text) > 3 => {
            let mark = Mark::new("bold".into(), true, 0, 2);
            tx.mark(text, mark, ExpandMark::Both).unwrap();
        }
        6 => {
            let map = tx.put_object(ROOT, format!("m{}", next() % 3), ObjType::Map).unwrap();
            tx.put(&map, "bytes", vec![7; next() as usize % 400]).unwrap();
            tx.put(&map, "f", 1.5).unwrap();
            tx.put(&map, "t", automerge::ScalarValue::Timestamp(-5)).unwrap();
        }
        _ => tx.put(ROOT, format!("k{}", next() % 4), format!("value {step}")).unwrap(),
    }
    let options = CommitOptions::default().with_time(1_700_000_000);
    tx.commit_with(if step.is_multiple_of(5) { options.with_message("why") } else { options });
}

/// Puts a right checksum over a body that was tampered with.
pub(super) fn reseal(bytes: &[u8]) -> Vec<u8> {
    match bytes.get(9..) {
        Some(_) if bytes[8] == TYPE_CHANGE => {
            let start = bytes.len() - Reader::new(&bytes[9..]).bytes(1 << 20, "body").map_or(0, <[u8]>::len);
            frame(TYPE_CHANGE, &bytes[start..])
        }
        _ => bytes.to_vec(),
    }
}

/// Changes something small.
pub(super) fn tamper(rng: &mut impl Rng, bytes: &mut Vec<u8>) {
    let at = rng.next_u32() as usize % bytes.len().max(1);
    match rng.next_u32() % 6 {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << (rng.next_u32() % 8),
        1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff, 1, 2][rng.next_u32() as usize % 6],
        2 => bytes.insert(at, rng.next_u32() as u8),
        3 if !bytes.is_empty() => drop(bytes.remove(at)),
        4 => bytes.truncate(at.max(bytes.len() / 2)),
        _ if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
        _ => {}
    }
}
