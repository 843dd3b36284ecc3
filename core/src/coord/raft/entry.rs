//! One entry of the log, in our own bytes: what crosses the network and what a row on disk holds.
//!
//! Consensus marks a change of the membership by an entry's type and parses its own encoding of it only where it is
//! proposed. So the change travels in *our* encoding, in the entry's context, and the other encoding never leaves the
//! replica that made it.

use raft::eraftpb::{Entry, EntryType};

use super::member::{Change, MAX_NUMBER};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// The largest entry a program may propose. A node's data has up to 1 MiB, a batch of operations up to twice that.
pub const MAX_ENTRY_BYTES: usize = 2 << 20;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Something for the machine. Empty where a leader marks the begin of its term.
    Data(Vec<u8>),
    /// A change of the membership.
    Change(Change),
    /// The end of a replacement: the new voters alone decide.
    Leave,
}

/// An entry without its index, which its place gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The term of the leader that made it.
    pub term: u64,
    /// What it says.
    pub payload: Payload,
}

impl Codec for LogEntry {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.term);
        match &self.payload {
            Payload::Data(data) => {
                w.u8(0).bytes(data);
            }
            Payload::Change(change) => {
                w.u8(1);
                change.encode(w);
            }
            Payload::Leave => {
                w.u8(2);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let term = r.varint_max(MAX_NUMBER, "entry term")?;
        let payload = match r.u8("entry kind")? {
            0 => Payload::Data(r.bytes(MAX_ENTRY_BYTES, "entry data")?.to_vec()),
            1 => Payload::Change(Change::decode(r)?),
            2 => Payload::Leave,
            _ => return Err(DecodeError::Invalid { field: "entry kind" }),
        };
        Ok(Self { term, payload })
    }
}

impl LogEntry {
    /// From consensus' own form. An entry that this program did not make gives `None`.
    pub(crate) fn from_raft(entry: &Entry) -> Option<Self> {
        let payload = match entry.get_entry_type() {
            EntryType::EntryNormal => Payload::Data(entry.data.to_vec()),
            EntryType::EntryConfChangeV2 if entry.context.is_empty() => Payload::Leave,
            EntryType::EntryConfChangeV2 => Payload::Change(Change::from_bytes(&entry.context).ok()?),
            EntryType::EntryConfChange => return None,
        };
        Some(Self { term: entry.term, payload })
    }

    /// Into consensus' own form, at `index`.
    pub(crate) fn into_raft(self, index: u64) -> Entry {
        let mut entry = Entry { term: self.term, index, ..Entry::default() };
        match self.payload {
            Payload::Data(data) => entry.data = data.into(),
            Payload::Change(change) => {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                entry.context = change.to_bytes().into();
            }
            Payload::Leave => entry.set_entry_type(EntryType::EntryConfChangeV2),
        }
        entry
    }

    /// About how many bytes it takes, for limits.
    pub(crate) fn weight(entry: &Entry) -> usize {
        entry.data.len() + entry.context.len() + 24
    }
}
