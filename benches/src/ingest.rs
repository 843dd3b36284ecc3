//! `ingest`: endorsed changes of one document, one message each, into a store that syncs each commit to disk, against
//! bare Automerge applying the same chunks one at a time in memory.

use std::time::Duration;

use anyhow::ensure;
use automerge::{Automerge, Change, TextEncoding};
use foreshore::document::local::LocalChange;
use foreshore::document::template::Template;
use foreshore::document::value::Value;
use foreshore_tests::traces::Trace;

use crate::Scale;
use crate::measure::wall;
use crate::replicas::{create_space, join, open, path, until_equal};
use crate::report::Report;
use crate::rig::{Pair, Threaded, edit};

const CHANGES: usize = 20_000;

/// Changes on their way at once.
const IN_FLIGHT: usize = 2_000;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let Some(trace) = Trace::load("automerge-paper")? else {
        report.missing("speedup_vs_automerge_apply", "no automerge-paper.json.gz; set FORESHORE_TRACES");
        return Ok(());
    };
    let changes = scale.of(CHANGES);
    let small = ours(&trace, changes / 10)?;
    let large = ours(&trace, changes)?;
    let bare = bare_automerge(&large.chunks)?;
    let us_per_change = |took: Duration, count: usize| took.as_secs_f64() * 1e6 / count as f64;
    report.figure("changes", changes as f64, "");
    report.at_least("speedup_vs_automerge_apply", 100.0, bare.as_secs_f64() / large.took.as_secs_f64(), "x");
    report.figure("us_per_change", us_per_change(large.took, changes), "µs");
    let growth = us_per_change(large.took, changes) / us_per_change(small.took, changes / 10);
    report.at_most("us_per_change_growth", 1.2, growth, "x");
    report.figure("automerge_us_per_change", us_per_change(bare, changes), "µs");
    report.figure("storage_commits", large.commits as f64, "");
    Ok(())
}

struct Ingested {
    chunks: Vec<Vec<u8>>,
    took: Duration,
    commits: u64,
}

/// The beginning of the trace, written on one peer a commit a key, and taken in by another.
fn ours(trace: &Trace, count: usize) -> anyhow::Result<Ingested> {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut writer = open(from.path(), 1)?;
    let space = create_space(&mut writer)?;
    let mut reader = open(to.path(), 2)?;
    join(&mut writer, &mut reader, space)?;
    let template = Template::new(&Value::from_json(&serde_json::json!({ "body": { "$text": "" } }))?)?;
    let cell = writer.document(space, path(0), &template)?;
    let mut pair = Pair::link([writer, reader], 1)?;
    until_equal(&mut pair)?;
    let [mut writer, reader] = pair.nodes;
    let mut reader = Threaded::new(reader)?;
    let mut ingested = Ingested { chunks: Vec::new(), took: Duration::ZERO, commits: 0 };
    for txns in trace.txns[..count].chunks(IN_FLIGHT) {
        for txn in txns {
            let change: LocalChange = edit(&cell, |draft| {
                let mut body = draft.text("body")?;
                txn.patches.iter().try_for_each(|p| body.splice(p.at..p.at + p.deleted, &p.inserted))
            })?;
            ingested.chunks.extend(change.layers.iter().cloned().chain([change.bytes.clone()]));
            writer.commit(space, vec![change])?;
        }
        let frames = writer.take_frames();
        ensure!(frames.len() >= txns.len(), "{} changes left in {} messages", txns.len(), frames.len());
        let (answers, took) = wall(|| reader.take_in(frames));
        ingested.took += took;
        writer.give_frames(answers?)?;
    }
    ingested.commits = reader.commits();
    Ok(ingested)
}

/// The same chunks through `apply_changes` one at a time, in memory.
fn bare_automerge(chunks: &[Vec<u8>]) -> anyhow::Result<Duration> {
    let changes: Vec<Change> =
        chunks.iter().map(|chunk| Change::from_bytes(chunk.clone())).collect::<Result<_, _>>()?;
    let mut doc = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit);
    let (done, took) = wall(|| changes.into_iter().try_for_each(|change| doc.apply_changes([change])));
    done?;
    Ok(took)
}
