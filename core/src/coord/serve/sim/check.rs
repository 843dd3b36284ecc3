//! What has to hold, for clients and between them.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::linear::{self, Effect, Operation, Value, Verdict};
use super::program::APPENDED;
use crate::coord::claim::{Kind, Share};
use crate::coord::machine::Machine;
use crate::coord::raft::Group;
use crate::coord::raft::sim::Violation as Consensus;
use crate::coord::raft::sim::check::Ledger;
use crate::coord::replicated::{Replicated, SnapshotError};
use crate::coord::serve::client::Client;
use crate::coord::serve::voter::Rejected;
use crate::coord::session::SessionId;
use crate::coord::token::FencingToken;
use crate::wire::DecodeError;

/// The least part of its time, on its client's clock, that a session lives after a sign of life was sent: in thousandths,
/// for the slowest client and the fastest leader of [`super::world::CLOCKS_PPM`].
const LEAST_LIFE: u64 = 739;

/// Entries after which a snapshot is read back.
const READ_BACK_ENTRIES: u64 = 50;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// One of consensus.
    #[error(transparent)]
    Consensus(#[from] Consensus),
    /// A session ended too early.
    #[error("the session of client {client} ended {lived} ms after its last acknowledged sign of life, of {ttl} ms")]
    EndedEarly {
        /// Whose.
        client: usize,
        /// On its clock.
        lived: u64,
        /// What it has.
        ttl: u64,
    },
    /// A client gave its session up for lost, and it is alive.
    #[error("client {client} was told that its session is over, and it is not")]
    LostAlive {
        /// Whose.
        client: usize,
    },
    /// Two clients believe at one instant that they hold what only one may hold.
    #[error("clients {first} and {second} both hold {kind:?} {path}")]
    TwoHolders {
        /// One.
        first: usize,
        /// The other.
        second: usize,
        /// Of what kind.
        kind: Kind,
        /// What.
        path: String,
    },
    /// A token is not greater than an earlier one.
    #[error("client {client} was granted {path} under {token:?} after {earlier:?}")]
    TokenNotGreater {
        /// Who.
        client: usize,
        /// What.
        path: String,
        /// Under what.
        token: FencingToken,
        /// What came before.
        earlier: FencingToken,
    },
    /// A holder's write was refused.
    #[error("client {client} holds {path} under {token:?}, which {newest:?} has overtaken")]
    HolderFenced {
        /// Who.
        client: usize,
        /// What.
        path: String,
        /// Its token.
        token: FencingToken,
        /// The one that was written.
        newest: FencingToken,
    },
    /// A holder wrote to what the lock guards, and it is not there.
    #[error("what client {client} wrote under {path} is gone")]
    GuardedLost {
        /// Who.
        client: usize,
        /// Under which lock.
        path: String,
    },
    /// No order of a register's operations explains what clients were told.
    #[error("the history of register {register} is not linearizable:\n{history}")]
    NotLinearizable {
        /// Which.
        register: usize,
        /// All of it.
        history: String,
    },
    /// A client read what is older than what it had seen or written.
    #[error("client {client} read register {register} as of entry {read}, having seen {floor}")]
    WentBack {
        /// Who.
        client: usize,
        /// What.
        register: usize,
        /// What it read.
        read: u64,
        /// What it had seen.
        floor: u64,
    },
    /// A client read new data before the event.
    #[error("client {client} read entry {read} of register {register} before the event; the last was of {event}")]
    EventLate {
        /// Who.
        client: usize,
        /// What it watches.
        register: usize,
        /// What it read.
        read: u64,
        /// The last event that it was told.
        event: u64,
    },
    /// A client missed an event, or got one twice.
    #[error("client {client} was told {told} events of {changes} changes")]
    EventsDiffer {
        /// Who.
        client: usize,
        /// Events.
        told: i64,
        /// Changes.
        changes: i64,
    },
    /// Events came out of order.
    #[error("client {client} was told of entry {event} after {last}")]
    EventsDisordered {
        /// Who.
        client: usize,
        /// An event.
        event: u64,
        /// The one before it.
        last: u64,
    },
    /// A request had no effect, or two, or one that it was not to have.
    #[error("{what} {number} took effect {times} times: {fate:?}")]
    NotOnce {
        /// Which kind of request.
        what: &'static str,
        /// Which.
        number: u64,
        /// How often.
        times: u64,
        /// What its client was told.
        fate: Fate,
    },
    /// An answer that no request of this kind has.
    #[error("client {client} was answered {answer}")]
    Strange {
        /// Who.
        client: usize,
        /// What.
        answer: String,
    },
    /// A frame of an honest voter that a client cannot read.
    #[error("client {client} cannot read a frame: {why}")]
    Malformed {
        /// Who.
        client: usize,
        /// Why.
        why: DecodeError,
    },
    /// A frame of an honest client or voter that a voter does not take.
    #[error("voter {voter} does not take a frame: {why}")]
    Rejected {
        /// Who.
        voter: usize,
        /// Why.
        why: Rejected,
    },
    /// A state whose snapshot is not taken back, so that no newcomer could ever have it.
    #[error("the snapshot of entry {index} is not taken back: {why}")]
    Unreadable {
        /// Of which state.
        index: u64,
        /// Why.
        why: SnapshotError,
    },
    /// A panic.
    #[error("panicked: {what}")]
    Panicked {
        /// Its words.
        what: String,
    },
    /// After all was healed, not everything came together.
    #[error("not healed in time: {what}")]
    NotHealed {
        /// What is missing.
        what: String,
    },
}

/// What a client was told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// That it was done.
    Done,
    /// That it was not done.
    Refused,
    /// Nothing.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    ttl_ms: u64,
    id: Option<SessionId>,
    /// The least entry at which a replica had it.
    opened: Option<u64>,
    ended: bool,
    /// Its client closes it.
    closing: bool,
    /// Its client's time when the newest acknowledged sign of life was sent.
    alive: u64,
}

/// What is locked.
pub type Name = (Kind, &'static str);

#[derive(Clone, Copy, Debug)]
pub(in crate::coord::serve) struct Hold {
    pub(in crate::coord::serve) token: FencingToken,
    pub(in crate::coord::serve) share: Share,
}

#[derive(Debug, Default)]
struct Guarded {
    holds: BTreeMap<usize, Hold>,
    newest: Option<FencingToken>,
    newest_exclusive: Option<FencingToken>,
    /// A register that refuses older tokens.
    fence: Option<FencingToken>,
    /// A set without any guard but the lock, and what its writers were told.
    set: BTreeSet<u64>,
    written: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Record {
    client: usize,
    operation: Operation,
    counts: bool,
}

/// What clients were told.
#[derive(Default)]
pub struct Checks {
    pub(in crate::coord::serve) ledger: Ledger,
    sessions: Vec<Session>,
    guarded: BTreeMap<Name, Guarded>,
    histories: BTreeMap<usize, Vec<Record>>,
    appended: BTreeMap<u64, Fate>,
    enqueued: BTreeMap<u64, u64>,
    acked: BTreeSet<u64>,
    maybe_acked: BTreeSet<u64>,
    read_back: u64,
}

impl Checks {
    pub(in crate::coord::serve) fn admit(&mut self, ttl_ms: u64) {
        self.sessions.push(Session { ttl_ms, ..Session::default() });
    }

    pub(in crate::coord::serve) fn renew(&mut self, c: usize, ttl_ms: u64) {
        self.sessions[c] = Session { ttl_ms, ..Session::default() };
        for guarded in self.guarded.values_mut() {
            guarded.holds.remove(&c);
        }
    }

    /// A client closes its session: as a test has it do.
    #[cfg(test)]
    pub(in crate::coord::serve) fn close(&mut self, c: usize) {
        self.sessions[c].closing = true;
    }

    pub(in crate::coord::serve) fn on_rejected(
        &self,
        voter: usize,
        why: Option<Rejected>,
        from_voter: bool,
    ) -> Result<(), Violation> {
        match why {
            Some(why @ Rejected::Malformed(_)) => Err(Violation::Rejected { voter, why }),
            // Whoever was removed may not know it yet.
            Some(why @ Rejected::Misplaced) if !from_voter => Err(Violation::Rejected { voter, why }),
            _ => Ok(()),
        }
    }

    pub(in crate::coord::serve) fn note_lease(&mut self, c: usize, now: u64, client: &Client) {
        let session = &mut self.sessions[c];
        session.id = client.session();
        if let Some(until) = client.lease_until() {
            session.alive = (until - session.ttl_ms * 2 / 3).min(now);
        }
    }

    /// Whether another replica could begin with this one's state.
    pub(in crate::coord::serve) fn read_back(&mut self, group: &Group<Machine>) -> Result<(), Violation> {
        let index = group.applied().index;
        if index >= self.read_back + READ_BACK_ENTRIES {
            self.read_back = index;
            let restored = Machine::new().restore(&group.machine().snapshot());
            restored.map_err(|why| Violation::Unreadable { index, why })?;
        }
        Ok(())
    }

    /// Clients whose session is gone in this replica and was not before.
    pub(in crate::coord::serve) fn look_at(&mut self, group: &Group<Machine>) -> Vec<usize> {
        let at = group.applied().index;
        let mut ended = Vec::new();
        for (c, session) in self.sessions.iter_mut().enumerate().filter(|(_, session)| !session.ended) {
            let Some(id) = session.id else { continue };
            if group.machine().sessions().find(id).is_some() {
                session.opened = Some(session.opened.map_or(at, |opened| opened.min(at)));
            } else if session.opened.is_some_and(|opened| opened <= at) {
                session.ended = true;
                ended.push(c);
            }
        }
        ended
    }

    pub(in crate::coord::serve) fn on_expired(
        &mut self,
        client: usize,
        now: u64,
        state: &Client,
    ) -> Result<(), Violation> {
        let session = &self.sessions[client];
        let lived = now.saturating_sub(session.alive);
        let acts = state.lease_until().is_some_and(|until| now < until);
        if !session.closing && (acts || lived < session.ttl_ms * LEAST_LIFE / 1_000) {
            return Err(Violation::EndedEarly { client, lived, ttl: session.ttl_ms });
        }
        Ok(())
    }

    /// A client begins to act under a grant.
    pub(in crate::coord::serve) fn begin_hold(
        &mut self,
        client: usize,
        name: Name,
        hold: Hold,
    ) -> Result<(), Violation> {
        let guarded = self.guarded.entry(name).or_default();
        let earlier = match hold.share {
            Share::Exclusive => guarded.newest.filter(|newest| *newest >= hold.token),
            Share::Shared => guarded.newest_exclusive.filter(|newest| *newest >= hold.token),
        };
        if let Some(earlier) = earlier {
            return Err(Violation::TokenNotGreater { client, path: name.1.to_owned(), token: hold.token, earlier });
        }
        guarded.newest = guarded.newest.max(Some(hold.token));
        if hold.share == Share::Exclusive {
            guarded.newest_exclusive = Some(hold.token);
        }
        guarded.holds.insert(client, hold);
        Ok(())
    }

    pub(in crate::coord::serve) fn end_hold(&mut self, client: usize, name: Name) {
        self.guarded.entry(name).or_default().holds.remove(&client);
    }

    /// What a client acts under, and those who act under the same name, in pairs of which one is alone.
    pub(in crate::coord::serve) fn rivals(&self, client: usize) -> Vec<(Name, usize)> {
        let mut rivals = Vec::new();
        for (name, guarded) in &self.guarded {
            let Some(own) = guarded.holds.get(&client) else { continue };
            let others = guarded.holds.iter().filter(|(other, hold)| {
                **other != client && (own.share == Share::Exclusive || hold.share == Share::Exclusive)
            });
            rivals.extend(others.map(|(other, _)| (*name, *other)));
        }
        rivals
    }

    /// The set that a lock guards.
    pub(in crate::coord::serve) fn guarded_set(&self, name: Name) -> BTreeSet<u64> {
        self.guarded.get(&name).map(|guarded| guarded.set.clone()).unwrap_or_default()
    }

    /// A holder writes the set back that it read, with something added, and to the fenced register.
    pub(in crate::coord::serve) fn write_guarded(
        &mut self,
        client: usize,
        name: Name,
        token: FencingToken,
        mut set: BTreeSet<u64>,
        added: u64,
    ) -> Result<(), Violation> {
        let guarded = self.guarded.entry(name).or_default();
        if let Some(newest) = guarded.fence.filter(|newest| *newest > token) {
            return Err(Violation::HolderFenced { client, path: name.1.to_owned(), token, newest });
        }
        guarded.fence = Some(token);
        set.insert(added);
        guarded.set = set;
        guarded.written.push((client, added));
        Ok(())
    }

    /// Somebody writes to the fenced register under a token that it should not use any more. Whether it is refused.
    pub(in crate::coord::serve) fn write_stale(&self, name: Name, token: FencingToken) -> bool {
        self.guarded.get(&name).and_then(|guarded| guarded.fence).is_some_and(|newest| newest > token)
    }

    /// An operation on a register is called. The answer names it.
    pub(in crate::coord::serve) fn call(&mut self, client: usize, register: usize, now: u64, effect: Effect) -> usize {
        let history = self.histories.entry(register).or_default();
        let operation = Operation { called: now, answered: None, effect };
        history.push(Record { client, operation, counts: true });
        history.len() - 1
    }

    pub(in crate::coord::serve) fn answer(&mut self, register: usize, record: usize, now: u64, effect: Effect) {
        let record = &mut self.histories.entry(register).or_default()[record];
        record.operation.answered = Some(now);
        record.operation.effect = effect;
    }

    /// What an operation on a register was to do.
    pub(in crate::coord::serve) fn effect(&self, register: usize, record: usize) -> Effect {
        self.histories[&register][record].operation.effect
    }

    /// It never took place.
    pub(in crate::coord::serve) fn strike(&mut self, register: usize, record: usize) {
        self.histories.entry(register).or_default()[record].counts = false;
    }

    pub(in crate::coord::serve) fn append(&mut self, number: u64, fate: Fate) {
        self.appended.insert(number, fate);
    }

    pub(in crate::coord::serve) fn enqueue(&mut self, item: u64, number: u64) -> Result<(), Violation> {
        match self.enqueued.insert(item, number) {
            Some(number) => Err(Violation::NotOnce { what: "enqueue", number, times: 2, fate: Fate::Done }),
            None => Ok(()),
        }
    }

    pub(in crate::coord::serve) fn ack(&mut self, item: u64, fate: Fate) -> Result<(), Violation> {
        match fate {
            Fate::Done if !self.acked.insert(item) => {
                Err(Violation::NotOnce { what: "acknowledgement of item", number: item, times: 2, fate })
            }
            Fate::Unknown => {
                self.maybe_acked.insert(item);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// After everything: what clients were told is what there is. Gives the operations and histories without a verdict.
    pub(in crate::coord::serve) fn account(&self, machine: &Machine) -> Result<(u64, u64), Violation> {
        self.account_appended(machine)?;
        self.account_queue(machine)?;
        for (name, guarded) in &self.guarded {
            if let Some((client, _)) = guarded.written.iter().find(|(_, number)| !guarded.set.contains(number)) {
                return Err(Violation::GuardedLost { client: *client, path: name.1.to_owned() });
            }
        }
        let (mut operations, mut undecided) = (0, 0);
        for (register, records) in &self.histories {
            let counts = records.iter().filter(|record| {
                let unread = record.operation.answered.is_none() && matches!(record.operation.effect, Effect::Read(_));
                record.counts && !unread
            });
            let history: Vec<Operation> = counts.map(|record| record.operation).collect();
            operations += history.len() as u64;
            match linear::check(Value { version: 0, value: 0 }, &history) {
                Verdict::Linearizable => {}
                Verdict::Undecided => undecided += 1,
                Verdict::Not => {
                    let lines =
                        records.iter().map(|record| format!("    client {} {:?}\n", record.client, record.operation));
                    return Err(Violation::NotLinearizable { register: *register, history: lines.collect() });
                }
            }
        }
        Ok((operations, undecided))
    }

    fn account_appended(&self, machine: &Machine) -> Result<(), Violation> {
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        let names: Vec<String> = match machine.tree().children(APPENDED, &[]) {
            Ok((names, _)) => names.map(|name| format!("{APPENDED}/{name}")).collect(),
            Err(_) => Vec::new(),
        };
        for path in names {
            let data = machine.tree().get(&path, &[]).map(|(data, _)| data).unwrap_or_default();
            *times.entry(number(&data)).or_default() += 1;
        }
        for (number, fate) in &self.appended {
            let times = times.remove(number).unwrap_or(0);
            let right = match fate {
                Fate::Done => times == 1,
                Fate::Refused => times == 0,
                Fate::Unknown => times <= 1,
            };
            if !right {
                return Err(Violation::NotOnce { what: "append", number: *number, times, fate: *fate });
            }
        }
        match times.into_iter().next() {
            Some((number, times)) => Err(Violation::NotOnce { what: "append", number, times, fate: Fate::Refused }),
            None => Ok(()),
        }
    }

    fn account_queue(&self, machine: &Machine) -> Result<(), Violation> {
        let path = crate::coord::path::NodePath::parse("/q").expect("a path");
        for item in self.enqueued.keys() {
            let there = machine.queues().body(&path, *item).is_some();
            let acked = self.acked.contains(item);
            if there == acked && (there || !self.maybe_acked.contains(item)) {
                let (times, fate) = (u64::from(there), if acked { Fate::Refused } else { Fate::Done });
                return Err(Violation::NotOnce { what: "enqueue of item", number: *item, times, fate });
            }
        }
        Ok(())
    }
}

/// A number that a program wrote.
pub(in crate::coord::serve) fn number(data: &[u8]) -> u64 {
    data.try_into().map(u64::from_le_bytes).unwrap_or(0)
}
