//! A day of presence: owners that renew every 5 s, each over one link with one of eight receivers, which are linked with
//! each other: what a renewal costs, and whether anything grows.
//!
//! An owner replicates what it says itself and nothing else, as a device does that reports and does not listen.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use foreshore::config::EngineConfig;
use foreshore::engine::{Command, Reply};
use foreshore::id::{Path as DocumentPath, Prefix, SpaceId};
use foreshore::trust::Role;

use crate::Scale;
use crate::crowd::{Crowd, Path};
use crate::measure::resident;
use crate::report::Report;

const OWNERS: usize = 1_000;
const RECEIVERS: usize = 8;
const HOURS: usize = 24;
const PERIOD: Duration = Duration::from_secs(5);
/// Devices that owners belong to.
const DEVICES: usize = 64;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let (owners, hours) = (scale.of(OWNERS), scale.of(HOURS).max(3));
    let start = Instant::now();
    let (mut crowd, space) = presence(owners)?;
    eprintln!("soft_day: {owners} owners are linked after {:.0?}", start.elapsed());
    crowd.run_for(Duration::from_secs(1_800))?;
    let (mut first, mut most) = (0.0, 0.0_f64);
    let before = crowd.carried;
    for hour in 1..=hours {
        crowd.run_for(Duration::from_secs(if hour == 1 { 1_800 } else { 3_600 }))?;
        let rss = resident() as f64;
        if hour == 1 {
            first = rss;
        }
        most = most.max(rss);
        eprintln!("soft_day: hour {hour} of {hours}: {:.1} MB after {:.0?}", rss / 1e6, start.elapsed());
    }
    for n in 0..RECEIVERS {
        let shown = entries(&mut crowd, n, space)?;
        ensure!(shown == owners, "receiver {n} shows {shown} of {owners} owners");
    }
    let seconds = 1_800.0 + 3_600.0 * (hours - 1) as f64;
    let renewals = seconds / PERIOD.as_secs_f64() * owners as f64;
    let carried = crowd.carried;
    report.at_most("rss_growth", 1.05, most / first, "x");
    let bytes = (carried.bytes - before.bytes) as f64;
    report.at_most("bytes_per_renewal_per_receiver", 48.0, bytes / renewals / RECEIVERS as f64, "B");
    report.figure("frames_per_renewal", (carried.frames - before.frames) as f64 / renewals, "");
    report.figure("rss_mb", most / 1e6, "MB");
    report.figure("hours", hours as f64, "h");
    report.note("every byte counts: renewals, leases, acknowledgements, and the roots that links compare every 15 s");
    report.note("each owner is linked with one receiver, the receivers with each other");
    Ok(())
}

/// Owners and receivers with everything set and linked.
fn presence(owners: usize) -> anyhow::Result<(Crowd, SpaceId)> {
    let path = Path { delay: Duration::from_millis(20), rate: 0, loss: 0 };
    let config = |_| EngineConfig {
        soft_period: PERIOD,
        // Who is linked with whom is given.
        overlay: false,
        ..EngineConfig::default()
    };
    let peers = RECEIVERS + owners;
    let (mut crowd, space) = Crowd::new(peers, RECEIVERS + DEVICES, path, |_| (Role::Writer, Prefix::root()), config)?;
    for a in 1..RECEIVERS {
        (0..a).for_each(|b| crowd.connect(a, b));
    }
    for n in RECEIVERS..peers {
        let own = DocumentPath::parse(&format!("/presence/{n}"))?;
        crowd.ask(n, Command::Interest { space, prefixes: vec![Prefix::parse(own.as_str())?] })?;
        crowd.ask(n, Command::SoftSet { space, path: own, value: b"here".to_vec() })?;
        crowd.connect(n, n % RECEIVERS);
        // Owners start when they start.
        crowd.run_for(PERIOD / 200)?;
    }
    Ok((crowd, space))
}

fn entries(crowd: &mut Crowd, n: usize, space: SpaceId) -> anyhow::Result<usize> {
    let (mut count, mut after) = (0, None);
    loop {
        let list = Command::SoftList { space, prefix: Prefix::root(), after, limit: 1_000 };
        let Reply::SoftList { items, next } = crowd.ask(n, list)? else { bail!("a list of soft state") };
        count += items.len();
        let Some(next) = next else { return Ok(count) };
        after = Some(next);
    }
}
