//! Changes and snapshots of documents.

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ObjType, ROOT, ScalarValue};
use sha2::{Digest, Sha256};

use super::{Target, Verdict, join, parts};
use crate::document::chunk::{Chunk, ChunkLimits};
use crate::document::compaction;
use crate::document::ingest::{EndorsedTip, TipKind};
use crate::document::log::Log;
use crate::wire::Writer;

pub(super) const TARGETS: &[Target] = &[
    Target::new("chunk", chunks, chunk).room(8 << 20),
    Target::new("change", histories, change).repaired(seal_all).room(8 << 20),
    // Automerge makes room for what a snapshot claims. Only a store's own ones reach it: no byte of a peer does.
    Target::new("snapshot", snapshots, snapshot).repaired(seal).room(1 << 30),
];

/// Far under what a space admits, so that an input takes no longer than it is worth.
const LIMITS: ChunkLimits =
    ChunkLimits { max_bytes: 1 << 20, max_inflated: 1 << 20, max_ratio: 1_100, max_ops: 1 << 12, max_names: 1 << 18 };

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// A chunk that parses is the bytes it came from, and one that Automerge reads as the same change without a panic.
fn chunk(bytes: &[u8]) -> Verdict {
    let chunk = match Chunk::parse(bytes.to_vec(), &LIMITS) {
        Ok(chunk) => chunk,
        Err(error) => return Verdict::refused(&error),
    };
    assert_eq!(chunk.bytes(), bytes);
    let theirs = automerge::Change::from_bytes(bytes.to_vec()).expect("Automerge reads what was let in");
    assert_eq!(theirs.hash().0, chunk.hash().0, "two hashes of one change");
    assert_eq!((theirs.seq(), theirs.start_op().get()), (chunk.seq(), chunk.start_op()));
    assert_eq!(theirs.len() as u64, chunk.op_count());
    let stored = Chunk::parse_stored(bytes.to_vec()).expect("what was let in is read again");
    assert_eq!(stored.hash(), chunk.hash());
    Verdict::accepted(chunk.op_count().min(30) | (chunk.deps().len().min(3) as u64) << 8)
}

/// Changes with right hashes over whatever they say: staged, admitted in any order to the same heads, and never a panic.
fn change(bytes: &[u8]) -> Verdict {
    let mut chunks = Vec::new();
    let mut refused = None;
    for part in parts(bytes).into_iter().take(12) {
        match Chunk::parse(part.to_vec(), &LIMITS) {
            Ok(parsed) => {
                chunk(part);
                chunks.push(parsed);
            }
            Err(error) => refused = Some(error),
        }
    }
    if chunks.is_empty() {
        return refused.map_or(Verdict::refused(&"nothing"), |error| Verdict::refused(&error));
    }
    let heads = admit(chunks.clone());
    chunks.reverse();
    assert_eq!(admit(chunks), heads, "the order of arrival decides");
    Verdict::accepted(heads.len().min(12) as u64)
}

/// Stages chunks, all endorsed, in one batch; the heads that follow.
fn admit(chunks: Vec<Chunk>) -> Vec<crate::id::ChangeHash> {
    let tip = |chunk: &Chunk| EndorsedTip {
        actor: chunk.actor().clone(),
        seq: chunk.seq(),
        hash: chunk.hash(),
        kind: TipKind::Single,
    };
    let tips: Vec<EndorsedTip> = chunks.iter().map(tip).collect();
    let mut log = Log::new();
    let staged = log.stage(chunks, &tips);
    if !staged.admitted.is_empty() {
        log.admit(&staged.admitted, 1).expect("what was staged is admitted");
    }
    log.heads().to_vec()
}

/// A snapshot gives changes or an error; a panic of Automerge's stays inside.
fn snapshot(bytes: &[u8]) -> Verdict {
    match compaction::expand(bytes) {
        Ok(chunks) if chunks.is_empty() => Verdict::refused(&"no changes"),
        Ok(chunks) => Verdict::accepted(chunks.len().min(40) as u64),
        // What Automerge says contains pieces of the input.
        Err(error) => Verdict::refused(&std::mem::discriminant(&error)),
    }
}

/// Puts the right length and checksum over the body of a chunk.
fn seal(bytes: &mut Vec<u8>) {
    let Some((kind, rest)) = bytes.get(8..).and_then(<[u8]>::split_first) else { return };
    let (kind, skip) = (*kind, rest.iter().position(|byte| byte & 0x80 == 0).map_or(0, |at| at + 1));
    let body = rest[skip..].to_vec();
    *bytes = framed(kind, &body);
}

fn seal_all(bytes: &mut Vec<u8>) {
    let sealed: Vec<Vec<u8>> = parts(bytes)
        .into_iter()
        .map(|part| {
            let mut part = part.to_vec();
            seal(&mut part);
            part
        })
        .collect();
    *bytes = join(sealed.iter().map(Vec::as_slice));
}

/// A chunk around a body, with the checksum that its kind has.
pub(crate) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut hashed = Writer::new();
    hashed.u8(kind).bytes(body);
    let hash: [u8; 32] = Sha256::digest(hashed.finish()).into();
    let mut w = Writer::new();
    w.array(&MAGIC).raw(&hash[..4]).u8(kind).bytes(body);
    w.finish()
}

/// A document of every kind of object, by two actors.
fn document() -> Automerge {
    let mut doc = Automerge::new().with_actor(ActorId::from([1; 16]));
    let mut make = || -> Result<(), automerge::AutomergeError> {
        let mut tx = doc.transaction();
        let text = tx.put_object(ROOT, "text", ObjType::Text)?;
        let list = tx.put_object(ROOT, "list", ObjType::List)?;
        tx.splice_text(&text, 0, 0, "añ😀b")?;
        tx.insert(&list, 0, 7)?;
        tx.put(ROOT, "n", ScalarValue::counter(0))?;
        tx.commit();
        let mut other = doc.fork().with_actor(ActorId::from([2; 16]));
        let mut tx = other.transaction();
        tx.increment(ROOT, "n", 3)?;
        tx.splice_text(&text, 1, 2, "xyz")?;
        tx.delete(&list, 0)?;
        tx.commit();
        let mut tx = doc.transaction();
        tx.put(ROOT, "k", "value")?;
        tx.put(ROOT, "bytes", vec![7; 300])?;
        tx.commit();
        doc.merge(&mut other)?;
        let mut tx = doc.transaction();
        tx.put(ROOT, "after", 1.5)?;
        tx.commit();
        Ok(())
    };
    make().expect("the edits are of objects that are there");
    doc
}

pub(crate) fn chunks() -> Vec<Vec<u8>> {
    document().get_changes(&[]).into_iter().map(|mut change| change.bytes().into_owned()).collect()
}

fn histories() -> Vec<Vec<u8>> {
    let chunks = chunks();
    let whole = join(chunks.iter().map(Vec::as_slice));
    let mut all: Vec<Vec<u8>> = chunks.iter().map(|chunk| join([chunk.as_slice()])).collect();
    all.push(whole);
    all
}

fn snapshots() -> Vec<Vec<u8>> {
    let doc = document();
    vec![doc.save(), doc.save_nocompress()]
}
