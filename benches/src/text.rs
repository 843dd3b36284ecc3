//! `text`: `automerge-paper`, key by key, through the public interface with storage on, against bare Automerge in memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc, TextEncoding};
use foreshore::peer::{Document, DocumentError, Peer};
use foreshore::store::Redb;
use foreshore_tests::traces::Trace;
use foreshore_tests::typist::{BODY, template};

use crate::Scale;
use crate::measure::{disk, wall};
use crate::report::Report;

/// Where the text is.
const PATH: &str = "/text";

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let Some(trace) = Trace::load("automerge-paper")? else {
        report.missing("seconds_vs_automerge", "no automerge-paper.json.gz; set FORESHORE_TRACES");
        return Ok(());
    };
    let keys = scale.of(trace.txns.len());
    let (text, bare) = bare_automerge(&trace, keys);
    if keys == trace.txns.len() {
        ensure!(text == trace.end, "bare Automerge does not end in endContent");
    }
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let typed = runtime.block_on(ours(&trace, keys, directory.path()))?;
    ensure!(typed.text == text, "the two texts differ");
    let reopened = runtime.block_on(reopen(directory.path(), &text))?;
    report.figure("keystrokes", keys as f64, "");
    report.at_most("seconds_vs_automerge", 1.3, typed.took.as_secs_f64() / bare.as_secs_f64(), "x");
    report.figure("seconds", typed.took.as_secs_f64(), "s");
    report.figure("automerge_seconds", bare.as_secs_f64(), "s");
    report.figure("reopen_ms", reopened.as_secs_f64() * 1e3, "ms");
    report.figure("disk_bytes", disk(directory.path())? as f64, "B");
    report.note("ours: each key one edit through a handle, redb with fsync behind it, until the last is durable");
    report.note("reopen_ms and disk_bytes after compaction, as a document at rest is");
    Ok(())
}

struct Typed {
    took: Duration,
    text: String,
}

/// One edit a key through a peer with storage, until the last one is durable.
async fn ours(trace: &Trace, keys: usize, directory: &Path) -> anyhow::Result<Typed> {
    let peer = Peer::builder().store(Redb::open(directory)?).spawn().await?;
    let space = peer.create_space("bench").await?;
    let document: Document = space.document_with(PATH, &template(trace)?).await?;
    let began = std::time::Instant::now();
    let mut last = None;
    for txn in &trace.txns[..keys] {
        last = Some(loop {
            let edited = document.edit(|draft| {
                let mut body = draft.text(BODY)?;
                txn.patches
                    .iter()
                    .try_for_each(|patch| body.splice(patch.at..patch.at + patch.deleted, &patch.inserted))
            });
            match edited {
                Ok(commit) => break commit,
                Err(DocumentError::Busy) => document.ready().await,
                Err(error) => return Err(error.into()),
            }
        });
    }
    last.context("a trace without keys")?.durable().await?;
    let took = began.elapsed();
    let text = document.value()?.get(BODY).and_then(|body| body.as_str().map(str::to_owned)).context("a text")?;
    peer.compact().await?;
    peer.shutdown().await?;
    Ok(Typed { took, text })
}

/// From a closed store to the whole text.
async fn reopen(directory: &Path, text: &str) -> anyhow::Result<Duration> {
    let began = std::time::Instant::now();
    let peer = Peer::builder().store(Redb::open(directory)?).spawn().await?;
    let space = peer.space("bench").await?.context("the space is there")?;
    let document = space.document(PATH).await?;
    let value = document.value()?;
    let took = began.elapsed();
    ensure!(value.get(BODY).and_then(|body| body.as_str()) == Some(text), "another text came back");
    peer.shutdown().await?;
    Ok(took)
}

/// One transaction a key, in memory.
fn bare_automerge(trace: &Trace, keys: usize) -> (String, Duration) {
    let mut doc = AutoCommit::new_with_encoding(TextEncoding::Utf16CodeUnit);
    let body = doc.put_object(ROOT, "body", ObjType::Text).expect("the root takes a text");
    doc.commit();
    let ((), took) = wall(|| {
        for txn in &trace.txns[..keys] {
            for patch in &txn.patches {
                let deleted = patch.deleted as isize;
                doc.splice_text(&body, patch.at, deleted, &patch.inserted).expect("positions lie inside the text");
            }
            doc.commit();
        }
    });
    (doc.text(&body).expect("the body is a text"), took)
}
