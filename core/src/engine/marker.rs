//! Crash markers: what a document was going through when the process died.
//!
//! Automerge's panics are caught where the target unwinds. What cannot be caught (an abort on wasm, a stack that
//! overflows, memory that runs out) would kill the process again at every start. So before a document is hydrated for the
//! first time after changes came from elsewhere, a marker is made durable, and taken away once the document has opened. A
//! process that finds a marker tries once more; when a document has killed [`MAX_ATTEMPTS`] processes in a row, the
//! culprit is searched for by bisection, each step marked before it is tried, hidden from the view and reported.
//!
//! A single crash proves nothing: somebody may have pulled the plug.

use std::collections::BTreeMap;

use super::{Engine, Event};
use crate::document::quarantine::{self, Bisection};
use crate::document::{Chunk, row};
use crate::id::DocumentId;
use crate::io::{Rows, Table, WriteOp};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Deaths in a row while one document was being opened after which the document is the suspect.
pub(super) const MAX_ATTEMPTS: u8 = 3;

/// Key of a document's marker.
fn key(document: &DocumentId) -> Vec<u8> {
    [b"opening/".as_slice(), &document.0].concat()
}

/// What is being tried with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    /// Opening it whole, for the nth time since it last succeeded.
    Whole(u8),
    /// A step of the search for the culprit.
    Search(Bisection),
}

impl Codec for Marker {
    fn encode(&self, w: &mut Writer) {
        match self {
            Marker::Whole(attempts) => {
                w.u8(0).u8(*attempts);
            }
            Marker::Search(search) => {
                w.u8(1);
                search.encode(w);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("marker")? {
            0 => r.u8("attempts").map(Marker::Whole),
            1 => Bisection::decode(r).map(Marker::Search),
            _ => Err(DecodeError::Invalid { field: "marker" }),
        }
    }
}

/// Markers of this process and of those that died before it.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// What killed earlier processes, as they left it.
    left: BTreeMap<DocumentId, Marker>,
    /// Searches that go on in this process.
    searching: BTreeMap<DocumentId, Bisection>,
    /// What is durable now and may be tried.
    durable: BTreeMap<DocumentId, Marker>,
}

impl Markers {
    /// Reads what earlier processes left. A marker that does not decode counts for nothing.
    pub(super) fn load(meta: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let rows = meta.range(b"opening/".to_vec()..b"opening0".to_vec());
        let left = rows.filter_map(|(key, value)| {
            let document = DocumentId(key.get(8..)?.try_into().ok()?);
            Some((document, Marker::from_bytes(value).ok()?))
        });
        Self { left: left.collect(), ..Self::default() }
    }
}

impl Engine {
    /// Whether a document may be opened now. If not, its marker is on its way, and whoever waits is served when that is
    /// durable.
    pub(super) fn may_open(&mut self, id: DocumentId, rows: &Rows) -> bool {
        let working = &self.documents[&id];
        let entry = self.spaces.get(&working.space).and_then(|s| s.index.by_id(&id));
        let left = self.markers.left.get(&id);
        let searching = self.markers.searching.contains_key(&id);
        let suspicious = left.is_some() || searching || entry.is_some_and(|e| e.unproven);
        if !suspicious || (self.markers.durable.contains_key(&id) && !searching) {
            return true;
        }
        match left {
            Some(Marker::Whole(attempts)) if *attempts >= MAX_ATTEMPTS => {
                let visible = self.visible(rows).len() as u64;
                self.markers.left.remove(&id);
                self.markers.searching.insert(id, Bisection::new(visible));
            }
            Some(Marker::Search(search)) => {
                let mut search = *search;
                search.report(false);
                self.markers.left.remove(&id);
                self.markers.searching.insert(id, search);
            }
            _ => {}
        }
        if self.markers.searching.contains_key(&id) && !self.search(id, rows) {
            return false;
        }
        let attempts = match self.markers.left.get(&id) {
            Some(Marker::Whole(attempts)) => *attempts,
            _ => 0,
        };
        self.mark(id, Marker::Whole(attempts.saturating_add(1)));
        false
    }

    /// One step of the search for a culprit; `true` when it is over.
    fn search(&mut self, id: DocumentId, rows: &Rows) -> bool {
        let chunks = self.visible(rows);
        let search = self.markers.searching[&id];
        if let Some(prefix) = search.next_prefix() {
            if self.markers.durable.remove(&id) != Some(Marker::Search(search)) {
                self.mark(id, Marker::Search(search));
                return false;
            }
            let sound = quarantine::is_sound(chunks.iter().take(prefix as usize).map(Chunk::bytes));
            let search = self.markers.searching.get_mut(&id).expect("looked at above");
            search.report(sound);
            return self.search(id, rows);
        }
        self.markers.searching.remove(&id);
        self.markers.durable.remove(&id);
        if let Some(culprit) = search.culprit().and_then(|at| chunks.get(at as usize)) {
            self.hide(id, &chunks, &[culprit.hash()]);
        }
        true
    }

    fn mark(&mut self, id: DocumentId, marker: Marker) {
        self.pending.ops.push(WriteOp::Put(Table::Meta, key(&id), marker.to_bytes()));
        self.pending.marked.push((id, marker));
    }

    /// A marker is durable: go on with who waits for the document.
    pub(super) fn on_marked(&mut self, id: DocumentId, marker: Marker) {
        self.markers.durable.insert(id, marker);
        self.pending_loads.insert(id);
    }

    /// A document has opened: its marker goes, and its changes are proven.
    pub(super) fn opened_well(&mut self, id: DocumentId) {
        let was_left = self.markers.left.remove(&id).is_some();
        if self.markers.durable.remove(&id).is_some() || was_left {
            self.pending.ops.push(WriteOp::Delete(Table::Meta, key(&id)));
            if let Some(working) = self.documents.get(&id) {
                self.pending.proven.push((working.space, id));
            }
        }
    }

    fn visible(&self, rows: &Rows) -> Vec<Chunk> {
        let stored = rows.iter().filter_map(|(k, v)| row::StoredRow::read(k, v).ok());
        let visible = super::ship::expand(stored.filter(|row| !row.hidden));
        visible.into_iter().filter_map(|(_, bytes)| Chunk::parse_stored(bytes).ok()).collect()
    }

    /// Finds every change that makes the view fail, hides it, and returns what is left.
    pub(super) fn without_culprits(&mut self, id: DocumentId, rows: &Rows) -> Vec<Vec<u8>> {
        let chunks = self.visible(rows);
        let culprits = quarantine::culprits(&chunks, |set| quarantine::is_sound(set.iter().map(|c| c.bytes())));
        let hidden = self.hide(id, &chunks, &culprits);
        chunks.into_iter().filter(|c| !hidden.contains(&c.hash())).map(Chunk::into_bytes).collect()
    }

    /// Hides changes and what depends on them from the view, and reports it. Heads do not change.
    fn hide(
        &mut self,
        id: DocumentId,
        chunks: &[Chunk],
        culprits: &[crate::id::ChangeHash],
    ) -> Vec<crate::id::ChangeHash> {
        let Some(working) = self.documents.get_mut(&id) else { return Vec::new() };
        let (space, path) = (working.space, working.path.clone());
        let Some(log) = working.log.as_mut() else { return Vec::new() };
        let hidden = log.hide(culprits);
        for chunk in chunks.iter().filter(|c| hidden.contains(&c.hash())) {
            // What a snapshot holds has been opened before.
            if let Some(row) = log.row(&chunk.hash()).filter(|row| !row.is_packed()) {
                self.pending.ops.push(row::put_change(&id, row.arrival(), chunk.bytes(), true));
            }
        }
        self.pending.events.push(Event::Quarantined { space, path, hidden: hidden.clone() });
        hidden
    }
}
