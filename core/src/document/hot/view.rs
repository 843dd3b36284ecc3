//! Reading parts of a hot document without copying all of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use automerge::{Automerge, ObjId, ObjType, Prop, ROOT, ReadDoc};

use super::apply::panic_text;
use super::{HotDocument, HotError};
use crate::document::edit::{EditError, Mark, Span, from_mark, object_kind, parse_pointer};
use crate::document::fenced::{self, Fenced};
use crate::document::patch::{At, Step, marked};
use crate::document::value::{self, Kind, MAX_DEPTH, Value};
use crate::error::IdError;
use crate::id::{Actor, ChangeHash};

/// One object of a document, for reading: a map (the root is one), a list or a text.
pub struct View<'d> {
    doc: Watched<'d>,
    heads: Option<&'d [automerge::ChangeHash]>,
    obj: ObjId,
    kind: ObjType,
}

/// A document under a program's closure. `inside` tells a panic of Automerge, which means that the object is broken, from
/// one of the program, which is its own business.
#[derive(Clone, Copy)]
struct Watched<'d> {
    doc: &'d Automerge,
    inside: &'d Cell<bool>,
}

impl<'d> Watched<'d> {
    fn ask<R>(self, f: impl FnOnce(&'d Automerge) -> R) -> R {
        self.inside.set(true);
        let result = f(self.doc);
        self.inside.set(false);
        result
    }
}

/// Names an object of a document, wherever it moves. Survives as a string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(String);

impl ObjectId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Automerge's id of the name, to be looked up in a document.
    pub(in crate::document) fn obj(&self) -> ObjId {
        match self.0.split_once('@').and_then(|(counter, actor)| Some((counter.parse().ok()?, actor.try_into().ok()?)))
        {
            // The index of the actor is a hint that a document checks.
            Some((counter, actor)) => ObjId::Id(counter, actor, 0),
            None => ROOT,
        }
    }

    pub(in crate::document) fn of(obj: &ObjId) -> Self {
        Self(obj.to_string())
    }
}

impl std::str::FromStr for ObjectId {
    type Err = IdError;

    /// Whether a document has such an object shows when it is used.
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text == "_root" || is_op_id(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::Encoding),
        }
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether text is `counter@actor` with an actor in hexadecimal, as Automerge writes operation ids.
pub(in crate::document) fn is_op_id(text: &str) -> bool {
    text.split_once('@').is_some_and(|(counter, actor)| {
        (1..=10).contains(&counter.len())
            && counter.bytes().all(|b| b.is_ascii_digit())
            && (2..=2 * Actor::MAX_LEN).contains(&actor.len())
            && actor.len().is_multiple_of(2)
            && actor.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// The object and the last step of a way from the root.
pub(in crate::document) fn resolve<D: ReadDoc>(doc: &D, at: &[Step]) -> Option<(ObjId, Prop)> {
    let (last, path) = at.split_last()?;
    let mut obj = ROOT;
    for step in path {
        match doc.get(&obj, prop(step)).ok()?? {
            (automerge::Value::Object(_), id) => obj = id,
            _ => return None,
        }
    }
    Some((obj, prop(last)))
}

fn prop(step: &Step) -> Prop {
    match step {
        Step::Key(key) => Prop::from(key.as_str()),
        Step::Index(index) => Prop::from(*index),
    }
}

impl HotDocument {
    /// The name of the object at a place; `None` if there is none.
    pub fn object_id(&mut self, at: &[Step]) -> Result<Option<ObjectId>, HotError> {
        self.ready()?;
        self.guard(|doc| {
            let Some((obj, prop)) = resolve(doc, at) else { return at.is_empty().then(|| ObjectId::of(&ROOT)) };
            match doc.get(&obj, prop).ok()?? {
                (automerge::Value::Object(_), id) => Some(ObjectId::of(&id)),
                _ => None,
            }
        })
    }

    /// Reads one object by its name, at `heads` or now.
    pub fn read_object<R>(
        &mut self,
        object: &ObjectId,
        heads: Option<&[ChangeHash]>,
        f: impl FnOnce(&View<'_>) -> R,
    ) -> Result<R, HotError> {
        let heads = match heads {
            Some(heads) => self.view_heads(heads)?,
            None => None,
        };
        let obj = self.object(object)?;
        self.view(heads.as_deref(), obj, f)
    }

    /// Runs a program's closure on one object. A panic of Automerge discards the document, one of the program goes on.
    fn view<R>(
        &mut self,
        heads: Option<&[automerge::ChangeHash]>,
        obj: ObjId,
        f: impl FnOnce(&View<'_>) -> R,
    ) -> Result<R, HotError> {
        let inside = Cell::new(false);
        let doc = Watched { doc: self.ready()?, inside: &inside };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let kind = doc.ask(|doc| doc.object_type(&obj).unwrap_or(ObjType::Map));
            f(&View { doc, heads, obj, kind })
        }));
        match outcome {
            Ok(result) => Ok(result),
            Err(panic) if inside.get() => Err(self.quarantine(panic_text(&*panic))),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Automerge's id of a name.
    pub(in crate::document) fn object(&mut self, object: &ObjectId) -> Result<ObjId, HotError> {
        let obj = object.obj();
        match self.ready()?.object_type(&obj) {
            Ok(_) => Ok(obj),
            Err(_) => Err(EditError::NotFound { at: object.0.clone() }.into()),
        }
    }

    /// Reads parts of the document.
    pub fn read<R>(&mut self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, HotError> {
        self.view(None, ROOT, f)
    }

    /// Reads parts of the document as it was at `heads`.
    pub fn read_at<R>(&mut self, heads: &[ChangeHash], f: impl FnOnce(&View<'_>) -> R) -> Result<R, HotError> {
        let heads = self.view_heads(heads)?;
        self.view(heads.as_deref(), ROOT, f)
    }
}

impl<'d> View<'d> {
    /// Reads the whole document as a Rust type.
    #[cfg(feature = "net")]
    pub(crate) fn automerge<R>(&self, f: impl FnOnce(&Automerge) -> R) -> R {
        self.doc.ask(f)
    }

    /// The kind of object this is.
    pub fn kind(&self) -> Kind {
        object_kind(self.kind)
    }

    /// The whole value of this object.
    pub fn value(&self) -> Value {
        self.doc.ask(|doc| value::read_object(doc, &self.obj, self.kind, self.heads, MAX_DEPTH))
    }

    /// Number of keys, elements or UTF-16 code units.
    pub fn len(&self) -> usize {
        self.doc.ask(|doc| match self.heads {
            Some(heads) => doc.length_at(&self.obj, heads),
            None => doc.length(&self.obj),
        })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of a map, in order.
    pub fn keys(&self) -> Vec<String> {
        self.doc.ask(|doc| match (self.kind, self.heads) {
            (ObjType::List | ObjType::Text, _) => Vec::new(),
            (_, Some(heads)) => doc.keys_at(&self.obj, heads).collect(),
            (_, None) => doc.keys(&self.obj).collect(),
        })
    }

    /// The whole value under a key.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.at(key)
    }

    /// The fenced register under a key; see [`crate::document::fenced`].
    pub fn fenced(&self, key: &str) -> Option<Fenced> {
        self.doc.ask(|doc| fenced::read(doc, &self.obj, key, self.heads))
    }

    /// The whole value of an element.
    pub fn element(&self, index: usize) -> Option<Value> {
        self.at(index)
    }

    fn at(&self, prop: impl Into<Prop>) -> Option<Value> {
        Some(match self.look(prop.into())? {
            (automerge::Value::Object(kind), id) => {
                self.doc.ask(|doc| value::read_object(doc, &id, kind, self.heads, MAX_DEPTH))
            }
            (automerge::Value::Scalar(scalar), _) => value::from_scalar(&scalar),
        })
    }

    fn look(&self, prop: Prop) -> Option<(automerge::Value<'d>, ObjId)> {
        let fits =
            matches!((&prop, self.kind), (Prop::Map(_), ObjType::Map | ObjType::Table) | (Prop::Seq(_), ObjType::List));
        if !fits {
            return None;
        }
        let found = self.doc.ask(|doc| match self.heads {
            Some(heads) => doc.get_at(&self.obj, prop, heads),
            None => doc.get(&self.obj, prop),
        });
        found.ok().flatten()
    }

    fn child(&self, prop: Prop, expected: Kind) -> Result<View<'d>, EditError> {
        let at = prop.to_string();
        match self.look(prop) {
            Some((automerge::Value::Object(kind), obj)) if object_kind(kind) == expected => {
                Ok(View { doc: self.doc, heads: self.heads, obj, kind })
            }
            Some((automerge::Value::Object(kind), _)) => {
                Err(EditError::WrongKind { at, expected, found: object_kind(kind) })
            }
            Some((automerge::Value::Scalar(scalar), _)) => {
                Err(EditError::WrongKind { at, expected, found: value::from_scalar(&scalar).kind() })
            }
            None => Err(EditError::NotFound { at }),
        }
    }

    /// The map under a key.
    pub fn map(&self, key: &str) -> Result<View<'d>, EditError> {
        self.child(key.into(), Kind::Map)
    }

    /// The list under a key.
    pub fn list(&self, key: &str) -> Result<View<'d>, EditError> {
        self.child(key.into(), Kind::List)
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Result<View<'d>, EditError> {
        self.child(key.into(), Kind::Text)
    }

    /// The marks of a text.
    pub fn marks(&self) -> Vec<Mark> {
        let marks = self.doc.ask(|doc| match self.heads {
            Some(heads) => doc.marks_at(&self.obj, heads),
            None => doc.marks(&self.obj),
        });
        marks.unwrap_or_default().iter().map(from_mark).collect()
    }

    /// Every text in this object that has marks, with the way to it. Walks the object, and each text once.
    pub fn marked_texts(&self) -> Vec<(At, Vec<Mark>)> {
        let mut out = Vec::new();
        self.doc.ask(|doc| marked(doc, (&self.obj, self.kind), self.heads, &[], &mut out));
        out
    }

    /// A text as runs of equal marks.
    pub fn spans(&self) -> Vec<Span> {
        let Value::Text(text) = self.value() else { return Vec::new() };
        let (units, marks) = (text.encode_utf16().collect::<Vec<u16>>(), self.marks());
        let mut cuts: BTreeSet<usize> = marks.iter().flat_map(|mark| [mark.from, mark.to]).collect();
        cuts.extend([0, units.len()]);
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= units.len()).collect();
        let span = |from: usize, to: usize| Span {
            text: String::from_utf16_lossy(&units[from..to]),
            marks: (marks.iter().filter(|mark| mark.from <= from && to <= mark.to))
                .map(|mark| (mark.name.clone(), mark.value.clone()))
                .collect(),
        };
        cuts.windows(2).map(|pair| span(pair[0], pair[1])).collect()
    }

    /// The value at a JSON Pointer (RFC 6901) below this object; `None` if there is nothing.
    pub fn pointer(&self, pointer: &str) -> Result<Option<Value>, EditError> {
        let mut here = View { doc: self.doc, heads: self.heads, obj: self.obj.clone(), kind: self.kind };
        let mut segments = parse_pointer(pointer)?.into_iter().peekable();
        while let Some(segment) = segments.next() {
            let prop = match here.kind {
                ObjType::List => match segment.parse::<usize>() {
                    Ok(index) => Prop::from(index),
                    Err(_) => return Ok(None),
                },
                _ => Prop::from(segment),
            };
            match here.look(prop) {
                Some((automerge::Value::Object(kind), obj)) => here = View { obj, kind, ..here },
                Some((automerge::Value::Scalar(scalar), _)) if segments.peek().is_none() => {
                    return Ok(Some(value::from_scalar(&scalar)));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(here.value()))
    }
}

impl std::fmt::Display for View<'_> {
    /// Text as it is, anything else as JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.value() {
            Value::Text(text) => f.write_str(&text),
            other => write!(f, "{}", other.to_json()),
        }
    }
}
