//! Why the engine refuses.

use thiserror::Error;

#[cfg(feature = "coord")]
use super::coord::CoordFailure;
use crate::document::ingest::IngestError;
use crate::id::{Path, SpaceId};
use crate::io::StorageFailure;
use crate::session::{BookmarkError, Missing};
use crate::soft::SoftError;
use crate::topic::TopicError;
use crate::trust::Refusal;

/// Why a change of a peer was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RefusedChange {
    /// It contradicts another change of its author.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Its author may not write, or was revoked.
    #[error(transparent)]
    Standing(#[from] Refusal),
}

/// Why a command was refused. Unless the variant says otherwise, nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// This store has no such space.
    #[error("this store has no space {0}")]
    UnknownSpace(SpaceId),
    /// A space of that name is here already.
    #[error("this store has a space named {0:?} already")]
    SpaceExists(String),
    /// No document lives at the path.
    #[error("no document at {0}")]
    NotFound(Path),
    /// This device's grants do not allow it.
    #[error("this device may not {action} {path}")]
    Denied {
        /// What was asked.
        action: &'static str,
        /// Where.
        path: String,
    },
    /// This device's rights were revoked.
    #[error("this device was revoked: it may not {action} {path}")]
    Revoked {
        /// What was asked.
        action: &'static str,
        /// Where.
        path: String,
    },
    /// An argument is not what it should be.
    #[error("{what}: {why}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// An edit was made on a generation that has been deleted meanwhile.
    #[error("the document at {0} was deleted while it was edited; open it again")]
    Deleted(Path),
    /// The document cannot be hydrated.
    #[error("the document at {0} is quarantined; `foreshore doctor` says why")]
    Quarantined(Path),
    /// Something is at its bound.
    #[error("{what} is at its bound of {bound}; try again later")]
    Busy {
        /// What.
        what: &'static str,
        /// The bound.
        bound: u64,
    },
    /// Storage failed. A commit that gets this is not durable and will not become so.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
    /// A soft entry is over a bound.
    #[error(transparent)]
    Soft(#[from] SoftError),
    /// A signal cannot be published.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The bookmark cannot be used here: it is of another space, or at a bound.
    #[error(transparent)]
    Bookmark(#[from] BookmarkError),
    /// This store does not cover the bookmark: what is missing has not come in the time given, or cannot come.
    #[error("not here yet: {missing}")]
    NotYet {
        /// What is missing.
        missing: Box<Missing>,
    },
    /// Of the strong path.
    #[cfg(feature = "coord")]
    #[error(transparent)]
    Coord(#[from] CoordFailure),
    /// Given up by [`Command::Cancel`](super::Command::Cancel).
    #[error("cancelled")]
    Cancelled,
    /// The engine is closing or closed.
    #[error("the peer is closing")]
    Closed,
}

/// Why a store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Written by a newer version.
    #[error("the store has format {found}, this program reads up to {supported}: use a newer foreshore")]
    NewerFormat {
        /// What the store says.
        found: u64,
        /// What this program knows.
        supported: u64,
    },
    /// A row does not decode.
    #[error("the store is damaged: {what}; run `foreshore doctor`")]
    Corrupt {
        /// Which row, and how.
        what: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
}
