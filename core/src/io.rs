//! Effects as data: what the driver tells the engine, and what the engine asks of the driver.
//!
//! The driver's whole contract is this loop (the simulator, the native driver and the browser's worker all run it):
//!
//! 1. give the engine an [`Input`] with the current [`Now`](crate::time::Now);
//! 2. drain `poll()` until it returns `None`, carrying out each [`Output`];
//! 3. at the time of the latest [`Output::Wake`], give it [`Input::Wake`].
//!
//! The engine itself holds back every frame and acknowledgement that depends on a write until [`Input::StorageDone`]
//! says that the write is durable, so a driver may carry outputs out in any order that keeps the order per link.

use crate::id::{PeerId, SpaceId};
use crate::time::Timestamp;

/// One open sync stream to a peer. Numbers are never reused while an engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Names a storage task, so that its answer finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a command, so that its reply finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the driver tells the engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// A sync stream to `peer` (proved by Noise) is open. `initiator`: this side opened it.
    Linked {
        /// The stream.
        link: LinkId,
        /// Who is at its other end.
        peer: PeerId,
        /// Whether this side opened it.
        initiator: bool,
    },
    /// One whole frame arrived, at most [`MAX_FRAME`] bytes.
    Frame {
        /// The stream.
        link: LinkId,
        /// The frame's bytes, without the length prefix.
        bytes: Vec<u8>,
    },
    /// The stream is gone.
    Unlinked {
        /// The stream.
        link: LinkId,
    },
    /// A storage task is finished.
    StorageDone {
        /// The task.
        ticket: Ticket,
        /// Its answer.
        result: Result<StorageReply, StorageFailure>,
    },
    /// A local program asks for something.
    Command {
        /// Names the reply.
        request: RequestId,
        /// What it asks for.
        command: crate::engine::Command,
    },
    /// A frame of the strong path came from a peer; such frames have a stream of their own.
    #[cfg(feature = "coord")]
    Coord {
        /// Who is at the other end, proved by Noise.
        peer: PeerId,
        /// The frame's bytes.
        bytes: Vec<u8>,
    },
    /// Several of those at once, in the order in which they came: what they bring about is appended, written and sent as one.
    #[cfg(feature = "coord")]
    CoordFrames(Vec<(PeerId, Vec<u8>)>),
    /// Frames of the strong path to or from a peer may have been lost: their stream broke.
    #[cfg(feature = "coord")]
    CoordGone {
        /// The peer.
        peer: PeerId,
    },
    /// Several commands at once, in order: what they commit goes into the store as one write.
    Commands(Vec<(RequestId, crate::engine::Command)>),
    /// A link that [`Output::Link`] asked for cannot be had.
    Unreachable {
        /// With whom.
        peer: PeerId,
    },
    /// The driver has learnt where a peer is.
    Reachable {
        /// The peer.
        peer: PeerId,
        /// The space of which it is said to be a member; `None`: of any.
        space: Option<SpaceId>,
        /// Whose peer's word that is; `None`: this peer's own experience.
        source: Option<PeerId>,
    },
    /// Time has passed.
    Wake,
}

/// What the engine asks of the driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send one frame, at most [`MAX_FRAME`] bytes. Frames of one link leave in order.
    Send {
        /// The stream.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Close a stream. The engine has forgotten it already.
    Close {
        /// The stream.
        link: LinkId,
        /// Why, for logs and metrics.
        reason: CloseReason,
    },
    /// Carry out a storage task. Writes take effect in the order of their tickets.
    Storage(StorageTask),
    /// Give [`Input::Wake`] at this time; replaces the previous wish.
    Wake {
        /// When.
        at: Timestamp,
    },
    /// Link with a peer, if that can be had; otherwise [`Input::Unreachable`] is to say so. A driver that dials whomever it
    /// likes may take no notice.
    Link {
        /// With whom.
        peer: PeerId,
    },
    /// Nobody here needs the links with a peer: they may be closed, not before what was sent has left. One that is
    /// configured stays.
    Surplus {
        /// With whom.
        peer: PeerId,
    },
    /// Send a frame of the strong path to a peer, at most [`MAX_COORD_FRAME`] bytes, over a stream of its own. Frames to one
    /// peer leave in order; where that fails, [`Input::CoordGone`] follows.
    #[cfg(feature = "coord")]
    Coord {
        /// To whom.
        peer: PeerId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A sync stream to this peer is wanted, if an address of it is known.
    #[cfg(feature = "coord")]
    Reach {
        /// Whom.
        peer: PeerId,
    },
    /// Tell local programs.
    Event(crate::engine::Event),
}

/// Largest frame of the strong path: one entry of the largest size, the space that it is about, and room for the rest.
#[cfg(feature = "coord")]
pub const MAX_COORD_FRAME: usize = crate::coord::serve::talk::MAX_FRAME_BYTES + 64;

/// Why the engine closed a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer's bytes do not follow the protocol.
    Protocol {
        /// What was wrong.
        detail: String,
    },
    /// No protocol version in common.
    Version,
    /// A newer stream to the same peer replaces this one.
    Replaced,
    /// The engine is closing.
    Shutdown,
    /// The peer said nothing for too long during the handshake.
    Timeout,
}

/// Largest frame on a sync stream. Larger things travel in parts.
pub const MAX_FRAME: usize = 64 * 1024;

/// The tables of a store. redb tables and IndexedDB object stores carry these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// Format version, keys, incarnation seal, host epoch, quarantine marks.
    Meta,
    /// Signed facts.
    Facts,
    /// One row a path generation: heads, sizes, arrival number, tombstones.
    Index,
    /// Changes and snapshots, by document and arrival number.
    Chunks,
    /// The newest endorsement of each (document, actor).
    Endorsements,
    /// Persisted reconciliation roots and sketches.
    Roots,
    /// The logs of consensus groups, by space.
    Raft,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Table; 7] =
        [Table::Meta, Table::Facts, Table::Index, Table::Chunks, Table::Endorsements, Table::Roots, Table::Raft];

    /// The table's name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Facts => "facts",
            Table::Index => "index",
            Table::Chunks => "chunks",
            Table::Endorsements => "endorsements",
            Table::Roots => "roots",
            Table::Raft => "raft",
        }
    }
}

/// One change to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOp {
    /// Insert or replace.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Remove if present.
    Delete(Table, Vec<u8>),
    /// Remove every key in `from..to`.
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// One look into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOp {
    /// The row under this key: zero or one row comes back.
    Get(Table, Vec<u8>),
    /// Rows with `from <= key < to` in key order, at most `limit` rows.
    Scan {
        /// The table.
        table: Table,
        /// First key.
        from: Vec<u8>,
        /// End of the range, not included; `None`: to the end of the table.
        to: Option<Vec<u8>>,
        /// Bound on rows.
        limit: usize,
    },
}

/// A piece of work for the storage backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageTask {
    /// Names the answer.
    pub ticket: Ticket,
    /// What to do.
    pub work: StorageWork,
}

/// Kinds of storage work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageWork {
    /// All or nothing, durable when answered. A backend may put several tasks into one transaction (group commit).
    ///
    /// `epoch`: the transaction aborts with [`StorageFailure::HostEpochChanged`] unless `Meta["epoch"]` holds exactly
    /// these bytes, so that a frozen former host cannot commit.
    Write {
        /// In order.
        ops: Vec<WriteOp>,
        /// Expected host epoch; `None` only for the write that sets it.
        epoch: Option<Vec<u8>>,
    },
    /// A consistent view of everything written by earlier tickets.
    Read {
        /// Each answered by one [`Rows`].
        ops: Vec<ReadOp>,
    },
}

/// The answer to a storage task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageReply {
    /// The write is durable.
    Written,
    /// One entry a [`ReadOp`].
    Read(Vec<Rows>),
}

/// Rows packed into one buffer, so that a scan of a million rows is not two million allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    bytes: Vec<u8>,
    /// End of the key and end of the value of each row.
    ends: Vec<(u32, u32)>,
}

impl Rows {
    /// Appends a row. A buffer holds at most 4 GiB.
    ///
    /// # Panics
    /// If the rows exceed 4 GiB; backends bound a scan long before.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = u32::try_from(self.bytes.len()).expect("a scan is bounded to far less than 4 GiB");
        self.bytes.extend_from_slice(value);
        let value_end = u32::try_from(self.bytes.len()).expect("a scan is bounded to far less than 4 GiB");
        self.ends.push((key_end, value_end));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of keys and values.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Row `i` as (key, value).
    pub fn row(&self, i: usize) -> Option<(&[u8], &[u8])> {
        let start = match i.checked_sub(1) {
            Some(before) => self.ends.get(before)?.1 as usize,
            None => 0,
        };
        let (key_end, value_end) = *self.ends.get(i)?;
        Some((&self.bytes[start..key_end as usize], &self.bytes[key_end as usize..value_end as usize]))
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|i| self.row(i))
    }
}

/// Why a storage task failed. Nothing of a failed write has taken effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageFailure {
    /// No room on the device. The engine keeps serving reads and retries writes with backoff.
    #[error("the disk is full: free some space, writing resumes by itself")]
    Full,
    /// Another host has taken the store over; this engine must close.
    #[error("another process or tab has taken this store over")]
    HostEpochChanged,
    /// The backend's own data is damaged.
    #[error("the store is damaged: {detail}; run `foreshore doctor`")]
    Corrupt {
        /// What the backend said.
        detail: String,
    },
    /// Reading or writing failed for another reason.
    #[error("storage failed: {detail}")]
    Io {
        /// What the backend said.
        detail: String,
    },
}
