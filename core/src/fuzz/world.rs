//! Real engines over stores in memory, on virtual time, with links whose other end is an input.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

use crate::config::EngineConfig;
use crate::document::{EditOptions, Template, Value};
use crate::engine::{Command, CommandError, Engine, Event, Reply, StatusReport};
use crate::id::{ChangeHash, Path, PeerId, Prefix, SpaceId};
use crate::io::{
    CloseReason, Input, LinkId, Output, RequestId, StorageReply, StorageTask, StorageWork, Table, WriteOp,
};
use crate::store::{Backend, Memory};
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::{DeviceKey, Fact, Invitation, Role};

/// Outputs of one input: far more than an honest exchange of a few documents takes.
const MAX_OUTPUTS: usize = 4_096;

/// Inputs until everything is at rest.
const MAX_STEPS: usize = 50_000;

/// What stands in a document that only members with a right to all may read.
pub(crate) const SECRET: &str = "NOT-FOR-GUESTS";

/// One engine with its store.
struct Seat {
    engine: Engine,
    store: Memory,
    inbox: VecDeque<Input>,
    /// Answers of the storage that are held back, while they are.
    held: Option<VecDeque<Input>>,
    wake: Option<Timestamp>,
    peer: Option<PeerId>,
    failed: bool,
    replies: BTreeMap<RequestId, Result<Reply, CommandError>>,
    requests: u64,
}

impl Seat {
    fn new(n: u8, store: Memory, set: &dyn Fn(&mut EngineConfig)) -> Self {
        let mut config = EngineConfig { store_identity: store.identity(), ..EngineConfig::default() };
        set(&mut config);
        Self {
            engine: Engine::new(config, [n + 1; 32]),
            store,
            inbox: VecDeque::new(),
            held: None,
            wake: None,
            peer: None,
            failed: false,
            replies: BTreeMap::new(),
            requests: 0,
        }
    }
}

/// What is made once and copied for each input.
struct Prepared {
    stores: [Memory; 2],
    space: SpaceId,
    facts: Vec<Fact>,
}

/// Engines and the links between them. Seat 0 is the one that is spoken to; seat 1, where there is one, is an honest member
/// that only ever speaks with seat 0.
pub(crate) struct World {
    seats: Vec<Seat>,
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    next_link: u64,
    micros: u64,
    /// The space.
    pub(crate) space: SpaceId,
    /// What makes the guest a writer of `/pub`.
    pub(crate) facts: Vec<Fact>,
    /// What seat 0 said on links that have no other end here.
    pub(crate) heard: VecDeque<(LinkId, Vec<u8>)>,
    /// Links of seat 0 that it closed, and why.
    pub(crate) closed: BTreeMap<LinkId, CloseReason>,
    /// Bytes of the strong path that seat 0 sent to others.
    pub(crate) strong_bytes: usize,
    /// Bytes that the seats sent each other.
    pub(crate) honest_bytes: usize,
    /// Whether seat 0 and seat 1 fell out.
    pub(crate) fell_out: Option<CloseReason>,
}

/// The guest's device.
pub(crate) fn guest() -> DeviceKey {
    DeviceKey::from_seed(&[66; 32])
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let seats = (0..2).map(|n| Seat::new(n, Memory::new([n; 16]), &|_| {})).collect();
        let mut world = World::of(seats, SpaceId([0; 32]), Vec::new());
        (0..2).for_each(|n| world.start(n));
        world.settle();
        let Ok(Reply::Space(info)) = world.call(0, Command::CreateSpace { name: "default".into() }) else {
            panic!("a space can be made")
        };
        world.space = info.id;
        for (at, key, text) in [("/own/a", "x", "1"), ("/own/b", "secret", SECRET), ("/pub/x", "y", "2")] {
            world.edit(0, at, key, text).expect("the founder may write");
        }
        let facts = world.admit(&guest(), Role::Writer, "/pub");
        let text = world.invite(Role::Writer, "/").to_text().to_string();
        world.call(1, Command::Join { invitation: text, name: None }).expect("an invitation");
        let stores = [world.seats[0].store.clone(), world.seats[1].store.clone()];
        Prepared { stores, space: world.space, facts }
    })
}

impl World {
    fn of(seats: Vec<Seat>, space: SpaceId, facts: Vec<Fact>) -> Self {
        Self {
            seats,
            wires: BTreeMap::new(),
            next_link: 1,
            micros: 1_000_000,
            space,
            facts,
            heard: VecDeque::new(),
            closed: BTreeMap::new(),
            strong_bytes: 0,
            honest_bytes: 0,
            fell_out: None,
        }
    }

    fn copy(count: u8, set: &dyn Fn(&mut EngineConfig)) -> Self {
        let Prepared { stores, space, facts } = prepared();
        let seats = (0..count).zip(stores).map(|(n, store)| Seat::new(n, store.clone(), set)).collect();
        Self { micros: 100_000_000, ..Self::of(seats, *space, facts.clone()) }
    }

    /// The founder's store, not yet opened.
    pub(crate) fn one() -> Self {
        Self::copy(1, &|_| {})
    }

    /// The founder and an honest member, opened and linked with each other, in step.
    pub(crate) fn two() -> Self {
        Self::two_with(&|_| {})
    }

    /// The same with engines that are configured otherwise.
    pub(crate) fn two_with(set: &dyn Fn(&mut EngineConfig)) -> Self {
        let mut world = Self::copy(2, set);
        (0..2).for_each(|n| world.start(n));
        world.settle();
        let (near, far) = (world.link(), world.link());
        world.wires.insert((0, near), (1, far));
        world.wires.insert((1, far), (0, near));
        let peer = |n: usize| world.seats[n].peer.expect("the store opened");
        let (founder, member) = (peer(0), peer(1));
        // Both ends know of the link before either speaks.
        world.seats[0].inbox.push_back(Input::Linked { link: near, peer: member, initiator: true });
        world.seats[1].inbox.push_back(Input::Linked { link: far, peer: founder, initiator: false });
        world.run_for(2_000);
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            mono: Timestamp::from_micros(self.micros),
            wall: WallTime(1_790_000_000_000 + self.micros as i64 / 1_000),
        }
    }

    /// A number for a new link.
    pub(crate) fn link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// Opens a store.
    pub(crate) fn start(&mut self, n: usize) {
        self.seats[n].inbox.push_back(Input::Wake);
    }

    pub(crate) fn is_open(&self, n: usize) -> bool {
        self.seats[n].peer.is_some() && !self.seats[n].failed
    }

    /// Who seat `n` is, once open.
    pub(crate) fn peer(&self, n: usize) -> PeerId {
        self.seats[n].peer.expect("the store is open")
    }

    /// The device of seat `n`, as the other one knows it.
    #[cfg(test)]
    pub(crate) fn device(&mut self, n: usize) -> crate::id::DeviceId {
        let peer = self.peer(n);
        let links = self.status(1 - n).links;
        links.into_iter().find(|link| link.peer == peer).and_then(|link| link.device).expect("they are linked")
    }

    /// Hands seat `n` an input and lets everything come to rest.
    pub(crate) fn input(&mut self, n: usize, input: Input) {
        self.seats[n].inbox.push_back(input);
        self.settle();
    }

    /// Puts a row into a store behind its engine's back.
    pub(crate) fn overwrite(&mut self, n: usize, table: Table, key: &[u8], value: &[u8]) {
        let put = WriteOp::Put(table, key.to_vec(), value.to_vec());
        let written = self.seats[n].store.write(&[(&[put], None)]);
        assert!(written.iter().all(Result::is_ok), "memory takes what is written");
    }

    pub(crate) fn rows(&self, n: usize, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.seats[n].store.table(table)
    }

    /// Runs until nothing happens but waiting.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            let Some(n) = (0..self.seats.len()).find(|n| !self.seats[*n].inbox.is_empty()) else { return };
            self.step(n);
        }
        panic!("the engines never come to rest");
    }

    fn step(&mut self, n: usize) {
        let now = self.now();
        let seat = &mut self.seats[n];
        let Some(input) = seat.inbox.pop_front() else { return };
        seat.engine.handle(now, input);
        let mut outputs = 0;
        while let Some(output) = self.seats[n].engine.poll() {
            outputs += 1;
            assert!(outputs <= MAX_OUTPUTS, "endless outputs of one input");
            self.carry_out(n, output);
        }
    }

    /// Lets time pass; engines are woken when they asked for it.
    pub(crate) fn run_for(&mut self, millis: u64) {
        let end = self.micros + millis * 1_000;
        self.settle();
        loop {
            let next = self.seats.iter().filter_map(|seat| seat.wake).min().map_or(u64::MAX, Timestamp::as_micros);
            if next > end {
                break;
            }
            // A wake-up in the past still moves time, so that nobody spins in place.
            self.micros = next.max(self.micros + 100);
            let now = Timestamp::from_micros(self.micros);
            for seat in &mut self.seats {
                if seat.wake.is_some_and(|at| at <= now) {
                    seat.wake = None;
                    seat.inbox.push_back(Input::Wake);
                }
            }
            self.settle();
        }
        self.micros = self.micros.max(end);
    }

    fn carry_out(&mut self, n: usize, output: Output) {
        match output {
            Output::Send { link, bytes } => {
                assert!(bytes.len() <= crate::io::MAX_FRAME, "a frame over its bound");
                match self.wires.get(&(n, link)) {
                    Some((to, far)) => {
                        self.honest_bytes += bytes.len();
                        self.seats[*to].inbox.push_back(Input::Frame { link: *far, bytes });
                    }
                    None if n == 0 => self.heard.push_back((link, bytes)),
                    None => {}
                }
            }
            Output::Close { link, reason } => {
                if let Some((to, far)) = self.wires.remove(&(n, link)) {
                    self.wires.remove(&(to, far));
                    self.seats[to].inbox.push_back(Input::Unlinked { link: far });
                    self.fell_out = Some(reason);
                } else if n == 0 {
                    self.closed.insert(link, reason);
                }
            }
            Output::Storage(task) => self.store(n, &task),
            Output::Event(event) => self.on_event(n, event),
            Output::Wake { at } => self.seats[n].wake = Some(at),
            #[cfg(feature = "coord")]
            Output::Coord { peer, bytes } => {
                let to = self.seats.iter().position(|seat| seat.peer == Some(peer));
                match (to, self.seats[n].peer) {
                    (Some(to), Some(from)) => self.seats[to].inbox.push_back(Input::Coord { peer: from, bytes }),
                    _ => self.strong_bytes += bytes.len(),
                }
            }
            // Inputs say who is linked with whom.
            _ => {}
        }
    }

    fn store(&mut self, n: usize, task: &StorageTask) {
        let seat = &mut self.seats[n];
        let result = match &task.work {
            StorageWork::Write { ops, epoch } => {
                let mut results = seat.store.write(&[(ops.as_slice(), epoch.as_deref())]);
                results.pop().expect("one result a batch").map(|()| StorageReply::Written)
            }
            StorageWork::Read { ops } => seat.store.read(ops).map(StorageReply::Read),
        };
        let done = Input::StorageDone { ticket: task.ticket, result };
        seat.held.as_mut().unwrap_or(&mut seat.inbox).push_back(done);
    }

    /// Holds back what the storage of seat `n` answers, or lets it go.
    #[cfg(test)]
    pub(crate) fn hold_storage(&mut self, n: usize, hold: bool) {
        let held = std::mem::replace(&mut self.seats[n].held, hold.then(VecDeque::new));
        self.seats[n].inbox.extend(held.into_iter().flatten());
        self.settle();
    }

    fn on_event(&mut self, n: usize, event: Event) {
        let seat = &mut self.seats[n];
        match event {
            Event::Opened { peer_seed, .. } => {
                seat.peer = Some(PeerId(DeviceKey::from_seed(&peer_seed).device().0));
            }
            Event::OpenFailed(_) => seat.failed = true,
            Event::Reply { request, result } => drop(seat.replies.insert(request, result)),
            _ => {}
        }
    }

    /// Asks an engine; the answer if it comes without waiting.
    pub(crate) fn ask(&mut self, n: usize, command: Command) -> Option<Result<Reply, CommandError>> {
        self.seats[n].requests += 1;
        let request = RequestId(self.seats[n].requests);
        self.input(n, Input::Command { request, command });
        self.seats[n].replies.remove(&request)
    }

    fn call(&mut self, n: usize, command: Command) -> Result<Reply, CommandError> {
        self.ask(n, command).expect("the command is answered")
    }

    /// What makes a device a member.
    pub(crate) fn admit(&mut self, device: &DeviceKey, role: Role, prefix: &str) -> Vec<Fact> {
        self.invite(role, prefix).accept(&device.device(), self.now().wall).expect("it has not run out")
    }

    fn invite(&mut self, role: Role, prefix: &str) -> Invitation {
        let prefix = Prefix::parse(prefix).expect("a prefix");
        let space = self.space;
        let command = Command::Invite { space, role, prefix, not_after: None, addresses: Vec::new() };
        let Ok(Reply::Invitation(text)) = self.call(0, command) else { panic!("the founder invites") };
        Invitation::parse(&text).expect("an own invitation")
    }

    /// Puts a key into a document; its heads then.
    pub(crate) fn edit(&mut self, n: usize, at: &str, key: &str, text: &str) -> Option<Vec<ChangeHash>> {
        let (space, path) = (self.space, path(at));
        let open = Command::Open { space, path, template: Template::default() };
        let Some(Ok(Reply::Document { cell, .. })) = self.ask(n, open) else { return None };
        let value = Value::Str(text.to_owned());
        let edited = cell.with(|hot| hot.edit(&EditOptions::default(), |draft| draft.put(key, value)));
        let change = edited.ok()?.ok()?.1?;
        match self.ask(n, Command::Commit { space, changes: vec![change] })? {
            Ok(Reply::Committed(heads)) => heads.into_iter().next().map(|(_, heads)| heads),
            _ => None,
        }
    }

    /// Documents with their heads.
    pub(crate) fn list(&mut self, n: usize) -> BTreeMap<Path, Vec<ChangeHash>> {
        let (space, prefix) = (self.space, Prefix::root());
        match self.ask(n, Command::List { space, prefix, after: None, limit: 1_000 }) {
            Some(Ok(Reply::List { items, .. })) => items.into_iter().map(|item| (item.path, item.heads)).collect(),
            _ => BTreeMap::new(),
        }
    }

    pub(crate) fn status(&mut self, n: usize) -> StatusReport {
        match self.call(n, Command::Status) {
            Ok(Reply::Status(status)) => *status,
            other => panic!("no figures: {other:?}"),
        }
    }

    /// Reads every document, and closes.
    pub(crate) fn use_it(&mut self, n: usize) {
        let _ = self.ask(n, Command::Status);
        for path in self.list(n).into_keys() {
            let _ = self.ask(n, Command::Read { space: self.space, path: path.clone() });
            let _ = self.edit(n, path.as_str(), "again", "1");
        }
        self.run_for(1_000);
        let _ = self.ask(n, Command::Close);
        self.run_for(1_000);
    }
}
