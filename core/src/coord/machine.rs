//! What a group agrees on: sessions, the tree, locks and elections, queues, moved on by one entry at a time.

use super::claim::{Ask, Claims, Kind, Share};
use super::command::{Body, Command, Entry, Request};
use super::duty::{Duty, DutyChange, DutyKey};
use super::error::CoordError;
use super::op::Op;
use super::path::NodePath;
use super::queue::Queues;
use super::replicated::{Replicated, SnapshotError};
use super::reply::{Answer, Change, Origin, Output, Reply};
use super::session::{Admission, SessionId, Sessions};
use super::snapshot;
use super::tree::{Actor, Tree};
use crate::wire::Codec;

/// The replicated state. Deterministic: no clock, no randomness, no unordered map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The newest entry that was read. It is part of the state.
    pub(crate) applied: u64,
    /// The greatest stamp so far, in milliseconds.
    pub(crate) time: i64,
    /// How often the group was rebuilt.
    pub(crate) generation: u32,
    pub(crate) sessions: Sessions,
    pub(crate) tree: Tree,
    pub(crate) claims: Claims,
    pub(crate) queues: Queues,
    /// A bug that a test plants: whoever releases, releases whatever holds that name.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) releases_by_name: bool,
}

impl Machine {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest entry that changed something: no zxid in the state is greater.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The generation of tokens that are granted now.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The tree, to be read.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The sessions that are open.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Locks and elections.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Queues.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// All that a leader has to count. Costs a walk over sessions, containers, TTL nodes, waiters and claimed items.
    pub fn duties(&self) -> impl Iterator<Item = Duty> {
        let sessions = self.sessions.iter().filter_map(|(id, _)| self.session_duty(id));
        sessions.chain(self.tree.duties()).chain(self.claims.duties()).chain(self.queues.duties())
    }

    fn session_duty(&self, id: SessionId) -> Option<Duty> {
        let session = self.sessions.find(id)?;
        Some(Duty {
            key: DutyKey::Session(id),
            period_ms: session.ttl_ms(),
            propose: Body::Expire { session: id, renewal: session.renewal() },
        })
    }

    fn on_body(&mut self, body: Body, out: &mut Output) {
        match body {
            Body::Open { session, password, ttl_ms, owner } => {
                out.origin = Some(Origin::Open(session));
                out.reply = Some(self.sessions.open(session, password, ttl_ms, owner));
                self.count_session(session, out);
            }
            Body::Attach { session, password, nonce } => {
                out.origin = Some(Origin::Attach(session, nonce));
                out.reply = Some(self.sessions.attach(session, &password));
                self.count_session(session, out);
            }
            Body::Renew { session } => {
                out.reply = Some(self.sessions.renew(session));
                self.count_session(session, out);
            }
            Body::Request(request) => {
                let Request { session, attachment, seq, .. } = request;
                out.origin = Some(Origin::Request { session, attachment, seq });
                out.reply = Some(self.on_request(&request, out));
                self.count_session(session, out);
            }
            Body::Expire { session, renewal } => {
                if self.sessions.find(session).is_some_and(|found| found.renewal() == renewal) {
                    self.end_session(session, true, out);
                }
            }
            Body::Collect { path, mzxid, pzxid } => {
                self.tree.collect(&path, mzxid, pzxid, out.index, &mut out.changes);
            }
            Body::Timeout { kind, path, session, seq } => {
                self.claims.time_out(&(kind, path), session, seq, self.generation, out);
            }
            Body::EndDelay { kind, path, since } => {
                self.claims.end_delay(&(kind, path), since, self.generation, out);
            }
            Body::Redeliver { path, item, claim } => self.queues.redeliver(&path, item, claim, out),
            Body::Generation { generation } => self.generation = self.generation.max(generation),
        }
    }

    fn on_request(&mut self, request: &Request, out: &mut Output) -> Reply {
        let Request { session, attachment, seq, acked_below, .. } = *request;
        match self.sessions.admit(session, attachment, seq, acked_below) {
            Admission::Answer(reply) => reply,
            Admission::Run => {
                let reply = self.on_command(request, out);
                self.sessions.answer(session, seq, &reply, out.index);
                reply
            }
        }
    }

    fn on_command(&mut self, request: &Request, out: &mut Output) -> Reply {
        let (session, generation) = (request.session, self.generation);
        match &request.command {
            Command::Close => {
                self.end_session(session, false, out);
                Ok(Answer::Closed)
            }
            Command::Op(op) => match self.run(request, std::slice::from_ref(op), out) {
                Ok(Answer::Multi(mut answers)) => Ok(Answer::Op(answers.remove(0))),
                Ok(other) => Ok(other),
                Err((_, error)) => Err(error),
            },
            Command::Multi(ops) => self
                .run(request, ops, out)
                .map_err(|(at, error)| CoordError::Multi { at: at as u32, error: Box::new(error) }),
            Command::Acquire { kind, path, share, wait, delay_ms, value } => {
                let share = if *kind == Kind::Election { Share::Exclusive } else { *share };
                let value = if *kind == Kind::Election { value.clone() } else { Default::default() };
                let name = (*kind, NodePath::parse(path)?);
                let ask = Ask { name, session, seq: request.seq, share, wait: *wait, delay_ms: *delay_ms, value };
                self.claims.acquire(ask, generation, out)
            }
            #[cfg(any(test, feature = "sim"))]
            Command::Release { kind, path, .. } if self.releases_by_name => {
                self.claims.release_by_name(&(*kind, NodePath::parse(path)?), generation, out)
            }
            Command::Release { kind, path, token } => {
                self.claims.release(&(*kind, NodePath::parse(path)?), session, *token, generation, out)
            }
            Command::Cancel { seq } => self.claims.cancel(session, *seq, generation, out),
            Command::Proclaim { path, token, value } => {
                self.claims.proclaim(&NodePath::parse(path)?, session, *token, value, out)
            }
            Command::Enqueue { path, body, max_attempts } => {
                self.queues.enqueue(NodePath::parse(path)?, body, *max_attempts, out)
            }
            Command::Claim { path, visibility_ms } => {
                self.queues.claim(NodePath::parse(path)?, session, *visibility_ms, generation, out)
            }
            Command::Ack { path, item, token } => self.queues.ack(&NodePath::parse(path)?, *item, session, *token, out),
            Command::Nack { path, item, token } => {
                self.queues.nack(&NodePath::parse(path)?, *item, session, *token, out)
            }
            Command::Revive { path, item } => self.queues.revive(&NodePath::parse(path)?, *item, out),
            Command::Discard { path, item } => self.queues.discard(&NodePath::parse(path)?, *item),
        }
    }

    fn run(&mut self, request: &Request, ops: &[Op], out: &mut Output) -> Result<Answer, (usize, CoordError)> {
        let actor =
            Actor { zxid: out.index, time: self.time, session: request.session, identities: &request.identities };
        self.tree.run(ops, actor, &mut out.changes).map(Answer::Multi)
    }

    fn end_session(&mut self, session: SessionId, expired: bool, out: &mut Output) {
        if !self.sessions.end(session) {
            return;
        }
        self.tree.end_session(session, out.index, &mut out.changes);
        self.claims.end_session(session, expired, self.generation, out);
        self.queues.end_session(session, out);
        out.ended.push(session);
        out.duties.push(DutyChange::Stop(DutyKey::Session(session)));
    }

    /// A session's time begins anew with each entry that renewed it.
    fn count_session(&self, session: SessionId, out: &mut Output) {
        out.duties.extend(self.session_duty(session).map(DutyChange::Start));
    }

    /// What has to be counted because of nodes that this entry touched.
    fn count_nodes(&self, out: &mut Output) {
        for change in &out.changes {
            let (Change::Created { path, .. } | Change::Set { path, .. } | Change::Deleted { path, .. }) = change
            else {
                continue;
            };
            for path in [Some(path.clone()), path.parent()].into_iter().flatten() {
                let gone = matches!(change, Change::Deleted { .. }) && self.tree.node(path.as_str()).is_err();
                match self.tree.duty(&path) {
                    Some(duty) => out.duties.push(DutyChange::Start(duty)),
                    None if gone || self.tree.is_timed(&path) => {
                        out.duties.push(DutyChange::Stop(DutyKey::Node(path)));
                    }
                    None => {}
                }
            }
        }
    }
}

impl Replicated for Machine {
    type Output = Output;

    /// An entry at or below the newest one that was applied changes nothing, and neither does one that cannot be read.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Output {
        let mut out = Output { index, ..Output::default() };
        if index <= self.applied {
            return out;
        }
        let Ok(Entry { stamp, body }) = Entry::from_bytes(entry) else {
            return out;
        };
        self.applied = index;
        self.time = self.time.max(stamp.0);
        self.on_body(body, &mut out);
        for settled in &out.settled {
            self.sessions.answer(settled.session, settled.seq, &settled.reply, index);
        }
        self.count_nodes(&mut out);
        out
    }

    fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(self)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let restored = snapshot::decode(bytes)?;
        #[cfg(any(test, feature = "sim"))]
        let restored = Self { releases_by_name: self.releases_by_name, ..restored };
        *self = restored;
        Ok(())
    }

    /// Costs a whole snapshot and its hash.
    fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.snapshot()).as_bytes()
    }
}
