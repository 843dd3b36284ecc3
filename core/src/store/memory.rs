//! Tables in memory: for tests, and for a peer that is told to keep nothing.
//!
//! "Durable" here means until the process ends. The answers to reads, epochs and ranges are those of the other backends.

use std::collections::BTreeMap;

use super::{Backend, Batch, EPOCH_KEY, FORMAT, FORMAT_KEY, MAX_READ_BYTES, format_row, read_too_large};
use crate::io::{ReadOp, Rows, StorageFailure, Table, WriteOp};

/// A [`Backend`] of ordered maps.
#[derive(Debug, Clone)]
pub struct Memory {
    identity: [u8; 16],
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Memory {
    /// An empty store. `identity` stands for the file's own identity: draw it at random, and draw it anew wherever a
    /// file would have been copied or restored.
    pub fn new(identity: [u8; 16]) -> Self {
        let meta = BTreeMap::from([(FORMAT_KEY.to_vec(), format_row(FORMAT))]);
        Self { identity, tables: BTreeMap::from([(Table::Meta, meta)]) }
    }

    /// Rows of a table, for tests and statistics.
    pub fn table(&self, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tables.get(&table).into_iter().flatten().map(|(k, v)| (k.as_slice(), v.as_slice()))
    }

    fn apply(&mut self, op: &WriteOp) {
        match op {
            WriteOp::Put(table, key, value) => {
                self.tables.entry(*table).or_default().insert(key.clone(), value.clone());
            }
            WriteOp::Delete(table, key) => {
                self.tables.entry(*table).or_default().remove(key);
            }
            WriteOp::DeleteRange(table, from, to) => {
                if from < to
                    && let Some(rows) = self.tables.get_mut(table)
                {
                    // Cut the range out and join the ends: O(range + log n), where `retain` would walk the table.
                    let mut cut = rows.split_off(from);
                    rows.append(&mut cut.split_off(to));
                }
            }
        }
    }

    fn scan(&self, op: &ReadOp) -> Result<Rows, StorageFailure> {
        let mut rows = Rows::default();
        let mut push = |key: &[u8], value: &[u8]| {
            if rows.byte_len() + key.len() + value.len() > MAX_READ_BYTES {
                return Err(read_too_large());
            }
            rows.push(key, value);
            Ok(())
        };
        match op {
            ReadOp::Get(table, key) => {
                if let Some(value) = self.tables.get(table).and_then(|rows| rows.get(key)) {
                    push(key, value)?;
                }
            }
            ReadOp::Scan { table, from, to, limit } => {
                let stored = self.tables.get(table).into_iter().flat_map(|rows| rows.range(from.clone()..));
                let end = |key: &Vec<u8>| to.as_ref().is_none_or(|to| key < to);
                for (key, value) in stored.take_while(|(key, _)| end(key)).take(*limit) {
                    push(key, value)?;
                }
            }
        }
        Ok(rows)
    }
}

impl Backend for Memory {
    fn identity(&self) -> Vec<u8> {
        self.identity.to_vec()
    }

    fn write(&mut self, batches: &[Batch<'_>]) -> Vec<Result<(), StorageFailure>> {
        let one = |store: &mut Self, (ops, epoch): &Batch<'_>| {
            let stored = store.tables.get(&Table::Meta).and_then(|meta| meta.get(EPOCH_KEY));
            if epoch.is_some_and(|expected| stored.map(Vec::as_slice) != Some(expected)) {
                return Err(StorageFailure::HostEpochChanged);
            }
            ops.iter().for_each(|op| store.apply(op));
            Ok(())
        };
        batches.iter().map(|batch| one(self, batch)).collect()
    }

    fn read(&self, ops: &[ReadOp]) -> Result<Vec<Rows>, StorageFailure> {
        ops.iter().map(|op| self.scan(op)).collect()
    }

    fn allocated_bytes(&self) -> u64 {
        self.tables.values().flatten().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }
}
