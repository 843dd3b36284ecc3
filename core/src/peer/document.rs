//! Handles of documents.
//!
//! A handle holds the hydrated document itself, shared with the engine: reading and editing lock that one document and
//! go nowhere near the driver's task. An edit is handed to the engine while the document is still locked, so the engine
//! sees the edits of a document in the order in which they were made.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::Notify;

use super::client::{Client, MAX_UNSTORED_EDITS};
use super::commit::Commit;
use super::hub::Flag;
use super::space::Snapshot;
use super::typed::Content;
use super::undo::Undo;
use super::watch::DocumentWatch;
use crate::document::edit::MapDraft;
use crate::document::hot::{ObjectId, View};
use crate::document::{
    At, ChangeInfo, Conflict, Cursor, EditError, EditOptions, HotCell, HotDocument, HotError, LocalChange, Patch, Side,
    Step, Template, UndoManager, Value,
};
use crate::engine::{Command, CommandError, Reply};
use crate::id::{ChangeHash, DocumentId, Path, SpaceId};

/// Why a document cannot be read or edited. Nothing has happened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The edit was refused, the document does not open, or it is open further up this thread's stack.
    #[error(transparent)]
    Hot(#[from] HotError),
    /// It was deleted; open the path again for its next generation.
    #[error("the document at {0} was deleted; open it again")]
    Deleted(Path),
    /// Too many edits wait for the store, or the document is being read anew after a failed write. Wait for
    /// [`Document::ready`].
    #[error("{MAX_UNSTORED_EDITS} edits wait to be stored, or the document is read anew: await `ready()` first")]
    Busy,
    /// It is not at the heads that the edit was meant for. Read it again, and decide again.
    #[error("the document at {path} is not at the heads that the edit was meant for")]
    Moved {
        /// Where.
        path: Path,
        /// The heads that it has.
        heads: Vec<ChangeHash>,
    },
    /// The document does not hold what the Rust type says.
    #[error("the document at {path} is not what its type says: {detail}")]
    Content {
        /// Where.
        path: Path,
        /// What does not fit.
        detail: String,
    },
    /// The engine refused.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl From<EditError> for DocumentError {
    fn from(error: EditError) -> Self {
        DocumentError::Hot(HotError::Edit(error))
    }
}

/// What the clones of a handle share.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) space: SpaceId,
    pub(crate) path: Path,
    pub(crate) document: DocumentId,
    generation: u32,
    template: Template,
    cell: ArcSwap<HotCell>,
    /// The engine was asked for the document anew.
    reopening: AtomicBool,
    reopened: Notify,
    flag: Arc<Flag>,
    /// Who takes note of edits made through this handle.
    recorders: Mutex<Vec<Weak<Mutex<UndoManager>>>>,
}

impl Core {
    pub(crate) fn new(
        client: Arc<Client>,
        space: SpaceId,
        path: Path,
        template: Template,
        (document, generation, cell): (DocumentId, u32, HotCell),
    ) -> Arc<Self> {
        let flag = client.hub.watch_document(space, &path, document);
        Arc::new(Self {
            client,
            space,
            path,
            document,
            generation,
            template,
            cell: ArcSwap::from_pointee(cell),
            reopening: AtomicBool::new(false),
            reopened: Notify::new(),
            flag,
            recorders: Mutex::default(),
        })
    }

    /// Whether the document was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.flag.is_deleted()
    }

    /// The hydrated document, whichever one the engine keeps in step now.
    pub(crate) fn cell(self: &Arc<Self>) -> Arc<HotCell> {
        let cell = self.cell.load_full();
        if cell.is_retired() {
            self.reopen();
        }
        cell
    }

    /// Has `manager` take note of every edit made through this handle and its clones.
    pub(crate) fn record_into(&self, manager: &Arc<Mutex<UndoManager>>) {
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        recorders.retain(|recorder| recorder.strong_count() > 0);
        recorders.push(Arc::downgrade(manager));
    }

    /// Tells every recorder but `except` of a change.
    pub(crate) fn record(&self, hot: &mut HotDocument, change: &LocalChange, except: Option<&Arc<Mutex<UndoManager>>>) {
        let recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.client.millis();
        for recorder in recorders.iter().filter_map(Weak::upgrade) {
            if except.is_none_or(|except| !Arc::ptr_eq(except, &recorder)) {
                // A change that cannot be compared cannot be undone; the edit itself stands.
                let _ = recorder.lock().unwrap_or_else(PoisonError::into_inner).record(hot, change, now);
            }
        }
    }

    pub(crate) fn with<R>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut HotDocument) -> Result<R, HotError>,
    ) -> Result<R, DocumentError> {
        let done = self.cell().with(act)?;
        if let Err(HotError::Quarantined { .. }) = &done {
            // The engine makes it anew without the culprit; who tries again finds it mended.
            self.reopen();
        }
        Ok(done?)
    }

    /// Whether an edit may be made at all.
    pub(crate) fn check_editable(self: &Arc<Self>) -> Result<(), DocumentError> {
        if self.flag.is_deleted() {
            return Err(DocumentError::Deleted(self.path.clone()));
        }
        if self.client.is_closed() {
            return Err(CommandError::Closed.into());
        }
        if self.cell().is_retired() || !self.client.edit_room() {
            return Err(DocumentError::Busy);
        }
        Ok(())
    }

    /// Hands changes to the engine. Call it while every document concerned is locked.
    pub(crate) fn send(cores: &[Arc<Core>], changes: Vec<LocalChange>) -> Result<Commit, CommandError> {
        let Some(first) = cores.first() else { return Err(CommandError::Closed) };
        let made = changes.iter().map(|change| (change.document, change.hash)).collect();
        let places = cores.iter().map(|core| (core.document, core.path.clone(), core.generation)).collect();
        let bytes = changes.iter().map(|change| change.bytes.len()).sum();
        let (commit, completer) = Commit::begin(first.client.clone(), first.space, made, places);
        let touched: Vec<Arc<Core>> = cores.to_vec();
        first.client.commit(Command::Commit { space: first.space, changes }, bytes, move |result| {
            if result.is_err() {
                // What these documents show is more than what is stored.
                touched.iter().for_each(Core::reopen);
            }
            completer.complete(result);
        })?;
        Ok(commit)
    }

    /// Gets the document from the engine anew, in the background.
    fn reopen(self: &Arc<Self>) {
        if self.reopening.swap(true, Ordering::AcqRel) {
            return;
        }
        let (space, path, template) = (self.space, self.path.clone(), self.template.clone());
        let core = self.clone();
        let sink = Box::new(move |result| {
            let mut deleted = None;
            match result {
                Ok(Reply::Document { document, cell, .. }) if document == core.document => {
                    core.cell.store(Arc::new(cell));
                }
                // Another generation lives at the path: this document was deleted.
                Ok(_) => deleted = Some(core.document),
                Err(_) => {}
            }
            core.reopening.store(false, Ordering::Release);
            core.client.hub.raise(core.space, &core.path, deleted);
            core.reopened.notify_waiters();
        });
        self.client.tell(Command::Open { space, path, template }, sink);
    }
}

/// A live document: read it, edit it, watch it. Cheap to clone; clones share everything.
///
/// `T` is what [`Document::get`] and [`Document::update`] speak: [`Value`], or a type with autosurgeon's `Hydrate` and
/// `Reconcile`. The document stays in memory while a handle exists.
///
/// Closures given to `read` and `edit` run on the caller's thread while this document is locked. Reading or editing any
/// document from inside one is [`HotError::Reentrant`], never a deadlock.
pub struct Document<T = Value> {
    core: Arc<Core>,
    cached: Arc<Mutex<Option<Cached<T>>>>,
    kind: PhantomData<fn() -> T>,
}

struct Cached<T> {
    heads: Vec<ChangeHash>,
    value: Arc<T>,
}

impl<T> Clone for Document<T> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), cached: self.cached.clone(), kind: PhantomData }
    }
}

impl<T> std::fmt::Debug for Document<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("path", &self.core.path).field("id", &self.core.document).finish()
    }
}

impl<T> Document<T> {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        Self { core, cached: Arc::default(), kind: PhantomData }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.core.path
    }

    /// Its id, the same on every peer.
    pub fn id(&self) -> DocumentId {
        self.core.document
    }

    /// Its generation: 0 for the first document of its path, one more after every deletion.
    pub fn generation(&self) -> u32 {
        self.core.generation
    }

    /// The space that it is in.
    pub fn space_id(&self) -> SpaceId {
        self.core.space
    }

    /// Whether it was deleted. What it last held can still be read.
    pub fn is_deleted(&self) -> bool {
        self.core.is_deleted()
    }

    /// The same document through another type.
    pub fn typed<U>(&self) -> Document<U> {
        Document::from_core(self.core.clone())
    }

    /// Its heads, sorted; none before the first change. Two peers with equal heads show equal values.
    pub fn heads(&self) -> Result<Vec<ChangeHash>, DocumentError> {
        self.core.with(HotDocument::heads)
    }

    /// Reads parts of it without copying the rest: `doc.read(|d| Ok(d.text("body")?.len()))`.
    pub fn read<R>(&self, f: impl FnOnce(&View<'_>) -> Result<R, EditError>) -> Result<R, DocumentError> {
        Ok(self.core.with(|hot| hot.read(f))??)
    }

    /// The whole value, whatever `T` is.
    pub fn value(&self) -> Result<Value, DocumentError> {
        self.core.with(HotDocument::value)
    }

    /// The whole value as it was at `heads`, and those heads.
    pub fn at(&self, heads: &[ChangeHash]) -> Result<Snapshot, DocumentError> {
        Ok(Snapshot { value: self.value_at(heads)?, heads: heads.to_vec() })
    }

    /// At most `limit` of its changes, newest first, from the one after `before` on. Every peer sees them in the same
    /// order.
    pub fn history(&self, before: Option<ChangeHash>, limit: usize) -> Result<Vec<ChangeInfo>, DocumentError> {
        self.core.with(|hot| hot.history(before, limit))
    }

    /// What leads from the value at `from` to the value at `to`. Neither has to be earlier than the other.
    pub fn diff(&self, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<Patch>, DocumentError> {
        self.core.with(|hot| hot.diff(from, to))
    }

    /// All values at a place that were written concurrently, the one that shows first. One means no conflict.
    pub fn conflicts(&self, at: impl IntoIterator<Item = impl Into<Step>>) -> Result<Vec<Conflict>, DocumentError> {
        let at: At = at.into_iter().map(Into::into).collect();
        self.core.with(|hot| hot.conflicts(&at))
    }

    /// A cursor at an index (UTF-16 code units) of the text at a place. It stays where it is through edits by anybody,
    /// and survives as a string.
    pub fn cursor(
        &self,
        text: impl IntoIterator<Item = impl Into<Step>>,
        index: usize,
        side: Side,
    ) -> Result<Cursor, DocumentError> {
        let at: At = text.into_iter().map(Into::into).collect();
        self.core.with(|hot| {
            let text = text_at(hot, &at)?;
            hot.cursor(&text, index, side, None)
        })
    }

    /// Where cursors of the text at a place are now; `None` for one whose character has not arrived.
    pub fn locate(
        &self,
        text: impl IntoIterator<Item = impl Into<Step>>,
        cursors: &[Cursor],
    ) -> Result<Vec<Option<usize>>, DocumentError> {
        let at: At = text.into_iter().map(Into::into).collect();
        self.core.with(|hot| {
            let text = text_at(hot, &at)?;
            hot.locate(&text, cursors, None)
        })
    }

    /// [`Document::cursor`] in the text as it was at `heads`.
    pub fn cursor_at(
        &self,
        heads: &[ChangeHash],
        text: impl IntoIterator<Item = impl Into<Step>>,
        index: usize,
        side: Side,
    ) -> Result<Cursor, DocumentError> {
        let at: At = text.into_iter().map(Into::into).collect();
        self.core.with(|hot| {
            let text = text_at(hot, &at)?;
            hot.cursor(&text, index, side, Some(heads))
        })
    }

    /// [`Document::locate`] in the text as it was at `heads`.
    pub fn locate_at(
        &self,
        heads: &[ChangeHash],
        text: impl IntoIterator<Item = impl Into<Step>>,
        cursors: &[Cursor],
    ) -> Result<Vec<Option<usize>>, DocumentError> {
        let at: At = text.into_iter().map(Into::into).collect();
        self.core.with(|hot| {
            let text = text_at(hot, &at)?;
            hot.locate(&text, cursors, Some(heads))
        })
    }

    /// The whole value as it was at `heads`.
    pub fn value_at(&self, heads: &[ChangeHash]) -> Result<Value, DocumentError> {
        self.core.with(|hot| hot.value_at(heads))
    }

    /// Reads parts of it as it was at `heads`.
    pub fn read_at<R>(
        &self,
        heads: &[ChangeHash],
        f: impl FnOnce(&View<'_>) -> Result<R, EditError>,
    ) -> Result<R, DocumentError> {
        Ok(self.core.with(|hot| hot.read_at(heads, f))??)
    }

    /// Edits it. What the closure does is one change, or, if it returns an error, nothing has happened. The edit is
    /// visible here at once; the [`Commit`] says when it is stored.
    ///
    /// ```no_run
    /// # async fn f(notes: foreshore::peer::Document) -> Result<(), Box<dyn std::error::Error>> {
    /// let commit = notes.edit(|d| {
    ///     d.text("body")?.splice(0..0, "hi")?;
    ///     d.put("title", "greeting")
    /// })?;
    /// commit.durable().await?;
    /// # Ok(()) }
    /// ```
    pub fn edit(&self, f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>) -> Result<Commit, DocumentError> {
        self.edit_with(None, None, f).map(|((), commit)| commit)
    }

    /// [`Document::edit`] as somebody saw the document at `heads`: the change is made there and merges with everything
    /// since.
    pub fn edit_at(
        &self,
        heads: &[ChangeHash],
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>,
    ) -> Result<Commit, DocumentError> {
        self.edit_with(Some(heads), None, f).map(|((), commit)| commit)
    }

    /// [`Document::edit`] if the document's heads, which `fits` is shown, are the right ones, and nothing at all otherwise. No
    /// edit comes in between. For programs that decide by what they have read, as HTTP's `If-Match` does: the heads say
    /// whether anything was written since, here or elsewhere, as far as this peer knows.
    ///
    /// # Errors
    /// [`DocumentError::Moved`] where they do not fit.
    pub fn edit_if<R>(
        &self,
        fits: impl FnOnce(&[ChangeHash]) -> bool,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Commit), DocumentError> {
        let options = EditOptions::at(self.core.client.wall());
        let mut moved = None;
        let done = self.edit_by(|hot| {
            let heads = hot.heads()?;
            if !fits(&heads) {
                moved = Some(heads);
                return Err(EditError::aborted("other heads").into());
            }
            hot.edit(&options, f)
        });
        match moved {
            Some(heads) => Err(DocumentError::Moved { path: self.core.path.clone(), heads }),
            None => done,
        }
    }

    /// The long form of [`Document::edit`]: at `heads` (`None`: the present), with a message for the history, and with
    /// whatever the closure returns.
    pub fn edit_with<R>(
        &self,
        heads: Option<&[ChangeHash]>,
        message: Option<&str>,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Commit), DocumentError> {
        let options = EditOptions { message: message.map(Into::into), ..EditOptions::at(self.core.client.wall()) };
        self.edit_by(|hot| match heads {
            Some(heads) => hot.edit_at(heads, &options, f),
            None => hot.edit(&options, f),
        })
    }

    /// Runs something that makes at most one change, and hands that to the engine.
    fn edit_by<R>(
        &self,
        act: impl FnOnce(&mut HotDocument) -> Result<(R, Option<LocalChange>), HotError>,
    ) -> Result<(R, Commit), DocumentError> {
        let core = &self.core;
        core.check_editable()?;
        let done = core.cell().with(|hot| {
            let (result, change) = act(hot)?;
            let commit = match change {
                Some(change) => {
                    core.record(hot, &change, None);
                    Core::send(std::slice::from_ref(core), vec![change])?
                }
                None => Commit::nothing(core.client.clone(), core.space, vec![(core.document, hot.heads()?)]),
            };
            Ok::<_, DocumentError>((result, commit))
        })??;
        core.client.hub.raise(core.space, &core.path, None);
        Ok(done)
    }

    /// Makes edits again that were taken out of the document; see [`HotDocument::make_again`]. Comes back with the commit, if
    /// there is anything to commit, and the edits that have no place any more.
    pub(crate) fn make_again(
        &self,
        aside: &[Vec<u8>],
        picks: &BTreeSet<ChangeHash>,
    ) -> Result<(Option<Commit>, Vec<ChangeHash>), DocumentError> {
        let core = &self.core;
        core.check_editable()?;
        let options = EditOptions::at(core.client.wall());
        let done = core.cell().with(|hot| {
            let again = hot.make_again(aside, picks, &options)?;
            if again.changes.is_empty() {
                return Ok::<_, DocumentError>((None, again.lost));
            }
            let commit = Core::send(std::slice::from_ref(core), again.changes)?;
            Ok((Some(commit), again.lost))
        })??;
        core.client.hub.raise(core.space, &core.path, None);
        Ok(done)
    }

    /// Waits until the store has room for another edit, after [`DocumentError::Busy`].
    pub async fn ready(&self) {
        let core = &self.core;
        loop {
            let mut reopened = pin!(core.reopened.notified());
            reopened.as_mut().enable();
            if !core.cell().is_retired() || core.client.is_closed() || self.is_deleted() {
                break;
            }
            reopened.await;
        }
        core.client.wait_edit_room().await;
    }

    /// Undo and redo of what is edited through this handle and its clones from now on, and of nothing else: at and
    /// below `scope` (empty: everywhere), edits within `capture` of each other being one step.
    pub fn undo_manager(&self, scope: impl IntoIterator<Item = impl Into<Step>>, capture: Duration) -> Undo {
        Undo::new(self.core.clone(), scope.into_iter().map(Into::into).collect(), capture)
    }

    /// Changes of it from now on: one item for whatever happened since the last, however much that was.
    pub fn watch(&self) -> Result<DocumentWatch, DocumentError> {
        DocumentWatch::new(self.core.clone(), At::new())
    }

    /// [`Document::watch`] for a part of it: only what touches the place, or what it is in, is reported.
    pub fn watch_at(&self, at: impl IntoIterator<Item = impl Into<Step>>) -> Result<DocumentWatch, DocumentError> {
        DocumentWatch::new(self.core.clone(), at.into_iter().map(Into::into).collect())
    }

    /// Waits until `peers` others have durably stored what is here now.
    pub async fn synced(&self, peers: usize) -> Result<(), DocumentError> {
        let (space, document, heads) = (self.core.space, self.core.document, self.heads()?);
        self.core.client.call(Command::Synced { space, document, heads, peers }).await?;
        Ok(())
    }
}

/// The name of the text at a place.
fn text_at(hot: &mut HotDocument, at: &At) -> Result<ObjectId, HotError> {
    let steps = || {
        at.iter().map(|step| match step {
            Step::Key(key) => format!("/{key}"),
            Step::Index(index) => format!("/{index}"),
        })
    };
    hot.object_id(at)?.ok_or_else(|| EditError::NotFound { at: steps().collect() }.into())
}

impl<T: Content> Document<T> {
    /// The whole document as a `T`, read once for each state of it and shared.
    ///
    /// # Errors
    /// [`DocumentError::Content`] when the document does not hold what `T` asks for; [`Document::value`] reads it still.
    pub fn get(&self) -> Result<Arc<T>, DocumentError> {
        let (heads, fresh) = self.core.with(|hot| {
            let heads = hot.heads()?;
            let known = self.cached().as_ref().filter(|cached| cached.heads == heads).map(|c| c.value.clone());
            match known {
                Some(value) => Ok((heads, Ok(value))),
                None => Ok((heads, hot.read(T::read_from)?.map(Arc::new))),
            }
        })?;
        let value = fresh.map_err(|detail| DocumentError::Content { path: self.core.path.clone(), detail })?;
        *self.cached() = Some(Cached { heads, value: value.clone() });
        Ok(value)
    }

    /// Reads the whole document, lets `f` change it, and writes the differences back. For small documents: it costs the
    /// whole document each time; [`Document::edit`] touches only what it names.
    pub fn update(&self, f: impl FnOnce(&mut T)) -> Result<Commit, DocumentError> {
        let options = EditOptions::at(self.core.client.wall());
        let path = self.core.path.clone();
        let mut unfit = None;
        let edited = self.edit_by(|hot| match hot.read(T::read_from)? {
            Ok(mut value) => {
                f(&mut value);
                hot.edit(&options, |draft| value.write_to(draft))
            }
            Err(detail) => {
                unfit = Some(detail);
                Ok(((), None))
            }
        });
        match unfit {
            Some(detail) => Err(DocumentError::Content { path, detail }),
            None => edited.map(|((), commit)| commit),
        }
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Option<Cached<T>>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
