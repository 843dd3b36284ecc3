//! A hot document that the engine and any number of handles share.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{HotDocument, HotError};

std::thread_local! {
    /// Whether this thread is inside [`HotCell::with`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Shares a [`HotDocument`]. Reading and editing happen on the caller's thread, one at a time; opening a document inside
/// another's closure is an error, never a deadlock.
#[derive(Clone)]
pub struct HotCell(Arc<Shared>);

struct Shared {
    document: Mutex<HotDocument>,
    /// The engine keeps it in step no more.
    retired: AtomicBool,
}

impl HotCell {
    /// Shares a document.
    pub fn new(document: HotDocument) -> Self {
        Self(Arc::new(Shared { document: Mutex::new(document), retired: AtomicBool::new(false) }))
    }

    /// Runs something on the document. A panic of `f` leaves it whole: edits roll back.
    pub fn with<R>(&self, f: impl FnOnce(&mut HotDocument) -> R) -> Result<R, HotError> {
        let _leave = Leave::enter()?;
        Ok(f(&mut self.0.document.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Runs something on several documents at once, for edits that go together. `cells` are distinct and sorted by their
    /// documents' ids, so that two threads cannot wait for each other.
    #[cfg(feature = "net")]
    pub(crate) fn with_all<R>(
        cells: &[Arc<HotCell>],
        f: impl FnOnce(&mut [std::sync::MutexGuard<'_, HotDocument>]) -> R,
    ) -> Result<R, HotError> {
        let _leave = Leave::enter()?;
        let mut documents: Vec<_> =
            cells.iter().map(|cell| cell.0.document.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        Ok(f(&mut documents))
    }

    /// Says to whoever holds it that the engine has let go of it: it shows what is not stored, or not all that is. They
    /// open the document anew.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::Release);
    }

    /// Whether the engine has let go of it.
    pub fn is_retired(&self) -> bool {
        self.0.retired.load(Ordering::Acquire)
    }

    /// How many handles share it, this one included. One means that nobody else looks and it may be let go.
    pub fn shares(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Notes that this thread is inside a document until it is dropped.
struct Leave;

impl Leave {
    fn enter() -> Result<Self, HotError> {
        if INSIDE.replace(true) { Err(HotError::Reentrant) } else { Ok(Self) }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

impl std::fmt::Debug for HotCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotCell").finish_non_exhaustive()
    }
}
