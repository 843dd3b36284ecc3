//! `lock`: three servers on loopback, fsync on, beside Debian's etcd and ZooKeeper in the same run: locks that nobody else
//! wants, one lock that everybody wants, writes and linearizable reads of 100 bytes, and the leader killed under load.
//!
//! One harness drives all three: as many clients as there are, each with one request under way. Systems take turns, so that
//! whatever else the machine does meets all of them alike. Each server is a process with its files in one directory on one
//! disk, and answers a write when a majority has synced it, as is the default of all three.
//!
//! **What is compared.** etcd's lock is that of its `v3lock` service under one lease a client; ZooKeeper's the recipe of its
//! documentation: an ephemeral sequential node, a look at the others, a watch on the one before. A read of ZooKeeper is `sync`
//! and the read, since without `sync` it is not linearizable. Ours are `Lock`, `Tree::set` and `Tree::linear().get`, all
//! sessions through one peer beside the servers, end to end over its links.
//!
//! `zookeeper_door_vs_zookeeper` is another comparison: ZooKeeper's client and its recipe, once through the doors of our three
//! voters, once against its three servers.

mod etcd;
mod load;
pub(crate) mod ours;
mod servers;
mod zookeeper;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::Scale;
use crate::report::Report;

use self::load::{Act, Rates};

/// Clients at once, and what the throughput against each other system is to be; 0: no goal.
const CLIENTS: [(usize, f64); 3] = [(1, 1.0), (16, 0.0), (64, 2.0)];
/// How long each is driven.
const SPAN: Duration = Duration::from_secs(3);
/// Before it counts.
const WARM: Duration = Duration::from_millis(500);
/// Clients that write while leaders die, and how many do.
const WRITERS: usize = 16;
const KILLS: usize = 5;
/// Milliseconds from a leader's death until a client writes again.
const FAILOVER_MS: f64 = 1_500.0;

const ACTS: [(&str, Act); 4] =
    [("lock", Act::OwnLock), ("contended", Act::OneLock), ("write", Act::Write), ("read", Act::Read)];

/// What ZooKeeper's clients do through our doors, and what the throughput against its own servers is to be at the most clients.
const DOOR_ACTS: [(&str, Act, f64); 3] =
    [("write", Act::Write, 1.5), ("read", Act::Read, 1.0), ("lock", Act::OwnLock, 1.5)];

/// One client of one of the systems.
pub(crate) enum Client {
    Ours(ours::Client),
    Etcd(etcd::Client),
    ZooKeeper(zookeeper::Client),
}

impl Client {
    /// Takes a lock and gives it back.
    async fn cycle(&mut self, lock: &str) -> anyhow::Result<()> {
        match self {
            Self::Ours(client) => client.cycle(lock).await,
            Self::Etcd(client) => client.cycle(lock).await,
            Self::ZooKeeper(client) => client.cycle(lock).await,
        }
    }

    async fn write(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Ours(client) => client.write(key, value).await,
            Self::Etcd(client) => client.write(key, value).await,
            Self::ZooKeeper(client) => client.write(key, value).await,
        }
    }

    /// Reads what was acknowledged to anyone before.
    async fn read(&mut self, key: &str) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Ours(client) => client.read(key).await,
            Self::Etcd(client) => client.read(key).await,
            Self::ZooKeeper(client) => client.read(key).await,
        }
    }
}

/// Three servers of one system.
enum Cluster {
    Ours(ours::Cluster),
    Etcd(etcd::Cluster),
    ZooKeeper(zookeeper::Cluster),
}

impl Cluster {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Etcd(_) => "etcd",
            Self::ZooKeeper(_) => "zookeeper",
        }
    }

    /// A further client that can do what is asked of it: its lock and its key are there.
    async fn client(&mut self, n: usize) -> anyhow::Result<Client> {
        Ok(match self {
            Self::Ours(cluster) => Client::Ours(cluster.client(n).await?),
            Self::Etcd(cluster) => Client::Etcd(cluster.client().await?),
            Self::ZooKeeper(cluster) => Client::ZooKeeper(cluster.client(n).await?),
        })
    }

    /// Which of the servers leads.
    async fn leader(&mut self) -> anyhow::Result<usize> {
        match self {
            Self::Ours(cluster) => cluster.leader().await,
            Self::Etcd(cluster) => cluster.leader().await,
            Self::ZooKeeper(cluster) => cluster.leader().await,
        }
    }

    /// Kills a server as `kill -9` does.
    async fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        match self {
            Self::Ours(cluster) => cluster.kill(server).await,
            Self::Etcd(cluster) => cluster.servers.kill(server).await,
            Self::ZooKeeper(cluster) => cluster.servers.kill(server).await,
        }
    }

    /// Starts a killed server again and waits until it answers.
    async fn restart(&mut self, server: usize) -> anyhow::Result<()> {
        match self {
            Self::Ours(cluster) => cluster.restart(server).await,
            Self::Etcd(cluster) => cluster.restart(server).await,
            Self::ZooKeeper(cluster) => cluster.restart(server).await,
        }
    }
}

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let directory = tempfile::tempdir()?;
        let mut clusters = start(directory.path(), report).await?;
        for (clients, goal) in CLIENTS {
            measure(scale, report, &mut clusters, clients, goal).await?;
        }
        measure_doors(scale, report, &mut clusters).await?;
        for cluster in &mut clusters {
            failover(scale, report, cluster).await.with_context(|| format!("leaders of {} killed", cluster.name()))?;
        }
        anyhow::Ok(())
    })?;
    report.note(
        "three servers each on loopback and one disk, fsync on: each answers a write when a majority has synced it",
    );
    report.note(
        "read: linearizable; ZooKeeper's with `sync` before it. lock: acquire and release of a lock nobody else wants",
    );
    report.note(
        "failover: from kill -9 of the leader until each of 16 clients has a write acknowledged that it began after",
    );
    Ok(())
}

/// The part about doors alone.
pub(crate) fn run_doors(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let directory = tempfile::tempdir()?;
        let mut clusters = start(directory.path(), report).await?;
        measure_doors(scale, report, &mut clusters).await
    })
}

/// What can be had of the three; what cannot is reported as missing.
async fn start(directory: &Path, report: &mut Report) -> anyhow::Result<Vec<Cluster>> {
    let within = |name: &str| directory.join(name);
    let mut clusters = vec![Cluster::Ours(ours::Cluster::start(&within("ours")).await.context("our own voters")?)];
    match etcd::Cluster::start(&within("etcd")).await {
        Ok(cluster) => clusters.push(Cluster::Etcd(cluster)),
        Err(why) => report.missing("vs_etcd", format!("{why:#}")),
    }
    match zookeeper::Cluster::start(&within("zookeeper")).await {
        Ok(cluster) => clusters.push(Cluster::ZooKeeper(cluster)),
        Err(why) => report.missing("vs_zookeeper", format!("{why:#}")),
    }
    Ok(clusters)
}

async fn measure(
    scale: Scale,
    report: &mut Report,
    clusters: &mut [Cluster],
    clients: usize,
    goal: f64,
) -> anyhow::Result<()> {
    let mut groups = Vec::new();
    for cluster in clusters.iter_mut() {
        let mut group = Vec::new();
        for n in 0..clients {
            group.push(cluster.client(n).await.with_context(|| format!("a client of {}", cluster.name()))?);
        }
        groups.push(group);
    }
    let span = if scale.quick { SPAN / 10 } else { SPAN };
    for (name, act) in ACTS {
        let mut all: Vec<(&str, Rates)> = Vec::new();
        for (cluster, group) in clusters.iter().zip(&mut groups) {
            load::drive(group, act, WARM).await.with_context(|| format!("{name} of {}", cluster.name()))?;
            let rates = load::drive(group, act, span).await.with_context(|| format!("{name} of {}", cluster.name()))?;
            report.figure(&format!("{name}_{clients}_per_second_{}", cluster.name()), rates.per_second, "/s");
            report.figure(&format!("{name}_{clients}_p99_ms_{}", cluster.name()), rates.p99_ms, "ms");
            all.push((cluster.name(), rates));
        }
        let Some(((_, ours), others)) = all.split_first() else { continue };
        for (other, theirs) in others {
            let (figure, ratio) = (format!("{name}_{clients}_vs_{other}"), ours.per_second / theirs.per_second);
            if goal > 0.0 {
                report.at_least(&figure, goal, ratio, "x")
            } else {
                report.figure(&figure, ratio, "x")
            }
            report.figure(&format!("{name}_{clients}_p99_vs_{other}"), ours.p99_ms / theirs.p99_ms, "x");
        }
    }
    Ok(())
}

/// ZooKeeper's clients through our doors, and against its own servers: the same client, the same load.
async fn measure_doors(scale: Scale, report: &mut Report, clusters: &mut [Cluster]) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for cluster in clusters {
        match cluster {
            Cluster::Ours(cluster) => ours = cluster.doors().await?,
            Cluster::ZooKeeper(cluster) => theirs = cluster.hosts(),
            Cluster::Etcd(_) => {}
        }
    }
    if theirs.is_empty() {
        report.missing("zookeeper_door_vs_zookeeper", "ZooKeeper is not here".to_owned());
        return Ok(());
    }
    let span = if scale.quick { SPAN / 10 } else { SPAN };
    for (clients, _) in CLIENTS {
        let mut groups = [Vec::new(), Vec::new()];
        for (group, hosts) in groups.iter_mut().zip([&ours, &theirs]) {
            for n in 0..clients {
                group.push(Client::ZooKeeper(zookeeper::Client::connect(hosts, n).await?));
            }
        }
        for (name, act, goal) in DOOR_ACTS {
            let mut rates = Vec::new();
            for (group, system) in groups.iter_mut().zip(["door", "server"]) {
                load::drive(group, act, WARM).await.with_context(|| format!("{name} of the {system}"))?;
                let found = load::drive(group, act, span).await.with_context(|| format!("{name} of the {system}"))?;
                report.figure(&format!("zookeeper_{system}_{name}_{clients}_per_second"), found.per_second, "/s");
                report.figure(&format!("zookeeper_{system}_{name}_{clients}_p99_ms"), found.p99_ms, "ms");
                rates.push(found.per_second);
            }
            let (figure, ratio) = (format!("zookeeper_door_vs_zookeeper_{name}_{clients}"), rates[0] / rates[1]);
            match CLIENTS.last().is_some_and(|(most, _)| *most == clients) {
                true => report.at_least(&figure, goal, ratio, "x"),
                false => report.figure(&figure, ratio, "x"),
            }
        }
    }
    Ok(())
}

/// Kills leaders under load.
async fn failover(scale: Scale, report: &mut Report, cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for n in 0..WRITERS {
        clients.push(cluster.client(n).await?);
    }
    let writers = load::Writers::start(clients);
    let mut gaps = Vec::new();
    for _ in 0..if scale.quick { 1 } else { KILLS } {
        writers.settle().await?;
        let leader = cluster.leader().await?;
        let died = std::time::Instant::now();
        cluster.kill(leader).await?;
        gaps.extend(writers.gaps(died).await?);
        cluster.restart(leader).await?;
    }
    writers.stop().await;
    let (p99, name) = (crate::measure::percentile(&mut gaps, 99.0), cluster.name());
    match cluster {
        Cluster::Ours(_) => report.at_most("failover_ms_p99", FAILOVER_MS, p99, "ms"),
        _ => report.figure(&format!("failover_ms_p99_{name}"), p99, "ms"),
    }
    Ok(())
}
