//! Documents: cold chunks at rest, an Automerge object only while someone looks.

pub mod chunk;
pub mod compaction;
#[cfg(test)]
pub(crate) mod craft;
pub mod cursor;
pub mod edit;
pub mod fenced;
pub mod history;
pub mod hot;
pub mod ingest;
pub mod layer;
pub mod local;
pub mod log;
pub mod orphan;
pub mod patch;
pub mod quarantine;
pub mod row;
pub mod template;
pub mod undo;
pub mod value;

pub use chunk::Chunk;
pub use cursor::{Cursor, Side};
pub use edit::{EditError, PutMode, TextDraft};
pub use fenced::Fenced;
pub use history::{ChangeInfo, Conflict};
pub use hot::{EditOptions, HotCell, HotDocument, HotError};
pub use local::LocalChange;
pub use log::Log;
pub use patch::{At, Patch, Step, TextEdit};
pub use template::{Template, TemplateError};
pub use undo::{Again, UndoManager};
pub use value::Value;
