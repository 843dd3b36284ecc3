//! What clients and voters say, byte by byte; drawn in `docs/wire.md`.
//!
//! A frame's first byte tells who speaks: consensus (0, see [`crate::coord::raft::message`]), a client (1), a voter to a
//! client (2), a voter to the one that leads (3), and that one to a voter (4). Frames of clients and to clients carry a
//! channel, which the client chooses: several sessions share one link.

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

impl Codec for Frame {
    fn encode(&self, w: &mut Writer) {
        match self {
            Frame::Raft(bytes) => {
                w.u8(0).raw(bytes);
            }
            Frame::Ask(channel, ask) => ask.encode(w.u8(1).varint(*channel)),
            Frame::Tell(channel, tell) => tell.encode(w.u8(2).varint(*channel)),
            Frame::Pass(pass) => pass.encode(w.u8(3)),
            Frame::Passed(passed) => passed.encode(w.u8(4)),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("frame")? {
            0 => Frame::Raft(r.rest().to_vec()),
            1 => Frame::Ask(r.varint("channel")?, Ask::decode(r)?),
            2 => Frame::Tell(r.varint("channel")?, Tell::decode(r)?),
            3 => Frame::Pass(Pass::decode(r)?),
            4 => Frame::Passed(Passed::decode(r)?),
            _ => return Err(DecodeError::Invalid { field: "frame" }),
        })
    }
}

const WATCHES: [Watch; 7] =
    [Watch::Data, Watch::Exists, Watch::Children, Watch::Persistent, Watch::Recursive, Watch::Leader, Watch::Queue];

const EVENTS: [EventKind; 7] = [
    EventKind::Created,
    EventKind::Changed,
    EventKind::Deleted,
    EventKind::Children,
    EventKind::Leader,
    EventKind::Ready,
    EventKind::Resync,
];

const REFUSALS: [Refusal; 6] =
    [Refusal::NoQuorum, Refusal::Busy, Refusal::NoSession, Refusal::TooLarge, Refusal::Scheme, Refusal::NotServing];

fn place<T: PartialEq>(table: &[T], value: &T) -> u8 {
    table.iter().position(|other| other == value).expect("the table names every variant") as u8
}

fn pick<T: Copy>(table: &[T], r: &mut Reader<'_>, field: &'static str) -> Result<T, DecodeError> {
    table.get(usize::from(r.u8(field)?)).copied().ok_or(DecodeError::Invalid { field })
}

impl Codec for Ask {
    fn encode(&self, w: &mut Writer) {
        match self {
            Ask::Open { nonce, ttl_ms } => {
                w.u8(0).u64_le(*nonce).varint(*ttl_ms);
            }
            Ask::Attach { nonce, session, password, seen } => {
                w.u8(1).u64_le(*nonce).u64_le(session.0).array(password).varint(*seen);
            }
            Ask::Call { seq, acked_below, command } => command.encode(w.u8(2).varint(*seq).varint(*acked_below)),
            Ask::Read { id, after, linear, query, watch } => {
                w.u8(3).varint(*id).varint(*after).u8(u8::from(*linear)).u8(u8::from(*watch));
                query.encode(w);
            }
            Ask::Watch { id, watch, path } => {
                w.u8(4).varint(*id).u8(place(&WATCHES, watch)).str(path);
            }
            Ask::Unwatch { id, watch, path } => {
                w.u8(5).varint(*id).u8(place(&WATCHES, watch)).str(path);
            }
            Ask::Rearm { seen, watches } => {
                w.u8(6).varint(*seen).list(watches, |w, (watch, path)| {
                    w.u8(place(&WATCHES, watch)).str(path.as_str());
                });
            }
            Ask::Authenticate { id, scheme, secret } => {
                w.u8(7).varint(*id).str(scheme).bytes(secret);
            }
            Ask::Ping { n } => {
                w.u8(8).varint(*n);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("ask")? {
            0 => Ask::Open { nonce: r.u64_le("nonce")?, ttl_ms: r.varint_max(MAX_TTL_MS, "ttl")? },
            1 => Ask::Attach {
                nonce: r.u64_le("nonce")?,
                session: SessionId::decode(r)?,
                password: r.array("password")?,
                seen: r.varint("seen")?,
            },
            2 => Ask::Call {
                seq: r.varint("request")?,
                acked_below: r.varint("acked below")?,
                command: Command::decode(r)?,
            },
            3 => Ask::Read {
                id: r.varint("read")?,
                after: r.varint("after")?,
                linear: decode_bool(r, "linear")?,
                watch: decode_bool(r, "watch")?,
                query: Query::decode(r)?,
            },
            4 => Ask::Watch { id: r.varint("watch")?, watch: pick(&WATCHES, r, "watch")?, path: decode_name(r)? },
            5 => Ask::Unwatch { id: r.varint("watch")?, watch: pick(&WATCHES, r, "watch")?, path: decode_name(r)? },
            6 => Ask::Rearm {
                seen: r.varint("seen")?,
                watches: r.list(MAX_REARM, "watches", |r| Ok((pick(&WATCHES, r, "watch")?, decode_path(r)?)))?,
            },
            7 => Ask::Authenticate {
                id: r.varint("authentication")?,
                scheme: r.str(64, "scheme")?.into(),
                secret: r.bytes(1_024, "secret")?.to_vec(),
            },
            8 => Ask::Ping { n: r.varint("ping")? },
            _ => return Err(DecodeError::Invalid { field: "ask" }),
        })
    }
}

impl Query {
    fn decode_inner(r: &mut Reader<'_>, nested: bool) -> Result<Self, DecodeError> {
        Ok(match r.u8("query")? {
            0 => Query::Nothing,
            1 => Query::Data(decode_name(r)?),
            2 => Query::Exists(decode_name(r)?),
            3 => Query::Children(decode_name(r)?),
            4 => Query::Acl(decode_name(r)?),
            5 => Query::Leader(decode_name(r)?),
            6 => Query::Lock(decode_name(r)?),
            7 => Query::Queue(decode_name(r)?),
            8 => Query::Item(decode_name(r)?, r.varint("item")?),
            9 if !nested => Query::Many(r.list(MAX_QUERIES, "queries", |r| Self::decode_inner(r, true))?),
            10 => Query::Standing(r.varint("request")?),
            11 => Query::Watches(decode_name(r)?),
            12 => Query::Ephemerals(decode_name(r)?),
            13 => Query::Descendants(decode_name(r)?),
            _ => return Err(DecodeError::Invalid { field: "query" }),
        })
    }
}

impl Codec for Query {
    fn encode(&self, w: &mut Writer) {
        match self {
            Query::Nothing => w.u8(0),
            Query::Data(path) => w.u8(1).str(path),
            Query::Exists(path) => w.u8(2).str(path),
            Query::Children(path) => w.u8(3).str(path),
            Query::Acl(path) => w.u8(4).str(path),
            Query::Leader(path) => w.u8(5).str(path),
            Query::Lock(path) => w.u8(6).str(path),
            Query::Queue(path) => w.u8(7).str(path),
            Query::Item(path, item) => w.u8(8).str(path).varint(*item),
            Query::Many(queries) => w.u8(9).list(queries, |w, query| query.encode(w)),
            Query::Standing(seq) => w.u8(10).varint(*seq),
            Query::Watches(path) => w.u8(11).str(path),
            Query::Ephemerals(path) => w.u8(12).str(path),
            Query::Descendants(path) => w.u8(13).str(path),
        };
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_inner(r, false)
    }
}

impl Found {
    fn decode_inner(r: &mut Reader<'_>, nested: bool) -> Result<Self, DecodeError> {
        Ok(match r.u8("found")? {
            0 => Found::Nothing,
            1 => Found::Data(r.bytes(MAX_DATA_BYTES, "data")?.into(), Stat::decode(r)?),
            2 => Found::Exists(Stat::decode(r)?),
            3 => {
                let names =
                    r.list(MAX_ANSWER_BYTES, "children", |r| Ok(r.str(MAX_ANSWER_BYTES, "child")?.to_owned()))?;
                Found::Children(names, Stat::decode(r)?)
            }
            4 => Found::Acl(Acl::decode(r)?, Stat::decode(r)?),
            5 => Found::Leader(r.option("leader", |r| {
                Ok(Leading {
                    session: SessionId::decode(r)?,
                    owner: r.bytes(MAX_OWNER_BYTES, "owner")?.into(),
                    token: FencingToken::decode(r)?,
                    value: r.bytes(crate::coord::claim::MAX_VALUE_BYTES, "value")?.into(),
                })
            })?),
            6 => {
                let holders = r.list(MAX_QUERIES, "holders", |r| {
                    let session = SessionId::decode(r)?;
                    let owner = r.bytes(MAX_OWNER_BYTES, "owner")?.into();
                    Ok(Holding { session, owner, token: FencingToken::decode(r)?, share: Share::decode(r)? })
                })?;
                Found::Lock(holders, decode_u32(r, "waiters")?)
            }
            7 => Found::Queue {
                ready: decode_u32(r, "ready")?,
                claimed: decode_u32(r, "claimed")?,
                dead: r.list(MAX_QUERIES, "dead", |r| r.varint("item"))?,
            },
            8 => Found::Item(r.bytes(crate::coord::queue::MAX_BODY_BYTES, "body")?.into(), decode_u32(r, "attempts")?),
            9 if !nested => Found::Many(r.list(MAX_QUERIES, "answers", |r| decode_found(r, true))?),
            10 => Found::Standing(match r.u8("standing")? {
                0 => Standing::Holds(FencingToken::decode(r)?),
                1 => Standing::Waits,
                2 => Standing::Over,
                _ => return Err(DecodeError::Invalid { field: "standing" }),
            }),
            11 => Found::Watches(r.list(WATCHES.len(), "watches", |r| pick(&WATCHES, r, "watch"))?),
            12 => Found::Paths(r.list(MAX_ANSWER_BYTES, "paths", |r| Ok(r.str(MAX_ANSWER_BYTES, "path")?.to_owned()))?),
            13 => Found::Count(r.varint("nodes")?),
            _ => return Err(DecodeError::Invalid { field: "found" }),
        })
    }
}

impl Codec for Found {
    fn encode(&self, w: &mut Writer) {
        match self {
            Found::Nothing => {
                w.u8(0);
            }
            Found::Data(data, stat) => stat.encode(w.u8(1).bytes(data)),
            Found::Exists(stat) => stat.encode(w.u8(2)),
            Found::Children(names, stat) => {
                w.u8(3).list(names, |w, name| {
                    w.str(name);
                });
                stat.encode(w);
            }
            Found::Acl(acl, stat) => {
                acl.encode(w.u8(4));
                stat.encode(w);
            }
            Found::Leader(leader) => {
                w.u8(5).option(leader.as_ref(), |w, leader| {
                    leader.token.encode(w.u64_le(leader.session.0).bytes(&leader.owner));
                    w.bytes(&leader.value);
                });
            }
            Found::Lock(holders, waiters) => {
                w.u8(6).list(holders, |w, holder| {
                    holder.token.encode(w.u64_le(holder.session.0).bytes(&holder.owner));
                    holder.share.encode(w);
                });
                w.varint((*waiters).into());
            }
            Found::Queue { ready, claimed, dead } => {
                w.u8(7).varint((*ready).into()).varint((*claimed).into()).list(dead, |w, item| {
                    w.varint(*item);
                });
            }
            Found::Item(body, attempts) => {
                w.u8(8).bytes(body).varint((*attempts).into());
            }
            Found::Many(all) => {
                w.u8(9).list(all, |w, found| encode_found(found, w));
            }
            Found::Standing(standing) => match standing {
                Standing::Holds(token) => token.encode(w.u8(10).u8(0)),
                Standing::Waits => {
                    w.u8(10).u8(1);
                }
                Standing::Over => {
                    w.u8(10).u8(2);
                }
            },
            Found::Watches(watches) => {
                w.u8(11).list(watches, |w, watch| {
                    w.u8(place(&WATCHES, watch));
                });
            }
            Found::Paths(paths) => {
                w.u8(12).list(paths, |w, path| {
                    w.str(path);
                });
            }
            Found::Count(nodes) => {
                w.u8(13).varint(*nodes);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_inner(r, false)
    }
}

fn encode_found(found: &Result<Found, CoordError>, w: &mut Writer) {
    match found {
        Ok(found) => found.encode(w.u8(0)),
        Err(error) => error.encode(w.u8(1)),
    }
}

fn decode_found(r: &mut Reader<'_>, nested: bool) -> Result<Result<Found, CoordError>, DecodeError> {
    Ok(match r.u8("answer")? {
        0 => Ok(Found::decode_inner(r, nested)?),
        1 => Err(CoordError::decode(r)?),
        _ => return Err(DecodeError::Invalid { field: "answer" }),
    })
}

impl Codec for Tell {
    fn encode(&self, w: &mut Writer) {
        match self {
            Tell::Opened { nonce, session, password, ttl_ms, zxid } => {
                w.u8(0).u64_le(*nonce).u64_le(session.0).array(password).varint(*ttl_ms).varint(*zxid);
            }
            Tell::Attached { nonce, next_seq, ttl_ms, zxid } => {
                w.u8(1).u64_le(*nonce).varint(*next_seq).varint(*ttl_ms).varint(*zxid);
            }
            Tell::Failed { nonce, error } => error.encode(w.u8(2).u64_le(*nonce)),
            Tell::Lost => {
                w.u8(3);
            }
            Tell::Moved => {
                w.u8(4);
            }
            Tell::Reply { seq, zxid, reply } => encode_reply(reply, w.u8(5).varint(*seq).varint(*zxid)),
            Tell::Read { id, zxid, found } => encode_found(found, w.u8(6).varint(*id).varint(*zxid)),
            Tell::Refused { of, why } => {
                let (kind, name) = match of {
                    Subject::Entry(nonce) => (0, *nonce),
                    Subject::Call(seq) => (1, *seq),
                    Subject::Read(id) => (2, *id),
                    Subject::Ping(n) => (3, *n),
                    Subject::Rearm => (4, 0),
                };
                w.u8(7).u8(kind).varint(name).u8(place(&REFUSALS, why));
            }
            Tell::Event { zxid, kind, path } => {
                w.u8(8).varint(*zxid).u8(place(&EVENTS, kind)).str(path.as_str());
            }
            Tell::Pong { n, zxid } => {
                w.u8(9).varint(*n).varint(*zxid);
            }
            Tell::Status { led, voters } => {
                w.u8(10).u8(u8::from(*led)).list(voters, |w, voter| {
                    w.array(&voter.0);
                });
            }
            Tell::Skipped => {
                w.u8(11);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("tell")? {
            0 => Tell::Opened {
                nonce: r.u64_le("nonce")?,
                session: SessionId::decode(r)?,
                password: r.array("password")?,
                ttl_ms: r.varint_max(MAX_TTL_MS, "ttl")?,
                zxid: r.varint("zxid")?,
            },
            1 => Tell::Attached {
                nonce: r.u64_le("nonce")?,
                next_seq: r.varint("next request")?,
                ttl_ms: r.varint_max(MAX_TTL_MS, "ttl")?,
                zxid: r.varint("zxid")?,
            },
            2 => Tell::Failed { nonce: r.u64_le("nonce")?, error: CoordError::decode(r)? },
            3 => Tell::Lost,
            4 => Tell::Moved,
            5 => Tell::Reply { seq: r.varint("request")?, zxid: r.varint("zxid")?, reply: decode_reply(r)? },
            6 => Tell::Read { id: r.varint("read")?, zxid: r.varint("zxid")?, found: decode_found(r, false)? },
            7 => {
                let (kind, name) = (r.u8("subject")?, r.varint("refused")?);
                let of = match (kind, name) {
                    (0, nonce) => Subject::Entry(nonce),
                    (1, seq) => Subject::Call(seq),
                    (2, id) => Subject::Read(id),
                    (3, n) => Subject::Ping(n),
                    (4, 0) => Subject::Rearm,
                    _ => return Err(DecodeError::Invalid { field: "subject" }),
                };
                Tell::Refused { of, why: pick(&REFUSALS, r, "refusal")? }
            }
            8 => Tell::Event { zxid: r.varint("zxid")?, kind: pick(&EVENTS, r, "event")?, path: decode_path(r)? },
            9 => Tell::Pong { n: r.varint("ping")?, zxid: r.varint("zxid")? },
            10 => Tell::Status {
                led: decode_bool(r, "led")?,
                voters: r.list(MAX_VOTERS, "voters", |r| Ok(PeerId(r.array("voter")?)))?,
            },
            11 => Tell::Skipped,
            _ => return Err(DecodeError::Invalid { field: "tell" }),
        })
    }
}

impl Codec for Pass {
    fn encode(&self, w: &mut Writer) {
        match self {
            Pass::Propose(body) => body.encode(w.u8(0)),
            Pass::Touch { round, sessions } => {
                w.u8(1).varint(*round).list(sessions, |w, session| session.encode(w));
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("pass")? {
            0 => Pass::Propose(Body::decode(r)?),
            1 => {
                Pass::Touch { round: r.varint("round")?, sessions: r.list(MAX_TOUCHED, "sessions", SessionId::decode)? }
            }
            _ => return Err(DecodeError::Invalid { field: "pass" }),
        })
    }
}

impl Codec for Passed {
    fn encode(&self, w: &mut Writer) {
        match self {
            Passed::Again => {
                w.u8(0);
            }
            Passed::Touched { round, index, renewed } => {
                w.u8(1).varint(*round).varint(*index).list(renewed, |w, session| session.encode(w));
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("passed")? {
            0 => Passed::Again,
            1 => Passed::Touched {
                round: r.varint("round")?,
                index: r.varint("index")?,
                renewed: r.list(MAX_TOUCHED, "sessions", SessionId::decode)?,
            },
            _ => return Err(DecodeError::Invalid { field: "passed" }),
        })
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
