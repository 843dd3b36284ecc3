//! `text`: `automerge-paper`, key by key, through the public interface with storage on, against bare Automerge in memory.

use std::time::Duration;

use anyhow::ensure;
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc, TextEncoding};
use foreshore_tests::traces::Trace;

use crate::Scale;
use crate::measure::wall;
use crate::report::Report;

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
    report.figure("keystrokes", keys as f64, "");
    report.figure("automerge_seconds", bare.as_secs_f64(), "s");
    Ok(())
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
