//! What is known of a node beside its data.

use super::session::SessionId;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Longest life of a TTL node in milliseconds: the 40 bits that ZooKeeper has for it, 34 years.
pub const MAX_NODE_TTL_MS: u64 = (1 << 40) - 1;

/// How long a node stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// Until it is deleted.
    Persistent,
    /// Until its session ends; it has no children.
    Ephemeral(SessionId),
    /// Until it has had children and has none any more.
    Container,
    /// Until it was without children and unmodified for so many milliseconds.
    Ttl(u64),
}

impl Life {
    /// ZooKeeper's `ephemeralOwner`: zero, the session, the lowest number, or `0xff…` with the milliseconds.
    pub fn ephemeral_owner(self) -> u64 {
        match self {
            Life::Persistent => 0,
            Life::Ephemeral(session) => session.0,
            Life::Container => 1 << 63,
            Life::Ttl(ms) => 0xff << 56 | ms,
        }
    }
}

impl Codec for Life {
    fn encode(&self, w: &mut Writer) {
        match self {
            Life::Persistent => w.u8(0),
            Life::Ephemeral(session) => w.u8(1).u64_le(session.0),
            Life::Container => w.u8(2),
            Life::Ttl(ms) => w.u8(3).varint(*ms),
        };
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("life of a node")? {
            0 => Life::Persistent,
            1 => Life::Ephemeral(SessionId::decode(r)?),
            2 => Life::Container,
            3 => match r.varint_max(MAX_NODE_TTL_MS, "ttl of a node")? {
                0 => return Err(DecodeError::Invalid { field: "ttl of a node" }),
                ms => Life::Ttl(ms),
            },
            _ => return Err(DecodeError::Invalid { field: "life of a node" }),
        })
    }
}

/// A node's `Stat`, every field of ZooKeeper's. A zxid is the Raft index of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The entry that created the node.
    pub czxid: u64,
    /// The entry that last set its data.
    pub mzxid: u64,
    /// The entry that last created or deleted a child.
    pub pzxid: u64,
    /// When it was created: the leader's wall clock in milliseconds, never running backwards.
    pub ctime: i64,
    /// When its data was last set.
    pub mtime: i64,
    /// How often its data was set.
    pub version: i32,
    /// Creations and deletions of children.
    pub cversion: i32,
    /// How often its access control list was set.
    pub aversion: i32,
    /// How long it stays; ZooKeeper's number is [`Life::ephemeral_owner`].
    pub life: Life,
    /// Bytes of its data.
    pub data_length: u32,
    /// How many children it has.
    pub num_children: u32,
}

impl Codec for Stat {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.czxid).varint(self.mzxid).varint(self.pzxid).zigzag(self.ctime).zigzag(self.mtime);
        w.zigzag(self.version.into()).zigzag(self.cversion.into()).zigzag(self.aversion.into());
        self.life.encode(w);
        w.varint(self.data_length.into()).varint(self.num_children.into());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            czxid: r.varint("czxid")?,
            mzxid: r.varint("mzxid")?,
            pzxid: r.varint("pzxid")?,
            ctime: r.zigzag("ctime")?,
            mtime: r.zigzag("mtime")?,
            version: decode_i32(r, "version")?,
            cversion: decode_i32(r, "cversion")?,
            aversion: decode_i32(r, "aversion")?,
            life: Life::decode(r)?,
            data_length: decode_u32(r, "data length")?,
            num_children: decode_u32(r, "children")?,
        })
    }
}

/// A zigzag integer of 32 bits.
pub(crate) fn decode_i32(r: &mut Reader<'_>, field: &'static str) -> Result<i32, DecodeError> {
    r.zigzag(field)?.try_into().map_err(|_| DecodeError::Invalid { field })
}

/// An integer of 32 bits.
pub(crate) fn decode_u32(r: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    r.varint_max(u32::MAX.into(), field).map(|value| value as u32)
}
