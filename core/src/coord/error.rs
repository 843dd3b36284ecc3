//! Why the machine refuses. An error is part of the replicated answer: every replica gives the same one, and a retry gets it
//! again.

use thiserror::Error;

use super::path::PathProblem;
use super::stat::decode_i32;
use super::token::FencingToken;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Bounded {
    /// Data of a node, in bytes.
    Data,
    /// What a candidate says of itself, in bytes.
    Value,
    /// Body of a queue's item, in bytes.
    Body,
    /// All nodes together, in bytes.
    Tree,
    /// All items of queues together, in bytes.
    Queues,
    /// Sessions.
    Sessions,
    /// Waiters of one lock or election.
    Waiters,
    /// Locks, candidacies and claims that one session holds or waits for.
    Holdings,
    /// Requests of one session that are not acknowledged.
    InFlight,
    /// Watches of one session.
    Watches,
    /// Fencing tokens: the log is too long for their numbers.
    Tokens,
    /// One entry of the log, in bytes; or one of its identities, names or lists.
    Entry,
}

const BOUNDED: [Bounded; 12] = [
    Bounded::Data,
    Bounded::Value,
    Bounded::Body,
    Bounded::Tree,
    Bounded::Queues,
    Bounded::Sessions,
    Bounded::Waiters,
    Bounded::Holdings,
    Bounded::InFlight,
    Bounded::Watches,
    Bounded::Tokens,
    Bounded::Entry,
];

impl std::fmt::Display for Bounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bounded::Data => "bytes of data of a node",
            Bounded::Value => "bytes of a candidate's value",
            Bounded::Body => "bytes of an item's body",
            Bounded::Tree => "bytes of all nodes",
            Bounded::Queues => "bytes of all queued items",
            Bounded::Sessions => "sessions",
            Bounded::Waiters => "waiters",
            Bounded::Holdings => "locks, candidacies and claims of a session",
            Bounded::InFlight => "unacknowledged requests of a session",
            Bounded::Watches => "watches of a session",
            Bounded::Tokens => "fencing tokens",
            Bounded::Entry => "bytes of a request",
        })
    }
}

/// Why a request was refused. Unless a variant says otherwise nothing has changed but the session's record of requests.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CoordError {
    /// No such node, parent included.
    #[error("no such node")]
    NoNode,
    /// The node is there already.
    #[error("the node exists")]
    NodeExists,
    /// The node's version is another one.
    #[error("the version is {found}, not the expected one")]
    BadVersion {
        /// The version that it has.
        found: i32,
    },
    /// The node has children.
    #[error("the node has children")]
    NotEmpty,
    /// The parent is ephemeral.
    #[error("an ephemeral node has no children")]
    NoChildrenForEphemerals,
    /// The list is empty, names no one, or names a scheme that is not known.
    #[error("the access control list is empty or malformed")]
    InvalidAcl,
    /// The node's list does not permit it.
    #[error("not permitted by the access control list")]
    NoAuth,
    /// The text is not a name of a node, lock, election or queue.
    #[error("not a valid path: {0}")]
    BadPath(PathProblem),
    /// An argument that no request can have.
    #[error("bad argument: {what}")]
    BadArguments {
        /// Which, and what it may be.
        what: Argument,
    },
    /// The session has ended, or there never was one of this name: what it held is gone. Open another.
    #[error("the session has expired or is unknown")]
    SessionExpired,
    /// The password is not the session's.
    #[error("wrong password for this session")]
    WrongPassword,
    /// Another connection has taken the session over.
    #[error("the session was taken over by another connection")]
    SessionMoved,
    /// Earlier requests of the session are missing. Send again from `expected` on.
    #[error("request {expected} of the session comes first")]
    OutOfOrder {
        /// The next one.
        expected: u64,
    },
    /// The request was done, and its answer acknowledged and forgotten.
    #[error("the answer to this request was acknowledged and forgotten")]
    AnswerForgotten,
    /// Over a bound.
    #[error("over the bound of {max} {what}")]
    TooLarge {
        /// What.
        what: Bounded,
        /// The bound.
        max: u64,
    },
    /// It is held by another, or others wait before.
    #[error("held by another")]
    NotAvailable,
    /// The waiter's deadline came before the grant.
    #[error("not granted before the deadline")]
    DeadlinePassed,
    /// The wait was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The session holds nothing here, or no longer.
    #[error("the session holds no such grant")]
    NotHeld,
    /// The session holds it, under another token.
    #[error("held under token {held}, not the given one")]
    WrongToken {
        /// The token of the grant that stands.
        held: FencingToken,
    },
    /// No item is ready in the queue.
    #[error("no item is ready")]
    QueueEmpty,
    /// No such item.
    #[error("no such item")]
    NoItem,
    /// One operation of a multi-operation failed, so none was done.
    #[error("operation {at} failed: {error}")]
    Multi {
        /// Its place, from zero. The ones before it would have been done; the ones after it were not tried.
        at: u32,
        /// Why.
        error: Box<CoordError>,
    },
}

/// Which argument is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum Argument {
    /// A TTL node lives between 1 ms and 2⁴⁰ − 1 ms.
    #[error("a TTL of a node is 1 to 1099511627775 ms")]
    NodeTtl,
    /// A session's id is not zero, and its first byte not `ff` or `80`: those mark container and TTL nodes.
    #[error("a session id is not zero and does not begin with ff or 80")]
    SessionId,
    /// What is acknowledged lies above the request.
    #[error("a request acknowledges only earlier ones")]
    Acknowledged,
    /// An item is tried between 1 and 1,000 times.
    #[error("an item is tried 1 to 1000 times")]
    Attempts,
    /// A claim is visible to its holder for 1 ms to a day.
    #[error("a claim lasts 1 ms to a day")]
    Visibility,
    /// A lock's delay after expiry is at most a minute.
    #[error("a lock delay is at most 60000 ms")]
    LockDelay,
}

const ARGUMENTS: [Argument; 6] = [
    Argument::NodeTtl,
    Argument::SessionId,
    Argument::Acknowledged,
    Argument::Attempts,
    Argument::Visibility,
    Argument::LockDelay,
];

const PROBLEMS: [PathProblem; 8] = [
    PathProblem::Empty,
    PathProblem::NoLeadingSlash,
    PathProblem::TrailingSlash,
    PathProblem::EmptySegment,
    PathProblem::DotSegment,
    PathProblem::Character,
    PathProblem::TooLong,
    PathProblem::Root,
];

impl CoordError {
    /// What the caller can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            CoordError::NoNode => "create the node, and its parents first",
            CoordError::NodeExists => "read it, or create a sequential node",
            CoordError::BadVersion { .. } => "read it again and decide anew",
            CoordError::NotEmpty => "delete its children first",
            CoordError::NoChildrenForEphemerals => "put the child under a persistent node",
            CoordError::InvalidAcl => "name at least one of world:anyone, digest, ip, or auth after authenticating",
            CoordError::NoAuth => "authenticate as one whom the node's list permits this",
            CoordError::BadPath(_) => "write it as /a/b",
            CoordError::BadArguments { .. } => "correct the request",
            CoordError::SessionExpired => "open a new session; what the old one held is gone",
            CoordError::WrongPassword => "use the password that came with the session",
            CoordError::SessionMoved => "go on over the newer connection",
            CoordError::OutOfOrder { .. } => "send the missing requests again, in order",
            CoordError::AnswerForgotten => "acknowledge an answer only once it has arrived",
            CoordError::TooLarge { what: Bounded::InFlight, .. } => "acknowledge answers before sending more",
            CoordError::TooLarge { .. } => "remove something, or ask for less",
            CoordError::NotAvailable => "wait for it, or try again later",
            CoordError::DeadlinePassed => "ask again with a later deadline",
            CoordError::Cancelled => "ask again if it is still wanted",
            CoordError::NotHeld => "it was released or lost: stop acting on it",
            CoordError::WrongToken { .. } => "give the token that came with the grant",
            CoordError::QueueEmpty => "watch the queue and claim when an item comes",
            CoordError::NoItem => "it was acknowledged, discarded or never there",
            CoordError::Multi { error, .. } => error.hint(),
        }
    }

    /// Whether asking again may succeed without the request being another: under its own number where it was not done
    /// ([`CoordError::OutOfOrder`], too many in flight), under a new one otherwise.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CoordError::OutOfOrder { .. } | CoordError::NotAvailable | CoordError::QueueEmpty)
            || matches!(self, CoordError::TooLarge { what: Bounded::InFlight, .. })
    }

    fn encode_inner(&self, w: &mut Writer) {
        match self {
            CoordError::NoNode => w.u8(0),
            CoordError::NodeExists => w.u8(1),
            CoordError::BadVersion { found } => w.u8(2).zigzag((*found).into()),
            CoordError::NotEmpty => w.u8(3),
            CoordError::NoChildrenForEphemerals => w.u8(4),
            CoordError::InvalidAcl => w.u8(5),
            CoordError::NoAuth => w.u8(6),
            CoordError::BadPath(problem) => w.u8(7).u8(place(&PROBLEMS, problem)),
            CoordError::BadArguments { what } => w.u8(8).u8(place(&ARGUMENTS, what)),
            CoordError::SessionExpired => w.u8(9),
            CoordError::WrongPassword => w.u8(10),
            CoordError::SessionMoved => w.u8(11),
            CoordError::OutOfOrder { expected } => w.u8(12).varint(*expected),
            CoordError::AnswerForgotten => w.u8(13),
            CoordError::TooLarge { what, max } => w.u8(14).u8(place(&BOUNDED, what)).varint(*max),
            CoordError::NotAvailable => w.u8(15),
            CoordError::DeadlinePassed => w.u8(16),
            CoordError::Cancelled => w.u8(17),
            CoordError::NotHeld => w.u8(18),
            CoordError::WrongToken { held } => {
                held.encode(w.u8(19));
                w
            }
            CoordError::QueueEmpty => w.u8(20),
            CoordError::NoItem => w.u8(21),
            CoordError::Multi { at, error } => {
                w.u8(22).varint((*at).into());
                error.encode_inner(w);
                w
            }
        };
    }

    /// `nested`: inside a multi-operation, which holds no other, so that decoding does not recurse further.
    fn decode_inner(r: &mut Reader<'_>, nested: bool) -> Result<Self, DecodeError> {
        Ok(match r.u8("error")? {
            0 => CoordError::NoNode,
            1 => CoordError::NodeExists,
            2 => CoordError::BadVersion { found: decode_i32(r, "version")? },
            3 => CoordError::NotEmpty,
            4 => CoordError::NoChildrenForEphemerals,
            5 => CoordError::InvalidAcl,
            6 => CoordError::NoAuth,
            7 => CoordError::BadPath(at(&PROBLEMS, r)?),
            8 => CoordError::BadArguments { what: at(&ARGUMENTS, r)? },
            9 => CoordError::SessionExpired,
            10 => CoordError::WrongPassword,
            11 => CoordError::SessionMoved,
            12 => CoordError::OutOfOrder { expected: r.varint("expected request")? },
            13 => CoordError::AnswerForgotten,
            14 => CoordError::TooLarge { what: at(&BOUNDED, r)?, max: r.varint("bound")? },
            15 => CoordError::NotAvailable,
            16 => CoordError::DeadlinePassed,
            17 => CoordError::Cancelled,
            18 => CoordError::NotHeld,
            19 => CoordError::WrongToken { held: FencingToken::decode(r)? },
            20 => CoordError::QueueEmpty,
            21 => CoordError::NoItem,
            22 if !nested => CoordError::Multi {
                at: super::stat::decode_u32(r, "place of the operation")?,
                error: Box::new(Self::decode_inner(r, true)?),
            },
            _ => return Err(DecodeError::Invalid { field: "error" }),
        })
    }
}

impl Codec for CoordError {
    fn encode(&self, w: &mut Writer) {
        self.encode_inner(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_inner(r, false)
    }
}

/// A variant's number is its place in the table, which only ever grows at its end.
fn place<T: PartialEq>(table: &[T], value: &T) -> u8 {
    table.iter().position(|other| other == value).expect("the table names every variant") as u8
}

fn at<T: Copy>(table: &[T], r: &mut Reader<'_>) -> Result<T, DecodeError> {
    table
        .get(usize::from(r.u8("detail of an error")?))
        .copied()
        .ok_or(DecodeError::Invalid { field: "detail of an error" })
}

impl From<PathProblem> for CoordError {
    fn from(problem: PathProblem) -> Self {
        CoordError::BadPath(problem)
    }
}

impl From<Argument> for CoordError {
    fn from(what: Argument) -> Self {
        CoordError::BadArguments { what }
    }
}
