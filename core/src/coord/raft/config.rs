//! What a replica may be told.

use std::fmt;

use super::entry::MAX_ENTRY_BYTES;

/// Sizes and counts of one replica. Time is in ticks, whose length the driver chooses; 100 ms suits voters on a LAN or
/// between cities.
///
/// ## Defaults
///
/// | field | default |
/// |---|---|
/// | election | 10 to 20 ticks |
/// | heartbeat | 2 ticks |
/// | inflight appends a follower | 64 |
/// | uncommitted bytes | 16 MiB |
/// | compaction | at 10,000 entries or 32 MiB, keeping the last 1,000 |
/// | largest snapshot | 256 MiB |
/// | reads that wait | 4,096, for 40 ticks |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) heartbeat: usize,
    pub(crate) election: usize,
    pub(crate) inflight: usize,
    pub(crate) uncommitted_bytes: u64,
    pub(crate) compact_entries: u64,
    pub(crate) compact_bytes: usize,
    pub(crate) keep_entries: u64,
    pub(crate) snapshot_bytes: usize,
    pub(crate) reads: usize,
    pub(crate) read_ticks: u32,
    #[cfg(any(test, feature = "sim"))]
    pub(crate) planted: Option<super::sim::Planted>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: 2,
            election: 10,
            inflight: 64,
            uncommitted_bytes: 16 << 20,
            compact_entries: 10_000,
            compact_bytes: 32 << 20,
            keep_entries: 1_000,
            snapshot_bytes: 256 << 20,
            reads: 4_096,
            read_ticks: 40,
            #[cfg(any(test, feature = "sim"))]
            planted: None,
        }
    }
}

/// A value out of its bound. Nothing was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which field.
    pub field: &'static str,
    /// What it has to be.
    pub rule: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has to be {}", self.field, self.rule)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Ticks between heartbeats, and the least ticks of silence before an election; the most is twice as many. Shorter
    /// finds a dead leader earlier and takes a slow one for dead; the election has to be at least three heartbeats.
    pub fn timing(mut self, heartbeat: usize, election: usize) -> Self {
        (self.heartbeat, self.election) = (heartbeat, election);
        self
    }

    /// Appends on their way to one follower. Worst-case memory of a leader for them: this times 256 KiB a follower.
    pub fn inflight(mut self, appends: usize) -> Self {
        self.inflight = appends;
        self
    }

    /// Bytes of proposals that are not committed; beyond it a proposal is refused. One entry always fits.
    pub fn uncommitted_bytes(mut self, bytes: u64) -> Self {
        self.uncommitted_bytes = bytes;
        self
    }

    /// When the log is compacted: so many entries or bytes behind the last snapshot; and how many entries are kept for
    /// followers that are a little behind. Worst-case memory of the log: twice `bytes`, and the entries kept.
    pub fn compaction(mut self, entries: u64, bytes: usize, keep: u64) -> Self {
        (self.compact_entries, self.compact_bytes, self.keep_entries) = (entries, bytes, keep);
        self
    }

    /// The largest snapshot that is taken from a leader. A replica holds its own and one that arrives.
    pub fn snapshot_bytes(mut self, bytes: usize) -> Self {
        self.snapshot_bytes = bytes;
        self
    }

    /// Reads that may wait for their index, and for how many ticks.
    pub fn reads(mut self, reads: usize, ticks: u32) -> Self {
        (self.reads, self.read_ticks) = (reads, ticks);
        self
    }

    /// Breaks a promise on purpose, so that tests can show that the checkers notice.
    #[cfg(any(test, feature = "sim"))]
    pub fn plant(mut self, bug: super::sim::Planted) -> Self {
        self.planted = Some(bug);
        self
    }

    /// Checks every bound.
    pub fn build(self) -> Result<Self, ConfigError> {
        let rules: [(bool, &'static str, &'static str); 7] = [
            (self.heartbeat >= 1 && self.heartbeat <= 1_000, "heartbeat", "1 to 1,000 ticks"),
            (self.election >= 3 * self.heartbeat && self.election <= 100_000, "election", "at least three heartbeats"),
            ((1..=4_096).contains(&self.inflight), "inflight", "1 to 4,096"),
            (self.uncommitted_bytes >= MAX_ENTRY_BYTES as u64, "uncommitted_bytes", "at least one entry of 2 MiB"),
            (self.compact_entries >= 1 && self.compact_bytes >= 1, "compaction", "at least one entry and one byte"),
            (self.snapshot_bytes >= 1 && self.snapshot_bytes <= 1 << 30, "snapshot_bytes", "1 byte to 1 GiB"),
            (self.reads >= 1 && self.read_ticks >= 1, "reads", "at least one read and one tick"),
        ];
        match rules.iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(ConfigError { field, rule }),
            None => Ok(self),
        }
    }
}
