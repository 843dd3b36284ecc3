//! Putting one point in the place of what a store covers.

use super::{Bookmark, BookmarkError, FOLD_AT, MAX_POINTS, Point, Seen};
use crate::id::{Path, PeerId, Prefix};

impl Bookmark {
    /// Takes in what a read of `path` has shown, by a store that covers the whole bookmark: older states of the path are
    /// part of the new one, so only that is kept.
    ///
    /// `here` is the point that stands for the store now; a document with more heads than a bookmark names is folded into
    /// it at once.
    pub fn supersede(&mut self, path: &Path, generation: u32, seen: Seen, here: &Point) -> Result<(), BookmarkError> {
        self.documents.retain(|(known, of), _| known != path || *of > generation);
        match self.add(path, generation, &seen) {
            Err(BookmarkError::TooMany { .. }) => {
                self.fold(here)?;
                if self.add(path, generation, &seen).is_err() {
                    self.cover_by_point(std::iter::once(Prefix::from(path)), here)?;
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Whether it is worth folding.
    pub fn is_long(&self) -> bool {
        self.documents.len() > FOLD_AT || self.points.len() > MAX_POINTS / 2
    }

    /// Puts `here`, narrowed to the least prefix that suffices, in the place of all documents and points.
    ///
    /// The store that `here` is of must cover all of it at `here.seq`: the caller has just checked that.
    pub fn fold(&mut self, here: &Point) -> Result<(), BookmarkError> {
        let paths = self.documents.keys().map(|(path, _)| Prefix::from(path));
        let prefixes: Vec<Prefix> = paths.chain(self.points.keys().map(|(_, _, prefix)| prefix.clone())).collect();
        self.documents.clear();
        self.points.clear();
        self.cover_by_point(prefixes.into_iter(), here)
    }

    fn cover_by_point(&mut self, prefixes: impl Iterator<Item = Prefix>, here: &Point) -> Result<(), BookmarkError> {
        match prefixes.reduce(|a, b| common_prefix(&a, &b)) {
            Some(prefix) => self.add_point(Point { prefix, ..here.clone() }),
            None => Ok(()),
        }
    }

    /// Names the store that answers as the one to ask.
    pub fn held_by(&mut self, peer: PeerId) {
        self.hint = Some(peer);
    }
}

/// The longest prefix that contains both.
pub fn common_prefix(a: &Prefix, b: &Prefix) -> Prefix {
    if a.contains(b) {
        return a.clone();
    }
    let mut text = a.as_str();
    while let Some((shorter, _)) = text.rsplit_once('/') {
        text = shorter;
        match Prefix::parse(text) {
            Ok(prefix) if prefix.contains(b) => return prefix,
            _ => {}
        }
    }
    Prefix::root()
}
