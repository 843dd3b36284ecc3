//! `footprint`: a million tiny documents in one store.

use std::process::Command as Process;

use anyhow::{Context, ensure};
use foreshore::document::template::Template;
use foreshore::engine::Command;

use crate::Scale;
use crate::measure::{disk, percentile, resident, wall};
use crate::replicas::{create_space, open, path, touch};
use crate::report::Report;

const DOCUMENTS: usize = 1_000_000;

/// Documents hydrated to see how long that takes.
const HYDRATED: usize = 10_000;

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let documents = scale.of(DOCUMENTS);
    let directory = tempfile::tempdir()?;
    let mut node = open(directory.path(), 1)?;
    let space = create_space(&mut node)?;
    touch(&mut node, space, 0..documents, 0)?;
    node.ask(Command::Close)?;
    let mut backend = node.into_backend();
    while backend.compact()? {}
    drop(backend);
    report.figure("documents", documents as f64, "");
    report.at_most("disk_bytes_per_document", 400.0, disk(directory.path())? as f64 / documents as f64, "B");
    // A process of its own, so that what filling the store left in this one's heap is not counted.
    let output = Process::new(std::env::current_exe()?)
        .args(["--probe-footprint", &documents.to_string(), "--space", &space.to_string()])
        .arg(directory.path())
        .output()?;
    ensure!(output.status.success(), "the probe failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || figures.next().context("the probe prints three figures")?.context("the probe prints numbers");
    report.at_most("rss_bytes_per_document", 300.0, next()?, "B");
    report.at_most("open_seconds", 2.0, next()?, "s");
    report.at_most("hydrate_p99_us", 100.0, next()?, "µs");
    Ok(())
}

/// Opens a filled store and prints resident bytes a document, seconds to the first read, and hydration's 99th percentile.
pub(crate) fn probe(directory: &std::path::Path, space: &str, documents: usize) -> anyhow::Result<()> {
    let space = space.parse()?;
    let before = resident();
    let (opened, seconds) = wall(|| -> anyhow::Result<_> {
        let mut node = open(directory, 2)?;
        node.ask(Command::Read { space, path: path(documents / 2) })?;
        Ok(node)
    });
    let mut node = opened?;
    let held = resident().saturating_sub(before);
    let template = Template::default();
    let step = (documents / HYDRATED).max(1);
    let mut times = Vec::new();
    for index in (0..documents).step_by(step) {
        let path = path(index);
        let (cell, took) = wall(|| node.document(space, path, &template));
        cell?;
        times.push(took.as_secs_f64() * 1e6);
    }
    println!("{} {} {}", held as f64 / documents as f64, seconds.as_secs_f64(), percentile(&mut times, 99.0));
    Ok(())
}
