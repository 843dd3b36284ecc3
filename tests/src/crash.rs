//! What the crash tests and their victim agree on.

/// The space that the victim works in.
pub const SPACE: &str = "crash";

/// How many documents it writes to.
pub const DOCUMENTS: usize = 4;

/// The key that it counts up.
pub const KEY: &str = "count";

/// Bytes of the length before each page of a file to import.
pub const PAGE_LEN: usize = 4;

/// Where a document is.
pub fn path(document: usize) -> String {
    format!("/crash/{document}")
}
