//! Errors of the small types in [`crate::id`]. Every operation family has its own enum beside the operation.

use thiserror::Error;

/// Why text is not a [`Path`](crate::id::Path) or [`Prefix`](crate::id::Prefix).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// The text is empty.
    #[error("a path is empty; write it as /a/b")]
    Empty,
    /// The text does not begin with a slash.
    #[error("a path begins with a slash, as in /a/b")]
    NoLeadingSlash,
    /// Two slashes follow each other, or one ends the path.
    #[error("a path has no empty segment: remove the doubled or trailing slash")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("a path has no `.` or `..` segment")]
    DotSegment,
    /// A control character.
    #[error("a path has no control character, but holds {character:?}")]
    ControlCharacter {
        /// The first one.
        character: char,
    },
    /// Not in Unicode normal form C.
    #[error("a path is in Unicode normal form C (NFC); normalise it first")]
    NotNfc,
    /// Over the bound.
    #[error("a path has at most {max} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

/// Why text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not in the id's alphabet, or its checksum fails.
    #[error("not a well-formed id: wrong alphabet, prefix or checksum")]
    Encoding,
    /// The wrong number of bytes.
    #[error("an id of this kind has {expected} bytes, this one has {got}")]
    Length {
        /// What the kind has.
        expected: usize,
        /// What was given.
        got: usize,
    },
}
