//! What clients do: they read and write registers, guard a set with locks, run for election, work on a queue, and watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::check::{Fate, Hold, Name, Violation, number};
use super::linear::{Effect, Value};
use super::storm::Run;
use crate::coord::acl::Acl;
use crate::coord::claim::{Kind, Share, Wait};
use crate::coord::command::Command;
use crate::coord::error::CoordError;
use crate::coord::op::{Mode, Op, OpAnswer};
use crate::coord::path::NodePath;
use crate::coord::reply::{Answer, Reply};
use crate::coord::serve::client::{CallError, Output, ReadError, State};
use crate::coord::serve::talk::{Found, Query};
use crate::coord::stat::Stat;
use crate::coord::token::FencingToken;
use crate::coord::watch::{EventKind, Watch};

/// Registers. The first is watched for good, the second once at a time.
pub(super) const REGISTERS: [&str; 3] = ["/r0", "/r1", "/r2"];
const RESOURCES: [Name; 3] = [(Kind::Lock, "/l0"), (Kind::Lock, "/l1"), (Kind::Election, "/e0")];
const QUEUE: &str = "/q";
/// What is appended to; watched in two ways, so that each entry that appends tells two events.
pub(super) const APPENDED: &str = "/s";

/// Requests and reads of one client that have no answer.
const MOST_PENDING: usize = 24;

/// What each client reads when all is over.
const LAST_READS: u32 = 4;

/// One client of so many only reads.
const READERS: usize = 4;

#[derive(Debug)]
enum Pending {
    /// `floor`: what the client had seen of the register when it asked.
    Read {
        register: usize,
        record: Option<usize>,
        floor: u64,
        once: bool,
    },
    Write {
        register: usize,
        record: usize,
    },
    Acquire(usize),
    Enqueue(u64),
    Claim,
    Ack(u64),
    Append(u64),
    Watch,
    WatchAppended,
    Quiet,
}

/// One lock or candidacy of a client.
#[derive(Debug)]
struct Slot {
    call: u64,
    share: Share,
    /// Once it is granted and acted under.
    token: Option<FencingToken>,
    /// What was read from the guarded set, to be written back with something added.
    copy: Option<BTreeSet<u64>>,
}

/// What is watched for good, and what was told of it.
#[derive(Debug, Default)]
struct Watched {
    /// The entry from which on every change is told.
    armed: Option<u64>,
    /// The newest event, and how many changes were told.
    last: u64,
    changes: i64,
    /// A gap was told, and nothing was read since.
    gap: bool,
    /// A version that was read, and how many changes were told then; unknown after a gap that was told.
    base: Option<(i32, i64)>,
}

/// What was told of [`APPENDED`].
#[derive(Debug, Default)]
struct Appends {
    /// How many of its two watches are set, and the entry from which on both are.
    armed: (u32, u64),
    /// The newest entry of which something was told, and how many creations and changes of the list.
    newest: (u64, i64, i64),
}

/// One client's program.
#[derive(Debug, Default)]
pub(super) struct Program {
    pending: BTreeMap<u64, Pending>,
    slots: BTreeMap<usize, Slot>,
    /// Tokens that it should not use any more, and does.
    stale: Vec<(usize, FencingToken)>,
    /// What it knows of each register: version, and the newest entry that wrote it.
    known: BTreeMap<usize, (i32, u64)>,
    items: Vec<(u64, FencingToken)>,
    watched: Watched,
    appends: Appends,
    /// The entry of the data that a one-shot watch was set with.
    once: Option<u64>,
    last_event: u64,
    began: bool,
    /// Reads after the storm.
    last_reads: u32,
}

impl Program {
    /// What it still waits for, save for locks.
    pub(super) fn lacks(&self) -> usize {
        self.pending.len()
    }
}

fn data(number: u64) -> Arc<[u8]> {
    number.to_le_bytes()[..].into()
}

pub(super) fn create(path: &str, content: u64, mode: Mode, sequential: bool) -> Command {
    let path = path.to_owned();
    Command::Op(Op::Create { path, data: data(content), acl: Acl::open(), mode, sequential })
}

impl Run {
    fn ask(&mut self, c: usize, command: Command, pending: Pending) -> Option<u64> {
        let now = self.world.client_ms(c);
        let call = self.world.clients[c].call(now, command).ok()?;
        self.programs[c].pending.insert(call, pending);
        Some(call)
    }

    fn new_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// One step of a client's program.
    pub(super) fn act(&mut self, c: usize) -> Result<(), Violation> {
        if self.world.calm {
            self.wind_up(c);
        } else if self.programs[c].pending.len() < MOST_PENDING {
            // Some clients only read: nothing of their own keeps them waiting where nothing is committed any more.
            let choices = if c % READERS == READERS - 1 { 20 } else { 100 };
            match self.world.dice.below(choices) {
                0..22 => self.read_register(c, true),
                22..32 => self.read_register(c, false),
                32..44 => self.write_register(c, false),
                44..58 => self.write_register(c, true),
                58..80 => self.step_slot(c)?,
                80..90 => self.step_queue(c),
                90..96 => {
                    let number = self.new_number();
                    let append = create(&format!("{APPENDED}/n-"), number, Mode::Persistent, true);
                    if self.ask(c, append, Pending::Append(number)).is_some() {
                        self.world.checks.append(number, Fate::Unknown);
                    }
                }
                _ => {
                    let number = self.new_number();
                    let path = format!("/x/{number}");
                    self.ask(c, create(&path, number, Mode::Ephemeral, false), Pending::Quiet);
                }
            }
        }
        self.world.pump_client(c)
    }

    /// After the storm: everything that was begun is ended.
    fn wind_up(&mut self, c: usize) {
        let now = self.world.client_ms(c);
        for (slot, Slot { call, token, .. }) in std::mem::take(&mut self.programs[c].slots) {
            match token {
                Some(token) => self.release(c, slot, token),
                None => {
                    self.programs[c].pending.remove(&call);
                    let _ = self.world.clients[c].give_up(now, call);
                }
            }
        }
        if self.programs[c].last_reads < LAST_READS {
            self.programs[c].last_reads += 1;
            self.read_register(c, true);
        }
    }

    fn register(&mut self) -> usize {
        self.world.dice.below(REGISTERS.len() as u64) as usize
    }

    fn read_register(&mut self, c: usize, linear: bool) {
        let register = self.register();
        let now = self.world.client_ms(c);
        let once = register == 1 && self.programs[c].once.is_none() && self.world.dice.chance(300);
        let query = Query::Data(REGISTERS[register].to_owned());
        let Ok(read) = self.world.clients[c].read(now, query, linear, once) else { return };
        let nothing = Effect::Read(Value { version: 0, value: 0 });
        let at = self.world.queue.now().as_micros();
        let record = linear.then(|| self.world.checks.call(c, register, at, nothing));
        let floor = self.programs[c].known.get(&register).map_or(0, |known| known.1);
        self.programs[c].pending.insert(read, Pending::Read { register, record, floor, once });
    }

    fn write_register(&mut self, c: usize, conditional: bool) {
        let register = self.register();
        let value = self.new_number();
        let known = self.programs[c].known.get(&register).map_or(0, |known| known.0);
        let expects = conditional.then_some(known);
        let (path, version) = (REGISTERS[register].to_owned(), expects.unwrap_or(-1));
        let at = self.world.queue.now().as_micros();
        let record = self.world.checks.call(c, register, at, Effect::Write { expects, value, made: None });
        let set = Command::Op(Op::Set { path, data: data(value), version });
        if self.ask(c, set, Pending::Write { register, record }).is_none() {
            self.world.checks.strike(register, record);
        }
    }

    /// Whether a client may act in the name of what it holds.
    pub(super) fn may_act(&self, c: usize) -> bool {
        self.world.clients[c].lease_until().is_some_and(|until| self.world.client_ms(c) < until)
    }

    fn step_slot(&mut self, c: usize) -> Result<(), Violation> {
        if let Some((slot, token)) = self.programs[c].stale.pop() {
            // A program that does not know when to stop: it writes, and releases, under a token of before.
            self.world.report.fenced += u64::from(self.world.checks.write_stale(RESOURCES[slot], token));
            self.release_command(c, slot, token);
            return Ok(());
        }
        let slot = self.world.dice.below(RESOURCES.len() as u64) as usize;
        let (may_act, now, bits) = (self.may_act(c), self.world.client_ms(c), self.world.dice.below(100));
        let Some(found) = self.programs[c].slots.get_mut(&slot) else {
            self.acquire(c, slot);
            return Ok(());
        };
        let (call, share) = (found.call, found.share);
        match found.token {
            None if bits < 15 => {
                self.programs[c].slots.remove(&slot);
                self.programs[c].pending.remove(&call);
                let _ = self.world.clients[c].give_up(now, call);
            }
            None => {}
            Some(_) if !may_act => self.drop_slot(c, slot),
            Some(token) => match found.copy.take() {
                Some(copy) => {
                    let number = self.new_number();
                    self.world.checks.write_guarded(c, RESOURCES[slot], token, copy, number)?;
                }
                None if bits < 50 && share == Share::Exclusive => {
                    found.copy = Some(self.world.checks.guarded_set(RESOURCES[slot]));
                }
                None if bits < 60 && RESOURCES[slot].0 == Kind::Election => {
                    let path = RESOURCES[slot].1.to_owned();
                    self.ask(c, Command::Proclaim { path, token, value: data(bits) }, Pending::Quiet);
                }
                None => {
                    self.programs[c].slots.remove(&slot);
                    self.release(c, slot, token);
                    if bits < 75 {
                        self.programs[c].stale.push((slot, token));
                    }
                }
            },
        }
        Ok(())
    }

    fn acquire(&mut self, c: usize, slot: usize) {
        let (kind, path) = RESOURCES[slot];
        let dice = &mut self.world.dice;
        let share = if kind == Kind::Lock && dice.chance(250) { Share::Shared } else { Share::Exclusive };
        let wait = match dice.below(4) {
            0 => Wait::Try,
            1 => Wait::Deadline(dice.between(200, 5_000)),
            _ => Wait::Forever,
        };
        let delay_ms = if dice.chance(200) { dice.between(100, 2_000) } else { 0 };
        let value = if kind == Kind::Election { data(c as u64) } else { Arc::default() };
        let command = Command::Acquire { kind, path: path.to_owned(), share, wait, delay_ms, value };
        if let Some(call) = self.ask(c, command, Pending::Acquire(slot)) {
            self.programs[c].slots.insert(slot, Slot { call, share, token: None, copy: None });
        }
    }

    fn release(&mut self, c: usize, slot: usize, token: FencingToken) {
        self.world.checks.end_hold(c, RESOURCES[slot]);
        self.release_command(c, slot, token);
    }

    fn release_command(&mut self, c: usize, slot: usize, token: FencingToken) {
        let (kind, path) = RESOURCES[slot];
        self.ask(c, Command::Release { kind, path: path.to_owned(), token }, Pending::Quiet);
    }

    /// The client has to take it for lost; that it releases it later is only polite.
    fn drop_slot(&mut self, c: usize, slot: usize) {
        if let Some(Slot { token: Some(token), .. }) = self.programs[c].slots.remove(&slot) {
            self.world.checks.end_hold(c, RESOURCES[slot]);
            self.programs[c].stale.push((slot, token));
        }
    }

    fn step_queue(&mut self, c: usize) {
        let path = QUEUE.to_owned();
        match (self.world.dice.below(10), self.programs[c].items.pop()) {
            (0, Some((item, token))) => drop(self.ask(c, Command::Nack { path, item, token }, Pending::Quiet)),
            (_, Some((item, token))) => {
                if self.ask(c, Command::Ack { path, item, token }, Pending::Ack(item)).is_some() {
                    let _ = self.world.checks.ack(item, Fate::Unknown);
                }
            }
            (0..5, None) => {
                let number = self.new_number();
                let command = Command::Enqueue { path, body: data(number), max_attempts: 1_000 };
                self.ask(c, command, Pending::Enqueue(number));
            }
            (_, None) => {
                let visibility_ms = self.world.dice.between(500, 4_000);
                self.ask(c, Command::Claim { path, visibility_ms }, Pending::Claim);
            }
        }
    }

    /// The first client was told that something of what all use was made: the registers come first.
    pub(super) fn on_made(&mut self, c: usize, n: usize, stat: &Stat) {
        if n < REGISTERS.len() {
            self.made.insert(n, stat.czxid);
            self.programs[c].learn(n, stat);
        }
    }

    /// A client was told something.
    pub(super) fn on_told(&mut self, c: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::Reply { call, reply, .. } => self.on_reply(c, call, reply),
            Output::Failed { call, why } => {
                self.on_failed(c, call, why);
                Ok(())
            }
            Output::Read { read, zxid, found } => self.on_read(c, read, zxid, found),
            Output::Event { zxid, kind, path } => self.on_event(c, zxid, kind, &path),
            Output::State(state) => {
                self.on_state(c, state);
                if state == State::Lost { self.world.check_lost(c) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn on_state(&mut self, c: usize, state: State) {
        match state {
            State::Connected if !self.programs[c].began => {
                self.programs[c].began = true;
                let now = self.world.client_ms(c);
                for (watch, path, pending) in [
                    (Watch::Persistent, REGISTERS[0], Pending::Watch),
                    (Watch::Persistent, APPENDED, Pending::WatchAppended),
                    (Watch::Recursive, APPENDED, Pending::WatchAppended),
                ] {
                    let path = NodePath::parse(path).expect("a path");
                    if let Ok(watch) = self.world.clients[c].watch(now, watch, path, true) {
                        self.programs[c].pending.insert(watch, pending);
                    }
                }
            }
            State::Lapsed | State::Lost => {
                self.world.report.lapsed += u64::from(state == State::Lapsed);
                let held = self.programs[c].slots.iter().filter(|(_, slot)| slot.token.is_some());
                let held: Vec<usize> = held.map(|(slot, _)| *slot).collect();
                held.into_iter().for_each(|slot| self.drop_slot(c, slot));
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, c: usize, call: u64, reply: Reply) -> Result<(), Violation> {
        let Some(pending) = self.programs[c].pending.remove(&call) else {
            return Err(Violation::Strange { client: c, answer: format!("{reply:?} to what it had not asked") });
        };
        self.world.report.replies += 1;
        let at = self.world.queue.now().as_micros();
        match (pending, reply) {
            (Pending::Write { register, record }, Ok(Answer::Op(OpAnswer::Set(stat)))) => {
                if let Effect::Write { expects, value, .. } = self.world.checks.effect(register, record) {
                    let effect = Effect::Write { expects, value, made: Some(stat.version) };
                    self.world.checks.answer(register, record, at, effect);
                }
                self.programs[c].learn(register, &stat);
            }
            (Pending::Write { register, record }, Err(CoordError::BadVersion { found })) => {
                self.world.checks.answer(register, record, at, Effect::Found(found));
            }
            (Pending::Acquire(slot), Ok(Answer::Queued { .. })) => {
                self.programs[c].pending.insert(call, Pending::Acquire(slot));
            }
            (Pending::Acquire(slot), Ok(Answer::Granted(token))) => return self.on_granted(c, slot, call, token),
            (Pending::Acquire(slot), Err(CoordError::NotAvailable | CoordError::DeadlinePassed)) => {
                self.programs[c].slots.remove(&slot);
            }
            (Pending::Enqueue(number), Ok(Answer::Enqueued { item })) => {
                return self.world.checks.enqueue(item, number);
            }
            (Pending::Claim, Ok(Answer::Claimed { item, token, .. })) => self.programs[c].items.push((item, token)),
            (Pending::Claim, Err(CoordError::QueueEmpty)) => {}
            (Pending::Ack(item), Ok(Answer::Done)) => return self.world.checks.ack(item, Fate::Done),
            (Pending::Ack(_), Err(CoordError::NoItem | CoordError::NotHeld | CoordError::WrongToken { .. })) => {}
            (Pending::Append(number), Ok(Answer::Op(OpAnswer::Created { .. }))) => {
                self.world.checks.append(number, Fate::Done);
            }
            (Pending::Quiet, _) => {}
            (pending, reply) => {
                let answer = format!("{reply:?} to {pending:?}");
                return Err(Violation::Strange { client: c, answer });
            }
        }
        Ok(())
    }

    fn on_granted(&mut self, c: usize, slot: usize, call: u64, token: FencingToken) -> Result<(), Violation> {
        let may_act = self.may_act(c);
        let Some(found) = self.programs[c].slots.get_mut(&slot).filter(|found| found.call == call && may_act) else {
            self.programs[c].slots.remove(&slot);
            self.programs[c].stale.push((slot, token));
            return Ok(());
        };
        found.token = Some(token);
        let hold = Hold { token, share: found.share };
        self.world.report.grants += 1;
        self.world.checks.begin_hold(c, RESOURCES[slot], hold)
    }

    fn on_failed(&mut self, c: usize, call: u64, why: CallError) {
        match self.programs[c].pending.remove(&call) {
            Some(Pending::Write { register, record }) if why != CallError::Unknown => {
                self.world.checks.strike(register, record);
            }
            Some(Pending::Append(number)) if why != CallError::Unknown => {
                self.world.checks.append(number, Fate::Refused);
            }
            Some(Pending::Acquire(slot)) => drop(self.programs[c].slots.remove(&slot)),
            _ => {}
        }
    }

    fn on_read(&mut self, c: usize, read: u64, zxid: u64, found: Result<Found, ReadError>) -> Result<(), Violation> {
        let Some(pending) = self.programs[c].pending.remove(&read) else {
            return Err(Violation::Strange { client: c, answer: format!("{found:?} to what it had not asked") });
        };
        match (pending, found) {
            (Pending::Read { register, record, floor, once }, Ok(Found::Data(bytes, stat))) => {
                self.world.report.reads += 1;
                let (at, value) = (self.world.queue.now().as_micros(), number(&bytes));
                if let Some(record) = record {
                    let effect = Effect::Read(Value { version: stat.version, value });
                    self.world.checks.answer(register, record, at, effect);
                }
                if stat.mzxid < floor {
                    return Err(Violation::WentBack { client: c, register, read: stat.mzxid, floor });
                }
                self.programs[c].learn(register, &stat);
                self.programs[c].check_watches(c, register, &stat)?;
                if once {
                    self.programs[c].once = Some(stat.mzxid);
                }
                Ok(())
            }
            (Pending::Read { register, record, .. }, Err(ReadError::Refused(_) | ReadError::Lost)) => {
                if let Some(record) = record {
                    self.world.checks.strike(register, record);
                }
                Ok(())
            }
            // A state from before the register was made, told to a client that had not seen it. Programs begin when all
            // registers are made, so a linear read finds them.
            (Pending::Read { register, record: None, floor: 0, .. }, Err(ReadError::Coord(CoordError::NoNode)))
                if self.made.get(&register).is_some_and(|made| zxid < *made) =>
            {
                Ok(())
            }
            (Pending::Watch, Ok(Found::Nothing)) => {
                let watched = &mut self.programs[c].watched;
                watched.armed = Some(zxid);
                Ok(())
            }
            (Pending::WatchAppended, Ok(Found::Nothing)) => {
                let armed = &mut self.programs[c].appends.armed;
                *armed = (armed.0 + 1, armed.1.max(zxid));
                Ok(())
            }
            (Pending::Watch | Pending::WatchAppended, Err(ReadError::Lost)) => Ok(()),
            (pending, found) => Err(Violation::Strange { client: c, answer: format!("{found:?} to {pending:?}") }),
        }
    }

    fn on_event(&mut self, c: usize, zxid: u64, kind: EventKind, path: &NodePath) -> Result<(), Violation> {
        self.world.report.events += 1;
        let program = &mut self.programs[c];
        if zxid < program.last_event {
            return Err(Violation::EventsDisordered { client: c, event: zxid, last: program.last_event });
        }
        program.last_event = zxid;
        if path.as_str().starts_with(APPENDED) {
            program.appends.on_event(c, zxid, kind, path.as_str())?;
        }
        match (path.as_str(), kind) {
            (path, EventKind::Resync) if path == REGISTERS[0] => {
                program.watched.last = zxid;
                (program.watched.gap, program.watched.base) = (true, None);
            }
            (path, kind) if path == REGISTERS[0] => {
                program.watched.last = zxid;
                program.watched.changes += i64::from(kind == EventKind::Changed);
            }
            (path, EventKind::Changed) if path == REGISTERS[1] => program.once = None,
            _ => {}
        }
        Ok(())
    }
}

impl Appends {
    /// An entry that appends creates a node and changes a list: both are told before anything of a later entry, or `Resync`.
    fn on_event(&mut self, client: usize, zxid: u64, kind: EventKind, path: &str) -> Result<(), Violation> {
        let (newest, created, listed) = self.newest;
        match kind {
            EventKind::Resync if path == APPENDED => self.newest = (zxid, 0, 0),
            EventKind::Created | EventKind::Children if (kind == EventKind::Children) == (path == APPENDED) => {
                if zxid > newest {
                    if self.armed.0 == 2 && newest > self.armed.1 && created != listed {
                        return Err(Violation::EventsDiffer { client, told: listed, changes: created });
                    }
                    self.newest = (zxid, 0, 0);
                }
                self.newest.1 += i64::from(kind == EventKind::Created);
                self.newest.2 += i64::from(kind == EventKind::Children);
                if self.newest.1.max(self.newest.2) > 1 {
                    return Err(Violation::EventsDiffer { client, told: self.newest.1.max(self.newest.2), changes: 1 });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Program {
    fn learn(&mut self, register: usize, stat: &Stat) {
        let known = self.known.entry(register).or_default();
        *known = (*known).max((stat.version, stat.mzxid));
    }

    /// Data was read: everything that was watched of it was told before, once each.
    fn check_watches(&mut self, client: usize, register: usize, stat: &Stat) -> Result<(), Violation> {
        if let (1, Some(once)) = (register, self.once)
            && stat.mzxid > once
        {
            return Err(Violation::EventLate { client, register, read: stat.mzxid, event: once });
        }
        let (0, Some(armed)) = (register, self.watched.armed) else { return Ok(()) };
        let watched = &mut self.watched;
        if std::mem::take(&mut watched.gap) {
            watched.last = watched.last.max(stat.mzxid);
        }
        if stat.mzxid > armed && watched.last < stat.mzxid {
            return Err(Violation::EventLate { client, register, read: stat.mzxid, event: watched.last });
        }
        match watched.base {
            None => watched.base = Some((stat.version, watched.changes)),
            Some((version, told)) => {
                let (changes, told) = (i64::from(stat.version - version), watched.changes - told);
                if changes != told {
                    return Err(Violation::EventsDiffer { client, told, changes });
                }
            }
        }
        Ok(())
    }
}
