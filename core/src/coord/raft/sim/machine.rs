//! The machine of simulated groups: a chain of hashes over everything applied, so that two replicas that differ in one
//! entry differ for ever.

use crate::coord::replicated::{Replicated, SnapshotError};
use crate::wire::Reader;

/// A count of entries and the hash of their sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// Entries applied.
    pub count: u64,
    chain: [u8; 32],
}

const VERSION: u64 = 1;

impl Replicated for Register {
    type Output = u64;

    fn apply(&mut self, index: u64, entry: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.chain).update(&index.to_le_bytes()).update(entry);
        self.chain = *hasher.finalize().as_bytes();
        self.count += 1;
        self.count
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut w = crate::wire::Writer::new();
        w.varint(VERSION).varint(self.count).array(&self.chain);
        // As large as several chunks, so that transfers are worth interrupting.
        w.raw(&blake3::hash(&self.chain).as_bytes().repeat(SNAPSHOT_FILL));
        w.finish()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), SnapshotError> {
        let mut r = Reader::new(snapshot);
        let found = r.varint("register version")?;
        if found > VERSION {
            return Err(SnapshotError::Newer { found, known: VERSION });
        }
        let restored = Self { count: r.varint("register count")?, chain: r.array("register chain")? };
        r.take(32 * SNAPSHOT_FILL, "register fill")?;
        r.finish()?;
        *self = restored;
        Ok(())
    }

    fn digest(&self) -> [u8; 32] {
        self.chain
    }
}

/// 320 KiB: five chunks.
const SNAPSHOT_FILL: usize = 10 << 10;
