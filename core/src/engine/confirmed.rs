//! What the peer of a link is known to have stored of documents that it acknowledged lately.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{ChangeHash, DocumentId};

/// Heads that are remembered of all documents together, each document counted as one more: some 200 KiB a link. Programs ask
/// for what they wrote just now, and what is older shows where roots are equal.
const MAX_HELD: usize = 4_096;
/// Heads that are remembered of one document before it begins anew.
const MAX_HEADS: usize = 64;

/// Heads that a peer has stored.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    heads: BTreeMap<DocumentId, BTreeSet<ChangeHash>>,
    /// The documents, the one that came first in front.
    order: VecDeque<DocumentId>,
    held: usize,
}

impl Confirmed {
    /// The peer has stored these.
    pub(super) fn note(&mut self, document: DocumentId, heads: impl IntoIterator<Item = ChangeHash>) {
        let known = self.heads.entry(document).or_insert_with(|| {
            self.order.push_back(document);
            self.held += 1;
            BTreeSet::new()
        });
        self.held -= known.len();
        if known.len() > MAX_HEADS {
            known.clear();
        }
        known.extend(heads);
        self.held += known.len();
        // The newest stays, however much it has.
        while self.held > MAX_HELD
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            self.held -= self.heads.remove(&oldest).map_or(0, |known| known.len() + 1);
        }
    }

    /// Whether the peer is known to have stored all of these.
    pub(super) fn has(&self, document: &DocumentId, heads: &[ChangeHash]) -> bool {
        self.heads.get(document).is_some_and(|known| heads.iter().all(|head| known.contains(head)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(n: usize) -> DocumentId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        DocumentId(id)
    }

    fn head(n: usize) -> ChangeHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        ChangeHash(hash)
    }

    /// Documents that are deleted and made again are new ones each time: their heads filled memory, 64 each of 4,096 of them.
    #[test]
    fn what_is_remembered_is_bounded_over_all_documents() {
        let mut confirmed = Confirmed::default();
        for n in 0..20_000 {
            confirmed.note(document(n), (0..20).map(|k| head(20 * n + k)));
            assert!(confirmed.held <= MAX_HELD);
            assert!(confirmed.has(&document(n), &[head(20 * n), head(20 * n + 19)]), "the newest is known");
        }
        let held: usize = confirmed.heads.values().map(|known| known.len() + 1).sum();
        assert_eq!((held, confirmed.order.len()), (confirmed.held, confirmed.heads.len()));
        assert!(!confirmed.has(&document(0), &[head(0)]), "the oldest went");
        // Those without heads, of which a deletion was acknowledged, count as well.
        (0..20_000).for_each(|n| confirmed.note(document(n), []));
        assert!(confirmed.order.len() <= MAX_HELD);
    }

    #[test]
    fn one_document_begins_anew_and_keeps_what_came_last() {
        let mut confirmed = Confirmed::default();
        for n in 0..1_000 {
            confirmed.note(document(1), [head(n)]);
            assert!(confirmed.has(&document(1), &[head(n)]));
            assert!(confirmed.held <= MAX_HEADS + 2);
        }
    }
}
