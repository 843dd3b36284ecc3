//! Bringing changes into a hot document, under guard.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, Change, LoadOptions, ReadDoc, TextEncoding};

use super::{HotDocument, HotError, their_hash};
use crate::id::{Actor, ChangeHash};

/// Chunk type of a snapshot, in the byte after magic and checksum.
const SNAPSHOT: u8 = 0;

impl HotDocument {
    /// Takes changes that were admitted to the log. They are applied in one batch before the next read or edit, or at
    /// once when more than the bound would wait: so a document that nobody reads stays bounded too.
    pub fn push_remote(&mut self, chunks: Vec<(ChangeHash, Vec<u8>)>) -> Result<(), HotError> {
        for (hash, bytes) in chunks {
            self.pending_bytes += bytes.len();
            self.pending_hashes.insert(hash);
            self.pending.push(bytes);
        }
        if self.pending_bytes > self.pending_max {
            self.ready()?;
        }
        Ok(())
    }

    /// Whether changes wait to be applied.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Makes the object anew from chunks: after a quarantine, without what is hidden. The latest own changes stay, be they
    /// stored already or not; an actor of which one does not fit any more is not used again.
    pub fn reload(&mut self, chunks: Vec<Vec<u8>>) -> Result<(), HotError> {
        let mut fresh = Self::load(self.author, self.template.clone(), chunks)?;
        let made = std::mem::take(&mut self.made);
        fresh.apply(made.iter().flat_map(|made| made.chunks.iter().cloned()).collect())?;
        fresh.blocked = std::mem::take(&mut self.blocked);
        for change in &made {
            let doc = fresh.ready()?;
            if doc.get_change_meta_by_hash(&their_hash(&change.hash)).is_none() {
                fresh.blocked.insert(change.n);
            }
        }
        *self = Self { pending_max: self.pending_max, made, made_bytes: self.made_bytes, ..fresh };
        Ok(())
    }

    /// Makes the object anew from chunks after changes were taken out of the document for good. Of the latest own changes
    /// those that are not stored yet stay, as far as what they stand on does; `spent` actors are not used again.
    pub fn evict(
        &mut self,
        chunks: Vec<Vec<u8>>,
        evicted: &BTreeSet<ChangeHash>,
        spent: &[Actor],
    ) -> Result<(), HotError> {
        let mut fresh = Self::load(self.author, self.template.clone(), chunks)?;
        // Whoever watches gets patches from what it has seen, which may have come to be applied only now.
        let _ = self.ready();
        fresh.former = self.doc.take().map(Box::new);
        let mut made = std::mem::take(&mut self.made);
        made.retain(|change| !evicted.contains(&change.hash));
        let mut gone = BTreeSet::new();
        for change in &made {
            fresh.apply(change.chunks.clone())?;
            let doc = fresh.ready()?;
            if doc.get_change_meta_by_hash(&their_hash(&change.hash)).is_none() {
                gone.insert(change.hash);
                fresh.blocked.insert(change.n);
            }
        }
        made.retain(|change| !gone.contains(&change.hash));
        fresh.blocked.append(&mut self.blocked);
        fresh.block_actors(spent);
        let weight = made.iter().flat_map(|change| &change.chunks).map(Vec::len).sum();
        *self = Self { pending_max: self.pending_max, made, made_bytes: weight, ..fresh };
        Ok(())
    }

    /// Applies what waits.
    pub(in crate::document) fn ready(&mut self) -> Result<&Automerge, HotError> {
        if !self.pending.is_empty() && self.doc.is_some() {
            let pending = std::mem::take(&mut self.pending);
            self.pending_hashes.clear();
            self.pending_bytes = 0;
            if let Err(error) = self.apply(pending) {
                let detail = error.to_string();
                return Err(self.quarantine(detail));
            }
        }
        self.doc.as_ref().ok_or_else(|| HotError::Quarantined { detail: self.quarantined.clone() })
    }

    /// The object as it is together with what was taken out of it last; `None` if nothing was.
    pub(in crate::document) fn with_former(&mut self) -> Result<Option<Automerge>, HotError> {
        self.ready()?;
        let Some(former) = self.former.take() else { return Ok(None) };
        let joined = self.guard(|doc| {
            let mut all = former.fork();
            all.merge(doc).map(|_| all)
        });
        self.former = Some(former);
        Ok(joined?.ok())
    }

    /// The object as it is, without what waits.
    pub(super) fn applied(&self) -> Result<&Automerge, HotError> {
        self.doc.as_ref().ok_or_else(|| HotError::Quarantined { detail: self.quarantined.clone() })
    }

    /// Applies what waits if that brings any of these heads.
    pub(super) fn bring(&mut self, heads: &[ChangeHash]) -> Result<(), HotError> {
        if heads.iter().any(|hash| self.pending_hashes.contains(hash)) {
            self.ready()?;
        }
        Ok(())
    }

    /// Runs something on the object; a panic discards it.
    pub(in crate::document) fn guard<R>(&mut self, f: impl FnOnce(&mut Automerge) -> R) -> Result<R, HotError> {
        let Some(doc) = self.doc.as_mut() else {
            return Err(HotError::Quarantined { detail: self.quarantined.clone() });
        };
        match catch_unwind(AssertUnwindSafe(|| f(doc))) {
            Ok(result) => Ok(result),
            Err(payload) => {
                let detail = panic_text(&*payload);
                Err(self.quarantine(detail))
            }
        }
    }

    pub(super) fn quarantine(&mut self, detail: String) -> HotError {
        self.doc = None;
        self.pending = Vec::new();
        self.pending_hashes.clear();
        self.pending_bytes = 0;
        self.own = None;
        self.last = None;
        self.layered.clear();
        self.quarantined.clone_from(&detail);
        HotError::Quarantined { detail }
    }

    /// First fill: chunks and the template's layers.
    pub(super) fn fill(&mut self, chunks: Vec<Vec<u8>>) -> Result<(), HotError> {
        self.apply(chunks)?;
        let missing = self.guard(|doc| doc.get_missing_deps(&[]).len())?;
        if missing > 0 {
            return Err(HotError::MissingDependencies { count: missing });
        }
        self.float_layers()
    }

    /// Applies the template's layers that no change has brought. They stay out of `apply`, which takes what it is given
    /// for committed.
    pub(super) fn float_layers(&mut self) -> Result<(), HotError> {
        let doc = self.doc.as_ref();
        let absent =
            |hash: &ChangeHash| doc.is_some_and(|doc| doc.get_change_meta_by_hash(&their_hash(hash)).is_none());
        let layers: Vec<_> = self.template.layers().filter(|(hash, _)| absent(hash)).collect();
        let changes: Vec<_> = layers.iter().filter_map(|(_, bytes)| Change::from_bytes(bytes.to_vec()).ok()).collect();
        let hashes: Vec<_> = layers.iter().map(|(hash, _)| *hash).collect();
        self.floating.extend(hashes);
        self.apply_changes(changes)
    }

    fn apply(&mut self, chunks: Vec<Vec<u8>>) -> Result<(), HotError> {
        let mut changes = Vec::with_capacity(chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            self.chunk_bytes += chunk.len();
            let parsed = if chunk.get(8) == Some(&SNAPSHOT) { self.snapshot(chunk)? } else { change(chunk)? };
            match parsed {
                Ok(parsed) => changes.extend(parsed),
                Err(detail) => return Err(HotError::Chunk { index, detail }),
            }
        }
        for change in &changes {
            self.floating.remove(&super::own_hash(&change.hash()));
        }
        self.apply_changes(changes)
    }

    fn apply_changes(&mut self, changes: Vec<Change>) -> Result<(), HotError> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.guard(|doc| doc.apply_changes(changes))? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.quarantine(error.to_string())),
        }
    }

    /// A snapshot becomes the object itself while that is empty, and its changes otherwise.
    fn snapshot(&mut self, chunk: &[u8]) -> Result<Result<Vec<Change>, String>, HotError> {
        let options = || LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit);
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            Automerge::load_with_options(chunk, options()).map_err(|error| error.to_string())
        }));
        match loaded {
            Err(payload) => Err(HotError::Quarantined { detail: panic_text(&*payload) }),
            Ok(Err(detail)) => Ok(Err(detail)),
            Ok(Ok(doc)) if self.doc.as_ref().is_some_and(Automerge::is_empty) => {
                self.doc = Some(doc);
                Ok(Ok(Vec::new()))
            }
            Ok(Ok(doc)) => Ok(Ok(doc.get_changes(&[]))),
        }
    }
}

/// One change chunk, compressed or not.
fn change(chunk: &[u8]) -> Result<Result<Vec<Change>, String>, HotError> {
    match catch_unwind(AssertUnwindSafe(|| Change::from_bytes(chunk.to_vec()))) {
        Ok(Ok(change)) => Ok(Ok(vec![change])),
        Ok(Err(error)) => Ok(Err(error.to_string())),
        Err(payload) => Ok(Err(panic_text(&*payload))),
    }
}

/// What a panic said.
pub(super) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}
