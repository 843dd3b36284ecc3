//! Drafts of maps, and what leads from the root to any place.

use automerge::transaction::Transactable;
use automerge::{ObjId, ObjType, ROOT, ReadDoc};

use super::{
    CounterDraft, EditError, Found, ListDraft, Place, PutMode, TextDraft, Tx, check_key, object_kind, reconcile,
};
use crate::document::fenced::{self, Fenced};
use crate::document::hot::ObjectId;
use crate::document::value::{Kind, Value};

/// A map inside an edit. The root of every document is one.
pub struct MapDraft<'d> {
    pub(in crate::document) tx: &'d mut Tx,
    pub(in crate::document) obj: ObjId,
}

impl<'d> MapDraft<'d> {
    pub(in crate::document) fn root(tx: &'d mut Tx) -> Self {
        Self { tx, obj: ROOT }
    }

    /// Writes through the transaction itself, for writing a Rust type over the whole document.
    #[cfg(feature = "net")]
    pub(crate) fn transaction<R>(&mut self, f: impl FnOnce(&mut automerge::transaction::OwnedTransaction) -> R) -> R {
        self.tx.tell(f)
    }

    /// The whole value under `key`.
    pub fn get(&self, key: &str) -> Result<Option<Value>, EditError> {
        self.tx.value(&self.obj, key.into())
    }

    /// The whole map as it stands in this edit.
    pub fn value(&self) -> Value {
        self.tx.ask(|tx| {
            let kind = automerge::ObjType::Map;
            crate::document::value::read_object(tx, &self.obj, kind, None, crate::document::value::MAX_DEPTH)
        })
    }

    /// The keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.tx.ask(|tx| tx.keys(&self.obj).collect())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.tx.ask(|tx| tx.length(&self.obj))
    }

    /// The same draft for a shorter while: what a draft hands out borrows from it.
    pub fn reborrow(&mut self) -> MapDraft<'_> {
        MapDraft { tx: self.tx, obj: self.obj.clone() }
    }

    /// Whether the map has no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kind of thing is under `key`.
    pub fn kind(&self, key: &str) -> Result<Option<Kind>, EditError> {
        Ok(self.tx.look(&self.obj, key.into())?.map(|found| found.kind()))
    }

    /// Sets `key`. A scalar that is there already is not written again; lists, maps, texts and counters are replaced,
    /// which drops what others do to the old one meanwhile: edit those in place, or [`MapDraft::reconcile`].
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> Result<(), EditError> {
        check_key(key)?;
        let value = value.into();
        if value.kind() == Kind::Scalar && self.get(key)?.is_some_and(|old| old == value) && !self.conflicted(key)? {
            return Ok(());
        }
        self.tx.write(&self.obj, Place::Key(key), &value)?;
        Ok(())
    }

    /// The fenced register under `key`; see [`crate::document::fenced`].
    pub fn fenced(&self, key: &str) -> Option<Fenced> {
        self.tx.ask(|tx| fenced::read(tx, &self.obj, key, None))
    }

    /// Writes a fenced register under the token of a lock that is held.
    ///
    /// # Errors
    /// [`EditError::Fenced`] if a greater token is there, as the edit sees it: one at older heads sees what was there then, and
    /// what it writes is shown nowhere if a greater one came since. [`EditError::WrongKind`] if something else is
    /// under the key.
    pub fn put_fenced(&mut self, key: &str, value: impl Into<Value>, token: u64) -> Result<(), EditError> {
        check_key(key)?;
        match self.fenced(key) {
            Some(seen) if seen.token > token => return Err(EditError::Fenced { token, seen: seen.token }),
            Some(_) => {}
            None => {
                if let Some(found) = self.kind(key)? {
                    return Err(EditError::WrongKind { at: key.into(), expected: Kind::Fenced, found });
                }
            }
        }
        let value = value.into();
        super::check_value(&value)?;
        let bytes = Fenced { token, value }.to_bytes()?;
        self.tx.write(&self.obj, Place::Key(key), &Value::Bytes(bytes))?;
        Ok(())
    }

    fn conflicted(&self, key: &str) -> Result<bool, EditError> {
        Ok(self.tx.ask(|tx| tx.get_all(&self.obj, key).map(|all| all.len() > 1))?)
    }

    /// Removes `key`; `false` if there was nothing.
    pub fn delete(&mut self, key: &str) -> Result<bool, EditError> {
        if self.tx.look(&self.obj, key.into())?.is_none() {
            return Ok(false);
        }
        self.tx.tell(|tx| tx.delete(&self.obj, key))?;
        Ok(true)
    }

    /// Makes what is under `key` equal to `value` with the smallest set of edits: objects of the same kind are edited in
    /// place, text by its difference, a counter by an increment.
    pub fn reconcile(&mut self, key: &str, value: impl Into<Value>) -> Result<(), EditError> {
        check_key(key)?;
        let value = value.into();
        super::check_value(&value)?;
        reconcile::key(self.tx, &self.obj, key, &value)
    }

    /// Makes this map equal to `value`, which is a map, with the smallest set of edits.
    pub fn reconcile_all(&mut self, value: &Value) -> Result<(), EditError> {
        super::check_value(value)?;
        match value {
            Value::Map(map) => reconcile::map(self.tx, &self.obj, map, true),
            other => Err(EditError::WrongKind { at: "the value".into(), expected: Kind::Map, found: other.kind() }),
        }
    }

    /// Writes JSON at a JSON Pointer (RFC 6901) below this map; the empty pointer is the map itself. All but the last
    /// segment must exist; `-` appends to a list.
    pub fn put_json(&mut self, pointer: &str, json: &serde_json::Value, mode: PutMode) -> Result<(), EditError> {
        let value = Value::from_json(json)?;
        reconcile::put_at(self.tx, &self.obj, pointer, &value, mode)
    }

    /// Writes a value at a JSON Pointer; see [`MapDraft::put_json`].
    pub fn put_at(&mut self, pointer: &str, value: &Value, mode: PutMode) -> Result<(), EditError> {
        reconcile::put_at(self.tx, &self.obj, pointer, value, mode)
    }

    /// Removes what is at a JSON Pointer; `false` if there was nothing.
    pub fn delete_at(&mut self, pointer: &str) -> Result<bool, EditError> {
        reconcile::delete_at(self.tx, &self.obj, pointer)
    }

    /// The map under `key`.
    pub fn map(&mut self, key: &str) -> Result<MapDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, key.into(), Kind::Map)?;
        Ok(MapDraft { tx: self.tx, obj })
    }

    /// The list under `key`.
    pub fn list(&mut self, key: &str) -> Result<ListDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, key.into(), Kind::List)?;
        Ok(ListDraft { tx: self.tx, obj })
    }

    /// The text under `key`.
    pub fn text(&mut self, key: &str) -> Result<TextDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, key.into(), Kind::Text)?;
        Ok(TextDraft { tx: self.tx, obj })
    }

    /// A text of this document by its name, wherever it is.
    pub fn text_of(&mut self, text: &ObjectId) -> Result<TextDraft<'_>, EditError> {
        let obj = text.obj();
        match self.tx.ask(|tx| tx.object_type(&obj)) {
            Ok(ObjType::Text) => Ok(TextDraft { tx: self.tx, obj }),
            Ok(kind) => {
                let found = object_kind(kind);
                Err(EditError::WrongKind { at: text.to_string(), expected: Kind::Text, found })
            }
            Err(_) => Err(EditError::NotFound { at: text.to_string() }),
        }
    }

    /// The counter under `key`.
    pub fn counter(&mut self, key: &str) -> Result<CounterDraft<'_>, EditError> {
        match self.tx.look(&self.obj, key.into())? {
            Some(Found::Scalar(Value::Counter(_))) => {
                Ok(CounterDraft { tx: self.tx, obj: self.obj.clone(), prop: key.into() })
            }
            Some(found) => Err(EditError::WrongKind { at: key.into(), expected: Kind::Counter, found: found.kind() }),
            None => Err(EditError::NotFound { at: key.into() }),
        }
    }
}
