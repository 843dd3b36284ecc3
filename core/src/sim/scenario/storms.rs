//! The named scenarios: each is the common ground of [`ground`] and one kind of bad days on top.

use std::time::Duration;

use super::{NodeSpec, Scenario};
use crate::config::EngineConfig;
use crate::engine::Keep;
use crate::id::{Path, Prefix};
use crate::sim::cluster::Fault;
use crate::sim::dice::Dice;
use crate::sim::disk::DiskProfile;
use crate::sim::network::{Mischief, NodeId, Profile};
use crate::sim::node::Standing;
use crate::trust::Role;

/// The scenario of a name.
pub(super) fn named(name: &str, dice: &mut Dice) -> Option<Scenario> {
    let mut scenario = ground(name, dice);
    match name {
        "calm" => {}
        "links" => links(&mut scenario, dice),
        "partitions" => partitions(&mut scenario, dice),
        "crashes" => crashes(&mut scenario, dice),
        "disks" => disks(&mut scenario, dice),
        "interests" => interests(&mut scenario, dice),
        "roles" => roles(&mut scenario, dice),
        "late" => late(&mut scenario, dice),
        "clocks" => clocks(&mut scenario, dice),
        "mischief" => mischief(&mut scenario, dice),
        "takeover" => takeover(&mut scenario, dice),
        "backup" => backup(&mut scenario, dice),
        "movers" => movers(&mut scenario, dice),
        "everything" => everything(&mut scenario, dice),
        "presence" => presence(&mut scenario, dice),
        "sleepers" => sleepers(&mut scenario, dice),
        "lapses" => lapses(&mut scenario, dice),
        "replays" => replays(&mut scenario, dice),
        "topics" => topics(&mut scenario, dice),
        "revocations" => revocations(&mut scenario, dice),
        "liars" => liars(&mut scenario, dice),
        "crowd" => crowd(&mut scenario, dice),
        _ => return None,
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    Some(scenario)
}

/// Valid paths.
pub(super) fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| Path::parse(text).expect("a path written here is valid")).collect()
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).expect("a prefix written here is valid")
}

/// Two to five nodes, some topology, some documents, some budgets; nothing goes wrong.
fn ground(name: &str, dice: &mut Dice) -> Scenario {
    let nodes = dice.between(2, 5) as u8;
    let mut scenario = Scenario::plain(nodes, Profile::LAN);
    scenario.name = name.to_owned();
    scenario.edges = topology(nodes, dice);
    for spec in &mut scenario.nodes {
        spec.disk = *dice.pick(&[DiskProfile::SSD, DiskProfile::CARD, DiskProfile::BROWSER]).unwrap_or(&spec.disk);
        spec.timer_slop = if dice.chance(200) { Duration::from_secs(1) } else { Duration::from_millis(2) };
    }
    let pool = ["/a/top", "/a/b/mid", "/a/b/c/leaf", "/notes/one", "/notes/two", "/private/x", "/private/y", "/z/last"];
    let mut pool = paths(&pool);
    dice.shuffle(&mut pool);
    pool.truncate(dice.between(1, 6) as usize);
    scenario.paths = pool;
    scenario.prefixes = ["/a", "/notes", "/private", "/z"].map(prefix).to_vec();
    scenario.engine = budgets(dice);
    scenario.pace = dice.span(Duration::from_millis(300), Duration::from_millis(2_500));
    scenario.storm = dice.span(Duration::from_secs(12), Duration::from_secs(26));
    scenario.deletes_per_mille = if dice.chance(400) { 600 } else { 0 };
    scenario
}

/// Budgets small enough to be reached, periods short enough to be passed.
fn budgets(dice: &mut Dice) -> EngineConfig {
    EngineConfig {
        reconcile_period: dice.span(Duration::from_secs(5), Duration::from_secs(20)),
        hot_budget: dice.between(20_000, 2_000_000) as usize,
        log_budget: dice.between(20_000, 1_000_000) as usize,
        max_batch: dice.between(1, 512) as usize,
        link_window: dice.between(128 << 10, 4 << 20) as usize,
        push: dice.chance(800),
        ..EngineConfig::default()
    }
}

/// A line, a ring, a star, a mesh, or a random tree with a few edges more; each edge with a quality of its own.
fn topology(nodes: u8, dice: &mut Dice) -> Vec<([NodeId; 2], Profile)> {
    let mut pairs: Vec<(u8, u8)> = match dice.below(5) {
        0 => (1..nodes).map(|n| (n - 1, n)).collect(),
        1 => (0..nodes).map(|n| (n, (n + 1) % nodes)).collect(),
        2 => (1..nodes).map(|n| (0, n)).collect(),
        3 => (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect(),
        _ => (1..nodes).map(|n| (dice.below(n.into()) as u8, n)).collect(),
    };
    pairs.iter_mut().for_each(|pair| *pair = (pair.0.min(pair.1), pair.0.max(pair.1)));
    pairs.sort_unstable();
    pairs.dedup();
    let quality = *dice.pick(&Profile::ALL).unwrap_or(&Profile::LAN);
    let draw = |dice: &mut Dice| if dice.chance(300) { *dice.pick(&Profile::ALL).unwrap_or(&quality) } else { quality };
    pairs.into_iter().map(|(a, b)| ([NodeId(a), NodeId(b)], draw(dice))).collect()
}

fn some_node(scenario: &Scenario, dice: &mut Dice) -> NodeId {
    NodeId(dice.below(scenario.nodes.len() as u64) as u8)
}

/// A moment of the storm that leaves its last sixth free.
fn moment(scenario: &Scenario, dice: &mut Dice) -> Duration {
    dice.span(Duration::from_secs(3), scenario.storm * 5 / 6)
}

/// A time span that ends within the storm.
fn span(scenario: &Scenario, from: Duration, dice: &mut Dice) -> Duration {
    let left = scenario.storm.saturating_sub(from);
    dice.span(Duration::from_millis(100), left.max(Duration::from_millis(200)))
}

fn links(scenario: &mut Scenario, dice: &mut Dice) {
    for _ in 0..dice.between(3, 14) {
        let at = moment(scenario, dice);
        let Some(([a, b], _)) = dice.pick(&scenario.edges).copied() else { return };
        let fault = if dice.chance(600) {
            Fault::Break(a, b)
        } else {
            let (from, to) = if dice.chance(500) { (a, b) } else { (b, a) };
            Fault::Stall(from, to, span(scenario, at, dice))
        };
        scenario.faults.push((at, fault));
    }
}

fn partitions(scenario: &mut Scenario, dice: &mut Dice) {
    for _ in 0..dice.between(1, 4) {
        let at = moment(scenario, dice);
        let time = span(scenario, at, dice);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for n in 0..scenario.nodes.len() as u8 {
            // A node in neither group sees both: the partition is not transitive.
            match dice.below(5) {
                0 | 1 => left.push(NodeId(n)),
                2 | 3 => right.push(NodeId(n)),
                _ => {}
            }
        }
        scenario.faults.push((at, Fault::Partition(left, right, time)));
    }
}

fn crashes(scenario: &mut Scenario, dice: &mut Dice) {
    for _ in 0..dice.between(2, 9) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let down = dice.span(Duration::ZERO, Duration::from_secs(6));
        let fault = if dice.chance(800) { Fault::Crash(node, down) } else { Fault::Restart(node, down) };
        scenario.faults.push((at, fault));
    }
}

fn disks(scenario: &mut Scenario, dice: &mut Dice) {
    for spec in &mut scenario.nodes {
        if dice.chance(400) {
            spec.disk = DiskProfile::DYING;
        }
    }
    for _ in 0..dice.between(1, 4) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        scenario.faults.push((at, Fault::DiskFull(node, span(scenario, at, dice))));
    }
    crashes(scenario, dice);
}

fn interests(scenario: &mut Scenario, dice: &mut Dice) {
    let prefixes = scenario.prefixes.clone();
    for spec in scenario.nodes.iter_mut().skip(1) {
        if dice.chance(250) {
            continue;
        }
        spec.interests = Some(prefixes.iter().filter(|_| dice.chance(500)).cloned().collect());
    }
    // Interests that one never had cannot be told from those one may have; so whoever changes starts with some.
    scenario.changing_interests = scenario.nodes.iter().skip(1).all(|spec| spec.interests.is_some());
    scenario.paths = paths(&["/a/top", "/a/b/mid", "/notes/one", "/private/x", "/private/y", "/z/last"]);
    if dice.chance(500) {
        links(scenario, dice);
    }
}

fn roles(scenario: &mut Scenario, dice: &mut Dice) {
    let prefixes = scenario.prefixes.clone();
    for spec in scenario.nodes.iter_mut().skip(1) {
        let prefix = if dice.chance(500) { dice.pick(&prefixes).cloned() } else { None };
        let role = *dice.pick(&[Role::Reader, Role::Writer, Role::Admin]).unwrap_or(&Role::Writer);
        spec.standing = Standing::Member { role, prefix: prefix.unwrap_or_else(Prefix::root) };
    }
    let stranger = NodeId(scenario.nodes.len() as u8);
    for n in 0..stranger.0 {
        scenario.edges.push(([NodeId(n), stranger], Profile::LAN));
    }
    scenario.nodes.push(NodeSpec { standing: Standing::Stranger, ..NodeSpec::writer() });
    scenario.paths = paths(&["/a/top", "/a/b/mid", "/notes/one", "/private/x", "/z/last"]);
    if dice.chance(300) {
        crashes(scenario, dice);
    }
}

fn late(scenario: &mut Scenario, dice: &mut Dice) {
    let storm = scenario.storm;
    for spec in scenario.nodes.iter_mut().skip(1) {
        spec.starts_at = dice.span(Duration::ZERO, storm);
    }
    for _ in 0..dice.between(0, 3) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        scenario.faults.push((at, Fault::Freeze(node, span(scenario, at, dice))));
    }
}

fn clocks(scenario: &mut Scenario, dice: &mut Dice) {
    for _ in 0..dice.between(1, 6) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let day = 86_400_000;
        let millis = dice.below(2 * day) as i64 - day as i64;
        scenario.faults.push((at, Fault::WallJump(node, millis)));
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        scenario.faults.push((at, Fault::Freeze(node, span(scenario, at, dice))));
    }
    crashes(scenario, dice);
}

fn mischief(scenario: &mut Scenario, dice: &mut Dice) {
    let mut draw = |most: u64| dice.below(most) as u32;
    let mischief =
        Mischief { duplicate: draw(60), reorder: draw(60), replay: draw(60), corrupt: draw(60), drop: draw(30) };
    let at = dice.span(Duration::ZERO, scenario.storm / 3);
    scenario.faults.push((at, Fault::Mischief(mischief)));
    links(scenario, dice);
}

fn takeover(scenario: &mut Scenario, dice: &mut Dice) {
    for _ in 0..dice.between(1, 3) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let time = dice.span(Duration::from_secs(2), Duration::from_secs(5));
        scenario.faults.push((at, Fault::Takeover(node, time)));
    }
}

fn backup(scenario: &mut Scenario, dice: &mut Dice) {
    let node = some_node(scenario, dice);
    let at = dice.span(Duration::from_secs(4), scenario.storm / 2);
    scenario.faults.push((at, Fault::Backup(node)));
    let later = dice.span(at, scenario.storm * 5 / 6);
    scenario.faults.push((later, Fault::Restore(node, Duration::from_secs(1))));
    if dice.chance(500) {
        links(scenario, dice);
    }
}

/// Clients with bookmarks, and one kind of bad days under them.
fn movers(scenario: &mut Scenario, dice: &mut Dice) {
    type Storm = fn(&mut Scenario, &mut Dice);
    let storms: [Storm; 7] = [links, partitions, crashes, clocks, takeover, backup, late];
    scenario.movers = dice.between(1, 4) as usize;
    scenario.pace = dice.span(Duration::from_millis(200), Duration::from_millis(800));
    scenario.storm = dice.span(Duration::from_secs(15), Duration::from_secs(30));
    if let Some(storm) = dice.pick(&storms) {
        storm(scenario, dice);
    }
}

fn everything(scenario: &mut Scenario, dice: &mut Dice) {
    type Storm = fn(&mut Scenario, &mut Dice);
    let storms: [Storm; 7] = [links, partitions, crashes, disks, late, clocks, takeover];
    for storm in storms {
        if dice.chance(400) {
            storm(scenario, dice);
        }
    }
    // Every fault at once tests the first one only.
    dice.shuffle(&mut scenario.faults);
    scenario.faults.truncate(12);
}

/// Soft state beside documents, long enough for leases to lapse; wall clocks within the skew that leases allow.
fn soften(scenario: &mut Scenario, dice: &mut Dice) {
    scenario.soft_per_mille = dice.between(400, 900) as u32;
    scenario.wall_error = Duration::from_secs(240);
    scenario.storm = dice.span(Duration::from_secs(60), Duration::from_secs(150));
    scenario.pace = dice.span(Duration::from_millis(500), Duration::from_secs(4));
    let ttl = dice.span(Duration::from_secs(4), Duration::from_secs(16));
    scenario.engine.soft_ttl = ttl;
    scenario.engine.soft_period = ttl / dice.between(2, 4) as u32;
}

/// Owners crash, restart and are put back to older states; interests and roles decide who sees what.
fn presence(scenario: &mut Scenario, dice: &mut Dice) {
    soften(scenario, dice);
    match dice.below(4) {
        0 => interests(scenario, dice),
        1 => roles(scenario, dice),
        2 => backup(scenario, dice),
        _ => {}
    }
    crashes(scenario, dice);
}

/// Machines sleep and processes are stopped, owners and receivers alike, and wall clocks jump a little.
fn sleepers(scenario: &mut Scenario, dice: &mut Dice) {
    soften(scenario, dice);
    for _ in 0..dice.between(2, 6) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let time = dice.span(Duration::from_secs(1), Duration::from_secs(70));
        let fault = if dice.chance(500) { Fault::Sleep(node, time) } else { Fault::Freeze(node, time) };
        scenario.faults.push((at, fault));
    }
    if dice.chance(300) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let millis = dice.below(120_000) as i64 - 60_000;
        scenario.faults.push((at, Fault::WallJump(node, millis)));
    }
    if dice.chance(400) {
        crashes(scenario, dice);
    }
}

/// Partitions and stalls outlast leases; what lapsed comes back, and what died does not.
fn lapses(scenario: &mut Scenario, dice: &mut Dice) {
    soften(scenario, dice);
    partitions(scenario, dice);
    links(scenario, dice);
    if dice.chance(500) {
        crashes(scenario, dice);
    }
}

/// Old frames, from this wire or an earlier one, come again while owners die.
fn replays(scenario: &mut Scenario, dice: &mut Dice) {
    soften(scenario, dice);
    let mut draw = |most: u64| dice.below(most) as u32;
    let mischief = Mischief { replay: 20 + draw(150), duplicate: draw(100), drop: draw(30), ..Mischief::NONE };
    scenario.faults.push((Duration::from_secs(10), Fault::Mischief(mischief)));
    crashes(scenario, dice);
}

/// Signals beside documents and now and then soft state, and one or two kinds of bad days; wall clocks within the age that
/// signals may have.
fn topics(scenario: &mut Scenario, dice: &mut Dice) {
    type Storm = fn(&mut Scenario, &mut Dice);
    let storms: [Storm; 10] =
        [links, partitions, crashes, late, interests, roles, takeover, backup, set_back, replayed];
    scenario.topics_per_mille = dice.between(500, 900) as u32;
    scenario.soft_per_mille = if dice.chance(200) { 300 } else { 0 };
    scenario.wall_error = Duration::from_secs(120);
    scenario.pace = dice.span(Duration::from_millis(30), Duration::from_millis(600));
    for _ in 0..dice.between(1, 2) {
        if let Some(storm) = dice.pick(&storms) {
            storm(scenario, dice);
        }
    }
}

/// Writers are revoked, with what they wrote or without it, while others build on that; the root is handed on; stores are put
/// back to older states, which must look like lies to nobody.
fn revocations(scenario: &mut Scenario, dice: &mut Dice) {
    type Storm = fn(&mut Scenario, &mut Dice);
    let storms: [Storm; 6] = [links, partitions, crashes, late, backup, clocks];
    standing_ground(scenario, dice);
    for _ in 0..dice.between(0, 2) {
        if let Some(storm) = dice.pick(&storms) {
            storm(scenario, dice);
        }
    }
    let last = scenario.nodes.len() as u64 - 1;
    for _ in 0..dice.between(1, 2) {
        let (at, node) = (moment(scenario, dice), NodeId(dice.between(1, last) as u8));
        let keep = if dice.chance(700) { Keep::Known } else { Keep::Nothing };
        scenario.faults.push((at, Fault::Revoke(node, keep)));
    }
    for _ in 0..dice.between(0, 2) {
        scenario.faults.push((moment(scenario, dice), Fault::Rotate));
    }
}

/// A device signs twice what it has signed, as only a forged store does, and is proved to have.
fn liars(scenario: &mut Scenario, dice: &mut Dice) {
    type Storm = fn(&mut Scenario, &mut Dice);
    let storms: [Storm; 4] = [links, partitions, crashes, clocks];
    standing_ground(scenario, dice);
    if let Some(storm) = dice.pick(&storms).filter(|_| dice.chance(600)) {
        storm(scenario, dice);
    }
    let node = NodeId(dice.between(1, scenario.nodes.len() as u64 - 1) as u8);
    let at = dice.span(Duration::from_secs(4), scenario.storm / 2);
    scenario.faults.push((at, Fault::Fork(node, Duration::from_millis(300))));
    let later = dice.span(at + Duration::from_secs(2), scenario.storm * 5 / 6);
    scenario.faults.push((later, Fault::Refork(node, Duration::from_millis(300))));
    if dice.chance(300) {
        scenario.faults.push((moment(scenario, dice), Fault::Revoke(node, Keep::Known)));
    }
}

/// Three to five writers that write often, and nothing else that could explain why an edit is not there.
fn standing_ground(scenario: &mut Scenario, dice: &mut Dice) {
    let nodes = dice.between(3, 5) as u8;
    let spec = |n: u8| if n == 0 { NodeSpec::founder() } else { NodeSpec::writer() };
    scenario.nodes = (0..nodes).map(spec).collect();
    scenario.edges = topology(nodes, dice);
    scenario.deletes_per_mille = 0;
    scenario.paths.truncate(3);
    scenario.pace = dice.span(Duration::from_millis(200), Duration::from_millis(900));
    scenario.storm = dice.span(Duration::from_secs(15), Duration::from_secs(30));
}

/// Dozens of nodes that choose whom to link with, each of which stays linked with one that it was given; some come late, close, die
/// or are cut off, alone or half of them at once.
fn crowd(scenario: &mut Scenario, dice: &mut Dice) {
    let nodes = if dice.chance(250) { dice.between(60, 100) } else { dice.between(16, 40) } as u8;
    let spec = |n: u8| if n == 0 { NodeSpec::founder() } else { NodeSpec::writer() };
    scenario.nodes = (0..nodes).map(spec).collect();
    scenario.wished = true;
    scenario.edges.clear();
    for n in 1..nodes {
        scenario.edges.push(([NodeId(dice.below(n.into()) as u8), NodeId(n)], Profile::LAN));
    }
    scenario.storm = dice.span(Duration::from_secs(60), Duration::from_secs(120));
    // As many edits in all as elsewhere, so that a run takes its time for links.
    scenario.pace = Duration::from_millis(700) * u32::from(nodes);
    scenario.soft_per_mille = if dice.chance(300) { 200 } else { 0 };
    // What everybody publishes at once in the end has to fit a link's queue.
    scenario.topics_per_mille = if nodes <= 40 && dice.chance(300) { 200 } else { 0 };
    scenario.paths.truncate(if scenario.topics_per_mille > 0 { 2 } else { 6 });
    scenario.wall_error = Duration::from_secs(60);
    scenario.patience = Duration::from_secs(300);
    for spec in scenario.nodes.iter_mut().skip(1) {
        spec.starts_at = if dice.chance(300) { dice.span(Duration::ZERO, scenario.storm / 2) } else { Duration::ZERO };
    }
    for _ in 0..dice.between(1, u64::from(nodes) / 4) {
        let (at, node) = (moment(scenario, dice), some_node(scenario, dice));
        let down = span(scenario, at, dice);
        let fault = if dice.chance(500) { Fault::Crash(node, down) } else { Fault::Restart(node, down) };
        scenario.faults.push((at, fault));
    }
    for _ in 0..dice.between(0, 2) {
        let at = moment(scenario, dice);
        let most = if dice.chance(500) { nodes / 2 } else { nodes / 8 };
        let (mut all, time): (Vec<NodeId>, _) = ((0..nodes).map(NodeId).collect(), span(scenario, at, dice));
        dice.shuffle(&mut all);
        let rest = all.split_off(usize::from(most.max(1)));
        scenario.faults.push((at, Fault::Partition(all, rest, time)));
    }
}

/// Clocks are set back, and processes begin new lives after it.
fn set_back(scenario: &mut Scenario, dice: &mut Dice) {
    let node = some_node(scenario, dice);
    for _ in 0..dice.between(1, 3) {
        let at = moment(scenario, dice);
        scenario.faults.push((at, Fault::WallJump(node, -(dice.below(60_000) as i64))));
        scenario.faults.push((at + Duration::from_millis(50), Fault::Crash(node, Duration::from_millis(100))));
    }
}

/// Old frames, from this wire or an earlier one, come again.
fn replayed(scenario: &mut Scenario, dice: &mut Dice) {
    let mut draw = |most: u64| dice.below(most) as u32;
    let mischief = Mischief { replay: 20 + draw(150), duplicate: draw(100), drop: draw(30), ..Mischief::NONE };
    scenario.faults.push((Duration::from_secs(5), Fault::Mischief(mischief)));
    crashes(scenario, dice);
}
