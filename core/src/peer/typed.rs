//! What a document holds as a Rust type: [`Value`], or anything that derives autosurgeon's `Hydrate` and `Reconcile`.
//!
//! Mind when deriving: a plain `String` is replaced as a whole (the last writer wins; use `autosurgeon::Text` for text
//! that people edit together), and the elements of a `Vec` are matched by position unless a field is marked `#[key]`.

use std::ops::RangeBounds;

use automerge::transaction::{OwnedTransaction, Transactable};
use automerge::{AutomergeError, ObjId, ObjType, Prop, ScalarValue};
use autosurgeon::{Doc, Hydrate, ReadDoc, Reconcile};

use crate::document::edit::MapDraft;
use crate::document::hot::{Author, View};
use crate::document::{EditError, EditOptions, HotDocument, HotError, Template, Value};
use crate::id::{DeviceId, DocumentId, Incarnation};

/// A type that documents are read into and written from. Implemented for [`Value`] and for every type with autosurgeon's
/// `Hydrate` and `Reconcile`.
pub trait Content: Sized + Send + Sync + 'static {
    /// Reads the whole document; the error says what does not fit.
    #[doc(hidden)]
    fn read_from(view: &View<'_>) -> Result<Self, String>;

    /// Makes the whole document equal to this.
    #[doc(hidden)]
    fn write_to(&self, draft: &mut MapDraft<'_>) -> Result<(), EditError>;

    /// Reads a value that no document at hand holds; the error says what does not fit.
    #[doc(hidden)]
    fn from_value(value: Value) -> Result<Self, String> {
        let text = |error: HotError| error.to_string();
        let mut scratch = HotDocument::new(SCRATCH, Template::default()).map_err(text)?;
        scratch.edit(&EditOptions::default(), |draft| draft.reconcile_all(&value)).map_err(text)?;
        scratch.read(Self::read_from).map_err(text)?
    }
}

/// The author of documents that leave no trace.
const SCRATCH: Author =
    Author { device: DeviceId([0; 32]), document: DocumentId([0; 16]), incarnation: Incarnation(0) };

impl Content for Value {
    fn from_value(value: Value) -> Result<Self, String> {
        Ok(value)
    }

    fn read_from(view: &View<'_>) -> Result<Self, String> {
        Ok(view.value())
    }

    fn write_to(&self, draft: &mut MapDraft<'_>) -> Result<(), EditError> {
        draft.reconcile_all(self)
    }
}

impl<T: Hydrate + Reconcile + Send + Sync + 'static> Content for T {
    fn read_from(view: &View<'_>) -> Result<Self, String> {
        view.automerge(|doc| autosurgeon::hydrate(doc)).map_err(|error| error.to_string())
    }

    fn write_to(&self, draft: &mut MapDraft<'_>) -> Result<(), EditError> {
        draft.transaction(|tx| autosurgeon::reconcile(&mut Open(tx), self)).map_err(EditError::aborted)
    }
}

/// An open transaction as autosurgeon wants it.
struct Open<'t>(&'t mut OwnedTransaction);

impl ReadDoc for Open<'_> {
    type Parents<'a>
        = automerge::Parents<'a>
    where
        Self: 'a;

    fn get_heads(&self) -> Vec<automerge::ChangeHash> {
        self.0.base_heads()
    }

    fn get<P: Into<Prop>>(
        &self,
        obj: &ObjId,
        prop: P,
    ) -> Result<Option<(automerge::Value<'_>, ObjId)>, AutomergeError> {
        automerge::ReadDoc::get(&*self.0, obj, prop)
    }

    fn object_type<O: AsRef<ObjId>>(&self, obj: O) -> Option<ObjType> {
        automerge::ReadDoc::object_type(&*self.0, obj).ok()
    }

    fn map_range<'a, O, R>(&'a self, obj: O, range: R) -> automerge::iter::MapRange<'a>
    where
        R: RangeBounds<String> + 'a,
        O: AsRef<ObjId>,
        R: RangeBounds<String>,
    {
        automerge::ReadDoc::map_range(&*self.0, obj, range)
    }

    fn list_range<O: AsRef<ObjId>, R: RangeBounds<usize>>(&self, obj: O, range: R) -> automerge::iter::ListRange<'_> {
        automerge::ReadDoc::list_range(&*self.0, obj, range)
    }

    fn length<O: AsRef<ObjId>>(&self, obj: O) -> usize {
        automerge::ReadDoc::length(&*self.0, obj)
    }

    fn text<O: AsRef<ObjId>>(&self, obj: O) -> Result<String, AutomergeError> {
        automerge::ReadDoc::text(&*self.0, obj)
    }

    fn parents<O: AsRef<ObjId>>(&self, obj: O) -> Result<Self::Parents<'_>, AutomergeError> {
        automerge::ReadDoc::parents(&*self.0, obj)
    }

    fn is_empty(&self) -> bool {
        automerge::ReadDoc::length(&*self.0, automerge::ROOT) == 0
    }
}

impl Doc for Open<'_> {
    fn put<O: AsRef<ObjId>, P: Into<Prop>, V: Into<ScalarValue>>(
        &mut self,
        obj: O,
        prop: P,
        value: V,
    ) -> Result<(), AutomergeError> {
        self.0.put(obj, prop, value)
    }

    fn put_object<O: AsRef<ObjId>, P: Into<Prop>>(
        &mut self,
        obj: O,
        prop: P,
        value: ObjType,
    ) -> Result<ObjId, AutomergeError> {
        self.0.put_object(obj, prop, value)
    }

    fn insert<O: AsRef<ObjId>, V: Into<ScalarValue>>(
        &mut self,
        obj: O,
        index: usize,
        value: V,
    ) -> Result<(), AutomergeError> {
        self.0.insert(obj, index, value)
    }

    fn insert_object<O: AsRef<ObjId>>(
        &mut self,
        obj: O,
        index: usize,
        value: ObjType,
    ) -> Result<ObjId, AutomergeError> {
        self.0.insert_object(obj, index, value)
    }

    fn increment<O: AsRef<ObjId>, P: Into<Prop>>(&mut self, obj: O, prop: P, value: i64) -> Result<(), AutomergeError> {
        self.0.increment(obj, prop, value)
    }

    fn delete<O: AsRef<ObjId>, P: Into<Prop>>(&mut self, obj: O, prop: P) -> Result<(), AutomergeError> {
        self.0.delete(obj, prop)
    }

    fn splice_text<O: AsRef<ObjId>>(
        &mut self,
        obj: O,
        pos: usize,
        del: isize,
        text: &str,
    ) -> Result<(), AutomergeError> {
        self.0.splice_text(obj, pos, del, text)
    }

    fn update_text<O: AsRef<ObjId>>(&mut self, obj: O, text: &str) -> Result<(), AutomergeError> {
        self.0.update_text(obj.as_ref(), text)
    }

    fn batch_create<O: AsRef<ObjId>, P: Into<Prop>>(
        &mut self,
        obj: O,
        prop: P,
        value: automerge::hydrate::Value,
        insert: bool,
    ) -> Result<(), AutomergeError> {
        // Automerge makes objects in bulk, and refuses scalars there.
        match (value, prop.into()) {
            (automerge::hydrate::Value::Scalar(scalar), Prop::Seq(index)) if insert => {
                self.0.insert(obj, index, scalar)
            }
            (automerge::hydrate::Value::Scalar(scalar), prop) => self.0.put(obj, prop, scalar),
            (object, prop) => self.0.batch_create_object(obj, prop, &object, insert).map(drop),
        }
    }

    fn init_root_from_hydrate(&mut self, value: &automerge::hydrate::Map) -> Result<(), AutomergeError> {
        self.0.init_root_from_hydrate(value)
    }
}
