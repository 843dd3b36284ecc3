//! Bytes of locks and elections.

use super::{Claims, Delay, Holder, Kind, MAX_DELAY_MS, MAX_VALUE_BYTES, MAX_WAITERS, Resource, Share, Wait, Waiter};
use crate::coord::op::decode_path;
use crate::coord::session::SessionId;
use crate::coord::token::FencingToken;
use crate::wire::{Codec, DecodeError, Reader, Writer};

impl Codec for Kind {
    fn encode(&self, w: &mut Writer) {
        w.u8(match self {
            Kind::Lock => 0,
            Kind::Election => 1,
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("kind")? {
            0 => Ok(Kind::Lock),
            1 => Ok(Kind::Election),
            _ => Err(DecodeError::Invalid { field: "kind" }),
        }
    }
}

impl Codec for Share {
    fn encode(&self, w: &mut Writer) {
        w.u8(match self {
            Share::Exclusive => 0,
            Share::Shared => 1,
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("share")? {
            0 => Ok(Share::Exclusive),
            1 => Ok(Share::Shared),
            _ => Err(DecodeError::Invalid { field: "share" }),
        }
    }
}

impl Codec for Wait {
    fn encode(&self, w: &mut Writer) {
        match self {
            Wait::Try => w.u8(0),
            Wait::Forever => w.u8(1),
            Wait::Deadline(ms) => w.u8(2).varint(*ms),
        };
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("wait")? {
            0 => Wait::Try,
            1 => Wait::Forever,
            2 => Wait::Deadline(r.varint("deadline")?),
            _ => return Err(DecodeError::Invalid { field: "wait" }),
        })
    }
}

impl Codec for Holder {
    fn encode(&self, w: &mut Writer) {
        self.share.encode(w.u64_le(self.session.0).varint(self.seq));
        self.token.encode(w);
        w.bytes(&self.value).varint(self.delay_ms);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: SessionId::decode(r)?,
            seq: r.varint("seq")?,
            share: Share::decode(r)?,
            token: FencingToken::decode(r)?,
            value: r.bytes(MAX_VALUE_BYTES, "value")?.into(),
            delay_ms: r.varint_max(MAX_DELAY_MS, "delay")?,
        })
    }
}

impl Codec for Waiter {
    fn encode(&self, w: &mut Writer) {
        self.share.encode(w.u64_le(self.session.0).varint(self.seq));
        w.option(self.deadline_ms.as_ref(), |w, ms| {
            w.varint(*ms);
        });
        w.bytes(&self.value).varint(self.delay_ms);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: SessionId::decode(r)?,
            seq: r.varint("seq")?,
            share: Share::decode(r)?,
            deadline_ms: r.option("deadline", |r| r.varint("deadline"))?,
            value: r.bytes(MAX_VALUE_BYTES, "value")?.into(),
            delay_ms: r.varint_max(MAX_DELAY_MS, "delay")?,
        })
    }
}

impl Codec for Delay {
    fn encode(&self, w: &mut Writer) {
        self.share.encode(w.varint(self.since).varint(self.ms));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { since: r.varint("delay")?, ms: r.varint_max(MAX_DELAY_MS, "delay")?, share: Share::decode(r)? })
    }
}

impl Claims {
    /// Appends all of them, in order.
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.varint(self.resources.len() as u64);
        for ((kind, path), resource) in &self.resources {
            kind.encode(w);
            w.str(path.as_str()).list(&resource.holders, |w, holder| holder.encode(w));
            w.varint(resource.waiters.len() as u64);
            resource.waiters.iter().for_each(|waiter| waiter.encode(w));
            w.option(resource.delay.as_ref(), |w, delay| delay.encode(w));
        }
    }

    /// Reads them, and refuses what cannot have come about. Sessions are the caller's to check: [`Claims::owners`].
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut claims = Self::default();
        for _ in 0..r.varint("resources")? {
            let name = (Kind::decode(r)?, decode_path(r)?);
            let resource = Resource {
                holders: r.list(usize::MAX, "holders", Holder::decode)?,
                waiters: r.list(MAX_WAITERS, "waiters", Waiter::decode)?.into(),
                delay: r.option("delay", Delay::decode)?,
            };
            let in_order = claims.resources.last_key_value().is_none_or(|(last, _)| *last < name);
            let alone = resource.holders.iter().any(|holder| holder.share == Share::Exclusive);
            if !in_order || resource.is_idle() || (alone && resource.holders.len() > 1) {
                return Err(DecodeError::Invalid { field: "resource" });
            }
            let holders = resource.holders.iter().map(|holder| (holder.session, holder.seq));
            for (session, seq) in holders.chain(resource.waiters.iter().map(|waiter| (waiter.session, waiter.seq))) {
                if claims.sessions.entry(session).or_default().insert(seq, name.clone()).is_some() {
                    return Err(DecodeError::Invalid { field: "request of a resource" });
                }
            }
            claims.resources.insert(name, resource);
        }
        Ok(claims)
    }

    /// The sessions that hold or wait for something.
    pub(crate) fn owners(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }
}
