//! The path to strong state: what a group of voters agrees on, entry by entry.
//!
//! [`Machine`] is the replicated state: a tree with ZooKeeper's semantics, sessions, locks, elections and queues, moved on by
//! the entries of a log ([`command`]) and by nothing else. It has no clock: the leader counts ([`duty`]) and proposes. It knows
//! no network and no consensus either; whatever orders the log drives it through [`Replicated`]. Watches are each voter's own
//! ([`watch`]) and no part of the state.
//!
//! **Invariant: the same entries in the same order give the same state, bytes and outputs on every replica.** Every check of a
//! request (session, queue, version, list, bound) is made when its entry is applied, never when it is proposed.

pub mod acl;
pub mod claim;
pub mod command;
pub mod duty;
pub mod error;
pub mod machine;
pub mod op;
pub mod path;
pub mod queue;
pub mod raft;
pub mod replicated;
pub mod reply;
pub mod serve;
pub mod session;
pub mod snapshot;
pub mod stat;
pub mod token;
pub mod tree;
pub mod watch;

#[cfg(test)]
mod tests;

pub use error::CoordError;
pub use machine::Machine;
pub use path::NodePath;
pub use replicated::{Replicated, SnapshotError};
pub use session::SessionId;
pub use token::FencingToken;
