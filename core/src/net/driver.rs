//! The driver task: engine, swarm, links, timers and storage in one loop.
//!
//! It owns the engine outright. Programs reach it by [`Request`]s, the storage thread and the links by channels, and
//! none of them ever waits for another: what the loop takes from each source at a time is bounded by [`BURST`].
//!
//! The swarm starts once the engine says that the store is open, since the store holds the peer's identity. Until then
//! requests wait in their queue.

mod contacts;
#[cfg_attr(not(feature = "coord"), path = "driver/no_coord.rs")]
mod coord;
mod swarm;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p::Multiaddr;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot};

use self::swarm::Net;
use super::clock::Clock;
use super::link::{LinkEvent, Pace};
use super::runtime::Runtime;
use super::transport::Transport;
use super::{Address, CLOSE_TIMEOUT, KnownPeer, NetConfig, NetStatus, SHUTDOWN_TIMEOUT};
use crate::engine::{Command, CommandError, Engine, Event, OpenError, Reply};
use crate::id::{DeviceId, Incarnation, PeerId};
use crate::io::{Input, LinkId, Output, RequestId, StorageFailure, StorageWork, Ticket};
use crate::store::TaskStore as Storage;
use crate::time::{Now, Timestamp};

/// Most inputs taken from one source before the others get their turn.
const BURST: usize = 128;

/// Most edits that the engine is handed at once.
const EDITS: usize = 4096;

/// Events of links that may wait for the driver. Each holds what one read completed, at most a frame and 16 KiB.
const LINK_EVENTS: usize = 64;

/// What the driver drives: the engine, or a stand-in in tests.
pub(crate) trait Machine: Send + 'static {
    /// See [`Engine::handle`].
    fn handle(&mut self, now: Now, input: Input);
    /// See [`Engine::poll`].
    fn poll(&mut self) -> Option<Output>;
}

impl Machine for Engine {
    fn handle(&mut self, now: Now, input: Input) {
        Engine::handle(self, now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        Engine::poll(self)
    }
}

impl Machine for Box<dyn Machine> {
    fn handle(&mut self, now: Now, input: Input) {
        self.as_mut().handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        self.as_mut().poll()
    }
}

/// Takes the answer to a command.
pub(crate) type Sink = Box<dyn FnOnce(Result<Reply, CommandError>) + Send>;

/// What programs ask of the driver.
pub(crate) enum Request {
    /// Something for the engine.
    Command { request: RequestId, command: Command, sink: Sink },
    /// Nobody waits for this command any more.
    Cancel(RequestId),
    /// Refuse a peer from now on and drop its connections, or let it in again and dial it.
    Block { peer: PeerId, blocked: bool, done: oneshot::Sender<()> },
    /// Stay connected to whoever is at this address. `false`: too many addresses.
    Dial { address: Address, done: oneshot::Sender<bool> },
    /// Be reachable through the relay at this address, from now on. `false`: too many relays, or it does not say who it is.
    Relay { address: Address, done: oneshot::Sender<bool> },
    /// The network may be back: dial now, and compare with everybody.
    Hurry {
        /// The network changed: links that do not answer soon are dead.
        probe: bool,
    },
    /// Every peer that is known.
    Known(oneshot::Sender<Vec<KnownPeer>>),
    /// Dial a known peer now. `false`: no address of it is known.
    DialPeer { peer: PeerId, done: oneshot::Sender<bool> },
    /// Drop the links with a peer, and leave it alone. `false`: it is not known.
    DropPeer { peer: PeerId, done: oneshot::Sender<bool> },
    /// Figures.
    Status(oneshot::Sender<NetStatus>),
    /// Flush, seal, close.
    Shutdown(oneshot::Sender<Result<(), CommandError>>),
}

/// An edit that a program made, for the engine to store.
pub(crate) struct Edit {
    pub(crate) request: RequestId,
    pub(crate) command: Command,
    pub(crate) sink: Sink,
}

/// What programs are told.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// By the engine; never a reply.
    Engine(Event),
    /// A sync stream is open.
    Linked { link: LinkId, peer: PeerId, address: Address },
    /// A sync stream is gone.
    Unlinked { link: LinkId, peer: PeerId, why: String },
    /// The addresses that peers can dial, all of them.
    Listening(Vec<Address>),
    /// The driver is done; nothing follows.
    Closed,
}

/// The store is open and every listener has its address.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) device: DeviceId,
    pub(crate) peer: PeerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) listen: Vec<Address>,
}

/// Why a peer does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot set up the network: {0}")]
    Transport(std::io::Error),
    #[error("cannot listen on {address}: {why}")]
    Listen { address: Address, why: String },
}

/// Makes the transport for the identity that the store holds.
pub(crate) type MakeTransport = Box<dyn FnOnce(&libp2p::identity::Keypair) -> std::io::Result<Transport> + Send>;

/// What a driver is made of.
pub(crate) struct Parts<M> {
    pub(crate) machine: M,
    pub(crate) config: NetConfig,
    /// Whether the engine chooses neighbours.
    pub(crate) overlay: bool,
    pub(crate) runtime: Runtime,
    pub(crate) transport: MakeTransport,
    pub(crate) storage: Box<dyn Storage>,
    /// Answers of the storage: bounded by what the engine has in flight.
    pub(crate) storage_done: mpsc::UnboundedReceiver<Input>,
    /// Bounded by the senders' own budgets.
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    /// Bounded by the senders' own budgets.
    pub(crate) edits: mpsc::UnboundedReceiver<Edit>,
    pub(crate) notices: Box<dyn FnMut(Notice) + Send>,
    pub(crate) started: oneshot::Sender<Result<Opened, StartError>>,
    pub(crate) rng: ChaCha12Rng,
}

/// The driver. [`Driver::run`] is the task.
pub(crate) struct Driver<M> {
    machine: M,
    clock: Clock,
    /// How fast links are read.
    pace: Pace,
    config: NetConfig,
    overlay: bool,
    runtime: Runtime,
    transport: Option<MakeTransport>,
    storage: Option<Box<dyn Storage>>,
    storage_done: mpsc::UnboundedReceiver<Input>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// A queue of their own, which sleeps while a write is under way: the engine would only keep them for the next one,
    /// and waking this task for each key that is pressed would cost more than storing it.
    edits: mpsc::UnboundedReceiver<Edit>,
    /// Writes under way.
    writing: BTreeSet<Ticket>,
    link_events: mpsc::Receiver<LinkEvent>,
    to_driver: mpsc::Sender<LinkEvent>,
    coord: coord::Streams,
    notices: Box<dyn FnMut(Notice) + Send>,
    started: Option<oneshot::Sender<Result<Opened, StartError>>>,
    /// Why it does not start.
    failure: Option<StartError>,
    rng: ChaCha12Rng,
    net: Option<Net>,
    /// What the store kept of the address book, until the network starts.
    kept: Option<Vec<u8>>,
    opened: Option<Opened>,
    sinks: BTreeMap<RequestId, Sink>,
    /// Inputs that arose while outputs were carried out.
    pending: VecDeque<Input>,
    feeding: bool,
    wake: Option<Timestamp>,
    closing: Option<Closing>,
}

/// A shutdown under way.
struct Closing {
    waiters: Vec<oneshot::Sender<Result<(), CommandError>>>,
    /// The engine's answer to [`Command::Close`], once here.
    result: Option<Result<(), CommandError>>,
    /// When to stop waiting: for the engine first, then for links to drain.
    deadline: Timestamp,
}

/// The request id of the driver's own [`Command::Close`]; programs count upwards from 0.
const CLOSE_REQUEST: RequestId = RequestId(u64::MAX);

/// The request id of the driver's own commands whose answers nobody waits for.
const NOBODY: RequestId = RequestId(u64::MAX - 1);

impl<M: Machine> Driver<M> {
    pub(crate) fn new(parts: Parts<M>) -> Self {
        let (to_driver, link_events) = mpsc::channel(LINK_EVENTS);
        let clock = Clock::new();
        Self {
            machine: parts.machine,
            pace: Pace::new(&parts.config.limits, clock),
            clock,
            config: parts.config,
            overlay: parts.overlay,
            runtime: parts.runtime,
            transport: Some(parts.transport),
            storage: Some(parts.storage),
            storage_done: parts.storage_done,
            requests: parts.requests,
            edits: parts.edits,
            writing: BTreeSet::new(),
            link_events,
            to_driver,
            coord: coord::Streams::new(),
            notices: parts.notices,
            started: Some(parts.started),
            failure: None,
            rng: parts.rng,
            net: None,
            kept: None,
            opened: None,
            sinks: BTreeMap::new(),
            pending: VecDeque::new(),
            feeding: false,
            wake: None,
            closing: None,
        }
    }

    /// Runs until shut down, or until nobody holds a handle any more.
    pub(crate) async fn run(mut self) {
        self.feed(Input::Wake);
        while !self.finished() {
            let timer = self.next_timer().map(|at| self.clock.instant(at));
            // Requests wait until the store is open; afterwards they are taken to the end, to be refused.
            let listening = self.opened.is_some();
            tokio::select! {
                Some(input) = self.storage_done.recv() => self.on_storage(input),
                request = self.requests.recv(), if listening && self.closing.is_none() => self.on_requests(request),
                Some(edit) = self.edits.recv(), if listening && self.closing.is_none() && self.writing.is_empty() => {
                    self.on_edits(Some(edit));
                }
                Some(event) = self.link_events.recv() => self.on_links(event),
                Some(event) = self.coord.next_event() => self.on_coord_event(event),
                event = next_swarm_event(&mut self.net) => self.on_swarm(event),
                () = Runtime::sleep_until(timer) => self.on_timer(),
            }
        }
        self.end();
    }

    fn on_storage(&mut self, first: Input) {
        self.on_stored(first);
        for _ in 0..BURST {
            let Ok(input) = self.storage_done.try_recv() else { break };
            self.on_stored(input);
        }
    }

    fn on_stored(&mut self, done: Input) {
        if let Input::StorageDone { ticket, .. } = &done {
            self.writing.remove(ticket);
        }
        self.feed(done);
    }

    /// Hands the engine every edit that waits, whatever is being written.
    fn take_edits(&mut self) {
        while !self.edits.is_empty() {
            self.on_edits(None);
        }
    }

    /// Hands the engine the edits that wait, as many as go at once.
    fn on_edits(&mut self, first: Option<Edit>) {
        let mut commands = Vec::new();
        let mut next = first.or_else(|| self.edits.try_recv().ok());
        while let Some(Edit { request, command, sink }) = next {
            self.sinks.insert(request, sink);
            commands.push((request, command));
            next = if commands.len() < EDITS { self.edits.try_recv().ok() } else { None };
        }
        if !commands.is_empty() {
            self.feed(Input::Commands(commands));
        }
    }

    fn on_links(&mut self, first: LinkEvent) {
        self.on_link(first);
        for _ in 0..BURST {
            let Ok(event) = self.link_events.try_recv() else { break };
            self.on_link(event);
        }
    }

    fn on_requests(&mut self, first: Option<Request>) {
        let Some(first) = first else {
            // The last handle is gone: close as if asked to.
            self.take_edits();
            return self.close(None);
        };
        let (mut commands, mut next, mut taken) = (Vec::new(), Some(first), 0);
        while let Some(request) = next {
            taken += 1;
            match request {
                Request::Command { request, command, sink } => {
                    self.sinks.insert(request, sink);
                    commands.push((request, command));
                }
                other => {
                    self.feed_commands(&mut commands);
                    self.on_request(other);
                }
            }
            let more = taken <= BURST && self.closing.is_none();
            next = if more { self.requests.try_recv().ok() } else { None };
        }
        self.feed_commands(&mut commands);
    }

    /// Hands the engine the commands that wait as one, after the edits that were made before them.
    fn feed_commands(&mut self, commands: &mut Vec<(RequestId, Command)>) {
        if commands.is_empty() {
            return;
        }
        self.take_edits();
        match <[_; 1]>::try_from(std::mem::take(commands)) {
            Ok([(request, command)]) => self.feed(Input::Command { request, command }),
            Err(all) => self.feed(Input::Commands(all)),
        }
    }

    fn on_request(&mut self, request: Request) {
        // Whoever asks finds the edits that it made before.
        self.take_edits();
        match request {
            Request::Command { request, command, sink } => {
                self.sinks.insert(request, sink);
                self.feed(Input::Command { request, command });
            }
            Request::Cancel(target) => {
                if self.sinks.contains_key(&target) {
                    self.feed(Input::Command { request: NOBODY, command: Command::Cancel { target } });
                }
            }
            Request::Block { peer, blocked, done } => {
                self.block(peer, blocked);
                let _ = done.send(());
            }
            Request::Dial { address, done } => {
                let _ = done.send(self.dial(address.0));
            }
            Request::Relay { address, done } => drop(done.send(self.relay(&address.0))),
            Request::Hurry { probe } => self.hurry(probe),
            Request::Known(done) => drop(done.send(self.known())),
            Request::DialPeer { peer, done } => drop(done.send(self.dial_peer(peer))),
            Request::DropPeer { peer, done } => drop(done.send(self.drop_peer(peer))),
            Request::Status(done) => {
                let _ = done.send(self.status());
            }
            Request::Shutdown(done) => self.close(Some(done)),
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            // Frames of a link that is gone are not the engine's business any more.
            LinkEvent::Frames { link, frames } => {
                self.net.iter_mut().for_each(|net| net.contacts.heard(link));
                for bytes in frames {
                    if !self.net.as_ref().is_some_and(|net| net.links.contains_key(&link)) {
                        break;
                    }
                    self.feed(Input::Frame { link, bytes });
                }
            }
            LinkEvent::Ended { link, why } => self.on_link_ended(link, &why),
        }
    }

    fn on_timer(&mut self) {
        let now = self.clock.mono();
        if self.wake.is_some_and(|at| at <= now) {
            self.wake = None;
            self.feed(Input::Wake);
        }
        self.dial_due();
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let dial = self.net.as_ref().and_then(|net| net.dial_at);
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [self.wake, dial, deadline].into_iter().flatten().min()
    }

    /// Gives the engine an input and carries out everything that follows from it. What arises on the way waits its turn,
    /// since the engine is asked for every output before it gets the next input.
    fn feed(&mut self, input: Input) {
        self.pending.push_back(input);
        if std::mem::replace(&mut self.feeding, true) {
            return;
        }
        while let Some(input) = self.pending.pop_front() {
            self.machine.handle(self.clock.now(), input);
            while let Some(output) = self.machine.poll() {
                self.carry_out(output);
            }
        }
        self.feeding = false;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { link, bytes } => self.send(link, bytes),
            Output::Close { link, reason } => self.close_link(link, &reason),
            Output::Storage(task) => {
                if let Some(storage) = &mut self.storage {
                    if matches!(task.work, StorageWork::Write { .. }) {
                        self.writing.insert(task.ticket);
                    }
                    storage.submit(task);
                }
            }
            Output::Wake { at } => self.wake = Some(at),
            Output::Link { peer } => self.wish(peer),
            Output::Surplus { peer } => self.give_up(peer),
            #[cfg(feature = "coord")]
            Output::Coord { peer, bytes } => self.send_coord(peer, bytes),
            #[cfg(feature = "coord")]
            Output::Reach { peer } => drop(self.dial_peer(peer)),
            Output::Event(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Reply { request, result } => self.on_reply(request, result),
            Event::Opened { device, peer_seed, incarnation, spaces } => {
                if let Err(error) = self.start_network(device, *peer_seed, incarnation, &spaces) {
                    self.fail(error);
                }
            }
            Event::OpenFailed(error) => self.fail(error.into()),
            Event::PeersKept { book } => self.kept = Some(book),
            Event::PeersTold { link, peer, device, space, peers } => {
                self.on_peers_told(link, (peer, device), space, peers);
            }
            Event::PeersNamed { link, space, peers } => self.tell_named(link, space, &peers),
            Event::Joined { link, peer, device, space } => {
                (self.notices)(Notice::Engine(event));
                self.on_joined(link, peer, device, space);
            }
            event => (self.notices)(Notice::Engine(event)),
        }
    }

    fn on_reply(&mut self, request: RequestId, result: Result<Reply, CommandError>) {
        if request == CLOSE_REQUEST {
            let deadline = self.clock.mono() + CLOSE_TIMEOUT;
            if let Some(closing) = &mut self.closing {
                closing.result = Some(result.map(drop));
                closing.deadline = deadline;
            }
            return;
        }
        if let Ok(Reply::Space(info)) = &result {
            self.dial_all(&info.addresses);
        }
        if let Some(sink) = self.sinks.remove(&request) {
            sink(result);
        }
    }

    /// Dials the addresses of an invitation; text that is no address is somebody else's mistake and only logged.
    fn dial_all(&mut self, addresses: &[String]) {
        for text in addresses {
            match text.parse::<Multiaddr>() {
                Ok(address) => drop(self.dial(address)),
                Err(error) => tracing::warn!(%text, %error, "an invitation carries an address that is none"),
            }
        }
    }

    /// The peer cannot start.
    fn fail(&mut self, error: StartError) {
        let closing = Closing { waiters: Vec::new(), result: Some(Ok(())), deadline: self.clock.mono() };
        self.closing = Some(closing);
        self.failure = Some(error);
    }

    fn close(&mut self, waiter: Option<oneshot::Sender<Result<(), CommandError>>>) {
        self.close_book();
        let deadline = self.clock.mono() + SHUTDOWN_TIMEOUT;
        self.closing = Some(Closing { waiters: waiter.into_iter().collect(), result: None, deadline });
        self.feed(Input::Command { request: CLOSE_REQUEST, command: Command::Close });
    }

    /// Whether a shutdown is through: the engine has answered, and the links have drained or had their time.
    fn finished(&self) -> bool {
        let Some(Closing { result, deadline, .. }) = &self.closing else { return false };
        let drained = self.net.as_ref().is_none_or(|net| net.links.is_empty() && net.draining.is_empty());
        (result.is_some() && drained) || *deadline <= self.clock.mono()
    }

    /// Closes what is left, answers who waits.
    fn end(mut self) {
        self.net = None;
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            refuse(request);
        }
        self.edits.close();
        while let Ok(Edit { sink, .. }) = self.edits.try_recv() {
            sink(Err(CommandError::Closed));
        }
        for (_, sink) in std::mem::take(&mut self.sinks) {
            sink(Err(CommandError::Closed));
        }
        let closing = self.closing.take();
        // Whoever is told that it failed finds the store closed.
        let (started, failure) = (self.started.take(), self.failure.take());
        let mut notices = self.notices;
        let finish = move |storage: Option<Box<dyn Storage>>| {
            if let Some(storage) = storage {
                storage.close();
            }
            if let (Some(started), Some(failure)) = (started, failure) {
                let _ = started.send(Err(failure));
            }
            if let Some(Closing { waiters, result, .. }) = closing {
                let late = || StorageFailure::Io { detail: "it did not answer in time to be sealed".into() };
                let result = result.unwrap_or_else(|| Err(late().into()));
                for waiter in waiters {
                    let _ = waiter.send(result.clone());
                }
            }
            notices(Notice::Closed);
        };
        let storage = self.storage.take();
        // Closing the store flushes and joins its thread: not on a worker of the runtime.
        self.runtime.spawn_blocking(move || finish(storage));
    }
}

/// A generator of its own for a part of the driver.
fn draw(rng: &mut ChaCha12Rng) -> ChaCha12Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha12Rng::from_seed(seed)
}

/// Answers a request that came too late.
fn refuse(request: Request) {
    match request {
        Request::Command { sink, .. } => sink(Err(CommandError::Closed)),
        Request::Shutdown(done) => drop(done.send(Ok(()))),
        // Whoever waits learns by the dropped sender.
        Request::Cancel(_)
        | Request::Block { .. }
        | Request::Dial { .. }
        | Request::Relay { .. }
        | Request::Hurry { .. }
        | Request::Known(_)
        | Request::DialPeer { .. }
        | Request::DropPeer { .. }
        | Request::Status(_) => {}
    }
}

async fn next_swarm_event(net: &mut Option<Net>) -> swarm::SwarmEvent {
    match net {
        Some(net) => net.next_event().await,
        None => std::future::pending().await,
    }
}
