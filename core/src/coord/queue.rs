//! Queues: work that is handed to one session at a time, in order, until it is done.
//!
//! An item is named by the entry that put it in, and that is its place. A claim takes the first that nobody works
//! on; it is that session's until it acknowledges it, gives it back, ends, or the leader has counted the claim's time. An item
//! that comes back takes its old place; one that was claimed as often as it may be is put aside as a dead letter, where it
//! stays until somebody revives or discards it. So an item is worked on at least once, and by two sessions at once only
//! behind the back of a claim that has run out, which its token tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::Body;
use super::duty::{Duty, DutyChange, DutyKey};
use super::error::{Argument, Bounded, CoordError};
use super::op::decode_path;
use super::path::NodePath;
use super::reply::{Answer, Change, Output, Reply};
use super::session::SessionId;
use super::token::{FencingToken, MAX_TOKEN_INDEX};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Longest item in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 18;

/// Most bytes of all items together, dead letters included, each counted with its body and [`ITEM_BYTES`].
pub const MAX_QUEUES_BYTES: usize = 256 << 20;

/// What an item counts for beyond its body.
pub const ITEM_BYTES: usize = 128;

/// Most often that an item can be tried.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// Longest claim in milliseconds: a day.
pub const MAX_VISIBILITY_MS: u64 = 86_400_000;

/// Most items that one session works on.
pub const MAX_CLAIMS: usize = 4_096;

/// An item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    body: Arc<[u8]>,
    attempts: u32,
    max_attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Claimed { session: SessionId, token: FencingToken, visibility_ms: u64 },
    Dead,
}

impl Item {
    /// What was put in.
    pub fn body(&self) -> &Arc<[u8]> {
        &self.body
    }

    /// How often it was claimed since it was put in or revived.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Who works on it, under which token.
    pub fn claimed(&self) -> Option<(SessionId, FencingToken)> {
        match self.state {
            State::Claimed { session, token, .. } => Some((session, token)),
            State::Ready | State::Dead => None,
        }
    }

    /// Whether it was put aside.
    pub fn is_dead(&self) -> bool {
        self.state == State::Dead
    }
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    items: BTreeMap<u64, Item>,
    ready: BTreeSet<u64>,
}

impl Queue {
    /// All items, in order: ready, claimed and dead.
    pub fn items(&self) -> impl ExactSizeIterator<Item = (u64, &Item)> {
        self.items.iter().map(|(number, item)| (*number, item))
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }
}

/// All queues that are not empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Queues {
    queues: BTreeMap<NodePath, Queue>,
    claims: BTreeMap<SessionId, BTreeSet<(NodePath, u64)>>,
    bytes: usize,
}

impl Queues {
    /// A queue; `None` if it is empty.
    pub fn find(&self, path: &NodePath) -> Option<&Queue> {
        self.queues.get(path)
    }

    /// An item's body.
    pub fn body(&self, path: &NodePath, item: u64) -> Option<&Arc<[u8]>> {
        self.queues.get(path)?.items.get(&item).map(Item::body)
    }

    /// What all items count for, at most [`MAX_QUEUES_BYTES`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn enqueue(&mut self, path: NodePath, body: &Arc<[u8]>, max_attempts: u32, out: &mut Output) -> Reply {
        if !(1..=MAX_ATTEMPTS).contains(&max_attempts) {
            return Err(Argument::Attempts.into());
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(CoordError::TooLarge { what: Bounded::Body, max: MAX_BODY_BYTES as u64 });
        }
        let item = Item { body: body.clone(), attempts: 0, max_attempts, state: State::Ready };
        if self.bytes + cost(&item) > MAX_QUEUES_BYTES {
            return Err(CoordError::TooLarge { what: Bounded::Queues, max: MAX_QUEUES_BYTES as u64 });
        }
        out.changes.push(Change::Ready { path: path.clone() });
        self.insert(path, out.index, item);
        Ok(Answer::Enqueued { item: out.index })
    }

    pub(crate) fn claim(
        &mut self,
        path: NodePath,
        session: SessionId,
        visibility_ms: u64,
        generation: u32,
        out: &mut Output,
    ) -> Reply {
        if !(1..=MAX_VISIBILITY_MS).contains(&visibility_ms) {
            return Err(Argument::Visibility.into());
        }
        if self.claims.get(&session).is_some_and(|claims| claims.len() >= MAX_CLAIMS) {
            return Err(CoordError::TooLarge { what: Bounded::Holdings, max: MAX_CLAIMS as u64 });
        }
        let token = FencingToken::new(generation, out.index)
            .ok_or(CoordError::TooLarge { what: Bounded::Tokens, max: MAX_TOKEN_INDEX })?;
        let queue = self.queues.get_mut(&path).ok_or(CoordError::QueueEmpty)?;
        let number = queue.ready.pop_first().ok_or(CoordError::QueueEmpty)?;
        let item = queue.items.get_mut(&number).expect("a ready item is there");
        item.attempts += 1;
        item.state = State::Claimed { session, token, visibility_ms };
        let attempt = item.attempts;
        out.duties.extend(duty(&path, number, item).map(DutyChange::Start));
        self.claims.entry(session).or_default().insert((path, number));
        Ok(Answer::Claimed { item: number, attempt, token })
    }

    pub(crate) fn ack(
        &mut self,
        path: &NodePath,
        number: u64,
        session: SessionId,
        token: FencingToken,
        out: &mut Output,
    ) -> Reply {
        self.check_claim(path, number, session, token)?;
        self.unclaim(path, number, session, out);
        self.remove(path, number);
        Ok(Answer::Done)
    }

    pub(crate) fn nack(
        &mut self,
        path: &NodePath,
        number: u64,
        session: SessionId,
        token: FencingToken,
        out: &mut Output,
    ) -> Reply {
        self.check_claim(path, number, session, token)?;
        self.give_back(path, number, session, out);
        Ok(Answer::Done)
    }

    /// Takes back an item whose claim has lasted its time.
    pub(crate) fn redeliver(&mut self, path: &NodePath, number: u64, claim: u64, out: &mut Output) {
        let item = self.queues.get(path).and_then(|queue| queue.items.get(&number));
        if let Some((session, token)) = item.and_then(Item::claimed)
            && token.index == claim
        {
            self.give_back(path, number, session, out);
        }
    }

    pub(crate) fn revive(&mut self, path: &NodePath, number: u64, out: &mut Output) -> Reply {
        let queue = self.queues.get_mut(path).ok_or(CoordError::NoItem)?;
        let item = queue.items.get_mut(&number).filter(|item| item.is_dead()).ok_or(CoordError::NoItem)?;
        item.attempts = 0;
        item.state = State::Ready;
        queue.ready.insert(number);
        out.changes.push(Change::Ready { path: path.clone() });
        Ok(Answer::Done)
    }

    pub(crate) fn discard(&mut self, path: &NodePath, number: u64) -> Reply {
        let item = self.queues.get(path).and_then(|queue| queue.items.get(&number));
        item.filter(|item| item.is_dead()).ok_or(CoordError::NoItem)?;
        self.remove(path, number);
        Ok(Answer::Done)
    }

    pub(crate) fn end_session(&mut self, session: SessionId, out: &mut Output) {
        for (path, number) in self.claims.get(&session).cloned().unwrap_or_default() {
            self.give_back(&path, number, session, out);
        }
    }

    /// All that the leader counts here.
    pub(crate) fn duties(&self) -> impl Iterator<Item = Duty> {
        let claimed = self.claims.values().flatten();
        claimed.filter_map(|(path, number)| duty(path, *number, self.queues.get(path)?.items.get(number)?))
    }

    fn check_claim(
        &self,
        path: &NodePath,
        number: u64,
        session: SessionId,
        token: FencingToken,
    ) -> Result<(), CoordError> {
        let item = self.queues.get(path).and_then(|queue| queue.items.get(&number)).ok_or(CoordError::NoItem)?;
        match item.claimed() {
            Some((holder, held)) if holder == session && held == token => Ok(()),
            Some((holder, held)) if holder == session => Err(CoordError::WrongToken { held }),
            _ => Err(CoordError::NotHeld),
        }
    }

    /// Ends a claim without its item being done: it is ready again, or dead.
    fn give_back(&mut self, path: &NodePath, number: u64, session: SessionId, out: &mut Output) {
        self.unclaim(path, number, session, out);
        let queue = self.queues.get_mut(path).expect("a claimed item's queue is there");
        let item = queue.items.get_mut(&number).expect("a claimed item is there");
        if item.attempts >= item.max_attempts {
            item.state = State::Dead;
        } else {
            item.state = State::Ready;
            queue.ready.insert(number);
            out.changes.push(Change::Ready { path: path.clone() });
        }
    }

    fn unclaim(&mut self, path: &NodePath, number: u64, session: SessionId, out: &mut Output) {
        out.duties.push(DutyChange::Stop(DutyKey::Item(path.clone(), number)));
        if let Some(claims) = self.claims.get_mut(&session) {
            claims.remove(&(path.clone(), number));
            if claims.is_empty() {
                self.claims.remove(&session);
            }
        }
    }

    fn insert(&mut self, path: NodePath, number: u64, item: Item) {
        self.bytes += cost(&item);
        match item.state {
            State::Claimed { session, .. } => {
                self.claims.entry(session).or_default().insert((path.clone(), number));
            }
            State::Ready => {
                self.queues.entry(path.clone()).or_default().ready.insert(number);
            }
            State::Dead => {}
        }
        self.queues.entry(path).or_default().items.insert(number, item);
    }

    fn remove(&mut self, path: &NodePath, number: u64) {
        if let Some(queue) = self.queues.get_mut(path)
            && let Some(item) = queue.items.remove(&number)
        {
            self.bytes -= cost(&item);
            if queue.items.is_empty() {
                self.queues.remove(path);
            }
        }
    }

    /// Appends all of them, in order.
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.varint(self.queues.len() as u64);
        for (path, queue) in &self.queues {
            w.str(path.as_str()).varint(queue.items.len() as u64);
            for (number, item) in &queue.items {
                item.encode(w.varint(*number));
            }
        }
    }

    /// Reads them.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut queues = Self::default();
        for _ in 0..r.varint("queues")? {
            let path = decode_path(r)?;
            if queues.queues.last_key_value().is_some_and(|(last, _)| *last >= path) {
                return Err(DecodeError::Invalid { field: "order of queues" });
            }
            let mut last = None;
            let items = r.varint("items")?;
            for _ in 0..items {
                let number = r.varint("item")?;
                if last.is_some_and(|last| last >= number) {
                    return Err(DecodeError::Invalid { field: "order of items" });
                }
                last = Some(number);
                let item = Item::decode(r)?;
                queues.insert(path.clone(), number, item);
            }
            if items == 0 {
                return Err(DecodeError::Invalid { field: "items" });
            }
        }
        Ok(queues)
    }

    /// The sessions that work on something.
    pub(crate) fn owners(&self) -> impl Iterator<Item = SessionId> {
        self.claims.keys().copied()
    }
}

fn cost(item: &Item) -> usize {
    item.body.len() + ITEM_BYTES
}

fn duty(path: &NodePath, number: u64, item: &Item) -> Option<Duty> {
    let State::Claimed { token, visibility_ms, .. } = item.state else { return None };
    Some(Duty {
        key: DutyKey::Item(path.clone(), number),
        period_ms: visibility_ms,
        propose: Body::Redeliver { path: path.clone(), item: number, claim: token.index },
    })
}

impl Codec for Item {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.body).varint(self.attempts.into()).varint(self.max_attempts.into());
        match self.state {
            State::Ready => {
                w.u8(0);
            }
            State::Claimed { session, token, visibility_ms } => {
                token.encode(w.u8(1).u64_le(session.0));
                w.varint(visibility_ms);
            }
            State::Dead => {
                w.u8(2);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let item = Self {
            body: r.bytes(MAX_BODY_BYTES, "body")?.into(),
            attempts: r.varint_max(MAX_ATTEMPTS.into(), "attempts")? as u32,
            max_attempts: r.varint_max(MAX_ATTEMPTS.into(), "attempts")? as u32,
            state: match r.u8("state of an item")? {
                0 => State::Ready,
                1 => State::Claimed {
                    session: SessionId::decode(r)?,
                    token: FencingToken::decode(r)?,
                    visibility_ms: r.varint_max(MAX_VISIBILITY_MS, "visibility")?,
                },
                2 => State::Dead,
                _ => return Err(DecodeError::Invalid { field: "state of an item" }),
            },
        };
        let tries_left = item.attempts < item.max_attempts;
        match item.state {
            State::Ready if !tries_left => Err(DecodeError::Invalid { field: "attempts" }),
            State::Claimed { .. } if item.attempts > item.max_attempts => {
                Err(DecodeError::Invalid { field: "attempts" })
            }
            _ => Ok(item),
        }
    }
}
