//! One page's view of one document, and what keeps the two in step.
//!
//! **The rule.** A page shows some state of the document, `shown`. It edits its own copy at once and sends the edit, which
//! is made here *at the state that the page saw*, so that what its author meant survives whatever others did meanwhile.
//! Every event leads exactly from what the page shows to what the document holds. If the page has edited since the event
//! was sent, the event is of no use to it: the page drops it, says so by the edit's `base`, and gets a new one that is
//! computed anew.
//!
//! ```text
//! page                                        session
//!  │ edit {seq 1, base 0}  ───────────────────▶ │  made at `shown`; shown = {that change}
//!  │ ◀─────────── event {id 1, seq 1, patches} │  a remote change came: offered, not yet shown
//!  │ edit {seq 2, base 0}  ── crosses ────────▶ │  base 0 ≠ 1: the page shows change 1 only; made there
//!  │   seq 1 ≠ 2: dropped                      │
//!  │ ◀─────────── event {id 2, seq 2, patches} │  from change 2, past the remote change
//!  │ ack {id 2}  ─────────────────────────────▶ │  shown = all of it
//! ```
//!
//! **Bounds.** One event is on its way at a time, so a page that sleeps gets one merged event when it wakes, and nothing
//! queues here.

use foreshore::document::patch::Patch;
use foreshore::document::{Cursor, HotError, Side};
use foreshore::id::ChangeHash;
use foreshore::peer::{Commit, Document, DocumentError, Undo};
use serde_json::{Value as Json, json};

use crate::errors::Failure;
use crate::ops::{self, At, Op};
use crate::patches;

/// A page's edit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Counts the page's edits of this document, from 1.
    pub seq: u64,
    /// The last event that the page had applied.
    pub base: u64,
    /// What it did.
    pub ops: Vec<Op>,
    /// For the history.
    pub message: Option<String>,
}

/// A page's view of a document.
pub struct Session {
    document: Document,
    shown: Vec<ChangeHash>,
    /// The event that is on its way, and the heads it leads to.
    offered: Option<(u64, Vec<ChangeHash>)>,
    /// The page's last edit.
    seq: u64,
    /// The last event.
    event: u64,
    /// Edits made before this event are of a state that has been taken back.
    rolled_back: u64,
    /// Whether the page knows that the document was deleted.
    deleted: bool,
    /// An event is due even if nothing changed: it says that an edit was taken in.
    due: bool,
    /// The next event carries the whole value, since the page shows what there is no way from.
    reset: bool,
    /// Whether some text has had marks, as far as is known.
    marked: bool,
    /// The page has edited a document with marks: which of what it typed is marked, it can only guess.
    remark: bool,
}

impl Session {
    /// Begins with the document as it is; what the page is to show first.
    ///
    /// # Errors
    /// The document does not open.
    pub fn begin(document: Document) -> Result<(Self, Json), DocumentError> {
        let shown = document.heads()?;
        let value = document.value_at(&shown)?.to_tagged_json();
        let deleted = document.is_deleted();
        let marks = document.read_at(&shown, |view| Ok(view.marked_texts()))?;
        let mut first = json!({ "value": value, "heads": patches::heads(&shown), "deleted": deleted });
        let marked = !marks.is_empty();
        if marked {
            first["marks"] = patches::marked(&marks);
        }
        let (seq, event, rolled_back, due, reset, remark) = (0, 0, 0, false, false, false);
        Ok((
            Self { document, shown, offered: None, seq, event, rolled_back, deleted, due, reset, marked, remark },
            first,
        ))
    }

    /// Goes on where a page stands that had the document open with another host: at the first of `standings` (heads, and the
    /// page's last edit in them) that is all here. What came since follows as an event.
    ///
    /// The number of the standing, or `None` if none of them is here: the page must begin anew.
    ///
    /// # Errors
    /// The document does not open.
    pub fn resume(
        document: Document,
        standings: &[(Vec<ChangeHash>, u64)],
    ) -> Result<(Self, Json, Option<usize>), DocumentError> {
        let here = |(heads, _): &(Vec<ChangeHash>, u64)| document.read_at(heads, |_| Ok(())).is_ok();
        let found = standings.iter().position(here);
        let (mut session, first) = Self::begin(document)?;
        if let Some((heads, seq)) = found.and_then(|i| standings.get(i)) {
            session.shown.clone_from(heads);
            session.seq = *seq;
            session.due = true;
            session.remark = session.marked;
        }
        Ok((session, first, found))
    }

    /// The document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The page has applied an event.
    pub fn ack(&mut self, event: u64) {
        if let Some((_, heads)) = self.offered.take_if(|(id, _)| *id == event) {
            self.shown = heads;
        }
    }

    /// Makes a page's edit where the page saw the document.
    ///
    /// # Errors
    /// The edit is refused; the page is told the whole value, and edits that it made on top of this one are refused too.
    pub fn edit(&mut self, edit: &Edit) -> Result<Commit, Failure> {
        self.begin_edit(edit)?;
        let made =
            self.document.edit_with(Some(&self.shown), edit.message.as_deref(), |root| ops::apply(root, &edit.ops));
        match made {
            Ok(((), commit)) => {
                self.edited(commit.hash());
                Ok(commit)
            }
            Err(error) => {
                self.roll_back();
                Err(error.into())
            }
        }
    }

    /// The page has made an edit, which is about to be made here where the page saw the document: at [`Session::shown`].
    ///
    /// # Errors
    /// It stands on an edit that was refused, and is refused with it.
    pub fn begin_edit(&mut self, edit: &Edit) -> Result<(), Failure> {
        self.ack(edit.base);
        self.offered = None;
        self.seq = edit.seq;
        self.due = true;
        if edit.base < self.rolled_back {
            // The page still shows it, and what it stands on.
            self.roll_back();
            return Err(Failure::new("ABORTED", "an edit that this one stands on was refused"));
        }
        self.marked |= edit.ops.iter().any(|op| matches!(op, Op::Mark { .. }));
        self.remark |= self.marked;
        Ok(())
    }

    /// The edit has been made, by a change if it changed anything.
    pub fn edited(&mut self, change: Option<ChangeHash>) {
        if let Some(hash) = change {
            self.shown = vec![hash];
        }
    }

    /// What the page shows.
    pub fn shown(&self) -> &[ChangeHash] {
        &self.shown
    }

    /// The page shows what is not stored and will not be.
    pub fn roll_back(&mut self) {
        self.reset = true;
        self.due = true;
        self.rolled_back = self.event + 1;
    }

    /// The next event for the page, if there is one and none is on its way.
    ///
    /// # Errors
    /// The document does not open any more.
    pub fn pump(&mut self) -> Result<Option<Json>, DocumentError> {
        if self.offered.is_some() && !self.reset {
            return Ok(None);
        }
        let now = self.document.heads()?;
        let deleted = self.document.is_deleted();
        if now == self.shown && deleted == self.deleted && !self.due {
            return Ok(None);
        }
        self.deleted = deleted;
        let patches = match self.reset {
            true => None,
            false => match self.document.diff(&self.shown, &now) {
                Ok(patches) => Some(patches),
                // The document was read anew after a failed write: there is no way from what the page shows.
                Err(DocumentError::Hot(HotError::UnknownHeads { .. })) => None,
                Err(error) => return Err(error),
            },
        };
        self.event += 1;
        let mut event = json!({
            "id": self.event, "seq": self.seq, "heads": patches::heads(&now), "deleted": deleted,
        });
        match patches {
            Some(patches) => {
                if self.remark {
                    event["marks"] = self.marks_at(&self.shown)?;
                }
                self.marked |=
                    patches.iter().any(|patch| matches!(patch, Patch::Text { marks, .. } if !marks.is_empty()));
                event["patches"] = patches::patches(&patches);
            }
            None => {
                event["value"] = self.document.value_at(&now)?.to_tagged_json();
                event["marks"] = self.marks_at(&now)?;
                self.rolled_back = self.event;
            }
        }
        self.offered = Some((self.event, now));
        (self.due, self.reset, self.remark) = (false, false, false);
        Ok(Some(event))
    }

    fn marks_at(&self, heads: &[ChangeHash]) -> Result<Json, DocumentError> {
        Ok(patches::marked(&self.document.read_at(heads, |view| Ok(view.marked_texts()))?))
    }

    /// A cursor in a text, as the page shows it.
    ///
    /// # Errors
    /// No text is there, or the index is past its end.
    pub fn cursor(&self, at: &[At], index: usize, side: Side) -> Result<Cursor, DocumentError> {
        self.document.cursor_at(&self.shown, ops::way(at), index, side)
    }

    /// Where cursors are in a text, as the page shows it, and the edit and event that this stands on.
    ///
    /// # Errors
    /// No text is there.
    pub fn locate(&self, at: &[At], cursors: &[Cursor]) -> Result<Vec<Option<usize>>, DocumentError> {
        self.document.locate_at(&self.shown, ops::way(at), cursors)
    }

    /// Undo and redo of what is edited from now on.
    pub fn undo_manager(&self, scope: &[At], capture: std::time::Duration) -> Undo {
        self.document.undo_manager(ops::way(scope), capture)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
