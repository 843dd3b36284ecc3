//! Names of nodes, locks, elections and queues, by ZooKeeper's rule for paths.
//!
//! It is not the rule of [`crate::id::Path`]: a ZooKeeper client may name what a document's path may not (text that is not
//! in normal form C, say), and must be refused what ZooKeeper refuses it. Source: ZooKeeper's documentation of its data
//! model, and the behaviour of 3.8.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest name in bytes. ZooKeeper's only bound is its frame of 1 MiB; a reply that repeats a path has to fit in the
/// session's reply cache.
pub const MAX_PATH_BYTES: usize = 2_048;

/// Why text names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// The text is empty.
    #[error("it is empty; the root is /")]
    Empty,
    /// The text does not begin with a slash.
    #[error("it does not begin with a slash")]
    NoLeadingSlash,
    /// A slash ends it.
    #[error("a slash ends it")]
    TrailingSlash,
    /// Two slashes follow each other.
    #[error("two slashes follow each other")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("a segment is `.` or `..`")]
    DotSegment,
    /// A character that ZooKeeper refuses: control characters, private use, U+FFF0 to U+FFFF, and all beyond U+FFFF.
    #[error("a character in it is not allowed: control, private use or beyond U+FFEF")]
    Character,
    /// Over [`MAX_PATH_BYTES`].
    #[error("it is longer than 2048 bytes")]
    TooLong,
    /// The root, which is always there.
    #[error("the root cannot be deleted")]
    Root,
}

/// A valid name: `/`, or `/a/b`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePath(Arc<str>);

impl NodePath {
    /// The root.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, PathProblem> {
        check(text).map(|()| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The node this one is a child of; `None` for the root.
    pub fn parent(&self) -> Option<NodePath> {
        (!self.is_root()).then(|| Self(split(&self.0).expect("a valid path has a slash").0.into()))
    }

    /// The last segment; empty for the root.
    pub fn name(&self) -> &str {
        split(&self.0).expect("a valid path has a slash").1
    }

    /// Whether `path` is this node or lies under it.
    pub fn covers(&self, path: &NodePath) -> bool {
        self.is_root() || path.0.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The parent's text and the last segment; `None` without a slash. Not validated: ZooKeeper looks for a parent first.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let slash = text.rfind('/')?;
    Some((if slash == 0 { "/" } else { &text[..slash] }, &text[slash + 1..]))
}

fn check(text: &str) -> Result<(), PathProblem> {
    if text.is_empty() {
        return Err(PathProblem::Empty);
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(PathProblem::TooLong);
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(PathProblem::NoLeadingSlash);
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathProblem::TrailingSlash);
    }
    if text.chars().any(is_refused) {
        return Err(PathProblem::Character);
    }
    match rest.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
        Some("") => Err(PathProblem::EmptySegment),
        Some(_) => Err(PathProblem::DotSegment),
        None => Ok(()),
    }
}

/// ZooKeeper compares UTF-16 units, so the halves of every character beyond U+FFFF fall into its range of refused ones.
fn is_refused(character: char) -> bool {
    matches!(character, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for NodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for NodePath {
    type Err = PathProblem;
    fn from_str(text: &str) -> Result<Self, PathProblem> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_zookeeper_judges_them() {
        let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        for (text, problem) in [
            ("", PathProblem::Empty),
            ("a", PathProblem::NoLeadingSlash),
            ("/a/", PathProblem::TrailingSlash),
            ("//", PathProblem::TrailingSlash),
            ("/a//b", PathProblem::EmptySegment),
            ("/a/./b", PathProblem::DotSegment),
            ("/..", PathProblem::DotSegment),
            ("/a\0b", PathProblem::Character),
            ("/a\u{1f}", PathProblem::Character),
            ("/a\u{9f}", PathProblem::Character),
            ("/a\u{f000}", PathProblem::Character),
            ("/a\u{fff0}", PathProblem::Character),
            ("/a\u{1f600}", PathProblem::Character),
            (&long, PathProblem::TooLong),
        ] {
            assert_eq!(NodePath::parse(text), Err(problem), "{text:?}");
        }
        for text in ["/", "/a", "/a/...", "/a b", "/e\u{301}", "/\u{a0}", "/\u{d7ff}", "/\u{ffef}"] {
            assert_eq!(NodePath::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn parents_and_names_are_found_and_cover_by_segments() {
        let path = NodePath::parse("/a/b").unwrap();
        assert_eq!((path.parent().unwrap().as_str(), path.name()), ("/a", "b"));
        assert_eq!(path.parent().unwrap().parent(), Some(NodePath::root()));
        assert_eq!(NodePath::root().parent(), None);
        assert!(path.parent().unwrap().covers(&path) && path.covers(&path) && NodePath::root().covers(&path));
        assert!(!path.covers(&NodePath::parse("/a/bc").unwrap()));
    }
}
