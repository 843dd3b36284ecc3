//! Hot documents: an Automerge object while somebody looks.
//!
//! A [`HotDocument`] is made from a document's change chunks, plus the layers of the program's template, which are
//! applied in memory only. Remote changes are pushed as bytes, wait, and are applied in one batch before the next read
//! or edit: one at a time costs O(history) each.
//!
//! **Who commits.** Edits are made on the device's own actors ([`own_actor`]), of which a document needs one as long as
//! edits are made at its heads. An edit at older heads ([`HotDocument::edit_at`]) is isolated there, together with the
//! actor's own last change when that is among their ancestors; otherwise it takes another of the device's first
//! [`ACTORS`] actors, and a fresh one beyond them only when none of those fits. So every change directly depends on its
//! actor's previous one, and intent survives.
//!
//! **Operation counters.** `start_op ≤ max_op(deps) + 2¹⁶` is what ingest demands. Automerge numbers an isolated change
//! from the document's greatest counter, so where that lies too far ahead the change is made on a fork at its heads.
//!
//! **Heads** are those of the committed changes. Layers that no change depends on yet are in the view, never in the
//! heads: `view(H) = H ∪ layers`, for every H, so what a program sees at old heads has its template too.
//!
//! **Panics.** Automerge panics on some well-hashed nonsense. Native code catches it, drops the object and answers
//! [`HotError::Quarantined`] until the engine rebuilds it without the culprit; on wasm a panic ends the engine.
//!
//! Not here: durability, signatures, who may write. The engine does that with the [`LocalChange`].

mod apply;
mod cell;
mod commit;
mod keystroke;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use automerge::{Automerge, ReadDoc, TextEncoding};

pub use cell::HotCell;
#[cfg(feature = "net")]
pub(crate) use commit::Draft;
pub use commit::EditOptions;
pub(super) use keystroke::Caret;
use keystroke::Last;
pub use view::{ObjectId, View};
pub(super) use view::{is_op_id, resolve};

use super::edit::EditError;
use super::patch::Unmarked;
use super::template::{Template, TemplateError};
use super::value::{self, Value};
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, Incarnation};

#[cfg(doc)]
use super::local::{LocalChange, own_actor};

/// How many of its actors a device reuses for edits at older heads. Two suffice for a page that lags by its own unsaved
/// edits; 8 leave room for several pages.
pub const ACTORS: u32 = 8;

/// Default bound on pushed and not yet applied bytes of one document: 4 MiB, about 40,000 keystrokes.
pub const PENDING_BYTES: usize = 4 << 20;

/// Why a hot document cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HotError {
    /// Automerge panicked or contradicted itself; the object is discarded and has to be rebuilt without the culprit.
    #[error("this document does not open: {detail}")]
    Quarantined {
        /// What was seen.
        detail: String,
    },
    /// A chunk given to load is not a change or snapshot. The document was not made.
    #[error("chunk {index} is not a change: {detail}")]
    Chunk {
        /// Its place in the list.
        index: usize,
        /// What is wrong.
        detail: String,
    },
    /// Changes whose dependencies were not given. The document was not made.
    #[error("{count} changes lack dependencies")]
    MissingDependencies {
        /// How many dependencies are missing.
        count: usize,
    },
    /// Heads that this replica does not have.
    #[error("the change {hash} is not here")]
    UnknownHeads {
        /// The first one.
        hash: ChangeHash,
    },
    /// The edit was refused; nothing happened.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Two templates of one document contradict each other.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The document is being edited or read by this very thread, further up the stack.
    #[error("documents cannot be opened inside an edit or read of a document")]
    Reentrant,
}

/// Whose changes edits make, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The device that signs.
    pub device: DeviceId,
    /// The document.
    pub document: DocumentId,
    /// The store's incarnation.
    pub incarnation: Incarnation,
}

impl Author {
    fn actor(&self, n: u32) -> Actor {
        super::local::own_actor(&self.device, &self.document, self.incarnation, n)
    }
}

/// A document in memory.
pub struct HotDocument {
    author: Author,
    template: Template,
    /// `None` once it is quarantined.
    doc: Option<Automerge>,
    /// Layers that are applied and that no change depends on.
    floating: BTreeSet<ChangeHash>,
    pending: Vec<Vec<u8>>,
    pending_hashes: BTreeSet<ChangeHash>,
    pending_bytes: usize,
    pending_max: usize,
    /// Bytes of all chunks that were applied, for the estimate.
    chunk_bytes: usize,
    /// Last change on each of the own actors; filled at the first edit.
    own: Option<BTreeMap<u32, ChangeHash>>,
    /// Own actors whose last change stands on every layer of the template.
    layered: BTreeSet<u32>,
    /// Own actors that must not be used.
    blocked: BTreeSet<u32>,
    /// The latest own change.
    last: Option<Last>,
    /// How many changes were not collected from the document.
    #[cfg(test)]
    proven: usize,
    /// The latest own changes, which may not be stored yet.
    made: VecDeque<Made>,
    made_bytes: usize,
    /// What the last diff found, for the next.
    pub(super) unmarked: Unmarked,
    /// The object as it was before changes were taken out of it, for those who watch and have seen that.
    former: Option<Box<Automerge>>,
    quarantined: String,
}

/// An own change, its layers first.
struct Made {
    n: u32,
    hash: ChangeHash,
    chunks: Vec<Vec<u8>>,
}

/// How many own changes a document remembers for [`HotDocument::reload`]: more than wait to be stored at any time.
const MADE: usize = 1024;
/// How many bytes of them.
const MADE_BYTES: usize = 1 << 20;

impl HotDocument {
    /// A document without changes.
    pub fn new(author: Author, template: Template) -> Result<Self, HotError> {
        Self::load(author, template, Vec::new())
    }

    /// A document from its chunks: changes in any order, or a snapshot and what came after.
    pub fn load(author: Author, template: Template, chunks: Vec<Vec<u8>>) -> Result<Self, HotError> {
        let mut hot = Self {
            author,
            template,
            doc: Some(Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit)),
            floating: BTreeSet::new(),
            pending: Vec::new(),
            pending_hashes: BTreeSet::new(),
            pending_bytes: 0,
            pending_max: PENDING_BYTES,
            chunk_bytes: 0,
            own: None,
            layered: BTreeSet::new(),
            blocked: BTreeSet::new(),
            last: None,
            #[cfg(test)]
            proven: 0,
            made: VecDeque::new(),
            made_bytes: 0,
            unmarked: Unmarked::default(),
            former: None,
            quarantined: String::new(),
        };
        hot.fill(chunks)?;
        Ok(hot)
    }

    /// Bounds the bytes that may wait between two reads. Worst-case memory of a document is its estimate plus this.
    #[must_use]
    pub fn pending_max(mut self, bytes: usize) -> Self {
        self.pending_max = bytes;
        self
    }

    /// Keeps edits off those of the own actors that are among `hidden`: changes of theirs exist but are hidden from view,
    /// so their next seq is not to be seen here.
    pub fn block_actors<'a>(&mut self, hidden: impl IntoIterator<Item = &'a Actor>) {
        let own: Vec<Actor> = (0..8 * ACTORS).map(|n| self.author.actor(n)).collect();
        for actor in hidden {
            self.blocked.extend((0..).zip(&own).filter(|(_, own)| *own == actor).map(|(n, _)| n));
        }
    }

    /// Applies the layers of another program's template, or of a later version of this one's, as far as they are new.
    /// Refused, without effect, when a layer of it has a root key of another layer.
    pub fn widen(&mut self, template: &Template) -> Result<(), HotError> {
        let Some(joined) = self.template.join(template)? else { return Ok(()) };
        self.ready()?;
        self.template = joined;
        self.layered.clear();
        self.float_layers()
    }

    /// Whose changes edits make.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Whether the object had to be discarded; [`HotDocument::reload`] makes it anew.
    pub fn is_quarantined(&self) -> bool {
        self.doc.is_none()
    }

    /// The heads of the committed changes, sorted; none before the first.
    pub fn heads(&mut self) -> Result<Vec<ChangeHash>, HotError> {
        let heads = self.ready()?.get_heads();
        Ok(heads.iter().map(own_hash).filter(|hash| !self.floating.contains(hash)).collect())
    }

    /// The whole value.
    pub fn value(&mut self) -> Result<Value, HotError> {
        self.ready()?;
        self.guard(|doc| value::read_root(doc, None))
    }

    /// The whole value at earlier heads, the template's layers included.
    pub fn value_at(&mut self, heads: &[ChangeHash]) -> Result<Value, HotError> {
        let view = self.view_heads(heads)?;
        self.guard(|doc| value::read_root(doc, view.as_deref()))
    }

    /// Memory in bytes, roughly. Measured on Automerge 0.12: about 16 KB for an empty document and 140 B for a change of
    /// one operation.
    pub fn estimate_bytes(&self) -> usize {
        let stats = self.doc.as_ref().map(|doc| doc.stats());
        let (ops, changes) = stats.map_or((0, 0), |s| (s.num_ops as usize, s.num_changes as usize));
        16_000 + 60 * ops + 80 * changes + self.chunk_bytes / 2 + self.made_bytes + self.pending_bytes
    }

    /// The heads to read at; `None` for the present.
    pub(super) fn view_heads(&mut self, heads: &[ChangeHash]) -> Result<Option<Vec<automerge::ChangeHash>>, HotError> {
        self.ready()?;
        self.applied_view_heads(heads)
    }

    /// [`HotDocument::view_heads`] of what is applied already: what waits is looked at only when these heads are in it.
    fn applied_view_heads(&mut self, heads: &[ChangeHash]) -> Result<Option<Vec<automerge::ChangeHash>>, HotError> {
        let mut asked = heads.to_vec();
        asked.sort_unstable();
        asked.dedup();
        let doc = self.applied()?;
        let mut now: Vec<ChangeHash> = doc.get_heads().iter().map(own_hash).collect();
        now.retain(|hash| !self.floating.contains(hash));
        now.sort_unstable();
        if asked == now {
            return Ok(None);
        }
        if let Some(hash) = asked.iter().find(|hash| doc.get_change_meta_by_hash(&their_hash(hash)).is_none()) {
            return Err(HotError::UnknownHeads { hash: *hash });
        }
        let layers = self.template.layers().map(|(hash, _)| hash);
        Ok(Some(asked.iter().copied().chain(layers).map(|hash| their_hash(&hash)).collect()))
    }
}

/// Our hash of Automerge's.
pub(super) fn own_hash(hash: &automerge::ChangeHash) -> ChangeHash {
    ChangeHash(hash.0)
}

/// Automerge's hash of ours.
pub(super) fn their_hash(hash: &ChangeHash) -> automerge::ChangeHash {
    automerge::ChangeHash(hash.0)
}

#[cfg(test)]
pub(super) mod tests;
