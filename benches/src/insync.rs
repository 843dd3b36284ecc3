//! `insync`: two replicas that are equal find that out.

use crate::Scale;
use crate::measure::cpu;
use crate::replicas::replicas;
use crate::report::Report;
use foreshore::engine::Command;

const DOCUMENTS: usize = 1_000_000;
const SMALL: usize = 10_000;

/// Checks whose CPU time is averaged.
const CHECKS: usize = 1_000;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let small = check(scale.of(SMALL))?;
    let large = check(scale.of(DOCUMENTS))?;
    report.at_most("bytes", 64.0, large.bytes, "B");
    report.at_most("cpu_us", 10.0, large.cpu_us, "µs");
    report.at_most("cpu_us_growth", 1.2, large.cpu_us / small.cpu_us, "x");
    report.figure("cpu_us_small", small.cpu_us, "µs");
    report.note("CPU of both sides together, one check; bytes of both directions");
    Ok(())
}

struct Check {
    bytes: f64,
    cpu_us: f64,
}

fn check(documents: usize) -> anyhow::Result<Check> {
    let directory = tempfile::tempdir()?;
    let (mut pair, _) = replicas(directory.path(), documents)?;
    let mut bytes = 0;
    let (done, spent) = cpu(|| -> anyhow::Result<()> {
        for _ in 0..CHECKS {
            pair.nodes[0].ask(Command::Reconcile)?;
            bytes += pair.exchange()?.bytes;
        }
        Ok(())
    });
    done?;
    Ok(Check { bytes: bytes as f64 / CHECKS as f64, cpu_us: spent.as_secs_f64() * 1e6 / CHECKS as f64 })
}
