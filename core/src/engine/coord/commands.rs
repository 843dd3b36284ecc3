//! Programs' commands: sessions, requests, changes of the group.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_core::Rng as _;

use super::api::{
    ClientId, CoordCommand, CoordEvent, CoordFailure, CoordReply, CoordStatus, MAX_DIGEST_BYTES, Operation,
};
use super::{
    ENLIST, ENLIST_AGAIN, ENLIST_TIMEOUT, Enlisting, Loaded, MAX_PARKED, Program, RoleNow, TALK, Told, Waiting,
    voters_of,
};
use crate::coord::command::Command as Request;
use crate::coord::raft::Group;
use crate::coord::raft::group::ChangeError;
use crate::coord::reply::Answer;
use crate::coord::serve::client::{Client, Options, State};
use crate::coord::{Machine, Replicated as _};
use crate::engine::command::Outcome;
use crate::engine::{CommandError, Engine, Event, Reply};
use crate::id::{PeerId, SpaceId};
use crate::io::{Output, RequestId};
use crate::wire::Codec;

/// Most sessions of one store's programs.
const MAX_CLIENTS: usize = 4_096;

pub(super) fn answered(reply: CoordReply) -> Result<Reply, CommandError> {
    Ok(Reply::Coord(reply))
}

pub(super) fn failed(failure: impl Into<CoordFailure>) -> CommandError {
    CommandError::Coord(failure.into())
}

impl Engine {
    pub(in crate::engine) fn on_coord_command(&mut self, request: RequestId, command: CoordCommand) -> Outcome {
        if !matches!(self.coord.loaded, Loaded::Yes) {
            if self.coord.parked.len() >= MAX_PARKED {
                return Err(failed(CoordFailure::Busy));
            }
            self.coord.parked.push((request, command));
            self.load_coord();
            return Ok(None);
        }
        match command {
            CoordCommand::Start => answered(CoordReply::Done).map(Some),
            CoordCommand::Open { space, ttl } => self.open_client(space, ttl),
            CoordCommand::Call { client, command, wait } => {
                self.ask_client(client, request, wait, false, |now, client| Ok(client.call(now, command)?))
            }
            CoordCommand::Read { client, query, linear, watch, wait } => {
                self.ask_client(client, request, wait, true, |now, client| Ok(client.read(now, query, linear, watch)?))
            }
            CoordCommand::Watch { client, watch, path, on, wait } => {
                self.ask_client(client, request, wait, true, |now, client| Ok(client.watch(now, watch, path, on)?))
            }
            CoordCommand::Close { client } => self.close_client(client, request),
            CoordCommand::Lease { client } => self.lease(client),
            CoordCommand::OpenLine { space } => self.open_line(space),
            CoordCommand::Say { line, asks } => self.say(line, asks),
            CoordCommand::EndLine { line } => {
                self.end_line(line);
                answered(CoordReply::Done).map(Some)
            }
            CoordCommand::Status { space, hash } => {
                self.space(&space)?;
                self.ensure_voter(space);
                answered(CoordReply::Status(Box::new(self.coord_status(space, hash)))).map(Some)
            }
            CoordCommand::Operate { space, operation } => self.operate(space, request, operation),
        }
    }

    fn open_client(&mut self, space: SpaceId, ttl: Duration) -> Outcome {
        // Whoever has just joined may not have heard of the voters yet; its creator has.
        let found = self.space(&space)?;
        if found.roster.voters().len() == 0 && found.record.root_seed.is_some() {
            return Err(failed(CoordFailure::NoQuorum));
        }
        if self.coord.programs.len() >= MAX_CLIENTS {
            return Err(failed(CoordFailure::Busy));
        }
        let own = self.ensure_voter(space).then(|| self.identity().peer);
        let voters: Vec<PeerId> = own.into_iter().chain(self.linked_voters(space)).collect();
        self.coord.last_client += 1;
        let id = ClientId(self.coord.last_client);
        // Drawn, since a voter may still know channels of an earlier life of this peer.
        let channel = self.rng.next_u64() >> 16;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let seed = self.draw();
        let client = Client::new(Options { ttl_ms, channel }, voters, seed, self.coord.now);
        let program = Program { space, client, calls: BTreeMap::new(), reads: BTreeMap::new(), closing: None };
        self.coord.programs.insert(id, program);
        self.coord.ticked.get_or_insert(self.now.mono);
        answered(CoordReply::Client(id)).map(Some)
    }

    fn ask_client(
        &mut self,
        id: ClientId,
        request: RequestId,
        wait: Option<Duration>,
        read: bool,
        ask: impl FnOnce(u64, &mut Client) -> Result<u64, CoordFailure>,
    ) -> Outcome {
        let now = self.coord.now;
        let program = self.coord.programs.get_mut(&id).ok_or_else(|| failed(CoordFailure::UnknownClient))?;
        let name = ask(now, &mut program.client).map_err(failed)?;
        let until = wait.map(|wait| now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        let waiting = if read { &mut program.reads } else { &mut program.calls };
        waiting.insert(name, Waiting { request, until });
        Ok(None)
    }

    fn lease(&mut self, id: ClientId) -> Outcome {
        // This may be the first thing that happens after a long sleep.
        self.coord_time();
        let now = self.coord.now;
        let program = self.coord.programs.get(&id).ok_or_else(|| failed(CoordFailure::UnknownClient))?;
        let left = program.client.lease_until().map_or(0, |until| until.saturating_sub(now));
        answered(CoordReply::Lease(Duration::from_millis(left))).map(Some)
    }

    fn close_client(&mut self, id: ClientId, request: RequestId) -> Outcome {
        let now = self.coord.now;
        let Some(program) = self.coord.programs.get_mut(&id) else {
            return answered(CoordReply::Done).map(Some);
        };
        let open = program.client.session().is_some() && program.client.state() != State::Lost;
        // Whether it can be closed now or is left to its time, the program is done with it.
        let sent = program.client.call(now, Request::Close).is_ok();
        program.closing = Some((Some(request), now + program.client.options().ttl_ms));
        if !open || !sent {
            self.end_program(id);
        }
        Ok(None)
    }

    pub(in crate::engine) fn cancel_coord(&mut self, target: RequestId) {
        let now = self.coord.now;
        let mut found = None;
        for program in self.coord.programs.values_mut() {
            let call = program.calls.iter().find(|(_, waiting)| waiting.request == target).map(|(name, _)| *name);
            if let Some(name) = call {
                program.calls.remove(&name);
                found = Some(program.client.give_up(now, name).map_or(CoordFailure::Unknown, CoordFailure::from));
            }
            let before = program.reads.len();
            program.reads.retain(|_, waiting| waiting.request != target);
            if program.reads.len() < before {
                found = Some(CoordFailure::NoQuorum);
            }
        }
        let before = self.coord.enlisting.len();
        self.coord.enlisting.retain(|_, asked| asked.request != target);
        if self.coord.enlisting.len() < before {
            found = Some(CoordFailure::NoQuorum);
        }
        if let Some(failure) = found {
            self.reply(target, Err(failed(failure)));
        }
    }

    /// Linked peers whose devices may vote.
    pub(super) fn linked_voters(&self, space: SpaceId) -> Vec<PeerId> {
        let linked = self.links.values().filter_map(|link| {
            let device = link.spaces.get(&space)?.device?;
            self.may_vote(space, &device).then_some(link.peer)
        });
        linked.collect()
    }

    /// Deadlines of programs, and of sessions that they left.
    pub(super) fn tick_programs(&mut self) {
        let now = self.coord.now;
        // The grants that make voters of peers may come after the peers.
        let lost: Vec<(ClientId, SpaceId)> = self
            .coord
            .programs
            .iter()
            .filter(|(_, program)| program.client.voter().is_none())
            .map(|(id, program)| (*id, program.space))
            .collect();
        for (id, space) in lost {
            let mut voters = self.linked_voters(space);
            if self.coord.voters.contains_key(&space) {
                voters.push(self.identity().peer);
            }
            if let Some(program) = self.coord.programs.get_mut(&id) {
                program.client.know_voters(now, voters);
            }
        }
        let (mut late, mut over) = (Vec::new(), Vec::new());
        let due = |waiting: &Waiting| waiting.until.is_some_and(|until| until <= now);
        for (id, program) in &mut self.coord.programs {
            program.client.tick(now);
            let calls: Vec<u64> = program.calls.iter().filter(|(_, w)| due(w)).map(|(name, _)| *name).collect();
            for name in calls {
                if let Some(waiting) = program.calls.remove(&name) {
                    let why = program.client.give_up(now, name).map_or(CoordFailure::Unknown, CoordFailure::from);
                    late.push((waiting.request, why));
                }
            }
            let reads: Vec<u64> = program.reads.iter().filter(|(_, w)| due(w)).map(|(name, _)| *name).collect();
            let reads = reads.iter().filter_map(|name| program.reads.remove(name));
            late.extend(reads.map(|waiting| (waiting.request, CoordFailure::NoQuorum)));
            if program.closing.is_some_and(|(_, until)| until <= now) {
                over.push(*id);
            }
        }
        late.into_iter().for_each(|(request, why)| self.reply(request, Err(failed(why))));
        over.into_iter().for_each(|id| self.end_program(id));
    }

    fn end_program(&mut self, id: ClientId) {
        let Some(program) = self.coord.programs.remove(&id) else { return };
        let waiting = program.calls.into_values().chain(program.reads.into_values());
        waiting.for_each(|waiting| self.reply(waiting.request, Err(failed(CoordFailure::Lost))));
        if let Some((Some(request), _)) = program.closing {
            self.reply(request, answered(CoordReply::Done));
        }
    }

    /// Carries out what a client wants.
    pub(super) fn on_told(&mut self, id: ClientId, told: Told) {
        let Some(program) = self.coord.programs.get_mut(&id) else { return };
        let space = program.space;
        match told {
            Told::Reach(peer) => {
                let now = self.coord.now;
                if self.member(space, peer).is_none() {
                    self.out.push_back(Output::Reach { peer });
                } else if let Some(program) = self.coord.programs.get_mut(&id) {
                    program.client.linked(now, peer);
                }
            }
            Told::Send { to, bytes } => self.send_coord(space, to, TALK, bytes),
            // The program hears of the outcome.
            Told::Reply { reply: Ok(Answer::Queued { .. }), .. } => {}
            Told::Reply { call, zxid, reply } => {
                if let Some(waiting) = program.calls.remove(&call) {
                    let answer = reply.map_err(|error| failed(CoordFailure::Coord(error)));
                    let result = answer.and_then(|answer| answered(CoordReply::Answer { zxid, answer }));
                    self.reply(waiting.request, result);
                }
            }
            Told::Failed { call, why } => {
                if let Some(waiting) = program.calls.remove(&call) {
                    self.reply(waiting.request, Err(failed(why)));
                }
            }
            Told::Read { read, zxid, found } => {
                if let Some(waiting) = program.reads.remove(&read) {
                    let result = found.map_err(failed).and_then(|found| answered(CoordReply::Found { zxid, found }));
                    self.reply(waiting.request, result);
                }
            }
            Told::Event { zxid, kind, path } => {
                self.emit(Event::Coord(CoordEvent::Changed { client: id, zxid, kind, path }));
            }
            Told::State(state) => {
                let session = program.client.session();
                let closing = program.closing.is_some();
                self.emit(Event::Coord(CoordEvent::State { client: id, state, session }));
                if state == State::Lost && closing {
                    self.end_program(id);
                }
            }
        }
    }

    fn coord_status(&self, space: SpaceId, hash: bool) -> CoordStatus {
        let broken = self.coord.broken.get(&space).cloned();
        let Some(voter) = self.coord.voters.get(&space) else {
            return CoordStatus { broken, ..CoordStatus::default() };
        };
        let (group, membership) = (voter.group(), voter.group().membership());
        let peer = |id| membership.members.get(&id).map(|member| member.peer);
        let (role, machine) = (group.role(), group.machine());
        let hashed = hash && machine.tree().bytes() + machine.queues().bytes() <= MAX_DIGEST_BYTES;
        let digest = hashed.then(|| machine.digest().iter().map(|byte| format!("{byte:02x}")).collect());
        CoordStatus {
            serves: true,
            leads: RoleNow::of(role).leads,
            term: role.term,
            leader: role.leader.and_then(peer),
            voters: voters_of(membership),
            learners: membership.learners.iter().copied().filter_map(peer).collect(),
            applied: group.applied().index,
            committed: group.committed(),
            sessions: machine.sessions().len() as u64,
            nodes: machine.tree().len() as u64,
            ephemerals: machine.tree().ephemeral_count() as u64,
            tree_bytes: machine.tree().bytes() as u64,
            watches: {
                let (paths, clients) = voter.watches().spread();
                (voter.watches().len() as u64, paths as u64, clients as u64)
            },
            last: group.last_index(),
            progress: group.progress().filter_map(|(id, matched)| Some((peer(id)?, matched))).collect(),
            proposals: group.counters().proposals,
            digest: digest.unwrap_or_default(),
            generation: membership.generation.number,
            broken,
        }
    }

    fn operate(&mut self, space: SpaceId, request: RequestId, operation: Operation) -> Outcome {
        self.space(&space)?;
        if matches!(operation, Operation::Rebuild) {
            return self.rebuild_group(space, request);
        }
        self.ensure_voter(space);
        let Some(voter) = self.coord.voters.get(&space) else { return Err(failed(CoordFailure::NotServing)) };
        let membership = voter.group().membership().clone();
        let role = voter.group().role();
        if !RoleNow::of(role).leads {
            let leader = role.leader.and_then(|id| membership.members.get(&id)).map(|member| member.peer);
            return Err(failed(CoordFailure::NotLeader { leader }));
        }
        let id = |peer: PeerId| {
            let found = membership.members.iter().find(|(_, member)| member.peer == peer).map(|(id, _)| *id);
            found.ok_or_else(|| failed(CoordFailure::NotAMember))
        };
        let change: Box<dyn FnOnce(&mut Group<Machine>) -> Result<(), ChangeError>> = match operation {
            Operation::Add(peer) => return self.enlist(space, request, peer, &membership.generation.to_bytes()),
            Operation::Promote(peer) => {
                let id = id(peer)?;
                Box::new(move |group| group.promote(id).map(drop))
            }
            Operation::Remove(peer) => {
                let id = id(peer)?;
                Box::new(move |group| group.remove(id).map(drop))
            }
            Operation::Replace { voter, newcomer } => {
                let (voter, newcomer) = (id(voter)?, id(newcomer)?);
                Box::new(move |group| group.replace(voter, newcomer).map(drop))
            }
            Operation::Transfer(peer) => {
                let id = id(peer)?;
                Box::new(move |group| group.transfer_leadership(id))
            }
            // Carried out above: it needs no leader.
            Operation::Rebuild => return Err(failed(CoordFailure::NotServing)),
            Operation::HandOver => {
                let nobody = || failed(CoordFailure::Change("no other voter answers that could lead".into()));
                let id = voter.group().successor().ok_or_else(nobody)?;
                Box::new(move |group| group.transfer_leadership(id))
            }
        };
        let Some(voter) = self.coord.voters.get_mut(&space) else { return Err(failed(CoordFailure::NotServing)) };
        voter.operate(change).map_err(|error| failed(CoordFailure::from_change(error)))?;
        answered(CoordReply::Done).map(Some)
    }

    /// Asks a newcomer for its store; its answer makes it a learner.
    fn enlist(&mut self, space: SpaceId, request: RequestId, peer: PeerId, generation: &[u8]) -> Outcome {
        let votes = self.member(space, peer).is_some_and(|device| self.may_vote(space, &device));
        if !votes || peer == self.identity().peer {
            return Err(failed(CoordFailure::NotAVoter));
        }
        let now = self.now.mono;
        let asked = Enlisting { request, ask_at: now + ENLIST_AGAIN, until: now + ENLIST_TIMEOUT };
        if let Some(earlier) = self.coord.enlisting.insert((space, peer), asked) {
            self.reply(earlier.request, Err(CommandError::Cancelled));
        }
        self.send_coord(space, peer, ENLIST, generation.to_vec());
        Ok(None)
    }
}
