//! Runs the simulators over a range of seeds: `sim --seeds N --from S [--scenario NAME] [--echo] [--tail N]`.
//!
//! The scenarios `consensus` (replicas of a log, alone) and `coord` (voters and clients of the strong path) have worlds and
//! checkers of their own and are run by name; every other is a kind of bad days for whole peers.
//!
//! Seeds are shared out to two threads; each run is one thread's alone, so what a seed does depends on nothing else.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use foreshore::coord::raft::sim as consensus;
use foreshore::coord::serve::sim as coord;
use foreshore::sim::{self, Options, Report, Scenario};

/// Threads that run seeds.
const THREADS: usize = 2;
/// The simulators of the strong path.
const CONSENSUS: &str = "consensus";
const COORD: &str = "coord";

/// Failures after which the rest is not run.
const ENOUGH: usize = 5;

struct Arguments {
    seeds: u64,
    from: u64,
    scenario: Option<String>,
    echo: bool,
    tail: usize,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut parsed = Arguments { seeds: 500, from: 0, scenario: None, echo: false, tail: 60 };
    let mut rest = std::env::args().skip(1);
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{flag} wants a value"));
        match flag.as_str() {
            "--seeds" => parsed.seeds = value()?.parse().context("--seeds wants a number")?,
            "--from" => parsed.from = value()?.parse().context("--from wants a number")?,
            "--tail" => parsed.tail = value()?.parse().context("--tail wants a number")?,
            "--scenario" => parsed.scenario = Some(value()?),
            "--echo" => parsed.echo = true,
            other => bail!("unknown option {other:?}; known are --seeds, --from, --scenario, --echo and --tail"),
        }
    }
    if let Some(name) = &parsed.scenario
        && !sim::NAMES.iter().chain(&[CONSENSUS, COORD]).any(|known| known == name)
    {
        bail!("there is no scenario {name:?}; there are {}, {CONSENSUS} and {COORD}", sim::NAMES.join(", "));
    }
    Ok(parsed)
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    // A caught panic of an engine is reported with its seed; the hook's own output would only hide that.
    if !arguments.echo {
        std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    }
    match arguments.scenario.as_deref() {
        Some(CONSENSUS) => Ok(strong(arguments, |seed| {
            let options = consensus::Options { echo: arguments.echo, ..Default::default() };
            consensus::run(seed, options).map_err(|failure| failure.to_string())
        })),
        Some(COORD) => Ok(strong(arguments, |seed| {
            let options = coord::Options { echo: arguments.echo, ..Default::default() };
            coord::run(seed, options).map_err(|failure| failure.to_string())
        })),
        _ => {
            let (reports, failures) = pool(arguments, |seed| {
                one(arguments, seed).map_err(|failure| {
                    println!("{failure}\n");
                    format!("seed {} ({}): {}", failure.seed, failure.scenario, failure.violation)
                })
            });
            summary(&reports, &failures);
            Ok(failures.is_empty())
        }
    }
}

/// Seeds of a simulator of the strong path; whether all kept every promise.
fn strong<R: Send + Sum>(arguments: &Arguments, run: impl Fn(u64) -> Result<R, String> + Sync) -> bool {
    let (reports, failures) = pool(arguments, run);
    for failure in &failures {
        println!("{failure}\n");
    }
    let name = arguments.scenario.as_deref().unwrap_or_default();
    println!("{name}: {} seeds kept every promise, {} did not: {}", reports.len(), failures.len(), R::sum(&reports));
    failures.is_empty()
}

/// What many runs did together.
trait Sum: Sized {
    fn sum(reports: &[Self]) -> String;
}

impl Sum for consensus::Report {
    fn sum(reports: &[Self]) -> String {
        let of = |field: fn(&Self) -> u64| reports.iter().map(field).sum::<u64>();
        format!(
            "{} proposals acknowledged, {} reads, {} leaders, {} crashes, {} rows torn, {} memberships, {} snapshots",
            of(|r| r.acknowledged),
            of(|r| r.reads),
            of(|r| r.leaders),
            of(|r| r.crashes),
            of(|r| r.torn),
            of(|r| r.changes),
            of(|r| r.installed)
        )
    }
}

impl Sum for coord::Report {
    fn sum(reports: &[Self]) -> String {
        let mut all = Self::default();
        reports.iter().for_each(|report| all.add(report));
        format!(
            "{} replies, {} reads, {} operations put in order ({} histories too long), {} grants, {} stale writes refused, \
             {} events, {} sessions expired, {} leaders, {} crashes, {} memberships",
            all.replies,
            all.reads,
            all.operations,
            all.undecided,
            all.grants,
            all.fenced,
            all.events,
            all.expired,
            all.leaders,
            all.crashes,
            all.changes
        )
    }
}

/// Runs the seeds side by side, until enough have failed.
fn pool<R: Send>(arguments: &Arguments, run: impl Fn(u64) -> Result<R, String> + Sync) -> (Vec<R>, Vec<String>) {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let outcome = Mutex::new((Vec::<R>::new(), Vec::<String>::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(arguments.seeds.max(1) as usize) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || outcome.lock().expect("no thread panics while it holds this").1.len() >= ENOUGH {
                        return;
                    }
                    let result = run(seed);
                    let mut outcome = outcome.lock().expect("no thread panics while it holds this");
                    match result {
                        Ok(report) => outcome.0.push(report),
                        Err(failure) => outcome.1.push(failure),
                    }
                }
            });
        }
    });
    outcome.into_inner().expect("no thread panics while it holds this")
}

fn one(arguments: &Arguments, seed: u64) -> Result<Report, Box<sim::Failure>> {
    let options = Options { echo: arguments.echo, tail: arguments.tail, ..Options::default() };
    let named = arguments.scenario.as_deref().and_then(|name| Scenario::named(name, seed));
    sim::run_scenario(named.unwrap_or_else(|| Scenario::of_seed(seed)), seed, options)
}

fn summary(reports: &[Report], failures: &[String]) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let slowest = reports.iter().max_by_key(|report| report.tally.converged_after);
    println!(
        "{} seeds kept every promise, {} did not: {} commits acknowledged, {} deletions, {} deaths, {} synced, {} reads and {} edits of moving clients, {} not yet, {} frames",
        reports.len(),
        failures.len(),
        sum(|r| r.tally.acknowledged),
        sum(|r| r.tally.deletions),
        sum(|r| r.tally.deaths),
        sum(|r| r.tally.synced),
        sum(|r| r.tally.session_reads),
        sum(|r| r.tally.session_writes),
        sum(|r| r.tally.not_yet),
        sum(|r| r.frames),
    );
    if let Some(slowest) = slowest {
        let seconds = slowest.tally.converged_after as f64 / 1e6;
        println!("slowest to converge: {seconds:.1} s of virtual time, seed {} ({})", slowest.seed, slowest.scenario);
    }
    for failure in failures {
        println!("{failure}");
    }
}
