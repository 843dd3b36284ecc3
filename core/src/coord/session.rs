//! Sessions: who may hold what, for how long, and what was answered to them.
//!
//! A session's clock is not in here. The leader counts, and proposes [`super::command::Body::Expire`] with the renewal after
//! which the time ran out; whatever renews the session raises that number, so an expiry that was overtaken in the log has no
//! effect.
//!
//! **Exactly once, in order.** A session numbers its requests 0, 1, 2, … and each is done in its turn: one that comes early is
//! refused ([`CoordError::OutOfOrder`]), one that was done gets its first answer again, until the client acknowledges it.
//! At most [`MAX_IN_FLIGHT`] answers are kept, each at most [`MAX_REPLY_BYTES`]. When a session moves to another connection
//! ([`super::command::Body::Attach`]), requests of the earlier one that are still on their way are refused, so that they cannot take the
//! numbers of the newer one's. A number that was given out has to be used: a client that gives a lost request up sends another
//! in its place; whichever comes first is done, and both get its answer. Numbered requests and kept answers are the client sessions of Ongaro's thesis (2014),
//! section 6.3.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::error::{Argument, Bounded, CoordError};
use super::reply::{Answer, Reply, decode_reply, encode_reply};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Bytes of a session's password.
pub const PASSWORD_LEN: usize = 16;

/// Longest name of a session's owner in bytes: a device and a peer, with room.
pub const MAX_OWNER_BYTES: usize = 128;

/// Shortest time to live in milliseconds: several rounds of keep-alive across a continent.
pub const MIN_TTL_MS: u64 = 1_000;

/// Longest time to live in milliseconds: an hour for which a lock of a program that died stays taken.
pub const MAX_TTL_MS: u64 = 3_600_000;

/// Most requests of a session whose answers are not acknowledged.
pub const MAX_IN_FLIGHT: u64 = 64;

/// Longest answer that is kept, in bytes. A longer one is told once; a retry gets [`Answer::Elided`].
pub const MAX_REPLY_BYTES: usize = 4_096;

// Whatever one operation answers is kept: a path and a `Stat`.
const _: () = assert!(MAX_REPLY_BYTES >= super::path::MAX_PATH_BYTES + 128);

/// Most sessions.
pub const MAX_SESSIONS: usize = 65_536;

/// How many ended sessions are remembered, so that a late copy of the entry that opened one does not open it again.
pub const ENDED_REMEMBERED: usize = 4_096;

/// What a counter that begins at zero and goes up by one will never reach.
const MAX_COUNT: u64 = 1 << 62;

/// A session's name: 64 bits, drawn at random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Whether it can be told from no owner, a container and a TTL node in ZooKeeper's `ephemeralOwner`.
    pub fn is_valid(self) -> bool {
        self.0 != 0 && !matches!(self.0 >> 56, 0xff | 0x80)
    }
}

impl Codec for SessionId {
    fn encode(&self, w: &mut Writer) {
        w.u64_le(self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u64_le("session").map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// One session.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    pub(crate) password: [u8; PASSWORD_LEN],
    pub(crate) owner: Arc<[u8]>,
    pub(crate) ttl_ms: u64,
    pub(crate) renewal: u64,
    pub(crate) attachment: u64,
    pub(crate) next_seq: u64,
    pub(crate) acked_below: u64,
    pub(crate) replies: BTreeMap<u64, Reply>,
}

impl Session {
    /// Whom the voter that opened it knew its client as.
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// Time to live in milliseconds.
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// How often it was renewed.
    pub fn renewal(&self) -> u64 {
        self.renewal
    }

    /// How often it changed its connection.
    pub fn attachment(&self) -> u64 {
        self.attachment
    }

    /// The number of its next request.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The answer that is kept for a request.
    pub fn reply(&self, seq: u64) -> Option<&Reply> {
        self.replies.get(&seq)
    }

    /// Whether this is its password. The time it takes does not tell how much of it is right.
    pub fn admits(&self, password: &[u8; PASSWORD_LEN]) -> bool {
        self.password.iter().zip(password).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }

    /// Keeps an answer; a wait's outcome takes the place of the answer that it waits.
    fn keep(&mut self, seq: u64, reply: &Reply, index: u64) {
        let mut w = Writer::new();
        encode_reply(reply, &mut w);
        let kept = if w.len() > MAX_REPLY_BYTES { Ok(Answer::Elided { index }) } else { reply.clone() };
        self.replies.insert(seq, kept);
    }
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Do it, then [`Sessions::answer`].
    Run,
    /// Answer this, and do nothing.
    Answer(Reply),
}

/// All sessions.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    pub(crate) open: BTreeMap<SessionId, Session>,
    pub(crate) ended: VecDeque<SessionId>,
}

impl Sessions {
    /// A session that is open.
    pub fn find(&self, id: SessionId) -> Option<&Session> {
        self.open.get(&id)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.open.iter().map(|(id, session)| (*id, session))
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens a session.
    pub(crate) fn open(&mut self, id: SessionId, password: [u8; PASSWORD_LEN], ttl_ms: u64, owner: Arc<[u8]>) -> Reply {
        if !id.is_valid() {
            return Err(Argument::SessionId.into());
        }
        let ttl_ms = ttl_ms.clamp(MIN_TTL_MS, MAX_TTL_MS);
        if let Some(session) = self.open.get(&id) {
            return if session.admits(&password) {
                Ok(Answer::Opened { ttl_ms: session.ttl_ms })
            } else {
                Err(CoordError::WrongPassword)
            };
        }
        if self.ended.contains(&id) {
            return Err(CoordError::SessionExpired);
        }
        if self.open.len() >= MAX_SESSIONS {
            return Err(CoordError::TooLarge { what: Bounded::Sessions, max: MAX_SESSIONS as u64 });
        }
        let session = Session {
            password,
            owner,
            ttl_ms,
            renewal: 0,
            attachment: 0,
            next_seq: 0,
            acked_below: 0,
            replies: BTreeMap::new(),
        };
        self.open.insert(id, session);
        Ok(Answer::Opened { ttl_ms })
    }

    /// Gives a session to another connection.
    pub(crate) fn attach(&mut self, id: SessionId, password: &[u8; PASSWORD_LEN]) -> Reply {
        let session = self.open.get_mut(&id).ok_or(CoordError::SessionExpired)?;
        if !session.admits(password) {
            return Err(CoordError::WrongPassword);
        }
        session.renewal += 1;
        session.attachment += 1;
        Ok(Answer::Attached { attachment: session.attachment, next_seq: session.next_seq, ttl_ms: session.ttl_ms })
    }

    /// Begins a session's time anew.
    pub(crate) fn renew(&mut self, id: SessionId) -> Reply {
        self.open.get_mut(&id).ok_or(CoordError::SessionExpired)?.renewal += 1;
        Ok(Answer::Renewed)
    }

    /// Whether a request is to be done now.
    pub(crate) fn admit(&mut self, id: SessionId, attachment: u64, seq: u64, acked_below: u64) -> Admission {
        let Some(session) = self.open.get_mut(&id) else {
            return Admission::Answer(Err(CoordError::SessionExpired));
        };
        if attachment != session.attachment {
            return Admission::Answer(Err(CoordError::SessionMoved));
        }
        if acked_below > seq {
            return Admission::Answer(Err(Argument::Acknowledged.into()));
        }
        session.renewal += 1;
        // No further than what was done: an acknowledgement may outrun requests that were lost.
        let acked_below = acked_below.min(session.next_seq);
        if acked_below > session.acked_below {
            session.acked_below = acked_below;
            session.replies = session.replies.split_off(&acked_below);
        }
        if seq < session.acked_below {
            Admission::Answer(Err(CoordError::AnswerForgotten))
        } else if let Some(reply) = session.replies.get(&seq) {
            Admission::Answer(reply.clone())
        } else if seq > session.next_seq {
            Admission::Answer(Err(CoordError::OutOfOrder { expected: session.next_seq }))
        } else if seq - session.acked_below >= MAX_IN_FLIGHT {
            Admission::Answer(Err(CoordError::TooLarge { what: Bounded::InFlight, max: MAX_IN_FLIGHT }))
        } else {
            session.next_seq += 1;
            Admission::Run
        }
    }

    /// Keeps the answer to a request, or the outcome of one that waited, unless it was acknowledged meanwhile.
    pub(crate) fn answer(&mut self, id: SessionId, seq: u64, reply: &Reply, index: u64) {
        if let Some(session) = self.open.get_mut(&id)
            && seq >= session.acked_below
        {
            session.keep(seq, reply, index);
        }
    }

    /// Ends a session; `false` if there is none.
    pub(crate) fn end(&mut self, id: SessionId) -> bool {
        let existed = self.open.remove(&id).is_some();
        if existed {
            if self.ended.len() == ENDED_REMEMBERED {
                self.ended.pop_front();
            }
            self.ended.push_back(id);
        }
        existed
    }
}

impl Codec for Session {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.password).bytes(&self.owner).varint(self.ttl_ms).varint(self.renewal).varint(self.attachment);
        w.varint(self.next_seq).varint(self.acked_below).varint(self.replies.len() as u64);
        for (seq, reply) in &self.replies {
            encode_reply(reply, w.varint(*seq));
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut session = Self {
            password: r.array("password")?,
            owner: r.bytes(MAX_OWNER_BYTES, "owner")?.into(),
            ttl_ms: r.varint_max(MAX_TTL_MS, "ttl")?,
            renewal: r.varint_max(MAX_COUNT, "renewal")?,
            attachment: r.varint_max(MAX_COUNT, "attachment")?,
            next_seq: r.varint_max(MAX_COUNT, "next request")?,
            acked_below: r.varint("acked below")?,
            replies: BTreeMap::new(),
        };
        for _ in 0..r.varint_max(MAX_IN_FLIGHT, "replies")? {
            let seq = r.varint("seq of a reply")?;
            let in_order = session.replies.last_key_value().is_none_or(|(last, _)| *last < seq);
            if !in_order || seq < session.acked_below || seq >= session.next_seq {
                return Err(DecodeError::Invalid { field: "seq of a reply" });
            }
            session.replies.insert(seq, decode_reply(r)?);
        }
        Ok(session)
    }
}
