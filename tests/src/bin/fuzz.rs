//! Runs fuzz targets: `fuzz [--minutes N | --executions N] [--target X] [--seed S] [--input FILE] [--write-corpus]`.
//!
//! Inputs are altered from the committed ones and from those that led somewhere new. Targets take turns of a second; the
//! heap that each input takes is measured. What breaks is written beside the committed inputs, and the exit code is 1.
#![allow(clippy::disallowed_methods, reason = "a program for people reads the clock")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foreshore::fuzz::{Campaign, Finding, Meter, Target};
use foreshore_tests::fuzz::{corpus, keep, target, targets, write_corpus};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Counts the heap, which nothing else uses while a target runs.
const METER: Meter =
    Meter { begin: || HEAP.reset_peak_usage(), now: || HEAP.current_usage(), peak: || HEAP.peak_usage() };

/// How long a target is run before the next one gets its turn; the engine gets more.
const TURN: Duration = Duration::from_secs(1);

/// An input that takes longer than this is a finding: nothing honest of its size does.
const SLOW: Duration = Duration::from_secs(10);

/// Findings after which a target is not run any more.
const ENOUGH: usize = 5;

/// Where the last panic was.
static PLACE: Mutex<String> = Mutex::new(String::new());

struct Arguments {
    minutes: f64,
    /// Inputs of each target instead, however long they take.
    executions: Option<u64>,
    target: Option<Target>,
    seed: u64,
    input: Option<PathBuf>,
    write: bool,
}

/// A target and what became of it so far.
struct Run {
    target: Target,
    campaign: Campaign,
    findings: Vec<String>,
    slowest: Duration,
    spent: Duration,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut parsed = Arguments { minutes: 1.0, executions: None, target: None, seed: 1, input: None, write: false };
    let mut rest = std::env::args().skip(1);
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{flag} wants a value"));
        match flag.as_str() {
            "--minutes" => parsed.minutes = value()?.parse().context("--minutes wants a number")?,
            "--executions" => parsed.executions = Some(value()?.parse().context("--executions wants a number")?),
            "--seed" => parsed.seed = value()?.parse().context("--seed wants a number")?,
            "--input" => parsed.input = Some(value()?.into()),
            "--write-corpus" => parsed.write = true,
            "--target" => {
                let name = value()?;
                let names = || targets().iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
                parsed.target =
                    Some(target(&name).with_context(|| format!("there is no target {name:?}; there are {}", names()))?);
            }
            other => bail!("unknown option {other:?}"),
        }
    }
    Ok(parsed)
}

fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    // A panic that a target contains is no finding: only where the last one was is remembered.
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut place) = PLACE.lock() {
            *place = info.location().map(ToString::to_string).unwrap_or_default();
        }
    }));
    let chosen = arguments.target.map_or_else(targets, |target| vec![target]);
    if arguments.write {
        for target in &chosen {
            println!("{:>12}  {} inputs", target.name, write_corpus(target)?);
        }
        return Ok(0);
    }
    if let Some(file) = &arguments.input {
        let target = arguments.target.context("--input wants a --target")?;
        let input = std::fs::read(file).with_context(|| file.display().to_string())?;
        let outcome = Campaign::new(target, 0, []).metered(METER).handle(&input);
        let shown = outcome.as_ref().map_err(|finding| format!("{} at {}", finding.why, place()));
        println!("{shown:?}");
        return Ok(outcome.is_err().into());
    }
    let mut runs: Vec<Run> = chosen.into_iter().map(|target| Run::new(target, arguments.seed)).collect();
    let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    if let Some(times) = arguments.executions {
        runs.iter_mut().for_each(|run| run.times(times));
        return Ok(report(&runs));
    }
    runs.iter_mut().for_each(Run::replay);
    while Instant::now() < until && runs.iter().any(Run::goes_on) {
        for run in runs.iter_mut().filter(|run| run.goes_on()) {
            run.turn(until);
        }
    }
    Ok(report(&runs))
}

fn place() -> String {
    PLACE.lock().map(|place| place.clone()).unwrap_or_default()
}

impl Run {
    fn new(target: Target, seed: u64) -> Self {
        let inputs = corpus(target.name).unwrap_or_default();
        // The seeds are there already.
        let inputs = inputs.into_iter().filter(|(name, _)| !name.starts_with("seed-")).map(|(_, input)| input);
        let campaign = Campaign::new(target, seed, inputs).metered(METER);
        Self { target, campaign, findings: Vec::new(), slowest: Duration::ZERO, spent: Duration::ZERO }
    }

    fn goes_on(&self) -> bool {
        self.findings.len() < ENOUGH
    }

    fn replay(&mut self) {
        if let Err(finding) = self.campaign.replay() {
            self.found(&finding);
        }
    }

    /// A number of inputs, however slow they are: under a tool that checks every access.
    fn times(&mut self, times: u64) {
        for _ in 0..times {
            if let Err(finding) = self.campaign.step() {
                self.found(&finding);
            }
        }
    }

    fn turn(&mut self, until: Instant) {
        let began = Instant::now();
        let turn = if self.target.name == "engine" { 4 * TURN } else { TURN };
        let end = (began + turn).min(until);
        let mut now = began;
        while now < end && self.goes_on() {
            if let Err(finding) = self.campaign.step() {
                self.found(&finding);
            }
            let then = std::mem::replace(&mut now, Instant::now());
            self.slowest = self.slowest.max(now - then);
            if now - then > SLOW {
                self.findings.push(format!("an input took {:?}", now - then));
            }
        }
        self.spent += began.elapsed();
    }

    fn found(&mut self, finding: &Finding) {
        let why = format!("{} ({})", finding.why, place());
        if self.findings.contains(&why) {
            return;
        }
        let kept = keep(finding).map_or_else(|error| error.to_string(), |file| file.display().to_string());
        println!("{}: {why}\n    {kept}", self.target.name);
        self.findings.push(why);
    }
}

fn report(runs: &[Run]) -> usize {
    println!(
        "{:>12}  {:>12} {:>12} {:>7} {:>9} {:>10} {:>8}",
        "target", "executions", "accepted", "kinds", "slowest", "heap", "findings"
    );
    for run in runs {
        println!(
            "{:>12}  {:>12} {:>12} {:>7} {:>6} ms {:>6} KiB {:>8}",
            run.target.name,
            run.campaign.executions(),
            run.campaign.accepted(),
            run.campaign.kinds(),
            run.slowest.as_millis(),
            run.campaign.most_heap() >> 10,
            run.findings.len()
        );
    }
    let total: u64 = runs.iter().map(|run| run.campaign.executions()).sum();
    let findings = runs.iter().map(|run| run.findings.len()).sum();
    println!("{total} executions, {findings} findings");
    findings
}
