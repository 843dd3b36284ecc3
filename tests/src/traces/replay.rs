//! Replaying a trace on bare Automerge: what everything else is compared with.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, TextEncoding};

use super::{Trace, Txn};

/// The text that bare Automerge makes of `trace`.
pub fn replay(trace: &Trace) -> String {
    let mut replica = Replica::new(trace);
    (0..trace.txns.len()).for_each(|index| {
        replica.apply(trace, index);
    });
    replica.text()
}

/// `trace` with positions in UTF-16 code units instead of code points.
pub fn in_code_units(trace: &Trace) -> Trace {
    let mut units = trace.clone();
    if trace.is_basic_plane() {
        return units;
    }
    let mut replica = Replica::new(trace);
    for (index, txn) in trace.txns.iter().enumerate() {
        replica.stand_at(txn);
        let mut text = replica.doc.text(&replica.body).expect("the body is a text");
        for (patch, unit) in txn.patches.iter().zip(&mut units.txns[index].patches) {
            let splice = patch.in_utf16(&text);
            (unit.at, unit.deleted) = (splice.at, splice.deleted);
            let chars = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
            let range = chars(patch.at)..chars(patch.at + patch.deleted);
            text.replace_range(range, &patch.inserted);
        }
        replica.apply(trace, index);
    }
    units
}

/// One Automerge document in which every agent types at the heads that it had seen.
#[derive(Debug)]
pub struct Replica {
    doc: AutoCommit,
    body: ObjId,
    base: ChangeHash,
    /// The hash of each transaction's change so far.
    hashes: Vec<ChangeHash>,
    basic_plane: bool,
    /// Where edits go now: `None` while the whole document is the place.
    isolated_at: Option<Vec<ChangeHash>>,
}

impl Replica {
    /// A document that holds `trace`'s starting text, in the text object `body`.
    pub fn new(trace: &Trace) -> Self {
        let mut doc = AutoCommit::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(ActorId::from([0xff; 16]));
        let body = doc.put_object(ROOT, "body", ObjType::Text).expect("the root takes a text");
        doc.splice_text(&body, 0, 0, &trace.start).expect("an empty text takes a splice");
        let base = doc.commit().expect("two operations make a change");
        let basic_plane = trace.is_basic_plane();
        Self { doc, body, base, hashes: Vec::new(), basic_plane, isolated_at: None }
    }

    /// Types transaction `index` of `trace`; earlier ones have been typed.
    pub fn apply(&mut self, trace: &Trace, index: usize) -> ChangeHash {
        assert_eq!(index, self.hashes.len(), "transactions are typed in order");
        let txn = &trace.txns[index];
        self.stand_at(txn);
        for patch in &txn.patches {
            let (at, deleted) = if self.basic_plane {
                (patch.at, patch.deleted)
            } else {
                let splice = patch.in_utf16(&self.doc.text(&self.body).expect("the body is a text"));
                (splice.at, splice.deleted)
            };
            self.doc
                .splice_text(&self.body, at, isize::try_from(deleted).expect("texts are small"), &patch.inserted)
                .expect("a trace's positions lie inside its text");
        }
        // A transaction that did nothing still is a point in the graph.
        let hash = match self.doc.commit() {
            Some(hash) => hash,
            None => self.doc.empty_change(automerge::transaction::CommitOptions::default()),
        };
        self.hashes.push(hash);
        hash
    }

    /// Moves to the transaction's parents, if the document is elsewhere.
    fn stand_at(&mut self, txn: &Txn) {
        let mut heads: Vec<ChangeHash> = txn.parents.iter().map(|&parent| self.hashes[parent]).collect();
        if heads.is_empty() {
            heads.push(self.base);
        }
        heads.sort_unstable();
        let mut actor = [0; 16];
        actor[..8].copy_from_slice(&(txn.agent as u64 + 1).to_be_bytes());
        self.doc.set_actor(ActorId::from(actor));
        let mut here = self.doc.get_heads();
        here.sort_unstable();
        if here != heads {
            self.doc.isolate(&heads);
            self.isolated_at = Some(heads);
        }
    }

    /// The text with everything merged.
    pub fn text(&mut self) -> String {
        if self.isolated_at.take().is_some() {
            self.doc.integrate();
        }
        self.doc.text(&self.body).expect("the body is a text")
    }

    /// The hashes of the transactions typed so far.
    pub fn hashes(&self) -> &[ChangeHash] {
        &self.hashes
    }

    /// The document, everything merged.
    pub fn into_document(mut self) -> AutoCommit {
        self.doc.integrate();
        self.doc
    }
}
