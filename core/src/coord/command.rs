//! The entries of the log.
//!
//! ```text
//! entry      version u8 (1) · stamp zigzag (ms) · type u8, then
//!   0 open         session u64 · password[16] · ttl varint (ms) · owner bytes(≤ 128)
//!   1 attach       session u64 · password[16] · nonce u64
//!   2 renew        session u64
//!   3 request      session u64 · attachment varint · seq varint · acked varint · identities list(≤ 16) · command
//!   4 expire       session u64 · renewal varint
//!   5 collect      path str · mzxid varint · pzxid varint
//!   6 timeout      kind u8 · path str · session u64 · seq varint
//!   7 end delay    kind u8 · path str · since varint
//!   8 redeliver    path str · item varint · claim varint
//!   9 generation   generation varint
//! ```
//!
//! What a client asks for is a request; the rest comes from voters (0 to 2, for a client that has no session yet or is about
//! to lose it) and from the leader (4 to 9). The stamp is the leader's wall clock; the machine never lets it run backwards.
//!
//! There is one spelling of each entry, and a group has to be of one mind about which entries it can read: a version is put
//! into the log only when every voter and learner of the configuration knows it.

use std::sync::Arc;

use super::acl::{Identity, MAX_IDENTITIES};
use super::claim::{Kind, MAX_VALUE_BYTES, Share, Wait};
use super::error::{Bounded, CoordError};
use super::op::{MAX_DATA_BYTES, Op, decode_name, decode_path};
use super::path::NodePath;
use super::queue::MAX_BODY_BYTES;
use super::session::{MAX_OWNER_BYTES, PASSWORD_LEN, SessionId};
use super::stat::decode_u32;
use super::token::FencingToken;
use crate::time::WallTime;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Version of the entries that this program writes, and the only one that it reads.
pub const ENTRY_VERSION: u8 = 1;

/// Most operations of one multi-operation.
pub const MAX_OPS: usize = 4_096;

/// Longest entry in bytes: the data of one full node, and room for everything else.
pub const MAX_ENTRY_BYTES: usize = MAX_DATA_BYTES + (1 << 18);

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's wall clock when it was proposed: what `ctime` and `mtime` show.
    pub stamp: WallTime,
    /// What it does.
    pub body: Body,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Opens a session. The same entry again, while it is open, changes nothing and answers the same.
    Open {
        /// Drawn at random by the voter.
        session: SessionId,
        /// Drawn at random by the voter; whoever has it may attach.
        password: [u8; PASSWORD_LEN],
        /// Asked-for time to live in milliseconds; brought within the bounds.
        ttl_ms: u64,
        /// Whom the voter knows its client as, shown to others as the owner of what the session holds.
        owner: Arc<[u8]>,
    },
    /// Makes a session that of another connection, and renews it.
    Attach {
        /// The session.
        session: SessionId,
        /// Its password.
        password: [u8; PASSWORD_LEN],
        /// The voter's name for the attempt: of two voters that try at once, each knows its own.
        nonce: u64,
    },
    /// Renews a session: an expiry that was proposed before has no effect.
    Renew {
        /// The session.
        session: SessionId,
    },
    /// A client's request.
    Request(Request),
    /// Ends a session, unless it was renewed since.
    Expire {
        /// The session.
        session: SessionId,
        /// The renewal after which its time ran out.
        renewal: u64,
    },
    /// Deletes a container or TTL node, unless it changed since.
    Collect {
        /// The node.
        path: NodePath,
        /// Its `mzxid` when its time began.
        mzxid: u64,
        /// Its `pzxid` when its time began.
        pzxid: u64,
    },
    /// Ends a wait whose deadline has come, unless it was granted before.
    Timeout {
        /// Lock or election.
        kind: Kind,
        /// Which.
        path: NodePath,
        /// Whose wait.
        session: SessionId,
        /// Which of its requests.
        seq: u64,
    },
    /// Ends a delay after an expiry.
    EndDelay {
        /// Lock or election.
        kind: Kind,
        /// Which.
        path: NodePath,
        /// The entry at which the delay began.
        since: u64,
    },
    /// Takes back an item whose claim has lasted its time.
    Redeliver {
        /// The queue.
        path: NodePath,
        /// The item.
        item: u64,
        /// Index of the claim's token.
        claim: u64,
    },
    /// The group was rebuilt: tokens are of this generation from now on. An older one has no effect.
    Generation {
        /// Its number.
        generation: u32,
    },
}

/// What a client asks for within its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The session.
    pub session: SessionId,
    /// How often the session has changed its connection, as the client knows it.
    pub attachment: u64,
    /// The request's number: 0, 1, 2, … within the session.
    pub seq: u64,
    /// The client has the answers to all requests below this one.
    pub acked_below: u64,
    /// What the client is known as, by the voter that it speaks to.
    pub identities: Vec<Identity>,
    /// What it asks for.
    pub command: Command,
}

/// What a client can ask for. Paths are text: what is wrong with one is the request's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Closes the session.
    Close,
    /// One operation on the tree.
    Op(Op),
    /// All operations or none.
    Multi(Vec<Op>),
    /// Asks for a lock, or for leadership.
    Acquire {
        /// Lock or election.
        kind: Kind,
        /// Which.
        path: String,
        /// With others or alone; leadership is always alone.
        share: Share,
        /// What to do when it cannot be had at once.
        wait: Wait,
        /// How long nobody gets it after this session expired while it held it, in milliseconds.
        delay_ms: u64,
        /// What a candidate says of itself when it leads; empty for locks.
        value: Arc<[u8]>,
    },
    /// Gives back a lock or leadership.
    Release {
        /// Lock or election.
        kind: Kind,
        /// Which.
        path: String,
        /// The token of the grant.
        token: FencingToken,
    },
    /// Takes back an earlier request of this session that waits, or gives back what it got.
    Cancel {
        /// The request's number.
        seq: u64,
    },
    /// Replaces what a leader says of itself.
    Proclaim {
        /// The election.
        path: String,
        /// The token of its leadership.
        token: FencingToken,
        /// What it says.
        value: Arc<[u8]>,
    },
    /// Puts an item at the end of a queue.
    Enqueue {
        /// The queue.
        path: String,
        /// The item.
        body: Arc<[u8]>,
        /// How often it is tried before it is put aside.
        max_attempts: u32,
    },
    /// Takes the first item that nobody works on.
    Claim {
        /// The queue.
        path: String,
        /// How long it is this session's alone, in milliseconds.
        visibility_ms: u64,
    },
    /// An item is done.
    Ack {
        /// The queue.
        path: String,
        /// The item.
        item: u64,
        /// The claim's token.
        token: FencingToken,
    },
    /// An item was not done: others may try.
    Nack {
        /// The queue.
        path: String,
        /// The item.
        item: u64,
        /// The claim's token.
        token: FencingToken,
    },
    /// An item that was put aside goes back to its place, its tries forgotten.
    Revive {
        /// The queue.
        path: String,
        /// The item.
        item: u64,
    },
    /// Deletes an item that was put aside.
    Discard {
        /// The queue.
        path: String,
        /// The item.
        item: u64,
    },
}

impl Entry {
    /// The entry as bytes for the log, or what is over a bound. What this gives, every replica can read.
    pub fn to_log(&self) -> Result<Vec<u8>, CoordError> {
        if let Body::Request(request) = &self.body {
            request.command.check()?;
        }
        let bytes = self.to_bytes();
        // Identities and texts have bounds of their own, which the reader knows.
        match Self::from_bytes(&bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(CoordError::TooLarge { what: Bounded::Entry, max: MAX_ENTRY_BYTES as u64 }),
        }
    }
}

impl Command {
    /// Whether what it carries is within the bounds that an entry has.
    pub(crate) fn check(&self) -> Result<(), CoordError> {
        let bound = |len: usize, max: usize, what| {
            if len > max { Err(CoordError::TooLarge { what, max: max as u64 }) } else { Ok(()) }
        };
        match self {
            Command::Op(op) => bound(op.data_len(), MAX_DATA_BYTES, Bounded::Data),
            Command::Multi(ops) => bound(ops.iter().map(Op::data_len).sum(), MAX_DATA_BYTES, Bounded::Data),
            Command::Acquire { value, .. } | Command::Proclaim { value, .. } => {
                bound(value.len(), MAX_VALUE_BYTES, Bounded::Value)
            }
            Command::Enqueue { body, .. } => bound(body.len(), MAX_BODY_BYTES, Bounded::Body),
            _ => Ok(()),
        }
    }
}

impl Codec for Entry {
    fn encode(&self, w: &mut Writer) {
        self.body.encode(w.u8(ENTRY_VERSION).zigzag(self.stamp.0));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.remaining() > MAX_ENTRY_BYTES {
            let got = r.remaining() as u64;
            return Err(DecodeError::TooLarge { field: "entry", got, max: MAX_ENTRY_BYTES as u64 });
        }
        if r.u8("version of the entry")? != ENTRY_VERSION {
            return Err(DecodeError::Invalid { field: "version of the entry" });
        }
        Ok(Self { stamp: WallTime(r.zigzag("stamp")?), body: Body::decode(r)? })
    }
}

impl Codec for Body {
    fn encode(&self, w: &mut Writer) {
        match self {
            Body::Open { session, password, ttl_ms, owner } => {
                w.u8(0).u64_le(session.0).array(password).varint(*ttl_ms).bytes(owner);
            }
            Body::Attach { session, password, nonce } => {
                w.u8(1).u64_le(session.0).array(password).u64_le(*nonce);
            }
            Body::Renew { session } => {
                w.u8(2).u64_le(session.0);
            }
            Body::Request(request) => request.encode(w.u8(3)),
            Body::Expire { session, renewal } => {
                w.u8(4).u64_le(session.0).varint(*renewal);
            }
            Body::Collect { path, mzxid, pzxid } => {
                w.u8(5).str(path.as_str()).varint(*mzxid).varint(*pzxid);
            }
            Body::Timeout { kind, path, session, seq } => {
                kind.encode(w.u8(6));
                w.str(path.as_str()).u64_le(session.0).varint(*seq);
            }
            Body::EndDelay { kind, path, since } => {
                kind.encode(w.u8(7));
                w.str(path.as_str()).varint(*since);
            }
            Body::Redeliver { path, item, claim } => {
                w.u8(8).str(path.as_str()).varint(*item).varint(*claim);
            }
            Body::Generation { generation } => {
                w.u8(9).varint((*generation).into());
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("entry")? {
            0 => Body::Open {
                session: SessionId::decode(r)?,
                password: r.array("password")?,
                ttl_ms: r.varint("ttl")?,
                owner: r.bytes(MAX_OWNER_BYTES, "owner")?.into(),
            },
            1 => Body::Attach {
                session: SessionId::decode(r)?,
                password: r.array("password")?,
                nonce: r.u64_le("nonce")?,
            },
            2 => Body::Renew { session: SessionId::decode(r)? },
            3 => Body::Request(Request::decode(r)?),
            4 => Body::Expire { session: SessionId::decode(r)?, renewal: r.varint("renewal")? },
            5 => Body::Collect { path: decode_path(r)?, mzxid: r.varint("mzxid")?, pzxid: r.varint("pzxid")? },
            6 => Body::Timeout {
                kind: Kind::decode(r)?,
                path: decode_path(r)?,
                session: SessionId::decode(r)?,
                seq: r.varint("seq")?,
            },
            7 => Body::EndDelay { kind: Kind::decode(r)?, path: decode_path(r)?, since: r.varint("since")? },
            8 => Body::Redeliver { path: decode_path(r)?, item: r.varint("item")?, claim: r.varint("claim")? },
            9 => Body::Generation { generation: decode_u32(r, "generation")? },
            _ => return Err(DecodeError::Invalid { field: "entry" }),
        })
    }
}

impl Codec for Request {
    fn encode(&self, w: &mut Writer) {
        w.u64_le(self.session.0).varint(self.attachment).varint(self.seq).varint(self.acked_below);
        w.list(&self.identities, |w, identity| identity.encode(w));
        self.command.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: SessionId::decode(r)?,
            attachment: r.varint("attachment")?,
            seq: r.varint("seq")?,
            acked_below: r.varint("acked below")?,
            identities: r.list(MAX_IDENTITIES, "identities", Identity::decode)?,
            command: Command::decode(r)?,
        })
    }
}

impl Codec for Command {
    fn encode(&self, w: &mut Writer) {
        match self {
            Command::Close => {
                w.u8(0);
            }
            Command::Op(op) => op.encode(w.u8(1)),
            Command::Multi(ops) => {
                w.u8(2).list(ops, |w, op| op.encode(w));
            }
            Command::Acquire { kind, path, share, wait, delay_ms, value } => {
                kind.encode(w.u8(3));
                share.encode(w.str(path));
                wait.encode(w);
                w.varint(*delay_ms).bytes(value);
            }
            Command::Release { kind, path, token } => {
                kind.encode(w.u8(4));
                token.encode(w.str(path));
            }
            Command::Cancel { seq } => {
                w.u8(5).varint(*seq);
            }
            Command::Proclaim { path, token, value } => {
                token.encode(w.u8(6).str(path));
                w.bytes(value);
            }
            Command::Enqueue { path, body, max_attempts } => {
                w.u8(7).str(path).bytes(body).varint((*max_attempts).into());
            }
            Command::Claim { path, visibility_ms } => {
                w.u8(8).str(path).varint(*visibility_ms);
            }
            Command::Ack { path, item, token } => token.encode(w.u8(9).str(path).varint(*item)),
            Command::Nack { path, item, token } => token.encode(w.u8(10).str(path).varint(*item)),
            Command::Revive { path, item } => {
                w.u8(11).str(path).varint(*item);
            }
            Command::Discard { path, item } => {
                w.u8(12).str(path).varint(*item);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("command")? {
            0 => Command::Close,
            1 => Command::Op(Op::decode(r)?),
            2 => Command::Multi(r.list(MAX_OPS, "operations", Op::decode)?),
            3 => Command::Acquire {
                kind: Kind::decode(r)?,
                path: decode_name(r)?,
                share: Share::decode(r)?,
                wait: Wait::decode(r)?,
                delay_ms: r.varint("delay")?,
                value: r.bytes(MAX_VALUE_BYTES, "value")?.into(),
            },
            4 => Command::Release { kind: Kind::decode(r)?, path: decode_name(r)?, token: FencingToken::decode(r)? },
            5 => Command::Cancel { seq: r.varint("seq")? },
            6 => Command::Proclaim {
                path: decode_name(r)?,
                token: FencingToken::decode(r)?,
                value: r.bytes(MAX_VALUE_BYTES, "value")?.into(),
            },
            7 => Command::Enqueue {
                path: decode_name(r)?,
                body: r.bytes(MAX_BODY_BYTES, "body")?.into(),
                max_attempts: decode_u32(r, "attempts")?,
            },
            8 => Command::Claim { path: decode_name(r)?, visibility_ms: r.varint("visibility")? },
            9 => Command::Ack { path: decode_name(r)?, item: r.varint("item")?, token: FencingToken::decode(r)? },
            10 => Command::Nack { path: decode_name(r)?, item: r.varint("item")?, token: FencingToken::decode(r)? },
            11 => Command::Revive { path: decode_name(r)?, item: r.varint("item")? },
            12 => Command::Discard { path: decode_name(r)?, item: r.varint("item")? },
            _ => return Err(DecodeError::Invalid { field: "command" }),
        })
    }
}
