//! Voters with their disks, clients, links and clocks on virtual time. What goes wrong and what clients do comes from
//! outside: a test, or the storm and its programs.

use std::collections::VecDeque;
use std::time::Duration;

use super::check::{Checks, Violation};
use super::net::{Net, Wires};
use super::{Planted, Report};
use crate::coord::machine::Machine;
use crate::coord::raft::sim::Planted as PlantedInRaft;
use crate::coord::raft::{Config, Generation, Group, LogStore, Member, MemoryLog, Standing, StoreId, Stored, Ticket};
use crate::coord::serve::client::{self, Client, Options};
use crate::coord::serve::voter::{self, Voter};
use crate::id::PeerId;
use crate::sim::dice::Dice;
use crate::sim::queue::EventQueue;
use crate::sim::trace::Trace;
use crate::time::{Timestamp, WallTime};

/// Between two ticks, on the clock of who ticks.
const TICK_US: u64 = 100_000;

/// Replicas' states are compared at multiples of this index.
const DIGEST_EVERY: u64 = 4;

/// The fastest and the slowest clock, in millionths of true time: what [`crate::coord::serve::client`] leaves room for.
pub const CLOCKS_PPM: (u64, u64) = (850_000, 1_150_000);

#[derive(Debug)]
pub(in crate::coord::serve) enum Event {
    Tick(usize, u64),
    /// An ordered frame, of an epoch of its link.
    Frame(usize, usize, u64, Vec<u8>),
    Datagram(usize, usize, Vec<u8>),
    Disk(usize, u64, Ticket),
    /// A voter works off what came in since it last did.
    Work(usize),
    Reach(usize, usize, u32),
    /// `.0` learns that its link to `.1` ended.
    Gone(usize, usize),
    Restart(usize),
    Thaw(usize),
    Uncut(usize, usize),
    /// A link that was cut for long, of this many ends of cuts before.
    Break(usize, usize),
    Act(usize, u64),
    Operator,
    Fault,
}

/// A party's clocks.
#[derive(Clone, Copy, Debug)]
pub(in crate::coord::serve) struct Clock {
    pub(in crate::coord::serve) ppm: u64,
    offset_us: u64,
    pub(in crate::coord::serve) wall_ms: i64,
}

impl Clock {
    pub(in crate::coord::serve) fn us(&self, at: Timestamp) -> u64 {
        self.offset_us + (u128::from(at.as_micros()) * u128::from(self.ppm) / 1_000_000) as u64
    }

    pub(in crate::coord::serve) fn ms(&self, at: Timestamp) -> u64 {
        self.us(at) / 1_000
    }

    fn period(&self) -> Duration {
        Duration::from_micros(TICK_US * 1_000_000 / self.ppm)
    }

    fn wall(&self, at: Timestamp) -> WallTime {
        WallTime(1_790_000_000_000 + self.wall_ms + self.ms(at) as i64)
    }
}

/// What voters and clients have in common.
pub(in crate::coord::serve) struct Party {
    pub(in crate::coord::serve) peer: PeerId,
    pub(in crate::coord::serve) clock: Clock,
    /// Events of an earlier life are not for this one.
    pub(in crate::coord::serve) boot: u64,
    pub(in crate::coord::serve) frozen: bool,
    late: Vec<Event>,
}

/// A voter's place.
pub(in crate::coord::serve) struct Seat {
    pub(in crate::coord::serve) member: Member,
    pub(in crate::coord::serve) voter: Option<Voter>,
    pub(in crate::coord::serve) disk: MemoryLog,
    pub(in crate::coord::serve) writes: VecDeque<Ticket>,
    disk_free: Timestamp,
    pub(in crate::coord::serve) disk_max_us: u64,
    ticked_ms: u64,
    pub(in crate::coord::serve) seen: crate::coord::raft::sim::check::Seen,
}

/// A world.
pub struct World {
    pub(in crate::coord::serve) dice: Dice,
    pub(in crate::coord::serve) queue: EventQueue<Event>,
    pub(in crate::coord::serve) trace: Trace,
    pub(in crate::coord::serve) net: Net,
    /// Voters and spares first, then clients.
    pub(in crate::coord::serve) parties: Vec<Party>,
    pub(in crate::coord::serve) seats: Vec<Seat>,
    pub(in crate::coord::serve) clients: Vec<Client>,
    /// What clients were told and nobody took yet.
    pub(in crate::coord::serve) told: Vec<VecDeque<client::Output>>,
    pub(in crate::coord::serve) checks: Checks,
    pub(in crate::coord::serve) report: Report,
    pub(in crate::coord::serve) generation: Option<Generation>,
    config: Config,
    planted: Option<Planted>,
    frames: blake3::Hasher,
    /// Nothing goes wrong any more.
    pub(in crate::coord::serve) calm: bool,
}

impl World {
    pub(in crate::coord::serve) fn new(
        dice: Dice,
        wires: Wires,
        config: Config,
        planted: Option<Planted>,
        echo: bool,
    ) -> Self {
        let bug = planted.and_then(|bug| match bug {
            Planted::AcknowledgeBeforeFsync => Some(PlantedInRaft::SendBeforeFsync),
            Planted::StaleRead => Some(PlantedInRaft::ReadWithoutQuorum),
            Planted::ReleaseByName => None,
        });
        let config = bug.map_or(config.clone(), |bug| config.plant(bug));
        let mut checks = Checks::default();
        checks.ledger.digest_every = DIGEST_EVERY;
        Self {
            dice,
            queue: EventQueue::default(),
            trace: Trace::new(echo),
            net: Net::new(wires),
            parties: Vec::new(),
            seats: Vec::new(),
            clients: Vec::new(),
            told: Vec::new(),
            checks,
            report: Report::default(),
            generation: None,
            config: config.build().expect("within the bounds"),
            planted,
            frames: blake3::Hasher::new(),
            calm: false,
        }
    }

    fn machine(&self) -> Machine {
        Machine { releases_by_name: self.planted == Some(Planted::ReleaseByName), ..Machine::new() }
    }

    fn party(&mut self, drifts: bool) -> usize {
        let n = self.parties.len();
        let ppm = if drifts { self.dice.between(CLOCKS_PPM.0, CLOCKS_PPM.1) } else { 1_000_000 };
        let offset_us = self.dice.below(1 << 40);
        let clock = Clock { ppm, offset_us, wall_ms: 0 };
        let peer = PeerId([n as u8 + 1; 32]);
        self.parties.push(Party { peer, clock, boot: 0, frozen: false, late: Vec::new() });
        n
    }

    /// Founds the group, with some peers more that may join it.
    pub(in crate::coord::serve) fn found(&mut self, founders: usize, spares: usize, drifts: bool) {
        for _ in 0..founders + spares {
            let n = self.party(drifts);
            let member = Member { peer: self.parties[n].peer, store: StoreId(self.dice.bits()) };
            self.seats.push(Seat {
                member,
                voter: None,
                disk: MemoryLog::new(),
                writes: VecDeque::new(),
                disk_free: Timestamp::ZERO,
                disk_max_us: 3_000,
                ticked_ms: 0,
                seen: Default::default(),
            });
        }
        let names: Vec<Member> = self.seats[..founders].iter().map(|seat| seat.member).collect();
        for n in 0..founders {
            let (seed, machine) = (self.dice.bits(), self.machine());
            let group = Group::found(self.config.clone(), names[n], &names, machine, seed);
            let mut group = group.expect("a founder");
            self.generation = Some(group.identity().generation);
            // The founding is durable before anybody is told of the group.
            while let Some(output) = group.poll() {
                if let crate::coord::raft::Output::Persist { ticket, writes } = output {
                    let Ok(()) = self.seats[n].disk.write(&writes);
                    group.persisted(ticket);
                }
            }
            self.serve(n, group);
        }
        (founders..founders + spares).for_each(|n| self.join(n));
    }

    fn serve(&mut self, n: usize, group: Group<Machine>) {
        let seed = self.dice.seed();
        let (now, clock) = (self.queue.now(), self.parties[n].clock);
        let seat = &mut self.seats[n];
        seat.voter = Some(Voter::new(seat.member.peer, group, seed, clock.wall(now)));
        seat.ticked_ms = clock.ms(now);
        seat.seen = Default::default();
        self.parties[n].boot += 1;
        self.tick_later(n);
    }

    /// A seat begins as a newcomer with an empty log.
    pub(in crate::coord::serve) fn join(&mut self, n: usize) {
        let (store, seed, machine) = (StoreId(self.dice.bits()), self.dice.bits(), self.machine());
        self.drop_links(n);
        let seat = &mut self.seats[n];
        seat.member.store = store;
        seat.disk = MemoryLog::new();
        seat.writes.clear();
        let generation = self.generation.expect("the group is founded");
        let group = Group::join(self.config.clone(), seat.member, generation, machine, seed);
        self.trace.line(self.queue.now(), format_args!("{n} is a newcomer"));
        self.serve(n, group);
    }

    /// Adds a client that knows every seat.
    pub(in crate::coord::serve) fn add_client(&mut self, ttl_ms: u64, drifts: bool) -> usize {
        let seats: Vec<usize> = (0..self.seats.len()).collect();
        self.add_client_of(&seats, ttl_ms, drifts)
    }

    /// Adds a client that knows these seats, until a voter tells it of others.
    pub(in crate::coord::serve) fn add_client_of(&mut self, seats: &[usize], ttl_ms: u64, drifts: bool) -> usize {
        let n = self.party(drifts);
        let client = self.new_client(n, seats, ttl_ms);
        self.clients.push(client);
        self.told.push(VecDeque::new());
        self.checks.admit(ttl_ms);
        self.tick_later(n);
        n - self.seats.len()
    }

    fn new_client(&mut self, n: usize, seats: &[usize], ttl_ms: u64) -> Client {
        let voters: Vec<PeerId> = seats.iter().map(|seat| self.seats[*seat].member.peer).collect();
        let options = Options { ttl_ms, channel: self.parties[n].boot };
        let seed = self.dice.seed();
        Client::new(options, voters, seed, self.parties[n].clock.ms(self.queue.now()))
    }

    /// A client begins anew: its program was started again, or opened another session.
    pub(in crate::coord::serve) fn renew_client(&mut self, c: usize, ttl_ms: u64) {
        let n = self.seats.len() + c;
        self.parties[n].boot += 1;
        let seats: Vec<usize> = (0..self.seats.len()).collect();
        self.clients[c] = self.new_client(n, &seats, ttl_ms);
        self.told[c].clear();
        self.checks.renew(c, ttl_ms);
        self.tick_later(n);
    }

    pub(in crate::coord::serve) fn party_of(&self, c: usize) -> usize {
        self.seats.len() + c
    }

    /// A client's own time.
    pub(in crate::coord::serve) fn client_ms(&self, c: usize) -> u64 {
        self.parties[self.party_of(c)].clock.ms(self.queue.now())
    }

    fn tick_later(&mut self, n: usize) {
        let (at, boot) = (self.queue.now() + self.parties[n].clock.period(), self.parties[n].boot);
        self.queue.at(at, Event::Tick(n, boot));
    }

    pub(in crate::coord::serve) fn after(&mut self, least_ms: u64, most_ms: u64, event: Event) {
        let at = self.queue.now() + self.dice.span(Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        self.queue.at(at, event);
    }

    /// Whom an event is for, if it waits while that one is frozen.
    fn addressee(event: &Event) -> Option<usize> {
        match event {
            Event::Frame(_, to, ..) | Event::Datagram(_, to, _) => Some(*to),
            Event::Disk(n, ..) | Event::Work(n) | Event::Reach(n, ..) | Event::Gone(n, _) => Some(*n),
            _ => None,
        }
    }

    /// Carries out an event, save for those of programs and storms.
    pub(in crate::coord::serve) fn step(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(n) = Self::addressee(&event).filter(|n| self.parties[*n].frozen) {
            self.parties[n].late.push(event);
            return Ok(());
        }
        match event {
            Event::Tick(n, boot) if self.parties[n].boot == boot => {
                self.tick_later(n);
                if !self.parties[n].frozen {
                    self.tick(n)?;
                }
            }
            Event::Frame(from, to, epoch, bytes) if from == to || self.net.is_current(from, to, epoch) => {
                self.deliver(from, to, &bytes)?;
            }
            Event::Datagram(from, to, bytes) => self.deliver(from, to, &bytes)?,
            Event::Disk(n, boot, ticket) => self.disk_done(n, boot, ticket)?,
            Event::Reach(n, to, tries) => self.reach(n, to, tries)?,
            Event::Gone(n, other) => self.gone(n, other)?,
            Event::Restart(n) => self.restart(n)?,
            Event::Thaw(n) => self.thaw(n),
            Event::Work(n) => self.pump_voter(n)?,
            Event::Uncut(from, to) => {
                for bytes in self.net.heal(from, to) {
                    self.send(from, to, bytes);
                }
            }
            Event::Break(a, b) if !self.net.can_reach(a, b) => self.break_link(a, b),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, n: usize) -> Result<(), Violation> {
        let (now, clock) = (self.queue.now(), self.parties[n].clock);
        if let Some(seat) = self.seats.get_mut(n) {
            let elapsed = clock.ms(now) - std::mem::replace(&mut seat.ticked_ms, clock.ms(now));
            if let Some(voter) = &mut seat.voter {
                voter.tick(elapsed, clock.wall(now));
            }
            return self.pump_voter(n);
        }
        let c = n - self.seats.len();
        self.clients[c].tick(clock.ms(now));
        self.pump_client(c)
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) -> Result<(), Violation> {
        self.frames.update(&[from as u8, to as u8]).update(bytes);
        let (peer, votes) = (self.parties[from].peer, from < self.seats.len());
        if let Some(seat) = self.seats.get_mut(to) {
            if let Some(voter) = &mut seat.voter {
                let result = voter.frame(peer, votes, bytes);
                self.checks.on_rejected(to, result.err(), votes)?;
            }
            return self.work_soon(to);
        }
        let (c, now) = (to - self.seats.len(), self.queue.now());
        let now = self.parties[to].clock.ms(now);
        self.clients[c].frame(now, peer, bytes).map_err(|why| Violation::Malformed { client: c, why })?;
        self.pump_client(c)
    }

    fn disk_done(&mut self, n: usize, boot: u64, ticket: Ticket) -> Result<(), Violation> {
        let seat = &mut self.seats[n];
        if self.parties[n].boot != boot || seat.writes.front() != Some(&ticket) {
            return Ok(());
        }
        seat.writes.pop_front();
        seat.disk.sync();
        if let Some(voter) = &mut seat.voter {
            voter.persisted(ticket);
        }
        self.work_soon(n)
    }

    /// Works off what came in, or leaves it for a moment in which more may come, as a busy driver does.
    fn work_soon(&mut self, n: usize) -> Result<(), Violation> {
        if self.dice.chance(300) {
            self.after(0, 5, Event::Work(n));
            return Ok(());
        }
        self.pump_voter(n)
    }

    fn reach(&mut self, n: usize, to: usize, tries: u32) -> Result<(), Violation> {
        if !self.net.believes(n, to) {
            let listens = self.seats[to].voter.is_some() && !self.parties[to].frozen;
            if !listens || !self.net.can_reach(n, to) {
                if tries < 20 {
                    self.after(200, 400, Event::Reach(n, to, tries + 1));
                }
                return Ok(());
            }
            self.connect(n, to)?;
        }
        let now = self.queue.now();
        let c = n - self.seats.len();
        self.clients[c].linked(self.parties[n].clock.ms(now), self.parties[to].peer);
        self.pump_client(c)
    }

    /// A new link. Whoever did not know that the last one ended learns it now.
    fn connect(&mut self, a: usize, b: usize) -> Result<(), Violation> {
        for (end, other) in [(a, b), (b, a)] {
            if self.net.believes(end, other) {
                self.gone(end, other)?;
            }
        }
        self.net.connect(a, b);
        Ok(())
    }

    fn gone(&mut self, n: usize, other: usize) -> Result<(), Violation> {
        if self.net.is_up(n, other) || !self.net.believes(n, other) {
            return Ok(());
        }
        self.net.forget(n, other);
        let peer = self.parties[other].peer;
        if let Some(seat) = self.seats.get_mut(n) {
            if let Some(voter) = &mut seat.voter {
                voter.gone(peer);
            }
            return self.pump_voter(n);
        }
        let c = n - self.seats.len();
        let now = self.client_ms(c);
        self.clients[c].gone(now, peer);
        self.pump_client(c)
    }

    /// Ends a link; its ends learn it at times of their own.
    pub(in crate::coord::serve) fn break_link(&mut self, a: usize, b: usize) {
        if self.net.disconnect(a, b) {
            for (end, other) in [(a, b), (b, a)] {
                self.after(1, 800, Event::Gone(end, other));
            }
        }
    }

    fn drop_links(&mut self, n: usize) {
        for other in (0..self.parties.len()).filter(|other| *other != n) {
            self.break_link(n, other);
            self.net.forget(n, other);
        }
    }

    /// Stops a voter as a power cut would: of what is not durable some is kept, and one write may be torn.
    pub(in crate::coord::serve) fn crash(&mut self, n: usize) {
        let whole = self.dice.between(0, self.seats[n].disk.waiting() as u64) as usize;
        let rows = self.dice.between(0, self.seats[n].disk.waiting_rows() as u64) as usize;
        let seat = &mut self.seats[n];
        self.report.torn += u64::from(seat.disk.waiting() > whole && rows > 0);
        self.report.crashes += 1;
        seat.disk.crash(whole, rows);
        seat.writes.clear();
        seat.voter = None;
        self.parties[n].boot += 1;
        self.trace.line(self.queue.now(), format_args!("{n} crashes"));
        self.drop_links(n);
    }

    pub(in crate::coord::serve) fn restart(&mut self, n: usize) -> Result<(), Violation> {
        if self.seats[n].voter.is_some() {
            return Ok(());
        }
        let Ok(rows) = self.seats[n].disk.rows();
        if rows.is_empty() {
            self.join(n);
            return self.pump_voter(n);
        }
        let (seed, machine) = (self.dice.bits(), self.machine());
        let opened = Stored::open(rows).and_then(|stored| Group::open(self.config.clone(), stored, machine, seed));
        let group = opened.map_err(|why| crate::coord::raft::sim::Violation::DoesNotOpen { node: n, why })?;
        self.trace.line(self.queue.now(), format_args!("{n} restarts"));
        self.seats[n].disk_free = self.queue.now();
        self.serve(n, group);
        self.pump_voter(n)
    }

    pub(in crate::coord::serve) fn freeze(&mut self, n: usize) {
        self.trace.line(self.queue.now(), format_args!("{n} is frozen"));
        self.parties[n].frozen = true;
    }

    pub(in crate::coord::serve) fn thaw(&mut self, n: usize) {
        self.parties[n].frozen = false;
        // A voter's clock may have stood still with it. A client's goes on, as it has to.
        let stood = self.dice.chance(500);
        let ms = self.parties[n].clock.ms(self.queue.now());
        if let Some(seat) = self.seats.get_mut(n).filter(|_| stood) {
            seat.ticked_ms = ms;
        }
        for event in std::mem::take(&mut self.parties[n].late) {
            self.queue.at(self.queue.now(), event);
        }
    }

    /// Nobody hears `from` at `to`, for a while.
    pub(in crate::coord::serve) fn cut(&mut self, from: usize, to: usize, ms: u64) {
        self.net.cuts.insert((from, to));
        self.after(ms, ms, Event::Uncut(from, to));
        self.after(3_000, 8_000, Event::Break(from, to));
    }

    fn index(&self, peer: PeerId) -> Option<usize> {
        self.parties.iter().position(|party| party.peer == peer)
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let now = self.queue.now();
        if from == to {
            return self.queue.at(now, Event::Frame(from, to, 0, bytes));
        }
        if bytes.first() == Some(&0) {
            for at in self.net.datagram(now, &mut self.dice, from, to) {
                self.queue.at(at, Event::Datagram(from, to, bytes.clone()));
            }
            return;
        }
        let voters = from < self.seats.len() && to < self.seats.len();
        if voters && !self.net.is_up(from, to) && self.net.can_reach(from, to) && self.seats[to].voter.is_some() {
            // Voters keep links to each other, and have no clients on them here.
            self.net.connect(from, to);
        }
        if let Some((at, epoch)) = self.net.ordered(now, &mut self.dice, (from, to), &bytes) {
            self.queue.at(at, Event::Frame(from, to, epoch, bytes));
        }
    }

    /// Carries out what a voter wants, and looks at it.
    pub(in crate::coord::serve) fn pump_voter(&mut self, n: usize) -> Result<(), Violation> {
        while let Some(output) = self.seats[n].voter.as_mut().and_then(Voter::poll) {
            let now = self.queue.now();
            match output {
                voter::Output::Send { to, bytes } => {
                    if let Some(to) = self.index(to) {
                        self.send(n, to, bytes);
                    }
                }
                // Nobody asks as a door here.
                voter::Output::Told { .. } => unreachable!("a channel that speaks by frames is told by frames"),
                voter::Output::Persist { ticket, writes } => {
                    let boot = self.parties[n].boot;
                    let long = Duration::from_micros(self.dice.between(100, self.seats[n].disk_max_us));
                    let seat = &mut self.seats[n];
                    seat.disk.submit(writes);
                    seat.writes.push_back(ticket);
                    seat.disk_free = seat.disk_free.max(now) + long;
                    self.queue.at(seat.disk_free, Event::Disk(n, boot, ticket));
                }
                voter::Output::Role(role) => {
                    self.trace.line(now, format_args!("{n} is {:?} in term {}", role.standing, role.term));
                }
                voter::Output::Membership(membership) => {
                    self.report.changes += 1;
                    self.trace.line(now, format_args!("{n} knows {:?} {:?}", membership.voters, membership.learners));
                }
                voter::Output::Halted(why) => {
                    return Err(crate::coord::raft::sim::Violation::Halted { node: n, why }.into());
                }
            }
        }
        let seat = &mut self.seats[n];
        let Some(voter) = &seat.voter else { return Ok(()) };
        self.checks.ledger.check(n, voter.group(), &mut seat.seen)?;
        self.checks.read_back(voter.group())?;
        let ended = self.checks.look_at(voter.group());
        ended.into_iter().try_for_each(|c| self.on_ended(c))
    }

    /// A client's session ended: the client has to have stopped acting before.
    fn on_ended(&mut self, c: usize) -> Result<(), Violation> {
        self.trace.line(self.queue.now(), format_args!("session of client {c} ends"));
        self.report.expired += 1;
        let now = self.client_ms(c);
        self.checks.on_expired(c, now, &self.clients[c])
    }

    /// A client was told that its session is over: nobody who is as far as anybody ever was has it still.
    pub(in crate::coord::serve) fn check_lost(&self, c: usize) -> Result<(), Violation> {
        let session = self.clients[c].session();
        let newest = self.checks.ledger.applied;
        let mut groups = self.seats.iter().filter_map(|seat| seat.voter.as_ref()).map(Voter::group);
        let alive = session.is_none_or(|session| {
            groups.any(|group| group.applied().index >= newest && group.machine().sessions().find(session).is_some())
        });
        if alive { Err(Violation::LostAlive { client: c }) } else { Ok(()) }
    }

    /// Carries out what a client wants, and keeps what it is told.
    pub(in crate::coord::serve) fn pump_client(&mut self, c: usize) -> Result<(), Violation> {
        let n = self.party_of(c);
        while let Some(output) = self.clients[c].poll() {
            match output {
                client::Output::Reach(peer) => {
                    if let Some(to) = self.index(peer).filter(|to| *to < self.seats.len()) {
                        self.after(1, 20, Event::Reach(n, to, 0));
                    }
                }
                client::Output::Send { to, bytes } => {
                    if let Some(to) = self.index(to) {
                        self.send(n, to, bytes);
                    }
                }
                told => {
                    self.trace.line(self.queue.now(), format_args!("client {c} {told:?}"));
                    self.told[c].push_back(told);
                }
            }
        }
        let now = self.client_ms(c);
        self.checks.note_lease(c, now, &self.clients[c]);
        Ok(())
    }

    /// The leader of the newest term.
    pub(in crate::coord::serve) fn leader(&self) -> Option<usize> {
        let role = |n: usize| self.seats[n].voter.as_ref().map(|voter| voter.group().role());
        let up = (0..self.seats.len()).filter(|n| !self.parties[*n].frozen);
        let leaders = up.filter(|n| role(*n).is_some_and(|role| role.standing == Standing::Leader));
        leaders.max_by_key(|n| role(*n).map_or(0, |role| role.term))
    }

    /// Hash over everything that happened.
    pub(in crate::coord::serve) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.trace.hash()).update(self.frames.clone().finalize().as_bytes());
        *hasher.finalize().as_bytes()
    }
}
