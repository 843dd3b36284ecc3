//! Engines with storage in one thread: the driver's loop without sockets, so that bytes, round trips and CPU time are
//! those of the engine alone. Time is virtual, and goes on only when nothing else is left to do.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use foreshore::config::EngineConfig;
use foreshore::document::edit::{EditError, MapDraft};
use foreshore::document::hot::{EditOptions, HotCell};
use foreshore::document::local::LocalChange;
use foreshore::document::template::Template;
use foreshore::engine::{Command, Engine, Event, Reply};
use foreshore::id::{Path, PeerId, SpaceId};
use foreshore::io::{
    CloseReason, Input, LinkId, Output, RequestId, StorageFailure, StorageReply, StorageTask, StorageWork,
};
use foreshore::store::{Backend, Memory, StorageThread};
use foreshore::time::{Now, Timestamp, WallTime};
use foreshore::trust::DeviceKey;

/// Most virtual time that something may take before the rig gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A frame and the link it goes over.
pub(crate) type Frame = (LinkId, Vec<u8>);

/// One engine, its storage, and what it wants to send.
pub(crate) struct Node {
    engine: Engine,
    backend: Box<dyn Backend>,
    mono: Timestamp,
    wake: Option<Timestamp>,
    tasks: VecDeque<StorageTask>,
    sent: Vec<Frame>,
    replies: Vec<(RequestId, Result<Reply, foreshore::engine::CommandError>)>,
    requests: u64,
    /// Who it is on the network, once open.
    peer: Option<PeerId>,
}

impl Node {
    /// Opens a store.
    pub(crate) fn open(backend: Box<dyn Backend>, seed: u8) -> anyhow::Result<Self> {
        // Nothing gathers: a bench that wants its changes in one message commits them together.
        let (store_identity, push_interval) = (backend.identity(), Duration::ZERO);
        let config = EngineConfig { store_identity, push_interval, ..EngineConfig::default() };
        let mut node = Self {
            engine: Engine::new(config, [seed; 32]),
            backend,
            mono: Timestamp::from_micros(1),
            wake: None,
            tasks: VecDeque::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            requests: 0,
            peer: None,
        };
        node.handle(Input::Wake)?;
        node.settle()?;
        anyhow::ensure!(node.peer.is_some(), "the store did not open");
        Ok(node)
    }

    /// Runs a command to its answer.
    pub(crate) fn ask(&mut self, command: Command) -> anyhow::Result<Reply> {
        let request = self.submit(command)?;
        self.settle()?;
        self.answer(request)
    }

    /// Hands a command in.
    pub(crate) fn submit(&mut self, command: Command) -> anyhow::Result<RequestId> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.handle(Input::Command { request, command })?;
        Ok(request)
    }

    /// The answer to a command; the node has settled.
    pub(crate) fn answer(&mut self, request: RequestId) -> anyhow::Result<Reply> {
        let at = self.replies.iter().position(|(r, _)| *r == request).context("the command was not answered")?;
        Ok(self.replies.swap_remove(at).1?)
    }

    /// Opens the document at `path`.
    pub(crate) fn document(&mut self, space: SpaceId, path: Path, template: &Template) -> anyhow::Result<HotCell> {
        match self.ask(Command::Open { space, path, template: template.clone() })? {
            Reply::Document { cell, .. } => Ok(cell),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Commits changes, durably.
    pub(crate) fn commit(&mut self, space: SpaceId, changes: Vec<LocalChange>) -> anyhow::Result<()> {
        self.ask(Command::Commit { space, changes }).map(drop)
    }

    /// Takes one input in and collects what comes of it.
    pub(crate) fn handle(&mut self, input: Input) -> anyhow::Result<()> {
        let now = Now { mono: self.mono, wall: WallTime(1_700_000_000_000 + self.mono.as_micros() as i64 / 1000) };
        self.engine.handle(now, input);
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Send { link, bytes } => self.sent.push((link, bytes)),
                Output::Storage(task) => self.tasks.push_back(task),
                Output::Wake { at } => self.wake = Some(at),
                // A store that closes ends its links.
                Output::Close { reason: CloseReason::Shutdown, .. } => {}
                Output::Close { reason, .. } => bail!("the engine closed a link: {reason:?}"),
                Output::Event(Event::Opened { peer_seed, .. }) => {
                    self.peer = Some(PeerId(DeviceKey::from_seed(&peer_seed).device().0));
                }
                Output::Event(Event::OpenFailed(error)) => return Err(error.into()),
                Output::Event(Event::Reply { request, result }) => self.replies.push((request, result)),
                Output::Event(_) => {}
                other => bail!("unexpected output {other:?}"),
            }
        }
        Ok(())
    }

    /// Carries out storage work until none is left.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        while let Some(task) = self.tasks.pop_front() {
            let result = self.carry_out(&task.work);
            self.handle(Input::StorageDone { ticket: task.ticket, result })?;
        }
        Ok(())
    }

    fn carry_out(&mut self, work: &StorageWork) -> Result<StorageReply, StorageFailure> {
        match work {
            StorageWork::Write { ops, epoch } => {
                let done = self.backend.write(&[(ops, epoch.as_deref())]).pop();
                done.expect("one batch has one answer").map(|()| StorageReply::Written)
            }
            StorageWork::Read { ops } => self.backend.read(ops).map(StorageReply::Read),
        }
    }

    /// What it wants to send.
    pub(crate) fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.sent)
    }

    /// Takes frames in and settles.
    pub(crate) fn give_frames(&mut self, frames: Vec<Frame>) -> anyhow::Result<()> {
        for (link, bytes) in frames {
            self.handle(Input::Frame { link, bytes })?;
        }
        self.settle()
    }

    /// Gives the backend back, without a clean close: what a crash leaves.
    pub(crate) fn into_backend(self) -> Box<dyn Backend> {
        self.backend
    }
}

/// What went over a link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Bytes of frames, both directions, with the two bytes that frame each of them.
    pub(crate) bytes: u64,
    /// Frames, both directions.
    pub(crate) frames: u64,
    /// Times that the direction changed, halved: exchanges of question and answer.
    pub(crate) round_trips: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.frames += more.frames;
        self.round_trips += more.round_trips;
    }
}

/// Two nodes with one link between them.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    link: LinkId,
}

/// Bytes of the length that precedes a frame on the stream: 7 bits each.
fn frame_prefix(len: usize) -> u64 {
    match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

impl Pair {
    /// Links two nodes.
    pub(crate) fn link(nodes: [Node; 2], number: u64) -> anyhow::Result<Self> {
        let link = LinkId(number);
        let mut pair = Self { nodes, link };
        for side in 0..2 {
            let peer = pair.nodes[1 - side].peer.context("an open node has a peer id")?;
            pair.nodes[side].handle(Input::Linked { link, peer, initiator: side == 0 })?;
        }
        Ok(pair)
    }

    /// Exchanges frames until both have nothing more to say; time stands still.
    pub(crate) fn exchange(&mut self) -> anyhow::Result<Traffic> {
        let mut traffic = Traffic::default();
        let mut turns = 0;
        loop {
            let mut quiet = true;
            for side in 0..2 {
                self.nodes[side].settle()?;
                let frames = std::mem::take(&mut self.nodes[side].sent);
                turns += u64::from(!frames.is_empty());
                quiet &= frames.is_empty();
                for (_, bytes) in frames {
                    traffic.bytes += bytes.len() as u64 + frame_prefix(bytes.len());
                    traffic.frames += 1;
                    self.nodes[1 - side].handle(Input::Frame { link: self.link, bytes })?;
                }
            }
            if quiet && self.nodes.iter().all(|node| node.tasks.is_empty()) {
                traffic.round_trips = turns.div_ceil(2);
                return Ok(traffic);
            }
        }
    }

    /// As [`Pair::exchange`], and lets time go on until `done`.
    pub(crate) fn exchange_until(
        &mut self,
        done: impl Fn(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Traffic> {
        let mut all = self.exchange()?;
        let began = self.nodes[0].mono;
        while !done(self)? {
            let at = self.nodes.iter().filter_map(|node| node.wake).min().context("nothing left to wait for")?;
            anyhow::ensure!(at.since(began) < PATIENCE, "not done after {PATIENCE:?} of virtual time");
            for node in &mut self.nodes {
                node.mono = node.mono.max(at);
                if node.wake.is_some_and(|wake| wake <= at) {
                    node.wake = None;
                    node.handle(Input::Wake)?;
                }
            }
            all += self.exchange()?;
        }
        Ok(all)
    }
}

/// One edit of an open document, as the change to commit.
pub(crate) fn edit(
    cell: &HotCell,
    f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>,
) -> anyhow::Result<LocalChange> {
    let ((), change) = cell.with(|document| document.edit(&EditOptions::default(), f))??;
    change.context("the edit changed nothing")
}

/// A node whose storage works beside it on a thread of its own, as under the native driver.
pub(crate) struct Threaded {
    node: Node,
    storage: StorageThread,
    done: mpsc::Receiver<Input>,
    /// Tasks that storage has not answered.
    outstanding: usize,
}

impl Threaded {
    /// Takes an open node over.
    pub(crate) fn new(mut node: Node) -> anyhow::Result<Self> {
        let (sender, done) = mpsc::channel();
        let backend = std::mem::replace(&mut node.backend, Box::new(Memory::new([0; 16])));
        let storage = StorageThread::spawn(backend, move |input| {
            let _ = sender.send(input);
        })?;
        Ok(Self { node, storage, done, outstanding: 0 })
    }

    /// Takes frames in as fast as they can be handled, and returns what is sent back once everything is durable.
    pub(crate) fn take_in(&mut self, frames: Vec<Frame>) -> anyhow::Result<Vec<Frame>> {
        for (link, bytes) in frames {
            self.handle(Input::Frame { link, bytes })?;
            while let Ok(done) = self.done.try_recv() {
                self.outstanding -= 1;
                self.handle(done)?;
            }
        }
        while self.outstanding > 0 {
            let done = self.done.recv()?;
            self.outstanding -= 1;
            self.handle(done)?;
        }
        Ok(self.node.take_frames())
    }

    /// Transactions that storage has made durable.
    pub(crate) fn commits(&self) -> u64 {
        self.storage.counters().commits()
    }

    fn handle(&mut self, input: Input) -> anyhow::Result<()> {
        self.node.handle(input)?;
        for task in self.node.tasks.drain(..) {
            self.outstanding += 1;
            self.storage.submit(task);
        }
        Ok(())
    }
}
