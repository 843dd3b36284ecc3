//! Voters and their clients on virtual time, with everything that can go wrong, from one seed.
//!
//! [`run`] founds a group of three or five voters with learners and lets 4 to 16 clients use what it offers: registers,
//! locks, elections, queues, sequential nodes, watches. Links are late, cut one way and not transitively, and break; disks
//! are slow and lose what they had not synced; voters and clients stand still; clocks run at different speeds and wall clocks
//! jump; members come, go and lead in turn. Then everything is healed, and has to come together.
//!
//! ```text
//!  program ─▶ Client ═╗ links ╔═▶ Voter = Group + Machine + MemoryLog
//!     ▲               ╚═══════╝     ▲
//!  check: what was promised,      storm: faults, operator
//!         what clients were told
//! ```
//!
//! What is checked stands in [`check`]; whole histories of registers are searched for an order by [`linear`]. A seed gives
//! one trace, byte for byte. It runs the clients and voters that ship; only programs and the world are made up.

pub mod check;
pub mod linear;
pub mod net;
mod program;
mod storm;
pub mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use check::Violation;

/// A broken promise, planted by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A voter says that a write is durable before it is.
    AcknowledgeBeforeFsync,
    /// A release names the lock, not the grant.
    ReleaseByName,
    /// A leader that was deposed answers reads.
    StaleRead,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The same for the same seed, always.
    pub trace: [u8; 32],
    /// Events on virtual time.
    pub steps: u64,
    /// Requests that were answered.
    pub replies: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Operations in histories that were searched for an order.
    pub operations: u64,
    /// Histories for which the search became too long.
    pub undecided: u64,
    /// Grants that a client acted under.
    pub grants: u64,
    /// Writes under a token that a newer one had overtaken: refused.
    pub fenced: u64,
    /// Events told to watchers.
    pub events: u64,
    /// Sessions that expired.
    pub expired: u64,
    /// Times that a client's lease lapsed.
    pub lapsed: u64,
    /// Leaders elected.
    pub leaders: u64,
    /// Crashes of voters.
    pub crashes: u64,
    /// Of these, with a torn write.
    pub torn: u64,
    /// Changes of the membership that replicas learned of.
    pub changes: u64,
    /// Voters that began again with an empty disk, or were added.
    pub newcomers: u64,
    /// Snapshots installed.
    pub installed: u64,
}

impl Report {
    /// Adds up two runs.
    pub fn add(&mut self, other: &Self) {
        let fields: [(&mut u64, u64); 16] = [
            (&mut self.steps, other.steps),
            (&mut self.replies, other.replies),
            (&mut self.reads, other.reads),
            (&mut self.operations, other.operations),
            (&mut self.undecided, other.undecided),
            (&mut self.grants, other.grants),
            (&mut self.fenced, other.fenced),
            (&mut self.events, other.events),
            (&mut self.expired, other.expired),
            (&mut self.lapsed, other.lapsed),
            (&mut self.leaders, other.leaders),
            (&mut self.crashes, other.crashes),
            (&mut self.torn, other.torn),
            (&mut self.changes, other.changes),
            (&mut self.newcomers, other.newcomers),
            (&mut self.installed, other.installed),
        ];
        fields.into_iter().for_each(|(sum, more)| *sum += more);
    }
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
        writeln!(f, "seed {} (coord): {}", self.seed, self.violation)?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay: cargo xtask sim --scenario coord --from {} --seeds 1 --echo", self.seed)
    }
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    let mut run = storm::Run::new(seed, options);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.play())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::Panicked { what: text.unwrap_or_default() })
    });
    match outcome {
        Ok(()) => Ok(run.report()),
        Err(violation) => Err(Box::new(Failure { seed, violation, tail: run.tail() })),
    }
}

#[cfg(test)]
mod tests;
