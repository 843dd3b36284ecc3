//! Drafts of collaborative text.

use std::collections::BTreeMap;
use std::ops::Range;

use automerge::marks::{ExpandMark, Mark as AutomergeMark};
use automerge::transaction::Transactable;
use automerge::{ObjId, ReadDoc};

use super::{EditError, Op, Splice, Tx, Written, check_key, check_value, diff};
use crate::document::patch::TextEdit;
use crate::document::value::{Kind, Value, from_scalar, to_scalar};

/// Most bytes put in that count as a key press: what an input method puts in at once, and small pastes.
const KEYS: usize = 64;

/// Text inside an edit. All indexes are UTF-16 code units.
pub struct TextDraft<'d> {
    pub(in crate::document) tx: &'d mut Tx,
    pub(in crate::document) obj: ObjId,
}

/// Which insertions at the ends of a mark become part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expand {
    /// Those at its start.
    Before,
    /// Those at its end: what people expect of bold.
    #[default]
    After,
    /// Both.
    Both,
    /// Neither: what people expect of links.
    None,
}

/// A mark on a range of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// First code unit.
    pub from: usize,
    /// End, not included.
    pub to: usize,
    /// Its name, such as `bold`.
    pub name: String,
    /// Its value, a scalar.
    pub value: Value,
}

/// A run of text with the same marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Marks by name.
    pub marks: BTreeMap<String, Value>,
}

impl std::fmt::Display for TextDraft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.read())
    }
}

impl TextDraft<'_> {
    /// Length in UTF-16 code units.
    pub fn len(&self) -> usize {
        self.tx.ask(|tx| tx.length(&self.obj))
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> String {
        self.tx.ask(|tx| tx.text(&self.obj)).unwrap_or_default()
    }

    /// Replaces `range` by `insert`.
    pub fn splice(&mut self, range: Range<usize>, insert: &str) -> Result<(), EditError> {
        if range.end <= range.start {
            // Automerge itself inserts behind a pair that the index splits, and refuses an index past the end. Asking for
            // the length first would cost a walk over the whole text in an edit at older heads.
            let index = range.start;
            return match self.splice_settled(index, 0, insert) {
                Err(_) if index > self.len() => Err(EditError::OutOfRange { index, len: self.len() }),
                Ok(()) if insert.is_empty() && index > self.len() => {
                    Err(EditError::OutOfRange { index, len: self.len() })
                }
                spliced => spliced,
            };
        }
        let (from, width, element) = self.settle_at(range.start)?;
        // Right behind a single unit no pair is split.
        let to = if width == 1 && range.end == from + 1 { range.end } else { self.settle(range.end)?.0 };
        let removed = if to == from + width { element.as_ref().and_then(Op::of) } else { None };
        self.write(from, to.saturating_sub(from), insert, removed)
    }

    fn splice_settled(&mut self, from: usize, remove: usize, insert: &str) -> Result<(), EditError> {
        self.write(from, remove, insert, None)
    }

    /// Writes a splice; `removed`: the one element that it takes out, where that is known.
    fn write(&mut self, from: usize, remove: usize, insert: &str, removed: Option<Op>) -> Result<(), EditError> {
        if remove == 0 && insert.is_empty() {
            return Ok(());
        }
        let alone = self.follow(from, remove, insert, removed);
        let remove = isize::try_from(remove).map_err(|_| EditError::Full)?;
        self.tx.tell(|tx| tx.splice_text(&self.obj, from, remove, insert))?;
        if let Some(splice) = alone {
            self.tx.written = Written::Splice(splice);
        }
        Ok(())
    }

    /// A splice that is the first thing that the edit does, if it is a key press.
    fn follow(&self, at: usize, remove: usize, insert: &str, removed: Option<Op>) -> Option<Splice> {
        let Written::Nothing(caret) = &self.tx.written else { return None };
        let (behind, removed) = match (remove, removed) {
            (0, _) if insert.len() > KEYS => return None,
            (0, _) if at == 0 => (None, None),
            (0, _) => match caret {
                Some(caret) if caret.at == at && caret.text == self.obj => (Some(caret.behind.clone()), None),
                _ => {
                    let before = self.tx.ask(|tx| tx.get(&self.obj, at - 1).map(|found| found.map(|(_, id)| id)));
                    (Some(Op::of(&before.ok()??)?), None)
                }
            },
            (_, Some(removed)) if insert.is_empty() => (None, Some(removed)),
            _ => return None,
        };
        let text = Op::of(&self.obj)?;
        Some(Splice { id: self.obj.clone(), text, at, behind, inserted: insert.to_owned(), removed })
    }

    /// Appends.
    pub fn push(&mut self, insert: &str) -> Result<(), EditError> {
        let len = self.len();
        self.splice_settled(len, 0, insert)
    }

    /// Carries out several edits whose positions are all in the text before them, sorted and disjoint.
    pub fn edit(&mut self, edits: &[TextEdit]) -> Result<(), EditError> {
        let len = self.len();
        let mut end = 0;
        for edit in edits {
            if edit.from < end || edit.to < edit.from || edit.to > len {
                return Err(EditError::OutOfRange { index: edit.to.max(edit.from), len });
            }
            end = edit.to;
        }
        edits.iter().rev().try_for_each(|edit| self.splice(edit.from..edit.to, &edit.insert))
    }

    /// Makes the text equal to `next` with the smallest difference.
    pub fn update(&mut self, next: &str) -> Result<(), EditError> {
        let old = self.read();
        for edit in diff::text(&old, next).iter().rev() {
            self.splice_settled(edit.from, edit.to - edit.from, &edit.insert)?;
        }
        Ok(())
    }

    /// Marks a range. Marking with `Null` unmarks.
    pub fn mark(
        &mut self,
        range: Range<usize>,
        name: &str,
        value: impl Into<Value>,
        expand: Expand,
    ) -> Result<(), EditError> {
        check_key(name)?;
        let value = value.into();
        check_value(&value)?;
        let found = value.kind();
        let wrong = || EditError::WrongKind { at: name.into(), expected: Kind::Scalar, found };
        let scalar = to_scalar(&value).ok_or_else(wrong)?;
        let (from, to) = (self.settle(range.start)?.0, self.settle(range.end)?.0);
        if from >= to {
            return Ok(());
        }
        let expand = match expand {
            Expand::Before => ExpandMark::Before,
            Expand::After => ExpandMark::After,
            Expand::Both => ExpandMark::Both,
            Expand::None => ExpandMark::None,
        };
        Ok(self.tx.tell(|tx| tx.mark(&self.obj, AutomergeMark::new(name.to_owned(), scalar, from, to), expand))?)
    }

    /// Removes a mark from a range.
    pub fn unmark(&mut self, range: Range<usize>, name: &str) -> Result<(), EditError> {
        self.mark(range, name, Value::Null, Expand::None)
    }

    /// The marks as they stand in this edit.
    pub fn marks(&self) -> Result<Vec<Mark>, EditError> {
        Ok(self.tx.ask(|tx| tx.marks(&self.obj))?.iter().map(from_mark).collect())
    }

    /// An index inside a surrogate pair moves to its end; one past the end is refused. With it the width of the element
    /// that stands there, 0 at the end.
    fn settle(&self, index: usize) -> Result<(usize, usize), EditError> {
        self.settle_at(index).map(|(index, width, _)| (index, width))
    }

    /// [`TextDraft::settle`] with the id of that element.
    fn settle_at(&self, index: usize) -> Result<(usize, usize, Option<ObjId>), EditError> {
        let width_of = |value: &automerge::Value<'_>| value.as_str().map_or(1, |s| s.encode_utf16().count());
        let found = self.tx.ask(|tx| tx.get(&self.obj, index).map(|f| f.map(|(value, id)| (width_of(&value), id))))?;
        let Some((width, id)) = found else {
            let len = self.len();
            return if index <= len { Ok((index, 0, None)) } else { Err(EditError::OutOfRange { index, len }) };
        };
        if width < 2 {
            return Ok((index, width, Some(id)));
        }
        self.tx.ask(|tx| {
            // The element covers several units: find how many of them lie before the index.
            let mut start = index;
            while start > 0 && index - start < width {
                match tx.get(&self.obj, start - 1)? {
                    Some((_, before)) if before == id => start -= 1,
                    _ => break,
                }
            }
            Ok(if start == index { (index, width, Some(id)) } else { (start + width, 0, None) })
        })
    }
}

/// An Automerge mark as our own.
pub(in crate::document) fn from_mark(mark: &AutomergeMark) -> Mark {
    Mark { from: mark.start, to: mark.end, name: mark.name().to_owned(), value: from_scalar(mark.value()) }
}
