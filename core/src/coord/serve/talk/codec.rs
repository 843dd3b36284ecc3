//! The bytes of what is said.

use super::*;

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
