//! What storage holds of a document's log, and how it is spelled.
//!
//! Table `chunks`: one entry an arrival.
//!
//! ```text
//! key    document (16)   arrival (u64, big endian)
//! value  0x01   the change's chunk                            bit 0x80: hidden from the view
//!        0x02   last covered arrival, number of changes (LEB128 each), the snapshot
//! ```
//!
//! Rows (hash, dependencies, actor, seq, counters) are not stored: reading the fields of a chunk of 104 B again takes
//! 1.0 µs, of which 0.4 µs are its SHA-256, which has to be checked on the way in from disk anyway; a stored row would
//! add two thirds to a tiny change.

use thiserror::Error;

use crate::id::DocumentId;
use crate::io::{ReadOp, Table, WriteOp};
use crate::wire::{DecodeError, Reader, Writer};

/// Length of a key of the table.
pub const KEY_LEN: usize = DocumentId::LEN + 8;

const KIND_CHANGE: u8 = 0x01;
const KIND_SNAPSHOT: u8 = 0x02;
const HIDDEN: u8 = 0x80;

/// Why an entry of the table is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RowError {
    /// The key has not [`KEY_LEN`] bytes.
    #[error("a key of table chunks has {KEY_LEN} bytes, this one has {bytes}")]
    Key {
        /// Its length.
        bytes: usize,
    },
    /// An empty value or an unknown kind.
    #[error("a value of table chunks has an unknown kind")]
    Kind,
    /// What stands before a snapshot is damaged.
    #[error("a snapshot's beginning is damaged: {0}")]
    Snapshot(#[from] DecodeError),
}

/// One entry of table `chunks`, borrowed from what storage answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRow<'a> {
    /// When it came, by the store's own count.
    pub arrival: u64,
    /// What it is.
    pub kind: RowKind,
    /// Whether it stays out of the view; see [`super::quarantine`].
    pub hidden: bool,
    /// Of a snapshot: the arrival of the last change that it covers, and how many it covers.
    pub covers: Option<(u64, u64)>,
    /// The change chunk or the snapshot: something that Automerge reads.
    pub bytes: &'a [u8],
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A change chunk.
    Change,
    /// A snapshot that stands for many changes.
    Snapshot,
}

impl<'a> StoredRow<'a> {
    /// Reads one entry.
    pub fn read(key: &[u8], value: &'a [u8]) -> Result<Self, RowError> {
        let arrival = arrival_of(key).ok_or(RowError::Key { bytes: key.len() })?;
        let (&kind, bytes) = value.split_first().ok_or(RowError::Kind)?;
        let hidden = kind & HIDDEN != 0;
        match kind & !HIDDEN {
            KIND_CHANGE => Ok(Self { arrival, kind: RowKind::Change, hidden, covers: None, bytes }),
            KIND_SNAPSHOT => {
                let mut r = Reader::new(bytes);
                let covers = Some((r.varint("last arrival")?, r.varint("changes")?));
                Ok(Self { arrival, kind: RowKind::Snapshot, hidden, covers, bytes: r.rest() })
            }
            _ => Err(RowError::Kind),
        }
    }
}

/// The key of one entry.
pub fn key(document: &DocumentId, arrival: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..DocumentId::LEN].copy_from_slice(&document.0);
    key[DocumentId::LEN..].copy_from_slice(&arrival.to_be_bytes());
    key
}

/// The arrival number in a key.
pub fn arrival_of(key: &[u8]) -> Option<u64> {
    let key: &[u8; KEY_LEN] = key.try_into().ok()?;
    Some(u64::from_be_bytes(key[DocumentId::LEN..].try_into().expect("eight bytes follow the document")))
}

/// The write that stores a change.
pub fn put_change(document: &DocumentId, arrival: u64, bytes: &[u8], hidden: bool) -> WriteOp {
    let mut value = Vec::with_capacity(1 + bytes.len());
    value.push(KIND_CHANGE | if hidden { HIDDEN } else { 0 });
    value.extend_from_slice(bytes);
    WriteOp::Put(Table::Chunks, key(document, arrival).to_vec(), value)
}

/// The write that stores a snapshot of `changes` changes, the last of which arrived as `last`, in the place of `first`.
pub fn put_snapshot(document: &DocumentId, first: u64, last: u64, changes: usize, snapshot: &[u8]) -> WriteOp {
    let mut w = Writer::new();
    w.u8(KIND_SNAPSHOT).varint(last).varint(changes as u64).raw(snapshot);
    WriteOp::Put(Table::Chunks, key(document, first).to_vec(), w.finish())
}

/// The read that finds one entry.
pub fn read_one(document: &DocumentId, arrival: u64) -> ReadOp {
    ReadOp::Get(Table::Chunks, key(document, arrival).to_vec())
}

/// The read of a document's entries from `from` on, at most `limit` of them.
pub fn read_from(document: &DocumentId, from: u64, limit: usize) -> ReadOp {
    let end = key_after(document);
    ReadOp::Scan { table: Table::Chunks, from: key(document, from).to_vec(), to: end, limit }
}

/// The write that removes everything stored of a document.
pub fn delete_all(document: &DocumentId) -> Vec<WriteOp> {
    let from = key(document, 0).to_vec();
    match key_after(document) {
        Some(to) => vec![WriteOp::DeleteRange(Table::Chunks, from, to)],
        // The very last document: a range cannot name its end, so its last possible key goes by itself.
        None => vec![
            WriteOp::DeleteRange(Table::Chunks, from, key(document, u64::MAX).to_vec()),
            WriteOp::Delete(Table::Chunks, key(document, u64::MAX).to_vec()),
        ],
    }
}

/// The first key of the next document, if there can be one.
fn key_after(document: &DocumentId) -> Option<Vec<u8>> {
    let next = u128::from_be_bytes(document.0).checked_add(1)?;
    Some(key(&DocumentId(next.to_be_bytes()), 0).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_written() {
        let document = DocumentId([7; 16]);
        let WriteOp::Put(_, key, value) = put_change(&document, 9, b"chunk", true) else { panic!("a put") };
        let row = StoredRow::read(&key, &value).unwrap();
        assert_eq!(row, StoredRow { arrival: 9, kind: RowKind::Change, hidden: true, covers: None, bytes: b"chunk" });
        let WriteOp::Put(_, key, value) = put_snapshot(&document, 9, 300, 70, b"doc") else { panic!("a put") };
        let row = StoredRow::read(&key, &value).unwrap();
        assert_eq!(
            (row.arrival, row.kind, row.covers, row.bytes),
            (9, RowKind::Snapshot, Some((300, 70)), &b"doc"[..])
        );
        assert_eq!(StoredRow::read(&key, &[]), Err(RowError::Kind));
        assert_eq!(StoredRow::read(&key[1..], &value), Err(RowError::Key { bytes: 23 }));
        assert!(matches!(StoredRow::read(&key, &value[..2]), Err(RowError::Snapshot(_))));
    }

    #[test]
    fn the_range_of_a_document_ends_at_the_next() {
        let ReadOp::Scan { from, to, .. } = read_from(&DocumentId([0; 16]), 3, 10) else { panic!("a scan") };
        let to = to.unwrap();
        assert!(
            from < key(&DocumentId([0; 16]), u64::MAX).to_vec() && key(&DocumentId([0; 16]), u64::MAX).to_vec() < to
        );
        assert_eq!(delete_all(&DocumentId([0xff; 16])).len(), 2);
    }
}
