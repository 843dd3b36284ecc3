//! Drafts: how a document is edited.
//!
//! A draft stands for one place of a document inside one edit: [`MapDraft`] (the root is one), [`ListDraft`],
//! [`TextDraft`], [`CounterDraft`]. Everything done through drafts of one edit becomes one change, or none of it does.
//! A draft reads its own writes and cannot outlive the edit.
//!
//! Text is spliced, never assigned, and [`TextDraft::update`] writes the smallest difference: assigning would drop what
//! others type meanwhile. [`MapDraft::reconcile`] does the same for whole values.
//!
//! **Indexes** of text are UTF-16 code units; one inside a surrogate pair moves to its end.
//!
//! **Bounds**, each a typed error that changes nothing: [`MAX_BYTES`], [`MAX_STRING`], [`MAX_KEY`],
//! [`MAX_DEPTH`].

mod diff;
mod list;
mod map;
mod reconcile;
mod text;

use std::cell::Cell;

use automerge::ReadDoc;
use automerge::transaction::{OwnedTransaction, Transactable};
use automerge::{ActorId, ObjId, ObjType, Prop};

pub(super) use diff::text as diff_text;
pub use list::{CounterDraft, ListDraft};
pub use map::MapDraft;
pub use reconcile::PutMode;
pub(super) use reconcile::parse_pointer;
pub(super) use text::from_mark;
pub use text::{Expand, Mark, Span, TextDraft};

use super::hot::Caret;
use super::value::{self, Kind, MAX_DEPTH, Value, ValueError};

/// Most bytes in one [`Value::Bytes`]. A change travels and is kept as one piece; larger things belong into several
/// documents or outside.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most bytes in one [`Value::Str`]: 1 MiB. Text has no such bound.
pub const MAX_STRING: usize = 1 << 20;
/// Most bytes in a map's key.
pub const MAX_KEY: usize = 1024;
/// Operation counters end here, since what reads a document back keeps them in 32 bits.
pub(super) const MAX_OP: u64 = 1 << 31;

/// Why an edit is refused. Nothing of it has happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// Nothing is there.
    #[error("there is nothing at {at}")]
    NotFound {
        /// The key, index or pointer.
        at: String,
    },
    /// Something of another kind is there.
    #[error("{at} holds {found}, not {expected}")]
    WrongKind {
        /// The key, index or pointer.
        at: String,
        /// What was asked for.
        expected: Kind,
        /// What is there.
        found: Kind,
    },
    /// An index past the end.
    #[error("index {index} is past the end, which is {len}")]
    OutOfRange {
        /// The index.
        index: usize,
        /// The length.
        len: usize,
    },
    /// A key or value over its bound.
    #[error("{what} has at most {max} bytes, this one has {bytes}")]
    TooLarge {
        /// What is bounded.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// A fenced register has been written under a newer lock than this one.
    #[error("the lock with token {token} was overtaken: {seen} has written here; ask for the lock again")]
    Fenced {
        /// The token that the write was to have.
        token: u64,
        /// The greatest that this replica has seen.
        seen: u64,
    },
    /// JSON that is not a value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Text that is not a JSON Pointer (RFC 6901).
    #[error("`{pointer}` is not a JSON Pointer: it is empty or begins with a slash, as in /a/0")]
    Pointer {
        /// The text.
        pointer: String,
    },
    /// The document has used up its operation counters; copy it into a new one.
    #[error("this document has no room for more operations")]
    Full,
    /// The program's own reason to give the edit up.
    #[error("the edit was given up: {0}")]
    Aborted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Automerge refused.
    #[error("the edit was refused: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
}

impl EditError {
    /// Gives an edit up for a reason of the program's own.
    pub fn aborted(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        EditError::Aborted(reason.into())
    }
}

impl From<automerge::AutomergeError> for EditError {
    fn from(error: automerge::AutomergeError) -> Self {
        EditError::Refused { detail: error.to_string() }
    }
}

/// An operation, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) counter: u64,
    pub(super) actor: ActorId,
}

impl Op {
    pub(super) fn of(id: &ObjId) -> Option<Self> {
        match id {
            ObjId::Id(counter, actor, _) => Some(Self { counter: *counter, actor: actor.clone() }),
            ObjId::Root => None,
        }
    }
}

/// One piece of text put in, or one element taken out.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) id: ObjId,
    /// The text's own id.
    pub(super) text: Op,
    /// In UTF-16 code units.
    pub(super) at: usize,
    /// The element behind which text goes; none at the start.
    pub(super) behind: Option<Op>,
    pub(super) inserted: String,
    /// The element that goes; then nothing is put in.
    pub(super) removed: Option<Op>,
}

impl Splice {
    /// Operations that it takes.
    pub(super) fn ops(&self) -> usize {
        if self.removed.is_some() { 1 } else { self.inserted.chars().count() }
    }

    /// Whose operations it refers to.
    pub(super) fn actors(&self) -> impl Iterator<Item = &ActorId> {
        [Some(&self.text), self.behind.as_ref(), self.removed.as_ref()].into_iter().flatten().map(|op| &op.actor)
    }
}

/// What an edit has written so far, as far as [`super::hot`] can make use of it.
pub(super) enum Written {
    /// Nothing; the caret is where the edit before left it.
    Nothing(Option<Caret>),
    /// One splice.
    Splice(Splice),
    /// Something else, or it does not matter.
    NotFollowed,
}

/// The transaction under all drafts of one edit. `inside` tells a panic of Automerge from one of the program.
pub(super) struct Tx {
    pub(super) inner: OwnedTransaction,
    pub(super) inside: Cell<bool>,
    /// What was written, as long as it is followed.
    pub(super) written: Written,
}

impl Tx {
    pub(super) fn new(inner: OwnedTransaction) -> Self {
        Self { inner, inside: Cell::new(false), written: Written::NotFollowed }
    }

    /// Reads through Automerge.
    pub(super) fn ask<R>(&self, f: impl FnOnce(&OwnedTransaction) -> R) -> R {
        self.inside.set(true);
        let result = f(&self.inner);
        self.inside.set(false);
        result
    }

    /// Writes through Automerge.
    pub(super) fn tell<R>(&mut self, f: impl FnOnce(&mut OwnedTransaction) -> R) -> R {
        self.written = Written::NotFollowed;
        self.inside.set(true);
        let result = f(&mut self.inner);
        self.inside.set(false);
        result
    }

    /// What is at a place: the object's id and type, or a scalar.
    fn look(&self, obj: &ObjId, prop: Prop) -> Result<Option<Found>, EditError> {
        let found = self.ask(|tx| {
            Ok::<_, automerge::AutomergeError>(tx.get(obj, prop)?.map(|(value, id)| match value {
                automerge::Value::Object(kind) => Found::Object(id, kind),
                automerge::Value::Scalar(scalar) => Found::Scalar(value::from_scalar(&scalar)),
            }))
        });
        Ok(found?)
    }

    /// The whole value at a place.
    fn value(&self, obj: &ObjId, prop: Prop) -> Result<Option<Value>, EditError> {
        Ok(self.look(obj, prop)?.map(|found| match found {
            Found::Object(id, kind) => self.ask(|tx| value::read_object(tx, &id, kind, None, MAX_DEPTH)),
            Found::Scalar(scalar) => scalar,
        }))
    }

    /// The object of one kind at a place, or why not.
    fn object(&self, obj: &ObjId, prop: Prop, expected: Kind) -> Result<ObjId, EditError> {
        let at = prop.to_string();
        match self.look(obj, prop)? {
            None => Err(EditError::NotFound { at }),
            Some(Found::Object(id, kind)) if object_kind(kind) == expected => Ok(id),
            Some(found) => Err(EditError::WrongKind { at, expected, found: found.kind() }),
        }
    }

    /// Writes a value at a place: over what is there, or as a new element of a list.
    pub(super) fn write(&mut self, obj: &ObjId, place: Place<'_>, value: &Value) -> Result<Option<ObjId>, EditError> {
        check_value(value)?;
        self.write_checked(obj, place, value)
    }

    fn write_checked(&mut self, obj: &ObjId, place: Place<'_>, value: &Value) -> Result<Option<ObjId>, EditError> {
        let kind = match value {
            Value::Map(_) => ObjType::Map,
            Value::List(_) => ObjType::List,
            Value::Text(_) => ObjType::Text,
            _ => {
                let scalar = value::to_scalar(value).expect("everything but maps, lists and text fits one operation");
                self.tell(|tx| match place {
                    Place::Key(key) => tx.put(obj, key, scalar),
                    Place::Index(index) => tx.put(obj, index, scalar),
                    Place::Insert(index) => tx.insert(obj, index, scalar),
                })?;
                return Ok(None);
            }
        };
        let id = self.tell(|tx| match place {
            Place::Key(key) => tx.put_object(obj, key, kind),
            Place::Index(index) => tx.put_object(obj, index, kind),
            Place::Insert(index) => tx.insert_object(obj, index, kind),
        })?;
        match value {
            Value::Map(map) => {
                for (key, item) in map {
                    self.write_checked(&id, Place::Key(key), item)?;
                }
            }
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    self.write_checked(&id, Place::Insert(index), item)?;
                }
            }
            Value::Text(text) if !text.is_empty() => self.tell(|tx| tx.splice_text(&id, 0, 0, text))?,
            _ => {}
        }
        Ok(Some(id))
    }
}

/// Where a value goes.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Key(&'a str),
    Index(usize),
    Insert(usize),
}

/// What [`Tx::look`] found.
enum Found {
    Object(ObjId, ObjType),
    Scalar(Value),
}

impl Found {
    fn kind(&self) -> Kind {
        match self {
            Found::Object(_, kind) => object_kind(*kind),
            Found::Scalar(value) => value.kind(),
        }
    }
}

/// The kind of an Automerge object.
pub(super) fn object_kind(kind: ObjType) -> Kind {
    match kind {
        ObjType::Map | ObjType::Table => Kind::Map,
        ObjType::List => Kind::List,
        ObjType::Text => Kind::Text,
    }
}

fn check_key(key: &str) -> Result<(), EditError> {
    match key.len() {
        bytes if bytes > MAX_KEY => Err(EditError::TooLarge { what: "a key", bytes, max: MAX_KEY }),
        _ => Ok(()),
    }
}

/// Refuses what is over a bound, before anything is written.
pub(super) fn check_value(value: &Value) -> Result<(), EditError> {
    fn sizes(value: &Value) -> Result<(), EditError> {
        match value {
            Value::Bytes(b) if b.len() > MAX_BYTES => {
                Err(EditError::TooLarge { what: "a byte value", bytes: b.len(), max: MAX_BYTES })
            }
            Value::Str(s) if s.len() > MAX_STRING => {
                Err(EditError::TooLarge { what: "a string", bytes: s.len(), max: MAX_STRING })
            }
            Value::List(list) => list.iter().try_for_each(sizes),
            Value::Map(map) => map.iter().try_for_each(|(key, item)| check_key(key).and_then(|()| sizes(item))),
            _ => Ok(()),
        }
    }
    if value.depth() > MAX_DEPTH {
        return Err(EditError::TooDeep { max: MAX_DEPTH });
    }
    sizes(value)
}
