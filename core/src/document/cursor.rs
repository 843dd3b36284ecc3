//! Places between the characters of a text that survive edits.
//!
//! A cursor holds on to a character: the one before it or the one after it, as its [`Side`] says. Text typed exactly at
//! the cursor pushes it when it holds on to what follows, and not when it holds on to what precedes. When its character
//! is deleted the cursor stays in the gap. At the ends it holds on to the start or the end itself.
//!
//! As a string (`s`, `e`, `b12@<actor>`, `a12@<actor>`) a cursor can be sent to others, in presence for instance.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use automerge::{Automerge, ChangeHash as Theirs, Cursor as Element, ObjId, ReadDoc};

use super::edit::EditError;
use super::hot::{HotDocument, HotError, ObjectId, is_op_id};
use crate::id::ChangeHash;

/// Which neighbour a cursor holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// The character before: text typed at the cursor comes behind it.
    Before,
    /// The character after: text typed at the cursor pushes it.
    #[default]
    After,
}

/// A place between characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Anchor);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Anchor {
    Start,
    End,
    /// `counter@actor` of a character.
    Char {
        side: Side,
        id: String,
    },
}

/// Why text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Anchor::Start => f.write_str("s"),
            Anchor::End => f.write_str("e"),
            Anchor::Char { side: Side::Before, id } => write!(f, "b{id}"),
            Anchor::Char { side: Side::After, id } => write!(f, "a{id}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let side = match text.as_bytes() {
            b"s" => return Ok(Self(Anchor::Start)),
            b"e" => return Ok(Self(Anchor::End)),
            [b'b', ..] => Side::Before,
            [b'a', ..] => Side::After,
            _ => return Err(CursorError),
        };
        match is_op_id(&text[1..]) {
            true => Ok(Self(Anchor::Char { side, id: text[1..].to_owned() })),
            false => Err(CursorError),
        }
    }
}

impl HotDocument {
    /// A cursor at an index of a text, as the text is at `heads` or now. An index inside a surrogate pair moves to its
    /// end.
    pub fn cursor(
        &mut self,
        text: &ObjectId,
        index: usize,
        side: Side,
        heads: Option<&[ChangeHash]>,
    ) -> Result<Cursor, HotError> {
        let (obj, heads) = self.text_at(text, heads)?;
        self.guard(|doc| make(doc, &obj, index, side, heads.as_deref()))?.map_err(HotError::from)
    }

    /// Where cursors are, in the text as it is at `heads` or now; `None` for one whose character has not arrived here,
    /// or is of another text.
    pub fn locate(
        &mut self,
        text: &ObjectId,
        cursors: &[Cursor],
        heads: Option<&[ChangeHash]>,
    ) -> Result<Vec<Option<usize>>, HotError> {
        let (obj, heads) = self.text_at(text, heads)?;
        self.guard(|doc| cursors.iter().map(|cursor| find(doc, &obj, cursor, heads.as_deref())).collect())
    }

    fn text_at(
        &mut self,
        text: &ObjectId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<(ObjId, Option<Vec<Theirs>>), HotError> {
        let heads = match heads {
            Some(heads) => self.view_heads(heads)?,
            None => None,
        };
        Ok((self.object(text)?, heads))
    }
}

fn make(doc: &Automerge, obj: &ObjId, index: usize, side: Side, heads: Option<&[Theirs]>) -> Result<Cursor, EditError> {
    let len = match heads {
        Some(heads) => doc.length_at(obj, heads),
        None => doc.length(obj),
    };
    if index > len {
        return Err(EditError::OutOfRange { index, len });
    }
    let element = |at: usize| doc.get_cursor(obj, at, heads);
    let index = match index {
        0 => 0,
        _ if index == len => len,
        // Where the element over this index begins before it, the index is inside a pair.
        _ => match place(doc, obj, &element(index)?, heads) {
            Some(Place { start, width, .. }) if start < index => start + width,
            _ => index,
        },
    };
    Ok(Cursor(match side {
        Side::Before if index == 0 => Anchor::Start,
        Side::After if index == len => Anchor::End,
        Side::Before => Anchor::Char { side, id: element(index - 1)?.to_string() },
        Side::After => Anchor::Char { side, id: element(index)?.to_string() },
    }))
}

fn find(doc: &Automerge, obj: &ObjId, cursor: &Cursor, heads: Option<&[Theirs]>) -> Option<usize> {
    match &cursor.0 {
        Anchor::Start => Some(0),
        Anchor::End => Some(match heads {
            Some(heads) => doc.length_at(obj, heads),
            None => doc.length(obj),
        }),
        Anchor::Char { side, id } => {
            if !belongs(doc, obj, id) {
                return None;
            }
            let element = Element::try_from(id.as_str()).ok()?;
            let place = place(doc, obj, &element, heads).or_else(|| behind_all(doc, obj, id, heads?))?;
            Some(if *side == Side::Before && place.visible { place.start + place.width } else { place.start })
        }
    }
}

/// At old heads Automerge knows no place for a deleted element behind which everything is deleted too: it is the end.
fn behind_all(doc: &Automerge, obj: &ObjId, id: &str, heads: &[Theirs]) -> Option<Place> {
    let ObjId::Id(counter, actor, _) = ObjectId::from_str(id).ok()?.obj() else { return None };
    let made = doc.hash_for_opid(&ObjId::Id(counter, actor, 0))?;
    let floor = doc.get_change_meta_by_hash(&made)?.max_op;
    let (mut todo, mut seen) = (heads.to_vec(), BTreeSet::new());
    while let Some(hash) = todo.pop() {
        if hash == made {
            return Some(Place { start: doc.length_at(obj, heads), width: 0, visible: false });
        }
        if seen.insert(hash) {
            let meta = doc.get_change_meta_by_hash(&hash).filter(|meta| meta.max_op > floor);
            todo.extend(meta.into_iter().flat_map(|meta| meta.deps));
        }
    }
    None
}

/// Whether an element is one of this text. Asked before Automerge is, which panics over an element of another object, and
/// cursors come from strangers. Costs a walk over the operations of the change that made the element.
fn belongs(doc: &Automerge, obj: &ObjId, id: &str) -> bool {
    let owner = || {
        let ObjId::Id(counter, actor, _) = ObjectId::from_str(id).ok()?.obj() else { return None };
        let hash = doc.hash_for_opid(&ObjId::Id(counter, actor, 0))?;
        let change = doc.get_change_by_hash(&hash)?;
        let nth = usize::try_from(counter.checked_sub(change.start_op().get())?).ok()?;
        Some(change.decode().operations.get(nth)?.obj.clone())
    };
    match (owner(), obj) {
        (Some(automerge::legacy::ObjectId::Id(owner)), ObjId::Id(counter, actor, _)) => {
            owner.counter() == *counter && owner.actor() == actor
        }
        _ => false,
    }
}

/// Where an element is, or was: then `start` is the gap it left.
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) width: usize,
    pub(super) visible: bool,
}

/// The place of an element of a text; `None` if it is not known.
pub(super) fn place<D: ReadDoc>(doc: &D, obj: &ObjId, element: &Element, heads: Option<&[Theirs]>) -> Option<Place> {
    let start = doc.get_cursor_position(obj, element, heads).ok()?;
    let visible = doc.get_cursor(obj, start, heads).is_ok_and(|there| there == *element);
    let value = match (visible, heads) {
        (false, _) => None,
        (true, Some(heads)) => doc.get_at(obj, start, heads).ok().flatten(),
        (true, None) => doc.get(obj, start).ok().flatten(),
    };
    let width = value.map_or(0, |(value, _)| value.as_str().map_or(1, |s| s.encode_utf16().count()));
    Some(Place { start, width, visible })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::hot::tests::Desk;

    fn body(desk: &mut Desk) -> ObjectId {
        desk.hot.object_id(&["body".into()]).unwrap().unwrap()
    }

    #[test]
    fn cursors_survive_edits_of_others() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        let base = a.edit(|d| d.text("body")?.push("hello 😀 world"));
        b.take(&[&base]);
        let text = body(&mut a);
        let mut at = |index, side| a.hot.cursor(&text, index, side, None).unwrap();
        let cursors = [
            at(0, Side::Before),
            at(6, Side::Before),
            at(6, Side::After),
            at(7, Side::After), // inside the pair: its end
            at(14, Side::After),
            at(14, Side::Before),
        ];
        let cursors: Vec<Cursor> = cursors.iter().map(|cursor| cursor.to_string().parse().unwrap()).collect();
        assert_eq!(a.hot.locate(&text, &cursors, None).unwrap(), [0, 6, 6, 8, 14, 14].map(Some));
        let seen = a.hot.heads().unwrap();
        let theirs = b.edit(|d| {
            let mut body = d.text("body")?;
            body.push("!!")?;
            body.splice(6..6, "XX")?;
            body.splice(0..0, ">")
        });
        a.take(&[&theirs]);
        assert_eq!(a.text(), ">hello XX😀 world!!");
        assert_eq!(a.hot.locate(&text, &cursors, None).unwrap(), [0, 7, 9, 11, 19, 17].map(Some));
        assert_eq!(a.hot.locate(&text, &cursors, Some(&seen)).unwrap(), [0, 6, 6, 8, 14, 14].map(Some));
        a.edit(|d| d.text("body")?.splice(3..12, ""));
        assert_eq!(a.text(), ">heworld!!");
        assert_eq!(a.hot.locate(&text, &cursors, None).unwrap(), [0, 3, 3, 3, 10, 8].map(Some));
    }

    #[test]
    fn a_cursor_of_a_character_that_is_not_here_is_nowhere() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        let base = a.edit(|d| d.text("body")?.push("ab"));
        b.take(&[&base]);
        let text = body(&mut b);
        b.edit(|d| d.text("body")?.push("c"));
        let cursor = b.hot.cursor(&text, 3, Side::Before, None).unwrap();
        assert_eq!(a.hot.locate(&text, &[cursor], None).unwrap(), [None]);
        assert!(matches!(b.hot.cursor(&text, 9, Side::After, None), Err(HotError::Edit(EditError::OutOfRange { .. }))));
    }

    #[test]
    fn a_cursor_behind_deleted_text_is_at_the_end() {
        let mut a = Desk::new(1);
        a.edit(|d| d.text("body")?.push("abcd"));
        let text = body(&mut a);
        let early = a.hot.heads().unwrap();
        let cursors = [Side::Before, Side::After].map(|side| a.hot.cursor(&text, 3, side, None).unwrap());
        a.edit(|d| d.text("body")?.splice(2..4, ""));
        let seen = a.hot.heads().unwrap();
        assert_eq!(a.hot.locate(&text, &cursors, None).unwrap(), [Some(2), Some(2)]);
        a.edit(|d| d.text("body")?.push("Z"));
        assert_eq!(a.hot.locate(&text, &cursors, Some(&seen)).unwrap(), [Some(2), Some(2)]);
        let end = a.hot.cursor(&text, 3, Side::Before, None).unwrap();
        assert_eq!(a.hot.locate(&text, &[end], Some(&early)).unwrap(), [None], "not typed yet");
    }

    #[test]
    fn a_cursor_of_another_text_is_nowhere_and_does_no_harm() {
        let mut a = Desk::new(1);
        a.edit(|d| {
            d.text("body")?.push("ab")?;
            d.put("other", crate::document::Value::text("xy"))
        });
        let other = a.hot.object_id(&["other".into()]).unwrap().unwrap();
        let (text, cursor) = (body(&mut a), a.hot.cursor(&other, 1, Side::After, None).unwrap());
        let map_key: Cursor = format!("a{}", a.hot.object_id(&["meta".into()]).unwrap().unwrap()).parse().unwrap();
        assert_eq!(a.hot.locate(&text, &[cursor.clone(), map_key], None).unwrap(), [None, None]);
        assert_eq!(a.hot.locate(&other, &[cursor], None).unwrap(), [Some(1)]);
    }

    #[test]
    fn malformed_cursors_are_refused() {
        for bad in ["", "x", "b", "b@", "b1@", "b@00", "b1@0", "bx@00", "a1@zz", "a99999999999@00", "é1@00", "a-1@00"]
        {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad}");
        }
    }
}
