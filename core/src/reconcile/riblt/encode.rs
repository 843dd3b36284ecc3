//! Making coded symbols: in blocks for a whole set, and a short prefix that follows a live one.

use super::{Symbol, Walk};
use crate::reconcile::item::IdKey;

/// Makes the coded symbols of a snapshot of a set, block after block.
///
/// Blocks rather than one array for all symbols: a block stays in the cache while every id is walked over it. Holds
/// 24 bytes an id while it lives. The first 4,096 symbols cost about 150 ns an id, later blocks far less, since
/// an id maps to ever fewer symbols, plus one look at each id.
#[derive(Debug, Clone)]
pub struct Encoder {
    walks: Vec<Walk>,
    made: u32,
}

impl Encoder {
    /// An encoder over `ids`, which are the set's ids under `key`.
    pub fn new(key: &IdKey, ids: impl IntoIterator<Item = u64>) -> Self {
        Self { walks: ids.into_iter().map(|id| Walk::new(key, id)).collect(), made: 0 }
    }

    /// An empty encoder with room for `count` ids, to be filled by [`Encoder::push`].
    pub fn with_capacity(count: usize) -> Self {
        Self { walks: Vec::with_capacity(count), made: 0 }
    }

    /// Adds an id. Only before the first block.
    pub fn push(&mut self, key: &IdKey, id: u64) {
        debug_assert_eq!(self.made, 0, "symbols already made would lack the id");
        self.walks.push(Walk::new(key, id));
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.walks.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// How many symbols have been made: the index of the next block's first.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Appends the next `count` symbols to `out`.
    pub fn block(&mut self, count: usize, out: &mut Vec<Symbol>) {
        let first = out.len();
        out.resize(first + count, Symbol::default());
        let cells = &mut out[first..];
        for walk in &mut self.walks {
            walk.apply(cells, self.made, 1);
        }
        self.made = self.made.saturating_add(count as u32);
    }
}

/// The first coded symbols of a live set, kept up to date as items come and go: 64 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct PrefixCache {
    key: IdKey,
    cells: Box<[Symbol]>,
}

impl PrefixCache {
    /// How many symbols are kept. They serve differences of up to about 2,900 ids, which is 1,450 changed documents.
    pub const LEN: usize = 4096;

    /// The prefix of the empty set.
    pub fn new(key: IdKey) -> Self {
        Self { key, cells: vec![Symbol::default(); Self::LEN].into_boxed_slice() }
    }

    /// The key that the ids are under.
    pub fn key(&self) -> &IdKey {
        &self.key
    }

    /// Adds an id that is not in the set. About 150 ns.
    pub fn add(&mut self, id: u64) {
        Walk::new(&self.key, id).apply(&mut self.cells, 0, 1);
    }

    /// Removes an id that is in the set. About 150 ns.
    pub fn remove(&mut self, id: u64) {
        Walk::new(&self.key, id).apply(&mut self.cells, 0, -1);
    }

    /// The symbols.
    pub fn symbols(&self) -> &[Symbol] {
        &self.cells
    }
}

impl std::fmt::Debug for PrefixCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrefixCache({:?})", self.cells[0])
    }
}
