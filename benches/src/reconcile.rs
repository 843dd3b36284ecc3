//! `reconcile` and `insync`: what it costs two replicas to learn what differs and to ship exactly that.
//!
//! Replicas are reopened before each step and their cursors into each other's arrival logs taken away, so that the
//! difference has to be found among a million documents. What the same step costs with cursors, as on any ordinary
//! reconnection, is in the figures `reconnect_…`.

use foreshore::id::SpaceId;

use crate::Scale;
use crate::identify;
use crate::measure::cpu;
use crate::replicas::{reopened, replicas, touch, until_equal};
use crate::report::Report;
use crate::rig::{Node, Pair, Traffic};

const DOCUMENTS: usize = 1_000_000;

/// Bytes of an endorsement that no encoding could spare: the signature, the device, the incarnation, and a byte each of
/// flags, actor number and sequence number.
const ENDORSEMENT: f64 = 64.0 + 8.0 + 8.0 + 3.0;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let documents = scale.of(DOCUMENTS);
    report.figure("documents", documents as f64, "");
    identification(documents, scale.of(1_000), report)?;
    let directory = tempfile::tempdir()?;
    let (pair, space) = replicas(directory.path(), documents)?;
    let mut pair = Pair::link(reopened(directory.path(), pair, true)?, 1)?;
    let ground = Ground { documents, handshake: until_equal(&mut pair)? };
    report.figure("handshake_bytes", ground.handshake.bytes as f64, "B");
    report.figure("handshake_round_trips", ground.handshake.round_trips as f64, "");
    let mut round = 1;
    for (name, changed) in [("d1", 1), ("d1000", scale.of(1_000)), ("d100000", scale.of(100_000))] {
        for forget in [true, false] {
            let nodes = reopened(directory.path(), pair, forget)?;
            let step = change_and_sync(nodes, space, changed, round, ground)?;
            round += 1;
            if forget {
                step.report(name, report);
            } else {
                report.figure(&format!("reconnect_bytes_{name}"), step.traffic.bytes as f64, "B");
                report.figure(&format!("reconnect_ratio_to_minimum_{name}"), step.ratio(), "x");
            }
            pair = step.pair;
        }
    }
    Ok(())
}

/// What every step stands on.
#[derive(Debug, Clone, Copy)]
struct Ground {
    documents: usize,
    /// What two equal replicas exchange from the first frame to knowing that they are equal.
    handshake: Traffic,
}

/// The two replicas after a step, and what it took.
struct Step {
    pair: Pair,
    traffic: Traffic,
    minimum: f64,
    cpu_ms: f64,
}

impl Step {
    fn ratio(&self) -> f64 {
        self.traffic.bytes as f64 / self.minimum
    }

    fn report(&self, name: &str, report: &mut Report) {
        match name {
            "d1" => report.at_most("bytes_d1", 600.0, self.traffic.bytes as f64, "B"),
            "d1000" => {
                report.at_most("ratio_to_minimum_d1000", 1.5, self.ratio(), "x");
                report.at_most("round_trips_d1000", 2.0, self.traffic.round_trips as f64, "");
                report.figure("cpu_ms_d1000", self.cpu_ms, "ms");
            }
            _ => report.at_most("ratio_to_minimum_d100000", 1.4, self.ratio(), "x"),
        }
    }
}

/// Changes documents on one side while nothing links the two, then links them until they are equal. What the handshake
/// costs is the same whatever the documents are, and is taken off: it has figures of its own.
fn change_and_sync(
    nodes: [Node; 2],
    space: SpaceId,
    changed: usize,
    round: i64,
    ground: Ground,
) -> anyhow::Result<Step> {
    let [mut a, b] = nodes;
    let chunks = touch(&mut a, space, 0..changed, round)?;
    let mut pair = Pair::link([a, b], 1)?;
    let (traffic, spent) = cpu(|| until_equal(&mut pair));
    let mut traffic = traffic?;
    traffic.bytes -= ground.handshake.bytes;
    traffic.round_trips -= ground.handshake.round_trips;
    let minimum = chunks as f64 + changed as f64 * ENDORSEMENT + log2_choose(ground.documents, changed) / 8.0;
    Ok(Step { pair, traffic, minimum, cpu_ms: spent.as_secs_f64() * 1e3 })
}

/// Bytes spent finding what differs, against crate negentropy over the same hashes.
fn identification(documents: usize, changed: usize, report: &mut Report) -> anyhow::Result<()> {
    let ours = identify::sessions(documents, changed)?;
    let theirs = identify::negentropy(documents, changed)?;
    report.figure("identify_bytes_d1000", ours.bytes as f64, "B");
    report.figure("identify_round_trips_d1000", ours.round_trips as f64, "");
    report.figure("negentropy_bytes_d1000", theirs.bytes as f64, "B");
    report.figure("negentropy_round_trips_d1000", theirs.round_trips as f64, "");
    report.at_most("identify_bytes_vs_negentropy_d1000", 0.05, ours.bytes as f64 / theirs.bytes as f64, "x");
    Ok(())
}

/// log₂ of n over k: the bits that name k of n things.
fn log2_choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| ((n - i) as f64 / (k - i) as f64).log2()).sum()
}
