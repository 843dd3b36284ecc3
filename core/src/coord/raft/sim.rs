//! Groups on virtual time, with everything that can go wrong, from one seed.
//!
//! [`run`] founds a group of three or five, lets clients propose and read, an operator change members and move leadership,
//! and faults strike; then heals everything and asks for what was promised. What is checked after every step stands in
//! [`check`]. A seed gives one trace, byte for byte.
//!
//! ```text
//!  world: events on virtual time ──▶ node = Group + MemoryLog + drifting clock
//!     ▲          │                     │
//!   storm      network               check: what was promised, what holds
//! ```
//!
//! What it is not: a model. It runs the replicas that ship, byte for byte.

pub mod check;
pub mod machine;
mod operator;
pub mod world;

use std::fmt;

pub use check::Violation;

/// A broken promise, planted by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// What depends on a write leaves before it is durable.
    SendBeforeFsync,
    /// A leader answers reads from what it knows, without asking a majority.
    ReadWithoutQuorum,
}

/// How a run differs from the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug in every replica.
    pub planted: Option<Planted>,
    /// Print every line as it happens.
    pub echo: bool,
}

/// What a run that kept every promise did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The same for the same seed, always.
    pub trace: [u8; 32],
    /// Steps taken.
    pub steps: u64,
    /// Proposals that were acknowledged.
    pub acknowledged: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Leaders elected.
    pub leaders: u64,
    /// Crashes and wiped disks.
    pub crashes: u64,
    /// Rows of writes that a crash tore.
    pub torn: u64,
    /// Changes of the membership that took effect.
    pub changes: u64,
    /// Snapshots installed from a leader.
    pub installed: u64,
}

/// A promise that a run broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "consensus seed {}: {}", self.seed, self.violation)?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay: cargo xtask sim --scenario consensus --from {} --seeds 1 --echo", self.seed)
    }
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    world::World::new(seed, options).run()
}

#[cfg(test)]
mod tests;
