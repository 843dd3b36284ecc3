//! One voter: a replica of the group, and what it does for clients.
//!
//! A driver hands in frames, ticks and finished writes, and carries out what [`Voter::poll`] gives, in order. What a voter
//! says to itself (it may have clients of its own, and it may lead) comes out as a frame to its own peer.
//!
//! Learners serve as voters do: they apply the same log, and pass on.

mod applied;
mod gather;
mod read;
mod touch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::talk::{Ask, Frame, MAX_VOTERS, Pass, Passed, Refusal, Subject, Tell};
use crate::coord::acl::{Identity, MAX_IDENTITIES};
use crate::coord::command::{Body, Entry, Request};
use crate::coord::duty::Duties;
use crate::coord::error::CoordError;
use crate::coord::machine::Machine;
use crate::coord::raft::{Group, Halt, Membership, Output as Step, Role, Standing, Ticket, Write};
use crate::coord::session::{MAX_IN_FLIGHT, PASSWORD_LEN, SessionId};
use crate::coord::watch::Watches;
use crate::id::PeerId;
use crate::time::WallTime;
use crate::wire::{Codec, DecodeError};

use gather::Gathered;
use read::Wish;
use touch::Touches;

/// Most channels of clients. Beyond it a new one is refused, so that the sessions of those that are here stay alive.
pub const MAX_CHANNELS: usize = 16_384;

/// Most channels of one peer.
pub const MAX_CHANNELS_OF_PEER: usize = 1_024;

/// Most reads of one channel that wait.
pub const MAX_READS: usize = 256;

/// Most bytes of one channel's requests that are not applied.
pub const MAX_PENDING_BYTES: usize = 8 << 20;

/// Ticks after which what was not applied is passed on again: longer than an election, so that it is rarely for nothing.
pub const RETRY_TICKS: u32 = 20;

/// Ticks that a channel may be without a session: a minute.
const IDLE_TICKS: u32 = 600;

/// A client: the peer on whose link it speaks, and its channel there.
pub type ChannelId = (PeerId, u64);

/// What a driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send a [`Frame`] to a peer, or to oneself. What goes to one peer arrives in this order or the link ends.
    Send {
        /// To whom.
        to: PeerId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Tell a door of this voter's own peer, over one of its channels. Nothing is encoded on the way.
    Told {
        /// The channel.
        channel: u64,
        /// What.
        tell: Tell,
    },
    /// Make these rows durable, then call [`Voter::persisted`].
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// Its rows.
        writes: Vec<Write>,
    },
    /// The replica's part changed.
    Role(Role),
    /// The group's members changed.
    Membership(Membership),
    /// The replica stopped.
    Halted(Halt),
}

/// Why a frame was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// Not a frame: whoever sent it is broken or hostile.
    #[error("not a frame: {0}")]
    Malformed(#[from] DecodeError),
    /// A frame that voters say to clients, or consensus of a peer that may not vote.
    #[error("the sender may not say this to a voter")]
    Misplaced,
    /// Consensus refused it; frames that were late or doubled are refused in honest groups too.
    #[error(transparent)]
    Refused(#[from] crate::coord::raft::group::Refused),
}

/// A session that a channel owns.
#[derive(Clone, Copy, Debug)]
struct Owned {
    session: SessionId,
    attachment: u64,
    /// This voter's name for the attempt that attached it; 0 for one that was opened here.
    attempt: u64,
}

/// One client.
#[derive(Debug, Default)]
struct Channel {
    /// It is a door's of this voter's own peer, which is told without a frame.
    own: bool,
    owned: Option<Owned>,
    identities: Vec<Identity>,
    /// Requests that were not applied, by number, with the size of each as an entry.
    pending: BTreeMap<u64, (Request, usize)>,
    pending_bytes: usize,
    /// Ticks since one of them was applied or passed on.
    age: u32,
    /// Ticks without a session, and without one that is on its way.
    idle: u32,
    wishes: VecDeque<Wish>,
}

/// A session that is being opened or attached.
#[derive(Debug)]
struct Entering {
    channel: ChannelId,
    /// The client's.
    nonce: u64,
    body: Body,
    age: u32,
}

/// One voter, or learner.
pub struct Voter {
    me: PeerId,
    group: Group<Machine>,
    watches: Watches,
    /// A leader's timers.
    duties: Option<Duties>,
    channels: BTreeMap<ChannelId, Channel>,
    owners: BTreeMap<SessionId, ChannelId>,
    opening: BTreeMap<SessionId, Entering>,
    attaching: BTreeMap<(SessionId, u64), Entering>,
    touches: Touches,
    /// Reads that consensus was asked for.
    rounds: BTreeMap<u64, read::Round>,
    contexts: u64,
    /// Channels whose reads may be due: looked at when every output of the replica was carried out.
    ready: BTreeSet<ChannelId>,
    /// The state as of this entry came by a snapshot, so watchers were told of it as a whole.
    covered: u64,
    /// A leader's proposals that wait for the batch before them.
    gathered: Gathered,
    /// The leader asked for something to be passed on again.
    again: bool,
    dice: ChaCha12Rng,
    wall: WallTime,
    out: VecDeque<Output>,
    /// Something was taken in since the replica was last asked what follows.
    stale: bool,
    rejected: u64,
}

impl Voter {
    /// A voter over its replica. `seed` comes from the system's randomness: passwords of sessions are drawn from it.
    pub fn new(me: PeerId, group: Group<Machine>, seed: [u8; 32], wall: WallTime) -> Self {
        let watches = Watches::new(group.applied().index);
        let mut voter = Self {
            me,
            group,
            watches,
            duties: None,
            channels: BTreeMap::new(),
            owners: BTreeMap::new(),
            opening: BTreeMap::new(),
            attaching: BTreeMap::new(),
            touches: Touches::default(),
            rounds: BTreeMap::new(),
            contexts: 0,
            ready: BTreeSet::new(),
            covered: 0,
            gathered: Gathered::default(),
            again: false,
            dice: ChaCha12Rng::from_seed(seed),
            wall,
            out: VecDeque::new(),
            stale: false,
            rejected: 0,
        };
        voter.pump();
        voter
    }

    /// A tick of the driver's clock passed, `elapsed_ms` after the last one on its monotonic clock; `wall` is what `ctime`
    /// and `mtime` will show.
    pub fn tick(&mut self, elapsed_ms: u64, wall: WallTime) {
        self.wall = wall;
        self.group.tick();
        self.pump();
        let due = self.duties.as_mut().map_or_else(Vec::new, |duties| duties.advance(elapsed_ms));
        for body in due {
            // What is not taken now is due again later.
            let _ = self.propose(self.me, body);
        }
        self.retry();
        self.tick_touches();
        self.pump();
    }

    /// A frame came over the link of `from`. `may_vote`: it holds a grant to vote in this space.
    pub fn frame(&mut self, from: PeerId, may_vote: bool, bytes: &[u8]) -> Result<(), Rejected> {
        let result = match Frame::parse(bytes) {
            Ok(Frame::Raft(bytes)) if may_vote => {
                self.group.will_propose(!self.gathered.is_empty());
                self.group.message(from, &bytes).map_err(Rejected::from)
            }
            Ok(Frame::Ask(channel, ask)) => {
                self.on_ask((from, channel), ask, false);
                Ok(())
            }
            Ok(Frame::Pass(pass)) if self.is_member(from) => {
                self.on_pass(from, pass);
                Ok(())
            }
            Ok(Frame::Passed(passed)) if self.is_member(from) => {
                self.on_passed(passed);
                Ok(())
            }
            Ok(_) => Err(Rejected::Misplaced),
            Err(error) => Err(error.into()),
        };
        self.rejected += u64::from(result.is_err());
        self.stale = true;
        result
    }

    /// A door of this voter's own peer asks, over a channel of that peer.
    pub fn ask(&mut self, channel: u64, ask: Ask) {
        self.on_ask((self.me, channel), ask, true);
        self.stale = true;
    }

    /// A channel of this voter's own peer is not used any more. Its session lives on for its time.
    pub fn leave(&mut self, channel: u64) {
        self.drop_channel((self.me, channel));
    }

    /// The link to a peer ended: its channels are gone. Their sessions live on for their time.
    pub fn gone(&mut self, peer: PeerId) {
        let channels: Vec<ChannelId> = self.channels.range((peer, 0)..=(peer, u64::MAX)).map(|(id, _)| *id).collect();
        channels.into_iter().for_each(|id| self.drop_channel(id));
    }

    /// A write is durable.
    pub fn persisted(&mut self, ticket: Ticket) {
        self.group.will_propose(!self.gathered.is_empty());
        self.group.persisted(ticket);
        self.stale = true;
    }

    /// A write failed: the replica stops.
    pub fn persist_failed(&mut self, ticket: Ticket) {
        self.group.persist_failed(ticket);
        self.pump();
    }

    /// The next thing to do. Frames and requests that were handed in since the last call are worked off together: what they
    /// propose becomes one append, one write and one acknowledgement.
    pub fn poll(&mut self) -> Option<Output> {
        if self.out.is_empty() && std::mem::take(&mut self.stale) {
            self.pump();
        }
        self.out.pop_front()
    }

    /// The replica, to be asked.
    pub fn group(&self) -> &Group<Machine> {
        &self.group
    }

    /// Has an operator's command done by the replica.
    pub fn operate<R>(&mut self, command: impl FnOnce(&mut Group<Machine>) -> R) -> R {
        let result = command(&mut self.group);
        self.pump();
        result
    }

    /// Hands leadership to the voter that is best placed for it, before this one stops. Whether there was anything to hand
    /// over, and somebody.
    pub fn hand_over(&mut self) -> bool {
        let Some(successor) = self.group.successor() else { return false };
        self.operate(|group| group.transfer_leadership(successor)).is_ok()
    }

    /// How many clients there are, and how many of them have a session.
    pub fn clients(&self) -> (usize, usize) {
        (self.channels.len(), self.owners.len())
    }

    /// Frames that were not taken.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Watches of this voter's clients.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    fn is_member(&self, peer: PeerId) -> bool {
        self.group.membership().members.values().any(|member| member.peer == peer)
    }

    fn leads(&self) -> bool {
        self.group.role().standing == Standing::Leader
    }

    fn leader(&self) -> Option<PeerId> {
        let leader = self.group.role().leader?;
        self.group.membership().members.get(&leader).map(|member| member.peer)
    }

    fn send(&mut self, to: PeerId, frame: &Frame) {
        self.out.push_back(Output::Send { to, bytes: frame.to_bytes() });
    }

    fn tell(&mut self, id: ChannelId, tell: Tell) {
        let (peer, channel) = id;
        if self.is_own(id) {
            self.out.push_back(Output::Told { channel, tell });
        } else {
            self.send(peer, &Frame::Tell(channel, tell));
        }
    }

    /// Whether a channel is a door's of this voter's own peer.
    fn is_own(&self, id: ChannelId) -> bool {
        id.0 == self.me && self.channels.get(&id).is_some_and(|channel| channel.own)
    }

    fn status(&self) -> Tell {
        let membership = self.group.membership();
        let voters: BTreeSet<PeerId> = membership.voters.iter().map(|id| membership.members[id].peer).collect();
        Tell::Status { led: self.group.role().leader.is_some(), voters: voters.into_iter().take(MAX_VOTERS).collect() }
    }

    fn tell_status(&mut self) {
        let status = self.status();
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        channels.into_iter().for_each(|id| self.tell(id, status.clone()));
    }

    fn on_ask(&mut self, id: ChannelId, ask: Ask, own: bool) {
        if !self.channels.contains_key(&id) {
            let of_peer = self.channels.range((id.0, 0)..=(id.0, u64::MAX)).count();
            if self.channels.len() >= MAX_CHANNELS || of_peer >= MAX_CHANNELS_OF_PEER {
                return self.tell(id, Tell::Refused { of: subject(&ask), why: Refusal::Busy });
            }
            self.channels.insert(id, Channel { own, ..Channel::default() });
            let status = self.status();
            self.tell(id, status);
        }
        match ask {
            Ask::Open { nonce, ttl_ms } => self.open(id, nonce, ttl_ms),
            Ask::Attach { nonce, session, password, seen: _ } => {
                // The entry that attaches comes after all that the client has seen, so nothing has to be waited for.
                self.forget_entering(id);
                let own = self.dice.next_u64().max(1);
                let body = Body::Attach { session, password, nonce: own };
                self.enter(id, nonce, body, |voter, entering| drop(voter.attaching.insert((session, own), entering)));
            }
            Ask::Call { seq, acked_below, command } => self.call(id, seq, acked_below, command),
            Ask::Authenticate { id: name, scheme, secret } => self.authenticate(id, name, &scheme, &secret),
            Ask::Ping { n } => self.ping(id, n),
            Ask::Read { id: name, after, linear, query, watch } => self.read(id, name, after, linear, query, watch),
            Ask::Watch { id: name, watch, path } => self.wish(id, Wish::Watch { id: name, watch, path, on: true }),
            Ask::Unwatch { id: name, watch, path } => self.wish(id, Wish::Watch { id: name, watch, path, on: false }),
            Ask::Rearm { seen, watches } => self.wish(id, Wish::Rearm { seen, watches }),
        }
    }

    fn open(&mut self, id: ChannelId, nonce: u64, ttl_ms: u64) {
        if self.opening.values().any(|entering| entering.channel == id && entering.nonce == nonce) {
            return;
        }
        self.forget_entering(id);
        let session = loop {
            let drawn = SessionId(self.dice.next_u64());
            if drawn.is_valid() && self.group.machine().sessions().find(drawn).is_none() {
                break drawn;
            }
        };
        let mut password = [0; PASSWORD_LEN];
        self.dice.fill_bytes(&mut password);
        let body = Body::Open { session, password, ttl_ms, owner: id.0.0.to_vec().into() };
        self.enter(id, nonce, body, |voter, entering| drop(voter.opening.insert(session, entering)));
    }

    fn enter(&mut self, channel: ChannelId, nonce: u64, body: Body, keep: impl FnOnce(&mut Self, Entering)) {
        if self.opening.len() + self.attaching.len() >= MAX_CHANNELS {
            return self.tell(channel, Tell::Refused { of: Subject::Entry(nonce), why: Refusal::Busy });
        }
        self.submit(body.clone());
        keep(self, Entering { channel, nonce, body, age: 0 });
    }

    fn call(&mut self, id: ChannelId, seq: u64, acked_below: u64, command: crate::coord::command::Command) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(Owned { session, attachment, .. }) = channel.owned else {
            return self.tell(id, Tell::Refused { of: Subject::Call(seq), why: Refusal::NoSession });
        };
        let identities = channel.identities.clone();
        let request = Request { session, attachment, seq, acked_below, identities, command };
        let entry = Entry { stamp: self.wall, body: Body::Request(request.clone()) };
        let Ok(bytes) = entry.to_log() else {
            return self.tell(id, Tell::Refused { of: Subject::Call(seq), why: Refusal::TooLarge });
        };
        let size = bytes.len();
        let full = channel.pending.len() as u64 >= MAX_IN_FLIGHT || channel.pending_bytes + size > MAX_PENDING_BYTES;
        if full && !channel.pending.contains_key(&seq) {
            return self.tell(id, Tell::Refused { of: Subject::Call(seq), why: Refusal::Busy });
        }
        if channel.pending.is_empty() {
            channel.age = 0;
        }
        channel.pending_bytes += size;
        if let Some((_, old)) = channel.pending.insert(seq, (request, size)) {
            channel.pending_bytes = channel.pending_bytes.saturating_sub(old);
        }
        if self.leads() {
            self.again |= self.propose_entry(self.me, bytes).is_err();
        } else {
            self.submit(entry.body);
        }
    }

    fn authenticate(&mut self, id: ChannelId, name: u64, scheme: &str, secret: &[u8]) {
        let known = match scheme {
            "ip" if id.0 == self.me => address(secret),
            scheme => super::talk::identify(scheme, secret),
        };
        let Some(identity) = known else {
            return self.tell(id, Tell::Refused { of: Subject::Read(name), why: Refusal::Scheme });
        };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !channel.identities.contains(&identity) {
            if channel.identities.len() >= MAX_IDENTITIES {
                return self.tell(id, Tell::Refused { of: Subject::Read(name), why: Refusal::TooLarge });
            }
            channel.identities.push(identity);
        }
        if let Some(owned) = channel.owned {
            self.watches.identify(owned.session, channel.identities.clone());
        }
        let zxid = self.group.applied().index;
        self.tell(id, Tell::Read { id: name, zxid, found: Ok(super::talk::Found::Nothing) });
    }

    /// Has it proposed: here if this voter leads, else where the leader is. What is lost is passed on again later.
    fn submit(&mut self, body: Body) {
        if self.leads() {
            self.again |= self.propose(self.me, body).is_err();
        } else if let Some(leader) = self.leader() {
            self.send(leader, &Frame::Pass(Pass::Propose(body)));
        }
    }

    fn on_pass(&mut self, from: PeerId, pass: Pass) {
        match pass {
            Pass::Propose(body @ (Body::Open { .. } | Body::Attach { .. } | Body::Renew { .. } | Body::Request(_))) => {
                if self.propose(from, body).is_err() {
                    self.send(from, &Frame::Passed(Passed::Again));
                }
            }
            // What time brings about is the leader's own to propose.
            Pass::Propose(_) => self.rejected += 1,
            Pass::Touch { round, sessions } => self.lead_touch(from, round, sessions),
        }
    }

    fn on_passed(&mut self, passed: Passed) {
        match passed {
            Passed::Again => self.again = true,
            Passed::Touched { round, index, renewed } => self.touched(round, index, renewed),
        }
    }

    /// Passes on again what was not applied: all of it when the leader asked for it, else what has waited long.
    fn retry(&mut self) {
        let all = std::mem::take(&mut self.again);
        let mut bodies = Vec::new();
        for entering in self.opening.values_mut().chain(self.attaching.values_mut()) {
            entering.age += 1;
            if all || entering.age.is_multiple_of(RETRY_TICKS) {
                bodies.push(entering.body.clone());
            }
        }
        for channel in self.channels.values_mut().filter(|channel| !channel.pending.is_empty()) {
            channel.age += 1;
            if all || channel.age >= RETRY_TICKS {
                channel.age = 0;
                bodies.extend(channel.pending.values().map(|(request, _)| Body::Request(request.clone())));
            }
        }
        bodies.into_iter().for_each(|body| self.submit(body));
        // Whoever has been waiting for a minute is not there any more.
        let gone = |entering: &Entering| entering.age < IDLE_TICKS;
        self.opening.retain(|_, entering| gone(entering));
        self.attaching.retain(|_, entering| gone(entering));
        self.sweep();
    }

    /// Forgets channels that have had no session for a minute.
    fn sweep(&mut self) {
        let entering: BTreeSet<ChannelId> =
            self.opening.values().chain(self.attaching.values()).map(|entering| entering.channel).collect();
        self.channels.retain(|id, channel| {
            let used = channel.owned.is_some() || entering.contains(id);
            channel.idle = if used { 0 } else { channel.idle + 1 };
            channel.idle < IDLE_TICKS
        });
    }

    /// Forgets a channel whose session is no longer its own, unless it waits for another one.
    fn retire(&mut self, id: ChannelId) {
        if !self.opening.values().chain(self.attaching.values()).any(|entering| entering.channel == id) {
            self.channels.remove(&id);
        }
    }

    fn drop_channel(&mut self, id: ChannelId) {
        if let Some(Channel { owned: Some(owned), .. }) = self.channels.remove(&id) {
            self.disown(owned.session);
        }
        self.forget_entering(id);
    }

    /// A channel waits for one session at a time.
    fn forget_entering(&mut self, id: ChannelId) {
        self.opening.retain(|_, entering| entering.channel != id);
        self.attaching.retain(|_, entering| entering.channel != id);
    }

    /// Forgets who serves a session here.
    fn disown(&mut self, session: SessionId) -> Option<ChannelId> {
        self.watches.end(session);
        let id = self.owners.remove(&session)?;
        if let Some(channel) = self.channels.get_mut(&id) {
            (channel.owned, channel.pending_bytes) = (None, 0);
            channel.pending.clear();
            channel.wishes.clear();
        }
        Some(id)
    }

    /// Carries out what the replica gives. Its state is ahead of what it has told until all of that is carried out, so reads
    /// and acknowledgements come last: what they show was told to watchers before.
    fn pump(&mut self) {
        loop {
            self.propose_gathered();
            let any = self.pump_replica();
            self.flush_pongs();
            for id in std::mem::take(&mut self.ready) {
                self.grant_wishes(id);
            }
            if !any {
                return;
            }
        }
    }

    /// Whether there was anything.
    fn pump_replica(&mut self) -> bool {
        let mut any = false;
        while let Some(step) = self.group.poll() {
            any = true;
            match step {
                Step::Send { to, bytes } => self.send(to, &Frame::Raft(bytes)),
                Step::Persist { ticket, writes } => self.out.push_back(Output::Persist { ticket, writes }),
                Step::Applied { output, .. } => self.on_applied(output),
                Step::Installed { .. } => self.on_installed(),
                Step::ReadReady { ctx, index } => self.on_round(ctx, Some(index)),
                Step::ReadFailed { ctx, .. } => self.on_round(ctx, None),
                Step::Role(role) => self.on_role(role),
                Step::Membership(membership) => {
                    self.out.push_back(Output::Membership(membership));
                    self.tell_status();
                }
                Step::Halted(halt) => self.out.push_back(Output::Halted(halt)),
            }
        }
        any
    }

    fn on_role(&mut self, role: Role) {
        match role.standing {
            // Everything that is counted gets its full time again: a period is a lower bound.
            Standing::Leader if self.duties.is_none() => self.duties = Some(Duties::of(self.group.machine())),
            Standing::Leader => {}
            _ => {
                self.duties = None;
                self.drop_gathered();
            }
        }
        self.renew_touches();
        self.again |= role.leader.is_some();
        self.out.push_back(Output::Role(role));
        self.tell_status();
    }
}

/// What a client calls what it asks.
fn subject(ask: &Ask) -> Subject {
    match ask {
        Ask::Open { nonce, .. } | Ask::Attach { nonce, .. } => Subject::Entry(*nonce),
        Ask::Call { seq, .. } => Subject::Call(*seq),
        Ask::Read { id, .. } | Ask::Watch { id, .. } | Ask::Unwatch { id, .. } | Ask::Authenticate { id, .. } => {
            Subject::Read(*id)
        }
        Ask::Ping { n } => Subject::Ping(*n),
        Ask::Rearm { .. } => Subject::Rearm,
    }
}

/// Whom a peer says that its door's client is, by where it connects from.
fn address(text: &[u8]) -> Option<Identity> {
    let address: std::net::IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Identity::new("ip", &address.to_string()))
}

/// Errors that a voter settles itself: the request was not done and is passed on again.
fn is_passing(error: &CoordError) -> bool {
    matches!(error, CoordError::OutOfOrder { .. })
}
