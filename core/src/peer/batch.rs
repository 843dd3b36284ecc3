//! Edits of several documents that go together.
//!
//! All documents are locked at once, in the order of their ids. Every edit runs as a draft; only when all of them have
//! succeeded do the drafts become changes, which leave in one command and are stored in one write.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::client::Client;
use super::commit::Commit;
use super::document::{Core, Document, DocumentError};
use crate::document::edit::MapDraft;
use crate::document::hot::Draft;
use crate::document::{EditError, EditOptions, HotCell, HotDocument, HotError, LocalChange};
use crate::engine::CommandError;
use crate::id::{ChangeHash, DocumentId, SpaceId};

type Edit<'e> = Box<dyn FnOnce(&mut MapDraft<'_>) -> Result<(), EditError> + 'e>;

/// What is to be done to one document.
struct Part<'e> {
    core: Arc<Core>,
    /// Where the edits see the document; `None`: as it stands.
    heads: Option<Vec<ChangeHash>>,
    message: Option<String>,
    edits: Vec<Edit<'e>>,
}

/// The edits of a [`Space::batch`](super::Space::batch).
pub struct Batch<'e> {
    client: Arc<Client>,
    space: SpaceId,
    parts: BTreeMap<DocumentId, Part<'e>>,
    /// A document of another space was named.
    foreign: bool,
}

impl<'e> Batch<'e> {
    pub(crate) fn new(client: Arc<Client>, space: SpaceId) -> Self {
        Self { client, space, parts: BTreeMap::new(), foreign: false }
    }

    /// Adds an edit. Several edits of one document become one change, in the order in which they were added.
    pub fn edit<T>(
        &mut self,
        document: &Document<T>,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError> + 'e,
    ) -> &mut Self {
        self.edit_with(document, None, None, f)
    }

    /// [`Batch::edit`] as somebody saw the document at `heads` (`None`: as it stands), with a message for the history. Of
    /// several edits of one document the first says where, and the last that has a message which.
    pub fn edit_with<T>(
        &mut self,
        document: &Document<T>,
        heads: Option<&[ChangeHash]>,
        message: Option<&str>,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError> + 'e,
    ) -> &mut Self {
        let core = document.core();
        self.foreign |= core.space != self.space;
        let part = self.parts.entry(core.document).or_insert_with(|| {
            let (core, heads) = (core.clone(), heads.map(<[ChangeHash]>::to_vec));
            Part { core, heads, message: None, edits: Vec::new() }
        });
        part.message = message.map(Into::into).or(part.message.take());
        part.edits.push(Box::new(f));
        self
    }

    pub(crate) fn commit(self) -> Result<Commit, DocumentError> {
        if self.foreign {
            let why = "its documents are in several spaces".into();
            return Err(CommandError::Invalid { what: "batch", why }.into());
        }
        let parts: Vec<Part<'e>> = self.parts.into_values().collect();
        let cores: Vec<Arc<Core>> = parts.iter().map(|part| part.core.clone()).collect();
        let options: Vec<EditOptions> = (parts.iter())
            .map(|part| EditOptions { message: part.message.clone(), ..EditOptions::at(self.client.wall()) })
            .collect();
        cores.iter().try_for_each(|core| core.check_editable())?;
        let cells: Vec<Arc<HotCell>> = cores.iter().map(Core::cell).collect();
        let commit = HotCell::with_all(&cells, |documents| {
            let drafts = draft_all(documents, parts)?;
            let mut changes: Vec<LocalChange> = Vec::new();
            for (((document, draft), core), options) in documents.iter_mut().zip(drafts).zip(&cores).zip(&options) {
                if let Some(change) = document.keep(draft, options)? {
                    core.record(document, &change, None);
                    changes.push(change);
                }
            }
            if changes.is_empty() {
                let heads = heads(documents)?;
                return Ok(Commit::nothing(self.client.clone(), self.space, heads));
            }
            Core::send(&cores, changes).map_err(DocumentError::from)
        })??;
        cores.iter().for_each(|core| self.client.hub.raise(core.space, &core.path, None));
        Ok(commit)
    }
}

fn heads(
    documents: &mut [impl std::ops::DerefMut<Target = HotDocument>],
) -> Result<Vec<(DocumentId, Vec<ChangeHash>)>, HotError> {
    documents.iter_mut().map(|document| Ok((document.author().document, document.heads()?))).collect()
}

/// Runs every edit; when one fails, those before it are undone.
fn draft_all(
    documents: &mut [impl std::ops::DerefMut<Target = HotDocument>],
    parts: Vec<Part<'_>>,
) -> Result<Vec<Draft>, DocumentError> {
    let mut drafts = Vec::new();
    for (i, Part { heads, edits, .. }) in parts.into_iter().enumerate() {
        let run = || documents[i].draft(heads.as_deref(), |draft| edits.into_iter().try_for_each(|edit| edit(draft)));
        // A panic of the program's closure undoes the others too, and goes on.
        let failed = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(((), draft))) => {
                drafts.push(draft);
                continue;
            }
            Ok(Err(error)) => Ok(error),
            Err(panic) => Err(panic),
        };
        for (document, draft) in documents.iter_mut().zip(drafts) {
            document.discard(draft)?;
        }
        return Err(failed.unwrap_or_else(|panic| resume_unwind(panic)).into());
    }
    Ok(drafts)
}
