//! A change chunk, parsed under bounds and without opening a document.
//!
//! Automerge's parser allocates by numbers that the input names and panics on well-hashed nonsense: an op id beyond
//! 32 bits, a run of 2⁶² ops, an unbounded inflate. Bytes from a peer therefore go through this parser first, which
//! follows the [binary format](https://automerge.org/automerge-binary-format-spec/) and is stricter in what it takes:
//!
//! ```text
//! 85 6f 4a 83   checksum (4)   type (1)   length (LEB128)   body
//! ```
//!
//! Type 1 is a change, type 2 the same with a deflated body. The hash is SHA-256 over `type 1 ‖ length ‖ body` of the
//! inflated form, and the checksum is its first four bytes, so both forms of a change have one hash.
//!
//! Invariants of a [`Chunk`]: its hash is right; every LEB128 number is in minimal form; the columns are known ones,
//! in order, uncompressed, and hold exactly `op_count` rows; every op id that an op names is smaller than the op's own
//! and on an actor of the chunk's table; nothing in it makes `automerge::Change::from_bytes` fail or panic. What only
//! the document can tell (an object that does not exist, a sequence gap) is the business of [`super::ingest`] and
//! [`super::quarantine`].

mod columns;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use thiserror::Error;

use crate::id::{Actor, ChangeHash};
use crate::wire::{DecodeError, Reader};

pub use columns::ColumnError;

/// First bytes of every chunk.
pub(super) const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Chunk type of a change.
pub(super) const TYPE_CHANGE: u8 = 1;
/// Chunk type of a change with a deflated body.
const TYPE_DEFLATED: u8 = 2;

/// Bounds on one chunk.
///
/// They are part of what a change *is*: peers with different limits would admit different changes and never converge,
/// so a space keeps to [`ChunkLimits::default`]. Other values are for tests and for tools that look at foreign files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Largest chunk as it travels, in bytes. Default 16 MiB.
    pub max_bytes: usize,
    /// Largest inflated body, in bytes. Default 16 MiB. Room is taken as the output grows, never ahead of it by more
    /// than a factor of two.
    pub max_inflated: usize,
    /// Largest ratio of inflated to deflated size. Default 1,100, above the ceiling of 1,032 that deflate itself has;
    /// a smaller one cuts off bombs earlier.
    pub max_ratio: usize,
    /// Most ops, and most predecessors of all ops together, in one change. Default 2²²: a few bytes of run lengths
    /// name any number of ops, and Automerge spends about 200 B of heap on each.
    pub max_ops: u64,
    /// Most bytes of map keys and mark names once run lengths are written out. Default 64 MiB.
    pub max_names: u64,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_inflated: 16 << 20, max_ratio: 1_100, max_ops: 1 << 22, max_names: 64 << 20 }
    }
}

/// Why bytes are not a change chunk. Nothing has changed; the sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The first four bytes are not Automerge's.
    #[error("not an Automerge chunk")]
    Magic,
    /// A document, a bundle or an unknown type where a change belongs.
    #[error("chunk type {kind} is not a change")]
    Kind {
        /// The type byte.
        kind: u8,
    },
    /// The checksum is not the beginning of the hash.
    #[error("the checksum is wrong: the bytes were damaged or altered")]
    Checksum,
    /// Larger than its bound.
    #[error("{what} is over its bound of {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The deflated body does not inflate, or is not the shortest way to say it by far.
    #[error("the deflated body does not inflate")]
    Inflate,
    /// A field of the body is malformed.
    #[error("malformed change: {0}")]
    Field(#[from] DecodeError),
    /// The columns are malformed.
    #[error("malformed columns: {0}")]
    Columns(#[from] ColumnError),
}

/// How much of a chunk to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Everything: for bytes that anyone could have sent.
    Full,
    /// Fields and op count: for bytes that were checked before they were stored.
    Fields,
}

/// One change as its chunk's bytes, and what the ingest checks need to know of it. See the module for what holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    bytes: Vec<u8>,
    hash: ChangeHash,
    actor: Actor,
    seq: u64,
    start_op: u64,
    op_count: u64,
    deps: SmallVec<[ChangeHash; 1]>,
    other_actors: SmallVec<[Actor; 1]>,
    timestamp: i64,
    message: Option<Box<str>>,
    extra_len: usize,
    layer: bool,
}

impl Chunk {
    /// Parses bytes that anyone could have sent. Cost: one SHA-256 of the body and one pass over its columns, about
    /// 1.4 µs for a change of 100 B (Automerge's own parser: 5 µs).
    pub fn parse(bytes: Vec<u8>, limits: &ChunkLimits) -> Result<Self, ChunkError> {
        Self::parse_to(Depth::Full, bytes, limits)
    }

    /// Parses bytes that went through [`Chunk::parse`] before they were stored: the columns are not walked again, the
    /// hash is checked all the same.
    pub fn parse_stored(bytes: Vec<u8>) -> Result<Self, ChunkError> {
        Self::parse_to(Depth::Fields, bytes, &ChunkLimits::default())
    }

    fn parse_to(depth: Depth, bytes: Vec<u8>, limits: &ChunkLimits) -> Result<Self, ChunkError> {
        let inflated = Frame::read(&bytes, limits)?;
        let body = inflated.body(&bytes);
        let hash = hash_body(body);
        if hash.0[..4] != bytes[4..8] {
            return Err(ChunkError::Checksum);
        }
        let parsed = Body::parse(body)?;
        let op_count = parsed.op_count(depth, limits)?;
        let layer = super::layer::is_layer(&parsed, body);
        let message = (!parsed.message.is_empty()).then(|| parsed.message.into());
        let Body { actor, seq, start_op, deps, other_actors, timestamp, extra, .. } = parsed;
        let extra_len = extra.len();
        Ok(Self {
            hash,
            actor,
            seq,
            start_op,
            op_count,
            deps,
            other_actors,
            timestamp,
            message,
            extra_len,
            layer,
            bytes,
        })
    }

    /// The chunk as it travels and rests.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The chunk's bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The change's hash.
    pub fn hash(&self) -> ChangeHash {
        self.hash
    }

    /// Who made the change.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Number of the change among its actor's, from 1.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Counter of the first op, at least 1.
    pub fn start_op(&self) -> u64 {
        self.start_op
    }

    /// Number of ops.
    pub fn op_count(&self) -> u64 {
        self.op_count
    }

    /// Counter of the last op; `start_op - 1` for an empty change.
    pub fn max_op(&self) -> u64 {
        // Saturating: start_op is a peer's number and not yet held against any bound here.
        self.start_op.saturating_add(self.op_count) - 1
    }

    /// Direct dependencies, as the chunk lists them.
    pub fn deps(&self) -> &[ChangeHash] {
        &self.deps
    }

    /// Actors other than the author that the ops name.
    pub fn other_actors(&self) -> &[Actor] {
        &self.other_actors
    }

    /// Seconds since the Unix epoch by the author's word.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The commit message, if any.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Bytes behind the columns. Automerge 0.12 reads an author from them and panics when it stands past seq 1.
    pub fn extra_len(&self) -> usize {
        self.extra_len
    }

    /// Whether this is a self-certifying template layer; see [`super::layer`].
    pub fn is_layer(&self) -> bool {
        self.layer
    }
}

/// Where the body of a chunk is.
enum Frame {
    /// In the chunk's own bytes, from this offset to their end.
    Plain(usize),
    /// Inflated.
    Inflated(Vec<u8>),
}

impl Frame {
    /// Checks the header and finds the body.
    fn read(bytes: &[u8], limits: &ChunkLimits) -> Result<Self, ChunkError> {
        if bytes.len() > limits.max_bytes {
            return Err(ChunkError::TooLarge { what: "chunk", max: limits.max_bytes as u64 });
        }
        let mut r = Reader::new(bytes);
        if r.array::<4>("magic")? != MAGIC {
            return Err(ChunkError::Magic);
        }
        r.array::<4>("checksum")?;
        let kind = r.u8("chunk type")?;
        let body = r.bytes(limits.max_bytes, "body")?;
        r.finish()?;
        match kind {
            TYPE_CHANGE => Ok(Self::Plain(bytes.len() - body.len())),
            TYPE_DEFLATED => inflate(body, limits).map(Self::Inflated),
            kind => Err(ChunkError::Kind { kind }),
        }
    }

    fn body<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Plain(start) => &bytes[*start..],
            Self::Inflated(body) => body,
        }
    }
}

/// The body of a chunk in either form. For the layers' own use.
pub(super) fn body_of(bytes: &[u8], limits: &ChunkLimits) -> Result<Vec<u8>, ChunkError> {
    let frame = Frame::read(bytes, limits)?;
    let body = frame.body(bytes);
    if hash_body(body).0[..4] != bytes[4..8] {
        return Err(ChunkError::Checksum);
    }
    Ok(body.to_vec())
}

/// Inflates under the limits. The deflated form must end with its stream and may not be padded: otherwise one hash
/// would have chunks of any size.
fn inflate(deflated: &[u8], limits: &ChunkLimits) -> Result<Vec<u8>, ChunkError> {
    let max = limits.max_inflated.min(limits.max_ratio.saturating_mul(deflated.len()));
    let mut state = Box::<DecompressorOxide>::default();
    let mut body = vec![0; deflated.len().saturating_mul(2).clamp(64.min(max), max)];
    let (mut read, mut written) = (0, 0);
    loop {
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, r, w) = decompress(&mut state, &deflated[read..], &mut body, written, flags);
        read += r;
        written += w;
        match status {
            TINFLStatus::Done if read == deflated.len() => break,
            TINFLStatus::HasMoreOutput if body.len() >= max => {
                return Err(ChunkError::TooLarge { what: "inflated change", max: max as u64 });
            }
            TINFLStatus::HasMoreOutput => body.resize(body.len().saturating_mul(2).min(max), 0),
            _ => return Err(ChunkError::Inflate),
        }
    }
    body.truncate(written);
    // Incompressible input costs deflate 5 B a block; Automerge deflates it all the same.
    let padded = deflated.len() > body.len() + body.len() / 256 + 64;
    if padded { Err(ChunkError::Inflate) } else { Ok(body) }
}

/// The hash of a change by its inflated body.
pub(super) fn hash_body(body: &[u8]) -> ChangeHash {
    let mut head = [0; 11];
    head[0] = TYPE_CHANGE;
    let mut len = 1;
    let mut rest = body.len() as u64;
    while rest >= 0x80 {
        head[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    head[len] = rest as u8;
    let digest = Sha256::new().chain_update(&head[..=len]).chain_update(body).finalize();
    ChangeHash(digest.into())
}

/// The fields of a body, borrowed from it where that saves an allocation.
pub(super) struct Body<'a> {
    pub(super) deps: SmallVec<[ChangeHash; 1]>,
    pub(super) actor: Actor,
    /// Offset of the actor's bytes in the body.
    pub(super) actor_at: usize,
    pub(super) seq: u64,
    pub(super) start_op: u64,
    pub(super) timestamp: i64,
    pub(super) message: &'a str,
    pub(super) other_actors: SmallVec<[Actor; 1]>,
    columns: columns::Columns<'a>,
    pub(super) extra: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ChunkError> {
        let mut r = Reader::new(body);
        let count = r.varint_max((body.len() / ChangeHash::LEN) as u64, "dependency count")?;
        let mut deps = SmallVec::with_capacity(count as usize);
        for _ in 0..count {
            deps.push(ChangeHash(r.array("dependency")?));
        }
        let actor = read_actor(&mut r)?;
        let actor_at = body.len() - r.remaining() - actor.as_bytes().len();
        let seq = nonzero(&mut r, "seq")?;
        let start_op = nonzero(&mut r, "start op")?;
        let timestamp = columns::read_i64(&mut r, "timestamp")?;
        let message = r.str(body.len(), "message")?;
        // Every actor takes at least two bytes, so the count is bounded by what is there.
        let count = r.varint_max((r.remaining() / 2) as u64, "actor count")?;
        let mut other_actors = SmallVec::new();
        for _ in 0..count {
            other_actors.push(read_actor(&mut r)?);
        }
        let columns = columns::Columns::read(&mut r)?;
        let extra = r.rest();
        Ok(Self { deps, actor, actor_at, seq, start_op, timestamp, message, other_actors, columns, extra })
    }

    fn op_count(&self, depth: Depth, limits: &ChunkLimits) -> Result<u64, ChunkError> {
        let count = self.columns.op_count(limits.max_ops)?;
        if depth == Depth::Full {
            let actors = columns::ActorTable::new(&self.actor, &self.other_actors);
            self.columns.check(count, self.start_op, actors, limits)?;
        }
        Ok(count)
    }
}

fn read_actor(r: &mut Reader<'_>) -> Result<Actor, DecodeError> {
    let bytes = r.bytes(Actor::MAX_LEN, "actor")?;
    Actor::from_bytes(bytes).ok_or(DecodeError::Invalid { field: "actor" })
}

/// A number from 1 to 2³² − 1: Automerge holds both seq and op counters in 32 bits and panics beyond.
fn nonzero(r: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    match r.varint_max(u64::from(u32::MAX), field)? {
        0 => Err(DecodeError::Invalid { field }),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests;
