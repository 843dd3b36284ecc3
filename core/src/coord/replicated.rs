//! The seam between consensus and what is agreed on.

use thiserror::Error;

/// What a group agrees on: a deterministic machine over a log of entries.
pub trait Replicated {
    /// What applying one entry gives.
    type Output;
    /// Applies the entry at `index`. The same entries in the same order give the same state, bytes and outputs everywhere. Never fails: an entry that does not parse changes nothing.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Self::Output;
    /// The whole state, bounded and versioned.
    fn snapshot(&self) -> Vec<u8>;
    /// Takes a snapshot's state in place of its own; on an error nothing has changed.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), SnapshotError>;
    /// BLAKE3 over the state, equal on every replica at an equal index.
    fn digest(&self) -> [u8; 32];
}

/// Why a snapshot was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Written by a newer version of the program.
    #[error("the snapshot has version {found}, this program reads up to {known}: update it first")]
    Newer {
        /// The snapshot's version.
        found: u64,
        /// The newest version that is read here.
        known: u64,
    },
    /// Not a snapshot, or a damaged one.
    #[error("the snapshot is malformed: {0}")]
    Malformed(#[from] crate::wire::DecodeError),
}
