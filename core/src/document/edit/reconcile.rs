//! Making a place of a document equal to a value with the smallest set of edits.
//!
//! Objects of the same kind are edited in place, so that what others do to them meanwhile survives. A plain string over
//! text becomes a text edit and a plain integer over a counter an increment, because JSON has neither kind. Lists are
//! matched element by element with the diff of [`super::diff`].

use std::collections::BTreeMap;

use automerge::transaction::Transactable;
use automerge::{ObjId, Prop, ReadDoc};

use super::{EditError, Found, Place, TextDraft, Tx, check_key, check_value, diff, object_kind};
use crate::document::value::{Kind, Value};

/// How a value is put into a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PutMode {
    /// The place becomes equal to the value by the smallest set of edits.
    #[default]
    Diff,
    /// The place is written anew: what others do to the old value meanwhile is dropped.
    Replace,
    /// JSON Merge Patch (RFC 7396): maps are merged, `null` deletes, everything else is put as by [`PutMode::Diff`].
    Merge,
}

/// Makes the map equal to `next`; `prune` deletes keys that `next` lacks.
pub(super) fn map(tx: &mut Tx, obj: &ObjId, next: &BTreeMap<String, Value>, prune: bool) -> Result<(), EditError> {
    if prune {
        let keys: Vec<String> = tx.ask(|tx| tx.keys(obj).collect());
        for gone in keys.iter().filter(|key| !next.contains_key(*key)) {
            tx.tell(|tx| tx.delete(obj, gone.as_str()))?;
        }
    }
    next.iter().try_for_each(|(name, value)| key(tx, obj, name, value))
}

/// Makes what is under a key equal to `value`.
pub(super) fn key(tx: &mut Tx, obj: &ObjId, key: &str, value: &Value) -> Result<(), EditError> {
    match tx.look(obj, key.into())? {
        None => tx.write(obj, Place::Key(key), value).map(drop),
        Some(found) => place(tx, obj, Place::Key(key), found, value),
    }
}

/// Makes the list equal to `next`.
pub(super) fn list(tx: &mut Tx, obj: &ObjId, next: &[Value]) -> Result<(), EditError> {
    let kind = automerge::ObjType::List;
    let depth = crate::document::value::MAX_DEPTH;
    let Value::List(old) = tx.ask(|tx| crate::document::value::read_object(tx, obj, kind, None, depth)) else {
        return Ok(());
    };
    for (gone, come) in diff::sequences(&old, next).into_iter().rev() {
        let paired = gone.len().min(come.len());
        for _ in paired..gone.len() {
            tx.tell(|tx| tx.delete(obj, gone.start + paired))?;
        }
        for (offset, value) in next[come.start + paired..come.end].iter().enumerate() {
            tx.write(obj, Place::Insert(gone.start + paired + offset), value)?;
        }
        for offset in 0..paired {
            let index = gone.start + offset;
            if let Some(found) = tx.look(obj, index.into())? {
                place(tx, obj, Place::Index(index), found, &next[come.start + offset])?;
            }
        }
    }
    Ok(())
}

/// Makes a place that holds `found` equal to `value`.
fn place(tx: &mut Tx, obj: &ObjId, place: Place<'_>, found: Found, value: &Value) -> Result<(), EditError> {
    match (found, value) {
        (Found::Object(id, kind), Value::Map(next)) if object_kind(kind) == Kind::Map => map(tx, &id, next, true),
        (Found::Object(id, kind), Value::List(next)) if object_kind(kind) == Kind::List => list(tx, &id, next),
        (Found::Object(id, kind), Value::Text(next) | Value::Str(next)) if object_kind(kind) == Kind::Text => {
            TextDraft { tx, obj: id }.update(next)
        }
        (Found::Scalar(Value::Counter(now)), Value::Counter(next) | Value::Int(next)) => {
            let prop = match place {
                Place::Key(key) => Prop::from(key),
                Place::Index(index) | Place::Insert(index) => Prop::from(index),
            };
            match next.wrapping_sub(now) {
                0 => Ok(()),
                by => Ok(tx.tell(|tx| tx.increment(obj, prop, by))?),
            }
        }
        (Found::Scalar(old), new) if old == *new || same_number(&old, new) => Ok(()),
        (_, new) => tx.write(obj, place, new).map(drop),
    }
}

/// JSON does not tell a signed from an unsigned integer.
fn same_number(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(int), Value::Uint(uint)) | (Value::Uint(uint), Value::Int(int)) => u64::try_from(*int) == Ok(*uint),
        _ => false,
    }
}

/// Writes at a JSON Pointer below `root`.
pub(super) fn put_at(tx: &mut Tx, root: &ObjId, pointer: &str, value: &Value, mode: PutMode) -> Result<(), EditError> {
    check_value(value)?;
    let mut segments = parse_pointer(pointer)?;
    let Some(last) = segments.pop() else {
        let Value::Map(next) = value else {
            return Err(EditError::WrongKind { at: "the value".into(), expected: Kind::Map, found: value.kind() });
        };
        return match mode {
            PutMode::Diff => map(tx, root, next, true),
            PutMode::Merge => merge(tx, root, next),
            PutMode::Replace => {
                map(tx, root, &BTreeMap::new(), true)?;
                next.iter().try_for_each(|(key, value)| tx.write(root, Place::Key(key), value).map(drop))
            }
        };
    };
    let (parent, kind) = descend(tx, root, &segments, pointer)?;
    if kind == Kind::Map {
        check_key(&last)?;
        match (mode, value) {
            (PutMode::Replace, _) => tx.write(&parent, Place::Key(&last), value).map(drop),
            (PutMode::Diff, _) => key(tx, &parent, &last, value),
            (PutMode::Merge, _) => merge(tx, &parent, &[(last, value.clone())].into()),
        }
    } else {
        let len = tx.ask(|tx| tx.length(&parent));
        let index = if last == "-" { len } else { parse_index(&last, pointer)? };
        match tx.look(&parent, index.into())? {
            None if index == len => tx.write(&parent, Place::Insert(index), value).map(drop),
            None => Err(EditError::OutOfRange { index, len }),
            Some(_) if mode == PutMode::Replace => tx.write(&parent, Place::Index(index), value).map(drop),
            Some(Found::Object(id, kind)) if mode == PutMode::Merge && object_kind(kind) == Kind::Map => match value {
                Value::Map(next) => merge(tx, &id, next),
                other => place(tx, &parent, Place::Index(index), Found::Object(id, kind), other),
            },
            Some(found) => place(tx, &parent, Place::Index(index), found, value),
        }
    }
}

/// Removes what is at a JSON Pointer below `root`.
pub(super) fn delete_at(tx: &mut Tx, root: &ObjId, pointer: &str) -> Result<bool, EditError> {
    let mut segments = parse_pointer(pointer)?;
    let Some(last) = segments.pop() else {
        let any = tx.ask(|tx| tx.length(root)) > 0;
        map(tx, root, &BTreeMap::new(), true)?;
        return Ok(any);
    };
    let (parent, kind) = descend(tx, root, &segments, pointer)?;
    let prop = if kind == Kind::Map { Prop::from(last) } else { Prop::from(parse_index(&last, pointer)?) };
    if tx.look(&parent, prop.clone())?.is_none() {
        return Ok(false);
    }
    tx.tell(|tx| tx.delete(&parent, prop))?;
    Ok(true)
}

/// JSON Merge Patch onto a map.
fn merge(tx: &mut Tx, obj: &ObjId, patch: &BTreeMap<String, Value>) -> Result<(), EditError> {
    for (name, value) in patch {
        match (tx.look(obj, name.as_str().into())?, value) {
            (None, Value::Null) => {}
            (Some(_), Value::Null) => tx.tell(|tx| tx.delete(obj, name.as_str()))?,
            (Some(Found::Object(id, kind)), Value::Map(inner)) if object_kind(kind) == Kind::Map => {
                merge(tx, &id, inner)?
            }
            (_, Value::Map(_)) => key(tx, obj, name, &without_nulls(value))?,
            _ => key(tx, obj, name, value)?,
        }
    }
    Ok(())
}

/// Merging a patch onto nothing drops its deletions.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(
            map.iter()
                .filter(|(_, item)| !matches!(item, Value::Null))
                .map(|(key, item)| (key.clone(), without_nulls(item)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn descend(tx: &Tx, root: &ObjId, segments: &[String], pointer: &str) -> Result<(ObjId, Kind), EditError> {
    let (mut obj, mut kind) = (root.clone(), Kind::Map);
    for segment in segments {
        let prop =
            if kind == Kind::Map { Prop::from(segment.as_str()) } else { Prop::from(parse_index(segment, pointer)?) };
        match tx.look(&obj, prop)? {
            Some(Found::Object(id, next)) if matches!(object_kind(next), Kind::Map | Kind::List) => {
                (obj, kind) = (id, object_kind(next));
            }
            Some(found) => {
                return Err(EditError::WrongKind { at: segment.clone(), expected: Kind::Map, found: found.kind() });
            }
            None => return Err(EditError::NotFound { at: pointer.to_owned() }),
        }
    }
    Ok((obj, kind))
}

fn parse_index(segment: &str, pointer: &str) -> Result<usize, EditError> {
    segment.parse().map_err(|_| EditError::NotFound { at: pointer.to_owned() })
}

/// The segments of a JSON Pointer, unescaped.
pub(in crate::document) fn parse_pointer(pointer: &str) -> Result<Vec<String>, EditError> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let rest = pointer.strip_prefix('/').ok_or_else(|| EditError::Pointer { pointer: pointer.to_owned() })?;
    Ok(rest.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect())
}
