//! The facade of the pure side: one [`Engine`] a store.
//!
//! `handle(now, input)` changes state and queues effects; `poll()` hands the effects out. Nothing else goes in or out:
//! no clock, no disk, no socket, no randomness but the seed. The same inputs give the same outputs, on a server, in a
//! browser and in the simulator.
//!
//! **One write at a time.** Local commits, peers' changes, facts and deletions gather while a storage write is on its
//! way; when it is answered, everything that gathered becomes the next write: group commit by construction, and one
//! signature check an actor and batch. What the engine knows (index, roots, rosters, logs) changes when the write is
//! durable and not before, so whatever it tells a peer or a program is durable. A crash at any point loses only what
//! nobody was told.
//!
//! | room | what it holds |
//! |---|---|
//! | [`api`] | commands, replies, events |
//! | `boot` | opening a store |
//! | `batch` | what gathers, and the write it becomes |
//! | `ingest` | a document's inbox against its log |
//! | `review` | what leaves the admitted set when facts change what counts |
//! | `revoke` | rights taken back, the root handed on, equivocation proved |
//! | `aside` | what reviews took out: listed, handed out, discarded |
//! | `compact` | snapshots in the place of chunks, in idle moments |
//! | `document` | working state of documents in use: logs, hydrated cells |
//! | `space`, `index` | what is known of a space |
//! | `marker` | what survives of a document that kills its process |
//! | `link` | a sync stream: handshake, credit, frames |
//! | `resume` | the handshake between peers that know each other, two round trips long |
//! | `exchange` | where members are, told to members |
//! | `sync`, `resolve` | rounds of reconciliation; from ids that differ to what is shipped |
//! | `facts` | who may do what, on links |
//! | `overlay` | with whom to link, and which links are neighbours |
//! | `broadcast` | fresh changes, pushed along trees |
//! | `session` | bookmarks: who waits for what, and what other stores' logs are proved to hold here |
//! | `ship`, `held` | what goes out, in fair turns; what a broken transfer left |
//! | `wait`, `confirmed` | timers, and who waits for other peers; what those have stored |
//! | `soft` | soft state: commands, links, time |
//! | `topic` | topics: commands, links, time |
//! | `coord` | voters and clients of the strong path: commands, links, writes, time |
//! | `keys` | the store's rows |

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::EngineConfig;
use crate::document::orphan::{OrphanLimits, Orphans};
use crate::id::{DeviceId, DocumentId, Incarnation, PeerId, SpaceId};
use crate::io::{Input, LinkId, Output, RequestId, StorageFailure, StorageReply, Ticket};
use crate::time::{Now, Timestamp};
use crate::touched::TouchedMap;
use crate::trust::DeviceKey;

pub mod api;
mod aside;
mod batch;
mod boot;
mod broadcast;
mod command;
mod compact;
mod confirmed;
#[cfg(feature = "coord")]
mod coord;
mod document;
mod exchange;
mod facts;
mod failure;
mod guest;
mod held;
pub mod index;
mod ingest;
pub mod keys;
mod link;
mod marker;
mod overlay;
mod resolve;
mod resume;
mod review;
mod revoke;
mod session;
mod ship;
mod soft;
mod space;
mod storage;
mod sync;
mod topic;
mod wait;

#[cfg(test)]
mod tests;

pub use api::*;
#[cfg(feature = "sim")]
pub(crate) use command::decode_page as read_page;
pub use guest::{MAX_ADMITTED, MAX_ADMITTED_BYTES};
#[cfg(test)]
pub(crate) use sync::SESSIONS_AT_ONCE;

use self::batch::Pending;
use self::broadcast::Recent;
use self::document::Working;
use self::held::Parts;
use self::link::Link;
use self::space::Space;
use self::storage::Storage;

/// The life of an engine.
#[derive(Debug)]
enum Phase {
    /// Nothing has happened.
    New,
    /// The store is being read.
    Opening(Box<boot::Opening>),
    /// At work.
    Open,
    /// The seal is being written; commands and links are refused.
    Closing,
    /// Over.
    Closed,
}

/// Who this store is.
#[derive(Debug)]
struct Identity {
    key: DeviceKey,
    device: DeviceId,
    /// The running peer: the key of the libp2p identity.
    peer: PeerId,
    incarnation: Incarnation,
    /// The arrival log's epoch, for other peers' cursors.
    log_epoch: u64,
}

/// Running totals for [`StatusReport`].
#[derive(Debug, Default)]
struct Counters {
    refused_changes: u64,
    storage_writes: u64,
    signatures_checked: u64,
}

/// A program that waits for other peers to store something.
#[derive(Debug)]
struct SyncWait {
    request: RequestId,
    space: SpaceId,
    document: DocumentId,
    heads: Vec<crate::id::ChangeHash>,
    peers: usize,
}

/// The pure side of a peer.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    rng: ChaCha12Rng,
    now: Now,
    phase: Phase,
    out: VecDeque<Output>,
    asked_wake: Option<Timestamp>,
    identity: Option<Identity>,
    storage: Storage,
    spaces: BTreeMap<SpaceId, Space>,
    links: TouchedMap<LinkId, Link>,
    link_timers: wait::LinkTimers,
    /// Links that may have something to send.
    busy_links: BTreeSet<LinkId>,
    documents: BTreeMap<DocumentId, Working>,
    /// Documents whose inbox can be worked off.
    ready: BTreeSet<DocumentId>,
    pending: Pending,
    orphans: Orphans,
    parts: Parts,
    recent: Recent,
    sync_waits: Vec<SyncWait>,
    counters: Counters,
    /// Documents whose rows somebody waits for and nobody has asked for.
    pending_loads: BTreeSet<DocumentId>,
    /// Documents whose rows are being read.
    loads: usize,
    /// Peers' arrival numbers up to which everything is here, by log epoch and space.
    cursors: BTreeMap<(u64, SpaceId), u64>,
    /// The life before this one ended in a crash.
    crashed: bool,
    imports: BTreeMap<RequestId, command::Import>,
    compacting: compact::Compacting,
    reviews: BTreeMap<SpaceId, review::Review>,
    markers: marker::Markers,
    soft: soft::SoftSide,
    topics: topic::TopicSide,
    overlay: overlay::OverlaySide,
    #[cfg(feature = "coord")]
    coord: coord::CoordSide,
    sessions: session::Sessions,
    acquaintances: resume::Acquaintances,
    /// Counts uses of documents, for the least recently used ones.
    uses: u64,
    /// Deleted documents in use, to be let go of.
    leaving: VecDeque<DocumentId>,
    /// Number of documents in use at which to look for what can go.
    evict_at: usize,
    /// Estimated bytes of hydrated documents, and at which of them to look for what can go.
    hot_estimate: usize,
    evict_hot_at: usize,
}

impl Engine {
    /// An engine over a store that it will ask for. `seed` is 32 bytes of the operating system's randomness; everything
    /// random in here grows from it.
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        let orphans = Orphans::new(OrphanLimits { max_bytes: config.orphan_budget, ..OrphanLimits::default() });
        Self {
            rng: ChaCha12Rng::from_seed(seed),
            config,
            now: Now::default(),
            phase: Phase::New,
            out: VecDeque::new(),
            asked_wake: None,
            identity: None,
            storage: Storage::default(),
            spaces: BTreeMap::new(),
            links: TouchedMap::default(),
            link_timers: wait::LinkTimers::default(),
            busy_links: BTreeSet::new(),
            documents: BTreeMap::new(),
            ready: BTreeSet::new(),
            pending: Pending::default(),
            orphans,
            parts: Parts::default(),
            recent: Recent::default(),
            sync_waits: Vec::new(),
            counters: Counters::default(),
            pending_loads: BTreeSet::new(),
            loads: 0,
            cursors: BTreeMap::new(),
            crashed: false,
            imports: BTreeMap::new(),
            compacting: compact::Compacting::default(),
            reviews: BTreeMap::new(),
            markers: marker::Markers::default(),
            soft: soft::SoftSide::default(),
            topics: topic::TopicSide::default(),
            overlay: overlay::OverlaySide::default(),
            #[cfg(feature = "coord")]
            coord: coord::CoordSide::default(),
            sessions: session::Sessions::default(),
            acquaintances: resume::Acquaintances::default(),
            uses: 0,
            leaving: VecDeque::new(),
            evict_at: 64,
            hot_estimate: 0,
            evict_hot_at: 0,
        }
    }

    /// Takes one input in. Drain [`Engine::poll`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = Now { mono: now.mono.max(self.now.mono), wall: now.wall };
        if matches!(self.phase, Phase::New) {
            self.start_opening();
        }
        self.soft_time();
        match input {
            Input::Wake => {}
            Input::Linked { link, peer, initiator } => self.on_linked(link, peer, initiator),
            Input::Frame { link, bytes } => self.on_frame(link, &bytes),
            Input::Unlinked { link } => self.on_unlinked(link),
            Input::StorageDone { ticket, result } => self.on_storage(ticket, result),
            Input::Unreachable { peer } => self.on_unreachable(&peer),
            Input::Reachable { peer, space, source } => self.on_reachable(peer, space, source),
            Input::Command { request, command } => self.on_command(request, command),
            #[cfg(feature = "coord")]
            Input::Coord { peer, bytes } => self.on_coord_frame(peer, &bytes),
            #[cfg(feature = "coord")]
            Input::CoordFrames(frames) => frames.iter().for_each(|(peer, bytes)| self.on_coord_frame(*peer, bytes)),
            #[cfg(feature = "coord")]
            Input::CoordGone { peer } => self.lost_frames(peer),
            Input::Commands(commands) => {
                commands.into_iter().for_each(|(request, command)| self.on_command(request, command));
            }
        }
        self.turn();
    }

    /// The next effect to carry out, if any.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Everything that may follow from an input: the next write, the next frames, the next wake-up.
    fn turn(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Closing) {
            self.run_timers();
            self.run_reviews();
            self.start_loads();
            self.commit_batch();
            self.tick_soft();
            self.tick_overlay();
            #[cfg(feature = "coord")]
            self.pump_coord();
            self.pump_links();
            self.let_go_of_deleted();
            self.evict();
        }
        self.ask_wake();
    }

    fn on_storage(&mut self, ticket: Ticket, result: Result<StorageReply, StorageFailure>) {
        if let Phase::Opening(_) = self.phase {
            self.on_opening_storage(ticket, result);
        } else if self.storage.is_flight(ticket) {
            self.on_written(result);
        } else if let Some(purpose) = self.storage.take_read(ticket) {
            self.on_read(purpose, result);
        } else {
            #[cfg(feature = "coord")]
            self.on_coord_written(ticket, result);
        }
    }

    fn identity(&self) -> &Identity {
        self.identity.as_ref().expect("set before the phase becomes Open")
    }

    fn emit(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn reply(&mut self, request: RequestId, result: Result<Reply, CommandError>) {
        self.emit(Event::Reply { request, result });
    }

    fn ask_wake(&mut self) {
        self.note_link_timers();
        let next = self.next_timer();
        if let Some(at) = next
            && self.asked_wake != Some(at)
        {
            self.out.push_back(Output::Wake { at });
        }
        self.asked_wake = next;
    }

    /// A duration with ±25 % jitter, so that peers that started together do not act together for ever.
    fn jittered(&mut self, around: std::time::Duration) -> std::time::Duration {
        use rand_core::Rng;
        around.mul_f64(0.75 + f64::from(self.rng.next_u32()) / f64::from(u32::MAX) * 0.5)
    }
}

/// Estimated heap bytes of things that are kept under a budget.
trait Weigh {
    fn weight(&self) -> usize;
}
