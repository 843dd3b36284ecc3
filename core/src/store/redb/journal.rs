//! The redo journal beside the redb file: what makes a small write durable for one sequential write and one sync.
//!
//! A redb commit writes every page on the way to its rows (about 12 pages of 4 KiB, scattered, for a voter's entry, counted
//! with `strace`), and a checksum of each. Small groups go to this file instead, and their rows wait in memory
//! ([`super::fresh`]). When the journal is full, or a group too large for it comes, one redb commit takes in everything since
//! the last: a *checkpoint*. It is the write-ahead log of every database, with redo records only (Mohan et al., ARIES, 1992),
//! because redb itself keeps the last durable state whole.
//!
//! ```text
//! record, at a multiple of 512 bytes:
//!   generation u64   sequence u64   length u64   sum [16]   rows [length]
//! ```
//!
//! Invariants:
//! - the row [`ROW`] of redb names the generation whose records count, and the key of their sums. A checkpoint writes a
//!   new one in its own commit, so that old records are void in the instant in which they are not needed any more;
//! - while the row is there, so is the file: it is whole and synced before the row is written, and goes after the row. A
//!   store that has lost its journal is refused, since what it acknowledged is gone;
//! - a record is appended after the one before it was synced. So an invalid record with a valid one after it is damage,
//!   and an invalid one at the end is a write that nobody was told of;
//! - sums are keyed (BLAKE3 with 32 random bytes of the row), so that no value that somebody stores can pass for a record.
//!
//! What it is not: a place to read from. It is read when a store is opened after a crash.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use redb::{ReadableDatabase, TableDefinition, WriteTransaction};

use super::fresh::Row;
use crate::io::Table;
use crate::wire::{DecodeError, Reader, Writer};

/// Size of the journal file. A checkpoint costs a few milliseconds, so this much has to hold some hundred small groups.
pub(super) const JOURNAL_BYTES: u64 = 2 << 20;

/// Largest record, with its header. A larger group makes a checkpoint: redb writes big values as fast as the journal would.
pub(super) const MAX_RECORD: usize = 256 << 10;

/// Durable commits of one opening before the journal is begun: a command that writes twice and closes is better off
/// without.
const COMMITS_BEFORE: u32 = 16;

const ALIGN: usize = 512;
const HEADER: usize = 40;
const SUM: usize = 16;

/// The journal's row: under `b"journal"`, generation and key.
const ROW: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("journal");
const ROW_KEY: &[u8] = b"journal";

/// Most rows of one record; a decoder's bound, far over what fits.
const MAX_ROWS: usize = MAX_RECORD;

/// Where the bytes of a journal live.
pub(super) trait Device: std::fmt::Debug + Send {
    /// All bytes of the journal.
    fn load(&mut self) -> io::Result<Vec<u8>>;
    /// Writes at a place inside it.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Device for File {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.rewind()?;
        Read::by_ref(self).take(JOURNAL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Which records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    number: u64,
    key: [u8; 32],
}

impl Generation {
    fn after(previous: Option<Generation>) -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { number: previous.map_or(1, |g| g.number.wrapping_add(1)), key })
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64_le(self.number).array(&self.key);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let generation = Self { number: r.u64_le("generation")?, key: r.array("key")? };
        r.finish()?;
        Ok(generation)
    }

    fn sum(&self, head: &[u8], rows: &[u8]) -> [u8; SUM] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(head).update(rows);
        *hasher.finalize().as_bytes().first_chunk().expect("32 bytes are more than 16")
    }
}

/// A journal that is in use: where the next record goes.
#[derive(Debug)]
pub(super) struct Journal {
    device: Box<dyn Device>,
    /// `None` until the first checkpoint of this opening.
    generation: Option<Generation>,
    sequence: u64,
    at: u64,
    /// Written by a checkpoint that is not committed yet.
    next: Option<Generation>,
}

impl Journal {
    pub(super) fn new(device: Box<dyn Device>) -> Self {
        Self { device, generation: None, sequence: 0, at: 0, next: None }
    }

    /// A journal that goes on behind the records that were read from it.
    pub(super) fn resume(mut device: Box<dyn Device>, generation: Generation, found: &Found<'_>) -> io::Result<Self> {
        // A sync that failed may have left records in the system's cache that the device does not have.
        device.write(0, found.bytes)?;
        device.sync()?;
        let sequence = found.groups.len() as u64;
        Ok(Self { device, generation: Some(generation), sequence, at: found.end, next: None })
    }

    /// Whether records can be appended, so that rows may wait in memory.
    pub(super) fn is_begun(&self) -> bool {
        self.generation.is_some()
    }

    /// Whether there are records that a checkpoint would take in.
    #[cfg(test)]
    pub(super) fn holds_records(&self) -> bool {
        self.sequence > 0
    }

    /// Puts another device in the place of the one in use, to see it fail.
    #[cfg(test)]
    pub(super) fn replace_device(&mut self, device: Box<dyn Device>) {
        self.device = device;
    }

    /// Makes the group durable. `false`: it is too large or there is no room; a checkpoint has to carry it.
    pub(super) fn append(&mut self, rows: &[u8]) -> io::Result<bool> {
        let Some(generation) = &self.generation else { return Ok(false) };
        let length = (HEADER + rows.len()).next_multiple_of(ALIGN);
        if length > MAX_RECORD || self.at + length as u64 > JOURNAL_BYTES {
            return Ok(false);
        }
        let mut record = Vec::with_capacity(length);
        for field in [generation.number, self.sequence, rows.len() as u64] {
            record.extend_from_slice(&field.to_le_bytes());
        }
        let sum = generation.sum(&record, rows);
        record.extend_from_slice(&sum);
        record.extend_from_slice(rows);
        record.resize(length, 0);
        self.device.write(self.at, &record)?;
        self.device.sync()?;
        self.at += length as u64;
        self.sequence += 1;
        Ok(true)
    }

    /// Puts the next generation's row into a transaction that is about to be committed durably.
    pub(super) fn turn(&mut self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        let mut table = txn.open_table(ROW)?;
        let previous = match &self.generation {
            Some(generation) => Some(*generation),
            None => table.get_generation()?,
        };
        let next = Generation::after(previous)?;
        table.insert(ROW_KEY, next.encode().as_slice())?;
        self.next = Some(next);
        Ok(())
    }

    /// The transaction of [`Self::turn`] is durable: begins anew.
    pub(super) fn turned(&mut self) {
        if let Some(next) = self.next.take() {
            (self.generation, self.sequence, self.at) = (Some(next), 0, 0);
        }
    }
}

trait GenerationRow {
    fn get_generation(&self) -> Result<Option<Generation>, redb::Error>;
}

impl<T: redb::ReadableTable<&'static [u8], &'static [u8]>> GenerationRow for T {
    fn get_generation(&self) -> Result<Option<Generation>, redb::Error> {
        let Some(row) = self.get(ROW_KEY)? else { return Ok(None) };
        let decoded = Generation::decode(row.value());
        decoded.map(Some).map_err(|e| redb::Error::Corrupted(format!("the journal's row: {e}")))
    }
}

/// The generation whose records count; `None`: the store has no journal.
pub(super) fn generation_of(database: &impl ReadableDatabase) -> Result<Option<Generation>, redb::Error> {
    match database.begin_read()?.open_table(ROW) {
        Ok(table) => table.get_generation(),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Says, in a durable transaction, that the store has no journal.
pub(super) fn retire(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(ROW)?.remove(ROW_KEY)?;
    Ok(())
}

/// Whether this many durable commits of one opening are worth a journal.
pub(super) fn is_worth(commits: u32) -> bool {
    commits >= COMMITS_BEFORE
}

/// One row of a record.
pub(super) type OwnedRow = (Table, Vec<u8>, Option<Vec<u8>>);

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// The rows of every record, oldest first.
    pub(super) groups: Vec<Vec<OwnedRow>>,
    /// The records.
    bytes: &'a [u8],
    /// Where the next one goes.
    end: u64,
}

/// Every record of a generation.
///
/// # Errors
/// What is damaged: a record that was acknowledged, or rows that no writer wrote.
pub(super) fn records<'a>(bytes: &'a [u8], generation: &Generation) -> Result<Found<'a>, String> {
    let mut groups = Vec::new();
    let mut at = 0;
    while let Some((rows, length)) = record(bytes, at, generation, |sequence| sequence == groups.len() as u64) {
        let group = decode(rows).map_err(|e| format!("record {} of the journal: {e}", groups.len()))?;
        groups.push(group);
        at += length;
    }
    let known = groups.len() as u64;
    let later = (at..bytes.len()).step_by(ALIGN);
    if later.into_iter().any(|at| record(bytes, at, generation, |sequence| sequence > known).is_some()) {
        return Err(format!("record {known} of the journal is damaged, and one after it is whole"));
    }
    Ok(Found { groups, bytes: bytes.get(..at).unwrap_or(bytes), end: at as u64 })
}

/// The record at a place, if a whole one of that generation is there: its rows, and its length in the file.
fn record<'a>(
    bytes: &'a [u8],
    at: usize,
    generation: &Generation,
    sequence: impl Fn(u64) -> bool,
) -> Option<(&'a [u8], usize)> {
    let bytes = bytes.get(at..)?;
    let (head, rest) = bytes.split_at_checked(HEADER - SUM)?;
    let (sum, rest) = rest.split_at_checked(SUM)?;
    let mut r = Reader::new(head);
    let (found, number) = (r.u64_le("generation").ok()?, r.u64_le("sequence").ok()?);
    let length = usize::try_from(r.u64_le("length").ok()?).ok()?;
    if found != generation.number || !sequence(number) || length > MAX_RECORD {
        return None;
    }
    let rows = rest.get(..length)?;
    (generation.sum(head, rows) == sum).then(|| (rows, (HEADER + length).next_multiple_of(ALIGN)))
}

/// The rows of one group, as a record keeps them.
pub(super) fn encode<'a>(rows: impl Iterator<Item = Row<'a>>) -> Vec<u8> {
    let mut w = Writer::new();
    for (table, key, value) in rows {
        w.u8(table as u8).bytes(key).option(value.as_ref(), |w, value| {
            w.bytes(value);
        });
    }
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<OwnedRow>, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut rows = Vec::new();
    while r.remaining() > 0 && rows.len() < MAX_ROWS {
        let number = r.u8("table")?;
        let table = *Table::ALL.get(usize::from(number)).ok_or(DecodeError::Invalid { field: "table" })?;
        let key = r.bytes(MAX_RECORD, "key")?.to_vec();
        let value = r.option("value", |r| Ok(r.bytes(MAX_RECORD, "value")?.to_vec()))?;
        rows.push((table, key, value));
    }
    r.finish()?;
    Ok(rows)
}

/// A journal as fuzzers read it.
#[cfg(feature = "sim")]
pub(crate) mod fuzz {
    use super::*;

    const GENERATION: Generation = Generation { number: 3, key: [7; 32] };

    /// What the journal holds; it is written again as the same bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<usize, String> {
        let found = records(bytes, &GENERATION)?;
        for group in &found.groups {
            let again = encode(group.iter().map(|(table, key, value)| (*table, &**key, value.as_deref())));
            assert_eq!(&decode(&again).expect("it was just written"), group);
        }
        Ok(found.groups.len())
    }

    /// Makes the heads of records true, so that their rows are read.
    pub(crate) fn seal(bytes: &mut [u8]) {
        let (mut at, mut sequence) = (0, 0u64);
        while let Some(record) = bytes.get_mut(at..).filter(|record| record.len() >= HEADER) {
            let claimed = u64::from_le_bytes(*record[16..].first_chunk().expect("a head"));
            let length = usize::try_from(claimed).map_or(0, |claimed| claimed % (record.len() - HEADER + 1));
            let numbers = [GENERATION.number, sequence, length as u64].map(u64::to_le_bytes).concat();
            let sum = GENERATION.sum(&numbers, &record[HEADER..HEADER + length]);
            record[..HEADER].copy_from_slice(&[&numbers[..], &sum].concat());
            (at, sequence) = (at + (HEADER + length).next_multiple_of(ALIGN), sequence + 1);
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let rows: [Row<'_>; 3] =
            [(Table::Raft, &[1, 2], Some(&[3; 300])), (Table::Index, &[], None), (Table::Chunks, &[1], Some(&[]))];
        let mut two = Vec::new();
        for rows in [&rows[..], &rows[..1]] {
            let encoded = encode(rows.iter().copied());
            let length = (encoded.len() as u64).to_le_bytes();
            two.extend_from_slice(&[&[0; 16][..], &length, &[0; SUM], &encoded].concat());
            two.resize(two.len().next_multiple_of(ALIGN), 0);
        }
        seal(&mut two);
        vec![Vec::new(), two[..ALIGN].to_vec(), two]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generation() -> Generation {
        Generation { number: 3, key: [7; 32] }
    }

    #[test]
    fn rows_survive() {
        let rows: [OwnedRow; 3] = [
            (Table::Raft, vec![1, 2], Some(vec![3; 300])),
            (Table::Index, vec![], None),
            (Table::Chunks, vec![1], Some(vec![])),
        ];
        let encoded = encode(rows.iter().map(|(table, key, value)| (*table, &**key, value.as_deref())));
        assert_eq!(decode(&encoded).unwrap(), rows);
        assert_eq!(decode(&encode(std::iter::empty())).unwrap(), []);
    }

    /// A value that holds a whole record of the same generation and the next number, at a place where records begin, does
    /// not count as one: it would need the key.
    #[test]
    fn a_value_cannot_pass_for_a_record() {
        let mut forged = Vec::new();
        for field in [3u64, 1, 1] {
            forged.extend_from_slice(&field.to_le_bytes());
        }
        forged.extend_from_slice(&Generation { number: 3, key: [0; 32] }.sum(&forged.clone(), &[0]));
        forged.push(0);
        let mut bytes = vec![0; 2048];
        bytes[512..512 + forged.len()].copy_from_slice(&forged);
        assert_eq!(records(&bytes, &generation()), Ok(Found { groups: vec![], bytes: &[], end: 0 }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            prop_assert_eq!(records(&bytes, &generation()), Ok(Found { groups: vec![], bytes: &[], end: 0 }));
        }
    }
}
