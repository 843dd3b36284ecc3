//! Many engines on virtual time, with links of a given delay and rate that are opened and closed as the engines wish:
//! what `spread`, `heal` and `soft_day` run on. Storage is memory and takes no time, so what is measured is the protocol.
//!
//! Most peers of a large crowd are copies of a few stores with peer keys of their own: a device may run any number of peers,
//! and a grant for each of a thousand devices would have every peer check a million signatures before anything begins.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use foreshore::config::EngineConfig;
use foreshore::engine::{Command, Engine, Event, Reply, StatusReport};
use foreshore::id::{PeerId, Prefix, SpaceId};
use foreshore::io::{
    CloseReason, Input, LinkId, Output, RequestId, StorageFailure, StorageReply, StorageTask, StorageWork, Table,
    WriteOp,
};
use foreshore::store::{Backend, Memory};
use foreshore::time::{Now, Timestamp, WallTime};
use foreshore::trust::{DeviceKey, Role};
use foreshore::wire::v1::{Message, decode_frame};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// What every link is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// One way.
    pub(crate) delay: Duration,
    /// Bytes a second, each way; 0: no bound.
    pub(crate) rate: u64,
    /// Frames of a thousand that are lost, each to be sent again a delay later.
    pub(crate) loss: u32,
}

/// A document that changed on a peer, because of another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
}

/// What happens at a time.
enum What {
    Frame(usize, LinkId, Vec<u8>),
    Linked(usize, LinkId, PeerId, bool),
    Unlinked(usize, LinkId),
    Wake(usize, u64),
    Wish(usize, usize),
    Surplus(usize, usize),
}

/// One direction of a link.
#[derive(Debug, Clone, Copy)]
struct Far {
    node: usize,
    link: LinkId,
    free_at: Timestamp,
    last: Timestamp,
}

/// One peer.
struct Member {
    engine: Engine,
    store: Memory,
    peer: PeerId,
    links: BTreeMap<LinkId, Far>,
    wakes: u64,
    replies: Vec<(RequestId, Result<Reply, foreshore::engine::CommandError>)>,
    requests: u64,
}

/// Counts over all links.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) frames: u64,
    /// With the bytes that frame each of them.
    pub(crate) bytes: u64,
    /// Changes in updates, one a receiver.
    pub(crate) copies: u64,
}

/// The crowd.
pub(crate) struct Crowd {
    members: Vec<Member>,
    queue: BTreeMap<(Timestamp, u64), What>,
    scheduled: u64,
    now: Timestamp,
    rng: ChaCha12Rng,
    pub(crate) path: Path,
    /// Whether wishes of engines are fulfilled.
    pub(crate) wishes: bool,
    /// Halves between which nothing passes and nothing connects: those below this number, and the others.
    pub(crate) cut: Option<usize>,
    next_link: u64,
    pub(crate) carried: Carried,
    /// Remote changes that were shown, since last asked.
    pub(crate) seen: Vec<Seen>,
    watches: bool,
}

fn delete_peer_key(store: &mut Memory) -> anyhow::Result<()> {
    let ops = [WriteOp::Delete(Table::Meta, b"peer".to_vec())];
    store.write(&[(&ops, None)]).pop().context("one batch has one answer")??;
    Ok(())
}

impl Crowd {
    /// Peers of one space, the first of which made it; `devices` others were invited, and the rest are further peers of
    /// those. Nobody is linked.
    pub(crate) fn new(
        peers: usize,
        devices: usize,
        path: Path,
        role: impl Fn(usize) -> (Role, Prefix),
        config: impl Fn(usize) -> EngineConfig,
    ) -> anyhow::Result<(Self, SpaceId)> {
        let quick = Path { delay: Duration::from_millis(1), rate: 0, loss: 0 };
        let mut crowd = Self {
            members: Vec::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            now: Timestamp::from_micros(1_000_000),
            rng: ChaCha12Rng::seed_from_u64(7),
            path: quick,
            wishes: false,
            cut: None,
            next_link: 0,
            carried: Carried::default(),
            seen: Vec::new(),
            watches: false,
        };
        let devices = devices.min(peers - 1);
        crowd.add(Memory::new([0; 16]), config(0))?;
        let Reply::Space(space) = crowd.ask(0, Command::CreateSpace { name: "crowd".into() })? else {
            bail!("the space is made")
        };
        for n in 1..=devices {
            let store = Memory::new(u128::to_le_bytes(n as u128));
            crowd.add(store, config(n))?;
            let (role, prefix) = role(n);
            let invite = Command::Invite { space: space.id, role, prefix, not_after: None, addresses: Vec::new() };
            let Reply::Invitation(text) = crowd.ask(0, invite)? else { bail!("an invitation") };
            crowd.ask(n, Command::Join { invitation: text, name: None })?;
            crowd.connect(n, 0);
        }
        // Everybody hears of everybody's grant.
        crowd.run_for(Duration::from_secs(3))?;
        crowd.unlink_all()?;
        for n in devices + 1..peers {
            let mut store = crowd.members[1 + (n - 1) % devices].store.clone();
            delete_peer_key(&mut store)?;
            crowd.add(store, config(n))?;
        }
        crowd.path = path;
        Ok((crowd, space.id))
    }

    /// Opens a store as a further peer.
    fn add(&mut self, store: Memory, config: EngineConfig) -> anyhow::Result<()> {
        let (n, mut seed) = (self.members.len(), [0; 32]);
        self.rng.fill_bytes(&mut seed);
        let store_identity = (n as u64).to_le_bytes().to_vec();
        let engine = Engine::new(EngineConfig { store_identity, ..config }, seed);
        self.members.push(Member {
            engine,
            store,
            peer: PeerId([0; 32]),
            links: BTreeMap::new(),
            wakes: 0,
            replies: Vec::new(),
            requests: 0,
        });
        self.handle(n, Input::Wake)?;
        ensure!(self.members[n].peer.0 != [0; 32], "the store did not open");
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    /// Notes remote changes as they are shown, from now on.
    pub(crate) fn watch(&mut self) {
        self.watches = true;
        self.seen.clear();
    }

    /// Runs a command to its answer; nothing else happens meanwhile.
    pub(crate) fn ask(&mut self, n: usize, command: Command) -> anyhow::Result<Reply> {
        let member = &mut self.members[n];
        member.requests += 1;
        let request = RequestId(member.requests);
        self.handle(n, Input::Command { request, command })?;
        let replies = &mut self.members[n].replies;
        let at = replies.iter().position(|(r, _)| *r == request).context("the command was not answered")?;
        Ok(replies.swap_remove(at).1?)
    }

    pub(crate) fn status(&mut self, n: usize) -> anyhow::Result<StatusReport> {
        match self.ask(n, Command::Status)? {
            Reply::Status(report) => Ok(*report),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    fn at(&mut self, time: Timestamp, what: What) {
        self.scheduled += 1;
        self.queue.insert((time.max(self.now), self.scheduled), what);
    }

    fn are_apart(&self, a: usize, b: usize) -> bool {
        self.cut.is_some_and(|first| (a < first) != (b < first))
    }

    fn are_linked(&self, a: usize, b: usize) -> bool {
        self.members[a].links.values().any(|far| far.node == b)
    }

    /// Opens a link, as a dial does that takes a round trip.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let (now, delay) = (self.now, self.path.delay);
        let end = |node, link| Far { node, link, free_at: now, last: now };
        self.members[a].links.insert(near, end(b, far));
        self.members[b].links.insert(far, end(a, near));
        let (pa, pb) = (self.members[a].peer, self.members[b].peer);
        self.at(now + delay, What::Linked(b, far, pa, false));
        self.at(now + 2 * delay, What::Linked(a, near, pb, true));
        // What the acceptor says at once is there no earlier than the news of the link.
        self.members[b].links.get_mut(&far).expect("just made").last = now + 2 * delay;
    }

    /// Ends every link between two peers; each learns of it at once.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        let ends: Vec<(LinkId, LinkId)> = self.members[a]
            .links
            .iter()
            .filter(|(_, far)| far.node == b)
            .map(|(link, far)| (*link, far.link))
            .collect();
        for (near, far) in ends {
            self.members[a].links.remove(&near);
            self.members[b].links.remove(&far);
            self.at(self.now, What::Unlinked(a, near));
            self.at(self.now, What::Unlinked(b, far));
        }
    }

    fn unlink_all(&mut self) -> anyhow::Result<()> {
        for n in 0..self.members.len() {
            let others: Vec<usize> = self.members[n].links.values().map(|far| far.node).collect();
            others.into_iter().for_each(|other| self.disconnect(n, other));
        }
        self.run_for(Duration::from_millis(1))
    }

    /// Parts the crowd in two and returns the pairs that were linked.
    pub(crate) fn part(&mut self, first: usize) -> Vec<(usize, usize)> {
        self.cut = Some(first);
        let mut pairs = Vec::new();
        for a in 0..first {
            let others: Vec<usize> =
                self.members[a].links.values().map(|far| far.node).filter(|b| *b >= first).collect();
            for b in others {
                pairs.push((a, b));
                self.disconnect(a, b);
            }
        }
        pairs
    }

    /// Lets virtual time pass.
    pub(crate) fn run_for(&mut self, span: Duration) -> anyhow::Result<()> {
        let until = self.now + span;
        self.run_until(until, |_| false)
    }

    /// Lets virtual time pass until `done`, at most until `until`.
    pub(crate) fn run_until(&mut self, until: Timestamp, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), what) = entry.remove_entry();
            self.now = at;
            self.happen(what)?;
            if done(self) {
                return Ok(());
            }
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, what: What) -> anyhow::Result<()> {
        match what {
            What::Frame(n, link, bytes) if self.members[n].links.contains_key(&link) => {
                self.carried.copies += if self.watches { changes_in(&bytes)? } else { 0 };
                self.handle(n, Input::Frame { link, bytes })
            }
            What::Linked(n, link, peer, initiator) if self.members[n].links.contains_key(&link) => {
                self.handle(n, Input::Linked { link, peer, initiator })
            }
            What::Frame(..) | What::Linked(..) => Ok(()),
            What::Unlinked(n, link) => self.handle(n, Input::Unlinked { link }),
            What::Wake(n, number) if self.members[n].wakes == number => self.handle(n, Input::Wake),
            What::Wake(..) => Ok(()),
            What::Wish(a, b) => {
                if self.are_apart(a, b) {
                    let peer = self.members[b].peer;
                    return self.handle(a, Input::Unreachable { peer });
                }
                if !self.are_linked(a, b) {
                    self.connect(a, b);
                }
                Ok(())
            }
            What::Surplus(a, b) => {
                self.disconnect(a, b);
                Ok(())
            }
        }
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: WallTime(1_700_000_000_000 + self.now.as_micros() as i64 / 1000) }
    }

    /// Gives an engine an input, and carries out what follows, storage at once.
    fn handle(&mut self, n: usize, input: Input) -> anyhow::Result<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.clock();
            self.members[n].engine.handle(now, input);
            while let Some(output) = self.members[n].engine.poll() {
                match output {
                    Output::Send { link, bytes } => self.send(n, link, bytes),
                    Output::Storage(StorageTask { ticket, work }) => {
                        let result = carry_out(&mut self.members[n].store, &work);
                        inputs.push_back(Input::StorageDone { ticket, result });
                    }
                    Output::Wake { at } => {
                        self.members[n].wakes += 1;
                        let number = self.members[n].wakes;
                        self.at(at, What::Wake(n, number));
                    }
                    Output::Close { reason: CloseReason::Shutdown, .. } => {}
                    Output::Close { reason, .. } => bail!("peer {n} closed a link: {reason:?}"),
                    Output::Link { peer } if self.wishes => {
                        let other = self.members.iter().position(|member| member.peer == peer);
                        let other = other.context("engines know only peers that exist")?;
                        self.at(self.now + self.path.delay, What::Wish(n, other));
                    }
                    Output::Surplus { peer } if self.wishes => {
                        let other = self.members.iter().position(|member| member.peer == peer);
                        let other = other.context("engines know only peers that exist")?;
                        self.at(self.now + Duration::from_millis(1), What::Surplus(n, other));
                    }
                    Output::Event(event) => self.on_event(n, event)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn on_event(&mut self, n: usize, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Opened { peer_seed, .. } => {
                self.members[n].peer = PeerId(DeviceKey::from_seed(&peer_seed).device().0);
            }
            Event::OpenFailed(error) => return Err(error.into()),
            Event::Reply { request, result } => self.members[n].replies.push((request, result)),
            Event::DocumentChanged { remote: true, .. } if self.watches => {
                self.seen.push(Seen { at: self.now });
            }
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, n: usize, link: LinkId, bytes: Vec<u8>) {
        let (now, path) = (self.now, self.path);
        let mut lost = Duration::ZERO;
        while path.loss > 0 && self.rng.next_u32() % 1000 < path.loss {
            lost += path.delay;
        }
        self.carried.frames += 1;
        self.carried.bytes += bytes.len() as u64 + frame_prefix(bytes.len());
        let Some(far) = self.members[n].links.get_mut(&link) else { return };
        let micros = (bytes.len() as u64 * 1_000_000).checked_div(path.rate).unwrap_or(0);
        far.free_at = far.free_at.max(now) + Duration::from_micros(micros);
        far.last = far.last.max(far.free_at + path.delay + lost);
        let (to, link, at) = (far.node, far.link, far.last);
        self.at(at, What::Frame(to, link, bytes));
    }
}

fn frame_prefix(len: usize) -> u64 {
    match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

fn changes_in(frame: &[u8]) -> anyhow::Result<u64> {
    let messages = decode_frame(frame)?;
    let of = |message: &Message| match message {
        Message::Update { documents, .. } => documents.iter().map(|document| document.chunks.len() as u64).sum(),
        _ => 0,
    };
    Ok(messages.iter().map(|(message, _)| of(message)).sum())
}

fn carry_out(store: &mut Memory, work: &StorageWork) -> Result<StorageReply, StorageFailure> {
    match work {
        StorageWork::Write { ops, epoch } => {
            let done = store.write(&[(ops, epoch.as_deref())]).pop();
            done.expect("one batch has one answer").map(|()| StorageReply::Written)
        }
        StorageWork::Read { ops } => store.read(ops).map(StorageReply::Read),
    }
}
