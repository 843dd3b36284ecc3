//! Foreshore's benches, run by `cargo xtask bench`.
//!
//! What counts is a ratio to a peer or to a bound measured in the same run, a count of bytes or messages, or growth with
//! size: absolute times on a shared machine are noise. A goal that is missed is printed as missed; the exit code is 0 all
//! the same, since a bench measures and tests judge.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod converge;
mod crowd;
mod footprint;
mod heal;
mod identify;
mod ingest;
mod insync;
mod latency;
mod lock;
mod measure;
mod reconcile;
mod replicas;
mod report;
mod rig;
mod soft_day;
mod spread;
mod text;
mod wasm;

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;

use report::Report;

/// The allocator of the `foreshore` binary, whose voters and doors are measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Foreshore's benches")]
struct Cli {
    /// Which; all when none is named
    names: Vec<String>,
    /// Sizes cut by ten
    #[arg(long)]
    quick: bool,
    /// Where NAME.json goes
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// What `footprint` starts itself with, to look at a filled store from a fresh process
    #[arg(long, hide = true, requires = "space")]
    probe_footprint: Option<usize>,
    #[arg(long, hide = true)]
    space: Option<String>,
    /// What `latency` starts itself as, to be the other process
    #[arg(long, hide = true)]
    latency_role: Option<String>,
    /// What `lock` starts itself as, to be a voter
    #[arg(long, hide = true)]
    lock_role: Option<String>,
}

/// What a bench is told.
#[derive(Debug, Clone, Copy)]
struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or a tenth of it in a quick run.
    fn of(self, full: usize) -> usize {
        if self.quick { (full / 10).max(1) } else { full }
    }
}

/// A part of `lock` that can be run alone; a run of everything has it once.
const DOOR: &str = "door";

type Bench = fn(Scale, &mut Report) -> anyhow::Result<()>;

const BENCHES: [(&str, Bench); 13] = [
    ("reconcile", reconcile::run),
    ("insync", insync::run),
    ("ingest", ingest::run),
    ("footprint", footprint::run),
    ("text", text::run),
    ("converge", converge::run),
    ("latency", latency::run),
    ("soft_day", soft_day::run),
    ("spread", spread::run),
    ("heal", heal::run),
    ("lock", lock::run),
    (DOOR, lock::run_doors),
    ("wasm", wasm::run),
];

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let (Some(documents), Some(space), Some(directory)) = (cli.probe_footprint, &cli.space, cli.names.first()) {
        return footprint::probe(directory.as_ref(), space, documents);
    }
    if let (Some(role), Some(directory)) = (&cli.latency_role, cli.names.first()) {
        return latency::play(role, directory.as_ref());
    }
    if let (Some(role), Some(directory)) = (&cli.lock_role, cli.names.first()) {
        return lock::ours::play(role, directory.as_ref());
    }
    if let Some(unknown) = cli.names.iter().find(|name| BENCHES.iter().all(|(bench, _)| bench != name)) {
        let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        bail!("there is no bench {unknown:?}; there are {}", known.join(", "));
    }
    let all = cli.names.is_empty();
    let wanted = |name: &str| if all { name != DOOR } else { cli.names.iter().any(|n| n == name) };
    for (name, bench) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        let mut report = Report::new(name, cli.quick);
        bench(Scale { quick: cli.quick }, &mut report)?;
        report.print();
        report.write(&cli.out)?;
    }
    Ok(())
}
