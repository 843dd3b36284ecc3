//! What can be done with the tree, and what each operation answers.

use std::sync::Arc;

use super::acl::Acl;
use super::path::{MAX_PATH_BYTES, NodePath};
use super::stat::{MAX_NODE_TTL_MS, Stat, decode_i32};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most bytes of data of a node: 1 MiB.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// Longest text in the place of a path that an entry may hold.
pub(crate) const MAX_NAME_BYTES: usize = 4 * MAX_PATH_BYTES;

/// How long a new node is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is deleted.
    Persistent,
    /// As long as the session that creates it.
    Ephemeral,
    /// Until its last child is gone.
    Container,
    /// Until it had no children and was not modified for so many milliseconds.
    Ttl(u64),
}

/// One operation on the tree. Paths are text: what is wrong with one is the operation's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates a node.
    Create {
        /// Its path; with `sequential` the beginning of it, to which ten digits are added.
        path: String,
        /// Its data, at most [`MAX_DATA_BYTES`].
        data: Arc<[u8]>,
        /// Who may do what with it.
        acl: Acl,
        /// How long it stays.
        mode: Mode,
        /// Whether the parent's count of creations is added to its name.
        sequential: bool,
    },
    /// Replaces a node's data.
    Set {
        /// The node.
        path: String,
        /// Its data.
        data: Arc<[u8]>,
        /// The version it must have; −1 for any.
        version: i32,
    },
    /// Deletes a node that has no children.
    Delete {
        /// The node.
        path: String,
        /// The version it must have; −1 for any.
        version: i32,
    },
    /// Fails unless the node has this version. Changes nothing.
    Check {
        /// The node.
        path: String,
        /// The version; −1 asks only for the node's existence.
        version: i32,
    },
    /// Replaces a node's access control list.
    SetAcl {
        /// The node.
        path: String,
        /// The list.
        acl: Acl,
        /// The list's version (`aversion`) it must have; −1 for any.
        version: i32,
    },
}

/// What an operation answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// The node was created under this path.
    Created {
        /// Its full path.
        path: NodePath,
        /// What is known of it.
        stat: Stat,
    },
    /// The data was set.
    Set(Stat),
    /// The node is gone.
    Deleted,
    /// The version is as asked.
    Checked,
    /// The list was set.
    AclSet(Stat),
}

impl Codec for Op {
    fn encode(&self, w: &mut Writer) {
        match self {
            Op::Create { path, data, acl, mode, sequential } => {
                w.u8(0).str(path).bytes(data);
                acl.encode(w);
                w.u8(u8::from(*sequential));
                match mode {
                    Mode::Persistent => w.u8(0),
                    Mode::Ephemeral => w.u8(1),
                    Mode::Container => w.u8(2),
                    Mode::Ttl(ms) => w.u8(3).varint(*ms),
                };
            }
            Op::Set { path, data, version } => {
                w.u8(1).str(path).bytes(data).zigzag((*version).into());
            }
            Op::Delete { path, version } => {
                w.u8(2).str(path).zigzag((*version).into());
            }
            Op::Check { path, version } => {
                w.u8(3).str(path).zigzag((*version).into());
            }
            Op::SetAcl { path, acl, version } => {
                acl.encode(w.u8(4).str(path));
                w.zigzag((*version).into());
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.u8("operation")?;
        let path = decode_name(r)?;
        Ok(match kind {
            0 => Op::Create {
                path,
                data: r.bytes(MAX_DATA_BYTES, "data")?.into(),
                acl: Acl::decode(r)?,
                sequential: decode_bool(r, "sequential")?,
                mode: match r.u8("mode")? {
                    0 => Mode::Persistent,
                    1 => Mode::Ephemeral,
                    2 => Mode::Container,
                    3 => Mode::Ttl(r.varint_max(MAX_NODE_TTL_MS, "ttl")?),
                    _ => return Err(DecodeError::Invalid { field: "mode" }),
                },
            },
            1 => Op::Set { path, data: r.bytes(MAX_DATA_BYTES, "data")?.into(), version: decode_i32(r, "version")? },
            2 => Op::Delete { path, version: decode_i32(r, "version")? },
            3 => Op::Check { path, version: decode_i32(r, "version")? },
            4 => Op::SetAcl { path, acl: Acl::decode(r)?, version: decode_i32(r, "version")? },
            _ => return Err(DecodeError::Invalid { field: "operation" }),
        })
    }
}

impl Codec for OpAnswer {
    fn encode(&self, w: &mut Writer) {
        match self {
            OpAnswer::Created { path, stat } => stat.encode(w.u8(0).str(path.as_str())),
            OpAnswer::Set(stat) => stat.encode(w.u8(1)),
            OpAnswer::Deleted => {
                w.u8(2);
            }
            OpAnswer::Checked => {
                w.u8(3);
            }
            OpAnswer::AclSet(stat) => stat.encode(w.u8(4)),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("answer of an operation")? {
            0 => OpAnswer::Created { path: decode_path(r)?, stat: Stat::decode(r)? },
            1 => OpAnswer::Set(Stat::decode(r)?),
            2 => OpAnswer::Deleted,
            3 => OpAnswer::Checked,
            4 => OpAnswer::AclSet(Stat::decode(r)?),
            _ => return Err(DecodeError::Invalid { field: "answer of an operation" }),
        })
    }
}

/// Text that should be a path, with room for one that is too long, so that this is an answer and not an unreadable entry.
pub(crate) fn decode_name(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    r.str(MAX_NAME_BYTES, "path").map(str::to_owned)
}

/// A valid path.
pub(crate) fn decode_path(r: &mut Reader<'_>) -> Result<NodePath, DecodeError> {
    NodePath::parse(r.str(MAX_PATH_BYTES, "path")?).map_err(|_| DecodeError::Invalid { field: "path" })
}

/// A byte that is 0 or 1.
pub(crate) fn decode_bool(r: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match r.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid { field }),
    }
}

impl Op {
    /// Bytes of data that it carries.
    pub(crate) fn data_len(&self) -> usize {
        match self {
            Op::Create { data, .. } | Op::Set { data, .. } => data.len(),
            _ => 0,
        }
    }
}
