//! `latency`: a change here, a watcher in another process; then a first sync. Beside crate samod (automerge-repo in Rust), over
//! TCP loopback, each process with its store in files.
//!
//! A sample is the time from before the edit until the other process has been told and has read the value, by the machine's
//! one monotonic clock. Peers take turns sample by sample, so that whatever else the machine does meets all of them alike,
//! and each sample begins when everything before it has settled.
//!
//! **Durability.** Neither waits for a disk before a change leaves, or before the watcher of a document is told. Foreshore
//! acknowledges an edit once it is synced; samod does not say when. It runs once with storage that syncs each file, against
//! which the goals are, and once as it is.

mod ours;
mod theirs;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Scale;
use crate::measure::percentile;
use crate::report::Report;

use self::theirs::Files;

const SAMPLES: usize = 2_000;
/// Samples before those that count: caches, first allocations.
const WARM: usize = 50;
/// Between samples: acknowledgements and files of the one before have settled.
const PAUSE: Duration = Duration::from_millis(8);
const DOCUMENTS: usize = 10_000;
/// A sample, or a sync, that takes longer has failed. samod's first sync grows faster than the number of documents: four
/// seconds for a thousand, more than ten minutes for ten thousand on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What is edited: a number in a small document.
const KEY: &str = "n";

/// A directory whose files are in memory, where syncing costs nothing.
const IN_MEMORY: &str = "/dev/shm";

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        latency(scale, report).await?;
        without_disk(scale, report).await?;
        first_sync(scale, report).await
    })
}

async fn latency(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let [mine, synced, loose] = measure(scale, tempfile::tempdir()?.path()).await?;
    for (at, name) in ["p50", "p99"].into_iter().enumerate() {
        report.at_most(&format!("{name}_vs_samod"), 0.7, mine[at] / synced[at], "x");
        report.figure(&format!("{name}_vs_samod_unsynced"), mine[at] / loose[at], "x");
        report.figure(&format!("{name}_us"), mine[at], "µs");
        report.figure(&format!("{name}_us_samod"), synced[at], "µs");
        report.figure(&format!("{name}_us_samod_unsynced"), loose[at], "µs");
    }
    report.note(
        "ours: a change leaves and is shown while it is written and synced on either side; samod waits for no file",
    );
    report.note("vs_samod: samod with storage that syncs each file; unsynced: with its own storage, which does not");
    Ok(())
}

/// The same with all files in memory: what is left without the disk, for which samod does not wait.
async fn without_disk(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    if !Path::new(IN_MEMORY).is_dir() {
        report.missing("p50_vs_samod_without_disk", format!("there is no {IN_MEMORY}"));
        return Ok(());
    }
    let [mine, synced, _] = measure(scale, tempfile::tempdir_in(IN_MEMORY)?.path()).await?;
    for (at, name) in ["p50", "p99"].into_iter().enumerate() {
        report.figure(&format!("{name}_vs_samod_without_disk"), mine[at] / synced[at], "x");
        report.figure(&format!("{name}_us_without_disk"), mine[at], "µs");
        report.figure(&format!("{name}_us_samod_without_disk"), synced[at], "µs");
    }
    report.note("without_disk: all stores in memory files, so that nobody waits for a disk");
    Ok(())
}

/// 50th and 99th percentile in microseconds: ours, samod's with synced files, and as it is.
async fn measure(scale: Scale, directory: &Path) -> anyhow::Result<[[f64; 2]; 3]> {
    let within = |name: &str| directory.join(name);
    let mine = ours::Source::start(&within("a"), 1).await?;
    let synced = theirs::Source::start(&within("b"), Files::Synced, 1).await?;
    let loose = theirs::Source::start(&within("c"), Files::AsTheyAre, 1).await?;
    let mut watchers = [
        Other::start("ours-watch", &within("d"), &mine.invitation().await?).await?,
        Other::start("synced-watch", &within("e"), &synced.invitation()).await?,
        Other::start("loose-watch", &within("f"), &loose.invitation()).await?,
    ];
    let mut times: [Vec<f64>; 3] = Default::default();
    for n in 1..=WARM + scale.of(SAMPLES) {
        for (who, watcher) in watchers.iter_mut().enumerate() {
            let began = nanos();
            match who {
                0 => mine.edit(n as i64)?,
                1 => synced.edit(n as i64)?,
                _ => loose.edit(n as i64)?,
            }
            let seen = watcher.seen(n).await?;
            if n > WARM {
                times[who].push(seen.saturating_sub(began) as f64 / 1e3);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    for watcher in watchers {
        watcher.end().await?;
    }
    mine.stop().await?;
    synced.stop().await;
    loose.stop().await;
    Ok(times.map(|mut times| [50.0, 99.0].map(|percent| percentile(&mut times, percent))))
}

async fn first_sync(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let within = |name: &str| directory.path().join(name);
    let documents = scale.of(DOCUMENTS);
    let mine = ours::Source::start(&within("a"), documents).await?;
    let ours = sync("ours-sync", &within("b"), &mine.invitation().await?, documents).await?;
    mine.stop().await?;
    let source = theirs::Source::start(&within("c"), Files::Synced, documents).await?;
    let theirs = sync("synced-sync", &within("d"), &source.invitation(), documents).await?;
    source.stop().await;
    report.figure("first_sync_documents", documents as f64, "");
    report.at_least("first_sync_speedup_vs_samod", 10.0, theirs / ours, "x");
    report.figure("first_sync_seconds", ours, "s");
    report.figure("first_sync_seconds_samod", theirs, "s");
    report.note(
        "first sync: from dialling until all are here, ours durably; samod, with synced files, does not wait for them",
    );
    Ok(())
}

async fn sync(role: &str, directory: &Path, invitation: &str, documents: usize) -> anyhow::Result<f64> {
    let mut other = Other::start(role, directory, &format!("{documents} {invitation}")).await?;
    let seconds = other.line().await?.parse()?;
    other.end().await?;
    Ok(seconds)
}

/// Nanoseconds on the clock that all processes of a machine share.
fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The other process.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts this program in a role, tells it where to go, and waits until it is there.
    async fn start(role: &str, directory: &Path, invitation: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--latency-role")
            .arg(role)
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.as_mut().context("the input is piped")?;
        input.write_all(format!("{invitation}\n").as_bytes()).await?;
        let lines = BufReader::new(child.stdout.take().context("the output is piped")?).lines();
        let mut other = Self { child, lines };
        anyhow::ensure!(other.line().await? == "ready", "the other process is not ready");
        Ok(other)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.context("nothing came")??;
        line.context("the other process has ended")
    }

    /// When it saw a number, or a later one.
    async fn seen(&mut self, n: usize) -> anyhow::Result<u64> {
        loop {
            let line = self.line().await?;
            let (number, at) = line.split_once(' ').context("a number and a time")?;
            if number.parse::<usize>()? >= n {
                return Ok(at.parse()?);
            }
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        anyhow::ensure!(ended.success(), "the other process ended with {ended}");
        Ok(())
    }
}

/// The other process, from the inside: ends with its standard input.
pub(crate) fn play(role: &str, directory: &Path) -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let invitation = line.trim();
    let runtime = tokio::runtime::Runtime::new()?;
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = done.send(());
    });
    let work = async {
        match role {
            "ours-watch" => ours::watch(directory, invitation).await,
            "ours-sync" => ours::sync(directory, invitation).await,
            "synced-watch" => theirs::watch(directory, Files::Synced, invitation).await,
            "synced-sync" => theirs::sync(directory, Files::Synced, invitation).await,
            "loose-watch" => theirs::watch(directory, Files::AsTheyAre, invitation).await,
            role => bail!("there is no role {role:?}"),
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            _ = ended => Ok(()),
        }
    });
    runtime.shutdown_background();
    outcome
}

/// A line to the process that measures.
fn say(text: impl std::fmt::Display) {
    println!("{text}");
}

/// What a syncing process is told: how many documents to wait for, and where from.
fn documents_and_rest(invitation: &str) -> anyhow::Result<(usize, &str)> {
    let (documents, rest) = invitation.split_once(' ').context("a number and an invitation")?;
    Ok((documents.parse()?, rest))
}
