//! Documents: cold chunks at rest, an Automerge object only while someone looks.

pub mod local;

pub use local::LocalChange;
