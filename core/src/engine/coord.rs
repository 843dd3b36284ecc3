//! The strong path in the engine: voters and clients, on links, writes and clocks.
//!
//! The protocol is [`crate::coord`]; here it learns who is linked and who may vote, its rows reach the store, and programs'
//! commands become requests of a session. Frames travel on a stream of their own, so that they never wait behind documents:
//!
//! ```text
//! space[32] · 0 · frame of crate::coord::serve::talk
//! space[32] · 1 · generation                       a voter enlists a newcomer
//! space[32] · 2 · store u64                        the newcomer's answer; without a store: it never votes
//! ```
//!
//! **Who is heard.** A frame counts only from a peer that proved on a sync stream to be a member of that space; consensus only
//! from one whose device holds a grant to vote. A grant does not make a voter: the log does.
//!
//! **Who founds.** A space's creator is its first voter. It founds the group when somebody first needs one, or when it invites
//! another to vote; not where the space has other voters already, whose group it may have forgotten with its store. A store that once voted never founds again: its rows say so.

mod api;
mod commands;
mod lines;
mod lives;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_core::Rng as _;

use super::{Engine, Event, Phase};
use crate::coord::Machine;
use crate::coord::raft::{Config, Generation, Group, Member, Membership, Role, StoreId, Stored, Write};
use crate::coord::serve::client::{Client, Output as Told};
use crate::coord::serve::talk::{Ask, Frame, Refusal, Subject, Tell};
use crate::coord::serve::voter::{Output as Done, Rejected, Voter};
use crate::id::{PeerId, SpaceId};
use crate::io::{
    CloseReason, LinkId, Output, ReadOp, RequestId, Rows, StorageFailure, StorageReply, StorageTask, StorageWork,
    Table, Ticket, WriteOp,
};
use crate::soft::Clock;
use crate::time::Timestamp;
use crate::wire::{Codec, Reader};

use self::lives::Then;
pub use api::{
    ClientId, CoordCommand, CoordEvent, CoordFailure, CoordReply, CoordStatus, LineId, MAX_DIGEST_BYTES, Operation,
};

/// Length of a tick of consensus.
const TICK: Duration = Duration::from_millis(100);

/// Pause before a write that found no room is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Frames of a peer that are kept until it has proved to be a member, each at most [`EARLY_BYTES`].
const MAX_EARLY: usize = 16;
const EARLY_BYTES: usize = 4_096;

/// Commands that wait until the store's rows are read.
const MAX_PARKED: usize = 4_096;

/// How often a newcomer is asked for its store until it answers, and how long.
const ENLIST_AGAIN: Duration = Duration::from_secs(1);
const ENLIST_TIMEOUT: Duration = Duration::from_secs(10);

const TALK: u8 = 0;
const ENLIST: u8 = 1;
const ENLISTED: u8 = 2;

/// Whether the store's logs are known.
#[derive(Debug, Default)]
enum Loaded {
    #[default]
    No,
    Reading,
    Yes,
}

/// A newcomer that was asked for its store.
#[derive(Debug)]
struct Enlisting {
    /// Who waits for it.
    request: RequestId,
    ask_at: Timestamp,
    until: Timestamp,
}

/// A write of the strong path.
#[derive(Debug)]
struct Writing {
    space: SpaceId,
    then: Then,
    ops: Vec<WriteOp>,
    retry_at: Option<Timestamp>,
}

/// A program's session.
struct Program {
    space: SpaceId,
    client: Client,
    /// Requests and reads that a command waits for, and until when.
    calls: BTreeMap<u64, Waiting>,
    reads: BTreeMap<u64, Waiting>,
    /// The program is done with it.
    closing: Option<(Option<RequestId>, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    request: RequestId,
    until: Option<u64>,
}

/// What the engine holds of the strong path.
#[derive(Default)]
pub(super) struct CoordSide {
    loaded: Loaded,
    parked: Vec<(RequestId, CoordCommand)>,
    voters: BTreeMap<SpaceId, Voter>,
    /// Spaces whose rows cannot be read, and why.
    broken: BTreeMap<SpaceId, String>,
    /// Replicas of this store that stopped because of their generation: it is over, or there are two of it.
    over: BTreeMap<SpaceId, u64>,
    programs: BTreeMap<ClientId, Program>,
    last_client: u64,
    lines: BTreeMap<LineId, lines::Line>,
    writes: BTreeMap<Ticket, Writing>,
    /// Frames to this peer itself.
    local: VecDeque<(SpaceId, Vec<u8>)>,
    /// Frames of linked peers that have not proved yet to be members.
    early: BTreeMap<PeerId, Vec<Vec<u8>>>,
    /// Newcomers that were asked for their store, and who waits for it.
    enlisting: BTreeMap<(SpaceId, PeerId), Enlisting>,
    clock: Clock,
    /// The present, sleep included, in milliseconds.
    now: u64,
    ticked: Option<Timestamp>,
    refused: u64,
}

impl std::fmt::Debug for CoordSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoordSide").field("voters", &self.voters.len()).field("programs", &self.programs.len()).finish()
    }
}

impl Engine {
    /// Reads the logs that this store has. Commands wait for it.
    fn load_coord(&mut self) {
        if matches!(self.coord.loaded, Loaded::No) {
            self.coord.loaded = Loaded::Reading;
            // Who never votes has none, and may have no table for them: there are clients only.
            if !self.config.votes {
                return self.on_coord_rows(Ok(Vec::new()));
            }
            let all = ReadOp::Scan { table: Table::Raft, from: Vec::new(), to: None, limit: usize::MAX };
            self.read(super::storage::ReadPurpose::Coord, vec![all]);
        }
    }

    pub(super) fn on_coord_rows(&mut self, rows: Result<Vec<Rows>, StorageFailure>) {
        self.coord.loaded = Loaded::Yes;
        let mut logs: BTreeMap<SpaceId, Vec<(Vec<u8>, Vec<u8>)>> = BTreeMap::new();
        match rows {
            Ok(rows) => {
                for (key, value) in rows.iter().flat_map(Rows::iter) {
                    if let Some((space, key)) = key.split_first_chunk::<32>() {
                        logs.entry(SpaceId(*space)).or_default().push((key.to_vec(), value.to_vec()));
                    }
                }
            }
            Err(failure) => {
                self.coord.loaded = Loaded::No;
                for (request, _) in std::mem::take(&mut self.coord.parked) {
                    self.reply(request, Err(failure.clone().into()));
                }
                return;
            }
        }
        for (space, rows) in logs {
            let seed = self.draw();
            let opened = Stored::open(rows)
                .and_then(|stored| Group::open(config(), stored, Machine::new(), u64::from_le_bytes(seed)));
            match opened {
                Ok(group) => {
                    self.start_voter(space, group);
                    self.proclaim_life(space);
                    self.check_lives(space);
                }
                Err(error) => {
                    self.coord.broken.insert(space, error.to_string());
                    let why = error.to_string();
                    self.emit(Event::Coord(CoordEvent::VoterRefused { space, why }));
                }
            }
        }
        for (request, command) in std::mem::take(&mut self.coord.parked) {
            self.on_command(request, super::Command::Coord(command));
        }
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn start_voter(&mut self, space: SpaceId, group: Group<Machine>) {
        let (me, seed, wall) = (self.identity().peer, self.draw(), self.now.wall);
        self.coord.voters.insert(space, Voter::new(me, group, seed, wall));
        self.coord.ticked.get_or_insert(self.now.mono);
    }

    /// Founds the space's group, if it falls to this store. Whether it serves coordination now.
    pub(super) fn ensure_voter(&mut self, space: SpaceId) -> bool {
        if self.coord.voters.contains_key(&space) {
            return true;
        }
        let device = self.identity().device;
        let creator = self.spaces.get(&space).is_some_and(|found| {
            found.record.root_seed.is_some() && found.roster.voters().eq(std::iter::once(&device))
        });
        if !creator
            || !self.config.votes
            || !matches!(self.coord.loaded, Loaded::Yes)
            || self.coord.broken.contains_key(&space)
        {
            return false;
        }
        let me = Member { peer: self.identity().peer, store: StoreId(self.rng.next_u64()) };
        let seed = self.rng.next_u64();
        match Group::found(config(), me, &[me], Machine::new(), seed) {
            Some(group) => self.start_voter(space, group),
            None => return false,
        }
        true
    }

    /// A peer proved to be a member of a space.
    pub(super) fn coord_linked(&mut self, id: LinkId, space: SpaceId) {
        let Some(link) = self.links.get(&id) else { return };
        let (peer, device) = (link.peer, link.spaces.get(&space).and_then(|common| common.device));
        let now = self.coord.now;
        let votes = device.is_some_and(|device| self.may_vote(space, &device));
        for program in self.coord.programs.values_mut().filter(|program| program.space == space) {
            if votes {
                program.client.know_voters(now, [peer]);
            }
            program.client.linked(now, peer);
        }
        // Frames of spaces that are not proved yet go back to where they were.
        for bytes in self.coord.early.remove(&peer).unwrap_or_default() {
            self.on_coord_frame(peer, &bytes);
        }
    }

    pub(super) fn coord_unlinked(&mut self, peer: PeerId) {
        if self.links.values().any(|link| link.peer == peer) {
            return;
        }
        self.lost_frames(peer);
        self.coord.early.remove(&peer);
    }

    /// Frames to or from a peer may have been lost.
    pub(super) fn lost_frames(&mut self, peer: PeerId) {
        self.coord.voters.values_mut().for_each(|voter| voter.gone(peer));
        let asked: Vec<(SpaceId, PeerId)> =
            self.coord.enlisting.keys().filter(|(_, other)| *other == peer).copied().collect();
        for key in asked {
            self.give_up_enlisting(&key, "the connection with that peer broke");
        }
        let now = self.coord.now;
        self.coord.programs.values_mut().for_each(|program| program.client.gone(now, peer));
        self.end_lines_to(peer);
    }

    fn may_vote(&self, space: SpaceId, device: &crate::id::DeviceId) -> bool {
        self.spaces.get(&space).is_some_and(|found| found.roster.is_voter(device))
    }

    /// The device that a peer proved to be in a space.
    fn member(&self, space: SpaceId, peer: PeerId) -> Option<crate::id::DeviceId> {
        if peer == self.identity().peer {
            return Some(self.identity().device);
        }
        self.links.values().filter(|link| link.peer == peer).find_map(|link| link.spaces.get(&space)?.device)
    }

    pub(super) fn on_coord_frame(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some((space, rest)) = bytes.split_first_chunk::<32>() else { return self.coord_violation(peer) };
        let space = SpaceId(*space);
        let Some(device) = (match self.phase {
            Phase::Open | Phase::Closing => self.member(space, peer),
            _ => None,
        }) else {
            return self.keep_early(peer, bytes);
        };
        let votes = self.may_vote(space, &device);
        match rest.split_first() {
            Some((&TALK, frame)) => self.on_talk(space, peer, votes, frame),
            Some((&ENLIST, generation)) if votes => self.on_enlist(space, peer, generation),
            Some((&ENLISTED, store)) if votes => self.on_enlisted(space, peer, store),
            Some((&(ENLIST | ENLISTED), _)) => self.coord.refused += 1,
            _ => self.coord_violation(peer),
        }
    }

    /// A peer speaks that may be on its way through the handshake, or none of ours: nothing is said to it.
    fn keep_early(&mut self, peer: PeerId, bytes: &[u8]) {
        let linked = self.links.values().any(|link| link.peer == peer);
        let early = self.coord.early.entry(peer).or_default();
        if linked && early.len() < MAX_EARLY && bytes.len() <= EARLY_BYTES {
            early.push(bytes.to_vec());
        } else {
            self.coord.refused += 1;
        }
        if early.is_empty() {
            self.coord.early.remove(&peer);
        }
    }

    /// A peer's bytes are not the protocol: its links end.
    fn coord_violation(&mut self, peer: PeerId) {
        self.coord.refused += 1;
        let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.peer == peer).map(|(id, _)| *id).collect();
        for id in links {
            self.close_link(id, CloseReason::Protocol { detail: "a malformed frame of the strong path".into() });
        }
    }

    fn on_talk(&mut self, space: SpaceId, peer: PeerId, votes: bool, frame: &[u8]) {
        // What voters tell clients begins with 2; everything else is for a voter.
        if frame.first() == Some(&2) {
            match self.tell_line(space, peer, frame) {
                Some(Ok(())) => return,
                Some(Err(_)) => return self.coord_violation(peer),
                None => {}
            }
            let now = self.coord.now;
            let mut programs = self.coord.programs.values_mut().filter(|program| program.space == space);
            if programs.any(|program| program.client.frame(now, peer, frame).is_err()) {
                self.coord_violation(peer);
            }
            return;
        }
        if self.ensure_voter(space) {
            let voter = self.coord.voters.get_mut(&space).expect("it was just ensured");
            if let Err(Rejected::Malformed(_)) = voter.frame(peer, votes, frame) {
                self.coord_violation(peer);
            }
            return;
        }
        match Frame::parse(frame) {
            Ok(Frame::Ask(channel, ask)) => {
                let of = match ask {
                    Ask::Open { nonce, .. } | Ask::Attach { nonce, .. } => Subject::Entry(nonce),
                    _ => Subject::Rearm,
                };
                let tell = Tell::Refused { of, why: Refusal::NotServing };
                self.send_coord(space, peer, TALK, Frame::Tell(channel, tell).to_bytes());
            }
            Ok(_) => self.coord.refused += 1,
            Err(_) => self.coord_violation(peer),
        }
    }

    fn send_coord(&mut self, space: SpaceId, to: PeerId, kind: u8, body: Vec<u8>) {
        if to == self.identity().peer {
            // Only talk goes to oneself.
            self.coord.local.push_back((space, body));
            return;
        }
        self.out.push_back(Output::Coord { peer: to, bytes: [&space.0, &[kind][..], &body].concat() });
    }

    /// A voter asks for this store, to add it to its group.
    fn on_enlist(&mut self, space: SpaceId, peer: PeerId, generation: &[u8]) {
        let Ok(generation) = Generation::from_bytes(generation) else { return self.coord_violation(peer) };
        let device = self.identity().device;
        if !self.config.votes {
            return self.send_coord(space, peer, ENLISTED, Vec::new());
        }
        if !self.may_vote(space, &device) || !matches!(self.coord.loaded, Loaded::Yes) {
            self.coord.refused += 1;
            return;
        }
        if self.forget_over(space, peer, &generation) {
            return;
        }
        if self.is_over(space, generation.number) {
            self.coord.refused += 1;
            return;
        }
        if !self.coord.voters.contains_key(&space) && !self.coord.broken.contains_key(&space) {
            let me = Member { peer: self.identity().peer, store: StoreId(self.rng.next_u64()) };
            let seed = self.rng.next_u64();
            let group = Group::join(config(), me, generation, Machine::new(), seed);
            self.start_voter(space, group);
        }
        let Some(voter) = self.coord.voters.get(&space) else { return };
        // One of an earlier life goes when the news of the new one is here; it is asked again.
        if voter.group().identity().generation != generation {
            self.coord.refused += 1;
            return;
        }
        let store = voter.group().identity().me.store;
        self.send_coord(space, peer, ENLISTED, store.0.to_le_bytes().to_vec());
    }

    fn on_enlisted(&mut self, space: SpaceId, peer: PeerId, store: &[u8]) {
        if store.is_empty() {
            if let Some(asked) = self.coord.enlisting.remove(&(space, peer)) {
                self.reply(asked.request, Err(CoordFailure::CannotVote.into()));
            }
            return;
        }
        let mut r = Reader::new(store);
        let Ok(store) = r.u64_le("store").and_then(|store| r.finish().map(|()| store)) else {
            return self.coord_violation(peer);
        };
        let Some(Enlisting { request, .. }) = self.coord.enlisting.remove(&(space, peer)) else { return };
        let member = Member { peer, store: StoreId(store) };
        let outcome = match self.coord.voters.get_mut(&space) {
            Some(voter) => voter.operate(|group| group.add_learner(member)).map_err(CoordFailure::from_change),
            None => Err(CoordFailure::NotServing),
        };
        let reply = outcome.map(|_| super::Reply::Coord(CoordReply::Done)).map_err(Into::into);
        self.reply(request, reply);
    }

    fn give_up_enlisting(&mut self, key: &(SpaceId, PeerId), why: &str) {
        if let Some(asked) = self.coord.enlisting.remove(key) {
            self.reply(asked.request, Err(CoordFailure::ChangeLater(why.into()).into()));
        }
    }

    /// Asks newcomers again that have said nothing: one that has not heard yet that it may vote stays silent, and will have
    /// heard a moment later. Who goes on saying nothing is not waited for for ever.
    fn ask_newcomers(&mut self) {
        let now = self.now.mono;
        let due: Vec<(SpaceId, PeerId)> =
            self.coord.enlisting.iter().filter(|(_, asked)| asked.ask_at <= now).map(|(key, _)| *key).collect();
        for key in due {
            let (space, peer) = key;
            let generation = self.coord.voters.get(&space).map(|voter| voter.group().identity().generation);
            match (self.coord.enlisting.get_mut(&key), generation) {
                (Some(asked), Some(generation)) if asked.until > now => {
                    asked.ask_at = now + ENLIST_AGAIN;
                    self.send_coord(space, peer, ENLIST, generation.to_bytes());
                }
                (_, Some(_)) => self.give_up_enlisting(&key, "that peer is connected and does not answer"),
                (_, None) => self.give_up_enlisting(&key, "this peer is no voter any more"),
            }
        }
    }

    /// Takes over the present, sleep included.
    fn coord_time(&mut self) {
        let (awake, _) = self.coord.clock.read(self.now);
        self.coord.now = awake.mono.as_micros() / 1_000;
    }

    /// Time went by: a tick for voters and clients.
    pub(super) fn tick_coord(&mut self) {
        self.coord_time();
        if self.coord.voters.is_empty() && self.coord.programs.is_empty() && self.coord.writes.is_empty() {
            self.coord.ticked = None;
            return;
        }
        let last = *self.coord.ticked.get_or_insert(self.now.mono);
        let elapsed = self.now.mono.since(last);
        if elapsed < TICK {
            return;
        }
        self.coord.ticked = Some(self.now.mono);
        let (ms, wall) = (elapsed.as_millis() as u64, self.now.wall);
        // A peer that was held up does not make up for missed ticks: it would take everybody else for dead at once.
        self.coord.voters.values_mut().for_each(|voter| voter.tick(ms, wall));
        self.retry_coord_writes();
        self.ask_newcomers();
        self.tick_programs();
        self.tick_lines();
    }

    pub(super) fn coord_timer(&self) -> Option<Timestamp> {
        self.coord.ticked.map(|at| at + TICK)
    }

    /// Carries out what voters and clients want, until nothing is left.
    pub(super) fn pump_coord(&mut self) {
        loop {
            let mut idle = true;
            let spaces: Vec<SpaceId> = self.coord.voters.keys().copied().collect();
            for space in spaces {
                while let Some(done) = self.coord.voters.get_mut(&space).and_then(Voter::poll) {
                    idle = false;
                    self.on_voter(space, done);
                }
            }
            let programs: Vec<ClientId> = self.coord.programs.keys().copied().collect();
            for id in programs {
                while let Some(told) = self.coord.programs.get_mut(&id).and_then(|program| program.client.poll()) {
                    idle = false;
                    self.on_told(id, told);
                }
            }
            while let Some((space, frame)) = self.coord.local.pop_front() {
                idle = false;
                let me = self.identity().peer;
                self.on_talk(space, me, true, &frame);
            }
            if idle {
                return;
            }
        }
    }

    fn on_voter(&mut self, space: SpaceId, done: Done) {
        match done {
            Done::Send { to, bytes } => self.send_coord(space, to, TALK, bytes),
            Done::Told { channel, tell } => self.tell_own_line(space, LineId(channel), tell),
            Done::Persist { ticket, writes } => {
                let (then, ops) = (Then::Persisted(ticket), Self::coord_ops(space, writes));
                self.write_coord(Writing { space, then, ops, retry_at: None });
            }
            Done::Role(role) => self.emit(Event::Coord(CoordEvent::Role { space, role: RoleNow::of(role) })),
            Done::Membership(_) => self.emit(Event::Coord(CoordEvent::Voters { space })),
            Done::Halted(halt) => {
                let why = halt.to_string();
                self.emit(Event::Coord(CoordEvent::VoterRefused { space, why }));
            }
        }
    }

    fn write_coord(&mut self, writing: Writing) {
        let ticket = self.storage.ticket();
        let work = StorageWork::Write { ops: writing.ops.clone(), epoch: Some(self.storage.epoch.clone()) };
        self.coord.writes.insert(ticket, writing);
        self.out.push_back(Output::Storage(StorageTask { ticket, work }));
    }

    pub(super) fn on_coord_written(&mut self, ticket: Ticket, result: Result<StorageReply, StorageFailure>) {
        let Some(mut writing) = self.coord.writes.remove(&ticket) else { return };
        // Nothing of it took effect, and nothing that depends on it was said: it can be tried again.
        if matches!(result, Err(StorageFailure::Full)) {
            writing.retry_at = Some(self.now.mono + RETRY);
            self.coord.writes.insert(ticket, writing);
            self.coord.ticked.get_or_insert(self.now.mono);
            return;
        }
        let space = writing.space;
        match (writing.then, result) {
            (Then::Persisted(ticket), Ok(_)) => {
                if let Some(voter) = self.coord.voters.get_mut(&space) {
                    voter.persisted(ticket);
                }
            }
            (Then::Persisted(ticket), Err(_)) => {
                if let Some(voter) = self.coord.voters.get_mut(&space) {
                    voter.persist_failed(ticket);
                }
            }
            (Then::Rebuilt { request, rows }, Ok(_)) => self.on_rebuilt(space, request, rows),
            (Then::Rebuilt { request, .. }, Err(failure)) => self.rebuild_failed(space, request, failure.into()),
            (Then::Forgotten { peer, generation }, Ok(_)) => self.on_forgotten(space, peer, &generation),
            // It is asked again when the new group asks again.
            (Then::Forgotten { .. }, Err(_)) => {}
        }
    }

    fn retry_coord_writes(&mut self) {
        let now = self.now.mono;
        let due = |writing: &Writing| writing.retry_at.is_some_and(|at| at <= now);
        let due: Vec<Ticket> = self.coord.writes.iter().filter(|(_, w)| due(w)).map(|(ticket, _)| *ticket).collect();
        for ticket in due {
            if let Some(writing) = self.coord.writes.remove(&ticket) {
                self.write_coord(Writing { retry_at: None, ..writing });
            }
        }
    }

    /// The peer is about to close: a leader hands over, sessions that programs left open live on for their time.
    pub(super) fn close_coord(&mut self) {
        self.coord.voters.values_mut().for_each(|voter| {
            let _ = voter.hand_over();
        });
    }
}

/// Consensus as voters run it.
fn config() -> Config {
    Config::default().build().expect("the defaults are within their bounds")
}

/// What a voter is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleNow {
    /// The term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Whether somebody leads, as far as it knows.
    pub led: bool,
}

impl RoleNow {
    fn of(role: Role) -> Self {
        Self {
            term: role.term,
            leads: role.standing == crate::coord::raft::Standing::Leader,
            led: role.leader.is_some(),
        }
    }
}

/// The peers that vote.
fn voters_of(membership: &Membership) -> Vec<PeerId> {
    membership.voters.iter().filter_map(|id| membership.members.get(id)).map(|member| member.peer).collect()
}
