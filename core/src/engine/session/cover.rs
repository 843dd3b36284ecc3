//! Whether this store covers a bookmark, by its index, its logs and what is proved of other stores'.

use std::collections::BTreeSet;

use super::{Coverage, Then, Wait};
use crate::engine::Engine;
use crate::engine::index::Entry;
use crate::engine::space::covered;
use crate::id::{ChangeHash, DocumentId, Path, SpaceId};
use crate::session::{Missing, MissingDocument, Point, Seen, Why};
use crate::trust::Tombstone;
use crate::wire::Codec;

/// What is known of one document of a bookmark.
enum Document {
    Covered,
    /// Its log tells.
    NeedsLog(DocumentId),
    /// These heads are not covered, or the generation is not reached or not deleted.
    Missing(Vec<ChangeHash>, Why),
}

impl Engine {
    /// What is missing of a wait's bookmark, and what has to be read to know.
    pub(super) fn coverage(&self, wait: &mut Wait) -> Coverage {
        let mut coverage = Coverage { missing: Missing::default(), loads: Vec::new() };
        let answer = match &wait.then {
            Then::Answer(answer) => {
                let seen = Seen { heads: answer.heads.iter().copied().collect(), deleted: false };
                Some((answer.path.clone(), answer.generation, seen))
            }
            _ => None,
        };
        let named = wait.bookmark.documents().map(|(path, generation, seen)| (path.clone(), generation, seen.clone()));
        for (path, generation, seen) in named.chain(answer) {
            let id = DocumentId::derive(&wait.space, &path, generation);
            // What was found of the bookmark's heads says nothing of the answer's.
            match self.covers(&wait.space, &path, generation, &seen) {
                Document::Covered => {}
                Document::NeedsLog(_) if wait.in_log.contains(&id) && wait.is_named(&path, generation, &seen) => {}
                Document::NeedsLog(id) => coverage.loads.push((path, generation, id)),
                Document::Missing(heads, why) => {
                    coverage.missing.documents.push(MissingDocument { path, generation, heads, why });
                }
            }
        }
        let loads = &coverage.loads;
        let found = wait.bookmark.documents().filter(|(path, generation, _)| {
            let pending = loads.iter().any(|(p, g, _)| p == *path && g == generation);
            let missing = coverage.missing.documents.iter().any(|m| m.path == **path && m.generation == *generation);
            !pending && !missing
        });
        let found: Vec<DocumentId> =
            found.map(|(path, generation, _)| DocumentId::derive(&wait.space, path, generation)).collect();
        wait.in_log.extend(found);
        let points = wait.bookmark.points();
        coverage.missing.points = points.filter(|point| !self.reaches(&wait.space, point)).collect();
        coverage
    }

    fn covers(&self, space: &SpaceId, path: &Path, generation: u32, seen: &Seen) -> Document {
        let all = || seen.heads.iter().copied().collect::<Vec<_>>();
        let Some(state) = self.spaces.get(space) else { return Document::Missing(all(), Why::NotHere) };
        let absent = || {
            let wanted = covered(&state.interests(&self.identity().device), path);
            if wanted { Why::NotHere } else { Why::NotReplicated }
        };
        if state.index.live_generation(path) < generation + u32::from(seen.deleted) {
            return Document::Missing(all(), absent());
        }
        if seen.heads.is_empty() {
            return Document::Covered;
        }
        let Some(entry) = state.index.generation(path, generation) else { return Document::Missing(all(), absent()) };
        let mut left: Vec<ChangeHash> = seen.heads.iter().filter(|h| !entry.heads.contains(h)).copied().collect();
        if entry.deleted() {
            let named = named_by_tombstones(entry);
            left = seen.heads.iter().filter(|h| !named.contains(h)).copied().collect();
            left.retain(|head| !self.sessions.is_buried(&entry.id, head));
            return if left.is_empty() { Document::Covered } else { Document::Missing(left, Why::Deleted) };
        }
        if left.is_empty() {
            return Document::Covered;
        }
        let Some(log) = self.documents.get(&entry.id).and_then(|w| w.log.as_ref()) else {
            return Document::NeedsLog(entry.id);
        };
        left.retain(|head| !log.contains(head));
        if left.is_empty() { Document::Covered } else { Document::Missing(left, absent()) }
    }

    /// Whether all that a point stands for is proved to be here.
    fn reaches(&self, space: &SpaceId, point: &Point) -> bool {
        let identity = self.identity();
        let set_aside = self.sessions.set_aside.get(space);
        let last_set_aside = set_aside.map_or(0, |ranges| ranges.last());
        if point.peer == identity.peer {
            // Former epochs of this store count on in the present one.
            let reached = if point.epoch == identity.log_epoch {
                self.durable_arrival()
            } else {
                let former = self.sessions.vouched.get(&(point.peer, point.epoch, *space));
                former.map_or(0, |vouched| vouched.furthest())
            };
            let held = set_aside.is_some_and(|ranges| ranges.holds(point.seq));
            return point.seq <= reached && !held;
        }
        let vouched = self.sessions.vouched.get(&(point.peer, point.epoch, *space));
        vouched.is_some_and(|vouched| vouched.proves(&point.prefix, point.seq, last_set_aside))
    }
}

impl Wait {
    fn is_named(&self, path: &Path, generation: u32, seen: &Seen) -> bool {
        self.bookmark.documents().any(|(p, g, s)| p == path && g == generation && s == seen)
    }
}

impl super::Sessions {
    fn is_buried(&self, document: &DocumentId, head: &ChangeHash) -> bool {
        self.buried.get(document).is_some_and(|covered| covered.binary_search(head).is_ok())
    }
}

/// The heads that a deleted document's tombstones name.
pub(super) fn named_by_tombstones(entry: &Entry) -> BTreeSet<ChangeHash> {
    let tombstones = entry.tombstones.as_deref().into_iter().flatten();
    tombstones.filter_map(|bytes| Tombstone::from_bytes(bytes).ok()).flat_map(|t| t.heads().to_vec()).collect()
}
