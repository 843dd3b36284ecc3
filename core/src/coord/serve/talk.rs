//! What clients and voters say, byte by byte; drawn in `docs/wire.md`.
//!
//! A frame's first byte tells who speaks: consensus (0, see [`crate::coord::raft::message`]), a client (1), a voter to a
//! client (2), a voter to the one that leads (3), and that one to a voter (4). Frames of clients and to clients carry a
//! channel, which the client chooses: several sessions share one link.

mod codec;

use std::sync::Arc;

use crate::coord::acl::{Acl, Identity};
use crate::coord::claim::Share;
use crate::coord::command::{Body, Command, MAX_ENTRY_BYTES};
use crate::coord::error::CoordError;
use crate::coord::op::{MAX_DATA_BYTES, decode_bool, decode_name, decode_path};
use crate::coord::path::NodePath;
use crate::coord::raft::message::MAX_FRAME_BYTES as MAX_RAFT_BYTES;
use crate::coord::reply::{Reply, decode_reply, encode_reply};
use crate::coord::session::{MAX_OWNER_BYTES, MAX_TTL_MS, PASSWORD_LEN, SessionId};
use crate::coord::stat::{Stat, decode_u32};
use crate::coord::token::FencingToken;
use crate::coord::watch::{EventKind, Watch};
use crate::id::PeerId;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Longest frame of any kind in bytes.
pub const MAX_FRAME_BYTES: usize = MAX_RAFT_BYTES + 16;

/// Most watches in one [`Ask::Rearm`]; a client that has more sends several.
pub const MAX_REARM: usize = 1_024;

/// Most queries of one [`Query::Many`].
pub const MAX_QUERIES: usize = 1_024;

/// Most bytes of names or data in one answer to a read. A list of children that does not fit is refused, as ZooKeeper's
/// `jute.maxbuffer` refuses it.
pub const MAX_ANSWER_BYTES: usize = MAX_DATA_BYTES + (1 << 18);

/// Most sessions in one [`Pass::Touch`].
pub const MAX_TOUCHED: usize = 16_384;

/// Voters that a client is told of.
pub const MAX_VOTERS: usize = 32;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Of consensus; opaque here.
    Raft(Vec<u8>),
    /// A client to a voter.
    Ask(u64, Ask),
    /// A voter to a client.
    Tell(u64, Tell),
    /// A voter to the one that leads.
    Pass(Pass),
    /// The voter that leads, to another.
    Passed(Passed),
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A new session.
    Open {
        /// The client's, so that the same wish twice is one session.
        nonce: u64,
        /// How long it is to outlive the last sign of life, in milliseconds.
        ttl_ms: u64,
    },
    /// An old session, over this channel from now on.
    Attach {
        /// The client's name for the attempt.
        nonce: u64,
        /// Which.
        session: SessionId,
        /// Its password.
        password: [u8; PASSWORD_LEN],
        /// The newest entry that the client has seen the effect of.
        seen: u64,
    },
    /// A request of the channel's session.
    Call {
        /// Its number.
        seq: u64,
        /// Answers below this have arrived.
        acked_below: u64,
        /// What is to be done.
        command: Command,
    },
    /// Something to read.
    Read {
        /// The client's name for it.
        id: u64,
        /// It reads after the effect of all requests below this number.
        after: u64,
        /// Whether it sees everything that was acknowledged to anyone before it was asked.
        linear: bool,
        /// What.
        query: Query,
        /// A one-shot watch on what was read.
        watch: bool,
    },
    /// A watch that stays.
    Watch {
        /// The client's name for it.
        id: u64,
        /// What is watched.
        watch: Watch,
        /// Where.
        path: String,
    },
    /// A watch less.
    Unwatch {
        /// The client's name for it.
        id: u64,
        /// What was watched.
        watch: Watch,
        /// Where.
        path: String,
    },
    /// Watches of before, set again after a change of voters.
    Rearm {
        /// The newest entry that the client had seen when it lost its last voter.
        seen: u64,
        /// Which.
        watches: Vec<(Watch, NodePath)>,
    },
    /// Who the client is, for access control lists: `digest`, and `user:password`; or `ip`, and an address, which a voter
    /// believes only its own peer, whose doors see the client's connection.
    Authenticate {
        /// The client's name for it.
        id: u64,
        /// The scheme.
        scheme: String,
        /// The secret.
        secret: Vec<u8>,
    },
    /// A sign of life.
    Ping {
        /// The client's number for it.
        n: u64,
    },
}

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Nothing: the answer says only that everything before it is applied here. ZooKeeper's `sync`, when it is linear.
    Nothing,
    /// A node's data.
    Data(String),
    /// Whether a node is there.
    Exists(String),
    /// The names of a node's children.
    Children(String),
    /// A node's access control list.
    Acl(String),
    /// Who leads an election.
    Leader(String),
    /// Who holds a lock.
    Lock(String),
    /// What a queue holds.
    Queue(String),
    /// An item of a queue.
    Item(String, u64),
    /// Several, at one state.
    Many(Vec<Query>),
    /// Where an earlier request of the session that waited stands: what a client asks that may have missed the outcome.
    Standing(u64),
    /// How the session watches a path at this voter.
    Watches(String),
    /// The session's ephemeral nodes whose paths begin with this text.
    Ephemerals(String),
    /// How many nodes there are below a node, to whoever may read it.
    Descendants(String),
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To [`Query::Nothing`].
    Nothing,
    /// A node's data.
    Data(Arc<[u8]>, Stat),
    /// A node is there.
    Exists(Stat),
    /// Names of children, in the order of their bytes.
    Children(Vec<String>, Stat),
    /// A list.
    Acl(Acl, Stat),
    /// Who leads, and what it says of itself.
    Leader(Option<Leading>),
    /// Holders of a lock, and how many wait.
    Lock(Vec<Holding>, u32),
    /// How many items are ready, being worked on, and put aside; and the numbers of the first of those put aside.
    Queue {
        /// Ready.
        ready: u32,
        /// Being worked on.
        claimed: u32,
        /// Put aside, oldest first, at most [`MAX_QUERIES`].
        dead: Vec<u64>,
    },
    /// An item's body, and how often it was claimed.
    Item(Arc<[u8]>, u32),
    /// To [`Query::Many`], each for itself.
    Many(Vec<Result<Found, CoordError>>),
    /// To [`Query::Standing`].
    Standing(Standing),
    /// To [`Query::Watches`].
    Watches(Vec<Watch>),
    /// Paths, in the order of their bytes.
    Paths(Vec<String>),
    /// A number of nodes.
    Count(u64),
}

/// Where a request for a lock or for leadership stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds under this token.
    Holds(FencingToken),
    /// It waits.
    Waits,
    /// Neither: it was refused, released, or its deadline came.
    Over,
}

/// A leader of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leading {
    /// Its session.
    pub session: SessionId,
    /// Whom the session's voter knows its client as: the bytes of a peer's id.
    pub owner: Arc<[u8]>,
    /// Its token.
    pub token: FencingToken,
    /// What it says of itself.
    pub value: Arc<[u8]>,
}

/// A holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its session.
    pub session: SessionId,
    /// Whom the session's voter knows its client as: the bytes of a peer's id.
    pub owner: Arc<[u8]>,
    /// How.
    pub share: Share,
    /// Its token.
    pub token: FencingToken,
}

/// Why a voter does not do what was asked, without the log having been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No majority answered.
    #[error("no quorum answers here: ask again, or another voter")]
    NoQuorum,
    /// Too much waits here.
    #[error("this voter has too much to do: ask again in a moment, or another voter")]
    Busy,
    /// The channel has no session.
    #[error("this channel has no session: open or attach one first")]
    NoSession,
    /// Over a bound of a frame or an answer.
    #[error("it does not fit into a frame")]
    TooLarge,
    /// A scheme that voters do not know.
    #[error("unknown scheme of authentication")]
    Scheme,
    /// This peer is no voter of the space.
    #[error("this peer serves no coordination in this space")]
    NotServing,
}

/// What a refusal is about, by the name that the client gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Opening or attaching, by its nonce.
    Entry(u64),
    /// A request, by its number.
    Call(u64),
    /// A read, a watch or an authentication, by its id.
    Read(u64),
    /// A sign of life.
    Ping(u64),
    /// Watches of before.
    Rearm,
}

/// What a voter tells a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// The session is open.
    Opened {
        /// The client's nonce.
        nonce: u64,
        /// Its name.
        session: SessionId,
        /// What attaches to it. A secret.
        password: [u8; PASSWORD_LEN],
        /// Its time to live in milliseconds.
        ttl_ms: u64,
        /// The entry that opened it.
        zxid: u64,
    },
    /// The session is this channel's.
    Attached {
        /// The client's nonce.
        nonce: u64,
        /// The number of the next request that was not done yet.
        next_seq: u64,
        /// Its time to live in milliseconds.
        ttl_ms: u64,
        /// The newest entry that was applied here.
        zxid: u64,
    },
    /// A session was not opened or attached.
    Failed {
        /// The client's nonce.
        nonce: u64,
        /// Why.
        error: CoordError,
    },
    /// The session is over. Nothing it held is held any more.
    Lost,
    /// The session is another channel's now.
    Moved,
    /// What a request came to. A request that waits gets two: that it waits, and the outcome.
    Reply {
        /// Its number.
        seq: u64,
        /// The entry that brought it about.
        zxid: u64,
        /// The outcome.
        reply: Reply,
    },
    /// What was read, watched, or authenticated.
    Read {
        /// The client's name for it.
        id: u64,
        /// The newest entry that was applied.
        zxid: u64,
        /// What.
        found: Result<Found, CoordError>,
    },
    /// What was not even tried.
    Refused {
        /// What of.
        of: Subject,
        /// Why.
        why: Refusal,
    },
    /// Something that is watched happened.
    Event {
        /// At which entry.
        zxid: u64,
        /// What.
        kind: EventKind,
        /// Where.
        path: NodePath,
    },
    /// A sign of life was confirmed by a majority.
    Pong {
        /// The client's number for it.
        n: u64,
        /// The newest entry that was applied.
        zxid: u64,
    },
    /// How the group stands, when the channel begins and when it changes.
    Status {
        /// Whether somebody leads, as far as this voter knows.
        led: bool,
        /// Peers that serve clients.
        voters: Vec<PeerId>,
    },
    /// The voter's state jumped ahead by a snapshot: outcomes of requests that waited may have been missed.
    Skipped,
}

/// What a voter passes on to the one that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// What is to be proposed.
    Propose(Body),
    /// Sessions that gave a sign of life.
    Touch {
        /// The voter's number for the round.
        round: u64,
        /// Which.
        sessions: Vec<SessionId>,
    },
}

/// What the one that leads answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It does not lead, or has too much to do: pass it on again.
    Again,
    /// A majority has confirmed that it led when it took a round.
    Touched {
        /// The round.
        round: u64,
        /// What had been committed then: to be applied before anything of it is acknowledged.
        index: u64,
        /// Sessions whose time began anew.
        renewed: Vec<SessionId>,
    },
}

impl Frame {
    /// Reads a frame as it came.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_FRAME_BYTES {
            let (got, max) = (bytes.len() as u64, MAX_FRAME_BYTES as u64);
            return Err(DecodeError::TooLarge { field: "frame", got, max });
        }
        Self::from_bytes(bytes)
    }
}

/// What a client that authenticated is known as: the scheme `digest`, by SHA-1 as ZooKeeper has it, so that lists written
/// for one hold for the other.
pub fn identify(scheme: &str, secret: &[u8]) -> Option<Identity> {
    if scheme != "digest" {
        return None;
    }
    let text = std::str::from_utf8(secret).ok()?;
    let user = text.split(':').next()?;
    Some(Identity::new("digest", &format!("{user}:{}", digest(text.as_bytes()))))
}

fn digest(bytes: &[u8]) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(bytes))
}

/// Entries are the largest thing that is passed on.
const _: () = assert!(MAX_ENTRY_BYTES + 64 < MAX_FRAME_BYTES);
