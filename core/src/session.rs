//! Sessions over gossip: what a client has read and written, carried along as a bookmark, and what proves it covered.
//!
//! A [`Bookmark`] names states of documents (path, generation, heads, or that the generation is deleted) and, for what no
//! longer fits by name, points in the arrival logs of stores. Whoever asks a replica with a bookmark is answered when the
//! replica *covers* it, and not before: the session guarantees of Terry et al. ("Session guarantees for weakly consistent
//! replicated data", PDIS 1994) with heads in the place of version vectors. A document's heads stand for all of their
//! ancestors, so a bookmark does not grow with history.
//!
//! # When a state is covered
//!
//! - **A generation of a path**: every generation before it is deleted here. So who saw a path begin anew is never shown
//!   the document from before.
//! - **Heads of a living document**: its log holds each of them: as a head, or as an ancestor of one. Logs only grow.
//! - **Heads of a deleted document**: its tombstones name them (of several, the union counts). Whoever deleted without
//!   having seen a head does not cover it: [`Why::Deleted`] says so rather than to pass over an edit in silence.
//! - **A deletion**: a tombstone of that generation is here.
//! - **A point `(peer, epoch, prefix, seq)`**: see the next section.
//!
//! # Folding
//!
//! Past [`FOLD_AT`] documents, a store that covers a bookmark puts one [`Point`] in the place of what it covers: *all that
//! this store had under this prefix when its arrival number was `seq`*. A point names no document, so another store can
//! claim it only by what equal roots prove. Let E be the store's log in one epoch, and B another store.
//!
//! 1. Roots over a set of domains are equal when B's item set is E's, at E's arrival `a` and B's arrival `b` (what [`Vouched`]
//!    records). An item is a document with its sorted heads, or a tombstone. So B then holds, under each of those
//!    domains, every living document's heads, hence their ancestors, and every tombstone: all that E had admitted up to
//!    `a` **except what left E's item set by being set aside**: edits of a document that was deleted by who had not seen
//!    them. Nothing else ever leaves it.
//! 2. An edit set aside at E arrived there under some number `l` and its tombstone under `h`. A point made with
//!    `l ≤ seq < h` may stand for that edit; one with `seq < l` does not, and one with `seq ≥ h` was made by a store that
//!    had the tombstone and so knew the edit as uncovered. E keeps these ranges `[l, h)` ([`Ranges`]), durably with the
//!    tombstone, and tells them on every link *before* the roots that they matter for. B claims no point inside of one.
//! 3. B may learn of the tombstone on another way and set the edit aside itself after `b`, before E knows of it. So B
//!    claims nothing while it has set something aside after `b`; the next equal roots settle it, by 1 and 2.
//! 4. Arrival numbers of one epoch are one line: an epoch goes on only after a clean close of the same store. After
//!    anything else a new one begins, and the store itself knows how far the old one reached in *its* file: everything of
//!    the old epoch up to there is in it, whatever a copy of it went on to do. It tells that to others, too, who then have
//!    it as soon as roots are equal.
//! 5. A peer is named with the epoch, since epochs are known to whoever sees a bookmark: nobody vouches in another's name.
//!
//! A store claims points of its own by the same rules, its own ranges, and nothing else. What cannot be proved so is
//! [`Missing`], never a guess. Revocations and equivocation proofs, once they take effect, remove admitted changes: they
//! have to become ranges like the others.
//!
//! # What this is not
//!
//! No snapshot across documents, no recency, no uniqueness: `docs/guarantees.md` says what a bookmark gives. And no
//! secret: it names paths and hashes, and gives no right to read them.

mod codec;
mod fold;
mod missing;
mod vouch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::id::{ChangeHash, Path, PeerId, Prefix, SpaceId};
use crate::wire::DecodeError;

pub use fold::common_prefix;
pub use missing::{Missing, MissingDocument, Why};
pub use vouch::{Ranges, Vouched};

/// Documents above which a bookmark is folded by the store that answers with it.
pub const FOLD_AT: usize = 32;

/// Most documents in a bookmark: room for two that were not folded yet.
pub const MAX_DOCUMENTS: usize = 2 * FOLD_AT;

/// Most heads named of one document. One with more concurrent heads is named by a point.
pub const MAX_HEADS: usize = 16;

/// Most points in a bookmark.
pub const MAX_POINTS: usize = 16;

/// Most bytes of a bookmark: more than [`MAX_DOCUMENTS`] of the longest paths take.
pub const MAX_BOOKMARK: usize = 96 * 1024;

/// The extension that is set aside for versions of soft state seen (see `docs/wire.md`).
pub const SOFT_EXTENSION: u64 = 1;

/// Why a bookmark is not read, joined or taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BookmarkError {
    /// The text or the bytes are not a bookmark.
    #[error("this is not a bookmark: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The checksum fails: a character is missing or wrong.
    #[error("the bookmark is damaged: copy the whole of it again")]
    Damaged,
    /// Made by a newer version.
    #[error("the bookmark has format {got}, this program reads format {supported}: update it")]
    Newer {
        /// Its format.
        got: u64,
        /// What this program reads.
        supported: u64,
    },
    /// Of another space.
    #[error("the bookmark is of space {got}, not of {expected}")]
    OtherSpace {
        /// Its space.
        got: SpaceId,
        /// The space it was used in.
        expected: SpaceId,
    },
    /// More than a bookmark holds. A store that covers it folds it: read or reach with it, and go on with what comes back.
    #[error("a bookmark holds at most {max} {what}: go on with the bookmark of a read, which is folded")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

impl From<DecodeError> for BookmarkError {
    fn from(error: DecodeError) -> Self {
        let what = match error {
            DecodeError::Truncated { field } | DecodeError::Invalid { field } | DecodeError::TooLarge { field, .. } => {
                field
            }
            DecodeError::Trailing { .. } => "bytes after the end",
        };
        Self::Malformed { what }
    }
}

/// What was seen of one generation of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Heads.
    pub heads: BTreeSet<ChangeHash>,
    /// That it is deleted.
    pub deleted: bool,
}

/// A point in the arrival log of a store, under a prefix: all that the store had there then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The peer that runs on the store.
    pub peer: PeerId,
    /// The epoch of its arrival log.
    pub epoch: u64,
    /// Under here.
    pub prefix: Prefix,
    /// Its arrival number then.
    pub seq: u64,
}

/// What a client has read and written in one space. Bounded; cheap to clone only while it is small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    space: SpaceId,
    hint: Option<PeerId>,
    documents: BTreeMap<(Path, u32), Seen>,
    points: BTreeMap<(PeerId, u64, Prefix), u64>,
    extensions: BTreeMap<u64, Vec<u8>>,
}

impl Bookmark {
    /// A bookmark of a space that asks for nothing: every replica covers it.
    pub fn new(space: SpaceId) -> Self {
        Self { space, hint: None, documents: BTreeMap::new(), points: BTreeMap::new(), extensions: BTreeMap::new() }
    }

    /// The space that it is of.
    pub fn space(&self) -> &SpaceId {
        &self.space
    }

    /// A peer that has all of it, or had when it was made.
    pub fn hint(&self) -> Option<PeerId> {
        self.hint
    }

    /// Names a peer that has all of it.
    pub fn with_hint(mut self, peer: PeerId) -> Self {
        self.hint = Some(peer);
        self
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.points.is_empty()
    }

    /// States of documents, in the order of their paths and generations.
    pub fn documents(&self) -> impl Iterator<Item = (&Path, u32, &Seen)> {
        self.documents.iter().map(|((path, generation), seen)| (path, *generation, seen))
    }

    /// Points in stores' logs.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let point = |((peer, epoch, prefix), seq): (&(PeerId, u64, Prefix), &u64)| Point {
            peer: *peer,
            epoch: *epoch,
            prefix: prefix.clone(),
            seq: *seq,
        };
        self.points.iter().map(point)
    }

    /// Bytes of an extension, for the layer that knows what they mean.
    pub fn extension(&self, tag: u64) -> Option<&[u8]> {
        self.extensions.get(&tag).map(Vec::as_slice)
    }

    /// Checks that it is of `space`.
    pub fn expect_space(&self, space: &SpaceId) -> Result<(), BookmarkError> {
        if self.space == *space {
            return Ok(());
        }
        Err(BookmarkError::OtherSpace { got: self.space, expected: *space })
    }

    /// Adds a state of a document to what was seen of it before.
    pub fn see(
        &mut self,
        path: &Path,
        generation: u32,
        heads: impl IntoIterator<Item = ChangeHash>,
    ) -> Result<(), BookmarkError> {
        self.add(path, generation, &Seen { heads: heads.into_iter().collect(), deleted: false })
    }

    /// Adds that a generation of a path is deleted.
    pub fn see_deleted(&mut self, path: &Path, generation: u32) -> Result<(), BookmarkError> {
        self.add(path, generation, &Seen { heads: BTreeSet::new(), deleted: true })
    }

    fn add(&mut self, path: &Path, generation: u32, seen: &Seen) -> Result<(), BookmarkError> {
        let key = (path.clone(), generation);
        let known = self.documents.get(&key);
        if known.is_none() && self.documents.len() >= MAX_DOCUMENTS {
            return Err(BookmarkError::TooMany { what: "documents", max: MAX_DOCUMENTS });
        }
        let news = seen.heads.iter().filter(|head| known.is_none_or(|known| !known.heads.contains(*head))).count();
        if known.map_or(0, |known| known.heads.len()) + news > MAX_HEADS {
            return Err(BookmarkError::TooMany { what: "heads of a document", max: MAX_HEADS });
        }
        let known = self.documents.entry(key).or_default();
        known.heads.extend(&seen.heads);
        known.deleted |= seen.deleted;
        Ok(())
    }

    /// Adds a point, unless one that is here says as much; those that it says as much as go.
    pub fn add_point(&mut self, point: Point) -> Result<(), BookmarkError> {
        let Point { peer, epoch, prefix, seq } = point;
        let same_log = |key: &(PeerId, u64, Prefix)| key.0 == peer && key.1 == epoch;
        if self.points.iter().any(|(key, known)| same_log(key) && key.2.contains(&prefix) && *known >= seq) {
            return Ok(());
        }
        let kept =
            |key: &(PeerId, u64, Prefix), known: u64| !(same_log(key) && prefix.contains(&key.2) && known <= seq);
        if self.points.iter().filter(|(key, known)| kept(key, **known)).count() >= MAX_POINTS {
            return Err(BookmarkError::TooMany { what: "points", max: MAX_POINTS });
        }
        self.points.retain(|key, known| kept(key, *known));
        self.points.insert((peer, epoch, prefix), seq);
        Ok(())
    }

    /// Joins another bookmark into this one: what covers the result covers both. The hint becomes the other's, which is
    /// the later one. An extension that both have and this version does not know cannot be joined and is left out, as by a
    /// reader that does not know it. On an error nothing has changed.
    pub fn merge(&mut self, other: &Bookmark) -> Result<(), BookmarkError> {
        other.expect_space(&self.space)?;
        let mut joined = self.clone();
        for ((path, generation), seen) in &other.documents {
            joined.add(path, *generation, seen)?;
        }
        for point in other.points() {
            joined.add_point(point)?;
        }
        for (tag, bytes) in &other.extensions {
            match joined.extensions.get(tag) {
                Some(known) if known != bytes => drop(joined.extensions.remove(tag)),
                _ => drop(joined.extensions.insert(*tag, bytes.clone())),
            }
        }
        joined.hint = other.hint.or(joined.hint);
        *self = joined;
        Ok(())
    }

    /// Gives up what was seen of a path: after [`Why::Deleted`], where no waiting helps.
    pub fn forget(&mut self, path: &Path) {
        self.documents.retain(|(known, _), _| known != path);
    }
}
