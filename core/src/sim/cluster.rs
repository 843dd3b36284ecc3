//! A cluster on virtual time: nodes, the network between them, and the loop that hands each engine what is due.
//!
//! The loop takes the next event, gives the engine concerned one [`Input`], carries its [`Output`]s out in order, and runs
//! the cheap checks. It is the driver's contract of [`crate::io`] and nothing more, so what holds here holds for the native
//! driver and the browser's worker.
//!
//! **Invariant.** Nothing but the scenario's seed decides what happens: the same seed gives the same trace.

mod faults;
mod wiring;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::check::{Checks, Violation};
use super::clock::Clock;
use super::dice::Dice;
use super::disk::Disk;
use super::network::{Network, NodeId, Profile, Side, WireId};
use super::node::{Factory, Identity, Node, Process, Standing};
use super::queue::EventQueue;
use super::scenario::{NodeSpec, Scenario};
use super::soft::SoftRecord;
use super::topics::TopicRecord;
use super::trace::Trace;
use crate::config::EngineConfig;
use crate::engine::{Command, Event};
use crate::id::{PeerId, SpaceId};
use crate::io::{CloseReason, Input, LinkId, MAX_FRAME, Output, RequestId, StorageWork};
use crate::time::Timestamp;

pub use faults::Fault;

/// Most inputs that one engine handles at one instant of virtual time. A first sync of a few hundred documents over a
/// fast link stays under 1,000; a machine that asks to be woken at once for ever does not.
const MAX_INPUTS_AN_INSTANT: u32 = 20_000;

/// Most outputs of one input. A document of 100 MB would leave in frames of 64 KiB bounded by the link's credit.
const MAX_OUTPUTS_AN_INPUT: usize = 20_000;

/// What can be due.
#[derive(Debug)]
pub(super) enum Happening {
    /// A frame may be there to read.
    Arrive(WireId, Side),
    /// An end learns that its wire is dead.
    Notice(WireId, Side),
    /// An end learns that its wire is open.
    Linked(WireId, Side),
    /// Time to see whether two nodes should connect.
    Dial(usize),
    /// A process's engine wants a link with a node.
    Wish(NodeId, u64, NodeId),
    /// A process's engine needs no link with a node.
    Surplus(NodeId, u64, NodeId),
    /// Nothing moved between two nodes for too long: their wires die.
    Patience(NodeId, NodeId),
    /// A storage task may be finished.
    Disk(NodeId),
    /// A timer of a process.
    Wake(NodeId, u64, u64),
    /// A client that moves does something.
    Roam(usize),
    /// The local program does something.
    Act(NodeId, u64),
    /// A frozen former process goes on.
    Thaw(NodeId),
    /// A machine starts its process.
    Start(NodeId),
    /// A planned fault.
    Fault(Fault),
    /// Checks ask every engine for its figures and lists.
    Probe,
    /// Checks look at what nodes show of soft state.
    LookAtSoft,
}

/// Two nodes that connect when they can.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) ends: [NodeId; 2],
    pub(super) profile: Profile,
}

/// A running simulation.
pub struct Cluster {
    /// What is simulated.
    pub scenario: Scenario,
    /// The machines.
    pub nodes: Vec<Node>,
    /// The wires between them.
    pub network: Network,
    /// What happened.
    pub trace: Trace,
    /// What was promised, and what must hold.
    pub checks: Checks,
    /// What is known of soft state.
    pub soft: SoftRecord,
    /// What is known of topics.
    pub topics: TopicRecord,
    /// The space, once it is made.
    pub space: Option<SpaceId>,
    pub(super) queue: EventQueue<Happening>,
    pub(super) edges: Vec<Edge>,
    pub(super) dice: Dice,
    pub(super) net_dice: Dice,
    pub(super) disk_dice: Dice,
    pub(super) program_dice: Dice,
    pub(super) mover_dice: Dice,
    /// Clients that move between nodes.
    pub(super) movers: Vec<super::movers::Client>,
    pub(super) underway: super::movers::Underway,
    pub(super) inbox: VecDeque<(NodeId, u64, Input)>,
    /// Whether programs act and faults strike.
    pub(super) stormy: bool,
    pub(super) backups: BTreeMap<NodeId, crate::store::Memory>,
    pub(super) factory: Factory,
    inputs: u64,
}

impl Cluster {
    /// The cluster of a scenario, everything down, nothing scheduled but the starts and the faults.
    pub fn new(scenario: Scenario, seed: u64, factory: Factory, echo: bool) -> Self {
        let mut dice = Dice::new(seed);
        let [net_dice, disk_dice, program_dice, mut node_dice] = std::array::from_fn(|_| dice.fork());
        let nodes = (0u8..)
            .zip(&scenario.nodes)
            .map(|(n, spec)| node(NodeId(n), spec, scenario.wall_error, &mut node_dice))
            .collect();
        let edges = scenario.edges.iter().map(|(ends, profile)| Edge { ends: *ends, profile: *profile }).collect();
        let mut cluster = Self {
            nodes,
            edges,
            network: Network::default(),
            trace: Trace::new(echo),
            checks: Checks::new(&scenario),
            soft: SoftRecord::default(),
            topics: TopicRecord::default(),
            space: None,
            queue: EventQueue::default(),
            dice,
            net_dice,
            disk_dice,
            program_dice,
            // Beside the others, so that a run without clients is what it was.
            mover_dice: Dice::new(seed ^ 0x6d6f_7665),
            movers: (0..scenario.movers).map(|_| super::movers::Client::default()).collect(),
            underway: super::movers::Underway::new(),
            inbox: VecDeque::new(),
            stormy: true,
            backups: BTreeMap::new(),
            factory,
            inputs: 0,
            scenario,
        };
        cluster.schedule_beginning();
        cluster
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        self.queue.now()
    }

    /// Inputs handled by all engines.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0)]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(id.0)]
    }

    pub(super) fn process(&mut self, id: NodeId) -> Option<&mut Process> {
        self.node_mut(id).process.as_mut()
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.queue.now(), what);
    }

    /// Lets virtual time pass until `until`, or until something is violated.
    pub fn run_until(&mut self, until: Timestamp) -> Result<(), Violation> {
        while let Some((now, happening)) = self.queue.next_until(until) {
            self.happen(now, happening);
            self.drain_inbox();
            self.checks.verdict()?;
        }
        self.queue.advance(until);
        Ok(())
    }

    /// Lets `span` of virtual time pass.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        self.run_until(self.queue.now() + span)
    }

    fn schedule_beginning(&mut self) {
        for n in 0..self.nodes.len() {
            let (id, at) = (self.nodes[n].id, self.nodes[n].starts_at);
            self.queue.at(Timestamp::ZERO + at, Happening::Start(id));
        }
        for edge in 0..self.edges.len() {
            self.queue.at(Timestamp::ZERO, Happening::Dial(edge));
        }
        for client in 0..self.movers.len() {
            self.schedule_roam(client);
        }
        for (at, fault) in self.scenario.faults.clone() {
            self.queue.at(Timestamp::ZERO + at, Happening::Fault(fault));
        }
        self.queue.at(Timestamp::ZERO + Duration::from_secs(5), Happening::Probe);
        self.schedule_soft();
    }

    fn happen(&mut self, now: Timestamp, happening: Happening) {
        if let Some(thaw) = self.frozen(now, &happening) {
            return self.queue.at(thaw, happening);
        }
        match happening {
            Happening::Arrive(wire, side) => self.arrive(now, wire, side),
            Happening::Notice(wire, side) => self.notice(wire, side),
            Happening::Linked(wire, side) => self.linked(wire, side),
            Happening::Dial(edge) => self.dial(edge),
            Happening::Wish(node, life, other) => self.fulfil(node, life, other),
            Happening::Surplus(node, life, other) => self.give_up(node, life, other),
            Happening::Patience(a, b) => self.lose_patience(a, b),
            Happening::Disk(node) => self.finish_storage(now, node),
            Happening::Wake(node, life, number) => {
                let clock = self.node(node).clock.clone();
                let Some(process) = self.process(node).filter(|p| p.life == life && p.wakes == number) else { return };
                let (at, local) = (process.wake_at, clock.read(now).mono);
                if local < at {
                    // The machine slept, and with it the clock that the timer goes by.
                    return self.queue.at(clock.when(now, at), Happening::Wake(node, life, number));
                }
                self.feed(node, life, Input::Wake);
            }
            Happening::Act(node, life) => self.act(node, life),
            Happening::Roam(client) => self.roam(client),
            Happening::Thaw(node) => self.act_as_ghost(node),
            Happening::Start(node) => self.start(node),
            Happening::Fault(fault) => self.strike(fault),
            Happening::Probe => self.probe(),
            Happening::LookAtSoft => self.look_at_soft(),
        }
    }

    /// If the event is for a frozen machine: when it can be handled.
    fn frozen(&self, now: Timestamp, happening: &Happening) -> Option<Timestamp> {
        let node = match happening {
            Happening::Arrive(wire, side) | Happening::Notice(wire, side) | Happening::Linked(wire, side) => {
                self.network.wire(*wire)?.nodes[*side]
            }
            Happening::Wake(node, ..)
            | Happening::Wish(node, ..)
            | Happening::Surplus(node, ..)
            | Happening::Act(node, _)
            | Happening::Disk(node) => *node,
            _ => return None,
        };
        let thaw = self.node(node).frozen_until;
        (thaw > now).then_some(thaw)
    }

    /// Boots a machine's process.
    pub(super) fn start(&mut self, id: NodeId) {
        if self.node(id).process.is_some() {
            return;
        }
        let seed = self.dice.seed();
        let (factory, node) = (self.factory, self.node_mut(id));
        node.lives += 1;
        let life = node.lives;
        let config = EngineConfig { store_identity: node.disk.identity(), ..self.scenario.engine.clone() };
        let node = self.node_mut(id);
        node.process = Some(Process::new(life, factory(config, seed)));
        self.note(format_args!("n{} starts, life {life}", id.0));
        self.feed(id, life, Input::Wake);
    }

    /// Gives a command to a node's engine.
    pub(super) fn command(&mut self, id: NodeId, command: Command) -> Option<RequestId> {
        let process = self.process(id)?;
        process.next_request += 1;
        let request = RequestId(process.next_request);
        let life = process.life;
        self.feed(id, life, Input::Command { request, command });
        Some(request)
    }

    /// Hands an input to the engine of a life of a node, as soon as the present one is done.
    pub(super) fn feed(&mut self, id: NodeId, life: u64, input: Input) {
        self.inbox.push_back((id, life, input));
    }

    pub(super) fn drain_inbox(&mut self) {
        while let Some((id, life, input)) = self.inbox.pop_front() {
            if self.checks.is_violated() {
                self.inbox.clear();
                return;
            }
            self.handle(id, life, input);
        }
    }

    fn handle(&mut self, id: NodeId, life: u64, input: Input) {
        let now = self.queue.now();
        let local = self.node(id).clock.read(now);
        let node = self.node_mut(id);
        let process = [&mut node.process, &mut node.ghost].into_iter().flatten().find(|p| p.life == life);
        let Some(process) = process else { return };
        process.busy = if process.busy.0 == now { (now, process.busy.1 + 1) } else { (now, 1) };
        let inputs = process.busy.1;
        process.machine.handle(local, input);
        let mut outputs = Vec::new();
        while outputs.len() <= MAX_OUTPUTS_AN_INPUT
            && let Some(output) = process.machine.poll()
        {
            outputs.push(output);
        }
        self.inputs += 1;
        if outputs.len() > MAX_OUTPUTS_AN_INPUT {
            self.checks.fail(Violation::Unbounded {
                node: id,
                what: "outputs of one input",
                got: outputs.len() as u64,
            });
        }
        if inputs > MAX_INPUTS_AN_INSTANT {
            self.checks.fail(Violation::Unbounded { node: id, what: "inputs at one instant", got: inputs.into() });
        }
        for output in outputs {
            self.carry_out(now, id, life, output);
        }
    }

    fn carry_out(&mut self, now: Timestamp, id: NodeId, life: u64, output: Output) {
        match output {
            Output::Send { link, bytes } => self.send(now, id, life, link, bytes),
            Output::Close { link, reason } => self.close(now, id, life, link, &reason),
            Output::Storage(task) => {
                let ticket = task.ticket.0;
                let StoragePlan { line, .. } = plan(&task.work);
                self.note(format_args!("n{} disk #{ticket} {line}", id.0));
                let node = self.node_mut(id);
                let process = [&mut node.process, &mut node.ghost].into_iter().flatten().find(|p| p.life == life);
                if let Some(process) = process
                    && process.last_ticket.replace(ticket).is_some_and(|last| last >= ticket)
                {
                    self.checks.fail(Violation::Contract { node: id, what: "a storage ticket went back" });
                }
                let mut dice = self.disk_dice.clone();
                let due = self.node_mut(id).disk.submit(now, life, task, &mut dice);
                self.disk_dice = dice;
                self.queue.at(due, Happening::Disk(id));
            }
            Output::Wake { at } => {
                let slop = self.node(id).timer_slop;
                let late = self.dice.span(Duration::ZERO, slop);
                let node = self.node_mut(id);
                let due = node.clock.when(now, at) + late;
                if let Some(process) = node.process.as_mut().filter(|p| p.life == life) {
                    process.wakes += 1;
                    process.wake_at = at;
                    let number = process.wakes;
                    self.queue.at(due, Happening::Wake(id, life, number));
                }
            }
            Output::Link { peer } => self.on_wish(id, life, peer),
            Output::Surplus { peer } => self.on_surplus(id, life, peer),
            Output::Event(event) => self.on_event(id, life, event),
            // Nobody here asks for the strong path, which has a simulator of its own.
            #[cfg(feature = "coord")]
            Output::Coord { .. } | Output::Reach { .. } => {
                self.checks.fail(Violation::Contract { node: id, what: "the strong path, unasked" });
            }
        }
    }

    fn send(&mut self, now: Timestamp, id: NodeId, life: u64, link: LinkId, bytes: Vec<u8>) {
        let len = bytes.len();
        let Some(process) = self.process(id).filter(|p| p.life == life) else { return };
        let end = process.links.get(&link).copied();
        let Some((wire, side)) = end else {
            return self.checks.fail(Violation::Contract { node: id, what: "a frame for a link that is not open" });
        };
        if len > MAX_FRAME {
            self.checks.fail(Violation::Unbounded { node: id, what: "a frame", got: len as u64 });
        }
        let Some(other) = self.network.wire(wire).map(|w| w.nodes[1 - side]) else { return };
        self.note(format_args!("n{}→n{} w{} {len} B {}", id.0, other.0, wire.0, super::trace::short(&bytes)));
        if self.trace.is_echoed() {
            self.explain(&bytes);
        }
        self.checks.on_frame(self.space, id, &self.nodes[usize::from(other.0)], &bytes);
        let mut dice = self.net_dice.clone();
        if let Some(due) = self.network.send(now, wire, side, bytes, &mut dice) {
            self.queue.at(due, Happening::Arrive(wire, 1 - side));
        }
        self.net_dice = dice;
    }

    /// What is in a frame, for people who follow a run.
    fn explain(&self, frame: &[u8]) {
        match crate::wire::v1::decode_frame(frame) {
            Ok(messages) => messages.iter().for_each(|message| {
                let text: String = format!("{message:?}").chars().take(6000).collect();
                eprintln!("              | {text}");
            }),
            Err(error) => eprintln!("              | {error}"),
        }
    }

    fn close(&mut self, now: Timestamp, id: NodeId, life: u64, link: LinkId, reason: &CloseReason) {
        let Some(process) = self.process(id).filter(|p| p.life == life) else { return };
        let end = process.links.remove(&link);
        let Some((wire, side)) = end else {
            return self.checks.fail(Violation::Contract { node: id, what: "a close for a link that is not open" });
        };
        process.ends.remove(&(wire, side));
        self.note(format_args!("n{} closes w{}: {reason:?}", id.0, wire.0));
        self.checks.on_close(id, reason);
        let mut dice = self.net_dice.clone();
        if let Some(due) = self.network.close(now, wire, side, &mut dice) {
            self.queue.at(due, Happening::Arrive(wire, 1 - side));
        }
        self.net_dice = dice;
    }

    fn finish_storage(&mut self, now: Timestamp, id: NodeId) {
        let mut dice = self.disk_dice.clone();
        while let Some(finished) = self.node_mut(id).disk.complete(now, &mut dice) {
            if let Err(failure) = &finished.result {
                self.note(format_args!("n{} disk #{} fails: {failure}", id.0, finished.ticket.0));
            }
            self.feed(id, finished.host, Input::StorageDone { ticket: finished.ticket, result: finished.result });
        }
        self.disk_dice = dice;
    }

    fn on_event(&mut self, id: NodeId, life: u64, event: Event) {
        match event {
            Event::Opened { device, peer_seed, incarnation, spaces } => {
                let peer = PeerId(ed25519_dalek::SigningKey::from_bytes(&peer_seed).verifying_key().to_bytes());
                let identity = Identity { device, peer, incarnation };
                let found = spaces.iter().map(|space| space.id).collect::<Vec<_>>();
                self.note(format_args!("n{} opened {device:?} {incarnation:?} {} spaces", id.0, found.len()));
                self.opened(id, life, identity, &found);
            }
            Event::OpenFailed(error) => self.open_failed(id, life, &error),
            Event::Reply { request, result } => self.on_reply(id, life, request, result),
            other => self.on_notification(id, life, other),
        }
    }

    fn opened(&mut self, id: NodeId, life: u64, identity: Identity, spaces: &[SpaceId]) {
        let (space, node) = (self.space, self.node_mut(id));
        let Some(process) = node.process.as_mut().filter(|p| p.life == life) else { return };
        process.identity = Some(identity);
        let known = node.known.replace(identity);
        let joined = node.joined;
        if known.is_some_and(|known| known.device != identity.device) {
            self.checks
                .fail(Violation::Contract { node: id, what: "a store that was open came back as another device" });
        }
        if joined && !space.is_some_and(|space| spaces.contains(&space)) {
            self.checks.fail(Violation::SpaceLost { node: id });
        }
        self.begin_program(id);
    }

    fn open_failed(&mut self, id: NodeId, life: u64, error: &crate::engine::OpenError) {
        self.note(format_args!("n{} cannot open: {error}", id.0));
        let excused = self.node(id).disk.profile().read_errors_per_mille > 0
            || self.node(id).disk.profile().write_errors_per_mille > 0
            || matches!(error, crate::engine::OpenError::Storage(crate::io::StorageFailure::Full));
        if !excused {
            self.checks.fail(Violation::StoreUnopenable { node: id, error: error.to_string() });
        }
        let node = self.node_mut(id);
        if node.process.as_ref().is_some_and(|p| p.life == life) {
            node.process = None;
            let again = self.queue.now() + Duration::from_secs(2);
            self.queue.at(again, Happening::Start(id));
        }
    }
}

/// What a storage task is, for the trace.
struct StoragePlan {
    line: String,
}

fn plan(work: &StorageWork) -> StoragePlan {
    let line = match work {
        StorageWork::Write { ops, .. } => format!("write {} {}", ops.len(), super::trace::short(&bytes_of(ops))),
        StorageWork::Read { ops } => format!("read {}", ops.len()),
    };
    StoragePlan { line }
}

/// Bytes that stand for a write in the trace's hash: what is on disk must be the same in every run, too.
fn bytes_of(ops: &[crate::io::WriteOp]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for op in ops {
        match op {
            crate::io::WriteOp::Put(table, key, value) => {
                bytes.extend_from_slice(table.name().as_bytes());
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(value);
            }
            crate::io::WriteOp::Delete(table, key) => {
                bytes.extend_from_slice(table.name().as_bytes());
                bytes.extend_from_slice(key);
            }
            crate::io::WriteOp::DeleteRange(table, from, to) => {
                bytes.extend_from_slice(table.name().as_bytes());
                bytes.extend_from_slice(from);
                bytes.extend_from_slice(to);
            }
        }
    }
    bytes
}

fn node(id: NodeId, spec: &NodeSpec, wall_error: Duration, dice: &mut Dice) -> Node {
    Node {
        id,
        standing: spec.standing.clone(),
        interests: spec.interests.clone(),
        wanted: spec.interests.clone().unwrap_or_else(|| vec![crate::id::Prefix::root()]),
        disk: {
            let mut disk = Disk::new(spec.disk, dice);
            if let Some(bug) = spec.bug {
                disk.plant(bug);
            }
            disk
        },
        clock: Clock::random(Timestamp::ZERO, wall_error, dice),
        process: None,
        ghost: None,
        frozen_until: Timestamp::ZERO,
        timer_slop: spec.timer_slop,
        lives: 0,
        starts_at: if spec.standing == Standing::Founder { Duration::ZERO } else { spec.starts_at },
        known: None,
        joined: false,
        invitation: None,
        edits: 0,
    }
}
