//! What has to be marked or unmarked after the edits of a text, so that its marks are exactly those after.
//!
//! Computed from both states, not taken from a log: marks before are carried through the edits (what is inserted carries
//! none) and compared with the marks after.

use std::collections::BTreeSet;

use automerge::{ChangeHash, ObjId, ObjType, ReadDoc, ValueRef};

use super::{At, MarkEdit, Step, TextEdit};
use crate::document::edit::{Mark, from_mark};
use crate::document::value::{MAX_DEPTH, Value};

/// Every text with marks in an object that lies at `at`, as it stands or stood; texts in the order of their places.
pub(in crate::document) fn marked<D: ReadDoc>(
    doc: &D,
    (obj, kind): (&ObjId, ObjType),
    heads: Option<&[ChangeHash]>,
    at: &[Step],
    out: &mut Vec<(At, Vec<Mark>)>,
) {
    if at.len() > MAX_DEPTH {
        return;
    }
    let mut child = |value: &ValueRef<'_>, id: &dyn Fn() -> ObjId, last: Step| {
        if let automerge::Value::Object(kind) = value.clone().into_value() {
            let at: At = at.iter().cloned().chain([last]).collect();
            marked(doc, (&id(), kind), heads, &at, out);
        }
    };
    match kind {
        ObjType::Text => {
            let marks = match heads {
                Some(heads) => doc.marks_at(obj, heads),
                None => doc.marks(obj),
            };
            let marks: Vec<Mark> = marks.unwrap_or_default().iter().map(from_mark).collect();
            if !marks.is_empty() {
                out.push((at.to_vec(), marks));
            }
        }
        ObjType::List => {
            let items = match heads {
                Some(heads) => doc.list_range_at(obj, .., heads),
                None => doc.list_range(obj, ..),
            };
            items.for_each(|item| child(&item.value, &|| item.id(), Step::Index(item.index)));
        }
        ObjType::Map | ObjType::Table => {
            let items = match heads {
                Some(heads) => doc.map_range_at(obj, .., heads),
                None => doc.map_range(obj, ..),
            };
            items.for_each(|item| child(&item.value, &|| item.id(), Step::Key(item.key.to_string())));
        }
    }
}

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
