//! One write in a cluster of n peers, over links on which everything takes one round: how many rounds until everybody shows
//! it, and how often it is carried.

use std::time::Duration;

use anyhow::{Context, ensure};
use foreshore::config::EngineConfig;
use foreshore::document::template::Template;
use foreshore::engine::{Command, Reply};
use foreshore::id::{Path as DocumentPath, Prefix, SpaceId};
use foreshore::trust::Role;

use crate::Scale;
use crate::crowd::{Crowd, Path};
use crate::report::Report;
use crate::rig::edit;

/// What a message takes to the next peer.
const ROUND: Duration = Duration::from_millis(50);
/// Peers, and in how many rounds 99 of 100 of them are to have a write.
const SIZES: [(usize, f64); 4] = [(8, 3.0), (32, 4.0), (128, 5.0), (1_024, 6.0)];
/// Devices that the peers of a cluster belong to, the author's aside.
const DEVICES: usize = 64;
/// Messages of a thousand that are lost in the second half.
const LOSS: u32 = 200;
/// What those may take longer.
const MORE_WITH_LOSS: f64 = 2.0;
/// How long a cluster has to find its neighbours.
const SETTLE: Duration = Duration::from_secs(240);
/// Writes that shape the tree, and writes that are measured.
const WARM: usize = 12;
const WRITES: usize = 30;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    for (full, goal) in SIZES {
        let peers = if full > 32 { scale.of(full).max(33) } else { full };
        let began = std::time::Instant::now();
        let (mut crowd, space) = settled(peers)?;
        let degrees = neighbours(&mut crowd)?;
        let calm = measure(&mut crowd, space)?;
        crowd.path.loss = LOSS;
        let lossy = measure(&mut crowd, space)?;
        crowd.path.loss = 0;
        report.at_most(&format!("rounds_p99_n{full}"), goal, calm.rounds_p99, "rounds");
        report.at_most(&format!("rounds_p99_lossy_n{full}"), goal + MORE_WITH_LOSS, lossy.rounds_p99, "rounds");
        report.at_most(&format!("copies_per_receiver_n{full}"), 2.0, calm.copies, "x");
        report.figure(&format!("copies_per_receiver_lossy_n{full}"), lossy.copies, "x");
        report.figure(&format!("bytes_per_receiver_n{full}"), calm.bytes, "B");
        report.figure(&format!("neighbours_mean_n{full}"), degrees.0, "");
        report.figure(&format!("neighbours_most_n{full}"), degrees.1, "");
        report.figure(&format!("seconds_n{full}"), began.elapsed().as_secs_f64(), "s");
    }
    report.note("a message takes one round of 50 ms to the next peer; a lost one is sent again a round later; storage takes no time");
    report.note("the author is one device; the other peers belong to at most 64, of which each runs several");
    Ok(())
}

/// A cluster whose peers were given one address each and have found their neighbours.
fn settled(peers: usize) -> anyhow::Result<(Crowd, SpaceId)> {
    let path = Path { delay: ROUND, rate: 0, loss: 0 };
    let config = |_| EngineConfig { reconcile_period: Duration::from_secs(60), ..EngineConfig::default() };
    let (mut crowd, space) = Crowd::new(peers, DEVICES, path, |_| (Role::Writer, Prefix::root()), config)?;
    crowd.wishes = true;
    for n in 1..peers {
        let other = crowd.below(n);
        crowd.connect(n, other);
        if n % 16 == 0 {
            crowd.run_for(Duration::from_millis(500))?;
        }
    }
    crowd.run_for(SETTLE)?;
    Ok((crowd, space))
}

/// Mean and most of the neighbours that peers have.
fn neighbours(crowd: &mut Crowd) -> anyhow::Result<(f64, f64)> {
    let (mut sum, mut most) = (0, 0);
    for n in 0..crowd.len() {
        let near = crowd.status(n)?.links.iter().filter(|link| link.neighbour).count();
        (sum, most) = (sum + near, most.max(near));
    }
    Ok((sum as f64 / crowd.len() as f64, most as f64))
}

struct Spread {
    rounds_p99: f64,
    copies: f64,
    bytes: f64,
}

/// Writes on one peer and sees when everybody shows it.
fn measure(crowd: &mut Crowd, space: SpaceId) -> anyhow::Result<Spread> {
    let path = DocumentPath::parse("/spread/one")?;
    let Reply::Document { cell, .. } = crowd.ask(0, Command::Open { space, path, template: Template::default() })?
    else {
        anyhow::bail!("the document opens")
    };
    let receivers = crowd.len() - 1;
    let (mut rounds, mut copies, mut bytes) = (Vec::new(), 0, 0);
    for write in 0..WARM + WRITES {
        // Off the beat of everything that is periodic.
        let pause = crowd.below(1_000) as u64;
        crowd.run_for(Duration::from_millis(2_000 + pause))?;
        crowd.watch();
        let (before, began) = (crowd.carried, crowd.now());
        let value = i64::try_from(write)?;
        let change = edit(&cell, |map| map.put("written", value))?;
        crowd.ask(0, Command::Commit { space, changes: vec![change] })?;
        let patience = began + Duration::from_secs(30);
        crowd.run_until(patience, |crowd| crowd.seen.len() >= receivers)?;
        ensure!(crowd.seen.len() >= receivers, "{} of {receivers} peers show a write after 30 s", crowd.seen.len());
        let times: Vec<f64> =
            crowd.seen.iter().map(|seen| seen.at.since(began).as_secs_f64() / ROUND.as_secs_f64()).collect();
        // What comes late is a copy too.
        crowd.run_for(Duration::from_secs(2))?;
        if write >= WARM {
            rounds.extend(times);
            copies += crowd.carried.copies - before.copies;
            bytes += crowd.carried.bytes - before.bytes;
        }
    }
    rounds.sort_by(f64::total_cmp);
    let p99 = rounds.get(rounds.len() * 99 / 100).context("somebody received something")?;
    let all = (receivers * WRITES) as f64;
    // A round is over when what was sent in it is there.
    Ok(Spread { rounds_p99: (p99 - 1e-6).ceil(), copies: copies as f64 / all, bytes: bytes as f64 / all })
}
