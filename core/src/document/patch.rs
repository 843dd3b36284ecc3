//! What changed between two states of a document, as data a program can apply to its own copy.
//!
//! Patches come from Automerge's diff by operation identity, so a text edit says what was typed, not what a comparison
//! of two strings guesses. They are put in the form editors want: one [`Patch::Text`] for each text with all positions in
//! the text *before*, sorted and disjoint, and whole values where something new appears.
//!
//! **Invariant.** Applied in order to the value at the first heads they give exactly the value at the second
//! ([`apply`] is that function). Marks are kept exact in the same way: insertions carry no mark until a mark edit of the
//! same patch says so.

mod compose;
mod convert;
mod marks;
#[cfg(test)]
mod tests;

use serde_json::{Value as Json, json};

pub(super) use compose::{Composer, units};
pub(super) use convert::Unmarked;
pub(super) use marks::{between as marks_between, marked};

use super::hot::{HotDocument, HotError, their_hash};
use super::value::Value;
use crate::id::ChangeHash;

/// One replacement in a text. Positions are UTF-16 code units of the text before; several of one batch are sorted and
/// disjoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEdit {
    /// First code unit that goes.
    pub from: usize,
    /// End of what goes, not included.
    pub to: usize,
    /// What comes in its place.
    pub insert: String,
}

/// A mark that appears on a range of text, or goes when the value is `Null`. Positions are UTF-16 code units of the text
/// after the edits of the same patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkEdit {
    /// First code unit.
    pub from: usize,
    /// End, not included.
    pub to: usize,
    /// The mark's name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// One step of the way from the root to a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A key of a map.
    Key(String),
    /// An index of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// The way from the root to a place.
pub type At = Vec<Step>;

/// One change to a value. Patches of one batch apply in order, each to what the one before left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Patch {
    /// A key or an element has a new value.
    Put {
        /// The place.
        at: At,
        /// All of its value.
        value: Value,
    },
    /// A key, or elements from an index on, are gone.
    Delete {
        /// The key, or the first element.
        at: At,
        /// How many elements; 1 for a key.
        count: usize,
    },
    /// Elements appear before an index.
    Insert {
        /// The index.
        at: At,
        /// The elements.
        values: Vec<Value>,
    },
    /// A counter moved.
    Increment {
        /// The counter.
        at: At,
        /// By how much.
        by: i64,
    },
    /// A text changed.
    Text {
        /// The text.
        at: At,
        /// Replacements, in positions of the text before.
        edits: Vec<TextEdit>,
        /// Marks, in positions of the text after.
        marks: Vec<MarkEdit>,
    },
    /// A place has several values written concurrently now; see [`HotDocument::conflicts`].
    Conflict {
        /// The place.
        at: At,
    },
}

/// Why a patch does not apply to a value: the value is not the one that the patches start from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("patch {index} does not fit the value it is applied to")]
pub struct PatchError {
    /// Which patch.
    pub index: usize,
}

impl Patch {
    /// The place it is about.
    pub fn at(&self) -> &[Step] {
        match self {
            Patch::Put { at, .. }
            | Patch::Delete { at, .. }
            | Patch::Insert { at, .. }
            | Patch::Increment { at, .. }
            | Patch::Text { at, .. }
            | Patch::Conflict { at } => at,
        }
    }

    /// Whether it says something about the place `scope` or what is below: it lies there, or replaces, shifts or removes
    /// something above.
    pub fn touches(&self, scope: &[Step]) -> bool {
        let at = self.at();
        if at.starts_with(scope) || scope.starts_with(at) {
            return true;
        }
        // Elements that come or go before the scope's own index move it.
        match (self, at.split_last()) {
            (Patch::Insert { .. } | Patch::Delete { .. }, Some((Step::Index(index), parent))) => {
                matches!((scope.starts_with(parent), scope.get(parent.len())), (true, Some(Step::Index(own))) if index <= own)
            }
            _ => false,
        }
    }

    /// The patch as JSON, in the shape of the JavaScript package.
    pub fn to_json(&self) -> Json {
        let at: Vec<Json> = self
            .at()
            .iter()
            .map(|step| match step {
                Step::Key(key) => Json::from(key.as_str()),
                Step::Index(index) => Json::from(*index),
            })
            .collect();
        match self {
            Patch::Put { value, .. } => json!({"action": "put", "at": at, "value": value.to_json()}),
            Patch::Delete { count, .. } => json!({"action": "delete", "at": at, "count": count}),
            Patch::Insert { values, .. } => {
                json!({"action": "insert", "at": at, "values": values.iter().map(Value::to_json).collect::<Vec<_>>()})
            }
            Patch::Increment { by, .. } => json!({"action": "increment", "at": at, "by": by}),
            Patch::Text { edits, marks, .. } => {
                let edits = edits.iter().map(|e| json!({"from": e.from, "to": e.to, "insert": e.insert}));
                let marks = marks
                    .iter()
                    .map(|m| json!({"from": m.from, "to": m.to, "name": m.name, "value": m.value.to_json()}));
                json!({"action": "text", "at": at, "edits": edits.collect::<Vec<_>>(), "marks": marks.collect::<Vec<_>>()})
            }
            Patch::Conflict { .. } => json!({"action": "conflict", "at": at}),
        }
    }
}

impl HotDocument {
    /// What leads from the value at `from` to the value at `to`. Neither has to be earlier than the other.
    pub fn diff(&mut self, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<Patch>, HotError> {
        let before = self.heads_for_diff(from)?;
        let after = self.heads_for_diff(to)?;
        if before == after {
            return Ok(Vec::new());
        }
        let mut unmarked = std::mem::take(&mut self.unmarked);
        let patches = self.guard(|doc| convert::diff(doc, &before, &after, &mut unmarked))?;
        self.unmarked = unmarked;
        Ok(patches)
    }

    /// What leads from the value at `heads`, which a watcher has seen, to the present value.
    pub fn patches_since(&mut self, heads: &[ChangeHash]) -> Result<Vec<Patch>, HotError> {
        let now = self.heads()?;
        match self.diff(heads, &now) {
            Err(HotError::UnknownHeads { hash }) => {
                self.patches_across(heads, &now)?.ok_or(HotError::UnknownHeads { hash })
            }
            patches => patches,
        }
    }

    /// What leads from heads that were taken out of the document to the present ones; `None` if they are not known.
    fn patches_across(&mut self, heads: &[ChangeHash], now: &[ChangeHash]) -> Result<Option<Vec<Patch>>, HotError> {
        let Some(all) = self.with_former()? else { return Ok(None) };
        let layers: Vec<ChangeHash> = self.template().layers().map(|(hash, _)| hash).collect();
        let view = |heads: &[ChangeHash]| heads.iter().chain(&layers).map(their_hash).collect::<Vec<_>>();
        let (before, after) = (view(heads), view(now));
        let known = |hash: &automerge::ChangeHash| all.get_change_meta_by_hash(hash).is_some();
        if !before.iter().chain(&after).all(known) {
            return Ok(None);
        }
        let mut unmarked = Unmarked::default();
        self.guard(|_| convert::diff(&all, &before, &after, &mut unmarked)).map(Some)
    }

    /// [`HotDocument::patches_since`] for who watches a part: only what [touches](Patch::touches) it.
    pub fn patches_within(&mut self, scope: &[Step], heads: &[ChangeHash]) -> Result<Vec<Patch>, HotError> {
        let mut patches = self.patches_since(heads)?;
        patches.retain(|patch| patch.touches(scope));
        Ok(patches)
    }

    /// Automerge's heads of a view: the template's layers always included.
    pub(super) fn heads_for_diff(&mut self, heads: &[ChangeHash]) -> Result<Vec<automerge::ChangeHash>, HotError> {
        match self.view_heads(heads)? {
            Some(heads) => Ok(heads),
            None => {
                let now = self.heads()?;
                let layers: Vec<ChangeHash> = self.template().layers().map(|(hash, _)| hash).collect();
                Ok(now.iter().copied().chain(layers).map(|hash| their_hash(&hash)).collect())
            }
        }
    }
}

/// Applies patches to a value, in order. Marks and conflicts are not part of a [`Value`] and pass.
pub fn apply(value: &mut Value, patches: &[Patch]) -> Result<(), PatchError> {
    for (index, patch) in patches.iter().enumerate() {
        apply_one(value, patch).ok_or(PatchError { index })?;
    }
    Ok(())
}

fn apply_one(root: &mut Value, patch: &Patch) -> Option<()> {
    let parent = |root, at: &[Step]| -> Option<(&mut Value, Step)> {
        let (last, path) = at.split_last()?;
        Some((descend(root, path)?, last.clone()))
    };
    match patch {
        Patch::Conflict { .. } => {}
        Patch::Put { at, value } => match parent(root, at)? {
            (Value::Map(map), Step::Key(key)) => drop(map.insert(key, value.clone())),
            (Value::List(list), Step::Index(index)) => *list.get_mut(index)? = value.clone(),
            _ => return None,
        },
        Patch::Delete { at, count } => match parent(root, at)? {
            (Value::Map(map), Step::Key(key)) => drop(map.remove(&key)?),
            (Value::List(list), Step::Index(index)) if index + count <= list.len() => {
                drop(list.drain(index..index + count));
            }
            _ => return None,
        },
        Patch::Insert { at, values } => match parent(root, at)? {
            (Value::List(list), Step::Index(index)) if index <= list.len() => {
                drop(list.splice(index..index, values.iter().cloned()));
            }
            _ => return None,
        },
        Patch::Increment { at, by } => match descend(root, at)? {
            Value::Counter(n) => *n = n.wrapping_add(*by),
            _ => return None,
        },
        Patch::Text { at, edits, .. } => match descend(root, at)? {
            Value::Text(text) => *text = edit_text(text, edits)?,
            _ => return None,
        },
    }
    Some(())
}

fn descend<'v>(root: &'v mut Value, at: &[Step]) -> Option<&'v mut Value> {
    at.iter().try_fold(root, |value, step| match (value, step) {
        (Value::Map(map), Step::Key(key)) => map.get_mut(key),
        (Value::List(list), Step::Index(index)) => list.get_mut(*index),
        _ => None,
    })
}

/// The text after some edits; `None` if they are not sorted, disjoint and inside.
pub fn edit_text(text: &str, edits: &[TextEdit]) -> Option<String> {
    let before: Vec<u16> = text.encode_utf16().collect();
    let (mut after, mut at) = (Vec::with_capacity(before.len()), 0);
    for edit in edits {
        after.extend_from_slice(before.get(at..edit.from)?);
        after.extend(edit.insert.encode_utf16());
        at = edit.to;
    }
    after.extend_from_slice(before.get(at..)?);
    String::from_utf16(&after).ok()
}
