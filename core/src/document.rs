//! Documents: cold chunks at rest, an Automerge object only while someone looks.

pub mod chunk;
pub mod layer;
pub mod local;

pub use chunk::Chunk;
pub use local::LocalChange;
