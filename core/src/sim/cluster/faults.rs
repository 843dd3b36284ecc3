//! Bad days, as data, and how they strike.

use std::time::Duration;

use super::{Cluster, Happening};
use crate::engine::{Command, Keep};
use crate::sim::network::{Mischief, NodeId};
use crate::sim::program::Asked;

/// Something that goes wrong, or stops going wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The process dies as by `kill -9` or power loss, and starts again after this time.
    Crash(NodeId, Duration),
    /// The process is closed properly, and starts again after this time.
    Restart(NodeId, Duration),
    /// The process stops (SIGSTOP, suspend) and goes on after this time.
    Freeze(NodeId, Duration),
    /// The machine sleeps for this time, and its monotonic clock with it.
    Sleep(NodeId, Duration),
    /// The process stops, another one opens the same store, then the first goes on.
    Takeover(NodeId, Duration),
    /// Every wire between two nodes breaks.
    Break(NodeId, NodeId),
    /// Nothing passes from the first to the second for this time.
    Stall(NodeId, NodeId, Duration),
    /// Nothing passes between the two groups for this time.
    Partition(Vec<NodeId>, Vec<NodeId>, Duration),
    /// Ends a stall.
    Flow(NodeId, NodeId),
    /// The disk has no room for this time.
    DiskFull(NodeId, Duration),
    /// The wall clock jumps by milliseconds.
    WallJump(NodeId, i64),
    /// A copy of the store's file is put aside.
    Backup(NodeId),
    /// The process dies, and the copy takes the file's place.
    Restore(NodeId, Duration),
    /// The founder revokes a node's device, keeping what it has of it, or nothing.
    Revoke(NodeId, Keep),
    /// The founder hands the space to another root key.
    Rotate,
    /// The process is closed properly, and a copy of its store, seal and all, is put aside.
    Fork(NodeId, Duration),
    /// The process dies, and that copy takes the store's place as if it were the very same file: the device signs anew what
    /// it has signed. No honest machine does this.
    Refork(NodeId, Duration),
    /// Streams do what no honest stream does, from now on.
    Mischief(Mischief),
}

impl Fault {
    /// Whether frames may arrive long after they were sent.
    pub fn holds_up_frames(&self) -> bool {
        matches!(self, Fault::Stall(..) | Fault::Partition(..) | Fault::Freeze(..) | Fault::Sleep(..))
    }
}

impl Cluster {
    pub(super) fn strike(&mut self, fault: Fault) {
        if !self.stormy && !matches!(fault, Fault::Flow(..)) {
            return;
        }
        self.note(format_args!("fault: {fault:?}"));
        let now = self.queue.now();
        match fault {
            Fault::Crash(node, down) => self.crash(node, down),
            Fault::Restart(node, down) => {
                self.ask(node, Command::Close, Asked::Close { down });
            }
            Fault::Freeze(node, time) => {
                self.soft.on_stop(node, now);
                let node = self.node_mut(node);
                node.frozen_until = node.frozen_until.max(now + time);
            }
            Fault::Sleep(node, time) => {
                self.soft.on_stop(node, now);
                let node = self.node_mut(node);
                if node.frozen_until <= now {
                    node.frozen_until = now + time;
                    node.clock.suspend(now, time);
                }
            }
            Fault::Takeover(node, time) => self.take_over(node, time),
            Fault::Break(a, b) => self.break_between(a, b),
            Fault::Stall(from, to, time) => self.stall(from, to, time),
            Fault::Partition(left, right, time) => {
                for a in &left {
                    for b in &right {
                        self.stall(*a, *b, time);
                        self.stall(*b, *a, time);
                    }
                }
            }
            Fault::Flow(from, to) => self.flow(from, to),
            Fault::DiskFull(node, time) => self.node_mut(node).disk.fill_until(now + time),
            Fault::WallJump(node, millis) => self.node_mut(node).clock.jump_wall(now, millis),
            // Of one that comes later there is nothing yet: put back, that would be another device, without the space.
            Fault::Backup(node) if !self.node(node).joined => {}
            Fault::Backup(node) => {
                let copy = self.node(node).disk.durable().clone();
                self.backups.insert(node, copy);
            }
            Fault::Restore(node, down) => {
                if let Some(copy) = self.backups.remove(&node) {
                    self.crash(node, down);
                    let mut identity = [0; 16];
                    identity.copy_from_slice(&self.dice.seed()[..16]);
                    self.node_mut(node).disk.restore(&copy, identity);
                    self.checks.on_restore(node);
                }
            }
            Fault::Revoke(node, keep) => self.revoke(node, keep),
            Fault::Rotate => {
                if let Some(space) = self.space {
                    self.ask(NodeId(0), Command::RotateRoot { space, successor: None }, Asked::Rotate);
                }
            }
            Fault::Fork(node, down) => {
                self.checks.standing.forking.insert(node);
                self.ask(node, Command::Close, Asked::Close { down });
            }
            Fault::Refork(node, down) => {
                if let Some(copy) = self.backups.remove(&node) {
                    self.crash(node, down);
                    let mut identity = [0; 16];
                    identity.copy_from_slice(&self.node(node).disk.identity()[..16]);
                    self.node_mut(node).disk.restore(&copy, identity);
                    self.checks.on_restore(node);
                    self.checks.standing.liars.insert(node);
                }
            }
            Fault::Mischief(mischief) => {
                self.network.mischief = mischief;
                self.checks.on_mischief();
            }
        }
    }

    /// Kills a process; its machine starts again after `down`.
    pub(in crate::sim) fn crash(&mut self, id: NodeId, down: Duration) {
        let now = self.queue.now();
        let mut dice = self.disk_dice.clone();
        let reboot = self.dice.chance(300);
        let mut clock_dice = self.dice.fork();
        let node = self.node_mut(id);
        node.frozen_until = now;
        node.clock.resume(now);
        node.ghost = None;
        node.disk.crash(&mut dice);
        if reboot {
            node.clock.reboot(now, &mut clock_dice);
        }
        let process = node.process.take();
        self.disk_dice = dice;
        if let Some(process) = process {
            self.checks.on_crash(id, &process.program);
            self.soft.on_death(id, process.life, now);
        }
        self.drop_ends(id);
        self.queue.at(now + down, Happening::Start(id));
    }

    fn stall(&mut self, from: NodeId, to: NodeId, time: Duration) {
        self.network.stall(from, to);
        let now = self.queue.now();
        let patience = self.net_dice.span(Duration::from_secs(4), Duration::from_secs(40));
        self.queue.at(now + patience, Happening::Patience(from, to));
        self.queue.at(now + time, Happening::Fault(Fault::Flow(from, to)));
    }

    pub(super) fn flow(&mut self, from: NodeId, to: NodeId) {
        for (wire, side) in self.network.flow(from, to) {
            self.queue.at(self.queue.now(), Happening::Arrive(wire, side));
        }
    }

    /// The running process becomes a ghost that will go on after `time`, when another has long opened the store.
    fn take_over(&mut self, id: NodeId, time: Duration) {
        self.drop_ends(id);
        let now = self.queue.now();
        let node = self.node_mut(id);
        let Some(ghost) = node.process.take() else { return };
        self.checks.on_crash(id, &ghost.program);
        self.soft.on_death(id, ghost.life, now);
        self.node_mut(id).ghost = Some(ghost);
        self.start(id);
        self.queue.at(now + time, Happening::Thaw(id));
    }

    /// The storm is over: everything is up, connected and honest from now on.
    pub(in crate::sim) fn heal(&mut self) {
        self.note(format_args!("heal"));
        self.stormy = false;
        let now = self.queue.now();
        for (from, to) in self.network.stalls() {
            self.flow(from, to);
        }
        if std::mem::take(&mut self.network.mischief) != Mischief::NONE {
            // A stream that was tampered with has lost its meaning.
            let wires: Vec<_> = self.network.wires().filter(|(_, wire)| !wire.torn).map(|(id, _)| id).collect();
            wires.into_iter().for_each(|wire| self.break_wire(wire));
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.frozen_until = now;
            node.clock.resume(now);
            node.ghost = None;
            node.disk.fill_until(now);
            let mut profile = node.disk.profile();
            (profile.write_errors_per_mille, profile.read_errors_per_mille) = (0, 0);
            node.disk.set_profile(profile);
            let id = node.id;
            self.queue.at(now, Happening::Start(id));
        }
    }

    /// Asks every engine for its figures and its list, now and then.
    pub(super) fn probe(&mut self) {
        if !self.stormy {
            return;
        }
        let again = self.dice.span(Duration::from_secs(3), Duration::from_secs(10));
        self.queue.at(self.queue.now() + again, Happening::Probe);
        let nodes: Vec<NodeId> = self.nodes.iter().filter(|node| node.is_open()).map(|node| node.id).collect();
        for id in nodes {
            self.ask(id, Command::Status, Asked::Status);
        }
    }
}
