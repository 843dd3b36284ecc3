//! Rows that the journal keeps and redb does not have yet.
//!
//! A checkpoint puts them into redb in key order, each once, however often it was written since the last: a voter's head and
//! tail are written with every entry. Until then reads look here first.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use crate::io::{Table, WriteOp};

/// One row to be put, or, without a value, to be gone.
pub(super) type Row<'a> = (Table, &'a [u8], Option<&'a [u8]>);

/// What an operation does to one row; `None`: to more than one.
pub(super) fn row(op: &WriteOp) -> Option<Row<'_>> {
    match op {
        WriteOp::Put(table, key, value) => Some((*table, key, Some(value))),
        WriteOp::Delete(table, key) => Some((*table, key, None)),
        WriteOp::DeleteRange(..) => None,
    }
}

/// The newest state of rows, by table; no value: the row is gone.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    tables: [BTreeMap<Vec<u8>, Option<Vec<u8>>>; Table::ALL.len()],
}

impl Fresh {
    pub(super) fn put(&mut self, (table, key, value): Row<'_>) {
        let value = value.map(<[u8]>::to_vec);
        match self.tables[table as usize].get_mut(key) {
            Some(old) => *old = value,
            None => drop(self.tables[table as usize].insert(key.to_vec(), value)),
        }
    }

    /// The row's newest state; `None`: it is what redb has.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables[table as usize].get(key).map(Option::as_deref)
    }

    /// Rows of a table from a key on, before another.
    pub(super) fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> btree_map::Range<'_, Vec<u8>, Option<Vec<u8>>> {
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        self.tables[table as usize].range::<[u8], _>(bounds)
    }

    /// Every row, by table and key.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let of = |table: Table| self.tables[table as usize].iter().map(move |(k, v)| (table, &**k, v.as_deref()));
        Table::ALL.into_iter().flat_map(of)
    }

    pub(super) fn clear(&mut self) {
        self.tables.iter_mut().for_each(BTreeMap::clear);
    }
}
