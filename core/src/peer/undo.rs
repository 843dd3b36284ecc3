//! Undo and redo of what a program edited through a handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::commit::Commit;
use super::document::{Core, DocumentError};
use crate::document::{At, EditOptions, HotDocument, HotError, LocalChange, UndoManager};

/// Takes back one's own edits, step by step; others' edits stay. From
/// [`Document::undo_manager`](super::Document::undo_manager). Clones share their steps.
#[derive(Clone)]
pub struct Undo {
    core: Arc<Core>,
    manager: Arc<Mutex<UndoManager>>,
}

impl Undo {
    pub(crate) fn new(core: Arc<Core>, scope: At, capture: Duration) -> Self {
        let capture = u64::try_from(capture.as_millis()).unwrap_or(u64::MAX);
        let manager = Arc::new(Mutex::new(UndoManager::new(scope, capture)));
        core.record_into(&manager);
        Self { core, manager }
    }

    fn manager(&self) -> MutexGuard<'_, UndoManager> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a step to undo.
    pub fn can_undo(&self) -> bool {
        self.manager().can_undo()
    }

    /// Whether there is a step to redo.
    pub fn can_redo(&self) -> bool {
        self.manager().can_redo()
    }

    /// The next edit begins a step of its own.
    pub fn boundary(&self) {
        self.manager().boundary();
    }

    /// Takes the last step back. `None`: there was none, or nothing of it is left to take back.
    pub fn undo(&self) -> Result<Option<Commit>, DocumentError> {
        self.step(UndoManager::undo)
    }

    /// Takes the last undo back. `None`: there was none, or nothing of it is left to take back.
    pub fn redo(&self) -> Result<Option<Commit>, DocumentError> {
        self.step(UndoManager::redo)
    }

    fn step(
        &self,
        act: impl FnOnce(&mut UndoManager, &mut HotDocument, &EditOptions) -> Result<Option<LocalChange>, HotError>,
    ) -> Result<Option<Commit>, DocumentError> {
        let core = &self.core;
        core.check_editable()?;
        let options = EditOptions::at(core.client.wall());
        let commit = core.cell().with(|hot| {
            let change = act(&mut self.manager(), hot, &options)?;
            let Some(change) = change else { return Ok(None) };
            core.record(hot, &change, Some(&self.manager));
            Ok::<_, DocumentError>(Some(Core::send(std::slice::from_ref(core), vec![change])?))
        })??;
        core.client.hub.raise(core.space, &core.path, None);
        Ok(commit)
    }
}
