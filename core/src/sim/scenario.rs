//! What is simulated: who takes part, how they are connected, what goes wrong and when; and the run itself.
//!
//! A scenario is made from a name and a seed. The name says which kind of bad days it has, the seed everything else, down
//! to the number of nodes. Without a name the seed picks one of [`NAMES`], but for the last: a crowd takes minutes.

mod storms;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::check::{Tally, Violation};
use super::cluster::{Cluster, Fault};
use super::dice::Dice;
use super::disk::{DiskBug, DiskProfile};
use super::network::{NodeId, Profile};
use super::node::{self, Factory, Standing};
use crate::config::EngineConfig;
use crate::id::{Path, Prefix};
use crate::trust::Role;

/// The named scenarios.
pub const NAMES: [&str; 22] = [
    "calm",
    "links",
    "partitions",
    "crashes",
    "disks",
    "interests",
    "roles",
    "late",
    "clocks",
    "mischief",
    "takeover",
    "backup",
    "movers",
    "everything",
    "presence",
    "sleepers",
    "lapses",
    "replays",
    "topics",
    "revocations",
    "liars",
    "crowd",
];

/// What a seed picks where no name is given.
fn drawn(seed: u64) -> &'static str {
    let usual = &NAMES[..NAMES.len() - 1];
    usual[(seed % usual.len() as u64) as usize]
}

/// One machine of a scenario.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// What it is in the space.
    pub standing: Standing,
    /// What it replicates; `None`: all it may read.
    pub interests: Option<Vec<Prefix>>,
    /// Its storage.
    pub disk: DiskProfile,
    /// A planted bug.
    pub bug: Option<DiskBug>,
    /// When it first starts.
    pub starts_at: Duration,
    /// How late its timers may be.
    pub timer_slop: Duration,
}

impl NodeSpec {
    /// A writer of everything on a solid-state disk.
    pub fn writer() -> Self {
        Self {
            standing: Standing::Member { role: Role::Writer, prefix: Prefix::root() },
            interests: None,
            disk: DiskProfile::SSD,
            bug: None,
            starts_at: Duration::ZERO,
            timer_slop: Duration::from_millis(2),
        }
    }

    /// The node that makes the space.
    pub fn founder() -> Self {
        Self { standing: Standing::Founder, ..Self::writer() }
    }
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// One of [`NAMES`], or a test's own.
    pub name: String,
    /// The machines; node `n` is the `n`th. The first is the founder.
    pub nodes: Vec<NodeSpec>,
    /// Who connects to whom, and over what.
    pub edges: Vec<([NodeId; 2], Profile)>,
    /// The engines' configuration, save for the store's identity.
    pub engine: EngineConfig,
    /// The documents.
    pub paths: Vec<Path>,
    /// Prefixes that changing interests are made of.
    pub prefixes: Vec<Prefix>,
    /// Mean time between two actions of a program.
    pub pace: Duration,
    /// Deletions of a thousand drawn that take place.
    pub deletes_per_mille: u32,
    /// Actions of a thousand that are about soft state.
    pub soft_per_mille: u32,
    /// Actions of a thousand, of those that are not about soft state, that publish a signal.
    pub topics_per_mille: u32,
    /// How far wall clocks are off at first.
    pub wall_error: Duration,
    /// Clients that move between the nodes and carry bookmarks.
    pub movers: usize,
    /// Whether engines choose whom to link with beside the edges, which are then addresses that nodes were given.
    pub wished: bool,
    /// Whether nodes change what they replicate.
    pub changing_interests: bool,
    /// Whether every document begins with [`super::program::template`].
    pub shared_template: bool,
    /// What goes wrong, and when.
    pub faults: Vec<(Duration, Fault)>,
    /// How long programs act and faults strike.
    pub storm: Duration,
    /// How long convergence may take after it.
    pub patience: Duration,
}

impl Scenario {
    /// Whether everybody keeps the protocol and the contracts.
    pub fn honest(&self) -> bool {
        !self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Mischief(_)))
    }

    /// Whether a store is put back to an older state.
    pub fn rolls_back(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Restore(..)))
    }

    /// Whether facts may take changes out of documents.
    pub fn judges(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Revoke(..) | Fault::Refork(..)))
    }

    /// The scenario of a name and seed; `None` if there is no such name.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let mut dice = Dice::new(seed ^ 0x5ce7_a710);
        storms::named(name, &mut dice)
    }

    /// The scenario that a seed picks.
    pub fn of_seed(seed: u64) -> Self {
        let name = drawn(seed);
        let mut scenario = Self::named(name, seed).expect("every name in the list makes a scenario");
        // As a browser's engine, one time in four.
        scenario.engine.run_ahead = !seed.is_multiple_of(4);
        scenario
    }

    /// A few writers in a mesh, nothing going wrong: what tests begin with.
    pub fn plain(nodes: u8, profile: Profile) -> Self {
        let specs = (0..nodes).map(|n| if n == 0 { NodeSpec::founder() } else { NodeSpec::writer() }).collect();
        let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| [NodeId(a), NodeId(b)]));
        Self {
            name: "plain".to_owned(),
            nodes: specs,
            edges: pairs.map(|pair| (pair, profile)).collect(),
            engine: EngineConfig::default(),
            paths: storms::paths(&["/a", "/a/b", "/c/d"]),
            prefixes: vec![Prefix::root()],
            pace: Duration::from_millis(500),
            deletes_per_mille: 0,
            soft_per_mille: 0,
            topics_per_mille: 0,
            wall_error: Duration::from_secs(3_600),
            movers: 0,
            wished: false,
            changing_interests: false,
            shared_template: true,
            faults: Vec::new(),
            storm: Duration::from_secs(20),
            patience: Duration::from_secs(180),
        }
    }
}

/// What a run that kept every promise came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// Hash over everything that happened.
    pub trace_hash: [u8; 32],
    /// Lines of the trace.
    pub lines: u64,
    /// Inputs that engines handled.
    pub inputs: u64,
    /// Frames sent.
    pub frames: u64,
    /// Bytes of frames sent.
    pub bytes: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Counters of the checks.
    pub tally: Tally,
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// Whether the name was given rather than picked by the seed.
    pub forced: bool,
    /// What was broken.
    pub violation: Violation,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} ({}): {}", self.seed, self.scenario, self.violation)?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay: cargo xtask sim --seeds 1 --from {}", self.seed)?;
        if self.forced {
            write!(f, " --scenario {}", self.scenario)?;
        }
        Ok(())
    }
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Print every line of the trace to stderr.
    pub echo: bool,
    /// Lines of the trace that a failure shows.
    pub tail: usize,
    /// What makes the engines.
    pub factory: Factory,
}

impl Default for Options {
    fn default() -> Self {
        Self { echo: false, tail: 60, factory: node::engine }
    }
}

/// Runs the scenario that a seed picks.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    run_scenario(Scenario::of_seed(seed), seed, Options::default())
}

/// Runs a scenario with a seed.
pub fn run_scenario(scenario: Scenario, seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    let (name, storm) = (scenario.name.clone(), scenario.storm);
    let mut cluster = Cluster::new(scenario, seed, options.factory, options.echo);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        cluster.run_for(storm)?;
        cluster.conclude()
    }));
    let outcome = outcome.unwrap_or_else(|payload| Err(Violation::Panicked { message: panic_text(&*payload) }));
    match outcome {
        Ok(()) => Ok(report(&cluster, seed, name)),
        Err(violation) => {
            let lines: Vec<String> = cluster.trace.tail().map(str::to_owned).collect();
            let tail = lines[lines.len().saturating_sub(options.tail)..].to_vec();
            let forced = !NAMES.contains(&name.as_str()) || name != drawn(seed);
            Err(Box::new(Failure { seed, scenario: name, forced, violation, tail }))
        }
    }
}

fn report(cluster: &Cluster, seed: u64, scenario: String) -> Report {
    Report {
        seed,
        scenario,
        trace_hash: cluster.trace.hash(),
        lines: cluster.trace.lines(),
        inputs: cluster.inputs(),
        frames: cluster.network.stats.frames,
        bytes: cluster.network.stats.bytes,
        virtual_time: Duration::from_micros(cluster.now().as_micros()),
        tally: cluster.checks.tally,
    }
}

pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something unprintable".to_owned())
}
