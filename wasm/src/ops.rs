//! Edits of a page as data.
//!
//! A page edits its own copy of a document at once and sends what it did. Places are ways from the root *in the state in
//! which that page saw the document*; the edit is made at exactly those heads, so a place can mean nothing else there, and
//! objects that the same edit made need no names.
//!
//! Everything in here came from a page: it is checked against the document, and what does not fit is an error.

use foreshore::document::edit::{Expand, ListDraft, MapDraft};
use foreshore::document::value::{Kind, Value};
use foreshore::document::{EditError, Step, TextDraft, TextEdit};
use serde::Deserialize;
use serde_json::Value as Json;

/// Most operations of one edit. A paste of a long list is one operation.
pub const MAX_OPS: usize = 100_000;

/// Largest single value of bytes.
pub const MAX_BYTES_VALUE: usize = 64 * 1024;

/// One step of a way, as JSON has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum At {
    /// An index of a list.
    Index(usize),
    /// A key of a map.
    Key(String),
}

/// The way as the library writes it.
pub fn way(at: &[At]) -> Vec<Step> {
    let step = |step: &At| match step {
        At::Index(index) => Step::Index(*index),
        At::Key(key) => Step::Key(key.clone()),
    };
    at.iter().map(step).collect()
}

/// A replacement in a text.
#[derive(Debug, Clone, Deserialize)]
pub struct Replace {
    /// First code unit that goes.
    pub from: usize,
    /// End of what goes, not included.
    pub to: usize,
    /// What comes in its place.
    pub insert: String,
}

/// One thing that a page did.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "o", rename_all = "lowercase")]
pub enum Op {
    /// Sets a key, or replaces an element.
    Put {
        /// Where.
        at: Vec<At>,
        /// Tagged JSON.
        v: Json,
    },
    /// Removes a key, or elements.
    Del {
        /// The key, or the first element.
        at: Vec<At>,
        /// How many elements.
        n: Option<usize>,
    },
    /// Inserts elements.
    Ins {
        /// Before this index.
        at: Vec<At>,
        /// Tagged JSON.
        vs: Vec<Json>,
    },
    /// Adds to a counter.
    Inc {
        /// The counter.
        at: Vec<At>,
        /// How much.
        by: i64,
    },
    /// Sets a fenced register under the token of a lock.
    Fence {
        /// The register.
        at: Vec<At>,
        /// The token.
        token: u64,
        /// Tagged JSON.
        v: Json,
    },
    /// Edits a text.
    Text {
        /// The text.
        at: Vec<At>,
        /// In positions of the text before, sorted and disjoint.
        edits: Vec<Replace>,
    },
    /// Marks a range of a text; a null value unmarks.
    Mark {
        /// The text.
        at: Vec<At>,
        /// First code unit.
        from: usize,
        /// End, not included.
        to: usize,
        /// The mark's name.
        name: String,
        /// Tagged JSON.
        value: Json,
        /// Which insertions at its ends join it.
        expand: Option<String>,
    },
}

/// Makes a page's edit.
///
/// # Errors
/// An operation does not fit the document; nothing of the edit may be kept then.
pub fn apply(root: &mut MapDraft<'_>, ops: &[Op]) -> Result<(), EditError> {
    if ops.len() > MAX_OPS {
        return Err(EditError::TooLarge { what: "an edit", bytes: ops.len(), max: MAX_OPS });
    }
    ops.iter().try_for_each(|op| apply_one(root, op))
}

fn apply_one(root: &mut MapDraft<'_>, op: &Op) -> Result<(), EditError> {
    match op {
        Op::Put { at, v } => {
            let value = value(v)?;
            holder(root, at, |holder, last| match (holder, last) {
                (Holder::Map(mut map), At::Key(key)) => map.put(key, value),
                (Holder::List(mut list), At::Index(index)) => list.put(*index, value),
                (holder, last) => Err(holder.wrong(last)),
            })
        }
        Op::Del { at, n } => holder(root, at, |holder, last| match (holder, last) {
            (Holder::Map(mut map), At::Key(key)) => map.delete(key).map(drop),
            (Holder::List(mut list), At::Index(index)) => list.splice(*index..index.saturating_add(n.unwrap_or(1)), []),
            (holder, last) => Err(holder.wrong(last)),
        }),
        Op::Ins { at, vs } => {
            let values = vs.iter().map(value).collect::<Result<Vec<_>, _>>()?;
            holder(root, at, |holder, last| match (holder, last) {
                (Holder::List(mut list), At::Index(index)) => list.splice(*index..*index, values),
                (holder, last) => Err(holder.wrong(last)),
            })
        }
        Op::Inc { at, by } => holder(root, at, |holder, last| match (holder, last) {
            (Holder::Map(mut map), At::Key(key)) => map.counter(key)?.add(*by),
            (Holder::List(mut list), At::Index(index)) => list.counter(*index)?.add(*by),
            (holder, last) => Err(holder.wrong(last)),
        }),
        Op::Fence { at, token, v } => {
            let value = value(v)?;
            holder(root, at, |holder, last| match (holder, last) {
                (Holder::Map(mut map), At::Key(key)) => map.put_fenced(key, value, *token),
                (holder, last) => Err(holder.wrong(last)),
            })
        }
        Op::Text { at, edits } => {
            let edit = |e: &Replace| TextEdit { from: e.from, to: e.to, insert: e.insert.clone() };
            let edits: Vec<TextEdit> = edits.iter().map(edit).collect();
            text(root, at, |text| text.edit(&edits))
        }
        Op::Mark { at, from, to, name, value: v, expand } => {
            let value = value(v)?;
            let expand = match expand.as_deref() {
                Some("before") => Expand::Before,
                Some("both") => Expand::Both,
                Some("none") => Expand::None,
                _ => Expand::After,
            };
            text(root, at, |text| text.mark(*from..(*to).max(*from), name, value, expand))
        }
    }
}

/// Something that holds other things.
enum Holder<'d> {
    Map(MapDraft<'d>),
    List(ListDraft<'d>),
}

impl Holder<'_> {
    /// A key was used on a list, or an index on a map.
    fn wrong(&self, last: &At) -> EditError {
        let (at, expected) = match last {
            At::Key(key) => (key.clone(), Kind::Map),
            At::Index(index) => (index.to_string(), Kind::List),
        };
        let found = if matches!(self, Holder::Map(_)) { Kind::Map } else { Kind::List };
        EditError::WrongKind { at, expected, found }
    }

    /// Whether a map or a list lies at a step, which must exist.
    fn kind(&self, step: &At) -> Result<Kind, EditError> {
        let (at, kind) = match (self, step) {
            (Holder::Map(map), At::Key(key)) => (key.clone(), map.kind(key)?),
            (Holder::List(list), At::Index(index)) => (index.to_string(), list.kind(*index)?),
            (holder, step) => return Err(holder.wrong(step)),
        };
        kind.ok_or(EditError::NotFound { at })
    }
}

/// Runs `act` on what holds the last step of a way, which is no longer than values are deep.
fn holder<R>(
    root: &mut MapDraft<'_>,
    at: &[At],
    act: impl FnOnce(Holder<'_>, &At) -> Result<R, EditError>,
) -> Result<R, EditError> {
    let Some((last, way)) = at.split_last() else { return Err(EditError::NotFound { at: "the root".into() }) };
    if way.len() > foreshore::document::value::MAX_DEPTH {
        return Err(EditError::TooDeep { max: foreshore::document::value::MAX_DEPTH });
    }
    walk(Holder::Map(root.reborrow()), way, |holder| act(holder, last))
}

/// Drafts borrow from each other, so the way is walked by recursion.
fn walk<R, F: FnOnce(Holder<'_>) -> Result<R, EditError>>(
    mut here: Holder<'_>,
    way: &[At],
    act: F,
) -> Result<R, EditError> {
    let Some((step, rest)) = way.split_first() else { return act(here) };
    let kind = here.kind(step)?;
    match (&mut here, kind, step) {
        (Holder::Map(map), Kind::Map, At::Key(key)) => walk(Holder::Map(map.map(key)?), rest, act),
        (Holder::Map(map), Kind::List, At::Key(key)) => walk(Holder::List(map.list(key)?), rest, act),
        (Holder::List(list), Kind::Map, At::Index(index)) => walk(Holder::Map(list.map(*index)?), rest, act),
        (Holder::List(list), Kind::List, At::Index(index)) => walk(Holder::List(list.list(*index)?), rest, act),
        (_, found, step) => Err(not_a_holder(step, found)),
    }
}

fn not_a_holder(step: &At, found: Kind) -> EditError {
    let at = match step {
        At::Key(key) => key.clone(),
        At::Index(index) => index.to_string(),
    };
    EditError::WrongKind { at, expected: Kind::Map, found }
}

/// Runs `act` on the text at a place.
fn text(
    root: &mut MapDraft<'_>,
    at: &[At],
    act: impl FnOnce(&mut TextDraft<'_>) -> Result<(), EditError>,
) -> Result<(), EditError> {
    holder(root, at, |holder, last| {
        match holder.kind(last)? {
            Kind::Text => {}
            found => return Err(EditError::WrongKind { at: "the text".into(), expected: Kind::Text, found }),
        }
        match (holder, last) {
            (Holder::Map(mut map), At::Key(key)) => act(&mut map.text(key)?),
            (Holder::List(mut list), At::Index(index)) => act(&mut list.text(*index)?),
            (holder, last) => Err(holder.wrong(last)),
        }
    })
}

fn value(json: &Json) -> Result<Value, EditError> {
    let value = Value::from_json(json)?;
    match &value {
        Value::Bytes(bytes) if bytes.len() > MAX_BYTES_VALUE => {
            Err(EditError::TooLarge { what: "bytes", bytes: bytes.len(), max: MAX_BYTES_VALUE })
        }
        _ => Ok(value),
    }
}
