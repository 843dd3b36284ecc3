//! The foreshore peer for browsers: the engine, its driver and its handles, compiled to WebAssembly.
//!
//! JavaScript sees one class, `Host`, that takes requests and tells events, both as JSON text: whatever carries text (a
//! call, a worker's messages, a port to another tab) can carry a host's whole face, and nothing in it depends on which.
//! The npm package's TypeScript builds its API on that; this crate has no API of its own for people.
//!
//! | module | what it is |
//! |---|---|
//! | `ops` | edits of a page as data, and how they are made on a document |
//! | `session` | one page's view of one document, and the rule that keeps the two in step |
//! | `patches` | what a page is told, as JSON that loses nothing |
//! | `errors` | codes and hints for what goes wrong |
//! | `host`, `request` | requests and events (wasm only) |
//! | `store` | storage tasks, carried out by JavaScript over IndexedDB (wasm only) |
//!
//! **Invariant.** Nothing here decides anything about documents, peers or rights; the engine does.
#![deny(missing_docs)]

pub mod errors;
pub mod ops;
pub mod patches;
pub mod session;

#[cfg(target_arch = "wasm32")]
pub mod host;
#[cfg(target_arch = "wasm32")]
mod request;
#[cfg(target_arch = "wasm32")]
pub mod store;
#[cfg(all(target_arch = "wasm32", feature = "vectors"))]
pub mod vectors;
