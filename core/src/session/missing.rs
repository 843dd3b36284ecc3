//! What a replica lacks of a bookmark.

use std::fmt;

use super::Point;
use crate::id::{ChangeHash, Path};

/// Documents that are named when a lack is printed; the rest is counted.
const NAMED: usize = 3;

/// What a replica lacks of a bookmark. Not empty where an error carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Of documents that the bookmark names.
    pub documents: Vec<MissingDocument>,
    /// Points in stores' logs that nothing here proves to be reached.
    pub points: Vec<Point>,
}

/// What a replica lacks of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingDocument {
    /// Where.
    pub path: Path,
    /// Which generation of the path.
    pub generation: u32,
    /// Heads that are not covered here. Empty where only a deletion is missing.
    pub heads: Vec<ChangeHash>,
    /// Why.
    pub why: Why,
}

/// Why something of a document is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It has not come here yet.
    NotHere,
    /// This store does not replicate the path, by its interests or its grants: waiting does not help here.
    NotReplicated,
    /// The document was deleted by who is not known to have seen these heads: they may have been set aside. Waiting seldom
    /// helps; a program that goes on says so by [`Bookmark::forget`](super::Bookmark::forget).
    Deleted,
}

impl Missing {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.points.is_empty()
    }

    /// Whether all that is missing is of one path.
    pub fn is_only(&self, path: &Path) -> bool {
        self.points.is_empty() && self.documents.iter().all(|document| document.path == *path)
    }

    /// Whether waiting may help: something of it may still come here.
    pub fn may_come(&self) -> bool {
        !self.points.is_empty() || self.documents.iter().any(|document| document.why == Why::NotHere)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for document in self.documents.iter().take(NAMED) {
            let why = match document.why {
                Why::NotHere => "",
                Why::NotReplicated => " (not replicated here)",
                Why::Deleted => " (deleted by who may not have seen it)",
            };
            write!(f, "{separator}{}{why}", document.path)?;
            separator = ", ";
        }
        if self.documents.len() > NAMED {
            write!(f, " and {} more", self.documents.len() - NAMED)?;
        }
        for point in self.points.iter().take(NAMED) {
            write!(f, "{separator}what a store had under {} at arrival {}", point.prefix, point.seq)?;
            separator = ", ";
        }
        Ok(())
    }
}
