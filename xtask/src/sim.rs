//! `cargo xtask sim`: the simulator over a range of seeds.

use anyhow::Context;

use crate::cargo::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One kind of bad days instead of the one that each seed picks; `consensus` and `coord` are the strong path's
    #[arg(long)]
    scenario: Option<String>,
    /// Print every line of what happens
    #[arg(long)]
    echo: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut extra = Vec::new();
    if let Some(scenario) = &options.scenario {
        extra.extend(["--scenario", scenario]);
    }
    if options.echo {
        extra.push("--echo");
    }
    simulate(options.from, options.seeds, &extra)
}

/// Runs the first `count` seeds, of one scenario or each of the one that it draws.
pub(crate) fn seeds(scenario: Option<&str>, count: u64) -> anyhow::Result<()> {
    let extra: Vec<&str> = scenario.into_iter().flat_map(|name| ["--scenario", name]).collect();
    simulate(0, count, &extra)
}

fn simulate(from: u64, count: u64, extra: &[&str]) -> anyhow::Result<()> {
    let mut command = cargo("run --quiet --profile seeds --package foreshore-sim --");
    command.args(["--from", &from.to_string(), "--seeds", &count.to_string()]).args(extra);
    cargo::run(command).context("a seed failed; each failure above says how to replay it")
}
