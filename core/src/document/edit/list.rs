//! Drafts of lists and counters.

use std::ops::Range;

use automerge::transaction::Transactable;
use automerge::{ObjId, ObjType, Prop, ReadDoc};

use super::{EditError, Found, MapDraft, Place, TextDraft, Tx, check_value, reconcile};
use crate::document::value::{self, Kind, MAX_DEPTH, Value};

/// A list inside an edit.
pub struct ListDraft<'d> {
    pub(in crate::document) tx: &'d mut Tx,
    pub(in crate::document) obj: ObjId,
}

impl ListDraft<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.tx.ask(|tx| tx.length(&self.obj))
    }

    /// What kind of value an element is; `None` past the end.
    pub fn kind(&self, index: usize) -> Result<Option<Kind>, EditError> {
        Ok(self.tx.look(&self.obj, index.into())?.map(|found| found.kind()))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole value of an element.
    pub fn get(&self, index: usize) -> Result<Option<Value>, EditError> {
        self.tx.value(&self.obj, index.into())
    }

    /// The whole list as it stands in this edit.
    pub fn value(&self) -> Value {
        self.tx.ask(|tx| value::read_object(tx, &self.obj, ObjType::List, None, MAX_DEPTH))
    }

    /// Appends an element.
    pub fn push(&mut self, value: impl Into<Value>) -> Result<(), EditError> {
        let len = self.len();
        self.insert(len, value)
    }

    /// Inserts an element before `index`.
    pub fn insert(&mut self, index: usize, value: impl Into<Value>) -> Result<(), EditError> {
        self.check(index, 1)?;
        self.tx.write(&self.obj, Place::Insert(index), &value.into())?;
        Ok(())
    }

    /// Replaces an element.
    pub fn put(&mut self, index: usize, value: impl Into<Value>) -> Result<(), EditError> {
        self.check(index, 0)?;
        self.tx.write(&self.obj, Place::Index(index), &value.into())?;
        Ok(())
    }

    /// Removes an element.
    pub fn delete(&mut self, index: usize) -> Result<(), EditError> {
        self.check(index, 0)?;
        self.tx.tell(|tx| tx.delete(&self.obj, index))?;
        Ok(())
    }

    /// Replaces the elements in `range` by `values`.
    pub fn splice(&mut self, range: Range<usize>, values: impl IntoIterator<Item = Value>) -> Result<(), EditError> {
        let len = self.len();
        if range.start > range.end || range.end > len {
            return Err(EditError::OutOfRange { index: range.end.max(range.start), len });
        }
        let values: Vec<Value> = values.into_iter().collect();
        values.iter().try_for_each(check_value)?;
        for _ in range.clone() {
            self.tx.tell(|tx| tx.delete(&self.obj, range.start))?;
        }
        for (offset, value) in values.iter().enumerate() {
            self.tx.write(&self.obj, Place::Insert(range.start + offset), value)?;
        }
        Ok(())
    }

    /// Makes the list equal to `values` with the smallest set of insertions, deletions and edits in place.
    pub fn reconcile(&mut self, values: &[Value]) -> Result<(), EditError> {
        values.iter().try_for_each(check_value)?;
        reconcile::list(self.tx, &self.obj, values)
    }

    /// The map at `index`.
    pub fn map(&mut self, index: usize) -> Result<MapDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, index.into(), Kind::Map)?;
        Ok(MapDraft { tx: self.tx, obj })
    }

    /// The list at `index`.
    pub fn list(&mut self, index: usize) -> Result<ListDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, index.into(), Kind::List)?;
        Ok(ListDraft { tx: self.tx, obj })
    }

    /// The text at `index`.
    pub fn text(&mut self, index: usize) -> Result<TextDraft<'_>, EditError> {
        let obj = self.tx.object(&self.obj, index.into(), Kind::Text)?;
        Ok(TextDraft { tx: self.tx, obj })
    }

    /// The counter at `index`.
    pub fn counter(&mut self, index: usize) -> Result<CounterDraft<'_>, EditError> {
        match self.tx.look(&self.obj, index.into())? {
            Some(Found::Scalar(Value::Counter(_))) => {
                Ok(CounterDraft { tx: self.tx, obj: self.obj.clone(), prop: index.into() })
            }
            Some(found) => {
                Err(EditError::WrongKind { at: index.to_string(), expected: Kind::Counter, found: found.kind() })
            }
            None => Err(EditError::NotFound { at: index.to_string() }),
        }
    }

    fn check(&self, index: usize, past: usize) -> Result<(), EditError> {
        match self.len() {
            len if index < len + past => Ok(()),
            len => Err(EditError::OutOfRange { index, len }),
        }
    }
}

/// A counter inside an edit.
pub struct CounterDraft<'d> {
    pub(in crate::document) tx: &'d mut Tx,
    pub(in crate::document) obj: ObjId,
    pub(super) prop: Prop,
}

impl CounterDraft<'_> {
    /// Its value as it stands in this edit.
    pub fn value(&self) -> i64 {
        match self.tx.value(&self.obj, self.prop.clone()) {
            Ok(Some(Value::Counter(n))) => n,
            _ => 0,
        }
    }

    /// Adds to the counter. Concurrent additions add up.
    pub fn add(&mut self, by: i64) -> Result<(), EditError> {
        if by != 0 {
            self.tx.tell(|tx| tx.increment(&self.obj, self.prop.clone(), by))?;
        }
        Ok(())
    }
}
