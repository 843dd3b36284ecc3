//! One simulated machine: a disk, clocks, and at most one running process (and perhaps a frozen former one).
//!
//! A [`Process`] is what a crash destroys: the engine, its links, the handles and unanswered commands of the local
//! program. A [`Node`] is what stays: the disk, the clocks, and what the world expects of this machine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Clock;
use super::disk::{Disk, Host};
use super::network::{NodeId, Side, WireId};
use super::program::Program;
use crate::config::EngineConfig;
use crate::engine::Engine;
use crate::id::{DeviceId, Incarnation, Path, PeerId, Prefix};
use crate::io::{Input, LinkId, Output};
use crate::time::{Now, Timestamp};
use crate::trust::Role;

/// What the simulator drives: the engine's two calls.
pub trait Machine {
    /// Changes state.
    fn handle(&mut self, now: Now, input: Input);
    /// Drains what the change asks for.
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

/// Makes the machine of a new process.
pub type Factory = fn(EngineConfig, [u8; 32]) -> Box<dyn Machine>;

/// The real thing.
pub fn engine(config: EngineConfig, seed: [u8; 32]) -> Box<dyn Machine> {
    Box::new(Engine::new(config, seed))
}

/// What a machine is in the space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Makes the space.
    Founder,
    /// Joins by an invitation.
    Member {
        /// With this role.
        role: Role,
        /// Under this prefix.
        prefix: Prefix,
    },
    /// Connects and never gets an invitation.
    Stranger,
}

impl Standing {
    /// Whether it may read `path`.
    pub fn reads(&self, path: &Path) -> bool {
        match self {
            Standing::Founder => true,
            Standing::Member { role, prefix } => role.reads() && prefix.covers(path),
            Standing::Stranger => false,
        }
    }

    /// Whether it may write `path`.
    pub fn writes(&self, path: &Path) -> bool {
        match self {
            Standing::Member { role, .. } => role.writes() && self.reads(path),
            _ => self.reads(path),
        }
    }
}

/// Who a process turned out to be when it opened its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The store's device.
    pub device: DeviceId,
    /// The libp2p identity's public key.
    pub peer: PeerId,
    /// This life of the store.
    pub incarnation: Incarnation,
}

/// A running engine and what stands around it.
pub struct Process {
    /// Which of the machine's processes, from 1; also its handle on the disk.
    pub life: Host,
    pub(super) machine: Box<dyn Machine>,
    pub(super) identity: Option<Identity>,
    pub(super) links: BTreeMap<LinkId, (WireId, Side)>,
    pub(super) ends: BTreeMap<(WireId, Side), LinkId>,
    pub(super) next_link: u64,
    pub(super) next_request: u64,
    pub(super) last_ticket: Option<u64>,
    /// Number of the latest wish to be woken; older ones do not count.
    pub(super) wakes: u64,
    /// When it wants to be woken, by its own clock.
    pub(super) wake_at: Timestamp,
    pub(super) program: Program,
    /// Instant and count of the inputs handled in it, to catch a machine that runs in circles.
    pub(super) busy: (Timestamp, u32),
}

impl Process {
    pub(super) fn new(life: Host, machine: Box<dyn Machine>) -> Self {
        Self {
            life,
            machine,
            identity: None,
            links: BTreeMap::new(),
            ends: BTreeMap::new(),
            next_link: 0,
            next_request: 0,
            last_ticket: None,
            wakes: 0,
            wake_at: Timestamp::ZERO,
            program: Program::default(),
            busy: (Timestamp::ZERO, 0),
        }
    }
}

/// One simulated machine.
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// What it is in the space.
    pub standing: Standing,
    /// What it replicates at present; `None`: all it may read.
    pub interests: Option<Vec<Prefix>>,
    /// Every prefix it ever wanted.
    pub wanted: Vec<Prefix>,
    /// Its storage.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Clock,
    /// Its engine, unless it is down.
    pub process: Option<Process>,
    /// A former process that was frozen, and lives on without knowing that another took over.
    pub ghost: Option<Process>,
    /// Nothing happens here until then (a stopped process, a suspended laptop).
    pub frozen_until: Timestamp,
    /// How late a timer may be.
    pub timer_slop: Duration,
    /// Processes so far.
    pub lives: Host,
    /// When it first starts.
    pub starts_at: Duration,
    /// Who it was at its last opening.
    pub known: Option<Identity>,
    /// Whether it has been told durably that it is in the space.
    pub joined: bool,
    /// The text by which it joins.
    pub invitation: Option<String>,
    /// Seed of the edits made here that never goes back, whatever the disk does.
    pub edits: u64,
}

impl Node {
    /// Whether it wants and may read `path` at present.
    pub fn replicates(&self, path: &Path) -> bool {
        self.standing.reads(path)
            && self.interests.as_ref().is_none_or(|prefixes| prefixes.iter().any(|prefix| prefix.covers(path)))
    }

    /// Whether it ever wanted, and may read, `path`.
    pub fn may_hold(&self, path: &Path) -> bool {
        self.standing.reads(path) && self.wanted.iter().any(|prefix| prefix.covers(path))
    }

    /// Whether an opened engine runs here.
    pub fn is_open(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.identity.is_some())
    }
}
