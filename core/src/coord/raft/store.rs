//! Where rows are kept, and a store in memory that shows what a crash leaves.

use std::collections::{BTreeMap, VecDeque};

use super::rows::Write;

/// A place for the rows of one log. A driver carries out every [`super::group::Output::Persist`] on it, in order, and
/// reports it as persisted when it is durable.
pub trait LogStore {
    /// What can go wrong.
    type Error;

    /// Makes a write durable before it returns. Its rows are kept whole, and none without those before it.
    fn write(&mut self, writes: &[Write]) -> Result<(), Self::Error>;

    /// Every row, in any order: what [`super::rows::Stored::open`] reads.
    fn rows(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Self::Error>;
}

/// Rows in memory, durable ones apart from those on their way.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    waiting: VecDeque<Vec<Write>>,
}

impl MemoryLog {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a write that is not durable yet.
    pub fn submit(&mut self, writes: Vec<Write>) {
        self.waiting.push_back(writes);
    }

    /// Makes the oldest write that waits durable. Whether there was one.
    pub fn sync(&mut self) -> bool {
        let Some(writes) = self.waiting.pop_front() else { return false };
        writes.into_iter().for_each(|write| self.apply(write));
        true
    }

    /// Power goes. Of the writes that wait, `whole` are kept and the first `rows` rows of the next one; the rest is lost.
    pub fn crash(&mut self, whole: usize, rows: usize) {
        for _ in 0..whole {
            self.sync();
        }
        if let Some(torn) = self.waiting.pop_front() {
            torn.into_iter().take(rows).for_each(|write| self.apply(write));
        }
        self.waiting.clear();
    }

    /// Writes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Rows of the write that waits longest.
    pub fn waiting_rows(&self) -> usize {
        self.waiting.front().map_or(0, Vec::len)
    }

    /// The durable rows, for tests that damage them.
    pub fn durable_mut(&mut self) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.durable
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Put(key, value) => {
                self.durable.insert(key, value);
            }
            Write::Delete(from, to) => {
                let keys: Vec<Vec<u8>> = self.durable.range(from..to).map(|(key, _)| key.clone()).collect();
                keys.iter().for_each(|key| {
                    self.durable.remove(key);
                });
            }
        }
    }
}

impl LogStore for MemoryLog {
    type Error = std::convert::Infallible;

    fn write(&mut self, writes: &[Write]) -> Result<(), Self::Error> {
        self.submit(writes.to_vec());
        while self.sync() {}
        Ok(())
    }

    fn rows(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Self::Error> {
        Ok(self.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
