//! Two halves of 32 peers are cut apart, documents diverge, the cut heals: how long until everybody has everything, against
//! what the links must carry.
//!
//! Links that were cut are back at once and all together: how soon somebody dials again is not what is measured.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{bail, ensure};
use foreshore::config::EngineConfig;
use foreshore::document::edit::EditError;
use foreshore::document::template::Template;
use foreshore::engine::{Command, DocumentInfo, MAX_LIST, Reply};
use foreshore::id::{Path as DocumentPath, Prefix, SpaceId};
use foreshore::trust::Role;

use crate::Scale;
use crate::crowd::{Crowd, Path};
use crate::report::Report;
use crate::rig::edit;

const PEERS: usize = 32;
/// Those below this number are one half.
const HALF: usize = PEERS / 2;
const DOCUMENTS: usize = 10_000;
const DELAY: Duration = Duration::from_millis(20);
/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
/// Time that a change takes to the next peer: the link's delay, and what fresh changes gather for.
const GOSSIP_ROUND: Duration = Duration::from_millis(40);
/// How often it is looked whether all is there.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let documents = scale.of(DOCUMENTS);
    let path = Path { delay: DELAY, rate: RATE, loss: 0 };
    let config = |_| EngineConfig::default();
    let (mut crowd, space) = Crowd::new(PEERS, PEERS - 1, path, |_| (Role::Writer, Prefix::root()), config)?;
    crowd.wishes = true;
    for n in 1..PEERS {
        let other = crowd.below(n);
        crowd.connect(n, other);
    }
    crowd.run_for(Duration::from_secs(180))?;
    write(&mut crowd, space, documents, 0)?;
    crowd.run_for(Duration::from_secs(60))?;
    ensure!(in_step(&mut crowd, space)?, "the crowd agrees before it is cut apart");

    let cut = crowd.part(HALF);
    ensure!(!cut.is_empty(), "somebody of one half was linked with somebody of the other");
    crowd.run_for(Duration::from_secs(5))?;
    let payload = write(&mut crowd, space, documents, 1)?;
    crowd.run_for(Duration::from_secs(30))?;
    ensure!(!in_step(&mut crowd, space)?, "the halves differ");

    let (healed, before) = (crowd.now(), crowd.carried);
    crowd.cut = None;
    cut.iter().for_each(|(a, b)| crowd.connect(*a, *b));
    while !in_step(&mut crowd, space)? {
        ensure!(crowd.now().since(healed) < PATIENCE, "not healed after {PATIENCE:?}");
        crowd.run_for(LOOK)?;
    }
    let took = crowd.now().since(healed).as_secs_f64();
    // Each peer lacks what the other half wrote.
    let carried = payload as f64 / 2.0 / RATE as f64;
    let bound = carried + 3.0 * 2.0 * DELAY.as_secs_f64() + 4.0 * GOSSIP_ROUND.as_secs_f64();
    report.at_most("time_ratio", 1.2, took / bound, "x");
    report.figure("seconds", took, "s");
    report.figure("seconds_bound", bound, "s");
    report.figure("payload_mb_per_peer", payload as f64 / 2e6, "MB");
    report.figure("links_across", cut.len() as f64, "");
    let bytes = (crowd.carried.bytes - before.bytes) as f64;
    report.figure("bytes_ratio", bytes / (payload as f64 / 2.0 * PEERS as f64), "x");
    report.note(
        "bound: what a peer lacks at 100 Mbit/s, 3 round trips of 40 ms, 4 gossip rounds of 40 ms; time is virtual",
    );
    report.note("the links that were cut are back together at the beginning; heads are byte-identical at the end");
    Ok(())
}

/// Writes documents, each on one peer: as many on each half. Returns bytes of their changes and endorsements.
fn write(crowd: &mut Crowd, space: SpaceId, documents: usize, round: i64) -> anyhow::Result<usize> {
    /// About 83 B of an endorsement that leaves its change unnamed.
    const ENDORSEMENT: usize = 83;
    let mut payload = 0;
    for n in 0..documents {
        // Two writers of a half have half of its documents each.
        let writer = (n % 2) * HALF + (n / 2 % 2);
        let path = DocumentPath::parse(&format!("/heal/{}/{n}", n % 2))?;
        let opened = crowd.ask(writer, Command::Open { space, path, template: Template::default() })?;
        let Reply::Document { cell, .. } = opened else { bail!("unexpected answer {opened:?}") };
        let change = edit(&cell, |map| -> Result<(), EditError> {
            map.put("name", format!("document {n}").as_str())?;
            map.put("round", round)
        })?;
        payload += change.bytes.len() + ENDORSEMENT;
        crowd.ask(writer, Command::Commit { space, changes: vec![change] })?;
        if n % 50 == 0 {
            crowd.run_for(Duration::from_millis(20))?;
        }
    }
    Ok(payload)
}

/// Whether every peer lists the same heads.
fn in_step(crowd: &mut Crowd, space: SpaceId) -> anyhow::Result<bool> {
    // Counts are cheap, and differ for most of the time.
    let mut arrivals = BTreeSet::new();
    for n in 0..crowd.len() {
        arrivals.insert(digest(crowd, n, space)?);
        if arrivals.len() > 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A hash over the heads of every document of a peer.
fn digest(crowd: &mut Crowd, n: usize, space: SpaceId) -> anyhow::Result<u64> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let (mut hasher, mut after) = (DefaultHasher::new(), None);
    loop {
        let list = Command::List { space, prefix: Prefix::root(), after, limit: MAX_LIST };
        let Reply::List { items, next } = crowd.ask(n, list)? else { bail!("a list") };
        for DocumentInfo { path, heads, .. } in &items {
            path.as_str().hash(&mut hasher);
            heads.iter().for_each(|head| head.0.hash(&mut hasher));
        }
        let Some(next) = next else { return Ok(hasher.finish()) };
        after = Some(next);
    }
}
