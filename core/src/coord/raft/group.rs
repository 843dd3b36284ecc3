//! One replica of a group: consensus, the machine it feeds, and the rules between them and the world.

mod admit;
mod change;
mod farewell;
mod pen;
mod read;
mod ready;
mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, ReadOnlyOption, StateRole};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use thiserror::Error;

pub use admit::Refused;
pub use change::{CATCH_UP_ENTRIES, ChangeError};
pub use pen::Ticket;
pub use read::{ReadError, ReadFailure};
pub use transfer::WINDOW_BYTES;

use self::farewell::Farewell;
use self::pen::Pen;
use self::read::Reads;
use self::transfer::{Incoming, Outgoing};
use super::config::Config;
use super::entry::MAX_ENTRY_BYTES;
use super::log::{Log, Position};
use super::member::{Generation, Member, MemberId, Membership};
use super::message::APPEND_BYTES;
use super::rows::{Identity, OpenError, Snapshot, Stored, Write};
use crate::coord::replicated::Replicated;
use crate::id::PeerId;

/// What a driver has to do or may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output<O> {
    /// Send this to a peer. It may be lost, doubled or late; a stream of its own keeps it from waiting behind documents.
    Send {
        /// To whom.
        to: PeerId,
        /// One frame, at most [`super::message::MAX_FRAME_BYTES`].
        bytes: Vec<u8>,
    },
    /// Make these rows durable, in this order, then call [`Group::persisted`]. The next one comes only after that.
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// Its rows, never empty.
        writes: Vec<Write>,
    },
    /// The machine applied an entry.
    Applied {
        /// Where. A proposal of this replica is the one that [`Group::propose`] placed exactly here, term included.
        at: Position,
        /// What the machine answered.
        output: O,
    },
    /// The machine's state was replaced by a snapshot: what lies between was applied elsewhere.
    Installed {
        /// The last entry that the state contains.
        at: Position,
    },
    /// The machine has applied everything that was committed when the read was asked for: read now.
    ReadReady {
        /// The caller's name for the read.
        ctx: u64,
        /// Up to where it was committed.
        index: u64,
    },
    /// A read has no answer.
    ReadFailed {
        /// The caller's name for the read.
        ctx: u64,
        /// Why.
        why: ReadFailure,
    },
    /// The replica's part, the term or the leader changed.
    Role(Role),
    /// The configuration changed.
    Membership(Membership),
    /// The replica stopped and says nothing any more. What it made durable stands; open it again when the cause is gone.
    Halted(Halt),
}

/// A replica's part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<MemberId>,
    /// What it is itself.
    pub standing: Standing,
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A newcomer that no leader has spoken to.
    Waiting,
    /// It receives and does not vote.
    Learner,
    /// It follows, or looks for somebody to follow.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It was removed, and takes no part; one that led says so until a majority knows.
    Removed,
}

/// Why a replica stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Halt {
    /// A write failed; whether it is durable is unknown. Nothing that depends on it was said.
    #[error("the log's disk refused a write: make room or replace it, then open the log again")]
    Storage,
    /// Consensus and the membership do not agree: a defect of this program.
    #[error("the log holds a change of the membership that consensus does not take")]
    Inconsistent,
}

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Somebody else leads, or nobody.
    #[error("this replica does not lead; ask {leader:?}")]
    NotLeader {
        /// Who does, as far as this replica knows.
        leader: Option<MemberId>,
    },
    /// Leadership is on its way to another voter: ask again in a moment.
    #[error("leadership is being handed over; ask again")]
    Transferring,
    /// Too much is proposed and not committed.
    #[error("too much waits to be committed; ask again when some of it is")]
    Busy,
    /// An entry has 1 to [`MAX_ENTRY_BYTES`] bytes.
    #[error("an entry has 1 to {MAX_ENTRY_BYTES} bytes, this one has {bytes}")]
    Size {
        /// What it has.
        bytes: usize,
    },
    /// The replica stopped or was removed.
    #[error("this replica has stopped")]
    Stopped,
}

/// What was counted since the replica was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that did not parse.
    pub malformed: u64,
    /// Frames that parsed and were refused.
    pub refused: u64,
    /// Snapshots taken of the own state.
    pub snapshots_taken: u64,
    /// Snapshots taken from a leader.
    pub snapshots_installed: u64,
    /// Snapshots from a leader that were refused.
    pub snapshots_refused: u64,
    /// Writes handed to the disk.
    pub writes: u64,
    /// Rounds to a majority, for reads.
    pub read_rounds: u64,
    /// Entries that this replica appended as the leader.
    pub proposals: u64,
}

/// One replica.
pub struct Group<M: Replicated> {
    config: Config,
    identity: Identity,
    /// `None` while a newcomer has no id.
    node: Option<RawNode<Log>>,
    machine: M,
    membership: Membership,
    /// Members that spoke before the log told of them. At most [`super::member::MAX_MEMBERS`].
    newcomers: BTreeMap<MemberId, Member>,
    snapshot: Option<Arc<Snapshot>>,
    applied: Position,
    applied_bytes: usize,
    pen: Pen,
    reads: Reads,
    outgoing: BTreeMap<MemberId, Outgoing>,
    incoming: Option<Incoming>,
    dice: ChaCha12Rng,
    timeout: usize,
    timeout_of: (u64, StateRole),
    role: Role,
    /// Told by a member that this id was removed.
    gone: bool,
    farewell: Farewell,
    out: VecDeque<Output<M::Output>>,
    halted: Option<Halt>,
    counters: Counters,
}

impl<M: Replicated> Group<M> {
    /// Founds a group. Every founder calls this with the same founders and a machine in its first state; the id of each is
    /// its place in their order. `None` if `me` is not one of them.
    pub fn found(config: Config, me: Member, founders: &[Member], machine: M, seed: u64) -> Option<Self> {
        let membership = Membership::founded(founders);
        let id = membership.id_of(&me)?;
        // Index 1 stands for the founding. A newcomer's log begins at 0, so it never matches and gets a snapshot.
        let at = Position { index: 1, term: 1 };
        let snapshot = Snapshot::new(at, &membership, &machine.snapshot());
        let identity = Identity { generation: membership.generation, me, id: Some(id) };
        let mut group = Self::blank(config, identity, machine, seed);
        group.membership = membership;
        group.applied = at;
        group.snapshot = Some(Arc::new(snapshot));
        let mut hard = raft::eraftpb::HardState::default();
        (hard.term, hard.commit) = (at.term, at.index);
        let log = Log::new(at, at, group.membership.conf_state(), hard.clone(), Vec::new());
        group.pen.begin(&hard, at.index);
        group.start(log);
        Some(group)
    }

    /// Waits for a group to speak to this store, as a newcomer. A leader's operator adds `me` as a learner; the group's
    /// generation comes with that.
    pub fn join(config: Config, me: Member, generation: Generation, machine: M, seed: u64) -> Self {
        Self::blank(config, Identity { generation, me, id: None }, machine, seed)
    }

    /// Goes on with a store. `machine` is in its first state.
    pub fn open(config: Config, stored: Stored, mut machine: M, seed: u64) -> Result<Self, OpenError> {
        if let Some(snapshot) = &stored.snapshot {
            machine.restore(Snapshot::parse(&snapshot.bytes)?.1)?;
        }
        let mut group = Self::blank(config, stored.identity, machine, seed);
        let last = stored.last().index;
        group.membership = stored.membership;
        group.applied = stored.snapshot.as_ref().map(|snapshot| snapshot.at).unwrap_or_default();
        group.snapshot = stored.snapshot.map(Arc::new);
        group.pen.resume(stored.seq, &stored.hard, last);
        if group.identity.id.is_some() {
            let conf = group.membership.conf_state();
            group.start(Log::new(stored.base, group.applied, conf, stored.hard, stored.entries));
        }
        Ok(group)
    }

    fn blank(config: Config, identity: Identity, machine: M, seed: u64) -> Self {
        let mut dice = ChaCha12Rng::seed_from_u64(seed);
        let nonce = dice.next_u64();
        Self {
            reads: Reads::new(nonce),
            config,
            identity,
            node: None,
            machine,
            membership: Membership::unknown(identity.generation),
            newcomers: BTreeMap::new(),
            snapshot: None,
            applied: Position::default(),
            applied_bytes: 0,
            pen: Pen::new(),
            outgoing: BTreeMap::new(),
            incoming: None,
            dice,
            timeout: 0,
            timeout_of: (0, StateRole::Follower),
            role: Role { term: 0, leader: None, standing: Standing::Waiting },
            gone: false,
            farewell: Farewell::default(),
            out: VecDeque::new(),
            halted: None,
            counters: Counters::default(),
        }
    }

    /// Begins consensus over `log`, under the id that the identity holds.
    fn start(&mut self, log: Log) {
        let id = self.identity.id.expect("a replica starts when it has an id");
        let config = raft::Config {
            id: id.0,
            election_tick: self.config.election,
            heartbeat_tick: self.config.heartbeat,
            applied: self.applied.index,
            max_size_per_msg: APPEND_BYTES as u64,
            max_inflight_msgs: self.config.inflight,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            // With it, raft 0.7 puts entries into an append to the same replica that waits already, also where that one is
            // empty and names another place: replicas differ then. It happens where several messages are taken before what
            // follows from them is asked for, as here. Proposals are gathered by whoever proposes instead.
            batch_append: false,
            max_uncommitted_size: self.config.uncommitted_bytes,
            max_committed_size_per_ready: 4 * APPEND_BYTES as u64,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node =
            RawNode::new(&config, log, &logger).expect("Config::build checked what consensus asks of its options");
        self.node = Some(node);
        self.draw_timeout();
        self.pin();
        self.update_role();
    }

    /// A tick of the driver's clock passed.
    pub fn tick(&mut self) {
        if self.is_stopped() {
            return self.bid_farewell();
        }
        self.tick_reads();
        self.tick_transfers();
        let held = self.must_not_campaign();
        let Some(node) = &mut self.node else { return };
        if node.raft.state == StateRole::Leader || !held {
            node.tick();
        }
        self.pin();
        self.leave_joint();
    }

    /// Whether an election now would stand on what is not durable. Consensus checks for neither: it takes a snapshot for
    /// applied once it is in the log, and a sole voter for one whose log is durable.
    fn must_not_campaign(&self) -> bool {
        let sole = self.node.as_ref().is_some_and(|node| node.raft.prs().is_singleton());
        self.pen.has_install() || (sole && self.pen.is_busy())
    }

    /// A frame came over the link of `from`, a peer that holds a grant to vote in this space.
    pub fn message(&mut self, from: PeerId, bytes: &[u8]) -> Result<(), Refused> {
        if self.is_stopped() {
            self.hear_farewell(from, bytes);
            return Err(Refused::Stopped);
        }
        let result = self.take_message(from, bytes);
        match &result {
            Err(Refused::Malformed(_)) => self.counters.malformed += 1,
            Err(_) => self.counters.refused += 1,
            Ok(()) => {}
        }
        result
    }

    /// Proposes an entry, on the leader. The answer is where it was appended; it counts once [`Output::Applied`] names
    /// exactly that place, and is lost if another term's entry is applied there.
    pub fn propose(&mut self, entry: Vec<u8>) -> Result<Position, ProposeError> {
        self.propose_all(vec![entry])
    }

    /// Proposes entries that become one append, all of them or none. The answer is where the first one was appended.
    pub fn propose_all(&mut self, entries: Vec<Vec<u8>>) -> Result<Position, ProposeError> {
        if self.is_stopped() {
            return Err(ProposeError::Stopped);
        }
        // Consensus aborts at a proposal of nothing.
        if entries.is_empty() {
            return Err(ProposeError::Size { bytes: 0 });
        }
        if let Some(entry) = entries.iter().find(|entry| entry.is_empty() || entry.len() > MAX_ENTRY_BYTES) {
            return Err(ProposeError::Size { bytes: entry.len() });
        }
        let leader = self.leader();
        let Some(node) = &mut self.node else { return Err(ProposeError::NotLeader { leader }) };
        if node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader { leader });
        }
        if node.raft.lead_transferee.is_some() {
            return Err(ProposeError::Transferring);
        }
        let at = Position { index: node.raft.raft_log.last_index() + 1, term: node.raft.term };
        let count = entries.len() as u64;
        let mut message = Message { from: node.raft.id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        let entries: Vec<Entry> =
            entries.into_iter().map(|data| Entry { data: data.into(), ..Entry::default() }).collect();
        message.set_entries(entries.into());
        node.raft.step(message).map_err(|_| ProposeError::Busy)?;
        self.counters.proposals += count;
        self.pin();
        Ok(at)
    }

    /// A write is durable. `false` if it is not the one under way.
    pub fn persisted(&mut self, ticket: Ticket) -> bool {
        if self.halted.is_some() {
            return false;
        }
        match self.pen.finish(ticket) {
            Some(batch) => {
                self.complete(batch);
                true
            }
            None => false,
        }
    }

    /// A write failed, and what of it is durable is unknown: the replica stops.
    pub fn persist_failed(&mut self, ticket: Ticket) {
        if self.pen.finish(ticket).is_some() {
            self.halt(Halt::Storage);
        }
    }

    /// The next thing to do, in order. `None` until there is new input.
    pub fn poll(&mut self) -> Option<Output<M::Output>> {
        if self.out.is_empty() && self.halted.is_none() {
            self.advance();
        }
        self.out.pop_front()
    }

    /// The machine, to read from after [`Output::ReadReady`], or at any time for what may be old.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The last entry the machine applied.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The configuration as applied here.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who votes with this store.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The replica's part.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Up to where this replica knows the log to be committed.
    pub fn committed(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.raft.raft_log.committed)
    }

    /// Whether what was proposed last is still on its way to this replica's disk, and to a majority: what is proposed meanwhile
    /// does best to wait, since it will be one append and one write then.
    pub fn is_appending(&self) -> bool {
        self.pen.is_busy() && self.committed() < self.last_index()
    }

    /// Whether a proposal follows as soon as what is on its way is committed. It tells followers of that commit, so that
    /// no message of its own has to: two frames less to each of them for every append.
    pub fn will_propose(&mut self, soon: bool) {
        if let Some(node) = &mut self.node {
            node.skip_bcast_commit(soon);
        }
    }

    /// Entries in its log that it does not know to be committed.
    pub fn uncommitted(&self) -> u64 {
        self.last_index().saturating_sub(self.committed())
    }

    /// The last entry in its log, durable or not.
    pub fn last_index(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.raft.raft_log.last_index())
    }

    /// The term of an entry in its log, and its content as bytes, if it is there: for checkers.
    #[cfg(any(test, feature = "sim"))]
    pub fn entry_at(&self, index: u64) -> Option<(u64, Vec<u8>)> {
        use crate::wire::Codec;
        let entry = super::entry::LogEntry::from_raft(self.node.as_ref()?.store().get(index)?)?;
        Some((entry.term, entry.to_bytes()))
    }

    fn leader(&self) -> Option<MemberId> {
        self.node.as_ref().map(|node| node.raft.leader_id).filter(|id| *id != 0).map(MemberId)
    }

    fn is_stopped(&self) -> bool {
        self.halted.is_some() || self.role.standing == Standing::Removed
    }

    fn halt(&mut self, why: Halt) {
        if self.halted.is_none() {
            self.halted = Some(why);
            self.farewell = Farewell::default();
            self.fail_reads(ReadFailure::Stopped);
            self.out.push_back(Output::Halted(why));
        }
    }

    fn draw_timeout(&mut self) {
        let spread = self.config.election as u64;
        self.timeout = self.config.election + (self.dice.next_u64() % spread) as usize;
    }

    /// Puts our timeout in place of the one that consensus draws from the system's randomness whenever it resets. Drawn
    /// anew where consensus would: on a new term or part, and for every try of a candidate.
    fn pin(&mut self) {
        let Some(node) = &self.node else { return };
        let of = (node.raft.term, node.raft.state);
        let tries = matches!(of.1, StateRole::Candidate | StateRole::PreCandidate) && node.raft.election_elapsed == 0;
        if of != self.timeout_of || tries {
            self.timeout_of = of;
            self.draw_timeout();
        }
        let timeout = self.timeout;
        if let Some(node) = &mut self.node {
            node.raft.set_randomized_election_timeout(timeout);
        }
    }

    fn update_role(&mut self) {
        let Some(node) = &self.node else { return };
        let id = MemberId(node.raft.id);
        let known = !self.membership.members.is_empty();
        let standing = match node.raft.state {
            _ if self.gone => Standing::Removed,
            _ if known && !self.membership.members.contains_key(&id) => Standing::Removed,
            StateRole::Leader => Standing::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Standing::Candidate,
            StateRole::Follower if node.raft.promotable() => Standing::Follower,
            StateRole::Follower => Standing::Learner,
        };
        let leader = if standing == Standing::Removed { None } else { self.leader() };
        let role = Role { term: node.raft.term, leader, standing };
        if role != self.role {
            self.role = role;
            self.out.push_back(Output::Role(role));
            if standing == Standing::Removed {
                self.fail_reads(ReadFailure::Stopped);
                self.begin_farewell();
            }
        }
    }
}
