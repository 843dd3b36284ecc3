//! Documents: cold chunks at rest, an Automerge object only while someone looks.

pub mod chunk;
#[cfg(test)]
mod craft;
pub mod ingest;
pub mod layer;
pub mod local;
pub mod log;
pub mod row;

pub use chunk::Chunk;
pub use local::LocalChange;
pub use log::Log;
