//! What the inverse of a span of changes consists of, read at the span's own heads.

use std::collections::BTreeMap;

use automerge::{Automerge, ChangeHash, ObjId, ObjType, PatchAction, Prop, ReadDoc};

use super::within;
use crate::document::edit::from_mark;
use crate::document::patch::{Composer, MarkEdit, Step, marks_between, units};
use crate::document::value::{MAX_DEPTH, Value, from_scalar, read_object};

/// One thing to do. Elements are named `counter@actor`.
#[derive(Debug)]
pub(super) enum Inverse {
    /// A text: runs to take out and to put back.
    Text { obj: ObjId, runs: Vec<Run<String>>, marks: Vec<MarkBack> },
    /// A list: elements to take out and to put back.
    List { obj: ObjId, runs: Vec<Run<Vec<Copied>>> },
    /// A key to set back. `absent`: the span had deleted it.
    Put { obj: ObjId, key: String, value: Copied, absent: bool },
    /// A key that the span made.
    Delete { obj: ObjId, key: String },
    /// An element to set back.
    PutElement { obj: ObjId, element: String, value: Copied },
    /// A counter under a key.
    Add { obj: ObjId, key: String, by: i64 },
    /// A counter in a list.
    AddElement { obj: ObjId, element: String, by: i64 },
}

/// A place where elements go and come.
#[derive(Debug)]
pub(super) struct Run<T> {
    /// The element before it, which the span left alone; `None`: the beginning.
    pub(super) after: Option<String>,
    /// Elements that the span inserted.
    pub(super) remove: Vec<String>,
    /// What the span deleted.
    pub(super) insert: T,
    /// The names that the inserted elements had.
    pub(super) names: Vec<String>,
}

/// A value to write again, and the object it was.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) value: Value,
    pub(super) was: Option<Was>,
}

/// The names inside an object that is written again.
#[derive(Debug)]
pub(super) struct Was {
    pub(super) obj: ObjId,
    /// Names of the elements of a text or list.
    pub(super) elements: Vec<String>,
    /// Objects inside, by key or index.
    pub(super) inside: Vec<(Step, Was)>,
}

/// Marks of a range to set back, from one element to another.
#[derive(Debug)]
pub(super) struct MarkBack {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) name: String,
    pub(super) value: Value,
}

/// The inverse of what leads from `base` to `tip`.
pub(super) fn invert(doc: &Automerge, tip: &[ChangeHash], base: &[ChangeHash], scope: &[Step]) -> Vec<Inverse> {
    let mut plan =
        Plan { doc, tip, base, out: Vec::new(), texts: BTreeMap::new(), lists: Vec::new(), fresh: Vec::new() };
    for patch in doc.diff(tip, base) {
        plan.take(patch, scope);
    }
    plan.finish()
}

struct Plan<'d> {
    doc: &'d Automerge,
    tip: &'d [ChangeHash],
    base: &'d [ChangeHash],
    out: Vec<Inverse>,
    texts: BTreeMap<ObjId, (Composer, bool)>,
    lists: Vec<ObjId>,
    /// Objects that are written again as a whole.
    fresh: Vec<ObjId>,
}

impl Plan<'_> {
    fn take(&mut self, patch: automerge::Patch, scope: &[Step]) {
        let automerge::Patch { obj, path, action } = patch;
        if self.fresh.contains(&obj) || path.iter().any(|(obj, _)| self.fresh.contains(obj)) {
            return;
        }
        let mut at: Vec<Step> = path.iter().map(|(_, prop)| step(prop)).collect();
        let own = match &action {
            PatchAction::PutMap { key, .. } | PatchAction::DeleteMap { key } => Some(Step::Key(key.clone())),
            PatchAction::PutSeq { index, .. } => Some(Step::Index(*index)),
            PatchAction::Increment { prop, .. } => Some(step(prop)),
            _ => None,
        };
        let whole = at.clone();
        at.extend(own);
        if !within(scope, &at) && !within(scope, &whole) {
            return;
        }
        match (self.kind(&obj), action) {
            (ObjType::Text, action) => self.take_text(obj, action),
            (_, PatchAction::PutMap { key, value, .. }) => {
                let absent = !matches!(self.doc.get_at(&obj, key.as_str(), self.tip), Ok(Some(_)));
                let value = self.copy(&value.0, &value.1);
                self.out.push(Inverse::Put { obj, key, value, absent });
            }
            (_, PatchAction::DeleteMap { key }) => self.out.push(Inverse::Delete { obj, key }),
            (_, PatchAction::PutSeq { index, value, .. }) => {
                if let Some(element) = self.doc.keys_at(&obj, self.base).nth(index) {
                    let value = self.copy(&value.0, &value.1);
                    self.out.push(Inverse::PutElement { obj, element, value });
                }
            }
            (_, PatchAction::Increment { prop: Prop::Map(key), value }) => {
                self.out.push(Inverse::Add { obj, key, by: value });
            }
            (_, PatchAction::Increment { prop: Prop::Seq(index), value }) => {
                if let Some(element) = self.doc.keys_at(&obj, self.base).nth(index) {
                    self.out.push(Inverse::AddElement { obj, element, by: value });
                }
            }
            (ObjType::List, PatchAction::Insert { values, .. }) => {
                self.fresh.extend(values.iter().filter(|(value, _, _)| value.is_object()).map(|(_, id, _)| id.clone()));
                self.list(obj);
            }
            (ObjType::List, PatchAction::DeleteSeq { .. }) => self.list(obj),
            _ => {}
        }
    }

    fn kind(&self, obj: &ObjId) -> ObjType {
        self.doc.object_type(obj).unwrap_or(ObjType::Map)
    }

    fn list(&mut self, obj: ObjId) {
        if !self.lists.contains(&obj) {
            self.lists.push(obj);
        }
    }

    fn take_text(&mut self, obj: ObjId, action: PatchAction) {
        let before = self.doc.length_at(&obj, self.tip);
        let (composer, marked) = self.texts.entry(obj).or_insert_with(|| (Composer::new(before), false));
        match action {
            PatchAction::SpliceText { index, value, marks } => {
                *marked |= marks.is_some_and(|marks| !marks.is_empty());
                composer.insert(index, units(&value.make_string()));
            }
            PatchAction::DeleteSeq { index, length } => composer.delete(index, length),
            PatchAction::Mark { .. } => *marked = true,
            _ => {}
        }
    }

    fn finish(mut self) -> Vec<Inverse> {
        for (obj, (composer, marked)) in std::mem::take(&mut self.texts) {
            let text = self.text(obj, composer, marked);
            self.out.push(text);
        }
        for obj in std::mem::take(&mut self.lists) {
            let list = self.list_runs(obj);
            self.out.push(list);
        }
        self.out
    }

    fn text(&self, obj: ObjId, composer: Composer, marked: bool) -> Inverse {
        let edits = composer.finish();
        let name =
            |at: usize, heads: &[ChangeHash]| self.doc.get_cursor(&obj, at, Some(heads)).ok().map(|c| c.to_string());
        let names = |range: std::ops::Range<usize>, heads| {
            let mut names: Vec<String> = range.filter_map(|at| name(at, heads)).collect();
            names.dedup(); // both halves of a pair are one element
            names
        };
        let marks = if marked {
            let marks =
                |heads| self.doc.marks_at(&obj, heads).unwrap_or_default().iter().map(from_mark).collect::<Vec<_>>();
            marks_between(&marks(self.tip), &marks(self.base), &edits)
        } else {
            Vec::new()
        };
        let mark_back = |mark: MarkEdit| {
            let (first, last) = (name(mark.from, self.base)?, name(mark.to.checked_sub(1)?, self.base)?);
            Some(MarkBack { first, last, name: mark.name, value: mark.value })
        };
        let marks = marks.into_iter().filter_map(mark_back).collect();
        let mut shift = 0isize;
        let mut runs = Vec::new();
        for edit in edits {
            let width = edit.insert.encode_utf16().count();
            let at = edit.from.saturating_add_signed(shift);
            runs.push(Run {
                after: edit.from.checked_sub(1).and_then(|before| name(before, self.tip)),
                remove: names(edit.from..edit.to, self.tip),
                names: names(at..at + width, self.base),
                insert: edit.insert,
            });
            shift += width as isize - (edit.to - edit.from) as isize;
        }
        Inverse::Text { obj, runs, marks }
    }

    /// Elements by name: those at the tip only go, those at the base only come back behind their neighbour.
    fn list_runs(&mut self, obj: ObjId) -> Inverse {
        let tip: Vec<String> = self.doc.keys_at(&obj, self.tip).collect();
        let base: Vec<String> = self.doc.keys_at(&obj, self.base).collect();
        let kept: BTreeMap<&str, usize> = tip.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let stays: std::collections::BTreeSet<&str> = base.iter().map(String::as_str).collect();
        let remove: Vec<String> = tip.iter().filter(|name| !stays.contains(name.as_str())).cloned().collect();
        let mut runs = vec![Run { after: None, remove, insert: Vec::new(), names: Vec::new() }];
        let mut after: Option<String> = None;
        let mut open = false;
        for (index, name) in base.iter().enumerate() {
            if kept.contains_key(name.as_str()) {
                (after, open) = (Some(name.clone()), false);
                continue;
            }
            if !open {
                runs.push(Run { after: after.clone(), remove: Vec::new(), insert: Vec::new(), names: Vec::new() });
                open = true;
            }
            let copied = match self.doc.get_at(&obj, index, self.base) {
                Ok(Some((value, id))) => self.copy(&value.into_owned(), &id),
                _ => Copied { value: Value::Null, was: None },
            };
            let run = runs.last_mut().expect("a run has just been begun");
            run.insert.push(copied);
            run.names.push(name.clone());
        }
        Inverse::List { obj, runs }
    }

    fn copy(&mut self, value: &automerge::Value<'_>, id: &ObjId) -> Copied {
        match value {
            automerge::Value::Object(kind) => {
                self.fresh.push(id.clone());
                let value = read_object(self.doc, id, *kind, Some(self.base), MAX_DEPTH);
                Copied { value, was: Some(self.names_in(id, *kind, MAX_DEPTH)) }
            }
            automerge::Value::Scalar(scalar) => Copied { value: from_scalar(scalar), was: None },
        }
    }

    fn names_in(&self, obj: &ObjId, kind: ObjType, left: usize) -> Was {
        let (mut elements, mut inside) = (Vec::new(), Vec::new());
        let Some(left) = left.checked_sub(1) else { return Was { obj: obj.clone(), elements, inside } };
        match kind {
            ObjType::Text => {
                let len = self.doc.length_at(obj, self.base);
                let names = (0..len).filter_map(|at| self.doc.get_cursor(obj, at, Some(self.base)).ok());
                elements = names.map(|cursor| cursor.to_string()).collect();
                elements.dedup();
            }
            ObjType::List => {
                elements = self.doc.keys_at(obj, self.base).collect();
                for item in self.doc.list_range_at(obj, .., self.base) {
                    if let automerge::ValueRef::Object(kind) = item.value {
                        inside.push((Step::Index(item.index), self.names_in(&item.id(), kind, left)));
                    }
                }
            }
            ObjType::Map | ObjType::Table => {
                for item in self.doc.map_range_at(obj, .., self.base) {
                    if let automerge::ValueRef::Object(kind) = item.value {
                        inside.push((Step::Key(item.key.to_string()), self.names_in(&item.id(), kind, left)));
                    }
                }
            }
        }
        Was { obj: obj.clone(), elements, inside }
    }
}

fn step(prop: &Prop) -> Step {
    match prop {
        Prop::Map(key) => Step::Key(key.clone()),
        Prop::Seq(index) => Step::Index(*index),
    }
}
