//! The world of a run: nodes, wires and disks on virtual time, and the storm over them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::check::{Ledger, Seen, Violation};
use super::machine::Register;
use super::{Failure, Options, Report};
use crate::coord::raft::group::Refused;
use crate::coord::raft::{
    Config, Generation, Group, LogStore, Member, MemoryLog, Output, Position, Standing, StoreId, Stored, Ticket,
};
use crate::id::PeerId;
use crate::sim::dice::Dice;
use crate::sim::queue::EventQueue;
use crate::sim::trace::{Trace, short};
use crate::time::Timestamp;

const TICK: Duration = Duration::from_millis(50);
const STORM: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Event {
    Tick(usize, u64),
    Deliver(usize, usize, Vec<u8>),
    Disk(usize, u64, Ticket),
    Client,
    Operator,
    Fault,
    Crash(usize, u64),
    Restart(usize),
    Uncut(usize, usize),
    Thaw(usize),
}

pub(super) struct Node {
    pub(super) me: Member,
    pub(super) group: Option<Group<Register>>,
    disk: MemoryLog,
    writes: VecDeque<Ticket>,
    disk_free: Timestamp,
    disk_max_us: u64,
    period: Duration,
    boot: u64,
    frozen: bool,
    /// Power goes while its next write is under way.
    doomed: bool,
    late: Vec<Event>,
    proposed: BTreeMap<u64, u64>,
    reads: BTreeMap<u64, u64>,
    seen: Seen,
}

/// How bad the wires are.
#[derive(Clone, Copy)]
struct Wires {
    lost: u32,
    doubled: u32,
    late_per_mille: u32,
    min_us: u64,
    max_us: u64,
}

const CALM: Wires = Wires { lost: 0, doubled: 0, late_per_mille: 0, min_us: 300, max_us: 2_000 };

pub(super) struct World {
    seed: u64,
    pub(super) dice: Dice,
    queue: EventQueue<Event>,
    pub(super) trace: Trace,
    pub(super) nodes: Vec<Node>,
    cuts: BTreeSet<(usize, usize)>,
    wires: Wires,
    ledger: Ledger,
    pub(super) generation: Option<Generation>,
    config: Config,
    next: u64,
    pub(super) calm: bool,
    report: Report,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed ^ 0xc0_0bd);
        let founders = if dice.chance(500) { 3 } else { 5 };
        let spares = dice.between(0, 2) as usize;
        let wires = Wires {
            lost: dice.below(120) as u32,
            doubled: dice.below(100) as u32,
            late_per_mille: dice.below(60) as u32,
            min_us: 300,
            max_us: dice.between(1_000, 40_000),
        };
        let mut config = Config::default().compaction(dice.between(20, 200), 1 << 20, dice.between(0, 20));
        if let Some(bug) = options.planted {
            config = config.plant(bug);
        }
        let config = config.build().expect("in bounds");
        let mut world = Self {
            seed,
            dice,
            queue: EventQueue::default(),
            trace: Trace::new(options.echo),
            nodes: Vec::new(),
            cuts: BTreeSet::new(),
            wires,
            ledger: Ledger::default(),
            generation: None,
            config,
            next: 0,
            calm: false,
            report: Report::default(),
        };
        world.found(founders, spares);
        world
    }

    fn found(&mut self, founders: usize, spares: usize) {
        for n in 0..founders + spares {
            let me = Member { peer: PeerId([n as u8 + 1; 32]), store: StoreId(self.dice.bits()) };
            let period = TICK * self.dice.between(70, 130) as u32 / 100;
            let disk_max_us = if self.dice.chance(200) { 200_000 } else { 5_000 };
            self.nodes.push(Node {
                me,
                group: None,
                disk: MemoryLog::new(),
                writes: VecDeque::new(),
                disk_free: Timestamp::ZERO,
                disk_max_us,
                period,
                boot: 0,
                frozen: false,
                doomed: false,
                late: Vec::new(),
                proposed: BTreeMap::new(),
                reads: BTreeMap::new(),
                seen: Seen::default(),
            });
        }
        let names: Vec<Member> = self.nodes[..founders].iter().map(|node| node.me).collect();
        for n in 0..founders {
            let (config, me, seed) = (self.config.clone(), self.nodes[n].me, self.dice.bits());
            let mut group = Group::found(config, me, &names, Register::default(), seed).expect("a founder");
            self.generation = Some(group.identity().generation);
            // The founding is durable before anybody is told of the group.
            while let Some(output) = group.poll() {
                if let Output::Persist { ticket, writes } = output {
                    let Ok(()) = self.nodes[n].disk.write(&writes);
                    group.persisted(ticket);
                }
            }
            self.nodes[n].group = Some(group);
        }
        for n in founders..founders + spares {
            self.join(n);
        }
        for n in 0..self.nodes.len() {
            self.schedule_tick(n);
        }
        let start = Timestamp::ZERO;
        self.queue.at(start, Event::Client);
        self.queue.at(start + Duration::from_millis(700), Event::Operator);
        self.queue.at(start + Duration::from_millis(900), Event::Fault);
    }

    /// A node begins again as a newcomer with an empty log.
    pub(super) fn join(&mut self, n: usize) {
        let store = StoreId(self.dice.bits());
        let seed = self.dice.bits();
        let node = &mut self.nodes[n];
        node.me.store = store;
        node.disk = MemoryLog::new();
        node.writes.clear();
        node.boot += 1;
        node.seen = Seen::default();
        (node.proposed, node.reads) = Default::default();
        let generation = self.generation.expect("the group is founded");
        node.group = Some(Group::join(self.config.clone(), node.me, generation, Register::default(), seed));
        self.trace.line(self.queue.now(), format_args!("{n} is a newcomer"));
    }

    /// A removed node begins again at once.
    pub(super) fn rejoin(&mut self, n: usize) {
        self.join(n);
        self.schedule_tick(n);
    }

    pub(super) fn run(mut self) -> Result<Report, Box<Failure>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.play()));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Violation::Panicked { what: text.unwrap_or_default() })
        });
        match outcome {
            Ok(()) => {
                self.report.trace = self.trace.hash();
                self.report.leaders = self.ledger.leaders();
                self.report.acknowledged = self.ledger.acknowledged();
                Ok(self.report)
            }
            Err(violation) => {
                let tail = self.trace.tail().map(str::to_owned).collect();
                Err(Box::new(Failure { seed: self.seed, violation, tail }))
            }
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.until(Timestamp::ZERO + STORM)?;
        self.heal();
        let end = self.queue.now() + PATIENCE;
        let mut what = String::new();
        // A proposal and reads of after the storm show that the group lives.
        let alive = self.ledger.last_acknowledged();
        while self.queue.now() < end {
            self.until(self.queue.now() + Duration::from_millis(500))?;
            what = self.missing(alive);
            if what.is_empty() {
                return self.ledger.account();
            }
        }
        Err(Violation::NotHealed { what })
    }

    fn until(&mut self, end: Timestamp) -> Result<(), Violation> {
        while let Some((_, event)) = self.queue.next_until(end) {
            self.report.steps += 1;
            self.step(event)?;
        }
        self.queue.advance(end);
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(n, boot) => {
                if self.nodes[n].boot == boot && !self.nodes[n].frozen {
                    if let Some(group) = &mut self.nodes[n].group {
                        group.tick();
                    }
                    self.pump(n)?;
                }
                if self.nodes[n].boot == boot {
                    self.schedule_tick(n);
                }
            }
            Event::Deliver(_, to, _) | Event::Disk(to, ..) if self.nodes[to].frozen => self.nodes[to].late.push(event),
            Event::Deliver(from, to, bytes) => self.deliver(from, to, &bytes)?,
            Event::Disk(n, boot, ticket) => self.disk_done(n, boot, ticket)?,
            Event::Client => self.client()?,
            Event::Operator => {
                self.operate()?;
                self.after(Duration::from_millis(100), Duration::from_millis(900), Event::Operator);
            }
            Event::Fault => self.fault()?,
            Event::Crash(n, boot) if self.nodes[n].boot == boot && !self.calm => self.crash(n),
            Event::Crash(..) => {}
            Event::Restart(n) => self.restart(n)?,
            Event::Uncut(from, to) => {
                self.cuts.remove(&(from, to));
            }
            Event::Thaw(n) => {
                self.nodes[n].frozen = false;
                for event in std::mem::take(&mut self.nodes[n].late) {
                    self.queue.at(self.queue.now(), event);
                }
            }
        }
        Ok(())
    }

    fn after(&mut self, low: Duration, high: Duration, event: Event) {
        let at = self.queue.now() + self.dice.span(low, high);
        self.queue.at(at, event);
    }

    fn schedule_tick(&mut self, n: usize) {
        let (at, boot) = (self.queue.now() + self.nodes[n].period, self.nodes[n].boot);
        self.queue.at(at, Event::Tick(n, boot));
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) -> Result<(), Violation> {
        let peer = self.nodes[from].me.peer;
        let Some(group) = &mut self.nodes[to].group else { return Ok(()) };
        let refused = group.message(peer, bytes).err();
        let now = self.queue.now();
        self.trace.line(
            now,
            format_args!("{from} -> {to} {} {}", short(bytes), if refused.is_some() { "refused" } else { "" }),
        );
        match refused {
            Some(
                why @ (Refused::Malformed(_)
                | Refused::Impostor
                | Refused::SecondLeader
                | Refused::BeyondLog { .. }
                | Refused::TooManyNewcomers
                | Refused::Generation { .. }),
            ) => Err(Violation::Refused { node: to, why }),
            _ => self.pump(to),
        }
    }

    fn disk_done(&mut self, n: usize, boot: u64, ticket: Ticket) -> Result<(), Violation> {
        let node = &mut self.nodes[n];
        if node.boot != boot || node.writes.front() != Some(&ticket) {
            return Ok(());
        }
        node.writes.pop_front();
        node.disk.sync();
        if let Some(group) = &mut node.group {
            group.persisted(ticket);
        }
        self.pump(n)
    }

    /// Carries out what a node wants, and looks at it.
    pub(super) fn pump(&mut self, n: usize) -> Result<(), Violation> {
        while let Some(output) = self.nodes[n].group.as_mut().and_then(Group::poll) {
            self.carry_out(n, output)?;
        }
        let node = &mut self.nodes[n];
        match &node.group {
            Some(group) => self.ledger.check(n, group, &mut node.seen),
            None => Ok(()),
        }
    }

    fn carry_out(&mut self, n: usize, output: Output<u64>) -> Result<(), Violation> {
        let now = self.queue.now();
        match output {
            Output::Send { to, bytes } => self.send(n, to, bytes),
            Output::Persist { ticket, writes } => {
                let time = Duration::from_micros(self.dice.between(100, self.nodes[n].disk_max_us));
                let node = &mut self.nodes[n];
                node.disk.submit(writes);
                node.writes.push_back(ticket);
                node.disk_free = node.disk_free.max(now) + time;
                let (at, boot) = (node.disk_free, node.boot);
                if std::mem::take(&mut node.doomed) {
                    let at = now + self.dice.span(Duration::ZERO, time);
                    self.queue.at(at, Event::Crash(n, boot));
                }
                self.queue.at(at, Event::Disk(n, boot, ticket));
            }
            Output::Applied { at, .. } => {
                self.trace.line(now, format_args!("{n} applied {}/{}", at.index, at.term));
                let term = self.nodes[n].group.as_ref().map_or(0, |group| group.role().term);
                self.ledger.apply(n, at, term)?;
                if self.nodes[n].proposed.remove(&at.index) == Some(at.term) {
                    self.ledger.acknowledge(at)?;
                }
            }
            Output::Installed { at } => {
                self.report.installed += 1;
                self.trace.line(now, format_args!("{n} installed {}/{}", at.index, at.term));
            }
            Output::ReadReady { ctx, index } => return self.read_ready(n, ctx, index),
            Output::ReadFailed { ctx, .. } => {
                self.nodes[n].reads.remove(&ctx);
            }
            Output::Role(role) => {
                self.trace.line(now, format_args!("{n} is {role:?}"));
                if role.standing != Standing::Leader {
                    // Whether it is committed after all, its client never learns.
                    self.nodes[n].proposed.clear();
                }
            }
            Output::Membership(membership) => {
                let Some(group) = &self.nodes[n].group else { return Ok(()) };
                if group.role().standing == Standing::Leader {
                    self.report.changes += 1;
                }
                let line = format_args!("{n} has {:?}+{:?}", membership.voters, membership.learners);
                self.trace.line(now, line);
            }
            Output::Halted(why) => return Err(Violation::Halted { node: n, why }),
        }
        Ok(())
    }

    fn read_ready(&mut self, n: usize, ctx: u64, index: u64) -> Result<(), Violation> {
        let Some(floor) = self.nodes[n].reads.remove(&ctx) else { return Ok(()) };
        self.report.reads += 1;
        let applied = self.nodes[n].group.as_ref().map_or(0, |group| group.applied().index);
        self.trace.line(self.queue.now(), format_args!("{n} reads at {index}, {applied}"));
        if index < floor || applied < index {
            return Err(Violation::StaleRead { node: n, index: index.min(applied), floor });
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: PeerId, bytes: Vec<u8>) {
        let Some(to) = self.nodes.iter().position(|node| node.me.peer == to) else { return };
        let wires = if self.calm { CALM } else { self.wires };
        if self.cuts.contains(&(from, to)) || self.dice.chance(wires.lost) {
            return;
        }
        let copies = if self.dice.chance(wires.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.dice.between(wires.min_us, wires.max_us);
            if self.dice.chance(wires.late_per_mille) {
                delay += self.dice.below(3_000_000);
            }
            let at = self.queue.now() + Duration::from_micros(delay);
            self.queue.at(at, Event::Deliver(from, to, bytes.clone()));
        }
    }

    fn client(&mut self) -> Result<(), Violation> {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|n| self.is_up(*n)).collect();
        if let Some(n) = self.dice.pick(&up).copied() {
            self.next += 1;
            let op = self.next;
            let floor = self.ledger.applied;
            let reads = self.dice.chance(300);
            let size = 8 + self.dice.below(200) as usize;
            // Mostly the leader is asked; others have to refuse.
            let leader = up.iter().copied().find(|n| self.standing(*n) == Some(Standing::Leader));
            let n = if reads || self.dice.chance(100) { n } else { leader.unwrap_or(n) };
            let node = &mut self.nodes[n];
            if let Some(group) = &mut node.group {
                if reads {
                    if group.read(op).is_ok() {
                        node.reads.insert(op, floor);
                    }
                } else {
                    let mut entry = op.to_le_bytes().to_vec();
                    entry.resize(size, op as u8);
                    if let Ok(Position { index, term }) = group.propose(entry) {
                        node.proposed.insert(index, term);
                    }
                }
            }
            self.pump(n)?;
        }
        self.after(Duration::from_millis(5), Duration::from_millis(50), Event::Client);
        Ok(())
    }

    pub(super) fn is_up(&self, n: usize) -> bool {
        self.nodes[n].group.is_some() && !self.nodes[n].frozen
    }

    pub(super) fn standing(&self, n: usize) -> Option<Standing> {
        self.nodes[n].group.as_ref().map(|group| group.role().standing)
    }

    fn fault(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let n = self.dice.below(self.nodes.len() as u64) as usize;
        match self.dice.below(10) {
            0 | 1 if self.nodes[n].group.is_some() => self.crash(n),
            2 | 3 => self.nodes[n].doomed = true,
            4 | 5 => self.cut_around(n),
            6 => self.cut_one_way(),
            7 if self.is_up(n) => {
                self.trace.line(self.queue.now(), format_args!("{n} is frozen"));
                self.nodes[n].frozen = true;
                self.after(Duration::from_millis(200), Duration::from_secs(4), Event::Thaw(n));
            }
            8 => {
                self.nodes[n].disk_max_us = self.dice.between(1_000, 400_000);
            }
            9 => self.maybe_wipe(n),
            _ => {}
        }
        self.after(Duration::from_millis(100), Duration::from_millis(1_500), Event::Fault);
        Ok(())
    }

    fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let whole = self.dice.between(0, node.disk.waiting() as u64) as usize;
        let rows = self.dice.between(0, node.disk.waiting_rows() as u64) as usize;
        self.report.crashes += 1;
        if node.disk.waiting() > whole && rows > 0 {
            self.report.torn += 1;
        }
        node.disk.crash(whole, rows);
        node.writes.clear();
        node.doomed = false;
        node.group = None;
        node.boot += 1;
        (node.proposed, node.reads) = Default::default();
        self.trace.line(self.queue.now(), format_args!("{n} crashes, keeps {whole} writes and {rows} rows"));
        self.after(Duration::from_millis(50), Duration::from_secs(3), Event::Restart(n));
    }

    fn restart(&mut self, n: usize) -> Result<(), Violation> {
        if self.nodes[n].group.is_some() {
            return Ok(());
        }
        let Ok(rows) = self.nodes[n].disk.rows();
        let me = self.nodes[n].me;
        let seed = self.dice.bits();
        let machine = Register::default();
        let opened = if rows.is_empty() {
            let generation = self.generation.expect("the group is founded");
            Ok(Group::join(self.config.clone(), me, generation, machine, seed))
        } else {
            Stored::open(rows).and_then(|stored| Group::open(self.config.clone(), stored, machine, seed))
        };
        self.trace.line(self.queue.now(), format_args!("{n} restarts"));
        let node = &mut self.nodes[n];
        node.group = Some(opened.map_err(|why| Violation::DoesNotOpen { node: n, why })?);
        node.seen = Seen::default();
        node.disk_free = self.queue.now();
        self.schedule_tick(n);
        self.pump(n)
    }

    fn cut_around(&mut self, n: usize) {
        // Some of the node's links, both ways: with few of them the cut is not transitive.
        let per_mille = self.dice.between(300, 1_000) as u32;
        let links: Vec<usize> =
            (0..self.nodes.len()).filter(|other| *other != n && self.dice.chance(per_mille)).collect();
        let long = self.dice.span(Duration::from_millis(300), Duration::from_secs(5));
        self.trace.line(self.queue.now(), format_args!("{n} is cut from {links:?}"));
        for other in links {
            self.cut(n, other, long);
            self.cut(other, n, long);
        }
    }

    fn cut_one_way(&mut self) {
        let count = self.nodes.len() as u64;
        let (from, to) = (self.dice.below(count) as usize, self.dice.below(count) as usize);
        let long = self.dice.span(Duration::from_millis(300), Duration::from_secs(5));
        self.trace.line(self.queue.now(), format_args!("{from} is not heard by {to}"));
        self.cut(from, to, long);
    }

    fn cut(&mut self, from: usize, to: usize, long: Duration) {
        self.cuts.insert((from, to));
        let at = self.queue.now() + long;
        self.queue.at(at, Event::Uncut(from, to));
    }

    /// A voter loses its disk, if the group can bear it: nobody else's is lost and not replaced.
    fn maybe_wipe(&mut self, n: usize) {
        let Some(leader) = self.leader() else { return };
        let Some(group) = &self.nodes[leader].group else { return };
        let membership = group.membership();
        let lives = |member: &Member| self.nodes.iter().any(|node| node.me == *member);
        let dead = membership.members.values().filter(|member| !lives(member)).count();
        let behind = self.ledger.applied > group.applied().index;
        if dead > 0 || behind || membership.is_joint() || membership.voters.len() < 3 || n == leader {
            return;
        }
        self.report.crashes += 1;
        self.trace.line(self.queue.now(), format_args!("{n} loses its disk"));
        let up = self.nodes[n].group.is_some();
        self.join(n);
        if up {
            self.schedule_tick(n);
        } else {
            // Its restart is on its way.
            self.nodes[n].group = None;
        }
    }

    /// The leader of the newest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| self.is_up(*n) && self.standing(*n) == Some(Standing::Leader);
        let term = |n: &usize| self.nodes[*n].group.as_ref().map_or(0, |group| group.role().term);
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    fn heal(&mut self) {
        self.calm = true;
        self.cuts.clear();
        let now = self.queue.now();
        self.trace.line(now, format_args!("all is healed"));
        for n in 0..self.nodes.len() {
            self.nodes[n].disk_max_us = 5_000;
            if self.nodes[n].frozen {
                self.queue.at(now, Event::Thaw(n));
            }
            if self.nodes[n].group.is_none() {
                self.queue.at(now, Event::Restart(n));
            }
        }
    }

    /// What the healed group still lacks, empty if nothing.
    fn missing(&self, alive: u64) -> String {
        let Some(leader) = self.leader() else { return "nobody leads".to_owned() };
        let Some(group) = &self.nodes[leader].group else { return "nobody leads".to_owned() };
        if self.ledger.last_acknowledged() <= alive {
            return "nothing was acknowledged since".to_owned();
        }
        let floor = self.ledger.last_acknowledged();
        for member in group.membership().members.values() {
            let Some(node) = self.nodes.iter().find(|node| node.me == *member) else { continue };
            let applied = node.group.as_ref().map_or(0, |group| group.applied().index);
            if applied + 50 < floor {
                return format!("{} applied {applied} of {floor}", member.peer.0[0] - 1);
            }
        }
        String::new()
    }
}
