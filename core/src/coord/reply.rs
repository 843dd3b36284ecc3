//! What applying an entry gives: answers, changes to tell watchers of, and what the leader has to count from now on.

use super::acl::Acl;
use super::duty::DutyChange;
use super::error::CoordError;
use super::op::OpAnswer;
use super::path::NodePath;
use super::session::SessionId;
use super::token::FencingToken;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What a request came to.
pub type Reply = Result<Answer, CoordError>;

/// A request's result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The session is open.
    Opened {
        /// Its time to live in milliseconds, within the bounds.
        ttl_ms: u64,
    },
    /// The session belongs to the connection that asked.
    Attached {
        /// What its requests carry from now on.
        attachment: u64,
        /// The number of its next request.
        next_seq: u64,
        /// Its time to live in milliseconds.
        ttl_ms: u64,
    },
    /// The session's time begins anew.
    Renewed,
    /// The session is closed, and what it held is released.
    Closed,
    /// One operation on the tree.
    Op(OpAnswer),
    /// All operations, in order.
    Multi(Vec<OpAnswer>),
    /// The lock or leadership is held under this token.
    Granted(FencingToken),
    /// The request waits; a [`Settled`] follows under its number. In the reply cache the outcome takes this answer's place.
    Queued {
        /// How many are asked for before it: holders and waiters.
        ahead: u32,
    },
    /// Done, with nothing to tell.
    Done,
    /// The item was put into the queue under this number.
    Enqueued {
        /// Its number.
        item: u64,
    },
    /// An item is this session's to work on.
    Claimed {
        /// Its number. The body is [`super::queue::Queues::body`].
        item: u64,
        /// How often it was claimed, this time included.
        attempt: u32,
        /// What acknowledges it.
        token: FencingToken,
    },
    /// In a retry only: the request was done, and its answer was over [`super::session::MAX_REPLY_BYTES`] and not kept.
    Elided {
        /// The entry that did it.
        index: u64,
    },
}

/// What a waiting request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whose.
    pub session: SessionId,
    /// The request that waited.
    pub seq: u64,
    /// The outcome.
    pub reply: Reply,
}

/// Something that others may watch. Changes of one entry are in the order in which they were done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A node was created, and its parent's children changed.
    Created {
        /// The node.
        path: NodePath,
        /// Its list.
        acl: Acl,
        /// Its parent's list.
        parent_acl: Acl,
    },
    /// A node's data was set.
    Set {
        /// The node.
        path: NodePath,
        /// Its list.
        acl: Acl,
    },
    /// A node was deleted, and its parent's children changed.
    Deleted {
        /// The node.
        path: NodePath,
        /// Its list.
        acl: Acl,
        /// Its parent's list.
        parent_acl: Acl,
    },
    /// An election has another leader, another value, or no leader.
    Leader {
        /// The election.
        path: NodePath,
    },
    /// An item of the queue may be claimed.
    Ready {
        /// The queue.
        path: NodePath,
    },
}

/// Whose entry it was, so that the voter that serves the client knows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It opened this session.
    Open(SessionId),
    /// It attached to this session, under this name of the attempt.
    Attach(SessionId, u64),
    /// A request.
    Request {
        /// Of this session.
        session: SessionId,
        /// Sent while the session had changed its connection so often.
        attachment: u64,
        /// Its number.
        seq: u64,
    },
}

/// What one entry gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The entry.
    pub index: u64,
    /// Who asked, if a client did.
    pub origin: Option<Origin>,
    /// The answer to the client that asked, if one did.
    pub reply: Option<Reply>,
    /// Earlier requests whose wait ended.
    pub settled: Vec<Settled>,
    /// Sessions that ended.
    pub ended: Vec<SessionId>,
    /// What watchers are told, before anyone reads the state after this entry.
    pub changes: Vec<Change>,
    /// What the leader counts from now on, and what no longer.
    pub duties: Vec<DutyChange>,
}

/// Appends a reply.
pub(crate) fn encode_reply(reply: &Reply, w: &mut Writer) {
    match reply {
        Ok(answer) => answer.encode(w.u8(0)),
        Err(error) => error.encode(w.u8(1)),
    }
}

/// Reads a reply.
pub(crate) fn decode_reply(r: &mut Reader<'_>) -> Result<Reply, DecodeError> {
    Ok(match r.u8("reply")? {
        0 => Ok(Answer::decode(r)?),
        1 => Err(CoordError::decode(r)?),
        _ => return Err(DecodeError::Invalid { field: "reply" }),
    })
}

impl Codec for Answer {
    fn encode(&self, w: &mut Writer) {
        match self {
            Answer::Opened { ttl_ms } => {
                w.u8(0).varint(*ttl_ms);
            }
            Answer::Attached { attachment, next_seq, ttl_ms } => {
                w.u8(1).varint(*attachment).varint(*next_seq).varint(*ttl_ms);
            }
            Answer::Renewed => {
                w.u8(2);
            }
            Answer::Closed => {
                w.u8(3);
            }
            Answer::Op(answer) => answer.encode(w.u8(4)),
            Answer::Multi(answers) => {
                w.u8(5).list(answers, |w, answer| answer.encode(w));
            }
            Answer::Granted(token) => token.encode(w.u8(6)),
            Answer::Queued { ahead } => {
                w.u8(7).varint((*ahead).into());
            }
            Answer::Done => {
                w.u8(8);
            }
            Answer::Enqueued { item } => {
                w.u8(9).varint(*item);
            }
            Answer::Claimed { item, attempt, token } => token.encode(w.u8(10).varint(*item).varint((*attempt).into())),
            Answer::Elided { index } => {
                w.u8(11).varint(*index);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        use super::stat::decode_u32;
        Ok(match r.u8("answer")? {
            0 => Answer::Opened { ttl_ms: r.varint("ttl")? },
            1 => Answer::Attached {
                attachment: r.varint("attachment")?,
                next_seq: r.varint("next request")?,
                ttl_ms: r.varint("ttl")?,
            },
            2 => Answer::Renewed,
            3 => Answer::Closed,
            4 => Answer::Op(OpAnswer::decode(r)?),
            5 => Answer::Multi(r.list(super::command::MAX_OPS, "answers", OpAnswer::decode)?),
            6 => Answer::Granted(FencingToken::decode(r)?),
            7 => Answer::Queued { ahead: decode_u32(r, "ahead")? },
            8 => Answer::Done,
            9 => Answer::Enqueued { item: r.varint("item")? },
            10 => Answer::Claimed {
                item: r.varint("item")?,
                attempt: decode_u32(r, "attempt")?,
                token: FencingToken::decode(r)?,
            },
            11 => Answer::Elided { index: r.varint("index")? },
            _ => return Err(DecodeError::Invalid { field: "answer" }),
        })
    }
}
