//! Storage backends: the native and in-memory homes of the seven tables of [`crate::io::Table`].
//!
//! A backend is a plain ordered key-value store. It knows tables and bytes and nothing of documents: row formats belong
//! to the modules that write them. The engine never calls a backend; it emits [`StorageTask`]s,
//! and a driver carries them out, natively on a [`StorageThread`] of its own so that an fsync never holds up a runtime.
//!
//! Invariants of every backend:
//! - a batch is all or nothing, and durable before it is answered;
//! - a batch that names a host epoch takes effect only while `Meta["epoch"]` holds exactly those bytes;
//! - damaged bytes, a full disk or a vanished directory are a [`StorageFailure`], never a panic;
//! - a store of a newer format than [`FORMAT`] is refused and left untouched.
//!
//! What it is not: a cache, a query layer, or a place where row formats are known.

#[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
mod directory;
mod inline;
mod memory;
#[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
pub(crate) mod redb;
#[cfg(not(target_arch = "wasm32"))]
mod thread;

use crate::io::{ReadOp, Rows, StorageFailure, StorageReply, StorageTask, Ticket, WriteOp};

pub use self::inline::Inline;
pub use self::memory::Memory;
#[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
pub use self::redb::{OpenError, Redb, RedbOptions};
#[cfg(not(target_arch = "wasm32"))]
pub use self::thread::{MAX_GROUP_BYTES, MAX_GROUP_TASKS, StorageCounters, StorageThread};

/// Version of the row formats that this build writes, kept under [`FORMAT_KEY`]. Raised together with a migration.
pub const FORMAT: u64 = 1;

/// Key in [`Table::Meta`](crate::io::Table::Meta) of the format version, a [`varint`](crate::wire::Writer::varint).
pub const FORMAT_KEY: &[u8] = b"format";

/// Key in [`Table::Meta`](crate::io::Table::Meta) of the host epoch that guarded writes name. Written by the engine.
pub const EPOCH_KEY: &[u8] = b"epoch";

/// Most bytes of keys and values that one read task returns. A task over it fails whole instead of being cut short,
/// since a short answer would read as "there is no more". 1 GiB is four times what any scan of the engine asks for.
pub const MAX_READ_BYTES: usize = 1 << 30;

/// One write task: its operations, and the host epoch it expects (`None`: unguarded).
pub type Batch<'a> = (&'a [WriteOp], Option<&'a [u8]>);

/// An ordered key-value store of the tables of [`crate::io::Table`].
///
/// Implementations differ in where the bytes live; the answers are the same. Calls come from one thread at a time.
pub trait Backend: Send {
    /// What tells this store apart from a copy of it. Stable from a clean close to the next open, different after a
    /// copy, a restore or a crash; the seal of [`crate::trust`] names it.
    fn identity(&self) -> Vec<u8>;

    /// Carries out several batches in one durable transaction (group commit) and answers each. A batch whose epoch does
    /// not match fails alone with [`StorageFailure::HostEpochChanged`]; any other failure fails the whole group, and
    /// nothing of it has taken effect, save that a device which fails in its very last sync may have kept the group.
    fn write(&mut self, batches: &[Batch<'_>]) -> Vec<Result<(), StorageFailure>>;

    /// One consistent view of everything written before: one [`Rows`] for each operation.
    fn read(&self, ops: &[ReadOp]) -> Result<Vec<Rows>, StorageFailure>;

    /// Gives space back to the file system. `true` if the store is smaller now.
    fn compact(&mut self) -> Result<bool, StorageFailure> {
        Ok(false)
    }

    /// Verifies the backend's own structures in full; an error names what is damaged. Rows are not interpreted.
    fn check(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }

    /// Bytes that the store occupies on its device, 0 if unknown.
    fn allocated_bytes(&self) -> u64 {
        0
    }
}

/// A store that is sent tasks and answers when it is done, in whatever way the platform has: a thread, or a browser's
/// event loop. Answers go through the [`Answers`] that it was started with, one a task.
pub trait TaskStore: Send + 'static {
    /// Queues a task. Writes take effect in the order in which they are submitted.
    fn submit(&mut self, task: StorageTask);

    /// Carries out what is queued and closes the store. May block, where the platform can.
    fn close(self: Box<Self>);
}

/// Takes the answers of a [`TaskStore`].
pub type Answers = Box<dyn Fn(Ticket, Result<StorageReply, StorageFailure>) + Send>;

/// The value under [`FORMAT_KEY`].
fn format_row(format: u64) -> Vec<u8> {
    let mut w = crate::wire::Writer::new();
    w.varint(format);
    w.finish()
}

/// A refused read: over [`MAX_READ_BYTES`].
fn read_too_large() -> StorageFailure {
    StorageFailure::Io { detail: format!("one read asks for more than {MAX_READ_BYTES} bytes") }
}

#[cfg(test)]
mod tests;
