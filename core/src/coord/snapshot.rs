//! The whole state as bytes.
//!
//! ```text
//! snapshot    magic[8] "fscoord\0" · version varint (1)
//!             applied varint · time zigzag · generation varint
//!   ended     list(≤ 4,096) session u64, oldest first
//!   sessions  count varint, ascending: session u64 · password[16] · owner bytes · ttl varint · renewal varint · attachment varint
//!             · next varint · acked varint · replies (count varint: seq varint · reply)
//!   tree      count varint, paths ascending: path str · data bytes · list · life · czxid · mzxid · pzxid varint
//!             · ctime · mtime · version · aversion · created zigzag
//!   claims    count varint, ascending: kind u8 · path str · holders · waiters · delay
//!   queues    count varint, ascending: path str · items (count varint: item varint · body bytes · attempts · max · state)
//!   check     BLAKE3 of everything above, [32]
//! ```
//!
//! Equal states give equal bytes: everything is in the order of its keys, and what follows from the rest (children,
//! ephemeral nodes of a session, what is ready) is not written.

use super::acl::Acl;
use super::claim::Claims;
use super::machine::Machine;
use super::op::{MAX_DATA_BYTES, decode_path};
use super::queue::Queues;
use super::replicated::SnapshotError;
use super::session::{ENDED_REMEMBERED, MAX_SESSIONS, Session, SessionId, Sessions};
use super::stat::{Life, decode_i32, decode_u32};
use super::tree::{Core, Tree};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Version of the snapshots that this program writes, and the newest that it reads.
pub const SNAPSHOT_VERSION: u64 = 1;

const MAGIC: [u8; 8] = *b"fscoord\0";

const CHECK_LEN: usize = 32;

pub(crate) fn encode(machine: &Machine) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(&MAGIC).varint(SNAPSHOT_VERSION);
    w.varint(machine.applied).zigzag(machine.time).varint(machine.generation.into());
    encode_sessions(&machine.sessions, &mut w);
    encode_tree(&machine.tree, &mut w);
    machine.claims.encode(&mut w);
    machine.queues.encode(&mut w);
    let mut bytes = w.finish();
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Machine, SnapshotError> {
    let malformed = |field| SnapshotError::Malformed(DecodeError::Invalid { field });
    let mut r = Reader::new(bytes);
    if r.array("magic") != Ok(MAGIC) {
        return Err(malformed("magic"));
    }
    // Before the check, whose place a newer version may have changed.
    match r.varint("version")? {
        SNAPSHOT_VERSION => {}
        0 => return Err(malformed("version")),
        found => return Err(SnapshotError::Newer { found, known: SNAPSHOT_VERSION }),
    }
    let (body, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(malformed("check"))?;
    if blake3::hash(body) != *check {
        return Err(malformed("check"));
    }
    r = Reader::new(r.rest());
    let left = r.remaining().checked_sub(CHECK_LEN).ok_or(malformed("check"))?;
    let mut r = Reader::new(r.take(left, "state")?);
    let machine = decode_state(&mut r)?;
    r.finish()?;
    Ok(machine)
}

fn decode_state(r: &mut Reader<'_>) -> Result<Machine, DecodeError> {
    let machine = Machine {
        applied: r.varint("applied")?,
        time: r.zigzag("time")?,
        generation: decode_u32(r, "generation")?,
        sessions: decode_sessions(r)?,
        tree: decode_tree(r)?,
        claims: Claims::decode(r)?,
        queues: Queues::decode(r)?,
        #[cfg(any(test, feature = "sim"))]
        releases_by_name: false,
    };
    let known = |session: SessionId| machine.sessions.find(session).is_some();
    let mut owners = machine.tree.owners().chain(machine.claims.owners()).chain(machine.queues.owners());
    let all_known = owners.all(known);
    drop(owners);
    if all_known { Ok(machine) } else { Err(DecodeError::Invalid { field: "owner" }) }
}

fn encode_sessions(sessions: &Sessions, w: &mut Writer) {
    w.varint(sessions.ended.len() as u64);
    for id in &sessions.ended {
        w.u64_le(id.0);
    }
    w.varint(sessions.open.len() as u64);
    for (id, session) in &sessions.open {
        session.encode(w.u64_le(id.0));
    }
}

fn decode_sessions(r: &mut Reader<'_>) -> Result<Sessions, DecodeError> {
    let ended = r.list(ENDED_REMEMBERED, "ended sessions", SessionId::decode)?;
    let mut sessions = Sessions { ended: ended.into(), ..Sessions::default() };
    for _ in 0..r.varint_max(MAX_SESSIONS as u64, "sessions")? {
        let id = SessionId::decode(r)?;
        if sessions.open.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(DecodeError::Invalid { field: "order of sessions" });
        }
        sessions.open.insert(id, Session::decode(r)?);
    }
    Ok(sessions)
}

fn encode_tree(tree: &Tree, w: &mut Writer) {
    let nodes = tree.iter();
    w.varint(nodes.len() as u64);
    for (path, core) in nodes {
        w.str(path.as_str());
        core.encode(w);
    }
}

fn decode_tree(r: &mut Reader<'_>) -> Result<Tree, DecodeError> {
    let mut tree = Tree::without_root();
    let mut last = None;
    for _ in 0..r.varint("nodes")? {
        let path = decode_path(r)?;
        let has_parent = path.parent().is_none_or(|parent| {
            tree.node(parent.as_str()).is_ok_and(|node| !matches!(node.core.life, Life::Ephemeral(_)))
        });
        if last.as_ref().is_some_and(|last| *last >= path) || !has_parent {
            return Err(DecodeError::Invalid { field: "order of nodes" });
        }
        last = Some(path.clone());
        tree.insert(path, Core::decode(r)?);
    }
    // The root sorts first, and no node is let in without its parent.
    if tree.is_empty() { Err(DecodeError::Invalid { field: "nodes" }) } else { Ok(tree) }
}

impl Codec for Core {
    fn encode(&self, w: &mut Writer) {
        self.acl.encode(w.bytes(&self.data));
        self.life.encode(w);
        w.varint(self.czxid).varint(self.mzxid).varint(self.pzxid).zigzag(self.ctime).zigzag(self.mtime);
        w.zigzag(self.version.into()).zigzag(self.aversion.into()).zigzag(self.created.into());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            data: r.bytes(MAX_DATA_BYTES, "data")?.into(),
            acl: Acl::decode(r)?,
            life: Life::decode(r)?,
            czxid: r.varint("czxid")?,
            mzxid: r.varint("mzxid")?,
            pzxid: r.varint("pzxid")?,
            ctime: r.zigzag("ctime")?,
            mtime: r.zigzag("mtime")?,
            version: decode_i32(r, "version")?,
            aversion: decode_i32(r, "aversion")?,
            created: decode_i32(r, "created")?,
        })
    }
}
