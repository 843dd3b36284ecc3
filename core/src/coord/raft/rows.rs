//! The log on disk: rows with a checksum each, and how a store is opened after a bad day.
//!
//! ```text
//!  00            identity: who votes with this store, in which generation
//!  01            head:     seq, term, vote, commit, cut        first row of every write
//!  10 index      entry                                          index big-endian, so rows sort as the log does
//!  20 index part snapshot, in parts
//!  02            tail:     seq, base, last, snapshot            last row of every write
//! ```
//!
//! A *write* is all rows of one [`super::group::Output::Persist`], in order. A backend writes a row whole or not at all,
//! and no row before the ones that precede it; one that writes all of a write or nothing (redb, IndexedDB) is better than
//! that. The head says from which index on the write replaces entries, the tail closes it. So after a crash:
//!
//! - `head.seq == tail.seq`: the last write is complete. It may have been acknowledged, so every row that the tail names
//!   has to be there and whole, or the store is refused.
//! - `head.seq == tail.seq + 1`: the last write is not complete, so it was never acknowledged, and nothing that depends on
//!   it was sent. Entries from `cut` on are dropped. What was there before the cut has to be whole.
//!
//! The head's commit index holds for what is kept in either case: where a snapshot replaces the log it is the one from before.
//!
//! Nothing else is repaired. Entries that a voter once acknowledged and lost may have been the last copy that a majority
//! needs, so a voter without them may not go on under its name.

use std::collections::BTreeMap;

use raft::eraftpb::{Entry, HardState};
use thiserror::Error;

use super::entry::LogEntry;
use super::log::Position;
use super::member::{Generation, MAX_NUMBER, Member, MemberId, Membership, decode_id};
use crate::coord::replicated::SnapshotError;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// The version of the rows. An older one would be migrated, a newer one is refused.
pub const FORMAT: u64 = 1;

/// Bytes of a snapshot in one row: backends keep rows of this size well.
pub const PART_BYTES: usize = 256 << 10;

const IDENTITY: &[u8] = &[0x00];
const HEAD: &[u8] = &[0x01];
const TAIL: &[u8] = &[0x02];
const ENTRY: u8 = 0x10;
const PART: u8 = 0x20;
const SUM_BYTES: usize = 8;

/// One step of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Puts a row, in place of the one of that key.
    Put(Vec<u8>, Vec<u8>),
    /// Deletes rows from the first key up to, and without, the second.
    Delete(Vec<u8>, Vec<u8>),
}

/// Why a store does not open. It was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing was ever written: found a group or join one.
    #[error("the log store is empty: found a group or join one")]
    Empty,
    /// Written by a newer version of the program.
    #[error("the log store has format {found}, this program reads up to {known}: update it first")]
    Newer {
        /// The store's format.
        found: u64,
        /// The newest that is read here.
        known: u64,
    },
    /// A row that a write had completed is missing or damaged, so what this voter promised is not known any more.
    #[error(
        "the log store lost what it had acknowledged ({what}, index {index}). This voter cannot go on under its name: \
         move its log away, start it with an empty one, let the others add the new store as a learner and then put it \
         in this one's place (`voters add`, `voters replace`)"
    )]
    Corrupt {
        /// Which kind of row.
        what: &'static str,
        /// The index it belongs to, 0 where it belongs to none.
        index: u64,
    },
    /// The snapshot is whole, but the machine does not take it.
    #[error("the log store's snapshot is not for this program: {0}")]
    Snapshot(#[from] SnapshotError),
}

/// Who votes with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The group's life.
    pub generation: Generation,
    /// Its name.
    pub me: Member,
    /// Its id. A newcomer has none before the group gave it one.
    pub id: Option<MemberId>,
}

impl Codec for Identity {
    fn encode(&self, w: &mut Writer) {
        w.varint(FORMAT);
        self.generation.encode(w);
        self.me.encode(w);
        w.option(self.id.as_ref(), |w, id| {
            w.varint(id.0);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.varint_max(FORMAT, "log format")?;
        Ok(Self { generation: Generation::decode(r)?, me: Member::decode(r)?, id: r.option("own id", decode_id)? })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) commit: u64,
    pub(crate) cut: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) seq: u64,
    pub(crate) base: Position,
    pub(crate) last: u64,
    pub(crate) snapshot: Position,
    pub(crate) size: u64,
    pub(crate) hash: [u8; 32],
}

impl Codec for Head {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.seq).varint(self.term).varint(self.vote).varint(self.commit).varint(self.cut);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut number = |field| r.varint_max(MAX_NUMBER, field);
        Ok(Self {
            seq: number("seq")?,
            term: number("term")?,
            vote: number("vote")?,
            commit: number("commit")?,
            cut: number("cut")?,
        })
    }
}

impl Codec for Tail {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.seq);
        self.base.encode(w);
        w.varint(self.last);
        self.snapshot.encode(w);
        w.varint(self.size).array(&self.hash);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seq: r.varint_max(MAX_NUMBER, "seq")?,
            base: Position::decode(r)?,
            last: r.varint_max(MAX_NUMBER, "last")?,
            snapshot: Position::decode(r)?,
            size: r.varint_max(MAX_NUMBER, "size")?,
            hash: r.array("hash")?,
        })
    }
}

/// A snapshot: the membership and the machine's state at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry it stands for.
    pub at: Position,
    /// The membership and the machine's bytes.
    pub bytes: Vec<u8>,
    /// BLAKE3 of `bytes`.
    pub hash: [u8; 32],
}

const SNAPSHOT_VERSION: u64 = 1;

impl Snapshot {
    pub(crate) fn new(at: Position, membership: &Membership, machine: &[u8]) -> Self {
        let mut w = Writer::new();
        w.varint(SNAPSHOT_VERSION);
        membership.encode(&mut w);
        w.raw(machine);
        let bytes = w.finish();
        Self { at, hash: *blake3::hash(&bytes).as_bytes(), bytes }
    }

    /// The parts of a snapshot's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Membership, &[u8]), SnapshotError> {
        let mut r = Reader::new(bytes);
        let found = r.varint("snapshot version")?;
        if found > SNAPSHOT_VERSION {
            return Err(SnapshotError::Newer { found, known: SNAPSHOT_VERSION });
        }
        let membership = Membership::decode(&mut r)?;
        Ok((membership, r.rest()))
    }
}

/// Every row of a store that begins anew at a snapshot, under one identity: the first write of a rebuilt group. What was
/// in the store before is deleted first, so the new life does not mix with the old one.
pub(crate) fn fresh_rows(identity: &Identity, snapshot: &Snapshot, term: u64) -> Vec<Write> {
    let head = Head { seq: 1, term, vote: 0, commit: snapshot.at.index, cut: snapshot.at.index + 1 };
    let tail = Tail {
        seq: 1,
        base: snapshot.at,
        last: snapshot.at.index,
        snapshot: snapshot.at,
        size: snapshot.bytes.len() as u64,
        hash: snapshot.hash,
    };
    let mut writes = vec![Write::Delete(vec![0], vec![u8::MAX]), identity_row(identity), head_row(&head)];
    writes.extend(snapshot_rows(snapshot));
    writes.push(tail_row(&tail));
    writes
}

fn entry_key(index: u64) -> Vec<u8> {
    [&[ENTRY][..], &index.to_be_bytes()].concat()
}

fn part_key(index: u64, part: u32) -> Vec<u8> {
    [&[PART][..], &index.to_be_bytes(), &part.to_be_bytes()].concat()
}

fn sum(key: &[u8], value: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM_BYTES]);
    sum
}

/// A row with its checksum, which covers the key too: a row under another's key is damage.
fn put(key: Vec<u8>, mut value: Vec<u8>) -> Write {
    let sum = sum(&key, &value);
    value.extend_from_slice(&sum);
    Write::Put(key, value)
}

/// A row's value, if its checksum holds.
fn checked<'a>(key: &[u8], row: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stored) = row.split_at_checked(row.len().checked_sub(SUM_BYTES)?)?;
    (stored == sum(key, value)).then_some(value)
}

pub(crate) fn identity_row(identity: &Identity) -> Write {
    put(IDENTITY.to_vec(), identity.to_bytes())
}

pub(crate) fn head_row(head: &Head) -> Write {
    put(HEAD.to_vec(), head.to_bytes())
}

pub(crate) fn tail_row(tail: &Tail) -> Write {
    put(TAIL.to_vec(), tail.to_bytes())
}

pub(crate) fn entry_row(index: u64, entry: &LogEntry) -> Write {
    put(entry_key(index), entry.to_bytes())
}

pub(crate) fn snapshot_rows(snapshot: &Snapshot) -> impl Iterator<Item = Write> {
    let parts = snapshot.bytes.chunks(PART_BYTES).zip(0..);
    parts.map(|(bytes, part)| put(part_key(snapshot.at.index, part), bytes.to_vec()))
}

/// Deletes entries from `from` up to, and without, `to`.
pub(crate) fn delete_entries(from: u64, to: u64) -> Write {
    Write::Delete(entry_key(from), entry_key(to))
}

/// Deletes snapshots from `from` up to, and without, `to`.
pub(crate) fn delete_snapshots(from: u64, to: u64) -> Write {
    Write::Delete(part_key(from, 0), part_key(to, 0))
}

/// What a store holds.
#[derive(Debug)]
pub struct Stored {
    pub(crate) identity: Identity,
    pub(crate) seq: u64,
    pub(crate) hard: HardState,
    pub(crate) base: Position,
    /// In order, from the one behind `base`.
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) membership: Membership,
    /// Entries of a write that was never completed, dropped.
    dropped: u64,
}

impl Stored {
    /// Who votes with it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Entries of a write that was never acknowledged, dropped on opening.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing was ever promised with it: the write that began it was not completed. Found or join again.
    pub fn is_blank(&self) -> bool {
        self.seq == 0
    }

    /// The last entry: of several survivors, the one with the greatest (term, index) holds every entry that was committed
    /// and that any of them holds.
    pub fn last(&self) -> Position {
        let entry = self.entries.last().map(|entry| Position { index: entry.index, term: entry.term });
        entry.unwrap_or(self.base)
    }

    /// Reads all rows of a store. Costs one pass over them and a hash of each.
    pub fn open(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, OpenError> {
        let rows: BTreeMap<Vec<u8>, Vec<u8>> = rows.into_iter().collect();
        if rows.is_empty() {
            return Err(OpenError::Empty);
        }
        let identity = open_identity(&rows)?;
        let head: Option<Head> = fixed(&rows, HEAD, "head")?;
        let tail: Option<Tail> = fixed(&rows, TAIL, "tail")?;
        let (head, tail) = match (head, tail) {
            (head, Some(tail)) => (head.ok_or(OpenError::Corrupt { what: "head", index: 0 })?, tail),
            // The very first write was not completed: nothing was ever promised.
            (Some(head), None) if head.seq == 1 => return Ok(Self::blank(identity)),
            (None, None) => return Ok(Self::blank(identity)),
            (Some(_), None) => return Err(OpenError::Corrupt { what: "tail", index: 0 }),
        };
        let whole = head.seq == tail.seq;
        if !whole && head.seq != tail.seq + 1 {
            return Err(OpenError::Corrupt { what: "head", index: 0 });
        }
        let end = if whole { tail.last } else { tail.last.min(head.cut.saturating_sub(1)) };
        // No write ever replaced what a snapshot stood for.
        if end < tail.base.index || end < tail.snapshot.index {
            return Err(OpenError::Corrupt { what: "head", index: end });
        }
        let entries =
            (tail.base.index + 1..=end).map(|index| open_entry(&rows, index)).collect::<Result<Vec<_>, _>>()?;
        let terms = std::iter::once(tail.base.term).chain(entries.iter().map(|entry| entry.term));
        if !terms.is_sorted() {
            return Err(OpenError::Corrupt { what: "entry", index: end });
        }
        let snapshot = open_snapshot(&rows, &tail)?;
        let membership = match &snapshot {
            Some(snapshot) => Snapshot::parse(&snapshot.bytes)?.0,
            None => Membership::unknown(identity.generation),
        };
        let mut hard = HardState::default();
        (hard.term, hard.vote) = (head.term, head.vote);
        hard.commit = head.commit.min(end).max(tail.snapshot.index);
        let dropped = tail.last.saturating_sub(end);
        // The next write takes the number of one that was not completed.
        Ok(Self { identity, seq: tail.seq, hard, base: tail.base, entries, snapshot, membership, dropped })
    }

    fn blank(identity: Identity) -> Self {
        Self {
            identity,
            seq: 0,
            hard: HardState::default(),
            base: Position::default(),
            entries: Vec::new(),
            snapshot: None,
            membership: Membership::unknown(identity.generation),
            dropped: 0,
        }
    }
}

fn open_identity(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Identity, OpenError> {
    let corrupt = OpenError::Corrupt { what: "identity", index: 0 };
    let row = rows.get(IDENTITY).ok_or(corrupt.clone())?;
    let value = checked(IDENTITY, row).ok_or(corrupt.clone())?;
    match Reader::new(value).varint("log format") {
        Ok(found) if found > FORMAT => return Err(OpenError::Newer { found, known: FORMAT }),
        Ok(_) => {}
        Err(_) => return Err(corrupt),
    }
    Identity::from_bytes(value).map_err(|_| corrupt)
}

fn fixed<T: Codec>(rows: &BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], what: &'static str) -> Result<Option<T>, OpenError> {
    let Some(row) = rows.get(key) else { return Ok(None) };
    let value = checked(key, row).and_then(|value| T::from_bytes(value).ok());
    value.map(Some).ok_or(OpenError::Corrupt { what, index: 0 })
}

fn open_entry(rows: &BTreeMap<Vec<u8>, Vec<u8>>, index: u64) -> Result<Entry, OpenError> {
    let key = entry_key(index);
    let value = rows.get(&key).and_then(|row| checked(&key, row));
    let entry = value.and_then(|value| LogEntry::from_bytes(value).ok());
    Ok(entry.ok_or(OpenError::Corrupt { what: "entry", index })?.into_raft(index))
}

fn open_snapshot(rows: &BTreeMap<Vec<u8>, Vec<u8>>, tail: &Tail) -> Result<Option<Snapshot>, OpenError> {
    if tail.snapshot.index == 0 {
        return Ok(None);
    }
    let corrupt = || OpenError::Corrupt { what: "snapshot", index: tail.snapshot.index };
    let mut bytes = Vec::new();
    for part in 0..tail.size.div_ceil(PART_BYTES as u64) {
        let key = part_key(tail.snapshot.index, u32::try_from(part).map_err(|_| corrupt())?);
        bytes.extend_from_slice(rows.get(&key).and_then(|row| checked(&key, row)).ok_or_else(corrupt)?);
    }
    let hash = *blake3::hash(&bytes).as_bytes();
    if bytes.len() as u64 != tail.size || hash != tail.hash {
        return Err(corrupt());
    }
    Ok(Some(Snapshot { at: tail.snapshot, bytes, hash }))
}
