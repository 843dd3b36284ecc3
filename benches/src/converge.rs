//! `converge`: published concurrent traces, one peer an agent, over real loopback connections.
//!
//! Agents type as fast as their parents' changes arrive. The minimum that has to cross the wire is each change once to
//! every other peer, and an endorsement for every [`FLUSH`] in which its author typed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use foreshore_tests::cluster::Cluster;
use foreshore_tests::traces::{Trace, in_code_units};
use foreshore_tests::typist::{Board, Step, type_out};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Scale;
use crate::report::Report;

/// How often an agent may be expected to send what it has.
const FLUSH: Duration = Duration::from_millis(50);

/// Bytes of an endorsement that no encoding could spare: the signature, the device, the incarnation, and a byte each of
/// flags, actor number and sequence number.
const ENDORSEMENT: f64 = 64.0 + 8.0 + 8.0 + 3.0;

const TRACES: [&str; 2] = ["friendsforever", "clownschool"];

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for name in TRACES {
        let Some(trace) = Trace::load(name)? else {
            report.missing(&format!("bytes_ratio_{name}"), format!("no {name}.json.gz; set FORESHORE_TRACES"));
            continue;
        };
        let whole = trace.txns.len();
        let trace = if scale.of(whole) == whole { trace } else { trace.prefix(scale.of(whole)) };
        let run = runtime.block_on(converge(Arc::new(in_code_units(&trace))))?;
        report.figure(&format!("transactions_{name}"), trace.txns.len() as f64, "");
        report.figure(&format!("byte_identical_{name}"), 1.0, "");
        report.at_most(&format!("bytes_ratio_{name}"), 1.3, run.carried / run.minimum(), "x");
        report.figure(&format!("frames_ratio_{name}"), run.frames / run.minimum(), "x");
        report.figure(&format!("carried_bytes_{name}"), run.carried, "B");
        report.figure(&format!("change_bytes_{name}"), run.changes, "B");
        report.figure(&format!("seconds_{name}"), run.took.as_secs_f64(), "s");
    }
    report.note(
        "bytes_ratio counts what the sockets carried (Noise, yamux, handshakes, pings); frames_ratio what was in it",
    );
    report.note("minimum: every change once to each other peer, and an endorsement of 83 B a 50 ms and typing peer");
    Ok(())
}

struct Run {
    took: Duration,
    peers: f64,
    /// Through all sockets.
    carried: f64,
    /// Frames of the sync streams.
    frames: f64,
    /// All changes, once.
    changes: f64,
    /// Spans of [`FLUSH`] in which each agent typed, added up.
    flushes: f64,
}

impl Run {
    fn minimum(&self) -> f64 {
        (self.changes + self.flushes * ENDORSEMENT) * (self.peers - 1.0)
    }
}

async fn converge(trace: Arc<Trace>) -> anyhow::Result<Run> {
    let cluster = Cluster::start(&trace).await?;
    let board = Arc::new(Board::new(&trace));
    let (follow, mut steps) = mpsc::channel(1024);
    let mut typists = JoinSet::new();
    let began = std::time::Instant::now();
    for (agent, member) in cluster.members.iter().enumerate() {
        let (space, document) = (member.space.clone(), member.document.clone());
        let (trace, board, follow) = (trace.clone(), board.clone(), follow.clone());
        typists.spawn(async move { type_out((&space, &document), &trace, agent, &board, follow).await });
    }
    drop(follow);
    // Spans in which an agent has typed, by number.
    let mut last = vec![None; trace.agents];
    let mut flushes = 0;
    while let Some((agent, step)) = steps.recv().await {
        let span = began.elapsed().as_micros() / FLUSH.as_micros();
        if matches!(step, Step::Typed(..)) && last[agent].replace(span) != Some(span) {
            flushes += 1;
        }
    }
    while let Some(ended) = typists.join_next().await {
        ended??;
    }
    let heads = board.merge(&trace.frontier()).await;
    cluster.converge(&heads, &trace.end).await?;
    let took = began.elapsed();
    let carried: u64 = cluster.links.iter().map(|link| link.cable.carried()).sum();
    let (mut frames, mut changes) = (0, 0);
    for member in &cluster.members {
        let status = member.peer.status().await?;
        frames += status.engine.links.iter().map(|link| link.bytes_sent).sum::<u64>();
        let listed = member.space.list("/").limit(10).await?;
        let bytes: u64 = listed.items.iter().map(|document| document.bytes).sum();
        ensure!(changes == 0 || changes == bytes, "peers with equal heads hold {changes} and {bytes} bytes of changes");
        changes = bytes;
    }
    cluster.close().await.context("the peers close")?;
    let peers = trace.agents as f64;
    Ok(Run {
        took,
        peers,
        carried: carried as f64,
        frames: frames as f64,
        changes: changes as f64,
        flushes: f64::from(flushes),
    })
}
