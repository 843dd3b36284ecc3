//! The simulated disk: tasks take time, crashes lose what was not answered, and bad days refuse work.
//!
//! Tasks are carried out in the order in which they were given, as [`crate::io`] asks. A write is answered when it is
//! durable, and only then does the durable state hold it. A crash keeps a *prefix* of the unanswered writes, of random
//! length, each of them whole (a torn group commit: the backend's transactions are atomic, the group is not), and loses
//! the rest.
//!
//! Several hosts can stand before one disk, as a frozen browser tab and the tab that took over from it do: the epoch check
//! tells them apart.
//!
//! [`DiskBug`] breaks the contract on purpose, so that tests can show that the checkers notice.

use std::collections::VecDeque;
use std::time::Duration;

use super::dice::Dice;
use crate::io::{StorageFailure, StorageReply, StorageTask, StorageWork, Table, Ticket, WriteOp};
use crate::store::{Backend, Memory};
use crate::time::Timestamp;

/// How fast and how reliable a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskProfile {
    /// For the trace.
    pub name: &'static str,
    /// Shortest time of a durable write.
    pub write_min: Duration,
    /// Longest time of a durable write.
    pub write_max: Duration,
    /// Longest time of a read.
    pub read_max: Duration,
    /// Writes of a thousand that join the fsync of the one before.
    pub grouped_per_mille: u32,
    /// Writes of a thousand that fail for no reason.
    pub write_errors_per_mille: u32,
    /// Reads of a thousand that fail for no reason.
    pub read_errors_per_mille: u32,
}

impl DiskProfile {
    /// A solid-state disk.
    pub const SSD: Self = Self::new("ssd", 150, 2_000, 200);
    /// A card in a small computer.
    pub const CARD: Self = Self::new("card", 5_000, 120_000, 5_000);
    /// A browser's IndexedDB.
    pub const BROWSER: Self = Self::new("browser", 400, 9_000, 3_000);
    /// A disk that is dying.
    pub const DYING: Self = Self { write_errors_per_mille: 30, read_errors_per_mille: 5, ..Self::CARD };

    const fn new(name: &'static str, write_min_us: u64, write_max_us: u64, read_max_us: u64) -> Self {
        Self {
            name,
            write_min: Duration::from_micros(write_min_us),
            write_max: Duration::from_micros(write_max_us),
            read_max: Duration::from_micros(read_max_us),
            grouped_per_mille: 400,
            write_errors_per_mille: 0,
            read_errors_per_mille: 0,
        }
    }
}

/// A broken promise, planted by a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBug {
    /// Writes are answered this long before they are durable.
    AckBeforeDurable(Duration),
    /// A crash may keep the first half of a task.
    TornTask,
}

/// One process's handle on a disk; 0 is never used.
pub type Host = u64;

#[derive(Debug)]
struct Pending {
    host: Host,
    due: Timestamp,
    task: StorageTask,
}

/// A finished task.
#[derive(Debug)]
pub struct Finished {
    /// Who asked.
    pub host: Host,
    /// The task.
    pub ticket: Ticket,
    /// What came of it.
    pub result: Result<StorageReply, StorageFailure>,
}

/// One machine's storage.
#[derive(Debug)]
pub struct Disk {
    durable: Memory,
    /// With [`DiskBug::AckBeforeDurable`]: what readers see, ahead of `durable`.
    promised: Option<Memory>,
    queue: VecDeque<Pending>,
    unsynced: VecDeque<(Timestamp, Vec<WriteOp>)>,
    last_due: Timestamp,
    full_until: Timestamp,
    profile: DiskProfile,
    bug: Option<DiskBug>,
    writes: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new(profile: DiskProfile, dice: &mut Dice) -> Self {
        let mut identity = [0; 16];
        identity.copy_from_slice(&dice.seed()[..16]);
        Self::with(profile, Memory::new(identity))
    }

    /// A disk that holds `tables`.
    pub fn with(profile: DiskProfile, tables: Memory) -> Self {
        Self {
            durable: tables,
            promised: None,
            queue: VecDeque::new(),
            unsynced: VecDeque::new(),
            last_due: Timestamp::ZERO,
            full_until: Timestamp::ZERO,
            profile,
            bug: None,
            writes: 0,
        }
    }

    /// Plants a bug.
    pub fn plant(&mut self, bug: DiskBug) {
        if matches!(bug, DiskBug::AckBeforeDurable(_)) {
            self.promised = Some(self.durable.clone());
        }
        self.bug = Some(bug);
    }

    /// The store file's identity.
    pub fn identity(&self) -> Vec<u8> {
        self.durable.identity()
    }

    /// What would be there after a crash now that kept nothing unanswered.
    pub fn durable(&self) -> &Memory {
        &self.durable
    }

    /// Whether tasks wait.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes answered so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// How fast and how reliable it is.
    pub fn profile(&self) -> DiskProfile {
        self.profile
    }

    /// Makes it faster, slower or less reliable.
    pub fn set_profile(&mut self, profile: DiskProfile) {
        self.profile = profile;
    }

    /// No room until `until`.
    pub fn fill_until(&mut self, until: Timestamp) {
        self.full_until = until;
    }

    /// An older copy of the file is put in place of the file, as a restored backup is: it has an identity of its own.
    pub fn restore(&mut self, backup: &Memory, identity: [u8; 16]) {
        let mut tables = Memory::new(identity);
        let copy: Vec<WriteOp> = Table::ALL
            .iter()
            .flat_map(|table| backup.table(*table).map(|(k, v)| WriteOp::Put(*table, k.to_vec(), v.to_vec())))
            .collect();
        let copied = tables.write(&[(&copy, None)]);
        debug_assert!(copied.iter().all(Result::is_ok), "an unguarded write to memory does not fail");
        self.durable = tables;
        self.promised = None;
        self.queue.clear();
        self.unsynced.clear();
    }

    /// Takes a task; returns when to call [`Disk::complete`].
    pub fn submit(&mut self, now: Timestamp, host: Host, task: StorageTask, dice: &mut Dice) -> Timestamp {
        let time = match &task.work {
            StorageWork::Write { .. } if !self.queue.is_empty() && dice.chance(self.profile.grouped_per_mille) => {
                Duration::ZERO
            }
            StorageWork::Write { .. } => dice.span(self.profile.write_min, self.profile.write_max),
            _ => dice.span(Duration::from_micros(10), self.profile.read_max),
        };
        self.last_due = self.last_due.max(now) + time;
        self.queue.push_back(Pending { host, due: self.last_due, task });
        self.last_due
    }

    /// Finishes the next task that is due.
    pub fn complete(&mut self, now: Timestamp, dice: &mut Dice) -> Option<Finished> {
        self.sync(now);
        if self.queue.front().is_none_or(|pending| pending.due > now) {
            return None;
        }
        let Pending { host, task: StorageTask { ticket, work }, .. } = self.queue.pop_front()?;
        let result = match work {
            StorageWork::Write { ops, epoch } => {
                self.writes += 1;
                self.write(now, ops, epoch, dice).map(|()| StorageReply::Written)
            }
            StorageWork::Read { ops } if dice.chance(self.profile.read_errors_per_mille) => {
                Err(StorageFailure::Io { detail: format!("simulated read error in {} looks", ops.len()) })
            }
            StorageWork::Read { ops } => {
                self.promised.as_ref().unwrap_or(&self.durable).read(&ops).map(StorageReply::Read)
            }
        };
        Some(Finished { host, ticket, result })
    }

    /// Power goes: what was not answered is kept up to a random point and lost behind it.
    pub fn crash(&mut self, dice: &mut Dice) {
        let waiting: Vec<Pending> = self.queue.drain(..).collect();
        let writes: Vec<_> = waiting
            .into_iter()
            .filter_map(|pending| match pending.task.work {
                StorageWork::Write { ops, epoch } => Some((ops, epoch)),
                _ => None,
            })
            .collect();
        let kept = dice.between(0, writes.len() as u64) as usize;
        self.unsynced.clear();
        if self.promised.take().is_none() {
            for (ops, epoch) in &writes[..kept] {
                self.durable.write(&[(ops.as_slice(), epoch.as_deref())]);
            }
            if self.bug == Some(DiskBug::TornTask)
                && let Some((ops, epoch)) = writes.get(kept)
            {
                self.durable.write(&[(&ops[..ops.len().div_ceil(2)], epoch.as_deref())]);
            }
        } else {
            self.promised = Some(self.durable.clone());
        }
        self.last_due = Timestamp::ZERO;
    }

    fn write(
        &mut self,
        now: Timestamp,
        ops: Vec<WriteOp>,
        epoch: Option<Vec<u8>>,
        dice: &mut Dice,
    ) -> Result<(), StorageFailure> {
        if now < self.full_until {
            return Err(StorageFailure::Full);
        }
        if dice.chance(self.profile.write_errors_per_mille) {
            return Err(StorageFailure::Io { detail: "simulated write error".to_owned() });
        }
        let target = self.promised.as_mut().unwrap_or(&mut self.durable);
        let result = target.write(&[(ops.as_slice(), epoch.as_deref())]).pop();
        if let (Some(DiskBug::AckBeforeDurable(lag)), Some(Ok(()))) = (self.bug, &result) {
            self.unsynced.push_back((now + lag, ops));
        }
        result.unwrap_or(Ok(()))
    }

    /// With [`DiskBug::AckBeforeDurable`]: makes durable what was promised long enough ago.
    fn sync(&mut self, now: Timestamp) {
        while self.unsynced.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, ops)) = self.unsynced.pop_front() {
                self.durable.write(&[(ops.as_slice(), None)]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
