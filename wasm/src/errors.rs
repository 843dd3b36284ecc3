//! What goes wrong, as a page is told: a code to act on, a sentence, a hint, and whether trying again can help.

use foreshore::coord::CoordError;
use foreshore::document::{EditError, HotError};
use foreshore::io::StorageFailure;
use foreshore::peer::coord::CoordFailure;
use foreshore::peer::{BookmarkError, CommandError, DocumentError, SoftError, SpawnError, TopicError};
use serde_json::{Value as Json, json};

/// An error for a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of the package's codes.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: &'static str,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What is missing, for `NOT_YET`.
    pub missing: Vec<String>,
}

impl Failure {
    /// An error of a code.
    pub fn new(code: &'static str, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), hint: "", retryable: false, missing: Vec::new() }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// Trying again may help.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// As JSON.
    pub fn to_json(&self) -> Json {
        json!({
            "code": self.code, "message": self.message, "hint": self.hint, "retryable": self.retryable,
            "missing": self.missing,
        })
    }

    /// An argument that does not parse.
    pub fn invalid(what: &str, why: impl std::fmt::Display) -> Self {
        Self::new("INVALID", format!("{what}: {why}"))
    }
}

impl From<StorageFailure> for Failure {
    fn from(error: StorageFailure) -> Self {
        let message = error.to_string();
        match error {
            StorageFailure::Full => Self::new("QUOTA", "the browser gives this site no more room")
                .hint("delete what is not needed, or ask for persistent storage; writing resumes by itself")
                .retryable(),
            StorageFailure::HostEpochChanged => {
                Self::new("CLOSED", "another tab has taken this space over").hint("open the space again").retryable()
            }
            StorageFailure::Corrupt { .. } => Self::new("STORAGE", message)
                .hint("clear this site's data and open the space again: what other peers have comes back"),
            _ => Self::new("STORAGE", message).hint("reload the page").retryable(),
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::UnknownSpace(_) => Self::new("NOT_A_MEMBER", message),
            CommandError::SpaceExists(_) => Self::new("EXISTS", message),
            CommandError::NotFound(_) | CommandError::Deleted(_) => {
                Self::new("NOT_FOUND", message).hint("open the document again for its next life")
            }
            CommandError::Denied { .. } => {
                Self::new("DENIED", message).hint("ask an admin of the space for a grant that covers this path")
            }
            CommandError::Revoked { .. } => Self::new("DENIED", message).hint("this device was removed from the space"),
            CommandError::Invalid { .. } => Self::new("INVALID", message),
            CommandError::Busy { .. } => Self::new("TOO_LARGE", message).hint("await what is under way").retryable(),
            CommandError::Storage(failure) => failure.into(),
            CommandError::Soft(error) => error.into(),
            CommandError::Topic(error) => error.into(),
            CommandError::Bookmark(error) => error.into(),
            CommandError::Coord(failure) => failure.into(),
            CommandError::NotYet { missing } => {
                let mut failure = Self::new("NOT_YET", message).retryable();
                failure.hint = "wait for the network, or read without `atLeast`";
                failure.missing = missing.documents.iter().map(|m| m.path.to_string()).collect();
                failure
            }
            CommandError::Cancelled => Self::new("ABORTED", message),
            CommandError::Closed => Self::new("CLOSED", "the space is closed").hint("open it again"),
            _ => Self::new("STORAGE", message),
        }
    }
}

impl From<CoordFailure> for Failure {
    fn from(failure: CoordFailure) -> Self {
        let message = failure.to_string();
        match failure {
            CoordFailure::Coord(error) => error.into(),
            CoordFailure::NoQuorum => Self::new("NO_QUORUM", "no quorum of the space's voters answers: nothing was done")
                .hint("a majority of the space's voters has to be reachable; a space without voters has documents and soft state")
                .retryable(),
            CoordFailure::Unknown => Self::new("UNKNOWN_OUTCOME", "it was sent, and no answer came: it was done, or it was not")
                .hint("read before doing it again"),
            CoordFailure::Lost | CoordFailure::UnknownClient => {
                Self::new("SESSION_EXPIRED", "the session is over, and what it held is gone")
                    .hint("call again: that opens another session")
                    .retryable()
            }
            CoordFailure::Busy => Self::new("TOO_LARGE", message).hint("await what is under way").retryable(),
            CoordFailure::TooLarge => Self::new("TOO_LARGE", message).hint("put it into a document, and its path here"),
            CoordFailure::NotAVoter | CoordFailure::NotAMember => Self::new("NOT_FOUND", message),
            CoordFailure::NotServing | CoordFailure::CannotVote => Self::new("UNSUPPORTED", message)
                .hint("browsers are clients of voters; native peers vote"),
            CoordFailure::NotLeader { .. } => Self::new("UNSUPPORTED", message).hint("ask the voter that leads").retryable(),
            _ => Self::new("INVALID", message),
        }
    }
}

impl From<CoordError> for Failure {
    fn from(error: CoordError) -> Self {
        // What a multi-operation says names the operation; what it is worth is its error's.
        let mut inner = &error;
        while let CoordError::Multi { error, .. } = inner {
            inner = error;
        }
        let code = match inner {
            CoordError::NoNode | CoordError::NoItem => "NOT_FOUND",
            CoordError::NodeExists => "EXISTS",
            CoordError::BadVersion { .. } => "BAD_VERSION",
            CoordError::NotEmpty => "NOT_EMPTY",
            CoordError::NoAuth => "DENIED",
            CoordError::SessionExpired | CoordError::WrongPassword | CoordError::SessionMoved => "SESSION_EXPIRED",
            CoordError::AnswerForgotten | CoordError::OutOfOrder { .. } => "UNKNOWN_OUTCOME",
            CoordError::TooLarge { .. } => "TOO_LARGE",
            CoordError::DeadlinePassed => "TIMEOUT",
            CoordError::Cancelled => "ABORTED",
            CoordError::NotHeld | CoordError::WrongToken { .. } => "NOT_HELD",
            _ => "INVALID",
        };
        let retryable = error.is_retryable() || code == "SESSION_EXPIRED" || code == "TIMEOUT";
        Self { code, hint: inner.hint(), message: error.to_string(), retryable, missing: Vec::new() }
    }
}

impl From<SoftError> for Failure {
    fn from(error: SoftError) -> Self {
        Self::new("TOO_LARGE", error).hint("put it into a document, and the document's path here")
    }
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::NoGrant { .. } => Self::new("DENIED", error),
            TopicError::RateExceeded { .. } => Self::new("TOO_LARGE", error).hint("publish less often").retryable(),
            _ => Self::new("TOO_LARGE", error).hint("put it into a document, and publish the document's path"),
        }
    }
}

impl From<BookmarkError> for Failure {
    fn from(error: BookmarkError) -> Self {
        Self::new("INVALID", error)
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let code = match error {
            EditError::TooLarge { .. } | EditError::Full | EditError::TooDeep { .. } => "TOO_LARGE",
            EditError::Fenced { .. } => "FENCED",
            _ => "INVALID",
        };
        Self::new(code, error)
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        let message = error.to_string();
        match error {
            DocumentError::Hot(HotError::Edit(error)) => error.into(),
            DocumentError::Hot(HotError::UnknownHeads { .. }) => Self::new("NOT_FOUND", message),
            DocumentError::Hot(_) => Self::new("INVALID", message),
            DocumentError::Deleted(_) => {
                Self::new("NOT_FOUND", message).hint("open the document again for its next life")
            }
            DocumentError::Busy => Self::new("TOO_LARGE", message).hint("await `flushed()` first").retryable(),
            DocumentError::Command(error) => error.into(),
            _ => Self::new("INVALID", message),
        }
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::Address(error) => Self::invalid("peers", error),
            SpawnError::Open(error) => {
                Self::new("STORAGE", error).hint("clear this site's data, or use a newer version of the app")
            }
            error => Self::new("UNSUPPORTED", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_group_says_is_told_by_a_code_of_its_own() {
        let said = |error: CoordError| Failure::from(CommandError::Coord(CoordFailure::Coord(error)));
        for (error, code) in [
            (CoordError::NoNode, "NOT_FOUND"),
            (CoordError::NodeExists, "EXISTS"),
            (CoordError::BadVersion { found: 3 }, "BAD_VERSION"),
            (CoordError::NotHeld, "NOT_HELD"),
            (CoordError::DeadlinePassed, "TIMEOUT"),
            (CoordError::SessionExpired, "SESSION_EXPIRED"),
            (CoordError::NoChildrenForEphemerals, "INVALID"),
        ] {
            let failure = said(error.clone());
            assert_eq!((failure.code, failure.hint), (code, error.hint()));
        }
        let second = said(CoordError::Multi { at: 1, error: Box::new(CoordError::NotEmpty) });
        assert_eq!((second.code, second.message.contains("operation 1")), ("NOT_EMPTY", true));
        let none: Failure = CommandError::Coord(CoordFailure::NoQuorum).into();
        assert_eq!((none.code, none.retryable), ("NO_QUORUM", true));
        let unknown: Failure = CommandError::Coord(CoordFailure::Unknown).into();
        assert_eq!((unknown.code, unknown.retryable), ("UNKNOWN_OUTCOME", false));
    }

    #[test]
    fn a_full_disk_is_told_as_a_quota_that_may_pass() {
        let failure: Failure = CommandError::Storage(StorageFailure::Full).into();
        assert_eq!((failure.code, failure.retryable), ("QUOTA", true));
        assert!(!failure.hint.is_empty());
        assert_eq!(failure.to_json()["code"], "QUOTA");
    }
}
