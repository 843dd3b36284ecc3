//! What has to be marked or unmarked after the edits of a text, so that its marks are exactly those after.
//!
//! Computed from both states, not taken from a log: marks before are carried through the edits (what is inserted carries
//! none) and compared with the marks after.

use std::collections::BTreeSet;

use super::{MarkEdit, TextEdit};
use crate::document::edit::Mark;
use crate::document::value::Value;

/// Mark edits that make `before`, carried through `edits`, equal to `after`.
pub(in crate::document) fn between(before: &[Mark], after: &[Mark], edits: &[TextEdit]) -> Vec<MarkEdit> {
    let names: BTreeSet<&str> = before.iter().chain(after).map(|mark| mark.name.as_str()).collect();
    let mut out = Vec::new();
    for name in names {
        let carried: Vec<Mark> =
            before.iter().filter(|mark| mark.name == name).flat_map(|mark| carry(mark, edits)).collect();
        let wanted: Vec<&Mark> = after.iter().filter(|mark| mark.name == name).collect();
        let cuts: BTreeSet<usize> =
            carried.iter().chain(wanted.iter().copied()).flat_map(|mark| [mark.from, mark.to]).collect();
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let mut last: Option<MarkEdit> = None;
        for pair in cuts.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let covers = |mark: &&Mark| mark.from <= from && to <= mark.to;
            let is = carried.iter().rfind(covers).map(|mark| &mark.value);
            let want = wanted.iter().copied().rfind(covers).map(|mark| &mark.value);
            if is == want {
                continue;
            }
            let value = want.cloned().unwrap_or(Value::Null);
            match &mut last {
                Some(edit) if edit.to == from && edit.value == value => edit.to = to,
                _ => out.extend(last.replace(MarkEdit { from, to, name: name.to_owned(), value })),
            }
        }
        out.extend(last);
    }
    out
}

/// The parts of a mark that edits leave, in positions after them.
fn carry(mark: &Mark, edits: &[TextEdit]) -> Vec<Mark> {
    let mut kept = Vec::new();
    let (mut old, mut new) = (0, 0);
    let ends =
        [TextEdit { from: mark.to.max(edits.last().map_or(0, |edit| edit.to)), to: usize::MAX, insert: String::new() }];
    for edit in edits.iter().chain(&ends) {
        // Kept: old..edit.from, which is now new..
        let (from, to) = (mark.from.max(old), mark.to.min(edit.from));
        if from < to {
            kept.push(Mark { from: from - old + new, to: to - old + new, ..mark.clone() });
        }
        new += edit.from.saturating_sub(old) + edit.insert.encode_utf16().count();
        old = edit.to;
    }
    kept
}
