//! From Automerge's patches to ours.
//!
//! What is new in the state after is given whole, read from that state, and Automerge's patches inside it are dropped.
//! Splices of one text are gathered into one patch at the place of the first.

use std::collections::{BTreeMap, BTreeSet};

use automerge::{Automerge, ChangeHash, ObjId, ObjType, PatchAction, Prop, ReadDoc};

use super::compose::{Composer, units};
use super::{At, MarkEdit, Patch, Step, TextEdit, marks};
use crate::document::edit::{Mark, diff_text, from_mark};
use crate::document::fenced;
use crate::document::value::{self, MAX_DEPTH, Value};

/// Texts known to carry no mark in one state of a document.
///
/// Automerge 0.12 announces where marks appear on a text that had none; on a text that has some its announcements are not
/// complete (a range marked on one side and unmarked on the other, with an insertion between). So the marks of such a text
/// are compared, which walks it twice, and this spares all others the walk.
#[derive(Default)]
pub(in crate::document) struct Unmarked {
    heads: Vec<ChangeHash>,
    texts: BTreeSet<ObjId>,
}

/// How many texts are remembered.
const UNMARKED: usize = 256;

/// What leads from one state to another.
pub(super) fn diff(
    doc: &Automerge,
    before: &[ChangeHash],
    after: &[ChangeHash],
    unmarked: &mut Unmarked,
) -> Vec<Patch> {
    if unmarked.heads != before || unmarked.texts.len() > UNMARKED {
        unmarked.texts.clear();
    }
    let mut convert = Convert { doc, before, after, fresh: BTreeSet::new(), texts: BTreeMap::new(), out: Vec::new() };
    for patch in doc.diff(before, after) {
        convert.take(patch);
    }
    let patches = convert.finish(unmarked);
    unmarked.heads = after.to_vec();
    patches
}

struct Convert<'d> {
    doc: &'d Automerge,
    before: &'d [ChangeHash],
    after: &'d [ChangeHash],
    /// Objects given whole.
    fresh: BTreeSet<ObjId>,
    /// Texts that change, and where in `out` their patch goes.
    texts: BTreeMap<ObjId, Text>,
    out: Vec<Patch>,
}

struct Text {
    slot: usize,
    composer: Composer,
    /// Something that is not a splice happened: compare the strings instead.
    odd: bool,
    marked: bool,
}

impl Convert<'_> {
    fn take(&mut self, patch: automerge::Patch) {
        let automerge::Patch { obj, path, action } = patch;
        if self.fresh.contains(&obj) || path.iter().any(|(obj, _)| self.fresh.contains(obj)) {
            return;
        }
        let at: At = path.iter().map(|(_, prop)| step(prop)).collect();
        if matches!(self.doc.object_type(&obj), Ok(ObjType::Text)) {
            return self.take_text(&obj, at, action);
        }
        let below = |last: Step| at.iter().cloned().chain([last]).collect::<At>();
        match action {
            PatchAction::PutMap { key, conflict: true, .. } if self.register(&obj, &key).is_some() => {
                self.show_register(&obj, &key, below(Step::Key(key.clone())));
            }
            PatchAction::PutMap { key, value, conflict } => self.put(below(Step::Key(key)), &value, conflict),
            PatchAction::PutSeq { index, value, conflict } => self.put(below(Step::Index(index)), &value, conflict),
            PatchAction::Insert { index, values } => {
                let mut slots = Vec::new();
                let mut more = Vec::new();
                for (offset, (value, id, conflict)) in values.iter().enumerate() {
                    let place = below(Step::Index(index + offset));
                    slots.push(self.read(value, id));
                    self.marks_within(value, id, &place, &mut more);
                    more.extend(conflict.then_some(Patch::Conflict { at: place }));
                }
                self.out.push(Patch::Insert { at: below(Step::Index(index)), values: slots });
                self.out.extend(more);
            }
            PatchAction::DeleteMap { key } => self.out.push(Patch::Delete { at: below(Step::Key(key)), count: 1 }),
            PatchAction::DeleteSeq { index, length } => {
                self.out.push(Patch::Delete { at: below(Step::Index(index)), count: length });
            }
            PatchAction::Increment { prop, value } => {
                self.out.push(Patch::Increment { at: below(step(&prop)), by: value });
            }
            PatchAction::Conflict { prop: Prop::Map(key) } => {
                self.show_register(&obj, &key, below(Step::Key(key.clone())));
            }
            PatchAction::Conflict { prop } => self.out.push(Patch::Conflict { at: below(step(&prop)) }),
            // Only texts are spliced and marked.
            PatchAction::SpliceText { .. } | PatchAction::Mark { .. } => {}
        }
    }

    fn put(&mut self, at: At, (value, id): &(automerge::Value<'static>, ObjId), conflict: bool) {
        let mut more = Vec::new();
        let read = self.read(value, id);
        self.marks_within(value, id, &at, &mut more);
        self.out.push(Patch::Put { at: at.clone(), value: read });
        self.out.extend(more);
        self.out.extend(conflict.then_some(Patch::Conflict { at }));
    }

    /// What a key with several values shows, if they are fenced registers.
    fn register(&self, obj: &ObjId, key: &str) -> Option<Value> {
        fenced::shown(self.doc, obj, key, Some(self.after))
    }

    /// A key has several values: which of them is shown is not Automerge's choice if they are fenced registers.
    fn show_register(&mut self, obj: &ObjId, key: &str, at: At) {
        self.out.extend(self.register(obj, key).map(|value| Patch::Put { at: at.clone(), value }));
        self.out.push(Patch::Conflict { at });
    }

    /// The whole value in the state after.
    fn read(&mut self, value: &automerge::Value<'static>, id: &ObjId) -> Value {
        match value {
            automerge::Value::Object(kind) => {
                self.fresh.insert(id.clone());
                value::read_object(self.doc, id, *kind, Some(self.after), MAX_DEPTH)
            }
            automerge::Value::Scalar(scalar) => value::from_scalar(scalar),
        }
    }

    /// Marks of texts inside a value that is given whole.
    fn marks_within(&self, value: &automerge::Value<'static>, id: &ObjId, at: &[Step], out: &mut Vec<Patch>) {
        let automerge::Value::Object(kind) = value else { return };
        let mut texts = Vec::new();
        marks::marked(self.doc, (id, *kind), Some(self.after), at, &mut texts);
        out.extend(texts.into_iter().map(|(at, marks)| {
            let marks = marks::between(&[], &marks, &[]);
            Patch::Text { at, edits: Vec::new(), marks }
        }));
    }

    fn take_text(&mut self, obj: &ObjId, at: At, action: PatchAction) {
        if !self.texts.contains_key(obj) {
            let before = self.doc.length_at(obj, self.before);
            let text = Text { slot: self.out.len(), composer: Composer::new(before), odd: false, marked: false };
            self.texts.insert(obj.clone(), text);
            self.out.push(Patch::Text { at, edits: Vec::new(), marks: Vec::new() });
        }
        let text = self.texts.get_mut(obj).expect("it has just been put in");
        match action {
            PatchAction::SpliceText { index, value, marks } => {
                text.marked |= marks.is_some_and(|marks| !marks.is_empty());
                text.composer.insert(index, units(&value.make_string()));
            }
            PatchAction::DeleteSeq { index, length } => text.composer.delete(index, length),
            PatchAction::Mark { .. } => text.marked = true,
            _ => text.odd = true,
        }
    }

    fn marks(&self, obj: &ObjId, heads: &[ChangeHash]) -> Vec<Mark> {
        self.doc.marks_at(obj, heads).unwrap_or_default().iter().map(from_mark).collect()
    }

    fn finish(mut self, unmarked: &mut Unmarked) -> Vec<Patch> {
        for (obj, text) in std::mem::take(&mut self.texts) {
            let done = if text.odd { self.compare(&obj) } else { text.composer.finish() };
            let before = if unmarked.texts.contains(&obj) { Vec::new() } else { self.marks(&obj, self.before) };
            let after = if before.is_empty() && !text.marked { Vec::new() } else { self.marks(&obj, self.after) };
            let wanted: Vec<MarkEdit> = marks::between(&before, &after, &done);
            if after.is_empty() {
                unmarked.texts.insert(obj);
            } else {
                unmarked.texts.remove(&obj);
            }
            if let Some(Patch::Text { edits, marks, .. }) = self.out.get_mut(text.slot) {
                (*edits, *marks) = (done, wanted);
            }
        }
        let says_something =
            |patch: &Patch| !matches!(patch, Patch::Text { edits, marks, .. } if edits.is_empty() && marks.is_empty());
        self.out.retain(says_something);
        self.out
    }

    fn compare(&self, obj: &ObjId) -> Vec<TextEdit> {
        let read = |heads| self.doc.text_at(obj, heads).unwrap_or_default();
        diff_text(&read(self.before), &read(self.after))
    }
}

fn step(prop: &Prop) -> Step {
    match prop {
        Prop::Map(key) => Step::Key(key.clone()),
        Prop::Seq(index) => Step::Index(*index),
    }
}
