//! Locks and elections: who holds what under which token, and who waits.
//!
//! Both are one thing: a resource that sessions ask for, alone or shared, in the order in which they asked. An election is one
//! that is always held alone, whose holder says something of itself.
//!
//! - **Fair.** Grants go to the head of the queue only. Shared requests at the head are granted together, up to the first
//!   exclusive one; a shared request behind a waiting exclusive one waits too.
//! - **One entry, one grant.** The entry that frees a resource grants it, re-checking session and queue in the same step; the
//!   token is that entry's index, see [`FencingToken`].
//! - **Lock-delay.** When a session expires that held the resource, nobody whose hold would have conflicted gets it until the
//!   leader has counted the delay that the holder asked for. After a clean release there is none. The idea is Chubby's (Burrows,
//!   OSDI 2006, section 2.4).
//! - A request is known by `(session, seq)`: it is cancelled, timed out and answered under that name. A release names its
//!   token, so that a late one never releases a newer grant.
//!
//! A session may ask for one resource several times; it then waits for itself, as two tabs of one browser would.

mod codec;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::command::Body;
use super::duty::{Duty, DutyChange, DutyKey};
use super::error::{Argument, Bounded, CoordError};
use super::path::NodePath;
use super::reply::{Answer, Change, Output, Reply, Settled};
use super::session::SessionId;
use super::token::FencingToken;

/// Longest text of a candidate about itself, in bytes.
pub const MAX_VALUE_BYTES: usize = 4_096;

/// Most waiters of one resource.
pub const MAX_WAITERS: usize = 4_096;

/// Most locks and candidacies that one session holds or waits for.
pub const MAX_HOLDINGS: usize = 4_096;

/// Longest delay after an expiry in milliseconds.
pub const MAX_DELAY_MS: u64 = 60_000;

/// What kind of resource. The two have names of their own: a lock and an election at one path know nothing of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A lock.
    Lock,
    /// An election.
    Election,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Alone.
    Exclusive,
    /// With others who share it.
    Shared,
}

/// What a request does that cannot be granted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It fails: [`CoordError::NotAvailable`].
    Try,
    /// It waits its turn.
    Forever,
    /// It waits so many milliseconds of the leader's time, or longer when leaders change.
    Deadline(u64),
}

/// A resource's name.
pub(crate) type Name = (Kind, NodePath);

/// A grant that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who holds it.
    pub session: SessionId,
    /// By which request.
    pub seq: u64,
    /// How.
    pub share: Share,
    /// Under which token.
    pub token: FencingToken,
    /// What a leader says of itself.
    pub value: Arc<[u8]>,
    /// How long nobody gets it after its session expired.
    pub delay_ms: u64,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who waits.
    pub session: SessionId,
    /// By which request.
    pub seq: u64,
    /// For what.
    pub share: Share,
    /// How long, at most.
    pub deadline_ms: Option<u64>,
    /// What it will say of itself.
    pub value: Arc<[u8]>,
    /// Its delay once it holds.
    pub delay_ms: u64,
}

/// A time in which an expired holder may still act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The entry at which it began.
    pub since: u64,
    /// Its length.
    pub ms: u64,
    /// How it was held: a delay after a shared hold keeps out only who wants to be alone.
    pub share: Share,
}

/// A lock or an election that somebody holds, waits for, or lately held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub(crate) holders: Vec<Holder>,
    pub(crate) waiters: VecDeque<Waiter>,
    pub(crate) delay: Option<Delay>,
}

impl Resource {
    /// Who holds it, in the order in which they got it: one, or several who share it.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Who waits, next first.
    pub fn waiters(&self) -> impl ExactSizeIterator<Item = &Waiter> {
        self.waiters.iter()
    }

    /// The delay that runs.
    pub fn delay(&self) -> Option<Delay> {
        self.delay
    }

    fn is_free(&self, share: Share) -> bool {
        let delayed = self.delay.is_some_and(|delay| delay.share == Share::Exclusive || share == Share::Exclusive);
        let alone = share == Share::Exclusive || self.holders.iter().any(|holder| holder.share == Share::Exclusive);
        !delayed && (self.holders.is_empty() || !alone)
    }

    fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty() && self.delay.is_none()
    }
}

/// A request for a resource.
pub(crate) struct Ask {
    pub(crate) name: Name,
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    pub(crate) share: Share,
    pub(crate) wait: Wait,
    pub(crate) delay_ms: u64,
    pub(crate) value: Arc<[u8]>,
}

/// All locks and elections.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Claims {
    resources: BTreeMap<Name, Resource>,
    /// What each session holds or waits for, by the request that asked.
    sessions: BTreeMap<SessionId, BTreeMap<u64, Name>>,
}

impl Claims {
    /// A lock or an election; `None` if nobody holds it, waits for it or lately lost it.
    pub fn find(&self, kind: Kind, path: &NodePath) -> Option<&Resource> {
        self.resources.get(&(kind, path.clone()))
    }

    /// All that there are of a kind at or under a path, in the order of their paths.
    pub fn under<'a>(&'a self, kind: Kind, prefix: &'a NodePath) -> impl Iterator<Item = (&'a NodePath, &'a Resource)> {
        let all = self.resources.range((kind, prefix.clone())..).take_while(move |((k, path), _)| {
            *k == kind && (prefix.is_root() || path.as_str().starts_with(prefix.as_str()))
        });
        all.filter(|((_, path), _)| prefix.covers(path)).map(|((_, path), resource)| (path, resource))
    }

    /// Who leads an election.
    pub fn leader(&self, path: &NodePath) -> Option<&Holder> {
        self.find(Kind::Election, path)?.holders.first()
    }

    /// Where a session's request stands: at which resource it holds or waits.
    pub fn request(&self, session: SessionId, seq: u64) -> Option<(Kind, &NodePath)> {
        self.sessions.get(&session)?.get(&seq).map(|(kind, path)| (*kind, path))
    }

    /// Asks for a resource.
    pub(crate) fn acquire(&mut self, ask: Ask, generation: u32, out: &mut Output) -> Reply {
        if ask.delay_ms > MAX_DELAY_MS {
            return Err(Argument::LockDelay.into());
        }
        if ask.value.len() > MAX_VALUE_BYTES {
            return Err(CoordError::TooLarge { what: Bounded::Value, max: MAX_VALUE_BYTES as u64 });
        }
        if FencingToken::new(generation, out.index).is_none() {
            return Err(CoordError::TooLarge { what: Bounded::Tokens, max: super::token::MAX_TOKEN_INDEX });
        }
        if self.sessions.get(&ask.session).is_some_and(|held| held.len() >= MAX_HOLDINGS) {
            return Err(CoordError::TooLarge { what: Bounded::Holdings, max: MAX_HOLDINGS as u64 });
        }
        let idle = Resource::default();
        let resource = self.resources.get(&ask.name).unwrap_or(&idle);
        let at_once = resource.waiters.is_empty() && resource.is_free(ask.share);
        if !at_once && ask.wait == Wait::Try {
            return Err(CoordError::NotAvailable);
        }
        if resource.waiters.len() >= MAX_WAITERS {
            return Err(CoordError::TooLarge { what: Bounded::Waiters, max: MAX_WAITERS as u64 });
        }
        let ahead = (resource.waiters.len() + resource.holders.len()) as u32;
        let Ask { name, session, seq, share, wait, delay_ms, value } = ask;
        let deadline_ms = match wait {
            Wait::Deadline(ms) => Some(ms),
            Wait::Try | Wait::Forever => None,
        };
        let waiter = Waiter { session, seq, share, deadline_ms, value, delay_ms };
        self.sessions.entry(session).or_default().insert(seq, name.clone());
        let resource = self.resources.entry(name.clone()).or_default();
        if !at_once && let Some(duty) = waiter_duty(&name, &waiter) {
            out.duties.push(DutyChange::Start(duty));
        }
        resource.waiters.push_back(waiter);
        self.grant(&name, generation, out);
        // What was granted at once is this request's own answer.
        let own = out.settled.iter().position(|settled| settled.session == session && settled.seq == seq);
        own.map_or(Ok(Answer::Queued { ahead }), |place| out.settled.remove(place).reply)
    }

    /// Gives a grant back.
    pub(crate) fn release(
        &mut self,
        name: &Name,
        session: SessionId,
        token: FencingToken,
        generation: u32,
        out: &mut Output,
    ) -> Reply {
        let seq = self.held(name, session, token)?.seq;
        self.drop_hold(name, session, seq, out);
        self.grant(name, generation, out);
        Ok(Answer::Done)
    }

    /// What a test plants in place of [`Claims::release`]: it takes the resource from whoever has it.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn release_by_name(&mut self, name: &Name, generation: u32, out: &mut Output) -> Reply {
        let holders = self.resources.get(name).map_or(&[][..], |resource| &resource.holders);
        let held: Vec<(SessionId, u64)> = holders.iter().map(|holder| (holder.session, holder.seq)).collect();
        for (session, seq) in held {
            self.drop_hold(name, session, seq, out);
        }
        self.grant(name, generation, out);
        Ok(Answer::Done)
    }

    /// Takes back what a session asked for by an earlier request, granted or not.
    pub(crate) fn cancel(&mut self, session: SessionId, seq: u64, generation: u32, out: &mut Output) -> Reply {
        let name = self.sessions.get(&session).and_then(|asked| asked.get(&seq)).ok_or(CoordError::NotHeld)?.clone();
        if self.drop_waiter(&name, session, seq, out) {
            out.settled.push(Settled { session, seq, reply: Err(CoordError::Cancelled) });
        } else {
            self.drop_hold(&name, session, seq, out);
        }
        self.grant(&name, generation, out);
        Ok(Answer::Done)
    }

    /// Ends a wait whose deadline has come.
    pub(crate) fn time_out(&mut self, name: &Name, session: SessionId, seq: u64, generation: u32, out: &mut Output) {
        let has_deadline = |waiter: &Waiter| waiter.deadline_ms.is_some();
        if self.waiter(name, session, seq).is_some_and(has_deadline) && self.drop_waiter(name, session, seq, out) {
            out.settled.push(Settled { session, seq, reply: Err(CoordError::DeadlinePassed) });
            self.grant(name, generation, out);
        }
    }

    /// Replaces what a leader says of itself.
    pub(crate) fn proclaim(
        &mut self,
        path: &NodePath,
        session: SessionId,
        token: FencingToken,
        value: &Arc<[u8]>,
        out: &mut Output,
    ) -> Reply {
        let name = (Kind::Election, path.clone());
        if value.len() > MAX_VALUE_BYTES {
            return Err(CoordError::TooLarge { what: Bounded::Value, max: MAX_VALUE_BYTES as u64 });
        }
        let seq = self.held(&name, session, token)?.seq;
        let holders = self.resources.get_mut(&name).into_iter().flat_map(|resource| &mut resource.holders);
        holders.filter(|holder| holder.seq == seq && holder.session == session).for_each(|h| h.value = value.clone());
        out.changes.push(Change::Leader { path: path.clone() });
        Ok(Answer::Done)
    }

    /// Ends a delay, if it is the one that was counted.
    pub(crate) fn end_delay(&mut self, name: &Name, since: u64, generation: u32, out: &mut Output) {
        if let Some(resource) = self.resources.get_mut(name)
            && resource.delay.is_some_and(|delay| delay.since == since)
        {
            resource.delay = None;
            out.duties.push(DutyChange::Stop(DutyKey::Delay(name.0, name.1.clone())));
            self.grant(name, generation, out);
        }
    }

    /// Ends all that a session holds and waits for; `expired` unless it closed itself.
    pub(crate) fn end_session(&mut self, session: SessionId, expired: bool, generation: u32, out: &mut Output) {
        let asked = self.sessions.get(&session).cloned().unwrap_or_default();
        for (seq, name) in &asked {
            if self.drop_waiter(name, session, *seq, out) {
                continue;
            }
            let dropped = self.drop_hold(name, session, *seq, out);
            if let Some(holder) = dropped.filter(|holder| expired && holder.delay_ms > 0) {
                self.begin_delay(name, &holder, out);
            }
        }
        // Only now, so that nothing is granted to what is about to go, and each resource is granted once in this entry.
        let mut names: Vec<&Name> = asked.values().collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().for_each(|name| self.grant(name, generation, out));
    }

    /// All that the leader counts here.
    pub(crate) fn duties(&self) -> impl Iterator<Item = Duty> {
        self.resources.iter().flat_map(|(name, resource)| {
            let waiters = resource.waiters.iter().filter_map(|waiter| waiter_duty(name, waiter));
            waiters.chain(resource.delay.map(|delay| delay_duty(name, delay)))
        })
    }

    /// Grants what can be granted, head of the queue first, and forgets the resource if nothing is left of it.
    fn grant(&mut self, name: &Name, generation: u32, out: &mut Output) {
        let Some(resource) = self.resources.get_mut(name) else { return };
        while let Some(waiter) = resource.waiters.front()
            && resource.is_free(waiter.share)
            && let Some(token) = FencingToken::new(generation, out.index)
        {
            let waiter = resource.waiters.pop_front().expect("it was at the front");
            let Waiter { session, seq, share, deadline_ms, value, delay_ms } = waiter;
            if deadline_ms.is_some() {
                out.duties.push(DutyChange::Stop(DutyKey::Waiter(name.0, name.1.clone(), session, seq)));
            }
            resource.holders.push(Holder { session, seq, share, token, value, delay_ms });
            out.settled.push(Settled { session, seq, reply: Ok(Answer::Granted(token)) });
            note_leader(name, out);
        }
        if resource.is_idle() {
            self.resources.remove(name);
        }
    }

    fn begin_delay(&mut self, name: &Name, holder: &Holder, out: &mut Output) {
        let resource = self.resources.entry(name.clone()).or_default();
        let earlier = resource.delay;
        let delay = Delay {
            since: out.index,
            ms: earlier.map_or(0, |delay| delay.ms).max(holder.delay_ms),
            share: earlier.map_or(Share::Shared, |delay| delay.share).min(holder.share),
        };
        resource.delay = Some(delay);
        out.duties.push(DutyChange::Start(delay_duty(name, delay)));
    }

    fn held(&self, name: &Name, session: SessionId, token: FencingToken) -> Result<&Holder, CoordError> {
        let holders = self.resources.get(name).map_or(&[][..], |resource| &resource.holders);
        let mut own = holders.iter().filter(|holder| holder.session == session).peekable();
        let held = own.peek().ok_or(CoordError::NotHeld)?.token;
        own.find(|holder| holder.token == token).ok_or(CoordError::WrongToken { held })
    }

    fn waiter(&self, name: &Name, session: SessionId, seq: u64) -> Option<&Waiter> {
        self.resources.get(name)?.waiters.iter().find(|waiter| waiter.session == session && waiter.seq == seq)
    }

    fn drop_waiter(&mut self, name: &Name, session: SessionId, seq: u64, out: &mut Output) -> bool {
        let Some(resource) = self.resources.get_mut(name) else { return false };
        let Some(place) = resource.waiters.iter().position(|w| w.session == session && w.seq == seq) else {
            return false;
        };
        let waiter = resource.waiters.remove(place).expect("it was found there");
        if waiter.deadline_ms.is_some() {
            out.duties.push(DutyChange::Stop(DutyKey::Waiter(name.0, name.1.clone(), session, seq)));
        }
        self.forget(session, seq);
        true
    }

    fn drop_hold(&mut self, name: &Name, session: SessionId, seq: u64, out: &mut Output) -> Option<Holder> {
        let resource = self.resources.get_mut(name)?;
        let place = resource.holders.iter().position(|h| h.session == session && h.seq == seq)?;
        let holder = resource.holders.remove(place);
        self.forget(session, seq);
        note_leader(name, out);
        Some(holder)
    }

    fn forget(&mut self, session: SessionId, seq: u64) {
        if let Some(asked) = self.sessions.get_mut(&session) {
            asked.remove(&seq);
            if asked.is_empty() {
                self.sessions.remove(&session);
            }
        }
    }
}

fn note_leader(name: &Name, out: &mut Output) {
    let change = Change::Leader { path: name.1.clone() };
    if name.0 == Kind::Election && !out.changes.contains(&change) {
        out.changes.push(change);
    }
}

fn waiter_duty(name: &Name, waiter: &Waiter) -> Option<Duty> {
    let (kind, path) = name.clone();
    let Waiter { session, seq, .. } = *waiter;
    Some(Duty {
        key: DutyKey::Waiter(kind, path.clone(), session, seq),
        period_ms: waiter.deadline_ms?,
        propose: Body::Timeout { kind, path, session, seq },
    })
}

fn delay_duty(name: &Name, delay: Delay) -> Duty {
    let (kind, path) = name.clone();
    Duty {
        key: DutyKey::Delay(kind, path.clone()),
        period_ms: delay.ms,
        propose: Body::EndDelay { kind, path, since: delay.since },
    }
}
