//! What voters and learners say to each other, byte by byte; drawn in `docs/wire.md`.
//!
//! A frame is a header and a body. The header names the group's generation, the sender and the receiver by id, and both
//! by store, so that a frame for another life of the group or for a store that is gone is refused before its body is
//! looked at. Consensus' own encoding is nowhere here; what it must not take from a network (proposals, commands to
//! itself) has no body at all.

use raft::eraftpb::{Entry, Message, MessageType};

use super::entry::{LogEntry, MAX_ENTRY_BYTES};
use super::log::Position;
use super::member::{Generation, MAX_NUMBER, MemberId, StoreId, decode_id};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// The version of the bytes.
pub const VERSION: u8 = 1;

/// Room for entries in one append: either several of together at most this, or one of any allowed size.
pub const APPEND_BYTES: usize = 256 << 10;

/// Entries in one append. An empty entry takes 4 bytes, so this is never reached before [`APPEND_BYTES`].
pub const MAX_APPEND_ENTRIES: usize = 16_384;

/// Bytes of a snapshot in one chunk.
pub const CHUNK_BYTES: usize = 64 << 10;

/// The largest frame: one entry of the largest size and room for the rest.
pub const MAX_FRAME_BYTES: usize = MAX_ENTRY_BYTES + APPEND_BYTES;

/// The name that a round of reads carries.
pub const READ_CONTEXT_BYTES: usize = 16;

/// How a leader marks a vote that it asked for itself, in consensus' own words.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// Who says it to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which life of the group.
    pub generation: Generation,
    /// The sender.
    pub from: MemberId,
    /// The sender's store.
    pub from_store: StoreId,
    /// The receiver.
    pub to: MemberId,
    /// The receiver's store.
    pub to_store: StoreId,
}

impl Codec for Header {
    fn encode(&self, w: &mut Writer) {
        self.generation.encode(w);
        w.varint(self.from.0).u64_le(self.from_store.0).varint(self.to.0).u64_le(self.to_store.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: Generation::decode(r)?,
            from: decode_id(r)?,
            from_store: StoreId(r.u64_le("sender's store")?),
            to: decode_id(r)?,
            to_store: StoreId(r.u64_le("receiver's store")?),
        })
    }
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Entries behind `after`, and how far the log is committed.
    Append {
        /// The leader's term.
        term: u64,
        /// The entry before the first one.
        after: Position,
        /// The leader's commit index.
        commit: u64,
        /// In the order of their indices.
        entries: Vec<LogEntry>,
    },
    /// The log matches up to `index`.
    Accepted {
        /// The follower's term.
        term: u64,
        /// Up to where it matches.
        index: u64,
        /// The follower's commit index.
        commit: u64,
    },
    /// The log does not hold the entry before the first one sent.
    Rejected {
        /// The follower's term.
        term: u64,
        /// The index that was asked for.
        index: u64,
        /// Where the leader might try next.
        hint: Position,
        /// The follower's commit index.
        commit: u64,
    },
    /// Asks for a vote, or whether one would be given.
    Vote {
        /// Whether only the chance is asked for.
        pre: bool,
        /// Whether a leader hands over, so that a living leader is no reason to refuse.
        transfer: bool,
        /// The term to be elected for.
        term: u64,
        /// The candidate's last entry.
        last: Position,
        /// The candidate's last committed entry.
        committed: Position,
    },
    /// The answer.
    VoteReply {
        /// To a question about the chance only.
        pre: bool,
        /// The term it is for; the voter's own where it refuses.
        term: u64,
        /// Whether it refuses.
        reject: bool,
        /// With a refusal: the voter's last committed entry.
        committed: Position,
    },
    /// The leader lives.
    Heartbeat {
        /// The leader's term.
        term: u64,
        /// How far the receiver may commit.
        commit: u64,
        /// The round of reads that it confirms.
        round: Option<[u8; READ_CONTEXT_BYTES]>,
    },
    /// The follower lives.
    HeartbeatReply {
        /// The follower's term.
        term: u64,
        /// The follower's commit index.
        commit: u64,
        /// The round of reads that it confirms.
        round: Option<[u8; READ_CONTEXT_BYTES]>,
    },
    /// The leader hands over: be elected now.
    TimeoutNow {
        /// The leader's term.
        term: u64,
    },
    /// From where may I read? To the leader.
    Read {
        /// The round of reads.
        round: [u8; READ_CONTEXT_BYTES],
    },
    /// From this index on.
    ReadReply {
        /// The leader's term.
        term: u64,
        /// The index that has to be applied first.
        index: u64,
        /// The round of reads.
        round: [u8; READ_CONTEXT_BYTES],
    },
    /// The log does not reach back far enough; here is a snapshot, ask for it.
    Offer {
        /// The leader's term.
        term: u64,
        /// The snapshot's place in the log.
        at: Position,
        /// Its size in bytes.
        size: u64,
        /// Its BLAKE3 hash.
        hash: [u8; 32],
    },
    /// I have the snapshot at `index` up to `offset`; go on.
    Want {
        /// Which.
        index: u64,
        /// Bytes had, all of them from the start.
        offset: u64,
    },
    /// Bytes of a snapshot.
    Chunk {
        /// Which.
        index: u64,
        /// Where they begin.
        offset: u64,
        /// At most [`CHUNK_BYTES`].
        bytes: Vec<u8>,
    },
    /// You are not a member any more.
    Gone,
    /// The snapshot at `index` cannot be taken here: damaged, too large, or of a newer version.
    Unfit {
        /// Which.
        index: u64,
    },
}

impl Codec for Position {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.index).varint(self.term);
    }

    /// Index 0 has term 0 and no other index has: consensus takes a term of 0 for "matches" where it has no entry.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = Self { index: number(r, "index")?, term: number(r, "term")? };
        if (at.index == 0) == (at.term == 0) { Ok(at) } else { Err(DecodeError::Invalid { field: "term" }) }
    }
}

fn number(r: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    r.varint_max(MAX_NUMBER, field)
}

/// A term that someone has: not 0, which marks what a replica tells itself.
fn term(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match number(r, "term")? {
        0 => Err(DecodeError::Invalid { field: "term" }),
        term => Ok(term),
    }
}

fn flag(r: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match r.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid { field }),
    }
}

fn round(r: &mut Reader<'_>) -> Result<Option<[u8; READ_CONTEXT_BYTES]>, DecodeError> {
    r.option("round", |r| r.array("round"))
}

impl Codec for Body {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Append { term, after, commit, entries } => {
                w.u8(1).varint(*term);
                after.encode(w);
                w.varint(*commit).list(entries, |w, entry| entry.encode(w));
            }
            Self::Accepted { term, index, commit } => {
                w.u8(2).varint(*term).varint(*index).varint(*commit);
            }
            Self::Rejected { term, index, hint, commit } => {
                w.u8(3).varint(*term).varint(*index);
                hint.encode(w);
                w.varint(*commit);
            }
            Self::Vote { pre, transfer, term, last, committed } => {
                w.u8(4).u8(u8::from(*pre)).u8(u8::from(*transfer)).varint(*term);
                last.encode(w);
                committed.encode(w);
            }
            Self::VoteReply { pre, term, reject, committed } => {
                w.u8(5).u8(u8::from(*pre)).u8(u8::from(*reject)).varint(*term);
                committed.encode(w);
            }
            Self::Heartbeat { term, commit, round } => {
                w.u8(6).varint(*term).varint(*commit).option(round.as_ref(), |w, round| {
                    w.array(round);
                });
            }
            Self::HeartbeatReply { term, commit, round } => {
                w.u8(7).varint(*term).varint(*commit).option(round.as_ref(), |w, round| {
                    w.array(round);
                });
            }
            Self::TimeoutNow { term } => {
                w.u8(8).varint(*term);
            }
            Self::Read { round } => {
                w.u8(9).array(round);
            }
            Self::ReadReply { term, index, round } => {
                w.u8(10).varint(*term).varint(*index).array(round);
            }
            Self::Offer { term, at, size, hash } => {
                w.u8(11).varint(*term);
                at.encode(w);
                w.varint(*size).array(hash);
            }
            Self::Want { index, offset } => {
                w.u8(12).varint(*index).varint(*offset);
            }
            Self::Chunk { index, offset, bytes } => {
                w.u8(13).varint(*index).varint(*offset).bytes(bytes);
            }
            Self::Unfit { index } => {
                w.u8(14).varint(*index);
            }
            Self::Gone => {
                w.u8(15);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("body")? {
            1 => decode_append(r)?,
            2 => Self::Accepted { term: term(r)?, index: number(r, "index")?, commit: number(r, "commit")? },
            3 => decode_rejected(r)?,
            4 => Self::Vote {
                pre: flag(r, "pre-vote")?,
                transfer: flag(r, "transfer")?,
                term: term(r)?,
                last: Position::decode(r)?,
                committed: Position::decode(r)?,
            },
            5 => {
                let (pre, reject) = (flag(r, "pre-vote")?, flag(r, "reject")?);
                Self::VoteReply { pre, reject, term: term(r)?, committed: Position::decode(r)? }
            }
            6 => Self::Heartbeat { term: term(r)?, commit: number(r, "commit")?, round: round(r)? },
            7 => Self::HeartbeatReply { term: term(r)?, commit: number(r, "commit")?, round: round(r)? },
            8 => Self::TimeoutNow { term: term(r)? },
            9 => Self::Read { round: r.array("round")? },
            10 => Self::ReadReply { term: term(r)?, index: number(r, "index")?, round: r.array("round")? },
            11 => Self::Offer {
                term: term(r)?,
                at: Position::decode(r)?,
                size: number(r, "snapshot size")?,
                hash: r.array("snapshot hash")?,
            },
            12 => Self::Want { index: number(r, "index")?, offset: number(r, "offset")? },
            13 => Self::Chunk {
                index: number(r, "index")?,
                offset: number(r, "offset")?,
                bytes: r.bytes(CHUNK_BYTES, "chunk")?.to_vec(),
            },
            14 => Self::Unfit { index: number(r, "index")? },
            15 => Self::Gone,
            _ => return Err(DecodeError::Invalid { field: "body" }),
        })
    }
}

/// Terms never fall along a log, and none is beyond the leader's.
fn decode_append(r: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let term = term(r)?;
    let after = Position::decode(r)?;
    let commit = number(r, "commit")?;
    let mut last = after.term;
    let entries = r.list(MAX_APPEND_ENTRIES, "entries", |r| {
        let entry = LogEntry::decode(r)?;
        let before = std::mem::replace(&mut last, entry.term);
        if entry.term == 0 || entry.term < before {
            Err(DecodeError::Invalid { field: "entry term" })
        } else {
            Ok(entry)
        }
    })?;
    if last > term || after.index + entries.len() as u64 > MAX_NUMBER {
        return Err(DecodeError::Invalid { field: "entry term" });
    }
    Ok(Body::Append { term, after, commit, entries })
}

fn decode_rejected(r: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let (term, index) = (term(r)?, number(r, "index")?);
    // Where the follower has dropped the entry it knows no term for it, so the pair is looser than a position.
    let hint = Position { index: number(r, "hint")?, term: number(r, "hint term")? };
    if hint.index > index || index == 0 {
        return Err(DecodeError::Invalid { field: "hint" });
    }
    Ok(Body::Rejected { term, index, hint, commit: number(r, "commit")? })
}

/// A frame as bytes.
pub fn encode(header: &Header, body: &Body) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(VERSION);
    header.encode(&mut w);
    body.encode(&mut w);
    w.finish()
}

/// A frame from bytes of the network.
pub fn decode(bytes: &[u8]) -> Result<(Header, Body), DecodeError> {
    if bytes.len() > MAX_FRAME_BYTES {
        let (got, max) = (bytes.len() as u64, MAX_FRAME_BYTES as u64);
        return Err(DecodeError::TooLarge { field: "frame", got, max });
    }
    let mut r = Reader::new(bytes);
    if r.u8("version")? != VERSION {
        return Err(DecodeError::Invalid { field: "version" });
    }
    let header = Header::decode(&mut r)?;
    let body = Body::decode(&mut r)?;
    r.finish()?;
    Ok((header, body))
}

/// Whether a leader may say it while its own write is under way: what it says to followers depends on none of its own
/// entries being durable (Ongaro's thesis, 10.2.1).
pub(crate) fn may_precede_write(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgAppend
            | MessageType::MsgHeartbeat
            | MessageType::MsgTimeoutNow
            | MessageType::MsgReadIndexResp
            | MessageType::MsgSnapshot
    )
}

/// What consensus wants said, in our words: several frames for an append that is over [`APPEND_BYTES`], none for what
/// does not cross the network.
pub(crate) fn from_raft(message: Message) -> Vec<Body> {
    let term = message.term;
    let committed = Position { index: message.commit, term: message.commit_term };
    // A refusing voter that has nothing committed says 0 for both.
    let committed = if committed.index == 0 || committed.term == 0 { Position::default() } else { committed };
    let round: Option<[u8; READ_CONTEXT_BYTES]> = message.context.as_ref().try_into().ok();
    let body = match message.get_msg_type() {
        MessageType::MsgAppend => return split_append(message),
        MessageType::MsgAppendResponse if message.reject => Body::Rejected {
            term,
            index: message.index,
            hint: Position { index: message.reject_hint, term: message.log_term },
            commit: message.commit,
        },
        MessageType::MsgAppendResponse => Body::Accepted { term, index: message.index, commit: message.commit },
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => Body::Vote {
            pre: kind == MessageType::MsgRequestPreVote,
            transfer: message.context == TRANSFER,
            term,
            last: Position { index: message.index, term: message.log_term },
            committed,
        },
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => Body::VoteReply {
            pre: kind == MessageType::MsgRequestPreVoteResponse,
            term,
            reject: message.reject,
            committed,
        },
        MessageType::MsgHeartbeat => Body::Heartbeat { term, commit: message.commit, round },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply { term, commit: message.commit, round },
        MessageType::MsgTimeoutNow => Body::TimeoutNow { term },
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            let data = message.entries.first().map(|entry| entry.data.as_ref());
            let Some(round) = data.and_then(|data| data.try_into().ok()) else { return Vec::new() };
            match message.get_msg_type() {
                MessageType::MsgReadIndex => Body::Read { round },
                _ => Body::ReadReply { term, index: message.index, round },
            }
        }
        _ => return Vec::new(),
    };
    vec![body]
}

fn split_append(mut message: Message) -> Vec<Body> {
    let (term, commit) = (message.term, message.commit);
    let mut after = Position { index: message.index, term: message.log_term };
    let mut bodies = Vec::new();
    let (mut part, mut size, mut begin) = (Vec::new(), 0, after);
    for entry in message.take_entries() {
        let weight = LogEntry::weight(&entry);
        if !part.is_empty() && (size + weight > APPEND_BYTES || part.len() == MAX_APPEND_ENTRIES) {
            bodies.push(Body::Append { term, after: begin, commit, entries: std::mem::take(&mut part) });
            (size, begin) = (0, after);
        }
        after = Position { index: entry.index, term: entry.term };
        size += weight;
        part.extend(LogEntry::from_raft(&entry));
    }
    bodies.push(Body::Append { term, after: begin, commit, entries: part });
    bodies
}

/// What came, in consensus' words; `None` for what is ours alone.
pub(crate) fn into_raft(header: &Header, body: Body) -> Option<Message> {
    let mut m = Message { from: header.from.0, to: header.to.0, ..Message::default() };
    match body {
        Body::Append { term, after, commit, entries } => {
            m.set_msg_type(MessageType::MsgAppend);
            (m.term, m.index, m.log_term, m.commit) = (term, after.index, after.term, commit);
            let entries: Vec<Entry> =
                (after.index + 1..).zip(entries).map(|(index, entry)| entry.into_raft(index)).collect();
            m.set_entries(entries.into());
        }
        Body::Accepted { term, index, commit } => {
            m.set_msg_type(MessageType::MsgAppendResponse);
            (m.term, m.index, m.commit) = (term, index, commit);
        }
        Body::Rejected { term, index, hint, commit } => {
            m.set_msg_type(MessageType::MsgAppendResponse);
            m.reject = true;
            (m.term, m.index, m.commit) = (term, index, commit);
            (m.reject_hint, m.log_term) = (hint.index, hint.term);
        }
        Body::Vote { pre, transfer, term, last, committed } => {
            m.set_msg_type(if pre { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote });
            (m.term, m.index, m.log_term) = (term, last.index, last.term);
            (m.commit, m.commit_term) = (committed.index, committed.term);
            if transfer {
                m.context = TRANSFER.to_vec().into();
            }
        }
        Body::VoteReply { pre, term, reject, committed } => {
            let full = MessageType::MsgRequestVoteResponse;
            m.set_msg_type(if pre { MessageType::MsgRequestPreVoteResponse } else { full });
            (m.term, m.reject) = (term, reject);
            (m.commit, m.commit_term) = (committed.index, committed.term);
        }
        Body::Heartbeat { term, commit, round } => {
            m.set_msg_type(MessageType::MsgHeartbeat);
            (m.term, m.commit) = (term, commit);
            m.context = round.map(|round| round.to_vec()).unwrap_or_default().into();
        }
        Body::HeartbeatReply { term, commit, round } => {
            m.set_msg_type(MessageType::MsgHeartbeatResponse);
            (m.term, m.commit) = (term, commit);
            m.context = round.map(|round| round.to_vec()).unwrap_or_default().into();
        }
        Body::TimeoutNow { term } => {
            m.set_msg_type(MessageType::MsgTimeoutNow);
            m.term = term;
        }
        Body::Read { round } => {
            m.set_msg_type(MessageType::MsgReadIndex);
            m.set_entries(vec![round_entry(&round)].into());
        }
        Body::ReadReply { term, index, round } => {
            m.set_msg_type(MessageType::MsgReadIndexResp);
            (m.term, m.index) = (term, index);
            m.set_entries(vec![round_entry(&round)].into());
        }
        Body::Offer { .. } | Body::Want { .. } | Body::Chunk { .. } | Body::Unfit { .. } | Body::Gone => return None,
    }
    Some(m)
}

fn round_entry(round: &[u8; READ_CONTEXT_BYTES]) -> Entry {
    Entry { data: round.to_vec().into(), ..Entry::default() }
}
