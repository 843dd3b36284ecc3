//! A run: programs, an operator, and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Violation;
use super::net::Wires;
use super::program::{APPENDED, Program, REGISTERS, create};
use super::world::{Event, World};
use super::{Options, Report};
use crate::coord::op::{Mode, OpAnswer};
use crate::coord::raft::{Config, Member, MemberId, Standing};
use crate::coord::reply::Answer;
use crate::coord::serve::client::{Output, State};
use crate::sim::dice::Dice;
use crate::time::Timestamp;

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(12);

/// How long it may take afterwards until everything is as it should be.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run of one seed.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) programs: Vec<Program>,
    /// Numbers that programs have written.
    pub(super) numbers: u64,
    /// The entry that made each register.
    pub(super) made: BTreeMap<usize, u64>,
    ttls: Vec<u64>,
}

impl Run {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed ^ 0x0c00_bd5e);
        let founders = if dice.chance(600) { 3 } else { 5 };
        let spares = dice.between(0, 2) as usize;
        let clients = dice.between(4, 16) as usize;
        let wires = Wires {
            lost: dice.below(80) as u32,
            doubled: dice.below(60) as u32,
            late: dice.below(40) as u32,
            between_us: (300, dice.between(1_000, 40_000)),
        };
        let config = Config::default().compaction(dice.between(20, 400), 1 << 20, dice.between(0, 40));
        let mut world = World::new(dice, wires, config, options.planted, options.echo);
        world.found(founders, spares, true);
        if world.dice.chance(300) {
            world.seats.iter_mut().for_each(|seat| seat.disk_max_us = 150_000);
        }
        let ttls: Vec<u64> = (0..clients).map(|_| world.dice.between(1_500, 8_000)).collect();
        for ttl_ms in &ttls {
            world.add_client(*ttl_ms, true);
        }
        let programs = (0..clients).map(|_| Program::default()).collect();
        Self { world, programs, numbers: 0, made: BTreeMap::new(), ttls }
    }

    pub(super) fn report(&mut self) -> Report {
        let voters = self.world.seats.iter().filter_map(|seat| seat.voter.as_ref());
        let installed = voters.map(|voter| voter.group().counters().snapshots_installed).sum();
        Report { trace: self.world.hash(), leaders: self.world.checks.ledger.leaders(), installed, ..self.world.report }
    }

    pub(super) fn tail(&self) -> Vec<String> {
        let lines: Vec<String> = self.world.trace.tail().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(80)..].to_vec()
    }

    pub(super) fn play(&mut self) -> Result<(), Violation> {
        self.prepare()?;
        for c in 0..self.programs.len() {
            self.act_later(c);
        }
        self.world.after(700, 700, Event::Operator);
        self.world.after(300, 900, Event::Fault);
        let end = self.world.queue.now() + STORM;
        self.until(end)?;
        self.heal();
        self.conclude()
    }

    /// The first client makes what all of them use.
    fn prepare(&mut self) -> Result<(), Violation> {
        let storm = std::mem::replace(&mut self.world.net.wires, Wires::CALM);
        let now = self.world.client_ms(0);
        let paths = REGISTERS.into_iter().chain([APPENDED, "/x"]);
        let mut calls = BTreeMap::new();
        for (n, path) in paths.enumerate() {
            let call = self.world.clients[0].call(now, create(path, 0, Mode::Persistent, false));
            calls.insert(call.expect("a client that has just begun"), n);
        }
        (0..self.programs.len()).try_for_each(|c| self.world.pump_client(c))?;
        let end = Timestamp::ZERO + PATIENCE;
        while !calls.is_empty() {
            let Some((_, event)) = self.world.queue.next_until(end) else {
                return Err(Violation::NotHealed { what: "the beginning".to_owned() });
            };
            self.world.step(event)?;
            for c in 0..self.programs.len() {
                while let Some(told) = self.world.told[c].pop_front() {
                    match told {
                        Output::Reply { call, reply, .. } => match (calls.remove(&call), reply) {
                            (Some(n), Ok(Answer::Op(OpAnswer::Created { stat, .. }))) => self.on_made(c, n, &stat),
                            (_, reply) => {
                                let answer = format!("{reply:?} to a creation at the beginning");
                                return Err(Violation::Strange { client: c, answer });
                            }
                        },
                        told => self.on_told(c, told)?,
                    }
                }
            }
        }
        self.world.net.wires = storm;
        Ok(())
    }

    fn until(&mut self, end: Timestamp) -> Result<(), Violation> {
        while let Some((_, event)) = self.world.queue.next_until(end) {
            self.world.report.steps += 1;
            match event {
                Event::Act(c, boot) => {
                    let n = self.world.party_of(c);
                    if self.world.parties[n].boot == boot {
                        if !self.world.parties[n].frozen {
                            self.act(c)?;
                        }
                        self.act_later(c);
                    }
                }
                Event::Operator => {
                    self.operate()?;
                    self.world.after(200, 1_200, Event::Operator);
                }
                Event::Fault => self.fault()?,
                event => self.world.step(event)?,
            }
            self.listen()?;
        }
        self.world.queue.advance(end);
        Ok(())
    }

    /// Programs take what they were told, and nobody holds what somebody else holds.
    fn listen(&mut self) -> Result<(), Violation> {
        for c in 0..self.programs.len() {
            if self.world.told[c].is_empty() {
                continue;
            }
            while let Some(told) = self.world.told[c].pop_front() {
                self.on_told(c, told)?;
            }
            self.check_rivals(c)?;
            if self.world.clients[c].state() == State::Lost {
                self.begin_anew(c);
            }
        }
        Ok(())
    }

    fn check_rivals(&self, c: usize) -> Result<(), Violation> {
        if !self.may_act(c) {
            return Ok(());
        }
        match self.world.checks.rivals(c).into_iter().find(|(_, other)| self.may_act(*other)) {
            Some((name, second)) => {
                Err(Violation::TwoHolders { first: c, second, kind: name.0, path: name.1.to_owned() })
            }
            None => Ok(()),
        }
    }

    fn act_later(&mut self, c: usize) {
        let boot = self.world.parties[self.world.party_of(c)].boot;
        self.world.after(20, 400, Event::Act(c, boot));
    }

    /// Another session, for a program that forgot everything.
    fn begin_anew(&mut self, c: usize) {
        self.programs[c] = Program::default();
        self.world.renew_client(c, self.ttls[c]);
        self.act_later(c);
    }

    fn fault(&mut self) -> Result<(), Violation> {
        if self.world.calm {
            return Ok(());
        }
        let voters = self.world.seats.len() as u64;
        let all = self.world.parties.len() as u64;
        let n = self.world.dice.below(voters) as usize;
        let any = self.world.dice.below(all) as usize;
        let long = self.world.dice.between(200, 6_000);
        match self.world.dice.below(23) {
            0..4 if self.world.seats[n].voter.is_some() => {
                self.world.crash(n);
                self.world.after(50, 3_000, Event::Restart(n));
            }
            4..7 => self.cut_around(any, long),
            7 | 8 => {
                let other = self.world.dice.below(all) as usize;
                if any != other {
                    self.world.cut(any, other, long);
                }
            }
            9..12 if !self.world.parties[any].frozen => {
                self.world.freeze(any);
                self.world.after(long, long, Event::Thaw(any));
            }
            12 => self.world.seats[n].disk_max_us = self.world.dice.between(1_000, 300_000),
            13 => {
                let jump = self.world.dice.between(0, 7_200_000) as i64 - 3_600_000;
                self.world.parties[any].clock.wall_ms += jump;
            }
            14..17 => {
                let c = (voters + self.world.dice.below(all - voters)) as usize;
                self.world.break_link(n, c);
            }
            17 if self.world.dice.chance(300) => {
                // A program is killed, and started again.
                let c = self.world.dice.below(all - voters) as usize;
                let party = self.world.party_of(c);
                (0..voters as usize).for_each(|n| self.world.break_link(n, party));
                self.begin_anew(c);
            }
            18 => self.maybe_wipe(n)?,
            // A leader that does not know yet that it was deposed.
            19 | 20 => {
                if let Some(leader) = self.world.leader() {
                    self.isolate(leader, long);
                }
            }
            21 => {
                if let Some(leader) = self.world.leader() {
                    self.world.freeze(leader);
                    self.world.after(long, long, Event::Thaw(leader));
                }
            }
            // The power goes for all of them at once.
            22 => {
                for n in (0..voters as usize).filter(|n| self.world.seats[*n].voter.is_some()).collect::<Vec<_>>() {
                    self.world.crash(n);
                    self.world.after(50, 1_000, Event::Restart(n));
                }
            }
            _ => {}
        }
        self.world.after(100, 1_500, Event::Fault);
        Ok(())
    }

    /// Some of the links of one party, both ways: with few of them the cut is not transitive.
    fn cut_around(&mut self, n: usize, ms: u64) {
        let share = self.world.dice.between(300, 1_000) as u32;
        for other in (0..self.world.parties.len()).filter(|other| *other != n) {
            if self.world.dice.chance(share) {
                self.world.cut(n, other, ms);
                self.world.cut(other, n, ms);
            }
        }
    }

    /// A voter hears no other voter, and its clients do hear it.
    fn isolate(&mut self, n: usize, ms: u64) {
        for other in (0..self.world.seats.len()).filter(|other| *other != n) {
            self.world.cut(n, other, ms);
            self.world.cut(other, n, ms);
        }
    }

    /// A voter loses its disk, if the group can bear it.
    fn maybe_wipe(&mut self, n: usize) -> Result<(), Violation> {
        let Some(leader) = self.world.leader() else { return Ok(()) };
        let Some(voter) = &self.world.seats[leader].voter else { return Ok(()) };
        let membership = voter.group().membership();
        let lives = |member: &Member| self.world.seats.iter().any(|seat| seat.member == *member);
        let dead = membership.members.values().filter(|member| !lives(member)).count();
        let behind = self.world.checks.ledger.applied > voter.group().applied().index;
        let small = membership.voters.len() < 3;
        if dead > 0 || behind || membership.is_joint() || small || n == leader || self.world.seats[n].voter.is_none() {
            return Ok(());
        }
        self.world.report.crashes += 1;
        self.world.report.newcomers += 1;
        self.world.join(n);
        self.world.pump_voter(n)
    }

    fn operate(&mut self) -> Result<(), Violation> {
        self.retire()?;
        let Some(leader) = self.world.leader() else { return Ok(()) };
        let names: Vec<Member> = self.world.seats.iter().map(|seat| seat.member).collect();
        let (choice, bits, calm) = (self.world.dice.below(8), self.world.dice.bits(), self.world.calm);
        let Some(voter) = &mut self.world.seats[leader].voter else { return Ok(()) };
        let membership = voter.group().membership().clone();
        let me = voter.group().identity().id;
        let pick = |from: Vec<MemberId>| from.get(bits as usize % from.len().max(1)).copied();
        let dead = membership.members.iter().find(|(_, member)| !names.contains(member)).map(|(id, _)| *id);
        let learner = pick(membership.learners.iter().filter(|id| Some(**id) != dead).copied().collect());
        let other = pick(membership.voters.iter().filter(|id| Some(**id) != me).copied().collect());
        let spare = names.iter().find(|name| membership.id_of(name).is_none()).copied();
        let joins = matches!((choice, spare), (0 | 1, Some(_)));
        // What is refused is asked for again another time: the operator is patient.
        let _ = voter.operate(|group| match (choice, spare, learner) {
            (0 | 1, Some(spare), _) => group.add_learner(spare).map(drop),
            (0..=2, _, Some(learner)) if dead.is_some_and(|dead| membership.voters.contains(&dead)) => {
                group.replace(dead.unwrap_or(learner), learner).map(drop)
            }
            (2, _, Some(learner)) if membership.voters.len() < 5 => group.promote(learner).map(drop),
            (3, _, Some(learner)) if !calm => other.map_or(Ok(()), |other| group.replace(other, learner).map(drop)),
            (4, ..) if membership.voters.len() > 3 && !calm => {
                dead.or(other).map_or(Ok(()), |gone| group.remove(gone).map(drop))
            }
            (5 | 6, ..) if !calm => other.map_or(Ok(()), |other| group.transfer_leadership(other)),
            _ => Ok(()),
        });
        self.world.report.newcomers += u64::from(joins);
        self.world.pump_voter(leader)
    }

    /// Whoever was removed begins again as a newcomer.
    fn retire(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.world.leader() else { return Ok(()) };
        let Some(voter) = &self.world.seats[leader].voter else { return Ok(()) };
        let membership = voter.group().membership().clone();
        for n in (0..self.world.seats.len()).filter(|n| *n != leader) {
            let Some(voter) = &self.world.seats[n].voter else { continue };
            let given = voter.group().identity().id.is_some_and(|id| id.0 < membership.next_id);
            let gone = given && membership.id_of(&voter.group().identity().me).is_none();
            if !self.world.parties[n].frozen && (gone || voter.group().role().standing == Standing::Removed) {
                self.world.join(n);
                self.world.pump_voter(n)?;
            }
        }
        Ok(())
    }

    fn heal(&mut self) {
        let world = &mut self.world;
        world.calm = true;
        world.net.wires = Wires::CALM;
        let now = world.queue.now();
        world.trace.line(now, format_args!("all is healed"));
        for (from, to) in world.net.cuts.clone() {
            world.queue.at(now, Event::Uncut(from, to));
        }
        for n in 0..world.parties.len() {
            if world.parties[n].frozen {
                world.queue.at(now, Event::Thaw(n));
            }
        }
        for n in 0..world.seats.len() {
            world.seats[n].disk_max_us = 3_000;
            world.queue.at(now, Event::Restart(n));
        }
    }

    fn conclude(&mut self) -> Result<(), Violation> {
        let end = self.world.queue.now() + PATIENCE;
        let mut what = String::new();
        while self.world.queue.now() < end {
            self.until(self.world.queue.now() + Duration::from_millis(500))?;
            what = self.missing();
            if what.is_empty() {
                return self.account();
            }
        }
        Err(Violation::NotHealed { what })
    }

    fn account(&mut self) -> Result<(), Violation> {
        let furthest = self.world.seats.iter().filter_map(|seat| seat.voter.as_ref());
        let furthest = furthest.max_by_key(|voter| voter.group().applied().index).expect("somebody leads");
        let (operations, undecided) = self.world.checks.account(furthest.group().machine())?;
        self.world.report.operations = operations;
        self.world.report.undecided = undecided;
        Ok(())
    }

    /// What the healed world still lacks, empty if nothing.
    fn missing(&self) -> String {
        let Some(leader) = self.world.leader() else { return "nobody leads".to_owned() };
        for (c, program) in self.programs.iter().enumerate() {
            let state = self.world.clients[c].state();
            if state != State::Connected || program.lacks() > 0 {
                return format!("client {c} is {state:?} and lacks {program:?}");
            }
        }
        let Some(voter) = &self.world.seats[leader].voter else { return "nobody leads".to_owned() };
        let floor = voter.group().committed();
        for member in voter.group().membership().members.values() {
            let Some(seat) = self.world.seats.iter().find(|seat| seat.member == *member) else { continue };
            let applied = seat.voter.as_ref().map_or(0, |voter| voter.group().applied().index);
            if applied < floor {
                let counters = seat.voter.as_ref().map(|voter| voter.group().counters());
                return format!("{:?} applied {applied} of {floor}: {counters:?}", member.peer);
            }
        }
        String::new()
    }
}
