//! What the leader counts: periods after which it proposes an entry.
//!
//! The machine has no clock. It says what has to be counted ([`Duty`]) as data, in each [`Output`]; the leader keeps
//! [`Duties`], tells them how much of its own time has gone by, and proposes what is due. A new leader starts with
//! [`Duties::of`]: everything gets its full period again, so a period is a lower bound. Whatever was proposed is judged anew
//! when it is applied, so a proposal that comes late, twice, or from a leader that is none any more, harms nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Machine;
use super::claim::Kind;
use super::command::Body;
use super::path::NodePath;
use super::reply::Output;
use super::session::SessionId;

/// How long after a proposal it is made again, if nothing came of it, in milliseconds: several elections long.
pub const PROPOSE_AGAIN_MS: u64 = 5_000;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DutyKey {
    /// A session's time to live.
    Session(SessionId),
    /// A container without children, or a TTL node.
    Node(NodePath),
    /// A waiter's deadline.
    Waiter(Kind, NodePath, SessionId, u64),
    /// A delay after an expiry.
    Delay(Kind, NodePath),
    /// A claim on a queue's item.
    Item(NodePath, u64),
}

/// Something to count, and what to propose when the time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// What.
    pub key: DutyKey,
    /// How long, in milliseconds.
    pub period_ms: u64,
    /// What then. It names what it is about exactly enough to have no effect if that has changed.
    pub propose: Body,
}

/// How what is counted changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyChange {
    /// Count this. If it is counted already for the same proposal, go on.
    Start(Duty),
    /// Count this no longer.
    Stop(DutyKey),
}

/// What came of a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The session's time begins anew.
    Renewed,
    /// Its expiry is proposed: only an entry can save it now, so this sign of life must not be acknowledged.
    Expiring,
    /// There is no such session.
    Unknown,
}

struct Timer {
    duty: Duty,
    due: u64,
    proposed: bool,
}

/// A leader's timers. Discard them when leadership ends.
pub struct Duties {
    /// Milliseconds of leadership.
    now: u64,
    timers: BTreeMap<DutyKey, Timer>,
    queue: BTreeSet<(u64, DutyKey)>,
    /// Begun since time was last let pass. How much of the next stretch went by before they began is not known, so none of
    /// it counts: a leader that stood still for a while must not charge that to a sign of life which it took afterwards.
    fresh: BTreeSet<DutyKey>,
}

impl Duties {
    /// A new leader's: everything that `machine` has, each with its full period. `machine` has applied every entry that was
    /// committed before this leader's term, or outputs of the missing ones are handed to [`Duties::observe`] later.
    pub fn of(machine: &Machine) -> Self {
        let mut duties = Self { now: 0, timers: BTreeMap::new(), queue: BTreeSet::new(), fresh: BTreeSet::new() };
        machine.duties().for_each(|duty| duties.start(duty));
        duties
    }

    /// Takes in what an entry changed.
    pub fn observe(&mut self, output: &Output) {
        for change in &output.duties {
            match change {
                DutyChange::Start(duty) => self.start(duty.clone()),
                DutyChange::Stop(key) => self.stop(key),
            }
        }
    }

    /// A sign of life of a session that is not an entry of the log.
    pub fn touch(&mut self, session: SessionId) -> Touch {
        let key = DutyKey::Session(session);
        match self.timers.get(&key) {
            None => Touch::Unknown,
            Some(timer) if timer.proposed => Touch::Expiring,
            Some(timer) => {
                let duty = timer.duty.clone();
                self.stop(&key);
                self.start(duty);
                Touch::Renewed
            }
        }
    }

    /// Lets time pass, and says what to propose. What began since the last time is counted from now on.
    pub fn advance(&mut self, by_ms: u64) -> Vec<Body> {
        self.now = self.now.saturating_add(by_ms);
        for key in std::mem::take(&mut self.fresh) {
            let timer = self.timers.get_mut(&key).expect("a fresh key has a timer");
            self.queue.remove(&(timer.due, key.clone()));
            timer.due = timer.due.saturating_add(by_ms);
            self.queue.insert((timer.due, key));
        }
        let mut due = Vec::new();
        while let Some((at, key)) = self.queue.pop_first() {
            if at > self.now {
                self.queue.insert((at, key));
                break;
            }
            let timer = self.timers.get_mut(&key).expect("a queued key has a timer");
            due.push(timer.duty.propose.clone());
            timer.proposed = true;
            timer.due = self.now.saturating_add(PROPOSE_AGAIN_MS);
            self.queue.insert((timer.due, key));
        }
        due
    }

    /// Milliseconds until the next is due; `None` if nothing is counted.
    pub fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|(due, _)| due.saturating_sub(self.now))
    }

    /// How many are counted.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn start(&mut self, duty: Duty) {
        if self.timers.get(&duty.key).is_some_and(|timer| timer.duty == duty) {
            return;
        }
        self.stop(&duty.key);
        let due = self.now.saturating_add(duty.period_ms);
        self.queue.insert((due, duty.key.clone()));
        self.fresh.insert(duty.key.clone());
        self.timers.insert(duty.key.clone(), Timer { duty, due, proposed: false });
    }

    fn stop(&mut self, key: &DutyKey) {
        if let Some(timer) = self.timers.remove(key) {
            self.queue.remove(&(timer.due, key.clone()));
            self.fresh.remove(key);
        }
    }
}
