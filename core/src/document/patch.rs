//! What changed between two states of a document, as data a program can apply to its own copy.

/// One replacement in a text. Positions are UTF-16 code units of the text before; several of one batch are sorted and
/// disjoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEdit {
    /// First code unit that goes.
    pub from: usize,
    /// End of what goes, not included.
    pub to: usize,
    /// What comes in its place.
    pub insert: String,
}
